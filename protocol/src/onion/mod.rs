//! onion: being written.
