//! Commands of the faucet wallet. It is there from the start; every wallet name means it.
//!
//! In: addresses and amounts. Out: JSON. Read next: `faucet`, `faucet_spend`.

use bitcoin::{Address, Amount, Network, TxOut};
use serde_json::{json, Value};

use super::args::Args;
use super::descriptor::{describe, script_of_address};
use super::error::RpcError;
use super::json::{amount, hex, parse_amount};
use crate::regtest::faucet_spend::Payment;
use crate::regtest::mempool::ScriptKind;
use crate::regtest::node::{Node, State};

/// What the faucet pays without being told otherwise, in satoshi per 1000 virtual bytes.
const DEFAULT_RATE_SAT_KVB: u64 = 2_000;
const MAX_RATE_SAT_KVB: u64 = 10_000_000;
const MAX_WALLETS: usize = 1_000;
const MAX_NAME_BYTES: usize = 255;

fn add_name(state: &mut State, name: &str) -> Result<Value, RpcError> {
    if state.wallets.len() >= MAX_WALLETS || name.len() > MAX_NAME_BYTES {
        return Err(RpcError::wallet("Too many wallet names, or one too long"));
    }
    state.wallets.insert(name.to_owned());
    Ok(json!({"name": name}))
}

/// `createwallet`.
pub fn create_wallet(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let name = args.text(0)?;
    let mut state = node.lock()?;
    if state.wallets.contains(name) {
        return Err(RpcError::wallet(format!(
            "Wallet file verification failed. Failed to create database path '{name}'. Database already exists."
        )));
    }
    add_name(&mut state, name)
}

/// `loadwallet`.
pub fn load_wallet(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let name = args.text(0)?;
    let mut state = node.lock()?;
    if state.wallets.contains(name) {
        return Err(RpcError::loaded(format!("Wallet \"{name}\" is already loaded.")));
    }
    add_name(&mut state, name)
}

/// `unloadwallet`.
pub fn unload_wallet(node: &Node, args: &Args) -> Result<Value, RpcError> {
    if let Some(name) = args.text_opt(0)? {
        node.lock()?.wallets.remove(name);
    }
    Ok(json!({}))
}

/// `listwallets`.
pub fn list_wallets(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let state = node.lock()?;
    let names: Vec<&String> = state.wallets.iter().collect();
    Ok(if names.is_empty() { json!([""]) } else { json!(names) })
}

/// `getwalletinfo`.
pub fn get_wallet_info(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let state = node.lock()?;
    let balance = state.faucet.balance(&state.chain, &state.pool);
    Ok(json!({
        "walletname": "",
        "walletversion": 169_900,
        "format": "chand",
        "balance": amount(balance.trusted_sat),
        "unconfirmed_balance": amount(balance.pending_sat),
        "immature_balance": amount(balance.immature_sat),
        "txcount": 0,
        "keypoolsize": 200,
        "keypoolsize_hd_internal": 200,
        "private_keys_enabled": true,
        "scanning": false,
        "descriptors": true,
    }))
}

/// `getnewaddress`: always P2WPKH.
pub fn get_new_address(node: &Node, args: &Args) -> Result<Value, RpcError> {
    match args.text_opt(1)? {
        None | Some("bech32") => {}
        Some("legacy" | "p2sh-segwit" | "bech32m") => {
            return Err(RpcError::bad_value("The faucet has bech32 addresses only"));
        }
        Some(other) => return Err(RpcError::not_found(format!("Unknown address type '{other}'"))),
    }
    let script = node.lock()?.faucet.new_script()?;
    let address = Address::from_script(&script, Network::Regtest);
    let address = address.map_err(|fault| RpcError::internal(fault.to_string()))?;
    Ok(json!(address.to_string()))
}

/// `getbalance`.
pub fn get_balance(node: &Node, args: &Args) -> Result<Value, RpcError> {
    if args.text_opt(0)?.is_some_and(|dummy| dummy != "*") {
        return Err(RpcError::wrong_type("dummy first argument must be excluded or set to \"*\"."));
    }
    let min_depth = args.number_or(1, 0)?;
    let state = node.lock()?;
    if min_depth <= 0 {
        return Ok(amount(state.faucet.balance(&state.chain, &state.pool).trusted_sat));
    }
    let (confirmed, _, _) = state.faucet.list(&state.chain, &state.pool);
    let deep = confirmed.iter().filter(|coin| !coin.immature && i64::from(coin.confirmations) >= min_depth);
    Ok(amount(deep.fold(0, |sum, coin| sum + coin.value_sat)))
}

