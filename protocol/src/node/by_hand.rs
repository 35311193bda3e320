//! Payments by hand: `sendpay`, whole or part by part, and who waits for a part (Core Lightning's `partid`, `groupid`).
//!
//! In: routes of the user's choosing. Out: an HTLC for each, at once or not at all; the end of each part. Parts of one hash
//! share total, payee and secret, and never add up to more than the total: what is under way is what the payee may take.
//! Once a part was taken the payment is complete, and no other is sent. Parts that failed are kept for lists, up to a number.
//! Read next: `send`, which offers a part and learns of its end.

use crate::id::{ChannelId, CommandId, NodeId, PaymentHash, PaymentSecret};
use crate::node::budget::Drawn;
use crate::node::command::{Command, Reply, RouteHop, RouteLimits};
use crate::node::orders::{check_route, MAX_BLOCKS};
use crate::node::payments::{code, Final0, Order, Payment, Status, Wait};
use crate::node::send::Retry;
use crate::node::waits::{Event, Subsystem};
use crate::node::{view, Node};
use crate::units::Msat;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Parts of one payment that are kept; when there are more, those that failed first are forgotten.
const MAX_PARTS: usize = 100;

/// One part that the user sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HandPart {
    partid: u64,
    groupid: u64,
    created_index: u64,
    created_at_s: u64,
    destination: NodeId,
    /// What the payee gets of it.
    amount: Msat,
    /// What our HTLC carries.
    sent: Msat,
    end: End,
}

/// How far a part has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    /// This HTLC.
    UnderWay {
        channel: ChannelId,
        htlc: u64,
    },
    Taken {
        at_s: u64,
    },
    Failed {
        code: i32,
        message: String,
        at_s: u64,
    },
}

impl HandPart {
    const fn is_under_way(&self) -> bool {
        matches!(self.end, End::UnderWay { .. })
    }

    /// Its `partid` and `groupid`.
    pub(super) const fn name(&self) -> (u64, u64) {
        (self.partid, self.groupid)
    }

    /// Whether it is this HTLC.
    pub(super) fn is_at(&self, (channel, htlc): (ChannelId, u64)) -> bool {
        self.end == End::UnderWay { channel, htlc }
    }

    const fn has_failed(&self) -> bool {
        matches!(self.end, End::Failed { .. })
    }
}

/// A refusal: code and words.
type No = (i32, String);

/// What a new part is to be.
struct Wish {
    hash: PaymentHash,
    route: Vec<RouteHop>,
    destination: NodeId,
    amount: Msat,
    total: Msat,
    secret: [u8; 32],
    partid: u64,
    groupid: Option<u64>,
}

impl Payment {
    /// The newest part of this number, in this group or the last one.
    fn hand_part(&self, partid: u64, groupid: Option<u64>) -> Option<&HandPart> {
        let group = groupid.or_else(|| self.by_hand.last().map(|p| p.groupid));
        self.by_hand.iter().rev().find(|p| p.partid == partid && Some(p.groupid) == group)
    }

    fn view_part(&self, part: &HandPart) -> view::Pay {
        let whole = self.view();
        let (status, completed_at_s, failure) = match &part.end {
            End::UnderWay { .. } => ("pending", None, None),
            End::Taken { at_s } => ("complete", Some(*at_s), None),
            End::Failed { code, message, at_s } => ("failed", Some(*at_s), Some((*code, message.clone()))),
        };
        view::Pay {
            destination: Some(part.destination),
            status,
            amount_msat: part.amount,
            amount_sent_msat: part.sent,
            created_at_s: part.created_at_s,
            completed_at_s,
            preimage: whole.preimage.clone().filter(|_| status == "complete"),
            created_index: part.created_index,
            updated_index: Some(self.part_updated(part.created_index)).filter(|number| *number > 0),
            parts: 1,
            erring: self.erring_of(part.name()).filter(|_| failure.is_some()),
            failure,
            part: Some((part.partid, part.groupid)),
            ..whole
        }
    }

