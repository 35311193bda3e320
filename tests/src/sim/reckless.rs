//! Lies that take more than a changed field: onions of one's own, a node that knows no limits, one with an old disk.
//!
//! In: a liar's `update_add_htlc`; nodes at rest whose records are changed. Out: another onion for the same HTLC, which no
//! signature covers; a channel whose limits are as the liar wants them; nodes that a restart makes of an old copy.
//! Read next: `judge::safety` (limits), `finale`.

use super::cheats::{Cheat, Lie};
use super::judge::{durable, Verdict};
use super::plan::{When, MS, SECOND};
use super::seat::Death;
use super::world::World;
use chand_protocol::channel::terms::Terms;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, PaymentSecret};
use chand_protocol::invoice;
use chand_protocol::node::command::{ChannelRef, Command};
use chand_protocol::onion::payload::Final;
use chand_protocol::onion::sphinx::build;
use chand_protocol::record::{decode, encode, Kind};
use chand_protocol::store::Entry;
use chand_protocol::units::{Msat, Sat};
use chand_protocol::wire::message::{OnionPacket, UpdateAddHtlc};
use chand_protocol::wire::Message;
use chand_storage::MemoryStore;
use secp256k1::SecretKey;

use super::actors::What;
use super::heal::{stuck, LINK_US};

/// A death that nobody wonders about.
const STOP: Death = Death { when: When::Now, after: 0, down_us: MS, silent: false };
/// How long a node may take to see that its copy is old.
const SEEN_US: u64 = 60 * SECOND;

impl Cheat {
    /// An onion that was told stays told: what a cut swallowed comes again as it was.
    pub(super) fn keep_onion(&mut self, lie: Lie, told: &[Vec<u8>]) {
        if !matches!(lie, Lie::AddPart | Lie::AddSecret) {
            return;
        }
        let first = told.first().and_then(|bytes| Message::decode(bytes).ok());
        if let Some(Message::UpdateAddHtlc(m)) = first {
            self.onions.insert((m.channel_id, m.id), *m.onion_routing_packet);
        }
    }
}

impl World {
    /// The message with the onion that was told for its HTLC before.
    pub(super) fn with_its_onion(&self, message: Message, bytes: Vec<u8>) -> (Message, Vec<u8>) {
        let Message::UpdateAddHtlc(m) = &message else { return (message, bytes) };
        let Some(onion) = self.cheat.onions.get(&(m.channel_id, m.id)) else { return (message, bytes) };
        let told = with_onion(m, onion.clone());
        let bytes = told.encode().unwrap_or(bytes);
        (told, bytes)
    }

    /// The HTLC with an onion that tells its payee another thing of the invoice.
    pub(super) fn other_onion(&mut self, seat: usize, lie: Lie, message: &Message) -> Option<Vec<Vec<u8>>> {
        let Message::UpdateAddHtlc(m) = message else { return None };
        let mut tries = self.judges.book.tries.values();
        let bolt11 =
            &tries.find(|t| t.hash.is_some_and(|h| h.0 == m.payment_hash) && !t.bolt11.is_empty())?.bolt11;
        let secp = self.seats[seat].crypto().secp();
        let owed = invoice::parse(bolt11, secp).ok()?;
        // Up to twice the amount is fair: the whole may be more than was asked for.
        let (secret, total) = match lie {
            Lie::AddPart => (owed.payment_secret.clone()?, Msat(m.amount_msat.0.saturating_mul(3) / 2 + 1)),
            _ => (PaymentSecret([9; 32]), m.amount_msat),
        };
        let last = Final::invoice(m.amount_msat, m.cltv_expiry, secret, total);
        let session = SecretKey::from_slice(&[0x33; 32]).ok()?;
        let hops = [(self.seats[1 - seat].id.0, last.encode())];
        let onion = build(&session, &hops, &m.payment_hash, secp).ok()?.packet;
        Some(vec![with_onion(m, onion).encode().ok()?])
    }

    /// What is needed at the end is laid aside while the first channel is new.
    pub(super) fn prepare_end(&mut self) -> Result<(), Verdict> {
        if let Some(seat) = self.knobs.put_back.filter(|_| self.knobs.liar.is_none()) {
            self.run_until(self.now + SECOND)?;
            self.old_copy = Some((seat, self.seats[seat].store.durable()));
        }
        Ok(())
    }

