//! Hold invoices: HTLCs that stay until their R is shown or they are given back.

use chand_tests::books::{balance_adds_up, msat, shares};
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, ChannelType, Client, Node, World};
use serde_json::json;

/// Begins to pay a hold invoice and waits until the payee holds it; the connection on which the answer will come.
fn begin(from: &Node, to: &Node, amount_msat: u64, label: &str) -> Client {
    let bolt11 = to.hold_invoice(amount_msat, label, &preimage(label, 0));
    let mut client = from.client();
    client.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    wait_for("the payment to be held", || {
        let invoice = to.invoice_of(label);
        if invoice["hold"] == "accepted" {
            Ok(())
        } else {
            Err(invoice.to_string())
        }
    });
    client
}

#[test]
fn one_is_settled_and_one_given_back() {
    let world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let mut to_settle = begin(alice, bob, 40_000_000, "to settle");
    let mut to_cancel = begin(alice, bob, 30_000_000, "to cancel");
    let mut back = begin(bob, alice, 20_000_000, "the other way");
    assert_eq!(shares(alice, bob), (500_000_000, 500_000_000), "an offered HTLC is still the offerer's");
    balance_adds_up(alice);
    balance_adds_up(bob);
    let htlcs = alice.channel(bob)["htlcs"].as_array().cloned().unwrap_or_default();
    assert_eq!(htlcs.len(), 3, "{htlcs:?}");
    assert_eq!(htlcs.iter().filter(|h| h["direction"] == "out").count(), 2);
    assert_eq!(htlcs.iter().map(|h| msat(h, "amount_msat")).sum::<u64>(), 90_000_000);

    let settled = bob.call("settleinvoice", json!({ "preimage": preimage("to settle", 0) }));
    assert_eq!(settled["payment_hash"], sha256(&preimage("to settle", 0)));
    let paid = to_settle.receive().expect("an answer").1.expect("paid");
    assert_eq!(paid["payment_preimage"], preimage("to settle", 0));
    assert_eq!(bob.invoice_of("to settle")["hold"], "settled");
    assert_eq!(bob.invoice_of("to settle")["status"], "paid");

    bob.call("cancelinvoice", json!({ "payment_hash": sha256(&preimage("to cancel", 0)) }));
    let refused = to_cancel.receive().expect("an answer").1.expect_err("given back");
    assert_eq!(refused.code(), Some(203), "{refused}");
    assert_eq!(bob.invoice_of("to cancel")["hold"], "cancelled");

    alice.call("settleinvoice", json!({ "preimage": preimage("the other way", 0) }));
    back.receive().expect("an answer").1.expect("paid");
    world.wait_quiet();
    assert_eq!(shares(alice, bob), (480_000_000, 520_000_000));
}

#[test]
fn what_is_decided_stays_decided() {
    let world = World::with_channel(1_000_000, 0, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    bob.refusal("settleinvoice", json!({ "preimage": preimage("never heard of", 0) }));
    bob.refusal("cancelinvoice", json!({ "payment_hash": preimage("never heard of", 1) }));

    let mut settled = begin(alice, bob, 10_000_000, "taken");
    bob.call("settleinvoice", json!({ "preimage": preimage("taken", 0) }));
    settled.receive().expect("an answer").1.expect("paid");
    bob.refusal("cancelinvoice", json!({ "payment_hash": sha256(&preimage("taken", 0)) }));

    let mut cancelled = begin(alice, bob, 10_000_000, "returned");
    bob.call("cancelinvoice", json!({ "payment_hash": sha256(&preimage("returned", 0)) }));
    cancelled.receive().expect("an answer").1.expect_err("given back");
    bob.refusal("settleinvoice", json!({ "preimage": preimage("returned", 0) }));
    world.wait_quiet();
    assert_eq!(shares(alice, bob), (990_000_000, 10_000_000));
}

#[test]
fn they_outlive_a_kill_of_both() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    drop(begin(&world.alice, &world.bob, 40_000_000, "settled later"));
    drop(begin(&world.bob, &world.alice, 30_000_000, "returned later"));
    world.alice.kill();
    world.bob.kill();
    world.bob.launch();
    world.alice.launch();
    world.wait_normal();
    let (alice, bob) = (&world.alice, &world.bob);
    assert_eq!(alice.channel(bob)["htlcs"].as_array().map(Vec::len), Some(2));
    assert_eq!(shares(alice, bob), (500_000_000, 500_000_000));
    assert_eq!(bob.invoice_of("settled later")["hold"], "accepted");

    bob.call("settleinvoice", json!({ "preimage": preimage("settled later", 0) }));
    alice.call("cancelinvoice", json!({ "payment_hash": sha256(&preimage("returned later", 0)) }));
    world.wait_quiet();
    assert_eq!(shares(alice, bob), (460_000_000, 540_000_000));
    let status = |node: &Node, label: &str| {
        let hash = sha256(&preimage(label, 0));
        node.call("listpays", json!({ "payment_hash": hash }))["pays"][0]["status"].clone()
    };
    assert_eq!(status(alice, "settled later"), "complete");
    assert_eq!(status(bob, "returned later"), "failed");
}
