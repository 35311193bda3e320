//! `safety`, of transactions: what a node publishes opens what it spends, whichever crypto makes the signatures.
//!
//! In: a transaction and the outputs that it spends. Out: nothing, or the input that does not open. With the real
//! curve Bitcoin Core's interpreter looks at it as well (`TinyChain::offer`). Read next: `script`.

use super::script;
use bitcoin::{Transaction, TxOut};
use chand_protocol::sign::Crypto;

/// Every input's witness opens the output it spends, and no more is paid than was there.
///
/// # Errors
/// The first that does not.
pub fn signatures(tx: &Transaction, spent: &[TxOut], crypto: &dyn Crypto) -> Result<(), String> {
    if tx.input.len() != spent.len() {
        return Err(format!("{} inputs for {} outputs", tx.input.len(), spent.len()));
    }
    for (place, output) in spent.iter().enumerate() {
        script::opens(tx, place, output, crypto)
            .map_err(|why| format!("input {place} of {} does not open: {why}", tx.compute_txid()))?;
    }
    let sum = |outputs: &[TxOut]| outputs.iter().map(|o| o.value.to_sat()).sum::<u64>();
    if sum(&tx.output) > sum(spent) {
        return Err(format!("{} pays more than it has", tx.compute_txid()));
    }
    Ok(())
}
