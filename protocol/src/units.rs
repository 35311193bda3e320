//! Money, fees, heights and times as types of their own, with checked arithmetic only.
//!
//! In: plain integers. Out: values that cannot be added across units nor overflow silently.
//! There is no `+` or `-` on purpose: every sum of money names what happens when it does not fit.
//! Read next: `id`.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Millisatoshi, the unit of Lightning balances (BOLT 2).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Msat(pub u64);

/// Satoshi, the unit of outputs on chain.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Sat(pub u64);

/// Satoshi per 1,000 weight units, the unit of `feerate_per_kw` (BOLT 3).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Feerate(pub u32);

/// A block height, absolute.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Height(pub u32);

/// Milliseconds since the Unix epoch, handed in by whoever drives the node.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Msat {
    /// No money.
    pub const ZERO: Msat = Msat(0);

    /// The sum, or `None` when it does not fit 64 bits.
    pub const fn checked_add(self, other: Msat) -> Option<Msat> {
        match self.0.checked_add(other.0) {
            Some(v) => Some(Msat(v)),
            None => None,
        }
    }

    /// The difference, or `None` when it would be negative.
    pub const fn checked_sub(self, other: Msat) -> Option<Msat> {
        match self.0.checked_sub(other.0) {
            Some(v) => Some(Msat(v)),
            None => None,
        }
    }

    /// The difference, or zero when it would be negative.
    pub const fn saturating_sub(self, other: Msat) -> Msat {
        Msat(self.0.saturating_sub(other.0))
    }

    /// The sum, or the largest amount when it does not fit.
    pub const fn saturating_add(self, other: Msat) -> Msat {
        Msat(self.0.saturating_add(other.0))
    }

    /// The sum of many, or `None` when it does not fit.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Msat>) -> Option<Msat> {
        amounts.into_iter().try_fold(Msat::ZERO, Msat::checked_add)
    }

    /// Whole satoshis, the rest dropped (BOLT 3 rounds outputs down).
    pub const fn floor_sat(self) -> Sat {
        Sat(self.0 / 1_000)
    }
}

impl Sat {
    /// No money.
    pub const ZERO: Sat = Sat(0);
    /// 21 million bitcoin: no amount on chain is larger.
    pub const MAX_MONEY: Sat = Sat(2_100_000_000_000_000);

    /// The sum, or `None` when it does not fit 64 bits.
    pub const fn checked_add(self, other: Sat) -> Option<Sat> {
        match self.0.checked_add(other.0) {
            Some(v) => Some(Sat(v)),
            None => None,
        }
    }

    /// The difference, or `None` when it would be negative.
    pub const fn checked_sub(self, other: Sat) -> Option<Sat> {
        match self.0.checked_sub(other.0) {
            Some(v) => Some(Sat(v)),
            None => None,
        }
    }

    /// The difference, or zero when it would be negative.
    pub const fn saturating_sub(self, other: Sat) -> Sat {
        Sat(self.0.saturating_sub(other.0))
    }

    /// The sum, or the largest amount when it does not fit.
    pub const fn saturating_add(self, other: Sat) -> Sat {
        Sat(self.0.saturating_add(other.0))
    }

    /// In millisatoshi, or `None` when it does not fit 64 bits.
    pub const fn checked_msat(self) -> Option<Msat> {
        match self.0.checked_mul(1_000) {
            Some(v) => Some(Msat(v)),
            None => None,
        }
    }

    /// In millisatoshi; amounts above `u64::MAX` msat (no such coins exist) stop at the largest.
    pub const fn to_msat(self) -> Msat {
        Msat(self.0.saturating_mul(1_000))
    }
}

impl Feerate {
    /// The lowest feerate that relays and that BOLT 3 peers accept, in sat per 1,000 weight units.
    pub const FLOOR: Feerate = Feerate(253);

    /// The fee of `weight` weight units, rounded down (BOLT 3).
    pub const fn fee(self, weight: u64) -> Sat {
        Sat((self.0 as u64).saturating_mul(weight) / 1_000)
    }

    /// The least fee with which `weight` weight units relay: a mempool reckons with whole virtual bytes and rounds up.
    pub const fn relay_fee(self, weight: u64) -> Sat {
        let whole = weight.div_ceil(4).saturating_mul(4);
        Sat((self.0 as u64).saturating_mul(whole).div_ceil(1_000))
    }
}

impl Height {
    /// The height `blocks` later; stops at the largest height.
    pub const fn plus(self, blocks: u32) -> Height {
        Height(self.0.saturating_add(blocks))
    }

    /// How many blocks from `earlier` to this height; zero when it is not later.
    pub const fn since(self, earlier: Height) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Timestamp {
    /// Whole seconds since the Unix epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000
    }

    /// The time `ms` milliseconds later.
    pub const fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}
impl fmt::Display for Sat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat", self.0)
    }
}
impl fmt::Display for Feerate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat/kw", self.0)
    }
}
impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.0)
    }
}
