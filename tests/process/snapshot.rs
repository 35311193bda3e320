//! `listsnapshots`: what both really signed, one whole after the other.

use chand_tests::books::msat;
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, ChannelType, Node, World};
use serde_json::{json, Value};

fn snapshots(node: &Node, channel: &Value) -> Vec<Value> {
    let list = node.call("listsnapshots", json!({ "channel_id": channel }));
    list["snapshots"].as_array().expect("snapshots").clone()
}

/// Every snapshot shares out the whole capacity, numbers fall by one, and only the newest is not revoked.
fn check_history(list: &[Value], capacity_msat: u64) {
    for (at, snapshot) in list.iter().enumerate() {
        let htlcs: u64 =
            snapshot["htlcs"].as_array().expect("htlcs").iter().map(|h| msat(h, "amount_msat")).sum();
        let sum = msat(snapshot, "our_msat") + msat(snapshot, "their_msat") + htlcs;
        assert_eq!(sum, capacity_msat, "{snapshot}");
        let expected = if at == 0 { "current" } else { "revoked" };
        assert_eq!(snapshot["status"], expected, "{snapshot}");
        assert_eq!(msat(snapshot, "number"), msat(&list[0], "number") - at as u64);
        assert!(msat(snapshot, "feerate_perkw") >= 253);
    }
}

#[test]
fn they_tell_the_story_of_a_channel() {
    let world = World::with_channel(1_000_000, 400_000_000, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let channel = alice.channel(bob)["channel_id"].clone();
    let first = snapshots(alice, &channel);
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(msat(&first[0], "our_msat"), 600_000_000);
    assert_eq!(msat(&first[0], "their_msat"), 400_000_000);
    assert_eq!(first[0]["number"], 0);

    let secret = preimage("in a snapshot", 0);
    let bolt11 = bob.hold_invoice(50_000_000, "in a snapshot", &secret);
    let mut paying = alice.client();
    paying.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    wait_for("the HTLC in both newest snapshots", || {
        let held = |node: &Node| {
            let list = snapshots(node, &channel);
            list[0]["status"] == "current" && list[0]["htlcs"].as_array().is_some_and(|h| h.len() == 1)
        };
        if held(alice) && held(bob) {
            Ok(())
        } else {
            Err("not there".into())
        }
    });
    let (a, b) = (snapshots(alice, &channel), snapshots(bob, &channel));
    let (ours, theirs) = (&a[0]["htlcs"][0], &b[0]["htlcs"][0]);
    assert_eq!((ours["direction"].as_str(), theirs["direction"].as_str()), (Some("out"), Some("in")));
    assert_eq!(ours["payment_hash"], sha256(&secret));
    for field in ["amount_msat", "payment_hash", "expiry"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    assert!(msat(ours, "expiry") > world.chain.height());
    assert_eq!(msat(&a[0], "our_msat"), 550_000_000, "the HTLC is in neither's balance");
    assert_eq!(a[0]["our_msat"], b[0]["their_msat"]);
    assert_eq!(a[0]["their_msat"], b[0]["our_msat"]);

    bob.call("settleinvoice", json!({ "preimage": secret }));
    paying.receive().expect("an answer").1.expect("paid");
    world.wait_quiet();
    for (node, ours) in [(alice, 550_000_000), (bob, 450_000_000)] {
        let list = wait_for("the last snapshot to be the only one", || {
            let list = snapshots(node, &channel);
            if list[0]["status"] == "current" {
                Ok(list)
            } else {
                Err(list[0].to_string())
            }
        });
        check_history(&list, 1_000_000_000);
        assert!(list.len() >= 3, "before, with and after the HTLC");
        assert_eq!(msat(&list[0], "our_msat"), ours);
        assert_eq!(list[0]["htlcs"], json!([]));
        let text = Value::from(list).to_string();
        assert!(!text.contains(&secret), "no secret is ever shown");
    }

    // A page of it is the same as that part of the whole.
    let whole = snapshots(alice, &channel);
    let page = alice.call("listsnapshots", json!({ "channel_id": channel, "start": 1, "limit": 1 }));
    assert_eq!(page["snapshots"], json!([whole[1]]));
}
