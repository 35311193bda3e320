//! Coins for a transaction that cannot pay its own fee.
//!
//! In: an [`AttachOrder`]: inputs and outputs of a closed channel, with a feerate. Out: the same transaction with coins
//! and change after them, our inputs signed and the order's not; its coins are reserved until a block holds them.
//! The order's inputs may carry a signature for "this input and the output beside it" (SINGLE, ANYONECANPAY), so nothing
//! of the order moves. Few coins are taken: the smallest that suffices, else the largest and then the smallest, and change
//! only if it is worth an output.
//! A later version pays for the relay of both (BIP 125), and what only the earlier one spent stays set aside, as either
//! may be mined. For the same reason nothing else spends the change of such a transaction before a block holds it.
//! Read next: `spend`, `coins`.

use super::coins::Trust;
use super::spend::verify_from;
use super::{OutputStatus, Wallet, WalletError, WalletOutput, P2TR};
use bdk_wallet::chain::ChainPosition;
use bdk_wallet::LocalOutput;
use bitcoin::transaction::InputWeightPrediction;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, VarInt, Witness};
use chand_protocol::node::effect::AttachOrder;
use chand_protocol::units::{Feerate, Height, Sat};
use std::collections::{BTreeMap, BTreeSet};

/// How many coins one transaction takes at most: it must stay small enough to be worth its fee.
const MAX_COINS: usize = 20;
/// What relay asks for a replacement on top of what it replaces, in sat per virtual byte.
const INCREMENT_SAT_PER_VBYTE: u64 = 1;
/// Base weight of an input without a script: outpoint, length of the script, sequence.
pub(super) const INPUT_WEIGHT: u64 = 4 * (36 + 1 + 4);

/// What the witness of one of our own coins weighs at most.
pub(super) fn witness_weight(script: &ScriptBuf) -> u64 {
    let form = if script.is_p2tr() {
        InputWeightPrediction::P2TR_KEY_DEFAULT_SIGHASH
    } else {
        InputWeightPrediction::P2WPKH_MAX
    };
    // The prediction counts the script's length, too.
    form.weight().to_wu().saturating_sub(4)
}

/// One coin that may be taken.
#[derive(Clone)]
struct Coin {
    output: LocalOutput,
    sat: u64,
    /// Of a whole input, in weight units; of the largest signature.
    weight: u64,
}

impl Coin {
    fn new(output: LocalOutput) -> Coin {
        let weight = INPUT_WEIGHT.saturating_add(witness_weight(&output.txout.script_pubkey));
        Coin { sat: output.txout.value.to_sat(), output, weight }
    }
}

/// What the version before paid, and its size.
#[derive(Clone, Copy)]
struct Before {
    fee: u64,
    vbytes: u64,
}

/// An order with all that its fee depends on.
struct Plan<'a> {
    order: &'a AttachOrder,
    before: Option<Before>,
    /// What the order's inputs bring, and what its outputs take.
    inward: u64,
    outward: u64,
    change: ScriptBuf,
}

/// Why a choice of coins does not do.
enum Short {
    /// So much is missing.
    Of(u64),
    /// The fee that relay asks for is above the most.
    Dear(Sat),
}

