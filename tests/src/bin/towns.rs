//! Plays seeds of many nodes until one fails.
//!
//! In: which seeds, on how many threads. Out: a last line that scripts can read; on a failure the seed, the judge and its
//! words, the acts that are needed for it, and the command that plays them again. Exit code 1.
//! Read next: `chand_tests::region`.

use chand_tests::region::marks::Marks;
use chand_tests::region::plan::Plan;
use chand_tests::region::{run, shrink, Outcome};
use chand_tests::sim::core::note_panics;
use chand_tests::sim::Verdict;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HELP: &str = "\
usage: towns [--seeds N | --seconds S] [--from S] [--threads T] [--marks]
       towns --seed S [--keep P,P-P,…] [--trace] [--shrink]

Plays N seeds (40 when nothing is said), or as many of them as fit in S seconds, from a number drawn from the clock unless
--from names it. --marks tells what was seen; one thing never seen is a failure. Every 16th seed is played twice and must
leave the same trace.";

/// Every so many seeds one is played twice.
const TWICE_EVERY: u64 = 16;
/// More threads than any machine has.
const MOST_THREADS: u64 = 1_024;

#[derive(Default)]
struct Options {
    seeds: Option<u64>,
    seconds: Option<u64>,
    from: Option<u64>,
    seed: Option<u64>,
    threads: Option<u64>,
    keep: Option<Vec<usize>>,
    marks: bool,
    trace: bool,
    shrink: bool,
}

fn options() -> Result<Options, String> {
    let mut o = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word}: a value is missing"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match word.as_str() {
            "--seeds" => o.seeds = Some(number(value()?)?),
            "--seconds" => o.seconds = Some(number(value()?)?),
            "--from" => o.from = Some(number(value()?)?),
            "--seed" => o.seed = Some(number(value()?)?),
            "--threads" => o.threads = Some(number(value()?)?.clamp(1, MOST_THREADS)),
            "--keep" => o.keep = Some(places(&value()?)?),
            "--marks" => o.marks = true,
            "--trace" => o.trace = true,
            "--shrink" => o.shrink = true,
            "--help" | "-h" => return Err(HELP.into()),
            other => return Err(format!("unknown option {other}\n{HELP}")),
        }
    }
    Ok(o)
}

/// Places as `--keep` takes them: `1,4-7`, or `-` for none.
fn places(text: &str) -> Result<Vec<usize>, String> {
    let mut out = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty() && *part != "-") {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |t: &str| t.parse::<usize>().map_err(|e| format!("{t}: {e}"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > 100_000 {
            return Err(format!("{part}: no such places"));
        }
        out.extend(first..=last);
    }
    Ok(out)
}

/// Plays a seed; now and then twice.
fn played(seed: u64) -> Outcome {
    let plan = Plan::new(seed);
    let mut outcome = run(&plan, false);
    if outcome.verdict.is_none()
        && seed.is_multiple_of(TWICE_EVERY)
        && run(&plan, false).trace != outcome.trace
    {
        outcome.verdict = Some(Verdict::new("same", "the same plan left another trace"));
    }
    outcome
}

/// What threads share.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<Done>,
}

/// What was done so far.
#[derive(Default)]
struct Done {
    seeds: u64,
    steps: u64,
    paid: (u64, u64),
    marks: Marks,
    failed: Option<(u64, Verdict)>,
}

fn work(shared: &Shared, end: u64, until: Option<Instant>) {
    while !shared.stop.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let outcome = played(seed);
        let mut done = shared.done.lock().expect("no thread panics with it");
        done.seeds += 1;
        done.steps += outcome.steps;
        done.paid = (done.paid.0 + outcome.paid.0, done.paid.1 + outcome.paid.1);
        done.marks.join(&outcome.marks);
        if let Some(verdict) = outcome.verdict {
            if done.failed.as_ref().is_none_or(|(first, _)| seed < *first) {
                done.failed = Some((seed, verdict));
            }
            shared.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Many seeds; the exit code.
fn many(o: &Options) -> ExitCode {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let from = o.from.unwrap_or(clock >> 10 & 0xffff_ffff_ffff);
    let threads =
        o.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |n| n.get() as u64));
    let count = o.seeds.unwrap_or(if o.seconds.is_some() { u64::MAX / 2 } else { 40 });
    println!("seeds from {from}, {threads} threads");
    let started = Instant::now();
    let until = o.seconds.map(|s| started + Duration::from_secs(s));
    let shared = Shared { next: AtomicU64::new(from), ..Shared::default() };
    let end = from.saturating_add(count);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&shared, end, until));
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut done = shared.done.lock().expect("no thread panics with it");
    let failed = done.failed.take();
    if let Some((seed, verdict)) = &failed {
        let after = seed - from + 1;
        println!("FAILED seed={seed} judge={} after={after} seeds: {}", verdict.judge, verdict.words);
        tell(&Plan::new(*seed), verdict);
    }
    let judge = failed.as_ref().map_or("none", |(_, verdict)| verdict.judge);
    println!(
        "towns seeds={} seconds={seconds:.1} steps={} paid={} unpaid={} judge={judge}",
        done.seeds, done.steps, done.paid.0, done.paid.1
    );
    let missing = if o.marks { tell_marks(&done.marks) } else { 0 };
    ExitCode::from(u8::from(failed.is_some() || missing > 0))
}

/// What was seen in how many runs; gives how many things never were.
fn tell_marks(marks: &Marks) -> usize {
    let counts = marks.counts();
    counts.iter().for_each(|(mark, count)| println!("{count:>8}  {mark}"));
    let missing = counts.iter().filter(|(_, count)| *count == 0).count();
    println!("towns marks={} missing={missing}", counts.len());
    missing
}

/// The failure made small, and how to see it again.
fn tell(plan: &Plan, verdict: &Verdict) {
    let kept = shrink(plan, verdict.judge);
    println!("{} of {} acts are needed; {} nodes", kept.len(), plan.acts.len(), plan.people);
    for place in &kept {
        let timed = &plan.acts[*place];
        println!("  {place:>4}  after {:>3} steps  {:?}", timed.turns, timed.act);
    }
    if let Some(small) = run(&plan.clone().keep(&kept), false).verdict {
        println!("then: {}: {}", small.judge, small.words);
    }
    let spelled: Vec<String> = kept.iter().map(usize::to_string).collect();
    let spelled = if spelled.is_empty() { "-".into() } else { spelled.join(",") };
    println!("again: target/release/towns --seed {} --keep {spelled} --trace", plan.seed);
}

/// One seed as its own story.
fn one(seed: u64, o: &Options) -> ExitCode {
    let whole = Plan::new(seed);
    let plan = o.keep.as_ref().map_or(whole.clone(), |kept| whole.keep(kept));
    let outcome = run(&plan, o.trace);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!(
        "trace {:016x} steps={} paid={} unpaid={}",
        outcome.trace, outcome.steps, outcome.paid.0, outcome.paid.1
    );
    let Some(verdict) = outcome.verdict else { return ExitCode::SUCCESS };
    println!("FAILED seed={seed} judge={} after=1 seeds: {}", verdict.judge, verdict.words);
    if o.shrink {
        tell(&plan, &verdict);
    }
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    let o = match options() {
        Ok(o) => o,
        Err(words) => {
            let help = words == HELP;
            eprintln!("{words}");
            return ExitCode::from(if help { 0 } else { 2 });
        }
    };
    note_panics();
    match o.seed {
        Some(seed) => one(seed, &o),
        None => many(&o),
    }
}
