//! The three acts of the Noise_XK handshake (BOLT 8, "Authenticated Key Exchange Handshake Specification").
//!
//! In: our static key, a fresh ephemeral key for each connection, and the other side's acts, whole.
//! Out: our acts, the peer's static key, and a [`Transport`]. Every state is consumed by the act that it waits for,
//! so that no act can be answered twice and a failed handshake leaves nothing to go on with.
//! Read next: `frame`.

use super::{decrypt, encrypt, hkdf_two, Key, Transport, TAG_BYTES};
use core::fmt;
use secp256k1::ecdh::SharedSecret;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of act one: version, ephemeral key, tag.
pub const ACT_ONE_BYTES: usize = 50;
/// Bytes of act two: version, ephemeral key, tag.
pub const ACT_TWO_BYTES: usize = 50;
/// Bytes of act three: version, encrypted static key with its tag, tag.
pub const ACT_THREE_BYTES: usize = 66;

const PROTOCOL_NAME: &[u8] = b"Noise_XK_secp256k1_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"lightning";
const VERSION: u8 = 0;
const KEY_BYTES: usize = 33;

/// Why a handshake ended; the connection is to be closed without another byte (BOLT 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The act's first byte names a version that is not known.
    #[error("act {act} has unknown handshake version {version}")]
    BadVersion {
        /// Which act, 1 to 3.
        act: u8,
        /// The version it named.
        version: u8,
    },
    /// The act's public key is not a point on the curve.
    #[error("act {act} carries an invalid public key")]
    BadPubkey {
        /// Which act, 1 to 3.
        act: u8,
    },
    /// The encrypted static key of act three does not authenticate.
    #[error("act {act} carries an encrypted key that does not authenticate")]
    BadCiphertext {
        /// Always 3.
        act: u8,
    },
    /// The tag at the end of the act is wrong: the other side lacks a key, or somebody between changed bytes.
    #[error("act {act} does not authenticate")]
    BadTag {
        /// Which act, 1 to 3.
        act: u8,
    },
}

/// A secret key that is erased when dropped.
struct Secret(SecretKey);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl Secret {
    fn public(&self) -> PublicKey {
        self.0.public_key(&Secp256k1::signing_only())
    }

    /// SHA-256 of the compressed shared point (BOLT 8 `ECDH`).
    fn ecdh(&self, point: &PublicKey) -> Key {
        let mut shared = SharedSecret::new(point, &self.0);
        let key = Zeroizing::new(shared.secret_bytes());
        shared.non_secure_erase();
        key
    }
}

/// What both sides accumulate: the chaining key `ck`, the handshake hash `h` and the latest temporary key.
struct State {
    chaining: Key,
    hash: [u8; 32],
    temp: Key,
}

impl State {
    /// Handshake State Initialization; `responder` is the static key of the side that was dialled.
    fn new(responder: &PublicKey) -> State {
        let name: [u8; 32] = Sha256::digest(PROTOCOL_NAME).into();
        let mut state = State { chaining: Zeroizing::new(name), hash: name, temp: Key::default() };
        state.mix_hash(PROLOGUE);
        state.mix_hash(&responder.serialize());
        state
    }

    fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = Sha256::new().chain_update(self.hash).chain_update(bytes).finalize().into();
    }

    fn mix_key(&mut self, shared: &Key) {
        (self.chaining, self.temp) = hkdf_two(&self.chaining, shared.as_ref());
    }

    /// Seals nothing: only the tag over the handshake so far.
    fn tag(&mut self) -> [u8; TAG_BYTES] {
        self.seal(0, &mut [])
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) -> [u8; TAG_BYTES] {
        // ChaCha20 refuses only inputs beyond 2^38 bytes; these are 0 or 33.
        let tag = encrypt(&self.temp, counter, &self.hash, buffer).expect("a short input");
        self.hash =
            Sha256::new().chain_update(self.hash).chain_update(&*buffer).chain_update(tag).finalize().into();
        tag
    }

    fn check_tag(&mut self, act: u8, tag: &[u8; TAG_BYTES]) -> Result<(), NoiseError> {
        decrypt(&self.temp, 0, &self.hash, &mut [], tag).map_err(|_| NoiseError::BadTag { act })?;
        self.mix_hash(tag);
        Ok(())
    }

    /// The last step: `HKDF(ck, zero)`, first the key from the initiator to the responder.
    fn split(&self) -> (Key, Key) {
        hkdf_two(&self.chaining, &[])
    }
}

/// Acts one and two: version, ephemeral key, tag.
fn write_act(ephemeral: &PublicKey, tag: [u8; TAG_BYTES]) -> [u8; ACT_ONE_BYTES] {
    let mut act = [0u8; ACT_ONE_BYTES];
    act[0] = VERSION;
    act[1..1 + KEY_BYTES].copy_from_slice(&ephemeral.serialize());
    act[1 + KEY_BYTES..].copy_from_slice(&tag);
    act
}

