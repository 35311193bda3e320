//! BigSize numbers, truncated integers and TLV records with their byte offsets (BOLT 1).
//!
//! In: the bytes of an onion's layer. Out: records, or the type and offset at which they stop making sense: that
//! is what `invalid_onion_payload` reports, and why onions read their TLVs here.
//! Read next: `payload`.

use alloc::vec::Vec;

/// One record of a stream.
pub(super) struct Record<'a> {
    pub kind: u64,
    pub value: &'a [u8],
    /// Where the record starts in the stream.
    pub offset: usize,
}

/// Where a stream stops making sense; `kind` is 0 when not even the type is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadStream {
    pub kind: u64,
    pub offset: usize,
}

/// Splits a BigSize off the front; `None` when cut short or not minimal (BOLT 1).
pub(super) fn read_bigsize(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (value, rest, least) = match first {
        0xfd => {
            let (v, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*v)), rest, 0xfd)
        }
        0xfe => {
            let (v, rest) = rest.split_first_chunk()?;
            (u64::from(u32::from_be_bytes(*v)), rest, 0x1_0000)
        }
        0xff => {
            let (v, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*v), rest, 0x1_0000_0000)
        }
        small => (u64::from(*small), rest, 0),
    };
    (value >= least).then_some((value, rest))
}

/// Appends a BigSize.
pub(super) fn write_bigsize(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let (mark, width) = match value {
        0..=0xfc => (None, 1),
        0xfd..=0xffff => (Some(0xfd), 2),
        0x1_0000..=0xffff_ffff => (Some(0xfe), 4),
        _ => (Some(0xff), 8),
    };
    out.extend(mark);
    out.extend(bytes.iter().skip(8 - width));
}

/// How many bytes a BigSize takes.
pub(super) const fn bigsize_len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Appends one TLV record.
pub(super) fn write_record(out: &mut Vec<u8>, kind: u64, value: &[u8]) {
    write_bigsize(out, kind);
    write_bigsize(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// All records of a stream; types must rise strictly and lengths must fit (BOLT 1, "Type-Length-Value Format").
pub(super) fn read_stream(stream: &[u8]) -> Result<Vec<Record<'_>>, BadStream> {
    let mut records: Vec<Record<'_>> = Vec::new();
    let mut left = stream;
    while !left.is_empty() {
        let offset = stream.len().saturating_sub(left.len());
        let (kind, after) = read_bigsize(left).ok_or(BadStream { kind: 0, offset })?;
        let bad = BadStream { kind, offset };
        if records.last().is_some_and(|previous| previous.kind >= kind) {
            return Err(bad);
        }
        let (length, after) = read_bigsize(after).ok_or(bad)?;
        let length = usize::try_from(length).map_err(|_| bad)?;
        let (value, after) = after.split_at_checked(length).ok_or(bad)?;
        records.push(Record { kind, value, offset });
        left = after;
    }
    Ok(records)
}

/// A `tu64`: up to 8 bytes, the first not zero (BOLT 1).
pub(super) fn read_tu64(bytes: &[u8]) -> Option<u64> {
    if bytes.len() > 8 || bytes.first() == Some(&0) {
        return None;
    }
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// A `tu32`: up to 4 bytes, the first not zero (BOLT 1).
pub(super) fn read_tu32(bytes: &[u8]) -> Option<u32> {
    read_tu64(bytes).and_then(|value| u32::try_from(value).ok())
}

/// The bytes of a `tu64`, or of a `tu32` when it fits one.
pub(super) fn tu64(value: u64) -> Vec<u8> {
    value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bigsize_goes_there_and_back() {
        for value in [0, 1, 0xfc, 0xfd, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let mut bytes = Vec::new();
            write_bigsize(&mut bytes, value);
            assert_eq!(bytes.len(), bigsize_len(value));
            assert_eq!(read_bigsize(&bytes), Some((value, &[][..])));
            for cut in 0..bytes.len() {
                assert_eq!(read_bigsize(&bytes[..cut]), None);
            }
        }
    }

    #[test]
    fn bigsize_must_be_minimal() {
        assert_eq!(read_bigsize(&[0xfd, 0, 0xfc]), None);
        assert_eq!(read_bigsize(&[0xfe, 0, 0, 0xff, 0xff]), None);
        assert_eq!(read_bigsize(&[0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn truncated_integers_have_no_leading_zero() {
        for value in [0, 1, 0xff, 0x100, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(read_tu64(&tu64(value)), Some(value));
        }
        assert_eq!(tu64(0), Vec::<u8>::new());
        assert_eq!(read_tu64(&[0]), None);
        assert_eq!(read_tu64(&[1; 9]), None);
        assert_eq!(read_tu32(&[1; 5]), None);
        assert_eq!(read_tu32(&[0xff; 4]), Some(u32::MAX));
    }

    #[test]
    fn a_stream_says_where_it_breaks() {
        let at = |bytes: &[u8]| read_stream(bytes).map(|r| r.len());
        assert_eq!(at(&[]), Ok(0));
        assert_eq!(at(&[2, 0, 4, 1, 9]), Ok(2));
        assert_eq!(at(&[4, 0, 2, 0]), Err(BadStream { kind: 2, offset: 2 }));
        assert_eq!(at(&[2, 0, 2, 0]), Err(BadStream { kind: 2, offset: 2 }));
        assert_eq!(at(&[2, 0, 4, 2, 9]), Err(BadStream { kind: 4, offset: 2 }));
        assert_eq!(at(&[2, 0, 4]), Err(BadStream { kind: 4, offset: 2 }));
        assert_eq!(at(&[2, 0, 0xfd, 0]), Err(BadStream { kind: 0, offset: 2 }));
    }
}
