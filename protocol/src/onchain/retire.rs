//! A channel that is over: all that could be claimed is deep in the chain, and what a penalty would have needed goes.
//!
//! In: blocks. Out: deleted records, a bounded number at each block; what lists show of the channel stays for ever.
//! Read next: `crate::channel::cause`.

use super::RESOLVED_DEPTH;
use crate::channel::{Channel, Phase};
use crate::record::{channel_key, htlc_key, numbered_key, put, Kind};
use crate::store::Change;
use crate::tx::shachain::SecretStore;
use crate::units::Height;
use alloc::vec::Vec;

/// Records deleted at one block: a batch stays small, whatever the channel has seen.
const PORTION: usize = 5_000;

impl Channel {
    /// The height at which the last of its money ended; `None` while something is still to be taken.
    pub fn over_at(&self) -> Option<Height> {
        match &self.phase {
            Phase::Closed(closed) => closed.height,
            Phase::Onchain(onchain) if self.watch.is_none() => onchain.height,
            Phase::Onchain(_) => self.resolved_at(),
            _ => None,
        }
    }

    /// All of it lies deep enough.
    pub(crate) fn is_over(&self, tip: Height) -> bool {
        self.over_at().is_some_and(|h| tip.since(h).saturating_add(1) >= RESOLVED_DEPTH)
    }

    /// Deletes a portion of what is no longer needed, once everything lies deep enough. Call it at every block.
    pub(crate) fn retire_records(&mut self, tip: Height, changes: &mut Vec<Change>) {
        if self.retired || !self.is_over(tip) || self.is_dirty() {
            return;
        }
        let id = self.id();
        let past = self.take_past(PORTION);
        changes.extend(past.iter().map(|p| Change::Delete { key: htlc_key(Kind::Past, &id, p.id) }));
        let left = PORTION.saturating_sub(past.len());
        // The newest stays: it is what the channel closed with.
        let old = self.commits.snapshots.len().saturating_sub(1).min(left);
        for entry in self.commits.snapshots.drain(..old) {
            changes.push(Change::Delete { key: numbered_key(Kind::Snapshot, &id, entry.number) });
        }
        if past.len() + old >= PORTION {
            return;
        }
        for htlc in core::mem::take(&mut self.ledger.htlcs).into_keys() {
            changes.push(Change::Delete { key: htlc_key(Kind::Htlc, &id, htlc) });
            changes.push(Change::Delete { key: htlc_key(Kind::Onion, &id, htlc) });
        }
        self.commits.remote_secrets = SecretStore::new();
        for slot in 0..49u64 {
            changes.push(Change::Delete { key: numbered_key(Kind::Secret, &id, slot) });
        }
        self.funding_tx = None;
        changes.push(Change::Delete { key: channel_key(Kind::FundingTx, &id) });
        self.retired = true;
        let at = self.over_at().unwrap_or(tip);
        changes.push(put(channel_key(Kind::ClosedChannel, &id), &at));
        if let Some(watch) = &mut self.watch {
            watch.claims.clear();
            changes.push(put(channel_key(Kind::Watch, &id), watch));
        }
    }
}