/// `getbalances`.
pub fn get_balances(node: &Node, _: &Args) -> Result<Value, RpcError> {
    let state = node.lock()?;
    let balance = state.faucet.balance(&state.chain, &state.pool);
    let tip = state.chain.tip();
    Ok(json!({
        "mine": {
            "trusted": amount(balance.trusted_sat),
            "untrusted_pending": amount(balance.pending_sat),
            "immature": amount(balance.immature_sat),
        },
        "lastprocessedblock": {"hash": tip.hash.to_string(), "height": tip.height},
    }))
}

/// `listunspent`.
pub fn list_unspent(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let (least, most) = (args.number_or(0, 1)?, args.number_or(1, 9_999_999)?);
    let state = node.lock()?;
    let (confirmed, ours, theirs) = state.faucet.list(&state.chain, &state.pool);
    let safe = confirmed.len() + ours.len();
    let all = confirmed.into_iter().chain(ours).chain(theirs).enumerate();
    let wanted =
        all.filter(|(_, coin)| !coin.immature && (least..=most).contains(&i64::from(coin.confirmations)));
    let coins = wanted.map(|(at, coin)| {
        json!({
            "txid": coin.outpoint.txid.to_string(),
            "vout": coin.outpoint.vout,
            "address": Address::from_script(&coin.script, Network::Regtest).ok().map(|address| address.to_string()),
            "scriptPubKey": hex(coin.script.as_bytes()),
            "amount": amount(coin.value_sat),
            "confirmations": coin.confirmations,
            "spendable": true,
            "solvable": true,
            "desc": describe(&coin.script),
            "safe": at < safe,
        })
    });
    Ok(coins.collect())
}

/// `sendtoaddress`.
pub fn send_to_address(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let address = args.text(0)?;
    let script_pubkey = script_of_address(address)
        .ok_or_else(|| RpcError::not_found(format!("Invalid Bitcoin address: {address}")))?;
    let value = args.get(1).ok_or_else(|| RpcError::misc("sendtoaddress \"address\" amount"))?;
    let value = Amount::from_sat(parse_amount(value)?);
    if value == Amount::ZERO {
        return Err(RpcError::wrong_type("Invalid amount for send"));
    }
    let subtract_fee = args.flag_or(4, false)?;
    // In satoshi per virtual byte, with up to three decimals.
    let rate = match args.get(9) {
        None => None,
        Some(rate) => Some(parse_amount(rate)? / 100_000),
    };
    if rate.is_some_and(|rate| rate > MAX_RATE_SAT_KVB) {
        return Err(RpcError::wallet("Fee exceeds maximum configured by user (maxtxfee)"));
    }
    let verbose = args.flag_or(10, false)?;
    let mut state = node.lock()?;
    let floor = state.pool.policy.entry_sat_kvb();
    let rate_sat_kvb = rate.unwrap_or(DEFAULT_RATE_SAT_KVB.max(state.fee_estimate.unwrap_or(0))).max(floor);
    let outputs = vec![TxOut { value, script_pubkey }];
    let txid = state.pay(&Payment { outputs, subtract_fee, rate_sat_kvb })?;
    if verbose {
        return Ok(json!({"txid": txid.to_string(), "fee_reason": "Fallback fee"}));
    }
    Ok(json!(txid.to_string()))
}

/// `validateaddress`.
pub fn validate_address(_: &Node, args: &Args) -> Result<Value, RpcError> {
    let text = args.text(0)?;
    let Some(script) = script_of_address(text) else {
        return Ok(
            json!({"isvalid": false, "error_locations": [], "error": "Invalid or unsupported address"}),
        );
    };
    let mut fields = json!({
        "isvalid": true,
        "address": text,
        "scriptPubKey": hex(script.as_bytes()),
        "isscript": matches!(
            ScriptKind::of(&script),
            ScriptKind::ScriptHash | ScriptKind::WitnessV0ScriptHash | ScriptKind::WitnessV1Taproot
        ),
        "iswitness": script.is_witness_program(),
    });
    if let (Some(version), Some(object)) = (script.witness_version(), fields.as_object_mut()) {
        object.insert("witness_version".into(), json!(version.to_num()));
        object.insert("witness_program".into(), json!(hex(script.as_bytes().get(2..).unwrap_or_default())));
    }
    Ok(fields)
}
