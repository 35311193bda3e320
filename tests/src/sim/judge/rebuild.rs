//! `safety`, of the past: each commitment that the peer gave up can be built again from what the node keeps, or nobody
//! could be punished for publishing it.
//!
//! In: a channel's records: snapshots of one's own commitments, HTLCs with their spans, the peer's secrets. Out: a
//! verdict, when the transaction made of them is not the one that was signed.
//!
//! How it is done: commitment `n` of the peer was signed while the newest of one's own was the last snapshot that names
//! a lower number of the peer's. Between the two lie only HTLCs of one's own that the peer's has already, and HTLCs of
//! the peer's that one's own still has. How the latter ended is in no record, so each sum that could have been fulfilled
//! is tried. Feerates are those of the snapshots near it; one that no snapshot of one's own ever had can still be read
//! from what the published transaction pays. Read next: `agree` (who files what was signed).

use super::Verdict;
use crate::sim::world::World;
use chand_protocol::channel::commit::SnapshotEntry;
use chand_protocol::channel::htlc::Span;
use chand_protocol::channel::Channel;
use chand_protocol::id::{ChannelId, HtlcId, PaymentHash, Side};
use chand_protocol::sign::Crypto;
use chand_protocol::tx::commitment::{build, Spec, SpecHtlc};
use chand_protocol::units::{Feerate, Height, Msat};
use std::collections::BTreeSet;

/// Sums that are tried; a commitment with more is left out.
const MOST_SUMS: usize = 256;
/// Snapshots after the one before in which its feerate may stand.
const NEAR: usize = 4;

/// What came of one commitment.
enum Rebuilt {
    /// It is the one that was signed.
    Same,
    /// So it is, with a feerate that no snapshot near it has.
    OtherFeerate,
    /// Too many ways in which its HTLCs could have ended.
    LeftOut,
}

/// An HTLC as its record tells it.
type Old = (HtlcId, Msat, PaymentHash, Height, Span);

/// Both sides can build every commitment that the other gave up.
///
/// # Errors
/// One cannot.
pub fn all(world: &mut World, id: ChannelId) -> Result<(), Verdict> {
    let mut counts = (0, 0, 0);
    for seat in 0..2 {
        let place = &world.seats[seat];
        let Some(channel) = place.node().and_then(|n| n.channel(&id)) else { continue };
        for number in 1..channel.commits.remote_number {
            let Some(signed) = world.judges.signed.get(&(id, 1 - seat, number)) else { continue };
            let made = rebuilt(channel, number, signed, place.crypto()).map_err(|what| {
                let words = format!("{} cannot rebuild commitment {number} of its peer: {what}", place.name);
                Verdict::new("safety", words)
            })?;
            match made {
                Rebuilt::Same => counts.0 += 1,
                Rebuilt::OtherFeerate => counts.1 += 1,
                Rebuilt::LeftOut => counts.2 += 1,
            }
        }
    }
    world.tally.add("rebuilt", counts.0);
    world.tally.add("rebuilt with the feerate of the transaction", counts.1);
    world.tally.add("not rebuilt: too many ways", counts.2);
    Ok(())
}

fn rebuilt(
    channel: &Channel,
    number: u64,
    signed: &super::agree::SignedOne,
    crypto: &dyn Crypto,
) -> Result<Rebuilt, String> {
    let terms = &channel.terms;
    let secret = channel.commits.remote_secrets.get(number).ok_or("its secret is missing")?;
    let point = crypto.public_key(&secret);
    let keys = crypto
        .commitment_keys(&terms.remote.basepoints, &terms.local.basepoints, &point)
        .map_err(|e| e.to_string())?;
    let snapshots = channel.snapshots();
    let before = snapshots.iter().rposition(|s| s.their_number < number).ok_or("no snapshot is older")?;
    let Between { mut spec, spent, undecided } = at(channel, &snapshots[before], number)?;
    let (owner, other) = (spec.to_owner, spec.to_other);
    let sum = |amounts: &[Msat]| Msat::checked_sum(amounts.iter().copied()).ok_or("too much in HTLCs");
    let (all, spent) = (sum(&undecided)?, sum(&spent)?);
    let Some(sums) = sums(&undecided) else { return Ok(Rebuilt::LeftOut) };
    let near = snapshots.iter().skip(before).take(1 + NEAR).map(|s| s.feerate);
    let mut feerates: Vec<Feerate> = near.collect();
    feerates.dedup();
    let known = feerates.len();
    feerates.push(signed.feerate);
    for (place, feerate) in feerates.into_iter().enumerate() {
        for fulfilled in &sums {
            spec.feerate = feerate;
            spec.to_owner = owner.saturating_add(all.saturating_sub(*fulfilled));
            // What was just received may be what was just spent.
            let Some(rest) = other.saturating_add(*fulfilled).checked_sub(spent) else { continue };
            spec.to_other = rest;
            let built = build(&terms.commitment_terms(Side::Remote), &keys, number, &spec);
            if built.is_ok_and(|b| b.tx.compute_txid() == signed.txid) {
                return Ok(if place < known { Rebuilt::Same } else { Rebuilt::OtherFeerate });
            }
        }
    }
    Err(format!("its records make another one ({} HTLCs, {} undecided)", spec.htlcs.len(), undecided.len()))
}

/// What lies between a snapshot of one's own and a commitment of the peer's.
struct Between {
    /// The commitment, with the balances of the snapshot.
    spec: Spec,
    /// New HTLCs of one's own.
    spent: Vec<Msat>,
    /// HTLCs of the peer's that are gone, nobody knows to whom.
    undecided: Vec<Msat>,
}

/// Commitment `number` of the peer as it follows from the snapshot `before`.
fn at(channel: &Channel, before: &SnapshotEntry, number: u64) -> Result<Between, String> {
    let live = channel.ledger.htlcs.values();
    let live = live.map(|h| (h.id, h.amount, h.payment_hash, h.cltv_expiry, h.span));
    let past = channel.past().iter().map(|p| (p.id, p.amount, p.payment_hash, p.cltv_expiry, p.span));
    let all: Vec<Old> = live.chain(past).collect();
    let (mut spent, mut undecided, mut htlcs) = (Vec::new(), Vec::new(), Vec::new());
    for (id, amount, payment_hash, cltv_expiry, span) in all {
        let (here, there) = (span.holds(Side::Local, before.number), span.holds(Side::Remote, number));
        let offered = id.offered_by == Side::Remote;
        if there {
            htlcs.push(SpecHtlc { id, offered, amount, payment_hash, cltv_expiry });
        }
        let later = span.local_first.is_none_or(|first| first > before.number);
        let earlier = span.remote_last.is_some_and(|last| last < number);
        match (here, there, offered) {
            (true, true, _) | (false, false, _) => {}
            (false, true, false) if later => spent.push(amount),
            (true, false, true) if earlier => undecided.push(amount),
            _ => {
                let words = format!("HTLC {id:?} {span:?} does not fit snapshot {}", before.number);
                return Err(words);
            }
        }
    }
    let spec = Spec { feerate: before.feerate, to_owner: before.remote, to_other: before.local, htlcs };
    Ok(Between { spec, spent, undecided })
}

/// Every sum of some of these; `None` when there are too many.
fn sums(amounts: &[Msat]) -> Option<BTreeSet<Msat>> {
    let mut out = BTreeSet::from([Msat::ZERO]);
    for amount in amounts {
        let more: Vec<Msat> = out.iter().map(|sum| sum.saturating_add(*amount)).collect();
        out.extend(more);
        if out.len() > MOST_SUMS {
            return None;
        }
    }
    Some(out)
}
