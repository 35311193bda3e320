//! What the chain tells about itself.
//!
//! In: nothing. Out: plain records for the RPC and the mempool. Read next: `state`, which fills them.

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Work};
use std::sync::Arc;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What a call changed in the active chain. Both lists are empty if only a side chain grew: `submitblock` then says
/// `inconclusive`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Submit {
    /// Blocks that left the active chain, the tip first.
    pub disconnected: Vec<Arc<Block>>,
    /// Blocks that joined it, the lowest first.
    pub connected: Vec<Arc<Block>>,
}

impl Submit {
    /// Whether the active chain is as it was.
    pub fn is_empty(&self) -> bool {
        self.disconnected.is_empty() && self.connected.is_empty()
    }
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

/// A block that no other builds on, or the active tip.
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
