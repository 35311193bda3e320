//! What a channel notes for watchtowers: of each commitment of the peer's its txid and HTLCs, which nothing else tells later.
//!
//! In: commitments as they are signed, what every tower has. Out: revoked states to be sealed (`crate::tower`), oldest first.
//! A note is a record of the batch that signs, made only with a tower configured, and goes when every tower has the state and
//! the newest few hundred behind it, which are there for a tower that lost some. No tower is waited for without a bound.
//! Sealing is done elsewhere, when there is time: nothing here derives a key. Read next: `crate::tower`.

use crate::channel::ledger::View;
use crate::channel::past::PastHtlc;
use crate::channel::{Channel, Context, Out};
use crate::fault::LocalFault;
use crate::id::{ChannelId, Side};
use crate::node::effect::Level;
use crate::record::{channel_key, decode, number_of, numbered_key, put, BadRecord, Kind};
use crate::store::{Change, Entry};
use crate::tower::seal::Seed;
use crate::tower::{runs, ChannelTerms, HtlcNote, Noted, Revoked, Sealing};
use crate::tx::commitment::{Commitment, OutputKind};
use crate::units::Sat;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::ScriptBuf;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// States that wait for towers, at most; beyond, the oldest go. About 100 bytes each.
const MAX_NOTED: usize = 200_000;
/// The newest states stay although every tower has them, or none is configured: a tower may have to be told again.
pub const KEPT_ANYWAY: u64 = 400;
/// How long, in blocks, a finished channel waits for all towers to be told that it is over.
const FORGET_BLOCKS: u32 = 2_016;
/// Notes deleted at one block at most: a batch stays small.
const PORTION: usize = 5_000;

/// The channel is, or was, watched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Mark {
    /// Where penalties go, for all of the channel's states.
    sweep: ScriptBuf,
    /// Every tower has what is below.
    kept: u64,
}

/// A channel's notes.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    mark: Option<Mark>,
    noted: BTreeMap<u64, Noted>,
    /// Not yet saved: the mark, and notes by number, there or gone.
    marked: bool,
    changed: BTreeSet<u64>,
    /// Gone since the last block although a tower lacks them.
    dropped: u64,
}

/// How a channel stands with towers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Towered {
    /// The oldest state that is still here.
    pub first: u64,
    /// The first state that is not revoked.
    pub end: u64,
    /// Every tower has what is below.
    pub kept: u64,
    /// The channel is over: towers may forget it.
    pub over: bool,
}

impl Notes {
    /// Takes a record in.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub(crate) fn add(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), BadRecord> {
        if kind == Kind::TowerMark {
            self.mark = Some(decode(value)?);
            return Ok(());
        }
        let noted: Noted = decode(value)?;
        if number_of(key) != Some(noted.number) {
            return Err(BadRecord::Inconsistent("a note for towers is filed under another number"));
        }
        self.noted.insert(noted.number, noted);
        Ok(())
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.marked || !self.changed.is_empty()
    }

    /// Adds every changed record to `changes`.
    pub(crate) fn save(&mut self, id: &ChannelId, changes: &mut Vec<Change>) {
        if core::mem::take(&mut self.marked) {
            let key = channel_key(Kind::TowerMark, id);
            changes.push(match &self.mark {
                Some(mark) => put(key, mark),
                None => Change::Delete { key },
            });
        }
        for number in core::mem::take(&mut self.changed) {
            let key = numbered_key(Kind::TowerNote, id, number);
            changes.push(match self.noted.get(&number) {
                Some(noted) => put(key, noted),
                None => Change::Delete { key },
            });
        }
    }

    /// Every record that the store must hold.
    pub(crate) fn records(&self, id: &ChannelId) -> Vec<Entry> {
        let (mut all, mut changes) = (self.clone(), Vec::new());
        (all.marked, all.changed) = (self.mark.is_some(), self.noted.keys().copied().collect());
        all.save(id, &mut changes);
        let put = |change| match change {
            Change::Put { key, value } => Some((key, value)),
            Change::Delete { .. } => None,
        };
        changes.into_iter().filter_map(put).collect()
    }

    fn keep(&mut self, noted: Noted) {
        self.changed.insert(noted.number);
        self.noted.insert(noted.number, noted);
        while self.noted.len() > MAX_NOTED {
            let Some((oldest, _)) = self.noted.pop_first() else { break };
            self.changed.insert(oldest);
            let lacked = self.mark.as_ref().is_none_or(|mark| mark.kept <= oldest);
            self.dropped += u64::from(lacked);
        }
    }

    /// Deletes the oldest until `left` are left, a portion of them at most; how many no tower has.
    fn trim(&mut self, left: u64) -> u64 {
        let kept = self.mark.as_ref().map_or(0, |mark| mark.kept);
        let mut lacked = 0;
        for _ in 0..PORTION {
            if self.noted.len() as u64 <= left {
                break;
            }
            let Some((oldest, _)) = self.noted.pop_first() else { break };
            self.changed.insert(oldest);
            lacked += u64::from(oldest >= kept);
        }
        lacked
    }
}

