//! What was learned of channels from payments that passed or failed: between which bounds their liquidity lies.
//!
//! In: outcomes, hop by hop. Out: the risk of an amount in one direction of a channel. What one direction has the other
//! lacks, so each outcome teaches both. Knowledge fades: every half-life the bounds go half the way back to where
//! nothing is known. Records are bounded in number; when there are too many, the oldest quarter is forgotten. All of it
//! may be lost: it is a cache, and its bytes are read without trust. Read next: `chance`, `search`.

use super::chance::{risk, Bounds};
use super::marks::Marks;
use super::query::{Hop, Route};
use crate::gossip::graph::Direction;
use crate::id::ShortChannelId;
use crate::units::{Msat, Timestamp};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Seconds until a bound is half forgotten.
const HALF_LIFE_S: u64 = 3_600;
/// Records kept; 48 bytes each and a tree's share.
const MAX_RECORDS: usize = 50_000;
/// The first byte of the cache.
const VERSION: u8 = 1;
const RECORD_BYTES: usize = 8 * 4 + 4 * 2;

/// Of one channel, as seen in direction zero, msat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    size: u64,
    low: u64,
    high: u64,
    /// Seconds.
    low_at: u32,
    high_at: u32,
}

/// What was learned.
#[derive(Clone, Debug)]
pub struct Scorer {
    known: BTreeMap<ShortChannelId, Known>,
    marks: Marks,
    max_records: usize,
}

impl Default for Scorer {
    fn default() -> Scorer {
        Scorer::new()
    }
}

/// The bytes are no cache of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a cache of scores that this version wrote")]
pub struct BadScores;

impl Scorer {
    /// Nothing is known.
    pub fn new() -> Scorer {
        Scorer::with_room(MAX_RECORDS)
    }

    /// Nothing is known, and at most so many channels will be.
    pub fn with_room(max_records: usize) -> Scorer {
        Scorer { known: BTreeMap::new(), marks: Marks::new(), max_records: max_records.max(4) }
    }

    /// `amount` was not there: the liquidity is below it. `size` is what the channel holds.
    pub fn fail(
        &mut self,
        scid: ShortChannelId,
        direction: Direction,
        amount: Msat,
        size: Msat,
        now: Timestamp,
    ) {
        let Some(most) = amount.0.checked_sub(1) else { return };
        self.learn(scid, direction, size.0, now, |b| Bounds { low: b.low, high: b.high.min(most) });
    }

    /// `amount` was there, and came back: the payment failed further on.
    pub fn pass(
        &mut self,
        scid: ShortChannelId,
        direction: Direction,
        amount: Msat,
        size: Msat,
        now: Timestamp,
    ) {
        self.learn(scid, direction, size.0, now, |b| Bounds { low: b.low.max(amount.0), high: b.high });
    }

    /// `amount` was there, and is on the other side now.
    pub fn settle(
        &mut self,
        scid: ShortChannelId,
        direction: Direction,
        amount: Msat,
        size: Msat,
        now: Timestamp,
    ) {
        self.learn(scid, direction, size.0, now, |b| Bounds {
            low: b.low.saturating_sub(amount.0),
            high: b.high.saturating_sub(amount.0),
        });
    }

    /// A part of a route arrived: its money moved at every hop.
    pub fn route_settled(&mut self, route: &Route, now: Timestamp) {
        for hop in route.hops.iter().filter(is_foreign) {
            self.settle(hop.scid, hop.direction, hop.amount, hop.size, now);
        }
    }

    /// A part failed for lack of liquidity in the channel to hop `at`; past the last hop means that the payee refused
    /// it. Everything before had enough. Of our own channels there is nothing to learn.
    pub fn route_failed(&mut self, route: &Route, at: usize, now: Timestamp) {
        for hop in route.hops.iter().take(at).filter(is_foreign) {
            self.pass(hop.scid, hop.direction, hop.amount, hop.size, now);
        }
        if let Some(hop) = route.hops.get(at).filter(is_foreign) {
            self.fail(hop.scid, hop.direction, hop.amount, hop.size, now);
        }
    }

    fn learn(
        &mut self,
        scid: ShortChannelId,
        direction: Direction,
        size: u64,
        now: Timestamp,
        change: impl FnOnce(Bounds) -> Bounds,
    ) {
        let at = u32::try_from(now.seconds()).unwrap_or(u32::MAX);
        let before = self.bounds(scid, direction, size, at);
        let mut after = change(before);
        after.high = after.high.min(size);
        if after.low > after.high {
            // The news contradict what was believed: only they count.
            if after.high < before.high {
                after.low = 0;
            } else {
                after.low = after.low.min(size);
                after.high = size;
            }
        }
        let after = seen_from(direction, size, after);
        let mut known = Known { size, low: after.low, high: after.high, low_at: at, high_at: at };
        // A bound that nothing changed fades from where it was.
        if let Some(old) = self.known.get(&scid).filter(|old| old.size == size) {
            let faded = old.at(at);
            if faded.low == known.low {
                (known.low, known.low_at) = (old.low, old.low_at);
            }
            if faded.high == known.high {
                (known.high, known.high_at) = (old.high, old.high_at);
            }
        } else if self.known.len() >= self.max_records {
            self.forget_oldest();
        }
        self.known.insert(scid, known);
        self.marks.insert(scid);
    }

