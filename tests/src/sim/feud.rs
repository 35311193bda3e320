//! Closes by force and crimes: a user who closes at once, a node that is given its old disk back and closes with that, and
//! a chain that does not make it easy for the other.
//!
//! In: acts of the plan. Out: orders, disks put back, blocks, transactions that are lost on their way. What no node could
//! cope with is not asked: a block more comes only when nobody honest is more than a few behind, and of blocks in which
//! claims are kept out there are only a few in a run. Read next: `aftermath`, `judge::estate`, `marks`.

use super::actors::What;
use super::judge::durable;
use super::judge::estate::is_forced;
use super::judge::Verdict;
use super::plan::{Act, How, Knobs, Much, Timed, Trouble, When, MS, SECOND};
use super::rng::Rng;
use super::seat::{Death, Event, Life};
use super::world::{Happening, World};
use bitcoin::{Transaction, Txid};
use chand_protocol::channel::cause::Trigger;
use chand_protocol::channel::htlc::Removal;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, Side};
use chand_protocol::node::command::{ChannelRef, Command};
use chand_protocol::node::effect::{Fees, Input};
use chand_protocol::store::Entry;
use chand_protocol::units::Feerate;
use chand_storage::MemoryStore;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// So many blocks may come while an honest node does not look.
const SLACK_BLOCKS: u32 = 3;
/// In so many blocks of a run the claims of honest nodes may be kept out.
const LOST_BLOCKS: u32 = 6;
/// Copies of a disk that are kept.
const COPIES: usize = 8;
/// For so many blocks, a second each, two nodes may not hear of each other.
const APART_BLOCKS: u64 = 45;
/// What it costs to replace a transaction that a cheat pins, in satoshis.
const PIN_SAT: u64 = 20_000;
/// The first number of payments that wait while a cheat's disk is copied, above all others of a plan.
const HELD: usize = 10_000;
/// How many of them there are.
const HELD_COUNT: usize = 5;
/// Blocks within which the judge takes an HTLC for urgent: the margin that a node may keep, and no more.
const URGENT_BLOCKS: u32 = 12;

/// The conditions of a run in which channels are closed by force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Strife {
    /// How long each makes the other wait for its own outputs, in blocks.
    pub delay: u16,
    /// Who is going to cheat.
    pub crime: Option<usize>,
    /// At the end blocks come until channels that are over are forgotten.
    #[serde(default)]
    pub long: bool,
}

/// How often a claim was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions {
    /// What `mined` was when the first was offered.
    pub mined: u32,
    /// The lives of its seat then.
    pub lives: u64,
    /// How many feerates had been told then.
    pub told: u32,
    /// How many there are.
    pub count: u32,
}

/// What is known of closes by force.
#[derive(Default)]
pub struct Feud {
    /// Who cheated: nobody asks any more what it says.
    pub cheat: Option<usize>,
    /// Who published a transaction first.
    pub owners: BTreeMap<Txid, usize>,
    /// Channels that a user, a deadline or the peer closed by force, rightly.
    pub struck: BTreeSet<ChannelId>,
    /// The highest feerate that any node may have paid, per 1,000 weight units.
    pub highest_feerate: u32,
    /// The highest that any was told to pay for claims.
    pub highest_estimate: u32,
    /// How many were told.
    pub told: u32,
    /// What was published since the last block may be lost, unless by a program that began later than these.
    disturbed: Option<[u64; 2]>,
    /// The cheat may be called, and calls.
    pub returned: bool,
    /// The cheat's transactions pay much and are not mined, up to this height.
    pinned_until: u32,
    /// A seat's transactions do not reach the miners up to this height.
    mute: [u32; 2],
    /// The mempool's floor is lifted up to this height.
    floor_until: u32,
    /// Blocks in which claims were kept out.
    lost: u32,
    /// Which block each seat had looked at when it was last at rest.
    seen: [u32; 2],
    /// The highest block there ever was.
    pub(super) top: u32,
    /// Above this height reorganisations deeper than six blocks took closes away.
    pub deep_from: Option<u32>,
    /// How many were ever mined, also those that left the chain.
    pub(super) mined: u32,
    /// Versions of each claim of a seat.
    pub(super) versions: BTreeMap<(usize, ChannelId, u32), Versions>,
    copies: [Vec<Vec<Entry>>; 2],
    /// Until then the two do not hear of each other.
    apart_until: u64,
}

