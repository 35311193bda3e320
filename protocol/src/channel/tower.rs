//! What a channel notes for watchtowers: of each commitment of the peer's its txid and HTLCs, which nothing else tells later.
//!
//! In: commitments as they are signed, what every tower has. Out: revoked states to be sealed (`crate::tower`), oldest first.
//! A note is a record of the batch that signs, made only with a tower configured, and goes when every tower has the state.
//! Sealing is done elsewhere, when there is time: nothing here derives a key. Read next: `crate::tower`.

use crate::channel::ledger::View;
use crate::channel::{Channel, Context};
use crate::fault::LocalFault;
use crate::id::{ChannelId, HtlcId, Side};
use crate::record::{channel_key, decode, number_of, numbered_key, put, BadRecord, Kind};
use crate::store::{Change, Entry};
use crate::tower::seal::Seed;
use crate::tower::{runs, ChannelTerms, HtlcNote, Noted, Revoked, Sealing};
use crate::tx::commitment::{Commitment, OutputKind};
use crate::units::Sat;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bitcoin::ScriptBuf;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// States that wait for towers, at most; beyond, the oldest go. About 100 bytes each.
const MAX_NOTED: usize = 200_000;

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
}

/// How a channel stands with towers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Towered {
    /// The oldest state that is still here.
    pub first: u64,
    /// The first state that is not revoked.
    pub end: u64,
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
        }
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
        let first = self.notes.noted.keys().next().copied().unwrap_or(end).max(mark.kept).min(end);
        Some(Towered { first, end, over: self.retired })
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

    /// Revoked states from `from` on. `whole`: the tower has none of the HTLCs that the first of them holds.
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
            first.noted.fresh = self.notes_of(first.noted.held.iter().flat_map(|run| run.ids(usize::MAX)));
        }
        states
    }

    fn notes_of(&self, ids: impl Iterator<Item = HtlcId>) -> Vec<HtlcNote> {
        let (mut found, mut wanted) = (Vec::new(), BTreeSet::new());
        for id in ids {
            match self.ledger.htlcs.get(&id) {
                Some(h) => {
                    found.push(HtlcNote { id, payment_hash: h.payment_hash, cltv_expiry: h.cltv_expiry })
                }
                None => {
                    wanted.insert(id);
                }
            }
        }
        if !wanted.is_empty() {
            let past = self.past().iter().filter(|p| wanted.contains(&p.id));
            found.extend(past.map(|p| HtlcNote {
                id: p.id,
                payment_hash: p.payment_hash,
                cltv_expiry: p.cltv_expiry,
            }));
        }
        found
    }

    /// Every tower has all states below `below`; `None`: every tower has forgotten the channel.
    pub(crate) fn towers_have(&mut self, below: Option<u64>) {
        let notes = &mut self.notes;
        let kept = below.unwrap_or(u64::MAX);
        let Some(mark) = notes.mark.as_mut().filter(|m| m.kept < kept) else { return };
        mark.kept = kept;
        let rest = notes.noted.split_off(&kept);
        let gone = core::mem::replace(&mut notes.noted, rest);
        notes.changed.extend(gone.into_keys());
        notes.marked = true;
        if below.is_none() {
            notes.mark = None;
        }
    }
}
