//! BOLT 1's letters, BOLT 2's messages as another implementation writes them, and BOLT 9's bits.
//!
//! In: `data/bolt01-*.json`, each naming its source. Out: verdicts on `chand_protocol::wire`.
//! Read next: `protocol/src/wire/tests.rs` (round trips and damage).

use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Txid};
use chand_protocol::id::{hex_array, hex_bytes, to_hex, ChannelId, ShortChannelId};
use chand_protocol::tx::ChannelType;
use chand_protocol::units::{Feerate, Height, Msat, Sat};
use chand_protocol::wire::codec::{Malformed, Reader, Writer};
use chand_protocol::wire::features::{Context, Feature, Features};
use chand_protocol::wire::message::*;
use chand_protocol::wire::Message;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use serde_json::Value;

fn data(text: &str) -> Value {
    serde_json::from_str(text).expect("the vectors are JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().filter(|list| !list.is_empty()).unwrap_or_else(|| panic!("no {key}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    hex_bytes(text(value, key)).expect("hex")
}

/// A number that may be written as text, being too large for some readers of JSON.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().expect("a number").parse().expect("a number"))
}

#[test]
fn bigsize() {
    // BOLT 1 [1.tlv.3, 1.tlv.5].
    let vectors = data(include_str!("data/bolt01-bigsize.json"));
    for case in list(&vectors, "decode") {
        let bytes = bytes(case, "bytes");
        let mut r = Reader::new(&bytes);
        let expected = match case.get("exp_error").and_then(Value::as_str) {
            None => Ok(number(&case["value"])),
            Some("decoded bigsize is not canonical") => Err(Malformed::NotMinimal("x")),
            Some("unexpected EOF" | "EOF") => Err(Malformed::Truncated("x")),
            Some(other) => panic!("{other}"),
        };
        assert_eq!(r.bigsize("x"), expected, "{case}");
        assert!(expected.is_err() || r.left() == 0, "{case}");
    }
    for case in list(&vectors, "encode") {
        let mut w = Writer::new();
        w.bigsize(number(&case["value"]));
        assert_eq!(w.finish(), Some(bytes(case, "bytes")), "{case}");
    }
}

#[test]
fn signed_integers() {
    let vectors = data(include_str!("data/bolt01-signed-integers.json"));
    for case in list(&vectors, "cases") {
        let bytes = bytes(case, "bytes");
        let mut r = Reader::new(&bytes);
        let value = match bytes.len() {
            1 => r.s8("x").map(i64::from),
            2 => r.s16("x").map(i64::from),
            4 => r.s32("x").map(i64::from),
            8 => r.s64("x"),
            other => panic!("{other} bytes"),
        };
        assert_eq!(value.ok(), case["value"].as_i64(), "{case}");
        assert_eq!(r.left(), 0);
    }
}

