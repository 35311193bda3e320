//! Gets released transactions into the backend's mempool, after a last look at each.
//!
//! In: [`Publish`], which only a durable batch releases. Out: one [`Published`] for each: accepted, or why not.
//! Each is checked here as the network will check it (Bitcoin Core's own interpreter, and the rules of relay), so that
//! a bug of ours shows as a line in the log and not as a transaction that burns its coins or never confirms.
//! A backend that is away is no answer: the transaction waits. One that is refused for its fee alone is
//! remembered, so that its child can carry it in as a package.
//! Answers to commands that stem from the same step leave after the first try: whoever is told that a channel is funded
//! finds the transaction in the mempool, unless the backend is away. Read next: `check`.

use super::check::{self, Known, Unfit};
use super::waiting::Waiting;
use crate::chain::{Chain, RpcError};
use bitcoin::{Transaction, Txid};
use chand_protocol::id::CommandId;
use chand_protocol::node::command::{CommandError, Reply};
use chand_protocol::node::effect::Publish;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout_at, Instant};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// Its id.
    pub txid: Txid,
    /// All of it.
    pub tx: Transaction,
    /// In the mempool or the chain, or the reason in words.
    pub result: Result<(), String>,
}

/// A transaction, and the answers that leave after the first try.
pub(super) struct Offer {
    pub publish: Publish,
    pub answers: Vec<(CommandId, Result<Reply, CommandError>)>,
}

/// Publishes what comes, in order, until either queue is closed.
pub(super) async fn run(
    chain: Chain,
    queue: mpsc::UnboundedReceiver<Offer>,
    results: mpsc::Sender<Published>,
    waiting: Waiting,
) {
    let mut publisher = Publisher { chain, known: Known::default(), queue, ready: VecDeque::new(), waiting };
    tokio::select! {
        () = results.closed() => {}
        () = publisher.run(&results) => {}
    }
}

struct Publisher {
    chain: Chain,
    known: Known,
    queue: mpsc::UnboundedReceiver<Offer>,
    /// Taken off the queue while the backend was away.
    ready: VecDeque<Offer>,
    waiting: Waiting,
}

impl Publisher {
    async fn run(&mut self, results: &mpsc::Sender<Published>) {
        loop {
            let next = match self.ready.pop_front() {
                Some(next) => Some(next),
                None => self.queue.recv().await,
            };
            let Some(Offer { publish, answers }) = next else { return };
            let (tx, why) = publish.into_parts();
            let txid = tx.compute_txid();
            let result = self.publish(&tx, answers).await;
            match &result {
                Ok(()) => tracing::debug!(%txid, why, "broadcast"),
                Err(reason) => tracing::info!(%txid, why, "not accepted for broadcast: {reason}"),
            }
            if results.send(Published { txid, tx, result }).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, answers: Vec<(CommandId, Result<Reply, CommandError>)>) {
        answers.into_iter().for_each(|(id, result)| self.waiting.answer(id, result));
    }

    /// Tries until the backend gives an answer.
    async fn publish(
        &mut self,
        tx: &Transaction,
        mut answers: Vec<(CommandId, Result<Reply, CommandError>)>,
    ) -> Result<(), String> {
        let mut retry = FIRST_RETRY;
        loop {
            let outcome = self.try_publish(tx).await;
            self.answer(std::mem::take(&mut answers));
            match outcome {
                Ok(()) => return Ok(()),
                Err(Unfit::Refused(reason)) => return Err(reason),
                Err(Unfit::Broken(reason)) => {
                    tracing::error!(
                        txid = %tx.compute_txid(),
                        "a transaction of our own breaks a rule of the network and is NOT broadcast: {reason}. This is \
                         a bug of chand and money may depend on it: please report it"
                    );
                    return Err(reason);
                }
                Err(Unfit::Rpc(RpcError::Rpc { code, message })) => {
                    return Err(format!("{message} ({code})"))
                }
                // Else one transaction that a backend chokes on would hold up all others.
                Err(Unfit::Rpc(RpcError::Nonsense(what))) => return Err(what),
                Err(Unfit::Rpc(error)) => {
                    tracing::debug!(%error, "a transaction waits for the chain backend");
                    self.wait_without_backend(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// What is behind in the queue waits, too, but the answers that came with it do not.
    async fn wait_without_backend(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(Some(mut offer)) = timeout_at(until, self.queue.recv()).await {
            self.answer(std::mem::take(&mut offer.answers));
            self.ready.push_back(offer);
        }
        sleep_until(until).await;
    }

    async fn try_publish(&mut self, tx: &Transaction) -> Result<(), Unfit> {
        if !self.known.has(tx) {
            match check::spent_outputs(&self.chain, &self.known, tx).await? {
                Some(spent) => check::check(tx, &spent).await?,
                // It is itself what spends them, or nothing can be said of it.
                None if check::is_there(&self.chain, tx).await? => return Ok(()),
                None => {
                    return Err(Unfit::Refused(
                        "an output that it spends is spent already, or not known yet".into(),
                    ))
                }
            }
            self.known.keep(tx.clone());
        }
        let submitted = self.submit(tx).await;
        let low = matches!(&submitted, Err(RpcError::Rpc { message, .. }) if is_low_fee(message));
        self.known.set_low_fee(&tx.compute_txid(), low);
        Ok(submitted?)
    }

    /// Offers it, together with its parent when that was refused for its fee.
    async fn submit(&mut self, tx: &Transaction) -> Result<(), RpcError> {
        let Some(parent) = self.known.low_fee_parent(tx).cloned() else {
            return self.chain.send_raw_transaction(tx).await;
        };
        let parent_txid = parent.compute_txid();
        match self.chain.submit_package(&[parent, tx.clone()]).await {
            Ok(()) => {
                self.known.set_low_fee(&parent_txid, false);
                Ok(())
            }
            Err(RpcError::Rpc { code, message }) => match self.chain.send_raw_transaction(tx).await {
                // The parent may have got in by itself meanwhile; else the package's reason says more.
                Err(RpcError::Rpc { .. }) => Err(RpcError::Rpc { code, message }),
                other => other,
            },
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
