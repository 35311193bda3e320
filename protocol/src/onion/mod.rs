//! Onions: what the payer seals for each hop of a route, and the failures that travel back (BOLT 4).
//!
//! In: a route's public keys and payloads (payer), a packet and our node key (hop), failures.
//! Out: packets of 1,366 bytes, one peeled payload, sealed failures and who sent them.
//! `sphinx` builds and peels packets, `payload` reads and writes what a hop finds in its layer, `failure` names
//! errors and `returned` seals and opens them; `blind` hides the last hops from the payer; `tlv` is the reader they lean
//! on, `key` the keys and streams below.
//! Read next: `sphinx`.

pub mod blind;
pub mod failure;
mod key;
pub mod payload;
pub mod returned;
pub mod sphinx;
mod tlv;

pub use failure::Failure;
pub use key::SharedSecret;
