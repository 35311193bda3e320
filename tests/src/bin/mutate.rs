//! `mutate`: hostile bytes for every target, for a bounded time, on stable Rust.
//!
//! In: options (`mutate --help`); `tests/fuzz/corpus/TARGET/*`, every one of which is run first. Out: a line a target with
//! what was executed; status 1 and the failing input, in hex and in a file, when a promise was broken; status 2 when the
//! options made no sense.
//! Read next: `chand_tests::fuzz`.

use chand_protocol::id::{sha256, to_hex};
use chand_tests::fuzz::hunt::{fresh_seed, hunt, kept_in, replay, Bounds, Finding, Report, Target};
use chand_tests::fuzz::{find, TARGETS};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

/// What the kept inputs of all targets may weigh together.
const MAX_CORPUS_BYTES: usize = 2 << 20;

const USAGE: &str = "\
mutate: hostile bytes for every target, for a bounded time.

  mutate [OPTIONS]

  --target NAME      only this one; --list names them
  --seconds N        for all targets together [60]
  --executions N     at most so many inputs a target
  --by-count         as many inputs as usually fit into --seconds, however long they take: with --seed the same everywhere
  --threads N        [one for each core]
  --seed S           the same inputs again [a new one, which is printed]
  --input FILE       runs one input; wants --target
  --corpus DIR       the kept inputs [tests/fuzz/corpus]
  --write-seeds      adds the inputs to begin with to the corpus
  --list             the targets
";

