//! What a channel keeps: small records, each written only when it changed.
//!
//! In: marks that the state machine left in [`Dirty`]. Out: [`Change`]s, and a channel made from them again.
//! What the peer said but did not commit to is never kept (`Channel::unlink` forgets the same things).
//! Per payment and node: one HTLC record rewritten at each of its steps, its onion once, one snapshot, one
//! secret slot, the state once a step; afterwards 100 bytes of [`PastHtlc`] stay.
//! Read next: `record`.

use crate::channel::alias::Aliases;
use crate::channel::cause::Annals;
use crate::channel::commit::{Commits, SnapshotEntry};
use crate::channel::htlc::{Htlc, Step};
use crate::channel::keyring::KeyRing;
use crate::channel::ledger::{Balances, FeeUpdate, Ledger};
use crate::channel::past::{Past, PastHtlc};
use crate::channel::policy::Policy;
use crate::channel::terms::Terms;
use crate::channel::tower::Notes;
use crate::channel::{Channel, Confirmed, Link, Phase, Sent};
use crate::id::{ChannelId, HtlcId, Side};
use crate::node::view::Stats;
use crate::record::{channel_key, decode, decode_grown, htlc_key, numbered_key, put, BadRecord, Kind};
use crate::store::{Change, Entry};
use crate::tx::keys::ChannelSecrets;
use crate::tx::shachain::SecretStore;
use crate::units::{Feerate, Height, Msat};
use crate::wire::message::OnionPacket;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bitcoin::consensus::encode as consensus;
use bitcoin::{ScriptBuf, Transaction};
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

/// An onion as it stands on the wire.
const ONION_BYTES: usize = 1_366;

/// Marks of what changed since it was last kept.
#[derive(Clone, Debug, Default)]
pub struct Dirty {
    pub(crate) terms: bool,
    pub(crate) state: bool,
    pub(crate) signatures: bool,
    pub(crate) funding_tx: bool,
    pub(crate) watch: bool,
    pub(crate) annals: bool,
    pub(crate) announce: bool,
    pub(crate) aliases: bool,
    htlcs: BTreeSet<HtlcId>,
    onions: BTreeSet<HtlcId>,
    onions_gone: BTreeSet<HtlcId>,
    gone: Vec<PastHtlc>,
    pub(crate) secret_slots: Vec<u8>,
    pub(crate) snapshots: Vec<SnapshotEntry>,
    pub(crate) snapshots_gone: Vec<u64>,
    past: Past,
}

impl Dirty {
    /// Everything of a channel just made.
    pub(crate) fn new_channel() -> Dirty {
        Dirty {
            terms: true,
            state: true,
            signatures: true,
            funding_tx: true,
            watch: true,
            annals: true,
            announce: true,
            aliases: true,
            ..Dirty::default()
        }
    }

    pub(crate) fn htlc(&mut self, id: HtlcId) {
        self.htlcs.insert(id);
        self.state = true;
    }

    pub(crate) fn onion(&mut self, id: HtlcId) {
        self.onions.insert(id);
    }

    pub(crate) fn onion_gone(&mut self, id: HtlcId) {
        // One that was never kept need not be deleted.
        if !self.onions.remove(&id) {
            self.onions_gone.insert(id);
        }
    }

    pub(crate) fn gone(&mut self, htlc: &Htlc) {
        self.htlcs.remove(&htlc.id);
        if htlc.onion.is_some() {
            self.onion_gone(htlc.id);
        }
        self.gone.push(PastHtlc {
            id: htlc.id,
            amount: htlc.amount,
            payment_hash: htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
            span: htlc.span,
        });
        self.state = true;
    }
}

/// Everything of a channel that changes and is small.
#[derive(Serialize, Deserialize)]
struct State {
    phase: Phase,
    settled_local: Msat,
    settled_remote: Msat,
    feerate: Feerate,
    fees: Vec<FeeUpdate>,
    next_id: (u64, u64),
    local_number: u64,
    remote_number: u64,
    awaiting_revoke: bool,
    commit_was_last: bool,
    remote_point: PublicKey,
    remote_next_point: Option<PublicKey>,
    ready: (bool, bool),
    confirmed: Option<Confirmed>,
    close_to: Option<ScriptBuf>,
    log: Vec<(Sent, bool)>,
    doubt: bool,
    stats: [u64; 8],
    extremes: (Msat, Msat),
    policy: Policy,
}

