//! When an HTLC closes a channel: in time to be claimed on chain with the peer silent (BOLT 2, "HTLC deadlines").
//!
//! In: the height. Out: the HTLC that cannot wait any longer. Two rules: what we offered must be gone from both
//! commitments soon after its expiry, or whoever paid us could take it back first; what we hold the secret of must be
//! settled well before its expiry, or its payer could. Read next: `claim`.

use crate::channel::cause::{Trigger, Why};
use crate::channel::htlc::{Htlc, Removal};
use crate::channel::{Channel, Phase};
use crate::id::Side;
use crate::units::Height;
use alloc::format;

/// Blocks after its expiry that an HTLC of ours may still be in a commitment.
pub const OFFERED_GRACE_BLOCKS: u32 = 2;

impl Channel {
    /// Why the channel must be closed now, if it must: `margin_blocks` are needed to claim an HTLC by its secret.
    pub(crate) fn overdue(&self, tip: Height, margin_blocks: u32) -> Option<Why> {
        if !matches!(self.phase, Phase::Confirming | Phase::Open | Phase::Closing(_)) {
            return None;
        }
        let late = |h: &&Htlc| match h.id.offered_by {
            // BOLT 2 [2.expiry.1, 2.expiry.2, 2.expiry.3].
            Side::Local => tip >= h.cltv_expiry.plus(OFFERED_GRACE_BLOCKS) && is_committed(h),
            // BOLT 2 [2.expiry.6].
            Side::Remote => {
                let settled = h.removal.as_ref().is_some_and(Removal::is_fulfilled);
                settled && tip.plus(margin_blocks) >= h.cltv_expiry && is_committed(h)
            }
        };
        let htlc = self.ledger.htlcs.values().find(late)?;
        let words = match htlc.id.offered_by {
            Side::Local => format!("HTLC {} of ours expired at {}", htlc.id.id, htlc.cltv_expiry),
            Side::Remote => {
                format!("HTLC {} is settled and expires at {} already", htlc.id.id, htlc.cltv_expiry)
            }
        };
        Some(Why { trigger: Trigger::Deadline, words, htlc: Some(htlc.id) })
    }
}

/// Whether a commitment that can be published holds it.
fn is_committed(htlc: &Htlc) -> bool {
    let by = htlc.id.offered_by;
    [Side::Local, Side::Remote].into_iter().any(|owner| htlc.step.added_in(by, owner))
}
