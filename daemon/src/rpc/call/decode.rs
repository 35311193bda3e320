//! `decode`, and what `pay` must know of an invoice before it pays
//!
//! In: an invoice's text, or a rune's. Out: what it says, as Core Lightning shows it. Only BOLT 11 so far, with bLIP 39's blinded paths.
//! Read next: `pay`.

use super::{Context, Outcome};
use crate::rpc::message::{RpcError, INVALID_PARAMS};
use crate::rpc::params::Args;
use crate::rpc::show::Object;
use crate::runes::{Restriction, Rune};
use chand_protocol::id::{sha256, to_hex};
use chand_protocol::invoice::{self, Description, Invoice};
use chand_protocol::onion::blind::{BlindedHop, PayPath};
use chand_protocol::units::Msat;
use secp256k1::Secp256k1;
use serde_json::{json, Value};
use std::sync::Arc;

/// Reads an invoice; `lightning:` before it is how links carry it.
fn read(name: &str, text: &str) -> Result<Invoice, RpcError> {
    let text = text.trim();
    let text = text.get(..10).filter(|p| p.eq_ignore_ascii_case("lightning:")).map_or(text, |_| &text[10..]);
    invoice::parse(text, &Secp256k1::verification_only()).map_err(|problem| RpcError::param(name, problem))
}

/// What a payment of this invoice amounts to.
///
/// # Errors
/// −32602 when the invoice is bad, or neither or both of invoice and caller name an amount.
pub(super) fn amount_to_pay(name: &str, text: &str, given: Option<Msat>) -> Result<Msat, RpcError> {
    let invoice = read(name, text)?;
    match (invoice.amount, given) {
        (Some(asked), None) => Ok(asked),
        (Some(asked), Some(given)) if asked == given => Ok(asked),
        (Some(asked), Some(_)) => {
            Err(RpcError::param("amount_msat", format!("leave it out: the invoice itself asks for {asked}")))
        }
        (None, Some(Msat(0))) => Err(RpcError::param("amount_msat", "must be more than 0")),
        (None, Some(given)) => Ok(given),
        (None, None) => Err(RpcError::new(
            INVALID_PARAMS,
            "amount_msat: needed, because the invoice leaves the amount to you",
        )),
    }
}

/// What an invoice or a rune says. Whose the rune is, `checkrune` tells.
pub async fn decode(_: Arc<Context>, args: Args) -> Outcome {
    let text: String = args.get("string")?;
    match (read("string", &text), Rune::parse(text.trim())) {
        (Err(_), Ok(rune)) => Ok(render_rune(&rune)),
        (invoice, _) => Ok(render(&invoice?)),
    }
}

/// An invoice may hold the hash of what it is for: words that are given for it must be those.
///
/// # Errors
/// −32602 when they are not, or the invoice is bad.
pub(super) fn check_description(name: &str, text: &str, given: Option<String>) -> Result<(), RpcError> {
    let Some(words) = given else { return Ok(()) };
    match read(name, text)?.description {
        // BOLT 11 [11.read.6].
        Description::Hash(hash) if sha256(words.as_bytes()) != hash => {
            Err(RpcError::param("description", "is not what the invoice holds the hash of"))
        }
        _ => Ok(()),
    }
}

fn render_rune(rune: &Rune) -> Value {
    let restriction = |r: &Restriction| {
        let alternatives: Vec<String> = r.0.iter().map(ToString::to_string).collect();
        json!({ "alternatives": alternatives, "summary": r.english() })
    };
    let restrictions: Vec<Value> = rune.restrictions().iter().map(restriction).collect();
    Object::of(
        json!({ "type": "rune", "valid": true, "string": rune.to_hex_text(), "restrictions": restrictions }),
    )
    .maybe("unique_id", rune.id().map(|id| id.to_string()))
    .build()
}

