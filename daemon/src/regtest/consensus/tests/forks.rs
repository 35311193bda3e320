//! The chain with the most work is active, and any way to a chain gives the same coins.

use super::*;
use bitcoin::BlockHash;
use std::sync::Arc;

/// Two branches from a common chain, each with its own spend of the same coin.
struct Fork {
    common: ChainState,
    left: Vec<Block>,
    right: Vec<Block>,
}

fn fork(left: usize, right: usize) -> Fork {
    let common = chain(105);
    let branch = |to: ScriptBuf, mut blocks: Vec<Vec<Transaction>>, length: usize, now: u32| {
        let mut chain = copy(&common);
        blocks.resize(length, Vec::new());
        let made = chain.mine_many(&to, blocks, now).unwrap().connected;
        made.iter().map(|block| Block::clone(block)).collect()
    };
    let coin = reward(&common, 1);
    let parent = spend(coin, 1_000_000, open_output());
    let child = spend(first(&parent), 900_000, open_output());
    let rival = spend(coin, 2_000_000, other_output());
    let left = branch(open_output(), vec![vec![parent], vec![child]], left, NOW + 100);
    let right = branch(other_output(), vec![Vec::new(), vec![rival]], right, NOW + 200);
    Fork { common, left, right }
}

/// The common chain and these blocks, from scratch.
fn built(common: &ChainState, blocks: &[Block]) -> ChainState {
    let mut chain = copy(common);
    for block in blocks {
        chain.submit_at(block.clone(), NOW).unwrap();
    }
    chain
}

fn hashes(blocks: &[Arc<Block>]) -> Vec<BlockHash> {
    blocks.iter().map(|block| block.block_hash()).collect()
}

#[test]
fn more_work_wins_and_equal_work_does_not() {
    let Fork { common, left, right } = fork(3, 4);
    let mut chain = built(&common, &left);
    for block in &right[..3] {
        assert!(chain.submit_at(block.clone(), NOW).unwrap().is_empty());
    }
    assert_same(&chain, &built(&common, &left));
    let stale = chain.info(&right[2].block_hash()).unwrap();
    assert_eq!((stale.status, stale.confirmations, stale.next), (BlockStatus::Stale, -1, None));
    let tips = chain.chain_tips();
    assert_eq!(tips[0].status.as_str(), "active");
    assert_eq!((tips[1].height, tips[1].branch_len, tips[1].status.as_str()), (108, 3, "valid-headers"));
    assert_eq!(chain.submit_at(right[1].clone(), NOW).unwrap_err().reason(), "duplicate");

    let submit = chain.submit_at(right[3].clone(), NOW).unwrap();
    let newest_first: Vec<_> = left.iter().rev().map(Block::block_hash).collect();
    assert_eq!(hashes(&submit.disconnected), newest_first);
    assert_eq!(hashes(&submit.connected), right.iter().map(Block::block_hash).collect::<Vec<_>>());
    assert_same(&chain, &built(&common, &right));
    let tips = chain.chain_tips();
    assert_eq!((tips[0].height, tips[1].height, tips[1].branch_len), (109, 108, 3));
    assert_eq!(tips[1].status, TipStatus::ValidFork);
    // What left the chain is found no more.
    assert_eq!(chain.find_tx(&left[0].txdata[1].compute_txid()), None);
    assert_eq!(chain.spent_coins(&left[0].block_hash()), None);
    assert!(chain.block(&left[0].block_hash()).is_some());
}

#[test]
fn a_branch_with_a_bad_block_leaves_the_chain_as_it_was() {
    let Fork { common, left, right } = fork(2, 2);
    let mut chain = built(&common, &left);
    // Their second block takes one satoshi too many: nobody notices until the branch has more work.
    let mut side = built(&common, &right[..1]);
    let mut greedy = side.assemble(&other_output(), Vec::new(), NOW).unwrap();
    greedy.txdata[0].output[0].value += Amount::ONE_SAT;
    recommit(&mut greedy);
    let mut child = right[1].clone();
    child.header.prev_blockhash = greedy.block_hash();
    child.txdata[0].input[0].script_sig = Builder::new().push_int(108).push_int(0).into_script();
    recommit(&mut child);
    assert_eq!(side.submit_at(greedy.clone(), NOW).unwrap_err().reason(), "bad-cb-amount");

    assert!(chain.submit_at(right[0].clone(), NOW).unwrap().is_empty());
    assert!(chain.submit_at(greedy.clone(), NOW).unwrap().is_empty());
    assert_eq!(chain.submit_at(child.clone(), NOW).unwrap_err().reason(), "inconclusive");
    assert_same(&chain, &built(&common, &left));
    assert_eq!(chain.info(&greedy.block_hash()).unwrap().status, BlockStatus::Invalid);
    assert_eq!(chain.info(&child.block_hash()).unwrap().status, BlockStatus::Invalid);
    assert_eq!(chain.submit_at(child.clone(), NOW).unwrap_err().reason(), "duplicate-invalid");
    // Their first block is sound, and may still win.
    assert_eq!(chain.info(&right[0].block_hash()).unwrap().status, BlockStatus::Stale);
    chain.submit_at(right[1].clone(), NOW).unwrap();
    // To look again does not help.
    let before = copy(&chain);
    assert!(chain.reconsider(&child.block_hash()).unwrap().is_empty());
    assert_eq!(chain.info(&greedy.block_hash()).unwrap().status, BlockStatus::Invalid);
    assert_same(&chain, &before);
}

