//! A script interpreter that only asks the questions of policy: is this script run the way relays want it?
//!
//! Consensus is judged by Bitcoin Core's own interpreter (`consensus`); that one has no policy flags, so the rules
//! that Lightning can trip over are run here: strict DER and low S (BIP 62, BIP 66), minimal pushes, minimal IF
//! arguments, null-fail (BIP 146), compressed keys in segwit (BIP 143), a clean stack, no reserved NOPs.
//! In: one script, its stack and a way to check signatures. Out: the reason why not, in bitcoind's words.
//! Read next: `script_policy`, which calls this for every input.

use bitcoin::hashes::{hash160, ripemd160, sha1, sha256, sha256d, Hash};
use bitcoin::Script;

use super::script_ops::{cast_bool, encode_num, minimal_push, read_op, Num, Op};

/// Which rules of script apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigVersion {
    /// Before segwit.
    Base,
    /// BIP 143.
    WitnessV0,
}

/// Answers what a script asks of its transaction.
pub trait Checker {
    /// Is this signature (with its hash type byte) by this key over this script code?
    fn ecdsa(&self, signature: &[u8], pubkey: &[u8], script_code: &Script, version: SigVersion) -> bool;
    /// BIP 65.
    fn lock_time(&self, value: i64) -> bool;
    /// BIP 112.
    fn sequence(&self, value: i64) -> bool;
}

/// Why a script fails, in bitcoind's words.
pub type ScriptFault = &'static str;

const INVALID_STACK: ScriptFault = "Operation not valid with the current stack size";
const UNBALANCED: ScriptFault = "Invalid OP_IF construction";
const BAD_OPCODE: ScriptFault = "Opcode missing or not understood";
const NUMBER: ScriptFault = "unknown error";

/// The stack of a running script, with its alternative.
#[derive(Debug, Default)]
pub struct Machine {
    /// The main stack, top last.
    pub stack: Vec<Vec<u8>>,
    alt: Vec<Vec<u8>>,
    branches: Vec<bool>,
    code_start: usize,
    ops: usize,
}

impl Machine {
    /// A machine with this stack.
    pub fn new(stack: Vec<Vec<u8>>) -> Machine {
        Machine { stack, ..Machine::default() }
    }

    /// Runs one script to its end. Afterwards the stack is the result.
    pub fn run(
        &mut self,
        script: &Script,
        version: SigVersion,
        checker: &dyn Checker,
    ) -> Result<(), ScriptFault> {
        let bytes = script.as_bytes();
        if bytes.len() > 10_000 {
            return Err("Script is too big");
        }
        self.branches.clear();
        self.alt.clear();
        self.code_start = 0;
        self.ops = 0;
        let mut position = 0;
        while position < bytes.len() {
            let (op, next) = read_op(bytes, position).ok_or(BAD_OPCODE)?;
            position = next;
            let live = self.branches.iter().all(|taken| *taken);
            match op {
                Op::Push { code, data } => {
                    if data.len() > 520 {
                        return Err("Push value size limit exceeded");
                    }
                    if live {
                        if !minimal_push(code, data) {
                            return Err("Data push larger than necessary");
                        }
                        self.stack.push(data.to_vec());
                    }
                }
                Op::Code(code) => {
                    if code > 0x60 {
                        self.ops += 1;
                        if self.ops > 201 {
                            return Err("Operation limit exceeded");
                        }
                    }
                    if matches!(code, 0x7e..=0x81 | 0x83..=0x86 | 0x8d | 0x8e | 0x95..=0x99) {
                        return Err("Attempted to use a disabled opcode");
                    }
                    if code == 0xab && version == SigVersion::Base {
                        return Err("Using OP_CODESEPARATOR in non-witness script");
                    }
                    if live || (0x63..=0x68).contains(&code) {
                        self.step(code, live, position, bytes, version, checker)?;
                    }
                }
            }
            if self.stack.len() + self.alt.len() > 1000 {
                return Err("Stack size limit exceeded");
            }
        }
        if self.branches.is_empty() {
            Ok(())
        } else {
            Err(UNBALANCED)
        }
    }

