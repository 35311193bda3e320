//! invoice: being written.
