//! How the tour is told: as a story, in JSON, or hardly at all; and the tally of its checks.
//!
//! In: what happened, and what was to be. Out: lines on standard output.
//! Read next: `story`.

use super::money::{fixed, grouped, short};
use serde_json::{json, Value};
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// For people.
    Story,
    /// Only figures: tables, checks, and how it ended.
    Quiet,
    /// One JSON object a line.
    Json,
}

/// How often the rate is shown anew on a terminal.
const REFRESH: Duration = Duration::from_millis(120);

/// Tells, and counts what held.
#[derive(Debug)]
pub struct Teller {
    manner: Manner,
    step: bool,
    terminal: bool,
    since: Instant,
    chapters: u32,
    passed: u32,
    failed: Vec<String>,
    last_rate: Option<Instant>,
    last_step: u64,
}

/// One HTLC of a snapshot, as it is shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ShownHtlc {
    /// Who pays whom, e.g. `Bob → Alice`.
    pub way: String,
    /// How much.
    pub amount_msat: u64,
    /// The lock, in hex.
    pub hash: String,
    /// The block at which it ends.
    pub expiry: u64,
}

/// A balance snapshot, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShownSnapshot {
    /// Alice's commitment number.
    pub number: u64,
    /// `current`, `revoked` or `pending`.
    pub status: String,
    /// Alice's.
    pub alice_msat: u64,
    /// Bob's.
    pub bob_msat: u64,
    /// What is under way.
    pub htlcs: Vec<ShownHtlc>,
}

impl Teller {
    /// A teller who has told nothing yet; with `step` each part waits for Enter.
    pub fn new(manner: Manner, step: bool) -> Teller {
        Teller {
            manner,
            step,
            terminal: std::io::stdout().is_terminal(),
            since: Instant::now(),
            chapters: 0,
            passed: 0,
            failed: Vec::new(),
            last_rate: None,
            last_step: 0,
        }
    }

