//! Cheats: a revoked commitment is published, and the other side takes everything.
//!
//! In: real nodes on the embedded chain; the cheat publishes with `dev-broadcast-revoked`, or is a node whose folder is
//! an old copy. Out: nothing of the channel is the cheat's, whatever happened to the victim meanwhile.
//! Read next: `stage`.

use crate::stage::{self, accounts, Purses, BOBS_SAT};
use bitcoin::{OutPoint, Transaction};
use chand_tests::gate::Gate;
use chand_tests::trail::{wait_spender, Trail, ANCHOR_SAT};
use chand_tests::{wait_for, Chain, ChannelType, Node, World};
use serde_json::json;
use std::path::Path;

/// HTLCs of both directions: whether Alice pays, satoshi, label, whether the payee settles it in the end.
const PLAN: [(bool, u64, &str, bool); 5] = [
    (true, 30_000, "one", true),
    (true, 20_000, "two", false),
    (false, 25_000, "three", true),
    (false, 15_000, "four", false),
    (true, 200, "dust", false),
];

/// All of them are under way.
pub fn begin(world: &World) {
    for (alice_pays, sat, label, _) in PLAN {
        let (from, to) = if alice_pays { (&world.alice, &world.bob) } else { (&world.bob, &world.alice) };
        stage::hold(from, to, sat, label);
    }
}

/// All of them have ended: the state with them is revoked on both sides.
pub fn end(world: &World) {
    for (alice_pays, _, label, settles) in PLAN {
        let payee = if alice_pays { &world.bob } else { &world.alice };
        if settles {
            stage::settle(payee, label);
        } else {
            stage::cancel(payee, label);
        }
    }
    world.wait_quiet();
    for (node, peer) in [(&world.alice, &world.bob), (&world.bob, &world.alice)] {
        stage::newest(node, peer);
    }
}

fn publish(cheat: &Node, victim: &Node, number: u64) {
    let params = json!({ "id": stage::channel_id(cheat, victim), "number": number });
    cheat.call("dev-broadcast-revoked", params);
}

/// The outputs of a commitment that are not anchors.
pub fn takeable(commitment: &Transaction) -> Vec<OutPoint> {
    let txid = commitment.compute_txid();
    let all = (0..).zip(&commitment.output);
    all.filter(|(_, o)| o.value.to_sat() != ANCHOR_SAT).map(|(vout, _)| OutPoint { txid, vout }).collect()
}

/// Waits until spends of all outputs are in the mempool, and mines them.
pub fn take(world: &World, commitment: &Transaction) {
    take_all(world, takeable(commitment));
}

/// The same of these outputs. A batch that comes apart just then leaves some for the next block.
fn take_all(world: &World, mut left: Vec<OutPoint>) {
    for _ in 0..3 {
        for outpoint in &left {
            wait_spender(&world.chain, outpoint);
        }
        let block = world.chain.block(world.mine(1));
        let spent =
            |o: &OutPoint| block.txdata.iter().flat_map(|tx| &tx.input).any(|i| i.previous_output == *o);
        left.retain(|outpoint| !spent(outpoint));
        if left.is_empty() {
            return;
        }
    }
    panic!("still unspent: {left:?}");
}

/// Nothing is the cheat's, and the accounts of both are right.
fn judge(world: &World, before: Purses, commitment: &Transaction, since: u64, cheat: &Node) -> Trail {
    let (alice, bob) = (&world.alice, &world.bob);
    let trail = Trail::read(&world.chain, commitment, since, &[alice, bob]);
    assert!(trail.is_over(), "{trail:?}");
    let all: u64 = trail.ends.iter().map(|e| e.sat).filter(|sat| *sat != ANCHOR_SAT).sum();
    accounts(world, before, &trail, if cheat.name() == bob.name() { 0 } else { all });
    assert!(before.gained(cheat) <= 0, "the cheat gained {}", before.gained(cheat));
    let victim = if cheat.name() == bob.name() { alice } else { bob };
    for (node, trigger) in [(victim, "peer_revoked_commitment"), (cheat, "own_revoked_commitment")] {
        let entry = stage::closed(node);
        assert_eq!(entry["cause"]["trigger"], trigger, "{entry}");
        assert_eq!(entry["close_cause"], "onchain", "{entry}");
    }
    trail
}

