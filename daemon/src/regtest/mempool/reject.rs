//! Why the mempool says no: bitcoind's reject reasons, so that a node's fee bumping meets the words it will
//! meet outside.
//!
//! In: nothing. Out: [`Reject`]. Read next: `accept`, and `rpc/tx.rs`, which turns these into RPC codes.

use std::fmt;

use thiserror::Error;

/// What kind of refusal this is; decides the RPC error code and whether a package may still save it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// Breaks consensus or policy for good (RPC −26).
    Rejected,
    /// An input does not exist or is spent (RPC −25).
    MissingInputs,
    /// Pays too little alone; a child may pay for it (RPC −26).
    Reconsiderable,
    /// The same transaction is in the pool (RPC −27 at most; relayed as success).
    InPool,
    /// The transaction's outputs are in the chain already (RPC −27).
    InChain,
}

/// A refused transaction: bitcoind's reason and, where it gives one, its detail.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Reject {
    /// What kind of refusal.
    pub kind: RejectKind,
    /// bitcoind's reject reason, such as `dust`.
    pub reason: String,
    /// The numbers behind it; may be empty.
    pub detail: String,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.detail.is_empty() {
            write!(f, ", {}", self.detail)?;
        }
        Ok(())
    }
}

impl Reject {
    /// A refusal for good, without detail.
    pub fn new(reason: impl Into<String>) -> Reject {
        Reject { kind: RejectKind::Rejected, reason: reason.into(), detail: String::new() }
    }

    /// The same with the numbers behind it.
    pub fn with(reason: impl Into<String>, detail: impl Into<String>) -> Reject {
        Reject { kind: RejectKind::Rejected, reason: reason.into(), detail: detail.into() }
    }

    /// Changes the kind.
    pub fn kind(mut self, kind: RejectKind) -> Reject {
        self.kind = kind;
        self
    }
}
