//! What this node tells the network: its public channels, what it asks of forwards, who it is (BOLT 7).
//!
//! In: channels that changed, links, time, the peer's `announcement_signatures` and updates. Out: our signatures for the
//! peer, and news for the gossip machine beside the node, which spreads them; each in the batch that keeps what it
//! says. Times in updates never go back: the newest is kept, and the next is later.
//! Read next: `crate::channel::announce`, `crate::gossip`.

use crate::channel::announce::{is_first, PeerUpdate, Said, Theirs, UpdateTerms};
use crate::channel::{Channel, Link, Phase};
use crate::fault::{PeerFault, Trouble};
use crate::gossip::News;
use crate::id::{sha256, ChannelId, NodeId, ShortChannelId};
use crate::node::effect::{Effect, Level};
use crate::node::Node;
use crate::record::{node_announced_key, put};
use crate::sign::Crypto;
use crate::store::Change;
use crate::units::{Height, Timestamp};
use crate::wire::address::{self, Address};
use crate::wire::features::{Feature, Features};
use crate::wire::gossip::{
    signed_digest, AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement,
};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::vec::Vec;
use secp256k1::ecdsa::Signature;
use secp256k1::SecretKey;
use serde::{Deserialize, Serialize};

/// How a node takes part in gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipConfig {
    /// How long a peer may be gone before others are told that nothing goes that way.
    pub disable_after_ms: u64,
    /// Where others can call us.
    pub addresses: Vec<Address>,
}

impl Default for GossipConfig {
    fn default() -> GossipConfig {
        GossipConfig { disable_after_ms: 20 * 60 * 1_000, addresses: Vec::new() }
    }
}

/// Our newest announcement of ourselves: its time, and a hash of what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Introduced {
    timestamp: u32,
    content: [u8; 32],
}

impl Introduced {
    pub(super) fn record(&self) -> Change {
        put(node_announced_key(), self)
    }
}

/// A signature that stands where the real one will.
fn placeholder(crypto: &dyn Crypto, key: &SecretKey) -> Signature {
    crypto.sign(&[1; 32], key)
}

fn digest_of(message: &Message, signatures: usize) -> Option<[u8; 32]> {
    signed_digest(&message.encode().ok()?, signatures)
}

impl Node {
    /// Where others can call us; known once the ports are open.
    pub fn set_addresses(&mut self, addresses: Vec<Address>) {
        if let Some(gossip) = &mut self.config.gossip {
            gossip.addresses = addresses;
        }
    }

    /// `announcement_signatures`: the peer's half, if it is one.
    pub(super) fn on_announcement_signatures(
        &mut self,
        id: ChannelId,
        m: &AnnouncementSignatures,
    ) -> Result<(), Trouble> {
        let crypto = self.crypto.clone();
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        if channel.link != Link::Up {
            return Err(PeerFault::warn("announcement_signatures before channel_reestablish").into());
        }
        if !channel.terms.announce {
            return Err(PeerFault::warn("announcement_signatures for a private channel").into());
        }
        if self.config.gossip.is_none() || !matches!(channel.phase, Phase::Open | Phase::Confirming) {
            return Ok(());
        }
        self.touched.insert(id);
        channel.announce.now.owed = true;
        let Some(scid) = channel.short_channel_id() else {
            channel.announce.now.early = Some(m.clone());
            return Ok(());
        };
        // "If the short_channel_id doesn't match one of its funding transactions: SHOULD send a warning."
        if m.short_channel_id != scid {
            return Err(PeerFault::warn("announcement_signatures for another funding output").into());
        }
        let chain_hash = self.config.network.chain_hash();
        take_theirs(channel, m, self.id, chain_hash, &*crypto, self.keys.node_secret())
    }

    /// What the peer asks of forwards to us over a channel that is not announced, or not yet.
    pub(super) fn on_private_update(&mut self, peer: NodeId, m: &ChannelUpdate) -> Result<(), Trouble> {
        let second = !is_first(&peer, &self.id);
        if m.chain_hash != self.config.network.chain_hash() || (m.direction() == 1) != second {
            return Ok(());
        }
        let mut channels = self.channels.values_mut();
        let found = channels.find(|c| c.terms.peer == peer && c.is_called(m.short_channel_id));
        let Some(channel) = found else { return Ok(()) };
        if channel.announce.asked.is_some_and(|asked| asked.timestamp >= m.timestamp) {
            return Ok(());
        }
        let digest = digest_of(&Message::ChannelUpdate(m.clone()), 1);
        if !digest.is_some_and(|digest| self.crypto.verify(&digest, &m.signature, &peer.0)) {
            return Err(PeerFault::disconnect("channel_update: its signature does not hold").into());
        }
        channel.announce.asked = Some(PeerUpdate {
            timestamp: m.timestamp,
            disabled: m.is_disabled(),
            delta_blocks: m.cltv_expiry_delta,
            min: m.htlc_minimum_msat,
            max: m.htlc_maximum_msat,
            base_msat: m.fee_base_msat,
            ppm: m.fee_proportional_millionths,
        });
        channel.dirty.announce = true;
        self.touched.insert(channel.id());
        Ok(())
    }

