//! The keys and byte streams that come from a secret shared with one hop (BOLT 4, "Key Generation").
//!
//! In: 32 secret bytes. Out: keys named as in BOLT 4, and the ChaCha20 stream mixed into a buffer.
//! Read next: `sphinx`.

use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20::ChaCha20;
use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use secp256k1::{ecdh, PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// The secret that the payer shares with one hop of a route (BOLT 4, "Shared Secret").
///
/// A hop keeps it as long as the HTLC lives, to seal a failure. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct SharedSecret(pub [u8; 32]);

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(secret)")
    }
}

/// What a derived key is for; the variants carry BOLT 4's names.
#[derive(Clone, Copy)]
pub(super) enum KeyType {
    Rho,
    Mu,
    Um,
    Ammag,
    Pad,
    BlindedNodeId,
}

impl KeyType {
    const fn label(self) -> &'static [u8] {
        match self {
            KeyType::Rho => b"rho",
            KeyType::Mu => b"mu",
            KeyType::Um => b"um",
            KeyType::Ammag => b"ammag",
            KeyType::Pad => b"pad",
            KeyType::BlindedNodeId => b"blinded_node_id",
        }
    }
}

impl SharedSecret {
    /// Diffie-Hellman between a key of ours and a point of theirs: SHA-256 of the compressed product.
    pub(super) fn agree(point: &PublicKey, key: &SecretKey) -> SharedSecret {
        let mut shared = ecdh::SharedSecret::new(point, key);
        let secret = SharedSecret(shared.secret_bytes());
        shared.non_secure_erase();
        secret
    }

    pub(super) fn key(&self, kind: KeyType) -> Zeroizing<[u8; 32]> {
        derive(kind, &self.0)
    }
}

/// HMAC-SHA256 of `secret` under the key type's name (BOLT 4, "Key Generation").
pub(super) fn derive(kind: KeyType, secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(authenticator(kind.label(), &[secret]).finalize().into_bytes().into())
}

/// HMAC-SHA256 over the concatenation of `parts`.
pub(super) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    authenticator(key, parts).finalize().into_bytes().into()
}

/// Whether `tag` authenticates `parts`, in constant time.
pub(super) fn hmac_matches(key: &[u8; 32], parts: &[&[u8]], tag: &[u8; 32]) -> bool {
    // BOLT 4 [4.peel.4].
    authenticator(key, parts).verify_slice(tag).is_ok()
}

fn authenticator(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // A key up to one block (64 bytes) enters HMAC as itself, zero-padded.
    let mut block = [0u8; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    mac
}

/// Mixes ("XOR") the stream of `key`, from its byte 0 on, into `buffer` (BOLT 4, "Pseudo Random Byte Stream").
pub(super) fn mix_stream(key: &[u8; 32], buffer: &mut [u8]) {
    ChaCha20::new(&(*key).into(), &[0u8; 12].into()).apply_keystream(buffer);
}
