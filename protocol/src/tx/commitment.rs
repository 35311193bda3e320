//! A commitment transaction, built from a balance snapshot and never edited (BOLT 3, "Commitment Transaction Construction").
//!
//! In: the channel's terms, the keys of that commitment, its number and a [`Spec`]. Out: the transaction, its HTLC
//! transactions in output order, and the digest to sign.
//! All is told from the commitment's owner, the side that may broadcast it: for the peer's commitment the peer is
//! the owner. Read next: `htlc`, `weight`.

pub use super::htlc::{HtlcTx, WrongPreimage};
use super::keys::CommitmentKeys;
use super::weight::{self, ANCHOR_SAT, MAX_HTLCS_PER_SIDE};
use super::{amount, digest, script, shachain, ChannelType};
use crate::id::{sha256, HtlcId, PaymentHash};
use crate::units::{Feerate, Height, Msat, Sat};
use alloc::vec::Vec;
use bitcoin::absolute::LockTime;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use core::cmp::Ordering;
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

/// From here on a lock time means seconds: no HTLC may expire at such a height (BOLT 2 `update_add_htlc`).
pub const EXPIRY_LIMIT: Height = Height(500_000_000);

/// One HTLC on a commitment, whether or not it is large enough for an output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpecHtlc {
    /// Its name in the channel.
    pub id: HtlcId,
    /// Whether the owner of this commitment offered it.
    pub offered: bool,
    /// How much.
    pub amount: Msat,
    /// Its preimage settles it.
    pub payment_hash: PaymentHash,
    /// The height from which whoever offered it may take it back.
    pub cltv_expiry: Height,
}

/// A balance snapshot (the seed's 余额分配方案): who owns what in one state of the channel.
///
/// HTLC amounts are already taken off the balance of the side that offered them; the fee and the anchors are not
/// yet taken off the funder's: [`build`] does that. The sum of it all is the channel's capacity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The feerate of the commitment and, without anchors, of its HTLC transactions.
    pub feerate: Feerate,
    /// What the commitment's owner has outside HTLCs.
    pub to_owner: Msat,
    /// What the other side has outside HTLCs.
    pub to_other: Msat,
    /// What is under way, in any order.
    pub htlcs: Vec<SpecHtlc>,
}

/// What stays the same from one commitment of a side to the next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitmentTerms {
    /// The form of its outputs.
    pub channel_type: ChannelType,
    /// The output it spends.
    pub funding: OutPoint,
    /// That output's value.
    pub capacity: Sat,
    /// Whether the owner of the commitment opened the channel and so pays the fee.
    pub owner_is_funder: bool,
    /// The owner's key in the funding output.
    pub owner_funding_pubkey: PublicKey,
    /// The other side's.
    pub other_funding_pubkey: PublicKey,
    /// The owner's `dust_limit_satoshis`.
    pub owner_dust_limit: Sat,
    /// How long, in blocks, the owner waits for its own outputs: the `to_self_delay` that the other side asked for.
    pub owner_delay_blocks: u16,
    /// From [`obscure_factor`].
    pub obscure: u64,
}

/// A commitment cannot be built from this snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Balances and HTLCs are not together the capacity.
    #[error("balances and HTLCs do not add up to the capacity")]
    Sum,
    /// A side offers more than 483 (BOLT 2, `max_accepted_htlcs`).
    #[error("more than 483 HTLCs offered by one side")]
    TooManyHtlcs,
    /// An expiry that means seconds, not a height.
    #[error("an HTLC expires at a time, not a height")]
    Expiry,
    /// Beyond 2^48 - 1: the channel is used up.
    #[error("no commitment has such a number")]
    Number,
    /// The funder has so little that the anchors would spend more than there is.
    #[error("the funder cannot pay the anchor outputs")]
    Anchors,
    /// All is dust: a transaction without outputs could never be published.
    #[error("the commitment would have no output")]
    NoOutput,
}

/// What an output of a commitment is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OutputKind {
    /// The owner's balance, delayed and revocable.
    ToLocal,
    /// The other side's balance.
    ToRemote,
    /// The anchor that the owner may spend.
    AnchorOwner,
    /// The anchor that the other side may spend.
    AnchorOther,
    /// An HTLC.
    Htlc(HtlcId),
}

