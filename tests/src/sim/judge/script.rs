//! `safety`, of scripts: a witness opens the output it spends, run word by word, whichever crypto makes the signatures.
//!
//! In: a transaction, one of its inputs and the output that it spends. Out: nothing, or why it does not open. Knows
//! P2WPKH and, of P2WSH, the words that channels use (BOLT 3), locks of time included. With the real curve Bitcoin Core's
//! interpreter looks at it as well; with signatures that are hashes this is the only one that does. Read next: `valid`.

use bitcoin::hashes::{hash160, Hash};
use bitcoin::opcodes::all as op;
use bitcoin::opcodes::Opcode;
use bitcoin::script::Instruction;
use bitcoin::sighash::SighashCache;
use bitcoin::{ScriptBuf, Transaction, TxOut};
use chand_protocol::sign::Crypto;
use chand_protocol::tx::script;
use secp256k1::PublicKey;

/// What one input is checked against.
struct Input<'a> {
    tx: &'a Transaction,
    place: usize,
    script: ScriptBuf,
    output: &'a TxOut,
    crypto: &'a dyn Crypto,
}

type Stack = Vec<Vec<u8>>;

/// Whether the witness of input `place` opens `output`.
///
/// # Errors
/// Where it fails.
pub fn opens(tx: &Transaction, place: usize, output: &TxOut, crypto: &dyn Crypto) -> Result<(), String> {
    let mut stack: Stack = tx.input[place].witness.iter().map(<[u8]>::to_vec).collect();
    let target = &output.script_pubkey;
    if target.is_p2wpkh() {
        let [signature, key] = &stack[..] else { return Err("not a signature and a key".into()) };
        let key = PublicKey::from_slice(key).map_err(|e| e.to_string())?;
        if *target != script::p2wpkh(&key) {
            return Err("another key".into());
        }
        let read = bitcoin::ecdsa::Signature::from_slice(signature).map_err(|e| e.to_string())?;
        let digest = SighashCache::new(tx)
            .p2wpkh_signature_hash(place, target, output.value, read.sighash_type)
            .map_err(|e| e.to_string())?;
        return match crypto.verify(digest.as_ref(), &read.signature, &key) {
            true => Ok(()),
            false => Err("a wrong signature".into()),
        };
    }
    let script = ScriptBuf::from_bytes(stack.pop().unwrap_or_default());
    if !target.is_p2wsh() || *target != script::p2wsh(&script) {
        return Err("the script is another one".into());
    }
    let input = Input { tx, place, script, output, crypto };
    input.run(&mut stack)?;
    match &stack[..] {
        [last] if truth(last) => Ok(()),
        _ => Err(format!("{} items are left", stack.len())),
    }
}

/// Whether an item counts as true.
fn truth(item: &[u8]) -> bool {
    item.iter().any(|byte| *byte != 0)
}

/// A number as scripts write it; only those that are not negative.
fn number(item: &[u8]) -> Result<i64, String> {
    if item.len() > 5 || item.last().is_some_and(|last| last & 0x80 != 0) {
        return Err("no number".into());
    }
    Ok(item.iter().rev().fold(0, |sum, byte| sum << 8 | i64::from(*byte)))
}

/// The same the other way.
fn written(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0 {
        out.push((value & 0xff) as u8);
        value >>= 8;
    }
    if out.last().is_some_and(|last| last & 0x80 != 0) {
        out.push(0);
    }
    out
}

fn pop(stack: &mut Stack) -> Result<Vec<u8>, String> {
    stack.pop().ok_or_else(|| "nothing is left to take".into())
}