/// Takes acts one and two apart.
fn read_act(act: u8, bytes: &[u8; ACT_ONE_BYTES]) -> Result<(PublicKey, [u8; TAG_BYTES]), NoiseError> {
    check_version(act, bytes[0])?;
    let key = PublicKey::from_slice(&bytes[1..1 + KEY_BYTES]).map_err(|_| NoiseError::BadPubkey { act })?;
    let mut tag = [0u8; TAG_BYTES];
    tag.copy_from_slice(&bytes[1 + KEY_BYTES..]);
    Ok((key, tag))
}

fn check_version(act: u8, version: u8) -> Result<(), NoiseError> {
    // "Clients MUST reject handshake attempts initiated with an unknown version" (BOLT 8).
    // BOLT 8 [8.noise.2, 8.act1.1, 8.act2.1, 8.act3.1].
    if version == VERSION {
        Ok(())
    } else {
        Err(NoiseError::BadVersion { act, version })
    }
}

/// The side that dialled, waiting for act two.
pub struct Initiator {
    state: State,
    local: Secret,
    ephemeral: Secret,
}

impl Initiator {
    /// Starts a handshake with the node whose static key is `remote`, and gives act one to send.
    ///
    /// `ephemeral` must be fresh and secret for each connection (BOLT 8, `generateKey`).
    pub fn new(
        local_static: SecretKey,
        remote: PublicKey,
        ephemeral: SecretKey,
    ) -> (Initiator, [u8; ACT_ONE_BYTES]) {
        let (local, ephemeral) = (Secret(local_static), Secret(ephemeral));
        let mut state = State::new(&remote);
        let public = ephemeral.public();
        state.mix_hash(&public.serialize());
        state.mix_key(&ephemeral.ecdh(&remote));
        let act_one = write_act(&public, state.tag());
        (Initiator { state, local, ephemeral }, act_one)
    }

    /// Takes act two, gives act three to send and the keys of the connection.
    ///
    /// # Errors
    /// [`NoiseError`]: the connection is to be closed without another byte.
    pub fn act_two(
        mut self,
        act: &[u8; ACT_TWO_BYTES],
    ) -> Result<([u8; ACT_THREE_BYTES], Transport), NoiseError> {
        let (remote_ephemeral, tag) = read_act(2, act)?;
        self.state.mix_hash(&remote_ephemeral.serialize());
        self.state.mix_key(&self.ephemeral.ecdh(&remote_ephemeral));
        // BOLT 8 [8.act2.2].
        self.state.check_tag(2, &tag)?;

        let mut static_key = self.local.public().serialize();
        let static_tag = self.state.seal(1, &mut static_key);
        self.state.mix_key(&self.local.ecdh(&remote_ephemeral));
        let last_tag = self.state.tag();

        let mut act_three = [0u8; ACT_THREE_BYTES];
        act_three[0] = VERSION;
        act_three[1..34].copy_from_slice(&static_key);
        act_three[34..50].copy_from_slice(&static_tag);
        act_three[50..].copy_from_slice(&last_tag);
        let (send, receive) = self.state.split();
        Ok((act_three, Transport::new(send, receive, &self.state.chaining)))
    }
}

/// The side that was dialled, waiting for act one.
pub struct Responder {
    state: State,
    local: Secret,
    ephemeral: Secret,
}

impl Responder {
    /// Waits for act one of whoever dialled.
    ///
    /// `ephemeral` must be fresh and secret for each connection (BOLT 8, `generateKey`).
    pub fn new(local_static: SecretKey, ephemeral: SecretKey) -> Responder {
        let local = Secret(local_static);
        Responder { state: State::new(&local.public()), local, ephemeral: Secret(ephemeral) }
    }

    /// Takes act one, gives act two to send.
    ///
    /// # Errors
    /// [`NoiseError`]: the connection is to be closed without another byte.
    pub fn act_one(
        mut self,
        act: &[u8; ACT_ONE_BYTES],
    ) -> Result<(ResponderWait, [u8; ACT_TWO_BYTES]), NoiseError> {
        let (remote_ephemeral, tag) = read_act(1, act)?;
        self.state.mix_hash(&remote_ephemeral.serialize());
        self.state.mix_key(&self.local.ecdh(&remote_ephemeral));
        // BOLT 8 [8.act1.2].
        self.state.check_tag(1, &tag)?;

        let public = self.ephemeral.public();
        self.state.mix_hash(&public.serialize());
        self.state.mix_key(&self.ephemeral.ecdh(&remote_ephemeral));
        let act_two = write_act(&public, self.state.tag());
        Ok((ResponderWait { state: self.state, ephemeral: self.ephemeral }, act_two))
    }
}

/// The side that was dialled, waiting for act three.
pub struct ResponderWait {
    state: State,
    ephemeral: Secret,
}

