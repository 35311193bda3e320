//! The shapes of answers: what a node says of itself, as plain data.
//!
//! In: the node's state, read after a step. Out: structs whose fields carry Core Lightning's meaning.
//! Read next: `command`.

use crate::channel::cause::Annals;
use crate::channel::policy::Policy;
use crate::id::{ChannelId, NodeId, PaymentHash, Preimage, ShortChannelId, Side};
use crate::node::waits::{Event, Subsystem};
use crate::onchain::Output;
use crate::units::{Feerate, Height, Msat, Sat, Timestamp};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{OutPoint, ScriptBuf, Txid};
use serde::{Deserialize, Serialize};

/// `getinfo`
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Info {
    pub id: NodeId,
    pub alias: String,
    pub color: [u8; 3],
    pub num_peers: u32,
    pub num_pending_channels: u32,
    pub num_active_channels: u32,
    pub num_inactive_channels: u32,
    pub blockheight: Height,
    pub chain_reachable: bool,
    pub chain_synced: bool,
    pub features_init: Vec<u8>,
    pub features_invoice: Vec<u8>,
    /// What forwards earned, those included that no list shows any more.
    pub fees_collected: Msat,
    /// Nothing is begun any more, and this is left of what was.
    pub draining: Option<Drain>,
}

/// HTLCs of a node that is about to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drain {
    /// Which are waited for.
    pub under_way: u32,
    /// Which wait for their user: `settleinvoice`, `cancelinvoice`.
    pub held: u32,
    /// Which wait for a peer that is away, or for the chain.
    pub absent: u32,
}

/// `listpeers`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Who.
    pub id: NodeId,
    /// `init` was exchanged.
    pub connected: bool,
    /// They called us.
    pub inbound: bool,
    /// `host:port` of the connection, or of the last known address.
    pub address: Option<String>,
    /// Their features, as bytes.
    pub features: Vec<u8>,
    /// How many channels.
    pub num_channels: u32,
}

/// Core Lightning's names for a channel's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum State {
    Openingd,
    ChanneldAwaitingLockin,
    ChanneldNormal,
    ChanneldShuttingDown,
    ClosingdSigexchange,
    ClosingdComplete,
    AwaitingUnilateral,
    FundingSpendSeen,
    Onchain,
    Closed,
}

impl State {
    /// As `listpeerchannels` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Openingd => "OPENINGD",
            State::ChanneldAwaitingLockin => "CHANNELD_AWAITING_LOCKIN",
            State::ChanneldNormal => "CHANNELD_NORMAL",
            State::ChanneldShuttingDown => "CHANNELD_SHUTTING_DOWN",
            State::ClosingdSigexchange => "CLOSINGD_SIGEXCHANGE",
            State::ClosingdComplete => "CLOSINGD_COMPLETE",
            State::AwaitingUnilateral => "AWAITING_UNILATERAL",
            State::FundingSpendSeen => "FUNDING_SPEND_SEEN",
            State::Onchain => "ONCHAIN",
            State::Closed => "CLOSED",
        }
    }
}

/// One pending HTLC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Htlc {
    /// In which channel.
    pub channel_id: ChannelId,
    /// Its short id, when it has one.
    pub short_channel_id: Option<ShortChannelId>,
    /// Its number.
    pub id: u64,
    /// `Local`: we offered it (CLN `out`), `Remote`: they did (`in`).
    pub offered_by: Side,
    /// How much.
    pub amount_msat: Msat,
    /// The lock.
    pub payment_hash: PaymentHash,
    /// The deadline.
    pub expiry: Height,
    /// CLN's state name, e.g. `SENT_ADD_ACK_REVOCATION`.
    pub state: &'static str,
    /// Too small for an output in our commitment.
    pub local_trimmed: bool,
    /// Why it is not looked at yet.
    pub waits_because: Option<&'static str>,
}

