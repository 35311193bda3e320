//! A whole block against the coins of the chain before it.
//!
//! In: a block that passed `block`'s checks, the coins, its place. Out: [`Connected`]: what it changes and what is
//! needed to take it back; the coins themselves are not touched. Read next: `state`, which applies it.

use super::params::{subsidy, MAX_SIGOPS_COST};
use super::reject::{BlockReject, TxReject};
use super::script::verify_inputs;
use super::sigops;
use super::tx::{add_money, check_input_values, sequence_locks_passed};
use super::utxo::{Changes, Coin, Coins, View};
use bitcoin::{Amount, Block, Transaction, TxOut, Txid};

/// A block's place, and the chain below it.
pub(super) struct Place<'a> {
    /// Its height.
    pub height: u32,
    /// Median time of its predecessor, Unix seconds.
    pub prev_mtp: u32,
    /// Median time by height, for the blocks below.
    pub mtp_at: &'a dyn Fn(u32) -> Option<u32>,
    /// Unspent coins before it.
    pub coins: &'a Coins,
}

/// How much of a block is still to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every rule.
    Full,
    /// It was found valid in this place before: coins and values only.
    Seen,
}

/// What a valid block does.
pub(super) struct Connected {
    /// To be applied to the coins.
    pub changes: Changes,
    /// The coins spent, in order of the inputs, coinbase left out.
    pub spent: Vec<Coin>,
    /// Its transactions' ids, in order.
    pub txids: Vec<Txid>,
}

/// Checks a block in its place.
pub(super) fn connect(block: &Block, place: &Place<'_>, depth: Depth) -> Result<Connected, BlockReject> {
    let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
    let mut view = View::over(place.coins);
    if block.txdata.iter().zip(&txids).any(|(tx, txid)| view.overwrites(tx, *txid)) {
        return Err(TxReject::Bip30.into());
    }
    let mut spent = Vec::new();
    let mut fees = Amount::ZERO;
    let mut sigops = 0usize;
    for (tx, txid) in block.txdata.iter().zip(&txids) {
        let coins = if tx.is_coinbase() {
            Vec::new()
        } else {
            view.spend_inputs(tx).ok_or(TxReject::MissingInputs)?
        };
        if !tx.is_coinbase() {
            let fee = check_input_values(tx, &coins, place.height)?;
            fees = add_money(fees, fee).ok_or(BlockReject::FeesRange)?;
        }
        if depth == Depth::Full {
            check_locks(tx, &coins, place)?;
            sigops = sigops.saturating_add(sigops::cost(tx, &coins));
            if sigops > MAX_SIGOPS_COST {
                return Err(BlockReject::Sigops);
            }
            check_scripts(tx, &coins)?;
        }
        view.add_outputs(tx, *txid, place.height);
        spent.extend(coins);
    }
    check_reward(block, place.height, fees)?;
    Ok(Connected { changes: view.into_changes(), spent, txids })
}

/// The fees of `txs`, mined in this order at `height`.
pub(super) fn total_fees(txs: &[Transaction], height: u32, coins: &Coins) -> Result<Amount, BlockReject> {
    let mut view = View::over(coins);
    let mut fees = Amount::ZERO;
    for tx in txs {
        let spent = view.spend_inputs(tx).ok_or(TxReject::MissingInputs)?;
        let fee = check_input_values(tx, &spent, height)?;
        fees = add_money(fees, fee).ok_or(BlockReject::FeesRange)?;
        view.add_outputs(tx, tx.compute_txid(), height);
    }
    Ok(fees)
}

/// Relative locks, under the name they have in a block.
fn check_locks(tx: &Transaction, coins: &[Coin], place: &Place<'_>) -> Result<(), TxReject> {
    if !tx.is_coinbase() && !sequence_locks_passed(tx, coins, place.height, place.prev_mtp, place.mtp_at) {
        return Err(TxReject::SequenceLocks);
    }
    Ok(())
}

/// Every input's script, by the interpreter.
pub(super) fn check_scripts(tx: &Transaction, coins: &[Coin]) -> Result<(), TxReject> {
    if tx.is_coinbase() {
        return Ok(());
    }
    let spent: Vec<TxOut> = coins.iter().map(|coin| coin.out.clone()).collect();
    Ok(verify_inputs(tx, &spent)?)
}

/// The coinbase takes at most subsidy and fees.
fn check_reward(block: &Block, height: u32, fees: Amount) -> Result<(), BlockReject> {
    let allowed = subsidy(height).checked_add(fees).ok_or(BlockReject::FeesRange)?;
    let coinbase = block.txdata.first().ok_or(BlockReject::CoinbaseMissing)?;
    let taken = coinbase.output.iter().try_fold(Amount::ZERO, |sum, out| sum.checked_add(out.value));
    match taken {
        Some(taken) if taken <= allowed => Ok(()),
        _ => Err(BlockReject::CoinbaseAmount),
    }
}