struct Options {
    targets: Vec<&'static Target>,
    seconds: u64,
    executions: u64,
    by_count: bool,
    threads: usize,
    seed: u64,
    input: Option<PathBuf>,
    write_seeds: bool,
    corpus: PathBuf,
    findings: PathBuf,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn read_options() -> Result<Option<Options>, String> {
    let mut options = Options {
        targets: TARGETS.iter().collect(),
        seconds: 60,
        executions: u64::MAX,
        by_count: false,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        seed: fresh_seed(),
        input: None,
        write_seeds: false,
        corpus: root().join("tests/fuzz/corpus"),
        findings: root().join("target/fuzz-findings"),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--target" => {
                let name = value()?;
                options.targets = vec![find(&name).ok_or(format!("no target is called {name}: see --list"))?];
            }
            "--seconds" => options.seconds = number(value()?)?,
            "--executions" => options.executions = number(value()?)?,
            "--threads" => options.threads = number(value()?)?.clamp(1, 64) as usize,
            "--seed" => options.seed = number(value()?)?,
            "--input" => options.input = Some(value()?.into()),
            "--corpus" => options.corpus = value()?.into(),
            "--by-count" => options.by_count = true,
            "--write-seeds" => options.write_seeds = true,
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(None);
            }
            "--list" => {
                TARGETS.iter().for_each(|target| println!("{:16} {}", target.name, target.about));
                return Ok(None);
            }
            _ => return Err(format!("{word} is no option; see --help")),
        }
    }
    if options.input.is_some() && options.targets.len() != 1 {
        return Err("--input wants --target: one input is for one target".into());
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let result = read_options().and_then(|options| options.map_or(Ok(true), |options| run(&options)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(words) => {
            eprintln!("mutate: {words}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool, String> {
    if options.write_seeds {
        write_seeds(options)?;
    }
    if let (Some(file), [target]) = (&options.input, options.targets.as_slice()) {
        let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        return Ok(match replay(target, &bytes) {
            Ok(seen) => {
                println!("{}: {} bytes hold, {seen} things seen", target.name, bytes.len());
                true
            }
            Err(words) => {
                println!("{}: {words}", target.name);
                false
            }
        });
    }
    let corpora = read_corpora(options)?;
    println!("seed {} (again with --seed {0})", options.seed);
    println!(
        "{:16} {:>10} {:>8} {:>7} {:>6} {:>6}",
        "target", "executions", "seconds", "kept", "pool", "seen"
    );
    let outcomes = hunt_all(options, &corpora);
    let whole = outcomes.iter().all(Result::is_ok);
    let reports = outcomes.iter().flatten();
    let all: u64 = reports.map(|report| report.executions).sum();
    println!(
        "{} targets, {all} executions, {} findings",
        outcomes.len(),
        outcomes.iter().filter(|o| o.is_err()).count()
    );
    Ok(whole)
}

type Corpus = Vec<Vec<u8>>;

/// The kept inputs of each target; none without any, and not too many.
fn read_corpora(options: &Options) -> Result<Vec<Corpus>, String> {
    let mut all = Vec::new();
    let mut weight = 0;
    for target in &options.targets {
        let folder = options.corpus.join(target.name);
        let kept = kept_in(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        if kept.is_empty() {
            return Err(format!("{} is empty", folder.display()));
        }
        weight += kept.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        all.push(kept.into_iter().map(|(_, bytes)| bytes).collect());
    }
    if weight > MAX_CORPUS_BYTES {
        return Err(format!("the corpus has {weight} bytes, {MAX_CORPUS_BYTES} are the limit"));
    }
    Ok(all)
}

/// All targets, each on one thread, for its share of the time.
fn hunt_all(options: &Options, corpora: &[Corpus]) -> Vec<Result<Report, Box<Finding>>> {
    let weights: u32 = options.targets.iter().map(|target| target.weight).sum();
    let threads = options.threads.min(options.targets.len());
    let work = Duration::from_secs(options.seconds) * threads as u32;
    // The heaviest first, so that no thread is left with one at the end.
    let mut order: Vec<usize> = (0..options.targets.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(options.targets[*at].weight));
    let queue = Mutex::new(VecDeque::from(order));
    let outcomes = Mutex::new(Vec::new());
    let worker = || loop {
        let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
        let Some(at) = next else { return };
        let target = options.targets[at];
        let bounds = bounds(options, target, work * target.weight / weights);
        let outcome = hunt(target, &corpora[at], options.seed, bounds);
        match &outcome {
            Ok(report) => show(report, corpora[at].len()),
            Err(finding) => show_finding(options, finding),
        }
        if let Ok(mut outcomes) = outcomes.lock() {
            outcomes.push(outcome);
        }
    };
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| {
            scope.spawn(worker);
        });
    });
    outcomes.into_inner().unwrap_or_default()
}

/// When the hunt for one target ends, whose share of the time is `time`.
fn bounds(options: &Options, target: &Target, time: Duration) -> Bounds {
    if !options.by_count {
        return Bounds { time, executions: options.executions };
    }
    let count = u128::from(target.pace) * time.as_millis() / 1_000;
    let executions = u64::try_from(count).unwrap_or(u64::MAX).min(options.executions);
    Bounds { time: Duration::MAX, executions }
}

fn show(report: &Report, kept: usize) {
    println!(
        "{:16} {:>10} {:>8.1} {:>7} {:>6} {:>6}",
        report.name,
        report.executions,
        report.took.as_secs_f64(),
        kept,
        report.pool,
        report.seen
    );
}

/// Inputs are named by their content.
fn name_of(bytes: &[u8]) -> String {
    to_hex(&sha256(bytes)[..8])
}

fn show_finding(options: &Options, finding: &Finding) {
    let hex = to_hex(&finding.input);
    let shown = hex.get(..4_000).map_or(hex.clone(), |front| format!("{front}…"));
    println!(
        "FAILED target={} seed={} execution={}: {}\n  input of {} bytes (found with {}): {shown}",
        finding.name,
        options.seed,
        finding.execution,
        finding.words,
        finding.input.len(),
        finding.original.len(),
    );
    for bytes in [&finding.input, &finding.original] {
        let file = options.findings.join(format!("{}-{}", finding.name, name_of(bytes)));
        match std::fs::create_dir_all(&options.findings).and_then(|()| std::fs::write(&file, bytes)) {
            Ok(()) => println!("  again: mutate --target {} --input {}", finding.name, file.display()),
            Err(error) => println!("  it could not be written to {}: {error}", file.display()),
        }
    }
}

/// Adds what `seeds` gives to the corpus.
fn write_seeds(options: &Options) -> Result<(), String> {
    for target in &options.targets {
        let folder = options.corpus.join(target.name);
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        for bytes in (target.seeds)() {
            std::fs::write(folder.join(name_of(&bytes)), &bytes).map_err(failed)?;
        }
    }
    Ok(())
}
