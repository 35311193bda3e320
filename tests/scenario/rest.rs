//! No room now: a payment rests and asks again, not too often, until there is room or its time is over.
//!
//! In: many payers of one channel that takes little at a time; a way that is full. Out: all are paid in the end, or told what
//! stood in the way; and how often anybody asked. Read next: `routes`, `chand_protocol::node` (`rest`).

use chand_protocol::id::Side;
use chand_protocol::node::command::{Command, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::{view, NodeConfig};
use chand_tests::duet::play::{preimage, request, Open};
use chand_tests::duet::Answer;
use chand_tests::town::{Town, ALICE, BOB, CAROL, DAVE};

fn pay(bolt11: &str, retry_for_s: u64) -> Command {
    let limits = RouteLimits::default();
    Command::Pay { bolt11: bolt11.into(), amount_msat: None, label: None, retry_for_s, limits }
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

/// Dave takes no more than a tenth of a channel at a time.
fn narrow(seat: usize, config: &mut NodeConfig) {
    (config.fee_base_msat, config.fee_ppm) = (1_000, 0);
    config.max_in_flight_percent = if seat == DAVE { 10 } else { 100 };
}

/// HTLCs that a node ever offered.
fn offered(town: &Town, seat: usize) -> u64 {
    town.seats[seat].node.channels().map(|c| c.ledger.next_id(Side::Local)).sum()
}

#[test]
fn many_payers_of_one_narrow_channel_are_all_paid() {
    let payers = [ALICE, CAROL, 4, 5, 6];
    let mut town = Town::new(7, 860, narrow);
    for payer in payers {
        town.open(payer, BOB, side(1_000_000, 100_000_000));
    }
    town.open(BOB, DAVE, side(2_000_000, 100_000_000));
    // 200,000 sat at a time, and each wants 150,000.
    let orders: Vec<_> = payers
        .iter()
        .map(|payer| {
            let bill = town.bill(DAVE, &format!("{payer}"), 150_000_000);
            town.tell(*payer, pay(&bill.bolt11, 60))
        })
        .collect();
    town.run();
    town.wait_ms(59_000);
    for (payer, id) in payers.into_iter().zip(orders) {
        let answer = town.answer(id);
        assert!(matches!(answer, Some(Ok(Reply::Paid(_)))), "{payer}: {answer:?}");
        assert!(offered(&town, payer) <= 12, "{payer} tried {} times", offered(&town, payer));
    }
    town.judge_quiet();
}

/// Alice's only channel leads to Bob; hers and his are as wide as the test says.
fn line(seed: u64, bob_has: u64) -> Town {
    let mut town = Town::new(4, seed, |_, config| (config.fee_base_msat, config.fee_ppm) = (1_000, 0));
    town.open(ALICE, BOB, side(1_000_000, 300_000_000));
    town.open(BOB, DAVE, side(1_000_000, 980_000_000 - bob_has));
    town
}

fn hold(town: &mut Town, payer: usize, number: u64, msat: u64) -> view::Invoice {
    let hold = Some(preimage(number).hash());
    let held = town.invoice(DAVE, InvoiceRequest { hold, ..request(&format!("held {number}"), Some(msat)) });
    town.tell(payer, pay(&held.bolt11, 60));
    town.run();
    held
}

#[test]
fn a_channel_of_anothers_that_is_full_is_tried_until_it_has_room() {
    let mut town = line(861, 500_000_000);
    town.open(CAROL, BOB, side(1_000_000, 100_000_000));
    // Carol's payment fills it, and comes back later.
    hold(&mut town, CAROL, 1, 400_000_000);
    let bill = town.bill(DAVE, "patience", 200_000_000);
    let id = town.tell(ALICE, pay(&bill.bolt11, 60));
    town.wait_ms(20_000);
    assert!(town.answer(id).is_none(), "it is tried again");
    town.must(DAVE, Command::CancelInvoice { payment_hash: preimage(1).hash() });
    town.wait_ms(10_000);
    assert!(matches!(town.answer(id), Some(Ok(Reply::Paid(_)))));
    town.judge_quiet();
}

#[test]
fn in_vain_it_ends_in_time_with_what_stood_in_the_way() {
    let mut town = line(862, 100_000_000);
    let before: Vec<u64> = [ALICE, BOB, DAVE].map(|seat| town.balance_msat(seat)).into();
    let bill = town.bill(DAVE, "in vain", 200_000_000);
    let (asked, sent) = (town.questions, offered(&town, ALICE));
    let id = town.tell(ALICE, pay(&bill.bolt11, 60));
    town.wait_ms(59_000);
    assert!(town.answer(id).is_none(), "not before its time");
    town.wait_ms(2_000);
    let (code, words) = refused(town.answer(id));
    assert_eq!(code, 210, "{words}");
    for part in ["hop 1 of 2", "temporary_channel_failure", "Nothing was paid"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let (asked, sent) = (town.questions - asked, offered(&town, ALICE) - sent);
    assert!((4..=30).contains(&asked) && (4..=15).contains(&sent), "{asked} questions, {sent} HTLCs");
    assert_eq!(before, [ALICE, BOB, DAVE].map(|seat| town.balance_msat(seat)));
    // Without time to wait it ends at once.
    let bill = town.bill(DAVE, "at once", 200_000_000);
    let (code, words) = refused(town.ask(ALICE, pay(&bill.bolt11, 0)));
    assert!(code == 204 || code == 205, "{code}: {words}");
    town.judge_quiet();
}

/// What Alice does besides is no reason to ask Bob again.
#[test]
fn other_payments_do_not_hurry_one_that_waits_for_anothers_room() {
    const OTHERS: u64 = 50;
    let mut town = line(865, 100_000_000);
    let bill = town.bill(DAVE, "slow", 200_000_000);
    let (asked, sent) = (town.questions, offered(&town, ALICE));
    let id = town.tell(ALICE, pay(&bill.bolt11, 60));
    for number in 0..OTHERS {
        let small = town.bill(BOB, &format!("small {number}"), 1_000_000);
        assert!(matches!(town.ask(ALICE, pay(&small.bolt11, 60)), Some(Ok(Reply::Paid(_)))));
        town.wait_ms(1_000);
    }
    town.wait_ms(11_000);
    assert_eq!(refused(town.answer(id)).0, 210);
    let (asked, sent) = (town.questions - asked, offered(&town, ALICE) - sent - OTHERS);
    assert!(asked <= 30 && sent <= 15, "{asked} questions, {sent} HTLCs");
    town.judge_quiet();
}

#[test]
fn room_of_our_own_that_comes_back_is_taken_soon() {
    // Two hops, and Alice's channel is full of what Dave holds; Carol is a way to nowhere.
    let mut town = line(863, 900_000_000);
    town.open(ALICE, CAROL, side(1_000_000, 300_000_000));
    hold(&mut town, ALICE, 2, 600_000_000);
    let bill = town.bill(DAVE, "own", 200_000_000);
    let asked = town.questions;
    let id = town.tell(ALICE, pay(&bill.bolt11, 600));
    town.wait_ms(300_000);
    assert!(town.answer(id).is_none(), "what is held may come back");
    assert!(town.questions - asked <= 50, "{} questions", town.questions - asked);
    town.must(DAVE, Command::CancelInvoice { payment_hash: preimage(2).hash() });
    town.wait_ms(1_100);
    assert!(matches!(town.answer(id), Some(Ok(Reply::Paid(_)))), "not after the next pause");
    town.judge_quiet();
    // What no waiting mends is refused at once.
    let bill = town.bill(DAVE, "too much", 990_000_000);
    assert_eq!(refused(town.ask(ALICE, pay(&bill.bolt11, 600))).0, 205);
}

#[test]
fn a_payer_who_dies_while_a_payment_rests_has_sent_nothing() {
    let mut town = line(864, 100_000_000);
    let bill = town.bill(DAVE, "died", 200_000_000);
    town.tell(ALICE, pay(&bill.bolt11, 60));
    town.wait_ms(3_000);
    town.restart(ALICE);
    town.settle();
    town.wait_ms(70_000);
    let list = Command::ListPays { payment_hash: Some(bill.payment_hash), bolt11: None };
    let Reply::Pays(pays) = town.must(ALICE, list) else { panic!("no list") };
    assert_eq!(pays.first().map(|pay| pay.status), Some("failed"));
    town.judge_quiet();
}

/// What was learned of both ways is out of date, and neither carries all of it.
#[test]
fn after_a_rest_a_payment_goes_on_from_what_it_met_itself() {
    let mut town = Town::new(4, 866, |_, config| (config.fee_base_msat, config.fee_ppm) = (1_000, 0));
    for between in [BOB, CAROL] {
        town.open(ALICE, between, side(3_000_000, 1_000_000_000));
        town.open(between, DAVE, side(3_000_000, 1_500_000_000));
    }
    for round in 0..6 {
        for (payer, payee, msat) in [(ALICE, DAVE, 2_400_000_000), (DAVE, ALICE, 2_390_000_000)] {
            let (bill, sent) = (town.bill(payee, &format!("{round}"), msat), offered(&town, payer));
            let id = town.tell(payer, pay(&bill.bolt11, 60));
            town.run();
            town.wait_ms(20_000);
            let answer = town.answer(id);
            let sent = offered(&town, payer) - sent;
            assert!(
                matches!(answer, Some(Ok(Reply::Paid(_)))),
                "{payer} in round {round}, {sent} HTLCs: {answer:?}"
            );
        }
    }
    town.judge_quiet();
}