impl Input<'_> {
    fn run(&self, stack: &mut Stack) -> Result<(), String> {
        // Of every condition that is open: whether its branch is taken.
        let mut branches: Vec<bool> = Vec::new();
        for word in self.script.instructions() {
            let taken = branches.iter().all(|b| *b);
            match word.map_err(|e| e.to_string())? {
                Instruction::PushBytes(bytes) if taken => stack.push(bytes.as_bytes().to_vec()),
                Instruction::PushBytes(_) => {}
                Instruction::Op(code @ (op::OP_IF | op::OP_NOTIF)) => {
                    let open = taken && {
                        let item = pop(stack)?;
                        if !item.is_empty() && item != [1] {
                            return Err("a condition that is neither nothing nor one".into());
                        }
                        truth(&item) == (code == op::OP_IF)
                    };
                    branches.push(open);
                }
                Instruction::Op(op::OP_ELSE) => {
                    let open = branches.last_mut().ok_or("else without if")?;
                    *open = !*open;
                }
                Instruction::Op(op::OP_ENDIF) => {
                    branches.pop().ok_or("an end without if")?;
                }
                Instruction::Op(code) if taken => self.word(code, stack)?,
                Instruction::Op(_) => {}
            }
        }
        Ok(())
    }

    fn word(&self, code: Opcode, stack: &mut Stack) -> Result<(), String> {
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_string()) };
        let top = |stack: &Stack| stack.last().cloned().ok_or("nothing is there".to_string());
        let sign = |truth: bool| if truth { vec![1] } else { Vec::new() };
        match code {
            op::OP_DUP => stack.push(top(stack)?),
            op::OP_IFDUP => {
                let item = top(stack)?;
                if truth(&item) {
                    stack.push(item);
                }
            }
            op::OP_DROP => drop(pop(stack)?),
            op::OP_SWAP => {
                let (one, two) = (pop(stack)?, pop(stack)?);
                stack.extend([one, two]);
            }
            op::OP_SIZE => stack.push(written(top(stack)?.len())),
            op::OP_HASH160 => {
                let item = pop(stack)?;
                stack.push(hash160::Hash::hash(&item).to_byte_array().to_vec());
            }
            op::OP_EQUAL => {
                let same = pop(stack)? == pop(stack)?;
                stack.push(sign(same));
            }
            op::OP_EQUALVERIFY => must(pop(stack)? == pop(stack)?, "a wrong hash")?,
            op::OP_CHECKSIG => {
                let (key, signature) = (pop(stack)?, pop(stack)?);
                let right = self.signed(&signature, &key);
                // A signature that fails may only be none at all.
                must(right || signature.is_empty(), "a wrong signature")?;
                stack.push(sign(right));
            }
            op::OP_CHECKSIGVERIFY => {
                let (key, signature) = (pop(stack)?, pop(stack)?);
                must(self.signed(&signature, &key), "a wrong signature")?;
            }
            op::OP_CHECKMULTISIG => self.both(stack)?,
            op::OP_CLTV => {
                let wanted = number(&top(stack)?)?;
                let lock = i64::from(self.tx.lock_time.to_consensus_u32());
                let counts = self.tx.input[self.place].sequence.0 != u32::MAX;
                must(counts && lock >= wanted && lock < 500_000_000, "before its lock time")?;
            }
            op::OP_CSV => {
                let wanted = number(&top(stack)?)?;
                let sequence = self.tx.input[self.place].sequence.0;
                let blocks = sequence & 0x8040_0000 == 0 && self.tx.version.0 >= 2;
                must(blocks && i64::from(sequence & 0xffff) >= wanted, "before its delay")?;
            }
            _ => {
                let small = code.to_u8().wrapping_sub(op::OP_PUSHNUM_1.to_u8());
                must(small < 16, &format!("{code} is no word of a channel"))?;
                stack.push(vec![small + 1]);
            }
        }
        Ok(())
    }

    /// So many signatures of so many keys, both in one order.
    fn both(&self, stack: &mut Stack) -> Result<(), String> {
        let list = |stack: &mut Stack| -> Result<Vec<Vec<u8>>, String> {
            let count = number(&pop(stack)?)?;
            (0..count).map(|_| pop(stack)).collect()
        };
        let (keys, signatures) = (list(stack)?, list(stack)?);
        if !pop(stack)?.is_empty() {
            return Err("the item that is too many is not empty".into());
        }
        let mut keys = keys.iter();
        let right = signatures.iter().all(|s| keys.any(|key| self.signed(s, key)));
        if !right {
            return Err("a wrong signature of two".into());
        }
        stack.push(vec![1]);
        Ok(())
    }

    fn signed(&self, signature: &[u8], key: &[u8]) -> bool {
        let (Ok(read), Ok(key)) =
            (bitcoin::ecdsa::Signature::from_slice(signature), PublicKey::from_slice(key))
        else {
            return false;
        };
        let digest = SighashCache::new(self.tx).p2wsh_signature_hash(
            self.place,
            &self.script,
            self.output.value,
            read.sighash_type,
        );
        digest.is_ok_and(|digest| self.crypto.verify(digest.as_ref(), &read.signature, &key))
    }
}
