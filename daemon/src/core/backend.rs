//! The daemon as control sockets see it.
//!
//! In: commands and wallet requests of many clients at once. Out: their answers, once they are durable.
//! A full queue makes clients wait; one that leaves takes nothing back. While the disk refuses, questions are answered from
//! what was kept last (`lookout`), those too that were under way.
//! Read next: `crate::rpc::backend`.

use super::drain::{Drain, Drained};
use super::inbox::Order;
use super::lookout::{Kept, Lookout};
use crate::chain::{Chain, Report};
use crate::gossip::GossipHandle;
use crate::rpc::{About, Backend, ConfigEntry, Pending, WalletReply, WalletRequest};
use crate::runes::Authority;
use crate::tower::{TowerStatus, Towers};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Transaction, Txid};
use chand_protocol::node::command::{Command, CommandError, Reply};
use chand_protocol::units::Sat;
use serde_json::json;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// JSON-RPC's "internal error".
const INTERNAL_ERROR: i32 = -32603;

/// What the daemon is asked about that is beside its core.
#[derive(Debug)]
pub(super) struct Beside {
    pub towers: Towers,
    pub gossip: GossipHandle,
    pub chain: Chain,
    pub runes: Arc<Authority>,
    pub about: About,
    pub configs: Vec<ConfigEntry>,
}

/// A handle on the core.
#[derive(Debug)]
pub struct Daemon {
    orders: mpsc::Sender<Order>,
    stop: watch::Sender<bool>,
    drain: Drain,
    lookout: Lookout,
    beside: Beside,
}

impl Daemon {
    pub(super) fn new(
        orders: mpsc::Sender<Order>,
        stop: watch::Sender<bool>,
        lookout: Lookout,
        beside: Beside,
    ) -> Daemon {
        let drain = Drain::new(orders.clone(), stop.clone());
        Daemon { orders, stop, drain, lookout, beside }
    }

    fn ask<T: Send + 'static>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Order,
    ) -> Pending<Result<T, CommandError>> {
        let (to, answer) = oneshot::channel();
        let (orders, order) = (self.orders.clone(), order(to));
        Box::pin(async move {
            if orders.send(order).await.is_err() {
                return Err(stopping());
            }
            // Dropped after `answer`, should the client leave while it waits.
            let mut asked = Asked { orders, answered: false };
            let result = answer.await;
            asked.answered = true;
            result.unwrap_or_else(|_| Err(stopping()))
        })
    }
}

/// A question under way: the core hears of it when its client leaves, so that nothing is kept for nobody.
struct Asked {
    orders: mpsc::Sender<Order>,
    answered: bool,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            // With a full queue the next who leaves, or waits, is in time.
            let _ = self.orders.try_send(Order::Left);
        }
    }
}

/// The node's own answer; or, when the disk refuses before that is there, one from what was kept.
async fn either<T, F: Future<Output = Result<T, CommandError>>>(
    lookout: &Lookout,
    mut live: Pending<Result<T, CommandError>>,
    from_kept: impl FnOnce(Arc<Kept>) -> F,
) -> Result<T, CommandError> {
    let kept = tokio::select! {
        biased;
        kept = lookout.opened() => kept,
        answer = &mut live => return answer,
    };
    from_kept(kept).await
}

/// What the mempool has under this id; a backend that is away has nothing.
async fn in_mempool(chain: &Chain, txid: Txid) -> Option<(Transaction, Option<Sat>)> {
    let entry = chain.rpc().call("getmempoolentry", json!([txid.to_string()])).await.ok()?;
    let raw = chain.rpc().call("getrawtransaction", json!([txid.to_string()])).await.ok()?;
    let tx: Transaction = deserialize_hex(raw.as_str()?).ok()?;
    let fee = entry["fees"]["base"].as_f64().and_then(|btc| bitcoin::Amount::from_btc(btc).ok());
    (tx.compute_txid() == txid).then(|| (tx, fee.map(|fee| Sat(fee.to_sat()))))
}

fn stopping() -> CommandError {
    CommandError::new(INTERNAL_ERROR, "chand is stopping: ask again when it runs")
}

impl Backend for Daemon {
    fn command(&self, command: Command) -> Pending<Result<Reply, CommandError>> {
        if !command.is_question() {
            return self.ask(|to| Order::Node(command, to));
        }
        let live = self.ask(|to| Order::Node(command.clone(), to));
        let lookout = self.lookout.clone();
        Box::pin(async move { either(&lookout, live, |kept| kept.node(command)).await })
    }

    fn wallet(&self, request: WalletRequest) -> Pending<Result<WalletReply, CommandError>> {
        if !matches!(request, WalletRequest::ListCoins { .. } | WalletRequest::KeptBack) {
            return self.ask(|to| Order::Wallet(request, to));
        }
        let live = self.ask(|to| Order::Wallet(request.clone(), to));
        let lookout = self.lookout.clone();
        Box::pin(async move { either(&lookout, live, |kept| kept.wallet(request)).await })
    }

    fn behind(&self) -> Option<String> {
        let why = self.lookout.why()?;
        Some(format!(
            "{why}: this is the state that was kept last. Commands that change something wait until there is room; \
             nothing is lost"
        ))
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn drain(&self, time: Duration) -> Pending<Drained> {
        Box::pin(self.drain.clone().run(time))
    }

    fn configs(&self) -> Vec<ConfigEntry> {
        self.beside.configs.clone()
    }

    fn towers(&self) -> Vec<TowerStatus> {
        self.beside.towers.list()
    }

    fn gossip(&self) -> GossipHandle {
        self.beside.gossip.clone()
    }

    fn chains(&self) -> Vec<Report> {
        self.beside.chain.report()
    }

    fn mempool(&self, txid: Txid) -> Pending<Option<(Transaction, Option<Sat>)>> {
        let chain = self.beside.chain.clone();
        Box::pin(async move { in_mempool(&chain, txid).await })
    }

    fn runes(&self) -> Arc<Authority> {
        Arc::clone(&self.beside.runes)
    }

    fn about(&self) -> About {
        self.beside.about.clone()
    }
}
