//! The network as others announce it (BOLT 7).
//!
//! In: what was announced and verified. Out: the graph that routes are searched in.
//! Read next: `graph`.

pub mod graph;