/// What the records of the vectors' two namespaces hold, in the vectors' words.
type Values = Vec<(&'static str, String)>;

fn read_n1(kind: u64, r: &mut Reader<'_>, out: &mut Values) -> Result<bool, Malformed> {
    match kind {
        1 => out.push(("amount_msat", r.tu64("amount_msat")?.to_string())),
        2 => out.push(("scid", ShortChannelId(r.u64("scid")?).to_string())),
        3 => {
            let node_id: [u8; 33] = r.array("node_id")?;
            PublicKey::from_slice(&node_id).map_err(|_| Malformed::BadPoint("node_id"))?;
            out.push(("node_id", to_hex(&node_id)));
            out.push(("amount_msat_1", r.u64("amount_msat_1")?.to_string()));
            out.push(("amount_msat_2", r.u64("amount_msat_2")?.to_string()));
        }
        254 => out.push(("cltv_delta", r.u16("cltv_delta")?.to_string())),
        _ => return Ok(false),
    }
    Ok(true)
}

fn read_n2(kind: u64, r: &mut Reader<'_>, out: &mut Values) -> Result<bool, Malformed> {
    match kind {
        0 => out.push(("amount_msat", r.tu64("amount_msat")?.to_string())),
        11 => out.push(("cltv_expiry", r.tu32("cltv_expiry")?.to_string())),
        _ => return Ok(false),
    }
    Ok(true)
}

/// The kind of fault that each reason of the vectors stands for.
fn is_fault_of(reason: &str, fault: Malformed) -> bool {
    let tells = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    match fault {
        Malformed::Truncated(_) => tells(&["truncated", "missing", "less than"]),
        Malformed::TooLong(_) | Malformed::TlvLength(_) => tells(&["greater than"]),
        Malformed::NotMinimal(_) => tells(&["not minimal"]),
        Malformed::BadPoint(_) => tells(&["not a valid point"]),
        Malformed::UnknownEvenTlv(_) => tells(&["unknown even"]),
        Malformed::TlvOrder(_) => tells(&["invalid ordering", "duplicate"]),
        _ => false,
    }
}

#[test]
fn tlv_streams() {
    // BOLT 1 [1.tlv.4, 1.tlv.5, 1.tlv.6, 1.tlv.7, 1.tlv.8, 1.tlv.9, 1.tlv.10, 1.tlv.11, 1.tlv.12].
    let vectors = data(include_str!("data/bolt01-tlv.json"));
    for case in list(&vectors, "cases") {
        let stream = bytes(case, "stream");
        for namespace in list(case, "namespaces") {
            let read = if namespace == "n1" { read_n1 } else { read_n2 };
            let mut values = Values::new();
            let outcome = Reader::new(&stream).tlvs(|kind, value| read(kind, value, &mut values));
            match outcome {
                Ok(()) => {
                    assert_eq!(case["valid"], true, "{case}");
                    let expected = case.get("values").and_then(Value::as_object);
                    assert_eq!(values.len(), expected.map_or(0, |map| map.len()), "{case}");
                    for (name, value) in values {
                        let expected = &case["values"][name];
                        assert_eq!(expected.as_str().map_or(expected.to_string(), str::to_owned), value);
                    }
                }
                Err(fault) => {
                    assert_eq!(case["valid"], false, "{case}: {fault}");
                    assert!(is_fault_of(text(case, "reason"), fault), "{case}: {fault}");
                }
            }
        }
    }
}

#[test]
fn init_extension() {
    let vectors = data(include_str!("data/bolt01-init-extension.json"));
    for case in list(&vectors, "cases") {
        let decoded = Message::decode(&bytes(case, "message"));
        let plain = Message::Init(Init { features: Features::new(), networks: None });
        assert_eq!(decoded.ok(), (case["valid"] == true).then_some(plain), "{case}");
    }
}

const ID: ChannelId = ChannelId([2; 32]);

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a key")
}

fn point(byte: u8) -> PublicKey {
    secret(byte).public_key(&Secp256k1::new())
}

fn signature(byte: u8) -> Signature {
    let digest = secp256k1::Message::from_digest(*b"01010101010101010101010101010101");
    Secp256k1::new().sign_ecdsa(&digest, &secret(byte))
}

fn script(hex: &str) -> ScriptBuf {
    ScriptBuf::from_hex(hex).expect("hex")
}

fn chain() -> [u8; 32] {
    hex_array("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000").expect("hex")
}

fn txid() -> Txid {
    "c2d4449afa8d26140898dd54d3390b057ba2a5afcf03ba29d7dc0d8b9ffe966e".parse().expect("a txid")
}

const P2PKH: &str = "76a91479b000887626b294a914501a4cd226b58b23598388ac";
const P2WSH: &str = "00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260";
const HTLC: u64 = 2_316_138_423_780_173;

fn open(channel_flags: u8, script: Option<ScriptBuf>, channel_type: Option<Features>) -> Message {
    Message::OpenChannel(OpenChannel {
        chain_hash: chain(),
        temporary_channel_id: ID,
        funding_satoshis: Sat(1_311_768_467_284_833_366),
        push_msat: Msat(2_536_655_962_884_945_560),
        dust_limit_satoshis: Sat(3_608_586_615_801_332_854),
        max_htlc_value_in_flight_msat: Msat(8_517_154_655_701_053_848),
        channel_reserve_satoshis: Sat(8_665_828_695_742_877_976),
        htlc_minimum_msat: Msat(HTLC),
        feerate_per_kw: Feerate(821_716),
        to_self_delay: 49_340,
        max_accepted_htlcs: 49_340,
        funding_pubkey: point(1),
        revocation_basepoint: point(2),
        payment_basepoint: point(3),
        delayed_payment_basepoint: point(4),
        htlc_basepoint: point(5),
        first_per_commitment_point: point(6),
        channel_flags,
        upfront_shutdown_script: script,
        channel_type,
    })
}

fn accept(script: Option<ScriptBuf>, channel_type: Option<Features>) -> Message {
    Message::AcceptChannel(AcceptChannel {
        temporary_channel_id: ID,
        dust_limit_satoshis: Sat(1_311_768_467_284_833_366),
        max_htlc_value_in_flight_msat: Msat(2_536_655_962_884_945_560),
        channel_reserve_satoshis: Sat(3_608_586_615_801_332_854),
        htlc_minimum_msat: Msat(HTLC),
        minimum_depth: 821_716,
        to_self_delay: 49_340,
        max_accepted_htlcs: 49_340,
        funding_pubkey: point(1),
        revocation_basepoint: point(2),
        payment_basepoint: point(3),
        delayed_payment_basepoint: point(4),
        htlc_basepoint: point(5),
        first_per_commitment_point: point(6),
        upfront_shutdown_script: script,
        channel_type,
    })
}

