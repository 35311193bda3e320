//! How high the chain is when its newest block is old, and HTLCs of peers that wait until that is known.
//!
//! In: what the chain backend says of itself, and when; the time. Out: the height that expiries are judged by; HTLCs that
//! are looked at in the order in which they came once the chain is known, or given back before they wait too long.
//! Why so: `docs/decisions/old-tip.md`. Read next: `receive`, `held`.

use crate::id::{ChannelId, HtlcId, Side};
use crate::node::effect::Level;
use crate::node::forwards::Place;
use crate::node::Node;
use crate::onion::Failure;
use crate::units::{Height, Timestamp};
use alloc::format;
use alloc::vec::Vec;

/// Bitcoin's block interval, seconds.
const BLOCK_S: u64 = 600;
/// The age of a tip, in seconds, that says that the backend hears of no blocks any more: eighteen intervals, which without
/// a fault come once in a thousand years.
const OLD_TIP_S: u64 = 18 * BLOCK_S;
/// How long the backend's word that it is at its best header holds, in milliseconds; the daemon repeats it every five
/// minutes.
const WORD_MS: u64 = 900_000;
/// How long an HTLC waits, in milliseconds. Its payer waits, too, and may do better elsewhere.
const PATIENCE_MS: u64 = 600_000;

/// An HTLC that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parked {
    pub(super) place: Place,
    until: Timestamp,
}

impl Node {
    /// Whether the newest block known is near enough to the chain's to judge expiries by (always where blocks are made
    /// at will). A tip that is merely old for a while is: blocks are an hour apart every other week.
    pub(super) fn is_chain_known(&self) -> bool {
        self.why_unknown().is_none()
    }

    /// Why the chain's height is not known, in words.
    pub(super) fn why_unknown(&self) -> Option<&'static str> {
        if self.config.network.row().on_demand {
            return None;
        }
        let word_ms = self.now.0.saturating_sub(self.chain.synced_at.0);
        if !self.chain.reachable {
            Some("the chain backend cannot be reached")
        } else if !self.chain.synced {
            Some("the chain is not read to its tip yet")
        } else if word_ms > WORD_MS {
            Some("the chain backend did not say for a while that it has all blocks")
        } else if self.tip_age_s() > OLD_TIP_S {
            Some("the newest block is hours old")
        } else {
            None
        }
    }

    /// Seconds since the tip was made; zero when that is not known.
    fn tip_age_s(&self) -> u64 {
        match self.chain.tip_time_s {
            0 => 0,
            time_s => self.wall().seconds().saturating_sub(time_s.into()),
        }
    }

    /// The height that the chain may have now: with one block for every ten minutes since the newest that was read. While
    /// blocks are still being read, that is the better answer.
    pub(super) fn height_now(&self) -> Height {
        let reads = self.chain.reachable && !self.chain.synced;
        let unseen = match self.config.network.row().on_demand || reads {
            true => 0,
            false => u32::try_from(self.tip_age_s() / BLOCK_S).unwrap_or(u32::MAX),
        };
        Height(self.tip_height().0.saturating_add(unseen))
    }

    /// Whether an HTLC of the peer's that expires then is not to be taken any more: its secret, shown now, might come too
    /// late to take it on chain by.
    pub(super) fn is_near(&self, expiry: Height) -> bool {
        // BOLT 2 [2.expiry.4].
        expiry.since(self.height_now()) <= self.config.claim_margin_blocks()
    }

    /// The height at which what waits here is given back. A slow block takes nothing from anybody; that the chain cannot be
    /// seen does, as it grows all the same.
    pub(super) fn height_of_ends(&self) -> Height {
        match self.is_chain_known() {
            true => self.tip_height(),
            false => self.height_now(),
        }
    }

    /// An HTLC waits until the chain is known.
    pub(super) fn park(&mut self, place: Place, why: &'static str) {
        let first = self.parked.is_empty();
        let level = if first { Level::Warn } else { Level::Debug };
        let text = format!("HTLC {} waits, and those after it: {why}", place.htlc);
        if let Some(peer) = self.channels.get(&place.channel).map(|c| c.terms.peer) {
            self.notice_about(level, text, peer, Some(place.channel));
        }
        self.parked.push(Parked { place, until: self.now.plus_ms(PATIENCE_MS) });
    }

    /// Why an HTLC of the peer's waits, if it does.
    pub(super) fn parked_because(&self, channel: ChannelId, id: HtlcId) -> Option<&'static str> {
        let place = Place { channel, htlc: id.id };
        let parked = id.offered_by == Side::Remote && self.parked.iter().any(|p| p.place == place);
        parked.then(|| self.why_unknown()).flatten()
    }

    /// News of the chain: HTLCs that waited are looked at again, in the order in which they came.
    pub(super) fn unpark(&mut self) {
        if self.is_chain_known() {
            let parked = core::mem::take(&mut self.parked).into_iter().map(|p| p.place);
            let found = |p: Place| HtlcId { offered_by: Side::Remote, id: p.htlc };
            self.events.extend(parked.map(|p| (p.channel, crate::channel::ChannelEvent::LockedIn(found(p)))));
        }
    }

    /// Gives back what waited for too long, and what may expire too soon to wait on.
    pub(super) fn release_parked(&mut self) {
        let now = self.now;
        let near = |p: &Parked| {
            let id = HtlcId { offered_by: Side::Remote, id: p.place.htlc };
            let htlc = self.channels.get(&p.place.channel).and_then(|c| c.htlc(id));
            htlc.is_none_or(|h| self.is_near(h.cltv_expiry))
        };
        let over = self.parked.iter().filter(|p| p.until <= now || near(p));
        let over: Vec<Place> = over.map(|p| p.place).collect();
        self.parked.retain(|p| !over.contains(&p.place));
        for place in over {
            if let Some(back) = self.back_of(place) {
                self.fail_back(place.channel, place.htlc, &back, &Failure::TemporaryNodeFailure);
            }
        }
    }

    /// When what waits is to be looked at again.
    pub(super) fn parked_deadline(&self) -> Option<Timestamp> {
        let patience = self.parked.iter().map(|p| p.until).min();
        let waits = !self.parked.is_empty() || !self.invoices.sets.is_empty();
        let ages = waits && !self.config.network.row().on_demand && self.chain.tip_time_s > 0;
        // Where one block more is reckoned with.
        let intervals = (self.tip_age_s() / BLOCK_S).saturating_add(1);
        let next_s = u64::from(self.chain.tip_time_s).saturating_add(intervals.saturating_mul(BLOCK_S));
        let next = Timestamp(next_s.saturating_mul(1_000).saturating_add(self.ahead_ms));
        [patience, ages.then_some(next)].into_iter().flatten().min()
    }
}