    fn out(&self, line: &str) {
        // Nobody listens any more: the tour goes on, its exit status still tells.
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.terminal {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }

    /// A new part of the story; with `--step` after Enter.
    pub async fn chapter(&mut self, title: &str) {
        if self.step && self.chapters > 0 {
            self.out("   (Enter goes on)");
            // Who closes the input wants no more pauses.
            let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
            self.step = matches!(read.await, Ok(Ok(bytes)) if bytes > 0);
        }
        self.chapters += 1;
        match self.manner {
            Manner::Story => {
                let head = format!("{}. {title}", self.chapters);
                self.out(&format!("\n{}", self.paint("1", &head)));
            }
            Manner::Json => self.out(&json!({ "chapter": self.chapters, "title": title }).to_string()),
            Manner::Quiet => {}
        }
    }

    /// What happened.
    pub fn say(&self, line: &str) {
        match self.manner {
            Manner::Story => self.out(&format!("   {line}")),
            Manner::Json => self.out(&json!({ "say": line }).to_string()),
            Manner::Quiet => {}
        }
    }

    /// Compares what was read with what it must be.
    pub fn check<T: PartialEq + Display>(&mut self, what: &str, read: T, must_be: T) {
        let held = read == must_be;
        let (read, must_be) = (read.to_string(), must_be.to_string());
        if held {
            self.passed += 1;
        } else {
            self.failed.push(format!("{what}: {read}, must be {must_be}"));
        }
        match self.manner {
            Manner::Story | Manner::Quiet if held => {
                self.out(&format!("   {} {what}: {read}", self.paint("32", "✓")))
            }
            Manner::Story | Manner::Quiet => {
                self.out(&format!("   {} {what}: {read}, must be {must_be}", self.paint("31;1", "✗")));
            }
            Manner::Json => {
                let line = json!({ "check": what, "held": held, "read": read, "must_be": must_be });
                self.out(&line.to_string());
            }
        }
    }

    /// As [`Teller::check`], for amounts.
    pub fn check_money(&mut self, what: &str, read_msat: u64, must_be_msat: u64) {
        self.check(what, format!("{} BTC", short(read_msat)), format!("{} BTC", short(must_be_msat)));
    }

    /// The table: both balances and what is under way.
    pub fn snapshot(&self, snapshot: &ShownSnapshot) {
        if self.manner == Manner::Json {
            return self.out(&json!({ "snapshot": as_json(snapshot) }).to_string());
        }
        let title = format!("balance snapshot {} ({})", snapshot.number, snapshot.status);
        self.out(&format!("   ┌ {}", self.paint("1", &title)));
        for (name, msat) in [("Alice", snapshot.alice_msat), ("Bob", snapshot.bob_msat)] {
            self.out(&format!("   │ {name:<20}{:>14} BTC", fixed(msat)));
        }
        for htlc in &snapshot.htlcs {
            let way = format!("HTLC {}", htlc.way);
            let hash = htlc.hash.get(..16).unwrap_or(&htlc.hash);
            let lock = format!("hash {hash}…  until block {}", htlc.expiry);
            let lock = self.paint("2", &lock);
            self.out(&format!("   │ {way:<20}{:>14} BTC   {lock}", fixed(htlc.amount_msat)));
        }
        let htlcs: u64 = snapshot.htlcs.iter().map(|h| h.amount_msat).sum();
        let sum = snapshot.alice_msat.saturating_add(snapshot.bob_msat).saturating_add(htlcs);
        self.out(&format!("   └ {:<20}{:>14} BTC", "together", fixed(sum)));
    }

    /// How the many payments go: on a terminal one line that changes, elsewhere a line now and then.
    pub fn rate(&mut self, done: u64, of: u64, took: Duration) {
        let finished = done == of;
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = done.saturating_mul(1_000) / millis;
        match (self.manner, self.terminal) {
            (Manner::Quiet, _) => {}
            (Manner::Story, true) => {
                if !finished && self.last_rate.is_some_and(|at| at.elapsed() < REFRESH) {
                    return;
                }
                self.last_rate = Some(Instant::now());
                let filled = usize::try_from(done.saturating_mul(30) / of.max(1)).unwrap_or(30).min(30);
                let bar = format!("{}{}", "█".repeat(filled), "░".repeat(30 - filled));
                let end = if finished { "\n" } else { "" };
                let mut stdout = std::io::stdout();
                let _ = write!(
                    stdout,
                    "\r   {bar} {:>5} of {} paid, {per_second}/s   {end}",
                    grouped(done),
                    grouped(of)
                );
                let _ = stdout.flush();
            }
            (manner, _) => {
                // Every tenth part of the way.
                let step = done.saturating_mul(10) / of.max(1);
                if step == self.last_step {
                    return;
                }
                self.last_step = step;
                if manner == Manner::Json {
                    self.out(&json!({ "paid": done, "of": of, "per_second": per_second }).to_string());
                } else {
                    self.out(&format!("   {:>5} of {} paid, {per_second}/s", grouped(done), grouped(of)));
                }
            }
        }
    }

    /// Begins a line of its own after a changing one.
    pub fn break_rate(&self) {
        if self.manner == Manner::Story && self.terminal && self.last_rate.is_some() {
            self.out("");
        }
    }

    /// The tour could not go on.
    pub fn broke_off(&mut self, why: &str) {
        self.failed.push(why.to_string());
        if self.manner != Manner::Json {
            self.out(&format!("\n   {} {why}", self.paint("31;1", "✗")));
        }
    }

    /// The last lines of somebody's log.
    pub fn log_tail(&self, who: &str, tail: &str) {
        if self.manner != Manner::Json {
            eprintln!("---- the last lines of {who}.log\n{tail}");
        }
    }

    /// How it ended; true when all held.
    pub fn finish(&mut self) -> bool {
        let well = self.failed.is_empty() && self.passed > 0;
        let took = self.since.elapsed();
        if self.manner == Manner::Json {
            let line = json!({
                "ok": well,
                "passed": self.passed,
                "failed": self.failed,
                "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            });
            self.out(&line.to_string());
            return well;
        }
        for failure in &self.failed {
            self.out(&format!("   {} {failure}", self.paint("31;1", "✗")));
        }
        let (passed, failed) = (self.passed, self.failed.len());
        let seconds = format!("{}.{} s", took.as_secs(), took.subsec_millis() / 100);
        let line = format!("chand demo: {passed} checks held, {failed} did not, in {seconds}");
        let color = if well { "32;1" } else { "31;1" };
        self.out(&format!("\n{}", self.paint(color, &line)));
        well
    }

    /// Everything still runs: where.
    pub fn stay(&self, addresses: &[(String, String)]) {
        if self.manner == Manner::Json {
            let map: serde_json::Map<String, Value> =
                addresses.iter().map(|(name, place)| (name.clone(), json!(place))).collect();
            return self.out(&json!({ "running": map }).to_string());
        }
        self.out("\nAll of it is still running; Ctrl-C ends it.");
        for (name, place) in addresses {
            self.out(&format!("   {name:<15} {place}"));
        }
        if let Some((_, dir)) = addresses.first() {
            self.out(&format!("   try: chan-cli --data-dir {dir} -H listfunds"));
        }
    }

    /// Something went wrong, and its files were kept.
    pub fn kept(&self, home: &Path) {
        if self.manner != Manner::Json {
            self.out(&format!("The files of this run are kept in {}", home.display()));
        }
    }
}

fn as_json(s: &ShownSnapshot) -> Value {
    let htlcs: Vec<Value> = s
        .htlcs
        .iter()
        .map(|h| {
            json!({ "way": h.way, "amount_msat": h.amount_msat, "payment_hash": h.hash, "expiry": h.expiry })
        })
        .collect();
    json!({
        "number": s.number,
        "status": s.status,
        "alice_msat": s.alice_msat,
        "bob_msat": s.bob_msat,
        "htlcs": htlcs,
    })
}
