//! What each peer wants to hear, what it may cost us, and what goes out when.
//!
//! In: links that come and go, filters, what is new. Out: [`Spoken`] messages. What is new leaves in one broadcast at a
//! time (BOLT 7, "Rebroadcasting"): each peer has a set of names of what is due, and the bytes are looked up when
//! there is room on its link, so that a slow peer costs names and not copies, and gets the newest of each.
//! Read next: `standing`, `sync`, `answer`.

use crate::gossip::answer::{Answer, Range};
use crate::gossip::standing::Standing;
use crate::gossip::store::NodeKey;
use crate::gossip::sync::Sync;
use crate::gossip::{Action, Gossip};
use crate::id::{LinkId, NodeId, ShortChannelId};
use crate::wire::features::{Feature, Features};
use crate::wire::gossip::GossipTimestampFilter;
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Names that are due for one peer; one that is so far behind gets all from the start again.
const MAX_DUE: usize = 50_000;
/// Looks at a hundred channels that one link's turn may take: a filter that lets little through, asked for again and again on many
/// links, keeps nobody else waiting. A reply to a question for ranges takes a turn alone.
const MAX_SCANS: usize = 10;
/// What a filter that asks for what is known costs its sender.
const DUMP: u32 = 1_000;

/// The names of all that is new, sorted so that a channel comes before its updates and both before their nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Key {
    Channel(ShortChannelId),
    Update(ShortChannelId, u8),
    Node(NodeKey),
}

/// Everything that a filter lets through, from here on.
#[derive(Debug)]
struct Dump {
    channels: Option<ShortChannelId>,
    nodes: Option<NodeKey>,
}

/// One link.
#[derive(Debug)]
pub(super) struct Peer {
    pub id: NodeId,
    /// It has gossip worth asking for.
    pub queries: bool,
    /// It can be asked for parts of what there is of a channel, and tells times (`gossip_queries_ex`).
    pub extended: bool,
    /// From this timestamp on, for so long; without it nothing but our own goes out.
    filter: Option<(u32, u32)>,
    pub standing: Standing,
    due: BTreeSet<Key>,
    dump: Option<Dump>,
    pub answer: Option<Answer>,
    pub range: Option<Range>,
    pub sync: Sync,
}

/// A gossip message that may leave: only this machine makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spoken {
    link: LinkId,
    bytes: Box<[u8]>,
}

impl Spoken {
    pub(super) fn message(link: LinkId, message: &Message) -> Option<Spoken> {
        Some(Spoken { link, bytes: message.encode().ok()?.into_boxed_slice() })
    }

    /// Over which link, and the message with its type.
    pub fn into_parts(self) -> (LinkId, Box<[u8]>) {
        (self.link, self.bytes)
    }
}

impl Peer {
    fn new(id: NodeId, features: &Features, standing: Standing) -> Peer {
        let queries = features.supports(Feature::GossipQueries);
        Peer {
            id,
            queries,
            extended: queries && features.supports(Feature::GossipQueriesEx),
            filter: None,
            standing,
            due: BTreeSet::new(),
            dump: None,
            answer: None,
            range: None,
            sync: Sync::default(),
        }
    }

    fn lets_through(&self, timestamp: u32) -> bool {
        self.filter.is_some_and(|(first, range)| {
            timestamp >= first && u64::from(timestamp) < u64::from(first) + u64::from(range)
        })
    }

    fn is_hungry(&self) -> bool {
        !self.due.is_empty() || self.dump.is_some() || self.answer.is_some() || self.range.is_some()
    }

    /// What its next messages cost to find.
    fn scans_next(&self) -> usize {
        match (&self.range, &self.answer, self.due.is_empty()) {
            (Some(_), ..) => MAX_SCANS,
            (None, None, true) => 1,
            _ => 0,
        }
    }

    pub(super) fn forget_answers(&mut self) {
        (self.answer, self.range, self.dump) = (None, None, None);
    }
}

impl Gossip {
    pub(super) fn linked(&mut self, id: NodeId, link: LinkId, features: &Features) {
        let standing = self.standing_of(&id);
        let mut peer = Peer::new(id, features, standing);
        // What is ours it may not have heard of.
        let us = self.settings.us;
        for scid in self.store.channels_of(&us) {
            peer.due.extend([Key::Channel(scid), Key::Update(scid, 0), Key::Update(scid, 1)]);
        }
        peer.due.insert(Key::Node(us.0.serialize()));
        self.peers.insert(link, peer);
        self.greet(link);
    }

    pub(super) fn unlinked(&mut self, link: LinkId) {
        self.early.remove(&link);
        if self.asking == Some(link) {
            self.asking = None;
        }
        let Some(peer) = self.peers.remove(&link) else { return };
        self.remember(peer);
        self.pending.leave(link);
        self.listen_on();
    }

    pub(super) fn send(&mut self, link: LinkId, message: &Message) {
        self.out.extend(Spoken::message(link, message).map(Action::Send));
    }

    /// `gossip_timestamp_filter`: it replaces the one before.
    pub(super) fn on_filter(&mut self, link: LinkId, m: &GossipTimestampFilter) {
        if m.chain_hash != self.settings.chain_hash {
            return;
        }
        let newest = self.store.newest();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.filter = Some((m.first_timestamp, m.timestamp_range));
        let wanted = m.timestamp_range > 0 && m.first_timestamp <= newest;
        peer.dump = wanted.then_some(Dump { channels: Some(ShortChannelId(0)), nodes: Some([0; 33]) });
        if wanted {
            self.charge_with(link, DUMP);
        }
    }

