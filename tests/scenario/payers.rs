//! One invoice, several payers, and payers who give more than was asked (BOLT 4, "Basic Multi-Part Payments").
//!
//! In: Alice and Bob, who both pay Dave's invoice part by part. Out: Dave takes a set as soon as it is whole, whoever sent
//! its parts; never more than twice what he asked for; what comes later goes back. Whoever gave a part has the receipt.
//! Read next: `by_hand`, `chand_protocol::node` (`receive`).

use chand_protocol::id::Preimage;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::view;
use chand_protocol::units::Msat;
use chand_tests::duet::play::{request, Open};
use chand_tests::town::Town;

const ALICE: usize = 0;
const BOB: usize = 1;
const DAVE: usize = 2;
const CAROL: usize = 3;

fn town(seed: u64) -> Town {
    let mut town = Town::new(4, seed, |_, _| {});
    for payer in [ALICE, BOB, CAROL] {
        town.open(payer, DAVE, Open { sat: 1_000_000, push_msat: 300_000_000, ..Open::default() });
    }
    town
}

fn part(
    town: &mut Town,
    payer: usize,
    bill: &view::Invoice,
    (partid, msat, total): (u64, u64, u64),
) -> view::Pay {
    let order = Command::SendPart {
        route: town.route(&[payer, DAVE], msat, 40),
        payment_hash: bill.payment_hash,
        payment_secret: Some(bill.payment_secret),
        total_msat: Some(Msat(total)),
        partid,
        groupid: None,
        label: None,
        bolt11: None,
    };
    match town.must(payer, order) {
        Reply::Sent(pay) => pay,
        other => panic!("{other:?}"),
    }
}

/// What became of a part: its receipt, or the code of its failure.
fn end(town: &mut Town, payer: usize, bill: &view::Invoice, partid: u64) -> Result<Option<Preimage>, i32> {
    let order =
        Command::WaitSendPart { payment_hash: bill.payment_hash, partid, groupid: None, timeout_s: Some(1) };
    let id = town.tell(payer, order);
    town.wait_ms(2_000);
    match town.answer(id) {
        Some(Ok(Reply::Sent(pay))) => Ok(pay.preimage),
        Some(Err(error)) => Err(error.code),
        other => panic!("{other:?}"),
    }
}

fn received(town: &mut Town, bill: &view::Invoice) -> Option<u64> {
    let filter = chand_protocol::node::command::InvoiceFilter {
        payment_hash: Some(bill.payment_hash),
        ..Default::default()
    };
    let Reply::Invoices(list) = town.must(DAVE, Command::ListInvoices(filter)) else { panic!("no list") };
    list[0].amount_received_msat.map(|amount| amount.0)
}

#[test]
fn parts_of_two_payers_make_up_one_payment_once() {
    let mut town = town(811);
    let before: Vec<u64> = (0..3).map(|seat| town.balance_msat(seat)).collect();
    let bill = town.bill(DAVE, "shared", 100_000_000);
    part(&mut town, ALICE, &bill, (1, 60_000_000, 100_000_000));
    assert_eq!(end(&mut town, ALICE, &bill, 1), Err(200), "not whole yet");
    part(&mut town, BOB, &bill, (1, 70_000_000, 100_000_000));
    // Both have the receipt, and gave what they sent and no more.
    for payer in [ALICE, BOB] {
        let receipt = end(&mut town, payer, &bill, 1).expect("complete").expect("a receipt");
        assert_eq!(receipt.hash(), bill.payment_hash);
    }
    assert_eq!(received(&mut town, &bill), Some(130_000_000));
    let after: Vec<u64> = (0..3).map(|seat| town.balance_msat(seat)).collect();
    let moved: Vec<i64> = after.iter().zip(&before).map(|(a, b)| *a as i64 - *b as i64).collect();
    assert_eq!(moved, [-60_000_000, -70_000_000, 130_000_000]);
    // It is paid: who gave a part is told so, and what comes from others goes back.
    assert_eq!(part(&mut town, ALICE, &bill, (2, 40_000_000, 100_000_000)).status, "complete");
    let late = town.route(&[CAROL, DAVE], 100_000_000, 40);
    let refused = town.pay_along(late, &bill, CAROL);
    assert_eq!(refused.and_then(Result::err).map(|error| error.code), Some(203));
    assert_eq!((0..3).map(|seat| town.balance_msat(seat)).collect::<Vec<_>>(), after);
    town.judge_quiet();
}

#[test]
fn what_would_be_more_than_twice_the_amount_goes_back_alone() {
    let mut town = town(812);
    let bill = town.bill(DAVE, "generous", 100_000_000);
    let before = town.balance_msat(DAVE);
    // Twice as much is the most that a payee takes.
    part(&mut town, ALICE, &bill, (1, 199_000_000, 200_000_000));
    assert_eq!(end(&mut town, ALICE, &bill, 1), Err(200), "not whole yet");
    part(&mut town, BOB, &bill, (1, 1_000_001, 200_000_000));
    assert_eq!(end(&mut town, BOB, &bill, 1), Err(203));
    assert_eq!(end(&mut town, ALICE, &bill, 1), Err(200), "hers still waits");
    // Parts that speak of another total are of no payment that Dave waits for.
    part(&mut town, BOB, &bill, (2, 1_000_000, 199_999_999));
    assert_eq!(end(&mut town, BOB, &bill, 2), Err(203));
    part(&mut town, BOB, &bill, (3, 1_000_000, 200_000_000));
    assert!(end(&mut town, BOB, &bill, 3).is_ok() && end(&mut town, ALICE, &bill, 1).is_ok());
    assert_eq!(received(&mut town, &bill), Some(200_000_000));
    assert_eq!(town.balance_msat(DAVE) - before, 200_000_000);
    // A total above that is refused at its first part, and leaves nothing behind.
    let bill = town.bill(DAVE, "too generous", 100_000_000);
    part(&mut town, ALICE, &bill, (1, 100_000_000, 200_000_001));
    assert_eq!(end(&mut town, ALICE, &bill, 1), Err(203));
    part(&mut town, BOB, &bill, (1, 100_000_000, 100_000_000));
    assert!(end(&mut town, BOB, &bill, 1).is_ok());
    town.judge_quiet();
}

#[test]
fn an_invoice_without_amount_is_twice_what_its_payer_says_at_most() {
    let mut town = town(813);
    let bill = town.invoice(DAVE, request("any", None));
    part(&mut town, ALICE, &bill, (1, 4_000_000, 5_000_000));
    part(&mut town, BOB, &bill, (1, 5_000_000, 5_000_000));
    assert!(end(&mut town, BOB, &bill, 1).is_ok() && end(&mut town, ALICE, &bill, 1).is_ok());
    assert_eq!(received(&mut town, &bill), Some(9_000_000));
    town.judge_quiet();
}
