//! What a peer's gossip earned it: how much more of it is looked at, and whether at all.
//!
//! In: messages, and what came of them. Out: a verdict. News that were true earn credit, messages cost some, work that was wasted
//! costs more, what the chain gives the lie to costs much. Without credit, or with a signature that does not hold, a peer's gossip is
//! ignored for a while, each time for longer; its channels and payments are not touched. A peer that goes takes that along:
//! it is remembered by its node id. Read next: `peers`, `room`.

use crate::gossip::peers::Peer;
use crate::gossip::{Action, Gossip, Spoken};
use crate::id::{ChannelId, LinkId, NodeId};
use crate::node::effect::Level;
use crate::units::Timestamp;
use crate::wire::message::ErrorMessage;
use crate::wire::Message;
use alloc::collections::BTreeMap;
use alloc::format;
use core::cmp::Reverse;

/// Messages that a peer may send in quick succession; a whole network's are three for each channel and one a node.
const CREDIT: u32 = 500_000;
/// And this many more a second.
const CREDIT_PER_S: u32 = 500;
/// What a message earns that was news, and true.
const NEWS: u32 = 100;
/// What a message costs for which there was no place.
pub(super) const CROWDED: u32 = 1;
/// What a message costs when work was wasted on it.
pub(super) const WASTE: u32 = 100;
/// What an announcement costs whose output is another's: twenty of them are one peer's gossip.
pub(super) const FORGERY: u32 = CREDIT / 20;
/// How long a peer that went too far is not listened to, the first time.
const MUTED_MS: u64 = 600_000;
/// Each time for twice as long, up to so many times twice: half a day.
const DOUBLINGS: u8 = 6;
/// After so long without a fault the next time is the first.
const FORGIVEN_MS: u64 = 2 * 24 * 3_600_000;
/// Peers that are gone and whose standing is remembered.
const MAX_REMEMBERED: usize = 1_000;

/// Of one peer.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    credit: u32,
    credited_s: u32,
    muted_until: Option<Timestamp>,
    /// How often it was not listened to.
    mutes: u8,
}

impl Standing {
    const fn new(now_s: u32) -> Standing {
        Standing { credit: CREDIT, credited_s: now_s, muted_until: None, mutes: 0 }
    }

    pub fn is_muted(&self, now: Timestamp) -> bool {
        self.muted_until.is_some_and(|until| until > now)
    }

    /// A stranger would have as much.
    fn is_clean(&self, now: Timestamp) -> bool {
        let now_s = u32::try_from(now.seconds()).unwrap_or(u32::MAX);
        self.is_forgiven(now) || self.mutes == 0 && self.credit_at(now_s) >= CREDIT
    }

    fn credit_at(&self, now_s: u32) -> u32 {
        let more = now_s.saturating_sub(self.credited_s).saturating_mul(CREDIT_PER_S);
        self.credit.saturating_add(more).min(CREDIT)
    }

    fn is_forgiven(&self, now: Timestamp) -> bool {
        self.muted_until.is_some_and(|until| now >= until.plus_ms(FORGIVEN_MS))
    }

    fn spend(&mut self, amount: u32, now_s: u32) -> bool {
        (self.credit, self.credited_s) = (self.credit_at(now_s), now_s);
        let enough = self.credit >= amount;
        self.credit = self.credit.saturating_sub(amount);
        enough
    }

    fn earn(&mut self, amount: u32) {
        self.credit = self.credit.saturating_add(amount).min(CREDIT);
    }

    /// From now on it is not listened to; for how long, milliseconds.
    fn mute(&mut self, now: Timestamp) -> u64 {
        if self.is_forgiven(now) {
            self.mutes = 0;
        }
        let long = MUTED_MS << self.mutes.min(DOUBLINGS);
        self.mutes = self.mutes.saturating_add(1);
        self.muted_until = Some(now.plus_ms(long));
        self.credit = CREDIT;
        long
    }
}

/// Of peers that are gone.
#[derive(Debug, Default)]
pub(super) struct Remembered(BTreeMap<NodeId, Standing>);

impl Remembered {
    fn keep(&mut self, id: NodeId, standing: Standing, now: Timestamp) {
        if standing.is_clean(now) {
            return;
        }
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&id) {
            self.0.retain(|_, s| !s.is_clean(now));
            // Whoever is nearest to being a stranger.
            let least = self.0.iter().min_by_key(|(_, s)| (s.mutes, s.muted_until, Reverse(s.credit)));
            let least = least.map(|(id, _)| *id);
            if let Some(least) = least.filter(|_| self.0.len() >= MAX_REMEMBERED) {
                self.0.remove(&least);
            }
        }
        self.0.insert(id, standing);
    }
}

