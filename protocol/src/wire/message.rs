//! Every message of BOLT 1 and BOLT 2 that chand speaks, as plain data with the specification's field names.
//!
//! In: nothing. Out: structs that `codec` turns to bytes and back, each within 65,535 bytes.
//! Fields that arrive in TLVs are `Option`s at the end of their struct, in type order.
//! Read next: `wire` (the enum and its codec).

use crate::id::{to_hex, ChannelId, ShortChannelId};
use crate::units::{Feerate, Height, Msat, Sat};
use crate::wire::features::Features;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{ScriptBuf, Txid};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SecretKey};

/// BOLT 1 type 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// Both feature fields, merged with "or" as BOLT 1 asks.
    pub features: Features,
    /// TLV 1: the chains the sender is on; `None` when not said.
    pub networks: Option<Vec<[u8; 32]>>,
}

/// BOLT 1 type 17 (`error`) and 1 (`warning`) carry the same fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// The channel meant; all zero for every one.
    pub channel_id: ChannelId,
    /// Bytes for a human; untrusted, printed escaped.
    pub data: Vec<u8>,
}

impl ErrorMessage {
    /// The most bytes of text that are sent or shown.
    pub const MAX_TEXT_BYTES: usize = 1_024;

    /// Says `text` about a channel ([`ChannelId::ALL`] for every one), clipped to [`Self::MAX_TEXT_BYTES`].
    pub fn new(channel_id: ChannelId, text: &str) -> ErrorMessage {
        ErrorMessage { channel_id, data: text.bytes().take(Self::MAX_TEXT_BYTES).collect() }
    }

    /// The data as at most [`Self::MAX_TEXT_BYTES`] of printable ASCII: all else, and the backslash, escaped as
    /// `\xNN`; what does not fit gives way to `...`.
    pub fn text(&self) -> String {
        const MORE: &str = "...";
        let mut text = String::new();
        let mut whole = 0;
        for byte in &self.data {
            if text.len() <= Self::MAX_TEXT_BYTES - MORE.len() {
                whole = text.len();
            }
            match byte {
                // "printable character set includes byte values 32 through 126, inclusive" (BOLT 1)
                b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
                other => {
                    text.push_str("\\x");
                    text.push_str(&to_hex(&[*other]));
                }
            }
            if text.len() > Self::MAX_TEXT_BYTES {
                text.truncate(whole);
                text.push_str(MORE);
                break;
            }
        }
        text
    }
}

/// BOLT 1 types 7 (`peer_storage`) and 9 (`peer_storage_retrieval`): the same field.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerStorage {
    /// At most 65,531 bytes that only their owner understands.
    pub blob: Vec<u8>,
}

impl core::fmt::Debug for PeerStorage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PeerStorage({} bytes)", self.blob.len())
    }
}

/// BOLT 1 type 18.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// How many bytes the answer should carry; 65532 and above ask for none.
    pub num_pong_bytes: u16,
    /// How many ignored bytes this ping carries.
    pub byteslen: u16,
}

/// BOLT 1 type 19.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// How many ignored bytes it carries.
    pub byteslen: u16,
}

/// BOLT 2 type 32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// The chain, by its genesis hash in internal byte order.
    pub chain_hash: [u8; 32],
    /// The id until the funding output is known.
    pub temporary_channel_id: ChannelId,
    /// The channel's capacity.
    pub funding_satoshis: Sat,
    /// What the opener gives away at the start.
    pub push_msat: Msat,
    /// Outputs below this are trimmed from the sender's commitment.
    pub dust_limit_satoshis: Sat,
    /// The most that may be pending towards the sender.
    pub max_htlc_value_in_flight_msat: Msat,
    /// What the receiver must always keep on its side.
    pub channel_reserve_satoshis: Sat,
    /// The smallest HTLC the sender takes.
    pub htlc_minimum_msat: Msat,
    /// The first commitment's feerate.
    pub feerate_per_kw: Feerate,
    /// The CSV delay, in blocks, on the receiver's own outputs.
    pub to_self_delay: u16,
    /// The most HTLCs the sender takes at once.
    pub max_accepted_htlcs: u16,
    /// The sender's key in the funding output.
    pub funding_pubkey: PublicKey,
    /// Base of the keys that punish.
    pub revocation_basepoint: PublicKey,
    /// Base (with static_remotekey: the key itself) of the other side's `to_remote`.
    pub payment_basepoint: PublicKey,
    /// Base of the delayed keys.
    pub delayed_payment_basepoint: PublicKey,
    /// Base of the HTLC keys.
    pub htlc_basepoint: PublicKey,
    /// The point of the sender's commitment 0.
    pub first_per_commitment_point: PublicKey,
    /// Bit 0: announce the channel.
    pub channel_flags: u8,
    /// TLV 0: where the sender's money must go in a cooperative close; empty or absent for anywhere.
    pub upfront_shutdown_script: Option<ScriptBuf>,
    /// TLV 1: the channel type.
    pub channel_type: Option<Features>,
}

