//! Routes in small graphs whose best way is known, and what must hold for every route that is found.
//!
//! In: graphs by hand, the example of BOLT 7 among them. Out: the hops, amounts and expiries that follow on paper.
//! `brute` holds the search against all simple paths, `split` several parts, `why` the words when there is none.

use super::*;
use crate::gossip::graph::{Direction, Graph, Policy};
use crate::id::{NodeId, ShortChannelId};
use crate::invoice::RouteHintHop;
use crate::units::{Msat, Sat, Timestamp};
use alloc::vec;
use alloc::vec::Vec;
use secp256k1::{Secp256k1, SecretKey};

mod beside;
mod brute;
mod split;
mod why;

pub(super) const ALICE: usize = 0;
pub(super) const BOB: usize = 1;
pub(super) const CAROL: usize = 2;
pub(super) const DAVE: usize = 3;

/// A node's id, by its number.
pub(super) fn id(n: usize) -> NodeId {
    let mut secret = [7; 32];
    secret[31] = n as u8 + 1;
    NodeId(SecretKey::from_slice(&secret).unwrap().public_key(&Secp256k1::new()))
}

/// Asks nothing.
pub(super) const FREE: Policy = Policy {
    disabled: false,
    cltv_expiry_delta: 10,
    htlc_minimum: Msat(0),
    htlc_maximum: Msat(u64::MAX),
    fee_base_msat: 0,
    fee_proportional_millionths: 0,
    timestamp: 1,
};

pub(super) fn asks(fee_base_msat: u32, fee_proportional_millionths: u32, cltv_expiry_delta: u16) -> Policy {
    Policy { fee_base_msat, fee_proportional_millionths, cltv_expiry_delta, ..FREE }
}

/// Opens a channel; the policies of `from` and of `to`.
pub(super) fn open(
    graph: &mut Graph,
    scid: u64,
    (from, to): (usize, usize),
    sat: u64,
    policies: [Policy; 2],
) {
    let (scid, mut nodes) = (ShortChannelId(scid), [id(from), id(to)]);
    nodes.sort();
    assert!(graph.add_channel(scid, nodes, Some(Sat(sat))));
    let out = Direction::between(&id(from), &id(to));
    assert!(graph.set_policy(scid, out, policies[0]));
    assert!(graph.set_policy(scid, out.other(), policies[1]));
}

/// Alice pays `to`, with every limit far away.
pub(super) fn query<'a>(to: usize, amount: u64) -> Query<'a> {
    Query {
        us: id(ALICE),
        payee: id(to),
        amount: Msat(amount),
        final_cltv_delta: 9,
        max_fee: Msat(u64::MAX),
        max_cltv_blocks: 2_016,
        max_hops: 20,
        max_parts: 1,
        first_hops: None,
        hints: &[],
        exclude: &[],
        in_flight: &[],
        beside: &[],
        told: &[],
        now: Timestamp(1_000_000),
    }
}

pub(super) fn own(scid: u64, peer: usize, spendable: u64) -> FirstHop {
    FirstHop {
        scid: ShortChannelId(scid),
        peer: id(peer),
        spendable: Msat(spendable),
        htlc_minimum: Msat(1),
        htlc_maximum: Msat(u64::MAX),
    }
}

/// What must hold for a part: walked forwards, every hop gets what it asks for and nothing more, and no limit is passed.
pub(super) fn assert_kept(graph: &Graph, query: &Query, route: &Route) {
    let last = route.hops.last().expect("a hop");
    assert_eq!((last.node, last.amount), (query.payee, route.amount));
    assert_eq!(last.delay_blocks, query.final_cltv_delta);
    assert_eq!(route.sent().checked_sub(route.amount), Some(route.fee));
    assert!(route.fee <= query.max_fee && route.delay_blocks() <= query.max_cltv_blocks);
    assert!(route.hops.len() <= query.max_hops);
    let mut from = query.us;
    for (place, hop) in route.hops.iter().enumerate() {
        assert_eq!(hop.direction, Direction::between(&from, &hop.node));
        let own = query.first_hops.and_then(|all| all.iter().find(|h| place == 0 && h.scid == hop.scid));
        if let Some(own) = own {
            assert!(own.peer == hop.node && hop.amount <= own.spendable);
            assert!(own.htlc_minimum <= hop.amount && hop.amount <= own.htlc_maximum);
        } else {
            assert!(place > 0 || query.first_hops.is_none(), "the first hop is one of ours");
            let view = graph.channel(hop.scid).expect("a public channel");
            let policy = view.policies[hop.direction.index()].expect("a policy");
            let mut ends = [from, hop.node];
            ends.sort();
            assert_eq!(view.nodes, ends);
            assert!(
                !policy.disabled && policy.htlc_minimum <= hop.amount && hop.amount <= policy.htlc_maximum
            );
            assert!(view.capacity.is_none_or(|sat| hop.amount <= sat.to_msat()));
            if place > 0 {
                let before = &route.hops[place - 1];
                assert_eq!(policy.fee(hop.amount), before.amount.checked_sub(hop.amount));
                assert_eq!(before.delay_blocks - hop.delay_blocks, u32::from(policy.cltv_expiry_delta));
            }
            let banned =
                [Exclude::Channel(hop.scid, hop.direction), Exclude::Node(from), Exclude::Node(hop.node)];
            assert!(!banned.iter().any(|b| query.exclude.contains(b)));
        }
        from = hop.node;
    }
}

