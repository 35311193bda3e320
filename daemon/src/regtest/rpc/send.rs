//! Commands that hand transactions to the pool one by one, or ask whether it would take them.
//!
//! In: hex. Out: an id, or a verdict. Read next: `package`, the pool's `accept`.

use std::sync::Arc;

use bitcoin::{OutPoint, Transaction};
use serde_json::{json, Map, Value};

use super::args::{transaction, Args};
use super::error::RpcError;
use super::json::{amount, feerate};
use crate::regtest::mempool::{check_package, fee_at, Candidate, FeeRule, Reject, RejectKind};
use crate::regtest::node::{Node, State};

const DEFAULT_MAX_RATE_SAT_KVB: u64 = 10_000_000;
const RATE_LIMIT_SAT_KVB: u64 = 100_000_000;

/// The caller's highest rate (satoshi per 1000 vB), 0 for none.
pub fn max_rate(args: &Args, at: usize) -> Result<u64, RpcError> {
    let rate = args.amount_opt(at)?.unwrap_or(DEFAULT_MAX_RATE_SAT_KVB);
    if rate >= RATE_LIMIT_SAT_KVB {
        return Err(RpcError::bad_value("Fee rates larger than or equal to 1BTC/kvB are not accepted"));
    }
    Ok(rate)
}

/// Refuses outputs that nobody can spend and that hold more than the caller allows.
pub fn check_burn(tx: &Transaction, allowed_sat: u64) -> Result<(), RpcError> {
    let burns = tx.output.iter().any(|output| {
        let script = &output.script_pubkey;
        (script.is_op_return() || script.len() > 10_000) && output.value.to_sat() > allowed_sat
    });
    if burns {
        return Err(RpcError::verify(
            "Unspendable output exceeds maximum configured by user (maxburnamount)",
        ));
    }
    Ok(())
}

/// Is this more than the caller's highest rate allows?
pub fn too_much(fee_sat: u64, vsize: u64, max_rate_sat_kvb: u64) -> bool {
    max_rate_sat_kvb > 0 && fee_sat > fee_at(max_rate_sat_kvb, vsize)
}

/// `sendrawtransaction`.
pub fn send_raw_transaction(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let tx = Arc::new(transaction(args.text(0)?)?);
    let max_rate = max_rate(args, 1)?;
    check_burn(&tx, args.amount_opt(2)?.unwrap_or(0))?;
    let txid = tx.compute_txid();
    let mut state = node.lock()?;
    let state = &mut *state;
    let outputs = (0u32..).zip(&tx.output).map(|(vout, _)| OutPoint { txid, vout });
    if outputs.into_iter().any(|outpoint| state.chain.coin(&outpoint).is_some()) {
        return Err(RpcError::in_chain("Transaction outputs already in utxo set"));
    }
    if state.pool.get(&txid).is_some() {
        // Sending again is no fault: a restarted node does not know that it did.
        return Ok(json!(txid.to_string()));
    }
    let now = state.now();
    let candidate = state.pool.evaluate(&state.chain, &tx, now, FeeRule::Alone)?;
    if too_much(candidate.entry.fee_sat, candidate.entry.vsize, max_rate) {
        return Err(RpcError::verify("Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)"));
    }
    state.pool.commit(candidate);
    Ok(json!(txid.to_string()))
}

/// `testmempoolaccept`.
pub fn test_mempool_accept(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let raw = args.list(0)?;
    if raw.is_empty() || raw.len() > 25 {
        return Err(RpcError::bad_value("Array must contain between 1 and 25 transactions."));
    }
    let max_rate = max_rate(args, 1)?;
    let txs = raw.iter().map(decode_element).collect::<Result<Vec<_>, _>>()?;
    if let Err(fault) = check_package(&txs, false) {
        let each = txs.iter().map(|tx| {
            let mut fields = names(tx);
            fields.insert("package-error".into(), json!(fault.to_string()));
            Value::Object(fields)
        });
        return Ok(each.collect());
    }
    let state = node.lock()?;
    Ok(try_all(&state, &txs, max_rate))
}

fn decode_element(value: &Value) -> Result<Arc<Transaction>, RpcError> {
    let text = value.as_str().unwrap_or_default();
    transaction(text).map(Arc::new).map_err(|_| {
        RpcError::decode(format!("TX decode failed: {text} Make sure the tx has at least one input."))
    })
}

fn names(tx: &Transaction) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("txid".into(), json!(tx.compute_txid().to_string()));
    fields.insert("wtxid".into(), json!(tx.compute_wtxid().to_string()));
    fields
}

fn try_all(state: &State, txs: &[Arc<Transaction>], max_rate: u64) -> Value {
    let mut pool = None;
    let mut stopped = false;
    let mut answers = Vec::new();
    for tx in txs {
        let mut fields = names(tx);
        if !stopped {
            // One alone is judged in place; several need a copy, in which each finds the ones before it.
            let judged = match &mut pool {
                None => state.pool.evaluate(&state.chain, tx, state.now(), FeeRule::Alone),
                Some(copy) => several(state, copy, tx),
            };
            match judged {
                Ok(candidate) => {
                    stopped = verdict(&mut fields, &candidate, max_rate);
                    if txs.len() > 1 && !stopped {
                        pool.get_or_insert_with(|| state.pool.clone()).commit(candidate);
                    }
                }
                Err(reject) => {
                    stopped = true;
                    refusal(&mut fields, &reject);
                }
            }
        }
        answers.push(Value::Object(fields));
    }
    Value::Array(answers)
}

fn several(
    state: &State,
    pool: &crate::regtest::mempool::Mempool,
    tx: &Arc<Transaction>,
) -> Result<Candidate, Reject> {
    let candidate = pool.evaluate(&state.chain, tx, state.now(), FeeRule::Alone)?;
    if candidate.conflicts.is_empty() {
        Ok(candidate)
    } else {
        Err(Reject::new("bip125-replacement-disallowed"))
    }
}

/// Writes an acceptance down; true if the caller's own limit refuses it after all.
fn verdict(fields: &mut Map<String, Value>, candidate: &Candidate, max_rate: u64) -> bool {
    let entry = &candidate.entry;
    if too_much(entry.fee_sat, entry.vsize, max_rate) {
        fields.insert("allowed".into(), json!(false));
        fields.insert("reject-reason".into(), json!("max-fee-exceeded"));
        return true;
    }
    fields.insert("allowed".into(), json!(true));
    fields.insert("vsize".into(), json!(entry.vsize));
    fields.insert(
        "fees".into(),
        json!({
            "base": amount(entry.fee_sat),
            "effective-feerate": feerate(entry.fee_sat, entry.vsize),
            "effective-includes": [entry.wtxid.to_string()],
        }),
    );
    false
}

fn refusal(fields: &mut Map<String, Value>, reject: &Reject) {
    fields.insert("allowed".into(), json!(false));
    let missing = reject.kind == RejectKind::MissingInputs;
    let reason = if missing { "missing-inputs" } else { reject.reason.as_str() };
    fields.insert("reject-reason".into(), json!(reason));
    if !missing {
        fields.insert("reject-details".into(), json!(reject.to_string()));
    }
}
