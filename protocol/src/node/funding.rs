//! Orders to open a channel: funded by this node's wallet, or by a transaction that our user makes.
//!
//! In: `fundchannel`; or `fundchannel_start`, `_complete` and `_cancel`, with whatever wallet our user has. Out: openings. By hand
//! the rule is: until the peer has signed for it, the transaction must not be sent, for what it pays into the channel could
//! never be spent; from then on it may, and this node sees to it once it has heard of it (`sendpsbt`). One that was given up
//! stays in the records, hidden: should its funding appear all the same, our commitment takes the money back.
//! Read next: `channels`, `crate::channel::open`.

use crate::channel::cause::{Trigger, Why};
use crate::channel::open::{OpenRequest, Opening};
use crate::channel::{Channel, Phase};
use crate::id::{ChannelId, CommandId, NodeId, Side};
use crate::node::command::{Command, Reply};
use crate::node::effect::FundedTx;
use crate::node::Node;
use crate::tx::ChannelType;
use crate::units::{Feerate, Msat, Sat};
use crate::wire::features::Feature;
use crate::wire::message::ErrorMessage;
use crate::wire::Message;
use alloc::format;
use alloc::vec::Vec;
use bitcoin::{OutPoint, ScriptBuf, Transaction};

/// Core Lightning's code: the peer is not connected.
const NOT_CONNECTED: i32 = 305;
/// Core Lightning's code: the peer is not known.
const UNKNOWN_PEER: i32 = 306;
/// Core Lightning's code: there is nothing to cancel.
const NOTHING_TO_CANCEL: i32 = 307;
/// Core Lightning's code: cancelling could cost money.
const UNSAFE_TO_CANCEL: i32 = 308;
/// Core Lightning's code: the transaction does not fund the channel.
const NOT_THE_FUNDING: i32 = 309;
/// Core Lightning's code: the transaction is not sent.
const NOT_BROADCAST: i32 = 313;
/// Addresses of openings that ended which are remembered.
const MAX_STALE: usize = 100;

/// The fields of `fundchannel`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FundOrder {
    /// With whom (must be connected).
    pub peer: NodeId,
    /// How much.
    pub amount: Option<Sat>,
    /// Of the first commitment, and of the funding transaction if this node makes it; `None`: estimate.
    pub feerate: Option<Feerate>,
    /// Ask for announcement.
    pub announce: bool,
    /// Given to the peer at the start.
    pub push_msat: Msat,
    /// Where our money goes when the channel closes.
    pub close_to: Option<ScriptBuf>,
    /// The depth we ask for.
    pub mindepth: Option<u32>,
    /// What the peer must keep.
    pub reserve: Option<Sat>,
    /// The channel type wanted: `Some(true)` anchors, `Some(false)` static_remotekey only.
    pub anchors: Option<bool>,
    /// With `option_scid_alias` in it or not; `None`: for a channel that is not announced, if the peer takes it.
    pub scid_alias: Option<bool>,
    /// Our user makes the funding transaction, and sends it.
    pub by_hand: bool,
}

