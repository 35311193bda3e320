//! Payments that cross both implementations: LDK pays through us, we pay through LDK, in parts, held while somebody is
//! killed, and past a channel that LDK closes by force.
//!
//! In: nothing. Out: each payment complete for all or for none, fees as announced.
//! Read next: `row`.

use crate::row::{Row, CAPACITY_SAT};
use chand_tests::books::msat;
use chand_tests::hash::sha256;
use chand_tests::wait_for;
use serde_json::json;

/// A payment within every channel.
const AMOUNT_MSAT: u64 = 100_000_000;
/// What each of ours asks for a payment that goes on: 1 sat and ten millionths.
fn fee(amount_msat: u64) -> u64 {
    1_000 + amount_msat * 10 / 1_000_000
}

#[test]
fn ldk_pays_through_us_and_we_through_ldk() {
    let row = Row::new(11, 1);
    // LDK → Bob → Carol: LDK has Bob's terms from his gossip.
    let bolt11 = row.carol.invoice(AMOUNT_MSAT, "from LDK");
    let hash = row.carol.call("decode", json!({ "string": bolt11 }))["payment_hash"].clone();
    row.ldk.pay(&bolt11).expect("LDK begins to pay");
    let sent = row.ldk.wait_payment("payment-successful", hash.as_str().expect("a hash"));
    assert_eq!(msat(&sent, "fee_msat"), fee(AMOUNT_MSAT), "{sent}");
    assert_eq!(sha256(sent["preimage"].as_str().expect("a preimage")), hash);
    assert_eq!(row.bobs_forwards(1), [("settled".to_string(), fee(AMOUNT_MSAT))]);

    // Alice → LDK → Bob → Carol and back: we have LDK's terms from its gossip.
    let bolt11 = row.carol.invoice(AMOUNT_MSAT, "from Alice");
    let paid = row.alice.call("pay", json!({ "bolt11": bolt11 }));
    assert_eq!(sha256(paid["payment_preimage"].as_str().expect("a preimage")), paid["payment_hash"]);
    let ldks = forwarded(&row, 1);
    assert_eq!(msat(&paid, "amount_sent_msat"), AMOUNT_MSAT + fee(AMOUNT_MSAT) + ldks);
    let bolt11 = row.alice.invoice(AMOUNT_MSAT / 2, "back");
    let paid = row.carol.call("pay", json!({ "bolt11": bolt11 }));
    assert!(msat(&paid, "amount_sent_msat") > AMOUNT_MSAT / 2);
    forwarded(&row, 2);

    // LDK passes our failure on to us: the secret is for Carol's eyes only, and she does not know the invoice any more.
    let bolt11 = row.carol.invoice(AMOUNT_MSAT, "gone");
    row.carol.call("delinvoice", json!({ "label": "gone", "status": "unpaid" }));
    let refused = row.alice.refusal("pay", json!({ "bolt11": bolt11 })).to_string();
    assert!(refused.contains("incorrect_or_unknown_payment_details"), "{refused}");
    row.at_rest();
}

/// What LDK earned with the newest of so many payments that it sent on.
fn forwarded(row: &Row, count: usize) -> u64 {
    wait_for("LDK to have sent it on", || {
        let mut all = row.ldk.events();
        all.retain(|e| e["event"] == "payment-forwarded");
        match all.get(count - 1) {
            Some(event) => Ok(msat(event, "fee_msat")),
            None => Err(format!("{all:?}")),
        }
    })
}

#[test]
fn ldk_pays_in_parts_through_us() {
    let row = Row::new(12, 2);
    // More than either of its channels with Bob can carry.
    let amount = CAPACITY_SAT * 1_000;
    let bolt11 = row.carol.invoice(amount, "two parts");
    let hash = row.carol.call("decode", json!({ "string": bolt11 }))["payment_hash"].clone();
    row.ldk.pay(&bolt11).expect("LDK begins to pay");
    row.ldk.wait_payment("payment-successful", hash.as_str().expect("a hash"));
    let invoice = row.carol.invoice_of("two parts");
    assert_eq!((invoice["status"].as_str(), msat(&invoice, "amount_received_msat")), (Some("paid"), amount));
    let parts = row.bobs_forwards(2);
    assert!(parts.len() >= 2 && parts.iter().all(|(status, _)| status == "settled"), "{parts:?}");
    row.at_rest();
}

#[test]
fn held_across_kills_of_both_on_the_way() {
    let mut row = Row::new(13, 1);
    let (bolt11, hash) = row.held_invoice(&row.carol, AMOUNT_MSAT, "held");
    row.alice.client().send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    row.wait_held(&row.carol, "held");
    row.ldk.kill();
    row.bob.kill_and_launch();
    row.ldk.launch();
    row.link(&row.alice);
    row.link(&row.bob);
    row.ready(&row.alice, row.ldk.id());
    row.ready(&row.bob, row.ldk.id());
    row.ready(&row.bob, row.carol.id());
    row.settle(&row.carol, "held");
    wait_for("Alice's receipt", || {
        let pays = row.alice.call("listpays", json!({ "payment_hash": hash }));
        match pays["pays"][0]["status"] == "complete" {
            true => Ok(()),
            false => Err(pays.to_string()),
        }
    });
    assert_eq!(row.bobs_forwards(1), [("settled".to_string(), fee(AMOUNT_MSAT))]);
    row.at_rest();
}

#[test]
fn ldk_closes_by_force_in_the_middle_of_a_forward() {
    let row = Row::new(14, 1);
    let (bolt11, hash) = row.held_invoice(&row.carol, AMOUNT_MSAT, "past a close");
    row.ldk.pay(&bolt11).expect("LDK begins to pay");
    row.wait_held(&row.carol, "past a close");
    let list = row.bob.call("listpeerchannels", json!({ "id": row.ldk.id() }));
    let id = list["channels"][0]["channel_id"].as_str().expect("channel_id");
    row.ldk.call(&format!("force-close {id}"));
    wait_for("LDK's commitment", || match row.chain.mempool() {
        pool if pool.is_empty() => Err("no transaction".to_string()),
        _ => Ok(()),
    });
    row.mine(1);
    let before = row.bob.wallet_sat();
    row.settle(&row.carol, "past a close");
    // Bob has R from Carol, and takes LDK's HTLC on the chain with it; there LDK reads its receipt.
    wait_for("Bob's claim", || match row.chain.mempool() {
        pool if pool.is_empty() => Err("no transaction".to_string()),
        _ => Ok(()),
    });
    assert_eq!(row.bobs_forwards(1), [("settled".to_string(), fee(AMOUNT_MSAT))]);
    wait_for("Bob's money", || {
        row.mine(1);
        match row.bob.wallet_sat() {
            now if now >= before + AMOUNT_MSAT / 1_000 - 2_000 => Ok(()),
            now => Err(format!("{now} of {before}")),
        }
    });
    row.mine(6);
    let sent = row.ldk.wait_payment("payment-successful", &hash);
    assert_eq!(sha256(sent["preimage"].as_str().expect("a preimage")), hash);
    wait_for("no HTLC left with Carol", || {
        let htlcs = row.carol.call("listhtlcs", json!({}));
        match htlcs["htlcs"].as_array().map(Vec::len) {
            Some(0) => Ok(()),
            _ => Err(htlcs.to_string()),
        }
    });
}
