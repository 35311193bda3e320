//! The tower and the chain: reads every block, publishes penalties until they are deep.
//!
//! In: the follower's events, and the news that a state came late. Out: transactions at the backend. The backend's word on each counts:
//! what it refuses is raised or split at the next block. A backend that is away refuses nothing: it is asked again, soon and
//! until it answers; so is the disk for what could not be read. Read next: `keeper`.

use super::keeper::Keeper;
use crate::chain::follow::{self, ChainEvent, FollowConfig, StartingPoint};
use crate::chain::{Chain, RpcError};
use bitcoin::{Block, Transaction};
use chand_protocol::units::Height;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, Notify};
use tokio::time::sleep;

/// Blocks that may wait to be read.
const QUEUE: usize = 4;
/// How long to wait before a backend or a disk that did not serve is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that this becomes; a block asks at once.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How far back a tower begins that does not know where it was: beyond the longest delay that a channel has.
const LOST_BLOCKS: u32 = 2_016;

/// A keeper that clients and the chain share. Whoever has the lock waits for the disk only.
pub(super) type Shared = Arc<Mutex<Keeper>>;

pub(super) fn lock(keeper: &Shared) -> MutexGuard<'_, Keeper> {
    keeper.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the chain until it is aborted.
///
/// # Errors
/// When the backend cannot say where the chain stands, at the very first start.
pub(super) async fn run(
    chain: Chain,
    config: FollowConfig,
    keeper: Shared,
    late: Arc<Notify>,
) -> Result<(), String> {
    let known = lock(&keeper).blocks();
    let start = match known.split_first() {
        Some(((height, hash), earlier)) => StartingPoint {
            height: *height,
            hash: *hash,
            earlier: earlier.iter().map(|(_, hash)| *hash).collect(),
        },
        None => {
            let lost = lock(&keeper).is_lost();
            let start = begin(&chain, &config, lost).await.map_err(|e| {
                format!("{e}. Such a watchtower asks once where the chain stands: start it again when the backend answers")
            })?;
            let mut keeper = lock(&keeper);
            keeper.start_at(start.height, start.hash);
            keeper.save().map_err(|e| format!("the watchtower's disk: {e}"))?;
            start
        }
    };
    let (events, mut inbox) = mpsc::channel(QUEUE);
    let _follower = Follower(follow::spawn(chain.clone(), config, start, events));
    // Something is to be tried again without waiting for a block; when.
    let (mut open, mut retry) = (false, RETRY);
    loop {
        let event = tokio::select! {
            event = inbox.recv() => event,
            () = late.notified() => {
                open = work(&chain, &keeper).await;
                // Whoever sends late states without end gets no block for each.
                sleep(RETRY).await;
                continue;
            }
            () = sleep(retry), if open => {
                open = work(&chain, &keeper).await;
                retry = if open { (retry * 2).min(LONGEST_RETRY) } else { RETRY };
                continue;
            }
        };
        match event {
            None => return Ok(()),
            Some(ChainEvent::Synced { height, .. }) => {
                tracing::debug!(height = height.0, "all blocks are read");
                (open, retry) = (work(&chain, &keeper).await, RETRY);
            }
            Some(event) => take(&keeper, event),
        }
    }
}

/// Where a tower begins that knows no block, or none any more.
async fn begin(chain: &Chain, config: &FollowConfig, lost: bool) -> Result<StartingPoint, RpcError> {
    let tip = follow::at_tip(chain, config.network).await?;
    if !lost {
        return Ok(tip);
    }
    let height = Height(tip.height.0.saturating_sub(LOST_BLOCKS));
    let hash = chain.get_block_hash(height).await?;
    Ok(hash.map_or(tip, |hash| StartingPoint { height, hash, earlier: Vec::new() }))
}

/// All that is due; whether something of it is to be tried again soon.
async fn work(chain: &Chain, keeper: &Shared) -> bool {
    let unread = again(chain, keeper).await;
    let unsent = publish(chain, keeper).await;
    unread || unsent
}

/// Ends with its handle.
struct Follower(tokio::task::JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn take(keeper: &Shared, event: ChainEvent) {
    let mut keeper = lock(keeper);
    match event {
        ChainEvent::Connected { height, hash, block, .. } => {
            keeper.connected(&block, height, hash);
            save(&keeper);
        }
        ChainEvent::Disconnected { height, .. } => {
            keeper.disconnected(height);
            save(&keeper);
        }
        ChainEvent::Fees { fees, .. } => keeper.set_fees(fees),
        ChainEvent::Unreachable { reason } => {
            tracing::error!("{reason}; nothing is watched until it serves again");
        }
        ChainEvent::Back => tracing::warn!("the chain backend serves again"),
        ChainEvent::Synced { .. } => {}
    }
}

fn save(keeper: &Keeper) {
    if let Err(error) = keeper.save() {
        tracing::error!("the tip and the breaches cannot be written, and are punished all the same: {error}");
    }
}

/// Blocks that could not be judged, or after which a state came, are looked at again; whether some are left.
async fn again(chain: &Chain, keeper: &Shared) -> bool {
    let (heights, tip) = lock(keeper).again();
    for height in heights {
        let block = match block_at(chain, height).await {
            Ok(Some(block)) => block,
            Ok(None) => {
                lock(keeper).nothing_at(height);
                continue;
            }
            Err(error) => {
                tracing::debug!(%error, height = height.0, "a block is to be looked at again");
                continue;
            }
        };
        if !lock(keeper).look_again(&block, height) {
            continue;
        }
        // What became of it in all blocks since.
        for later in (height.0.saturating_add(1)..=tip.0).map(Height) {
            if let Some(block) = patiently(chain, later).await {
                lock(keeper).follow(&block, later);
            }
        }
        save(&lock(keeper));
    }
    !lock(keeper).again().0.is_empty()
}

async fn block_at(chain: &Chain, height: Height) -> Result<Option<Block>, RpcError> {
    match chain.get_block_hash(height).await? {
        Some(hash) => chain.get_block(&hash).await.map(Some),
        None => Ok(None),
    }
}

/// A block, however long the backend is away; `None` when the chain has none there.
async fn patiently(chain: &Chain, height: Height) -> Option<Block> {
    loop {
        match block_at(chain, height).await {
            Ok(block) => return block,
            Err(error) => tracing::debug!(%error, height = height.0, "a block is to be read again"),
        }
        sleep(RETRY).await;
    }
}

/// Publishes what is due; whether the backend was away. What was made is kept first, so that a later start knows its own
/// transactions.
pub(super) async fn publish(chain: &Chain, keeper: &Shared) -> bool {
    let due: Vec<Transaction> = {
        let mut keeper = lock(keeper);
        let due = keeper.plan();
        if !due.is_empty() {
            save(&keeper);
        }
        due
    };
    let mut unsent = false;
    for tx in due {
        let txid = tx.compute_txid();
        let sent = chain.send_raw_transaction(&tx).await;
        match &sent {
            Ok(()) => tracing::info!(%txid, "a penalty is with the chain backend"),
            Err(error @ RpcError::Rpc { .. }) => {
                tracing::info!(%txid, %error, "a penalty was not taken: raised, or made anew");
            }
            // Nobody judged it, so that nothing has to change.
            Err(error) => {
                tracing::warn!(%txid, %error, "a penalty could not be offered; it is tried again");
                if matches!(error, RpcError::Unreachable { .. }) {
                    return true;
                }
                unsent = true;
                continue;
            }
        }
        lock(keeper).answered(&txid, sent.is_ok());
    }
    unsent
}
