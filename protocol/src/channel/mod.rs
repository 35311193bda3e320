//! channel: being written.
