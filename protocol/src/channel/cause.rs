//! Why a channel closed, and what followed: kept for ever, so that a close explains itself.
//!
//! In: the moment a close is decided or seen, and what happens on chain after. Out: [`Cause`], for lists.
//! The first trigger stands, and what comes later is a line of its story; but a cheat is always the trigger. Read next: `onchain`.

use crate::channel::{Channel, Context};
use crate::id::{HtlcId, PaymentHash, Side};
use crate::node::view::State;
use crate::units::{Feerate, Height, Msat};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Lines of a story that are kept.
const MAX_LINES: usize = 100;
/// Changes of state that are kept.
const MAX_CHANGES: usize = 40;

/// What made a channel close.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Trigger {
    /// Both agreed; the side that asked first.
    Agreed(Side),
    /// Our user's patience with an agreement ran out.
    Impatience,
    /// An HTLC could wait no longer.
    Deadline,
    /// The peer sent an `error`.
    PeerError,
    /// The peer broke a rule that leaves nothing else.
    PeerFault,
    /// The peer published its commitment.
    PeerClosed,
    /// The peer published a revoked commitment.
    PeerCheated,
    /// The peer published a commitment later than any we know.
    StateLost,
    /// A revoked commitment of ours was published.
    OwnRevoked,
    /// A newest commitment of ours was published by somebody.
    OwnPublished,
    /// `dev-fail`.
    Dev,
    /// The funding output was spent by something that is not known.
    Unknown,
}

impl Trigger {
    /// As JSON names it.
    pub const fn name(self) -> &'static str {
        match self {
            Trigger::Agreed(_) => "agreed",
            Trigger::Impatience => "no_agreement_in_time",
            Trigger::Deadline => "htlc_deadline",
            Trigger::PeerError => "peer_error",
            Trigger::PeerFault => "peer_fault",
            Trigger::PeerClosed => "peer_commitment",
            Trigger::PeerCheated => "peer_revoked_commitment",
            Trigger::StateLost => "state_lost",
            Trigger::OwnRevoked => "own_revoked_commitment",
            Trigger::OwnPublished => "own_commitment",
            Trigger::Dev => "dev-fail",
            Trigger::Unknown => "unknown",
        }
    }

    /// Who decided, in Core Lightning's words for `close_cause`.
    pub const fn close_cause(self) -> &'static str {
        match self {
            Trigger::Agreed(Side::Local) | Trigger::Impatience | Trigger::Dev => "user",
            Trigger::Agreed(Side::Remote) | Trigger::PeerClosed | Trigger::PeerError => "remote",
            Trigger::PeerFault | Trigger::Deadline => "protocol",
            Trigger::PeerCheated | Trigger::StateLost | Trigger::OwnRevoked | Trigger::OwnPublished => {
                "onchain"
            }
            Trigger::Unknown => "unknown",
        }
    }
}

/// Why, before it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Why {
    /// What.
    pub trigger: Trigger,
    /// In words; the peer's own for an `error`.
    pub words: String,
    /// Which HTLC, when one is the reason.
    pub htlc: Option<HtlcId>,
}

impl Why {
    /// Without an HTLC.
    pub fn new(trigger: Trigger, words: impl Into<String>) -> Why {
        Why { trigger, words: words.into(), htlc: None }
    }
}

/// An HTLC that was the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Reason {
    pub id: HtlcId,
    pub amount: Msat,
    pub payment_hash: PaymentHash,
    pub cltv_expiry: Height,
}

/// Something that happened after.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Line {
    pub height: Height,
    pub time_s: u64,
    pub text: String,
}

/// Why a channel closed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// What made it close.
    pub trigger: Trigger,
    /// In words.
    pub words: String,
    /// The tip when it was decided or seen.
    pub height: Height,
    /// When, seconds since the Unix epoch.
    pub time_s: u64,
    /// The feerate of our newest commitment then.
    pub feerate: Feerate,
    /// The HTLC that was the reason.
    pub htlc: Option<Reason>,
    /// What the peer said.
    pub peer_message: Option<String>,
    /// What this node did about it.
    pub decision: String,
    /// What followed.
    pub story: Vec<Line>,
}

/// A change of a channel's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StateChange {
    pub time_s: u64,
    pub height: Height,
    pub from: State,
    pub to: State,
}

/// What is kept of all this.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Annals {
    /// Once it closes.
    pub cause: Option<Cause>,
    /// Oldest first.
    pub changes: Vec<StateChange>,
}

impl Channel {
    /// Notes why it closes and what is done; only a line of the story when it is closing already.
    pub(crate) fn note_cause(&mut self, why: Why, decision: impl Into<String>, cx: &Context<'_>) {
        let decision = decision.into();
        self.dirty.annals = true;
        let mut story = Vec::new();
        if why.trigger == Trigger::PeerCheated {
            // An error of the cheat's may have come before the block with its commitment.
            if let Some(old) = self.annals.cause.take() {
                let text = alloc::format!("{} ({}): {}", old.words, old.trigger.name(), old.decision);
                story.push(Line { height: old.height, time_s: old.time_s, text });
                story.extend(old.story);
            }
        }
        if self.annals.cause.is_some() {
            let text = alloc::format!("{} ({}): {decision}", why.words, why.trigger.name());
            return self.tell(text, cx);
        }
        let htlc = why.htlc.and_then(|id| self.htlc(id)).map(|h| Reason {
            id: h.id,
            amount: h.amount,
            payment_hash: h.payment_hash,
            cltv_expiry: h.cltv_expiry,
        });
        let said = matches!(why.trigger, Trigger::PeerError).then(|| why.words.clone());
        self.annals.cause = Some(Cause {
            trigger: why.trigger,
            words: why.words,
            height: cx.tip,
            time_s: cx.now.seconds(),
            feerate: self.feerate(),
            htlc,
            peer_message: said,
            decision,
            story,
        });
    }

    /// One more line of the story, once there is one.
    pub(crate) fn tell(&mut self, text: String, cx: &Context<'_>) {
        let Some(cause) = &mut self.annals.cause else { return };
        if cause.story.len() < MAX_LINES {
            cause.story.push(Line { height: cx.tip, time_s: cx.now.seconds(), text });
            self.dirty.annals = true;
        }
    }

    /// Notes a new state, if it is one. Call it at the end of a step for a touched channel.
    pub(crate) fn note_state(&mut self, cx: &Context<'_>) {
        let to = self.state_name();
        let from = self.annals.changes.last().map_or(State::Openingd, |c| c.to);
        if from == to {
            return;
        }
        if self.annals.changes.len() >= MAX_CHANGES {
            // A close that is begun again and again: the first half tells how it came, the last how it ended.
            self.annals.changes.remove(MAX_CHANGES / 2);
        }
        let change = StateChange { time_s: cx.now.seconds(), height: cx.tip, from, to };
        self.annals.changes.push(change);
        self.dirty.annals = true;
    }
}
