//! `agree`: what one side signs is, byte for byte, what the other side builds.
//!
//! In: every `commitment_signed` and `revoke_and_ack` as it leaves, every commitment that a node gives up, the newest
//! ones at the end.
//! Each signature is checked against the transaction that the signer's ledger stands for, and its id is filed; when the
//! other side gives that commitment up (or is asked for it) its own transaction must have this id.
//! Out: a verdict. Read next: `safety`.

use super::Verdict;
use crate::duet::chain::consensus;
use crate::sim::plan::Signing;
use crate::sim::world::World;
use bitcoin::{Amount, Transaction, TxOut, Txid};
use chand_protocol::channel::ledger::View;
use chand_protocol::channel::Channel;
use chand_protocol::id::{ChannelId, Side};
use chand_protocol::sign::{Crypto, VerifyJob};
use chand_protocol::tx::commitment::build;
use chand_protocol::tx::script;
use chand_protocol::units::Feerate;
use chand_protocol::wire::message::CommitmentSigned;
use chand_protocol::wire::Message;
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;
use std::collections::BTreeMap;

/// Commitments that were signed: channel, whose it is, its number.
pub type Signed = BTreeMap<(ChannelId, usize, u64), SignedOne>;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedOne {
    /// The transaction's id.
    pub txid: Txid,
    /// The feerate it was built with.
    pub feerate: Feerate,
}

/// A message leaves.
///
/// # Errors
/// It signs something else than the ledger says, or another commitment of a number that was signed before; or it
/// gives a commitment up while the newest one could not be published, or its HTLCs not be claimed.
pub fn said(world: &mut World, seat: usize, message: &Message) -> Result<(), Verdict> {
    match message {
        Message::CommitmentSigned(m) => {
            let found = signs(world, seat, m);
            // After a lie about what it holds, a peer is told again what it revoked already: the signer's ledger is
            // then ahead of the message.
            found.or_else(|verdict| if world.may_fail() { Ok(()) } else { Err(verdict) })
        }
        Message::RevokeAndAck(m) => holds(world, seat, m.channel_id),
        _ => Ok(()),
    }
}

fn signs(world: &mut World, seat: usize, m: &CommitmentSigned) -> Result<(), Verdict> {
    let name = world.seats[seat].name;
    let Some(channel) = world.seats[seat].node().and_then(|n| n.channel(&m.channel_id)) else {
        return Err(Verdict::new("agree", format!("{name} signs for a channel it has not")));
    };
    if !channel.commits.awaiting_revoke {
        return Err(Verdict::new("agree", format!("{name} signs and forgets that it did")));
    }
    let number = channel.commits.remote_number + 1;
    let crypto = world.seats[seat].crypto();
    let point = channel.commits.remote_next_point;
    let given = (&m.signature, m.htlc_signatures.as_slice());
    let one = signed(channel, Side::Remote, number, point, given, crypto)
        .map_err(|what| Verdict::new("agree", format!("{name}, commitment {number} of its peer: {what}")))?;
    let before = world.judges.signed.insert((m.channel_id, 1 - seat, number), one);
    if before.is_some_and(|b| b.txid != one.txid) {
        return Err(Verdict::new("agree", format!("{name} signed two different commitments {number}")));
    }
    Ok(())
}

/// The newest commitment of a node is signed by its peer, HTLC by HTLC.
fn holds(world: &World, seat: usize, id: ChannelId) -> Result<(), Verdict> {
    let place = &world.seats[seat];
    let Some(channel) = place.node().and_then(|n| n.channel(&id)) else { return Ok(()) };
    let (commits, crypto) = (&channel.commits, place.crypto());
    let number = commits.local_number;
    let secrets = place.keys.channel_secrets(channel.terms.key_index);
    let point = secrets.per_commitment_point(crypto, number).ok();
    let given = (&commits.signature, commits.htlc_signatures.as_slice());
    match signed(channel, Side::Local, number, point, given, crypto) {
        Ok(_) => Ok(()),
        Err(what) => {
            Err(Verdict::new("agree", format!("{}, its own commitment {number}: {what}", place.name)))
        }
    }
}

