//! A chain that stands still, is not seen, or not read yet: what happens to HTLCs meanwhile.
//!
//! In: nodes on a network whose blocks come by themselves, hours without one, backends that are away. Out: a slow block holds
//! nothing up; nobody takes an HTLC of which it cannot know how long it holds; nothing waits for ever or is forgotten.
//! Why so: `docs/decisions/old-tip.md`. Read next: `hold`, `chand_protocol::node` (`parked`).

use chand_protocol::chain::Network;
use chand_protocol::id::CommandId;
use chand_protocol::node::command::{Command, InvoiceRequest, Reply};
use chand_protocol::node::effect::Input;
use chand_protocol::node::{view, NodeConfig};
use chand_protocol::units::Msat;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{Duet, ALICE, BOB};
use chand_tests::town::{Town, CAROL};

const AMOUNT: u64 = 10_000_000;
/// Milliseconds of a minute.
const MINUTE: u64 = 60_000;

fn signet(_: usize, config: &mut NodeConfig) {
    config.network = Network::Signet;
}

fn opened(seed: u64) -> Duet {
    let mut duet = Duet::with(seed, signet);
    duet.connect();
    duet.open(Open::default());
    duet
}

/// What a backend at its best header says every five minutes.
fn word(duet: &mut Duet, seat: usize) {
    let tip_time_s = duet.chain.blocks.last().map(|block| block.time_s);
    duet.step(seat, vec![Input::ChainSynced { tip_time_s }]);
    duet.run();
}

/// Time passes without a block.
fn pass(duet: &mut Duet, minutes: u64) {
    for _ in 0..minutes / 5 {
        duet.wait_ms(5 * MINUTE);
        word(duet, ALICE);
        word(duet, BOB);
    }
}

/// A payment that is not tried again.
fn once(bolt11: &str) -> Command {
    match pay(bolt11, None) {
        Command::Pay { bolt11, amount_msat, label, limits, .. } => {
            Command::Pay { bolt11, amount_msat, label, limits, retry_for_s: 0 }
        }
        other => other,
    }
}

fn backend(duet: &mut Duet, seat: usize, reachable: bool) {
    duet.expected_errors = vec!["cannot be reached"];
    duet.step(seat, vec![Input::ChainReachable(reachable)]);
    duet.run();
}

fn waiting(duet: &mut Duet, seat: usize) -> Vec<&'static str> {
    let Reply::Htlcs(list) = duet.must(seat, Command::ListHtlcs { channel: None }) else { panic!("no list") };
    list.into_iter().filter_map(|htlc| htlc.waits_because).collect()
}

fn held(duet: &mut Duet, number: u64) -> String {
    duet.invoice_status(BOB, preimage(number).hash()).1.expect("a hold invoice")
}

/// A hold invoice with so many blocks, and Alice's order to pay it.
fn pay_held(duet: &mut Duet, number: u64, blocks: u32) -> CommandId {
    let hold = Some(preimage(number).hash());
    let wish =
        InvoiceRequest { hold, cltv_blocks: Some(blocks), ..request(&format!("{number}"), Some(AMOUNT)) };
    let bolt11 = duet.invoice(BOB, wish).bolt11;
    let id = duet.tell(ALICE, once(&bolt11));
    duet.run();
    id
}

#[test]
fn a_slow_block_holds_nothing_up() {
    let mut duet = opened(1_300);
    for minutes in [0, 40, 40] {
        pass(&mut duet, minutes);
        let label = format!("after {minutes} more: {}", duet.now.0);
        duet.pay(ALICE, &label, AMOUNT);
    }
    // An hour and a half is as if nine blocks had not been heard of: too many for an invoice that asks for eighteen, and
    // its payer is told at once.
    pass(&mut duet, 10);
    let bill = duet.invoice(BOB, request("too old", Some(AMOUNT)));
    let error = duet.must_not_move(ALICE, once(&bill.bolt11));
    assert!(error.message.contains("temporary_node_failure"), "{}", error.message);
    // Who left more time is paid.
    let wish = InvoiceRequest { cltv_blocks: Some(40), ..request("patient", Some(AMOUNT)) };
    let patient = duet.invoice(BOB, wish);
    duet.must(ALICE, pay(&patient.bolt11, None));
    duet.mine(1);
    duet.must(ALICE, pay(&bill.bolt11, None));
    assert_eq!(duet.balance_msat(BOB), 400_000_000 + 5 * AMOUNT);
    duet.judge_agreement();
}

