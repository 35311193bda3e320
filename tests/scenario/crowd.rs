//! A flood of HTLCs from one peer: what it can take of others' room, in number and in value.
//!
//! In: Alice, who sends more payments through Bob to Dave than that channel has slots, and lets them wait. Out: she has most
//! of the slots and never all; Carol's payments pass over the same channel and over another; all ends as it should.
//! What one peer may offer over its own channels is in `limits`. Read next: `forward`.

use chand_protocol::node::command::{Command, InvoiceRequest, Reply};
use chand_protocol::units::Height;
use chand_tests::duet::play::{preimage, request, Open};
use chand_tests::town::Town;

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
const DAVE: usize = 3;
const ERIN: usize = 4;
/// More than nine tenths of the 483 slots of a channel, and fewer than all.
const FLOOD: u64 = 460;
const TAKEN: usize = 434;

#[test]
fn one_peer_cannot_take_every_slot_of_a_channel_that_others_forward_over() {
    let mut town = Town::counterfeit(5, 821, |_, _| {});
    town.check_every = 500;
    let wide = Open { sat: 16_000_000, push_msat: 4_000_000_000, ..Open::default() };
    for (from, to) in [(ALICE, BOB), (CAROL, BOB), (BOB, DAVE), (BOB, ERIN)] {
        town.open(from, to, wide);
    }
    for number in 0..FLOOD {
        let hold = Some(preimage(number).hash());
        let wish = InvoiceRequest { hold, ..request(&format!("{number}"), Some(1_000_000)) };
        let bill = town.invoice(DAVE, wish);
        let route = town.route(&[ALICE, BOB, DAVE], 1_000_000, 40);
        town.tell(ALICE, Town::send_pay(route, &bill));
    }
    town.run();
    let offered = town.forwards(BOB).iter().filter(|row| row.status == "offered").count();
    assert_eq!(offered, TAKEN, "nine tenths of the slots");
    let Reply::Pays(pays) = town.must(ALICE, Command::ListPays { payment_hash: None, bolt11: None }) else {
        panic!("no list")
    };
    let back: Vec<_> = pays.iter().filter_map(|pay| pay.failure.as_ref()).collect();
    assert_eq!(back.len(), FLOOD as usize - TAKEN);
    assert!(back.iter().all(|(_, words)| words.contains("temporary_channel_failure")), "{back:?}");
    // The same way for another, and another way.
    for (payee, label) in [(DAVE, "through it"), (ERIN, "beside it")] {
        let bill = town.bill(payee, label, 1_000_000);
        let route = town.route(&[CAROL, BOB, payee], 1_000_000, 40);
        let paid = town.pay_along(route, &bill, CAROL);
        assert!(matches!(&paid, Some(Ok(Reply::Sent(pay))) if pay.status == "complete"), "{label}: {paid:?}");
    }
    // What waited gives its places back.
    for number in 0..FLOOD {
        town.tell(DAVE, Command::CancelInvoice { payment_hash: preimage(number).hash() });
    }
    town.run();
    let bill = town.bill(DAVE, "after it", 1_000_000);
    let route = town.route(&[ALICE, BOB, DAVE], 1_000_000, 40);
    let paid = town.pay_along(route, &bill, ALICE);
    assert!(matches!(&paid, Some(Ok(Reply::Sent(pay))) if pay.status == "complete"), "{paid:?}");
    town.judge_quiet();
}

/// Alice sends on what hangs, over two channels of hers; how many of so many go on over Bob's channel with Dave.
fn fills(town: &mut Town, count: u64, amount_msat: u64) -> usize {
    let own: Vec<_> = town.seats[ALICE].node.channels().filter_map(|c| c.short_channel_id()).collect();
    for number in 0..count {
        let hold = Some(preimage(number).hash());
        let wish = InvoiceRequest { hold, ..request(&format!("{number}"), Some(amount_msat)) };
        let bill = town.invoice(DAVE, wish);
        let mut route = town.route(&[ALICE, BOB, DAVE], amount_msat, 40);
        route[0].channel = Some(own[number as usize % own.len()]);
        town.tell(ALICE, Town::send_pay(route, &bill));
    }
    town.run();
    town.forwards(BOB).iter().filter(|row| row.status == "offered").count()
}

#[test]
fn one_peer_cannot_take_all_that_a_channel_can_carry_while_others_could_use_it() {
    let mut town = Town::counterfeit(4, 822, |_, _| {});
    let wide = Open { sat: 16_000_000, push_msat: 4_000_000_000, ..Open::default() };
    for (from, to) in [(ALICE, BOB), (ALICE, BOB), (CAROL, BOB), (BOB, DAVE)] {
        town.open(from, to, wide);
    }
    // Bob has 12,000,000 sat there less his reserve and fees: nine times 1,150,000 are less than nine tenths of it.
    assert_eq!(fills(&mut town, 10, 1_150_000_000), 9);
    let bill = town.bill(DAVE, "through it", 1_000_000_000);
    let route = town.route(&[CAROL, BOB, DAVE], 1_000_000_000, 40);
    let paid = town.pay_along(route, &bill, CAROL);
    assert!(matches!(&paid, Some(Ok(Reply::Sent(pay))) if pay.status == "complete"), "{paid:?}");
    // What waited gives its places back.
    for number in 0..10 {
        town.must(DAVE, Command::CancelInvoice { payment_hash: preimage(number).hash() });
    }
    let bill = town.bill(DAVE, "after it", 1_150_000_000);
    let route = town.route(&[ALICE, BOB, DAVE], 1_150_000_000, 40);
    let paid = town.pay_along(route, &bill, ALICE);
    assert!(matches!(&paid, Some(Ok(Reply::Sent(pay))) if pay.status == "complete"), "{paid:?}");
    town.judge_quiet();
}

#[test]
fn where_nobody_else_could_all_of_a_channel_moves_at_once() {
    // Carol's seat is the payee here.
    let mut town = Town::counterfeit(3, 823, |_, _| {});
    town.open(ALICE, BOB, Open { sat: 16_000_000, push_msat: 1_000_000_000, ..Open::default() });
    town.open(BOB, CAROL, Open { sat: 10_000_000, push_msat: 1_000_000_000, ..Open::default() });
    let all = town.between(BOB, CAROL).view(Height(0)).spendable_msat.0;
    let bill = town.bill(CAROL, "all", all);
    let route = town.route(&[ALICE, BOB, CAROL], all, 40);
    let paid = town.pay_along(route, &bill, ALICE);
    assert!(matches!(&paid, Some(Ok(Reply::Sent(pay))) if pay.status == "complete"), "{paid:?}");
    town.judge_quiet();
}