impl Channel {
    /// Notes the peer's next commitment, which is about to leave signed; the first time the one before it, too.
    ///
    /// # Errors
    /// A fault of ours (keys, a ledger that does not add up).
    pub(crate) fn note_for_towers(&mut self, next: &Commitment, cx: &Context<'_>) -> Result<(), LocalFault> {
        if !cx.tower {
            return Ok(());
        }
        let number = self.commits.remote_number;
        if !self.notes.noted.contains_key(&number) {
            let spec = self.spec(View::Signed(Side::Remote))?;
            let point = self.commits.remote_point;
            let newest = self.build_commitment(Side::Remote, number, &point, &spec, cx)?;
            let noted = self.note(&newest, |_| true);
            self.notes.keep(noted);
        }
        if self.notes.mark.is_none() {
            self.notes.mark = Some(Mark { sweep: cx.close_script.clone(), kept: number });
            self.notes.marked = true;
        }
        let noted = self.note(next, |htlc| htlc.span.remote_first.is_none());
        self.notes.keep(noted);
        Ok(())
    }

    fn note(&self, commitment: &Commitment, is_fresh: impl Fn(&super::htlc::Htlc) -> bool) -> Noted {
        let mut held = Vec::new();
        let mut to_local = None;
        for (vout, (kind, output)) in (0..).zip(commitment.outputs.iter().zip(&commitment.tx.output)) {
            match kind {
                OutputKind::Htlc(id) => held.push(*id),
                OutputKind::ToLocal => to_local = Some((vout, Sat(output.value.to_sat()))),
                _ => {}
            }
        }
        // A trimmed one may have an output later, when the feerate has fallen.
        let all = held.iter().chain(&commitment.trimmed).filter_map(|id| self.ledger.htlcs.get(id));
        let fresh = all.filter(|h| is_fresh(h)).map(|h| HtlcNote {
            id: h.id,
            payment_hash: h.payment_hash,
            cltv_expiry: h.cltv_expiry,
        });
        let fresh = fresh.collect();
        let txid = commitment.tx.compute_txid();
        Noted { number: commitment.number, txid, to_local, held: runs(held), fresh }
    }

    /// How it stands with towers; `None` when it was never watched, or every tower was told to forget it.
    pub(crate) fn towered(&self) -> Option<Towered> {
        let mark = self.notes.mark.as_ref()?;
        let end = self.commits.remote_number;
        let first = self.notes.noted.keys().next().copied().unwrap_or(end).min(end);
        Some(Towered { first, end, kept: mark.kept, over: self.retired })
    }

    /// What seals its states.
    pub(crate) fn tower_sealing(&self) -> Option<Sealing> {
        let sweep = self.notes.mark.as_ref()?.sweep.clone();
        let (theirs, ours) = (&self.terms.remote.basepoints, &self.terms.local.basepoints);
        Some(Sealing {
            seed: Seed::of(&self.secrets.shachain_seed),
            revocation: Zeroizing::new(self.secrets.revocation.secret_bytes()),
            terms: ChannelTerms {
                channel_type: self.terms.channel_type,
                delay_blocks: self.delay_of(Side::Remote),
                delayed_basepoint: theirs.delayed_payment_basepoint,
                owner_htlc_basepoint: theirs.htlc_basepoint,
                other_htlc_basepoint: ours.htlc_basepoint,
                payment_basepoint: ours.payment_basepoint,
                sweep,
            },
        })
    }