    fn step(
        &mut self,
        code: u8,
        live: bool,
        position: usize,
        bytes: &[u8],
        version: SigVersion,
        checker: &dyn Checker,
    ) -> Result<(), ScriptFault> {
        match code {
            0x4f => self.stack.push(encode_num(-1)),
            0x51..=0x60 => self.stack.push(encode_num(i64::from(code) - 0x50)),
            0x61 => {}
            0x63..=0x68 => self.branch(code, live, version)?,
            0x69 => {
                if !cast_bool(&self.pop()?) {
                    return Err("Script failed an OP_VERIFY operation");
                }
            }
            0x6a => return Err("OP_RETURN was encountered"),
            0xb1 => {
                let value = self.locktime_operand()?;
                if !checker.lock_time(value) {
                    return Err("Locktime requirement not satisfied");
                }
            }
            0xb2 => {
                let value = self.locktime_operand()?;
                // BIP 112: with the disable bit set it is a NOP.
                if value & (1 << 31) == 0 && !checker.sequence(value) {
                    return Err("Locktime requirement not satisfied");
                }
            }
            0xb0 | 0xb3..=0xb9 => return Err("NOPx reserved for soft-fork upgrades"),
            0x6b..=0x7d => self.shuffle(code)?,
            0x82 => {
                let size = self.peek(0)?.len();
                self.stack.push(encode_num(i64::try_from(size).unwrap_or(i64::MAX)));
            }
            0x87 | 0x88 => {
                let (b, a) = (self.pop()?, self.pop()?);
                if code == 0x87 {
                    self.push_bool(a == b);
                } else if a != b {
                    return Err("Script failed an OP_EQUALVERIFY operation");
                }
            }
            0x8b..=0xa5 => self.arithmetic(code)?,
            0xa6..=0xaa => self.hash(code)?,
            0xab => self.code_start = position,
            0xac..=0xaf => {
                let code_script = Script::from_bytes(bytes.get(self.code_start..).unwrap_or_default());
                let (ok, fault) = if code < 0xae {
                    (
                        self.check_sig(code_script, version, checker)?,
                        "Script failed an OP_CHECKSIGVERIFY operation",
                    )
                } else {
                    (
                        self.check_multisig(code_script, version, checker)?,
                        "Script failed an OP_CHECKMULTISIGVERIFY operation",
                    )
                };
                if code == 0xac || code == 0xae {
                    self.push_bool(ok);
                } else if !ok {
                    return Err(fault);
                }
            }
            _ => return Err(BAD_OPCODE),
        }
        Ok(())
    }

    fn branch(&mut self, code: u8, live: bool, version: SigVersion) -> Result<(), ScriptFault> {
        match code {
            0x63 | 0x64 => {
                let mut taken = false;
                if live {
                    let top = self.stack.pop().ok_or(UNBALANCED)?;
                    // Policy since 0.13.1, in witness scripts only: empty or exactly 01.
                    if version == SigVersion::WitnessV0 && !top.is_empty() && top != [1] {
                        return Err("OP_IF/NOTIF argument must be minimal");
                    }
                    taken = cast_bool(&top) == (code == 0x63);
                }
                self.branches.push(taken);
            }
            0x67 => {
                let last = self.branches.last_mut().ok_or(UNBALANCED)?;
                *last = !*last;
            }
            0x68 => {
                self.branches.pop().ok_or(UNBALANCED)?;
            }
            _ => return Err(BAD_OPCODE),
        }
        Ok(())
    }

