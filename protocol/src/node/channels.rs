//! Opening, running and closing channels.
//!
//! In: messages about channels, `fundchannel`, `close`, the wallet's funding transactions. Out: channels, and the
//! answers to those who wait for one to open or close. Read next: `crate::channel`.

use crate::channel::cause::{Trigger, Why};
use crate::channel::open::{OpenRequest, Opening, Wishes, MIN_DUST_LIMIT};
use crate::channel::policy::Policy;
use crate::channel::{Channel, Phase};
use crate::fault::{PeerFault, Trouble};
use crate::id::{ChannelId, CommandId, NodeId, Side};
use crate::node::command::{ChannelRef, Command, Reply};
use crate::node::effect::{Effect, FundAmount, FundedTx, Level};
use crate::node::Node;
use crate::record::{channel_key, put, Kind};
use crate::store::Change;
use crate::tx::close::may_send_shutdown;
use crate::units::{Msat, Sat};
use crate::wire::features::{Feature, Features};
use crate::wire::message::{AcceptChannel, ErrorMessage, FundingCreated, FundingSigned, OpenChannel};
use crate::wire::Message;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::ScriptBuf;

/// Channels that one peer may have on their way at once.
const MAX_OPENINGS_PER_PEER: usize = 4;
/// Channels whose funding is unconfirmed that one peer may have opened to us.
const MAX_UNCONFIRMED_PER_PEER: usize = 20;
/// The same over all peers: whoever makes up identities cannot fill the disk.
const MAX_UNCONFIRMED: usize = 500;

/// Core Lightning's code for an opening that failed.
const NOT_OPENED: i32 = 300;
/// The same, for lack of coins.
const NO_FUNDS: i32 = 301;

impl Node {
    pub(super) fn wishes(&self, peer: &NodeId) -> Wishes {
        Wishes {
            to_self_delay: self.config.to_self_delay_blocks,
            minimum_depth: self.config.funding_confirms.max(1),
            max_in_flight_percent: self.config.max_in_flight_percent,
            reserve: None,
            policy: Policy::new(
                self.config.fee_base_msat,
                self.config.fee_ppm,
                self.config.cltv_delta_blocks,
            ),
            dust_limit: Sat(MIN_DUST_LIMIT.0.saturating_mul(self.config.network.row().dust_factor)),
            simple_close: self.negotiated(peer, Feature::SimpleClose),
        }
    }

    pub(super) fn start_opening(
        &mut self,
        peer: NodeId,
        request: &OpenRequest,
        wishes: Wishes,
    ) -> Result<(Opening, OpenChannel), String> {
        // BOLT 2 [2.open.2].
        let temporary = ChannelId(self.entropy.bytes32());
        let key_index = self.counters.next_key_index();
        let secrets = self.keys.channel_secrets(key_index);
        // BOLT 2 [2.open.1].
        let chain_hash = self.config.network.chain_hash();
        let large = self.negotiated(&peer, Feature::LargeChannel);
        let crypto = self.crypto.clone();
        let cx = self.context(&*crypto);
        Opening::start(peer, temporary, key_index, secrets, request, wishes, chain_hash, large, &cx)
    }

    pub(super) fn context<'a>(&'a self, crypto: &'a dyn crate::sign::Crypto) -> crate::channel::Context<'a> {
        crate::channel::Context {
            now: self.wall(),
            tip: self.tip_height(),
            at_tip: self.chain.at_tip,
            crypto,
            feerate_normal: self.chain.fees.normal,
            feerate_urgent: self.chain.fees.urgent,
            feerate_minimum: self.chain.fees.minimum,
            feerate_ceiling: super::feerate_ceiling(&self.chain.fees),
            max_dust: Node::max_dust(),
            close_script: &self.config.close_script,
            dev: self.config.dev,
            tower: self.config.tower,
            dust_factor: self.config.network.row().dust_factor,
        }
    }

    /// Messages about channels, on their way or open.
    pub(super) fn on_channel_message(&mut self, peer: NodeId, message: Message) {
        // BOLT 1 [1.error.1, 1.error.2].
        let about = message.channel_id();
        let result = match message {
            Message::OpenChannel(m) => self.on_open(peer, &m),
            Message::AcceptChannel(m) => self.on_accept(peer, &m),
            Message::FundingCreated(m) => self.on_funding_created(peer, &m),
            Message::FundingSigned(m) => self.on_funding_signed(peer, &m),
            Message::Error(m) => {
                self.on_error(peer, &m);
                Ok(())
            }
            message => self.on_message_for(peer, message),
        };
        if let Err(trouble) = result {
            // A handshake that failed ends; a channel stays.
            if let Some(id) = about.filter(|id| !self.channels.contains_key(id)) {
                self.end_opening((peer, id), &format!("{trouble}"));
            }
            self.trouble(peer, about, &trouble);
        }
    }

