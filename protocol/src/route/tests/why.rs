//! What is said when there is no route: the limit that stood in the way, and what would do.
//!
//! In: one limit too tight at a time. Out: that limit, and a route that keeps all others.

use super::*;
use crate::id::PaymentHash;
use crate::node::effect::Input;
use crate::node::routes::{NoWay, Purpose, RouteRequest};
use alloc::format;
use alloc::string::{String, ToString};

/// Alice – Bob – Dave, dear; Alice – Carol – 4 – Dave, cheaper and longer.
fn graph() -> Graph {
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 1_000_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, DAVE), 1_000_000, [asks(5_000, 0, 40), FREE]);
    open(&mut graph, 3, (ALICE, CAROL), 1_000_000, [FREE; 2]);
    open(&mut graph, 4, (CAROL, 4), 1_000_000, [asks(1_000, 0, 30), FREE]);
    open(&mut graph, 5, (4, DAVE), 1_000_000, [asks(1_000, 0, 30), FREE]);
    graph
}

fn refused(graph: &Graph, scorer: &Scorer, query: &Query) -> NoRoute {
    Search::new().route(graph, scorer, query).expect_err("there should be no route")
}

fn only(no: &NoRoute, relaxed: Relaxed) -> &Route {
    assert_eq!(no.ways.iter().map(|way| way.relaxed).collect::<Vec<_>>(), [relaxed], "{no}");
    &no.ways[0].parts[0]
}

#[test]
fn the_fee_and_the_cheapest_one() {
    let asked = Query { max_fee: Msat(1_999), ..query(DAVE, 1_000_000) };
    let no = refused(&graph(), &Scorer::new(), &asked);
    assert_eq!(only(&no, Relaxed::Fee).fee, Msat(2_000));
    assert_eq!(
        no.to_string(),
        "no route: the fee: the cheapest way costs 2000 msat, and 1999 msat are allowed"
    );
}

#[test]
fn the_expiry_and_the_earliest() {
    let asked = Query { max_cltv_blocks: 48, ..query(DAVE, 1_000_000) };
    let no = refused(&graph(), &Scorer::new(), &asked);
    assert_eq!(only(&no, Relaxed::Cltv).delay_blocks(), 49);
    let asked = Query { max_cltv_blocks: 8, ..asked };
    assert!(refused(&graph(), &Scorer::new(), &asked).text.contains("the payee alone asks for 9 blocks"));
}

#[test]
fn the_hops_and_the_shortest_way() {
    let asked = Query { max_hops: 1, ..query(DAVE, 1_000_000) };
    let no = refused(&graph(), &Scorer::new(), &asked);
    assert_eq!(only(&no, Relaxed::Hops).hops.len(), 2);
}

#[test]
fn what_the_user_excludes() {
    let exclude =
        [Exclude::Node(id(BOB)), Exclude::Channel(ShortChannelId(5), Direction::between(&id(4), &id(DAVE)))];
    let asked = Query { exclude: &exclude, ..query(DAVE, 1_000_000) };
    only(&refused(&graph(), &Scorer::new(), &asked), Relaxed::Excluded);
    let exclude = [Exclude::Node(id(DAVE))];
    let asked = Query { exclude: &exclude, ..asked };
    assert!(refused(&graph(), &Scorer::new(), &asked).text.contains("the payee is excluded"));
}

#[test]
fn our_own_liquidity() {
    let ours = [own(1, BOB, 900_000), own(3, CAROL, 500_000)];
    let asked = Query { first_hops: Some(&ours), ..query(DAVE, 1_000_000) };
    let no = refused(&graph(), &Scorer::new(), &asked);
    let which: Vec<Relaxed> = no.ways.iter().map(|way| way.relaxed).collect();
    // In two parts it would go as it is.
    assert_eq!(which, [Relaxed::Parts, Relaxed::OwnLiquidity, Relaxed::Amount]);
    assert!(no.text.contains("900000 msat is the most that one can send"), "{no}");
    let most = no.ways[2].parts[0].amount.0;
    // Bob takes 5,000 of 900,000; the largest amount is found to one part in a hundred.
    assert!((886_000..=895_000).contains(&most), "{most}");
    let nothing = Query { first_hops: Some(&[]), ..asked };
    assert!(refused(&graph(), &Scorer::new(), &nothing).text.contains("no usable channel"));
}

#[test]
fn our_own_channels_are_not_said_to_lack_what_they_have() {
    // Carol leads nowhere.
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 1_000_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, DAVE), 1_000_000, [asks(5_000, 0, 40), FREE]);
    open(&mut graph, 3, (ALICE, CAROL), 1_000_000, [FREE; 2]);
    let ours = [own(1, BOB, 500_000), own(3, CAROL, 5_000_000)];
    let asked = Query { first_hops: Some(&ours), ..query(DAVE, 1_000_000) };
    let no = refused(&graph, &Scorer::new(), &asked);
    let words = format!(
        "they can send 5500000 msat, and not where the way begins: 1005000 msat are needed over {}, and it can send \
         500000 msat",
        ShortChannelId(1)
    );
    assert!(no.text.contains(&words), "{no}");
    // Enough together, too little each, and one part only.
    let ours = [own(1, BOB, 600_000), own(3, BOB, 600_000)];
    let asked = Query { first_hops: Some(&ours), ..asked };
    let no = refused(&graph, &Scorer::new(), &asked);
    assert!(no.text.contains("1005000 msat are needed over one"), "{no}");
    assert!(no.text.contains("600000 msat is the most that one can send"), "{no}");
    assert!(no.text.contains("the parts: 2 would carry it for 10000 msat, and 1 may be sent"), "{no}");
}

