//! One transaction's way into the pool, in the order bitcoind asks its questions.
//!
//! In: a transaction, the chain it must fit. Out: a [`Candidate`] that may be committed, or a [`Reject`].
//! Read next: `standard`, `limits`, `truc`, `replace`, `script_policy`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Transaction, TxOut, Txid};

use super::reject::{Reject, RejectKind};
use super::{fee_at, script_policy, standard, Entry, Mempool, MAX_POOL_VBYTES};
use crate::regtest::consensus::{check_transaction, is_final, ChainState, Coin, TxReject};

const MAX_SIGOP_COST: u64 = 16_000;
const BYTES_PER_SIGOP: u64 = 20;

/// Which fee rules a transaction must satisfy by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeRule {
    /// All of them.
    Alone,
    /// None: its package pays, or it comes back from a block that left the chain.
    Elsewhere,
}

/// A transaction that may enter, and who must leave for it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The entry to be.
    pub entry: Entry,
    /// The pool's transactions that spend the same coins.
    pub conflicts: BTreeSet<Txid>,
    /// Those and all that rests on them.
    pub evicted: BTreeSet<Txid>,
}

/// What entered and who left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What entered.
    pub txid: Txid,
    /// Who left.
    pub replaced: Vec<Txid>,
}

impl Mempool {
    /// Judges a transaction without letting it in.
    pub fn evaluate(
        &self,
        chain: &ChainState,
        tx: &Arc<Transaction>,
        now: u64,
        fees: FeeRule,
    ) -> Result<Candidate, Reject> {
        check_transaction(tx).map_err(|fault| Reject::new(fault.reason()))?;
        if tx.is_coinbase() {
            return Err(Reject::new("coinbase"));
        }
        standard::check_standard(tx, &self.policy)?;
        if tx.base_size() < standard::MIN_NONWITNESS_BYTES {
            return Err(Reject::new("tx-size-small"));
        }
        let tip = chain.tip();
        if !is_final(tx, tip.height.saturating_add(1), tip.median_time) {
            return Err(Reject::new("non-final"));
        }
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        self.check_new(&txid, tx)?;
        let coins = self.gather_coins(chain, tx, &txid)?;
        let (fee_sat, script_fault) = consensus_fee(chain, tx, &coins)?;
        let spent: Vec<TxOut> = coins.iter().map(|coin| coin.out.clone()).collect();
        standard::check_inputs_standard(tx, &spent)?;
        standard::check_witness_standard(tx, &spent)?;
        let sigop_cost = sigop_cost(tx, &spent)?;
        standard::check_ephemeral(tx, fee_sat, &self.policy)?;
        let weight = tx.weight().to_wu();
        let entry = Entry {
            tx: tx.clone(),
            txid,
            wtxid,
            fee_sat,
            weight,
            vsize: weight.max(sigop_cost * BYTES_PER_SIGOP).div_ceil(4),
            sigop_cost,
            time: now,
            height: tip.height,
            sequence: 0,
        };
        if fees == FeeRule::Alone {
            self.check_entry_fee(&entry)?;
        }
        let mut conflicts: BTreeSet<Txid> =
            tx.input.iter().filter_map(|input| self.spender(&input.previous_output)).collect();
        if let Some(sibling) = self.check_truc(&entry, &conflicts)? {
            conflicts.insert(sibling);
        }
        let evicted = conflicts.iter().flat_map(|conflict| self.descendants(conflict)).collect();
        let candidate = Candidate { entry, conflicts, evicted };
        self.check_limits(&candidate)?;
        self.check_ephemeral_spends(&candidate)?;
        self.check_replacement(&candidate, fees)?;
        if self.vbytes() + candidate.entry.vsize > MAX_POOL_VBYTES {
            return Err(Reject::new("mempool full"));
        }
        check_scripts(tx, &spent, script_fault)?;
        Ok(candidate)
    }

    /// Lets an evaluated transaction in. The pool must not have changed since.
    pub fn commit(&mut self, candidate: Candidate) -> Accepted {
        for txid in &candidate.evicted {
            self.remove_one(txid);
        }
        let txid = candidate.entry.txid;
        self.insert(candidate.entry);
        Accepted { txid, replaced: candidate.evicted.into_iter().collect() }
    }

    /// Judges a transaction and lets it in.
    pub fn accept(
        &mut self,
        chain: &ChainState,
        tx: &Arc<Transaction>,
        now: u64,
    ) -> Result<Accepted, Reject> {
        let candidate = self.evaluate(chain, tx, now, FeeRule::Alone)?;
        Ok(self.commit(candidate))
    }

    fn check_new(&self, txid: &Txid, tx: &Transaction) -> Result<(), Reject> {
        let Some(known) = self.get(txid) else { return Ok(()) };
        let reason = if known.wtxid == tx.compute_wtxid() {
            "txn-already-in-mempool"
        } else {
            "txn-same-nonwitness-data-in-mempool"
        };
        Err(Reject::new(reason).kind(RejectKind::InPool))
    }

