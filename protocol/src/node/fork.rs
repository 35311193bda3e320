//! A node twice: for simulators that walk more than one future from the same state.
//!
//! In: a node between two steps. Out: a second node in the same state, and what of that state is in no record.
//! Neither is of use to the daemon, and neither gets round the rule of `store`: a fork's batches are released only
//! by a [`Journal`](crate::store::Journal) over a store of its own, like those of a node just restored.
//! Read next: `restore`.

use crate::channel::htlc::Htlc;
use crate::channel::Channel;
use crate::entropy::Entropy;
use crate::id::sha256;
use crate::node::Node;
use crate::record::encode;
use alloc::format;
use alloc::vec::Vec;

impl Node {
    /// A second node in the same state, with randomness of its own; the crypto behind it is shared. It counts its
    /// batches from zero, as a restored node does: give it a new journal over a copy of the store.
    #[must_use]
    pub fn fork(&self, entropy: Entropy) -> Node {
        Node {
            config: self.config.clone(),
            keys: self.keys.clone(),
            id: self.id,
            entropy,
            crypto: self.crypto.clone(),
            seq: 0,
            now: self.now,
            ahead_ms: self.ahead_ms,
            chain: self.chain.clone(),
            counters: self.counters.clone(),
            peers: self.peers.clone(),
            openings: self.openings.clone(),
            stale_fundings: self.stale_fundings.clone(),
            channels: self.channels.clone(),
            funding: self.funding.clone(),
            watched: self.watched.clone(),
            invoices: self.invoices.clone(),
            payments: self.payments.clone(),
            forwards: self.forwards.clone(),
            waits: self.waits.clone(),
            runes: self.runes.clone(),
            accounts: self.accounts.clone(),
            draining: self.draining.clone(),
            introduced: self.introduced,
            introduced_now: self.introduced_now,
            closers: self.closers.clone(),
            publishing: self.publishing.clone(),
            taken: self.taken.clone(),
            parked: self.parked.clone(),
            delayed: self.delayed.clone(),
            touched: self.touched.clone(),
            unprepared: self.unprepared.clone(),
            events: self.events.clone(),
            out: self.out.clone(),
            recovered: self.recovered,
            backed: self.backed.clone(),
            storage: self.storage.clone(),
            wallet_changes: self.wallet_changes.clone(),
            wallet_kept: self.wallet_kept.clone(),
        }
    }

    /// Everything that decides what the node does next and that [`records`](Node::records) does not hold: links,
    /// what peers said without committing to it, who waits for which answer. Of two nodes with the same keys, records
    /// and bytes here, the same inputs at the same time make the same batch (randomness aside). Keys prepared ahead
    /// ([`prepare`](Node::prepare)) are left out: they change no answer.
    /// Secrets of payments stand in these bytes: hash them, do not show them.
    pub fn volatile(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(encode(&(self.now, self.ahead_ms, &self.wallet_kept, self.wallet_changes.len())));
        let chain = &self.chain;
        let world =
            (chain.tip_time_s, chain.reachable, chain.synced, chain.fees, &self.peers, &self.openings);
        let waiting = (&self.closers, &self.publishing, &self.parked, &self.touched, &self.events);
        let asked = (&self.waits, &self.draining);
        let later = (chain.synced_at, &self.delayed, &self.storage, &self.stale_fundings);
        bytes.extend(format!("{world:?}{waiting:?}{asked:?}{later:?}").into_bytes());
        bytes.extend(format!("{:?}{:?}", self.out.effects, self.out.changes.len()).into_bytes());
        self.payments.volatile(&mut bytes);
        self.forwards.volatile(&mut bytes);
        self.invoices.volatile(&mut bytes);
        self.channels.values().for_each(|c| c.volatile(&mut bytes));
        bytes
    }
}

impl Channel {
    /// The link, the talk about a close, the HTLCs and feerates as they stand in memory, and whether anything is still to
    /// be saved.
    fn volatile(&self, bytes: &mut Vec<u8>) {
        let htlcs: Vec<(&Htlc, Option<[u8; 32]>)> = self
            .ledger
            .htlcs
            .values()
            .map(|h| (h, h.onion.as_ref().map(|onion| sha256(&onion.hop_payloads))))
            .collect();
        bytes.extend(encode(&(htlcs, &self.ledger.fees, self.ledger.next_id, &self.log, self.is_dirty())));
        bytes.extend(format!("{:?}{:?}{:?}", self.link, self.phase, self.watch).into_bytes());
        bytes.extend(format!("{:?}", self.announce.now).into_bytes());
    }
}
