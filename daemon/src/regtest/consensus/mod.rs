//! The consensus half of the embedded chain: real Bitcoin regtest, in memory, with an append-only block file.
//!
//! In: blocks (from `submitblock`) and orders to mine, invalidate or reconsider. Out: [`Submit`], what left and what
//! joined the active chain, and read access to blocks, coins and transactions. Read next: `state`
//! ([`ChainState`]), `activate` (which chain is the active one), then `block`, `tx` and `connect` (the rules),
//! `script`, `store` (the file).

mod activate;
mod block;
mod connect;
mod header;
mod index;
mod info;
mod mine;
pub mod params;
mod reject;
pub mod script;
mod sigops;
mod state;
mod store;
mod tx;
mod utxo;

#[cfg(test)]
mod tests;

pub use block::add_reserved_value;
pub use info::{BlockInfo, BlockStatus, ChainTip, Submit, TipInfo, TipStatus};
pub use reject::{BlockReject, ChainError, TxReject};
pub use script::{verify_inputs, ScriptFault, ScriptReject};
pub use state::ChainState;
pub use tx::{check_transaction, is_final};
pub use utxo::Coin;
