//! What a node *remembers*: keys and bytes, never a channel.
//!
//! In: lists of changes (`chand_protocol::store::Change`). Out: the promise that they are on disk for good, all of
//! them or none, and every entry back in key order.
//! Two engines keep the same contract: [`SledStore`] for a node that lives, [`MemoryStore`] for one that is tested.
//! Read next: `sled_store` (how a commit becomes durable), then `layout` (what a key looks like on disk).

mod copy;
mod files;
mod layout;
mod memory;
mod open;
mod sled_store;

pub use copy::{Copied, CopyError};
pub use layout::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
pub use memory::{Counts, Fault, MemoryStore};
pub use open::{OpenError, Owner, FORMAT};
pub use sled_store::SledStore;