fn render(i: &Invoice) -> Value {
    let (description, hash) = match &i.description {
        Description::Text(text) => (Some(text.clone()), None),
        Description::Hash(hash) => (None, Some(to_hex(hash))),
    };
    let features = i.features.as_bytes();
    Object::of(json!({
        "type": "bolt11 invoice",
        "valid": true,
        "currency": i.currency.prefix(),
        "created_at": i.timestamp_s,
        "expiry": i.expiry_s,
        "payee": i.payee.to_string(),
        "payment_hash": i.payment_hash.to_string(),
        "signature": to_hex(&i.signature.serialize_der()),
        "min_final_cltv_expiry": i.min_final_cltv_blocks,
    }))
    .maybe("payment_secret", i.payment_secret.as_ref().map(|secret| to_hex(&secret.0)))
    .maybe("amount_msat", i.amount.map(|a| a.0))
    .maybe("description", description)
    .maybe("description_hash", hash)
    .maybe("features", (!features.is_empty()).then(|| to_hex(features)))
    .maybe("payment_metadata", i.payment_metadata.as_deref().map(to_hex))
    .maybe("fallbacks", list(i.fallbacks.iter().map(|script| fallback(i, script))))
    .maybe("routes", list(i.route_hints.iter().map(|hops| route(hops))))
    .maybe("blinded_paths", list(i.blinded_paths.iter().map(blinded_path)))
    .maybe("extra", list(i.extra.iter().map(|e| json!({ "tag": e.tag.to_string(), "data": e.data }))))
    .build()
}

