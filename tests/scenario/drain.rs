//! A drain before a stop: nothing new is begun, what is under way ends, and who cannot end is not waited for.

use chand_protocol::node::command::{Command, InvoiceRequest, Reply};
use chand_protocol::node::view::Drain;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{Answer, Duet, ALICE, BOB};
use chand_tests::town::{self, Town};

fn drained(answer: Option<Answer>) -> Drain {
    match answer {
        Some(Ok(Reply::Drained(left))) => left,
        other => panic!("{other:?}"),
    }
}

fn left(duet: &mut Duet, seat: usize) -> Option<Drain> {
    match duet.must(seat, Command::GetInfo) {
        Reply::Info(info) => info.draining,
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_nothing_under_way_it_is_over_at_once_and_pays_nobody() {
    let mut duet = Duet::opened(210, Open::default());
    assert_eq!(left(&mut duet, ALICE), None);
    assert_eq!(drained(duet.ask(ALICE, Command::Drain)), Drain::default());
    assert_eq!(left(&mut duet, ALICE), Some(Drain::default()));
    let invoice = duet.invoice(BOB, request("tea", Some(1_000_000)));
    let error = duet.must_not_move(ALICE, pay(&invoice.bolt11, None));
    assert!(error.code == 210 && error.message.contains("about to stop"), "{error}");
    // Being paid begins nothing.
    duet.pay(BOB, "rent", 1_000_000);
    // The next start knows nothing of it.
    duet.restart(ALICE);
    duet.settle();
    assert_eq!(left(&mut duet, ALICE), None);
    duet.must(ALICE, pay(&invoice.bolt11, None));
}

#[test]
fn who_pays_waits_for_the_payee_and_the_payee_for_nobody() {
    let mut duet = Duet::opened(211, Open::default());
    let order = duet.pay_held(ALICE, 1, 2_000_000);
    let alice = duet.tell(ALICE, Command::Drain);
    duet.run();
    assert!(duet.answer(alice).is_none(), "the HTLC may end");
    assert_eq!(left(&mut duet, ALICE), Some(Drain { under_way: 1, held: 0, absent: 0 }));
    // Bob's user decides, before the stop or after the next start.
    let at_bobs = drained(duet.ask(BOB, Command::Drain));
    assert_eq!(at_bobs, Drain { under_way: 0, held: 1, absent: 0 });
    let again = duet.tell(ALICE, Command::Drain);
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert!(matches!(duet.answer(order), Some(Ok(Reply::Paid(_)))));
    for asked in [alice, again] {
        assert_eq!(drained(duet.answer(asked)), Drain::default());
    }
    duet.judge_agreement();
}

#[test]
fn a_peer_that_is_away_is_not_waited_for() {
    let mut duet = Duet::opened(212, Open::default());
    let order = duet.pay_held(ALICE, 1, 2_000_000);
    let asked = duet.tell(ALICE, Command::Drain);
    duet.run();
    assert!(duet.answer(asked).is_none());
    duet.reachable = false;
    duet.cut(None);
    duet.run();
    assert_eq!(drained(duet.answer(asked)), Drain { under_way: 0, held: 0, absent: 1 });
    assert!(duet.answer(order).is_none(), "the payment is as it was");
    duet.reachable = true;
    duet.restart(ALICE);
    duet.settle();
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    let paid = duet.payment(ALICE, preimage(1).hash()).expect("a payment");
    assert_eq!(paid.status, "complete");
}

#[test]
fn what_waits_for_its_turn_is_given_up_and_what_is_under_way_is_not() {
    let mut duet = Duet::opened(213, Open::default());
    let held = duet.pay_held(ALICE, 1, 590_000_000 - 20_000_000);
    // There is no room for this one until the other ends.
    let invoice = duet.invoice(BOB, request("tea", Some(100_000_000)));
    let queued = duet.tell(ALICE, pay(&invoice.bolt11, None));
    duet.run();
    assert!(duet.answer(queued).is_none());
    let asked = duet.tell(ALICE, Command::Drain);
    duet.run();
    match duet.answer(queued) {
        Some(Err(error)) => assert!(error.message.contains("about to stop"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(duet.answer(asked).is_none() && duet.answer(held).is_none());
    duet.must(BOB, Command::CancelInvoice { payment_hash: preimage(1).hash() });
    match duet.answer(held) {
        Some(Err(error)) => assert!(error.message.contains("the payee gave the payment back"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(drained(duet.answer(asked)), Drain::default());
    assert_eq!(duet.balance_msat(ALICE), 600_000_000);
}

#[test]
fn nothing_goes_on_through_a_node_that_drains_but_what_went_on_ends() {
    let mut town = Town::line(3, 214, |_, _| {});
    let way = [town::ALICE, town::BOB, town::CAROL];
    let route = town.route(&way, 50_000_000, 40);
    let hold = |number| InvoiceRequest {
        hold: Some(preimage(number).hash()),
        ..request(&format!("held-{number}"), Some(50_000_000))
    };
    let first = town.invoice(town::CAROL, hold(1));
    town.must(town::ALICE, Town::send_pay(route.clone(), &first));
    let asked = town.tell(town::BOB, Command::Drain);
    town.run();
    assert!(town.answer(asked).is_none());
    let second = town.bill(town::CAROL, "late", 50_000_000);
    let failed = town.pay_along(route, &second, town::ALICE);
    let Some(Err(error)) = failed else { panic!("{failed:?}") };
    assert!(error.message.contains("temporary_channel_failure"), "{error}");
    assert!(town.answer(asked).is_none(), "the first is still under way");
    town.must(town::CAROL, Command::SettleInvoice { preimage: preimage(1) });
    assert_eq!(drained(town.answer(asked)), Drain::default());
    assert!(town.forwards(town::BOB).iter().all(|f| f.status == "settled"));
    town.judge_quiet();
}
