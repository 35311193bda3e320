//! `wait`: the numbers of what is made, changed and deleted, who waits for them, and that none is ever given twice.

use chand_protocol::id::CommandId;
use chand_protocol::node::command::{Command, InvoiceFilter, InvoiceRequest, Reply};
use chand_protocol::node::effect::Input;
use chand_protocol::node::view::{self, Reached, Row};
use chand_protocol::node::waits::{Event, Subsystem};
use chand_protocol::record::Kind;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{Answer, Crash, Duet, When, ALICE, BOB};
use chand_tests::town::{self, Town};
use std::collections::BTreeMap;

const SUBSYSTEMS: [Subsystem; 3] = [Subsystem::Invoices, Subsystem::Sendpays, Subsystem::Forwards];
const EVENTS: [Event; 3] = [Event::Created, Event::Updated, Event::Deleted];

fn wait(subsystem: Subsystem, event: Event, from: u64) -> Command {
    Command::Wait { index: (subsystem, event), from }
}

fn reached(answer: Option<Answer>) -> Reached {
    match answer {
        Some(Ok(Reply::Reached(reached))) => reached,
        other => panic!("{other:?}"),
    }
}

/// How far created, updated and deleted are.
fn indexes(duet: &mut Duet, seat: usize, subsystem: Subsystem) -> [u64; 3] {
    EVENTS.map(|event| {
        let now = reached(duet.ask(seat, wait(subsystem, event, 0)));
        assert_eq!((now.subsystem, now.event, now.row), (subsystem, event, None));
        now.number
    })
}

fn rows(duet: &mut Duet, seat: usize) -> Vec<view::Invoice> {
    match duet.must(seat, Command::ListInvoices(InvoiceFilter::default())) {
        Reply::Invoices(list) => list,
        other => panic!("{other:?}"),
    }
}

