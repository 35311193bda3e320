//! What a seed decides: people, channels with their terms, and acts in order.
//!
//! In: a number. Out: a plan, plain data; leaving acts out of it gives a plan again, so that a failure can be made small.
//! Calm plans hold only faults that cost nobody anything; in the others channels are closed by force, somebody cheats or
//! sleeps through deadlines. Read next: `play`.

use crate::duet::When;
use crate::sim::rng::Rng;

/// Every so many seeds one signs with the real curve.
const REAL_EVERY: u64 = 12;

/// What one end of a channel asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// For each HTLC, msat.
    pub base: u32,
    /// Of its amount, in millionths.
    pub ppm: u32,
    /// Blocks between the expiries of the two HTLCs.
    pub delta: u16,
}

/// One channel.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// Its ends; the first one opens it.
    pub ends: [usize; 2],
    /// Capacity, sat.
    pub sat: u64,
    /// Given to the second one at the start, percent.
    pub push: u64,
    /// With anchors, or static_remotekey only.
    pub anchors: bool,
    /// What each end asks for.
    pub terms: [Terms; 2],
}

/// What becomes of a hold invoice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Its money is taken.
    Settle,
    /// It goes back.
    Cancel,
    /// Nobody decides.
    Leave,
}

/// What is wrong with an explicit route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoil {
    /// Nothing.
    Nothing,
    /// A hop is to get one msat less than it asks for.
    FeeLess,
    /// One more.
    FeeMore,
    /// A hop is to have one block less than it asks for.
    DeltaLess,
    /// A channel that nobody has.
    Channel,
    /// The payee is to get less than it asked for.
    AmountLess,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// An invoice is made and paid.
    Pay {
        /// Who pays.
        from: usize,
        /// Whom.
        to: usize,
        /// How much.
        msat: u64,
        /// Of a hold invoice: its end.
        hold: Option<Fate>,
        /// What it may cost at most, in thousandths of the amount.
        most: Option<u64>,
    },
    /// A payment without invoice.
    Keysend {
        /// Who pays.
        from: usize,
        /// Whom.
        to: usize,
        /// How much.
        msat: u64,
    },
    /// An invoice is paid along a route that is given.
    Along {
        /// Who pays.
        from: usize,
        /// Draws the way.
        walk: u64,
        /// How much.
        msat: u64,
        /// What is wrong with it.
        spoil: Spoil,
    },
    /// An earlier invoice is to be paid once more.
    Again {
        /// Draws which.
        which: u64,
        /// By somebody else.
        other: bool,
    },
    /// A hold invoice is decided.
    Decide {
        /// Draws which.
        which: u64,
    },
    /// A node dies in one of its next steps, and comes back.
    Crash {
        /// Who.
        seat: usize,
        /// Which step from now.
        steps: u64,
        /// Where in it.
        when: When,
    },
    /// A link breaks.
    Cut {
        /// That of this channel.
        edge: usize,
    },
    /// Nobody hears of a node.
    Silence {
        /// Who.
        seat: usize,
    },
    /// All are heard again.
    Hear,
    /// A disk refuses every write.
    Disk {
        /// Whose.
        seat: usize,
        /// Which way.
        way: u64,
    },
    /// All disks work.
    DisksWork,
    /// Blocks, all at once.
    Burst {
        /// How many.
        blocks: u32,
    },
    /// Blocks one by one, everybody reads each.
    Pass {
        /// How many.
        blocks: u32,
    },
    /// Blocks go, one more comes.
    Reorg {
        /// How many go.
        depth: u32,
        /// What was in them is forgotten.
        forget: bool,
    },
    /// A channel is closed.
    Close {
        /// Which.
        edge: usize,
        /// By which end.
        end: usize,
        /// At once, without asking.
        force: bool,
    },
    /// A cheat lays its commitment aside.
    Copy {
        /// In which channel.
        edge: usize,
        /// Which end.
        end: usize,
    },
    /// The cheat publishes what it laid aside.
    Cheat,
    /// A node sleeps: it neither talks nor publishes.
    Sleep {
        /// Who.
        seat: usize,
    },
    /// All clocks jump.
    Clock {
        /// Forward, or back.
        ms: i64,
    },
    /// Time passes.
    Wait {
        /// How much.
        ms: u64,
    },
    /// An end asks for other fees.
    Terms {
        /// In which channel.
        edge: usize,
        /// Which end.
        end: usize,
        /// For each HTLC, msat.
        base: u32,
    },
}