    fn on_message_for(&mut self, peer: NodeId, message: Message) -> Result<(), Trouble> {
        let Some(id) = message.channel_id() else { return Ok(()) };
        let known = self.channels.get(&id).filter(|c| c.terms.peer == peer);
        match known.map(Channel::is_over_for_peer) {
            Some(false) => {}
            // The peer still believes in a channel that we closed or never had (BOLT 2: "MUST send an error").
            over => {
                let text = if over.is_some() { "the channel is closed" } else { "unknown channel" };
                let told = ErrorMessage::new(id, text);
                if !matches!(message, Message::ChannelReestablish(_)) {
                    self.send(peer, Message::Warning(told));
                    return Ok(());
                }
                if over.is_some() && self.tells_over(peer, id) {
                    // Whoever comes with an old copy of its state must learn that it is old before the error makes it
                    // publish a commitment that it revoked.
                    self.act(id, |c, cx, out| c.tell_where_we_stand(cx, out)).unwrap_or(Ok(()))?;
                }
                self.send(peer, Message::Error(told));
                return Ok(());
            }
        }
        if let Message::AnnouncementSignatures(m) = &message {
            return self.on_announcement_signatures(id, m);
        }
        let again = matches!(message, Message::ChannelReestablish(_));
        self.act(id, |c, cx, out| c.handle(message, cx, out)).unwrap_or(Ok(()))?;
        if again {
            self.tell_alias(id);
        }
        Ok(())
    }

    fn on_open(&mut self, peer: NodeId, m: &OpenChannel) -> Result<(), Trouble> {
        // BOLT 2 [2.open.20].
        if m.chain_hash != self.config.network.chain_hash() {
            return Err(PeerFault::fail("channel refused: unknown chain").into());
        }
        let id = m.temporary_channel_id;
        // "MUST ensure temporary_channel_id is unique from any other channel ID with the same peer" (BOLT 2).
        if self.openings.contains_key(&(peer, id)) {
            return Err(PeerFault::fail("channel refused: that temporary_channel_id is in use").into());
        }
        let pending = self.openings.keys().filter(|(p, t)| *p == peer && *t != id).count();
        let unconfirmed = self
            .channels
            .values()
            .filter(|c| {
                let unfunded = c.confirmed.is_none() && c.spent_height().is_none();
                c.terms.peer == peer && c.terms.opener == Side::Remote && unfunded
            })
            .count();
        let strangers = self
            .channels
            .values()
            .filter(|c| {
                c.terms.opener == Side::Remote && c.confirmed.is_none() && c.phase == Phase::Confirming
            })
            .count();
        if pending >= MAX_OPENINGS_PER_PEER
            || unconfirmed >= MAX_UNCONFIRMED_PER_PEER
            || strangers >= MAX_UNCONFIRMED
        {
            return Err(PeerFault::fail("channel refused: too many are pending already").into());
        }
        // Where blocks are made at will there is nothing to catch up with that could matter.
        if !self.chain.synced && !self.config.network.row().on_demand {
            return Err(PeerFault::fail("channel refused: still reading the chain, try again").into());
        }
        let mut both = Features::default();
        for feature in [Feature::Anchors, Feature::LargeChannel, Feature::ScidAlias] {
            if self.negotiated(&peer, feature) {
                both.set(feature.odd());
            }
        }
        let key_index = self.counters.next_key_index();
        let secrets = self.keys.channel_secrets(key_index);
        let wishes = self.wishes(&peer);
        let crypto = self.crypto.clone();
        let cx = self.context(&*crypto);
        let (opening, answer) = Opening::accept(peer, m, key_index, secrets, wishes, &both, &cx)?;
        self.openings.insert((peer, id), opening);
        self.send(peer, Message::AcceptChannel(answer));
        Ok(())
    }

    fn opening(&mut self, key: (NodeId, ChannelId), what: &str) -> Result<&mut Opening, PeerFault> {
        self.openings
            .get_mut(&key)
            .ok_or_else(|| PeerFault::warn(format!("{what} for no channel on its way")))
    }

