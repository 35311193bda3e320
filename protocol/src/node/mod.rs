//! One whole node: every peer, channel, invoice and payment, one step at a time.
//!
//! In: a list of [`Input`]s and the time. Out: a [`Batch`]: records to keep and effects to release once they are.
//! [`step`] is a pure function of the node, the time and the inputs; the daemon and a simulator call the same one.
//! What arrived together is kept together: all records of a step are one durable write, over all channels.
//!
//! * `peers` – links, `init`, pings, calling again
//! * `channels` – opening, messages to channels, closing
//! * `blocks` – what the chain does to channels
//! * `receive`, `held`, `parked`, `invoices` – being paid; `orders`, `routes`, `rest`, `send` – paying
//! * `forward`, `forwards` – between payer and payee
//! * `unblind` – what an onion asks of us; `delay` – how fast it goes back; `paths` – being paid over blinded paths, `blinded` – paying over them
//! * `runes` – credentials that were given out; `budget` – what some of them may spend
//! * `waits` – numbers of what is made, changed and deleted, for `wait`
//! * `announce` – what the network is told of us; `alias` – names of channels that tell nothing
//! * `lost` – backups of channels, and channels made from one; `storage` – what peers keep for each other
//! * `drain` – nothing new before a stop; `published` – what the backend says of our transactions
//! * `query` – answers that change nothing
//! * `audit` – whether records fit each other
//! * `restore` – a node from its records; `dormant` – before it does anything; `fork` – a second one of the same state, for simulators
//!
//! Read next: `effect` (inputs and effects), then `channels`.

mod alias;
mod announce;
pub mod audit;
pub mod blinded;
mod blocks;
pub mod budget;
mod by_hand;
mod channels;
pub mod command;
pub mod config;
mod delay;
mod dormant;
mod drain;
pub mod effect;
mod fork;
mod forward;
mod forwards;
mod funding;
mod held;
mod invoices;
pub mod lost;
mod orders;
mod parked;
mod paths;
mod payments;
mod peers;
mod published;
mod query;
mod receive;
mod rest;
mod restore;
pub mod routes;
mod runes;
mod send;
mod state;
mod storage;
pub mod terms;
pub mod tower;
mod unblind;
pub mod view;
pub mod waits;

pub use announce::GossipConfig;
pub use config::NodeConfig;
pub use dormant::Dormant;
pub use paths::asked_of_peers;
pub use restore::RestoreError;

use crate::channel::cause::{Trigger, Why};
use crate::channel::{Channel, ChannelEvent, Context, Out};
use crate::entropy::Entropy;
use crate::fault::{LocalFault, Trouble, Verdict};
use crate::id::{ChannelId, CommandId, LinkId, NodeId};
use crate::keys::NodeKeys;
use crate::sign::Crypto;
use crate::store::{Batch, Change};
use crate::units::{Feerate, Height, Msat, Sat, Timestamp};
use crate::wire::message::ErrorMessage;
use crate::wire::Message;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitcoin::{BlockHash, OutPoint, Txid};
use command::{CommandError, Reply};
use drain::Draining;
use effect::{Effect, Fees, Input, Level, Notice};
use forwards::Forwards;
use invoices::Invoices;
use payments::Payments;
use peers::Peer;

use state::Counters;
use waits::Waits;

use crate::channel::open::Opening;

/// The most that HTLCs too small for an output may put at risk in one channel.
const MAX_DUST: Sat = Sat(50_000);

