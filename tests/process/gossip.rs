//! Three real nodes tell one another of their channels: complete on each, again after a start, and disabled when one dies.
//!
//! In: processes in a line with public channels. Out: what `listchannels` and `listnodes` show on each.
//! Read next: `chand_protocol::gossip`.

use chand_tests::{wait_for, wait_until, Node, World};
use serde_json::{json, Value};

const OPTIONS: [&str; 3] = ["--dev", "--dev-fast-gossip", "--dev-allow-localhost"];
const CAPACITY_SAT: u64 = 2_000_000;

fn list(node: &Node, method: &str, key: &str, params: Value) -> Vec<Value> {
    node.call(method, params)[key].as_array().cloned().unwrap_or_else(|| panic!("no {key}"))
}

fn channels(node: &Node) -> Vec<Value> {
    list(node, "listchannels", "channels", json!({}))
}

fn wait_channels(node: &Node, count: usize) {
    wait_for(&format!("{count} directions at {}", node.name()), || match channels(node) {
        found if found.len() == count => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

fn open(world: &World, from: &Node, to: &Node) {
    world.fund(from, CAPACITY_SAT + 1_000_000);
    from.connect(to);
    let params = json!({ "id": to.id(), "amount": CAPACITY_SAT, "push_msat": 500_000_000 });
    let funded = from.call("fundchannel", params);
    let txid = funded["txid"].as_str().expect("txid").to_string();
    wait_until("the funding in the mempool", || world.chain.mempool().contains(&txid));
}

#[test]
fn three_nodes_know_all_channels_and_hear_when_one_dies() {
    let mut world = World::with_options(&OPTIONS);
    let mut carol = Node::start("Carol", world.dir.path(), &world.chain, &OPTIONS);
    open(&world, &world.alice, &world.bob);
    open(&world, &world.bob, &carol);
    let height = world.chain.mine(4);
    [&world.alice, &world.bob, &carol].iter().for_each(|node| node.wait_height(height));
    assert!(channels(&world.alice).is_empty(), "five deep");
    let height = world.chain.mine(2);
    [&world.alice, &world.bob, &carol].iter().for_each(|node| node.wait_height(height));
    for node in [&world.alice, &world.bob, &carol] {
        wait_channels(node, 4);
        wait_for(&format!("names at {}", node.name()), || {
            let nodes = list(node, "listnodes", "nodes", json!({}));
            let named = nodes.iter().filter(|n| n["alias"].is_string() && n["last_timestamp"].is_u64());
            if nodes.len() == 3 && named.count() == 3 {
                Ok(())
            } else {
                Err(format!("{nodes:?}"))
            }
        });
    }
    // What Alice reads of Bob's channel with Carol.
    let seen = list(&world.alice, "listchannels", "channels", json!({ "destination": carol.id() }));
    let [seen] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(seen["source"], world.bob.id());
    assert_eq!(seen["amount_msat"], CAPACITY_SAT * 1_000);
    assert_eq!((&seen["active"], &seen["public"], &seen["delay"]), (&json!(true), &json!(true), &json!(34)));
    assert_eq!((&seen["base_fee_millisatoshi"], &seen["fee_per_millionth"]), (&json!(1_000), &json!(10)));
    let short = seen["short_channel_id"].clone();
    assert_eq!(short, world.bob.channel(&carol)["short_channel_id"]);
    assert_eq!(world.bob.channel(&carol)["private"], false);
    let both = list(&world.alice, "listchannels", "channels", json!({ "short_channel_id": short }));
    assert_eq!(both.len(), 2);
    let told = list(&world.alice, "listnodes", "nodes", json!({ "id": carol.id() }));
    assert_eq!(told[0]["alias"], "Carol");
    assert_eq!(told[0]["addresses"][0]["port"], carol.port());
    let refused =
        world.alice.refusal("listchannels", json!({ "source": carol.id(), "destination": carol.id() }));
    assert_eq!(refused.code(), Some(-32602));

    // Alice never met Carol, and knows her words by her key.
    let signed = carol.call("signmessage", json!({ "message": "tea" }));
    let checked = world.alice.call("checkmessage", json!({ "message": "tea", "zbase": signed["zbase"] }));
    assert_eq!((&checked["verified"], &checked["pubkey"]), (&json!(true), &json!(carol.id())));

    // A change of fees arrives.
    world.bob.call("setchannel", json!({ "id": carol.id(), "feebase": 7 }));
    wait_for("the new fee at Alice", || {
        let seen = list(&world.alice, "listchannels", "channels", json!({ "destination": carol.id() }));
        if seen[0]["base_fee_millisatoshi"] == 7 {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });

    // Carol dies: Bob tells it, and Alice hears.
    carol.kill();
    wait_for("Alice to hear that Carol is gone", || {
        let seen = list(&world.alice, "listchannels", "channels", json!({ "destination": carol.id() }));
        if seen[0]["active"] == false {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });

    // With nobody to ask, a start knows what was known, from the cache.
    world.bob.kill();
    let before = channels(&world.alice);
    world.alice.stop();
    world.alice.launch();
    assert_eq!(channels(&world.alice).len(), 4);
    let stale = |list: &[Value]| list.iter().filter(|c| c["active"] == false).count();
    assert!(stale(&channels(&world.alice)) >= stale(&before));
    // A damaged cache costs the cache.
    world.alice.stop();
    let cache = world.alice.data_dir().join("regtest").join("gossip.cache");
    std::fs::write(&cache, b"rubbish").expect("written");
    world.alice.launch();
    assert!(channels(&world.alice).len() <= 2, "its own at most");
    world.bob.launch();
    wait_channels(&world.alice, 4);
    carol.launch();
    wait_for("Carol's channel in use again", || {
        let seen = list(&world.alice, "listchannels", "channels", json!({ "destination": carol.id() }));
        if seen.len() == 1 && seen[0]["active"] == true {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
}
