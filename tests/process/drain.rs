//! A stop that lets payments end first: on order or by a signal, until nothing is under way, the time is over, or a second signal.

use crate::stage::{cancel, hold, settle, wait_status};
use chand_tests::books::shares;
use chand_tests::wait::PATIENCE;
use chand_tests::{wait_for, ChannelType, Client, Node, World};
use serde_json::{json, Value};

fn drain(node: &Node, seconds: u64) -> Client {
    let mut client = node.client();
    client.send("stop", &json!({ "drain": seconds })).expect("asked");
    client
}

fn answered(client: &mut Client) -> Value {
    client.receive().expect("an answer").1.expect("no error")
}

fn wait_draining(node: &Node) {
    wait_for("the node to say that it drains", || {
        let info = node.call("getinfo", json!({}));
        match info["warning_draining"].as_str() {
            Some(words) if words.contains("1 HTLCs are under way") => Ok(()),
            _ => Err(info.to_string()),
        }
    });
}

fn ended(node: &mut Node) {
    let status = node.process().wait_end(PATIENCE);
    assert!(status.success(), "{} ended with {status}", node.name());
    node.forget_process();
}

#[test]
fn it_ends_when_the_last_payment_does_and_begins_no_other() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    hold(&world.alice, &world.bob, 10_000, "tea");
    // Longer than any test may take.
    let mut asked = drain(&world.alice, 3_600);
    wait_draining(&world.alice);
    let bolt11 = world.bob.invoice(1_000_000, "rent");
    let refusal = world.alice.refusal("pay", json!({ "bolt11": bolt11 }));
    assert!(refusal.message().contains("about to stop"), "{refusal}");
    settle(&world.bob, "tea");
    let answer = answered(&mut asked);
    assert_eq!((&answer["result"], &answer["htlcs"]["under_way"]), (&json!("Shutdown complete"), &json!(0)));
    ended(&mut world.alice);
    world.alice.launch();
    world.wait_normal();
    wait_status(&world.alice, "tea", "complete");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    assert_eq!(shares(&world.alice, &world.bob), (489_000_000, 511_000_000));
}

#[test]
fn it_ends_when_its_time_is_over_and_takes_nothing_back() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    hold(&world.alice, &world.bob, 10_000, "tea");
    let mut asked = drain(&world.alice, 1);
    let answer = answered(&mut asked);
    assert_eq!(answer["htlcs"]["under_way"], 1, "{answer}");
    ended(&mut world.alice);
    // Bob's user decides meanwhile; his own drain waits for nobody who is away.
    let answer = answered(&mut drain(&world.bob, 3_600));
    assert_eq!((&answer["htlcs"]["under_way"], &answer["htlcs"]["absent"]), (&json!(0), &json!(1)));
    ended(&mut world.bob);
    world.bob.launch();
    world.alice.launch();
    world.wait_normal();
    cancel(&world.bob, "tea");
    wait_status(&world.alice, "tea", "failed");
    assert_eq!(shares(&world.alice, &world.bob), (500_000_000, 500_000_000));
}

#[test]
fn a_signal_drains_and_a_second_one_does_not_wait() {
    let world = World::with_options(&["--drain", "3600"]);
    let mut world = world.opened(1_000_000, 500_000_000, ChannelType::Anchors);
    hold(&world.alice, &world.bob, 10_000, "tea");
    for (node, first, second) in [(0, "TERM", "INT"), (1, "INT", "TERM")] {
        let node = if node == 0 { &mut world.alice } else { &mut world.bob };
        node.process().signal(first);
        if node.name() == "Alice" {
            wait_draining(node);
            node.process().signal(second);
        }
        // Bob's HTLC waits for his user alone: he is gone at once.
        ended(node);
    }
    world.bob.launch();
    world.alice.launch();
    world.wait_normal();
    settle(&world.bob, "tea");
    wait_status(&world.alice, "tea", "complete");
    world.wait_quiet();
    assert_eq!(shares(&world.alice, &world.bob), (490_000_000, 510_000_000));
}
