//! How long a durable commit takes here, and how many bytes it costs: `cargo run --release -p chand-storage
//! --example measure [DIR]`. The figures of docs/STORAGE.md come from it.

use chand_protocol::store::{Change, Store};
use chand_storage::{Owner, SledStore};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temp = tempfile::tempdir()?;
    let dir = std::env::args().nth(1).map_or(temp.path().join("measure"), PathBuf::from);
    let owner = Owner { network: "regtest".into(), node: "measure".into() };
    println!(
        "{:>8} {:>8} {:>8} {:>10} {:>10} {:>10} {:>12}",
        "values", "bytes", "commits", "p50 us", "p99 us", "per s", "disk/payload"
    );
    for (values, bytes, commits) in [
        (1, 100, 2_000),
        (4, 300, 2_000),
        (4, 2_000, 1_000),
        (40, 300, 500),
        (400, 300, 100),
        (4, 20_000, 300),
    ] {
        let mut store = SledStore::open(&dir.join(format!("{values}x{bytes}")), &owner)?;
        let before = store.size_on_disk()?;
        let mut times = Vec::new();
        let start = Instant::now();
        for n in 0..commits {
            let list: Vec<Change> = (0..values)
                .map(|v| Change::Put {
                    key: format!("record/{:05}", (n * values + v) % 2_000).into(),
                    value: vec![n as u8; bytes],
                })
                .collect();
            let at = Instant::now();
            store.commit(&[&list])?;
            times.push(at.elapsed().as_micros());
        }
        let total = start.elapsed().as_millis().max(1);
        times.sort_unstable();
        let grown = store.size_on_disk()?.saturating_sub(before);
        println!(
            "{values:>8} {bytes:>8} {commits:>8} {:>10} {:>10} {:>10} {:>11}%",
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            commits as u128 * 1_000 / total,
            grown * 100 / (commits * values * bytes) as u64,
        );
    }
    Ok(())
}
