//! Mined blocks are whole and right; what is asked of the chain is answered.

use super::*;
use crate::regtest::consensus::params::subsidy;
use bitcoin::{BlockHash, Txid, Work};
use std::str::FromStr;
use std::time::{Duration, Instant};

#[test]
fn genesis_is_regtests() {
    let chain = ChainState::in_memory();
    let known = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    assert_eq!(chain.tip().hash, BlockHash::from_str(known).unwrap());
    assert_eq!(chain.tip().height, 0);
    // Its reward can never be spent, and is in no index.
    assert_eq!(chain.coins().count(), 0);
    let genesis = chain.block(&chain.tip().hash).unwrap();
    assert_eq!(chain.find_tx(&genesis.txdata[0].compute_txid()), None);
}

#[test]
fn mined_blocks_link_work_and_commit() {
    let chain = chain(160);
    let mut prev = chain.block_hash(0).unwrap();
    for height in 1..=160 {
        let hash = chain.block_hash(height).unwrap();
        let block = chain.block(&hash).unwrap();
        assert_eq!(block.block_hash(), hash);
        assert_eq!(block.header.prev_blockhash, prev);
        assert_eq!(block.header.validate_pow(Target::MAX_ATTAINABLE_REGTEST).unwrap(), hash);
        assert!(block.check_merkle_root());
        assert!(block.check_witness_commitment());
        if height > 16 {
            assert_eq!(block.bip34_block_height().unwrap(), u64::from(height));
        }
        assert_eq!(block.txdata[0].output[0].value, subsidy(height));
        prev = hash;
    }
    assert_same(&chain, &copy(&chain));
}

#[test]
fn subsidy_halves_every_150_blocks() {
    assert_eq!(subsidy(1), Amount::from_int_btc(50));
    assert_eq!(subsidy(149), Amount::from_int_btc(50));
    assert_eq!(subsidy(150), Amount::from_int_btc(25));
    assert_eq!(subsidy(300), Amount::from_sat(1_250_000_000));
    assert_eq!(subsidy(33 * 150), Amount::ZERO);
    assert_eq!(subsidy(u32::MAX), Amount::ZERO);
}

#[test]
fn time_is_the_clock_or_just_past_the_median() {
    let mut chain = chain(11);
    for height in 1..=11 {
        let time = chain.info(&chain.block_hash(height).unwrap()).unwrap().header.time;
        assert_eq!(time, NOW.max(chain.median_time_past(height - 1).unwrap() + 1));
    }
    // A clock that stands still, or goes back, must not stop mining.
    chain.mine(&open_output(), Vec::new(), NOW - 5_000).unwrap();
    let median = chain.median_time_past(11).unwrap();
    assert_eq!(chain.tip().time, median + 1);
    assert_eq!(chain.median_time_past(12), Some(chain.tip().median_time));
    assert_eq!(chain.median_time_past(13), None);
    // More than two hours back, the block would be refused as one from the future.
    let reject = chain.mine(&open_output(), Vec::new(), NOW - 10_000).unwrap_err();
    assert_eq!(reject.reason(), "time-too-new");
}

#[test]
fn median_time_takes_the_eleven_newest() {
    let mut chain = ChainState::in_memory();
    for step in 1..=20 {
        chain.mine(&open_output(), Vec::new(), NOW + step * 10).unwrap();
    }
    assert_eq!(chain.median_time_past(20), Some(NOW + 150));
    assert_eq!(chain.median_time_past(11), Some(NOW + 60));
    // Of an even number of times the later middle one counts: genesis' own and NOW + 10.
    assert_eq!(chain.median_time_past(1), Some(NOW + 10));
}

#[test]
fn fees_go_to_the_miner_and_coins_move() {
    let mut chain = chain(101);
    let coin = reward(&chain, 1);
    let parent = spend(coin, 5_000_000_000 - 700, open_output());
    let child = spend(first(&parent), 5_000_000_000 - 1_000, other_output());
    assert_eq!(check(&chain, &parent), Ok(Amount::from_sat(700)));
    let submit = chain.mine(&other_output(), vec![parent.clone(), child.clone()], NOW).unwrap();
    assert_eq!(submit.connected.len(), 1);
    let tip = chain.tip();
    assert_eq!(chain.block(&tip.hash).unwrap().txdata[0].output[0].value.to_sat(), 5_000_001_000);
    assert_eq!(chain.coin(&coin), None);
    assert_eq!(chain.coin(&first(&parent)), None);
    let made = chain.coin(&first(&child)).unwrap();
    assert_eq!((made.height, made.coinbase), (102, false));
    assert_eq!(chain.find_tx(&child.compute_txid()), Some((tip.hash, 102, 2)));
    assert_eq!(chain.find_tx(&Txid::all_zeros()), None);
    let spent = chain.spent_coins(&tip.hash).unwrap();
    assert_eq!(spent[0].height, 1);
    assert!(spent[0].coinbase);
    assert_eq!(spent[1].out, parent.output[0]);
    assert_same(&chain, &copy(&chain));
}

