//! Secrets of hold invoices, and their hashes.
//!
//! In: a number. Out: 32 bytes in hex that no other test uses, and their SHA-256.
//! Read next: `node`.

use bitcoin::hex::{DisplayHex, FromHex};
use sha2::{Digest, Sha256};

/// A preimage made of a name and a number, in hex: the same for the same arguments.
pub fn preimage(name: &str, number: u64) -> String {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update(number.to_be_bytes());
    hasher.finalize().to_lower_hex_string()
}

/// SHA-256 of bytes given in hex, in hex.
///
/// # Panics
/// When it is not hex.
pub fn sha256(hex: &str) -> String {
    let bytes = Vec::<u8>::from_hex(hex).unwrap_or_else(|e| panic!("{hex}: {e}"));
    Sha256::digest(bytes).to_lower_hex_string()
}
