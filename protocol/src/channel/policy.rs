//! What we ask of a payment that goes on over a channel (BOLT 7, "The `channel_update` Message").
//!
//! In: the node's settings and `setchannel`. Out: the fee of an amount, and whether an amount is welcome.
//! Read next: `node::forward`.

use crate::units::Msat;
use serde::{Deserialize, Serialize};

/// Parts per million.
const MILLION: u128 = 1_000_000;

/// One channel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// For each HTLC, msat.
    pub base_msat: u32,
    /// Of its amount, in millionths.
    pub ppm: u32,
    /// Blocks between the expiries of the two HTLCs.
    pub delta_blocks: u16,
    /// No smaller HTLC goes on.
    pub min: Msat,
    /// No larger one either, when set.
    pub max: Option<Msat>,
}

impl Policy {
    /// What a record from before there were limits lacks at its end.
    pub(crate) const NO_LIMITS: (Msat, Option<Msat>) = (Msat::ZERO, None);

    /// Without limits of our own.
    pub const fn new(base_msat: u32, ppm: u32, delta_blocks: u16) -> Policy {
        let (min, max) = Policy::NO_LIMITS;
        Policy { base_msat, ppm, delta_blocks, min, max }
    }

    /// The largest HTLC that goes on.
    pub fn largest(&self) -> Msat {
        self.max.unwrap_or(Msat(u64::MAX))
    }

    /// The fee for sending `amount` on, rounded down (BOLT 7, "HTLC Fees"); `None` when it is no amount.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let share = u128::from(amount.0).checked_mul(u128::from(self.ppm))? / MILLION;
        u64::try_from(share).ok()?.checked_add(u64::from(self.base_msat)).map(Msat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_are_rounded_down_and_never_wrap() {
        let policy = Policy::new(1_000, 10, 34);
        assert_eq!(policy.fee(Msat(50_000_000)), Some(Msat(1_500)));
        assert_eq!(policy.fee(Msat(99_999)), Some(Msat(1_000)));
        assert_eq!(policy.fee(Msat(100_000)), Some(Msat(1_001)));
        assert_eq!(Policy::new(u32::MAX, u32::MAX, 34).fee(Msat(u64::MAX)), None);
    }
}
