//! Between payer and payee: an HTLC that goes on over another channel (BOLT 4, "Forwarding HTLCs"; BOLT 2,
//! "`cltv_expiry_delta` Selection").
//!
//! In: an HTLC that is locked in, with what its onion asks for; later how the next hop ended. Out: the next HTLC and a
//! record of both, in one batch with whatever else the step kept; later the same end upstream, in the batch that keeps
//! the one downstream. Nothing is held between two steps, so there is nothing to reconcile at a start.
//! Read next: `unblind` (what an onion asks for, and how it goes back), `forwards` (what is kept and listed), `send`.

use crate::channel::htlc::{Htlc, Removal};
use crate::channel::ledger::Refusal;
use crate::channel::update::CannotOffer;
use crate::channel::{Channel, Phase};
use crate::id::{ChannelId, HtlcId, NodeId, Preimage, ShortChannelId, Side};
use crate::node::effect::Level;
use crate::node::forwards::{Ended, Forward, Place, Status};
use crate::node::unblind::{Aim, Back};
use crate::node::waits::{Event, Subsystem};
use crate::node::Node;
use crate::onion::{payload, Failure};
use crate::units::Msat;
use crate::wire::features::Feature;
use crate::wire::message::OnionPacket;
use alloc::boxed::Box;
use alloc::format;
use secp256k1::PublicKey;

/// An HTLC that expires within so many blocks is not taken on: it would be a race from the start.
const TOO_SOON_BLOCKS: u32 = 3;
/// Nor one that locks money up for longer than two weeks.
const TOO_FAR_BLOCKS: u32 = 2_016;
/// Tenths of a channel's slots, and of what can be in flight over it, that forwards from one peer may take: a flood of
/// one's leaves room for those of others (`docs/decisions/shares.md`).
const ONE_PEER_TENTHS: u64 = 9;

impl Node {
    /// An HTLC of a peer that is to go on. Whether its hash is that of an invoice of ours does not matter here.
    // BOLT 5 [5.localtake.2].
    pub(super) fn forward(&mut self, channel: ChannelId, htlc: &Htlc, aim: Aim, back: &Back) {
        let Aim::Onward { wish, onion, path_key } = aim else { return };
        // BOLT 2 [2.forward.1].
        let incoming = Place { channel, htlc: htlc.id.id };
        // The amount came from a formula that rounds in the payee's favour (BOLT 4): that one is not missed.
        let rounding = Msat(path_key.is_some().into());
        let to = self.check_forward(channel, htlc, &wish, rounding).and_then(|to| {
            let fine = path_key.is_none() || self.knows_path_keys(to);
            fine.then_some(to).ok_or(Failure::UnknownNextPeer)
        });
        match to {
            Err(failure) => self.fail_back(channel, htlc.id.id, back, &failure),
            Ok(to) => self.apply_forward(incoming, htlc, to, &wish, (onion, path_key)),
        }
    }

    /// Whether the peer of this channel knows what comes beside an onion inside a blinded path: to one who does not, it
    /// would be a reason to hang up.
    fn knows_path_keys(&self, channel: ChannelId) -> bool {
        let peer = self.channels.get(&channel).map(|c| c.terms.peer);
        peer.is_some_and(|peer| self.negotiated(&peer, Feature::RouteBlinding))
    }

    /// The channel it goes on over, or the failure for its payer.
    fn check_forward(
        &self,
        from: ChannelId,
        htlc: &Htlc,
        wish: &payload::Forward,
        rounding: Msat,
    ) -> Result<ChannelId, Failure> {
        // BOLT 4 [4.fail.7].
        let named = self.by_scid(wish.short_channel_id).ok_or(Failure::UnknownNextPeer)?;
        if !matches!(named.phase, Phase::Open) {
            return Err(Failure::PermanentChannelFailure);
        }
        let policy = named.policy;
        // Made when it is needed: most HTLCs need none.
        // BOLT 4 [4.fail.20].
        let update = || self.update_bytes(named, wish.short_channel_id);
        if wish.amt_to_forward < policy.min {
            return Err(Failure::AmountBelowMinimum {
                htlc_msat: wish.amt_to_forward,
                channel_update: update(),
            });
        }
        if wish.amt_to_forward > policy.largest() {
            return Err(Failure::TemporaryChannelFailure { channel_update: update() });
        }
        let fee = policy.fee(wish.amt_to_forward);
        let needed = fee.and_then(|fee| wish.amt_to_forward.checked_add(fee));
        // BOLT 4 [4.read.23].
        if needed.is_none_or(|needed| htlc.amount.saturating_add(rounding) < needed) {
            return Err(Failure::FeeInsufficient { htlc_msat: htlc.amount, channel_update: update() });
        }
        // BOLT 4 [4.read.24].
        if htlc.cltv_expiry < wish.outgoing_cltv_value.plus(policy.delta_blocks.into()) {
            return Err(Failure::IncorrectCltvExpiry {
                cltv_expiry: htlc.cltv_expiry,
                channel_update: update(),
            });
        }
        let tip = self.tip_height();
        // BOLT 2 [2.forward.3].
        if wish.outgoing_cltv_value <= self.height_now().plus(TOO_SOON_BLOCKS) {
            return Err(Failure::ExpiryTooSoon { channel_update: update() });
        }
        if wish.outgoing_cltv_value > tip.plus(TOO_FAR_BLOCKS) {
            return Err(Failure::ExpiryTooFar);
        }
        self.way_on(named, wish, from)
    }