/// `listpeerchannels`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel {
    /// With whom.
    pub peer_id: NodeId,
    /// The link is up and reestablished.
    pub peer_connected: bool,
    /// `channel_reestablish` was exchanged.
    pub reestablished: bool,
    /// Its state.
    pub state: State,
    /// Lines for a person: what it waits for.
    pub status: Vec<String>,
    /// Who opened.
    pub opener: Side,
    /// Who closes, once it closes.
    pub closer: Option<Side>,
    /// Its id; temporary while opening.
    pub channel_id: ChannelId,
    /// Once confirmed.
    pub short_channel_id: Option<ShortChannelId>,
    /// What we call it, and what the peer does.
    pub alias: (Option<ShortChannelId>, Option<ShortChannelId>),
    /// The funding output.
    pub funding: Option<OutPoint>,
    /// Capacity.
    pub total: Sat,
    /// Ours at the start.
    pub initial_to_us_msat: Msat,
    /// Ours, our unresolved offered HTLCs included (as Core Lightning's).
    pub to_us_msat: Msat,
    /// What we can offer in one HTLC now, reserve and fees allowed for.
    pub spendable_msat: Msat,
    /// What the peer can offer us now.
    pub receivable_msat: Msat,
    /// The least `to_us` ever was, and the most.
    pub min_to_us_msat: Msat,
    /// The most `to_us` ever was.
    pub max_to_us_msat: Msat,
    /// The fee of our current commitment.
    pub commit_fee: Sat,
    /// Its feerate.
    pub feerate: Feerate,
    /// Feature bits of the channel type.
    pub type_bits: Vec<u32>,
    /// Its opener did not ask for it to be announced.
    pub private: bool,
    /// Dust limits: ours, theirs.
    pub dust_limit: (Sat, Sat),
    /// Reserve we must keep (set by them), reserve they must keep (set by us).
    pub reserve: (Sat, Sat),
    /// CSV delays in blocks: on us (set by them), on them (set by us).
    pub to_self_delay: (u16, u16),
    /// Smallest HTLC: they take, we take.
    pub htlc_minimum_msat: (Msat, Msat),
    /// Largest total in flight: towards them, towards us.
    pub max_in_flight_msat: (Msat, Msat),
    /// Most HTLCs: they take, we take.
    pub max_accepted_htlcs: (u16, u16),
    /// What we ask of forwards, with the limits that the channel itself sets.
    pub policy: Policy,
    /// Commitment numbers: ours, theirs.
    pub commitment_number: (u64, u64),
    /// Confirmations the funding has, and needs by our word.
    pub depth: (u32, u32),
    /// Pending HTLCs.
    pub htlcs: Vec<Htlc>,
    /// Payments: offered, fulfilled, each with its sum; then received, fulfilled.
    pub stats: Stats,
    /// Our shutdown script, the peer's.
    pub close_to: (Option<ScriptBuf>, Option<ScriptBuf>),
    /// The closing transaction, once known.
    pub closing_txid: Option<Txid>,
    /// Why it closes, and every change of its state.
    pub annals: Annals,
    /// What became of the outputs of a published commitment.
    pub outputs: Vec<Output>,
    /// Those of them that are left until feerates fall, and what taking each would cost at least.
    pub resting: Vec<(OutPoint, Sat)>,
    /// This node's records of it are an old copy.
    pub lost_state: bool,
}

impl Channel {
    /// Whether we mean it by this name.
    pub fn is_called(&self, name: ShortChannelId) -> bool {
        self.short_channel_id == Some(name) || self.alias.0 == Some(name)
    }
}

/// Counters of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Stats {
    pub in_offered: u64,
    pub in_offered_msat: Msat,
    pub in_fulfilled: u64,
    pub in_fulfilled_msat: Msat,
    pub out_offered: u64,
    pub out_offered_msat: Msat,
    pub out_fulfilled: u64,
    pub out_fulfilled_msat: Msat,
}

/// `listclosedchannels`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedChannel {
    /// As it was last.
    pub channel: Channel,
    /// `mutual`, `local` (we by force), `remote` (they by force), `unknown`.
    pub close_cause: &'static str,
    /// In words: what happened.
    pub trigger: String,
    /// When the closing transaction confirmed.
    pub height: Option<Height>,
    /// Our part of the last commitment's balance at the end.
    pub final_to_us_msat: Msat,
    /// The fee the close paid.
    pub last_commitment_fee: Option<Sat>,
}

/// One invoice.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Invoice {
    pub label: String,
    pub bolt11: String,
    pub payment_hash: PaymentHash,
    /// Given only by `invoice`'s answer, which CLN puts there too.
    pub payment_secret: [u8; 32],
    pub amount_msat: Option<Msat>,
    /// `unpaid`, `paid` or `expired`.
    pub status: &'static str,
    /// For hold invoices: `accepted`, `settled`, `cancelled`, or `open` while nothing came.
    pub hold: Option<&'static str>,
    pub description: String,
    pub expires_at_s: u64,
    pub created_index: u64,
    /// Of its newest change; `None` when there was none.
    pub updated_index: Option<u64>,
    pub pay_index: Option<u64>,
    pub amount_received_msat: Option<Msat>,
    pub paid_at_s: Option<u64>,
    /// Only once paid.
    pub preimage: Option<Preimage>,
    /// Of what was received, what its payers took back on chain: it is lost to us.
    pub lost: Option<Msat>,
}

/// One outgoing payment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Pay {
    pub payment_hash: PaymentHash,
    pub destination: Option<NodeId>,
    pub bolt11: Option<String>,
    pub label: Option<String>,
    pub description: Option<String>,
    /// `pending`, `complete` or `failed`.
    pub status: &'static str,
    pub amount_msat: Msat,
    pub amount_sent_msat: Msat,
    pub created_at_s: u64,
    pub completed_at_s: Option<u64>,
    pub preimage: Option<Preimage>,
    pub created_index: u64,
    /// Of its newest change; `None` when there was none.
    pub updated_index: Option<u64>,
    pub parts: u32,
    /// When failed: code and words.
    pub failure: Option<(i32, String)>,
    /// Who gave it back, of several parts the last one, when that could be read.
    pub erring: Option<Erring>,
    /// Of one part that the user sent by hand: its `partid` and `groupid`.
    pub part: Option<(u64, u64)>,
}

