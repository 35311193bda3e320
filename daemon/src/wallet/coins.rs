//! Which coins there are, and which may be spent.
//!
//! In: the wallet's transactions. Out: outputs with their state, and one balance.
//! A coin may be spent when it is confirmed (and mature, when mined), or when it is change of our own: then every
//! coin that its transaction spends is ours and may be trusted as well. A stranger's unconfirmed payment is not
//! spent by itself: it could be taken back, and a channel funded from it with it.
//! Read next: `spend`.

use super::Wallet;
use bdk_wallet::chain::ChainPosition;
use bdk_wallet::LocalOutput;
use bitcoin::constants::COINBASE_MATURITY;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use chand_protocol::units::{Height, Sat};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How deep a chain of our own unconfirmed transactions may be; the network relays no deeper one.
const ANCESTORS_MAX: u32 = 25;

/// How far an output has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputStatus {
    /// In a block.
    Confirmed(Height),
    /// In no block; `trusted`: change of our own.
    Unconfirmed {
        /// May be spent already.
        trusted: bool,
    },
    /// Mined by us, and not yet 100 blocks deep.
    Immature {
        /// The first block that may spend it.
        spendable: Height,
    },
    /// Spent by a transaction that is known, confirmed or not.
    Spent,
}

/// One output of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalletOutput {
    /// Where.
    pub outpoint: OutPoint,
    /// How much.
    pub amount: Sat,
    /// Its script.
    pub script: ScriptBuf,
    /// The same, for people.
    pub address: Option<String>,
    /// How far it has come.
    pub status: OutputStatus,
    /// A transaction that is not on chain yet, and that a channel relies on, will spend it; or a user put it aside.
    pub reserved: bool,
    /// Until when, if a user did.
    pub lease: Option<Height>,
}

/// All unspent outputs, each counted once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalletBalance {
    /// Confirmed and free.
    pub confirmed: Sat,
    /// Change of our own, unconfirmed and free.
    pub change: Sat,
    /// Others' payments, unconfirmed.
    pub unconfirmed: Sat,
    /// Mined by us, too young.
    pub immature: Sat,
    /// Confirmed or change, but promised to a transaction of a channel, or put aside by a user.
    pub reserved: Sat,
}

impl WalletBalance {
    /// What a new transaction can spend.
    pub fn spendable(&self) -> Sat {
        Sat(self.confirmed.0.saturating_add(self.change.0))
    }
}

impl Wallet {
    /// Every output that ever was ours and is not undone, spent ones included.
    pub fn outputs(&self) -> Vec<WalletOutput> {
        let reserved = self.reserved_coins();
        let mut trust = Trust::of(self);
        self.inner.list_output().map(|output| self.describe(output, &reserved, &mut trust)).collect()
    }

