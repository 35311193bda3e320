//! Before an orderly stop: nothing new is begun, and what is under way has time to end.
//!
//! From the order on no HTLC is offered, neither for a payment of ours nor for one that is to go on through us; what pays our
//! own invoices is taken as ever. Whoever asked is answered once no HTLC is left that could end while this node runs. Those
//! that could not are not waited for: held ones, which wait for their user, and those that wait for a peer that is away. They
//! are safe as at any stop. Nothing of this is kept: the next start knows of no drain.
//! In: the order. Out: refusals in words, payments that try no more, and the answer. Read next: `send`, `receive`.

use crate::channel::htlc::Htlc;
use crate::channel::Channel;
use crate::id::{CommandId, PaymentHash, Side};
use crate::node::command::Reply;
use crate::node::effect::Level;
use crate::node::forwards::Place;
use crate::node::invoices::Status;
use crate::node::payments::code;
use crate::node::{view, Node};
use alloc::vec::Vec;

/// Why nothing is begun any more.
pub(super) const DRAINING: &str = "this node is about to stop and begins no payment any more. No money moved";

/// Who waits for the end; `None` while the node just runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Draining(Option<Vec<CommandId>>);

/// What an HTLC waits for.
enum Wait {
    /// Nothing but its peers, who are here.
    Peers,
    /// The user, who holds the secret.
    User,
    /// A peer who is away.
    Absent,
}

impl Node {
    /// From here on nothing is begun; the answer comes when nothing is under way.
    pub(super) fn drain(&mut self, id: CommandId) {
        match &mut self.draining.0 {
            Some(waiting) => waiting.push(id),
            None => {
                self.draining.0 = Some([id].into());
                self.notice(Level::Info, "no new HTLC is offered or sent on any more: this node is to stop");
                let open: Vec<PaymentHash> = self.payments.plans.keys().copied().collect();
                open.into_iter().for_each(|hash| self.try_no_more(hash));
            }
        }
    }

    /// Nothing is to be begun.
    pub(super) const fn is_draining(&self) -> bool {
        self.draining.0.is_some()
    }

    /// Whoever asked these is gone.
    pub(super) fn forget_drainers(&mut self, gone: &[CommandId]) {
        if let Some(waiting) = &mut self.draining.0 {
            waiting.retain(|id| !gone.contains(id));
        }
    }

    /// Answers who waits for the end, at the end of a step.
    pub(super) fn tell_drained(&mut self) {
        let Some(waiting) = self.draining.0.as_mut().filter(|waiting| !waiting.is_empty()) else { return };
        let waiting = core::mem::take(waiting);
        let left = self.left();
        if left.under_way > 0 {
            self.draining.0 = Some(waiting);
            return;
        }
        waiting.into_iter().for_each(|id| self.reply(id, Ok(Reply::Drained(left))));
    }

    /// What a drain waits for, and what it does not wait for.
    pub(super) fn left(&self) -> view::Drain {
        let mut left = view::Drain::default();
        for channel in self.channels.values() {
            for htlc in channel.ledger.htlcs.values() {
                let count = match self.waits_for(channel, htlc) {
                    Wait::Peers => &mut left.under_way,
                    Wait::User => &mut left.held,
                    Wait::Absent => &mut left.absent,
                };
                *count = count.saturating_add(1);
            }
        }
        left
    }

    fn waits_for(&self, channel: &Channel, htlc: &Htlc) -> Wait {
        if !self.is_connected(&channel.terms.peer) || !channel.wants_link() {
            return Wait::Absent;
        }
        if htlc.id.offered_by == Side::Local {
            return Wait::Peers;
        }
        let held = |hash| self.invoices.by_hash.get(hash).is_some_and(|i| i.status == Status::Accepted);
        if held(&htlc.payment_hash) && htlc.is_settleable() {
            return Wait::User;
        }
        let onward = self.forwards.outgoing_of(Place { channel: channel.id(), htlc: htlc.id.id });
        let next = onward.and_then(|place| self.channels.get(&place.channel));
        match next {
            Some(next) if !self.is_connected(&next.terms.peer) => Wait::Absent,
            _ => Wait::Peers,
        }
    }

    /// No further part of a payment is sent: it ends with those that are under way.
    fn try_no_more(&mut self, hash: PaymentHash) {
        let Some(payment) = self.payments.by_hash.get(&hash) else { return };
        let whole = !payment.parts.is_empty() && payment.missing() == crate::units::Msat::ZERO;
        match self.payments.plans.get_mut(&hash) {
            // How it ends is for the payee to say.
            Some(plan) if whole => plan.search = None,
            _ => self.give_up(hash, code::STOPPED_RETRYING, DRAINING.into()),
        }
    }
}
