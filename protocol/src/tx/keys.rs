//! A channel's keys: basepoints, the secrets behind them, and those of each commitment (BOLT 3, "Key Derivation").
//!
//! In: base keys of both sides and a per-commitment point or secret. Out: the keys in that commitment's scripts.
//! "Owner" is the side that may broadcast the commitment, "other" the one that punishes an old one.
//! Read next: `shachain`, `script`.

use super::shachain;
use crate::id::sha256;
use core::fmt;
use secp256k1::{All, PublicKey, Scalar, Secp256k1, SecretKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A key could not be derived: a number beyond 2^48 - 1, or (with chance 2^-128) a point that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such key")]
pub struct BadKey;

/// The five public keys that each side tells when a channel opens (BOLT 2 `open_channel`).
// BOLT 2 [2.open.5].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Basepoints {
    /// In the funding output and the anchor.
    pub funding_pubkey: PublicKey,
    /// For the other side's commitments: with their secret, the key that punishes.
    pub revocation_basepoint: PublicKey,
    /// The key itself of `to_remote` on the other side's commitments (static_remotekey).
    pub payment_basepoint: PublicKey,
    /// For the delayed outputs of one's own commitments.
    pub delayed_payment_basepoint: PublicKey,
    /// For HTLC outputs on both sides' commitments.
    pub htlc_basepoint: PublicKey,
}

/// The private halves of [`Basepoints`] and the seed of the per-commitment secrets; wiped when dropped, never printed.
#[derive(Clone)]
pub struct ChannelSecrets {
    /// Of `funding_pubkey`.
    pub funding: SecretKey,
    /// Of `revocation_basepoint`.
    pub revocation: SecretKey,
    /// Of `payment_basepoint`.
    pub payment: SecretKey,
    /// Of `delayed_payment_basepoint`.
    pub delayed_payment: SecretKey,
    /// Of `htlc_basepoint`.
    pub htlc: SecretKey,
    /// All per-commitment secrets come from it; MUST NOT be revealed (BOLT 3, "Per-commitment Secret Requirements").
    // BOLT 3 [3.secret.2].
    pub shachain_seed: [u8; 32],
}

impl fmt::Debug for ChannelSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelSecrets(secret)")
    }
}

impl Drop for ChannelSecrets {
    fn drop(&mut self) {
        for key in [
            &mut self.funding,
            &mut self.revocation,
            &mut self.payment,
            &mut self.delayed_payment,
            &mut self.htlc,
        ] {
            key.non_secure_erase();
        }
        self.shachain_seed.zeroize();
    }
}

impl ChannelSecrets {
    /// The public keys to tell the peer.
    pub fn basepoints(&self, secp: &Secp256k1<All>) -> Basepoints {
        Basepoints {
            funding_pubkey: self.funding.public_key(secp),
            revocation_basepoint: self.revocation.public_key(secp),
            payment_basepoint: self.payment.public_key(secp),
            delayed_payment_basepoint: self.delayed_payment.public_key(secp),
            htlc_basepoint: self.htlc.public_key(secp),
        }
    }

    /// The secret of commitment `number`, counted up from 0; revealing it gives that commitment up.
    ///
    /// # Errors
    /// [`BadKey`] when `number` is above 2^48 - 1.
    pub fn per_commitment_secret(&self, number: u64) -> Result<SecretKey, BadKey> {
        let index = shachain::index_of(number).ok_or(BadKey)?;
        let mut secret = shachain::generate(&self.shachain_seed, index);
        let key = SecretKey::from_slice(&secret).map_err(|_| BadKey);
        secret.zeroize();
        key
    }

    /// The key that punishes the peer's commitment whose secret it has revealed.
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    pub fn revocation_key(&self, secp: &Secp256k1<All>, revealed: &SecretKey) -> Result<SecretKey, BadKey> {
        derive_revocation_secret_key(secp, &self.revocation, revealed)
    }
}

/// The public keys in one commitment's scripts, from its owner's side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitmentKeys {
    /// The owner's point of this commitment.
    pub per_commitment_point: PublicKey,
    /// Known to the other side once the owner has revealed the secret.
    pub revocation: PublicKey,
    /// The owner's, for `to_local` and what HTLC transactions pay to.
    pub delayed: PublicKey,
    /// The owner's, in HTLC outputs.
    pub owner_htlc: PublicKey,
    /// The other side's, in HTLC outputs.
    pub other_htlc: PublicKey,
    /// The other side's, in `to_remote`: its payment basepoint itself (BOLT 3, "remotepubkey Derivation").
    pub other_payment: PublicKey,
}

