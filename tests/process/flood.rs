//! Gossip without end from a stranger at the real port: forged, of no use, and questions whose answers it never reads.
//!
//! In: one daemon with a channel, strangers who send as fast as it reads. Out: its memory stays bounded, who forges is ignored,
//! and those it has channels with notice nothing. Read next: `stranger`, `chand_protocol::gossip`.

use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{self, All, Secp256k1, SecretKey};
use chand_protocol::chain::Network;
use chand_protocol::id::{NodeId, ShortChannelId};
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::gossip::{
    signed_digest, ChannelAnnouncement, ChannelUpdate, QueryChannelRange, QueryOption,
};
use chand_protocol::wire::message::Ping;
use chand_protocol::wire::Message;
use chand_tests::books::shares;
use chand_tests::stranger::Stranger;
use chand_tests::{wait_until, ChannelType, Node, World};
use serde_json::json;
use std::fs;

/// Messages of each kind.
const MANY: u64 = 4_000;
/// What such a flood may cost the daemon, kB.
const MOST_KB: u64 = 100_000;

/// What a daemon has in memory, kB.
fn resident_kb(node: &mut Node) -> u64 {
    let pid = node.process().id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

struct Forger {
    secp: Secp256k1<All>,
    keys: [SecretKey; 2],
}

impl Forger {
    fn new() -> Forger {
        let secp = Secp256k1::new();
        let mut keys = [7, 8].map(|n| SecretKey::from_slice(&[n; 32]).expect("a key"));
        keys.sort_by_key(|key| key.public_key(&secp).serialize());
        Forger { secp, keys }
    }

    fn sign(&self, bytes: &[u8], signatures: usize, key: &SecretKey) -> Signature {
        let digest = signed_digest(bytes, signatures).expect("long enough");
        self.secp.sign_ecdsa(&secp256k1::Message::from_digest(digest), key)
    }

    /// A channel that is in no block, its signatures in order.
    fn announcement(&self, scid: u64, honest: bool) -> Vec<u8> {
        let [one, two] = self.keys.map(|key| key.public_key(&self.secp));
        let none = self.sign(&[0; 400], 4, &self.keys[0]);
        let mut m = ChannelAnnouncement {
            node_signature_1: none,
            node_signature_2: none,
            bitcoin_signature_1: none,
            bitcoin_signature_2: none,
            features: Vec::new(),
            chain_hash: Network::Regtest.chain_hash(),
            short_channel_id: ShortChannelId(scid),
            node_id_1: NodeId(one),
            node_id_2: NodeId(two),
            bitcoin_key_1: one,
            bitcoin_key_2: two,
            tail: Vec::new(),
        };
        if honest {
            let bytes = Message::ChannelAnnouncement(m.clone()).encode().expect("bytes");
            let [first, second] = self.keys.map(|key| self.sign(&bytes, 4, &key));
            (m.node_signature_1, m.bitcoin_signature_1) = (first, first);
            (m.node_signature_2, m.bitcoin_signature_2) = (second, second);
        }
        Message::ChannelAnnouncement(m).encode().expect("bytes")
    }

    /// An update of a channel that nobody announced.
    fn update(&self, scid: u64, timestamp: u32) -> Vec<u8> {
        let m = ChannelUpdate {
            signature: self.sign(&[0; 400], 1, &self.keys[0]),
            chain_hash: Network::Regtest.chain_hash(),
            short_channel_id: ShortChannelId(scid),
            timestamp,
            message_flags: ChannelUpdate::MUST_BE_ONE,
            channel_flags: 0,
            cltv_expiry_delta: 34,
            htlc_minimum_msat: Msat(1),
            fee_base_msat: 1_000,
            fee_proportional_millionths: 10,
            htlc_maximum_msat: Msat(1_000_000),
            tail: Vec::new(),
        };
        Message::ChannelUpdate(m).encode().expect("bytes")
    }
}

/// Writes until all is said or the node hangs up.
fn pour(from: &mut Stranger, messages: impl Iterator<Item = Vec<u8>>) {
    for message in messages {
        if from.say(&message).is_err() {
            return;
        }
    }
}

fn as_before(world: &World, label: &str) {
    let bolt11 = world.bob.invoice(3_000, label);
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    shares(&world.alice, &world.bob);
}

#[test]
fn answers_that_many_strangers_do_not_read_are_bounded_together() {
    // Six bytes ask for 64 kB, and each link alone may let 8 MB wait.
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    as_before(&world, "before");
    let before = resident_kb(&mut world.bob);
    let ping = Message::Ping(Ping { num_pong_bytes: 65_531, byteslen: 0 }).encode().expect("bytes");
    let mut strangers: Vec<Stranger> = (0..40).map(|n| Stranger::greet(&world.bob, 100 + n)).collect();
    let mut most = 0;
    for stranger in &mut strangers {
        pour(stranger, (0..120).map(|_| ping.clone()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        most = most.max(resident_kb(&mut world.bob));
    }
    as_before(&world, "in the flood");
    most = most.max(resident_kb(&mut world.bob));
    assert!(most < before + MOST_KB, "{before} kB before, {most} kB at most");
    drop(strangers);
    as_before(&world, "afterwards");
}

#[test]
fn a_flood_of_gossip_costs_little_memory_and_stops_nobody() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    as_before(&world, "before");
    let before = resident_kb(&mut world.bob);
    let forger = Forger::new();
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
    let scid = |n: u64| (1 + n / 500) << 40 | (1_000 + n % 500) << 16;
    let range = Message::QueryChannelRange(QueryChannelRange {
        chain_hash: Network::Regtest.chain_hash(),
        first_blocknum: Height(0),
        number_of_blocks: u32::MAX,
        query_option: Some(QueryOption(3)),
    });
    let range = range.encode().expect("bytes");

    // Well signed and in no block; without a channel; and questions upon questions, no answer of which is ever read.
    let mut erin = Stranger::greet(&world.bob, 150);
    pour(&mut erin, (0..MANY).map(|n| forger.announcement(scid(n), true)));
    as_before(&world, "in the first flood");
    let mut frank = Stranger::greet(&world.bob, 151);
    pour(&mut frank, (0..MANY).map(|n| forger.update(scid(n) + 1, now_s as u32)));
    let mut grace = Stranger::greet(&world.bob, 152);
    pour(&mut grace, (0..MANY).map(|_| range.clone()));
    as_before(&world, "in all three");
    // A forger is ignored at its first word.
    let ignored = |world: &World| world.bob.log().matches("its gossip is ignored").count();
    let counted = ignored(&world);
    let mut heidi = Stranger::greet(&world.bob, 153);
    pour(&mut heidi, std::iter::once(forger.announcement(scid(MANY + 1), false)));
    wait_until("the forger to be ignored", || ignored(&world) > counted);

    let after = resident_kb(&mut world.bob);
    assert!(after < before + MOST_KB, "{before} kB before, {after} kB after");
    drop((erin, frank, grace, heidi));
    as_before(&world, "afterwards");
    // None of it is in what Bob tells of the network.
    let listed = world.bob.call("listchannels", json!({}));
    assert!(listed["channels"].as_array().is_some_and(|list| list.len() <= 2), "{listed}");
}
