//! Links to peers: `init`, pings, calling again (BOLT 1).
//!
//! In: connections that came up or went down, connection messages. Out: `init`, `ping`, `pong`, dials; and for the
//! channels with that peer, the news that it is there or gone. Read next: `channels`.

use crate::channel::Link as ChannelLink;
use crate::fault::{PeerFault, Trouble};
use crate::gossip::News;
use crate::id::{ChannelId, CommandId, LinkId, NodeId};
use crate::node::command::{Command, Reply};
use crate::node::effect::{Effect, Level};
use crate::node::{view, Node};
use crate::record::{peer_key, put};
use crate::units::Timestamp;
use crate::wire::features::{Feature, Features};
use crate::wire::message::{Init, Ping, Pong};
use crate::wire::Message;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Silence after which we ask whether the peer is still there.
const PING_AFTER_MS: u64 = 30_000;
/// How long an answer may take.
const PONG_WITHIN_MS: u64 = 20_000;
/// The first wait before calling again.
const BACKOFF_MS: u64 = 250;
/// Two links this close together are a crossing of both sides' calls, not a restart.
const CROSSING_MS: u64 = 3_000;
/// Peers without channels that we keep in mind.
const MAX_PEERS: usize = 1_000;

/// One connection.
#[derive(Clone, Debug)]
struct Link {
    id: LinkId,
    inbound: bool,
    address: String,
    since: Timestamp,
    init: Option<Init>,
    /// An `init` came, good or bad: what is wrong with it may be said.
    greeted: bool,
    heard: Timestamp,
    /// When the ping we sent must be answered.
    pong_due: Option<Timestamp>,
    pings: Vec<CommandId>,
    /// One of us complained about the other.
    troubled: bool,
    /// Channels that are over, of which the peer was told on this link how far they came.
    told_over: BTreeSet<ChannelId>,
    /// Complaints of the peer's or about it that were logged.
    complaints: u8,
}

/// Complaints of one link that the log has for everybody; whoever has more to say fills nobody's disk with it.
const LOUD_COMPLAINTS: u8 = 20;

/// One peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    link: Option<Link>,
    /// Where it can be called.
    address: Option<String>,
    /// The address stands in a record.
    kept: bool,
    connecting: Vec<CommandId>,
    /// A call is under way.
    dialing: bool,
    failures: u32,
    /// Links in a row that ended in a complaint: a fault that comes again at once must not be tried again at once.
    troubles: u32,
    next_dial: Option<Timestamp>,
    /// The user said `disconnect`: wait for `connect`.
    parked: bool,
}

impl Peer {
    pub(super) fn at(address: String) -> Peer {
        Peer { address: Some(address), ..Peer::default() }
    }

    /// As its record has it.
    pub(super) fn restored(address: String) -> Peer {
        Peer { kept: true, ..Peer::at(address) }
    }

    /// The address that its record holds.
    pub(super) fn kept_address(&self) -> Option<&String> {
        self.address.as_ref().filter(|_| self.kept)
    }

    pub(super) fn link_id(&self) -> Option<LinkId> {
        self.link.as_ref().map(|l| l.id)
    }

    /// The link, once the peer's `init` came on it: before that nothing but our own may be sent.
    pub(super) fn open_link_id(&self) -> Option<LinkId> {
        // BOLT 1 [1.init.6].
        self.link.as_ref().filter(|l| l.greeted).map(|l| l.id)
    }

    pub(super) fn features(&self) -> Option<&Features> {
        Some(&self.link.as_ref()?.init.as_ref()?.features)
    }

    pub(super) fn view(&self, id: NodeId, num_channels: u32) -> view::Peer {
        let link = self.link.as_ref().filter(|l| l.init.is_some());
        view::Peer {
            id,
            connected: link.is_some(),
            inbound: link.is_some_and(|l| l.inbound),
            address: link.map(|l| l.address.clone()).or_else(|| self.address.clone()),
            features: self.features().map_or_else(Vec::new, |f| f.as_bytes().to_vec()),
            num_channels,
        }
    }
}

impl Node {
    pub(super) fn our_features(&self) -> Features {
        // Where anchors of 330 sat are dust to the network, commitments go without; and the rule for small outputs of a simple
        // close knows Bitcoin's dust only.
        let small = self.config.network.row().dust_factor == 1;
        let mut ours = Features::ours_init(self.config.simple_close && small);
        if !small {
            ours.unset(Feature::Anchors.odd());
        }
        if self.config.backup {
            ours.set(Feature::ProvideStorage.odd());
        }
        if self.config.gossip.is_some() {
            ours.set(Feature::GossipQueries.odd());
            ours.set(Feature::GossipQueriesEx.odd());
        }
        ours
    }

