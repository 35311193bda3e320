//! Whether nodes with Bitcoin Core's usual policy would relay a transaction of ours, as far as its shape tells.
//!
//! In: a signed transaction and all outputs it spends. Out: the first rule it breaks. Scripts are not run here:
//! that they hold is for a consensus check. Stricter than the network on purpose: segwit inputs only.
//! Read next: `witness` (the rules for each input).

mod witness;

use crate::units::{Feerate, Sat};
use bitcoin::{Script, Transaction, TxOut};
pub use witness::WitnessFault;

/// The largest weight that is relayed.
pub const MAX_WEIGHT: u64 = 400_000;
/// The largest virtual size, in bytes, of a version 3 transaction.
pub const MAX_V3_VBYTES: u64 = 10_000;
/// The smallest size without witness, in bytes, that is relayed.
pub const MIN_BYTES: usize = 65;
/// The longest OP_RETURN output script, in bytes, that all nodes relay.
pub const MAX_OP_RETURN_BYTES: usize = 83;

/// The rule that a transaction breaks; inputs and outputs are named by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NonStandard {
    /// Not 1, 2 or 3.
    #[error("version {0}")]
    Version(i32),
    /// Without inputs or outputs, or below 65 bytes.
    #[error("too small")]
    TooSmall,
    /// Above 400,000 weight units, or 10,000 virtual bytes for version 3.
    #[error("weight {0} is too large")]
    Weight(u64),
    /// The spent outputs handed in are not as many as the inputs.
    #[error("not one spent output for each input")]
    SpentOutputs,
    /// An outpoint is spent twice.
    #[error("input {0} spends what an earlier one spends")]
    DuplicateInput(usize),
    /// An input script is there where segwit has none.
    #[error("input {0} has a script")]
    ScriptSig(usize),
    /// An input's witness breaks a rule.
    #[error("input {0}: {1}")]
    Witness(usize, WitnessFault),
    /// An output script of no usual form.
    #[error("output {0} has an unusual script")]
    OutputScript(usize),
    /// An output too small for its script.
    #[error("output {0} is dust")]
    Dust(usize),
    /// A second OP_RETURN output.
    #[error("more than one OP_RETURN output")]
    ManyOpReturns,
    /// Outputs exceed inputs, or there is no so much money.
    #[error("the amounts do not add up")]
    Amounts,
    /// Less than the relay fee, in satoshis.
    #[error("fee {fee} below {needed}")]
    Fee {
        /// What it pays.
        fee: Sat,
        /// What is asked.
        needed: Sat,
    },
}

/// Checks `tx`, which spends `spent_outputs` (one for each input, in order), against the rules of relay.
///
/// # Errors
/// [`NonStandard`], the first rule broken.
pub fn standard(tx: &Transaction, spent_outputs: &[TxOut], min_relay: Feerate) -> Result<(), NonStandard> {
    size(tx)?;
    if spent_outputs.len() != tx.input.len() {
        return Err(NonStandard::SpentOutputs);
    }
    for (place, (input, spent)) in tx.input.iter().zip(spent_outputs).enumerate() {
        if !input.script_sig.is_empty() {
            return Err(NonStandard::ScriptSig(place));
        }
        witness::check(&input.witness, &spent.script_pubkey)
            .map_err(|fault| NonStandard::Witness(place, fault))?;
    }
    duplicates(tx)?;
    outputs(tx)?;
    fee(tx, spent_outputs, min_relay)
}

fn size(tx: &Transaction) -> Result<(), NonStandard> {
    if !(1..=3).contains(&tx.version.0) {
        return Err(NonStandard::Version(tx.version.0));
    }
    if tx.input.is_empty() || tx.output.is_empty() || tx.base_size() < MIN_BYTES {
        return Err(NonStandard::TooSmall);
    }
    let weight = tx.weight().to_wu();
    let limit = if tx.version.0 == 3 { MAX_V3_VBYTES * 4 } else { MAX_WEIGHT };
    if weight > limit {
        return Err(NonStandard::Weight(weight));
    }
    Ok(())
}

fn duplicates(tx: &Transaction) -> Result<(), NonStandard> {
    let mut seen = alloc::collections::BTreeSet::new();
    match tx.input.iter().position(|input| !seen.insert(input.previous_output)) {
        Some(place) => Err(NonStandard::DuplicateInput(place)),
        None => Ok(()),
    }
}

fn outputs(tx: &Transaction) -> Result<(), NonStandard> {
    let mut op_returns = 0;
    for (place, output) in tx.output.iter().enumerate() {
        let script = output.script_pubkey.as_script();
        if script.is_op_return() {
            op_returns += 1;
            if script.len() > MAX_OP_RETURN_BYTES {
                return Err(NonStandard::OutputScript(place));
            }
        } else if !(script.is_witness_program() || script.is_p2pkh() || script.is_p2sh()) {
            return Err(NonStandard::OutputScript(place));
        }
        if output.value.to_sat() < dust_threshold(script).0 {
            return Err(NonStandard::Dust(place));
        }
    }
    if op_returns > 1 {
        return Err(NonStandard::ManyOpReturns);
    }
    Ok(())
}

fn fee(tx: &Transaction, spent_outputs: &[TxOut], min_relay: Feerate) -> Result<(), NonStandard> {
    let sum = |outputs: &[TxOut]| {
        let add = |sum: Sat, output: &TxOut| sum.checked_add(Sat(output.value.to_sat()));
        outputs.iter().try_fold(Sat::ZERO, add).filter(|sum| *sum <= Sat::MAX_MONEY)
    };
    let amounts = sum(spent_outputs).zip(sum(&tx.output));
    let fee =
        amounts.and_then(|(inward, outward)| inward.checked_sub(outward)).ok_or(NonStandard::Amounts)?;
    let needed = min_relay.relay_fee(tx.weight().to_wu());
    if fee < needed {
        return Err(NonStandard::Fee { fee, needed });
    }
    Ok(())
}

/// Below this an output with `script` is not relayed, at 3 sat per byte of the output and of the input that would
/// spend it (BOLT 3, "Dust Limits"); zero for OP_RETURN.
pub fn dust_threshold(script: &Script) -> Sat {
    if script.is_op_return() {
        return Sat::ZERO;
    }
    let length = script.len() as u64;
    let output = 8 + if length < 0xfd { 1 } else { 3 } + length;
    let input = if script.is_witness_program() { 67 } else { 148 };
    Sat(3 * (output + input))
}

/// The dust limit of BOLT 3's table, which closing transactions are judged by: as [`dust_threshold`], but 354 sat for
/// all witness programs above version 0 other than pay-to-anchor.
pub fn bolt_dust_limit(script: &Script) -> Sat {
    let newer = script.is_witness_program() && !script.is_p2wpkh() && !script.is_p2wsh();
    if newer && !is_p2a(script) {
        return Sat(354);
    }
    dust_threshold(script)
}

/// Whether `script` is the pay-to-anchor output that anyone may spend.
pub fn is_p2a(script: &Script) -> bool {
    script.as_bytes() == [0x51, 0x02, 0x4e, 0x73]
}