#[derive(Serialize, Deserialize)]
struct Signatures {
    signature: Signature,
    htlc_signatures: Vec<Signature>,
}

fn stats_to_array(s: &Stats) -> [u64; 8] {
    [
        s.in_offered,
        s.in_offered_msat.0,
        s.in_fulfilled,
        s.in_fulfilled_msat.0,
        s.out_offered,
        s.out_offered_msat.0,
        s.out_fulfilled,
        s.out_fulfilled_msat.0,
    ]
}

fn stats_from_array(a: [u64; 8]) -> Stats {
    Stats {
        in_offered: a[0],
        in_offered_msat: Msat(a[1]),
        in_fulfilled: a[2],
        in_fulfilled_msat: Msat(a[3]),
        out_offered: a[4],
        out_offered_msat: Msat(a[5]),
        out_fulfilled: a[6],
        out_fulfilled_msat: Msat(a[7]),
    }
}

/// The packet, and behind it the path key that travels beside it, if there is one.
fn onion_bytes(onion: &OnionPacket, path_key: Option<&PublicKey>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ONION_BYTES + 33);
    bytes.push(onion.version);
    bytes.extend_from_slice(&onion.public_key);
    bytes.extend_from_slice(&onion.hop_payloads);
    bytes.extend_from_slice(&onion.hmac);
    bytes.extend(path_key.iter().flat_map(|key| PublicKey::serialize(key)));
    bytes
}

fn onion_from(bytes: &[u8]) -> Option<(Box<OnionPacket>, Option<PublicKey>)> {
    let path_key = match bytes.get(ONION_BYTES..)? {
        [] => None,
        key => Some(PublicKey::from_slice(key).ok()?),
    };
    let onion = Box::new(OnionPacket {
        version: *bytes.first()?,
        public_key: bytes.get(1..34)?.try_into().ok()?,
        hop_payloads: bytes.get(34..1334)?.try_into().ok()?,
        hmac: bytes.get(1334..ONION_BYTES)?.try_into().ok()?,
    });
    Some((onion, path_key))
}

impl Channel {
    /// Whether `save` would keep anything.
    pub fn is_dirty(&self) -> bool {
        let d = &self.dirty;
        d.terms
            || d.state
            || d.signatures
            || d.funding_tx
            || d.watch
            || d.annals
            || d.announce
            || d.aliases
            || !d.gone.is_empty()
            || !d.htlcs.is_empty()
            || self.notes.is_dirty()
    }

    /// Adds every changed record to `changes`.
    pub fn save(&mut self, changes: &mut Vec<Change>) {
        let mut dirty = core::mem::take(&mut self.dirty);
        self.write(&dirty, changes);
        self.notes.save(&self.terms.channel_id, changes);
        dirty.gone.iter().for_each(|htlc| dirty.past.push(htlc));
        self.dirty.past = dirty.past;
    }

    /// Every record that the store must hold of this channel now, in key order: what `save` has to add up to.
    pub fn records(&self) -> Vec<Entry> {
        let committed = |h: &&Htlc| !(h.id.offered_by == Side::Remote && h.step == Step::AddHtlc);
        let ids: BTreeSet<HtlcId> = self.ledger.htlcs.values().filter(committed).map(|h| h.id).collect();
        let dirty = Dirty {
            htlcs: ids.clone(),
            onions: ids,
            secret_slots: (0..=48).collect(),
            snapshots: self.commits.snapshots.clone(),
            ..Dirty::new_channel()
        };
        let mut changes = Vec::new();
        self.write(&dirty, &mut changes);
        let past = self.past().iter().map(|p| put(htlc_key(Kind::Past, &self.id(), p.id), &p));
        changes.extend(past);
        if self.retired {
            let at = self.over_at().unwrap_or(Height(0));
            changes.push(put(channel_key(Kind::ClosedChannel, &self.id()), &at));
        }
        let mut entries: Vec<Entry> = changes
            .into_iter()
            .filter_map(|change| match change {
                Change::Put { key, value } => Some((key, value)),
                Change::Delete { .. } => None,
            })
            .collect();
        entries.extend(self.notes.records(&self.id()));
        entries.sort();
        entries
    }

