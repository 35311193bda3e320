//! What waits: for its turn at the signatures, for the chain, for a channel.
//!
//! In: messages that passed the cheap checks. Out: one of each peer in turn to be checked, no more at once than workers can
//! do soon, and what each peer said of a channel, side by side: one peer's announcement never stands in the place of another's, so
//! that a forged one keeps no true one out. What was found wrong is remembered by its content. Read next: `room`, `verdict`.

use crate::gossip::room::{Lost, Room, NOBODY};
use crate::gossip::store::NodeKey;
use crate::gossip::Gossip;
use crate::id::{LinkId, NodeId, ShortChannelId};
use crate::units::Height;
use crate::wire::gossip::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// One peer's messages whose signatures are to be checked, and all of them, bytes. An answer to a query of 500 channels is 2 MB of
/// it, and the next is asked for while 2,000 messages wait.
const QUEUE: (usize, usize) = (12 << 20, 48 << 20);
/// Announcements whose outputs are to be looked up, or that are too young.
const SIGNED: (usize, usize) = (8 << 20, 32 << 20);
/// Updates, and nodes, that wait for a channel.
const ORPHANS: (usize, usize) = (6 << 20, 24 << 20);
/// What a waiting message weighs beside twice its bytes: once as they came, once as fields.
const FRAME: usize = 256;
/// Messages whose signatures are being checked at once.
const MAX_CHECKING: usize = 1_024;
/// Outputs that are looked up at once; the daemon does a few of them side by side.
const MAX_LOOKING: usize = 64;
/// How long something waits for a channel, or for a worker that died, seconds.
const PATIENCE_S: u32 = 600;
/// What is remembered as wrong.
const MAX_REFUSED: usize = 50_000;

/// A message to be checked.
#[derive(Debug)]
pub(super) struct Item {
    pub from: NodeId,
    pub what: What,
    pub bytes: Box<[u8]>,
}

/// What its signatures will prove.
#[derive(Debug)]
pub(super) enum What {
    Channel(Box<ChannelAnnouncement>),
    /// The same channel with other nodes: somebody's keys are in two hands.
    Conflict(Box<ChannelAnnouncement>),
    Update(Box<ChannelUpdate>),
    Node(Box<NodeAnnouncement>),
}

/// A message at a worker, and everybody who said the very same.
#[derive(Debug)]
pub(super) struct Check {
    pub said: Vec<(LinkId, NodeId)>,
    pub item: Item,
    hash: [u8; 32],
    since_s: u32,
}

/// An announcement whose signatures hold.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub from: NodeId,
    pub m: Box<ChannelAnnouncement>,
    pub bytes: Box<[u8]>,
}

/// What waits for a channel.
#[derive(Debug)]
pub(super) struct Orphan<M> {
    pub from: NodeId,
    pub since_s: u32,
    pub m: M,
}

/// The same, and over which link it came.
pub(super) type Held<M> = (LinkId, Orphan<M>);

/// All of it.
#[derive(Debug)]
pub(super) struct Pending {
    /// Numbers of tickets and of places in the queue.
    next: u64,
    queue: Room<u64, Item>,
    checking: BTreeMap<u64, Check>,
    /// The messages at workers, by SHA-256.
    tickets: BTreeMap<[u8; 32], u64>,
    signed: Room<ShortChannelId, Signed>,
    /// Of those: to be looked up, as it is each peer's turn.
    due: Room<ShortChannelId, ()>,
    looking: BTreeSet<ShortChannelId>,
    /// Of those: not deep enough to be looked up.
    young: BTreeSet<ShortChannelId>,
    /// Channels that are on their way, and their ends: how many announcements of each.
    coming: BTreeMap<ShortChannelId, u32>,
    ends: BTreeMap<NodeKey, u32>,
    /// By channel and direction.
    updates: Room<(ShortChannelId, u8), Orphan<ChannelUpdate>>,
    nodes: Room<NodeKey, Orphan<NodeAnnouncement>>,
    /// Announcements that the chain gave the lie to, by what was signed. Another announcement of the same channel is another.
    forged: BTreeSet<(ShortChannelId, [u8; 32])>,
    /// Outputs that were looked for in vain.
    absent: BTreeSet<ShortChannelId>,
}

impl Default for Pending {
    fn default() -> Pending {
        Pending {
            next: 0,
            queue: Room::new(QUEUE.0, QUEUE.1),
            checking: BTreeMap::new(),
            tickets: BTreeMap::new(),
            signed: Room::new(SIGNED.0, SIGNED.1),
            // As many as `signed` has.
            due: Room::new(usize::MAX, usize::MAX),
            looking: BTreeSet::new(),
            young: BTreeSet::new(),
            coming: BTreeMap::new(),
            ends: BTreeMap::new(),
            updates: Room::new(ORPHANS.0, ORPHANS.1),
            nodes: Room::new(ORPHANS.0, ORPHANS.1),
            forged: BTreeSet::new(),
            absent: BTreeSet::new(),
        }
    }
}

