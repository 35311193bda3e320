//! What is believed: once signatures were checked, once the chain has answered, as blocks come and time passes.
//!
//! In: answers about signatures and outputs, blocks, what our own node says. Out: the store, what is new for the next broadcast, and what
//! the senders earned. The chain decides between several announcements of one channel; where it cannot tell, whatever
//! most peers say. Read next: `store`, `standing`.

use crate::gossip::accept::{bytes_of, DEEP_BLOCKS};
use crate::gossip::peers::Key;
use crate::gossip::pending::{Check, Signed, What};
use crate::gossip::standing::{FORGERY, WASTE};
use crate::gossip::store::FORGET_BLOCKS;
use crate::gossip::{Action, Gossip, Utxo, EARLY_MS};
use crate::id::{LinkId, NodeId, ShortChannelId};
use crate::node::effect::Level;
use crate::tx::script;
use crate::units::{Height, Sat};
use crate::wire::gossip::{signed_digest, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use bitcoin::{OutPoint, ScriptBuf, Txid};

/// Nodes that contradicted themselves.
const MAX_BLACKLIST: usize = 1_000;
/// Channels that no chain was asked about: where the backend cannot tell, signatures are all that a forger needs.
const MAX_UNPROVEN: usize = 150_000;

impl Gossip {
    pub(super) fn on_verified(&mut self, ticket: u64, good: bool) {
        let Some(Check { said, item, .. }) = self.pending.checked(ticket) else { return };
        if !good {
            // BOLT 7 [7.announce.18, 7.node.12, 7.update.21].
            for (_, id) in said {
                self.condemn(id, "a signature in its gossip does not hold");
            }
            return;
        }
        let news = match item.what {
            What::Channel(m) => {
                let deep = self.is_deep(m.short_channel_id);
                for (link, from) in said {
                    let signed = Signed { from, m: m.clone(), bytes: item.bytes.clone() };
                    self.pending.sign(link, signed, deep);
                }
                return;
            }
            What::Conflict(m) => return self.on_conflict(&m),
            What::Update(m) => self.accept_update(&m, item.bytes),
            What::Node(m) => self.accept_node(&m, item.bytes),
        };
        if let Some((link, _)) = said.first().filter(|_| news) {
            self.thank(*link);
        }
    }

    pub(super) fn on_looked_up(&mut self, scid: ShortChannelId, utxo: &Utxo) {
        let Some(mut all) = self.pending.looked_up(scid) else { return };
        let funding = match utxo {
            // BOLT 7 [7.announce.16].
            Utxo::Found { script, txid, capacity } => {
                all = self.sort_out(scid, script, all);
                Some((*txid, *capacity))
            }
            Utxo::Absent => return self.nothing_there(scid, &all),
            Utxo::Unknown => {
                // Nobody can tell; the first of those that most say.
                let says = |bytes: &[u8]| all.iter().filter(|(_, s)| *s.bytes == *bytes).count();
                let best = all.iter().rev().max_by_key(|(_, s)| says(&s.bytes)).cloned();
                all = best.into_iter().collect();
                None
            }
        };
        for (link, signed) in all {
            match self.store.channel(&scid).map(|channel| channel.nodes) {
                None => {
                    if self.accept_channel(&signed.m, signed.bytes, funding) {
                        self.thank(link);
                    }
                }
                Some(nodes) if funding.is_some() && nodes != [signed.m.node_id_1, signed.m.node_id_2] => {
                    return self.on_conflict(&signed.m);
                }
                Some(_) => {}
            }
        }
    }

    /// Those whose keys hold the output. The others are forged, whatever their signatures; who passes one on that others told
    /// as well may have been told it.
    fn sort_out(
        &mut self,
        scid: ShortChannelId,
        output: &ScriptBuf,
        all: Vec<(LinkId, Signed)>,
    ) -> Vec<(LinkId, Signed)> {
        let holds = |m: &ChannelAnnouncement| {
            *output == script::p2wsh(&script::funding(&m.bitcoin_key_1, &m.bitcoin_key_2))
        };
        let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, signed)| holds(&signed.m));
        for (_, signed) in &bad {
            if let Some(digest) = signed_digest(&signed.bytes, 4) {
                self.pending.refuse(scid, digest);
            }
            let alone = bad.iter().filter(|(_, other)| other.bytes == signed.bytes).count() == 1;
            self.blame(signed.from, if alone { FORGERY } else { WASTE });
        }
        good
    }

    /// Spent, or never there: a peer may be behind. Before the first block it may be our backend that is.
    fn nothing_there(&mut self, scid: ShortChannelId, all: &[(LinkId, Signed)]) {
        if self.tip == Height(0) {
            return;
        }
        self.pending.set_absent(scid);
        let from: BTreeSet<NodeId> = all.iter().map(|(_, signed)| signed.from).collect();
        from.into_iter().for_each(|id| self.blame(id, WASTE));
    }

    /// Whether it is new.
    fn accept_channel(
        &mut self,
        m: &ChannelAnnouncement,
        bytes: Box<[u8]>,
        funding: Option<(Txid, Sat)>,
    ) -> bool {
        let nodes = [m.node_id_1, m.node_id_2];
        let known = self.store.channel(&m.short_channel_id).is_some();
        let full = funding.is_none() && self.store.unproven() >= MAX_UNPROVEN;
        if known || full || nodes.iter().any(|id| self.blacklist.contains(id)) {
            return false;
        }
        let kept = self.store.add_channel(m, bytes, funding, self.now_s());
        self.out.push(Action::Keep(kept));
        // What waited for it.
        let (updates, nodes) = self.pending.held(m);
        updates.into_iter().for_each(|(link, held)| self.update_of(link, held.from, held.m));
        nodes.into_iter().for_each(|(link, held)| self.node_of(link, held.from, held.m));
        true
    }

    fn accept_update(&mut self, m: &ChannelUpdate, bytes: Box<[u8]>) -> bool {
        if !self.is_news(m) {
            return false;
        }
        let Some(channel) = self.store.channel(&m.short_channel_id) else { return false };
        let first = channel.newest().is_none();
        let kept = self.store.set_update(m, bytes, self.now_s(), self.settings.refill_s);
        self.out.push(Action::Keep(kept));
        if first {
            self.fresh.insert(Key::Channel(m.short_channel_id));
        }
        self.fresh.insert(Key::Update(m.short_channel_id, m.direction()));
        true
    }

    fn accept_node(&mut self, m: &NodeAnnouncement, bytes: Box<[u8]>) -> bool {
        let key = m.node_id.0.serialize();
        let (now_s, refill_s) = (self.now_s(), self.settings.refill_s);
        let room = self.store.has_room_for_node(&key, m.timestamp, now_s, refill_s);
        if !room || !self.store.has_node(&key) {
            return false;
        }
        let kept = self.store.set_node(m, bytes, now_s, refill_s);
        self.out.push(Action::Keep(kept));
        self.fresh.insert(Key::Node(key));
        true
    }

    /// Both hold: the same output in the name of other nodes. Neither pair is to be trusted.
    fn on_conflict(&mut self, new: &ChannelAnnouncement) {
        let Some(old) = self.store.channel(&new.short_channel_id).map(|c| c.nodes) else { return };
        let all: BTreeSet<NodeId> = old.into_iter().chain([new.node_id_1, new.node_id_2]).collect();
        for id in all {
            if id == self.settings.us || self.blacklist.len() >= MAX_BLACKLIST {
                continue;
            }
            self.notice(
                Level::Warn,
                "this node announced one channel in two names: it is ignored from now on",
                Some(id),
            );
            self.blacklist.insert(id);
            for scid in self.store.channels_of(&id) {
                self.forget(scid);
            }
        }
    }

    pub(super) fn forget(&mut self, scid: ShortChannelId) {
        let kept = self.store.remove(scid);
        self.out.extend(kept.map(Action::Keep));
    }
}