    /// Revoked states from `from` on. `whole`: the tower has none of the HTLCs that the first of them holds, trimmed ones too,
    /// which may have an output in a later state.
    pub(crate) fn tower_states(&self, from: u64, most: usize, whole: bool) -> Vec<Revoked> {
        let end = self.commits.remote_number;
        let noted = self.notes.noted.range(from.min(end)..end).take(most);
        let mut states: Vec<Revoked> = noted
            .filter_map(|(number, noted)| {
                let secret = Zeroizing::new(self.their_secret(*number)?.secret_bytes());
                Some(Revoked { noted: noted.clone(), secret })
            })
            .collect();
        if let Some(first) = states.first_mut().filter(|_| whole) {
            first.noted.fresh = self.held_by(first.noted.number);
        }
        states
    }

    /// Every HTLC of the peer's commitment `number`, with an output or trimmed.
    fn held_by(&self, number: u64) -> Vec<HtlcNote> {
        let now = self.ledger.htlcs.values().filter(|h| h.span.holds(Side::Remote, number));
        let now = now.map(|h| (h.id, h.payment_hash, h.cltv_expiry));
        let past: Vec<PastHtlc> = self.past().iter().filter(|p| p.span.holds(Side::Remote, number)).collect();
        let past = past.into_iter().map(|p| (p.id, p.payment_hash, p.cltv_expiry));
        let note = |(id, payment_hash, cltv_expiry)| HtlcNote { id, payment_hash, cltv_expiry };
        now.chain(past).map(note).collect()
    }

    /// Every tower has all states below `below`; `None`: every tower has forgotten the channel.
    pub(crate) fn towers_have(&mut self, below: Option<u64>) {
        let Some(below) = below else { return self.forget_towers() };
        // Whatever a tower says: what is not revoked yet no tower has, and its notes are needed.
        let kept = below.min(self.commits.remote_number);
        let notes = &mut self.notes;
        let Some(mark) = notes.mark.as_mut().filter(|m| m.kept < kept) else { return };
        mark.kept = kept;
        notes.marked = true;
        let rest = notes.noted.split_off(&kept.saturating_sub(KEPT_ANYWAY));
        let gone = core::mem::replace(&mut notes.noted, rest);
        notes.changed.extend(gone.into_keys());
    }

    fn forget_towers(&mut self) {
        let notes = &mut self.notes;
        notes.marked |= notes.mark.take().is_some();
        let gone = core::mem::take(&mut notes.noted);
        notes.changed.extend(gone.into_keys());
    }

    /// Whether `age_tower_notes` has something to do.
    pub(crate) fn ages_tower_notes(&self, tower: bool) -> bool {
        let many = self.notes.noted.len() as u64 > if self.retired { 0 } else { KEPT_ANYWAY };
        self.notes.dropped > 0 || (self.retired && self.notes.mark.is_some()) || (!tower && many)
    }

    /// What waits for towers that are away, or not named any more, is bounded. Call it at every block.
    pub(crate) fn age_tower_notes(&mut self, cx: &Context<'_>, out: &mut Out) {
        let mut dropped = core::mem::take(&mut self.notes.dropped);
        if self.retired {
            // Nobody can cheat with them any more.
            self.notes.trim(0);
            let long = self.over_at().is_some_and(|at| cx.tip.since(at) > FORGET_BLOCKS);
            if long && self.notes.noted.is_empty() && self.notes.mark.is_some() {
                self.forget_towers();
                let text =
                    "the channel is long over: towers that were not told so are not waited for any more";
                out.notice(Level::Info, String::from(text));
            }
        } else if !cx.tower {
            dropped += self.notes.trim(KEPT_ANYWAY);
        }
        if dropped > 0 {
            let why = if cx.tower { "a watchtower is away for too long" } else { "no --watchtower is named" };
            let text = format!("{dropped} revoked states that no watchtower has are dropped: {why}");
            out.notice(Level::Warn, text);
        }
    }
}
