//! One payment in several parts (BOLT 4, "Basic Multi-Part Payments"): as few as are likely to arrive.
//!
//! In: a query whose amount goes through no single route, or hardly. Out: routes that add up to it and together stay within
//! the fee, within what our own channels hold, and within what others are believed to. Equal parts first, as many as
//! weigh least with fees and risk together; if none fit, each part is the largest that finds a route beside those before.
//! Read next: `search`, `taken`.

use super::cost::{Aim, Prices};
use super::ends::Ends;
use super::log::ONE;
use super::query::{NoRoute, Query, Route};
use super::score::Scorer;
use super::search::{Search, Task};
use super::taken::Taken;
use super::why;
use crate::gossip::graph::Graph;
use crate::units::Msat;
use alloc::vec;
use alloc::vec::Vec;

/// How closely the largest part is looked for: halvings of the gap.
const CLOSER: u32 = 7;
/// The same, to the msat, when no more than one part in so many was left over.
const CLOSEST: u32 = 28;
const NEARLY: u64 = 16;
/// How often an amount is raised by what our own channel has left.
const RAISES: usize = 4;
/// How often a small amount is doubled until channels take it.
const DOUBLINGS: u32 = 12;
/// A route this likely to work is not cut: three in four.
const CALM: u32 = ONE * 42 / 100;

