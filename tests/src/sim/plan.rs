//! What a seed decides before anything happens: the conditions of one run, and every act in it with its time.
//!
//! In: a number. Out: [`Knobs`] and a list of [`Act`]s: what users do, what the chain does, what goes wrong, what a
//! lying peer does. A seed enables a part of all kinds only and gives each a weight of its own, so that runs differ in
//! character and not only in detail. Acts are independent of each other: any of them can be left out, which is how a
//! failure is made small. Read next: `shrink`, `actors` (who performs them).

use super::cheats::Lie;
use super::feud::{self, Strife};
use super::rng::Rng;
use serde::{Deserialize, Serialize};

/// Microseconds.
pub const MS: u64 = 1_000;
/// Microseconds.
pub const SECOND: u64 = 1_000_000;

/// Which crypto signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Signing {
    /// Hashes.
    Counterfeit,
    /// The curve, and Bitcoin Core's interpreter for every transaction.
    Real,
}

/// The conditions of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Knobs {
    /// Which crypto.
    pub signing: Signing,
    /// Messages travel in the frames of BOLT 8, as bytes in chunks; otherwise whole.
    pub noise: bool,
    /// Who supports option_simple_close.
    pub simple_close: [bool; 2],
    /// How deep each wants a funding.
    pub confirms: [u32; 2],
    /// In flight towards each, percent of a channel.
    pub in_flight_percent: [u8; 2],
    /// How long a message is under way from each: least and most.
    pub delay_us: [(u64, u64); 2],
    /// How long each disk takes for a write: least and most.
    pub sync_us: [(u64, u64); 2],
    /// How long each node computes.
    pub step_us: [u64; 2],
    /// How long after its time each sees a block.
    pub lag_us: [u64; 2],
    /// Who lies, if anybody.
    pub liar: Option<usize>,
    /// Everything is closed by agreement at the end.
    pub close: bool,
    /// The first channel: who opens, how.
    pub first: Opening,
    /// Every so many releases a node is made of what is durable, and must know all that was said.
    pub look_every: u64,
    /// Keys are prepared between steps, as the daemon does.
    pub prepare: bool,
    /// At the end commitments of the past are built again.
    #[serde(default)]
    pub rebuild: bool,
    /// At the end the chain is made anew from below the first funding.
    #[serde(default)]
    pub new_chain: bool,
    /// The liar keeps none of the limits on HTLCs, and its peer takes so few of them.
    #[serde(default)]
    pub reckless: Option<u16>,
    /// At the end this node's disk is put back to what it held when the first channel had opened.
    #[serde(default)]
    pub put_back: Option<usize>,
    /// A chain whose blocks are not made at will: while its tip is old, HTLCs that come in wait.
    #[serde(default)]
    pub signet: bool,
    /// Channels are closed by force, and perhaps somebody cheats.
    #[serde(default)]
    pub onchain: Option<Strife>,
}

/// A channel to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// Who opens.
    pub seat: usize,
    /// Capacity.
    pub sat: u64,
    /// Given away.
    pub push_msat: u64,
    /// With anchors, or static_remotekey.
    pub anchors: bool,
    /// Sat per 1,000 weight units.
    pub feerate: u32,
}

/// How a payment is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum How {
    /// By an invoice with an amount.
    Invoice,
    /// By one without.
    AnyAmount,
    /// Without invoice.
    Keysend,
    /// By a hold invoice.
    Hold,
    /// The other way over a hold invoice that has the hash of an earlier one.
    Twin(usize),
    /// An invoice tried before, once more.
    Again(usize),
    /// To a hash that the payee does not know.
    Stray,
    /// An invoice, by `sendpay`.
    Sent,
    /// The same with a payment secret that is made up.
    Guessed,
}

/// How much is paid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Much {
    /// So many msat.
    Msat(u64),
    /// So many of a thousand of what can be spent at that moment, and this much more or less.
    Share(u64, i64),
}

/// Where a node dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum When {
    /// Wherever it stands.
    Now,
    /// A step was computed, and is not yet with the disk.
    BeforeWrite,
    /// In the middle of a write, of which the disk keeps all or nothing.
    DuringWrite {
        /// All of it.
        kept: bool,
    },
    /// It is durable, nothing left.
    AfterWrite,
    /// So many effects of a release are out, the rest is not.
    MidRelease(u8),
    /// All is out.
    AfterRelease,
}

