//! Frames out of a stream of bytes: many from one read, one from many reads.
//!
//! In: bytes as the socket gives them. Out: opened messages. Pure, so that every way to cut a stream can be tested.
//! Read next: `link`, which reads into it.

use chand_protocol::noise::{FrameError, Opener, BODY_TAG_BYTES, LENGTH_BYTES};

/// Room offered to a read at first, and the most it grows to while a peer keeps filling it.
const FIRST_READ_BYTES: usize = 4 * 1024;
const LARGEST_READ_BYTES: usize = 64 * 1024;

/// The reading half of a link, without its socket.
pub(crate) struct Frames {
    opener: Opener,
    buffer: Vec<u8>,
    /// Where the bytes not yet opened start.
    start: usize,
    /// Bytes of the body that is due, when its length is known.
    body: Option<usize>,
    /// Room to offer to the next read.
    room: usize,
}

impl Frames {
    pub fn new(opener: Opener) -> Frames {
        Frames { opener, buffer: Vec::new(), start: 0, body: None, room: FIRST_READ_BYTES }
    }

    /// The next whole message, or `None` until more bytes came.
    ///
    /// # Errors
    /// [`FrameError`] when a frame does not authenticate: the stream is then useless.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let body = match self.body {
            Some(body) => body,
            None => {
                let head = self.buffer.get(self.start..).and_then(|rest| rest.first_chunk::<LENGTH_BYTES>());
                let Some(head) = head else { return Ok(None) };
                let body = self.opener.open_length(head)? + BODY_TAG_BYTES;
                self.start += LENGTH_BYTES;
                self.body = Some(body);
                body
            }
        };
        let Some(sealed) = self.buffer.get_mut(self.start..self.start + body) else { return Ok(None) };
        self.start += body;
        self.body = None;
        self.opener.open_body(sealed).map(Some)
    }

    /// True when a frame has begun and is not whole.
    pub fn is_partial(&self) -> bool {
        self.body.is_some() || self.start < self.buffer.len()
    }

    /// A buffer with spare capacity to append to, never more than one largest frame and one largest read.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let missing = self.body.unwrap_or(LENGTH_BYTES).saturating_sub(self.buffer.len());
        let room = self.room.max(missing);
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * room {
            self.buffer = Vec::new();
        }
        self.buffer.reserve_exact(room);
        &mut self.buffer
    }

    /// Learns from a read of `bytes` how much to offer next.
    pub fn appended(&mut self, bytes: usize) {
        if bytes >= self.room {
            self.room = (self.room * 2).min(LARGEST_READ_BYTES);
        } else if bytes < self.room / 8 {
            self.room = (self.room / 2).max(FIRST_READ_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chand_protocol::noise::{Initiator, Responder, Sealer};
    use secp256k1::{Secp256k1, SecretKey};

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).expect("a key")
    }

    fn pair() -> (Sealer, Opener) {
        let (alice, one) = Initiator::new(key(1), key(2).public_key(&Secp256k1::new()), key(3));
        let (bob, two) = Responder::new(key(2), key(4)).act_one(&one).expect("act one");
        let (three, alice) = alice.act_two(&two).expect("act two");
        let (_, bob) = bob.act_three(&three).expect("act three");
        (alice.split().0, bob.split().1)
    }

    fn stream() -> (Vec<Vec<u8>>, Vec<u8>, Opener) {
        let (mut sealer, opener) = pair();
        let messages: Vec<Vec<u8>> =
            [0, 1, 2, 17, 18, 19, 700, 65_535, 3].iter().map(|n| vec![*n as u8; *n]).collect();
        let mut wire = Vec::new();
        messages.iter().for_each(|m| sealer.seal(m, &mut wire).expect("sealed"));
        (messages, wire, opener)
    }

    #[test]
    fn a_stream_cut_into_pieces_of_any_size_gives_the_same_messages() {
        for piece in [1, 2, 17, 18, 19, 33, 34, 35, 1000, 16_384, 1_000_000] {
            let (messages, wire, opener) = stream();
            let mut frames = Frames::new(opener);
            let mut got = Vec::new();
            for bytes in wire.chunks(piece) {
                frames.room().extend_from_slice(bytes);
                frames.appended(bytes.len());
                while let Some(message) = frames.next_message().expect("opens") {
                    got.push(message.to_vec());
                }
            }
            assert_eq!(got, messages);
            assert!(!frames.is_partial());
        }
    }

    #[test]
    fn a_begun_frame_is_partial_in_its_length_and_in_its_body() {
        let (_, wire, opener) = stream();
        let mut frames = Frames::new(opener);
        assert!(!frames.is_partial());
        frames.room().extend_from_slice(&wire[..17]);
        assert_eq!(frames.next_message(), Ok(None));
        assert!(frames.is_partial());
        frames.room().extend_from_slice(&wire[17..18]);
        assert_eq!(frames.next_message(), Ok(None));
        assert!(frames.is_partial());
        frames.room().extend_from_slice(&wire[18..34]);
        assert_eq!(frames.next_message(), Ok(Some(&b""[..])));
        assert!(!frames.is_partial());
    }

    #[test]
    fn the_room_offered_follows_what_comes_and_stays_bounded() {
        let (_, _, opener) = stream();
        let mut frames = Frames::new(opener);
        for _ in 0..20 {
            let room = frames.room().capacity();
            frames.appended(room);
        }
        assert!(frames.room().capacity() <= 2 * LARGEST_READ_BYTES);
        (0..20).for_each(|_| frames.appended(1));
        assert!(frames.room().capacity() <= 2 * FIRST_READ_BYTES);
    }
}
