//! Invoices there and back, against the crate's own reader, and damaged ones.

use super::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use bitcoin::bech32::{ByteIterExt, Fe32};
use secp256k1::{All, PublicKey, Secp256k1, SecretKey};

fn key() -> SecretKey {
    SecretKey::from_slice(&[0x11; 32]).unwrap()
}

fn node_id(secp: &Secp256k1<All>) -> NodeId {
    NodeId(PublicKey::from_secret_key(secp, &key()))
}

fn plain() -> NewInvoice {
    NewInvoice {
        currency: Currency::Regtest,
        amount: Some(Msat(123_456)),
        payment_hash: PaymentHash([3; 32]),
        payment_secret: PaymentSecret([4; 32]),
        description: Description::Text("coffee for Bob ☕".to_string()),
        expiry_s: DEFAULT_EXPIRY_S,
        min_final_cltv_blocks: 18,
        timestamp_s: 1_700_000_000,
        features: our_features(),
        payment_metadata: None,
        route_hints: Vec::new(),
        blinded_paths: Vec::new(),
    }
}

fn hop(secp: &Secp256k1<All>, n: u16) -> RouteHintHop {
    RouteHintHop {
        node_id: node_id(secp),
        short_channel_id: ShortChannelId::new(100, n.into(), 1).unwrap(),
        fee_base_msat: 1_000,
        fee_proportional_millionths: 10,
        cltv_expiry_delta_blocks: n,
    }
}

fn full(secp: &Secp256k1<All>) -> NewInvoice {
    NewInvoice {
        currency: Currency::Bitcoin,
        amount: None,
        description: Description::Hash([9; 32]),
        expiry_s: 7 * 24 * 3600,
        min_final_cltv_blocks: 144,
        payment_metadata: Some(vec![1, 2, 3]),
        route_hints: vec![vec![hop(secp, 1), hop(secp, 2)], vec![hop(secp, 3)]],
        ..plain()
    }
}

fn same(new: &NewInvoice, read: &Invoice) {
    assert_eq!((read.currency, read.amount), (new.currency, new.amount));
    assert_eq!((read.timestamp_s, read.expiry_s), (new.timestamp_s, new.expiry_s));
    assert_eq!(read.payment_hash, new.payment_hash);
    assert_eq!(read.payment_secret.as_ref(), Some(&new.payment_secret));
    assert_eq!(read.description, new.description);
    assert_eq!(read.min_final_cltv_blocks, new.min_final_cltv_blocks);
    assert_eq!(read.route_hints, new.route_hints);
    assert_eq!(read.features, new.features);
    assert_eq!(read.payment_metadata, new.payment_metadata);
    assert!(read.fallbacks.is_empty() && read.extra.is_empty());
}

#[test]
fn what_is_made_is_read_back() {
    // BOLT 11 [11.data.1, 11.data.2, 11.read.11, 11.text.1, 11.text.2, 11.write.1, 11.write.4, 11.write.7, 11.write.9,
    // 11.write.17].
    let secp = Secp256k1::new();
    let longest = Description::Text("x".repeat(MAX_FIELD_BYTES));
    let cases = [
        plain(),
        full(&secp),
        NewInvoice { description: longest, ..plain() },
        NewInvoice { description: Description::Text(String::new()), ..plain() },
        NewInvoice { features: Features::new(), expiry_s: 1, min_final_cltv_blocks: 1, ..plain() },
        NewInvoice { expiry_s: 0, min_final_cltv_blocks: 0, ..plain() },
        NewInvoice { expiry_s: u64::MAX, min_final_cltv_blocks: u32::MAX, ..plain() },
        NewInvoice { timestamp_s: (1 << 35) - 1, currency: Currency::Signet, ..plain() },
        NewInvoice { features: Features::of(&[8, 14, 17, 49, 999]), ..plain() },
    ];
    for new in cases {
        let text = make(&new, &key(), &secp).unwrap();
        let read = parse(&text, &secp).unwrap();
        same(&new, &read);
        assert_eq!(read.payee, node_id(&secp));
        assert_eq!(parse(&text.to_uppercase(), &secp), Ok(read.clone()));
        assert_eq!(parse(&format!(" LIGHTNING:{text}\n"), &secp), Ok(read));
    }
}