    fn shuffle(&mut self, code: u8) -> Result<(), ScriptFault> {
        match code {
            0x6b => {
                let top = self.pop()?;
                self.alt.push(top);
            }
            0x6c => {
                let top = self.alt.pop().ok_or("Operation not valid with the current altstack size")?;
                self.stack.push(top);
            }
            0x6d => {
                self.pop()?;
                self.pop()?;
            }
            0x6e => self.copy(&[1, 1])?,
            0x6f => self.copy(&[2, 2, 2])?,
            0x70 => self.copy(&[3, 3])?,
            0x71 => {
                self.lift(5)?;
                self.lift(5)?;
            }
            0x72 => {
                self.lift(3)?;
                self.lift(3)?;
            }
            0x73 => {
                let top = self.peek(0)?.clone();
                if cast_bool(&top) {
                    self.stack.push(top);
                }
            }
            0x74 => {
                let depth = i64::try_from(self.stack.len()).unwrap_or(i64::MAX);
                self.stack.push(encode_num(depth));
            }
            0x75 => {
                self.pop()?;
            }
            0x76 => self.copy(&[0])?,
            0x77 => {
                let top = self.pop()?;
                self.pop()?;
                self.stack.push(top);
            }
            0x78 => self.copy(&[1])?,
            0x79 | 0x7a => {
                let depth = usize::try_from(self.pop_num(4)?).map_err(|_| INVALID_STACK)?;
                if code == 0x79 {
                    self.copy(&[depth])?;
                } else {
                    self.lift(depth)?;
                }
            }
            0x7b => self.lift(2)?,
            0x7c => self.lift(1)?,
            0x7d => {
                let (b, a) = (self.pop()?, self.pop()?);
                self.stack.extend([b.clone(), a, b]);
            }
            _ => return Err(BAD_OPCODE),
        }
        Ok(())
    }

    fn arithmetic(&mut self, code: u8) -> Result<(), ScriptFault> {
        if matches!(code, 0x8b | 0x8c | 0x8f..=0x92) {
            let a = self.pop_num(4)?;
            let result = match code {
                0x8b => a + 1,
                0x8c => a - 1,
                0x8f => -a,
                0x90 => a.abs(),
                0x91 => i64::from(a == 0),
                _ => i64::from(a != 0),
            };
            self.stack.push(encode_num(result));
            return Ok(());
        }
        if code == 0xa5 {
            let (max, min, x) = (self.pop_num(4)?, self.pop_num(4)?, self.pop_num(4)?);
            self.push_bool(min <= x && x < max);
            return Ok(());
        }
        let (b, a) = (self.pop_num(4)?, self.pop_num(4)?);
        let result = match code {
            0x93 => a + b,
            0x94 => a - b,
            0x9a => i64::from(a != 0 && b != 0),
            0x9b => i64::from(a != 0 || b != 0),
            0x9c => i64::from(a == b),
            0x9d if a == b => return Ok(()),
            0x9d => return Err("Script failed an OP_NUMEQUALVERIFY operation"),
            0x9e => i64::from(a != b),
            0x9f => i64::from(a < b),
            0xa0 => i64::from(a > b),
            0xa1 => i64::from(a <= b),
            0xa2 => i64::from(a >= b),
            0xa3 => a.min(b),
            0xa4 => a.max(b),
            _ => return Err(BAD_OPCODE),
        };
        self.stack.push(encode_num(result));
        Ok(())
    }

    fn hash(&mut self, code: u8) -> Result<(), ScriptFault> {
        let top = self.pop()?;
        self.stack.push(match code {
            0xa6 => ripemd160::Hash::hash(&top).to_byte_array().to_vec(),
            0xa7 => sha1::Hash::hash(&top).to_byte_array().to_vec(),
            0xa8 => sha256::Hash::hash(&top).to_byte_array().to_vec(),
            0xa9 => hash160::Hash::hash(&top).to_byte_array().to_vec(),
            _ => sha256d::Hash::hash(&top).to_byte_array().to_vec(),
        });
        Ok(())
    }

    fn check_sig(
        &mut self,
        script_code: &Script,
        version: SigVersion,
        checker: &dyn Checker,
    ) -> Result<bool, ScriptFault> {
        let (pubkey, signature) = (self.pop()?, self.pop()?);
        signature_encoding(&signature)?;
        pubkey_encoding(&pubkey, version)?;
        let ok = !signature.is_empty() && checker.ecdsa(&signature, &pubkey, script_code, version);
        if !ok && !signature.is_empty() {
            return Err("Signature must be zero for failed CHECK(MULTI)SIG operation");
        }
        Ok(ok)
    }

