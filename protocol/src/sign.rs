//! The crypto seam: everything that signs or verifies, and a commitment's keys, goes through one trait.
//!
//! In: 32-byte digests, keys, points. Out: signatures, or whether one holds; keys of one commitment.
//! The daemon spreads batches over its cores, a simulator may hand in something cheaper.
//! Read next: `tx::commitment`, which makes the digests.

use crate::tx::keys::{
    derive_revocation_secret_key, derive_secret_key, BadKey, Basepoints, ChannelSecrets, CommitmentKeys,
};
use alloc::vec::Vec;
use core::fmt;
use secp256k1::ecdsa::Signature;
use secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};

/// One signature to make; its key is wiped when dropped and never printed.
#[derive(Clone)]
pub struct SignJob {
    /// What is signed.
    pub digest: [u8; 32],
    /// With which key.
    pub key: SecretKey,
}

impl fmt::Debug for SignJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignJob(secret)")
    }
}

impl Drop for SignJob {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

/// One signature to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyJob {
    /// What was signed.
    pub digest: [u8; 32],
    /// The signature.
    pub signature: Signature,
    /// By whose key.
    pub key: PublicKey,
}

/// Makes and checks ECDSA signatures.
pub trait Crypto: Send + Sync {
    /// Signs `digest`; the result has a low S (BOLT 2 asks for the LOW-S rule).
    fn sign(&self, digest: &[u8; 32], key: &SecretKey) -> Signature;

    /// Whether `signature` is one of `digest` by `key`, with a low S.
    fn verify(&self, digest: &[u8; 32], signature: &Signature, key: &PublicKey) -> bool;

    /// Signs many; the results stand in the order of `jobs`.
    fn sign_batch(&self, jobs: &[SignJob]) -> Vec<Signature> {
        jobs.iter().map(|job| self.sign(&job.digest, &job.key)).collect()
    }

    /// Whether every one of `jobs` holds; true when there are none.
    fn verify_batch(&self, jobs: &[VerifyJob]) -> bool {
        jobs.iter().all(|job| self.verify(&job.digest, &job.signature, &job.key))
    }

    /// The public half of `secret`.
    fn public_key(&self, secret: &SecretKey) -> PublicKey {
        secret.public_key(self.secp())
    }

    /// The keys in the scripts of `owner`'s commitment at `point` (BOLT 3, "Key Derivation").
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    fn commitment_keys(
        &self,
        owner: &Basepoints,
        other: &Basepoints,
        point: &PublicKey,
    ) -> Result<CommitmentKeys, BadKey> {
        CommitmentKeys::new(self.secp(), owner, other, point)
    }

    /// The secret key of one commitment, at `point`, behind a base key: `base` is its secret, `basepoint` its point.
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    fn derived_secret(
        &self,
        base: &SecretKey,
        basepoint: &PublicKey,
        point: &PublicKey,
    ) -> Result<SecretKey, BadKey> {
        derive_secret_key(base, basepoint, point)
    }

    /// The key that punishes a commitment: from the secret of our revocation basepoint and the commitment's revealed secret.
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    fn revocation_secret(&self, base: &SecretKey, revealed: &SecretKey) -> Result<SecretKey, BadKey> {
        derive_revocation_secret_key(self.secp(), base, revealed)
    }

    /// The curve's tables, for deriving keys; costly to make, so there is one.
    fn secp(&self) -> &Secp256k1<All>;
}

/// The real thing: libsecp256k1, nonces after RFC 6979 with nothing mixed in, as the vectors of BOLT 3 have them.
pub struct RealCrypto {
    secp: Secp256k1<All>,
}

impl RealCrypto {
    /// Builds the curve's tables, without blinding.
    pub fn new() -> RealCrypto {
        RealCrypto { secp: Secp256k1::new() }
    }

    /// The same, blinded by `entropy` against an observer of timing or power; results do not change.
    pub fn blinded(entropy: &[u8; 32]) -> RealCrypto {
        let mut secp = Secp256k1::new();
        secp.seeded_randomize(entropy);
        RealCrypto { secp }
    }
}

impl Default for RealCrypto {
    fn default() -> Self {
        RealCrypto::new()
    }
}

impl fmt::Debug for RealCrypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RealCrypto")
    }
}

impl Crypto for RealCrypto {
    fn sign(&self, digest: &[u8; 32], key: &SecretKey) -> Signature {
        self.secp.sign_ecdsa(&Message::from_digest(*digest), key)
    }

    fn verify(&self, digest: &[u8; 32], signature: &Signature, key: &PublicKey) -> bool {
        // The library refuses a high S by itself, as the LOW-S rule asks.
        self.secp.verify_ecdsa(&Message::from_digest(*digest), signature, key).is_ok()
    }

    fn secp(&self) -> &Secp256k1<All> {
        &self.secp
    }
}

/// What a channel's secrets give through the seam.
impl ChannelSecrets {
    /// The point of commitment `number`, counted up from 0.
    ///
    /// # Errors
    /// [`BadKey`] when `number` is above 2^48 - 1.
    pub fn per_commitment_point(&self, crypto: &dyn Crypto, number: u64) -> Result<PublicKey, BadKey> {
        let mut secret = self.per_commitment_secret(number)?;
        let point = crypto.public_key(&secret);
        secret.non_secure_erase();
        Ok(point)
    }

    /// The key that signs HTLC transactions and claims, on either side's commitment at `per_commitment_point`;
    /// `own` are our basepoints.
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    pub fn htlc_key(
        &self,
        crypto: &dyn Crypto,
        own: &Basepoints,
        per_commitment_point: &PublicKey,
    ) -> Result<SecretKey, BadKey> {
        crypto.derived_secret(&self.htlc, &own.htlc_basepoint, per_commitment_point)
    }

    /// The key of delayed outputs on our own commitment at `per_commitment_point`; `own` are our basepoints.
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    pub fn delayed_key(
        &self,
        crypto: &dyn Crypto,
        own: &Basepoints,
        per_commitment_point: &PublicKey,
    ) -> Result<SecretKey, BadKey> {
        crypto.derived_secret(&self.delayed_payment, &own.delayed_payment_basepoint, per_commitment_point)
    }
}
