//! Cooperative closing transactions, by `closing_signed` and by `closing_complete` (BOLT 2 and 3).
//!
//! In: the final balances, both output scripts, a fee. Out: the transaction, its digest, its witness; and which
//! scripts `shutdown` may carry. Here a channel has no HTLC left: the two balances are the capacity.
//! Read next: `standard`.

use super::standard::bolt_dust_limit;
use super::{amount, digest, script};
use crate::id::Side;
use crate::units::{Msat, Sat};
use alloc::vec::Vec;
use bitcoin::absolute::LockTime;
use bitcoin::opcodes::all as op;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;

/// What every closing transaction of a channel starts from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseTerms {
    /// The output it spends.
    pub funding: OutPoint,
    /// That output's value.
    pub capacity: Sat,
    /// Our key in it.
    pub local_funding_pubkey: PublicKey,
    /// The peer's.
    pub remote_funding_pubkey: PublicKey,
    /// What is ours.
    pub to_local: Msat,
    /// What is the peer's.
    pub to_remote: Msat,
    /// Where ours goes.
    pub local_script: ScriptBuf,
    /// Where the peer's goes.
    pub remote_script: ScriptBuf,
}

/// No such closing transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// The balances are not together the capacity.
    #[error("the balances do not add up to the capacity")]
    Sum,
    /// Whoever pays has less than the fee.
    #[error("the fee is more than its payer has")]
    Fee,
    /// Both outputs are left out.
    #[error("the closing transaction would have no output")]
    NoOutput,
}

/// Which outputs a closing transaction by `closing_complete` has (BOLT 2 `closing_tlvs`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CloseOutputs {
    /// TLV 1, `closer_output_only`.
    CloserOnly,
    /// TLV 2, `closee_output_only`.
    CloseeOnly,
    /// TLV 3, `closer_and_closee_outputs`.
    Both,
}

/// A closing transaction without signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Close {
    /// The transaction, its witness empty.
    pub tx: Transaction,
    /// What it pays: the capacity less the outputs.
    pub fee: Sat,
    /// Which output is ours; `None` when left out.
    pub local_vout: Option<u32>,
    /// Which output is the peer's; `None` when left out.
    pub remote_vout: Option<u32>,
    capacity: Sat,
    local_funding_pubkey: PublicKey,
    remote_funding_pubkey: PublicKey,
}

impl CloseTerms {
    /// A side's balance in whole satoshis (BOLT 3: MUST round each output down), less `fee` when it pays.
    fn balance(&self, side: Side, payer: Side, fee: Sat) -> Result<Sat, CloseError> {
        let balance = match side {
            Side::Local => self.to_local,
            Side::Remote => self.to_remote,
        };
        // BOLT 3 [3.close.1, 3.close.2, 3.simple.1, 3.simple.2].
        let fee = if side == payer { fee } else { Sat::ZERO };
        balance.floor_sat().checked_sub(fee).ok_or(CloseError::Fee)
    }

    fn script(&self, side: Side) -> &ScriptBuf {
        match side {
            Side::Local => &self.local_script,
            Side::Remote => &self.remote_script,
        }
    }

    fn check(&self) -> Result<(), CloseError> {
        let sum = self.to_local.checked_add(self.to_remote);
        if sum.is_none() || sum != self.capacity.checked_msat() {
            return Err(CloseError::Sum);
        }
        Ok(())
    }
}

/// The closing transaction that `closing_signed` signs (BOLT 3, "Legacy Closing Transaction").
///
/// `funder` pays `fee`. Outputs below `dust_limit` (of the side that signs) are removed; a side MAY leave out its
/// own as well: `omit`, so that there are two variants for each node.
///
/// # Errors
/// [`CloseError`].
pub fn build_close(
    terms: &CloseTerms,
    funder: Side,
    fee: Sat,
    dust_limit: Sat,
    omit: Option<Side>,
) -> Result<Close, CloseError> {
    terms.check()?;
    let mut outputs = Vec::new();
    for side in [Side::Local, Side::Remote] {
        let value = terms.balance(side, funder, fee)?;
        // BOLT 3 [3.close.3].
        if value >= dust_limit && value > Sat::ZERO && omit != Some(side) {
            outputs.push((value, side));
        }
    }
    assemble(terms, outputs, Sequence::MAX, LockTime::ZERO)
}

