//! Being paid: HTLCs that are locked in and end here (BOLT 4, "Requirements for the final node").
//!
//! In: an HTLC with its onion. Out: its preimage, once all parts of the payment are here; or a failure for the payer.
//! The invoice is marked paid in the very batch that releases the preimage. A hold invoice waits for the user, and
//! is given back in time if its expiry comes near.
//! Read next: `unblind`, `crate::onion`.

use crate::channel::htlc::Removal;
use crate::channel::{Channel, Phase};
use crate::id::{ChannelId, CommandId, HtlcId, PaymentHash, Preimage};
use crate::node::command::Reply;
use crate::node::effect::Level;
use crate::node::forwards::Place;
use crate::node::invoices::{Invoice, Status};
use crate::node::unblind::{Aim, Back};
use crate::node::waits::{Event, Subsystem};
use crate::node::Node;
use crate::onion::payload::Final;
use crate::onion::Failure;
use crate::units::{Height, Msat, Timestamp};
use alloc::format;
use alloc::vec::Vec;

/// How long the other parts of a payment may take (BOLT 4: SHOULD wait at least 60 seconds).
const MPP_TIMEOUT_MS: u64 = 60_000;
/// The age, in seconds, of a tip that is no tip any more: three block intervals.
const OLD_TIP_S: u64 = 1_800;
/// Parts that one payment may have.
const MAX_PARTS: usize = 483;

/// One part of a payment.
#[derive(Clone, Copy, Debug)]
struct Part {
    channel: ChannelId,
    htlc: u64,
    amount: Msat,
    expiry: Height,
}

/// The parts of one payment that are here.
#[derive(Clone, Debug)]
pub(super) struct Set {
    parts: Vec<Part>,
    total: Msat,
    deadline: Timestamp,
    complete: bool,
}

/// What to do with an HTLC.
enum Judgement {
    Hold { total: Msat },
    Fail(Failure),
}

impl Node {
    /// An HTLC of the peer is locked in.
    pub(super) fn on_locked_in(&mut self, channel: ChannelId, id: HtlcId) {
        let Some((htlc, onion)) = self
            .channels
            .get(&channel)
            // Of a channel that is closed it can no longer be taken: its invoice is not paid by it. One that waits for the user
            // may still be settled on chain.
            .filter(|c| match &c.phase {
                Phase::Closed(_) => false,
                Phase::Onchain(_) => self.is_held(c, id),
                _ => true,
            })
            .and_then(|c| c.htlc(id))
            .filter(|h| h.is_settleable())
            .and_then(|h| Some((h.clone(), h.onion.clone()?)))
        else {
            return;
        };
        if self.is_chain_old() {
            // Against an old tip an HTLC that expired long ago would look safe: looked at again when blocks are read.
            self.parked.push((channel, id));
            return;
        }
        // Looked at again after a start: what went on already waits for its end, whatever would be said of it today.
        if self.forwards.is_under_way(Place { channel, htlc: id.id }) {
            return;
        }
        let (peeled, back) = match self.peel_htlc(&htlc, &onion) {
            Ok(opened) => opened,
            Err(removal) => return self.settle(channel, id.id, removal),
        };
        let risky = self
            .channels
            .get(&channel)
            .is_some_and(|c| c.ledger.is_dust_too_many(&c.terms, &htlc, Node::max_dust()));
        let full = Failure::TemporaryChannelFailure { channel_update: Vec::new() };
        match self.aim_of(&htlc, peeled) {
            Err(failure) => self.fail_back(channel, id.id, &back, &failure),
            Ok(_) if risky => self.fail_back(channel, id.id, &back, &full),
            Ok(Aim::Onward { .. }) if self.is_draining() => self.fail_back(channel, id.id, &back, &full),
            // BOLT 4 [4.read.22, 4.peel.11].
            Ok(aim @ Aim::Onward { .. }) => self.forward(channel, &htlc, aim, &back),
            Ok(Aim::Here { payload, blinded }) => {
                let part = Part { channel, htlc: id.id, amount: htlc.amount, expiry: htlc.cltv_expiry };
                match self.judge(&part, htlc.payment_hash, &payload, blinded) {
                    Judgement::Hold { total } => self.add_part(htlc.payment_hash, part, total),
                    Judgement::Fail(failure) => self.fail_back(channel, id.id, &back, &failure),
                }
            }
        }
    }

