//! BOLT 3 against the vectors of its appendices B to F, and against Bitcoin's own rules.
//!
//! In: `data/bolt03-*.json` (transcribed from 03-transactions.md, each file names its appendix). Out: byte-for-byte agreement.
//! Read next: `bolt03/commitment` (C and F), `bolt03/spend`, `bolt03/ledger`, `bolt03/closing`.

mod closing;
mod commitment;
mod ledger;
mod relay;
mod spend;

use bitcoin::consensus::encode::{deserialize_hex, serialize};
use bitcoin::{Transaction, TxOut};
use bitcoinconsensus::{verify_with_flags, Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT};
use chand_protocol::id::hex_array;
use chand_protocol::tx::keys::{
    derive_public_key, derive_revocation_public_key, derive_revocation_secret_key, derive_secret_key,
    ChannelSecrets,
};
use chand_protocol::tx::shachain::{generate, index_of, SecretStore, MAX_INDEX};
use chand_protocol::tx::weight::{commit_fee, commit_weight, htlc_success_fee, htlc_timeout_fee, is_trimmed};
use chand_protocol::tx::{script, ChannelType};
use chand_protocol::units::{Feerate, Msat, Sat};
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use serde_json::Value;

/// The file's JSON.
fn data(text: &str) -> Value {
    serde_json::from_str(text).expect("the data is JSON")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is a text"))
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} is a number"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("{name} is a list"))
}

fn bytes32(hex: &str) -> [u8; 32] {
    hex_array(hex).expect("32 bytes of hex")
}

/// A private key; the appendices append `01` to say that the public key is compressed.
fn secret_key(hex: &str) -> SecretKey {
    let hex = if hex.len() == 66 { hex.strip_suffix("01").expect("a compressed key's suffix") } else { hex };
    SecretKey::from_slice(&bytes32(hex)).expect("a private key")
}

fn public_key(hex: &str) -> PublicKey {
    hex.parse().expect("a public key")
}

fn transaction(hex: &str) -> Transaction {
    deserialize_hex(hex).expect("a transaction")
}

/// Runs every input's script by the reference code of Bitcoin Core.
fn consensus(tx: &Transaction, spent: &[TxOut]) -> Result<(), bitcoinconsensus::Error> {
    assert_eq!(tx.input.len(), spent.len());
    let utxo = |output: &TxOut| Utxo {
        script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
        script_pubkey_len: output.script_pubkey.len() as u32,
        value: output.value.to_sat() as i64,
    };
    let utxos: Vec<Utxo> = spent.iter().map(utxo).collect();
    let raw = serialize(tx);
    let flags = VERIFY_ALL_PRE_TAPROOT | VERIFY_TAPROOT;
    spent.iter().enumerate().try_for_each(|(place, output)| {
        let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
        verify_with_flags(script, value, &raw, Some(&utxos), place, flags)
    })
}

/// Secrets made of one repeated byte each: `Alice` and `Bob` of the tests below.
fn channel_secrets(first: u8) -> ChannelSecrets {
    let key = |step: u8| SecretKey::from_slice(&[first + step; 32]).expect("a private key");
    ChannelSecrets {
        funding: key(0),
        revocation: key(1),
        payment: key(2),
        delayed_payment: key(3),
        htlc: key(4),
        shachain_seed: [first + 5; 32],
    }
}

/// A small generator (xorshift), the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Evenly below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }
}

#[test]
fn appendix_b_funding_output() {
    let file = data(include_str!("data/bolt03-funding.json"));
    let fields = &file["fields"];
    let local = public_key(text(fields, "local_funding_pubkey"));
    let remote = public_key(text(fields, "remote_funding_pubkey"));
    let script = script::funding(&local, &remote);
    assert_eq!(script, script::funding(&remote, &local), "the order of the keys does not matter");
    assert_eq!(script.to_hex_string(), text(fields, "funding_witness_script"));

    let tx = transaction(text(fields, "funding_tx"));
    assert_eq!(tx.compute_txid().to_string(), text(fields, "txid"));
    let output = &tx.output[number(fields, "funding_output") as usize];
    assert_eq!(output.script_pubkey, script::p2wsh(&script));
    assert_eq!(output.value.to_sat(), number(fields, "funding_satoshis"));
    let block = text(fields, "block_1_coinbase_transaction");
    consensus(&tx, &transaction(block).output).expect("the funding transaction holds");
}