impl When {
    /// For counting.
    pub const fn name(self) -> &'static str {
        match self {
            When::Now => "at rest",
            When::BeforeWrite => "before a write",
            When::DuringWrite { kept: false } => "in a write, lost",
            When::DuringWrite { kept: true } => "in a write, kept",
            When::AfterWrite => "after a write",
            When::MidRelease(_) => "in a release",
            When::AfterRelease => "after a release",
        }
    }
}

/// What a disk does with one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Trouble {
    /// Nothing is written, and it says so.
    Before,
    /// All is written and not synced, and it says so.
    Sync,
    /// All is written and synced, yet it says no.
    After,
}

/// One thing that happens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Act {
    Pay { number: usize, payer: usize, much: Much, how: How },
    Settle { hold: usize },
    Cancel { hold: usize },
    Delete { number: usize, paid: bool },
    Await { number: usize },
    Feerate { seat: usize, feerate: u32 },
    Estimate { seat: usize, normal: u32 },
    Open(Opening),
    Close { seat: usize, nth: usize },
    Ask { seat: usize, what: u8 },
    Ping { seat: usize, len: u16, pong: u16 },
    Chatter { seat: usize, what: u8 },
    Disconnect { seat: usize },
    Connect { seat: usize },
    Mine { blocks: u32 },
    Unmine { blocks: u32, forget: bool },
    Unreachable { seat: usize, for_us: u64 },
    Cut { keep: [u8; 2] },
    Silence,
    Crash { seat: usize, when: When, after: u64, down_us: u64, silent: bool },
    Disk { seat: usize, troubles: Vec<Trouble> },
    Slow { seat: usize, sync_us: u64, for_us: u64 },
    Bug { seat: usize },
    Clock { seat: usize, by_ms: i64 },
    Lie { lie: Lie, skip: u64 },
    ForceClose { seat: usize, nth: usize },
    Copy { seat: usize },
    Crime { seat: usize, copy: usize },
    Apart { for_us: u64 },
    Mute { seat: usize, blocks: u32 },
    Evict { all: bool },
    Floor { feerate: u32, blocks: u32 },
    Deep { blocks: u32, forget: bool },
    Haunt { what: u8 },
    Pin { blocks: u32 },
}

/// An act and its time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timed {
    /// When, after the first channel is open.
    pub at_us: u64,
    /// What.
    pub act: Act,
}

/// One whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The number it came from.
    pub seed: u64,
    /// The conditions.
    pub knobs: Knobs,
    /// The acts, in the order of time.
    pub acts: Vec<Timed>,
}

/// How often each kind of act comes, relative to the others.
struct Weights(Vec<(u64, Kind)>);

#[derive(Clone, Copy)]
enum Kind {
    Pay,
    Decide,
    Feerate,
    Estimate,
    Open,
    Close,
    Ask,
    Ping,
    Chatter,
    Disconnect,
    Mine,
    Unmine,
    Unreachable,
    Cut,
    Silence,
    Crash,
    Disk,
    Slow,
    Bug,
    Clock,
    Lie,
}

/// Each kind with its usual weight.
const KINDS: [(u64, Kind); 21] = [
    (45, Kind::Pay),
    (14, Kind::Decide),
    (6, Kind::Feerate),
    (2, Kind::Estimate),
    (1, Kind::Open),
    (1, Kind::Close),
    (3, Kind::Ask),
    (2, Kind::Ping),
    (2, Kind::Chatter),
    (1, Kind::Disconnect),
    (4, Kind::Mine),
    (1, Kind::Unmine),
    (1, Kind::Unreachable),
    (12, Kind::Cut),
    (1, Kind::Silence),
    (12, Kind::Crash),
    (3, Kind::Disk),
    (3, Kind::Slow),
    (2, Kind::Bug),
    (1, Kind::Clock),
    (50, Kind::Lie),
];

impl Weights {
    fn new(rng: &mut Rng, liar: bool) -> Weights {
        let mut list = Vec::new();
        for (usual, kind) in KINDS {
            let always = matches!(kind, Kind::Pay);
            let on = match kind {
                Kind::Lie => liar,
                Kind::Pay => true,
                Kind::Crash | Kind::Cut => rng.chance(75),
                _ => rng.chance(50),
            };
            let factor = if always { rng.between(3, 12) } else { rng.between(1, 8) };
            if on {
                list.push((usual * factor, kind));
            }
        }
        Weights(list)
    }