    /// A row for each part by hand, or the one for a payment that has none.
    pub(super) fn view_parts(&self) -> Vec<view::Pay> {
        if self.by_hand.is_empty() {
            return vec![self.view()];
        }
        self.by_hand.iter().map(|part| self.view_part(part)).collect()
    }

    const fn is_open(&self) -> bool {
        matches!(self.status, Status::Queued | Status::Alone { .. } | Status::Pending)
    }

    /// Whether a part may join what is under way: the same that asks again (`Some`), a new one (`None`), or neither.
    fn check_join(&self, wish: &Wish) -> Result<Option<&HandPart>, No> {
        let busy = |text: String| Err((code::IN_PROGRESS, text));
        let used = |text: String| Err((code::HASH_ALREADY_USED, text));
        let Some(group) = self.by_hand.last().map(|p| p.groupid) else {
            return busy("this hash is being paid already, and not in parts by hand".into());
        };
        if wish.groupid.is_some_and(|asked| asked != group) {
            return busy(format!("parts of group {group} are under way: a hash has one group at a time"));
        }
        let same = self.hand_part(wish.partid, Some(group)).filter(|p| !p.has_failed());
        if let Some(part) = same {
            if (part.amount, part.destination, self.total) == (wish.amount, wish.destination, wish.total) {
                return Ok(Some(part));
            }
            return used(format!("part {} is under way with {} of {}", wish.partid, part.amount, self.total));
        }
        if self.total != wish.total {
            return used(format!("amount_msat: parts of {} are under way", self.total));
        }
        let secret = matches!(&self.last, Final0::Invoice { secret, .. } if secret.0 == wish.secret);
        if !secret || self.destination != wish.destination {
            return used("parts to another payee, or with another payment_secret, are under way".into());
        }
        // BOLT 4 [4.mpp.5].
        let missing = self.missing();
        if wish.amount > missing {
            return busy(format!("{missing} of {} are not under way yet: less than this part", self.total));
        }
        if self.by_hand.iter().filter(|p| !p.has_failed()).count() >= MAX_PARTS {
            return busy(format!("{MAX_PARTS} parts are under way already"));
        }
        Ok(None)
    }
}

impl Node {
    /// `sendpay`: all of it along one route.
    pub(super) fn send_pay(&mut self, id: CommandId, command: Command) {
        let Command::SendPay { route, payment_hash, payment_secret, amount_msat, label, bolt11 } = command
        else {
            return;
        };
        let hop = match check_route(&route) {
            Ok(last) => last.clone(),
            Err(text) => return self.refuse(id, code::PARAMS, format!("route: {text}")),
        };
        let Some(secret) = payment_secret else {
            return self.refuse(id, code::PARAMS, "payment_secret: the payee needs it");
        };
        // BOLT 4 [4.mpp.4, 4.mpp.7]: one HTLC is the whole payment.
        if amount_msat.is_some_and(|total| total != hop.amount_msat) {
            let text = "amount_msat: must be what the last hop gets; parts of a payment need a partid";
            return self.refuse(id, code::PARAMS, text);
        }
        let known = self.payments.by_hash.get(&payment_hash);
        if let Some(payment) = known.filter(|p| !matches!(p.status, Status::Failed { .. })) {
            if payment.is_open() && !payment.by_hand.is_empty() {
                return self.refuse(id, code::IN_PROGRESS, "parts of this payment are under way already");
            }
            if (payment.amount, payment.destination) != (hop.amount_msat, hop.id) {
                let text = format!("this hash is used for {} to {}", payment.amount, payment.destination);
                return self.refuse(id, code::HASH_ALREADY_USED, text);
            }
            let view = payment.view();
            return self.reply(id, Ok(Reply::Sent(view)));
        }
        let order = order_by_hand(payment_hash, secret, &hop, hop.amount_msat, (route, label, bolt11));
        let start = match self.check_payable(&order) {
            Ok(start) => start,
            Err((code, text)) => return self.refuse(id, code, text),
        };
        self.start_payment(order, start);
        match self.payments.by_hash.get(&payment_hash).map(Payment::view) {
            Some(view::Pay { failure: Some((code, text)), .. }) => self.refuse(id, code, text),
            Some(view) => self.reply(id, Ok(Reply::Sent(view))),
            None => self.refuse(id, -32603, "internal: the payment vanished"),
        }
    }

