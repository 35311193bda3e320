//! Partially signed transactions (BIP 174): coins for one, our signatures, and the finished transaction.
//!
//! In: how much is needed, or a PSBT that others have had in their hands. Out: a PSBT, or a transaction that Bitcoin Core's
//! interpreter accepted. Of our own coins nothing in a PSBT is believed: what they hold and which key signs comes from the
//! wallet. Signed is only what is put aside, and only whole transactions (SIGHASH_ALL): a signature that leaves outputs open
//! is money for whoever comes by. Read next: `lease` (what is put aside), `spend` (how the wallet's own are built).

use super::attach::{witness_weight, INPUT_WEIGHT};
use super::spend::{verify_spend, CHANGE_WEIGHT};
use super::{OutputStatus, Reservation, Wallet, WalletError, WalletOutput, P2TR};
use bdk_wallet::miniscript::psbt::PsbtExt;
use bitcoin::psbt::{ExtractTxError, PsbtSighashType};
use bitcoin::{
    absolute, transaction, Amount, EcdsaSighashType, OutPoint, Psbt, ScriptBuf, Sequence, TapSighashType,
    Transaction, TxIn, TxOut, VarInt, Witness,
};
use chand_protocol::units::{Feerate, Sat};
use std::collections::{BTreeMap, BTreeSet};

/// What [`Wallet::fund_psbt`] is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PsbtOrder {
    /// What the inputs are to bring beyond the fee; `None`: all there is.
    pub amount: Option<Sat>,
    /// Of the whole transaction.
    pub feerate: Feerate,
    /// What it weighs without our inputs, in weight units.
    pub start_weight: u64,
    /// How deep the coins must be.
    pub min_depth: u32,
    /// Take exactly these.
    pub utxos: Option<Vec<OutPoint>>,
    /// These may be put aside already.
    pub reserved_ok: bool,
    /// Put them aside for so many blocks; 0: do not.
    pub reserve_blocks: u32,
    /// Of the transaction; `None`: the wallet's height.
    pub lock_time: Option<u32>,
    /// Each witness of ours is counted as at least so heavy.
    pub min_witness_weight: u64,
    /// What is too much comes back to us, when it is worth an output.
    pub excess_as_change: bool,
    /// What is to stay in the wallet, unless coins are named.
    pub keep: Sat,
}

/// A PSBT with coins of ours, for others to complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FundedPsbt {
    /// Unsigned.
    pub psbt: Psbt,
    /// As ordered.
    pub feerate: Feerate,
    /// With what the order said and what was added, in weight units.
    pub weight: u64,
    /// What the inputs bring beyond amount, fee and change.
    pub excess: Sat,
    /// Which output is our change.
    pub change: Option<u32>,
    /// What was put aside.
    pub reservations: Vec<Reservation>,
}

/// How a choice of coins works out.
struct Settled {
    weight: u64,
    excess: u64,
    change: Option<u64>,
}

