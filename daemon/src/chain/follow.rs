//! Follows the best chain from a known block on, and tells it in order.
//!
//! In: a backend, where the node stands. Out: [`ChainEvent`]s through a bounded queue: each block connected is the child
//! of the one before, checked; each block disconnected is the tip. A slow reader slows the following, nothing is lost.
//! A backend that goes away, starts, or answers nonsense is told once and tried again until it is good.
//! Read next: `verify`.

use super::{verify, Chain, RpcError};
use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, CompactTarget};
use chand_protocol::chain::Network;
use chand_protocol::node::effect::Fees;
use chand_protocol::units::{Feerate, Height};
use std::collections::VecDeque;
use std::mem::{discriminant, Discriminant};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, Instant};

/// Blocks fetched ahead of the one that is being told.
const PREFETCH: usize = 3;
/// Hashes remembered below the tip; a deeper reorganisation asks the backend for the headers.
const REMEMBERED: usize = 1_000;
/// How long one `waitfornewblock` waits.
const WAIT_TIME: Duration = Duration::from_secs(30);
/// How often it is said again that the backend is at its best header: a node takes HTLCs for as long as it hears that.
const REPEAT: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Rounds in a row in which the chain moved under our feet before that counts as nonsense.
const MAX_FUTILE_ROUNDS: u32 = 10;

/// What happens to the chain.
#[derive(Clone, Debug)]
pub enum ChainEvent {
    /// The next block: the child of the last one connected, checked but for its scripts.
    Connected {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
        /// Its header.
        header: Header,
        /// All of it.
        block: Arc<Block>,
    },
    /// The tip left the best chain.
    Disconnected {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
    },
    /// All that the backend has was told.
    Synced {
        /// The tip's height.
        height: Height,
        /// The tip's time in seconds since the Unix epoch; an old one means that the backend itself is behind.
        best_time_s: u32,
    },
    /// The backend does not serve; said once until that changes or the reason becomes another.
    Unreachable {
        /// In words.
        reason: String,
    },
    /// It serves again.
    Back,
    /// Feerates, when they changed.
    Fees {
        /// What to use.
        fees: Fees,
        /// The backend's own estimates by target in blocks, nearest first; where it has none, `fees` is our guess.
        estimates: Vec<(u32, Feerate)>,
    },
}

/// Where following starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartingPoint {
    /// The height of the last block that the node processed.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
    /// The hashes below it as far as they are known, the next lower first. Without them a reorganisation needs
    /// a backend that still knows the stale headers.
    pub earlier: Vec<BlockHash>,
}

/// How to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowConfig {
    /// The chain that the backend must be on.
    pub network: Network,
    /// Feerates for as long as the backend has no estimate; raised to what its mempool takes.
    pub fallback_fees: Fees,
    /// How often to look for blocks; `None`: as is good for the network.
    pub poll: Option<Duration>,
    /// How often to say again, while no block comes, that all are told; `None`: every five minutes.
    pub repeat: Option<Duration>,
}

/// Where a node without history starts: at the backend's tip.
///
/// # Errors
/// [`RpcError`], also when the backend is on another chain.
pub async fn at_tip(chain: &Chain, network: Network) -> Result<StartingPoint, RpcError> {
    let info = chain.check_network(network).await?;
    Ok(StartingPoint { height: info.height, hash: info.best, earlier: Vec::new() })
}

/// Starts following inside the current runtime; ends when `events` is closed or the handle is aborted.
pub fn spawn(
    chain: Chain,
    config: FollowConfig,
    start: StartingPoint,
    events: mpsc::Sender<ChainEvent>,
) -> JoinHandle<()> {
    let mut known: VecDeque<BlockHash> = start.earlier.into_iter().take(REMEMBERED).collect();
    known.push_front(start.hash);
    let follower = Follower {
        chain,
        config,
        events,
        height: start.height.0,
        known,
        tip_time_s: None,
        checked_network: false,
        told_synced: None,
        trouble: None,
        fees: None,
        fees_at: None,
        wait: None,
        can_wait: true,
    };
    tokio::spawn(follower.run())
}

/// Why a round stopped.
enum Stop {
    /// Nobody listens any more.
    Closed,
    Trouble(RpcError),
}

