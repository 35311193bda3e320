//! Paying: to a peer over any channel with it, or along a route that the user gave.
//!
//! In: `pay`, `keysend`, `sendpay`; HTLCs that ended. Out: an HTLC and its record in one batch; the answer once the
//! payment is decided. A payment that does not fit at the moment (every slot taken, the peer away) waits for its
//! turn until `retry_for` runs out; it is then failed without an HTLC ever having been offered.
//! No hash is ever paid twice: a payment is complete, or pending, or may be tried again after it failed for good.
//! Read next: `payments` (what is kept), `receive`, `crate::onion`.

use crate::channel::htlc::Removal;
use crate::channel::ledger::Refusal;
use crate::channel::update::CannotOffer;
use crate::channel::Channel;
use crate::id::{ChannelId, CommandId, HtlcId, NodeId, PaymentHash, PaymentSecret, Preimage, ShortChannelId};
use crate::invoice::{self, Currency, Description};
use crate::node::command::{Command, Reply, RouteHop};
use crate::node::payments::{code, explain, Final0, Order, Payment, Status, Wait};
use crate::node::{view, Node};
use crate::onchain::Standing;
use crate::onion::payload::{self, Final};
use crate::onion::sphinx::build;
use crate::onion::{returned, Failure};
use crate::record::{payment_key, put};
use crate::units::{Height, Msat, Timestamp};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use secp256k1::PublicKey;

/// Blocks added to what the invoice asks for: one may be mined while the payment is on its way (BOLT 11).
const EXPIRY_SLACK_BLOCKS: u32 = 3;
/// The longest a payee may ask us to lock money up: two weeks.
const MAX_FINAL_CLTV_BLOCKS: u32 = 2_016;
/// The longest a whole route may.
const MAX_ROUTE_BLOCKS: u32 = MAX_FINAL_CLTV_BLOCKS + 34 * MAX_HOPS as u32;
/// Longest text kept with a payment.
const MAX_TEXT_BYTES: usize = 16_384;
/// BOLT 4: what an onion of 1,300 bytes has room for.
const MAX_HOPS: usize = 20;
/// Payments that may wait for their turn.
const MAX_QUEUED: usize = 10_000;

impl Node {
    /// Whether a payment waits for its turn: its record, if any, is of an earlier try.
    pub fn waits_to_pay(&self, hash: &PaymentHash) -> bool {
        self.payments.by_hash.get(hash).is_some_and(|p| matches!(p.status, Status::Queued))
    }

    /// `pay`, `keysend`, `sendpay`, `waitsendpay`, `listpays`.
    pub(super) fn on_pay_command(&mut self, id: CommandId, command: Command) {
        let order = match command {
            Command::Pay { bolt11, amount_msat, label, retry_for_s, maxfee_msat: _ } => {
                // One hop costs no fee: any maximum is kept.
                self.order_of_invoice(&bolt11, amount_msat, label, retry_for_s)
            }
            Command::Keysend { destination, amount_msat, label, retry_for_s } => {
                Ok(self.order_of_keysend(destination, amount_msat, label, retry_for_s))
            }
            Command::SendPay { .. } => return self.send_pay(id, command),
            Command::WaitSendPay { payment_hash, timeout_s } => {
                return self.wait_send_pay(id, payment_hash, timeout_s)
            }
            Command::ListPays { payment_hash, bolt11 } => return self.list_pays(id, payment_hash, bolt11),
            _ => return self.refuse(id, -32603, "internal: not a payment command"),
        };
        match order {
            Err((code, text)) => self.refuse(id, code, text),
            Ok(order) => self.pay(id, order),
        }
    }

