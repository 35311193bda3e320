//! What a search must leave alone: channels that the user excludes, and what other HTLCs of ours use, earlier parts of the
//! same payment among them.
//!
//! In: names and amounts. Out: how much of a direction is taken, all of it for what is excluded. Read next: `split`.

use super::marks::Marks;
use super::query::{Exclude, Query, Route};
use crate::gossip::graph::Direction;
use crate::id::{NodeId, ShortChannelId};
use alloc::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Taken {
    marks: Marks,
    /// Msat.
    amounts: BTreeMap<(ShortChannelId, Direction), u64>,
    /// The same of channels beside the graph, by who sends on over them.
    beside: BTreeMap<(ShortChannelId, NodeId), u64>,
}

impl Taken {
    pub(super) fn by_user(query: &Query) -> Taken {
        let mut taken = Taken { marks: Marks::new(), amounts: BTreeMap::new(), beside: BTreeMap::new() };
        for exclude in query.exclude {
            if let Exclude::Channel(scid, direction) = exclude {
                taken.add(*scid, *direction, u64::MAX);
            }
        }
        for (scid, direction, amount) in query.in_flight {
            taken.add(*scid, *direction, amount.0);
        }
        for seen in query.beside {
            taken.add_beside(seen.scid, seen.from, seen.taken.0);
        }
        taken
    }

    fn add(&mut self, scid: ShortChannelId, direction: Direction, amount: u64) {
        self.marks.insert(scid);
        let sum = self.amounts.entry((scid, direction)).or_default();
        *sum = sum.saturating_add(amount);
    }

    fn add_beside(&mut self, scid: ShortChannelId, owner: NodeId, amount: u64) {
        let sum = self.beside.entry((scid, owner)).or_default();
        *sum = sum.saturating_add(amount);
    }

    /// One more part goes this way.
    pub(super) fn add_route(&mut self, us: &NodeId, route: &Route) {
        let mut owner = *us;
        for hop in &route.hops {
            match hop.beside {
                true => self.add_beside(hop.scid, owner, hop.amount.0),
                false => self.add(hop.scid, hop.direction, hop.amount.0),
            }
            owner = hop.node;
        }
    }

    /// Of a channel beside the graph, msat; `u64::MAX` when the user excludes its name.
    pub(super) fn of_beside(&self, (scid, direction): (ShortChannelId, Direction), owner: &NodeId) -> u64 {
        match self.of(scid, direction) {
            u64::MAX => u64::MAX,
            _ => self.beside.get(&(scid, *owner)).copied().unwrap_or(0),
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
