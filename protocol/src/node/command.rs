//! Orders and questions to a node, and its answers.
//!
//! In: what the control socket understood. Out: plain data that the daemon turns into Core Lightning's JSON.
//! Every command is answered exactly once, after its records are durable; some (`Pay`, `FundChannel`, `Close`,
//! `WaitInvoice`, `Connect`) only when the matter is decided.
//! Read next: `view` (the shapes of the answers).

use crate::channel::announce::PeerUpdate;
use crate::gossip::graph::Direction;
use crate::id::{ChannelId, NodeId, PaymentHash, Preimage, ShortChannelId};
use crate::node::budget::Budget;
pub use crate::node::funding::FundOrder;
use crate::node::tower::TowerChannel;
use crate::node::view;
use crate::node::waits::{Event, Subsystem};
use crate::tower::{Revoked, Sealing};
use crate::units::{Feerate, Msat, Sat};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

/// How a user names a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelRef {
    /// By its id.
    Id(ChannelId),
    /// By its short channel id.
    Short(ShortChannelId),
    /// By its peer, when that peer has exactly one.
    Peer(NodeId),
}

/// What a new invoice is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvoiceRequest {
    /// `None`: the payer chooses.
    pub amount_msat: Option<Msat>,
    /// Unique among invoices.
    pub label: String,
    /// For the payer.
    pub description: String,
    /// Put the description's hash in the invoice instead of the description.
    pub description_hash_only: bool,
    /// Seconds; default 604,800 (a week), as in Core Lightning.
    pub expiry_s: Option<u64>,
    /// A preimage of the caller's choosing.
    pub preimage: Option<Preimage>,
    /// `min_final_cltv_expiry` in blocks; default the node's `cltv_final`.
    pub cltv_blocks: Option<u32>,
    /// A hold invoice: the hash whose preimage only the caller knows.
    pub hold: Option<PaymentHash>,
    /// Whether it names channels that are not public; `None`: when there is no public one.
    pub expose_private: Option<bool>,
    /// Do not name this node: it is paid over blinded paths only (bLIP 39). With what peers ask everybody for forwards over
    /// their channels with us, as far as the caller knows.
    pub blinded: Option<Vec<(ShortChannelId, PeerUpdate)>>,
}

/// What a way to a payee may cost, and where it may not go. The default is any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouteLimits {
    /// The most to pay in fees, all parts together.
    pub max_fee: Option<Msat>,
    /// The most blocks that our money may be locked up.
    pub max_blocks: Option<u32>,
    /// The most hops of a part.
    pub max_hops: Option<usize>,
    /// Channels, each with its direction, not to be used.
    pub not_channels: Vec<(ShortChannelId, Direction)>,
    /// Nodes not to be gone through.
    pub not_nodes: Vec<NodeId>,
}

/// Which invoices to list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct InvoiceFilter {
    pub label: Option<String>,
    pub payment_hash: Option<PaymentHash>,
    pub bolt11: Option<String>,
}

