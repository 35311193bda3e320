//! How likely a channel has enough on the right side, from its size and what is known of it.
//!
//! In: the size, two bounds between which the liquidity lies, an amount. Out: the negative binary logarithm of the
//! chance: 0 is certain, and risks of hops in a row add up. Where the money of a channel lies is no even guess:
//! mostly on one side or the other, because payments have a direction. So the density is a quarter even
//! and three quarters the square of the distance from the middle. Read next: `score`.

use super::log::{log2, ONE};

/// Liquidity of one direction, msat: at least `low`, at most `high`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    pub(super) low: u64,
    pub(super) high: u64,
}

/// No chance is called smaller than one in 2^12.
const WORST: u32 = 12 * ONE;

/// The share of channels with less than `x` on this side; `x` and the result in 2^24ths.
#[inline]
fn share_below(x: u64) -> u64 {
    const HALF: i64 = 1 << 23;
    let d = x as i64 - HALF;
    // 4·d³ + 1/2, three quarters of it; 24 bits away before each product.
    let cubed = (((d * d) >> 24) * d) >> 22;
    let steep = (cubed + HALF) as u64;
    (x + 3 * steep) >> 2
}

/// The risk of sending `amount` where `bounds` hold in a channel of `size`; `None` when it cannot work.
#[inline]
pub(super) fn risk(size: u64, bounds: Bounds, amount: u64) -> Option<u32> {
    if amount <= bounds.low {
        return Some(0);
    }
    if amount > bounds.high {
        return None;
    }
    // Sizes beyond 2^39 msat lose bits they do not need.
    let shift = (25 + u64::BITS - size.leading_zeros()).saturating_sub(u64::BITS);
    let x = |msat: u64| ((msat >> shift) << 24) / (size >> shift).max(1);
    if bounds.low == 0 && bounds.high == size {
        // Nothing is known, as of most channels.
        return Some(
            (24 * ONE).saturating_sub(log2((1 << 24) - share_below(x(amount)).min((1 << 24) - 1))).min(WORST),
        );
    }
    let (low, high) = (share_below(x(bounds.low)), share_below(x(bounds.high)));
    let spread = high.saturating_sub(low);
    let (good, all) = if spread < 1 << 8 {
        // So narrow that the curve is a line.
        (bounds.high - amount, bounds.high - bounds.low)
    } else {
        (high.saturating_sub(share_below(x(amount))), spread)
    };
    Some(log2(all).saturating_sub(log2(good.max(1))).min(WORST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1_000_000_000;
    const ANY: Bounds = Bounds { low: 0, high: SIZE };

    #[test]
    fn the_share_runs_from_none_to_all_and_is_half_in_the_middle() {
        let all = 1 << 24;
        assert_eq!(share_below(0), 0);
        assert!(share_below(all).abs_diff(all) <= 4);
        assert!(share_below(all / 2).abs_diff(all / 2) <= 4);
        // By hand: a quarter of 1/4, and three quarters of 4·(-1/4)³ + 1/2 = 7/16.
        assert!(share_below(all / 4).abs_diff(all * 25 / 64) <= 4);
        for x in 0..all {
            assert!(share_below(x) <= share_below(x + 1), "at {x}");
        }
    }

    #[test]
    fn what_is_known_makes_certain() {
        assert_eq!(risk(SIZE, ANY, 0), Some(0));
        assert_eq!(risk(SIZE, Bounds { low: 500, high: 600 }, 500), Some(0));
        assert_eq!(risk(SIZE, Bounds { low: 500, high: 600 }, 601), None);
        // A narrow gap is even: half of it is one bit.
        assert!(risk(SIZE, Bounds { low: 500, high: 600 }, 550).is_some_and(|r| r.abs_diff(ONE) <= 2));
        // Half a channel of which nothing is known, too.
        assert!(risk(SIZE, ANY, SIZE / 2).is_some_and(|r| r.abs_diff(ONE) <= 2));
        assert_eq!(risk(SIZE, ANY, SIZE), Some(WORST));
    }

    #[test]
    fn more_is_never_likelier_at_any_size() {
        for size in [1, 7, 1_000, SIZE, 1 << 39, 1 << 40, 1 << 55, u64::MAX >> 2, u64::MAX] {
            for bounds in [Bounds { low: 0, high: size }, Bounds { low: size / 3, high: size / 2 }] {
                let mut last = 0;
                for step in 0..=1_000u128 {
                    let amount = (u128::from(bounds.high) * step / 1_000) as u64;
                    let now = risk(size, bounds, amount).expect("within the bounds");
                    assert!(now >= last, "{amount} of {size}: {now} after {last}");
                    last = now;
                }
            }
        }
    }
}