impl Feud {
    /// Nothing happened yet.
    pub fn new() -> Feud {
        Feud { highest_estimate: Feerate::FLOOR.0, ..Feud::default() }
    }

    /// Anything of the kind happened.
    pub fn began(&self) -> bool {
        self.cheat.is_some() || !self.struck.is_empty()
    }

    /// No call gets through.
    pub fn is_apart(&self, now: u64) -> bool {
        (self.cheat.is_some() && !self.returned) || now < self.apart_until
    }

    /// A feerate that some node may use.
    pub fn feerate(&mut self, feerate: u32) {
        self.highest_feerate = self.highest_feerate.max(feerate);
    }

    /// A feerate that some node is told.
    pub fn estimated(&mut self, feerate: u32) {
        self.feerate(feerate);
        self.told += 1;
        self.highest_estimate = self.highest_estimate.max(feerate);
    }
}

impl World {
    /// Whether what this seat does is judged.
    pub(super) fn is_judged(&self, seat: usize) -> bool {
        self.feud.cheat != Some(seat)
    }

    /// A seat has read the newest block and computed what follows from it.
    fn watches(&self, seat: usize) -> bool {
        let place = &self.seats[seat];
        let tip = self.chain.blocks.last().map(|b| (self.chain.height(), b.hash));
        let read =
            |life: &Life| life.told_synced && life.inbox.is_empty() && life.followed.last().copied() == tip;
        place.life.as_ref().is_some_and(read) && place.reachable
    }

    /// So it is, and all of that is kept and out.
    fn rests(&self, seat: usize) -> bool {
        let done =
            |l: &Life| l.queue.is_empty() && l.writing.is_empty() && l.publishing.is_empty() && !l.reload;
        self.watches(seat) && self.seats[seat].life.as_ref().is_some_and(done)
    }

    /// What a seat claims reaches the miners: what needs no record, and whether what needs one does, too.
    pub(super) fn is_calm(&self, seat: usize) -> (bool, bool) {
        let lives = self.seats[seat].lives;
        let undisturbed = self.feud.disturbed.is_none_or(|before| before[seat] < lives);
        let heard = self.is_heard(seat) && undisturbed && self.chain.floor == 0;
        let calm = self.is_judged(seat) && heard && self.watches(seat);
        (calm, calm && self.rests(seat))
    }

    /// What was published up to now may be lost.
    fn disturb(&mut self) {
        self.feud.disturbed = Some([0, 1].map(|seat| self.seats[seat].lives));
    }

    /// A new block: everybody publishes again what is in none.
    pub(super) fn calm_down(&mut self) {
        self.feud.disturbed = None;
    }

    /// Both are honest, as far as anybody could notice.
    pub(super) fn is_peaceful(&self) -> bool {
        self.knobs.liar.is_none() && !self.feud.returned
    }

    /// Some peer may have told lies of the kind that closes channels.
    pub(super) fn may_fail(&self) -> bool {
        self.cheat.may_fail() || self.feud.returned
    }

    /// One more block would find everybody honest awake.
    fn is_fair(&mut self) -> bool {
        let height = self.chain.height();
        for seat in 0..2 {
            if self.rests(seat) {
                self.feud.seen[seat] = height;
            }
        }
        let late = |seat: &usize| self.is_judged(*seat) && height >= self.feud.seen[*seat] + SLACK_BLOCKS;
        !(0..2).any(|seat| late(&seat))
    }

    /// Blocks come, as many as are fair.
    pub(super) fn mine_fairly(&mut self, blocks: u32) {
        for _ in 0..blocks {
            if !self.is_fair() {
                self.tally.met("block that waited");
                break;
            }
            if self.chain.floor > 0 {
                self.disturb();
            }
            if self.chain.height() >= self.feud.floor_until {
                self.chain.floor = 0;
            }
            self.mine_one();
        }
        self.chain_moved();
    }

    /// Other blocks take the place of the newest; what was in them is lost only while that may be.
    pub(super) fn reorganise_fairly(&mut self, blocks: u32, forget: bool) {
        if !self.is_fair() {
            return self.tally.met("block that waited");
        }
        let forget = forget && self.spend(blocks + 1);
        self.reorganise_now(blocks, forget);
    }

