//! What goes into a node and what comes out of it, beside messages.
//!
//! In: the world's events ([`Input`]). Out: [`Effect`]s inside a batch, which become [`After`]s on release.
//! The fields of [`Outgoing`] and [`Publish`] are private: only a released batch makes one, and the socket and
//! the broadcaster accept nothing else.
//! Read next: `node` (step), `store` (release).

use crate::gossip::News;
use crate::id::{ChannelId, CommandId, LinkId, NodeId};
use crate::node::command::{Command, CommandError, Reply, RouteHop};
use crate::node::routes::{Lesson, NoWay, Purpose, RouteRequest};
use crate::units::{Feerate, Height, Sat};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitcoin::{BlockHash, ScriptBuf, Transaction, TxOut, Txid};

/// Current feerates, in sat per 1,000 weight units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fees {
    /// What gets a transaction mined soon (about 6 blocks): new commitments, funding.
    pub normal: Feerate,
    /// What gets it mined at once (about 2 blocks).
    pub urgent: Feerate,
    /// What relays at all.
    pub minimum: Feerate,
}

/// A funding transaction the wallet built and signed, not yet published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FundedTx {
    /// Fully signed.
    pub tx: Transaction,
    /// Which output is the channel's.
    pub vout: u32,
}

/// An order to the wallet: coins for a transaction of a closed channel that cannot pay its own fee (BOLT 3: zero-fee
/// HTLC transactions; BOLT 5: a commitment that is bumped through its anchor).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachOrder {
    /// Of which channel.
    pub channel: ChannelId,
    /// The channel's number for it; comes back in the answer.
    pub claim: u32,
    /// Unsigned. Its inputs and outputs keep their places, version and lock time stay; coins and change come after them.
    pub tx: Transaction,
    /// The outputs that its inputs spend, in order.
    pub spent: Vec<TxOut>,
    /// What the witnesses of those inputs will weigh, in weight units; everything else can be counted.
    pub witness_weight: u64,
    /// What the transaction, together with `parent`, is to pay at least.
    pub feerate: Feerate,
    /// An unconfirmed parent that this one carries: its weight in weight units, and its fee.
    pub parent: Option<(u64, Sat)>,
    /// What will do when `feerate` would cost more than `most`, and is worth it: half of `most` is paid then. With a parent
    /// whatever `most` allows will do.
    pub lowest: Feerate,
    /// More than this is not to be paid.
    pub most: Sat,
    /// The version before: its coins may be taken again, and at least the relay's increment more is to be paid than it
    /// paid (full RBF).
    pub replaces: Option<Transaction>,
}

/// Why the wallet made no transaction of an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unattached {
    /// It has too few coins; in words, with what there is.
    NoCoins(String),
    /// By its feerate, or by the rules of relay and replacement, it would cost so much: more than the order's `most`.
    TooDear(Sat),
}

