//! Ways to a payee over several hops: asked of whoever knows the network, and what is learned when one does not lead there.
//!
//! The node knows its own channels and nothing of the network. It asks with [`Effect::FindRoutes`]; the answer comes as
//! [`Input::Routes`](crate::node::effect::Input), at once in a test, from a thread of its own in the daemon. Nothing of
//! that is kept: after a restart no new try is made, and what is under way ends as it would have.
//!
//! In: payments that need a way, answers, HTLCs that came back. Out: ways for `send`, questions, lessons.
//! Read next: `send`, `crate::route`.

use crate::gossip::graph::Direction;
use crate::id::{CommandId, NodeId, PaymentHash, ShortChannelId};
use crate::invoice::RouteHintHop;
use crate::node::blinded::{PathHint, Tried};
use crate::node::command::{Command, Reply, RouteHop};
use crate::node::effect::{Effect, Input};
use crate::node::orders::{MAX_BLOCKS, MAX_HOPS};
use crate::node::payments::{code, Order, Part};
use crate::node::send::EXPIRY_SLACK_BLOCKS;
use crate::node::terms::{self, Told};
use crate::node::Node;
use crate::onion::Failure;
use crate::units::Msat;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// No bound on fees.
const NO_LIMIT: Msat = Msat(u64::MAX);
/// HTLCs that are sent for one payment before it is given up.
const MAX_TRIES: u32 = 60;

/// How often one payment tries a channel that has no room, with less each time.
const MAX_TIMES_FULL: u8 = 3;

/// Channels whose new terms one payment believes.
const MAX_TOLD: usize = 20;

/// What ways are wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The question of this number of a payment.
    Payment(PaymentHash, u32),
    /// `getroute`.
    Question(CommandId),
}

/// A channel of ours that a way may begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstHop {
    /// Its name.
    pub channel: ShortChannelId,
    /// Whom it leads to.
    pub peer: NodeId,
    /// The largest HTLC that it takes now.
    pub spendable: Msat,
    /// The smallest.
    pub minimum: Msat,
}

/// A question to whoever knows the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteRequest {
    /// Comes back with the answer.
    pub purpose: Purpose,
    /// Where the ways begin.
    pub us: NodeId,
    /// Where they end.
    pub payee: NodeId,
    /// What is to arrive, all ways together.
    pub amount: Msat,
    /// The most they may cost.
    pub max_fee: Msat,
    /// The last hop's CLTV, in blocks from now.
    pub final_cltv_blocks: u32,
    /// The most that a first hop's may be, before the slack that is added to every expiry.
    pub max_blocks: u32,
    /// The most hops of a way.
    pub max_hops: usize,
    /// The most ways.
    pub max_parts: u32,
    /// Our channels, as they are now.
    pub first: Vec<FirstHop>,
    /// Ways to the payee over channels that are not public (BOLT 11).
    pub hints: Vec<Vec<RouteHintHop>>,
    /// Blinded paths: when there are any, only they lead to the payee.
    pub paths: Vec<PathHint>,
    /// Channels, each with its direction, not to be used.
    pub not_channels: BTreeSet<(ShortChannelId, Direction)>,
    /// Nodes not to be gone through.
    pub not_nodes: BTreeSet<NodeId>,
    /// What HTLCs of ours take up on their way already.
    pub in_flight: Vec<Passage>,
    /// What channels ask for by word of their owners to this payment alone.
    pub told: Vec<Told>,
    /// Whether somebody will read why there is none; to find that out takes many searches more.
    pub in_words: bool,
}

impl RouteRequest {
    /// The answer when there is no way.
    pub fn none(&self, why: impl Into<String>) -> Input {
        Input::Routes { purpose: self.purpose, result: Err(why.into()) }
    }
}

/// One channel that an HTLC was to pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// Its name.
    pub channel: ShortChannelId,
    /// Which way it was used.
    pub direction: Direction,
    /// What it was to carry.
    pub amount: Msat,
}

