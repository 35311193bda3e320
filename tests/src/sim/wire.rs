//! One end of a link as bytes: the handshake of BOLT 8, then its frames, from a stream that is cut anywhere.
//!
//! In: bytes as they arrive, messages to seal. Out: bytes to send, opened messages, the news that the link is up.
//! Read next: `net`.

use chand_protocol::noise::{
    Initiator, Opener, Responder, ResponderWait, Sealer, ACT_ONE_BYTES, ACT_THREE_BYTES, ACT_TWO_BYTES,
    BODY_TAG_BYTES, LENGTH_BYTES,
};
use secp256k1::{PublicKey, SecretKey};

/// Where an end stands.
enum Stage {
    Calling(Initiator),
    Called(Responder),
    Waiting(ResponderWait),
    Up { opener: Opener, body: Option<usize> },
    Broken,
}

/// One end.
pub struct NoiseEnd {
    stage: Stage,
    sealer: Option<Sealer>,
    buffer: Vec<u8>,
}

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// Bytes to send back: an act of the handshake.
    Answer(Vec<u8>),
    /// The handshake is done.
    Up,
    /// A message.
    Message(Vec<u8>),
    /// Something that no honest end sends.
    Broken(String),
}

impl NoiseEnd {
    /// The end that calls, and the first act to send.
    pub fn calling(own: SecretKey, peer: PublicKey, ephemeral: SecretKey) -> (NoiseEnd, Vec<u8>) {
        let (initiator, act) = Initiator::new(own, peer, ephemeral);
        (NoiseEnd { stage: Stage::Calling(initiator), sealer: None, buffer: Vec::new() }, act.to_vec())
    }

    /// The end that is called.
    pub fn called(own: SecretKey, ephemeral: SecretKey) -> NoiseEnd {
        let stage = Stage::Called(Responder::new(own, ephemeral));
        NoiseEnd { stage, sealer: None, buffer: Vec::new() }
    }

    /// The bytes of a message; `None` before the handshake is done.
    pub fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.sealer.as_mut()?.seal(message, &mut out).ok()?;
        Some(out)
    }

    /// Takes bytes in.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Came> {
        self.buffer.extend_from_slice(bytes);
        let mut came = Vec::new();
        while let Some(next) = self.next() {
            let broken = matches!(next, Came::Broken(_));
            came.push(next);
            if broken {
                self.stage = Stage::Broken;
                break;
            }
            if let (Stage::Up { .. }, Some(Came::Answer(_))) = (&self.stage, came.last()) {
                // The caller is up with its last act.
                came.push(Came::Up);
            }
        }
        came
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let head = *self.buffer.first_chunk::<N>()?;
        self.buffer.drain(..N);
        Some(head)
    }

    fn next(&mut self) -> Option<Came> {
        let needed = match &self.stage {
            Stage::Calling(_) => ACT_TWO_BYTES,
            Stage::Called(_) => ACT_ONE_BYTES,
            Stage::Waiting(_) => ACT_THREE_BYTES,
            Stage::Up { body, .. } => body.unwrap_or(LENGTH_BYTES),
            Stage::Broken => return None,
        };
        if self.buffer.len() < needed {
            return None;
        }
        if matches!(self.stage, Stage::Up { .. }) {
            return self.next_frame();
        }
        let broken = |what: &dyn std::fmt::Display| Some(Came::Broken(what.to_string()));
        match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::Calling(initiator) => match initiator.act_two(&self.take()?) {
                Ok((act, transport)) => {
                    let (sealer, opener) = transport.split();
                    self.sealer = Some(sealer);
                    self.stage = Stage::Up { opener, body: None };
                    Some(Came::Answer(act.to_vec()))
                }
                Err(error) => broken(&error),
            },
            Stage::Called(responder) => match responder.act_one(&self.take()?) {
                Ok((waiting, act)) => {
                    self.stage = Stage::Waiting(waiting);
                    Some(Came::Answer(act.to_vec()))
                }
                Err(error) => broken(&error),
            },
            Stage::Waiting(waiting) => match waiting.act_three(&self.take()?) {
                Ok((_, transport)) => {
                    let (sealer, opener) = transport.split();
                    self.sealer = Some(sealer);
                    self.stage = Stage::Up { opener, body: None };
                    Some(Came::Up)
                }
                Err(error) => broken(&error),
            },
            Stage::Up { .. } | Stage::Broken => None,
        }
    }

    fn next_frame(&mut self) -> Option<Came> {
        let Stage::Up { opener, body } = &mut self.stage else { return None };
        let opened = match *body {
            None => {
                let head = *self.buffer.first_chunk::<LENGTH_BYTES>()?;
                self.buffer.drain(..LENGTH_BYTES);
                match opener.open_length(&head) {
                    Ok(length) => {
                        *body = Some(length + BODY_TAG_BYTES);
                        return self.next();
                    }
                    Err(error) => Came::Broken(error.to_string()),
                }
            }
            Some(length) => {
                *body = None;
                let mut sealed: Vec<u8> = self.buffer.drain(..length).collect();
                match opener.open_body(&mut sealed) {
                    Ok(message) => Came::Message(message.to_vec()),
                    Err(error) => Came::Broken(error.to_string()),
                }
            }
        };
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secp256k1::Secp256k1;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).expect("in range")
    }

    #[test]
    fn a_stream_in_any_pieces_gives_the_same_messages() {
        for piece in [1, 7, 18, 50, 10_000] {
            let bob = key(2).public_key(&Secp256k1::new());
            let (mut alice, one) = NoiseEnd::calling(key(1), bob, key(3));
            let mut bob = NoiseEnd::called(key(2), key(4));
            let two: Vec<Came> = one.chunks(piece).flat_map(|c| bob.feed(c)).collect();
            let [Came::Answer(two)] = two.as_slice() else { panic!("{two:?}") };
            let three: Vec<Came> = two.chunks(piece).flat_map(|c| alice.feed(c)).collect();
            let [Came::Answer(three), Came::Up] = three.as_slice() else { panic!("{three:?}") };
            let mut stream = three.clone();
            for length in [0usize, 1, 500, 65_535] {
                stream.extend(alice.seal(&vec![7; length]).expect("sealed"));
            }
            let came: Vec<Came> = stream.chunks(piece).flat_map(|c| bob.feed(c)).collect();
            assert_eq!(came.len(), 5);
            assert_eq!(came[0], Came::Up);
            assert_eq!(came[4], Came::Message(vec![7; 65_535]));
        }
    }
}
