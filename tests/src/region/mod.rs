//! Many nodes at once: random graphs, random payments, every fault, and judges.
//!
//! In: one number. Out: nothing, or which judge found what, after which acts. The number decides who has channels with
//! whom, who pays whom and how, which node dies in which step, when links break, disks refuse, blocks come and go, who
//! closes by force, who cheats and who sleeps. Afterwards all is mended, and everything must end.
//!
//! | judge | what it wants |
//! |---|---|
//! | `ends` | every payment is complete or failed, every order answered, no HTLC is left, nothing of worth lies on chain unclaimed |
//! | `iff` | each forward is settled exactly when the next hop's is, and the payer's exactly when the first one is |
//! | `whole` | nobody has less than what its payments and forwards say, fees of closes apart; where nothing closed, exactly that |
//! | `fees` | each forward earned exactly what was announced, with the blocks between that were asked for; payers pay the sum, and no more than they allowed |
//! | `once` | no more is under way than is owed, no invoice is paid twice, the payee has exactly its amount |
//! | `receipt` | a payment that is complete has its secret, and its payee the money |
//! | `same` | the same plan twice leaves the same trace (the runner) |
//! | `panic` | no step panics, the store holds what the node would need, no transaction breaks a rule |
//!
//! * `plan` – what a seed decides; `play` – doing it; `heal` – mending it
//! * `judge`, `estate` (money) – looking at it; `marks` – what was seen on the way
//!
//! Read next: `plan`.

pub mod estate;
pub mod heal;
pub mod judge;
pub mod marks;
pub mod plan;
pub mod play;
#[cfg(test)]
mod tests;

use crate::sim::core::last_panic;
use crate::sim::Verdict;
use marks::Marks;
use plan::Plan;
use play::Region;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs that shrinking may take.
const MOST_RUNS: usize = 300;

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What a judge found.
    pub verdict: Option<Verdict>,
    /// What was seen.
    pub marks: Marks,
    /// All that left a node, as one number.
    pub trace: u64,
    /// The same in words, when they were wanted.
    pub lines: Vec<String>,
    /// Steps of nodes.
    pub steps: u64,
    /// Payments that were complete, and those that were not.
    pub paid: (u64, u64),
}

/// Plays a plan to its end.
pub fn run(plan: &Plan, lines: bool) -> Outcome {
    let mut region = match catch_unwind(AssertUnwindSafe(|| Region::new(plan, lines))) {
        Ok(region) => region,
        Err(_) => {
            return Outcome { verdict: Some(Verdict::new("panic", last_panic())), ..Outcome::default() }
        }
    };
    let played = catch_unwind(AssertUnwindSafe(|| region.play()));
    let verdict = match played {
        Ok(result) => result.err(),
        Err(_) => Some(Verdict::new("panic", last_panic())),
    };
    Outcome {
        verdict,
        trace: region.town.trace.value(),
        lines: region.town.trace.lines.take().unwrap_or_default(),
        steps: region.town.seats.iter().map(|s| s.steps).sum(),
        paid: region.paid,
        marks: region.marks,
    }
}

/// The places of the acts of `plan` without which `judge` finds nothing.
pub fn shrink(plan: &Plan, judge: &str) -> Vec<usize> {
    let mut runs = 0;
    let mut kept: Vec<usize> = (0..plan.acts.len()).collect();
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let (mut at, mut shorter) = (0, false);
        while at < kept.len() {
            let end = (at + chunk).min(kept.len());
            let without: Vec<usize> = kept[..at].iter().chain(&kept[end..]).copied().collect();
            runs += 1;
            if runs > MOST_RUNS {
                return kept;
            }
            let verdict = run(&plan.clone().keep(&without), false).verdict;
            if verdict.is_some_and(|v| v.judge == judge) {
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
