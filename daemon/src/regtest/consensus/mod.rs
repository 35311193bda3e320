//! The consensus half of the embedded chain: real Bitcoin regtest, in memory, with an append-only block file.
//!
//! In: blocks (from `submitblock`) and orders to mine, invalidate or reconsider. Out: [`Submit`], what left and what
//! joined the active chain, and read access to blocks, coins and transactions. Read next: `state`
//! ([`ChainState`]), then `block` and `connect` (the rules), `script`, `store` (the file).

pub mod reject;
pub mod script;
pub mod state;

pub use reject::{BlockReject, ChainError, TxReject};
pub use script::{verify_inputs, ScriptReject};
pub use state::{
    BlockInfo, BlockStatus, ChainState, ChainTip, Coin, Submit, TipInfo, TipStatus,
};
