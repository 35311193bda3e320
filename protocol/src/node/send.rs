//! Paying: the HTLCs of a payment, offered as there is room, and what becomes of each.
//!
//! In: payments that `orders` accepted, ways that `routes` found; HTLCs that ended. Out: an HTLC and its record in one
//! batch; the answer once the payment is decided. What does not fit at the moment (every slot taken, the peer away) waits for
//! its turn until `retry_for` runs out. Parts under way and parts still to be sent never add up to more than the payment; a
//! part is sent anew only when the one it stands for is back for good.
//! Read next: `payments` (what is kept), `routes`, `receive`, `crate::onion`.

use crate::channel::htlc::Removal;
use crate::channel::ledger::Refusal;
use crate::channel::update::CannotOffer;
use crate::channel::Channel;
use crate::gossip::graph::Direction;
use crate::id::{ChannelId, HtlcId, NodeId, PaymentHash, Preimage, ShortChannelId};
use crate::node::command::{Reply, RouteHop};
use crate::node::effect::Effect;
use crate::node::orders::Start;
use crate::node::payments::{code, explain, Final0, Order, Part, Payment, Plan, Status, Wait};
use crate::node::routes::{lesson_of_success, Search};
use crate::node::waits::{Event, Subsystem};
use crate::node::{view, Node};
use crate::onchain::Standing;
use crate::onion::payload::{self, Final};
use crate::onion::sphinx::build;
use crate::onion::{returned, Failure};
use crate::record::{payment_key, put};
use crate::units::{Height, Timestamp};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use secp256k1::PublicKey;

/// Blocks added to what the invoice asks for: one may be mined while the payment is on its way (BOLT 11).
pub(super) const EXPIRY_SLACK_BLOCKS: u32 = 3;

/// Of a payment that a start found with nothing under way.
const STOPPED: &str = "this node stopped before it was sent (again). No money moved";

impl Node {
    /// Whether a payment waits for its turn or for room, with nothing under way: its record, if any, is of an earlier try, and
    /// whoever comes back gives it up.
    pub fn waits_to_pay(&self, hash: &PaymentHash) -> bool {
        self.payments.by_hash.get(hash).is_some_and(|p| match p.status {
            Status::Queued => true,
            Status::Pending => p.parts.is_empty(),
            _ => false,
        })
    }

    /// Whether a start found it with nothing under way, and gave it up.
    pub fn gave_up_at_start(&self, hash: &PaymentHash) -> bool {
        let stopped = |p: &Payment| matches!(&p.status, Status::Failed { message, .. } if message == STOPPED);
        self.payments.by_hash.get(hash).is_some_and(stopped)
    }

    pub(super) fn start_payment(&mut self, mut order: Order, start: Start) {
        let hash = order.hash;
        let old = self.payments.by_hash.get(&hash).map(|p| (p.created_index, p.view_parts()));
        if let Some((index, rows)) = old {
            self.payments.by_index.remove(&index);
            self.count_deleted_pays(rows);
        }
        let named = core::mem::take(&mut order.limits.not_channels);
        order.limits.not_channels = self.as_we_call_them(named);
        self.payments.rests.remove(&hash);
        let (ways, spare, search): (Option<Vec<RouteHop>>, _, _) = match start {
            Start::Route(way) => (Some(way), None, None),
            Start::Way(way) => (Some(way), None, Some(Search::new(&mut order))),
            Start::Search(spare) => (None, spare, Some(Search::new(&mut order))),
        };
        let searches = ways.is_none();
        let search = search.map(|search: Search| search.or_along(spare));
        let plan = Plan { ways: ways.into_iter().collect(), search, ..Plan::default() };
        let retry_until = self.now.plus_ms(order.retry_for_s.saturating_mul(1_000));
        let created_index = self.count(Subsystem::Sendpays, Event::Created);
        let payment = Payment::new(order, created_index, self.wall().seconds(), retry_until);
        self.payments.restore(payment);
        self.payments.plans.insert(hash, plan);
        self.tell_pay(Event::Created, created_index, hash, created_index);
        if searches {
            self.ask_routes(hash);
        } else {
            self.payments.queue.push_back(hash);
            self.send_waiting();
        }
    }

    /// A way was found: it waits behind what waits already.
    pub(super) fn wait_for_turn(&mut self, hash: PaymentHash) {
        if !self.payments.queue.contains(&hash) {
            self.payments.queue.push_back(hash);
        }
        self.send_waiting();
    }