    /// The named channel, or another with the same peer that has room when it has none.
    fn way_on(
        &self,
        named: &Channel,
        wish: &payload::Forward,
        from: ChannelId,
    ) -> Result<ChannelId, Failure> {
        let room = |c: &Channel| {
            if self.is_crowded(c, from, wish.amt_to_forward) {
                return Err(CannotOffer::NotUsable);
            }
            c.check_offer(wish.amt_to_forward, wish.outgoing_cltv_value, Node::max_dust()).map(|()| c.id())
        };
        let why = match room(named) {
            Ok(id) => return Ok(id),
            Err(why) => why,
        };
        let peer = named.terms.peer;
        let others = self.channels.values().filter(|c| c.terms.peer == peer && c.phase == Phase::Open);
        if let Some(id) = others.filter_map(|c| room(c).ok()).next() {
            return Ok(id);
        }
        let channel_update = self.update_bytes(named, wish.short_channel_id);
        Err(match why {
            CannotOffer::Refused(Refusal::BelowMinimum { .. } | Refusal::Zero) => {
                Failure::AmountBelowMinimum { htlc_msat: wish.amt_to_forward, channel_update }
            }
            CannotOffer::Refused(Refusal::BadExpiry { .. }) => Failure::ExpiryTooFar,
            _ => Failure::TemporaryChannelFailure { channel_update },
        })
    }

    /// Whether the peer of the channel `from`, over whichever of its channels, has taken all that it may of another one.
    fn is_crowded(&self, to: &Channel, from: ChannelId, amount: Msat) -> bool {
        let peer_of = |id: &ChannelId| self.channels.get(id).map(|c| c.terms.peer);
        let peer = peer_of(&from);
        let load = || self.forwards.load_over(to.id(), |id| *id == from || peer_of(id) == peer);
        let slots = u64::from(to.terms.remote.max_accepted_htlcs) * ONE_PEER_TENTHS / 10;
        let slots = usize::try_from(slots).unwrap_or(usize::MAX).max(1);
        // Few channels are ever that full.
        if to.ledger.htlcs.len() >= slots && load().0 >= slots {
            return true;
        }
        if !self.has_others(peer, to.terms.peer) {
            return false;
        }
        let ours = to.ledger.htlcs.values().filter(|h| h.id.offered_by == Side::Local);
        let in_flight = ours.fold(Msat::ZERO, |sum, h| sum.saturating_add(h.amount));
        let most = in_flight.saturating_add(to.ledger.spendable(&to.terms, Side::Local));
        let share = Msat(most.min(to.terms.remote.max_in_flight).0 / 10 * ONE_PEER_TENTHS);
        in_flight.saturating_add(amount) > share && load().1.saturating_add(amount) > share
    }

    /// Whether there is any third peer that could send something on.
    fn has_others(&self, from: Option<NodeId>, to: NodeId) -> bool {
        let other = |c: &&Channel| Some(c.terms.peer) != from && c.terms.peer != to && c.phase == Phase::Open;
        let mut others = self.channels.values().filter(other);
        others.any(|c| c.ledger.spendable(&c.terms, Side::Remote) > Msat::ZERO)
    }

    fn apply_forward(
        &mut self,
        incoming: Place,
        htlc: &Htlc,
        to: ChannelId,
        wish: &payload::Forward,
        onion: (Box<OnionPacket>, Option<PublicKey>),
    ) {
        let (amount, expiry) = (wish.amt_to_forward, wish.outgoing_cltv_value);
        let offered =
            self.act(to, |c, _, out| c.apply_offer_inside(amount, htlc.payment_hash, expiry, onion, out));
        let Some(HtlcId { id, .. }) = offered else { return };
        let forward = Forward {
            incoming,
            outgoing: Place { channel: to, htlc: id },
            in_scid: self.scid_of(incoming.channel),
            out_scid: self.scid_of(to),
            payment_hash: htlc.payment_hash,
            in_msat: htlc.amount,
            out_msat: amount,
            in_expiry: htlc.cltv_expiry,
            out_expiry: expiry,
            created_index: self.count(Subsystem::Forwards, Event::Created),
            received: self.wall(),
            status: Status::Offered,
            updated_index: 0,
        };
        let view = forward.view();
        let changes = self.forwards.begin(forward);
        self.out.changes.extend(changes);
        self.tell_forward(Event::Created, view.created_index, view);
    }

