//! How a record lies in the engine: one head, and parts when the value is large.
//!
//! In: a key and a value of the node. Out: the engine's keys and values, and back.
//! sled keeps up to about 20 values in one leaf and moves a leaf above 128 kB into a file that it never syncs.
//! So no value of the engine is longer than [`PART_BYTES`]: 20 of them stay far below. Heads lie under their own
//! prefix, in the order of the node's keys; parts lie under another, so that a large record does not make the
//! leaves of its small neighbours heavy.
//! Read next: `sled_store`.

use chand_protocol::store::StoreError;

/// The longest key a record may have, in bytes.
pub const MAX_KEY_BYTES: usize = 250;
/// The longest value a record may have, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;
/// The longest value the engine ever sees, in bytes (heads carry one byte more).
pub(crate) const PART_BYTES: usize = 3_500;

const META: u8 = b'm';
const HEAD: u8 = b'r';
const PART: u8 = b'p';

const WHOLE: u8 = 0;
const SPLIT: u8 = 1;

/// What a head says about its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    /// Here it is.
    Whole(&'a [u8]),
    /// It lies in this many parts, together this long.
    Split { parts: u32, len: usize },
}

/// The engine's key of an entry about the database itself.
pub(crate) fn meta_key(name: &str) -> Vec<u8> {
    let mut out = vec![META];
    out.extend_from_slice(name.as_bytes());
    out
}

/// The prefix of all heads.
pub(crate) fn head_prefix() -> [u8; 1] {
    [HEAD]
}

/// The engine's key of a record's head.
pub(crate) fn head_key(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(HEAD);
    out.extend_from_slice(key);
    out
}

/// The record's key of an engine's head key.
pub(crate) fn key_of_head(head_key: &[u8]) -> Option<&[u8]> {
    head_key.strip_prefix(&[HEAD])
}

/// The engine's key of a part. The key's length stands first, so that no part of one record can be taken for a
/// part of another whose key begins alike.
pub(crate) fn part_key(key: &[u8], part: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 7);
    out.push(PART);
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&part.to_be_bytes());
    out
}

/// A value as the engine keeps it: the head, and the parts in order.
pub(crate) fn split(value: &[u8]) -> (Vec<u8>, Vec<&[u8]>) {
    if value.len() <= PART_BYTES {
        let mut head = Vec::with_capacity(value.len() + 1);
        head.push(WHOLE);
        head.extend_from_slice(value);
        return (head, Vec::new());
    }
    let parts: Vec<&[u8]> = value.chunks(PART_BYTES).collect();
    let mut head = vec![SPLIT];
    head.extend_from_slice(&(parts.len() as u32).to_be_bytes());
    head.extend_from_slice(&(value.len() as u32).to_be_bytes());
    (head, parts)
}

/// Reads a head.
///
/// # Errors
/// [`StoreError::Read`] when it is none.
pub(crate) fn read_head(bytes: &[u8]) -> Result<Head<'_>, StoreError> {
    match bytes.split_first() {
        Some((&WHOLE, value)) => Ok(Head::Whole(value)),
        Some((&SPLIT, rest)) => {
            let numbers: [u8; 8] = rest.try_into().map_err(|_| bad_head())?;
            let [a, b, c, d, e, f, g, h] = numbers;
            let parts = u32::from_be_bytes([a, b, c, d]);
            let len = u32::from_be_bytes([e, f, g, h]) as usize;
            if len > MAX_VALUE_BYTES || parts as usize != len.div_ceil(PART_BYTES) {
                return Err(bad_head());
            }
            Ok(Head::Split { parts, len })
        }
        _ => Err(bad_head()),
    }
}

/// How many parts belong to a head.
pub(crate) fn parts_of(head: &[u8]) -> Result<u32, StoreError> {
    Ok(match read_head(head)? {
        Head::Whole(_) => 0,
        Head::Split { parts, .. } => parts,
    })
}

fn bad_head() -> StoreError {
    StoreError::Read("an entry does not have the form of one".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_at_every_edge_of_a_part() {
        for len in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 1] {
            let value: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let (head, parts) = split(&value);
            assert!(head.len() <= PART_BYTES + 1);
            match read_head(&head).unwrap() {
                Head::Whole(bytes) => assert_eq!((bytes, parts.len()), (value.as_slice(), 0)),
                Head::Split { parts: n, len: total } => {
                    assert_eq!((n as usize, total), (parts.len(), len));
                    assert_eq!(parts.concat(), value);
                }
            }
        }
    }

    #[test]
    fn broken_heads_are_errors() {
        for bytes in [&[][..], &[2], &[1], &[1, 0, 0, 0, 1, 0, 0, 0], &[1; 9], &[1, 0, 0, 0, 9, 0, 0, 0, 1]] {
            assert!(matches!(read_head(bytes), Err(StoreError::Read(_))), "{bytes:?}");
        }
    }

    #[test]
    fn parts_of_different_keys_never_share_an_engine_key() {
        // "a" with part number 0x62000000 spells the same bytes as "ab" would, were there no length.
        assert_ne!(part_key(b"a", 0x6200_0000), part_key(b"ab", 0));
        assert!(part_key(b"k", 255) < part_key(b"k", 256));
    }
}
