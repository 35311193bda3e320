//! The watchtower: a node that is off, a peer that cheats, and everything taken all the same.
//!
//! In: real nodes, a real tower, the embedded chain. Out: nothing of the channel is the cheat's, and what the tower took is in
//! the wallet of the node when that comes back. Read next: `penalty`.

use crate::penalty::{begin, copy, end, takeable};
use crate::stage::{self, accounts, Purses};
use bitcoin::{OutPoint, Transaction};
use chand_tests::tower::Tower;
use chand_tests::trail::{wait_spender, Trail};
use chand_tests::{wait_for, Chain, ChannelType, Node, World};
use serde_json::json;

/// What Bob has of the old state: 400,000 sat less the HTLCs of 25,000 and 15,000 that he offered.
const BOBS_OLD_SAT: u64 = 360_000;

/// Alice has a tower that she trusts as `mode` says; Bob has none.
fn watched(kind: ChannelType, mode: &str) -> (World, Tower) {
    watched_by(kind, mode, &[])
}

fn watched_by(kind: ChannelType, mode: &str, options: &[&str]) -> (World, Tower) {
    let dir = tempfile::Builder::new().prefix("chand-").tempdir().expect("a temporary folder");
    let chain = Chain::start(dir.path());
    let tower = Tower::start_with(dir.path(), &chain, options);
    let named = format!("{}{mode}", tower.address());
    let alice = Node::start("Alice", dir.path(), &chain, &["--dev", "--watchtower", &named]);
    let bob = Node::start("Bob", dir.path(), &chain, &["--dev"]);
    (stage::with_channel(World { alice, bob, chain, dir }, kind), tower)
}

/// Bob's folder goes back to where HTLCs were under way, Alice is off, and Bob closes with that; his commitment.
fn bob_cheats(world: &mut World) -> (Transaction, Purses) {
    begin(world);
    stage::newest(&world.bob, &world.alice);
    world.bob.stop();
    let (dir, kept) = (world.bob.data_dir(), world.dir.path().join("kept"));
    copy(&dir, &kept);
    world.bob.launch();
    world.wait_normal();
    end(world);
    Tower::wait_told(&world.alice);
    let before = Purses::of(world);
    let funding = stage::funding(&world.alice, &world.bob);
    world.alice.kill();
    world.bob.stop();
    std::fs::remove_dir_all(&dir).expect("removed");
    copy(&kept, &dir);
    world.bob.launch();
    stage::settle(&world.bob, "one");
    world.bob.call("dev-fail", json!({ "id": stage::channel_id(&world.bob, &world.alice) }));
    (wait_spender(&world.chain, &funding), before)
}

fn mine(world: &World) -> u64 {
    let height = world.chain.mine(1);
    world.bob.wait_height(height);
    height
}