fn the_cheat_ends_with_nothing(kind: ChannelType, opener_cheats: bool) {
    let world = stage::world(kind);
    let (alice, bob) = (&world.alice, &world.bob);
    let (cheat, victim) = if opener_cheats { (alice, bob) } else { (bob, alice) };
    begin(&world);
    let number = stage::newest(cheat, victim);
    end(&world);
    let before = Purses::of(&world);
    let funding = stage::funding(alice, bob);
    publish(cheat, victim, number);
    let commitment = wait_spender(&world.chain, &funding);
    let outputs = takeable(&commitment);
    assert_eq!(outputs.len(), 6, "two balances and four HTLCs");
    world.mine(1);
    let born = world.chain.height();
    take(&world, &commitment);
    let trail = judge(&world, before, &commitment, born, cheat);
    for end in trail.ends.iter().filter(|e| outputs.contains(&e.outpoint)) {
        assert_eq!((end.owner, end.spent.map(|s| s.1)), (Some(victim.name()), Some(born + 1)), "{trail:?}");
    }
    // The cheat's node knows what it did; nothing comes of its delay running out.
    world.mine(stage::CSV + 2);
    judge(&world, before, &commitment, born, cheat);
}

#[test]
fn a_cheat_by_the_opener_with_anchors() {
    // BOLT 2, 5 [2.again.39, 5.revoked.2, 5.revoked.3, 5.revoked.4].
    the_cheat_ends_with_nothing(ChannelType::Anchors, true);
}

#[test]
fn a_cheat_by_the_other_with_anchors() {
    the_cheat_ends_with_nothing(ChannelType::Anchors, false);
}

#[test]
fn a_cheat_by_the_opener_with_static_remotekey() {
    the_cheat_ends_with_nothing(ChannelType::StaticRemoteKey, true);
}

#[test]
fn a_cheat_by_the_other_with_static_remotekey() {
    the_cheat_ends_with_nothing(ChannelType::StaticRemoteKey, false);
}

/// The victim's process is down while it happens, and starts again on the last block but one.
#[test]
fn a_cheat_is_found_at_the_start() {
    let mut world = stage::world(ChannelType::Anchors);
    begin(&world);
    let number = stage::newest(&world.bob, &world.alice);
    end(&world);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    world.alice.kill();
    publish(&world.bob, &world.alice, number);
    let commitment = wait_spender(&world.chain, &funding);
    let born = world.chain.mine(1);
    let height = world.chain.mine(stage::CSV - 2);
    world.bob.wait_height(height);
    world.alice.launch();
    take(&world, &commitment);
    let trail = judge(&world, before, &commitment, born, &world.bob);
    assert!(trail.ends.iter().all(|e| e.owner != Some("Bob")), "{trail:?}");
}

/// A folder with all in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (kind, to) = (entry.file_type().expect("a kind"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// The cheat is a whole node that was given its old folder back: it also claims, by HTLC transactions, what it knows
/// secrets of. The victim was down, and takes what those paid to.
fn second_level_outputs_are_taken(kind: ChannelType) {
    let mut world = stage::world(kind);
    begin(&world);
    stage::newest(&world.bob, &world.alice);
    world.bob.stop();
    let (dir, kept) = (world.bob.data_dir(), world.dir.path().join("kept"));
    copy(&dir, &kept);
    world.bob.launch();
    world.wait_normal();
    end(&world);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    world.alice.kill();
    world.bob.stop();
    std::fs::remove_dir_all(&dir).expect("removed");
    copy(&kept, &dir);
    world.bob.launch();
    stage::settle(&world.bob, "one");
    world.bob.call("dev-fail", json!({ "id": stage::channel_id(&world.bob, &world.alice) }));
    let commitment = wait_spender(&world.chain, &funding);
    let born = world.chain.mine(1);
    world.bob.wait_height(born);
    let htlc = stage::output_of(&commitment, 30_000);
    let success = wait_spender(&world.chain, &htlc);
    let height = world.chain.mine(1);
    world.bob.wait_height(height);
    world.alice.launch();
    let index = success.input.iter().position(|i| i.previous_output == htlc).expect("its input");
    let second = OutPoint { txid: success.compute_txid(), vout: u32::try_from(index).expect("an index") };
    take_all(&world, takeable(&commitment).into_iter().filter(|o| *o != htlc).chain([second]).collect());
    let trail = Trail::read(&world.chain, &commitment, born, &[&world.alice, &world.bob]);
    accounts(&world, before, &trail, 0);
    assert_eq!(trail.of(30_000).owner, Some("Alice"), "{trail:?}");
    assert!(before.gained(&world.bob) <= 0, "the cheat gained {}", before.gained(&world.bob));
    assert_eq!(stage::closed(&world.alice)["cause"]["trigger"], "peer_revoked_commitment");
}