/// What an HTLC that ended teaches of the channels on its way, our own apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lesson {
    /// Those that carried it, the first one first.
    pub passed: Vec<Passage>,
    /// The one that did not, and why.
    pub failed: Option<(Passage, Because)>,
    /// Whether the payee took the money.
    pub settled: bool,
}

/// Why a channel did not carry an HTLC on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Because {
    /// It has not that much on this side.
    Room,
    /// It is closed, or never was.
    Gone,
    /// Something else, which says nothing of its room.
    Other,
}

impl Because {
    fn of(failure: Option<&Failure>) -> Because {
        match failure {
            Some(Failure::TemporaryChannelFailure { .. }) => Because::Room,
            Some(Failure::PermanentChannelFailure | Failure::UnknownNextPeer) => Because::Gone,
            _ => Because::Other,
        }
    }
}

/// How ways of one payment are looked for.
#[derive(Clone, Debug)]
pub(super) struct Search {
    max_fee: Msat,
    max_blocks: u32,
    max_hops: usize,
    max_parts: u32,
    hints: Vec<Vec<RouteHintHop>>,
    /// The question that is not answered yet.
    pub(super) asked: Option<u32>,
    questions: u32,
    tries: u32,
    not_channels: BTreeSet<(ShortChannelId, Direction)>,
    not_nodes: BTreeSet<NodeId>,
    /// How often channels had no room.
    full: BTreeMap<(ShortChannelId, Direction), u8>,
    /// Channels of ours that had no room, and the way that waits for it should there be no other.
    busy: BTreeSet<(ShortChannelId, Direction)>,
    spare: Option<Vec<RouteHop>>,
    /// Terms that failures brought, of each channel those that came first.
    told: Vec<Told>,
    /// Blinded paths that failed.
    pub(super) tried: Tried,
}

impl Search {
    pub(super) fn new(order: &mut Order) -> Search {
        let limits = core::mem::take(&mut order.limits);
        Search {
            max_fee: limits.max_fee.unwrap_or(NO_LIMIT),
            max_blocks: limits.max_blocks.map_or(MAX_BLOCKS, |blocks| blocks.min(MAX_BLOCKS)),
            max_hops: limits.max_hops.map_or(MAX_HOPS, |hops| hops.min(MAX_HOPS)),
            max_parts: order.max_parts,
            hints: core::mem::take(&mut order.hints),
            asked: None,
            questions: 0,
            tries: 0,
            not_channels: limits.not_channels.into_iter().collect(),
            not_nodes: limits.not_nodes.into_iter().collect(),
            full: BTreeMap::new(),
            busy: BTreeSet::new(),
            spare: None,
            told: Vec::new(),
            tried: Tried::default(),
        }
    }

    /// A part left or came back: what had no room before may have some.
    pub(super) fn room_may_be(&mut self) {
        self.busy.clear();
    }

    pub(super) fn count_try(&mut self) {
        self.room_may_be();
        self.tries = self.tries.saturating_add(1);
    }

    /// A channel that has no room for this amount may have it for less, as far as its score says; not for ever.
    fn avoid_channel(&mut self, hop: &Passage, because: Because) -> bool {
        let name = (hop.channel, hop.direction);
        if because == Because::Room {
            let times = self.full.entry(name).or_default();
            *times = times.saturating_add(1);
            if *times <= MAX_TIMES_FULL {
                return true;
            }
        }
        self.not_channels.insert(name)
    }

    /// A channel's new terms, for the next tries; not twice: whoever asks for more each time is gone around. `false` when
    /// they are not believed.
    fn believe(&mut self, told: Told) -> bool {
        let known = self.told.iter().any(|t| (t.channel, t.direction) == (told.channel, told.direction));
        if known || self.told.len() >= MAX_TOLD {
            return false;
        }
        self.told.push(told);
        true
    }

    pub(super) const fn is_tired(&self) -> bool {
        self.tries >= MAX_TRIES
    }
}

