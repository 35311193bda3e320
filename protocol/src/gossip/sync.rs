//! Asking: which channels a peer knows that we do not, and all about them (BOLT 7, "Query Messages").
//!
//! In: a peer that has gossip, its replies. Out: one `query_channel_range` to one peer at a time, then
//! `query_short_channel_ids` for what is missing, one small query after the other, no faster than what came is
//! checked. Who can tell more (`gossip_queries_ex`) is asked for newer updates of what is known, too, and in the end for nodes that
//! nobody introduced. From every peer that is listened to, a `gossip_timestamp_filter` asks for news.
//! Read next: `answer`, the other side of it.

use crate::gossip::answer::ALL_FLAGS;
use crate::gossip::peers::Peer;
use crate::gossip::store::STALE_S;
use crate::gossip::{Action, Gossip, Spoken};
use crate::id::{LinkId, ShortChannelId};
use crate::node::effect::Level;
use crate::units::{Height, Timestamp};
use crate::wire::gossip::{
    GossipTimestampFilter, QueryChannelRange, QueryFlags, QueryOption, QueryShortChannelIds,
    ReplyChannelRange, ReplyShortChannelIdsEnd, ShortChannelIds,
};
use crate::wire::Message;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;

/// Peers that are asked for all their channels, in one life of the machine; those that did not answer are not counted.
const ASKED_PEERS: u32 = 5;
/// Peers that are listened to.
const HEARD_PEERS: usize = 8;
/// Channels asked for at once.
const QUERY_IDS: usize = 500;
/// Channels that one peer may have and we have not.
const MAX_MISSING: usize = 200_000;
/// Channels to ask for that updates told of.
const MAX_WANTED: usize = 500;
/// Of which so many may be such that another peer told of.
const MAX_PASSED: usize = 250;
/// No more is asked for while so much is being checked.
const BUSY: usize = 2_000;
/// A peer that was asked and says nothing at all for so long does not answer.
const SILENCE_MS: u64 = 20_000;
/// One that says other things has so long.
const PATIENCE_MS: u64 = 60_000;
/// After so long the next peer is asked beside it.
const TURN_MS: u64 = 600_000;
/// Queries without a single announcement in return, after which a peer is believed to name what it does not have.
const BARREN: u8 = 3;
/// A filter reaches back so far behind the newest that we have.
const OVERLAP_S: u32 = 3_600;
/// Query flags that ask for the update of node 1, and for its announcement; those of node 2 are twice that.
const UPDATE_1: u64 = 1 << 1;
const NODE_1: u64 = 1 << 3;

/// How far a peer was asked.
#[derive(Debug, Default)]
pub(super) struct Sync {
    /// It is to be asked for its channels when nobody else is being asked.
    wanted: bool,
    /// A filter asked it for news.
    listening: bool,
    /// Blocks are answered for up to here.
    range: Option<u32>,
    missing: VecDeque<ShortChannelId>,
    /// Updates told of these.
    heard: BTreeSet<ShortChannelId>,
    /// Of known channels: what of them it may have, as query flags.
    gaps: BTreeMap<ShortChannelId, u64>,
    /// In the end it is asked for nodes that nobody introduced, and for updates that are missing.
    last: bool,
    /// A `query_short_channel_ids` is not answered yet.
    waiting: bool,
    /// And will hardly ever be: as there may be only one, nothing more can be asked.
    deaf: bool,
    /// The query asks for channels that are not known; announcements came since.
    fertile: Option<bool>,
    barren: u8,
    /// When it counts as silent, and when it does whatever else it says.
    until: Timestamp,
    latest: Timestamp,
    /// When the next peer is asked.
    turn: Timestamp,
    found: usize,
}

impl Sync {
    fn is_idle(&self) -> bool {
        !self.wanted
            && self.range.is_none()
            && !self.waiting
            && self.missing.is_empty()
            && self.gaps.is_empty()
    }

    /// Something was asked and is waited for.
    const fn is_open(&self) -> bool {
        self.range.is_some() || self.waiting && !self.deaf
    }

    fn asked(&mut self, now: Timestamp) {
        self.until = now.plus_ms(SILENCE_MS);
        self.latest = now.plus_ms(PATIENCE_MS);
    }

