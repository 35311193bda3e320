//! One node with its disk and its wallet: it takes a step, keeps its records, dies and comes back.
//!
//! In: inputs; a seed for every life. Out: what a released batch lets out. Read next: `run`.

use super::chain::TinyChain;
use super::wallet::TinyWallet;
use chand_protocol::chain::Network;
use chand_protocol::entropy::Entropy;
use chand_protocol::id::NodeId;
use chand_protocol::keys::NodeKeys;
use chand_protocol::node::effect::{Input, Notice};
use chand_protocol::node::{Node, NodeConfig, RestoreError};
use chand_protocol::sign::Crypto;
use chand_protocol::store::{Entry, Journal};
use chand_storage::MemoryStore;
use std::collections::VecDeque;
use std::sync::Arc;

/// One node.
pub struct Seat {
    /// For messages of tests.
    pub name: &'static str,
    /// Its identity.
    pub id: NodeId,
    /// The node itself.
    pub node: Node,
    /// Its way to the disk.
    pub journal: Journal<MemoryStore>,
    /// A handle to the same disk.
    pub store: MemoryStore,
    /// Its coins.
    pub wallet: TinyWallet,
    /// Steps over all its lives.
    pub steps: u64,
    /// Restarts.
    pub lives: u64,
    /// What waits to be taken in.
    pub inbox: VecDeque<Input>,
    /// Every log line, over all lives.
    pub log: Vec<Notice>,
    /// The newest channel backup that it wrote.
    pub backup: Vec<u8>,
    /// The same as it was when it published something last.
    pub backup_then: Vec<u8>,
    config: NodeConfig,
    crypto: Arc<dyn Crypto>,
    seed: u64,
    place: usize,
}

/// The seed's people, and as many more as a larger network needs.
const NAMES: [&str; 10] =
    ["Alice", "Bob", "Carol", "Dave", "node 4", "node 5", "node 6", "node 7", "node 8", "node 9"];

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seat({}, {} steps)", self.name, self.steps)
    }
}

fn seed_bytes(seed: u64, place: usize, life: u64) -> [u8; 32] {
    let mut out = [0u8; 32];
    out[..8].copy_from_slice(&seed.to_be_bytes());
    out[8] = place as u8;
    out[16..24].copy_from_slice(&life.to_be_bytes());
    out
}

impl Seat {
    pub(crate) fn new(
        place: usize,
        seed: u64,
        chain: &mut TinyChain,
        crypto: Arc<dyn Crypto>,
        change: &impl Fn(usize, &mut NodeConfig),
    ) -> Seat {
        let name = NAMES[place];
        let key = Entropy::new(seed_bytes(seed, place, u64::MAX)).secret_key();
        let wallet = TinyWallet::new(key, 20, chain, &*crypto);
        let mut config = NodeConfig::new(Network::Regtest, name, wallet.script.clone());
        config.dev = true;
        change(place, &mut config);
        let store = MemoryStore::new();
        let node = restored(&config, seed, place, 0, Vec::new(), crypto.clone());
        Seat {
            name,
            id: node.id(),
            node,
            journal: Journal::new(store.clone()),
            store,
            wallet,
            steps: 0,
            lives: 0,
            inbox: VecDeque::new(),
            log: Vec::new(),
            backup: Vec::new(),
            backup_then: Vec::new(),
            config,
            crypto,
            seed,
            place,
        }
    }

    /// Changes what it is told at its next start.
    pub fn configure(&mut self, change: impl FnOnce(&mut NodeConfig)) {
        change(&mut self.config);
    }

    /// A node made of `entries`, as the next start would make it.
    pub fn reborn(&self, entries: Vec<Entry>) -> Node {
        self.reborn_with(entries, self.crypto.clone())
    }

    /// The same, with another crypto behind it.
    pub fn reborn_with(&self, entries: Vec<Entry>, crypto: Arc<dyn Crypto>) -> Node {
        restored(&self.config, self.seed, self.place, self.lives + 1, entries, crypto)
    }

    /// The same from entries that may make no sense.
    ///
    /// # Errors
    /// What stands in the way of the start.
    pub fn try_reborn(&self, entries: Vec<Entry>) -> Result<Node, RestoreError> {
        restore(&self.config, self.seed, self.place, self.lives + 1, entries, self.crypto.clone())
    }

    /// This node on a disk of its own, just started.
    pub(super) fn copy(&self) -> Seat {
        let entries = self.store.durable();
        let store = MemoryStore::with_entries(entries.clone());
        let mut node = self.reborn(entries);
        let mut wallet = self.wallet.clone();
        wallet.restart(&node.take_wallet_changes());
        Seat {
            name: self.name,
            id: self.id,
            node,
            journal: Journal::new(store.clone()),
            store,
            wallet,
            steps: 0,
            lives: self.lives + 1,
            inbox: VecDeque::new(),
            log: Vec::new(),
            backup: Vec::new(),
            backup_then: Vec::new(),
            config: self.config.clone(),
            crypto: self.crypto.clone(),
            seed: self.seed,
            place: self.place,
        }
    }

    /// The power goes and comes back: what was durable is there, with other randomness.
    pub(crate) fn restart(&mut self) {
        self.store.crash();
        self.node = self.reborn(self.store.durable());
        self.journal = Journal::new(self.store.clone());
        self.lives += 1;
        self.inbox.clear();
        self.wallet.restart(&self.node.take_wallet_changes());
    }

    pub(super) fn replace_disk(&mut self, entries: Vec<Entry>) {
        self.store = MemoryStore::with_entries(entries);
    }

    /// What it signs with.
    pub(crate) fn crypto(&self) -> Arc<dyn Crypto> {
        self.crypto.clone()
    }

    /// Its keys, for a test that signs in its name.
    pub fn keys(&self) -> NodeKeys {
        keys(&self.config, self.seed, self.place)
    }

    /// Whether it takes part in gossip.
    pub const fn gossips(&self) -> bool {
        self.config.gossip.is_some()
    }

    /// Log lines that hold `text`.
    pub fn logged(&self, text: &str) -> usize {
        self.log.iter().filter(|n| n.text.contains(text)).count()
    }
}

fn restored(
    config: &NodeConfig,
    seed: u64,
    place: usize,
    life: u64,
    entries: Vec<Entry>,
    crypto: Arc<dyn Crypto>,
) -> Node {
    match restore(config, seed, place, life, entries, crypto) {
        Ok(node) => node,
        Err(error) => panic!("{} cannot start: {error}", config.alias),
    }
}

fn restore(
    config: &NodeConfig,
    seed: u64,
    place: usize,
    life: u64,
    entries: Vec<Entry>,
    crypto: Arc<dyn Crypto>,
) -> Result<Node, RestoreError> {
    let keys = keys(config, seed, place);
    let entropy = Entropy::new(seed_bytes(seed, place, life));
    Node::restore(config.clone(), keys, entropy, crypto, entries)
}

fn keys(config: &NodeConfig, seed: u64, place: usize) -> NodeKeys {
    let mut root = [0u8; 64];
    root[..32].copy_from_slice(&seed_bytes(seed, place, 0));
    NodeKeys::from_seed(&root, config.network)
}