impl Plan<'_> {
    /// Of the finished transaction, in weight units; at most a few too many.
    fn weight(&self, coins: &[Coin], change: bool) -> u64 {
        let tx = &self.order.tx;
        let count = |n: usize| VarInt::from(n).size() as u64;
        let (inputs, outputs) = (tx.input.len(), tx.output.len());
        let counts_then = count(inputs) + count(outputs);
        let counts_now = count(inputs + coins.len()) + count(outputs + usize::from(change));
        let change_bytes = if change { 8 + 1 + self.change.len() as u64 } else { 0 };
        let base = (tx.base_size() as u64).saturating_sub(counts_then) + counts_now + change_bytes;
        // Two bytes say that there are witnesses.
        4 * base + 2 + self.order.witness_weight + coins.iter().map(|c| c.weight).sum::<u64>()
    }

    /// What a transaction of this weight is to pay.
    fn fee(&self, weight: u64) -> Result<u64, Short> {
        let order = self.order;
        let vbytes = weight.div_ceil(4);
        let at = |rate: Feerate, weight: u64| u64::from(rate.0).saturating_mul(weight).div_ceil(1_000);
        let mut least = at(Feerate::FLOOR, vbytes.saturating_mul(4));
        if let Some(before) = self.before {
            // More than before, by relay's increment, and more for each byte.
            let relay = before.fee.saturating_add(vbytes.saturating_mul(INCREMENT_SAT_PER_VBYTE));
            let same_rate = before.fee.saturating_mul(vbytes) / before.vbytes.max(1);
            least = least.max(relay).max(same_rate.saturating_add(1));
        }
        if least > order.most.0 {
            return Err(Short::Dear(Sat(least)));
        }
        let (parent_weight, parent_fee) = order.parent.unwrap_or((0, Sat::ZERO));
        // A mempool rounds each transaction of a package up to whole virtual bytes.
        let both = vbytes.saturating_add(parent_weight.div_ceil(4)).saturating_mul(4);
        let wanted = at(order.feerate, both).saturating_sub(parent_fee.0);
        match order.parent {
            // A part of what a whole package wants may do.
            Some(_) => Ok(wanted.min(order.most.0).max(least)),
            None if wanted <= order.most.0 => Ok(wanted.max(least)),
            // Late, perhaps, and something is left of it.
            None => {
                let half = (order.most.0 / 2).max(least);
                let will_do = half >= at(order.lowest, both) && half <= order.most.0;
                will_do.then_some(half).ok_or(Short::Dear(Sat(wanted)))
            }
        }
    }

    /// With these coins: the change, or `None` when all that is left goes to the fee.
    fn settle(&self, coins: &[Coin]) -> Result<Option<Sat>, Short> {
        let inward = coins.iter().fold(self.inward, |sum, c| sum.saturating_add(c.sat));
        let dust = self.change.minimal_non_dust().to_sat();
        let with_change = self.fee(self.weight(coins, true)).map(|fee| self.outward.saturating_add(fee));
        let short_of_change = match with_change {
            Ok(taken) => match inward.checked_sub(taken).filter(|change| *change >= dust) {
                Some(change) => return Ok(Some(Sat(change))),
                None => Short::Of(taken.saturating_add(dust).saturating_sub(inward)),
            },
            Err(dear) => dear,
        };
        if self.order.tx.output.is_empty() {
            return Err(short_of_change);
        }
        let without = self.outward.saturating_add(self.fee(self.weight(coins, false))?);
        match inward.checked_sub(without) {
            None => Err(Short::Of(without.saturating_sub(inward))),
            Some(_) if inward.saturating_sub(self.outward) <= self.order.most.0 => Ok(None),
            // Too little for an output and too much for the fee.
            Some(_) => Err(short_of_change),
        }
    }

    /// Picks from `pool`.
    fn pick(&self, mut pool: Vec<Coin>) -> Result<(Vec<Coin>, Option<Sat>), Short> {
        pool.sort_by_key(|coin| (coin.sat, coin.output.outpoint));
        let mut chosen: Vec<Coin> = Vec::new();
        let mut short = match self.settle(&chosen) {
            Ok(change) => return Ok((chosen, change)),
            Err(short) => short,
        };
        while chosen.len() < MAX_COINS {
            for coin in &pool {
                chosen.push(coin.clone());
                if let Ok(change) = self.settle(&chosen) {
                    return Ok((chosen, change));
                }
                chosen.pop();
            }
            let Some(largest) = pool.pop() else { break };
            chosen.push(largest);
            match self.settle(&chosen) {
                // It was tried already, and did not do.
                Ok(_) => break,
                Err(now) => short = now,
            }
        }
        Err(short)
    }
}

impl Wallet {
    /// Adds coins and change to a transaction, so that it pays what the order asks and never above its `most`, and signs
    /// for them. Its coins are reserved until a block spends one of them or [`Wallet::unreserve`]; the reservations of
    /// its earlier versions (those that spend an input of the order, and `replaces`, which must be fully signed) end.
    ///
    /// # Errors
    /// [`WalletError`] in words; then no coin is reserved.
    pub fn attach(&mut self, order: &AttachOrder) -> Result<Transaction, WalletError> {
        if order.spent.len() != order.tx.input.len() {
            return Err(WalletError::Internal("not one spent output for each input of the order".into()));
        }
        // So that the fee of this version is known when the next one replaces it, also after a restart.
        for (input, output) in order.tx.input.iter().zip(&order.spent) {
            self.inner.insert_txout(input.previous_output, output.clone());
        }
        let versions = self.versions(order);
        let (change, index) = self.change_for(order);
        let sum = |outputs: &[TxOut]| {
            outputs.iter().fold(0u64, |sum, output| sum.saturating_add(output.value.to_sat()))
        };
        let plan = Plan {
            order,
            before: order.replaces.as_ref().map(|tx| self.before(tx)).transpose()?,
            inward: sum(&order.spent),
            outward: sum(&order.tx.output),
            change,
        };
        let (settled, unsure) = self.candidates(order, &versions);
        let picked = match plan.pick(settled.clone()) {
            Err(Short::Of(_)) if !unsure.is_empty() => {
                plan.pick(settled.iter().cloned().chain(unsure.iter().cloned()).collect())
            }
            picked => picked,
        };
        let (coins, left) = picked.map_err(|short| match short {
            Short::Of(missing) => self.too_few(missing, settled.iter().chain(&unsure)),
            Short::Dear(least) => WalletError::TooDear { least, most: order.most },
        })?;
        let tx = self.complete(&plan, &coins, left)?;
        if let (Some(_), Some(index)) = (left, index) {
            // The iterator only yields what was revealed; the staged change is what counts.
            drop(self.inner.reveal_addresses_to(P2TR, index));
        }
        self.set_aside(&tx, &versions);
        Ok(tx)
    }

