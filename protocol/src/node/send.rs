//! Paying: one hop for now, over any channel with the payee.
//!
//! In: `pay`, `keysend`, `sendpay`; HTLCs that ended. Out: an HTLC and its record in one batch; the answer once the
//! payment is decided. A payment that does not fit at the moment (every slot taken, the peer away) waits for its
//! turn until `retry_for` runs out; it is then failed without an HTLC ever having been offered.
//! No hash is ever paid twice: a payment is complete, or pending, or may be tried again after it failed for good.
//! Read next: `receive`, `crate::onion`.

use crate::channel::htlc::Removal;
use crate::channel::ledger::Refusal;
use crate::channel::update::CannotOffer;
use crate::channel::Channel;
use crate::id::{ChannelId, CommandId, HtlcId, NodeId, PaymentHash, PaymentSecret, Preimage};
use crate::invoice::{self, Currency, Description};
use crate::node::command::{Command, Reply};
use crate::node::{view, Node};
use crate::onion::payload::Final;
use crate::onion::sphinx::build;
use crate::onion::{returned, Failure, SharedSecret};
use crate::record::{payment_key, put};
use crate::store::Change;
use crate::units::{Msat, Timestamp};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Blocks added to what the invoice asks for: one may be mined while the payment is on its way (BOLT 11).
const EXPIRY_SLACK_BLOCKS: u32 = 3;
/// The longest a payee may ask us to lock money up: two weeks.
const MAX_FINAL_CLTV_BLOCKS: u32 = 2_016;
/// Longest text kept with a payment.
const MAX_TEXT_BYTES: usize = 16_384;
/// Payments that may wait for their turn.
const MAX_QUEUED: usize = 10_000;

/// Error codes of Core Lightning's `pay`.
mod code {
    pub(super) const IN_PROGRESS: i32 = 200;
    pub(super) const DESTINATION_PERM_FAIL: i32 = 203;
    pub(super) const TRY_OTHER_ROUTE: i32 = 204;
    pub(super) const ROUTE_NOT_FOUND: i32 = 205;
    pub(super) const INVOICE_EXPIRED: i32 = 207;
    pub(super) const STOPPED_RETRYING: i32 = 210;
    pub(super) const PARAMS: i32 = -32_602;
}

/// What the last hop is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Final0 {
    Invoice { secret: PaymentSecret, metadata: Option<Vec<u8>> },
    Keysend { preimage: Preimage },
}

/// How far a payment has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Status {
    /// Waiting for a channel that can take it; no HTLC was offered.
    Queued,
    Pending {
        channel: ChannelId,
        htlc: u64,
        shared_secret: SharedSecret,
    },
    Complete {
        preimage: Preimage,
        at_s: u64,
    },
    Failed {
        code: i32,
        message: String,
        at_s: u64,
    },
}

/// One payment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payment {
    hash: PaymentHash,
    destination: NodeId,
    amount: Msat,
    total: Msat,
    final_cltv_blocks: u32,
    last: Final0,
    bolt11: Option<String>,
    label: Option<String>,
    description: Option<String>,
    created_index: u64,
    created_at_s: u64,
    retry_until: Timestamp,
    status: Status,
}

impl Payment {
    fn view(&self) -> view::Pay {
        let (status, completed_at_s, preimage, failure) = match &self.status {
            Status::Queued | Status::Pending { .. } => ("pending", None, None, None),
            Status::Complete { preimage, at_s } => ("complete", Some(*at_s), Some(preimage.clone()), None),
            Status::Failed { code, message, at_s } => {
                ("failed", Some(*at_s), None, Some((*code, message.clone())))
            }
        };
        view::Pay {
            payment_hash: self.hash,
            destination: Some(self.destination),
            bolt11: self.bolt11.clone(),
            label: self.label.clone(),
            description: self.description.clone(),
            status,
            amount_msat: self.amount,
            amount_sent_msat: self.amount,
            created_at_s: self.created_at_s,
            completed_at_s,
            preimage,
            created_index: self.created_index,
            parts: 1,
            failure,
        }
    }
}