    /// It says something.
    pub fn is_alive(&mut self, now: Timestamp) {
        self.until = now.plus_ms(SILENCE_MS).min(self.latest);
    }

    /// It told of a channel.
    pub fn brought(&mut self) {
        self.fertile = self.fertile.map(|_| true);
    }

    /// It is not asked for anything more.
    pub fn hushed(self) -> Sync {
        let Sync { listening, waiting, .. } = self;
        Sync { listening, waiting, deaf: waiting, ..Sync::default() }
    }
}

impl Gossip {
    /// A new link: says what news are wanted, and whether all channels will be asked for.
    pub(super) fn greet(&mut self, link: LinkId) {
        let listen = self.may_listen();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.sync.wanted = peer.queries;
        let listen = peer.queries && listen && !peer.standing.is_muted(self.now);
        self.filter(link, listen);
    }

    /// Whether one more peer is to tell its news.
    fn may_listen(&self) -> bool {
        let heard = self.peers.values().filter(|p| p.sync.listening && !p.standing.is_muted(self.now));
        self.settings.ask_all || heard.count() < HEARD_PEERS
    }

    /// When one of those is gone that were listened to, another takes its place.
    pub(super) fn listen_on(&mut self) {
        while self.may_listen() {
            let deaf = |p: &&Peer| p.queries && !p.sync.listening && !p.standing.is_muted(self.now);
            let Some(link) = self.peers.iter().find(|(_, p)| deaf(p)).map(|(link, _)| *link) else { return };
            self.filter(link, true);
        }
    }

    fn filter(&mut self, link: LinkId, listen: bool) {
        let since = self.store.newest().min(self.now_s()).saturating_sub(OVERLAP_S);
        let since = if self.store.newest() == 0 { self.now_s().saturating_sub(OVERLAP_S) } else { since };
        let (first_timestamp, timestamp_range) = if listen { (since, u32::MAX) } else { (u32::MAX, 0) };
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.sync.listening = listen;
        // BOLT 7 [7.filter.1].
        let chain_hash = self.settings.chain_hash;
        let filter = GossipTimestampFilter { chain_hash, first_timestamp, timestamp_range };
        self.send(link, &Message::GossipTimestampFilter(filter));
    }

    /// The end of a step: asks whoever is next, when there is room for the answer.
    pub(super) fn ask_on(&mut self) {
        let now = self.now;
        let silent = self.peers.iter().filter(|(_, p)| p.sync.is_open() && p.sync.until <= now);
        let silent: Vec<LinkId> = silent.map(|(link, _)| *link).collect();
        silent.into_iter().for_each(|link| self.stop_asking(link, "it does not answer"));
        // What one still has to tell it tells beside the next.
        self.asking = self.asking.filter(|link| self.peers.get(link).is_some_and(|p| p.sync.turn > now));
        if self.asking.is_none() && (self.settings.ask_all || self.asked < ASKED_PEERS) {
            let next = self.peers.iter().find(|(_, p)| p.sync.wanted && !p.standing.is_muted(now));
            if let Some(link) = next.map(|(link, _)| *link) {
                self.ask_range(link);
            }
        }
        let load = self.pending.load();
        if load == 0 {
            let last = self.peers.iter().find(|(_, p)| p.sync.last && p.sync.is_idle());
            if let Some(link) = last.map(|(link, _)| *link) {
                self.look_for_gaps(link);
            }
        }
        if load >= BUSY {
            return;
        }
        let ready = self.peers.iter().filter(|(_, p)| p.queries && !p.sync.waiting && p.sync.range.is_none());
        let ready = ready.filter(|(_, p)| {
            !p.sync.missing.is_empty() || !p.sync.heard.is_empty() || !p.sync.gaps.is_empty()
        });
        let Some(link) = ready.map(|(link, _)| *link).next() else { return };
        self.ask_ids(link);
    }

    fn ask_range(&mut self, link: LinkId) {
        let (chain_hash, now) = (self.settings.chain_hash, self.now);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.sync.wanted = false;
        peer.sync.range = Some(0);
        peer.sync.asked(now);
        peer.sync.turn = now.plus_ms(TURN_MS);
        peer.sync.last = peer.extended;
        self.asking = Some(link);
        self.asked = self.asked.saturating_add(1);
        // BOLT 7 [7.query.18, 7.query.19, 7.query.20, 7.query.21].
        let query = QueryChannelRange {
            chain_hash,
            first_blocknum: Height(0),
            number_of_blocks: u32::MAX,
            query_option: peer.extended.then_some(QueryOption(1)),
        };
        self.send(link, &Message::QueryChannelRange(query));
    }

