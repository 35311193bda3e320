//! Payments that cross both implementations: LDK pays through us, we pay through LDK, in parts, held while somebody is
//! killed, and past a channel that LDK closes by force, up and down the way.
//!
//! In: nothing. Out: each payment complete for all or for none, fees as announced.
//! Read next: `row`.

use crate::ldk::Ldk;
use crate::row::{Row, CAPACITY_SAT};
use chand_protocol::id::to_hex;
use chand_tests::books::msat;
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, Node};
use serde_json::{json, Value};

/// A payment of which several fit into every channel at once.
const AMOUNT_MSAT: u64 = 20_000_000;
/// What a claim costs at most at the least feerate there is, in satoshi.
const CLAIM_SAT: u64 = 2_000;

/// What each of ours asks for a payment that goes on: 1 sat and ten millionths.
fn fee(amount_msat: u64) -> u64 {
    1_000 + amount_msat * 10 / 1_000_000
}

#[test]
fn ldk_pays_through_us_and_we_through_ldk() {
    let row = Row::with_private_ends(11, 12);
    let dave = row.dave.as_ref().expect("Dave");
    row.private_ends_have_names(dave);
    // LDK → Bob → Dave, who is LDK, too: Dave had Bob's terms from Bob and put them into his invoice.
    let (bolt11, hash) = dave.invoice(AMOUNT_MSAT);
    row.ldk_pays(&bolt11, &hash, fee(AMOUNT_MSAT));
    assert_eq!(msat(&dave.wait_payment("payment-received", &hash), "amount_msat"), AMOUNT_MSAT);
    // LDK → Bob → Carol: LDK reads ours.
    let bolt11 = row.carol.invoice(AMOUNT_MSAT, "from LDK");
    row.ldk_pays(&bolt11, &hash_of(&row.carol, &bolt11), fee(AMOUNT_MSAT));
    assert_eq!(row.bobs_forwards(2), [(); 2].map(|()| ("settled".to_string(), fee(AMOUNT_MSAT))));

    // Alice → LDK → Bob → Dave, and Alice → LDK → Bob → Carol: we have LDK's terms from its gossip.
    let (bolt11, _) = dave.invoice(AMOUNT_MSAT);
    let bobs = fee(AMOUNT_MSAT);
    assert_eq!(row.pays(&row.alice, &bolt11), AMOUNT_MSAT + bobs + row.ldk_earned(1));
    let bolt11 = row.carol.invoice(AMOUNT_MSAT, "from Alice");
    assert_eq!(row.pays(&row.alice, &bolt11), AMOUNT_MSAT + bobs + row.ldk_earned(2));
    // And back.
    let bolt11 = row.alice.invoice(AMOUNT_MSAT / 2, "back");
    let ldks = row.pays(&row.carol, &bolt11) - AMOUNT_MSAT / 2 - row.ldk_earned(3);
    assert_eq!(ldks, fee(AMOUNT_MSAT / 2 + row.ldk_earned(3)));

    // Bob takes more on the way back: everybody hears of it, and pays it.
    row.bob_asks(5_000, 250);
    let bobs = 5_000 + AMOUNT_MSAT * 250 / 1_000_000;
    let (bolt11, _) = row.ldk.invoice(AMOUNT_MSAT);
    assert_eq!(row.pays(&row.carol, &bolt11), AMOUNT_MSAT + bobs);
    let (bolt11, hash) = row.ldk.invoice(AMOUNT_MSAT);
    dave.pay(&bolt11).expect("LDK begins to pay");
    assert_eq!(msat(&dave.wait_payment("payment-successful", &hash), "fee_msat"), bobs);

    row.blinded_both_ways();
    row.failures_come_back();
    row.at_rest();
    row.wait_names();
}

fn hash_of(node: &Node, bolt11: &str) -> String {
    let decoded = node.call("decode", json!({ "string": bolt11 }));
    decoded["payment_hash"].as_str().expect("a hash").to_string()
}

