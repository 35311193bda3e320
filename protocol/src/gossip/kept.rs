//! The store as records of a cache: what is appended as things happen, and read back at a start.
//!
//! In: facts. Out: bytes; and from bytes the facts, read by their places in the message: to decode 50,000 announcements
//! whole would work out 200,000 points for nothing. Whoever keeps them guards each record by a checksum.
//! Read next: `store`.

use crate::gossip::graph::Policy;
use crate::id::ShortChannelId;
use crate::units::{Height, Msat, Sat};
use crate::wire::codec::{Malformed, Reader, Writer};
use crate::wire::features::Features;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bitcoin::hashes::Hash;
use bitcoin::Txid;

const CHANNEL: u8 = 1;
const UPDATE: u8 = 2;
const NODE: u8 = 3;
const GONE: u8 = 4;
const SPENT: u8 = 5;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// An announced channel.
    Channel {
        /// The message, whole.
        announcement: Box<[u8]>,
        /// Its funding transaction and capacity, when the chain could be asked.
        funding: Option<(Txid, Sat)>,
        /// When it was learned.
        since_s: u32,
    },
    /// A direction's newest update.
    Update {
        /// The message, whole.
        update: Box<[u8]>,
    },
    /// What a node says of itself.
    Node {
        /// The message, whole.
        announcement: Box<[u8]>,
    },
    /// A channel is forgotten.
    Gone {
        /// Which.
        scid: ShortChannelId,
    },
    /// A channel's funding output was spent in a block, or (`None`) no longer is.
    Spent {
        /// Which.
        scid: ShortChannelId,
        /// In which block.
        height: Option<Height>,
    },
}

/// A record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no record of a gossip cache")]
pub struct BadKept;

impl From<Malformed> for BadKept {
    fn from(_: Malformed) -> BadKept {
        BadKept
    }
}

impl Kept {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = Writer::new();
        let body: &[u8] = match self {
            Kept::Channel { announcement, funding, since_s } => {
                head.u8(CHANNEL);
                head.u32(*since_s);
                match funding {
                    Some((txid, capacity)) => {
                        head.u8(1);
                        head.bytes(txid.as_byte_array());
                        head.u64(capacity.0);
                    }
                    None => head.u8(0),
                }
                announcement
            }
            Kept::Update { update } => {
                head.u8(UPDATE);
                update
            }
            Kept::Node { announcement } => {
                head.u8(NODE);
                announcement
            }
            Kept::Gone { scid } => {
                head.u8(GONE);
                head.u64(scid.0);
                &[]
            }
            Kept::Spent { scid, height } => {
                head.u8(SPENT);
                head.u64(scid.0);
                head.u32(height.map_or(u32::MAX, |h| h.0));
                &[]
            }
        };
        let mut bytes = head.finish().unwrap_or_default();
        bytes.extend_from_slice(body);
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`BadKept`].
    pub fn decode(bytes: &[u8]) -> Result<Kept, BadKept> {
        let mut r = Reader::new(bytes);
        let kept = match r.u8("kind")? {
            CHANNEL => {
                let since_s = r.u32("since")?;
                let funding = match r.u8("funding")? {
                    0 => None,
                    1 => Some((Txid::from_byte_array(r.array("txid")?), Sat(r.u64("capacity")?))),
                    _ => return Err(BadKept),
                };
                Kept::Channel { announcement: r.rest().into(), funding, since_s }
            }
            UPDATE => Kept::Update { update: r.rest().into() },
            NODE => Kept::Node { announcement: r.rest().into() },
            GONE => Kept::Gone { scid: ShortChannelId(r.u64("scid")?) },
            SPENT => {
                let scid = ShortChannelId(r.u64("scid")?);
                let height = r.u32("height")?;
                Kept::Spent { scid, height: (height != u32::MAX).then_some(Height(height)) }
            }
            _ => return Err(BadKept),
        };
        if r.left() > 0 {
            return Err(BadKept);
        }
        Ok(kept)
    }
}

/// What a `channel_announcement` says, without its keys worked out.
pub(super) struct ChannelHead {
    pub chain_hash: [u8; 32],
    pub scid: ShortChannelId,
    pub nodes: [[u8; 33]; 2],
    pub foreign: bool,
}

pub(super) fn channel_head(message: &[u8]) -> Option<ChannelHead> {
    let read = || -> Result<ChannelHead, Malformed> {
        let mut r = Reader::new(message);
        r.take(2 + 4 * 64, "signatures")?;
        let features = r.bytes16("features")?;
        let foreign = Features::parse(features).bits().any(|bit| bit % 2 == 0);
        let (chain_hash, scid) = (r.array("chain_hash")?, ShortChannelId(r.u64("scid")?));
        Ok(ChannelHead { chain_hash, scid, nodes: [r.array("node")?, r.array("node")?], foreign })
    };
    read().ok()
}

/// The feature bits of a `channel_announcement`.
pub(super) fn channel_features(message: &[u8]) -> Option<&[u8]> {
    let mut r = Reader::new(message);
    r.take(2 + 4 * 64, "signatures").ok()?;
    r.bytes16("features").ok()
}

/// What a `channel_update` says, without its signature.
pub(super) struct UpdateHead {
    pub scid: ShortChannelId,
    pub message_flags: u8,
    pub channel_flags: u8,
    pub policy: Policy,
}

pub(super) fn update_head(message: &[u8]) -> Option<UpdateHead> {
    let read = || -> Result<_, Malformed> {
        let mut r = Reader::new(message);
        r.take(2 + 64 + 32, "signature")?;
        let scid = ShortChannelId(r.u64("scid")?);
        let timestamp = r.u32("timestamp")?;
        let message_flags = r.u8("message_flags")?;
        let channel_flags = r.u8("channel_flags")?;
        let policy = Policy {
            disabled: channel_flags & 2 != 0,
            cltv_expiry_delta: r.u16("delta")?,
            htlc_minimum: Msat(r.u64("minimum")?),
            fee_base_msat: r.u32("base")?,
            fee_proportional_millionths: r.u32("millionths")?,
            htlc_maximum: Msat(r.u64("maximum")?),
            timestamp,
        };
        Ok(UpdateHead { scid, message_flags, channel_flags, policy })
    };
    read().ok()
}

/// Who a `node_announcement` is about, and when it was made.
pub(super) fn node_head(message: &[u8]) -> Option<([u8; 33], u32)> {
    let read = || -> Result<_, Malformed> {
        let mut r = Reader::new(message);
        r.take(2 + 64, "signature")?;
        r.bytes16("features")?;
        let timestamp = r.u32("timestamp")?;
        Ok((r.array("node")?, timestamp))
    };
    read().ok()
}

/// Whether a `node_announcement` has an even feature bit that no feature of BOLT 9 is known to have.
pub(super) fn is_node_foreign(message: &[u8]) -> bool {
    let mut r = Reader::new(message);
    let features = r.take(2 + 64, "signature").and_then(|_| r.bytes16("features"));
    features.is_ok_and(|features| Features::parse(features).unheard_of().is_some())
}
