//! The network as others announce it (BOLT 7): taken in, checked, kept, passed on.
//!
//! In ([`Event`]): messages of peers, what our own node announces, blocks, answers to what was asked. Out ([`Action`]):
//! signatures to check, outputs to look up, messages to send, records for a cache; and the graph that routes are
//! searched in. A pure machine beside the node: it decides nothing about money, and all of it can be learned again, so
//! nothing of it is durable. A peer that floods or forges loses its own gossip and nothing else.
//!
//! * `accept` – from a message to a place in line; `pending` – what waits; `room` – places to wait, shared out fairly
//! * `verdict` – from a place in line to a fact: signatures, the chain, the order of updates, rate limits
//! * `store` – what is known, with the messages as they came; `kept` – the same as records of a cache
//! * `peers` – what each peer wants, what goes out when; `standing` – what its gossip earned it
//! * `sync` – asking a peer for what is missing; `answer` – being asked
//!
//! Read next: `accept`, then `graph`.

mod accept;
mod answer;
pub mod graph;
mod kept;
mod peers;
mod pending;
mod room;
mod standing;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod verdict;

pub use kept::{BadKept, Kept};
pub use peers::Spoken;
pub use store::{Announced, Store};

use crate::chain::Network;
use crate::id::{LinkId, NodeId, ShortChannelId};
use crate::node::effect::Level;
use crate::sign::VerifyJob;
use crate::units::{Height, Sat, Timestamp};
use crate::wire::features::Features;
use crate::wire::gossip::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{OutPoint, ScriptBuf, Txid};
use graph::Graph;
use peers::{Key, Peer};
use pending::Pending;
use standing::Remembered;

/// How often what grew old is looked for.
const TIDY_MS: u64 = 60_000;
/// How often channels without news are pruned.
const PRUNE_S: u64 = 3_600;
/// Messages of links whose `init` we have not heard of yet.
const MAX_EARLY_LINKS: usize = 256;
/// Of each such link.
const MAX_EARLY: usize = 4;
/// For so long at most: a link that ended may never be heard of.
const EARLY_MS: u64 = 60_000;

/// What is fixed for a machine's life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The chain whose channels are kept.
    pub chain_hash: [u8; 32],
    /// Our node.
    pub us: NodeId,
    /// Time between two broadcasts of what is new.
    pub flush_ms: u64,
    /// Seconds until a direction may be updated once more, after its first few updates.
    pub refill_s: u32,
    /// Every peer is asked for its channels, not only the first few.
    pub ask_all: bool,
}

impl Settings {
    /// What is good for a network: BOLT 7's minute, a second where blocks are made at will.
    pub fn new(network: Network, us: NodeId) -> Settings {
        let on_demand = network.row().on_demand;
        Settings {
            chain_hash: network.chain_hash(),
            us,
            flush_ms: if on_demand { 900 } else { 60_000 },
            refill_s: if on_demand { 1 } else { 600 },
            ask_all: on_demand,
        }
    }

    /// Whatever is new leaves at once (`--dev-fast-gossip`).
    #[must_use]
    pub const fn fast(mut self) -> Settings {
        self.flush_ms = 50;
        self
    }
}

/// What our own node tells: who is there, and what it announces. Released with the batch that keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// `init` was exchanged: from now on gossip may be sent over this link.
    Linked {
        /// With whom.
        peer: NodeId,
        /// Over which connection.
        link: LinkId,
        /// What the peer's `init` offers.
        features: Features,
    },
    /// The link is gone.
    Unlinked {
        /// Which.
        link: LinkId,
    },
    /// A channel of ours, announced by both of its ends.
    Channel {
        /// All four signatures hold.
        announcement: Box<ChannelAnnouncement>,
        /// Its funding output.
        funding: OutPoint,
        /// What that holds.
        capacity: Sat,
    },
    /// What we ask of forwards over a public channel of ours.
    Update(Box<ChannelUpdate>),
    /// Who we are.
    Node(Box<NodeAnnouncement>),
}

/// What an output lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Utxo {
    /// It is there and nothing spends it.
    Found {
        /// Its transaction.
        txid: Txid,
        /// What it holds.
        capacity: Sat,
        /// What it pays to.
        script: ScriptBuf,
    },
    /// There is no such output, or it is spent.
    Absent,
    /// This backend cannot tell (it forgets old blocks, say).
    Unknown,
}

/// Something that happened.
// Messages are moved, not boxed: an allocation for each would cost more than the copy.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Event {
    /// Our node has news.
    News(News),
    /// A gossip message of a peer.
    Message {
        /// From whom.
        peer: NodeId,
        /// Over which connection.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// A block, with every output that it spends.
    Block {
        /// Its height.
        height: Height,
        /// What its inputs spend.
        spent: Vec<OutPoint>,
    },
    /// The tip left the chain.
    BlockGone {
        /// Its height.
        height: Height,
    },
    /// The answer to [`Action::Verify`].
    Verified {
        /// Which.
        ticket: u64,
        /// Every one of its signatures holds.
        good: bool,
    },
    /// The answer to [`Action::LookUp`].
    LookedUp {
        /// Which.
        scid: ShortChannelId,
        /// What is there.
        utxo: Utxo,
    },
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it.
    Send(Spoken),
    /// Check these signatures; the answer is [`Event::Verified`].
    Verify {
        /// Comes back in the answer.
        ticket: u64,
        /// All must hold.
        jobs: Vec<VerifyJob>,
    },
    /// Look for a funding output; the answer is [`Event::LookedUp`].
    LookUp(ShortChannelId),
    /// Append it to the cache.
    Keep(Kept),
    /// Log it.
    Notice(Level, String, Option<NodeId>),
}

