//! A wallet of equal coins under one key: pays into funding outputs, and fees of what cannot pay them itself.
//!
//! In: what a channel needs. Out: a signed transaction, and a change to be kept with it. Read next: `super`.

use super::chain::TinyChain;
use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use chand_protocol::node::effect::{AttachOrder, FundedTx, Unattached};
use chand_protocol::sign::Crypto;
use chand_protocol::tx::script;
use chand_protocol::units::{Feerate, Sat};
use secp256k1::SecretKey;
use std::collections::BTreeMap;

/// The weight of a transaction with one such input and two outputs, at most.
const WEIGHT: u64 = 650;
const COIN_SAT: u64 = 200_000_000;
/// The weight of a signature and a key.
const P2WPKH_WITNESS: u64 = 109;

/// Coins and what is reserved of them.
#[derive(Clone, Debug)]
pub struct TinyWallet {
    key: SecretKey,
    /// Where its money is.
    pub script: ScriptBuf,
    coins: Vec<OutPoint>,
    reserved: BTreeMap<OutPoint, Txid>,
    /// What it was told will never be published, or never confirm.
    pub unreserved: Vec<Txid>,
}

impl TinyWallet {
    /// A wallet with `coins` coins of 2 bitcoin.
    pub fn new(key: SecretKey, coins: usize, chain: &mut TinyChain, crypto: &dyn Crypto) -> TinyWallet {
        let script = script::p2wpkh(&key.public_key(crypto.secp()));
        let coins = (0..coins).map(|_| chain.faucet(script.clone(), COIN_SAT)).collect();
        TinyWallet { key, script, coins, reserved: BTreeMap::new(), unreserved: Vec::new() }
    }

    /// All but so many coins are gone.
    pub fn keep_only(&mut self, coins: usize) {
        let set_aside = &self.reserved;
        let mut left = coins;
        self.coins.retain(|coin| {
            let keep = set_aside.contains_key(coin) || left > 0;
            left -= usize::from(keep && !set_aside.contains_key(coin));
            keep
        });
    }

