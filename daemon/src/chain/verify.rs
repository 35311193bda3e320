//! What can be checked of a block without the blocks before it.
//!
//! In: a block, the hash it was asked by, the network. Out: nothing, or what is wrong with it.
//! Read next: `follow`, which checks that each block continues the last.

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, CompactTarget, Target};
use chand_protocol::chain::{Coin, Network};

/// Why a block cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBlock {
    #[error("the block's header is not the one asked for")]
    OtherHeader,
    #[error("the block's transactions do not match its merkle root")]
    MerkleRoot,
    #[error("the block's witnesses do not match its commitment")]
    WitnessCommitment,
    #[error("the block's proof of work is missing")]
    ProofOfWork,
    #[error("the block's proof of work is easier than the chain allows there")]
    Difficulty,
}

/// Hash, merkle root, witness commitment (preimages come out of witnesses) and, but on regtest, proof of work.
pub(super) fn block(block: &Block, asked: &BlockHash, network: Network) -> Result<(), BadBlock> {
    if block.block_hash() != *asked {
        return Err(BadBlock::OtherHeader);
    }
    if !block.check_merkle_root() {
        return Err(BadBlock::MerkleRoot);
    }
    if !block.check_witness_commitment() {
        return Err(BadBlock::WitnessCommitment);
    }
    if !network.is_regtest() && !is_worked_for(&block.header, network) {
        return Err(BadBlock::ProofOfWork);
    }
    Ok(())
}

/// Blocks between two changes of the difficulty, of Bitcoin and of Litecoin.
const RETARGET: u32 = 2_016;

/// Whether these networks keep to one difficulty between its changes; the test networks let it fall when blocks are late.
pub(super) const fn is_strict(network: Network) -> bool {
    matches!(network, Network::Bitcoin | Network::Signet | Network::Litecoin)
}

/// Whether a block of this difficulty may follow at `height` on one of that: without this, a backend that lies could make up a
/// chain whose every block was easy.
pub(super) fn difficulty(
    before: CompactTarget,
    block: &Header,
    height: u32,
    network: Network,
) -> Result<(), BadBlock> {
    let fits = if !is_strict(network) {
        true
    } else if height.is_multiple_of(RETARGET) {
        // At most four times as easy; how hard it becomes harms nobody.
        block.target() <= Target::from_compact(before).max_transition_threshold_unchecked()
    } else {
        block.bits == before
    };
    fits.then_some(()).ok_or(BadBlock::Difficulty)
}

/// Whether the header meets its own target, and that is no easier than the coin allows.
pub(super) fn is_worked_for(header: &Header, network: Network) -> bool {
    let target = header.target();
    match network.row().coin {
        Coin::Bitcoin => {
            target <= network.bitcoin().params().max_attainable_target && header.validate_pow(target).is_ok()
        }
        Coin::Litecoin => {
            target <= Target::from_compact(CompactTarget::from_consensus(LITECOIN_EASIEST))
                && litecoin_work(header).is_some_and(|work| target.is_met_by(work))
        }
    }
}

/// The easiest target of Litecoin's main and test networks.
const LITECOIN_EASIEST: u32 = 0x1e0f_ffff;

/// scrypt of the header with N = 1024, r = 1, p = 1, the header being its own salt.
fn litecoin_work(header: &Header) -> Option<BlockHash> {
    let bytes = bitcoin::consensus::serialize(header);
    let mut work = [0; 32];
    let params = scrypt::Params::new(10, 1, 1).ok()?;
    scrypt::scrypt(&bytes, &bytes, &params, &mut work).ok()?;
    Some(BlockHash::from_byte_array(work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::blockdata::constants::genesis_block;

    #[test]
    fn difficulty_changes_where_it_may_and_no_more_than_it_may() {
        let mut header = genesis_block(bitcoin::Network::Bitcoin).header;
        let before = CompactTarget::from_consensus(0x1d00_1000);
        let allowed = |header: &Header, height, network| difficulty(before, header, height, network).is_ok();
        for (bits, between, at_change) in [
            (0x1d00_1000, true, true),
            (0x1d00_0fff, false, true),
            (0x1d00_1001, false, true),
            (0x1d00_4000, false, true),
            (0x1d00_4001, false, false),
            (0x1d00_ffff, false, false),
        ] {
            header.bits = CompactTarget::from_consensus(bits);
            for network in [Network::Bitcoin, Network::Litecoin, Network::Signet] {
                assert_eq!(allowed(&header, 2_015, network), between, "{bits:x} between");
                assert_eq!(allowed(&header, 2_017, network), between, "{bits:x} between");
                assert_eq!(allowed(&header, 4_032, network), at_change, "{bits:x} at a change");
            }
            assert!(allowed(&header, 2_015, Network::Testnet) && allowed(&header, 2_015, Network::Regtest));
        }
    }

    #[test]
    fn genuine_blocks_pass_and_changed_ones_do_not() {
        for network in
            [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest]
        {
            let good = genesis_block(network.bitcoin());
            let hash = good.block_hash();
            assert_eq!(block(&good, &hash, network), Ok(()), "{network}");

            let mut other = good.clone();
            other.header.time += 1;
            assert_eq!(block(&other, &hash, network), Err(BadBlock::OtherHeader));
            let expected = if network == Network::Regtest { Ok(()) } else { Err(BadBlock::ProofOfWork) };
            assert_eq!(block(&other, &other.block_hash(), network), expected, "{network}");

            let mut easy = good.clone();
            easy.header.bits = CompactTarget::from_consensus(0x207f_ffff);
            assert_eq!(block(&easy, &easy.block_hash(), network), expected, "{network}");

            let mut robbed = good.clone();
            robbed.txdata[0].output[0].value = bitcoin::Amount::from_sat(1);
            assert_eq!(block(&robbed, &hash, network), Err(BadBlock::MerkleRoot));
            robbed.txdata.clear();
            assert_eq!(block(&robbed, &hash, network), Err(BadBlock::MerkleRoot));

            let mut witness = good.clone();
            witness.txdata[0].input[0].witness.push([0; 32]);
            assert_eq!(block(&witness, &hash, network), Err(BadBlock::WitnessCommitment));
        }
    }
}
