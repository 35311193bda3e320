//! Watching while away: the program `chand watchtower`, and a node's talk with its towers.
//!
//! In: on one machine revoked states of a node's channels, on another blocks. Out: sealed states moved from the one to the
//! other, and a penalty when a blob opens. What is sealed and how a breach is punished is `chand_protocol::tower`.
//!
//! * `options`, `run` – the program; `serve` – its clients; `archive`, `file` – its files; `keeper`, `saved` – what it knows; `watch` – the chain
//! * `client` – the node's side, beside the core and never in its way; `status` – how it stands with each tower
//! * `wire` – messages over the transport of BOLT 8, for both
//!
//! Read next: `client`, then `run`.

pub mod archive;
pub mod client;
mod file;
pub mod keeper;
pub mod options;
mod run;
mod saved;
mod serve;
pub mod status;
mod watch;
mod wire;

pub use client::Towers;
pub use options::{Options, TowerAddress};
pub use run::run;
pub use status::TowerStatus;
