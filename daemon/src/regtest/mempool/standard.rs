//! Standardness: what a relay passes on, whatever consensus allows.
//!
//! In: a transaction, later with the outputs it spends. Out: nothing, or bitcoind's reason. No fees here.
//! Read next: `accept`, which asks these in bitcoind's order; `script_policy` for what scripts do when run.

use bitcoin::{Script, Transaction, TxOut};

use super::reject::Reject;
use super::script_kind::ScriptKind;
use super::Policy;

/// The most a transaction may weigh to be relayed.
pub const MAX_STANDARD_WEIGHT: u64 = 400_000;
/// The least a transaction's non-witness part may measure (CVE-2017-12842).
pub const MIN_NONWITNESS_BYTES: usize = 65;
const MAX_SCRIPT_SIG_BYTES: usize = 1_650;
const MAX_P2SH_SIGOPS: usize = 15;
const MAX_WSH_SCRIPT_BYTES: usize = 3_600;
const MAX_WSH_ITEMS: usize = 100;
const MAX_ITEM_BYTES: usize = 80;

/// The standardness that the transaction alone decides.
pub fn check_standard(tx: &Transaction, policy: &Policy) -> Result<(), Reject> {
    if !(1..=3).contains(&tx.version.0) {
        return Err(Reject::new("version"));
    }
    if tx.weight().to_wu() > MAX_STANDARD_WEIGHT {
        return Err(Reject::new("tx-size"));
    }
    for input in &tx.input {
        if input.script_sig.len() > MAX_SCRIPT_SIG_BYTES {
            return Err(Reject::new("scriptsig-size"));
        }
        if !input.script_sig.is_push_only() {
            return Err(Reject::new("scriptsig-not-pushonly"));
        }
    }
    let mut data_left = policy.data_carrier_bytes;
    for output in &tx.output {
        match ScriptKind::of(&output.script_pubkey) {
            ScriptKind::Nonstandard => return Err(Reject::new("scriptpubkey")),
            ScriptKind::Multisig { keys, .. } if keys.len() > 3 => return Err(Reject::new("scriptpubkey")),
            ScriptKind::Multisig { .. } if !policy.permit_bare_multisig => {
                return Err(Reject::new("bare-multisig"));
            }
            ScriptKind::NullData => {
                data_left = data_left
                    .checked_sub(output.script_pubkey.len())
                    .ok_or_else(|| Reject::new("datacarrier"))?;
            }
            _ => {}
        }
    }
    // One dusty output may ride along in a package whose child spends it (ephemeral dust); see `check_ephemeral`.
    if tx.output.iter().filter(|output| is_dust(output, policy)).count() > 1 {
        return Err(Reject::new("dust"));
    }
    Ok(())
}

/// A transaction with a dusty output must pay no fee, so that nobody mines it alone.
pub fn check_ephemeral(tx: &Transaction, fee_sat: u64, policy: &Policy) -> Result<(), Reject> {
    if fee_sat != 0 && tx.output.iter().any(|output| is_dust(output, policy)) {
        return Err(Reject::with("dust", "tx with dust output must be 0-fee"));
    }
    Ok(())
}

/// The least this output may hold to be relayed, in satoshi: what spending it costs at the dust rate.
pub fn dust_limit_sat(script: &Script, policy: &Policy) -> u64 {
    if script.is_op_return() || script.len() > 10_000 {
        return 0;
    }
    let script_len = script.len() as u64;
    let length_prefix = if script_len < 0xfd { 1 } else { 3 };
    let spend_bytes =
        if script.is_witness_program() { 32 + 4 + 1 + 107 / 4 + 4 } else { 32 + 4 + 1 + 107 + 4 };
    let bytes = 8 + length_prefix + script_len + spend_bytes;
    (bytes * policy.dust_relay_sat_kvb).div_ceil(1000)
}

/// Does this output hold less than its dust limit?
pub fn is_dust(output: &TxOut, policy: &Policy) -> bool {
    output.value.to_sat() < dust_limit_sat(&output.script_pubkey, policy)
}

/// Are the spent scripts ones that relays know how to judge?
pub fn check_inputs_standard(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    let fault = |index: usize, why: &str| {
        Err(Reject::with("bad-txns-nonstandard-inputs", format!("input {index} script {why}")))
    };
    for (index, (input, output)) in tx.input.iter().zip(spent).enumerate() {
        match ScriptKind::of(&output.script_pubkey) {
            ScriptKind::Nonstandard => return fault(index, "nonstandard"),
            ScriptKind::WitnessUnknown => return fault(index, "witness_unknown"),
            ScriptKind::ScriptHash => {
                let Some(redeem) = last_push(&input.script_sig) else {
                    return fault(index, "p2sh without redeemscript");
                };
                if Script::from_bytes(&redeem).count_sigops() > MAX_P2SH_SIGOPS {
                    return fault(index, "p2sh redeemscript sigops exceed limit");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Are the witnesses of a size and shape that relays pass on?
pub fn check_witness_standard(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    for (input, output) in tx.input.iter().zip(spent) {
        if !input.witness.is_empty() && !witness_standard(input, &output.script_pubkey) {
            return Err(Reject::new("bad-witness-nonstandard"));
        }
    }
    Ok(())
}

fn witness_standard(input: &bitcoin::TxIn, spent_script: &Script) -> bool {
    let mut kind = ScriptKind::of(spent_script);
    let nested = kind == ScriptKind::ScriptHash;
    if nested {
        let Some(redeem) = last_push(&input.script_sig) else { return false };
        kind = ScriptKind::of(Script::from_bytes(&redeem));
    }
    let items: Vec<&[u8]> = input.witness.iter().collect();
    let small = |items: &[&[u8]]| items.iter().all(|item| item.len() <= MAX_ITEM_BYTES);
    match kind {
        ScriptKind::WitnessV0KeyHash => true,
        ScriptKind::WitnessUnknown => true,
        ScriptKind::WitnessV0ScriptHash => match items.split_last() {
            None => false,
            Some((script, rest)) => {
                script.len() <= MAX_WSH_SCRIPT_BYTES && rest.len() <= MAX_WSH_ITEMS && small(rest)
            }
        },
        ScriptKind::WitnessV1Taproot if nested => true,
        ScriptKind::WitnessV1Taproot => {
            let annex = items.len() >= 2 && items.last().and_then(|item| item.first()) == Some(&0x50);
            match items.as_slice() {
                [] => false,
                _ if annex => false,
                [_key_path] => true,
                [arguments @ .., _script, control] => {
                    control.first().is_some_and(|byte| byte & 0xfe != 0xc0 || small(arguments))
                }
            }
        }
        _ => false,
    }
}

/// The last thing a push-only script pushes.
pub fn last_push(script: &Script) -> Option<Vec<u8>> {
    use super::script_ops::{encode_num, read_op, Op};
    let bytes = script.as_bytes();
    let (mut position, mut last) = (0, None);
    while position < bytes.len() {
        let (op, next) = read_op(bytes, position)?;
        position = next;
        last = match op {
            Op::Push { data, .. } => Some(data.to_vec()),
            Op::Code(code @ 0x51..=0x60) => Some(encode_num(i64::from(code) - 0x50)),
            Op::Code(0x4f) => Some(encode_num(-1)),
            Op::Code(_) => return None,
        };
    }
    last
}