    fn reorganise_now(&mut self, blocks: u32, forget: bool) {
        let left = self.chain.height().saturating_sub(blocks);
        self.feud.seen = self.feud.seen.map(|seen| seen.min(left.max(seen.saturating_sub(blocks))));
        // What was in them may be lost, though a seat that had not read them sees no change.
        self.disturb();
        self.reorganise(blocks, forget);
        // Nobody is late for having to read them again.
        let height = self.chain.height();
        self.feud.seen = self.feud.seen.map(|seen| seen.max(height.saturating_sub(SLACK_BLOCKS)));
    }

    /// Whether claims may be kept out of so many blocks more.
    fn spend(&mut self, blocks: u32) -> bool {
        let enough = self.feud.lost + blocks <= LOST_BLOCKS;
        self.feud.lost += if enough { blocks } else { 0 };
        enough
    }

    /// An act of this module.
    pub(super) fn feud(&mut self, act: Act) -> Result<(), Verdict> {
        match act {
            Act::ForceClose { seat, nth } => self.strike(seat, Some(nth)),
            Act::Copy { seat } => {
                let copies = &mut self.feud.copies[seat];
                if copies.len() < COPIES {
                    copies.push(self.seats[seat].store.durable());
                }
            }
            Act::Crime { seat, copy } => return self.commit_crime(seat, copy),
            Act::Apart { for_us } => {
                self.tally.met("long apart");
                self.cut([0, 0]);
                self.feud.apart_until = self.now + for_us;
            }
            Act::Mute { seat, blocks } if self.spend(blocks) => {
                self.tally.met("claims that reach nobody");
                self.feud.mute[seat] = self.chain.height() + blocks;
            }
            Act::Evict { all } if self.spend(1) => {
                self.tally.met("mempool emptied");
                let keep = if all { 0 } else { self.chain.mempool.len() / 2 };
                self.chain.mempool.truncate(keep);
                self.disturb();
            }
            Act::Floor { feerate, blocks } if self.spend(blocks) => {
                self.tally.met("mempool's floor raised");
                self.chain.floor = u64::from(feerate);
                self.feud.floor_until = self.chain.height() + blocks;
            }
            Act::Deep { blocks, forget } => self.reorganise_deep(blocks, forget),
            Act::Haunt { what } => self.haunt(what),
            Act::Pin { blocks } => self.feud.pinned_until = self.chain.height() + blocks,
            _ => {}
        }
        Ok(())
    }

    /// A chain that is still young is made anew almost from its start. Without a crime all transactions wait again: what two
    /// had done, one before the other, nobody could promise otherwise. A cheat's victim takes everything all the same; only
    /// fundings stay, since nobody has to publish those of a cheat.
    fn reorganise_deep(&mut self, blocks: u32, forget: bool) {
        if !self.is_fair() {
            return self.tally.met("block that waited");
        }
        let forget = forget && self.feud.cheat.is_some();
        let channels = || self.seats.iter().filter_map(|s| s.node()).flat_map(|n| n.channels());
        let funded = channels().filter_map(|c| c.confirmed).map(|place| place.height.0).max();
        let above = self.chain.height().saturating_sub(funded.unwrap_or(0));
        let blocks = if forget { blocks.min(above) } else { blocks };
        let left = self.chain.height().saturating_sub(blocks);
        let closes = channels().filter(|c| is_forced(c)).filter_map(Channel::spent_height);
        let undone = closes.filter(|h| h.0 > left).count();
        if blocks > 6 && undone > 0 {
            self.feud.deep_from = Some(self.feud.deep_from.map_or(left, |before| before.min(left)));
            self.mark("reorganisation: deep, a close with it");
        }
        self.tally.met(if forget { "deep reorganisation, all forgotten" } else { "deep reorganisation" });
        self.reorganise_now(blocks, forget);
        // Silence is counted in blocks: with so many gone it would outlast every deadline.
        self.feud.mute = [0; 2];
    }

