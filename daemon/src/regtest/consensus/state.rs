//! The chain: blocks, coins and transactions of one regtest, and questions about them.
//!
//! In: a data directory, or nothing for a chain in memory. Out: [`ChainState`]. What changes it stands in `activate`
//! and `mine`; memory holds everything, the file of `store` is read once, at start.

use super::connect::{check_scripts, connect, Connected, Depth, Place};
use super::index::{BlockIndex, Entry};
use super::info::{BlockInfo, BlockStatus, ChainTip, TipInfo, TipStatus};
use super::reject::{BlockReject, ChainError, TxReject};
use super::store::{Op, Store};
use super::tx::{check_input_values, check_transaction, is_final, sequence_locks_passed};
use super::utxo::{apply, revert, Coin, Coins};
use bitcoin::{Amount, Block, BlockHash, OutPoint, Transaction, Txid};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An active block, besides what the index knows of it.
struct ActiveBlock {
    hash: BlockHash,
    txids: Vec<Txid>,
    /// The coins it spent, in order of its inputs, coinbase left out.
    spent: Vec<Coin>,
}

/// Blocks, coins and transactions of one regtest chain. Single-threaded: its owner keeps it behind one lock.
pub struct ChainState {
    pub(super) index: BlockIndex,
    /// The active chain; the position is the height, genesis is always there.
    active: Vec<ActiveBlock>,
    coins: Coins,
    /// Height and position of the active chain's transactions, those of genesis left out.
    txs: BTreeMap<Txid, (u32, usize)>,
    store: Option<Store>,
    /// A write failed, or a reorganisation could not be taken back: memory cannot be trusted.
    broken: bool,
}

impl ChainState {
    /// Opens or creates the chain in `dir`, which is created if missing. Only one process may have it open.
    ///
    /// # Errors
    /// The file cannot be read or written, is damaged before its end, or is not a chain.
    pub fn open(dir: &Path) -> Result<Self, ChainError> {
        let (store, ops) = Store::open(dir)?;
        let mut state = Self::in_memory();
        state.replay(ops)?;
        state.store = Some(store);
        Ok(state)
    }

    /// A chain that is not stored, holding only the genesis block.
    pub fn in_memory() -> Self {
        let (index, hash) = BlockIndex::new();
        let genesis = ActiveBlock { hash, txids: Vec::new(), spent: Vec::new() };
        Self {
            index,
            active: vec![genesis],
            coins: Coins::new(),
            txs: BTreeMap::new(),
            store: None,
            broken: false,
        }
    }

    /// Rebuilds the chain. A call was written only after its active chain was found valid, so scripts need not run.
    fn replay(&mut self, ops: Vec<Op>) -> Result<(), ChainError> {
        for op in ops {
            match op {
                Op::Block(block) => {
                    let hash = block.block_hash();
                    let reason = || "unknown predecessor, or stored twice".to_string();
                    let inserted = self.index.insert(hash, block);
                    inserted.ok_or_else(|| ChainError::Replay { hash, reason: reason() })?;
                }
                Op::Invalid(hash) => self.index.set_fault(&hash),
                Op::Reconsider(hash) => self.index.clear_faults(&hash),
            }
        }
        let best = self.index.best().map(|entry| entry.hash);
        for hash in best.map(|best| self.path_from_active(&best)).unwrap_or_default() {
            self.connect_tip(&hash, Depth::Seen)
                .map_err(|reject| ChainError::Replay { hash, reason: reject.reason() })?;
        }
        Ok(())
    }

    /// The tip.
    pub fn tip(&self) -> TipInfo {
        let entry = self.active.last().and_then(|block| self.index.get(&block.hash));
        // Genesis is never taken from the chain, so there is an entry; without one, genesis' own facts stand in.
        entry.map_or_else(
            || {
                let genesis = super::params::genesis();
                let time = genesis.header.time;
                TipInfo { height: 0, hash: genesis.block_hash(), median_time: time, time }
            },
            |entry| TipInfo {
                height: entry.height,
                hash: entry.hash,
                median_time: entry.median_time,
                time: entry.header.time,
            },
        )
    }

