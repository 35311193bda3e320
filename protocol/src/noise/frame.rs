//! Frames after the handshake: sealed length, sealed message, keys that rotate (BOLT 8, "Lightning Message Specification").
//!
//! In: plaintext messages to seal, or a frame's bytes to open. Out: frames to write, or plaintext.
//! The two directions are independent, so that a reading and a writing task each own one half.
//! Read next: the daemon's `peer` pump, which moves the bytes.

use super::{decrypt, encrypt, hkdf_two, Key, TAG_BYTES};
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// The longest message that a frame can carry (BOLT 8).
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// Bytes of a frame's sealed length with its tag.
pub const LENGTH_BYTES: usize = 2 + TAG_BYTES;
/// What a frame's body has beyond the message.
pub const BODY_TAG_BYTES: usize = TAG_BYTES;

/// Uses of one key before it is replaced (BOLT 8, "Lightning Message Key Rotation").
const USES_PER_KEY: u64 = 1000;

/// Why a frame could not be sealed or opened; the connection is then useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message exceeds 65,535 bytes (BOLT 8: MUST NOT).
    #[error("message of {bytes} bytes is longer than a frame can carry")]
    TooLong {
        /// How long it was.
        bytes: usize,
    },
    /// The frame's length or body does not authenticate.
    #[error("frame does not authenticate")]
    BadTag,
    /// The caller handed in something else than the part that comes next, or went on after an error.
    #[error("frame part out of order")]
    OutOfOrder,
}

/// One direction's key, its chaining key and its nonce.
struct Rotating {
    key: Key,
    chaining: Key,
    nonce: u64,
}

impl Rotating {
    fn new(key: Key, chaining: &Key) -> Rotating {
        Rotating { key, chaining: Zeroizing::new(**chaining), nonce: 0 }
    }

    fn seal(&mut self, buffer: &mut [u8]) -> Result<[u8; TAG_BYTES], FrameError> {
        // BOLT 8 [8.frame.2, 8.frame.3].
        let tag = encrypt(&self.key, self.nonce, &[], buffer).map_err(|_| FrameError::BadTag)?;
        self.used();
        Ok(tag)
    }

    fn open(&mut self, buffer: &mut [u8], tag: &[u8; TAG_BYTES]) -> Result<(), FrameError> {
        // BOLT 8 [8.frame.4, 8.frame.5].
        decrypt(&self.key, self.nonce, &[], buffer, tag).map_err(|_| FrameError::BadTag)?;
        self.used();
        Ok(())
    }

    fn used(&mut self) {
        self.nonce += 1;
        if self.nonce == USES_PER_KEY {
            (self.chaining, self.key) = hkdf_two(&self.chaining, self.key.as_ref());
            self.nonce = 0;
        }
    }
}

/// Both directions of a connection, just after the handshake.
// BOLT 8 [8.noise.1].
pub struct Transport {
    sealer: Sealer,
    opener: Opener,
}

impl Transport {
    pub(super) fn new(send: Key, receive: Key, chaining: &Key) -> Transport {
        Transport {
            sealer: Sealer { keys: Rotating::new(send, chaining) },
            opener: Opener { keys: Rotating::new(receive, chaining), next: Next::Length },
        }
    }

    /// The half that writes and the half that reads.
    pub fn split(self) -> (Sealer, Opener) {
        (self.sealer, self.opener)
    }

    #[cfg(test)]
    #[allow(clippy::type_complexity)]
    pub(super) fn keys(&self) -> (([u8; 32], [u8; 32]), ([u8; 32], [u8; 32])) {
        let of = |keys: &Rotating| (*keys.key, *keys.chaining);
        (of(&self.sealer.keys), of(&self.opener.keys))
    }
}

/// The writing half.
pub struct Sealer {
    keys: Rotating,
}

impl Sealer {
    /// Appends the frame of `message` to `out`, so that many frames can leave in one write.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] above 65,535 bytes; nothing is then appended and the next message may follow.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let length =
            // BOLT 8 [8.frame.1].
            u16::try_from(message.len()).map_err(|_| FrameError::TooLong { bytes: message.len() })?;
        out.reserve(LENGTH_BYTES + message.len() + BODY_TAG_BYTES);
        self.seal_part(&length.to_be_bytes(), out)?;
        self.seal_part(message, out)
    }

    fn seal_part(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let start = out.len();
        out.extend_from_slice(part);
        match self.keys.seal(out.get_mut(start..).unwrap_or_default()) {
            Ok(tag) => {
                out.extend_from_slice(&tag);
                Ok(())
            }
            Err(failed) => {
                // Never leave plaintext behind in a buffer that will be written.
                out.truncate(start);
                Err(failed)
            }
        }
    }
}

/// What the reading half waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Length,
    Body(u16),
    /// A frame did not authenticate: nothing later can be believed.
    Nothing,
}

/// The reading half.
pub struct Opener {
    keys: Rotating,
    next: Next,
}

