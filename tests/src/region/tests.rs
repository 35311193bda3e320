//! The runner itself: a seed decides everything, and the plans are what they say.

use super::plan::{Act, Plan};
use super::run;

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [12, 13, 14, 15] {
        let plan = Plan::new(seed);
        let (first, second) = (run(&plan, false), run(&plan, false));
        assert!(first.verdict.is_none(), "{seed}: {:?}", first.verdict);
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "{seed}");
        assert_ne!(first.trace, run(&Plan::new(seed + 100), false).trace);
    }
}

#[test]
fn calm_plans_close_nothing_and_the_others_do() {
    let strife = |plan: &Plan| {
        let closing =
            |act: &Act| matches!(act, Act::Close { .. } | Act::Cheat | Act::Sleep { .. } | Act::Pass { .. });
        plan.acts.iter().any(|timed| closing(&timed.act))
    };
    let plans: Vec<Plan> = (0..200).map(Plan::new).collect();
    assert!(plans.iter().filter(|p| p.calm).all(|p| !strife(p)));
    assert!(plans.iter().filter(|p| strife(p)).count() > 60);
    assert!(plans.iter().any(|p| p.people == 10) && plans.iter().any(|p| p.people == 3));
}
