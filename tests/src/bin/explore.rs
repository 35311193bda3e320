//! Walks every interleaving of two nodes on one channel: the exhaustive explorer.
//!
//! In: options; `explore --help` says which. Out: a line for each start; a failure with the shortest way to it. Exit code 1
//! when a judge found something, 2 when the options made no sense.
//! Read next: `chand_tests::explore`.

use chand_tests::explore::start::{Start, ALL};
use chand_tests::explore::walk::walk;
use chand_tests::explore::{Bounds, Failure, Seen, ANY};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Options {
    starts: Vec<String>,
    bounds: Bounds,
    threads: usize,
}

const USAGE: &str = "\
explore: two nodes, one channel, a few operations, and every order in which things can happen.

  explore [OPTIONS]

  --start NAME,NAME|all    where to begin [all]; a NAME is words joined by +, such as A+Bh+fee:
                             A, B     Alice (Bob) pays      Ah, Bh   a hold invoice, settled or cancelled
                             Ax, Bx   the payee refuses     Ad, Bd   too little for an output
                             As, Bs   one hash both ways    Ac, Bc   closes by agreement
                             fee      Alice changes the feerate
                           in front plain/ (no anchors), simple/ (option_simple_close), or 13400/ (Alice's satoshi)
  --cuts N|any             how often the link may break [1]
  --crashes N|any          how often a node may die [1]
  --max-states N           stops there
  --max-nodes N            stops at so many states of the two nodes, 45 kB each [150000]
  --plays N                at most so many plays on the chain after a walk; 0 leaves the chain out [0]
  --threads T              starts walked side by side [2]
";

/// What to do, or nothing when only help was asked for.
fn options() -> Result<Option<Options>, String> {
    let mut options =
        Options { starts: ALL.map(String::from).to_vec(), bounds: Bounds::default(), threads: 2 };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        if matches!(flag.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let mut value = || words.next().ok_or_else(|| format!("{flag} wants a value; see --help"));
        match flag.as_str() {
            "--start" => {
                let value = value()?;
                if value != "all" {
                    options.starts = value.split(',').map(String::from).collect();
                }
            }
            "--max-states" => options.bounds.max_states = number(&value()?)?,
            "--max-nodes" => options.bounds.max_nodes = number(&value()?)?,
            "--plays" => options.bounds.max_plays = number(&value()?)?,
            "--cuts" => options.bounds.cuts = faults(&value()?)?,
            "--crashes" => options.bounds.crashes = faults(&value()?)?,
            "--threads" => options.threads = number(&value()?)?.clamp(1, 64),
            _ => return Err(format!("{flag} is no option; see --help")),
        }
    }
    // Before any walk: a name that is none is no finding.
    for name in &options.starts {
        Start::new(name).map_err(|why| format!("--start {name}: {why}"))?;
    }
    Ok(Some(options))
}

fn number(text: &str) -> Result<usize, String> {
    text.replace('_', "").parse().map_err(|_| format!("{text} is no number"))
}

/// A number of faults, or `any`.
fn faults(text: &str) -> Result<u8, String> {
    match text.parse() {
        _ if text == "any" => Ok(ANY),
        Ok(number) if number < ANY => Ok(number),
        _ => Err(format!("{text}: 0 to {}, or any", ANY - 1)),
    }
}

fn line(seen: &Seen) -> String {
    let seconds = seen.took.as_secs_f64().max(0.001);
    let busy = seen.busy.map_or(0.0, |b| b.as_secs_f64());
    let end = if seen.whole { "whole" } else { "bounded" };
    let mut text = format!(
        "start={} {end} states={} moves={} depth={} quiet={} healing={} nodes={}+{} steps={} messages={} feerates={} seconds={seconds:.1} busy_seconds={busy:.1} states_per_s={:.0}",
        seen.start,
        seen.states,
        seen.moves,
        seen.depth,
        seen.quiet,
        seen.healing,
        seen.nodes[0],
        seen.nodes[1],
        seen.steps,
        seen.messages,
        seen.feerates,
        seen.states as f64 / seconds,
    );
    let p = &seen.plays;
    if p.met > 0 {
        text += &format!(
            " commitments={} pairs={} crimes={} races={} alone={} both={} restarts={} reorgs={} transactions={} chain_seconds={:.1}",
            p.commitments,
            p.met,
            p.crimes,
            p.races,
            p.alone,
            p.both,
            p.restarts,
            p.reorgs,
            p.transactions,
            p.took.as_secs_f64(),
        );
    }
    text
}

fn show(failure: &Failure) {
    let Failure { start, verdict, moves } = failure;
    println!("FAILED start={start} judge={} depth={}: {}", verdict.judge, moves.len(), verdict.words);
    for (number, step) in moves.iter().enumerate() {
        println!("  {:3}. {step}", number + 1);
    }
}

/// Takes starts from the list until none is left; `true` when all went well.
fn work(options: &Options, next: &AtomicUsize) -> bool {
    let mut well = true;
    while let Some(name) = options.starts.get(next.fetch_add(1, Ordering::Relaxed)) {
        // `options` has tried the name.
        let Ok(start) = Start::new(name) else { return false };
        match walk(start, options.bounds, &|seen| eprintln!("… {}", line(seen))) {
            Ok(seen) => println!("{}", line(&seen)),
            Err(failure) => {
                show(&failure);
                well = false;
            }
        }
    }
    well
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("explore: {why}");
            return ExitCode::from(2);
        }
    };
    let next = AtomicUsize::new(0);
    let well = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..options.threads).map(|_| scope.spawn(|| work(&options, &next))).collect();
        hands.into_iter().all(|hand| hand.join().unwrap_or(false))
    });
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
