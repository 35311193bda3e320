//! How far the core thread is ahead of the disk.
//!
//! In: each batch that is handed to the writer thread, and each that was released. Out: which sources the core thread
//! still listens to. It never waits for the disk itself: a peer that cheats while the disk is full is to be answered, and
//! its answer needs no record (`Batch::claims`). So with a few batches waiting, peers, control sockets and the wallet's
//! jobs wait, and blocks are still read; with very many, nothing is read any more, as memory has an end, too.
//! Read next: `inbox`, `heart`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::sync::Notify;

/// With so many batches unreleased only the chain and the broadcaster are heard.
pub(super) const HIGH: usize = 32;
/// With so many nothing is heard. Each stems from up to a queue of blocks: two weeks of them at the very least.
pub(super) const EXTREME: usize = 2_000;

/// Who is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pressure {
    /// Everybody.
    Low,
    /// The chain, and the broadcaster.
    High,
    /// Nobody but the order to stop.
    Extreme,
}

/// Batches that are not released yet; clones share the count.
#[derive(Clone, Default)]
pub(super) struct Backlog(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: AtomicUsize,
    room: Notify,
}

impl Backlog {
    /// One more; the number of all.
    pub fn enter(&self) -> usize {
        self.0.waiting.fetch_add(1, Ordering::SeqCst).saturating_add(1)
    }

    /// So many were released.
    pub fn leave(&self, batches: usize) {
        let before = self.0.waiting.fetch_sub(batches, Ordering::SeqCst);
        if before >= HIGH {
            self.0.room.notify_one();
        }
    }

    /// Who is heard now.
    pub fn pressure(&self) -> Pressure {
        match self.0.waiting.load(Ordering::SeqCst) {
            waiting if waiting >= EXTREME => Pressure::Extreme,
            waiting if waiting >= HIGH => Pressure::High,
            _ => Pressure::Low,
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    /// Resolves when there was a release after the pressure rose.
    pub async fn room(&self) {
        self.0.room.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_release_under_pressure_wakes_the_waiting_one() {
        let backlog = Backlog::default();
        assert_eq!(backlog.pressure(), Pressure::Low);
        (1..=HIGH).for_each(|n| assert_eq!(backlog.enter(), n));
        assert_eq!(backlog.pressure(), Pressure::High);
        backlog.leave(HIGH);
        // Before anybody waits, and yet it is not missed.
        backlog.room().await;
        assert_eq!(backlog.pressure(), Pressure::Low);
        (1..=EXTREME).for_each(|n| assert_eq!(backlog.enter(), n));
        assert_eq!(backlog.pressure(), Pressure::Extreme);
    }
}
