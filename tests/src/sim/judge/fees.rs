//! `fees`: a claim pays no more than is promised, and a raised version enough to take the place of the one before.
//!
//! In: transactions of an honest node, when they are offered first, and what the chain said of them. Out: why one pays too
//! much, or was raised for nothing. The promises: of its own money a node gives at most half, unless a deadline is six
//! blocks away, and at first no more than the feerates it was told; it is raised as blocks come and not faster; a cheat's
//! money may all go; what takes coins of the wallet costs no more than what it is for (docs/decisions/claims-from-the-chain.md). Read next: `late`.

use crate::sim::feud::Versions;
use crate::sim::world::World;
use bitcoin::{Transaction, TxOut};
use chand_protocol::channel::Channel;
use chand_protocol::id::Side;
use chand_protocol::onchain::claim::{Claim, Form};
use chand_protocol::onchain::{Kind, Standing, Watch};

/// Blocks before a deadline from which on all may be paid.
const HURRY_BLOCKS: u32 = 6;
/// What a fee may be higher than its feerate says, in percent: signatures may be shorter than reckoned with.
const ROUNDING_PERCENT: u64 = 5;

/// The claim of a seat's that this transaction is a version of.
fn claim<'a>(world: &'a World, seat: usize, tx: &Transaction) -> Option<(&'a Channel, &'a Watch, &'a Claim)> {
    let txid = tx.compute_txid();
    world.seats[seat].node()?.channels().find_map(|channel| {
        let watch = channel.watch.as_ref()?;
        let claim = watch.claims.iter().find(|c| c.txids.contains(&txid))?;
        Some((channel, watch, claim))
    })
}

/// A transaction that spends these is offered for the first time.
///
/// # Errors
/// It pays too much.
pub fn offered(world: &World, seat: usize, tx: &Transaction, spent: &[TxOut]) -> Result<(), String> {
    let Some((channel, watch, claim)) = claim(world, seat, tx) else { return Ok(()) };
    let sum = |outputs: &[TxOut]| outputs.iter().map(|o| o.value.to_sat()).sum::<u64>();
    let fee = sum(spent).saturating_sub(sum(&tx.output));
    let most = match claim.form {
        // As the peer signed it.
        Form::HtlcAlone => return Ok(()),
        Form::HtlcFunded | Form::HtlcTogether => sum(&spent[..claim.inputs.len().min(spent.len())]),
        Form::Child => {
            let stake: u64 = watch.outputs.iter().filter_map(|o| o.lock.as_ref()).map(|l| l.amount.0).sum();
            (stake / 1_000).max(channel.to_us().0 / 10_000)
        }
        Form::Sweep if is_free(world, watch, claim) => sum(spent),
        Form::Sweep => sum(spent) / 2,
    };
    if fee > most {
        return Err(format!("a {:?} pays {fee} of {} where {most} are the most", claim.form, sum(spent)));
    }
    if claim.txids.len() == 1 && claim.form != Form::Child {
        let usual = u64::from(world.feud.highest_estimate) * tx.weight().to_wu() / 1_000;
        let most = usual + usual * ROUNDING_PERCENT / 100 + tx.input.len() as u64 + 2;
        if fee > most {
            return Err(format!("a {:?} begins with a fee of {fee}, where feerates say {most}", claim.form));
        }
    }
    Ok(())
}

/// One more version of a claim: nobody could take more of them than there were blocks, so no more are made. Each block has
/// room for one that is raised and one that was made anew, each feerate told for one more; a program that begins again may have lost its last one.
///
/// # Errors
/// There are more.
pub fn counted(world: &mut World, seat: usize, tx: &Transaction) -> Result<(), String> {
    let Some((channel, _, claim)) = claim(world, seat, tx) else { return Ok(()) };
    let key = (seat, channel.id(), claim.number);
    let (mined, lives, told) = (world.feud.mined, world.seats[seat].lives, world.feud.told);
    let versions = world.feud.versions.entry(key).or_insert(Versions { mined, lives, told, count: 0 });
    versions.count += 1;
    let (blocks, starts, count) = (mined - versions.mined, lives - versions.lives, versions.count);
    if u64::from(count) > u64::from(2 * blocks + 3 + told - versions.told) + 2 * starts {
        return Err(format!("a claim has {count} versions after {blocks} blocks and {starts} starts"));
    }
    Ok(())
}

/// Fees may take all: it is a cheat's, or would be lost otherwise.
fn is_free(world: &World, watch: &Watch, claim: &Claim) -> bool {
    let mut outputs = claim.inputs.iter().filter_map(|i| watch.output(i));
    let cheat = watch.owner == Side::Remote && watch.standing == Standing::Revoked;
    if cheat && outputs.clone().all(|o| o.kind != Kind::ToRemote) {
        return true;
    }
    // Before a reorganisation the tip may have been higher.
    outputs.any(|o| {
        let theirs = o.lock.as_ref().filter(|l| o.kind == Kind::Htlc && l.id.offered_by == Side::Remote);
        theirs.is_some_and(|l| l.cltv_expiry.0.saturating_sub(world.feud.top) <= HURRY_BLOCKS)
    })
}

/// The mempool held this and not that, when a new version was refused.
///
/// # Errors
/// What stood in its way were only earlier versions of it.
pub fn refused(world: &World, seat: usize, tx: &Transaction, why: &str) -> Result<(), String> {
    if !why.contains("insufficient fee to replace") {
        return Ok(());
    }
    let Some((_, _, claim)) = claim(world, seat, tx) else { return Ok(()) };
    let clash = |other: &&Transaction| {
        other.input.iter().any(|i| tx.input.iter().any(|mine| mine.previous_output == i.previous_output))
    };
    let mut rivals = world.chain.mempool.iter().filter(clash);
    // A batch that was split left its versions to each of its parts: they were for more than this one.
    let same = |other: &Transaction| {
        claim.txids.contains(&other.compute_txid())
            && other.input.len() == tx.input.len()
            && claim.inputs.iter().eq(other.input.iter().take(claim.inputs.len()).map(|i| &i.previous_output))
    };
    if rivals.all(same) {
        return Err(format!("a {:?} was raised by too little: {why}", claim.form));
    }
    Ok(())
}