    /// `sendpay` with a `partid`.
    pub(super) fn send_part(&mut self, id: CommandId, command: Command) {
        match self.try_part(command) {
            Ok(view) => self.reply(id, Ok(Reply::Sent(view))),
            Err((code, text)) => self.refuse(id, code, text),
        }
    }

    fn try_part(&mut self, command: Command) -> Result<view::Pay, No> {
        let (wish, label, bolt11) = wish_of(command)?;
        let open = match self.payments.by_hash.get(&wish.hash) {
            Some(payment) if matches!(payment.status, Status::Complete { .. }) => {
                // Paid: the same answer again whichever part asks, and no money moves.
                if (payment.total, payment.destination) != (wish.total, wish.destination) {
                    let text = format!("{} were paid to {} already", payment.total, payment.destination);
                    return Err((code::HASH_ALREADY_USED, text));
                }
                let part = payment.hand_part(wish.partid, wish.groupid).filter(|p| !p.has_failed());
                return Ok(part.map_or_else(|| payment.view(), |part| payment.view_part(part)));
            }
            Some(payment) if payment.is_open() => {
                if let Some(part) = payment.check_join(&wish)? {
                    return Ok(payment.view_part(part));
                }
                true
            }
            Some(_) | None => false,
        };
        let last = wish.route.last().ok_or((-32603, String::from("internal: no route")))?.clone();
        let order =
            order_by_hand(wish.hash, wish.secret, &last, wish.total, (wish.route.clone(), label, bolt11));
        self.check_payable(&order)?;
        let before = self.payments.by_hash.get(&wish.hash).cloned();
        if !open {
            self.begin_group(Order { amount: wish.total, ..order }, before.as_ref());
        }
        let hash = wish.hash;
        let replaced = before.as_ref().filter(|p| p.by_hand.is_empty()).map(Payment::view);
        let sent = self.offer_hand_part(wish, replaced);
        if sent.is_err() && !open {
            // Nothing was sent: as if it had not been asked.
            match before {
                Some(before) => self.payments.by_hash.insert(hash, before),
                None => self.payments.by_hash.remove(&hash),
            };
        }
        sent
    }

    /// A payment of which no part is under way yet, with the failed parts of earlier groups.
    fn begin_group(&mut self, order: Order, before: Option<&Payment>) {
        let (hash, at_s) = (order.hash, self.wall().seconds());
        // Its own index comes with the first part.
        let mut payment = Payment::new(order, before.map_or(0, |p| p.created_index), at_s, self.now);
        if let Some(before) = before {
            payment.by_hand.clone_from(&before.by_hand);
            payment.parts_updated.clone_from(&before.parts_updated);
            payment.erring.clone_from(&before.erring);
            payment.updated_index = before.updated_index;
        }
        self.payments.by_hash.insert(hash, payment);
    }

