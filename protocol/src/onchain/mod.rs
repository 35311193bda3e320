//! After a commitment was published: watching its outputs and taking what is ours (BOLT 5).
//!
//! In: the transaction that spent the funding output, blocks, preimages, feerates. Out: transactions that claim, orders
//! to the wallet for those that cannot pay their own fee, and the end of every HTLC that was under way.
//!
//! * `identify` – whose commitment it is, which of thousands, and what each output of it is
//! * `unlock` – how an output is spent by us, from when on, and until when it is ours alone
//! * `claim` – outputs gathered into transactions, raised in fee as their deadline comes near
//! * `split` – a batch taken apart when one of its outputs holds up the others, or time runs out
//! * `bump` – transactions that need coins of the wallet: zero-fee HTLC transactions, and a child for our commitment
//! * `follow` – blocks: spends, preimages, second-level outputs, and all of it undone
//! * `retire` – when all is over, and what is kept then
//! * `deadline` – when an HTLC closes a channel
//!
//! What is claimed is worked out anew at every block from the watch and the chain; only transactions that may be in
//! somebody's mempool are remembered. So a restart or a reorganisation needs no case of its own.
//! Read next: `identify`, then `unlock`.

pub mod bump;
pub mod claim;
mod deadline;
mod follow;
mod identify;
mod retire;
mod split;
pub(crate) mod unlock;

use crate::id::{HtlcId, PaymentHash, Preimage, Side};
use crate::units::{Height, Msat, Sat};
use alloc::vec::Vec;
use bitcoin::{OutPoint, Transaction, Txid};
use claim::Claim;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

/// How deep, in blocks, an end on chain must lie before the payer of an HTLC is told that it failed: a reorganisation of six
/// blocks leaves it where it is (docs/decisions/seven-deep.md).
pub const SETTLED_DEPTH: u32 = 7;
/// How deep, in blocks, everything must lie before a channel is done with (BOLT 5: "irrevocably resolved").
pub const RESOLVED_DEPTH: u32 = 100;

/// What a published commitment is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// It was the newest, or the peer's next: nobody cheats.
    Valid,
    /// It was given up. The peer's: everything is ours. Ours: the peer may take everything.
    Revoked,
    /// Later than any this node knows of: it lost state, and claims what its own key alone can take.
    Ahead,
}

/// What an output is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// The balance of the commitment's owner.
    ToLocal,
    /// The other side's balance.
    ToRemote,
    /// The anchor of the commitment's owner.
    AnchorOwner,
    /// The other side's anchor.
    AnchorOther,
    /// An HTLC.
    Htlc,
    /// What an HTLC transaction of the commitment's owner paid to.
    Second,
    /// Not recognised.
    Unknown,
}

impl Kind {
    /// As JSON names it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ToLocal => "to_local",
            Kind::ToRemote => "to_remote",
            Kind::AnchorOwner => "anchor_owner",
            Kind::AnchorOther => "anchor_other",
            Kind::Htlc => "htlc",
            Kind::Second => "htlc_second_stage",
            Kind::Unknown => "unknown",
        }
    }
}

/// What locks an HTLC.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// Its name.
    pub id: HtlcId,
    /// How much.
    pub amount: Msat,
    /// The hash.
    pub payment_hash: PaymentHash,
    /// The deadline.
    pub cltv_expiry: Height,
    /// Its secret, once the chain told it.
    pub preimage: Option<Preimage>,
}

/// Who spent an output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spent {
    /// By which transaction.
    pub txid: Txid,
    /// In which block.
    pub height: Height,
    /// It was one of ours.
    pub ours: bool,
}

/// One output that matters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Where it is.
    pub outpoint: OutPoint,
    /// How much.
    pub amount: Sat,
    /// What it is.
    pub kind: Kind,
    /// Of an HTLC: its lock.
    pub lock: Option<Lock>,
    /// In which block it came to be; `None` while unconfirmed.
    pub born: Option<Height>,
    /// By whom it was spent.
    pub spent: Option<Spent>,
}

impl Output {
    /// How it stands, as JSON names it.
    pub fn state(&self) -> &'static str {
        match self.spent {
            Some(spent) if spent.ours => "taken by this node",
            Some(_) => "taken by another",
            None if self.born.is_none() => "unconfirmed",
            None => "unspent",
        }
    }
}

/// A published commitment and everything that hangs on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// The commitment, as published.
    pub commitment: Transaction,
    /// Whose it is.
    pub owner: Side,
    /// What it is worth.
    pub standing: Standing,
    /// Its number.
    pub number: u64,
    /// Its point; `None` when it is not known any more.
    pub point: Option<PublicKey>,
    /// Its outputs, and those of second-level transactions.
    pub outputs: Vec<Output>,
    /// Transactions of ours that may be in a mempool or a block.
    pub claims: Vec<Claim>,
    /// The number of the next claim.
    pub next_claim: u32,
}

impl Watch {
    /// In which block the commitment is.
    pub fn born(&self) -> Option<Height> {
        let txid = self.commitment.compute_txid();
        self.outputs.iter().find(|o| o.outpoint.txid == txid).and_then(|o| o.born)
    }

    /// The output at `outpoint`.
    pub fn output(&self, outpoint: &OutPoint) -> Option<&Output> {
        self.outputs.iter().find(|o| o.outpoint == *outpoint)
    }

    /// The block at `from` and all after it are gone; whether anything changed.
    pub(crate) fn undo(&mut self, from: Height) -> bool {
        let before = self.outputs.len();
        // What a second-level transaction made comes again with it, or never.
        self.outputs.retain(|o| o.kind != Kind::Second || o.born.is_some_and(|h| h < from));
        let mut changed = self.outputs.len() != before;
        for output in &mut self.outputs {
            if output.born.is_some_and(|h| h >= from) {
                output.born = None;
                changed = true;
            }
            if output.spent.is_some_and(|s| s.height >= from) {
                output.spent = None;
                changed = true;
            }
        }
        changed
    }

    /// What the network said of the newest version of a claim, and whether that changed anything; `None` when it is no claim
    /// of ours. Refusals are counted until one version is taken: a raised version that is refused as well is no new
    /// beginning.
    pub(crate) fn answered(&mut self, txid: &Txid, taken: bool) -> Option<bool> {
        let claim = self.claims.iter_mut().find(|c| c.txids.last() == Some(txid))?;
        let before = claim.refusals;
        claim.refusals = if taken { 0 } else { before.saturating_add(1) };
        claim.kept = true;
        Some(claim.refusals != before)
    }

    /// Whether somebody broke the rules, and who.
    pub fn cheat(&self) -> Option<Side> {
        (self.standing == Standing::Revoked).then_some(self.owner)
    }
}
