//! Watching while away: what a node hands to a watchtower, and what a tower does with it when the peer cheats.
//!
//! In: commitments of the peer's as they are revoked. Out: for each a small sealed blob, which opens only with the txid
//! of that commitment; and, once that txid is in a block, the transactions that take its outputs.
//!
//! * `seal` – what is sealed under which key: blobs under a txid, terms and HTLCs under a seed that the blobs hold
//! * `blob` – what a blob says, in the mode that trusts the tower and in the mode that need not
//! * `presigned` – penalties signed in advance
//! * `message` – what node and tower say to each other
//! * `guard` – the tower's work on a breach: outputs, claims, second-level outputs, reorganisations
//!
//! Everything here is pure; the daemon moves the bytes, keeps the files and follows the chain.
//! Why it is so: `docs/decisions/watchtower.md`. Read next: `seal`, then `guard`.

pub mod blob;
pub mod guard;
pub mod message;
pub mod presigned;
pub mod seal;

use crate::id::{HtlcId, PaymentHash, Side};
use crate::tx::ChannelType;
use crate::units::{Height, Sat};
use alloc::vec::Vec;
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Txid};
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The first half of a revoked commitment's txid: what a tower finds it by.
pub type Hint = [u8; 16];
/// A channel's name between a node and a tower; says nothing of the channel.
pub type Tag = [u8; 16];
/// The name of a sealed entry; says nothing of the entry.
pub type EntryId = [u8; 16];

/// The hint of a transaction.
pub fn hint(txid: &Txid) -> Hint {
    let (mut hint, bytes) = ([0; 16], txid.to_byte_array());
    hint.copy_from_slice(&bytes[..16]);
    hint
}

/// How far a tower is trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Mode {
    /// It gets a revoked state's key: takes everything, second-level outputs too, and could keep it.
    Key,
    /// It gets signed transactions: takes `to_local` for us, and can do nothing else.
    Presigned,
}

impl Mode {
    /// As options and JSON name it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Key => "key",
            Mode::Presigned => "presigned",
        }
    }
}

/// HTLCs of one side with consecutive ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Who offered them, from the client's side.
    pub offered_by: Side,
    /// The first id.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Run {
    /// Its HTLCs, at most `most`.
    pub fn ids(self, most: usize) -> impl Iterator<Item = HtlcId> {
        let count = self.count.min(u64::try_from(most).unwrap_or(u64::MAX));
        (0..count).map(move |n| HtlcId { offered_by: self.offered_by, id: self.first.saturating_add(n) })
    }
}

/// HTLCs as runs, in the order of their names.
pub fn runs(mut ids: Vec<HtlcId>) -> Vec<Run> {
    ids.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some(run)
                if run.offered_by == id.offered_by && run.first.checked_add(run.count) == Some(id.id) =>
            {
                run.count += 1;
            }
            _ => runs.push(Run { offered_by: id.offered_by, first: id.id, count: 1 }),
        }
    }
    runs
}

/// What locks an HTLC; of all that was agreed the tower needs no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HtlcNote {
    /// Its name.
    pub id: HtlcId,
    /// The hash.
    pub payment_hash: PaymentHash,
    /// The deadline.
    pub cltv_expiry: Height,
}

/// What is kept of a commitment of the peer's from its signature until every tower has it: only then is its txid known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Noted {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub txid: Txid,
    /// Its `to_local`: where, and how much.
    pub to_local: Option<(u32, Sat)>,
    /// The HTLCs that have an output.
    pub held: Vec<Run>,
    /// Those that no noted commitment before this one held, trimmed ones too.
    pub fresh: Vec<HtlcNote>,
}

/// What stays the same for all states of a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelTerms {
    /// The form of its transactions.
    pub channel_type: ChannelType,
    /// How long, in blocks, the peer waits for its own outputs.
    pub delay_blocks: u16,
    /// The peer's, for delayed outputs.
    pub delayed_basepoint: PublicKey,
    /// The peer's, for HTLC outputs.
    pub owner_htlc_basepoint: PublicKey,
    /// Ours, for HTLC outputs.
    pub other_htlc_basepoint: PublicKey,
    /// Ours, in `to_remote`: so that the tower can say that this output is nobody else's.
    pub payment_basepoint: PublicKey,
    /// Where penalties go: a script of the client's wallet.
    pub sweep: ScriptBuf,
}

/// A revoked commitment, ready to be sealed.
#[derive(Clone)]
pub struct Revoked {
    /// As it was noted.
    pub noted: Noted,
    /// The per-commitment secret that the peer revealed.
    pub secret: Zeroizing<[u8; 32]>,
}

impl core::fmt::Debug for Revoked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Revoked({})", self.noted.number)
    }
}

/// What seals the states of one channel: ours alone, and wiped when dropped.
#[derive(Clone)]
pub struct Sealing {
    /// Keys of entries, and the channel's tag.
    pub seed: seal::Seed,
    /// The secret of our revocation basepoint.
    pub revocation: Zeroizing<[u8; 32]>,
    /// What stays the same.
    pub terms: ChannelTerms,
}

impl core::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Sealing(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_each_id_once() {
        let id = |offered_by, id| HtlcId { offered_by, id };
        let (local, remote) = (Side::Local, Side::Remote);
        let ids = alloc::vec![id(remote, 4), id(local, 2), id(local, 1), id(remote, 7), id(local, 3)];
        let runs = runs(ids.clone());
        assert_eq!(runs.len(), 3);
        let mut sorted = ids;
        sorted.sort();
        assert!(runs.iter().flat_map(|r| r.ids(100)).eq(sorted));
        let far = Run { offered_by: local, first: u64::MAX, count: u64::MAX };
        assert_eq!(far.ids(3).count(), 3);
    }
}
