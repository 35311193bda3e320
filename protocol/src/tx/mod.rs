//! The transactions of a channel (BOLT 3): pure functions from terms and balances to bytes to sign.
//!
//! In: keys, a balance snapshot, a feerate. Out: commitment, HTLC and closing transactions with their digests.
//! Nothing here keeps state but `shachain`, the peer's revealed secrets.
//! Read next: `commitment`, then `keys` and `script`.

pub mod close;
pub mod commitment;
pub mod htlc;
pub mod keys;
pub mod script;
pub mod shachain;
pub mod standard;
pub mod weight;

use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, Script, Transaction};
use serde::{Deserialize, Serialize};

use crate::units::Sat;

/// Which form of commitment a channel uses (BOLT 2 `channel_type`); fixed for its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ChannelType {
    /// `option_static_remotekey` alone: HTLC transactions pay their own fee.
    StaticRemotekey,
    /// `option_anchors` (with static_remotekey): anchor outputs, HTLC transactions without a fee.
    Anchors,
}

impl ChannelType {
    /// Whether `option_anchors` applies.
    pub const fn is_anchors(self) -> bool {
        matches!(self, ChannelType::Anchors)
    }
}

/// A Bitcoin amount of `sat`.
pub(crate) const fn amount(sat: Sat) -> Amount {
    Amount::from_sat(sat.0)
}

/// The BIP 143 digest of a transaction's only input, which spends a P2WSH output of `value`.
pub(crate) fn digest(tx: &Transaction, script: &Script, value: Sat, kind: EcdsaSighashType) -> [u8; 32] {
    let hash = SighashCache::new(tx).p2wsh_signature_hash(0, script, amount(value), kind);
    // It fails on an input index out of range only, and every transaction made here has an input 0.
    *hash.expect("every transaction of a channel has an input").as_ref()
}
