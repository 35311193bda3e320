//! Decisions out of bytes.
//!
//! In: an input. Out: numbers and pieces, front to back; zeros when it is used up, so that every input is a valid one.
//! Read next: `machine`, which is decided this way.

/// Takes decisions off the front of an input.
#[derive(Clone, Debug)]
pub struct Feed<'a> {
    left: &'a [u8],
}

impl<'a> Feed<'a> {
    /// From the front.
    pub const fn new(input: &'a [u8]) -> Feed<'a> {
        Feed { left: input }
    }

    /// Nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        let Some((first, left)) = self.left.split_first() else { return 0 };
        self.left = left;
        *first
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    /// One of `0..end`, of a byte or two.
    pub fn below(&mut self, end: usize) -> usize {
        let number = if end > 256 { usize::from(self.u16()) } else { usize::from(self.u8()) };
        number % end.max(1)
    }

    /// At most `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, left) = self.left.split_at(count.min(self.left.len()));
        self.left = left;
        taken
    }

    /// A piece behind its length of two bytes, or what there is of it.
    pub fn piece(&mut self) -> &'a [u8] {
        let count = usize::from(self.u16());
        self.take(count)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Exactly `N` bytes, zeros where there are none.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.take(N);
        out[..taken.len()].copy_from_slice(taken);
        out
    }
}
