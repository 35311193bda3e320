//! Every payment of this node: how far it came, and who waits to hear of it.
//!
//! A payment is one or more *parts*, each an HTLC of ours over a way of its own. It is complete when the secret is here,
//! and failed when its last part is back and no other will be sent.
//!
//! In: what `send` decides. Out: records, and the rows of `listpays`. Read next: `send`.

use crate::id::{ChannelId, CommandId, NodeId, PaymentHash, PaymentSecret, Preimage};
use crate::invoice::RouteHintHop;
use crate::node::budget::Drawn;
use crate::node::by_hand::HandPart;
use crate::node::command::{RouteHop, RouteLimits};
use crate::node::rest::Rests;
use crate::node::routes::Search;
use crate::node::view;
use crate::onion::blind::PayPath;
use crate::onion::{Failure, SharedSecret};
use crate::record::{decode_grown, payment_key, put, BadRecord};
use crate::store::Change;
use crate::units::{Msat, Timestamp};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Error codes of Core Lightning's `pay`.
pub(super) mod code {
    pub(in crate::node) const IN_PROGRESS: i32 = 200;
    pub(in crate::node) const HASH_ALREADY_USED: i32 = 201;
    pub(in crate::node) const DESTINATION_PERM_FAIL: i32 = 203;
    pub(in crate::node) const TRY_OTHER_ROUTE: i32 = 204;
    pub(in crate::node) const ROUTE_NOT_FOUND: i32 = 205;
    pub(in crate::node) const INVOICE_EXPIRED: i32 = 207;
    pub(in crate::node) const NO_SUCH_PAYMENT: i32 = 208;
    pub(in crate::node) const STOPPED_RETRYING: i32 = 210;
    pub(in crate::node) const PARAMS: i32 = -32_602;
}

/// What the last hop is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Final0 {
    Invoice {
        secret: PaymentSecret,
        metadata: Option<Vec<u8>>,
    },
    Keysend {
        preimage: Preimage,
    },
    /// Over one of these, whose id stands in the place of a secret.
    Blinded {
        paths: Vec<PayPath>,
    },
}

/// How far a payment has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Status {
    /// Waiting for a way, or for a channel that can take it; no HTLC was ever offered.
    Queued,
    /// Only in records of before there were parts: its one HTLC.
    Alone {
        channel: ChannelId,
        htlc: u64,
        /// The first hop's.
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
    /// Parts of it are under way, or the next try is being looked for.
    Pending,
}

impl Status {
    /// As lists spell it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Status::Queued | Status::Pending | Status::Alone { .. } => "pending",
            Status::Complete { .. } => "complete",
            Status::Failed { .. } => "failed",
        }
    }
}

/// One HTLC of a payment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// Over this channel.
    pub(super) channel: ChannelId,
    /// Its number there.
    pub(super) htlc: u64,
    /// What the payee gets of it.
    pub(super) amount: Msat,
    /// What our HTLC carries.
    pub(super) sent: Msat,
    /// Every hop; empty when the payee is the first.
    pub(super) route: Vec<RouteHop>,
    /// What failures of the hops are sealed with.
    pub(super) secrets: Vec<SharedSecret>,
}

/// One payment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payment {
    pub(super) hash: PaymentHash,
    pub(super) destination: NodeId,
    pub(super) amount: Msat,
    pub(super) total: Msat,
    pub(super) final_cltv_blocks: u32,
    pub(super) last: Final0,
    pub(super) bolt11: Option<String>,
    pub(super) label: Option<String>,
    pub(super) description: Option<String>,
    pub(super) created_index: u64,
    pub(super) created_at_s: u64,
    pub(super) retry_until: Timestamp,
    pub(super) status: Status,
    /// Only in records of before there were parts: every hop, when there were several.
    old_route: Vec<RouteHop>,
    /// The same: what failures of the hops after the first are sealed with.
    old_secrets: Vec<SharedSecret>,
    /// What is under way.
    pub(super) parts: Vec<Part>,
    /// What our HTLCs carry, or carried when the payee took them.
    pub(super) sent: Msat,
    /// How many they are.
    pub(super) count: u32,
    /// When the user sends it part by part: every part that is kept, the oldest first.
    pub(super) by_hand: Vec<HandPart>,
    /// The number of its newest change in `listsendpays`, 0 when there was none.
    pub(super) updated_index: u64,
    /// The same for its parts by hand, each by its `created_index`.
    pub(super) parts_updated: Vec<(u64, u64)>,
    /// Who gave it back last, by the `partid` and `groupid` of a part by hand, or zeros.
    pub(super) erring: Vec<((u64, u64), view::Erring)>,
    /// Of which budgets it is.
    pub(super) drawn: Drawn,
}

