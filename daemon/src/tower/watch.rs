//! The tower and the chain: reads every block, publishes penalties until they are deep.
//!
//! In: the follower's events, and the news that a state came late. Out: transactions at the backend. The backend's word on each counts:
//! what it refuses is raised or split at the next block. Read next: `keeper`.

use super::keeper::Keeper;
use crate::chain::follow::{self, ChainEvent, FollowConfig, StartingPoint};
use crate::chain::Chain;
use bitcoin::Transaction;
use chand_protocol::units::Height;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, Notify};
use tokio::time::sleep;

/// Blocks that may wait to be read.
const QUEUE: usize = 4;
/// How long to wait before a backend that is away is asked again.
const RETRY: Duration = Duration::from_millis(500);

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
            let start = follow::at_tip(&chain, config.network).await.map_err(|e| {
                format!("{e}. A new watchtower asks once where the chain stands: start it again when the backend answers")
            })?;
            let mut keeper = lock(&keeper);
            keeper.start_at(start.height, start.hash);
            keeper.save().map_err(|e| format!("the watchtower's disk: {e}"))?;
            start
        }
    };
    let (events, mut inbox) = mpsc::channel(QUEUE);
    let _follower = Follower(follow::spawn(chain.clone(), config, start, events));
    loop {
        let event = tokio::select! {
            event = inbox.recv() => event,
            () = late.notified() => {
                again(&chain, &keeper).await;
                publish(&chain, &keeper).await;
                continue;
            }
        };
        match event {
            None => return Ok(()),
            Some(ChainEvent::Synced { height, .. }) => {
                tracing::debug!(height = height.0, "all blocks are read");
                publish(&chain, &keeper).await;
            }
            Some(event) => take(&keeper, event),
        }
    }
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

/// A state came after the block with its breach: that block and all behind it are looked at again.
async fn again(chain: &Chain, keeper: &Shared) {
    let Some((first, last)) = lock(keeper).take_late() else { return };
    for height in (first.0..=last.0).map(Height) {
        loop {
            let block = match chain.get_block_hash(height).await {
                Ok(None) => return,
                Ok(Some(hash)) => chain.get_block(&hash).await,
                Err(error) => Err(error),
            };
            match block {
                Ok(block) => {
                    lock(keeper).look(&block, height);
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "a block is to be looked at again");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// Publishes what is due. What was made is kept first, so that a later start knows its own transactions.
async fn publish(chain: &Chain, keeper: &Shared) {
    let due: Vec<Transaction> = {
        let mut keeper = lock(keeper);
        let due = keeper.plan();
        if !due.is_empty() {
            save(&keeper);
        }
        due
    };
    for tx in due {
        let txid = tx.compute_txid();
        let sent = chain.send_raw_transaction(&tx).await;
        match &sent {
            Ok(()) => tracing::info!(%txid, "a penalty is with the chain backend"),
            Err(error) => tracing::info!(%txid, %error, "a penalty was not taken: raised, or made anew"),
        }
        lock(keeper).answered(&txid, sent.is_ok());
    }
}