#[test]
fn what_comes_while_the_chain_is_not_seen_waits_in_its_order() {
    let mut duet = opened(1_301);
    backend(&mut duet, BOB, false);
    let orders: Vec<CommandId> = (0..3)
        .map(|n| {
            let bill = duet.invoice(BOB, request(&format!("{n}"), Some(AMOUNT + n)));
            let id = duet.tell(ALICE, pay(&bill.bolt11, None));
            duet.run();
            id
        })
        .collect();
    assert_eq!(waiting(&mut duet, BOB), ["the chain backend cannot be reached"; 3]);
    assert!(waiting(&mut duet, ALICE).is_empty(), "hers are where they should be");
    assert!(duet.seats[BOB].log.iter().any(|n| n.text.contains("HTLC 0 waits, and those after it")));
    // It answers, and has yet to say that it is at its best header.
    backend(&mut duet, BOB, true);
    assert_eq!(waiting(&mut duet, BOB), ["the chain is not read to its tip yet"; 3]);
    assert!(orders.iter().all(|id| duet.answer(*id).is_none()));
    word(&mut duet, BOB);
    assert!(orders.iter().all(|id| matches!(duet.answer(*id), Some(Ok(Reply::Paid(_))))));
    for (n, index) in (0..3).zip(1..) {
        let Reply::Invoices(list) = duet.must(BOB, Command::ListInvoices(Default::default())) else {
            panic!("no list")
        };
        assert_eq!((list[n].label.as_str(), list[n].pay_index), (format!("{n}").as_str(), Some(index)));
    }
    duet.judge_agreement();
}

#[test]
fn nothing_waits_for_long_and_a_restart_forgets_nothing() {
    let mut duet = opened(1_302);
    backend(&mut duet, BOB, false);
    let (first, second) = (pay_held(&mut duet, 1, 18), pay_held(&mut duet, 2, 18));
    duet.wait_ms(9 * MINUTE);
    assert_eq!(waiting(&mut duet, BOB).len(), 2);
    duet.wait_ms(2 * MINUTE);
    assert!(waiting(&mut duet, BOB).is_empty());
    for id in [first, second] {
        let Some(Err(error)) = duet.answer(id) else { panic!("no answer") };
        assert!(error.message.contains("temporary_node_failure"), "{}", error.message);
    }
    assert_eq!((held(&mut duet, 1), duet.balance_msat(ALICE)), ("open".into(), 600_000_000));
    // The next one is there still after a start, which reads the chain.
    let third = pay_held(&mut duet, 3, 18);
    assert_eq!(waiting(&mut duet, BOB).len(), 1);
    duet.restart(BOB);
    duet.settle();
    assert_eq!(held(&mut duet, 3), "accepted");
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(3) });
    assert!(matches!(duet.answer(third), Some(Ok(Reply::Paid(_)))));
    duet.judge_agreement();
}

#[test]
fn what_waits_goes_back_before_its_expiry_comes_near() {
    // BOLT 2 [2.expiry.4].
    let mut duet = opened(1_303);
    backend(&mut duet, BOB, false);
    let near = pay_held(&mut duet, 1, 18);
    let far = pay_held(&mut duet, 2, 40);
    let expiry = duet.channel(BOB).ledger.htlcs.values().map(|h| h.cltv_expiry.0).min().expect("two");
    while duet.chain.height() + 13 < expiry {
        duet.mine(1);
        assert_eq!(waiting(&mut duet, BOB).len(), 2, "{} of {expiry}", duet.chain.height());
    }
    duet.mine(1);
    assert_eq!(waiting(&mut duet, BOB).len(), 1);
    assert!(matches!(duet.answer(near), Some(Err(_))) && duet.answer(far).is_none());
    duet.judge_agreement();
}