    /// How many more transactions it has a coin for: confirmed, free, and worth so much.
    pub fn spare_coins(&self, worth: Sat) -> u32 {
        let spare = |o: &WalletOutput| {
            matches!(o.status, OutputStatus::Confirmed(_)) && !o.reserved && o.amount >= worth
        };
        u32::try_from(self.outputs().iter().filter(|o| spare(o)).count()).unwrap_or(u32::MAX)
    }

    /// Transactions that this one cannot stand beside: what it replaces, and what spends an input of the order.
    fn versions(&self, order: &AttachOrder) -> BTreeSet<Txid> {
        let wanted: BTreeSet<OutPoint> = order.tx.input.iter().map(|i| i.previous_output).collect();
        let reserved = self.reserved.iter().filter(|(_, coins)| coins.iter().any(|c| wanted.contains(c)));
        let seen = wanted.iter().flat_map(|outpoint| self.inner.tx_graph().outspends(*outpoint));
        let replaced = order.replaces.as_ref().map(Transaction::compute_txid);
        reserved.map(|(txid, _)| *txid).chain(seen.copied()).chain(replaced).collect()
    }

    /// Where the change goes: where that of the version before went, else to a new address, with its number.
    fn change_for(&self, order: &AttachOrder) -> (ScriptBuf, Option<u32>) {
        let last = order.replaces.as_ref().and_then(|tx| tx.output.last()).map(|o| &o.script_pubkey);
        let own = |script: &&ScriptBuf| {
            script.is_p2tr()
                && self.is_mine(script)
                && order.tx.output.iter().all(|o| o.script_pubkey != **script)
        };
        match last.filter(own) {
            Some(script) => (script.clone(), None),
            None => {
                let index = self.inner.next_derivation_index(P2TR);
                (self.inner.peek_address(P2TR, index).script_pubkey(), Some(index))
            }
        }
    }

    fn before(&self, tx: &Transaction) -> Result<Before, WalletError> {
        let fee = self.inner.calculate_fee(tx).map_err(|_| {
            WalletError::Internal(format!("what transaction {} paid is not known", tx.compute_txid()))
        })?;
        Ok(Before { fee: fee.to_sat(), vbytes: tx.weight().to_wu().div_ceil(4) })
    }

    /// Coins that may be taken: confirmed ones, and change of our own that no block holds yet.
    fn candidates(&self, order: &AttachOrder, versions: &BTreeSet<Txid>) -> (Vec<Coin>, Vec<Coin>) {
        let elsewhere = self.reserved.iter().filter(|(txid, _)| !versions.contains(*txid));
        let mut taken: BTreeSet<OutPoint> = elsewhere.flat_map(|(_, coins)| coins).copied().collect();
        taken.extend(self.leased());
        let spenders = self.spenders();
        let replaced: BTreeSet<OutPoint> =
            order.replaces.iter().flat_map(|tx| &tx.input).map(|i| i.previous_output).collect();
        let mut trust = Trust::of(self);
        let (mut settled, mut unsure) = (Vec::new(), Vec::new());
        for output in self.inner.list_output() {
            let outpoint = output.outpoint;
            let spent = spenders.get(&outpoint).is_some_and(|(by, mined)| *mined || !versions.contains(by));
            let own = order.tx.input.iter().any(|i| i.previous_output == outpoint);
            if spent || own || taken.contains(&outpoint) || versions.contains(&outpoint.txid) {
                continue;
            }
            match output.chain_position {
                ChainPosition::Confirmed { anchor, .. } => {
                    if !self.is_immature(outpoint.txid, Height(anchor.block_id.height)) {
                        settled.push(Coin::new(output));
                    }
                }
                // Packages are one parent and one child, and a replacement must not add an unconfirmed input.
                ChainPosition::Unconfirmed { .. } => {
                    let relays = order.parent.is_none() && order.replaces.is_none();
                    if (relays || replaced.contains(&outpoint)) && trust.deserves(outpoint.txid, 0) {
                        unsure.push(Coin::new(output));
                    }
                }
            }
        }
        (settled, unsure)
    }

