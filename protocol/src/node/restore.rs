//! A node from its records.
//!
//! In: every entry of the store, in key order. Out: the node as it was after its last durable batch, or the record
//! that cannot be understood. Nothing is guessed: a damaged record stops the start, so that no old state is used.
//! Read next: `dormant` (before it starts), `crate::record`, `crate::channel::save`.

use crate::channel::save::Loaded;
use crate::channel::{ChannelEvent, Phase};
use crate::entropy::Entropy;
use crate::id::{ChannelId, NodeId, Side};
use crate::keys::NodeKeys;
use crate::node::announce::Introduced;
use crate::node::budget::Accounts;
use crate::node::dormant::Dormant;
use crate::node::drain::Draining;
use crate::node::effect::{Effect, Fees, Level};
use crate::node::forwards::{Forward, Forwards};
use crate::node::invoices::{Invoice, Invoices};
use crate::node::lost::{Backed, Recovered};
use crate::node::payments::{Payment, Payments};
use crate::node::peers::Peer;
use crate::node::runes::Runes;
use crate::node::state::Counters;
use crate::node::storage::Storage;
use crate::node::waits::Waits;
use crate::node::{Chain, Node, NodeConfig, Outbox};
use crate::record::{
    block_key, channel_key, channel_of, decode, decode_grown, invoice_key, number_of, peer_key, put,
    BadRecord, Kind,
};
use crate::sign::Crypto;
use crate::store::{Change, Entry};
use crate::units::{Feerate, Height, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitcoin::{BlockHash, Txid};

/// A record stands in the way of a start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {key}: {why}")]
pub struct RestoreError {
    /// Its key, in hex.
    pub key: String,
    /// What is wrong.
    pub why: BadRecord,
}

/// Everything found, before it is put together.
#[derive(Default)]
struct Found {
    counters: Counters,
    blocks: VecDeque<(Height, BlockHash)>,
    peers: BTreeMap<NodeId, Peer>,
    channels: BTreeMap<ChannelId, Loaded>,
    invoices: Invoices,
    payments: Payments,
    forwards: Forwards,
    introduced: Option<Introduced>,
    runes: Runes,
    accounts: Accounts,
    recovered: Option<Recovered>,
    storage: Storage,
    wallet: Vec<Vec<u8>>,
    wallet_kept: Vec<u64>,
    reserved: Vec<(ChannelId, Txid)>,
}

impl Found {
    fn add(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), BadRecord> {
        let kind = Kind::of(key).ok_or(BadRecord::UnknownKind)?;
        match kind {
            Kind::Counters => self.counters = Counters::from_record(&value)?,
            Kind::Block => {
                let height = key.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
                self.blocks.push_back((Height(height.ok_or(BadRecord::Damaged)?), decode(&value)?));
            }
            Kind::Peer => {
                let id = key.get(1..34).and_then(|b| secp256k1::PublicKey::from_slice(b).ok());
                let address: String = decode(&value)?;
                self.peers.insert(NodeId(id.ok_or(BadRecord::Damaged)?), Peer::restored(address));
            }
            Kind::Invoice => {
                self.invoices.insert(Invoice::from_record(&value)?);
            }
            Kind::Payment => {
                let payment = Payment::from_record(&value)?;
                self.payments.restore(payment);
            }
            Kind::Forward => {
                // Of before changes were counted: none.
                let forward: Forward = decode_grown(&value, &0u64)?;
                self.forwards.restore(forward);
            }
            Kind::PeerBlob => {
                let id = key.get(1..34).and_then(|b| secp256k1::PublicKey::from_slice(b).ok());
                self.storage.restore(NodeId(id.ok_or(BadRecord::Damaged)?), decode(&value)?);
            }
            Kind::Recovered => self.recovered = Some(decode(&value)?),
            Kind::NodeAnnounced => self.introduced = Some(decode(&value)?),
            Kind::Runes => self.runes.restore_head(decode(&value)?),
            Kind::Rune => {
                let id = number_of(key).ok_or(BadRecord::Damaged)?;
                self.runes.restore(id, decode(&value)?);
            }
            Kind::Account => {
                let name = key.get(1..).and_then(|b| b.try_into().ok()).ok_or(BadRecord::Damaged)?;
                self.accounts.restore(name, decode(&value)?);
            }
            Kind::Wallet => {
                self.wallet_kept.push(number_of(key).ok_or(BadRecord::Damaged)?);
                self.wallet.push(decode(&value)?);
            }
            Kind::Reserved => {
                self.reserved.push((channel_of(key).ok_or(BadRecord::Damaged)?, decode(&value)?));
            }
            Kind::Terms
            | Kind::State
            | Kind::Signatures
            | Kind::FundingTx
            | Kind::Watch
            | Kind::ClosedChannel
            | Kind::Annals
            | Kind::Htlc
            | Kind::Onion
            | Kind::Past
            | Kind::Secret
            | Kind::TowerMark
            | Kind::TowerNote
            | Kind::Announce
            | Kind::Aliases
            | Kind::Snapshot => {
                let id = channel_of(key).ok_or(BadRecord::Damaged)?;
                self.channels.entry(id).or_default().add(kind, key, value)?;
            }
        }
        Ok(())
    }
}

impl Dormant {
    /// The node that wrote these entries, or a new one from none; it does nothing yet.
    ///
    /// # Errors
    /// [`RestoreError`] names the first record that cannot be understood, or does not fit the others.
    pub fn restore(
        config: NodeConfig,
        keys: NodeKeys,
        entropy: Entropy,
        crypto: Arc<dyn Crypto>,
        entries: Vec<Entry>,
    ) -> Result<Dormant, RestoreError> {
        let mut found = Found::default();
        for (key, value) in entries {
            found.add(&key, value).map_err(|why| RestoreError { key: crate::id::to_hex(&key), why })?;
        }
        found.accounts.hold(&found.payments);
        let mut channels = BTreeMap::new();
        for (id, loaded) in found.channels {
            let channel =
                loaded.finish(id, |terms| keys.channel_secrets(terms.key_index)).map_err(|why| {
                    RestoreError { key: crate::id::to_hex(&channel_key(Kind::Terms, &id)), why }
                })?;
            channels.insert(id, channel);
        }
        let id = keys.node_id(crypto.secp());
        let funding = channels.values().map(|c| (c.terms.funding, c.id())).collect();
        let watched = channels.values().flat_map(crate::channel::Channel::watched).collect();
        let floor = Feerate::FLOOR;
        let node = Node {
            config,
            keys,
            id,
            entropy,
            crypto,
            seq: 0,
            now: Timestamp(0),
            ahead_ms: 0,
            chain: Chain {
                tip: found.blocks.back().copied(),
                recent: found.blocks,
                tip_time_s: 0,
                reachable: true,
                synced: false,
                synced_at: Timestamp(0),
                at_tip: false,
                fees: Fees { normal: floor, urgent: floor, minimum: floor },
            },
            counters: found.counters,
            peers: found.peers,
            openings: BTreeMap::new(),
            stale_fundings: VecDeque::new(),
            channels,
            funding,
            watched,
            invoices: found.invoices,
            payments: found.payments,
            forwards: found.forwards,
            waits: Waits::default(),
            runes: found.runes,
            accounts: found.accounts,
            draining: Draining::default(),
            introduced: found.introduced,
            introduced_now: false,
            closers: BTreeMap::new(),
            publishing: BTreeMap::new(),
            taken: BTreeSet::new(),
            parked: Vec::new(),
            delayed: Vec::new(),
            touched: BTreeSet::new(),
            unprepared: BTreeSet::new(),
            events: VecDeque::new(),
            out: Outbox::default(),
            recovered: found.recovered,
            backed: Backed::default(),
            storage: found.storage,
            wallet_changes: found.wallet,
            wallet_kept: found.wallet_kept,
        };
        Ok(Dormant { node, reserved: found.reserved })
    }
}

impl Node {
    /// Makes the node that wrote these entries, or a new one from none, and starts it.
    ///
    /// # Errors
    /// [`RestoreError`] names the first record that cannot be understood, or does not fit the others.
    pub fn restore(
        config: NodeConfig,
        keys: NodeKeys,
        entropy: Entropy,
        crypto: Arc<dyn Crypto>,
        entries: Vec<Entry>,
    ) -> Result<Node, RestoreError> {
        Dormant::restore(config, keys, entropy, crypto, entries).map(Dormant::wake)
    }

    /// Every record that the store must hold of this node now, in key order: what the batches so far add up to, and
    /// what `restore` would make this node of. Without the wallet's records, reserved coins and forgotten peers.
    pub fn records(&self) -> Vec<Entry> {
        let mut changes = Vec::new();
        if self.counters != Counters::default() {
            changes.push(self.counters.record());
        }
        changes.extend(self.chain.recent.iter().map(|(height, hash)| put(block_key(*height), hash)));
        changes.extend(self.invoices.by_hash.values().map(|i| put(invoice_key(&i.hash), i)));
        changes.extend(self.payments.records());
        changes.extend(self.forwards.records());
        changes.extend(self.runes.records());
        changes.extend(self.accounts.records());
        changes.extend(self.storage.records());
        changes.extend(self.recovered.map(|recovered| recovered.record()));
        changes.extend(self.introduced.map(|introduced| introduced.record()));
        let kept = self.peers.iter().filter_map(|(id, p)| Some((id, p.kept_address()?)));
        changes.extend(kept.map(|(id, address)| put(peer_key(id), address)));
        let puts = changes.into_iter().filter_map(|change| match change {
            Change::Put { key, value } => Some((key, value)),
            Change::Delete { .. } => None,
        });
        let mut entries: Vec<Entry> = puts.collect();
        entries.extend(self.channels.values().flat_map(|c| c.records()));
        entries.sort();
        entries
    }

    /// What a start has to take up again; it goes out with the first step.
    pub(super) fn resume(&mut self, reserved: &[(ChannelId, Txid)]) {
        // Coins set aside for channels that never came to be are free again.
        for (temporary, txid) in reserved {
            let used = self.channels.values().any(|c| c.terms.funding.txid == *txid);
            if !used {
                self.out.effects.push(Effect::Unreserve { txid: *txid });
            }
            self.keep(Change::Delete { key: channel_key(Kind::Reserved, temporary) });
        }
        // HTLCs that were locked in but not yet settled are looked at again.
        for channel in self.channels.values() {
            let waiting = channel.ledger.htlcs.values();
            let waiting = waiting.filter(|h| h.id.offered_by == Side::Remote && h.is_settleable());
            self.events.extend(waiting.map(|h| (channel.id(), ChannelEvent::LockedIn(h.id))));
        }
        // The network hears of public channels again: whoever keeps the gossip may have lost it.
        if self.config.gossip.is_some() {
            self.touched.extend(self.channels.values().filter(|c| c.announce.is_public()).map(|c| c.id()));
        }
        self.settle_restored_payments();
        self.first_backup();
        self.resume_reading();
        if self.config.restored {
            self.doubt_all();
        }
        let publish: Vec<Effect> = self
            .channels
            .values()
            .flat_map(|c| c.unconfirmed())
            .map(|(tx, why)| Effect::Publish { tx: tx.clone(), why })
            .collect();
        self.out.effects.extend(publish);
        self.call_all();
    }

    /// Somebody put an old copy of the records back: no commitment in them may be published, as the peer may hold its
    /// revocation. Kept with the first step. Whatever decided a channel before the copy was made still does.
    fn doubt_all(&mut self) {
        let mut count = 0usize;
        for (id, channel) in &mut self.channels {
            if !matches!(channel.phase, Phase::Closed(_) | Phase::Onchain(_)) {
                channel.doubt = true;
                channel.dirty.state = true;
                self.touched.insert(*id);
                count += 1;
            }
        }
        let text = format!(
            "the database is taken for an old copy: {count} channels are in doubt, their commitments are not published \
             and their peers are to close them"
        );
        self.notice(Level::Warn, text);
        // The copy does not know which runes were refused, and what was spent with them.
        self.void_runes();
    }
}
