//! `sendpay` part by part: one hash, routes of the user's choosing, each part with an end of its own.
//!
//! In: a diamond (Alice reaches Dave through Bob and through Carol), parts with `partid` and `groupid`. Out: what is
//! refused, what is the same answer again, rows for each part; the payee has the total once, or nothing, also when the payer
//! dies at any step. Read next: `routes` (where the node finds the ways), `chand_protocol::node`.

use chand_protocol::gossip::graph::Direction;
use chand_protocol::id::PaymentHash;
use chand_protocol::node::command::{Command, Reply, RouteLimits};
use chand_protocol::node::{view, NodeConfig};
use chand_protocol::record::Kind;
use chand_protocol::units::Msat;
use chand_tests::duet::play::{preimage, request, Open};
use chand_tests::duet::When;
use chand_tests::town::{Town, ALICE, BOB, CAROL, DAVE};

const TOTAL: u64 = 900_000_000;

fn usual(_: usize, config: &mut NodeConfig) {
    config.fee_base_msat = 1_000;
    config.fee_ppm = 0;
}

fn diamond(seed: u64) -> Town {
    let mut town = Town::new(4, seed, usual);
    let half = Open { sat: 1_000_000, push_msat: 300_000_000, ..Open::default() };
    for (from, to) in [(ALICE, BOB), (ALICE, CAROL), (BOB, DAVE), (CAROL, DAVE)] {
        town.open(from, to, half);
    }
    town
}

/// One part over Bob or Carol.
#[derive(Clone, Copy)]
struct Wish {
    partid: u64,
    groupid: Option<u64>,
    over: usize,
    msat: u64,
    total: u64,
}

impl Wish {
    fn of(partid: u64, over: usize, msat: u64) -> Wish {
        Wish { partid, groupid: None, over, msat, total: TOTAL }
    }
}

fn order(town: &Town, bill: &view::Invoice, wish: Wish) -> Command {
    Command::SendPart {
        route: town.route(&[ALICE, wish.over, DAVE], wish.msat, 40),
        payment_hash: bill.payment_hash,
        payment_secret: Some(bill.payment_secret),
        total_msat: Some(Msat(wish.total)),
        partid: wish.partid,
        groupid: wish.groupid,
        label: None,
        bolt11: None,
    }
}

fn send(town: &mut Town, bill: &view::Invoice, wish: Wish) -> view::Pay {
    let order = order(town, bill, wish);
    match town.must(ALICE, order) {
        Reply::Sent(pay) => pay,
        other => panic!("{other:?}"),
    }
}

fn refused(town: &mut Town, bill: &view::Invoice, wish: Wish) -> i32 {
    let order = order(town, bill, wish);
    town.must_fail(ALICE, order).code
}

fn wait(payment_hash: PaymentHash, partid: u64) -> Command {
    Command::WaitSendPart { payment_hash, partid, groupid: None, timeout_s: Some(5) }
}

/// `listsendpays`: partid, groupid, status.
fn rows(town: &mut Town, bill: &view::Invoice) -> Vec<(u64, u64, &'static str)> {
    let order = Command::ListSendPays { payment_hash: Some(bill.payment_hash), bolt11: None };
    // She may die of this very question.
    let answer = town.ask(ALICE, order.clone()).or_else(|| town.ask(ALICE, order));
    let Some(Ok(Reply::Pays(list))) = answer else { panic!("{answer:?}") };
    list.iter().map(|p| p.part.map_or((0, 0, p.status), |(part, group)| (part, group, p.status))).collect()
}

fn under_way(town: &Town) -> usize {
    town.seats[ALICE].node.channels().map(|c| c.ledger.htlcs.len()).sum()
}

