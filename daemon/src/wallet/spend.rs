//! How a transaction is built, signed and checked.
//!
//! In: what to pay, at which feerate, from which coins. Out: a signed transaction that the consensus interpreter
//! accepted against the outputs it spends, or words that tell what is missing.
//! Every input signals replaceability (BIP 125); the lock time is the wallet's height, so that it gives nobody a
//! reason to rewrite the last block.
//! Read next: `coins`.

use super::{OutputStatus, Wallet, WalletError, P2TR};
use bdk_wallet::coin_selection::InsufficientFunds;
use bdk_wallet::error::CreateTxError;
#[allow(deprecated)]
use bdk_wallet::SignOptions;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Weight};
use chand_protocol::node::effect::{FundAmount, FundedTx};
use chand_protocol::units::{Feerate, Sat};

/// Of an output to a taproot script.
pub(super) const CHANGE_WEIGHT: u64 = 4 * (8 + 1 + 34);

/// A withdrawal that was built; it is to be published once the wallet's change is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Withdrawal {
    /// Signed.
    pub tx: Transaction,
    /// Which output pays the destination.
    pub vout: u32,
    /// What it gets.
    pub amount: Sat,
    /// Our change.
    pub change: Option<OutPoint>,
    /// What it costs.
    pub fee: Sat,
}

/// Which coins a transaction may take.
enum Coins {
    /// Confirmed ones and change of our own.
    Safe,
    /// Of at least this depth; 0: others' unconfirmed payments, too.
    Depth(u32),
    /// All of these, and no other.
    These(Vec<OutPoint>),
}

impl Wallet {
    /// Builds and signs a funding transaction and reserves its coins until it is seen in a block or
    /// [`Wallet::unreserve`]d. Once it is published, tell [`Wallet::insert_unconfirmed`], so that its change counts.
    ///
    /// # Errors
    /// [`WalletError`] in words; then nothing is reserved.
    pub fn fund(
        &mut self,
        script: ScriptBuf,
        amount: FundAmount,
        feerate: Feerate,
    ) -> Result<FundedTx, WalletError> {
        let built = self.build(script, amount, feerate, Coins::Safe)?;
        self.reserve(&built.tx);
        Ok(FundedTx { tx: built.tx, vout: built.vout })
    }

    /// What a channel could hold that takes every coin that may fund one, the fee at `feerate` taken off, and what `keep`
    /// is to stay in the wallet.
    ///
    /// # Errors
    /// [`WalletError`] in words: there is nothing, or not enough for the fee.
    pub fn most_fundable(&mut self, feerate: Feerate, keep: Sat) -> Result<Sat, WalletError> {
        let coins = self.choose(Coins::Safe)?;
        // As long as any funding output's script.
        let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
        let rate = FeeRate::from_sat_per_kwu(u64::from(feerate.0));
        Ok(self.all(&script, rate, &coins, keep)?.0)
    }

    /// Builds and signs a payment and counts it as published. `utxos`: spend exactly these, and of what is kept back, too;
    /// `minconf`: spend only coins of this depth (`None`: as a channel is funded; 0: others' unconfirmed payments, too).
    ///
    /// # Errors
    /// [`WalletError`] in words; then nothing changed.
    pub fn withdraw(
        &mut self,
        destination: ScriptBuf,
        amount: FundAmount,
        feerate: Feerate,
        utxos: Option<Vec<OutPoint>>,
        minconf: Option<u32>,
    ) -> Result<Withdrawal, WalletError> {
        let coins = match (utxos, minconf) {
            (Some(these), _) => Coins::These(these),
            (None, Some(depth)) => Coins::Depth(depth),
            (None, None) => Coins::Safe,
        };
        let built = self.build(destination, amount, feerate, coins)?;
        self.insert_unconfirmed(built.tx.clone());
        Ok(built)
    }

    fn build(
        &mut self,
        script: ScriptBuf,
        amount: FundAmount,
        feerate: Feerate,
        coins: Coins,
    ) -> Result<Withdrawal, WalletError> {
        if feerate < Feerate::FLOOR {
            return Err(WalletError::FeerateTooLow(feerate));
        }
        let coins = self.choose(coins)?;
        let keep = if coins.must_all { Sat::ZERO } else { self.kept_back };
        let rate = FeeRate::from_sat_per_kwu(u64::from(feerate.0));
        let (psbt, change) = match amount {
            FundAmount::Exact(sat) => self.pay(&script, sat, rate, &coins)?,
            FundAmount::All { at_most } => match self.all(&script, rate, &coins, keep)? {
                (all, Some(psbt)) if all <= at_most => (psbt, None),
                (all, _) => self.pay(&script, all.min(at_most), rate, &coins)?,
            },
        };
        self.leaves(keep, &psbt.unsigned_tx, change.as_ref())?;
        self.sign(psbt, &script, change.as_ref())
    }

