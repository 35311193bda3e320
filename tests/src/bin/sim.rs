//! Plays seeds through the simulator until one fails.
//!
//! In: which seeds, on how many threads. Out: a line now and then, a last line that scripts can read; on a failure the
//! seed, the judge and its words, the acts that are needed for it, and the command that plays them again. Exit code 1.
//! Read next: `chand_tests::sim`.

use chand_tests::sim::core::note_panics;
use chand_tests::sim::plan::Signing;
use chand_tests::sim::world::Counts;
use chand_tests::sim::{run, shrink, Outcome, Plan, Verdict};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HELP: &str = "\
usage: sim [--seeds N | --seconds S] [--from S] [--threads T] [--real]
       sim --seed S [--keep P,P-P,…] [--trace] [--real] [--shrink]
       sim --file F     the seeds of a file, one a line, each with the places to keep if not all

Plays N seeds (1,000 when nothing is said), or as many as fit in S seconds, from a number drawn from the clock unless
--from names it. Every sixteenth seed, or with --real each, signs with the real curve and runs every transaction through
Bitcoin Core's interpreter. Every 64th is played twice and must leave the same trace.";

/// What the command line asks for.
#[derive(Default)]
struct Options {
    seeds: Option<u64>,
    seconds: Option<u64>,
    from: Option<u64>,
    seed: Option<u64>,
    keep: Option<Vec<usize>>,
    file: Option<String>,
    threads: Option<usize>,
    real: bool,
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
            "--threads" => o.threads = Some(number(value()?)?.max(1) as usize),
            "--keep" => o.keep = Some(places(&value()?)?),
            "--file" => o.file = Some(value()?),
            "--real" => o.real = true,
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
        out.extend(number(first)?..=number(last)?);
    }
    Ok(out)
}

/// Places as `--keep` takes them.
fn spelled(places: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for place in places {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *place => *last = *place,
            _ => parts.push((*place, *place)),
        }
    }
    let part = |(first, last): &(usize, usize)| {
        if first == last {
            format!("{first}")
        } else {
            format!("{first}-{last}")
        }
    };
    if parts.is_empty() {
        return "-".into();
    }
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

fn plan(seed: u64, real: bool) -> Plan {
    let mut plan = Plan::new(seed);
    if real {
        plan.knobs.signing = Signing::Real;
    }
    plan
}

/// Plays a plan; now and then twice.
fn played(plan: &Plan) -> Outcome {
    let mut outcome = run(plan, false);
    if outcome.verdict.is_none() && plan.seed.is_multiple_of(64) {
        let again = run(plan, false);
        if again.trace != outcome.trace {
            outcome.verdict = Some(Verdict::new("same", "the same plan left another trace"));
        }
    }
    outcome
}

/// What threads share.
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<(u64, Counts)>,
    failed: Mutex<Option<(u64, Verdict)>>,
}

fn work(shared: &Shared, end: u64, until: Option<Instant>, real: bool) {
    while !shared.stop.load(Ordering::Relaxed) && until.is_none_or(|u| Instant::now() < u) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let outcome = played(&plan(seed, real));
        let mut done = shared.done.lock().expect("no thread panics with it");
        done.0 += 1;
        done.1.add(&outcome.counts);
        drop(done);
        if let Some(verdict) = outcome.verdict {
            let mut failed = shared.failed.lock().expect("no thread panics with it");
            if failed.as_ref().is_none_or(|(first, _)| seed < *first) {
                *failed = Some((seed, verdict));
            }
            shared.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Many seeds; the exit code.
fn many(o: &Options) -> ExitCode {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let from = o.from.unwrap_or(clock >> 10 & 0xffff_ffff_ffff);
    let threads = o.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |n| n.get()));
    let count = if o.seconds.is_some() { o.seeds.unwrap_or(u64::MAX / 2) } else { o.seeds.unwrap_or(1_000) };
    println!("seeds from {from}, {threads} threads");
    let started = Instant::now();
    let until = o.seconds.map(|s| started + Duration::from_secs(s));
    let shared = Shared {
        next: AtomicU64::new(from),
        stop: AtomicBool::new(false),
        done: Mutex::default(),
        failed: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(&shared, from.saturating_add(count), until, o.real)))
            .collect();
        let mut said = Instant::now();
        while !workers.iter().all(|w| w.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(50));
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                eprintln!("{}", summary(&shared, started.elapsed().as_secs_f64(), "…"));
            }
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let failed = shared.failed.lock().expect("no thread panics with it").take();
    let Some((seed, verdict)) = failed else {
        println!("{}", summary(&shared, seconds, "none"));
        return ExitCode::SUCCESS;
    };
    let after = seed - from + 1;
    println!("FAILED seed={seed} judge={} after={after} seeds: {}", verdict.judge, verdict.words);
    tell(&plan(seed, o.real), (0..Plan::new(seed).acts.len()).collect(), &verdict, o.real);
    println!("{}", summary(&shared, seconds, verdict.judge));
    ExitCode::FAILURE
}

