//! A fee raised after the fact: a replacement of our own withdrawal, or a child that carries a transaction.
//!
//! In: a transaction that is in no block, and the feerate that it shall have. Out: what takes its place (BIP 125), when all of
//! it is ours and nobody relies on its id; else a child that spends an output of ours in it and pays for both. A
//! replacement pays everybody what the one before paid: the fee comes from our change, then from further coins.
//! The funding of a channel is never replaced: the channel's money would lie under an id that no commitment knows.
//! Read next: `psbt`, `attach` (which raises what closed channels need by itself).

use super::attach::{witness_weight, INPUT_WEIGHT};
use super::psbt::input;
use super::spend::CHANGE_WEIGHT;
use super::{OutputStatus, Wallet, WalletError, WalletOutput, Withdrawal, P2TR};
use bdk_wallet::chain::ChainPosition;
use bitcoin::{absolute, transaction, Amount, OutPoint, Transaction, TxOut, Txid};
use chand_protocol::units::{Feerate, Sat};
use std::collections::BTreeSet;

/// What relay asks for a replacement on top of what it replaces, in sat per virtual byte.
const INCREMENT_SAT_PER_VBYTE: u64 = 1;
/// Of a child without its inputs and outputs: version, lock time, both counts, and the mark of a witness.
const CORE_WEIGHT: u64 = 4 * (4 + 4 + 1 + 1) + 2;

/// What [`Wallet::bump`] is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BumpOrder {
    /// Which transaction.
    pub txid: Txid,
    /// What it, or it with its child, is to pay.
    pub feerate: Feerate,
    /// It may be replaced; else only a child will do.
    pub replace: bool,
    /// The transaction with its fee, as the chain backend has it: for a payment that the wallet has not seen.
    pub seen: Option<(Transaction, Option<Sat>)>,
}

impl Wallet {
    /// Builds and signs a replacement or a child and counts it as published.
    ///
    /// # Errors
    /// [`WalletError`] in words; then nothing changed.
    pub fn bump(&mut self, order: &BumpOrder) -> Result<Withdrawal, WalletError> {
        let refused = |text: &str| Err(WalletError::Refused(format!("txid: {text}")));
        if order.feerate < Feerate::FLOOR {
            return Err(WalletError::FeerateTooLow(order.feerate));
        }
        let known = self.inner.get_tx(order.txid).map(|tx| tx.chain_position.is_confirmed());
        let tx = match (known, &order.seen) {
            (Some(true), _) => return refused("it is in a block: there is nothing to hurry"),
            (Some(false), _) => self.inner.tx_graph().get_tx(order.txid).map(|tx| (*tx).clone()),
            (None, Some((tx, _))) if tx.compute_txid() == order.txid => Some(tx.clone()),
            (None, _) => None,
        };
        let Some(tx) = tx else {
            return refused("no such transaction is known here or to the chain backend's mempool");
        };
        if self.is_replaceable(&order.txid) {
            return refused("it is a closed channel's: this node raises its fee by itself");
        }
        if order.replace && known.is_some() && self.is_our_own(&tx) {
            return self.replace(&tx, order.feerate);
        }
        self.carry(&tx, order)
    }

    /// All inputs are ours, and no channel relies on it.
    fn is_our_own(&self, tx: &Transaction) -> bool {
        let ours = tx.input.iter().all(|i| self.inner.spk_index().txout(i.previous_output).is_some());
        ours && !self.reserved.contains_key(&tx.compute_txid())
    }

    /// Whether something that is known spends an output of it.
    fn is_spent_from(&self, txid: Txid) -> Option<Txid> {
        let canonical: BTreeSet<Txid> = self.inner.transactions().map(|tx| tx.tx_node.txid).collect();
        let spenders = self.inner.tx_graph().tx_spends(txid).flat_map(|(_, by)| by).copied();
        spenders.into_iter().find(|by| canonical.contains(by))
    }

