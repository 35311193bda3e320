//! The embedded chain as one thing: chain, pool and faucet behind one lock, and news of the tip.
//!
//! In: options at start, then RPC handlers that take the lock for a moment. Out: [`State`], and a channel that wakes
//! whoever waits for a block. Read next: `rpc`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bitcoin::{BlockHash, Script, Transaction};
use thiserror::Error;
use tokio::sync::watch;

use super::consensus::{BlockReject, ChainState, Submit};
use super::faucet::Faucet;
use super::mempool::{Mempool, Policy};
use super::options::Options;
use super::RegtestError;

/// The most blocks mined in one go, so that other clients get their turn.
const MINE_BATCH: usize = 200;

/// The end of the active chain, for those who wait for it to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// A request broke off in the middle and left the state in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an earlier request failed midway; restart chand regtest")]
pub struct Broken;

/// All that changes, behind the lock.
pub struct State {
    /// Blocks and coins.
    pub chain: ChainState,
    /// Unconfirmed transactions.
    pub pool: Mempool,
    /// The wallet.
    pub faucet: Faucet,
    /// The clock set by `setmocktime`, in Unix seconds.
    pub mock_time: Option<u64>,
    /// What `estimatesmartfee` answers, in satoshi per 1000 virtual bytes.
    pub fee_estimate: Option<u64>,
    /// It acts as if it had forgotten the blocks below this height, and had no index of transactions; 0: it does not.
    pub pruned: u32,
    /// Wallet names given to `createwallet` and `loadwallet`; all mean the faucet.
    pub wallets: BTreeSet<String>,
}

/// The embedded chain.
pub struct Node {
    state: Mutex<State>,
    tip: watch::Sender<Tip>,
    stopping: watch::Sender<bool>,
    started: Instant,
    _lock: File,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("tip", &*self.tip.borrow()).finish_non_exhaustive()
    }
}

impl Node {
    /// Opens the chain in its directory; on an empty one, mines the faucet's first blocks.
    pub fn open(options: &Options) -> Result<Node, RegtestError> {
        let dir = options.network_directory();
        create_private_dir(&options.directory())?;
        create_private_dir(&dir)?;
        let lock = lock_directory(&dir)?;
        let chain = ChainState::open(&dir)?;
        let faucet = Faucet::open(&dir, &chain)?;
        let policy = Policy { min_relay_sat_kvb: options.min_relay_fee, ..Policy::default() };
        let tip = chain.tip();
        let state = State {
            chain,
            pool: Mempool::new(policy),
            faucet,
            mock_time: None,
            fee_estimate: options.fee_estimate,
            pruned: 0,
            wallets: BTreeSet::new(),
        };
        let node = Node {
            state: Mutex::new(state),
            tip: watch::channel(Tip { height: tip.height, hash: tip.hash }).0,
            stopping: watch::channel(false).0,
            started: Instant::now(),
            _lock: lock,
        };
        node.premine(options.premine)?;
        Ok(node)
    }

    fn premine(&self, blocks: u32) -> Result<(), RegtestError> {
        let script = {
            let mut state = self.lock().map_err(|broken| RegtestError::Task(broken.to_string()))?;
            if state.chain.tip().height > 0 || blocks == 0 {
                return Ok(());
            }
            state.faucet.new_script()?
        };
        self.generate(&script, blocks)
            .map_err(|broken| RegtestError::Task(broken.to_string()))?
            .map_err(RegtestError::Premine)?;
        Ok(())
    }

    /// Takes the lock. Short work only.
    pub fn lock(&self) -> Result<MutexGuard<'_, State>, Broken> {
        self.state.lock().map_err(|_| Broken)
    }

    /// Lets pool, faucet and waiting clients follow a change of the chain.
    pub fn follow(&self, state: &mut State, change: &Submit) {
        let now = state.now();
        state.pool.follow(&state.chain, change, now);
        state.faucet.follow(&state.chain, change);
        let tip = state.chain.tip();
        self.tip.send_replace(Tip { height: tip.height, hash: tip.hash });
    }

    /// Mines blocks to a script, the pool's best transactions in them. Returns their hashes.
    pub fn generate(
        &self,
        script: &Script,
        blocks: u32,
    ) -> Result<Result<Vec<BlockHash>, BlockReject>, Broken> {
        let mut hashes = Vec::new();
        let mut left = usize::try_from(blocks).unwrap_or(usize::MAX);
        while left > 0 {
            let mut state = self.lock()?;
            let state = &mut *state;
            let first = state.pool.assemble();
            // What does not fit into this block belongs into the next one.
            let more = if first.len() < state.pool.len() { 0 } else { left.min(MINE_BATCH) - 1 };
            let mut bodies: Vec<Vec<Transaction>> = vec![first];
            bodies.resize_with(more + 1, Vec::new);
            left -= bodies.len();
            let now = state.now_u32();
            match state.chain.mine_many(script, bodies, now) {
                Ok(change) => {
                    hashes.extend(change.connected.iter().map(|block| block.block_hash()));
                    self.follow(state, &change);
                }
                Err(reject) => return Ok(Err(reject)),
            }
        }
        Ok(Ok(hashes))
    }

    /// Where the chain ends, and news of it.
    pub fn tip(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    /// How many wait for news of the tip.
    pub fn waiting(&self) -> usize {
        self.tip.receiver_count()
    }

    /// Turns true when the node is to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Asks the node to stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// How long it has been up, in seconds.
    pub fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

impl State {
    /// The clock, in Unix seconds.
    pub fn now(&self) -> u64 {
        self.mock_time.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
        })
    }

    /// The clock as block headers count it.
    pub fn now_u32(&self) -> u32 {
        u32::try_from(self.now()).unwrap_or(u32::MAX)
    }
}

/// Creates a directory that only its owner enters.
fn create_private_dir(path: &Path) -> Result<(), RegtestError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(|source| RegtestError::File { what: "create", path: path.into(), source })
}

/// One process at a time writes here. The lock goes with the process.
fn lock_directory(dir: &Path) -> Result<File, RegtestError> {
    let path = dir.join(".lock");
    let fault = |source| RegtestError::File { what: "lock", path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(RegtestError::Locked(dir.into())),
        Err(fs::TryLockError::Error(source)) => Err(fault(source)),
    }
}
