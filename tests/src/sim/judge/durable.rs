//! `durable`: whatever was said is known to a node made of what is on disk.
//!
//! In: every message and answer as it leaves. Out: a verdict, when a node born from the durable records alone does not
//! know a signature, a secret, an update or an answer that went out before. It is looked at after releases (how often,
//! the seed decides) and at every birth. Read next: `restart`.

use super::Verdict;
use crate::sim::world::World;
use chand_protocol::channel::htlc::Removal;
use chand_protocol::channel::Channel;
use chand_protocol::id::{ChannelId, HtlcId, PaymentHash, Preimage, Side};
use chand_protocol::node::command::{CommandError, Reply};
use chand_protocol::node::Node;
use chand_protocol::record::{invoice_key, payment_key};
use chand_protocol::store::Entry;
use chand_protocol::wire::Message;
use std::collections::{BTreeMap, BTreeSet};

/// What one seat said so far, over all its lives.
#[derive(Debug, Default)]
pub struct Told {
    channels: BTreeMap<ChannelId, Said>,
    invoices: BTreeSet<PaymentHash>,
    paid: BTreeMap<PaymentHash, Preimage>,
}

impl Told {
    /// This invoice may be deleted.
    pub fn may_forget(&mut self, hash: &PaymentHash) {
        self.invoices.remove(hash);
    }
}

/// About one channel.
#[derive(Debug, Default)]
struct Said {
    /// The highest commitment of the peer that was signed.
    signed: u64,
    /// The newest commitment of its own, when it last revoked one.
    revoked_below: u64,
    /// One more than the highest id offered.
    adds: u64,
    ready: bool,
    /// HTLCs of the peer that were ended, and whether by their secret.
    ended: BTreeMap<u64, bool>,
}

/// A message leaves.
pub fn said(world: &mut World, seat: usize, message: &Message) {
    let Some(id) = message.channel_id() else { return };
    let numbers = world.seats[seat]
        .node()
        .and_then(|n| n.channel(&id))
        .map(|c| (c.commits.remote_number + 1, c.commits.local_number));
    let Some((next_remote, local)) = numbers else { return };
    // After a lie about what it holds, a peer is told again what it revoked already: the number is then one too high.
    let sure = !world.may_fail();
    let said = world.judges.told[seat].channels.entry(id).or_default();
    match message {
        Message::CommitmentSigned(_) if sure => said.signed = said.signed.max(next_remote),
        Message::RevokeAndAck(_) => said.revoked_below = said.revoked_below.max(local),
        Message::UpdateAddHtlc(m) => said.adds = said.adds.max(m.id + 1),
        Message::UpdateFulfillHtlc(m) => {
            said.ended.insert(m.id, true);
        }
        Message::UpdateFailHtlc(m) => {
            said.ended.insert(m.id, false);
        }
        Message::UpdateFailMalformedHtlc(m) => {
            said.ended.insert(m.id, false);
        }
        Message::ChannelReady(_) => said.ready = true,
        _ => {}
    }
}

/// An order is answered.
pub fn answered(world: &mut World, seat: usize, result: &Result<Reply, CommandError>) {
    let told = &mut world.judges.told[seat];
    let deleted = &world.judges.book.deleted;
    match result {
        Ok(Reply::Invoice(invoice)) if !deleted.contains(&(seat, invoice.payment_hash)) => {
            told.invoices.insert(invoice.payment_hash);
        }
        Ok(Reply::Paid(pay)) => {
            told.paid.extend(pay.preimage.clone().map(|preimage| (pay.payment_hash, preimage)));
        }
        Ok(Reply::Funded { channel_id, .. }) => {
            told.channels.entry(*channel_id).or_default();
        }
        _ => {}
    }
}

/// A release is done: now and then a node is made of what is durable.
///
/// # Errors
/// It does not know all that was said, or cannot be made.
pub fn released(world: &mut World, seat: usize) -> Result<(), Verdict> {
    if !world.seats[seat].releases.is_multiple_of(world.knobs.look_every) {
        return Ok(());
    }
    world.counts.looks += 1;
    let entries = world.seats[seat].store.durable();
    let node = super::restart::born(world, seat, entries)?;
    knows(world, seat, &node)
}

/// A node just born knows all that its earlier lives said.
///
/// # Errors
/// What it does not know.
pub fn knows(world: &World, seat: usize, node: &Node) -> Result<(), Verdict> {
    let place = &world.seats[seat];
    let told = &world.judges.told[seat];
    let lacks =
        |what: String| Err(Verdict::new("durable", format!("{} told it, and lost it: {what}", place.name)));
    for (id, said) in &told.channels {
        match node.channel(id) {
            // One that never was used may be forgotten with its funding.
            None if said.signed == 0 => {}
            None => return lacks(format!("channel {id}")),
            Some(channel) => {
                if let Some(what) = forgotten(channel, said) {
                    return lacks(what);
                }
            }
        }
    }
    let entries: BTreeMap<Vec<u8>, Vec<u8>> =
        place.store.durable().into_iter().collect::<Vec<Entry>>().into_iter().collect();
    if let Some(hash) = told.invoices.iter().find(|hash| !entries.contains_key(&invoice_key(hash))) {
        return lacks(format!("invoice {hash}"));
    }
    let holds = |value: &Vec<u8>, secret: &Preimage| value.windows(32).any(|w| w == secret.0);
    for (hash, preimage) in &told.paid {
        if !entries.get(&payment_key(hash)).is_some_and(|value| holds(value, preimage)) {
            return lacks(format!("payment {hash} is complete"));
        }
    }
    Ok(())
}

/// What a channel does not know of what was said about it.
fn forgotten(channel: &Channel, said: &Said) -> Option<String> {
    let commits = &channel.commits;
    let signed = commits.remote_number + u64::from(commits.awaiting_revoke);
    if signed < said.signed {
        return Some(format!("the signature of commitment {} (it knows {signed})", said.signed));
    }
    if commits.local_number < said.revoked_below {
        let (has, gave) = (commits.local_number, said.revoked_below);
        return Some(format!("all before commitment {gave} is revoked (it holds {has} for the newest)"));
    }
    if channel.ledger.next_id.0 < said.adds {
        return Some(format!("update_add_htlc {}", said.adds - 1));
    }
    if said.ready && !channel.ready.0 {
        return Some("channel_ready".into());
    }
    said.ended.iter().find_map(|(id, fulfilled)| {
        let kept = match channel.htlc(HtlcId { offered_by: Side::Remote, id: *id }) {
            Some(htlc) => htlc.removal.as_ref().is_some_and(|r| Removal::is_fulfilled(r) == *fulfilled),
            None => channel.ledger.next_id.1 > *id,
        };
        (!kept).then(|| format!("the end of HTLC {id}"))
    })
}