/// An act with what happens before it.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// So many steps are taken first.
    pub turns: u32,
    /// Then this.
    pub act: Act,
}

/// What a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Signatures are real.
    pub real: bool,
    /// Nothing closes a channel, nobody cheats.
    pub calm: bool,
    /// How many nodes.
    pub people: usize,
    /// The channels.
    pub edges: Vec<Edge>,
    /// What happens.
    pub acts: Vec<Timed>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::new(seed, 1);
        let people = rng.between(3, 10) as usize;
        let calm = rng.chance(40);
        let edges = edges(&mut rng, people);
        let mut plan =
            Plan { seed, real: seed.is_multiple_of(REAL_EVERY), calm, people, edges, acts: Vec::new() };
        plan.payments(&mut Rng::new(seed, 2));
        plan.faults(&mut Rng::new(seed, 3));
        if !calm {
            plan.strife(&mut Rng::new(seed, 4));
        }
        plan
    }

    /// Only these acts.
    #[must_use]
    pub fn keep(mut self, places: &[usize]) -> Plan {
        self.acts = places.iter().filter_map(|place| self.acts.get(*place).copied()).collect();
        self
    }

    /// Whether an act may change what an end asks for.
    pub fn changes_terms(&self) -> bool {
        self.acts.iter().any(|timed| matches!(timed.act, Act::Terms { .. }))
    }

    fn payments(&mut self, rng: &mut Rng) {
        for _ in 0..rng.between(10, 60) {
            let (from, to) = self.two(rng);
            let msat = amount(rng);
            let most = rng.chance(40).then(|| rng.between(1, 40));
            let act = match rng.below(100) {
                0..=39 => Act::Pay { from, to, msat, hold: None, most },
                40..=66 => {
                    let fate = *rng.pick(&[Fate::Settle, Fate::Settle, Fate::Cancel, Fate::Leave]);
                    Act::Pay { from, to, msat, hold: Some(fate), most }
                }
                67..=73 => Act::Keysend { from, to, msat: msat.min(150_000_000) },
                74..=90 => {
                    let spoil = *rng.pick(&[
                        Spoil::Nothing,
                        Spoil::Nothing,
                        Spoil::FeeLess,
                        Spoil::FeeMore,
                        Spoil::DeltaLess,
                        Spoil::Channel,
                        Spoil::AmountLess,
                    ]);
                    Act::Along { from, walk: rng.number(), msat: msat.min(150_000_000), spoil }
                }
                _ => Act::Again { which: rng.number(), other: rng.chance(40) },
            };
            let turns = rng.spread(1, 200) as u32;
            self.acts.push(Timed { turns, act });
            if rng.chance(30) {
                let turns = rng.spread(1, 200) as u32;
                self.acts.push(Timed { turns, act: Act::Decide { which: rng.number() } });
            }
        }
    }

    fn two(&self, rng: &mut Rng) -> (usize, usize) {
        let from = rng.below(self.people as u64) as usize;
        let other = rng.below(self.people as u64 - 1) as usize;
        (from, if other >= from { other + 1 } else { other })
    }

    fn seat(&self, rng: &mut Rng) -> usize {
        rng.below(self.people as u64) as usize
    }

    fn edge(&self, rng: &mut Rng) -> usize {
        rng.below(self.edges.len() as u64) as usize
    }

    /// Puts an act somewhere among those that are there, and gives its place.
    fn put(&mut self, rng: &mut Rng, from: usize, act: Act) -> usize {
        let place = rng.between(from as u64, self.acts.len() as u64).min(self.acts.len() as u64) as usize;
        self.acts.insert(place, Timed { turns: rng.spread(1, 60) as u32, act });
        place
    }

    /// What costs nobody anything.
    fn faults(&mut self, rng: &mut Rng) {
        for _ in 0..rng.below(14) {
            let (seat, steps) = (self.seat(rng), rng.spread(1, 30));
            let when = *rng.pick(&[When::BeforeCommit, When::BeforeRelease, When::AfterRelease]);
            self.put(rng, 0, Act::Crash { seat, steps, when });
        }
        for _ in 0..rng.below(8) {
            let edge = self.edge(rng);
            self.put(rng, 0, Act::Cut { edge });
        }
        for _ in 0..rng.below(4) {
            let (seat, way) = (self.seat(rng), rng.below(3));
            let place = self.put(rng, 0, Act::Disk { seat, way });
            self.put(rng, place + 1, Act::DisksWork);
        }
        if rng.chance(50) {
            let seat = self.seat(rng);
            let place = self.put(rng, 0, Act::Silence { seat });
            self.put(rng, place + 1, Act::Hear);
        }
        for _ in 0..rng.below(4) {
            self.put(rng, 0, Act::Burst { blocks: 1 });
        }
        for _ in 0..rng.below(4) {
            let ms = rng.spread(10, 90_000);
            self.put(rng, 0, Act::Wait { ms });
        }
        if rng.chance(20) {
            let far = rng.spread(1_000, 7_200_000) as i64;
            let ms = if rng.chance(50) { far } else { -far };
            self.put(rng, 0, Act::Clock { ms });
        }
        if rng.chance(20) {
            let (edge, end, base) = (self.edge(rng), rng.seat(), rng.below(9_000) as u32);
            self.put(rng, 0, Act::Terms { edge, end, base });
        }
    }

    /// What closes channels.
    fn strife(&mut self, rng: &mut Rng) {
        for _ in 0..rng.below(4) {
            let (edge, end, force) = (self.edge(rng), rng.seat(), rng.chance(75));
            let place = self.put(rng, 5, Act::Close { edge, end, force });
            let blocks = rng.between(1, 3) as u32;
            self.acts
                .insert(place + 1, Timed { turns: rng.spread(1, 40) as u32, act: Act::Burst { blocks } });
            if rng.chance(40) {
                let (depth, forget) = (rng.between(1, 6) as u32, rng.chance(50));
                self.acts.insert(
                    place + 2,
                    Timed { turns: rng.spread(1, 60) as u32, act: Act::Reorg { depth, forget } },
                );
            }
        }
        if rng.chance(55) {
            let place = self.acts.len() * 2 / 3;
            for _ in 0..4 {
                let (edge, end) = (self.edge(rng), rng.seat());
                let copied = rng.below(place as u64 / 2) as usize;
                self.acts.insert(copied, Timed { turns: 1, act: Act::Copy { edge, end } });
            }
            let place = self.put(rng, place, Act::Cheat);
            let blocks = rng.between(1, 3) as u32;
            self.put(rng, place + 1, Act::Burst { blocks });
        }
        for _ in 0..rng.below(3) {
            let (depth, forget) = (rng.between(1, 6) as u32, rng.chance(50));
            self.put(rng, 5, Act::Reorg { depth, forget });
        }
        if rng.chance(50) {
            let seat = self.seat(rng);
            let act = if rng.chance(30) { Act::Sleep { seat } } else { Act::Silence { seat } };
            let place = self.put(rng, 5, act);
            let turns = rng.spread(1, 40) as u32;
            let blocks = rng.spread(5, 90) as u32;
            self.acts.insert(place + 1, Timed { turns, act: Act::Pass { blocks } });
            self.put(rng, place + 2, Act::Hear);
        }
    }
}

