//! Signature operations, counted as Bitcoin's block limit counts them.
//!
//! In: a transaction and the coins it spends. Out: its cost: four for an operation outside a witness, one inside.
//! The count is written out here because it must agree with Bitcoin's in odd scripts, too (a count after an
//! opcode that is no number, redeem scripts behind input scripts that do more than push). Read next: `connect`.

use super::params::WITNESS_SCALE;
use super::utxo::Coin;
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY, OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_PUSHNUM_1, OP_PUSHNUM_16,
};
use bitcoin::script::Instruction;
use bitcoin::{Opcode, Script, Transaction, Witness};

/// Keys a multisig is taken to have when it does not say.
const MAX_MULTISIG_KEYS: usize = 20;

/// Operations in input scripts and output scripts as such; no coins are needed.
pub(super) fn legacy(tx: &Transaction) -> usize {
    let inputs = tx.input.iter().map(|input| in_script(&input.script_sig, false));
    let outputs = tx.output.iter().map(|out| in_script(&out.script_pubkey, false));
    inputs.chain(outputs).fold(0, usize::saturating_add)
}

/// The whole cost of a transaction (BIP 141, "Sigops"). `coins[i]` is spent by input `i`; empty for a coinbase.
pub(super) fn cost(tx: &Transaction, coins: &[Coin]) -> usize {
    let mut total = legacy(tx).saturating_mul(WITNESS_SCALE);
    if tx.is_coinbase() {
        return total;
    }
    for (input, coin) in tx.input.iter().zip(coins) {
        let spent = &coin.out.script_pubkey;
        if spent.is_p2sh() {
            let Some(redeem) = last_push(&input.script_sig) else { continue };
            let redeem = Script::from_bytes(redeem);
            total = total.saturating_add(in_script(redeem, true).saturating_mul(WITNESS_SCALE));
            total = total.saturating_add(in_witness(redeem, &input.witness));
        } else {
            total = total.saturating_add(in_witness(spent, &input.witness));
        }
    }
    total
}

/// Operations in one script. `accurate`: a multisig counts the number before it, if there is one.
fn in_script(script: &Script, accurate: bool) -> usize {
    let mut count = 0usize;
    let mut number = None;
    // A script that breaks off counts up to the break.
    for instruction in script.instructions().map_while(Result::ok) {
        let op = match instruction {
            Instruction::PushBytes(_) => {
                number = None;
                continue;
            }
            Instruction::Op(op) => op,
        };
        let add = match op {
            OP_CHECKSIG | OP_CHECKSIGVERIFY => 1,
            OP_CHECKMULTISIG | OP_CHECKMULTISIGVERIFY if accurate => number.unwrap_or(MAX_MULTISIG_KEYS),
            OP_CHECKMULTISIG | OP_CHECKMULTISIGVERIFY => MAX_MULTISIG_KEYS,
            _ => 0,
        };
        count = count.saturating_add(add);
        number = small_number(op);
    }
    count
}

/// The value of `OP_1` to `OP_16`.
fn small_number(op: Opcode) -> Option<usize> {
    let first = OP_PUSHNUM_1.to_u8();
    (first..=OP_PUSHNUM_16.to_u8()).contains(&op.to_u8()).then(|| usize::from(op.to_u8() - first) + 1)
}

/// The bytes last pushed by a script that only pushes; `None` for any other script, and for one that breaks off.
fn last_push(script: &Script) -> Option<&[u8]> {
    let mut last: &[u8] = &[];
    for instruction in script.instructions() {
        last = match instruction.ok()? {
            Instruction::PushBytes(bytes) => bytes.as_bytes(),
            Instruction::Op(op) if op.to_u8() <= OP_PUSHNUM_16.to_u8() => &[],
            Instruction::Op(_) => return None,
        };
    }
    Some(last)
}

/// Operations behind a version 0 witness program; later versions count none.
fn in_witness(program: &Script, witness: &Witness) -> usize {
    if program.is_p2wpkh() {
        1
    } else if program.is_p2wsh() {
        witness.last().map_or(0, |script| in_script(Script::from_bytes(script), true))
    } else {
        0
    }
}
