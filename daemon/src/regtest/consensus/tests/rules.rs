//! Each rule of a block refuses its counterexample, with bitcoind's reason.

use super::*;
use crate::regtest::consensus::connect::{connect, Depth, Place};
use crate::regtest::consensus::utxo::Coins;
use bitcoin::block::Version as BlockVersion;
use bitcoin::{BlockHash, CompactTarget};

/// A chain whose first rewards are mature.
fn start() -> ChainState {
    chain(110)
}

/// A block on the tip with two transactions.
fn sample(chain: &ChainState) -> Block {
    let txs = [1, 2].map(|height| spend(reward(chain, height), 1_000_000, open_output()));
    block_with(chain, txs.to_vec())
}

/// The block is refused for that reason, and the chain stays as it was.
fn refused(chain: &mut ChainState, block: Block, reason: &str) {
    let before = copy(chain);
    let checked = chain.check_block(&block, NOW).unwrap_err().reason();
    assert_eq!(chain.submit_at(block, NOW).unwrap_err().reason(), reason);
    assert!(checked == reason || checked == "inconclusive", "{checked}");
    assert_same(chain, &before);
}

/// Changes the sample, renews what commits to it, and expects a reason.
fn broken(reason: &str, change: impl FnOnce(&mut Block)) {
    let mut chain = start();
    let mut block = sample(&chain);
    change(&mut block);
    recommit(&mut block);
    refused(&mut chain, block, reason);
}

/// A block with one transaction made from an open coin by `change`.
fn broken_tx(reason: &str, change: impl FnOnce(&mut Transaction)) {
    broken(reason, |block| change(&mut block.txdata[1]));
}

#[test]
fn the_unchanged_sample_is_accepted() {
    let mut chain = start();
    let block = sample(&chain);
    chain.check_block(&block, NOW).unwrap();
    assert_eq!(chain.submit_at(block, NOW).unwrap().connected.len(), 1);
}

#[test]
fn proof_of_work() {
    let mut chain = start();
    let mut block = sample(&chain);
    solve(&mut block, false);
    refused(&mut chain, block, "high-hash");
    // A target no regtest block may claim: easier, zero, negative.
    for bits in
        [0x2100_8000, 0x2200_0080, 0x2300_0001, 0xff7f_ffff, 0x207f_ffff | 0x0080_0000, 0x2000_0000, 0]
    {
        let mut block = sample(&chain);
        block.header.bits = CompactTarget::from_consensus(bits);
        refused(&mut chain, block, "high-hash");
    }
    // A possible target, in a form of its own or another one, is still not the chain's.
    for bits in [0x207f_fffe, 0x2100_7fff, 0x2200_007f, 0x1f7f_ffff] {
        broken("bad-diffbits", |block| block.header.bits = CompactTarget::from_consensus(bits));
    }
}

#[test]
fn header_rules() {
    let chain = start();
    let median = chain.tip().median_time;
    broken("time-too-old", |block| block.header.time = median);
    broken("time-too-new", |block| block.header.time = NOW + 7_201);
    broken("bad-version(0x00000003)", |block| block.header.version = BlockVersion::from_consensus(3));
    broken("bad-version(0xffffffff)", |block| block.header.version = BlockVersion::from_consensus(-1));
    broken("prev-blk-not-found", |block| block.header.prev_blockhash = BlockHash::all_zeros());
    for (time, version) in [(median + 1, 4), (NOW + 7_200, 0x3000_0000)] {
        let mut chain = start();
        let mut block = sample(&chain);
        block.header.time = time;
        block.header.version = BlockVersion::from_consensus(version);
        recommit(&mut block);
        chain.submit_at(block, NOW).unwrap();
    }
}

#[test]
fn merkle_root_and_its_malleation() {
    let mut chain = start();
    let good = sample(&chain);
    let mut block = good.clone();
    block.header.merkle_root = TxMerkleNode::all_zeros();
    solve(&mut block, true);
    refused(&mut chain, block, "bad-txnmrklroot");
    // Three transactions and the third twice have one root; the header is the good block's own.
    let mut block = good.clone();
    block.txdata.push(good.txdata[2].clone());
    assert_eq!(block.block_hash(), good.block_hash());
    refused(&mut chain, block, "bad-txns-duplicate");
    // A changed copy does not spoil the block itself.
    chain.submit_at(good, NOW).unwrap();
}

