//! Who waits for an answer.
//!
//! In: on the core thread, each command as it is handed to the node. Out: on the writer thread, its answer, once the
//! node gave one and its records are durable. A client that left is no fault: its answer goes nowhere.
//! Read next: `writer`.

use crate::rpc::WalletReply;
use chand_protocol::id::CommandId;
use chand_protocol::node::command::{CommandError, Reply};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Where the answer to a command goes.
pub(super) type ReplyTo = oneshot::Sender<Result<Reply, CommandError>>;
/// Where the answer of the wallet goes.
pub(super) type WalletReplyTo = oneshot::Sender<Result<WalletReply, CommandError>>;

/// One who waits.
pub(super) enum Waiter {
    /// For what the node says.
    Node(ReplyTo),
    /// For an answer that is made already but tells of something that must be durable first.
    Wallet(WalletReplyTo, WalletReply),
}

#[derive(Default)]
struct Waiters {
    next: u64,
    by_id: BTreeMap<CommandId, Waiter>,
}

/// All who wait; clones share them.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Waiters>>);

impl Waiting {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a number for one who waits.
    pub fn enter(&self, waiter: Waiter) -> CommandId {
        let mut waiters = self.waiters();
        waiters.next = waiters.next.saturating_add(1);
        let id = CommandId(waiters.next);
        waiters.by_id.insert(id, waiter);
        id
    }

    /// Those who left before their answer came; they are waited for no more.
    pub fn gone(&self) -> Vec<CommandId> {
        let left = |waiter: &Waiter| match waiter {
            Waiter::Node(to) => to.is_closed(),
            Waiter::Wallet(to, _) => to.is_closed(),
        };
        let mut waiters = self.waiters();
        let gone: Vec<CommandId> =
            waiters.by_id.iter().filter(|(_, waiter)| left(waiter)).map(|(id, _)| *id).collect();
        for id in &gone {
            waiters.by_id.remove(id);
        }
        gone
    }

    /// Hands out a released answer.
    pub fn answer(&self, id: CommandId, result: Result<Reply, CommandError>) {
        let waiter = self.waiters().by_id.remove(&id);
        // A send that fails: nobody listens any more.
        match waiter {
            Some(Waiter::Node(to)) => drop(to.send(result)),
            Some(Waiter::Wallet(to, reply)) => drop(to.send(result.map(|_| reply))),
            None => tracing::debug!(id = id.0, "an answer that nobody waits for"),
        }
    }

    /// The node that was asked is gone.
    pub fn fail_all(&self, error: &CommandError) {
        let by_id = std::mem::take(&mut self.waiters().by_id);
        for waiter in by_id.into_values() {
            match waiter {
                Waiter::Node(to) => drop(to.send(Err(error.clone()))),
                Waiter::Wallet(to, _) => drop(to.send(Err(error.clone()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_its_own_waiter_once() {
        let waiting = Waiting::default();
        let (alice, mut for_alice) = oneshot::channel();
        let (bob, mut for_bob) = oneshot::channel();
        let a = waiting.enter(Waiter::Node(alice));
        let b = waiting.enter(Waiter::Node(bob));
        assert_ne!(a, b);
        waiting.answer(b, Ok(Reply::Done));
        assert!(for_alice.try_recv().is_err());
        assert!(matches!(for_bob.try_recv(), Ok(Ok(Reply::Done))));
        waiting.answer(b, Ok(Reply::Done));
        let lost = CommandError::new(-32603, "lost");
        waiting.fail_all(&lost);
        assert!(matches!(for_alice.try_recv(), Ok(Err(error)) if error == lost));
    }

    #[test]
    fn who_left_is_named_once() {
        let waiting = Waiting::default();
        let (alice, for_alice) = oneshot::channel();
        let (bob, mut for_bob) = oneshot::channel();
        let (a, b) = (waiting.enter(Waiter::Node(alice)), waiting.enter(Waiter::Node(bob)));
        assert!(waiting.gone().is_empty());
        drop(for_alice);
        assert_eq!((waiting.gone(), waiting.gone()), (vec![a], vec![]));
        waiting.answer(b, Ok(Reply::Done));
        assert!(matches!(for_bob.try_recv(), Ok(Ok(Reply::Done))));
    }

    #[test]
    fn a_kept_wallet_answer_leaves_when_its_record_is_durable() {
        let waiting = Waiting::default();
        let (to, mut got) = oneshot::channel();
        let kept = WalletReply::Coins(Vec::new());
        let id = waiting.enter(Waiter::Wallet(to, kept));
        assert!(got.try_recv().is_err());
        waiting.answer(id, Ok(Reply::Done));
        assert!(matches!(got.try_recv(), Ok(Ok(WalletReply::Coins(_)))));
    }
}