/// The transaction of commitment `number` of `owner`, by the channel's ledger, if these are signatures for it and for
/// each of its HTLCs.
fn signed(
    channel: &Channel,
    owner: Side,
    number: u64,
    point: Option<PublicKey>,
    (signature, htlc_signatures): (&Signature, &[Signature]),
    crypto: &dyn Crypto,
) -> Result<SignedOne, String> {
    let terms = &channel.terms;
    let point = point.ok_or("no point for it is known")?;
    let spec = channel.ledger.spec(View::Signed(owner), terms.opener).ok_or("a negative balance")?;
    let (own, other) = (&terms.party(owner).basepoints, &terms.party(owner.other()).basepoints);
    let keys = crypto.commitment_keys(own, other, &point).map_err(|e| e.to_string())?;
    let built = build(&terms.commitment_terms(owner), &keys, number, &spec).map_err(|e| e.to_string())?;
    let digests = built.htlc_sighashes();
    if digests.len() != htlc_signatures.len() {
        return Err(format!("{} signatures for {} HTLCs", htlc_signatures.len(), digests.len()));
    }
    let mut jobs =
        vec![VerifyJob { digest: built.sighash(), signature: *signature, key: other.funding_pubkey }];
    let key = built.keys().other_htlc;
    jobs.extend(digests.into_iter().zip(htlc_signatures).map(|(digest, s)| VerifyJob {
        digest,
        signature: *s,
        key,
    }));
    if !crypto.verify_batch(&jobs) {
        return Err("a signature is for something else than the ledger says".into());
    }
    Ok(SignedOne { txid: built.tx.compute_txid(), feerate: spec.feerate })
}

/// A node gives a commitment of its own up: it is what the peer signed.
///
/// # Errors
/// It is not.
pub fn given_up(
    world: &mut World,
    seat: usize,
    channel: ChannelId,
    number: u64,
    tx: &Transaction,
) -> Result<(), Verdict> {
    let name = world.seats[seat].name;
    let txid = tx.compute_txid();
    match world.judges.signed.get(&(channel, seat, number)) {
        Some(signed) if signed.txid == txid => {}
        // The first ones are signed when the channel opens; after some lies not every number is known (see `said`).
        None if number == 0 || world.may_fail() => {}
        // What a cheat signs once it is back is not filed.
        Some(_) if world.feud.returned => {}
        Some(_) => {
            let words = format!("{name}'s commitment {number} is not the one that its peer signed");
            return Err(Verdict::new("agree", words));
        }
        None => {
            let words = format!("{name} holds a commitment {number} that its peer never signed");
            return Err(Verdict::new("agree", words));
        }
    }
    if world.knobs.signing == Signing::Real {
        let terms = world.seats[seat].node().and_then(|n| n.channel(&channel)).map(|c| c.terms.clone());
        if let Some(terms) = terms {
            let keys = [&terms.local.basepoints.funding_pubkey, &terms.remote.basepoints.funding_pubkey];
            let value = Amount::from_sat(terms.capacity.0);
            let script_pubkey = script::p2wsh(&script::funding(keys[0], keys[1]));
            consensus(tx, &[TxOut { value, script_pubkey }])
                .map_err(|e| Verdict::new("agree", format!("{name}'s commitment {number}: {e}")))?;
        }
    }
    Ok(())
}

/// All is quiet: both hold the same money and the same two commitments.
///
/// # Errors
/// They do not.
pub fn quiet(world: &World, id: ChannelId) -> Result<(), Verdict> {
    let found = |seat: usize| world.seats[seat].node().and_then(|n| n.channel(&id));
    let (Some(alice), Some(bob)) = (found(0), found(1)) else { return Ok(()) };
    let wrong = |words: String| Err(Verdict::new("agree", words));
    for (mine, theirs, name) in [(alice, bob, "Alice"), (bob, alice, "Bob")] {
        if mine.commits.local_number != theirs.commits.remote_number || mine.commits.awaiting_revoke {
            let (ours, seen) = (mine.commits.local_number, theirs.commits.remote_number);
            return wrong(format!(
                "{name} is at commitment {ours}, its peer believes {seen}, and all is quiet"
            ));
        }
        let ours = mine.ledger.spec(View::Signed(Side::Local), mine.terms.opener);
        let seen = theirs.ledger.spec(View::Signed(Side::Remote), theirs.terms.opener);
        let (Some(mut ours), Some(mut seen)) = (ours, seen) else {
            return wrong(format!("{name}: a balance is negative"));
        };
        // The two name an HTLC's side from where they stand.
        ours.htlcs.iter_mut().for_each(|h| h.id.offered_by = h.id.offered_by.other());
        ours.htlcs.sort_by_key(|h| h.id);
        seen.htlcs.sort_by_key(|h| h.id);
        if ours != seen {
            return wrong(format!("{name}'s commitment is {ours:?}, its peer believes {seen:?}"));
        }
    }
    Ok(())
}
