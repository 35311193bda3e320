//! What clients see: bitcoind's methods, errors and field names.
//!
//! In: a method and its parameters. Out: a JSON value, or an [`RpcError`] with bitcoind's code. `table` is the one
//! list of commands; the handlers stand in a file for each area. Read next: `table`, `call`, `json`.

mod args;
mod blocks;
mod blocks_json;
mod call;
mod control;
mod decode;
mod descriptor;
mod error;
mod json;
mod mempool;
mod mining;
mod package;
mod send;
mod table;
mod tx;
mod wait;
mod wallet;

pub use call::answer;
pub use json::hex;