impl Opener {
    /// Opens a frame's first 18 bytes and tells the message's length; its body is [`BODY_TAG_BYTES`] longer.
    ///
    /// # Errors
    /// [`FrameError::BadTag`], after which every call fails; [`FrameError::OutOfOrder`] when a body is due.
    pub fn open_length(&mut self, sealed: &[u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
        if self.next != Next::Length {
            return Err(FrameError::OutOfOrder);
        }
        self.next = Next::Nothing;
        let (mut length, mut tag) = ([0u8; 2], [0u8; TAG_BYTES]);
        length.copy_from_slice(&sealed[..2]);
        tag.copy_from_slice(&sealed[2..]);
        self.keys.open(&mut length, &tag)?;
        let length = u16::from_be_bytes(length);
        self.next = Next::Body(length);
        Ok(usize::from(length))
    }

    /// Opens a frame's body where it stands (message and tag, exactly) and gives the plaintext message.
    ///
    /// # Errors
    /// [`FrameError::BadTag`], after which every call fails; [`FrameError::OutOfOrder`] when no body of this size is due.
    pub fn open_body<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a [u8], FrameError> {
        let Next::Body(length) = self.next else { return Err(FrameError::OutOfOrder) };
        let (message, tag) =
            sealed.split_at_mut_checked(usize::from(length)).ok_or(FrameError::OutOfOrder)?;
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| FrameError::OutOfOrder)?;
        self.next = Next::Nothing;
        self.keys.open(message, tag)?;
        self.next = Next::Length;
        Ok(message)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport(secret)")
    }
}
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(secret)")
    }
}
impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn pair() -> (Sealer, Opener) {
        let key = |byte: u8| Zeroizing::new([byte; 32]);
        let ours = Transport::new(key(1), key(2), &key(3));
        let theirs = Transport::new(key(2), key(1), &key(3));
        (ours.split().0, theirs.split().1)
    }

    fn open_next<'a>(opener: &mut Opener, wire: &'a mut [u8]) -> Result<(Vec<u8>, &'a [u8]), FrameError> {
        let mut head = [0u8; LENGTH_BYTES];
        head.copy_from_slice(&wire[..LENGTH_BYTES]);
        let length = opener.open_length(&head)?;
        let end = LENGTH_BYTES + length + BODY_TAG_BYTES;
        let message = opener.open_body(&mut wire[LENGTH_BYTES..end])?.to_vec();
        Ok((message, &wire[end..]))
    }

    #[test]
    fn messages_of_every_size_class_pass_through_rotations() {
        // BOLT 8 [8.frame.2, 8.frame.3, 8.frame.4, 8.frame.5].
        let (mut sealer, mut opener) = pair();
        for round in 0..1600usize {
            let message = vec![round as u8; [0, 1, 2, 255, 256, 1300][round % 6]];
            let mut wire = vec![];
            sealer.seal(&message, &mut wire).unwrap();
            let (opened, rest) = open_next(&mut opener, &mut wire).unwrap();
            assert_eq!(opened, message);
            assert!(rest.is_empty());
        }
        let longest = vec![7u8; MAX_MESSAGE_BYTES];
        let mut wire = vec![];
        sealer.seal(&longest, &mut wire).unwrap();
        assert_eq!(wire.len(), 65_569);
        assert_eq!(open_next(&mut opener, &mut wire).unwrap().0, longest);
    }

    #[test]
    fn a_message_too_long_is_refused_and_costs_nothing() {
        // BOLT 8 [8.frame.1].
        let (mut sealer, mut opener) = pair();
        let mut wire = vec![];
        let refused = sealer.seal(&vec![0; MAX_MESSAGE_BYTES + 1], &mut wire);
        assert_eq!(refused, Err(FrameError::TooLong { bytes: 65_536 }));
        assert!(wire.is_empty());
        sealer.seal(b"next", &mut wire).unwrap();
        assert_eq!(open_next(&mut opener, &mut wire).unwrap().0, b"next");
    }

    #[test]
    fn a_changed_bit_kills_the_opener_for_good() {
        for byte in 0..LENGTH_BYTES + 4 + BODY_TAG_BYTES {
            let (mut sealer, mut opener) = pair();
            let mut wire = vec![];
            sealer.seal(b"four", &mut wire).unwrap();
            wire[byte] ^= 0x40;
            assert_eq!(open_next(&mut opener, &mut wire).unwrap_err(), FrameError::BadTag);
            wire[byte] ^= 0x40;
            assert_eq!(open_next(&mut opener, &mut wire).unwrap_err(), FrameError::OutOfOrder);
        }
    }

    #[test]
    fn parts_come_in_order_and_at_their_size() {
        let (mut sealer, mut opener) = pair();
        let mut wire = vec![];
        sealer.seal(b"four", &mut wire).unwrap();
        assert_eq!(opener.open_body(&mut [0; 20]).unwrap_err(), FrameError::OutOfOrder);
        let mut head = [0u8; LENGTH_BYTES];
        head.copy_from_slice(&wire[..LENGTH_BYTES]);
        assert_eq!(opener.open_length(&head), Ok(4));
        assert_eq!(opener.open_length(&head), Err(FrameError::OutOfOrder));
        assert_eq!(opener.open_body(&mut wire[LENGTH_BYTES..LENGTH_BYTES + 19]), Err(FrameError::OutOfOrder));
        assert_eq!(opener.open_body(&mut wire[LENGTH_BYTES..]), Ok(&b"four"[..]));
    }
}