fn closing_signed(fee_range: Option<(Sat, Sat)>) -> Message {
    let fee_satoshis = Sat(HTLC);
    Message::ClosingSigned(ClosingSigned { channel_id: ID, fee_satoshis, signature: signature(1), fee_range })
}

fn closing(signatures: [Option<Signature>; 3]) -> ClosingComplete {
    let [closer_output_only, closee_output_only, closer_and_closee_outputs] = signatures;
    ClosingComplete {
        channel_id: ID,
        closer_scriptpubkey: script("51aabb"),
        closee_scriptpubkey: script("6a00"),
        fee_satoshis: Sat(1_000),
        locktime: 821_716,
        closer_output_only,
        closee_output_only,
        closer_and_closee_outputs,
    }
}

fn add_htlc(path_key: Option<PublicKey>) -> Message {
    let onion = OnionPacket {
        version: 255,
        public_key: point(1).serialize(),
        hop_payloads: [1; 1_300],
        hmac: [2; 32],
    };
    Message::UpdateAddHtlc(UpdateAddHtlc {
        channel_id: ID,
        id: HTLC,
        amount_msat: Msat(3_608_586_615_801_332_854),
        payment_hash: [1; 32],
        cltv_expiry: Height(821_716),
        onion_routing_packet: Box::new(onion),
        path_key,
    })
}

fn commitment_signed(htlc_signatures: Vec<Signature>) -> Message {
    Message::CommitmentSigned(CommitmentSigned { channel_id: ID, signature: signature(1), htlc_signatures })
}

fn channel_ready(short_channel_id: Option<ShortChannelId>) -> Message {
    let second_per_commitment_point = point(1);
    Message::ChannelReady(ChannelReady { channel_id: ID, second_per_commitment_point, short_channel_id })
}

fn init(networks: Vec<[u8; 32]>) -> Message {
    Message::Init(Init { features: Features::new(), networks: Some(networks) })
}

fn reestablish() -> Message {
    let id = std::array::from_fn(|at| if at % 8 == 0 { 4 + at as u8 / 8 } else { 0 });
    Message::ChannelReestablish(ChannelReestablish {
        channel_id: ChannelId(id),
        next_commitment_number: 3,
        next_revocation_number: 4,
        your_last_per_commitment_secret: [9; 32],
        my_current_per_commitment_point: point(1),
    })
}

/// What the message of this name says, field by field.
fn meaning(name: &str) -> Message {
    let said = ErrorMessage { channel_id: ID, data: b"rust-lightning".to_vec() };
    let none = Some(Features::new());
    match name {
        "open_channel" => open(0, None, None),
        "open_channel with upfront_shutdown_script and channel_type" => open(32, Some(script(P2PKH)), none),
        "accept_channel" => accept(None, None),
        "accept_channel with upfront_shutdown_script" => accept(Some(script(P2PKH)), None),
        "accept_channel with an empty upfront_shutdown_script and channel_type" => {
            accept(Some(script("")), Some(ChannelType::Anchors.to_features()))
        }
        "funding_created" => Message::FundingCreated(FundingCreated {
            temporary_channel_id: ID,
            funding_txid: txid(),
            funding_output_index: 255,
            signature: signature(1),
        }),
        "funding_signed" => Message::FundingSigned(FundingSigned { channel_id: ID, signature: signature(1) }),
        "channel_ready" => channel_ready(None),
        "channel_ready with alias" => channel_ready(ShortChannelId::new(0x0809a4, 0x000100, 2)),
        "shutdown" => Message::Shutdown(Shutdown { channel_id: ID, scriptpubkey: script(P2WSH) }),
        "closing_signed" => closing_signed(None),
        "closing_signed with fee_range" => {
            closing_signed(Some((Sat(0xdead_beef), Sat(0x1bad_cafe_0123_4567))))
        }
        "closing_complete with all three signatures" => {
            Message::ClosingComplete(closing([1, 2, 3].map(|key| Some(signature(key)))))
        }
        "closing_sig with one signature" => Message::ClosingSig(closing([None, Some(signature(2)), None])),
        "update_add_htlc" | "update_add_htlc with an experimental record" => add_htlc(None),
        "update_add_htlc with path_key" => add_htlc(Some(point(1))),
        "update_fulfill_htlc" => Message::UpdateFulfillHtlc(UpdateFulfillHtlc {
            channel_id: ID,
            id: HTLC,
            payment_preimage: [1; 32],
        }),
        "update_fail_htlc with attribution_data" => {
            Message::UpdateFailHtlc(UpdateFailHtlc { channel_id: ID, id: HTLC, reason: vec![1; 32] })
        }
        "update_fail_malformed_htlc" => Message::UpdateFailMalformedHtlc(UpdateFailMalformedHtlc {
            channel_id: ID,
            id: HTLC,
            sha256_of_onion: [1; 32],
            failure_code: 255,
        }),
        "commitment_signed" => commitment_signed(vec![]),
        "commitment_signed with three HTLCs" => commitment_signed([2, 3, 4].map(signature).to_vec()),
        "revoke_and_ack" => Message::RevokeAndAck(RevokeAndAck {
            channel_id: ID,
            per_commitment_secret: secret(1),
            next_per_commitment_point: point(1),
        }),
        "update_fee" => Message::UpdateFee(UpdateFee { channel_id: ID, feerate_per_kw: Feerate(20_190_119) }),
        "channel_reestablish"
        | "channel_reestablish with next_funding"
        | "channel_reestablish with my_current_funding_locked" => reestablish(),
        "init with two networks" => init(vec![[1; 32], [2; 32]]),
        "init with remote_addr" => init(vec![chain()]),
        "error" => Message::Error(said),
        "warning" => Message::Warning(said),
        "ping" => Message::Ping(Ping { num_pong_bytes: 64, byteslen: 64 }),
        "pong" => Message::Pong(Pong { byteslen: 64 }),
        other => panic!("no meaning for {other}"),
    }
}