#[test]
fn parts_by_hand_make_up_one_payment_and_no_more() {
    // BOLT 4 [4.mpp.5, 4.mpp.6].
    let mut town = diamond(701);
    let bill = town.bill(DAVE, "by hand", TOTAL);
    let before = town.balance_msat(DAVE);
    let first = Wish::of(1, BOB, 500_000_000);
    let sent = send(&mut town, &bill, first);
    assert_eq!((sent.status, sent.part, sent.amount_msat.0), ("pending", Some((1, 1)), 500_000_000));
    assert_eq!(sent.amount_sent_msat.0, 500_001_000);
    // The same again is the same part.
    assert_eq!(send(&mut town, &bill, first), sent);
    assert_eq!(under_way(&town), 1);
    // Another amount or total, another group, more than is missing, or no part at all: refused, and nothing is sent.
    for (wish, code) in [
        (Wish { msat: 500_000_001, ..first }, 201),
        (Wish { total: TOTAL + 1, ..first }, 201),
        (Wish { total: TOTAL - 1, ..Wish::of(2, CAROL, 1_000) }, 201),
        (Wish { groupid: Some(7), ..Wish::of(2, CAROL, 1_000) }, 200),
        (Wish::of(2, CAROL, 400_000_001), 200),
        (Wish::of(0, CAROL, 1_000), -32_602),
        (Wish::of(2, CAROL, TOTAL + 1), -32_602),
    ] {
        assert_eq!(refused(&mut town, &bill, wish), code);
    }
    let Command::SendPart { route, .. } = order(&town, &bill, Wish::of(1, CAROL, TOTAL)) else {
        panic!("an order")
    };
    assert_eq!(town.must_fail(ALICE, Town::send_pay(route, &bill)).code, 200);
    let limits = RouteLimits::default();
    let pay =
        Command::Pay { bolt11: bill.bolt11.clone(), amount_msat: None, label: None, retry_for_s: 60, limits };
    assert_eq!(town.must_fail(ALICE, pay).code, 200);
    let alone = Command::WaitSendPay { payment_hash: bill.payment_hash, timeout_s: Some(1) };
    assert_eq!(town.must_fail(ALICE, alone).code, 208);
    assert_eq!(town.must_fail(ALICE, wait(bill.payment_hash, 2)).code, 208);
    let early = town.tell(ALICE, wait(bill.payment_hash, 1));
    town.wait_ms(6_000);
    let early = town.answer(early).and_then(Result::err);
    assert_eq!(early.map(|error| error.code), Some(200), "still pending");
    assert_eq!(under_way(&town), 1);
    assert_eq!(rows(&mut town, &bill), [(1, 1, "pending")]);
    // The rest.
    send(&mut town, &bill, Wish { groupid: Some(1), ..Wish::of(2, CAROL, 400_000_000) });
    for partid in [1, 2] {
        let Reply::Sent(part) = town.must(ALICE, wait(bill.payment_hash, partid)) else { panic!("not sent") };
        assert_eq!(part.preimage.map(|secret| secret.hash()), Some(bill.payment_hash));
    }
    assert_eq!(rows(&mut town, &bill), [(1, 1, "complete"), (2, 1, "complete")]);
    assert_eq!(town.balance_msat(DAVE) - before, TOTAL);
    // Paid: the same answer for whatever part of the same payment, a refusal for another, and no money for either.
    assert_eq!(send(&mut town, &bill, Wish::of(3, BOB, 1_000)).status, "complete");
    assert_eq!(refused(&mut town, &bill, Wish { total: 1_000, ..Wish::of(3, BOB, 1_000) }), 201);
    assert_eq!(town.balance_msat(DAVE) - before, TOTAL);
    let forwards: usize = [BOB, CAROL].map(|seat| town.forwards(seat).len()).iter().sum();
    assert_eq!(forwards, 2);
    town.judge_quiet();
}

#[test]
fn parts_that_came_back_leave_room_for_a_new_group() {
    let mut town = diamond(702);
    let bill = town.bill(DAVE, "again", TOTAL);
    let before = town.balance_msat(DAVE);
    let one = send(&mut town, &bill, Wish::of(1, BOB, 500_000_000));
    let waiting = town.tell(
        ALICE,
        Command::WaitSendPart {
            payment_hash: bill.payment_hash,
            partid: 1,
            groupid: Some(1),
            timeout_s: None,
        },
    );
    // Dave gives back what stayed alone for a minute.
    town.wait_ms(70_000);
    let Some(Err(error)) = town.answer(waiting) else { panic!("no answer") };
    assert!(error.code == 204 && error.message.contains("mpp_timeout"), "{error:?}");
    assert_eq!(rows(&mut town, &bill), [(1, 1, "failed")]);
    // What cannot be sent leaves all as it was.
    let order = order(&town, &bill, Wish { total: 5_000_000_000, ..Wish::of(1, BOB, 2_000_000_000) });
    assert_eq!(town.must_fail(ALICE, order).code, 205);
    assert_eq!(rows(&mut town, &bill), [(1, 1, "failed")]);
    let two = send(&mut town, &bill, Wish::of(1, BOB, 500_000_000));
    assert!(two.part == Some((1, 2)) && two.created_index > one.created_index, "{two:?}");
    town.restart(ALICE);
    town.settle();
    send(&mut town, &bill, Wish::of(2, CAROL, 400_000_000));
    assert_eq!(rows(&mut town, &bill), [(1, 1, "failed"), (1, 2, "complete"), (2, 2, "complete")]);
    assert_eq!(town.balance_msat(DAVE) - before, TOTAL);
    let Reply::Pays(pays) = town.must(ALICE, Command::ListPays { payment_hash: None, bolt11: None }) else {
        panic!("no list")
    };
    let [pay] = pays.as_slice() else { panic!("{pays:?}") };
    assert_eq!((pay.status, pay.amount_msat.0, pay.parts), ("complete", TOTAL, 2));
    assert_eq!(pay.amount_sent_msat.0, TOTAL + 2_000);
    town.judge_quiet();
}

