//! The loop: what is next in time happens, until the plan is done and everything is mended.
//!
//! In: a plan. Out: an [`Outcome`]: counts, a trace, and the first verdict if any judge gave one.
//! Read next: `core`, `net`, `backend`, `actors`, then `heal`.

use super::actors::Asked;
use super::cheats::Cheat;
use super::core::last_panic;
use super::feud::Feud;
use super::heap::Heap;
use super::judge::{Judges, Verdict};
use super::marks::Marks;
use super::net::Net;
use super::plan::{Act, Knobs, Plan};
use super::rng::Rng;
use super::seat::Seat;
use super::tally::Tally;
use super::trace::Trace;
use crate::duet::chain::TinyChain;
use chand_protocol::id::CommandId;
use chand_protocol::store::Entry;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// More happenings than any run needs.
const RUNAWAY: u64 = 400_000;

/// What is planned in the heap.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Act(usize),
    Wake { seat: usize, life: u64 },
    Written { seat: usize, life: u64 },
    Arrive { conn: u64, from: usize },
    Dialled { seat: usize, life: u64 },
    DialTimeout { conn: u64 },
    Close { conn: u64, seat: usize },
    Follow { seat: usize, life: u64 },
    Publish { seat: usize, life: u64 },
    Back { seat: usize },
    Start { seat: usize },
    Betray { seat: usize },
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub acts: u64,
    pub steps: u64,
    pub writes: u64,
    pub refused: u64,
    pub messages: u64,
    pub delivered: u64,
    pub crashes: u64,
    pub reloads: u64,
    pub cuts: u64,
    pub lies: u64,
    pub paid: u64,
    pub failed: u64,
    pub looks: u64,
    pub quiet: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Counts) {
        self.acts += other.acts;
        self.steps += other.steps;
        self.writes += other.writes;
        self.refused += other.refused;
        self.messages += other.messages;
        self.delivered += other.delivered;
        self.crashes += other.crashes;
        self.reloads += other.reloads;
        self.cuts += other.cuts;
        self.lies += other.lies;
        self.paid += other.paid;
        self.failed += other.failed;
        self.looks += other.looks;
        self.quiet += other.quiet;
    }
}

/// Two nodes and all around them.
pub struct World {
    /// Microseconds since the start.
    pub now: u64,
    /// The conditions.
    pub knobs: Knobs,
    /// Both nodes.
    pub seats: [Seat; 2],
    /// The chain.
    pub chain: TinyChain,
    /// The links.
    pub net: Net,
    /// What happened.
    pub trace: Trace,
    /// What was counted.
    pub counts: Counts,
    /// What was met, by kind.
    pub tally: Tally,
    /// What the judges remember.
    pub judges: Judges,
    pub(super) heap: Heap<Happening>,
    pub(super) rng: Rng,
    pub(super) commands: BTreeMap<CommandId, Asked>,
    pub(super) next_command: u64,
    pub(super) cheat: Cheat,
    /// Closes by force and crimes.
    pub feud: Feud,
    pub(super) marks: Marks,
    /// What a disk held when the first channel had opened, for `reckless`.
    pub(super) old_copy: Option<(usize, Vec<Entry>)>,
    happened: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was counted.
    pub counts: Counts,
    /// What was met, by kind.
    pub tally: Tally,
    /// The trace's number: the same for the same plan.
    pub trace: u64,
    /// Its lines, when they were wanted.
    pub lines: Vec<String>,
    /// What was found, if anything.
    pub verdict: Option<Verdict>,
}

/// Plays a plan from its start to its end. A panic on the way is a finding like any other.
pub fn run(plan: &Plan, lines: bool) -> Outcome {
    let mut world = World::new(plan, lines);
    let played = catch_unwind(AssertUnwindSafe(|| world.play(plan)));
    let verdict = played.unwrap_or_else(|_| Err(Verdict::new("panic", last_panic()))).err();
    Outcome {
        counts: world.counts,
        tally: world.tally,
        trace: world.trace.value(),
        lines: world.trace.lines.take().unwrap_or_default(),
        verdict,
    }
}

impl World {
    fn new(plan: &Plan, lines: bool) -> World {
        let mut chain = TinyChain::new();
        let seats = [0, 1].map(|place| Seat::new(place, plan.seed, &plan.knobs, &mut chain));
        World {
            now: 0,
            knobs: plan.knobs.clone(),
            seats,
            chain,
            net: Net::default(),
            trace: Trace::new(lines),
            counts: Counts::default(),
            tally: Tally::default(),
            judges: Judges::default(),
            heap: Heap::default(),
            rng: Rng::new(plan.seed, 2),
            commands: BTreeMap::new(),
            next_command: 0,
            cheat: Cheat::default(),
            feud: Feud::new(),
            marks: Marks::default(),
            old_copy: None,
            happened: 0,
        }
    }

    fn play(&mut self, plan: &Plan) -> Result<(), Verdict> {
        for seat in 0..2 {
            self.start(seat)?;
        }
        self.set_up()?;
        let start = self.now;
        for (place, timed) in plan.acts.iter().enumerate() {
            self.heap.push(start + timed.at_us, Happening::Act(place));
        }
        let acts: Vec<&Act> = plan.acts.iter().map(|t| &t.act).collect();
        let end = start + plan.acts.last().map_or(0, |t| t.at_us);
        while self.heap.next_at().is_some_and(|at| at <= end) {
            self.next(&acts)?;
        }
        self.now = self.now.max(end);
        self.heal()
    }

    /// Lets time pass until then.
    pub(super) fn run_until(&mut self, at: u64) -> Result<(), Verdict> {
        while self.heap.next_at().is_some_and(|next| next <= at) {
            self.next(&[])?;
        }
        self.now = self.now.max(at);
        Ok(())
    }

    /// When that is.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.next_at()
    }

    /// The next thing happens.
    fn next(&mut self, acts: &[&Act]) -> Result<(), Verdict> {
        let Some((at, happening)) = self.heap.pop() else { return Ok(()) };
        self.now = self.now.max(at);
        self.happened += 1;
        if self.happened > RUNAWAY {
            return Err(Verdict::new("live", "there is no end to what happens"));
        }
        let done = match happening {
            Happening::Act(place) => acts.get(place).map_or(Ok(()), |act| self.perform(act)),
            Happening::Wake { seat, life } if self.lives(seat, life) => self.on_wake(seat),
            Happening::Written { seat, life } if self.lives(seat, life) => self.on_written(seat),
            Happening::Arrive { conn, from } => {
                self.on_arrive(conn, from);
                Ok(())
            }
            Happening::Dialled { seat, life } if self.lives(seat, life) => {
                self.on_dialled(seat);
                Ok(())
            }
            Happening::DialTimeout { conn } => {
                self.on_dial_timeout(conn);
                Ok(())
            }
            Happening::Close { conn, seat } => {
                self.on_close(conn, seat);
                Ok(())
            }
            Happening::Follow { seat, life } if self.lives(seat, life) => {
                self.on_follow(seat);
                Ok(())
            }
            Happening::Publish { seat, life } if self.lives(seat, life) => self.on_publish(seat),
            Happening::Back { seat } => {
                self.on_back(seat);
                Ok(())
            }
            Happening::Start { seat } => self.start(seat),
            Happening::Betray { seat } => self.on_betray(seat),
            // Of a life that is over.
            _ => Ok(()),
        };
        done?;
        self.judges.late.take().map_or(Ok(()), Err)
    }

    fn lives(&self, seat: usize, life: u64) -> bool {
        self.seats[seat].lives == life && self.seats[seat].life.is_some()
    }
}
