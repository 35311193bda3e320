//! Blinded paths of either are paid by the other: one that LDK made is put into an invoice of ours (bLIP 39), one of ours
//! into an invoice as LDK reads it (BOLT 12), in answer to a refund that it offered.
//!
//! In: a row with private ends, Carol and Dave behind Bob. Out: each is paid, without having been named.
//! Read next: `network`, the peer's `blinded`.

use crate::ldk::Ldk;
use crate::row::Row;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use chand_protocol::id::{hex_array, hex_bytes, NodeId, PaymentHash};
use chand_protocol::invoice::blinded::for_paths;
use chand_protocol::invoice::{make, Currency};
use chand_protocol::onion::blind::{BlindedHop, BlindedPath, PayInfo, PayPath};
use chand_protocol::units::Msat;
use chand_protocol::wire::features::Features;
use chand_tests::books::msat;
use chand_tests::stranger::Stranger;
use chand_tests::Node;
use serde_json::{json, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// What each payment brings.
const AMOUNT_MSAT: u64 = 15_000_000;

impl Row {
    /// LDK, and Dave behind Bob, are paid over their own blinded paths; Carol over hers, by LDK.
    pub fn blinded_both_ways(&self) {
        let dave = self.dave.as_ref().expect("Dave");
        // An LDK that has no peer with onion messages makes no invoice of BOLT 12.
        let (id, port) = (self.ldk.id(), self.ldk.port());
        dave.call(&format!("connect {id} 127.0.0.1:{port}"));
        // LDK's path has no hop but itself, Dave's begins at Bob, who opens what LDK sealed for him.
        self.pays_blinded(&self.carol, &self.ldk, self.ldk.id(), 1);
        self.pays_blinded(&self.alice, dave, self.bob.id(), 2);
        self.ldk_pays_blinded();
        self.nothing_is_told_of_a_path(dave);
    }

    /// Less than Dave asked for comes back from him through Bob, what Carol does not know any more from her; neither payer
    /// learns more than that the path did not carry it.
    fn nothing_is_told_of_a_path(&self, dave: &Ldk) {
        let made = dave.call(&format!("blinded-invoice {AMOUNT_MSAT}"));
        let (hash, paths) = (&made["payment_hash"], made["blinded_paths"].as_array().expect("paths"));
        let bolt11 = invoice(hash.as_str().expect("a hash"), AMOUNT_MSAT / 2, paths);
        let refused = self.alice.refusal("pay", json!({ "bolt11": bolt11 })).to_string();
        assert!(refused.contains("invalid_onion_blinding"), "{refused}");
        let decoded = self.blinded_invoice("not for long");
        self.carol.call("delinvoice", json!({ "label": "not for long", "status": "unpaid" }));
        assert_eq!(self.tell_ldk(&decoded)["event"], "payment-failed");
    }

    /// One of ours pays an invoice with the path that an LDK made, which begins there and has so many hops.
    fn pays_blinded(&self, payer: &Node, payee: &Ldk, first: &str, hops: usize) {
        let made = payee.call(&format!("blinded-invoice {AMOUNT_MSAT}"));
        let paths = made["blinded_paths"].as_array().expect("paths");
        assert_eq!(paths.len(), 1, "{made}");
        assert_eq!(
            (&paths[0]["first_node_id"], paths[0]["path"].as_array().map(Vec::len)),
            (&json!(first), Some(hops))
        );
        let hash = made["payment_hash"].as_str().expect("a hash");
        let paid = payer.call("pay", json!({ "bolt11": invoice(hash, AMOUNT_MSAT, paths) }));
        assert_eq!(paid["payment_hash"], hash, "{paid}");
        assert_eq!(msat(&payee.wait_payment("payment-received", hash), "amount_msat"), AMOUNT_MSAT);
    }

    /// LDK pays Carol over the path that she made, which begins at Bob.
    fn ldk_pays_blinded(&self) {
        let end = self.tell_ldk(&self.blinded_invoice("blinded"));
        assert_eq!(end["event"], "payment-successful", "{end}");
        let invoice = self.carol.invoice_of("blinded");
        assert_eq!(invoice["status"], "paid", "{invoice}");
        assert_eq!(msat(&invoice, "amount_received_msat"), AMOUNT_MSAT);
    }

    /// Carol's invoice, as she reads it; its paths begin at Bob.
    fn blinded_invoice(&self, label: &str) -> Value {
        let params =
            json!({ "amount_msat": AMOUNT_MSAT, "label": label, "description": "tea", "blinded": true });
        let bolt11 = self.carol.call("invoice", params)["bolt11"].clone();
        let decoded = self.carol.call("decode", json!({ "string": bolt11 }));
        let paths = decoded["blinded_paths"].as_array().expect("paths");
        assert!(!paths.is_empty() && paths.iter().all(|p| p["first_node_id"] == self.bob.id()), "{decoded}");
        decoded
    }

    /// LDK offers a refund, and somebody answers with the paths of this invoice; how LDK's payment ended.
    fn tell_ldk(&self, invoice: &Value) -> Value {
        let hash = invoice["payment_hash"].as_str().expect("a hash");
        let refund = self.ldk.call(&format!("refund {AMOUNT_MSAT}"))["refund"].clone();
        let refund = refund.as_str().expect("a refund");
        let answer = self.ldk.call(&format!("answer-refund {refund} {hash} {}", invoice["blinded_paths"]));
        assert_eq!(answer["to"], self.ldk.id(), "{answer}");
        let message = hex_bytes(answer["message"].as_str().expect("a message")).expect("hex");
        let anybody = Stranger::dial_at(self.ldk.port(), self.ldk.id(), 9);
        let mut anybody = anybody.greeted(Features::ours_init(false));
        anybody.say(&message).expect("LDK listens");
        self.ldk.outcome(hash)
    }
}

/// An invoice over paths that are not its signer's.
fn invoice(hash: &str, amount_msat: u64, paths: &[Value]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let hash = PaymentHash(hex_array(hash).expect("a hash"));
    let paths = paths.iter().map(path).collect();
    let new = for_paths(Currency::Regtest, Some(Msat(amount_msat)), hash, now, paths);
    let nobody = SecretKey::from_slice(&[0x77; 32]).expect("a key");
    make(&new, &nobody, &Secp256k1::new()).expect("an invoice")
}

fn path(shown: &Value) -> PayPath {
    let text =
        |of: &Value, name: &str| of[name].as_str().unwrap_or_else(|| panic!("{name} in {of}")).to_string();
    let key = |of: &Value, name: &str| text(of, name).parse::<PublicKey>().expect("a key");
    let hop = |of: &Value| BlindedHop {
        blinded_node_id: key(of, "blinded_node_id"),
        encrypted_data: hex_bytes(&text(of, "encrypted_recipient_data")).expect("hex"),
    };
    let info = &shown["payinfo"];
    let small = |name: &str| u32::try_from(msat(info, name)).expect("a small number");
    let info = PayInfo {
        fee_base_msat: small("fee_base_msat"),
        fee_proportional_millionths: small("fee_proportional_millionths"),
        cltv_expiry_delta: u16::try_from(small("cltv_expiry_delta")).expect("a small number"),
        htlc_minimum: Msat(msat(info, "htlc_minimum_msat")),
        htlc_maximum: Msat(msat(info, "htlc_maximum_msat")),
        features: Features::new(),
    };
    let path = BlindedPath {
        introduction: NodeId(key(shown, "first_node_id")),
        path_key: key(shown, "first_path_key"),
        hops: shown["path"].as_array().expect("hops").iter().map(hop).collect(),
    };
    PayPath::new(info, path)
}
