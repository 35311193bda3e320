//! `restart`: the disk holds exactly what the node would need, and who comes back is the same.
//!
//! In: what is durable, at every death and birth. Out: the node made of it, or a verdict: a record that cannot be
//! read, one that is missing, old or left over. Read next: `durable`.

use super::Verdict;
use crate::duet::judge::compare;
use crate::sim::core::last_panic;
use crate::sim::world::World;
use chand_protocol::node::Node;
use chand_protocol::store::Entry;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// The node that these entries make; it must say the same as they do.
///
/// # Errors
/// No node can be made of them, or another one.
pub fn born(world: &mut World, seat: usize, entries: Vec<Entry>) -> Result<Node, Verdict> {
    let place = &world.seats[seat];
    let made = catch_unwind(AssertUnwindSafe(|| place.born(entries.clone())));
    let node = made
        .map_err(|_| Verdict::new("panic", last_panic()))?
        .map_err(|error| Verdict::new("restart", format!("{} cannot start: {error}", place.name)))?;
    let stored = entries.into_iter().collect();
    compare(&stored, node.records(), &node)
        .map_err(|what| Verdict::new("restart", format!("{}, born again: {what}", place.name)))?;
    Ok(node)
}

/// All batches are kept: the disk holds what the living node would write.
///
/// # Errors
/// It holds something else.
pub fn kept(world: &mut World, seat: usize) -> Result<(), Verdict> {
    let place = &world.seats[seat];
    let Some(node) = place.node() else { return Ok(()) };
    let stored = place.store.durable().into_iter().collect();
    compare(&stored, node.records(), node)
        .map_err(|what| Verdict::new("restart", format!("{}: {what}", place.name)))
}
