//! All that can wake the core thread.
//!
//! In: seven queues (peers, chain, broadcaster, control sockets, routes that were found, blocks of the past, and what the writer thread has for the wallet) and the
//! order to stop. Out: one event at a time; a share of each queue for each step, so that no source starves another.
//! While the disk does not keep up, only the chain, the broadcaster and the writer thread are listened to (`backlog`).
//! Read next: `mod` (which thread waits for which), `heart` (what becomes of an event).

use super::backlog::{Backlog, Pressure};
use super::publish::Published;
use super::waiting::{ReplyTo, WalletReplyTo};
use crate::chain::follow::ChainEvent;
use crate::peer::PeerEvent;
use crate::rpc::WalletRequest;
use bitcoin::{ScriptBuf, Txid};
use chand_protocol::id::ChannelId;
use chand_protocol::node::command::Command;
use chand_protocol::node::effect::{AttachOrder, FundAmount, Input};
use chand_protocol::units::Feerate;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Frames and links of peers that wait; a full queue stops the reading of sockets.
pub(super) const PEER_QUEUE: usize = 1_024;
/// Blocks that wait, up to 4 MB each; a full queue stops the following of the chain.
pub(super) const CHAIN_QUEUE: usize = 8;
/// Results of published that wait.
pub(super) const BROADCAST_QUEUE: usize = 256;
/// Commands that wait; a full queue makes clients wait.
pub(super) const ORDER_QUEUE: usize = 1_024;

/// What released batches ask of the wallet.
pub(super) enum WalletJob {
    /// Build and sign a funding transaction.
    Fund { channel: ChannelId, script_pubkey: ScriptBuf, amount: FundAmount, feerate: Feerate },
    /// Add coins to a transaction that cannot pay its own fee.
    Attach(Box<AttachOrder>),
    /// Free the coins of one that nobody relies on any more.
    Unreserve { txid: Txid },
}

/// What a control socket wants.
pub(super) enum Order {
    /// Of the node.
    Node(Command, ReplyTo),
    /// Of the wallet.
    Wallet(WalletRequest, WalletReplyTo),
    /// Nothing more: it left before its answer came.
    Left,
}

/// Something that happened.
// Nearly every event is a frame: a box would cost an allocation for each.
#[allow(clippy::large_enum_variant)]
pub(super) enum Event {
    Peer(PeerEvent),
    Chain(ChainEvent),
    Published(Published),
    Order(Order),
    Wallet(WalletJob),
    /// Ways, or blocks of the past, that were asked for.
    Found(Input),
    /// The daemon is to stop.
    Stop,
    /// A part of the daemon ended by itself: a bug of ours.
    Broken(&'static str),
}

/// The receiving ends.
pub(super) struct Inbox {
    pub peers: mpsc::Receiver<PeerEvent>,
    pub chain: mpsc::Receiver<ChainEvent>,
    pub published: mpsc::Receiver<Published>,
    pub orders: mpsc::Receiver<Order>,
    pub wallet: mpsc::UnboundedReceiver<WalletJob>,
    pub routes: mpsc::UnboundedReceiver<Input>,
    pub old_blocks: mpsc::Receiver<Input>,
    pub stop: watch::Receiver<bool>,
}

impl Inbox {
    /// Waits for the first event; `None` when `limit` is over before, or `backlog` changed.
    pub fn wait(&mut self, runtime: &Handle, limit: Duration, backlog: &Backlog) -> Option<Event> {
        let pressure = backlog.pressure();
        let (world, chain) = (pressure == Pressure::Low, pressure != Pressure::Extreme);
        runtime.block_on(async {
            tokio::select! {
                biased;
                // A gone sender means to stop as well.
                _ = self.stop.wait_for(|stop| *stop) => Some(Event::Stop),
                () = backlog.room(), if pressure != Pressure::Low => None,
                job = self.wallet.recv() => Some(job.map_or(Event::Broken("the writer thread"), Event::Wallet)),
                result = self.published.recv(), if chain => {
                    Some(result.map_or(Event::Broken("the broadcaster"), Event::Published))
                }
                event = self.chain.recv(), if chain => {
                    Some(event.map_or(Event::Broken("the follower"), Event::Chain))
                }
                found = self.routes.recv(), if world => {
                    Some(found.map_or(Event::Broken("the thread that finds routes"), Event::Found))
                }
                block = self.old_blocks.recv(), if world => {
                    Some(block.map_or(Event::Broken("the writer thread"), Event::Found))
                }
                order = self.orders.recv(), if world => Some(order.map_or(Event::Stop, Event::Order)),
                event = self.peers.recv(), if world => {
                    Some(event.map_or(Event::Broken("the socket pump"), Event::Peer))
                }
                () = sleep(limit) => None,
            }
        })
    }

    /// What is there now and may be taken, a share of each queue. Never waits.
    pub fn take_all(&mut self, pressure: Pressure, mut each: impl FnMut(Event)) {
        share(PEER_QUEUE, || self.wallet.try_recv().ok().map(Event::Wallet), &mut each);
        if pressure == Pressure::Extreme {
            return;
        }
        share(BROADCAST_QUEUE, || self.published.try_recv().ok().map(Event::Published), &mut each);
        share(CHAIN_QUEUE, || self.chain.try_recv().ok().map(Event::Chain), &mut each);
        if pressure == Pressure::High {
            return;
        }
        share(ORDER_QUEUE, || self.routes.try_recv().ok().map(Event::Found), &mut each);
        share(CHAIN_QUEUE, || self.old_blocks.try_recv().ok().map(Event::Found), &mut each);
        share(ORDER_QUEUE, || self.orders.try_recv().ok().map(Event::Order), &mut each);
        share(PEER_QUEUE, || self.peers.try_recv().ok().map(Event::Peer), &mut each);
    }

    /// Forgets what the writer thread had for the wallet of a node that is gone.
    pub fn drop_wallet_jobs(&mut self) {
        while self.wallet.try_recv().is_ok() {}
    }
}

fn share(most: usize, next: impl FnMut() -> Option<Event>, each: &mut impl FnMut(Event)) {
    std::iter::from_fn(next).take(most).for_each(each);
}
