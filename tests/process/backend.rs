//! The chain behind the nodes: gone and back, the wrong one, the wrong password.

use chand_tests::books::shares;
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
