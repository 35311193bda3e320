//! What is still to happen, in the order of time; what falls together happens in the order it was planned.
//!
//! In: events with their time. Out: the next one. Read next: `world`.

use std::collections::BTreeMap;

/// The future.
#[derive(Debug)]
pub struct Heap<E> {
    events: BTreeMap<(u64, u64), E>,
    planned: u64,
}

impl<E> Default for Heap<E> {
    fn default() -> Self {
        Heap { events: BTreeMap::new(), planned: 0 }
    }
}

impl<E> Heap<E> {
    /// Plans an event.
    pub fn push(&mut self, at_us: u64, event: E) {
        self.planned += 1;
        self.events.insert((at_us, self.planned), event);
    }

    /// When the next one is.
    pub fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