    fn write(&self, dirty: &Dirty, changes: &mut Vec<Change>) {
        let id = self.id();
        if dirty.terms {
            changes.push(put(channel_key(Kind::Terms, &id), &self.terms));
        }
        if dirty.state {
            changes.push(put(channel_key(Kind::State, &id), &self.state()));
        }
        if dirty.signatures {
            let signatures = Signatures {
                signature: self.commits.signature,
                htlc_signatures: self.commits.htlc_signatures.clone(),
            };
            changes.push(put(channel_key(Kind::Signatures, &id), &signatures));
        }
        if dirty.funding_tx {
            let key = channel_key(Kind::FundingTx, &id);
            changes.push(match &self.funding_tx {
                Some(tx) => put(key, &consensus::serialize(tx)),
                None => Change::Delete { key },
            });
        }
        if dirty.watch {
            let key = channel_key(Kind::Watch, &id);
            changes.push(match &self.watch {
                Some(watch) => put(key, watch),
                None => Change::Delete { key },
            });
        }
        if dirty.annals && self.annals != Annals::default() {
            changes.push(put(channel_key(Kind::Annals, &id), &self.annals));
        }
        if dirty.announce && self.announce.is_kept() {
            changes.push(put(channel_key(Kind::Announce, &id), &self.announce));
        }
        if dirty.aliases && self.aliases != Aliases::default() {
            changes.push(put(channel_key(Kind::Aliases, &id), &self.aliases));
        }
        for slot in &dirty.secret_slots {
            if let Some((index, secret)) = self.commits.remote_secrets.slot(*slot) {
                changes.push(put(numbered_key(Kind::Secret, &id, u64::from(*slot)), &(index, *secret)));
            }
        }
        for entry in &dirty.snapshots {
            changes.push(put(numbered_key(Kind::Snapshot, &id, entry.number), entry));
        }
        for number in &dirty.snapshots_gone {
            changes.push(Change::Delete { key: numbered_key(Kind::Snapshot, &id, *number) });
        }
        self.save_htlcs(dirty, changes);
    }

    fn save_htlcs(&self, dirty: &Dirty, changes: &mut Vec<Change>) {
        let channel = self.id();
        for id in &dirty.htlcs {
            let Some(htlc) = self.ledger.htlcs.get(id) else { continue };
            let mut kept = htlc.clone();
            // A removal the peer has not committed to would be forgotten with the link: it is not kept.
            if id.offered_by == Side::Local && kept.step == Step::RemoveHtlc {
                kept.step = Step::AddAckRevocation;
                kept.removal = None;
            }
            changes.push(put(htlc_key(Kind::Htlc, &channel, *id), &kept));
        }
        for id in &dirty.onions {
            let Some(htlc) = self.ledger.htlcs.get(id) else { continue };
            if let Some(onion) = &htlc.onion {
                let bytes = onion_bytes(onion, htlc.path_key.as_ref());
                changes.push(put(htlc_key(Kind::Onion, &channel, *id), &bytes));
            }
        }
        for id in &dirty.onions_gone {
            changes.push(Change::Delete { key: htlc_key(Kind::Onion, &channel, *id) });
        }
        for past in &dirty.gone {
            changes.push(Change::Delete { key: htlc_key(Kind::Htlc, &channel, past.id) });
            changes.push(put(htlc_key(Kind::Past, &channel, past.id), past));
        }
    }

    fn state(&self) -> State {
        let remote_opened = self.terms.opener == Side::Remote;
        let uncommitted = self
            .ledger
            .htlcs
            .values()
            .filter(|h| h.id.offered_by == Side::Remote && h.step == Step::AddHtlc)
            .count() as u64;
        State {
            phase: self.phase.clone(),
            settled_local: self.ledger.settled.local,
            settled_remote: self.ledger.settled.remote,
            feerate: self.ledger.feerate,
            fees: self
                .ledger
                .fees
                .iter()
                .copied()
                .filter(|f| !(remote_opened && f.step == Step::AddHtlc))
                .collect(),
            next_id: (self.ledger.next_id.0, self.ledger.next_id.1.saturating_sub(uncommitted)),
            local_number: self.commits.local_number,
            remote_number: self.commits.remote_number,
            awaiting_revoke: self.commits.awaiting_revoke,
            commit_was_last: self.commits.commit_was_last,
            remote_point: self.commits.remote_point,
            remote_next_point: self.commits.remote_next_point,
            ready: self.ready,
            confirmed: self.confirmed,
            close_to: self.close_to.clone(),
            log: self.log.clone(),
            doubt: self.doubt,
            stats: stats_to_array(&self.stats),
            extremes: self.extremes,
            policy: self.policy,
        }
    }