    /// Offers what waits, in order; a payment that must go on waiting holds up only those to the same first hop.
    pub(super) fn send_waiting(&mut self) {
        if self.payments.queue.is_empty() {
            return;
        }
        let mut stuck: Vec<NodeId> = Vec::new();
        let queue = core::mem::take(&mut self.payments.queue);
        let mut left = VecDeque::with_capacity(queue.len());
        for hash in queue {
            let Some(first) = self.payments.plans.get(&hash).and_then(Plan::next_peer) else { continue };
            if stuck.contains(&first) {
                left.push_back(hash);
                continue;
            }
            match self.try_ways(hash) {
                Ok(()) => {}
                Err(retry) if retry.may_go_elsewhere() && self.on_refused_way(hash) => {}
                Err(Retry::Later(peer)) => {
                    stuck.push(peer);
                    left.push_back(hash);
                }
                Err(Retry::Alone) => left.push_back(hash),
                Err(Retry::Never(code, message)) => self.give_up(hash, code, message),
            }
        }
        // What was queued meanwhile stands behind.
        left.append(&mut self.payments.queue);
        self.payments.queue = left;
    }

    /// Offers a payment's ways, one HTLC each, until one has no room.
    fn try_ways(&mut self, hash: PaymentHash) -> Result<(), Retry> {
        while let Some(way) = self.payments.plans.get(&hash).and_then(|plan| plan.ways.front()).cloned() {
            self.offer_part(hash, way)?;
            if let Some(plan) = self.payments.plans.get_mut(&hash) {
                plan.ways.pop_front();
                if let Some(search) = plan.search.as_mut() {
                    search.count_try();
                }
            }
        }
        Ok(())
    }

    /// Offers one HTLC now, over the channel that its way names, or else over one with room.
    pub(super) fn offer_part(&mut self, hash: PaymentHash, way: Vec<RouteHop>) -> Result<(), Retry> {
        let Some(payment) = self.payments.by_hash.get(&hash) else { return Ok(()) };
        let (Some(first), Some(last)) = (way.first(), way.last()) else { return Ok(()) };
        let (sent, amount) = (first.amount_msat, last.amount_msat);
        // BOLT 4 [4.mpp.1, 4.mpp.5].
        if amount > payment.missing() {
            return Err(Retry::Never(-1, "internal: a part would be more than is missing".into()));
        }
        if !payment.drawn.covers(payment.sent.saturating_add(sent)) {
            return Err(Retry::Never(-1, "internal: a part would be more than was set aside".into()));
        }
        let search = self.payments.plans.get(&hash).and_then(|plan| plan.search.as_ref());
        let (hops, expiry, path_key) = self.layers(payment, &way);
        let channel = match self.room_for(first, search, expiry) {
            Ok(channel) => channel,
            Err(refusal) => return Err(self.why_not(payment, first.id, refusal)),
        };
        let session = self.entropy.secret_key();
        let built = build(&session, &hops, &hash.0, self.crypto.secp())
            .map_err(|e| Retry::Never(-1, format!("the onion could not be built: {e}")))?;
        let (onion, secrets) = ((Box::new(built.packet), path_key), built.shared_secrets);
        let offered = self.act(channel, |c, _, out| c.apply_offer_inside(sent, hash, expiry, onion, out));
        let Some(HtlcId { id: htlc, .. }) = offered else { return Ok(()) };
        self.payments.by_htlc.insert((channel, htlc), hash);
        let route = if way.len() > 1 { way } else { Vec::new() };
        if let Some(payment) = self.payments.by_hash.get_mut(&hash) {
            payment.parts.push(Part { channel, htlc, amount, sent, route, secrets });
            payment.sent = payment.sent.saturating_add(sent);
            payment.count = payment.count.saturating_add(1);
        }
        self.set_status(hash, Status::Pending);
        Ok(())
    }

