//! The letters of the wire: integers, BigSize, truncated integers, TLV streams (BOLT 1).
//!
//! In: bytes a peer chose. Out: values, or a [`Malformed`] that names the field. Reading never panics, never
//! allocates by itself and never looks past the slice it was given. Writing only fails by length, and tells at the end.
//! Read next: `field` (types made of these letters), `layout` (messages made of those).

use alloc::vec::Vec;

/// The longest message the transport carries, type included, in bytes (BOLT 1, "Lightning Message Format").
pub const MAX_MESSAGE_BYTES: usize = 65_535;

/// What is wrong with bytes that should have been a value of the field named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the field does.
    #[error("the bytes end inside {0}")]
    Truncated(&'static str),
    /// The field is longer than its encoding allows.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// A number takes more bytes than it needs.
    #[error("{0} is not minimally encoded")]
    NotMinimal(&'static str),
    /// Not the compressed encoding of a point of secp256k1.
    #[error("{0} is not a valid point")]
    BadPoint(&'static str),
    /// Half of the signature is not below the group order.
    #[error("{0} is not a valid signature")]
    BadSignature(&'static str),
    /// Zero, or not below the group order.
    #[error("{0} is not a valid secret key")]
    BadSecret(&'static str),
    /// A count above what the specification allows.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A TLV record of this type must be understood, and is not.
    #[error("unknown even TLV type {0}")]
    UnknownEvenTlv(u64),
    /// A TLV record of this type comes after one that is not lower.
    #[error("TLV type {0} is out of order")]
    TlvOrder(u64),
    /// A list is encoded in a way that is not allowed (BOLT 7: compressed, or unknown).
    #[error("{0} is in an encoding that is not allowed")]
    Encoding(&'static str),
    /// A TLV record of this known type has bytes left after its value.
    #[error("TLV type {0} is longer than its value")]
    TlvLength(u64),
}

/// Takes values off the front of a slice.
#[derive(Clone)]
pub struct Reader<'a> {
    left: &'a [u8],
}

macro_rules! read_integers {
    ($($name:ident $type:ty),*) => {$(
        #[doc = concat!("A big-endian `", stringify!($type), "` (BOLT 1, \"Fundamental Types\").")]
        ///
        /// # Errors
        /// [`Malformed::Truncated`].
        pub fn $name(&mut self, field: &'static str) -> Result<$type, Malformed> {
            self.array(field).map(<$type>::from_be_bytes)
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    /// How many bytes are not yet read.
    pub const fn left(&self) -> usize {
        self.left.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        // BOLT 1 [1.format.6, 1.tlv.7].
        let (taken, left) = self.left.split_at_checked(count).ok_or(Malformed::Truncated(field))?;
        self.left = left;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let (taken, left) = self.left.split_first_chunk::<N>().ok_or(Malformed::Truncated(field))?;
        self.left = left;
        Ok(*taken)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.left)
    }

    read_integers!(u8 u8, u16 u16, u32 u32, u64 u64, s8 i8, s16 i16, s32 i32, s64 i64);

    /// The bytes after a `u16` that counts them.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn bytes16(&mut self, field: &'static str) -> Result<&'a [u8], Malformed> {
        let count = self.u16(field)?;
        self.take(count.into(), field)
    }

    /// A BigSize number (BOLT 1, appendix A).
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; [`Malformed::NotMinimal`] when fewer bytes would have done.
    pub fn bigsize(&mut self, field: &'static str) -> Result<u64, Malformed> {
        let (value, least) = match self.u8(field)? {
            0xfd => (self.u16(field)?.into(), 0xfd),
            0xfe => (self.u32(field)?.into(), 0x1_0000),
            0xff => (self.u64(field)?, 0x1_0000_0000),
            small => (small.into(), 0),
        };
        if value < least {
            return Err(Malformed::NotMinimal(field));
        }
        Ok(value)
    }

    /// A `tu16`: all that is left, at most two bytes, none of the leading ones zero.
    ///
    /// # Errors
    /// [`Malformed::TooLong`], [`Malformed::NotMinimal`].
    pub fn tu16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        u16::try_from(self.truncated(2, field)?).map_err(|_| Malformed::TooLong(field))
    }

    /// A `tu32`: all that is left, at most four bytes, none of the leading ones zero.
    ///
    /// # Errors
    /// [`Malformed::TooLong`], [`Malformed::NotMinimal`].
    pub fn tu32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        u32::try_from(self.truncated(4, field)?).map_err(|_| Malformed::TooLong(field))
    }

    /// A `tu64`: all that is left, at most eight bytes, none of the leading ones zero.
    ///
    /// # Errors
    /// [`Malformed::TooLong`], [`Malformed::NotMinimal`].
    pub fn tu64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        self.truncated(8, field)
    }

    fn truncated(&mut self, most: usize, field: &'static str) -> Result<u64, Malformed> {
        let bytes = self.rest();
        if bytes.len() > most {
            return Err(Malformed::TooLong(field));
        }
        // BOLT 1 [1.tlv.10].
        if bytes.first() == Some(&0) {
            return Err(Malformed::NotMinimal(field));
        }
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Reads all that is left as a TLV stream (BOLT 1, "Type-Length-Value Format").
    ///
    /// `known` is shown each record's type and value: it reads the value whole and answers `true`, or answers
    /// `false` for a type it does not know, which is skipped when odd.
    ///
    /// # Errors
    /// What `known` returns; a stream that is cut short, not minimal, not strictly increasing, or that has an
    /// unknown even type or a known type with bytes to spare.
    pub fn tlvs(
        &mut self,
        mut known: impl FnMut(u64, &mut Reader<'a>) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        let mut last = None;
        // BOLT 1 [1.tlv.4].
        while !self.left.is_empty() {
            // BOLT 1 [1.tlv.5].
            let kind = self.bigsize("TLV type")?;
            // "if decoded types are not strictly-increasing: MUST fail to parse the tlv_stream"
            // BOLT 1 [1.tlv.6].
            if last.is_some_and(|last| kind <= last) {
                return Err(Malformed::TlvOrder(kind));
            }
            last = Some(kind);
            let length = self.bigsize("TLV length")?;
            let length = usize::try_from(length).map_err(|_| Malformed::Truncated("TLV value"))?;
            let mut value = Reader::new(self.take(length, "TLV value")?);
            // BOLT 1 [1.tlv.8].
            let is_known = known(kind, &mut value)?;
            // BOLT 1 [1.tlv.9].
            if is_known && value.left() > 0 {
                return Err(Malformed::TlvLength(kind));
            }
            // BOLT 1 [1.tlv.11, 1.tlv.12].
            if !is_known && kind % 2 == 0 {
                return Err(Malformed::UnknownEvenTlv(kind));
            }
        }
        Ok(())
    }
}

/// Appends values to a message; remembers whether any of them did not fit.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    overflow: bool,
}

impl Writer {
    /// An empty message.
    pub const fn new() -> Writer {
        Writer { bytes: Vec::new(), overflow: false }
    }

    /// What was written, or `None` when a length did not fit its field or all of it exceeds [`MAX_MESSAGE_BYTES`].
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.overflow && self.bytes.len() <= MAX_MESSAGE_BYTES).then_some(self.bytes)
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// So many zero bytes.
    pub fn zeros(&mut self, count: u16) {
        self.bytes.resize(self.bytes.len() + usize::from(count), 0);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// A count as a `u16`; one that does not fit spoils the message.
    pub fn count16(&mut self, count: usize) {
        match u16::try_from(count) {
            Ok(count) => self.u16(count),
            Err(_) => self.overflow = true,
        }
    }

    /// A `u16` length, then the bytes.
    pub fn bytes16(&mut self, bytes: &[u8]) {
        self.count16(bytes.len());
        self.bytes(bytes);
    }

    /// A BigSize number in the fewest bytes (BOLT 1, appendix A).
    pub fn bigsize(&mut self, value: u64) {
        match value {
            0..=0xfc => self.u8(value as u8),
            0xfd..=0xffff => {
                self.u8(0xfd);
                self.u16(value as u16);
            }
            0x1_0000..=0xffff_ffff => {
                self.u8(0xfe);
                self.u32(value as u32);
            }
            _ => {
                self.u8(0xff);
                self.u64(value);
            }
        }
    }

    /// A truncated integer (`tu16`, `tu32`, `tu64`): no leading zeros. Only as the last value of a TLV record.
    pub fn truncated(&mut self, value: impl Into<u64>) {
        let bytes = value.into().to_be_bytes();
        // BOLT 1 [1.types.1].
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        self.bytes.extend(bytes.iter().skip(zeros));
    }

    /// One TLV record whose value `value` writes. Records must be written in increasing order of `kind`.
    pub fn tlv(&mut self, kind: u64, value: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::new();
        value(&mut inner);
        self.overflow |= inner.overflow;
        // BOLT 1 [1.tlv.3].
        self.bigsize(kind);
        self.bigsize(inner.bytes.len() as u64);
        self.bytes(&inner.bytes);
    }
}
