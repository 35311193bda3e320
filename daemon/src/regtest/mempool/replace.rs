//! Replacement: full RBF by bitcoind's rules (its `doc/policy/mempool-replacements.md`; signalling not asked).
//!
//! In: a candidate with conflicts. Out: nothing, or why it may not replace them. Read next: `package`, where a
//! parent and a child replace together.

use std::collections::BTreeSet;

use bitcoin::{Amount, Txid};

use super::accept::{Candidate, FeeRule};
use super::reject::{Reject, RejectKind};
use super::{fee_at, Mempool};

/// The most transactions one replacement may evict.
pub const MAX_EVICTED: usize = 100;

/// An amount as bitcoind's messages write it.
pub(super) fn coins(sat: u64) -> String {
    format!("{:.8}", Amount::from_sat(sat).display_in(bitcoin::Denomination::Bitcoin))
}

fn rate(fee_sat: u64, vsize: u64) -> String {
    format!("{} BTC/kvB", coins(fee_sat.saturating_mul(1000) / vsize.max(1)))
}

/// Is `fee/size` of the first above that of the second?
pub(super) fn better_rate(first: (u64, u64), second: (u64, u64)) -> bool {
    u128::from(first.0) * u128::from(second.1) > u128::from(second.0) * u128::from(first.1)
}

impl Mempool {
    pub(super) fn check_replacement(&self, candidate: &Candidate, fees: FeeRule) -> Result<(), Reject> {
        if candidate.conflicts.is_empty() {
            return Ok(());
        }
        let entry = &candidate.entry;
        let txid = entry.txid;
        let mut known_parents: BTreeSet<Txid> = BTreeSet::new();
        for conflict in candidate.conflicts.iter().filter_map(|conflict| self.get(conflict)) {
            known_parents.extend(conflict.tx.input.iter().map(|input| input.previous_output.txid));
            let (mine, theirs) = ((entry.fee_sat, entry.vsize), (conflict.fee_sat, conflict.vsize));
            if fees == FeeRule::Alone && !better_rate(mine, theirs) {
                let (new, old) = (rate(mine.0, mine.1), rate(theirs.0, theirs.1));
                return Err(insufficient(format!(
                    "rejecting replacement {txid}; new feerate {new} <= old feerate {old}"
                )));
            }
        }
        if candidate.evicted.len() > MAX_EVICTED {
            let count = candidate.evicted.len();
            return Err(Reject::with(
                "too many potential replacements",
                format!(
                    "rejecting replacement {txid}; too many potential replacements ({count} > {MAX_EVICTED})"
                ),
            ));
        }
        if fees == FeeRule::Elsewhere {
            return Ok(());
        }
        for (index, input) in entry.tx.input.iter().enumerate() {
            let parent = &input.previous_output.txid;
            if self.get(parent).is_some() && !known_parents.contains(parent) {
                let detail = format!("replacement {txid} adds unconfirmed input, idx {index}");
                return Err(Reject::with("replacement-adds-unconfirmed", detail));
            }
        }
        let old = self.totals(&candidate.evicted);
        self.check_pays_for(&txid.to_string(), entry.fee_sat, entry.vsize, old.fee_sat)
    }

    /// The replacement pays what it evicts, and for its own relay on top.
    pub(super) fn check_pays_for(
        &self,
        name: &str,
        fee_sat: u64,
        vsize: u64,
        old_fee_sat: u64,
    ) -> Result<(), Reject> {
        let Some(added) = fee_sat.checked_sub(old_fee_sat) else {
            let (new, old) = (coins(fee_sat), coins(old_fee_sat));
            return Err(insufficient(format!(
                "rejecting replacement {name}, less fees than conflicting txs; {new} < {old}"
            )));
        };
        let wanted = fee_at(self.policy.incremental_sat_kvb, vsize);
        if added < wanted {
            let (added, wanted) = (coins(added), coins(wanted));
            return Err(insufficient(format!(
                "rejecting replacement {name}, not enough additional fees to relay; {added} < {wanted}"
            )));
        }
        Ok(())
    }
}

fn insufficient(detail: String) -> Reject {
    Reject::with("insufficient fee", detail).kind(RejectKind::Reconsiderable)
}
