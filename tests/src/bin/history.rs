//! What a channel's past costs: so many payments over one channel, then the bytes that are kept, by kind of record.
//!
//! In: options; `history --help` says which. Out: a table for each node, and what a node started from these records holds in
//! memory. Two nodes on `node::step` with counterfeit signatures and the memory engine; the records are the real ones.
//! The figures of docs/STORAGE.md come from it. Read next: `chand_protocol::channel::save`.

use chand_protocol::record::Kind;
use chand_protocol::store::Entry;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, ALICE, BOB};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

const USAGE: &str = "\
history: N payments over one channel, and the bytes that two nodes keep of them, by kind of record.

  history [OPTIONS]

  --payments N       in turns from either side [10000]
  --in-flight K      so many at once, 1 to 450 [100]
";

/// Kinds of records that grow with payments; the rest is one line.
const GROWING: [(Kind, &str); 7] = [
    (Kind::Past, "HTLCs that ended (penalties)"),
    (Kind::Secret, "the peer's secrets"),
    (Kind::Snapshot, "signed snapshots (lists)"),
    (Kind::Payment, "payments"),
    (Kind::Invoice, "invoices"),
    (Kind::Htlc, "pending HTLCs"),
    (Kind::Onion, "onions of pending HTLCs"),
];

struct Options {
    payments: u64,
    in_flight: u64,
}

fn options() -> Result<Option<Options>, String> {
    let mut options = Options { payments: 10_000, in_flight: 100 };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        if matches!(flag.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let slot = match flag.as_str() {
            "--payments" => &mut options.payments,
            "--in-flight" => &mut options.in_flight,
            _ => return Err(format!("{flag} is no option; see --help")),
        };
        let value = words.next().ok_or_else(|| format!("{flag} wants a value"))?;
        *slot = value.replace('_', "").parse().map_err(|_| format!("{value} is no number"))?;
    }
    options.in_flight = options.in_flight.clamp(1, 450);
    Ok(Some(options))
}

fn live(options: &Options) -> Duet {
    let mut duet = Duet::counterfeit(7, |_, config| config.dev = false);
    duet.check_every = 0;
    duet.burst = 2_000;
    duet.connect();
    duet.open(Open { sat: 16_000_000, push_msat: 8_000_000_000, ..Open::default() });
    let (mut done, mut round, mut told) = (0, 0u64, Instant::now());
    while done < options.payments {
        let count = options.in_flight.min(options.payments - done);
        duet.pay_many(if round % 2 == 0 { ALICE } else { BOB }, &format!("{round}"), count, 1_000_000);
        done += count;
        round += 1;
        duet.seats.iter_mut().for_each(|seat| seat.log.clear());
        if told.elapsed().as_secs() >= 20 {
            eprintln!("… {done} payments");
            told = Instant::now();
        }
    }
    duet
}

fn table(name: &str, entries: &[Entry], payments: u64) {
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (key, value) in entries {
        let kind = Kind::of(key);
        let found = GROWING.iter().find(|(k, _)| Some(*k) == kind);
        let slot = kinds.entry(found.map_or("everything else", |(_, words)| words)).or_default();
        slot.0 += 1;
        slot.1 += (key.len() + value.len()) as u64;
    }
    println!("{name}:");
    println!("{:>32} {:>10} {:>14} {:>18}", "", "records", "bytes", "bytes a payment");
    let sum = kinds.values().fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1));
    for (words, (records, bytes)) in kinds.into_iter().chain([("together", sum)]) {
        println!("{words:>32} {records:>10} {bytes:>14} {:>18.1}", bytes as f64 / payments as f64);
    }
}

/// What Linux says this process holds in memory, kB.
fn resident_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Entries as lengths and bytes.
fn write(path: &Path, entries: &[Entry]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for part in entries.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
    }
    std::fs::write(path, bytes)
}

/// The same, one by one, so that the file is never in memory as a whole.
fn read(path: &Path) -> std::io::Result<Vec<Entry>> {
    use std::io::Read;
    let mut file = std::io::BufReader::new(std::fs::File::open(path)?);
    let mut entries = Vec::new();
    let mut length = [0; 4];
    while file.read_exact(&mut length).is_ok() {
        let mut key = vec![0; u32::from_le_bytes(length) as usize];
        file.read_exact(&mut key)?;
        file.read_exact(&mut length)?;
        let mut value = vec![0; u32::from_le_bytes(length) as usize];
        file.read_exact(&mut value)?;
        entries.push((key, value));
    }
    Ok(entries)
}

/// In a process of its own: a node started from a file of records, and what it holds in memory.
fn reborn(seat: usize, path: &str) -> Result<(), String> {
    let duet = Duet::counterfeit(7, |_, config| config.dev = false);
    let before = resident_kb();
    let entries = read(Path::new(path)).map_err(|e| e.to_string())?;
    let read = resident_kb();
    let since = Instant::now();
    let node = duet.seats[seat].try_reborn(entries).map_err(|e| e.to_string())?;
    let took = since.elapsed();
    println!(
        "started from it: {} kB resident beyond an empty node's {before} kB ({} kB of it while the records were read), {:.2} s, {} channel",
        resident_kb().saturating_sub(before),
        read.saturating_sub(before),
        took.as_secs_f64(),
        node.channels().count(),
    );
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, flag, seat, path] = words.as_slice() {
        if flag == "--reborn" {
            let seat = if seat == "0" { ALICE } else { BOB };
            return match reborn(seat, path) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("history: {why}");
                    ExitCode::FAILURE
                }
            };
        }
    }
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("history: {why}");
            return ExitCode::from(2);
        }
    };
    let since = Instant::now();
    let duet = live(&options);
    println!(
        "{} payments, {} in flight: {:.0} s, {} commitments of Alice's",
        options.payments,
        options.in_flight,
        since.elapsed().as_secs_f64(),
        duet.channel(ALICE).commits.local_number,
    );
    let kept = [ALICE, BOB].map(|seat| duet.seats[seat].store.durable());
    drop(duet);
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("a folder: {e}"));
    for (seat, entries) in kept.into_iter().enumerate() {
        table(["Alice", "Bob"][seat], &entries, options.payments);
        let path = dir.path().join("records");
        if let Err(why) = write(&path, &entries) {
            eprintln!("history: {}: {why}", path.display());
            return ExitCode::FAILURE;
        }
        drop(entries);
        let me = std::env::current_exe().unwrap_or_else(|e| panic!("this program: {e}"));
        let child = Command::new(me).arg("--reborn").arg(seat.to_string()).arg(&path).status();
        if !child.is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