    fn on_accept(&mut self, peer: NodeId, m: &AcceptChannel) -> Result<(), Trouble> {
        let id = m.temporary_channel_id;
        let opening = self.opening((peer, id), "accept_channel")?;
        let script_pubkey = opening.on_accept(m)?;
        if opening.by_hand {
            self.tell_started((peer, id), script_pubkey);
            return Ok(());
        }
        let (amount, feerate) = (FundAmount::Exact(opening.capacity), opening.funding_feerate);
        self.out.effects.push(Effect::Fund { channel: id, script_pubkey, amount, feerate });
        Ok(())
    }

    /// The wallet's answer.
    pub(super) fn on_funded(&mut self, temporary: ChannelId, result: Result<FundedTx, String>) {
        let key = self.openings.keys().find(|(_, t)| *t == temporary).copied();
        let (funded, key) = match (result, key) {
            (Ok(funded), Some(key)) => (funded, key),
            (Ok(funded), None) => {
                // The peer left meanwhile: the coins are free again.
                let txid = funded.tx.compute_txid();
                return self.out.effects.push(Effect::Unreserve { txid });
            }
            (Err(why), Some(key)) => {
                self.send(
                    key.0,
                    Message::Error(ErrorMessage::new(temporary, "the opener has no funds for it now")),
                );
                return self.end_opening_as(NO_FUNDS, key, &why);
            }
            (Err(_), None) => return,
        };
        let txid = funded.tx.compute_txid();
        let crypto = self.crypto.clone();
        let Some(mut opening) = self.openings.remove(&key) else { return };
        let made = opening.on_funded(funded, &self.context(&*crypto));
        self.openings.insert(key, opening);
        match made {
            Ok(message) => {
                // After a crash here the coins are known to be free.
                self.keep(put(channel_key(Kind::Reserved, &temporary), &txid));
                self.send(key.0, Message::FundingCreated(message));
            }
            Err(fault) => {
                self.out.effects.push(Effect::Unreserve { txid });
                self.send(key.0, Message::Error(ErrorMessage::new(temporary, "the opener gave up")));
                self.end_opening(key, &format!("{fault}"));
            }
        }
    }

    fn on_funding_created(&mut self, peer: NodeId, m: &FundingCreated) -> Result<(), Trouble> {
        let key = (peer, m.temporary_channel_id);
        let crypto = self.crypto.clone();
        let Some(mut opening) = self.openings.remove(&key) else {
            return Err(PeerFault::warn("funding_created for no channel on its way").into());
        };
        let (channel, answer) = opening.on_created(m, &self.context(&*crypto))?;
        let id = channel.id();
        if self.channels.contains_key(&id) {
            return Err(PeerFault::fail("funding_created: that output is a channel's already").into());
        }
        self.notice_about(
            Level::Info,
            format!("channel of {} accepted", channel.terms.capacity),
            peer,
            Some(id),
        );
        self.adopt(channel);
        self.send(peer, Message::FundingSigned(answer));
        Ok(())
    }

    fn on_funding_signed(&mut self, peer: NodeId, m: &FundingSigned) -> Result<(), Trouble> {
        let found = self.openings.iter().find(|((p, _), o)| *p == peer && o.final_id() == Some(m.channel_id));
        let Some(key) = found.map(|(key, _)| *key) else {
            return Err(PeerFault::warn("funding_signed for no channel on its way").into());
        };
        let crypto = self.crypto.clone();
        let Some(mut opening) = self.openings.remove(&key) else { return Ok(()) };
        let made = opening.on_signed(m, &self.context(&*crypto));
        let command = opening.command;
        let channel = match made {
            Ok(channel) => channel,
            Err(trouble) => {
                self.openings.insert(key, opening);
                self.end_opening(key, &format!("{trouble}"));
                return Err(trouble);
            }
        };
        self.keep(Change::Delete { key: channel_key(Kind::Reserved, &key.1) });
        let (id, terms) = (channel.id(), channel.terms.clone());
        if let Some(tx) = channel.funding_tx.clone() {
            if let Some(command) = command {
                let reply = Reply::Funded {
                    txid: tx.compute_txid(),
                    outnum: terms.funding.vout,
                    channel_id: id,
                    channel_type: terms.type_bits().bits().collect(),
                    mindepth: terms.minimum_depth,
                    tx: tx.clone(),
                };
                // BOLT 2 [2.created.3, 2.signed.5].
                self.publish_and_reply(tx, "funding", command, reply);
            } else {
                self.out.effects.push(Effect::Publish { tx, why: "funding" });
            }
        } else if let Some(command) = command {
            // Our user may send it now.
            self.reply(command, Ok(Reply::FundingSecured { channel_id: id }));
        }
        self.notice_about(Level::Info, format!("channel of {} funded", terms.capacity), peer, Some(id));
        self.adopt(channel);
        Ok(())
    }

