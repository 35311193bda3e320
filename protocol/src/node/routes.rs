//! Ways to a payee over several hops: asked of whoever knows the network, and what is learned when one does not lead there.
//!
//! The node knows its own channels and nothing of the network. It asks with [`Effect::FindRoutes`]; the answer comes as
//! [`Input::Routes`](crate::node::effect::Input), at once in a test, from a thread of its own in the daemon. Nothing of
//! that is kept: after a restart no new try is made, and what is under way ends as it would have.
//!
//! In: payments that need a way, answers, HTLCs that came back. Out: ways for `send`, questions, lessons.
//! Read next: `send`, `crate::route`.

use crate::channel::{Channel, Phase};
use crate::gossip::graph::Direction;
use crate::id::{CommandId, NodeId, PaymentHash, ShortChannelId, Side};
use crate::invoice::RouteHintHop;
use crate::node::blinded::{PathHint, Tried};
use crate::node::command::{Command, Reply, RouteHop};
use crate::node::effect::{Effect, Input};
use crate::node::orders::{MAX_BLOCKS, MAX_HOPS};
use crate::node::payments::{code, Final0, Order, Part};
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
pub(super) const NO_LIMIT: Msat = Msat(u64::MAX);
/// HTLCs that are sent for one payment before it is given up.
const MAX_TRIES: u32 = 60;
/// HTLCs that are sent after each rest.
const TRIES_AGAIN: u32 = 20;

/// How often one payment tries a channel that has no room, with less each time.
const MAX_TIMES_FULL: u8 = 3;

/// Channels of which one payment remembers for how much they had no room.
const MAX_FULL: usize = 100;

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
    /// The largest that it may take once what is under way has ended and its peer is back.
    pub later: Msat,
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
    /// The payee's own invoice asks for it.
    pub invoiced: bool,
    /// Our channels, as they are now.
    pub first: Vec<FirstHop>,
    /// Ways to the payee over channels that are not public (BOLT 11).
    pub hints: Vec<Vec<RouteHintHop>>,
    /// Blinded paths: when there are any, only they lead to the payee.
    pub paths: Vec<PathHint>,
    /// Channels, each with its direction, not to be used.
    pub not_channels: BTreeSet<(ShortChannelId, Direction)>,
    /// Channels of ours that had no room a moment ago.
    pub busy: BTreeSet<(ShortChannelId, Direction)>,
    /// Channels that did not carry what this payment's tries gave them.
    pub failed: Vec<Trouble>,
    /// Nodes not to be gone through.
    pub not_nodes: BTreeSet<NodeId>,
    /// What HTLCs of ours take up on their way already.
    pub in_flight: Vec<Passage>,
    /// What channels ask for by word of their owners to this payment alone.
    pub told: Vec<Told>,
    /// For how much channels of others had no room when this payment was tried, also before it rested. When there are
    /// any and what was learned leaves no way, they alone are to count.
    pub full: Vec<Passage>,
    /// Whether to forget that, too, should it leave no way: it was a while ago.
    pub anew: bool,
    /// Whether somebody will read why there is none; to find that out takes many searches more.
    pub in_words: bool,
}

/// There is no way now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoWay {
    /// What stood in the way, for the user; empty when nobody was to read it.
    pub why: String,
    /// Whether there would be one, had all channels the room that they may have later.
    pub later: bool,
    /// Whether what is ours alone stands in the way: our channels, and our HTLCs on their way.
    pub own: bool,
}

impl RouteRequest {
    /// The answer when there is no way.
    pub fn none(&self, why: impl Into<String>) -> Input {
        Input::Routes {
            purpose: self.purpose,
            result: Err(NoWay { why: why.into(), later: false, own: false }),
        }
    }
}

/// One channel that an HTLC was to pass. Its name alone may be another's: hints of invoices name what they like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// Its name.
    pub channel: ShortChannelId,
    /// Who was to send on over it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// What it was to carry.
    pub amount: Msat,
}

