//! The node's questions put to the search, and what its HTLCs taught put to the scorer.
//!
//! In: a [`RouteRequest`] with the node's own channels, or a [`Lesson`]; the graph as it is now. Out: the answer as an
//! input for the node. Nobody but this remembers what was learned; it may be lost without harm.
//! Read next: `query`, `score`, `crate::node::routes`.

use super::query::{Exclude, FirstHop, Hint, Query, Route};
use super::{Scorer, Search};
use crate::gossip::graph::Graph;
use crate::node::effect::Input;
use crate::node::routes::{Because, Lesson, Passage, RouteRequest};
use crate::units::{Msat, Timestamp};
use alloc::vec::Vec;

/// Whoever knows the network, for one node.
#[derive(Default)]
pub struct Router {
    search: Search,
    scorer: Scorer,
}

impl core::fmt::Debug for Router {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Router({} channels known)", self.scorer.len())
    }
}

impl Router {
    /// With what was learned before.
    pub fn new(scorer: Scorer) -> Router {
        Router { search: Search::new(), scorer }
    }

    /// What was learned.
    pub const fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// The answer to a question: ways that together carry what is asked for, or why there are none.
    pub fn find(&mut self, graph: &Graph, request: &RouteRequest, now: Timestamp) -> Input {
        let first: Vec<FirstHop> = request
            .first
            .iter()
            .map(|hop| FirstHop {
                scid: hop.channel,
                peer: hop.peer,
                spendable: hop.spendable,
                htlc_minimum: hop.minimum,
                htlc_maximum: hop.spendable,
            })
            .collect();
        let hints: Vec<Hint> = match request.paths.is_empty() {
            true => request.hints.iter().cloned().map(Hint::Private).collect(),
            false => request.paths.iter().map(|path| Hint::Blinded(path.hint)).collect(),
        };
        let channels = request.not_channels.iter().map(|(scid, way)| Exclude::Channel(*scid, *way));
        let nodes = request.not_nodes.iter().map(|id| Exclude::Node(*id));
        let exclude: Vec<Exclude> = channels.chain(nodes).collect();
        let in_flight: Vec<_> =
            request.in_flight.iter().map(|hop| (hop.channel, hop.direction, hop.amount)).collect();
        let query = Query {
            us: request.us,
            payee: request.payee,
            amount: request.amount,
            final_cltv_delta: request.final_cltv_blocks,
            max_fee: request.max_fee,
            max_cltv_blocks: request.max_blocks,
            max_hops: request.max_hops,
            max_parts: usize::try_from(request.max_parts).unwrap_or(usize::MAX),
            first_hops: Some(&first),
            hints: &hints,
            exclude: &exclude,
            in_flight: &in_flight,
            now,
        };
        let found = self.search.parts(graph, &self.scorer, &query);
        let way = |route: &Route| {
            let mut way = route.for_sendpay();
            let path = route.hint.and_then(|hint| request.paths.get(hint));
            way.extend(path.map(|path| path.end(route.amount)));
            way
        };
        let result = found.map(|routes| routes.iter().map(way).collect());
        Input::Routes { purpose: request.purpose, result: result.map_err(|no| no.text) }
    }

    /// Takes a lesson to heart.
    pub fn learn(&mut self, graph: &Graph, lesson: &Lesson, now: Timestamp) {
        for hop in &lesson.passed {
            let size = size_of(graph, hop);
            match lesson.settled {
                true => self.scorer.settle(hop.channel, hop.direction, hop.amount, size, now),
                false => self.scorer.pass(hop.channel, hop.direction, hop.amount, size, now),
            }
        }
        match &lesson.failed {
            Some((hop, Because::Room)) => {
                self.scorer.fail(hop.channel, hop.direction, hop.amount, size_of(graph, hop), now);
            }
            Some((hop, Because::Gone)) => {
                self.scorer.fail(hop.channel, hop.direction, Msat(1), size_of(graph, hop), now);
            }
            Some((_, Because::Other)) | None => {}
        }
    }
}

/// What a channel is believed to hold; one that the graph lacks, twice what it was tried with.
fn size_of(graph: &Graph, hop: &Passage) -> Msat {
    let known = graph.channel(hop.channel).and_then(|channel| channel.capacity);
    known.map_or(Msat(hop.amount.0.saturating_mul(2)), |capacity| capacity.to_msat())
}
