//! Invoices: made, listed, waited for (BOLT 11).
//!
//! In: `invoice`, `holdinvoice` and their lists. Out: records; `receive` marks them paid.
//! Read next: `receive`.

use crate::channel::{Channel, Phase};
use crate::id::{ChannelId, CommandId, PaymentHash, Preimage, Side};
use crate::invoice::blinded::blinded_features;
use crate::invoice::{self, Currency, Description, NewInvoice, RouteHintHop};
use crate::node::command::{Command, InvoiceFilter, InvoiceRequest, Reply};
use crate::node::effect::Level;
use crate::node::forwards::Place;
use crate::node::paths::PathWish;
use crate::node::waits::{Event, Subsystem};
use crate::node::{view, Node};
use crate::onion::blind::PayPath;
use crate::record::{decode_grown, invoice_key, put, BadRecord};
use crate::store::Change;
use crate::units::{Msat, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A week, as Core Lightning's default.
const DEFAULT_EXPIRY_S: u64 = 604_800;
/// Core Lightning's code for an invoice whose hints cannot be made.
const NO_PATH: i32 = 902;
/// What who waits for a hold invoice is told when it is given back.
pub(super) const CANCELLED: (i32, &str) = (903, "the hold invoice was cancelled: nothing was paid");
/// Private channels that an invoice names at most.
const MAX_HINTS: usize = 3;
/// Core Lightning's limit on labels, and ours on descriptions that BOLT 11 can carry.
const MAX_LABEL_BYTES: usize = 1_024;
/// Longest description kept, when only its hash goes into the invoice.
const MAX_DESCRIPTION_BYTES: usize = 65_535;

/// A payment without invoice that is worth less is listed for as long as it is among the newest: whoever makes up such
/// payments pays next to nothing for a record that would stay for ever.
const SMALL_GIFT: Msat = Msat(1_000);
const MAX_SMALL_GIFTS: usize = 1_000;

/// Invoices whose expiry one step counts.
const MAX_EXPIRED: usize = 1_000;

/// How far an invoice has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Status {
    Unpaid,
    /// A hold invoice with its money here, waiting for the caller.
    Accepted,
    Paid {
        pay_index: u64,
        received: Msat,
        at_s: u64,
    },
    /// A hold invoice that the caller gave up.
    Cancelled,
}

/// One invoice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Invoice {
    pub(super) hash: PaymentHash,
    pub(super) label: String,
    pub(super) description: String,
    pub(super) bolt11: String,
    pub(super) secret: [u8; 32],
    /// Unknown to us while a hold invoice is open.
    pub(super) preimage: Option<Preimage>,
    pub(super) hold: bool,
    pub(super) amount: Option<Msat>,
    pub(super) expires_at_s: u64,
    pub(super) min_cltv_blocks: u32,
    pub(super) created_index: u64,
    pub(super) status: Status,
    /// It hides us behind blinded paths: it is paid over them and in no other way.
    pub(super) blinded: bool,
    /// The number of its newest change, 0 when there was none.
    pub(super) updated_index: u64,
    /// That it expired was counted as a change.
    pub(super) expiry_counted: bool,
    /// HTLCs of it that were counted as paid and that their payer took back on chain, with what they held.
    pub(super) lost: Vec<(Place, Msat)>,
}

