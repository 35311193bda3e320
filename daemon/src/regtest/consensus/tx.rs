//! Rules of a single transaction, scripts excepted.
//!
//! In: a transaction, the coins it spends, the height and median time it would be mined at. Out: its fee, or the
//! rule it breaks. Read next: `script`, `sigops`, then `connect`, which asks all of this for a whole block.

use super::params::{COINBASE_MATURITY, MAX_BLOCK_WEIGHT, WITNESS_SCALE};
use super::reject::TxReject;
use super::utxo::Coin;
use bitcoin::{absolute, Amount, Sequence, Transaction};
use std::collections::BTreeSet;

/// Lengths a coinbase script may have, in bytes.
const COINBASE_SCRIPT: std::ops::RangeInclusive<usize> = 2..=100;
/// BIP 68: the input has no relative lock.
const SEQUENCE_DISABLE: u32 = 1 << 31;
/// BIP 68: the lock counts time, not blocks.
const SEQUENCE_TIME: u32 = 1 << 22;
/// BIP 68: the bits that hold the lock.
const SEQUENCE_MASK: u32 = 0xffff;
/// BIP 68: a unit of time is 2^9 seconds.
const SEQUENCE_SHIFT: u32 = 9;

/// What can be said of a transaction alone, without coins or height.
///
/// # Errors
/// The first rule broken.
pub fn check_transaction(tx: &Transaction) -> Result<(), TxReject> {
    if tx.input.is_empty() {
        return Err(TxReject::VinEmpty);
    }
    if tx.output.is_empty() {
        return Err(TxReject::VoutEmpty);
    }
    if tx.base_size().saturating_mul(WITNESS_SCALE) > MAX_BLOCK_WEIGHT {
        return Err(TxReject::Oversize);
    }
    check_output_values(tx)?;
    let mut seen = BTreeSet::new();
    if !tx.input.iter().all(|input| seen.insert(input.previous_output)) {
        return Err(TxReject::DuplicateInputs);
    }
    if tx.is_coinbase() {
        let script = tx.input.first().map_or(0, |input| input.script_sig.len());
        if !COINBASE_SCRIPT.contains(&script) {
            return Err(TxReject::CoinbaseLength);
        }
    } else if tx.input.iter().any(|input| input.previous_output.is_null()) {
        return Err(TxReject::NullPrevout);
    }
    Ok(())
}

fn check_output_values(tx: &Transaction) -> Result<(), TxReject> {
    let mut total = Amount::ZERO;
    for out in &tx.output {
        // Bitcoin reads the eight bytes as a signed number.
        if i64::try_from(out.value.to_sat()).is_err() {
            return Err(TxReject::VoutNegative);
        }
        if out.value > Amount::MAX_MONEY {
            return Err(TxReject::VoutTooLarge);
        }
        total = add_money(total, out.value).ok_or(TxReject::TotalTooLarge)?;
    }
    Ok(())
}

/// The sum, if it is money: at most 21 million coins.
pub(super) fn add_money(a: Amount, b: Amount) -> Option<Amount> {
    a.checked_add(b).filter(|sum| *sum <= Amount::MAX_MONEY)
}

/// Whether the lock time allows a block at `height` whose predecessor's median time is `mtp` (BIP 113).
pub fn is_final(tx: &Transaction, height: u32, mtp: u32) -> bool {
    let passed = match tx.lock_time {
        absolute::LockTime::Blocks(lock) => lock.to_consensus_u32() < height,
        absolute::LockTime::Seconds(lock) => lock.to_consensus_u32() < mtp,
    };
    passed || tx.lock_time == absolute::LockTime::ZERO || tx.input.iter().all(|i| i.sequence == Sequence::MAX)
}

/// Whether all relative locks allow a block at `height` whose predecessor's median time is `mtp` (BIP 68).
/// `mtp_at` gives the median time of the active block at a height; `coins[i]` is spent by input `i`.
pub(super) fn sequence_locks_passed(
    tx: &Transaction,
    coins: &[Coin],
    height: u32,
    mtp: u32,
    mtp_at: &dyn Fn(u32) -> Option<u32>,
) -> bool {
    // The version is compared as unsigned: a negative one has the locks, too.
    if (tx.version.0 as u32) < 2 {
        return true;
    }
    tx.input.iter().zip(coins).all(|(input, coin)| {
        let sequence = input.sequence.to_consensus_u32();
        let lock = u64::from(sequence & SEQUENCE_MASK);
        if sequence & SEQUENCE_DISABLE != 0 {
            true
        } else if sequence & SEQUENCE_TIME != 0 {
            // Time counts from the median before the coin's own block. A coin of the mempool counts from the tip.
            let from = mtp_at(coin.height.saturating_sub(1)).unwrap_or(mtp);
            u64::from(from) + (lock << SEQUENCE_SHIFT) <= u64::from(mtp)
        } else {
            u64::from(coin.height) + lock <= u64::from(height)
        }
    })
}

/// Maturity and values of the coins spent, in a block at `height`; returns the fee.
pub(super) fn check_input_values(tx: &Transaction, coins: &[Coin], height: u32) -> Result<Amount, TxReject> {
    if coins.len() != tx.input.len() {
        return Err(TxReject::MissingInputs);
    }
    let mut spent = Amount::ZERO;
    for coin in coins {
        if coin.coinbase && height.saturating_sub(coin.height) < COINBASE_MATURITY {
            return Err(TxReject::PrematureCoinbase);
        }
        spent = add_money(spent, coin.out.value).ok_or(TxReject::InputValues)?;
    }
    let mut paid = Amount::ZERO;
    for out in &tx.output {
        paid = add_money(paid, out.value).ok_or(TxReject::TotalTooLarge)?;
    }
    spent.checked_sub(paid).ok_or(TxReject::InBelowOut)
}
