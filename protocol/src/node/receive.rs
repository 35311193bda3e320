//! Being paid: HTLCs that are locked in and end here (BOLT 4, "Requirements for the final node").
//!
//! In: an HTLC with its onion. Out: its preimage, once all parts of the payment are here; or a failure for the payer.
//! The invoice is marked paid in the very batch that releases the preimage. A hold invoice waits for the user (`held`);
//! while nobody knows how high the chain is, HTLCs wait for that (`parked`).
//! Read next: `unblind`, `held`, `crate::onion`.

use crate::channel::htlc::Removal;
use crate::channel::Phase;
use crate::id::{ChannelId, HtlcId, PaymentHash, Preimage, Side};
use crate::node::effect::Level;
use crate::node::forwards::{self, Place};
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
/// Parts that one payment may have.
const MAX_PARTS: usize = 483;

/// One part of a payment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) place: Place,
    pub(super) amount: Msat,
    pub(super) expiry: Height,
}

/// The parts of one payment that are here.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) parts: Vec<Part>,
    pub(super) total: Msat,
    deadline: Timestamp,
    pub(super) complete: bool,
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
        let place = Place { channel, htlc: id.id };
        // Looked at again after a start: what went on already waits for its end, whatever would be said of it today; and what
        // came back from the next hop is not sent on once more.
        let failed = match self.forwards.stands(place) {
            Some(forwards::Status::Offered) => return,
            Some(forwards::Status::Failed(_)) => true,
            _ => false,
        };
        let (peeled, back) = match self.peel_htlc(&htlc, &onion) {
            Ok(opened) => opened,
            Err(removal) => return self.settle(place, removal),
        };
        let risky = self
            .channels
            .get(&channel)
            .is_some_and(|c| c.ledger.is_dust_too_many(&c.terms, &htlc, Node::max_dust()));
        let full = Failure::TemporaryChannelFailure { channel_update: Vec::new() };
        if failed {
            return self.fail_back(channel, id.id, &back, &full);
        }
        let unknown = self.why_unknown();
        match self.aim_of(&htlc, peeled) {
            Err(failure) => self.fail_back(channel, id.id, &back, &failure),
            Ok(_) if risky => self.fail_back(channel, id.id, &back, &full),
            Ok(Aim::Onward { .. }) if self.is_draining() => self.fail_back(channel, id.id, &back, &full),
            // BOLT 4 [4.read.22, 4.peel.11].
            Ok(aim @ Aim::Onward { .. }) => match unknown {
                // Against a tip that is none an HTLC that expired long ago would look safe.
                Some(why) => self.park(place, why),
                None => self.forward(channel, &htlc, aim, &back),
            },
            Ok(Aim::Here { payload, blinded }) => {
                // What came before is not judged again, and shows no secret by itself.
                if let Some(why) = unknown.filter(|_| !self.is_accepted(&htlc.payment_hash)) {
                    return self.park(place, why);
                }
                let part = Part { place, amount: htlc.amount, expiry: htlc.cltv_expiry };
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
            if self.is_near(part.expiry) {
                return Judgement::Fail(Failure::TemporaryNodeFailure);
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
        let fresh = invoice.status != Status::Accepted;
        let least = invoice.min_cltv_blocks.max(self.config.claim_margin_blocks().saturating_add(1));
        let late = fresh && part.expiry.since(height) < least;
        // An invoice that hides us is paid over its paths only, and any other over none: who tries whether we are the node
        // behind a path learns nothing.
        // BOLT 4 [4.blind.21, 4.fail.11, 4.fail.13, 4.fail.17].
        if !open || same != 0 || invoice.blinded != blinded || !fits || late || total == Msat::ZERO {
            return unknown();
        }
        // In time by the newest block that we know, and perhaps not by the chain's: another try may fare better.
        if fresh && self.is_near(part.expiry) {
            return Judgement::Fail(Failure::TemporaryNodeFailure);
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
            lost: Vec::new(),
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
        // Told of the same HTLC twice, we have it once.
        if set.parts.iter().any(|p| p.place == part.place) {
            return;
        }
        let agreed = set.total == total;
        // "SHOULD fail the entire HTLC set if total_msat is not the same for all" (BOLT 4): who knows the secret says two
        // things at once, and what a set amounts to is not to depend on which part came first. One that is whole is not undone.
        if !agreed && !set.complete {
            set.parts.push(part);
            return self.fail_set(hash, None);
        }
        let open = agreed && !set.complete && set.parts.len() < MAX_PARTS;
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
        let near = self.is_any_near(&hash);
        let Some(invoice) = self.invoices.by_hash.get_mut(&hash) else { return };
        match invoice.preimage.clone() {
            // The first part waited while the chain may have grown: with the secret shown it could be lost.
            Some(_) if near => self.fail_set(hash, Some(&Failure::TemporaryNodeFailure)),
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

    fn is_any_near(&self, hash: &PaymentHash) -> bool {
        self.invoices.sets.get(hash).is_some_and(|set| set.parts.iter().any(|p| self.is_near(p.expiry)))
    }

    /// Releases the preimage and marks the invoice paid, in one batch.
    pub(super) fn take_money(&mut self, hash: PaymentHash, preimage: &Preimage, sum: Msat) {
        let Some(set) = self.invoices.sets.remove(&hash) else { return };
        // BOLT 4 [4.mpp.14].
        for part in &set.parts {
            self.settle(part.place, Removal::Fulfilled(preimage.clone()));
        }
        let (pay_index, at_s) = (self.counters.next_pay(), self.wall().seconds());
        let Some(invoice) = self.invoices.by_hash.get_mut(&hash) else { return };
        invoice.preimage = Some(preimage.clone());
        invoice.status = Status::Paid { pay_index, received: sum, at_s };
        self.invoices.by_pay_index.insert(pay_index, hash);
        self.keep_changed_invoice(hash);
        self.tell_paid(&hash);
        self.note_gift(&hash);
    }

    pub(super) fn settle(&mut self, place: Place, removal: Removal) {
        let Place { channel, htlc: id } = place;
        let name = HtlcId { offered_by: Side::Remote, id };
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
        self.give_back(Place { channel, htlc: id }, back, back.failed(failure));
    }

    /// Fails a part that was held: its onion is peeled again for the key.
    pub(super) fn fail_part(&mut self, part: &Part, failure: &Failure) {
        if let Some(back) = self.back_of(part.place) {
            self.fail_back(part.place.channel, part.place.htlc, &back, failure);
        }
    }

    /// A new block.
    pub(super) fn receive_block(&mut self) {
        self.give_back_near();
        self.release_parked();
    }

    pub(super) fn receive_deadline(&self) -> Option<Timestamp> {
        let sets = self.invoices.sets.values().filter(|s| !s.complete).map(|s| s.deadline).min();
        // By the clock of invoices; the others are by the one for waiting.
        let expiry = self.invoices.next_expiry().map(|at| at.plus_ms(self.ahead_ms));
        let all = [sets, self.invoices.deadline(), expiry, self.parked_deadline(), self.delay_deadline()];
        all.into_iter().flatten().min()
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
            self.fail_set(hash, Some(&Failure::MppTimeout));
        }
        // Time alone brings an expiry nearer where blocks are not seen.
        if !self.is_chain_known() {
            self.give_back_near();
        }
        self.release_parked();
        self.delay_timers();
        self.invoice_timers();
    }
}
