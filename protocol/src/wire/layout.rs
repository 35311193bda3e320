//! The fields of every message in their order on the wire, and its TLV records by type: one list for both ways.
//!
//! In: bytes after the message type, or a message. Out: the other of the two.
//! Read next: `message` (what the fields mean).

use crate::wire::codec::{Malformed, Reader, Writer};
use crate::wire::features::Features;
use crate::wire::field::{Field, Record};
use crate::wire::gossip::{
    AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, GossipTimestampFilter, NodeAnnouncement,
    QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd,
};
use crate::wire::message::{
    AcceptChannel, ChannelReady, ChannelReestablish, ClosingComplete, ClosingSigned, CommitmentSigned,
    ErrorMessage, FundingCreated, FundingSigned, Init, OpenChannel, PeerStorage, Ping, Pong, RevokeAndAck,
    Shutdown, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc,
};

/// What follows the type of a message: its fields and its TLV stream.
pub(super) trait Payload: Sized {
    /// Reads all of `r`.
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed>;
    fn write(&self, w: &mut Writer);
}

macro_rules! layout {
    ($($message:ident { $($field:ident),* } tlvs { $($kind:literal $record:ident),* })*) => {$(
        impl Payload for $message {
            fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                $(let $field = Field::read(r, stringify!($field))?;)*
                $(let mut $record = None;)*
                // BOLT 1 [1.format.7].
                r.tlvs(|_kind, _value| {
                    $(if _kind == $kind {
                        $record = Some(Record::read(_value, stringify!($record))?);
                        return Ok(true);
                    })*
                    Ok(false)
                })?;
                Ok($message { $($field,)* $($record,)* })
            }
            fn write(&self, w: &mut Writer) {
                $(Field::write(&self.$field, w);)*
                // BOLT 1 [1.tlv.1, 1.tlv.2].
                $(if let Some(value) = &self.$record {
                    w.tlv($kind, |w| Record::write(value, w));
                })*
            }
        }
    )*};
}

layout! {
    ErrorMessage { channel_id, data } tlvs {}
    PeerStorage { blob } tlvs {}
    OpenChannel {
        chain_hash, temporary_channel_id, funding_satoshis, push_msat, dust_limit_satoshis,
        max_htlc_value_in_flight_msat, channel_reserve_satoshis, htlc_minimum_msat, feerate_per_kw,
        to_self_delay, max_accepted_htlcs, funding_pubkey, revocation_basepoint, payment_basepoint,
        delayed_payment_basepoint, htlc_basepoint, first_per_commitment_point, channel_flags
    } tlvs { 0 upfront_shutdown_script, 1 channel_type }
    AcceptChannel {
        temporary_channel_id, dust_limit_satoshis, max_htlc_value_in_flight_msat, channel_reserve_satoshis,
        htlc_minimum_msat, minimum_depth, to_self_delay, max_accepted_htlcs, funding_pubkey,
        revocation_basepoint, payment_basepoint, delayed_payment_basepoint, htlc_basepoint,
        first_per_commitment_point
    } tlvs { 0 upfront_shutdown_script, 1 channel_type }
    FundingCreated { temporary_channel_id, funding_txid, funding_output_index, signature } tlvs {}
    FundingSigned { channel_id, signature } tlvs {}
    ChannelReady { channel_id, second_per_commitment_point } tlvs { 1 short_channel_id }
    Shutdown { channel_id, scriptpubkey } tlvs {}
    ClosingSigned { channel_id, fee_satoshis, signature } tlvs { 1 fee_range }
    ClosingComplete { channel_id, closer_scriptpubkey, closee_scriptpubkey, fee_satoshis, locktime }
        tlvs { 1 closer_output_only, 2 closee_output_only, 3 closer_and_closee_outputs }
    UpdateAddHtlc { channel_id, id, amount_msat, payment_hash, cltv_expiry, onion_routing_packet }
        tlvs { 0 path_key }
    UpdateFulfillHtlc { channel_id, id, payment_preimage } tlvs {}
    UpdateFailHtlc { channel_id, id, reason } tlvs {}
    UpdateFailMalformedHtlc { channel_id, id, sha256_of_onion, failure_code } tlvs {}
    CommitmentSigned { channel_id, signature, htlc_signatures } tlvs {}
    RevokeAndAck { channel_id, per_commitment_secret, next_per_commitment_point } tlvs {}
    UpdateFee { channel_id, feerate_per_kw } tlvs {}
    // BOLT 2 [2.again.15].
    ChannelReestablish {
        channel_id, next_commitment_number, next_revocation_number, your_last_per_commitment_secret,
        my_current_per_commitment_point
    } tlvs {}
}

