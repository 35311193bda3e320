//! The public channels in memory: who is joined to whom, how much fits, what each direction asks for (BOLT 7).
//!
//! In: channels and policies that somebody else has verified. Out: look-ups by name, and, for the search, the
//! directions that lead *into* a node, side by side in memory: a search goes backwards from the payee, so one node's
//! step reads one run of bytes. Nodes have small numbers inside; gaps are used again.
//! Nothing here knows a signature, an alias or an address. Read next: `crate::route::search`.

use crate::id::{NodeId, ShortChannelId};
use crate::units::{Msat, Sat};
use crate::wire::gossip::ChannelUpdate;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Which way a channel is used: the bit `direction` of `channel_flags` (BOLT 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// From the node whose id is the lesser in lexical order to the other.
    Zero,
    /// Back.
    One,
}

impl Direction {
    /// Both, in order.
    pub const BOTH: [Direction; 2] = [Direction::Zero, Direction::One];

    /// Bit 0 of `channel_flags`.
    pub const fn from_flags(channel_flags: u8) -> Direction {
        match channel_flags & 1 {
            0 => Direction::Zero,
            _ => Direction::One,
        }
    }

    /// Of the HTLCs that `from` sends to `to`.
    pub fn between(from: &NodeId, to: &NodeId) -> Direction {
        match from.0.serialize() <= to.0.serialize() {
            true => Direction::Zero,
            false => Direction::One,
        }
    }

    /// The way back.
    pub const fn other(self) -> Direction {
        match self {
            Direction::Zero => Direction::One,
            Direction::One => Direction::Zero,
        }
    }

    /// 0 or 1.
    pub const fn index(self) -> usize {
        match self {
            Direction::Zero => 0,
            Direction::One => 1,
        }
    }
}

/// What one direction of a channel asks for: its newest `channel_update`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Nothing is forwarded at the moment.
    pub disabled: bool,
    /// Blocks between the expiries of the two HTLCs.
    pub cltv_expiry_delta: u16,
    /// No smaller HTLC is forwarded.
    pub htlc_minimum: Msat,
    /// No larger one either.
    pub htlc_maximum: Msat,
    /// The fee for each HTLC, msat.
    pub fee_base_msat: u32,
    /// The fee for its amount, in millionths.
    pub fee_proportional_millionths: u32,
    /// When the update was made: seconds since the Unix epoch.
    pub timestamp: u32,
}

impl From<&ChannelUpdate> for Policy {
    fn from(m: &ChannelUpdate) -> Policy {
        Policy {
            disabled: m.is_disabled(),
            cltv_expiry_delta: m.cltv_expiry_delta,
            htlc_minimum: m.htlc_minimum_msat,
            htlc_maximum: m.htlc_maximum_msat,
            fee_base_msat: m.fee_base_msat,
            fee_proportional_millionths: m.fee_proportional_millionths,
            timestamp: m.timestamp,
        }
    }
}

impl Policy {
    /// The fee for sending `amount` on, rounded down (BOLT 7, "HTLC Fees"); `None` when it is no amount.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        fee(self.fee_base_msat, self.fee_proportional_millionths, amount.0).map(Msat)
    }
}

/// `base + amount · millionths / 1,000,000`, rounded down.
#[inline]
pub(crate) fn fee(base_msat: u32, millionths: u32, amount_msat: u64) -> Option<u64> {
    let share = match amount_msat.checked_mul(u64::from(millionths)) {
        Some(product) => product / 1_000_000,
        None => u64::try_from(u128::from(amount_msat) * u128::from(millionths) / 1_000_000).ok()?,
    };
    share.checked_add(u64::from(base_msat))
}

/// One channel with all that is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelView {
    /// Its name.
    pub scid: ShortChannelId,
    /// Its ends, in lexical order.
    pub nodes: [NodeId; 2],
    /// What its funding output holds, when known.
    pub capacity: Option<Sat>,
    /// By [`Direction::index`]; `None` before the first update.
    pub policies: [Option<Policy>; 2],
}

/// One direction of a channel, kept with the node that it leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arc {
    /// The node that sends, and whose policy this is.
    pub(crate) from: u32,
    pub(crate) scid: ShortChannelId,
    pub(crate) htlc_minimum: u64,
    pub(crate) htlc_maximum: u64,
    /// Msat; 0 when not known.
    pub(crate) capacity: u64,
    pub(crate) fee_base: u32,
    pub(crate) fee_millionths: u32,
    pub(crate) cltv_delta: u16,
    pub(crate) direction: Direction,
    pub(crate) state: State,
}

/// Whether a direction can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// There was no update yet.
    Unknown,
    Disabled,
    Enabled,
}

impl Arc {
    fn new(from: u32, scid: ShortChannelId, direction: Direction, capacity: u64) -> Arc {
        Arc {
            from,
            scid,
            htlc_minimum: 0,
            htlc_maximum: 0,
            capacity,
            fee_base: 0,
            fee_millionths: 0,
            cltv_delta: 0,
            direction,
            state: State::Unknown,
        }
    }