fn find(graph: &Graph, query: &Query) -> Route {
    let route = Search::new().route(graph, &Scorer::new(), query).unwrap_or_else(|e| panic!("{e}"));
    assert_kept(graph, query, &route);
    route
}

fn passes(route: &Route) -> Vec<(NodeId, u64, u32)> {
    route.hops.iter().map(|hop| (hop.node, hop.amount.0, hop.delay_blocks)).collect()
}

/// The diamond of BOLT 7, "Routing Example".
fn diamond() -> Graph {
    let (a, b) = (asks(100, 1_000, 10), asks(200, 2_000, 20));
    let (c, d) = (asks(300, 3_000, 30), asks(400, 4_000, 40));
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 1_000_000, [a, b]);
    open(&mut graph, 2, (BOB, CAROL), 1_000_000, [b, c]);
    open(&mut graph, 3, (ALICE, DAVE), 1_000_000, [a, d]);
    open(&mut graph, 4, (DAVE, CAROL), 1_000_000, [d, c]);
    graph
}

#[test]
fn the_example_of_bolt_7() {
    let graph = diamond();
    let asked = query(CAROL, 4_999_999);
    // "A->B->C: … amount_msat = 4999999 + 200 + (4999999 * 2000 / 1000000) = 5010198", expiries 20 + 9 and 9.
    let route = find(&graph, &asked);
    assert_eq!(passes(&route), [(id(BOB), 5_010_198, 29), (id(CAROL), 4_999_999, 9)]);
    assert_eq!(route.fee, Msat(10_199));
    // "A->D->C": 5020398, 40 + 9.
    let round = [Exclude::Node(id(BOB))];
    let route = find(&graph, &Query { exclude: &round, ..asked });
    assert_eq!(passes(&route), [(id(DAVE), 5_020_398, 49), (id(CAROL), 4_999_999, 9)]);
    // "B->C": one hop costs nothing.
    let route = find(&graph, &Query { us: id(BOB), ..asked });
    assert_eq!(passes(&route), [(id(CAROL), 4_999_999, 9)]);
    assert_eq!(route.fee, Msat::ZERO);
}

#[test]
fn the_payment_that_the_project_began_with() {
    // Alice→Bob→Carol→Dave: 0.052, 0.051, 0.05 BTC, about three, two and one day.
    let day = asks(100_000_000, 0, 144);
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 10_000_000, [day; 2]);
    open(&mut graph, 2, (BOB, CAROL), 10_000_000, [day; 2]);
    open(&mut graph, 3, (CAROL, DAVE), 10_000_000, [day; 2]);
    let ours = [own(1, BOB, 9_000_000_000)];
    let asked = Query { first_hops: Some(&ours), final_cltv_delta: 144, ..query(DAVE, 5_000_000_000) };
    let route = find(&graph, &asked);
    let wanted =
        [(id(BOB), 5_200_000_000, 432), (id(CAROL), 5_100_000_000, 288), (id(DAVE), 5_000_000_000, 144)];
    assert_eq!(passes(&route), wanted);
    assert_eq!(route.fee, Msat(200_000_000));
    // And in the shape that is sent.
    let hops = route.for_sendpay();
    assert_eq!(hops[1].channel, Some(ShortChannelId(2)));
    assert_eq!((hops[2].id, hops[2].amount_msat, hops[2].delay_blocks), (id(DAVE), Msat(5_000_000_000), 144));
}

#[test]
fn our_own_channels_are_known_exactly() {
    let graph = diamond();
    // The cheap way has too little left on our side; a peer may have several channels, the tightest that fits is used.
    let ours =
        [own(1, BOB, 5_010_197), own(3, DAVE, 9_000_000), own(5, DAVE, 6_000_000), own(6, DAVE, 5_000_000)];
    let asked = Query { first_hops: Some(&ours), ..query(CAROL, 4_999_999) };
    let route = find(&graph, &asked);
    assert_eq!((route.hops[0].node, route.hops[0].scid), (id(DAVE), ShortChannelId(5)));
    // One msat more does.
    let ours = [own(1, BOB, 5_010_198), own(3, DAVE, 9_000_000)];
    let route = find(&graph, &Query { first_hops: Some(&ours), ..asked });
    assert_eq!(route.hops[0].node, id(BOB));
    // A peer that the graph does not know is paid directly.
    let ours = [own(9, 9, 4_999_999)];
    let asked = Query { first_hops: Some(&ours), ..query(9, 4_999_999) };
    assert_eq!(passes(&find(&graph, &asked)), [(id(9), 4_999_999, 9)]);
}

