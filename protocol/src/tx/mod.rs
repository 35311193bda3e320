//! tx: being written.
