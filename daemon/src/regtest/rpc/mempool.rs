//! Commands that read the pool, and the two that set what a busy network would set.
//!
//! In: ids. Out: JSON. Read next: `send`, `package`.

use bitcoin::{OutPoint, Txid};
use serde_json::{json, Map, Value};

use super::args::{hash_of, Args};
use super::error::RpcError;
use super::json::amount;
use crate::regtest::mempool::{Entry, Mempool, MAX_POOL_VBYTES};
use crate::regtest::node::Node;

fn entry_json(pool: &Mempool, entry: &Entry) -> Value {
    let ancestors = pool.totals(&pool.ancestors(&entry.tx));
    let descendants = pool.totals(&pool.descendants(&entry.txid));
    let names = |txids: std::collections::BTreeSet<Txid>| -> Vec<String> {
        txids.iter().map(ToString::to_string).collect()
    };
    json!({
        "vsize": entry.vsize,
        "weight": entry.weight,
        "time": entry.time,
        "height": entry.height,
        "descendantcount": descendants.count,
        "descendantsize": descendants.vsize,
        "ancestorcount": ancestors.count + 1,
        "ancestorsize": ancestors.vsize + entry.vsize,
        "wtxid": entry.wtxid.to_string(),
        "fees": {
            "base": amount(entry.fee_sat),
            "modified": amount(entry.fee_sat),
            "ancestor": amount(ancestors.fee_sat.saturating_add(entry.fee_sat)),
            "descendant": amount(descendants.fee_sat),
        },
        "depends": names(pool.parents(&entry.tx)),
        "spentby": names(pool.children(&entry.txid)),
        "bip125-replaceable": pool.signals_replacement(entry),
        "unbroadcast": false,
    })
}

fn list(pool: &Mempool, txids: impl Iterator<Item = Txid>, verbose: bool) -> Value {
    if !verbose {
        return txids.map(|txid| json!(txid.to_string())).collect();
    }
    let entries = txids.filter_map(|txid| pool.get(&txid));
    let fields: Map<String, Value> =
        entries.map(|entry| (entry.txid.to_string(), entry_json(pool, entry))).collect();
    Value::Object(fields)
}

fn missing() -> RpcError {
    RpcError::not_found("Transaction not in mempool")
}

/// `getrawmempool`.
pub fn get_raw_mempool(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let verbose = args.flag_or(0, false)?;
    let with_sequence = args.flag_or(1, false)?;
    if verbose && with_sequence {
        return Err(RpcError::bad_value("Verbose results cannot contain mempool sequence values."));
    }
    let state = node.lock()?;
    let all = list(&state.pool, state.pool.entries().map(|entry| entry.txid), verbose);
    if with_sequence {
        return Ok(json!({"txids": all, "mempool_sequence": state.pool.sequence()}));
    }
    Ok(all)
}

/// `getmempoolentry`.
pub fn get_mempool_entry(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let txid = args.txid(0)?;
    let state = node.lock()?;
    let entry = state.pool.get(&txid).ok_or_else(missing)?;
    Ok(entry_json(&state.pool, entry))
}

/// `getmempoolancestors`.
pub fn get_mempool_ancestors(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let (txid, verbose) = (args.txid(0)?, args.flag_or(1, false)?);
    let state = node.lock()?;
    let entry = state.pool.get(&txid).ok_or_else(missing)?;
    Ok(list(&state.pool, state.pool.ancestors(&entry.tx).into_iter(), verbose))
}

/// `getmempooldescendants`.
pub fn get_mempool_descendants(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let (txid, verbose) = (args.txid(0)?, args.flag_or(1, false)?);
    let state = node.lock()?;
    state.pool.get(&txid).ok_or_else(missing)?;
    let below = state.pool.descendants(&txid).into_iter().filter(|one| *one != txid);
    Ok(list(&state.pool, below, verbose))
}

/// `getmempoolinfo`.
pub fn get_mempool_info(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let state = node.lock()?;
    let (pool, policy) = (&state.pool, &state.pool.policy);
    let total = pool.entries().fold(0u64, |sum, entry| sum.saturating_add(entry.fee_sat));
    let usage: u64 = pool.entries().map(|entry| entry.weight).sum();
    Ok(json!({
        "loaded": true,
        "size": pool.len(),
        "bytes": pool.vbytes(),
        "usage": usage,
        "total_fee": amount(total),
        "maxmempool": MAX_POOL_VBYTES * 4,
        "mempoolminfee": amount(policy.entry_sat_kvb()),
        "minrelaytxfee": amount(policy.min_relay_sat_kvb),
        "incrementalrelayfee": amount(policy.incremental_sat_kvb),
        "unbroadcastcount": 0,
        "fullrbf": true,
        "permitbaremultisig": policy.permit_bare_multisig,
        "maxdatacarriersize": policy.data_carrier_bytes,
    }))
}

/// `gettxspendingprevout`.
pub fn get_tx_spending_prevout(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let outputs = args.list(0)?;
    if outputs.is_empty() {
        return Err(RpcError::bad_value("Invalid parameter, outputs are missing"));
    }
    let state = node.lock()?;
    let mut answers = Vec::new();
    for output in outputs {
        let txid = output.get("txid").and_then(Value::as_str);
        let txid: Txid = hash_of(txid.ok_or_else(|| RpcError::wrong_type("Missing txid"))?, "txid")?;
        let vout = output.get("vout").and_then(Value::as_i64);
        let vout = vout.ok_or_else(|| RpcError::wrong_type("Missing vout"))?;
        let vout = u32::try_from(vout)
            .map_err(|_| RpcError::bad_value("Invalid parameter, vout cannot be negative"))?;
        let mut answer = json!({"txid": txid.to_string(), "vout": vout});
        if let (Some(spender), Some(fields)) =
            (state.pool.spender(&OutPoint { txid, vout }), answer.as_object_mut())
        {
            fields.insert("spendingtxid".into(), json!(spender.to_string()));
        }
        answers.push(answer);
    }
    Ok(Value::Array(answers))
}

/// `estimatesmartfee`: what was set, or bitcoind's word for a chain without traffic.
pub fn estimate_smart_fee(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let target = args.number(0)?;
    if !(1..=1008).contains(&target) {
        return Err(RpcError::bad_value("Invalid conf_target, must be between 1 and 1008"));
    }
    if let Some(mode) = args.text_opt(1)? {
        if !["unset", "economical", "conservative"].contains(&mode.to_ascii_lowercase().as_str()) {
            return Err(RpcError::bad_value(
                "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"",
            ));
        }
    }
    let state = node.lock()?;
    Ok(match state.fee_estimate {
        Some(rate) => {
            json!({"feerate": amount(rate.max(state.pool.policy.entry_sat_kvb())), "blocks": target})
        }
        None => json!({"errors": ["Insufficient data or no feerate found"], "blocks": target}),
    })
}

/// `setfeeestimate` (not in bitcoind).
pub fn set_fee_estimate(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let rate = args.amount_opt(0)?;
    node.lock()?.fee_estimate = rate;
    Ok(Value::Null)
}

/// `setmempoolminfee` (not in bitcoind): what is in the pool stays there.
pub fn set_mempool_min_fee(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let rate = args.amount_opt(0)?.unwrap_or(0);
    node.lock()?.pool.policy.floor_sat_kvb = rate;
    Ok(Value::Null)
}