    /// The channel for a way's first HTLC; of a way that was looked for, any other to the same peer that the user allows will do.
    fn room_for(
        &self,
        first: &RouteHop,
        search: Option<&Search>,
        expiry: Height,
    ) -> Result<ChannelId, Option<CannotOffer>> {
        let mut refusal = None;
        let is_named = |c: &Channel| first.channel.is_none_or(|scid| c.is_called(scid));
        let with = || self.channels.values().filter(|c| c.terms.peer == first.id);
        let named = with().filter(|c| is_named(c));
        let others = with().filter(|c| !is_named(c) && search.is_some_and(|s| s.allows(&self.id, c)));
        // BOLT 4 [4.packet.1].
        for channel in named.chain(others) {
            match channel.check_offer(first.amount_msat, expiry, Node::max_dust()) {
                Ok(()) => return Ok(channel.id()),
                Err(why) => refusal = Some(why),
            }
        }
        Err(refusal)
    }

    /// The onion's layers, first hop first, the expiry of the first HTLC, and the path key that goes beside the onion.
    fn layers(&self, payment: &Payment, way: &[RouteHop]) -> Layers {
        let slack = |blocks: u32| self.tip_height().plus(blocks.saturating_add(EXPIRY_SLACK_BLOCKS));
        let last_blocks = way.last().map_or(payment.final_cltv_blocks, |hop| hop.delay_blocks);
        let amount = way.last().map_or(payment.amount, |hop| hop.amount_msat);
        let last_expiry = slack(last_blocks);
        let first_expiry = slack(way.first().map_or(last_blocks, |hop| hop.delay_blocks));
        let last = match &payment.last {
            Final0::Blinded { .. } => {
                let (layers, path_key) = payment.blinded_layers(way, slack).unwrap_or_default();
                return (layers, first_expiry, path_key);
            }
            Final0::Invoice { secret, metadata } => {
                // BOLT 4 [4.write.10, 4.write.11, 4.write.12, 4.mpp.6, 4.last.1, 4.last.2, 4.last.3].
                let mut last = Final::invoice(amount, last_expiry, secret.clone(), payment.total);
                // BOLT 4 [4.write.13, 4.write.14].
                last.payment_metadata.clone_from(metadata);
                last
            }
            Final0::Keysend { preimage } => Final::keysend(amount, last_expiry, preimage.clone()),
        };
        let mut hops = Vec::new();
        for pair in way.windows(2) {
            let [here, next] = pair else { continue };
            // BOLT 4 [4.write.7, 4.write.8].
            let layer = payload::Forward {
                short_channel_id: next.channel.unwrap_or(ShortChannelId(0)),
                amt_to_forward: next.amount_msat,
                outgoing_cltv_value: slack(next.delay_blocks),
            };
            hops.push((here.id.0, layer.encode()));
        }
        hops.push((payment.destination.0, last.encode()));
        (hops, first_expiry, None)
    }

    /// Why a part cannot be offered now, and whether waiting helps.
    fn why_not(&self, payment: &Payment, first: NodeId, refusal: Option<CannotOffer>) -> Retry {
        let wait = match refusal {
            None => {
                return Retry::Never(code::ROUTE_NOT_FOUND, "no channel with the first hop is left".into())
            }
            Some(CannotOffer::NotUsable) => Retry::Later(first),
            Some(CannotOffer::Refused(
                Refusal::TooMany { .. } | Refusal::TooMuchInFlight { .. } | Refusal::OpenerCannotPayFee,
            )) => Retry::Later(first),
            // A smaller one behind it may fit.
            Some(CannotOffer::Refused(Refusal::CannotAfford { .. } | Refusal::DustExposure { .. })) => {
                Retry::Alone
            }
            Some(CannotOffer::Refused(other)) => {
                return Retry::Never(code::ROUTE_NOT_FOUND, format!("{other}. No money moved"));
            }
        };
        if payment.retry_until <= self.now {
            let why = refusal.map_or_else(String::new, |r| format!("{r}"));
            return Retry::Never(code::STOPPED_RETRYING, format!("not paid in time: {why}. No money moved"));
        }
        wait
    }

