//! HTLCs that must wait or go back though nobody did wrong, and orders that are refused before they do harm.
//!
//! Read next: `limits`, `faults2`.

use chand_protocol::chain::Network;
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest};
use chand_protocol::units::Feerate;
use chand_tests::duet::play::{pay, request, Open};
use chand_tests::duet::{Duet, ALICE, BOB};

/// Where the time of blocks means something.
fn on_signet(seed: u64) -> Duet {
    let mut duet = Duet::with(seed, |_, config| {
        config.network = Network::Signet;
        config.funding_confirms = 1;
    });
    duet.connect();
    duet.open(Open::default());
    duet
}

#[test]
fn an_htlc_waits_while_the_newest_block_is_old_and_is_taken_when_one_comes() {
    for restarted in [false, true] {
        let mut duet = on_signet(300);
        duet.pay(ALICE, "with a fresh block", 1_000_000);
        let before = duet.balance_msat(BOB);
        // The backend says that it has all blocks, and tells of none for hours.
        duet.wait_ms(14 * 60_000);
        duet.pay(ALICE, "still fresh", 1_000_000);
        duet.wait_ms(181 * 60_000);
        // One with eighteen blocks would go back at once: as many may have been made meanwhile.
        let wish = InvoiceRequest { cltv_blocks: Some(100), ..request("old tip", Some(5_000_000)) };
        let invoice = duet.invoice(BOB, wish);
        let order = duet.tell(ALICE, pay(&invoice.bolt11, None));
        duet.run();
        if restarted {
            duet.restart(BOB);
        }
        duet.wait_ms(60_000);
        duet.settle();
        assert!(duet.answer(order).is_none(), "decided against an old block");
        assert_eq!(duet.channel(BOB).ledger.htlcs.len(), 1, "it is locked in and waits");
        assert_eq!(duet.balance_msat(BOB), before + 1_000_000);

        duet.mine(1);
        let answer = duet.answer(order).unwrap_or_else(|| panic!("not looked at again"));
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(duet.balance_msat(BOB), before + 6_000_000);
        duet.judge_agreement();
        duet.judge_peace();
    }
}

#[test]
fn an_htlc_that_waits_for_a_block_pays_nothing_once_its_channel_is_closed_by_force() {
    let mut duet = on_signet(301);
    duet.wait_ms(181 * 60_000);
    let wish = InvoiceRequest { cltv_blocks: Some(100), ..request("closed meanwhile", Some(5_000_000)) };
    let invoice = duet.invoice(BOB, wish);
    duet.tell(ALICE, pay(&invoice.bolt11, None));
    duet.run();
    assert_eq!(duet.channel(BOB).ledger.htlcs.len(), 1, "it is locked in and waits");
    duet.expected_errors = vec!["peer reports an error", "peer closed by force", "not built yet", "refused"];
    duet.check_every = 0;
    let channel = ChannelRef::Id(duet.channel_id());
    duet.must(BOB, Command::DevFail { channel });
    duet.mine(1);
    duet.settle();
    let (status, _) = duet.invoice_status(BOB, invoice.payment_hash);
    assert_eq!(status, "unpaid", "the HTLC is on chain, and its secret was not used there");
}

#[test]
fn dust_that_comes_while_the_fee_rises_goes_back_when_too_much_hangs_on_it() {
    for raised in [false, true] {
        let mut duet = Duet::opened(
            310,
            Open { anchors: false, feerate: 253, push_msat: 400_000_000, ..Open::default() },
        );
        // Outputs of their own at 253, dust at 3,000: 60,000 sat in all.
        for number in 0..60 {
            duet.pay_held(BOB, number, 1_000_000);
        }
        let before = duet.balance_msat(ALICE);
        let invoice =
            duet.invoice(ALICE, InvoiceRequest { cltv_blocks: None, ..request("last", Some(1_000_000)) });
        let channel = ChannelRef::Id(duet.channel_id());
        if raised {
            duet.tell(ALICE, Command::DevFeerate { channel, feerate: Feerate(3_000) });
        }
        let order = duet.tell(BOB, pay(&invoice.bolt11, None));
        // Both orders before any message: the HTLC and the fee cross.
        assert!(duet.turn());
        duet.run();
        assert_eq!(duet.channel(ALICE).ledger.htlcs.len(), 60);
        let answer = duet.answer(order);
        if raised {
            assert_eq!(duet.balance_msat(ALICE), before, "{answer:?}");
            assert!(!matches!(answer, Some(Ok(_))), "{answer:?}");
        } else {
            assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
            assert_eq!(duet.balance_msat(ALICE), before + 1_000_000);
        }
        duet.judge_agreement();
        duet.judge_peace();
    }
}

