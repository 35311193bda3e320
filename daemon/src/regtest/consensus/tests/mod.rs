//! Tests of the chain: what the other files here share.
//!
//! In: nothing. Out: chains in memory, transactions that need no signature, blocks put right again after a change.
//! Read next: `mined`, `rules`, `spends`, `forks`, `disk`, `history`.

mod disk;
mod forks;
mod history;
mod mined;
mod rules;
mod spends;

use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    opcodes, Amount, Block, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxMerkleNode, TxOut,
    Witness,
};

/// The clock of all tests, Unix seconds.
const NOW: u32 = 1_700_000_000;

/// A witness script that anyone can spend.
fn open_script() -> ScriptBuf {
    Builder::new().push_opcode(opcodes::OP_TRUE).into_script()
}

/// An output script that anyone can spend.
fn open_output() -> ScriptBuf {
    open_script().to_p2wsh()
}

/// Another one, so that blocks differ.
fn other_output() -> ScriptBuf {
    Builder::new().push_int(2).into_script().to_p2wsh()
}

/// A chain of `blocks` blocks that pay to anyone.
fn chain(blocks: u32) -> ChainState {
    let mut chain = ChainState::in_memory();
    grow(&mut chain, blocks);
    chain
}

/// Mines empty blocks that pay to anyone.
fn grow(chain: &mut ChainState, blocks: u32) {
    let empty = (0..blocks).map(|_| Vec::new()).collect();
    chain.mine_many(&open_output(), empty, NOW).unwrap();
}

/// Another chain, given the active blocks of this one by `submit`.
fn copy(chain: &ChainState) -> ChainState {
    let mut copy = ChainState::in_memory();
    for height in 1..=chain.tip().height {
        let block = chain.block(&chain.block_hash(height).unwrap()).unwrap();
        assert_eq!(copy.submit_at(Block::clone(&block), NOW).unwrap().connected, [block]);
    }
    copy
}

/// The same chain state, tip, coins and transactions included.
fn assert_same(a: &ChainState, b: &ChainState) {
    assert_eq!(a.tip(), b.tip());
    assert!(a.coins().eq(b.coins()));
    for height in 0..=a.tip().height {
        let hash = a.block_hash(height).unwrap();
        assert_eq!(Some(hash), b.block_hash(height));
        assert_eq!(a.info(&hash), b.info(&hash));
        assert_eq!(a.spent_coins(&hash), b.spent_coins(&hash));
        for tx in &a.block(&hash).unwrap().txdata {
            let txid = tx.compute_txid();
            assert_eq!(a.find_tx(&txid), b.find_tx(&txid));
        }
    }
}

/// The coinbase outpoint of the active block at `height`.
fn reward(chain: &ChainState, height: u32) -> OutPoint {
    let block = chain.block(&chain.block_hash(height).unwrap()).unwrap();
    OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 }
}

/// Spends an output that anyone can spend; pays `sat` satoshis to `to`.
fn spend(from: OutPoint, sat: u64, to: ScriptBuf) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[open_script().as_bytes()]),
        }],
        output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey: to }],
    }
}

/// The first output of a transaction.
fn first(tx: &Transaction) -> OutPoint {
    OutPoint { txid: tx.compute_txid(), vout: 0 }
}

/// Checks a transaction for the next block against confirmed coins.
fn check(chain: &ChainState, tx: &Transaction) -> Result<Amount, TxReject> {
    let coins: Option<Vec<Coin>> = tx.input.iter().map(|input| chain.coin(&input.previous_output)).collect();
    let tip = chain.tip();
    chain.check_tx_inputs(tx, &coins.unwrap_or_default(), tip.height + 1, tip.median_time)
}

/// A block on the tip with these transactions, unchecked.
fn block_with(chain: &ChainState, txs: Vec<Transaction>) -> Block {
    let mut block = chain.assemble(&open_output(), Vec::new(), NOW).unwrap();
    block.txdata.extend(txs);
    recommit(&mut block);
    block
}

/// Renews witness commitment, merkle root and proof of work.
fn recommit(block: &mut Block) {
    if let Some(root) = block.witness_root() {
        let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
        if let Some(out) = block.txdata[0].output.get_mut(1) {
            let mut bytes = out.script_pubkey.to_bytes();
            bytes[6..38].copy_from_slice(commitment.as_byte_array());
            out.script_pubkey = ScriptBuf::from_bytes(bytes);
        }
    }
    reroot(block);
}

/// Renews merkle root and proof of work.
fn reroot(block: &mut Block) {
    block.header.merkle_root = block.compute_merkle_root().unwrap_or(TxMerkleNode::all_zeros());
    solve(block, true);
}

/// Looks for a nonce that meets the target, or misses it.
fn solve(block: &mut Block, meet: bool) {
    let target = Target::from_compact(block.header.bits);
    while target.is_met_by(block.block_hash()) != meet {
        block.header.nonce += 1;
    }
}
