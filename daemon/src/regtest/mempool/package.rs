//! Packages: a child that pays for the parents it spends, judged together (`submitpackage`).
//!
//! In: parents, then their child. Out: what became of each. The pool changes only by what is reported as in it.
//! Each transaction is tried alone first; what only lacks fees is then tried with the child's, on a copy of the
//! pool that replaces it when all went well. Read next: `accept`, `replace`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Transaction, Txid, Wtxid};
use thiserror::Error;

use super::accept::{Candidate, FeeRule};
use super::reject::{Reject, RejectKind};
use super::replace::better_rate;
use super::{fee_at, Mempool};
use crate::regtest::consensus::ChainState;

/// The most transactions in one package.
pub const MAX_PACKAGE_COUNT: usize = 25;
/// The most weight of one package.
pub const MAX_PACKAGE_WEIGHT: u64 = 404_000;

/// A package that is not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PackageError {
    /// More than 25.
    #[error("package-too-many-transactions")]
    TooMany,
    /// More than 404,000 weight units.
    #[error("package-too-large")]
    TooLarge,
    /// The same transaction twice.
    #[error("package-contains-duplicates")]
    Duplicates,
    /// A child stands before its parent.
    #[error("package-not-sorted")]
    NotSorted,
    /// Two of them spend the same coin.
    #[error("conflict-in-package")]
    Conflict,
    /// The last one is not the child of all others.
    #[error("package-not-child-with-unconfirmed-parents")]
    NotChildWithParents,
}

/// What became of one transaction of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageTx {
    /// It is in the pool.
    Accepted {
        /// Its virtual size.
        vsize: u64,
        /// Its own fee, in satoshi.
        fee_sat: u64,
        /// Fee (satoshi) and size that its fate was decided by, and whose they are.
        effective: Option<(u64, u64, Vec<Wtxid>)>,
    },
    /// One with the same id and another witness is in the pool.
    OtherWitness(Wtxid),
    /// It was refused.
    Rejected(Reject),
    /// Another's fault ended the evaluation before this one's turn.
    NotValidated,
}

/// What became of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageOutcome {
    /// Why the package as such failed, if it did.
    pub failure: Option<String>,
    /// Its transactions.
    pub txs: BTreeMap<Wtxid, PackageTx>,
    /// Who left the pool for it.
    pub replaced: BTreeSet<Txid>,
}

/// Checks what a package must be, without looking at the pool. `child_last`: it must be parents and their child.
pub fn check_package(txs: &[Arc<Transaction>], child_last: bool) -> Result<(), PackageError> {
    if txs.len() > MAX_PACKAGE_COUNT {
        return Err(PackageError::TooMany);
    }
    if txs.len() > 1 && txs.iter().map(|tx| tx.weight().to_wu()).sum::<u64>() > MAX_PACKAGE_WEIGHT {
        return Err(PackageError::TooLarge);
    }
    let ids: Vec<Txid> = txs.iter().map(|tx| tx.compute_txid()).collect();
    let mut later: BTreeSet<Txid> = ids.iter().copied().collect();
    if later.len() != ids.len() {
        return Err(PackageError::Duplicates);
    }
    let mut spent = BTreeSet::new();
    for (tx, id) in txs.iter().zip(&ids) {
        if tx.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return Err(PackageError::NotSorted);
        }
        later.remove(id);
    }
    for tx in txs {
        let mine: BTreeSet<_> = tx.input.iter().map(|input| input.previous_output).collect();
        if mine.iter().any(|outpoint| spent.contains(outpoint)) {
            return Err(PackageError::Conflict);
        }
        spent.extend(mine);
    }
    if let (true, Some((child, parents))) = (child_last && txs.len() > 1, txs.split_last()) {
        let wanted: BTreeSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
        if parents.iter().any(|parent| !wanted.contains(&parent.compute_txid())) {
            return Err(PackageError::NotChildWithParents);
        }
    }
    Ok(())
}

impl Mempool {
    /// Tries a package of parents and their child (or one transaction).
    pub fn accept_package(
        &mut self,
        chain: &ChainState,
        txs: &[Arc<Transaction>],
        now: u64,
    ) -> Result<PackageOutcome, PackageError> {
        check_package(txs, true)?;
        let mut outcome = PackageOutcome::default();
        let mut waiting: Vec<(Arc<Transaction>, Reject)> = Vec::new();
        for tx in txs {
            let wtxid = tx.compute_wtxid();
            match self.evaluate(chain, tx, now, FeeRule::Alone) {
                Ok(candidate) => {
                    let entry = &candidate.entry;
                    let effective = Some((entry.fee_sat, entry.vsize, vec![wtxid]));
                    let (vsize, fee_sat) = (entry.vsize, entry.fee_sat);
                    outcome.txs.insert(wtxid, PackageTx::Accepted { vsize, fee_sat, effective });
                    outcome.replaced.extend(self.commit(candidate).replaced);
                }
                Err(reject) if reject.kind == RejectKind::InPool => {
                    outcome.txs.insert(wtxid, self.known(tx));
                }
                Err(reject) if txs.len() > 1 && may_be_saved(&reject, &waiting) => {
                    waiting.push((tx.clone(), reject));
                }
                Err(reject) => {
                    outcome.txs.insert(wtxid, PackageTx::Rejected(reject));
                    outcome.failure = Some("transaction failed".into());
                    break;
                }
            }
        }
        if outcome.failure.is_none() && !waiting.is_empty() {
            self.accept_together(chain, &waiting, now, &mut outcome);
        } else {
            for (tx, reject) in waiting {
                outcome.txs.insert(tx.compute_wtxid(), PackageTx::Rejected(reject));
            }
        }
        for tx in txs {
            outcome.txs.entry(tx.compute_wtxid()).or_insert(PackageTx::NotValidated);
        }
        Ok(outcome)
    }

