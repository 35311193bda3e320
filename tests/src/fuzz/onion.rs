//! Onions, their layers and the failures that come back, out of bytes that any hop may have chosen (BOLT 4).
//!
//! In: bytes that are a packet, a layer or a failure, or that change a real one. Out: nothing, or a panic: a packet
//! that is not the real one is refused with the code that the specification asks for, what is read is written the same.
//! Read next: `invoice`.

use super::feed::Feed;
use super::hunt::saw;
use chand_protocol::id::{PaymentSecret, ShortChannelId};
use chand_protocol::onion::blind::{open, BlindedPath, Constraints, HopData, Relay};
use chand_protocol::onion::failure::{Failure, INVALID_ONION_HMAC, INVALID_ONION_KEY, INVALID_ONION_VERSION};
use chand_protocol::onion::payload::{Blinded, Final, Forward, Payload};
use chand_protocol::onion::returned::{unwrap, wrap, wrap_again, wrap_message};
use chand_protocol::onion::sphinx::{build, peel, sha256_of_onion, PeelError};
use chand_protocol::onion::SharedSecret;
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::message::OnionPacket;
use secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use std::sync::OnceLock;

fn secp() -> &'static Secp256k1<All> {
    static ONE: OnceLock<Secp256k1<All>> = OnceLock::new();
    ONE.get_or_init(Secp256k1::new)
}

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a key")
}

const HASH: [u8; 32] = [7; 32];

/// Two hops to a payee, as a payer makes them.
fn real() -> &'static (OnionPacket, Vec<SharedSecret>, Vec<Vec<u8>>) {
    static ONE: OnceLock<(OnionPacket, Vec<SharedSecret>, Vec<Vec<u8>>)> = OnceLock::new();
    ONE.get_or_init(|| {
        let forward = Forward {
            short_channel_id: ShortChannelId(0x0000_7b00_0001_0000),
            amt_to_forward: Msat(50_000),
            outgoing_cltv_value: Height(140),
        };
        let last = Final::invoice(Msat(50_000), Height(140), PaymentSecret([9; 32]), Msat(50_000));
        let layers = vec![forward.encode(), last.encode()];
        let hops: Vec<(PublicKey, Vec<u8>)> =
            layers.iter().zip([1, 2]).map(|(l, n)| (key(n).public_key(secp()), l.clone())).collect();
        let built = build(&key(0x41), &hops, &HASH, secp()).unwrap_or_else(|e| panic!("{e}"));
        (built.packet, built.shared_secrets, layers)
    })
}

fn bytes_of(packet: &OnionPacket) -> Vec<u8> {
    [&[packet.version], &packet.public_key[..], &packet.hop_payloads, &packet.hmac].concat()
}

fn packet_of(bytes: &[u8]) -> OnionPacket {
    let mut feed = Feed::new(bytes);
    OnionPacket {
        version: feed.u8(),
        public_key: feed.array(),
        hop_payloads: feed.array(),
        hmac: feed.array(),
    }
}

/// Any packet, or a real one with bytes mixed in: only the real one opens, and the answer names the first fault.
pub fn packet(input: &[u8]) {
    let mut feed = Feed::new(input);
    let (real, _, layers) = real();
    let packet = if feed.u8().is_multiple_of(2) {
        packet_of(feed.rest())
    } else {
        let mut bytes = bytes_of(real);
        while !feed.is_empty() {
            let at = usize::from(feed.u16()) % bytes.len();
            bytes[at] ^= feed.u8();
        }
        packet_of(&bytes)
    };
    match peel(&packet, &key(1), &HASH, secp()) {
        Ok(peeled) => {
            assert_eq!(&packet, real, "a packet that nobody sealed was opened");
            assert_eq!(peeled.payload, layers[0]);
            let Some(next) = peeled.next else { panic!("the last hop was cut off") };
            let last = peel(&next, &key(2), &HASH, secp());
            assert!(last.is_ok_and(|last| last.payload == layers[1] && last.next.is_none()));
        }
        Err(PeelError::Malformed { failure_code, sha256_of_onion: hash }) => {
            assert_ne!(&packet, real);
            assert_eq!(hash, sha256_of_onion(&packet));
            let on_curve = PublicKey::from_slice(&packet.public_key).is_ok();
            let expected = match (packet.version, on_curve) {
                (0, true) => INVALID_ONION_HMAC,
                (0, false) => INVALID_ONION_KEY,
                _ => INVALID_ONION_VERSION,
            };
            assert_eq!(failure_code, expected);
            saw(failure_code);
        }
        Err(PeelError::Payload { .. }) => panic!("a layer that nobody sealed was believed"),
    }
    assert!(peel(&packet, &key(1), &[8; 32], secp()).is_err(), "it opens for another payment");
}