fn of_invoice(reached: &Reached) -> (&str, &str, u64) {
    match &reached.row {
        Some(Row::Invoice(invoice)) => (&invoice.label, invoice.status, reached.number),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_waits_hears_of_each_change_of_an_invoice() {
    let mut duet = Duet::opened(200, Open::default());
    let list = Subsystem::Invoices;
    assert_eq!(indexes(&mut duet, BOB, list), [0, 0, 0]);
    let [made, changed, gone] = EVENTS.map(|event| duet.tell(BOB, wait(list, event, 1)));
    let second = duet.tell(BOB, wait(list, Event::Created, 2));
    duet.run();
    assert!([made, changed, gone, second].iter().all(|id| duet.answer(*id).is_none()));
    let invoice = duet.invoice(BOB, request("tea", Some(1_000_000)));
    let heard = reached(duet.answer(made));
    assert_eq!(of_invoice(&heard), ("tea", "unpaid", 1));
    assert!(duet.answer(second).is_none() && duet.answer(changed).is_none());
    duet.must(ALICE, pay(&invoice.bolt11, None));
    assert_eq!(of_invoice(&reached(duet.answer(changed))), ("tea", "paid", 1));
    assert_eq!(rows(&mut duet, BOB)[0].updated_index, Some(1));
    duet.invoice(BOB, request("rent", Some(1_000_000)));
    assert_eq!(of_invoice(&reached(duet.answer(second))), ("rent", "unpaid", 2));
    assert_eq!(rows(&mut duet, BOB)[1].updated_index, None, "it never changed");
    duet.must(BOB, Command::DelInvoice { label: "tea".into(), status: "paid".into() });
    assert_eq!(of_invoice(&reached(duet.answer(gone))), ("tea", "paid", 1));
    // What is over is told at once, without saying what it was.
    assert_eq!(indexes(&mut duet, BOB, list), [2, 1, 1]);
    duet.restart(BOB);
    duet.settle();
    assert_eq!(indexes(&mut duet, BOB, list), [2, 1, 1]);
}

#[test]
fn money_that_is_held_and_time_change_invoices_too() {
    let mut duet = Duet::opened(201, Open::default());
    let list = Subsystem::Invoices;
    duet.pay_held(ALICE, 1, 2_000_000);
    assert_eq!(indexes(&mut duet, BOB, list), [1, 1, 0], "held");
    let cancel = || Command::CancelInvoice { payment_hash: preimage(1).hash() };
    duet.must(BOB, cancel());
    duet.must(BOB, cancel());
    assert_eq!(indexes(&mut duet, BOB, list), [1, 2, 0], "given back once");
    duet.invoice(BOB, InvoiceRequest { expiry_s: Some(60), ..request("short", None) });
    duet.invoice(BOB, InvoiceRequest { expiry_s: Some(60), ..request("paid", Some(5_000)) });
    let paid = rows(&mut duet, BOB).pop().expect("an invoice");
    duet.must(ALICE, pay(&paid.bolt11, None));
    let over = duet.tell(BOB, wait(list, Event::Updated, 4));
    duet.wait_ms(30_000);
    assert!(duet.answer(over).is_none());
    duet.wait_ms(40_000);
    assert_eq!(of_invoice(&reached(duet.answer(over))), ("short", "expired", 4));
    let short = rows(&mut duet, BOB).into_iter().find(|i| i.label == "short").expect("an invoice");
    assert_eq!((short.status, short.updated_index), ("expired", Some(4)));
    duet.restart(BOB);
    duet.settle();
    duet.wait_ms(10_000);
    assert_eq!(indexes(&mut duet, BOB, list), [3, 4, 0], "it expires once");
}

#[test]
fn payments_are_counted_as_listsendpays_lists_them() {
    let mut duet = Duet::opened(202, Open::default());
    let list = Subsystem::Sendpays;
    let [made, changed, gone] = EVENTS.map(|event| duet.tell(ALICE, wait(list, event, 1)));
    let order = duet.pay_held(ALICE, 1, 2_000_000);
    let heard = reached(duet.answer(made));
    let Some(Row::Sendpay(row)) = &heard.row else { panic!("{heard:?}") };
    assert_eq!((row.status, row.payment_hash, heard.number), ("pending", preimage(1).hash(), 1));
    assert!(duet.answer(changed).is_none());
    duet.must(BOB, Command::CancelInvoice { payment_hash: preimage(1).hash() });
    let heard = reached(duet.answer(changed));
    assert!(matches!(&heard.row, Some(Row::Sendpay(row)) if row.status == "failed"), "{heard:?}");
    assert!(matches!(duet.answer(order), Some(Err(_))));
    let failed = duet.payment(ALICE, preimage(1).hash()).expect("a payment");
    assert_eq!((failed.created_index, failed.updated_index), (1, Some(1)));
    // Another try takes its row: the one that failed is listed no more.
    let bolt11 = failed.bolt11.expect("an invoice");
    assert!(duet.ask(ALICE, pay(&bolt11, None)).is_some_and(|answer| answer.is_err()));
    let heard = reached(duet.answer(gone));
    assert!(matches!(&heard.row, Some(Row::Sendpay(row)) if row.created_index == 1), "{heard:?}");
    assert_eq!(indexes(&mut duet, ALICE, list), [2, 2, 1]);
    duet.pay(ALICE, "tea", 1_000_000);
    duet.restart(ALICE);
    duet.settle();
    assert_eq!(indexes(&mut duet, ALICE, list), [3, 3, 1]);
}

#[test]
fn forwards_are_counted_from_offered_to_their_end() {
    let mut town = Town::line(3, 203, |_, _| {});
    let way = [town::ALICE, town::BOB, town::CAROL];
    let list = Subsystem::Forwards;
    let [made, changed] =
        [Event::Created, Event::Updated].map(|event| town.tell(town::BOB, wait(list, event, 1)));
    let hold = Some(preimage(3).hash());
    let invoice = town.invoice(town::CAROL, InvoiceRequest { hold, ..request("held", Some(50_000_000)) });
    let route = town.route(&way, 50_000_000, 40);
    town.must(town::ALICE, Town::send_pay(route, &invoice));
    let heard = reached(town.answer(made));
    assert!(matches!(&heard.row, Some(Row::Forward(row)) if row.status == "offered"), "{heard:?}");
    assert!(town.answer(changed).is_none());
    town.must(town::CAROL, Command::SettleInvoice { preimage: preimage(3) });
    let heard = reached(town.answer(changed));
    let Some(Row::Forward(row)) = &heard.row else { panic!("{heard:?}") };
    assert_eq!((row.status, heard.number), ("settled", 1));
    assert_eq!(town.forwards(town::BOB)[0].updated_index, Some(1));
    for seat in [town::ALICE, town::CAROL] {
        assert_eq!(reached(town.ask(seat, wait(list, Event::Created, 0))).number, 0, "no forwards of theirs");
    }
}

#[test]
fn so_many_may_wait_and_who_leaves_makes_room() {
    let mut duet = Duet::opened(204, Open::default());
    let never = || wait(Subsystem::Invoices, Event::Deleted, 1);
    let ids: Vec<CommandId> = (0..1_024).map(|_| duet.tell(BOB, never())).collect();
    duet.run();
    assert_eq!(duet.must_fail(BOB, never()).code, -1);
    // What is reached already needs no place.
    assert_eq!(indexes(&mut duet, BOB, Subsystem::Invoices), [0, 0, 0]);
    duet.seats[BOB].inbox.push_back(Input::Abandoned { ids: vec![ids[7], ids[900]] });
    let [one, two] = [duet.tell(BOB, never()), duet.tell(BOB, never())];
    assert_eq!(duet.must_fail(BOB, never()).code, -1);
    duet.invoice(BOB, request("tea", None));
    duet.must(BOB, Command::DelInvoice { label: "tea".into(), status: "unpaid".into() });
    let heard = [one, two].into_iter().chain(ids.iter().copied()).filter_map(|id| duet.answer(id)).count();
    assert_eq!(heard, 1_024, "all but the two who left");
}

#[test]
fn records_of_before_changes_were_counted_still_load() {
    let mut town = Town::line(3, 206, |_, _| {});
    let way = [town::ALICE, town::BOB, town::CAROL];
    let hold = Some(preimage(3).hash());
    let invoice = town.invoice(town::CAROL, InvoiceRequest { hold, ..request("held", Some(50_000_000)) });
    let route = town.route(&way, 50_000_000, 40);
    town.invoice(town::BOB, request("tea", None));
    town.must(town::ALICE, Town::send_pay(route, &invoice));
    for (seat, kind, zeros) in [
        (town::ALICE, Kind::Payment, 3),
        (town::BOB, Kind::Invoice, 3),
        (town::BOB, Kind::Forward, 1),
        (town::BOB, Kind::Counters, 6),
    ] {
        let entries = town.seats[seat].store.durable();
        let old = entries.iter().cloned().map(|(key, mut value)| {
            if key[0] == kind as u8 {
                assert!(value.ends_with(&vec![0; zeros]), "{kind:?}: nothing changed yet");
                value.truncate(value.len() - zeros);
            }
            (key, value)
        });
        let node = town.seats[seat].reborn(old.collect());
        let ours = |all: Vec<(Vec<u8>, Vec<u8>)>| -> BTreeMap<_, _> {
            all.into_iter().filter(|(key, _)| key[0] == kind as u8).collect()
        };
        assert_eq!(ours(node.records()), ours(entries), "{kind:?}");
    }
}

/// A payment, two that are held, one of them settled and one given back; an invoice is deleted.
fn live(duet: &mut Duet) {
    let held = |number| {
        let hold = Some(preimage(number).hash());
        InvoiceRequest { hold, ..request(&format!("hold-{number}"), Some(2_000_000)) }
    };
    for wish in [request("tea", Some(1_000_000)), held(1), held(2)] {
        // Who dies answers nothing.
        if let Some(Ok(Reply::Invoice(invoice))) = duet.ask(BOB, Command::Invoice(wish)) {
            duet.tell(ALICE, pay(&invoice.bolt11, None));
            duet.run();
        }
    }
    duet.ask(BOB, Command::SettleInvoice { preimage: preimage(1) });
    duet.ask(BOB, Command::CancelInvoice { payment_hash: preimage(2).hash() });
    duet.ask(BOB, Command::DelInvoice { label: "tea".into(), status: "paid".into() });
    duet.settle();
}

/// A channel whose signatures cost nothing.
fn cheap() -> Duet {
    let mut duet = Duet::counterfeit(205, |_, _| {});
    duet.connect();
    duet.open(Open::default());
    duet
}

#[test]
fn a_crash_at_any_step_takes_no_number_back() {
    let quiet = |duet: &mut Duet| {
        let before = duet.seats.each_ref().map(|s| s.steps);
        live(duet);
        (before, duet.seats.each_ref().map(|s| s.steps))
    };
    let (from, to) = quiet(&mut cheap());
    for seat in [ALICE, BOB] {
        for step in from[seat] + 1..=to[seat] {
            for when in [When::BeforeCommit, When::BeforeRelease, When::AfterRelease] {
                let mut duet = cheap();
                // Every number is waited for, by itself.
                let mut asked = Vec::new();
                for subsystem in SUBSYSTEMS {
                    for event in EVENTS {
                        for from in 1..=6 {
                            asked.push(duet.tell(seat, wait(subsystem, event, from)));
                        }
                    }
                }
                duet.run();
                let late = duet.seats[seat].steps - from[seat];
                duet.crashes = vec![Crash { seat, step: step + late, when }];
                live(&mut duet);
                let told: Vec<Reached> =
                    asked.iter().filter_map(|id| duet.answer(*id)).map(|a| reached(Some(a))).collect();
                for subsystem in SUBSYSTEMS {
                    let now = indexes(&mut duet, seat, subsystem);
                    for (event, number) in EVENTS.into_iter().zip(now) {
                        let heard = told.iter().filter(|r| (r.subsystem, r.event) == (subsystem, event));
                        let most = heard.map(|r| r.number).max().unwrap_or(0);
                        assert!(
                            most <= number,
                            "{subsystem:?} {event:?}: {most} was told, and now it is {number}"
                        );
                    }
                }
                let mut listed: Vec<u64> =
                    rows(&mut duet, seat).iter().filter_map(|i| i.updated_index).collect();
                listed.sort_unstable();
                assert!(listed.windows(2).all(|pair| pair[0] < pair[1]), "given twice: {listed:?}");
                let [_, updated, _] = indexes(&mut duet, seat, Subsystem::Invoices);
                assert!(listed.last().is_none_or(|last| *last <= updated));
            }
        }
    }
}