impl Node {
    /// `fundchannel_start`, `fundchannel_complete`, `fundchannel_cancel`, and what `sendpsbt` asks first.
    pub(super) fn on_funding_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::FundChannelStart(order) => {
                if self.by_hand(&order.peer).is_some() {
                    let text = "a channel with that peer is being funded by hand already: fundchannel_complete or fundchannel_cancel";
                    return self.refuse(id, -1, text);
                }
                self.fund_channel(id, FundOrder { by_hand: true, ..*order });
            }
            Command::FundChannelComplete { peer, tx } => self.complete_funding(id, peer, tx),
            Command::FundChannelCancel { peer } => self.cancel_funding(id, peer),
            Command::SendsFunding { tx } => self.sends_funding(id, &tx),
            _ => {}
        }
    }

    /// The one opening with a peer that our user funds.
    fn by_hand(&self, peer: &NodeId) -> Option<(NodeId, ChannelId)> {
        self.openings.iter().find(|((p, _), o)| p == peer && o.by_hand).map(|(key, _)| *key)
    }

    /// `fundchannel`.
    pub(super) fn fund_channel(&mut self, id: CommandId, order: FundOrder) {
        let peer = order.peer;
        if !self.is_connected(&peer) {
            let code = if order.by_hand { NOT_CONNECTED } else { 400 };
            return self.refuse(id, code, "the peer is not connected: use connect first");
        }
        let Some(capacity) = order.amount else {
            return self.refuse(id, -32602, "amount: needed here");
        };
        let anchors_known = self.negotiated(&peer, Feature::Anchors);
        if order.anchors == Some(true) && !anchors_known {
            return self.refuse(id, 312, "the peer does not know anchors");
        }
        let channel_type = if order.anchors.unwrap_or(anchors_known) {
            ChannelType::Anchors
        } else {
            ChannelType::StaticRemotekey
        };
        let alias_known = self.negotiated(&peer, Feature::ScidAlias);
        // BOLT 2 [2.open.14].
        let scid_alias = order.scid_alias.unwrap_or(alias_known && !order.announce);
        if scid_alias && order.announce {
            let text = "channel_type: scid_alias is for channels that are not announced: say announce=false";
            return self.refuse(id, -32602, text);
        }
        if scid_alias && !alias_known {
            return self.refuse(id, 312, "the peer does not know scid_alias");
        }
        if let Err((code, text)) = self.check_destination(&peer, order.close_to.as_ref(), "close_to") {
            return self.refuse(id, code, text);
        }
        let feerate = order.feerate.unwrap_or(self.chain.fees.normal).max(Feerate::FLOOR);
        let mut wishes = self.wishes(&peer);
        wishes.reserve = order.reserve;
        wishes.minimum_depth = order.mindepth.map_or(wishes.minimum_depth, |d| d.max(1));
        let request = OpenRequest {
            capacity,
            push: order.push_msat,
            channel_type,
            scid_alias,
            plain_will_do: order.scid_alias.is_none(),
            feerate,
            funding_feerate: feerate,
            announce: order.announce && self.config.gossip.is_some(),
            close_to: order.close_to,
        };
        match self.start_opening(peer, &request, wishes) {
            Ok((mut opening, message)) => {
                opening.command = Some(id);
                opening.by_hand = order.by_hand;
                self.openings.insert((peer, opening.temporary_channel_id), opening);
                self.send(peer, Message::OpenChannel(message));
            }
            Err(why) => self.refuse(id, -32602, why),
        }
    }

    /// The peer has accepted: our user learns what to pay to.
    pub(super) fn tell_started(&mut self, key: (NodeId, ChannelId), script_pubkey: ScriptBuf) {
        let Some(opening) = self.openings.get_mut(&key) else { return };
        let Some(command) = opening.command.take() else { return };
        let reply = Reply::FundingStarted {
            script_pubkey,
            channel_type: opening.type_bits(),
            mindepth: opening.depth(),
        };
        self.reply(command, Ok(reply));
    }

    fn complete_funding(&mut self, id: CommandId, peer: NodeId, tx: Transaction) {
        let Some(key) = self.by_hand(&peer) else {
            let known = self.peers.contains_key(&peer);
            let (code, text) = match (known, self.is_connected(&peer)) {
                (false, _) => (UNKNOWN_PEER, "that peer is not known"),
                (_, false) => (
                    NOT_CONNECTED,
                    "the peer is not connected, and an opening ends with its connection: begin again",
                ),
                _ => (-1, "no channel with that peer is being funded by hand: fundchannel_start comes first"),
            };
            return self.refuse(id, code, format!("{text}. Do not send the transaction"));
        };
        let Some(opening) = self.openings.get(&key) else { return };
        if opening.command.is_some() || !opening.is_accepted() {
            return self.refuse(id, -1, "the peer has not answered yet. Do not send the transaction");
        }
        let found = opening.find_output(&tx);
        let vout = match found {
            Ok(vout) => vout,
            Err(why) => return self.refuse(id, NOT_THE_FUNDING, format!("psbt: {why}. Do not send it")),
        };
        if self.funding.contains_key(&OutPoint { txid: tx.compute_txid(), vout }) {
            return self.refuse(id, NOT_THE_FUNDING, "psbt: that output is a channel's already");
        }
        let crypto = self.crypto.clone();
        let Some(mut opening) = self.openings.remove(&key) else { return };
        let made = opening.on_funded(FundedTx { tx, vout }, &self.context(&*crypto));
        opening.command = Some(id);
        self.openings.insert(key, opening);
        match made {
            Ok(message) => self.send(peer, Message::FundingCreated(message)),
            Err(fault) => {
                self.send(peer, Message::Error(ErrorMessage::new(key.1, "the opener gave up")));
                self.end_opening(key, &format!("{fault}. Do not send the transaction"));
            }
        }
    }

    fn cancel_funding(&mut self, id: CommandId, peer: NodeId) {
        if let Some(key) = self.by_hand(&peer) {
            let name = self.openings.get(&key).and_then(|o| o.final_id()).unwrap_or(key.1);
            self.send(peer, Message::Error(ErrorMessage::new(name, "the opener cancelled the channel")));
            if name != key.1 {
                // It knows it by one of the two names.
                self.send(peer, Message::Error(ErrorMessage::new(key.1, "the opener cancelled the channel")));
            }
            self.end_opening(key, "it was cancelled. Do not send the transaction");
            return self.reply(id, Ok(Reply::Done));
        }
        let young = |c: &&Channel| c.terms.peer == peer && c.phase == Phase::Confirming;
        let unfunded: Vec<ChannelId> =
            self.channels.values().filter(young).filter(|c| c.is_unfunded()).map(Channel::id).collect();
        match unfunded.as_slice() {
            [one] => {
                self.give_channel_up(*one);
                self.reply(id, Ok(Reply::Done));
            }
            [] => {
                let text = match self.channels.values().find(young) {
                    Some(c) if c.terms.opener == Side::Remote => {
                        "the peer opens that channel: it is not ours to cancel"
                    }
                    Some(_) => "the funding transaction was sent: close the channel instead",
                    None if self.peers.contains_key(&peer) => {
                        let text = "no channel with that peer is being funded by hand";
                        return self.refuse(id, NOTHING_TO_CANCEL, text);
                    }
                    None => return self.refuse(id, UNKNOWN_PEER, "that peer is not known"),
                };
                self.refuse(id, UNSAFE_TO_CANCEL, text);
            }
            _ => self.refuse(
                id,
                -1,
                "several channels with that peer wait for their funding: close ends one by its channel_id",
            ),
        }
    }

    /// An opening has ended: what its user may have prepared for it must not be sent.
    pub(super) fn remember_stale(&mut self, opening: &Opening) {
        let Some(script) = opening.funding_script().filter(|_| opening.by_hand) else { return };
        self.stale_fundings.push_back(script);
        if self.stale_fundings.len() > MAX_STALE {
            self.stale_fundings.pop_front();
        }
    }

    /// Ends a channel that was never funded. Its records stay: were it funded all the same, our commitment takes it back.
    pub(super) fn give_channel_up(&mut self, id: ChannelId) {
        let why = Why::new(Trigger::Cancelled, "cancelled before it was funded");
        self.fail_channel(id, why);
        self.notice_about(
            crate::node::effect::Level::Warn,
            "a channel was given up before its funding transaction was sent: do not send that".into(),
            self.channels.get(&id).map_or(self.id, |c| c.terms.peer),
            Some(id),
        );
    }

    /// Our user is about to send a transaction. If it funds a channel that is secured, this node sees to it from here on; if
    /// it would lose money, it is refused.
    fn sends_funding(&mut self, id: CommandId, tx: &Transaction) {
        let txid = tx.compute_txid();
        let pays = |script: &ScriptBuf| tx.output.iter().any(|o| o.script_pubkey == *script);
        for opening in self.openings.values().filter(|o| o.by_hand) {
            if opening.unsigned_txid() == Some(txid) || opening.funding_script().is_some_and(|s| pays(&s)) {
                let text = format!(
                    "it pays into the channel with {}, which is not secured yet: what it pays there could never be spent. \
                     fundchannel_complete comes first",
                    opening.peer
                );
                return self.refuse(id, NOT_BROADCAST, text);
            }
        }
        if self.stale_fundings.iter().any(pays) {
            let text =
                "it pays into a channel whose opening has ended: what it pays there could never be spent. \
                        fundchannel_start gives a new address";
            return self.refuse(id, NOT_BROADCAST, text);
        }
        let strays = self.channels.values().filter(|c| c.terms.opener == Side::Local && !c.retired);
        let stray = strays.filter(|c| {
            let script = c.funding_script();
            let mut places = (0u32..).zip(&tx.output).filter(|(_, output)| output.script_pubkey == script);
            places.any(|(vout, _)| OutPoint { txid, vout } != c.terms.funding)
        });
        if let Some(stray) = stray.map(Channel::id).next() {
            let text = format!(
                "it pays to the address of channel {stray}, which was secured for another transaction: what this one pays \
                 there could never be spent"
            );
            return self.refuse(id, NOT_BROADCAST, text);
        }
        let range = OutPoint { txid, vout: 0 }..=OutPoint { txid, vout: u32::MAX };
        let funded: Vec<ChannelId> = self.funding.range(range).map(|(_, id)| *id).collect();
        if funded.iter().filter_map(|id| self.channels.get(id)).any(Channel::is_given_up) {
            let text =
                "it funds a channel that was given up; the money would come back by force only, less fees. \
                        Make another transaction";
            return self.refuse(id, NOT_BROADCAST, text);
        }
        for channel in &funded {
            self.act(*channel, |c, _, _| c.funding_given(tx));
        }
        self.reply(id, Ok(Reply::SendsFunding { of: funded.len() }));
    }
}
