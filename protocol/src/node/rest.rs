//! Payments that rest: no way has room for them now, and one may have it later.
//!
//! A way that begins with a full channel of ours waits in `send`'s queue. What has no way at all while HTLCs are under way, while
//! a peer is away, or because channels of others had no room a moment ago, rests here until it is worth asking again: when
//! a channel of ours has changed, and in any case after a pause that doubles each time. One question of a payment is under way at
//! a time, and few of all that rest are asked at once. When `retry_for` is over it fails, and says what stood in the way.
//!
//! In: payments without a way; time; channels that changed. Out: the next question, or the end. Read next: `routes`, `send`.

use crate::id::PaymentHash;
use crate::node::payments::code;
use crate::node::Node;
use crate::units::Timestamp;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// The first pause, and the longest.
const FIRST_PAUSE_MS: u64 = 500;
const LAST_PAUSE_MS: u64 = 8_000;
/// A change of our own channels makes a pause so many times shorter.
const HURRY: u64 = 8;
/// Between two rounds of questions, and how many are asked in one.
const ROUND_MS: u64 = 200;
const MAX_ROUND: usize = 8;

/// How one payment rests.
#[derive(Clone, Copy, Debug)]
struct Rest {
    since: Timestamp,
    /// When it is asked for again, whatever happens.
    until: Timestamp,
    /// When it is over.
    end: Timestamp,
    /// From when on a change of our own channels is a reason to ask, if it may make a way at all.
    own: Option<Timestamp>,
}

/// All that rest.
#[derive(Clone, Default, Debug)]
pub(super) struct Rests {
    by_hash: BTreeMap<PaymentHash, Rest>,
    /// No question before.
    round: Timestamp,
    /// When a channel of ours changed last.
    stirred: Timestamp,
}

impl Rests {
    pub(super) fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    pub(super) fn remove(&mut self, hash: &PaymentHash) {
        self.by_hash.remove(hash);
    }

    /// From when on a payment is to be asked for.
    fn due(&self, rest: &Rest) -> Timestamp {
        let stirred = rest.own.filter(|_| rest.since < self.stirred).map(|least| least.max(self.stirred));
        let at = stirred.map_or(rest.until, |at| at.min(rest.until));
        at.max(self.round).min(rest.end)
    }
}

impl Node {
    /// Lets a payment rest, longer each time; `own` when a change of our own channels may make a way.
    pub(super) fn rest(&mut self, hash: PaymentHash, own: bool) {
        let Some(end) = self.payments.by_hash.get(&hash).map(|p| p.retry_until) else { return };
        let Some(search) = self.payments.plans.get_mut(&hash).and_then(|plan| plan.search.as_mut()) else {
            return;
        };
        let pause_ms = FIRST_PAUSE_MS.checked_shl(search.rests).unwrap_or(LAST_PAUSE_MS).min(LAST_PAUSE_MS);
        search.rests = search.rests.saturating_add(1).min(16);
        let own = own.then(|| self.now.plus_ms(pause_ms / HURRY));
        let rest = Rest { since: self.now, until: self.now.plus_ms(pause_ms), end, own };
        self.payments.rests.by_hash.insert(hash, rest);
    }

    /// Channels of ours changed: there may be room.
    pub(super) fn stir_rests(&mut self) {
        if !self.payments.rests.by_hash.is_empty() {
            self.payments.rests.stirred = self.now;
        }
    }

    pub(super) fn rest_deadline(&self) -> Option<Timestamp> {
        let rests = &self.payments.rests;
        rests.by_hash.values().map(|rest| rests.due(rest)).min()
    }

    pub(super) fn rest_timers(&mut self) {
        let (now, rests) = (self.now, &self.payments.rests);
        if rests.by_hash.is_empty() {
            return;
        }
        let over = rests.by_hash.iter().filter(|(_, rest)| rest.end <= now).map(|(hash, _)| *hash);
        let over: Vec<PaymentHash> = over.collect();
        // Those that were not asked for the longest come first.
        let due = rests.by_hash.iter().filter(|(_, rest)| rest.end > now && rests.due(rest) <= now);
        let mut due: Vec<(Timestamp, PaymentHash)> = due.map(|(hash, rest)| (rest.since, *hash)).collect();
        due.sort_unstable();
        due.truncate(MAX_ROUND);
        over.into_iter().for_each(|hash| self.rested_in_vain(hash));
        if !due.is_empty() {
            self.payments.rests.round = now.plus_ms(ROUND_MS);
        }
        for (_, hash) in due {
            self.payments.rests.remove(&hash);
            if let Some(search) = self.payments.plans.get_mut(&hash).and_then(|plan| plan.search.as_mut()) {
                search.wake();
                self.ask_routes(hash);
            }
        }
    }

    /// Its time is over.
    fn rested_in_vain(&mut self, hash: PaymentHash) {
        self.payments.rests.remove(&hash);
        let Some(plan) = self.payments.plans.get(&hash) else { return };
        let Some(search) = plan.search.as_ref() else { return };
        let why = search.why.clone().unwrap_or_default();
        let text = match &plan.verdict {
            Some((_, before)) if why.is_empty() => format!("not paid in time: {before}. Nothing was paid"),
            Some((_, before)) => {
                format!("not paid in time: {before}; and there was no other route: {why}. Nothing was paid")
            }
            None => format!("not paid in time, there was no route: {why}. No money moved"),
        };
        self.give_up(hash, code::STOPPED_RETRYING, text);
    }
}