/// A node. It is changed by [`step`] only.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) keys: NodeKeys,
    id: NodeId,
    entropy: Entropy,
    crypto: Arc<dyn Crypto>,
    seq: u64,
    /// The caller's clock and [`Node::ahead_ms`].
    now: Timestamp,
    /// How much the clock was set back so far: this node's time goes on from where it stood.
    ahead_ms: u64,
    chain: Chain,
    counters: Counters,
    peers: BTreeMap<NodeId, Peer>,
    openings: BTreeMap<(NodeId, ChannelId), Opening>,
    /// What openings by hand that ended would have paid to, oldest first; only in memory.
    stale_fundings: VecDeque<bitcoin::ScriptBuf>,
    channels: BTreeMap<ChannelId, Channel>,
    /// Funding outputs of channels, to be found in blocks.
    funding: BTreeMap<OutPoint, ChannelId>,
    /// Outputs of published commitments, to be found in blocks.
    watched: BTreeMap<OutPoint, ChannelId>,
    invoices: Invoices,
    payments: Payments,
    forwards: Forwards,
    waits: Waits,
    runes: runes::Runes,
    accounts: budget::Accounts,
    draining: Draining,
    /// Our newest announcement of ourselves.
    introduced: Option<announce::Introduced>,
    /// It was told since the start.
    introduced_now: bool,
    closers: BTreeMap<ChannelId, Vec<(CommandId, Option<Timestamp>)>>,
    /// Answers that wait until the chain backend has the transaction they tell of.
    publishing: BTreeMap<Txid, Vec<(CommandId, Reply, Timestamp)>>,
    /// Transactions of which the log says already that the chain backend has them.
    taken: BTreeSet<Txid>,
    /// HTLCs of peers that wait until the chain is known, in the order in which they came.
    parked: Vec<parked::Parked>,
    /// HTLCs of peers that are given back in a moment.
    delayed: Vec<delay::Delayed>,
    /// Channels changed in this step.
    touched: BTreeSet<ChannelId>,
    /// Channels whose next commitments' keys are to be derived.
    unprepared: BTreeSet<ChannelId>,
    events: VecDeque<(ChannelId, ChannelEvent)>,
    out: Outbox,
    /// It was made from words.
    recovered: Option<lost::Recovered>,
    /// What the newest backup holds.
    backed: lost::Backed,
    /// What peers keep for us, and we for them.
    storage: storage::Storage,
    wallet_changes: Vec<Vec<u8>>,
    /// Numbers of the wallet's records.
    wallet_kept: Vec<u64>,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Node({}, {} channels)", self.id, self.channels.len())
    }
}

/// The followed chain, as far as the node has seen it.
#[derive(Clone, Debug)]
struct Chain {
    tip: Option<(Height, BlockHash)>,
    /// The newest blocks, oldest first, to go back along in a reorganisation.
    recent: VecDeque<(Height, BlockHash)>,
    /// The tip's time, seconds since the Unix epoch.
    tip_time_s: u32,
    reachable: bool,
    /// The backend is at its best header, and all its blocks are read.
    synced: bool,
    /// When that was said last.
    synced_at: Timestamp,
    /// No newer block was told of since: the tip is the chain's.
    at_tip: bool,
    fees: Fees,
}

/// What this step wants.
#[derive(Clone, Default)]
struct Outbox {
    changes: Vec<Change>,
    effects: Vec<Effect>,
}

/// What is left of a node whose state may be ahead of its disk: it takes no further step.
#[derive(Debug)]
pub struct DeadNode(());

/// Feeds `inputs` to the node, in order, at time `now`; also does what time alone asks for.
pub fn step(node: &mut Node, now: Timestamp, inputs: Vec<Input>) -> Batch {
    node.read_clock(now);
    for input in inputs {
        node.take(input);
        node.drain_events();
    }
    node.timers();
    node.drain_events();
    node.finish()
}

impl Node {
    /// Its identity.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The newest block it has processed.
    pub const fn tip(&self) -> Option<(Height, BlockHash)> {
        self.chain.tip
    }

    /// The newest blocks it remembers, oldest first: where a follower finds the fork point.
    pub fn recent_blocks(&self) -> Vec<(Height, BlockHash)> {
        self.chain.recent.iter().copied().collect()
    }

