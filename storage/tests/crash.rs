//! A process that dies, and a disk that is full: what was acknowledged is there, whole; a batch is never half there.
//!
//! A test runs itself again as a child, which writes batches and prints the number of each that was acknowledged.

use chand_protocol::store::{Change, Entry, Store};
use chand_storage::{Owner, SledStore};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const CHILD: &str = "CHAND_STORE_TEST_DIR";
/// How many entries a child begins with.
const FILLER: &str = "CHAND_STORE_TEST_FILLER";
const KEYS: usize = 8;

fn open(dir: &Path) -> SledStore {
    SledStore::open(&dir.join("store"), &Owner { network: "regtest".into(), node: "02aa".into() }).unwrap()
}

/// Batch `n`: its number under each key, with values of changing lengths, some in several parts.
fn batch(n: u32) -> Vec<Change> {
    (0..KEYS)
        .map(|k| {
            let len = 4 + (n as usize * 769 + k * 2_221) % 9_000;
            let mut value = vec![k as u8; len];
            value[..4].copy_from_slice(&n.to_be_bytes());
            Change::Put { key: vec![k as u8], value }
        })
        .collect()
}

/// What batch `n` leaves on disk.
fn entries_of(n: u32) -> Vec<Entry> {
    let change = |c| match c {
        Change::Put { key, value } => (key, value),
        Change::Delete { .. } => unreachable!("batches only put"),
    };
    batch(n).into_iter().map(change).collect()
}

/// The number of the batch on disk; every key must belong to the same one.
fn batch_on_disk(dir: &Path) -> u32 {
    let entries = open(dir).load().unwrap();
    let Some((_, first)) = entries.first() else { return 0 };
    let n = u32::from_be_bytes(first[..4].try_into().unwrap());
    assert!(entries == entries_of(n), "batch {n} is not whole");
    n
}

/// The child: writes until it is killed or a commit fails, and goes on where the disk stands.
fn write_batches(dir: &Path) {
    let start = batch_on_disk(dir);
    let mut store = open(dir);
    let mut out = std::io::stdout();
    for n in start + 1.. {
        if let Err(e) = store.commit(&[&batch(n)]) {
            // Of what was refused nothing is seen, also after the same batch again, as a journal would: still refused,
            // still no panic.
            for _ in 0..3 {
                assert!(
                    store.load_kept().is_ok_and(|kept| kept == entries_of(n - 1)),
                    "batch {} is not seen",
                    n - 1
                );
                assert!(store.commit(&[&batch(n)]).is_err());
            }
            writeln!(out, "failed: {e}").unwrap();
            return;
        }
        writeln!(out, "ack {n}").unwrap();
        out.flush().unwrap();
    }
}

/// The most that a file of this process may hold, in bytes; none: as much as there is room for.
fn limit_files(most: Option<u64>) {
    let limit = format!("--fsize={}:", most.map_or("unlimited".into(), |most| most.to_string()));
    let pid = std::process::id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(status.expect("prlimit, of util-linux").success(), "prlimit {limit}");
}

/// The child: commits of every kind, each of which is refused first. Whatever sled was about to do with its leaves, what was
/// kept before can be read. `filler` entries make the database larger than what sled holds in memory.
fn refuse_each(dir: &Path, filler: u32) {
    let mut store = open(dir);
    let mut kept: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let keep = |store: &mut SledStore, kept: &mut BTreeMap<_, _>, list: &[Change], refuse: bool| {
        if refuse {
            limit_files(Some(0));
            assert!(store.commit(&[list]).is_err(), "there is no room");
            let found = store.load_kept().unwrap_or_else(|e| panic!("{} entries: {e}", kept.len()));
            assert!(found.into_iter().eq(kept.clone()), "{} entries", kept.len());
            limit_files(None);
        }
        store.commit(&[list]).unwrap();
        for change in list {
            match change {
                Change::Put { key, value } => kept.insert(key.clone(), value.clone()),
                Change::Delete { key } => kept.remove(key),
            };
        }
    };
    let put =
        |key: u32, len: usize| Change::Put { key: key.to_be_bytes().to_vec(), value: vec![key as u8; len] };
    for n in 0..filler / 100 {
        let list: Vec<Change> = (0..100).map(|k| put((n * 100 + k) << 8, 3_000)).collect();
        keep(&mut store, &mut kept, &list, false);
    }
    // Spread over all keys, one leaf after the other fills and is emptied again.
    let step = (filler << 8) / 30 + 1;
    for n in 0..30 {
        let list: Vec<Change> = (0..5).map(|k| put(n * step + 7 * k + 1, 40 + 3_000 * k as usize)).collect();
        keep(&mut store, &mut kept, &list, true);
    }
    for n in 0..30 {
        let delete = |k: u32| Change::Delete { key: (n * step + 7 * k + 1).to_be_bytes().to_vec() };
        keep(&mut store, &mut kept, &(0..5).map(delete).collect::<Vec<_>>(), true);
    }
}

