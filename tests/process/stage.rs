//! What tests of unilateral closes share: nodes that may cheat, HTLCs that wait, and the accounts at the end.
//!
//! In: a kind of channel. Out: Alice and Bob with coins for fees and a channel of which both have a part.
//! Read next: `onchain`, `penalty`.

use bitcoin::{OutPoint, Transaction};
use chand_tests::hash::{preimage, sha256};
use chand_tests::trail::Trail;
use chand_tests::{wait_for, ChannelType, Node, World};
use serde_json::{json, Value};

/// What the channel holds, in satoshi.
pub const CAPACITY_SAT: u64 = 1_000_000;
/// What Bob has of it at first.
pub const BOBS_SAT: u64 = 400_000;
/// How long, in blocks, whoever closes waits (regtest's `--to-self-delay`).
pub const CSV: u64 = 6;
/// For fees of transactions that cannot pay their own.
const PURSE_SAT: u64 = 500_000;

/// Two nodes with `--dev` and a channel that Alice opened.
pub fn world(kind: ChannelType) -> World {
    with_channel(World::with_options(&["--dev"]), kind)
}

/// Coins for both, and the channel.
pub fn with_channel(world: World, kind: ChannelType) -> World {
    world.fund(&world.bob, PURSE_SAT);
    world.opened(CAPACITY_SAT, BOBS_SAT * 1_000, kind)
}

/// The name of the one channel.
pub fn channel_id(node: &Node, peer: &Node) -> Value {
    node.channel(peer)["channel_id"].clone()
}

/// Its funding output.
pub fn funding(node: &Node, peer: &Node) -> OutPoint {
    let channel = node.channel(peer);
    let txid = channel["funding_txid"].as_str().and_then(|t| t.parse().ok()).expect("a txid");
    let vout = channel["funding_outnum"].as_u64().and_then(|v| u32::try_from(v).ok()).expect("an index");
    OutPoint { txid, vout }
}

/// Begins a payment that the payee holds; when it is held by both, there is one HTLC more.
pub fn hold(from: &Node, to: &Node, sat: u64, label: &str) {
    let bolt11 = to.hold_invoice(sat * 1_000, label, &preimage(label, 0));
    // Nobody waits for the answer: `listpays` tells.
    from.client().send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    wait_for("the payment to be held", || match to.invoice_of(label) {
        invoice if invoice["hold"] == "accepted" => Ok(()),
        invoice => Err(invoice.to_string()),
    });
}

/// The payee of a held payment shows its secret.
pub fn settle(payee: &Node, label: &str) {
    payee.call("settleinvoice", json!({ "preimage": preimage(label, 0) }));
}

/// The payee of a held payment gives it back.
pub fn cancel(payee: &Node, label: &str) {
    payee.call("cancelinvoice", json!({ "payment_hash": sha256(&preimage(label, 0)) }));
}

/// How a payment stands with its payer.
pub fn status(payer: &Node, label: &str) -> String {
    let hash = sha256(&preimage(label, 0));
    let pays = payer.call("listpays", json!({ "payment_hash": hash }));
    pays["pays"][0]["status"].as_str().unwrap_or("none").to_string()
}

/// Waits until a payment stands so with its payer.
pub fn wait_status(payer: &Node, label: &str, wanted: &str) {
    wait_for(&format!("“{label}” to be {wanted}"), || match status(payer, label) {
        now if now == wanted => Ok(()),
        now => Err(now),
    });
}

/// The newest commitment of a node that both agreed on: its number in `listsnapshots`.
pub fn newest(node: &Node, peer: &Node) -> u64 {
    wait_for("a snapshot that is not about to change", || {
        let list = node.call("listsnapshots", json!({ "channel_id": channel_id(node, peer), "limit": 1 }));
        let first = &list["snapshots"][0];
        match first["number"].as_u64() {
            Some(number) if first["status"] == "current" => Ok(number),
            _ => Err(first.to_string()),
        }
    })
}

