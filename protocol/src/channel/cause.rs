//! Why a channel closed, and what followed: kept for ever, so that a close explains itself.
//!
//! In: the moment a close is decided or seen, and what happens on chain after. Out: [`Cause`], for lists.
//! The first trigger stands, and what comes later is a line of its story; but a cheat is always the trigger.
//! Each change of state keeps whose doing it was and why, as it was known at that moment. Read next: `onchain`.

use crate::channel::onchain::agreed_words;
use crate::channel::{Channel, Context};
use crate::id::{HtlcId, PaymentHash, Side};
use crate::node::view::State;
use crate::record::{decode, BadRecord};
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
    /// Our user gave it up before it was funded.
    Cancelled,
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
            Trigger::Cancelled => "cancelled",
        }
    }

    /// Who decided.
    pub const fn by(self) -> By {
        match self {
            Trigger::Agreed(Side::Local) | Trigger::Impatience | Trigger::Dev | Trigger::Cancelled => {
                By::User
            }
            Trigger::Agreed(Side::Remote) | Trigger::PeerClosed | Trigger::PeerError => By::Remote,
            Trigger::PeerFault | Trigger::Deadline => By::Protocol,
            Trigger::PeerCheated | Trigger::StateLost | Trigger::OwnRevoked | Trigger::OwnPublished => {
                By::Onchain
            }
            Trigger::Unknown => By::Unknown,
        }
    }
}

/// Whose doing something was, in Core Lightning's words for `close_cause` and `state_changes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum By {
    User,
    Remote,
    Protocol,
    Onchain,
    Unknown,
}

impl By {
    /// As JSON names it.
    pub const fn name(self) -> &'static str {
        match self {
            By::User => "user",
            By::Remote => "remote",
            By::Protocol => "protocol",
            By::Onchain => "onchain",
            By::Unknown => "unknown",
        }
    }

    const fn side(side: Side) -> By {
        match side {
            Side::Local => By::User,
            Side::Remote => By::Remote,
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

/// Why a state changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Because {
    pub by: By,
    pub words: String,
}

impl Because {
    fn new(by: By, words: impl Into<String>) -> Because {
        Because { by, words: words.into() }
    }
}

/// What is kept of all this.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Annals {
    /// Once it closes.
    pub cause: Option<Cause>,
    /// Oldest first.
    pub changes: Vec<StateChange>,
    /// Why, one for each of `changes`.
    pub reasons: Vec<Because>,
    /// What was decided in this step.
    #[serde(skip)]
    decided: Option<Because>,
}

impl Annals {
    /// What is shown of a close: its cause, and the changes of state with their reasons.
    pub fn new(cause: Option<Cause>, changes: Vec<(StateChange, Because)>) -> Annals {
        let (changes, reasons) = changes.into_iter().unzip();
        Annals { cause, changes, reasons, decided: None }
    }

    /// From its record, or from one that was written before reasons were kept.
    ///
    /// # Errors
    /// [`BadRecord`].
    pub(crate) fn from_record(bytes: &[u8]) -> Result<Annals, BadRecord> {
        // The reasons are the last part: a record without them never decodes as one that has them.
        let now = decode(bytes);
        match decode::<(Option<Cause>, Vec<StateChange>)>(bytes) {
            Ok((cause, changes)) if now.is_err() => {
                Ok(Annals { cause, changes, reasons: Vec::new(), decided: None })
            }
            _ => now,
        }
    }

    fn note(&mut self, change: StateChange, why: Because) {
        if self.changes.len() >= MAX_CHANGES {
            // A close that is begun again and again: the first half tells how it came, the last how it ended.
            self.changes.remove(MAX_CHANGES / 2);
            if self.reasons.len() > MAX_CHANGES / 2 {
                self.reasons.remove(MAX_CHANGES / 2);
            }
        }
        // Of those that came before reasons were kept, none is known.
        self.reasons.resize(self.changes.len(), Because::new(By::Unknown, ""));
        self.changes.push(change);
        self.reasons.push(why);
    }
}

impl Cause {
    /// One more line, in place of the last one when there are too many: for what must not be missed.
    pub(crate) fn tell_for_sure(&mut self, cx: &Context<'_>, text: String) {
        self.story.truncate(MAX_LINES - 1);
        self.story.push(Line { height: cx.tip, time_s: cx.now.seconds(), text });
    }
}

impl Channel {
    /// Notes why it closes and what is done; only a line of the story when it is closing already.
    pub(crate) fn note_cause(&mut self, why: Why, decision: impl Into<String>, cx: &Context<'_>) {
        let decision = decision.into();
        self.dirty.annals = true;
        self.annals.decided = Some(Because::new(why.trigger.by(), why.words.clone()));
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
        let decided = self.annals.decided.take();
        let to = self.state_name();
        let from = self.annals.changes.last().map_or(State::Openingd, |c| c.to);
        if from == to {
            return;
        }
        let why = self.why_now(from, to, decided);
        let change = StateChange { time_s: cx.now.seconds(), height: cx.tip, from, to };
        self.annals.note(change, why);
        self.dirty.annals = true;
    }

    fn why_now(&self, from: State, to: State, decided: Option<Because>) -> Because {
        let opener = By::side(self.terms.opener);
        let asked = self.closing().map_or(By::Unknown, |closing| By::side(closing.by));
        match (from, to) {
            (State::Openingd, State::ChanneldAwaitingLockin) => {
                Because::new(opener, "the funding transaction is signed")
            }
            (_, State::ChanneldAwaitingLockin) => {
                Because::new(By::Onchain, "the block with the funding transaction left the chain")
            }
            (_, State::ChanneldNormal) => {
                Because::new(opener, "the funding transaction is deep enough for both")
            }
            (_, State::ChanneldShuttingDown) => {
                let words = self.closing().map_or("", |closing| agreed_words(closing.by));
                Because::new(asked, words)
            }
            (_, State::ClosingdSigexchange) => Because::new(asked, "no HTLC is left"),
            (State::Onchain, _) => {
                Because::new(By::Onchain, "the block with the closing transaction left the chain")
            }
            (_, State::ClosingdComplete) => Because::new(asked, "both signed the closing transaction"),
            (State::AwaitingUnilateral | State::ClosingdComplete, State::Onchain) => {
                Because::new(By::Onchain, "the transaction that closes it is in a block")
            }
            (_, State::AwaitingUnilateral) if self.is_lost() && decided.is_none() => Because::new(
                By::Protocol,
                "restored from a backup without its state: only the peer can close",
            ),
            (_, State::AwaitingUnilateral) if self.doubt && decided.is_none() => {
                Because::new(By::Protocol, "this node's records are an old copy: only the peer can close")
            }
            _ => decided.unwrap_or_else(|| Because::new(By::Unknown, "")),
        }
    }
}
