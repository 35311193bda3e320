//! From a message to a fact: what BOLT 7 asks before an announcement counts.
//!
//! In: announcements of peers and of our own, answers about signatures and outputs. Out: the store, and what is new for the
//! next broadcast. Cheap checks come first; an announcement then waits for its signatures, for its funding output, and,
//! when that is young, for blocks; an update of a channel on its way waits for the channel. Every waiting room is
//! bounded, and what finds no place is dropped: the next sync with a peer brings it again.
//! Read next: `store`, `peers`.

use crate::gossip::peers::Key;
use crate::gossip::store::{NodeKey, FORGET_BLOCKS, STALE_S};
use crate::gossip::{Action, Gossip, Utxo};
use crate::id::{LinkId, NodeId, ShortChannelId};
use crate::node::effect::Level;
use crate::sign::VerifyJob;
use crate::tx::script;
use crate::units::{Height, Sat};
use crate::wire::address;
use crate::wire::gossip::{signed_digest, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use bitcoin::{OutPoint, Txid};

/// Messages whose signatures are being checked.
const MAX_VERIFYING: usize = 8_192;
/// Channels whose output is being looked up, or that are too young.
const MAX_WAITING: usize = 8_192;
/// Channels that updates wait for, and nodes whose channels are on their way.
const MAX_ORPHANS: usize = 8_192;
/// Updates that wait for one channel.
const MAX_UPDATES: usize = 4;
/// How long they wait, seconds.
const ORPHAN_S: u32 = 600;
/// Outputs that were looked for in vain.
const MAX_REFUSED: usize = 50_000;
/// Nodes that contradicted themselves.
const MAX_BLACKLIST: usize = 1_000;
/// A channel is announced when it is so deep.
const DEEP_BLOCKS: u32 = 6;
/// Clocks differ; a timestamp farther ahead than this is nonsense.
const FUTURE_S: u32 = 24 * 3_600;
/// Where a message's content begins after the type and four signatures.
const AFTER_SIGNATURES: usize = 2 + 4 * 64;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    next_ticket: u64,
    verifying: BTreeMap<u64, (LinkId, What)>,
    /// Channels of `verifying` and `waiting`, each with where it came from.
    coming: BTreeSet<ShortChannelId>,
    /// Signatures hold; the output is being looked up.
    waiting: BTreeMap<ShortChannelId, Signed>,
    /// Of those: not deep enough to be looked up.
    young: BTreeSet<ShortChannelId>,
    updates: BTreeMap<ShortChannelId, Orphans>,
    nodes: BTreeMap<NodeKey, (u32, LinkId, NodeAnnouncement)>,
    refused: BTreeSet<ShortChannelId>,
}

/// An announcement whose signatures hold, where it came from, and its bytes.
type Signed = (LinkId, Box<ChannelAnnouncement>, Box<[u8]>);

/// Updates of one channel, each with where it came from; since when they wait.
type Orphans = (u32, Vec<(LinkId, ChannelUpdate)>);

/// What its signatures will prove.
#[derive(Debug)]
enum What {
    Channel(Box<ChannelAnnouncement>, Box<[u8]>),
    /// The same channel with other nodes: somebody's keys are in two hands.
    Conflict(Box<ChannelAnnouncement>),
    Update(Box<ChannelUpdate>, Box<[u8]>),
    Node(Box<NodeAnnouncement>, Box<[u8]>),
}

impl Pending {
    /// How much is under way.
    pub(super) fn load(&self) -> usize {
        self.verifying.len() + self.waiting.len() - self.young.len().min(self.waiting.len())
    }

    pub(super) fn is_coming(&self, scid: &ShortChannelId) -> bool {
        self.coming.contains(scid)
    }

    pub(super) fn is_refused(&self, scid: &ShortChannelId) -> bool {
        self.refused.contains(scid)
    }

    /// All that waits, for tests of bounds.
    pub(super) fn size(&self) -> usize {
        let updates: usize = self.updates.values().map(|(_, list)| list.len()).sum();
        self.verifying.len() + self.waiting.len() + updates + self.nodes.len()
    }
}

