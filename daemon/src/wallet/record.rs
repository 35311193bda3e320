//! What the wallet keeps: changes as bytes, and back.
//!
//! In: a change. Out: a version byte, a byte that tells a part from the whole, and JSON: BDK's own change set (which
//! it promises to read in later versions) and our reservations, those of users too. No secret is in it.
//! Read next: `wallet`.

use super::WalletError;
use bdk_wallet::chain::Merge;
use bdk_wallet::ChangeSet;
use bitcoin::{OutPoint, Txid};
use chand_protocol::units::Height;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u8 = 1;
/// How many of the newest blocks stay known when older ones are dropped.
const BLOCKS_KEPT: u32 = 300;

/// Whether a change adds to those before it or stands for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Part,
    Whole,
}

/// One change.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Change {
    /// BDK's part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bdk: Option<ChangeSet>,
    /// Coins reserved for a transaction; `None`: no longer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) reservations: BTreeMap<Txid, Option<Vec<OutPoint>>>,
    /// Coins that a user put aside, until which height; `None`: no longer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) leases: BTreeMap<OutPoint, Option<u32>>,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.bdk.is_none() && self.reservations.is_empty() && self.leases.is_empty()
    }

    /// True when all it says is that blocks came which hold nothing of ours.
    pub(super) fn is_blocks_only(&self) -> bool {
        let Some(bdk) = &self.bdk else { return false };
        let blocks = &bdk.local_chain.blocks;
        let rest = ChangeSet { local_chain: Default::default(), ..bdk.clone() };
        let nothing_else = self.reservations.is_empty() && self.leases.is_empty();
        nothing_else && rest.is_empty() && blocks.values().all(Option::is_some)
    }

    pub(super) fn merge_bdk(&mut self, staged: ChangeSet) {
        match &mut self.bdk {
            Some(bdk) => bdk.merge(staged),
            None => self.bdk = Some(staged),
        }
    }
}

pub(super) fn encode(change: &Change, kind: Kind) -> Vec<u8> {
    let mut out = vec![VERSION, u8::from(kind == Kind::Whole)];
    // Writing maps with text keys into memory cannot fail; were it to, loading would say so.
    if serde_json::to_writer(&mut out, change).is_err() {
        out.truncate(2);
    }
    out
}

fn decode(bytes: &[u8]) -> Result<(Kind, Change), WalletError> {
    let bad = |why: String| WalletError::Record(why);
    let [version, kind, json @ ..] = bytes else { return Err(bad("one is too short".into())) };
    if *version != VERSION {
        return Err(bad(format!("one has version {version}, known is {VERSION}")));
    }
    let kind = match kind {
        0 => Kind::Part,
        1 => Kind::Whole,
        other => return Err(bad(format!("one is of kind {other}"))),
    };
    let change = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
    Ok((kind, change))
}

/// What all changes together say.
#[derive(Default)]
pub(super) struct Merged {
    /// BDK's state.
    pub(super) total: ChangeSet,
    /// Coins of channels' transactions.
    pub(super) reserved: BTreeMap<Txid, Vec<OutPoint>>,
    /// Coins that users put aside.
    pub(super) leases: BTreeMap<OutPoint, Height>,
}

/// Reads changes, oldest first.
pub(super) fn merge(changes: Vec<Vec<u8>>) -> Result<Merged, WalletError> {
    let Merged { mut total, mut reserved, mut leases } = Merged::default();
    for bytes in changes {
        let (kind, change) = decode(&bytes)?;
        if kind == Kind::Whole {
            total = ChangeSet::default();
            reserved.clear();
            leases.clear();
        }
        if let Some(bdk) = change.bdk {
            check(&total, &bdk)?;
            total.merge(bdk);
        }
        for (txid, coins) in change.reservations {
            match coins {
                Some(coins) => reserved.insert(txid, coins),
                None => reserved.remove(&txid),
            };
        }
        for (outpoint, until) in change.leases {
            match until {
                Some(until) => leases.insert(outpoint, Height(until)),
                None => leases.remove(&outpoint),
            };
        }
    }
    Ok(Merged { total, reserved, leases })
}

/// BDK takes these for granted when it merges; bytes from a disk may say anything.
fn check(total: &ChangeSet, next: &ChangeSet) -> Result<(), WalletError> {
    fn same<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
        a.is_none() || b.is_none() || a == b
    }
    let fits = same(&total.network, &next.network)
        && same(&total.descriptor, &next.descriptor)
        && same(&total.change_descriptor, &next.change_descriptor);
    fits.then_some(()).ok_or(WalletError::WrongSeed)
}

/// Drops what nothing depends on: old blocks in which nothing of ours lies, and blocks that were taken back.
pub(super) fn prune(total: &mut ChangeSet) {
    let anchors: BTreeSet<u32> =
        total.tx_graph.anchors.iter().map(|(anchor, _)| anchor.block_id.height).collect();
    let blocks = &mut total.local_chain.blocks;
    blocks.retain(|_, hash| hash.is_some());
    let tip = blocks.last_key_value().map_or(0, |(height, _)| *height);
    let oldest = tip.saturating_sub(BLOCKS_KEPT);
    blocks.retain(|height, _| *height == 0 || *height >= oldest || anchors.contains(height));
}