impl Passage {
    /// Which way it was used.
    pub fn direction(&self) -> Direction {
        Direction::between(&self.from, &self.to)
    }
}

/// A channel of others that failed a payment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Which, with the most that it is to be tried with again; nothing: it is not to be used.
    pub hop: Passage,
    /// Time does not mend it.
    pub gone: bool,
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

/// How a channel failed one payment.
#[derive(Clone, Copy, Debug)]
struct Failed {
    to: NodeId,
    /// How often it had no room, and the least that it had none for.
    times: u8,
    least: Msat,
    /// For another reason, which time does not mend.
    gone: bool,
}

impl Failed {
    const fn is_avoided(&self) -> bool {
        self.gone || self.times > MAX_TIMES_FULL
    }

    /// The most that it is tried with again.
    const fn most(&self) -> Msat {
        match self.is_avoided() {
            true => Msat::ZERO,
            false => Msat(self.least.0.saturating_sub(1)),
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
    tries: u32,
    not_channels: BTreeSet<(ShortChannelId, Direction)>,
    not_nodes: BTreeSet<NodeId>,
    /// Channels of others that failed, by their names and who was to send on over them.
    failed: BTreeMap<(ShortChannelId, NodeId), Failed>,
    /// The least that each had no room for; a rest does not mend that.
    full: BTreeMap<(ShortChannelId, NodeId), Passage>,
    /// Channels of ours that had no room, and the way that waits for it should there be no other.
    busy: BTreeSet<(ShortChannelId, Direction)>,
    spare: Option<Vec<RouteHop>>,
    /// How often it rested, what stood in the way at the first time, and whether it has just rested.
    pub(super) rests: u32,
    pub(super) why: Option<String>,
    anew: bool,
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
            tries: 0,
            not_channels: limits.not_channels.into_iter().collect(),
            not_nodes: limits.not_nodes.into_iter().collect(),
            failed: BTreeMap::new(),
            full: BTreeMap::new(),
            busy: BTreeSet::new(),
            spare: None,
            rests: 0,
            why: None,
            anew: false,
            told: Vec::new(),
            tried: Tried::default(),
        }
    }

    /// A part left or came back: what had no room before may have some.
    pub(super) fn room_may_be(&mut self) {
        self.busy.clear();
    }

    /// With a way that waits for room, should there be no other.
    pub(super) fn or_along(self, spare: Option<Vec<RouteHop>>) -> Search {
        Search { spare, ..self }
    }

    /// After a rest channels that had no room are tried again.
    pub(super) fn wake(&mut self) {
        self.room_may_be();
        self.failed.retain(|_, failed| failed.gone);
        self.tries = self.tries.min(MAX_TRIES - TRIES_AGAIN);
        self.anew = true;
    }

    /// Whether a way may use this channel of ours to that peer.
    pub(super) fn allows(&self, us: &NodeId, channel: &Channel) -> bool {
        let way = Direction::between(us, &channel.terms.peer);
        channel.own_name().is_none_or(|scid| !self.not_channels.contains(&(scid, way)))
    }

    pub(super) fn count_try(&mut self) {
        self.room_may_be();
        self.tries = self.tries.saturating_add(1);
    }

    /// A channel that has no room for this amount may have it for less; not for ever. `false` when it was avoided before.
    fn avoid_channel(&mut self, hop: &Passage, because: Because) -> bool {
        let new = Failed { to: hop.to, times: 0, least: hop.amount, gone: false };
        let failed = self.failed.entry((hop.channel, hop.from)).or_insert(new);
        let avoided = failed.is_avoided();
        failed.least = failed.least.min(hop.amount);
        match because {
            Because::Room => {
                failed.times = failed.times.saturating_add(1);
                let (name, room) = ((hop.channel, hop.from), self.full.len() < MAX_FULL);
                if room || self.full.contains_key(&name) {
                    let full = self.full.entry(name).or_insert(*hop);
                    full.amount = full.amount.min(hop.amount);
                }
            }
            Because::Gone | Because::Other => failed.gone = true,
        }
        !avoided
    }