#[test]
fn appendix_d_generation() {
    // BOLT 3 [3.secret.3, 3.secret.4].
    let file = data(include_str!("data/bolt03-secret-generation.json"));
    for case in list(&file, "cases") {
        let secret = generate(&bytes32(text(case, "seed")), number(case, "i"));
        assert_eq!(secret, bytes32(text(case, "output")), "{}", text(case, "name"));
    }
}

#[test]
fn appendix_d_storage() {
    let file = data(include_str!("data/bolt03-secret-storage.json"));
    for case in list(&file, "cases") {
        let mut store = SecretStore::new();
        for insert in list(case, "inserts") {
            let number_up = MAX_INDEX - number(insert, "i");
            let secret = secret_key(text(insert, "secret"));
            let before = store.clone();
            let result = store.insert(number_up, &secret);
            assert_eq!(Some(result.is_ok()), insert["ok"].as_bool(), "{}", text(case, "name"));
            if result.is_ok() {
                assert_eq!(store.get(number_up), Some(secret));
                store.check().expect("a store that took it agrees with itself");
            } else {
                assert_eq!(store, before, "a refused secret leaves no trace");
            }
        }
    }
}

#[test]
fn secrets_are_kept_slot_by_slot() {
    let alice = channel_secrets(0x11);
    let (mut store, mut saved) = (SecretStore::new(), SecretStore::new());
    for number in 0..2_000 {
        assert_eq!(store.get(number), None);
        let secret = alice.per_commitment_secret(number).expect("a number in range");
        let slot = store.insert(number, &secret).expect("the true secret");
        let (index, bytes) = store.slot(slot).expect("the slot just written");
        saved.set_slot(slot, index, &bytes).expect("its own slot");
        assert_eq!((store.count(), saved.count()), (number + 1, number + 1));
        saved.check().expect("what was saved is whole");
    }
    assert_eq!(store, saved, "one slot saved for each secret is enough");
    for number in 0..2_000 {
        assert_eq!(store.get(number), alice.per_commitment_secret(number).ok());
    }
    assert_eq!((store.get(2_000), store.get(u64::MAX)), (None, None));
    assert!(format!("{store:?}").len() < 40, "no secret is printed");
}

#[test]
fn wrong_secrets_and_slots_are_refused() {
    let (alice, bob) = (channel_secrets(0x11), channel_secrets(0x21));
    let secret = |number| alice.per_commitment_secret(number).expect("a number in range");
    let mut store = SecretStore::new();
    assert!(store.insert(1, &secret(1)).is_err(), "out of turn");
    for number in 0..100 {
        store.insert(number, &secret(number)).expect("the true secret");
    }
    assert!(store.insert(101, &secret(101)).is_err(), "one left out");
    assert_eq!(store.insert(42, &secret(42)).ok(), Some(0), "an equal one again is no fault");
    assert!(store.insert(42, &secret(43)).is_err(), "another one is");
    let other = bob.per_commitment_secret(101).expect("a number in range");
    store.insert(100, &secret(100)).expect("the true secret");
    assert!(store.insert(101, &other).is_err(), "of another seed, with one slot below it");

    assert!(store.insert(102, &secret(102)).is_err(), "one left out, with no slot below to show it");

    let (index, bytes) = store.slot(2).expect("slot 2 is in use");
    let mut damaged = store.clone();
    assert!(damaged.set_slot(3, index, &bytes).is_err(), "not its slot");
    assert!(damaged.set_slot(49, 0, &bytes).is_err(), "no such slot");
    assert!(damaged.set_slot(2, MAX_INDEX + 5, &bytes).is_err(), "no such index");
    let mut wrong = *bytes;
    wrong[31] ^= 1;
    damaged.set_slot(2, index, &wrong).expect("its slot");
    assert!(damaged.check().is_err(), "a slot that was changed shows");
    let mut holey = SecretStore::new();
    for slot in (0..49).filter(|slot| *slot != 2) {
        if let Some((index, bytes)) = store.slot(slot) {
            holey.set_slot(slot, index, &bytes).expect("its slot");
        }
    }
    assert!(holey.check().is_err(), "a slot that is missing shows");
    assert_eq!(index_of(MAX_INDEX), Some(0));
    assert_eq!(index_of(MAX_INDEX + 1), None);
    assert!(alice.per_commitment_secret(MAX_INDEX).is_ok());
    assert!(alice.per_commitment_secret(MAX_INDEX + 1).is_err());
}