impl Wallet {
    /// A PSBT with coins for an amount that others know how to spend, and perhaps change. What is to stay in the wallet
    /// comes back as change, whether wanted or not.
    ///
    /// # Errors
    /// [`WalletError`] in words; then nothing is put aside.
    pub fn fund_psbt(&mut self, order: &PsbtOrder) -> Result<FundedPsbt, WalletError> {
        if order.feerate < Feerate::FLOOR {
            return Err(WalletError::FeerateTooLow(order.feerate));
        }
        if order.amount.is_some_and(|amount| amount > Sat::MAX_MONEY) {
            return Err(WalletError::Refused("satoshi: more than there will ever be".into()));
        }
        let (coins, settled) = match &order.utxos {
            Some(named) => self.named_coins(order, named)?,
            None => self.chosen_coins(order)?,
        };
        let lock = order.lock_time.unwrap_or_else(|| self.tip().0 .0);
        let mut tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(lock),
            input: coins.iter().map(|coin| input(coin.outpoint)).collect(),
            output: Vec::new(),
        };
        if let Some(sat) = settled.change {
            let index = self.inner.next_derivation_index(P2TR);
            let script_pubkey = self.inner.peek_address(P2TR, index).script_pubkey();
            tx.output.push(TxOut { value: Amount::from_sat(sat), script_pubkey });
            // The iterator only yields what was revealed; the staged change is what counts.
            drop(self.inner.reveal_addresses_to(P2TR, index));
        }
        let mut psbt = Psbt::from_unsigned_tx(tx).map_err(|e| WalletError::Internal(e.to_string()))?;
        for (part, coin) in psbt.inputs.iter_mut().zip(&coins) {
            *part = self.own_part(&coin.outpoint)?;
        }
        let outpoints: Vec<OutPoint> = coins.iter().map(|coin| coin.outpoint).collect();
        let reservations = match order.reserve_blocks {
            0 => Vec::new(),
            blocks => self.reserve_inputs(&outpoints, blocks, !order.reserved_ok)?,
        };
        Ok(FundedPsbt {
            psbt,
            feerate: order.feerate,
            weight: settled.weight,
            excess: Sat(settled.excess),
            change: settled.change.map(|_| 0),
            reservations,
        })
    }

    fn named_coins(
        &self,
        order: &PsbtOrder,
        named: &[OutPoint],
    ) -> Result<(Vec<WalletOutput>, Settled), WalletError> {
        let outputs = self.outputs();
        let mut coins: Vec<WalletOutput> = Vec::new();
        for outpoint in named {
            let why = match outputs.iter().find(|o| o.outpoint == *outpoint) {
                None => "it is not the wallet's",
                Some(o) if o.status == OutputStatus::Spent => "it is spent",
                Some(o) if matches!(o.status, OutputStatus::Immature { .. }) => "it was mined too lately",
                Some(o) if o.lease.is_some() && !order.reserved_ok => {
                    "it is put aside (reservedok=true takes it all the same)"
                }
                Some(o) if o.reserved && o.lease.is_none() => "it is reserved for a transaction of a channel",
                Some(o) if self.is_replaceable(&o.outpoint.txid) => {
                    "it is change of a channel's transaction that may be replaced: wait for a block"
                }
                Some(_) if coins.iter().any(|coin| coin.outpoint == *outpoint) => "it is named twice",
                Some(o) => {
                    coins.push(o.clone());
                    continue;
                }
            };
            return Err(WalletError::Coin { outpoint: *outpoint, why });
        }
        match self.settle(order, &coins, Sat::ZERO) {
            Ok(settled) if !coins.is_empty() => Ok((coins, settled)),
            Ok(_) => Err(WalletError::Refused("utxos: name at least one coin".into())),
            Err(missing) => {
                let available = total(&coins);
                let needed = available.saturating_add(Sat(missing));
                let hint = " from the coins named: name more of them, or a smaller amount".into();
                Err(WalletError::Insufficient { needed, available, hint })
            }
        }
    }

    fn chosen_coins(&self, order: &PsbtOrder) -> Result<(Vec<WalletOutput>, Settled), WalletError> {
        let allowed: BTreeSet<OutPoint> = self.lasting_coins(order.min_depth).into_iter().collect();
        let mut pool: Vec<WalletOutput> =
            self.outputs().into_iter().filter(|o| allowed.contains(&o.outpoint)).collect();
        pool.sort_by_key(|coin| (coin.amount, coin.outpoint));
        if order.amount.is_none() {
            return match self.settle(order, &pool, order.keep) {
                Ok(settled) if !pool.is_empty() => Ok((pool, settled)),
                Ok(_) => Err(self.short(order, &pool, 1)),
                Err(missing) => Err(self.short(order, &pool, missing)),
            };
        }
        // The smallest that suffices alone; else the largest ones.
        for coin in &pool {
            if let Ok(settled) = self.settle(order, std::slice::from_ref(coin), order.keep) {
                return Ok((vec![coin.clone()], settled));
            }
        }
        let mut chosen: Vec<WalletOutput> = Vec::new();
        let mut missing = self.settle(order, &chosen, order.keep).err().unwrap_or(1);
        for coin in pool.iter().rev() {
            chosen.push(coin.clone());
            match self.settle(order, &chosen, order.keep) {
                Ok(settled) => return Ok((chosen, settled)),
                Err(short) => missing = missing.min(short),
            }
        }
        Err(self.short(order, &pool, missing))
    }

    fn short(&self, order: &PsbtOrder, pool: &[WalletOutput], missing: u64) -> WalletError {
        let available = total(pool);
        let hint = match order.keep {
            Sat::ZERO => self.besides(),
            keep => self.kept_words(keep),
        };
        WalletError::Insufficient { needed: available.saturating_add(Sat(missing)), available, hint }
    }

    /// With these coins; or how much is missing. `keep` stays in the wallet: what the other coins do not hold of it
    /// comes back as change.
    fn settle(&self, order: &PsbtOrder, coins: &[WalletOutput], keep: Sat) -> Result<Settled, u64> {
        let inputs = coins.iter().fold(0u64, |sum, coin| {
            let witness = witness_weight(&coin.script).max(order.min_witness_weight);
            sum.saturating_add(INPUT_WEIGHT).saturating_add(witness)
        });
        // The order counted one byte for the number of inputs.
        let count = 4 * (VarInt::from(coins.len()).size() as u64).saturating_sub(1);
        let weight = order.start_weight.saturating_add(inputs).saturating_add(count);
        let fee = |weight: u64| u64::from(order.feerate.0).saturating_mul(weight).div_ceil(1_000);
        let inward = total(coins).0;
        let wanted = order.amount.unwrap_or(Sat::ZERO).0.saturating_add(fee(weight));
        let excess = inward.checked_sub(wanted).ok_or_else(|| wanted.saturating_sub(inward))?;

        let outpoints: Vec<OutPoint> = coins.iter().map(|coin| coin.outpoint).collect();
        let missing_of_keep = match keep {
            Sat::ZERO => 0,
            keep => keep.saturating_sub(self.safe_except(&outpoints)).0,
        };
        let with_change = weight.saturating_add(CHANGE_WEIGHT);
        let for_change = fee(with_change).saturating_sub(fee(weight));
        // As long as any taproot script.
        let script = self.inner.peek_address(P2TR, 0).script_pubkey();
        let dust = self.smallest(&script).0;
        let room = excess.saturating_sub(for_change);
        if missing_of_keep > 0 {
            let least = missing_of_keep.max(dust);
            if room < least {
                return Err(least.saturating_add(for_change).saturating_sub(excess));
            }
            let change = if order.excess_as_change { room } else { least };
            return Ok(Settled { weight: with_change, excess: room - change, change: Some(change) });
        }
        if order.excess_as_change && room >= dust {
            return Ok(Settled { weight: with_change, excess: 0, change: Some(room) });
        }
        Ok(Settled { weight, excess, change: None })
    }

    /// What a signer needs to know of a coin of ours.
    fn own_part(&self, outpoint: &OutPoint) -> Result<bitcoin::psbt::Input, WalletError> {
        let known = self.inner.list_output().find(|o| o.outpoint == *outpoint);
        let known = known.ok_or_else(|| WalletError::Internal(format!("the coin {outpoint} is gone")))?;
        self.inner.get_psbt_input(known, None, true).map_err(|e| WalletError::Internal(e.to_string()))
    }

    /// Signs our inputs, or those of them that `only` numbers; each must be put aside.
    ///
    /// # Errors
    /// [`WalletError`] in words; then nothing is signed.
    pub fn sign_psbt(&self, psbt: &Psbt, only: Option<&[u32]>) -> Result<Psbt, WalletError> {
        check_shape(psbt)?;
        let refused = |index: usize, why: &str| WalletError::Refused(format!("psbt: input {index}: {why}"));
        let outputs: BTreeMap<OutPoint, WalletOutput> =
            self.outputs().into_iter().map(|o| (o.outpoint, o)).collect();
        let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        if let Some(far) = only.into_iter().flatten().find(|n| **n as usize >= psbt.inputs.len()) {
            return Err(WalletError::Refused(format!("signonly: there is no input {far}")));
        }
        let mut ours: Vec<usize> = Vec::new();
        for (index, (part, input)) in psbt.inputs.iter().zip(&psbt.unsigned_tx.input).enumerate() {
            let wanted = only.map(|only| only.contains(&number(index)));
            let Some(coin) = outputs.get(&input.previous_output) else {
                if wanted == Some(true) {
                    return Err(refused(index, "signonly names it, and it is not the wallet's"));
                }
                continue;
            };
            if wanted == Some(false) || is_final(part) {
                continue;
            }
            let held = TxOut { value: Amount::from_sat(coin.amount.0), script_pubkey: coin.script.clone() };
            if coin.status == OutputStatus::Spent {
                return Err(refused(index, "the coin is spent"));
            }
            if coin.lease.is_none() {
                return Err(refused(index, "the coin is not put aside: reserveinputs does that"));
            }
            if part.witness_utxo.as_ref().is_some_and(|told| *told != held) {
                let why = "what the PSBT says of the coin is not what it holds: somebody lies about the fee";
                return Err(refused(index, why));
            }
            if !part.sighash_type.is_none_or(|kind| signs_all(kind, &coin.script)) {
                return Err(refused(
                    index,
                    "a signature is wanted that leaves a part of the transaction open",
                ));
            }
            ours.push(index);
        }
        if ours.is_empty() {
            let why = "psbt: none of its inputs is the wallet's and unsigned: there is nothing to sign";
            return Err(WalletError::Refused(why.into()));
        }
        let mut work = psbt.clone();
        // Our keys sign for nothing but what was looked at above.
        for part in &mut work.inputs {
            part.bip32_derivation.clear();
            part.tap_key_origins.clear();
        }
        for index in &ours {
            let Some(outpoint) = psbt.unsigned_tx.input.get(*index).map(|i| i.previous_output) else {
                continue;
            };
            if let Some(part) = work.inputs.get_mut(*index) {
                *part = self.own_part(&outpoint)?;
            }
        }
        for (index, part) in work.inputs.iter_mut().enumerate() {
            let Some(input) = work.unsigned_tx.input.get(index) else { continue };
            part.witness_utxo = told_output(part, input.previous_output);
        }
        let taproot = |index: &usize| {
            let part = work.inputs.get(*index);
            part.and_then(|p| p.witness_utxo.as_ref()).is_some_and(|o| o.script_pubkey.is_p2tr())
        };
        if ours.iter().any(taproot) {
            if let Some(silent) = work.inputs.iter().position(|part| part.witness_utxo.is_none()) {
                let why = "what it spends (witness_utxo) is not told, and a taproot signature covers that of all inputs";
                return Err(refused(silent, why));
            }
        }
        // What could not be signed is found below.
        let _ = work.sign(&self.key, self.inner.secp_ctx());
        let mut signed = psbt.clone();
        for index in ours {
            let (Some(from), Some(to)) = (work.inputs.get(index), signed.inputs.get_mut(index)) else {
                continue;
            };
            if from.tap_key_sig.is_none() && from.partial_sigs.is_empty() {
                return Err(refused(index, "it could not be signed"));
            }
            to.witness_utxo.clone_from(&from.witness_utxo);
            to.bip32_derivation.clone_from(&from.bip32_derivation);
            to.tap_key_origins.clone_from(&from.tap_key_origins);
            to.tap_internal_key = from.tap_internal_key;
            to.tap_key_sig = from.tap_key_sig;
            to.partial_sigs.clone_from(&from.partial_sigs);
        }
        Ok(signed)
    }

    /// The finished transaction of a PSBT that all have signed, and the outputs that it spends. The interpreter accepted it,
    /// and none of our coins in it is promised to a channel or gone.
    ///
    /// # Errors
    /// [`WalletError::Refused`] in words: what is missing or wrong.
    pub fn finish_psbt(&self, psbt: &Psbt) -> Result<(Transaction, Vec<TxOut>), WalletError> {
        check_shape(psbt)?;
        let refused = |text: String| WalletError::Refused(format!("psbt: {text}"));
        let outputs: BTreeMap<OutPoint, WalletOutput> =
            self.outputs().into_iter().map(|o| (o.outpoint, o)).collect();
        let mut work = psbt.clone();
        let mut spent = Vec::with_capacity(work.inputs.len());
        for (index, part) in work.inputs.iter_mut().enumerate() {
            let Some(outpoint) = psbt.unsigned_tx.input.get(index).map(|i| i.previous_output) else {
                continue;
            };
            let output = match outputs.get(&outpoint) {
                Some(coin) => {
                    let why = match coin.status {
                        OutputStatus::Spent if !self.spends(&psbt.unsigned_tx, &outpoint) => Some("is spent"),
                        OutputStatus::Immature { .. } => Some("was mined too lately"),
                        _ if coin.reserved && coin.lease.is_none() && !self.is_reserved_for(psbt) => {
                            Some("is reserved for a transaction of a channel")
                        }
                        _ => None,
                    };
                    if let Some(why) = why {
                        return Err(refused(format!("input {index}: our coin {outpoint} {why}")));
                    }
                    Some(TxOut { value: Amount::from_sat(coin.amount.0), script_pubkey: coin.script.clone() })
                }
                None => told_output(part, outpoint),
            };
            let output = output.ok_or_else(|| {
                refused(format!("input {index}: what it spends (witness_utxo) is not told"))
            })?;
            part.witness_utxo = Some(output.clone());
            spent.push(output);
        }
        for index in 0..work.inputs.len() {
            if work.inputs.get(index).is_some_and(is_final) {
                continue;
            }
            work.finalize_inp_mut(self.inner.secp_ctx(), index)
                .map_err(|_| refused(format!("input {index} is not signed, or not completely")))?;
        }
        let inward = spent.iter().try_fold(Amount::ZERO, |sum, o| sum.checked_add(o.value));
        let outward =
            work.unsigned_tx.output.iter().try_fold(Amount::ZERO, |sum, o| sum.checked_add(o.value));
        if inward.zip(outward).is_none_or(|(inward, outward)| outward > inward) {
            return Err(refused("it pays more than its inputs hold".into()));
        }
        let tx = work.extract_tx().map_err(|error| match error {
            ExtractTxError::AbsurdFeeRate { fee_rate, .. } => {
                let rate = fee_rate.to_sat_per_vb_ceil();
                refused(format!("its fee is absurd ({rate} sat per virtual byte): is an output missing?"))
            }
            other => refused(other.to_string()),
        })?;
        verify_spend(&tx, &spent).map_err(refused)?;
        Ok((tx, spent))
    }

    /// Counts a finished transaction as published and puts our coins in it aside for so many blocks more. `relied`: a
    /// channel relies on it, so that its coins stay reserved until a block holds it.
    ///
    /// # Errors
    /// [`WalletError`] in words; then nothing changed.
    pub fn send(
        &mut self,
        tx: &Transaction,
        blocks: u32,
        relied: bool,
    ) -> Result<Vec<Reservation>, WalletError> {
        let spent: Vec<OutPoint> = tx.input.iter().map(|i| i.previous_output).collect();
        let unspent: BTreeSet<OutPoint> = self.inner.list_unspent().map(|o| o.outpoint).collect();
        let ours: Vec<OutPoint> = spent.into_iter().filter(|outpoint| unspent.contains(outpoint)).collect();
        let mut made = Vec::new();
        if relied && !ours.is_empty() {
            self.reserve_coins(tx.compute_txid(), ours);
        } else {
            let blocks = if blocks == 0 { Vec::new() } else { self.reserve_inputs(&ours, blocks, false)? };
            made.extend(blocks);
        }
        self.insert_unconfirmed(tx.clone());
        Ok(made)
    }

    /// Whether what spends the coin is this very transaction, sent before.
    fn spends(&self, tx: &Transaction, outpoint: &OutPoint) -> bool {
        let txid = tx.compute_txid();
        self.inner.tx_graph().outspends(*outpoint).iter().all(|by| *by == txid)
    }

    fn is_reserved_for(&self, psbt: &Psbt) -> bool {
        self.reserved.contains_key(&psbt.unsigned_tx.compute_txid())
    }

    /// Signs a transaction all of whose inputs are ours.
    pub(super) fn sign_own(&self, mut tx: Transaction) -> Result<Transaction, WalletError> {
        let internal = |e: String| WalletError::Internal(e);
        tx.input.iter_mut().for_each(|input| input.witness = Witness::new());
        let mut psbt = Psbt::from_unsigned_tx(tx).map_err(|e| internal(e.to_string()))?;
        let mut spent = Vec::with_capacity(psbt.inputs.len());
        for (part, input) in psbt.inputs.iter_mut().zip(&psbt.unsigned_tx.input) {
            *part = self.own_part(&input.previous_output)?;
            spent.extend(part.witness_utxo.clone());
        }
        psbt.sign(&self.key, self.inner.secp_ctx())
            .map_err(|(_, errors)| internal(format!("{} inputs could not be signed", errors.len())))?;
        psbt.finalize_mut(self.inner.secp_ctx())
            .map_err(|errors| internal(format!("{} inputs could not be completed", errors.len())))?;
        let tx = psbt.extract_tx_unchecked_fee_rate();
        verify_spend(&tx, &spent).map_err(internal)?;
        Ok(tx)
    }
}