    /// What is new becomes due: for every peer with a filter, and what is our own for all.
    pub(super) fn flush(&mut self) {
        let fresh = core::mem::take(&mut self.fresh);
        if fresh.is_empty() {
            return;
        }
        // BOLT 7 [7.relay.1, 7.filter.6].
        let own: BTreeSet<Key> = fresh.iter().filter(|key| self.is_own(key)).copied().collect();
        for peer in self.peers.values_mut() {
            let keys = if peer.filter.is_some() { &fresh } else { &own };
            peer.due.extend(keys.iter().copied());
            if peer.due.len() > MAX_DUE {
                peer.due = own.clone();
                peer.dump = Some(Dump { channels: Some(ShortChannelId(0)), nodes: Some([0; 33]) });
            }
        }
    }

    fn is_own(&self, key: &Key) -> bool {
        match key {
            Key::Channel(scid) | Key::Update(scid, _) => {
                self.store.channel(scid).is_some_and(|c| c.nodes.contains(&self.settings.us))
            }
            Key::Node(node) => *node == self.settings.us.0.serialize(),
        }
    }

    /// The links on which something waits to be sent by [`Gossip::pump`].
    pub fn hungry(&self) -> Vec<LinkId> {
        self.peers.iter().filter(|(_, peer)| peer.is_hungry()).map(|(link, _)| *link).collect()
    }

    /// Up to about `room_bytes` of what waits for a link.
    pub fn pump(&mut self, link: LinkId, room_bytes: usize) -> Vec<Spoken> {
        let (mut spoken, mut used, mut scans) = (Vec::new(), 0, 0);
        let Some(mut peer) = self.peers.remove(&link) else { return spoken };
        while used < room_bytes && scans < MAX_SCANS {
            scans += peer.scans_next();
            let Some(batch) = self.next_for(&mut peer) else { break };
            for bytes in batch {
                used += bytes.len();
                spoken.push(Spoken { link, bytes });
            }
        }
        self.peers.insert(link, peer);
        spoken
    }

    /// The next few messages: answers first, then what is due, then what a filter asked for.
    fn next_for(&self, peer: &mut Peer) -> Option<Vec<Box<[u8]>>> {
        if let Some(batch) = self.next_of_range(peer) {
            return Some(batch);
        }
        if let Some(batch) = self.next_of_answer(peer) {
            return Some(batch);
        }
        if let Some(key) = peer.due.pop_first() {
            return Some(self.bytes_due(peer, key).into_iter().collect());
        }
        self.next_of_dump(peer)
    }

    /// The message behind a name, if it is there and this peer wants it.
    fn bytes_due(&self, peer: &Peer, key: Key) -> Option<Box<[u8]>> {
        let own = self.is_own(&key);
        match key {
            // "If a channel_announcement has no corresponding channel_updates: MUST NOT send [it]."
            // BOLT 7 [7.filter.2, 7.filter.3, 7.filter.5].
            Key::Channel(scid) => {
                let channel = self.store.channel(&scid).filter(|c| c.spent.is_none())?;
                let newest = channel.newest()?;
                (own || peer.lets_through(newest)).then(|| channel.announcement.clone())
            }
            Key::Update(scid, direction) => {
                let channel = self.store.channel(&scid)?;
                let update = channel.updates.get(usize::from(direction))?.as_ref()?;
                (own || peer.lets_through(update.timestamp)).then(|| update.bytes.clone())
            }
            Key::Node(node) => {
                let told = self.store.told(&node).filter(|told| told.passed_on)?;
                (own || peer.lets_through(told.timestamp)).then(|| told.bytes.clone())
            }
        }
    }

    fn next_of_dump(&self, peer: &mut Peer) -> Option<Vec<Box<[u8]>>> {
        let dump = peer.dump.take()?;
        let mut batch = Vec::new();
        if let Some(first) = dump.channels {
            let mut channels = self.store.channels_from(first);
            let (mut next, mut seen) = (None, 0);
            for (scid, channel) in channels.by_ref() {
                if seen == 100 {
                    next = Some(*scid);
                    break;
                }
                seen += 1;
                let updates = channel.updates.iter().flatten().filter(|u| peer.lets_through(u.timestamp));
                let updates: Vec<Box<[u8]>> = updates.map(|u| u.bytes.clone()).collect();
                // BOLT 7 [7.filter.4].
                if !updates.is_empty() && channel.spent.is_none() {
                    batch.push(channel.announcement.clone());
                    batch.extend(updates);
                }
            }
            peer.dump = Some(Dump { channels: next, nodes: dump.nodes });
        } else if let Some(first) = dump.nodes {
            let (mut next, mut seen) = (None, 0);
            for (key, told) in self.store.told_from(first) {
                if seen == 100 {
                    next = Some(*key);
                    break;
                }
                seen += 1;
                if told.passed_on && peer.lets_through(told.timestamp) {
                    batch.push(told.bytes.clone());
                }
            }
            peer.dump = next.map(|next| Dump { channels: None, nodes: Some(next) });
        }
        Some(batch)
    }
}
