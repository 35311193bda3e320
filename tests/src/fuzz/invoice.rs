//! Invoices: text that a stranger wrote and a person pasted (BOLT 11).
//!
//! In: text; or a prefix and letters that are then signed and given their checksum, so that they are read to the end.
//! Out: nothing, or a panic: what is read can be shown, and made again it reads the same.
//! Read next: `record`.

use super::feed::Feed;
use super::hunt::saw;
use bitcoin::bech32::{Bech32, ByteIterExt, Fe32, Fe32IterExt, Hrp};
use chand_protocol::id::{NodeId, PaymentSecret};
use chand_protocol::invoice::{
    fallback_kind, make, parse, Currency, Description, Invoice, InvoiceError, NewInvoice, MAX_FIELD_BYTES,
};
use chand_protocol::units::Msat;
use secp256k1::{All, Message, Secp256k1, SecretKey};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

fn secp() -> &'static Secp256k1<All> {
    static ONE: OnceLock<Secp256k1<All>> = OnceLock::new();
    ONE.get_or_init(Secp256k1::new)
}

fn key() -> SecretKey {
    SecretKey::from_slice(&[0x2a; 32]).expect("a key")
}

fn name(error: &InvoiceError) -> String {
    match error {
        InvoiceError::Field(what) | InvoiceError::NotBech32(what) => (*what).into(),
        InvoiceError::FieldLength(letter) => format!("length of {letter}"),
        other => format!("{other:?}").split(['(', '{', ' ']).next().unwrap_or_default().into(),
    }
}

/// Any text: never more than an error. Upper case and white space around change nothing.
pub fn text(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match parse(&text, secp()) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            saw(name(&error));
        }
        Ok(invoice) => {
            check(&invoice);
            assert_eq!(parse(&format!(" lightning:{}\n", text.trim()), secp()).is_ok(), !has_scheme(&text));
            if !has_scheme(&text) {
                assert_eq!(parse(&text.to_uppercase(), secp()).as_ref(), Ok(&invoice), "case matters");
            }
        }
    }
}

fn has_scheme(text: &str) -> bool {
    text.trim().get(..10).is_some_and(|scheme| scheme.eq_ignore_ascii_case("lightning:"))
}

/// Letters of the input's choice under a good checksum and a good signature.
pub fn signed(input: &[u8]) {
    let mut feed = Feed::new(input);
    let human = match feed.u8() % 8 {
        0 => "lnbc".to_string(),
        1 => "lnbcrt20u".into(),
        2 => "lntb1m".into(),
        3 => "lntbs5n".into(),
        4 => "lnbc9678785340p".into(),
        5 => format!("lnbcrt{}", feed.u64()),
        6 => format!("lnbc{}{}", feed.u64(), ['m', 'u', 'n', 'p', 'x'][feed.below(5)]),
        _ => String::from_utf8_lossy(feed.piece()).into_owned(),
    };
    let Ok(hrp) = Hrp::parse(&human) else { return };
    let letters: Vec<Fe32> = feed.rest().iter().filter_map(|byte| Fe32::try_from(byte & 31).ok()).collect();
    let Some(text) = sign(&hrp, &letters) else { return };
    match parse(&text, secp()) {
        Err(error) => {
            assert!(!matches!(error, InvoiceError::Checksum), "the checksum is good");
            assert!(
                !matches!(error, InvoiceError::Signature) || letters.contains(&Fe32::N),
                "the signature is good"
            );
            saw(name(&error));
        }
        Ok(invoice) => {
            assert_eq!(invoice.payee, NodeId(key().public_key(secp())), "another signed it");
            check(&invoice);
        }
    }
}

/// As a payee signs: the prefix's letters, then the data as bytes; and the checksum over all of it.
fn sign(hrp: &Hrp, letters: &[Fe32]) -> Option<String> {
    let mut padded = letters.to_vec();
    padded.resize(letters.len().next_multiple_of(8), Fe32::Q);
    let bytes = (letters.len() * 5).div_ceil(8);
    let data: Vec<u8> = padded.into_iter().fes_to_bytes().take(bytes).collect();
    let human = hrp.to_lowercase();
    let digest: [u8; 32] = Sha256::new().chain_update(human.as_bytes()).chain_update(&data).finalize().into();
    let signature = secp().sign_ecdsa_recoverable(&Message::from_digest(digest), &key());
    let (recovery, compact) = signature.serialize_compact();
    let tail: Vec<u8> = compact.into_iter().chain([recovery.to_i32() as u8]).collect();
    let lower = Hrp::parse(&human).ok()?;
    let tail = tail.into_iter().bytes_to_fes();
    Some(letters.iter().copied().chain(tail).with_checksum::<Bech32>(&lower).chars().collect())
}

