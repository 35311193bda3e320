//! Asking: which channels a peer knows that we do not, and all about them (BOLT 7, "Query Messages").
//!
//! In: a peer that has gossip, its replies. Out: one `query_channel_range` to one peer at a time, then
//! `query_short_channel_ids` for what is missing, one small query after the other, no faster than what came is
//! checked. From every peer that is listened to, a `gossip_timestamp_filter` asks for news.
//! Read next: `answer`, the other side of it.

use crate::gossip::{Action, Gossip, Spoken};
use crate::id::{LinkId, ShortChannelId};
use crate::node::effect::Level;
use crate::units::{Height, Timestamp};
use crate::wire::gossip::{
    GossipTimestampFilter, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd, ShortChannelIds,
};
use crate::wire::Message;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;

/// Peers that are asked for all their channels, in one life of the machine.
const ASKED_PEERS: u32 = 5;
/// Peers that are listened to.
const HEARD_PEERS: usize = 8;
/// Channels asked for at once.
const QUERY_IDS: usize = 500;
/// Channels that one peer may have and we have not.
const MAX_MISSING: usize = 200_000;
/// Channels to ask for that updates told of.
const MAX_WANTED: usize = 500;
/// No more is asked for while so much is being checked.
const BUSY: usize = 2_000;
/// Silence after which another peer is asked.
const PATIENCE_MS: u64 = 60_000;
/// A filter reaches back so far behind the newest that we have.
const OVERLAP_S: u32 = 3_600;

/// How far a peer was asked.
#[derive(Debug, Default)]
pub(super) struct Sync {
    /// It is to be asked for its channels when nobody else is being asked.
    wanted: bool,
    /// Blocks are answered for up to here.
    range: Option<u32>,
    missing: VecDeque<ShortChannelId>,
    /// Updates told of these.
    heard: BTreeSet<ShortChannelId>,
    /// A `query_short_channel_ids` is not answered yet.
    waiting: bool,
    until: Timestamp,
    found: usize,
}

impl Sync {
    const fn is_idle(&self) -> bool {
        !self.wanted && self.range.is_none() && !self.waiting
    }
}

impl Gossip {
    /// A new link: says what news are wanted, and whether all channels will be asked for.
    pub(super) fn greet(&mut self, link: LinkId) {
        let heard = self.peers.values().filter(|p| p.queries).count();
        let since = self.store.newest().min(self.now_s()).saturating_sub(OVERLAP_S);
        let since = if self.store.newest() == 0 { self.now_s().saturating_sub(OVERLAP_S) } else { since };
        let ask = self.settings.ask_all || self.asked < ASKED_PEERS;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.sync.wanted = peer.queries && ask;
        let listen = peer.queries && (heard <= HEARD_PEERS || self.settings.ask_all);
        let (first_timestamp, timestamp_range) = if listen { (since, u32::MAX) } else { (u32::MAX, 0) };
        // BOLT 7 [7.filter.1].
        let chain_hash = self.settings.chain_hash;
        let filter = GossipTimestampFilter { chain_hash, first_timestamp, timestamp_range };
        self.send(link, &Message::GossipTimestampFilter(filter));
    }

    /// The end of a step: asks whoever is next, when there is room for the answer.
    pub(super) fn ask_on(&mut self) {
        if let Some(link) = self.asking {
            let late = self.peers.get(&link).is_none_or(|p| p.sync.until <= self.now);
            if late {
                self.stop_asking(link, "it does not answer");
            }
        }
        if self.asking.is_none() {
            let next = self.peers.iter().find(|(_, p)| p.sync.wanted).map(|(link, _)| *link);
            if let Some(link) = next {
                self.ask_range(link);
            }
        }
        if self.pending.load() >= BUSY {
            return;
        }
        let ready = self.peers.iter().filter(|(_, p)| p.queries && !p.sync.waiting && p.sync.range.is_none());
        let ready = ready.filter(|(_, p)| !p.sync.missing.is_empty() || !p.sync.heard.is_empty());
        let Some(link) = ready.map(|(link, _)| *link).next() else { return };
        self.ask_ids(link);
    }

    fn ask_range(&mut self, link: LinkId) {
        let (chain_hash, until) = (self.settings.chain_hash, self.now.plus_ms(PATIENCE_MS));
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.sync.wanted = false;
        peer.sync.range = Some(0);
        peer.sync.until = until;
        self.asking = Some(link);
        self.asked = self.asked.saturating_add(1);
        // BOLT 7 [7.query.18, 7.query.19, 7.query.20, 7.query.21].
        let query = QueryChannelRange {
            chain_hash,
            first_blocknum: Height(0),
            number_of_blocks: u32::MAX,
            query_option: None,
        };
        self.send(link, &Message::QueryChannelRange(query));
    }

