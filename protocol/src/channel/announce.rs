//! What a channel tells the network of itself, and keeps for it (BOLT 7).
//!
//! In: the channel's state. Out: the announcement that both ends sign, the update that our end would make now. Kept are the
//! peer's signatures, our newest update with its time, so that the next one is newer even after a restart, and what
//! the peer asks of forwards. Our own signatures are made again when they are needed: they come out the same.
//! Read next: `node::announce`, which signs and sends.

use crate::channel::{Channel, Link, Phase};
use crate::id::{NodeId, ShortChannelId};
use crate::units::{Height, Msat, Timestamp};
use crate::wire::gossip::{AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate};
use alloc::vec::Vec;
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

/// A channel is announced from this depth on (BOLT 7: "MUST NOT send channel_announcement" before).
pub const ANNOUNCE_DEPTH: u32 = 6;
/// Updates are made again after this time, well before others would prune the channel.
const REFRESH_S: u32 = 7 * 24 * 3_600;

/// A channel's part in the network.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announce {
    /// The peer's half of the announcement.
    pub(crate) theirs: Option<Theirs>,
    /// Our newest update.
    pub(crate) said: Option<Said>,
    /// What the peer asks of forwards to us, by an update of its own for us alone.
    pub(crate) asked: Option<PeerUpdate>,
    /// What only this life knows.
    #[serde(skip)]
    pub(crate) now: Moment,
}

/// What is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Moment {
    /// Our signatures were sent on this link.
    pub sent: bool,
    /// The peer sent its own on this link: it is owed ours.
    pub owed: bool,
    /// The peer was told our update on this link.
    pub told: bool,
    /// The network was told of the channel since the start.
    pub announced: bool,
    /// The peer's signatures came before we saw the funding transaction.
    pub early: Option<AnnouncementSignatures>,
    /// Since when the peer is gone.
    pub gone_since: Option<Timestamp>,
}

/// The peer's signatures, and for which place of the funding output they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Theirs {
    pub scid: ShortChannelId,
    pub node: Signature,
    pub bitcoin: Signature,
}

/// Our newest update: what it says, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub timestamp: u32,
    pub terms: UpdateTerms,
}

/// What an update says beside its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpdateTerms {
    pub scid: ShortChannelId,
    pub private: bool,
    pub disabled: bool,
    pub delta_blocks: u16,
    pub min: Msat,
    pub max: Msat,
    pub base_msat: u32,
    pub ppm: u32,
}

/// What the peer of a private channel asks for sending payments on to us: what a route hint tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerUpdate {
    /// When it said so, seconds since the Unix epoch.
    pub timestamp: u32,
    /// It sends nothing on at present.
    pub disabled: bool,
    /// Blocks between the expiries of the two HTLCs.
    pub delta_blocks: u16,
    /// The smallest HTLC.
    pub min: Msat,
    /// The largest.
    pub max: Msat,
    /// The fee for each HTLC, msat.
    pub base_msat: u32,
    /// The fee for its amount, in millionths.
    pub ppm: u32,
}

impl Announce {
    /// What the peer asks for forwards to us, when it said so.
    pub const fn peer_update(&self) -> Option<&PeerUpdate> {
        self.asked.as_ref()
    }

    /// Both ends announced it.
    pub const fn is_public(&self) -> bool {
        self.theirs.is_some()
    }

    /// Whether there is anything to keep.
    pub(crate) const fn is_kept(&self) -> bool {
        self.theirs.is_some() || self.said.is_some() || self.asked.is_some()
    }

    /// A new link or none: what was said on the last one does not count.
    pub(crate) fn unlinked(&mut self, now: Timestamp) {
        (self.now.sent, self.now.owed, self.now.told) = (false, false, false);
        self.now.gone_since.get_or_insert(now);
    }
}