    /// What all chosen coins can pay to `script` when `keep` is to stay in the wallet, and the transaction if nothing
    /// stays of them.
    fn all(
        &mut self,
        script: &ScriptBuf,
        rate: FeeRate,
        coins: &Chosen,
        keep: Sat,
    ) -> Result<(Sat, Option<Psbt>), WalletError> {
        let psbt = self.sweep(script, rate, coins)?;
        let sum = Sat(psbt.unsigned_tx.output.iter().map(|o| o.value.to_sat()).sum());
        let others = self.safe_except(&coins.coins);
        if keep <= others {
            return Ok((sum, Some(psbt)));
        }
        let keep_here = keep.saturating_sub(others);
        let for_change = rate.fee_wu(Weight::from_wu(CHANGE_WEIGHT)).map_or(u64::MAX, |fee| fee.to_sat());
        let least = self.smallest(script);
        let left = sum.saturating_sub(keep_here).saturating_sub(Sat(for_change));
        if left < least {
            let needed = least.saturating_add(Sat(for_change));
            let available = sum.saturating_sub(keep_here);
            return Err(WalletError::Insufficient { needed, available, hint: self.kept_words(keep) });
        }
        Ok((left, None))
    }

    /// What may be spent besides these coins.
    pub(super) fn safe_except(&self, coins: &[OutPoint]) -> Sat {
        let safe = |status| {
            matches!(status, OutputStatus::Confirmed(_) | OutputStatus::Unconfirmed { trusted: true })
        };
        let others = self.outputs().into_iter();
        let others = others.filter(|o| safe(o.status) && !o.reserved && !coins.contains(&o.outpoint));
        others.fold(Sat::ZERO, |sum, o| sum.saturating_add(o.amount))
    }

    /// Refuses a transaction that would leave less than `keep`.
    pub(super) fn leaves(
        &self,
        keep: Sat,
        tx: &Transaction,
        change: Option<&ScriptBuf>,
    ) -> Result<(), WalletError> {
        let spent: Vec<OutPoint> = tx.input.iter().map(|i| i.previous_output).collect();
        let back = tx.output.iter().find(|o| Some(&o.script_pubkey) == change);
        let back = Sat(back.map_or(0, |o| o.value.to_sat()));
        let left = self.safe_except(&spent).saturating_add(back);
        if left >= keep {
            return Ok(());
        }
        let all = self.safe_except(&[]);
        let (needed, available) = (all.saturating_sub(left), all.saturating_sub(keep));
        Err(WalletError::Insufficient { needed, available, hint: self.kept_words(keep) })
    }

    pub(super) fn kept_words(&self, keep: Sat) -> String {
        format!(
            ": {keep} stay in the wallet for the fees of channels that close on chain, as listfunds shows (withdraw takes \
             them, too, when the coins are named in utxos)"
        )
    }

