//! `money`, of the chain: what each ends with of a channel that was closed by force.
//!
//! In: the chain, which is read from its first block, and the books of both nodes. Out: a verdict: an honest node has less
//! than its newest state gave it, fees apart; a cheat has something of the channel; a payment's secret is known to one
//! side only. What a channel's transactions paid to whom is counted here from their bytes alone; whose a commitment is
//! and whether it was given up is known from who published it first and from what was revealed. Read next: `marks`.

use super::Verdict;
use crate::sim::world::World;
use bitcoin::{OutPoint, Transaction};
use chand_protocol::channel::htlc::{Htlc, Removal};
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, Side};
use chand_protocol::node::effect::Input;
use chand_protocol::node::view::Pay;
use chand_protocol::node::Node;
use chand_protocol::onchain::{Kind, Output, Standing};
use chand_protocol::tx::commitment::commitment_number;
use std::collections::BTreeMap;

/// Outputs below this may cost more to take than they hold, in satoshis.
pub const SMALL_SAT: u64 = 1_000;
/// From this on an output is taken at the feerates of the end of a run, coins of the wallet included, in satoshis.
const WORTH_SAT: u64 = 750;
/// Both anchors.
const ANCHORS_SAT: u64 = 660;
/// What a transaction that takes an HTLC weighs at most, with a coin of the wallet and its change.
pub const CLAIM_WEIGHT: u64 = 1_400;
/// The highest feerate of an opening, per 1,000 weight units.
const USUAL_FEERATE: u32 = 2_500;

/// What became of a funding output.
#[derive(Default)]
pub struct Estate {
    /// What spent it.
    pub first: Option<Transaction>,
    /// What that paid to miners, trimmed HTLCs included.
    pub first_fee: u64,
    /// To each seat's wallet, less what that put in.
    pub gain: [i64; 2],
    /// Fees of the transactions after the first that paid to a seat or took from it.
    pub fees: [u64; 2],
    /// Outputs that nobody took and that are too small to be worth it.
    pub small: u64,
    /// All others that nobody took.
    pub left: BTreeMap<OutPoint, u64>,
}

impl std::fmt::Debug for Estate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let txid = self.first.as_ref().map(Transaction::compute_txid);
        let Estate { first_fee, gain, fees, small, left, .. } = self;
        write!(f, "{txid:?} fee {first_fee}, gain {gain:?}, fees {fees:?}, small {small}, left {left:?}")
    }
}

/// Follows the money of a channel through the chain.
pub fn follow(world: &World, channel: &Channel) -> Estate {
    let mut out = Estate::default();
    let mut ours = BTreeMap::from([(channel.terms.funding, channel.terms.capacity.0)]);
    let wallet =
        |script: &bitcoin::ScriptBuf| world.seats.iter().position(|seat| seat.wallet.script == *script);
    let blocks = world.chain.blocks.iter().flat_map(|b| b.txs.iter());
    for tx in blocks {
        if !tx.input.iter().any(|i| ours.contains_key(&i.previous_output)) {
            continue;
        }
        let (mut held, mut part) = (0, [false; 2]);
        for input in &tx.input {
            let value = match ours.remove(&input.previous_output) {
                Some(value) => value,
                None => {
                    let coin = world.chain.made(&input.previous_output);
                    let value = coin.map_or(0, |c| c.value.to_sat());
                    if let Some(seat) = coin.and_then(|c| wallet(&c.script_pubkey)) {
                        out.gain[seat] -= value as i64;
                        part[seat] = true;
                    }
                    value
                }
            };
            held += value;
        }
        let txid = tx.compute_txid();
        for (vout, output) in (0..).zip(&tx.output) {
            let value = output.value.to_sat();
            held = held.saturating_sub(value);
            match wallet(&output.script_pubkey) {
                Some(seat) => {
                    out.gain[seat] += value as i64;
                    part[seat] = true;
                }
                None => {
                    ours.insert(OutPoint { txid, vout }, value);
                }
            }
        }
        if out.first.is_none() {
            (out.first, out.first_fee) = (Some(tx.clone()), held);
            continue;
        }
        for seat in 0..2 {
            out.fees[seat] += if part[seat] || part == [false; 2] { held } else { 0 };
        }
    }
    ours.remove(&channel.terms.funding);
    out.small = ours.values().filter(|v| **v < SMALL_SAT).sum();
    out.left = ours.into_iter().filter(|(_, v)| *v >= SMALL_SAT).collect();
    out
}

