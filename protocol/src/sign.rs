//! sign: being written.
