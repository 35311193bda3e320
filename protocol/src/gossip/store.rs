//! What is known of the network, and the messages that say so as they came: peers get those very bytes.
//!
//! In: what `accept` found true, or a cache's records. Out: look-ups, the graph, records for the cache.
//! Read next: `kept`, `graph`.

use crate::gossip::graph::{Direction, Graph, Policy};
use crate::gossip::kept::{self, Kept, UpdateHead};
use crate::id::{NodeId, ShortChannelId};
use crate::units::{Height, Sat};
use crate::wire::features::Features;
use crate::wire::gossip::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bitcoin::{OutPoint, Txid};

/// A node without news for so long has probably lost its keys (BOLT 7, "Pruning Stale Entries").
pub(super) const STALE_S: u32 = 14 * 24 * 3_600;
/// A channel is forgotten so many blocks after its funding output was spent.
pub(super) const FORGET_BLOCKS: u32 = 72;
/// Updates that a direction may have in quick succession.
const BURST: u8 = 10;

/// A node's key as the map of nodes has it.
pub(super) type NodeKey = [u8; 33];

/// One announced channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// `channel_announcement`, whole.
    pub announcement: Box<[u8]>,
    /// `channel_update`s, whole, by direction.
    pub updates: [Option<Heard>; 2],
    /// Its ends, in lexical order.
    pub nodes: [NodeId; 2],
    /// What its funding output holds, when the chain could be asked.
    pub capacity: Option<Sat>,
    /// The funding transaction, when the chain could be asked.
    pub txid: Option<Txid>,
    /// In which block the funding output was spent.
    pub spent: Option<Height>,
    /// When it was learned, seconds since the Unix epoch.
    pub since_s: u32,
    /// It has a feature that must be known to route over it, and is not.
    pub foreign: bool,
}

/// One direction's newest update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The message, whole.
    pub bytes: Box<[u8]>,
    /// Its timestamp.
    pub timestamp: u32,
    /// More updates that are welcome now.
    pub(super) tokens: u8,
    /// When the last of them came in.
    pub(super) refilled_s: u32,
}

impl Heard {
    /// `message_flags`, `channel_flags`, and what it asks for; without the work of reading its signature.
    pub fn says(&self) -> Option<(u8, u8, Policy)> {
        let head = kept::update_head(&self.bytes)?;
        Some((head.message_flags, head.channel_flags, head.policy))
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub bytes: Box<[u8]>,
    pub timestamp: u32,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct Store {
    graph: Graph,
    channels: BTreeMap<ShortChannelId, Announced>,
    nodes: BTreeMap<NodeKey, Told>,
    /// How many channels each node has here.
    ends: BTreeMap<NodeKey, (NodeId, u32)>,
    by_funding: BTreeMap<OutPoint, ShortChannelId>,
    /// The newest timestamp seen.
    newest: u32,
}

impl Announced {
    /// The newest of its updates.
    pub fn newest(&self) -> Option<u32> {
        self.updates.iter().flatten().map(|u| u.timestamp).max()
    }

    /// Its feature bits, as they were announced.
    pub fn features(&self) -> &[u8] {
        kept::channel_features(&self.announcement).unwrap_or_default()
    }

    /// Both ends were heard of lately enough.
    fn is_alive(&self, now_s: u32) -> bool {
        let oldest = now_s.saturating_sub(STALE_S);
        self.updates.iter().all(|u| u.as_ref().map_or(self.since_s, |u| u.timestamp) >= oldest)
    }
}

impl Store {
    /// Nothing known.
    pub fn new() -> Store {
        Store::default()
    }

    /// The public channels.
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many channels.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// One channel.
    pub fn channel(&self, scid: &ShortChannelId) -> Option<&Announced> {
        self.channels.get(scid)
    }

    /// Every channel from `first` on, in order.
    pub fn channels_from(
        &self,
        first: ShortChannelId,
    ) -> impl Iterator<Item = (&ShortChannelId, &Announced)> + '_ {
        self.channels.range(first..)
    }

    /// What a node says of itself, when it said so.
    pub fn node(&self, id: &NodeId) -> Option<NodeAnnouncement> {
        let told = self.nodes.get(&id.0.serialize())?;
        match Message::decode(&told.bytes) {
            Ok(Message::NodeAnnouncement(m)) => Some(m),
            _ => None,
        }
    }

    /// Every node that has a channel, in lexical order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> + '_ {
        self.ends.values().map(|(id, _)| id)
    }

    /// Whether a node has a channel here.
    pub fn has_node(&self, key: &NodeKey) -> bool {
        self.ends.contains_key(key)
    }

    pub(super) fn told(&self, key: &NodeKey) -> Option<&Told> {
        self.nodes.get(key)
    }