    pub(super) fn on_range_reply(&mut self, link: LinkId, m: &ReplyChannelRange) {
        let Some(mut peer) = self.peers.remove(&link) else { return };
        let asked = peer.sync.range.filter(|_| m.chain_hash == self.settings.chain_hash);
        if let Some(reached) = asked {
            peer.sync.asked(self.now);
            let stamps = m.timestamps.as_ref().map(|t| &t.0).filter(|_| peer.extended);
            for (at, scid) in m.short_channel_ids.0.iter().enumerate() {
                let stamps = stamps.and_then(|stamps| stamps.get(at).copied());
                self.compare(&mut peer.sync, *scid, stamps);
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

    /// A channel that a peer knows, with the times of its updates: what is to be asked for of it.
    fn compare(&self, sync: &mut Sync, scid: ShortChannelId, stamps: Option<(u32, u32)>) {
        let oldest = self.now_s().saturating_sub(STALE_S);
        if let Some(channel) = self.store.channel(&scid) {
            let theirs = stamps.map_or([0; 2], |(first, second)| [first, second]);
            let newer = |at: &usize| {
                let ours = channel.updates[*at].as_ref().map_or(0, |u| u.timestamp);
                theirs[*at] > ours && theirs[*at] >= oldest && channel.nodes[*at] != self.settings.us
            };
            let flags = [0, 1].iter().filter(|at| newer(at)).fold(0, |flags, at| flags | UPDATE_1 << at);
            if flags != 0 && channel.spent.is_none() && sync.gaps.len() < MAX_MISSING {
                sync.gaps.insert(scid, flags);
            }
            return;
        }
        let dead = stamps.is_some_and(|(first, second)| first.max(second) < oldest);
        if !dead && !self.is_known(&scid) && sync.missing.len() < MAX_MISSING {
            sync.missing.push_back(scid);
            sync.found += 1;
        }
    }

    /// There is nothing to ask about it.
    fn is_known(&self, scid: &ShortChannelId) -> bool {
        self.store.channel(scid).is_some()
            || self.pending.is_coming(scid)
            || self.pending.is_absent(scid)
            || self.is_far_ahead(*scid)
    }

    /// All that it named is checked: of the nodes at whose channels nobody said who they are, it may have heard, and of updates
    /// for which there was no place when the channel came.
    fn look_for_gaps(&mut self, link: LinkId) {
        let mut gaps = BTreeMap::new();
        let Some(turn) = self.peers.get(&link).map(|p| p.sync.turn) else { return };
        let began_s = turn.seconds().saturating_sub(TURN_MS / 1_000);
        let mut asked = BTreeSet::from([self.settings.us.0.serialize()]);
        for (scid, channel) in self.store.channels_from(ShortChannelId(0)) {
            if gaps.len() >= MAX_MISSING {
                break;
            }
            let learned = u64::from(channel.since_s) >= began_s;
            for (at, id) in channel.nodes.iter().enumerate().filter(|_| channel.spent.is_none()) {
                if learned && channel.updates[at].is_none() && *id != self.settings.us {
                    *gaps.entry(*scid).or_insert(0) |= UPDATE_1 << at;
                }
                let key = id.0.serialize();
                if self.store.told(&key).is_none() && asked.insert(key) {
                    *gaps.entry(*scid).or_insert(0) |= NODE_1 << at;
                }
            }
        }
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.sync.last = false;
            peer.sync.gaps = gaps;
        }
        self.end_if_idle(link);
    }

    /// The next few channels of those that are missing, then of those that something is missing of.
    fn ask_ids(&mut self, link: LinkId) {
        let chain_hash = self.settings.chain_hash;
        let mut ids = BTreeMap::new();
        let Some(mut peer) = self.peers.remove(&link) else { return };
        while ids.len() < QUERY_IDS {
            let next = peer.sync.heard.pop_first().or_else(|| peer.sync.missing.pop_front());
            if let Some(scid) = next {
                if !self.is_known(&scid) {
                    ids.insert(scid, ALL_FLAGS);
                }
            } else if let Some((scid, flags)) = peer.sync.gaps.pop_first() {
                let flags = self.still_missing(&scid, flags);
                if flags != 0 {
                    ids.entry(scid).or_insert(flags);
                }
            } else {
                break;
            }
        }
        if !ids.is_empty() {
            peer.sync.waiting = true;
            peer.sync.asked(self.now);
            let fresh = ids.values().any(|flags| *flags == ALL_FLAGS);
            peer.sync.fertile = fresh.then_some(false);
            // BOLT 7 [7.query.14, 7.query.15].
            let flags = ids.values().any(|flags| *flags != ALL_FLAGS);
            let query_flags = flags.then(|| QueryFlags(ids.values().copied().collect()));
            let short_channel_ids = ShortChannelIds(ids.into_keys().collect());
            // BOLT 7 [7.query.2, 7.query.3, 7.query.4, 7.query.5].
            let query = QueryShortChannelIds { chain_hash, short_channel_ids, query_flags };
            let spoken = Spoken::message(link, &Message::QueryShortChannelIds(query));
            self.out.extend(spoken.map(Action::Send));
        }
        self.peers.insert(link, peer);
        self.end_if_idle(link);
    }

    /// Of what was to be asked for, what nobody told in the meantime.
    fn still_missing(&self, scid: &ShortChannelId, flags: u64) -> u64 {
        let Some(channel) = self.store.channel(scid) else { return 0 };
        let told = |at: usize| self.store.told(&channel.nodes[at].0.serialize()).is_some();
        [0, 1].into_iter().filter(|at| told(*at)).fold(flags, |flags, at| flags & !(NODE_1 << at))
    }

    pub(super) fn on_ids_end(&mut self, link: LinkId, _: &ReplyShortChannelIdsEnd) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if !core::mem::take(&mut peer.sync.waiting) {
            return self.charge(link);
        }
        peer.sync.deaf = false;
        match peer.sync.fertile.take() {
            Some(false) => peer.sync.barren = peer.sync.barren.saturating_add(1),
            Some(true) => peer.sync.barren = 0,
            None => {}
        }
        if peer.sync.barren >= BARREN && !peer.sync.missing.is_empty() {
            return self.stop_asking(link, "it names what it does not have");
        }
        self.end_if_idle(link);
    }

    /// An update told of a channel that this peer can tell more of; when it does not answer, another may.
    pub(super) fn want(&mut self, link: LinkId, scid: ShortChannelId) {
        let asks = |p: &Peer| p.queries && !p.sync.deaf;
        let room = |p: &Peer, most| asks(p) && p.sync.heard.len() < most;
        let itself = self.peers.get(&link).filter(|p| asks(p)).map(|_| link);
        let other = || self.peers.iter().find(|(_, p)| room(p, MAX_PASSED)).map(|(link, _)| *link);
        let Some(to) = itself.or_else(other) else { return };
        let Some(peer) = self.peers.get_mut(&to).filter(|p| room(p, MAX_WANTED)) else { return };
        peer.sync.heard.insert(scid);
    }

    fn end_if_idle(&mut self, link: LinkId) {
        let Some(peer) = self.peers.get(&link) else { return };
        if self.asking == Some(link) && peer.sync.is_idle() && !peer.sync.last {
            let text = format!("asked for its channels: {} were new", peer.sync.found);
            let id = peer.id;
            self.asking = None;
            self.notice(Level::Debug, text, Some(id));
        }
    }

    fn stop_asking(&mut self, link: LinkId, why: &str) {
        let asked = self.asking.take_if(|asking| *asking == link).is_some();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let id = peer.id;
        // A late answer is not asked for any more; the query itself stays open, as there may be only one.
        peer.sync = core::mem::take(&mut peer.sync).hushed();
        if asked {
            self.asked = self.asked.saturating_sub(1);
        }
        self.notice(Level::Info, format!("asking for its channels ended: {why}"), Some(id));
    }

    pub(super) fn asking_deadline(&self) -> Option<Timestamp> {
        let sync = &self.peers.get(&self.asking?)?.sync;
        Some(if sync.is_open() { sync.until.min(sync.turn) } else { sync.turn })
    }

    /// Whether a peer is being asked for its channels.
    pub const fn is_asking(&self) -> bool {
        self.asking.is_some()
    }
}