    fn gather_coins(&self, chain: &ChainState, tx: &Transaction, txid: &Txid) -> Result<Vec<Coin>, Reject> {
        let mut coins = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let Some(coin) = self.coin(chain, &input.previous_output) else {
                return Err(missing(chain, tx, txid));
            };
            coins.push(coin);
        }
        Ok(coins)
    }

    pub(super) fn check_entry_fee(&self, entry: &Entry) -> Result<(), Reject> {
        let floor = fee_at(self.policy.floor_sat_kvb, entry.vsize);
        let relay = fee_at(self.policy.min_relay_sat_kvb, entry.vsize);
        let (reason, wanted) = if entry.fee_sat < floor && floor > relay {
            ("mempool min fee not met", floor)
        } else if entry.fee_sat < relay {
            ("min relay fee not met", relay)
        } else {
            return Ok(());
        };
        let detail = format!("{} < {wanted}", entry.fee_sat);
        Err(Reject::with(reason, detail).kind(RejectKind::Reconsiderable))
    }

    /// A child must spend the dusty output of each unconfirmed parent that has one.
    fn check_ephemeral_spends(&self, candidate: &Candidate) -> Result<(), Reject> {
        let tx = &candidate.entry.tx;
        for parent in self.parents(tx).iter().filter_map(|txid| self.get(txid)) {
            for (vout, output) in (0u32..).zip(&parent.tx.output) {
                let outpoint = bitcoin::OutPoint { txid: parent.txid, vout };
                if standard::is_dust(output, &self.policy)
                    && !tx.input.iter().any(|input| input.previous_output == outpoint)
                {
                    let detail = format!("tx {} did not spend parent's ephemeral dust", candidate.entry.txid);
                    return Err(Reject::with("missing-ephemeral-spends", detail));
                }
            }
        }
        Ok(())
    }
}

/// Says whether the inputs are gone because this very transaction confirmed.
fn missing(chain: &ChainState, tx: &Transaction, txid: &Txid) -> Reject {
    let outputs = (0u32..).zip(&tx.output);
    let confirmed = outputs.map(|(vout, _)| bitcoin::OutPoint { txid: *txid, vout });
    if confirmed.into_iter().any(|outpoint| chain.coin(&outpoint).is_some()) {
        return Reject::new("txn-already-known").kind(RejectKind::InChain);
    }
    Reject::new("bad-txns-inputs-missingorspent").kind(RejectKind::MissingInputs)
}

/// The fee, when consensus agrees; a script's refusal is kept for later, where bitcoind looks at scripts.
fn consensus_fee(
    chain: &ChainState,
    tx: &Transaction,
    coins: &[Coin],
) -> Result<(u64, Option<TxReject>), Reject> {
    let tip = chain.tip();
    match chain.check_tx_inputs(tx, coins, tip.height.saturating_add(1), tip.median_time) {
        Ok(fee) => Ok((fee.to_sat(), None)),
        Err(fault @ TxReject::Script(_)) => {
            let sum = |values: &mut dyn Iterator<Item = u64>| values.fold(0u64, u64::saturating_add);
            let paid = sum(&mut coins.iter().map(|coin| coin.out.value.to_sat()));
            let taken = sum(&mut tx.output.iter().map(|output| output.value.to_sat()));
            Ok((paid.saturating_sub(taken), Some(fault)))
        }
        Err(TxReject::MissingInputs) => {
            Err(Reject::new(TxReject::MissingInputs.reason()).kind(RejectKind::MissingInputs))
        }
        Err(other) => Err(Reject::new(other.reason())),
    }
}

fn sigop_cost(tx: &Transaction, spent: &[TxOut]) -> Result<u64, Reject> {
    let by_outpoint: std::collections::BTreeMap<_, _> =
        tx.input.iter().map(|input| input.previous_output).zip(spent).collect();
    let cost = tx.total_sigop_cost(|outpoint| by_outpoint.get(outpoint).map(|out| (*out).clone()));
    let cost = u64::try_from(cost).unwrap_or(u64::MAX);
    if cost > MAX_SIGOP_COST {
        return Err(Reject::with("bad-txns-too-many-sigops", cost.to_string()));
    }
    Ok(cost)
}

fn check_scripts(tx: &Transaction, spent: &[TxOut], consensus: Option<TxReject>) -> Result<(), Reject> {
    let policy = spent.iter().enumerate().find_map(|(index, output)| {
        script_policy::check_input(tx, index, output).err().map(|fault| (index, fault))
    });
    let (word, index, fault) = match (consensus, policy) {
        (None, None) => return Ok(()),
        (None, Some((index, fault))) => ("mempool", index, fault),
        (Some(TxReject::Script(refused)), found) => {
            let index = refused.input;
            let fault = match found {
                Some((at, fault)) if at == index => fault,
                _ => match spent.get(index) {
                    Some(output) if script_policy::is_taproot_key_spend(tx, index, output) => {
                        "Invalid Schnorr signature"
                    }
                    _ => "unknown error",
                },
            };
            ("mandatory", index, fault)
        }
        (Some(other), _) => return Err(Reject::new(other.reason())),
    };
    let reason = format!("{word}-script-verify-flag-failed ({fault})");
    let at = tx.input.get(index).map(|input| input.previous_output.to_string()).unwrap_or_default();
    Err(Reject::with(reason, format!("input {index} of {}, spending {at}", tx.compute_txid())))
}