    /// The next hop showed the secret: it goes upstream, wherever that channel stands. `false` when it is no forward's.
    pub(super) fn forward_fulfilled(&mut self, channel: ChannelId, id: HtlcId, preimage: &Preimage) -> bool {
        let outgoing = Place { channel, htlc: id.id };
        let Some(incoming) = self.end_forward(outgoing, true) else {
            // It had failed, and a reorganisation took that back: the channel has said what it costs.
            let Some(incoming) = self.forwards.ended(outgoing) else { return false };
            if !self.forwards.is_settled(incoming) {
                self.lose_forward(incoming);
            }
            return true;
        };
        let name = HtlcId { offered_by: Side::Remote, id: incoming.htlc };
        // BOLT 2, 5 [2.forward.4, 5.localoffer.7, 5.remoteoffer.3].
        let preimage = preimage.clone();
        let on_chain =
            self.channels.get(&incoming.channel).is_some_and(|c| matches!(c.phase, Phase::Onchain(_)));
        if on_chain {
            let learnt = self.act(incoming.channel, |c, cx, out| c.learn_preimage(name, preimage, cx, out));
            match learnt {
                Some(Ok(true)) => {}
                Some(Err(fault)) => self.local_fault(incoming.channel, &fault),
                _ => self.lost_upstream(incoming),
            }
        } else {
            let removal = Removal::Fulfilled(preimage);
            let settled = self.act(incoming.channel, |c, _, out| c.settle(incoming.htlc, removal, out));
            if settled != Some(true) {
                self.lost_upstream(incoming);
            }
        }
        true
    }

    /// The next hop gave it back for good: so does this one. `false` when it is no forward's.
    pub(super) fn forward_failed(&mut self, channel: ChannelId, id: HtlcId, removal: &Removal) -> bool {
        // BOLT 2 [2.forward.2]: it is gone for good, or the chain has decided.
        let outgoing = Place { channel, htlc: id.id };
        let Some(incoming) = self.end_forward(outgoing, false) else { return false };
        let Some(back) = self.back_of(incoming) else { return true };
        let removal = back.relayed(removal);
        self.give_back(incoming, &back, removal);
        true
    }

    fn end_forward(&mut self, outgoing: Place, settled: bool) -> Option<Place> {
        let (now, counters) = (self.wall(), &mut self.counters);
        let number = || counters.next((Subsystem::Forwards, Event::Updated));
        let Ended { forward, changes, forgotten } = self.forwards.end(outgoing, settled, now, number)?;
        self.out.changes.extend(changes);
        self.tell_forward(Event::Updated, forward.updated_index, forward.view());
        for old in forgotten {
            self.counters.add_fees(old.earned());
            let number = self.count(Subsystem::Forwards, Event::Deleted);
            self.tell_forward(Event::Deleted, number, old.view());
        }
        Some(forward.incoming)
    }

    fn lose_forward(&mut self, incoming: Place) {
        let (now, counters) = (self.wall(), &mut self.counters);
        let number = || counters.next((Subsystem::Forwards, Event::Updated));
        let Some((forward, change)) = self.forwards.lose(incoming, now, number) else { return };
        self.out.changes.push(change);
        self.tell_forward(Event::Updated, forward.updated_index, forward.view());
    }

    /// What came in was taken back by its payer, deep in the chain.
    pub(super) fn on_untaken(&mut self, channel: ChannelId, id: HtlcId) {
        let incoming = Place { channel, htlc: id.id };
        match self.forwards.stands(incoming) {
            Some(Status::Settled(_)) => self.lost_upstream(incoming),
            Some(_) => {}
            None => self.lose_received(incoming),
        }
    }

    /// The money went on and does not come in: the one thing a forward must never end in.
    fn lost_upstream(&mut self, incoming: Place) {
        let amount = self.forwards.came_in(incoming);
        self.lose_forward(incoming);
        let text = format!(
            "HTLC {} was paid on and cannot be taken any more: its payer took it back on chain, or it was too small to be \
             taken there. {amount} are lost",
            incoming.htlc
        );
        let peer = self.channels.get(&incoming.channel).map(|c| c.terms.peer);
        match peer {
            Some(peer) => self.notice_about(Level::Error, text, peer, Some(incoming.channel)),
            None => self.notice(Level::Error, text),
        }
    }

    fn scid_of(&self, channel: ChannelId) -> Option<ShortChannelId> {
        self.channels.get(&channel)?.own_name()
    }
}
