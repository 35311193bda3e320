//! Plays seeds through the simulator until one fails.
//!
//! In: which seeds, on how many threads. Out: a line now and then, a last line that scripts can read; on a failure the
//! seed, the judge and its words, the acts that are needed for it, and the command that plays them again. Exit code 1.
//! Read next: `chand_tests::sim`.

use chand_tests::sim::core::note_panics;
use chand_tests::sim::plan::Signing;
use chand_tests::sim::tally::Tally;
use chand_tests::sim::world::Counts;
use chand_tests::sim::{run, shrink, Outcome, Plan, Verdict};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HELP: &str = "\
usage: sim [--seeds N | --seconds S] [--from S] [--threads T] [--real]
       sim --seed S [--keep P,P-P,…] [--trace] [--real] [--shrink] [--save FILE]
       sim --plan FILE [--trace]      one plan as it was saved
       sim --kept FOLDER              every plan of a folder
       sim --marks [--seeds N | --seconds S]   tells which ways on chain were gone; one never gone is a failure

Plays N seeds (1,000 when nothing is said), or as many of them as fit in S seconds, from a number drawn from the clock unless
--from names it. Every sixteenth seed, or with --real each, signs with the real curve and runs every transaction through
Bitcoin Core's interpreter. Every 64th is played twice and must leave the same trace.";

/// More threads than any machine has.
const MOST_THREADS: u64 = 1_024;
/// More acts than any plan has.
const MOST_ACTS: usize = 100_000;

/// What the command line asks for.
#[derive(Default)]
struct Options {
    seeds: Option<u64>,
    seconds: Option<u64>,
    from: Option<u64>,
    seed: Option<u64>,
    keep: Option<Vec<usize>>,
    save: Option<String>,
    plan: Option<String>,
    kept: Option<String>,
    threads: Option<usize>,
    real: bool,
    trace: bool,
    shrink: bool,
    marks: bool,
}

/// What is wrong with a command line, or nothing but help wanted.
enum Instead {
    Help,
    Wrong(String),
}

impl From<String> for Instead {
    fn from(words: String) -> Instead {
        Instead::Wrong(words)
    }
}

fn options() -> Result<Options, Instead> {
    let mut o = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word}: a value is missing"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        let some = |text: String| match number(text.clone())? {
            0 => Err(format!("{text}: at least 1")),
            count => Ok(count),
        };
        match word.as_str() {
            "--seeds" => o.seeds = Some(some(value()?)?),
            "--seconds" => o.seconds = Some(some(value()?)?),
            "--from" => o.from = Some(number(value()?)?),
            "--seed" => o.seed = Some(number(value()?)?),
            "--threads" => o.threads = Some(some(value()?)?.min(MOST_THREADS) as usize),
            "--keep" => o.keep = Some(places(&value()?)?),
            "--save" => o.save = Some(value()?),
            "--plan" => o.plan = Some(value()?),
            "--kept" => o.kept = Some(value()?),
            "--real" => o.real = true,
            "--trace" => o.trace = true,
            "--shrink" => o.shrink = true,
            "--marks" => o.marks = true,
            "--help" | "-h" => return Err(Instead::Help),
            other => return Err(format!("unknown option {other}\n{HELP}").into()),
        }
    }
    let stories =
        [o.seed.is_some(), o.plan.is_some(), o.kept.is_some(), o.seeds.or(o.seconds).or(o.from).is_some()];
    if stories.into_iter().filter(|said| *said).count() > 1 {
        return Err("one of --seed, --plan, --kept, or seeds by number or time".to_owned().into());
    }
    let of_one = o.keep.is_some() || o.trace || o.shrink || o.save.is_some();
    if of_one && o.seed.is_none() && o.plan.is_none() {
        return Err("--keep, --trace, --shrink and --save need --seed or --plan".to_owned().into());
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
        if first > last || last > MOST_ACTS {
            return Err(format!("{part}: no such places"));
        }
        out.extend(first..=last);
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
    done: Mutex<(u64, Counts, Tally)>,
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
        done.2.join(&outcome.tally);
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
        tell_kinds(&shared);
        println!("{}", summary(&shared, seconds, "none"));
        return if o.marks { marks(&shared) } else { ExitCode::SUCCESS };
    };
    let after = seed - from + 1;
    println!("FAILED seed={seed} judge={} after={after} seeds: {}", verdict.judge, verdict.words);
    tell(&plan(seed, o.real), (0..Plan::new(seed).acts.len()).collect(), &verdict, o.real);
    tell_kinds(&shared);
    println!("{}", summary(&shared, seconds, verdict.judge));
    ExitCode::FAILURE
}

