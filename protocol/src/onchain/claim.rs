//! Outputs gathered into transactions that take them, raised in fee as their deadline comes near.
//!
//! In: a watch, the height, feerates. Out: transactions, and claims that remember what may be in a mempool. Called at every
//! block: claims that somebody else beat are dropped, what is ripe and in none gets one, the rest are raised when due.
//! What can be contested is kept apart from what cannot; `split` takes a batch apart that would come too late.
//! Transactions here pay their own fee; those that need the wallet are in `bump`. Read next: `split`, `bump`, `follow`.

use super::split::{split_batches, ALONE_BLOCKS};
use super::unlock::{Class, Way};
use super::{Output, Watch};
use crate::channel::{Channel, Context, Out};
use crate::fault::LocalFault;
use crate::node::effect::Level;
use crate::tx::amount;
use crate::units::{Feerate, Height, Sat};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid, Witness};
use serde::{Deserialize, Serialize};

/// The most inputs of one transaction: far below the weight that relays.
const MAX_INPUTS: usize = 100;
/// From so many blocks before its deadline on, a claim is raised at every block.
const HURRY_BLOCKS: u32 = 6;
/// From so many on, at every second one.
const CARE_BLOCKS: u32 = 18;
/// A claim that rests asks again after so many blocks, whatever feerates do.
const REST_BLOCKS: u32 = 6;
/// So many versions may be refused one after the other; each pays a quarter more than the one before.
const MAX_RUSH: u8 = 80;
/// The weight of an input without its witness.
const INPUT_WEIGHT: u64 = 164;

/// How a claim is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Form {
    /// From outputs that we can sign for alone; pays for itself.
    Sweep,
    /// An HTLC transaction without anchors, as the peer signed it: its fee is fixed.
    HtlcAlone,
    /// HTLC transactions with anchors, with coins of the wallet for the fee.
    HtlcFunded,
    /// A child of our unconfirmed commitment, which pays for both.
    Child,
    /// As `HtlcFunded`, and time alone does not take it apart: the wallet has not enough coins for each.
    HtlcTogether,
}

/// A transaction of ours, and its versions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Its number in the watch.
    pub number: u32,
    /// How it is made.
    pub form: Form,
    /// What it takes.
    pub inputs: Vec<OutPoint>,
    /// Its lock time; 0 for none.
    pub lock_time: Height,
    /// The newest version; `None` until the wallet has given coins.
    pub tx: Option<Transaction>,
    /// What it pays for.
    pub feerate: Feerate,
    /// Its fee, where all inputs are the channel's.
    pub fee: Sat,
    /// All versions that may have left.
    pub txids: Vec<Txid>,
    /// It shows a preimage, which must be kept before.
    pub reveals: bool,
    /// What it shows and spends is on disk for sure: it was read from there, or left before. It then waits for no write.
    #[serde(skip, default = "yes")]
    pub kept: bool,
    /// The tip when the wallet was last asked for coins; an order is lost with the process that gave it, so this is not kept.
    #[serde(skip)]
    pub asked: Option<Height>,
    /// For how many more transactions the wallet had coins at its last answer.
    #[serde(skip)]
    pub spare_coins: u32,
    /// It has not answered yet: a second order would get other coins, for a rival of the first.
    #[serde(skip)]
    pub waits: bool,
    /// Its fee would be more than it is worth, as the wallet said last.
    #[serde(skip)]
    pub rests: Option<Rest>,
    /// The tip when the newest version was made.
    pub last: Height,
    /// How often in a row the network refused it.
    pub refusals: u8,
}

const fn yes() -> bool {
    true
}

/// A claim that costs more than it is worth, and the feerates of that moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rest {
    /// What it would cost at least.
    pub least: Sat,
    normal: Feerate,
    urgent: Feerate,
    minimum: Feerate,
    since: Height,
}

impl Rest {
    pub(super) fn new(least: Sat, cx: &Context<'_>) -> Rest {
        let (normal, urgent, minimum) = (cx.feerate_normal, cx.feerate_urgent, cx.feerate_minimum);
        Rest { least, normal, urgent, minimum, since: cx.tip }
    }

