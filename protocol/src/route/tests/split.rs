//! Several parts: they add up, they stay within what channels hold together, and there are few of them.
//!
//! In: graphs with bottlenecks by hand and at random. Out: parts, each of which keeps every policy.

use super::*;
use crate::entropy::Entropy;
use alloc::collections::BTreeMap;

fn cut(graph: &Graph, query: &Query) -> Vec<Route> {
    let parts = Search::new().parts(graph, &Scorer::new(), query).unwrap_or_else(|e| panic!("{e}"));
    assert_fits(graph, query, &parts);
    parts
}

fn assert_fits(graph: &Graph, query: &Query, parts: &[Route]) {
    assert!(parts.len() <= query.max_parts);
    assert_eq!(Msat::checked_sum(parts.iter().map(|p| p.amount)), Some(query.amount));
    assert!(Msat::checked_sum(parts.iter().map(|p| p.fee)).is_some_and(|sum| sum <= query.max_fee));
    let mut through: BTreeMap<_, u64> = BTreeMap::new();
    for part in parts {
        assert_kept(graph, query, part);
        for hop in &part.hops {
            *through.entry((hop.scid, hop.direction)).or_default() += hop.amount.0;
        }
    }
    for ((scid, _), sum) in through {
        let own = query.first_hops.and_then(|all| all.iter().find(|hop| hop.scid == scid));
        let most = own.map(|hop| hop.spendable);
        let most = most.or_else(|| graph.channel(scid)?.capacity.map(Sat::to_msat)).unwrap();
        assert!(sum <= most.0, "{scid}: {sum} of {most}");
    }
}

/// Alice – Bob – Dave and Alice – Carol – Dave, 60,000 sat each.
fn two_ways() -> Graph {
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 60_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, DAVE), 60_000, [asks(1_000, 100, 10), FREE]);
    open(&mut graph, 3, (ALICE, CAROL), 60_000, [FREE; 2]);
    open(&mut graph, 4, (CAROL, DAVE), 60_000, [asks(1_000, 100, 10), FREE]);
    graph
}

#[test]
fn one_part_when_one_is_enough_and_two_when_not() {
    let graph = two_ways();
    assert_eq!(cut(&graph, &Query { max_parts: 8, ..query(DAVE, 10_000_000) }).len(), 1);
    // It would go through in one, if all of a channel's money happened to be on the right side.
    assert_eq!(cut(&graph, &Query { max_parts: 8, ..query(DAVE, 59_000_000) }).len(), 2);
    assert_eq!(cut(&graph, &query(DAVE, 59_000_000)).len(), 1);
    assert_eq!(cut(&graph, &Query { max_parts: 8, ..query(DAVE, 100_000_000) }).len(), 2);
    let ours = [own(1, BOB, 40_000_000), own(3, CAROL, 30_000_000)];
    let asked = Query { max_parts: 2, first_hops: Some(&ours), ..query(DAVE, 60_000_000) };
    assert_eq!(cut(&graph, &asked).len(), 2);
    // Fees count: what both can send is 70,000 sat with them.
    let all = Query { amount: Msat(70_000_000), ..asked };
    assert!(Search::new().parts(&graph, &Scorer::new(), &all).is_err());
}

#[test]
fn parts_do_not_count_on_the_same_room_twice() {
    // Both ways meet again before Dave.
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 60_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, 4), 60_000, [FREE; 2]);
    open(&mut graph, 3, (ALICE, CAROL), 60_000, [FREE; 2]);
    open(&mut graph, 4, (CAROL, 4), 60_000, [FREE; 2]);
    open(&mut graph, 5, (4, DAVE), 90_000, [FREE; 2]);
    let asked = Query { max_parts: 8, ..query(DAVE, 85_000_000) };
    assert_eq!(cut(&graph, &asked).len(), 2);
    let more = Query { amount: Msat(95_000_000), ..asked };
    assert!(Search::new().parts(&graph, &Scorer::new(), &more).is_err());
    // What was learned counts, too.
    let mut scorer = Scorer::new();
    let last = ShortChannelId(5);
    let direction = Direction::between(&id(4), &id(DAVE));
    scorer.fail(last, direction, Msat(80_000_000), Msat(90_000_000), asked.now);
    assert!(Search::new().parts(&graph, &scorer, &asked).is_err());
}

