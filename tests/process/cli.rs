//! `chan-cli` and the programs' own words: what a person types and reads.

use chand_tests::{programs, ChannelType, World};
use serde_json::{json, Value};
use std::process::{Command, Output};

fn cli(world: &World, args: &[&str]) -> Output {
    Command::new(programs::find("chan-cli"))
        .env("HOME", world.dir.path())
        .arg("--data-dir")
        .arg(world.alice.data_dir())
        .args(["--network", "regtest"])
        .args(args)
        .output()
        .expect("chan-cli runs")
}

fn stdout(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn by_name_by_place_and_what_it_returns() {
    let world = World::with_channel(1_000_000, 0, ChannelType::Anchors);
    let info = cli(&world, &["getinfo"]);
    assert_eq!(info.status.code(), Some(0));
    assert_eq!(stdout(&info)["id"], world.alice.id());

    let by_place = cli(&world, &["invoice", "5000", "by place", "tea"]);
    assert_eq!(by_place.status.code(), Some(0), "{by_place:?}");
    let by_name = cli(&world, &["invoice", "amount_msat=5000", "label=by name", "description=tea"]);
    assert_eq!(by_name.status.code(), Some(0), "{by_name:?}");
    assert!(stdout(&by_name)["bolt11"].as_str().is_some_and(|b| b.starts_with("lnbcrt")));

    let bolt11 = world.bob.invoice(7_000, "from the client");
    let paid = cli(&world, &["pay", &bolt11]);
    assert_eq!(paid.status.code(), Some(0), "{paid:?}");
    assert_eq!(stdout(&paid)["status"], "complete");

    let people = cli(&world, &["-H", "getinfo"]);
    assert_eq!(people.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&people.stdout).contains(world.alice.id()));
}

#[test]
fn errors_are_one_and_silence_is_two() {
    let mut world = World::new();
    for args in [&["no-such-method"][..], &["pay", "tea"], &["invoice"]] {
        let refused = cli(&world, args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}: {refused:?}");
        assert!(stdout(&refused)["code"].is_i64() && stdout(&refused)["message"].is_string(), "{refused:?}");
    }
    world.alice.stop();
    let nobody = cli(&world, &["getinfo"]);
    assert_eq!(nobody.status.code(), Some(2), "{nobody:?}");
    let words = String::from_utf8_lossy(&nobody.stderr);
    assert!(words.contains("chand"), "it says what to start: {words}");
}

#[test]
fn the_node_lists_and_explains_its_methods() {
    let world = World::new();
    let help = world.alice.call("help", json!({}));
    let listed: Vec<&str> =
        help["help"].as_array().expect("help").iter().filter_map(|h| h["command"].as_str()).collect();
    let promised = "getinfo help stop listconfigs getlog signmessage checkmessage \
                   connect disconnect listpeers ping \
                   newaddr listfunds withdraw feerates \
                   fundchannel close listpeerchannels listclosedchannels setchannel listhtlcs \
                   invoice listinvoices delinvoice waitinvoice waitanyinvoice holdinvoice settleinvoice cancelinvoice decode \
                   pay xpay keysend listpays sendpay waitsendpay listsendpays listsnapshots balance";
    for method in promised.split_whitespace() {
        let there = listed.iter().any(|c| c.split_whitespace().next() == Some(method));
        assert!(there, "{method} is not in {listed:?}");
    }
}

#[test]
fn the_usual_calls_of_a_node() {
    let world = World::new();
    let (alice, bob) = (&world.alice, &world.bob);
    let info = alice.call("getinfo", json!({}));
    assert_eq!(info["alias"], "Alice");
    assert_eq!(info["network"], "regtest");
    assert_eq!(info["blockheight"], world.chain.height());
    // An option that is there and was not given, and one that is not there.
    let unset = alice.call("listconfigs", json!({ "config": "rgb" }));
    assert_eq!(unset["configs"], json!({ "rgb": { "set": false, "source": "default" } }));
    alice.refusal("listconfigs", json!({ "config": "no-such-option" }));
    alice.connect(bob);
    let peers = alice.call("listpeers", json!({}));
    assert_eq!(peers["peers"][0]["id"], bob.id());
    assert_eq!(peers["peers"][0]["connected"], true);
    let pong = alice.call("ping", json!({ "id": bob.id(), "len": 10, "pongbytes": 20 }));
    assert_eq!(pong["totlen"], 24, "type, length and the bytes asked for (BOLT 1)");

    let signed = alice.call("signmessage", json!({ "message": "tea at five" }));
    let check = |message: &str| {
        let params = json!({ "message": message, "zbase": signed["zbase"], "pubkey": alice.id() });
        bob.call("checkmessage", params)
    };
    assert_eq!(check("tea at five")["verified"], true);
    assert_eq!(check("tea at six")["verified"], false);
    alice.call("disconnect", json!({ "id": bob.id() }));

    world.fund(alice, 500_000);
    let address = world.chain.call("getnewaddress", json!([]));
    let sent = alice.call("withdraw", json!({ "destination": address, "satoshi": 100_000 }));
    let tx = world.chain.transaction(sent["txid"].as_str().expect("txid"));
    let fee = world.chain.fee(&tx);
    world.mine(1);
    chand_tests::wait_until("the change", || alice.wallet_sat() == 400_000 - fee);
}
