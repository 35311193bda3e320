//! `safety`: no revoked commitment leaves, no secret early or twice differently; honest peers find no fault in each other.
//!
//! In: every revocation, transaction and log line as it leaves. The secrets are worked out anew from the node's seed, so
//! that a wrong one is known by itself. Out: a verdict. Read next: `durable`.

use super::Verdict;
use crate::sim::feud::may_close;
use crate::sim::world::World;
use bitcoin::Transaction;
use chand_protocol::channel::ledger::View;
use chand_protocol::channel::Channel;
use chand_protocol::id::{ChannelId, Side};
use chand_protocol::node::effect::{Level, Notice};
use chand_protocol::tx::commitment::commitment_number;
use chand_protocol::wire::message::RevokeAndAck;
use chand_protocol::wire::Message;
use std::collections::BTreeMap;

/// How many secrets of a channel a seat gave out.
pub type Revealed = BTreeMap<(ChannelId, usize), u64>;

/// Errors in the log that no fault of a node explains.
const USUAL: [&str; 4] = [
    "the chain backend cannot be reached",
    "was refused:",
    "left the chain in a reorganisation",
    "the peer reports an error: the channel is closed",
];

/// Openings that are refused for reasons of one's own.
const NO_BLAME: [&str; 2] = ["too many are pending already", "still reading the chain"];

fn wrong(name: &str, what: impl std::fmt::Display) -> Result<(), Verdict> {
    Err(Verdict::new("safety", format!("{name} {what}")))
}