    /// A new link, or the end of one.
    pub(super) fn gossip_link(&mut self, news: News) {
        if self.config.gossip.is_some() {
            self.out.effects.push(Effect::Gossip(Box::new(news)));
        }
    }

    /// What was said over the last link to this peer counts no more.
    pub(super) fn gossip_unlinked(&mut self, peer: &NodeId) {
        let now = self.now;
        for channel in self.channels.values_mut().filter(|c| c.terms.peer == *peer) {
            channel.announce.unlinked(now);
        }
    }

    /// Channels of which something may have to be told.
    pub(super) fn announce_all(&mut self, ids: impl IntoIterator<Item = ChannelId>) {
        if self.config.gossip.is_none() {
            return;
        }
        for id in ids {
            self.announce_channel(id);
        }
        let public = |c: &Channel| c.announce.now.announced;
        if !self.introduced_now && self.channels.values().any(public) {
            self.introduced_now = true;
            self.introduce();
        }
    }

    /// Looks at one channel: are our signatures due, is the announcement whole, is our update the right one?
    fn announce_channel(&mut self, id: ChannelId) {
        let Some(limit_ms) = self.config.gossip.as_ref().map(|g| g.disable_after_ms) else { return };
        let (now, tip, crypto) = (self.now, self.tip_height(), self.crypto.clone());
        let (us, chain_hash) = (self.id, self.config.network.chain_hash());
        let Some(channel) = self.channels.get_mut(&id) else { return };
        match channel.link {
            Link::Up => channel.announce.now.gone_since = None,
            Link::Down | Link::Syncing => drop(channel.announce.now.gone_since.get_or_insert(now)),
        }
        let scid = channel.short_channel_id();
        // After a reorganisation the output may be elsewhere.
        if scid.is_some() && channel.announce.theirs.is_some_and(|t| Some(t.scid) != scid) {
            channel.announce.theirs = None;
            (channel.announce.now.announced, channel.announce.now.sent) = (false, false);
            channel.dirty.announce = true;
        }
        if let Some(m) = channel.announce.now.early.take_if(|m| Some(m.short_channel_id) == scid) {
            // A signature that does not hold will be told when it is sent again.
            let _ = take_theirs(channel, &m, us, chain_hash, &*crypto, self.keys.node_secret());
        }
        if channel.may_be_announced(tip) {
            self.exchange(id);
        }
        let wall_s = u32::try_from(self.wall().seconds()).unwrap_or(u32::MAX);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let before = channel.announce.said.is_some_and(|s| !s.terms.private);
        let public = channel.announce.theirs.is_some() && (channel.announce.now.announced || before);
        let disabled = channel.is_disabled(now, limit_ms);
        let Some(terms) = channel.update_terms(public, disabled) else { return };
        let said = channel.announce.said;
        let over = matches!(channel.phase, Phase::Closed(_) | Phase::Onchain(_));
        if over && said.is_none_or(|s| s.terms.disabled || s.terms.private) {
            return;
        }
        // Only a peer that listens is told in private.
        if !public && (channel.link != Link::Up || disabled) {
            return;
        }
        let same = said.is_some_and(|s| s.terms == terms && !s.is_old(wall_s));
        if !same {
            // BOLT 7 [7.update.4].
            let timestamp = said.map_or(1, |s| s.timestamp.saturating_add(1)).max(wall_s);
            channel.announce.said = Some(Said { timestamp, terms });
            channel.announce.now.told = false;
            channel.dirty.announce = true;
            self.touched.insert(id);
        }
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if !core::mem::replace(&mut channel.announce.now.told, true) {
            self.tell_update(id);
        }
    }