layout! {
    AnnouncementSignatures { channel_id, short_channel_id, node_signature, bitcoin_signature } tlvs {}
    QueryShortChannelIds { chain_hash, short_channel_ids } tlvs { 1 query_flags }
    ReplyShortChannelIdsEnd { chain_hash, full_information } tlvs {}
    QueryChannelRange { chain_hash, first_blocknum, number_of_blocks } tlvs { 1 query_option }
    ReplyChannelRange { chain_hash, first_blocknum, number_of_blocks, sync_complete, short_channel_ids }
        tlvs { 1 timestamps, 3 checksums }
    GossipTimestampFilter { chain_hash, first_timestamp, timestamp_range } tlvs {}
}

/// What is signed whole: whatever follows the known fields is kept as it is.
macro_rules! signed_layout {
    ($($message:ident { $($field:ident),* })*) => {$(
        impl Payload for $message {
            fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                $(let $field = Field::read(r, stringify!($field))?;)*
                Ok($message { $($field,)* tail: r.rest().into() })
            }
            fn write(&self, w: &mut Writer) {
                $(Field::write(&self.$field, w);)*
                w.bytes(&self.tail);
            }
        }
    )*};
}

signed_layout! {
    ChannelAnnouncement {
        node_signature_1, node_signature_2, bitcoin_signature_1, bitcoin_signature_2, features, chain_hash,
        short_channel_id, node_id_1, node_id_2, bitcoin_key_1, bitcoin_key_2
    }
    // BOLT 7 [7.node.4].
    NodeAnnouncement { signature, features, timestamp, node_id, rgb_color, alias, addresses }
    ChannelUpdate {
        signature, chain_hash, short_channel_id, timestamp, message_flags, channel_flags, cltv_expiry_delta,
        htlc_minimum_msat, fee_base_msat, fee_proportional_millionths, htlc_maximum_msat
    }
}

impl Payload for Init {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut features = Features::parse(r.bytes16("globalfeatures")?);
        // "MUST combine (bitwise OR) the two feature bitmaps into one logical features map"
        // BOLT 1 [1.init.7].
        features.or(&Features::parse(r.bytes16("features")?));
        let mut networks = None;
        r.tlvs(|kind, value| {
            if kind == 1 {
                networks = Some(Record::read(value, "networks")?);
            }
            Ok(kind == 1)
        })?;
        Ok(Init { features, networks })
    }
    fn write(&self, w: &mut Writer) {
        // The first of the two maps is of old: everything fits the second.
        w.u16(0);
        w.bytes16(self.features.as_bytes());
        if let Some(networks) = &self.networks {
            w.tlv(1, |w| Record::write(networks, w));
        }
    }
}

impl Payload for Ping {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let num_pong_bytes = r.u16("num_pong_bytes")?;
        let byteslen = r.u16("byteslen")?;
        r.take(byteslen.into(), "ignored")?;
        r.tlvs(|_, _| Ok(false))?;
        Ok(Ping { num_pong_bytes, byteslen })
    }
    fn write(&self, w: &mut Writer) {
        w.u16(self.num_pong_bytes);
        w.u16(self.byteslen);
        // BOLT 1 [1.ping.1].
        w.zeros(self.byteslen);
    }
}

impl Payload for Pong {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let byteslen = r.u16("byteslen")?;
        r.take(byteslen.into(), "ignored")?;
        r.tlvs(|_, _| Ok(false))?;
        Ok(Pong { byteslen })
    }
    fn write(&self, w: &mut Writer) {
        w.u16(self.byteslen);
        // BOLT 1 [1.ping.3].
        w.zeros(self.byteslen);
    }
}
