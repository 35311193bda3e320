//! Expected weights, fees, and what is too small to be an output (BOLT 3, "Fees", "Trimmed Outputs", Appendix A).
//!
//! In: feerates, dust limits, amounts. Out: fees in whole satoshis, rounded down, and trim decisions.
//! The weights are the specification's, not the real ones: both sides must compute the same fee.
//! Read next: `commitment`.

use super::ChannelType;
use crate::units::{Feerate, Msat, Sat};

/// The value of each anchor output (BOLT 3, "to_local_anchor and to_remote_anchor").
pub const ANCHOR_SAT: Sat = Sat(330);
/// What the two anchors take from the funder.
pub const ANCHORS_SAT: Sat = Sat(660);
/// The most HTLCs that one side may offer at a time (BOLT 2, `max_accepted_htlcs`).
pub const MAX_HTLCS_PER_SIDE: usize = 483;

/// Weight that each untrimmed HTLC adds to a commitment (BOLT 3, Appendix A).
pub const HTLC_OUTPUT_WEIGHT: u64 = 172;

/// Expected weight of a commitment with `untrimmed_htlcs` HTLC outputs (BOLT 3, "Fee Calculation").
pub const fn commit_weight(channel_type: ChannelType, untrimmed_htlcs: usize) -> u64 {
    // BOLT 3 [3.fee.5].
    let base = match channel_type {
        ChannelType::StaticRemotekey => 724,
        ChannelType::Anchors => 1_124,
    };
    base + HTLC_OUTPUT_WEIGHT * untrimmed_htlcs as u64
}

/// The base fee that the funder pays for a commitment, without the anchors (BOLT 3, "Fee Calculation").
pub const fn commit_fee(channel_type: ChannelType, feerate: Feerate, untrimmed_htlcs: usize) -> Sat {
    feerate.fee(commit_weight(channel_type, untrimmed_htlcs))
}

/// What the funder gives up for a commitment: base fee and anchors (BOLT 3, "Fee Payment").
pub const fn funder_cost(channel_type: ChannelType, feerate: Feerate, untrimmed_htlcs: usize) -> Sat {
    let fee = commit_fee(channel_type, feerate, untrimmed_htlcs);
    match channel_type {
        ChannelType::StaticRemotekey => fee,
        // A fee is at most 2^32 times a weight below 2^20: the sum fits.
        ChannelType::Anchors => Sat(fee.0.saturating_add(ANCHORS_SAT.0)),
    }
}

/// Expected weight of an HTLC-timeout transaction (BOLT 3, Appendix A).
pub const fn htlc_timeout_weight(channel_type: ChannelType) -> u64 {
    match channel_type {
        ChannelType::StaticRemotekey => 663,
        ChannelType::Anchors => 666,
    }
}

/// Expected weight of an HTLC-success transaction (BOLT 3, Appendix A).
pub const fn htlc_success_weight(channel_type: ChannelType) -> u64 {
    match channel_type {
        ChannelType::StaticRemotekey => 703,
        ChannelType::Anchors => 706,
    }
}

/// The fee of an HTLC-timeout transaction; zero with anchors (BOLT 3, "Fee Calculation").
pub const fn htlc_timeout_fee(channel_type: ChannelType, feerate: Feerate) -> Sat {
    // BOLT 3 [3.fee.1, 3.fee.2].
    match channel_type {
        ChannelType::StaticRemotekey => feerate.fee(htlc_timeout_weight(channel_type)),
        ChannelType::Anchors => Sat::ZERO,
    }
}

/// The fee of an HTLC-success transaction; zero with anchors (BOLT 3, "Fee Calculation").
pub const fn htlc_success_fee(channel_type: ChannelType, feerate: Feerate) -> Sat {
    // BOLT 3 [3.fee.3, 3.fee.4].
    match channel_type {
        ChannelType::StaticRemotekey => feerate.fee(htlc_success_weight(channel_type)),
        ChannelType::Anchors => Sat::ZERO,
    }
}

/// The fee of the transaction that ends an HTLC; `offered` by the commitment's owner or not.
pub const fn htlc_fee(channel_type: ChannelType, feerate: Feerate, offered: bool) -> Sat {
    if offered {
        htlc_timeout_fee(channel_type, feerate)
    } else {
        htlc_success_fee(channel_type, feerate)
    }
}

/// Whether an HTLC has no output on a commitment whose owner's dust limit is `dust_limit` (BOLT 3, "Trimmed Outputs").
///
/// `offered`: by the owner of that commitment.
pub fn is_trimmed(
    channel_type: ChannelType,
    feerate: Feerate,
    dust_limit: Sat,
    offered: bool,
    amount: Msat,
) -> bool {
    // BOLT 3 [3.outputs.2, 3.trim.6, 3.trim.8].
    let left = amount.floor_sat().checked_sub(htlc_fee(channel_type, feerate, offered));
    left.is_none_or(|left| left < dust_limit)
}
