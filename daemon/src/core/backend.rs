//! The daemon as control sockets see it.
//!
//! In: commands and wallet requests of many clients at once. Out: their answers, once they are durable.
//! A full queue makes clients wait; one that leaves takes nothing back.
//! Read next: `crate::rpc::backend`.

use super::inbox::Order;
use crate::gossip::GossipHandle;
use crate::rpc::{About, Backend, ConfigEntry, Pending, WalletReply, WalletRequest};
use crate::tower::{TowerStatus, Towers};
use chand_protocol::node::command::{Command, CommandError, Reply};
use tokio::sync::{mpsc, oneshot, watch};

/// JSON-RPC's "internal error".
const INTERNAL_ERROR: i32 = -32603;

/// A handle on the core.
#[derive(Debug)]
pub struct Daemon {
    orders: mpsc::Sender<Order>,
    stop: watch::Sender<bool>,
    towers: Towers,
    gossip: GossipHandle,
    about: About,
    configs: Vec<ConfigEntry>,
}

impl Daemon {
    pub(super) fn new(
        orders: mpsc::Sender<Order>,
        stop: watch::Sender<bool>,
        towers: Towers,
        gossip: GossipHandle,
        about: About,
        configs: Vec<ConfigEntry>,
    ) -> Daemon {
        Daemon { orders, stop, towers, gossip, about, configs }
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
            answer.await.unwrap_or_else(|_| Err(stopping()))
        })
    }
}

fn stopping() -> CommandError {
    CommandError { code: INTERNAL_ERROR, message: "chand is stopping: ask again when it runs".into() }
}

impl Backend for Daemon {
    fn command(&self, command: Command) -> Pending<Result<Reply, CommandError>> {
        self.ask(|to| Order::Node(command, to))
    }

    fn wallet(&self, request: WalletRequest) -> Pending<Result<WalletReply, CommandError>> {
        self.ask(|to| Order::Wallet(request, to))
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn configs(&self) -> Vec<ConfigEntry> {
        self.configs.clone()
    }

    fn towers(&self) -> Vec<TowerStatus> {
        self.towers.list()
    }

    fn gossip(&self) -> GossipHandle {
        self.gossip.clone()
    }

    fn about(&self) -> About {
        self.about.clone()
    }
}