#[test]
fn what_can_never_be_spent_is_no_coin() {
    let mut chain = chain(101);
    let mut tx = spend(reward(&chain, 1), 0, ScriptBuf::new_op_return([1, 2, 3]));
    tx.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x51; 10_001]) });
    tx.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x51; 10_000]) });
    let txid = tx.compute_txid();
    chain.mine(&open_output(), vec![tx], NOW).unwrap();
    let coin = |vout| chain.coin(&OutPoint { txid, vout });
    assert_eq!((coin(0), coin(1)), (None, None));
    assert!(coin(2).is_some());
    // The commitment in every coinbase is none either.
    assert_eq!(chain.coin(&OutPoint { txid: reward(&chain, 5).txid, vout: 1 }), None);
}

#[test]
fn index_entries_tell_place_and_standing() {
    let chain = chain(3);
    let hash = chain.block_hash(2).unwrap();
    let info = chain.info(&hash).unwrap();
    assert_eq!((info.height, info.confirmations, info.tx_count), (2, 2, 1));
    assert_eq!((info.prev, info.next), (chain.block_hash(1), chain.block_hash(3)));
    assert_eq!(info.status, BlockStatus::Active);
    // Each block of regtest is two units of work.
    let mut work = [0; 32];
    work[31] = 6;
    assert_eq!(info.chainwork, Work::from_be_bytes(work));
    assert_eq!(chain.info(&chain.tip().hash).unwrap().next, None);
    assert_eq!(chain.info(&chain.block_hash(0).unwrap()).unwrap().prev, None);
    assert!(chain.info(&BlockHash::all_zeros()).is_none());
}

#[test]
fn mining_refuses_what_a_block_may_not_hold_and_leaves_no_trace() {
    let mut chain = chain(101);
    let before = copy(&chain);
    let missing = spend(OutPoint { txid: Txid::all_zeros(), vout: 0 }, 1, open_output());
    let good = spend(reward(&chain, 1), 1_000, open_output());
    let reject =
        chain.mine_many(&open_output(), vec![vec![good], Vec::new(), vec![missing]], NOW).unwrap_err();
    assert_eq!(reject.reason(), "bad-txns-inputs-missingorspent");
    assert_same(&chain, &before);
    assert_eq!(chain.chain_tips(), before.chain_tips());
    let mut refused = spend(reward(&chain, 1), 1_000, open_output());
    refused.input[0].witness = Witness::from_slice(&[b"no such script"]);
    let reject = chain.mine(&open_output(), vec![refused], NOW).unwrap_err();
    assert!(reject.reason().starts_with("block-script-verify-flag-failed (input 0"));
    assert_same(&chain, &before);
}

#[test]
fn assembled_blocks_can_be_checked_and_submitted() {
    let mut chain = chain(101);
    let tx = spend(reward(&chain, 1), 1_000, open_output());
    let mut block = chain.assemble(&open_output(), vec![tx], NOW).unwrap();
    chain.check_block(&block, NOW).unwrap();
    assert_eq!(chain.tip().height, 101);
    // Miners may leave the reserved value out.
    block.txdata[0].input[0].witness = Witness::new();
    assert_eq!(chain.check_block(&block, NOW).unwrap_err().reason(), "bad-witness-nonce-size");
    add_reserved_value(&mut block);
    chain.submit_at(block.clone(), NOW).unwrap();
    assert_eq!(chain.tip().hash, block.block_hash());
    assert_eq!(chain.check_block(&block, NOW).unwrap_err().reason(), "inconclusive");
}

#[test]
fn submit_asks_the_systems_clock() {
    let mut chain = ChainState::in_memory();
    let block = chain.assemble(&open_output(), Vec::new(), u32::MAX - 10).unwrap();
    assert_eq!(chain.submit(block).unwrap_err().reason(), "time-too-new");
    let block = chain.assemble(&open_output(), Vec::new(), NOW).unwrap();
    chain.submit(block).unwrap();
    assert_eq!(chain.tip().height, 1);
}

#[test]
fn many_blocks_and_many_transactions_are_quick() {
    let start = Instant::now();
    let mut chain = chain(150);
    let mined = start.elapsed();
    let fan_out = Transaction {
        output: vec![TxOut { value: Amount::from_sat(10_000), script_pubkey: open_output() }; 1_000],
        ..spend(reward(&chain, 1), 0, open_output())
    };
    let txid = fan_out.compute_txid();
    chain.mine(&open_output(), vec![fan_out], NOW).unwrap();
    let spends: Vec<Transaction> =
        (0..1_000).map(|vout| spend(OutPoint { txid, vout }, 9_000, other_output())).collect();
    let start = Instant::now();
    chain.mine(&open_output(), spends, NOW).unwrap();
    // Generous: a busy machine must not fail it, a quadratic block must.
    assert!(mined < Duration::from_secs(5), "{mined:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(chain.tip().height, 152);
    println!("150 blocks: {mined:?}, 1,000 transactions: {:?}", start.elapsed());
}
