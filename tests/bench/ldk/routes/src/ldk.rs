//! LDK's router and scorer, with their defaults.
//!
//! In: the map. Out: a [`Side`]. Read next: `search`.

use crate::map::{self, Map};
use crate::side::{Ask, Leg, Part, Side};
use bitcoin::constants::ChainHash;
use bitcoin::Network;
use chand_protocol::id::NodeId;
use lightning::ln::msgs::UnsignedChannelUpdate;
use lightning::routing::gossip::{NetworkGraph, NodeId as LdkId};
use lightning::routing::router::{
    find_route, InFlightHtlcs, Path, PaymentParameters, Route, RouteParameters,
    ScorerAccountingForInFlightHtlcs,
};
use lightning::routing::scoring::{
    FixedPenaltyScorer, ProbabilisticScorer, ProbabilisticScoringDecayParameters,
    ProbabilisticScoringFeeParameters, ScoreUpdate,
};
use lightning::types::features::ChannelFeatures;
use lightning::util::logger::{Logger, Record};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Says nothing.
pub struct Quiet;

impl Logger for Quiet {
    fn log(&self, _: Record) {}
}

pub type Net = NetworkGraph<&'static Quiet>;
pub static QUIET: Quiet = Quiet;

/// The map as LDK keeps it.
pub fn network(map: &Map, ids: &[NodeId]) -> Net {
    let net = NetworkGraph::new(Network::Bitcoin, &QUIET);
    // Updates older than two weeks are refused.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as u32;
    for (place, road) in map.roads.iter().enumerate() {
        let nodes = road.ends.map(|end| LdkId::from_pubkey(&ids[end as usize].0));
        let swapped = nodes[0] > nodes[1];
        let scid = map::scid(place).0;
        let [first, second] = if swapped { [nodes[1], nodes[0]] } else { nodes };
        let features = ChannelFeatures::empty();
        net.add_channel_from_partial_announcement(
            scid,
            Some(road.capacity_sat),
            now.into(),
            features,
            first,
            second,
        )
        .expect("a channel");
        for (n, way) in road.ways.iter().enumerate() {
            let direction = (n == 1) != swapped;
            let update = UnsignedChannelUpdate {
                chain_hash: ChainHash::using_genesis_block(Network::Bitcoin),
                short_channel_id: scid,
                timestamp: now,
                message_flags: 1,
                channel_flags: u8::from(direction) | u8::from(way.disabled) << 1,
                cltv_expiry_delta: way.cltv_delta,
                htlc_minimum_msat: way.htlc_minimum_msat,
                // More than the channel holds is refused.
                htlc_maximum_msat: way.htlc_maximum_msat.min(road.capacity_sat * 1_000),
                fee_base_msat: way.fee_base_msat,
                fee_proportional_millionths: way.fee_millionths,
                excess_data: Vec::new(),
            };
            net.update_channel_unsigned(&update).expect("an update");
        }
    }
    net
}

type Scores<'a> = ProbabilisticScorer<&'a Net, &'static Quiet>;

pub struct Ldk<'a> {
    net: &'a Net,
    map: &'a Map,
    ids: &'a [NodeId],
    scores: Scores<'a>,
    weights: ProbabilisticScoringFeeParameters,
    found: Option<Route>,
    held: Vec<Path>,
    payer: u32,
    fees_only: bool,
}

impl<'a> Ldk<'a> {
    pub fn new(net: &'a Net, map: &'a Map, ids: &'a [NodeId], fees_only: bool) -> Ldk<'a> {
        let fading = ProbabilisticScoringDecayParameters::default();
        Ldk {
            net,
            map,
            ids,
            scores: ProbabilisticScorer::new(fading, net, &QUIET),
            weights: ProbabilisticScoringFeeParameters::default(),
            found: None,
            held: Vec::new(),
            payer: 0,
            fees_only,
        }
    }

    fn part(&self, path: &Path, payer: u32) -> Part {
        let mut from = payer;
        let mut legs = Vec::new();
        for (place, hop) in path.hops.iter().enumerate() {
            let road = map::number(chand_protocol::id::ShortChannelId(hop.short_channel_id));
            let way = usize::from(self.map.roads[road].ends[0] != from);
            from = self.map.roads[road].ends[1 - way];
            let amount_msat = path.hops[place..].iter().map(|hop| hop.fee_msat).sum();
            legs.push(Leg { road, way, amount_msat });
        }
        Part { legs, amount_msat: path.final_value_msat(), fee_msat: path.fee_msat() }
    }
}

impl Side for Ldk<'_> {
    fn name(&self) -> &'static str {
        "LDK"
    }

    fn find(&mut self, ask: &Ask) -> Option<Vec<Part>> {
        self.payer = ask.payer;
        let payee = self.ids[ask.payee as usize].0;
        let mut payment =
            PaymentParameters::for_keysend(payee, 40, ask.parts > 1).with_max_path_count(ask.parts as u8);
        if self.fees_only {
            payment = payment.with_max_channel_saturation_power_of_half(0);
        }
        let mut wanted = RouteParameters::from_payment_params_and_value(payment, ask.amount_msat);
        wanted.max_total_routing_fee_msat = Some(ask.max_fee_msat);
        let us = self.ids[ask.payer as usize].0;
        let route = if self.fees_only {
            find_route(
                &us,
                &wanted,
                self.net,
                None,
                &QUIET,
                &FixedPenaltyScorer::with_penalty(0),
                &(),
                &[7; 32],
            )
        } else {
            let mut busy = InFlightHtlcs::new();
            self.held.iter().for_each(|path| busy.process_path(path, us));
            let scores = ScorerAccountingForInFlightHtlcs::new(&self.scores, &busy);
            find_route(&us, &wanted, self.net, None, &QUIET, &scores, &self.weights, &[7; 32])
        };
        let route = route.ok()?;
        let parts = route.paths.iter().map(|path| self.part(path, ask.payer)).collect();
        self.found = Some(route);
        Some(parts)
    }

    fn failed(&mut self, part: usize, at: usize, now_s: u64) {
        let path = &self.found.as_ref().expect("found before").paths[part];
        let scid = path.hops[at].short_channel_id;
        self.scores.payment_path_failed(path, scid, Duration::from_secs(now_s));
    }

    fn held(&mut self, part: usize, _: u64) {
        self.held.push(self.found.as_ref().expect("found before").paths[part].clone());
    }

    fn ended(&mut self, taken: bool, now_s: u64) {
        let now = Duration::from_secs(now_s);
        for path in self.held.drain(..) {
            if taken {
                self.scores.payment_path_successful(&path, now);
            } else {
                self.scores.probe_successful(&path, now);
            }
        }
        self.scores.time_passed(now);
    }
}
