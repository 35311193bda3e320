//! Terms that changed while nobody looked: a hop gives a payment back, says what it asks for now, and is sent that (BOLT 4).
//!
//! In: nodes whose maps are of before a change. Out: the same payment goes through at the second try, or goes around who
//! asks for more each time; nothing of it stays in what is known of the network.
//! Read next: `routes`, `chand_protocol::node::terms`.

use chand_protocol::id::Side;
use chand_protocol::node::command::{ChannelRef, Command, Reply, RouteLimits};
use chand_protocol::node::effect::Input;
use chand_protocol::node::{view, GossipConfig, NodeConfig};
use chand_protocol::units::Msat;
use chand_tests::duet::play::Open;
use chand_tests::duet::Answer;
use chand_tests::town::{Town, ALICE, BOB, CAROL, DAVE};

fn usual(seat: usize, config: &mut NodeConfig) {
    config.fee_base_msat = if seat == CAROL { 9_000 } else { 1_000 };
    config.fee_ppm = 0;
    config.gossip = Some(GossipConfig::default());
}

/// Over Bob for 1,000 msat, or over Carol for 9,000; the map is of now from here on.
fn diamond(seed: u64, carol: bool) -> Town {
    let mut town = Town::new(4, seed, usual);
    let half = Open { sat: 1_000_000, push_msat: 300_000_000, ..Open::default() };
    let ways = [(ALICE, BOB), (BOB, DAVE), (ALICE, CAROL), (CAROL, DAVE)];
    for (from, to) in &ways[..if carol { 4 } else { 2 }] {
        town.open(*from, *to, half);
    }
    town.mine(6);
    town.frozen = Some(town.map());
    town
}

fn ask_for(town: &Town, seat: usize, to: usize, base: u32, min: Option<u64>) -> Command {
    Command::SetChannel {
        channel: Some(ChannelRef::Short(town.scid(seat, to))),
        fee_base_msat: Some(base),
        fee_ppm: None,
        htlc_min_msat: min.map(Msat),
        htlc_max_msat: None,
    }
}

fn order(town: &mut Town, label: &str, msat: u64, max_fee: u64) -> Command {
    let bill = town.bill(DAVE, label, msat);
    let limits = RouteLimits { max_fee: Some(Msat(max_fee)), ..RouteLimits::default() };
    Command::Pay { bolt11: bill.bolt11, amount_msat: None, label: None, retry_for_s: 60, limits }
}

fn paid(answer: Option<Answer>) -> view::Pay {
    match answer {
        Some(Ok(Reply::Paid(pay))) => pay,
        other => panic!("{other:?}"),
    }
}

/// HTLCs that Alice ever offered.
fn offered(town: &Town) -> u64 {
    town.seats[ALICE].node.channels().map(|c| c.ledger.next_id(Side::Local)).sum()
}

#[test]
fn the_second_try_pays_what_the_hop_now_asks_for() {
    // BOLT 4 [4.fail.20, 4.receive.2].
    let mut town = diamond(801, false);
    let dearer = ask_for(&town, BOB, DAVE, 7_000, None);
    town.must(BOB, dearer);
    let pay = order(&mut town, "dearer", 50_000_000, 100_000);
    let before = offered(&town);
    let done = paid(town.ask(ALICE, pay));
    assert_eq!((done.amount_sent_msat.0, done.parts), (50_007_000, 1));
    assert_eq!(offered(&town) - before, 2);
    // It was for that payment alone: the next one finds the map as it is.
    let pay = order(&mut town, "next", 50_000_000, 100_000);
    assert_eq!(paid(town.ask(ALICE, pay)).amount_sent_msat.0, 50_007_000);
    assert_eq!(offered(&town) - before, 4);
    // More blocks between the expiries.
    town.seats[BOB].configure(|config| config.cltv_delta_blocks = 77);
    town.restart(BOB);
    town.settle();
    let slower = Command::SetChannel {
        channel: None,
        fee_base_msat: Some(7_000),
        fee_ppm: None,
        htlc_min_msat: None,
        htlc_max_msat: None,
    };
    town.must(BOB, slower);
    let pay = order(&mut town, "slower", 50_000_000, 100_000);
    paid(town.ask(ALICE, pay));
    town.judge_quiet();
}

#[test]
fn a_limit_of_fees_holds_for_terms_that_were_told() {
    let mut town = diamond(802, false);
    let dearer = ask_for(&town, BOB, DAVE, 7_000, None);
    town.must(BOB, dearer);
    let pay = order(&mut town, "too dear", 50_000_000, 6_999);
    let before = offered(&town);
    let error = town.must_fail(ALICE, pay);
    assert!(error.message.contains("fee_insufficient") && error.message.contains("7000"), "{error:?}");
    assert_eq!(offered(&town) - before, 1);
    // A hop that takes no HTLC that small is no way for it, and nobody asks twice.
    let coarse = ask_for(&town, BOB, DAVE, 1_000, Some(60_000_000));
    town.must(BOB, coarse);
    let pay = order(&mut town, "too small", 50_000_000, 100_000);
    let error = town.must_fail(ALICE, pay);
    assert!(error.message.contains("amount_below_minimum"), "{error:?}");
    assert_eq!(offered(&town) - before, 2);
    town.judge_quiet();
}

#[test]
fn a_hop_that_asks_for_more_each_time_is_gone_around() {
    for carol in [true, false] {
        let mut town = diamond(803, carol);
        let pay = order(&mut town, "greedy", 50_000_000, 1_000_000);
        let id = town.tell(ALICE, pay);
        let (before, mut seen, mut base) = (offered(&town), 0, 1_000);
        // Before an HTLC of hers is locked in, Bob asks for more than she gives.
        while town.turn() {
            if offered(&town) - before > seen {
                seen += 1;
                base += 500;
                let order = ask_for(&town, BOB, DAVE, base, None);
                town.tell(BOB, order);
                let input = town.seats[BOB].inbox.pop_back().expect("the order");
                assert!(matches!(input, Input::Command { .. }));
                town.step(BOB, vec![input]);
            }
        }
        let answer = town.answer(id);
        match carol {
            // Once on the map's terms, once on Bob's new ones, then over Carol.
            true => assert_eq!((paid(answer).amount_sent_msat.0, seen), (50_009_000, 3)),
            false => {
                let Some(Err(error)) = answer else { panic!("{answer:?}") };
                assert!(error.code == 204 && error.message.contains("fee_insufficient"), "{error:?}");
                assert_eq!(seen, 2);
            }
        }
        town.judge_quiet();
    }
}

#[test]
fn the_least_forwarded_is_never_above_the_most() {
    let mut town = diamond(804, false);
    let set = |town: &Town, min: Option<u64>, max: Option<u64>| Command::SetChannel {
        channel: Some(ChannelRef::Short(town.scid(BOB, DAVE))),
        fee_base_msat: None,
        fee_ppm: None,
        htlc_min_msat: min.map(Msat),
        htlc_max_msat: max.map(Msat),
    };
    let order = set(&town, Some(5_000), None);
    town.must(BOB, order);
    for (min, max) in [(None, Some(4_999)), (Some(7_000), Some(6_999))] {
        let order = set(&town, min, max);
        let error = town.must_fail(BOB, order);
        assert!(error.code == -32_602 && error.message.contains("htlcmin"), "{error:?}");
    }
    let order = set(&town, None, Some(5_000));
    town.must(BOB, order);
    let order = set(&town, Some(5_001), None);
    assert_eq!(town.must_fail(BOB, order).code, -32_602);
}
