//! How the faucet pays: coins chosen largest first, signed, handed to the pool.
//!
//! In: whom, how much, at what rate. Out: a transaction in the pool, or why not. Read next: `rpc/wallet.rs`.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    absolute::LockTime, transaction::Version, Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use thiserror::Error;

use super::faucet::{Faucet, OwnedCoin};
use super::mempool::{dust_limit_sat, fee_at, Mempool, Reject};
use super::node::State;
use super::RegtestError;

const INPUT_WEIGHT: u64 = 272;
const MAX_INPUTS: usize = 1_000;
/// Longer chains of own change are left alone, so that others can still build on our payments.
const MAX_OWN_ANCESTORS: usize = 20;

/// A payment to make.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Whom and how much.
    pub outputs: Vec<TxOut>,
    /// Take the fee from the first output instead of the change.
    pub subtract_fee: bool,
    /// The rate, in satoshi per 1000 virtual bytes.
    pub rate_sat_kvb: u64,
}

/// Why the faucet does not pay.
#[derive(Debug, Error)]
pub enum PayError {
    /// It has not enough.
    #[error("Insufficient funds")]
    Funds,
    /// The amount is dust, or is less than the fee that it is to bear.
    #[error("The transaction amount is too small to send")]
    TooSmall,
    /// The pool refuses the payment.
    #[error("{0}")]
    Rejected(#[from] Reject),
    /// The wallet's files.
    #[error("{0}")]
    Wallet(#[from] RegtestError),
    /// Signing failed.
    #[error("Signing transaction failed")]
    Signing,
}

struct Plan {
    coins: Vec<OwnedCoin>,
    outputs: Vec<TxOut>,
}

impl State {
    /// Pays, and puts the payment into the pool.
    pub fn pay(&mut self, payment: &Payment) -> Result<Txid, PayError> {
        for output in &payment.outputs {
            let floor = dust_limit_sat(&output.script_pubkey, &self.pool.policy);
            if output.value.to_sat() < floor {
                return Err(PayError::TooSmall);
            }
        }
        let candidates = self.spendable();
        let change = self.faucet.new_script()?;
        let plan = choose(candidates, payment, change, &self.pool)?;
        let tx = Arc::new(sign(&self.faucet, plan)?);
        let now = self.now();
        let accepted = self.pool.accept(&self.chain, &tx, now)?;
        self.faucet.own_txids.insert(accepted.txid);
        Ok(accepted.txid)
    }

    /// Confirmed coins first, largest first, then own change.
    fn spendable(&self) -> Vec<OwnedCoin> {
        let (mut confirmed, mut change, _) = self.faucet.list(&self.chain, &self.pool);
        confirmed.retain(|coin| !coin.immature);
        change.retain(|coin| {
            self.pool.get(&coin.outpoint.txid).is_some_and(|entry| {
                let above = self.pool.ancestors(&entry.tx);
                let crowded = above.iter().any(|txid| self.pool.descendants(txid).len() > MAX_OWN_ANCESTORS);
                above.len() < MAX_OWN_ANCESTORS && !crowded
            })
        });
        confirmed.sort_by_key(|coin| std::cmp::Reverse(coin.value_sat));
        change.sort_by_key(|coin| std::cmp::Reverse(coin.value_sat));
        confirmed.extend(change);
        confirmed
    }
}

fn output_weight(output: &TxOut) -> u64 {
    output.weight().to_wu()
}

fn choose(
    candidates: Vec<OwnedCoin>,
    payment: &Payment,
    change: ScriptBuf,
    pool: &Mempool,
) -> Result<Plan, PayError> {
    let wanted = payment.outputs.iter().fold(0u64, |sum, output| sum.saturating_add(output.value.to_sat()));
    let mut change_out = TxOut { value: Amount::ZERO, script_pubkey: change };
    let fixed_weight = 48 + payment.outputs.iter().map(output_weight).sum::<u64>();
    let change_dust = dust_limit_sat(&change_out.script_pubkey, &pool.policy);
    let mut coins = Vec::new();
    let mut have = 0u64;
    for coin in candidates.into_iter().take(MAX_INPUTS) {
        have = have.saturating_add(coin.value_sat);
        coins.push(coin);
        let inputs_weight = INPUT_WEIGHT * u64::try_from(coins.len()).unwrap_or(u64::MAX);
        let weight = fixed_weight + inputs_weight;
        let fee_plain = fee_at(payment.rate_sat_kvb, weight.div_ceil(4));
        let fee_change = fee_at(payment.rate_sat_kvb, (weight + output_weight(&change_out)).div_ceil(4));
        let mut outputs = payment.outputs.clone();
        let on_top = |fee: u64| if payment.subtract_fee { 0 } else { fee };
        let (fee, rest) = match have.checked_sub(wanted.saturating_add(on_top(fee_change))) {
            Some(rest) if rest >= change_dust => (fee_change, rest),
            _ if have >= wanted.saturating_add(on_top(fee_plain)) => (fee_plain, 0),
            _ => continue,
        };
        if payment.subtract_fee {
            let first = outputs.first_mut().ok_or(PayError::TooSmall)?;
            let left = first.value.to_sat().checked_sub(fee).ok_or(PayError::TooSmall)?;
            if left < dust_limit_sat(&first.script_pubkey, &pool.policy) {
                return Err(PayError::TooSmall);
            }
            first.value = Amount::from_sat(left);
        }
        if rest > 0 {
            change_out.value = Amount::from_sat(rest);
            outputs.push(change_out);
        }
        return Ok(Plan { coins, outputs });
    }
    Err(PayError::Funds)
}

fn sign(faucet: &Faucet, plan: Plan) -> Result<Transaction, PayError> {
    let input = plan.coins.iter().map(|coin| TxIn {
        previous_output: coin.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    });
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: input.collect(),
        output: plan.outputs,
    };
    let mut witnesses = Vec::new();
    let mut cache = SighashCache::new(&tx);
    for (index, coin) in plan.coins.iter().enumerate() {
        let value = Amount::from_sat(coin.value_sat);
        let sighash = cache
            .p2wpkh_signature_hash(index, &coin.script, value, EcdsaSighashType::All)
            .map_err(|_| PayError::Signing)?;
        let mut secret = faucet.secret(coin.key_index)?;
        let signature = faucet.secp.sign_ecdsa(&Message::from_digest(sighash.to_byte_array()), &secret);
        let key = secret.public_key(&faucet.secp);
        secret.non_secure_erase();
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
        witnesses.push(Witness::p2wpkh(&signature, &key));
    }
    for (input, witness) in tx.input.iter_mut().zip(witnesses) {
        input.witness = witness;
    }
    Ok(tx)
}