/// A commitment transaction without signatures, and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commitment {
    /// The transaction, its witness empty.
    pub tx: Transaction,
    /// Its number, counted up from 0.
    pub number: u64,
    /// The HTLC transactions, in the order of the outputs they spend: that of `htlc_signature` in `commitment_signed`.
    pub htlcs: Vec<HtlcTx>,
    /// What each output is, in the order of `tx.output`.
    pub outputs: Vec<OutputKind>,
    /// HTLCs too small for an output, in the order of the snapshot.
    pub trimmed: Vec<HtlcId>,
    /// What the transaction really pays: the capacity less the outputs.
    pub fee: Sat,
    /// What BOLT 3 makes the funder pay, without the anchors.
    pub base_fee: Sat,
    /// How much the funder's balance falls short of base fee and anchors; zero when all is well.
    ///
    /// BOLT 3 then leaves the funder's output out and pays a smaller fee; whether to accept that is for BOLT 2's rules.
    pub shortfall: Sat,
    terms: CommitmentTerms,
    keys: CommitmentKeys,
}

/// The number that hides commitment numbers on chain: the low 48 bits of a hash of both payment basepoints (BOLT 3, "Commitment Transaction").
pub fn obscure_factor(opener_payment_basepoint: &PublicKey, accepter_payment_basepoint: &PublicKey) -> u64 {
    let mut both = [0; 66];
    both[..33].copy_from_slice(&opener_payment_basepoint.serialize());
    both[33..].copy_from_slice(&accepter_payment_basepoint.serialize());
    sha256(&both)[26..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The number of a commitment seen on chain; `None` when `tx` has not the form of one (BOLT 3, "Commitment Transaction").
pub fn commitment_number(tx: &Transaction, obscure: u64) -> Option<u64> {
    let [input] = tx.input.as_slice() else { return None };
    let (high, low) = (input.sequence.0, tx.lock_time.to_consensus_u32());
    let formed = high >> 24 == 0x80 && low >> 24 == 0x20;
    formed.then(|| (u64::from(high & 0xff_ffff) << 24 | u64::from(low & 0xff_ffff)) ^ obscure)
}

/// Builds the owner's commitment `number` from `spec`.
///
/// # Errors
/// [`SpecError`] when the snapshot is no state this channel can have. A funder who cannot pay the whole fee is no
/// error: see [`Commitment::shortfall`].
pub fn build(
    terms: &CommitmentTerms,
    keys: &CommitmentKeys,
    number: u64,
    spec: &Spec,
) -> Result<Commitment, SpecError> {
    check(terms, number, spec)?;
    let trims = |htlc: &SpecHtlc| {
        let dust_limit = terms.owner_dust_limit;
        weight::is_trimmed(terms.channel_type, spec.feerate, dust_limit, htlc.offered, htlc.amount)
    };
    let (small, kept): (Vec<&SpecHtlc>, Vec<&SpecHtlc>) = spec.htlcs.iter().partition(|h| trims(h));
    let base_fee = weight::commit_fee(terms.channel_type, spec.feerate, kept.len());
    let cost = weight::funder_cost(terms.channel_type, spec.feerate, kept.len());
    let (to_owner, to_other, shortfall) = balances(terms, spec, cost);

    let mut drafts = balance_outputs(terms, keys, to_owner, to_other, !kept.is_empty());
    let scripts = script::HtlcScripts::new(terms.channel_type, keys);
    drafts.extend(kept.into_iter().map(|htlc| htlc_output(&scripts, htlc)));
    if drafts.is_empty() {
        return Err(SpecError::NoOutput);
    }
    drafts.sort_by(Draft::order);

    let spent = drafts.iter().try_fold(Sat::ZERO, |sum, draft| sum.checked_add(draft.value));
    let fee = spent.and_then(|sum| terms.capacity.checked_sub(sum)).ok_or(SpecError::Anchors)?;
    let tx = transaction(terms, number, &drafts);
    let htlcs = HtlcTx::all(terms, keys, spec.feerate, &tx, &mut drafts);
    Ok(Commitment {
        tx,
        number,
        htlcs,
        outputs: drafts.iter().map(|draft| draft.kind).collect(),
        trimmed: small.into_iter().map(|htlc| htlc.id).collect(),
        fee,
        base_fee,
        shortfall,
        terms: terms.clone(),
        keys: keys.clone(),
    })
}

/// Refuses what is no state of this channel.
fn check(terms: &CommitmentTerms, number: u64, spec: &Spec) -> Result<(), SpecError> {
    if number > shachain::MAX_INDEX {
        return Err(SpecError::Number);
    }
    let offered = spec.htlcs.iter().filter(|htlc| htlc.offered).count();
    if offered > MAX_HTLCS_PER_SIDE || spec.htlcs.len() - offered > MAX_HTLCS_PER_SIDE {
        return Err(SpecError::TooManyHtlcs);
    }
    if spec.htlcs.iter().any(|htlc| htlc.cltv_expiry >= EXPIRY_LIMIT) {
        return Err(SpecError::Expiry);
    }
    let parts = spec.htlcs.iter().map(|htlc| htlc.amount).chain([spec.to_owner, spec.to_other]);
    let sum = Msat::checked_sum(parts);
    if sum.is_none() || sum != terms.capacity.checked_msat() {
        return Err(SpecError::Sum);
    }
    Ok(())
}

/// Both balances in whole satoshis after the funder paid `cost`, and what the funder lacked of it.
fn balances(terms: &CommitmentTerms, spec: &Spec, cost: Sat) -> (Sat, Sat, Sat) {
    // BOLT 3 [3.outputs.1, 3.trim.1].
    let (owner, other) = (spec.to_owner.floor_sat(), spec.to_other.floor_sat());
    if terms.owner_is_funder {
        (owner.saturating_sub(cost), other, cost.saturating_sub(owner))
    } else {
        (owner, other.saturating_sub(cost), cost.saturating_sub(other))
    }
}

/// An output to be, before sorting.
pub(super) struct Draft<'a> {
    pub(super) value: Sat,
    pub(super) script_pubkey: ScriptBuf,
    pub(super) kind: OutputKind,
    pub(super) htlc: Option<(&'a SpecHtlc, ScriptBuf)>,
}

impl Draft<'_> {
    /// Value, then script, then expiry (BOLT 3, "Transaction Output Ordering"). Two HTLCs equal in all three have
    /// equal HTLC transactions but for the output they spend; their ids then fix which is which on both sides.
    fn order(&self, other: &Self) -> Ordering {
        let tie = |draft: &Self| draft.htlc.as_ref().map(|(htlc, _)| (htlc.cltv_expiry, htlc.id.id));
        self.value
            .cmp(&other.value)
            .then_with(|| self.script_pubkey.as_bytes().cmp(other.script_pubkey.as_bytes()))
            .then_with(|| tie(self).cmp(&tie(other)))
    }
}

/// `to_local`, `to_remote` and the anchors, as far as each is produced.
fn balance_outputs<'a>(
    terms: &CommitmentTerms,
    keys: &CommitmentKeys,
    to_owner: Sat,
    to_other: Sat,
    has_htlcs: bool,
) -> Vec<Draft<'a>> {
    let mut drafts = Vec::new();
    let mut push = |value, script_pubkey, kind| drafts.push(Draft { value, script_pubkey, kind, htlc: None });
    // An output below the owner's dust limit MUST NOT be there (BOLT 3, "Trimmed Outputs"); nor one of nothing at
    // all, should a dust limit ever be zero.
    let produced = |value: Sat| value >= terms.owner_dust_limit && value > Sat::ZERO;
    // BOLT 3 [3.trim.2, 3.trim.3].
    if produced(to_owner) {
        let script = script::to_local(&keys.revocation, &keys.delayed, terms.owner_delay_blocks);
        push(to_owner, script::p2wsh(&script), OutputKind::ToLocal);
    }
    // BOLT 3 [3.trim.4, 3.trim.5].
    if produced(to_other) {
        let script = script::to_remote_output(terms.channel_type, &keys.other_payment);
        push(to_other, script, OutputKind::ToRemote);
    }
    if terms.channel_type.is_anchors() {
        if produced(to_owner) || has_htlcs {
            let script = script::p2wsh(&script::anchor(&terms.owner_funding_pubkey));
            push(ANCHOR_SAT, script, OutputKind::AnchorOwner);
        }
        if produced(to_other) || has_htlcs {
            let script = script::p2wsh(&script::anchor(&terms.other_funding_pubkey));
            push(ANCHOR_SAT, script, OutputKind::AnchorOther);
        }
    }
    drafts
}

