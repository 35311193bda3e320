//! entropy: being written.
