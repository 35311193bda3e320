//! The real crypto, each sum done once.
//!
//! In: what a node signs, verifies and derives. Out: what libsecp256k1 says, remembered: in a walk the same commitments
//! are met again and again. Nothing is counterfeit: a wrong signature is found wrong. Read next: `graph`.

use super::table::Mix;
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::tx::keys::{BadKey, Basepoints, CommitmentKeys};
use secp256k1::ecdsa::Signature;
use secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Answers by what was asked.
type Known<K, V> = Mutex<HashMap<K, V, Mix>>;

/// [`RealCrypto`] with a memory.
#[derive(Debug, Default)]
pub struct MemoCrypto {
    real: RealCrypto,
    signed: Known<([u8; 32], [u8; 32]), Signature>,
    verified: Known<([u8; 32], [u8; 64], PublicKey), bool>,
    points: Known<[u8; 32], PublicKey>,
    keys: Known<(PublicKey, PublicKey, PublicKey), Result<CommitmentKeys, BadKey>>,
    secrets: Known<([u8; 32], PublicKey), Result<SecretKey, BadKey>>,
}

fn remembered<K: Hash + Eq, V: Clone>(known: &Known<K, V>, key: K, make: impl FnOnce() -> V) -> V {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(key).or_insert_with(make).clone()
}

impl Crypto for MemoCrypto {
    fn sign(&self, digest: &[u8; 32], key: &SecretKey) -> Signature {
        remembered(&self.signed, (*digest, key.secret_bytes()), || self.real.sign(digest, key))
    }

    fn verify(&self, digest: &[u8; 32], signature: &Signature, key: &PublicKey) -> bool {
        let asked = (*digest, signature.serialize_compact(), *key);
        remembered(&self.verified, asked, || self.real.verify(digest, signature, key))
    }

    fn public_key(&self, secret: &SecretKey) -> PublicKey {
        remembered(&self.points, secret.secret_bytes(), || self.real.public_key(secret))
    }

    fn commitment_keys(
        &self,
        owner: &Basepoints,
        other: &Basepoints,
        point: &PublicKey,
    ) -> Result<CommitmentKeys, BadKey> {
        // Of one walk's two nodes the funding keys name all the rest.
        let asked = (owner.funding_pubkey, other.funding_pubkey, *point);
        remembered(&self.keys, asked, || self.real.commitment_keys(owner, other, point))
    }

    fn derived_secret(
        &self,
        base: &SecretKey,
        basepoint: &PublicKey,
        point: &PublicKey,
    ) -> Result<SecretKey, BadKey> {
        let asked = (base.secret_bytes(), *point);
        remembered(&self.secrets, asked, || self.real.derived_secret(base, basepoint, point))
    }

    fn secp(&self) -> &Secp256k1<All> {
        self.real.secp()
    }
}
