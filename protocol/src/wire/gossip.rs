//! The messages by which nodes tell one another of channels and nodes (BOLT 7).
//!
//! In: fields, or what came. Out: plain data that `layout` turns to bytes and back, exactly: whatever a later version
//! of the specification appends to an announcement is kept in `tail`, so that its signatures still hold and it can
//! be passed on as it came. Lists of ids are read in the one encoding that is left, uncompressed.
//! Read next: `layout` (order of the fields), `address` (where a node listens), `gossip` (what is done about them).

use crate::id::{ChannelId, NodeId, ShortChannelId};
use crate::units::{Height, Msat};
use crate::wire::codec::{Malformed, Reader, Writer};
use crate::wire::field::{Field, Record};
use alloc::vec::Vec;
use bitcoin::hashes::{sha256d, Hash};
use secp256k1::ecdsa::Signature;
use secp256k1::PublicKey;

/// Bytes of a message's type.
const TYPE_BYTES: usize = 2;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;
/// `encoding_type` of a plain list, the only one that is allowed.
const UNCOMPRESSED: u8 = 0;

/// BOLT 7 type 259.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncementSignatures {
    /// The channel.
    pub channel_id: ChannelId,
    /// Where its funding output is.
    pub short_channel_id: ShortChannelId,
    /// Of the announcement, by the sender's identity key.
    pub node_signature: Signature,
    /// Of the announcement, by the sender's funding key.
    pub bitcoin_signature: Signature,
}

/// BOLT 7 type 256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelAnnouncement {
    /// By `node_id_1`.
    pub node_signature_1: Signature,
    /// By `node_id_2`.
    pub node_signature_2: Signature,
    /// By `bitcoin_key_1`.
    pub bitcoin_signature_1: Signature,
    /// By `bitcoin_key_2`.
    pub bitcoin_signature_2: Signature,
    /// Feature bits as they came: leading zeros are signed, too.
    pub features: Vec<u8>,
    /// The chain, by its genesis hash in internal byte order.
    pub chain_hash: [u8; 32],
    /// Where the funding output is.
    pub short_channel_id: ShortChannelId,
    /// The node whose id is the smaller.
    pub node_id_1: NodeId,
    /// The other.
    pub node_id_2: NodeId,
    /// The first one's key in the funding output.
    pub bitcoin_key_1: PublicKey,
    /// The other's.
    pub bitcoin_key_2: PublicKey,
    /// What a later version appended.
    pub tail: Vec<u8>,
}

/// BOLT 7 type 257.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAnnouncement {
    /// By `node_id`.
    pub signature: Signature,
    /// Feature bits as they came.
    pub features: Vec<u8>,
    /// Orders announcements; by custom seconds since the Unix epoch.
    pub timestamp: u32,
    /// Who.
    pub node_id: NodeId,
    /// Red, green, blue.
    pub rgb_color: [u8; 3],
    /// UTF-8, filled up with zeros; untrusted.
    pub alias: [u8; 32],
    /// Address descriptors as they came; `address::read` knows them.
    pub addresses: Vec<u8>,
    /// What a later version appended.
    pub tail: Vec<u8>,
}

/// BOLT 7 type 258.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelUpdate {
    /// By the node that [`ChannelUpdate::direction`] tells.
    pub signature: Signature,
    /// The chain, by its genesis hash in internal byte order.
    pub chain_hash: [u8; 32],
    /// The channel.
    pub short_channel_id: ShortChannelId,
    /// Orders updates; by custom seconds since the Unix epoch.
    pub timestamp: u32,
    /// Bit 0 is always set, bit 1: not to be forwarded.
    pub message_flags: u8,
    /// Bit 0: the direction, bit 1: disabled.
    pub channel_flags: u8,
    /// Blocks between the expiries of a forward's two HTLCs.
    pub cltv_expiry_delta: u16,
    /// The smallest HTLC that goes this way.
    pub htlc_minimum_msat: Msat,
    /// For each HTLC, msat.
    pub fee_base_msat: u32,
    /// Of its amount, in millionths.
    pub fee_proportional_millionths: u32,
    /// The largest HTLC that goes this way.
    pub htlc_maximum_msat: Msat,
    /// What a later version appended.
    pub tail: Vec<u8>,
}

impl ChannelUpdate {
    /// `message_flags`, bit 0: constant.
    pub const MUST_BE_ONE: u8 = 1;
    /// `message_flags`, bit 1: for the channel's peer alone.
    pub const DONT_FORWARD: u8 = 2;
    /// `channel_flags`, bit 0: from `node_id_2`.
    pub const SECOND: u8 = 1;
    /// `channel_flags`, bit 1: nothing goes this way for now.
    pub const DISABLE: u8 = 2;

    /// 0 when `node_id_1` made it, 1 when `node_id_2` did.
    pub const fn direction(&self) -> u8 {
        self.channel_flags & ChannelUpdate::SECOND
    }

    /// Nothing goes this way for now.
    pub const fn is_disabled(&self) -> bool {
        self.channel_flags & ChannelUpdate::DISABLE != 0
    }

    /// For the channel's peer alone.
    pub const fn is_private(&self) -> bool {
        self.message_flags & ChannelUpdate::DONT_FORWARD != 0
    }
}

