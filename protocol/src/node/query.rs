//! Commands: where each goes, and the answers that change nothing.
//!
//! In: [`Command`]. Out: its answer, at once for a question. Even an answer to a question is released only when
//! everything before it is durable: nobody hears of a state that a crash could take back.
//! Read next: `command`, `view`.

use crate::channel::onchain::agreed_words;
use crate::channel::{Channel, Phase};
use crate::id::{ChannelId, CommandId, NodeId};
use crate::invoice;
use crate::node::command::{ChannelRef, Command, Reply};
use crate::node::funding::FundOrder;
use crate::node::view::{self, ClosedChannel};
use crate::node::Node;
use crate::onchain::{Kind, Standing};
use crate::units::{Msat, Sat};
use alloc::vec::Vec;
use bitcoin::hashes::{sha256d, Hash};

/// What `signmessage` puts before the words, so that no transaction can be signed by mistake.
const MESSAGE_PREFIX: &[u8] = b"Lightning Signed Message:";
/// Snapshots that one answer holds when nothing else is said.
const DEFAULT_SNAPSHOTS: u64 = 100;

impl Node {
    pub(super) fn on_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::Drain => self.drain(id),
            Command::GetInfo => self.answer(id, Reply::Info(self.info())),
            Command::ListPeers { peer } => self.answer(id, Reply::Peers(self.list_peers(peer))),
            Command::Connect { .. } | Command::Disconnect { .. } | Command::Ping { .. } => {
                self.on_peer_command(id, command);
            }
            Command::SignMessage { message } => self.sign_message(id, &message),
            Command::FundChannel {
                peer,
                amount,
                feerate,
                announce,
                push_msat,
                close_to,
                mindepth,
                reserve,
                anchors,
                scid_alias,
            } => {
                let order = FundOrder {
                    peer,
                    amount,
                    feerate,
                    announce,
                    push_msat,
                    close_to,
                    mindepth,
                    reserve,
                    anchors,
                    scid_alias,
                    by_hand: false,
                };
                self.fund_channel(id, order);
            }
            Command::FundChannelStart(_)
            | Command::FundChannelComplete { .. }
            | Command::FundChannelCancel { .. }
            | Command::SendsFunding { .. } => self.on_funding_command(id, command),
            Command::Close { .. } => self.close(id, command),
            Command::ListPeerChannels { peer, channel } => {
                self.answer(id, Reply::PeerChannels(self.list_channels(peer, channel)));
            }
            Command::ListClosedChannels { peer } => {
                self.answer(id, Reply::ClosedChannels(self.list_closed(peer)));
            }
            Command::Invoice(_)
            | Command::ListInvoices(_)
            | Command::DelInvoice { .. }
            | Command::WaitInvoice { .. }
            | Command::WaitAnyInvoice { .. }
            | Command::SettleInvoice { .. }
            | Command::CancelInvoice { .. } => self.on_invoice_command(id, command),
            Command::Pay { .. }
            | Command::Keysend { .. }
            | Command::SendPay { .. }
            | Command::SendPart { .. }
            | Command::WaitSendPay { .. }
            | Command::WaitSendPart { .. }
            | Command::ListSendPays { .. }
            | Command::ListPays { .. } => self.on_pay_command(id, command, &[]),
            Command::Within { budgets, command } => self.on_command_within(id, &budgets, *command),
            Command::NewRune { .. }
            | Command::ListRunes
            | Command::BlacklistRunes { .. }
            | Command::RuneUsed { .. } => self.on_rune_command(id, command),
            Command::GetRoute { .. } => self.get_route(id, command),
            Command::Wait { index, from } => self.wait_for(id, index, from),
            Command::ListForwards => {
                let list = self.forwards.views();
                self.answer(id, Reply::Forwards(list));
            }
            Command::ListHtlcs { channel } => self.answer(id, Reply::Htlcs(self.list_htlcs(channel))),
            Command::ListSnapshots { channel, start, limit } => {
                self.list_snapshots(id, &channel, start, limit)
            }
            Command::Balance => {
                // The wallet counts an agreed close from when it is published; what a published commitment holds stays
                // here until it is claimed.
                // One that waits for our user's transaction holds nobody's money yet.
                let counts =
                    |c: &&Channel| !matches!(c.phase, Phase::Closed(_)) && !c.retired && !c.is_unfunded();
                let open = self.channels.values().filter(counts);
                let terms = open.map(Channel::balance).collect();
                self.reply(id, Ok(Reply::Balance(terms)));
            }
            Command::TowerChannels | Command::TowerStates { .. } | Command::TowersHave { .. } => {
                self.on_tower_command(id, command);
            }
            Command::EmergencyRecover { sealed } => self.emergency_recover(id, &sealed),
            Command::SetChannel { .. } => self.set_channel(id, command),
            Command::DevBroadcastRevoked { tx } if self.config.dev => {
                let why = "dev-broadcast-revoked";
                self.out.effects.push(crate::node::effect::Effect::Publish { tx: tx.clone(), why });
                self.reply(id, Ok(Reply::Tx(tx)));
            }
            Command::DevBroadcastRevoked { .. } => self.refuse(id, -32601, "dev- methods need --dev"),
            Command::DevFail { .. } | Command::DevSignLastTx { .. } | Command::DevFeerate { .. } => {
                self.on_dev(id, command);
            }
        }
    }

    fn answer(&mut self, id: CommandId, reply: Reply) {
        self.reply(id, Ok(reply));
    }

    fn info(&self) -> view::Info {
        let count = |f: &dyn Fn(&&Channel) -> bool| {
            u32::try_from(self.channels.values().filter(|c| f(c)).count()).unwrap_or(u32::MAX)
        };
        let active = |c: &&Channel| c.phase == Phase::Open;
        let features = self.our_features();
        view::Info {
            id: self.id,
            alias: self.config.alias.clone(),
            color: self.config.color,
            num_peers: u32::try_from(self.peers.keys().filter(|p| self.is_connected(p)).count())
                .unwrap_or(u32::MAX),
            num_pending_channels: count(&|c| c.phase == Phase::Confirming),
            num_active_channels: count(&|c| active(c) && c.is_usable()),
            num_inactive_channels: count(&|c| active(c) && !c.is_usable()),
            blockheight: self.tip_height(),
            chain_reachable: self.chain.reachable,
            chain_synced: self.chain.synced,
            features_init: features.as_bytes().to_vec(),
            features_invoice: invoice::our_features().as_bytes().to_vec(),
            draining: self.is_draining().then(|| self.left()),
            fees_collected: self.forwards.earned().saturating_add(self.counters.fees()),
        }
    }

    fn list_peers(&self, only: Option<NodeId>) -> Vec<view::Peer> {
        let ids = self.peers.keys().filter(|id| only.is_none_or(|o| o == **id));
        ids.map(|id| self.peer_view(id)).filter(|p| p.connected || p.num_channels > 0).collect()
    }

    fn list_channels(&self, peer: Option<NodeId>, channel: Option<ChannelId>) -> Vec<view::Channel> {
        self.channels
            .values()
            .filter(|c| self.is_listed(c))
            .filter(|c| peer.is_none_or(|p| c.terms.peer == p) && channel.is_none_or(|id| c.id() == id))
            .map(|c| {
                let mut view = c.view(self.tip_height());
                view.peer_connected = self.is_connected(&c.terms.peer);
                view
            })
            .collect()
    }

    fn list_closed(&self, peer: Option<NodeId>) -> Vec<ClosedChannel> {
        self.channels
            .values()
            .filter(|c| c.spent_height().is_some() && peer.is_none_or(|p| c.terms.peer == p))
            .map(|c| self.closed_view(c))
            .collect()
    }

    fn closed_view(&self, channel: &Channel) -> ClosedChannel {
        let (close_cause, trigger, fee) = match &channel.phase {
            Phase::Closed(closed) => ("mutual", agreed_words(closed.closing.by).into(), Some(closed.fee)),
            Phase::Onchain(onchain) => {
                let cause = match onchain.owner {
                    Some(crate::id::Side::Local) => "local",
                    Some(crate::id::Side::Remote) => "remote",
                    None => "unknown",
                };
                (cause, onchain.trigger.clone(), None)
            }
            _ => ("unknown", alloc::string::String::new(), None),
        };
        ClosedChannel {
            channel: channel.view(self.tip_height()),
            close_cause,
            trigger,
            height: channel.spent_height(),
            final_to_us_msat: final_to_us(channel),
            last_commitment_fee: fee,
        }
    }

    fn list_htlcs(&self, only: Option<ChannelId>) -> Vec<view::Htlc> {
        self.channels
            .values()
            .filter(|c| only.is_none_or(|id| c.id() == id))
            .flat_map(|c| c.ledger.htlcs.values().map(move |h| (c, h)))
            .map(|(c, h)| view::Htlc { waits_because: self.parked_because(c.id(), h.id), ..c.htlc_view(h) })
            .collect()
    }

    fn list_snapshots(&mut self, id: CommandId, name: &ChannelRef, start: Option<u64>, limit: Option<u64>) {
        match self.find_channel(name) {
            Ok(channel) => {
                let (start, limit) = (start.unwrap_or(0), limit.unwrap_or(DEFAULT_SNAPSHOTS));
                let views = self.channels.get(&channel).map(|c| c.snapshot_views(start, limit));
                self.answer(id, Reply::Snapshots(views.unwrap_or_default()));
            }
            Err((code, text)) => self.refuse(id, code, text),
        }
    }

    fn sign_message(&mut self, id: CommandId, message: &str) {
        let words = [MESSAGE_PREFIX, message.as_bytes()].concat();
        let digest = sha256d::Hash::hash(&words).to_byte_array();
        let message = secp256k1::Message::from_digest(digest);
        let signature = self.crypto.secp().sign_ecdsa_recoverable(&message, self.keys.node_secret());
        let (recid, bytes) = signature.serialize_compact();
        let recid = u8::try_from(recid.to_i32()).unwrap_or(0);
        self.answer(id, Reply::Signed { signature: bytes, recid });
    }
}

/// Our balance at the close. Of a commitment that this node has lost, what is ours without its secret.
fn final_to_us(channel: &Channel) -> Msat {
    match &channel.watch {
        Some(watch) if watch.standing == Standing::Ahead => {
            let ours = watch.outputs.iter().filter(|o| o.kind == Kind::ToRemote);
            ours.fold(Sat::ZERO, |sum, o| sum.saturating_add(o.amount)).to_msat()
        }
        _ => channel.to_us(),
    }
}
