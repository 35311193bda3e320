//! The core thread: one node, one wallet, one step at a time.
//!
//! In: whatever the inbox holds. Out: a batch for each step, to the writer thread; what in it needs no record goes to the
//! publisher at once. This thread never waits for the disk: while that refuses, it goes on reading the chain (`backlog`).
//! A panic in a step is a bug of ours, and nothing a peer, the chain or a user should feel: the node and the wallet that
//! had it are dropped, fresh ones are loaded from the store, the links are closed and the chain is followed from
//! where the store stands. Three of them within a minute, and the program ends: a person has to look.
//! Read next: `inbox`, `purse` (the wallet's part), `writer`.

use super::backlog::{Backlog, Pressure, EXTREME};
use super::clock::Clock;
use super::inbox::{Event, Inbox, Order, WalletJob, CHAIN_QUEUE};
use super::links::Links;
use super::publish;
use super::purse::Purse;
use super::waiting::{Waiter, Waiting};
use super::writer::Job;
use super::{Birth, CoreError};
use crate::chain::follow::{self, ChainEvent, FollowConfig, StartingPoint};
use crate::chain::Chain;
use crate::gossip::GossipHandle;
use crate::peer::{PeerEvent, Peers};
use crate::wallet::WalletError;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::gossip::News;
use chand_protocol::node::command::{Command, CommandError};
use chand_protocol::node::effect::Input;
use chand_protocol::node::{step, Node};
use chand_protocol::store::Batch;
use chand_protocol::tx::ChannelType;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The longest sleep: a clock that was set forward is noticed after this.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The shortest one after a step that time alone asked for.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// So many panics …
const MAX_PANICS: usize = 3;
/// … within this time end the program.
const PANIC_WINDOW: Duration = Duration::from_secs(60);
/// JSON-RPC's "internal error".
const INTERNAL_ERROR: i32 = -32603;

/// A node and its wallet, as loaded from one store.
pub(super) struct Heart {
    pub node: Node,
    pub purse: Purse,
    pub birth: Birth,
    pub inbox: Inbox,
    pub batches: Sender<Job>,
    pub backlog: Backlog,
    pub publish: mpsc::UnboundedSender<publish::Order>,
    pub waiting: Waiting,
    pub links: Links,
    pub peers: Peers,
    pub chain: Chain,
    pub follow: FollowConfig,
    pub follower: Option<JoinHandle<()>>,
    pub runtime: Handle,
    pub clock: Clock,
    pub panics: Vec<Instant>,
    pub gossip: GossipHandle,
}

/// A channel whose transactions take coins of the wallet for their fees when it closes on chain.
pub(super) fn may_need_coins(channel: &Channel) -> bool {
    let over = match channel.phase {
        Phase::Closed(_) => true,
        Phase::Onchain(_) => channel.resolved_at().is_some(),
        _ => false,
    };
    channel.terms.channel_type == ChannelType::Anchors && !over && !channel.is_given_up()
}

/// Why the loop does not just go on.
enum Stop {
    /// It is over.
    End(Result<(), CoreError>),
    /// A bug: the node and its wallet are not to be trusted further.
    Bug(String),
}