/// The closing transaction that `closing_complete` signs: the closer pays `fee` (BOLT 3, "Closing Transaction").
///
/// # Errors
/// [`CloseError`]; a fee above the closer's balance is the closer's fault (BOLT 2).
pub fn build_simple_close(
    terms: &CloseTerms,
    closer: Side,
    fee: Sat,
    locktime: u32,
    which: CloseOutputs,
) -> Result<Close, CloseError> {
    terms.check()?;
    let mut outputs = Vec::new();
    for side in [Side::Local, Side::Remote] {
        let value = simple_value(terms, side, closer, fee)?;
        let absent = if side == closer { CloseOutputs::CloseeOnly } else { CloseOutputs::CloserOnly };
        if which != absent {
            outputs.push((value, side));
        }
    }
    assemble(terms, outputs, Sequence::ENABLE_RBF_NO_LOCKTIME, LockTime::from_consensus(locktime))
}

/// An output of nothing when its script is an OP_RETURN, else the balance (BOLT 3, "Closing Transaction").
fn simple_value(terms: &CloseTerms, side: Side, closer: Side, fee: Sat) -> Result<Sat, CloseError> {
    let value = terms.balance(side, closer, fee)?;
    // BOLT 2, 3 [2.simple.9, 2.simple.17, 3.simple.3].
    Ok(if terms.script(side).is_op_return() { Sat::ZERO } else { value })
}

/// Which transactions the closer signs in `closing_complete`; empty when `fee` leaves only dust (BOLT 2: MUST NOT).
///
/// # Errors
/// [`CloseError::Fee`] when the closer has less than `fee`.
pub fn closer_offers(
    terms: &CloseTerms,
    closer: Side,
    fee: Sat,
) -> Result<&'static [CloseOutputs], CloseError> {
    terms.check()?;
    let dust = |side| -> Result<bool, CloseError> {
        Ok(simple_value(terms, side, closer, fee)? < bolt_dust_limit(terms.script(side)))
    };
    let lesser = match closer {
        Side::Local => terms.to_local < terms.to_remote,
        Side::Remote => terms.to_remote < terms.to_local,
    };
    Ok(match (lesser, dust(closer)?, dust(closer.other())?) {
        // BOLT 2 [2.simple.2].
        (_, true, true) => &[],
        // BOLT 2 [2.simple.6, 2.simple.7].
        (true, true, false) => &[CloseOutputs::CloseeOnly],
        (true, false, _) => &[CloseOutputs::Both],
        // BOLT 2 [2.simple.8, 2.simple.10, 2.simple.11].
        (false, _, true) => &[CloseOutputs::CloserOnly],
        // The closer has the greater part yet pays it all in fees: it must not leave its output out, nor keep dust.
        (false, true, false) => &[],
        // BOLT 2 [2.simple.8, 2.simple.12].
        (false, false, false) => &[CloseOutputs::CloserOnly, CloseOutputs::Both],
    })
}

/// Which of the closer's signatures the closee MUST use (BOLT 2, "The receiver of `closing_complete`"); the closee
/// is the side other than `closer`, `has_both` tells whether `closer_and_closee_outputs` came.
///
/// # Errors
/// [`CloseError::Fee`] when the closer has less than `fee`.
pub fn closee_choice(
    terms: &CloseTerms,
    closer: Side,
    fee: Sat,
    has_both: bool,
) -> Result<CloseOutputs, CloseError> {
    // BOLT 2 [2.simple.16].
    terms.balance(closer, closer, fee)?;
    let own = closer.other();
    let dust = simple_value(terms, own, closer, fee)? < bolt_dust_limit(terms.script(own));
    Ok(match (dust, has_both) {
        // BOLT 2 [2.simple.19].
        (true, _) => CloseOutputs::CloserOnly,
        // BOLT 2 [2.simple.21].
        (false, true) => CloseOutputs::Both,
        // BOLT 2 [2.simple.22].
        (false, false) => CloseOutputs::CloseeOnly,
    })
}

