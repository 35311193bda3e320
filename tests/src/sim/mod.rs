//! The simulator: two whole nodes, their disks, the wire between them and a chain, in a time of their own.
//!
//! In: one number. Out: nothing, or which judge found what, after which acts. The number decides everything: who pays
//! whom, which bytes of which message a cut lets through, where in a write a node dies, what its disk keeps, when blocks
//! come, what a lying peer tells. The nodes are driven by `node::step`, `Journal` and `Batch::release` exactly as the
//! daemon's core and writer threads drive them: the core computes on while the disk writes, several batches share one
//! write, a disk that refuses is offered the same batches again, a bug reloads the node.
//!
//! * `plan` – what a seed decides, as a list that can be shortened; `shrink` shortens it
//! * `world` – the loop; `core` (steps, writes, releases), `net` and `wire` (links), `backend` (blocks), `actors` (acts)
//! * `seat` – one node and what is its own
//! * `cheats` – a peer that lies; `reckless` – its greater lies; `tally` – how often each lie was told and each fault met
//! * `feud` – closes by force, crimes; `haunt` – a cheat that calls again; `aftermath` – blocks until all of that is over; `marks` – which ways were gone
//! * `heal` – the end of a run: everything is mended, what is left is counted; `rest` – two nodes left alone; `finale` – a
//!   chain that is made anew, an old copy of a disk
//! * `judge` – what must hold, one idea a file
//!
//! Read next: `plan`, then `world`.

pub mod actors;
pub mod aftermath;
pub mod backend;
pub mod cheats;
pub mod core;
pub mod feud;
pub mod finale;
pub mod haunt;
pub mod heal;
pub mod heap;
pub mod judge;
pub mod marks;
pub mod net;
pub mod plan;
pub mod reckless;
pub mod rest;
pub mod rng;
pub mod seat;
pub mod shrink;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod wire;
pub mod world;

pub use judge::Verdict;
pub use plan::Plan;
pub use shrink::shrink;
pub use world::{run, Outcome};