impl Invoice {
    /// From its record, also from one of before changes were counted and losses noted, or there were blinded paths.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub(super) fn from_record(bytes: &[u8]) -> Result<Invoice, BadRecord> {
        let none: (u64, bool, Vec<(Place, Msat)>) = (0, false, Vec::new());
        decode_grown(bytes, &none).or_else(|_| decode_grown(bytes, &(false, none)))
    }

    /// The number of the payment, when nobody asked for it and it was worth next to nothing.
    fn small_gift(&self) -> Option<u64> {
        match self.status {
            Status::Paid { pay_index, received, .. } if self.bolt11.is_empty() && received < SMALL_GIFT => {
                Some(pay_index)
            }
            _ => None,
        }
    }

    pub(super) fn view(&self, now: Timestamp) -> view::Invoice {
        let expired = now.seconds() > self.expires_at_s;
        let (status, hold) = match self.status {
            Status::Unpaid if expired => ("expired", "open"),
            Status::Unpaid => ("unpaid", "open"),
            Status::Accepted => ("unpaid", "accepted"),
            Status::Paid { .. } => ("paid", "settled"),
            Status::Cancelled => ("expired", "cancelled"),
        };
        let paid = match self.status {
            Status::Paid { pay_index, received, at_s } => Some((pay_index, received, at_s)),
            _ => None,
        };
        view::Invoice {
            label: self.label.clone(),
            bolt11: self.bolt11.clone(),
            payment_hash: self.hash,
            payment_secret: self.secret,
            amount_msat: self.amount,
            status,
            hold: self.hold.then_some(hold),
            description: self.description.clone(),
            expires_at_s: self.expires_at_s,
            created_index: self.created_index,
            updated_index: (self.updated_index > 0).then_some(self.updated_index),
            pay_index: paid.map(|p| p.0),
            amount_received_msat: paid.map(|p| p.1),
            paid_at_s: paid.map(|p| p.2),
            preimage: paid.and(self.preimage.clone()),
            lost: (!self.lost.is_empty())
                .then(|| self.lost.iter().fold(Msat::ZERO, |sum, (_, amount)| sum.saturating_add(*amount))),
        }
    }
}

/// Every invoice, and who waits for one.
#[derive(Clone, Default)]
pub(super) struct Invoices {
    pub(super) by_hash: BTreeMap<PaymentHash, Invoice>,
    pub(super) by_label: BTreeMap<String, PaymentHash>,
    /// In the order they were paid.
    pub(super) by_pay_index: BTreeMap<u64, PaymentHash>,
    pub(super) by_created: BTreeMap<u64, PaymentHash>,
    /// Those that may still expire, by the second after which they have.
    by_expiry: BTreeSet<(u64, PaymentHash)>,
    /// Small payments that nobody asked for, by their `pay_index`.
    small_gifts: BTreeSet<u64>,
    pub(super) sets: BTreeMap<PaymentHash, super::receive::Set>,
    waiting: Vec<(CommandId, PaymentHash, Timestamp)>,
    waiting_any: Vec<(CommandId, u64, Option<Timestamp>)>,
}

impl Invoices {
    pub(super) fn insert(&mut self, invoice: Invoice) {
        if let Status::Paid { pay_index, .. } = invoice.status {
            self.by_pay_index.insert(pay_index, invoice.hash);
        }
        self.small_gifts.extend(invoice.small_gift());
        self.by_label.insert(invoice.label.clone(), invoice.hash);
        self.by_created.insert(invoice.created_index, invoice.hash);
        if invoice.status == Status::Unpaid && !invoice.expiry_counted {
            self.by_expiry.insert((invoice.expires_at_s, invoice.hash));
        }
        self.by_hash.insert(invoice.hash, invoice);
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let one = self.waiting.iter().map(|w| w.2).min();
        let any = self.waiting_any.iter().filter_map(|w| w.2).min();
        [one, any].into_iter().flatten().min()
    }

    /// The clock at which the next one has expired.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let (at_s, _) = self.by_expiry.first()?;
        Some(Timestamp(at_s.saturating_add(1).saturating_mul(1_000)))
    }

    /// Nobody waits for these answers any more.
    pub(super) fn forget_waiters(&mut self, gone: &[CommandId]) {
        self.waiting.retain(|(id, _, _)| !gone.contains(id));
        self.waiting_any.retain(|(id, _, _)| !gone.contains(id));
    }

    /// Adds what stands in no record: parts that are here, and who waits for an answer.
    pub(super) fn volatile(&self, bytes: &mut Vec<u8>) {
        bytes.extend(format!("{:?}{:?}{:?}", self.sets, self.waiting, self.waiting_any).into_bytes());
    }
}