    fn replace(&mut self, old: &Transaction, rate: Feerate) -> Result<Withdrawal, WalletError> {
        let old_txid = old.compute_txid();
        if let Some(child) = self.is_spent_from(old_txid) {
            let text = format!(
                "txid: {child} spends from it and would be lost with it: bump that one, it pays for both"
            );
            return Err(WalletError::Refused(text));
        }
        let paid = self.fee_of(old)?;
        let mut tx = old.clone();
        // Ours, if any: the fee comes from there.
        let change = (0..old.output.len())
            .filter(|at| old.output.get(*at).is_some_and(|o| self.is_mine(&o.script_pubkey)))
            .max_by_key(|at| old.output.get(*at).map(|o| o.value));
        let needed = |weight: u64| {
            let vbytes = weight.div_ceil(4);
            let relay = paid.saturating_add(vbytes.saturating_mul(INCREMENT_SAT_PER_VBYTE));
            let same = paid.saturating_mul(vbytes) / old.weight().to_wu().div_ceil(4).max(1);
            fee_at(rate, weight).max(relay).max(same.saturating_add(1))
        };
        let at_least = fee_at(rate, old.weight().to_wu());
        if at_least <= paid {
            let text = format!("feerate: it pays {} already, which is no less than {rate}", Sat(paid));
            return Err(WalletError::Refused(text));
        }
        let mut weight = old.weight().to_wu();
        let mut pool = self.spare();
        let mut back =
            change.and_then(|at| old.output.get(at)).map_or(0, |o| o.value.to_sat()).saturating_add(paid);
        let script = match change.and_then(|at| old.output.get(at)) {
            Some(o) => o.script_pubkey.clone(),
            None => {
                weight = weight.saturating_add(CHANGE_WEIGHT);
                let index = self.inner.next_derivation_index(P2TR);
                self.inner.peek_address(P2TR, index).script_pubkey()
            }
        };
        let dust = self.smallest(&script).0;
        loop {
            if let Some(left) = back.checked_sub(needed(weight)).filter(|left| *left >= dust) {
                let output = TxOut { value: Amount::from_sat(left), script_pubkey: script.clone() };
                match change.and_then(|at| tx.output.get_mut(at)) {
                    Some(old_change) => *old_change = output,
                    None => {
                        tx.output.push(output);
                        let index = self.inner.next_derivation_index(P2TR);
                        // The iterator only yields what was revealed; the staged change is what counts.
                        drop(self.inner.reveal_addresses_to(P2TR, index));
                    }
                }
                break;
            }
            let without = weight.saturating_sub(CHANGE_WEIGHT);
            let enough = back >= needed(without) && old.output.len() > usize::from(change.is_some());
            if enough {
                // What is left is not worth an output.
                change.map(|at| tx.output.remove(at));
                break;
            }
            let Some(coin) = pool.pop() else {
                let available = Sat(back);
                let needed = Sat(needed(without)).saturating_add(Sat(dust));
                let hint = format!(
                    ": the fee may only come from our change and from further confirmed coins{}",
                    self.besides()
                );
                return Err(WalletError::Insufficient { needed, available, hint });
            };
            back = back.saturating_add(coin.amount.0);
            weight = weight.saturating_add(INPUT_WEIGHT).saturating_add(witness_weight(&coin.script));
            tx.input.push(input(coin.outpoint));
        }
        tx.input.iter_mut().for_each(|i| i.sequence = bitcoin::Sequence::ENABLE_RBF_NO_LOCKTIME);
        let tx = self.sign_own(tx)?;
        self.forget_unconfirmed(old_txid);
        if tx.input.len() > old.input.len() {
            if let Err(error) = self.leaves(self.kept_back, &tx, Some(&script)) {
                self.insert_unconfirmed(old.clone());
                return Err(error);
            }
        }
        self.done(tx, &script)
    }

    fn carry(&mut self, parent: &Transaction, order: &BumpOrder) -> Result<Withdrawal, WalletError> {
        let txid = parent.compute_txid();
        let told = order.seen.as_ref().filter(|(tx, _)| tx.compute_txid() == txid).and_then(|(_, fee)| *fee);
        let weight = parent.weight().to_wu();
        // Of a stranger's the fee may not be known; it pays at least what relays.
        let paid = self
            .fee_of(parent)
            .ok()
            .or(told.map(|fee| fee.0))
            .unwrap_or_else(|| fee_at(Feerate::FLOOR, weight));
        if fee_at(order.feerate, weight) <= paid {
            let text =
                format!("feerate: it pays {} already, which is no less than {}", Sat(paid), order.feerate);
            return Err(WalletError::Refused(text));
        }
        let new = self.inner.get_tx(txid).is_none();
        if new {
            self.insert_unconfirmed(parent.clone());
        }
        let carried = self.carrier(parent, order.feerate, paid, weight);
        if carried.is_err() && new {
            self.forget_unconfirmed(txid);
        }
        carried
    }

