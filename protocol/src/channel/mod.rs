//! One payment channel as a state machine (BOLT 2).
//!
//! In: messages of one peer, orders of the node, blocks. Out ([`Out`]): messages, transactions, events for the node;
//! and, once a step, the records that changed.
//!
//! ```text
//!  open ──► Confirming ──► Open ──► Closing ──► Closed ──► (confirmed: done)
//!                 │          │         │           │
//!                 └──────────┴─────────┴───────────┴──► Onchain (somebody published a commitment)
//! ```
//! Whether the peer is connected ([`Link`]) is a second axis, not a phase. Every message is first checked against
//! the state (`check_…`, pure) and then applied (`apply_…`, cannot fail).
//! Read next: `htlc` (the table), `ledger` (the money), `commit` (signing and revoking), `resume` (after a cut).

pub mod alias;
pub mod announce;
pub mod cause;
pub mod close;
mod close_simple;
pub mod commit;
pub mod confirm;
pub mod htlc;
mod keyring;
pub mod ledger;
pub mod lost;
pub mod onchain;
pub mod open;
pub mod past;
pub mod policy;
pub mod resume;
pub mod save;
pub mod terms;
pub mod tower;
pub mod update;
pub mod view;

use crate::channel::policy::Policy;
use crate::fault::{local, LocalFault, PeerFault, Trouble};
use crate::id::{ChannelId, HtlcId, Preimage, ShortChannelId, Side};
use crate::node::effect::{AttachOrder, Level};
use crate::node::view::Stats;
use crate::onchain::Watch;
use crate::sign::Crypto;
use crate::tx::keys::ChannelSecrets;
use crate::units::{Feerate, Height, Msat, Timestamp};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

use alias::Aliases;
use announce::Announce;
use cause::Annals;
use close::{Closed, Closing};
use commit::Commits;
use htlc::{Htlc, Removal};
use keyring::KeyRing;
use ledger::{FeeUpdate, Ledger};
use onchain::Onchain;
use save::Dirty;
use terms::Terms;
use tower::Notes;

/// Every fact of the moment that a channel may look at.
pub struct Context<'a> {
    /// The time.
    pub now: Timestamp,
    /// The newest block processed.
    pub tip: Height,
    /// It is the chain's newest: what is published now may come into the next block. While blocks of the past are read,
    /// at a start or many at once, claims are made and not raised: nobody could have taken them.
    pub at_tip: bool,
    /// Signs and verifies.
    pub crypto: &'a dyn Crypto,
    /// What gets a transaction mined soon.
    pub feerate_normal: Feerate,
    /// What gets a transaction mined at once.
    pub feerate_urgent: Feerate,
    /// What the backend's mempool takes at least.
    pub feerate_minimum: Feerate,
    /// The most an opener may ask for.
    pub feerate_ceiling: Feerate,
    /// The most we let dust HTLCs put at risk.
    pub max_dust: Msat,
    /// A script of our own wallet for a close, when the channel has none yet.
    pub close_script: &'a ScriptBuf,
    /// Give every commitment of ours out before it is revoked, for `dev-broadcast-revoked`.
    pub dev: bool,
    /// Note each commitment of the peer's for watchtowers.
    pub tower: bool,
    /// How many times Bitcoin's the smallest outputs are that this chain's nodes relay.
    pub dust_factor: u64,
}

/// Something the node must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Both said `channel_ready`.
    Ready,
    /// An HTLC of the peer is locked in on both sides: it may be settled.
    LockedIn(HtlcId),
    /// An HTLC of ours was settled by its secret (may come twice: after a cut the peer tells again).
    Fulfilled {
        /// Which.
        id: HtlcId,
        /// The secret.
        preimage: Preimage,
    },
    /// An HTLC of the peer's, whose secret is known here, was taken back on chain (comes at every block).
    Untaken {
        /// Which.
        id: HtlcId,
    },
    /// An HTLC of ours was given back, for good.
    Failed {
        /// Which.
        id: HtlcId,
        /// How.
        removal: Removal,
    },
    /// The closing transaction is agreed on and being published.
    CloseAgreed,
    /// We published our commitment.
    ForceClosed,
}

