//! Commands that change the chain: mining, blocks from outside, forced reorganisations.
//!
//! In: addresses, transactions, blocks. Out: hashes. Read next: `node` (`generate`, `follow`).

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Block, Transaction};
use serde_json::{json, Value};

use super::args::{transaction, Args};
use super::blocks::info_of;
use super::blocks_json::{bits, difficulty, target};
use super::descriptor::{script_of, script_of_address};
use super::error::RpcError;
use super::json::{hex, unhex};
use crate::regtest::consensus::ChainError;
use crate::regtest::node::{Node, State};

const MAX_BLOCKS: u32 = 100_000;

/// `generatetoaddress`.
pub fn generate_to_address(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let blocks = args.number(0)?;
    let address = args.text(1)?;
    let script = script_of_address(address).ok_or_else(|| RpcError::not_found("Error: Invalid address"))?;
    // bitcoind mines nothing for a number below one.
    let blocks = u32::try_from(blocks.max(0)).ok().filter(|blocks| *blocks <= MAX_BLOCKS);
    let blocks =
        blocks.ok_or_else(|| RpcError::bad_value(format!("at most {MAX_BLOCKS} blocks in one call")))?;
    let mined = node.generate(&script, blocks)?;
    let hashes = mined
        .map_err(|reject| RpcError::internal(format!("ProcessNewBlock, block not accepted: {reject}")))?;
    Ok(hashes.iter().map(|hash| json!(hash.to_string())).collect())
}

/// `generateblock`: exactly these transactions, in this order.
pub fn generate_block(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let script = script_of(args.text(0)?)?;
    let submit = args.flag_or(2, true)?;
    let mut state = node.lock()?;
    let state = &mut *state;
    let txs =
        args.list(1)?.iter().map(|element| pick(state, element)).collect::<Result<Vec<_>, RpcError>>()?;
    let now = state.now_u32();
    let invalid =
        |reject: &dyn std::fmt::Display| RpcError::verify(format!("TestBlockValidity failed: {reject}"));
    let block = state.chain.assemble(&script, txs, now).map_err(|reject| invalid(&reject))?;
    let hash = block.block_hash().to_string();
    if !submit {
        state.chain.check_block(&block, now).map_err(|reject| invalid(&reject))?;
        return Ok(json!({"hash": hash, "hex": hex(&serialize(&block))}));
    }
    let change = state.chain.submit_at(block, now).map_err(|reject| invalid(&reject))?;
    node.follow(state, &change);
    Ok(json!({"hash": hash}))
}

fn pick(state: &State, element: &Value) -> Result<Transaction, RpcError> {
    let text = element.as_str().ok_or_else(|| RpcError::wrong_type("transactions must be strings"))?;
    if let Ok(txid) = text.parse() {
        let entry = state.pool.get(&txid);
        let entry =
            entry.ok_or_else(|| RpcError::not_found(format!("Transaction {text} not in mempool.")))?;
        return Ok(Transaction::clone(&entry.tx));
    }
    transaction(text).map_err(|_| {
        RpcError::decode(format!(
            "Transaction decode failed for {text}. Make sure the tx has at least one input."
        ))
    })
}

/// `submitblock`: null, or bitcoind's word for what is wrong (BIP 22).
pub fn submit_block(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let block: Option<Block> = unhex(args.text(0)?).and_then(|bytes| deserialize(&bytes).ok());
    let block = block.ok_or_else(|| RpcError::decode("Block decode failed"))?;
    let mut state = node.lock()?;
    let state = &mut *state;
    let now = state.now_u32();
    match state.chain.submit_at(block, now) {
        Ok(change) => {
            let joined = !change.connected.is_empty();
            node.follow(state, &change);
            Ok(if joined { Value::Null } else { json!("inconclusive") })
        }
        Err(reject) => Ok(json!(reject.reason())),
    }
}

fn chain_fault(fault: ChainError) -> RpcError {
    match fault {
        ChainError::UnknownBlock => RpcError::not_found("Block not found"),
        other => RpcError::internal(other.to_string()),
    }
}

/// `invalidateblock`.
pub fn invalidate_block(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let hash = args.block_hash(0)?;
    let mut state = node.lock()?;
    let state = &mut *state;
    let change = state.chain.invalidate(&hash).map_err(chain_fault)?;
    node.follow(state, &change);
    Ok(Value::Null)
}

/// `reconsiderblock`.
pub fn reconsider_block(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let hash = args.block_hash(0)?;
    let mut state = node.lock()?;
    let state = &mut *state;
    let change = state.chain.reconsider(&hash).map_err(chain_fault)?;
    node.follow(state, &change);
    Ok(Value::Null)
}

/// `getmininginfo`.
pub fn get_mining_info(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let state = node.lock()?;
    let tip = info_of(&state, &state.chain.tip().hash)?;
    Ok(json!({
        "blocks": tip.height,
        "bits": bits(&tip),
        "difficulty": difficulty(&tip),
        "target": target(&tip),
        "networkhashps": 0,
        "pooledtx": state.pool.len(),
        "chain": "regtest",
        "warnings": [],
    }))
}

/// `setmocktime`.
pub fn set_mock_time(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let time = u64::try_from(args.number(0)?).ok().filter(|time| *time <= u64::from(u32::MAX));
    let time = time.ok_or_else(|| RpcError::bad_value("Mocktime must be in the range [0, 4294967295]"))?;
    node.lock()?.mock_time = (time > 0).then_some(time);
    Ok(Value::Null)
}