fn htlc_output<'a>(scripts: &script::HtlcScripts, htlc: &'a SpecHtlc) -> Draft<'a> {
    // BOLT 3 [3.trim.7, 3.trim.9].
    let witness_script = if htlc.offered {
        scripts.offered(&htlc.payment_hash)
    } else {
        scripts.received(&htlc.payment_hash, htlc.cltv_expiry)
    };
    Draft {
        // BOLT 3 [3.outputs.1].
        value: htlc.amount.floor_sat(),
        script_pubkey: script::p2wsh(&witness_script),
        kind: OutputKind::Htlc(htlc.id),
        htlc: Some((htlc, witness_script)),
    }
}

/// The transaction itself: the number stands, obscured, in lock time and sequence (BOLT 3, "Commitment Transaction").
fn transaction(terms: &CommitmentTerms, number: u64, drafts: &[Draft<'_>]) -> Transaction {
    let obscured = (number ^ terms.obscure) & shachain::MAX_INDEX;
    let input = TxIn {
        previous_output: terms.funding,
        script_sig: ScriptBuf::new(),
        sequence: Sequence(0x80 << 24 | (obscured >> 24) as u32),
        witness: Witness::new(),
    };
    let output =
        |draft: &Draft<'_>| TxOut { value: amount(draft.value), script_pubkey: draft.script_pubkey.clone() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(0x20 << 24 | (obscured & 0xff_ffff) as u32),
        input: [input].into(),
        output: drafts.iter().map(output).collect(),
    }
}

