//! Either or both end, in order or by SIGKILL, and come back to where they were.

use chand_tests::books::{balance_adds_up, shares};
use chand_tests::wait::PATIENCE;
use chand_tests::{ChannelType, World};
use serde_json::json;

/// Which node, and how it ends.
#[derive(Clone, Copy)]
enum End {
    Stop,
    Kill,
}

fn both_ways(world: &World, round: usize) {
    let (alice, bob) = (&world.alice, &world.bob);
    for (from, to, amount) in [(alice, bob, 11_000), (bob, alice, 1_000)] {
        let bolt11 = to.invoice(amount, &format!("round {round} to {}", to.name()));
        from.call("pay", json!({ "bolt11": bolt11 }));
    }
    world.wait_quiet();
    let moved = 10_000 * (round as u64 + 1);
    assert_eq!(shares(alice, bob), (500_000_000 - moved, 500_000_000 + moved));
}

fn restarts(kind: ChannelType) {
    let mut world = World::with_channel(1_000_000, 500_000_000, kind);
    let id = world.alice.channel(&world.bob)["channel_id"].clone();
    both_ways(&world, 0);
    let rounds = [
        (Some(End::Stop), None),
        (None, Some(End::Stop)),
        (Some(End::Stop), Some(End::Stop)),
        (Some(End::Kill), None),
        (None, Some(End::Kill)),
        (Some(End::Kill), Some(End::Kill)),
        (Some(End::Stop), Some(End::Kill)),
    ];
    for (round, ends) in rounds.into_iter().enumerate() {
        for (node, end) in [(&mut world.alice, ends.0), (&mut world.bob, ends.1)] {
            match end {
                Some(End::Stop) => node.stop(),
                Some(End::Kill) => node.kill(),
                None => {}
            }
        }
        for (node, end) in [(&mut world.bob, ends.1), (&mut world.alice, ends.0)] {
            if end.is_some() {
                node.launch();
            }
        }
        // Nobody connects them: they find each other.
        world.wait_normal();
        assert_eq!(world.alice.channel(&world.bob)["channel_id"], id);
        both_ways(&world, round + 1);
        balance_adds_up(&world.alice);
        balance_adds_up(&world.bob);
    }
}

#[test]
fn restarts_with_anchors() {
    restarts(ChannelType::Anchors);
}

#[test]
fn restarts_with_static_remotekey() {
    restarts(ChannelType::StaticRemoteKey);
}

#[test]
fn a_channel_survives_a_kill_before_it_is_confirmed() {
    let mut world = World::new();
    world.fund(&world.alice, 2_000_000);
    world.alice.connect(&world.bob);
    let params = json!({ "id": world.bob.id(), "amount": 1_000_000, "push_msat": 1_000, "announce": false });
    world.alice.call("fundchannel", params);
    world.alice.kill();
    world.bob.kill();
    world.chain.mine(1);
    world.bob.launch();
    world.alice.launch();
    world.wait_normal();
    assert_eq!(shares(&world.alice, &world.bob), (999_999_000, 1_000));
    let bolt11 = world.bob.invoice(5_000, "after all that");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
}

#[test]
fn terminate_and_interrupt_end_in_good_order() {
    let mut world = World::new();
    for signal in ["TERM", "INT"] {
        world.bob.process().signal(signal);
        let status = world.bob.process().wait_end(PATIENCE);
        assert!(status.success(), "SIG{signal}: {status}");
        assert!(!world.bob.socket().exists(), "the socket goes with it");
        world.bob.forget_process();
        world.bob.launch();
    }
}

#[test]
fn a_stalled_peer_is_not_a_lost_channel() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    let bolt11 = world.bob.invoice(7_000, "while he sleeps");
    let mut paying = world.alice.client();
    world.bob.process().signal("STOP");
    paying.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    // Alice goes on answering while the payment hangs.
    world.alice.call("listpays", json!({}));
    world.bob.process().signal("CONT");
    paying.receive().expect("an answer").1.expect("paid");
    world.wait_quiet();
    assert_eq!(shares(&world.alice, &world.bob), (499_993_000, 500_007_000));
}