impl Payment {
    /// A new one that nothing was sent of.
    pub(super) fn new(
        order: Order,
        created_index: u64,
        created_at_s: u64,
        retry_until: Timestamp,
    ) -> Payment {
        Payment {
            hash: order.hash,
            destination: order.destination,
            amount: order.amount,
            total: order.total,
            final_cltv_blocks: order.final_cltv_blocks,
            last: order.last,
            bolt11: order.bolt11,
            label: order.label,
            description: order.description,
            created_index,
            created_at_s,
            retry_until,
            status: Status::Queued,
            old_route: Vec::new(),
            old_secrets: Vec::new(),
            parts: Vec::new(),
            sent: Msat::ZERO,
            count: 0,
            by_hand: Vec::new(),
            updated_index: 0,
            parts_updated: Vec::new(),
            erring: Vec::new(),
            drawn: order.drawn,
        }
    }

    /// From its record, also from one of before there were routes, or parts, or parts by hand, or changes were counted and it was
    /// kept who gave it back, or there were budgets.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub(super) fn from_record(bytes: &[u8]) -> Result<Payment, BadRecord> {
        let no_route = (Vec::<RouteHop>::new(), Vec::<SharedSecret>::new());
        let none_drawn = Drawn::default();
        let no_change =
            (0u64, Vec::<(u64, u64)>::new(), Vec::<((u64, u64), view::Erring)>::new(), none_drawn.clone());
        let none_by_hand = (Vec::<HandPart>::new(), no_change.clone());
        let no_parts = (Vec::<Part>::new(), Msat::ZERO, 0u32, none_by_hand.clone());
        let mut payment: Payment = decode_grown(bytes, &none_drawn)
            .or_else(|_| decode_grown(bytes, &no_change))
            .or_else(|_| decode_grown(bytes, &none_by_hand))
            .or_else(|_| decode_grown(bytes, &no_parts))
            .or_else(|_| decode_grown(bytes, &(no_route, no_parts)))?;
        let sent = payment.old_route.first().map_or(payment.amount, |hop| hop.amount_msat);
        if let Status::Alone { channel, htlc, shared_secret } = payment.status {
            let route = core::mem::take(&mut payment.old_route);
            let secrets = [&[shared_secret], core::mem::take(&mut payment.old_secrets).as_slice()].concat();
            payment.parts.push(Part { channel, htlc, amount: payment.amount, sent, route, secrets });
            payment.status = Status::Pending;
            (payment.sent, payment.count) = (sent, 1);
        }
        if matches!(payment.status, Status::Complete { .. }) && payment.count == 0 {
            (payment.sent, payment.count) = (sent, 1);
        }
        Ok(payment)
    }

    /// What the payee was not sent yet.
    pub(super) fn missing(&self) -> Msat {
        let under_way = self.parts.iter().fold(Msat::ZERO, |sum, p| sum.saturating_add(p.amount));
        self.amount.saturating_sub(under_way)
    }

    pub(super) fn view(&self) -> view::Pay {
        let (completed_at_s, preimage, failure) = match &self.status {
            Status::Queued | Status::Pending | Status::Alone { .. } => (None, None, None),
            Status::Complete { preimage, at_s } => (Some(*at_s), Some(preimage.clone()), None),
            Status::Failed { code, message, at_s } => (Some(*at_s), None, Some((*code, message.clone()))),
        };
        view::Pay {
            payment_hash: self.hash,
            destination: Some(self.destination),
            bolt11: self.bolt11.clone(),
            label: self.label.clone(),
            description: self.description.clone(),
            status: self.status.name(),
            amount_msat: self.amount,
            // Of one that is not paid, what was to be sent.
            amount_sent_msat: match &self.status {
                Status::Complete { .. } => self.sent,
                _ => self.sent.max(self.amount),
            },
            created_at_s: self.created_at_s,
            completed_at_s,
            preimage,
            created_index: self.created_index,
            updated_index: (self.updated_index > 0).then_some(self.updated_index),
            parts: self.count.max(1),
            erring: self.erring_of((0, 0)).filter(|_| failure.is_some()),
            failure,
            part: None,
        }
    }

    /// Who gave it, or a part of it by hand, back last.
    pub(super) fn erring_of(&self, part: (u64, u64)) -> Option<view::Erring> {
        self.erring.iter().find(|(of, _)| *of == part).map(|(_, erring)| erring.clone())
    }

    /// Notes who gave a part back.
    pub(super) fn note_erring(&mut self, place: (ChannelId, u64), erring: view::Erring) {
        let part = self.by_hand.iter().find(|part| part.is_at(place)).map_or((0, 0), HandPart::name);
        let kept: Vec<(u64, u64)> = self.by_hand.iter().map(HandPart::name).collect();
        self.erring.retain(|(of, _)| *of != part && (*of == (0, 0) || kept.contains(of)));
        self.erring.push((part, erring));
    }
}

