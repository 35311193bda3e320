//! chand's search and scores.
//!
//! In: the map. Out: a [`Side`]. Read next: `ldk`.

use crate::map::{self, Map};
use crate::side::{Ask, Leg, Part, Side};
use chand_protocol::gossip::graph::{Direction, Graph};
use chand_protocol::id::{NodeId, ShortChannelId};
use chand_protocol::route::{Query, Route, Scorer, Search};
use chand_protocol::units::{Msat, Timestamp};

pub struct Ours<'a> {
    pub graph: &'a Graph,
    map: &'a Map,
    ids: &'a [NodeId],
    scorer: Scorer,
    search: Search,
    found: Vec<Route>,
    held: Vec<Route>,
    in_flight: Vec<(ShortChannelId, Direction, Msat)>,
    /// Look at fees alone.
    fees_only: bool,
}

impl<'a> Ours<'a> {
    pub fn new(graph: &'a Graph, map: &'a Map, ids: &'a [NodeId], fees_only: bool) -> Ours<'a> {
        Ours {
            graph,
            map,
            ids,
            scorer: Scorer::new(),
            search: Search::new(),
            found: Vec::new(),
            held: Vec::new(),
            in_flight: Vec::new(),
            fees_only,
        }
    }

    fn part(&self, route: &Route, payer: u32) -> Part {
        let mut from = payer;
        let legs = route.hops.iter().map(|hop| {
            let road = map::number(hop.scid);
            let way = usize::from(self.map.roads[road].ends[0] != from);
            from = self.map.roads[road].ends[1 - way];
            Leg { road, way, amount_msat: hop.amount.0 }
        });
        Part { legs: legs.collect(), amount_msat: route.amount.0, fee_msat: route.fee.0 }
    }
}

impl Side for Ours<'_> {
    fn name(&self) -> &'static str {
        "chand"
    }

    fn find(&mut self, ask: &Ask) -> Option<Vec<Part>> {
        let query = Query {
            us: self.ids[ask.payer as usize],
            payee: self.ids[ask.payee as usize],
            amount: Msat(ask.amount_msat),
            final_cltv_delta: 40,
            max_fee: Msat(ask.max_fee_msat),
            max_cltv_blocks: 1_008,
            max_hops: 19,
            max_parts: ask.parts,
            first_hops: None,
            hints: &[],
            exclude: &[],
            in_flight: &self.in_flight,
            beside: &[],
            told: &[],
            now: Timestamp(ask.now_s * 1_000),
        };
        self.found = if self.fees_only {
            vec![self.search.try_cheapest(self.graph, &self.scorer, &query)?]
        } else {
            self.search.try_parts(self.graph, &self.scorer, &query)?
        };
        Some(self.found.iter().map(|route| self.part(route, ask.payer)).collect())
    }

    fn failed(&mut self, part: usize, at: usize, now_s: u64) {
        self.scorer.route_failed(&self.found[part], at, Timestamp(now_s * 1_000));
    }

    fn held(&mut self, part: usize, now_s: u64) {
        let route = self.found[part].clone();
        self.scorer.route_failed(&route, route.hops.len(), Timestamp(now_s * 1_000));
        self.in_flight.extend(route.hops.iter().map(|hop| (hop.scid, hop.direction, hop.amount)));
        self.held.push(route);
    }

    fn ended(&mut self, taken: bool, now_s: u64) {
        for route in self.held.drain(..).filter(|_| taken) {
            self.scorer.route_settled(&route, Timestamp(now_s * 1_000));
        }
        self.in_flight.clear();
    }
}
