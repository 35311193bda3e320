//! Making blocks.
//!
//! In: the script to pay, transactions in an order that can be mined, the time. Out: solved blocks on the tip. Reward,
//! height and witness commitment are set as bitcoind sets them, so that bitcoind takes the blocks. Read next:
//! `activate`.

use super::block::height_script;
use super::connect::total_fees;
use super::info::Submit;
use super::params::{subsidy, BITS, MINED_VERSION};
use super::reject::{BlockReject, ChainError};
use super::state::ChainState;
use super::store::Op;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_PUSHBYTES_0, OP_RETURN};
use bitcoin::script::Builder;
use bitcoin::{
    absolute, transaction, Amount, Block, CompactTarget, OutPoint, Script, ScriptBuf, Sequence, Transaction,
    TxIn, TxMerkleNode, TxOut, Witness,
};
use std::sync::Arc;

/// BIP 141's reserved value.
const RESERVED: [u8; 32] = [0; 32];
/// BIP 141: four bytes before the commitment.
const COMMITMENT_HEADER: [u8; 4] = [0xaa, 0x21, 0xa9, 0xed];

impl ChainState {
    /// Builds and solves a block on the tip and does not take it. `script` gets subsidy and fees; `txs` must be in an
    /// order that can be mined. Its time is `now`, Unix seconds, or a second after the median time, if later.
    ///
    /// # Errors
    /// A transaction whose coins are missing or immature, or that pays out more than it spends. Scripts and locks
    /// are not looked at: see [`ChainState::check_block`].
    pub fn assemble(&self, script: &Script, txs: Vec<Transaction>, now: u32) -> Result<Block, BlockReject> {
        let tip = self.tip();
        let height = tip.height.saturating_add(1);
        let fees = total_fees(&txs, height, self.coins_map())?;
        let reward = subsidy(height).checked_add(fees).ok_or(BlockReject::FeesRange)?;
        let mut txdata = Vec::with_capacity(txs.len().saturating_add(1));
        txdata.push(coinbase(height, script, reward));
        txdata.extend(txs);
        let header = Header {
            version: Version::from_consensus(MINED_VERSION),
            prev_blockhash: tip.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: now.max(tip.median_time.saturating_add(1)),
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        commit_to_witnesses(&mut block);
        block.header.merkle_root = block.compute_merkle_root().ok_or(BlockReject::Length)?;
        self.solve(&mut block.header)?;
        Ok(block)
    }

    /// Tries nonces, also until the hash is new: after `invalidate` the very same block could come out again.
    fn solve(&self, header: &mut Header) -> Result<(), BlockReject> {
        let target = header.target();
        for nonce in 0..=u32::MAX {
            header.nonce = nonce;
            let hash = header.block_hash();
            if target.is_met_by(hash) && !self.knows(&hash) {
                return Ok(());
            }
        }
        Err(BlockReject::HighHash)
    }

    /// Mines one block on the tip: see [`ChainState::assemble`].
    ///
    /// # Errors
    /// The rule the block would break; the chain is then as it was.
    pub fn mine(&mut self, script: &Script, txs: Vec<Transaction>, now: u32) -> Result<Submit, BlockReject> {
        self.mine_many(script, vec![txs], now)
    }

    /// Mines one block for each entry of `blocks`, synced to disk once at the end.
    ///
    /// # Errors
    /// The rule one of the blocks would break; none is then mined.
    pub fn mine_many(
        &mut self,
        script: &Script,
        blocks: Vec<Vec<Transaction>>,
        now: u32,
    ) -> Result<Submit, BlockReject> {
        self.usable()?;
        let mut connected: Vec<Arc<Block>> = Vec::with_capacity(blocks.len());
        for txs in blocks {
            match self.mine_unsaved(script, txs, now) {
                Ok(block) => connected.push(block),
                Err(reject) => {
                    self.drop_unsaved(connected.len());
                    return Err(reject);
                }
            }
        }
        let ops: Vec<Op> = connected.iter().map(|block| Op::Block(Arc::clone(block))).collect();
        if let Err(error) = self.save(&ops) {
            if matches!(error, ChainError::TooLarge(_)) {
                self.drop_unsaved(connected.len());
            }
            return Err(error.into());
        }
        Ok(Submit { disconnected: Vec::new(), connected })
    }

    fn mine_unsaved(
        &mut self,
        script: &Script,
        txs: Vec<Transaction>,
        now: u32,
    ) -> Result<Arc<Block>, BlockReject> {
        let block = Arc::new(self.assemble(script, txs, now)?);
        self.extend_tip(&block, now)?;
        Ok(block)
    }
}

fn coinbase(height: u32, script: &Script, reward: Amount) -> Transaction {
    // Low heights are one byte; a coinbase script has two at least.
    let mut bytes = height_script(height).into_bytes();
    bytes.push(OP_PUSHBYTES_0.to_u8());
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(bytes),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[RESERVED]),
        }],
        output: vec![TxOut { value: reward, script_pubkey: script.to_owned() }],
    }
}

/// Adds the commitment output to the coinbase (BIP 141). The coinbase's own witness id counts as zero, so the output
/// does not change what it commits to.
fn commit_to_witnesses(block: &mut Block) {
    let Some(root) = block.witness_root() else { return };
    let commitment = Block::compute_witness_commitment(&root, &RESERVED);
    let mut push = [0u8; 36];
    let bytes = COMMITMENT_HEADER.iter().chain(commitment.as_byte_array());
    push.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let script_pubkey = Builder::new().push_opcode(OP_RETURN).push_slice(push).into_script();
    if let Some(coinbase) = block.txdata.first_mut() {
        coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey });
    }
}
