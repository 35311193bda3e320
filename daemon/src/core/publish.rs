//! Gets released transactions into the backend's mempool, after a last look at each.
//!
//! In: [`Publish`], which only a durable batch releases, or as a claim that needs no record, at once and then once more
//! with its batch. Out: one [`Published`] for each: accepted, or why not.
//! Each is checked here as the network will check it (Bitcoin Core's own interpreter, and the rules of relay), so that
//! a bug of ours shows as a line in the log and not as a transaction that burns its coins or never confirms.
//! A backend that is away is no answer: the transaction waits. One that is refused for its fee alone is
//! remembered, so that its child can carry it in as a package. Read next: `check`.

use super::check::{self, Known, Unfit};
use crate::chain::{Chain, RpcError};
use bitcoin::{Transaction, Txid, Wtxid};
use chand_protocol::node::effect::Publish;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Nothing is wrong with such a transaction: blocks tell the node what became of the output.
const SPENT: &str = "an output that it spends is spent already, or not known yet";

/// What is to be published.
pub(super) enum Order {
    /// Its batch is durable.
    Released(Publish),
    /// Its batch is not; it comes once more when it is.
    Claim(Publish),
}

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
    mut queue: mpsc::UnboundedReceiver<Order>,
    results: mpsc::Sender<Published>,
) {
    let mut publisher = Publisher { chain, known: Known::default() };
    // Claims whose batch was not durable when they were offered, each as often as it comes once more.
    let mut early: BTreeMap<Wtxid, u32> = BTreeMap::new();
    loop {
        let next = tokio::select! {
            () = results.closed() => return,
            next = queue.recv() => next,
        };
        let Some(order) = next else { return };
        let (tx, why) = match order {
            Order::Claim(publish) => {
                let (tx, why) = publish.into_parts();
                let times = early.entry(tx.compute_wtxid()).or_default();
                *times = times.saturating_add(1);
                (tx, why)
            }
            Order::Released(publish) => {
                let (tx, why) = publish.into_parts();
                if let Some(times) = early.get_mut(&tx.compute_wtxid()) {
                    // It was answered then; a second answer would count as a second refusal.
                    *times = times.saturating_sub(1);
                    if *times == 0 {
                        early.remove(&tx.compute_wtxid());
                    }
                    continue;
                }
                (tx, why)
            }
        };
        let txid = tx.compute_txid();
        let result = tokio::select! {
            () = results.closed() => return,
            result = publisher.publish(&tx) => result,
        };
        match &result {
            Ok(()) => tracing::debug!(%txid, why, "broadcast"),
            // The node says what it means.
            Err(reason) => tracing::debug!(%txid, why, "not accepted for broadcast: {reason}"),
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
                None => return Err(Unfit::Refused(SPENT.into())),
            }
            self.known.keep(tx.clone());
        }
        let submitted = self.submit(tx).await;
        if matches!(&submitted, Err(RpcError::Rpc { message, .. }) if is_spent(message)) {
            // A block may hold it, with all that it pays spent again; else somebody was quicker.
            return match check::is_there(&self.chain, tx).await? {
                true => Ok(()),
                false => Err(Unfit::Refused(SPENT.into())),
            };
        }
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

/// Refusals that mean: an output is spent, or was never there.
fn is_spent(message: &str) -> bool {
    ["missingorspent", "missing-inputs", "Missing inputs"].iter().any(|m| message.contains(m))
}

/// Refusals that a child with a good fee can heal.
fn is_low_fee(message: &str) -> bool {
    ["min relay fee not met", "mempool min fee not met", "min fee not met"]
        .iter()
        .any(|m| message.contains(m))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Auth;
    use crate::regtest;
    use bitcoin::script::Builder;
    use bitcoin::{absolute, opcodes, transaction, Address, Amount, Network, OutPoint, ScriptBuf, Sequence};
    use bitcoin::{TxIn, TxOut, Witness};
    use serde_json::json;
    use std::net::SocketAddr;

    fn open_script() -> ScriptBuf {
        Builder::new().push_opcode(opcodes::OP_TRUE).into_script()
    }

    /// Spends an output that anybody may spend to another one, which gets `sat`.
    fn spend(previous_output: OutPoint, sat: u64) -> Transaction {
        let witness = Witness::from_slice(&[open_script().as_bytes()]);
        let input = TxIn { previous_output, sequence: Sequence::MAX, script_sig: ScriptBuf::new(), witness };
        Transaction {
            version: transaction::Version(3),
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey: open_script().to_p2wsh() }],
        }
    }

    async fn coin(chain: &Chain) -> OutPoint {
        let address = Address::p2wsh(&open_script(), Network::Regtest);
        let paid =
            chain.rpc().call("sendtoaddress", json!([address.to_string(), 0.001])).await.expect("paid");
        let txid: Txid = paid.as_str().and_then(|t| t.parse().ok()).expect("a txid");
        for vout in 0..2 {
            let found = chain.get_tx_out(&OutPoint { txid, vout }, true).await.expect("an answer");
            if found.is_some_and(|o| o.output.script_pubkey == address.script_pubkey()) {
                return OutPoint { txid, vout };
            }
        }
        panic!("the coin is not there");
    }

    async fn mine(chain: &Chain) {
        let address = Address::p2wsh(&open_script(), Network::Regtest);
        chain.rpc().call("generatetoaddress", json!([1, address.to_string()])).await.expect("a block");
    }

    async fn mempool(chain: &Chain) -> Vec<String> {
        let all = chain.rpc().call("getrawmempool", json!([])).await.expect("an answer");
        all.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_what_holds_leaves_and_a_child_carries_its_parent() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = regtest::Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: Some(dir.path().to_path_buf()),
            user: Some("u".into()),
            password: Some("p".into()),
            ..regtest::Options::default()
        };
        let running = regtest::spawn(options).await.expect("a chain");
        let chain = Chain::new(&running.url(), Auth::Url).expect("a URL");
        let mut publisher = Publisher { chain: chain.clone(), known: Known::default() };

        // Unsigned, or of a coin that nobody knows: it does not reach the backend.
        let first = coin(&chain).await;
        mine(&chain).await;
        let mut unsigned = spend(first, 90_000);
        unsigned.input[0].witness = Witness::new();
        assert!(publisher.publish(&unsigned).await.is_err_and(|e| e.contains("input 0")));
        let unknown = spend(OutPoint { vout: 7, ..first }, 90_000);
        assert!(publisher.publish(&unknown).await.is_err_and(|e| e.contains("spent already, or not known")));
        assert_eq!(mempool(&chain).await, Vec::<String>::new());

        // Good ones do, also again, also when they are in a block.
        let good = spend(first, 90_000);
        for _ in 0..2 {
            assert_eq!(publisher.publish(&good).await, Ok(()));
        }
        assert_eq!(mempool(&chain).await, [good.compute_txid().to_string()]);
        mine(&chain).await;
        assert_eq!(publisher.publish(&good).await, Ok(()));
        let mut forgetful = Publisher { chain: chain.clone(), known: Known::default() };
        assert_eq!(forgetful.publish(&good).await, Ok(()));

        // A parent without a fee waits for its child.
        let second = coin(&chain).await;
        mine(&chain).await;
        let parent = spend(second, 100_000);
        assert!(publisher.publish(&parent).await.is_err());
        let child = spend(OutPoint { txid: parent.compute_txid(), vout: 0 }, 90_000);
        assert_eq!(publisher.publish(&child).await, Ok(()));
        assert_eq!(mempool(&chain).await.len(), 2);

        // Both again, and the child with a better fee, which takes the place of the first one.
        assert_eq!(publisher.publish(&parent).await, Ok(()));
        let better = spend(OutPoint { txid: parent.compute_txid(), vout: 0 }, 80_000);
        assert_eq!(publisher.publish(&better).await, Ok(()));
        assert!(mempool(&chain).await.contains(&better.compute_txid().to_string()));
        assert!(publisher.publish(&child).await.is_err_and(|reason| reason.contains("insufficient fee")));
        mine(&chain).await;
        assert_eq!(publisher.publish(&better).await, Ok(()));
        assert_eq!(publisher.publish(&child).await, Err(SPENT.into()));
        // Of the parent nothing is unspent, but this backend finds transactions in blocks, too.
        assert_eq!(publisher.publish(&parent).await, Ok(()));
    }
}