impl ResponderWait {
    /// Takes act three, tells who dialled, and gives the keys of the connection.
    ///
    /// # Errors
    /// [`NoiseError`]: the connection is to be closed without another byte.
    pub fn act_three(mut self, act: &[u8; ACT_THREE_BYTES]) -> Result<(PublicKey, Transport), NoiseError> {
        check_version(3, act[0])?;
        let (mut static_key, mut static_tag, mut last_tag) =
            ([0u8; KEY_BYTES], [0u8; TAG_BYTES], [0u8; TAG_BYTES]);
        static_key.copy_from_slice(&act[1..34]);
        static_tag.copy_from_slice(&act[34..50]);
        last_tag.copy_from_slice(&act[50..]);

        // BOLT 8 [8.act3.2].
        decrypt(&self.state.temp, 1, &self.state.hash, &mut static_key, &static_tag)
            .map_err(|_| NoiseError::BadCiphertext { act: 3 })?;
        self.state.mix_hash(&act[1..50]);
        let remote = PublicKey::from_slice(&static_key).map_err(|_| NoiseError::BadPubkey { act: 3 })?;
        self.state.mix_key(&self.ephemeral.ecdh(&remote));
        // BOLT 8 [8.act3.3].
        self.state.check_tag(3, &last_tag)?;
        let (receive, send) = self.state.split();
        Ok((remote, Transport::new(send, receive, &self.state.chaining)))
    }
}

macro_rules! opaque_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    )*};
}
opaque_debug!(Initiator, Responder, ResponderWait);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{hex_array, to_hex};

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    /// Appendix A of BOLT 8: the keys that both sides hold at the end, which only this module can see.
    #[test]
    fn appendix_a_ends_in_the_published_keys() {
        let (initiator, one) = Initiator::new(key(0x11), Secret(key(0x21)).public(), key(0x12));
        let (waiting, two) = Responder::new(key(0x21), key(0x22)).act_one(&one).unwrap();
        let (three, dialler) = initiator.act_two(&two).unwrap();
        let (who, answerer) = waiting.act_three(&three).unwrap();
        assert_eq!(who, Secret(key(0x11)).public());

        let forth = "969ab31b4d288cedf6218839b27a3e2140827047f2c0f01bf5c04435d43511a9";
        let back = "bb9020b8965f4df047e07f955f3c4b88418984aadc5cdb35096b9ea8fa5c3442";
        let chaining = "919219dbb2920afa8db80f9a51787a840bcf111ed8d588caf9ab4be716e42b01";
        for (transport, send, receive) in [(&dialler, forth, back), (&answerer, back, forth)] {
            let (sealing, opening) = transport.keys();
            assert_eq!(sealing.0, hex_array::<32>(send).unwrap());
            assert_eq!(opening.0, hex_array::<32>(receive).unwrap());
            assert_eq!(to_hex(&sealing.1), chaining);
            assert_eq!(to_hex(&opening.1), chaining);
        }
    }

    #[test]
    fn every_changed_bit_of_every_act_is_refused() {
        // BOLT 8 [8.noise.2, 8.act1.1, 8.act1.2, 8.act2.1, 8.act2.2, 8.act3.1, 8.act3.2, 8.act3.3].
        let (_, one) = Initiator::new(key(0x11), Secret(key(0x21)).public(), key(0x12));
        let (_, two) = Responder::new(key(0x21), key(0x22)).act_one(&one).unwrap();
        let (three, _) =
            Initiator::new(key(0x11), Secret(key(0x21)).public(), key(0x12)).0.act_two(&two).unwrap();
        for bit in 0..ACT_ONE_BYTES * 8 {
            let (mut bad_one, mut bad_two) = (one, two);
            bad_one[bit / 8] ^= 1 << (bit % 8);
            bad_two[bit / 8] ^= 1 << (bit % 8);
            assert!(Responder::new(key(0x21), key(0x22)).act_one(&bad_one).is_err());
            let initiator = Initiator::new(key(0x11), Secret(key(0x21)).public(), key(0x12)).0;
            assert!(initiator.act_two(&bad_two).is_err());
        }
        for bit in 0..ACT_THREE_BYTES * 8 {
            let mut bad = three;
            bad[bit / 8] ^= 1 << (bit % 8);
            let (waiting, _) = Responder::new(key(0x21), key(0x22)).act_one(&one).unwrap();
            assert!(waiting.act_three(&bad).is_err());
        }
    }

    #[test]
    fn dialling_with_the_wrong_identity_fails_in_act_one() {
        let (_, one) = Initiator::new(key(0x11), Secret(key(0x31)).public(), key(0x12));
        let refused = Responder::new(key(0x21), key(0x22)).act_one(&one).unwrap_err();
        assert_eq!(refused, NoiseError::BadTag { act: 1 });
    }
}