    fn policy(&self, timestamp: u32) -> Option<Policy> {
        (self.state != State::Unknown).then_some(Policy {
            disabled: self.state == State::Disabled,
            cltv_expiry_delta: self.cltv_delta,
            htlc_minimum: Msat(self.htlc_minimum),
            htlc_maximum: Msat(self.htlc_maximum),
            fee_base_msat: self.fee_base,
            fee_proportional_millionths: self.fee_millionths,
            timestamp,
        })
    }

    fn set(&mut self, policy: &Policy) {
        self.state = if policy.disabled { State::Disabled } else { State::Enabled };
        self.cltv_delta = policy.cltv_expiry_delta;
        self.htlc_minimum = policy.htlc_minimum.0;
        self.htlc_maximum = policy.htlc_maximum.0;
        self.fee_base = policy.fee_base_msat;
        self.fee_millionths = policy.fee_proportional_millionths;
    }

    /// What the channel holds at most, msat: its capacity, or the largest HTLC when that is not known.
    pub(crate) fn size(&self) -> u64 {
        if self.capacity == 0 {
            self.htlc_maximum
        } else {
            self.capacity
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    /// In lexical order of their ids.
    nodes: [u32; 2],
    /// Where the arc of each direction stands among those of the node it leads to.
    at: [u32; 2],
    /// Of the newest update of each direction.
    timestamps: [u32; 2],
}

/// The public channels.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    ids: Vec<NodeId>,
    /// By node: the directions that lead to it.
    into: Vec<Vec<Arc>>,
    by_id: BTreeMap<[u8; 33], u32>,
    channels: BTreeMap<ShortChannelId, Channel>,
    free: Vec<u32>,
    /// Nodes that ask for a feature which nobody here knows: nothing is routed through them.
    foreign: BTreeSet<u32>,
}

impl Graph {
    /// Without channels.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Takes a channel in; its directions have no policy yet. `nodes` in lexical order, as announced.
    /// False, and nothing is changed, when it is there already, or the order is wrong.
    pub fn add_channel(&mut self, scid: ShortChannelId, nodes: [NodeId; 2], capacity: Option<Sat>) -> bool {
        let keys = nodes.map(|id| id.0.serialize());
        if keys[0] >= keys[1] || self.channels.contains_key(&scid) {
            return false;
        }
        let ends = [self.enter(nodes[0], keys[0]), self.enter(nodes[1], keys[1])];
        let size = capacity.map_or(0, |sat| sat.to_msat().0);
        let mut at = [0; 2];
        for direction in Direction::BOTH {
            let (from, to) = (ends[direction.index()], ends[direction.other().index()]);
            let arcs = &mut self.into[to as usize];
            at[direction.index()] = arcs.len() as u32;
            arcs.push(Arc::new(from, scid, direction, size));
        }
        self.channels.insert(scid, Channel { nodes: ends, at, timestamps: [0; 2] });
        true
    }

    /// The number of a node, a new one when it is not there.
    fn enter(&mut self, id: NodeId, key: [u8; 33]) -> u32 {
        if let Some(number) = self.by_id.get(&key) {
            return *number;
        }
        let number = match self.free.pop() {
            Some(gap) => {
                self.ids[gap as usize] = id;
                gap
            }
            None => {
                self.ids.push(id);
                self.into.push(Vec::new());
                (self.ids.len() - 1) as u32
            }
        };
        self.by_id.insert(key, number);
        number
    }

    /// Sets what a direction asks for. False when there is no such channel. Which update is the newest is the caller's
    /// to know.
    pub fn set_policy(&mut self, scid: ShortChannelId, direction: Direction, policy: Policy) -> bool {
        let Some(channel) = self.channels.get_mut(&scid) else { return false };
        channel.timestamps[direction.index()] = policy.timestamp;
        self.arc_mut(scid, direction).map(|arc| arc.set(&policy)).is_some()
    }

    /// Sets what the funding output holds. False when there is no such channel.
    pub fn set_capacity(&mut self, scid: ShortChannelId, capacity: Sat) -> bool {
        Direction::BOTH.iter().all(|direction| {
            self.arc_mut(scid, *direction).map(|arc| arc.capacity = capacity.to_msat().0).is_some()
        })
    }

    /// What a direction asks for; `None` without such a channel, or before its first update.
    pub fn policy(&self, scid: ShortChannelId, direction: Direction) -> Option<Policy> {
        let channel = self.channels.get(&scid)?;
        self.arc_of(channel, direction).policy(channel.timestamps[direction.index()])
    }

    /// Takes a channel out, and each of its ends that has no other; gives back what it was.
    /// Ask [`Graph::has_node`] whether an end is left.
    pub fn remove_channel(&mut self, scid: ShortChannelId) -> Option<ChannelView> {
        let view = self.channel(scid)?;
        let channel = self.channels.remove(&scid)?;
        for direction in Direction::BOTH {
            let to = channel.nodes[direction.other().index()];
            let place = channel.at[direction.index()];
            let arcs = &mut self.into[to as usize];
            arcs.swap_remove(place as usize);
            if let Some(moved) = arcs.get(place as usize) {
                if let Some(other) = self.channels.get_mut(&moved.scid) {
                    other.at[moved.direction.index()] = place;
                }
            }
            if arcs.is_empty() {
                *arcs = Vec::new();
                self.by_id.remove(&self.ids[to as usize].0.serialize());
                self.foreign.remove(&to);
                self.free.push(to);
            }
        }
        Some(view)
    }