    fn check_multisig(
        &mut self,
        script_code: &Script,
        version: SigVersion,
        checker: &dyn Checker,
    ) -> Result<bool, ScriptFault> {
        let keys = self.pop_counted(20, "Pubkey count negative or limit exceeded")?;
        self.ops += keys.len();
        if self.ops > 201 {
            return Err("Operation limit exceeded");
        }
        let signatures =
            self.pop_counted(keys.len(), "Signature count negative or greater than pubkey count")?;
        let dummy = self.pop()?;
        let mut remaining = keys.iter();
        let mut ok = true;
        for (done, signature) in signatures.iter().enumerate() {
            signature_encoding(signature)?;
            loop {
                if remaining.len() < signatures.len() - done {
                    ok = false;
                    break;
                }
                let Some(key) = remaining.next() else {
                    ok = false;
                    break;
                };
                pubkey_encoding(key, version)?;
                if !signature.is_empty() && checker.ecdsa(signature, key, script_code, version) {
                    break;
                }
            }
            if !ok {
                break;
            }
        }
        if !ok && signatures.iter().any(|signature| !signature.is_empty()) {
            return Err("Signature must be zero for failed CHECK(MULTI)SIG operation");
        }
        if !dummy.is_empty() {
            return Err("Dummy CHECKMULTISIG argument must be zero");
        }
        Ok(ok)
    }

    /// Pops a count and that many items; the item nearest the top comes first.
    fn pop_counted(&mut self, limit: usize, fault: ScriptFault) -> Result<Vec<Vec<u8>>, ScriptFault> {
        let count = usize::try_from(self.pop_num(4)?).map_err(|_| fault)?;
        if count > limit {
            return Err(fault);
        }
        (0..count).map(|_| self.pop()).collect()
    }

    fn pop(&mut self) -> Result<Vec<u8>, ScriptFault> {
        self.stack.pop().ok_or(INVALID_STACK)
    }

    fn peek(&self, depth: usize) -> Result<&Vec<u8>, ScriptFault> {
        let index = self.stack.len().checked_sub(depth + 1).ok_or(INVALID_STACK)?;
        self.stack.get(index).ok_or(INVALID_STACK)
    }

    fn copy(&mut self, depths: &[usize]) -> Result<(), ScriptFault> {
        for depth in depths {
            let item = self.peek(*depth)?.clone();
            self.stack.push(item);
        }
        Ok(())
    }

    /// Moves the item at this depth to the top.
    fn lift(&mut self, depth: usize) -> Result<(), ScriptFault> {
        let index =
            self.stack.len().checked_sub(depth).and_then(|n| n.checked_sub(1)).ok_or(INVALID_STACK)?;
        let item = self.stack.remove(index);
        self.stack.push(item);
        Ok(())
    }

    fn pop_num(&mut self, max_len: usize) -> Result<i64, ScriptFault> {
        let item = self.pop()?;
        Num::read(&item, max_len).ok_or(NUMBER)
    }

    fn locktime_operand(&self) -> Result<i64, ScriptFault> {
        let value = Num::read(self.peek(0)?, 5).ok_or(NUMBER)?;
        if value < 0 {
            return Err("Negative locktime");
        }
        Ok(value)
    }

    fn push_bool(&mut self, value: bool) {
        self.stack.push(if value { vec![1] } else { Vec::new() });
    }
}

/// Strict DER (BIP 66), low S (BIP 62 rule 5), a defined hash type.
fn signature_encoding(signature: &[u8]) -> Result<(), ScriptFault> {
    let Some((hash_type, der)) = signature.split_last() else { return Ok(()) };
    let Ok(parsed) = bitcoin::secp256k1::ecdsa::Signature::from_der(der) else {
        return Err("Non-canonical DER signature");
    };
    let mut normalized = parsed;
    normalized.normalize_s();
    if normalized != parsed {
        return Err("Non-canonical signature: S value is unnecessarily high");
    }
    if parsed.serialize_der().as_ref() != der {
        return Err("Non-canonical DER signature");
    }
    if !(1..=3).contains(&(hash_type & !0x80)) {
        return Err("Signature hash type missing or not understood");
    }
    Ok(())
}

fn pubkey_encoding(key: &[u8], version: SigVersion) -> Result<(), ScriptFault> {
    let compressed = key.len() == 33 && matches!(key.first(), Some(2 | 3));
    let uncompressed = key.len() == 65 && key.first() == Some(&4);
    if !compressed && !uncompressed {
        return Err("Public key is neither compressed or uncompressed");
    }
    if version == SigVersion::WitnessV0 && !compressed {
        return Err("Using non-compressed keys in segwit");
    }
    Ok(())
}
