//! Randomness that is handed in: a ChaCha20 stream from a seed.
//!
//! In: 32 secret bytes from the operating system (the daemon) or a number (a simulator).
//! Out: bytes nobody else can guess, and the same ones again for the same seed.
//! Read next: `keys`.

use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20::ChaCha20;
use secp256k1::SecretKey;

/// A stream of random bytes.
pub struct Entropy(ChaCha20);

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy")
    }
}

impl Entropy {
    /// Starts the stream; whoever knows `seed` knows it all.
    pub fn new(seed: [u8; 32]) -> Entropy {
        Entropy(ChaCha20::new(&seed.into(), &[0u8; 12].into()))
    }

    /// The next 32 bytes. The stream is 256 GB long: after 2^33 calls it would end.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut out = [0u8; 32];
        self.0.apply_keystream(&mut out);
        out
    }

    /// The next number.
    pub fn u64(&mut self) -> u64 {
        let mut out = [0u8; 8];
        self.0.apply_keystream(&mut out);
        u64::from_be_bytes(out)
    }

    /// A valid secret key.
    pub fn secret_key(&mut self) -> SecretKey {
        loop {
            if let Ok(key) = SecretKey::from_slice(&self.bytes32()) {
                return key;
            }
        }
    }
}