/// Every payment, and who waits for one.
#[derive(Clone, Default)]
pub(super) struct Payments {
    pub(super) by_hash: BTreeMap<PaymentHash, Payment>,
    pub(super) by_index: BTreeMap<u64, PaymentHash>,
    pub(super) by_htlc: BTreeMap<(ChannelId, u64), PaymentHash>,
    /// Those with a way that waits for room.
    pub(super) queue: VecDeque<PaymentHash>,
    /// What is to be tried, of those that may still send.
    pub(super) plans: BTreeMap<PaymentHash, Plan>,
    /// Those without a way that are to ask again.
    pub(super) rests: Rests,
    /// The number of the last question.
    pub(super) questions: u32,
    pub(super) payers: BTreeMap<PaymentHash, Vec<(CommandId, Wait)>>,
}

/// What a waiting command wants to hear.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Pay,
    SendPay(Option<Timestamp>),
    /// The end of one part by hand.
    Part {
        partid: u64,
        groupid: u64,
        until: Option<Timestamp>,
    },
}

impl Wait {
    /// When it is told that there is no end yet.
    pub(super) const fn until(self) -> Option<Timestamp> {
        match self {
            Wait::Pay => None,
            Wait::SendPay(until) | Wait::Part { until, .. } => until,
        }
    }
}

/// What is still to be tried for a payment; gone with a restart, which sends nothing anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Ways that wait for their turn, each with its hops, the payee's last.
    pub(super) ways: VecDeque<Vec<RouteHop>>,
    /// How more ways are looked for; `None` when there is just the one.
    pub(super) search: Option<Search>,
    /// Why no more will be sent.
    pub(super) verdict: Option<(i32, String)>,
}

impl Plan {
    /// Whom the next HTLC goes to.
    pub(super) fn next_peer(&self) -> Option<NodeId> {
        Some(self.ways.front()?.first()?.id)
    }
}

/// What is to be paid.
pub(super) struct Order {
    pub(super) hash: PaymentHash,
    pub(super) destination: NodeId,
    pub(super) amount: Msat,
    pub(super) total: Msat,
    pub(super) final_cltv_blocks: u32,
    /// Every hop, when the user chose them.
    pub(super) route: Vec<RouteHop>,
    pub(super) last: Final0,
    pub(super) bolt11: Option<String>,
    pub(super) label: Option<String>,
    pub(super) description: Option<String>,
    pub(super) retry_for_s: u64,
    /// What ways to the payee may cost, and where they may not go.
    pub(super) limits: RouteLimits,
    /// Ways to the payee over channels that are not public.
    pub(super) hints: Vec<Vec<RouteHintHop>>,
    /// HTLCs that the payee takes it in.
    pub(super) max_parts: u32,
    /// Of which budgets it is.
    pub(super) drawn: Drawn,
}

impl Payments {
    /// Takes a payment in from its record.
    pub(super) fn restore(&mut self, payment: Payment) {
        for part in &payment.parts {
            self.by_htlc.insert((part.channel, part.htlc), payment.hash);
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
        bytes.extend(
            format!("{:?}{:?}{:?}{:?}", self.queue, self.by_htlc, self.payers, self.plans).into_bytes(),
        );
        if !self.rests.is_empty() {
            bytes.extend(format!("{:?}", self.rests).into_bytes());
        }
    }
}

/// What a failure means, in words.
pub(super) fn explain(failure: &Failure) -> &'static str {
    match failure {
        Failure::IncorrectOrUnknownPaymentDetails { .. } => {
            "the payee does not know this invoice, or amount, secret or expiry do not fit; perhaps it is paid already"
        }
        Failure::MppTimeout => "not all parts of the payment arrived in time",
        Failure::FinalIncorrectCltvExpiry { .. } | Failure::FinalIncorrectHtlcAmount { .. } => {
            "the HTLC was not what the onion said"
        }
        Failure::UnknownNextPeer => "it knows no channel of that name",
        Failure::TemporaryChannelFailure { .. } => "its channel has no room for it now, or the next hop is away",
        Failure::PermanentChannelFailure => "its channel is closed",
        Failure::FeeInsufficient { .. } => "it asks for a higher fee",
        Failure::IncorrectCltvExpiry { .. } => "it asks for more blocks between the two expiries",
        Failure::AmountBelowMinimum { .. } => "its channel takes no HTLC that small",
        Failure::ExpiryTooSoon { .. } => "the HTLC would expire too soon",
        Failure::ExpiryTooFar => "the HTLC would lock money up for too long",
        Failure::InvalidOnionBlinding { .. } => "somewhere on the blinded path; where and why is hidden",
        _ => "see BOLT 4 for this code",
    }
}