    fn pick(&self, rng: &mut Rng) -> Kind {
        let mut at = rng.below(self.0.iter().map(|(w, _)| w).sum());
        for (weight, kind) in &self.0 {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        Kind::Pay
    }
}

fn opening(rng: &mut Rng, seat: usize) -> Opening {
    let sat = *rng.pick(&[40_000, 100_000, 1_000_000, 1_000_000, 5_000_000, 16_000_000]);
    let push = match rng.below(4) {
        0 => 0,
        1 => sat * 1_000 / 2,
        2 => sat * rng.below(700),
        _ => rng.below(20_000_000).min(sat * 500),
    };
    Opening {
        seat,
        sat,
        push_msat: push,
        anchors: rng.chance(60),
        feerate: *rng.pick(&[253, 253, 500, 1_000, 2_500]),
    }
}

impl Knobs {
    fn new(seed: u64, rng: &mut Rng) -> Knobs {
        let signing = if seed.is_multiple_of(16) { Signing::Real } else { Signing::Counterfeit };
        let slow = rng.chance(20);
        let delay = |rng: &mut Rng| {
            let low = rng.spread(50, if slow { 400 * MS } else { 30 * MS });
            (low, low + rng.spread(1, if slow { SECOND } else { 40 * MS }))
        };
        let sync = |rng: &mut Rng| {
            let low = rng.spread(20, 8 * MS);
            (low, low + rng.spread(1, 20 * MS))
        };
        let first_seat = rng.seat();
        // A stream of its own: what came first keeps its chances.
        let end = &mut Rng::new(seed, 3);
        Knobs {
            signing,
            noise: rng.chance(30),
            simple_close: [rng.chance(45), rng.chance(60)],
            confirms: [rng.between(1, 3) as u32, 1],
            in_flight_percent: [*rng.pick(&[100, 100, 100, 60, 10]), *rng.pick(&[100, 100, 50])],
            delay_us: [delay(rng), delay(rng)],
            sync_us: [sync(rng), sync(rng)],
            step_us: [rng.spread(5, 4 * MS), rng.spread(5, 4 * MS)],
            lag_us: [rng.spread(1, 2 * SECOND), rng.spread(1, 2 * SECOND)],
            liar: rng.chance(30).then(|| rng.seat()),
            close: rng.chance(50),
            first: opening(rng, first_seat),
            look_every: if rng.chance(3) { 1 } else { *rng.pick(&[60, 250, 1_000]) },
            prepare: rng.chance(50),
            rebuild: end.chance(40),
            new_chain: end.chance(40),
            reckless: end.chance(20).then(|| end.between(2, 12) as u16),
            put_back: end.chance(20).then(|| end.seat()),
            signet: rng.chance(20),
            onchain: None,
        }
    }

