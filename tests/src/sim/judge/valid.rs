//! `safety`, of transactions: what a node publishes is opened by its signatures, whichever crypto makes them.
//!
//! In: a transaction and the outputs that it spends. Out: nothing, or the input that no signature opens. With the real
//! curve Bitcoin Core's interpreter looks at it as well (`TinyChain::offer`). Read next: `safety`.

use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{ScriptBuf, Transaction, TxOut};
use chand_protocol::sign::Crypto;
use chand_protocol::tx::script;
use secp256k1::PublicKey;

/// Where the two keys lie in the witness script of a funding output.
const KEYS: [std::ops::Range<usize>; 2] = [2..35, 36..69];

/// Every input is signed by the keys of the output it spends: one key of a wallet, or both of a funding output.
///
/// # Errors
/// The first that is not.
pub fn signatures(tx: &Transaction, spent: &[TxOut], crypto: &dyn Crypto) -> Result<(), String> {
    if tx.input.len() != spent.len() {
        return Err(format!("{} inputs for {} outputs", tx.input.len(), spent.len()));
    }
    for (place, output) in spent.iter().enumerate() {
        if !opens(tx, place, output, crypto) {
            return Err(format!("no valid signatures open input {place} of {}", tx.compute_txid()));
        }
    }
    Ok(())
}

fn opens(tx: &Transaction, place: usize, output: &TxOut, crypto: &dyn Crypto) -> bool {
    let witness: Vec<&[u8]> = tx.input[place].witness.iter().collect();
    let (script, value, all) = (&output.script_pubkey, output.value, EcdsaSighashType::All);
    let mut cache = SighashCache::new(tx);
    match witness[..] {
        [signature, key] if script.is_p2wpkh() => {
            let Ok(key) = PublicKey::from_slice(key) else { return false };
            let digest = cache.p2wpkh_signature_hash(place, script, value, all);
            let right = *script == script::p2wpkh(&key);
            right && digest.is_ok_and(|digest| holds(digest.as_ref(), signature, &key, crypto))
        }
        [[], first, second, inner] if script.is_p2wsh() => {
            let keys = KEYS.map(|range| inner.get(range).and_then(|k| PublicKey::from_slice(k).ok()));
            let [Some(one), Some(two)] = keys else { return false };
            let inner = ScriptBuf::from_bytes(inner.to_vec());
            let right = inner == script::funding(&one, &two) && *script == script::p2wsh(&inner);
            let Ok(digest) = cache.p2wsh_signature_hash(place, &inner, value, all) else { return false };
            let both = [(first, one), (second, two)];
            right && both.into_iter().all(|(s, key)| holds(digest.as_ref(), s, &key, crypto))
        }
        _ => false,
    }
}

fn holds(digest: &[u8; 32], signature: &[u8], key: &PublicKey, crypto: &dyn Crypto) -> bool {
    let read = bitcoin::ecdsa::Signature::from_slice(signature);
    let wanted = |s: &bitcoin::ecdsa::Signature| s.sighash_type == EcdsaSighashType::All;
    read.ok().filter(wanted).is_some_and(|s| crypto.verify(digest, &s.signature, key))
}
