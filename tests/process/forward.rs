//! The seed's payment with four real nodes: Alice pays Dave 0.05 BTC through Bob and Carol, who earn 0.001 each.
//!
//! In: processes in a line, a route given by hand. Out: what each earned, to the millisatoshi; the same when the two on
//! the way are killed while the payment is held. Read next: `hold`.

use crate::line::{ready, Line};
use chand_tests::books::{balance_adds_up, msat};
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, Node};
use serde_json::{json, Value};

/// The route to Dave for 0.05 BTC, each on it paid what it asks for.
fn route(line: &Line) -> Value {
    let [alice, bob, carol, dave] = line.nodes();
    let hop = |from: &Node, to: &Node, amount_msat: u64, delay: u64| {
        // Private channels go by their aliases only.
        let channel = from.channel(to)["alias"]["local"].clone();
        json!({ "id": to.id(), "channel": channel, "amount_msat": amount_msat, "delay": delay })
    };
    json!([
        hop(alice, bob, 5_200_000_000, 432),
        hop(bob, carol, 5_100_000_000, 288),
        hop(carol, dave, 5_000_000_000, 144),
    ])
}

/// Dave holds the payment.
fn begin(line: &Line, label: &str) -> String {
    let [alice, _, _, dave] = line.nodes();
    let bolt11 = dave.hold_invoice(5_000_000_000, label, &preimage(label, 0));
    let decoded = dave.call("decode", json!({ "string": bolt11 }));
    let hash = decoded["payment_hash"].as_str().expect("payment_hash").to_string();
    let params = json!({
        "route": route(line),
        "payment_hash": hash,
        "payment_secret": decoded["payment_secret"],
        "bolt11": bolt11,
    });
    assert_eq!(alice.call("sendpay", params)["status"], "pending");
    wait_for("Dave to hold it", || match dave.invoice_of(label) {
        invoice if invoice["hold"] == "accepted" => Ok(()),
        invoice => Err(invoice.to_string()),
    });
    hash
}

#[test]
fn alice_pays_dave_and_each_on_the_way_earns_its_fee() {
    let line = Line::new(false);
    let [alice, bob, carol, dave] = line.nodes();
    let before = line.money();
    let hash = begin(&line, "the seed's");
    for (node, amount_in) in [(bob, 5_200_000_000), (carol, 5_100_000_000)] {
        let row = Line::forward(node);
        assert_eq!((row["status"].as_str(), msat(&row, "in_msat")), (Some("offered"), amount_in), "{row}");
    }
    let expiry =
        |node: &Node, peer: &Node| node.channel(peer)["htlcs"][0]["expiry"].as_u64().expect("expiry");
    let expiries = [expiry(alice, bob), expiry(bob, carol), expiry(carol, dave)];
    assert_eq!([expiries[0] - expiries[1], expiries[1] - expiries[2]], [144, 144], "a day apart");
    dave.call("settleinvoice", json!({ "preimage": preimage("the seed's", 0) }));
    let paid = alice.call("waitsendpay", json!({ "payment_hash": hash }));
    assert_eq!((paid["status"].as_str(), msat(&paid, "amount_sent_msat")), (Some("complete"), 5_200_000_000));
    assert_eq!(sha256(paid["payment_preimage"].as_str().expect("a preimage")), hash);
    line.wait_no_htlcs();
    let moved: Vec<i64> =
        line.money().iter().zip(before).map(|(now, then)| *now as i64 - then as i64).collect();
    assert_eq!(moved, [-5_200_000_000, 100_000_000, 100_000_000, 5_000_000_000]);
    for node in [bob, carol] {
        let row = Line::forward(node);
        assert_eq!((row["status"].as_str(), msat(&row, "fee_msat")), (Some("settled"), 100_000_000), "{row}");
    }
    line.nodes().into_iter().for_each(balance_adds_up);
}

#[test]
fn killed_while_it_is_held_those_on_the_way_still_pass_the_secret_on() {
    let mut line = Line::new(false);
    let before = line.money();
    let hash = begin(&line, "held");
    line.world.bob.kill_and_launch();
    line.carol.kill_and_launch();
    for (node, peer) in [(0, 1), (1, 2), (2, 3)] {
        ready(line.nodes()[node], line.nodes()[peer]);
        ready(line.nodes()[peer], line.nodes()[node]);
    }
    // The secret reaches Carol while Bob is away: she keeps it for him.
    line.world.bob.kill();
    line.dave.call("settleinvoice", json!({ "preimage": preimage("held", 0) }));
    wait_for("Carol to have her money", || match Line::forward(&line.carol) {
        row if row["status"] == "settled" => Ok(()),
        row => Err(row.to_string()),
    });
    line.carol.kill_and_launch();
    line.world.bob.launch();
    let paid = line.world.alice.call("waitsendpay", json!({ "payment_hash": hash }));
    assert_eq!(paid["status"], "complete");
    line.wait_no_htlcs();
    let moved: Vec<i64> =
        line.money().iter().zip(before).map(|(now, then)| *now as i64 - then as i64).collect();
    assert_eq!(moved, [-5_200_000_000, 100_000_000, 100_000_000, 5_000_000_000]);
    line.nodes().into_iter().for_each(balance_adds_up);
}

#[test]
fn a_hop_that_asks_for_more_is_named() {
    let line = Line::new(false);
    let [alice, _, carol, dave] = line.nodes();
    let before = line.money();
    let bolt11 = dave.invoice(5_000_000_000, "too cheap");
    let decoded = dave.call("decode", json!({ "string": bolt11 }));
    let mut route = route(&line);
    route[1]["amount_msat"] = json!(5_099_999_999_u64);
    let params = json!({
        "route": route,
        "payment_hash": decoded["payment_hash"],
        "payment_secret": decoded["payment_secret"],
    });
    alice.call("sendpay", params);
    let refused = alice.refusal("waitsendpay", json!({ "payment_hash": decoded["payment_hash"] }));
    let words = refused.to_string();
    assert!(words.contains("fee_insufficient") && words.contains(carol.id()), "{words}");
    assert_eq!(refused.code(), Some(204));
    line.wait_no_htlcs();
    assert_eq!(line.money(), before);
}
