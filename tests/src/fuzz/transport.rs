//! The noise handshake and its frames out of a peer's bytes (BOLT 8).
//!
//! In: bytes that say which act or frame is changed, and where a stream is cut. Out: nothing, or a panic: an act that
//! is not the real one is refused, and what a stream yields is what was sent, in order, up to the first byte that is not.
//! Read next: `onion`.

use super::feed::Feed;
use super::hunt::saw;
use chand_protocol::noise::{
    Initiator, Opener, Responder, Sealer, ACT_ONE_BYTES, ACT_THREE_BYTES, ACT_TWO_BYTES, BODY_TAG_BYTES,
    LENGTH_BYTES,
};
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::cell::RefCell;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a key")
}

fn public(byte: u8) -> PublicKey {
    key(byte).public_key(&Secp256k1::signing_only())
}

const DIALLER: u8 = 0x11;
const ANSWERER: u8 = 0x21;

fn dial() -> (Initiator, [u8; ACT_ONE_BYTES]) {
    Initiator::new(key(DIALLER), public(ANSWERER), key(0x12))
}

fn answer() -> Responder {
    Responder::new(key(ANSWERER), key(0x22))
}

/// The real act with the input's bytes mixed in, or the input itself.
fn tampered<const N: usize>(feed: &mut Feed<'_>, real: [u8; N]) -> [u8; N] {
    if feed.u8().is_multiple_of(2) {
        return feed.array();
    }
    let mut act = real;
    while !feed.is_empty() {
        let at = feed.below(N);
        act[at] ^= feed.u8();
    }
    act
}

/// No act but the real one is taken, whichever of the three.
pub fn handshake(input: &[u8]) {
    let mut feed = Feed::new(input);
    match feed.u8() % 3 {
        0 => {
            let (_, one) = dial();
            let act = tampered(&mut feed, one);
            let result = answer().act_one(&act);
            saw((1, result.as_ref().err().copied().map(|e| format!("{e:?}"))));
            assert_eq!(result.is_ok(), act == one, "another act one was taken");
        }
        1 => {
            let (initiator, one) = dial();
            let Ok((_, two)) = answer().act_one(&one) else { panic!("act one was refused") };
            let act: [u8; ACT_TWO_BYTES] = tampered(&mut feed, two);
            let result = initiator.act_two(&act);
            saw((2, result.as_ref().err().copied().map(|e| format!("{e:?}"))));
            assert_eq!(result.is_ok(), act == two, "another act two was taken");
        }
        _ => {
            let (initiator, one) = dial();
            let Ok((waiting, two)) = answer().act_one(&one) else { panic!("act one was refused") };
            let Ok((three, _)) = initiator.act_two(&two) else { panic!("act two was refused") };
            let act: [u8; ACT_THREE_BYTES] = tampered(&mut feed, three);
            let result = waiting.act_three(&act);
            saw((3, result.as_ref().err().copied().map(|e| format!("{e:?}"))));
            assert_eq!(result.is_ok(), act == three, "another act three was taken");
        }
    }
}

/// A sender and a receiver just after the handshake.
fn linked() -> (Sealer, Opener) {
    let (initiator, one) = dial();
    let Ok((waiting, two)) = answer().act_one(&one) else { panic!("act one was refused") };
    let Ok((three, dialler)) = initiator.act_two(&two) else { panic!("act two was refused") };
    let Ok((_, answerer)) = waiting.act_three(&three) else { panic!("act three was refused") };
    (dialler.split().0, answerer.split().1)
}

/// Reads frames as the socket pump does: a length, then a body, each whole; what it got until it ended or refused.
fn read_all(opener: &mut Opener, mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut got = Vec::new();
    loop {
        let Some((length, rest)) = stream.split_first_chunk::<LENGTH_BYTES>() else { return (got, false) };
        let Ok(length) = opener.open_length(length) else { return (got, true) };
        let Some((body, rest)) = rest.split_at_checked(length + BODY_TAG_BYTES) else { return (got, false) };
        match opener.open_body(&mut body.to_vec()) {
            Ok(message) => got.push(message.to_vec()),
            Err(_) => return (got, true),
        }
        stream = rest;
    }
}

fn seal(sealer: &mut Sealer, message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    sealer.seal(message, &mut frame).unwrap_or_else(|e| panic!("{e}"));
    frame
}

/// Some messages, each with its frame.
type Sealed = Vec<(Vec<u8>, Vec<u8>)>;

/// Frames that are cut, corrupted, repeated, dropped and swapped: only a true beginning of what was sent comes out.
pub fn frames(input: &[u8]) {
    thread_local!(static STREAM: RefCell<Option<Sealed>> = const { RefCell::new(None) });
    let mut feed = Feed::new(input);
    // A handshake costs more than all the rest: messages of fixed lengths are sealed once.
    let sealed = STREAM.with(|stream| stream.borrow_mut().get_or_insert_with(seal_some).clone());
    let mut frames: Vec<Vec<u8>> = sealed.iter().map(|(_, frame)| frame.clone()).collect();
    let mut meddled = false;
    for _ in 0..1 + feed.u8() % 4 {
        meddled = true;
        let (at, other) = (feed.below(frames.len()), feed.below(frames.len()));
        match feed.u8() % 6 {
            0 => frames.swap(at, other),
            1 => {
                frames.remove(at);
            }
            2 => frames.insert(at, frames[other].clone()),
            3 if !frames[at].is_empty() => {
                let place = usize::from(feed.u16()) % frames[at].len();
                frames[at][place] ^= feed.u8();
            }
            4 if !frames[at].is_empty() => {
                let keep = usize::from(feed.u16()) % frames[at].len();
                frames[at].truncate(keep);
            }
            _ => frames.insert(at, feed.piece().to_vec()),
        }
        if frames.is_empty() {
            break;
        }
    }
    let stream: Vec<u8> = frames.concat();
    let whole: Vec<u8> = sealed.iter().flat_map(|(_, frame)| frame.iter().copied()).collect();
    let same = stream.iter().zip(&whole).take_while(|(one, two)| one == two).count();
    let (mut untouched, mut end) = (0, 0);
    for (_, frame) in &sealed {
        end += frame.len();
        untouched += usize::from(end <= same);
    }
    let (_, mut opener) = linked();
    let (got, refused) = read_all(&mut opener, &stream);
    let sent = sealed.iter().map(|(message, _)| message);
    assert_eq!(got.len(), untouched, "{} bytes of the stream are the real ones", same);
    assert!(got.iter().zip(sent).all(|(got, sent)| got == sent), "another message came out");
    if refused {
        assert!(read_all(&mut opener, &sealed[0].1).0.is_empty(), "it goes on after an error");
    }
    saw((meddled, refused, got.len()));
}

fn seal_some() -> Sealed {
    let (mut sealer, _) = linked();
    [0_usize, 1, 2, 18, 300, 5, 1_452, 0, 64]
        .iter()
        .map(|len| {
            let message: Vec<u8> = (0..*len).map(|n| n as u8).collect();
            let frame = seal(&mut sealer, &message);
            (message, frame)
        })
        .collect()
}
