//! A look at a node's records as a whole: do they fit each other?
//!
//! A record that can be decoded may still contradict another one. No rule here is needed to run – each is kept by the steps that
//! write the records – so that a breach means damage, or a bug. In: a node that was restored and not started. Out: what there is of each
//! kind, and every contradiction in words. Read next: `restore`.

use crate::channel::Phase;
use crate::id::{HtlcId, Side};
use crate::node::dormant::Dormant;
use crate::node::forwards::Place;
use crate::node::waits::{Event, Subsystem};
use crate::node::{invoices, payments, Node};
use crate::store::Entry;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a node holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Audit {
    pub channels_open: usize,
    pub channels_opening: usize,
    /// On their way to a close, or on chain and not yet over.
    pub channels_closing: usize,
    /// All of them is settled and deep in the chain.
    pub channels_over: usize,
    /// Whose commitment must not be published: a peer proved to know a later one, or `--restored` was given.
    pub channels_in_doubt: usize,
    pub htlcs: usize,
    pub invoices: usize,
    pub invoices_paid: usize,
    /// With money that waits for its user.
    pub invoices_held: usize,
    pub payments: usize,
    pub payments_complete: usize,
    pub payments_pending: usize,
    pub forwards: usize,
    pub peers: usize,
    /// Height of the newest block that was read.
    pub height: Option<u32>,
    /// What contradicts what.
    pub wrong: Vec<String>,
}

impl Dormant {
    /// Looks at everything.
    pub fn audit(&self) -> Audit {
        let mut audit = Audit { height: self.node.tip().map(|(height, _)| height.0), ..Audit::default() };
        audit.peers = self.node.peers.len();
        self.node.audit_channels(&mut audit);
        self.node.audit_invoices(&mut audit);
        self.node.audit_payments(&mut audit);
        self.node.audit_forwards(&mut audit);
        audit
    }

    /// [`Node::records`]: what the node would keep of itself.
    pub fn records(&self) -> Vec<Entry> {
        self.node.records()
    }
}

impl Node {
    fn audit_channels(&self, audit: &mut Audit) {
        for channel in self.channels.values() {
            *match &channel.phase {
                _ if channel.retired => &mut audit.channels_over,
                Phase::Open => &mut audit.channels_open,
                Phase::Confirming => &mut audit.channels_opening,
                _ => &mut audit.channels_closing,
            } += 1;
            audit.channels_in_doubt += usize::from(channel.doubt);
            audit.htlcs += channel.ledger.htlcs.len();
            let id = channel.id();
            if channel.to_us() > channel.terms.capacity.to_msat() {
                audit.wrong.push(format!("channel {id}: more than its capacity is ours"));
            }
            for htlc in channel.ledger.htlcs.values() {
                if htlc.id.id >= channel.ledger.next_id(htlc.id.offered_by) {
                    let words =
                        format!("channel {id}: HTLC {} has a number that was not given yet", htlc.id.id);
                    audit.wrong.push(words);
                }
            }
        }
    }

    fn audit_invoices(&self, audit: &mut Audit) {
        let all = &self.invoices;
        audit.invoices = all.by_hash.len();
        audit.invoices_paid = all.by_pay_index.len();
        let mut created = BTreeSet::new();
        for invoice in all.by_hash.values() {
            let label = &invoice.label;
            audit.invoices_held += usize::from(invoice.status == invoices::Status::Accepted);
            if !created.insert(invoice.created_index) {
                audit.wrong.push(format!("invoice “{label}”: another one has its created_index"));
            }
            self.audit_index(
                audit,
                Subsystem::Invoices,
                invoice.created_index,
                invoice.updated_index,
                || format!("invoice “{label}”"),
            );
            if invoice.preimage.as_ref().is_some_and(|preimage| preimage.hash() != invoice.hash) {
                audit.wrong.push(format!("invoice “{label}”: its secret is another one's"));
            }
        }
        if all.by_label.len() != all.by_hash.len() {
            audit.wrong.push("invoices: two have the same label".into());
        }
        let paid = all.by_hash.values().filter(|i| matches!(i.status, invoices::Status::Paid { .. })).count();
        if paid != all.by_pay_index.len() {
            audit.wrong.push("invoices: two have the same pay_index".into());
        }
    }

    fn audit_payments(&self, audit: &mut Audit) {
        audit.payments = self.payments.by_hash.len();
        for payment in self.payments.by_hash.values() {
            let hash = payment.hash;
            match &payment.status {
                payments::Status::Complete { preimage, .. } => {
                    audit.payments_complete += 1;
                    if preimage.hash() != hash {
                        audit.wrong.push(format!("payment {hash}: its receipt is another one's"));
                    }
                }
                payments::Status::Failed { .. } => {}
                _ => audit.payments_pending += 1,
            }
            self.audit_index(
                audit,
                Subsystem::Sendpays,
                payment.created_index,
                payment.updated_index,
                || format!("payment {hash}"),
            );
            for part in &payment.parts {
                let id = HtlcId { offered_by: Side::Local, id: part.htlc };
                if !self.may_hold(part.channel, id) {
                    let words = format!(
                        "payment {hash}: HTLC {} of channel {} is not there",
                        part.htlc, part.channel
                    );
                    audit.wrong.push(words);
                }
            }
        }
    }

    fn audit_forwards(&self, audit: &mut Audit) {
        for forward in self.forwards.all() {
            audit.forwards += 1;
            let Place { channel, htlc } = forward.incoming;
            self.audit_index(
                audit,
                Subsystem::Forwards,
                forward.created_index,
                forward.updated_index,
                || format!("forward of HTLC {htlc} of channel {channel}"),
            );
            let out = HtlcId { offered_by: Side::Local, id: forward.outgoing.htlc };
            if forward.is_under_way() && !self.may_hold(forward.outgoing.channel, out) {
                audit
                    .wrong
                    .push(format!("forward of HTLC {htlc} of channel {channel}: what went on is not there"));
            }
        }
    }

    /// A number that was given is not above its counter.
    fn audit_index(
        &self,
        audit: &mut Audit,
        list: Subsystem,
        created: u64,
        updated: u64,
        what: impl Fn() -> String,
    ) {
        let counter = |event| self.counters.of((list, event));
        if created > counter(Event::Created) || updated > counter(Event::Updated) {
            audit.wrong.push(format!("{}: its number was not given yet", what()));
        }
    }

    /// A channel that is over has forgotten its HTLCs; any other one must know this.
    fn may_hold(&self, channel: crate::id::ChannelId, id: HtlcId) -> bool {
        let channel = self.channels.get(&channel);
        channel.is_some_and(|c| c.retired || matches!(c.phase, Phase::Onchain(_)) || c.htlc(id).is_some())
    }
}
