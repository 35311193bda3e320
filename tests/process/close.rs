//! Closing by agreement: both get on chain exactly what they had, less the fee that the opener pays.

use chand_protocol::chain::Network;
use chand_tests::books::{msat, shares};
use chand_tests::{wait_for, ChannelType, Node, World};
use serde_json::{json, Value};

/// The part of a `close` answer that both old and new clients of Core Lightning find.
fn closing_txid(closed: &Value) -> String {
    let txid = closed["txids"][0].as_str().or(closed["txid"].as_str());
    txid.unwrap_or_else(|| panic!("no txid in {closed}")).to_string()
}

fn wait_wallet(node: &Node, sat: u64) {
    wait_for(&format!("{sat} sat in the wallet of {}", node.name()), || match node.wallet_sat() {
        now if now == sat => Ok(()),
        now => Err(format!("{now} sat")),
    });
}

fn wait_closed(node: &Node) -> Value {
    wait_for(&format!("the closed channel of {}", node.name()), || {
        let list = node.call("listclosedchannels", json!({}));
        let first = list["closedchannels"][0].clone();
        if first.is_null() {
            Err("none".to_string())
        } else {
            Ok(first)
        }
    })
}

fn close_by_agreement(kind: ChannelType, opener_closes: bool) {
    let world = World::with_channel(1_000_000, 300_000_000, kind);
    let (alice, bob) = (&world.alice, &world.bob);
    // 1,500 msat make both balances end in half a satoshi, which goes to the miner.
    let bolt11 = bob.invoice(50_001_500, "before the end");
    alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    let (a_msat, b_msat) = shares(alice, bob);
    assert_eq!((a_msat, b_msat), (649_998_500, 350_001_500));
    let (a_before, b_before) = (alice.wallet_sat(), bob.wallet_sat());

    let (closer, other) = if opener_closes { (alice, bob) } else { (bob, alice) };
    let closed = closer.call("close", json!({ "id": closer.channel(other)["channel_id"] }));
    assert_eq!(closed["type"], "mutual", "{closed}");
    let txid = closing_txid(&closed);
    let tx = world.chain.transaction(&txid);
    let fee = world.chain.fee(&tx);
    assert_eq!(tx.input.len(), 1);
    assert_eq!(tx.output.len(), 2);
    assert!(fee > 0 && fee < 10_000, "a sensible fee: {fee}");
    world.mine(1);
    wait_wallet(bob, b_before + b_msat / 1000);
    // The opener pays the fee, and the half satoshi that both balances end in is part of it.
    wait_wallet(alice, a_before + 1_000_000 - b_msat / 1000 - fee);

    for (node, ours) in [(alice, a_msat), (bob, b_msat)] {
        let entry = wait_closed(node);
        let asked = node.name() == closer.name();
        assert_eq!(entry["close_cause"], if asked { "user" } else { "remote" }, "{entry}");
        assert_eq!(entry["closer"], if asked { "local" } else { "remote" }, "{entry}");
        assert_eq!(entry["cause"]["trigger"], "agreed", "{entry}");
        assert_eq!(entry["cause"]["txids"], json!([txid]));
        let states = entry["state_changes"].as_array().expect("state_changes");
        assert_eq!(states.last().expect("one")["new_state"], "ONCHAIN", "{entry}");
        assert_eq!(msat(&entry, "final_to_us_msat"), ours);
        let funds = node.call("listfunds", json!({}));
        let coins: Vec<&Value> =
            funds["outputs"].as_array().expect("outputs").iter().filter(|o| o["txid"] == txid).collect();
        assert_eq!(coins.len(), 1, "one output is ours: {funds}");
    }
    // Closing what is closed is no second close.
    let again = alice.call("close", json!({ "id": closed_id(alice) }));
    assert_eq!(closing_txid(&again), txid, "{again}");
}

fn closed_id(node: &Node) -> Value {
    node.call("listclosedchannels", json!({}))["closedchannels"][0]["channel_id"].clone()
}

#[test]
fn the_opener_closes_with_anchors() {
    close_by_agreement(ChannelType::Anchors, true);
}