/// What sits inside a sealed packet may be anything: here it is sealed properly, so that it is opened and read.
pub fn sealed(input: &[u8]) {
    let mut feed = Feed::new(input);
    let hops = 1 + usize::from(feed.u8()) % 3;
    let route: Vec<(PublicKey, Vec<u8>)> =
        (1..=hops as u8).map(|n| (key(n).public_key(secp()), feed.piece().to_vec())).collect();
    let total: usize = route.iter().map(|(_, p)| p.len() + 32 + if p.len() < 253 { 1 } else { 3 }).sum();
    let built = build(&key(0x42), &route, &HASH, secp());
    let fits = total <= 1_300 && route.iter().all(|(_, payload)| payload.len() >= 2);
    assert_eq!(built.is_ok(), fits, "{total} bytes for {hops} hops");
    saw((hops, fits));
    let Ok(built) = built else { return };
    let mut packet = built.packet;
    for (place, (_, payload)) in route.iter().enumerate() {
        let peeled = peel(&packet, &key(place as u8 + 1), &HASH, secp());
        let peeled = peeled.unwrap_or_else(|e| panic!("hop {place}: {e}"));
        assert_eq!(&peeled.payload, payload);
        assert_eq!(peeled.next.is_none(), place + 1 == hops);
        layer(&peeled.payload, peeled.next.is_none());
        let Some(next) = peeled.next else { break };
        packet = next;
    }
}

/// A layer as bytes: what is read is written the same, or its records that nobody knows are left out.
pub fn payload(input: &[u8]) {
    layer(input, true);
    layer(input, false);
}

fn layer(bytes: &[u8], is_final: bool) {
    let (again, name) = match Payload::decode(bytes, is_final) {
        Err(error) => {
            assert!(usize::from(error.offset) <= bytes.len() + 3, "{error}");
            saw(("bad", is_final, error.kind.min(70_000)));
            return;
        }
        Ok(Payload::Forward(forward)) => {
            assert!(!is_final);
            (Payload::decode(&forward.encode(), false) == Ok(Payload::Forward(forward)), "forward")
        }
        Ok(Payload::Final(last)) => {
            assert!(is_final);
            let total = last.total_msat();
            saw((total == last.amt_to_forward, last.custom.len().min(9), last.keysend_preimage.is_some()));
            (Payload::decode(&last.encode(), true) == Ok(Payload::Final(last)), "final")
        }
        Ok(Payload::Blinded(blinded)) => {
            let mut data = blinded.encrypted_recipient_data.as_slice();
            told(data);
            // Sealed for us, and for somebody else.
            if let Some((first, rest)) = data.split_first() {
                data = rest;
                told(rest);
                unsealed(data, *first);
            }
            (Payload::decode(&blinded.encode(), is_final) == Ok(Payload::Blinded(blinded)), "blinded")
        }
    };
    assert!(again, "a {name} layer is written otherwise than it is read");
    saw((name, is_final));
}

/// What a hop of a blinded path is told, as bytes: what is read is written the same, and no sum of it wraps.
fn told(bytes: &[u8]) {
    let Some(data) = HopData::decode(bytes) else { return };
    assert_eq!(
        HopData::decode(&data.encode(Some(3))).as_ref(),
        Some(&data),
        "written otherwise than it is read"
    );
    for (amount, expiry) in [(0, 0), (50_000, 140), (u64::MAX, u32::MAX)] {
        let onward = data.payment_relay.and_then(|relay| relay.onward(Msat(amount), Height(expiry)));
        assert!(onward.is_none_or(|(out, at)| out.0 <= amount && at.0 <= expiry), "a hop that pays");
    }
    saw(("told", data.is_understood(), data.path_id.is_some(), data.payment_constraints.is_some()));
}

/// The same bytes sealed for a hop: it opens them as they are, nobody else does.
fn unsealed(bytes: &[u8], hop: u8) {
    let (own, other) = (key(1 + hop % 100), key(101 + hop % 100));
    let path = BlindedPath::make(&key(0x43), &[(own.public_key(secp()), bytes.to_vec())], secp());
    let path = path.unwrap_or_else(|e| panic!("{e}"));
    let opened = open(&path.hops[0].encrypted_data, &path.path_key, &own, secp());
    assert_eq!(opened.map(|opened| opened.data), HopData::decode(bytes));
    assert!(open(&path.hops[0].encrypted_data, &path.path_key, &other, secp()).is_none());
}

