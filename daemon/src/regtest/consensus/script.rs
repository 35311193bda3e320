//! Scripts, judged by Bitcoin Core's own interpreter (crate `bitcoinconsensus`).
//!
//! In: a transaction and *all* outputs it spends. Out: nothing, or the input that is refused. Every soft fork up to
//! taproot is on. The interpreter is always given the spent outputs: without them it would take any taproot
//! witness as good. Used for every block here, and by the daemon for every transaction before it is published.

use bitcoin::consensus::encode::serialize;
use bitcoin::{Transaction, TxOut};
use bitcoinconsensus::{
    verify_with_flags, Utxo, VERIFY_CHECKLOCKTIMEVERIFY, VERIFY_CHECKSEQUENCEVERIFY, VERIFY_DERSIG,
    VERIFY_NULLDUMMY, VERIFY_P2SH, VERIFY_TAPROOT, VERIFY_WITNESS,
};
use thiserror::Error;

/// All consensus rules of scripts: BIP 16, 65, 66, 112, 141/143, 147, 341/342.
const FLAGS: u32 = VERIFY_P2SH
    | VERIFY_DERSIG
    | VERIFY_NULLDUMMY
    | VERIFY_CHECKLOCKTIMEVERIFY
    | VERIFY_CHECKSEQUENCEVERIFY
    | VERIFY_WITNESS
    | VERIFY_TAPROOT;

/// The input that does not spend its output, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("input {input}: {fault}")]
pub struct ScriptReject {
    /// Position of the input, counted from 0.
    pub input: usize,
    /// What is wrong.
    pub fault: ScriptFault,
}

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScriptFault {
    /// The interpreter ran and said no.
    #[error("script refuses the spend")]
    Refused,
    /// The interpreter could not read the transaction.
    #[error("unreadable: {0}")]
    Unreadable(bitcoinconsensus::Error),
    /// Not exactly one spent output for each input, or no input at all.
    #[error("{coins} spent outputs given for {inputs} inputs")]
    Count {
        /// Inputs of the transaction.
        inputs: usize,
        /// Spent outputs handed in.
        coins: usize,
    },
    /// A spent value, or a length, that the interpreter cannot take.
    #[error("spent output out of range")]
    Range,
}

/// Checks every input's script and witness against the outputs spent, `spent[i]` by input `i`, under all consensus
/// rules (not policy). Values, locks and the existence of the coins are the caller's matter.
///
/// # Errors
/// The first input refused; a count of `spent` that differs from the inputs.
pub fn verify_inputs(tx: &Transaction, spent: &[TxOut]) -> Result<(), ScriptReject> {
    if tx.input.is_empty() || tx.input.len() != spent.len() {
        let fault = ScriptFault::Count { inputs: tx.input.len(), coins: spent.len() };
        return Err(ScriptReject { input: 0, fault });
    }
    let range = |input| ScriptReject { input, fault: ScriptFault::Range };
    let mut coins = Vec::with_capacity(spent.len());
    for (input, out) in spent.iter().enumerate() {
        coins.push(Utxo {
            script_pubkey: out.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(out.script_pubkey.len()).map_err(|_| range(input))?,
            value: i64::try_from(out.value.to_sat()).map_err(|_| range(input))?,
        });
    }
    let bytes = serialize(tx);
    u32::try_from(bytes.len()).map_err(|_| range(0))?;
    for (input, out) in spent.iter().enumerate() {
        let script = out.script_pubkey.as_bytes();
        verify_with_flags(script, out.value.to_sat(), &bytes, Some(&coins), input, FLAGS).map_err(
            |error| {
                let fault = match error {
                    bitcoinconsensus::Error::ERR_SCRIPT => ScriptFault::Refused,
                    other => ScriptFault::Unreadable(other),
                };
                ScriptReject { input, fault }
            },
        )?;
    }
    Ok(())
}
