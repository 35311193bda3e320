//! A small set of channels that answers "surely not" fast: a search asks it of every direction it meets.
//!
//! In: names of channels. Out: false for most that are not in it, true for all that are. Read next: `score`, `taken`.

use crate::id::ShortChannelId;
use alloc::vec;
use alloc::vec::Vec;

/// Bits, 32 kB of them: they stay near the processor.
const BITS: u32 = 18;

#[derive(Clone, Debug)]
pub(super) struct Marks(Vec<u64>);

impl Marks {
    pub(super) fn new() -> Marks {
        Marks(vec![0; 1 << (BITS - 6)])
    }

    pub(super) fn insert(&mut self, scid: ShortChannelId) {
        let (word, bit) = place(scid);
        self.0[word] |= bit;
    }

    #[inline]
    pub(super) fn may_hold(&self, scid: ShortChannelId) -> bool {
        let (word, bit) = place(scid);
        self.0[word] & bit != 0
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// Spread by a multiplication with the golden ratio.
#[inline]
fn place(scid: ShortChannelId) -> (usize, u64) {
    let bit = scid.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
    ((bit >> 6) as usize, 1 << (bit & 63))
}