    fn forget_oldest(&mut self) {
        let mut times: Vec<u32> = self.known.values().map(Known::newest).collect();
        times.sort_unstable();
        let Some(oldest_kept) = times.get(times.len() / 4).copied() else { return };
        let mut spare = times.len() / 4;
        self.known.retain(|_, known| {
            let old = known.newest() <= oldest_kept && spare > 0;
            spare -= usize::from(old);
            !old
        });
        self.marks.clear();
        self.known.keys().for_each(|scid| self.marks.insert(*scid));
    }

    /// Between what the liquidity of a direction lies; of a channel that nothing is known of, anywhere in it.
    #[inline]
    fn bounds(&self, scid: ShortChannelId, direction: Direction, size: u64, now_s: u32) -> Bounds {
        if self.marks.may_hold(scid) {
            if let Some(known) = self.known.get(&scid).filter(|known| known.size == size) {
                return seen_from(direction, size, known.at(now_s));
            }
        }
        Bounds { low: 0, high: size }
    }

    /// Between what the liquidity of a direction is believed to lie, msat.
    pub fn believed(
        &self,
        scid: ShortChannelId,
        direction: Direction,
        size: Msat,
        now: Timestamp,
    ) -> (Msat, Msat) {
        let at = u32::try_from(now.seconds()).unwrap_or(u32::MAX);
        let bounds = self.bounds(scid, direction, size.0, at);
        (Msat(bounds.low), Msat(bounds.high))
    }

    /// The risk of `amount` in 65,536ths of a bit; `None` when what is believed forbids it.
    /// `most` is what really goes through and has to be possible, fees and other parts included.
    #[inline]
    pub(super) fn risk(
        &self,
        (scid, direction, size): (ShortChannelId, Direction, u64),
        (amount, most): (u64, u64),
        now_s: u32,
    ) -> Option<u32> {
        let bounds = self.bounds(scid, direction, size, now_s);
        if most > bounds.high {
            return None;
        }
        risk(size, bounds, amount)
    }

    /// How many channels something is known of.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// For a cache on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.known.len() * RECORD_BYTES);
        bytes.push(VERSION);
        for (scid, known) in &self.known {
            for word in [scid.0, known.size, known.low, known.high] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(known.low_at.to_le_bytes());
            bytes.extend(known.high_at.to_le_bytes());
        }
        bytes
    }

    /// From a cache on disk; records that make no sense are left out.
    ///
    /// # Errors
    /// [`BadScores`] for another version or half a record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Scorer, BadScores> {
        let (version, records) = bytes.split_first().ok_or(BadScores)?;
        let records = records.chunks_exact(RECORD_BYTES);
        if *version != VERSION || !records.remainder().is_empty() {
            return Err(BadScores);
        }
        let mut scorer = Scorer::new();
        for record in records.take(MAX_RECORDS) {
            let word = |n: usize| {
                let part = record.get(n..n + 8).and_then(|b| b.try_into().ok()).unwrap_or([0; 8]);
                u64::from_le_bytes(part)
            };
            let (size, low, high, times) = (word(8), word(16), word(24), word(32));
            if low > size || high > size {
                continue;
            }
            let known = Known { size, low, high, low_at: times as u32, high_at: (times >> 32) as u32 };
            let scid = ShortChannelId(word(0));
            scorer.known.insert(scid, known);
            scorer.marks.insert(scid);
        }
        Ok(scorer)
    }
}

impl Known {
    /// What is left of it at a time, seconds.
    fn at(&self, now_s: u32) -> Bounds {
        let low = fade(self.low, now_s.saturating_sub(self.low_at));
        let room = fade(self.size - self.high, now_s.saturating_sub(self.high_at));
        let high = self.size - room;
        // Of two ages, the older may have been the higher once.
        Bounds { low: low.min(high), high }
    }

    fn newest(&self) -> u32 {
        self.low_at.max(self.high_at)
    }
}

/// Of our own channels nothing is learned, nor of those that a hint names.
fn is_foreign(hop: &&Hop) -> bool {
    hop.size > Msat::ZERO && !hop.beside
}

/// Half of it every half-life, in a straight line between.
fn fade(amount: u64, age_s: u32) -> u64 {
    let (halves, rest) = (u64::from(age_s) / HALF_LIFE_S, u64::from(age_s) % HALF_LIFE_S);
    let left = amount.checked_shr(halves as u32).unwrap_or(0);
    let more = u128::from(left / 2) * u128::from(rest) / u128::from(HALF_LIFE_S);
    left - more as u64
}

/// The same knowledge from the other side; `bounds` do not exceed `size`.
#[inline]
fn seen_from(direction: Direction, size: u64, bounds: Bounds) -> Bounds {
    match direction {
        Direction::Zero => bounds,
        Direction::One => Bounds { low: size - bounds.high, high: size - bounds.low },
    }
}

#[cfg(test)]
mod tests;
