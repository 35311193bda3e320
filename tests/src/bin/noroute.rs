//! Measures what it costs to find no way: for who only tries again, and for who is told why.
//!
//! In: a map of the public network's size, payments that have no way (too large for the payee, too dear, too far). Out: a
//! line for each kind and each question – milliseconds, best read on an idle machine. Read next: docs/PERFORMANCE.md.

use chand_protocol::gossip::graph::Graph;
use chand_protocol::id::{NodeId, ShortChannelId};
use chand_protocol::route::{FirstHop, Query, Scorer, Search};
use chand_protocol::units::{Msat, Timestamp};
use chand_tests::map::{ids, Map};
use std::process::ExitCode;
use std::time::Instant;

/// Payments of each kind, with other ends each.
const COUNT: usize = 40;

/// What stands in the way.
struct Kind {
    name: &'static str,
    amount_msat: u64,
    max_fee_msat: u64,
    max_blocks: u32,
    parts: usize,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "too large, 16 parts",
        amount_msat: 90_000_000_000,
        max_fee_msat: 900_000_000,
        max_blocks: 1_008,
        parts: 16,
    },
    Kind {
        name: "too large, 1 part",
        amount_msat: 90_000_000_000,
        max_fee_msat: 900_000_000,
        max_blocks: 1_008,
        parts: 1,
    },
    Kind {
        name: "fee of 1 msat, 16 parts",
        amount_msat: 50_000_000,
        max_fee_msat: 1,
        max_blocks: 1_008,
        parts: 16,
    },
    Kind {
        name: "42 blocks, 16 parts",
        amount_msat: 50_000_000,
        max_fee_msat: 500_000,
        max_blocks: 42,
        parts: 16,
    },
];

fn main() -> ExitCode {
    let map = Map::public_size(1);
    let ids = ids(map.nodes);
    let graph = map.graph(&ids);
    println!("kind | none found | try_parts ms: p50 / most | parts ms: p50 / most");
    for kind in &KINDS {
        measure(kind, &graph, &map, &ids);
    }
    ExitCode::SUCCESS
}

fn measure(kind: &Kind, graph: &Graph, map: &Map, ids: &[NodeId]) {
    let mut search = Search::new();
    let scorer = Scorer::new();
    let (mut cheap, mut dear, mut asked) = (Vec::new(), Vec::new(), 0);
    // The payer is not in the graph: its three channels lead to nodes with many.
    let degrees = map.degrees();
    let mut large: Vec<usize> = (0..map.nodes).collect();
    large.sort_by_key(|n| std::cmp::Reverse(degrees[*n]));
    let first: Vec<FirstHop> = [3, 11, 40]
        .into_iter()
        .map(|n| FirstHop {
            scid: ShortChannelId(n),
            peer: ids[large[n as usize]],
            spendable: Msat(200_000_000_000),
            htlc_minimum: Msat(1),
            htlc_maximum: Msat(200_000_000_000),
        })
        .collect();
    let us = chand_tests::map::ids(map.nodes + 1)[map.nodes];
    // Whom many lead to: nothing of that is seen without a search.
    for at in large.iter().skip(100).step_by(7).copied() {
        if cheap.len() == COUNT {
            break;
        }
        let query = Query {
            us,
            payee: ids[at],
            amount: Msat(kind.amount_msat),
            final_cltv_delta: 40,
            max_fee: Msat(kind.max_fee_msat),
            max_cltv_blocks: kind.max_blocks,
            max_hops: 20,
            max_parts: kind.parts,
            first_hops: Some(&first),
            hints: &[],
            exclude: &[],
            in_flight: &[],
            beside: &[],
            told: &[],
            now: Timestamp(1_000_000),
        };
        asked += 1;
        let begun = Instant::now();
        if search.try_parts(graph, &scorer, &query).is_some() {
            continue;
        }
        cheap.push(begun.elapsed().as_micros());
        let begun = Instant::now();
        let _ = search.parts(graph, &scorer, &query);
        dear.push(begun.elapsed().as_micros());
    }
    let show = |times: &mut Vec<u128>| {
        times.sort_unstable();
        let ms = |us: u128| us as f64 / 1_000.0;
        let (middle, most) = (times.get(times.len() / 2), times.last());
        format!("{:.2} / {:.2}", ms(*middle.unwrap_or(&0)), ms(*most.unwrap_or(&0)))
    };
    let none = cheap.len();
    println!("{} | {none} of {asked} | {} | {}", kind.name, show(&mut cheap), show(&mut dear));
}
