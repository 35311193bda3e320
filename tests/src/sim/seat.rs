//! One node with all that is its own: disk, journal, wallet, clock, queues, a view of the chain.
//!
//! In: what the world gives it. Out: a fresh node from what is durable. What dies with the program is in [`Life`]; what
//! outlives it is in [`Seat`]. Read next: `core` (how it steps and writes).

use super::plan::{Knobs, Signing, Trouble, When};
use super::rng::Rng;
use crate::counterfeit::Counterfeit;
use crate::duet;
use crate::duet::chain::TinyChain;
use crate::duet::wallet::TinyWallet;
use bitcoin::{BlockHash, ScriptBuf, Transaction, Txid};
use chand_protocol::chain::Network;
use chand_protocol::entropy::Entropy;
use chand_protocol::id::{ChannelId, LinkId, NodeId};
use chand_protocol::keys::NodeKeys;
use chand_protocol::node::effect::{AttachOrder, Input};
use chand_protocol::node::{Node, NodeConfig, RestoreError};
use chand_protocol::sign::Crypto;
use chand_protocol::store::{Batch, Entry, Journal};
use chand_protocol::units::{Feerate, Height, Timestamp};
use chand_storage::MemoryStore;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The time at which every run starts.
pub const EPOCH_MS: u64 = 1_700_000_000_000;
/// Steps back of a clock up to this are swallowed, as the daemon does.
const SMALL_STEP_MS: u64 = 10_000;
/// How long a closer waits where blocks come by themselves: as short as can be, since each is mined one by one.
const SIGNET_DELAY: u16 = 20;
/// Coins of each wallet.
const COINS: usize = 60;

/// What waits for the core.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Event {
    /// It goes to the node as it is.
    Input(Box<Input>),
    /// A link is up: from now on its messages are for the node.
    Up { link: LinkId, inbound: bool },
    /// A message of a link.
    Frame { link: LinkId, input: Box<Input> },
    /// A link is gone.
    Down { link: LinkId, reason: String },
    /// The wallet is to fund a channel.
    Fund { channel: ChannelId, to: ScriptBuf, sat: u64, feerate: Feerate },
    /// The wallet is to add coins to a transaction.
    Attach { order: Box<AttachOrder> },
    /// The wallet has its coins back.
    Unreserve { txid: Txid },
}

/// The running program.
pub struct Life {
    /// The node.
    pub node: Node,
    /// The way to the disk.
    pub journal: Journal<MemoryStore>,
    /// What waits for the core.
    pub inbox: VecDeque<Event>,
    /// The core computes until then.
    pub busy_until: u64,
    /// When the core looks next, if that is planned.
    pub wake_at: Option<u64>,
    /// Batches that wait for the disk.
    pub queue: VecDeque<Batch>,
    /// Batches that are being written.
    pub writing: Vec<Batch>,
    /// A reload is due once all batches are kept.
    pub reload: bool,
    /// The next wait after a write that failed.
    pub retry_us: u64,
    /// Links that the core was told of.
    pub known: BTreeSet<LinkId>,
    /// The newest blocks that were given to the core.
    pub followed: Vec<(u32, BlockHash)>,
    /// The core was told that there are no more.
    pub told_synced: bool,
    /// Transactions that wait for the backend.
    pub publishing: VecDeque<Transaction>,
}

/// A planned death.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Where.
    pub when: When,
    /// After so many more occasions.
    pub after: u64,
    /// How long until it starts again.
    pub down_us: u64,
    /// The peer does not notice at once.
    pub silent: bool,
}

/// One place at the table.
pub struct Seat {
    /// For people.
    pub name: &'static str,
    /// Its number.
    pub place: usize,
    /// Its identity.
    pub id: NodeId,
    /// Its keys, for the judges.
    pub keys: NodeKeys,
    /// The running program, when it runs.
    pub life: Option<Life>,
    /// How many there were.
    pub lives: u64,
    /// The disk.
    pub store: MemoryStore,
    /// Its coins.
    pub wallet: TinyWallet,
    /// The clock's error.
    pub clock_off_ms: i64,
    clock_last_ms: u64,
    /// The backend answers.
    pub reachable: bool,
    /// What the disk does with the next writes.
    pub troubles: VecDeque<Trouble>,
    /// How long the disk takes, when it is slow: until when, and how long.
    pub slow: Option<(u64, u64)>,
    /// A planned death.
    pub death: Option<Death>,
    /// Steps over all lives.
    pub steps: u64,
    /// Releases over all lives.
    pub releases: u64,
    config: NodeConfig,
    crypto: Arc<dyn Crypto>,
    seed: u64,
    /// Small choices about this node.
    pub rng: Rng,
}

/// Keys are the same in every seed, so that they are worked out once.
fn keys(place: usize, network: Network) -> NodeKeys {
    NodeKeys::from_seed(&[place as u8 + 1; 64], network)
}

