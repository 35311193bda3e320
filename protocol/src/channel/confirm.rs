//! From a published funding transaction to an open channel (BOLT 2, "The channel_ready Message").
//!
//! In: blocks, the peer's `channel_ready`. Out: ours, once the funding is deep enough.
//! Read next: `update`.

use crate::channel::{Channel, ChannelEvent, Confirmed, Context, Link, Out, Phase};
use crate::fault::{LocalFault, PeerFault, Trouble};
use crate::node::effect::Level;
use crate::units::Height;
use crate::wire::message::ChannelReady;
use crate::wire::Message;
use alloc::format;

impl Channel {
    /// How many confirmations the funding transaction has at `tip`.
    pub fn depth(&self, tip: Height) -> u32 {
        self.confirmed.map_or(0, |c| if tip >= c.height { tip.since(c.height) + 1 } else { 0 })
    }

    /// The funding transaction is in a block, or (`None`) no longer is.
    pub fn funding_seen(&mut self, place: Option<Confirmed>, out: &mut Out) {
        if self.confirmed == place {
            return;
        }
        if place.is_none() && self.phase != Phase::Confirming {
            out.notice(Level::Warn, "the funding transaction left the chain in a reorganisation");
        }
        self.confirmed = place;
        self.dirty.state = true;
    }

    /// A new tip: says `channel_ready` when it is time.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub fn on_tip(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let waiting = matches!(self.phase, Phase::Confirming | Phase::Closing(_)) && !self.ready.0;
        // BOLT 2 [2.ready.8].
        if !waiting || self.depth(cx.tip) < self.terms.minimum_depth.max(1) {
            return Ok(());
        }
        let message = self.ready_message(cx)?;
        self.ready.0 = true;
        self.alias_told();
        self.dirty.state = true;
        self.send(message, out);
        self.opened(out);
        Ok(())
    }

    pub(crate) fn ready_message(&self, cx: &Context<'_>) -> Result<Message, LocalFault> {
        // BOLT 2 [2.ready.2].
        let second = self.local_point(1, cx.crypto)?;
        Ok(Message::ChannelReady(ChannelReady {
            channel_id: self.id(),
            second_per_commitment_point: second,
            // BOLT 2 [2.ready.3].
            short_channel_id: self.alias(),
        }))
    }

    /// `channel_ready`.
    pub(crate) fn on_channel_ready(
        &mut self,
        m: &ChannelReady,
        _cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        // BOLT 2 [2.again.25].
        if self.ready.1 {
            // Said again after a cut; once commitments moved on, its point is history.
            let same = self.commits.remote_next_point == Some(m.second_per_commitment_point);
            if self.commits.remote_number == 0 && !same {
                return Err(PeerFault::disconnect("channel_ready with another point").into());
            }
            return Ok(self.take_peer_alias(m.short_channel_id)?);
        }
        // It crossed the last word of a close: there is nothing left to get ready for.
        if matches!(self.phase, Phase::Closed(_)) {
            return Ok(());
        }
        if self.link != Link::Up || !matches!(self.phase, Phase::Confirming | Phase::Closing(_)) {
            return Err(PeerFault::warn("channel_ready out of place").into());
        }
        self.take_peer_alias(m.short_channel_id)?;
        self.commits.remote_next_point = Some(m.second_per_commitment_point);
        self.ready.1 = true;
        self.dirty.state = true;
        self.opened(out);
        Ok(())
    }

    fn opened(&mut self, out: &mut Out) {
        // BOLT 2 [2.open.33].
        if self.ready == (true, true) && self.phase == Phase::Confirming {
            self.phase = Phase::Open;
            out.notice(Level::Info, format!("channel open, capacity {}", self.terms.capacity));
            out.events.push(ChannelEvent::Ready);
        }
    }
}