    /// Up to `most` HTLCs of the past, oldest first, which are then forgotten.
    pub(crate) fn take_past(&mut self, most: usize) -> Vec<PastHtlc> {
        self.dirty.past.take(most)
    }

    /// The HTLCs of the past, oldest first.
    pub const fn past(&self) -> &Past {
        &self.dirty.past
    }

    /// The snapshots that were signed, oldest first.
    pub fn snapshots(&self) -> &[SnapshotEntry] {
        &self.commits.snapshots
    }

    /// The keys of every record this channel may have, to be deleted when it is done with.
    pub fn all_keys(&self) -> Vec<Vec<u8>> {
        let id = self.id();
        let mut keys: Vec<Vec<u8>> = [
            Kind::Terms,
            Kind::State,
            Kind::Signatures,
            Kind::FundingTx,
            Kind::Watch,
            Kind::Annals,
            Kind::Announce,
            Kind::Aliases,
        ]
        .into_iter()
        .map(|k| channel_key(k, &id))
        .collect();
        keys.extend((0..49u64).map(|slot| numbered_key(Kind::Secret, &id, slot)));
        keys.extend(self.commits.snapshots.iter().map(|s| numbered_key(Kind::Snapshot, &id, s.number)));
        keys.extend(self.past().iter().map(|p| htlc_key(Kind::Past, &id, p.id)));
        for htlc in self.ledger.htlcs.keys() {
            keys.push(htlc_key(Kind::Htlc, &id, *htlc));
            keys.push(htlc_key(Kind::Onion, &id, *htlc));
        }
        keys.extend(self.notes.records(&id).into_iter().map(|(key, _)| key));
        keys
    }
}

/// The records of one channel, gathered while loading.
#[derive(Default)]
pub struct Loaded {
    terms: Option<Vec<u8>>,
    state: Option<Vec<u8>>,
    signatures: Option<Vec<u8>>,
    funding_tx: Option<Vec<u8>>,
    watch: Option<Vec<u8>>,
    retired: bool,
    annals: Option<Vec<u8>>,
    announce: Option<Vec<u8>>,
    aliases: Option<Vec<u8>>,
    htlcs: Vec<Htlc>,
    onions: BTreeMap<HtlcId, Vec<u8>>,
    past: Past,
    secrets: Vec<(u8, u64, [u8; 32])>,
    snapshots: Vec<SnapshotEntry>,
    notes: Notes,
}