    /// A user closes by force: one channel or all.
    pub(super) fn strike(&mut self, seat: usize, nth: Option<usize>) {
        let usable = |c: &&Channel| {
            c.confirmed.is_some() && !matches!(c.phase, Phase::Closed(_) | Phase::Onchain(_)) && !c.doubt
        };
        let node = self.seats[seat].node();
        let all: Vec<ChannelId> =
            node.into_iter().flat_map(|n| n.channels()).filter(usable).map(Channel::id).collect();
        for (place, id) in all.into_iter().enumerate() {
            if nth.is_none_or(|nth| nth == place) {
                self.tally.met("dev-fail");
                self.feud.struck.insert(id);
                let order = Command::DevFail { channel: ChannelRef::Id(id) };
                self.tell(seat, order, What::Other("dev-fail"));
            }
        }
    }

    /// A seat gets an old copy of its disk, and closes with what it finds there.
    fn commit_crime(&mut self, seat: usize, copy: usize) -> Result<(), Verdict> {
        let copies = &self.feud.copies[seat];
        if self.feud.cheat.is_some() || copies.is_empty() {
            return Ok(());
        }
        let entries = copies[copy % copies.len()].clone();
        self.tally.met("crime");
        self.feud.cheat = Some(seat);
        if self.seats[seat].life.is_some() {
            self.die(seat, Death { when: When::Now, after: 0, down_us: MS, silent: false })?;
        }
        let place = &mut self.seats[seat];
        place.store = MemoryStore::with_entries(entries);
        place.death = None;
        place.troubles.clear();
        self.judges.told[seat] = durable::Told::default();
        self.heap.push(self.now + 2 * MS, Happening::Betray { seat });
        Ok(())
    }

    /// It closes everything, and takes what it was offered and knows the secrets of.
    pub(super) fn on_betray(&mut self, seat: usize) -> Result<(), Verdict> {
        self.start(seat)?;
        let holds: Vec<usize> = self
            .judges
            .book
            .tries
            .iter()
            .filter(|(_, t)| t.hold && t.payer != seat)
            .map(|(n, _)| *n)
            .collect();
        for number in holds {
            if self.rng.chance(60) {
                self.settle(number);
            }
        }
        self.strike(seat, None);
        Ok(())
    }

    /// Whether what a seat publishes gets through.
    pub(super) fn is_heard(&self, seat: usize) -> bool {
        self.feud.mute[seat] <= self.chain.height()
    }

    /// No hindrance any more.
    pub(super) fn end_feud(&mut self) {
        self.feud.mute = [0; 2];
        self.feud.pinned_until = 0;
        self.disturb();
        self.feud.apart_until = 0;
        self.chain.floor = 0;
        if !self.feud.began() && !self.any_forced() {
            return;
        }
        let (normal, urgent, minimum) = (Feerate(300), Feerate(500), Feerate::FLOOR);
        self.feud.estimated(urgent.0);
        for seat in 0..2 {
            let fees = Fees { normal, urgent, minimum };
            self.give(seat, Event::Input(Box::new(Input::Fees(fees))));
        }
    }

    /// Some channel of somebody's was closed by a commitment.
    pub(super) fn any_forced(&self) -> bool {
        self.seats.iter().filter_map(|s| s.node()).any(|n| n.channels().any(is_forced))
    }

    /// A transaction of a seat's leaves: it is noted who was first. Whether it is new; a cheat's may be pinned.
    pub(super) fn note_owner(&mut self, seat: usize, tx: &Transaction) -> bool {
        let txid = tx.compute_txid();
        let new = !self.feud.owners.contains_key(&txid);
        self.feud.owners.entry(txid).or_insert(seat);
        if new && self.feud.cheat == Some(seat) && self.chain.height() < self.feud.pinned_until {
            let node = self.seats[1 - seat].node();
            let watches = node.into_iter().flat_map(|n| n.channels()).filter_map(|c| c.watch.as_ref());
            let beside = watches.filter(|w| tx.input.iter().any(|i| w.output(&i.previous_output).is_some()));
            if beside.map(|w| w.outputs.iter().filter(|o| o.spent.is_none()).count()).any(|open| open > 1) {
                self.chain.pin(txid, self.feud.pinned_until, PIN_SAT);
                self.mark("a cheat that pins");
            }
        }
        new
    }
}

