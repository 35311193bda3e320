//! The embedded chain as clients meet it: over real HTTP.
//!
//! In: requests. Out: answers, and what is left after a restart. Read next: `client`.

mod client;
mod http;
mod policy;
mod reorg;
mod rpc;

use client::Harness;
