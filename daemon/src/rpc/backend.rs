//! What the control socket needs from the daemon, as a trait and plain data.
//!
//! In: requests already checked and typed. Out: answers to be rendered.
//! The daemon's single writer implements [`Backend`]; tests have one of their own.
//! Read next: `call` (who asks for what).

use crate::core::Drained;
use crate::gossip::GossipHandle;
use crate::runes::Authority;
use crate::tower::TowerStatus;
use crate::wallet::{BumpOrder, FundedPsbt, Plan, PsbtOrder, Reservation};
use chand_protocol::id::NodeId;
use chand_protocol::node::command::{Command, CommandError, Reply};
use chand_protocol::node::effect::Fees;
use chand_protocol::units::{Feerate, Height, Sat};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// An answer that will come.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The daemon, as the control socket sees it. Called from many tasks at once.
pub trait Backend: Send + Sync + 'static {
    /// Hands a command to the node; resolves once the node answered and the answer is durable.
    /// Dropping the future forgets the answer, it does not undo the command.
    fn command(&self, command: Command) -> Pending<Result<Reply, CommandError>>;

    /// Asks the on-chain wallet. What it changes is durable before this resolves.
    fn wallet(&self, request: WalletRequest) -> Pending<Result<WalletReply, CommandError>>;

    /// Why answers to questions tell of an older state than there is, in words; `None` when they do not.
    fn behind(&self) -> Option<String> {
        None
    }

    /// Begins the orderly shutdown. Called after the answer to `stop` was written.
    fn stop(&self);

    /// Begins nothing any more and lets what is under way end, for so long at most; then begins the orderly shutdown, half a
    /// second after this resolved. Whoever drops the future takes nothing back.
    fn drain(&self, time: Duration) -> Pending<Drained>;

    /// Every option with its value and where it came from. Secrets are not among them.
    fn configs(&self) -> Vec<ConfigEntry>;

    /// The watchtowers that were named at the start.
    fn towers(&self) -> Vec<TowerStatus>;

    /// The chain backends that were named at the start.
    fn chains(&self) -> Vec<crate::chain::Report>;

    /// What is known of the network.
    fn gossip(&self) -> GossipHandle;

    /// A transaction in the chain backend's mempool, and what it pays if that is known; `None` when it is not there.
    fn mempool(&self, txid: bitcoin::Txid) -> Pending<Option<(bitcoin::Transaction, Option<Sat>)>>;

    /// Who makes and checks runes.
    fn runes(&self) -> Arc<Authority>;

    /// What stays the same while the daemon runs.
    fn about(&self) -> About;
}

/// What stays the same while the daemon runs.
#[derive(Clone, Debug)]
pub struct About {
    /// Who we are.
    pub node_id: NodeId,
    /// Whose addresses we take.
    pub network: chand_protocol::chain::Network,
    /// The program's version.
    pub version: String,
    /// `DIR/NETWORK`, where the files are.
    pub lightning_dir: PathBuf,
    /// `dev-…` methods exist.
    pub dev: bool,
    /// Addresses we tell others, `host:port`.
    pub addresses: Vec<String>,
    /// Where we listen.
    pub bindings: Vec<SocketAddr>,
    /// `our_features`: for `init`, `node_announcement`, `channel_announcement` and invoices, big-endian bytes.
    pub features: FeatureSets,
}

/// Feature bits by place.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct FeatureSets {
    pub node: Vec<u8>,
    pub channel: Vec<u8>,
}

/// One option of `listconfigs`.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    /// As on the command line, without dashes before it.
    pub name: String,
    /// Its value.
    pub value: ConfigValue,
    /// `cmdline`, `environment`, `default`, or a file and its line.
    pub source: String,
}

/// An option's value, by type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigValue {
    /// A flag that is there or not.
    Set(bool),
    /// Yes or no.
    Bool(bool),
    /// Words.
    Text(String),
    /// Given several times.
    Texts(Vec<String>),
    /// A number.
    Int(u64),
    /// An amount.
    Msat(u64),
}

/// Which kind of address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressKind {
    /// Pay to witness key hash.
    Bech32,
    /// Taproot.
    P2tr,
}