    fn set_status(&mut self, hash: PaymentHash, status: Status) {
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return };
        let before = core::mem::replace(&mut payment.status, status);
        // Of one in parts by hand each part is a row.
        if payment.by_hand.is_empty() && payment.status.name() != before.name() {
            self.count_updated_pay(hash);
        }
        self.keep_payment(hash);
    }

    pub(super) fn keep_payment(&mut self, hash: PaymentHash) {
        let Some(payment) = self.payments.by_hash.get(&hash) else { return };
        let record = put(payment_key(&hash), payment);
        self.keep(record);
    }

    /// The part that this HTLC was, which is no more.
    fn take_part(&mut self, channel: ChannelId, id: HtlcId) -> Option<(PaymentHash, Part)> {
        // Told again after a cut, it is no news.
        let hash = self.payments.by_htlc.remove(&(channel, id.id))?;
        let payment = self.payments.by_hash.get_mut(&hash)?;
        let at = payment.parts.iter().position(|p| (p.channel, p.htlc) == (channel, id.id))?;
        Some((hash, payment.parts.remove(at)))
    }

    /// The secret came: the payment is complete, and kept before anybody is told.
    pub(super) fn on_fulfilled(&mut self, channel: ChannelId, id: HtlcId, preimage: Preimage) {
        if self.forward_fulfilled(channel, id, &preimage) {
            return;
        }
        let Some((hash, part)) = self.take_part(channel, id) else {
            return self.paid_after_all(channel, id, preimage);
        };
        if let Some(lesson) = lesson_of_success(&part) {
            self.out.effects.push(Effect::Learn(Box::new(lesson)));
        }
        // The secret is the receipt for all of it; parts still under way end as they may.
        self.payments.plans.remove(&hash);
        self.payments.rests.remove(&hash);
        self.end_hand_part(hash, (channel, id.id), None);
        if matches!(self.payments.by_hash.get(&hash).map(|p| &p.status), Some(Status::Pending)) {
            let at_s = self.wall().seconds();
            self.set_status(hash, Status::Complete { preimage, at_s });
            self.tell_payers(hash);
        } else {
            self.keep_payment(hash);
        }
        self.settle_draws(hash);
        self.tell_hand_part(hash);
    }

    /// The secret of a payment that had failed: a reorganisation deeper than anybody waits for took that back, or a cheat
    /// showed it with a revoked commitment. It is the receipt all the same.
    fn paid_after_all(&mut self, channel: ChannelId, id: HtlcId, preimage: Preimage) {
        let hash = preimage.hash();
        let watch = self.channels.get(&channel).and_then(|c| c.watch.as_ref());
        let lock = watch.and_then(|w| w.outputs.iter().filter_map(|o| o.lock.as_ref()).find(|l| l.id == id));
        let at_s = self.wall().seconds();
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return };
        if !matches!(payment.status, Status::Failed { .. }) {
            return;
        }
        // As its part was taken off the sum when it failed.
        let amount = lock.map_or(payment.amount, |lock| lock.amount);
        payment.sent = payment.sent.saturating_add(amount);
        payment.count = payment.count.saturating_add(1);
        self.charge(hash, amount);
        self.set_status(hash, Status::Complete { preimage, at_s });
    }

    /// The HTLC was given back, for good.
    pub(super) fn on_failed(&mut self, channel: ChannelId, id: HtlcId, removal: Removal) {
        if self.forward_failed(channel, id, &removal) {
            return;
        }
        let Some((hash, part)) = self.take_part(channel, id) else { return };
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return };
        payment.sent = payment.sent.saturating_sub(part.sent);
        payment.count = payment.count.saturating_sub(1);
        let (paid, in_time) = (!matches!(payment.status, Status::Pending), payment.retry_until > self.now);
        let (erring, failure) = match removal {
            Removal::Failed(reason) => match returned::unwrap(&part.secrets, &reason) {
                Some((index, failure)) => (Some(index), Some(failure)),
                None => (None, None),
            },
            Removal::Malformed { sha256_of_onion, failure_code } => {
                (Some(0), Failure::from_malformed(failure_code, sha256_of_onion))
            }
            Removal::Fulfilled(_) => return,
            Removal::OnChain => {
                let text = self.on_chain_words(channel);
                if self.is_ahead(channel) {
                    self.lose_draw(hash, part.sent);
                }
                if self.hand_part_failed(hash, (channel, id.id), (code::TRY_OTHER_ROUTE, text.into())) {
                    return;
                }
                self.keep_payment(hash);
                // What the chain did with a part weighs more than why another came back.
                if let Some(plan) = self.payments.plans.get_mut(&hash) {
                    plan.verdict = None;
                }
                return self.give_up(hash, code::TRY_OTHER_ROUTE, text.into());
            }
        };
        let other_way = self.avoid(hash, &part, erring, failure.as_ref());
        let by_payee = erring.is_some_and(|at| at >= part.route.len().saturating_sub(1));
        let (code, text) = self.in_words(&part, erring, failure.as_ref());
        self.note_erring(hash, &part, erring, failure.as_ref());
        if self.hand_part_failed(hash, (channel, id.id), (code, format!("{text}. Nothing was paid"))) {
            return;
        }
        self.keep_payment(hash);
        if paid {
            return self.settle_draws(hash);
        }
        let tired =
            self.payments.plans.get(&hash).and_then(|p| p.search.as_ref()).is_none_or(Search::is_tired);
        if !other_way || !in_time || tired {
            return self.give_up(hash, code, format!("{text}. Nothing was paid"));
        }
        if let Some(plan) = self.payments.plans.get_mut(&hash) {
            plan.verdict = Some((code, text));
            // What waits for room is looked for anew, together with this.
            plan.ways.clear();
            plan.search.iter_mut().for_each(Search::room_may_be);
        }
        match by_payee {
            // It could not take it just now.
            true => self.rest(hash, false),
            false => self.ask_routes(hash),
        }
    }

    fn note_erring(&mut self, hash: PaymentHash, part: &Part, at: Option<usize>, failure: Option<&Failure>) {
        let (Some(at), Some(failure)) = (at, failure) else { return };
        let own = self.channels.get(&part.channel);
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return };
        let hop = |at: usize| part.route.get(at);
        let here = hop(at).map(|hop| hop.id).or_else(|| part.route.is_empty().then_some(payment.destination));
        // Who stands last has sent nothing on: what led to it is named.
        let (from, to, channel) = match (hop(at), at.checked_add(1).and_then(hop)) {
            (Some(here), Some(next)) => (here.id, next.id, next.channel),
            (Some(here), None) if at > 0 => match hop(at.saturating_sub(1)) {
                Some(before) => (before.id, here.id, here.channel),
                None => (self.id, here.id, None),
            },
            _ => (self.id, payment.destination, own.and_then(Channel::short_channel_id)),
        };
        let erring = view::Erring {
            index: u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1),
            failcode: failure.code(),
            node: here,
            channel: channel.map(|scid| (scid, Direction::between(&from, &to).index() as u8)),
        };
        payment.note_erring((part.channel, part.htlc), erring);
    }

    /// Whether it was closed with a state that this node does not know.
    fn is_ahead(&self, channel: ChannelId) -> bool {
        let watch = self.channels.get(&channel).and_then(|c| c.watch.as_ref());
        watch.is_none_or(|w| w.standing == Standing::Ahead)
    }

    fn on_chain_words(&self, channel: ChannelId) -> &'static str {
        if self.is_ahead(channel) {
            "the channel was closed with a state that this node has lost, and no secret was seen: the next hop may \
             have been paid all the same. Ask the payee before you pay again"
        } else {
            "the channel closed and the next hop did not take the payment in time: the money is ours again"
        }
    }

    /// Who gave a part back, and why.
    fn in_words(&self, part: &Part, erring: Option<usize>, failure: Option<&Failure>) -> (i32, String) {
        let last = part.secrets.len().saturating_sub(1);
        let by_payee = erring == Some(last);
        let who = match erring {
            Some(_) if by_payee => "the payee".into(),
            Some(index) => match part.route.get(index) {
                Some(hop) => format!("hop {} of {}, {},", index + 1, last + 1, hop.id),
                None => "a hop".into(),
            },
            None => "a hop on the way".into(),
        };
        let (code, text) = match failure {
            None => (code::TRY_OTHER_ROUTE, "with a failure that cannot be read".into()),
            Some(f) => {
                let permanent = by_payee && f.is_permanent();
                let code = if permanent { code::DESTINATION_PERM_FAIL } else { code::TRY_OTHER_ROUTE };
                (code, format!("{} ({})", f.name(), explain(f)))
            }
        };
        (code, format!("{who} gave the payment back: {text}"))
    }

    /// No more is sent of a payment: it has failed as soon as nothing of it is under way.
    pub(super) fn give_up(&mut self, hash: PaymentHash, code: i32, message: String) {
        self.payments.rests.remove(&hash);
        let plan = self.payments.plans.entry(hash).or_default();
        plan.ways.clear();
        // What made it be given up is its end, not what the parts say that come back afterwards.
        let first = plan.search.is_none().then(|| plan.verdict.take()).flatten();
        plan.search = None;
        let (code, message) = first.unwrap_or((code, message));
        let Some(payment) = self.payments.by_hash.get(&hash) else { return };
        if matches!(payment.status, Status::Complete { .. }) {
            self.payments.plans.remove(&hash);
            self.settle_draws(hash);
        } else if payment.parts.is_empty() {
            self.payments.plans.remove(&hash);
            self.end_payment(hash, code, message);
        } else {
            plan.verdict = Some((code, message));
        }
    }

    fn end_payment(&mut self, hash: PaymentHash, code: i32, message: String) {
        let at_s = self.wall().seconds();
        self.set_status(hash, Status::Failed { code, message, at_s });
        self.settle_draws(hash);
        self.tell_payers(hash);
    }

    fn tell_payers(&mut self, hash: PaymentHash) {
        let Some(payment) = self.payments.by_hash.get(&hash) else { return };
        let view = payment.view();
        for (id, wait) in self.payments.payers.remove(&hash).unwrap_or_default() {
            match (&view.failure, wait) {
                // Each part has its own end.
                (_, Wait::Part { .. }) => self.payments.payers.entry(hash).or_default().push((id, wait)),
                (Some((code, message)), Wait::Pay) => self.refuse(id, *code, message.clone()),
                (Some(why), Wait::SendPay(_)) => self.refuse_payment(id, why.clone(), view.clone()),
                (None, Wait::Pay) => self.reply(id, Ok(Reply::Paid(view.clone()))),
                (None, Wait::SendPay(_)) => self.reply(id, Ok(Reply::Sent(view.clone()))),
            }
        }
    }

    pub(super) fn send_deadline(&self) -> Option<Timestamp> {
        let all = &self.payments;
        let queued = all.queue.iter().filter_map(|h| all.by_hash.get(h)).map(|p| p.retry_until).min();
        let waits = all.payers.values().flatten().filter_map(|(_, wait)| wait.until());
        [queued, waits.min()].into_iter().flatten().min()
    }

    pub(super) fn send_timers(&mut self) {
        let now = self.now;
        let all = &self.payments;
        let late: Vec<PaymentHash> = all
            .queue
            .iter()
            .filter(|h| all.by_hash.get(h).is_some_and(|p| p.retry_until <= now))
            .copied()
            .collect();
        if !late.is_empty() {
            // One last try of everything, then those that ran out of time end.
            self.send_waiting();
            let still: Vec<PaymentHash> =
                late.into_iter().filter(|h| self.payments.queue.contains(h)).collect();
            for hash in still {
                self.payments.queue.retain(|h| *h != hash);
                let text = "not paid in time: the channel had no room for it. No money moved";
                self.give_up(hash, code::STOPPED_RETRYING, text.into());
            }
        }
        let mut told = Vec::new();
        for waiting in self.payments.payers.values_mut() {
            waiting.retain(|(id, wait)| match wait.until() {
                Some(at) if at <= now => {
                    told.push(*id);
                    false
                }
                _ => true,
            });
        }
        self.payments.payers.retain(|_, w| !w.is_empty());
        for id in told {
            self.refuse(id, code::IN_PROGRESS, "the payment is still pending");
        }
    }

    /// After a restart: a payment of which nothing is under way has failed; nothing is sent anew.
    pub(super) fn settle_restored_payments(&mut self) {
        let idle = |p: &&Payment| p.parts.is_empty() && matches!(p.status, Status::Queued | Status::Pending);
        let lost: Vec<PaymentHash> = self.payments.by_hash.values().filter(idle).map(|p| p.hash).collect();
        for hash in lost {
            self.end_payment(hash, code::STOPPED_RETRYING, STOPPED.into());
        }
    }
}

/// What an onion is made of, when its first HTLC expires, and the path key beside it.
type Layers = (Vec<(PublicKey, Vec<u8>)>, Height, Option<PublicKey>);

/// Whether a part may be tried again.
pub(super) enum Retry {
    /// When the channel with this peer changes.
    Later(NodeId),
    /// The same, without holding up others.
    Alone,
    /// Not at all.
    Never(i32, String),
}

impl Retry {
    /// Whether another way may have the room that this one lacks.
    const fn may_go_elsewhere(&self) -> bool {
        match self {
            Retry::Later(_) | Retry::Alone => true,
            Retry::Never(code, _) => *code == code::ROUTE_NOT_FOUND,
        }
    }
}
