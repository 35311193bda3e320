//! regtest: being written.