impl Row {
    /// Bob's private channels are of the type `scid_alias`: both ends know what either calls them, and invoices name them as Bob
    /// does, not by their place on chain, which carries nothing.
    fn private_ends_have_names(&self, dave: &Ldk) {
        let bobs = |peer: &str| {
            let list = self.bob.call("listpeerchannels", json!({ "id": peer }));
            let channel = list["channels"][0].clone();
            assert_eq!(channel["channel_type"]["bits"], json!([12, 22, 46]), "{channel}");
            assert_ne!(channel["alias"]["local"], channel["short_channel_id"]);
            channel
        };
        let with_dave = bobs(dave.id());
        let list = dave.call("channels");
        let daves = &list["channels"][0];
        assert_eq!(with_dave["alias"], json!({ "local": daves["peer_alias"], "remote": daves["own_alias"] }));
        let with_carol = bobs(self.carol.id());
        let list = self.carol.call("listpeerchannels", json!({ "id": self.bob.id() }));
        assert_eq!(list["channels"][0]["alias"]["remote"], with_carol["alias"]["local"]);
        let carols = self.carol.invoice(AMOUNT_MSAT, "whose name");
        for (bolt11, channel) in [(dave.invoice(AMOUNT_MSAT).0, &with_dave), (carols, &with_carol)] {
            let decoded = self.alice.call("decode", json!({ "string": bolt11 }));
            assert_eq!(decoded["routes"][0][0]["short_channel_id"], channel["alias"]["local"], "{decoded}");
        }
    }

    /// LDK pays, and that costs this much.
    fn ldk_pays(&self, bolt11: &str, hash: &str, fee_msat: u64) {
        self.ldk.pay(bolt11).expect("LDK begins to pay");
        let end = self.ldk.outcome(hash);
        assert_eq!(end["event"], "payment-successful", "{end}");
        assert_eq!(msat(&end, "fee_msat"), fee_msat, "{end}");
        assert_eq!(sha256(end["preimage"].as_str().expect("a preimage")), hash);
    }

    /// One of ours pays; what left it.
    fn pays(&self, payer: &Node, bolt11: &str) -> u64 {
        let paid = payer.call("pay", json!({ "bolt11": bolt11 }));
        assert_eq!(sha256(paid["payment_preimage"].as_str().expect("a preimage")), paid["payment_hash"]);
        msat(&paid, "amount_sent_msat")
    }

    /// What LDK earned with the newest of so many payments that it sent on.
    fn ldk_earned(&self, count: usize) -> u64 {
        wait_for("LDK to have sent it on", || {
            let mut all = self.ldk.events();
            all.retain(|e| e["event"] == "payment-forwarded");
            match all.get(count - 1) {
                Some(event) => Ok(msat(event, "fee_msat")),
                None => Err(format!("{all:?}")),
            }
        })
    }

    /// Either passes on what the other's neighbour says against a payment, and the payer can read it.
    fn failures_come_back(&self) {
        // Carol does not know the invoice any more.
        let forget = |label: &str| {
            let bolt11 = self.carol.invoice(AMOUNT_MSAT, label);
            self.carol.call("delinvoice", json!({ "label": label, "status": "unpaid" }));
            bolt11
        };
        let refused = self.alice.refusal("pay", json!({ "bolt11": forget("gone") })).to_string();
        assert!(refused.contains("incorrect_or_unknown_payment_details"), "{refused}");
        let bolt11 = forget("gone, too");
        self.ldk.pay(&bolt11).expect("LDK begins to pay");
        let end = self.ldk.outcome(&hash_of(&self.carol, &bolt11));
        assert_eq!((&end["event"], &end["reason"]), (&json!("payment-failed"), &json!("RecipientRejected")));
    }

    /// Waits for the receipt of a payment of ours.
    fn wait_complete(&self, payer: &Node, hash: &str) {
        wait_for(&format!("{}'s receipt", payer.name()), || {
            let pays = payer.call("listpays", json!({ "payment_hash": hash }));
            match pays["pays"][0]["status"] == "complete" {
                true => Ok(()),
                false => Err(pays.to_string()),
            }
        });
    }

    /// LDK publishes its commitment of Bob's channel, and that is in a block.
    fn ldk_closes_by_force(&self) {
        let list = self.bob.call("listpeerchannels", json!({ "id": self.ldk.id() }));
        let id = list["channels"][0]["channel_id"].as_str().expect("channel_id");
        self.ldk.call(&format!("force-close {id}"));
        self.wait_mempool("LDK's commitment");
        self.mine(1);
    }

    fn wait_mempool(&self, what: &str) {
        wait_for(what, || match self.chain.mempool() {
            pool if pool.is_empty() => Err("no transaction".to_string()),
            _ => Ok(()),
        });
    }
}