/// What one call wants done.
#[derive(Default, Debug)]
pub struct Out {
    /// For the peer, in order.
    pub messages: Vec<Message>,
    /// To broadcast.
    pub publish: Vec<(Transaction, &'static str)>,
    /// To broadcast, too, and even before anything is kept: what follows from older records and the chain alone.
    pub claims: Vec<(Transaction, &'static str)>,
    /// For the wallet: transactions that need its coins.
    pub attach: Vec<Box<AttachOrder>>,
    /// For the wallet: coins of these transactions are free again.
    pub unreserve: Vec<Txid>,
    /// For the node.
    pub events: Vec<ChannelEvent>,
    /// For the log.
    pub notices: Vec<(Level, String)>,
    /// With `--dev`: our commitment of that number, signed, about to be revoked.
    pub dev_revoked: Vec<(u64, Transaction)>,
    /// A commitment of the peer's was revoked that towers shall know of.
    pub tower: bool,
}

impl Out {
    /// Adds a log line.
    pub fn notice(&mut self, level: Level, text: impl Into<String>) {
        self.notices.push((level, text.into()));
    }
}

/// The connection, as this channel sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// None.
    Down,
    /// Connected; `channel_reestablish` sent, theirs awaited.
    Syncing,
    /// Both know where they stand.
    Up,
}

/// Where the funding transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Confirmed {
    /// In which block.
    pub height: Height,
    /// At which place in it.
    pub tx_index: u32,
}

/// Where a channel's life stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Phase {
    /// The funding transaction is not deep enough for both.
    Confirming,
    /// Payments flow.
    Open,
    /// A `shutdown` was sent or received; HTLCs end, then the closing transaction is agreed on.
    Closing(Closing),
    /// Agreed; waiting for the closing transaction to confirm.
    Closed(Closed),
    /// A commitment was published, by us or by them.
    Onchain(Onchain),
}

/// An update of ours that the peer has not acknowledged by a revocation: to be told again after a cut, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Sent {
    /// `update_add_htlc` of our HTLC `id`.
    Add(u64),
    /// The removal of the peer's HTLC `id`.
    Remove(u64),
    /// `update_fee`.
    Fee(Feerate),
}

/// One channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What was agreed at the start.
    pub terms: Terms,
    /// Connected or not.
    pub link: Link,
    /// Where its life stands.
    pub phase: Phase,
    /// The money.
    pub ledger: Ledger,
    /// Both chains of commitments.
    pub commits: Commits,
    /// `channel_ready` sent, received.
    pub ready: (bool, bool),
    /// The funding transaction's place on chain.
    pub confirmed: Option<Confirmed>,
    /// The funding transaction, when we opened: a reorganisation may ask for it again.
    pub funding_tx: Option<Transaction>,
    /// A script agreed on or chosen for our money at a close.
    pub close_to: Option<ScriptBuf>,
    /// Updates of ours not yet acknowledged; the flag tells that a sent commitment holds them.
    pub(crate) log: Vec<(Sent, bool)>,
    /// Why it closed, and how its state changed.
    pub annals: Annals,
    /// A published commitment and what became of its outputs.
    pub watch: Option<Watch>,
    /// It is over, and what only a penalty would need is deleted.
    pub retired: bool,
    /// The peer proved to know a later state than we do: never publish ours (ARCHITECTURE rule 5).
    pub doubt: bool,
    /// Counters.
    pub stats: Stats,
    /// Least and most that was ours.
    pub extremes: (Msat, Msat),
    /// Fees and limits that we ask of forwards: base msat, parts per million, CLTV delta in blocks.
    pub policy: Policy,
    /// What the network is told of it.
    pub announce: Announce,
    /// What both ends call it.
    pub(crate) aliases: Aliases,
    pub(crate) secrets: ChannelSecrets,
    pub(crate) keyring: KeyRing,
    pub(crate) notes: Notes,
    pub(crate) dirty: Dirty,
}

impl Channel {
    /// Its id.
    pub const fn id(&self) -> ChannelId {
        self.terms.channel_id
    }

    /// Its place on chain as a short name, once confirmed.
    pub fn short_channel_id(&self) -> Option<ShortChannelId> {
        let place = self.confirmed?;
        ShortChannelId::new(place.height.0, place.tx_index, self.terms.funding.vout)
    }