/// The backend answers, and knows of headers whose blocks it does not have: it says nothing.
#[test]
fn a_word_that_is_not_repeated_holds_for_a_while_only() {
    let mut duet = opened(1_304);
    duet.wait_ms(14 * MINUTE);
    duet.pay(ALICE, "in time", AMOUNT);
    duet.wait_ms(2 * MINUTE);
    let bill = duet.invoice(BOB, request("later", Some(AMOUNT)));
    let id = duet.tell(ALICE, pay(&bill.bolt11, None));
    duet.run();
    assert_eq!(waiting(&mut duet, BOB), ["the chain backend did not say for a while that it has all blocks"]);
    word(&mut duet, BOB);
    assert!(matches!(duet.answer(id), Some(Ok(Reply::Paid(_)))));
    // A backend that says so and has heard of no block for hours is cut off.
    pass(&mut duet, 185);
    let id = pay_held(&mut duet, 1, 100);
    assert_eq!(waiting(&mut duet, BOB), ["the newest block is hours old"]);
    duet.mine(1);
    assert_eq!(held(&mut duet, 1), "accepted");
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert!(matches!(duet.answer(id), Some(Ok(Reply::Paid(_)))));
}

#[test]
fn a_held_payment_is_not_settled_against_an_old_tip() {
    // BOLT 2 [2.expiry.4].
    let mut duet = opened(1_305);
    let id = pay_held(&mut duet, 1, 18);
    pass(&mut duet, 95);
    let settle = Command::SettleInvoice { preimage: preimage(1) };
    let error = duet.must_fail(BOB, settle.clone());
    assert!(error.code == 906 && error.message.contains("preimage was not shown"), "{}", error.message);
    assert_eq!(held(&mut duet, 1), "accepted", "a block may come any minute");
    duet.restart(BOB);
    duet.settle();
    assert_eq!(duet.must_fail(BOB, settle.clone()).code, 906);
    duet.mine(1);
    duet.must(BOB, settle);
    assert!(matches!(duet.answer(id), Some(Ok(Reply::Paid(_)))));
    duet.judge_agreement();
}

#[test]
fn a_held_payment_goes_back_in_time_though_no_block_is_seen() {
    let mut duet = opened(1_306);
    let id = pay_held(&mut duet, 1, 18);
    backend(&mut duet, BOB, false);
    let error = duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert!(error.code == 906 && error.message.contains("stays held"), "{}", error.message);
    duet.wait_ms(85 * MINUTE);
    assert_eq!(held(&mut duet, 1), "accepted");
    duet.wait_ms(10 * MINUTE);
    assert_eq!(held(&mut duet, 1), "cancelled", "nine blocks are reckoned with");
    assert!(matches!(duet.answer(id), Some(Err(_))));
    let error = duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert!(error.code == 906 && error.message.contains("went back"), "{}", error.message);
    assert_eq!(duet.balance_msat(ALICE), 600_000_000);
}