    /// Every check of the final node. What is wrong with the invoice is one and the same failure, so that nobody
    /// can probe for invoices (BOLT 4).
    ///
    /// `blinded`: it came over a blinded path, whose id stands in the place of the secret.
    fn judge(&mut self, part: &Part, hash: PaymentHash, payload: &Final, blinded: bool) -> Judgement {
        // BOLT 4 [4.mpp.8].
        let height = self.tip_height();
        let unknown =
            || Judgement::Fail(Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: part.amount, height });
        // BOLT 4 [4.read.16, 4.read.27, 4.fail.18].
        if payload.outgoing_cltv_value > part.expiry {
            return Judgement::Fail(Failure::FinalIncorrectCltvExpiry { cltv_expiry: part.expiry });
        }
        // BOLT 4 [4.read.26, 4.fail.19].
        if payload.amt_to_forward > part.amount {
            return Judgement::Fail(Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt: part.amount });
        }
        if let (Some(preimage), None) = (&payload.keysend_preimage, self.invoices.by_hash.get(&hash)) {
            if preimage.hash() != hash || part.expiry.since(height) < self.config.cltv_final_blocks {
                return unknown();
            }
            self.make_keysend_invoice(hash, preimage.clone(), part.amount);
            return Judgement::Hold { total: part.amount };
        }
        // BOLT 4 [4.mpp.13, 4.fail.14, 4.fail.15].
        let (Some(invoice), Some(data)) = (self.invoices.by_hash.get(&hash), &payload.payment_data) else {
            return unknown();
        };
        let open = match invoice.status {
            // Money for an expired hold invoice that is here already stays.
            Status::Accepted => true,
            Status::Unpaid => self.wall().seconds() <= invoice.expires_at_s,
            Status::Paid { .. } | Status::Cancelled => false,
        };
        // Every byte is looked at: the time taken tells nothing of the secret.
        // BOLT 4 [4.fail.10].
        let same = invoice.secret.iter().zip(&data.payment_secret.0).fold(0u8, |acc, (a, b)| acc | (a ^ b));
        let total = data.total_msat;
        // "less than the amount expected", "more than twice the amount expected" (BOLT 4).
        // BOLT 4 [4.read.15, 4.fail.12].
        let fits = invoice.amount.is_none_or(|want| total >= want && total.0 - want.0 <= want.0);
        // What was accepted once is not judged late when it is looked at again after a restart.
        // BOLT 2, 4 [2.expiry.5, 4.read.17, 4.read.28, 4.fail.16].
        let late = invoice.status != Status::Accepted && part.expiry.since(height) < invoice.min_cltv_blocks;
        // An invoice that hides us is paid over its paths only, and any other over none: who tries whether we are the node
        // behind a path learns nothing.
        // BOLT 4 [4.blind.21, 4.fail.11, 4.fail.13, 4.fail.17].
        if !open || same != 0 || invoice.blinded != blinded || !fits || late || total == Msat::ZERO {
            return unknown();
        }
        Judgement::Hold { total }
    }

    /// A payment without invoice: one is made up, so that it is listed like any other.
    fn make_keysend_invoice(&mut self, hash: PaymentHash, preimage: Preimage, amount: Msat) {
        let created_index = self.count(Subsystem::Invoices, Event::Created);
        let invoice = Invoice {
            hash,
            label: format!("keysend-{hash}"),
            description: "keysend".into(),
            bolt11: alloc::string::String::new(),
            secret: [0; 32],
            preimage: Some(preimage),
            hold: false,
            amount: Some(amount),
            expires_at_s: self.wall().seconds(),
            min_cltv_blocks: self.config.cltv_final_blocks,
            created_index,
            status: Status::Unpaid,
            blinded: false,
            updated_index: 0,
            expiry_counted: false,
        };
        self.invoices.insert(invoice);
        self.tell_invoice(Event::Created, created_index, hash);
    }

    fn add_part(&mut self, hash: PaymentHash, part: Part, total: Msat) {
        let deadline = self.now.plus_ms(MPP_TIMEOUT_MS);
        let set = self.invoices.sets.entry(hash).or_insert_with(|| Set {
            parts: Vec::new(),
            total,
            deadline,
            complete: false,
        });
        // Two payers of one invoice cannot be told apart: their parts make up one set, which is taken as soon as it is whole,
        // and never for more than twice what was asked for. What would go beyond that goes back alone.
        let asked = self.invoices.by_hash.get(&hash).and_then(|invoice| invoice.amount).unwrap_or(total);
        let sum = Msat::checked_sum(set.parts.iter().map(|p| p.amount))
            .and_then(|sum| sum.checked_add(part.amount));
        let sum = sum.filter(|sum| sum.0.saturating_sub(asked.0) <= asked.0);
        let open = set.total == total && !set.complete && set.parts.len() < MAX_PARTS;
        let Some(sum) = sum.filter(|_| open) else {
            // A set that was begun by nothing but this is none.
            if set.parts.is_empty() {
                self.invoices.sets.remove(&hash);
            }
            let height = self.tip_height();
            let failure = Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: part.amount, height };
            return self.fail_part(&part, &failure);
        };
        // BOLT 4 [4.mpp.10].
        set.parts.push(part);
        // BOLT 4 [4.mpp.11].
        if sum >= total {
            set.complete = true;
            self.complete(hash, sum);
        }
    }

    /// All parts are here.
    fn complete(&mut self, hash: PaymentHash, sum: Msat) {
        let Some(invoice) = self.invoices.by_hash.get_mut(&hash) else { return };
        match invoice.preimage.clone() {
            Some(preimage) => self.take_money(hash, &preimage, sum),
            None => {
                if invoice.status != Status::Accepted {
                    invoice.status = Status::Accepted;
                    self.keep_changed_invoice(hash);
                    self.notice(
                        Level::Info,
                        format!("the money for hold invoice {hash} is here: settle or cancel it"),
                    );
                }
            }
        }
    }

    /// Releases the preimage and marks the invoice paid, in one batch.
    fn take_money(&mut self, hash: PaymentHash, preimage: &Preimage, sum: Msat) {
        let Some(set) = self.invoices.sets.remove(&hash) else { return };
        // BOLT 4 [4.mpp.14].
        for part in &set.parts {
            self.settle(part.channel, part.htlc, Removal::Fulfilled(preimage.clone()));
        }
        let (pay_index, at_s) = (self.counters.next_pay(), self.wall().seconds());
        let Some(invoice) = self.invoices.by_hash.get_mut(&hash) else { return };
        invoice.preimage = Some(preimage.clone());
        invoice.status = Status::Paid { pay_index, received: sum, at_s };
        self.invoices.by_pay_index.insert(pay_index, hash);
        self.keep_changed_invoice(hash);
        self.tell_paid(&hash);
    }

    /// `settleinvoice`.
    pub(super) fn settle_invoice(&mut self, id: CommandId, preimage: Preimage) {
        let hash = preimage.hash();
        let Some(invoice) = self.invoices.by_hash.get(&hash).filter(|i| i.hold) else {
            return self.refuse(id, 905, "no hold invoice has this hash");
        };
        match invoice.status {
            Status::Paid { .. } => {}
            Status::Accepted => {
                let sum = self.invoices.sets.get(&hash).filter(|s| s.complete && self.can_settle(s));
                let sum = sum.and_then(|s| {
                    // All of it: a part may have gone with its channel meanwhile.
                    let here = Msat::checked_sum(s.parts.iter().map(|p| p.amount))?;
                    (here >= s.total).then_some(here)
                });
                let Some(sum) = sum else {
                    return self.refuse(id, 906, "the money is not here (any more): nothing was settled");
                };
                self.take_money(hash, &preimage, sum);
            }
            Status::Unpaid | Status::Cancelled => {
                return self.refuse(id, 906, "no money has come for this hold invoice, or it was cancelled");
            }
        }
        if let Some(invoice) = self.invoices.by_hash.get(&hash) {
            let view = invoice.view(self.wall());
            self.reply(id, Ok(Reply::Invoice(view)));
        }
    }

    fn can_settle(&self, set: &Set) -> bool {
        set.parts.iter().all(|p| {
            let id = HtlcId { offered_by: crate::id::Side::Remote, id: p.htlc };
            self.channels.get(&p.channel).is_some_and(|c| match &c.phase {
                Phase::Closed(_) => false,
                Phase::Onchain(_) => c.can_claim(id, self.tip_height()),
                _ => c.htlc(id).is_some_and(|h| h.is_settleable()),
            })
        })
    }

    /// `cancelinvoice`.
    pub(super) fn cancel_invoice(&mut self, id: CommandId, hash: PaymentHash) {
        let Some(invoice) = self.invoices.by_hash.get(&hash).filter(|i| i.hold) else {
            return self.refuse(id, 905, "no hold invoice has this hash");
        };
        if matches!(invoice.status, Status::Paid { .. }) {
            return self.refuse(id, 906, "the invoice is settled already: the money is ours");
        }
        self.give_back(hash);
        if let Some(invoice) = self.invoices.by_hash.get(&hash) {
            let view = invoice.view(self.wall());
            self.reply(id, Ok(Reply::Invoice(view)));
        }
    }

    /// Fails all parts of a hold invoice and closes it.
    fn give_back(&mut self, hash: PaymentHash) {
        let height = self.tip_height();
        let set = self.invoices.sets.remove(&hash);
        for part in set.iter().flat_map(|s| &s.parts) {
            let failure = Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: part.amount, height };
            self.fail_part(part, &failure);
        }
        // An ordinary invoice, of which only a part had come, can still be paid.
        let open = |i: &&mut Invoice| i.hold && i.status != Status::Cancelled;
        if let Some(invoice) = self.invoices.by_hash.get_mut(&hash).filter(open) {
            invoice.status = Status::Cancelled;
            self.keep_changed_invoice(hash);
        }
    }

    fn settle(&mut self, channel: ChannelId, id: u64, removal: Removal) {
        let name = HtlcId { offered_by: crate::id::Side::Remote, id };
        let on_chain = self.channels.get(&channel).is_some_and(|c| matches!(c.phase, Phase::Onchain(_)));
        match removal {
            Removal::Fulfilled(preimage) if on_chain => {
                if let Some(Err(fault)) =
                    self.act(channel, |c, cx, out| c.settle_late(name, preimage, cx, out))
                {
                    self.local_fault(channel, &fault);
                }
            }
            removal => {
                self.act(channel, |c, _, out| c.settle(id, removal, out));
            }
        }
    }

    pub(super) fn fail_back(&mut self, channel: ChannelId, id: u64, back: &Back, failure: &Failure) {
        if let Some(peer) = self.channels.get(&channel).map(|c| c.terms.peer) {
            let text = format!("HTLC {id} given back: {}", failure.name());
            self.notice_about(Level::Debug, text, peer, Some(channel));
        }
        self.settle(channel, id, back.failed(failure));
    }

    /// Fails a part that was held: its onion is peeled again for the key.
    fn fail_part(&mut self, part: &Part, failure: &Failure) {
        if let Some(back) = self.back_of(Place { channel: part.channel, htlc: part.htlc }) {
            self.fail_back(part.channel, part.htlc, &back, failure);
        }
    }

    /// An HTLC on chain that our user may still settle.
    fn is_held(&self, channel: &Channel, id: HtlcId) -> bool {
        let hash = channel.htlc(id).map(|h| h.payment_hash);
        let invoice = hash.and_then(|hash| self.invoices.by_hash.get(&hash));
        invoice.is_some_and(|i| i.status == Status::Accepted) && channel.can_claim(id, self.tip_height())
    }

    /// A channel closed: parts that came through it can no longer be taken off chain. What waits for our user stays as long
    /// as it can be taken on chain.
    pub(super) fn fail_htlcs_of_closed(&mut self, channel: ChannelId) {
        let claimable: Vec<u64> = self
            .channels
            .get(&channel)
            .map(|c| {
                let held = c.ledger.htlcs.keys().filter(|id| self.is_held(c, **id));
                held.map(|id| id.id).collect()
            })
            .unwrap_or_default();
        for set in self.invoices.sets.values_mut() {
            set.parts.retain(|p| p.channel != channel || (set.complete && claimable.contains(&p.htlc)));
        }
        self.invoices.sets.retain(|_, s| !s.parts.is_empty());
    }

    /// Whether the newest block known says little about now (never where blocks are made at will).
    fn is_chain_old(&self) -> bool {
        let age_s = self.wall().seconds().saturating_sub(u64::from(self.chain.tip_time_s));
        !self.config.network.row().on_demand && (!self.chain.synced || age_s > OLD_TIP_S)
    }

    /// Blocks were read: HTLCs that waited for that are looked at again.
    pub(super) fn unpark(&mut self) {
        if !self.is_chain_old() {
            let parked = core::mem::take(&mut self.parked);
            self.events
                .extend(parked.into_iter().map(|(c, id)| (c, crate::channel::ChannelEvent::LockedIn(id))));
        }
    }

    /// A new block: held payments whose expiry comes near go back. Settled that late, they would close the channel at
    /// once, with too few blocks to win on chain.
    pub(super) fn receive_block(&mut self, height: Height) {
        // BOLT 2 [2.expiry.4].
        let margin_blocks = self.config.claim_margin_blocks();
        let near: Vec<PaymentHash> = self
            .invoices
            .sets
            .iter()
            .filter(|(_, s)| s.parts.iter().any(|p| p.expiry.since(height) <= margin_blocks))
            .map(|(hash, _)| *hash)
            .collect();
        for hash in near {
            self.notice(
                Level::Warn,
                format!("hold invoice {hash}: its HTLCs expire soon, the money goes back"),
            );
            self.give_back(hash);
        }
    }

    pub(super) fn receive_deadline(&self) -> Option<Timestamp> {
        let sets = self.invoices.sets.values().filter(|s| !s.complete).map(|s| s.deadline).min();
        // By the clock of invoices; the others are by the one for waiting.
        let expiry = self.invoices.next_expiry().map(|at| at.plus_ms(self.ahead_ms));
        [sets, self.invoices.deadline(), expiry].into_iter().flatten().min()
    }

    pub(super) fn receive_timers(&mut self) {
        let now = self.now;
        let late: Vec<PaymentHash> = self
            .invoices
            .sets
            .iter()
            // BOLT 4 [4.mpp.12].
            .filter(|(_, s)| !s.complete && s.deadline <= now)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in late {
            let Some(set) = self.invoices.sets.remove(&hash) else { continue };
            for part in &set.parts {
                self.fail_part(part, &Failure::MppTimeout);
            }
        }
        self.invoice_timers();
    }
}