/// BOLT 7 type 261.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryShortChannelIds {
    /// The chain asked about.
    pub chain_hash: [u8; 32],
    /// Which channels.
    pub short_channel_ids: ShortChannelIds,
    /// TLV 1: what is wanted of each; all when not said.
    pub query_flags: Option<QueryFlags>,
}

/// BOLT 7 type 262.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyShortChannelIdsEnd {
    /// The chain asked about.
    pub chain_hash: [u8; 32],
    /// 1 when the sender keeps up with that chain's channels.
    pub full_information: u8,
}

/// BOLT 7 type 263.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryChannelRange {
    /// The chain asked about.
    pub chain_hash: [u8; 32],
    /// Channels funded in this block …
    pub first_blocknum: Height,
    /// … or so many blocks from it on.
    pub number_of_blocks: u32,
    /// TLV 1: bit 0 asks for timestamps, bit 1 for checksums.
    pub query_option: Option<QueryOption>,
}

/// BOLT 7 type 264.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyChannelRange {
    /// The chain asked about.
    pub chain_hash: [u8; 32],
    /// The first block this reply is about.
    pub first_blocknum: Height,
    /// About how many.
    pub number_of_blocks: u32,
    /// 1 in the last reply.
    pub sync_complete: u8,
    /// The channels, in ascending order.
    pub short_channel_ids: ShortChannelIds,
    /// TLV 1: for each channel the timestamps of its two updates, 0 for none.
    pub timestamps: Option<UpdateTimestamps>,
    /// TLV 3: for each channel the checksums of its two updates, 0 for none.
    pub checksums: Option<UpdateChecksums>,
}

/// BOLT 7 type 265.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipTimestampFilter {
    /// The chain meant.
    pub chain_hash: [u8; 32],
    /// Nothing older than this is wanted …
    pub first_timestamp: u32,
    /// … and nothing so much newer.
    pub timestamp_range: u32,
}

/// `encoded_short_ids`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ShortChannelIds(pub Vec<ShortChannelId>);

/// `encoded_query_flags`: bit 0 asks for the announcement, 1 and 2 for the updates, 3 and 4 for the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct QueryFlags(pub Vec<u64>);

/// `query_option_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueryOption(pub u64);

/// `encoded_timestamps`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UpdateTimestamps(pub Vec<(u32, u32)>);

/// `checksums`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UpdateChecksums(pub Vec<(u32, u32)>);

/// The digest that an announcement's signatures sign, from the whole message with its type; `None` when it is too
/// short to have `signatures` of them in front.
pub fn signed_digest(message: &[u8], signatures: usize) -> Option<[u8; 32]> {
    // BOLT 7 [7.announce.8, 7.node.2, 7.update.7].
    let from = TYPE_BYTES + signatures * SIGNATURE_BYTES;
    Some(sha256d::Hash::hash(message.get(from..)?).to_byte_array())
}

// BOLT 7 [7.query.1].
fn plain(r: &mut Reader<'_>, name: &'static str) -> Result<(), Malformed> {
    match r.u8(name)? {
        UNCOMPRESSED => Ok(()),
        _ => Err(Malformed::Encoding(name)),
    }
}

impl Field for ShortChannelIds {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        let mut list = Reader::new(r.bytes16(name)?);
        plain(&mut list, name)?;
        let mut ids = Vec::with_capacity(list.left() / 8);
        while list.left() > 0 {
            ids.push(Field::read(&mut list, name)?);
        }
        Ok(ShortChannelIds(ids))
    }
    fn write(&self, w: &mut Writer) {
        // BOLT 7 [7.query.4, 7.query.5].
        w.count16(1 + self.0.len() * 8);
        w.u8(UNCOMPRESSED);
        self.0.iter().for_each(|id| Field::write(id, w));
    }
}

impl Record for QueryFlags {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        plain(r, name)?;
        let mut flags = Vec::new();
        while r.left() > 0 {
            flags.push(r.bigsize(name)?);
        }
        Ok(QueryFlags(flags))
    }
    fn write(&self, w: &mut Writer) {
        w.u8(UNCOMPRESSED);
        // BOLT 7 [7.query.13].
        self.0.iter().for_each(|flags| w.bigsize(*flags));
    }
}

impl Record for QueryOption {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        r.bigsize(name).map(QueryOption)
    }
    fn write(&self, w: &mut Writer) {
        w.bigsize(self.0);
    }
}

fn pairs(r: &mut Reader<'_>, name: &'static str) -> Result<Vec<(u32, u32)>, Malformed> {
    let mut pairs = Vec::with_capacity(r.left() / 8);
    while r.left() > 0 {
        pairs.push((r.u32(name)?, r.u32(name)?));
    }
    Ok(pairs)
}

fn put_pairs(pairs: &[(u32, u32)], w: &mut Writer) {
    for (first, second) in pairs {
        w.u32(*first);
        w.u32(*second);
    }
}

impl Record for UpdateTimestamps {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        plain(r, name)?;
        pairs(r, name).map(UpdateTimestamps)
    }
    fn write(&self, w: &mut Writer) {
        w.u8(UNCOMPRESSED);
        put_pairs(&self.0, w);
    }
}

impl Record for UpdateChecksums {
    fn read(r: &mut Reader<'_>, name: &'static str) -> Result<Self, Malformed> {
        pairs(r, name).map(UpdateChecksums)
    }
    fn write(&self, w: &mut Writer) {
        put_pairs(&self.0, w);
    }
}
