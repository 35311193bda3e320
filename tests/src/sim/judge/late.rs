//! `late`: whoever is awake takes each output of its own by the first block that may hold the claim, closes a channel in
//! time for an HTLC that cannot wait, and gives no HTLC up before its end lies deep.
//!
//! In: both nodes and the chain, before and after each block. Out: a verdict, when a block came to which a node had been
//! awake, heard and undisturbed, and it lacks what was due; kept until the world asks for it. When an output is ripe is
//! reckoned here from BOLT 3 and 5 and the chain's own heights. What a rival spends at the same moment is not waited for;
//! where he is at work on the outputs beside it, a batch needs some blocks to be made anew. Read next: `fees`.

use super::estate;
use super::Verdict;
use crate::sim::world::World;
use bitcoin::{OutPoint, Txid};
use chand_protocol::channel::htlc::{Htlc, Removal};
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, HtlcId, Side};
use chand_protocol::onchain::{Kind, Output, Standing, Watch};
use std::collections::{BTreeMap, BTreeSet};

/// Blocks that a close may take once an HTLC cannot wait: an order that comes after a block is looked at with the next.
const CLOSE_BLOCKS: u32 = 1;
/// Blocks that a batch may take to be made anew while a rival spends outputs beside: two refusals, a split, a version.
const RIVAL_BLOCKS: u32 = 4;
/// Blocks before its expiry at which an HTLC whose secret is out closes its channel at the latest.
const URGENT_BLOCKS: u32 = 12;
/// Blocks after its expiry at which an HTLC of one's own does.
const GRACE_BLOCKS: u32 = 2;
/// How deep the end of an HTLC lies before its payer is told that it failed: six blocks may be undone.
const SAFE_DEPTH: u32 = 7;
/// What taking one output weighs at most, where it pays for itself, and the least that may be left over.
const SWEEP_WEIGHT: u64 = 700;

/// What a node has to do by the next block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Duty {
    /// To take this output.
    Take(OutPoint),
    /// To close this channel, the funding output of which it is.
    Close(OutPoint),
}

impl Duty {
    const fn output(&self) -> &OutPoint {
        match self {
            Duty::Take(place) | Duty::Close(place) => place,
        }
    }
}

/// What is due by a block.
#[derive(Default)]
pub struct Due {
    /// By seat: what, for how many blocks at most, and what it is in words.
    lists: [Vec<(Duty, u32, String)>; 2],
}

/// What the judge remembers.
#[derive(Default)]
pub struct Late {
    /// Blocks in a row that did not bring what was due, by seat.
    waits: BTreeMap<(usize, Duty), u32>,
    /// HTLCs that their payer gave up, as far as they were looked at.
    given_up: BTreeSet<(usize, ChannelId, HtlcId)>,
    /// Blocks that were ever undone, when they were last looked at.
    undone: [u32; 2],
    /// What was found.
    found: Option<Verdict>,
}

impl Late {
    /// What was found since this was last asked.
    pub fn take(&mut self) -> Option<Verdict> {
        self.found.take()
    }

    fn find(&mut self, words: String) {
        self.found.get_or_insert(Verdict::new("late", words));
    }
}

/// A block is about to come: what has to be in it?
pub fn due(world: &World) -> Due {
    let mut due = Due::default();
    let Some(strife) = world.knobs.onchain else { return due };
    for seat in 0..2 {
        let (watches, rests) = world.is_calm(seat);
        let Some(node) = world.seats[seat].node().filter(|_| watches) else { continue };
        for channel in node.channels().filter(|c| c.confirmed.is_some() && !c.retired) {
            if let Some(words) = must_close(world, channel).filter(|_| rests) {
                due.lists[seat].push((Duty::Close(channel.terms.funding), CLOSE_BLOCKS, words));
            }
            if let Some(watch) = &channel.watch {
                let ripe = Ripe { world, seat, channel, watch, delay: u32::from(strife.delay) };
                let mine = watch.outputs.iter().filter(|o| rests || ripe.needs_no_record(o));
                due.lists[seat].extend(mine.filter_map(|o| ripe.due(o)));
            }
        }
    }
    due
}