/// The channels after the first of a way.
fn passages(route: &[RouteHop]) -> Vec<Passage> {
    let passage = |pair: &[RouteHop]| {
        let [from, to] = pair else { return None };
        let direction = Direction::between(&from.id, &to.id);
        Some(Passage { channel: to.channel?, direction, amount: to.amount_msat })
    };
    route.windows(2).filter_map(passage).collect()
}

/// What a part that arrived teaches.
pub(super) fn lesson_of_success(part: &Part) -> Option<Lesson> {
    let passed = passages(&part.route);
    (!passed.is_empty()).then_some(Lesson { passed, failed: None, settled: true })
}

impl Node {
    /// Our channels as a way may begin with them now.
    fn first_hops(&self) -> Vec<FirstHop> {
        let hop = |c: &crate::channel::Channel| {
            let spendable = c.ledger.spendable(&c.terms, crate::id::Side::Local);
            let channel = c.own_name()?;
            let minimum = c.terms.remote.htlc_minimum;
            Some(FirstHop { channel, peer: c.terms.peer, spendable, minimum })
        };
        let usable = self.channels.values().filter(|c| c.is_usable());
        usable.filter_map(hop).filter(|hop| hop.spendable > Msat::ZERO).collect()
    }

    /// Where HTLCs of ours are on their way through channels of others.
    fn in_flight(&self) -> Vec<Passage> {
        let hashes = self.payments.by_htlc.values().collect::<BTreeSet<_>>();
        let payments = hashes.into_iter().filter_map(|hash| self.payments.by_hash.get(hash));
        payments.flat_map(|p| &p.parts).flat_map(|part| passages(&part.route)).collect()
    }

    /// Asks for ways for what the payee was not sent yet.
    pub(super) fn ask_routes(&mut self, hash: PaymentHash) {
        let (first, in_flight) = (self.first_hops(), self.in_flight());
        let (Some(payment), Some(plan)) =
            (self.payments.by_hash.get(&hash), self.payments.plans.get_mut(&hash))
        else {
            return;
        };
        let Some(search) = plan.search.as_mut() else { return };
        let spent = payment
            .parts
            .iter()
            .fold(Msat::ZERO, |sum, p| sum.saturating_add(p.sent.saturating_sub(p.amount)));
        search.questions = search.questions.wrapping_add(1);
        search.asked = Some(search.questions);
        let parts = u32::try_from(payment.parts.len()).unwrap_or(u32::MAX);
        let (paths, most_hops) = payment.path_hints(&search.tried, &first);
        if payment.is_blinded() && paths.is_empty() {
            search.asked = None;
            return self.no_routes(hash, "no blinded path of the invoice is left");
        }
        let request = RouteRequest {
            purpose: Purpose::Payment(hash, search.questions),
            us: self.id,
            payee: payment.destination,
            amount: payment.missing(),
            max_fee: search.max_fee.saturating_sub(spent),
            final_cltv_blocks: payment.final_cltv_blocks,
            max_blocks: search.max_blocks.saturating_sub(EXPIRY_SLACK_BLOCKS),
            max_hops: search.max_hops.min(most_hops),
            max_parts: search.max_parts.saturating_sub(parts).max(1),
            first,
            hints: search.hints.clone(),
            paths,
            not_channels: search.not_channels.union(&search.busy).copied().collect(),
            not_nodes: search.not_nodes.clone(),
            in_flight,
            told: search.told.clone(),
            // A way that waits for room is what is taken then.
            in_words: search.spare.is_none(),
        };
        self.out.effects.push(Effect::FindRoutes(Box::new(request)));
    }