    fn order_of_invoice(
        &self,
        text: &str,
        amount: Option<Msat>,
        label: Option<String>,
        retry_for_s: u64,
    ) -> Result<Order, (i32, String)> {
        let invoice =
            invoice::parse(text, self.crypto.secp()).map_err(|e| (code::PARAMS, format!("bolt11: {e}")))?;
        invoice
            .require_currency(Currency::of(self.config.network.bitcoin()))
            .map_err(|e| (code::PARAMS, format!("bolt11: {e}")))?;
        // BOLT 4 [4.mpp.2, 4.mpp.3].
        let amount = match (invoice.amount, amount) {
            (Some(named), None) => named,
            (None, Some(given)) => given,
            (Some(named), Some(given)) if named == given => named,
            (Some(_), Some(_)) => {
                return Err((code::PARAMS, "amount_msat: the invoice names another amount".into()));
            }
            (None, None) => {
                return Err((code::PARAMS, "amount_msat: the invoice names none, so give one".into()))
            }
        };
        if invoice.is_expired(self.wall().seconds()) && !self.is_known(&invoice.payment_hash) {
            return Err((
                code::INVOICE_EXPIRED,
                "the invoice has expired: ask the payee for a new one".into(),
            ));
        }
        if invoice.min_final_cltv_blocks > MAX_FINAL_CLTV_BLOCKS {
            let text =
                format!("the payee wants the money locked for {} blocks", invoice.min_final_cltv_blocks);
            return Err((code::PARAMS, text));
        }
        let description = match &invoice.description {
            Description::Text(text) => Some(text.clone()),
            Description::Hash(_) => None,
        };
        Ok(Order {
            hash: invoice.payment_hash,
            destination: invoice.payee,
            amount,
            total: amount,
            final_cltv_blocks: invoice.min_final_cltv_blocks,
            route: Vec::new(),
            last: Final0::Invoice {
                secret: invoice.payment_secret.clone(),
                metadata: invoice.payment_metadata.clone(),
            },
            bolt11: Some(text.into()),
            label,
            description,
            retry_for_s,
        })
    }

    fn is_known(&self, hash: &PaymentHash) -> bool {
        self.payments.by_hash.contains_key(hash)
    }

    fn order_of_keysend(
        &mut self,
        destination: NodeId,
        amount: Msat,
        label: Option<String>,
        retry_for_s: u64,
    ) -> Order {
        let preimage = Preimage(self.entropy.bytes32());
        Order {
            hash: preimage.hash(),
            destination,
            amount,
            total: amount,
            // What keysend receivers expect; more than chand itself asks for.
            final_cltv_blocks: 42,
            route: Vec::new(),
            last: Final0::Keysend { preimage },
            bolt11: None,
            label,
            description: None,
            retry_for_s,
        }
    }

    fn pay(&mut self, id: CommandId, order: Order) {
        let hash = order.hash;
        match self.payments.by_hash.get(&hash).map(|p| (&p.status, p.view())) {
            // Paid already: the same answer again, and no money moves.
            Some((Status::Complete { .. }, view)) => return self.reply(id, Ok(Reply::Paid(view))),
            Some((Status::Pending { .. } | Status::Queued, _)) => {
                let text = "this invoice is being paid already: wait for that payment (listpays shows it)";
                return self.refuse(id, code::IN_PROGRESS, text);
            }
            Some((Status::Failed { .. }, _)) | None => {}
        }
        if let Err((code, text)) = self.check_payable(&order) {
            return self.refuse(id, code, text);
        }
        // First in line, then started: a payment that ends at once has its payer to tell.
        self.payments.payers.entry(hash).or_default().push((id, Wait::Pay));
        self.start_payment(order);
    }

