//! A batch is taken apart when one of its outputs may hold up the others: the network keeps refusing it, or time runs out.
//!
//! In: the claims of a watch, and how many blocks each has left. Out: claims of one output each in place of a batch. All
//! that goes in one transaction is stopped by one rival: a spend of a single output that our node never saw, and that
//! miners prefer, keeps all of a batch out of their blocks.
//! HTLC transactions need a coin of the wallet each: where it has fewer, some stay together.
//! Nothing here is remembered beside the claims, so that a restart goes on where it was. Read next: `bump`.

use super::bump::{self, MAX_HTLCS};
use super::claim::{self, Claim, Form, Ways};
use super::Watch;
use crate::channel::{Context, Out};
use crate::node::effect::Level;
use crate::units::Sat;
use alloc::format;
use alloc::vec::Vec;
use bitcoin::OutPoint;
use core::cmp::Reverse;

/// Refusals in a row after which a batch is split.
const PATIENCE: u8 = 2;
/// With fewer blocks left before somebody else may take an output, it is in no batch.
pub(super) const ALONE_BLOCKS: u32 = 6;
/// What the first single transaction must hold beyond the fee of the batch whose place it takes.
const SLACK: Sat = Sat(1_000);

/// Why a batch is taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The network does not take it.
    Refused,
    /// The network took it, no block holds it, and few blocks are left.
    Late,
}

/// Takes apart what is to be; in place of each such batch stand claims of its outputs.
pub(super) fn split_batches(watch: &mut Watch, ways: &Ways, cx: &Context<'_>, out: &mut Out) {
    // BOLT 5 [5.revoked.8].
    for batch in core::mem::take(&mut watch.claims) {
        let Some(why) = why_apart(&batch, watch, ways, cx) else {
            watch.claims.push(batch);
            continue;
        };
        let words = match why {
            Why::Refused => "it was refused again and again",
            Why::Late => "no block holds it and time runs out",
        };
        let (count, parts) = (batch.inputs.len(), 1 + singles(&batch, why));
        out.notice(Level::Info, format!("a claim of {count} outputs becomes {parts}: {words}"));
        take_apart(watch, &batch, why);
    }
}

fn why_apart(batch: &Claim, watch: &Watch, ways: &Ways, cx: &Context<'_>) -> Option<Why> {
    let may = batch.form == Form::Sweep || batch.is_htlcs();
    if !may || batch.inputs.len() < 2 || batch.tx.is_none() || !batch.is_active(watch) {
        return None;
    }
    if batch.refusals >= PATIENCE {
        return Some(Why::Refused);
    }
    let left = if batch.is_funded() { bump::left(watch, batch, cx) } else { claim::left(batch, ways, cx) };
    let late = left.is_some_and(|left| left < ALONE_BLOCKS) && cx.tip.since(batch.last) >= 1;
    let whole = batch.form != Form::HtlcTogether && batch.is_current(watch);
    (late && whole && can_replace(batch, watch)).then_some(Why::Late)
}

/// How many outputs leave the batch; the others go on with what it has.
fn singles(batch: &Claim, why: Why) -> usize {
    let all = batch.inputs.len().saturating_sub(1);
    // What is refused may come alone or not at all; what merely waits must not wait for coins instead.
    if batch.is_htlcs() && why == Why::Late {
        return all.min(batch.spare_coins as usize);
    }
    all
}

/// There is something to gain, and what goes on with the batch can pay for taking its place in mempools, as relay asks
/// (BIP 125, rule 3): else nothing of it would be taken.
fn can_replace(batch: &Claim, watch: &Watch) -> bool {
    let weight = batch.tx.as_ref().map_or(0, |tx| tx.weight().to_wu());
    let paid = batch.fee.max(batch.feerate.fee(weight));
    let (heir, singles) = parts(batch, watch, Why::Late);
    let held = heir
        .iter()
        .filter_map(|input| watch.output(input))
        .fold(Sat::ZERO, |sum, output| sum.saturating_add(output.amount));
    !singles.is_empty() && held > paid.saturating_add(SLACK)
}

/// What goes on with the batch, the largest output at least; and what leaves it.
fn parts(batch: &Claim, watch: &Watch, why: Why) -> (Vec<OutPoint>, Vec<OutPoint>) {
    let mut heir = largest_first(batch, watch);
    let last = singles(batch, why).saturating_add(1).min(heir.len());
    let singles = heir.drain(1.min(last)..last).collect();
    (heir, singles)
}

fn largest_first(batch: &Claim, watch: &Watch) -> Vec<OutPoint> {
    let mut inputs = batch.inputs.clone();
    inputs.sort_by_key(|input| Reverse(watch.output(input).map(|output| output.amount)));
    inputs
}

/// The heir comes first: it takes the place of the batch in mempools, and makes room for the others.
fn take_apart(watch: &mut Watch, batch: &Claim, why: Why) {
    let (heir, singles) = parts(batch, watch, why);
    let singles = singles.into_iter().map(|single| Vec::from([single]));
    for (at, inputs) in core::iter::once(heir).chain(singles).enumerate() {
        let (heir, funded) = (at == 0, batch.is_htlcs());
        let part = Claim {
            number: watch.next_claim,
            form: if funded { Form::HtlcFunded } else { batch.form },
            inputs,
            // The wallet takes the coins of the batch for it.
            tx: batch.tx.clone().filter(|_| heir && funded),
            fee: if heir && why == Why::Late { batch.fee } else { Sat::ZERO },
            asked: None,
            waits: false,
            rests: None,
            spare_coins: 0,
            refusals: 0,
            // Versions of the batch are still ours, should one be mined.
            ..batch.clone()
        };
        watch.next_claim = watch.next_claim.saturating_add(1);
        watch.claims.push(part);
    }
}

/// The wallet has no coins for HTLC transactions of their own: they share those of a sibling. `false` when there is none.
pub(super) fn join(watch: &mut Watch, number: u32) -> bool {
    let Some(at) = watch.claims.iter().position(|c| c.number == number) else { return false };
    let Some(lone) = watch.claims.get(at).filter(|c| c.is_htlcs() && c.tx.is_none()).cloned() else {
        return false;
    };
    let home = watch.claims.iter().position(|c| {
        let fits = c.inputs.len() + lone.inputs.len() <= MAX_HTLCS;
        c.is_htlcs() && c.tx.is_some() && fits && c.lock_time == lone.lock_time && c.is_active(watch)
    });
    let Some(home) = home.and_then(|home| watch.claims.get_mut(home)) else { return false };
    home.inputs.extend(lone.inputs);
    (home.form, home.asked, home.rests) = (Form::HtlcTogether, None, None);
    watch.claims.remove(at);
    true
}

/// The wallet was asked for coins that a claim has not got yet.
pub(super) fn waits_for_coins(watch: &Watch) -> bool {
    watch.claims.iter().any(|c| c.is_htlcs() && c.tx.is_none() && c.waits)
}