    /// `getroute`.
    pub(super) fn get_route(&mut self, id: CommandId, command: Command) {
        let Command::GetRoute { destination, amount_msat, final_cltv_blocks, limits } = command else {
            return;
        };
        if destination == self.id || amount_msat == Msat::ZERO {
            return self.refuse(
                id,
                code::PARAMS,
                "a route leads to another node and carries more than nothing",
            );
        }
        let request = RouteRequest {
            purpose: Purpose::Question(id),
            us: self.id,
            payee: destination,
            amount: amount_msat,
            max_fee: limits.max_fee.unwrap_or(NO_LIMIT),
            final_cltv_blocks,
            max_blocks: limits
                .max_blocks
                .map_or(MAX_BLOCKS, |blocks| blocks.min(MAX_BLOCKS))
                .saturating_sub(EXPIRY_SLACK_BLOCKS),
            max_hops: limits.max_hops.map_or(MAX_HOPS, |hops| hops.min(MAX_HOPS)),
            max_parts: 1,
            first: self.first_hops(),
            hints: Vec::new(),
            paths: Vec::new(),
            not_channels: self.as_we_call_them(limits.not_channels).into_iter().collect(),
            not_nodes: limits.not_nodes.into_iter().collect(),
            in_flight: self.in_flight(),
            told: Vec::new(),
            in_words: true,
        };
        self.out.effects.push(Effect::FindRoutes(Box::new(request)));
    }

    /// Ways, or why there are none.
    pub(super) fn on_routes(&mut self, purpose: Purpose, result: Result<Vec<Vec<RouteHop>>, String>) {
        match (purpose, result) {
            (Purpose::Question(id), Ok(mut routes)) => {
                let route = routes.pop().unwrap_or_default();
                self.reply(id, Ok(Reply::Route(route)));
            }
            (Purpose::Question(id), Err(why)) => {
                self.refuse(id, code::ROUTE_NOT_FOUND, format!("no route: {why}"));
            }
            (Purpose::Payment(hash, number), result) if self.is_asked(&hash, number) => {
                match result.and_then(|routes| self.check_routes(&hash, routes)) {
                    Ok(routes) => self.take_routes(hash, routes),
                    Err(why) => self.no_routes(hash, &why),
                }
            }
            // Of a payment that ended meanwhile, or from before a restart.
            (Purpose::Payment(..), _) => {}
        }
    }

    /// Whether a payment still waits for this answer; from here on it does not.
    fn is_asked(&mut self, hash: &PaymentHash, number: u32) -> bool {
        let search = self.payments.plans.get_mut(hash).and_then(|plan| plan.search.as_mut());
        search.is_some_and(|search| search.asked.take_if(|asked| *asked == number).is_some())
    }

    /// Ways are believed in nothing that is about our money: where they end, what arrives, what they cost.
    fn check_routes(
        &self,
        hash: &PaymentHash,
        routes: Vec<Vec<RouteHop>>,
    ) -> Result<Vec<Vec<RouteHop>>, String> {
        let bad = || String::from("the way that was found makes no sense");
        let payment = self.payments.by_hash.get(hash).ok_or_else(bad)?;
        let search = self.payments.plans.get(hash).and_then(|p| p.search.as_ref()).ok_or_else(bad)?;
        let mut arriving = Msat::ZERO;
        let mut leaving = Msat::ZERO;
        for route in &routes {
            let first = route.first().ok_or_else(bad)?;
            let last = if payment.is_blinded() {
                payment.check_blinded(route).ok_or_else(bad)?
            } else {
                let last = crate::node::orders::check_route(route).map_err(String::from)?;
                if last.id != payment.destination || last.delay_blocks < payment.final_cltv_blocks {
                    return Err(bad());
                }
                last
            };
            arriving = arriving.checked_add(last.amount_msat).ok_or_else(bad)?;
            leaving = leaving.checked_add(first.amount_msat).ok_or_else(bad)?;
        }
        let spent = payment.parts.iter().map(|p| p.sent.saturating_sub(p.amount));
        let fee = spent.fold(leaving.saturating_sub(arriving), Msat::saturating_add);
        if arriving != payment.missing() || fee > search.max_fee {
            return Err(bad());
        }
        Ok(routes)
    }

