//! A bounded hunt: mutated inputs for one target until time or a number of executions runs out.
//!
//! In: a target, the kept inputs, a seed. Out: how much was run, or the first input that broke a promise, made small.
//! Without a compiler's help it still learns: a target tells what it [`saw`], and an input that shows something new
//! joins the pool. Everything but the time is decided by the seed. Uses `std` alone: the daemon's own tests include
//! this file.
//! Read next: `mutate`, then the targets.

use super::mutate::{mutate, Dice};
use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// An input that takes more of a processor's time than this is a finding, too.
const SLOW: Duration = Duration::from_secs(20);
/// How long a failing input is made smaller.
const SHRINK: Duration = Duration::from_secs(10);
/// The pool does not grow beyond this.
const MAX_POOL: usize = 4_000;

/// One promise about bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder of kept inputs.
    pub name: &'static str,
    /// What it promises, in a line.
    pub about: &'static str,
    /// Panics when the promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with, from vectors and real runs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// The longest input that makes sense.
    pub max_len: usize,
    /// Its share of the time.
    pub weight: u32,
    /// How many inputs one core runs in a second, about: turns a share of the time into a number that is the same everywhere.
    pub pace: u64,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.name)
    }
}

/// When a hunt ends.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// After this long …
    pub time: Duration,
    /// … or after so many executions.
    pub executions: u64,
}

/// What a hunt without a finding did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which target.
    pub name: &'static str,
    /// Inputs run, the kept ones included.
    pub executions: u64,
    /// In this time.
    pub took: Duration,
    /// Different things the target saw.
    pub seen: usize,
    /// Inputs that showed something new.
    pub pool: usize,
}

/// An input that broke a promise.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which target.
    pub name: &'static str,
    /// The words of the panic.
    pub words: String,
    /// As small as it could be made.
    pub input: Vec<u8>,
    /// As it was found.
    pub original: Vec<u8>,
    /// At which execution.
    pub execution: u64,
}

thread_local! {
    static SEEN: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
    static WORDS: RefCell<String> = const { RefCell::new(String::new()) };
    static HUNTING: Cell<bool> = const { Cell::new(false) };
}

/// A target tells what an input led to: an error's name, a phase, a count. Cheap, and no part of the promise.
pub fn saw(what: impl Hash) {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    SEEN.with(|seen| {
        seen.borrow_mut().insert(hasher.finish());
    });
}

/// Keeps the words of a panic for a thread that hunts, and prints nothing there.
fn quiet() {
    static ONCE: Once = Once::new();
    HUNTING.set(true);
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !HUNTING.get() {
                return before(info);
            }
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_string());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_else(|| "a panic without words".into());
            let place = info.location().map(|l| format!(" ({}:{})", l.file(), l.line()));
            WORDS.with(|words| *words.borrow_mut() = format!("{text}{}", place.unwrap_or_default()));
        }));
    });
}

/// Runs one input: what it saw, or the words of its panic.
fn run(target: &Target, input: &[u8]) -> Result<BTreeSet<u64>, String> {
    SEEN.with(|seen| seen.borrow_mut().clear());
    let since = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if ended.is_err() {
        return Err(WORDS.with(|words| words.borrow().clone()));
    }
    // On a busy machine the clock on the wall proves nothing: what looks slow is run again and its own time counted.
    if since.elapsed() > SLOW {
        let before = processor_time();
        (target.run)(input);
        let took = processor_time().saturating_sub(before);
        if took > SLOW {
            return Err(format!("it takes {} s of a processor", took.as_secs()));
        }
    }
    Ok(SEEN.with(|seen| std::mem::take(&mut *seen.borrow_mut())))
}

/// How long this thread has run on a processor, as Linux counts it; nothing where it does not tell.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

/// Hunts. `kept` are inputs known to be interesting; every one of them is run first.
///
/// # Errors
/// The first finding.
pub fn hunt(target: &Target, kept: &[Vec<u8>], seed: u64, bounds: Bounds) -> Result<Report, Box<Finding>> {
    quiet();
    let outcome = hunt_quietly(target, kept, seed, bounds);
    HUNTING.set(false);
    outcome
}

fn hunt_quietly(
    target: &Target,
    kept: &[Vec<u8>],
    seed: u64,
    bounds: Bounds,
) -> Result<Report, Box<Finding>> {
    let since = Instant::now();
    let mut dice = Dice::new(seed);
    let mut seen = BTreeSet::new();
    let mut pool: Vec<Vec<u8>> = Vec::new();
    let mut executions = 0;
    for input in kept.iter().cloned().chain([Vec::new()]) {
        executions += 1;
        let news = run(target, &input).map_err(|words| found(target, &input, words, executions))?;
        seen.extend(news);
        pool.push(input);
    }
    while executions < bounds.executions && since.elapsed() < bounds.time {
        // Every other time one of the newest.
        let newest = pool.len().min(64);
        let at =
            if dice.below(2) == 0 { dice.below(pool.len()) } else { pool.len() - 1 - dice.below(newest) };
        let input = mutate(&mut dice, &pool[at], &pool, target.max_len);
        executions += 1;
        let news = run(target, &input).map_err(|words| found(target, &input, words, executions))?;
        let before = seen.len();
        seen.extend(news);
        if seen.len() > before && pool.len() < MAX_POOL {
            pool.push(input);
        }
    }
    let (pool, took) = (pool.len(), since.elapsed());
    Ok(Report { name: target.name, executions, took, seen: seen.len(), pool })
}

fn found(target: &Target, input: &[u8], words: String, execution: u64) -> Box<Finding> {
    let smaller = shrink(target, input);
    Box::new(Finding { name: target.name, words, input: smaller, original: input.to_vec(), execution })
}

/// Takes pieces out, large ones first, as long as it still fails.
fn shrink(target: &Target, input: &[u8]) -> Vec<u8> {
    let since = Instant::now();
    let mut best = input.to_vec();
    let mut piece = best.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let before = best.len();
        while at < best.len() && since.elapsed() < SHRINK {
            let mut shorter = best.clone();
            shorter.drain(at..(at + piece).min(best.len()));
            if run(target, &shorter).is_err() {
                best = shorter;
            } else {
                at += piece;
            }
        }
        if since.elapsed() >= SHRINK || (piece == 1 && best.len() == before) {
            return best;
        }
        piece = (piece / 2).max(1);
    }
}

/// Runs one input and shows its words when it fails.
///
/// # Errors
/// The words of the panic.
pub fn replay(target: &Target, input: &[u8]) -> Result<usize, String> {
    quiet();
    let outcome = run(target, input).map(|seen| seen.len());
    HUNTING.set(false);
    outcome
}

/// The inputs kept in a folder, in the order of their names.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn kept_in(folder: &Path) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files.into_iter().map(|path| std::fs::read(&path).map(|bytes| (path, bytes))).collect()
}

/// A seed that nobody had before: the time and the process.
pub fn fresh_seed() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time = time.map_or(0, |t| t.as_nanos() as u64);
    Dice::new(time ^ u64::from(std::process::id()) << 40).roll() >> 16
}
