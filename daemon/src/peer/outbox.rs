//! What waits to be written to one link, and the one place where a link's end is decided.
//!
//! In: encoded messages from whoever sends, and the first reason to stop. Out: batches for the writing task.
//! Counted in bytes, so that a peer which does not read costs a bounded amount of memory and then its link.
//! Read next: `link`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{watch, Notify};

/// What a queued message costs beside its own bytes: the frame around it and the vector that holds it.
const OVERHEAD_BYTES: usize = 64;

/// Why a link ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// In words.
    pub reason: String,
    /// What is queued may still be written first.
    pub flush: bool,
}

#[derive(Default)]
struct State {
    queued: Vec<Vec<u8>>,
    queued_bytes: usize,
    writing_bytes: usize,
    end: Option<End>,
}

/// A bounded queue of encoded messages.
pub(super) struct Outbox {
    limit_bytes: usize,
    /// What waits on all links together.
    all_bytes: Arc<AtomicUsize>,
    state: Mutex<State>,
    writer: Notify,
    ended: watch::Sender<bool>,
}

impl Outbox {
    pub fn new(limit_bytes: usize, all_bytes: Arc<AtomicUsize>) -> Outbox {
        Outbox {
            limit_bytes,
            all_bytes,
            state: Mutex::default(),
            writer: Notify::new(),
            ended: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues messages that are to leave together. Nothing happens on a link that ends already;
    /// a link whose queue overflows ends, for a gap in the order of messages would be worse.
    pub fn push(&self, messages: impl IntoIterator<Item = Vec<u8>>) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        let before = state.queued_bytes;
        for message in messages {
            state.queued_bytes = state.queued_bytes.saturating_add(message.len() + OVERHEAD_BYTES);
            state.queued.push(message);
        }
        self.all_bytes.fetch_add(state.queued_bytes - before, Ordering::Relaxed);
        let overflow = state.queued_bytes.saturating_add(state.writing_bytes) > self.limit_bytes;
        drop(state);
        if overflow {
            self.end("the peer does not read: too many bytes wait for it".into(), false);
        } else {
            self.writer.notify_one();
        }
    }

    /// Bytes that wait or are being written.
    pub fn waiting_bytes(&self) -> usize {
        let state = self.state();
        state.queued_bytes.saturating_add(state.writing_bytes)
    }

    /// Ends the link. The first reason stays; `flush: false` always wins over an earlier wish to flush.
    pub fn end(&self, reason: String, flush: bool) {
        let mut state = self.state();
        match &mut state.end {
            Some(end) => end.flush &= flush,
            None => state.end = Some(End { reason, flush }),
        }
        if !flush {
            // What is being written goes with the task that writes it.
            self.forget(&mut state);
        }
        drop(state);
        self.ended.send_replace(true);
        self.writer.notify_one();
    }

    fn forget(&self, state: &mut State) {
        self.all_bytes.fetch_sub(state.queued_bytes + state.writing_bytes, Ordering::Relaxed);
        state.queued = Vec::new();
        (state.queued_bytes, state.writing_bytes) = (0, 0);
    }

    /// Why the link ends, once it does.
    pub fn why(&self) -> Option<End> {
        self.state().end.clone()
    }

    /// Waits until somebody ended the link.
    pub async fn wait_ended(&self) {
        // The sender lives in `self`, so the only outcome is that the value became true.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// All that is queued, as soon as there is something; `None` when nothing more is to be written.
    /// Only the writing task calls this, each time after the previous batch was written.
    pub async fn next_batch(&self) -> Option<Vec<Vec<u8>>> {
        loop {
            {
                let mut state = self.state();
                self.all_bytes.fetch_sub(std::mem::take(&mut state.writing_bytes), Ordering::Relaxed);
                if !state.queued.is_empty() {
                    state.writing_bytes = std::mem::take(&mut state.queued_bytes);
                    return Some(std::mem::take(&mut state.queued));
                }
                if state.end.is_some() {
                    return None;
                }
            }
            self.writer.notified().await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.state();
        self.forget(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(limit_bytes: usize) -> Outbox {
        Outbox::new(limit_bytes, Arc::default())
    }

    #[tokio::test]
    async fn what_waits_on_all_links_is_counted_until_it_is_written_or_forgotten() {
        let all = Arc::new(AtomicUsize::new(0));
        let now = || all.load(Ordering::Relaxed);
        let [one, two, three] = [(); 3].map(|()| Outbox::new(10_000, Arc::clone(&all)));
        one.push([vec![0; 36]]);
        two.push([vec![0; 136]]);
        three.push([vec![0; 36], vec![0; 36]]);
        assert_eq!(now(), 500);
        // Being written is not written.
        assert_eq!(one.next_batch().await.map(|batch| batch.len()), Some(1));
        assert_eq!(now(), 500);
        one.end("done".into(), true);
        assert_eq!(one.next_batch().await, None);
        assert_eq!(now(), 400);
        two.end("hard".into(), false);
        assert_eq!(now(), 200);
        assert_eq!(three.next_batch().await.map(|batch| batch.len()), Some(2));
        three.push([vec![0; 36]]);
        assert_eq!(now(), 300);
        drop((one, two, three));
        assert_eq!(now(), 0);
    }

    #[tokio::test]
    async fn a_batch_is_all_that_gathered_and_the_end_comes_after_it() {
        let outbox = outbox(10_000);
        outbox.push([vec![1], vec![2]]);
        outbox.push([vec![3]]);
        outbox.end("enough".into(), true);
        outbox.push([vec![4]]);
        assert_eq!(outbox.next_batch().await, Some(vec![vec![1], vec![2], vec![3]]));
        assert_eq!(outbox.next_batch().await, None);
        outbox.wait_ended().await;
        assert_eq!(outbox.why(), Some(End { reason: "enough".into(), flush: true }));
    }

    #[tokio::test]
    async fn bytes_being_written_count_until_they_are_written() {
        let outbox = outbox(2 * (100 + OVERHEAD_BYTES));
        outbox.push([vec![0; 100], vec![0; 100]]);
        assert_eq!(outbox.next_batch().await.map(|b| b.len()), Some(2));
        assert_eq!(outbox.why(), None);
        outbox.push([vec![0; 1]]);
        assert_eq!(outbox.why().map(|end| end.flush), Some(false));
        assert_eq!(outbox.next_batch().await, None);
    }

    #[tokio::test]
    async fn a_hard_end_drops_what_a_soft_end_would_flush() {
        let outbox = outbox(10_000);
        outbox.push([vec![1]]);
        outbox.end("soft".into(), true);
        outbox.end("hard".into(), false);
        assert_eq!(outbox.next_batch().await, None);
        assert_eq!(outbox.why(), Some(End { reason: "soft".into(), flush: false }));
    }
}