/// A message leaves.
///
/// # Errors
/// It gives a secret out too early, again but differently, or out of order; or it is an `error` without need.
pub fn said(world: &mut World, seat: usize, message: &Message) -> Result<(), Verdict> {
    match message {
        Message::RevokeAndAck(m) => {
            revoked(world, seat, m)?;
            within_limits(world, seat, m.channel_id)
        }
        Message::UpdateFulfillHtlc(m) if world.knobs.liar == Some(1 - seat) => {
            if world.cheat.onions.contains_key(&(m.channel_id, m.id)) {
                let what = format!("takes HTLC {}: a part of what is owed, or with a secret made up", m.id);
                return wrong(world.seats[seat].name, what);
            }
            Ok(())
        }
        Message::Error(m) if world.is_peaceful() => {
            let name = world.seats[seat].name;
            let used = |c: &Channel| c.confirmed.is_some();
            let channel = world.seats[seat].node().and_then(|n| n.channel(&m.channel_id));
            if channel.is_some_and(|c| may_close(world, seat, c)) {
                world.feud.struck.insert(m.channel_id);
                return Ok(());
            }
            let over = |c: &Channel| c.is_over_for_peer();
            if world.seats[seat].node().and_then(|n| n.channel(&m.channel_id)).is_some_and(over) {
                // Its closing transaction is in a block that the peer has not seen.
                return Ok(());
            }
            let peer = world.seats[1 - seat].node();
            match peer.and_then(|n| n.channel(&m.channel_id)).filter(|c| used(c)) {
                Some(_) => wrong(name, format!("sends an error about a channel in use: {}", m.text())),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn revoked(world: &mut World, seat: usize, m: &RevokeAndAck) -> Result<(), Verdict> {
    let place = &world.seats[seat];
    let name = place.name;
    let Some(channel) = place.node().and_then(|n| n.channel(&m.channel_id)) else {
        return wrong(name, "revokes in a channel it has not");
    };
    let secrets = place.keys.channel_secrets(channel.terms.key_index);
    let secret = |number: u64| secrets.per_commitment_secret(number).ok();
    let next = world.judges.revealed.get(&(m.channel_id, seat)).copied().unwrap_or(0);
    let number = if secret(next) == Some(m.per_commitment_secret) {
        next
    } else if next > 0 && secret(next - 1) == Some(m.per_commitment_secret) {
        next - 1
    } else {
        return wrong(
            name,
            format!("gives out a secret that is neither of commitment {next} nor of the one before"),
        );
    };
    if channel.commits.local_number <= number {
        return wrong(name, format!("gives out the secret of its newest commitment {number}"));
    }
    if !world.judges.signed.contains_key(&(m.channel_id, seat, number + 1)) && !world.may_fail() {
        return wrong(name, format!("revokes commitment {number} before its peer signed the next"));
    }
    if secrets.per_commitment_point(place.crypto(), number + 2).ok() != Some(m.next_per_commitment_point) {
        return wrong(name, format!("names a wrong point for commitment {}", number + 2));
    }
    world.judges.revealed.insert((m.channel_id, seat), next.max(number + 1));
    Ok(())
}

/// The newest commitment, for which an older one is given up, holds no more HTLCs of the peer than it may have, and the
/// peer kept its reserve when it offered the newest of them.
fn within_limits(world: &World, seat: usize, id: ChannelId) -> Result<(), Verdict> {
    let place = &world.seats[seat];
    let Some(channel) = place.node().and_then(|n| n.channel(&id)) else { return Ok(()) };
    let (view, ours) = (View::Signed(Side::Local), &channel.terms.local);
    let theirs = || channel.ledger.htlcs_in(view).filter(|h| h.id.offered_by == Side::Remote);
    let (count, most) = (theirs().count(), usize::from(ours.max_accepted_htlcs));
    if count > most {
        return wrong(place.name, format!("accepts {count} HTLCs where {most} are the limit"));
    }
    let (sum, most) = (theirs().map(|h| h.amount.0).sum::<u64>(), ours.max_in_flight.0);
    if sum > most {
        return wrong(place.name, format!("accepts {sum} msat in flight where {most} are the limit"));
    }
    let newest = channel.commits.local_number;
    let new = theirs().any(|h| h.span.local_first == Some(newest));
    let left = channel.ledger.balances(view).map_or(0, |b| b.of(Side::Remote).0);
    let reserve = ours.reserve.to_msat().0;
    if new && left < reserve {
        return wrong(place.name, format!("accepts an HTLC that leaves its peer {left} of {reserve} msat"));
    }
    Ok(())
}

/// Each side has every secret that the other gave up: without it a revoked commitment could be published for nothing.
/// They are worked out anew from the other's seed, so that a liar's made-up one is known.
///
/// # Errors
/// One is missing or another.
pub fn could_punish(world: &World, id: ChannelId) -> Result<(), Verdict> {
    for (seat, peer) in [(0, 1), (1, 0)] {
        let found = |seat: usize| world.seats[seat].node().and_then(|n| n.channel(&id));
        let (Some(mine), Some(theirs)) = (found(seat), found(peer)) else { continue };
        let secrets = world.seats[peer].keys.channel_secrets(theirs.terms.key_index);
        if mine.retired {
            continue;
        }
        let kept = &mine.commits.remote_secrets;
        for number in 0..mine.commits.remote_number {
            if kept.get(number) != secrets.per_commitment_secret(number).ok() {
                let name = world.seats[seat].name;
                return wrong(name, format!("has not the secret of its peer's revoked commitment {number}"));
            }
        }
    }
    Ok(())
}

/// A transaction leaves.
///
/// # Errors
/// It is a revoked commitment, or a commitment without need.
pub fn published(world: &mut World, seat: usize, tx: &Transaction, why: &str) -> Result<(), Verdict> {
    let place = &world.seats[seat];
    let Some(node) = place.node() else { return Ok(()) };
    for input in &tx.input {
        let Some(channel) = node.channels().find(|c| c.terms.funding == input.previous_output) else {
            continue;
        };
        let Some(number) = commitment_number(tx, channel.terms.obscure()) else { continue };
        if world.feud.owners.get(&tx.compute_txid()) == Some(&(1 - seat)) {
            // The peer's, that a reorganisation threw out: what hangs on it is this node's.
            continue;
        }
        let revealed = world.judges.revealed.get(&(channel.id(), seat)).copied().unwrap_or(0);
        if number < revealed {
            return wrong(
                place.name,
                format!("publishes its REVOKED commitment {number} of {revealed}: {why}"),
            );
        }
        if !world.may_fail() && channel.confirmed.is_some() {
            if !may_close(world, seat, channel) {
                return wrong(place.name, format!("closes by force without need: {why}"));
            }
            let id = channel.id();
            world.feud.struck.insert(id);
            return Ok(());
        }
    }
    Ok(())
}

/// A line goes into the log.
///
/// # Errors
/// It tells of a fault of its own, or of a fault of an honest peer.
pub fn noticed(world: &mut World, seat: usize, notice: &Notice) -> Result<(), Verdict> {
    let (name, text) = (world.seats[seat].name, &notice.text);
    world.trace.note(world.now, text.as_bytes(), || format!("{seat} notes {:?}: {text}", notice.level));
    if text.contains("local fault") {
        return wrong(name, format!("has a fault of its own: {text}"));
    }
    if text.contains("peer fault") && notice.level > Level::Debug {
        world.cheat.complained(seat);
        if world.is_peaceful() && !NO_BLAME.iter().any(|usual| text.contains(usual)) {
            return wrong(name, format!("finds a fault in an honest peer: {text}"));
        }
    }
    let usual = world.feud.began() || USUAL.iter().any(|usual| text.contains(usual));
    if notice.level == Level::Error && !usual && world.knobs.liar.is_none() {
        let used = notice.channel.and_then(|id| world.seats[seat].node()?.channel(&id)?.confirmed);
        if used.is_some() || notice.channel.is_none() {
            return wrong(name, format!("is in trouble: {text}"));
        }
    }
    Ok(())
}
