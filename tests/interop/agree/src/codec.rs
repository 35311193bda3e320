//! One message, two codecs: chand's and LDK's.
//!
//! In: a message as both have it. Out: a panic unless either writes what the other reads.
//! Read next: `tests/message.rs`, `tests/gossip.rs`.

use chand_protocol::wire::Message;
use lightning::ln::wire::Type;
use lightning::util::ser::LengthReadable;
use std::fmt::Debug;

/// Both write the same, and each reads the other's.
///
/// # Panics
/// When they do not.
pub fn same<T: Type + LengthReadable + PartialEq + Debug>(message: Message, theirs: &T) {
    assert_eq!(message.kind(), theirs.type_id(), "{}", message.name());
    let bytes = message.encode().expect("encoded");
    let (kind, body) = bytes.split_first_chunk::<2>().expect("a type");
    assert_eq!(body, theirs.encode(), "{}", message.name());
    let read = T::read_from_fixed_length_buffer(&mut &body[..]);
    assert_eq!(&read.unwrap_or_else(|e| panic!("LDK reads {}: {e:?}", message.name())), theirs);
    let written = [kind.to_vec(), theirs.encode()].concat();
    assert_eq!(Message::decode(&written), Ok(message));
}

/// LDK keeps some fields of this to itself: it reads ours, and writes the same again.
///
/// # Panics
/// When it does not.
pub fn same_again<T: Type + LengthReadable>(message: Message) {
    let bytes = message.encode().expect("encoded");
    let read = T::read_from_fixed_length_buffer(&mut &bytes[2..]);
    let read = read.unwrap_or_else(|e| panic!("LDK reads {}: {e:?}", message.name()));
    assert_eq!(message.kind(), read.type_id());
    assert_eq!(bytes[2..], read.encode(), "{}", message.name());
    assert_eq!(Message::decode(&bytes), Ok(message));
}
