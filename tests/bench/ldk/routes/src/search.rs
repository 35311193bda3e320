//! How long loading and searching take, what memory they need, and what the routes cost.
//!
//! In: the map. Out: tables. Each query goes to both sides, one after the other, with nothing learned, in one part.
//! Read next: `luck`.

use crate::ldk::{self, Ldk, Net, QUIET};
use crate::map::Map;
use crate::measure::{busy, quantiles, resident};
use crate::ours::Ours;
use crate::side::{Ask, Part, Side};
use chand_protocol::entropy::Entropy;
use chand_protocol::id::NodeId;
use lightning::util::ser::{ReadableArgs, Writeable};
use std::time::Duration;

/// Amounts, sat.
pub const AMOUNTS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// LDK compares with the clock.
pub const NOW_S: u64 = 1_700_000_000;

/// Payers and payees: nodes with a channel that leads there.
pub fn people(map: &Map) -> Vec<u32> {
    let mut reached = vec![false; map.nodes];
    let mut sends = vec![false; map.nodes];
    for road in &map.roads {
        for (n, _) in road.ways.iter().enumerate().filter(|(_, way)| !way.disabled) {
            sends[road.ends[n] as usize] = true;
            reached[road.ends[1 - n] as usize] = true;
        }
    }
    (0..map.nodes as u32).filter(|n| reached[*n as usize] && sends[*n as usize]).collect()
}

/// 1 % and 50 sat, as LDK has it.
pub fn max_fee(amount_msat: u64) -> u64 {
    amount_msat / 100 + 50_000
}

