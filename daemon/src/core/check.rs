//! Whether the network would take a transaction of ours: scripts by Bitcoin Core's interpreter, shape by the rules of
//! relay.
//!
//! In: a signed transaction, the chain backend, what was published before. Out: nothing, or why it must not leave.
//! The outputs it spends come from the backend (confirmed or in its mempool), or from a transaction published before.
//! Read next: `crate::regtest::consensus::script`, `chand_protocol::tx::standard`.

use crate::chain::{Chain, RpcError};
use crate::regtest::consensus::script::verify_inputs;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use chand_protocol::tx::standard::standard;
use chand_protocol::units::Feerate;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};

/// Transactions remembered: parents of later ones, and those that were checked already.
const MAX_KNOWN: usize = 1_000;

/// Why a transaction does not leave, or not now.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It breaks a rule: a bug of ours.
    Broken(String),
    /// Its time is over, or has not come.
    Refused(String),
    /// The backend gave no answer, or says no.
    Rpc(RpcError),
}

impl From<RpcError> for Unfit {
    fn from(error: RpcError) -> Unfit {
        Unfit::Rpc(error)
    }
}

/// Own transactions that passed, oldest first.
#[derive(Default)]
pub(super) struct Known {
    by_txid: BTreeMap<Txid, Kept>,
    order: VecDeque<Txid>,
}

struct Kept {
    tx: Transaction,
    low_fee: bool,
}

impl Known {
    /// True when exactly this one passed before.
    pub fn has(&self, tx: &Transaction) -> bool {
        self.by_txid.get(&tx.compute_txid()).is_some_and(|kept| kept.tx == *tx)
    }

    /// It passed.
    pub fn keep(&mut self, tx: Transaction) {
        let txid = tx.compute_txid();
        if self.by_txid.insert(txid, Kept { tx, low_fee: false }).is_none() {
            self.order.push_back(txid);
        }
        if self.order.len() > MAX_KNOWN {
            self.order.pop_front().map(|oldest| self.by_txid.remove(&oldest));
        }
    }

    /// Whether the backend refused it for its fee alone.
    pub fn set_low_fee(&mut self, txid: &Txid, low_fee: bool) {
        if let Some(kept) = self.by_txid.get_mut(txid) {
            kept.low_fee = low_fee;
        }
    }

    /// The parent that only gets in together with `child`: packages of one parent and one child relay.
    pub fn low_fee_parent(&self, child: &Transaction) -> Option<&Transaction> {
        let parents = child.input.iter().filter_map(|input| self.by_txid.get(&input.previous_output.txid));
        parents.filter(|kept| kept.low_fee).map(|kept| &kept.tx).next()
    }

    fn output(&self, outpoint: &OutPoint) -> Option<TxOut> {
        output(&self.by_txid.get(&outpoint.txid)?.tx, outpoint.vout)
    }
}

fn output(tx: &Transaction, vout: u32) -> Option<TxOut> {
    tx.output.get(usize::try_from(vout).ok()?).cloned()
}

/// All outputs that `tx` spends, in the order of its inputs; `None` when one is unknown or was spent in a block.
///
/// # Errors
/// [`RpcError`].
pub(super) async fn spent_outputs(
    chain: &Chain,
    known: &Known,
    tx: &Transaction,
) -> Result<Option<Vec<TxOut>>, RpcError> {
    let mut spent = Vec::with_capacity(tx.input.len());
    for input in &tx.input {
        let outpoint = &input.previous_output;
        let found = match known.output(outpoint) {
            Some(output) => Some(output),
            None => look_up(chain, outpoint).await?,
        };
        match found {
            Some(output) => spent.push(output),
            None => return Ok(None),
        }
    }
    Ok(Some(spent))
}