    /// What is reported of a transaction that is here already.
    fn known(&self, tx: &Transaction) -> PackageTx {
        match self.get(&tx.compute_txid()) {
            Some(entry) if entry.wtxid != tx.compute_wtxid() => PackageTx::OtherWitness(entry.wtxid),
            Some(entry) => {
                PackageTx::Accepted { vsize: entry.vsize, fee_sat: entry.fee_sat, effective: None }
            }
            None => PackageTx::NotValidated,
        }
    }

    fn accept_together(
        &mut self,
        chain: &ChainState,
        waiting: &[(Arc<Transaction>, Reject)],
        now: u64,
        outcome: &mut PackageOutcome,
    ) {
        let mut pool = self.clone();
        let mut entered: Vec<Candidate> = Vec::new();
        for (tx, _) in waiting {
            match pool.evaluate(chain, tx, now, FeeRule::Elsewhere) {
                Ok(candidate) => {
                    pool.commit(candidate.clone());
                    entered.push(candidate);
                }
                Err(reject) => {
                    outcome.txs.insert(tx.compute_wtxid(), PackageTx::Rejected(reject));
                    outcome.failure = Some("transaction failed".into());
                    for (other, reject) in waiting {
                        outcome
                            .txs
                            .entry(other.compute_wtxid())
                            .or_insert_with(|| PackageTx::Rejected(reject.clone()));
                    }
                    return;
                }
            }
        }
        match self.judge_together(&entered) {
            Ok((fee_sat, vsize)) => {
                let whose: Vec<Wtxid> = entered.iter().map(|candidate| candidate.entry.wtxid).collect();
                for candidate in &entered {
                    let effective = Some((fee_sat, vsize, whose.clone()));
                    let (vsize, fee_sat) = (candidate.entry.vsize, candidate.entry.fee_sat);
                    let accepted = PackageTx::Accepted { vsize, fee_sat, effective };
                    outcome.txs.insert(candidate.entry.wtxid, accepted);
                    outcome.replaced.extend(candidate.evicted.iter().copied());
                }
                *self = pool;
            }
            Err(reject) => {
                for candidate in &entered {
                    outcome.txs.insert(candidate.entry.wtxid, PackageTx::Rejected(reject.clone()));
                }
                // Fees are each transaction's fault; a replacement that does not pay is the package's.
                outcome.failure = Some(match reject.reason.as_str() {
                    "min relay fee not met" | "mempool min fee not met" => "transaction failed".into(),
                    _ => reject.to_string(),
                });
            }
        }
    }

    /// Do they together pay for their place, and for those they evict? Returns their fee (satoshi) and size.
    fn judge_together(&self, entered: &[Candidate]) -> Result<(u64, u64), Reject> {
        let fee_sat = entered.iter().fold(0u64, |sum, one| sum.saturating_add(one.entry.fee_sat));
        let vsize: u64 = entered.iter().map(|one| one.entry.vsize).sum();
        let wanted = fee_at(self.policy.entry_sat_kvb(), vsize);
        if fee_sat < wanted {
            let spike = self.policy.floor_sat_kvb > self.policy.min_relay_sat_kvb;
            let reason = if spike { "mempool min fee not met" } else { "min relay fee not met" };
            let reject = Reject::with(reason, format!("{fee_sat} < {wanted}"));
            return Err(reject.kind(RejectKind::Reconsiderable));
        }
        let evicted: BTreeSet<Txid> = entered.iter().flat_map(|one| one.evicted.iter().copied()).collect();
        if evicted.is_empty() {
            return Ok((fee_sat, vsize));
        }
        let fault =
            |why: &str, detail: String| Err(Reject::with(format!("package RBF failed: {why}"), detail));
        let [parent, _child] = entered else {
            return fault("package must be 1-parent-1-child", String::new());
        };
        let mine: BTreeSet<Txid> = entered.iter().map(|one| one.entry.txid).collect();
        let outside = entered.iter().flat_map(|one| self.ancestors(&one.entry.tx));
        if outside.into_iter().any(|ancestor| !mine.contains(&ancestor)) {
            return fault("new transaction cannot have mempool ancestors", String::new());
        }
        if !better_rate((fee_sat, vsize), (parent.entry.fee_sat, parent.entry.vsize)) {
            return fault("package feerate is less than or equal to parent feerate", String::new());
        }
        if let Err(reject) = self.check_pays_for("package", fee_sat, vsize, self.totals(&evicted).fee_sat) {
            return fault("insufficient anti-DoS fees", reject.detail);
        }
        let conflicts = entered.iter().flat_map(|one| &one.conflicts).filter_map(|txid| self.get(txid));
        for conflict in conflicts {
            if !better_rate((fee_sat, vsize), (conflict.fee_sat, conflict.vsize)) {
                return fault("insufficient feerate: does not improve feerate diagram", String::new());
            }
        }
        Ok((fee_sat, vsize))
    }
}

/// May the rest of the package still make this one acceptable?
fn may_be_saved(reject: &Reject, waiting: &[(Arc<Transaction>, Reject)]) -> bool {
    match reject.kind {
        RejectKind::Reconsiderable => true,
        // Its parent may be waiting for it.
        RejectKind::MissingInputs => !waiting.is_empty(),
        _ => false,
    }
}