pub fn run(map: &Map, ids: &[NodeId], seed: u64, quick: bool) {
    load(map, ids);
    let graph = map.graph(ids);
    let net = ldk::network(map, ids);
    let queries = if quick { 20 } else { 400 };
    println!("**Search**, {queries} queries an amount, one part, nothing learned\n");
    println!("| | amount, sat | found, chand / LDK | chand ms: p50 / p99 / most | LDK ms: p50 / p99 / most | chand ms, none found | LDK ms, none found | fee lower / equal / higher than LDK's | sum of fees, chand / LDK |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for fees_only in [true, false] {
        let mut sides: [Box<dyn Side + '_>; 2] =
            [Box::new(Ours::new(&graph, map, ids, fees_only)), Box::new(Ldk::new(&net, map, ids, fees_only))];
        let mut all = Tally::default();
        for amount in AMOUNTS {
            let mut tally = Tally::default();
            let mut dice = Entropy::new([seed as u8; 32]);
            let people = people(map);
            for _ in 0..queries {
                let mut pick = || people[(dice.u64() % people.len() as u64) as usize];
                let (payer, payee) = (pick(), pick());
                if payer == payee {
                    continue;
                }
                let amount_msat = amount * 1_000;
                let ask = Ask {
                    payer,
                    payee,
                    amount_msat,
                    max_fee_msat: max_fee(amount_msat),
                    parts: 1,
                    now_s: NOW_S,
                };
                tally.query(&mut sides, map, &ask);
            }
            tally.row(if fees_only { "fees only" } else { "as shipped" }, &amount.to_string());
            all.add(&mut tally);
        }
        all.row(if fees_only { "fees only" } else { "as shipped" }, "all");
    }
    println!();
}

/// Queries of one kind.
#[derive(Default)]
struct Tally {
    /// Of searches that found a way, and of those that did not.
    times: [[Vec<Duration>; 2]; 2],
    found: [usize; 2],
    fees: [u64; 2],
    /// Lower, equal, higher.
    order: [usize; 3],
}

impl Tally {
    fn query(&mut self, sides: &mut [Box<dyn Side + '_>; 2], map: &Map, ask: &Ask) {
        let mut fees = [None; 2];
        for (n, side) in sides.iter_mut().enumerate() {
            let since = busy();
            let parts = side.find(ask);
            let time = busy() - since;
            self.times[n][usize::from(parts.is_none())].push(time);
            self.found[n] += usize::from(parts.is_some());
            if let Some(parts) = &parts {
                parts.iter().for_each(|part| assert_kept(map, side.name(), part));
            }
            fees[n] = parts.map(|parts| parts.iter().map(|part| part.fee_msat).sum::<u64>());
        }
        if let [Some(ours), Some(theirs)] = fees {
            self.fees[0] += ours;
            self.fees[1] += theirs;
            self.order[match ours.cmp(&theirs) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => 1,
                std::cmp::Ordering::Greater => 2,
            }] += 1;
        }
    }

    fn add(&mut self, other: &mut Tally) {
        for n in 0..2 {
            for m in 0..2 {
                self.times[n][m].append(&mut other.times[n][m]);
            }
            self.found[n] += other.found[n];
            self.fees[n] += other.fees[n];
        }
        (0..3).for_each(|n| self.order[n] += other.order[n]);
    }

    fn row(&mut self, kind: &str, amount: &str) {
        let both: usize = self.order.iter().sum();
        let share = |n: usize| 100.0 * self.order[n] as f64 / both.max(1) as f64;
        let order = [share(0), share(1), share(2)].map(|s| format!("{s:.1} %")).join(" / ");
        let text = |times: &mut Vec<Duration>| quantiles(times).map(|ms| format!("{ms:.2}")).join(" / ");
        let [[found, none], [their_found, their_none]] =
            self.times.each_mut().map(|both| both.each_mut().map(text));
        println!(
            "| {kind} | {amount} | {} / {} | {found} | {their_found} | {none} | {their_none} | {order} | {} / {} sat |",
            self.found[0],
            self.found[1],
            self.fees[0] / 1_000,
            self.fees[1] / 1_000
        );
    }
}

/// Each hop gets what it asks for: neither side may look good with routes that nobody would forward along.
fn assert_kept(map: &Map, whose: &str, part: &Part) {
    for (n, leg) in part.legs.iter().enumerate() {
        let (road, amount) = (&map.roads[leg.road], leg.amount_msat);
        let way = &road.ways[leg.way];
        let most = way.htlc_maximum_msat.min(road.capacity_sat * 1_000);
        assert!(!way.disabled && way.htlc_minimum_msat <= amount && amount <= most, "{whose}: {way:?}");
        if n > 0 {
            let share = u128::from(amount) * u128::from(way.fee_millionths) / 1_000_000;
            let asked = u64::from(way.fee_base_msat) + share as u64;
            assert!(part.legs[n - 1].amount_msat >= amount + asked, "{whose}: {way:?}");
        }
    }
}

fn load(map: &Map, ids: &[NodeId]) {
    // Keys as they are stored: chand works the points out, LDK when it needs them.
    let keys: Vec<[u8; 33]> = ids.iter().map(|id| id.0.serialize()).collect();
    let before = resident();
    let since = busy();
    let read: Vec<NodeId> =
        keys.iter().map(|key| NodeId(secp256k1::PublicKey::from_slice(key).expect("a key"))).collect();
    let graph = map.graph(&read);
    let ours = (busy() - since, resident() - before);
    drop(read);
    let bytes = ldk::network(map, ids).encode();
    let before = resident();
    let since = busy();
    let net: Net = ReadableArgs::read(&mut &bytes[..], &QUIET).expect("what it wrote");
    let theirs = (busy() - since, resident().saturating_sub(before));
    println!("**Loading**\n");
    println!("| | ms | resident MB | own count, MB |");
    println!("|---|---|---|---|");
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!(
        "| chand: keys, channels, policies | {:.0} | {:.1} | {:.1} |",
        ours.0.as_secs_f64() * 1_000.0,
        mb(ours.1),
        mb(graph.memory_bytes())
    );
    println!("| LDK: its own file | {:.0} | {:.1} | |\n", theirs.0.as_secs_f64() * 1_000.0, mb(theirs.1));
    drop(net);
}
