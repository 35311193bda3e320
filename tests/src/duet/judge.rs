//! What must hold after every step, and what must hold when all is quiet.
//!
//! In: two nodes and their disks. Out: nothing, or a panic that says what is wrong. Read next: `tests/scenario`.

use super::chain::check_transaction;
use super::{Duet, ALICE, BOB};
use bitcoin::{Amount, Transaction, TxOut};
use chand_protocol::channel::ledger::View;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, PaymentHash, Side};
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::view::Snapshot;
use chand_protocol::node::Node;
use chand_protocol::record::Kind;
use chand_protocol::store::Entry;
use chand_protocol::tx::script;
use std::collections::BTreeMap;

fn shown(key: &[u8]) -> String {
    let kind = Kind::of(key).map_or_else(|| "?".into(), |k| format!("{k:?}"));
    format!("{kind} {}", chand_protocol::id::to_hex(key.get(1..).unwrap_or(&[])))
}

fn payment_of(key: &[u8]) -> Option<PaymentHash> {
    let hash = key.get(1..33)?.try_into().ok().map(PaymentHash);
    hash.filter(|_| Kind::of(key) == Some(Kind::Payment))
}

/// Whether the record of a payment is of an earlier try than the one that waits now.
fn is_old_try(node: &Node, key: &[u8]) -> bool {
    payment_of(key).is_some_and(|hash| node.waits_to_pay(&hash))
}

/// Whether a store holds what a node would write now, no more and no less.
///
/// # Errors
/// The first record that is missing, old or left over.
pub fn compare(stored: &BTreeMap<Vec<u8>, Vec<u8>>, wanted: Vec<Entry>, node: &Node) -> Result<(), String> {
    let wanted: BTreeMap<Vec<u8>, Vec<u8>> = wanted.into_iter().collect();
    // Who comes back gives up what waits, and counts that as a change.
    let back = wanted != node.records().into_iter().collect::<BTreeMap<_, _>>();
    let waits = |key: &[u8]| {
        back && is_old_try(node, key) || payment_of(key).is_some_and(|hash| node.gave_up_at_start(&hash))
    };
    let gave_up = stored.keys().any(|key| waits(key));
    for (key, value) in &wanted {
        match stored.get(key) {
            Some(_) if waits(key) || gave_up && Kind::of(key) == Some(Kind::Counters) => {}
            None => return Err(format!("the store lacks {}", shown(key))),
            Some(kept) if kept != value => {
                let hex = chand_protocol::id::to_hex;
                return Err(format!(
                    "the store has an old {}: {} and not {}",
                    shown(key),
                    hex(kept),
                    hex(value)
                ));
            }
            Some(_) => {}
        }
    }
    let elsewhere = [Some(Kind::Wallet), Some(Kind::Reserved), Some(Kind::Peer)];
    for key in stored.keys() {
        let known = wanted.contains_key(key) || elsewhere.contains(&Kind::of(key)) || is_old_try(node, key);
        if !known {
            return Err(format!("the store holds a leftover {}", shown(key)));
        }
    }
    Ok(())
}

impl Duet {
    /// The store holds what the node would need to come back, no more and no less; and who comes back is the same.
    pub fn judge_records(&self, seat: usize) {
        let place = &self.seats[seat];
        let entries = place.store.durable();
        let reborn = place.reborn(entries.clone());
        let stored: BTreeMap<_, _> = entries.into_iter().collect();
        let same = compare(&stored, place.node.records(), &place.node);
        same.unwrap_or_else(|what| panic!("{}: {what}", place.name));
        let same = compare(&stored, reborn.records(), &place.node);
        same.unwrap_or_else(|what| panic!("{} reborn: {what}", place.name));
        for channel in place.node.channels() {
            let again = reborn.channel(&channel.id()).unwrap_or_else(|| panic!("a channel was lost"));
            assert_eq!(channel.to_us(), again.to_us());
            assert_eq!(channel.state_name(), again.state_name());
        }
    }

    /// The one channel's id.
    ///
    /// # Panics
    /// When there is none or more than one.
    pub fn channel_id(&self) -> ChannelId {
        let ids: Vec<ChannelId> = self.seats[ALICE].node.channels().map(Channel::id).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        ids[0]
    }

    /// A node's view of the one channel.
    pub fn channel(&self, seat: usize) -> &Channel {
        let id = self.channel_id();
        self.seats[seat].node.channel(&id).unwrap_or_else(|| panic!("{} lacks it", self.seats[seat].name))
    }

    /// What a node has in the one channel, pending HTLCs of its own included.
    pub fn balance_msat(&self, seat: usize) -> u64 {
        self.channel(seat).to_us().0
    }

