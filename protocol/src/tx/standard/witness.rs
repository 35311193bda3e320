//! The rules of relay for one input's witness.
//!
//! In: the witness and the output script it is for. Out: the rule it breaks.
//! The channel's own scripts are known by their opcodes, and the stack each needs is checked place by place; in
//! other scripts, what looks like a signature must be a proper one. Read next: `super`.

use bitcoin::hashes::Hash;
use bitcoin::script::Instruction;
use bitcoin::{opcodes::all as op, Script, WPubkeyHash, WScriptHash, Witness};
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;

/// The longest P2WSH script, in bytes.
const MAX_SCRIPT_BYTES: usize = 3_600;
/// The largest stack item, in bytes, for a P2WSH or taproot script.
const MAX_ITEM_BYTES: usize = 80;
/// The most stack items beside a P2WSH script.
const MAX_ITEMS: usize = 100;

/// The rule that a witness breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessFault {
    /// It spends an output that is not segwit, or of a version not in use.
    #[error("spends an output of no usual form")]
    SpentScript,
    /// Too few or too many items.
    #[error("wrong number of witness items")]
    Items,
    /// An item above 80 bytes.
    #[error("a witness item is too large")]
    ItemSize,
    /// A script above 3,600 bytes.
    #[error("the witness script is too large")]
    ScriptSize,
    /// The script or key is not the one the output commits to.
    #[error("not the script or key of the output")]
    Commitment,
    /// Not strict DER with a low S and a known hash type (BIP 66, BIP 146).
    #[error("a signature is not in its one proper form")]
    Signature,
    /// Not a compressed key (BIP 143 policy).
    #[error("a key is not compressed")]
    Key,
    /// The argument of an IF is neither empty nor a single 1 (MINIMALIF).
    #[error("the argument of an IF is not minimal")]
    If,
    /// A preimage of another length than 32, or the wrong thing in its place.
    #[error("an item has not the form its place asks for")]
    Form,
    /// A taproot annex.
    #[error("a taproot annex")]
    Annex,
}

/// Checks the witness of an input that spends an output with script `spent`.
pub(super) fn check(witness: &Witness, spent: &Script) -> Result<(), WitnessFault> {
    if spent.is_p2wpkh() {
        return p2wpkh(witness, spent);
    }
    if spent.is_p2wsh() {
        return p2wsh(witness, spent);
    }
    if spent.is_p2tr() {
        return p2tr(witness);
    }
    if super::is_p2a(spent) {
        return if witness.is_empty() { Ok(()) } else { Err(WitnessFault::Items) };
    }
    Err(WitnessFault::SpentScript)
}

fn p2wpkh(witness: &Witness, spent: &Script) -> Result<(), WitnessFault> {
    let (Some(sig), Some(key), 2) = (witness.nth(0), witness.nth(1), witness.len()) else {
        return Err(WitnessFault::Items);
    };
    signature(sig)?;
    compressed(key)?;
    let program = spent.as_bytes().get(2..);
    if program != Some(WPubkeyHash::hash(key).as_byte_array().as_slice()) {
        return Err(WitnessFault::Commitment);
    }
    Ok(())
}

fn p2wsh(witness: &Witness, spent: &Script) -> Result<(), WitnessFault> {
    let script = witness.last().ok_or(WitnessFault::Items)?;
    let items = || witness.iter().take(witness.len() - 1);
    if script.len() > MAX_SCRIPT_BYTES {
        return Err(WitnessFault::ScriptSize);
    }
    if items().len() > MAX_ITEMS {
        return Err(WitnessFault::Items);
    }
    if items().any(|item| item.len() > MAX_ITEM_BYTES) {
        return Err(WitnessFault::ItemSize);
    }
    if spent.as_bytes().get(2..) != Some(WScriptHash::hash(script).as_byte_array().as_slice()) {
        return Err(WitnessFault::Commitment);
    }
    let stack: alloc::vec::Vec<&[u8]> = items().collect();
    match Form::of(Script::from_bytes(script)) {
        Some(form) => form.check(&stack),
        None => unknown(&stack, script),
    }
}

fn p2tr(witness: &Witness) -> Result<(), WitnessFault> {
    let annexed = witness.len() > 1 && witness.last().is_some_and(|last| last.first() == Some(&0x50));
    if annexed {
        return Err(WitnessFault::Annex);
    }
    match witness.len() {
        0 => Err(WitnessFault::Items),
        1 => match witness.nth(0).map(<[u8]>::len) {
            Some(64 | 65) => Ok(()),
            _ => Err(WitnessFault::Signature),
        },
        count if witness.iter().take(count - 2).any(|item| item.len() > MAX_ITEM_BYTES) => {
            Err(WitnessFault::ItemSize)
        }
        _ => Ok(()),
    }
}

/// The channel's own P2WSH scripts (BOLT 3), as far as their stacks differ.
#[derive(Clone, Copy)]
enum Form {
    /// `funding`: an empty item and two signatures.
    Funding,
    /// `to_local`: a signature and the argument of IF.
    Delayed,
    /// `to_remote` with anchors: a signature.
    ToRemote,
    /// An anchor: a signature, or an empty item.
    Anchor,
    /// An HTLC output of either direction and channel type.
    Htlc,
}