    /// What no waiting can mend is refused at once.
    fn check_payable(&self, order: &Order) -> Result<(), (i32, String)> {
        if order.destination == self.id {
            return Err((code::PARAMS, "the payee is this node itself".into()));
        }
        let texts = [&order.label, &order.bolt11, &order.description];
        if texts.into_iter().flatten().any(|t| t.len() > MAX_TEXT_BYTES) {
            let text = format!("label, bolt11, description: at most {MAX_TEXT_BYTES} bytes each");
            return Err((code::PARAMS, text));
        }
        if order.amount == Msat::ZERO {
            return Err((code::PARAMS, "amount_msat: must be more than zero".into()));
        }
        let (first, amount) =
            order.route.first().map_or((order.destination, order.amount), |hop| (hop.id, hop.amount_msat));
        let with: Vec<&Channel> =
            self.channels.values().filter(|c| c.terms.peer == first && c.wants_link()).collect();
        if with.is_empty() {
            let text = if order.route.is_empty() {
                "no route: the payee is no peer with a channel to this node, and chand finds no routes over several hops \
                 yet (sendpay takes one). No money moved"
            } else {
                "no route: there is no channel with its first hop. No money moved"
            };
            return Err((code::ROUTE_NOT_FOUND, text.into()));
        }
        let most = with.iter().map(|c| c.to_us().saturating_sub(c.terms.remote.reserve.to_msat())).max();
        if most.is_none_or(|m| amount > m) {
            let most = most.unwrap_or(Msat::ZERO);
            let whom = if order.route.is_empty() { "the payee" } else { "the first hop" };
            let text = format!(
                "no route: {amount} is more than any channel to {whom} can send ({most} at most). No money moved"
            );
            return Err((code::ROUTE_NOT_FOUND, text));
        }
        if self.payments.queue.len() >= MAX_QUEUED {
            return Err((code::STOPPED_RETRYING, "too many payments wait already: try again later".into()));
        }
        Ok(())
    }

    fn start_payment(&mut self, order: Order) {
        let old = self.payments.by_hash.get(&order.hash).map(|p| p.created_index);
        if let Some(index) = old {
            self.payments.by_index.remove(&index);
        }
        let payment = Payment {
            hash: order.hash,
            destination: order.destination,
            amount: order.amount,
            total: order.total,
            final_cltv_blocks: order.final_cltv_blocks,
            last: order.last,
            bolt11: order.bolt11,
            label: order.label,
            description: order.description,
            created_index: self.counters.next_payment(),
            created_at_s: self.wall().seconds(),
            retry_until: self.now.plus_ms(order.retry_for_s.saturating_mul(1_000)),
            status: Status::Queued,
            route: order.route,
            later_secrets: Vec::new(),
        };
        let hash = payment.hash;
        self.payments.restore(payment);
        self.payments.queue.push_back(hash);
        self.send_waiting();
    }

    /// Offers what waits, in order; a payment that must go on waiting holds up only those to the same payee.
    pub(super) fn send_waiting(&mut self) {
        if self.payments.queue.is_empty() {
            return;
        }
        let mut stuck: Vec<NodeId> = Vec::new();
        let queue = core::mem::take(&mut self.payments.queue);
        let mut left = VecDeque::with_capacity(queue.len());
        for hash in queue {
            let Some(payment) = self.payments.by_hash.get(&hash) else { continue };
            if stuck.contains(&payment.first_peer()) {
                left.push_back(hash);
                continue;
            }
            match self.try_payment(hash) {
                Ok(()) => {}
                Err(Retry::Later(peer)) => {
                    stuck.push(peer);
                    left.push_back(hash);
                }
                Err(Retry::Alone) => left.push_back(hash),
                Err(Retry::Never(code, message)) => self.end_payment(hash, code, message),
            }
        }
        // What was queued meanwhile stands behind.
        left.append(&mut self.payments.queue);
        self.payments.queue = left;
    }

