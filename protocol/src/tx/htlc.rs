//! HTLC-timeout and HTLC-success transactions: how a commitment's owner ends an HTLC on chain (BOLT 3).
//!
//! In: the commitment transaction and its HTLC outputs. Out: second-stage transactions, digests for both keys, witnesses.
//! An HTLC that the owner offered ends by timeout, one it received by the preimage; both pay to a delayed output.
//! Read next: `script`.

use super::commitment::{CommitmentTerms, Draft};
use super::keys::CommitmentKeys;
use super::{amount, digest, script, weight, ChannelType};
use crate::id::{HtlcId, PaymentHash, Preimage};
use crate::units::{Feerate, Height, Sat};
use alloc::vec::Vec;
use bitcoin::absolute::LockTime;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use secp256k1::ecdsa::Signature;

/// No preimage was given for an HTLC-success transaction, or that of another HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the preimage of this HTLC")]
pub struct WrongPreimage;

/// An HTLC output of a commitment and the transaction by which the commitment's owner ends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HtlcTx {
    /// The HTLC's name.
    pub id: HtlcId,
    /// Whether the commitment's owner offered it: HTLC-timeout if so, HTLC-success if not.
    pub offered: bool,
    /// Which output of the commitment it is.
    pub vout: u32,
    /// That output's value.
    pub amount: Sat,
    /// Its preimage settles it.
    pub payment_hash: PaymentHash,
    /// From this height on it may be timed out.
    pub cltv_expiry: Height,
    /// The witness script of the commitment's output.
    pub witness_script: ScriptBuf,
    /// The transaction, its witness empty.
    pub tx: Transaction,
    /// The witness script of this transaction's own output: that of `to_local`.
    pub output_script: ScriptBuf,
    channel_type: ChannelType,
}

impl HtlcTx {
    /// The HTLC transactions of a commitment, in output order; takes the scripts out of the drafts.
    pub(super) fn all(
        terms: &CommitmentTerms,
        keys: &CommitmentKeys,
        feerate: Feerate,
        commitment: &Transaction,
        drafts: &mut [Draft<'_>],
    ) -> Vec<HtlcTx> {
        if drafts.iter().all(|draft| draft.htlc.is_none()) {
            return Vec::new();
        }
        let txid = commitment.compute_txid();
        let output_script = script::to_local(&keys.revocation, &keys.delayed, terms.owner_delay_blocks);
        let script_pubkey = script::p2wsh(&output_script);
        let one = |(vout, draft): (u32, &mut Draft<'_>)| {
            let (htlc, witness_script) = draft.htlc.take()?;
            // It was not trimmed: the amount covers the fee and the dust limit.
            let fee = weight::htlc_fee(terms.channel_type, feerate, htlc.offered);
            let output = TxOut {
                value: amount(draft.value.saturating_sub(fee)),
                script_pubkey: script_pubkey.clone(),
            };
            let expiry = if htlc.offered { htlc.cltv_expiry } else { Height(0) };
            Some(HtlcTx {
                id: htlc.id,
                offered: htlc.offered,
                vout,
                amount: draft.value,
                payment_hash: htlc.payment_hash,
                cltv_expiry: htlc.cltv_expiry,
                witness_script,
                tx: transaction(terms.channel_type, txid, vout, expiry, output),
                output_script: output_script.clone(),
                channel_type: terms.channel_type,
            })
        };
        (0..).zip(drafts).filter_map(one).collect()
    }

    /// What the other side signs with its HTLC key: SINGLE|ANYONECANPAY with anchors, so that the owner can add a fee (BOLT 5, "Generation of HTLC Transactions").
    pub fn counterparty_sighash(&self) -> [u8; 32] {
        digest(&self.tx, &self.witness_script, self.amount, counterparty_kind(self.channel_type))
    }

    /// What the owner signs with its HTLC key, SIGHASH_ALL, when the transaction is published as it stands.
    pub fn own_sighash(&self) -> [u8; 32] {
        digest(&self.tx, &self.witness_script, self.amount, EcdsaSighashType::All)
    }

    /// The signed transaction. With anchors it pays no fee yet: see [`HtlcTx::witness`] for one with more inputs.
    ///
    /// # Errors
    /// [`WrongPreimage`] when the owner received this HTLC and `preimage` is not its preimage.
    pub fn signed(
        &self,
        owner_sig: &Signature,
        other_sig: &Signature,
        preimage: Option<&Preimage>,
    ) -> Result<Transaction, WrongPreimage> {
        let mut tx = self.tx.clone();
        let witness = self.witness(owner_sig, other_sig, preimage)?;
        if let Some(input) = tx.input.first_mut() {
            input.witness = witness;
        }
        Ok(tx)
    }

    /// The witness of the HTLC's input. With anchors, inputs and outputs may be added for a fee as long as this
    /// input and this output keep one index; `owner_sig` then signs the whole, `other_sig` stays as it is.
    ///
    /// # Errors
    /// [`WrongPreimage`] when the owner received this HTLC and `preimage` is not its preimage.
    pub fn witness(
        &self,
        owner_sig: &Signature,
        other_sig: &Signature,
        preimage: Option<&Preimage>,
    ) -> Result<Witness, WrongPreimage> {
        let mut witness = Witness::new();
        witness.push([]);
        let kind = counterparty_kind(self.channel_type);
        witness.push_ecdsa_signature(&script::witness_signature(other_sig, kind));
        witness.push_ecdsa_signature(&script::witness_signature(owner_sig, EcdsaSighashType::All));
        match preimage {
            _ if self.offered => witness.push([]),
            Some(preimage) if preimage.hash() == self.payment_hash => witness.push(preimage.0),
            _ => return Err(WrongPreimage),
        }
        witness.push(self.witness_script.as_bytes());
        Ok(witness)
    }

    /// The weight that fees are reckoned with, in weight units (BOLT 3, Appendix A).
    pub const fn expected_weight(&self) -> u64 {
        if self.offered {
            weight::htlc_timeout_weight(self.channel_type)
        } else {
            weight::htlc_success_weight(self.channel_type)
        }
    }
}

/// How the other side's signature on an HTLC transaction hashes it (BOLT 3, "HTLC-Timeout and HTLC-Success Transactions").
pub const fn counterparty_kind(channel_type: ChannelType) -> EcdsaSighashType {
    match channel_type {
        ChannelType::StaticRemotekey => EcdsaSighashType::All,
        // BOLT 5 [5.htlctx.1].
        ChannelType::Anchors => EcdsaSighashType::SinglePlusAnyoneCanPay,
    }
}

fn transaction(
    channel_type: ChannelType,
    commitment: Txid,
    vout: u32,
    expiry: Height,
    output: TxOut,
) -> Transaction {
    // One block of delay with anchors, or this transaction could not be confirmed at all (the script asks for it).
    let sequence = Sequence(u32::from(channel_type.is_anchors()));
    let input = TxIn {
        previous_output: OutPoint { txid: commitment, vout },
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::new(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(expiry.0),
        input: [input].into(),
        output: [output].into(),
    }
}