/// A message whose fields were just read always has bytes.
fn bytes_of(message: Message) -> Option<(Box<[u8]>, Message)> {
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

fn block_of(scid: ShortChannelId) -> Height {
    Height((scid.0 >> 40) as u32)
}

impl Gossip {
    fn verify(&mut self, link: LinkId, what: What, jobs: Vec<VerifyJob>) {
        self.pending.next_ticket += 1;
        let ticket = self.pending.next_ticket;
        self.pending.verifying.insert(ticket, (link, what));
        self.out.push(Action::Verify { ticket, jobs });
    }

    pub(super) fn on_channel_announcement(&mut self, link: LinkId, m: ChannelAnnouncement) {
        let scid = m.short_channel_id;
        let ours = m.node_id_1 == self.settings.us || m.node_id_2 == self.settings.us;
        let bad_node = self.blacklist.contains(&m.node_id_1) || self.blacklist.contains(&m.node_id_2);
        let order = m.node_id_1.0.serialize() < m.node_id_2.0.serialize();
        // Of our own channels our own node tells.
        // BOLT 7 [7.announce.17].
        if m.chain_hash != self.settings.chain_hash || ours || bad_node || !order {
            return;
        }
        if self.pending.is_coming(&scid) || self.pending.is_refused(&scid) {
            return;
        }
        let full = self.pending.verifying.len() >= MAX_VERIFYING || self.pending.waiting.len() >= MAX_WAITING;
        if full {
            return self.charge(link);
        }
        let Some((bytes, Message::ChannelAnnouncement(m))) = bytes_of(Message::ChannelAnnouncement(m)) else {
            return;
        };
        let Some(digest) = signed_digest(&bytes, 4) else { return };
        let jobs = jobs_of(&m, digest);
        match self.store.channel(&scid).map(|known| known.announcement.clone()) {
            None => {
                self.pending.coming.insert(scid);
                self.verify(link, What::Channel(Box::new(m), bytes), jobs);
            }
            Some(known) if known.get(AFTER_SIGNATURES..) == bytes.get(AFTER_SIGNATURES..) => {}
            Some(known) => {
                if let Ok(Message::ChannelAnnouncement(old)) = Message::decode(&known) {
                    self.other_announcement(link, &old, m, jobs);
                }
            }
        }
    }

    /// A second announcement of a known channel counts only against nodes whose keys really hold the output.
    fn other_announcement(
        &mut self,
        link: LinkId,
        old: &ChannelAnnouncement,
        new: ChannelAnnouncement,
        jobs: Vec<VerifyJob>,
    ) {
        let keys = |m: &ChannelAnnouncement| BTreeSet::from([m.bitcoin_key_1, m.bitcoin_key_2]);
        let nodes = |m: &ChannelAnnouncement| (m.node_id_1, m.node_id_2);
        let looked_up = self.store.channel(&old.short_channel_id).is_some_and(|c| c.txid.is_some());
        if looked_up && keys(old) == keys(&new) && nodes(old) != nodes(&new) {
            self.verify(link, What::Conflict(Box::new(new)), jobs);
        } else {
            self.charge(link);
        }
    }

    pub(super) fn on_channel_update(&mut self, link: LinkId, m: ChannelUpdate) {
        let scid = m.short_channel_id;
        let future = m.timestamp > self.now_s().saturating_add(FUTURE_S);
        let old = m.timestamp < self.now_s().saturating_sub(STALE_S);
        // BOLT 7 [7.update.20].
        if m.chain_hash != self.settings.chain_hash || m.is_private() || future || old {
            return;
        }
        let Some(channel) = self.store.channel(&scid) else {
            return self.on_orphan(link, m);
        };
        let from = channel.nodes[usize::from(m.direction())];
        // "if the channel output has been spent: MUST ignore channel_updates, unless they have the disable bit set"
        // BOLT 7 [7.update.19].
        let over = channel.spent.is_some() && !m.is_disabled();
        let newer =
            channel.updates[usize::from(m.direction())].as_ref().is_none_or(|u| u.timestamp < m.timestamp);
        if from == self.settings.us || over || !newer {
            return;
        }
        if self.pending.verifying.len() >= MAX_VERIFYING
            || !self.store.has_room(&m, self.now_s(), self.settings.refill_s)
        {
            return self.charge(link);
        }
        let Some((bytes, Message::ChannelUpdate(m))) = bytes_of(Message::ChannelUpdate(m)) else { return };
        let Some(digest) = signed_digest(&bytes, 1) else { return };
        // BOLT 7 [7.update.21].
        let job = VerifyJob { digest, signature: m.signature, key: from.0 };
        self.verify(link, What::Update(Box::new(m), bytes), vec![job]);
    }

    /// Its channel is not known: when that is on its way the update waits for it, else the peer is asked.
    // BOLT 7 [7.update.18].
    fn on_orphan(&mut self, link: LinkId, m: ChannelUpdate) {
        let scid = m.short_channel_id;
        if self.pending.is_refused(&scid) {
            return;
        }
        if !self.pending.is_coming(&scid) {
            self.want(link, scid);
        }
        let full = self.pending.updates.len() >= MAX_ORPHANS;
        let since = self.now_s();
        let known = self.pending.updates.contains_key(&scid);
        if full && !known {
            return self.charge(link);
        }
        let list = &mut self.pending.updates.entry(scid).or_insert((since, Vec::new())).1;
        if list.len() < MAX_UPDATES && !list.iter().any(|(_, u)| *u == m) {
            list.push((link, m));
        }
    }

    pub(super) fn on_node_announcement(&mut self, link: LinkId, m: NodeAnnouncement) {
        let key = m.node_id.0.serialize();
        let newer = self.store.told(&key).is_none_or(|t| t.timestamp < m.timestamp);
        let future = m.timestamp > self.now_s().saturating_add(FUTURE_S);
        if m.node_id == self.settings.us || !newer || future || self.blacklist.contains(&m.node_id) {
            return;
        }
        let Ok(addresses) = address::read(&m.addresses) else {
            return self.warn(link, "node_announcement: its addresses end inside one");
        };
        // "if more than one type 5 address is announced: [...] MUST not forward the node_announcement"
        // BOLT 7 [7.node.16].
        if addresses.many_names {
            return;
        }
        if !self.store.has_node(&key) {
            let full = self.pending.nodes.len() >= MAX_ORPHANS && !self.pending.nodes.contains_key(&key);
            if full || self.pending.coming.is_empty() {
                return;
            }
            self.pending.nodes.insert(key, (self.now_s(), link, m));
            return;
        }
        if self.pending.verifying.len() >= MAX_VERIFYING {
            return self.charge(link);
        }
        let Some((bytes, Message::NodeAnnouncement(m))) = bytes_of(Message::NodeAnnouncement(m)) else {
            return;
        };
        let Some(digest) = signed_digest(&bytes, 1) else { return };
        // BOLT 7 [7.node.12].
        let job = VerifyJob { digest, signature: m.signature, key: m.node_id.0 };
        self.verify(link, What::Node(Box::new(m), bytes), vec![job]);
    }

    pub(super) fn on_verified(&mut self, ticket: u64, good: bool) {
        let Some((link, what)) = self.pending.verifying.remove(&ticket) else { return };
        if !good {
            if let What::Channel(m, _) = &what {
                self.pending.coming.remove(&m.short_channel_id);
            }
            // BOLT 7 [7.announce.18, 7.node.12, 7.update.21].
            return self.mute(link, "a signature in its gossip does not hold");
        }
        match what {
            What::Channel(m, bytes) => {
                let scid = m.short_channel_id;
                self.pending.waiting.insert(scid, (link, m, bytes));
                self.look_up(scid);
            }
            What::Conflict(m) => self.on_conflict(&m),
            What::Update(m, bytes) => self.accept_update(link, &m, bytes),
            What::Node(m, bytes) => {
                let key = m.node_id.0.serialize();
                let newer = self.store.told(&key).is_none_or(|t| t.timestamp < m.timestamp);
                if newer && self.store.has_node(&key) {
                    let kept = self.store.set_node(&m, bytes);
                    self.out.push(Action::Keep(kept));
                    self.fresh.insert(Key::Node(key));
                }
            }
        }
    }

    /// Asks for the output of a channel that is deep enough by our tip; a younger one waits.
    fn look_up(&mut self, scid: ShortChannelId) {
        let ready = Height(block_of(scid).0.saturating_add(DEEP_BLOCKS - 1));
        if self.tip != Height(0) && self.tip < ready {
            self.pending.young.insert(scid);
        } else {
            self.pending.young.remove(&scid);
            self.out.push(Action::LookUp(scid));
        }
    }

    pub(super) fn on_looked_up(&mut self, scid: ShortChannelId, utxo: &Utxo) {
        let Some((link, m, bytes)) = self.pending.waiting.remove(&scid) else { return };
        self.pending.young.remove(&scid);
        self.pending.coming.remove(&scid);
        let funding = match utxo {
            // BOLT 7 [7.announce.16].
            Utxo::Found { script, .. }
                if *script != script::p2wsh(&script::funding(&m.bitcoin_key_1, &m.bitcoin_key_2)) =>
            {
                self.refuse(scid);
                return self.mute(link, "it announced a channel whose output is another's");
            }
            Utxo::Found { txid, capacity, .. } => Some((*txid, *capacity)),
            Utxo::Absent => return self.refuse(scid),
            Utxo::Unknown => None,
        };
        self.accept_channel(&m, bytes, funding);
    }

    /// Spent, or never there; it is not looked for again.
    fn refuse(&mut self, scid: ShortChannelId) {
        if self.pending.refused.len() >= MAX_REFUSED {
            self.pending.refused.clear();
        }
        self.pending.refused.insert(scid);
        self.pending.updates.remove(&scid);
    }

    fn accept_channel(&mut self, m: &ChannelAnnouncement, bytes: Box<[u8]>, funding: Option<(Txid, Sat)>) {
        let nodes = [m.node_id_1, m.node_id_2];
        let known = self.store.channel(&m.short_channel_id).is_some();
        if known || nodes.iter().any(|id| self.blacklist.contains(id)) {
            return;
        }
        let kept = self.store.add_channel(m, bytes, funding, self.now_s());
        self.out.push(Action::Keep(kept));
        // What waited for it.
        if let Some((_, updates)) = self.pending.updates.remove(&m.short_channel_id) {
            updates.into_iter().for_each(|(link, update)| self.on_channel_update(link, update));
        }
        for id in nodes {
            if let Some((_, link, node)) = self.pending.nodes.remove(&id.0.serialize()) {
                self.on_node_announcement(link, node);
            }
        }
    }

    fn accept_update(&mut self, link: LinkId, m: &ChannelUpdate, bytes: Box<[u8]>) {
        let direction = usize::from(m.direction());
        let Some(channel) = self.store.channel(&m.short_channel_id) else { return };
        let newer = channel.updates[direction].as_ref().is_none_or(|u| u.timestamp < m.timestamp);
        if !newer || channel.spent.is_some() && !m.is_disabled() {
            return;
        }
        let (now_s, refill_s) = (self.now_s(), self.settings.refill_s);
        if !self.store.has_room(m, now_s, refill_s) {
            return self.charge(link);
        }
        let first = channel.newest().is_none();
        let kept = self.store.set_update(m, bytes, now_s, refill_s);
        self.out.push(Action::Keep(kept));
        if first {
            self.fresh.insert(Key::Channel(m.short_channel_id));
        }
        self.fresh.insert(Key::Update(m.short_channel_id, m.direction()));
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
            let kept = self.store.set_node(&m, bytes);
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
        let grown: Vec<ShortChannelId> = self.pending.young.iter().copied().collect();
        grown.into_iter().for_each(|scid| self.look_up(scid));
        self.store.buried(height).into_iter().for_each(|scid| self.forget(scid));
    }

    pub(super) fn on_block_gone(&mut self, height: Height) {
        self.tip = Height(height.0.saturating_sub(1));
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
        let oldest = self.now_s().saturating_sub(ORPHAN_S);
        self.pending.updates.retain(|_, (since, _)| *since >= oldest);
        self.pending.nodes.retain(|_, (since, ..)| *since >= oldest);
    }

    pub(super) fn prune(&mut self) {
        let stale = self.store.stale(self.now_s(), &self.settings.us);
        if !stale.is_empty() {
            let text = alloc::format!("{} channels had no news for two weeks: forgotten", stale.len());
            self.notice(Level::Info, text, None);
        }
        stale.into_iter().for_each(|scid| self.forget(scid));
    }

    /// How many messages wait for something (tests of bounds).
    pub fn waiting(&self) -> usize {
        self.pending.size() + self.early.values().map(Vec::len).sum::<usize>()
    }
}