    /// Offers one payment now, over the channel with the most room.
    fn try_payment(&mut self, hash: PaymentHash) -> Result<(), Retry> {
        let Some(payment) = self.payments.by_hash.get(&hash).cloned() else { return Ok(()) };
        let (hops, amount, expiry) = self.hops(&payment);
        let mut refusal = None;
        let mut chosen = None;
        let (peer, named) = (payment.first_peer(), payment.route.first().and_then(|hop| hop.channel));
        let fits = |c: &&Channel| {
            c.terms.peer == peer && named.is_none_or(|scid| c.short_channel_id() == Some(scid))
        };
        // BOLT 4 [4.packet.1].
        for channel in self.channels.values().filter(fits) {
            match channel.check_offer(amount, expiry, Node::max_dust()) {
                Ok(()) => {
                    chosen = Some(channel.id());
                    break;
                }
                Err(why) => refusal = Some(why),
            }
        }
        let Some(channel) = chosen else { return Err(self.why_not(&payment, refusal)) };
        let session = self.entropy.secret_key();
        let built = build(&session, &hops, &hash.0, self.crypto.secp())
            .map_err(|e| Retry::Never(-1, format!("the onion could not be built: {e}")))?;
        let onion = Box::new(built.packet);
        let mut secrets = built.shared_secrets.into_iter();
        let Some(shared_secret) = secrets.next() else {
            return Err(Retry::Never(-1, "the onion has no hop".into()));
        };
        let offered = self.act(channel, |c, _, out| c.apply_offer(amount, hash, expiry, onion, out));
        let Some(HtlcId { id: htlc, .. }) = offered else { return Ok(()) };
        self.payments.by_htlc.insert((channel, htlc), hash);
        if let Some(payment) = self.payments.by_hash.get_mut(&hash) {
            payment.later_secrets = secrets.collect();
        }
        self.set_status(hash, Status::Pending { channel, htlc, shared_secret });
        Ok(())
    }

