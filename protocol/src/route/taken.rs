//! What a search must leave alone: channels that the user excludes, and what other HTLCs of ours use, earlier parts of the
//! same payment among them.
//!
//! In: names and amounts. Out: how much of a direction is taken, all of it for what is excluded. Read next: `split`.

use super::marks::Marks;
use super::query::{Exclude, Query, Route};
use crate::gossip::graph::Direction;
use crate::id::ShortChannelId;
use alloc::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Taken {
    marks: Marks,
    /// Msat.
    amounts: BTreeMap<(ShortChannelId, Direction), u64>,
}

impl Taken {
    pub(super) fn by_user(query: &Query) -> Taken {
        let mut taken = Taken { marks: Marks::new(), amounts: BTreeMap::new() };
        for exclude in query.exclude {
            if let Exclude::Channel(scid, direction) = exclude {
                taken.add(*scid, *direction, u64::MAX);
            }
        }
        for (scid, direction, amount) in query.in_flight {
            taken.add(*scid, *direction, amount.0);
        }
        taken
    }

    fn add(&mut self, scid: ShortChannelId, direction: Direction, amount: u64) {
        self.marks.insert(scid);
        let sum = self.amounts.entry((scid, direction)).or_default();
        *sum = sum.saturating_add(amount);
    }

    /// One more part goes this way.
    pub(super) fn add_route(&mut self, route: &Route) {
        for hop in &route.hops {
            self.add(hop.scid, hop.direction, hop.amount.0);
        }
    }

    /// Msat; `u64::MAX` when nothing may go there.
    #[inline]
    pub(super) fn of(&self, scid: ShortChannelId, direction: Direction) -> u64 {
        if !self.marks.may_hold(scid) {
            return 0;
        }
        self.amounts.get(&(scid, direction)).copied().unwrap_or(0)
    }
}