    /// Every node that said who it is, from `first` on.
    pub(super) fn told_from(&self, first: NodeKey) -> impl Iterator<Item = (&NodeKey, &Told)> + '_ {
        self.nodes.range(first..)
    }

    pub(super) const fn newest(&self) -> u32 {
        self.newest
    }

    pub(super) fn add_channel(
        &mut self,
        m: &ChannelAnnouncement,
        bytes: Box<[u8]>,
        funding: Option<(Txid, Sat)>,
        since_s: u32,
    ) -> Kept {
        let scid = m.short_channel_id;
        let kept = Kept::Channel { announcement: bytes.clone(), funding, since_s };
        // "if there is an unknown even bit in the features field: MUST NOT attempt to route messages through the channel"
        // BOLT 7 [7.announce.15].
        let foreign = Features::parse(&m.features).bits().any(|bit| bit % 2 == 0);
        let nodes = [m.node_id_1, m.node_id_2];
        self.insert(scid, bytes, nodes, funding, since_s, foreign);
        kept
    }

    fn insert(
        &mut self,
        scid: ShortChannelId,
        announcement: Box<[u8]>,
        nodes: [NodeId; 2],
        funding: Option<(Txid, Sat)>,
        since_s: u32,
        foreign: bool,
    ) {
        let (txid, capacity) = funding.unzip();
        if !foreign {
            self.graph.add_channel(scid, nodes, capacity);
            nodes.iter().for_each(|id| self.note_features(id));
        }
        for id in nodes {
            self.ends.entry(id.0.serialize()).or_insert((id, 0)).1 += 1;
        }
        if let Some(txid) = txid {
            self.by_funding.insert(outpoint(txid, scid), scid);
        }
        let updates = [None, None];
        let channel =
            Announced { announcement, updates, nodes, capacity, txid, spent: None, since_s, foreign };
        self.channels.insert(scid, channel);
    }

    pub(super) fn set_update(
        &mut self,
        m: &ChannelUpdate,
        bytes: Box<[u8]>,
        now_s: u32,
        refill_s: u32,
    ) -> Kept {
        let direction = usize::from(m.direction());
        self.newest = self.newest.max(m.timestamp);
        let kept = Kept::Update { update: bytes.clone() };
        if let Some(channel) = self.channels.get_mut(&m.short_channel_id) {
            let before = channel.updates[direction].as_ref();
            let (tokens, refilled_s) = tokens(before, now_s, refill_s);
            let tokens = tokens.saturating_sub(1);
            channel.updates[direction] = Some(Heard { bytes, timestamp: m.timestamp, tokens, refilled_s });
        }
        self.graph.set_policy(m.short_channel_id, Direction::from_flags(m.channel_flags), Policy::from(m));
        kept
    }

    /// Whether one more update of this direction is welcome now.
    pub(super) fn has_room(&self, m: &ChannelUpdate, now_s: u32, refill_s: u32) -> bool {
        let channel = self.channels.get(&m.short_channel_id);
        let before = channel.and_then(|c| c.updates[usize::from(m.direction())].as_ref());
        tokens(before, now_s, refill_s).0 > 0
    }

    pub(super) fn set_node(&mut self, m: &NodeAnnouncement, bytes: Box<[u8]>) -> Kept {
        self.newest = self.newest.max(m.timestamp);
        let kept = Kept::Node { announcement: bytes.clone() };
        self.nodes.insert(m.node_id.0.serialize(), Told { bytes, timestamp: m.timestamp });
        self.note_features(&m.node_id);
        kept
    }

    /// "if features field contains unknown even bits: […] MUST NOT route a payment _through_ the node".
    // BOLT 7 [7.node.14, 7.node.15].
    fn note_features(&mut self, id: &NodeId) {
        let told = self.nodes.get(&id.0.serialize());
        let foreign = told.is_some_and(|told| kept::is_node_foreign(&told.bytes));
        self.graph.set_foreign(id, foreign);
    }

    pub(super) fn remove(&mut self, scid: ShortChannelId) -> Option<Kept> {
        let channel = self.channels.remove(&scid)?;
        self.graph.remove_channel(scid);
        if let Some(txid) = channel.txid {
            self.by_funding.remove(&outpoint(txid, scid));
        }
        for id in channel.nodes {
            let key = id.0.serialize();
            if let Some((_, count)) = self.ends.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.ends.remove(&key);
                    self.nodes.remove(&key);
                }
            }
        }
        Some(Kept::Gone { scid })
    }

    /// The announced channel whose funding output this is.
    pub(super) fn by_funding(&self, outpoint: &OutPoint) -> Option<ShortChannelId> {
        self.by_funding.get(outpoint).copied()
    }

    pub(super) fn set_spent(&mut self, scid: ShortChannelId, spent: Option<Height>) -> Option<Kept> {
        self.channels.get_mut(&scid)?.spent = spent;
        Some(Kept::Spent { scid, height: spent })
    }

    /// Channels whose funding outputs were spent long ago.
    pub(super) fn buried(&self, tip: Height) -> Vec<ShortChannelId> {
        let long_ago = |spent: Height| tip >= spent && tip.since(spent) >= FORGET_BLOCKS;
        self.channels.iter().filter(|(_, c)| c.spent.is_some_and(long_ago)).map(|(scid, _)| *scid).collect()
    }

    /// Channels whose ends are silent for too long, but those of `us`.
    pub(super) fn stale(&self, now_s: u32, us: &NodeId) -> Vec<ShortChannelId> {
        let old = self.channels.iter().filter(|(_, c)| !c.is_alive(now_s) && !c.nodes.contains(us));
        old.map(|(scid, _)| *scid).collect()
    }

    pub(super) fn spent_at(&self, height: Height) -> Vec<ShortChannelId> {
        self.channels.iter().filter(|(_, c)| c.spent >= Some(height)).map(|(scid, _)| *scid).collect()
    }

    pub(super) fn channels_of(&self, id: &NodeId) -> Vec<ShortChannelId> {
        self.channels.iter().filter(|(_, c)| c.nodes.contains(id)).map(|(scid, _)| *scid).collect()
    }

    /// All of it as records: what a compacted cache holds.
    pub fn records(&self) -> impl Iterator<Item = Kept> + '_ {
        let channels = self.channels.iter().flat_map(|(scid, c)| {
            let announcement = c.announcement.clone();
            let funding = c.txid.zip(c.capacity);
            let channel = Kept::Channel { announcement, funding, since_s: c.since_s };
            let updates = c.updates.iter().flatten().map(|u| Kept::Update { update: u.bytes.clone() });
            let spent = c.spent.map(|height| Kept::Spent { scid: *scid, height: Some(height) });
            core::iter::once(channel).chain(updates).chain(spent)
        });
        channels.chain(self.nodes.values().map(|t| Kept::Node { announcement: t.bytes.clone() }))
    }

    /// Takes a cache's record in. What does not fit what came before it is left out: the network will tell it again.
    /// Signatures are not checked once more, the cache has a checksum for each record.
    pub fn restore(&mut self, kept: Kept, chain_hash: &[u8; 32], now_s: u32) {
        match kept {
            Kept::Channel { announcement, funding, since_s } => {
                let Some(head) = kept::channel_head(&announcement) else { return };
                if head.chain_hash != *chain_hash || self.channels.contains_key(&head.scid) {
                    return;
                }
                let Some(nodes) = self.node_ids(&head.nodes) else { return };
                self.insert(head.scid, announcement, nodes, funding, since_s, head.foreign);
            }
            Kept::Update { update } => {
                // Without its signature it is no work to read.
                let Some(m) = kept::update_head(&update) else { return };
                self.restore_update(&m, update, now_s);
            }
            Kept::Node { announcement } => {
                let Some((key, timestamp)) = kept::node_head(&announcement) else { return };
                if let Some((id, _)) = self.ends.get(&key).copied() {
                    self.newest = self.newest.max(timestamp);
                    self.nodes.insert(key, Told { bytes: announcement, timestamp });
                    self.note_features(&id);
                }
            }
            Kept::Gone { scid } => drop(self.remove(scid)),
            Kept::Spent { scid, height } => drop(self.set_spent(scid, height)),
        }
    }

    fn restore_update(&mut self, m: &UpdateHead, bytes: Box<[u8]>, now_s: u32) {
        let Some(channel) = self.channels.get_mut(&m.scid) else { return };
        let (timestamp, direction) = (m.policy.timestamp, Direction::from_flags(m.channel_flags));
        channel.updates[direction.index()] =
            Some(Heard { bytes, timestamp, tokens: BURST, refilled_s: now_s });
        self.newest = self.newest.max(timestamp);
        self.graph.set_policy(m.scid, direction, m.policy);
    }

    /// Two nodes by their bytes; the point of one seen before is not worked out again.
    fn node_ids(&self, keys: &[NodeKey; 2]) -> Option<[NodeId; 2]> {
        let id = |key: &NodeKey| match self.ends.get(key) {
            Some((id, _)) => Some(*id),
            None => secp256k1::PublicKey::from_slice(key).ok().map(NodeId),
        };
        Some([id(&keys[0])?, id(&keys[1])?])
    }
}

/// The funding output that a name on chain and its transaction's id mean.
fn outpoint(txid: Txid, scid: ShortChannelId) -> OutPoint {
    OutPoint { txid, vout: (scid.0 & 0xffff) as u32 }
}

/// How many updates are welcome, and since when the last of them is.
fn tokens(before: Option<&Heard>, now_s: u32, refill_s: u32) -> (u8, u32) {
    let Some(heard) = before else { return (BURST, now_s) };
    let refill_s = refill_s.max(1);
    let more = now_s.saturating_sub(heard.refilled_s) / refill_s;
    if u32::from(heard.tokens).saturating_add(more) >= u32::from(BURST) {
        return (BURST, now_s);
    }
    let more = u8::try_from(more).unwrap_or(BURST);
    (heard.tokens + more, heard.refilled_s + u32::from(more) * refill_s)
}
