//! A short hunt with every run of the unit tests, always the same; `tests/run.sh fuzz` makes it longer, with a seed of its own.

use super::hunt::{hunt, kept_in, Bounds};
use super::targets;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name)
}

/// Adds the inputs to begin with to the corpus: `HOSTILE_WRITE_SEEDS=1`.
fn write_seeds() {
    for target in targets() {
        let folder = folder(target.name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for bytes in (target.seeds)() {
            let name = &chand_protocol::id::to_hex(&chand_protocol::id::sha256(&bytes))[..16];
            std::fs::write(folder.join(name), &bytes).expect("written");
        }
    }
}

#[test]
fn no_bytes_of_a_client_a_backend_or_a_file_stop_the_daemon() {
    if std::env::var_os("HOSTILE_WRITE_SEEDS").is_some() {
        write_seeds();
    }
    let seed = number("HOSTILE_SEED").unwrap_or(1);
    let share_ms = number("HOSTILE_SECONDS").map_or(300, |s| s * 1_000 / targets().len() as u64);
    println!("seed {seed} (again with HOSTILE_SEED)");
    let mut findings = Vec::new();
    for target in targets() {
        let kept =
            kept_in(&folder(target.name)).unwrap_or_else(|e| panic!("the corpus of {}: {e}", target.name));
        let kept: Vec<Vec<u8>> = kept.into_iter().map(|(_, bytes)| bytes).collect();
        assert!(!kept.is_empty(), "nothing is kept for {}", target.name);
        let bounds = Bounds { time: Duration::MAX, executions: target.pace * share_ms / 1_000 };
        match hunt(&target, &kept, seed, bounds) {
            Ok(r) => println!(
                "{:20} {:>10} executions {:>6.1} s {:>5} kept {:>5} pool {:>6} seen",
                r.name,
                r.executions,
                r.took.as_secs_f64(),
                kept.len(),
                r.pool,
                r.seen
            ),
            Err(f) => findings.push(format!(
                "{} at execution {} of seed {seed}: {}\n  {}\n  {}",
                f.name,
                f.execution,
                f.words,
                chand_protocol::id::to_hex(&f.input),
                String::from_utf8_lossy(&f.input).escape_debug()
            )),
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