    /// What both sides of a link support.
    pub(super) fn negotiated(&self, peer: &NodeId, feature: Feature) -> bool {
        let theirs = self.peers.get(peer).and_then(Peer::features);
        theirs.is_some_and(|f| self.our_features().negotiated(f, feature))
    }

    /// `init` was exchanged.
    pub(super) fn is_connected(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|p| p.features().is_some())
    }

    pub(super) fn on_linked(&mut self, peer: NodeId, link: LinkId, inbound: bool, address: String) {
        let now = self.now;
        let linked = self.peers.values().filter(|p| p.link.is_some()).count();
        if !self.peers.contains_key(&peer) && linked >= MAX_PEERS {
            let reason = "too many peers".to_string();
            self.out.effects.push(Effect::HangUp { peer, link, reason });
            return;
        }
        // BOLT 1 [1.conn.1].
        if let Some(old) = self.peers.get(&peer).and_then(|p| p.link.as_ref()) {
            // Both called at once: the call of the smaller id stands, on both sides.
            let crossing = now.0.saturating_sub(old.since.0) < CROSSING_MS && old.inbound != inbound;
            let smaller_called = (self.id < peer) != inbound;
            let (old_link, reason) = (old.id, "another connection to the same peer".to_string());
            if crossing && !smaller_called {
                self.out.effects.push(Effect::HangUp { peer, link, reason });
                return;
            }
            self.out.effects.push(Effect::HangUp { peer, link: old_link, reason });
            self.link_down(peer);
        }
        let entry = self.peers.entry(peer).or_default();
        entry.dialing = false;
        entry.next_dial = None;
        let (since, heard) = (now, now);
        let (init, pong_due, pings) = (None, None, Vec::new());
        let (greeted, troubled, told_over) = (false, false, BTreeSet::new());
        entry.link = Some(Link {
            id: link,
            inbound,
            address,
            since,
            init,
            greeted,
            heard,
            pong_due,
            pings,
            troubled,
            told_over,
            complaints: 0,
        });
        let ours =
            Init { features: self.our_features(), networks: Some([self.config.network.chain_hash()].into()) };
        // BOLT 1 [1.init.2].
        self.send_on(peer, link, Message::Init(ours));
    }

    pub(super) fn on_unlinked(&mut self, peer: NodeId, link: LinkId, reason: &str) {
        if self.peers.get(&peer).and_then(Peer::link_id) != Some(link) {
            return;
        }
        self.notice_about(Level::Info, format!("disconnected: {reason}"), peer, None);
        self.link_down(peer);
        self.call_again(peer, reason);
    }

    /// Forgets the link: channels pause, openings end, waiting commands are answered.
    fn link_down(&mut self, peer: NodeId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(link) = entry.link.take() else { return };
        entry.troubles = if link.troubled { entry.troubles.saturating_add(1) } else { 0 };
        for id in link.pings {
            self.refuse(id, -1, "the peer disconnected before it answered");
        }
        for id in self.channels_with(&peer) {
            self.act(id, |c, _, _| c.unlink());
        }
        self.gossip_unlinked(&peer);
        if link.init.is_some() {
            self.gossip_link(News::Unlinked { link: link.id });
        }
        // BOLT 2 [2.open.17, 2.open.18].
        self.end_openings(peer, "the peer disconnected");
    }

    /// Whether the peer is to be told now how far a channel came that is over: once a link, or two such nodes would go
    /// on answering each other.
    pub(super) fn tells_over(&mut self, peer: NodeId, id: ChannelId) -> bool {
        let link = self.peers.get_mut(&peer).and_then(|p| p.link.as_mut());
        link.is_some_and(|link| link.told_over.insert(id))
    }

    /// One of us complained: when this link ends, the next call waits.
    pub(super) fn mark_troubled(&mut self, peer: NodeId) {
        if let Some(link) = self.peers.get_mut(&peer).and_then(|p| p.link.as_mut()) {
            link.troubled = true;
        }
    }

    /// Hangs up from our side.
    pub(super) fn hang_up(&mut self, peer: NodeId, reason: &str) {
        let Some(link) = self.peers.get(&peer).and_then(Peer::link_id) else { return };
        self.out.effects.push(Effect::HangUp { peer, link, reason: reason.into() });
        self.link_down(peer);
        self.call_again(peer, reason);
    }

    /// Plans the next call when a channel needs the peer or somebody waits for it.
    fn call_again(&mut self, peer: NodeId, reason: &str) {
        let wanted = self.channels_with(&peer).iter().any(|id| self.channels[id].wants_call());
        let cap = if self.config.network.row().on_demand { 10_000 } else { 300_000 };
        let now = self.now;
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.dialing = false;
        let waiting = core::mem::take(&mut entry.connecting);
        if wanted && !entry.parked && entry.address.is_some() {
            let before = entry.failures.max(entry.troubles);
            let wait = BACKOFF_MS.saturating_mul(1 << before.min(16)).min(cap);
            // The first call after a loss is made at once.
            entry.next_dial = Some(if before == 0 { now } else { now.plus_ms(wait) });
            entry.failures = entry.failures.saturating_add(1);
        } else {
            entry.next_dial = None;
        }
        let forget = entry.next_dial.is_none() && self.channels_with(&peer).is_empty();
        for id in waiting {
            self.refuse(id, 402, format!("could not connect: {reason}"));
        }
        if forget {
            self.peers.remove(&peer);
        }
    }

    pub(super) fn on_dial_failed(&mut self, peer: NodeId, reason: &str) {
        if self.peers.get(&peer).is_some_and(|p| p.link.is_none()) {
            self.notice_about(Level::Debug, format!("could not connect: {reason}"), peer, None);
            self.call_again(peer, reason);
        }
    }

    pub(super) fn on_message(&mut self, peer: NodeId, link: LinkId, message: Message) {
        let now = self.now;
        let Some(state) = self.peers.get_mut(&peer).and_then(|p| p.link.as_mut()).filter(|l| l.id == link)
        else {
            return;
        };
        state.heard = now;
        state.greeted |= matches!(message, Message::Init(_));
        let greeted = state.init.is_some();
        let result = match message {
            Message::Init(init) if !greeted => self.on_init(peer, init),
            Message::Init(_) => Ok(()),
            // "MUST wait to receive init before sending any other messages" (BOLT 1).
            _ if !greeted => Err(PeerFault::disconnect("a message before init").into()),
            Message::Ping(ping) => {
                self.on_ping(peer, &ping);
                Ok(())
            }
            Message::Pong(pong) => {
                self.on_pong(peer, &pong);
                Ok(())
            }
            Message::PeerStorage(m) => {
                self.on_peer_storage(peer, m);
                Ok(())
            }
            Message::PeerStorageRetrieval(m) => {
                self.on_retrieval(peer, &m);
                Ok(())
            }
            Message::Warning(warning) => {
                self.mark_troubled(peer);
                let text = format!("the peer warns: {}", warning.text());
                let level = self.level_of_complaint(&peer, Level::Warn);
                self.notice_about(level, text, peer, Some(warning.channel_id));
                Ok(())
            }
            // BOLT 1 [1.format.4].
            Message::Unknown { .. } => Ok(()),
            Message::ChannelUpdate(update) if update.is_private() => self.on_private_update(peer, &update),
            // The gossip machine's, which stands beside the node.
            message if message.is_gossip() => Ok(()),
            message => {
                self.on_channel_message(peer, message);
                Ok(())
            }
        };
        if let Err(trouble) = result {
            self.trouble(peer, None, &trouble);
        }
    }

    /// How loud a complaint of this peer, or about it, is logged: what comes again and again on one link is for debugging.
    pub(super) fn level_of_complaint(&mut self, peer: &NodeId, level: Level) -> Level {
        let Some(link) = self.peers.get_mut(peer).and_then(|p| p.link.as_mut()) else { return level };
        if link.complaints >= LOUD_COMPLAINTS {
            return Level::Debug;
        }
        link.complaints += 1;
        level
    }

    /// What does not decode cannot be acted upon: the peer is told why before the connection ends (BOLT 1).
    pub(super) fn on_bad_message(&mut self, peer: NodeId, link: LinkId, reason: &str) {
        // BOLT 1 [1.format.5, 1.format.6, 1.format.7].
        let current = self.peers.get(&peer).and_then(Peer::link_id) == Some(link);
        if current {
            let what = format!("a message that does not decode: {reason}");
            self.trouble(peer, None, &PeerFault::disconnect(what).into());
        }
    }

    fn on_init(&mut self, peer: NodeId, init: Init) -> Result<(), Trouble> {
        self.check_init(&init)?;
        let Some(entry) = self.peers.get_mut(&peer) else { return Ok(()) };
        let Some(link) = entry.link.as_mut() else { return Ok(()) };
        let news = News::Linked { peer, link: link.id, features: init.features.clone() };
        link.init = Some(init);
        entry.failures = 0;
        entry.parked = false;
        // Where we reached it, we can reach it again.
        let known = entry.kept && entry.address.as_ref() == Some(&link.address);
        let learned = (!link.inbound && !known).then(|| link.address.clone());
        let waiting = core::mem::take(&mut entry.connecting);
        if let Some(address) = learned {
            entry.address = Some(address.clone());
            entry.kept = true;
            self.keep(put(peer_key(&peer), &address));
            self.backup_stale_of(&peer);
        }
        let view = self.peer_view(&peer);
        for id in waiting {
            self.reply(id, Ok(Reply::Connected(view.clone())));
        }
        self.notice_about(Level::Info, "connected".into(), peer, None);
        self.gossip_link(news);
        self.return_blob(peer);
        // BOLT 2 [2.again.5].
        for id in self.channels_with(&peer) {
            if self.channels[&id].is_over_for_peer() {
                continue;
            }
            // One from before there were aliases has none yet.
            self.give_alias(id);
            if let Some(Err(fault)) = self.act(id, |c, cx, out| c.relink(cx, out)) {
                self.local_fault(id, &fault);
            }
        }
        Ok(())
    }

    fn check_init(&self, init: &Init) -> Result<(), PeerFault> {
        // BOLT 1 [1.init.8].
        let ours = self.our_features();
        // BOLT 1 [1.init.9, 1.init.10].
        if let Some(bit) = init.features.required_beyond(&ours) {
            return Err(PeerFault::disconnect(format!("feature bit {bit} is required and not known here")));
        }
        // BOLT 1 [1.init.11].
        if let Some((feature, needs)) = init.features.missing_dependency() {
            let (feature, needs) = (feature.name(), needs.name());
            return Err(PeerFault::disconnect(format!("feature {feature} without {needs}, which it needs")));
        }
        for needed in
            [Feature::StaticRemotekey, Feature::ChannelType, Feature::VarOnion, Feature::PaymentSecret]
        {
            if !init.features.supports(needed) {
                return Err(PeerFault::disconnect(format!("feature {} is needed here", needed.name())));
            }
        }
        let chain = self.config.network.chain_hash();
        if init.networks.as_ref().is_some_and(|n| !n.contains(&chain)) {
            return Err(PeerFault::disconnect(format!(
                "no chain in common: this node is on {}",
                self.config.network
            )));
        }
        Ok(())
    }

    fn on_ping(&mut self, peer: NodeId, ping: &Ping) {
        // "if num_pong_bytes is less than 65532: MUST respond" (BOLT 1).
        // BOLT 1 [1.ping.4, 1.ping.5].
        if ping.num_pong_bytes < 65_532 {
            self.send(peer, Message::Pong(Pong { byteslen: ping.num_pong_bytes }));
        }
    }

    fn on_pong(&mut self, peer: NodeId, pong: &Pong) {
        let Some(link) = self.peers.get_mut(&peer).and_then(|p| p.link.as_mut()) else { return };
        link.pong_due = None;
        let waiting = core::mem::take(&mut link.pings);
        // Type and length fields are two bytes each.
        let totlen = pong.byteslen.saturating_add(4);
        for id in waiting {
            self.reply(id, Ok(Reply::Ponged { totlen }));
        }
    }

    /// `connect`, `disconnect`, `ping`.
    pub(super) fn on_peer_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::Connect { peer, address } => self.connect(id, peer, address),
            Command::Disconnect { peer, force } => self.disconnect(id, peer, force),
            Command::Ping { peer, len, pongbytes } => {
                if !self.is_connected(&peer) {
                    return self.refuse(id, -1, "the peer is not connected: use connect first");
                }
                let expects_answer = pongbytes < 65_532;
                let now = self.now;
                if let Some(link) = self.peers.get_mut(&peer).and_then(|p| p.link.as_mut()) {
                    if expects_answer {
                        link.pings.push(id);
                        link.pong_due = Some(now.plus_ms(PONG_WITHIN_MS));
                    }
                }
                self.send(peer, Message::Ping(Ping { num_pong_bytes: pongbytes, byteslen: len }));
                if !expects_answer {
                    self.reply(id, Ok(Reply::Ponged { totlen: 0 }));
                }
            }
            _ => self.refuse(id, -32603, "internal: not a peer command"),
        }
    }

    fn connect(&mut self, id: CommandId, peer: NodeId, address: Option<String>) {
        if peer == self.id {
            return self.refuse(id, -32602, "id: that is this node itself");
        }
        if self.is_connected(&peer) {
            let view = self.peer_view(&peer);
            return self.reply(id, Ok(Reply::Connected(view)));
        }
        let known = self.peers.get(&peer).and_then(|p| p.address.clone());
        let Some(address) = address.or(known) else {
            return self.refuse(id, 400, "no address is known for this peer: give host and port");
        };
        let entry = self.peers.entry(peer).or_default();
        entry.parked = false;
        entry.connecting.push(id);
        if !entry.dialing && entry.link.is_none() {
            entry.dialing = true;
            entry.next_dial = None;
            self.out.effects.push(Effect::Dial { peer, address });
        }
    }

    fn disconnect(&mut self, id: CommandId, peer: NodeId, force: bool) {
        if self.peers.get(&peer).and_then(Peer::link_id).is_none() {
            return self.refuse(id, -1, "the peer is not connected");
        }
        if !force && self.channels_with(&peer).iter().any(|c| self.channels[c].wants_link()) {
            return self.refuse(
                id,
                -1,
                "the peer has channels with us: use force=true to disconnect all the same",
            );
        }
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.parked = true;
        }
        self.hang_up(peer, "the user disconnected");
        self.reply(id, Ok(Reply::Done));
    }

    pub(super) fn peer_view(&self, peer: &NodeId) -> view::Peer {
        let channels = self.channels_with(peer);
        let count = channels.iter().filter(|id| self.is_listed(&self.channels[*id])).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.peers.get(peer) {
            Some(p) => p.view(*peer, count),
            None => Peer::default().view(*peer, count),
        }
    }

    /// The channels with a peer.
    pub(super) fn channels_with(&self, peer: &NodeId) -> Vec<ChannelId> {
        self.channels.values().filter(|c| c.terms.peer == *peer).map(|c| c.id()).collect()
    }

    /// Where a peer is said to be, unless that is known; `true` when it was not.
    pub(super) fn remember_peer(&mut self, peer: NodeId, address: &str) -> bool {
        let entry = self.peers.entry(peer).or_default();
        let new = entry.address.is_none();
        if new {
            entry.address = Some(address.into());
            entry.kept = true;
        }
        new
    }

    /// After a restart: every peer with a channel is called at once.
    pub(super) fn call_all(&mut self) {
        let wanted: Vec<NodeId> =
            self.channels.values().filter(|c| c.wants_call()).map(|c| c.terms.peer).collect();
        for peer in wanted {
            let entry = self.peers.entry(peer).or_default();
            if entry.address.is_some() && entry.link.is_none() {
                entry.next_dial = Some(Timestamp(0));
            }
        }
    }

    pub(super) fn peers_deadline(&self) -> Option<Timestamp> {
        let of = |p: &Peer| {
            let link = p.link.as_ref().map(|l| l.pong_due.unwrap_or(l.heard.plus_ms(PING_AFTER_MS)));
            [p.next_dial, link].into_iter().flatten().min()
        };
        self.peers.values().filter_map(of).min()
    }

    pub(super) fn peers_timers(&mut self) {
        let now = self.now;
        let (mut dial, mut silent, mut quiet) = (Vec::new(), Vec::new(), Vec::new());
        for (id, peer) in &mut self.peers {
            if peer.next_dial.is_some_and(|at| at <= now) && peer.link.is_none() && !peer.dialing {
                if let Some(address) = peer.address.clone() {
                    peer.dialing = true;
                    dial.push((*id, address));
                }
                peer.next_dial = None;
            }
            let Some(link) = &mut peer.link else { continue };
            if link.pong_due.is_some_and(|due| due <= now) {
                silent.push(*id);
            } else if link.pong_due.is_none() && link.heard.plus_ms(PING_AFTER_MS) <= now {
                link.pong_due = Some(now.plus_ms(PONG_WITHIN_MS));
                if link.init.is_some() {
                    quiet.push(*id);
                }
            }
        }
        for (peer, address) in dial {
            self.out.effects.push(Effect::Dial { peer, address });
        }
        for peer in silent {
            // BOLT 1 [1.ping.2].
            self.hang_up(peer, "the peer does not answer");
        }
        for peer in quiet {
            self.send(peer, Message::Ping(Ping { num_pong_bytes: 2, byteslen: 2 }));
        }
    }

    /// Whether every channel of a peer knows where it stands (tests).
    pub fn is_settled_with(&self, peer: &NodeId) -> bool {
        self.is_connected(peer)
            && self
                .channels_with(peer)
                .iter()
                .all(|id| self.channels[id].link == ChannelLink::Up || !self.channels[id].wants_link())
    }
}