/// A first part waits, and the tip grows old; the last one completes the payment when the first is too near its expiry.
#[test]
fn a_payment_that_becomes_whole_too_late_is_not_taken() {
    // BOLT 2, 4 [2.expiry.4, 4.mpp.11].
    let mut town = Town::new(3, 1_307, signet);
    for payer in [ALICE, BOB] {
        town.open(payer, CAROL, Open { sat: 1_000_000, push_msat: 300_000_000, ..Open::default() });
    }
    let words = |town: &mut Town| {
        let tip_time_s = town.chain.blocks.last().map(|block| block.time_s);
        (0..3).for_each(|seat| town.step(seat, vec![Input::ChainSynced { tip_time_s }]));
        town.run();
    };
    let part = |town: &mut Town, payer: usize, bill: &view::Invoice, blocks: u32| {
        let order = Command::SendPart {
            route: town.route(&[payer, CAROL], AMOUNT, blocks),
            payment_hash: bill.payment_hash,
            payment_secret: Some(bill.payment_secret),
            total_msat: Some(Msat(2 * AMOUNT)),
            partid: 1,
            groupid: None,
            label: None,
            bolt11: None,
        };
        town.must(payer, order);
    };
    let before = town.balance_msat(CAROL);
    // Nine blocks are reckoned with from ninety minutes on.
    for _ in 0..17 {
        town.wait_ms(5 * MINUTE);
        words(&mut town);
    }
    for (late, label) in [(false, "in time"), (true, "too late")] {
        let bill = town.bill(CAROL, label, 2 * AMOUNT);
        if late {
            let tip_s = u64::from(town.chain.blocks.last().expect("a tip").time_s);
            town.wait_ms((tip_s + 90 * 60) * 1_000 - 20_000 - town.now.0);
            words(&mut town);
        }
        part(&mut town, ALICE, &bill, 18);
        if late {
            town.wait_ms(30_000);
        }
        part(&mut town, BOB, &bill, 60);
        let got = town.balance_msat(CAROL) - before;
        assert_eq!(got, 2 * AMOUNT, "{label}");
        for payer in [ALICE, BOB] {
            let list = Command::ListPays { payment_hash: Some(bill.payment_hash), bolt11: None };
            let Reply::Pays(pays) = town.must(payer, list) else { panic!("no list") };
            assert_eq!(pays[0].status, if late { "failed" } else { "complete" }, "{label} {payer}");
        }
    }
    town.judge_quiet();
}

/// A node in the middle sends nothing on while it does not see the chain, and knows what it sent on before.
#[test]
fn a_forward_waits_for_the_chain_too() {
    let mut town = Town::line(3, 1_308, signet);
    town.expected_errors.push("cannot be reached");
    let before = town.balance_msat(CAROL);
    town.step(BOB, vec![Input::ChainReachable(false)]);
    let bill = town.bill(CAROL, "tea", AMOUNT);
    let route = town.route(&[ALICE, BOB, CAROL], AMOUNT, 40);
    town.must(ALICE, Town::send_pay(route, &bill));
    assert!(town.forwards(BOB).is_empty());
    let tip_time_s = town.chain.blocks.last().map(|block| block.time_s);
    town.step(BOB, vec![Input::ChainReachable(true), Input::ChainSynced { tip_time_s }]);
    town.run();
    assert_eq!(town.forwards(BOB)[0].status, "settled");
    assert_eq!(town.balance_msat(CAROL) - before, AMOUNT);
    // One that went on, and a start that cannot see the chain: it still waits for its end.
    let hold = Some(preimage(4).hash());
    let bill = town.invoice(CAROL, InvoiceRequest { hold, ..request("held", Some(AMOUNT)) });
    let route = town.route(&[ALICE, BOB, CAROL], AMOUNT, 40);
    town.must(ALICE, Town::send_pay(route, &bill));
    town.restart(BOB);
    town.step(BOB, vec![Input::ChainReachable(false)]);
    town.wait_ms(15 * MINUTE);
    assert_eq!(town.forwards(BOB).iter().filter(|row| row.status == "offered").count(), 1);
    // Carol's own backend spoke a while ago.
    town.step(CAROL, vec![Input::ChainSynced { tip_time_s }]);
    town.must(CAROL, Command::SettleInvoice { preimage: preimage(4) });
    assert_eq!(town.forwards(BOB).iter().filter(|row| row.status == "settled").count(), 2);
    assert_eq!(town.balance_msat(CAROL) - before, 2 * AMOUNT);
    town.judge_quiet();
}