    /// With closes by force: what would need a channel that works at the end is left out.
    fn with_strife(mut self, seed: u64) -> Knobs {
        self.onchain = Strife::new(seed).filter(|_| self.liar.is_none());
        if self.onchain.is_some() {
            (self.new_chain, self.put_back) = (false, None);
        }
        self
    }
}

fn much(rng: &mut Rng) -> Much {
    match rng.below(12) {
        0 => Much::Msat(rng.between(1, 1_000)),
        1 => Much::Msat(rng.between(1_000, 400_000)),
        // Around the dust limit, with and without the fee of an HTLC transaction on top.
        2 => Much::Msat(354_000 + rng.below(3) * 1_000 - 1_000 + rng.below(2)),
        3 => Much::Msat(rng.between(350_000, 1_200_000)),
        4..=6 => Much::Msat(rng.between(1_000_000, 30_000_000)),
        7 | 8 => Much::Share(rng.between(1, 300), 0),
        9 => Much::Share(rng.between(400, 990), 0),
        10 => Much::Share(1_000, 0),
        _ => Much::Share(1_000, rng.below(5) as i64 - 2),
    }
}

fn how(rng: &mut Rng, pays: usize) -> How {
    let earlier = rng.below(pays.max(1) as u64) as usize;
    match rng.below(20) {
        0..=7 => How::Invoice,
        8 => How::AnyAmount,
        9..=12 => How::Keysend,
        13..=15 => How::Hold,
        16 if pays > 0 => How::Twin(earlier),
        17 if pays > 0 => How::Again(earlier),
        18 => How::Stray,
        _ => How::Invoice,
    }
}

fn crash(rng: &mut Rng, span_us: u64) -> Act {
    let when = match rng.below(8) {
        0 => When::Now,
        1 => When::BeforeWrite,
        2 => When::DuringWrite { kept: false },
        3 => When::DuringWrite { kept: true },
        4 => When::AfterWrite,
        5 | 6 => When::MidRelease(rng.between(1, 4) as u8),
        _ => When::AfterRelease,
    };
    Act::Crash {
        seat: rng.seat(),
        when,
        after: rng.below(8),
        down_us: rng.spread(MS, span_us),
        silent: rng.chance(15),
    }
}

fn disk(rng: &mut Rng) -> Act {
    let troubles = [Trouble::Before, Trouble::Sync, Trouble::After];
    let count = rng.between(1, 3);
    Act::Disk { seat: rng.seat(), troubles: (0..count).map(|_| *rng.pick(&troubles)).collect() }
}

/// One act of a kind; `pays` payments were planned before it, and what lasts lasts `span_us` at most.
fn act(kind: Kind, rng: &mut Rng, knobs: &Knobs, pays: usize, span_us: u64) -> Act {
    let seat = rng.seat();
    match kind {
        Kind::Pay => Act::Pay { number: pays, payer: seat, much: much(rng), how: how(rng, pays) },
        Kind::Decide => {
            let hold = rng.below(pays.max(1) as u64) as usize;
            if rng.chance(60) {
                Act::Settle { hold }
            } else {
                Act::Cancel { hold }
            }
        }
        Kind::Feerate => Act::Feerate { seat, feerate: rng.spread(253, 12_000) as u32 },
        Kind::Estimate => Act::Estimate { seat, normal: rng.spread(253, 20_000) as u32 },
        Kind::Open => Act::Open(opening(rng, seat)),
        Kind::Close => Act::Close { seat, nth: rng.below(3) as usize },
        Kind::Ask => Act::Ask { seat, what: rng.below(8) as u8 },
        Kind::Ping => {
            Act::Ping { seat, len: rng.spread(1, 60_000) as u16, pong: rng.spread(1, 65_535) as u16 }
        }
        Kind::Chatter => Act::Chatter { seat, what: rng.below(5) as u8 },
        Kind::Disconnect => Act::Disconnect { seat },
        Kind::Mine => Act::Mine { blocks: if rng.chance(80) { 1 } else { rng.between(2, 12) as u32 } },
        Kind::Unmine => Act::Unmine { blocks: rng.between(1, 3) as u32, forget: rng.chance(20) },
        Kind::Unreachable => Act::Unreachable { seat, for_us: rng.spread(10 * MS, 2 * span_us) },
        Kind::Cut => {
            let keep = |rng: &mut Rng| match rng.below(3) {
                0 => 0,
                1 => 100,
                _ => rng.below(100) as u8,
            };
            Act::Cut { keep: [keep(rng), keep(rng)] }
        }
        Kind::Silence => Act::Silence,
        Kind::Crash => crash(rng, span_us),
        Kind::Disk => disk(rng),
        Kind::Slow => Act::Slow {
            seat,
            sync_us: rng.spread(20 * MS, span_us / 4),
            for_us: rng.spread(100 * MS, span_us),
        },
        Kind::Bug => Act::Bug { seat },
        Kind::Clock => {
            let by = rng.spread(100, 4_000_000) as i64;
            Act::Clock { seat, by_ms: if rng.chance(50) { by } else { -by } }
        }
        Kind::Lie => match knobs.liar {
            Some(_) => Act::Lie { lie: Lie::pick(rng), skip: rng.below(4) },
            None => Act::Ask { seat, what: 0 },
        },
    }
}

/// Orders that come on top of all others, from a stream of their own: `sendpay`, deleted invoices, waiting for one.
fn extra(seed: u64, pays: usize, until_us: u64) -> Vec<Timed> {
    let rng = &mut Rng::new(seed, 4);
    if !rng.chance(50) {
        return Vec::new();
    }
    let count = rng.between(1, 12) as usize;
    let one = |place: usize| {
        let at_us = rng.below(until_us.max(1));
        let number = rng.below((pays + count) as u64) as usize;
        let act = match rng.below(6) {
            0 | 1 => How::Sent.of(pays + place, rng),
            2 | 3 => How::Guessed.of(pays + place, rng),
            4 => Act::Delete { number, paid: rng.chance(50) },
            _ => Act::Await { number },
        };
        Timed { at_us, act }
    };
    (0..count).map(one).collect()
}

/// A channel more, about whose opening a liar lies.
fn opening_with_a_lie(seed: u64, knobs: &Knobs, until_us: u64) -> Vec<Timed> {
    let rng = &mut Rng::new(seed, 5);
    let Some(liar) = knobs.liar.filter(|_| rng.chance(25)) else { return Vec::new() };
    let at_us = rng.below(until_us.max(1));
    let lie = Act::Lie { lie: *rng.pick(&[Lie::OpenTerms, Lie::OpenWrong]), skip: 0 };
    let seat = if rng.chance(50) { liar } else { 1 - liar };
    let acts = [lie, Act::Open(opening(rng, seat)), Act::Mine { blocks: 3 }];
    acts.into_iter().map(|act| Timed { at_us, act }).collect()
}

impl How {
    fn of(self, number: usize, rng: &mut Rng) -> Act {
        Act::Pay { number, payer: rng.seat(), much: much(rng), how: self }
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let rng = &mut Rng::new(seed, 1);
        let knobs = Knobs::new(seed, rng).with_strife(seed);
        let weights = Weights::new(rng, knobs.liar.is_some());
        let count = rng.between(20, 110);
        // Dense runs pile everything up, sparse ones let most things end first.
        let pace_us = rng.spread(MS, 2 * SECOND);
        let span_us = (30 * pace_us).clamp(100 * MS, 20 * SECOND);
        let (mut at_us, mut pays, mut acts) = (0, 0, Vec::new());
        for place in 0..count {
            at_us += if rng.chance(30) { 0 } else { rng.below(2 * pace_us) };
            let kind = match weights.pick(rng) {
                // Nothing but what comes after would be left of the run.
                Kind::Close if place < count * 2 / 3 => Kind::Pay,
                Kind::Silence if pace_us < 300 * MS => Kind::Cut,
                kind => kind,
            };
            let act = act(kind, rng, &knobs, pays, span_us);
            pays += usize::from(matches!(act, Act::Pay { .. }));
            if let Act::Disconnect { seat } = act {
                // Whoever hung up calls again some time.
                let later = at_us + rng.below(span_us);
                acts.push(Timed { at_us: later, act: Act::Connect { seat } });
            }
            acts.push(Timed { at_us, act });
        }
        acts.extend(extra(seed, pays, at_us));
        acts.extend(opening_with_a_lie(seed, &knobs, at_us));
        acts.extend(feud::acts(seed, &knobs, at_us));
        acts.sort_by_key(|timed| timed.at_us);
        Plan { seed, knobs, acts }
    }

