//! Messages, TLV streams and feature bits out of a peer's bytes (BOLT 1, 2, 9).
//!
//! In: any bytes. Out: nothing, or a panic: a decoded message must survive its own encoding, and every encoding that
//! the specification makes unique must come out as it went in.
//! Read next: `transport`.

use super::feed::Feed;
use super::hunt::saw;
use chand_protocol::tx::ChannelType;
use chand_protocol::wire::codec::{Reader, Writer};
use chand_protocol::wire::features::{Feature, Features};
use chand_protocol::wire::{DecodeError, Message};

/// decode, encode and decode again agree; what has one encoding only is encoded as it came.
pub fn message(input: &[u8]) {
    let message = match Message::decode(input) {
        Ok(message) => message,
        Err(error) => {
            match error {
                DecodeError::Malformed { message, fault } => saw((message, format!("{fault:?}"))),
                DecodeError::UnknownEven { .. } => saw("unknown even"),
                other => saw(format!("{other:?}")),
            }
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    saw((message.kind().min(300), message.channel_id().is_some()));
    let shown = format!("{message:?}");
    assert!(
        shown.len() < 40 * input.len() + 10_000,
        "a message of {} bytes shows as {}",
        input.len(),
        shown.len()
    );
    if let Message::Error(m) | Message::Warning(m) = &message {
        let text = m.text();
        assert!(text.len() <= 1_024 && text.bytes().all(|b| (32..127).contains(&b)), "{text:?}");
    }
    if matches!(message, Message::Unknown { .. }) {
        return assert!(message.encode().is_err(), "nothing is kept of it to send");
    }
    let bytes = message.encode().unwrap_or_else(|e| panic!("what came does not go: {e}"));
    assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message), "the encoding says something else");
    assert!(bytes.len() <= input.len(), "the encoding is longer than what came");
    // Records that are ignored are left out; ignored bytes and the two feature fields are not kept as they came.
    let free = matches!(message, Message::Init(_) | Message::Ping(_) | Message::Pong(_));
    if bytes.len() == input.len() && !free {
        assert_eq!(bytes, input, "{} has two encodings", message.name());
    }
    saw((message.kind(), bytes.len() == input.len(), bytes.len().ilog2()));
}

/// A stream that is read whole is written the same; numbers have one encoding.
pub fn tlv(input: &[u8]) {
    let mut records: Vec<(u64, Vec<u8>)> = Vec::new();
    let read = Reader::new(input).tlvs(|kind, value| {
        records.push((kind, value.rest().to_vec()));
        Ok(true)
    });
    saw((
        read.is_ok(),
        records.len().min(20),
        format!("{:?}", read.as_ref().err().map(std::mem::discriminant)),
    ));
    if read.is_ok() {
        assert!(records.windows(2).all(|pair| pair[0].0 < pair[1].0), "types do not rise");
        let mut out = Writer::new();
        records.iter().for_each(|(kind, value)| out.tlv(*kind, |w| w.bytes(value)));
        let bytes = out.finish();
        assert!(input.len() > 65_535 || bytes.as_deref() == Some(input), "a stream has two encodings");
        // With nothing known, an even type is refused and all odd ones are skipped.
        let strict = Reader::new(input).tlvs(|_, _| Ok(false));
        assert_eq!(strict.is_ok(), records.iter().all(|(kind, _)| kind % 2 == 1));
    }
    numbers(input);
}

fn numbers(input: &[u8]) {
    let mut reader = Reader::new(input);
    if let Ok(value) = reader.bigsize("number") {
        let mut out = Writer::new();
        out.bigsize(value);
        let used = input.len() - reader.left();
        assert_eq!(out.finish().as_deref(), Some(&input[..used]), "{value} has two encodings");
    }
    let whole = [
        Reader::new(input).tu16("number").map(u64::from),
        Reader::new(input).tu32("number").map(u64::from),
        Reader::new(input).tu64("number"),
    ];
    for value in whole.into_iter().flatten() {
        let mut out = Writer::new();
        out.truncated(value);
        assert_eq!(out.finish().as_deref(), Some(input), "{value} has two encodings");
    }
}

/// Sets of bits: no leading zeros, the same bits whichever way one asks, and sums that hold both.
pub fn features(input: &[u8]) {
    let mut feed = Feed::new(input);
    let one = Features::parse(feed.piece());
    let two = Features::parse(feed.rest());
    assert!(one.as_bytes().first() != Some(&0), "a leading zero");
    assert_eq!(Features::parse(one.as_bytes()), one);
    let bits: Vec<u32> = one.bits().collect();
    assert!(bits.windows(2).all(|pair| pair[0] < pair[1]));
    for bit in &bits {
        if let Ok(bit) = u16::try_from(*bit) {
            assert!(one.is_set(bit));
        }
    }
    if bits.iter().all(|bit| u16::try_from(*bit).is_ok()) {
        let again = Features::of(&bits.iter().map(|bit| *bit as u16).collect::<Vec<_>>());
        assert_eq!(again, one);
    }
    let mut both = one.clone();
    both.or(&two);
    assert!(one.bits().chain(two.bits()).all(|bit| both.bits().any(|b| b == bit)) || bits.len() > 300);
    let unknown = one.unknown_even();
    assert!(unknown.is_none_or(|bit| bit % 2 == 0 && bits.contains(&bit)));
    let beyond = one.required_beyond(&two);
    assert!(beyond.is_none_or(|bit| bit % 2 == 0 && bits.contains(&bit)));
    let missing = one.missing_dependency();
    if let Some((feature, needed)) = missing {
        assert!(one.supports(feature) && !one.supports(needed));
    }
    for feature in Feature::ALL {
        let agreed = one.negotiated(&two, *feature);
        assert!(!agreed || one.supports(*feature));
        saw((feature.even(), agreed));
    }
    let kind = ChannelType::from_features(&one);
    assert!(kind.is_none_or(|kind| kind.to_features() == one));
    saw((kind.is_some(), unknown.map(|b| b.min(64)), beyond.map(|b| b.min(64)), missing.map(|m| m.0.even())));
    assert_eq!(one.to_string().len(), 2 * one.as_bytes().len());
}