/// The cheat even gets an HTLC transaction in first, since the tower is off, too, for a while.
fn the_tower_takes_everything(kind: ChannelType) {
    let (mut world, mut tower) = watched(kind, "");
    let (commitment, before) = bob_cheats(&mut world);
    tower.kill();
    let born = mine(&world);
    let htlc = stage::output_of(&commitment, 30_000);
    let success = wait_spender(&world.chain, &htlc);
    mine(&world);
    let index = success.input.iter().position(|i| i.previous_output == htlc).expect("its input");
    let second = OutPoint { txid: success.compute_txid(), vout: u32::try_from(index).expect("an index") };

    tower.launch();
    let outputs = [20_000, 25_000, 15_000, BOBS_OLD_SAT].map(|sat| stage::output_of(&commitment, sat));
    for outpoint in outputs.iter().chain([&second]) {
        wait_spender(&world.chain, outpoint);
    }
    // Killed and with the mempool lost, it says it all again; also when it does not know any more where it was.
    tower.kill();
    if matches!(kind, ChannelType::StaticRemoteKey) {
        let place = tower.data_dir().join("regtest").join("watch");
        let mut bytes = std::fs::read(&place).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&place, bytes).expect("written");
    }
    world.chain.forget_mempool();
    tower.launch();
    for outpoint in outputs.iter().chain([&second]) {
        wait_spender(&world.chain, outpoint);
    }
    mine(&world);
    // What is left is Alice's alone for ever; she takes it when she is back.
    world.alice.launch();
    let alices: Vec<OutPoint> =
        takeable(&commitment).into_iter().filter(|o| *o != htlc && !outputs.contains(o)).collect();
    assert_eq!(alices.len(), 1, "her own balance");
    wait_spender(&world.chain, &alices[0]);
    world.mine(1);
    let trail = Trail::read(&world.chain, &commitment, born, &[&world.alice, &world.bob]);
    assert!(trail.is_over(), "{trail:?}");
    accounts(&world, before, &trail, 0);
    assert_eq!(trail.of(30_000).owner, Some("Alice"), "{trail:?}");
    assert!(before.gained(&world.bob) <= 0, "the cheat gained {}", before.gained(&world.bob));
    assert_eq!(stage::closed(&world.alice)["cause"]["trigger"], "peer_revoked_commitment");
    assert!(tower.log().contains("BREACH"), "{}", tower.log());
}

#[test]
fn a_tower_punishes_while_the_node_is_off_with_anchors() {
    the_tower_takes_everything(ChannelType::Anchors);
}

#[test]
fn a_tower_punishes_while_the_node_is_off_with_static_remotekey() {
    the_tower_takes_everything(ChannelType::StaticRemoteKey);
}

/// A tower that cannot steal takes the balance; the rest is the node's when it is back. What is over is forgotten.
#[test]
fn a_tower_with_signed_penalties_takes_the_balance() {
    let (mut world, tower) = watched(ChannelType::Anchors, ",presigned");
    let (commitment, _) = bob_cheats(&mut world);
    let funding_spent = mine(&world);
    let balance = stage::output_of(&commitment, BOBS_OLD_SAT);
    let penalty = wait_spender(&world.chain, &balance);
    assert_eq!((penalty.input.len(), penalty.output.len()), (1, 1));
    mine(&world);
    world.alice.launch();
    let penalty_output = OutPoint { txid: penalty.compute_txid(), vout: 0 };
    wait_for("the penalty in the wallet", || {
        let funds = world.alice.call("listfunds", json!({}));
        let outputs = funds["outputs"].as_array().expect("outputs");
        let there = outputs.iter().any(|o| o["txid"] == penalty_output.txid.to_string());
        there.then_some(()).ok_or(funds.to_string())
    });
    wait_for("the tower to say what it has", || match Tower::status(&world.alice) {
        told if told["mode"] == "presigned" && told["states_kept"].as_u64() >= Some(8) => Ok(()),
        told => Err(told.to_string()),
    });
    let trail = stage::resolve(&world, &commitment, funding_spent, 20);
    assert_eq!(trail.of(BOBS_OLD_SAT).owner, Some("Alice"), "{trail:?}");
    world.mine(100);
    // Whatever the tower is asked next, it has forgotten the channel.
    world.alice.kill_and_launch();
    wait_for("the tower to have forgotten it", || {
        let clients = tower.data_dir().join("regtest").join("clients");
        let client =
            std::fs::read_dir(clients).expect("a folder").next().expect("a client").expect("an entry");
        match std::fs::read_dir(client.path()).expect("a folder").count() {
            0 => Ok(()),
            left => Err(format!("{left} channels")),
        }
    });
}

fn pay(world: &World, label: &str, count: u64) {
    for number in 0..count {
        let bolt11 = world.bob.invoice(1_000_000, &format!("{label} {number}"));
        world.alice.call("pay", json!({ "bolt11": bolt11 }));
    }
    world.wait_quiet();
}

