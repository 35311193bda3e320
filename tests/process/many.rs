//! 483 HTLCs each way at once: as many as the protocol allows (BOLT 2, `max_accepted_htlcs`).

use chand_tests::books::{balance_adds_up, msat, shares};
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, ChannelType, Client, Node, World};
use serde_json::json;
use std::time::Duration;

const EACH_WAY: u64 = 483;
const AMOUNT_MSAT: u64 = 5_000_000;
/// Requests in flight on one connection.
const PER_CLIENT: u64 = 40;
const CAPACITY_MSAT: u64 = 20_000_000_000;

fn held(node: &Node) -> usize {
    let list = node.call("listinvoices", json!({}));
    list["invoices"].as_array().map_or(0, |l| l.iter().filter(|i| i["hold"] == "accepted").count())
}

/// Makes the invoices and begins to pay them; the connections on which the answers will come.
fn begin(from: &Node, to: &Node) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..EACH_WAY {
        if number.is_multiple_of(PER_CLIENT) {
            let mut client = from.client();
            client.set_patience(Duration::from_secs(180)).expect("a time-out");
            clients.push(client);
        }
        let bolt11 = to.hold_invoice(AMOUNT_MSAT, &format!("{number}"), &preimage(to.name(), number));
        let client = clients.last_mut().expect("a client");
        client.send("pay", &json!({ "bolt11": bolt11, "retry_for": 120 })).expect("asked");
    }
    clients
}

fn collect(clients: Vec<Client>) -> (usize, usize) {
    let (mut paid, mut refused) = (0, 0);
    let total = usize::try_from(EACH_WAY).expect("a count");
    let per_client = usize::try_from(PER_CLIENT).expect("a count");
    for (index, mut client) in clients.into_iter().enumerate() {
        for _ in 0..per_client.min(total - index * per_client) {
            match client.receive().expect("an answer").1 {
                Ok(_) => paid += 1,
                Err(e) => {
                    assert_eq!(e.code(), Some(203), "{e}");
                    refused += 1;
                }
            }
        }
    }
    (paid, refused)
}

#[test]
fn four_hundred_eighty_three_each_way() {
    let mut world = World::with_channel(CAPACITY_MSAT / 1000, CAPACITY_MSAT / 2, ChannelType::Anchors);
    let to_bob = begin(&world.alice, &world.bob);
    let to_alice = begin(&world.bob, &world.alice);
    for node in [&world.alice, &world.bob] {
        wait_for(&format!("all held by {}", node.name()), || match held(node) {
            483 => Ok(()),
            n => Err(format!("{n} held")),
        });
    }
    let (alice, bob) = (&world.alice, &world.bob);
    assert_eq!(alice.channel(bob)["htlcs"].as_array().map(Vec::len), Some(966));
    assert_eq!(shares(alice, bob), (CAPACITY_MSAT / 2, CAPACITY_MSAT / 2));
    balance_adds_up(alice);
    balance_adds_up(bob);

    // One more does not fit, and is refused without harm.
    let bolt11 = bob.invoice(AMOUNT_MSAT, "one too many");
    let error = alice.refusal("pay", json!({ "bolt11": bolt11, "retry_for": 1 }));
    assert!(matches!(error.code(), Some(200..=219)), "{error}");

    // The odd ones are taken, the even ones given back.
    for (node, number) in [alice, bob].into_iter().flat_map(|n| (0..EACH_WAY).map(move |i| (n, i))) {
        let secret = preimage(node.name(), number);
        if number % 2 == 1 {
            node.call("settleinvoice", json!({ "preimage": secret }));
        } else {
            node.call("cancelinvoice", json!({ "payment_hash": sha256(&secret) }));
        }
    }
    assert_eq!(collect(to_bob), (241, 242));
    assert_eq!(collect(to_alice), (241, 242));
    world.wait_quiet();
    let (a, b) = (world.alice.channel(&world.bob), world.bob.channel(&world.alice));
    assert_eq!(shares(&world.alice, &world.bob), (CAPACITY_MSAT / 2, CAPACITY_MSAT / 2));
    assert_eq!(msat(&a, "out_fulfilled_msat"), 241 * AMOUNT_MSAT);
    assert_eq!(msat(&b, "out_fulfilled_msat"), 241 * AMOUNT_MSAT);

    world.bob.kill_and_launch();
    world.wait_normal();
    let bolt11 = world.bob.invoice(AMOUNT_MSAT, "after all that");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
}
