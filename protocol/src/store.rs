//! Persist before send, by construction.
//!
//! In: a [`Batch`] that one step of the node made: records to keep, and effects that depend on them.
//! Out: the effects, but only against a [`Durable`] that covers the batch, and only a [`Journal`] makes one,
//! after its [`Store`] said that the records are on disk. So a message, a transaction or a reply cannot leave
//! before its state is kept: the code does not compile, or the release is refused.
//! One exception, made explicit: [`Batch::claims`], transactions that follow from older records and the chain alone.
//! Outside this guarantee: a `Store` that says "durable" and lies.
//!
//! A batch's effects cannot be reached without a proof:
//! ```compile_fail
//! # use chand_protocol::store::Batch;
//! fn leak(batch: Batch) { let _ = batch.effects; }
//! ```
//! a proof cannot be made up:
//! ```compile_fail
//! # use chand_protocol::store::Durable;
//! let forged = Durable { seq: u64::MAX };
//! ```
//! nor can what only a release makes:
//! ```compile_fail
//! # use chand_protocol::{node::effect::Outgoing, id::{NodeId, LinkId}, wire::Message};
//! fn forge(peer: NodeId, link: LinkId, message: Message) -> Outgoing { Outgoing { peer, link, message } }
//! ```
//! nor a transaction for the broadcaster:
//! ```compile_fail
//! # use chand_protocol::node::effect::Publish;
//! fn forge(tx: bitcoin::Transaction) -> Publish { Publish { tx, why: "because" } }
//! ```
//! nor can a node that lost its disk take another step (`step` wants the node, and `poison` took it):
//! ```compile_fail
//! # use chand_protocol::node::{Node, step};
//! # use chand_protocol::units::Timestamp;
//! fn after_death(mut node: Node) { let dead = node.poison(); step(&mut node, Timestamp(0), vec![]); }
//! ```
//! Read next: `record` (what is kept), `node::effect` (what may leave).

use crate::node::effect::{After, Effect, Publish};
use alloc::string::String;
use alloc::vec::Vec;

/// One change of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Keep `value` under `key`.
    Put {
        /// Where.
        key: Vec<u8>,
        /// What; the store splits large values as it must.
        value: Vec<u8>,
    },
    /// Forget `key`; forgetting what is not there is no error.
    Delete {
        /// Where.
        key: Vec<u8>,
    },
}

/// What a store keeps: keys and bytes.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Why the store could not do it. A local fault: never told to a peer, never a reason to close a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file system refused; trying the same batch again may succeed.
    #[error("the database could not be written: {0}")]
    Write(String),
    /// What is on disk cannot be read back.
    #[error("the database could not be read: {0}")]
    Read(String),
    /// A batch came out of order: a bug of ours.
    #[error("batch {got} came after batch {last}: refused")]
    OutOfOrder {
        /// The number of the batch offered.
        got: u64,
        /// The last number kept.
        last: u64,
    },
}

/// Where records live. An implementation returns `Ok` only when all changes, of all lists, are on disk for good.
/// A call that failed may have kept nothing or everything, never a part; calling again with the same lists is safe.
pub trait Store {
    /// Keeps all lists, in order, in one atomic and synced write.
    ///
    /// # Errors
    /// [`StoreError::Write`] when they may not be durable.
    fn commit(&mut self, lists: &[&[Change]]) -> Result<(), StoreError>;

    /// Every entry, in key order.
    ///
    /// # Errors
    /// [`StoreError::Read`] when one cannot be read.
    fn load(&self) -> Result<Vec<Entry>, StoreError>;

    /// While [`Store::commit`] fails: every entry as a commit that did not fail left it, in key order. Nothing of what
    /// was refused is in there, so that no crash takes any of it back.
    ///
    /// # Errors
    /// [`StoreError::Read`] when they cannot be had.
    fn load_kept(&self) -> Result<Vec<Entry>, StoreError>;
}

/// What one step made: records, and what may leave once they are durable.
#[must_use = "a batch that is dropped loses records and messages"]
#[derive(Debug)]
pub struct Batch {
    seq: u64,
    changes: Vec<Change>,
    effects: Vec<Effect>,
}

impl Batch {
    /// `seq` is the number of the newest batch with records, this one included.
    pub(crate) fn new(seq: u64, changes: Vec<Change>, effects: Vec<Effect>) -> Batch {
        Batch { seq, changes, effects }
    }

    /// The records to keep.
    pub fn records(&self) -> &[Change] {
        &self.changes
    }

    /// True when it neither keeps nor releases anything.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.effects.is_empty()
    }

    /// The transactions that need no record: each follows from what is kept already and from the chain, so that losing
    /// this batch loses nothing of them. They may be broadcast at once, and are released once more with the rest.
    pub fn claims(&self) -> Vec<Publish> {
        self.effects.iter().filter_map(Publish::of_claim).collect()
    }

    /// What may leave, now that `proof` covers this batch.
    ///
    /// # Errors
    /// Gives the batch back when the proof does not reach it.
    pub fn release(self, proof: &Durable) -> Result<Vec<After>, Batch> {
        if self.seq > proof.seq {
            return Err(self);
        }
        Ok(self.effects.into_iter().map(After::released).collect())
    }
}

/// Proof that every batch up to a number is on disk. Only [`Journal`] makes one.
#[derive(Debug)]
pub struct Durable {
    seq: u64,
}

/// The only door to a store: keeps batches in order and proves it.
#[derive(Debug)]
pub struct Journal<S> {
    store: S,
    last: u64,
}

impl<S: Store> Journal<S> {
    /// A journal over an opened store; the node restored from it counts its batches from zero.
    pub fn new(store: S) -> Journal<S> {
        Journal { store, last: 0 }
    }

    /// The store, to load a node from.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Keeps the records of all batches with one synced write and proves it.
    ///
    /// # Errors
    /// [`StoreError`]; the batches may then be offered again, unchanged.
    pub fn commit(&mut self, batches: &[Batch]) -> Result<Durable, StoreError> {
        let mut last = self.last;
        for batch in batches {
            let expected = if batch.changes.is_empty() { last } else { last.saturating_add(1) };
            if batch.seq != expected {
                return Err(StoreError::OutOfOrder { got: batch.seq, last });
            }
            last = batch.seq;
        }
        let lists: Vec<&[Change]> =
            batches.iter().map(|b| b.changes.as_slice()).filter(|c| !c.is_empty()).collect();
        if !lists.is_empty() {
            self.store.commit(&lists)?;
        }
        self.last = last;
        Ok(Durable { seq: last })
    }
}
