//! Money that waits for the user: hold invoices, settled, cancelled, or given back in time.
//!
//! In: `settleinvoice`, `cancelinvoice`; blocks, and channels that close under what waits. Out: the preimage, never so late
//! that the race on chain could be lost; or failures for the payer. Parts of any payment that come near their expiry go
//! back here, too.
//! Read next: `receive`, `parked`.

use crate::channel::{Channel, Phase};
use crate::id::{ChannelId, CommandId, HtlcId, PaymentHash, Preimage, Side};
use crate::node::command::Reply;
use crate::node::effect::Level;
use crate::node::invoices::{Invoice, Status, CANCELLED};
use crate::node::receive::Set;
use crate::node::Node;
use crate::onion::Failure;
use crate::units::Msat;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What `settleinvoice` says of a held payment that was given back.
const GONE: &str =
    "the hold invoice is cancelled, by cancelinvoice or because its HTLCs were about to expire: the money \
                    went back to its payer and nothing was settled";

impl Node {
    /// `settleinvoice`.
    pub(super) fn settle_invoice(&mut self, id: CommandId, preimage: Preimage) {
        let hash = preimage.hash();
        let Some(invoice) = self.invoices.by_hash.get(&hash).filter(|i| i.hold) else {
            return self.refuse(id, 905, "no hold invoice has this hash");
        };
        match invoice.status {
            Status::Paid { .. } => {}
            Status::Accepted => match self.takeable(&hash) {
                Ok(sum) => self.take_money(hash, &preimage, sum),
                Err(words) => return self.refuse(id, 906, words),
            },
            Status::Unpaid => {
                return self.refuse(id, 906, "no money has come for this hold invoice: nothing was settled");
            }
            Status::Cancelled => return self.refuse(id, 906, GONE),
        }
        if let Some(invoice) = self.invoices.by_hash.get(&hash) {
            let view = invoice.view(self.wall());
            self.reply(id, Ok(Reply::Invoice(view)));
        }
    }

    /// What a held payment comes to, if it can be taken without a risk; otherwise why not.
    fn takeable(&self, hash: &PaymentHash) -> Result<Msat, String> {
        let set = self.invoices.sets.get(hash).filter(|s| s.complete && self.can_settle(s));
        let sum = set.and_then(|s| {
            // All of it: a part may have gone with its channel meanwhile.
            let here = Msat::checked_sum(s.parts.iter().map(|p| p.amount))?;
            (here >= s.total).then_some((s, here))
        });
        let Some((set, sum)) = sum else {
            return Err("the money is not here (any more): nothing was settled".into());
        };
        if let Some(why) = self.why_unknown() {
            return Err(format!(
                "{why}, so nobody can say how long the HTLCs still hold: nothing was settled, the money stays held. \
                 Try again when the chain is read"
            ));
        }
        match set.parts.iter().map(|p| p.expiry).find(|expiry| self.is_near(*expiry)) {
            None => Ok(sum),
            Some(expiry) => Err(format!(
                "an HTLC of it expires at block {}, and with the newest block known, {}, as old as it is the chain may be \
                 at {}: settled that late the money could be lost. Nothing was settled and the preimage was not shown; \
                 the money stays held. If no block comes soon cancel it, or it goes back by itself",
                expiry.0,
                self.tip_height().0,
                self.height_now().0
            )),
        }
    }

    fn can_settle(&self, set: &Set) -> bool {
        set.parts.iter().all(|p| {
            let id = HtlcId { offered_by: Side::Remote, id: p.place.htlc };
            self.channels.get(&p.place.channel).is_some_and(|c| match &c.phase {
                Phase::Closed(_) => false,
                Phase::Onchain(_) => c.can_claim(id, self.height_now()),
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
        self.fail_set(hash, None);
        self.end_invoice(&hash);
        if let Some(invoice) = self.invoices.by_hash.get(&hash) {
            let view = invoice.view(self.wall());
            self.reply(id, Ok(Reply::Invoice(view)));
        }
    }

    /// A hold invoice is not to be paid any more.
    fn end_invoice(&mut self, hash: &PaymentHash) {
        let open = |i: &&mut Invoice| i.hold && i.status != Status::Cancelled;
        if let Some(invoice) = self.invoices.by_hash.get_mut(hash).filter(open) {
            invoice.status = Status::Cancelled;
            self.keep_changed_invoice(*hash);
            self.tell_unpaid(hash, CANCELLED);
        }
    }

    /// Gives back every part of a payment that is here.
    pub(super) fn fail_set(&mut self, hash: PaymentHash, failure: Option<&Failure>) {
        let height = self.tip_height();
        for part in self.invoices.sets.remove(&hash).into_iter().flat_map(|set| set.parts) {
            let unknown = Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: part.amount, height };
            self.fail_part(&part, failure.unwrap_or(&unknown));
        }
    }

    /// An HTLC that our user may still settle, for an invoice that is accepted.
    pub(super) fn is_held(&self, channel: &Channel, id: HtlcId) -> bool {
        let hash = channel.htlc(id).map(|h| h.payment_hash);
        hash.is_some_and(|hash| self.is_accepted(&hash)) && channel.can_claim(id, self.tip_height())
    }

    /// Whether the money for a hold invoice of this hash came before.
    pub(super) fn is_accepted(&self, hash: &PaymentHash) -> bool {
        self.invoices.by_hash.get(hash).is_some_and(|i| i.status == Status::Accepted)
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
            let stays = |htlc: u64| set.complete && claimable.contains(&htlc);
            set.parts.retain(|p| p.place.channel != channel || stays(p.place.htlc));
        }
        let sets = self.invoices.sets.iter().filter(|(hash, s)| s.parts.is_empty() && self.is_accepted(hash));
        let gone: Vec<PaymentHash> = sets.map(|(hash, _)| *hash).collect();
        self.invoices.sets.retain(|_, s| !s.parts.is_empty());
        self.parked.retain(|p| p.place.channel != channel);
        for hash in gone {
            let why = "its channel closed, and what it held is too small, or too late, to be taken on chain";
            self.notice(Level::Warn, format!("hold invoice {hash}: {why}. The money goes back"));
            self.end_invoice(&hash);
        }
    }

    /// A new block, or time for one: payments of which a part comes near its expiry go back. Settled that late, they would
    /// close the channel at once, with too few blocks to win on chain.
    pub(super) fn give_back_near(&mut self) {
        // BOLT 2 [2.expiry.4].
        let (height, margin_blocks) = (self.height_of_ends(), self.config.claim_margin_blocks());
        let near: Vec<PaymentHash> = self
            .invoices
            .sets
            .iter()
            .filter(|(_, s)| s.parts.iter().any(|p| p.expiry.since(height) <= margin_blocks))
            .map(|(hash, _)| *hash)
            .collect();
        for hash in near {
            let held = self.is_accepted(&hash);
            let what = if held { "hold invoice" } else { "a payment in parts for" };
            let text = format!("{what} {hash}: its HTLCs expire soon, the money goes back");
            self.notice(Level::Warn, text);
            self.fail_set(hash, None);
            // Of which only a part had come, it can still be paid.
            if held {
                self.end_invoice(&hash);
            }
        }
    }
}
