//! What the search weighs: fees, risk, blocks and hops, all as money.
//!
//! In: a payment's amount. Out: what a hop costs beyond its fee, msat. A risk costs what a failed attempt is worth to
//! avoid; a block what the locked amount could have earned. Earlier hops ask their fee for these, too, as if they
//! were paid: so one number orders the search, what is cheaper stays cheaper, and the best is found.
//! The weights, and how they were chosen: docs/decisions/routing.md. Read next: `search`.

use super::log::ONE;

/// What one bit of risk costs: msat fixed, and millionths of the amount.
const RISK_BASE_MSAT: u64 = 3_000;
const RISK_MILLIONTHS: u64 = 350;
/// The risk of a hop of which nothing bad is known: it may be away. In 65,536ths of a bit.
pub(super) const HOP_RISK: u32 = ONE / 8;
/// Money locked for a year of blocks is worth one part in a hundred of it.
const BLOCKS_FOR_ALL: u64 = 100 * 52_560;

/// Prices for one amount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prices {
    /// A bit of risk, msat.
    risk: u64,
    /// A block, in 65,536ths of a msat.
    block: u64,
    /// A hop, msat.
    hop: u64,
    /// Fees are asked for what the others cost, too.
    pub(super) compound: bool,
}

/// What matters most: everything in its measure, or one thing because a limit was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    Balanced,
    /// Risk counts an eighth.
    Frugal,
    /// The least fee, whatever the risk.
    Cheapest,
    /// Blocks count 64-fold.
    Early,
    /// The fewest blocks, whatever the fee.
    Earliest,
    /// The fewest hops, whatever the fee.
    Shortest,
}

/// Msat; dearer than any fee, and 20 hops or 2^16 blocks of it still fit a cost.
const ABOVE_ALL: u64 = 1 << 46;

impl Prices {
    pub(super) fn new(amount: u64, aim: Aim) -> Prices {
        let amount = amount.min(1 << 52);
        let risk = RISK_BASE_MSAT + (amount / 1_000) * RISK_MILLIONTHS / 1_000;
        let block = ((u128::from(amount) << 16) / u128::from(BLOCKS_FOR_ALL)) as u64;
        let (risk, block, hop) = match aim {
            Aim::Balanced => (risk, block, 0),
            Aim::Frugal => (risk / 8, block / 8, 0),
            Aim::Cheapest => (0, 0, 0),
            Aim::Early => (risk, block * 64, 0),
            Aim::Earliest => (0, ABOVE_ALL << 16, 0),
            Aim::Shortest => (0, 0, ABOVE_ALL),
        };
        Prices { risk, block, hop, compound: !matches!(aim, Aim::Earliest | Aim::Shortest) }
    }

    /// What a hop costs beyond its fee, msat.
    #[inline]
    pub(super) fn of(&self, risk: u32, blocks: u32) -> u64 {
        let risk = (u128::from(self.risk) * u128::from(risk)) >> 16;
        let blocks = (u128::from(self.block) * u128::from(blocks)) >> 16;
        (risk as u64).saturating_add(blocks as u64).saturating_add(self.hop)
    }
}
