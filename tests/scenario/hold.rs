//! Hold invoices: money waits at the payee until its user decides; restarts and blocks meanwhile.

use crate::onchain::{alone, force_close};
use chand_protocol::node::command::{Command, InvoiceRequest, Reply};
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{other, Duet, ALICE, BOB};

fn status(duet: &mut Duet, seat: usize, number: u64) -> String {
    duet.invoice_status(seat, preimage(number).hash()).1.expect("a hold invoice")
}

#[test]
fn accepted_then_settled_or_cancelled_each_over_restarts() {
    for settle in [true, false] {
        for restarted in [None, Some(ALICE), Some(BOB)] {
            for payer in [ALICE, BOB] {
                let mut duet = Duet::opened(30, Open::default());
                let payee = other(payer);
                let before = duet.balance_msat(payer);
                let order = duet.pay_held(payer, 1, 30_000_000);
                assert_eq!(status(&mut duet, payee, 1), "accepted");
                assert!(duet.answer(order).is_none());
                assert_eq!(duet.balance_msat(payer), before, "still the payer's until settled");
                duet.judge_agreement();
                if let Some(seat) = restarted {
                    duet.restart(seat);
                    duet.settle();
                    assert_eq!(status(&mut duet, payee, 1), "accepted");
                    duet.judge_agreement();
                }
                let command = if settle {
                    Command::SettleInvoice { preimage: preimage(1) }
                } else {
                    Command::CancelInvoice { payment_hash: preimage(1).hash() }
                };
                duet.must(payee, command);
                let moved = if settle { 30_000_000 } else { 0 };
                assert_eq!(duet.balance_msat(payer), before - moved);
                assert_eq!(status(&mut duet, payee, 1), if settle { "settled" } else { "cancelled" });
                let paid = duet.payment(payer, preimage(1).hash()).expect("a payment");
                assert_eq!(paid.status, if settle { "complete" } else { "failed" });
                if restarted != Some(payer) {
                    assert_eq!(matches!(duet.answer(order), Some(Ok(Reply::Paid(_)))), settle);
                }
                duet.judge_agreement();
                duet.close(payee);
            }
        }
    }
}

#[test]
fn settled_while_the_payer_is_away_it_is_told_when_it_comes_back() {
    let mut duet = Duet::opened(31, Open::default());
    let order = duet.pay_held(ALICE, 1, 30_000_000);
    duet.reachable = false;
    duet.cut(None);
    duet.run();
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    duet.restart(BOB);
    assert_eq!(status(&mut duet, BOB, 1), "settled");
    duet.reachable = true;
    duet.settle();
    assert!(matches!(duet.answer(order), Some(Ok(Reply::Paid(_)))));
    assert_eq!(duet.balance_msat(BOB), 430_000_000);
    duet.judge_agreement();
}

#[test]
fn a_secret_that_fits_no_invoice_or_no_money_settles_nothing() {
    let mut duet = Duet::opened(32, Open::default());
    assert_eq!(duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(9) }).code, 905);
    duet.hold_invoice(BOB, 1, 1_000_000);
    assert_eq!(duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(1) }).code, 906);
    duet.must(BOB, Command::CancelInvoice { payment_hash: preimage(1).hash() });
    assert_eq!(duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(1) }).code, 906);
    assert_eq!(duet.balance_msat(BOB), 400_000_000);
}

#[test]
fn a_held_payment_whose_expiry_comes_near_goes_back() {
    // BOLT 2 [2.expiry.4].
    let mut duet = Duet::opened(33, Open::default());
    let order = duet.pay_held(ALICE, 1, 30_000_000);
    let expiry = duet.channel(BOB).ledger.htlcs.values().next().expect("an HTLC").cltv_expiry.0;
    // Settled with twelve left, it would close the channel there and then.
    while duet.chain.height() + 13 < expiry {
        duet.mine(1);
        assert_eq!(status(&mut duet, BOB, 1), "accepted");
    }
    duet.mine(1);
    assert_eq!(status(&mut duet, BOB, 1), "cancelled");
    assert!(matches!(duet.answer(order), Some(Err(_))));
    assert_eq!(duet.balance_msat(ALICE), 600_000_000);
    // The secret stays where it is.
    let refused = duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert!(refused.code == 906 && refused.message.contains("went back"), "{}", refused.message);
    assert_eq!(duet.balance_msat(ALICE), 600_000_000);
    duet.judge_agreement();
}

#[test]
fn an_invoice_that_leaves_no_time_to_act_on_chain_is_not_made() {
    let mut duet = Duet::opened(35, Open::default());
    for (blocks, made) in [(12, false), (13, true)] {
        let hold = Some(preimage(blocks.into()).hash());
        let wish =
            InvoiceRequest { hold, cltv_blocks: Some(blocks), ..request(&format!("{blocks}"), Some(1_000)) };
        match made {
            true => drop(duet.must(BOB, Command::Invoice(wish))),
            false => assert_eq!(duet.must_fail(BOB, Command::Invoice(wish)).code, -32602),
        }
    }
}