/// One order or question.
#[derive(Clone, Debug)]
pub enum Command {
    /// → [`Reply::Info`]
    GetInfo,
    /// Begin nothing any more, before a stop → [`Reply::Drained`] once nothing is under way.
    Drain,
    /// → [`Reply::Peers`]
    ListPeers {
        /// Only this one.
        peer: Option<NodeId>,
    },
    /// Reach a peer and remember where it is → [`Reply::Connected`]; `None` as address: where it was last.
    Connect {
        /// Who.
        peer: NodeId,
        /// `host:port`.
        address: Option<String>,
    },
    /// Hang up (and do not call again by ourselves until told) → [`Reply::Done`].
    Disconnect {
        /// Who.
        peer: NodeId,
        /// Even with channels.
        force: bool,
    },
    /// → [`Reply::Ponged`]
    Ping {
        /// Whom.
        peer: NodeId,
        /// Ignored bytes to send.
        len: u16,
        /// Bytes to ask for.
        pongbytes: u16,
    },
    /// Sign words with the node's key → [`Reply::Signed`].
    SignMessage {
        /// The words.
        message: String,
    },
    /// Open a channel → [`Reply::Funded`] once the funding transaction may be broadcast.
    FundChannel {
        /// With whom (must be connected).
        peer: NodeId,
        /// How much; `None` for all.
        amount: Option<Sat>,
        /// Of the funding transaction and the first commitment's fee; `None`: estimate.
        feerate: Option<Feerate>,
        /// Ask for announcement.
        announce: bool,
        /// Given to the peer at the start.
        push_msat: Msat,
        /// Where our money goes when the channel closes.
        close_to: Option<ScriptBuf>,
        /// The depth we ask for.
        mindepth: Option<u32>,
        /// What the peer must keep.
        reserve: Option<Sat>,
        /// The channel type wanted: `Some(true)` anchors, `Some(false)` static_remotekey only.
        anchors: Option<bool>,
        /// With `option_scid_alias` in it or not; `None`: for a channel that is not announced, if the peer takes it.
        scid_alias: Option<bool>,
    },
    /// Begin a channel whose funding transaction the user makes → [`Reply::FundingStarted`].
    FundChannelStart(Box<FundOrder>),
    /// The transaction for it, whose id must not change any more; it need not be signed → [`Reply::FundingSecured`].
    FundChannelComplete {
        /// With whom.
        peer: NodeId,
        /// All of it but witnesses.
        tx: Transaction,
    },
    /// Give such a channel up before its funding is sent → [`Reply::Done`].
    FundChannelCancel {
        /// With whom.
        peer: NodeId,
    },
    /// The user is about to send this, signed → [`Reply::SendsFunding`]; refused when that would lose money.
    SendsFunding {
        /// All of it.
        tx: Transaction,
    },
    /// Close by agreement; by force after `unilateral_timeout_s` when the peer does not answer (0: never)
    /// → [`Reply::Closed`].
    Close {
        /// Which.
        channel: ChannelRef,
        /// Seconds.
        unilateral_timeout_s: u64,
        /// Where our money goes.
        destination: Option<ScriptBuf>,
        /// Lowest and highest feerate of the closing transaction.
        feerange: Option<(Feerate, Feerate)>,
    },
    /// → [`Reply::PeerChannels`]
    ListPeerChannels {
        /// Only with this peer.
        peer: Option<NodeId>,
        /// Only this one.
        channel: Option<ChannelId>,
    },
    /// → [`Reply::ClosedChannels`]
    ListClosedChannels {
        /// Only with this peer.
        peer: Option<NodeId>,
    },
    /// Make an invoice, or with `hold` a hold invoice → [`Reply::Invoice`].
    Invoice(InvoiceRequest),
    /// → [`Reply::Invoices`]
    ListInvoices(InvoiceFilter),
    /// Forget an unpaid, expired or paid invoice → [`Reply::Invoice`].
    DelInvoice {
        /// Which.
        label: String,
        /// The status it must have: `unpaid`, `paid` or `expired`.
        status: String,
    },
    /// Wait until it is paid or expired → [`Reply::Invoice`].
    WaitInvoice {
        /// Which.
        label: String,
    },
    /// Wait for the next one paid after `lastpay_index` → [`Reply::Invoice`].
    WaitAnyInvoice {
        /// Where the caller stands.
        lastpay_index: u64,
        /// Seconds; error 904 afterwards.
        timeout_s: Option<u64>,
    },
    /// Take the money of an accepted hold invoice → [`Reply::Invoice`].
    SettleInvoice {
        /// The secret.
        preimage: Preimage,
    },
    /// Give the money of a hold invoice back → [`Reply::Invoice`].
    CancelInvoice {
        /// Which.
        payment_hash: PaymentHash,
    },
    /// Pay an invoice → [`Reply::Paid`] when the preimage is durable.
    Pay {
        /// The invoice.
        bolt11: String,
        /// Needed when the invoice names none.
        amount_msat: Option<Msat>,
        /// For lists.
        label: Option<String>,
        /// Seconds to go on trying.
        retry_for_s: u64,
        /// What a way may cost, and where it may not go.
        limits: RouteLimits,
    },
    /// Pay without an invoice → [`Reply::Paid`].
    Keysend {
        /// Whom.
        destination: NodeId,
        /// How much.
        amount_msat: Msat,
        /// For lists.
        label: Option<String>,
        /// Seconds to go on trying.
        retry_for_s: u64,
        /// What a way may cost, and where it may not go.
        limits: RouteLimits,
    },
    /// A route as `pay` would take it now; no money moves → [`Reply::Route`].
    GetRoute {
        /// To whom.
        destination: NodeId,
        /// How much is to arrive.
        amount_msat: Msat,
        /// The last hop's CLTV, in blocks from now.
        final_cltv_blocks: u32,
        /// What it may cost, and where it may not go.
        limits: RouteLimits,
    },
    /// Start a payment over a given route → [`Reply::Sent`] at once.
    SendPay {
        /// The hops.
        route: Vec<RouteHop>,
        /// The hash.
        payment_hash: PaymentHash,
        /// The invoice's secret.
        payment_secret: Option<[u8; 32]>,
        /// Total of all parts.
        amount_msat: Option<Msat>,
        /// For lists.
        label: Option<String>,
        /// For lists.
        bolt11: Option<String>,
    },
    /// Send one part of a payment over a given route → [`Reply::Sent`] at once.
    SendPart {
        /// The hops; what the last one gets is the part.
        route: Vec<RouteHop>,
        /// The hash.
        payment_hash: PaymentHash,
        /// The invoice's secret.
        payment_secret: Option<[u8; 32]>,
        /// Of all parts together.
        total_msat: Option<Msat>,
        /// The part's number, not 0.
        partid: u64,
        /// Of all parts that are to make up the payment together; one more than the last when it is left out.
        groupid: Option<u64>,
        /// For lists.
        label: Option<String>,
        /// For lists.
        bolt11: Option<String>,
    },
    /// Wait for what `SendPay` started → [`Reply::Sent`].
    WaitSendPay {
        /// The hash.
        payment_hash: PaymentHash,
        /// Seconds; error 200 afterwards.
        timeout_s: Option<u64>,
    },
    /// Wait for the end of a part → [`Reply::Sent`].
    WaitSendPart {
        /// The hash.
        payment_hash: PaymentHash,
        /// Which part.
        partid: u64,
        /// Of which group; the last one when it is left out.
        groupid: Option<u64>,
        /// Seconds; error 200 afterwards.
        timeout_s: Option<u64>,
    },
    /// → [`Reply::Pays`], a row for each part that was sent by hand.
    ListSendPays {
        /// Only this one.
        payment_hash: Option<PaymentHash>,
        /// Only this invoice.
        bolt11: Option<String>,
    },
    /// → [`Reply::Pays`]
    ListPays {
        /// Only this one.
        payment_hash: Option<PaymentHash>,
        /// Only this invoice.
        bolt11: Option<String>,
    },
    /// Wait until an index is at least this → [`Reply::Reached`], at once when it is.
    Wait {
        /// Of which list, and which of its indexes.
        index: (Subsystem, Event),
        /// How far.
        from: u64,
    },
    /// → [`Reply::Forwards`]
    ListForwards,
    /// → [`Reply::Htlcs`]
    ListHtlcs {
        /// Only of this channel.
        channel: Option<ChannelId>,
    },
    /// The balance snapshots really signed, newest first → [`Reply::Snapshots`].
    ListSnapshots {
        /// Of which channel.
        channel: ChannelRef,
        /// Skip this many.
        start: Option<u64>,
        /// At most this many (default 100).
        limit: Option<u64>,
    },
    /// The off-chain half of `balance` → [`Reply::Balance`].
    Balance,
    /// Open these backups, and make channels, for their peers to close, of those in them that are not known → [`Reply::Stubs`].
    EmergencyRecover {
        /// As they were sealed.
        sealed: Vec<Vec<u8>>,
    },
    /// Change our policy for a channel → [`Reply::PeerChannels`].
    SetChannel {
        /// Which; `None` for all.
        channel: Option<ChannelRef>,
        /// Msat.
        fee_base_msat: Option<u32>,
        /// Parts per million.
        fee_ppm: Option<u32>,
        /// Smallest HTLC forwarded.
        htlc_min_msat: Option<Msat>,
        /// Largest HTLC forwarded.
        htlc_max_msat: Option<Msat>,
    },
    /// For the daemon's task that serves watchtowers → [`Reply::TowerChannels`].
    TowerChannels,
    /// For the same: revoked states of a channel, oldest first → [`Reply::TowerStates`].
    TowerStates {
        /// Which.
        channel: ChannelId,
        /// The first.
        from: u64,
        /// How many at most.
        most: usize,
        /// With every HTLC of the first one, for a tower that has none of those before.
        whole: bool,
    },
    /// For the same: every tower has all states below this; `None`: every tower has forgotten the channel → [`Reply::Done`].
    TowersHave {
        /// Which.
        channel: ChannelId,
        /// Below which.
        below: Option<u64>,
    },
    /// The same, by somebody who may spend no more than this: only [`Command::Pay`] and [`Command::Keysend`].
    Within {
        /// Each of them counts.
        budgets: Vec<Budget>,
        /// What.
        command: Box<Command>,
    },
    /// Number and keep a new rune → [`Reply::Rune`].
    NewRune {
        /// Its restrictions, as they are hashed, without its number.
        restrictions: String,
    },
    /// → [`Reply::Runes`]
    ListRunes,
    /// Refuse runes by their numbers from now on, or no longer → [`Reply::Runes`].
    BlacklistRunes {
        /// The first.
        start: u64,
        /// The last.
        end: u64,
        /// No longer.
        relist: bool,
    },
    /// A rune was used → [`Reply::Done`].
    RuneUsed {
        /// Its number.
        id: u64,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// dev: fail a channel now, broadcasting our commitment → [`Reply::Closed`].
    DevFail {
        /// Which.
        channel: ChannelRef,
    },
    /// dev: our current commitment, signed → [`Reply::Tx`].
    DevSignLastTx {
        /// Which.
        channel: ChannelRef,
    },
    /// dev: publish an old commitment of ours, which the daemon kept → [`Reply::Tx`].
    DevBroadcastRevoked {
        /// As it was given out by `DevRevoked`.
        tx: Transaction,
    },
    /// dev: change the channel's feerate now (opener only) → [`Reply::Done`].
    DevFeerate {
        /// Which.
        channel: ChannelRef,
        /// To what.
        feerate: Feerate,
    },
}

impl Command {
    /// Whether it only asks: its answer changes nothing, and is made at once.
    pub const fn is_question(&self) -> bool {
        matches!(
            self,
            Command::GetInfo
                | Command::ListPeers { .. }
                | Command::ListPeerChannels { .. }
                | Command::ListClosedChannels { .. }
                | Command::ListInvoices(_)
                | Command::ListPays { .. }
                | Command::ListSendPays { .. }
                | Command::ListForwards
                | Command::ListHtlcs { .. }
                | Command::ListSnapshots { .. }
                | Command::Balance
                | Command::TowerChannels
                | Command::ListRunes
        )
    }
}

/// One hop of a given route (Core Lightning's `sendpay`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouteHop {
    /// Who.
    pub id: NodeId,
    /// Over which channel, when named.
    pub channel: Option<ShortChannelId>,
    /// How much reaches it.
    pub amount_msat: Msat,
    /// Its CLTV, in blocks from now.
    pub delay_blocks: u32,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// Nothing is under way that could end.
    Drained(view::Drain),
    /// `getinfo`
    Info(view::Info),
    /// `listpeers`
    Peers(Vec<view::Peer>),
    /// `connect`
    Connected(view::Peer),
    /// `ping`
    Ponged {
        /// Bytes in the pong, type and length fields included.
        totlen: u16,
    },
    /// `signmessage`
    Signed {
        /// The compact signature's 64 bytes.
        signature: [u8; 64],
        /// 0–3.
        recid: u8,
    },
    /// `fundchannel`
    Funded {
        /// The funding transaction.
        tx: Transaction,
        /// Its id.
        txid: Txid,
        /// The channel's output.
        outnum: u32,
        /// The channel.
        channel_id: ChannelId,
        /// Feature bits of its type.
        channel_type: Vec<u32>,
        /// Depth both wait for.
        mindepth: u32,
    },
    /// `fundchannel_start`
    FundingStarted {
        /// What the funding output must pay to.
        script_pubkey: ScriptBuf,
        /// Feature bits of the channel's type.
        channel_type: Vec<u32>,
        /// Depth both wait for.
        mindepth: u32,
    },
    /// `fundchannel_complete`: the peer has signed, the funding transaction may be sent.
    FundingSecured {
        /// The channel.
        channel_id: ChannelId,
    },
    /// A transaction that may be sent.
    SendsFunding {
        /// So many channels rely on it.
        of: usize,
    },
    /// `close`
    Closed {
        /// `mutual`, `unilateral` or `unopened`.
        kind: &'static str,
        /// The transaction.
        tx: Option<Transaction>,
    },
    /// `listpeerchannels`
    PeerChannels(Vec<view::Channel>),
    /// `listclosedchannels`
    ClosedChannels(Vec<view::ClosedChannel>),
    /// one invoice
    Invoice(view::Invoice),
    /// `listinvoices`
    Invoices(Vec<view::Invoice>),
    /// `pay`, `keysend`
    Paid(view::Pay),
    /// `sendpay`, `waitsendpay`
    Sent(view::Pay),
    /// `getroute`
    Route(Vec<RouteHop>),
    /// `listpays`, `listsendpays`
    Pays(Vec<view::Pay>),
    /// `listforwards`
    Forwards(Vec<view::Forward>),
    /// `wait`
    Reached(view::Reached),
    /// `listhtlcs`
    Htlcs(Vec<view::Htlc>),
    /// `listsnapshots`
    Snapshots(Vec<view::Snapshot>),
    /// `balance`
    Balance(Vec<view::ChannelBalance>),
    /// `emergencyrecover`: those that were not known
    Stubs(Vec<ChannelId>),
    /// a transaction
    Tx(Transaction),
    /// Channels that watchtowers have, or shall have, something of.
    TowerChannels(Vec<TowerChannel>),
    /// States for watchtowers, and what seals them.
    TowerStates {
        /// Keys and terms.
        sealing: Box<Sealing>,
        /// Oldest first.
        states: Vec<Revoked>,
    },
    /// A rune's number, and the epoch that its authentication code is made with.
    Rune {
        /// Unique.
        id: u64,
        /// Drawn once for a database.
        epoch: u64,
    },
    /// Everything about runes.
    Runes(Box<view::Runes>),
    /// `newaddr` and the like: text that the daemon made itself and only wanted kept first.
    Text(String),
}

/// Why a command was refused or failed. `code` is Core Lightning's; the message says what happened, what it
/// means for the money, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// JSON-RPC error code.
    pub code: i32,
    /// In words.
    pub message: String,
    /// Of `waitsendpay`: the payment, or the part of it, that failed.
    pub payment: Option<Box<view::Pay>>,
}

impl CommandError {
    /// One that says no more than this.
    pub fn new(code: i32, message: impl Into<String>) -> CommandError {
        CommandError { code, message: message.into(), payment: None }
    }
}