#[test]
fn size_and_coinbase() {
    broken("bad-blk-length", |block| block.txdata.clear());
    broken("bad-blk-length", |block| {
        block.txdata[1].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 1_000_000]);
    });
    broken("bad-cb-missing", |block| {
        block.txdata.swap(0, 1);
    });
    broken("bad-cb-multiple", |block| {
        let coinbase = block.txdata[0].clone();
        block.txdata.push(coinbase);
    });
    for length in [1, 101] {
        broken("bad-cb-length", |block| {
            block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0; length]);
        });
    }
    broken("bad-cb-height", |block| {
        block.txdata[0].input[0].script_sig = Builder::new().push_int(112).push_int(0).into_script();
    });
    // The right height, pushed a longer way.
    broken("bad-cb-height", |block| {
        block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![2, 111, 0]);
    });
    broken("bad-cb-amount", |block| {
        let fees = 2 * (5_000_000_000 - 1_000_000);
        block.txdata[0].output[0].value = Amount::from_sat(5_000_000_000 + fees + 1);
    });
    broken("bad-blk-weight", |block| {
        block.txdata[1].input[0].witness.push(vec![0; 4_000_000]);
    });
}

#[test]
fn fees_may_be_taken_to_the_last_satoshi_and_no_further() {
    let mut chain = start();
    let mut block = sample(&chain);
    block.txdata[0].output[0].value = Amount::from_sat(3 * 5_000_000_000 - 2_000_000);
    recommit(&mut block);
    chain.submit_at(block, NOW).unwrap();
}

#[test]
fn witness_commitment() {
    let mut chain = start();
    let good = sample(&chain);
    let spoil = |change: &dyn Fn(&mut Block)| {
        let mut block = good.clone();
        change(&mut block);
        block
    };
    // None of these change the header: the good block must stay acceptable.
    let long = spoil(&|block| block.txdata[0].input[0].witness = Witness::from_slice(&[[0u8; 33]]));
    refused(&mut chain, long, "bad-witness-nonce-size");
    let two = spoil(&|block| block.txdata[0].input[0].witness.push([0u8; 32]));
    refused(&mut chain, two, "bad-witness-nonce-size");
    let other = spoil(&|block| block.txdata[0].input[0].witness = Witness::from_slice(&[[1u8; 32]]));
    refused(&mut chain, other, "bad-witness-merkle-match");
    let changed = spoil(&|block| block.txdata[1].input[0].witness.push([7]));
    refused(&mut chain, changed, "bad-witness-merkle-match");
    let bare = spoil(&|block| {
        block.txdata[0].output.pop();
        reroot(block);
    });
    refused(&mut chain, bare, "unexpected-witness");
    chain.submit_at(good, NOW).unwrap();
    // Without any witness no commitment is needed.
    let mut plain = chain.assemble(&open_output(), Vec::new(), NOW).unwrap();
    plain.txdata[0].output.pop();
    plain.txdata[0].input[0].witness = Witness::new();
    reroot(&mut plain);
    chain.submit_at(plain, NOW).unwrap();
}

#[test]
fn signature_operations() {
    let checks = |count| ScriptBuf::from_bytes(vec![opcodes::all::OP_CHECKSIG.to_u8(); count]);
    broken("bad-blk-sigops", |block| block.txdata[1].output[0].script_pubkey = checks(20_001));
    let mut chain = start();
    let tx = spend(reward(&chain, 1), 1_000, checks(20_000));
    chain.mine(&open_output(), vec![tx], NOW).unwrap();
    // In witnesses each counts one: nine scripts of 9,000 are too many, with nothing in sight before coins are known.
    let script = checks(9_000);
    let mut fund = spend(reward(&chain, 2), 1_000, script.to_p2wsh());
    fund.output = vec![fund.output[0].clone(); 9];
    let txid = fund.compute_txid();
    chain.mine(&open_output(), vec![fund], NOW).unwrap();
    let mut tx = spend(OutPoint { txid, vout: 0 }, 1_000, open_output());
    tx.input = (0..9)
        .map(|vout| TxIn {
            previous_output: OutPoint { txid, vout },
            witness: Witness::from_slice(&[script.as_bytes()]),
            ..TxIn::default()
        })
        .collect();
    let block = block_with(&chain, vec![tx.clone()]);
    refused(&mut chain, block, "bad-blk-sigops");
    // Eight pass the count, and are then refused by the scripts themselves.
    tx.input.pop();
    let block = block_with(&chain, vec![tx]);
    let reason = chain.submit_at(block, NOW).unwrap_err().reason();
    assert!(reason.starts_with("block-script-verify-flag-failed (input 0"), "{reason}");
}

