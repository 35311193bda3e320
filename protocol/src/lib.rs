//! What a Lightning node *is*: pure, synchronous, deterministic.
//!
//! In: messages, blocks, commands, the time. Out: records to keep, and what may leave once they are kept.
//! Nothing here can open a socket, read a clock or start a thread: the crate is `no_std`.
//! Read next: `node` (one step of a whole node), then `channel` (one channel), then `tx` (its transactions).
#![no_std]

extern crate alloc;

pub mod address;
pub mod backup;
pub mod chain;
pub mod channel;
pub mod entropy;
pub mod fault;
pub mod gossip;
pub mod id;
pub mod invoice;
pub mod keys;
pub mod node;
pub mod noise;
pub mod onchain;
pub mod onion;
pub mod record;
pub mod route;
pub mod sign;
pub mod store;
pub mod tower;
pub mod tx;
pub mod units;
pub mod wire;
