//! BOLT 4: the published onion and the published failures, against `onion`.
//!
//! The data is in `data/bolt04-*.json`, each naming its source.

mod blinded;

use chand_protocol::id::{hex_array, hex_bytes, to_hex, ShortChannelId};
use chand_protocol::onion::payload::{Forward, Payload};
use chand_protocol::onion::returned::{unwrap, wrap, wrap_again, wrap_message};
use chand_protocol::onion::sphinx::{build, peel, BuiltOnion};
use chand_protocol::onion::{Failure, SharedSecret};
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::message::OnionPacket;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use serde_json::Value;

fn data(text: &str) -> Value {
    serde_json::from_str(text).expect("the vector file is JSON")
}

fn onion_vector() -> Value {
    data(include_str!("data/bolt04-onion.json"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex_bytes(text(value)).expect("hex")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

fn secret(value: &Value) -> SharedSecret {
    SharedSecret(hex_array(text(value)).expect("32 bytes"))
}

/// The vector's payloads carry their length prefix; ours do not.
fn unprefixed(value: &Value) -> Vec<u8> {
    let bytes = bytes(value);
    let prefix = if bytes[0] == 0xfd { 3 } else { 1 };
    bytes[prefix..].to_vec()
}

fn serialized(packet: &OnionPacket) -> Vec<u8> {
    [&[packet.version], &packet.public_key[..], &packet.hop_payloads, &packet.hmac].concat()
}

fn built(vector: &Value) -> BuiltOnion {
    let session_key: SecretKey = text(&vector["session_key"]).parse().expect("a key");
    let hops: Vec<(PublicKey, Vec<u8>)> = list(&vector["hops"])
        .iter()
        .map(|hop| (text(&hop["pubkey"]).parse().expect("a point"), unprefixed(&hop["payload"])))
        .collect();
    build(&session_key, &hops, &bytes(&vector["associated_data"]), &Secp256k1::new()).expect("it fits")
}

#[test]
fn the_published_onion_is_built_byte_for_byte() {
    let vector = onion_vector();
    assert_eq!(to_hex(&serialized(&built(&vector).packet)), text(&vector["onion"]));
}

#[test]
fn each_hop_peels_the_published_onion() {
    let vector = onion_vector();
    let built = built(&vector);
    let secp = Secp256k1::new();
    let mut packet = Some(built.packet);
    let keys = list(&vector["node_keys"]);
    for (index, (key, hop)) in keys.iter().zip(list(&vector["hops"])).enumerate() {
        let key: SecretKey = text(key).parse().expect("a key");
        let received = packet.take().expect("a packet for this hop");
        let peeled = peel(&received, &key, &bytes(&vector["associated_data"]), &secp).expect("ours");
        assert_eq!(peeled.payload, unprefixed(&hop["payload"]));
        assert_eq!(peeled.shared_secret, built.shared_secrets[index]);
        packet = peeled.next;
    }
    assert!(packet.is_none());
}

#[test]
fn the_published_payloads_are_understood() {
    let vector = onion_vector();
    let hops = list(&vector["hops"]);
    let first = Forward {
        short_channel_id: ShortChannelId(1),
        amt_to_forward: Msat(15_000),
        outgoing_cltv_value: Height(1_500),
    };
    let payload = unprefixed(&hops[0]["payload"]);
    assert_eq!(Payload::decode(&payload, false), Ok(Payload::Forward(first.clone())));
    assert_eq!(first.encode(), payload);
    let Ok(Payload::Final(last)) = Payload::decode(&unprefixed(&hops[4]["payload"]), true) else {
        panic!("the last hop's payload is for the payee");
    };
    assert_eq!((last.amt_to_forward, last.outgoing_cltv_value), (Msat(10_000), Height(1_000)));
    let payment = last.payment_data.expect("payment_data");
    assert_eq!(
        to_hex(&payment.payment_secret.0),
        "24a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f61704"
    );
    assert_eq!(payment.total_msat, Msat(10_000));
}

#[test]
fn the_published_failure_travels_back_byte_for_byte() {
    // BOLT 4 [4.return.1].
    let vector = data(include_str!("data/bolt04-errors.json"));
    let body = bytes(&vector["failuremsg_and_padding"]);
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let failuremsg = &body[2..2 + length];
    let padded_len = body.len() - 4;
    let forwards = list(&vector["forwards"]);
    let mut reason = wrap_message(&secret(&forwards[0]["shared_secret"]), failuremsg, padded_len);
    assert_eq!(to_hex(&reason), text(&forwards[0]["error_packet"]));
    for forward in &forwards[1..] {
        reason = wrap_again(&secret(&forward["shared_secret"]), reason);
        assert_eq!(to_hex(&reason), text(&forward["error_packet"]));
    }
    let mut secrets: Vec<_> = forwards.iter().map(|f| secret(&f["shared_secret"])).collect();
    secrets.reverse();
    let failure = Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat(100), height: Height(800_000) };
    assert_eq!(unwrap(&secrets, &reason), Some((4, failure)));
}

#[test]
fn the_failures_secrets_are_those_of_the_route() {
    let vector = data(include_str!("data/bolt04-errors.json"));
    let session_key: SecretKey = text(&vector["session_key"]).parse().expect("a key");
    let hops: Vec<(PublicKey, Vec<u8>)> =
        list(&vector["pubkeys"]).iter().map(|k| (text(k).parse().expect("a point"), vec![2, 0])).collect();
    let built = build(&session_key, &hops, &[], &Secp256k1::new()).expect("it fits");
    for forward in list(&vector["forwards"]) {
        let node = forward["node"].as_u64().expect("an index") as usize;
        assert_eq!(built.shared_secrets[node], secret(&forward["shared_secret"]));
    }
}

#[test]
fn the_published_short_failure_is_made_and_opened() {
    let vector = data(include_str!("data/bolt04-error-short.json"));
    let secrets: Vec<_> = list(&vector["hops"]).iter().map(|h| secret(&h["shared_secret"])).collect();
    let failure = Failure::decode(&bytes(&vector["failuremsg"])).expect("a code");
    assert_eq!(failure, Failure::TemporaryNodeFailure);
    let mut reason = wrap(&secrets[4], &failure);
    for secret in secrets[..4].iter().rev() {
        reason = wrap_again(secret, reason);
    }
    assert_eq!(to_hex(&reason), text(&vector["error_packet"]));
    assert_eq!(unwrap(&secrets, &reason), Some((4, failure)));
}
