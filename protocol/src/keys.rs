//! keys: being written.