/// Sorts the outputs (BOLT 3, "Transaction Output Ordering") and puts the transaction together.
fn assemble(
    terms: &CloseTerms,
    mut outputs: Vec<(Sat, Side)>,
    sequence: Sequence,
    lock_time: LockTime,
) -> Result<Close, CloseError> {
    if outputs.is_empty() {
        return Err(CloseError::NoOutput);
    }
    outputs.sort_by(|a, b| {
        let scripts = || terms.script(a.1).as_bytes().cmp(terms.script(b.1).as_bytes());
        a.0.cmp(&b.0).then_with(scripts)
    });
    let spent = outputs.iter().try_fold(Sat::ZERO, |sum, output| sum.checked_add(output.0));
    let fee = spent.and_then(|sum| terms.capacity.checked_sub(sum)).ok_or(CloseError::Sum)?;
    let vout = |side| (0..).zip(&outputs).find_map(|(vout, output)| (output.1 == side).then_some(vout));
    let input = TxIn {
        previous_output: terms.funding,
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::new(),
    };
    let output = |&(value, side): &(Sat, Side)| TxOut {
        value: amount(value),
        script_pubkey: terms.script(side).clone(),
    };
    Ok(Close {
        tx: Transaction {
            version: Version::TWO,
            lock_time,
            input: [input].into(),
            output: outputs.iter().map(output).collect(),
        },
        fee,
        local_vout: vout(Side::Local),
        remote_vout: vout(Side::Remote),
        capacity: terms.capacity,
        local_funding_pubkey: terms.local_funding_pubkey,
        remote_funding_pubkey: terms.remote_funding_pubkey,
    })
}

impl Close {
    /// What both sides sign with their funding key, SIGHASH_ALL.
    pub fn sighash(&self) -> [u8; 32] {
        let script = script::funding(&self.local_funding_pubkey, &self.remote_funding_pubkey);
        // BOLT 3 [3.sign.1].
        digest(&self.tx, &script, self.capacity, EcdsaSighashType::All)
    }

    /// The transaction with both sides' signatures, ready to publish.
    pub fn with_signatures(&self, local_sig: &Signature, remote_sig: &Signature) -> Transaction {
        let mut tx = self.tx.clone();
        if let Some(input) = tx.input.first_mut() {
            input.witness = script::funding_witness(
                (&self.local_funding_pubkey, local_sig),
                (&self.remote_funding_pubkey, remote_sig),
            );
        }
        tx
    }

    /// Whether an output is dust for its script, so that it would not relay: with `closing_signed`, the receiver
    /// MUST then fail the channel (BOLT 2).
    pub fn has_dust(&self) -> bool {
        let dust = |output: &TxOut| output.value.to_sat() < bolt_dust_limit(&output.script_pubkey).0;
        self.tx.output.iter().any(dust)
    }
}

/// The expected weight of a closing transaction with these output scripts, signatures of 73 bytes assumed as BOLT 3 does.
pub fn close_weight<'a>(scripts: impl IntoIterator<Item = &'a Script>) -> u64 {
    // Version, counts, one input of 41 bytes, lock time; then marker, flag and the 222 bytes of the witness.
    let fixed = 4 * (4 + 1 + 41 + 1 + 4) + 2 + 222;
    let output = |script: &Script| {
        let len = script.len() as u64;
        8 + if len < 0xfd { 1 } else { 3 } + len
    };
    scripts
        .into_iter()
        .map(output)
        .fold(fixed, |sum: u64, bytes: u64| sum.saturating_add(bytes.saturating_mul(4)))
}

/// Whether a node MUST NOT choose any other form: the scripts that `shutdown` may carry (BOLT 2, "Closing Initiation").
///
/// `anysegwit`: `option_shutdown_anysegwit` is negotiated; `simple_close`: `option_simple_close` is.
pub fn may_send_shutdown(script: &Script, anysegwit: bool, simple_close: bool) -> bool {
    let bytes = script.as_bytes();
    if script.is_p2wpkh() || script.is_p2wsh() {
        return true;
    }
    match bytes {
        [version, length, program @ ..] if (0x51..=0x60).contains(version) => {
            anysegwit && (2..=40).contains(length) && program.len() == usize::from(*length)
        }
        [first, rest @ ..] if *first == op::OP_RETURN.to_u8() => simple_close && is_data_push(rest),
        _ => false,
    }
}

/// What follows OP_RETURN: one push of 6 to 80 bytes in its shortest form (BOLT 2, "Closing Initiation").
fn is_data_push(bytes: &[u8]) -> bool {
    match bytes {
        [length @ 6..=75, data @ ..] => data.len() == usize::from(*length),
        [76, length @ 76..=80, data @ ..] => data.len() == usize::from(*length),
        _ => false,
    }
}

/// Whether a `shutdown` with that script is to be taken: all that may be sent, and the P2PKH and P2SH of old nodes
/// (BOLT 2 lets them be accepted for backwards compatibility).
pub fn may_accept_shutdown(script: &Script, anysegwit: bool, simple_close: bool) -> bool {
    may_send_shutdown(script, anysegwit, simple_close) || script.is_p2pkh() || script.is_p2sh()
}
