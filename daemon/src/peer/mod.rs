//! peer: being written.
