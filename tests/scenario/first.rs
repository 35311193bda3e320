//! The thread through everything: open, pay both ways, restart, close.

use chand_protocol::node::command::{Command, Reply};
use chand_protocol::units::Msat;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, ALICE, BOB};

#[test]
fn open_pay_both_ways_restart_and_close() {
    for anchors in [true, false] {
        let mut duet = Duet::opened(1, Open { anchors, ..Open::default() });
        assert_eq!(duet.balance_msat(ALICE), 600_000_000);
        duet.judge_agreement();
        duet.pay(ALICE, "one", 100_000_000);
        duet.pay(BOB, "two", 50_000_001);
        assert_eq!(duet.balance_msat(ALICE), 550_000_001);
        duet.judge_agreement();
        duet.restart(ALICE);
        duet.restart(BOB);
        duet.settle();
        duet.pay(BOB, "three", 1_000);
        duet.judge_agreement();
        assert_eq!(duet.balance_msat(BOB), 449_998_999);
        duet.close(BOB);
    }
}

#[test]
fn keysend_needs_no_invoice() {
    let mut duet = Duet::opened(2, Open::default());
    let destination = duet.id(BOB);
    let order = Command::Keysend { destination, amount_msat: Msat(7_000_001), label: None, retry_for_s: 60 };
    let reply = duet.must(ALICE, order);
    let Reply::Paid(paid) = reply else { panic!("{reply:?}") };
    assert_eq!(paid.status, "complete");
    assert_eq!(duet.balance_msat(BOB), 407_000_001);
    assert_eq!(duet.invoice_status(BOB, paid.payment_hash).0, "paid");
    duet.judge_agreement();
}
