//! `live`, of the chain: at the end each node knows where its channels' transactions are.
//!
//! In: the chain, and two nodes that read it to its tip. Out: a verdict, when a node still believes in a block that went
//! away, or has not seen one that came. Read next: `safety`.

use super::Verdict;
use crate::duet::chain::FIRST_HEIGHT;
use crate::sim::world::World;
use bitcoin::Transaction;

/// Where the first transaction of the chain is that `wanted` names: height and place in its block.
fn find(world: &World, wanted: impl Fn(&Transaction) -> bool) -> Option<(u32, u32)> {
    let heights = (FIRST_HEIGHT..).zip(&world.chain.blocks);
    let mut all =
        heights.flat_map(|(height, block)| (0..).zip(block.txs.iter()).map(move |(i, tx)| (height, i, tx)));
    all.find(|(_, _, tx)| wanted(tx)).map(|(height, index, _)| (height, index))
}

/// Each channel's funding and the transaction that spends it are where the node says.
///
/// # Errors
/// One is elsewhere, or nowhere.
pub fn known(world: &World, seat: usize) -> Result<(), Verdict> {
    let name = world.seats[seat].name;
    let wrong = |words: String| Err(Verdict::new("live", format!("{name} {words}")));
    let Some(node) = world.seats[seat].node() else { return Ok(()) };
    let tip = node.recent_blocks().last().map(|(height, _)| height.0);
    if tip != Some(world.chain.height()) {
        return wrong(format!("is at block {tip:?} of {}", world.chain.height()));
    }
    for channel in node.channels() {
        let funding = channel.terms.funding;
        let there = find(world, |tx| tx.compute_txid() == funding.txid);
        let said = channel.confirmed.map(|c| (c.height.0, c.tx_index));
        if said != there {
            return wrong(format!("says that a funding is at {said:?}: it is at {there:?}"));
        }
        let spends = |tx: &Transaction| tx.input.iter().any(|i| i.previous_output == funding);
        let there = find(world, spends).map(|(height, _)| height);
        let said = channel.spent_height().map(|h| h.0);
        if said != there {
            return wrong(format!("says that a channel's end is at {said:?}: it is at {there:?}"));
        }
    }
    Ok(())
}