/// BOLT 2 type 33; fields as in [`OpenChannel`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AcceptChannel {
    pub temporary_channel_id: ChannelId,
    pub dust_limit_satoshis: Sat,
    pub max_htlc_value_in_flight_msat: Msat,
    pub channel_reserve_satoshis: Sat,
    pub htlc_minimum_msat: Msat,
    /// How deep, in blocks, the funding must be for the sender.
    pub minimum_depth: u32,
    pub to_self_delay: u16,
    pub max_accepted_htlcs: u16,
    pub funding_pubkey: PublicKey,
    pub revocation_basepoint: PublicKey,
    pub payment_basepoint: PublicKey,
    pub delayed_payment_basepoint: PublicKey,
    pub htlc_basepoint: PublicKey,
    pub first_per_commitment_point: PublicKey,
    pub upfront_shutdown_script: Option<ScriptBuf>,
    pub channel_type: Option<Features>,
}

/// BOLT 2 type 34.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingCreated {
    /// The id used so far.
    pub temporary_channel_id: ChannelId,
    /// The funding transaction, in internal byte order on the wire.
    pub funding_txid: Txid,
    /// Which of its outputs.
    pub funding_output_index: u16,
    /// The opener's signature on the receiver's commitment 0.
    pub signature: Signature,
}

/// BOLT 2 type 35.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingSigned {
    /// The final id.
    pub channel_id: ChannelId,
    /// The accepter's signature on the opener's commitment 0.
    pub signature: Signature,
}

/// BOLT 2 type 36.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelReady {
    /// The channel.
    pub channel_id: ChannelId,
    /// The point of the sender's commitment 1.
    pub second_per_commitment_point: PublicKey,
    /// TLV 1: a name of the sender's choosing for the channel.
    pub short_channel_id: Option<ShortChannelId>,
}

/// BOLT 2 type 38.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The channel.
    pub channel_id: ChannelId,
    /// Where the sender's money is to go.
    pub scriptpubkey: ScriptBuf,
}

/// BOLT 2 type 39.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingSigned {
    /// The channel.
    pub channel_id: ChannelId,
    /// The fee proposed.
    pub fee_satoshis: Sat,
    /// The signature on the closing transaction with that fee.
    pub signature: Signature,
    /// TLV 1: lowest and highest fee the sender takes.
    pub fee_range: Option<(Sat, Sat)>,
}

/// BOLT 2 types 40 (`closing_complete`) and 41 (`closing_sig`): the same fields (option_simple_close).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingComplete {
    /// The channel.
    pub channel_id: ChannelId,
    /// Where the closer's money goes.
    pub closer_scriptpubkey: ScriptBuf,
    /// Where the closee's money goes.
    pub closee_scriptpubkey: ScriptBuf,
    /// The fee the closer pays.
    pub fee_satoshis: Sat,
    /// The transaction's lock time.
    pub locktime: u32,
    /// TLV 1: signature for a transaction with the closer's output only.
    pub closer_output_only: Option<Signature>,
    /// TLV 2: signature for one with the closee's output only.
    pub closee_output_only: Option<Signature>,
    /// TLV 3: signature for one with both.
    pub closer_and_closee_outputs: Option<Signature>,
}