/// The transaction in the newest block that spends an output.
pub fn spender_in_tip(world: &World, outpoint: &OutPoint) -> Transaction {
    let block = world.chain.block(world.chain.height());
    let spends = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == *outpoint);
    block.txdata.iter().find(spends).cloned().unwrap_or_else(|| panic!("{outpoint} is not spent in the tip"))
}

/// The output of a commitment with so many satoshi.
pub fn output_of(tx: &Transaction, sat: u64) -> OutPoint {
    let found: Vec<u32> =
        (0..).zip(&tx.output).filter(|(_, o)| o.value.to_sat() == sat).map(|(v, _)| v).collect();
    assert_eq!(found.len(), 1, "one output of {sat} sat: {tx:?}");
    OutPoint { txid: tx.compute_txid(), vout: found[0] }
}

/// The entry of `listclosedchannels`.
pub fn closed(node: &Node) -> Value {
    wait_for(&format!("the closed channel of {}", node.name()), || {
        let entry = node.call("listclosedchannels", json!({}))["closedchannels"][0].clone();
        if entry.is_null() {
            Err("none".to_string())
        } else {
            Ok(entry)
        }
    })
}

/// What both have on chain.
#[derive(Clone, Copy, Debug)]
pub struct Purses {
    alice_sat: u64,
    bob_sat: u64,
}

impl Purses {
    /// As `listfunds` says.
    pub fn of(world: &World) -> Purses {
        Purses { alice_sat: world.alice.wallet_sat(), bob_sat: world.bob.wallet_sat() }
    }

    /// By how much a node's purse grew since.
    pub fn gained(self, node: &Node) -> i64 {
        let before = if node.name() == "Alice" { self.alice_sat } else { self.bob_sat };
        signed(node.wallet_sat()) - signed(before)
    }
}

fn signed(sat: u64) -> i64 {
    i64::try_from(sat).expect("satoshi")
}

/// Mines, block by block, until every output of the commitment is in somebody's wallet.
pub fn resolve(world: &World, commitment: &Transaction, since: u64, most_blocks: u64) -> Trail {
    let nodes = [&world.alice, &world.bob];
    let mut trail = Trail::read(&world.chain, commitment, since, &nodes);
    for _ in 0..most_blocks {
        if trail.is_over() {
            return trail;
        }
        world.mine(1);
        trail = Trail::read(&world.chain, commitment, since, &nodes);
    }
    assert!(trail.is_over(), "after {most_blocks} blocks: {trail:?}");
    trail
}

/// Both purses grew by what the node took from the commitment, less the fees it paid; and by `bobs_sat` for Bob, all
/// else for Alice, before fees.
pub fn accounts(world: &World, before: Purses, trail: &Trail, bobs_sat: u64) {
    let all: u64 = trail.ends.iter().filter(|e| e.owner.is_some()).map(|e| e.sat).sum();
    let anchors = |node: &Node| {
        let anchor = |e: &&chand_tests::trail::End| e.sat == chand_tests::trail::ANCHOR_SAT;
        trail.ends.iter().filter(|e| e.owner == Some(node.name())).filter(anchor).map(|e| e.sat).sum::<u64>()
    };
    assert_eq!(trail.owned(&world.bob) - anchors(&world.bob), bobs_sat, "{trail:?}");
    assert_eq!(trail.owned(&world.alice) + trail.owned(&world.bob), all, "{trail:?}");
    for node in [&world.alice, &world.bob] {
        let must = signed(trail.owned(node)) - signed(trail.fees(node));
        wait_for(&format!("{} to have {must} sat more", node.name()), || match before.gained(node) {
            now if now == must => Ok(()),
            now => Err(format!("{now} sat; {trail:?}")),
        });
        assert!(trail.fees(node) < 40_000, "{} paid {} sat in fees", node.name(), trail.fees(node));
        assert!(!node.log().contains("a bug of chand"), "{} met a bug of its own", node.name());
    }
}