#[test]
fn a_hint_leads_over_private_channels() {
    let graph = diamond();
    let hop = |n: usize, scid: u64, base: u32| RouteHintHop {
        node_id: id(n),
        short_channel_id: ShortChannelId(scid),
        fee_base_msat: base,
        fee_proportional_millionths: 0,
        cltv_expiry_delta_blocks: 7,
    };
    // Carol – 8 – 9, both private; and a dearer one from Dave.
    let hints = [
        Hint::Private(vec![hop(DAVE, 21, 90_000)]),
        Hint::Private(vec![hop(CAROL, 22, 1_000), hop(8, 23, 2_000)]),
    ];
    let asked = Query { hints: &hints, ..query(9, 1_000_000) };
    let route = Search::new().route(&graph, &Scorer::new(), &asked).unwrap();
    let carol = 1_000_000 + 2_000 + 1_000;
    let bob = carol + 200 + carol * 2_000 / 1_000_000;
    let wanted = [(id(BOB), bob, 43), (id(CAROL), carol, 23), (id(8), 1_002_000, 16), (id(9), 1_000_000, 9)];
    assert_eq!(passes(&route), wanted);
    assert_eq!(route.hint, Some(1));
    assert_eq!(route.hops[3].scid, ShortChannelId(23));
    // One of its channels failed: the other hint. No score remembers it.
    let mut scorer = Scorer::new();
    scorer.route_failed(&route, 3, asked.now);
    assert_eq!(scorer.len(), 2);
    let failed = [Beside { scid: ShortChannelId(23), from: id(8), most: Msat(999_999), taken: Msat::ZERO }];
    let asked = Query { beside: &failed, ..asked };
    let route = Search::new().route(&graph, &Scorer::new(), &asked).unwrap();
    assert_eq!((route.hint, route.hops[1].scid), (Some(0), ShortChannelId(21)));
}

#[test]
fn a_blinded_path_counts_as_one_channel_with_its_fee() {
    let graph = diamond();
    let path = BlindedHint {
        introduction: id(CAROL),
        fee_base_msat: 500,
        fee_proportional_millionths: 1_000,
        cltv_expiry_delta: 60,
        htlc_minimum: Msat(1_000),
        htlc_maximum: Msat(2_000_000),
    };
    let hints = [Hint::Blinded(path)];
    // The payee has public channels, too: a blinded payee is reached over the path alone.
    let asked = Query { hints: &hints, final_cltv_delta: 3, ..query(DAVE, 1_000_000) };
    let route = Search::new().route(&graph, &Scorer::new(), &asked).unwrap();
    let carol = 1_000_000 + 500 + 1_000;
    let bob = carol + 200 + carol * 2_000 / 1_000_000;
    assert_eq!(passes(&route), [(id(BOB), bob, 83), (id(CAROL), carol, 63)]);
    assert_eq!((route.hint, route.amount, route.fee), (Some(0), Msat(1_000_000), Msat(bob - 1_000_000)));
    let too_much = Query { amount: Msat(2_000_001), ..asked };
    assert!(Search::new().route(&graph, &Scorer::new(), &too_much).is_err());
}

#[test]
fn what_failed_is_gone_round_and_tried_again_when_it_is_forgotten() {
    let graph = diamond();
    let asked = query(CAROL, 4_999_999);
    let mut scorer = Scorer::new();
    let cheap = find(&graph, &asked);
    scorer.route_failed(&cheap, 1, asked.now);
    let route = Search::new().route(&graph, &scorer, &asked).unwrap();
    assert_eq!(route.hops[0].node, id(DAVE));
    // Half of that amount may still pass there, and so may all of it when a day is over.
    let half = Query { amount: Msat(2_000_000), ..asked };
    assert_eq!(Search::new().route(&graph, &scorer, &half).unwrap().hops[0].node, id(BOB));
    let later = Query { now: asked.now.plus_ms(86_400_000), ..asked };
    assert_eq!(Search::new().route(&graph, &scorer, &later).unwrap().hops[0].node, id(BOB));
}

