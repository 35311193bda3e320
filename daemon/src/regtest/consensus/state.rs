//! The chain state: SKELETON with the final signatures, bodies follow.
use super::{BlockReject, ChainError, TxReject};
use bitcoin::block::Header;
use bitcoin::{Amount, Block, BlockHash, OutPoint, Script, Transaction, TxOut, Txid, Work};
use std::path::Path;
use std::sync::Arc;

/// An unspent output of the confirmed chain (or, built by the mempool, one of its own).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// Value and script.
    pub out: TxOut,
    /// Height of the block that made it; for a mempool coin, the tip's height + 1.
    pub height: u32,
    /// Made by a coinbase.
    pub coinbase: bool,
}

/// The active chain's last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TipInfo {
    /// Height; genesis is 0.
    pub height: u32,
    /// Hash.
    pub hash: BlockHash,
    /// Median time of the last eleven blocks, tip included (BIP 113), Unix seconds.
    pub median_time: u32,
    /// The tip's own time, Unix seconds.
    pub time: u32,
}

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStatus {
    /// In the active chain.
    Active,
    /// Stored, not in the active chain.
    Stale,
    /// Breaks a rule, was invalidated, or builds on such a block.
    Invalid,
}

/// What is known of a block besides its transactions.
#[derive(Debug, Clone)]
pub struct BlockInfo {
    /// Hash.
    pub hash: BlockHash,
    /// Header.
    pub header: Header,
    /// Height; genesis is 0.
    pub height: u32,
    /// Hash of the block before; none for genesis.
    pub prev: Option<BlockHash>,
    /// Where it stands.
    pub status: BlockStatus,
    /// Work of the chain up to and with this block.
    pub chainwork: Work,
    /// Blocks from it to the tip, itself counted; −1 if it is not in the active chain.
    pub confirmations: i64,
    /// The block after it in the active chain.
    pub next: Option<BlockHash>,
    /// Number of transactions.
    pub tx_count: usize,
    /// Median time of the eleven blocks up to and with it, Unix seconds.
    pub median_time: u32,
}

/// What a call changed in the active chain. Both lists are empty if a side chain grew: `submitblock` then says
/// `inconclusive`.
#[derive(Debug, Clone, Default)]
pub struct Submit {
    /// Blocks that left the active chain, the tip first.
    pub disconnected: Vec<Arc<Block>>,
    /// Blocks that joined it, the lowest first.
    pub connected: Vec<Arc<Block>>,
}

/// `getchaintips`' word for a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TipStatus {
    /// The active chain.
    Active,
    /// Fully checked, not active.
    ValidFork,
    /// Stored, its scripts not checked yet.
    ValidHeaders,
    /// Has an invalid block.
    Invalid,
}

impl TipStatus {
    /// As `getchaintips` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ValidFork => "valid-fork",
            Self::ValidHeaders => "valid-headers",
            Self::Invalid => "invalid",
        }
    }
}

/// A block that no other builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainTip {
    /// Height.
    pub height: u32,
    /// Hash.
    pub hash: BlockHash,
    /// Blocks from it down to the active chain; 0 for the active tip.
    pub branch_len: u32,
    /// Standing.
    pub status: TipStatus,
}

/// Blocks, coins and transactions of one regtest chain. Single-threaded: its owner keeps it behind one lock.
pub struct ChainState {}

#[allow(unused_variables)]
impl ChainState {
    /// Opens or creates the chain in `dir` (created if missing).
    pub fn open(dir: &Path) -> Result<Self, ChainError> { unimplemented!() }
    /// A chain that is not stored, holding only the genesis block.
    pub fn in_memory() -> Self { unimplemented!() }

    /// The tip.
    pub fn tip(&self) -> TipInfo { unimplemented!() }
    /// Hash of the active block at `height`.
    pub fn block_hash(&self, height: u32) -> Option<BlockHash> { unimplemented!() }
    /// Index entry of any known block.
    pub fn info(&self, hash: &BlockHash) -> Option<BlockInfo> { unimplemented!() }
    /// Any stored block.
    pub fn block(&self, hash: &BlockHash) -> Option<Arc<Block>> { unimplemented!() }
    /// An unspent output of the active chain.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<Coin> { unimplemented!() }
    /// All unspent outputs, ordered (for `scantxoutset`, the faucet at start).
    pub fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> { std::iter::empty() }
    /// The coins an active block spent, in order of its inputs without the coinbase (for `getblock` 2: fees).
    pub fn spent_coins(&self, hash: &BlockHash) -> Option<&[Coin]> { unimplemented!() }
    /// Block, height and position of a transaction of the active chain (genesis excepted).
    pub fn find_tx(&self, txid: &Txid) -> Option<(BlockHash, u32, usize)> { unimplemented!() }
    /// Median time of the eleven active blocks up to and with `height`, Unix seconds (BIP 113).
    pub fn median_time_past(&self, height: u32) -> Option<u32> { unimplemented!() }
    /// Branch ends, the active one first.
    pub fn chain_tips(&self) -> Vec<ChainTip> { unimplemented!() }

    /// All consensus rules for `tx` in a block at `height` whose predecessor's median time is `mtp`; `coins[i]` is
    /// spent by input `i`. Returns the fee. (`check_transaction` alone: context-free, before coins are looked up.)
    pub fn check_tx_inputs(&self, tx: &Transaction, coins: &[Coin], height: u32, mtp: u32) -> Result<Amount, TxReject> { unimplemented!() }

    /// Takes a block; the clock is the system's.
    pub fn submit(&mut self, block: Block) -> Result<Submit, BlockReject> { unimplemented!() }
    /// As `submit`, with the clock handed in, Unix seconds (`setmocktime`).
    pub fn submit_at(&mut self, block: Block, now: u32) -> Result<Submit, BlockReject> { unimplemented!() }
    /// Checks a block on top of the tip without taking it (`generateblock` without submit, BIP 23 proposals).
    pub fn check_block(&self, block: &Block, now: u32) -> Result<(), BlockReject> { unimplemented!() }
    /// Builds and solves a block on the tip, without taking it.
    pub fn assemble(&self, script: &Script, txs: Vec<Transaction>, now: u32) -> Result<Block, BlockReject> { unimplemented!() }
    /// Mines one block on the tip.
    pub fn mine(&mut self, script: &Script, txs: Vec<Transaction>, now: u32) -> Result<Submit, BlockReject> { unimplemented!() }
    /// Mines one block for each entry of `blocks`, with one sync at the end; all or none.
    pub fn mine_many(&mut self, script: &Script, blocks: Vec<Vec<Transaction>>, now: u32) -> Result<Submit, BlockReject> { unimplemented!() }
    /// Marks a block and all that builds on it invalid.
    pub fn invalidate(&mut self, hash: &BlockHash) -> Result<Submit, ChainError> { unimplemented!() }
    /// Takes such marks back, from the block, its ancestors and its descendants.
    pub fn reconsider(&mut self, hash: &BlockHash) -> Result<Submit, ChainError> { unimplemented!() }
}
