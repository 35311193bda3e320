//! core: being written.