fn seed_bytes(seed: u64, place: usize, life: u64) -> [u8; 32] {
    let mut out = [0u8; 32];
    out[..8].copy_from_slice(&seed.to_be_bytes());
    out[8] = place as u8;
    out[16..24].copy_from_slice(&life.to_be_bytes());
    out
}

/// The crypto of a run.
pub fn crypto(signing: Signing) -> Arc<dyn Crypto> {
    match signing {
        Signing::Counterfeit => Arc::new(Counterfeit),
        Signing::Real => duet::crypto(),
    }
}

impl Seat {
    /// A seat with an empty disk; its program does not run yet.
    pub fn new(place: usize, seed: u64, knobs: &Knobs, chain: &mut TinyChain) -> Seat {
        let name = ["Alice", "Bob"][place];
        let crypto = crypto(knobs.signing);
        let coins_key = Entropy::new(seed_bytes(0, place, u64::MAX)).secret_key();
        let wallet = TinyWallet::new(coins_key, COINS, chain, &*crypto);
        let network = if knobs.signet { Network::Signet } else { Network::Regtest };
        let mut config = NodeConfig::new(network, name, wallet.script.clone());
        config.dev = true;
        config.simple_close = knobs.simple_close[place];
        config.funding_confirms = knobs.confirms[place];
        let short = if knobs.signet { SIGNET_DELAY } else { config.to_self_delay_blocks };
        config.to_self_delay_blocks = knobs.onchain.map_or(short, |strife| strife.delay);
        config.max_in_flight_percent = knobs.in_flight_percent[place];
        let keys = keys(place, network);
        let id = NodeId(crypto.public_key(keys.node_secret()));
        Seat {
            name,
            place,
            id,
            keys,
            life: None,
            lives: 0,
            store: MemoryStore::new(),
            wallet,
            clock_off_ms: 0,
            clock_last_ms: 0,
            reachable: true,
            troubles: VecDeque::new(),
            slow: None,
            death: None,
            steps: 0,
            releases: 0,
            config,
            crypto,
            seed,
            rng: Rng::new(seed, 100 + place as u64),
        }
    }

    /// The node, when it runs.
    pub fn node(&self) -> Option<&Node> {
        self.life.as_ref().map(|life| &life.node)
    }

    /// The crypto it signs with.
    pub fn crypto(&self) -> &dyn Crypto {
        &*self.crypto
    }

    /// A node made of `entries`, as the next start would make it.
    ///
    /// # Errors
    /// What stands in its way.
    pub fn born(&self, entries: Vec<Entry>) -> Result<Node, RestoreError> {
        let entropy = Entropy::new(seed_bytes(self.seed, self.place, self.lives));
        Node::restore(
            self.config.clone(),
            keys(self.place, self.config.network),
            entropy,
            self.crypto.clone(),
            entries,
        )
    }

    /// A program around a node just made.
    pub fn begin(&mut self, mut node: Node, now_us: u64) {
        self.wallet.restart(&node.take_wallet_changes());
        let mut followed: Vec<(u32, BlockHash)> =
            node.recent_blocks().into_iter().map(|(Height(h), hash)| (h, hash)).collect();
        followed.sort_unstable_by_key(|(h, _)| *h);
        self.life = Some(Life {
            node,
            journal: Journal::new(self.store.clone()),
            inbox: VecDeque::new(),
            busy_until: now_us,
            wake_at: None,
            queue: VecDeque::new(),
            writing: Vec::new(),
            reload: false,
            retry_us: 0,
            known: BTreeSet::new(),
            followed,
            told_synced: false,
            publishing: VecDeque::new(),
        });
    }

    /// Its clock's reading.
    pub fn clock(&mut self, now_us: u64) -> Timestamp {
        let true_ms = EPOCH_MS + now_us / 1_000;
        let shown = true_ms.saturating_add_signed(self.clock_off_ms);
        let back = self.clock_last_ms.saturating_sub(shown);
        self.clock_last_ms = if back > SMALL_STEP_MS { shown } else { self.clock_last_ms.max(shown) };
        Timestamp(self.clock_last_ms)
    }

    /// When its clock will show `at`, in the world's time.
    pub fn when_clock_shows(&self, at: Timestamp) -> u64 {
        let true_ms = at.0.saturating_add_signed(self.clock_off_ms.saturating_neg());
        true_ms.saturating_sub(EPOCH_MS).saturating_mul(1_000)
    }

    /// Whether it dies here: one of `places` is where its death is planned, and the count is down.
    pub fn dies(&mut self, place: impl Fn(When) -> bool) -> Option<Death> {
        let death = self.death.as_mut().filter(|d| place(d.when))?;
        if death.after > 0 {
            death.after -= 1;
            return None;
        }
        self.death.take()
    }
}
