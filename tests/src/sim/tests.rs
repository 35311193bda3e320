//! The simulator itself: it plays, it repeats, it shortens. What it finds in chand is the runner's.

use super::plan::{Act, How, Much, Timed};
use super::{run, shrink, Plan};

#[test]
fn a_seed_leaves_the_same_trace_twice_and_another_seed_another() {
    let traces: Vec<u64> = (1..6).map(|seed| run(&Plan::new(seed), false)).map(|o| o.trace).collect();
    let again: Vec<u64> = (1..6).map(|seed| run(&Plan::new(seed), true)).map(|o| o.trace).collect();
    assert_eq!(traces, again);
    assert!(traces.iter().zip(&traces[1..]).all(|(one, next)| one != next));
}

#[test]
fn an_act_more_or_less_is_another_trace() {
    let plan = Plan::new(3);
    let all: Vec<usize> = (0..plan.acts.len()).collect();
    assert_eq!(run(&plan.clone().keep(&all), false).trace, run(&plan, false).trace);
    assert_ne!(run(&plan.clone().keep(&all[1..]), false).trace, run(&plan, false).trace);
}

#[test]
fn payments_of_a_plan_are_made() {
    let mut plan = Plan::new(2);
    plan.knobs.liar = None;
    let pay = |number| Timed {
        at_us: number as u64 * 2_000_000,
        act: Act::Pay {
            number,
            payer: plan.knobs.first.seat,
            much: Much::Msat(2_000_000),
            how: How::Keysend,
        },
    };
    plan.acts = (0..5).map(pay).collect();
    let outcome = run(&plan, false);
    assert_eq!((outcome.verdict, outcome.counts.paid), (None, 5));
}

#[test]
fn what_shows_nothing_shrinks_to_nothing() {
    let plan = Plan::new(4);
    let all: Vec<usize> = (0..plan.acts.len()).collect();
    // No judge has this name: every shorter plan fails to show it, so nothing can be left out.
    assert_eq!(shrink(&plan, all.clone(), "nobody"), all);
}