#[test]
fn the_last_block_of_a_branch_answers_for_itself() {
    let Fork { common, left, right } = fork(2, 2);
    let mut chain = built(&common, &left);
    let side = built(&common, &right);
    let mut greedy = side.assemble(&other_output(), Vec::new(), NOW).unwrap();
    greedy.txdata[0].output[0].value += Amount::ONE_SAT;
    recommit(&mut greedy);
    for block in right.clone() {
        chain.submit_at(block, NOW).unwrap();
    }
    assert_eq!(chain.submit_at(greedy.clone(), NOW).unwrap_err().reason(), "bad-cb-amount");
    assert_same(&chain, &built(&common, &left));
    // Equal work again: the branch that was first stays.
    assert_eq!(chain.chain_tips()[0].hash, left[1].block_hash());
}

#[test]
fn invalidate_and_reconsider_restore_the_coins_exactly() {
    let Fork { common, left, right } = fork(4, 2);
    let mut chain = built(&common, &left);
    for block in &right {
        chain.submit_at(block.clone(), NOW).unwrap();
    }
    let mark = left[1].block_hash();
    let submit = chain.invalidate(&mark).unwrap();
    assert_eq!((submit.disconnected.len(), submit.connected.len()), (4, 2));
    assert_same(&chain, &built(&common, &right));
    assert_eq!(chain.info(&left[3].block_hash()).unwrap().status, BlockStatus::Invalid);
    assert_eq!(chain.info(&left[0].block_hash()).unwrap().status, BlockStatus::Stale);
    // Repeated, it changes nothing.
    assert!(chain.invalidate(&mark).unwrap().is_empty());

    let submit = chain.reconsider(&mark).unwrap();
    assert_eq!((submit.disconnected.len(), submit.connected.len()), (2, 4));
    assert_same(&chain, &built(&common, &left));
    assert!(chain.reconsider(&mark).unwrap().is_empty());
}

#[test]
fn reconsidering_clears_ancestors_and_descendants() {
    let Fork { common, left, right } = fork(4, 2);
    let mut chain = built(&common, &left);
    chain.invalidate(&left[3].block_hash()).unwrap();
    chain.invalidate(&left[1].block_hash()).unwrap();
    assert_eq!(chain.tip().hash, left[0].block_hash());
    chain.reconsider(&left[2].block_hash()).unwrap();
    // The block marked above it is free again, too: it builds on the one named.
    assert_eq!(chain.tip().hash, left[3].block_hash());
    chain.invalidate(&left[0].block_hash()).unwrap();
    assert_same(&chain, &common);
    for block in &right {
        chain.submit_at(block.clone(), NOW).unwrap();
    }
    assert_same(&chain, &built(&common, &right));
}

#[test]
fn back_to_genesis_and_again() {
    let mut chain = chain(120);
    let all = copy(&chain);
    let first_block = chain.block_hash(1).unwrap();
    assert_eq!(chain.invalidate(&first_block).unwrap().disconnected.len(), 120);
    assert_same(&chain, &ChainState::in_memory());
    assert_eq!(chain.reconsider(&first_block).unwrap().connected.len(), 120);
    assert_same(&chain, &all);
}

#[test]
fn mining_after_invalidate_makes_a_new_block() {
    let mut chain = chain(5);
    let old = chain.tip().hash;
    chain.invalidate(&old).unwrap();
    // The same script and time would give the very same block.
    grow(&mut chain, 1);
    assert_eq!(chain.tip().height, 5);
    assert_ne!(chain.tip().hash, old);
}

#[test]
fn orders_about_unknown_blocks_and_genesis_are_refused() {
    let mut chain = chain(2);
    let unknown = BlockHash::all_zeros();
    let genesis = chain.block_hash(0).unwrap();
    assert!(matches!(chain.invalidate(&unknown), Err(ChainError::UnknownBlock)));
    assert!(matches!(chain.reconsider(&unknown), Err(ChainError::UnknownBlock)));
    assert!(matches!(chain.invalidate(&genesis), Err(ChainError::Genesis)));
    assert!(chain.reconsider(&genesis).unwrap().is_empty());
    assert_eq!(chain.tip().height, 2);
}

#[test]
fn coins_made_and_spent_in_one_block_survive_its_return() {
    let mut chain = chain(103);
    let before = copy(&chain);
    let parent = spend(reward(&chain, 1), 1_000_000, open_output());
    let child = spend(first(&parent), 900_000, open_output());
    let grandchild = spend(first(&child), 800_000, open_output());
    chain.mine(&open_output(), vec![parent, child, grandchild], NOW).unwrap();
    let after = copy(&chain);
    let tip = chain.tip().hash;
    chain.invalidate(&tip).unwrap();
    assert_same(&chain, &before);
    chain.reconsider(&tip).unwrap();
    assert_same(&chain, &after);
}