#[test]
fn an_expired_hold_invoice_can_be_cancelled_and_money_that_came_in_time_settled() {
    let mut duet = Duet::opened(36, Open::default());
    let mut bills = Vec::new();
    for number in 1..=4 {
        let hold = Some(preimage(number).hash());
        let wish =
            InvoiceRequest { hold, expiry_s: Some(60), ..request(&format!("{number}"), Some(1_000_000)) };
        bills.push(duet.invoice(BOB, wish).bolt11);
    }
    // Two are paid in time.
    let orders: Vec<_> = bills[..2].iter().map(|bolt11| duet.tell(ALICE, pay(bolt11, None))).collect();
    duet.wait_ms(61_000);
    for (number, way) in [(1, "accepted"), (2, "accepted"), (3, "open"), (4, "open")] {
        assert_eq!(status(&mut duet, BOB, number), way);
    }
    duet.restart(BOB);
    duet.settle();
    let settle = |number| Command::SettleInvoice { preimage: preimage(number) };
    let cancel = |number| Command::CancelInvoice { payment_hash: preimage(number).hash() };
    duet.must(BOB, settle(1));
    duet.must(BOB, cancel(2));
    assert!(matches!(duet.answer(orders[0]), Some(Ok(Reply::Paid(_)))));
    assert!(matches!(duet.answer(orders[1]), Some(Err(_))));
    // Of the others nothing came.
    let refused = duet.must_fail(BOB, settle(3));
    assert!(refused.code == 906 && refused.message.contains("no money has come"), "{}", refused.message);
    duet.must(BOB, cancel(3));
    // Cancelled twice is cancelled; settled is settled.
    duet.must(BOB, cancel(3));
    assert_eq!(duet.must_fail(BOB, cancel(1)).code, 906);
    duet.must(BOB, settle(1));
    for (number, way) in [(1, "settled"), (2, "cancelled"), (3, "cancelled"), (4, "open")] {
        assert_eq!(status(&mut duet, BOB, number), way);
    }
    assert_eq!(duet.balance_msat(BOB), 401_000_000);
    duet.judge_agreement();
}

#[test]
fn snapshots_show_what_was_held_and_how_it_ended() {
    let mut duet = Duet::opened(34, Open::default());
    for number in 0..3 {
        duet.pay_held(ALICE, number, 1_000_000 + number);
        duet.pay_held(BOB, 10 + number, 2_000_000 + number);
    }
    duet.judge_agreement();
    let list = duet.snapshots(ALICE);
    assert_eq!(list[0].htlcs.len(), 6);
    assert_eq!(list[0].our_msat.0, 600_000_000 - 3_000_003);
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    duet.must(ALICE, Command::CancelInvoice { payment_hash: preimage(11).hash() });
    duet.judge_agreement();
    let later = duet.snapshots(ALICE);
    assert_eq!(later[0].htlcs.len(), 4);
    assert_eq!(later[0].our_msat.0, 600_000_000 - 3_000_003);
    // The past does not change, restart or not.
    let same = |new: &[chand_protocol::node::view::Snapshot]| {
        let old = new.iter().find(|s| s.number == list[0].number).expect("kept");
        let amounts = |s: &chand_protocol::node::view::Snapshot| {
            let mut all: Vec<_> = s.htlcs.iter().map(|h| (h.offered_by, h.amount_msat)).collect();
            all.sort();
            all
        };
        assert_eq!((amounts(old), old.our_msat), (amounts(&list[0]), list[0].our_msat));
        assert_eq!(old.status, "revoked");
    };
    same(&later);
    duet.restart(ALICE);
    duet.settle();
    let reborn = duet.snapshots(ALICE);
    same(&reborn);
    assert_eq!(reborn.len(), later.len());
}

#[test]
fn who_waits_is_told_when_an_invoice_is_deleted_or_cancelled() {
    let mut duet = Duet::opened(38, Open::default());
    duet.invoice(BOB, request("tea", Some(1_000)));
    duet.hold_invoice(BOB, 1, 1_000);
    let wait = |label: &str| Command::WaitInvoice { label: label.into() };
    let [tea, held] = ["tea", "hold-1"].map(|label| duet.tell(BOB, wait(label)));
    duet.run();
    assert!(duet.answer(tea).is_none() && duet.answer(held).is_none());
    duet.must(BOB, Command::DelInvoice { label: "tea".into(), status: "unpaid".into() });
    duet.must(BOB, Command::CancelInvoice { payment_hash: preimage(1).hash() });
    for (id, code, word) in [(tea, -1, "deleted"), (held, 903, "cancelled")] {
        let Some(Err(told)) = duet.answer(id) else { panic!("{word}: still waits") };
        assert!(told.code == code && told.message.contains(word), "{told:?}");
    }
    assert!(duet.must_fail(BOB, wait("hold-1")).message.contains("cancelled"));
}

/// Dust has no output on any commitment: once the channel closes, its payer has it.
#[test]
fn a_held_payment_too_small_for_the_chain_ends_with_its_channel() {
    for closer in [ALICE, BOB] {
        let mut duet = Duet::opened(39, Open::default());
        let order = duet.pay_held(ALICE, 1, 200_000);
        assert_eq!(status(&mut duet, BOB, 1), "accepted");
        let waits = duet.tell(BOB, Command::WaitInvoice { label: "hold-1".into() });
        alone(&mut duet);
        force_close(&mut duet, closer);
        duet.mine(1);
        assert_eq!(status(&mut duet, BOB, 1), "cancelled", "closer {closer}");
        assert!(matches!(duet.answer(waits), Some(Err(told)) if told.code == 903));
        duet.restart(BOB);
        duet.mine(10);
        assert_eq!(status(&mut duet, BOB, 1), "cancelled");
        assert!(matches!(duet.answer(order), Some(Err(_))), "the payer has it back");
        assert_eq!(duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(1) }).code, 906);
    }
}