#[test]
fn another_reader_agrees() {
    // BOLT 11 [11.data.2, 11.write.2, 11.write.14, 11.write.16].
    let secp = Secp256k1::new();
    for new in [plain(), full(&secp)] {
        let text = make(&new, &key(), &secp).unwrap();
        let theirs: lightning_invoice::Bolt11Invoice = text.parse().unwrap();
        assert_eq!(theirs.amount_milli_satoshis(), new.amount.map(|a| a.0));
        assert_eq!(theirs.payment_secret().0, new.payment_secret.0);
        assert_eq!(theirs.expiry_time().as_secs(), new.expiry_s);
        assert_eq!(theirs.min_final_cltv_expiry_delta(), u64::from(new.min_final_cltv_blocks));
        assert_eq!(theirs.get_payee_pub_key(), node_id(&secp).0);
        assert_eq!(theirs.route_hints().len(), new.route_hints.len());
        assert_eq!(theirs.to_string(), text, "both write it alike");
    }
}

#[test]
fn what_does_not_fit_is_not_made() {
    let secp = Secp256k1::new();
    let refused = |new: NewInvoice| make(&new, &key(), &secp).unwrap_err();
    let long = Description::Text("x".repeat(640));
    assert_eq!(
        refused(NewInvoice { description: long, ..plain() }).to_string(),
        "the description takes 640 bytes, an invoice holds 639"
    );
    assert_eq!(refused(NewInvoice { amount: Some(Msat(0)), ..plain() }), InvoiceError::Amount);
    assert_eq!(refused(NewInvoice { timestamp_s: 1 << 35, ..plain() }), InvoiceError::Timestamp);
    let hints = vec![vec![hop(&secp, 1); 13]];
    let too_long = InvoiceError::TooLongToMake { what: "a route hint", bytes: 663 };
    assert_eq!(refused(NewInvoice { route_hints: hints, ..plain() }), too_long);
    let hints = vec![vec![hop(&secp, 1); 12]; 7];
    assert_eq!(refused(NewInvoice { route_hints: hints, ..plain() }), InvoiceError::TooLong);
}

#[test]
fn a_changed_or_missing_letter_is_noticed() {
    // BOLT 11 [11.text.3].
    let secp = Secp256k1::new();
    let text = make(&plain(), &key(), &secp).unwrap();
    for at in 0..text.len() {
        for letter in ["q", "p", "1", "b", "é"] {
            let changed = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            assert!(changed == text || parse(&changed, &secp).is_err(), "{changed}");
        }
        assert!(parse(&text[..at], &secp).is_err());
    }
    assert_eq!(parse(&text.replace("lnbcrt", "lnbc"), &secp), Err(InvoiceError::Checksum));
    assert_eq!(parse(&"1".repeat(8_000), &secp), Err(InvoiceError::TooLong));
}

/// An invoice whose signature and checksum hold, with `data` for its fields.
fn signed(data: &[Fe32], secp: &Secp256k1<All>) -> Result<Invoice, InvoiceError> {
    let signature = secp.sign_ecdsa_recoverable(&text::signed_message("lnbcrt", data), &key());
    let (id, compact) = signature.serialize_compact();
    let mut bytes = [0u8; 65];
    bytes[..64].copy_from_slice(&compact);
    bytes[64] = id.to_i32() as u8;
    parse(&text::join("lnbcrt", data, &bytes).unwrap(), secp)
}

/// Timestamp 0, then fields given as (letter, 5-bit values).
fn data(fields: &[(char, &[u8])]) -> Vec<Fe32> {
    let mut out = vec![Fe32::Q; 7];
    for (tag, content) in fields {
        out.push(Fe32::from_char(*tag).unwrap());
        out.push(Fe32::try_from((content.len() / 32) as u8).unwrap());
        out.push(Fe32::try_from((content.len() % 32) as u8).unwrap());
        out.extend(content.iter().map(|value| Fe32::try_from(*value).unwrap()));
    }
    out
}

fn fives(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().bytes_to_fes().map(|fe| fe.to_u8()).collect()
}

