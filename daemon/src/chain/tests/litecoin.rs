//! What litecoind says that bitcoind does not.

use super::super::{mweb, verify};
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::{Block, BlockHash, CompactTarget, TxMerkleNode};
use chand_protocol::chain::Network;

/// The first block with an extension block on a regtest of litecoind 0.21.2.1, with a peg-in in it; `getblock HASH 0`.
const BLOCK: &str = include_str!("mweb-block.hex");
const HASH: &str = "d44c03ac35e6ee6c401345889ecbc97df57737acfddbe083a94827935dcdd473";
const TXIDS: [&str; 3] = [
    "60cdf03bab589b825e2fda2b53c6b85cb4b43429602d4a7b30bc93eca2d55c3f",
    "693e5c6b3746074b2319f75f2466917298018b0403d0b74132bfbe3b252ea228",
    "18bfa8951522f3135bdc43727120f1d9e8bb28c06542dba44ecaf345fc958cc4",
];

fn bytes() -> Vec<u8> {
    Vec::from_hex(BLOCK.trim()).expect("hex")
}

#[test]
fn a_block_with_an_extension_block_is_read() {
    let bytes = bytes();
    assert!(deserialize::<Block>(&bytes).is_err(), "Bitcoin's form knows no such block");
    let block = mweb::block(&bytes).expect("litecoind's form");
    let hash: BlockHash = HASH.parse().expect("a hash");
    let ids: Vec<String> = block.txdata.iter().map(|tx| tx.compute_txid().to_string()).collect();
    assert_eq!(ids, TXIDS);
    assert_eq!(verify::block(&block, &hash, Network::LitecoinRegtest), Ok(()));
}

#[test]
fn blocks_cut_short_are_refused_and_lies_in_them_do_not_pass() {
    let whole = bytes();
    let hash: BlockHash = HASH.parse().expect("a hash");
    // The transactions end before the extension block, which nobody reads.
    let end =
        80 + mweb::block(&whole).map_or(0, |b| b.txdata.iter().map(|tx| serialize(tx).len()).sum::<usize>());
    for length in 0..end {
        assert!(mweb::block(&whole[..length]).is_none(), "{length} bytes");
    }
    for place in 0..end {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        let passes = |block: Block| verify::block(&block, &hash, Network::LitecoinRegtest).is_ok();
        assert!(!mweb::block(&bytes).is_some_and(passes), "byte {place}");
    }
    let mut many = whole[..80].to_vec();
    many.extend([0xff; 9]);
    assert!(mweb::block(&many).is_none());
}

#[test]
fn work_is_measured_as_litecoin_does() {
    let merkle = "97ddfbbae6be97fd6cdf3e7ca13232a3afff2353e29badfab7f73011edd4ced9";
    let header = Header {
        version: Version::from_consensus(1),
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: merkle.parse::<TxMerkleNode>().expect("a root"),
        time: 1_317_972_665,
        bits: CompactTarget::from_consensus(0x1e0f_fff0),
        nonce: 2_084_524_493,
    };
    assert_eq!(header.block_hash(), Network::Litecoin.genesis());
    assert!(verify::is_worked_for(&header, Network::Litecoin));
    assert!(!verify::is_worked_for(&header, Network::Bitcoin), "SHA-256 says nothing of it");
    let lazy = Header { nonce: 0, ..header };
    assert!(!verify::is_worked_for(&lazy, Network::Litecoin));
    let easy = Header { bits: CompactTarget::from_consensus(0x207f_ffff), ..header };
    assert!(!verify::is_worked_for(&easy, Network::Litecoin));
}
