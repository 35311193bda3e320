//! Route search on a graph of the real network's size: chand's beside LDK's, same graph, same queries, one process.
//!
//! In: `ldk-routes [--quick] [--seed N] [--payments N] [--payments-only] [--alone] [CSV]`: a table of channels (`-`: from stdin), or none:
//! one is grown from the seed. `--alone`: payments of chand's only, for who tries other prices.
//! Out: figures for docs/PERFORMANCE.md on stdout, as tables.
//! * `side`: what both must do; `ours`, `ldk`: the two; `search`: times and fees; `luck`: payments whose outcome is not
//!   known before; `measure`: the machine's counters.
//!
//! Read next: `search`, `luck`.
#![forbid(unsafe_code)]

mod ldk;
mod luck;
#[path = "../../../../src/map/mod.rs"]
#[allow(dead_code)]
mod map;
mod measure;
mod ours;
mod search;
mod side;

use map::Map;
use std::io::Read;

fn main() {
    let mut quick = false;
    let (mut alone, mut payments_only) = (false, false);
    let mut seed = 1;
    let mut payments = 150;
    let mut table = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--alone" => alone = true,
            "--payments-only" => payments_only = true,
            "--seed" => seed = args.next().and_then(|n| n.parse().ok()).expect("--seed wants a number"),
            "--payments" => {
                payments = args.next().and_then(|n| n.parse().ok()).expect("--payments wants a number")
            }
            "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).expect("stdin");
                table = Some(text);
            }
            file => table = Some(std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"))),
        }
    }
    let from = if table.is_some() { "read from a table".into() } else { format!("grown from seed {seed}") };
    let map = match table {
        Some(text) => Map::read(&text).unwrap_or_else(|e| panic!("{e}")),
        None => Map::public_size(seed),
    };
    println!("{} nodes, {} channels, {from}; seed {seed}\n", map.nodes, map.roads.len());
    let ids = map::ids(map.nodes);
    if !alone && !payments_only {
        search::run(&map, &ids, seed, quick);
    }
    luck::run(&map, &ids, seed, if quick { 20 } else { payments }, alone);
}
