//! The numbers of Bitcoin's regtest.
//!
//! In: a height. Out: limits, subsidy, genesis. Read next: `block`, where most of them are asked.

use bitcoin::constants::genesis_block;
use bitcoin::{Amount, Block, Network};

/// Compact target of every regtest block; there is no retargeting.
pub const BITS: u32 = 0x207f_ffff;
/// Weight limit of a block, in weight units (BIP 141).
pub const MAX_BLOCK_WEIGHT: usize = 4_000_000;
/// Weight units of a byte that is not witness (BIP 141).
pub const WITNESS_SCALE: usize = 4;
/// Signature operation cost limit of a block (BIP 141).
pub const MAX_SIGOPS_COST: usize = 80_000;
/// Confirmations a coinbase needs before the next block may spend it, in blocks.
pub const COINBASE_MATURITY: u32 = 100;
/// A block may be this far ahead of the clock, in seconds.
pub const MAX_FUTURE_SECONDS: u32 = 2 * 60 * 60;
/// Blocks whose times make the median time (BIP 113).
pub const MEDIAN_SPAN: usize = 11;
/// Blocks between halvings of the subsidy on regtest.
pub const HALVING_BLOCKS: u32 = 150;
/// Lowest block version: BIP 34, 66 and 65 each raised it by one.
pub const MIN_BLOCK_VERSION: i32 = 4;
/// Version of mined blocks: BIP 9's top bits and no signal.
pub const MINED_VERSION: i32 = 0x2000_0000;
/// Scripts longer than this can never be spent, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 10_000;

/// What a block at `height` may make from nothing.
pub fn subsidy(height: u32) -> Amount {
    let halvings = height / HALVING_BLOCKS;
    Amount::from_sat(Amount::from_int_btc(50).to_sat().checked_shr(halvings).unwrap_or(0))
}

/// Regtest's first block.
pub fn genesis() -> Block {
    genesis_block(Network::Regtest)
}