    /// The wallet got something: it asks again at the next occasion.
    pub(crate) fn wake(&mut self) {
        self.since = Height(0);
    }

    /// Feerates fell; or the wallet may have coins by now that weigh less.
    fn is_over(&self, cx: &Context<'_>) -> bool {
        cx.feerate_normal < self.normal
            || cx.feerate_urgent < self.urgent
            || cx.feerate_minimum < self.minimum
            || cx.tip.since(self.since) >= REST_BLOCKS
    }
}

impl Claim {
    /// Every input is there, and not all of them are spent.
    pub(crate) fn is_active(&self, watch: &Watch) -> bool {
        let outputs: Vec<&Output> = self.inputs.iter().filter_map(|i| watch.output(i)).collect();
        let there = self.form == Form::Child || outputs.iter().all(|o| o.born.is_some());
        outputs.len() == self.inputs.len() && there && outputs.iter().any(|o| o.spent.is_none())
    }

    /// Some of its inputs are gone, and not all of them by versions of it: the others need another transaction.
    fn is_lost(&self, watch: &Watch) -> bool {
        let all = |f: &dyn Fn(&Output) -> bool| self.inputs.iter().all(|i| watch.output(i).is_some_and(f));
        let taken = |o: &Output| o.spent.is_some_and(|s| self.txids.contains(&s.txid));
        !all(&|o| o.spent.is_none()) && !all(&taken)
    }

    /// Its newest version takes its inputs, no more and no less.
    pub(super) fn is_current(&self, watch: &Watch) -> bool {
        let Some(tx) = &self.tx else { return false };
        let takes = tx.input.iter().map(|i| i.previous_output).filter(|i| watch.output(i).is_some());
        takes.eq(self.inputs.iter().copied())
    }

    /// Whether the wallet may be asked for coins now.
    pub(super) fn may_ask(&self, cx: &Context<'_>) -> bool {
        !self.waits && self.asked != Some(cx.tip) && self.rests.is_none_or(|rest| rest.is_over(cx))
    }

    /// Whether it wants coins of the wallet.
    pub(crate) const fn is_funded(&self) -> bool {
        self.is_htlcs() || matches!(self.form, Form::Child)
    }

    /// Whether it is made of HTLC transactions with coins of the wallet.
    pub(super) const fn is_htlcs(&self) -> bool {
        matches!(self.form, Form::HtlcFunded | Form::HtlcTogether)
    }

    pub(super) const fn why(&self) -> &'static str {
        match self.form {
            Form::Sweep => "claim",
            Form::HtlcAlone | Form::HtlcFunded | Form::HtlcTogether => "HTLC transaction",
            Form::Child => "fee bump of the commitment",
        }
    }
}

/// What is ripe, by output.
pub(crate) type Ways = BTreeMap<OutPoint, Way>;

/// The feerate for something that has to be mined within `left` blocks.
pub(super) fn target(cx: &Context<'_>, left: Option<u32>) -> Feerate {
    let (normal, urgent) = (cx.feerate_normal, cx.feerate_urgent.max(cx.feerate_normal));
    match left {
        Some(left) if left <= CARE_BLOCKS => urgent,
        _ => normal,
    }
}

/// The next feerate of a claim, when it is due to be raised.
pub(super) fn raised(claim: &Claim, left: Option<u32>, cx: &Context<'_>) -> Option<Feerate> {
    if !cx.at_tip {
        return None;
    }
    // BOLT 5 [5.fail.6].
    let (wanted, now) = (target(cx, left), claim.feerate);
    let age = cx.tip.since(claim.last);
    let pressed = match left {
        Some(left) if left <= HURRY_BLOCKS => age >= 1,
        Some(left) if left <= CARE_BLOCKS => age >= 2,
        _ => false,
    };
    let step = Feerate(now.0.saturating_add(now.0 / 4).saturating_add(1));
    let short = claim.refusals > 0 && cx.feerate_minimum > now;
    if pressed || short || (claim.refusals > 0 && age >= 1) {
        return Some(wanted.max(step).max(cx.feerate_minimum));
    }
    (wanted >= step).then_some(wanted)
}