    fn failed(&self) -> Vec<Trouble> {
        let trouble = |((channel, from), failed): (&(ShortChannelId, NodeId), &Failed)| Trouble {
            hop: Passage { channel: *channel, from: *from, to: failed.to, amount: failed.most() },
            gone: failed.gone,
        };
        self.failed.iter().map(trouble).collect()
    }

    /// A channel's new terms, for the next tries; not twice: whoever asks for more each time is gone around. `false` when
    /// they are not believed.
    fn believe(&mut self, told: Told) -> bool {
        let known = self.told.iter().any(|t| (t.channel, t.from) == (told.channel, told.from));
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

/// The largest HTLC that a channel of ours takes now.
pub(super) fn room_now(c: &Channel) -> Msat {
    if c.is_usable() {
        c.ledger.spendable(&c.terms, Side::Local)
    } else {
        Msat::ZERO
    }
}

/// The largest that it may take once what is under way has ended and its peer is back.
pub(super) fn room_later(c: &Channel) -> Msat {
    let now = room_now(c);
    if c.phase != Phase::Open || c.doubt || c.is_usable() && c.ledger.htlcs.is_empty() {
        return now;
    }
    let coming = c.ledger.htlcs.values().filter(|h| h.id.offered_by == Side::Remote);
    let most = coming.fold(c.to_us(), |sum, h| sum.saturating_add(h.amount));
    most.saturating_sub(c.terms.remote.reserve.to_msat()).min(c.terms.remote.max_in_flight).max(now)
}

/// The channels after the first of a way.
fn passages(route: &[RouteHop]) -> Vec<Passage> {
    let passage = |pair: &[RouteHop]| {
        let [from, to] = pair else { return None };
        Some(Passage { channel: to.channel?, from: from.id, to: to.id, amount: to.amount_msat })
    };
    route.windows(2).filter_map(passage).collect()
}

/// What a part that arrived teaches.
pub(super) fn lesson_of_success(part: &Part) -> Option<Lesson> {
    let passed = passages(&part.route);
    (!passed.is_empty()).then_some(Lesson { passed, failed: None, settled: true })
}

impl Node {
    /// Our channels as a way may begin with them, now or later.
    fn first_hops(&self) -> Vec<FirstHop> {
        let hop = |c: &Channel| {
            let (now, later) = (room_now(c), room_later(c));
            let channel = c.own_name()?;
            let minimum = c.terms.remote.htlc_minimum;
            Some(FirstHop { channel, peer: c.terms.peer, spendable: now, later, minimum })
        };
        let open = self.channels.values().filter(|c| c.phase == Phase::Open);
        open.filter_map(hop).filter(|hop| hop.later > Msat::ZERO).collect()
    }

    /// Where HTLCs of ours are on their way through channels of others.
    fn in_flight(&self) -> Vec<Passage> {
        let hashes = self.payments.by_htlc.values().collect::<BTreeSet<_>>();
        let payments = hashes.into_iter().filter_map(|hash| self.payments.by_hash.get(hash));
        payments.flat_map(|p| &p.parts).flat_map(|part| passages(&part.route)).collect()
    }

    /// Asks for ways for what the payee was not sent yet.
    pub(super) fn ask_routes(&mut self, hash: PaymentHash) {
        self.payments.rests.remove(&hash);
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
        // No number is used twice, so that no answer is taken for that of another try.
        self.payments.questions = self.payments.questions.wrapping_add(1);
        search.asked = Some(self.payments.questions);
        let parts = u32::try_from(payment.parts.len()).unwrap_or(u32::MAX);
        let (paths, most_hops) = payment.path_hints(&search.tried, &first);
        if payment.is_blinded() && paths.is_empty() {
            search.asked = None;
            let why = "no blinded path of the invoice is left".into();
            return self.no_routes(hash, NoWay { why, later: false, own: false });
        }
        let request = RouteRequest {
            purpose: Purpose::Payment(hash, self.payments.questions),
            us: self.id,
            payee: payment.destination,
            amount: payment.missing(),
            max_fee: search.max_fee.saturating_sub(spent),
            final_cltv_blocks: payment.final_cltv_blocks,
            max_blocks: search.max_blocks.saturating_sub(EXPIRY_SLACK_BLOCKS),
            max_hops: search.max_hops.min(most_hops),
            max_parts: search.max_parts.saturating_sub(parts).max(1),
            invoiced: !matches!(payment.last, Final0::Keysend { .. }),
            first,
            hints: search.hints.clone(),
            paths,
            not_channels: search.not_channels.clone(),
            busy: search.busy.clone(),
            failed: search.failed(),
            not_nodes: search.not_nodes.clone(),
            in_flight,
            told: search.told.clone(),
            full: search.full.values().filter(|_| search.rests > 0).copied().collect(),
            anew: core::mem::take(&mut search.anew),
            // A way that waits for room is what is taken then.
            in_words: search.spare.is_none() && search.why.is_none(),
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
            invoiced: false,
            first: self.first_hops(),
            hints: Vec::new(),
            paths: Vec::new(),
            not_channels: self.as_we_call_them(limits.not_channels).into_iter().collect(),
            busy: BTreeSet::new(),
            failed: Vec::new(),
            not_nodes: limits.not_nodes.into_iter().collect(),
            in_flight: self.in_flight(),
            told: Vec::new(),
            full: Vec::new(),
            anew: false,
            in_words: true,
        };
        self.out.effects.push(Effect::FindRoutes(Box::new(request)));
    }

    /// Ways, or why there are none.
    pub(super) fn on_routes(&mut self, purpose: Purpose, result: Result<Vec<Vec<RouteHop>>, NoWay>) {
        match (purpose, result) {
            (Purpose::Question(id), Ok(mut routes)) => {
                let route = routes.pop().unwrap_or_default();
                self.reply(id, Ok(Reply::Route(route)));
            }
            (Purpose::Question(id), Err(no)) => {
                self.refuse(id, code::ROUTE_NOT_FOUND, format!("no route: {}", no.why));
            }
            (Purpose::Payment(hash, number), result) if self.is_asked(&hash, number) => {
                let nonsense = |why| NoWay { why, later: false, own: false };
                match result.and_then(|routes| self.check_routes(&hash, routes).map_err(nonsense)) {
                    Ok(routes) => self.take_routes(hash, routes),
                    Err(no) => self.no_routes(hash, no),
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

    fn no_routes(&mut self, hash: PaymentHash, no: NoWay) {
        let us = self.id;
        let in_time = self.payments.by_hash.get(&hash).is_some_and(|p| p.retry_until > self.now);
        let Some(plan) = self.payments.plans.get_mut(&hash) else { return };
        let Some(search) = plan.search.as_mut() else { return };
        if let Some(way) = search.spare.take() {
            // The way that had no room is the only one: it waits for it, and no other is asked for until it has left.
            let first =
                way.first().and_then(|first| Some((first.channel?, Direction::between(&us, &first.id))));
            search.busy.extend(first);
            plan.ways = core::iter::once(way).collect();
            return self.wait_for_turn(hash);
        }
        let why = search.why.take().unwrap_or(no.why);
        if no.later && in_time && !search.is_tired() {
            search.why = Some(why);
            return self.rest(hash, no.own);
        }
        // What went wrong before says more than that nothing is left.
        let verdict = plan.verdict.take();
        let text = match &verdict {
            None => format!("no route: {why}. No money moved"),
            Some((_, before)) => format!("{before}; and there is no other route: {why}. Nothing was paid"),
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
        let elsewhere = |c: &Channel| c.is_usable() && c.own_name() != Some(channel);
        if !self.channels.values().any(elsewhere) {
            return false;
        }
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
        let passed = hops.get(..erring.unwrap_or(0).min(hops.len())).unwrap_or_default().to_vec();
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
                // Each of them, also when the first was news.
                let news = hops.iter().filter(|hop| search.avoid_channel(hop, Because::Other));
                news.count() > 0
            }
        }
    }
}