    /// Once quiet: both sides hold the same money, the same commitments, and each can publish its own.
    pub fn judge_agreement(&mut self) {
        let id = self.channel_id();
        let (alice, bob) = (self.channel(ALICE), self.channel(BOB));
        assert_eq!(alice.to_us().0 + bob.to_us().0, alice.terms.capacity.to_msat().0, "money made or lost");
        for (mine, theirs) in [(alice, bob), (bob, alice)] {
            assert_eq!(mine.commits.local_number, theirs.commits.remote_number);
            assert!(!mine.commits.awaiting_revoke, "not quiet");
            let ours = mine.ledger.spec(View::Signed(Side::Local), mine.terms.opener);
            let seen = theirs.ledger.spec(View::Signed(Side::Remote), theirs.terms.opener);
            let (mut ours, mut seen) = (ours.expect("a spec"), seen.expect("a spec"));
            // The two name an HTLC's side from where they stand.
            ours.htlcs.iter_mut().for_each(|h| h.id.offered_by = h.id.offered_by.other());
            ours.htlcs.sort_by_key(|h| h.id);
            seen.htlcs.sort_by_key(|h| h.id);
            assert_eq!(ours, seen, "the two disagree on a commitment");
        }
        let open = |c: &Channel| !matches!(c.phase, Phase::Closed(_) | Phase::Onchain(_));
        if open(alice) && open(bob) {
            self.judge_newest(ALICE, id);
            self.judge_newest(BOB, id);
            self.judge_snapshots(id);
        }
    }

    fn judge_newest(&mut self, seat: usize, id: ChannelId) {
        let reply = self.must(seat, Command::DevSignLastTx { channel: ChannelRef::Id(id) });
        let Reply::Tx(tx) = reply else { panic!("{reply:?}") };
        self.judge_commitment(seat, id, &tx);
    }

    /// A commitment spends the funding output, by consensus and by the rules of relay.
    pub fn judge_commitment(&self, seat: usize, id: ChannelId, tx: &Transaction) {
        let channel = self.seats[seat].node.channel(&id);
        let terms = &channel.unwrap_or_else(|| panic!("no channel {id}")).terms;
        let keys = [&terms.local.basepoints.funding_pubkey, &terms.remote.basepoints.funding_pubkey];
        let funding = TxOut {
            value: Amount::from_sat(terms.capacity.0),
            script_pubkey: script::p2wsh(&script::funding(keys[0], keys[1])),
        };
        assert_eq!(tx.input[0].previous_output, terms.funding);
        check_transaction(tx, &[funding]);
    }

    /// A node's signed snapshots, newest first.
    pub fn snapshots(&mut self, seat: usize) -> Vec<Snapshot> {
        let channel = ChannelRef::Id(self.channel_id());
        let reply = self.must(seat, Command::ListSnapshots { channel, start: None, limit: Some(1_000_000) });
        let Reply::Snapshots(list) = reply else { panic!("{reply:?}") };
        list
    }

    /// Both lists of snapshots: each adds up at every entry, and the newest two mirror each other.
    pub fn judge_snapshots(&mut self, _id: ChannelId) {
        let capacity = self.channel(ALICE).terms.capacity.to_msat().0;
        let lists = [self.snapshots(ALICE), self.snapshots(BOB)];
        for (seat, list) in lists.iter().enumerate() {
            assert_eq!(list.len() as u64, self.channel(seat).commits.local_number + 1);
            for (place, snapshot) in list.iter().enumerate() {
                let pending: u64 = snapshot.htlcs.iter().map(|h| h.amount_msat.0).sum();
                let sum = snapshot.our_msat.0 + snapshot.their_msat.0 + pending;
                assert_eq!(sum, capacity, "{} snapshot {}", self.seats[seat].name, snapshot.number);
                assert_eq!(snapshot.status == "revoked", place > 0, "{}", snapshot.number);
            }
        }
        let (Some(ours), Some(theirs)) = (lists[0].first(), lists[1].first()) else { panic!("no snapshot") };
        assert_eq!((ours.our_msat, ours.their_msat), (theirs.their_msat, theirs.our_msat));
        let key = |s: &Snapshot, mirror: bool| {
            let side = |side: Side| if mirror { side.other() } else { side };
            let mut list: Vec<_> = s
                .htlcs
                .iter()
                .map(|h| (side(h.offered_by), h.amount_msat, h.payment_hash, h.expiry))
                .collect();
            list.sort();
            list
        };
        assert_eq!(key(ours, false), key(theirs, true));
        assert_eq!(ours.feerate, theirs.feerate);
    }

    /// Nobody closed the channel by force.
    pub fn judge_peace(&self) {
        for seat in [ALICE, BOB] {
            for channel in self.seats[seat].node.channels() {
                let peace = !matches!(channel.phase, Phase::Onchain(_));
                assert!(peace, "{} closed by force: {:?}", self.seats[seat].name, channel.phase);
                assert!(!channel.doubt);
            }
        }
    }
}
