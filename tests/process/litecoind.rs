//! What only a real node's backend can do: be two on different branches, fill its mempool, ask for more.
//!
//! In: litecoind, which `tests/run.sh litecoin` installs and asks for. Out: channels that live through each of them.
//! Read next: `backend`, which runs on both kinds of chain, and `penalty`.

use crate::stage;
use chand_tests::trail::wait_spender;
use chand_tests::{wait_for, wait_until, Chain, ChannelType, Node, World};
use serde_json::{json, Value};
use tempfile::TempDir;

fn folder() -> TempDir {
    assert!(chand_tests::litecoin::is_wanted(), "these run on litecoind: tests/run.sh litecoin");
    tempfile::Builder::new().prefix("chand-").tempdir().expect("a temporary folder")
}

fn world_on(chain: Chain, dir: TempDir) -> World {
    let alice = Node::start("Alice", dir.path(), &chain, &["--dev"]);
    let bob = Node::start("Bob", dir.path(), &chain, &["--dev"]);
    stage::with_channel(World { alice, bob, chain, dir }, ChannelType::StaticRemoteKey)
}

fn backends(node: &Node) -> Value {
    node.call("listbackends", json!({}))["backends"].clone()
}

fn wait_backends(node: &Node, what: &str, is_so: impl Fn(&Value) -> bool) {
    wait_for(what, || match backends(node) {
        list if is_so(&list) => Ok(()),
        list => Err(list.to_string()),
    });
}

/// Two litecoinds that do not know of each other, and a node that has both.
#[test]
fn of_two_on_different_branches_the_longer_is_followed_and_back() {
    let dir = folder();
    let first = Chain::start(dir.path());
    let second = Chain::start(&dir.path().join("second"));
    let both = format!("--bitcoin-rpc={}", second.url());
    let alice = Node::start("Alice", dir.path(), &first, &["--dev", both.as_str()]);
    let fork = first.height();
    assert_eq!(second.height(), fork, "both begin with the same blocks");
    alice.wait_height(fork);
    let best = |chain: &Chain| chain.call("getbestblockhash", json!([]));
    assert_eq!(best(&first), best(&second));
    let coins = |chain: &Chain| {
        chain.send(&alice.new_address(), 700_000);
        chain.mine(1);
    };
    coins(&first);
    alice.wait_height(fork + 1);
    wait_until("the coin", || alice.wallet_sat() == 700_000);
    // Longer, and the coin is not in it.
    second.mine(3);
    alice.wait_height(fork + 3);
    wait_backends(&alice, "the second in use", |list| {
        list[1]["active"] == true && list[0]["active"] == false
    });
    wait_until("the coin of the other branch to be gone", || {
        let funds = alice.call("listfunds", json!({}));
        funds["outputs"].as_array().is_some_and(|all| all.iter().all(|o| o["status"] != "confirmed"))
    });
    first.mine(4);
    alice.wait_height(fork + 5);
    wait_backends(&alice, "the first in use again, the second named", |list| {
        let named =
            |t: &str| t.contains("another branch") && t.contains(&format!("since block {}", fork + 1));
        list[0]["active"] == true && list[1]["trouble"].as_str().is_some_and(named)
    });
    wait_until("the coin", || alice.wallet_sat() == 700_000);
    assert_eq!(alice.call("getinfo", json!({}))["blockheight"], fork + 5);
}

/// What the backend's mempool takes at least, in satoshi for 1,000 virtual bytes.
fn floor(chain: &Chain) -> u64 {
    let fee = chain.call("getmempoolinfo", json!([]))["mempoolminfee"].as_f64().expect("a fee");
    (fee * 1e8).round() as u64
}

fn wait_floor(world: &World) -> u64 {
    let floor = floor(&world.chain);
    for node in [&world.alice, &world.bob] {
        wait_for("the node to know the floor", || match node.call("feerates", json!(["perkb"])) {
            rates if rates["perkb"]["floor"].as_u64() >= Some(floor) => Ok(()),
            rates => Err(rates.to_string()),
        });
    }
    floor
}

/// The channel closes by agreement, and its transaction gets in.
fn close(world: &World) {
    let funding = stage::funding(&world.alice, &world.bob);
    world.alice.call("close", json!({ "id": stage::channel_id(&world.alice, &world.bob) }));
    let closing = wait_spender(&world.chain, &funding);
    world.mine(1);
    let mined = stage::spender_in_tip(world, &funding);
    assert_eq!(mined.compute_txid(), closing.compute_txid());
}

#[test]
fn a_minimum_fee_that_was_raised_is_paid() {
    let dir = folder();
    let chain = Chain::start(dir.path());
    let mut world = world_on(chain, dir);
    let before = floor(&world.chain);
    world.chain.relaunch_with(&["-txindex=1", "-minrelaytxfee=0.0004", "-incrementalrelayfee=0.0004"]);
    let raised = wait_floor(&world);
    assert!(raised > before, "{raised} after {before}");
    let bolt11 = world.bob.invoice(1_000_000, "at a higher fee");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    close(&world);
}

#[test]
fn a_full_mempool_asks_for_more_and_gets_it() {
    let dir = folder();
    let chain = Chain::start_with(dir.path(), &["-txindex=1", "-maxmempool=5", "-datacarriersize=90000"]);
    let world = world_on(chain, dir);
    let before = floor(&world.chain);
    for round in 0..100 {
        fill(&world.chain, 20_000 + round * 1_000);
        if floor(&world.chain) > before {
            break;
        }
    }
    let raised = wait_floor(&world);
    assert!(raised > before, "{raised} after {before}");
    let bolt11 = world.bob.invoice(1_000_000, "while all want in");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    close(&world);
}

/// A transaction of 80 kB, at so many satoshi for 1,000 virtual bytes.
fn fill(chain: &Chain, sat_per_kvb: u32) {
    let bare = chain.call("createrawtransaction", json!([[], [{ "data": "00".repeat(80_000) }]]));
    let rate = json!({ "feeRate": f64::from(sat_per_kvb) / 1e8, "lockUnspents": true });
    let funded = chain.call("fundrawtransaction", json!([bare, rate]));
    let signed = chain.call("signrawtransactionwithwallet", json!([funded["hex"]]));
    chain.call("sendrawtransaction", json!([signed["hex"]]));
}
