//! The benchmark's program; `bench --help` says what it takes, docs/PERFORMANCE.md what it printed.
//!
//! In: the programs that `cargo build --release --workspace` made. Out: JSON lines on stdout.
//! Read next: `chand_tests::bench`.

use chand_tests::bench::chand::Chands;
use chand_tests::bench::plan::{Plan, HELP};
use chand_tests::bench::{machine, measure};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--help" | "-h" | "help") => print!("{HELP}"),
        _ => match Plan::parse(&args) {
            Ok(plan) => run(&plan),
            Err(why) => {
                eprintln!("bench: {why}");
                std::process::exit(2);
            }
        },
    }
}

fn run(plan: &Plan) {
    std::fs::create_dir_all(&plan.dir).unwrap_or_else(|e| panic!("{}: {e}", plan.dir.display()));
    let base = plan.dir.canonicalize().expect("the folder just made");
    measure::emit(&machine::describe());
    eprintln!("load averages {:?}", machine::load());
    for number in 1..=plan.runs {
        if plan.has("chand") {
            measure::life(&mut Chands::open(&base, false), "chand", number, plan);
        }
    }
    if plan.has("syncs") {
        measure::count_syncs(&base, plan);
    }
}