/// A failure's bytes, whole, cut or tampered with on the way: who sent it is right or unknown, never another.
pub fn failure(input: &[u8]) {
    if let Some(failure) = Failure::decode(input) {
        let again = Failure::decode(&failure.encode());
        // What does not keep to its code is kept as bytes, and bytes are written as they came.
        assert!(
            again.as_ref() == Some(&failure) || has_long_update(&failure),
            "{failure} is written otherwise"
        );
        assert!(!failure.name().is_empty() && !failure.to_string().is_empty());
        saw((failure.name(), failure.is_bad_onion(), failure.is_node(), failure.is_update()));
        assert_eq!(failure.is_permanent(), failure.code() & 0x4000 != 0);
    }
    let mut feed = Feed::new(input);
    let (secrets, erring) = (&real().1, usize::from(feed.u8()) % 2);
    let length = usize::from(feed.u16()) % 700;
    let message = feed.take(length);
    let sent = if message.is_empty() {
        wrap(&secrets[erring], &Failure::TemporaryNodeFailure)
    } else {
        wrap_message(&secrets[erring], message, 256)
    };
    let mut reason = secrets[..erring].iter().rev().fold(sent, |reason, secret| wrap_again(secret, reason));
    let before = reason.clone();
    while !feed.is_empty() && !reason.is_empty() {
        let at = usize::from(feed.u16()) % reason.len();
        match feed.u8() {
            0xff => reason.truncate(at),
            mask => reason[at] ^= mask,
        }
    }
    match unwrap(secrets, &reason) {
        Some((hop, _)) => assert!(hop == erring && reason == before, "the wrong hop is blamed"),
        None => assert_ne!(reason, before, "a real failure was not understood"),
    }
    assert_eq!(unwrap(secrets, input), None, "bytes that nobody sealed have a sender");
}

/// An update above 1,024 bytes is left out when a failure is written: it is never applied anyway.
fn has_long_update(failure: &Failure) -> bool {
    match failure {
        Failure::TemporaryChannelFailure { channel_update }
        | Failure::AmountBelowMinimum { channel_update, .. }
        | Failure::FeeInsufficient { channel_update, .. }
        | Failure::IncorrectCltvExpiry { channel_update, .. }
        | Failure::ExpiryTooSoon { channel_update }
        | Failure::ChannelDisabled { channel_update, .. } => channel_update.len() > 1_024,
        Failure::Other { data, .. } => data.len() > 65_533,
        _ => false,
    }
}

/// Layers and packets to begin with.
pub fn payload_seeds() -> Vec<Vec<u8>> {
    let keysend = Final::keysend(Msat(1_000), Height(700), chand_protocol::id::Preimage([3; 32]));
    let mut seeds = real().2.clone();
    seeds.push(keysend.encode());
    let told = HopData {
        short_channel_id: Some(ShortChannelId(5)),
        payment_relay: Some(Relay {
            cltv_expiry_delta: 40,
            fee_proportional_millionths: 9,
            fee_base_msat: 1,
        }),
        payment_constraints: Some(Constraints { max_cltv_expiry: Height(700), htlc_minimum: Msat(1) }),
        ..HopData::default()
    };
    let last = HopData { path_id: Some(vec![6; 32]), ..told.clone() };
    for (data, is_final) in [(told, false), (last, true)] {
        let blinded = Blinded {
            encrypted_recipient_data: data.encode(Some(2)),
            current_path_key: Some(key(9).public_key(secp())),
            amt_to_forward: is_final.then_some(Msat(50_000)),
            outgoing_cltv_value: is_final.then_some(Height(140)),
            total_amount_msat: is_final.then_some(Msat(50_000)),
        };
        seeds.push(blinded.encode());
    }
    seeds
}

/// A packet that opens, as bytes and as changes to it.
pub fn packet_seeds() -> Vec<Vec<u8>> {
    vec![
        [vec![0], bytes_of(&real().0)].concat(),
        vec![1],
        vec![1, 0, 0, 1],
        vec![1, 0, 1, 1],
        vec![1, 5, 0x50, 0x80],
    ]
}
