//! The benchmark's program; `bench --help` says what it takes, docs/PERFORMANCE.md what it printed.
//!
//! In: the programs that `cargo build --release --workspace` made, and LDK's when it is to be held beside.
//! Out: JSON lines on stdout; from these, a table and a plot.
//! Read next: `chand_tests::bench`.

use chand_tests::bench::chand::Chands;
use chand_tests::bench::ldk::{Kind, Ldks};
use chand_tests::bench::line::Line;
use chand_tests::bench::plan::{Plan, HELP};
use chand_tests::bench::report::{put_into, Results};
use chand_tests::bench::{gossip, machine, measure, plot, primitives};
use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        _ if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) => {
            print!("{HELP}");
            Ok(())
        }
        Some("echo") => {
            primitives::echo();
            Ok(())
        }
        Some("report") => report(&args[1..]),
        _ => Plan::parse(&args).and_then(|plan| run(&plan)),
    };
    if let Err(why) = done {
        eprintln!("bench: {why}");
        std::process::exit(2);
    }
}

/// One run of everything after the other, so that a busy minute hits all alike.
fn run(plan: &Plan) -> Result<(), String> {
    std::fs::create_dir_all(&plan.dir).map_err(|e| format!("{}: {e}", plan.dir.display()))?;
    if let Some(program) = plan.ldk.as_deref().filter(|program| !program.is_file()) {
        return Err(format!("--ldk {}: no such program", program.display()));
    }
    let base = plan.dir.canonicalize().expect("the folder just made");
    measure::emit(&machine::describe(&base));
    eprintln!("load averages {:?}", machine::load());
    let ldk = plan.ldk.as_deref().filter(|_| plan.has("ldk"));
    for number in 1..=plan.runs {
        if plan.has("ceiling") {
            measure::emit(&primitives::measure(&base, plan.quick));
        }
        if plan.has("chand") {
            measure::life(&mut Chands::open(&base, false, plan.tower), "chand", number, plan);
        }
        if plan.has("line") {
            measure::life(&mut Line::open(&base), "chand-line", number, plan);
        }
        if let Some(program) = ldk.filter(|_| plan.has("line")) {
            let mut line = Ldks::in_line(4, program, Kind::Engine, &base, false);
            measure::life(&mut line, "engine-line", number, plan);
        }
        if plan.has("gossip") {
            measure::emit(&gossip::measure(&base, plan.quick));
        }
        // Whoever asks for the line alone wants no pairs of LDK's.
        let pairs = ldk.filter(|_| plan.has("chand") || !plan.has("line"));
        for kind in pairs.iter().flat_map(|_| [Kind::Engine, Kind::Shipped]) {
            let program = pairs.expect("just seen");
            let fitting = Plan { rounds: kind.fitting(&plan.rounds), ..plan.clone() };
            measure::life(&mut Ldks::open(program, kind, &base, false), kind.name(), number, &fitting);
        }
    }
    if plan.has("syncs") {
        measure::count_syncs(&base, plan, ldk);
    }
    Ok(())
}

fn report(args: &[String]) -> Result<(), String> {
    let (mut file, mut svg, mut into) = (None, None, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--svg" => svg = Some(args.next().ok_or("--svg wants a file")?),
            "--into" => into = Some(args.next().ok_or("--into wants a file")?),
            _ if file.is_none() => file = Some(arg),
            other => return Err(format!("{other} is no option; see bench --help")),
        }
    }
    let file = file.ok_or("report wants a file of results")?;
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let results = Results::read(&text).map_err(|e| format!("{file}, {e}"))?;
    if let Some(svg) = svg {
        std::fs::write(svg, plot::svg(&results.charts())).map_err(|e| format!("{svg}: {e}"))?;
    }
    match into {
        Some(into) => put_into(Path::new(into), &results.markdown())?,
        None => print!("{}", results.markdown()),
    }
    Ok(())
}