/// What our own node says, which is true.
impl Gossip {
    pub(super) fn own_channel(&mut self, m: ChannelAnnouncement, funding: OutPoint, capacity: Sat) {
        let Some((bytes, Message::ChannelAnnouncement(m))) = bytes_of(Message::ChannelAnnouncement(m)) else {
            return;
        };
        self.accept_channel(&m, bytes, Some((funding.txid, capacity)));
    }

    pub(super) fn own_update(&mut self, m: ChannelUpdate) {
        let Some((bytes, Message::ChannelUpdate(m))) = bytes_of(Message::ChannelUpdate(m)) else { return };
        let (scid, direction) = (m.short_channel_id, m.direction());
        let Some(channel) = self.store.channel(&scid) else { return };
        if channel.updates[usize::from(direction)].as_ref().is_some_and(|u| u.timestamp >= m.timestamp) {
            return;
        }
        let (now_s, refill_s) = (self.now_s(), self.settings.refill_s);
        let kept = self.store.set_update(&m, bytes, now_s, refill_s);
        self.out.push(Action::Keep(kept));
        self.fresh.insert(Key::Channel(scid));
        self.fresh.insert(Key::Update(scid, direction));
    }

    pub(super) fn own_node(&mut self, m: NodeAnnouncement) {
        let Some((bytes, Message::NodeAnnouncement(m))) = bytes_of(Message::NodeAnnouncement(m)) else {
            return;
        };
        let key = m.node_id.0.serialize();
        if self.store.has_node(&key) && self.store.told(&key).is_none_or(|t| t.timestamp < m.timestamp) {
            let kept = self.store.set_node(&m, bytes, self.now_s(), self.settings.refill_s);
            self.out.push(Action::Keep(kept));
            self.fresh.insert(Key::Node(key));
        }
    }
}