#[test]
fn all_parts_together_stay_within_the_fee() {
    let graph = two_ways();
    let asked = Query { max_parts: 8, max_fee: Msat(12_000), ..query(DAVE, 100_000_000) };
    // Two fixed fees and 100 ppm of it all, rounded down twice.
    assert_eq!(cut(&graph, &asked).len(), 2);
    let poor = Query { max_fee: Msat(11_997), ..asked };
    let no = Search::new().parts(&graph, &Scorer::new(), &poor).unwrap_err();
    assert!(no.ways.iter().any(|way| way.relaxed == Relaxed::Fee), "{no}");
}

#[test]
fn what_just_fits_is_found_though_fees_come_on_top() {
    let graph = two_ways();
    // 50,000 sat carry 49,994,001 msat and their fee of 5,999; 30,000 sat carry 29,996,001 and 3,999.
    let ours = [own(1, BOB, 50_000_000), own(3, CAROL, 30_000_000)];
    for count in [2, 3, 16] {
        let asked = Query { max_parts: count, first_hops: Some(&ours), ..query(DAVE, 79_990_002) };
        assert_eq!(cut(&graph, &asked).len(), 2);
        let more = Query { amount: Msat(79_990_003), ..asked };
        assert!(Search::new().parts(&graph, &Scorer::new(), &more).is_err());
    }
    // The same where channels of others are what bounds it.
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 60_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, DAVE), 40_000, [asks(1_000, 100, 10), FREE]);
    open(&mut graph, 3, (ALICE, CAROL), 60_000, [FREE; 2]);
    open(&mut graph, 4, (CAROL, DAVE), 25_000, [asks(1_000, 100, 10), FREE]);
    let asked = Query { max_parts: 2, ..query(DAVE, 65_000_000) };
    assert_eq!(cut(&graph, &asked).len(), 2);
    let more = Query { amount: Msat(65_000_001), ..asked };
    assert!(Search::new().parts(&graph, &Scorer::new(), &more).is_err());
}

#[test]
fn whatever_is_found_fits_together() {
    let mut dice = Entropy::new([4; 32]);
    let mut roll = move |n: u64| dice.u64() % n;
    let mut search = Search::new();
    let mut several = 0;
    for _ in 0..400 {
        let mut graph = Graph::new();
        for scid in 1..=18 {
            let (a, b) = (roll(7) as usize, roll(7) as usize);
            if a != b {
                let most = 10_000_000 + roll(200_000_000);
                let mut policy = || Policy {
                    htlc_maximum: Msat(most),
                    ..asks(roll(2_000) as u32, roll(2_000) as u32, roll(80) as u16)
                };
                let policies = [policy(), policy()];
                open(&mut graph, scid, (a, b), 20_000 + roll(100_000), policies);
            }
        }
        let ours: Vec<FirstHop> =
            (0..3).map(|n| own(100 + n, 1 + roll(6) as usize, roll(90_000_000))).collect();
        let asked = Query {
            max_parts: 1 + roll(10) as usize,
            max_fee: Msat(roll(1_000_000)),
            first_hops: Some(&ours),
            ..query(1 + roll(6) as usize, 1 + roll(120_000_000))
        };
        match search.parts(&graph, &Scorer::new(), &asked) {
            Ok(parts) => {
                assert_fits(&graph, &asked, &parts);
                several += usize::from(parts.len() > 1);
            }
            // What is said to do does.
            Err(no) => assert!(no.text.starts_with("no route: "), "{no}"),
        }
    }
    assert!(several > 30, "only {several} payments were cut");
}