impl Gossip {
    /// Where a peer stands that comes, or comes back.
    pub(super) fn standing_of(&mut self, id: &NodeId) -> Standing {
        let now_s = self.now_s();
        // Its old link may end after the new one began.
        let other = self.peers.values().find(|peer| peer.id == *id).map(|peer| peer.standing.clone());
        let before = self.remembered.0.remove(id);
        before.or(other).unwrap_or_else(|| Standing::new(now_s))
    }

    pub(super) fn remember(&mut self, peer: Peer) {
        self.remembered.keep(peer.id, peer.standing, self.now);
    }

    /// Whether a message of this peer is looked at.
    pub(super) fn may_speak(&mut self, link: LinkId) -> bool {
        let (now, now_s) = (self.now, self.now_s());
        let Some(peer) = self.peers.get_mut(&link) else { return false };
        if peer.standing.is_muted(now) {
            return false;
        }
        peer.sync.is_alive(now);
        if peer.standing.spend(1, now_s) {
            return true;
        }
        self.mute(link, "too much gossip");
        false
    }

    /// It told what was new and true.
    pub(super) fn thank(&mut self, link: LinkId) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.standing.earn(NEWS);
        }
    }

    /// Work was wasted on its message.
    pub(super) fn charge(&mut self, link: LinkId) {
        self.charge_with(link, WASTE);
    }

    pub(super) fn charge_with(&mut self, link: LinkId, cost: u32) {
        let now_s = self.now_s();
        let enough = self.peers.get_mut(&link).is_none_or(|peer| peer.standing.spend(cost, now_s));
        if !enough {
            self.mute(link, "too much gossip that is of no use");
        }
    }

    /// What this node told was of no use; it may be gone by now.
    pub(super) fn blame(&mut self, id: NodeId, cost: u32) {
        if let Some(link) = self.link_of(&id) {
            return self.charge_with(link, cost);
        }
        let (now, now_s) = (self.now, self.now_s());
        let mut standing = self.standing_of(&id);
        if !standing.is_muted(now) && !standing.spend(cost, now_s) {
            standing.mute(now);
        }
        self.remembered.keep(id, standing, now);
    }

    /// This node told what no honest one tells.
    pub(super) fn condemn(&mut self, id: NodeId, why: &str) {
        if let Some(link) = self.link_of(&id) {
            return self.mute(link, why);
        }
        let mut standing = self.standing_of(&id);
        if !standing.is_muted(self.now) {
            standing.mute(self.now);
        }
        self.remembered.keep(id, standing, self.now);
    }

    fn link_of(&self, id: &NodeId) -> Option<LinkId> {
        self.peers.iter().find(|(_, peer)| peer.id == *id).map(|(link, _)| *link)
    }

    pub(super) fn warn(&mut self, link: LinkId, text: &str) {
        let told = ErrorMessage::new(ChannelId::ALL, text);
        self.send(link, &Message::Warning(told));
        self.charge(link);
    }

    /// Its gossip is ignored for a while; its channels are not touched.
    pub(super) fn mute(&mut self, link: LinkId, why: &str) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.standing.is_muted(now) {
            return;
        }
        let minutes = peer.standing.mute(now) / 60_000;
        peer.hush();
        let id = peer.id;
        if self.asking == Some(link) {
            self.asking = None;
        }
        self.pending.drop_unchecked(link);
        self.notice(Level::Warn, format!("its gossip is ignored for {minutes} minutes: {why}"), Some(id));
        let told = ErrorMessage::new(ChannelId::ALL, &format!("your gossip is ignored for a while: {why}"));
        self.out.extend(Spoken::message(link, &Message::Warning(told)).map(Action::Send));
        self.listen_on();
    }

    /// Whether this link's peer is not listened to at present.
    pub fn is_muted(&self, link: LinkId) -> bool {
        self.peers.get(&link).is_some_and(|peer| peer.standing.is_muted(self.now))
    }
}

impl Peer {
    /// It is neither asked nor answered any more.
    fn hush(&mut self) {
        self.forget_answers();
        self.sync = core::mem::take(&mut self.sync).hushed();
    }
}