    /// From now on the liar's own node checks no limit of its peer, which takes few HTLCs at once.
    pub(super) fn let_loose(&mut self) -> Result<(), Verdict> {
        let (Some(few), Some(liar)) = (self.knobs.reckless, self.knobs.liar) else { return Ok(()) };
        self.run_until(self.now + SECOND)?;
        for seat in 0..2 {
            self.die(seat, STOP)?;
            let changed = |terms: &mut Terms| {
                if seat == liar {
                    let theirs = &mut terms.remote;
                    (theirs.reserve, theirs.max_in_flight) = (Sat(0), Msat(u64::MAX));
                    (theirs.max_accepted_htlcs, theirs.htlc_minimum) = (483, Msat(0));
                } else {
                    terms.local.max_accepted_htlcs = few;
                }
            };
            let entries = self.seats[seat].store.durable();
            self.seats[seat].store = MemoryStore::with_entries(with_terms(entries, changed));
        }
        self.cheat.beside_itself = true;
        self.tally.met("a liar without limits");
        if !self.wait(LINK_US, World::is_settled)? {
            return Err(stuck("two nodes do not find each other after a restart"));
        }
        Ok(())
    }

    /// A node comes back with an old copy of its disk. It learns from its peer that it is old, does not forget that,
    /// and never publishes what the copy holds.
    pub(super) fn put_back(&mut self) -> Result<(), Verdict> {
        let Some((seat, entries)) = self.old_copy.take() else { return Ok(()) };
        let of_old =
            self.seats[seat].born(entries.clone()).map_err(|e| Verdict::new("restart", e.to_string()))?;
        let outdated = |c: &&Channel| {
            let old = of_old.channel(&c.id()).map(|old| old.commits.local_number);
            c.phase == Phase::Open && old.is_some_and(|old| old < c.commits.local_number)
        };
        let node = self.seats[seat].node();
        let ids: Vec<ChannelId> =
            node.into_iter().flat_map(|n| n.channels()).filter(outdated).map(Channel::id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.tally.met("an old copy of a disk");
        // Whoever lost its state is to be blamed for whatever follows.
        self.knobs.liar = Some(seat);
        self.cheat.reformed = true;
        self.cheat.arrived.push(Lie::ReestablishCommitLow);
        self.die(seat, STOP)?;
        self.seats[seat].store = MemoryStore::with_entries(entries);
        self.judges.told[seat] = durable::Told::default();
        let doubts = |w: &World| {
            let node = w.seats[seat].node();
            ids.iter().all(|id| node.and_then(|n| n.channel(id)).is_some_and(|c| c.doubt))
        };
        self.run_until(self.now + SECOND)?;
        self.connect(seat);
        if !self.wait(SEEN_US, doubts)? {
            return Err(stuck("a node with an old disk does not learn from its peer that it is old"));
        }
        self.run_until(self.now + SECOND)?;
        self.die(seat, STOP)?;
        self.run_until(self.now + SECOND)?;
        if !doubts(self) {
            let words = "a node with an old disk forgets at a restart that it is old";
            return Err(Verdict::new("safety", words));
        }
        for id in &ids {
            let order = Command::DevFail { channel: ChannelRef::Id(*id) };
            self.tell(seat, order, What::Other("dev-fail"));
        }
        self.run_until(self.now + 10 * SECOND)
    }
}

fn with_onion(m: &UpdateAddHtlc, onion: OnionPacket) -> Message {
    let mut out = m.clone();
    out.onion_routing_packet = onion.into();
    Message::UpdateAddHtlc(out)
}

/// The same records with other terms for every channel.
fn with_terms(mut entries: Vec<Entry>, change: impl Fn(&mut Terms)) -> Vec<Entry> {
    for (key, value) in &mut entries {
        if Kind::of(key) == Some(Kind::Terms) {
            if let Ok(mut terms) = decode::<Terms>(value) {
                change(&mut terms);
                *value = encode(&terms);
            }
        }
    }
    entries
}
