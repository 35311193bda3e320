//! How long a durable commit takes here, and how many bytes it costs: `cargo run --release -p chand-storage
//! --example measure [DIR]`. The figures of docs/STORAGE.md come from it.

use chand_protocol::store::{Change, Store};
use chand_storage::{Owner, SledStore};
use std::path::PathBuf;
use std::time::Instant;

/// Bytes that this process handed to the disk so far, where the system counts them.
fn bytes_written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("write_bytes: "));
    line.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temp = tempfile::tempdir()?;
    let dir = std::env::args().nth(1).map_or(temp.path().join("measure"), PathBuf::from);
    let owner = Owner { network: "regtest".into(), node: "measure".into() };
    println!(
        "{:>8} {:>8} {:>8} {:>10} {:>10} {:>10} {:>12} {:>10}",
        "values", "bytes", "commits", "p50 us", "p99 us", "per s", "written each", "on disk"
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
        let before = bytes_written();
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
        let written = bytes_written().saturating_sub(before) / commits as u64;
        println!(
            "{values:>8} {bytes:>8} {commits:>8} {:>10} {:>10} {:>10} {:>12} {:>10}",
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            commits as u128 * 1_000 / total,
            written,
            store.size_on_disk()?,
        );
    }
    Ok(())
}