/// The most that an HTLC may hold and still cost more to take than that, at the highest feerate of this run.
pub fn petty_msat(world: &World) -> u64 {
    1_000 * (2 * SMALL_SAT + u64::from(world.feud.highest_feerate.max(USUAL_FEERATE)) * CLAIM_WEIGHT / 1_000)
}

/// Closed by force, as far as this node knows; one whose funding never came holds nothing.
pub fn is_forced(channel: &Channel) -> bool {
    matches!(channel.phase, Phase::Onchain(_)) && channel.confirmed.is_some()
}

/// Whether nothing of the channel is left to be done on chain for this node. What is too small to be taken for certain may be
/// left, but whoever offered it is told all the same.
pub fn is_over(channel: &Channel) -> bool {
    if !is_forced(channel) || channel.retired {
        return true;
    }
    if channel.is_void() {
        return ended(channel);
    }
    let Some(watch) = &channel.watch else { return false };
    if watch.born().is_none() {
        return false;
    }
    let fulfilled =
        |id| matches!(channel.htlc(id).and_then(|h| h.removal.clone()), Some(Removal::Fulfilled(_)));
    let worth = |o: &&Output| o.spent.is_none() && o.amount.0 >= WORTH_SAT;
    let waits = watch.outputs.iter().filter(worth).any(|o| match (o.kind, watch.owner, watch.standing) {
        (Kind::Unknown | Kind::AnchorOwner | Kind::AnchorOther, ..) => false,
        (Kind::ToRemote, owner, _) => owner == Side::Remote,
        (Kind::ToLocal | Kind::Second, Side::Local, standing) => standing == Standing::Valid,
        (Kind::ToLocal | Kind::Second, Side::Remote, standing) => standing == Standing::Revoked,
        (Kind::Htlc, _, Standing::Valid) => {
            o.lock.as_ref().is_some_and(|l| l.id.offered_by == Side::Local || fulfilled(l.id))
        }
        (Kind::Htlc, owner, standing) => owner == Side::Remote && standing == Standing::Revoked,
    });
    !waits && ended(channel)
}

/// A payment that is not decided.
pub fn is_stuck(pay: &Pay) -> bool {
    pay.status == "pending"
}

/// Every HTLC that this node offered is decided.
fn ended(channel: &Channel) -> bool {
    let open = |r: &Option<Removal>| !matches!(r, Some(Removal::Fulfilled(_) | Removal::OnChain));
    channel.ledger.htlcs.values().all(|h| h.id.offered_by == Side::Remote || !open(&h.removal))
}

/// What this node is owed by its own newest state, in msat: its balance, and each HTLC as it was decided.
fn owed(channel: &Channel) -> i128 {
    let mut owed = i128::from(channel.to_us().0);
    for htlc in channel.ledger.htlcs.values() {
        let fulfilled = htlc.removal.as_ref().is_some_and(Removal::is_fulfilled);
        match htlc.id.offered_by {
            Side::Local if fulfilled => owed -= i128::from(htlc.amount.0),
            Side::Remote if fulfilled => owed += i128::from(htlc.amount.0),
            _ => {}
        }
    }
    owed
}

/// Who published the transaction that spent the funding, when it is a commitment that `seat` had the secret of.
fn cheat_of(world: &World, seat: usize, channel: &Channel, first: &Transaction) -> bool {
    let number = commitment_number(first, channel.terms.obscure());
    let theirs = world.feud.owners.get(&first.compute_txid()) == Some(&(1 - seat));
    theirs && number.is_some_and(|n| n < channel.commits.remote_number)
}

/// A close that a deep reorganisation took away came again when the HTLC had expired already: from the first block on both sides
/// may take it, and the next block decides.
fn is_race(world: &World, estate: &Estate, htlc: &Htlc) -> bool {
    let height = estate.first.as_ref().and_then(|tx| world.chain.height_of(&tx.compute_txid()));
    height.is_some_and(|h| h >= htlc.cltv_expiry.0 && world.feud.deep_from.is_some_and(|from| h > from))
}

