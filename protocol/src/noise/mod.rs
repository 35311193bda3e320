//! The encrypted and authenticated transport of BOLT 8: `Noise_XK_secp256k1_ChaChaPoly_SHA256`.
//!
//! In: keys, and bytes that somebody else read from a socket. Out: bytes to write, the peer's identity, plaintext.
//! A machine without IO: the daemon's socket pump feeds it whole acts and whole frames.
//! Read next: `handshake` (three acts), then `frame` (what follows them).

pub mod frame;
pub mod handshake;

pub use frame::{FrameError, Opener, Sealer, Transport, BODY_TAG_BYTES, LENGTH_BYTES, MAX_MESSAGE_BYTES};
pub use handshake::{
    Initiator, NoiseError, Responder, ResponderWait, ACT_ONE_BYTES, ACT_THREE_BYTES, ACT_TWO_BYTES,
};

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A symmetric key or chaining key; wiped when dropped, never printed.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Bytes of a Poly1305 tag.
pub(crate) const TAG_BYTES: usize = 16;

/// The authentication tag did not fit the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadTag;

/// `HKDF(salt, ikm)` of BOLT 8: two keys, with an empty `info`.
fn hkdf_two(salt: &[u8; 32], ikm: &[u8]) -> (Key, Key) {
    let mut okm = Zeroizing::new([0u8; 64]);
    // The only failure is an output above 255 blocks; this one is two, whatever the inputs.
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(&[], okm.as_mut()).expect("two blocks of output");
    let (mut first, mut second) = (Key::default(), Key::default());
    first.copy_from_slice(&okm[..32]);
    second.copy_from_slice(&okm[32..]);
    (first, second)
}

/// The nonce: 32 zero bits, then the counter in little-endian order (BOLT 8, "Handshake State").
fn nonce_bytes(counter: u64) -> [u8; 12] {
    let mut nonce = [0u8; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// Encrypts `buffer` where it stands and returns the tag.
pub(crate) fn encrypt(
    key: &Key,
    counter: u64,
    ad: &[u8],
    buffer: &mut [u8],
) -> Result<[u8; TAG_BYTES], BadTag> {
    // BOLT 8 [8.noise.3].
    let cipher = ChaCha20Poly1305::new((&**key).into());
    let nonce = nonce_bytes(counter).into();
    let tag = cipher.encrypt_inout_detached(&nonce, ad, InOutBuf::from(buffer)).map_err(|_| BadTag)?;
    Ok(tag.into())
}

/// Checks the tag, then decrypts `buffer` where it stands; with a wrong tag the buffer is left as it was.
pub(crate) fn decrypt(
    key: &Key,
    counter: u64,
    ad: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), BadTag> {
    let cipher = ChaCha20Poly1305::new((&**key).into());
    let nonce = nonce_bytes(counter).into();
    cipher.decrypt_inout_detached(&nonce, ad, InOutBuf::from(buffer), tag.into()).map_err(|_| BadTag)
}