impl Channel {
    /// Works out what is to be claimed now, and puts it out. Call it when a block came, or when something became known.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub(crate) fn plan(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let Some(mut watch) = self.watch.take() else { return Ok(()) };
        let before = watch.clone();
        let done = self.plan_watch(&mut watch, cx, out);
        self.dirty.watch |= watch != before;
        self.watch = Some(watch);
        done
    }

    /// The network refused this version for its fee. With little time left the next one does not wait for a block: a cheat's
    /// own sweep may be in the way, and be mined in the next.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub(crate) fn outbid(&mut self, txid: &Txid, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let Some(at) = watch.claims.iter().position(|c| c.txids.last() == Some(txid)) else { return Ok(()) };
        let ways = self.ways(watch, cx)?;
        let Some(claim) = watch.claims.get(at).filter(|c| c.refusals < MAX_RUSH) else { return Ok(()) };
        let left = match claim.form {
            Form::Sweep => left(claim, &ways, cx),
            _ => super::bump::left(watch, claim, cx),
        };
        if left.is_none_or(|left| left > HURRY_BLOCKS) {
            return Ok(());
        }
        if let Some(claim) = self.watch.as_mut().and_then(|watch| watch.claims.get_mut(at)) {
            (claim.last, claim.asked) = (Height(0), None);
        }
        self.dirty.watch = true;
        self.plan(cx, out)
    }

    fn plan_watch(&self, watch: &mut Watch, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        // BOLT 5 [5.watch.2].
        drop_lost(watch, out);
        let ways = self.ways(watch, cx)?;
        plan_sweeps(watch, &ways, cx, out);
        self.plan_htlcs(watch, cx, out)?;
        self.plan_child(watch, cx, out);
        for claim in watch.claims.iter().filter(|c| c.is_active(watch)) {
            let Some(tx) = &claim.tx else { continue };
            if (claim.reveals || claim.is_funded()) && !claim.kept {
                out.publish.push((tx.clone(), claim.why()));
            } else {
                out.claims.push((tx.clone(), claim.why()));
            }
        }
        Ok(())
    }

    /// Everything that the next block may hold a spend of ours of.
    fn ways(&self, watch: &Watch, cx: &Context<'_>) -> Result<Ways, LocalFault> {
        let keys = self.watch_keys(watch, cx)?;
        let mut ways = Ways::new();
        for output in watch.outputs.iter().filter(|o| o.spent.is_none()) {
            if let Some(way) = self.way(watch, keys.as_ref(), output, cx)? {
                if way.ripe <= cx.tip.plus(1) {
                    ways.insert(output.outpoint, way);
                }
            }
        }
        Ok(ways)
    }
}

/// Claims from outputs that our signature alone takes: batches split in time, old ones raised, new ones made.
pub(crate) fn plan_sweeps(watch: &mut Watch, ways: &Ways, cx: &Context<'_>, out: &mut Out) {
    split_batches(watch, ways, cx, out);
    for at in 0..watch.claims.len() {
        raise_sweep(watch, at, ways, cx);
    }
    new_sweeps(watch, ways, cx, out);
}

fn new_sweeps(watch: &mut Watch, ways: &Ways, cx: &Context<'_>, out: &mut Out) {
    let taken = in_claims(watch);
    let mut groups: BTreeMap<(Class, Height), Vec<OutPoint>> = BTreeMap::new();
    for (outpoint, way) in ways.iter().filter(|(o, _)| !taken.contains(*o)) {
        if watch.output(outpoint).is_some_and(|o| is_worth(o, way, cx)) {
            groups.entry((way.class, way.lock_time)).or_default().push(*outpoint);
        }
    }
    for ((class, lock_time), all) in groups {
        let hurried = |i: &OutPoint| ways.get(i).is_some_and(|way| is_late(way, cx));
        let (alone, rest): (Vec<OutPoint>, Vec<OutPoint>) = all.into_iter().partition(hurried);
        for inputs in rest.chunks(MAX_INPUTS).chain(alone.chunks(1)) {
            let claim = Claim {
                number: watch.next_claim,
                form: Form::Sweep,
                inputs: inputs.to_vec(),
                lock_time,
                tx: None,
                feerate: Feerate(0),
                fee: Sat::ZERO,
                txids: Vec::new(),
                reveals: class == Class::Success,
                kept: false,
                asked: None,
                spare_coins: 0,
                waits: false,
                rests: None,
                last: cx.tip,
                refusals: 0,
            };
            let feerate = target(cx, left(&claim, ways, cx));
            if let Some(claim) = sweep(watch, claim, feerate, ways, cx) {
                let total: u64 = inputs.iter().filter_map(|i| watch.output(i)).map(|o| o.amount.0).sum();
                let text = format!(
                    "{} of {} outputs, {}, in {}",
                    describe(class),
                    inputs.len(),
                    Sat(total),
                    claim.txids.last().map(ToString::to_string).unwrap_or_default()
                );
                out.notice(Level::Info, text);
                watch.next_claim = watch.next_claim.saturating_add(1);
                watch.claims.push(claim);
            }
        }
    }
}