    /// Hash of the active block at `height`.
    pub fn block_hash(&self, height: u32) -> Option<BlockHash> {
        self.active.get(usize::try_from(height).ok()?).map(|block| block.hash)
    }

    /// The index entry of any known block.
    pub fn info(&self, hash: &BlockHash) -> Option<BlockInfo> {
        let entry = self.index.get(hash)?;
        let active = self.is_active(entry);
        let status = match (active, entry.failed) {
            (true, _) => BlockStatus::Active,
            (false, true) => BlockStatus::Invalid,
            (false, false) => BlockStatus::Stale,
        };
        let above = i64::from(self.tip().height) - i64::from(entry.height);
        Some(BlockInfo {
            hash: entry.hash,
            header: entry.header,
            height: entry.height,
            prev: self.index.parent(entry).map(|parent| parent.hash),
            status,
            chainwork: entry.chainwork,
            confirmations: if active { above + 1 } else { -1 },
            next: entry.height.checked_add(1).filter(|_| active).and_then(|next| self.block_hash(next)),
            tx_count: entry.tx_count,
            median_time: entry.median_time,
        })
    }

    /// Any stored block, active or not.
    pub fn block(&self, hash: &BlockHash) -> Option<Arc<Block>> {
        self.index.get(hash)?.block.clone()
    }