/// The failure made small, and how to see it again.
fn tell(plan: &Plan, places: Vec<usize>, verdict: &Verdict, real: bool) {
    let kept = shrink(plan, places, verdict.judge);
    let small = run(&plan.clone().keep(&kept), false);
    println!("{} of {} acts are needed; conditions: {:?}", kept.len(), plan.acts.len(), plan.knobs);
    for place in &kept {
        let timed = &plan.acts[*place];
        println!("  {place:>4}  {:>12.6} s  {:?}", timed.at_us as f64 / 1e6, timed.act);
    }
    if let Some(small) = small.verdict {
        println!("then: {}: {}", small.judge, small.words);
    }
    let real = if real { " --real" } else { "" };
    println!(
        "again: cargo run --release -p chand-tests --bin sim -- --seed {} --keep {}{real} --trace",
        plan.seed,
        spelled(&kept)
    );
}

fn summary(shared: &Shared, seconds: f64, judge: &str) -> String {
    let (seeds, c) = *shared.done.lock().expect("no thread panics with it");
    format!(
        "sim seeds={seeds} seconds={seconds:.1} rate={:.0}/s acts={} steps={} writes={} refused={} messages={} paid={} \
         unpaid={} crashes={} reloads={} cuts={} lies={} looks={} judge={judge}",
        seeds as f64 / seconds.max(0.001),
        c.acts,
        c.steps,
        c.writes,
        c.refused,
        c.messages,
        c.paid,
        c.failed,
        c.crashes,
        c.reloads,
        c.cuts,
        c.lies,
        c.looks
    )
}

/// One seed, as its own story.
fn one(o: &Options, seed: u64) -> ExitCode {
    let whole = plan(seed, o.real);
    let all: Vec<usize> = (0..whole.acts.len()).collect();
    let kept = o.keep.clone().unwrap_or(all);
    let outcome = run(&whole.clone().keep(&kept), o.trace);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!("trace {:016x} {:?}", outcome.trace, outcome.counts);
    match outcome.verdict {
        None => ExitCode::SUCCESS,
        Some(verdict) => {
            println!("FAILED seed={seed} judge={} after=1 seeds: {}", verdict.judge, verdict.words);
            if o.shrink {
                tell(&whole, kept, &verdict, o.real);
            }
            ExitCode::FAILURE
        }
    }
}

/// Every seed of a file: a number, and perhaps the places to keep.
fn file(o: &Options, path: &str) -> Result<ExitCode, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let (mut count, mut failed) = (0, 0);
    for line in text.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).filter(|l| !l.is_empty())
    {
        let mut words = line.split_whitespace();
        let seed = words.next().unwrap_or_default().parse::<u64>().map_err(|e| format!("{line}: {e}"))?;
        let mut plan = plan(seed, o.real);
        if let Some(kept) = words.next() {
            plan = plan.keep(&places(kept)?);
        }
        count += 1;
        if let Some(verdict) = run(&plan, false).verdict {
            failed += 1;
            println!(
                "FAILED seed={seed} judge={} after={count} seeds: {} ({line})",
                verdict.judge, verdict.words
            );
        }
    }
    println!("sim kept seeds={count} failed={failed}");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let o = match options() {
        Ok(o) => o,
        Err(words) => {
            eprintln!("{words}");
            return ExitCode::from(2);
        }
    };
    note_panics();
    if let Some(path) = &o.file {
        return file(&o, path).unwrap_or_else(|words| {
            eprintln!("{words}");
            ExitCode::from(2)
        });
    }
    match o.seed {
        Some(seed) => one(&o, seed),
        None => many(&o),
    }
}