/// One event of the outside world.
// Messages are moved, not boxed: an allocation for each would cost more than the copy.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Input {
    /// The noise handshake with a peer is done.
    Linked {
        /// Who.
        peer: NodeId,
        /// This connection.
        link: LinkId,
        /// They called us.
        inbound: bool,
        /// Where they are, `host:port`.
        address: String,
    },
    /// A connection is gone. May come for a link that was replaced already.
    Unlinked {
        /// Who.
        peer: NodeId,
        /// Which connection.
        link: LinkId,
        /// In words.
        reason: String,
    },
    /// A dial asked for by [`Effect::Dial`] failed.
    DialFailed {
        /// Who.
        peer: NodeId,
        /// In words.
        reason: String,
    },
    /// A decoded message.
    Message {
        /// From whom.
        peer: NodeId,
        /// Over which connection.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// A message that does not decode; nothing more comes over this connection.
    BadMessage {
        /// From whom.
        peer: NodeId,
        /// Over which connection.
        link: LinkId,
        /// In words.
        reason: String,
    },
    /// A question or order through a control socket; answered once by [`Effect::Reply`].
    Command {
        /// To match the answer.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// Whoever gave these is gone: nobody waits for their answers. What they asked for goes on.
    Abandoned {
        /// As they were numbered.
        ids: Vec<CommandId>,
    },
    /// The next block of the chain; `height` is the node's tip plus one.
    BlockConnected {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
        /// Its header's time, seconds since the Unix epoch.
        time_s: u32,
        /// Its transactions.
        txs: Arc<Vec<Transaction>>,
        /// The wallet's change by this block, to be kept in the same batch.
        wallet: Option<Vec<u8>>,
    },
    /// The tip block left the chain (a reorganisation).
    BlockDisconnected {
        /// Its height: the node's tip.
        height: Height,
        /// Its hash.
        hash: BlockHash,
        /// The wallet's change, to be kept in the same batch.
        wallet: Option<Vec<u8>>,
    },
    /// The chain backend has no newer block.
    ChainSynced {
        /// When the tip was made, seconds since the Unix epoch; `None` when that is not known.
        tip_time_s: Option<u32>,
    },
    /// The chain backend cannot be reached, or can be again.
    ChainReachable(bool),
    /// New fee estimates.
    Fees(Fees),
    /// The wallet's answer to [`Effect::Fund`].
    Funded {
        /// The temporary channel id of the request.
        channel: ChannelId,
        /// The transaction, or why there is none, in words.
        result: Result<FundedTx, String>,
        /// The wallet's change (reserved coins, change address), to be kept in the same batch.
        wallet: Option<Vec<u8>>,
    },
    /// The wallet's answer to [`Effect::Attach`].
    Attached {
        /// The channel of the order.
        channel: ChannelId,
        /// The order's number.
        claim: u32,
        /// The transaction with the wallet's inputs signed and the order's inputs not, or why there is none.
        result: Result<Transaction, Unattached>,
        /// How many more such orders the wallet has coins for.
        spare_coins: u32,
        /// The wallet's change (reserved coins, change address), to be kept in the same batch.
        wallet: Option<Vec<u8>>,
    },
    /// The wallet changed by itself (a new address): kept, then `reply` is released.
    Wallet {
        /// What to keep.
        change: Vec<u8>,
        /// A transaction to publish once it is kept (a withdrawal).
        publish: Option<Transaction>,
        /// Whom to answer once it is kept.
        reply: Option<(CommandId, Reply)>,
    },
    /// The wallet as a whole: kept, and all changes of it that were kept before are forgotten in the same batch.
    WalletCompacted {
        /// What to keep.
        change: Vec<u8>,
    },
    /// A withdrawal that the wallet keeps and that is in no block yet: offered to the chain backend again.
    Offer {
        /// All of it.
        tx: Transaction,
    },
    /// One of the blocks that [`Effect::ReadAgain`] asked for.
    OldBlock {
        /// Its height.
        height: Height,
        /// Its transactions.
        txs: Arc<Vec<Transaction>>,
        /// No more come.
        last: bool,
    },
    /// What became of a transaction given to the broadcaster.
    Published {
        /// Which.
        txid: Txid,
        /// Accepted (or known already), or the backend's reason.
        result: Result<(), String>,
    },
    /// The answer to [`Effect::FindRoutes`].
    Routes {
        /// The question's.
        purpose: Purpose,
        /// Ways that carry all of it together, each with the payee as its last hop; or why there are none.
        result: Result<Vec<Vec<RouteHop>>, NoWay>,
    },
}

/// What a step wants done, once its records are durable.
// Messages are moved, not boxed: an allocation for each would cost more than the copy.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Effect {
    Send {
        peer: NodeId,
        link: LinkId,
        message: Message,
    },
    HangUp {
        peer: NodeId,
        link: LinkId,
        reason: String,
    },
    Dial {
        peer: NodeId,
        address: String,
    },
    Publish {
        tx: Transaction,
        why: &'static str,
    },
    Reply {
        id: CommandId,
        result: Result<Reply, CommandError>,
    },
    Notice(Notice),
    Fund {
        channel: ChannelId,
        script_pubkey: ScriptBuf,
        amount: FundAmount,
        feerate: Feerate,
    },
    Unreserve {
        txid: Txid,
    },
    Attach(Box<AttachOrder>),
    /// A transaction that follows from records already kept and from the chain alone (a penalty, a sweep, a timeout):
    /// making it twice makes the same again, so it may leave before the batch is kept. A full disk lets no cheat through.
    Claim {
        tx: Transaction,
        why: &'static str,
    },
    DevRevoked {
        channel: ChannelId,
        number: u64,
        tx: Transaction,
    },
    /// A state was revoked that watchtowers shall have: whoever serves them may come and ask.
    Tower,
    FindRoutes(Box<RouteRequest>),
    Learn(Box<Lesson>),
    /// For the gossip machine.
    Gossip(Box<News>),
    Backup(Vec<u8>),
    ReadAgain {
        from: Height,
        to: Height,
    },
}

/// How much a funding output is to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FundAmount {
    /// Exactly this.
    Exact(Sat),
    /// All the wallet can spend, at most this.
    All {
        /// The upper bound.
        at_most: Sat,
    },
}

/// A message that may leave.
#[derive(Debug)]
pub struct Outgoing {
    peer: NodeId,
    link: LinkId,
    message: Message,
}

impl Outgoing {
    /// Whom it is for, over which connection, and what it says.
    pub fn into_parts(self) -> (NodeId, LinkId, Message) {
        (self.peer, self.link, self.message)
    }
    /// To look at without taking it.
    pub fn message(&self) -> &Message {
        &self.message
    }
}