/// The disk of a tower spoils a file: it says so, serves what is left of it, and the node sends what it still has again.
#[test]
fn a_tower_that_lost_states_gets_them_again() {
    let (world, mut tower) = watched(ChannelType::Anchors, "");
    pay(&world, "one", 10);
    let mut before = Tower::wait_told(&world.alice);
    // However many states went in one message: the last ones are small, and none of them is in the middle.
    for more in ["two", "three", "four"] {
        pay(&world, more, 1);
        before = Tower::wait_told(&world.alice);
    }
    let kept = before["states_kept"].as_u64().expect("states");
    for (damage, says) in [("the middle", "DAMAGED"), ("the end", "half written")] {
        tower.kill();
        let files = tower.files();
        assert_eq!(files.len(), 1);
        let mut bytes = std::fs::read(&files[0]).expect("a file");
        let length = bytes.len();
        match damage {
            "the middle" => bytes[length / 2 - 200..length / 2].fill(0xff),
            _ => bytes.truncate(length - 10),
        }
        std::fs::write(&files[0], bytes).expect("written");
        tower.launch();
        assert!(tower.log().contains(says), "{}", tower.log());
        wait_for("the tower to have everything again", || match Tower::status(&world.alice) {
            now if now["connected"] == true
                && now["states_kept"].as_u64() >= Some(kept)
                && now["states_pending"] == 0
                && now["unprotected"].as_array().is_some_and(Vec::is_empty) =>
            {
                Ok(())
            }
            now => Err(now.to_string()),
        });
    }
    assert!(files_beside(&tower).iter().any(|name| name.ends_with(".damaged")), "it was put aside");
}

/// Names of all that lies beside the tower's files.
fn files_beside(tower: &Tower) -> Vec<String> {
    let folder = tower.files()[0].parent().expect("a folder").to_path_buf();
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// A quota is filled to the last place, the refusal says exactly what is left, and the node which states nobody protects.
#[test]
fn a_full_quota_takes_what_fits_and_the_node_names_the_rest() {
    let (world, _tower) = watched_by(ChannelType::Anchors, "", &["--quota-states", "7"]);
    pay(&world, "one", 10);
    let status = wait_for("the tower to be full", || match Tower::status(&world.alice) {
        now if now["states_kept"] == 7 && now["trouble"].is_string() => Ok(now),
        now => Err(now.to_string()),
    });
    let trouble = status["trouble"].as_str().expect("words");
    assert!(trouble.contains("0 of 7 states are left") && trouble.ends_with("from state 7 on"), "{trouble}");
    let unprotected = &status["unprotected"][0];
    assert_eq!(unprotected["first_state"], 7, "{status}");
    let reason = unprotected["reason"].as_str().expect("words");
    assert!(reason.contains("refused") && reason.contains("0 of 7 states are left"), "{reason}");
    let last = unprotected["last_state"].as_u64().expect("a number");
    assert_eq!(status["states_pending"].as_u64(), Some(last - 6), "{status}");
}

/// A tower that is away costs nothing: payments go on, and it gets all it missed.
#[test]
fn a_tower_that_was_away_is_told_what_it_missed() {
    let (mut world, mut tower) = watched(ChannelType::Anchors, "");
    tower.kill();
    pay(&world, "away", 10);
    wait_for("Alice to miss her tower", || match Tower::status(&world.alice) {
        now if now["connected"] == false && now["states_pending"].as_u64() >= Some(20) => Ok(()),
        now => Err(now.to_string()),
    });
    // Even over a restart of the node, which keeps its notes.
    world.alice.kill_and_launch();
    world.wait_normal();
    tower.launch();
    let status = Tower::wait_told(&world.alice);
    assert_eq!(status["states_kept"], status["states_acknowledged"], "{status}");
    let bytes = status["bytes_kept"].as_u64().expect("bytes");
    let states = status["states_kept"].as_u64().expect("states");
    assert!(states >= 20 && bytes / states < 300, "{bytes} bytes for {states} states");
}