    /// The coins that may be taken, and whether all of them must be.
    fn choose(&self, coins: Coins) -> Result<Chosen, WalletError> {
        let outputs = self.outputs();
        if let Coins::These(these) = coins {
            let mut chosen: Vec<OutPoint> = Vec::new();
            for outpoint in these {
                let why = match outputs.iter().find(|o| o.outpoint == outpoint) {
                    None => "it is not the wallet's",
                    Some(o) if o.status == OutputStatus::Spent => "it is spent",
                    Some(o) if matches!(o.status, OutputStatus::Immature { .. }) => "it was mined too lately",
                    Some(o) if o.lease.is_some() => {
                        "it is put aside (reserveinputs): unreserveinputs frees it"
                    }
                    Some(o) if o.reserved => "it is reserved for a transaction of a channel",
                    Some(o) if self.is_replaceable(&o.outpoint.txid) => {
                        "it is change of a channel's transaction that may be replaced: wait for a block"
                    }
                    Some(_) if chosen.contains(&outpoint) => "it is named twice",
                    Some(_) => {
                        chosen.push(outpoint);
                        continue;
                    }
                };
                return Err(WalletError::Coin { outpoint, why });
            }
            return Ok(Chosen { coins: chosen, must_all: true });
        }
        let tip = self.tip().0;
        let deep = |o: &OutputStatus| match (&coins, o) {
            (_, OutputStatus::Spent | OutputStatus::Immature { .. }) => false,
            (Coins::Depth(n), OutputStatus::Confirmed(at)) => tip.since(*at).saturating_add(1) >= *n,
            (Coins::Depth(n), OutputStatus::Unconfirmed { .. }) => *n == 0,
            (_, OutputStatus::Confirmed(_)) => true,
            (_, OutputStatus::Unconfirmed { trusted }) => *trusted,
        };
        let free = outputs.iter().filter(|o| !o.reserved && deep(&o.status));
        let lasting = free.map(|o| o.outpoint).filter(|o| !self.is_replaceable(&o.txid)).collect();
        Ok(Chosen { coins: lasting, must_all: false })
    }

    /// Coins of this depth that a user's transaction may take.
    pub(super) fn lasting_coins(&self, depth: u32) -> Vec<OutPoint> {
        self.choose(Coins::Depth(depth)).map(|chosen| chosen.coins).unwrap_or_default()
    }

    /// One output of exactly `amount`, and change when it is worth an output.
    fn pay(
        &mut self,
        script: &ScriptBuf,
        amount: Sat,
        rate: FeeRate,
        chosen: &Chosen,
    ) -> Result<(Psbt, Option<ScriptBuf>), WalletError> {
        if amount > Sat::MAX_MONEY {
            return Err(self.insufficient(amount, chosen));
        }
        // The change address is given out only when the change is.
        let index = self.inner.next_derivation_index(P2TR);
        let change = self.inner.peek_address(P2TR, index).script_pubkey();
        let others = self.others(chosen);
        let mut builder = self.inner.build_tx();
        builder
            .add_recipient(script.clone(), Amount::from_sat(amount.0))
            .drain_to(change.clone())
            .fee_rate(rate);
        let built = if chosen.must_all {
            builder.manually_selected_only();
            builder.add_utxos(&chosen.coins).map(|_| ()).map_err(|e| WalletError::Internal(e.to_string()))
        } else {
            builder.unspendable(others);
            Ok(())
        };
        built?;
        let psbt = match builder.finish() {
            Ok(psbt) => psbt,
            Err(e) => return Err(self.refusal(e, script, amount, chosen)),
        };
        if psbt.unsigned_tx.output.iter().any(|o| o.script_pubkey == change) {
            // The iterator only yields what was revealed; the staged change is what counts.
            drop(self.inner.reveal_addresses_to(P2TR, index));
            return Ok((psbt, Some(change)));
        }
        Ok((psbt, None))
    }

    /// All chosen coins into one output.
    fn sweep(&mut self, script: &ScriptBuf, rate: FeeRate, chosen: &Chosen) -> Result<Psbt, WalletError> {
        if chosen.coins.is_empty() {
            return Err(self.insufficient(self.smallest(script), chosen));
        }
        let mut builder = self.inner.build_tx();
        builder.manually_selected_only().drain_to(script.clone()).fee_rate(rate);
        let added = builder.add_utxos(&chosen.coins).map(|_| ());
        added.map_err(|e| WalletError::Internal(e.to_string()))?;
        match builder.finish() {
            Ok(psbt) => Ok(psbt),
            Err(e) => Err(self.refusal(e, script, Sat::ZERO, chosen)),
        }
    }

    fn others(&self, chosen: &Chosen) -> Vec<OutPoint> {
        self.inner.list_unspent().map(|o| o.outpoint).filter(|o| !chosen.coins.contains(o)).collect()
    }

    fn refusal(&self, e: CreateTxError, script: &ScriptBuf, amount: Sat, chosen: &Chosen) -> WalletError {
        match e {
            CreateTxError::CoinSelection(InsufficientFunds { needed, .. }) => {
                self.insufficient(Sat(needed.to_sat()), chosen)
            }
            CreateTxError::NoUtxosSelected => self.insufficient(amount, chosen),
            CreateTxError::OutputBelowDustLimit(_) => {
                WalletError::Dust { amount, least: self.smallest(script) }
            }
            other => WalletError::Internal(other.to_string()),
        }
    }

