//! Rules of a block that need no coins.
//!
//! In: a block, its height, the median time before it. Out: nothing, or the rule broken, asked in bitcoind's order so
//! that the reason given is the same. Read next: `connect`.

use super::header::check_work;
use super::params::{MAX_BLOCK_WEIGHT, MAX_SIGOPS_COST, WITNESS_SCALE};
use super::reject::{BlockReject, TxReject};
use super::sigops;
use super::tx::{check_transaction, is_final};
use bitcoin::hashes::{sha256d, Hash};
use bitcoin::script::Builder;
use bitcoin::{Block, BlockHash, ScriptBuf, Transaction, TxMerkleNode, VarInt};

/// What a commitment output's script begins with: return, push of 36 bytes, four bytes of mark (BIP 141).
const COMMITMENT_MARK: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// A commitment output's script has at least this many bytes (BIP 141).
const COMMITMENT_BYTES: usize = 38;

/// What can be said of a block alone.
pub(super) fn check_alone(block: &Block, hash: BlockHash) -> Result<(), BlockReject> {
    check_work(&block.header, hash)?;
    check_merkle_root(block)?;
    let count = block.txdata.len();
    if count == 0 || stripped_size(block).saturating_mul(WITNESS_SCALE) > MAX_BLOCK_WEIGHT {
        return Err(BlockReject::Length);
    }
    let mut txs = block.txdata.iter();
    if !txs.next().is_some_and(Transaction::is_coinbase) {
        return Err(BlockReject::CoinbaseMissing);
    }
    if txs.any(Transaction::is_coinbase) {
        return Err(BlockReject::CoinbaseMultiple);
    }
    for tx in &block.txdata {
        check_transaction(tx)?;
    }
    let sigops = block.txdata.iter().map(sigops::legacy).fold(0, usize::saturating_add);
    if sigops.saturating_mul(WITNESS_SCALE) > MAX_SIGOPS_COST {
        return Err(BlockReject::Sigops);
    }
    Ok(())
}

/// What can be said of a block at `height` whose predecessor's median time is `prev_mtp`.
pub(super) fn check_in_place(block: &Block, height: u32, prev_mtp: u32) -> Result<(), BlockReject> {
    if !block.txdata.iter().all(|tx| is_final(tx, height, prev_mtp)) {
        return Err(TxReject::NonFinal.into());
    }
    // BIP 34: the coinbase script begins with the height, pushed the shortest way.
    let prefix = height_script(height);
    let script = block.txdata.first().and_then(|tx| tx.input.first()).map(|input| &input.script_sig);
    if !script.is_some_and(|script| script.as_bytes().starts_with(prefix.as_bytes())) {
        return Err(BlockReject::CoinbaseHeight);
    }
    check_witnesses(block)?;
    if block.weight().to_wu() > MAX_BLOCK_WEIGHT as u64 {
        return Err(BlockReject::Weight);
    }
    Ok(())
}

/// The height as a coinbase script begins with it.
pub(super) fn height_script(height: u32) -> ScriptBuf {
    Builder::new().push_int(i64::from(height)).into_script()
}

/// Gives a coinbase that has a witness commitment but no witness the reserved value of 32 zeros, as `submitblock`
/// does for miners that leave it out.
pub fn add_reserved_value(block: &mut Block) {
    if commitment_position(block).is_none() {
        return;
    }
    if let Some(input) = block.txdata.first_mut().and_then(|tx| tx.input.first_mut()) {
        if input.witness.is_empty() {
            input.witness.push([0u8; 32]);
        }
    }
}

fn check_merkle_root(block: &Block) -> Result<(), BlockReject> {
    let mut level: Vec<sha256d::Hash> =
        block.txdata.iter().map(|tx| tx.compute_txid().to_raw_hash()).collect();
    let mut repeated = false;
    while level.len() > 1 {
        repeated |= level.chunks_exact(2).any(|pair| matches!(pair, [a, b] if a == b));
        level = level.chunks(2).map(hash_pair).collect();
    }
    let root = level.pop().map_or_else(TxMerkleNode::all_zeros, TxMerkleNode::from_raw_hash);
    if root != block.header.merkle_root {
        return Err(BlockReject::MerkleRoot);
    }
    if repeated {
        return Err(BlockReject::MerkleDuplicate);
    }
    Ok(())
}

/// The node above one or two others; one alone counts twice.
fn hash_pair(pair: &[sha256d::Hash]) -> sha256d::Hash {
    let mut bytes = Vec::with_capacity(64);
    for node in pair.first().into_iter().chain(pair.last()) {
        bytes.extend_from_slice(node.as_byte_array());
    }
    sha256d::Hash::hash(&bytes)
}

/// Size without witnesses, in bytes.
fn stripped_size(block: &Block) -> usize {
    let frame = 80 + VarInt::from(block.txdata.len()).size();
    block.txdata.iter().map(Transaction::base_size).fold(frame, usize::saturating_add)
}

/// The last output of the coinbase that looks like a witness commitment (BIP 141).
fn commitment_position(block: &Block) -> Option<usize> {
    block.txdata.first()?.output.iter().rposition(|out| {
        out.script_pubkey.len() >= COMMITMENT_BYTES
            && out.script_pubkey.as_bytes().starts_with(&COMMITMENT_MARK)
    })
}

fn check_witnesses(block: &Block) -> Result<(), BlockReject> {
    let Some(position) = commitment_position(block) else {
        let witness = block.txdata.iter().flat_map(|tx| &tx.input).any(|input| !input.witness.is_empty());
        return if witness { Err(BlockReject::WitnessUnexpected) } else { Ok(()) };
    };
    let coinbase = block.txdata.first().ok_or(BlockReject::CoinbaseMissing)?;
    let reserved = match coinbase.input.first().map(|input| &input.witness) {
        Some(witness) if witness.len() == 1 => witness.nth(0).filter(|item| item.len() == 32),
        _ => None,
    };
    let reserved = reserved.ok_or(BlockReject::WitnessNonce)?;
    let root = block.witness_root().ok_or(BlockReject::WitnessMatch)?;
    let wanted = Block::compute_witness_commitment(&root, reserved);
    let script = coinbase.output.get(position).map(|out| out.script_pubkey.as_bytes());
    let found = script.and_then(|script| script.get(COMMITMENT_MARK.len()..COMMITMENT_BYTES));
    if found != Some(wanted.as_byte_array().as_slice()) {
        return Err(BlockReject::WitnessMatch);
    }
    Ok(())
}
