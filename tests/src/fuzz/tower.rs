//! What a watchtower reads of its clients, and a node of its tower; and what an opened blob says.
//!
//! In: any bytes. Out: nothing, or a panic: what is understood comes out of its own encoding again, counts are bounded, and
//! nothing but its txid opens a blob. Read next: `chand_protocol::tower`.

use super::hunt::saw;
use bitcoin::hashes::Hash;
use bitcoin::Txid;
use chand_protocol::id::{HtlcId, PaymentHash, Side};
use chand_protocol::tower::blob::Blob;
use chand_protocol::tower::message::{Lost, Quota, TowerMessage, MAX_ENTRIES, MAX_STATES, VERSION};
use chand_protocol::tower::seal::{open_blob, seal_blob, Entry, Sealed, Seed};
use chand_protocol::tower::{HtlcNote, Mode, Run};
use chand_protocol::units::Height;

fn txid() -> Txid {
    Txid::from_byte_array([7; 32])
}

/// The first byte chooses: a message, a blob of either mode, something sealed.
pub fn tower(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 4 {
        0 => message(bytes),
        1 => blob(Mode::Key, bytes),
        2 => blob(Mode::Presigned, bytes),
        _ => sealed(bytes),
    }
}

fn message(bytes: &[u8]) {
    let message = match TowerMessage::decode(bytes) {
        Ok(Some(message)) => message,
        other => return saw(format!("{:?}", other.err())),
    };
    if let TowerMessage::States { states, entries, .. } = &message {
        assert!(states.len() <= MAX_STATES && entries.len() <= MAX_ENTRIES);
        saw((states.len().min(4), entries.len().min(4)));
    }
    // Words that are no UTF-8 grow.
    if matches!(message, TowerMessage::Refused { .. }) {
        return;
    }
    let again = message.encode().expect("what came fits");
    assert_eq!(TowerMessage::decode(&again), Ok(Some(message)));
    assert!(bytes.starts_with(&again), "a message has two encodings");
}

fn blob(mode: Mode, bytes: &[u8]) {
    let blob = match Blob::decode(mode, bytes) {
        Ok(blob) => blob,
        Err(error) => return saw(format!("{error:?}")),
    };
    match &blob {
        Blob::Key { held, .. } => {
            let ids = held.iter().flat_map(|run| run.ids(10)).count();
            saw(("key", held.len().min(9), ids.min(9)));
        }
        Blob::Presigned(penalties) => {
            let txs = penalties.transactions(&txid());
            assert!(txs.len() <= 3 && txs.iter().all(|tx| tx.input[0].previous_output.txid == txid()));
            saw(("presigned", txs.len()));
        }
    }
    let again = blob.encode().expect("what came fits");
    let second = Blob::decode(mode, &again).expect("its own encoding").encode();
    assert_eq!((again.len(), second.as_ref()), (bytes.len(), Some(&again)));
}

fn sealed(bytes: &[u8]) {
    assert!(open_blob(&txid(), bytes).is_none(), "somebody forged a blob");
    let sealed = seal_blob(&txid(), Mode::Key, bytes.to_vec());
    let (mode, plain) = open_blob(&txid(), &sealed).expect("its own txid");
    assert_eq!((mode, plain.as_slice()), (Mode::Key, bytes));
}

/// One of each.
pub fn tower_seeds() -> Vec<Vec<u8>> {
    let key = secp256k1::SecretKey::from_slice(&[3; 32]).expect("a key");
    let point = key.public_key(&secp256k1::Secp256k1::new());
    let held = [(Side::Local, 5, 2), (Side::Remote, 1 << 20, 300)];
    let held = held.map(|(offered_by, first, count)| Run { offered_by, first, count }).to_vec();
    let seed = Seed::of(&[1; 32]);
    let id = HtlcId { offered_by: Side::Local, id: 5 };
    let htlc = HtlcNote { id, payment_hash: PaymentHash([4; 32]), cltv_expiry: Height(700) };
    let entry: Entry = seed.htlc_entry(&htlc);
    let blob = Blob::Key { key: [3; 32].into(), point, seed, held }.encode().expect("short");
    let mut presigned = vec![1, 0, 0, 0, 2];
    presigned.extend(point.serialize());
    presigned.extend(point.serialize());
    presigned.extend([0, 144, 0, 2, 0x51, 0x52, 1]);
    presigned.extend(50_000u64.to_be_bytes());
    presigned.extend([1; 64]);
    let state = Sealed { number: 9, hint: [2; 16], blob: blob.clone() };
    let tag = [6; 16];
    let used = Quota { bytes: 1_000, states: 3 };
    let messages = [
        TowerMessage::Hello { version: VERSION },
        TowerMessage::Welcome { version: VERSION, quota: used },
        TowerMessage::Ask { tag },
        TowerMessage::Have { tag, next: 10, used, lost: Lost { from: 2, to: 4 } },
        TowerMessage::States { tag, states: vec![state], entries: vec![entry] },
        TowerMessage::Refused { tag, reason: "full".into() },
        TowerMessage::Forget { tag },
    ];
    let with = |choice: u8, bytes: Vec<u8>| [vec![choice], bytes].concat();
    let mut seeds: Vec<Vec<u8>> = messages.iter().map(|m| with(0, m.encode().expect("short"))).collect();
    seeds.extend([with(1, blob), with(2, presigned), with(3, vec![8; 60])]);
    seeds
}
