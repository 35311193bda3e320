//! Payments that find their way: over several hops, in several parts, around what does not work (BOLT 4, 7).
//!
//! In: nodes in a line or a diamond, the map of their channels. Out: who has what, in how many parts, after which tries;
//! and that a crash of the payer at any step neither loses nor pays twice. Read next: `chand_protocol::node::routes`.

use chand_protocol::gossip::graph::Direction;
use chand_protocol::node::command::{Command, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::effect::Input;
use chand_protocol::node::routes::{NoWay, Purpose};
use chand_protocol::node::{view, GossipConfig, NodeConfig};
use chand_protocol::units::Msat;
use chand_tests::duet::play::{preimage, request, Open};
use chand_tests::duet::{Answer, When};
use chand_tests::town::{Town, ALICE, BOB, CAROL, DAVE};

/// 0.001 BTC for each who sends a payment on, a day between two expiries.
fn seeds_terms(_: usize, config: &mut NodeConfig) {
    config.fee_base_msat = 100_000_000;
    config.fee_ppm = 0;
    config.cltv_delta_blocks = 144;
}

/// Carol asks for more than Bob.
fn carol_is_dear(seat: usize, config: &mut NodeConfig) {
    config.fee_base_msat = if seat == CAROL { 5_000 } else { 1_000 };
    config.fee_ppm = 0;
}

fn pay(bolt11: &str, limits: RouteLimits) -> Command {
    Command::Pay { bolt11: bolt11.into(), amount_msat: None, label: None, retry_for_s: 60, limits }
}

fn paid(answer: Option<Answer>) -> view::Pay {
    match answer {
        Some(Ok(Reply::Paid(pay))) => pay,
        other => panic!("{other:?}"),
    }
}

fn refused(answer: Option<Answer>) -> (i32, String) {
    match answer {
        Some(Err(error)) => (error.code, error.message),
        other => panic!("{other:?}"),
    }
}

fn side(sat: u64, push_msat: u64) -> Open {
    Open { sat, push_msat, ..Open::default() }
}

/// Alice's channels with Bob and Carol, theirs with Dave; what Bob can send to Dave is the test's choice.
fn diamond(seed: u64, change: impl Fn(usize, &mut NodeConfig), bob_has: u64) -> Town {
    let mut town = Town::new(4, seed, change);
    town.open(ALICE, BOB, side(1_000_000, 300_000_000));
    town.open(ALICE, CAROL, side(1_000_000, 300_000_000));
    town.open(BOB, DAVE, side(1_000_000, 1_000_000_000 - 20_000_000 - bob_has));
    town.open(CAROL, DAVE, side(1_000_000, 300_000_000));
    town
}

#[test]
fn the_seeds_payment_finds_its_way() {
    let mut town = Town::line(4, 21, seeds_terms);
    let before: Vec<u64> = (0..4).map(|seat| town.balance_msat(seat)).collect();
    let bill = town.bill(DAVE, "0.05", 5_000_000_000);
    let limits = RouteLimits { max_fee: Some(Msat(200_000_000)), ..RouteLimits::default() };
    let done = paid(town.ask(ALICE, pay(&bill.bolt11, limits)));
    assert_eq!((done.amount_msat.0, done.amount_sent_msat.0, done.parts), (5_000_000_000, 5_200_000_000, 1));
    let after = (0..4).map(|seat| town.balance_msat(seat));
    let moved: Vec<i64> = after.zip(before).map(|(a, b)| a as i64 - b as i64).collect();
    assert_eq!(moved, [-5_200_000_000, 100_000_000, 100_000_000, 5_000_000_000]);
    town.judge_quiet();
}

#[test]
fn no_route_says_what_stood_in_the_way_and_moves_nothing() {
    let mut town = Town::line(4, 22, seeds_terms);
    let bill = town.bill(DAVE, "dear", 5_000_000_000);
    let one = |limits| pay(&bill.bolt11, limits);
    let fee = RouteLimits { max_fee: Some(Msat(199_999_999)), ..RouteLimits::default() };
    let blocks = RouteLimits { max_blocks: Some(200), ..RouteLimits::default() };
    let scid = town.scid(CAROL, DAVE);
    let way = Direction::between(&town.seats[CAROL].id, &town.seats[DAVE].id);
    let closed = RouteLimits { not_channels: vec![(scid, way)], ..RouteLimits::default() };
    let around = RouteLimits { not_nodes: vec![town.seats[BOB].id], ..RouteLimits::default() };
    for (limits, word) in [(fee, "fee"), (blocks, "block"), (closed, "exclude"), (around, "exclude")] {
        let (code, words) = refused(town.ask(ALICE, one(limits)));
        assert_eq!(code, 205, "{words}");
        assert!(words.contains(word), "{word}: {words}");
        assert!(words.contains("No money moved"), "{words}");
    }
    let much = town.bill(DAVE, "much", 9_000_000_000);
    let (code, words) = refused(town.ask(ALICE, pay(&much.bolt11, RouteLimits::default())));
    assert_eq!(code, 205, "{words}");
    assert!((0..4).all(|seat| town.forwards(seat).is_empty()));
    // What failed may be paid later.
    paid(town.ask(ALICE, one(RouteLimits::default())));
    town.judge_quiet();
}

#[test]
fn what_fits_no_single_way_goes_in_parts() {
    let mut town = diamond(23, carol_is_dear, 600_000_000);
    let bill = town.bill(DAVE, "parts", 900_000_000);
    let before = town.balance_msat(DAVE);
    let done = paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
    // BOLT 4 [4.mpp.1, 4.mpp.4, 4.mpp.5].
    assert!(done.parts >= 2 && done.amount_msat.0 == 900_000_000, "{done:?}");
    assert_eq!(town.balance_msat(DAVE) - before, 900_000_000);
    let rows = [BOB, CAROL].map(|seat| town.forwards(seat)).concat();
    let settled: Vec<_> = rows.iter().filter(|row| row.status == "settled").collect();
    assert_eq!(settled.len(), done.parts as usize);
    let earned: u64 = settled.iter().map(|row| row.in_msat.0 - row.out_msat.0).sum();
    assert_eq!(done.amount_sent_msat.0, 900_000_000 + earned, "a fee for each part");
    // The same invoice again: the same answer, and no money moves.
    let again = paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
    assert_eq!((again.preimage, again.parts), (done.preimage, done.parts));
    assert_eq!(town.balance_msat(DAVE) - before, 900_000_000);
    town.judge_quiet();
}

#[test]
fn a_way_without_room_is_left_and_remembered() {
    let mut town = diamond(24, carol_is_dear, 30_000_000);
    let pay_200 = |town: &mut Town, label: &str| {
        let bill = town.bill(DAVE, label, 200_000_000);
        paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())))
    };
    // Bob is cheaper, and nobody knows that his channel is empty.
    let done = pay_200(&mut town, "first");
    assert_eq!((done.amount_sent_msat.0, done.parts), (200_005_000, 1));
    let lessons = town.lessons;
    assert!(lessons >= 2, "one way failed, one worked");
    let done = pay_200(&mut town, "second");
    assert_eq!((done.amount_sent_msat.0, town.lessons), (200_005_000, lessons + 1), "Bob is not asked again");
    town.judge_quiet();
}