    /// Withdrawals that are in no block yet, parents first: to be offered again. Funding transactions are not among
    /// them, for those are offered by whoever has the channel.
    pub fn unconfirmed(&self) -> Vec<Transaction> {
        let index = self.inner.spk_index();
        let ours =
            |tx: &Transaction| tx.input.iter().all(|input| index.txout(input.previous_output).is_some());
        let mut waiting: BTreeMap<Txid, Arc<Transaction>> = self
            .inner
            .transactions()
            .filter(|tx| !tx.chain_position.is_confirmed() && !self.reserved.contains_key(&tx.tx_node.txid))
            .filter(|tx| ours(&tx.tx_node.tx))
            .map(|tx| (tx.tx_node.txid, tx.tx_node.tx.clone()))
            .collect();
        let mut ordered = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let free = |tx: &Transaction| {
                tx.input.iter().all(|input| !waiting.contains_key(&input.previous_output.txid))
            };
            let next: Vec<Txid> = waiting.iter().filter(|(_, tx)| free(tx)).map(|(txid, _)| *txid).collect();
            if next.is_empty() {
                // A transaction cannot be its own ancestor.
                break;
            }
            let next = next.into_iter().filter_map(|txid| waiting.remove(&txid));
            ordered.extend(next.map(|tx| (*tx).clone()));
        }
        ordered
    }

    /// The unspent outputs, summed by what may be done with them.
    pub fn balance(&self) -> WalletBalance {
        let mut sum = WalletBalance::default();
        for output in self.outputs() {
            let term = match output.status {
                OutputStatus::Spent => continue,
                OutputStatus::Immature { .. } => &mut sum.immature,
                OutputStatus::Unconfirmed { trusted: false } => &mut sum.unconfirmed,
                _ if output.reserved => &mut sum.reserved,
                OutputStatus::Confirmed(_) => &mut sum.confirmed,
                OutputStatus::Unconfirmed { trusted: true } => &mut sum.change,
            };
            // Amounts come from a chain that has 21 million coins: the sum cannot reach the end of 64 bits.
            *term = Sat(term.0.saturating_add(output.amount.0));
        }
        sum
    }

    pub(super) fn reserved_coins(&self) -> BTreeSet<OutPoint> {
        self.reserved.values().flatten().copied().collect()
    }

    fn describe(
        &self,
        output: LocalOutput,
        reserved: &BTreeSet<OutPoint>,
        trust: &mut Trust<'_>,
    ) -> WalletOutput {
        let status = if output.is_spent {
            OutputStatus::Spent
        } else {
            match output.chain_position {
                ChainPosition::Confirmed { anchor, .. } => {
                    self.confirmed(output.outpoint.txid, Height(anchor.block_id.height))
                }
                ChainPosition::Unconfirmed { .. } => {
                    OutputStatus::Unconfirmed { trusted: trust.deserves(output.outpoint.txid, 0) }
                }
            }
        };
        let lease = self.lease_of(&output.outpoint);
        WalletOutput {
            outpoint: output.outpoint,
            amount: Sat(output.txout.value.to_sat()),
            address: self.address_text(&output.txout.script_pubkey),
            script: output.txout.script_pubkey,
            status,
            reserved: lease.is_some() || reserved.contains(&output.outpoint),
            lease,
        }
    }

    fn confirmed(&self, txid: Txid, at: Height) -> OutputStatus {
        if self.is_immature(txid, at) {
            OutputStatus::Immature { spendable: at.plus(COINBASE_MATURITY) }
        } else {
            OutputStatus::Confirmed(at)
        }
    }

    /// Whether what `txid`, in the block at this height, pays was mined too lately to be spent.
    pub(super) fn is_immature(&self, txid: Txid, at: Height) -> bool {
        let mined = self.inner.tx_graph().get_tx(txid).is_some_and(|tx| tx.is_coinbase());
        // The next block may hold what spends it.
        mined && at.plus(COINBASE_MATURITY) > self.tip().0.plus(1)
    }
}

/// Which transactions cannot be taken back by a stranger.
pub(super) struct Trust<'a> {
    wallet: &'a Wallet,
    unconfirmed: BTreeMap<Txid, Arc<Transaction>>,
    /// Confirmed ones, and what was found out about the others.
    known: BTreeMap<Txid, bool>,
}

impl<'a> Trust<'a> {
    pub(super) fn of(wallet: &'a Wallet) -> Trust<'a> {
        let mut trust = Trust { wallet, unconfirmed: BTreeMap::new(), known: BTreeMap::new() };
        for tx in wallet.inner.transactions() {
            if tx.chain_position.is_confirmed() {
                trust.known.insert(tx.tx_node.txid, true);
            } else {
                trust.unconfirmed.insert(tx.tx_node.txid, tx.tx_node.tx.clone());
            }
        }
        trust
    }

    /// True when a transaction is confirmed, or spends nothing but trusted coins of ours.
    pub(super) fn deserves(&mut self, txid: Txid, depth: u32) -> bool {
        if let Some(known) = self.known.get(&txid) {
            return *known;
        }
        let Some(tx) = self.unconfirmed.get(&txid).cloned() else { return false };
        let trusted = depth < ANCESTORS_MAX
            && tx.input.iter().all(|input| {
                let spent = input.previous_output;
                self.wallet.inner.spk_index().txout(spent).is_some() && self.deserves(spent.txid, depth + 1)
            });
        self.known.insert(txid, trusted);
        trusted
    }
}
