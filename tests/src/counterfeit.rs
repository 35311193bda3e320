//! Crypto that costs nothing: a signature is a hash of the digest and the public key.
//!
//! In: digests and keys. Out: signatures that hold for exactly one digest and one key, as real ones do, but that
//! anybody could make. Keys are real, worked out once and remembered: the simulator gives its nodes the same keys in
//! every seed, so that curve arithmetic is done once for thousands of runs.
//! Read next: `sim`, which plays its mass seeds with it.

use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::tx::keys::{derive_secret_key, BadKey, Basepoints, CommitmentKeys};
use secp256k1::ecdsa::Signature;
use secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::OnceLock;
use std::thread::LocalKey;

/// Entries that a table holds before it is emptied.
const MOST_REMEMBERED: usize = 200_000;

type Table<K, V> = RefCell<HashMap<K, V>>;

thread_local! {
    static PUBLIC: Table<[u8; 32], PublicKey> = RefCell::new(HashMap::new());
    static KEYS: Table<[PublicKey; 6], CommitmentKeys> = RefCell::new(HashMap::new());
    static SECRETS: Table<([u8; 32], PublicKey), SecretKey> = RefCell::new(HashMap::new());
}

/// What `table` has under `key`, worked out when it is not there yet.
fn remembered<K: Eq + Hash, V: Clone, E>(
    table: &'static LocalKey<Table<K, V>>,
    key: K,
    make: impl FnOnce() -> Result<V, E>,
) -> Result<V, E> {
    table.with(|table| {
        if let Some(known) = table.borrow().get(&key) {
            return Ok(known.clone());
        }
        let made = make()?;
        let mut table = table.borrow_mut();
        if table.len() >= MOST_REMEMBERED {
            table.clear();
        }
        table.insert(key, made.clone());
        Ok(made)
    })
}

/// Signs by hashing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counterfeit;

/// The curve's tables, made once.
fn real() -> &'static RealCrypto {
    static ONE: OnceLock<RealCrypto> = OnceLock::new();
    ONE.get_or_init(RealCrypto::new)
}

/// The public key of a secret, remembered by this thread.
fn public_key(secret: &SecretKey) -> PublicKey {
    let made =
        remembered(&PUBLIC, secret.secret_bytes(), || Ok::<_, Infallible>(secret.public_key(real().secp())));
    match made {
        Ok(key) => key,
        Err(never) => match never {},
    }
}

/// The one signature of `digest` under `key`: both numbers are far below half the curve's order.
fn seal(digest: &[u8; 32], key: &PublicKey) -> Signature {
    let first = Sha256::new().chain_update(b"counterfeit").chain_update(digest).chain_update(key.serialize());
    let r: [u8; 32] = first.finalize().into();
    let s: [u8; 32] = Sha256::digest(r).into();
    let mut both = [0u8; 64];
    both[..32].copy_from_slice(&r);
    both[32..].copy_from_slice(&s);
    for top in [0, 32] {
        both[top] = both[top] & 0x3f | 0x10;
    }
    Signature::from_compact(&both).expect("both numbers are in range")
}

impl Crypto for Counterfeit {
    fn sign(&self, digest: &[u8; 32], key: &SecretKey) -> Signature {
        seal(digest, &public_key(key))
    }

    fn verify(&self, digest: &[u8; 32], signature: &Signature, key: &PublicKey) -> bool {
        seal(digest, key) == *signature
    }

    fn public_key(&self, secret: &SecretKey) -> PublicKey {
        public_key(secret)
    }

    fn commitment_keys(
        &self,
        owner: &Basepoints,
        other: &Basepoints,
        point: &PublicKey,
    ) -> Result<CommitmentKeys, BadKey> {
        let (own, theirs) = (owner.delayed_payment_basepoint, other.revocation_basepoint);
        let key = [*point, own, owner.htlc_basepoint, theirs, other.htlc_basepoint, other.payment_basepoint];
        remembered(&KEYS, key, || CommitmentKeys::new(real().secp(), owner, other, point))
    }

    fn derived_secret(
        &self,
        base: &SecretKey,
        basepoint: &PublicKey,
        point: &PublicKey,
    ) -> Result<SecretKey, BadKey> {
        let key = (base.secret_bytes(), *point);
        remembered(&SECRETS, key, || derive_secret_key(base, basepoint, point))
    }

    fn secp(&self) -> &Secp256k1<All> {
        real().secp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).expect("in range")
    }

    #[test]
    fn a_signature_holds_for_its_digest_and_key_only() {
        let crypto = Counterfeit;
        let signature = crypto.sign(&[1; 32], &key(7));
        assert!(crypto.verify(&[1; 32], &signature, &public_key(&key(7))));
        assert!(!crypto.verify(&[2; 32], &signature, &public_key(&key(7))));
        assert!(!crypto.verify(&[1; 32], &signature, &public_key(&key(8))));
    }

    #[test]
    fn its_signatures_travel_as_real_ones_do() {
        let signature = Counterfeit.sign(&[3; 32], &key(9));
        let mut low = signature;
        low.normalize_s();
        assert_eq!(low, signature);
        assert_eq!(Signature::from_compact(&signature.serialize_compact()), Ok(signature));
    }
}