#[test]
fn each_rule_of_the_reader_is_kept() {
    // BOLT 11 [11.feature.2, 11.read.1, 11.read.3, 11.read.5, 11.read.10, 11.read.12].
    let secp = Secp256k1::new();
    let (hash, text) = (fives(&[7; 32]), fives(b"tea"));
    let (hash, text) = (hash.as_slice(), text.as_slice());
    let base = [('p', hash), ('s', hash), ('d', text)];
    let with = |field: (char, &[u8])| signed(&data(&[&base[..], &[field]].concat()), &secp);
    let read = signed(&data(&base), &secp).unwrap();
    assert_eq!((read.expiry_s, read.min_final_cltv_blocks, read.payee), (3600, 18, node_id(&secp)));

    assert_eq!(signed(&data(&base[1..]), &secp), Err(InvoiceError::NoPaymentHash));
    assert_eq!(signed(&data(&[base[0], base[2]]), &secp), Err(InvoiceError::NoPaymentSecret));
    assert_eq!(signed(&data(&base[..2]), &secp), Err(InvoiceError::Description));
    assert_eq!(with(('h', hash)), Err(InvoiceError::Description));
    // Of a wrong length: skipped beside a sound one, refused in its place.
    for tag in ['p', 's', 'h', 'n'] {
        assert_eq!(with((tag, &hash[1..])).unwrap().extra.len(), 1);
    }
    for (index, tag) in [(0, 'p'), (1, 's'), (2, 'h')] {
        let mut fields = base;
        fields[index] = (tag, &hash[1..]);
        assert_eq!(signed(&data(&fields), &secp), Err(InvoiceError::FieldLength(tag)));
    }
    for tag in ['x', 'c', '9'] {
        assert_eq!(with((tag, &[0, 8])), Err(InvoiceError::NotMinimal), "{tag}");
    }
    assert_eq!(
        with(('c', &[4, 0, 0, 0, 0, 0, 0])),
        Err(InvoiceError::Field("its final expiry is too far away"))
    );
    assert_eq!(with(('x', &[31; 14])), Err(InvoiceError::Field("a number in it is too large")));
    assert_eq!(with(('9', &[1; 1])), Err(InvoiceError::UnknownFeature(0)));
    assert_eq!(
        with(('9', &[4, 0, 0, 0])).unwrap_err().to_string(),
        "the invoice offers basic_mpp without payment_secret, which that needs"
    );
    // Unknown fields and fallbacks of unknown versions are skipped and shown.
    let read = with(('z', &[1, 2])).unwrap();
    assert_eq!(read.extra, [ExtraField { tag: 'z', data: "pz".to_string() }]);
    assert_eq!(with(('f', &[19, 1, 1])).unwrap().fallbacks.len(), 0);
    let wrong = InvoiceError::Field("its fallback address has the wrong length");
    assert_eq!(with(('f', &[&[0], fives(&[1; 21]).as_slice()].concat())), Err(wrong.clone()));
    assert_eq!(with(('f', &[&[17], fives(&[1; 21]).as_slice()].concat())), Err(wrong));
    assert_eq!(with(('r', &[])).unwrap().route_hints.len(), 0);
    // A second payment hash does not count.
    assert_eq!(with(('p', &fives(&[8; 32]))).unwrap().payment_hash, PaymentHash([7; 32]));
}

#[test]
fn any_fields_at_all_are_read_or_refused() {
    let secp = Secp256k1::new();
    let mut seed = 7u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as usize
    };
    let tags = ['p', 's', 'd', 'h', 'n', 'x', 'c', 'f', 'r', '9', 'm', 'q', 'z'];
    let hash = fives(&[7; 32]);
    let mut read = 0;
    for _ in 0..2_000 {
        let contents: Vec<(char, Vec<u8>)> = (0..next() % 6)
            .map(|_| {
                let length = if next() % 2 == 0 { 52 + next() % 2 } else { next() % 120 };
                (tags[next() % tags.len()], (0..length).map(|_| (next() % 32) as u8).collect())
            })
            .collect();
        // Half of them have what an invoice needs in front.
        let base = [('p', hash.as_slice()), ('s', &hash), ('d', &[])];
        let needed = if next() % 2 == 0 { &base[..] } else { &[] };
        let random = contents.iter().map(|(tag, content)| (*tag, content.as_slice()));
        let fields: Vec<(char, &[u8])> = needed.iter().copied().chain(random).collect();
        let mut all = data(&fields);
        all.truncate(all.len() - next() % 3);
        read += usize::from(signed(&all, &secp).is_ok());
    }
    assert!((20..1_000).contains(&read), "some are read, most are refused: {read}");
}

#[test]
fn expiry_counts_from_the_timestamp() {
    let secp = Secp256k1::new();
    let read = parse(&make(&plain(), &key(), &secp).unwrap(), &secp).unwrap();
    assert!(!read.is_expired(1_700_003_600) && read.is_expired(1_700_003_601));
    let forever = NewInvoice { expiry_s: u64::MAX, ..plain() };
    let read = parse(&make(&forever, &key(), &secp).unwrap(), &secp).unwrap();
    assert!(!read.is_expired(u64::MAX));
}

#[test]
fn another_chain_is_told_in_words() {
    let secp = Secp256k1::new();
    let read = parse(&make(&plain(), &key(), &secp).unwrap(), &secp).unwrap();
    assert_eq!(read.require_currency(Currency::Regtest), Ok(()));
    assert_eq!(
        read.require_currency(Currency::Bitcoin).unwrap_err().to_string(),
        "the invoice is for bitcoin regtest, not for bitcoin"
    );
}