impl Form {
    /// Tells by the opcodes; pushed data counts by its length only.
    fn of(script: &Script) -> Option<Form> {
        const KEY: u8 = 33;
        const HASH: u8 = 20;
        let mut shape = [0; 8];
        let mut count = 0;
        for instruction in script.instructions() {
            let code = match instruction.ok()? {
                Instruction::PushBytes(bytes) => u8::try_from(bytes.len()).ok()?,
                Instruction::Op(opcode) => opcode.to_u8(),
            };
            if let Some(place) = shape.get_mut(count) {
                *place = code;
            }
            count += 1;
        }
        let [two, multisig] = [op::OP_PUSHNUM_2.to_u8(), op::OP_CHECKMULTISIG.to_u8()];
        let [iff, elsee, drop] = [op::OP_IF.to_u8(), op::OP_ELSE.to_u8(), op::OP_DROP.to_u8()];
        let [dup, hash, equal] = [op::OP_DUP.to_u8(), op::OP_HASH160.to_u8(), op::OP_EQUAL.to_u8()];
        let [csv, sig, verify] = [op::OP_CSV.to_u8(), op::OP_CHECKSIG.to_u8(), op::OP_CHECKSIGVERIFY.to_u8()];
        match shape {
            [a, KEY, KEY, b, c, ..] if (a, b, c) == (two, two, multisig) && count == 5 => Some(Form::Funding),
            [a, KEY, b, _, c, d, KEY, _] if (a, b, c, d) == (iff, elsee, csv, drop) && count == 9 => {
                Some(Form::Delayed)
            }
            [KEY, a, _, b, ..] if (a, b) == (verify, csv) && count == 4 => Some(Form::ToRemote),
            [KEY, a, b, c, _, d, ..]
                if (a, b, d) == (sig, op::OP_IFDUP.to_u8(), csv)
                    && c == op::OP_NOTIF.to_u8()
                    && count == 7 =>
            {
                Some(Form::Anchor)
            }
            [a, b, HASH, c, d, e, f, KEY]
                if (a, b, c) == (dup, hash, equal) && (d, e, f) == (iff, sig, elsee) && count > 20 =>
            {
                Some(Form::Htlc)
            }
            _ => None,
        }
    }

    /// Checks the items below the script. A signature that is to fail must be empty (NULLFAIL): no branch of these
    /// scripts but the late one of an anchor succeeds with one.
    fn check(self, stack: &[&[u8]]) -> Result<(), WitnessFault> {
        match (self, stack) {
            (Form::Funding, [dummy, one, two]) => {
                empty(dummy)?;
                signature(one)?;
                signature(two)
            }
            (Form::Delayed, [sig, branch]) => {
                signature(sig)?;
                if_argument(branch)
            }
            (Form::ToRemote, [sig]) => signature(sig),
            (Form::Anchor, [[]]) => Ok(()),
            (Form::Anchor, [sig]) => signature(sig),
            // The revocation key, the preimage, or nothing (a timeout by the other side).
            (Form::Htlc, [sig, argument]) => {
                signature(sig)?;
                match argument.len() {
                    33 => compressed(argument),
                    0 | 32 => Ok(()),
                    _ => Err(WitnessFault::Form),
                }
            }
            // HTLC-timeout and HTLC-success: both signatures, then nothing or the preimage.
            (Form::Htlc, [dummy, other, owner, argument]) => {
                empty(dummy)?;
                signature(other)?;
                signature(owner)?;
                if matches!(argument.len(), 0 | 32) {
                    Ok(())
                } else {
                    Err(WitnessFault::Form)
                }
            }
            _ => Err(WitnessFault::Items),
        }
    }
}

/// A script of another's making: its first IF and whatever looks like a signature.
fn unknown(stack: &[&[u8]], script: &[u8]) -> Result<(), WitnessFault> {
    let branches =
        matches!(script.first(), Some(code) if [op::OP_IF.to_u8(), op::OP_NOTIF.to_u8()].contains(code));
    if let (true, Some(argument)) = (branches, stack.last()) {
        if_argument(argument)?;
    }
    stack.iter().filter(|item| looks_signed(item)).try_for_each(|item| signature(item))
}

/// DER's first byte, and a length that no key, hash or preimage has.
fn looks_signed(item: &[u8]) -> bool {
    item.first() == Some(&0x30) && (67..=73).contains(&item.len())
}

/// One encoding only: strict DER, low S, a known hash type (BIP 66, BIP 146).
fn signature(item: &[u8]) -> Result<(), WitnessFault> {
    let (kind, der) = item.split_last().ok_or(WitnessFault::Signature)?;
    let parsed = Signature::from_der(der).map_err(|_| WitnessFault::Signature)?;
    let mut low = parsed;
    low.normalize_s();
    let proper = low == parsed && *parsed.serialize_der() == *der;
    if proper && matches!(kind & !0x80, 1..=3) {
        Ok(())
    } else {
        Err(WitnessFault::Signature)
    }
}

fn compressed(item: &[u8]) -> Result<(), WitnessFault> {
    if item.len() == 33 && PublicKey::from_slice(item).is_ok() {
        Ok(())
    } else {
        Err(WitnessFault::Key)
    }
}

fn if_argument(item: &[u8]) -> Result<(), WitnessFault> {
    if matches!(item, [] | [1]) {
        Ok(())
    } else {
        Err(WitnessFault::If)
    }
}

/// What CHECKMULTISIG takes beyond its arguments (NULLDUMMY).
fn empty(item: &[u8]) -> Result<(), WitnessFault> {
    if item.is_empty() {
        Ok(())
    } else {
        Err(WitnessFault::Form)
    }
}
