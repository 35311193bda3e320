//! Grows a map of the public network's shape: who has how many channels, how large they are, what they ask for.
//!
//! In: a seed, how many nodes and channels. Out: the same map for the same seed. Each node gets as many
//! ends of channels as the figures say, and ends are joined by lot; so small nodes hang on large ones, as they do.
//! Not imitated: regions, services with special prices, channels that two nodes open side by side on purpose.
//! Read next: `figures`.

use super::figures::{self, Quantile};
use super::{Map, Road, Way};
use chand_protocol::entropy::Entropy;

/// What a node asks for in most of its channels.
struct Habit {
    asleep: bool,
    base: u32,
    delta: u16,
    millionths: u32,
}

/// Luck from a seed.
struct Dice(Entropy);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0.u64() % n
    }

    fn of_thousand(&mut self, many: u32) -> bool {
        self.below(1_000) < u64::from(many)
    }

    fn pick<T: Copy>(&mut self, of: &[(T, u32)]) -> T {
        let all: u32 = of.iter().map(|(_, weight)| weight).sum();
        let mut left = self.below(u64::from(all)) as u32;
        for (value, weight) in of {
            if left < *weight {
                return *value;
            }
            left -= weight;
        }
        of[0].0
    }

    /// A value from a table of equally likely steps, anywhere within its step.
    fn quantile(&mut self, steps: &[u64]) -> u64 {
        let step = self.below(steps.len() as u64 - 1) as usize;
        let share = self.below(1_000) as f64 / 1_000.0;
        between(steps[step], steps[step + 1], share)
    }
}

/// Even on a logarithmic scale.
fn between(low: u64, high: u64, share: f64) -> u64 {
    let (low, high) = (low as f64 + 1.0, high as f64 + 1.0);
    ((low * (high / low).powf(share)).round() - 1.0) as u64
}

fn degree_at(share: f64, table: &[Quantile]) -> u64 {
    let share = share * 10_000.0;
    for pair in table.windows(2) {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        if share <= f64::from(to) {
            return between(low, high, (share - f64::from(from)) / f64::from(to - from));
        }
    }
    1
}

/// Which of the classes whose upper ends are given.
fn class(degree: u32, uppers: &[u32]) -> usize {
    uppers.iter().take_while(|upper| degree > **upper).count()
}

impl Map {
    /// As large as the public network.
    pub fn public_size(seed: u64) -> Map {
        Map::grow(seed, figures::NODES, figures::CHANNELS)
    }

    /// So many nodes and about so many channels.
    pub fn grow(seed: u64, nodes: usize, channels: usize) -> Map {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_be_bytes());
        let mut dice = Dice(Entropy::new(key));
        let ends = ends(&mut dice, nodes, channels);
        let mut map = Map { nodes, roads: Vec::with_capacity(ends.len()) };
        let mut degrees = vec![0u32; nodes];
        ends.iter().flatten().for_each(|end| degrees[*end as usize] += 1);
        let habits: Vec<Habit> = degrees.iter().map(|degree| habit(&mut dice, *degree)).collect();
        for ends in ends {
            let fewer = degrees[ends[0] as usize].min(degrees[ends[1] as usize]);
            let steps = &figures::CAPACITIES[class(fewer, &[5, 35, 215])];
            let capacity_sat = round(dice.quantile(steps));
            let off = if ends.iter().any(|end| habits[*end as usize].asleep)
                || dice.of_thousand(figures::BOTH_OFF)
            {
                [true, true]
            } else if dice.of_thousand(figures::ONE_OFF) {
                let first = dice.of_thousand(500);
                [first, !first]
            } else {
                [false, false]
            };
            let ways = [0, 1]
                .map(|n| Way { disabled: off[n], ..way(&mut dice, &habits[ends[n] as usize], capacity_sat) });
            map.roads.push(Road { ends, capacity_sat, ways });
        }
        map
    }
}

/// Joins ends by lot; a node is not joined to itself.
fn ends(dice: &mut Dice, nodes: usize, channels: usize) -> Vec<[u32; 2]> {
    let mut stubs: Vec<u32> = Vec::with_capacity(channels * 2);
    for node in 0..nodes {
        let degree = degree_at((node as f64 + 0.5) / nodes as f64, &figures::DEGREES);
        stubs.extend((0..degree).map(|_| node as u32));
    }
    // The largest nodes take what rounding lost, in proportion.
    let large = stubs[stubs.len() * 3 / 4..].to_vec();
    while stubs.len() < channels * 2 {
        stubs.push(large[dice.below(large.len() as u64) as usize]);
    }
    for i in (1..stubs.len()).rev() {
        stubs.swap(i, dice.below(i as u64 + 1) as usize);
    }
    stubs.truncate(channels * 2);
    let mut pairs = Vec::with_capacity(channels);
    for i in (0..stubs.len() - 1).step_by(2) {
        for _ in 0..50 {
            if stubs[i] != stubs[i + 1] {
                break;
            }
            let other = dice.below(stubs.len() as u64) as usize;
            if other > i + 1 {
                stubs.swap(i + 1, other);
            }
        }
        if stubs[i] != stubs[i + 1] {
            pairs.push([stubs[i], stubs[i + 1]]);
        }
    }
    pairs
}

fn habit(dice: &mut Dice, degree: u32) -> Habit {
    Habit {
        asleep: dice.of_thousand(figures::ASLEEP[class(degree, &[3, 15, 63, 255])]),
        base: dice.pick(&figures::BASES),
        delta: dice.pick(&figures::DELTAS),
        millionths: dice.quantile(&figures::MILLIONTHS) as u32,
    }
}

fn way(dice: &mut Dice, habit: &Habit, capacity_sat: u64) -> Way {
    let other = Habit {
        asleep: false,
        base: dice.pick(&figures::BASES),
        delta: dice.pick(&figures::DELTAS),
        millionths: dice.quantile(&figures::MILLIONTHS) as u32,
    };
    let msat = capacity_sat * 1_000;
    let htlc_maximum_msat = match dice.below(100) {
        0..=72 => msat / 100 * 99,
        73..=79 => msat,
        _ => msat / 1_000 * (1 + dice.below(999)),
    };
    Way {
        disabled: false,
        htlc_minimum_msat: dice.pick(&figures::MINIMA),
        htlc_maximum_msat,
        fee_base_msat: if dice.of_thousand(figures::SAME_BASE) { habit.base } else { other.base },
        fee_millionths: if dice.of_thousand(figures::SAME_MILLIONTHS) {
            habit.millionths
        } else {
            other.millionths
        },
        cltv_delta: if dice.of_thousand(figures::SAME_DELTA) { habit.delta } else { other.delta },
    }
}

/// People like round numbers.
fn round(sat: u64) -> u64 {
    match sat {
        100_000.. => sat / 10_000 * 10_000,
        _ => sat,
    }
}