fn raise_sweep(watch: &mut Watch, at: usize, ways: &Ways, cx: &Context<'_>) {
    let Some(claim) = watch.claims.get(at) else { return };
    if claim.form != Form::Sweep || !claim.is_active(watch) {
        return;
    }
    let due = match claim.tx {
        Some(_) => raised(claim, left(claim, ways, cx), cx),
        None => Some(target(cx, left(claim, ways, cx)).max(claim.feerate)),
    };
    let Some(feerate) = due else { return };
    if let Some(better) = sweep(watch, claim.clone(), feerate, ways, cx) {
        if let Some(slot) = watch.claims.get_mut(at) {
            *slot = better;
        }
    }
}

/// Makes the next version of a sweep; `None` when the outputs cannot pay for it.
fn sweep(watch: &Watch, mut claim: Claim, feerate: Feerate, ways: &Ways, cx: &Context<'_>) -> Option<Claim> {
    let inputs: Option<Vec<(&Output, &Way)>> =
        claim.inputs.iter().map(|i| Some((watch.output(i)?, ways.get(i)?))).collect();
    let inputs = inputs.filter(|i| !i.is_empty())?;
    let total = inputs.iter().try_fold(Sat::ZERO, |sum, (o, _)| sum.checked_add(o.amount))?;
    let mut tx = unsigned(&inputs, claim.lock_time, cx.close_script);
    let witnesses: u64 = inputs.iter().map(|(_, way)| way.witness_weight()).sum();
    let weight = (tx.base_size() as u64).saturating_mul(4).saturating_add(2).saturating_add(witnesses);
    let dust = smallest_output(cx);
    let most = most_fee(total, dust, &inputs, cx)?;
    let wanted = feerate.fee(weight).saturating_add(Sat(1));
    // A replacement pays for its own way once more: 1 sat for each vbyte (BIP 125, rule 4).
    let replacing = claim.fee.saturating_add(Sat(weight.div_ceil(4)));
    let replaces = claim.fee > Sat::ZERO;
    let relayed = cx.feerate_minimum.max(Feerate::FLOOR).relay_fee(weight);
    let least = if replaces { replacing.max(relayed) } else { relayed };
    if least > most {
        return None;
    }
    let fee = wanted.max(least).min(most);
    tx.output.first_mut()?.value = amount(total.checked_sub(fee)?);
    let signed: Option<Vec<Witness>> =
        inputs.iter().enumerate().map(|(i, (output, way))| way.witness(&tx, i, output, cx)).collect();
    for (input, witness) in tx.input.iter_mut().zip(signed?) {
        input.witness = witness;
    }
    claim.txids.push(tx.compute_txid());
    let paid = u32::try_from(fee.0.saturating_mul(1_000) / weight.max(1)).unwrap_or(u32::MAX);
    (claim.feerate, claim.fee, claim.last) = (Feerate(paid), fee, cx.tip);
    claim.tx = Some(tx);
    Some(claim)
}

/// What an output to our wallet must hold to be relayed.
fn smallest_output(cx: &Context<'_>) -> Sat {
    Sat(cx.close_script.minimal_non_dust().to_sat().saturating_mul(cx.dust_factor))
}

