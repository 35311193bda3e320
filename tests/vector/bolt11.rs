//! BOLT 11: the published invoices, those to be read and those to be refused, against `invoice`.
//!
//! The data is in `data/bolt11-invoices.json`, which names its source.

use chand_protocol::id::to_hex;
use chand_protocol::invoice::{
    fallback_kind, make, parse, Currency, Description, Invoice, InvoiceError, NewInvoice,
};
use chand_protocol::wire::features::Features;
use secp256k1::{Secp256k1, SecretKey};
use serde_json::Value;

fn vector() -> Value {
    serde_json::from_str(include_str!("data/bolt11-invoices.json")).expect("the vector file is JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn read(text: &str) -> Result<Invoice, InvoiceError> {
    parse(text, &Secp256k1::new())
}

/// The valid invoice at `index`, read.
fn valid(index: usize) -> Invoice {
    read(text(&vector()["valid"][index]["invoice"])).expect("a valid invoice")
}

#[test]
fn the_valid_ones_are_read() {
    // BOLT 11 [11.read.1, 11.read.4, 11.text.2].
    let vector = vector();
    let cases = list(&vector["valid"]);
    assert_eq!(cases.len(), 16);
    for case in cases {
        let invoice = read(text(&case["invoice"])).unwrap_or_else(|e| panic!("{e}: {case}"));
        assert_eq!(invoice.amount.map(|a| a.0), case["amount_msat"].as_u64(), "{case}");
        fields_match(&invoice, &case["fields"]);
    }
}

fn fields_match(invoice: &Invoice, fields: &Value) {
    let said = |name: &str| fields.get(name);
    if let Some(timestamp) = said("timestamp") {
        assert_eq!(Some(invoice.timestamp_s), timestamp.as_u64());
    }
    if let Some(hash) = said("payment_hash") {
        assert_eq!(invoice.payment_hash.to_string(), text(hash));
    }
    if let Some(secret) = said("payment_secret") {
        assert_eq!(to_hex(&invoice.payment_secret.as_ref().expect("a secret").0), text(secret));
    }
    if let Some(words) = said("description") {
        let words = text(words).replace("\\\"", "\"");
        assert_eq!(invoice.description, Description::Text(words));
    }
    if let Some(hash) = said("description_hash") {
        assert_eq!(invoice.description.to_string(), format!("hash {}", text(hash)));
    }
    assert_eq!(invoice.expiry_s, said("expiry").map_or(3600, |e| e.as_u64().expect("seconds")));
    let blocks = said("min_final_cltv_expiry_delta").map_or(18, |c| c.as_u64().expect("blocks"));
    assert_eq!(u64::from(invoice.min_final_cltv_blocks), blocks);
    if let Some(signature) = said("signature") {
        assert_eq!(to_hex(&invoice.signature.serialize_compact()), text(signature));
    }
    if let Some(hops) = said("route_hops") {
        assert_eq!(invoice.route_hints.len(), 1);
        assert_eq!(hints(invoice), *list(hops));
    }
}

fn hints(invoice: &Invoice) -> Vec<Value> {
    let hops = invoice.route_hints.iter().flatten();
    hops.map(|hop| {
        serde_json::json!({
            "pubkey": hop.node_id.to_string(),
            "short_channel_id": hop.short_channel_id.to_string(),
            "fee_base_msat": hop.fee_base_msat,
            "fee_proportional_millionths": hop.fee_proportional_millionths,
            "cltv_expiry_delta": hop.cltv_expiry_delta_blocks,
        })
    })
    .collect()
}

#[test]
fn all_are_signed_by_the_published_node_but_the_high_s_one() {
    // BOLT 11 [11.data.3, 11.read.9].
    let vector = vector();
    let (others, [high_s]) = list(&vector["valid"]).split_at(15) else { panic!("16 cases") };
    for case in others.iter().filter(|case| case["fields"].get("route_hops").is_none()) {
        let invoice = read(text(&case["invoice"])).expect("valid");
        assert_eq!(invoice.payee.to_string(), text(&vector["node_id"]), "{case}");
    }
    // The signature is another's when its S is turned: it must be read all the same.
    let invoice = read(text(&high_s["invoice"])).expect("valid");
    assert_ne!(invoice.payee.to_string(), text(&vector["node_id"]));
    let mut low = invoice.signature;
    low.normalize_s();
    assert_ne!(low, invoice.signature);
}

#[test]
fn the_fallbacks_are_named_and_written_as_addresses() {
    let cases = [
        (4, "P2PKH", "mk2QpYatsKicvFVuTAQLBryyccRXMUaGHP"),
        (5, "P2PKH", "1RustyRX2oai4EYYDpQGWvEL62BBGqN9T"),
        (6, "P2SH", "3EktnHQD7RiAE6uzMj2ZifT9YgRrkSgzQX"),
        (7, "P2WPKH", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        (8, "P2WSH", "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3"),
        (9, "P2TR", "bc1pptdvg0d2nj99568qn6ssdy4cygnwuxgw2ukmnwgwz7jpqjz2kszse2s3lm"),
    ];
    for (index, kind, address) in cases {
        let invoice = valid(index);
        assert_eq!(invoice.fallbacks.len(), 1);
        assert_eq!(fallback_kind(&invoice.fallbacks[0]), Some(kind));
        assert_eq!(invoice.fallback_address(&invoice.fallbacks[0]).as_deref(), Some(address));
    }
    assert_eq!(valid(4).currency, Currency::Testnet);
    assert_eq!(valid(5).currency, Currency::Bitcoin);
}

#[test]
fn features_and_metadata_are_read() {
    for index in [11, 12, 13] {
        assert_eq!(valid(index).features, Features::of(&[8, 14, 99]));
    }
    assert_eq!(valid(11).extra, []);
    assert!(!valid(13).extra.is_empty(), "it has fields to be skipped");
    assert_eq!(valid(14).payment_metadata, Some(vec![0x01, 0xfa, 0xfa, 0xf0]));
}

#[test]
fn the_invalid_ones_are_refused_for_the_right_reason() {
    // BOLT 11 [11.data.3, 11.human.6, 11.human.8, 11.read.5, 11.read.10, 11.text.3].
    let vector = vector();
    let refused: Vec<_> = list(&vector["invalid"])
        .iter()
        .map(|case| read(text(&case["invoice"])).expect_err(text(&case["title"])))
        .collect();
    let reasons = [
        InvoiceError::UnknownFeature(100),
        InvoiceError::Checksum,
        InvoiceError::NotBech32("it has no \"1\" between its two parts"),
        InvoiceError::NotBech32("it mixes upper and lower case"),
        InvoiceError::Signature,
        InvoiceError::TooShort,
        InvoiceError::Amount,
        InvoiceError::SubMillisatoshi,
        InvoiceError::NoPaymentSecret,
        InvoiceError::Signature,
    ];
    assert_eq!(refused, reasons);
}

#[test]
fn a_published_invoice_is_made_again_with_its_fields() {
    let vector = vector();
    let read_one = valid(2);
    let key: SecretKey = text(&vector["private_key"]).parse().expect("a key");
    let secp = Secp256k1::new();
    let new = NewInvoice {
        currency: read_one.currency,
        amount: read_one.amount,
        payment_hash: read_one.payment_hash,
        payment_secret: read_one.payment_secret.clone().expect("a secret"),
        description: read_one.description.clone(),
        expiry_s: read_one.expiry_s,
        min_final_cltv_blocks: read_one.min_final_cltv_blocks,
        timestamp_s: read_one.timestamp_s,
        features: read_one.features.clone(),
        payment_metadata: None,
        route_hints: Vec::new(),
        blinded_paths: Vec::new(),
    };
    let made = read(&make(&new, &key, &secp).expect("it fits")).expect("ours is valid");
    // Ours says its final expiry, so only the signature differs.
    assert_eq!(Invoice { signature: read_one.signature, ..made }, read_one);
}