impl Commitment {
    /// What both sides sign with their funding key, SIGHASH_ALL.
    pub fn sighash(&self) -> [u8; 32] {
        // BOLT 3 [3.sign.1].
        digest(&self.tx, &self.funding_script(), self.terms.capacity, EcdsaSighashType::All)
    }

    /// The digests of all HTLC transactions for the other side's `htlc_key`, in output order: what
    /// `commitment_signed` carries signatures of.
    pub fn htlc_sighashes(&self) -> Vec<[u8; 32]> {
        self.htlcs.iter().map(HtlcTx::counterparty_sighash).collect()
    }

    /// The transaction with both sides' signatures, ready to publish.
    pub fn with_signatures(&self, owner_sig: &Signature, other_sig: &Signature) -> Transaction {
        let mut tx = self.tx.clone();
        if let Some(input) = tx.input.first_mut() {
            input.witness = script::funding_witness(
                (&self.terms.owner_funding_pubkey, owner_sig),
                (&self.terms.other_funding_pubkey, other_sig),
            );
        }
        tx
    }

    /// The witness script of the funding output that this spends.
    pub fn funding_script(&self) -> ScriptBuf {
        script::funding(&self.terms.owner_funding_pubkey, &self.terms.other_funding_pubkey)
    }

    /// The witness script of output `vout`; `None` when there is no such output or it is a P2WPKH `to_remote`.
    pub fn witness_script(&self, vout: u32) -> Option<ScriptBuf> {
        let (terms, keys) = (&self.terms, &self.keys);
        match self.outputs.get(usize::try_from(vout).ok()?)? {
            OutputKind::ToLocal => {
                Some(script::to_local(&keys.revocation, &keys.delayed, terms.owner_delay_blocks))
            }
            OutputKind::ToRemote if terms.channel_type.is_anchors() => {
                Some(script::to_remote_anchors(&keys.other_payment))
            }
            OutputKind::ToRemote => None,
            OutputKind::AnchorOwner => Some(script::anchor(&terms.owner_funding_pubkey)),
            OutputKind::AnchorOther => Some(script::anchor(&terms.other_funding_pubkey)),
            OutputKind::Htlc(_) => {
                // HTLC transactions stand in output order, so this is a binary search.
                let place = self.htlcs.binary_search_by_key(&vout, |htlc| htlc.vout).ok()?;
                Some(self.htlcs.get(place)?.witness_script.clone())
            }
        }
    }

    /// Where the output of that kind is; `None` when it was not produced.
    pub fn vout_of(&self, kind: OutputKind) -> Option<u32> {
        (0..).zip(&self.outputs).find_map(|(vout, have)| (*have == kind).then_some(vout))
    }

    /// The keys it was built with.
    pub fn keys(&self) -> &CommitmentKeys {
        &self.keys
    }

    /// The terms it was built on.
    pub fn terms(&self) -> &CommitmentTerms {
        &self.terms
    }
}
