//! Gets released transactions into the backend's mempool, after a last look at each.
//!
//! In: [`Publish`], which only a durable batch releases. Out: one [`Published`] for each: accepted, or why not.
//! Each is checked here as the network will check it (Bitcoin Core's own interpreter, and the rules of relay), so that
//! a bug of ours shows as a line in the log and not as a transaction that burns its coins or never confirms.
//! A backend that is away is no answer: the transaction waits. One that is refused for its fee alone is
//! remembered, so that its child can carry it in as a package. Read next: `check`.

use super::check::{self, Known, Unfit};
use crate::chain::{Chain, RpcError};
use bitcoin::{Transaction, Txid};
use chand_protocol::node::effect::Publish;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

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

/// Publishes what comes, in order, until either queue is closed.
pub(super) async fn run(
    chain: Chain,
    mut queue: mpsc::UnboundedReceiver<Publish>,
    results: mpsc::Sender<Published>,
) {
    let mut publisher = Publisher { chain, known: Known::default() };
    loop {
        let next = tokio::select! {
            () = results.closed() => return,
            next = queue.recv() => next,
        };
        let Some((tx, why)) = next.map(Publish::into_parts) else { return };
        let txid = tx.compute_txid();
        let result = tokio::select! {
            () = results.closed() => return,
            result = publisher.publish(&tx) => result,
        };
        match &result {
            Ok(()) => tracing::debug!(%txid, why, "broadcast"),
            Err(reason) => tracing::info!(%txid, why, "not accepted for broadcast: {reason}"),
        }
        if results.send(Published { txid, tx, result }).await.is_err() {
            return;
        }
    }
}

struct Publisher {
    chain: Chain,
    known: Known,
}

impl Publisher {
    /// Tries until there is an answer.
    async fn publish(&mut self, tx: &Transaction) -> Result<(), String> {
        let mut retry = FIRST_RETRY;
        loop {
            match self.try_publish(tx).await {
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
                    sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
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
