//! Unspent coins, and changes to them that can be dropped or taken back.
//!
//! In: transactions of a block. Out: the coins they spend, and the set after it. A block is tried in a [`View`] over
//! the set, so a refused block leaves no trace; an applied one is reverted with the coins it spent.
//! Read next: `connect`.

use super::params::MAX_SCRIPT_BYTES;
use bitcoin::{Block, OutPoint, Script, Transaction, TxOut, Txid};
use std::collections::BTreeMap;

/// An unspent output of the confirmed chain (or, built by the mempool, one of its own).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// Value and script.
    pub out: TxOut,
    /// Height of the block that made it; for a mempool coin, the tip's height + 1.
    pub height: u32,
    /// Made by a coinbase.
    pub coinbase: bool,
}

/// The unspent coins of the active chain.
pub(super) type Coins = BTreeMap<OutPoint, Coin>;

/// What a block does to the set: a coin to add, or `None` for one to remove.
pub(super) type Changes = BTreeMap<OutPoint, Option<Coin>>;

/// The coins as they would be after some transactions.
pub(super) struct View<'a> {
    base: &'a Coins,
    changes: Changes,
}

impl<'a> View<'a> {
    /// No changes yet.
    pub(super) fn over(base: &'a Coins) -> Self {
        Self { base, changes: Changes::new() }
    }

    /// Takes the coin away, if it is there.
    pub(super) fn spend(&mut self, outpoint: &OutPoint) -> Option<Coin> {
        let coin = match self.changes.get_mut(outpoint) {
            Some(change) => return change.take(),
            None => self.base.get(outpoint)?.clone(),
        };
        self.changes.insert(*outpoint, None);
        Some(coin)
    }

    /// Takes the coins of all inputs; `None` if one is missing.
    pub(super) fn spend_inputs(&mut self, tx: &Transaction) -> Option<Vec<Coin>> {
        tx.input.iter().map(|input| self.spend(&input.previous_output)).collect()
    }

    /// Adds a transaction's outputs, but for those that can never be spent.
    pub(super) fn add_outputs(&mut self, tx: &Transaction, txid: Txid, height: u32) {
        let coinbase = tx.is_coinbase();
        for (vout, out) in (0u32..).zip(&tx.output) {
            if !is_unspendable(&out.script_pubkey) {
                let coin = Coin { out: out.clone(), height, coinbase };
                self.changes.insert(OutPoint { txid, vout }, Some(coin));
            }
        }
    }

    /// Whether the set below still holds an output of this transaction (BIP 30).
    pub(super) fn overwrites(&self, tx: &Transaction, txid: Txid) -> bool {
        (0u32..).zip(&tx.output).any(|(vout, _)| self.base.contains_key(&OutPoint { txid, vout }))
    }

    /// The changes, to be applied to the set below.
    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }
}

/// Carries a block's changes out.
pub(super) fn apply(coins: &mut Coins, changes: Changes) {
    for (outpoint, change) in changes {
        match change {
            Some(coin) => coins.insert(outpoint, coin),
            None => coins.remove(&outpoint),
        };
    }
}

/// Takes a block's changes back. `spent` are the coins it spent, in order of its inputs, coinbase left out.
pub(super) fn revert(coins: &mut Coins, block: &Block, txids: &[Txid], mut spent: Vec<Coin>) {
    for (tx, txid) in block.txdata.iter().zip(txids).rev() {
        for (vout, _) in (0u32..).zip(&tx.output) {
            coins.remove(&OutPoint { txid: *txid, vout });
        }
        if tx.is_coinbase() {
            continue;
        }
        for input in tx.input.iter().rev() {
            if let Some(coin) = spent.pop() {
                coins.insert(input.previous_output, coin);
            }
        }
    }
}

/// An output that no script can spend, and that the set therefore leaves out.
fn is_unspendable(script: &Script) -> bool {
    script.is_op_return() || script.len() > MAX_SCRIPT_BYTES
}
