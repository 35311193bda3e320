//! Feature bits (BOLT 9): being written.
use alloc::vec::Vec;

/// A feature vector; bit 0 is the lowest bit of the last byte on the wire. Kept without leading zero bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Features(Vec<u8>);
