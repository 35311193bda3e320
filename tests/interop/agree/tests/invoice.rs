//! Invoices: what we write LDK reads, what LDK writes we read, field by field.
//!
//! In: random amounts, times, descriptions, hints, features. Out: equal fields, and LDK writing our text again as it was.
//! Read next: `message.rs`.

use bitcoin::hashes::{sha256, Hash};
use chand_protocol::id::{NodeId, PaymentHash, PaymentSecret, ShortChannelId};
use chand_protocol::invoice::{make, our_features, parse, Description, Invoice, NewInvoice, RouteHintHop};
use chand_protocol::units::Msat;
use chand_protocol::wire::features::Feature;
use ldk_agree::{property, secp, Rng};
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescription, Bolt11InvoiceDescriptionRef, InvoiceBuilder, Sha256,
};
use lightning_types::routing::{RouteHint, RouteHintHop as LdkHop, RoutingFees};
use secp256k1::SecretKey;
use std::str::FromStr;
use std::time::Duration;

const CASES: u64 = 3_000;

fn some_text(rng: &mut Rng) -> String {
    let letters: Vec<char> = "ab cXYZ09,.-ÄßéЖ中🍵\u{0}\n\"\\".chars().collect();
    let length = rng.index(0, 120);
    (0..length).map(|_| rng.pick(&letters)).collect()
}

fn some_hop(rng: &mut Rng) -> RouteHintHop {
    RouteHintHop {
        node_id: NodeId(rng.key()),
        short_channel_id: ShortChannelId(rng.bits()),
        fee_base_msat: rng.any_size() as u32,
        fee_proportional_millionths: rng.any_size() as u32,
        cltv_expiry_delta_blocks: rng.any_size() as u16,
    }
}

fn some_invoice(rng: &mut Rng) -> NewInvoice {
    use chand_protocol::invoice::Currency;
    let currencies = [Currency::Bitcoin, Currency::Testnet, Currency::Regtest, Currency::Signet];
    let text = some_text(rng);
    let mut features = our_features();
    let payment_metadata = rng.one_in(3).then(|| {
        features.set(Feature::PaymentMetadata.odd());
        let length = rng.index(1, 80);
        rng.bytes(length)
    });
    NewInvoice {
        currency: rng.pick(&currencies),
        amount: (!rng.one_in(5)).then(|| Msat(1 + (rng.any_size() >> 4) % 2_099_999_999_999_999_999)),
        payment_hash: PaymentHash(rng.array()),
        payment_secret: PaymentSecret(rng.array()),
        description: if rng.one_in(3) { Description::Hash(rng.array()) } else { Description::Text(text) },
        expiry_s: if rng.one_in(3) { 3_600 } else { rng.any_size() >> 16 },
        min_final_cltv_blocks: rng.any_size() as u32 >> 8,
        timestamp_s: rng.any_size() >> 30,
        features,
        payment_metadata,
        route_hints: (0..rng.range(0, 3))
            .map(|_| (0..rng.range(1, 4)).map(|_| some_hop(rng)).collect())
            .collect(),
        blinded_paths: Vec::new(),
    }
}

/// All fields as LDK has them are those of the invoice asked for.
fn is_as_asked(theirs: &Bolt11Invoice, asked: &NewInvoice, key: &SecretKey) {
    assert_eq!(theirs.amount_milli_satoshis(), asked.amount.map(|a| a.0));
    assert_eq!(theirs.payment_hash().as_byte_array(), &asked.payment_hash.0);
    assert_eq!(theirs.payment_secret().0, asked.payment_secret.0);
    assert_eq!(theirs.duration_since_epoch().as_secs(), asked.timestamp_s);
    assert_eq!(theirs.expiry_time().as_secs(), asked.expiry_s);
    assert_eq!(theirs.min_final_cltv_expiry_delta(), u64::from(asked.min_final_cltv_blocks));
    assert_eq!(theirs.payment_metadata(), asked.payment_metadata.as_ref());
    assert_eq!(theirs.get_payee_pub_key(), key.public_key(secp()));
    match (theirs.description(), &asked.description) {
        (Bolt11InvoiceDescriptionRef::Direct(text), Description::Text(asked)) => {
            assert_eq!(&text.as_inner().0, asked);
        }
        (Bolt11InvoiceDescriptionRef::Hash(hash), Description::Hash(asked)) => {
            assert_eq!(hash.0.as_byte_array(), asked);
        }
        (other, asked) => panic!("{other:?} is not {asked:?}"),
    }
    let mut bits: Vec<u8> = asked.features.as_bytes().to_vec();
    bits.reverse();
    assert_eq!(theirs.features().expect("features").le_flags(), bits);
    let hints: Vec<Vec<RouteHintHop>> =
        theirs.route_hints().iter().map(|hint| hint.0.iter().map(as_ours).collect()).collect();
    assert_eq!(hints, asked.route_hints);
}

fn as_ours(hop: &LdkHop) -> RouteHintHop {
    RouteHintHop {
        node_id: NodeId(hop.src_node_id),
        short_channel_id: ShortChannelId(hop.short_channel_id),
        fee_base_msat: hop.fees.base_msat,
        fee_proportional_millionths: hop.fees.proportional_millionths,
        cltv_expiry_delta_blocks: hop.cltv_expiry_delta,
    }
}

