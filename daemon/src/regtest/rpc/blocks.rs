//! Commands that read the chain.
//!
//! In: heights, hashes, outpoints. Out: JSON. Read next: `blocks_json`, `mining` for what changes the chain.

use bitcoin::consensus::encode::serialize;
use bitcoin::OutPoint;
use serde_json::{json, Value};

use super::args::Args;
use super::blocks_json::{bits, block_json, difficulty, header_json, target, Detail};
use super::decode::script_json;
use super::descriptor::script_of;
use super::error::RpcError;
use super::json::{amount, hex};
use crate::regtest::consensus::BlockInfo;
use crate::regtest::node::{Node, State};

/// The index entry of a block.
pub fn info_of(state: &State, hash: &bitcoin::BlockHash) -> Result<BlockInfo, RpcError> {
    state.chain.info(hash).ok_or_else(|| RpcError::not_found("Block not found"))
}

fn tip_info(state: &State) -> Result<BlockInfo, RpcError> {
    info_of(state, &state.chain.tip().hash)
}

/// `getbestblockhash`.
pub fn get_best_block_hash(node: &Node, _: &Args) -> Result<Value, RpcError> {
    Ok(json!(node.lock()?.chain.tip().hash.to_string()))
}

/// `getblockcount`.
pub fn get_block_count(node: &Node, _: &Args) -> Result<Value, RpcError> {
    Ok(json!(node.lock()?.chain.tip().height))
}

/// `getblockhash`.
pub fn get_block_hash(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let height = u32::try_from(args.number(0)?).ok();
    let state = node.lock()?;
    match height.and_then(|height| state.chain.block_hash(height)) {
        Some(hash) => Ok(json!(hash.to_string())),
        None => Err(RpcError::bad_value("Block height out of range")),
    }
}

/// `getblockchaininfo`.
pub fn get_blockchain_info(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let state = node.lock()?;
    let tip = tip_info(&state)?;
    let mut answer = json!({
        "chain": "regtest",
        "blocks": tip.height,
        "headers": tip.height,
        "bestblockhash": tip.hash.to_string(),
        "bits": bits(&tip),
        "target": target(&tip),
        "difficulty": difficulty(&tip),
        "time": tip.header.time,
        "mediantime": tip.median_time,
        "verificationprogress": 1,
        "initialblockdownload": false,
        "chainwork": hex(&tip.chainwork.to_be_bytes()),
        "size_on_disk": state.chain.size_on_disk(),
        "pruned": state.pruned > 0,
        "warnings": [],
    });
    if state.pruned > 0 {
        answer["pruneheight"] = json!(state.pruned);
    }
    Ok(answer)
}

/// `pruneblockchain`: acts as if blocks up to a height were gone; answers with that height.
pub fn prune_block_chain(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let mut state = node.lock()?;
    let tip = state.chain.tip().height;
    let height = u32::try_from(args.number(0)?).ok().filter(|height| *height <= tip);
    let height = height
        .ok_or_else(|| RpcError::bad_value("Blockchain is shorter than the attempted prune height."))?;
    state.pruned = state.pruned.max(height.saturating_add(1));
    Ok(json!(height))
}

/// `getblock`.
pub fn get_block(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let hash = args.block_hash(0)?;
    let verbosity = args.verbosity_or(1, 1)?;
    let state = node.lock()?;
    let info = info_of(&state, &hash)?;
    if info.height < state.pruned {
        return Err(RpcError::misc("Block not available (pruned data)"));
    }
    let block = state.chain.block(&hash).ok_or_else(|| RpcError::misc("Block not available"))?;
    if verbosity <= 0 {
        drop(state);
        return Ok(json!(hex(&serialize(&*block))));
    }
    let detail = match verbosity {
        1 => Detail::Ids,
        2 => Detail::Txs,
        _ => Detail::Prevouts,
    };
    Ok(block_json(&state.chain, &info, &block, detail))
}

/// `getblockheader`.
pub fn get_block_header(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let hash = args.block_hash(0)?;
    let verbose = args.flag_or(1, true)?;
    let info = info_of(&*node.lock()?, &hash)?;
    Ok(if verbose { Value::Object(header_json(&info)) } else { json!(hex(&serialize(&info.header))) })
}

/// `getchaintips`.
pub fn get_chain_tips(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let tips = node.lock()?.chain.chain_tips();
    let tips = tips.iter().map(|tip| {
        json!({
            "height": tip.height,
            "hash": tip.hash.to_string(),
            "branchlen": tip.branch_len,
            "status": tip.status.as_str(),
        })
    });
    Ok(tips.collect())
}

/// `gettxout`.
pub fn get_tx_out(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let txid = args.txid(0)?;
    let Ok(vout) = u32::try_from(args.number(1)?) else { return Ok(Value::Null) };
    let with_pool = args.flag_or(2, true)?;
    let state = node.lock()?;
    let outpoint = OutPoint { txid, vout };
    let tip = state.chain.tip();
    let unconfirmed = state.pool.output(&outpoint).filter(|_| with_pool);
    if with_pool && state.pool.spender(&outpoint).is_some() {
        return Ok(Value::Null);
    }
    let (out, confirmations, coinbase) = match (unconfirmed, state.chain.coin(&outpoint)) {
        (Some(out), _) => (out.clone(), 0, false),
        (None, Some(coin)) => {
            (coin.out, tip.height.saturating_sub(coin.height).saturating_add(1), coin.coinbase)
        }
        (None, None) => return Ok(Value::Null),
    };
    Ok(json!({
        "bestblock": tip.hash.to_string(),
        "confirmations": confirmations,
        "value": amount(out.value.to_sat()),
        "scriptPubKey": script_json(&out.script_pubkey),
        "coinbase": coinbase,
    }))
}

/// `scantxoutset start`, for addresses and the descriptors `addr(…)` and `raw(…)`.
pub fn scan_tx_out_set(node: &Node, args: &Args) -> Result<Value, RpcError> {
    match args.text(0)? {
        "start" => {}
        "status" => return Ok(Value::Null),
        "abort" => return Ok(json!(false)),
        other => return Err(RpcError::bad_value(format!("Invalid action '{other}'"))),
    }
    let mut wanted = std::collections::BTreeMap::new();
    for object in args.list(1)? {
        let text = object.as_str().or_else(|| object.get("desc")?.as_str());
        let text =
            text.ok_or_else(|| RpcError::bad_value("Scan object needs to be either a string or an object"))?;
        wanted.insert(script_of(text)?, text.to_owned());
    }
    let state = node.lock()?;
    let tip = state.chain.tip();
    let (mut scanned, mut total, mut unspents) = (0u64, 0u64, Vec::new());
    for (outpoint, coin) in state.chain.coins() {
        scanned += 1;
        let Some(desc) = wanted.get(&coin.out.script_pubkey) else { continue };
        total = total.saturating_add(coin.out.value.to_sat());
        unspents.push(json!({
            "txid": outpoint.txid.to_string(),
            "vout": outpoint.vout,
            "scriptPubKey": hex(coin.out.script_pubkey.as_bytes()),
            "desc": desc,
            "amount": amount(coin.out.value.to_sat()),
            "coinbase": coin.coinbase,
            "height": coin.height,
            "blockhash": state.chain.block_hash(coin.height).map(|hash| hash.to_string()),
            "confirmations": tip.height.saturating_sub(coin.height).saturating_add(1),
        }));
    }
    Ok(json!({
        "success": true,
        "txouts": scanned,
        "height": tip.height,
        "bestblock": tip.hash.to_string(),
        "unspents": unspents,
        "total_amount": amount(total),
    }))
}