/// The block is there.
pub fn mined(world: &mut World, due: Due) {
    for (seat, list) in due.lists.into_iter().enumerate() {
        let mut waits: Vec<(Duty, u32)> = Vec::new();
        for (duty, most, words) in list {
            if !world.chain.holds(duty.output()) {
                continue;
            }
            let late = world.judges.late.waits.get(&(seat, duty)).copied().unwrap_or(0) + 1;
            if late > most {
                let (name, height) = (world.seats[seat].name, world.chain.height());
                world.judges.late.find(format!("{name}, awake, has by block {height} not {words}"));
            }
            waits.push((duty, late));
        }
        // Whoever was disturbed begins anew.
        let known = &mut world.judges.late.waits;
        known.retain(|(s, _), _| *s != seat);
        known.extend(waits.into_iter().map(|(duty, late)| ((seat, duty), late)));
    }
}

/// Why a channel that is open must be closed by now, as far as the judge sees.
fn must_close(world: &World, channel: &Channel) -> Option<String> {
    let open = matches!(channel.phase, Phase::Confirming | Phase::Open | Phase::Closing(_));
    let ours = matches!(&channel.phase, Phase::Onchain(o) if o.height.is_none());
    if !(open || ours) || channel.doubt || !world.chain.holds(&channel.terms.funding) {
        return None;
    }
    let tip = world.chain.height();
    let in_one = |h: &Htlc| {
        [Side::Local, Side::Remote].into_iter().any(|owner| h.step.added_in(h.id.offered_by, owner))
    };
    let late = |h: &&Htlc| match h.id.offered_by {
        Side::Local => tip >= h.cltv_expiry.0 + GRACE_BLOCKS,
        Side::Remote => is_fulfilled(h) && tip + URGENT_BLOCKS >= h.cltv_expiry.0,
    };
    let htlc = channel.ledger.htlcs.values().filter(|h| in_one(h)).find(late)?;
    Some(format!("closed a channel for its HTLC {:?} that expires at {}", htlc.id, htlc.cltv_expiry.0))
}

fn is_fulfilled(htlc: &Htlc) -> bool {
    htlc.removal.as_ref().is_some_and(Removal::is_fulfilled)
}

/// One published commitment, and what of it a seat can take.
struct Ripe<'a> {
    world: &'a World,
    seat: usize,
    channel: &'a Channel,
    watch: &'a Watch,
    /// How long whoever closed waits for its own, in blocks.
    delay: u32,
}

impl Ripe<'_> {
    fn due(&self, output: &Output) -> Option<(Duty, u32, String)> {
        let chain = &self.world.chain;
        let first = self.first_block(output, chain.height_of(&output.outpoint.txid)?)?;
        let next = chain.height() + 1;
        if first > next || !chain.holds(&output.outpoint) || output.amount.0 < self.least(output) {
            return None;
        }
        let most = match self.rivals(output) {
            None => return None,
            Some(true) => RIVAL_BLOCKS,
            Some(false) => 0,
        };
        let (kind, whose, standing) = (output.kind.name(), self.watch.owner, self.watch.standing);
        let words = format!(
            "taken {kind} of {} ({whose:?}'s commitment, {standing:?}), which it could from block {first} on",
            output.amount
        );
        Some((Duty::Take(output.outpoint), most, words))
    }

    /// The first block that may hold this seat's spend of an output that block `born` made; `None` when it is not its to take.
    fn first_block(&self, output: &Output, born: u32) -> Option<u32> {
        match (output.kind, self.watch.owner, self.watch.standing) {
            (Kind::ToRemote, Side::Remote, _) => Some(born + 1),
            (Kind::ToLocal | Kind::Second, Side::Local, Standing::Valid) => Some(born + self.delay),
            (Kind::ToLocal | Kind::Second | Kind::Htlc, Side::Remote, Standing::Revoked) => Some(born + 1),
            (Kind::Htlc, _, Standing::Valid) => {
                let lock = output.lock.as_ref()?;
                match lock.id.offered_by {
                    Side::Local => Some(born.max(lock.cltv_expiry.0) + 1),
                    Side::Remote => {
                        let known = self.channel.htlc(lock.id).is_some_and(is_fulfilled);
                        (known || lock.preimage.is_some()).then_some(born + 1)
                    }
                }
            }
            _ => None,
        }
    }

    /// Whether its claim follows from older records and the chain alone, so that a disk that refuses is no excuse.
    fn needs_no_record(&self, output: &Output) -> bool {
        let offered = output.lock.as_ref().is_some_and(|l| l.id.offered_by == Side::Local);
        let theirs = self.watch.owner == Side::Remote;
        output.kind != Kind::Htlc || (theirs && (offered || self.watch.standing == Standing::Revoked))
    }

    /// Below this it may cost more than it holds, in satoshis, at the highest feerate that this run's nodes were told.
    fn least(&self, output: &Output) -> u64 {
        let funded = output.kind == Kind::Htlc
            && self.watch.owner == Side::Local
            && self.channel.terms.channel_type.is_anchors();
        let weight = if funded { estate::CLAIM_WEIGHT } else { SWEEP_WEIGHT };
        estate::SMALL_SAT + u64::from(self.world.feud.highest_estimate) * weight / 1_000
    }

    /// Whether somebody else's transactions spend outputs beside this one; `None` when they spend this one.
    fn rivals(&self, output: &Output) -> Option<bool> {
        let mut beside = false;
        for tx in &self.world.chain.mempool {
            if self.world.feud.owners.get(&tx.compute_txid()) == Some(&self.seat) {
                continue;
            }
            for input in &tx.input {
                if input.previous_output == output.outpoint {
                    return None;
                }
                beside |= self.watch.output(&input.previous_output).is_some();
            }
        }
        Some(beside)
    }
}