/// What blocks and time do.
impl Gossip {
    pub(super) fn on_block(&mut self, height: Height, spent: &[OutPoint]) {
        self.tip = height;
        for outpoint in spent {
            let Some(scid) = self.store.by_funding(outpoint) else { continue };
            let kept = self.store.set_spent(scid, Some(height));
            self.out.extend(kept.map(Action::Keep));
        }
        let first = u64::from(height.0.saturating_sub(DEEP_BLOCKS - 2));
        self.pending.ripen(ShortChannelId(first << 40));
        self.store.buried(height).into_iter().for_each(|scid| self.forget(scid));
    }

    pub(super) fn on_block_gone(&mut self, height: Height) {
        self.tip = Height(height.0.saturating_sub(1));
        self.pending.doubt();
        for scid in self.store.spent_at(height) {
            let kept = self.store.set_spent(scid, None);
            self.out.extend(kept.map(Action::Keep));
        }
        // A funding output that leaves the chain is as good as spent: forgotten unless it comes back where it was.
        let first = ShortChannelId(u64::from(height.0) << 40);
        let gone: Vec<ShortChannelId> = self.store.channels_from(first).map(|(scid, _)| *scid).collect();
        for scid in gone {
            let kept = self.store.set_spent(scid, Some(Height(height.0.saturating_add(FORGET_BLOCKS))));
            self.out.extend(kept.map(Action::Keep));
        }
    }

    /// What waited too long is dropped.
    pub(super) fn tidy(&mut self) {
        self.pending.tidy(self.now_s());
        let now = self.now;
        self.early.retain(|_, (since, _)| now < since.plus_ms(EARLY_MS));
        self.listen_on();
    }

    pub(super) fn prune(&mut self) {
        let stale = self.store.stale(self.now_s(), &self.settings.us);
        if !stale.is_empty() {
            let text = alloc::format!("{} channels had no news for two weeks: forgotten", stale.len());
            self.notice(Level::Info, text, None);
        }
        stale.into_iter().for_each(|scid| self.forget(scid));
    }
}
