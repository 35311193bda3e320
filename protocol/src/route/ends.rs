//! Both ends of a query that the graph does not know: our own channels, the hints of an invoice, nodes without public channels.
//!
//! In: a query and the graph. Out: numbers for nodes the graph has none for, channels beside it, and which of our own
//! channels leads to a node. Read next: `search`.

use super::query::{Exclude, FirstHop, Hint, Query};
use super::taken::Taken;
use crate::gossip::graph::{Direction, Graph};
use crate::id::{NodeId, ShortChannelId};
use crate::node::terms::Told;
use alloc::vec::Vec;

/// A channel that a hint names, or that asks for other terms than the graph says; the last of a blinded path stands for all
/// of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    /// `None` for a blinded path.
    pub(super) channel: Option<(ShortChannelId, Direction)>,
    pub(super) fee_base: u32,
    pub(super) fee_millionths: u32,
    pub(super) cltv_delta: u16,
    pub(super) htlc_minimum: u64,
    pub(super) htlc_maximum: u64,
    /// What it is believed to hold, msat.
    pub(super) size: u64,
    /// Which hint; `None` for a channel of the graph.
    pub(super) hint: Option<usize>,
}

/// What a private channel is believed to hold: hints do not say, and their makers know.
pub(super) const PRIVATE_SIZE: u64 = 1 << 60;

pub(super) struct Ends<'a> {
    /// The payee's number.
    pub(super) payee: u32,
    /// Ours, when the graph knows us.
    pub(super) us: Option<u32>,
    /// Our channels by the number of the peer, the least spendable first.
    own: Option<Vec<(u32, &'a FirstHop)>>,
    /// Numbers from the graph's on.
    nodes: Vec<NodeId>,
    pub(super) edges: Vec<Edge>,
    slots: u32,
    /// Nodes that a route may pass though they have one public channel.
    gates: Vec<u32>,
    pub(super) excluded: Vec<u32>,
    told: &'a [Told],
}

impl<'a> Ends<'a> {
    pub(super) fn new(graph: &Graph, query: &Query<'a>) -> Ends<'a> {
        let mut ends = Ends {
            payee: 0,
            us: graph.number_of(&query.us),
            own: None,
            nodes: Vec::new(),
            edges: Vec::new(),
            slots: graph.node_slots() as u32,
            gates: Vec::new(),
            excluded: Vec::new(),
            told: query.told,
        };
        let blinded = query.hints.iter().any(|hint| matches!(hint, Hint::Blinded(_)));
        ends.payee = if blinded { ends.enter(query.payee) } else { ends.number(graph, query.payee) };
        for (index, hint) in query.hints.iter().enumerate() {
            ends.add_hint(graph, query, index, hint);
        }
        for told in query.told {
            ends.edges.extend(edge_told(graph, told));
        }
        if let Some(hops) = query.first_hops {
            let usable = hops.iter().filter(|hop| hop.spendable.0 > 0);
            let mut own: Vec<_> = usable.map(|hop| (ends.number(graph, hop.peer), hop)).collect();
            own.sort_by_key(|(peer, hop)| (*peer, hop.spendable, hop.scid));
            ends.gates.extend(own.iter().map(|(peer, _)| *peer));
            ends.own = Some(own);
        }
        ends.gates.extend(ends.us);
        ends.gates.extend(ends.edges.iter().flat_map(|edge| [edge.from, edge.to]));
        ends.gates.sort_unstable();
        ends.gates.dedup();
        for exclude in query.exclude {
            if let Exclude::Node(id) = exclude {
                let known = graph.number_of(id).or_else(|| ends.beside(id));
                ends.excluded.extend(known);
            }
        }
        ends
    }

    fn beside(&self, id: &NodeId) -> Option<u32> {
        self.nodes.iter().position(|n| n == id).map(|place| self.slots + place as u32)
    }

    fn enter(&mut self, id: NodeId) -> u32 {
        self.nodes.push(id);
        self.slots + (self.nodes.len() - 1) as u32
    }

    fn number(&mut self, graph: &Graph, id: NodeId) -> u32 {
        let known = graph.number_of(&id).or_else(|| self.beside(&id));
        known.unwrap_or_else(|| self.enter(id))
    }

    fn add_hint(&mut self, graph: &Graph, query: &Query, index: usize, hint: &Hint) {
        match hint {
            Hint::Blinded(path) => {
                let edge = Edge {
                    from: self.number(graph, path.introduction),
                    to: self.payee,
                    channel: None,
                    fee_base: path.fee_base_msat,
                    fee_millionths: path.fee_proportional_millionths,
                    cltv_delta: path.cltv_expiry_delta,
                    htlc_minimum: path.htlc_minimum.0,
                    htlc_maximum: path.htlc_maximum.0,
                    size: PRIVATE_SIZE,
                    hint: Some(index),
                };
                self.edges.push(edge);
            }
            Hint::Private(hops) => {
                let next = hops.iter().skip(1).map(|hop| hop.node_id).chain([query.payee]);
                for (hop, next) in hops.iter().zip(next) {
                    let (scid, direction) = (hop.short_channel_id, Direction::between(&hop.node_id, &next));
                    let mut edge = Edge {
                        from: self.number(graph, hop.node_id),
                        to: self.number(graph, next),
                        channel: Some((scid, direction)),
                        fee_base: hop.fee_base_msat,
                        fee_millionths: hop.fee_proportional_millionths,
                        cltv_delta: hop.cltv_expiry_delta_blocks,
                        htlc_minimum: 0,
                        htlc_maximum: u64::MAX,
                        size: PRIVATE_SIZE,
                        hint: Some(index),
                    };
                    if let Some(told) = self.told_of(scid, direction) {
                        edge = Edge { hint: edge.hint, size: edge.size, ..edge_of(told, edge.from, edge.to) };
                    }
                    self.edges.push(edge);
                }
            }
        }
    }

    /// What a channel asks for in place of what is known of it.
    fn told_of(&self, scid: ShortChannelId, direction: Direction) -> Option<&'a Told> {
        self.told.iter().find(|told| (told.channel, told.direction) == (scid, direction))
    }