/// HTLCs that their payer gave up since the last look: each has its end deep in the chain.
pub fn look(world: &mut World) {
    let mut news = Vec::new();
    let mut seen = world.judges.late.undone;
    for seat in (0..2).filter(|seat| world.is_judged(*seat)) {
        let Some(node) = world.seats[seat].node() else { continue };
        // What was deep when it was decided may not be so any more; who was off decides by what it read before.
        let moved = std::mem::replace(&mut seen[seat], world.chain.undone) != world.chain.undone;
        for channel in node.channels() {
            let given_up = |h: &&Htlc| {
                h.id.offered_by == Side::Local
                    && matches!(h.removal, Some(Removal::OnChain))
                    && !world.judges.late.given_up.contains(&(seat, channel.id(), h.id))
            };
            for htlc in channel.ledger.htlcs.values().filter(given_up) {
                let early = if moved { None } else { early(world, channel, htlc) };
                news.push(((seat, channel.id(), htlc.id), early));
            }
        }
    }
    world.judges.late.undone = seen;
    for (key, early) in news {
        if let Some(why) = early {
            let name = world.seats[key.0].name;
            world.judges.late.find(format!("{name} gives HTLC {:?} up too early: {why}", key.2));
        }
        world.judges.late.given_up.insert(key);
    }
}

/// Why the end of an HTLC is not there yet.
fn early(world: &World, channel: &Channel, htlc: &Htlc) -> Option<String> {
    let Some(watch) = &channel.watch else { return Some("no commitment is known".into()) };
    let depth = |txid: &Txid| {
        let height = world.chain.height_of(txid);
        height.map_or(0, |height| (world.chain.height() + 1).saturating_sub(height))
    };
    let deep = depth(&watch.commitment.compute_txid());
    if deep < SAFE_DEPTH {
        return Some(format!("the commitment is {deep} deep"));
    }
    let of = |o: &&Output| o.kind == Kind::Htlc && o.lock.as_ref().is_some_and(|l| l.id == htlc.id);
    let output = watch.outputs.iter().find(of)?;
    match output.spent {
        Some(spent) if depth(&spent.txid) < SAFE_DEPTH => {
            Some(format!("its output was spent {} deep", depth(&spent.txid)))
        }
        Some(_) => None,
        None if output.amount.0 >= estate::SMALL_SAT => Some("its output is there".into()),
        None if world.chain.height() + 1 < htlc.cltv_expiry.0 + SAFE_DEPTH => {
            Some("its small output has not expired long enough".into())
        }
        None => None,
    }
}