    /// Takes one message of the peer about this channel.
    ///
    /// # Errors
    /// [`Trouble`]: the peer's fault with its verdict, or a fault of ours; the channel is then as it was.
    pub fn handle(&mut self, message: Message, cx: &Context<'_>, out: &mut Out) -> Result<(), Trouble> {
        if let Message::ChannelReestablish(m) = &message {
            return self.on_reestablish(m, cx, out);
        }
        if self.link != Link::Up {
            // "MUST NOT send any other message for the channel before channel_reestablish" (BOLT 2).
            return Err(
                PeerFault::warn(alloc::format!("{} before channel_reestablish", message.name())).into()
            );
        }
        match message {
            Message::ChannelReady(m) => self.on_channel_ready(&m, cx, out),
            Message::UpdateAddHtlc(m) => self.on_add(m, cx),
            Message::UpdateFulfillHtlc(m) => self.on_fulfill(&m, out),
            Message::UpdateFailHtlc(m) => self.on_fail(m),
            Message::UpdateFailMalformedHtlc(m) => self.on_fail_malformed(&m),
            Message::UpdateFee(m) => self.on_fee(&m, cx, out),
            Message::CommitmentSigned(m) => self.on_commitment_signed(m, cx, out),
            Message::RevokeAndAck(m) => self.on_revoke_and_ack(&m, cx, out),
            Message::Shutdown(m) => self.on_shutdown(&m, cx, out),
            Message::ClosingSigned(m) => self.on_closing_signed(&m, cx, out),
            Message::ClosingComplete(m) => self.on_closing_complete(&m, cx, out),
            Message::ClosingSig(m) => self.on_closing_sig(&m, cx, out),
            other => Err(PeerFault::warn(alloc::format!("{} is out of place here", other.name())).into()),
        }
    }

    /// The end of a step: signs what gathered, goes on with a close. Call it once per step for a touched channel.
    ///
    /// # Errors
    /// A fault of ours (keys that cannot be derived, a ledger that does not add up).
    pub fn flush(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        if self.link != Link::Up {
            return Ok(());
        }
        self.flush_commitment(cx, out)?;
        self.flush_close(cx, out)
    }

    /// The connection is gone: what the peer had not yet committed to is forgotten (BOLT 2, "Message Retransmission").
    pub fn unlink(&mut self) {
        // BOLT 2 [2.again.4, 2.again.38].
        if self.link == Link::Down {
            return;
        }
        self.link = Link::Down;
        self.aliases.renamed = 0;
        let forgotten: Vec<HtlcId> = self
            .ledger
            .htlcs
            .values()
            .filter(|h| h.id.offered_by == Side::Remote && h.step == htlc::Step::AddHtlc)
            .map(|h| h.id)
            .collect();
        for id in &forgotten {
            self.ledger.htlcs.remove(id);
        }
        // BOLT 2 [2.add.14].
        self.ledger.next_id.1 -= forgotten.len() as u64;
        for htlc in self.ledger.htlcs.values_mut() {
            if htlc.id.offered_by == Side::Local && htlc.step == htlc::Step::RemoveHtlc {
                htlc.step = htlc::Step::AddAckRevocation;
                htlc.removal = None;
            }
        }
        if self.terms.opener == Side::Remote {
            self.ledger.fees.retain(|f: &FeeUpdate| f.step != htlc::Step::AddHtlc);
        }
        self.unlink_close();
    }

    /// One HTLC by name.
    pub fn htlc(&self, id: HtlcId) -> Option<&Htlc> {
        self.ledger.htlcs.get(&id)
    }

    /// Whether new HTLCs may be offered now, by phase and link.
    pub fn is_usable(&self) -> bool {
        // BOLT 2 [2.shutdown.5, 2.shutdown.6].
        self.phase == Phase::Open && self.link == Link::Up && !self.doubt
    }

    /// Whether it needs its peer: not yet closed on chain.
    pub const fn wants_link(&self) -> bool {
        matches!(self.phase, Phase::Confirming | Phase::Open | Phase::Closing(_))
    }

    /// Whether its peer is to be called: also to say the last word of a close again, until that is in a block.
    pub const fn wants_call(&self) -> bool {
        self.wants_link() || matches!(&self.phase, Phase::Closed(closed) if closed.height.is_none())
    }

    /// Sends when connected; otherwise `resume` will say it again.
    pub(crate) fn send(&self, message: Message, out: &mut Out) {
        // BOLT 2 [2.again.6].
        if self.link == Link::Up {
            out.messages.push(message);
        }
    }

    /// Changes what we ask of forwards.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.dirty.state = true;
    }

    /// The feerate of our newest commitment.
    pub fn feerate(&self) -> Feerate {
        self.ledger.feerate_in(ledger::View::Signed(Side::Local), self.terms.opener)
    }

    /// What is ours: settled balance, our pending HTLCs included.
    pub fn to_us(&self) -> Msat {
        self.ledger.settled.local
    }
}

/// A derived key that does not exist is a fault of ours, never the peer's.
pub(crate) fn key_fault(_: crate::tx::keys::BadKey) -> LocalFault {
    local("a channel key could not be derived")
}
