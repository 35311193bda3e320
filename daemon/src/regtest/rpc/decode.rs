//! Transactions and scripts as JSON, field for field as bitcoind prints them.
//!
//! In: a transaction or a script. Out: JSON. Read next: `tx`, `blocks`.

use bitcoin::{Script, ScriptBuf, Transaction, TxOut};
use serde_json::{json, Map, Value};

use super::args::{transaction, Args};
use super::descriptor::{address_of, describe};
use super::error::RpcError;
use super::json::{amount, hex, unhex};
use crate::regtest::mempool::{read_op, Num, Op, ScriptKind};
use crate::regtest::node::Node;

/// A script in words: small pushes as numbers, others in hex; `signatures`: name hash types at their end.
pub fn assembly(script: &Script, signatures: bool) -> String {
    let bytes = script.as_bytes();
    let (mut position, mut words) = (0, Vec::new());
    while position < bytes.len() {
        let Some((op, next)) = read_op(bytes, position) else {
            words.push("[error]".to_owned());
            break;
        };
        position = next;
        words.push(match op {
            Op::Push { data, .. } if data.len() <= 4 => short_push(data),
            Op::Push { data, .. } => long_push(data, signatures && !script.is_op_return()),
            Op::Code(code) => opcode_name(code),
        });
    }
    words.join(" ")
}

fn short_push(data: &[u8]) -> String {
    // bitcoind reads these leniently: padding is no fault here.
    let mut trimmed = data.to_vec();
    while let Some((last, rest)) = trimmed.split_last() {
        let (last, sign) = (*last & 0x7f, *last & 0x80);
        if last != 0 || rest.last().is_some_and(|byte| byte & 0x80 != 0) {
            break;
        }
        trimmed.pop();
        if let Some(end) = trimmed.last_mut() {
            *end |= sign;
        }
    }
    Num::read(&trimmed, 4).unwrap_or(0).to_string()
}

fn long_push(data: &[u8], signatures: bool) -> String {
    if signatures {
        if let Some((hash_type, der)) = data.split_last() {
            let name = match hash_type {
                1 => "[ALL]",
                2 => "[NONE]",
                3 => "[SINGLE]",
                0x81 => "[ALL|ANYONECANPAY]",
                0x82 => "[NONE|ANYONECANPAY]",
                0x83 => "[SINGLE|ANYONECANPAY]",
                _ => "",
            };
            if !name.is_empty() && bitcoin::secp256k1::ecdsa::Signature::from_der(der).is_ok() {
                return format!("{}{name}", hex(der));
            }
        }
    }
    hex(data)
}

fn opcode_name(code: u8) -> String {
    match code {
        0x4f => "-1".into(),
        0x51..=0x60 => (code - 0x50).to_string(),
        0x50 => "OP_RESERVED".into(),
        0xb1 => "OP_CHECKLOCKTIMEVERIFY".into(),
        0xb2 => "OP_CHECKSEQUENCEVERIFY".into(),
        0xbb..=0xff => "OP_UNKNOWN".into(),
        _ => bitcoin::Opcode::from(code).to_string(),
    }
}

/// A scriptPubKey as JSON.
pub fn script_json(script: &Script) -> Value {
    let mut fields = Map::new();
    fields.insert("asm".into(), json!(assembly(script, false)));
    fields.insert("desc".into(), json!(describe(script)));
    fields.insert("hex".into(), json!(hex(script.as_bytes())));
    if let Some(address) = address_of(script) {
        fields.insert("address".into(), json!(address.to_string()));
    }
    fields.insert("type".into(), json!(ScriptKind::of(script).name()));
    Value::Object(fields)
}

/// What `vin` says of a spent output in the longest forms.
pub struct Prevout<'a> {
    /// The output.
    pub out: &'a TxOut,
    /// The height of the block that made it.
    pub height: u32,
    /// Made by a coinbase.
    pub coinbase: bool,
}