    fn carrier(
        &mut self,
        parent: &Transaction,
        rate: Feerate,
        paid: u64,
        parent_weight: u64,
    ) -> Result<Withdrawal, WalletError> {
        let txid = parent.compute_txid();
        let outputs = self.outputs();
        let free = |o: &&WalletOutput| {
            o.outpoint.txid == txid && o.lease.is_none() && !o.reserved && o.status != OutputStatus::Spent
        };
        let Some(coin) = outputs.iter().filter(free).max_by_key(|o| o.amount) else {
            let text = "txid: no output of it is ours and unspent, so that no child can pay for it";
            return Err(WalletError::Refused(text.into()));
        };
        let index = self.inner.next_derivation_index(P2TR);
        let script = self.inner.peek_address(P2TR, index).script_pubkey();
        let dust = self.smallest(&script).0;
        let mut weight = CORE_WEIGHT
            .saturating_add(CHANGE_WEIGHT)
            .saturating_add(INPUT_WEIGHT)
            .saturating_add(witness_weight(&coin.script));
        let (mut inputs, mut inward) = (vec![coin.outpoint], coin.amount.0);
        let mut pool = self.spare();
        let left = loop {
            // A mempool rounds each transaction of a package up to whole virtual bytes.
            let both = parent_weight.div_ceil(4).saturating_add(weight.div_ceil(4)).saturating_mul(4);
            let fee = fee_at(rate, both).saturating_sub(paid).max(fee_at(Feerate::FLOOR, weight));
            if let Some(left) = inward.checked_sub(fee).filter(|left| *left >= dust) {
                break left;
            }
            let Some(more) = pool.pop() else {
                let (needed, available) = (Sat(fee.saturating_add(dust)), Sat(inward));
                return Err(WalletError::Insufficient { needed, available, hint: self.besides() });
            };
            inward = inward.saturating_add(more.amount.0);
            weight = weight.saturating_add(INPUT_WEIGHT).saturating_add(witness_weight(&more.script));
            inputs.push(more.outpoint);
        };
        let child = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(self.tip().0 .0),
            input: inputs.into_iter().map(input).collect(),
            output: vec![TxOut { value: Amount::from_sat(left), script_pubkey: script.clone() }],
        };
        let child = self.sign_own(child)?;
        // The iterator only yields what was revealed; the staged change is what counts.
        drop(self.inner.reveal_addresses_to(P2TR, index));
        self.done(child, &script)
    }

    fn done(&mut self, tx: Transaction, change: &bitcoin::ScriptBuf) -> Result<Withdrawal, WalletError> {
        let fee = Sat(self.fee_of(&tx)?);
        let at = tx.output.iter().position(|o| o.script_pubkey == *change);
        let at = at.and_then(|at| u32::try_from(at).ok());
        let change = at.map(|vout| OutPoint { txid: tx.compute_txid(), vout });
        self.insert_unconfirmed(tx.clone());
        Ok(Withdrawal { tx, vout: 0, amount: Sat::ZERO, change, fee })
    }

    fn fee_of(&self, tx: &Transaction) -> Result<u64, WalletError> {
        let known = self.inner.calculate_fee(tx).map(Amount::to_sat);
        known.map_err(|_| WalletError::Internal(format!("what {} paid is not known", tx.compute_txid())))
    }

    /// Confirmed coins that may be added, the largest last: a replacement must not add unconfirmed ones.
    fn spare(&self) -> Vec<WalletOutput> {
        let confirmed: BTreeSet<OutPoint> = self
            .inner
            .list_unspent()
            .filter(|o| matches!(o.chain_position, ChainPosition::Confirmed { .. }))
            .map(|o| o.outpoint)
            .collect();
        let lasting: BTreeSet<OutPoint> = self.lasting_coins(1).into_iter().collect();
        let mut spare = self.outputs();
        spare.retain(|o| lasting.contains(&o.outpoint) && confirmed.contains(&o.outpoint));
        spare.sort_by_key(|o| (o.amount, o.outpoint));
        spare
    }
}

fn fee_at(rate: Feerate, weight: u64) -> u64 {
    u64::from(rate.0).saturating_mul(weight).div_ceil(1_000)
}