impl Loaded {
    /// Takes one record in.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn add(&mut self, kind: Kind, key: &[u8], value: Vec<u8>) -> Result<(), BadRecord> {
        match kind {
            Kind::Terms => self.terms = Some(value),
            Kind::State => self.state = Some(value),
            Kind::Signatures => self.signatures = Some(value),
            Kind::FundingTx => self.funding_tx = Some(value),
            Kind::Watch => self.watch = Some(value),
            Kind::ClosedChannel => self.retired = true,
            Kind::Annals => self.annals = Some(value),
            Kind::Announce => self.announce = Some(value),
            Kind::Aliases => self.aliases = Some(value),
            Kind::Htlc => self.htlcs.push(decode(&value)?),
            Kind::Past => self.past.push(&decode(&value)?),
            Kind::Snapshot => self.snapshots.push(decode(&value)?),
            Kind::TowerMark | Kind::TowerNote => self.notes.add(kind, key, &value)?,
            Kind::Onion => {
                let id = crate::record::htlc_of(key).ok_or(BadRecord::Damaged)?;
                self.onions.insert(id, decode(&value)?);
            }
            Kind::Secret => {
                let slot = crate::record::number_of(key).and_then(|n| u8::try_from(n).ok());
                let (index, secret) = decode(&value)?;
                self.secrets.push((slot.ok_or(BadRecord::Damaged)?, index, secret));
            }
            _ => return Err(BadRecord::UnknownKind),
        }
        Ok(())
    }

    /// Puts the channel together and checks its records against each other.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub fn finish(
        self,
        id: ChannelId,
        secrets: impl FnOnce(&Terms) -> ChannelSecrets,
    ) -> Result<Channel, BadRecord> {
        let missing = BadRecord::Inconsistent("a channel lacks its terms, state or signatures");
        // Of before there was option_scid_alias: not of that type.
        let terms: Terms = decode_grown(&self.terms.ok_or(missing)?, &false)?;
        let state: State = decode_grown(&self.state.ok_or(missing)?, &Policy::NO_LIMITS)?;
        let signatures: Signatures = decode(&self.signatures.ok_or(missing)?)?;
        if terms.channel_id != id {
            return Err(BadRecord::Inconsistent("a channel is filed under another id"));
        }
        let mut remote_secrets = SecretStore::new();
        for (slot, index, secret) in &self.secrets {
            remote_secrets.set_slot(*slot, *index, secret).map_err(|_| BadRecord::Damaged)?;
        }
        remote_secrets
            .check()
            .map_err(|_| BadRecord::Inconsistent("the peer's secrets contradict each other"))?;
        if !self.retired && remote_secrets.count() != state.remote_number {
            return Err(BadRecord::Inconsistent("the peer's secrets do not reach its revoked commitments"));
        }
        if self.snapshots.last().map_or(0, |s| s.number) != state.local_number {
            return Err(BadRecord::Inconsistent("the newest snapshot is not the newest commitment"));
        }
        let funding_tx: Option<Transaction> = match self.funding_tx {
            None => None,
            Some(bytes) => {
                let raw: Vec<u8> = decode(&bytes)?;
                Some(consensus::deserialize(&raw).map_err(|_| BadRecord::Damaged)?)
            }
        };
        let mut htlcs: BTreeMap<HtlcId, Htlc> = self.htlcs.into_iter().map(|h| (h.id, h)).collect();
        for (id, bytes) in self.onions {
            if let Some(htlc) = htlcs.get_mut(&id) {
                let (onion, path_key) = onion_from(&bytes).ok_or(BadRecord::Damaged)?;
                (htlc.onion, htlc.path_key) = (Some(onion), path_key);
            }
        }
        let channel = Channel {
            ledger: Ledger {
                settled: Balances { local: state.settled_local, remote: state.settled_remote },
                feerate: state.feerate,
                fees: state.fees,
                htlcs,
                next_id: state.next_id,
            },
            commits: Commits {
                local_number: state.local_number,
                remote_number: state.remote_number,
                awaiting_revoke: state.awaiting_revoke,
                commit_was_last: state.commit_was_last,
                remote_point: state.remote_point,
                remote_next_point: state.remote_next_point,
                signature: signatures.signature,
                htlc_signatures: signatures.htlc_signatures,
                remote_secrets,
                snapshots: self.snapshots,
            },
            link: Link::Down,
            phase: state.phase,
            ready: state.ready,
            confirmed: state.confirmed,
            funding_tx,
            close_to: state.close_to,
            log: state.log,
            annals: self.annals.map(|bytes| Annals::from_record(&bytes)).transpose()?.unwrap_or_default(),
            watch: self.watch.map(|bytes| decode(&bytes)).transpose()?,
            retired: self.retired,
            doubt: state.doubt,
            stats: stats_from_array(state.stats),
            extremes: state.extremes,
            policy: state.policy,
            announce: self.announce.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default(),
            aliases: self.aliases.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default(),
            secrets: secrets(&terms),
            keyring: KeyRing::default(),
            notes: self.notes,
            dirty: Dirty { past: self.past, ..Dirty::default() },
            terms,
        };
        channel.check_sums()?;
        Ok(channel)
    }
}

impl Channel {
    /// Balances and HTLCs of both sides' views add up to the capacity.
    fn check_sums(&self) -> Result<(), BadRecord> {
        use crate::channel::ledger::View;
        let settled = self.ledger.settled.local.checked_add(self.ledger.settled.remote);
        if settled != Some(self.terms.capacity.to_msat()) {
            return Err(BadRecord::Inconsistent("a channel's balances are not its capacity"));
        }
        for view in [View::Signed(Side::Local), View::Signed(Side::Remote)] {
            if self.ledger.balances(view).is_none() {
                return Err(BadRecord::Inconsistent("a channel's balance is negative"));
            }
        }
        Ok(())
    }
}