/// Who gave an HTLC of a payment back, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Erring {
    /// Where it stands on the way; we are 0.
    pub index: u32,
    /// BOLT 4's code.
    pub failcode: u16,
    /// Who; `None` inside a blinded path.
    pub node: Option<NodeId>,
    /// The channel that it was to send on over, or over which it came to the payee; and which way.
    pub channel: Option<(ShortChannelId, u8)>,
}

/// One HTLC that went on through us.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Forward {
    pub in_channel: Option<ShortChannelId>,
    pub in_htlc_id: u64,
    pub in_msat: Msat,
    pub in_expiry: Height,
    pub out_channel: Option<ShortChannelId>,
    pub out_htlc_id: u64,
    pub out_msat: Msat,
    pub out_expiry: Height,
    pub payment_hash: PaymentHash,
    /// `offered`, `settled` or `failed`.
    pub status: &'static str,
    pub received: Timestamp,
    pub resolved: Option<Timestamp>,
    pub created_index: u64,
    /// Of its newest change; `None` when there was none.
    pub updated_index: Option<u64>,
    /// It was paid on and is lost to us: so much.
    pub lost: Option<Msat>,
}

/// `wait`: an index is as far as was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// The list.
    pub subsystem: Subsystem,
    /// Which of its indexes.
    pub event: Event,
    /// How far that is.
    pub number: u64,
    /// What happened to bring it there; `None` when it was there already.
    pub row: Option<Row>,
}

/// A row of one of the lists whose events are counted.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Row {
    Invoice(Box<Invoice>),
    Sendpay(Box<Pay>),
    Forward(Box<Forward>),
}

/// A balance snapshot that was really signed (the seed's 余额分配方案).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Our commitment's number.
    pub number: u64,
    /// The peer's commitment's number at that time.
    pub their_number: u64,
    /// Ours, HTLCs not counted.
    pub our_msat: Msat,
    /// Theirs, HTLCs not counted.
    pub their_msat: Msat,
    /// HTLCs in it: who offered, amount, hash, expiry.
    pub htlcs: Vec<SnapshotHtlc>,
    /// Its feerate.
    pub feerate: Feerate,
    /// `current`, `revoked` or `pending`.
    pub status: &'static str,
    /// When it was signed, seconds since the Unix epoch.
    pub time_s: u64,
}

/// One HTLC of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct SnapshotHtlc {
    pub offered_by: Side,
    pub amount_msat: Msat,
    pub payment_hash: PaymentHash,
    pub expiry: Height,
}

/// One channel's terms of `balance`; they add up to `capacity`, and the node checks that they do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct ChannelBalance {
    pub channel_id: ChannelId,
    pub peer_id: NodeId,
    pub state: State,
    pub capacity: Sat,
    /// Ours beyond reserve and fees.
    pub spendable_msat: Msat,
    /// Ours that must stay.
    pub our_reserve_msat: Msat,
    /// What we set aside for the commitment's fee, when we opened.
    pub commit_fee_msat: Msat,
    /// Both 330-sat anchors, when we opened.
    pub anchors_msat: Msat,
    /// Offered by us, unresolved.
    pub htlcs_out_msat: Msat,
    /// Offered by the peer, unresolved.
    pub htlcs_in_msat: Msat,
    /// Of those, too small for an output in our commitment (counted above already).
    pub dust_msat: Msat,
    /// The peer's, all of it.
    pub their_msat: Msat,
}

/// What `showrunes` and `blacklistrune` tell, and what checks a rune.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Runes {
    /// What authentication codes are made with; `None` before the first rune.
    pub epoch: Option<u64>,
    /// By their numbers.
    pub runes: Vec<Rune>,
    /// Numbers that are refused, first and last.
    pub blacklist: Vec<(u64, u64)>,
    /// Budgets of which something was spent, or is set aside.
    pub accounts: Vec<Account>,
}

/// A rune that was made here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rune {
    /// Its number.
    pub id: u64,
    /// Without the number.
    pub restrictions: String,
    /// Seconds since the Unix epoch.
    pub created_at_s: u64,
    /// Milliseconds since then; 0: never.
    pub used_at_ms: u64,
}

/// How a budget stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    /// Whose.
    pub name: [u8; 32],
    /// What its payments cost.
    pub spent: Msat,
    /// The day, since the Unix epoch, that this counts for; 0: for all.
    pub day: u64,
    /// What payments under way may cost at most.
    pub held: Msat,
}