    /// A channel just made: from here on it is kept.
    fn adopt(&mut self, channel: Channel) {
        // BOLT 2 [2.again.1, 2.again.2].
        let id = channel.id();
        self.funding.insert(channel.terms.funding, id);
        self.touched.insert(id);
        self.channels.insert(id, channel);
        self.give_alias(id);
    }

    /// Ends an opening: whoever waits is told, coins are freed.
    pub(super) fn end_opening(&mut self, key: (NodeId, ChannelId), reason: &str) {
        self.end_opening_as(NOT_OPENED, key, reason);
    }

    fn end_opening_as(&mut self, code: i32, key: (NodeId, ChannelId), reason: &str) {
        let Some(opening) = self.openings.remove(&key) else { return };
        self.remember_stale(&opening);
        if let Some(txid) = opening.reserved_txid() {
            self.keep(Change::Delete { key: channel_key(Kind::Reserved, &key.1) });
            self.out.effects.push(Effect::Unreserve { txid });
        }
        if let Some(command) = opening.command {
            let text = format!("the channel was not opened, no money moved: {reason}");
            self.refuse(command, code, text);
        }
    }

    pub(super) fn end_openings(&mut self, peer: NodeId, reason: &str) {
        let keys: Vec<_> = self.openings.keys().filter(|(p, _)| *p == peer).copied().collect();
        for key in keys {
            self.end_opening(key, reason);
        }
    }

    /// `error`: "MUST fail the channel(s) referred to" (BOLT 1).
    fn on_error(&mut self, peer: NodeId, m: &ErrorMessage) {
        let text = m.text();
        let level = self.level_of_complaint(&peer, Level::Error);
        self.notice_about(level, format!("the peer reports an error: {text}"), peer, Some(m.channel_id));
        // BOLT 1 [1.error.6].
        let meant: Vec<ChannelId> = if m.channel_id == ChannelId::ALL {
            self.end_openings(peer, &format!("the peer said: {text}"));
            self.channels_with(&peer)
        } else {
            let named: Vec<_> = self
                .openings
                .iter()
                .filter(|((p, t), o)| {
                    *p == peer && (*t == m.channel_id || o.final_id() == Some(m.channel_id))
                })
                .map(|(key, _)| *key)
                .collect();
            for key in named {
                if self.reopen_without_alias(key) {
                    continue;
                }
                self.end_opening(key, &format!("the peer said: {text}"));
            }
            // BOLT 1 [1.error.7, 1.error.8].
            self.channels_with(&peer).into_iter().filter(|id| *id == m.channel_id).collect()
        };
        for id in meant {
            if matches!(self.channels[&id].phase, Phase::Confirming | Phase::Open | Phase::Closing(_)) {
                self.force_close(id, Why::new(Trigger::PeerError, format!("the peer sent an error: {text}")));
            }
        }
    }

    /// Publishes our newest commitment and ends the link's part in the channel.
    pub(super) fn force_close(&mut self, id: ChannelId, why: Why) {
        if let Some(Err(fault)) = self.act(id, |c, cx, out| c.force_close(why, cx, out)) {
            self.local_fault(id, &fault);
        }
        self.watch_outputs(id);
    }

    /// Gives a channel up: the peer is told by an error, and our commitment published.
    pub(super) fn fail_channel(&mut self, id: ChannelId, why: Why) {
        let Some(channel) = self.channels.get(&id).filter(|c| c.wants_link()) else { return };
        let peer = channel.terms.peer;
        // BOLT 1 [1.error.5].
        let told = ErrorMessage::new(id, &why.words);
        self.force_close(id, why);
        self.send(peer, Message::Error(told));
    }

