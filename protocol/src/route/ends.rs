//! Both ends of a query that the graph does not know: our own channels, the hints of an invoice, nodes without public channels.
//!
//! In: a query and the graph. Out: numbers for nodes the graph has none for, channels beside it, and which of our own
//! channels leads to a node. Read next: `beside`, `search`.

use super::beside::{is_in_graph, Edge};
use super::query::{Exclude, FirstHop, Hint, Query, Route};
use super::taken::Taken;
use crate::gossip::graph::{Direction, Graph};
use crate::id::{NodeId, ShortChannelId};
use alloc::vec::Vec;

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
    /// Channels of the graph whose owners told other terms.
    outdated: Vec<(ShortChannelId, Direction)>,
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
            outdated: Vec::new(),
        };
        let blinded = query.hints.iter().any(|hint| matches!(hint, Hint::Blinded(_)));
        ends.payee = if blinded { ends.enter(query.payee) } else { ends.number(graph, query.payee) };
        for (index, hint) in query.hints.iter().enumerate() {
            ends.add_hint(graph, query, index, hint);
        }
        for told in query.told {
            let Some(edge) = Edge::of_told(graph, told) else { continue };
            ends.outdated.extend(edge.channel);
            ends.edges.push(edge);
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
                let ends = (self.number(graph, path.introduction), self.payee);
                self.edges.push(Edge::of_path(ends, path, index));
            }
            Hint::Private(hops) => {
                let next = hops.iter().skip(1).map(|hop| hop.node_id).chain([query.payee]);
                for (hop, next) in hops.iter().zip(next) {
                    let ends = (self.number(graph, hop.node_id), self.number(graph, next));
                    if is_in_graph(graph, hop.short_channel_id, &hop.node_id, &next) {
                        self.gates.extend([ends.0, ends.1]);
                    } else {
                        self.edges.push(Edge::of_hop(ends, hop, &next, query, index));
                    }
                }
            }
        }
    }

    /// Whether an arc of the graph is not what its owner asks for now: an edge stands for it.
    #[inline]
    pub(super) fn is_outdated(&self, scid: ShortChannelId, direction: Direction) -> bool {
        !self.outdated.is_empty() && self.outdated.contains(&(scid, direction))
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

    /// What the channel of ours that a route begins with has left beside it, msat; nothing when ours were not given.
    pub(super) fn own_left(&self, route: &Route, taken: &Taken, us: &NodeId) -> u64 {
        let (Some(own), Some(first)) = (self.own.as_ref(), route.hops.first()) else { return 0 };
        let Some((_, hop)) = own.iter().find(|(_, hop)| hop.scid == first.scid) else { return 0 };
        let other = taken.of(hop.scid, Direction::between(us, &hop.peer));
        hop.spendable.0.saturating_sub(other).min(hop.htlc_maximum.0).saturating_sub(first.amount.0)
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
