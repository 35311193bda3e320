//! Hints are somebody's word: what happens on channels that they name says nothing of the graph's.
//!
//! In: hints that name channels which are not there, or which are others'. Out: ways that go where they say, and a graph
//! and scores that are as they were.

use super::*;
use crate::id::PaymentHash;
use crate::node::effect::Input;
use crate::node::routes::{
    Because, FirstHop as OwnHop, Lesson, NoWay, Passage, Purpose, RouteRequest, Trouble,
};
use crate::node::terms::Told;
use alloc::string::String;

/// Alice – Bob – Carol – Dave in a line, a million sat each.
fn line() -> Graph {
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 1_000_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, CAROL), 1_000_000, [asks(1_000, 0, 10); 2]);
    open(&mut graph, 3, (CAROL, DAVE), 1_000_000, [asks(1_000, 0, 10); 2]);
    graph
}

/// Whoever wrote the invoice.
const MALLORY: usize = 9;

fn hop(from: usize, scid: u64) -> RouteHintHop {
    RouteHintHop {
        node_id: id(from),
        short_channel_id: ShortChannelId(scid),
        fee_base_msat: 0,
        fee_proportional_millionths: 0,
        cltv_expiry_delta_blocks: 10,
    }
}

fn passage(scid: u64, from: usize, to: usize, msat: u64) -> Passage {
    Passage { channel: ShortChannelId(scid), from: id(from), to: id(to), amount: Msat(msat) }
}

const NOW: Timestamp = Timestamp(1_000_000);

fn request(payee: usize, hints: Vec<Vec<RouteHintHop>>, msat: u64) -> RouteRequest {
    let most = Msat(900_000_000);
    RouteRequest {
        purpose: Purpose::Payment(PaymentHash([1; 32]), 1),
        us: id(ALICE),
        payee: id(payee),
        amount: Msat(msat),
        max_fee: Msat(u64::MAX),
        final_cltv_blocks: 9,
        max_blocks: 2_016,
        max_hops: 20,
        max_parts: 4,
        invoiced: true,
        first: vec![OwnHop {
            channel: ShortChannelId(1),
            peer: id(BOB),
            spendable: most,
            later: most,
            minimum: Msat(1),
        }],
        hints,
        paths: Vec::new(),
        not_channels: Default::default(),
        busy: Default::default(),
        failed: Vec::new(),
        not_nodes: Default::default(),
        in_flight: Vec::new(),
        told: Vec::new(),
        full: Vec::new(),
        anew: false,
        in_words: false,
    }
}