/// How often each kind of lie and of fault came.
fn tell_kinds(shared: &Shared) {
    let done = shared.done.lock().expect("no thread panics with it");
    done.2.lines().iter().for_each(|line| println!("{line}"));
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
    let path = std::env::temp_dir().join(format!("sim-{}.json", plan.seed));
    match std::fs::write(&path, plan.clone().keep(&kept).to_json()) {
        Ok(()) => println!("saved: {}; tests/sim/kept is for plans that found something", path.display()),
        Err(error) => println!("not saved: {}: {error}", path.display()),
    }
    let real = if real { " --real" } else { "" };
    println!("again: target/release/sim --seed {} --keep {}{real} --trace", plan.seed, spelled(&kept));
}

/// How often each way on chain was gone; one that never was is a failure.
fn marks(shared: &Shared) -> ExitCode {
    let marks = shared.done.lock().expect("no thread panics with it").2.marks();
    marks.iter().for_each(|(mark, count)| println!("{count:>8}  {mark}"));
    let missing = marks.iter().filter(|(_, count)| *count == 0).count();
    println!("sim marks={} missing={missing}", marks.len());
    ExitCode::from(u8::from(missing > 0))
}

fn summary(shared: &Shared, seconds: f64, judge: &str) -> String {
    let done = shared.done.lock().expect("no thread panics with it");
    let (seeds, c) = (done.0, done.1);
    format!(
        "sim seeds={seeds} seconds={seconds:.1} rate={:.0}/s acts={} steps={} writes={} refused={} messages={} paid={} \
         unpaid={} crashes={} reloads={} cuts={} lies={} looks={} quiet={} judge={judge}",
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
        c.looks,
        c.quiet
    )
}

/// One seed, or one plan, as its own story.
fn one(o: &Options) -> Result<ExitCode, String> {
    let whole = match (&o.plan, o.seed) {
        (Some(path), _) => read(Path::new(path))?,
        (None, seed) => plan(seed.unwrap_or(0), o.real),
    };
    let all: Vec<usize> = (0..whole.acts.len()).collect();
    let kept = o.keep.clone().unwrap_or(all);
    let played = whole.clone().keep(&kept);
    if let Some(path) = &o.save {
        std::fs::write(path, played.to_json()).map_err(|e| format!("{path}: {e}"))?;
    }
    let outcome = run(&played, o.trace);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!("trace {:016x} {:?}", outcome.trace, outcome.counts);
    let Some(verdict) = outcome.verdict else { return Ok(ExitCode::SUCCESS) };
    println!("FAILED seed={} judge={} after=1 seeds: {}", whole.seed, verdict.judge, verdict.words);
    if o.shrink {
        tell(&whole, kept, &verdict, o.real);
    }
    Ok(ExitCode::FAILURE)
}

fn read(path: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Plan::from_json(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Every plan of a folder, each played twice.
fn kept(folder: &str) -> Result<ExitCode, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{folder}: {e}"))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let mut failed = 0;
    for path in &paths {
        let plan = read(path)?;
        let (outcome, again) = (run(&plan, false), run(&plan, false));
        let same = || Verdict::new("same", "the same plan left another trace");
        let verdict = outcome.verdict.or_else(|| (outcome.trace != again.trace).then(same));
        if let Some(verdict) = verdict {
            failed += 1;
            println!("FAILED plan={} judge={}: {}", path.display(), verdict.judge, verdict.words);
        }
    }
    println!("sim kept plans={} failed={failed}", paths.len());
    Ok(if failed == 0 && !paths.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let o = match options() {
        Ok(o) => o,
        Err(Instead::Help) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(Instead::Wrong(words)) => {
            eprintln!("{words}");
            return ExitCode::from(2);
        }
    };
    note_panics();
    let done = match (&o.kept, o.seed.is_some() || o.plan.is_some()) {
        (Some(folder), _) => kept(folder),
        (None, true) => one(&o),
        (None, false) => Ok(many(&o)),
    };
    done.unwrap_or_else(|words| {
        eprintln!("{words}");
        ExitCode::from(2)
    })
}
