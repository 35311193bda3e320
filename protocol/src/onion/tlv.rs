//! TLV records with their byte offsets.
//!
//! In: the bytes of an onion's layer. Out: records, or the type and offset at which they stop making sense: that
//! is what `invalid_onion_payload` reports, and why a layer is not read with the wire's own TLV reader.
//! Read next: `payload`.

use crate::wire::codec::Reader;
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

/// How many bytes a BigSize takes.
pub(super) const fn bigsize_len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// All records of a stream; types must rise strictly and lengths must fit (BOLT 1, "Type-Length-Value Format").
pub(super) fn read_stream(stream: &[u8]) -> Result<Vec<Record<'_>>, BadStream> {
    let mut records: Vec<Record<'_>> = Vec::new();
    let mut reader = Reader::new(stream);
    // BOLT 1 [1.tlv.4].
    while reader.left() > 0 {
        let offset = stream.len().saturating_sub(reader.left());
        // BOLT 1 [1.tlv.5].
        let kind = reader.bigsize("type").map_err(|_| BadStream { kind: 0, offset })?;
        let bad = BadStream { kind, offset };
        // BOLT 1 [1.tlv.6].
        if records.last().is_some_and(|previous| previous.kind >= kind) {
            return Err(bad);
        }
        let length = reader.bigsize("length").map_err(|_| bad)?;
        let length = usize::try_from(length).map_err(|_| bad)?;
        // BOLT 1 [1.tlv.7].
        let value = reader.take(length, "value").map_err(|_| bad)?;
        records.push(Record { kind, value, offset });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::Writer;

    #[test]
    fn a_bigsize_is_as_long_as_it_is_written() {
        for value in [0, 0xfc, 0xfd, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let mut out = Writer::new();
            out.bigsize(value);
            assert_eq!(out.finish().unwrap().len(), bigsize_len(value));
        }
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
        assert_eq!(at(&[2, 0, 0xfd, 0, 4, 0]), Err(BadStream { kind: 0, offset: 2 }));
    }
}
