//! Blinded paths: the last hops to a payee, hidden from the payer (BOLT 4, "Route Blinding").
//!
//! In: a session key and, for each hop, its node key and what it is to be told; or a path key with our node key. Out: a
//! [`BlindedPath`] to hand to a payer; or what we are told, and the path key for the next hop.
//! * `data` – what a hop is told, and the sums that it and the payee do with it
//! * `payinfo` – what a payer is told of all hops together
//!
//! Read next: `data`.

pub mod data;
pub mod payinfo;

pub use data::{Constraints, HopData, Relay};
pub use payinfo::{PayInfo, PayPath};

use super::key::{KeyType, SharedSecret};
use super::sphinx::blinding;
use crate::id::NodeId;
use crate::noise::{decrypt, encrypt, TAG_BYTES};
use alloc::vec::Vec;
use core::fmt;
use secp256k1::{PublicKey, Scalar, Secp256k1, SecretKey, Signing, Verification};
use serde::{Deserialize, Serialize};

/// A path whose hops after the first are not known to who uses it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedPath {
    /// Where it begins, by its real name (`first_node_id`).
    pub introduction: NodeId,
    /// The key that this node opens its data with (`first_path_key`).
    pub path_key: PublicKey,
    /// Every node on it, the introduction node first, the payee last.
    pub hops: Vec<BlindedHop>,
}

/// One node of a blinded path.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedHop {
    /// Whom its layer of the onion is sealed for. Of the first hop of a path from an invoice it is the real name: a payment
    /// seals that layer for the introduction node itself.
    pub blinded_node_id: PublicKey,
    /// What the payee tells it, sealed (`encrypted_recipient_data`).
    pub encrypted_data: Vec<u8>,
}

impl fmt::Debug for BlindedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlindedPath({} hops from {})", self.hops.len(), self.introduction)
    }
}

impl fmt::Debug for BlindedHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlindedHop({} bytes)", self.encrypted_data.len())
    }
}

/// A path cannot be made: it has no hops, or a derived key fell outside the curve's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the blinded path cannot be made: it has no hops, or the session key does not suit it")]
pub struct PathError;

impl BlindedPath {
    /// A path over `hops`, each with its real node key and the TLV stream for it ([`HopData::encode`]).
    ///
    /// `session_key` must be fresh and random for every path.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn make<C: Signing + Verification>(
        session_key: &SecretKey,
        hops: &[(PublicKey, Vec<u8>)],
        secp: &Secp256k1<C>,
    ) -> Result<BlindedPath, PathError> {
        // BOLT 4 [4.blind.2, 4.blind.5].
        let (first, _) = hops.first().ok_or(PathError)?;
        let path_key = PublicKey::from_secret_key(secp, session_key);
        let mut ephemeral = *session_key;
        let mut sealed = Vec::with_capacity(hops.len());
        for (node, data) in hops {
            // BOLT 4 [4.blind.3, 4.blind.4, 4.blind.6, 4.blind.7, 4.blind.9].
            let secret = SharedSecret::agree(node, &ephemeral);
            let public = PublicKey::from_secret_key(secp, &ephemeral);
            let blinded_node_id = tweak(&secret).and_then(|tweak| node.mul_tweak(secp, &tweak).ok());
            let next = blinding(&public.serialize(), &secret).and_then(|f| ephemeral.mul_tweak(&f).ok());
            ephemeral.non_secure_erase();
            let (Some(blinded_node_id), Some(next)) = (blinded_node_id, next) else { return Err(PathError) };
            ephemeral = next;
            let encrypted_data = seal(&secret, data).ok_or(PathError)?;
            sealed.push(BlindedHop { blinded_node_id, encrypted_data });
        }
        ephemeral.non_secure_erase();
        Ok(BlindedPath { introduction: NodeId(*first), path_key, hops: sealed })
    }
}

/// What one hop of a path finds for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// What the payee tells it.
    pub data: HopData,
    /// The path key for the hop after it.
    pub next_path_key: PublicKey,
}

/// Opens what stands for us in a path; `None` when it was not sealed for us with this path key, or makes no sense.
pub fn open<C: Verification>(
    encrypted_data: &[u8],
    path_key: &PublicKey,
    node_key: &SecretKey,
    secp: &Secp256k1<C>,
) -> Option<Opened> {
    // BOLT 4 [4.blind.15, 4.blind.16, 4.read.5].
    let secret = SharedSecret::agree(path_key, node_key);
    let data = HopData::decode(&unseal(&secret, encrypted_data)?)?;
    let next_path_key = match data.next_path_key_override {
        // BOLT 4 [4.blind.18].
        Some(key) => key,
        // BOLT 4 [4.blind.19].
        None => path_key.mul_tweak(secp, &blinding(&path_key.serialize(), &secret)?).ok()?,
    };
    Some(Opened { data, next_path_key })
}

/// The key that opens our layer of an onion which came with a path key: our node key, blinded. `None` for a hash
/// outside the curve's order.
pub fn blinded_key(path_key: &PublicKey, node_key: &SecretKey) -> Option<SecretKey> {
    let secret = SharedSecret::agree(path_key, node_key);
    node_key.mul_tweak(&tweak(&secret)?).ok()
}

fn tweak(secret: &SharedSecret) -> Option<Scalar> {
    Scalar::from_be_bytes(*secret.key(KeyType::BlindedNodeId)).ok()
}

/// ChaCha20-Poly1305 with the rho key and a nonce of zero: the key seals nothing else.
fn seal(secret: &SharedSecret, data: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = Vec::with_capacity(data.len().saturating_add(TAG_BYTES));
    sealed.extend_from_slice(data);
    let tag = encrypt(&secret.key(KeyType::Rho), 0, &[], &mut sealed).ok()?;
    sealed.extend_from_slice(&tag);
    Some(sealed)
}

fn unseal(secret: &SharedSecret, sealed: &[u8]) -> Option<Vec<u8>> {
    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
    let mut data = body.to_vec();
    decrypt(&secret.key(KeyType::Rho), 0, &[], &mut data, tag).ok()?;
    Some(data)
}

#[cfg(test)]
mod tests;