fn ways(
    router: &mut Router,
    request: &RouteRequest,
) -> Result<Vec<Vec<crate::node::command::RouteHop>>, NoWay> {
    match router.find(&line(), request, NOW) {
        Input::Routes { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_hint_made_up_teaches_nothing() {
    let graph = line();
    let mut router = Router::default();
    let room = |hop| Lesson { passed: Vec::new(), failed: Some((hop, Because::Room)), settled: false };
    let gone = |hop| Lesson { passed: Vec::new(), failed: Some((hop, Because::Gone)), settled: false };
    let passed = |hop, settled| Lesson { passed: vec![hop], failed: None, settled };
    // Channels that nobody announced, and a public one between others, either way.
    let strange = [(77, BOB, MALLORY), (2, BOB, MALLORY), (2, MALLORY, BOB), (2, BOB, DAVE), (3, DAVE, BOB)];
    for (scid, from, to) in strange {
        let hop = passage(scid, from, to, 500_000_000);
        for lesson in [room(hop), gone(hop), passed(hop, true), passed(hop, false)] {
            router.learn(&graph, &lesson, NOW);
            assert!(router.scorer().is_empty(), "{scid} {from} {to}: {lesson:?}");
        }
    }
    // More than its owner takes in one HTLC, or over what is switched off: no sign of its room.
    let mut graph = line();
    let way = Direction::between(&id(BOB), &id(CAROL));
    graph.set_policy(ShortChannelId(2), way, Policy { htlc_maximum: Msat(400_000_000), ..FREE });
    router.learn(&graph, &room(passage(2, BOB, CAROL, 500_000_000)), NOW);
    graph.set_policy(ShortChannelId(2), way, Policy { disabled: true, ..FREE });
    router.learn(&graph, &room(passage(2, BOB, CAROL, 500_000_000)), NOW);
    assert!(router.scorer().is_empty());
    // The true one teaches.
    router.learn(&line(), &room(passage(2, BOB, CAROL, 500_000_000)), NOW);
    let believed = router.scorer().believed(ShortChannelId(2), way, Msat(1_000_000_000), NOW);
    assert_eq!(believed, (Msat::ZERO, Msat(499_999_999)));
}

#[test]
fn a_hint_that_names_a_public_channel_takes_it_on_its_owners_terms() {
    // The hint says that Carol asks for nothing.
    let asked = request(DAVE, vec![vec![hop(BOB, 2), hop(CAROL, 3)]], 1_000_000);
    let found = ways(&mut Router::default(), &asked).expect("a way");
    assert_eq!(found[0][0].amount_msat, Msat(1_002_000));
}

#[test]
fn what_failed_beside_the_graph_is_avoided_there_and_nowhere_else() {
    // Who wrote the invoice claims that Bob's channel with Carol leads to the payee, for nothing.
    let mut asked = request(MALLORY, vec![vec![hop(BOB, 2)]], 10_000_000);
    let mut router = Router::default();
    assert_eq!(ways(&mut router, &asked).expect("a way")[0].len(), 2);
    let trouble = |msat, gone| Trouble { hop: passage(2, BOB, MALLORY, msat), gone };
    asked.failed = vec![trouble(0, true)];
    assert_eq!(ways(&mut router, &asked), Err(NoWay { why: String::new(), later: false, own: false }));
    // No room for it: some for less, and perhaps for all of it later.
    asked.failed = vec![trouble(9_999_999, false)];
    assert_eq!(ways(&mut router, &asked), Err(NoWay { why: String::new(), later: true, own: false }));
    asked.amount = Msat(9_999_999);
    assert!(ways(&mut router, &asked).is_ok());
    asked.in_flight = vec![passage(2, BOB, MALLORY, 9_000_000)];
    assert!(ways(&mut router, &asked).is_ok(), "beside what is under way");
    // The channel of that name is what it was.
    let mut true_one = request(DAVE, Vec::new(), 990_000_000 / 2);
    true_one.failed = vec![trouble(0, true)];
    true_one.in_flight = vec![passage(2, BOB, MALLORY, 900_000_000)];
    assert!(ways(&mut router, &true_one).is_ok());
    true_one.in_flight = vec![passage(2, BOB, CAROL, 900_000_000)];
    assert!(ways(&mut router, &true_one).is_err());
}

#[test]
fn terms_told_for_a_name_count_between_those_two_only() {
    let policy = asks(50_000, 0, 10);
    let told = |from, to| Told { channel: ShortChannelId(2), from: id(from), to: id(to), policy };
    let mut asked = request(DAVE, Vec::new(), 1_000_000);
    let mut router = Router::default();
    asked.told = vec![told(BOB, MALLORY), told(MALLORY, BOB)];
    assert_eq!(ways(&mut router, &asked).expect("a way")[0][0].amount_msat, Msat(1_002_000));
    asked.told = vec![told(BOB, CAROL)];
    assert_eq!(ways(&mut router, &asked).expect("a way")[0][0].amount_msat, Msat(1_051_000));
    // And for a hint's own hop.
    let mut asked = request(MALLORY, vec![vec![hop(BOB, 2)]], 1_000_000);
    asked.told = vec![told(BOB, MALLORY)];
    assert_eq!(ways(&mut router, &asked).expect("a way")[0][0].amount_msat, Msat(1_050_000));
}

#[test]
fn parts_share_what_is_beside_the_graph() {
    // Two hints over one channel of Bob's that took no more than so much.
    let mut asked = request(MALLORY, vec![vec![hop(BOB, 70)], vec![hop(BOB, 70)]], 10_000_000);
    asked.failed = vec![Trouble { hop: passage(70, BOB, MALLORY, 6_000_000), gone: false }];
    assert!(ways(&mut Router::default(), &asked).is_err());
    asked.hints.push(vec![hop(BOB, 71)]);
    assert_eq!(ways(&mut Router::default(), &asked).expect("ways").len(), 1);
    asked.failed.push(Trouble { hop: passage(71, BOB, MALLORY, 5_000_000), gone: false });
    assert_eq!(ways(&mut Router::default(), &asked).expect("ways").len(), 2);
}

#[test]
fn a_payee_that_asks_for_what_nobody_knows_is_paid_by_its_own_invoice_only() {
    // BOLT 7 [7.node.14].
    let mut graph = line();
    graph.set_foreign(&id(DAVE), true);
    let mut router = Router::default();
    let mut asked = request(DAVE, Vec::new(), 1_000_000);
    assert!(matches!(router.find(&graph, &asked, NOW), Input::Routes { result: Ok(_), .. }));
    asked.invoiced = false;
    let Input::Routes { result: Err(no), .. } = router.find(&graph, &asked, NOW) else { panic!("a way") };
    assert!(no.why.contains("must be known") && !no.later, "{no:?}");
}
