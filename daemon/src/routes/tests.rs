//! The thread and its file: what was learned is there at the next start, damage costs what was learned and no more, and a
//! question that nobody waits for any more is not searched.

use super::*;
use crate::routes::scores::{load, save};
use chand_protocol::chain::Network;
use chand_protocol::gossip::graph::Direction;
use chand_protocol::id::{CommandId, NodeId, PaymentHash, ShortChannelId};
use chand_protocol::node::routes::{Because, Passage, Purpose};
use chand_protocol::route::Scorer;
use chand_protocol::units::Msat;
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
        first: Vec::new(),
        hints: Vec::new(),
        paths: Vec::new(),
        not_channels: Default::default(),
        not_nodes: Default::default(),
        in_flight: Vec::new(),
        told: Vec::new(),
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

#[test]
fn the_thread_saves_at_its_end_what_it_learned() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("scores.cache");
    let lesson = |scid| {
        let hop = Passage { channel: ShortChannelId(scid), direction: Direction::Zero, amount: SIZE };
        Box::new(Lesson { passed: Vec::new(), failed: Some((hop, Because::Room)), settled: false })
    };
    for known in 1..=2 {
        let gossip = GossipHandle::idle(Network::Regtest, node(1));
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
