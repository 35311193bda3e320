//! Gets released transactions into the backend's mempool.
//!
//! In: [`Publish`], which only a durable batch releases. Out: one [`Broadcast`] for each: accepted, or why not.
//! A backend that is away is no answer: the transaction waits and is offered again until there is one.
//! A transaction refused for its low fee is remembered, so that its child can carry it in as a package.
//! Read next: `chand_protocol::store`.

use super::{Chain, RpcError};
use bitcoin::{Transaction, Txid};
use chand_protocol::node::effect::Publish;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, Notify};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Transactions that may wait for an answer; the node offers its claims again, so the oldest is given up first.
const MAX_WAITING: usize = 10_000;
/// Parents with too low a fee that are remembered for their children.
const MAX_PARENTS: usize = 500;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// Which.
    pub txid: Txid,
    /// What it was for, in the words it came with.
    pub why: &'static str,
    /// In the mempool or the chain, or the backend's reason in words.
    pub result: Result<(), String>,
}

/// Takes transactions to broadcast; cheap to clone, never blocks.
#[derive(Clone)]
pub struct Broadcaster {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<(Transaction, &'static str)>>,
    more: Notify,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Transaction, &'static str)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> (Transaction, &'static str) {
        loop {
            if let Some(next) = self.waiting().front().cloned() {
                return next;
            }
            self.more.notified().await;
        }
    }

    /// The one answered; another may have taken its place at the front meanwhile.
    fn done(&self, tx: &Transaction) {
        let mut waiting = self.waiting();
        if waiting.front().is_some_and(|(front, _)| front == tx) {
            waiting.pop_front();
        }
    }

    fn push(&self, tx: Transaction, why: &'static str) {
        let mut waiting = self.waiting();
        // The same one twice is one answer too many, and a stalled backend must not make it thousands.
        if waiting.iter().skip(1).all(|(other, _)| *other != tx) {
            if waiting.len() >= MAX_WAITING {
                waiting.pop_front();
            }
            waiting.push_back((tx, why));
        }
        drop(waiting);
        self.more.notify_one();
    }
}

/// Starts broadcasting inside the current runtime; ends when `results` is closed or the handle is aborted.
pub fn spawn(chain: Chain, results: mpsc::Sender<Broadcast>) -> (Broadcaster, JoinHandle<()>) {
    let queue = Arc::new(Queue::default());
    let worker = Worker { chain, results, queue: Arc::clone(&queue), parents: Parents::default() };
    (Broadcaster { queue }, tokio::spawn(worker.run()))
}

impl Broadcaster {
    /// Offers a released transaction to the backend, after those that wait already.
    pub fn publish(&self, publish: Publish) {
        let (tx, why) = publish.into_parts();
        self.queue.push(tx, why);
    }

    /// Private but for tests: what is broadcast must have been released by a durable batch.
    #[cfg(test)]
    pub(super) fn push(&self, tx: Transaction, why: &'static str) {
        self.queue.push(tx, why);
    }
}

/// Transactions that were refused for their fee alone, oldest first.
#[derive(Default)]
struct Parents {
    by_txid: BTreeMap<Txid, Transaction>,
    order: VecDeque<Txid>,
}

impl Parents {
    fn remember(&mut self, tx: Transaction) {
        let txid = tx.compute_txid();
        if self.by_txid.insert(txid, tx).is_none() {
            self.order.push_back(txid);
        }
        if self.order.len() > MAX_PARENTS {
            self.order.pop_front().map(|oldest| self.by_txid.remove(&oldest));
        }
    }

    /// The one parent that `child` has among them: packages of one parent and one child relay.
    fn of(&self, child: &Transaction) -> Option<&Transaction> {
        child.input.iter().find_map(|input| self.by_txid.get(&input.previous_output.txid))
    }

    fn forget(&mut self, txid: &Txid) {
        if self.by_txid.remove(txid).is_some() {
            self.order.retain(|other| other != txid);
        }
    }
}

struct Worker {
    chain: Chain,
    results: mpsc::Sender<Broadcast>,
    queue: Arc<Queue>,
    parents: Parents,
}

impl Worker {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            let (tx, why) = tokio::select! {
                () = self.results.closed() => return,
                next = self.queue.next() => next,
            };
            let result = match self.offer(&tx).await {
                Ok(()) => Ok(()),
                Err(RpcError::Rpc { code, message }) => Err(format!("{message} ({code})")),
                // Else one transaction that a backend chokes on would hold up all others.
                Err(RpcError::Nonsense(what)) => Err(what),
                Err(error) => {
                    tracing::debug!(%error, "a transaction waits for the chain backend");
                    tokio::select! {
                        () = self.results.closed() => return,
                        () = sleep(retry) => {}
                    }
                    retry = (retry * 2).min(LONGEST_RETRY);
                    continue;
                }
            };
            retry = FIRST_RETRY;
            self.queue.done(&tx);
            if self.results.send(Broadcast { txid: tx.compute_txid(), why, result }).await.is_err() {
                return;
            }
        }
    }

    /// Offers a transaction, together with its parent when that was refused for its fee.
    async fn offer(&mut self, tx: &Transaction) -> Result<(), RpcError> {
        let result = match self.parents.of(tx).cloned() {
            None => self.chain.send_raw_transaction(tx).await,
            Some(parent) => self.offer_package(parent, tx).await,
        };
        match &result {
            Ok(()) => self.parents.forget(&tx.compute_txid()),
            Err(RpcError::Rpc { message, .. }) if is_low_fee(message) => self.parents.remember(tx.clone()),
            Err(_) => {}
        }
        result
    }

    async fn offer_package(&mut self, parent: Transaction, child: &Transaction) -> Result<(), RpcError> {
        let parent_txid = parent.compute_txid();
        match self.chain.submit_package(&[parent, child.clone()]).await {
            Ok(()) => {
                self.parents.forget(&parent_txid);
                Ok(())
            }
            Err(RpcError::Rpc { code, message }) => {
                // The parent may have got in by itself meanwhile; then the child needs no package.
                match self.chain.send_raw_transaction(child).await {
                    Err(RpcError::Rpc { .. }) => Err(RpcError::Rpc { code, message }),
                    other => other,
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Refusals that a child with a good fee can heal.
fn is_low_fee(message: &str) -> bool {
    ["min relay fee not met", "mempool min fee not met", "min fee not met"]
        .iter()
        .any(|m| message.contains(m))
}