fn spawn(test: &str, dir: &Path, shell: Option<&str>) -> Child {
    command(test, dir, shell).stderr(Stdio::null()).spawn().unwrap()
}

fn command(test: &str, dir: &Path, shell: Option<&str>) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match shell {
        Some(before) => {
            let mut sh = Command::new("sh");
            sh.arg("-c").arg(format!("{before}; exec \"$0\" \"$@\"")).arg(exe);
            sh
        }
        None => Command::new(exe),
    };
    command.args([test, "--exact", "--nocapture"]).env(CHILD, dir);
    command.stdout(Stdio::piped());
    command
}

/// Reads what the child says until it has acknowledged `acks` batches or ended: the last acknowledged, the last line.
fn follow(child: &mut Child, acks: u32) -> (u32, String) {
    let (mut last, mut seen, mut line) = (0, 0, String::new());
    for text in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(text) = text else { break };
        // The test harness's own line may stand before the first acknowledgement.
        if let Some((_, n)) = text.rsplit_once("ack ") {
            last = n.parse().unwrap();
            seen += 1;
            if seen == acks {
                child.kill().unwrap();
            }
        }
        if text.contains("failed: ") {
            line = text;
        }
    }
    child.wait().unwrap();
    (last, line)
}

#[test]
fn killed_at_any_moment_it_holds_every_acknowledged_batch_whole() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return write_batches(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..15 {
        let mut child =
            spawn("killed_at_any_moment_it_holds_every_acknowledged_batch_whole", dir.path(), None);
        let (acked, _) = follow(&mut child, 1 + round * 7);
        let found = batch_on_disk(dir.path());
        assert!(acked > before, "the child wrote nothing");
        assert!(found >= acked, "batch {acked} was acknowledged, the disk holds {found}");
        before = found;
    }
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return write_batches(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    // No file may grow beyond two of sled's segments (the unit is 512 bytes); the signal that goes with it is ignored.
    let limit = "trap '' XFSZ; ulimit -f 2400";
    let mut child = spawn("a_full_disk_is_an_error_and_loses_nothing", dir.path(), Some(limit));
    let (acked, line) = follow(&mut child, u32::MAX);
    assert!(line.contains("could not be written"), "{line:?}");
    assert!(acked > 0);
    let found = batch_on_disk(dir.path());
    assert!(found == acked || found == acked + 1, "acknowledged {acked}, found {found}");
    // With room again, it goes on.
    let mut store = open(dir.path());
    store.commit(&[&batch(found + 1)]).unwrap();
    drop(store);
    assert_eq!(batch_on_disk(dir.path()), found + 1);
}

#[test]
fn what_was_kept_can_be_read_after_whichever_commit_is_refused() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let filler = std::env::var(FILLER).unwrap().parse().unwrap();
        return refuse_each(Path::new(&dir), filler);
    }
    for filler in [0, 6_000] {
        let dir = tempfile::tempdir().unwrap();
        let test = "what_was_kept_can_be_read_after_whichever_commit_is_refused";
        let mut command = command(test, dir.path(), Some("trap '' XFSZ"));
        let output = command.env(FILLER, filler.to_string()).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{filler}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