    /// Whether an arc of the graph is not what its owner asks for now: an edge stands for it.
    #[inline]
    pub(super) fn is_outdated(&self, scid: ShortChannelId, direction: Direction) -> bool {
        !self.told.is_empty() && self.told_of(scid, direction).is_some()
    }

    /// How many numbers there are.
    pub(super) fn slots(&self) -> usize {
        self.slots as usize + self.nodes.len()
    }

    pub(super) fn id_of(&self, graph: &Graph, node: u32) -> NodeId {
        match self.nodes.get((node as usize).wrapping_sub(self.slots as usize)) {
            Some(id) if node >= self.slots => *id,
            _ => graph.id_of(node),
        }
    }

    pub(super) fn is_in_graph(&self, node: u32) -> bool {
        node < self.slots
    }

    pub(super) fn is_gate(&self, node: u32) -> bool {
        self.gates.binary_search(&node).is_ok()
    }

    /// Whether our own channels were given.
    pub(super) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// All our channels to a node, the least spendable first.
    pub(super) fn own_to(&self, peer: u32) -> impl Iterator<Item = &'a FirstHop> + '_ {
        let own = self.own.as_deref().unwrap_or(&[]);
        let start = own.partition_point(|(node, _)| *node < peer);
        own[start..].iter().take_while(move |(node, _)| *node == peer).map(|(_, hop)| *hop)
    }

    /// The most that one of our channels can still give; `None` when they were not given.
    pub(super) fn own_most(&self, taken: &Taken, us: &NodeId) -> Option<u64> {
        let left = |hop: &FirstHop| {
            let other = taken.of(hop.scid, Direction::between(us, &hop.peer));
            hop.spendable.0.saturating_sub(other).min(hop.htlc_maximum.0)
        };
        self.own.as_ref().map(|own| own.iter().map(|(_, hop)| left(hop)).max().unwrap_or(0))
    }

    /// The tightest of our channels to `peer` that can still carry `amount`.
    pub(super) fn own_for(&self, peer: u32, us: &NodeId, amount: u64, taken: &Taken) -> Option<&'a FirstHop> {
        self.own_to(peer).find(|hop| {
            let other = taken.of(hop.scid, Direction::between(us, &hop.peer));
            let fits = other.checked_add(amount).is_some_and(|sum| sum <= hop.spendable.0);
            fits && hop.htlc_minimum.0 <= amount && amount <= hop.htlc_maximum.0
        })
    }
}

/// A channel of the graph on the terms that its owner told.
fn edge_told(graph: &Graph, told: &Told) -> Option<Edge> {
    let view = graph.channel(told.channel)?;
    let [first, second] = view.nodes.map(|id| graph.number_of(&id));
    let (from, to) = match told.direction {
        Direction::Zero => (first?, second?),
        Direction::One => (second?, first?),
    };
    let arc =
        graph.arcs_into(to).iter().find(|arc| (arc.scid, arc.direction) == (told.channel, told.direction));
    let size = arc.map_or(told.policy.htlc_maximum.0, |arc| arc.size());
    Some(Edge { size, ..edge_of(told, from, to) })
}

fn edge_of(told: &Told, from: u32, to: u32) -> Edge {
    let policy = &told.policy;
    Edge {
        from,
        to,
        channel: Some((told.channel, told.direction)),
        fee_base: policy.fee_base_msat,
        fee_millionths: policy.fee_proportional_millionths,
        cltv_delta: policy.cltv_expiry_delta,
        htlc_minimum: policy.htlc_minimum.0,
        htlc_maximum: policy.htlc_maximum.0,
        size: PRIVATE_SIZE,
        hint: None,
    }
}
