//! Every payment of this node: how far it came, and who waits to hear of it.
//!
//! In: what `send` decides. Out: records, and the rows of `listpays`. Read next: `send`.

use crate::id::{ChannelId, CommandId, NodeId, PaymentHash, PaymentSecret, Preimage};
use crate::node::command::RouteHop;
use crate::node::view;
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
    pub(in crate::node) const DESTINATION_PERM_FAIL: i32 = 203;
    pub(in crate::node) const TRY_OTHER_ROUTE: i32 = 204;
    pub(in crate::node) const ROUTE_NOT_FOUND: i32 = 205;
    pub(in crate::node) const INVOICE_EXPIRED: i32 = 207;
    pub(in crate::node) const STOPPED_RETRYING: i32 = 210;
    pub(in crate::node) const PARAMS: i32 = -32_602;
}

/// What the last hop is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Final0 {
    Invoice { secret: PaymentSecret, metadata: Option<Vec<u8>> },
    Keysend { preimage: Preimage },
}

/// How far a payment has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Status {
    /// Waiting for a channel that can take it; no HTLC was offered.
    Queued,
    Pending {
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
    /// Every hop, when the user chose them; else there is one: the payee.
    pub(super) route: Vec<RouteHop>,
    /// While it is pending: what failures of the hops after the first are sealed with.
    pub(super) later_secrets: Vec<SharedSecret>,
}

impl Payment {
    /// From its record, also from one of before there were routes.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub(super) fn from_record(bytes: &[u8]) -> Result<Payment, BadRecord> {
        decode_grown(bytes, &(Vec::<RouteHop>::new(), Vec::<SharedSecret>::new()))
    }

    /// Whom the first HTLC goes to.
    pub(super) fn first_peer(&self) -> NodeId {
        self.route.first().map_or(self.destination, |hop| hop.id)
    }

    /// What the first HTLC carries.
    pub(super) fn first_amount(&self) -> Msat {
        self.route.first().map_or(self.amount, |hop| hop.amount_msat)
    }

    pub(super) fn view(&self) -> view::Pay {
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
            amount_sent_msat: self.first_amount(),
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
    pub(super) by_hash: BTreeMap<PaymentHash, Payment>,
    pub(super) by_index: BTreeMap<u64, PaymentHash>,
    pub(super) by_htlc: BTreeMap<(ChannelId, u64), PaymentHash>,
    pub(super) queue: VecDeque<PaymentHash>,
    pub(super) payers: BTreeMap<PaymentHash, Vec<(CommandId, Wait)>>,
}

/// What a waiting command wants to hear.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Pay,
    SendPay(Option<Timestamp>),
}

/// What is to be paid.
pub(super) struct Order {
    pub(super) hash: PaymentHash,
    pub(super) destination: NodeId,
    pub(super) amount: Msat,
    pub(super) total: Msat,
    pub(super) final_cltv_blocks: u32,
    /// Every hop, when the user chose them; else there is one: the payee.
    pub(super) route: Vec<RouteHop>,
    pub(super) last: Final0,
    pub(super) bolt11: Option<String>,
    pub(super) label: Option<String>,
    pub(super) description: Option<String>,
    pub(super) retry_for_s: u64,
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
        _ => "see BOLT 4 for this code",
    }
}
