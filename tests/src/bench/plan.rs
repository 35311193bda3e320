//! What to measure: the options of `bench`.
//!
//! In: the command line. Out: a [`Plan`].
//! Read next: `measure`.

use super::pair::MOST_PAYMENTS;
use std::path::PathBuf;

/// What `bench --help` prints.
pub const HELP: &str = "\
bench: payments over one channel between two processes, measured from outside.

  bench [OPTIONS]                   measures; one JSON object a line to stdout, progress to stderr
  bench report FILE [OPTIONS]       the table from such a file, as Markdown
      --svg FILE                    also draws the plot
      --into FILE                   puts the table between the two marks in that file instead of printing it

  --quick                           one run with few payments, about a minute
  --runs N                          runs of each [3]
  --in-flight N,N                   payments under way at once [1,10,100,400]
  --payments N                      payments for each of those [300, 1500, 2500, 3000; quick: 100, 400, 800, 1200]
  --only chand,ldk,line,gossip,ceiling,syncs  leaves the others out [all of them]; line: three hops, also LDK's with ldk;
                                gossip: learning the whole public network from one peer
  --ldk FILE                        the program that tests/bench/ldk builds; without it LDK is left out
  --tower                           both chands have a watchtower, on the same machine
  --profile DIR                     runs perf beside each round; the figures of such a run are no measurement
  --dir DIR                         where the nodes' files go: the disk that is measured [target/bench-data]
";

/// What `--only` chooses from.
const PARTS: [&str; 6] = ["chand", "ldk", "line", "gossip", "ceiling", "syncs"];

/// So many payments under way at once, and how many in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Round {
    /// Kept under way.
    pub in_flight: usize,
    /// Made in all.
    pub payments: u64,
}

/// What to measure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// How often.
    pub runs: u64,
    /// With what.
    pub rounds: Vec<Round>,
    /// Of `PARTS`.
    pub parts: Vec<String>,
    /// LDK's program, when it is to be held beside.
    pub ldk: Option<PathBuf>,
    /// Where files go.
    pub dir: PathBuf,
    /// The chands have a watchtower.
    pub tower: bool,
    /// Where perf's files go, when it is to run.
    pub profile: Option<PathBuf>,
    /// The short form.
    pub quick: bool,
}

/// Payments with 1, 10, 100 and 400 in flight, and for the short form.
const FULL: [u64; 4] = [300, 1_500, 2_500, 3_000];
const QUICK: [u64; 4] = [100, 400, 800, 1_200];

fn usual(in_flight: usize, quick: bool) -> u64 {
    let counts = if quick { QUICK } else { FULL };
    counts[match in_flight {
        0..=4 => 0,
        5..=40 => 1,
        41..=200 => 2,
        _ => 3,
    }]
}

impl Plan {
    /// Reads the command line.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(args: &[String]) -> Result<Plan, String> {
        let mut plan = Plan {
            runs: 3,
            rounds: Vec::new(),
            parts: PARTS.map(String::from).to_vec(),
            ldk: None,
            dir: "target/bench-data".into(),
            tower: false,
            profile: None,
            quick: false,
        };
        let (mut in_flight, mut payments, mut runs) = (vec![1, 10, 100, 400], None, None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} wants a value"));
            match arg.as_str() {
                "--quick" => plan.quick = true,
                "--tower" => plan.tower = true,
                "--runs" => runs = Some(number(&value()?)?),
                "--payments" => payments = Some(number(&value()?)?),
                "--in-flight" => {
                    let list = value()?;
                    in_flight =
                        list.split(',').map(|n| number(n).map(|n| n as usize)).collect::<Result<_, _>>()?;
                }
                "--only" => {
                    plan.parts = value()?.split(',').map(String::from).collect();
                    if let Some(part) = plan.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
                        return Err(format!("--only {part}: the parts are {}", PARTS.join(", ")));
                    }
                }
                "--ldk" => plan.ldk = Some(value()?.into()),
                "--profile" => plan.profile = Some(value()?.into()),
                "--dir" => plan.dir = value()?.into(),
                other => return Err(format!("{other} is no option; see bench --help")),
            }
        }
        plan.runs = runs.unwrap_or(if plan.quick { 1 } else { 3 });
        let round =
            |in_flight| Round { in_flight, payments: payments.unwrap_or(usual(in_flight, plan.quick)) };
        plan.rounds = in_flight.into_iter().map(round).collect();
        let total: u64 = plan.rounds.iter().map(|r| r.payments).sum();
        if total > MOST_PAYMENTS {
            return Err(format!("one channel holds {MOST_PAYMENTS} payments, these are {total}"));
        }
        Ok(plan)
    }

    /// Whether a part was asked for.
    pub fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|p| p == part)
    }
}

fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{text} is no number above 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, Round};

    fn parse(line: &str) -> Result<Plan, String> {
        Plan::parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let plan = parse("--quick --in-flight 1,100 --only chand").expect("a plan");
        assert_eq!(plan.runs, 1);
        assert_eq!(plan.rounds[1], Round { in_flight: 100, payments: 800 });
        assert!(plan.has("chand") && !plan.has("ldk"));
        assert!(parse("--payments 3000").expect_err("too many").contains("holds"));
        assert!(parse("--only chand,nonsense").expect_err("no part").contains("nonsense"));
        assert!(parse("--only ").is_err());
        assert!(parse("--runs 0").is_err() && parse("--slow").is_err() && parse("--dir").is_err());
    }
}