    /// The wallet's changes, oldest first, as they were kept; given out once.
    pub fn take_wallet_changes(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.wallet_changes)
    }

    /// Where money goes at a close when nothing else is said.
    pub fn set_close_script(&mut self, script: bitcoin::ScriptBuf) {
        self.config.close_script = script;
    }

    /// One channel, to look at.
    pub fn channel(&self, id: &ChannelId) -> Option<&Channel> {
        self.channels.get(id)
    }

    /// Every channel, to look at.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    /// Ends the node: its state may be ahead of its disk. Restore a new one from the store.
    pub fn poison(self) -> DeadNode {
        DeadNode(())
    }

    /// Derives keys that the next steps will need; to be called when there is time, for instance while a batch is being
    /// written. Changes what the next steps cost, never what they give.
    pub fn prepare(&mut self) {
        for id in core::mem::take(&mut self.unprepared) {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.prepare_keys(self.crypto.as_ref());
            }
        }
    }

    /// A clock that is set back neither undoes deadlines nor stops time: what was due in a minute still is.
    fn read_clock(&mut self, now: Timestamp) {
        let shown = now.plus_ms(self.ahead_ms);
        self.ahead_ms = self.ahead_ms.saturating_add(self.now.0.saturating_sub(shown.0));
        self.now = self.now.max(shown);
    }

    /// The caller's clock: what people and invoices go by. `now` is for waiting only.
    const fn wall(&self) -> Timestamp {
        Timestamp(self.now.0.saturating_sub(self.ahead_ms))
    }

    /// When [`step`] wants to be called even without inputs, by the caller's clock.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let closers = self.closers.values().flatten().filter_map(|(_, at)| *at).min();
        let publishing = self.publishing.values().flatten().map(|p| p.2).min();
        let announce = self.announce_deadline();
        let all = [
            publishing,
            self.peers_deadline(),
            self.receive_deadline(),
            self.send_deadline(),
            self.rest_deadline(),
            closers,
            announce,
            self.storage_deadline(),
        ];
        let next = all.into_iter().flatten().min()?;
        Some(Timestamp(next.0.saturating_sub(self.ahead_ms)))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Linked { peer, link, inbound, address } => self.on_linked(peer, link, inbound, address),
            Input::Unlinked { peer, link, reason } => self.on_unlinked(peer, link, &reason),
            Input::DialFailed { peer, reason } => self.on_dial_failed(peer, &reason),
            Input::Message { peer, link, message } => self.on_message(peer, link, message),
            Input::BadMessage { peer, link, reason } => self.on_bad_message(peer, link, &reason),
            Input::Command { id, command } => self.on_command(id, command),
            Input::Abandoned { ids } => self.forget_waiters(&ids),
            Input::BlockConnected { height, hash, time_s, txs, wallet } => {
                if wallet.is_some() {
                    self.wake_claims();
                }
                self.keep_wallet(wallet);
                self.chain.tip_time_s = time_s;
                self.chain.at_tip = false;
                self.on_block(height, hash, &txs);
                self.unpark();
            }
            Input::BlockDisconnected { height, hash, wallet } => {
                self.keep_wallet(wallet);
                self.chain.at_tip = false;
                self.on_block_gone(height, hash);
            }
            Input::ChainSynced { tip_time_s } => {
                (self.chain.synced, self.chain.at_tip) = (true, true);
                self.chain.synced_at = self.now;
                // After a start the tip is known by its records, which do not tell its time.
                self.chain.tip_time_s = tip_time_s.unwrap_or(self.chain.tip_time_s);
                self.plan_claims();
                self.unpark();
            }
            Input::ChainReachable(reachable) => {
                if self.chain.reachable != reachable {
                    self.chain.reachable = reachable;
                    // Blocks may have been missed: known again when all are read.
                    (self.chain.synced, self.chain.at_tip) = (false, false);
                    let (level, text) = if reachable {
                        (Level::Info, "the chain backend answers")
                    } else {
                        (Level::Error, "the chain backend cannot be reached: no new blocks are seen")
                    };
                    self.notice(level, text);
                }
            }
            Input::Fees(fees) => self.on_fees(fees),
            Input::Funded { channel, result, wallet } => {
                self.keep_wallet(wallet);
                self.on_funded(channel, result);
            }
            Input::Attached { channel, claim, result, spare_coins, wallet } => {
                self.keep_wallet(wallet);
                self.on_attached(channel, claim, result, spare_coins);
            }
            Input::Wallet { change, publish, reply } => {
                self.keep_wallet(Some(change));
                match (publish, reply) {
                    (Some(tx), Some((id, reply))) => self.publish_and_reply(tx, "withdrawal", id, reply),
                    (Some(tx), None) => self.out.effects.push(Effect::Publish { tx, why: "withdrawal" }),
                    (None, Some((id, reply))) => self.reply(id, Ok(reply)),
                    (None, None) => {}
                }
            }
            Input::WalletCompacted { change } => {
                let old = core::mem::take(&mut self.wallet_kept);
                old.into_iter().for_each(|n| self.keep(Change::Delete { key: crate::record::wallet_key(n) }));
                self.keep_wallet(Some(change));
            }
            Input::Offer { tx } => self.out.effects.push(Effect::Publish { tx, why: "withdrawal" }),
            Input::OldBlock { height, txs, last } => self.on_old_block(height, &txs, last),
            Input::Published { txid, result } => self.on_published(txid, result),
            Input::Routes { purpose, result } => self.on_routes(purpose, result),
        }
    }

    /// Whatever an event touches may make new events: until none is left.
    fn drain_events(&mut self) {
        while let Some((channel, event)) = self.events.pop_front() {
            match event {
                ChannelEvent::Ready => self.send_waiting(),
                ChannelEvent::LockedIn(id) => self.on_locked_in(channel, id),
                ChannelEvent::Fulfilled { id, preimage } => self.on_fulfilled(channel, id, preimage),
                ChannelEvent::Untaken { id } => self.on_untaken(channel, id),
                ChannelEvent::Failed { id, removal } => self.on_failed(channel, id, removal),
                ChannelEvent::CloseAgreed | ChannelEvent::ForceClosed => self.on_close_decided(channel),
            }
        }
    }

    fn timers(&mut self) {
        self.peers_timers();
        self.receive_timers();
        self.send_timers();
        self.rest_timers();
        self.close_timers();
        self.publish_timers();
        self.announce_timers();
        self.storage_timers();
    }

    /// Signs what gathered in every touched channel, keeps what changed, and makes the batch.
    fn finish(&mut self) -> Batch {
        self.send_waiting();
        if !self.touched.is_empty() {
            self.stir_rests();
        }
        let touched: Vec<ChannelId> = core::mem::take(&mut self.touched).into_iter().collect();
        for id in &touched {
            if let Some(Err(fault)) = self.act(*id, |c, cx, out| c.flush(cx, out)) {
                self.local_fault(*id, &fault);
            }
        }
        self.drain_events();
        let touched: BTreeSet<ChannelId> =
            touched.into_iter().chain(core::mem::take(&mut self.touched)).collect();
        self.announce_all(touched.iter().copied());
        let touched: BTreeSet<ChannelId> =
            touched.into_iter().chain(core::mem::take(&mut self.touched)).collect();
        self.renew_backup(&touched);
        self.give_ours(&touched);
        for id in touched {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.save(&mut self.out.changes);
                self.unprepared.insert(id);
            }
        }
        self.tell_drained();
        if self.counters.dirty {
            self.out.changes.push(self.counters.record());
            self.counters.dirty = false;
        }
        let Outbox { changes, effects } = core::mem::take(&mut self.out);
        if !changes.is_empty() {
            self.seq += 1;
        }
        Batch::new(self.seq, changes, effects)
    }

    /// Runs `f` on a channel and takes up what it put out. `None` when there is no such channel.
    fn act<R>(
        &mut self,
        id: ChannelId,
        f: impl FnOnce(&mut Channel, &Context<'_>, &mut Out) -> R,
    ) -> Option<R> {
        let (crypto, now) = (self.crypto.clone(), self.wall());
        let channel = self.channels.get_mut(&id)?;
        let cx = Context {
            now,
            tip: self.chain.tip.map_or(Height(0), |(h, _)| h),
            at_tip: self.chain.at_tip,
            crypto: crypto.as_ref(),
            feerate_normal: self.chain.fees.normal,
            feerate_urgent: self.chain.fees.urgent,
            feerate_minimum: self.chain.fees.minimum,
            feerate_ceiling: feerate_ceiling(&self.chain.fees),
            max_dust: MAX_DUST.to_msat(),
            close_script: &self.config.close_script,
            dev: self.config.dev,
            tower: self.config.tower,
            dust_factor: self.config.network.row().dust_factor,
        };
        let mut out = Out::default();
        let result = f(channel, &cx, &mut out);
        channel.note_state(&cx);
        let peer = channel.terms.peer;
        self.touched.insert(id);
        let link = self.peers.get(&peer).and_then(Peer::link_id);
        for message in out.messages {
            if let Some(link) = link {
                self.out.effects.push(Effect::Send { peer, link, message });
            }
        }
        for (tx, why) in out.publish {
            self.out.effects.push(Effect::Publish { tx, why });
        }
        for (tx, why) in out.claims {
            self.out.effects.push(Effect::Claim { tx, why });
        }
        self.out.effects.extend(out.attach.into_iter().map(Effect::Attach));
        self.out.effects.extend(out.unreserve.into_iter().map(|txid| Effect::Unreserve { txid }));
        for (number, tx) in out.dev_revoked {
            self.out.effects.push(Effect::DevRevoked { channel: id, number, tx });
        }
        if out.tower {
            self.out.effects.push(Effect::Tower);
        }
        for (level, text) in out.notices {
            self.out.effects.push(Effect::Notice(Notice {
                level,
                text,
                peer: Some(peer),
                channel: Some(id),
            }));
        }
        self.events.extend(out.events.into_iter().map(|e| (id, e)));
        Some(result)
    }

    /// What follows from a message that could not be acted upon.
    fn trouble(&mut self, peer: NodeId, channel: Option<ChannelId>, trouble: &Trouble) {
        let fault = match trouble {
            Trouble::Local(fault) => return self.local_fault_of(peer, channel, fault),
            Trouble::Peer(fault) => fault,
        };
        // A peer may name any id: only its own channels can suffer for its faults.
        let own = channel.filter(|id| self.channels.get(id).is_some_and(|c| c.terms.peer == peer));
        let level = match fault.verdict {
            Verdict::Ignore => Level::Debug,
            Verdict::Warn => self.level_of_complaint(&peer, Level::Warn),
            Verdict::Disconnect | Verdict::Fail => Level::Warn,
        };
        self.notice_about(level, format!("peer fault: {}", fault.what), peer, channel);
        let told = ErrorMessage::new(channel.unwrap_or(ChannelId::ALL), &fault.what);
        match fault.verdict {
            Verdict::Ignore => {}
            Verdict::Warn => self.send(peer, Message::Warning(told)),
            Verdict::Disconnect => {
                // A node that lost state asks its peer to close with an error and publishes nothing itself.
                let lost = own.and_then(|id| self.channels.get(&id)).is_some_and(|c| c.doubt);
                self.mark_troubled(peer);
                self.send(peer, if lost { Message::Error(told) } else { Message::Warning(told) });
                self.hang_up(peer, &fault.what);
            }
            Verdict::Fail => {
                self.send(peer, Message::Error(told));
                match own {
                    // BOLT 1 [1.error.5].
                    Some(id) => self.force_close(id, Why::new(Trigger::PeerFault, fault.what.clone())),
                    // A channel that never came to be: the error ends it, others with this peer go on.
                    None if channel.is_some() => {}
                    None => self.hang_up(peer, &fault.what),
                }
            }
        }
    }

    /// A fault of ours pauses the link; the peer is not told an error and no channel closes.
    fn local_fault(&mut self, id: ChannelId, fault: &LocalFault) {
        if let Some(peer) = self.channels.get(&id).map(|c| c.terms.peer) {
            self.local_fault_of(peer, Some(id), fault);
        }
    }

    fn local_fault_of(&mut self, peer: NodeId, channel: Option<ChannelId>, fault: &LocalFault) {
        let text = format!("{fault}; the link is paused, no channel is closed. Please report this");
        self.notice_about(Level::Error, text, peer, channel);
        self.mark_troubled(peer);
        self.hang_up(peer, "paused");
    }

    fn send(&mut self, peer: NodeId, message: Message) {
        if let Some(link) = self.peers.get(&peer).and_then(Peer::open_link_id) {
            self.out.effects.push(Effect::Send { peer, link, message });
        }
    }

    fn send_on(&mut self, peer: NodeId, link: LinkId, message: Message) {
        self.out.effects.push(Effect::Send { peer, link, message });
    }

    fn reply(&mut self, id: CommandId, result: Result<Reply, CommandError>) {
        self.out.effects.push(Effect::Reply { id, result });
    }

    fn refuse(&mut self, id: CommandId, code: i32, message: impl Into<String>) {
        self.reply(id, Err(CommandError::new(code, message)));
    }

    /// The end of a payment that failed, with all that is known of it.
    fn refuse_payment(&mut self, id: CommandId, (code, message): (i32, String), failed: view::Pay) {
        self.reply(
            id,
            Err(CommandError {
                payment: Some(alloc::boxed::Box::new(failed)),
                ..CommandError::new(code, message)
            }),
        );
    }

    fn notice(&mut self, level: Level, text: impl Into<String>) {
        let notice = Notice { level, text: text.into(), peer: None, channel: None };
        self.out.effects.push(Effect::Notice(notice));
    }

    fn notice_about(&mut self, level: Level, text: String, peer: NodeId, channel: Option<ChannelId>) {
        self.out.effects.push(Effect::Notice(Notice { level, text, peer: Some(peer), channel }));
    }

    fn keep(&mut self, change: Change) {
        self.out.changes.push(change);
    }

    fn keep_wallet(&mut self, change: Option<Vec<u8>>) {
        if let Some(bytes) = change {
            let number = self.counters.next_wallet();
            self.wallet_kept.push(number);
            self.keep(Change::Put {
                key: crate::record::wallet_key(number),
                value: crate::record::encode(&bytes),
            });
        }
    }

    fn on_fees(&mut self, fees: Fees) {
        self.chain.fees = fees;
        let ours: Vec<ChannelId> = self
            .channels
            .values()
            .filter(|c| c.terms.opener == crate::id::Side::Local && c.is_usable())
            .filter(|c| {
                // A fifth up or down is worth a commitment.
                let (now, want) = (u64::from(c.feerate().0), u64::from(fees.normal.0));
                want * 5 > now * 6 || want * 6 < now * 5
            })
            .map(Channel::id)
            .collect();
        for id in ours {
            self.act(id, |c, _, out| c.set_feerate(fees.normal, out));
        }
        // What was refused for too low a fee need not wait for a block.
        if self.chain.at_tip {
            self.plan_claims();
        }
    }

    /// The most an HTLC too small for an output may add up to, with its kind.
    const fn max_dust() -> Msat {
        MAX_DUST.to_msat()
    }

    fn tip_height(&self) -> Height {
        self.chain.tip.map_or(Height(0), |(h, _)| h)
    }
}

/// The most an opener may ask for: far above what is urgent, since estimates of two nodes differ.
fn feerate_ceiling(fees: &Fees) -> Feerate {
    Feerate(fees.urgent.0.saturating_mul(10).max(100_000))
}
