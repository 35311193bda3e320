//! What a transaction would do, without doing it (`dry_run`).
//!
//! In: the wallet, and whatever would build a transaction with it. Out: inputs, outputs, fee, and what would be left. The
//! builder runs on a copy of the wallet that is thrown away: the figures are those of the very code that would spend, and
//! no address, reservation or record of it stays. Read next: `spend`, `psbt`, `bump`.

use super::{descriptors, record, reload, Wallet, WalletBalance, WalletError};
use bdk_wallet::ChangeSet;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut};
use chand_protocol::units::Sat;

/// One input of a [`Plan`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedInput {
    /// What it spends.
    pub outpoint: OutPoint,
    /// How much that is.
    pub amount: Sat,
    /// It is the wallet's.
    pub ours: bool,
}

/// One output of a [`Plan`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedOutput {
    /// How much.
    pub amount: Sat,
    /// To whom.
    pub script: ScriptBuf,
    /// The same, for people.
    pub address: Option<String>,
    /// It is the wallet's.
    pub ours: bool,
}

/// A transaction that was not made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// In its order.
    pub inputs: Vec<PlannedInput>,
    /// In its order; where no output's place matters, that may be another one when it is done.
    pub outputs: Vec<PlannedOutput>,
    /// What it pays.
    pub fee: Sat,
    /// In weight units.
    pub weight: u64,
    /// All unspent outputs of the wallet, before and after.
    pub wallet: (Sat, Sat),
    /// What of these a new transaction could spend, before and after.
    pub spendable: (Sat, Sat),
}

impl Wallet {
    /// Lets `build` make a transaction on a copy of the wallet, and tells what it would do. `build` gives it with the
    /// outputs that it spends.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn plan(
        &mut self,
        build: impl FnOnce(&mut Wallet) -> Result<Transaction, WalletError>,
        foreign: &[(OutPoint, TxOut)],
    ) -> Result<Plan, WalletError> {
        let mut copy = self.copy()?;
        let before = copy.balance();
        let tx = build(&mut copy)?;
        let mut inputs = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = input.previous_output;
            let ours =
                copy.inner.get_utxo(outpoint).is_some() || copy.inner.spk_index().txout(outpoint).is_some();
            let known = copy.inner.tx_graph().get_txout(outpoint).cloned();
            let told = foreign.iter().find(|(o, _)| *o == outpoint).map(|(_, output)| output.clone());
            let output = known.or(told).ok_or_else(|| {
                WalletError::Internal(format!("what the input {outpoint} spends is not known"))
            })?;
            inputs.push(PlannedInput { outpoint, amount: Sat(output.value.to_sat()), ours });
        }
        let output = |o: &TxOut| PlannedOutput {
            amount: Sat(o.value.to_sat()),
            address: copy.address_text(&o.script_pubkey),
            ours: copy.is_mine(&o.script_pubkey),
            script: o.script_pubkey.clone(),
        };
        let outputs: Vec<PlannedOutput> = tx.output.iter().map(output).collect();
        let inward = inputs.iter().fold(Sat::ZERO, |sum, i| sum.saturating_add(i.amount));
        let fee = outputs.iter().fold(inward, |left, o| left.saturating_sub(o.amount));
        let weight = tx.weight().to_wu();
        copy.insert_unconfirmed(tx);
        let after = copy.balance();
        Ok(Plan {
            inputs,
            outputs,
            fee,
            weight,
            wallet: (all(&before), all(&after)),
            spendable: (before.spendable(), after.spendable()),
        })
    }

    /// A second wallet that stands where this one does, and keeps nothing.
    fn copy(&mut self) -> Result<Wallet, WalletError> {
        self.absorb();
        let inner = reload(&descriptors(self.key, self.network)?, self.network, self.total.clone())?;
        Ok(Wallet {
            inner,
            key: self.key,
            network: self.network,
            total: ChangeSet::default(),
            pending: record::Change::default(),
            reserved: self.reserved.clone(),
            leases: self.leases.clone(),
            changes: 0,
            kept_back: self.kept_back,
            urgent: false,
        })
    }
}

fn all(balance: &WalletBalance) -> Sat {
    let parts = [balance.confirmed, balance.change, balance.unconfirmed, balance.immature, balance.reserved];
    parts.into_iter().fold(Sat::ZERO, Sat::saturating_add)
}