impl Node {
    /// `invoice`, `listinvoices` and their kin.
    pub(super) fn on_invoice_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::Invoice(request) => match self.make_invoice(request) {
                Ok(invoice) => self.reply(id, Ok(Reply::Invoice(invoice))),
                Err((code, text)) => self.refuse(id, code, text),
            },
            Command::ListInvoices(filter) => {
                let list = self.list_invoices(&filter);
                self.reply(id, Ok(Reply::Invoices(list)));
            }
            Command::DelInvoice { label, status } => self.delete_invoice(id, &label, &status),
            Command::WaitInvoice { label } => self.wait_invoice(id, &label),
            Command::WaitAnyInvoice { lastpay_index, timeout_s } => {
                self.wait_any(id, lastpay_index, timeout_s)
            }
            Command::SettleInvoice { preimage } => self.settle_invoice(id, preimage),
            Command::CancelInvoice { payment_hash } => self.cancel_invoice(id, payment_hash),
            _ => self.refuse(id, -32603, "internal: not an invoice command"),
        }
    }

    fn make_invoice(&mut self, r: InvoiceRequest) -> Result<view::Invoice, (i32, String)> {
        if r.label.len() > MAX_LABEL_BYTES {
            return Err((-32602, format!("label: at most {MAX_LABEL_BYTES} bytes")));
        }
        if r.description.len() > MAX_DESCRIPTION_BYTES {
            return Err((-32602, format!("description: at most {MAX_DESCRIPTION_BYTES} bytes")));
        }
        if self.invoices.by_label.contains_key(&r.label) {
            return Err((900, "an invoice with this label exists already: choose another".into()));
        }
        if r.amount_msat == Some(Msat::ZERO) {
            return Err((-32602, "amount_msat: must be more than zero, or \"any\"".into()));
        }
        let preimage = match (&r.hold, r.preimage.clone()) {
            (Some(_), _) => None,
            (None, Some(given)) => Some(given),
            (None, None) => Some(Preimage(self.entropy.bytes32())),
        };
        // BOLT 11 [11.write.3].
        let hash = match (&r.hold, &preimage) {
            (Some(hash), _) => *hash,
            (None, Some(preimage)) => preimage.hash(),
            (None, None) => return Err((-32603, "internal: no preimage".into())),
        };
        if self.invoices.by_hash.contains_key(&hash) {
            return Err((901, "an invoice with this payment_hash exists already".into()));
        }
        let least_blocks = self.config.claim_margin_blocks().saturating_add(1);
        if r.cltv_blocks.is_some_and(|blocks| blocks < least_blocks) {
            let text = format!(
                "cltv: at least {least_blocks} blocks, or there would be no time to take it on chain"
            );
            return Err((-32602, text));
        }
        let secret = self.entropy.bytes32();
        let expiry_s = r.expiry_s.unwrap_or(DEFAULT_EXPIRY_S);
        let min_cltv_blocks = r.cltv_blocks.unwrap_or(self.config.cltv_final_blocks);
        let description = if r.description_hash_only {
            Description::Hash(crate::id::sha256(r.description.as_bytes()))
        } else {
            Description::Text(r.description.clone())
        };
        let now_s = self.wall().seconds();
        let blinded_paths = self.hide(&r, secret, expiry_s, min_cltv_blocks)?;
        let blinded = r.blinded.is_some();
        let new = NewInvoice {
            currency: Currency::of(self.config.network),
            amount: r.amount_msat,
            payment_hash: hash,
            payment_secret: crate::id::PaymentSecret(secret),
            description,
            expiry_s,
            // BOLT 11 [11.write.8].
            min_final_cltv_blocks: min_cltv_blocks,
            timestamp_s: now_s,
            features: if blinded { blinded_features() } else { invoice::our_features() },
            payment_metadata: None,
            route_hints: if blinded { Vec::new() } else { self.route_hints(r.expose_private) },
            blinded_paths,
        };
        // Signed with its own key the node would be named.
        let key = if blinded { self.entropy.secret_key() } else { *self.keys.node_secret() };
        let bolt11 = invoice::make(&new, &key, self.crypto.secp()).map_err(|e| (-32602, format!("{e}")))?;
        let invoice = Invoice {
            hash,
            label: r.label,
            description: r.description,
            bolt11,
            secret,
            preimage,
            hold: r.hold.is_some(),
            amount: r.amount_msat,
            expires_at_s: now_s.saturating_add(expiry_s),
            min_cltv_blocks,
            created_index: self.count(Subsystem::Invoices, Event::Created),
            status: Status::Unpaid,
            blinded,
            updated_index: 0,
            expiry_counted: false,
            lost: Vec::new(),
        };
        self.keep(put(invoice_key(&hash), &invoice));
        let view = invoice.view(self.wall());
        self.invoices.insert(invoice);
        self.tell_invoice(Event::Created, view.created_index, hash);
        Ok(view)
    }

    /// The paths of an invoice that is to hide us; none for any other.
    fn hide(
        &mut self,
        r: &InvoiceRequest,
        path_id: [u8; 32],
        expiry_s: u64,
        min_final_cltv_blocks: u32,
    ) -> Result<Vec<PayPath>, (i32, String)> {
        let Some(policies) = &r.blinded else { return Ok(Vec::new()) };
        let paths = self.blinded_paths(&PathWish { path_id, expiry_s, min_final_cltv_blocks, policies });
        if paths.is_empty() {
            let text =
                "blinded: no peer that is connected now knows blinded paths and has said what it asks for \
                        payments to this node";
            return Err((NO_PATH, text.into()));
        }
        Ok(paths)
    }

    /// Ways to this node over channels that are not public, those with most room first (BOLT 11, field `r`): when there is
    /// no public one, or as the user says. Of a peer who did not say what it asks there is nothing to tell.
    fn route_hints(&self, wanted: Option<bool>) -> Vec<Vec<RouteHintHop>> {
        let open = || self.channels.values().filter(|c| c.phase == Phase::Open);
        if !wanted.unwrap_or_else(|| open().all(|c| !c.announce.is_public())) {
            return Vec::new();
        }
        // BOLT 11 [11.write.12, 11.write.13].
        let hint = |c: &Channel| {
            let update = c.announce.peer_update().filter(|update| !update.disabled)?;
            let hop = RouteHintHop {
                node_id: c.terms.peer,
                // BOLT 2 [2.ready.9].
                short_channel_id: c.name_at_peer()?,
                fee_base_msat: update.base_msat,
                fee_proportional_millionths: update.ppm,
                cltv_expiry_delta_blocks: update.delta_blocks,
            };
            Some((c.ledger.spendable(&c.terms, Side::Remote), hop))
        };
        let mut hints: Vec<_> = open().filter(|c| !c.announce.is_public()).filter_map(hint).collect();
        hints.sort_by_key(|(room, hop)| (core::cmp::Reverse(*room), hop.short_channel_id));
        hints.into_iter().take(MAX_HINTS).map(|(_, hop)| alloc::vec![hop]).collect()
    }

    fn list_invoices(&self, filter: &InvoiceFilter) -> Vec<view::Invoice> {
        let all = &self.invoices;
        let one = match filter {
            InvoiceFilter { label: Some(label), .. } => Some(all.by_label.get(label).copied()),
            InvoiceFilter { payment_hash: Some(hash), .. } => Some(Some(*hash)),
            InvoiceFilter { bolt11: Some(text), .. } => {
                Some(invoice::parse(text, self.crypto.secp()).ok().map(|i| i.payment_hash))
            }
            _ => None,
        };
        match one {
            Some(hash) => {
                hash.and_then(|h| all.by_hash.get(&h)).map(|i| i.view(self.wall())).into_iter().collect()
            }
            None => all
                .by_created
                .values()
                .filter_map(|h| all.by_hash.get(h))
                .map(|i| i.view(self.wall()))
                .collect(),
        }
    }

    fn labelled(&self, label: &str) -> Option<&Invoice> {
        self.invoices.by_hash.get(self.invoices.by_label.get(label)?)
    }

    fn delete_invoice(&mut self, id: CommandId, label: &str, status: &str) {
        let Some(invoice) = self.labelled(label) else {
            return self.refuse(id, 905, "no invoice with this label");
        };
        let view = invoice.view(self.wall());
        if view.status != status {
            return self.refuse(id, 906, format!("the invoice is {}, not {status}", view.status));
        }
        if self.invoices.sets.contains_key(&view.payment_hash) {
            return self.refuse(id, 906, "money for this invoice has arrived: settle or cancel it first");
        }
        let hash = view.payment_hash;
        self.forget_invoice(hash);
        self.tell_unpaid(&hash, (-1, "the invoice was deleted: nothing was paid"));
        self.reply(id, Ok(Reply::Invoice(view)));
    }

    fn forget_invoice(&mut self, hash: PaymentHash) {
        let number = self.count(Subsystem::Invoices, Event::Deleted);
        self.tell_invoice(Event::Deleted, number, hash);
        let Some(invoice) = self.invoices.by_hash.remove(&hash) else { return };
        self.invoices.by_expiry.remove(&(invoice.expires_at_s, hash));
        self.invoices.by_label.remove(&invoice.label);
        self.invoices.by_created.remove(&invoice.created_index);
        if let Status::Paid { pay_index, .. } = invoice.status {
            self.invoices.by_pay_index.remove(&pay_index);
            self.invoices.small_gifts.remove(&pay_index);
        }
        self.keep(Change::Delete { key: invoice_key(&hash) });
    }

    /// A payment came: when nobody asked for it and it was small, the oldest such one may be forgotten for it.
    pub(super) fn note_gift(&mut self, hash: &PaymentHash) {
        let small = self.invoices.by_hash.get(hash).and_then(Invoice::small_gift);
        self.invoices.small_gifts.extend(small);
        while self.invoices.small_gifts.len() > MAX_SMALL_GIFTS {
            let Some(oldest) = self.invoices.small_gifts.pop_first() else { return };
            if let Some(hash) = self.invoices.by_pay_index.get(&oldest).copied() {
                self.forget_invoice(hash);
            }
        }
    }

    fn wait_invoice(&mut self, id: CommandId, label: &str) {
        let now = self.wall();
        let Some(invoice) = self.labelled(label) else {
            return self.refuse(id, -1, "no invoice with this label");
        };
        let (view, hash) = (invoice.view(now), invoice.hash);
        let left_ms = invoice.expires_at_s.saturating_add(1).saturating_mul(1_000).saturating_sub(now.0);
        let until = self.now.plus_ms(left_ms);
        match view.status {
            "paid" => self.reply(id, Ok(Reply::Invoice(view))),
            "expired" if invoice.status == Status::Cancelled => self.refuse(id, CANCELLED.0, CANCELLED.1),
            "expired" => self.refuse(id, 903, "the invoice expired unpaid"),
            _ => self.invoices.waiting.push((id, hash, until)),
        }
    }

    fn wait_any(&mut self, id: CommandId, after: u64, timeout_s: Option<u64>) {
        let next = self.invoices.by_pay_index.range(after.saturating_add(1)..).next().map(|(_, h)| *h);
        match next.and_then(|h| self.invoices.by_hash.get(&h)) {
            Some(invoice) => {
                let view = invoice.view(self.wall());
                self.reply(id, Ok(Reply::Invoice(view)));
            }
            None => {
                let until = timeout_s.map(|s| self.now.plus_ms(s.saturating_mul(1_000)));
                self.invoices.waiting_any.push((id, after, until));
            }
        }
    }

    /// Its status is another one: keeps it with the number of that change, and tells who waits for that.
    pub(super) fn keep_changed_invoice(&mut self, hash: PaymentHash) {
        if !self.invoices.by_hash.contains_key(&hash) {
            return;
        }
        let number = self.count(Subsystem::Invoices, Event::Updated);
        let Some(invoice) = self.invoices.by_hash.get_mut(&hash) else { return };
        invoice.updated_index = number;
        let (expiry, record) = ((invoice.expires_at_s, hash), put(invoice_key(&hash), invoice));
        // Only an unpaid one expires; when a payment that was held is given back, the invoice is over, too.
        self.invoices.by_expiry.remove(&expiry);
        self.keep(record);
        self.tell_invoice(Event::Updated, number, hash);
    }

    /// Counts what has expired. So that a long absence costs no long step, a number of them at a time.
    fn count_expired(&mut self) {
        for _ in 0..MAX_EXPIRED {
            let Some((at_s, hash)) = self.invoices.by_expiry.first().copied() else { return };
            if self.wall().seconds() <= at_s {
                return;
            }
            self.invoices.by_expiry.remove(&(at_s, hash));
            if let Some(invoice) = self.invoices.by_hash.get_mut(&hash) {
                invoice.expiry_counted = true;
                self.keep_changed_invoice(hash);
            }
        }
    }

    /// The chain gave an HTLC back to its payer whose preimage we had shown: what its invoice got is less by that.
    pub(super) fn lose_received(&mut self, place: Place) {
        let watch = self.channels.get(&place.channel).and_then(|c| c.watch.as_ref());
        let mut locks = watch.iter().flat_map(|w| &w.outputs).filter_map(|o| o.lock.as_ref());
        let Some(lock) = locks.find(|l| l.id.offered_by == Side::Remote && l.id.id == place.htlc) else {
            return;
        };
        let (hash, amount) = (lock.payment_hash, lock.amount);
        let Some(invoice) = self.invoices.by_hash.get_mut(&hash) else { return };
        let paid = matches!(invoice.status, Status::Paid { .. });
        if !paid || invoice.lost.iter().any(|(known, _)| *known == place) {
            return;
        }
        invoice.lost.push((place, amount));
        let text = format!(
            "HTLC {} of paid invoice {:?} cannot be taken any more: its payer took it back on chain. {amount} are lost",
            place.htlc, invoice.label
        );
        self.keep_changed_invoice(hash);
        self.notice(Level::Error, text);
    }

    /// A block left the chain that may have held the end of such an HTLC: what is still lost is noted again.
    pub(super) fn receive_undone(&mut self, channel: ChannelId) {
        let watch = self.channels.get(&channel).and_then(|c| c.watch.as_ref());
        let outputs = watch.iter().flat_map(|w| &w.outputs).filter(|o| o.spent.is_none());
        let open: Vec<u64> = outputs.filter_map(|o| o.lock.as_ref()).map(|lock| lock.id.id).collect();
        let undone = |place: &Place| place.channel == channel && open.contains(&place.htlc);
        let mut changes = Vec::new();
        for (hash, invoice) in &mut self.invoices.by_hash {
            if invoice.lost.iter().any(|(place, _)| undone(place)) {
                invoice.lost.retain(|(place, _)| !undone(place));
                changes.push(put(invoice_key(hash), invoice));
            }
        }
        self.out.changes.extend(changes);
    }

    /// An invoice was paid: tells who waits.
    pub(super) fn tell_paid(&mut self, hash: &PaymentHash) {
        let Some(invoice) = self.invoices.by_hash.get(hash) else { return };
        let view = invoice.view(self.wall());
        let index = view.pay_index.unwrap_or(0);
        let mut told = Vec::new();
        self.invoices.waiting.retain(|(id, h, _)| {
            h != hash || {
                told.push(*id);
                false
            }
        });
        self.invoices.waiting_any.retain(|(id, after, _)| {
            *after >= index || {
                told.push(*id);
                false
            }
        });
        for id in told {
            self.reply(id, Ok(Reply::Invoice(view.clone())));
        }
    }

    /// An invoice will not be paid any more: tells who waits, with a code and words.
    pub(super) fn tell_unpaid(&mut self, hash: &PaymentHash, why: (i32, &str)) {
        let waiting = self.invoices.waiting.extract_if(.., |(_, h, _)| h == hash);
        for id in waiting.map(|(id, _, _)| id).collect::<Vec<_>>() {
            self.refuse(id, why.0, why.1);
        }
    }

    pub(super) fn invoice_timers(&mut self) {
        self.count_expired();
        let now = self.now;
        let (mut expired, mut late) = (Vec::new(), Vec::new());
        let held = &self.invoices.sets;
        self.invoices.waiting.retain(|(id, h, at)| {
            *at > now || held.contains_key(h) || {
                expired.push(*id);
                false
            }
        });
        self.invoices.waiting_any.retain(|(id, _, at)| {
            at.is_none_or(|at| at > now) || {
                late.push(*id);
                false
            }
        });
        for id in expired {
            self.refuse(id, 903, "the invoice expired unpaid");
        }
        for id in late {
            self.refuse(id, 904, "no invoice was paid in that time");
        }
    }
}