/// A transaction as JSON. With `prevouts`, one for each input, the fee is told; with `show`, they themselves, too.
pub fn tx_json(tx: &Transaction, prevouts: Option<&[Prevout<'_>]>, show: bool) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("txid".into(), json!(tx.compute_txid().to_string()));
    fields.insert("hash".into(), json!(tx.compute_wtxid().to_string()));
    fields.insert("version".into(), json!(tx.version.0.cast_unsigned()));
    fields.insert("size".into(), json!(tx.total_size()));
    fields.insert("vsize".into(), json!(tx.vsize()));
    fields.insert("weight".into(), json!(tx.weight().to_wu()));
    fields.insert("locktime".into(), json!(tx.lock_time.to_consensus_u32()));
    let inputs = tx.input.iter().enumerate().map(|(at, input)| {
        let prevout = prevouts.filter(|_| show).and_then(|prevouts| prevouts.get(at));
        input_json(tx.is_coinbase(), input, prevout)
    });
    fields.insert("vin".into(), inputs.collect());
    let outputs = tx.output.iter().enumerate().map(|(at, output)| {
        json!({"value": amount(output.value.to_sat()), "n": at, "scriptPubKey": script_json(&output.script_pubkey)})
    });
    fields.insert("vout".into(), outputs.collect());
    if let Some(prevouts) = prevouts.filter(|prevouts| prevouts.len() == tx.input.len()) {
        let paid = prevouts.iter().fold(0u64, |sum, one| sum.saturating_add(one.out.value.to_sat()));
        let taken = tx.output.iter().fold(0u64, |sum, one| sum.saturating_add(one.value.to_sat()));
        fields.insert("fee".into(), amount(paid.saturating_sub(taken)));
    }
    fields
}

fn input_json(coinbase: bool, input: &bitcoin::TxIn, prevout: Option<&Prevout<'_>>) -> Value {
    let mut fields = Map::new();
    if coinbase {
        fields.insert("coinbase".into(), json!(hex(input.script_sig.as_bytes())));
    } else {
        fields.insert("txid".into(), json!(input.previous_output.txid.to_string()));
        fields.insert("vout".into(), json!(input.previous_output.vout));
        let script = &input.script_sig;
        fields.insert(
            "scriptSig".into(),
            json!({"asm": assembly(script, true), "hex": hex(script.as_bytes())}),
        );
    }
    if !input.witness.is_empty() {
        fields.insert("txinwitness".into(), input.witness.iter().map(|item| json!(hex(item))).collect());
    }
    if let Some(prevout) = prevout {
        fields.insert(
            "prevout".into(),
            json!({
                "generated": prevout.coinbase,
                "height": prevout.height,
                "value": amount(prevout.out.value.to_sat()),
                "scriptPubKey": script_json(&prevout.out.script_pubkey),
            }),
        );
    }
    fields.insert("sequence".into(), json!(input.sequence.to_consensus_u32()));
    Value::Object(fields)
}

/// `decoderawtransaction`.
pub fn decode_raw_transaction(_: &Node, args: &Args) -> Result<Value, RpcError> {
    let tx = transaction(args.text(0)?).map_err(|_| RpcError::decode("TX decode failed"))?;
    Ok(Value::Object(tx_json(&tx, None, false)))
}

/// `decodescript`.
pub fn decode_script(_: &Node, args: &Args) -> Result<Value, RpcError> {
    let text = args.text(0)?;
    let bytes = unhex(text)
        .ok_or_else(|| RpcError::bad_value(format!("argument must be hexadecimal string (not '{text}')")))?;
    let script = ScriptBuf::from_bytes(bytes);
    let kind = ScriptKind::of(&script);
    let Value::Object(mut fields) = script_json(&script) else { return Ok(Value::Null) };
    fields.shift_remove("hex");
    let wrappable = matches!(
        kind,
        ScriptKind::PubKey(_)
            | ScriptKind::PubKeyHash
            | ScriptKind::Multisig { .. }
            | ScriptKind::Nonstandard
            | ScriptKind::WitnessV0KeyHash
            | ScriptKind::WitnessV0ScriptHash
    );
    if !wrappable || script.len() > 10_000 || script.is_op_return() {
        return Ok(Value::Object(fields));
    }
    let address = |script: &Script| address_of(script).map(|address| json!(address.to_string()));
    fields.insert("p2sh".into(), address(&script.to_p2sh()).unwrap_or(Value::Null));
    if script.is_witness_program() {
        return Ok(Value::Object(fields));
    }
    let segwit = match &kind {
        ScriptKind::PubKey(key) => match key.wpubkey_hash() {
            Ok(hash) => ScriptBuf::new_p2wpkh(&hash),
            Err(_) => return Ok(Value::Object(fields)),
        },
        ScriptKind::PubKeyHash => {
            let mut program = vec![0, 20];
            program.extend_from_slice(script.as_bytes().get(3..23).unwrap_or_default());
            ScriptBuf::from_bytes(program)
        }
        _ => script.to_p2wsh(),
    };
    let Value::Object(mut inner) = script_json(&segwit) else { return Ok(Value::Object(fields)) };
    inner.insert("p2sh-segwit".into(), address(&segwit.to_p2sh()).unwrap_or(Value::Null));
    fields.insert("segwit".into(), Value::Object(inner));
    Ok(Value::Object(fields))
}