#[test]
fn messages_as_others_write_them() {
    let vectors = data(include_str!("data/bolt01-messages.json"));
    for case in list(&vectors, "messages").iter().chain(list(&vectors, "assembled")) {
        let name = text(case, "name");
        let kind = case["type"].as_u64().and_then(|kind| u16::try_from(kind).ok()).expect("a type");
        let message = [kind.to_be_bytes().to_vec(), bytes(case, "payload")].concat();
        // Odd records that chand does not keep: read over, and not written.
        let dropped = bytes(case, "dropped");
        let meant = meaning(name);
        assert_eq!(Message::decode(&[&message[..], &dropped].concat()).as_ref(), Ok(&meant), "{name}");
        assert_eq!(meant.encode().map(|bytes| to_hex(&bytes)), Ok(to_hex(&message)), "{name}");
        assert!(name.starts_with(meant.name()), "{name}");
    }
    assert_eq!(txid().as_byte_array()[0], 0x6e);
}

#[test]
fn both_feature_maps_of_init_are_merged() {
    // BOLT 1 [1.init.7].
    let vectors = data(include_str!("data/bolt01-messages.json"));
    for case in list(&vectors, "init_with_two_feature_maps") {
        let message = [vec![0, 16], bytes(case, "payload")].concat();
        let Ok(Message::Init(init)) = Message::decode(&message) else { panic!("{case}") };
        assert_eq!(init.features, Features::parse(&bytes(case, "features")));
    }
    let merged = Message::decode(&[0, 16, 0, 2, 0x02, 0x00, 0, 3, 0, 0, 0x80]);
    let features = Features::of(&[7, 9]);
    assert_eq!(merged, Ok(Message::Init(Init { features, networks: None })));
}

fn bits(case: &Value, key: &str) -> Vec<u16> {
    let bits = case[key].as_array().expect("bits");
    bits.iter().map(|bit| bit.as_u64().and_then(|bit| bit.try_into().ok()).expect("a bit")).collect()
}

#[test]
fn feature_bits_are_a_set() {
    // BOLT 1, 2 [1.init.1, 2.open.13].
    let vectors = data(include_str!("data/bolt01-features.json"));
    for case in list(&vectors, "encoding") {
        let mut bits = bits(case, "bits");
        let features = Features::of(&bits);
        assert_eq!(to_hex(features.as_bytes()), text(case, "bytes"));
        assert_eq!(features, Features::parse(&bytes(case, "bytes")));
        assert_eq!(
            features.bits().collect::<Vec<_>>(),
            bits.iter().map(|b| u32::from(*b)).collect::<Vec<_>>()
        );
        assert!((0..120).all(|bit| features.is_set(bit) == bits.contains(&bit)), "{case}");
        bits.reverse();
        assert_eq!(features, Features::of(&bits));
    }
    for pair in list(&vectors, "same") {
        let [a, b] =
            [0, 1].map(|at| Features::parse(&hex_bytes(pair[at].as_str().expect("hex")).expect("hex")));
        assert_eq!(a, b);
        assert_eq!(a.as_bytes(), b.as_bytes());
    }
    let (short, long) = (Features::of(&[1]), Features::of(&[2, 60]));
    for (mut a, b) in [(short.clone(), &long), (long.clone(), &short)] {
        a.or(b);
        assert_eq!(a, Features::of(&[1, 2, 60]));
    }
}

