//! How a record lies in the engine: one head, and parts when the value is large.
//!
//! In: a key and a value of the node. Out: the engine's keys and values, and back.
//! sled keeps up to about 20 values in one leaf and moves a leaf above 128 kB into a file that it never syncs.
//! So no value of the engine is much longer than [`PART_BYTES`]: 20 of them stay far below. Heads lie under their own
//! prefix, in the order of the node's keys; parts lie under another, so that a large record does not make the
//! leaves of its small neighbours heavy.
//! Each head and part carries the number of the commit that wrote it, and the last commit's [`Stamp`] carries a
//! digest over all keys and their numbers: sled checks what it reads, but after some kinds of damage it starts with a
//! leaf missing or old, and says nothing.
//! Read next: `sled_store`.

use chand_protocol::id::sha256;
use chand_protocol::store::StoreError;

/// The longest key a record may have, in bytes.
pub const MAX_KEY_BYTES: usize = 250;
/// The longest value a record may have, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;
/// The most bytes of a record in one value of the engine; up to 9 of ours come on top.
pub(crate) const PART_BYTES: usize = 3_500;

const META: u8 = b'm';
const HEAD: u8 = b'r';
const PART: u8 = b'p';

const WHOLE: u8 = 0;
const SPLIT: u8 = 1;

/// A head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// Which commit wrote it.
    pub(crate) commit: u64,
    /// Its value.
    pub(crate) value: Value<'a>,
}

/// What a head says about its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Here it is.
    Whole(&'a [u8]),
    /// It lies in this many parts, together this long.
    Split { parts: u32, len: usize },
}

/// What the last commit left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// Its number.
    pub(crate) commit: u64,
    /// Over every record's key and the number of the commit that wrote it, in any order.
    pub(crate) digest: u128,
}

impl Stamp {
    /// Takes a record in, or, when it is in, out.
    pub(crate) fn toggle(&mut self, key: &[u8], commit: u64) {
        let hash = sha256(&[key, &commit.to_be_bytes()].concat());
        let (half, _) = hash.split_at(16);
        self.digest ^= half.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
    }

    /// As it is kept.
    pub(crate) fn to_text(self) -> String {
        format!("{} {:032x}", self.commit, self.digest)
    }

    /// What was kept; `None` when it is no stamp.
    pub(crate) fn from_text(text: &str) -> Option<Stamp> {
        let (commit, digest) = text.split_once(' ')?;
        Some(Stamp { commit: commit.parse().ok()?, digest: u128::from_str_radix(digest, 16).ok()? })
    }
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
pub(crate) fn split(value: &[u8], commit: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let number = commit.to_be_bytes();
    if value.len() <= PART_BYTES {
        return ([&[WHOLE], &number[..], value].concat(), Vec::new());
    }
    let parts: Vec<Vec<u8>> = value.chunks(PART_BYTES).map(|part| [&number[..], part].concat()).collect();
    let count = (parts.len() as u32).to_be_bytes();
    let len = (value.len() as u32).to_be_bytes();
    ([&[SPLIT], &number[..], &count, &len].concat(), parts)
}

/// Reads a head.
///
/// # Errors
/// [`StoreError::Read`] when it is none.
pub(crate) fn read_head(bytes: &[u8]) -> Result<Head<'_>, StoreError> {
    let (kind, rest) = bytes.split_first().ok_or_else(bad_head)?;
    let (number, rest) = rest.split_first_chunk::<8>().ok_or_else(bad_head)?;
    let commit = u64::from_be_bytes(*number);
    let value = match *kind {
        WHOLE => Value::Whole(rest),
        SPLIT => {
            let (count, rest) = rest.split_first_chunk::<4>().ok_or_else(bad_head)?;
            let len: [u8; 4] = rest.try_into().map_err(|_| bad_head())?;
            let (parts, len) = (u32::from_be_bytes(*count), u32::from_be_bytes(len) as usize);
            if len > MAX_VALUE_BYTES || parts as usize != len.div_ceil(PART_BYTES) {
                return Err(bad_head());
            }
            Value::Split { parts, len }
        }
        _ => return Err(bad_head()),
    };
    Ok(Head { commit, value })
}

/// Reads a part that must belong to a head of commit `commit`.
///
/// # Errors
/// [`StoreError::Read`] when it is another's.
pub(crate) fn read_part(bytes: &[u8], commit: u64) -> Result<&[u8], StoreError> {
    bytes
        .strip_prefix(&commit.to_be_bytes())
        .ok_or_else(|| StoreError::Read("a part of an entry is old".into()))
}

impl Head<'_> {
    /// How many parts belong to it.
    pub(crate) fn parts(&self) -> u32 {
        match self.value {
            Value::Whole(_) => 0,
            Value::Split { parts, .. } => parts,
        }
    }
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
            let (head, parts) = split(&value, 7);
            assert!(head.len() <= PART_BYTES + 9);
            let head = read_head(&head).unwrap();
            assert_eq!((head.commit, head.parts() as usize), (7, parts.len()));
            match head.value {
                Value::Whole(bytes) => assert_eq!(bytes, value),
                Value::Split { len: total, .. } => {
                    assert_eq!(total, len);
                    let parts: Vec<&[u8]> = parts.iter().map(|p| read_part(p, 7).unwrap()).collect();
                    assert_eq!(parts.concat(), value);
                }
            }
        }
    }

    #[test]
    fn broken_heads_and_old_parts_are_errors() {
        for bytes in [&[][..], &[2; 12], &[1], &[0; 8], &[1; 16], &[1; 18], &[1; 17]] {
            assert!(matches!(read_head(bytes), Err(StoreError::Read(_))), "{bytes:?}");
        }
        let (_, parts) = split(&[9; PART_BYTES + 1], 7);
        assert!(read_part(&parts[0], 6).is_err());
        assert!(read_part(&[0; 3], 0).is_err());
    }

    #[test]
    fn a_stamp_tells_what_is_missing_and_what_is_old() {
        let stamp = |records: &[(&str, u64)]| {
            let mut stamp = Stamp { commit: 9, digest: 0 };
            records.iter().for_each(|(key, commit)| stamp.toggle(key.as_bytes(), *commit));
            stamp
        };
        let all = stamp(&[("a", 1), ("b", 2)]);
        assert_eq!(all, stamp(&[("b", 2), ("a", 1)]));
        assert_eq!(all, stamp(&[("a", 1), ("c", 5), ("b", 2), ("c", 5)]));
        for other in [&[("a", 1)][..], &[("a", 1), ("b", 1)], &[("a", 2), ("b", 1)], &[]] {
            assert_ne!(all, stamp(other));
        }
        assert_eq!(Stamp::from_text(&all.to_text()), Some(all));
        for text in ["", "1", "x 0", "1 g", "1  2"] {
            assert_eq!(Stamp::from_text(text), None);
        }
    }

    #[test]
    fn parts_of_different_keys_never_share_an_engine_key() {
        // "a" with part number 0x62000000 spells the same bytes as "ab" would, were there no length.
        assert_ne!(part_key(b"a", 0x6200_0000), part_key(b"ab", 0));
        assert!(part_key(b"k", 255) < part_key(b"k", 256));
    }
}