impl Search {
    /// The routes of all parts, one if that is enough.
    ///
    /// # Errors
    /// [`NoRoute`]: which limit stood in the way.
    pub fn parts(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> Result<Vec<Route>, NoRoute> {
        let found = self.try_parts(graph, scorer, query);
        found.ok_or_else(|| self.why(graph, scorer, query))
    }

    /// Why a query that failed has no answer.
    pub(super) fn why(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> NoRoute {
        why::explain(self, graph, scorer, query)
    }

    /// The same for who will not tell anybody why there is none: that costs many searches more.
    pub fn try_parts(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> Option<Vec<Route>> {
        self.some_parts(graph, scorer, query, Aim::Balanced)
    }

    /// With one measure first.
    pub(super) fn some_parts(
        &mut self,
        graph: &Graph,
        scorer: &Scorer,
        query: &Query,
        aim: Aim,
    ) -> Option<Vec<Route>> {
        let whole = self.whole(graph, scorer, query, aim).map(|route| vec![route]);
        let calm = whole.as_ref().is_some_and(|parts| parts.iter().all(|route| route.risk <= CALM));
        if calm || query.max_parts < 2 || query.amount.0 < 2 || aim != Aim::Balanced && whole.is_some() {
            return whole;
        }
        let ends = Ends::new(graph, query);
        let mut cut = Cut { search: self, graph, scorer, query, ends: &ends, aim };
        if let Some(parts) = cut.best_equal(whole) {
            return Some(parts);
        }
        match cut.greedy(CLOSER) {
            Ok(parts) => Some(parts),
            // Nearly all of it: the largest parts, to the msat, may carry the rest.
            Err(left) if left <= query.amount.0 / NEARLY => cut.greedy(CLOSEST).ok(),
            Err(_) => None,
        }
    }

    /// About the least amount above the query's that goes through in one part; and its route.
    pub(super) fn least(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> Option<Route> {
        let mut find =
            |amount: u64| self.whole(graph, scorer, &Query { amount: Msat(amount), ..*query }, Aim::Balanced);
        let mut below = query.amount.0;
        let mut best = (0..DOUBLINGS).find_map(|_| {
            let amount = below.checked_mul(2)?;
            let found = find(amount);
            if found.is_none() {
                below = amount;
            }
            found
        })?;
        for _ in 0..CLOSER {
            let middle = below + (best.amount.0 - below) / 2;
            match find(middle) {
                Some(route) => best = route,
                None => below = middle,
            }
        }
        Some(best)
    }

    /// The largest amount up to the query's that goes through in one part, roughly; and its route.
    pub(super) fn largest(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> Option<Route> {
        let ends = Ends::new(graph, query);
        let mut cut = Cut { search: self, graph, scorer, query, ends: &ends, aim: Aim::Balanced };
        cut.largest(&Taken::by_user(query), query.amount.0, 1, query.max_fee.0, CLOSER)
    }
}

/// A payment that is being cut.
struct Cut<'a> {
    search: &'a mut Search,
    graph: &'a Graph,
    scorer: &'a Scorer,
    query: &'a Query<'a>,
    ends: &'a Ends<'a>,
    aim: Aim,
}

impl Cut<'_> {
    fn find(&mut self, taken: &Taken, amount: u64, max_fee: u64) -> Option<Route> {
        let Cut { graph, scorer, query, ends, aim, .. } = *self;
        self.search.find(&Task { graph, scorer, query, ends, taken, amount, max_fee, aim })
    }

    /// `whole`, or equal parts that weigh less: more of them cost more fixed fees and risk less each. More and more are
    /// tried until that gains nothing.
    fn best_equal(&mut self, whole: Option<Vec<Route>>) -> Option<Vec<Route>> {
        let amount = self.query.amount.0;
        let most = self.query.max_parts.min(usize::try_from(amount).unwrap_or(usize::MAX));
        let mut best = whole.map(|parts| (weight(amount, &parts), parts));
        for count in [2, 3, 4, 6, 8, 12, 16, 24, 32].into_iter().filter(|count| *count <= most) {
            let Some(parts) = self.equal(count as u64) else { continue };
            let weight = weight(amount, &parts);
            if best.as_ref().is_some_and(|(least, _)| *least <= weight) {
                break;
            }
            best = Some((weight, parts));
        }
        best.map(|(_, parts)| parts)
    }

    /// The largest part first, then the largest of what is left; or what is left over.
    fn greedy(&mut self, closer: u32) -> Result<Vec<Route>, u64> {
        let (mut left, mut fee) = (self.query.amount.0, self.query.max_fee.0);
        let mut taken = Taken::by_user(self.query);
        let mut parts = Vec::new();
        while left > 0 {
            let places = self.query.max_parts.checked_sub(parts.len()).filter(|n| *n > 0).ok_or(left)? as u64;
            // Should it not do, how little is left over tells whether a closer look may.
            let nearly = left.saturating_sub(self.query.amount.0 / NEARLY).max(1);
            let least = if places > 1 { left.div_ceil(places) } else { nearly };
            let route = self.largest(&taken, left, least, fee, closer).ok_or(left)?;
            left = left.checked_sub(route.amount.0).ok_or(left)?;
            fee = fee.checked_sub(route.fee.0).ok_or(left)?;
            taken.add_route(&self.query.us, &route);
            parts.push(route);
        }
        Ok(parts)
    }

    /// So many parts that differ by one msat at most.
    fn equal(&mut self, count: u64) -> Option<Vec<Route>> {
        let (mut left, mut fee) = (self.query.amount.0, self.query.max_fee.0);
        let mut taken = Taken::by_user(self.query);
        let mut parts = Vec::new();
        for places in (1..=count).rev() {
            let amount = left.div_ceil(places);
            let route = self.find(&taken, amount, share(fee, amount, left))?;
            left = left.checked_sub(amount)?;
            fee = fee.checked_sub(route.fee.0)?;
            taken.add_route(&self.query.us, &route);
            parts.push(route);
        }
        (left == 0).then_some(parts)
    }

    /// The largest part from `least` to `most` that goes through beside what is taken, for its share of the fee.
    fn largest(&mut self, taken: &Taken, most: u64, least: u64, fee: u64, closer: u32) -> Option<Route> {
        // No part is more than one of our own channels can give.
        let own = self.ends.own_most(taken, &self.query.us);
        let top = own.map_or(most, |own| own.min(most));
        let (mut amount, mut above) = (top, top);
        let mut best = loop {
            if amount < least || amount == 0 {
                return None;
            }
            if let Some(route) = self.find(taken, amount, share(fee, amount, most)) {
                break route;
            }
            above = amount;
            // The least is tried, too.
            amount = if amount > least { (amount / 2).max(least) } else { 0 };
        };
        // When our own channel is what bounds it, what it has left beside the fee is known exactly.
        for _ in 0..RAISES {
            let left = self.ends.own_left(&best, taken, &self.query.us);
            let more = scaled(left, best.amount.0, best.sent().0);
            let amount = best.amount.0.saturating_add(more).min(most);
            if amount <= best.amount.0 {
                break;
            }
            match self.find(taken, amount, share(fee, amount, most)) {
                Some(route) => best = route,
                None => break,
            }
        }
        above = above.max(best.amount.0);
        for _ in 0..closer {
            let middle = best.amount.0 + (above - best.amount.0) / 2;
            if middle == best.amount.0 {
                break;
            }
            match self.find(taken, middle, share(fee, middle, most)) {
                Some(route) => best = route,
                None => above = middle,
            }
        }
        Some(best)
    }
}

/// What these cost, msat, the risk that one of them fails included: then the whole payment waits.
fn weight(amount: u64, parts: &[Route]) -> u64 {
    let prices = Prices::new(amount, Aim::Balanced);
    let one = |route: &Route| route.fee.0.saturating_add(prices.of(route.risk, 0));
    parts.iter().map(one).fold(0, u64::saturating_add)
}

/// `amount · part / all`, rounded down.
fn scaled(amount: u64, part: u64, all: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(part) / u128::from(all.max(1))).unwrap_or(u64::MAX)
}

/// The part of `fee` that is for `amount` of `all`, rounded up.
fn share(fee: u64, amount: u64, all: u64) -> u64 {
    let exact = (u128::from(fee) * u128::from(amount)).div_ceil(u128::from(all.max(1)));
    u64::try_from(exact).unwrap_or(u64::MAX).min(fee)
}
