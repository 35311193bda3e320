//! The seed's payment with four real nodes: Alice pays Dave 0.05 BTC through Bob and Carol, who earn 0.001 each.
//!
//! In: processes in a line, a route given by hand. Out: what each earned, to the millisatoshi; the same when the two on
//! the way are killed while the payment is held. Read next: `hold`.

use chand_tests::books::{balance_adds_up, msat, shares};
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, wait_until, Chain, ChannelType, Node, World};
use serde_json::{json, Value};

/// 0.001 BTC for each payment that goes on, a day between two expiries.
const TERMS: [&str; 6] = ["--fee-base", "100000000", "--fee-per-satoshi", "0", "--cltv-delta", "144"];
const CAPACITY_SAT: u64 = 10_000_000;
const PUSHED_MSAT: u64 = 1_000_000_000;

/// The seed's four, each with a channel to the next.
struct Line {
    world: World,
    carol: Node,
    dave: Node,
}

fn give_coin(chain: &Chain, node: &Node, sat: u64) {
    chain.send(&node.new_address(), sat);
    node.wait_height(chain.mine(1));
    wait_until("a coin in the wallet", || node.wallet_sat() >= sat);
}

fn ready(node: &Node, peer: &Node) {
    wait_for(&format!("{}'s channel with {}", node.name(), peer.name()), || {
        let channels = node.channels(peer);
        let fine = |c: &Value| {
            c["state"] == "CHANNELD_NORMAL" && c["peer_connected"] == true && c["reestablished"] != false
        };
        match channels.len() == 1 && channels.iter().all(fine) {
            true => Ok(()),
            false => Err(format!("{channels:?}")),
        }
    });
}

impl Line {
    fn new() -> Line {
        let world = World::with_options(&TERMS).opened(CAPACITY_SAT, PUSHED_MSAT, ChannelType::Anchors);
        let carol = Node::start("Carol", world.dir.path(), &world.chain, &TERMS);
        let dave = Node::start("Dave", world.dir.path(), &world.chain, &TERMS);
        let line = Line { world, carol, dave };
        for (from, to) in [(&line.world.bob, &line.carol), (&line.carol, &line.dave)] {
            give_coin(&line.world.chain, from, CAPACITY_SAT + 1_000_000);
            from.connect(to);
            let params =
                json!({ "id": to.id(), "amount": CAPACITY_SAT, "push_msat": PUSHED_MSAT, "announce": false });
            let funded = from.call("fundchannel", params);
            let txid = funded["txid"].as_str().expect("txid").to_string();
            wait_until("the funding in the mempool", || line.world.chain.mempool().contains(&txid));
            let height = line.world.chain.mine(1);
            line.nodes().iter().for_each(|node| node.wait_height(height));
            ready(from, to);
            ready(to, from);
        }
        line
    }

    fn nodes(&self) -> [&Node; 4] {
        [&self.world.alice, &self.world.bob, &self.carol, &self.dave]
    }

    /// The route to Dave for 0.05 BTC, each on it paid what it asks for.
    fn route(&self) -> Value {
        let [alice, bob, carol, dave] = self.nodes();
        let hop = |from: &Node, to: &Node, amount_msat: u64, delay: u64| {
            let channel = from.channel(to)["short_channel_id"].clone();
            json!({ "id": to.id(), "channel": channel, "amount_msat": amount_msat, "delay": delay })
        };
        json!([
            hop(alice, bob, 5_200_000_000, 432),
            hop(bob, carol, 5_100_000_000, 288),
            hop(carol, dave, 5_000_000_000, 144),
        ])
    }

    /// Dave holds the payment.
    fn begin(&self, label: &str) -> String {
        let [alice, _, _, dave] = self.nodes();
        let bolt11 = dave.hold_invoice(5_000_000_000, label, &preimage(label, 0));
        let decoded = dave.call("decode", json!({ "string": bolt11 }));
        let hash = decoded["payment_hash"].as_str().expect("payment_hash").to_string();
        let params = json!({
            "route": self.route(),
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

    fn wait_no_htlcs(&self) {
        for node in self.nodes() {
            wait_for(&format!("no HTLC left at {}", node.name()), || {
                let htlcs = node.call("listhtlcs", json!({}));
                match htlcs["htlcs"].as_array().map(Vec::len) {
                    Some(0) => Ok(()),
                    _ => Err(htlcs.to_string()),
                }
            });
        }
    }

    /// What is each one's in the three channels.
    fn money(&self) -> [u64; 4] {
        let [alice, bob, carol, dave] = self.nodes();
        let [ab, bc, cd] = [shares(alice, bob), shares(bob, carol), shares(carol, dave)];
        [ab.0, ab.1 + bc.0, bc.1 + cd.0, cd.1]
    }
}

fn forward(node: &Node) -> Value {
    let list = node.call("listforwards", json!({}));
    let rows = list["forwards"].as_array().expect("forwards").clone();
    rows.last().expect("a forward").clone()
}

#[test]
fn alice_pays_dave_and_each_on_the_way_earns_its_fee() {
    let line = Line::new();
    let [alice, bob, carol, dave] = line.nodes();
    let before = line.money();
    let hash = line.begin("the seed's");
    for (node, amount_in) in [(bob, 5_200_000_000), (carol, 5_100_000_000)] {
        let row = forward(node);
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
        let row = forward(node);
        assert_eq!((row["status"].as_str(), msat(&row, "fee_msat")), (Some("settled"), 100_000_000), "{row}");
    }
    line.nodes().into_iter().for_each(balance_adds_up);
}

#[test]
fn killed_while_it_is_held_those_on_the_way_still_pass_the_secret_on() {
    let mut line = Line::new();
    let before = line.money();
    let hash = line.begin("held");
    line.world.bob.kill_and_launch();
    line.carol.kill_and_launch();
    for (node, peer) in [(0, 1), (1, 2), (2, 3)] {
        ready(line.nodes()[node], line.nodes()[peer]);
        ready(line.nodes()[peer], line.nodes()[node]);
    }
    // The secret reaches Carol while Bob is away: she keeps it for him.
    line.world.bob.kill();
    line.dave.call("settleinvoice", json!({ "preimage": preimage("held", 0) }));
    wait_for("Carol to have her money", || match forward(&line.carol) {
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
    let line = Line::new();
    let [alice, _, carol, dave] = line.nodes();
    let before = line.money();
    let bolt11 = dave.invoice(5_000_000_000, "too cheap");
    let decoded = dave.call("decode", json!({ "string": bolt11 }));
    let mut route = line.route();
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
