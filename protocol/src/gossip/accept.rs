//! From a message to a place in line: what BOLT 7 asks before an announcement costs any work.
//!
//! In: announcements of peers. Out: messages whose signatures are to be checked, one of each peer in turn. Cheap checks come first; an
//! update of a channel on its way waits for the channel. What finds no place is dropped: the next sync with a peer brings it again.
//! Read next: `pending`, `verdict`.

use crate::gossip::pending::{block_of, Item, Orphan, Signed, What};
use crate::gossip::standing::CROWDED;
use crate::gossip::store::STALE_S;
use crate::gossip::{Action, Gossip};
use crate::id::{sha256, LinkId, NodeId, ShortChannelId};
use crate::sign::VerifyJob;
use crate::units::Height;
use crate::wire::address;
use crate::wire::gossip::{signed_digest, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// A channel is announced when it is so deep.
pub(super) const DEEP_BLOCKS: u32 = 6;
/// So far ahead of our chain no true announcement is, unless our backend is far behind.
const AHEAD_BLOCKS: u32 = 144;
/// Clocks differ; a timestamp farther ahead than this is nonsense.
const FUTURE_S: u32 = 24 * 3_600;
/// What a message may say beyond the fields of today, features among it, and the addresses of a node: bytes. "Nodes are permitted
/// to restrict rebroadcasting" of "excessively large messages" (BOLT 7); each of them is kept for as long as its channel lives.
const MAX_EXTRA: usize = 1_024;
const MAX_ADDRESSES: usize = 2_048;
/// Where a message's content begins after the type and four signatures.
const AFTER_SIGNATURES: usize = 2 + 4 * 64;

/// A message whose fields were just read always has bytes.
pub(super) fn bytes_of(message: Message) -> Option<(Box<[u8]>, Message)> {
    let bytes = message.encode().ok()?;
    Some((bytes.into_boxed_slice(), message))
}

/// The scripts and keys of an announcement in the order of its signatures.
fn jobs_of(m: &ChannelAnnouncement, digest: [u8; 32]) -> Vec<VerifyJob> {
    // BOLT 7 [7.announce.14].
    vec![
        VerifyJob { digest, signature: m.node_signature_1, key: m.node_id_1.0 },
        VerifyJob { digest, signature: m.node_signature_2, key: m.node_id_2.0 },
        VerifyJob { digest, signature: m.bitcoin_signature_1, key: m.bitcoin_key_1 },
        VerifyJob { digest, signature: m.bitcoin_signature_2, key: m.bitcoin_key_2 },
    ]
}

impl Gossip {
    /// Signatures are to be checked.
    fn enqueue(&mut self, link: LinkId, from: NodeId, what: What, bytes: Box<[u8]>) {
        if !self.pending.enqueue(link, Item { from, what, bytes }) {
            self.charge_with(link, CROWDED);
        }
    }

    fn node_at(&self, link: LinkId) -> NodeId {
        self.peers.get(&link).map_or(self.settings.us, |peer| peer.id)
    }

    pub(super) fn on_channel_announcement(&mut self, link: LinkId, m: ChannelAnnouncement) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.sync.brought();
        }
        if m.features.len().saturating_add(m.tail.len()) > MAX_EXTRA {
            return self.charge(link);
        }
        let scid = m.short_channel_id;
        let ours = m.node_id_1 == self.settings.us || m.node_id_2 == self.settings.us;
        let order = m.node_id_1.0.serialize() < m.node_id_2.0.serialize();
        // Of our own channels our own node tells.
        // BOLT 7 [7.announce.17].
        if m.chain_hash != self.settings.chain_hash || ours || self.is_blacklisted(&m) || !order {
            return;
        }
        if self.pending.is_absent(&scid) || self.is_far_ahead(scid) {
            return;
        }
        let from = self.node_at(link);
        let Some((bytes, Message::ChannelAnnouncement(m))) = bytes_of(Message::ChannelAnnouncement(m)) else {
            return;
        };
        if self.store.channel(&scid).is_some() {
            return self.known_again(link, from, Box::new(m), bytes);
        }
        self.enqueue(link, from, What::Channel(Box::new(m)), bytes);
    }

    fn is_blacklisted(&self, m: &ChannelAnnouncement) -> bool {
        self.blacklist.contains(&m.node_id_1) || self.blacklist.contains(&m.node_id_2)
    }

    pub(super) fn is_far_ahead(&self, scid: ShortChannelId) -> bool {
        self.tip != Height(0) && block_of(scid).0 > self.tip.0.saturating_add(AHEAD_BLOCKS)
    }

    /// A second announcement of a known channel counts only against nodes whose keys really hold the output.
    fn known_again(&mut self, link: LinkId, from: NodeId, new: Box<ChannelAnnouncement>, bytes: Box<[u8]>) {
        let Some(channel) = self.store.channel(&new.short_channel_id) else { return };
        if channel.announcement.get(AFTER_SIGNATURES..) == bytes.get(AFTER_SIGNATURES..) {
            return;
        }
        // Who could not look cannot tell which of them is true.
        if channel.txid.is_none() {
            return;
        }
        let Ok(Message::ChannelAnnouncement(old)) = Message::decode(&channel.announcement) else { return };
        let keys = |m: &ChannelAnnouncement| BTreeSet::from([m.bitcoin_key_1, m.bitcoin_key_2]);
        if keys(&old) != keys(&new) {
            self.charge(link);
        } else if channel.nodes != [new.node_id_1, new.node_id_2] {
            self.enqueue(link, from, What::Conflict(new), bytes);
        }
    }

    pub(super) fn on_channel_update(&mut self, link: LinkId, m: ChannelUpdate) {
        if m.tail.len() > MAX_EXTRA {
            return self.charge(link);
        }
        self.update_of(link, self.node_at(link), m);
    }

    /// An update; its sender may be gone by now.
    pub(super) fn update_of(&mut self, link: LinkId, from: NodeId, m: ChannelUpdate) {
        let future = m.timestamp > self.now_s().saturating_add(FUTURE_S);
        let old = m.timestamp < self.now_s().saturating_sub(STALE_S);
        // BOLT 7 [7.update.20].
        if m.chain_hash != self.settings.chain_hash || m.is_private() || future || old {
            return;
        }
        if self.store.channel(&m.short_channel_id).is_none() {
            return self.on_orphan(link, from, m);
        }
        if !self.is_news(&m) {
            return;
        }
        let Some((bytes, Message::ChannelUpdate(m))) = bytes_of(Message::ChannelUpdate(m)) else { return };
        self.enqueue(link, from, What::Update(Box::new(m)), bytes);
    }

    /// Whether it would change what is known, were it signed well. What it does to the limits of its direction only a signature
    /// decides that holds: a forged one never stands in a true one's way.
    pub(super) fn is_news(&self, m: &ChannelUpdate) -> bool {
        let Some(channel) = self.store.channel(&m.short_channel_id) else { return false };
        let direction = usize::from(m.direction());
        // "if the channel output has been spent: MUST ignore channel_updates, unless they have the disable bit set"
        // BOLT 7 [7.update.19].
        let over = channel.spent.is_some() && !m.is_disabled();
        let newer = channel.updates[direction].as_ref().is_none_or(|u| u.timestamp < m.timestamp);
        let ours = channel.nodes[direction] == self.settings.us;
        newer && !over && !ours && self.store.has_room(m, self.now_s(), self.settings.refill_s)
    }

    /// Its channel is not known: it waits for that, and the peer is asked when that is not on its way.
    // BOLT 7 [7.update.18].
    fn on_orphan(&mut self, link: LinkId, from: NodeId, m: ChannelUpdate) {
        let scid = m.short_channel_id;
        if self.pending.is_absent(&scid) || self.is_far_ahead(scid) {
            return;
        }
        if !self.pending.is_coming(&scid) {
            self.want(link, scid);
        }
        let held = Orphan { from, since_s: self.now_s(), m };
        if !self.pending.hold_update(link, held) {
            self.charge_with(link, CROWDED);
        }
    }

    pub(super) fn on_node_announcement(&mut self, link: LinkId, m: NodeAnnouncement) {
        let extra = m.features.len().saturating_add(m.tail.len());
        if extra > MAX_EXTRA || m.addresses.len() > MAX_ADDRESSES {
            return self.charge(link);
        }
        self.node_of(link, self.node_at(link), m);
    }

    /// A node's announcement; its sender may be gone by now.
    pub(super) fn node_of(&mut self, link: LinkId, from: NodeId, m: NodeAnnouncement) {
        let key = m.node_id.0.serialize();
        let future = m.timestamp > self.now_s().saturating_add(FUTURE_S);
        if m.node_id == self.settings.us || future || self.blacklist.contains(&m.node_id) {
            return;
        }
        if address::read(&m.addresses).is_err() {
            return self.warn(link, "node_announcement: its addresses end inside one");
        }
        if !self.store.has_node(&key) {
            if self.pending.is_end(&key) {
                let held = Orphan { from, since_s: self.now_s(), m };
                self.pending.hold_node(link, key, held);
            }
            return;
        }
        if !self.store.has_room_for_node(&key, m.timestamp, self.now_s(), self.settings.refill_s) {
            return;
        }
        let Some((bytes, Message::NodeAnnouncement(m))) = bytes_of(Message::NodeAnnouncement(m)) else {
            return;
        };
        self.enqueue(link, from, What::Node(Box::new(m)), bytes);
    }

    /// The end of a step: workers get what they have room for, and the chain is asked.
    pub(super) fn check_on(&mut self) {
        if self.pending.wants_checks() {
            while let Some((link, item)) = self.pending.next_check() {
                self.check(link, item);
            }
        }
        while let Some(scid) = self.pending.next_lookup() {
            self.out.push(Action::LookUp(scid));
        }
    }

    /// It is this message's turn: much may have been learned since it came.
    fn check(&mut self, link: LinkId, item: Item) {
        let Some(jobs) = self.jobs_for(&item) else {
            self.pending.drop_item(&item);
            if let Item { from, what: What::Channel(m), bytes } = item {
                // Somebody else's announcement of this channel was believed in the meantime.
                self.known_again(link, from, m, bytes);
            }
            return;
        };
        if let What::Channel(m) = &item.what {
            if self.pending.is_signed(m, &item.bytes) {
                let signed = Signed { from: item.from, m: m.clone(), bytes: item.bytes.clone() };
                self.pending.drop_item(&item);
                return self.pending.sign(link, signed, self.is_deep(m.short_channel_id));
            }
        }
        let hash = sha256(&item.bytes);
        if let Some(ticket) = self.pending.check(link, item, hash, self.now_s()) {
            self.out.push(Action::Verify { ticket, jobs });
        }
    }

    /// The signatures that must hold; `None` when that would not change anything any more.
    fn jobs_for(&self, item: &Item) -> Option<Vec<VerifyJob>> {
        match &item.what {
            What::Channel(m) => {
                let scid = m.short_channel_id;
                let digest = signed_digest(&item.bytes, 4)?;
                let wrong = self.pending.is_absent(&scid) || self.pending.is_forged(scid, digest);
                let known = self.store.channel(&scid).is_some() || self.is_blacklisted(m);
                (!wrong && !known).then(|| jobs_of(m, digest))
            }
            What::Conflict(m) => signed_digest(&item.bytes, 4).map(|digest| jobs_of(m, digest)),
            What::Update(m) => {
                let from = self.store.channel(&m.short_channel_id)?.nodes[usize::from(m.direction())];
                let digest = signed_digest(&item.bytes, 1).filter(|_| self.is_news(m))?;
                // BOLT 7 [7.update.21].
                Some(vec![VerifyJob { digest, signature: m.signature, key: from.0 }])
            }
            What::Node(m) => {
                let key = m.node_id.0.serialize();
                let room =
                    self.store.has_room_for_node(&key, m.timestamp, self.now_s(), self.settings.refill_s);
                let digest = signed_digest(&item.bytes, 1).filter(|_| room && self.store.has_node(&key))?;
                // BOLT 7 [7.node.12].
                Some(vec![VerifyJob { digest, signature: m.signature, key: m.node_id.0 }])
            }
        }
    }

    /// Deep enough by our tip to be looked up.
    pub(super) fn is_deep(&self, scid: ShortChannelId) -> bool {
        let ready = Height(block_of(scid).0.saturating_add(DEEP_BLOCKS - 1));
        self.tip == Height(0) || self.tip >= ready
    }
}