impl From<RpcError> for Stop {
    fn from(error: RpcError) -> Stop {
        Stop::Trouble(error)
    }
}

/// What a round came to.
enum Round {
    /// Told something; there may be more.
    Moved,
    /// The chain changed between two questions.
    Futile,
    /// Nothing new.
    AtTip,
}

/// A task that ends with its handle.
struct Attached<T>(JoinHandle<T>);

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Attached<T> {
    async fn join(&mut self) -> Result<T, RpcError> {
        (&mut self.0)
            .await
            .map_err(|error| RpcError::Nonsense(format!("a task of this node failed: {error}")))
    }
}

struct Follower {
    chain: Chain,
    config: FollowConfig,
    events: mpsc::Sender<ChainEvent>,
    /// The height of the tip, which is the first of `known`; below it what is remembered, never empty.
    height: u32,
    known: VecDeque<BlockHash>,
    tip_time_s: Option<u32>,
    checked_network: bool,
    told_synced: Option<(BlockHash, Instant)>,
    trouble: Option<Discriminant<RpcError>>,
    fees: Option<(Fees, Vec<(u32, Feerate)>)>,
    fees_at: Option<Instant>,
    wait: Option<Attached<Result<Option<BlockHash>, RpcError>>>,
    can_wait: bool,
}

