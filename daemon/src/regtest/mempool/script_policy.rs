//! Runs the scripts of one input under policy: the wrapping (P2SH, witness programs) around `interpreter`.
//!
//! In: a transaction, an input's number, the output it spends. Out: nothing, or why relays refuse it.
//! Taproot signatures are consensus' business; what policy adds there (no unknown leaf versions, no OP_SUCCESS)
//! is checked here. Read next: `interpreter`.

use std::sync::OnceLock;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{ecdsa::Signature, Message, PublicKey, Secp256k1, VerifyOnly};
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, EcdsaSighashType, Script, ScriptBuf, Transaction, TxOut};

use super::interpreter::{Checker, Machine, ScriptFault, SigVersion};
use super::script_kind::ScriptKind;
use super::script_ops::{cast_bool, is_op_success, read_op, Op};

fn secp() -> &'static Secp256k1<VerifyOnly> {
    static CONTEXT: OnceLock<Secp256k1<VerifyOnly>> = OnceLock::new();
    CONTEXT.get_or_init(Secp256k1::verification_only)
}

struct InputChecker<'a> {
    tx: &'a Transaction,
    index: usize,
    value: Amount,
}

impl InputChecker<'_> {
    fn sighash(&self, hash_type: u8, script_code: &Script, version: SigVersion) -> Option<[u8; 32]> {
        let mut cache = SighashCache::new(self.tx);
        match version {
            SigVersion::Base => cache
                .legacy_signature_hash(self.index, script_code, u32::from(hash_type))
                .ok()
                .map(|hash| hash.to_byte_array()),
            SigVersion::WitnessV0 => {
                let kind = EcdsaSighashType::from_standard(u32::from(hash_type)).ok()?;
                cache
                    .p2wsh_signature_hash(self.index, script_code, self.value, kind)
                    .ok()
                    .map(|hash| hash.to_byte_array())
            }
        }
    }
}

impl Checker for InputChecker<'_> {
    fn ecdsa(&self, signature: &[u8], pubkey: &[u8], script_code: &Script, version: SigVersion) -> bool {
        let Some((hash_type, der)) = signature.split_last() else { return false };
        let (Ok(signature), Ok(key)) = (Signature::from_der(der), PublicKey::from_slice(pubkey)) else {
            return false;
        };
        let Some(hash) = self.sighash(*hash_type, script_code, version) else { return false };
        secp().verify_ecdsa(&Message::from_digest(hash), &signature, &key).is_ok()
    }

    fn lock_time(&self, value: i64) -> bool {
        const TIME_FROM: i64 = 500_000_000;
        let lock = i64::from(self.tx.lock_time.to_consensus_u32());
        let same_kind = (lock < TIME_FROM) == (value < TIME_FROM);
        let open = self.tx.input.get(self.index).is_some_and(|input| !input.sequence.is_final());
        same_kind && value <= lock && open
    }

    fn sequence(&self, value: i64) -> bool {
        const TYPE: i64 = 1 << 22;
        let Some(input) = self.tx.input.get(self.index) else { return false };
        let sequence = i64::from(input.sequence.to_consensus_u32());
        let applies = self.tx.version.0 >= 2 && sequence & (1 << 31) == 0;
        let same_kind = sequence & TYPE == value & TYPE;
        applies && same_kind && value & 0xffff <= sequence & 0xffff
    }
}