/// A tree that reaches everybody, and some channels more, also second ones between the same two.
fn edges(rng: &mut Rng, people: usize) -> Vec<Edge> {
    let mut ends: Vec<[usize; 2]> = Vec::new();
    let narrow = rng.chance(50);
    for late in 1..people {
        // Long lines as well as stars.
        let early = if narrow { late - 1 } else { rng.below(late as u64) as usize };
        ends.push([early, late]);
    }
    let more = if rng.chance(40) { 2 * people as u64 } else { rng.below(people as u64) };
    for _ in 0..more {
        let (a, b) = (rng.below(people as u64) as usize, rng.below(people as u64) as usize);
        let same = ends.iter().filter(|e| e.contains(&a) && e.contains(&b)).count();
        if a != b && same < 2 {
            ends.push([a, b]);
        }
    }
    ends.into_iter().map(|ends| edge(rng, ends)).collect()
}

fn edge(rng: &mut Rng, ends: [usize; 2]) -> Edge {
    let mut terms = || Terms {
        base: rng.below(5_000) as u32,
        ppm: rng.below(2_000) as u32,
        delta: rng.between(34, 50) as u16,
    };
    let terms = [terms(), terms()];
    Edge {
        ends,
        sat: rng.spread(150_000, 1_500_000),
        push: rng.between(20, 80),
        anchors: rng.chance(70),
        terms,
    }
}

/// Below what an output may be, of the usual size, or more than a channel holds.
fn amount(rng: &mut Rng) -> u64 {
    match rng.below(100) {
        0..=24 => rng.spread(1, 600_000),
        25..=79 => rng.spread(1_000_000, 100_000_000),
        _ => rng.between(100_000_000, 900_000_000),
    }
}