#[test]
fn ldk_reads_ours() {
    property(CASES, |rng| {
        let (asked, key) = (some_invoice(rng), rng.secret());
        let text = make(&asked, &key, secp()).expect("an invoice");
        let theirs = Bolt11Invoice::from_str(&text).unwrap_or_else(|e| panic!("{e:?}: {text}"));
        is_as_asked(&theirs, &asked, &key);
        assert_eq!(theirs.to_string(), text, "LDK writes it again as it was");
    });
}

fn ldk_writes(asked: &NewInvoice, key: &SecretKey) -> Bolt11Invoice {
    use chand_protocol::invoice::Currency;
    let currency = match asked.currency {
        Currency::Bitcoin => lightning_invoice::Currency::Bitcoin,
        Currency::Testnet => lightning_invoice::Currency::BitcoinTestnet,
        Currency::Regtest => lightning_invoice::Currency::Regtest,
        Currency::Signet => lightning_invoice::Currency::Signet,
        Currency::Litecoin | Currency::LitecoinTestnet | Currency::LitecoinRegtest => {
            panic!("LDK makes no invoices of Litecoin: none is asked for")
        }
    };
    let description = match &asked.description {
        Description::Text(text) => Bolt11InvoiceDescription::Direct(
            lightning_invoice::Description::new(text.clone()).expect("short enough"),
        ),
        Description::Hash(hash) => {
            Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(*hash)))
        }
    };
    let mut builder = InvoiceBuilder::new(currency)
        .invoice_description(description)
        .payment_hash(sha256::Hash::from_byte_array(asked.payment_hash.0))
        .payment_secret(lightning_types::payment::PaymentSecret(asked.payment_secret.0))
        .duration_since_epoch(Duration::from_secs(asked.timestamp_s))
        .min_final_cltv_expiry_delta(u64::from(asked.min_final_cltv_blocks))
        .expiry_time(Duration::from_secs(asked.expiry_s))
        .basic_mpp();
    if let Some(amount) = asked.amount {
        builder = builder.amount_milli_satoshis(amount.0);
    }
    for hint in &asked.route_hints {
        let hop = |h: &RouteHintHop| LdkHop {
            src_node_id: h.node_id.0,
            short_channel_id: h.short_channel_id.0,
            fees: RoutingFees {
                base_msat: h.fee_base_msat,
                proportional_millionths: h.fee_proportional_millionths,
            },
            cltv_expiry_delta: h.cltv_expiry_delta_blocks,
            htlc_minimum_msat: None,
            htlc_maximum_msat: None,
        };
        builder = builder.private_route(RouteHint(hint.iter().map(hop).collect()));
    }
    let sign = |hash: &secp256k1::Message| secp().sign_ecdsa_recoverable(hash, key);
    match &asked.payment_metadata {
        Some(metadata) => builder.payment_metadata(metadata.clone()).build_signed(sign),
        None => builder.build_signed(sign),
    }
    .expect("LDK writes it")
}

#[test]
fn we_read_ldks() {
    property(CASES, |rng| {
        let (mut asked, key) = (some_invoice(rng), rng.secret());
        let theirs = ldk_writes(&asked, &key);
        // LDK chooses which features it offers; both have to see the same ones.
        let features = theirs.features().expect("features").le_flags().to_vec();
        let big_endian: Vec<u8> = features.into_iter().rev().collect();
        asked.features = chand_protocol::wire::features::Features::parse(&big_endian);
        is_as_asked(&theirs, &asked, &key);
        let ours: Invoice = parse(&theirs.to_string(), secp()).unwrap_or_else(|e| panic!("{e}: {theirs}"));
        assert_eq!(ours.currency, asked.currency);
        assert_eq!(ours.amount, asked.amount);
        assert_eq!(ours.timestamp_s, asked.timestamp_s);
        assert_eq!(ours.expiry_s, asked.expiry_s);
        assert_eq!(ours.payment_hash, asked.payment_hash);
        assert_eq!(ours.payment_secret.as_ref(), Some(&asked.payment_secret));
        assert_eq!(ours.payee, NodeId(key.public_key(secp())));
        assert_eq!(ours.description, asked.description);
        assert_eq!(ours.min_final_cltv_blocks, asked.min_final_cltv_blocks);
        assert_eq!(ours.route_hints, asked.route_hints);
        assert_eq!(ours.features, asked.features);
        assert_eq!(ours.payment_metadata, asked.payment_metadata);
        assert!(ours.extra.is_empty() && ours.fallbacks.is_empty());
    });
}

#[test]
fn what_is_damaged_is_damaged_for_both() {
    property(CASES, |rng| {
        let text = make(&some_invoice(rng), &rng.secret(), secp()).expect("an invoice");
        let mut bytes = text.into_bytes();
        let at = rng.index(0, bytes.len());
        let letters = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l1B \xff";
        let letter = rng.pick(letters);
        if bytes[at] == letter {
            return;
        }
        bytes[at] = letter;
        let Ok(text) = String::from_utf8(bytes) else { return };
        assert!(parse(&text, secp()).is_err(), "{text}");
        assert!(Bolt11Invoice::from_str(&text).is_err(), "{text}");
    });
}
