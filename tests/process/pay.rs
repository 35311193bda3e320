//! Open a channel, pay both ways, with and without an invoice: what both sides then say.

use chand_tests::books::{balance_adds_up, msat, shares};
use chand_tests::{ChannelType, Node, World};
use serde_json::{json, Value};

const CAPACITY_SAT: u64 = 1_000_000;
const PUSHED_MSAT: u64 = 400_000_000;

/// Pays an invoice made for this; both must say the same of it.
fn pay(from: &Node, to: &Node, amount_msat: u64, label: &str) -> Value {
    let bolt11 = to.invoice(amount_msat, label);
    let paid = from.call("pay", json!({ "bolt11": bolt11 }));
    assert_eq!(paid["status"], "complete", "{paid}");
    assert_eq!(msat(&paid, "amount_msat"), amount_msat);
    assert_eq!(msat(&paid, "amount_sent_msat"), amount_msat, "a direct payment costs nothing");
    let preimage = paid["payment_preimage"].as_str().expect("payment_preimage");
    assert_eq!(paid["payment_hash"], chand_tests::hash::sha256(preimage), "the preimage fits the hash");

    let invoice = to.invoice_of(label);
    assert_eq!(invoice["status"], "paid", "{invoice}");
    assert_eq!(msat(&invoice, "amount_received_msat"), amount_msat);
    assert_eq!(invoice["payment_preimage"], preimage);

    let listed = from.call("listpays", json!({ "bolt11": bolt11 }));
    assert_eq!(listed["pays"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["pays"][0]["status"], "complete");
    assert_eq!(listed["pays"][0]["destination"], to.id());
    paid
}

fn open_and_pay_both_ways(kind: ChannelType) {
    let world = World::with_channel(CAPACITY_SAT, PUSHED_MSAT, kind);
    let (alice, bob) = (&world.alice, &world.bob);
    assert_eq!(shares(alice, bob), (600_000_000, 400_000_000));

    pay(alice, bob, 100_000_000, "a large one");
    pay(bob, alice, 1_234_567, "with millisatoshi");
    pay(alice, bob, 1, "the smallest");
    world.wait_quiet();
    assert_eq!(shares(alice, bob), (501_234_566, 498_765_434));
    balance_adds_up(alice);
    balance_adds_up(bob);

    let (a, b) = (alice.channel(bob), bob.channel(alice));
    assert_eq!(a["opener"], "local");
    assert_eq!(b["opener"], "remote");
    assert_eq!(a["channel_type"]["bits"], json!(kind.bits()));
    for (one, other) in [(&a, &b), (&b, &a)] {
        for (out, into) in [
            ("out_payments_offered", "in_payments_offered"),
            ("out_offered_msat", "in_offered_msat"),
            ("out_payments_fulfilled", "in_payments_fulfilled"),
            ("out_fulfilled_msat", "in_fulfilled_msat"),
        ] {
            assert_eq!(one[out], other[into], "{out}");
        }
        assert_eq!(one["our_reserve_msat"], other["their_reserve_msat"]);
        assert_eq!(one["short_channel_id"], other["short_channel_id"]);
        assert_eq!(one["channel_id"], other["channel_id"]);
        assert_eq!(one["funding_txid"], other["funding_txid"]);
        assert_eq!(one["feerate"], other["feerate"]);
        // Each can send what it has beyond its reserve and its fees, and the other knows how much that is.
        assert!(msat(one, "spendable_msat") <= msat(one, "to_us_msat") - msat(one, "our_reserve_msat"));
        // The opener keeps a reserve for a rise of fees that the other does not count on.
        let (spendable, receivable) = (msat(one, "spendable_msat"), msat(other, "receivable_msat"));
        assert!(spendable <= receivable && receivable - spendable < 2_000_000, "{spendable}, {receivable}");
    }
    assert_eq!(a["out_payments_fulfilled"], 2);
    assert_eq!(msat(&a, "out_fulfilled_msat"), 100_000_001);
    assert_eq!(b["out_payments_fulfilled"], 1);
    assert_eq!(msat(&a, "total_msat"), CAPACITY_SAT * 1000);
    assert_eq!(msat(&a, "our_reserve_msat"), CAPACITY_SAT * 10, "one percent");
}

#[test]
fn open_and_pay_both_ways_with_anchors() {
    open_and_pay_both_ways(ChannelType::Anchors);
}

#[test]
fn open_and_pay_both_ways_with_static_remotekey() {
    open_and_pay_both_ways(ChannelType::StaticRemoteKey);
}

#[test]
fn all_that_is_spendable_can_be_spent_and_not_a_satoshi_more() {
    let world = World::with_channel(CAPACITY_SAT, PUSHED_MSAT, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    for (from, to) in [(alice, bob), (bob, alice)] {
        let spendable = msat(&from.channel(to), "spendable_msat");
        let bolt11 = to.invoice(spendable + 1_000, &format!("too much for {}", from.name()));
        let error = from.refusal("pay", json!({ "bolt11": bolt11, "retry_for": 1 }));
        assert!(matches!(error.code(), Some(200..=219)), "{error}");
        pay(from, to, spendable, &format!("all of {}", from.name()));
        world.wait_quiet();
        shares(from, to);
    }
    balance_adds_up(alice);
    balance_adds_up(bob);
}

#[test]
fn keysend_needs_no_invoice() {
    let world = World::with_channel(CAPACITY_SAT, 0, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let sent = alice.call("keysend", json!({ "destination": bob.id(), "amount_msat": 25_000_000 }));
    assert_eq!(sent["status"], "complete", "{sent}");
    let preimage = sent["payment_preimage"].as_str().expect("payment_preimage");
    assert_eq!(sent["payment_hash"], chand_tests::hash::sha256(preimage));
    world.wait_quiet();
    assert_eq!(shares(alice, bob), (975_000_000, 25_000_000));
    let received = bob.call("listinvoices", json!({ "payment_hash": sent["payment_hash"] }));
    assert_eq!(received["invoices"][0]["status"], "paid", "{received}");
    assert_eq!(msat(&received["invoices"][0], "amount_received_msat"), 25_000_000);
}

#[test]
fn waiters_hear_of_a_payment() {
    let world = World::with_channel(CAPACITY_SAT, 0, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let bolt11 = bob.invoice(5_000, "waited for");
    let (mut one, mut any) = (bob.client(), bob.client());
    one.send("waitinvoice", &json!({ "label": "waited for" })).expect("asked");
    any.send("waitanyinvoice", &json!({ "lastpay_index": 0 })).expect("asked");
    alice.call("pay", json!({ "bolt11": bolt11 }));
    for waiter in [&mut one, &mut any] {
        let (_, answer) = waiter.receive().expect("an answer");
        let invoice = answer.expect("the invoice");
        assert_eq!(invoice["label"], "waited for");
        assert_eq!(invoice["status"], "paid");
        assert_eq!(invoice["pay_index"], 1);
    }
}

#[test]
fn paying_twice_moves_money_once() {
    let world = World::with_channel(CAPACITY_SAT, 0, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let bolt11 = bob.invoice(70_000, "once");
    let (mut one, mut other) = (alice.client(), alice.client());
    one.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    other.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    let answers = [one.receive().expect("an answer").1, other.receive().expect("an answer").1];
    // The second is told of the first, or that one is under way; at least one saw it through.
    assert!(answers.iter().any(Result::is_ok), "{answers:?}");
    let again = alice.call("pay", json!({ "bolt11": bolt11 }));
    assert_eq!(again["status"], "complete");
    world.wait_quiet();
    assert_eq!(shares(alice, bob), (999_930_000, 70_000));
    assert_eq!(alice.channel(bob)["out_payments_fulfilled"], 1);
}