#[test]
fn payments_in_parts_cross_both() {
    let row = Row::new(13, 2);
    // More than either of LDK's channels with Bob can carry.
    let amount = CAPACITY_SAT * 1_000;
    let bolt11 = row.carol.invoice(amount, "LDK's parts");
    let hash = hash_of(&row.carol, &bolt11);
    row.ldk.pay(&bolt11).expect("LDK begins to pay");
    assert_eq!(row.ldk.outcome(&hash)["event"], "payment-successful");
    let received = |label: &str| {
        let invoice = row.carol.invoice_of(label);
        assert_eq!(invoice["status"], "paid", "{invoice}");
        msat(&invoice, "amount_received_msat")
    };
    assert_eq!(received("LDK's parts"), amount);
    let ldks = row.bobs_forwards(2);
    assert!(ldks.len() >= 2 && ldks.iter().all(|(status, _)| status == "settled"), "{ldks:?}");

    // More than LDK lets into either of its channels with Alice, a tenth of it; no more than it has left towards Bob.
    let amount = CAPACITY_SAT * 1_000 / 20 * 3;
    let bolt11 = row.carol.invoice(amount, "Alice's parts");
    assert!(row.pays(&row.alice, &bolt11) > amount);
    assert_eq!(received("Alice's parts"), amount);
    let all = row.bobs_forwards(ldks.len() + 2);
    assert!(all.len() >= ldks.len() + 2 && all.iter().all(|(status, _)| status == "settled"), "{all:?}");
    row.at_rest();
}

#[test]
fn room_that_comes_back_with_ldk_is_found() {
    let row = Row::new(18, 1);
    // LDK keeps less towards Bob than Alice wants to send.
    let drained = 640_000_000;
    let bolt11 = row.carol.invoice(drained, "drained");
    row.ldk_pays(&bolt11, &hash_of(&row.carol, &bolt11), fee(drained));
    let wanted = 80_000_000;
    let bolt11 = row.carol.invoice(wanted, "no room");
    let refused = row.alice.refusal("pay", json!({ "bolt11": bolt11 })).to_string();
    assert!(refused.contains("temporary_channel_failure"), "{refused}");
    row.no_htlc_at(&row.alice);
    let (back, _) = row.ldk.invoice(wanted);
    row.pays(&row.carol, &back);
    row.no_htlc_at(&row.carol);
    let bolt11 = row.carol.invoice(wanted, "room again");
    // Within the same second Alice believes what she heard, and tries nothing.
    let paid = wait_for("Alice to find it", || {
        row.alice.try_call("pay", json!({ "bolt11": bolt11 })).map_err(|e| e.to_string())
    });
    assert!(msat(&paid, "amount_sent_msat") > wanted, "{paid}");
    row.at_rest();
}

#[test]
fn held_across_kills_of_both_on_the_way() {
    let mut row = Row::new(14, 1);
    // One each way, LDK in the middle of both.
    let (to_carol, carols) = row.held_invoice(&row.carol, AMOUNT_MSAT, "held by Carol");
    let (to_alice, alices) = row.held_invoice(&row.alice, AMOUNT_MSAT / 2, "held by Alice");
    row.alice.client().send("pay", &json!({ "bolt11": to_carol })).expect("asked");
    row.carol.client().send("pay", &json!({ "bolt11": to_alice })).expect("asked");
    row.wait_held(&row.carol, "held by Carol");
    row.wait_held(&row.alice, "held by Alice");
    // Killed at once while both wait.
    row.ldk.kill();
    row.bob.kill_and_launch();
    row.ldk_again();
    row.ready(&row.bob, row.carol.id());
    // Killed with the secret on its way: what Carol shows reaches Bob, and LDK is not there.
    row.ldk.kill();
    row.settle(&row.carol, "held by Carol");
    let settled = wait_for("Bob to have the secret", || {
        let list = row.bob.call("listforwards", json!({ "status": "settled" }));
        list["forwards"].as_array().filter(|all| all.len() == 1).cloned().ok_or_else(|| list.to_string())
    });
    assert_eq!(msat(&settled[0], "fee_msat"), fee(AMOUNT_MSAT));
    row.bob.kill_and_launch();
    row.ldk_again();
    row.ready(&row.bob, row.carol.id());
    row.wait_complete(&row.alice, &carols);
    // And the other way: Alice's secret goes through LDK to Bob, who was not there.
    row.bob.kill();
    row.settle(&row.alice, "held by Alice");
    row.ldk_earned(2);
    row.bob.launch();
    row.linked_again();
    row.wait_complete(&row.carol, &alices);
    assert_eq!(row.bobs_forwards(2).len(), 2);
    row.at_rest();
}

