//! Mending everything, and waiting for the end of all that was begun.
//!
//! In: a region after its acts. Out: quiet within a bounded time, or what does not end. Links come first, then those who
//! hold something decide, then blocks pass by until every deadline and every delay is over. Read next: `judge`.

use super::play::Region;
use crate::sim::Verdict;
use chand_protocol::channel::Phase;
use chand_protocol::onchain::Output;

/// Seconds within which all links are there again.
const LINK_S: u64 = 400;
/// Longer than a payee waits for parts, and a payer for room.
const WAIT_MS: u64 = 130_000;
/// The longest route's expiry, the deadlines of a close, delays, seven blocks.
const MOST_BLOCKS: u32 = 640;
/// Blocks after the last end: claims, delays, seven blocks.
const LAST_BLOCKS: u32 = 24;
/// After the expiry of an HTLC that nobody takes: then it is given up (BOLT 5).
const DEEP_BLOCKS: u32 = 8;
/// Small enough not to be worth a claim, sat.
pub(super) const SMALL_SAT: u64 = 750;

impl Region {
    /// All faults end.
    ///
    /// # Errors
    /// What does not end.
    pub(super) fn heal(&mut self) -> Result<(), Verdict> {
        self.town.crashes.clear();
        self.town.silent.clear();
        self.town.mute.clear();
        (0..self.plan.people).for_each(|seat| self.town.disk(seat, None));
        self.town.run();
        self.note_deaths();
        // With the first a close that reached nobody is published again, with the second it is there for the other side: who
        // closed calls nobody.
        self.town.mine(2);
        self.linked()?;
        for hash in self.order.clone() {
            self.decide(hash);
        }
        self.town.run();
        self.look()?;
        self.town.wait_ms(WAIT_MS);
        self.linked()?;
        self.note_closes();
        self.look()?;
        let mut quiet = 0;
        for block in 0..MOST_BLOCKS {
            if quiet > LAST_BLOCKS || (quiet > 0 && self.struck.is_empty()) {
                return Ok(());
            }
            self.town.mine(1);
            if block % 8 == 0 {
                self.town.wait_ms(1_000);
            }
            self.note_closes();
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
        }
        Err(Verdict::new("ends", format!("not all ends within {MOST_BLOCKS} blocks: {}", self.unquiet())))
    }

    /// Waits until everybody is linked again with those it has channels with.
    fn linked(&mut self) -> Result<(), Verdict> {
        for _ in 0..LINK_S {
            self.town.run();
            let apart = |seat: &crate::duet::seat::Seat| {
                let mut open = seat.node.channels().filter(|c| c.wants_link());
                open.any(|c| !seat.node.is_settled_with(&c.terms.peer))
            };
            if !self.town.seats.iter().any(apart) {
                return Ok(());
            }
            self.town.wait_ms(1_000);
        }
        Err(Verdict::new("ends", format!("no links after {LINK_S} s: {}", self.unquiet())))
    }

    fn is_quiet(&self) -> bool {
        self.restless().next().is_none()
    }

    fn unquiet(&self) -> String {
        self.restless().take(4).collect::<Vec<_>>().join("; ")
    }

    /// What is still to end.
    fn restless(&self) -> impl Iterator<Item = String> + '_ {
        let tip = self.town.chain.height();
        // One too small for a claim may still be taken by its secret until it is given up: its payer waits for that.
        let waits = move |output: &Output| {
            let lock = output.lock.as_ref();
            lock.is_some_and(|lock| tip < lock.cltv_expiry.0.saturating_add(DEEP_BLOCKS))
        };
        self.town.seats.iter().flat_map(move |seat| {
            seat.node.channels().filter_map(move |channel| {
                let (id, name) = (channel.id(), seat.name);
                let pending = channel.ledger.htlcs.len();
                if let Phase::Onchain(close) = &channel.phase {
                    let watched = channel.watch.iter().flat_map(|watch| &watch.outputs);
                    let unspent = watched.filter(|o| o.spent.is_none());
                    let left = unspent.filter(|o| o.amount.0 > SMALL_SAT || waits(o)).count();
                    let seen = close.height.is_some();
                    return (!seen || left > 0).then(|| {
                        format!("{name}: {id} closed ({}), mined: {seen}, {left} outputs left", close.trigger)
                    });
                }
                let unsettled = channel.wants_link() && !seat.node.is_settled_with(&channel.terms.peer);
                (pending > 0 || unsettled)
                    .then(|| format!("{name}: {id} has {pending} HTLCs, linked: {}", !unsettled))
            })
        })
    }
}