impl Heart {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// [`CoreError`], in words for the log.
    pub fn run(mut self) -> Result<(), CoreError> {
        self.follow_chain();
        self.count_channels();
        if let Some((height, _)) = self.node.tip() {
            self.gossip.block(height, Vec::new());
        }
        let mut idle = false;
        loop {
            let limit = self.until_deadline(idle);
            let first = self.inbox.wait(&self.runtime, limit, &self.backlog);
            idle = first.is_none();
            // The node and the wallet that a panic went through are dropped unseen.
            let passed = catch_unwind(AssertUnwindSafe(|| self.pass(first)));
            let end = match passed.unwrap_or_else(|_| Err(Stop::Bug("it panicked".into()))) {
                Ok(()) => continue,
                Err(Stop::End(end)) => end,
                Err(Stop::Bug(what)) => match self.reload(&what) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            if let Some(follower) = self.follower.take() {
                follower.abort();
            }
            // A writer that is gone has nothing left to keep.
            let _ = self.batches.send(Job::Stop);
            return end;
        }
    }

    /// How long to sleep at most.
    fn until_deadline(&mut self, idle: bool) -> Duration {
        if self.backlog.pressure() != Pressure::Low {
            return LONGEST_WAIT;
        }
        let now = self.clock.read();
        let node = self.node.next_deadline().map(|at| Duration::from_millis(at.0.saturating_sub(now.0)));
        let purse = self.purse.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = [node, purse].into_iter().flatten().min().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        // Should the deadline not move, this is slow instead of a loop without rest.
        wait.max(if idle { SHORTEST_WAIT } else { Duration::ZERO })
    }

    /// All that arrived, one step, one batch.
    fn pass(&mut self, first: Option<Event>) -> Result<(), Stop> {
        let now = self.clock.read();
        let mut events: Vec<Event> = Vec::new();
        let pressure = self.backlog.pressure();
        match first {
            // What time alone asks for (pings, answers that are late) waits for the disk.
            None if pressure != Pressure::Low => return Ok(()),
            None => {}
            Some(Event::Stop) => return Err(Stop::End(Ok(()))),
            Some(Event::Broken(part)) => return Err(Stop::End(Err(CoreError::Broken(part)))),
            Some(first) => {
                events.push(first);
                self.inbox.take_all(pressure, |event| events.push(event));
            }
        }
        let blocks = events.iter().any(|event| matches!(event, Event::Chain(_)));
        let mut inputs = Vec::with_capacity(events.len());
        for event in events {
            self.take(event, &mut inputs).map_err(|e| Stop::Bug(e.to_string()))?;
        }
        self.purse.late(Instant::now());
        inputs.extend(self.purse.loose_change());
        inputs.extend(self.purse.compacted());
        let batch = step(&mut self.node, now, inputs);
        if blocks {
            self.count_channels();
        }
        self.hand_on(batch)?;
        // The disk and the peer are at work now; this is what they would wait for otherwise.
        self.node.prepare();
        Ok(())
    }

    /// Tells the wallet for how many channels it keeps something back; each block is soon enough.
    fn count_channels(&mut self) {
        self.purse.set_channels(self.node.channels().filter(|channel| may_need_coins(channel)).count());
    }

    /// Publishes what needs no record, and gives the batch to the writer thread.
    fn hand_on(&mut self, batch: Batch) -> Result<(), Stop> {
        for claim in batch.claims() {
            // The publisher lives as long as the daemon.
            let _ = self.publish.send(publish::Order::Claim(claim));
        }
        if batch.is_empty() {
            return Ok(());
        }
        if self.backlog.enter() == EXTREME {
            tracing::error!(
                "{EXTREME} batches wait for the disk: from here on the chain is not read any more, and nobody is \
                 punished. Make room or repair the disk"
            );
        }
        let gone = |_| Stop::End(Err(CoreError::Broken("the writer thread")));
        self.batches.send(Job::Batch(batch)).map_err(gone)
    }

    fn take(&mut self, event: Event, inputs: &mut Vec<Input>) -> Result<(), WalletError> {
        match event {
            Event::Peer(event) => inputs.extend(self.peer(event)),
            Event::Chain(event) => self.chain_event(event, inputs)?,
            Event::Published(published) => {
                inputs.extend(self.purse.published(&published));
                inputs.push(Input::Published { txid: published.txid, result: published.result });
            }
            Event::Order(Order::Left) => inputs.extend(self.abandoned()),
            Event::Order(Order::Node(command, to)) => {
                // Places for those who wait are counted: none is kept for nobody.
                if matches!(command, Command::Wait { .. }) {
                    inputs.extend(self.abandoned());
                }
                let id = self.waiting.enter(Waiter::Node(to));
                inputs.push(Input::Command { id, command });
            }
            Event::Order(Order::Wallet(request, to)) => {
                inputs.extend(self.purse.request(request, to, &self.waiting));
            }
            Event::Wallet(WalletJob::Fund { channel, script_pubkey, amount, feerate }) => {
                inputs.push(self.purse.fund(channel, script_pubkey, amount, feerate));
            }
            Event::Found(found) => inputs.push(found),
            Event::Wallet(WalletJob::Attach(order)) => inputs.push(self.purse.attach(&order)),
            Event::Wallet(WalletJob::Unreserve { txid }) => inputs.extend(self.purse.unreserve(txid)),
            // They are looked for before every step.
            Event::Stop | Event::Broken(_) => {}
        }
        Ok(())
    }

    /// Those who left before their answer came.
    fn abandoned(&self) -> Option<Input> {
        let ids = self.waiting.gone();
        (!ids.is_empty()).then_some(Input::Abandoned { ids })
    }

    fn peer(&mut self, event: PeerEvent) -> Option<Input> {
        match event {
            PeerEvent::Up { peer, link, inbound, address } => {
                self.links.up(link);
                Some(Input::Linked { peer, link, inbound, address: address.to_string() })
            }
            PeerEvent::Frame { peer, link, message } => {
                self.links.knows(link).then_some(Input::Message { peer, link, message })
            }
            // Nothing more is read from it, and it ends by itself if the node does not hang up.
            PeerEvent::BadFrame { peer, link, reason } => {
                self.links.knows(link).then_some(Input::BadMessage { peer, link, reason })
            }
            PeerEvent::Down { peer, link, reason } => {
                self.links.down(link).then_some(Input::Unlinked { peer, link, reason })
            }
            PeerEvent::DialFailed { peer, address, reason } => {
                tracing::debug!(%peer, %address, "not reached: {reason}");
                Some(Input::DialFailed { peer, reason })
            }
        }
    }

    fn chain_event(&mut self, event: ChainEvent, inputs: &mut Vec<Input>) -> Result<(), WalletError> {
        let input = match event {
            ChainEvent::Connected { height, hash, header, block } => {
                let inputs_of = block.txdata.iter().flat_map(|tx| &tx.input);
                self.gossip.block(height, inputs_of.map(|input| input.previous_output).collect());
                let wallet = self.purse.block_connected(&block, height)?;
                let txs =
                    Arc::try_unwrap(block).map_or_else(|shared| shared.txdata.clone(), |own| own.txdata);
                Input::BlockConnected { height, hash, time_s: header.time, txs: Arc::new(txs), wallet }
            }
            ChainEvent::Disconnected { height, hash } => {
                self.gossip.block_gone(height);
                let wallet = self.purse.block_disconnected(height, hash)?;
                Input::BlockDisconnected { height, hash, wallet }
            }
            ChainEvent::Synced { height, best_time_s } => {
                tracing::debug!(height = height.0, "all blocks are read");
                inputs.extend(self.purse.offers());
                Input::ChainSynced { tip_time_s: Some(best_time_s) }
            }
            ChainEvent::Unreachable { reason } => {
                tracing::warn!("{reason}; it is tried again until it serves");
                Input::ChainReachable(false)
            }
            ChainEvent::Back => Input::ChainReachable(true),
            ChainEvent::Fees { fees, estimates } => {
                tracing::debug!(
                    normal = fees.normal.0,
                    urgent = fees.urgent.0,
                    minimum = fees.minimum.0,
                    "feerates"
                );
                self.purse.set_rates(fees, estimates);
                Input::Fees(fees)
            }
        };
        inputs.push(input);
        Ok(())
    }

    /// Follows the chain from where the node stands; what an earlier follower had is dropped.
    fn follow_chain(&mut self) {
        if let Some(old) = self.follower.take() {
            old.abort();
        }
        let (events, inbox) = mpsc::channel(CHAIN_QUEUE);
        self.inbox.chain = inbox;
        let start = match self.node.tip() {
            None => {
                let (height, hash) = self.purse.tip();
                StartingPoint { height, hash, earlier: Vec::new() }
            }
            Some((height, hash)) => {
                // Oldest first there, newest first here.
                let recent = self.node.recent_blocks().into_iter().rev();
                let earlier = recent.filter(|(h, _)| *h < height).map(|(_, hash)| hash).collect();
                StartingPoint { height, hash, earlier }
            }
        };
        let _inside = self.runtime.enter();
        self.follower = Some(follow::spawn(self.chain.clone(), self.follow, start, events));
    }

    /// A fresh node and wallet from the store, after a panic.
    fn reload(&mut self, what: &str) -> Result<(), CoreError> {
        let now = Instant::now();
        self.panics.retain(|at| now.duration_since(*at) < PANIC_WINDOW);
        self.panics.push(now);
        tracing::error!(
            "a bug of chand stopped a step ({what}): all links are closed and the node is loaded again from \
             its database; no channel is closed and nothing that was told is forgotten. Please report this"
        );
        self.links.hang_up(&self.peers, "this node starts again");
        if self.panics.len() >= MAX_PANICS {
            return Err(CoreError::Panics);
        }
        let (to, entries) = channel();
        let gone = || CoreError::Broken("the writer thread");
        self.batches.send(Job::Reload(to)).map_err(|_| gone())?;
        let entries = entries.recv().map_err(|_| gone())?.map_err(|e| CoreError::Reload(e.to_string()))?;
        // All that the old node asked for has left by now; what the wallet was asked is not for the new one.
        self.inbox.drop_wallet_jobs();
        // The new node never heard of these, so it will not tell of their end.
        self.links.all().into_iter().for_each(|link| self.gossip.news(News::Unlinked { link }));
        self.links.forget();
        let lost = CommandError::new(
            INTERNAL_ERROR,
            "chand met a bug and loaded its state again; whether this was done is shown by the list commands",
        );
        self.waiting.fail_all(&lost);
        self.purse.fail_all(&lost);
        let rates = self.purse.rates();
        // A panic in here is no step's: a second try would have the same.
        let born = catch_unwind(AssertUnwindSafe(|| (self.birth)(entries)));
        let (node, wallet) = born.unwrap_or_else(|_| Err("it panicked".into())).map_err(CoreError::Reload)?;
        self.node = node.wake();
        self.purse = Purse::new(wallet, rates);
        self.count_channels();
        self.follow_chain();
        Ok(())
    }
}