    /// The coins that are set aside for channels on their way.
    pub fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// Builds and signs a transaction that pays `sat` to `to`; reserves its coin.
    ///
    /// # Errors
    /// In words.
    pub fn fund(
        &mut self,
        to: ScriptBuf,
        sat: u64,
        feerate: Feerate,
        chain: &TinyChain,
        crypto: &dyn Crypto,
    ) -> Result<(FundedTx, Vec<u8>), String> {
        let fee = feerate.fee(WEIGHT).0;
        let change = COIN_SAT.checked_sub(sat + fee).ok_or("not enough money in one coin")?;
        let free = |c: &&OutPoint| !self.reserved.contains_key(*c) && chain.unspent(c).is_some();
        let coin = *self.coins.iter().find(free).ok_or("no coin is free")?;
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: coin,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            }],
            output: vec![
                TxOut { value: Amount::from_sat(change), script_pubkey: self.script.clone() },
                TxOut { value: Amount::from_sat(sat), script_pubkey: to },
            ],
        };
        let kind = EcdsaSighashType::All;
        let value = Amount::from_sat(COIN_SAT);
        let digest = SighashCache::new(&tx)
            .p2wpkh_signature_hash(0, &self.script, value, kind)
            .map_err(|e| e.to_string())?;
        let signature = crypto.sign(digest.as_ref(), &self.key);
        let public = self.key.public_key(crypto.secp());
        tx.input[0].witness = Witness::p2wpkh(&script::witness_signature(&signature, kind), &public);
        let txid = tx.compute_txid();
        self.reserved.insert(coin, txid);
        let note = format!("{coin} {txid}").into_bytes();
        Ok((FundedTx { tx, vout: 1 }, note))
    }

    /// Adds a coin and change to an order, signs for the coin, and reserves it in place of that of the version before.
    ///
    /// # Errors
    /// In words.
    pub fn attach(
        &mut self,
        order: &AttachOrder,
        chain: &TinyChain,
        crypto: &dyn Crypto,
    ) -> Result<(Transaction, Vec<u8>), Unattached> {
        let none = |why: &str| Unattached::NoCoins(why.into());
        let before = order.replaces.as_ref();
        let mine = |c: &OutPoint| before.is_some_and(|t| t.input.iter().any(|i| i.previous_output == *c));
        let free = |c: &&OutPoint| !self.reserved.contains_key(*c) && chain.unspent(c).is_some();
        let coin = *self.coins.iter().find(|c| mine(c) || free(c)).ok_or_else(|| none("no coin is free"))?;
        let mut tx = order.tx.clone();
        tx.input.push(TxIn {
            previous_output: coin,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        });
        tx.output.push(TxOut { value: Amount::ZERO, script_pubkey: self.script.clone() });
        let weight = tx.base_size() as u64 * 4 + 2 + order.witness_weight + P2WPKH_WITNESS;
        let (parent, paid) = order.parent.map_or((0, 0), |(weight, fee)| (weight, fee.0));
        let wanted = order.feerate.fee(weight + parent).0.saturating_sub(paid) + 1;
        // However well its parent pays, it must relay by itself.
        let mut least = Feerate::FLOOR.relay_fee(weight).0;
        if let Some(before) = before {
            // Its parent may be in no mempool now: what it spends is told with the order.
            let told = order.spent.iter().map(|o| o.value.to_sat()).sum::<u64>() + COIN_SAT;
            let given = before.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
            let old = chain.fee(before).unwrap_or(told.saturating_sub(given));
            // More in all, and more for each byte.
            let same_rate = old * weight / before.weight().to_wu().max(1) + 1;
            least = least.max(old + old / 8 + weight.div_ceil(4) + 1).max(same_rate + same_rate / 100);
        }
        let fee = match order.parent {
            Some(_) => least.max(wanted.min(order.most.0)),
            None if wanted <= order.most.0 => least.max(wanted),
            None => {
                let half = least.max(order.most.0 / 2);
                let will_do = half >= order.lowest.fee(weight).0;
                if will_do {
                    half
                } else {
                    wanted
                }
            }
        };
        if fee > order.most.0 {
            return Err(Unattached::TooDear(Sat(fee)));
        }
        let held: u64 = order.spent.iter().map(|o| o.value.to_sat()).sum::<u64>() + COIN_SAT;
        let paid_out: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        let change = held.checked_sub(paid_out + fee).ok_or_else(|| none("not enough money in one coin"))?;
        let (place, index) = (tx.output.len() - 1, tx.input.len() - 1);
        tx.output[place].value = Amount::from_sat(change);
        let kind = EcdsaSighashType::All;
        let digest = SighashCache::new(&tx)
            .p2wpkh_signature_hash(index, &self.script, Amount::from_sat(COIN_SAT), kind)
            .map_err(|e| none(&e.to_string()))?;
        let signature = crypto.sign(digest.as_ref(), &self.key);
        let public = self.key.public_key(crypto.secp());
        tx.input[index].witness = Witness::p2wpkh(&script::witness_signature(&signature, kind), &public);
        let txid = tx.compute_txid();
        self.reserved.insert(coin, txid);
        Ok((tx, format!("{coin} {txid}").into_bytes()))
    }

    /// How many coins are free.
    pub fn spare(&self, chain: &TinyChain) -> u32 {
        let free = |c: &&OutPoint| !self.reserved.contains_key(*c) && chain.unspent(c).is_some();
        self.coins.iter().filter(free).count() as u32
    }

    /// The transaction will never be published.
    pub fn unreserve(&mut self, txid: &Txid) {
        self.reserved.retain(|_, t| t != txid);
        self.unreserved.push(*txid);
    }

    /// After a restart: what was kept is all that is known.
    pub fn restart(&mut self, notes: &[Vec<u8>]) {
        self.reserved.clear();
        for note in notes {
            let text = String::from_utf8_lossy(note).into_owned();
            let parts = text.split_once(' ').and_then(|(c, t)| Some((c.parse().ok()?, t.parse().ok()?)));
            if let Some((coin, txid)) = parts {
                self.reserved.insert(coin, txid);
            }
        }
    }
}
