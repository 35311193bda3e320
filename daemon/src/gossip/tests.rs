//! The cache's file: what comes back, what a damaged one costs, how it shrinks.

use super::Cache;
use bitcoin::hashes::Hash;
use bitcoin::Txid;
use chand_protocol::gossip::{Kept, Store};
use chand_protocol::id::ShortChannelId;
use chand_protocol::units::Sat;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::fs;

const CHAIN: [u8; 32] = [7; 32];

/// A `channel_announcement` with nodes that exist and signatures that do not; a cache does not look at those.
fn announcement(scid: u64) -> Box<[u8]> {
    let secp = Secp256k1::signing_only();
    let node = |n: u8| {
        let key = SecretKey::from_slice(&[n; 32]).expect("a key");
        PublicKey::from_secret_key(&secp, &key).serialize()
    };
    let mut nodes = [node(1), node(2)];
    nodes.sort();
    let mut bytes = vec![1, 0];
    bytes.extend([9; 4 * 64]);
    bytes.extend([0, 0]);
    bytes.extend(CHAIN);
    bytes.extend(scid.to_be_bytes());
    for _ in 0..2 {
        nodes.iter().for_each(|n| bytes.extend(n));
    }
    bytes.into()
}

fn update(scid: u64, direction: u8, timestamp: u32) -> Kept {
    let mut bytes = vec![1, 2];
    bytes.extend([9; 64]);
    bytes.extend(CHAIN);
    bytes.extend(scid.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend([1, direction]);
    bytes.extend(34u16.to_be_bytes());
    bytes.extend(1u64.to_be_bytes());
    bytes.extend(1_000u32.to_be_bytes());
    bytes.extend(10u32.to_be_bytes());
    bytes.extend(9_000u64.to_be_bytes());
    Kept::Update { update: bytes.into() }
}

fn channel(scid: u64) -> Kept {
    let funding = Some((Txid::from_byte_array([scid as u8; 32]), Sat(1_000_000)));
    Kept::Channel { announcement: announcement(scid), funding, since_s: 1 }
}

fn scids(store: &Store) -> Vec<u64> {
    store.channels_from(ShortChannelId(0)).map(|(scid, _)| scid.0).collect()
}

#[test]
fn what_was_kept_comes_back_up_to_the_first_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("gossip");
    let (store, mut cache) = Cache::open(&path, &CHAIN, 100);
    assert_eq!(store.channel_count(), 0);
    for scid in 1..=3 {
        cache.append(&channel(scid));
        cache.append(&update(scid, 0, 50));
    }
    cache.append(&Kept::Gone { scid: ShortChannelId(2) });
    assert!(cache.is_dirty());
    cache.flush();
    let (store, _) = Cache::open(&path, &CHAIN, 100);
    assert_eq!(scids(&store), [1, 3]);
    let policy = store.graph().channel(ShortChannelId(3)).and_then(|c| c.policies[0]).expect("a policy");
    assert_eq!((policy.timestamp, policy.cltv_expiry_delta, policy.htlc_maximum.0), (50, 34, 9_000));
    assert_eq!(store.graph().node_count(), 2);

    // Every cut and every damaged byte costs what comes after it, never the start.
    let whole = fs::read(&path).expect("a file");
    for at in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..at]).expect("written");
        let (store, mut cache) = Cache::open(&path, &CHAIN, 100);
        assert!(store.channel_count() <= 3);
        cache.append(&channel(9));
        cache.flush();
        assert!(scids(&Cache::open(&path, &CHAIN, 100).0).contains(&9), "cut at {at}");
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, &damaged).expect("written");
        let (store, _) = Cache::open(&path, &CHAIN, 100);
        assert!(store.channel_count() <= 3);
    }
    // Another chain's is begun anew.
    fs::write(&path, &whole).expect("written");
    assert_eq!(Cache::open(&path, &[8; 32], 100).0.channel_count(), 0);
}

#[test]
fn a_file_of_old_news_is_written_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("gossip");
    let (mut store, mut cache) = Cache::open(&path, &CHAIN, 100);
    store.restore(channel(1), &CHAIN, 100);
    cache.append(&channel(1));
    let mut count = 0u32;
    while !cache.is_bloated() {
        count += 1;
        store.restore(update(1, 1, count), &CHAIN, 100);
        cache.append(&update(1, 1, count));
    }
    cache.flush();
    let before = fs::metadata(&path).expect("a file").len();
    cache.compact(&store);
    let after = fs::metadata(&path).expect("a file").len();
    assert!(before > 4_000_000 && after < 2_000, "{before} to {after}");
    // And it goes on from there.
    cache.append(&channel(2));
    cache.flush();
    let (store, _) = Cache::open(&path, &CHAIN, 100);
    assert_eq!(scids(&store), [1, 2]);
    let newest = store.channel(&ShortChannelId(1)).and_then(|c| c.newest());
    assert_eq!(newest, Some(count));
}

#[test]
fn many_links_share_what_may_wait_on_all_of_them() {
    let shares = [0, 1, 48, 49, 128, 896].map(super::share);
    assert_eq!(shares[..3], [512 * 1_024; 3]);
    assert!(shares.windows(2).all(|pair| pair[1] <= pair[0]) && shares[5] >= 24 * 1_024);
    assert!(896 * shares[5] < 26_000_000);
}