    /// Offers the part and notes it in the same batch.
    ///
    /// `replaced`: the row of an earlier payment with this hash that was none by hand, and is listed no more.
    fn offer_hand_part(&mut self, wish: Wish, replaced: Option<view::Pay>) -> Result<view::Pay, No> {
        let hash = wish.hash;
        let internal = || (-32603, String::from("internal: the part was not sent"));
        let parts = self.payments.by_hash.get(&hash).map_or(0, |p| p.parts.len());
        match self.offer_part(hash, wish.route) {
            Ok(()) => {}
            Err(Retry::Never(code, text)) => return Err((code, text)),
            Err(Retry::Later(_) | Retry::Alone) => return Err(internal()),
        }
        let (created_index, at_s) = (self.count(Subsystem::Sendpays, Event::Created), self.wall().seconds());
        let payment = self.payments.by_hash.get_mut(&hash).ok_or_else(internal)?;
        let new = payment.parts.last().filter(|_| payment.parts.len() > parts).ok_or_else(internal)?;
        let last_group = payment.by_hand.last().map(|p| p.groupid);
        let next_group = || last_group.map_or(1, |last| last.saturating_add(u64::from(parts == 0)));
        let part = HandPart {
            partid: wish.partid,
            groupid: wish.groupid.unwrap_or_else(next_group),
            created_index,
            created_at_s: at_s,
            destination: wish.destination,
            amount: new.amount,
            sent: new.sent,
            end: End::UnderWay { channel: new.channel, htlc: new.htlc },
        };
        if parts == 0 {
            let old = core::mem::replace(&mut payment.created_index, created_index);
            self.payments.by_index.remove(&old);
            self.payments.by_index.insert(created_index, hash);
        }
        let name = (part.partid, part.groupid);
        let mut gone: Vec<HandPart> =
            payment.by_hand.extract_if(.., |p| (p.partid, p.groupid) == name).collect();
        if payment.by_hand.len() >= MAX_PARTS {
            let oldest = payment.by_hand.iter().position(HandPart::has_failed);
            gone.extend(oldest.map(|at| payment.by_hand.remove(at)));
        }
        let mut deleted: Vec<view::Pay> = gone.iter().map(|part| payment.view_part(part)).collect();
        deleted.extend(replaced);
        payment.parts_updated.retain(|(row, _)| gone.iter().all(|part| part.created_index != *row));
        let view = payment.view_part(&part);
        payment.by_hand.push(part);
        self.keep_payment(hash);
        self.count_deleted_pays(deleted);
        self.tell_pay(Event::Created, created_index, hash, created_index);
        Ok(view)
    }

    /// Notes how a part ended, if it was one by hand; whoever calls keeps the record.
    pub(super) fn end_hand_part(
        &mut self,
        hash: PaymentHash,
        place: (ChannelId, u64),
        failed: Option<No>,
    ) -> bool {
        let at_s = self.wall().seconds();
        let Some(payment) = self.payments.by_hash.get_mut(&hash) else { return false };
        let here = |p: &&mut HandPart| p.is_at(place);
        let Some(part) = payment.by_hand.iter_mut().find(here) else { return false };
        part.end = match failed {
            None => End::Taken { at_s },
            Some((code, message)) => End::Failed { code, message, at_s },
        };
        let row = part.created_index;
        self.count_updated_part(hash, row);
        true
    }

    /// A part came back. The payment has failed with its last one, and then its hash may be tried again. `false` when it is
    /// no payment by hand.
    pub(super) fn hand_part_failed(&mut self, hash: PaymentHash, place: (ChannelId, u64), why: No) -> bool {
        if !self.end_hand_part(hash, place, Some(why.clone())) {
            return false;
        }
        let at_s = self.wall().seconds();
        if let Some(payment) = self.payments.by_hash.get_mut(&hash) {
            if payment.parts.is_empty() && payment.is_open() {
                payment.status = Status::Failed { code: why.0, message: why.1, at_s };
            }
        }
        self.keep_payment(hash);
        self.tell_hand_part(hash);
        true
    }

    /// Tells who waits for parts that have ended.
    pub(super) fn tell_hand_part(&mut self, hash: PaymentHash) {
        let waiting = self.payments.payers.remove(&hash).unwrap_or_default();
        for (id, wait) in waiting {
            let payment = self.payments.by_hash.get(&hash);
            let ended = match wait {
                Wait::Part { partid, groupid, .. } => payment.and_then(|payment| {
                    let part = payment.hand_part(partid, Some(groupid))?;
                    (!part.is_under_way()).then(|| payment.view_part(part))
                }),
                Wait::Pay | Wait::SendPay(_) => None,
            };
            match ended {
                Some(view) => match view.failure.clone() {
                    Some(why) => self.refuse_payment(id, why, view),
                    None => self.reply(id, Ok(Reply::Sent(view))),
                },
                None => self.payments.payers.entry(hash).or_default().push((id, wait)),
            }
        }
    }