    /// The channel that a user names.
    pub(super) fn find_channel(&self, name: &ChannelRef) -> Result<ChannelId, (i32, String)> {
        let listed = |c: &&Channel| self.is_listed(c);
        match name {
            ChannelRef::Id(id) if self.channels.contains_key(id) => Ok(*id),
            ChannelRef::Short(short) => self
                .channels
                .values()
                .filter(listed)
                .find(|c| c.is_called(*short))
                .map(Channel::id)
                .ok_or((-32602, format!("no channel {short}"))),
            ChannelRef::Peer(peer) => {
                let with: Vec<_> = self
                    .channels
                    .values()
                    .filter(|c| c.terms.peer == *peer && c.spent_height().is_none() && !c.is_given_up())
                    .map(Channel::id)
                    .collect();
                match with.as_slice() {
                    [one] => Ok(*one),
                    [] => Err((-32602, "no channel with that peer".into())),
                    _ => Err((-32602, "several channels with that peer: name one by its channel_id".into())),
                }
            }
            ChannelRef::Id(id) => Err((-32602, format!("no channel {id}"))),
        }
    }

    /// Whether a script of the user's may stand in a `shutdown` to this peer.
    pub(super) fn check_destination(
        &self,
        peer: &NodeId,
        script: Option<&ScriptBuf>,
        name: &str,
    ) -> Result<(), (i32, String)> {
        let anysegwit = self.negotiated(peer, Feature::ShutdownAnysegwit);
        let simple = self.negotiated(peer, Feature::SimpleClose);
        // BOLT 2 [2.shutdown.8].
        if script.is_none_or(|s| may_send_shutdown(s, anysegwit, simple)) {
            return Ok(());
        }
        let text = format!(
            "{name}: a channel can be closed to a segwit address only, of version 1 or later only to a peer that \
             is connected and knows them"
        );
        Err((-32602, text))
    }

    /// `close`.
    pub(super) fn close(&mut self, id: CommandId, command: Command) {
        let Command::Close { channel, unilateral_timeout_s, destination, feerange } = command else { return };
        let channel_id = match self.find_channel(&channel) {
            Ok(found) => found,
            Err((code, text)) => return self.refuse(id, code, text),
        };
        let peer = self.channels.get(&channel_id).map_or(self.id, |c| c.terms.peer);
        if let Err((code, text)) = self.check_destination(&peer, destination.as_ref(), "destination") {
            return self.refuse(id, code, text);
        }
        if self.channels.get(&channel_id).is_some_and(Channel::is_unfunded) {
            self.give_channel_up(channel_id);
            self.answer_close(channel_id, id);
        } else if self.act(channel_id, |c, _, _| c.begin_close(destination, feerange)) == Some(true) {
            let wait_ms = unilateral_timeout_s.saturating_mul(1_000);
            let deadline = (unilateral_timeout_s > 0).then(|| self.now.plus_ms(wait_ms));
            self.closers.entry(channel_id).or_default().push((id, deadline));
        } else {
            self.answer_close(channel_id, id);
        }
    }

    fn answer_close(&mut self, channel: ChannelId, id: CommandId) {
        let Some(c) = self.channels.get(&channel) else { return };
        let (kind, tx) = match &c.phase {
            Phase::Closed(closed) => ("mutual", Some(closed.tx.clone())),
            // Nobody funded it as far as is known: our commitment is held back, or there is nothing to keep.
            Phase::Onchain(_) if !c.may_be_funded() => ("unopened", None),
            Phase::Onchain(onchain) => ("unilateral", onchain.tx.clone()),
            _ => ("unopened", None),
        };
        let reply = Reply::Closed { kind, tx: tx.clone() };
        match tx {
            // Already being published by the channel: said again, it only tells when the backend has it.
            Some(tx) => self.publish_and_reply(tx, "close", id, reply),
            None => self.reply(id, Ok(reply)),
        }
    }

    /// A close is decided: whoever waits is told.
    pub(super) fn on_close_decided(&mut self, channel: ChannelId) {
        for (id, _) in self.closers.remove(&channel).unwrap_or_default() {
            self.answer_close(channel, id);
        }
        self.fail_htlcs_of_closed(channel);
        self.forget_void(channel);
    }

    /// A channel that never held money of ours, nor ever will, leaves nothing behind.
    fn forget_void(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get(&id).filter(|c| c.is_void()) else { return };
        let (keys, funding) = (channel.all_keys(), channel.terms.funding);
        for key in keys {
            self.keep(Change::Delete { key });
        }
        self.funding.remove(&funding);
        self.channels.remove(&id);
    }