    /// A plan as it was kept.
    ///
    /// # Errors
    /// What stands in the way, in words.
    pub fn from_json(text: &str) -> Result<Plan, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    /// For keeping: an act a line.
    pub fn to_json(&self) -> String {
        let shown = |value: serde_json::Result<String>| value.unwrap_or_else(|e| format!("\"{e}\""));
        let acts: Vec<String> =
            self.acts.iter().map(|timed| format!("    {}", shown(serde_json::to_string(timed)))).collect();
        format!(
            "{{\n  \"seed\": {},\n  \"knobs\": {},\n  \"acts\": [\n{}\n  ]\n}}\n",
            self.seed,
            shown(serde_json::to_string(&self.knobs)),
            acts.join(",\n")
        )
    }

    /// The acts of these places only.
    pub fn keep(mut self, places: &[usize]) -> Plan {
        let all = std::mem::take(&mut self.acts);
        let kept = all.into_iter().enumerate().filter(|(place, _)| places.contains(place));
        self.acts = kept.map(|(_, timed)| timed).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_as_it_was_kept() {
        for seed in 0..200 {
            let plan = Plan::new(seed);
            let again = Plan::from_json(&plan.to_json()).expect("it is JSON");
            assert_eq!(again.to_json(), plan.to_json());
            assert_eq!(again.acts, plan.acts);
        }
    }
}
