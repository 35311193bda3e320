//! One invoice, several payers, and payers who give more than was asked (BOLT 4, "Basic Multi-Part Payments").
//!
//! In: Alice and Bob, who both pay Dave's invoice part by part. Out: Dave takes a set as soon as it is whole, whoever sent
//! its parts; never more than twice what he asked for; what comes later goes back. Whoever gave a part has the receipt. Parts
//! that disagree, that waited for too long or are near their expiry take their whole set back with them.
//! Read next: `by_hand`, `chand_protocol::node` (`receive`).

use chand_protocol::id::Preimage;
use chand_protocol::node::command::{Command, InvoiceRequest, Reply};
use chand_protocol::node::view;
use chand_protocol::units::Msat;
use chand_tests::duet::play::{preimage, request, Open};
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

#[test]
fn parts_that_disagree_on_the_total_all_go_back() {
    // BOLT 4 [4.mpp.11]: "SHOULD fail the entire HTLC set".
    let mut town = town(814);
    let bill = town.bill(DAVE, "two minds", 100_000_000);
    let before: Vec<u64> = (0..4).map(|seat| town.balance_msat(seat)).collect();
    part(&mut town, ALICE, &bill, (1, 60_000_000, 100_000_000));
    part(&mut town, CAROL, &bill, (1, 20_000_000, 100_000_000));
    part(&mut town, BOB, &bill, (1, 60_000_000, 100_000_001));
    for payer in [ALICE, BOB, CAROL] {
        assert_eq!(end(&mut town, payer, &bill, 1), Err(203), "{payer}");
    }
    assert_eq!((0..4).map(|seat| town.balance_msat(seat)).collect::<Vec<_>>(), before);
    // A guessed secret ends nobody's payment.
    part(&mut town, ALICE, &bill, (2, 60_000_000, 100_000_000));
    let mut guess = bill.clone();
    guess.payment_secret[31] ^= 1;
    part(&mut town, BOB, &guess, (2, 60_000_000, 99_000_000));
    assert_eq!(end(&mut town, BOB, &bill, 2), Err(203));
    assert_eq!(end(&mut town, ALICE, &bill, 2), Err(200), "hers still waits");
    // Nor does what came before: the invoice can be paid.
    part(&mut town, CAROL, &bill, (2, 40_000_000, 100_000_000));
    assert!(end(&mut town, ALICE, &bill, 2).is_ok() && end(&mut town, CAROL, &bill, 2).is_ok());
    assert_eq!(received(&mut town, &bill), Some(100_000_000));
    town.judge_quiet();
}

#[test]
fn a_set_that_is_whole_is_not_undone_by_another_total() {
    let mut town = town(815);
    let hold = Some(preimage(3).hash());
    let bill = town.invoice(DAVE, InvoiceRequest { hold, ..request("held", Some(100_000_000)) });
    part(&mut town, ALICE, &bill, (1, 60_000_000, 100_000_000));
    part(&mut town, BOB, &bill, (1, 40_000_000, 100_000_000));
    for (number, total) in [(1, 100_000_000), (2, 150_000_000)] {
        part(&mut town, CAROL, &bill, (number, 50_000_000, total));
        assert_eq!(end(&mut town, CAROL, &bill, number), Err(203), "{total}");
    }
    town.must(DAVE, Command::SettleInvoice { preimage: preimage(3) });
    assert!(end(&mut town, ALICE, &bill, 1).is_ok() && end(&mut town, BOB, &bill, 1).is_ok());
    town.judge_quiet();
}

#[test]
fn what_comes_after_its_set_timed_out_begins_another() {
    // BOLT 4 [4.mpp.12].
    let mut town = town(816);
    let bill = town.bill(DAVE, "slow", 100_000_000);
    part(&mut town, ALICE, &bill, (1, 60_000_000, 100_000_000));
    town.wait_ms(61_000);
    assert_eq!(end(&mut town, ALICE, &bill, 1), Err(204), "timed out meanwhile");
    // Together with the first it would be enough.
    part(&mut town, BOB, &bill, (1, 40_000_000, 100_000_000));
    assert_eq!(end(&mut town, BOB, &bill, 1), Err(200), "not whole");
    assert_eq!(received(&mut town, &bill), None);
    part(&mut town, CAROL, &bill, (1, 60_000_000, 100_000_000));
    assert!(end(&mut town, BOB, &bill, 1).is_ok() && end(&mut town, CAROL, &bill, 1).is_ok());
    assert_eq!(received(&mut town, &bill), Some(100_000_000));
    town.judge_quiet();
}

#[test]
fn one_part_near_its_expiry_takes_the_others_back_with_it() {
    // BOLT 2 [2.expiry.4].
    let mut town = town(817);
    let bill = town.bill(DAVE, "old and fresh", 100_000_000);
    part(&mut town, ALICE, &bill, (1, 60_000_000, 100_000_000));
    let expiry = town.between(DAVE, ALICE).ledger.htlcs.values().next().expect("an HTLC").cltv_expiry.0;
    while town.chain.height() + 14 < expiry {
        town.mine(1);
    }
    part(&mut town, BOB, &bill, (1, 20_000_000, 100_000_000));
    town.mine(1);
    assert_eq!(end(&mut town, ALICE, &bill, 1), Err(200), "thirteen blocks are left");
    town.mine(1);
    for payer in [ALICE, BOB] {
        assert_eq!(end(&mut town, payer, &bill, 1), Err(203), "{payer}");
    }
    assert_eq!(received(&mut town, &bill), None);
    // The invoice is as good as before.
    part(&mut town, CAROL, &bill, (1, 100_000_000, 100_000_000));
    assert!(end(&mut town, CAROL, &bill, 1).is_ok());
    town.judge_quiet();
}
