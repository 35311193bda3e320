//! Walks every interleaving of two nodes on one channel: the exhaustive explorer.
//!
//! In: `[--start NAME|all] [--max-states N] [--max-nodes N] [--cuts N|any] [--crashes N|any] [--threads T]`; a NAME is words
//! joined by `+`, see `chand_tests::explore::start`. Out: a line for each start; a failure with the shortest way to it, and
//! exit code 1. Without more: the starts of `all`, one cut and one crash.
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

const USAGE: &str =
    "explore [--start NAME|all] [--max-states N] [--max-nodes N] [--cuts N|any] [--crashes N|any] [--threads T]";

fn options() -> Result<Options, String> {
    let mut options =
        Options { starts: ALL.map(String::from).to_vec(), bounds: Bounds::default(), threads: 2 };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag}: what? {USAGE}"))?;
        let number =
            || value.replace('_', "").parse::<usize>().map_err(|_| format!("{flag} {value}: no number"));
        match flag.as_str() {
            "--start" if value == "all" => {}
            "--start" => options.starts = value.split(',').map(String::from).collect(),
            "--max-states" => options.bounds.max_states = number()?,
            "--max-nodes" => options.bounds.max_nodes = number()?,
            "--cuts" => options.bounds.cuts = faults(&value)?,
            "--crashes" => options.bounds.crashes = faults(&value)?,
            "--threads" => options.threads = number()?.max(1),
            _ => return Err(format!("{flag} is unknown. {USAGE}")),
        }
    }
    Ok(options)
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
    format!(
        "start={} {end} states={} moves={} depth={} quiet={} healing={} nodes={}+{} steps={} messages={} seconds={seconds:.1} busy_seconds={busy:.1} states_per_s={:.0}",
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
        seen.states as f64 / seconds,
    )
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
        let start = match Start::new(name) {
            Ok(start) => start,
            Err(why) => {
                println!("FAILED start={name} judge=start depth=0: {why}");
                well = false;
                continue;
            }
        };
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
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
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