#[test]
fn second_level_outputs_are_taken_with_anchors() {
    // BOLT 5 [5.revoked.6, 5.revoked.9].
    second_level_outputs_are_taken(ChannelType::Anchors);
}

#[test]
fn second_level_outputs_are_taken_with_static_remotekey() {
    second_level_outputs_are_taken(ChannelType::StaticRemoteKey);
}

/// The block with the penalty leaves the chain, then that with the cheat.
fn a_reorganisation_changes_nothing(kind: ChannelType) {
    let mut world = stage::world(kind);
    begin(&world);
    let number = stage::newest(&world.bob, &world.alice);
    end(&world);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    publish(&world.bob, &world.alice, number);
    let commitment = wait_spender(&world.chain, &funding);
    world.mine(1);
    let born = world.chain.height();
    take(&world, &commitment);
    judge(&world, before, &commitment, born, &world.bob);

    let undo = |world: &World, height: u64| {
        world.chain.undo(height);
        for node in [&world.alice, &world.bob] {
            node.wait_height(height - 1);
        }
        wait_for("the coins to be gone", || match before.gained(&world.alice) {
            sat if sat <= 0 => Ok(()),
            sat => Err(format!("{sat} sat too many")),
        });
    };
    // The mempool is as full as before, or empty.
    undo(&world, born + 1);
    take(&world, &commitment);
    judge(&world, before, &commitment, born, &world.bob);
    undo(&world, born + 1);
    world.chain.forget_mempool();
    world.mine(1);
    take(&world, &commitment);
    judge(&world, before, &commitment, born, &world.bob);

    undo(&world, born);
    world.chain.forget_mempool();
    world.mine(1);
    assert_eq!(before.gained(&world.alice), 0);
    publish(&world.bob, &world.alice, number);
    wait_spender(&world.chain, &funding);
    world.mine(1);
    take(&world, &commitment);
    judge(&world, before, &commitment, born, &world.bob);
}

#[test]
fn a_reorganisation_changes_nothing_with_anchors() {
    // BOLT 5 [5.watch.3].
    a_reorganisation_changes_nothing(ChannelType::Anchors);
}

#[test]
fn a_reorganisation_changes_nothing_with_static_remotekey() {
    a_reorganisation_changes_nothing(ChannelType::StaticRemoteKey);
}

