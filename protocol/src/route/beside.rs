//! Channels beside the graph: those that an invoice's hints name, and those that ask for other terms than the graph says.
//!
//! Hints are the word of whoever wrote the invoice: nodes may be made up, and names may be those of channels between others.
//! So a hop of a hint is the graph's channel only when name and both ends are; then it is taken from the graph, with the terms
//! that its owner signed. Any other is known by its name at the node that sends it on, and by nothing else: what happens to it
//! says nothing of the graph's channel of that name, and no score remembers it.
//!
//! In: hints, terms told, what this payment saw of such channels. Out: edges for the search. Read next: `ends`.

use super::query::{Beside, BlindedHint, Query};
use crate::gossip::graph::{Direction, Graph, State};
use crate::id::{NodeId, ShortChannelId};
use crate::invoice::RouteHintHop;
use crate::node::routes::Passage;
use crate::node::terms::Told;
use crate::units::Msat;

/// A channel that a hint names, or that asks for other terms than the graph says; the last of a blinded path stands for all
/// of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    /// Who sends on over it.
    pub(super) owner: NodeId,
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
const PRIVATE_SIZE: u64 = 1 << 60;

impl Edge {
    /// Of a blinded path from its introduction node.
    pub(super) fn of_path((from, to): (u32, u32), path: &BlindedHint, hint: usize) -> Edge {
        Edge {
            from,
            to,
            owner: path.introduction,
            channel: None,
            fee_base: path.fee_base_msat,
            fee_millionths: path.fee_proportional_millionths,
            cltv_delta: path.cltv_expiry_delta,
            htlc_minimum: path.htlc_minimum.0,
            htlc_maximum: path.htlc_maximum.0,
            size: PRIVATE_SIZE,
            hint: Some(hint),
        }
    }

    /// Of one hop of a hint, within what this payment saw of it.
    pub(super) fn of_hop(
        (from, to): (u32, u32),
        hop: &RouteHintHop,
        next: &NodeId,
        query: &Query,
        hint: usize,
    ) -> Edge {
        let (scid, direction) = (hop.short_channel_id, Direction::between(&hop.node_id, next));
        let told = query.told.iter().find(|t| (t.channel, t.from, t.to) == (scid, hop.node_id, *next));
        let seen = query.beside.iter().filter(|seen| (seen.scid, seen.from) == (scid, hop.node_id));
        let (most, taken) = seen.fold((PRIVATE_SIZE, 0u64), |(most, taken), seen| {
            (most.min(seen.most.0), taken.saturating_add(seen.taken.0))
        });
        let edge = Edge {
            from,
            to,
            owner: hop.node_id,
            channel: Some((scid, direction)),
            fee_base: hop.fee_base_msat,
            fee_millionths: hop.fee_proportional_millionths,
            cltv_delta: hop.cltv_expiry_delta_blocks,
            htlc_minimum: 0,
            htlc_maximum: u64::MAX,
            // Nothing at all, or so much beside what is under way.
            size: if most == 0 { 0 } else { most.saturating_add(taken) },
            hint: Some(hint),
        };
        told.map_or(edge, |told| edge.asking(told))
    }

    /// A channel of the graph on the terms that its owner told.
    pub(super) fn of_told(graph: &Graph, told: &Told) -> Option<Edge> {
        let (from, to) = (graph.number_of(&told.from)?, graph.number_of(&told.to)?);
        let arc = arc(graph, told.channel, &told.from, &told.to)?;
        let edge = Edge {
            from,
            to,
            owner: told.from,
            channel: Some((told.channel, arc.direction)),
            fee_base: 0,
            fee_millionths: 0,
            cltv_delta: 0,
            htlc_minimum: 0,
            htlc_maximum: 0,
            size: arc.size(),
            hint: None,
        };
        Some(edge.asking(told))
    }

    fn asking(self, told: &Told) -> Edge {
        let policy = &told.policy;
        Edge {
            fee_base: policy.fee_base_msat,
            fee_millionths: policy.fee_proportional_millionths,
            cltv_delta: policy.cltv_expiry_delta,
            htlc_minimum: policy.htlc_minimum.0,
            htlc_maximum: policy.htlc_maximum.0,
            ..self
        }
    }

    /// Whether it is no channel of the graph.
    pub(super) const fn is_beside(&self) -> bool {
        self.hint.is_some()
    }
}

/// The graph's channel of that name between these two, one way.
fn arc<'a>(
    graph: &'a Graph,
    scid: ShortChannelId,
    from: &NodeId,
    to: &NodeId,
) -> Option<&'a crate::gossip::graph::Arc> {
    let (from, to) = (graph.number_of(from)?, graph.number_of(to)?);
    graph.arcs_into(to).iter().find(|arc| arc.scid == scid && arc.from == from)
}

/// Whether a hop of a hint is a channel that the graph has and that is in use: then the graph's word counts.
pub(super) fn is_in_graph(graph: &Graph, scid: ShortChannelId, from: &NodeId, to: &NodeId) -> bool {
    arc(graph, scid, from, to).is_some_and(|arc| arc.state == State::Enabled)
}

/// Whether an HTLC went, or was to go, over the graph's channel of that name.
pub(super) fn is_of_graph(graph: &Graph, hop: &Passage) -> bool {
    arc(graph, hop.channel, &hop.from, &hop.to).is_some()
}

/// What the graph's channel that an HTLC passed is believed to hold, when its fate says anything of its room: it is in use and
/// takes HTLCs like that. `None` when there is nothing to learn for others.
pub(super) fn teaches(graph: &Graph, hop: &Passage) -> Option<Msat> {
    let arc = arc(graph, hop.channel, &hop.from, &hop.to)?;
    let usual = (arc.htlc_minimum..=arc.htlc_maximum).contains(&hop.amount.0);
    (arc.state == State::Enabled && usual).then_some(Msat(arc.size()))
}

/// What this payment saw of a channel that is not in the graph.
pub(super) fn seen(hop: &Passage, most: Msat, taken: Msat) -> Beside {
    Beside { scid: hop.channel, from: hop.from, most, taken }
}