/// The payer dies at its step of this number after the first order.
fn dies_at(step: u64, when: When) -> bool {
    let mut town = diamond(710 + step);
    let before = town.balance_msat(DAVE);
    let bill = town.bill(DAVE, "by hand", TOTAL);
    town.crashes.push((ALICE, town.seats[ALICE].steps + step, when));
    for wish in [Wish::of(1, BOB, 500_000_000), Wish::of(2, CAROL, 400_000_000)] {
        let order = order(&town, &bill, wish);
        let _answer = town.ask(ALICE, order);
        town.settle();
    }
    town.wait_ms(70_000);
    // Whatever is lacking is sent once more, by the same numbers.
    for wish in [Wish::of(1, BOB, 500_000_000), Wish::of(2, CAROL, 400_000_000)] {
        let order = order(&town, &bill, wish);
        let _answer = town.ask(ALICE, order);
        town.settle();
    }
    town.wait_ms(70_000);
    let list = rows(&mut town, &bill);
    assert!(list.iter().filter(|row| row.2 == "complete").count() == 2, "{list:?} at step {step}");
    assert!(list.iter().all(|row| row.2 != "pending"), "{list:?} at step {step}");
    assert_eq!(town.balance_msat(DAVE) - before, TOTAL, "at step {step}");
    town.judge_quiet();
    town.crashes.is_empty()
}

#[test]
fn a_payer_who_dies_at_any_step_pays_all_parts_once() {
    for when in [When::BeforeCommit, When::BeforeRelease, When::AfterRelease] {
        let reached = (1..40).take_while(|step| dies_at(*step, when)).count();
        assert!(reached >= 8, "only {reached} steps");
    }
}

/// A payment's record of before there were parts by hand lacks its last field.
#[test]
fn records_without_parts_by_hand_still_load() {
    let mut town = diamond(750);
    let hold = Some(preimage(5).hash());
    let bill = town.invoice(
        DAVE,
        chand_protocol::node::command::InvoiceRequest { hold, ..request("held", Some(1_000_000)) },
    );
    let route = town.route(&[ALICE, BOB, DAVE], 1_000_000, 40);
    town.must(ALICE, Town::send_pay(route, &bill));
    let entries = town.seats[ALICE].store.durable();
    let payment = Kind::Payment as u8;
    let old = entries.iter().cloned().map(|(key, mut value)| {
        if key[0] == payment {
            assert_eq!(value.pop(), Some(0), "an empty list");
        }
        (key, value)
    });
    let node = town.seats[ALICE].reborn(old.collect());
    let sorted = |mut all: Vec<_>| {
        all.sort();
        all
    };
    let kept = |all: Vec<(Vec<u8>, Vec<u8>)>| -> Vec<_> {
        sorted(all.into_iter().filter(|(key, _)| key[0] == payment).collect())
    };
    assert_eq!(kept(node.records()), kept(entries));
}

/// BOLT 4's codes that the test meets.
const TEMPORARY_CHANNEL_FAILURE: u16 = 0x1007;
const INCORRECT_DETAILS: u16 = 0x400f;

#[test]
fn who_gave_a_payment_back_is_told_and_kept() {
    let mut town = diamond(705);
    let bill = town.bill(DAVE, "given back", TOTAL);
    let (bob, dave) = (town.seats[BOB].id, town.seats[DAVE].id);
    let scid = town.scid(BOB, DAVE);
    let way = Direction::between(&bob, &dave).index() as u8;
    // Bob has less there than Alice thinks.
    let empties = town.bill(DAVE, "empties", 600_000_000);
    let over_bob = town.route(&[BOB, DAVE], 600_000_000, 40);
    assert!(matches!(town.pay_along(over_bob, &empties, BOB), Some(Ok(Reply::Sent(_)))));
    send(&mut town, &bill, Wish::of(5, BOB, 500_000_000));
    let error = town.must_fail(ALICE, wait(bill.payment_hash, 5));
    let failed = error.payment.expect("which part");
    let wanted = view::Erring {
        index: 1,
        failcode: TEMPORARY_CHANNEL_FAILURE,
        node: Some(bob),
        channel: Some((scid, way)),
    };
    assert_eq!((failed.part.map(|p| p.0), failed.erring.as_ref()), (Some(5), Some(&wanted)));
    // By the payee, and whole.
    let gone = town.bill(DAVE, "gone", 1_000_000);
    town.must(DAVE, Command::DelInvoice { label: "gone".into(), status: "unpaid".into() });
    let route = town.route(&[ALICE, CAROL, DAVE], 1_000_000, 40);
    assert_eq!(town.pay_along(route, &gone, ALICE).and_then(Result::err).map(|e| e.code), Some(203));
    // A restart changes nothing of it.
    for _ in 0..2 {
        let alone = Command::WaitSendPay { payment_hash: gone.payment_hash, timeout_s: Some(1) };
        let erring = town.must_fail(ALICE, alone).payment.and_then(|pay| pay.erring).expect("who");
        assert_eq!((erring.index, erring.failcode, erring.node), (2, INCORRECT_DETAILS, Some(dave)));
        assert_eq!(erring.channel.map(|(scid, _)| scid), Some(town.scid(CAROL, DAVE)));
        let order = Command::ListSendPays { payment_hash: Some(bill.payment_hash), bolt11: None };
        let Reply::Pays(list) = town.must(ALICE, order) else { panic!("no list") };
        let row = list.iter().find(|row| row.part.map(|p| p.0) == Some(5)).expect("a row");
        assert_eq!(row.erring.as_ref(), Some(&wanted));
        town.restart(ALICE);
        town.settle();
    }
    town.judge_quiet();
}