impl Follower {
    async fn run(mut self) {
        let (mut retry, mut futile) = (FIRST_RETRY, 0);
        loop {
            let trouble = match self.round().await {
                Err(Stop::Closed) => return,
                Err(Stop::Trouble(error)) => error,
                Ok(Round::Futile) if futile < MAX_FUTILE_ROUNDS => {
                    futile += 1;
                    continue;
                }
                Ok(Round::Futile) => RpcError::Nonsense("its blocks do not fit together".into()),
                Ok(done) => {
                    (retry, futile) = (FIRST_RETRY, 0);
                    if matches!(done, Round::AtTip) && self.wait_for_news().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            futile = 0;
            if self.tell_trouble(trouble).await.is_err() || self.pause(retry).await.is_err() {
                return;
            }
            retry = (retry * 2).min(self.longest_retry());
        }
    }

    fn regtest(&self) -> bool {
        self.config.network.is_regtest()
    }

    fn longest_retry(&self) -> Duration {
        if self.regtest() {
            Duration::from_millis(500)
        } else {
            Duration::from_secs(10)
        }
    }

    fn tip(&self) -> Result<BlockHash, Stop> {
        self.known.front().copied().ok_or(Stop::Closed)
    }

    async fn pause(&self, time: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = self.events.closed() => Err(Stop::Closed),
            () = sleep(time) => Ok(()),
        }
    }

    async fn emit(&mut self, event: ChainEvent) -> Result<(), Stop> {
        if self.trouble.take().is_some() {
            self.events.send(ChainEvent::Back).await.map_err(|_| Stop::Closed)?;
        }
        self.events.send(event).await.map_err(|_| Stop::Closed)
    }

    async fn tell_trouble(&mut self, error: RpcError) -> Result<(), Stop> {
        self.told_synced = None;
        self.checked_network = false;
        if self.chain.blame(&error) {
            return Ok(());
        }
        let kind = Some(discriminant(&error));
        if self.trouble == kind {
            return Ok(());
        }
        self.trouble = kind;
        let event = ChainEvent::Unreachable { reason: error.to_string() };
        self.events.send(event).await.map_err(|_| Stop::Closed)
    }

    /// One look at the backend, and one step towards it.
    async fn round(&mut self) -> Result<Round, Stop> {
        if !self.checked_network {
            self.chain.check_network(self.config.network).await?;
            self.checked_network = true;
        }
        let tip = self.tip()?;
        if self.chain.get_best_block_hash().await? == tip {
            return self.at_tip(tip).await;
        }
        let info = self.chain.check_network(self.config.network).await?;
        if self.chain.get_block_hash(Height(self.height)).await? == Some(tip) {
            return self.advance(info.height.0).await;
        }
        // A backend that syncs from scratch is no reorganisation. (On regtest blocks are invalidated by hand.)
        if info.height.0 < self.height && !self.regtest() {
            let place = self.chain.rpc().place().to_owned();
            let reason = format!("it is only at block {}, this node at {}", info.height.0, self.height);
            return Err(RpcError::Unreachable { place, reason }.into());
        }
        self.step_back().await
    }

    /// Finds where our chain and the best chain part, then disconnects down to there, the tip first.
    async fn step_back(&mut self) -> Result<Round, Stop> {
        let mut stale = vec![self.tip()?];
        let (mut height, mut hash) = (self.height, self.tip()?);
        loop {
            let parent = match self.known.get(stale.len()) {
                Some(parent) => *parent,
                None => self.parent_of(height, &hash).await?,
            };
            height = height.checked_sub(1).ok_or_else(|| self.foreign(height))?;
            if self.known.len() == stale.len() {
                self.known.push_back(parent);
            }
            if self.chain.get_block_hash(Height(height)).await? == Some(parent) {
                break;
            }
            stale.push(parent);
            hash = parent;
        }
        for hash in stale {
            let height = Height(self.height);
            self.emit(ChainEvent::Disconnected { height, hash }).await?;
            self.known.pop_front();
            self.height = self.height.saturating_sub(1);
            self.tip_time_s = None;
        }
        self.told_synced = None;
        Ok(Round::Moved)
    }

    async fn parent_of(&self, height: u32, hash: &BlockHash) -> Result<BlockHash, Stop> {
        match self.chain.get_block_header(hash).await? {
            Some(info) if height > 0 => Ok(info.header.prev_blockhash),
            _ => Err(self.foreign(height).into()),
        }
    }

    fn foreign(&self, height: u32) -> RpcError {
        RpcError::Nonsense(format!(
            "it does not know block {height} of the chain this node is on; was the backend replaced or reset?"
        ))
    }

    /// How difficult the tip was, where that binds the next block. Whoever serves its header: the hash shows it to be the tip's.
    async fn tip_bits(&self) -> Result<Option<CompactTarget>, Stop> {
        if !verify::is_strict(self.config.network) {
            return Ok(None);
        }
        let tip = self.chain.get_block_header(&self.tip()?).await?;
        tip.map(|info| Some(info.header.bits)).ok_or_else(|| self.foreign(self.height).into())
    }

    /// Tells the blocks up to height `last`, fetching a few ahead.
    async fn advance(&mut self, last: u32) -> Result<Round, Stop> {
        let mut ahead = VecDeque::new();
        let mut next = self.height;
        let mut bits = self.tip_bits().await?;
        let mut round = Round::Futile;
        loop {
            while ahead.len() < PREFETCH && next < last {
                next += 1;
                let fetching = fetch(self.chain.clone(), Height(next), self.config.network);
                ahead.push_back(Attached(tokio::spawn(fetching)));
            }
            let Some(mut fetching) = ahead.pop_front() else { return Ok(round) };
            let Some((hash, block)) = fetching.join().await?? else { return Ok(round) };
            if block.header.prev_blockhash != self.tip()? {
                return Ok(round);
            }
            let height = Height(self.height).plus(1);
            let header = block.header;
            if let Some(before) = bits.replace(header.bits) {
                verify::difficulty(before, &header, height.0, self.config.network)
                    .map_err(|bad| RpcError::Nonsense(format!("block {hash} at height {height}: {bad}")))?;
            }
            self.emit(ChainEvent::Connected { height, hash, header, block }).await?;
            self.height = height.0;
            self.tip_time_s = Some(header.time);
            self.known.push_front(hash);
            self.known.truncate(REMEMBERED);
            self.told_synced = None;
            round = Round::Moved;
        }
    }

    /// At the backend's tip: fees, then, for each tip and again from time to time, that all was told.
    async fn at_tip(&mut self, tip: BlockHash) -> Result<Round, Stop> {
        self.refresh_fees().await?;
        let every = self.config.repeat.unwrap_or(REPEAT);
        if self.told_synced.is_some_and(|(told, at)| told == tip && at.elapsed() < every) {
            return Ok(Round::AtTip);
        }
        let info = self.chain.check_network(self.config.network).await?;
        if info.best != tip {
            return Ok(Round::Futile);
        }
        // With more headers than blocks it is catching up itself.
        if info.headers > info.height && !self.regtest() {
            return Ok(Round::AtTip);
        }
        if info.height.0 != self.height {
            let words = format!("its tip is at height {}, by our count at {}", info.height.0, self.height);
            return Err(RpcError::Nonsense(words).into());
        }
        let best_time_s = match self.tip_time_s {
            Some(time_s) => time_s,
            None => {
                self.chain.get_block_header(&tip).await?.ok_or_else(|| self.foreign(self.height))?.header.time
            }
        };
        self.tip_time_s = Some(best_time_s);
        let height = info.height;
        self.chain.served(height, tip);
        self.emit(ChainEvent::Synced { height, best_time_s }).await?;
        self.told_synced = Some((tip, Instant::now()));
        Ok(Round::AtTip)
    }

    async fn refresh_fees(&mut self) -> Result<(), Stop> {
        let every = Duration::from_secs(if self.regtest() { 2 } else { 30 });
        if self.fees_at.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        let last = self.fees.as_ref().map_or(self.config.fallback_fees, |(fees, _)| *fees);
        let news = match estimate(&self.chain, last).await {
            Ok(news) => news,
            // It answers, only not that.
            Err(RpcError::Rpc { .. }) => (last, Vec::new()),
            Err(error) => return Err(error.into()),
        };
        self.fees_at = Some(Instant::now());
        if self.fees.as_ref() != Some(&news) {
            let (fees, estimates) = news.clone();
            self.emit(ChainEvent::Fees { fees, estimates }).await?;
            self.fees = Some(news);
        }
        Ok(())
    }

    /// Waits for a new block, or until it is time to look: what arrives between looking and waiting is found by that.
    async fn wait_for_news(&mut self) -> Result<(), Stop> {
        let look_after = self.config.poll.unwrap_or(match (self.regtest(), self.can_wait) {
            (true, _) => Duration::from_millis(100),
            (false, true) => Duration::from_secs(10),
            (false, false) => Duration::from_secs(2),
        });
        if !self.can_wait {
            return self.pause(look_after).await;
        }
        let chain = self.chain.clone();
        let wait = self.wait.get_or_insert_with(|| {
            Attached(tokio::spawn(async move { chain.wait_for_new_block(WAIT_TIME).await }))
        });
        let news = tokio::select! {
            () = self.events.closed() => return Err(Stop::Closed),
            news = wait.join() => news.and_then(|answer| answer),
            () = sleep(look_after) => return Ok(()),
        };
        self.wait = None;
        match news {
            Ok(Some(hash)) if self.known.front() != Some(&hash) => Ok(()),
            // The time was over, or it is no use: in no case without a pause.
            Ok(Some(_)) | Err(RpcError::Unreachable { .. }) => self.pause(look_after).await,
            Ok(None) | Err(_) => {
                self.can_wait = false;
                Ok(())
            }
        }
    }
}

/// The best chain's block at a height, checked; `None` when there is none any more.
pub(crate) async fn fetch(
    chain: Chain,
    height: Height,
    network: Network,
) -> Result<Option<(BlockHash, Arc<Block>)>, RpcError> {
    let Some(hash) = chain.get_block_hash(height).await? else { return Ok(None) };
    let block = chain.get_block(&hash).await?;
    verify::block(&block, &hash, network)
        .map_err(|bad| RpcError::Nonsense(format!("block {hash} at height {}: {bad}", height.0)))?;
    Ok(Some((hash, Arc::new(block))))
}

/// Present feerates; where the backend has no estimate, the last ones; never below what its mempool takes,
/// nor in the wrong order. With them, by target, what of it the backend has estimated.
async fn estimate(chain: &Chain, last: Fees) -> Result<(Fees, Vec<(u32, Feerate)>), RpcError> {
    let minimum = chain.mempool_min_fee().await?.max(Feerate::FLOOR);
    let (soon, now) = (chain.estimate_smart_fee(6).await?, chain.estimate_smart_fee(2).await?);
    let normal = soon.unwrap_or(last.normal).max(minimum);
    let urgent = now.unwrap_or(last.urgent).max(normal);
    let estimates = [now.map(|_| (2, urgent)), soon.map(|_| (6, normal))];
    Ok((Fees { normal, urgent, minimum }, estimates.into_iter().flatten().collect()))
}
