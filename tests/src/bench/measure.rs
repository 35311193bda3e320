//! Measurements: payments with so many in flight, a life's end, a pass in which syncs are counted.
//!
//! In: a [`Pair`] and a [`Plan`]. Out: one JSON object a measurement, on stdout; progress on stderr.
//! The kernel's counters are read before the first request and after the last HTLC is gone, so that all a payment
//! costs is counted and nothing else. Making the invoices is not.
//! Read next: `machine`, `bin/bench`.

use super::chand::Chands;
use super::ldk::{Kind, Ldks};
use super::machine::{load, peak_rss_mb, Used, Whole};
use super::pair::{quantile, Pair};
use super::plan::{Plan, Round};
use super::profile::Sampling;
use super::syncs;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// More than this used by others, in percent of the machine, and a measurement is marked as disturbed.
pub const BUSY_PERCENT: f64 = 10.0;

/// Prints a measurement.
pub fn emit(measurement: &Value) {
    println!("{measurement}");
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// One pair's life: every round of the plan, then memory, and the start after all that.
pub fn life(pair: &mut dyn Pair, name: &str, run: u64, plan: &Plan) {
    let mut made = 0;
    for round in &plan.rounds {
        emit(&payments(pair, name, run, *round, plan.profile.as_deref()));
        made += round.payments;
    }
    let peak = pair.process_ids().map(|id| rounded(peak_rss_mb(id), 1));
    let start = pair.restart().map(|ms| rounded(ms, 1));
    eprintln!("{name:>12}  after {made} payments: start {start:?} ms, peak {peak:?} MB");
    emit(&json!({
        "kind": "life", "nodes": name, "run": run, "payments": made, "peak_rss_mb": peak, "start_ms": start,
    }));
}

/// One round.
fn payments(pair: &mut dyn Pair, name: &str, run: u64, round: Round, profile: Option<&Path>) -> Value {
    let Round { in_flight, payments } = round;
    let invoices = pair.invoices(payments);
    pair.rest();
    let (ids, between) = (pair.process_ids(), pair.between());
    let on_the_way = (1..).zip(&between).map(|(n, id)| (format!("between-{n}"), *id));
    let all = [("payer".into(), ids[0]), ("payee".into(), ids[1])].into_iter().chain(on_the_way);
    let sample = |dir: &Path| {
        let begin = |(who, id): (String, u32)| Sampling::begin(dir, &format!("{name}-{in_flight}-{who}"), id);
        all.map(begin).collect::<Vec<_>>()
    };
    let sampling = profile.map(sample).unwrap_or_default();
    let way_before: Vec<Used> = between.iter().map(|id| Used::of(*id)).collect();
    let (whole, own, before) = (Whole::now(), Used::of(std::process::id()), ids.map(Used::of));
    let paid = pair.pay(invoices, in_flight);
    pair.rest();
    let [payer, payee] = [0, 1].map(|i| Used::of(ids[i]).since(before[i]));
    let on_the_way = between.iter().zip(way_before).map(|(id, before)| Used::of(*id).since(before).cpu_ms);
    let between_ms: f64 = on_the_way.sum();
    let ours = between_ms + payer.cpu_ms + payee.cpu_ms + Used::of(std::process::id()).since(own).cpu_ms;
    let others = Whole::now().others_percent(whole, ours);
    sampling.into_iter().for_each(Sampling::end);

    let mut latencies = paid.latencies_us;
    latencies.sort_unstable();
    let done = latencies.len().max(1) as f64;
    let ms = |share| rounded(quantile(&latencies, share) as f64 / 1_000.0, 2);
    let each = |both: u64| rounded(both as f64 / done / 1_024.0, 1);
    let per_s = rounded(latencies.len() as f64 / paid.seconds, 1);
    eprintln!(
        "{name:>12}  run {run}  {in_flight:>3} in flight: {per_s:>7} /s  p50 {:>7} ms  p99 {:>7} ms  \
         CPU {:.2} + {:.2} + {:.2} ms{}{}",
        ms(0.5),
        ms(0.99),
        payer.cpu_ms / done,
        between_ms / done,
        payee.cpu_ms / done,
        if others > BUSY_PERCENT { format!("  BUSY: others used {others:.0} %") } else { String::new() },
        paid.first_error.as_ref().map(|e| format!("  {} FAILED: {e}", paid.failed)).unwrap_or_default(),
    );
    json!({
        "kind": "payments",
        "nodes": name,
        "run": run,
        "in_flight": in_flight,
        "payments": latencies.len(),
        "failed": paid.failed,
        "first_error": paid.first_error,
        "seconds": rounded(paid.seconds, 4),
        "per_s": per_s,
        "p50_ms": ms(0.5),
        "p99_ms": ms(0.99),
        "max_ms": ms(1.0),
        "cpu_payer_ms": rounded(payer.cpu_ms / done, 3),
        "cpu_payee_ms": rounded(payee.cpu_ms / done, 3),
        "cpu_between_ms": rounded(between_ms / done, 3),
        "disk_payer_kb": each(payer.disk_bytes),
        "disk_payee_kb": each(payee.disk_bytes),
        "written_kb": each(payer.write_bytes + payee.write_bytes),
        "writes": rounded((payer.writes + payee.writes) as f64 / done, 1),
        "others_cpu_percent": rounded(others, 1),
        "load": load(),
    })
}

/// Syncs a payment, in a pass of their own.
///
/// # Panics
/// When a node does not come up.
pub fn count_syncs(base: &Path, plan: &Plan, ldk: Option<&Path>) {
    if !syncs::available(base) {
        eprintln!("       syncs  not measured: there is no strace, or it may not trace");
        emit(&json!({ "kind": "syncs", "measured": false }));
        return;
    }
    let mut chands = Chands::open(base, true, false);
    let files = chands.sync_files();
    syncs_of(&mut chands, "chand", &files, &plan.rounds);
    for kind in ldk.iter().flat_map(|_| [Kind::Engine, Kind::Shipped]) {
        let mut ldks = Ldks::open(ldk.expect("just seen"), kind, base, true);
        let files = ldks.sync_files();
        syncs_of(&mut ldks, kind.name(), &files, &kind.fitting(&plan.rounds));
    }
}

fn syncs_of(pair: &mut dyn Pair, name: &str, files: &[PathBuf; 2], rounds: &[Round]) {
    for round in rounds {
        let invoices = pair.invoices(round.payments);
        pair.rest();
        let before = files.each_ref().map(|file| syncs::count(file));
        let paid = pair.pay(invoices, round.in_flight);
        pair.rest();
        let after = files.each_ref().map(|file| syncs::count(file));
        let [payer, payee] = [0, 1].map(|i| syncs::per_payment(&before[i], &after[i], round.payments));
        eprintln!("{name:>12}  syncs with {:>3} in flight: payer {payer}, payee {payee}", round.in_flight);
        emit(&json!({
            "kind": "syncs", "measured": true, "nodes": name, "in_flight": round.in_flight,
            "payments": paid.latencies_us.len(), "payer": payer, "payee": payee,
        }));
    }
}
