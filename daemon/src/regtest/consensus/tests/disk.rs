//! The block file gives the chain back, whole, after any end of the process.

use super::*;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn file(dir: &Path) -> PathBuf {
    dir.join("blocks.dat")
}

/// A chain on disk with a spend, a side branch and an invalidated block.
fn eventful(dir: &Path) -> ChainState {
    let mut chain = ChainState::open(dir).unwrap();
    grow(&mut chain, 104);
    let tx = spend(reward(&chain, 1), 1_000_000, open_output());
    chain.mine(&open_output(), vec![tx], NOW).unwrap();
    let side = chain.block_hash(103).unwrap();
    chain.invalidate(&side).unwrap();
    chain.mine(&other_output(), Vec::new(), NOW).unwrap();
    chain.reconsider(&side).unwrap();
    let tip = chain.tip().hash;
    chain.invalidate(&tip).unwrap();
    chain
}

#[test]
fn a_restart_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut chain = eventful(dir.path());
    let again = ChainState::open(dir.path()).unwrap();
    assert_same(&chain, &again);
    let order = |chain: &ChainState| {
        let mut tips: Vec<_> = chain.chain_tips().iter().map(|tip| (tip.hash, tip.branch_len)).collect();
        tips.sort();
        tips
    };
    assert_eq!(order(&chain), order(&again));
    assert_eq!(again.size_on_disk(), fs::metadata(file(dir.path())).unwrap().len());
    drop(again);
    // And the reopened chain goes on where the first one would.
    let tx = spend(reward(&chain, 2), 5, open_output());
    let block = chain.assemble(&open_output(), vec![tx], NOW).unwrap();
    chain.check_block(&block, NOW).unwrap();
    let mut again = ChainState::open(dir.path()).unwrap();
    again.submit_at(block.clone(), NOW).unwrap();
    drop(again);
    assert_eq!(ChainState::open(dir.path()).unwrap().tip().hash, block.block_hash());
    chain = ChainState::open(dir.path()).unwrap();
    assert_eq!(chain.tip().height, 105);
}

#[test]
fn equal_branches_come_back_in_the_order_of_arrival() {
    for swap in [false, true] {
        let dir = TempDir::new().unwrap();
        let common = chain(3);
        let mut blocks =
            [open_output(), other_output()].map(|to| common.assemble(&to, Vec::new(), NOW + 9).unwrap());
        if swap {
            blocks.reverse();
        }
        let mut stored = ChainState::open(dir.path()).unwrap();
        for height in 1..=3 {
            let block = common.block(&common.block_hash(height).unwrap()).unwrap();
            stored.submit_at(Block::clone(&block), NOW).unwrap();
        }
        for block in &blocks {
            stored.submit_at(block.clone(), NOW).unwrap();
        }
        assert_eq!(ChainState::open(dir.path()).unwrap().tip().hash, blocks[0].block_hash());
    }
}

#[test]
fn an_invalid_block_is_still_known_as_such() {
    let dir = TempDir::new().unwrap();
    let mut chain = ChainState::open(dir.path()).unwrap();
    grow(&mut chain, 3);
    let mut greedy = chain.assemble(&open_output(), Vec::new(), NOW).unwrap();
    greedy.txdata[0].output[0].value += Amount::ONE_SAT;
    recommit(&mut greedy);
    assert_eq!(chain.submit_at(greedy.clone(), NOW).unwrap_err().reason(), "bad-cb-amount");
    let mut again = ChainState::open(dir.path()).unwrap();
    assert_same(&chain, &again);
    assert_eq!(again.submit_at(greedy.clone(), NOW).unwrap_err().reason(), "duplicate-invalid");
    // Refused before it was stored: its parent stands in for it, before and after a restart.
    let mut misplaced = again.assemble(&open_output(), Vec::new(), NOW).unwrap();
    misplaced.txdata[0].input[0].script_sig = Builder::new().push_int(7).push_int(7).into_script();
    recommit(&mut misplaced);
    assert_eq!(again.submit_at(misplaced.clone(), NOW).unwrap_err().reason(), "bad-cb-height");
    let parent = again.tip().hash;
    again.invalidate(&parent).unwrap();
    assert_eq!(again.reconsider(&misplaced.block_hash()).unwrap().connected.len(), 1);
    assert_same(&again, &ChainState::open(dir.path()).unwrap());
    assert_eq!(again.submit_at(misplaced, NOW).unwrap_err().reason(), "duplicate-invalid");
}