    /// Notes whether a node asks for a feature that is not known here. False when it has no channel: then nothing is noted.
    pub fn set_foreign(&mut self, node: &NodeId, foreign: bool) -> bool {
        let Some(number) = self.number_of(node) else { return false };
        match foreign {
            true => self.foreign.insert(number),
            false => self.foreign.remove(&number),
        };
        true
    }

    /// Whether a node asks for a feature that is not known here.
    pub fn is_foreign(&self, node: &NodeId) -> bool {
        self.number_of(node).is_some_and(|number| self.foreign.contains(&number))
    }

    /// Whether the channel is here.
    pub fn has_channel(&self, scid: ShortChannelId) -> bool {
        self.channels.contains_key(&scid)
    }

    /// One channel.
    pub fn channel(&self, scid: ShortChannelId) -> Option<ChannelView> {
        self.channels.get(&scid).map(|channel| self.view(scid, channel))
    }

    /// All channels, in the order of their names.
    pub fn channels(&self) -> impl Iterator<Item = ChannelView> + '_ {
        self.channels.iter().map(|(scid, channel)| self.view(*scid, channel))
    }

    /// The channels of one node.
    pub fn channels_of(&self, node: &NodeId) -> impl Iterator<Item = ChannelView> + '_ {
        let arcs = self.number_of(node).map_or(&[][..], |number| self.arcs_into(number));
        arcs.iter().filter_map(|arc| self.channel(arc.scid))
    }

    /// All nodes that have a channel, in lexical order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> + '_ {
        self.by_id.values().map(|number| &self.ids[*number as usize])
    }

    /// Whether the node has a channel.
    pub fn has_node(&self, node: &NodeId) -> bool {
        self.number_of(node).is_some()
    }

    /// A node of the graph by its 33 bytes, which spares working out the point once more.
    pub fn node_by_bytes(&self, id: &[u8; 33]) -> Option<&NodeId> {
        self.by_id.get(id).map(|number| &self.ids[*number as usize])
    }

    /// How many channels.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// How many nodes.
    pub fn node_count(&self) -> usize {
        self.by_id.len()
    }

    /// About how much memory it takes, bytes.
    pub fn memory_bytes(&self) -> usize {
        use core::mem::size_of;
        // A tree's leaves are two thirds full in the middle.
        let tree = |entries: usize, entry: usize| entries * entry * 3 / 2;
        let arcs: usize = self.into.iter().map(Vec::capacity).sum();
        arcs * size_of::<Arc>()
            + self.into.capacity() * size_of::<Vec<Arc>>()
            + self.ids.capacity() * size_of::<NodeId>()
            + tree(self.by_id.len(), 33 + 4)
            + tree(self.channels.len(), 8 + size_of::<Channel>())
            + self.free.capacity() * 4
    }

    fn view(&self, scid: ShortChannelId, channel: &Channel) -> ChannelView {
        let arcs = Direction::BOTH.map(|direction| self.arc_of(channel, direction));
        let size = arcs[0].capacity;
        ChannelView {
            scid,
            nodes: channel.nodes.map(|node| self.ids[node as usize]),
            capacity: (size != 0).then_some(Msat(size).floor_sat()),
            policies: Direction::BOTH.map(|d| arcs[d.index()].policy(channel.timestamps[d.index()])),
        }
    }

    fn arc_of(&self, channel: &Channel, direction: Direction) -> &Arc {
        let to = channel.nodes[direction.other().index()];
        &self.into[to as usize][channel.at[direction.index()] as usize]
    }

    fn arc_mut(&mut self, scid: ShortChannelId, direction: Direction) -> Option<&mut Arc> {
        let channel = self.channels.get(&scid)?;
        let to = channel.nodes[direction.other().index()];
        self.into.get_mut(to as usize)?.get_mut(channel.at[direction.index()] as usize)
    }
}

/// For the search: numbers instead of names.
impl Graph {
    /// Numbers of nodes are below this.
    pub(crate) fn node_slots(&self) -> usize {
        self.ids.len()
    }

    /// Nodes that nothing is routed through.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = u32> + '_ {
        self.foreign.iter().copied()
    }

    pub(crate) fn number_of(&self, node: &NodeId) -> Option<u32> {
        self.by_id.get(&node.0.serialize()).copied()
    }

    pub(crate) fn id_of(&self, node: u32) -> NodeId {
        self.ids[node as usize]
    }

    /// The directions that lead to a node.
    #[inline]
    pub(crate) fn arcs_into(&self, node: u32) -> &[Arc] {
        &self.into[node as usize]
    }
}

#[cfg(test)]
mod tests;
