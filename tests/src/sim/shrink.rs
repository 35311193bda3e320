//! A failure made small: acts are left out as long as the same judge still finds something.
//!
//! In: a plan that fails, and how. Out: the places of the acts that are needed. Read next: the runner, `bin/sim`.

use super::plan::Plan;
use super::world::run;

/// Runs that shrinking may take.
const MOST_RUNS: usize = 600;

/// The places of the acts of `plan` without which `judge` finds nothing.
pub fn shrink(plan: &Plan, places: Vec<usize>, judge: &str) -> Vec<usize> {
    let mut runs = 0;
    let mut fails = |places: &[usize]| {
        runs += 1;
        let verdict = run(&plan.clone().keep(places), false).verdict;
        (runs <= MOST_RUNS, verdict.is_some_and(|v| v.judge == judge))
    };
    let mut kept = places;
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < kept.len() {
            let end = (at + chunk).min(kept.len());
            let without: Vec<usize> = kept[..at].iter().chain(&kept[end..]).copied().collect();
            let (on, failed) = fails(&without);
            if !on {
                return kept;
            }
            if failed {
                kept = without;
                shorter = true;
            } else {
                at = end;
            }
        }
        if chunk == 1 && !shorter {
            return kept;
        }
        chunk = if shorter { chunk } else { chunk / 2 }.max(1);
    }
}