    /// Our half of the announcement goes to the peer; when both are there, the network hears of the channel.
    fn exchange(&mut self, id: ChannelId) {
        let crypto = self.crypto.clone();
        let (us, chain_hash) = (self.id, self.config.network.chain_hash());
        let secret = self.keys.node_secret();
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let theirs = channel.announce.theirs;
        let moment = &channel.announce.now;
        let due = channel.link == Link::Up && !moment.sent && (theirs.is_none() || moment.owed);
        let whole = theirs.is_some() && !moment.announced;
        // Looked at in every step of the channel: nothing is signed for nothing.
        if !due && !whole {
            return;
        }
        let Some(mut m) = channel.announcement(us, chain_hash, placeholder(&*crypto, secret)) else { return };
        let now = &mut channel.announce.now;
        let Some(digest) = digest_of(&Message::ChannelAnnouncement(m.clone()), 4) else { return };
        // BOLT 7 [7.announce.9, 7.announce.10].
        let (node_signature, bitcoin_signature) =
            (crypto.sign(&digest, secret), crypto.sign(&digest, &channel.secrets.funding));
        let peer = channel.terms.peer;
        now.sent |= due;
        if let (Some(theirs), true) = (theirs, whole) {
            now.announced = true;
            let (funding, capacity) = (channel.terms.funding, channel.terms.capacity);
            if is_first(&us, &peer) {
                (m.node_signature_1, m.bitcoin_signature_1) = (node_signature, bitcoin_signature);
                (m.node_signature_2, m.bitcoin_signature_2) = (theirs.node, theirs.bitcoin);
            } else {
                (m.node_signature_1, m.bitcoin_signature_1) = (theirs.node, theirs.bitcoin);
                (m.node_signature_2, m.bitcoin_signature_2) = (node_signature, bitcoin_signature);
            }
            let news = News::Channel { announcement: Box::new(m), funding, capacity };
            self.out.effects.push(Effect::Gossip(Box::new(news)));
        }
        if due {
            // BOLT 7 [7.sigs.1, 7.sigs.4, 7.sigs.5].
            let Some(short_channel_id) = self.channels.get(&id).and_then(Channel::short_channel_id) else {
                return;
            };
            let m = AnnouncementSignatures {
                channel_id: id,
                short_channel_id,
                node_signature,
                bitcoin_signature,
            };
            self.send(peer, Message::AnnouncementSignatures(m));
        }
    }

    /// Our update of a channel goes to everybody, or to its peer alone.
    fn tell_update(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get(&id) else { return };
        let Some(update) = channel.announce.said.and_then(|said| self.signed_update(channel, &said)) else {
            return;
        };
        // BOLT 7 [7.update.2, 7.update.5].
        if update.is_private() {
            let peer = channel.terms.peer;
            self.send(peer, Message::ChannelUpdate(update));
        } else {
            self.out.effects.push(Effect::Gossip(Box::new(News::Update(Box::new(update)))));
        }
    }

    /// An update of a channel, signed; always the same bytes.
    fn signed_update(&self, channel: &Channel, said: &Said) -> Option<ChannelUpdate> {
        let secret = self.keys.node_secret();
        let second = !is_first(&self.id, &channel.terms.peer);
        let unsigned = placeholder(&*self.crypto, secret);
        let mut m = said.terms.update(said.timestamp, second, self.config.network.chain_hash(), unsigned);
        let digest = digest_of(&Message::ChannelUpdate(m.clone()), 1)?;
        // BOLT 7 [7.update.7].
        m.signature = self.crypto.sign(&digest, secret);
        Some(m)
    }

    /// The newest as a failure carries it, for the payer who called the channel by this name; empty before there is one.
    // BOLT 4 [4.fail.20].
    pub(super) fn update_bytes(&self, channel: &Channel, scid: ShortChannelId) -> Vec<u8> {
        let named = |said: Said| {
            let private = said.terms.private || channel.short_channel_id() != Some(scid);
            Said { terms: UpdateTerms { scid, private, ..said.terms }, ..said }
        };
        let said = channel.announce.said.map(named);
        let update = said.and_then(|said| self.signed_update(channel, &said));
        let update = update.and_then(|m| Message::ChannelUpdate(m).encode().ok());
        update.unwrap_or_default()
    }