#[test]
fn transactions_alone() {
    broken_tx("bad-txns-vin-empty", |tx| tx.input.clear());
    broken_tx("bad-txns-vout-empty", |tx| tx.output.clear());
    broken_tx("bad-txns-vout-negative", |tx| tx.output[0].value = Amount::from_sat(u64::MAX));
    broken_tx("bad-txns-vout-toolarge", |tx| tx.output[0].value = Amount::MAX_MONEY + Amount::ONE_SAT);
    broken_tx("bad-txns-txouttotal-toolarge", |tx| {
        tx.output[0].value = Amount::MAX_MONEY;
        tx.output.push(TxOut { value: Amount::ONE_SAT, script_pubkey: open_output() });
    });
    broken_tx("bad-txns-inputs-duplicate", |tx| tx.input.push(tx.input[0].clone()));
    broken_tx("bad-txns-prevout-null", |tx| {
        tx.input.push(TxIn { previous_output: OutPoint::null(), ..TxIn::default() });
    });
    let mut tx = spend(OutPoint { txid: Hash::hash(b"any"), vout: 0 }, 1, open_output());
    tx.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 1_000_000]);
    assert_eq!(check_transaction(&tx).unwrap_err().reason(), "bad-txns-oversize");
}

#[test]
fn transactions_and_their_coins() {
    let chain = start();
    let (immature, spent_twice) = (reward(&chain, 12), reward(&chain, 2));
    let missing = OutPoint { txid: Hash::hash(b"nothing"), vout: 0 };
    broken_tx("bad-txns-inputs-missingorspent", |tx| tx.input[0].previous_output = missing);
    broken_tx("bad-txns-inputs-missingorspent", |tx| tx.input[0].previous_output = spent_twice);
    broken_tx("bad-txns-premature-spend-of-coinbase", |tx| tx.input[0].previous_output = immature);
    broken_tx("bad-txns-in-belowout", |tx| tx.output[0].value = Amount::from_sat(5_000_000_001));
    broken_tx("bad-txns-nonfinal", |tx| {
        tx.lock_time = LockTime::from_consensus(111);
        tx.input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    });
    broken_tx("bad-txns-nonfinal", |tx| tx.input[0].sequence = Sequence::from_height(111));
    broken("bad-txns-inputs-missingorspent", |block| {
        // A child before its parent.
        let child = spend(first(&block.txdata[1]), 1, open_output());
        block.txdata.insert(1, child);
    });
}

#[test]
fn outputs_never_replace_unspent_ones() {
    // BIP 34 makes this unreachable by whole blocks, so the coins are laid out by hand (BIP 30).
    let chain = start();
    let block = sample(&chain);
    let mut coins: Coins = chain.coins().map(|(outpoint, coin)| (*outpoint, coin.clone())).collect();
    let connects = |coins: &Coins| {
        let prev_mtp = chain.tip().median_time;
        let place = Place { height: 111, prev_mtp, mtp_at: &|height| chain.median_time_past(height), coins };
        connect(&block, &place, Depth::Full).map(drop).map_err(|reject| reject.reason())
    };
    assert_eq!(connects(&coins), Ok(()));
    let coin = coins.values().next().cloned().unwrap();
    coins.insert(first(&block.txdata[2]), coin);
    assert_eq!(connects(&coins), Err("bad-txns-BIP30".to_string()));
}

#[test]
fn known_blocks_are_duplicates() {
    let mut chain = start();
    let good = Block::clone(&chain.block(&chain.tip().hash).unwrap());
    refused(&mut chain, good, "duplicate");
    // Refused in its place, and refused for its coins: both are remembered, and nothing builds on them.
    let mut misplaced = sample(&chain);
    misplaced.txdata[0].input[0].script_sig = Builder::new().push_int(9).push_int(9).into_script();
    recommit(&mut misplaced);
    let mut greedy = sample(&chain);
    greedy.txdata[0].output[0].value = Amount::from_int_btc(10_000);
    recommit(&mut greedy);
    for (block, reason) in [(misplaced, "bad-cb-height"), (greedy, "bad-cb-amount")] {
        refused(&mut chain, block.clone(), reason);
        let mut child = sample(&chain);
        child.header.prev_blockhash = block.block_hash();
        solve(&mut child, true);
        let before = copy(&chain);
        assert_eq!(chain.submit_at(block.clone(), NOW).unwrap_err().reason(), "duplicate-invalid");
        assert_same(&chain, &before);
        refused(&mut chain, child, "bad-prevblk");
        assert_eq!(chain.info(&block.block_hash()).unwrap().status, BlockStatus::Invalid);
        assert_eq!(chain.info(&block.block_hash()).unwrap().confirmations, -1);
    }
    assert_eq!(chain.chain_tips().len(), 3);
    grow(&mut chain, 1);
}