#[test]
fn ldk_closes_by_force_before_the_secret_comes_up() {
    let mut row = Row::new(15, 1);
    let (bolt11, hash) = row.held_invoice(&row.carol, AMOUNT_MSAT, "past a close");
    row.ldk.pay(&bolt11).expect("LDK begins to pay");
    row.wait_held(&row.carol, "past a close");
    let before = row.bob.wallet_sat();
    row.ldk_closes_by_force();
    row.bob.kill_and_launch();
    row.settle(&row.carol, "past a close");
    // Bob has R from Carol, and takes LDK's HTLC on the chain with it; there LDK reads its receipt.
    row.wait_mempool("Bob's claim");
    assert_eq!(row.bobs_forwards(1), [("settled".to_string(), fee(AMOUNT_MSAT))]);
    let sent = wait_for("LDK's receipt", || {
        row.mine(1);
        let mut all = row.ldk.events();
        all.retain(|e| e["payment_hash"] == hash && e["event"] == "payment-successful");
        all.pop().ok_or_else(|| "no receipt".to_string())
    });
    assert_eq!(sha256(sent["preimage"].as_str().expect("a preimage")), hash);
    // His part of the channel, and the HTLC with its fee.
    let his = 300_000 + (AMOUNT_MSAT + fee(AMOUNT_MSAT)) / 1_000;
    // A coin of his may be on its way for a claim meanwhile.
    wait_for("Bob's money", || match row.bob.wallet_sat().checked_sub(before) {
        Some(got) if (his - CLAIM_SAT..=his).contains(&got) => Ok(()),
        got => {
            row.mine(1);
            Err(format!("{got:?} of {his}"))
        }
    });
    row.no_htlc_at(&row.carol);
}

#[test]
fn ldk_closes_by_force_and_shows_the_secret_on_the_chain() {
    let mut row = Row::new(16, 1);
    // Carol → Bob → LDK, which holds it.
    let secret = preimage("shown on the chain", 0);
    let (bolt11, hash) = row.ldk.hold_invoice(AMOUNT_MSAT, &secret);
    row.carol.client().send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    row.ldk.wait_payment("payment-claimable", &hash);
    row.ldk_closes_by_force();
    // Bob is not there when it appears, and reads it in a block of the past.
    row.bob.kill();
    row.ldk.call(&format!("claim {secret} {AMOUNT_MSAT}"));
    wait_for("LDK's claim with the secret", || {
        let pool = row.chain.mempool();
        let shown = |txid: &String| {
            let tx = row.chain.transaction(txid);
            tx.input.iter().any(|i| i.witness.iter().any(|item| to_hex(item) == secret))
        };
        pool.iter().any(shown).then_some(()).ok_or(format!("{pool:?}"))
    });
    row.chain.mine(1);
    row.bob.launch();
    // Carol has it from him long before anything is deep.
    row.wait_complete(&row.carol, &hash);
    assert_eq!(row.bobs_forwards(1), [("settled".to_string(), fee(AMOUNT_MSAT))]);
    row.no_htlc_at(&row.carol);
    let list: Value = row.carol.call("listpeerchannels", json!({ "id": row.bob.id() }));
    assert_eq!(list["channels"][0]["state"], "CHANNELD_NORMAL", "{list}");
}

#[test]
fn a_payee_that_goes_silent_costs_ldk_nothing() {
    let mut row = Row::new(17, 1);
    let (bolt11, hash) = row.held_invoice(&row.carol, AMOUNT_MSAT, "silent");
    row.ldk.pay(&bolt11).expect("LDK begins to pay");
    row.wait_held(&row.carol, "silent");
    row.carol.kill();
    // Bob takes back on the chain what he offered Carol, and LDK has it from him before it would have to close.
    let begun = row.chain.height();
    let end = loop {
        let height = row.chain.mine(2);
        [&row.alice, &row.bob].iter().for_each(|node| node.wait_height(height));
        row.ldk.wait_height(height);
        let mut all = row.ldk.events();
        all.retain(|e| e["payment_hash"] == hash && e["event"] != "payment-claimable");
        if let Some(end) = all.pop() {
            break end;
        }
        // LDK hides how far it is to the payee: its expiries may be hundreds of blocks away.
        assert!(height < begun + 1_000, "LDK's payment has no end");
    };
    assert_eq!(end["event"], "payment-failed", "{end}");
    assert_eq!(row.bobs_forwards(1)[0].0, "failed");
    let states = |peer: &str| {
        let list = row.bob.call("listpeerchannels", json!({ "id": peer }));
        list["channels"][0]["state"].clone()
    };
    assert_eq!(states(row.ldk.id()), "CHANNELD_NORMAL");
    assert_ne!(states(row.carol.id()), "CHANNELD_NORMAL");
}
