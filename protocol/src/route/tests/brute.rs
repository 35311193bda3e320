//! The search against all simple paths of small random graphs.
//!
//! In: a few thousand graphs of up to seven nodes, with random policies, scores and limits. Out: the search finds a way
//! whenever there is one, and none is better than what it finds.

use super::super::cost::{Aim, Prices, HOP_RISK};
use super::*;
use crate::entropy::Entropy;
use crate::gossip::graph::ChannelView;

struct Dice(Entropy);

impl Dice {
    fn new(seed: u8) -> Dice {
        Dice(Entropy::new([seed; 32]))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0.u64() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

const AMOUNT: u64 = 50_000_000;

/// Sizes and limits are far above or far below the amount, so that what fees add to it decides nothing.
fn policy(dice: &mut Dice) -> Policy {
    Policy {
        disabled: dice.one_in(9),
        cltv_expiry_delta: dice.below(200) as u16,
        htlc_minimum: Msat(if dice.one_in(9) { AMOUNT * 8 } else { 1 }),
        htlc_maximum: Msat(if dice.one_in(9) { AMOUNT / 2 } else { AMOUNT * 100 }),
        fee_base_msat: dice.below(20_000) as u32,
        fee_proportional_millionths: dice.below(20_000) as u32,
        timestamp: 1,
    }
}

fn random_graph(dice: &mut Dice, nodes: u64, channels: u64) -> Graph {
    let mut graph = Graph::new();
    for scid in 0..channels {
        let (a, b) = (dice.below(nodes) as usize, dice.below(nodes) as usize);
        if a != b {
            let sat = AMOUNT / 1_000 * if dice.one_in(9) { 1 } else { 4 + dice.below(40) };
            let policies = [policy(dice), policy(dice)];
            open(&mut graph, scid + 1, (a, b), sat, policies);
        }
    }
    graph
}

fn random_scores(dice: &mut Dice, graph: &Graph, now: Timestamp) -> Scorer {
    let mut scorer = Scorer::new();
    for view in graph.channels() {
        let direction = Direction::from_flags(dice.below(2) as u8);
        let size = view.capacity.unwrap().to_msat();
        match dice.below(6) {
            0 => scorer.fail(view.scid, direction, Msat(AMOUNT / 2), size, now),
            1 => scorer.fail(view.scid, direction, Msat(AMOUNT * 3), size, now),
            2 => scorer.pass(view.scid, direction, Msat(AMOUNT * 3), size, now),
            _ => {}
        }
    }
    scorer
}

/// One way, backwards: its cost by the measure, its amount, blocks and hops.
#[derive(Clone, Copy)]
struct Sum {
    cost: u64,
    amount: u64,
    blocks: u32,
    hops: usize,
}

/// Calls `see` with every simple path from the payer to `node`, which is `passed`'s last.
fn walk(
    channels: &[ChannelView],
    (scorer, query, prices): (&Scorer, &Query, &Prices),
    passed: &mut Vec<NodeId>,
    sum: Sum,
    see: &mut impl FnMut(Sum),
) {
    let node = *passed.last().unwrap();
    if node == query.us {
        return see(sum);
    }
    for view in channels.iter().filter(|v| v.nodes.contains(&node)) {
        let from = if view.nodes[0] == node { view.nodes[1] } else { view.nodes[0] };
        let direction = Direction::between(&from, &node);
        let policy = view.policies[direction.index()].unwrap();
        let size = view.capacity.unwrap().to_msat().0;
        let banned = [Exclude::Channel(view.scid, direction), Exclude::Node(from), Exclude::Node(node)];
        if passed.contains(&from)
            || policy.disabled
            || sum.amount < policy.htlc_minimum.0
            || sum.amount > policy.htlc_maximum.0.min(size)
            || banned.iter().any(|b| query.exclude.contains(b))
        {
            continue;
        }
        let now_s = query.now.seconds() as u32;
        let Some(risk) = scorer.risk((view.scid, direction, size), (query.amount.0, sum.amount), now_s)
        else {
            continue;
        };
        let ours = from == query.us;
        let fee = |amount: u64| if ours { 0 } else { policy.fee(Msat(amount)).unwrap().0 };
        let blocks = if ours { 0 } else { u32::from(policy.cltv_expiry_delta) };
        let next = Sum {
            cost: sum.cost + fee(sum.cost) + prices.of(risk + HOP_RISK, blocks),
            amount: sum.amount + fee(sum.amount),
            blocks: sum.blocks + blocks,
            hops: sum.hops + 1,
        };
        passed.push(from);
        walk(channels, (scorer, query, prices), passed, next, see);
        passed.pop();
    }
}

fn all_paths(graph: &Graph, scorer: &Scorer, query: &Query, aim: Aim) -> Vec<Sum> {
    let channels: Vec<ChannelView> = graph.channels().collect();
    let start = Sum { cost: query.amount.0, amount: query.amount.0, blocks: query.final_cltv_delta, hops: 0 };
    let (mut found, mut passed) = (Vec::new(), vec![query.payee]);
    let prices = Prices::new(query.amount.0, aim);
    if !query.exclude.contains(&Exclude::Node(query.payee)) {
        walk(&channels, (scorer, query, &prices), &mut passed, start, &mut |sum| found.push(sum));
    }
    found
}

/// What the found route costs by the same measure.
fn cost_of(graph: &Graph, scorer: &Scorer, query: &Query, route: &Route, aim: Aim) -> u64 {
    let prices = Prices::new(query.amount.0, aim);
    let now_s = query.now.seconds() as u32;
    let mut cost = query.amount.0;
    for (place, hop) in route.hops.iter().enumerate().rev() {
        let policy = graph.policy(hop.scid, hop.direction).unwrap();
        let key = (hop.scid, hop.direction, hop.size.0);
        let risk = scorer.risk(key, (query.amount.0, hop.amount.0), now_s).expect("believed");
        let (fee, blocks) = if place == 0 {
            (0, 0)
        } else {
            (policy.fee(Msat(cost)).unwrap().0, u32::from(policy.cltv_expiry_delta))
        };
        cost += fee + prices.of(risk + HOP_RISK, blocks);
    }
    cost
}

#[test]
fn no_simple_path_is_better_than_what_is_found() {
    let mut dice = Dice::new(1);
    let mut search = Search::new();
    let (mut found, mut none) = (0, 0);
    for _ in 0..2_000 {
        let nodes = 3 + dice.below(5);
        let channels = nodes + dice.below(nodes);
        let graph = random_graph(&mut dice, nodes, channels);
        let banned = [
            Exclude::Node(id(2 + dice.below(nodes) as usize)),
            Exclude::Channel(ShortChannelId(1 + dice.below(9)), Direction::Zero),
        ];
        let exclude = if dice.one_in(2) { &banned[..] } else { &[] };
        let asked = Query { max_cltv_blocks: 100_000, exclude, ..query(BOB, AMOUNT) };
        let scorer = random_scores(&mut dice, &graph, asked.now);
        for aim in [Aim::Balanced, Aim::Cheapest] {
            let best = all_paths(&graph, &scorer, &asked, aim).into_iter().map(|sum| sum.cost).min();
            let route = search.whole(&graph, &scorer, &asked, aim);
            let cost = route.as_ref().map(|route| {
                assert_kept(&graph, &asked, route);
                cost_of(&graph, &scorer, &asked, route, aim)
            });
            assert_eq!(cost, best, "{aim:?} in {graph:?}");
            found += usize::from(best.is_some());
            none += usize::from(best.is_none());
        }
    }
    assert!(found > 700 && none > 200, "the graphs are no test: {found} found, {none} not");
}

#[test]
fn one_limit_alone_is_kept_whenever_it_can_be() {
    let mut dice = Dice::new(2);
    let mut search = Search::new();
    let mut missed_by_the_best = 0;
    for round in 0..1_500 {
        let nodes = 4 + dice.below(3);
        let graph = random_graph(&mut dice, nodes, 3 * nodes);
        let wide = Query { max_cltv_blocks: 100_000, ..query(BOB, AMOUNT) };
        let scorer = Scorer::new();
        let paths = all_paths(&graph, &scorer, &wide, Aim::Balanced);
        // Mostly tighter than what the best way needs.
        let Some(best) = paths.iter().min_by_key(|p| p.cost).copied() else { continue };
        let (asked, can) = match round % 3 {
            0 => {
                let fee = dice.below((best.amount - AMOUNT) * 5 / 4 + 1);
                (Query { max_fee: Msat(fee), ..wide }, paths.iter().any(|p| p.amount - AMOUNT <= fee))
            }
            1 => {
                let blocks = dice.below(u64::from(best.blocks) * 5 / 4 + 1) as u32;
                (Query { max_cltv_blocks: blocks, ..wide }, paths.iter().any(|p| p.blocks <= blocks))
            }
            _ => {
                let hops = 1 + dice.below(best.hops as u64) as usize;
                (Query { max_hops: hops, ..wide }, paths.iter().any(|p| p.hops <= hops))
            }
        };
        let route = search.whole(&graph, &scorer, &asked, Aim::Balanced);
        assert_eq!(route.is_some(), can, "{asked:?} in {graph:?}");
        if let Some(route) = route {
            assert_kept(&graph, &asked, &route);
            let cost = cost_of(&graph, &scorer, &asked, &route, Aim::Balanced);
            missed_by_the_best += usize::from(cost > best.cost);
        }
    }
    assert!(missed_by_the_best > 30, "the limits are no test: {missed_by_the_best}");
}

#[test]
fn the_same_question_has_the_same_answer_in_used_room() {
    let mut dice = Dice::new(3);
    let mut used = Search::new();
    for _ in 0..300 {
        let graph = random_graph(&mut dice, 7, 14);
        let asked = query(1 + dice.below(6) as usize, AMOUNT);
        let scorer = random_scores(&mut dice, &graph, asked.now);
        let fresh = Search::new().whole(&graph, &scorer, &asked, Aim::Balanced);
        assert_eq!(used.whole(&graph, &scorer, &asked, Aim::Balanced), fresh);
    }
}