/// An output in the chain (where one in the mempool may spend it: we may be replacing that) or in the mempool.
async fn look_up(chain: &Chain, outpoint: &OutPoint) -> Result<Option<TxOut>, RpcError> {
    if let Some(unspent) = chain.get_tx_out(outpoint, false).await? {
        return Ok(Some(unspent.output));
    }
    let answer = chain.rpc().call("getrawtransaction", json!([outpoint.txid.to_string()])).await;
    let hex = match answer {
        Ok(hex) => hex,
        // Not in the mempool, and not found in blocks: most backends keep no index of them.
        Err(RpcError::Rpc { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let parent: Option<Transaction> = hex.as_str().and_then(|hex| deserialize_hex(hex).ok());
    match parent {
        Some(parent) if parent.compute_txid() == outpoint.txid => Ok(output(&parent, outpoint.vout)),
        _ => Err(RpcError::Nonsense("getrawtransaction gave another transaction".into())),
    }
}

/// Whether the backend has `tx` itself, in its mempool or, with an output unspent, in the chain.
///
/// # Errors
/// [`RpcError`].
pub(super) async fn is_there(chain: &Chain, tx: &Transaction) -> Result<bool, RpcError> {
    let txid = tx.compute_txid();
    for (_, vout) in tx.output.iter().zip(0u32..) {
        if chain.get_tx_out(&OutPoint { txid, vout }, true).await?.is_some() {
            return Ok(true);
        }
    }
    match chain.rpc().call("getrawtransaction", json!([txid.to_string()])).await {
        Ok(_) => Ok(true),
        Err(RpcError::Rpc { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs the scripts and looks at the shape. The fee is the backend's to judge: a parent may pay too little when
/// its child pays for it.
///
/// # Errors
/// [`Unfit::Broken`].
pub(super) async fn check(tx: &Transaction, spent: &[TxOut]) -> Result<(), Unfit> {
    let (tx, spent) = (tx.clone(), spent.to_vec());
    let judged = tokio::task::spawn_blocking(move || judge(&tx, &spent)).await;
    judged.unwrap_or_else(|fault| Err(format!("the check itself failed: {fault}"))).map_err(Unfit::Broken)
}

fn judge(tx: &Transaction, spent: &[TxOut]) -> Result<(), String> {
    verify_inputs(tx, spent).map_err(|reject| reject.to_string())?;
    standard(tx, spent, Feerate(0)).map_err(|rule| rule.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::script::Builder;
    use bitcoin::{absolute, opcodes, transaction, Amount, ScriptBuf, Sequence, TxIn, Witness};

    /// Spends an output that anybody with the script `OP_1` may spend, and the output itself.
    fn pair(number: u8) -> (Transaction, TxOut) {
        let script = Builder::new().push_opcode(opcodes::OP_TRUE).into_script();
        let spent = TxOut { value: Amount::from_sat(100_000), script_pubkey: script.to_p2wsh() };
        let input = TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 },
            sequence: Sequence::MAX,
            script_sig: ScriptBuf::new(),
            witness: Witness::from_slice(&[script.as_bytes()]),
        };
        let to = TxOut { value: Amount::from_sat(99_000), script_pubkey: spent.script_pubkey.clone() };
        let tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![to],
        };
        (tx, spent)
    }

    #[test]
    fn what_the_network_refuses_is_refused_here() {
        let (good, spent) = pair(1);
        assert_eq!(judge(&good, std::slice::from_ref(&spent)), Ok(()));
        assert!(judge(&good, &[]).is_err());

        let mut unsigned = good.clone();
        unsigned.input[0].witness = Witness::new();
        assert!(
            judge(&unsigned, std::slice::from_ref(&spent)).is_err_and(|reason| reason.contains("input 0"))
        );

        let mut dusty = good.clone();
        dusty.output[0].value = Amount::from_sat(100);
        assert!(judge(&dusty, std::slice::from_ref(&spent)).is_err_and(|reason| reason.contains("dust")));

        let mut magic = good;
        magic.output[0].value = Amount::from_sat(100_001);
        assert!(judge(&magic, &[spent]).is_err());
    }

    #[test]
    fn a_child_finds_its_low_fee_parent_until_that_got_in() {
        let (parent, _) = pair(1);
        let (mut child, _) = pair(2);
        child.input[0].previous_output = OutPoint { txid: parent.compute_txid(), vout: 0 };
        let mut known = Known::default();
        known.keep(parent.clone());
        assert!(known.has(&parent) && !known.has(&child));
        assert_eq!(known.output(&child.input[0].previous_output).as_ref(), parent.output.first());
        assert!(known.low_fee_parent(&child).is_none());
        known.set_low_fee(&parent.compute_txid(), true);
        assert_eq!(known.low_fee_parent(&child), Some(&parent));
        known.set_low_fee(&parent.compute_txid(), false);
        assert!(known.low_fee_parent(&child).is_none());
    }

    #[test]
    fn memory_is_bounded_and_another_witness_is_checked_again() {
        let mut known = Known::default();
        let (first, _) = pair(0);
        known.keep(first.clone());
        let mut other = first.clone();
        other.input[0].witness = Witness::new();
        assert!(!known.has(&other));
        for lock in 1..=u32::try_from(MAX_KNOWN).expect("small") {
            let mut tx = first.clone();
            tx.lock_time = absolute::LockTime::from_consensus(lock);
            known.keep(tx);
        }
        assert!(!known.has(&first));
        assert_eq!((known.by_txid.len(), known.order.len()), (MAX_KNOWN, MAX_KNOWN));
    }
}