    /// What spends which output of ours, and whether a block holds it.
    fn spenders(&self) -> BTreeMap<OutPoint, (Txid, bool)> {
        let mut spenders = BTreeMap::new();
        for tx in self.inner.transactions() {
            let by = (tx.tx_node.txid, tx.chain_position.is_confirmed());
            spenders.extend(tx.tx_node.tx.input.iter().map(|input| (input.previous_output, by)));
        }
        spenders
    }

    fn too_few<'a>(&self, missing: u64, coins: impl Iterator<Item = &'a Coin>) -> WalletError {
        let mut amounts: Vec<u64> = coins.map(|coin| coin.sat).collect();
        amounts.sort_unstable_by(|a, b| b.cmp(a));
        let sum = |amounts: &[u64]| amounts.iter().fold(0u64, |sum, sat| sum.saturating_add(*sat));
        let usable = sum(amounts.get(..MAX_COINS).unwrap_or(&amounts));
        let hint = if amounts.len() > MAX_COINS {
            format!(" (in the {MAX_COINS} largest coins, and no more are taken){}", self.besides())
        } else {
            self.besides()
        };
        WalletError::Insufficient {
            needed: Sat(usable.saturating_add(missing)),
            available: Sat(usable),
            hint,
        }
    }

    /// The order's transaction with coins and change, and our signatures.
    fn complete(
        &self,
        plan: &Plan<'_>,
        coins: &[Coin],
        change: Option<Sat>,
    ) -> Result<Transaction, WalletError> {
        let internal = |e: String| WalletError::Internal(e);
        let mut tx = plan.order.tx.clone();
        let first = tx.input.len();
        tx.input.extend(coins.iter().map(|coin| TxIn {
            previous_output: coin.output.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }));
        tx.input.iter_mut().for_each(|input| input.witness.clear());
        tx.output.extend(
            change.map(|sat| TxOut { value: Amount::from_sat(sat.0), script_pubkey: plan.change.clone() }),
        );
        let ours = coins.iter().map(|coin| coin.output.txout.clone());
        let spent: Vec<TxOut> = plan.order.spent.iter().cloned().chain(ours).collect();
        let mut psbt = Psbt::from_unsigned_tx(tx.clone()).map_err(|e| internal(e.to_string()))?;
        for (part, coin) in psbt.inputs.iter_mut().skip(first).zip(coins) {
            let known = self.inner.get_psbt_input(coin.output.clone(), None, true);
            *part = known.map_err(|e| internal(e.to_string()))?;
        }
        // A taproot signature covers all of them.
        for (part, output) in psbt.inputs.iter_mut().zip(&spent) {
            part.witness_utxo = Some(output.clone());
        }
        // For the order's inputs there is no key here: that they stay as they are is what is wanted.
        let _ = psbt.sign(&self.key, self.inner.secp_ctx());
        for (input, part) in tx.input.iter_mut().zip(&psbt.inputs).skip(first) {
            input.witness = match (part.tap_key_sig, part.partial_sigs.first_key_value()) {
                (Some(signature), _) => Witness::p2tr_key_spend(&signature),
                (None, Some((key, signature))) => Witness::p2wpkh(signature, &key.inner),
                (None, None) => return Err(internal("a coin could not be signed for".into())),
            };
        }
        verify_from(first, &tx, &spent).map_err(internal)?;
        Ok(tx)
    }

    /// Reserves the coins of `tx`, and with them those of its earlier versions, which no longer count.
    fn set_aside(&mut self, tx: &Transaction, versions: &BTreeSet<Txid>) {
        let mut coins: Vec<OutPoint> = tx.input.iter().map(|i| i.previous_output).collect();
        for txid in versions {
            let before = self.reserved.get(txid).into_iter().flatten();
            // Only ours: the rest may be spent by anybody, which says nothing of this version.
            let ours = before.filter(|outpoint| self.inner.spk_index().txout(**outpoint).is_some());
            let left: Vec<OutPoint> = ours.filter(|outpoint| !coins.contains(*outpoint)).copied().collect();
            coins.extend(left);
            self.end_reservation(*txid);
            self.forget_unconfirmed(*txid);
        }
        self.reserve_coins(tx.compute_txid(), coins);
    }

    /// Whether a transaction is one of those made here that no block holds: a later version may take its place.
    pub(super) fn is_replaceable(&self, txid: &Txid) -> bool {
        let foreign = |outpoint: &OutPoint| self.inner.spk_index().txout(*outpoint).is_none();
        self.reserved.get(txid).is_some_and(|coins| coins.iter().any(foreign))
    }
}