#[test]
fn descriptions_are_printed_escaped() {
    let text = Description::Text("pay\u{1b}[2J\n\u{202e}me".to_string());
    assert_eq!(text.to_string(), "pay\\u{1b}[2J\\n\\u{202e}me");
    let secp = Secp256k1::new();
    let printed = format!("{:?}", parse(&make(&plain(), &key(), &secp).unwrap(), &secp).unwrap());
    assert!(printed.contains("PaymentSecret(secret)"), "{printed}");
}

/// bLIP 39's published invoice, with these fields behind its own and signed anew.
fn hidden_with(extra: &[(Fe32, &[u8])]) -> Result<Invoice, InvoiceError> {
    const HIDDEN: &str = "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4js5fdqqqqq2qqqqqpgqyzqqqqqqqqqqqqyqqqqqqqqqqqvsqqqqlnxy0ffrlt2y2jgtzw89kgr3zg4dlwtlfycn3yuek8x5eucnuchqps82xf0m2u6sx5wnjw7xxgnxz5kf09quqsv5zvkgj7d5kpzttp4qz7q5qsyqcyq5pzq2feycsemrh7wvendc4kw3tsmkt25a36ev6kfehrv7ecfkrp5zs9q5zqxqspqtr4avek5quzjn427asptzews5wrczfhychr2sq6ue9phmn35tjqcrspqgpsgpgxquyqjzstpsxsu59zqqqqqpqqqqqqyqq2qqqqqqqqqqqqqqqqqqqqqqqqpgqqqqk8t6endgpc99824amqzk9japgu8synwf3wx4qp4ej2r0h8rghypsqsygpf8ynzr8vwleenxdhzke69wrwed2nk8t9n2e8xudnm8pxcvxs2q5qsyqcyq5y4rdlhtf84f8rgdj34275juwls2ftxtcfh035863q3p9k6s94hpxhdmzfn5gxpsazdznxs56j4vt3fdhe00g9v2l3szher50hp4xlggqkxf77f";
    let secp = Secp256k1::new();
    let mut parts = text::split(HIDDEN)?;
    for (tag, bytes) in extra {
        let content: Vec<Fe32> = bytes.iter().copied().bytes_to_fes().collect();
        let length = [content.len() / 32, content.len() % 32].map(|n| Fe32::try_from(n as u8).unwrap());
        parts.data.extend([*tag].into_iter().chain(length).chain(content));
    }
    let signature = secp.sign_ecdsa_recoverable(&text::signed_message(&parts.human, &parts.data), &key());
    let (recovery, compact) = signature.serialize_compact();
    let bytes: Vec<u8> = compact.into_iter().chain([recovery.to_i32() as u8]).collect();
    parse(&text::join(&parts.human, &parts.data, &bytes.try_into().unwrap())?, &secp)
}

#[test]
fn beside_blinded_paths_stand_neither_secret_nor_hints_and_broken_paths_are_refused() {
    assert_eq!(hidden_with(&[]).unwrap().blinded_paths.len(), 2);
    let hint = [&node_id(&Secp256k1::new()).0.serialize()[..], &[0; 18]].concat();
    let beside = |what| Err(InvoiceError::BesidePaths(what));
    assert_eq!(hidden_with(&[(Fe32::S, &[7; 32])]), beside("a payment secret"));
    assert_eq!(hidden_with(&[(Fe32::R, &hint)]), beside("route hints"));
    // A path without hops, one cut short, one whose key is none.
    let paths = hidden_with(&[]).unwrap().blinded_paths;
    let sound = blinded::write(&paths[1]).unwrap();
    assert_eq!(hidden_with(&[(make::BLINDED_PATH, &sound)]).unwrap().blinded_paths.len(), 3);
    let mut wrong_key = sound.clone();
    wrong_key[28] = 9;
    let mut no_hops = sound[..62].to_vec();
    *no_hops.last_mut().unwrap() = 0;
    for broken in [&sound[..sound.len() - 1], &sound[..40], &wrong_key, &no_hops] {
        assert!(
            matches!(hidden_with(&[(make::BLINDED_PATH, broken)]), Err(InvoiceError::Field(_))),
            "{broken:?}"
        );
    }
    // Too many hops for one field.
    let mut long = paths[0].clone();
    long.path.hops.iter_mut().for_each(|hop| hop.encrypted_data = vec![1; 200]);
    let new = blinded::for_paths(Currency::Regtest, None, PaymentHash([3; 32]), 1_700_000_000, vec![long]);
    let refused = make(&new, &key(), &Secp256k1::new()).unwrap_err();
    assert!(matches!(refused, InvoiceError::TooLongToMake { what: "a blinded path", .. }), "{refused}");
}