#[test]
fn a_payee_who_refuses_is_not_asked_twice() {
    let mut town = diamond(25, carol_is_dear, 600_000_000);
    let bill = town.bill(DAVE, "gone", 50_000_000);
    town.must(DAVE, Command::DelInvoice { label: "gone".into(), status: "unpaid".into() });
    let (code, words) = refused(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
    assert_eq!(code, 203, "{words}");
    assert!(words.contains("incorrect_or_unknown_payment_details"), "{words}");
    let sent: usize = [BOB, CAROL].map(|seat| town.forwards(seat).len()).iter().sum();
    assert_eq!(sent, 1);
    town.judge_quiet();
}

#[test]
fn parts_that_came_back_are_sent_another_way_or_the_payment_fails_whole() {
    // Bob has too little for his part, Carol too little for both: nothing may stay behind.
    let mut town = diamond(26, carol_is_dear, 100_000_000);
    let before: Vec<u64> = (0..4).map(|seat| town.balance_msat(seat)).collect();
    let bill = town.bill(DAVE, "too much", 900_000_000);
    let id = town.tell(ALICE, pay(&bill.bolt11, RouteLimits::default()));
    town.run();
    // What did arrive waits a minute for the rest.
    town.wait_ms(70_000);
    let (code, words) = refused(town.answer(id));
    assert!(code == 204 || code == 205 || code == 210, "{code}: {words}");
    let after: Vec<u64> = (0..4).map(|seat| town.balance_msat(seat)).collect();
    assert_eq!(before, after);
    town.judge_quiet();
}

#[test]
fn a_peer_who_is_away_is_gone_around() {
    let mut town = diamond(27, carol_is_dear, 600_000_000);
    town.open(ALICE, DAVE, side(1_000_000, 0));
    town.silence(BOB);
    town.part(ALICE, DAVE, "the link was cut");
    town.silent.insert(ALICE);
    let bill = town.bill(DAVE, "around", 50_000_000);
    let done = paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
    assert_eq!(done.amount_sent_msat.0, 50_005_000, "over Carol");
}

#[test]
fn an_answer_to_an_earlier_try_is_not_taken_for_a_later_one() {
    let mut town = Town::line(4, 30, seeds_terms);
    let bill = town.bill(DAVE, "twice", 1_000_000_000);
    let fee = RouteLimits { max_fee: Some(Msat(1)), ..RouteLimits::default() };
    assert_eq!(refused(town.ask(ALICE, pay(&bill.bolt11, fee))).0, 205);
    let id = town.tell(ALICE, pay(&bill.bolt11, RouteLimits::default()));
    assert!(town.turn());
    let late = Input::Routes {
        purpose: Purpose::Payment(bill.payment_hash, 1),
        result: Err(NoWay { why: "of long ago".into(), later: false, own: false }),
    };
    town.seats[ALICE].inbox.push_front(late);
    town.run();
    paid(town.answer(id));
    town.judge_quiet();
}

#[test]
fn getroute_gives_what_sendpay_takes() {
    let mut town = Town::line(4, 28, seeds_terms);
    let bill = town.bill(DAVE, "given", 1_000_000_000);
    let order = Command::GetRoute {
        destination: town.seats[DAVE].id,
        amount_msat: Msat(1_000_000_000),
        final_cltv_blocks: 40,
        limits: RouteLimits::default(),
    };
    let Reply::Route(route) = town.must(ALICE, order) else { panic!("no route") };
    assert_eq!(route, town.route(&[ALICE, BOB, CAROL, DAVE], 1_000_000_000, 40));
    assert!(matches!(town.pay_along(route, &bill, ALICE), Some(Ok(Reply::Sent(_)))));
    town.judge_quiet();
}

/// The payer dies at its step of this number after the order; what it owes and owns is told at the end.
fn dies_at(seed: u64, steps_later: u64, when: When) -> bool {
    let mut town = diamond(seed, carol_is_dear, 600_000_000);
    let before: Vec<u64> = (0..4).map(|seat| town.balance_msat(seat)).collect();
    let hold = Some(preimage(9).hash());
    let bill = town.invoice(DAVE, InvoiceRequest { hold, ..request("held", Some(900_000_000)) });
    let at = town.seats[ALICE].steps + steps_later;
    town.crashes.push((ALICE, at, when));
    let first = town.tell(ALICE, pay(&bill.bolt11, RouteLimits::default()));
    town.run();
    town.settle();
    town.wait_ms(5_000);
    let settled = town.ask(DAVE, Command::SettleInvoice { preimage: preimage(9) });
    town.settle();
    // What did arrive alone goes back after a minute.
    town.wait_ms(70_000);
    town.settle();
    let _ = town.answer(first);
    let list = Command::ListPays { payment_hash: Some(bill.payment_hash), bolt11: None };
    // She may die of this very question.
    let answer = town.ask(ALICE, list.clone()).or_else(|| town.ask(ALICE, list));
    let Some(Ok(Reply::Pays(pays))) = answer else { panic!("{answer:?}") };
    let status = pays.first().map_or("none", |pay| pay.status);
    let gained = town.balance_msat(DAVE) - before[DAVE];
    match settled {
        Some(Ok(_)) => assert_eq!((status, gained), ("complete", 900_000_000)),
        _ => {
            assert!(matches!(status, "none" | "failed"), "{status} at step {steps_later}");
            assert_eq!(gained, 0, "at step {steps_later}");
            // It failed for good: it may be paid once more, and is paid once.
            let id = town.tell(ALICE, pay(&bill.bolt11, RouteLimits::default()));
            town.run();
            town.must(DAVE, Command::SettleInvoice { preimage: preimage(9) });
            assert!(paid(town.answer(id)).parts >= 2);
            assert_eq!(town.balance_msat(DAVE) - before[DAVE], 900_000_000);
        }
    }
    town.judge_quiet();
    town.crashes.is_empty()
}

#[test]
fn a_payer_who_dies_at_any_step_pays_once_or_not_at_all() {
    for when in [When::BeforeCommit, When::BeforeRelease, When::AfterRelease] {
        let mut reached = 0;
        for step in 1..40 {
            if !dies_at(100 + step, step, when) {
                break;
            }
            reached = step;
        }
        assert!(reached >= 8, "only {reached} steps");
    }
}

#[test]
fn a_payee_behind_a_private_channel_names_the_way_in_its_invoice() {
    let mut town = Town::line(4, 29, |seat, config| {
        seeds_terms(seat, config);
        config.gossip = Some(GossipConfig::default());
    });
    town.mine(6);
    let scid = town.scid(CAROL, DAVE);
    town.private.insert(scid);
    let plain = InvoiceRequest { expose_private: Some(false), ..request("no hint", Some(1_000_000_000)) };
    let unnamed = town.invoice(DAVE, plain);
    let (code, words) = refused(town.ask(ALICE, pay(&unnamed.bolt11, RouteLimits::default())));
    assert_eq!(code, 205, "{words}");
    let bill = town.bill(DAVE, "hint", 1_000_000_000);
    let done = paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
    assert_eq!((done.amount_sent_msat.0, done.parts), (1_200_000_000, 1));
    town.judge_quiet();
}
