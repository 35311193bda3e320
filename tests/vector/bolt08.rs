//! BOLT 8, Appendix A: the handshake acts of both sides, every published error, and messages through two key rotations.
//!
//! In: `data/bolt08-*.json`, transcribed from `08-transport.md` of the specification. Out: nothing but the assertions.

use chand_protocol::id::{hex_bytes, to_hex};
use chand_protocol::noise::{Initiator, NoiseError, Responder, Transport, LENGTH_BYTES};
use secp256k1::{PublicKey, SecretKey};
use serde_json::Value;

fn load(text: &str) -> Value {
    serde_json::from_str(text).expect("vector file")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex_bytes(value.as_str().expect("hex text")).expect("hex")
}

fn secret(value: &Value) -> SecretKey {
    SecretKey::from_slice(&bytes(value)).expect("secret key")
}

/// The published name of a failure; a read that ends early never reaches the machine, whose acts are whole.
fn name(error: NoiseError) -> String {
    match error {
        NoiseError::BadVersion { act, .. } => format!("ACT{act}_BAD_VERSION"),
        NoiseError::BadPubkey { act } => format!("ACT{act}_BAD_PUBKEY"),
        NoiseError::BadCiphertext { act } => format!("ACT{act}_BAD_CIPHERTEXT"),
        NoiseError::BadTag { act } => format!("ACT{act}_BAD_TAG"),
    }
}

fn act<const N: usize>(step: &Value, number: u8) -> Result<[u8; N], String> {
    bytes(&step["input"]).try_into().map_err(|_| format!("ACT{number}_READ_FAILED"))
}

fn run_initiator(case: &Value) -> Result<Transport, String> {
    let (keys, steps) = (&case["keys"], &case["steps"]);
    let remote = PublicKey::from_slice(&bytes(&keys["rs.pub"])).expect("public key");
    let (initiator, one) = Initiator::new(secret(&keys["ls.priv"]), remote, secret(&keys["e.priv"]));
    assert_eq!(to_hex(&one), steps[0]["output"].as_str().expect("act one"));
    let (three, transport) = initiator.act_two(&act(&steps[1], 2)?).map_err(name)?;
    assert_eq!(to_hex(&three), steps[2]["output"].as_str().expect("act three"));
    Ok(transport)
}

fn run_responder(case: &Value) -> Result<Transport, String> {
    let (keys, steps) = (&case["keys"], &case["steps"]);
    let responder = Responder::new(secret(&keys["ls.priv"]), secret(&keys["e.priv"]));
    let (waiting, two) = responder.act_one(&act(&steps[0], 1)?).map_err(name)?;
    assert_eq!(to_hex(&two), steps[1]["output"].as_str().expect("act two"));
    let (who, transport) = waiting.act_three(&act(&steps[2], 3)?).map_err(name)?;
    // The initiator of every published handshake.
    assert_eq!(
        to_hex(&who.serialize()),
        "034f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa"
    );
    Ok(transport)
}

fn run(case: &Value) -> Result<Transport, String> {
    match case["role"].as_str() {
        Some("initiator") => run_initiator(case),
        Some("responder") => run_responder(case),
        other => panic!("unknown role {other:?}"),
    }
}

#[test]
fn handshakes_and_their_failures() {
    // BOLT 8 [8.act1.1, 8.act1.2, 8.act2.1, 8.act2.2, 8.act3.1, 8.act3.2, 8.act3.3].
    let file = load(include_str!("data/bolt08-handshake.json"));
    let cases = file["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 15);
    for case in cases {
        let expected = case["error"].as_str().map(str::to_owned);
        assert_eq!(run(case).err(), expected, "{}", case["name"]);
    }
}

#[test]
fn messages_through_two_rotations() {
    // BOLT 8 [8.noise.3, 8.frame.2, 8.frame.3].
    let handshakes = load(include_str!("data/bolt08-handshake.json"));
    let file = load(include_str!("data/bolt08-messages.json"));
    let of_role = |role: &str| {
        let case = handshakes["cases"].as_array()?.iter().find(|c| c["role"] == role && c["error"].is_null());
        run(case?).ok()
    };
    let (mut sealer, _) = of_role("initiator").expect("initiator").split();
    let (_, mut opener) = of_role("responder").expect("responder").split();
    let message = bytes(&file["message"]);
    let outputs = file["outputs"].as_object().expect("outputs");
    let mut checked = 0;
    for index in 0..=1001u32 {
        let mut frame = Vec::new();
        sealer.seal(&message, &mut frame).expect("sealed");
        if let Some(expected) = outputs.get(&index.to_string()) {
            assert_eq!(to_hex(&frame), expected.as_str().expect("frame"), "message {index}");
            checked += 1;
        }
        let (head, body) = frame.split_at_mut(LENGTH_BYTES);
        let head: &[u8; LENGTH_BYTES] = (&*head).try_into().expect("head");
        assert_eq!(opener.open_length(head), Ok(message.len()), "message {index}");
        assert_eq!(opener.open_body(body), Ok(&message[..]), "message {index}");
    }
    assert_eq!(checked, outputs.len());
}
