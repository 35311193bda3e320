//! What a peer can do wrong, as values, each with a verdict.
//!
//! In: a check that failed. Out: what to do about it. Only a peer's fault may end in a protocol `error`;
//! faults of our own disk, chain or code never pass through here.
//! Read next: `channel`.

use alloc::string::String;

/// What follows from a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing: the message is dropped.
    Ignore,
    /// Tell the peer in a `warning` and go on.
    Warn,
    /// Tell the peer in a `warning` and hang up; the channel stays as it was.
    Disconnect,
    /// Tell the peer in an `error` and close the channel with our newest commitment.
    Fail,
}

/// A named misbehaviour of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PeerFault {
    /// What follows.
    pub verdict: Verdict,
    /// In words that may be told to the peer: no secrets, no state of other channels.
    pub what: String,
}

impl PeerFault {
    /// Close the channel.
    pub fn fail(what: impl Into<String>) -> PeerFault {
        PeerFault { verdict: Verdict::Fail, what: what.into() }
    }
    /// Hang up and start again from the last agreed state.
    pub fn disconnect(what: impl Into<String>) -> PeerFault {
        PeerFault { verdict: Verdict::Disconnect, what: what.into() }
    }
    /// Say so and go on.
    pub fn warn(what: impl Into<String>) -> PeerFault {
        PeerFault { verdict: Verdict::Warn, what: what.into() }
    }
    /// Drop it.
    pub fn ignore(what: impl Into<String>) -> PeerFault {
        PeerFault { verdict: Verdict::Ignore, what: what.into() }
    }
}

/// Something of our own that broke: it pauses the link and is said loudly, and never becomes a protocol `error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("local fault: {what}")]
pub struct LocalFault {
    /// In words.
    pub what: String,
}

/// Why a peer's message could not be acted upon: their fault, or ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Theirs.
    #[error(transparent)]
    Peer(#[from] PeerFault),
    /// Ours.
    #[error(transparent)]
    Local(#[from] LocalFault),
}

/// Shorthand for a local fault.
pub fn local(what: impl core::fmt::Display) -> LocalFault {
    LocalFault { what: alloc::format!("{what}") }
}