/// Whether a node may close this channel by force: somebody did before, or one of its HTLCs cannot wait, by the judge's own
/// reckoning.
pub fn may_close(world: &World, seat: usize, channel: &Channel) -> bool {
    if world.feud.struck.contains(&channel.id()) {
        return true;
    }
    let Some(cause) = channel.annals.cause.as_ref().filter(|c| c.trigger == Trigger::Deadline) else {
        return false;
    };
    // Blocks may have gone since: what counts is the tip at which it was decided, if there ever was such a block.
    let now = world.seats[seat].life.as_ref().and_then(|l| l.followed.last()).map_or(0, |(h, _)| *h);
    let tip = now.max(cause.height.0.min(world.feud.top));
    let late = |h: &chand_protocol::channel::htlc::Htlc| {
        let fulfilled = h.removal.as_ref().is_some_and(Removal::is_fulfilled);
        match h.id.offered_by {
            Side::Local => tip > h.cltv_expiry.0,
            Side::Remote => fulfilled && tip + URGENT_BLOCKS >= h.cltv_expiry.0,
        }
    };
    channel.ledger.htlcs.values().any(late)
}

impl Strife {
    /// What a seed decides; nothing in runs with liars.
    pub fn new(seed: u64) -> Option<Strife> {
        let rng = &mut Rng::new(seed, 6);
        let delay = *rng.pick(&[18, 20, 24, 30]);
        let crime = rng.chance(60).then(|| rng.seat());
        let strife = rng.chance(40);
        let long = rng.chance(30);
        strife.then_some(Strife { delay, crime, long })
    }
}

/// The acts of such a run, on top of all others, from a stream of their own; some come after the last of the others.
pub fn acts(seed: u64, knobs: &Knobs, until_us: u64) -> Vec<Timed> {
    let Some(strife) = knobs.onchain else { return Vec::new() };
    let rng = &mut Rng::new(seed, 7);
    let mut out = Vec::new();
    let at = |rng: &mut Rng, low: u64, high: u64| until_us * rng.between(low, high) / 100;
    let begin = match strife.crime {
        Some(seat) => {
            for _ in 0..rng.between(1, 6) {
                out.push(Timed { at_us: at(rng, 0, 90), act: Act::Copy { seat } });
            }
            let at_us = at(rng, 40, 100);
            out.push(Timed { at_us, act: Act::Crime { seat, copy: rng.below(8) as usize } });
            at_us
        }
        None if rng.chance(35) => {
            // Long enough for every HTLC's deadline; some are settled meanwhile.
            let at_us = at(rng, 20, 90);
            out.push(Timed { at_us, act: Act::Apart { for_us: APART_BLOCKS * SECOND } });
            for block in 0..APART_BLOCKS {
                let at_us = at_us + block * SECOND;
                out.push(Timed { at_us, act: Act::Mine { blocks: 1 } });
                if rng.chance(50) {
                    out.push(Timed { at_us, act: Act::Settle { hold: rng.below(60) as usize } });
                }
            }
            at_us
        }
        None => {
            let at_us = at(rng, 30, 100);
            let first = rng.seat();
            out.push(Timed { at_us, act: Act::ForceClose { seat: first, nth: rng.below(2) as usize } });
            if rng.chance(30) {
                let act = Act::ForceClose { seat: 1 - first, nth: rng.below(2) as usize };
                out.push(Timed { at_us: at_us + rng.spread(1, SECOND), act });
            }
            at_us
        }
    };
    let mut at_us = begin;
    for _ in 0..rng.between(4, 40) {
        at_us += rng.spread(MS, 4 * SECOND);
        out.push(Timed { at_us, act: trouble(rng, strife) });
    }
    out.extend(more(seed, strife, begin, at_us));
    out
}

/// Payments that wait, and a copy of the cheat's disk while they do: with some of them it may stand in its victim's way.
fn held(cheat: usize, at_us: u64, rng: &mut Rng) -> Vec<Timed> {
    let pay = |place: usize, rng: &mut Rng| Act::Pay {
        number: HELD + place,
        payer: if place % 3 == 2 { cheat } else { 1 - cheat },
        much: Much::Msat(rng.between(3_000_000, 20_000_000)),
        how: if place == HELD_COUNT { How::Keysend } else { How::Hold },
    };
    let mut out: Vec<Timed> = (0..HELD_COUNT).map(|place| Timed { at_us, act: pay(place, rng) }).collect();
    out.push(Timed { at_us: at_us + 3 * SECOND, act: Act::Copy { seat: cheat } });
    out.push(Timed { at_us: at_us + 4 * SECOND, act: pay(HELD_COUNT, rng) });
    out
}

