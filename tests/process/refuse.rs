//! Payments that must fail: nothing moves, and the words say why.

use chand_tests::books::shares;
use chand_tests::{wait_until, ChannelType, World};
use serde_json::{json, Value};

fn world() -> World {
    World::with_channel(1_000_000, 300_000_000, ChannelType::Anchors)
}

/// Nothing moved, nothing hangs.
fn nothing_happened(world: &World) {
    world.wait_quiet();
    assert_eq!(shares(&world.alice, &world.bob), (700_000_000, 300_000_000));
    assert_eq!(world.alice.channel(&world.bob)["state"], "CHANNELD_NORMAL");
}

#[test]
fn an_unknown_hash() {
    let world = world();
    let bolt11 = world.bob.invoice(10_000, "forgotten");
    world.bob.call("delinvoice", json!({ "label": "forgotten", "status": "unpaid" }));
    let error = world.alice.refusal("pay", json!({ "bolt11": bolt11 }));
    assert_eq!(error.code(), Some(203), "{error}");
    let pays = world.alice.call("listpays", json!({ "bolt11": bolt11 }));
    assert_eq!(pays["pays"][0]["status"], "failed", "{pays}");
    nothing_happened(&world);
}

/// Sends one hop by hand.
fn send(world: &World, decoded: &Value, amount_msat: u64, secret: &Value) {
    let route = json!([{
        "id": world.bob.id(),
        "channel": world.alice.channel(&world.bob)["short_channel_id"],
        "delay": 40,
        "amount_msat": amount_msat,
    }]);
    let params = json!({ "route": route, "payment_hash": decoded["payment_hash"], "payment_secret": secret });
    world.alice.call("sendpay", params);
    let error =
        world.alice.refusal("waitsendpay", json!({ "payment_hash": decoded["payment_hash"], "timeout": 30 }));
    assert_eq!(error.code(), Some(203), "{error}");
}

#[test]
fn a_wrong_amount_and_a_wrong_secret() {
    let world = world();
    let invoice =
        world.bob.call("invoice", json!({ "amount_msat": 50_000, "label": "exact", "description": "" }));
    let decoded = world.alice.call("decode", json!({ "string": invoice["bolt11"] }));
    send(&world, &decoded, 49_999, &invoice["payment_secret"]);
    send(&world, &decoded, 100_001, &invoice["payment_secret"]);
    send(&world, &decoded, 50_000, &json!("11".repeat(32)));
    assert_eq!(world.bob.invoice_of("exact")["status"], "unpaid");
    nothing_happened(&world);

    // The same invoice can still be paid as it should be.
    world.alice.call("pay", json!({ "bolt11": invoice["bolt11"] }));
    assert_eq!(world.bob.invoice_of("exact")["status"], "paid");
}

#[test]
fn an_expired_invoice() {
    let world = world();
    let params = json!({ "amount_msat": 9_000, "label": "brief", "description": "tea", "expiry": 1 });
    let invoice = world.bob.call("invoice", params);
    wait_until("its end", || world.bob.invoice_of("brief")["status"] == "expired");
    let error = world.alice.refusal("pay", json!({ "bolt11": invoice["bolt11"] }));
    assert_eq!(error.code(), Some(207), "{error}");
    assert_eq!(world.bob.invoice_of("brief")["status"], "expired");
    nothing_happened(&world);
}

#[test]
fn nobody_to_pay_to() {
    let world = world();
    let stranger = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
    let error = world
        .alice
        .refusal("keysend", json!({ "destination": stranger, "amount_msat": 1_000, "retry_for": 1 }));
    assert_eq!(error.code(), Some(205), "{error}");
    nothing_happened(&world);
}

#[test]
fn text_that_is_no_invoice() {
    let world = world();
    let good = world.bob.invoice(1_000, "to be damaged");
    let other = if good.ends_with('q') { "p" } else { "q" };
    let damaged = format!("{}{other}", &good[..good.len() - 1]);
    let swapped = good.to_uppercase().replace('Q', "q");
    for bad in ["", "tea", "lnbc1", damaged.as_str(), swapped.as_str()] {
        let error = world.alice.refusal("pay", json!({ "bolt11": bad }));
        assert_eq!(error.code(), Some(-32602), "{bad}: {error}");
        assert!(error.message().contains("bolt11"), "the parameter is named: {error}");
    }
    // An invoice of another network is refused before anything is sent.
    // It comes from BOLT 11's examples.
    let mainnet = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5\
                   rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne\
                   0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
    world.alice.refusal("pay", json!({ "bolt11": mainnet }));
    nothing_happened(&world);
}

#[test]
fn openings_that_cannot_be() {
    let world = World::new();
    let (alice, bob) = (&world.alice, &world.bob);
    alice.connect(bob);
    let open = |amount: Value| {
        alice.refusal("fundchannel", json!({ "id": bob.id(), "amount": amount, "announce": false }))
    };
    let error = open(json!(500_000));
    assert_eq!(error.code(), Some(301), "no coins: {error}");
    world.fund(alice, 2_000_000);
    for amount in [json!(3_000_000), json!("all the tea"), json!(-1)] {
        open(amount);
    }
    let dust = open(json!(100));
    assert!(dust.code().is_some_and(|code| code != -32603), "{dust}");
    let pushed =
        json!({ "id": bob.id(), "amount": 500_000, "push_msat": 500_000_001_u64, "announce": false });
    alice.refusal("fundchannel", pushed);
    assert_eq!(world.chain.mempool(), Vec::<String>::new());
    assert_eq!(alice.wallet_sat(), 2_000_000);
    assert!(alice.channels(bob).is_empty(), "nothing is left of them");
    // And a good one still opens.
    world.open(alice, bob, 500_000, 0, ChannelType::Anchors);
}