#[test]
fn the_other_closes_with_anchors() {
    close_by_agreement(ChannelType::Anchors, false);
}

#[test]
fn the_other_closes_with_static_remotekey() {
    close_by_agreement(ChannelType::StaticRemoteKey, false);
}

#[test]
fn a_share_that_is_dust_has_no_output() {
    let world = World::with_channel(1_000_000, 200_000, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let closed = alice.call("close", json!({ "id": bob.id() }));
    assert_eq!(closed["type"], "mutual", "{closed}");
    let tx = world.chain.transaction(&closing_txid(&closed));
    assert_eq!(tx.output.len(), 1, "200 sat are dust");
    world.mine(1);
    wait_closed(bob);
    assert_eq!(bob.wallet_sat(), 0);
}

#[test]
fn a_destination_of_choice() {
    let world = World::with_channel(1_000_000, 0, ChannelType::Anchors);
    let address = world.chain.call("getnewaddress", json!([]));
    let network = if world.chain.is_litecoin() { Network::LitecoinRegtest } else { Network::Regtest };
    let script = chand_protocol::address::read(address.as_str().expect("text"), network).expect("an address");
    let closed = world.alice.call("close", json!({ "id": world.bob.id(), "destination": address }));
    let tx = world.chain.transaction(&closing_txid(&closed));
    assert_eq!(tx.output.len(), 1);
    assert_eq!(tx.output[0].script_pubkey, script);
}

#[test]
fn htlcs_are_resolved_before_the_close() {
    let world = World::with_channel(1_000_000, 0, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let secret = chand_tests::hash::preimage("before the close", 0);
    let bolt11 = bob.hold_invoice(60_000_000, "before the close", &secret);
    let mut paying = alice.client();
    paying.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    wait_for("the payment to be held", || {
        let invoice = bob.invoice_of("before the close");
        if invoice["hold"] == "accepted" {
            Ok(())
        } else {
            Err(invoice.to_string())
        }
    });
    let mut closing = alice.client();
    closing.send("close", &json!({ "id": bob.id() })).expect("asked");
    wait_for("both to shut down", || {
        let states = [alice.channel(bob), bob.channel(alice)].map(|c| c["state"].clone());
        if states.iter().all(|s| s == "CHANNELD_SHUTTING_DOWN") {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });
    assert_eq!(world.chain.mempool(), Vec::<String>::new(), "nothing closes over an HTLC");
    // Nothing new is added any more.
    let late = bob.invoice(1_000, "too late");
    alice.refusal("pay", json!({ "bolt11": late, "retry_for": 1 }));

    bob.call("settleinvoice", json!({ "preimage": secret }));
    paying.receive().expect("an answer").1.expect("paid");
    let closed = closing.receive().expect("an answer").1.expect("closed");
    assert_eq!(closed["type"], "mutual", "{closed}");
    world.mine(1);
    wait_wallet(bob, 60_000);
}

#[test]
fn a_close_survives_a_kill() {
    let mut world = World::with_channel(1_000_000, 400_000_000, ChannelType::Anchors);
    // Bob is away: Alice says `shutdown` as soon as he is back, and then both die once more.
    world.bob.kill();
    let mut closing = world.alice.client();
    closing.send("close", &json!({ "id": world.bob.id(), "unilateraltimeout": 0 })).expect("asked");
    world.alice.call("getinfo", json!({}));
    world.bob.launch();
    world.alice.kill();
    world.alice.launch();
    let closed_by = |node: &Node| node.call("listclosedchannels", json!({}))["closedchannels"][0].clone();
    // Whether the order reached the disk before the kill is open; if not, it is given again.
    if world.alice.channel(&world.bob)["state"] == "CHANNELD_NORMAL" {
        world.wait_normal();
        world.alice.call("close", json!({ "id": world.bob.id() }));
    }
    wait_for("the closing transaction", || match world.chain.mempool().len() {
        1 => Ok(()),
        n => Err(format!("{n} in the mempool")),
    });
    world.mine(1);
    wait_wallet(&world.bob, 400_000);
    wait_closed(&world.alice);
    assert_eq!(closed_by(&world.alice)["close_cause"], "user");
}