/// The machine.
#[derive(Debug)]
pub struct Gossip {
    settings: Settings,
    now: Timestamp,
    tip: Height,
    store: Store,
    pending: Pending,
    peers: BTreeMap<LinkId, Peer>,
    /// What peers earned that are gone.
    remembered: Remembered,
    /// What came from links that we have not heard of yet.
    early: BTreeMap<LinkId, (Timestamp, Vec<Message>)>,
    /// What is new since the last broadcast.
    fresh: BTreeSet<Key>,
    next_flush: Timestamp,
    next_tidy: Timestamp,
    next_prune: Timestamp,
    /// Nodes that contradicted themselves.
    blacklist: BTreeSet<NodeId>,
    /// The peer that is being asked for its channels.
    asking: Option<LinkId>,
    asked: u32,
    out: Vec<Action>,
}

impl Gossip {
    /// Begins with what a cache held.
    pub fn new(settings: Settings, store: Store, now: Timestamp) -> Gossip {
        Gossip {
            next_flush: now.plus_ms(settings.flush_ms),
            next_tidy: now.plus_ms(TIDY_MS),
            next_prune: now,
            settings,
            now,
            tip: Height(0),
            store,
            pending: Pending::default(),
            peers: BTreeMap::new(),
            remembered: Remembered::default(),
            early: BTreeMap::new(),
            fresh: BTreeSet::new(),
            blacklist: BTreeSet::new(),
            asking: None,
            asked: 0,
            out: Vec::new(),
        }
    }

    /// Takes what happened, in order, and does what time asks for. `now` is the caller's clock.
    pub fn step(&mut self, now: Timestamp, events: impl IntoIterator<Item = Event>) -> Vec<Action> {
        self.now = now;
        for event in events {
            self.take(event);
        }
        self.timers();
        self.check_on();
        self.ask_on();
        core::mem::take(&mut self.out)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::News(news) => self.on_news(news),
            Event::Message { peer, link, message } => self.on_message(peer, link, message),
            Event::Block { height, spent } => self.on_block(height, &spent),
            Event::BlockGone { height } => self.on_block_gone(height),
            Event::Verified { ticket, good } => self.on_verified(ticket, good),
            Event::LookedUp { scid, utxo } => self.on_looked_up(scid, &utxo),
        }
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Linked { peer, link, features } => {
                self.linked(peer, link, &features);
                for message in self.early.remove(&link).map(|(_, held)| held).unwrap_or_default() {
                    self.on_message(peer, link, message);
                }
            }
            News::Unlinked { link } => self.unlinked(link),
            News::Channel { announcement, funding, capacity } => {
                self.own_channel(*announcement, funding, capacity);
            }
            News::Update(update) => self.own_update(*update),
            News::Node(node) => self.own_node(*node),
        }
    }

    fn on_message(&mut self, _: NodeId, link: LinkId, message: Message) {
        if !self.peers.contains_key(&link) {
            return self.hold_early(link, message);
        }
        if !self.may_speak(link) {
            return;
        }
        match message {
            Message::ChannelAnnouncement(m) => self.on_channel_announcement(link, m),
            Message::ChannelUpdate(m) => self.on_channel_update(link, m),
            Message::NodeAnnouncement(m) => self.on_node_announcement(link, m),
            Message::QueryShortChannelIds(m) => self.on_query_ids(link, m),
            Message::QueryChannelRange(m) => self.on_query_range(link, &m),
            Message::GossipTimestampFilter(m) => self.on_filter(link, &m),
            Message::ReplyShortChannelIdsEnd(m) => self.on_ids_end(link, &m),
            Message::ReplyChannelRange(m) => self.on_range_reply(link, &m),
            _ => {}
        }
    }

    /// The node's news of a link takes another way than the link's messages, and may come after the first of them.
    /// What a peer asks at once is kept for that moment; what it tells unasked is not.
    fn hold_early(&mut self, link: LinkId, message: Message) {
        let asks = matches!(
            message,
            Message::QueryShortChannelIds(_)
                | Message::QueryChannelRange(_)
                | Message::GossipTimestampFilter(_)
        );
        if !asks {
            return;
        }
        if self.early.len() >= MAX_EARLY_LINKS && !self.early.contains_key(&link) {
            self.early.pop_first();
        }
        let now = self.now;
        let (_, held) = self.early.entry(link).or_insert_with(|| (now, Vec::new()));
        if held.len() < MAX_EARLY {
            held.push(message);
        }
    }

    fn timers(&mut self) {
        if self.now >= self.next_flush {
            self.flush();
            self.next_flush = self.now.plus_ms(self.settings.flush_ms);
        }
        if self.now >= self.next_tidy {
            self.tidy();
            self.next_tidy = self.now.plus_ms(TIDY_MS);
        }
        if self.now >= self.next_prune {
            self.prune();
            self.next_prune = self.now.plus_ms(PRUNE_S * 1_000);
        }
    }

    /// When [`Gossip::step`] wants to be called even without events.
    pub fn next_deadline(&self) -> Timestamp {
        let flush = if self.fresh.is_empty() { self.next_tidy } else { self.next_flush };
        let asking = self.asking_deadline().unwrap_or(self.next_tidy);
        flush.min(self.next_tidy).min(asking)
    }

    /// The public channels.
    pub const fn graph(&self) -> &Graph {
        self.store.graph()
    }

    /// All that is known, with the messages as they came.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    fn now_s(&self) -> u32 {
        u32::try_from(self.now.seconds()).unwrap_or(u32::MAX)
    }

    fn notice(&mut self, level: Level, text: impl Into<String>, peer: Option<NodeId>) {
        self.out.push(Action::Notice(level, text.into(), peer));
    }
}