#[test]
fn what_is_under_way_takes_room() {
    let graph = diamond();
    // Only Bob is cheap enough, and his channel with Carol holds 1,000,000 sat.
    let asked = Query { max_fee: Msat(10_199), ..query(CAROL, 4_999_999) };
    let direction = Direction::between(&id(BOB), &id(CAROL));
    let busy = |msat: u64| [(ShortChannelId(2), direction, Msat(msat))];
    find(&graph, &Query { in_flight: &busy(995_000_001), ..asked });
    let full = busy(995_000_002);
    assert!(Search::new().route(&graph, &Scorer::new(), &Query { in_flight: &full, ..asked }).is_err());
}

#[test]
fn what_is_scarce_is_weighed_against_what_is_dear() {
    // Bob is cheaper by 100 sat and nearly too small; Dave has room.
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 50_000_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, CAROL), 1_010_000, [FREE; 2]);
    open(&mut graph, 3, (ALICE, DAVE), 50_000_000, [FREE; 2]);
    open(&mut graph, 4, (DAVE, CAROL), 50_000_000, [asks(100_000, 0, 10), FREE]);
    let asked = query(CAROL, 1_000_000_000);
    assert_eq!(find(&graph, &asked).hops[0].node, id(DAVE));
    // The limit on the fee leaves the other.
    let poor = Query { max_fee: Msat(99_999), ..asked };
    assert_eq!(find(&graph, &poor).hops[0].node, id(BOB));
}

#[test]
fn each_limit_turns_the_search_to_what_keeps_it() {
    // Three ways to Dave: cheap and long in blocks, dear and early, direct and dearest.
    let mut graph = Graph::new();
    open(&mut graph, 1, (ALICE, BOB), 1_000_000, [FREE; 2]);
    open(&mut graph, 2, (BOB, DAVE), 1_000_000, [asks(1_000, 0, 1_000), FREE]);
    open(&mut graph, 3, (ALICE, CAROL), 1_000_000, [FREE; 2]);
    open(&mut graph, 4, (CAROL, 4), 1_000_000, [asks(10_000, 0, 10), FREE]);
    open(&mut graph, 5, (4, DAVE), 1_000_000, [asks(10_000, 0, 10), FREE]);
    open(&mut graph, 6, (ALICE, 5), 1_000_000, [FREE; 2]);
    open(&mut graph, 7, (5, DAVE), 1_000_000, [asks(500_000, 0, 800), FREE]);
    let asked = query(DAVE, 1_000_000);
    assert_eq!(find(&graph, &asked).hops[0].node, id(BOB));
    let early = Query { max_cltv_blocks: 100, ..asked };
    assert_eq!(find(&graph, &early).hops[0].node, id(CAROL));
    let near = Query { max_cltv_blocks: 900, max_hops: 2, ..asked };
    assert_eq!(find(&graph, &near).hops[0].node, id(5));
}

#[test]
fn a_way_never_leads_through_ourselves_nor_through_what_is_off() {
    let mut graph = Graph::new();
    let off = Policy { disabled: true, ..FREE };
    open(&mut graph, 1, (BOB, ALICE), 1_000_000, [FREE; 2]);
    open(&mut graph, 2, (ALICE, CAROL), 1_000_000, [FREE; 2]);
    open(&mut graph, 3, (BOB, CAROL), 1_000_000, [off, FREE]);
    // Only a channel with Bob is ours to use, and Bob's way to Carol is switched off but for the one through us.
    let ours = [own(1, BOB, 500_000_000)];
    let asked = Query { first_hops: Some(&ours), ..query(CAROL, 1_000_000) };
    assert!(Search::new().route(&graph, &Scorer::new(), &asked).is_err());
    graph.set_policy(ShortChannelId(3), Direction::between(&id(BOB), &id(CAROL)), FREE);
    assert_eq!(find(&graph, &asked).hops.len(), 2);
}

#[test]
fn nothing_is_routed_through_a_node_that_asks_for_what_nobody_knows() {
    // BOLT 7 [7.node.14, 7.node.15].
    let mut graph = diamond();
    assert!(graph.set_foreign(&id(BOB), true) && !graph.set_foreign(&id(9), true));
    let asked = query(CAROL, 4_999_999);
    assert_eq!(find(&graph, &asked).hops[0].node, id(DAVE));
    // To it, with its own invoice.
    assert_eq!(find(&graph, &query(BOB, 1_000_000)).hops.len(), 1);
    graph.set_foreign(&id(DAVE), true);
    assert!(Search::new().try_route(&graph, &Scorer::new(), &asked).is_none());
    graph.set_foreign(&id(BOB), false);
    assert_eq!(find(&graph, &asked).hops[0].node, id(BOB));
    // It lost all channels: its number may be another's.
    graph.remove_channel(ShortChannelId(3));
    graph.remove_channel(ShortChannelId(4));
    assert!(!graph.is_foreign(&id(DAVE)));
    open(&mut graph, 9, (CAROL, 8), 1_000_000, [FREE; 2]);
    assert!(!graph.is_foreign(&id(8)));
}