/// The onion inside `update_add_htlc` (BOLT 4): 1,366 bytes, not yet understood.
#[derive(Clone, PartialEq, Eq)]
pub struct OnionPacket {
    /// 0 in all known onions.
    pub version: u8,
    /// The ephemeral key, raw: a bad one is answered with a failure, not with a hang-up.
    pub public_key: [u8; 33],
    /// The layered payloads.
    pub hop_payloads: [u8; 1300],
    /// Integrity of it all.
    pub hmac: [u8; 32],
}

impl core::fmt::Debug for OnionPacket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("OnionPacket(1366 bytes)")
    }
}

/// BOLT 2 type 128.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateAddHtlc {
    /// The channel.
    pub channel_id: ChannelId,
    /// The sender's running number.
    pub id: u64,
    /// How much.
    pub amount_msat: Msat,
    /// The hash whose preimage settles it.
    pub payment_hash: [u8; 32],
    /// The block height from which the sender may take it back.
    pub cltv_expiry: Height,
    /// For the next hops.
    pub onion_routing_packet: Box<OnionPacket>,
    /// TLV 0: the key for a blinded hop.
    pub path_key: Option<PublicKey>,
}

/// BOLT 2 type 130.
#[derive(Clone, PartialEq, Eq)]
pub struct UpdateFulfillHtlc {
    /// The channel.
    pub channel_id: ChannelId,
    /// The receiver's running number of the HTLC.
    pub id: u64,
    /// The secret R.
    pub payment_preimage: [u8; 32],
}

impl core::fmt::Debug for UpdateFulfillHtlc {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "UpdateFulfillHtlc({}, {})", self.channel_id, self.id)
    }
}

/// BOLT 2 type 131.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFailHtlc {
    /// The channel.
    pub channel_id: ChannelId,
    /// The receiver's running number of the HTLC.
    pub id: u64,
    /// The failure, encrypted for the payer (BOLT 4).
    pub reason: Vec<u8>,
}

/// BOLT 2 type 135.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFailMalformedHtlc {
    /// The channel.
    pub channel_id: ChannelId,
    /// The receiver's running number of the HTLC.
    pub id: u64,
    /// SHA-256 of the onion as received.
    pub sha256_of_onion: [u8; 32],
    /// A code with the BADONION bit.
    pub failure_code: u16,
}

/// BOLT 2 type 132.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentSigned {
    /// The channel.
    pub channel_id: ChannelId,
    /// On the receiver's next commitment.
    pub signature: Signature,
    /// On each of its HTLC transactions, in output order.
    pub htlc_signatures: Vec<Signature>,
}

/// BOLT 2 type 133.
#[derive(Clone, PartialEq, Eq)]
pub struct RevokeAndAck {
    /// The channel.
    pub channel_id: ChannelId,
    /// The secret of the commitment now invalid.
    pub per_commitment_secret: SecretKey,
    /// The point of the commitment after the next.
    pub next_per_commitment_point: PublicKey,
}

impl core::fmt::Debug for RevokeAndAck {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "RevokeAndAck({})", self.channel_id)
    }
}

/// BOLT 2 type 134.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFee {
    /// The channel.
    pub channel_id: ChannelId,
    /// The new feerate.
    pub feerate_per_kw: Feerate,
}

/// BOLT 2 type 136.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelReestablish {
    /// The channel.
    pub channel_id: ChannelId,
    /// The number of the next `commitment_signed` the sender expects.
    pub next_commitment_number: u64,
    /// The number of the next `revoke_and_ack` the sender expects.
    pub next_revocation_number: u64,
    /// The last secret the sender received; zero when none.
    pub your_last_per_commitment_secret: [u8; 32],
    /// A valid point (with static_remotekey its value does not matter).
    pub my_current_per_commitment_point: PublicKey,
}

impl core::fmt::Debug for ChannelReestablish {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "ChannelReestablish({}, next commitment {}, next revocation {})",
            self.channel_id, self.next_commitment_number, self.next_revocation_number
        )
    }
}
