//! Version 3 transactions (BIP 431): one unconfirmed parent, one small child, and a child that may be replaced by
//! its sibling.
//!
//! In: an entry to be. Out: nothing, a sibling that must make room, or `TRUC-violation`. Read next: `replace`.

use std::collections::BTreeSet;

use bitcoin::Txid;

use super::reject::Reject;
use super::{Entry, Mempool};

/// The version that opts in.
pub const TRUC_VERSION: i32 = 3;
const MAX_VBYTES: u64 = 10_000;
const MAX_CHILD_VBYTES: u64 = 1_000;

fn violation(detail: String) -> Reject {
    Reject::with("TRUC-violation", detail)
}

impl Mempool {
    /// Checks BIP 431's topology. The sibling returned has to be treated as a conflict.
    pub(super) fn check_truc(
        &self,
        entry: &Entry,
        conflicts: &BTreeSet<Txid>,
    ) -> Result<Option<Txid>, Reject> {
        let truc = entry.tx.version.0 == TRUC_VERSION;
        let txid = entry.txid;
        let parents = self.parents(&entry.tx);
        for parent in parents.iter().filter_map(|parent| self.get(parent)) {
            let parent_truc = parent.tx.version.0 == TRUC_VERSION;
            if truc && !parent_truc {
                return Err(violation(format!(
                    "version=3 tx {txid} cannot spend from non-version=3 tx {}",
                    parent.txid
                )));
            }
            if !truc && parent_truc {
                return Err(violation(format!(
                    "non-version=3 tx {txid} cannot spend from version=3 tx {}",
                    parent.txid
                )));
            }
        }
        if !truc {
            return Ok(None);
        }
        if entry.vsize > MAX_VBYTES {
            return Err(violation(format!(
                "version=3 tx {txid} is too big: {} > {MAX_VBYTES} vB",
                entry.vsize
            )));
        }
        if self.ancestors(&entry.tx).len() > 1 {
            return Err(violation(format!("tx {txid} would have too many ancestors")));
        }
        let Some(parent) = parents.first() else { return Ok(None) };
        if entry.vsize > MAX_CHILD_VBYTES {
            return Err(violation(format!(
                "version=3 child tx {txid} is too big: {} > {MAX_CHILD_VBYTES} vB",
                entry.vsize
            )));
        }
        let siblings: Vec<Txid> =
            self.children(parent).into_iter().filter(|child| !conflicts.contains(child)).collect();
        match siblings.as_slice() {
            [] => Ok(None),
            [only] if self.children(only).is_empty() && conflicts.is_empty() => Ok(Some(*only)),
            _ => Err(violation(format!("tx {parent} would exceed descendant count limit"))),
        }
    }
}