#[test]
fn peers_and_chand_accept_each_other() {
    let vectors = data(include_str!("data/bolt01-features.json"));
    for simple_close in [false, true] {
        let ours = Features::ours_init(simple_close);
        assert_eq!(ours.supports(Feature::SimpleClose), simple_close);
        assert_eq!(ours.missing_dependency(), None);
        // "MUST NOT set both the optional and mandatory bits"; "... in fields not specified by the table".
        for bit in ours.bits() {
            let feature = Feature::ALL.iter().find(|f| u32::from(f.even()) == bit & !1).expect("known");
            assert!(feature.shown_in(Context::Init), "{}", feature.name());
            assert!(!(ours.is_set(feature.even()) && ours.is_set(feature.odd())));
        }
        for case in list(&vectors, "peers") {
            let theirs = Features::parse(&bytes(case, "bytes"));
            let said = bits(case, "even").into_iter().chain(bits(case, "odd")).collect::<Vec<_>>();
            assert_eq!(theirs, Features::of(&said));
            assert_eq!(theirs.unknown_even(), None);
            assert_eq!(theirs.missing_dependency(), None);
            assert_eq!(theirs.required_beyond(&ours), None, "what they insist on, chand offers");
            assert_eq!(ours.required_beyond(&theirs), None, "what chand insists on, they offer");
            assert!(ours.negotiated(&theirs, Feature::Anchors));
            assert!(!ours.negotiated(&theirs, Feature::SimpleClose));
            assert!(!ours.negotiated(&theirs, Feature::Quiesce));
        }
    }
    // Offered as even, it is in force whatever the peer says.
    assert!(Features::ours_init(false).negotiated(&Features::new(), Feature::StaticRemotekey));
    assert!(!Features::ours_init(false).negotiated(&Features::new(), Feature::Anchors));
}

#[test]
fn requirements_and_dependencies() {
    // BOLT 1 [1.init.9].
    let vectors = data(include_str!("data/bolt01-features.json"));
    for case in list(&vectors, "dependencies") {
        let missing = Features::of(&bits(case, "bits")).missing_dependency();
        assert_eq!(missing.is_none(), case["ok"] == true, "{case}");
        assert_eq!(missing.map(|(_, needed)| needed.name()), case.get("missing").and_then(Value::as_str));
    }
    for case in list(&vectors, "required") {
        let unknown = Features::of(&bits(case, "bits")).unknown_even();
        assert_eq!(unknown.map(u64::from), case["unknown"].as_u64(), "{case}");
    }
    // "if both the optional and the mandatory feature bits in a pair are set, [...] treated as mandatory"
    let both = Features::of(&[28, 29]);
    assert!(both.requires(28) && both.requires(29) && both.supports(Feature::DualFund));
    assert!(!Features::of(&[29]).requires(28));
    // Implemented, but switched off here.
    let insists = Features::of(&[26, 60]);
    assert_eq!(insists.unknown_even(), None);
    assert_eq!(insists.required_beyond(&Features::ours_init(true)), None);
    assert_eq!(insists.required_beyond(&Features::ours_init(false)), Some(60));
}

#[test]
fn channel_types_are_exact() {
    // BOLT 2 [2.open.31, 2.open.32].
    let vectors = data(include_str!("data/bolt01-features.json"));
    for case in list(&vectors, "channel_types") {
        let features = Features::of(&bits(case, "bits"));
        let found = ChannelType::from_features(&features);
        assert_eq!(found.map(|kind| format!("{kind:?}")).as_deref(), case["type"].as_str(), "{case}");
        if let Some(kind) = found {
            assert_eq!(kind.to_features(), features);
            assert_eq!(kind.is_anchors(), features.is_set(22));
        }
    }
}

#[test]
fn features_have_their_own_bits() {
    let evens: Vec<u16> = Feature::ALL.iter().map(|feature| feature.even()).collect();
    assert!(evens.windows(2).all(|pair| pair[0] < pair[1]), "{evens:?}");
    assert!(evens.iter().all(|bit| bit % 2 == 0));
}
