//! The chain behind the nodes: gone and back, the wrong one, the wrong password.

use crate::penalty::{begin, end, take};
use crate::stage::{self, Purses};
use chand_tests::books::shares;
use chand_tests::trail::wait_spender;
use chand_tests::wait::PATIENCE;
use chand_tests::{wait_until, ChannelType, Node, World};
use serde_json::json;

#[test]
fn it_goes_away_and_comes_back() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    let before = world.chain.height();
    world.chain.kill();
    // Paying needs no chain.
    for round in 0..5 {
        let bolt11 = world.bob.invoice(1_000, &format!("without a chain {round}"));
        world.alice.call("pay", json!({ "bolt11": bolt11 }));
    }
    world.wait_quiet();
    assert_eq!(shares(&world.alice, &world.bob), (499_995_000, 500_005_000));
    // Whoever looks at the money is told that what happens on chain is not in it.
    for method in ["getinfo", "balance", "listfunds"] {
        let told = || world.alice.call(method, json!({}))["warning_bitcoind_sync"].is_string();
        wait_until(&format!("{method} to say that the chain is away"), told);
    }
    world.chain.launch();
    assert_eq!(world.chain.height(), before, "it kept its blocks");
    world.mine(3);
    world.wait_normal();
    let bolt11 = world.alice.invoice(5_000, "with a chain");
    world.bob.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    assert_eq!(shares(&world.alice, &world.bob), (500_000_000, 500_000_000));
}

#[test]
fn what_was_mined_while_a_node_was_away_is_caught_up() {
    let mut world = World::with_channel(1_000_000, 0, ChannelType::Anchors);
    world.bob.stop();
    let height = world.chain.mine(20);
    world.alice.wait_height(height);
    world.bob.launch();
    world.bob.wait_height(height);
    world.wait_normal();
    let bolt11 = world.bob.invoice(5_000, "after twenty blocks");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
}

/// The backend forgot the blocks in which the channel was opened, and has no index of transactions: the channel is used, its peer
/// cheats, and nothing is lost.
#[test]
fn a_pruned_one_serves_a_channel_older_than_its_blocks() {
    let mut world = stage::world(ChannelType::Anchors);
    begin(&world);
    let number = stage::newest(&world.bob, &world.alice);
    end(&world);
    let funding = stage::funding(&world.alice, &world.bob);
    world.mine(10);
    // Real ones forget by themselves, file by file, and keep their index when they are litecoind here.
    if !world.chain.is_litecoin() {
        world.chain.call("pruneblockchain", json!([world.chain.height() - 5]));
        let gone = world.chain.try_call("getrawtransaction", json!([funding.txid.to_string()]));
        assert!(gone.is_err(), "{gone:?}");
    }
    // A node that starts now has all it needs.
    world.alice.stop();
    world.alice.launch();
    world.wait_normal();
    let bolt11 = world.bob.invoice(1_000_000, "on a pruned chain");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    let before = Purses::of(&world);
    let params = json!({ "id": stage::channel_id(&world.bob, &world.alice), "number": number });
    world.bob.call("dev-broadcast-revoked", params);
    let commitment = wait_spender(&world.chain, &funding);
    world.mine(1);
    take(&world, &commitment);
    // All of it is Alice's but for fees; of what the blocks before said nobody can be asked here.
    assert!(before.gained(&world.bob) <= 0, "the cheat gained {}", before.gained(&world.bob));
    assert!(before.gained(&world.alice) > i64::try_from(stage::BOBS_SAT).expect("small") * 9 / 10);
    assert_eq!(stage::closed(&world.alice)["cause"]["trigger"], "peer_revoked_commitment");
}

/// Starts a node that must not come up; what it said.
fn refused_start(node: &mut Node) -> String {
    node.spawn();
    let status = node.process().wait_end(PATIENCE);
    assert!(!status.success(), "{} was to refuse to start", node.name());
    node.log()
}

#[test]
fn a_wrong_password_is_said_in_words() {
    let world = World::new();
    let url = world.chain.url_with("not-the-password");
    let mut carol = Node::prepare("Carol", world.dir.path(), &url, &[]);
    let words = refused_start(&mut carol).to_lowercase();
    assert!(words.contains("password"), "{words}");
    assert!(!words.contains("not-the-password"), "but the password itself is not repeated: {words}");
}

#[test]
fn a_wrong_chain_is_said_in_words() {
    let world = World::new();
    for network in ["testnet", "signet", "bitcoin"] {
        let mut carol = Node::prepare("Carol", world.dir.path(), &world.chain.url(), &["--network", network]);
        let words = refused_start(&mut carol);
        assert!(words.contains("regtest") && words.contains(network), "both chains are named: {words}");
    }
}
