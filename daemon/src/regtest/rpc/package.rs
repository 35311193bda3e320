//! `submitpackage`: parents and the child that pays for them.
//!
//! In: hex, parents first. Out: what became of each. Read next: the pool's `package`.

use std::sync::Arc;

use bitcoin::Transaction;
use serde_json::{json, Map, Value};

use super::args::{transaction, Args};
use super::error::RpcError;
use super::json::{amount, feerate};
use super::send::{check_burn, max_rate, too_much};
use crate::regtest::mempool::PackageTx;
use crate::regtest::node::Node;

/// `submitpackage`.
pub fn submit_package(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let raw = args.list(0)?;
    if raw.is_empty() || raw.len() > 25 {
        return Err(RpcError::bad_value("Array must contain between 1 and 25 transactions."));
    }
    let max_rate = max_rate(args, 1)?;
    let burn = args.amount_opt(2)?.unwrap_or(0);
    let mut txs: Vec<Arc<Transaction>> = Vec::new();
    for value in raw {
        let text = value.as_str().unwrap_or_default();
        let tx = transaction(text).map_err(|_| {
            RpcError::decode(format!("TX decode failed: {text} Make sure the tx has at least one input."))
        })?;
        check_burn(&tx, burn)?;
        txs.push(Arc::new(tx));
    }
    let mut state = node.lock()?;
    let state = &mut *state;
    let now = state.now();
    // On a copy, so that a child above the caller's limit leaves nothing behind.
    let mut pool = state.pool.clone();
    let outcome = pool
        .accept_package(&state.chain, &txs, now)
        .map_err(|fault| RpcError::verify(format!("package topology disallowed: {fault}")))?;
    for one in outcome.txs.values() {
        if let PackageTx::Accepted { effective: Some((fee_sat, vsize, _)), .. } = one {
            if too_much(*fee_sat, *vsize, max_rate) {
                return Err(RpcError::verify(
                    "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
                ));
            }
        }
    }
    state.pool = pool;
    let mut results = Map::new();
    for tx in &txs {
        let wtxid = tx.compute_wtxid();
        let found = outcome.txs.get(&wtxid).unwrap_or(&PackageTx::NotValidated);
        results.insert(wtxid.to_string(), one_json(tx, found));
    }
    let replaced: Vec<String> = outcome.replaced.iter().map(ToString::to_string).collect();
    Ok(json!({
        "package_msg": outcome.failure.unwrap_or_else(|| "success".into()),
        "tx-results": results,
        "replaced-transactions": replaced,
    }))
}

fn one_json(tx: &Transaction, found: &PackageTx) -> Value {
    let mut fields = Map::new();
    fields.insert("txid".into(), json!(tx.compute_txid().to_string()));
    match found {
        PackageTx::Accepted { vsize, fee_sat, effective } => {
            let mut fees = Map::new();
            fees.insert("base".into(), amount(*fee_sat));
            if let Some((fee_sat, vsize, whose)) = effective {
                let whose: Vec<String> = whose.iter().map(ToString::to_string).collect();
                fees.insert("effective-feerate".into(), feerate(*fee_sat, *vsize));
                fees.insert("effective-includes".into(), json!(whose));
            }
            fields.insert("vsize".into(), json!(vsize));
            fields.insert("fees".into(), Value::Object(fees));
        }
        PackageTx::OtherWitness(wtxid) => {
            fields.insert("other-wtxid".into(), json!(wtxid.to_string()));
        }
        PackageTx::Rejected(reject) => {
            fields.insert("error".into(), json!(reject.to_string()));
        }
        PackageTx::NotValidated => {
            fields.insert("error".into(), json!("package-not-validated"));
        }
    }
    Value::Object(fields)
}