/// What every invoice that was read must allow.
fn check(invoice: &Invoice) {
    let shown = invoice.description.to_string();
    assert!(!shown.chars().any(char::is_control), "a control character reaches a terminal");
    assert!(invoice.amount != Some(Msat(0)), "an amount of nothing");
    assert!(invoice.expires_at_s() >= invoice.timestamp_s);
    assert!(!invoice.is_expired(invoice.expires_at_s()));
    for script in &invoice.fallbacks {
        let _ = (invoice.fallback_address(script), fallback_kind(script));
    }
    for currency in [Currency::Bitcoin, Currency::Testnet, Currency::Signet, Currency::Regtest] {
        assert_eq!(invoice.require_currency(currency).is_ok(), currency == invoice.currency);
    }
    saw((
        "invoice",
        invoice.fallbacks.len().min(4),
        invoice.route_hints.len().min(4),
        invoice.blinded_paths.len().min(4),
        invoice.extra.len().min(4),
    ));
    saw((invoice.amount.is_some(), invoice.payment_metadata.is_some(), invoice.features.to_string().len()));
    remake(invoice);
}

/// The same made by us says the same.
fn remake(invoice: &Invoice) {
    let new = NewInvoice {
        currency: invoice.currency,
        amount: invoice.amount,
        payment_hash: invoice.payment_hash,
        // Not written beside blinded paths.
        payment_secret: invoice.payment_secret.clone().unwrap_or(PaymentSecret([0; 32])),
        description: invoice.description.clone(),
        expiry_s: invoice.expiry_s,
        min_final_cltv_blocks: invoice.min_final_cltv_blocks,
        timestamp_s: invoice.timestamp_s,
        features: invoice.features.clone(),
        payment_metadata: invoice.payment_metadata.clone(),
        route_hints: invoice.route_hints.clone(),
        blinded_paths: invoice.blinded_paths.clone(),
    };
    let text = match make(&new, &key(), secp()) {
        Ok(text) => text,
        Err(error) => {
            let long = matches!(&invoice.description, Description::Text(t) if t.len() > MAX_FIELD_BYTES);
            let limit = matches!(error, InvoiceError::TooLong | InvoiceError::TooLongToMake { .. });
            return assert!(limit || long, "what was read cannot be made: {error}");
        }
    };
    let again = match parse(&text, secp()) {
        Ok(again) => again,
        Err(error) => panic!("our own invoice {text} is refused: {error}"),
    };
    let wanted = Invoice {
        payee: again.payee,
        signature: again.signature,
        fallbacks: Vec::new(),
        extra: Vec::new(),
        // Not written beside blinded paths, whose sums hold it.
        min_final_cltv_blocks: match invoice.blinded_paths.is_empty() {
            true => invoice.min_final_cltv_blocks,
            false => again.min_final_cltv_blocks,
        },
        ..invoice.clone()
    };
    assert_eq!(again, wanted, "made again it says something else");
}

/// The letters of a real invoice, and some prefixes.
pub fn signed_seeds() -> Vec<Vec<u8>> {
    let texts = text_seeds();
    let letters = texts.iter().filter_map(|text| {
        let text = String::from_utf8(text.clone()).ok()?.to_lowercase();
        let (_, data) = text.rsplit_once('1')?;
        let data = data.get(..data.len().checked_sub(110)?)?;
        let letters: Option<Vec<u8>> =
            data.chars().map(|c| Fe32::from_char(c).ok().map(Fe32::to_u8)).collect();
        Some([vec![1], letters?].concat())
    });
    letters.collect()
}

/// The invoices of BOLT 11.
pub fn text_seeds() -> Vec<Vec<u8>> {
    let data: serde_json::Value =
        serde_json::from_str(include_str!("../../vector/data/bolt11-invoices.json")).expect("JSON");
    let mut texts = Vec::new();
    strings(&data, &mut texts);
    texts.retain(|text| text.to_lowercase().starts_with("ln"));
    texts.into_iter().map(String::into_bytes).collect()
}

/// Every string in a JSON value.
pub fn strings(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => out.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|v| strings(v, out)),
        serde_json::Value::Object(map) => map.values().for_each(|v| strings(v, out)),
        _ => {}
    }
}
