//! regtest: being written.

pub mod consensus;
