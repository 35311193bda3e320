//! How long a chain of unconfirmed transactions may grow, with the carve-out that Lightning's anchors rely on.
//!
//! In: a candidate. Out: nothing, or `too-long-mempool-chain`. Read next: `truc`, whose chains are shorter.

use std::collections::BTreeSet;

use bitcoin::Txid;

use super::accept::Candidate;
use super::reject::Reject;
use super::truc::TRUC_VERSION;
use super::Mempool;

/// The most entries on either side, the transaction itself counted.
pub const MAX_CHAIN_COUNT: u64 = 25;
/// The most virtual bytes on either side, the transaction itself counted.
pub const MAX_CHAIN_VBYTES: u64 = 101_000;
const CARVE_OUT_VBYTES: u64 = 10_000;

#[derive(Clone, Copy)]
struct Limits {
    ancestors: u64,
    descendants: u64,
    descendant_vbytes: u64,
}

impl Mempool {
    pub(super) fn check_limits(&self, candidate: &Candidate) -> Result<(), Reject> {
        let ancestors = self.ancestors(&candidate.entry.tx);
        if let Some(both) = ancestors.intersection(&candidate.evicted).next() {
            let detail = format!("{} spends conflicting transaction {both}", candidate.entry.txid);
            return Err(Reject::with("bad-txns-spends-conflicting-tx", detail));
        }
        let usual = Limits {
            ancestors: MAX_CHAIN_COUNT,
            descendants: MAX_CHAIN_COUNT,
            descendant_vbytes: MAX_CHAIN_VBYTES,
        };
        let Err(reject) = self.check_chain(candidate, &ancestors, usual) else { return Ok(()) };
        // The carve-out: one more small child of a single unconfirmed parent, so that a peer who fills the limit
        // with children of its own output cannot stop us from bumping through ours.
        let entry = &candidate.entry;
        if entry.vsize > CARVE_OUT_VBYTES || entry.tx.version.0 == TRUC_VERSION {
            return Err(reject);
        }
        let carved = Limits {
            ancestors: 2,
            descendants: MAX_CHAIN_COUNT + 1,
            descendant_vbytes: MAX_CHAIN_VBYTES + CARVE_OUT_VBYTES,
        };
        self.check_chain(candidate, &ancestors, carved).map_err(|_| reject)
    }

    fn check_chain(
        &self,
        candidate: &Candidate,
        ancestors: &BTreeSet<Txid>,
        limits: Limits,
    ) -> Result<(), Reject> {
        let fault = |detail: String| Err(Reject::with("too-long-mempool-chain", detail));
        let above = self.totals(ancestors);
        if above.count + 1 > limits.ancestors {
            return fault(format!("too many unconfirmed ancestors [limit: {}]", limits.ancestors));
        }
        if above.vsize + candidate.entry.vsize > MAX_CHAIN_VBYTES {
            return fault(format!("exceeds ancestor size limit [limit: {MAX_CHAIN_VBYTES}]"));
        }
        for ancestor in ancestors {
            let descendants = self.descendants(ancestor);
            let below = self.totals(descendants.difference(&candidate.evicted));
            if below.count + 1 > limits.descendants {
                return fault(format!(
                    "too many descendants for tx {ancestor} [limit: {}]",
                    limits.descendants
                ));
            }
            if below.vsize + candidate.entry.vsize > limits.descendant_vbytes {
                let limit = limits.descendant_vbytes;
                return fault(format!("exceeds descendant size limit for tx {ancestor} [limit: {limit}]"));
            }
        }
        Ok(())
    }
}
