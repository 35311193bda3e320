//! Commands that find and make raw transactions.
//!
//! In: ids, inputs, outputs. Out: JSON or hex. Read next: `decode`, `send`.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use serde_json::{json, Map, Value};

use super::args::{hash_of, Args};
use super::blocks::info_of;
use super::blocks_json::with_hex;
use super::descriptor::script_of_address;
use super::error::RpcError;
use super::json::{hex, parse_amount, unhex};
use crate::regtest::consensus::{BlockStatus, Coin};
use crate::regtest::node::{Node, State};

/// `getrawtransaction`.
pub fn get_raw_transaction(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let txid = args.txid(0)?;
    let verbosity = args.verbosity_or(1, 0)?;
    let state = node.lock()?;
    let state = &*state;
    let given = args.get(2).map(|_| args.block_hash(2)).transpose()?;
    let block_hash = match given {
        Some(hash) => {
            if state.chain.info(&hash).is_none() {
                return Err(RpcError::not_found("Block hash not found"));
            }
            Some(hash)
        }
        // A pruning node has no index of transactions.
        None if state.pruned > 0 => None,
        None => state.chain.find_tx(&txid).map(|(hash, _, _)| hash),
    };
    let pooled = if given.is_none() { state.pool.get(&txid) } else { None };
    let (tx, coins): (Transaction, Option<Vec<Coin>>) = match (pooled, block_hash) {
        (Some(entry), _) => {
            let inputs = entry.tx.input.iter();
            let coins = inputs.map(|input| state.pool.coin(&state.chain, &input.previous_output)).collect();
            (Transaction::clone(&entry.tx), coins)
        }
        (None, Some(hash)) => confirmed(state, &hash, &txid)
            .ok_or_else(|| RpcError::not_found("No such transaction found in the provided block. Use gettransaction for wallet transactions."))?,
        (None, None) => {
            return Err(RpcError::not_found(
                "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
            ));
        }
    };
    if verbosity <= 0 {
        return Ok(json!(hex(&serialize(&tx))));
    }
    let coins = coins.filter(|_| verbosity >= 2);
    let Value::Object(fields) = with_hex(&tx, coins.as_deref(), true) else { return Ok(Value::Null) };
    let mut all = Map::new();
    let found_in = if pooled.is_some() { None } else { block_hash };
    let info = found_in.map(|hash| info_of(state, &hash)).transpose()?;
    if let (Some(_), Some(info)) = (given, &info) {
        all.insert("in_active_chain".into(), json!(info.status == BlockStatus::Active));
    }
    all.extend(fields);
    if let Some(info) = info {
        all.insert("blockhash".into(), json!(info.hash.to_string()));
        all.insert("confirmations".into(), json!(info.confirmations.max(0)));
        if info.confirmations > 0 {
            all.insert("time".into(), json!(info.header.time));
            all.insert("blocktime".into(), json!(info.header.time));
        }
    }
    Ok(Value::Object(all))
}

/// A transaction of a block, with the coins it spent where they are known.
fn confirmed(
    state: &State,
    hash: &bitcoin::BlockHash,
    txid: &bitcoin::Txid,
) -> Option<(Transaction, Option<Vec<Coin>>)> {
    let block = state.chain.block(hash)?;
    let at = block.txdata.iter().position(|tx| tx.compute_txid() == *txid)?;
    let tx = block.txdata.get(at)?;
    let before: usize = block.txdata.iter().take(at).skip(1).map(|tx| tx.input.len()).sum();
    let coins = if tx.is_coinbase() {
        None
    } else {
        let end = before.saturating_add(tx.input.len());
        state.chain.spent_coins(hash).and_then(|spent| spent.get(before..end)).map(<[Coin]>::to_vec)
    };
    Some((tx.clone(), coins))
}

/// `createrawtransaction`.
pub fn create_raw_transaction(_: &Node, args: &Args) -> Result<Value, RpcError> {
    let lock_time = u32::try_from(args.number_or(2, 0)?)
        .map_err(|_| RpcError::bad_value("Invalid parameter, locktime out of range"))?;
    let replaceable = args.flag_or(3, true)?;
    let version = i32::try_from(args.number_or(4, 2)?).ok().filter(|version| (1..=3).contains(version));
    let version =
        version.ok_or_else(|| RpcError::bad_value("Invalid parameter, version out of range(1~3)"))?;
    let default_sequence = match (replaceable, lock_time) {
        (true, _) => Sequence::ENABLE_RBF_NO_LOCKTIME,
        (false, 0) => Sequence::MAX,
        (false, _) => Sequence::ENABLE_LOCKTIME_NO_RBF,
    };
    let inputs = args.list(0)?.iter().map(|input| input_of(input, default_sequence));
    let tx = Transaction {
        version: Version(version),
        lock_time: LockTime::from_consensus(lock_time),
        input: inputs.collect::<Result<_, _>>()?,
        output: outputs_of(args.get(1))?,
    };
    Ok(json!(hex(&serialize(&tx))))
}

fn input_of(value: &Value, default_sequence: Sequence) -> Result<TxIn, RpcError> {
    let txid = value.get("txid").and_then(Value::as_str);
    let txid = txid.ok_or_else(|| RpcError::bad_value("Invalid parameter, missing txid key"))?;
    let vout = value.get("vout").and_then(Value::as_i64);
    let vout = vout.ok_or_else(|| RpcError::bad_value("Invalid parameter, missing vout key"))?;
    let vout =
        u32::try_from(vout).map_err(|_| RpcError::bad_value("Invalid parameter, vout cannot be negative"))?;
    let sequence = match value.get("sequence") {
        None | Some(Value::Null) => default_sequence,
        Some(number) => {
            let number = number.as_u64().and_then(|number| u32::try_from(number).ok());
            let fault = || RpcError::bad_value("Invalid parameter, sequence number is out of range");
            Sequence(number.ok_or_else(fault)?)
        }
    };
    Ok(TxIn {
        previous_output: OutPoint { txid: hash_of(txid, "txid")?, vout },
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::new(),
    })
}

/// Outputs as a list of objects or as one object: addresses with amounts, and `data` with hex.
pub fn outputs_of(value: Option<&Value>) -> Result<Vec<TxOut>, RpcError> {
    let objects: Vec<&Map<String, Value>> = match value {
        Some(Value::Object(object)) => vec![object],
        Some(Value::Array(list)) => {
            let objects: Option<Vec<_>> = list.iter().map(Value::as_object).collect();
            objects.ok_or_else(|| {
                RpcError::bad_value("Invalid parameter, key-value pair not an object as expected")
            })?
        }
        _ => return Err(RpcError::bad_value("Invalid parameter, output argument must be non-null")),
    };
    let mut outputs = Vec::new();
    for (name, value) in objects.into_iter().flatten() {
        outputs.push(if name == "data" { data_output(value)? } else { pay_output(name, value)? });
    }
    Ok(outputs)
}

fn data_output(value: &Value) -> Result<TxOut, RpcError> {
    let bytes = value.as_str().and_then(unhex);
    let push = bytes.and_then(|bytes| PushBytesBuf::try_from(bytes).ok());
    let push = push.ok_or_else(|| RpcError::bad_value("Data must be hexadecimal string"))?;
    Ok(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(push) })
}

fn pay_output(address: &str, value: &Value) -> Result<TxOut, RpcError> {
    let script_pubkey = script_of_address(address)
        .ok_or_else(|| RpcError::not_found(format!("Invalid Bitcoin address: {address}")))?;
    Ok(TxOut { value: Amount::from_sat(parse_amount(value)?), script_pubkey })
}