    pub(super) fn on_range_reply(&mut self, link: LinkId, m: &ReplyChannelRange) {
        let until = self.now.plus_ms(PATIENCE_MS);
        let Some(mut peer) = self.peers.remove(&link) else { return };
        let asked = peer.sync.range.filter(|_| m.chain_hash == self.settings.chain_hash);
        if let Some(reached) = asked {
            peer.sync.until = until;
            for scid in &m.short_channel_ids.0 {
                let known = self.store.channel(scid).is_some()
                    || self.pending.is_coming(scid)
                    || self.pending.is_refused(scid);
                if !known && peer.sync.missing.len() < MAX_MISSING {
                    peer.sync.missing.push_back(*scid);
                    peer.sync.found += 1;
                }
            }
            let end = m.first_blocknum.0.saturating_add(m.number_of_blocks);
            let done = end == u32::MAX || m.sync_complete != 0 && end >= reached && end >= self.tip.0;
            peer.sync.range = (!done).then_some(reached.max(end));
        }
        self.peers.insert(link, peer);
        match asked {
            None => self.charge(link),
            Some(_) => self.end_if_idle(link),
        }
    }

    /// The next few channels of those that are missing.
    fn ask_ids(&mut self, link: LinkId) {
        let (chain_hash, until) = (self.settings.chain_hash, self.now.plus_ms(PATIENCE_MS));
        let mut ids = BTreeSet::new();
        let Some(mut peer) = self.peers.remove(&link) else { return };
        while ids.len() < QUERY_IDS {
            let next = peer.sync.heard.pop_first().or_else(|| peer.sync.missing.pop_front());
            let Some(scid) = next else { break };
            let known = self.store.channel(&scid).is_some() || self.pending.is_coming(&scid);
            if !known && !self.pending.is_refused(&scid) {
                ids.insert(scid);
            }
        }
        let ids = ShortChannelIds(ids.into_iter().collect());
        if !ids.0.is_empty() {
            peer.sync.waiting = true;
            peer.sync.until = until;
            // BOLT 7 [7.query.2, 7.query.3, 7.query.4, 7.query.5].
            let query = QueryShortChannelIds { chain_hash, short_channel_ids: ids, query_flags: None };
            let spoken = Spoken::message(link, &Message::QueryShortChannelIds(query));
            self.out.extend(spoken.map(Action::Send));
        }
        self.peers.insert(link, peer);
        self.end_if_idle(link);
    }

    pub(super) fn on_ids_end(&mut self, link: LinkId, _: &ReplyShortChannelIdsEnd) {
        let until = self.now.plus_ms(PATIENCE_MS);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if !core::mem::take(&mut peer.sync.waiting) {
            return self.charge(link);
        }
        peer.sync.until = until;
        self.end_if_idle(link);
    }

    /// An update told of a channel that this peer can tell more of.
    pub(super) fn want(&mut self, link: LinkId, scid: ShortChannelId) {
        let Some(peer) = self.peers.get_mut(&link).filter(|p| p.queries) else { return };
        if peer.sync.heard.len() < MAX_WANTED {
            peer.sync.heard.insert(scid);
        }
    }

    fn end_if_idle(&mut self, link: LinkId) {
        let Some(peer) = self.peers.get(&link) else { return };
        if self.asking == Some(link) && peer.sync.is_idle() && peer.sync.missing.is_empty() {
            let text = format!("asked for its channels: {} were new", peer.sync.found);
            let id = peer.id;
            self.asking = None;
            self.notice(Level::Debug, text, Some(id));
        }
    }

    fn stop_asking(&mut self, link: LinkId, why: &str) {
        self.asking = None;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let id = peer.id;
        // A late answer is not asked for any more; the query itself stays open, as there may be only one.
        peer.sync.missing.clear();
        peer.sync.range = None;
        self.notice(Level::Info, format!("asking for its channels ended: {why}"), Some(id));
    }

    pub(super) fn asking_deadline(&self) -> Option<Timestamp> {
        self.peers.get(&self.asking?).map(|p| p.sync.until)
    }

    /// Whether a peer is being asked for its channels.
    pub const fn is_asking(&self) -> bool {
        self.asking.is_some()
    }
}
