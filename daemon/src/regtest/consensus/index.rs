//! The tree of all known blocks.
//!
//! In: blocks in order of arrival, marks of invalidity. Out: each block's height, work, median time and standing, and
//! the best block: the most work, of equal work the first to arrive. That choice depends on nothing else, so that
//! the blocks and marks read back from disk give the same chain again. Read next: `activate`.

use super::params::{genesis, BITS, MEDIAN_SPAN};
use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Work};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A known block.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub hash: BlockHash,
    pub header: Header,
    pub height: u32,
    /// Work up to and with this block.
    pub chainwork: Work,
    /// Median time of the eleven blocks up to and with this one.
    pub median_time: u32,
    /// Place in the order of arrival.
    pub arrival: usize,
    pub tx_count: usize,
    /// The block; none if it was refused before it was stored.
    pub block: Option<Arc<Block>>,
    /// Breaks a rule itself, or was invalidated by name.
    pub own_fault: bool,
    /// It or a block below it has a fault.
    pub failed: bool,
    /// Every rule was checked, scripts too.
    pub validated: bool,
}

/// All known blocks, genesis always among them.
#[derive(Debug)]
pub(super) struct BlockIndex {
    entries: BTreeMap<BlockHash, Entry>,
    /// Hashes in order of arrival: a block comes after the one it builds on.
    order: Vec<BlockHash>,
}

impl BlockIndex {
    /// Genesis alone, and its hash.
    pub(super) fn new() -> (Self, BlockHash) {
        let block = Arc::new(genesis());
        let hash = block.block_hash();
        let genesis = Entry {
            hash,
            header: block.header,
            height: 0,
            chainwork: block.header.work(),
            median_time: block.header.time,
            arrival: 0,
            tx_count: block.txdata.len(),
            block: Some(block),
            own_fault: false,
            failed: false,
            validated: true,
        };
        (Self { entries: BTreeMap::from([(hash, genesis)]), order: vec![hash] }, hash)
    }

    pub(super) fn get(&self, hash: &BlockHash) -> Option<&Entry> {
        self.entries.get(hash)
    }

    /// The entry a block builds on.
    pub(super) fn parent(&self, entry: &Entry) -> Option<&Entry> {
        if entry.height == 0 {
            return None;
        }
        self.entries.get(&entry.header.prev_blockhash)
    }

    /// Adds a block whose header was checked, and returns its height; `None` if its predecessor is not known, or it
    /// is known itself.
    pub(super) fn insert(&mut self, hash: BlockHash, block: Arc<Block>) -> Option<u32> {
        let (header, tx_count) = (block.header, block.txdata.len());
        self.insert_entry(hash, header, tx_count, Some(block))
    }

    /// Adds a block that was refused, without its transactions.
    pub(super) fn insert_refused(&mut self, hash: BlockHash, block: &Block) {
        if self.insert_entry(hash, block.header, block.txdata.len(), None).is_some() {
            self.set_fault(&hash);
        }
    }

    fn insert_entry(
        &mut self,
        hash: BlockHash,
        header: Header,
        tx_count: usize,
        block: Option<Arc<Block>>,
    ) -> Option<u32> {
        // All work is counted alike, so its sum cannot overflow.
        if self.entries.contains_key(&hash) || header.bits.to_consensus() != BITS {
            return None;
        }
        let parent = self.entries.get(&header.prev_blockhash)?;
        let height = parent.height.checked_add(1)?;
        let entry = Entry {
            hash,
            header,
            height,
            chainwork: parent.chainwork + header.work(),
            median_time: self.median_time(header.time, parent),
            arrival: self.order.len(),
            tx_count,
            block,
            own_fault: false,
            failed: parent.failed,
            validated: false,
        };
        self.entries.insert(hash, entry);
        self.order.push(hash);
        Some(height)
    }

    /// Median of `time` and the times of the ten blocks down from `parent`; of fewer near genesis.
    fn median_time(&self, time: u32, parent: &Entry) -> u32 {
        let below = std::iter::successors(Some(parent), |entry| self.parent(entry));
        let mut times: Vec<u32> =
            std::iter::once(time).chain(below.map(|entry| entry.header.time)).take(MEDIAN_SPAN).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(time)
    }

    /// Removes the block that arrived last, if that is `hash`.
    pub(super) fn forget_last(&mut self, hash: &BlockHash) {
        if self.order.last() == Some(hash) {
            self.order.pop();
            self.entries.remove(hash);
        }
    }

    /// Notes that every rule was checked.
    pub(super) fn set_validated(&mut self, hash: &BlockHash) {
        if let Some(entry) = self.entries.get_mut(hash) {
            entry.validated = true;
        }
    }

    /// Marks a block, and with it all that builds on it.
    pub(super) fn set_fault(&mut self, hash: &BlockHash) {
        if let Some(entry) = self.entries.get_mut(hash) {
            entry.own_fault = true;
        }
        self.spread_faults();
    }

    /// Takes the marks from a block, its ancestors and its descendants.
    pub(super) fn clear_faults(&mut self, hash: &BlockHash) {
        let mut cleared = BTreeSet::from([*hash]);
        for hash in &self.order {
            // `order` has parents first, so descendants are found in one pass.
            let prev = self.entries.get(hash).map(|entry| entry.header.prev_blockhash);
            if prev.is_some_and(|prev| cleared.contains(&prev)) {
                cleared.insert(*hash);
            }
        }
        let mut below = self.entries.get(hash);
        while let Some(entry) = below {
            cleared.insert(entry.hash);
            below = self.parent(entry);
        }
        for entry in self.entries.values_mut() {
            // One refused before it was stored stays refused: there is nothing to look at again.
            if entry.block.is_some() && cleared.contains(&entry.hash) {
                entry.own_fault = false;
            }
        }
        self.spread_faults();
    }

    /// Sets `failed` on all blocks from their own faults and their parents'.
    fn spread_faults(&mut self) {
        for hash in &self.order {
            let Some(entry) = self.entries.get(hash) else { continue };
            let failed = entry.own_fault || self.parent(entry).is_some_and(|parent| parent.failed);
            if let Some(entry) = self.entries.get_mut(hash) {
                entry.failed = failed;
            }
        }
    }

    /// The block the active chain should end with; genesis at least.
    pub(super) fn best(&self) -> Option<&Entry> {
        let usable = self.entries.values().filter(|entry| !entry.failed && entry.block.is_some());
        usable.max_by_key(|entry| (entry.chainwork, Reverse(entry.arrival)))
    }

    /// Blocks that no other builds on, in order of arrival.
    pub(super) fn leaves(&self) -> Vec<&Entry> {
        let parents: BTreeSet<BlockHash> =
            self.entries.values().map(|entry| entry.header.prev_blockhash).collect();
        let leaves = self.order.iter().filter(|hash| !parents.contains(*hash));
        leaves.filter_map(|hash| self.entries.get(hash)).collect()
    }
}
