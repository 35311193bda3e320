//! Penalties signed in advance: a tower that cannot steal.
//!
//! In: a revoked commitment's `to_local` and its revocation key. Out: one transaction to our own wallet at each of a few
//! feerates, as signatures only; the tower builds the same transactions again. HTLC outputs are not in it: what a cheat
//! makes of them has a txid that nobody can know before, so that no signature can be made for it.
//! The feerates are fixed, so that sealing a state twice gives the same bytes (`seal`).
//! Read next: `guard`.

use super::{ChannelTerms, Noted};
use crate::sign::Crypto;
use crate::tx::keys::BadKey;
use crate::tx::{amount, digest, script};
use crate::units::{Feerate, Sat};
use crate::wire::codec::{Malformed, Reader, Writer};
use alloc::vec::Vec;
use bitcoin::absolute::LockTime;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SecretKey};

/// What the versions pay, in sat per 1,000 weight units: 2, 20 and 100 sat/vB.
pub const FEERATES: [Feerate; 3] = [Feerate(500), Feerate(5_000), Feerate(25_000)];
/// The longest script that the wallet of a client may have.
const MAX_SCRIPT: usize = 100;
/// The weight of everything but the output script, with the longest signature: version, counts, one input, lock time,
/// and a witness of signature, `1` and script.
const WEIGHT: u64 = 4 * (4 + 1 + 41 + 1 + 8 + 1 + 4) + 2 + 1 + 74 + 2 + 1 + 83;

/// Signed penalties for one `to_local`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Penalties {
    vout: u32,
    revocation: PublicKey,
    delayed: PublicKey,
    /// How long, in blocks, the cheat has to wait.
    pub delay_blocks: u16,
    sweep: ScriptBuf,
    /// What is left after the fee, and the signature for that.
    versions: Vec<(Sat, Signature)>,
}

impl Penalties {
    /// Signs them; `None` when there is no `to_local`, or it is too small for any.
    ///
    /// # Errors
    /// [`BadKey`] with a chance of 2^-128.
    pub fn sign(
        noted: &Noted,
        terms: &ChannelTerms,
        point: &PublicKey,
        key: &SecretKey,
        crypto: &dyn Crypto,
    ) -> Result<Option<Penalties>, BadKey> {
        let Some((vout, value)) = noted.to_local else { return Ok(None) };
        let delayed = crate::tx::keys::derive_public_key(crypto.secp(), &terms.delayed_basepoint, point)?;
        let mut penalties = Penalties {
            vout,
            revocation: crypto.public_key(key),
            delayed,
            delay_blocks: terms.delay_blocks,
            sweep: terms.sweep.clone(),
            versions: Vec::new(),
        };
        let weight = WEIGHT.saturating_add(4 * terms.sweep.len() as u64);
        let dust = Sat(terms.sweep.minimal_non_dust().to_sat());
        let paid = FEERATES.iter().filter_map(|feerate| value.checked_sub(feerate.fee(weight)));
        for left in paid.filter(|left| *left >= dust) {
            let tx = penalties.unsigned(&noted.txid, left);
            let digest = digest(&tx, &penalties.script(), value, EcdsaSighashType::All);
            penalties.versions.push((left, crypto.sign(&digest, key)));
        }
        Ok((!penalties.versions.is_empty()).then_some(penalties))
    }

    fn script(&self) -> ScriptBuf {
        script::to_local(&self.revocation, &self.delayed, self.delay_blocks)
    }

    /// What pays to it.
    pub fn output_script(&self) -> ScriptBuf {
        script::p2wsh(&self.script())
    }

    fn unsigned(&self, txid: &Txid, left: Sat) -> Transaction {
        let input = TxIn {
            previous_output: self.outpoint(txid),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: [input].into(),
            output: [TxOut { value: amount(left), script_pubkey: self.sweep.clone() }].into(),
        }
    }

    /// What they spend, of the commitment `txid`.
    pub const fn outpoint(&self, txid: &Txid) -> OutPoint {
        OutPoint { txid: *txid, vout: self.vout }
    }

    /// The transactions, the cheapest first.
    pub fn transactions(&self, txid: &Txid) -> Vec<Transaction> {
        let script = self.script();
        let complete = |(left, signature): &(Sat, Signature)| {
            let mut tx = self.unsigned(txid, *left);
            let mut witness = Witness::new();
            witness.push_ecdsa_signature(&script::witness_signature(signature, EcdsaSighashType::All));
            witness.push([1]);
            witness.push(script.as_bytes());
            if let Some(input) = tx.input.first_mut() {
                input.witness = witness;
            }
            tx
        };
        self.versions.iter().map(complete).collect()
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.u32(self.vout);
        w.bytes(&self.revocation.serialize());
        w.bytes(&self.delayed.serialize());
        w.u16(self.delay_blocks);
        w.bytes16(self.sweep.as_bytes());
        w.bigsize(self.versions.len() as u64);
        for (left, signature) in &self.versions {
            w.u64(left.0);
            w.bytes(&signature.serialize_compact());
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Penalties, Malformed> {
        let point = |r: &mut Reader<'_>| {
            PublicKey::from_slice(r.take(33, "key")?).map_err(|_| Malformed::BadPoint("key"))
        };
        let (vout, revocation, delayed) = (r.u32("output")?, point(r)?, point(r)?);
        let delay_blocks = r.u16("delay")?;
        let sweep = r.bytes16("script")?;
        if sweep.len() > MAX_SCRIPT {
            return Err(Malformed::TooLong("script"));
        }
        let count = r.bigsize("versions")?;
        if count > FEERATES.len() as u64 {
            return Err(Malformed::TooMany("versions"));
        }
        let mut versions = Vec::new();
        for _ in 0..count {
            let left = Sat(r.u64("amount")?);
            let signature = Signature::from_compact(r.take(64, "signature")?);
            versions.push((left, signature.map_err(|_| Malformed::BadSignature("signature"))?));
        }
        let sweep = ScriptBuf::from_bytes(sweep.to_vec());
        Ok(Penalties { vout, revocation, delayed, delay_blocks, sweep, versions })
    }
}