/// What comes on top of that, from a stream of its own: a cheat that calls again or pins, a chain made anew from far below.
fn more(seed: u64, strife: Strife, begin_us: u64, end_us: u64) -> Vec<Timed> {
    let rng = &mut Rng::new(seed, 8);
    let mut out = Vec::new();
    let mut at = |rng: &mut Rng, act: Act| {
        let at_us = begin_us + rng.below((end_us - begin_us).max(1));
        out.push(Timed { at_us, act });
    };
    let (haunts, pins, deep) = (rng.chance(50), rng.chance(90), rng.chance(20));
    let victim = strife.crime.map_or_else(|| rng.seat(), |cheat| 1 - cheat);
    let (forgotten, full) = (rng.chance(30), rng.chance(30));
    if strife.crime.is_some() && haunts {
        for _ in 0..rng.between(2, 8) {
            let what = rng.below(u64::from(super::haunt::WAYS)) as u8;
            at(rng, Act::Haunt { what });
        }
    }
    if let Some(cheat) = strife.crime.filter(|_| pins) {
        let blocks = rng.between(6, 16) as u32;
        out.push(Timed { at_us: begin_us + 1, act: Act::Pin { blocks } });
        out.extend(held(cheat, begin_us.saturating_sub(rng.between(5, 20) * SECOND), rng));
    }
    if forgotten {
        // Whoever comes back offers all of it again, at once.
        let at_us = begin_us + rng.below((end_us - begin_us).max(1));
        let down_us = rng.spread(MS, 400 * MS);
        let crash = Act::Crash { seat: victim, when: When::Now, after: 0, down_us, silent: false };
        out.push(Timed { at_us, act: Act::Evict { all: true } });
        out.push(Timed { at_us: at_us + MS, act: crash });
        out.push(Timed { at_us: at_us + SECOND, act: Act::Mine { blocks: 1 } });
    }
    if full {
        let at_us = begin_us + rng.below((end_us - begin_us).max(1));
        let troubles = vec![Trouble::Before; 6];
        out.push(Timed { at_us, act: Act::Disk { seat: victim, troubles } });
        for block in 0..4 {
            out.push(Timed { at_us: at_us + block * SECOND, act: Act::Mine { blocks: 1 } });
        }
    }
    if deep {
        let act = Act::Deep { blocks: rng.between(7, 100) as u32, forget: rng.chance(50) };
        let at_us = begin_us + rng.between(1, (end_us - begin_us).max(1));
        out.push(Timed { at_us, act });
    }
    out
}

/// One thing more that happens while claims are under way.
fn trouble(rng: &mut Rng, strife: Strife) -> Act {
    let seat = strife.crime.map_or_else(|| rng.seat(), |cheat| 1 - cheat);
    match rng.below(30) {
        0..=13 => Act::Mine { blocks: rng.between(1, 3) as u32 },
        14..=16 => Act::Unmine { blocks: rng.between(1, 6) as u32, forget: rng.chance(30) },
        17 => Act::Mute { seat, blocks: rng.between(1, 4) as u32 },
        18 => Act::Evict { all: rng.chance(50) },
        19 => Act::Floor { feerate: rng.spread(260, 3_000) as u32, blocks: rng.between(1, 3) as u32 },
        20 | 21 => Act::Estimate { seat: rng.seat(), normal: rng.spread(253, 3_000) as u32 },
        22 | 23 => Act::Crash {
            seat,
            when: *rng.pick(&[When::Now, When::BeforeWrite, When::AfterWrite, When::MidRelease(1)]),
            after: rng.below(3),
            down_us: rng.spread(MS, 8 * SECOND),
            silent: false,
        },
        24 => Act::Disk { seat, troubles: vec![Trouble::Before; rng.between(1, 6) as usize] },
        25 => Act::Bug { seat },
        26 | 27 => Act::Settle { hold: rng.below(60) as usize },
        28 => Act::Cancel { hold: rng.below(60) as usize },
        _ => Act::Unreachable { seat, for_us: rng.spread(MS, 5 * SECOND) },
    }
}
