//! The scripts of a channel's outputs (BOLT 3) and the witnesses that spend them.
//!
//! In: keys, hashes, delays. Out: witness scripts, output scripts, witness stacks.
//! Numbers are pushed in their shortest form, as the vectors have them.
//! Read next: `commitment`.

use super::keys::CommitmentKeys;
use super::ChannelType;
use crate::id::PaymentHash;
use crate::units::Height;
use bitcoin::hashes::{hash160, ripemd160, Hash};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{CompressedPublicKey, Script, ScriptBuf, Witness};
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;

/// The P2WSH output script of `witness_script`.
pub fn p2wsh(witness_script: &Script) -> ScriptBuf {
    witness_script.to_p2wsh()
}

/// The P2WPKH output script of `key`.
pub fn p2wpkh(key: &PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(*key).wpubkey_hash())
}

/// The witness script of the funding output: both keys, the lesser first (BOLT 3, "Funding Transaction Output").
pub fn funding(one: &PublicKey, two: &PublicKey) -> ScriptBuf {
    let (one, two) = (one.serialize(), two.serialize());
    let (first, second) = if one < two { (one, two) } else { (two, one) };
    Builder::new()
        .push_int(2)
        .push_slice(first)
        .push_slice(second)
        .push_int(2)
        .push_opcode(op::OP_CHECKMULTISIG)
        .into_script()
}

/// The witness script of `to_local`, and of what an HTLC transaction pays to (BOLT 3, "to_local Output").
pub fn to_local(revocation: &PublicKey, delayed: &PublicKey, delay_blocks: u16) -> ScriptBuf {
    Builder::new()
        .push_opcode(op::OP_IF)
        .push_slice(revocation.serialize())
        .push_opcode(op::OP_ELSE)
        .push_int(i64::from(delay_blocks))
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_DROP)
        .push_slice(delayed.serialize())
        .push_opcode(op::OP_ENDIF)
        .push_opcode(op::OP_CHECKSIG)
        .into_script()
}

/// The witness script of `to_remote` with `option_anchors`: one block of delay (BOLT 3, "to_remote Output").
pub fn to_remote_anchors(payment: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_slice(payment.serialize())
        .push_opcode(op::OP_CHECKSIGVERIFY)
        .push_int(1)
        .push_opcode(op::OP_CSV)
        .into_script()
}

/// The output script of `to_remote` for either channel type.
pub fn to_remote_output(channel_type: ChannelType, payment: &PublicKey) -> ScriptBuf {
    match channel_type {
        ChannelType::StaticRemotekey => p2wpkh(payment),
        ChannelType::Anchors => p2wsh(&to_remote_anchors(payment)),
    }
}

/// The witness script of the anchor of `funding_pubkey`'s owner (BOLT 3, "to_local_anchor and to_remote_anchor").
pub fn anchor(funding_pubkey: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_slice(funding_pubkey.serialize())
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_IFDUP)
        .push_opcode(op::OP_NOTIF)
        .push_int(16)
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_ENDIF)
        .into_script()
}

/// The HTLC scripts of one commitment: what all of them share is computed once.
#[derive(Clone, Debug)]
pub struct HtlcScripts {
    channel_type: ChannelType,
    revocation_hash: [u8; 20],
    owner_htlc: [u8; 33],
    other_htlc: [u8; 33],
}

impl HtlcScripts {
    /// For the commitment whose keys are `keys`.
    pub fn new(channel_type: ChannelType, keys: &CommitmentKeys) -> HtlcScripts {
        HtlcScripts {
            channel_type,
            revocation_hash: hash160::Hash::hash(&keys.revocation.serialize()).to_byte_array(),
            owner_htlc: keys.owner_htlc.serialize(),
            other_htlc: keys.other_htlc.serialize(),
        }
    }