    fn take_routes(&mut self, hash: PaymentHash, routes: Vec<Vec<RouteHop>>) {
        if let Some(plan) = self.payments.plans.get_mut(&hash) {
            plan.ways = routes.into();
            if let Some(search) = plan.search.as_mut() {
                search.spare = None;
            }
        }
        self.wait_for_turn(hash);
    }

    fn no_routes(&mut self, hash: PaymentHash, why: &str) {
        let Some(plan) = self.payments.plans.get_mut(&hash) else { return };
        let Some(search) = plan.search.as_mut() else { return };
        if let Some(way) = search.spare.take() {
            // The way that had no room is the only one: it waits for it, and no other is asked for until it has left.
            plan.ways = core::iter::once(way).collect();
            return self.wait_for_turn(hash);
        }
        // What went wrong before says more than that nothing is left.
        let verdict = plan.verdict.take();
        let text = match &verdict {
            None => format!("no route: {why}. No money moved"),
            Some((_, before)) => format!("{before}; and there is no other route: {why}"),
        };
        let code = if verdict.is_some() { code::TRY_OTHER_ROUTE } else { code::ROUTE_NOT_FOUND };
        self.give_up(hash, code, text);
    }

    /// A way that was found begins with a channel that has no room now: another is looked for; should there be none, it
    /// waits. `false` when the payment has only this way.
    pub(super) fn on_refused_way(&mut self, hash: PaymentHash) -> bool {
        let us = self.id;
        let Some(plan) = self.payments.plans.get_mut(&hash) else { return false };
        let Some(search) = plan.search.as_mut() else { return false };
        let Some(way) = plan.ways.front() else { return false };
        let Some(first) = way.first() else { return false };
        let Some(channel) = first.channel else { return false };
        if !search.busy.insert((channel, Direction::between(&us, &first.id))) {
            return false;
        }
        search.spare = plan.ways.pop_front();
        plan.ways.clear();
        self.ask_routes(hash);
        true
    }

    /// A part came back: what is avoided from now on, and what others may learn of it. `false` when no other way can help.
    pub(super) fn avoid(
        &mut self,
        hash: PaymentHash,
        part: &Part,
        erring: Option<usize>,
        failure: Option<&Failure>,
    ) -> bool {
        let last = part.route.len().saturating_sub(1);
        let hops = passages(&part.route);
        let passed = hops.get(..erring.unwrap_or(0)).unwrap_or_default().to_vec();
        let failed = erring.filter(|at| *at < last).and_then(|at| hops.get(at).copied());
        let failed = failed.map(|hop| (hop, Because::of(failure)));
        if !hops.is_empty() && erring.is_some() {
            let lesson = Lesson { passed, failed, settled: false };
            self.out.effects.push(Effect::Learn(Box::new(lesson)));
        }
        if let Some(other_try) = self.avoid_path(hash, part, erring, failure) {
            return other_try;
        }
        let Some(search) = self.payments.plans.get_mut(&hash).and_then(|plan| plan.search.as_mut()) else {
            return false;
        };
        let chain_hash = self.config.network.chain_hash();
        let new_terms = |at, failure| terms::told(&*self.crypto, &chain_hash, part, at, failure);
        match (erring, failure) {
            // The payee itself: other ways lead to the same answer, unless it only waited for other parts.
            (Some(at), Some(failure)) if at >= last => {
                matches!(failure, Failure::MppTimeout | Failure::TemporaryNodeFailure)
            }
            (Some(at), Some(failure)) if failure.is_node() => {
                part.route.get(at).is_some_and(|hop| search.not_nodes.insert(hop.id))
            }
            (Some(at), failure) => match hops.get(at) {
                Some(_) if failure.and_then(|f| new_terms(at, f)).is_some_and(|t| search.believe(t)) => true,
                Some(hop) => search.avoid_channel(hop, Because::of(failure)),
                None => false,
            },
            // Nobody knows who it was: none of them is gone over again.
            (None, _) => {
                let before = search.not_channels.len();
                search.not_channels.extend(hops.iter().map(|hop| (hop.channel, hop.direction)));
                search.not_channels.len() > before
            }
        }
    }
}
