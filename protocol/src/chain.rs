//! chain: being written.