    /// The onion's layers, first hop first; what the first HTLC carries, and its expiry.
    fn hops(&self, payment: &Payment) -> (Vec<(PublicKey, Vec<u8>)>, Msat, Height) {
        let slack = |blocks: u32| self.tip_height().plus(blocks.saturating_add(EXPIRY_SLACK_BLOCKS));
        let last_expiry = slack(payment.final_cltv_blocks);
        let last = match &payment.last {
            Final0::Invoice { secret, metadata } => {
                // BOLT 4 [4.write.10, 4.write.11, 4.write.12, 4.mpp.6, 4.last.1, 4.last.2, 4.last.3].
                let mut last = Final::invoice(payment.amount, last_expiry, secret.clone(), payment.total);
                // BOLT 4 [4.write.13, 4.write.14].
                last.payment_metadata.clone_from(metadata);
                last
            }
            Final0::Keysend { preimage } => Final::keysend(payment.amount, last_expiry, preimage.clone()),
        };
        let mut hops = Vec::new();
        for pair in payment.route.windows(2) {
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
        let expiry = payment.route.first().map_or(last_expiry, |hop| slack(hop.delay_blocks));
        (hops, payment.first_amount(), expiry)
    }

    /// Why a payment cannot be offered now, and whether waiting helps.
    fn why_not(&self, payment: &Payment, refusal: Option<CannotOffer>) -> Retry {
        let wait = match refusal {
            None => {
                return Retry::Never(code::ROUTE_NOT_FOUND, "no channel with the first hop is left".into())
            }
            Some(CannotOffer::NotUsable) => Retry::Later(payment.first_peer()),
            Some(CannotOffer::Refused(
                Refusal::TooMany { .. } | Refusal::TooMuchInFlight { .. } | Refusal::OpenerCannotPayFee,
            )) => Retry::Later(payment.first_peer()),
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
        if !matches!(status, Status::Pending { .. }) {
            payment.later_secrets.clear();
        }
        payment.status = status;
        let record = put(payment_key(&hash), payment);
        self.keep(record);
    }

    /// The secret came: the payment is complete, and kept before anybody is told.
    pub(super) fn on_fulfilled(&mut self, channel: ChannelId, id: HtlcId, preimage: Preimage) {
        if self.forward_fulfilled(channel, id, &preimage) {
            return;
        }
        // Told again after a cut, it is no news.
        let Some(hash) = self.payments.by_htlc.remove(&(channel, id.id)) else { return };
        if matches!(self.payments.by_hash.get(&hash).map(|p| &p.status), Some(Status::Pending { .. })) {
            let at_s = self.wall().seconds();
            self.set_status(hash, Status::Complete { preimage, at_s });
            self.tell_payers(hash);
        }
    }

    /// The HTLC was given back, for good.
    pub(super) fn on_failed(&mut self, channel: ChannelId, id: HtlcId, removal: Removal) {
        if self.forward_failed(channel, id, &removal) {
            return;
        }
        let Some(hash) = self.payments.by_htlc.remove(&(channel, id.id)) else { return };
        let Some(payment) = self.payments.by_hash.get(&hash) else { return };
        let Status::Pending { shared_secret, .. } = &payment.status else { return };
        let secrets = [core::slice::from_ref(shared_secret), &payment.later_secrets].concat();
        let (erring, failure) = match removal {
            Removal::Failed(reason) => match returned::unwrap(&secrets, &reason) {
                Some((index, failure)) => (Some(index), Some(failure)),
                None => (None, None),
            },
            Removal::Malformed { sha256_of_onion, failure_code } => {
                (Some(0), Failure::from_malformed(failure_code, sha256_of_onion))
            }
            Removal::Fulfilled(_) => return,
            Removal::OnChain => {
                let watch = self.channels.get(&channel).and_then(|c| c.watch.as_ref());
                let text = if watch.is_some_and(|w| w.standing == Standing::Ahead) {
                    "the channel was closed with a state that this node has lost, and no secret was seen: the next hop may \
                     have been paid all the same. Ask the payee before you pay again"
                } else {
                    "the channel closed and the next hop did not take the payment in time: the money is ours again"
                };
                return self.end_payment(hash, code::TRY_OTHER_ROUTE, text.into());
            }
        };
        let last = secrets.len().saturating_sub(1);
        let by_payee = erring == Some(last);
        let who = match erring {
            Some(_) if by_payee => "the payee".into(),
            Some(index) => match payment.route.get(index) {
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
                (code, format!("{} ({})", f.name(), explain(&f)))
            }
        };
        self.end_payment(hash, code, format!("{who} gave the payment back: {text}. Nothing was paid"));
    }

    fn end_payment(&mut self, hash: PaymentHash, code: i32, message: String) {
        let at_s = self.wall().seconds();
        self.set_status(hash, Status::Failed { code, message, at_s });
        self.tell_payers(hash);
    }

    fn tell_payers(&mut self, hash: PaymentHash) {
        let Some(payment) = self.payments.by_hash.get(&hash) else { return };
        let view = payment.view();
        for (id, wait) in self.payments.payers.remove(&hash).unwrap_or_default() {
            match (&view.failure, wait) {
                (Some((code, message)), _) => self.refuse(id, *code, message.clone()),
                (None, Wait::Pay) => self.reply(id, Ok(Reply::Paid(view.clone()))),
                (None, Wait::SendPay(_)) => self.reply(id, Ok(Reply::Sent(view.clone()))),
            }
        }
    }

    /// `sendpay`: an explicit route.
    fn send_pay(&mut self, id: CommandId, command: Command) {
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
            return self.refuse(
                id,
                code::PARAMS,
                "amount_msat: must be what the last hop gets: parts are not sent yet",
            );
        }
        let known = self.payments.by_hash.get(&payment_hash);
        if let Some(view) = known.filter(|p| !matches!(p.status, Status::Failed { .. })).map(Payment::view) {
            return self.reply(id, Ok(Reply::Sent(view)));
        }
        let order = Order {
            hash: payment_hash,
            destination: hop.id,
            amount: hop.amount_msat,
            total: hop.amount_msat,
            final_cltv_blocks: hop.delay_blocks.min(MAX_FINAL_CLTV_BLOCKS),
            route,
            last: Final0::Invoice { secret: PaymentSecret(secret), metadata: None },
            bolt11,
            label,
            description: None,
            retry_for_s: 0,
        };
        if let Err((code, text)) = self.check_payable(&order) {
            return self.refuse(id, code, text);
        }
        self.start_payment(order);
        match self.payments.by_hash.get(&payment_hash).map(Payment::view) {
            Some(view::Pay { failure: Some((code, text)), .. }) => self.refuse(id, code, text),
            Some(view) => self.reply(id, Ok(Reply::Sent(view))),
            None => self.refuse(id, -32603, "internal: the payment vanished"),
        }
    }

    fn wait_send_pay(&mut self, id: CommandId, hash: PaymentHash, timeout_s: Option<u64>) {
        let until = timeout_s.map(|s| self.now.plus_ms(s.saturating_mul(1_000)));
        match self.payments.by_hash.get(&hash).map(|p| (&p.status, p.view())) {
            None => self.refuse(id, 208, "no payment with this hash was ever tried"),
            Some((Status::Complete { .. }, view)) => self.reply(id, Ok(Reply::Sent(view))),
            Some((Status::Failed { code, message, .. }, _)) => {
                let (code, message) = (*code, message.clone());
                self.refuse(id, code, message);
            }
            Some(_) => self.payments.payers.entry(hash).or_default().push((id, Wait::SendPay(until))),
        }
    }

    fn list_pays(&mut self, id: CommandId, hash: Option<PaymentHash>, bolt11: Option<String>) {
        let named = match bolt11 {
            Some(text) => match invoice::parse(&text, self.crypto.secp()) {
                Ok(invoice) => Some(invoice.payment_hash),
                Err(e) => return self.refuse(id, code::PARAMS, format!("bolt11: {e}")),
            },
            None => hash,
        };
        let all = &self.payments;
        let list = match named {
            Some(hash) => all.by_hash.get(&hash).map(Payment::view).into_iter().collect(),
            None => all.by_index.values().filter_map(|h| all.by_hash.get(h)).map(Payment::view).collect(),
        };
        self.reply(id, Ok(Reply::Pays(list)));
    }

    pub(super) fn send_deadline(&self) -> Option<Timestamp> {
        let all = &self.payments;
        let queued = all.queue.iter().filter_map(|h| all.by_hash.get(h)).map(|p| p.retry_until).min();
        let waits = all.payers.values().flatten().filter_map(|(_, w)| match w {
            Wait::SendPay(at) => *at,
            Wait::Pay => None,
        });
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
                self.end_payment(hash, code::STOPPED_RETRYING, text.into());
            }
        }
        let mut told = Vec::new();
        for waiting in self.payments.payers.values_mut() {
            waiting.retain(|(id, wait)| match wait {
                Wait::SendPay(Some(at)) if *at <= now => {
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

    /// After a restart: a payment whose HTLC was never offered has failed; nothing of it left this node.
    pub(super) fn settle_restored_payments(&mut self) {
        let lost: Vec<PaymentHash> = self
            .payments
            .by_hash
            .values()
            .filter(|p| matches!(p.status, Status::Queued))
            .map(|p| p.hash)
            .collect();
        for hash in lost {
            self.end_payment(
                hash,
                code::STOPPED_RETRYING,
                "this node stopped before it was sent. No money moved".into(),
            );
        }
    }
}

/// Whether a payment may be tried again.
enum Retry {
    /// When the channel with this payee changes.
    Later(NodeId),
    /// The same, without holding up others.
    Alone,
    /// Not at all.
    Never(i32, String),
}

/// A route that can be sent along: it goes on, and neither amounts nor expiries grow on the way. Gives its last hop.
fn check_route(route: &[RouteHop]) -> Result<&RouteHop, &'static str> {
    let last = route.last().ok_or("at least one hop")?;
    if route.len() > MAX_HOPS {
        return Err("at most 20 hops");
    }
    if route.iter().any(|hop| hop.delay_blocks > MAX_ROUTE_BLOCKS) {
        return Err("delay: at most 2,016 blocks and 34 for each of 20 hops");
    }
    for pair in route.windows(2) {
        let [here, next] = pair else { continue };
        if next.channel.is_none() {
            return Err("channel: every hop but the first needs one");
        }
        if next.amount_msat > here.amount_msat || next.delay_blocks > here.delay_blocks {
            return Err("amount_msat and delay may not grow from hop to hop");
        }
    }
    Ok(last)
}