/// Every payment, and who waits for one.
#[derive(Clone, Default)]
pub(super) struct Payments {
    by_hash: BTreeMap<PaymentHash, Payment>,
    by_index: BTreeMap<u64, PaymentHash>,
    by_htlc: BTreeMap<(ChannelId, u64), PaymentHash>,
    queue: VecDeque<PaymentHash>,
    payers: BTreeMap<PaymentHash, Vec<(CommandId, Wait)>>,
}

/// What a waiting command wants to hear.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Pay,
    SendPay(Option<Timestamp>),
}

/// What is to be paid.
struct Order {
    hash: PaymentHash,
    destination: NodeId,
    amount: Msat,
    total: Msat,
    final_cltv_blocks: u32,
    last: Final0,
    bolt11: Option<String>,
    label: Option<String>,
    description: Option<String>,
    retry_for_s: u64,
}

impl Payments {
    /// Takes a payment in from its record.
    pub(super) fn restore(&mut self, payment: Payment) {
        if let Status::Pending { channel, htlc, .. } = &payment.status {
            self.by_htlc.insert((*channel, *htlc), payment.hash);
        }
        self.by_index.insert(payment.created_index, payment.hash);
        self.by_hash.insert(payment.hash, payment);
    }
}

impl Payments {
    /// The record of every payment that is kept: one that only waits for its turn is not.
    pub(super) fn records(&self) -> impl Iterator<Item = Change> + '_ {
        let kept = self.by_hash.values().filter(|p| !matches!(p.status, Status::Queued));
        kept.map(|p| put(payment_key(&p.hash), p))
    }

    /// Adds what stands in no record: payments that wait for their turn, and who waits for an answer.
    pub(super) fn volatile(&self, bytes: &mut Vec<u8>) {
        let queued = self.by_hash.values().filter(|p| matches!(p.status, Status::Queued));
        bytes.extend(queued.flat_map(crate::record::encode));
        bytes.extend(format!("{:?}{:?}{:?}", self.queue, self.by_htlc, self.payers).into_bytes());
    }
}

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
        let with: Vec<&Channel> =
            self.channels.values().filter(|c| c.terms.peer == order.destination && c.wants_link()).collect();
        if with.is_empty() {
            let text =
                "no route: the payee is no peer with a channel to this node, and chand does not pay over \
                        several hops yet. No money moved";
            return Err((code::ROUTE_NOT_FOUND, text.into()));
        }
        let most = with.iter().map(|c| c.to_us().saturating_sub(c.terms.remote.reserve.to_msat())).max();
        if most.is_none_or(|m| order.amount > m) {
            let most = most.unwrap_or(Msat::ZERO);
            let text = format!(
                "no route: {} is more than any channel to the payee can send ({most} at most). No money moved",
                order.amount
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
            if stuck.contains(&payment.destination) {
                left.push_back(hash);
                continue;
            }
            match self.try_payment(hash) {
                Ok(()) => {}
                Err(Retry::Later(destination)) => {
                    stuck.push(destination);
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
        // BOLT 4 [4.last.2].
        let expiry = self.tip_height().plus(payment.final_cltv_blocks.saturating_add(EXPIRY_SLACK_BLOCKS));
        let mut refusal = None;
        let mut chosen = None;
        // BOLT 4 [4.packet.1].
        for channel in self.channels.values().filter(|c| c.terms.peer == payment.destination) {
            match channel.check_offer(payment.amount, expiry, Node::max_dust()) {
                Ok(()) => {
                    chosen = Some(channel.id());
                    break;
                }
                Err(why) => refusal = Some(why),
            }
        }
        let Some(channel) = chosen else { return Err(self.why_not(&payment, refusal)) };
        let last = match &payment.last {
            Final0::Invoice { secret, metadata } => {
                // BOLT 4 [4.write.10, 4.write.11, 4.write.12, 4.mpp.6, 4.last.1, 4.last.3].
                let mut last = Final::invoice(payment.amount, expiry, secret.clone(), payment.total);
                // BOLT 4 [4.write.13, 4.write.14].
                last.payment_metadata.clone_from(metadata);
                last
            }
            Final0::Keysend { preimage } => Final::keysend(payment.amount, expiry, preimage.clone()),
        };
        let session = self.entropy.secret_key();
        let hops = [(payment.destination.0, last.encode())];
        let built = build(&session, &hops, &hash.0, self.crypto.secp())
            .map_err(|e| Retry::Never(-1, format!("the onion could not be built: {e}")))?;
        let Some(shared_secret) = built.shared_secrets.first().cloned() else {
            return Err(Retry::Never(-1, "the onion has no hop".into()));
        };
        let onion = Box::new(built.packet);
        let offered = self.act(channel, |c, _, out| c.apply_offer(payment.amount, hash, expiry, onion, out));
        let Some(HtlcId { id: htlc, .. }) = offered else { return Ok(()) };
        self.payments.by_htlc.insert((channel, htlc), hash);
        self.set_status(hash, Status::Pending { channel, htlc, shared_secret });
        Ok(())
    }

    /// Why a payment cannot be offered now, and whether waiting helps.
    fn why_not(&self, payment: &Payment, refusal: Option<CannotOffer>) -> Retry {
        let wait = match refusal {
            None => return Retry::Never(code::ROUTE_NOT_FOUND, "no channel with the payee is left".into()),
            Some(CannotOffer::NotUsable) => Retry::Later(payment.destination),
            Some(CannotOffer::Refused(
                Refusal::TooMany { .. } | Refusal::TooMuchInFlight { .. } | Refusal::OpenerCannotPayFee,
            )) => Retry::Later(payment.destination),
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
        payment.status = status;
        let record = put(payment_key(&hash), payment);
        self.keep(record);
    }

    /// The secret came: the payment is complete, and kept before anybody is told.
    pub(super) fn on_fulfilled(&mut self, channel: ChannelId, id: HtlcId, preimage: Preimage) {
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
        let Some(hash) = self.payments.by_htlc.remove(&(channel, id.id)) else { return };
        let Some(Status::Pending { shared_secret, .. }) = self.payments.by_hash.get(&hash).map(|p| &p.status)
        else {
            return;
        };
        let failure = match removal {
            Removal::Failed(reason) => {
                returned::unwrap(core::slice::from_ref(shared_secret), &reason).map(|(_, failure)| failure)
            }
            Removal::Malformed { sha256_of_onion, failure_code } => {
                Failure::from_malformed(failure_code, sha256_of_onion)
            }
            Removal::Fulfilled(_) => return,
            Removal::OnChain => {
                let text = "the channel closed and the payee did not take the payment in time: the money is ours again";
                return self.end_payment(hash, code::TRY_OTHER_ROUTE, text.into());
            }
        };
        let (code, text) = match failure {
            None => (code::TRY_OTHER_ROUTE, "with a failure that cannot be read".into()),
            Some(f) if f.is_permanent() => {
                (code::DESTINATION_PERM_FAIL, format!("{} ({})", f.name(), explain(&f)))
            }
            Some(f) => (code::TRY_OTHER_ROUTE, format!("{} ({})", f.name(), explain(&f))),
        };
        self.end_payment(hash, code, format!("the payee gave the payment back: {text}. Nothing was paid"));
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

    /// `sendpay`: an explicit route, of one hop.
    fn send_pay(&mut self, id: CommandId, command: Command) {
        let Command::SendPay { route, payment_hash, payment_secret, amount_msat, label, bolt11 } = command
        else {
            return;
        };
        let [hop] = route.as_slice() else {
            return self.refuse(id, code::PARAMS, "route: exactly one hop for now");
        };
        let Some(secret) = payment_secret else {
            return self.refuse(id, code::PARAMS, "payment_secret: the payee needs it");
        };
        // BOLT 4 [4.mpp.4, 4.mpp.7]: one HTLC is the whole payment.
        if amount_msat.is_some_and(|total| total != hop.amount_msat) {
            return self.refuse(id, code::PARAMS, "amount_msat: must be what the one hop carries");
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

/// What a failure means, in words.
fn explain(failure: &Failure) -> &'static str {
    match failure {
        Failure::IncorrectOrUnknownPaymentDetails { .. } => {
            "the payee does not know this invoice, or amount, secret or expiry do not fit; perhaps it is paid already"
        }
        Failure::MppTimeout => "not all parts of the payment arrived in time",
        Failure::FinalIncorrectCltvExpiry { .. } | Failure::FinalIncorrectHtlcAmount { .. } => {
            "the HTLC was not what the onion said"
        }
        Failure::UnknownNextPeer => "the payee took itself for a node on the way",
        _ => "see BOLT 4 for this code",
    }
}