    /// `waitsendpay` without a `partid`.
    pub(super) fn wait_send_pay(&mut self, id: CommandId, hash: PaymentHash, timeout_s: Option<u64>) {
        let until = timeout_s.map(|s| self.now.plus_ms(s.saturating_mul(1_000)));
        let payment = self.payments.by_hash.get(&hash);
        if payment.is_some_and(|p| !p.by_hand.is_empty()) {
            let text = "this payment was sent in parts: name one by its partid";
            return self.refuse(id, code::NO_SUCH_PAYMENT, text);
        }
        match payment.map(|p| (&p.status, p.view())) {
            None => self.refuse(id, code::NO_SUCH_PAYMENT, "no payment with this hash was ever tried"),
            Some((Status::Complete { .. }, view)) => self.reply(id, Ok(Reply::Sent(view))),
            Some((Status::Failed { code, message, .. }, view)) => {
                let why = (*code, message.clone());
                self.refuse_payment(id, why, view);
            }
            Some(_) => self.payments.payers.entry(hash).or_default().push((id, Wait::SendPay(until))),
        }
    }

    /// `waitsendpay` with a `partid`.
    pub(super) fn wait_send_part(
        &mut self,
        id: CommandId,
        hash: PaymentHash,
        (partid, groupid): (u64, Option<u64>),
        timeout_s: Option<u64>,
    ) {
        let until = timeout_s.map(|s| self.now.plus_ms(s.saturating_mul(1_000)));
        let part = self.payments.by_hash.get(&hash).and_then(|p| p.hand_part(partid, groupid));
        let Some(groupid) = part.map(|p| p.groupid) else {
            return self.refuse(
                id,
                code::NO_SUCH_PAYMENT,
                "no such part of a payment with this hash was ever sent",
            );
        };
        self.payments.payers.entry(hash).or_default().push((id, Wait::Part { partid, groupid, until }));
        self.tell_hand_part(hash);
    }
}

/// What is asked for, with label and invoice, when it makes sense by itself.
fn wish_of(command: Command) -> Result<(Wish, Option<String>, Option<String>), No> {
    let params = |text: &str| (code::PARAMS, String::from(text));
    let Command::SendPart { route, payment_hash, payment_secret, total_msat, partid, groupid, label, bolt11 } =
        command
    else {
        return Err((-32603, "internal: not a part".into()));
    };
    let last = check_route(&route).map_err(|text| params(&format!("route: {text}")))?;
    let (destination, amount) = (last.id, last.amount_msat);
    if partid == 0 {
        return Err(params("partid: parts are numbered from 1"));
    }
    let secret = payment_secret.ok_or_else(|| params("payment_secret: the payee needs it"))?;
    // BOLT 4 [4.mpp.6].
    let total = total_msat.ok_or_else(|| params("amount_msat: with a partid, the sum of all parts"))?;
    if amount > total {
        return Err(params("amount_msat: less than this part alone"));
    }
    let wish = Wish { hash: payment_hash, route, destination, amount, total, secret, partid, groupid };
    Ok((wish, label, bolt11))
}

/// What one HTLC is to pay of `total`, along just this route, whose last hop is the payee.
fn order_by_hand(
    hash: PaymentHash,
    secret: [u8; 32],
    payee: &RouteHop,
    total: Msat,
    (route, label, bolt11): (Vec<RouteHop>, Option<String>, Option<String>),
) -> Order {
    Order {
        hash,
        destination: payee.id,
        amount: payee.amount_msat,
        total,
        final_cltv_blocks: payee.delay_blocks.min(MAX_BLOCKS),
        route,
        last: Final0::Invoice { secret: PaymentSecret(secret), metadata: None },
        bolt11,
        label,
        description: None,
        retry_for_s: 0,
        limits: RouteLimits::default(),
        hints: Vec::new(),
        max_parts: 1,
        drawn: Drawn::default(),
    }
}
