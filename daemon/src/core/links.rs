//! The links the node was told of.
//!
//! In: on the core thread, `Up` and `Down`. Out: which events concern this node at all, and one way to end all
//! links at once when a local fault (the disk, a bug of ours) makes the node unable to keep its word.
//! A link that ends without a word costs nothing: both sides pick up where they were. Read next: `peer`.

use crate::peer::Peers;
use chand_protocol::id::LinkId;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The links that are up, as far as the core thread has heard; clones share them.
#[derive(Clone, Default)]
pub(super) struct Links(Arc<Mutex<BTreeSet<LinkId>>>);

impl Links {
    fn links(&self) -> MutexGuard<'_, BTreeSet<LinkId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node is told of a new one.
    pub fn up(&self, link: LinkId) {
        self.links().insert(link);
    }

    /// It is gone. False when the node never heard of it.
    pub fn down(&self, link: LinkId) -> bool {
        self.links().remove(&link)
    }

    /// Whether the node knows of it.
    pub fn knows(&self, link: LinkId) -> bool {
        self.links().contains(&link)
    }

    /// All of them.
    pub fn all(&self) -> BTreeSet<LinkId> {
        self.links().clone()
    }

    /// Ends all of them; their `Down`s follow.
    pub fn hang_up(&self, peers: &Peers, reason: &str) {
        let all = self.links().clone();
        all.into_iter().for_each(|link| peers.hang_up(link, reason));
    }

    /// A fresh node has heard of none; what still comes from the old ones is not for it.
    pub fn forget(&self) {
        self.links().clear();
    }
}