/// So little time is left that it is claimed alone.
fn is_late(way: &Way, cx: &Context<'_>) -> bool {
    way.deadline.is_some_and(|deadline| deadline.since(cx.tip) < ALONE_BLOCKS)
}

/// How many blocks are left until somebody else can take the first of the inputs.
pub(super) fn left(claim: &Claim, ways: &Ways, cx: &Context<'_>) -> Option<u32> {
    let deadline = claim.inputs.iter().filter_map(|i| ways.get(i)?.deadline).min()?;
    Some(deadline.since(cx.tip))
}

/// An output that costs more to take than it holds is left, until feerates fall.
fn is_worth(output: &Output, way: &Way, cx: &Context<'_>) -> bool {
    let weight = INPUT_WEIGHT + way.witness_weight();
    let feerate = if way.class == Class::Sweep { cx.feerate_normal } else { cx.feerate_minimum };
    output.amount > feerate.fee(weight)
}

/// A cheat's output that can pay for a transaction of its own at what mempools ask for, and leave an output.
pub(crate) fn is_worth_alone(output: &Output, way: &Way, cx: &Context<'_>) -> bool {
    let base = unsigned(&[(output, way)], Height(0), cx.close_script).base_size() as u64;
    let weight = base.saturating_mul(4).saturating_add(2).saturating_add(way.witness_weight());
    let dust = smallest_output(cx);
    let fee = cx.feerate_minimum.max(Feerate::FLOOR).relay_fee(weight);
    output.amount >= fee.saturating_add(dust)
}

/// The most that taking these may cost: a cheat gets nothing, so that his outputs may go to fees whole; of our own
/// money at most half, unless it would be lost otherwise.
fn most_fee(total: Sat, dust: Sat, inputs: &[(&Output, &Way)], cx: &Context<'_>) -> Option<Sat> {
    let all = total.checked_sub(dust)?;
    let penal = inputs.iter().all(|(_, way)| matches!(way.class, Class::Penalty | Class::PenaltyHtlc));
    let hurry = inputs.iter().any(|(_, way)| way.deadline.is_some_and(|d| d.since(cx.tip) <= HURRY_BLOCKS));
    Some(if penal || hurry { all } else { all.min(Sat(total.0 / 2)) })
}

fn unsigned(inputs: &[(&Output, &Way)], lock_time: Height, to: &ScriptBuf) -> Transaction {
    let input = |(output, way): &(&Output, &Way)| TxIn {
        previous_output: output.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: way.sequence,
        witness: Witness::new(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(lock_time.0),
        input: inputs.iter().map(input).collect(),
        output: [TxOut { value: amount(Sat::ZERO), script_pubkey: to.clone() }].into(),
    }
}

/// What is in a claim that may still be mined.
pub(super) fn in_claims(watch: &Watch) -> BTreeSet<OutPoint> {
    watch.claims.iter().filter(|c| c.is_active(watch)).flat_map(|c| c.inputs.iter().copied()).collect()
}

/// Claims that somebody beat are made anew from what is left; their coins are free.
pub(crate) fn drop_lost(watch: &mut Watch, out: &mut Out) {
    // BOLT 5 [5.revoked.9].
    let claims = core::mem::take(&mut watch.claims);
    let (lost, kept): (Vec<Claim>, Vec<Claim>) = claims.into_iter().partition(|c| c.is_lost(watch));
    watch.claims = kept;
    for claim in lost.iter().filter(|c| c.is_funded()) {
        out.unreserve.extend(claim.tx.as_ref().map(Transaction::compute_txid));
    }
    // A second-level transaction left the chain, and what it made went with it: no version may count in the wallet.
    let gone = |claim: &&Claim| claim.inputs.iter().any(|input| watch.output(input).is_none());
    out.unreserve.extend(lost.iter().filter(gone).flat_map(|c| c.txids.iter().copied()));
}

const fn describe(class: Class) -> &'static str {
    match class {
        Class::Sweep => "taking our own",
        Class::Penalty | Class::PenaltyHtlc => "PENALTY: taking all",
        Class::Success => "taking by the secret",
        Class::Timeout => "taking back after the deadline",
    }
}
