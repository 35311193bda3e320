//! Where a node *lives*: sockets, chain, wallet, control socket, embedded regtest chain, demo.
//!
//! In: the operating system. Out: `Input`s for the pure node of `chand_protocol`, and what it releases.
//! Read next: `core` (the single writer), then `peer`, `chain`, `rpc`.

pub mod backup;
pub mod chain;
pub mod check;
pub mod cli;
pub mod config;
pub mod core;
pub mod crypto;
pub mod demo;
pub mod gossip;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
pub mod http;
pub mod log;
pub mod manual;
pub mod notify;
pub mod passphrase;
pub mod peer;
pub mod regtest;
pub mod routes;
pub mod rpc;
pub mod runes;
pub mod seed;
pub mod start;
pub mod tower;
pub mod wallet;