    /// An unspent output of the active chain. Outputs that can never be spent are not kept.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<Coin> {
        self.coins.get(outpoint).cloned()
    }

    /// All unspent outputs of the active chain, in order of their outpoints.
    pub fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// The coins an active block spent, in order of its inputs, coinbase left out.
    pub fn spent_coins(&self, hash: &BlockHash) -> Option<&[Coin]> {
        let height = usize::try_from(self.index.get(hash)?.height).ok()?;
        self.active.get(height).filter(|block| block.hash == *hash).map(|block| block.spent.as_slice())
    }

    /// Block, height and position of a transaction of the active chain, genesis left out.
    pub fn find_tx(&self, txid: &Txid) -> Option<(BlockHash, u32, usize)> {
        let (height, position) = *self.txs.get(txid)?;
        Some((self.block_hash(height)?, height, position))
    }

    /// Median time of the eleven active blocks up to and with `height`, Unix seconds (BIP 113).
    pub fn median_time_past(&self, height: u32) -> Option<u32> {
        Some(self.index.get(&self.block_hash(height)?)?.median_time)
    }

    /// Ends of all branches, the active tip first.
    pub fn chain_tips(&self) -> Vec<ChainTip> {
        let tip = self.tip();
        let own = ChainTip { height: tip.height, hash: tip.hash, branch_len: 0, status: TipStatus::Active };
        let mut tips = vec![own];
        for entry in self.index.leaves() {
            if self.is_active(entry) {
                continue;
            }
            let status = match (entry.failed, entry.validated) {
                (true, _) => TipStatus::Invalid,
                (false, true) => TipStatus::ValidFork,
                (false, false) => TipStatus::ValidHeaders,
            };
            let branch_len = u32::try_from(self.path_from_active(&entry.hash).len()).unwrap_or(u32::MAX);
            tips.push(ChainTip { height: entry.height, hash: entry.hash, branch_len, status });
        }
        tips
    }

    /// Bytes of the block file; 0 for a chain in memory.
    pub fn size_on_disk(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::size)
    }

    /// Every consensus rule for `tx` in a block at `height` whose predecessor's median time is `mtp`, Unix seconds.
    /// `coins[i]` is spent by input `i`; a coin of the mempool has `height` as its own. Returns the fee.
    ///
    /// # Errors
    /// The first rule broken, asked in bitcoind's order.
    pub fn check_tx_inputs(
        &self,
        tx: &Transaction,
        coins: &[Coin],
        height: u32,
        mtp: u32,
    ) -> Result<Amount, TxReject> {
        check_transaction(tx)?;
        if tx.is_coinbase() {
            return Err(TxReject::Coinbase);
        }
        if !is_final(tx, height, mtp) {
            return Err(TxReject::NonFinal);
        }
        if coins.len() != tx.input.len() {
            return Err(TxReject::MissingInputs);
        }
        if !sequence_locks_passed(tx, coins, height, mtp, &|height| self.median_time_past(height)) {
            return Err(TxReject::SequenceLocks);
        }
        let fee = check_input_values(tx, coins, height)?;
        check_scripts(tx, coins)?;
        Ok(fee)
    }

    pub(super) fn coins_map(&self) -> &Coins {
        &self.coins
    }

    pub(super) fn knows(&self, hash: &BlockHash) -> bool {
        self.index.get(hash).is_some()
    }

    fn is_active(&self, entry: &Entry) -> bool {
        self.block_hash(entry.height) == Some(entry.hash)
    }

    /// The blocks to connect for `hash` to be the tip, the lowest first: those above the active chain.
    pub(super) fn path_from_active(&self, hash: &BlockHash) -> Vec<BlockHash> {
        let mut path = Vec::new();
        let mut next = self.index.get(hash);
        while let Some(entry) = next.filter(|entry| !self.is_active(entry)) {
            path.push(entry.hash);
            next = self.index.parent(entry);
        }
        path.reverse();
        path
    }

    /// Checks a block, whose header is good, on top of the tip.
    pub(super) fn try_on_tip(&self, block: &Block, depth: Depth) -> Result<Connected, BlockReject> {
        let tip = self.tip();
        let place = Place {
            height: tip.height.saturating_add(1),
            prev_mtp: tip.median_time,
            mtp_at: &|height| self.median_time_past(height),
            coins: &self.coins,
        };
        connect(block, &place, depth)
    }

    /// Puts a stored block on top of the tip it builds on.
    pub(super) fn connect_tip(&mut self, hash: &BlockHash, depth: Depth) -> Result<Arc<Block>, BlockReject> {
        let block = self.block(hash).ok_or(ChainError::UnknownBlock)?;
        let connected = self.try_on_tip(&block, depth)?;
        self.apply_connected(*hash, connected);
        Ok(block)
    }

    /// Carries out what `try_on_tip` found.
    pub(super) fn apply_connected(&mut self, hash: BlockHash, connected: Connected) {
        let Connected { changes, spent, txids } = connected;
        let height = self.tip().height.saturating_add(1);
        self.txs.extend(txids.iter().enumerate().map(|(position, txid)| (*txid, (height, position))));
        apply(&mut self.coins, changes);
        self.active.push(ActiveBlock { hash, txids, spent });
        self.index.set_validated(&hash);
    }

    /// Takes the tip off; `None` at genesis.
    pub(super) fn disconnect_tip(&mut self) -> Option<Arc<Block>> {
        if self.active.len() <= 1 {
            return None;
        }
        let ActiveBlock { hash, txids, spent } = self.active.pop()?;
        for txid in &txids {
            self.txs.remove(txid);
        }
        let block = self.block(&hash)?;
        revert(&mut self.coins, &block, &txids, spent);
        Some(block)
    }

    /// Takes back the newest `count` blocks as if they had never been.
    pub(super) fn drop_unsaved(&mut self, count: usize) {
        for _ in 0..count {
            let hash = self.tip().hash;
            self.disconnect_tip();
            self.index.forget_last(&hash);
        }
    }

    /// Writes ops down. After an error other than [`ChainError::TooLarge`] the chain takes no more changes.
    pub(super) fn save(&mut self, ops: &[Op]) -> Result<(), ChainError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let saved = store.append(ops);
        if let Err(error) = &saved {
            self.broken |= !matches!(error, ChainError::TooLarge(_));
        }
        saved
    }

    /// Refuses changes once memory and disk may differ.
    pub(super) fn usable(&self) -> Result<(), ChainError> {
        if self.broken {
            return Err(ChainError::Broken);
        }
        Ok(())
    }

    /// Makes the next write fail.
    #[cfg(test)]
    pub(super) fn break_store(&mut self, dir: &Path) {
        self.store.as_mut().unwrap().break_file(dir);
    }

    pub(super) fn set_broken(&mut self) {
        self.broken = true;
    }
}
