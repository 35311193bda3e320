//! Payments whose outcome is not known before: where the money of each channel lies is drawn once, and nobody is told.
//!
//! In: the map. Out: how many payments arrived, after how many attempts, for what fee, for both sides over the same
//! payments in worlds that begin the same. An attempt is one part sent; it fails at the first channel that has too
//! little on its side, and the router learns which. Money that arrives moves, so later payments meet what earlier ones left.
//! Read next: `side`.

use crate::ldk::{self, Ldk};
use crate::map::Map;
use crate::measure::busy;
use crate::ours::Ours;
use crate::search::{max_fee, people, NOW_S};
use crate::side::{Ask, Leg, Part, Side};
use chand_protocol::entropy::Entropy;
use chand_protocol::id::NodeId;
use std::time::Duration;

/// Attempts until a payment is given up.
const MAX_ATTEMPTS: usize = 40;
/// Between two payments.
const PAUSE_S: u64 = 60;

/// Where the money lies.
#[derive(Clone, Copy, Debug)]
enum Draw {
    /// Anywhere in the channel, all alike.
    Even,
    /// Nine in ten have nearly all of it on one side.
    OneSided,
}

/// What the first end of each road has, msat.
struct World {
    sides: Vec<u64>,
}

impl World {
    fn new(map: &Map, draw: Draw, payers: &[u32], seed: u64) -> World {
        let mut key = [9; 32];
        key[..8].copy_from_slice(&seed.to_be_bytes());
        let mut dice = Entropy::new(key);
        let mut below = move |n: u64| dice.u64() % n;
        let sides = map.roads.iter().map(|road| {
            let msat = road.capacity_sat * 1_000;
            let even = below(msat + 1);
            let few = below(msat / 10 + 1);
            let (tenth, half) = (below(10), below(2));
            // Payers know their own channels: all of it is on their side.
            match draw {
                _ if payers.contains(&road.ends[0]) => msat,
                _ if payers.contains(&road.ends[1]) => 0,
                Draw::OneSided if tenth > 0 => [few, msat - few][half as usize],
                _ => even,
            }
        });
        World { sides: sides.collect() }
    }

    fn has(&self, map: &Map, leg: &Leg) -> u64 {
        let first = self.sides[leg.road];
        if leg.way == 0 {
            first
        } else {
            map.roads[leg.road].capacity_sat * 1_000 - first
        }
    }

    /// Holds a part, or says at which leg there is too little.
    fn hold(&mut self, map: &Map, held: &mut [u64], part: &Part) -> Result<(), usize> {
        let short = |leg: &Leg| self.has(map, leg) < leg.amount_msat + held[leg.road * 2 + leg.way];
        match part.legs.iter().position(short) {
            Some(at) => Err(at),
            None => {
                part.legs.iter().for_each(|leg| held[leg.road * 2 + leg.way] += leg.amount_msat);
                Ok(())
            }
        }
    }

    fn settle(&mut self, part: &Part) {
        for leg in &part.legs {
            let side = &mut self.sides[leg.road];
            *side = if leg.way == 0 { *side - leg.amount_msat } else { *side + leg.amount_msat };
        }
    }
}

/// How a side did.
#[derive(Default)]
struct Score {
    arrived: usize,
    attempts: usize,
    attempts_of_arrived: usize,
    first_try: usize,
    fees: u64,
    sum: u64,
    searches: usize,
    searching: Duration,
}