/// A transaction that may be broadcast.
#[derive(Debug)]
pub struct Publish {
    tx: Transaction,
    why: &'static str,
}

impl Publish {
    /// Only `Batch::claims` calls this (`store`): of effects that need no record.
    pub(crate) fn of_claim(effect: &Effect) -> Option<Publish> {
        match effect {
            Effect::Claim { tx, why } => Some(Publish { tx: tx.clone(), why }),
            _ => None,
        }
    }

    /// The transaction, and what it is for.
    pub fn into_parts(self) -> (Transaction, &'static str) {
        (self.tx, self.why)
    }
}

/// An effect whose records are durable.
// Messages are moved, not boxed: an allocation for each would cost more than the copy.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum After {
    /// Send a message.
    Send(Outgoing),
    /// Close a connection.
    HangUp {
        /// Who.
        peer: NodeId,
        /// Which connection.
        link: LinkId,
        /// In words.
        reason: String,
    },
    /// Call a peer once; the answer is `Linked` or `DialFailed`.
    Dial {
        /// Who.
        peer: NodeId,
        /// `host:port`.
        address: String,
    },
    /// Broadcast a transaction; the answer is `Published`.
    Publish(Publish),
    /// Answer a command.
    Reply {
        /// Which.
        id: CommandId,
        /// What.
        result: Result<Reply, CommandError>,
    },
    /// Log it.
    Notice(Notice),
    /// The wallet is to build and sign a funding transaction and reserve its coins; the answer is `Funded`.
    Fund {
        /// Temporary channel id.
        channel: ChannelId,
        /// What to pay to.
        script_pubkey: ScriptBuf,
        /// How much.
        amount: FundAmount,
        /// At which feerate.
        feerate: Feerate,
    },
    /// The funding transaction will never be published: its coins are free again.
    Unreserve {
        /// Which transaction.
        txid: Txid,
    },
    /// The wallet is to add coins to a transaction and sign for them; the answer is `Attached`.
    Attach(Box<AttachOrder>),
    /// With `--dev` only: a commitment of ours that is being revoked, to be kept in a file for
    /// `dev-broadcast-revoked`.
    DevRevoked {
        /// Of which channel.
        channel: ChannelId,
        /// Its number.
        number: u64,
        /// Fully signed.
        tx: Transaction,
    },
    /// There is something for watchtowers: `Command::TowerChannels` tells what.
    Tower,
    /// Whoever knows the network is to find ways; the answer is `Routes`.
    FindRoutes(Box<RouteRequest>),
    /// What an HTLC taught of channels of others.
    Learn(Box<Lesson>),
    /// For the gossip machine beside the node.
    Gossip(Box<News>),
    /// The channel backup, sealed: to be written in the place of the one before.
    Backup(Vec<u8>),
    /// Blocks are to be read once more, oldest first; the answers are `OldBlock`s.
    ReadAgain {
        /// The first.
        from: Height,
        /// The last.
        to: Height,
    },
}

impl After {
    /// Only a released batch calls this (`store`).
    pub(crate) fn released(effect: Effect) -> After {
        match effect {
            Effect::Send { peer, link, message } => After::Send(Outgoing { peer, link, message }),
            Effect::HangUp { peer, link, reason } => After::HangUp { peer, link, reason },
            Effect::Dial { peer, address } => After::Dial { peer, address },
            Effect::Publish { tx, why } => After::Publish(Publish { tx, why }),
            Effect::Reply { id, result } => After::Reply { id, result },
            Effect::Notice(notice) => After::Notice(notice),
            Effect::Fund { channel, script_pubkey, amount, feerate } => {
                After::Fund { channel, script_pubkey, amount, feerate }
            }
            Effect::Unreserve { txid } => After::Unreserve { txid },
            Effect::Attach(order) => After::Attach(order),
            Effect::Claim { tx, why } => After::Publish(Publish { tx, why }),
            Effect::DevRevoked { channel, number, tx } => After::DevRevoked { channel, number, tx },
            Effect::Tower => After::Tower,
            Effect::Backup(sealed) => After::Backup(sealed),
            Effect::ReadAgain { from, to } => After::ReadAgain { from, to },
            Effect::FindRoutes(request) => After::FindRoutes(request),
            Effect::Learn(lesson) => After::Learn(lesson),
            Effect::Gossip(news) => After::Gossip(news),
        }
    }
}

/// How loud a notice is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Something worth a log line; the daemon writes it with its fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// How loud.
    pub level: Level,
    /// In words; never a secret.
    pub text: String,
    /// The peer it is about.
    pub peer: Option<NodeId>,
    /// The channel it is about.
    pub channel: Option<ChannelId>,
}