/// A question or order to the on-chain wallet.
#[derive(Clone, Debug)]
pub enum WalletRequest {
    /// A fresh address → [`WalletReply::Address`].
    NewAddress {
        /// Of which kind; `None`: the wallet's own.
        kind: Option<AddressKind>,
    },
    /// Our coins → [`WalletReply::Coins`].
    ListCoins {
        /// Spent ones too.
        spent: bool,
    },
    /// Send coins out → [`WalletReply::Withdrawn`], once the transaction was accepted for broadcast.
    /// Errors: 301 not enough, 302 below dust.
    Withdraw {
        /// To whom.
        destination: bitcoin::ScriptBuf,
        /// How much; `None`: all that can be spent, fee taken from it.
        amount: Option<Sat>,
        /// At which feerate; `None`: `normal`.
        feerate: Option<Feerate>,
        /// How deep the coins spent must be.
        min_confirmations: u32,
        /// Spend these and no others.
        utxos: Option<Vec<bitcoin::OutPoint>>,
    },
    /// A PSBT with coins of ours → [`WalletReply::PsbtFunded`]. Error 301: not enough.
    FundPsbt(Box<PsbtOrder>),
    /// Sign our inputs, or those numbered → [`WalletReply::Psbt`].
    SignPsbt {
        /// What.
        psbt: Box<bitcoin::Psbt>,
        /// Only these inputs.
        only: Option<Vec<u32>>,
    },
    /// The finished transaction of a PSBT, checked → [`WalletReply::Finished`].
    FinishPsbt {
        /// Signed by all.
        psbt: Box<bitcoin::Psbt>,
    },
    /// Send such a one → [`WalletReply::Sent`], once it was accepted for broadcast.
    SendPsbt {
        /// Signed by all.
        psbt: Box<bitcoin::Psbt>,
        /// Our coins in it are put aside for so many blocks more.
        reserve_blocks: u32,
        /// A channel relies on it.
        relied: bool,
    },
    /// Put our coins among these aside → [`WalletReply::Reservations`].
    ReserveInputs {
        /// Which.
        coins: Vec<bitcoin::OutPoint>,
        /// None may be put aside already.
        exclusive: bool,
        /// For how long.
        blocks: u32,
    },
    /// Free them, or put them aside for less long → [`WalletReply::Reservations`].
    UnreserveInputs {
        /// Which.
        coins: Vec<bitcoin::OutPoint>,
        /// By how much.
        blocks: u32,
    },
    /// Raise the fee of a transaction in no block → [`WalletReply::Withdrawn`].
    Bump {
        /// Which, and how.
        order: Box<BumpOrder>,
        /// At which feerate; `None`: `urgent`.
        feerate: Option<Feerate>,
    },
    /// What another request would do, without doing it → [`WalletReply::Planned`].
    Plan(Box<WalletRequest>),
    /// What funding a channel would take; only to be planned.
    Fund {
        /// The channel's size; `None`: as much as can be.
        amount: Option<Sat>,
        /// It may have anchors: something is kept back for it, too.
        anchors: bool,
        /// Of the funding transaction; `None`: `normal`.
        feerate: Option<Feerate>,
    },
    /// The largest channel that our coins can fund now → [`WalletReply::MostFundable`]. Error 301: nothing can.
    MostFundable {
        /// It may have anchors: something is kept back for it, too.
        anchors: bool,
        /// Of the funding transaction; `None`: `normal`.
        feerate: Option<Feerate>,
    },
    /// What stays in the wallet for closes on chain → [`WalletReply::KeptBack`].
    KeptBack,
    /// What fees are now → [`WalletReply::Feerates`].
    Feerates,
}

/// The wallet's answer.
#[derive(Clone, Debug)]
pub enum WalletReply {
    /// A fresh address.
    Address {
        /// Of which kind it is.
        kind: AddressKind,
        /// In words.
        address: String,
    },
    /// Our coins.
    Coins(Vec<Coin>),
    /// What was sent.
    Withdrawn {
        /// Fully signed.
        tx: bitcoin::Transaction,
        /// The same as a PSBT.
        psbt: Box<bitcoin::Psbt>,
    },
    /// A PSBT, and what was put aside for it.
    PsbtFunded(Box<FundedPsbt>),
    /// A PSBT.
    Psbt(Box<bitcoin::Psbt>),
    /// A transaction that could be sent.
    Finished(bitcoin::Transaction),
    /// A transaction that was sent.
    Sent(bitcoin::Transaction),
    /// Coins put aside, or freed.
    Reservations(Vec<Reservation>),
    /// What would be done.
    Planned(Box<Plan>),
    /// A channel's capacity.
    MostFundable(Sat),
    /// For the fees of channels with anchors, should they close on chain.
    KeptBack {
        /// How much.
        amount: Sat,
        /// For how many channels.
        channels: u64,
    },
    /// Fees.
    Feerates(FeeTable),
}

/// One output of ours on chain.
#[derive(Clone, Debug)]
pub struct Coin {
    /// Which.
    pub outpoint: bitcoin::OutPoint,
    /// How much.
    pub amount: Sat,
    /// Its script.
    pub script_pubkey: bitcoin::ScriptBuf,
    /// Its script as an address, if it has one.
    pub address: Option<String>,
    /// Where it stands.
    pub status: CoinStatus,
    /// Put aside for a transaction in the making, until this height.
    pub reserved_to: Option<Height>,
}

/// Where a coin stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoinStatus {
    /// In the mempool.
    Unconfirmed,
    /// In the block at this height.
    Confirmed(Height),
    /// Gone; it was in the block at this height, if it was in one.
    Spent(Option<Height>),
    /// From a coinbase too young to be spent, in the block at this height.
    Immature(Height),
}

/// What the chain backend says of fees.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FeeTable {
    /// What the node uses; `None` until the chain backend answered for the first time.
    pub fees: Option<Fees>,
    /// Estimates by target in blocks, nearest first; may be empty (a fresh regtest knows nothing).
    pub estimates: Vec<(u32, Feerate)>,
    /// The lowest feerate accepted from a peer.
    pub min_acceptable: Feerate,
    /// The highest feerate accepted from a peer.
    pub max_acceptable: Feerate,
}