const fn weight(bytes: usize) -> usize {
    2 * bytes + FRAME
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The signatures.
impl Pending {
    /// Takes a message in line; false when there is no place for it.
    pub fn enqueue(&mut self, link: LinkId, item: Item) -> bool {
        self.next += 1;
        let number = self.next;
        if let What::Channel(m) = &item.what {
            self.enter(m);
        }
        let lost = self.queue.put(link, number, weight(item.bytes.len()), item);
        let refused = lost.iter().any(|(_, key, _)| *key == number);
        self.drop_items(lost);
        !refused
    }

    fn drop_items(&mut self, lost: Vec<Lost<u64, Item>>) {
        lost.iter().for_each(|(_, _, item)| self.drop_item(item));
    }

    /// One announcement less of a channel.
    pub fn drop_item(&mut self, item: &Item) {
        if let What::Channel(m) = &item.what {
            self.left(m);
        }
    }

    fn enter(&mut self, m: &ChannelAnnouncement) {
        *self.coming.entry(m.short_channel_id).or_default() += 1;
        for id in [m.node_id_1, m.node_id_2] {
            *self.ends.entry(id.0.serialize()).or_default() += 1;
        }
    }

    fn left(&mut self, m: &ChannelAnnouncement) {
        count_down(&mut self.coming, &m.short_channel_id);
        for id in [m.node_id_1, m.node_id_2] {
            count_down(&mut self.ends, &id.0.serialize());
        }
    }

    /// Whether workers wait for more.
    pub fn wants_checks(&self) -> bool {
        self.checking.len() < MAX_CHECKING / 2
    }

    /// The next message, when it is to be checked now: one of each peer in turn.
    pub fn next_check(&mut self) -> Option<(LinkId, Item)> {
        if self.checking.len() >= MAX_CHECKING {
            return None;
        }
        self.queue.next().map(|(link, _, item)| (link, item))
    }

    /// Notes that it is at a worker; `None` when the very same is there already, and what comes of that counts for both.
    pub fn check(&mut self, link: LinkId, item: Item, hash: [u8; 32], now_s: u32) -> Option<u64> {
        if let Some(check) = self.tickets.get(&hash).and_then(|ticket| self.checking.get_mut(ticket)) {
            check.said.push((link, item.from));
            self.drop_item(&item);
            return None;
        }
        self.next += 1;
        self.tickets.insert(hash, self.next);
        let check = Check { said: Vec::from([(link, item.from)]), item, hash, since_s: now_s };
        self.checking.insert(self.next, check);
        Some(self.next)
    }

    pub fn checked(&mut self, ticket: u64) -> Option<Check> {
        let check = self.checking.remove(&ticket)?;
        self.tickets.remove(&check.hash);
        self.drop_item(&check.item);
        Some(check)
    }

    /// A peer that forges: what else it said is not looked at.
    pub fn drop_unchecked(&mut self, link: LinkId) {
        let lost = self.queue.clear(link);
        self.drop_items(lost);
        drop(self.updates.clear(link));
        drop(self.nodes.clear(link));
    }

    /// The link is gone.
    pub fn leave(&mut self, link: LinkId) {
        let lost = self.queue.leave(link);
        self.drop_items(lost);
        let lost = self.signed.leave(link);
        self.drop_signed(lost);
        drop(self.due.leave(link));
        drop(self.updates.leave(link));
        drop(self.nodes.leave(link));
        let checks = self.checking.values_mut().flat_map(|check| check.said.iter_mut());
        checks.filter(|(said, _)| *said == link).for_each(|(said, _)| *said = NOBODY);
    }
}

/// The chain.
impl Pending {
    /// Whether the very same, from whomever, has good signatures.
    pub fn is_signed(&self, m: &ChannelAnnouncement, bytes: &[u8]) -> bool {
        self.signed.get_all(&m.short_channel_id).any(|signed| *signed.bytes == *bytes)
    }

    /// Signatures hold: it waits for the chain.
    pub fn sign(&mut self, link: LinkId, signed: Signed, deep: bool) {
        let scid = signed.m.short_channel_id;
        self.enter(&signed.m);
        let lost = self.signed.put(link, scid, weight(signed.bytes.len()), signed);
        self.drop_signed(lost);
        if self.signed.get(link, &scid).is_none() {
            return;
        }
        if !deep {
            self.young.insert(scid);
        } else if !self.looking.contains(&scid) {
            drop(self.due.put(link, scid, 1, ()));
        }
    }

    fn drop_signed(&mut self, lost: Vec<Lost<ShortChannelId, Signed>>) {
        for (link, scid, signed) in lost {
            self.left(&signed.m);
            if self.signed.get(link, &scid).is_none() {
                self.due.take(link, &scid);
            }
        }
    }

    /// Blocks came: what lies below `first` is deep enough now.
    pub fn ripen(&mut self, first: ShortChannelId) {
        let later = self.young.split_off(&first);
        for scid in core::mem::replace(&mut self.young, later) {
            for link in self.signed.links(&scid) {
                drop(self.due.put(link, scid, 1, ()));
            }
        }
    }

    /// The next output to look up, one of each peer in turn.
    pub fn next_lookup(&mut self) -> Option<ShortChannelId> {
        while self.looking.len() < MAX_LOOKING {
            let (_, scid, ()) = self.due.next()?;
            if self.signed.get_all(&scid).next().is_some() && self.looking.insert(scid) {
                return Some(scid);
            }
        }
        None
    }

    /// The answer is there: all that was said of this channel; `None` when nobody asked.
    pub fn looked_up(&mut self, scid: ShortChannelId) -> Option<Vec<(LinkId, Signed)>> {
        if !self.looking.remove(&scid) {
            return None;
        }
        self.young.remove(&scid);
        drop(self.due.take_all(&scid));
        let all = self.signed.take_all(&scid);
        all.iter().for_each(|(_, signed)| self.left(&signed.m));
        Some(all)
    }

    /// This announcement is not looked at again; another one of the same channel is.
    pub fn refuse(&mut self, scid: ShortChannelId, digest: [u8; 32]) {
        if self.forged.len() >= MAX_REFUSED {
            self.forged.clear();
        }
        self.forged.insert((scid, digest));
    }

    pub fn is_forged(&self, scid: ShortChannelId, digest: [u8; 32]) -> bool {
        self.forged.contains(&(scid, digest))
    }

    /// Spent, or never there: no announcement of it is true while the chain is as it is.
    pub fn set_absent(&mut self, scid: ShortChannelId) {
        if self.absent.len() >= MAX_REFUSED {
            self.absent.clear();
        }
        self.absent.insert(scid);
        for direction in 0..2 {
            drop(self.updates.take_all(&(scid, direction)));
        }
    }

    pub fn is_absent(&self, scid: &ShortChannelId) -> bool {
        self.absent.contains(scid)
    }

    /// The chain is another: what it said does not hold any more.
    pub fn doubt(&mut self) {
        self.absent.clear();
        self.forged.clear();
    }
}

/// What waits for channels.
impl Pending {
    pub fn is_coming(&self, scid: &ShortChannelId) -> bool {
        self.coming.contains_key(scid)
    }

    /// Whether a channel of this node is on its way.
    pub fn is_end(&self, node: &NodeKey) -> bool {
        self.ends.contains_key(node)
    }

    /// Each peer's newest update of each direction waits; false when there is no place for it.
    pub fn hold_update(&mut self, link: LinkId, held: Orphan<ChannelUpdate>) -> bool {
        let m = &held.m;
        let key = (m.short_channel_id, m.direction());
        if self.updates.get(link, &key).is_some_and(|before| before.m.timestamp >= m.timestamp) {
            return true;
        }
        let size = weight(136 + m.tail.len());
        drop(self.updates.put(link, key, size, held));
        self.updates.get(link, &key).is_some()
    }

    pub fn hold_node(&mut self, link: LinkId, key: NodeKey, held: Orphan<NodeAnnouncement>) {
        let m = &held.m;
        if self.nodes.get(link, &key).is_some_and(|before| before.m.timestamp >= m.timestamp) {
            return;
        }
        let size = weight(150 + m.features.len() + m.addresses.len() + m.tail.len());
        drop(self.nodes.put(link, key, size, held));
    }

    /// The updates that waited for this channel, and its nodes.
    pub fn held(
        &mut self,
        m: &ChannelAnnouncement,
    ) -> (Vec<Held<ChannelUpdate>>, Vec<Held<NodeAnnouncement>>) {
        let updates = [0, 1].map(|direction| self.updates.take_all(&(m.short_channel_id, direction)));
        let nodes = [m.node_id_1, m.node_id_2].map(|id| self.nodes.take_all(&id.0.serialize()));
        (updates.into_iter().flatten().collect(), nodes.into_iter().flatten().collect())
    }
}

impl Pending {
    /// How much is under way.
    pub fn load(&self) -> usize {
        self.queue.len() + self.checking.len() + self.due.len() + self.looking.len()
    }

    /// All that waits, for tests of bounds.
    pub fn size(&self) -> usize {
        self.queue.len() + self.checking.len() + self.signed.len() + self.updates.len() + self.nodes.len()
    }

    /// What waited too long is dropped.
    pub fn tidy(&mut self, now_s: u32) {
        let oldest = now_s.saturating_sub(PATIENCE_S);
        self.updates.retain(|held| held.since_s >= oldest);
        self.nodes.retain(|held| held.since_s >= oldest);
        let lost = self.checking.iter().filter(|(_, check)| check.since_s < oldest);
        let lost: Vec<u64> = lost.map(|(ticket, _)| *ticket).collect();
        lost.into_iter().for_each(|ticket| drop(self.checked(ticket)));
    }
}

impl Gossip {
    /// How many messages wait for something (tests of bounds).
    pub fn waiting(&self) -> usize {
        self.pending.size() + self.early.values().map(|(_, held)| held.len()).sum::<usize>()
    }
}

pub(super) const fn block_of(scid: ShortChannelId) -> Height {
    Height((scid.0 >> 40) as u32)
}