    /// The witness script of an HTLC that the commitment's owner offered (BOLT 3, "Offered HTLC Outputs").
    pub fn offered(&self, payment_hash: &PaymentHash) -> ScriptBuf {
        let script = self
            .head()
            .push_opcode(op::OP_NOTIF)
            .push_opcode(op::OP_DROP)
            .push_int(2)
            .push_opcode(op::OP_SWAP)
            .push_slice(self.owner_htlc)
            .push_int(2)
            .push_opcode(op::OP_CHECKMULTISIG)
            .push_opcode(op::OP_ELSE)
            .push_opcode(op::OP_HASH160)
            .push_slice(lock(payment_hash))
            .push_opcode(op::OP_EQUALVERIFY)
            .push_opcode(op::OP_CHECKSIG)
            .push_opcode(op::OP_ENDIF);
        self.tail(script)
    }

    /// The witness script of an HTLC that the commitment's owner received (BOLT 3, "Received HTLC Outputs").
    pub fn received(&self, payment_hash: &PaymentHash, cltv_expiry: Height) -> ScriptBuf {
        let script = self
            .head()
            .push_opcode(op::OP_IF)
            .push_opcode(op::OP_HASH160)
            .push_slice(lock(payment_hash))
            .push_opcode(op::OP_EQUALVERIFY)
            .push_int(2)
            .push_opcode(op::OP_SWAP)
            .push_slice(self.owner_htlc)
            .push_int(2)
            .push_opcode(op::OP_CHECKMULTISIG)
            .push_opcode(op::OP_ELSE)
            .push_opcode(op::OP_DROP)
            .push_int(i64::from(cltv_expiry.0))
            .push_opcode(op::OP_CLTV)
            .push_opcode(op::OP_DROP)
            .push_opcode(op::OP_CHECKSIG)
            .push_opcode(op::OP_ENDIF);
        self.tail(script)
    }

    /// The revocation branch, then whether a 32-byte preimage was given.
    fn head(&self) -> Builder {
        Builder::new()
            .push_opcode(op::OP_DUP)
            .push_opcode(op::OP_HASH160)
            .push_slice(self.revocation_hash)
            .push_opcode(op::OP_EQUAL)
            .push_opcode(op::OP_IF)
            .push_opcode(op::OP_CHECKSIG)
            .push_opcode(op::OP_ELSE)
            .push_slice(self.other_htlc)
            .push_opcode(op::OP_SWAP)
            .push_opcode(op::OP_SIZE)
            .push_int(32)
            .push_opcode(op::OP_EQUAL)
    }

    fn tail(&self, script: Builder) -> ScriptBuf {
        let script = match self.channel_type {
            ChannelType::StaticRemotekey => script,
            ChannelType::Anchors => script.push_int(1).push_opcode(op::OP_CSV).push_opcode(op::OP_DROP),
        };
        script.push_opcode(op::OP_ENDIF).into_script()
    }
}

/// RIPEMD160 of a payment hash: the scripts lock with HASH160 of the preimage.
fn lock(payment_hash: &PaymentHash) -> [u8; 20] {
    ripemd160::Hash::hash(&payment_hash.0).to_byte_array()
}

/// A signature as it stands in a witness: strict DER and the byte that says what was signed.
pub fn witness_signature(signature: &Signature, kind: EcdsaSighashType) -> bitcoin::ecdsa::Signature {
    bitcoin::ecdsa::Signature { signature: *signature, sighash_type: kind }
}

/// The witness that spends the funding output; each signature comes with its key, in either order.
pub fn funding_witness(one: (&PublicKey, &Signature), two: (&PublicKey, &Signature)) -> Witness {
    let (first, second) = if one.0.serialize() < two.0.serialize() { (one, two) } else { (two, one) };
    let mut witness = Witness::new();
    // CHECKMULTISIG takes one element too many, which must be empty (BOLT 3, "Commitment Transaction").
    witness.push([]);
    witness.push_ecdsa_signature(&witness_signature(first.1, EcdsaSighashType::All));
    witness.push_ecdsa_signature(&witness_signature(second.1, EcdsaSighashType::All));
    witness.push(funding(one.0, two.0).as_bytes());
    witness
}