/// A list that is left out when it is empty.
fn list(items: impl Iterator<Item = Value>) -> Option<Vec<Value>> {
    let items: Vec<Value> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn fallback(i: &Invoice, script: &bitcoin::ScriptBuf) -> Value {
    Object::default()
        .maybe("type", invoice::fallback_kind(script))
        .maybe("addr", i.fallback_address(script))
        .maybe("hex", Some(to_hex(script.as_bytes())))
        .build()
}

fn route(hops: &[invoice::RouteHintHop]) -> Value {
    let hop = |h: &invoice::RouteHintHop| {
        json!({
            "pubkey": h.node_id.to_string(),
            "short_channel_id": h.short_channel_id.to_string(),
            "fee_base_msat": h.fee_base_msat,
            "fee_proportional_millionths": h.fee_proportional_millionths,
            "cltv_expiry_delta": h.cltv_expiry_delta_blocks,
        })
    };
    hops.iter().map(hop).collect()
}

/// In the shape and with the names that Core Lightning gives those of BOLT 12.
fn blinded_path(pay: &PayPath) -> Value {
    let hop = |hop: &BlindedHop| {
        json!({
            "blinded_node_id": hop.blinded_node_id.to_string(),
            "encrypted_recipient_data": to_hex(&hop.encrypted_data),
        })
    };
    json!({
        "first_node_id": pay.path.introduction.to_string(),
        "first_path_key": pay.path.path_key.to_string(),
        "payinfo": {
            "fee_base_msat": pay.info.fee_base_msat,
            "fee_proportional_millionths": pay.info.fee_proportional_millionths,
            "cltv_expiry_delta": pay.info.cltv_expiry_delta,
            "htlc_minimum_msat": pay.info.htlc_minimum.0,
            "htlc_maximum_msat": pay.info.htlc_maximum.0,
            "features": to_hex(pay.info.features.as_bytes()),
        },
        "path": pay.path.hops.iter().map(hop).collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rune_says_what_it_allows() {
        // From Core Lightning's manual page of createrune.
        let text = "tU-RLjMiDpY2U0o3W1oFowar36RFGpWloPbW9-RuZdo9MyZpZD0wMjRiOWExZmE4ZTAwNmYxZTM5MzdmNjVmNjZjNDA4ZTZkYThlMWNhNzI4ZWE0MzIyMmE3MzgxZGYxY2M0NDk2MDUmbWV0aG9kPWxpc3RwZWVycyZwbnVtPTEmcG5hbWVpZF4wMjRiOWExZmE4ZTAwNmYxZTM5M3xwYXJyMF4wMjRiOWExZmE4ZTAwNmYxZTM5MyZ0aW1lPDE2NTY5MjA1MzgmcmF0ZT0y";
        let shown = render_rune(&Rune::parse(text).unwrap());
        assert_eq!((&shown["type"], &shown["unique_id"]), (&json!("rune"), &json!("3")));
        let string = "b54f912e33220e9636534a375b5a05a306abdfa4451a95a5a0f6d6f7e46e65da:=3&id=024b9a1fa8e006f1e3937f65f66c408e6da8e1ca728ea43222a7381df1cc449605&method=listpeers&pnum=1&pnameid^024b9a1fa8e006f1e393|parr0^024b9a1fa8e006f1e393&time<1656920538&rate=2";
        assert_eq!(shown["string"], string);
        let alternatives = json!(["pnameid^024b9a1fa8e006f1e393", "parr0^024b9a1fa8e006f1e393"]);
        assert_eq!(shown["restrictions"][3]["alternatives"], alternatives);
    }

    /// BOLT 11, "Examples": a donation of any amount; and $3 for a cup of coffee, 2,500 µBTC within a minute.
    const DONATION: &str = "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql";
    const COFFEE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";

    #[test]
    fn published_invoices() {
        let coffee = render(&read("x", COFFEE).unwrap());
        assert_eq!(coffee["amount_msat"], 250_000_000);
        assert_eq!(coffee["description"], "1 cup coffee");
        assert_eq!(coffee["expiry"], 60);
        assert_eq!(coffee["currency"], "bc");
        assert_eq!(coffee["payee"], "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad");
        assert_eq!(
            coffee["payment_hash"],
            "0001020304050607080900010203040506070809000102030405060708090102"
        );
        assert!(read("x", &format!("LIGHTNING:{COFFEE}")).is_ok());
        for bad in ["", "lightning:", "ö", "lnbc1", "1234567890é"] {
            assert_eq!(read("x", bad).unwrap_err().code, INVALID_PARAMS, "{bad}");
        }
    }

    /// The first of BOLT 11's examples with a hash, and what it is of.
    const LISTED: &str = "lnbc20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqs9qrsgq7ea976txfraylvgzuxs8kgcw23ezlrszfnh8r6qtfpr6cxga50aj6txm9rxrydzd06dfeawfk6swupvz4erwnyutnjq7x39ymw6j38gp7ynn44";
    const LIST: &str = "One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, one slice of salami, one lollypop, one piece of cherry pie, one sausage, one cupcake, and one slice of watermelon";

    #[test]
    fn a_description_is_compared_with_the_hash_of_it() {
        // BOLT 11 [11.read.6].
        let check = |text: &str, words: Option<&str>| check_description("b", text, words.map(Into::into));
        assert_eq!((check(LISTED, None), check(LISTED, Some(LIST))), (Ok(()), Ok(())));
        for wrong in ["", "one sausage", &LIST[1..]] {
            let error = check(LISTED, Some(wrong)).unwrap_err();
            assert!(error.code == INVALID_PARAMS && error.message.contains("description"), "{error:?}");
        }
        // Who reads it in the invoice needs no hash.
        assert_eq!(check(COFFEE, Some("anything")), Ok(()));
        assert!(check("lnbc1", Some(LIST)).is_err());
    }

    #[test]
    fn amounts_to_pay() {
        assert_eq!(amount_to_pay("b", COFFEE, None), Ok(Msat(250_000_000)));
        assert!(amount_to_pay("b", COFFEE, Some(Msat(1))).is_err());
        assert!(amount_to_pay("b", DONATION, None).unwrap_err().message.contains("amount_msat"));
        assert_eq!(amount_to_pay("b", DONATION, Some(Msat(7))), Ok(Msat(7)));
        assert!(amount_to_pay("b", DONATION, Some(Msat(0))).is_err());
    }
}