impl UpdateTerms {
    /// The update of the node `us` of a channel with `peer`, not signed (`unsigned` stands in its place).
    pub(crate) fn update(
        &self,
        timestamp: u32,
        second: bool,
        chain_hash: [u8; 32],
        unsigned: Signature,
    ) -> ChannelUpdate {
        let private = if self.private { ChannelUpdate::DONT_FORWARD } else { 0 };
        let disabled = if self.disabled { ChannelUpdate::DISABLE } else { 0 };
        ChannelUpdate {
            signature: unsigned,
            // BOLT 7 [7.update.8].
            chain_hash,
            short_channel_id: self.scid,
            timestamp,
            // BOLT 7 [7.update.3, 7.update.14, 7.update.15].
            message_flags: ChannelUpdate::MUST_BE_ONE | private,
            // BOLT 7 [7.update.9, 7.update.10].
            channel_flags: u8::from(second) | disabled,
            // BOLT 7 [7.update.6, 7.update.23, 7.update.24].
            cltv_expiry_delta: self.delta_blocks,
            htlc_minimum_msat: self.min,
            fee_base_msat: self.base_msat,
            fee_proportional_millionths: self.ppm,
            htlc_maximum_msat: self.max,
            tail: Vec::new(),
        }
    }
}

impl Said {
    /// It is so old that others will think the channel is.
    pub(crate) const fn is_old(&self, now_s: u32) -> bool {
        now_s >= self.timestamp.saturating_add(REFRESH_S)
    }
}

impl Channel {
    /// Whether its place on chain is fixed and its ends agree to be known.
    pub(crate) fn may_be_announced(&self, tip: Height) -> bool {
        // BOLT 7 [7.sigs.1, 7.sigs.3, 7.announce.13].
        let deep = self.depth(tip) >= ANNOUNCE_DEPTH;
        let wanted = self.terms.announce && !self.terms.scid_alias;
        wanted && self.phase == Phase::Open && self.ready == (true, true) && deep
    }

    /// The announcement as both ends sign it; `unsigned` stands in the place of the signatures.
    pub(crate) fn announcement(
        &self,
        us: NodeId,
        chain_hash: [u8; 32],
        unsigned: Signature,
    ) -> Option<ChannelAnnouncement> {
        let short_channel_id = self.short_channel_id()?;
        let ours = (us, self.terms.local.basepoints.funding_pubkey);
        let theirs = (self.terms.peer, self.terms.remote.basepoints.funding_pubkey);
        // BOLT 7 [7.announce.6, 7.announce.7].
        let (one, two) = if is_first(&us, &theirs.0) { (ours, theirs) } else { (theirs, ours) };
        Some(ChannelAnnouncement {
            node_signature_1: unsigned,
            node_signature_2: unsigned,
            bitcoin_signature_1: unsigned,
            bitcoin_signature_2: unsigned,
            // No feature of a channel is for this place.
            // BOLT 7 [7.announce.11, 7.announce.12].
            features: Vec::new(),
            // BOLT 7 [7.announce.1, 7.announce.2].
            chain_hash,
            // BOLT 7 [7.announce.3].
            short_channel_id,
            node_id_1: one.0,
            node_id_2: two.0,
            bitcoin_key_1: one.1,
            bitcoin_key_2: two.1,
            tail: Vec::new(),
        })
    }

    /// What an update would say now; `None` before the channel has a name that its reader knows, and both are ready.
    pub(crate) fn update_terms(&self, public: bool, disabled: bool) -> Option<UpdateTerms> {
        // BOLT 7 [7.update.1].
        if self.ready != (true, true) {
            return None;
        }
        let remote = &self.terms.remote;
        // BOLT 7 [7.update.11, 7.update.12, 7.update.13, 7.update.16, 7.update.17].
        let min = self.policy.min.max(remote.htlc_minimum);
        let most = self.terms.capacity.to_msat().min(remote.max_in_flight);
        let max = self.policy.largest().min(most).max(min);
        Some(UpdateTerms {
            // BOLT 7 [7.update.2].
            scid: if public { self.short_channel_id()? } else { self.name_at_peer()? },
            private: !public,
            disabled,
            delta_blocks: self.policy.delta_blocks,
            min,
            max,
            base_msat: self.policy.base_msat,
            ppm: self.policy.ppm,
        })
    }

    /// Whether payments may not go this way for now, when the peer may be gone for `limit_ms` before that is told.
    pub(crate) fn is_disabled(&self, now: Timestamp, limit_ms: u64) -> bool {
        let was = self.announce.said.is_some_and(|said| said.terms.disabled);
        let long = |since: Timestamp| now >= since.plus_ms(limit_ms);
        let gone = self.link != Link::Up && (was || self.announce.now.gone_since.is_some_and(long));
        self.phase != Phase::Open || self.doubt || gone
    }
}

/// Whether `us` is `node_id_1` of a channel with `peer`.
pub(crate) fn is_first(us: &NodeId, peer: &NodeId) -> bool {
    us.0.serialize() < peer.0.serialize()
}
