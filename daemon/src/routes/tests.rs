//! The thread and its file: what was learned is there at the next start, damage costs what was learned and no more, and a
//! question that nobody waits for any more is not searched.

use super::*;
use crate::routes::scores::{load, save};
use chand_protocol::chain::Network;
use chand_protocol::gossip::graph::Direction;
use chand_protocol::gossip::{Kept, Store};
use chand_protocol::id::{CommandId, NodeId, PaymentHash, ShortChannelId};
use chand_protocol::node::routes::{Because, Passage, Purpose};
use chand_protocol::route::Scorer;
use chand_protocol::units::Msat;
use chand_protocol::wire::gossip::{ChannelAnnouncement, ChannelUpdate};
use chand_protocol::wire::Message;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SIZE: Msat = Msat(1_000_000);

fn learned(channels: u64) -> Scorer {
    let mut scorer = Scorer::new();
    for scid in 1..=channels {
        scorer.fail(ShortChannelId(scid), Direction::Zero, Msat(500_000), SIZE, now());
    }
    scorer
}

fn node(n: u8) -> NodeId {
    let secret = SecretKey::from_slice(&[n; 32]).expect("a key");
    NodeId(PublicKey::from_secret_key(&Secp256k1::signing_only(), &secret))
}

fn request(purpose: Purpose) -> Box<RouteRequest> {
    Box::new(RouteRequest {
        purpose,
        us: node(1),
        payee: node(2),
        amount: SIZE,
        max_fee: SIZE,
        final_cltv_blocks: 9,
        max_blocks: 2_000,
        max_hops: 20,
        max_parts: 1,
        invoiced: true,
        first: Vec::new(),
        hints: Vec::new(),
        paths: Vec::new(),
        not_channels: Default::default(),
        busy: Default::default(),
        failed: Vec::new(),
        not_nodes: Default::default(),
        in_flight: Vec::new(),
        told: Vec::new(),
        full: Vec::new(),
        anew: false,
        in_words: true,
    })
}

#[test]
fn scores_come_back_and_damage_costs_only_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("scores.cache");
    assert!(load(&path).is_empty(), "none yet");
    let scorer = learned(3);
    save(&path, &scorer).expect("written");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(load(&path).to_bytes(), scorer.to_bytes());
    let good = fs::read(&path).expect("read");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).expect("written");
        assert!(load(&path).is_empty(), "byte {at} changed");
        fs::write(&path, &good[..at]).expect("written");
        assert!(load(&path).is_empty(), "cut at {at}");
    }
    fs::write(&path, vec![0; 5 * 1_024 * 1_024]).expect("written");
    assert!(load(&path).is_empty());
    fs::remove_file(&path).expect("gone");
    fs::create_dir(&path).expect("made");
    assert!(load(&path).is_empty(), "a folder");
    assert!(save(&path, &scorer).is_err(), "a folder stands in its place");
}

/// A map of channels between nodes 2 and 3.
fn map(channels: u64) -> GossipHandle {
    let (secp, secret) = (Secp256k1::new(), SecretKey::from_slice(&[9; 32]).expect("a key"));
    let signature = secp.sign_ecdsa(&secp256k1::Message::from_digest([1; 32]), &secret);
    let chain_hash = Network::Regtest.chain_hash();
    let mut ends = [node(2), node(3)];
    ends.sort();
    let mut store = Store::new();
    let mut take = |message: Message, kept: fn(Box<[u8]>) -> Kept| {
        let bytes = message.encode().expect("a message").into_boxed_slice();
        store.restore(kept(bytes), &chain_hash, 1);
    };
    for scid in 1..=channels {
        let announcement = ChannelAnnouncement {
            node_signature_1: signature,
            node_signature_2: signature,
            bitcoin_signature_1: signature,
            bitcoin_signature_2: signature,
            features: Vec::new(),
            chain_hash,
            short_channel_id: ShortChannelId(scid),
            node_id_1: ends[0],
            node_id_2: ends[1],
            bitcoin_key_1: ends[0].0,
            bitcoin_key_2: ends[1].0,
            tail: Vec::new(),
        };
        take(Message::ChannelAnnouncement(announcement), |announcement| Kept::Channel {
            announcement,
            funding: None,
            since_s: 1,
        });
        let update = ChannelUpdate {
            signature,
            chain_hash,
            short_channel_id: ShortChannelId(scid),
            timestamp: 1,
            message_flags: ChannelUpdate::MUST_BE_ONE,
            channel_flags: 0,
            cltv_expiry_delta: 34,
            htlc_minimum_msat: Msat(1),
            fee_base_msat: 0,
            fee_proportional_millionths: 0,
            htlc_maximum_msat: SIZE,
            tail: Vec::new(),
        };
        take(Message::ChannelUpdate(update), |update| Kept::Update { update });
    }
    GossipHandle::knowing(Network::Regtest, node(1), store)
}

#[test]
fn the_thread_saves_at_its_end_what_it_learned() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("scores.cache");
    let lesson = |scid| {
        let mut ends = [node(2), node(3)];
        ends.sort();
        let hop = Passage { channel: ShortChannelId(scid), from: ends[0], to: ends[1], amount: SIZE };
        Box::new(Lesson { passed: Vec::new(), failed: Some((hop, Because::Room)), settled: false })
    };
    for known in 1..=2 {
        let gossip = map(2);
        let (routes, answers, thread) = Routes::start(gossip, path.clone()).expect("a thread");
        routes.learn(lesson(known));
        drop(routes);
        thread.join().expect("it ended");
        drop(answers);
        assert_eq!(load(&path).len() as u64, known, "those of before are still there");
    }
    // Where it cannot be written the thread ends all the same.
    let gossip = GossipHandle::idle(Network::Regtest, node(1));
    let nowhere = dir.path().join("no").join("folder");
    let (routes, _answers, thread) = Routes::start(gossip, nowhere).expect("a thread");
    routes.learn(lesson(9));
    drop(routes);
    thread.join().expect("it ended");
}

#[test]
fn only_the_newest_question_of_a_payment_is_searched() {
    let (jobs, jobs_in) = channel();
    let routes = Routes { jobs };
    let (alice, bob) = (PaymentHash([1; 32]), PaymentHash([2; 32]));
    let asked = [
        Purpose::Payment(alice, 1),
        Purpose::Question(CommandId(7)),
        Purpose::Payment(bob, 1),
        Purpose::Payment(alice, 2),
        Purpose::Question(CommandId(8)),
        Purpose::Payment(alice, 3),
    ];
    asked.into_iter().for_each(|purpose| routes.find(request(purpose)));
    drop(routes);
    let (answers, mut answered) = unbounded_channel();
    let gossip = GossipHandle::idle(Network::Regtest, node(1));
    let dir = tempfile::tempdir().expect("a folder");
    run(&jobs_in, &answers, &gossip, &dir.path().join("scores.cache"));
    let mut purposes = Vec::new();
    while let Ok(Input::Routes { purpose, .. }) = answered.try_recv() {
        purposes.push(purpose);
    }
    assert_eq!(purposes, [asked[1], asked[2], asked[4], asked[5]]);
}