impl CommitmentKeys {
    /// Derives the keys of the owner's commitment at `per_commitment_point`.
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    pub fn new(
        secp: &Secp256k1<All>,
        owner: &Basepoints,
        other: &Basepoints,
        per_commitment_point: &PublicKey,
    ) -> Result<CommitmentKeys, BadKey> {
        Ok(CommitmentKeys {
            per_commitment_point: *per_commitment_point,
            revocation: derive_revocation_public_key(
                secp,
                &other.revocation_basepoint,
                per_commitment_point,
            )?,
            delayed: derive_public_key(secp, &owner.delayed_payment_basepoint, per_commitment_point)?,
            owner_htlc: derive_public_key(secp, &owner.htlc_basepoint, per_commitment_point)?,
            other_htlc: derive_public_key(secp, &other.htlc_basepoint, per_commitment_point)?,
            other_payment: other.payment_basepoint,
        })
    }
}

/// `basepoint + SHA256(per_commitment_point || basepoint) * G` (BOLT 3, "Key Derivation").
///
/// # Errors
/// [`BadKey`] with a chance of 2^-128.
pub fn derive_public_key(
    secp: &Secp256k1<All>,
    basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> Result<PublicKey, BadKey> {
    basepoint.add_exp_tweak(secp, &tweak(per_commitment_point, basepoint)?).map_err(|_| BadKey)
}

/// The private half of [`derive_public_key`]; `basepoint` is the point of `base_secret`.
///
/// # Errors
/// [`BadKey`] with a chance of 2^-128.
pub fn derive_secret_key(
    base_secret: &SecretKey,
    basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> Result<SecretKey, BadKey> {
    let tweak = tweak(per_commitment_point, basepoint)?;
    base_secret.add_tweak(&tweak).map_err(|_| BadKey)
}

/// The blinded key that only both secrets together unlock (BOLT 3, "revocationpubkey Derivation").
///
/// # Errors
/// [`BadKey`] with a chance of 2^-128.
pub fn derive_revocation_public_key(
    secp: &Secp256k1<All>,
    revocation_basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> Result<PublicKey, BadKey> {
    let base_tweak = tweak(revocation_basepoint, per_commitment_point)?;
    let point_tweak = tweak(per_commitment_point, revocation_basepoint)?;
    let base_part = revocation_basepoint.mul_tweak(secp, &base_tweak).map_err(|_| BadKey)?;
    let point_part = per_commitment_point.mul_tweak(secp, &point_tweak).map_err(|_| BadKey)?;
    base_part.combine(&point_part).map_err(|_| BadKey)
}

/// The private half of [`derive_revocation_public_key`].
///
/// # Errors
/// [`BadKey`] with a chance of 2^-128.
pub fn derive_revocation_secret_key(
    secp: &Secp256k1<All>,
    revocation_base_secret: &SecretKey,
    per_commitment_secret: &SecretKey,
) -> Result<SecretKey, BadKey> {
    let basepoint = revocation_base_secret.public_key(secp);
    let point = per_commitment_secret.public_key(secp);
    let mut base_part = revocation_base_secret.mul_tweak(&tweak(&basepoint, &point)?).map_err(|_| BadKey)?;
    let mut point_part = per_commitment_secret.mul_tweak(&tweak(&point, &basepoint)?).map_err(|_| BadKey)?;
    let mut addend = Scalar::from(point_part);
    let key = base_part.add_tweak(&addend).map_err(|_| BadKey);
    base_part.non_secure_erase();
    point_part.non_secure_erase();
    addend.non_secure_erase();
    key
}

/// `SHA256(first || second)` as a number below the curve's order.
fn tweak(first: &PublicKey, second: &PublicKey) -> Result<Scalar, BadKey> {
    let mut both = [0; 66];
    both[..33].copy_from_slice(&first.serialize());
    both[33..].copy_from_slice(&second.serialize());
    Scalar::from_be_bytes(sha256(&both)).map_err(|_| BadKey)
}