pub fn run(map: &Map, ids: &[NodeId], seed: u64, count: usize, alone: bool) {
    let graph = map.graph(ids);
    let net = ldk::network(map, ids);
    println!("**Payments with unknown liquidity**, {count} a row, a third of them where parts are allowed, the same for both, what is learned is kept from one to the next\n");
    println!("| liquidity | amount, sat | parts | side | arrived | at once | attempts a payment (of those that arrived) | fees, ppm | ms a search |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let people = people(map);
    let degrees = map.degrees();
    for parts in [1, 10] {
        for draw in [Draw::Even, Draw::OneSided] {
            for (low, high) in [(10_000, 100_000), (100_000, 1_000_000), (1_000_000, 5_000_000)] {
                let mut dice = Entropy::new([seed as u8 ^ 0x55; 32]);
                let mut below = move |n: u64| dice.u64() % n;
                // Three payers with channels to choose from, so that what is learned is used.
                let mut payers = Vec::new();
                while payers.len() < 3 {
                    let payer = people[below(people.len() as u64) as usize];
                    if (10..200).contains(&degrees[payer as usize]) {
                        payers.push(payer);
                    }
                }
                // A search for many parts takes LDK most of a second.
                let count = if parts > 1 { count.div_ceil(3) } else { count };
                let asks: Vec<Ask> = (0..count)
                    .map(|n| {
                        let payer = payers[n % 3];
                        let mut payee = payer;
                        while payers.contains(&payee) {
                            payee = people[below(people.len() as u64) as usize];
                        }
                        let amount_msat = (low + below(high - low)) * 1_000;
                        let now_s = NOW_S + n as u64 * PAUSE_S;
                        Ask { payer, payee, amount_msat, max_fee_msat: max_fee(amount_msat), parts, now_s }
                    })
                    .collect();
                let mut sides: [Box<dyn Side + '_>; 2] =
                    [Box::new(Ours::new(&graph, map, ids, false)), Box::new(Ldk::new(&net, map, ids, false))];
                for side in sides.iter_mut().take(if alone { 1 } else { 2 }) {
                    let mut world = World::new(map, draw, &payers, seed);
                    let mut score = Score::default();
                    for ask in &asks {
                        pay(map, &mut world, side.as_mut(), ask, &mut score);
                    }
                    let n = asks.len() as f64;
                    println!(
                        "| {draw:?} | {low}–{high} | {parts} | {} | {:.1} % | {:.1} % | {:.2} ({:.2}) | {:.0} | {:.2} |",
                        side.name(),
                        score.arrived as f64 * 100.0 / n,
                        score.first_try as f64 * 100.0 / n,
                        score.attempts as f64 / n,
                        score.attempts_of_arrived as f64 / score.arrived.max(1) as f64,
                        score.fees as f64 * 1e6 / score.sum.max(1) as f64,
                        score.searching.as_secs_f64() * 1_000.0 / score.searches.max(1) as f64
                    );
                }
            }
        }
    }
    println!();
}

fn pay(map: &Map, world: &mut World, side: &mut dyn Side, ask: &Ask, score: &mut Score) {
    let mut held = vec![0; map.roads.len() * 2];
    let (mut left, mut fee_left, mut attempts) = (ask.amount_msat, ask.max_fee_msat, 0);
    let mut done: Vec<Part> = Vec::new();
    while left > 0 && attempts < MAX_ATTEMPTS {
        let places = ask.parts.saturating_sub(done.len()).max(1);
        let now = Ask { amount_msat: left, max_fee_msat: fee_left, parts: places, ..*ask };
        let since = busy();
        let found = side.find(&now);
        score.searching += busy() - since;
        score.searches += 1;
        let Some(parts) = found else { break };
        for (n, part) in parts.into_iter().enumerate() {
            attempts += 1;
            match world.hold(map, &mut held, &part) {
                Ok(()) => {
                    left = left.saturating_sub(part.amount_msat);
                    fee_left = fee_left.saturating_sub(part.fee_msat);
                    side.held(n, ask.now_s);
                    done.push(part);
                }
                Err(at) => side.failed(n, at, ask.now_s),
            }
        }
    }
    side.ended(left == 0, ask.now_s);
    score.attempts += attempts;
    if left == 0 {
        score.arrived += 1;
        score.attempts_of_arrived += attempts;
        score.first_try += usize::from(attempts == done.len());
        score.sum += ask.amount_msat;
        score.fees += done.iter().map(|part| part.fee_msat).sum::<u64>();
        done.iter().for_each(|part| world.settle(part));
    }
}