#[test]
fn a_gift_that_leaves_the_opener_without_fee_and_reserve_is_refused_before_a_coin_is_touched() {
    let mut duet = Duet::new(320);
    duet.connect();
    for push_msat in [1_000_000_000, 999_999_000, 989_000_000] {
        let order = duet.fund_order(ALICE, Open { push_msat, ..Open::default() });
        let error = duet.must_fail(ALICE, order);
        assert!(!error.message.is_empty());
        assert_eq!(duet.seats[ALICE].wallet.reserved(), 0, "{push_msat}: {}", error.message);
        assert_eq!(duet.seats[ALICE].node.channels().count(), 0);
    }
    duet.open(Open { push_msat: 900_000_000, ..Open::default() });
}

#[test]
fn texts_too_long_to_be_kept_are_refused() {
    let mut duet = Duet::opened(330, Open::default());
    let long = |n: usize| "x".repeat(n);
    let labelled = |label: String| Command::Invoice(InvoiceRequest { label, ..request("", Some(1_000)) });
    duet.must(BOB, labelled(long(1_024)));
    duet.must_fail(BOB, labelled(long(20_000)));
    let described = |description: String| {
        Command::Invoice(InvoiceRequest { description, ..request("described", Some(1_000)) })
    };
    let error = duet.must_fail(BOB, described(long(1_000_000)));
    assert!(error.message.contains("description"), "{}", error.message);
    let invoice = duet.invoice(BOB, request("to be paid", Some(1_000)));
    let Command::Pay { bolt11, amount_msat, retry_for_s, limits, .. } = pay(&invoice.bolt11, None) else {
        panic!("not an order to pay")
    };
    let label = Some(long(1_000_000));
    duet.must_not_move(ALICE, Command::Pay { bolt11, amount_msat, label, retry_for_s, limits });
    // What was refused left nothing behind.
    duet.pay(ALICE, "after", 1_000);
}

#[test]
fn a_clock_that_was_a_day_ahead_and_is_set_right_neither_stops_timers_nor_ages_invoices() {
    let mut duet = Duet::opened(340, Open::default());
    let right = duet.now;
    duet.now = right.plus_ms(86_400_000);
    duet.pay(ALICE, "a day ahead", 1_000);
    duet.now = right.plus_ms(60_000);
    duet.pay(ALICE, "set right", 1_000);
    let invoice = duet.invoice(BOB, request("dated", Some(1_000)));
    let week = 7 * 86_400;
    let expected = duet.now.seconds() + week;
    assert!(invoice.expires_at_s.abs_diff(expected) <= 1, "{} for {expected}", invoice.expires_at_s);
    // What waits is told in its time, not a day later.
    let waiting = duet.tell(BOB, Command::WaitAnyInvoice { lastpay_index: 100, timeout_s: Some(5) });
    duet.run();
    duet.wait_ms(4_000);
    assert!(duet.answer(waiting).is_none());
    duet.wait_ms(2_000);
    assert!(matches!(duet.answer(waiting), Some(Err(_))));
    duet.cut(None);
    duet.settle();
    duet.judge_agreement();
}

#[test]
fn a_node_that_starts_again_knows_that_its_newest_block_is_fresh() {
    let mut duet = on_signet(301);
    for seat in [ALICE, BOB] {
        duet.restart(seat);
        duet.settle();
        duet.pay(ALICE, &format!("after the start of {seat}"), 1_000_000);
    }
}