/// An input that may be replaced.
pub(super) fn input(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    }
}

fn total(coins: &[WalletOutput]) -> Sat {
    coins.iter().fold(Sat::ZERO, |sum, coin| sum.saturating_add(coin.amount))
}

fn is_final(part: &bitcoin::psbt::Input) -> bool {
    part.final_script_witness.is_some() || part.final_script_sig.is_some()
}

/// What a PSBT says that an input spends: the output itself, or one of the transaction that made it.
fn told_output(part: &bitcoin::psbt::Input, outpoint: OutPoint) -> Option<TxOut> {
    if let Some(made_by) = &part.non_witness_utxo {
        return made_by.output.get(usize::try_from(outpoint.vout).ok()?).cloned();
    }
    part.witness_utxo.clone()
}

fn signs_all(kind: PsbtSighashType, script: &ScriptBuf) -> bool {
    if script.is_p2tr() {
        return matches!(kind.taproot_hash_ty(), Ok(TapSighashType::Default | TapSighashType::All));
    }
    matches!(kind.ecdsa_hash_ty(), Ok(EcdsaSighashType::All))
}

/// What must hold of any PSBT that comes from outside before it is looked at.
fn check_shape(psbt: &Psbt) -> Result<(), WalletError> {
    let refused = |text: String| Err(WalletError::Refused(format!("psbt: {text}")));
    let (inputs, outputs) = (&psbt.unsigned_tx.input, &psbt.unsigned_tx.output);
    if inputs.is_empty() || outputs.is_empty() {
        return refused("it has no inputs, or no outputs".into());
    }
    if psbt.inputs.len() != inputs.len() || psbt.outputs.len() != outputs.len() {
        return refused("its parts do not fit its transaction".into());
    }
    let mut seen = BTreeSet::new();
    for (index, (part, input)) in psbt.inputs.iter().zip(inputs).enumerate() {
        let outpoint = input.previous_output;
        if !seen.insert(outpoint) {
            return refused(format!("input {index} spends {outpoint} a second time"));
        }
        let Some(made_by) = &part.non_witness_utxo else { continue };
        let told = usize::try_from(outpoint.vout).ok().and_then(|vout| made_by.output.get(vout));
        if made_by.compute_txid() != outpoint.txid || told.is_none() {
            return refused(format!(
                "input {index}: non_witness_utxo is not the transaction that it spends from"
            ));
        }
        if part.witness_utxo.is_some() && part.witness_utxo.as_ref() != told {
            return refused(format!(
                "input {index}: witness_utxo and non_witness_utxo contradict each other"
            ));
        }
    }
    Ok(())
}
