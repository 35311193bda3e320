//! Messages and their encoding (BOLT 1, 2, 9).

pub mod features;
pub mod message;

/// Being written.
#[derive(Clone, Debug)]
pub enum Message {}