/// The victim's chain backend is away while it happens: a fault of our own that the peer never hears of.
#[test]
fn a_cheat_while_the_backend_is_away() {
    let dir = tempfile::Builder::new().prefix("chand-").tempdir().expect("a temporary folder");
    let chain = Chain::start(dir.path());
    let gate = Gate::open_to(chain.port());
    let mut alice = Node::prepare("Alice", dir.path(), &chain.url_through(gate.port()), &["--dev"]);
    alice.launch();
    let bob = Node::start("Bob", dir.path(), &chain, &["--dev"]);
    let mut world = stage::with_channel(World { alice, bob, chain, dir }, ChannelType::Anchors);
    begin(&world);
    let number = stage::newest(&world.bob, &world.alice);
    end(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    let before = Purses::of(&world);

    gate.shut();
    wait_for("Alice to miss her chain", || match world.alice.call("getinfo", json!({})) {
        info if info["warning_bitcoind_sync"].is_string() => Ok(()),
        info => Err(info.to_string()),
    });
    // Nothing is wrong with the channel.
    let bolt11 = world.bob.invoice(1_000_000, "without a chain");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    publish(&world.bob, &world.alice, number);
    let commitment = wait_spender(&world.chain, &funding);
    world.bob.kill();
    let born = world.chain.mine(1);
    world.chain.mine(2);
    let channel = world.alice.channel(&world.bob);
    assert_eq!(channel["state"], "CHANNELD_NORMAL", "{channel}");
    assert!(channel["cause"].is_null(), "{channel}");

    gate.open();
    for outpoint in takeable(&commitment) {
        wait_spender(&world.chain, &outpoint);
    }
    // Bob is to hear it from the chain, and Alice's error could reach him sooner.
    world.alice.stop();
    world.bob.launch();
    world.bob.wait_height(world.chain.height());
    world.alice.launch();
    take(&world, &commitment);
    judge(&world, before, &commitment, born, &world.bob);
}

/// Alice has two backends. The one she follows goes away, and the cheat comes: she hears of it from the other.
#[test]
fn a_cheat_while_one_of_two_backends_is_away() {
    let dir = tempfile::Builder::new().prefix("chand-").tempdir().expect("a temporary folder");
    let chain = Chain::start(dir.path());
    let gate = Gate::open_to(chain.port());
    let second = format!("--bitcoin-rpc={}", chain.url());
    let mut alice =
        Node::prepare("Alice", dir.path(), &chain.url_through(gate.port()), &["--dev", second.as_str()]);
    alice.launch();
    let bob = Node::start("Bob", dir.path(), &chain, &["--dev"]);
    let world = stage::with_channel(World { alice, bob, chain, dir }, ChannelType::Anchors);
    let backends = || world.alice.call("listbackends", json!({}))["backends"].clone();
    let list = backends();
    assert_eq!((list.as_array().map(Vec::len), &list[0]["active"]), (Some(2), &json!(true)), "{list}");
    begin(&world);
    let number = stage::newest(&world.bob, &world.alice);
    end(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    let before = Purses::of(&world);
    gate.shut();
    publish(&world.bob, &world.alice, number);
    let commitment = wait_spender(&world.chain, &funding);
    let born = world.mine(1);
    take(&world, &commitment);
    judge(&world, before, &commitment, born, &world.bob);
    let list = backends();
    assert_eq!((&list[0]["active"], &list[1]["active"]), (&json!(false), &json!(true)), "{list}");
    assert!(list[0]["trouble"].as_str().is_some_and(|t| t.contains("cannot be reached")), "{list}");
    assert!(list[1]["trouble"].is_null(), "{list}");
}

/// SIGKILL between the penalty and its confirmation, and the mempool forgets it, too.
#[test]
fn a_penalty_survives_a_kill_and_a_lost_mempool() {
    let mut world = stage::world(ChannelType::Anchors);
    begin(&world);
    let number = stage::newest(&world.bob, &world.alice);
    end(&world);
    let before = Purses::of(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    publish(&world.bob, &world.alice, number);
    let commitment = wait_spender(&world.chain, &funding);
    world.mine(1);
    let born = world.chain.height();
    wait_spender(&world.chain, &stage::output_of(&commitment, 30_000));
    world.alice.kill();
    world.chain.forget_mempool();
    // All of it is offered again at the start, without a block.
    world.alice.launch();
    take(&world, &commitment);
    judge(&world, before, &commitment, born, &world.bob);
}

/// Whichever old state it is: the very first one, after many payments.
#[test]
fn the_oldest_state_of_many() {
    let world = stage::world(ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    for number in 0..40u64 {
        let (from, to) = if number % 3 == 0 { (alice, bob) } else { (bob, alice) };
        let bolt11 = to.invoice(1_000_000 + number, &format!("one of many {number}"));
        from.call("pay", json!({ "bolt11": bolt11 }));
    }
    world.wait_quiet();
    assert!(stage::newest(bob, alice) > 40);
    let before = Purses::of(&world);
    let funding = stage::funding(alice, bob);
    publish(bob, alice, 0);
    let commitment = wait_spender(&world.chain, &funding);
    assert!(commitment.output.iter().any(|o| o.value.to_sat() == BOBS_SAT), "what Bob had at first");
    world.mine(1);
    let born = world.chain.height();
    take(&world, &commitment);
    judge(&world, before, &commitment, born, bob);
}