/// Runs one input's scripts under policy. `Ok` says nothing about taproot signatures.
pub fn check_input(tx: &Transaction, index: usize, spent: &TxOut) -> Result<(), ScriptFault> {
    let Some(input) = tx.input.get(index) else { return Err("unknown error") };
    let checker = InputChecker { tx, index, value: spent.value };
    let witness: Vec<Vec<u8>> = input.witness.to_vec();
    if spent.script_pubkey.is_witness_program() {
        if !input.script_sig.is_empty() {
            return Err("Witness requires empty scriptSig");
        }
        return check_program(&spent.script_pubkey, witness, false, &checker);
    }
    let mut machine = Machine::new(Vec::new());
    machine.run(&input.script_sig, SigVersion::Base, &checker)?;
    let mut pushed = machine.stack.clone();
    machine.run(&spent.script_pubkey, SigVersion::Base, &checker)?;
    finish(&machine.stack, false)?;
    if spent.script_pubkey.is_p2sh() {
        let redeem = ScriptBuf::from_bytes(pushed.pop().ok_or("unknown error")?);
        if redeem.is_witness_program() {
            return check_program(&redeem, witness, true, &checker);
        }
        machine = Machine::new(pushed);
        machine.run(&redeem, SigVersion::Base, &checker)?;
    }
    finish(&machine.stack, true)?;
    if witness.is_empty() {
        Ok(())
    } else {
        Err("Witness provided for non-witness script")
    }
}

fn finish(stack: &[Vec<u8>], clean: bool) -> Result<(), ScriptFault> {
    if !stack.last().is_some_and(|top| cast_bool(top)) {
        return Err("Script evaluated without error but finished with a false/empty top stack element");
    }
    if clean && stack.len() != 1 {
        return Err("Stack size must be exactly one after execution");
    }
    Ok(())
}

fn check_program(
    program: &Script,
    mut witness: Vec<Vec<u8>>,
    nested: bool,
    checker: &InputChecker<'_>,
) -> Result<(), ScriptFault> {
    match ScriptKind::of(program) {
        ScriptKind::WitnessV0KeyHash => {
            if witness.len() != 2 {
                return Err("Witness program hash mismatch");
            }
            let code = program.p2wpkh_script_code().ok_or("unknown error")?;
            run_v0(&code, witness, checker)
        }
        ScriptKind::WitnessV0ScriptHash => {
            let script =
                ScriptBuf::from_bytes(witness.pop().ok_or("Witness program was passed an empty witness")?);
            if script.to_p2wsh().as_script() != program {
                return Err("Witness program hash mismatch");
            }
            run_v0(&script, witness, checker)
        }
        ScriptKind::WitnessV1Taproot if !nested => check_taproot(&witness),
        ScriptKind::Anchor if !nested => Ok(()),
        _ => Err("Witness version reserved for soft-fork upgrades"),
    }
}

fn run_v0(script: &Script, stack: Vec<Vec<u8>>, checker: &InputChecker<'_>) -> Result<(), ScriptFault> {
    if stack.iter().any(|item| item.len() > 520) {
        return Err("Push value size limit exceeded");
    }
    let mut machine = Machine::new(stack);
    machine.run(script, SigVersion::WitnessV0, checker)?;
    finish(&machine.stack, true)
}

/// Policy on a script path spend (BIP 342): what a soft fork may one day mean is not relayed now.
fn check_taproot(witness: &[Vec<u8>]) -> Result<(), ScriptFault> {
    let [.., script, control] = witness else { return Ok(()) };
    if control.first().is_some_and(|byte| byte & 0xfe != 0xc0) {
        return Err("Taproot version reserved for soft-fork upgrades");
    }
    let mut position = 0;
    while let Some((op, next)) = read_op(script, position) {
        match op {
            Op::Code(code) if is_op_success(code) => {
                return Err("OP_SUCCESSx reserved for soft-fork upgrades")
            }
            Op::Code(0xb0 | 0xb3..=0xb9) => return Err("NOPx reserved for soft-fork upgrades"),
            Op::Push { code, data } if !super::script_ops::minimal_push(code, data) => {
                return Err("Data push larger than necessary");
            }
            _ => position = next,
        }
    }
    Ok(())
}

/// Is this spend one by taproot's key path? Its only way to fail is a bad signature.
pub fn is_taproot_key_spend(tx: &Transaction, index: usize, spent: &TxOut) -> bool {
    spent.script_pubkey.is_p2tr() && tx.input.get(index).is_some_and(|input| input.witness.len() == 1)
}
