//! The node's questions put to the search, and what its HTLCs taught put to the scorer.
//!
//! In: a [`RouteRequest`] with the node's own channels, or a [`Lesson`]; the graph as it is now. Out: the answer as an
//! input for the node. Nobody but this remembers what was learned; it may be lost without harm.
//! Read next: `query`, `score`, `crate::node::routes`.

use super::beside::{self, is_of_graph, teaches};
use super::query::{Beside, Exclude, FirstHop, Hint, Query, Route};
use super::{Scorer, Search};
use crate::gossip::graph::{Direction, Graph};
use crate::id::ShortChannelId;
use crate::node::effect::Input;
use crate::node::routes::{self, Because, Lesson, NoWay, Purpose, RouteRequest, Trouble};
use crate::units::{Msat, Timestamp};
use alloc::string::String;
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
        let result = self.ways(graph, request, now);
        let way = |route: &Route| {
            let mut way = route.for_sendpay();
            let path = route.hint.and_then(|hint| request.paths.get(hint));
            way.extend(path.map(|path| path.end(route.amount)));
            way
        };
        let result = result.map(|routes| routes.iter().map(way).collect());
        Input::Routes { purpose: request.purpose, result }
    }

    fn ways(&mut self, graph: &Graph, request: &RouteRequest, now: Timestamp) -> Result<Vec<Route>, NoWay> {
        // BOLT 7 [7.node.14]: what the invoice of a payee asks for was looked at.
        if !request.invoiced && graph.is_foreign(&request.payee) {
            let why =
                "the payee announces a feature that must be known, and is not: ask it for an invoice".into();
            return Err(NoWay { why, later: false, own: false });
        }
        let (first, later) = (own(request, |hop| hop.spendable), own(request, |hop| hop.later));
        let hints: Vec<Hint> = match request.paths.is_empty() {
            true => request.hints.iter().cloned().map(Hint::Private).collect(),
            false => request.paths.iter().map(|path| Hint::Blinded(path.hint)).collect(),
        };
        let (seen, seen_later) = (Seen::of(graph, request), Seen::later(graph, request));
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
            exclude: &seen.exclude,
            in_flight: &seen.in_flight,
            beside: &seen.beside,
            told: &request.told,
            now,
        };
        if let Some(routes) = self.search.try_parts(graph, &self.scorer, &query) {
            return Ok(routes);
        }
        // What this payment met itself, and nothing that others taught.
        if !request.full.is_empty() {
            let met = met(graph, request, now);
            if let Some(routes) = self.search.try_parts(graph, &met, &query) {
                return Ok(routes);
            }
        }
        let nothing = Scorer::with_room(4);
        if request.anew {
            if let Some(routes) = self.search.try_parts(graph, &nothing, &query) {
                return Ok(routes);
            }
        }
        let why = match request.in_words {
            true => self.search.why(graph, &self.scorer, &query).text,
            false => String::new(),
        };
        let why = why.strip_prefix("no route: ").map(String::from).unwrap_or(why);
        if matches!(request.purpose, Purpose::Question(_)) {
            return Err(NoWay { why, later: false, own: false });
        }
        // If all room were there that may be: then it is worth waiting.
        let ours = first != later || !request.in_flight.is_empty() || !request.busy.is_empty();
        let seen_ours = Seen::with(graph, request, request.failed.iter());
        let query = Query {
            first_hops: Some(&later),
            exclude: &seen_ours.exclude,
            in_flight: &[],
            beside: &seen_ours.beside,
            ..query
        };
        if ours && self.search.try_parts(graph, &self.scorer, &query).is_some() {
            return Err(NoWay { why, later: true, own: true });
        }
        let query = Query { exclude: &seen_later.exclude, beside: &seen_later.beside, ..query };
        let later = self.search.try_parts(graph, &nothing, &query).is_some();
        Err(NoWay { why, later, own: false })
    }

    /// Takes a lesson to heart: of channels of the graph only. What a hint made up would teach what its maker likes.
    pub fn learn(&mut self, graph: &Graph, lesson: &Lesson, now: Timestamp) {
        for hop in &lesson.passed {
            let Some(size) = teaches(graph, hop) else { continue };
            match lesson.settled {
                true => self.scorer.settle(hop.channel, hop.direction(), hop.amount, size, now),
                false => self.scorer.pass(hop.channel, hop.direction(), hop.amount, size, now),
            }
        }
        let Some((hop, because)) = &lesson.failed else { return };
        let Some(size) = teaches(graph, hop) else { return };
        match because {
            Because::Room => self.scorer.fail(hop.channel, hop.direction(), hop.amount, size, now),
            Because::Gone => self.scorer.fail(hop.channel, hop.direction(), Msat(1), size, now),
            Because::Other => {}
        }
    }
}

/// For how much there was no room when this payment was tried.
fn met(graph: &Graph, request: &RouteRequest, now: Timestamp) -> Scorer {
    let mut scorer = Scorer::with_room(request.full.len());
    for hop in &request.full {
        if let Some(size) = teaches(graph, hop) {
            scorer.fail(hop.channel, hop.direction(), hop.amount, size, now);
        }
    }
    scorer
}

/// Our own channels with what each can give.
fn own(request: &RouteRequest, gives: impl Fn(&routes::FirstHop) -> Msat) -> Vec<FirstHop> {
    let first = request.first.iter().map(|hop| FirstHop {
        scid: hop.channel,
        peer: hop.peer,
        spendable: gives(hop),
        htlc_minimum: hop.minimum,
        htlc_maximum: gives(hop),
    });
    first.filter(|hop| hop.spendable > Msat::ZERO).collect()
}

/// What a question says of channels of others, told apart by whether the graph has them.
struct Seen {
    exclude: Vec<Exclude>,
    in_flight: Vec<(ShortChannelId, Direction, Msat)>,
    beside: Vec<Beside>,
}

impl Seen {
    fn of(graph: &Graph, request: &RouteRequest) -> Seen {
        let mut seen = Seen::with(graph, request, request.failed.iter());
        seen.exclude.extend(request.busy.iter().map(|(scid, way)| Exclude::Channel(*scid, *way)));
        for hop in &request.in_flight {
            match is_of_graph(graph, hop) {
                true => seen.in_flight.push((hop.channel, hop.direction(), hop.amount)),
                false => seen.beside.push(beside::seen(hop, Msat(u64::MAX), hop.amount)),
            }
        }
        seen
    }

    /// When nothing is under way any more, and what had no room has some.
    fn later(graph: &Graph, request: &RouteRequest) -> Seen {
        Seen::with(graph, request, request.failed.iter().filter(|failed| failed.gone))
    }

    fn with<'a>(graph: &Graph, request: &RouteRequest, failed: impl Iterator<Item = &'a Trouble>) -> Seen {
        let channels = request.not_channels.iter().map(|(scid, way)| Exclude::Channel(*scid, *way));
        let nodes = request.not_nodes.iter().map(|id| Exclude::Node(*id));
        let mut seen =
            Seen { exclude: channels.chain(nodes).collect(), in_flight: Vec::new(), beside: Vec::new() };
        for Trouble { hop, .. } in failed {
            match is_of_graph(graph, hop) {
                // What its score says of it is enough, up to some times.
                true if hop.amount > Msat::ZERO => {}
                true => seen.exclude.push(Exclude::Channel(hop.channel, hop.direction())),
                false => seen.beside.push(beside::seen(hop, hop.amount, Msat::ZERO)),
            }
        }
        seen
    }
}
