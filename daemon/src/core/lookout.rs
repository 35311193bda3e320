//! Answers to questions while the disk refuses.
//!
//! In: from the writer thread, what the store held before the first write that failed. Out: answers from that, made by a
//! node that takes no step (`Dormant`) and a wallet of the same records; so they tell of nothing that a crash could take
//! back. All is closed again before the first batch leaves, so that nobody who heard of something new is then shown
//! something old. As long as nothing fails this costs nothing. What cannot be read back is answered with an error: nobody who
//! asks waits for the disk. Read next: `backend` (who asks), `writer` (who opens).

use super::clock::Clock;
use super::heart::may_need_coins;
use super::purse::{Purse, Rates};
use super::waiting::Waiting;
use super::Birth;
use crate::rpc::{WalletReply, WalletRequest};
use chand_protocol::node::command::{Command, CommandError, Reply};
use chand_protocol::node::Dormant;
use chand_protocol::store::{Entry, StoreError};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{oneshot, watch};

/// JSON-RPC's "internal error".
const INTERNAL_ERROR: i32 = -32603;

/// Where the last durable state can be asked; clones share it.
#[derive(Clone)]
pub(super) struct Lookout {
    state: watch::Sender<Option<Arc<Kept>>>,
    birth: Birth,
}

/// The state that was kept last.
pub(super) struct Kept {
    /// Why nothing newer is, in words.
    why: String,
    state: Mutex<State>,
    birth: Birth,
}

enum State {
    /// Nobody has asked yet.
    Records(Vec<Entry>),
    Made(Box<(Dormant, Purse, Clock)>),
    /// There is none to be had, and why: the disk, or a bug, of which the log has told.
    None(String),
}

impl std::fmt::Debug for Lookout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookout").finish_non_exhaustive()
    }
}

impl Lookout {
    pub fn new(birth: Birth) -> Lookout {
        Lookout { state: watch::Sender::new(None), birth }
    }

    /// The disk refuses; `entries` is what it held, or why that cannot be read.
    pub fn open(&self, why: String, entries: Result<Vec<Entry>, StoreError>) {
        let state = Mutex::new(match entries {
            Ok(entries) => State::Records(entries),
            Err(error) => State::None(error.to_string()),
        });
        let kept = Kept { why, state, birth: Arc::clone(&self.birth) };
        self.state.send_replace(Some(Arc::new(kept)));
    }

    /// All is kept, and will leave.
    pub fn close(&self) {
        self.state.send_replace(None);
    }

    /// Why answers are older than they could be, if they are.
    pub fn why(&self) -> Option<String> {
        self.state.borrow().as_ref().map(|kept| kept.why.clone())
    }

    /// Resolves when the disk refuses, perhaps never.
    pub async fn opened(&self) -> Arc<Kept> {
        let mut state = self.state.subscribe();
        loop {
            if let Some(kept) = state.borrow_and_update().as_ref() {
                return Arc::clone(kept);
            }
            // The sender is ours and lives as long as this.
            let _ = state.changed().await;
        }
    }
}

impl Kept {
    /// The node's answer to a question.
    pub async fn node(self: Arc<Self>, question: Command) -> Result<Reply, CommandError> {
        self.ask(|dormant, _, clock| dormant.ask(clock.read(), question)).await
    }

    /// The wallet's.
    pub async fn wallet(self: Arc<Self>, question: WalletRequest) -> Result<WalletReply, CommandError> {
        self.ask(|_, purse, _| {
            let (to, mut answer) = oneshot::channel();
            purse.request(question, to, &Waiting::default());
            answer.try_recv().ok()
        })
        .await
    }

    /// Many records take a while to be read: not on a thread that serves others.
    async fn ask<T: Send + 'static>(
        self: Arc<Self>,
        question: impl FnOnce(&mut Dormant, &mut Purse, &mut Clock) -> Option<Result<T, CommandError>>
            + Send
            + 'static,
    ) -> Result<T, CommandError> {
        let why = self.why.clone();
        let asked = move || {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let State::Records(entries) = &mut *state {
                let entries = std::mem::take(entries);
                *state = self.make(entries);
            }
            match &mut *state {
                State::Made(made) => question(&mut made.0, &mut made.1, &mut made.2).ok_or_else(String::new),
                State::Records(_) => Err(String::new()),
                State::None(why) => Err(why.clone()),
            }
        };
        let asked = tokio::task::spawn_blocking(asked).await;
        asked
            .unwrap_or_else(|bug| Err(bug.to_string()))
            .unwrap_or_else(|unread| Err(unanswered(&why, &unread)))
    }

    fn make(&self, entries: Vec<Entry>) -> State {
        let born = catch_unwind(AssertUnwindSafe(|| (self.birth)(entries)));
        match born.unwrap_or_else(|_| Err("it panicked".into())) {
            Ok((dormant, wallet)) => {
                let mut purse = Purse::new(wallet, Rates::default());
                purse.set_channels(dormant.channels().filter(|channel| may_need_coins(channel)).count());
                State::Made(Box::new((dormant, purse, Clock::default())))
            }
            Err(why) => {
                tracing::error!("the state that was kept last could not be loaded to be shown: {why}");
                State::None(why)
            }
        }
    }
}

/// Better than to let somebody wait who wants to know what is wrong.
fn unanswered(why: &str, unread: &str) -> CommandError {
    let message = format!(
        "{why}, and what was kept last cannot be shown ({unread}): ask again when there is room; nothing is lost"
    );
    CommandError::new(INTERNAL_ERROR, message)
}