    /// Tells who we are; later than ever before when anything about it changed.
    fn introduce(&mut self) {
        let Some(gossip) = &self.config.gossip else { return };
        let secret = self.keys.node_secret();
        let wall_s = u32::try_from(self.wall().seconds()).unwrap_or(u32::MAX);
        let mut alias = [0; 32];
        // BOLT 7 [7.node.3].
        let name = clipped(&self.config.alias, alias.len());
        alias.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        let mut m = NodeAnnouncement {
            signature: placeholder(&*self.crypto, secret),
            // BOLT 7 [7.node.7].
            features: self.node_features().as_bytes().to_vec(),
            timestamp: 0,
            node_id: self.id,
            rgb_color: self.config.color,
            alias,
            addresses: address::write(&gossip.addresses),
            tail: Vec::new(),
        };
        let content = Message::NodeAnnouncement(m.clone()).encode().unwrap_or_default();
        let content = sha256(content.get(66..).unwrap_or_default());
        // BOLT 7 [7.node.1].
        let introduced = match self.introduced {
            Some(before) if before.content == content => before,
            before => {
                let timestamp = before.map_or(1, |b| b.timestamp.saturating_add(1)).max(wall_s);
                Introduced { timestamp, content }
            }
        };
        m.timestamp = introduced.timestamp;
        let Some(digest) = digest_of(&Message::NodeAnnouncement(m.clone()), 1) else { return };
        m.signature = self.crypto.sign(&digest, secret);
        if self.introduced != Some(introduced) {
            self.introduced = Some(introduced);
            self.keep(introduced.record());
        }
        self.out.effects.push(Effect::Gossip(Box::new(News::Node(Box::new(m)))));
        self.notice(Level::Debug, "this node is announced");
    }

    /// The features of `node_announcement`.
    pub(super) fn node_features(&self) -> Features {
        let mut features = self.our_features();
        features.set(Feature::Keysend.odd());
        features
    }

    /// Depth and age are for blocks to tell: channels that may have something to say are looked at in this step.
    pub(super) fn announce_block(&mut self, tip: Height) {
        if self.config.gossip.is_none() {
            return;
        }
        let wall_s = u32::try_from(self.wall().seconds()).unwrap_or(u32::MAX);
        let due = self.channels.values().filter(|c| {
            let grown = !c.announce.now.announced && c.may_be_announced(tip);
            grown || c.phase == Phase::Open && c.announce.said.is_some_and(|s| s.is_old(wall_s))
        });
        let due: Vec<ChannelId> = due.map(Channel::id).collect();
        self.touched.extend(due);
    }

    /// When a peer is gone for so long that others are to be told.
    pub(super) fn announce_deadline(&self) -> Option<Timestamp> {
        let limit_ms = self.config.gossip.as_ref()?.disable_after_ms;
        self.channels.values().filter_map(|c| due(c, limit_ms)).min()
    }

    pub(super) fn announce_timers(&mut self) {
        let Some(limit_ms) = self.config.gossip.as_ref().map(|g| g.disable_after_ms) else { return };
        let now = self.now;
        let late = self.channels.values().filter(|c| due(c, limit_ms).is_some_and(|at| at <= now));
        let late: Vec<ChannelId> = late.map(Channel::id).collect();
        self.announce_all(late);
    }
}

/// When an enabled public channel without its peer is to be disabled.
fn due(channel: &Channel, limit_ms: u64) -> Option<Timestamp> {
    let said = channel.announce.said?;
    let waits = !said.terms.private && !said.terms.disabled && channel.link != Link::Up;
    waits.then_some(channel.announce.now.gone_since?.plus_ms(limit_ms))
}

/// Keeps the peer's half when both of its signatures hold.
fn take_theirs(
    channel: &mut Channel,
    m: &AnnouncementSignatures,
    us: NodeId,
    chain_hash: [u8; 32],
    crypto: &dyn Crypto,
    secret: &SecretKey,
) -> Result<(), Trouble> {
    let theirs = Theirs { scid: m.short_channel_id, node: m.node_signature, bitcoin: m.bitcoin_signature };
    if channel.announce.theirs == Some(theirs) {
        return Ok(());
    }
    let unsigned: Option<ChannelAnnouncement> =
        channel.announcement(us, chain_hash, placeholder(crypto, secret));
    let digest = unsigned.and_then(|m| digest_of(&Message::ChannelAnnouncement(m), 4));
    let funding = channel.terms.remote.basepoints.funding_pubkey;
    let holds = digest.is_some_and(|digest| {
        crypto.verify(&digest, &m.node_signature, &channel.terms.peer.0)
            && crypto.verify(&digest, &m.bitcoin_signature, &funding)
    });
    if !holds {
        return Err(PeerFault::disconnect("announcement_signatures: a signature does not hold").into());
    }
    channel.announce.theirs = Some(theirs);
    channel.dirty.announce = true;
    Ok(())
}

/// The longest beginning of `text` that fits so many bytes and ends between two characters.
fn clipped(text: &str, most: usize) -> &str {
    let ends = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..ends.unwrap_or(0)).unwrap_or_default()
}