    pub(super) fn close_timers(&mut self) {
        let now = self.now;
        let due: Vec<ChannelId> = self
            .closers
            .iter()
            .filter(|(_, waiting)| waiting.iter().any(|(_, at)| at.is_some_and(|at| at <= now)))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.fail_channel(id, Why::new(Trigger::Impatience, "the time for an agreement ran out"));
            if self.channels.get(&id).is_some_and(|c| matches!(c.phase, Phase::Onchain(_) | Phase::Closed(_)))
            {
                self.on_close_decided(id);
                continue;
            }
            // In doubt nothing is published: the user is told instead.
            for (command, _) in self.closers.remove(&id).unwrap_or_default() {
                let text =
                    "the peer did not agree in time, and this node's commitment may be old: not published";
                self.refuse(command, -1, text);
            }
        }
    }

    /// `dev-fail`, `dev-sign-last-tx`, `dev-feerate`.
    pub(super) fn on_dev(&mut self, id: CommandId, command: Command) {
        if !self.config.dev {
            return self.refuse(id, -32601, "dev- methods need --dev");
        }
        let (Command::DevFail { channel }
        | Command::DevSignLastTx { channel }
        | Command::DevFeerate { channel, .. }) = &command
        else {
            return;
        };
        let channel_id = match self.find_channel(channel) {
            Ok(found) => found,
            Err((code, text)) => return self.refuse(id, code, text),
        };
        match command {
            Command::DevFail { .. } => {
                self.fail_channel(channel_id, Why::new(Trigger::Dev, "dev-fail"));
                let open = |c: &Channel| !matches!(c.phase, Phase::Closed(_) | Phase::Onchain(_));
                if self.channels.get(&channel_id).is_some_and(|c| c.doubt && open(c)) {
                    let text = "this node's commitment may be old, and the peer could take everything: not published. \
                                The peer was asked to close";
                    return self.refuse(id, -1, text);
                }
                self.answer_close(channel_id, id);
            }
            Command::DevSignLastTx { .. } => match self.act(channel_id, |c, cx, _| c.signed_commitment(cx)) {
                Some(Ok((_, tx))) => self.reply(id, Ok(Reply::Tx(tx))),
                Some(Err(fault)) => self.refuse(id, -1, format!("{fault}")),
                None => self.refuse(id, -1, "no such channel"),
            },
            Command::DevFeerate { feerate, .. } => {
                if self.act(channel_id, |c, _, out| c.set_feerate(feerate, out)) == Some(true) {
                    self.reply(id, Ok(Reply::Done));
                } else {
                    self.refuse(
                        id,
                        -1,
                        "the feerate cannot be changed now: only the opener can, to what it can pay",
                    );
                }
            }
            _ => {}
        }
    }

    /// `setchannel`.
    pub(super) fn set_channel(&mut self, id: CommandId, command: Command) {
        let Command::SetChannel { channel, fee_base_msat, fee_ppm, htlc_min_msat, htlc_max_msat } = command
        else {
            return;
        };
        let which = match channel.map(|c| self.find_channel(&c)).transpose() {
            Ok(Some(one)) => alloc::vec![one],
            Ok(None) => self.channels.values().filter(|c| c.wants_link()).map(Channel::id).collect(),
            Err((code, text)) => return self.refuse(id, code, text),
        };
        let crossed = |c: &Channel| {
            let low = htlc_min_msat.unwrap_or(c.policy.min);
            // Above all that it holds nothing would ever go on, and no update may say so.
            let high =
                htlc_max_msat.or(c.policy.max).unwrap_or(Msat(u64::MAX)).min(c.terms.capacity.to_msat());
            (low > high).then_some((low, high))
        };
        if let Some((low, high)) = which.iter().filter_map(|c| self.channels.get(c)).find_map(crossed) {
            return self.refuse(id, -32_602, format!("htlcmin: {low} is above the largest, {high}"));
        }
        let tip = self.tip_height();
        let mut views = Vec::new();
        for channel_id in which {
            let view = self.act(channel_id, |c, _, _| {
                let now = c.policy;
                c.set_policy(Policy {
                    base_msat: fee_base_msat.unwrap_or(now.base_msat),
                    ppm: fee_ppm.unwrap_or(now.ppm),
                    min: htlc_min_msat.unwrap_or(now.min),
                    max: htlc_max_msat.or(now.max),
                    ..now
                });
                c.view(tip)
            });
            views.extend(view);
        }
        self.reply(id, Ok(Reply::PeerChannels(views)));
    }
}