    fn insufficient(&self, needed: Sat, chosen: &Chosen) -> WalletError {
        let available = self
            .outputs()
            .iter()
            .filter(|o| chosen.coins.contains(&o.outpoint))
            .fold(Sat::ZERO, |sum, o| Sat(sum.0.saturating_add(o.amount.0)));
        if chosen.must_all {
            let hint = " from the coins named: name more of them, or a smaller amount".into();
            return WalletError::Insufficient { needed, available, hint };
        }
        WalletError::Insufficient { needed, available, hint: self.besides() }
    }

    /// The end of a refusal: what there is besides, or what to do.
    pub(super) fn besides(&self) -> String {
        let balance = self.balance();
        let mut besides = Vec::new();
        for (sat, what) in [
            (balance.unconfirmed, "unconfirmed (wait for a block)"),
            (balance.reserved, "reserved for transactions of channels, or put aside by reserveinputs"),
            (balance.immature, "mined too lately (100 blocks must follow)"),
        ] {
            if sat > Sat::ZERO {
                besides.push(format!("{sat} {what}"));
            }
        }
        if besides.is_empty() {
            ": send coins to an address from newaddr".to_string()
        } else {
            format!("; besides, {}", besides.join(", "))
        }
    }

    #[allow(deprecated)] // Only the options' name is: the keys are ours, BDK finalises.
    fn sign(
        &mut self,
        mut psbt: Psbt,
        script: &ScriptBuf,
        change: Option<&ScriptBuf>,
    ) -> Result<Withdrawal, WalletError> {
        let internal = |e: String| WalletError::Internal(e);
        psbt.sign(&self.key, self.inner.secp_ctx())
            .map_err(|(_, errors)| internal(format!("{} inputs could not be signed", errors.len())))?;
        let complete = self
            .inner
            .finalize_psbt(&mut psbt, SignOptions::default())
            .map_err(|e| internal(e.to_string()))?;
        if !complete {
            return Err(internal("not every input could be signed".into()));
        }
        let fee = Sat(psbt.fee().map_err(|e| internal(e.to_string()))?.to_sat());
        let spent: Vec<TxOut> = psbt.iter_funding_utxos().filter_map(|o| o.ok().cloned()).collect();
        let tx = psbt.extract_tx().map_err(|e| internal(e.to_string()))?;
        verify_spend(&tx, &spent).map_err(internal)?;
        let find = |wanted: &ScriptBuf| tx.output.iter().position(|o| o.script_pubkey == *wanted);
        let at = find(script).ok_or_else(|| internal("the payment is missing".into()))?;
        let (vout, amount) = (at as u32, Sat(tx.output.get(at).map_or(0, |o| o.value.to_sat())));
        let change = change.and_then(find).map(|i| OutPoint { txid: tx.compute_txid(), vout: i as u32 });
        Ok(Withdrawal { tx, vout, amount, change, fee })
    }
}

struct Chosen {
    coins: Vec<OutPoint>,
    must_all: bool,
}

/// Runs Bitcoin Core's interpreter over every input, with all the outputs that are spent (without them it would take
/// any taproot witness for good).
///
/// # Errors
/// In words: which input.
pub fn verify_spend(tx: &Transaction, spent: &[TxOut]) -> Result<(), String> {
    verify_from(0, tx, spent)
}

/// The same for the inputs from number `first` on.
pub(super) fn verify_from(first: usize, tx: &Transaction, spent: &[TxOut]) -> Result<(), String> {
    if spent.len() != tx.input.len() {
        return Err(format!("{} of {} spent outputs are known", spent.len(), tx.input.len()));
    }
    let raw = bitcoin::consensus::serialize(tx);
    let utxos: Vec<bitcoinconsensus::Utxo> = spent
        .iter()
        .map(|o| bitcoinconsensus::Utxo {
            script_pubkey: o.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: o.script_pubkey.len() as u32,
            value: o.value.to_sat() as i64,
        })
        .collect();
    let flags = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT;
    for (index, output) in spent.iter().enumerate().skip(first) {
        let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
        bitcoinconsensus::verify_with_flags(script, value, &raw, Some(&utxos), index, flags)
            .map_err(|e| format!("input {index} does not satisfy the output it spends: {e:?}"))?;
    }
    Ok(())
}