#[test]
fn what_is_less_than_channels_take() {
    let mut graph = Graph::new();
    let coarse = Policy { htlc_minimum: Msat(50_000), ..asks(1_000, 0, 40) };
    open(&mut graph, 1, (ALICE, BOB), 1_000_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, DAVE), 1_000_000, [coarse, FREE]);
    let no = refused(&graph, &Scorer::new(), &query(DAVE, 1_000));
    let least = only(&no, Relaxed::Minimum).amount.0;
    assert!((50_000..=51_000).contains(&least), "{least}");
    assert!(no.text.contains("take no HTLC that small"), "{no}");
}

#[test]
fn what_was_learned() {
    let asked = query(DAVE, 1_000_000);
    let mut scorer = Scorer::new();
    for (scid, from) in [(2, BOB), (5, 4)] {
        let direction = Direction::between(&id(from), &id(DAVE));
        scorer.fail(ShortChannelId(scid), direction, Msat(400_000), Msat(1_000_000_000), asked.now);
    }
    let no = refused(&graph(), &scorer, &asked);
    let which: Vec<Relaxed> = no.ways.iter().map(|way| way.relaxed).collect();
    assert_eq!(which, [Relaxed::Learned, Relaxed::Amount]);
}

#[test]
fn more_than_any_channel_holds() {
    let no = refused(&graph(), &Scorer::new(), &query(DAVE, 3_000_000_000));
    let most = only(&no, Relaxed::Amount).amount.0;
    assert!((980_000_000..=1_000_000_000).contains(&most), "{most}");
    assert!(no.text.contains("the amount: about "), "{no}");
}

#[test]
fn two_limits_at_once() {
    let asked = Query { max_fee: Msat(1_999), max_cltv_blocks: 48, ..query(DAVE, 1_000_000) };
    let no = refused(&graph(), &Scorer::new(), &asked);
    assert!(no.text.contains("several limits at once"), "{no}");
    assert_eq!(only(&no, Relaxed::All).fee, Msat(2_000));
}

#[test]
fn nobody_there() {
    let no = refused(&graph(), &Scorer::new(), &query(9, 1_000));
    assert!(no.text.contains("is not in the graph, and the invoice has no route hint"), "{no}");
    assert!(refused(&graph(), &Scorer::new(), &query(ALICE, 1_000)).text.contains("the payee is the payer"));
    let mut graph = graph();
    let off = Policy { disabled: true, ..FREE };
    for (scid, from) in [(2, BOB), (5, 4)] {
        graph.set_policy(ShortChannelId(scid), Direction::between(&id(from), &id(DAVE)), off);
    }
    assert!(refused(&graph, &Scorer::new(), &query(DAVE, 1_000)).text.contains("switched off"));
    // An island: there, open, and out of reach.
    open(&mut graph, 9, (7, 8), 1_000_000, [FREE; 2]);
    let no = refused(&graph, &Scorer::new(), &query(8, 1_000));
    assert!(no.ways.is_empty() && no.text.contains("nothing joins the payer and the payee"), "{no}");
}

/// Who does not read why is not told: that takes many searches.
#[test]
fn words_only_for_who_reads_them() {
    let mut request = RouteRequest {
        purpose: Purpose::Payment(PaymentHash([1; 32]), 1),
        us: id(ALICE),
        payee: id(DAVE),
        amount: Msat(1_000_000),
        max_fee: Msat(1_999),
        final_cltv_blocks: 9,
        max_blocks: 2_016,
        max_hops: 20,
        max_parts: 1,
        invoiced: true,
        first: [own_hop(1, BOB), own_hop(3, CAROL)].into(),
        hints: Vec::new(),
        paths: Vec::new(),
        not_channels: Default::default(),
        busy: Default::default(),
        failed: Vec::new(),
        not_nodes: Default::default(),
        in_flight: Vec::new(),
        told: Vec::new(),
        full: Vec::new(),
        anew: false,
        in_words: true,
    };
    let mut router = Router::default();
    let mut ask = |request: &RouteRequest| match router.find(&graph(), request, Timestamp(1_000_000)) {
        Input::Routes { result, .. } => result,
        other => panic!("{other:?}"),
    };
    assert!(ask(&request).is_err_and(|no| no.why.contains("the fee")));
    request.in_words = false;
    assert_eq!(ask(&request), Err(NoWay { why: String::new(), later: false, own: false }));
    request.max_fee = Msat(5_000);
    assert!(ask(&request).is_ok_and(|ways| ways.len() == 1));
}

fn own_hop(scid: u64, peer: usize) -> crate::node::routes::FirstHop {
    let FirstHop { scid: channel, peer, spendable, .. } = own(scid, peer, 900_000_000);
    crate::node::routes::FirstHop { channel, peer, spendable, later: spendable, minimum: Msat(1) }
}