#[test]
fn appendix_e_key_derivation() {
    let file = data(include_str!("data/bolt03-key-derivation.json"));
    let (given, cases) = (&file["given"], list(&file, "cases"));
    let secp = Secp256k1::new();
    let base = secret_key(text(given, "base_secret"));
    let secret = secret_key(text(given, "per_commitment_secret"));
    let base_point = public_key(text(given, "base_point"));
    let point = public_key(text(given, "per_commitment_point"));
    assert_eq!((base.public_key(&secp), secret.public_key(&secp)), (base_point, point));

    let public = derive_public_key(&secp, &base_point, &point).expect("a key");
    assert_eq!(public, public_key(text(&cases[0], "localpubkey")));
    let private = derive_secret_key(&base, &base_point, &point).expect("a key");
    assert_eq!(private, secret_key(text(&cases[1], "localprivkey")));
    assert_eq!(private.public_key(&secp), public);
    let public = derive_revocation_public_key(&secp, &base_point, &point).expect("a key");
    assert_eq!(public, public_key(text(&cases[2], "revocationpubkey")));
    let private = derive_revocation_secret_key(&secp, &base, &secret).expect("a key");
    assert_eq!(private, secret_key(text(&cases[3], "revocationprivkey")));
    assert_eq!(private.public_key(&secp), public);
}

#[test]
fn secrets_are_not_printed() {
    // BOLT 3 [3.secret.2].
    let alice = channel_secrets(0x11);
    let job = chand_protocol::sign::SignJob { digest: [7; 32], key: alice.funding };
    assert_eq!(format!("{alice:?} {job:?}"), "ChannelSecrets(secret) SignJob(secret)");
}

#[test]
fn fee_example() {
    let file = data(include_str!("data/bolt03-fee-example.json"));
    let (feerate, dust) =
        (Feerate(number(&file, "feerate_per_kw") as u32), Sat(number(&file, "dust_limit_sat")));
    let legacy = ChannelType::StaticRemotekey;
    assert_eq!(htlc_timeout_fee(legacy, feerate).0, number(&file, "htlc_timeout_fee_sat"));
    assert_eq!(htlc_success_fee(legacy, feerate).0, number(&file, "htlc_success_fee_sat"));
    let amounts = |name: &str| -> Vec<Msat> {
        list(&file, name).iter().map(|amount| Msat(amount.as_u64().expect("an amount"))).collect()
    };
    let small = |offered| move |amount: &Msat| is_trimmed(legacy, feerate, dust, offered, *amount);
    let offered: Vec<bool> = amounts("offered_msat").iter().map(small(true)).collect();
    let received: Vec<bool> = amounts("received_msat").iter().map(small(false)).collect();
    assert_eq!((offered, received), (vec![false, true], vec![false, true]));
    assert_eq!(commit_weight(legacy, 2), number(&file, "weight"));
    assert_eq!(commit_fee(legacy, feerate, 2).0, number(&file, "base_fee_sat"));
}