#[test]
fn an_unfinished_write_is_dropped_wherever_it_ends() {
    let dir = TempDir::new().unwrap();
    let mut chain = ChainState::open(dir.path()).unwrap();
    grow(&mut chain, 2);
    let whole = chain.size_on_disk();
    let before = copy(&chain);
    grow(&mut chain, 1);
    let bytes = fs::read(file(dir.path())).unwrap();
    for end in whole..bytes.len() as u64 {
        fs::write(file(dir.path()), &bytes[..end as usize]).unwrap();
        let again = ChainState::open(dir.path()).unwrap();
        assert_same(&again, &before);
        assert_eq!(fs::metadata(file(dir.path())).unwrap().len(), whole);
    }
    // A file made longer before its bytes arrived ends with zeros.
    let mut torn = bytes[..whole as usize + 40].to_vec();
    torn.extend([0; 5_000]);
    fs::write(file(dir.path()), torn).unwrap();
    let mut again = ChainState::open(dir.path()).unwrap();
    assert_same(&again, &before);
    grow(&mut again, 5);
    assert_same(&again, &ChainState::open(dir.path()).unwrap());
}

#[test]
fn a_file_cut_off_while_being_created_is_made_anew() {
    for end in 0..16 {
        let dir = TempDir::new().unwrap();
        drop(ChainState::open(dir.path()).unwrap());
        OpenOptions::new().write(true).open(file(dir.path())).unwrap().set_len(end).unwrap();
        let mut chain = ChainState::open(dir.path()).unwrap();
        grow(&mut chain, 1);
        assert_same(&chain, &ChainState::open(dir.path()).unwrap());
    }
}

#[test]
fn damage_before_the_end_is_refused_and_nothing_is_dropped() {
    let dir = TempDir::new().unwrap();
    let mut chain = ChainState::open(dir.path()).unwrap();
    grow(&mut chain, 2);
    let second = chain.size_on_disk();
    grow(&mut chain, 1);
    grow(&mut chain, 1);
    let good = fs::read(file(dir.path())).unwrap();
    for at in [16, 17, 20, 24, 30, second as usize + 3, second as usize + 100] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(file(dir.path()), &bad).unwrap();
        let offset = if at < second as usize { 16 } else { second };
        match ChainState::open(dir.path()) {
            Err(ChainError::Corrupt { offset: found }) => assert_eq!(found, offset),
            other => panic!("byte {at}: {:?}", other.map(|chain| chain.tip())),
        }
        assert_eq!(fs::read(file(dir.path())).unwrap(), bad);
    }
    fs::write(file(dir.path()), b"something else entirely").unwrap();
    assert!(matches!(ChainState::open(dir.path()), Err(ChainError::Foreign)));
    fs::write(file(dir.path()), b"short").unwrap();
    assert!(matches!(ChainState::open(dir.path()), Err(ChainError::Foreign)));
}

#[test]
fn a_file_without_the_blocks_it_builds_on_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut chain = ChainState::open(dir.path()).unwrap();
    grow(&mut chain, 1);
    let first_frame = chain.size_on_disk() as usize;
    grow(&mut chain, 1);
    let bytes = fs::read(file(dir.path())).unwrap();
    fs::write(file(dir.path()), [&bytes[..16], &bytes[first_frame..]].concat()).unwrap();
    assert!(matches!(ChainState::open(dir.path()), Err(ChainError::Replay { .. })));
}

#[test]
fn after_a_failed_write_nothing_more_is_accepted() {
    let dir = TempDir::new().unwrap();
    let mut chain = ChainState::open(dir.path()).unwrap();
    grow(&mut chain, 3);
    let before = copy(&chain);
    let block = chain.assemble(&open_output(), Vec::new(), NOW).unwrap();
    chain.break_store(dir.path());
    assert!(matches!(chain.submit_at(block, NOW), Err(BlockReject::Chain(ChainError::Io(_)))));
    let hash = chain.block_hash(1).unwrap();
    assert!(matches!(
        chain.mine(&open_output(), Vec::new(), NOW),
        Err(BlockReject::Chain(ChainError::Broken))
    ));
    assert!(matches!(chain.invalidate(&hash), Err(ChainError::Broken)));
    assert!(matches!(chain.reconsider(&hash), Err(ChainError::Broken)));
    assert_same(&before, &ChainState::open(dir.path()).unwrap());
}

#[test]
fn a_second_process_is_noticed_and_spoils_nothing() {
    let dir = TempDir::new().unwrap();
    let mut one = ChainState::open(dir.path()).unwrap();
    let mut two = ChainState::open(dir.path()).unwrap();
    grow(&mut one, 2);
    let reject = two.mine(&other_output(), Vec::new(), NOW).unwrap_err();
    assert!(matches!(reject, BlockReject::Chain(ChainError::Shared)));
    grow(&mut one, 1);
    assert_same(&one, &ChainState::open(dir.path()).unwrap());
}

#[test]
fn bytes_after_the_last_frame_are_overwritten() {
    let dir = TempDir::new().unwrap();
    let mut chain = ChainState::open(dir.path()).unwrap();
    grow(&mut chain, 1);
    drop(chain);
    let mut end = OpenOptions::new().write(true).open(file(dir.path())).unwrap();
    end.seek(SeekFrom::End(0)).unwrap();
    end.write_all(&[0xfb, b'R', b'T', 0xbf, 9, 9]).unwrap();
    let mut chain = ChainState::open(dir.path()).unwrap();
    grow(&mut chain, 2);
    assert_same(&chain, &ChainState::open(dir.path()).unwrap());
}