/// What `seat` may lack of a valid close, in msat: fees, what is too small to be taken, and races that nobody could avoid.
fn may_lack(world: &World, seat: usize, channel: &Channel, estate: &Estate) -> i128 {
    let petty = petty_msat(world);
    let lost_htlcs: u64 = channel
        .ledger
        .htlcs
        .values()
        .filter(|h| h.id.offered_by == Side::Remote && (h.amount.0 < petty || is_race(world, estate, h)))
        .map(|h| h.amount.0)
        .sum();
    let count = channel.ledger.htlcs.len() as u64;
    let sat = estate.first_fee + estate.fees[seat] + estate.small + ANCHORS_SAT + count + 2;
    i128::from(sat * 1_000 + lost_htlcs)
}

/// The channels that a step with blocks in it may forget, as they were before.
pub fn before_blocks(node: &Node, inputs: &[Input]) -> Vec<Channel> {
    if !inputs.iter().any(|input| matches!(input, Input::BlockConnected { .. })) {
        return Vec::new();
    }
    node.channels().filter(|c| is_forced(c) && !c.retired).cloned().collect()
}

/// What a step forgot was over, and whoever is honest has what is its own: later nobody could tell.
///
/// # Errors
/// Something was left to be done, or is missing.
pub fn forgotten(world: &World, seat: usize, before: &[Channel]) -> Result<(), Verdict> {
    let now = |id: &ChannelId| world.seats[seat].node().and_then(|n| n.channel(id));
    for channel in before.iter().filter(|c| now(&c.id()).is_some_and(|c| c.retired)) {
        judge_channel(world, seat, channel)?;
        // An output that is hardly worth its fee is given up after two weeks of blocks, those of an HTLC of the peer's at its expiry.
        let small = |o: &Output| o.spent.is_none() && o.amount.0 < SMALL_SAT;
        let given_up = channel.watch.as_ref().is_some_and(|w| w.outputs.iter().any(small));
        if !given_up && !is_over(channel) {
            let words = format!("{}, {}: it is forgotten and not over", world.seats[seat].name, channel.id());
            return Err(Verdict::new("money", words));
        }
    }
    Ok(())
}

/// One honest node and one channel of its that a commitment ended.
///
/// # Errors
/// It has less than it should, or a cheat has anything.
pub fn judge(world: &World, seat: usize, id: ChannelId) -> Result<(), Verdict> {
    let channel = world.seats[seat].node().and_then(|n| n.channel(&id));
    match channel.filter(|c| is_forced(c) && !c.retired) {
        Some(channel) => judge_channel(world, seat, channel),
        None => Ok(()),
    }
}

fn judge_channel(world: &World, seat: usize, channel: &Channel) -> Result<(), Verdict> {
    let (id, name) = (channel.id(), world.seats[seat].name);
    let estate = follow(world, channel);
    let Some(first) = &estate.first else { return Ok(()) };
    let wrong = |words: String| Err(Verdict::new("money", format!("{name}, {id}: {words}")));
    if cheat_of(world, seat, channel, first) {
        let whole = channel.terms.capacity.0 as i64;
        // What the cheat's own second-level transactions paid to miners went by nobody's fault.
        let lost: u64 =
            estate.first_fee + estate.fees[seat] + estate.fees[1 - seat] + estate.small + ANCHORS_SAT;
        if estate.gain[seat] < whole - lost as i64 {
            return wrong(format!("took {} of {whole} from a cheat: {estate:?}", estate.gain[seat]));
        }
        if estate.gain[1 - seat] > 2 * SMALL_SAT as i64 {
            return wrong(format!("let a cheat have {}: {estate:?}", estate.gain[1 - seat]));
        }
        return Ok(());
    }
    let (owed, lack) = (owed(channel), may_lack(world, seat, channel, &estate));
    let has = i128::from(estate.gain[seat]) * 1_000;
    if has < owed - lack {
        return wrong(format!("has {has} msat of {owed}, and may lack {lack}: {estate:?}"));
    }
    Ok(())
}

/// What a seat got on chain of this channel beyond its start, in msat, and what of it may be missing.
pub fn moved(world: &World, seat: usize, channel: &Channel) -> (i128, i128) {
    let estate = follow(world, channel);
    let start = i128::from(channel.terms.initial_balance(Side::Local).0);
    match estate.first {
        None => (i128::from(channel.to_us().0) - start, 0),
        Some(_) => {
            let lack = may_lack(world, seat, channel, &estate);
            (i128::from(estate.gain[seat]) * 1_000 - start, lack)
        }
    }
}

/// The chain neither made nor lost money.
///
/// # Errors
/// It did.
pub fn conserved(world: &World) -> Result<(), Verdict> {
    world.chain.conserved().map_err(|words| Verdict::new("money", words))
}
