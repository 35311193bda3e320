//! A disk without room, and files that it left half-written: nothing is lost, nothing is made, and what cannot be read is
//! said in words and left as it is.
//!
//! A limit on the size of files, set from outside on a running program, is a full disk that needs no rights: every
//! write beyond it fails, the log's too. It is taken away when room is to be back.

use chand_tests::books::{balance_adds_up, msat, shares};
use chand_tests::{programs, wait_for, wait_until, ChannelType, Client, Node, World};
use serde_json::{json, Value};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// No file of the node may grow beyond so many bytes; `unlimited` for no limit.
fn limit_files(node: &mut Node, most: &str) {
    let pid = node.process().id().to_string();
    let limit = format!("--fsize={most}:");
    let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(status.expect("prlimit, of util-linux").success(), "prlimit {limit}");
}

/// Orders payments without waiting for them.
fn start_paying(from: &Node, to: &Node, name: &str) -> Vec<Client> {
    let order = |n: u64| {
        let bolt11 = to.invoice(10_000 + n, &format!("{name} {n}"));
        let mut line = from.client();
        line.send("pay", &json!({ "bolt11": bolt11, "retry_for": 60 })).expect("asked");
        line
    };
    (0..4).map(order).collect()
}

/// How much of a node's invoices was paid.
fn received(node: &Node) -> u64 {
    let list = node.call("listinvoices", json!({}));
    let paid = list["invoices"].as_array().expect("invoices").iter().filter(|i| i["status"] == "paid");
    paid.map(|i| msat(i, "amount_received_msat")).sum()
}

fn sent(node: &Node) -> u64 {
    let list = node.call("listpays", json!({}));
    let pays = list["pays"].as_array().expect("pays");
    assert!(pays.iter().all(|p| p["status"] != "pending"), "{list}");
    pays.iter().filter(|p| p["status"] == "complete").map(|p| msat(p, "amount_msat")).sum()
}

#[test]
fn a_full_disk_stops_a_node_until_there_is_room_and_loses_nothing() {
    let mut world = World::with_channel(10_000_000, 5_000_000_000, ChannelType::Anchors);
    world.alice.stop();
    // The signal that goes with the limit would end the program.
    world.alice.set_before("trap '' XFSZ");
    world.alice.launch();
    world.wait_normal();
    for round in 0..4 {
        let (alice, bob) = (&world.alice, &world.bob);
        let mut lines = start_paying(alice, bob, &format!("round {round} from Alice"));
        let theirs: Vec<String> =
            (0..4).map(|n| alice.invoice(500 + n, &format!("round {round} {n}"))).collect();
        limit_files(&mut world.alice, "0");
        // Now everything that Alice would keep fails.
        let bob = &world.bob;
        for bolt11 in &theirs {
            let mut line = bob.client();
            line.send("pay", &json!({ "bolt11": bolt11, "retry_for": 60 })).expect("asked");
            lines.push(line);
        }
        wait_until("Alice to hang up", || bob.channel(&world.alice)["peer_connected"] == false);
        assert!(world.alice.process().ended().is_none(), "it waits for room");
        limit_files(&mut world.alice, "unlimited");
        world.wait_normal();
        for line in &mut lines {
            // Paid or refused: each is answered.
            let (_, outcome) = line.receive().expect("an answer");
            if let Ok(paid) = outcome {
                assert_eq!(paid["status"], "complete");
            }
        }
        world.wait_quiet();
    }
    let (alice, bob) = (&world.alice, &world.bob);
    let log = alice.call("getlog", json!({ "level": "debug" })).to_string();
    assert!(log.contains("cannot be written") || log.contains("could not be written"), "it said so: {log}");
    assert_eq!(sent(alice), received(bob));
    assert_eq!(sent(bob), received(alice));
    let moved = (received(bob), received(alice));
    assert_eq!(shares(alice, bob).0, 5_000_000_000 - moved.0 + moved.1);
    balance_adds_up(alice);
    balance_adds_up(bob);
    // And it was all kept: the same after the hardest end.
    world.alice.kill_and_launch();
    world.wait_normal();
    assert_eq!((received(&world.bob), received(&world.alice)), moved);
    let bolt11 = world.bob.invoice(5_000, "after all that");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
}

/// What lists say of the money, as far as it is kept: without links and without the warning.
fn books(node: &Node) -> Vec<Value> {
    let lists = [
        "listpeerchannels",
        "listpays",
        "listinvoices",
        "listclosedchannels",
        "balance",
        "listfunds",
        "listwatchtowers",
    ];
    let ask = |method: &&str| {
        let mut answer = node.call(method, json!({}));
        answer.as_object_mut().expect("fields").retain(|name, _| !name.starts_with("warning_"));
        for list in ["channels", "outputs"] {
            for item in answer.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let links = ["peer_connected", "connected", "reestablished", "status"];
                item.as_object_mut().expect("fields").retain(|name, _| !links.contains(&name.as_str()));
            }
        }
        answer
    };
    lists.iter().map(ask).collect()
}

#[test]
fn without_room_questions_are_answered_from_what_is_kept_and_orders_wait() {
    let mut world = World::with_channel(10_000_000, 5_000_000_000, ChannelType::Anchors);
    world.alice.stop();
    world.alice.set_before("trap '' XFSZ");
    world.alice.launch();
    world.wait_normal();
    let bolt11 = world.bob.invoice(7_000_000, "before");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    for healed in [true, false] {
        let before = books(&world.alice);
        limit_files(&mut world.alice, "0");
        let label = format!("healed {healed}");
        let mut order = Command::new(programs::find("chan-cli"))
            .env("HOME", world.dir.path())
            .args(["--data-dir".as_ref(), world.alice.data_dir().as_os_str()])
            .args(["--network", "regtest", "invoice", "5000", &label, "made without room"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chan-cli runs");
        let warned = || world.alice.call("getinfo", json!({}))["warning_disk"].is_string();
        wait_until("getinfo to say that the disk refuses", warned);
        assert_eq!(books(&world.alice), before);
        for method in ["listpeerchannels", "listpays", "balance", "listwatchtowers"] {
            assert!(world.alice.call(method, json!({}))["warning_disk"].is_string(), "{method}");
        }
        // The first line says what the order waits for; it comes while it waits.
        let mut told = String::new();
        let mut words = BufReader::new(order.stderr.take().expect("piped"));
        words.read_line(&mut told).expect("a line");
        assert!(told.contains("invoice waits") && told.contains("could not be written"), "{told}");
        assert!(order.try_wait().expect("a child").is_none(), "it waits");
        if healed {
            limit_files(&mut world.alice, "unlimited");
            assert!(order.wait().expect("a child").success());
            // Whoever was answered sees it from then on.
            assert_eq!(world.alice.invoice_of(&label)["status"], "unpaid");
            assert!(world.alice.call("getinfo", json!({}))["warning_disk"].is_null());
        } else {
            // A crash takes nothing back of what was shown.
            world.alice.kill_and_launch();
            assert!(!order.wait().expect("a child").success());
            world.wait_normal();
            assert_eq!(books(&world.alice), before);
        }
        world.wait_normal();
    }
}

/// Every regular file below a folder, with what it holds.
fn files_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files_of(&path));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Puts everything back as it was, what came since included.
fn put_back(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (path, _) in files_of(dir) {
        if !files.iter().any(|(known, _)| *known == path) {
            std::fs::remove_file(&path).expect("removed");
        }
    }
    for (path, bytes) in files {
        if std::fs::read(path).ok().as_ref() != Some(bytes) {
            std::fs::write(path, bytes).expect("put back");
        }
    }
}

/// What a start came to: what the node says of its channel, or the words with which it ended.
fn start(node: &mut Node, peer: &str) -> Result<Value, String> {
    let before = node.log().len();
    node.spawn();
    let outcome = wait_for("an answer or an end", || {
        if node.process().ended().is_some() {
            let words = node.log().get(before..).unwrap_or_default().to_string();
            return Ok(Err(words));
        }
        let answer = node.try_call("listpeerchannels", json!({ "id": peer })).map_err(|e| e.to_string())?;
        Ok(Ok(answer["channels"][0].clone()))
    });
    if outcome.is_ok() {
        node.kill();
    } else {
        node.forget_process();
    }
    outcome
}

#[test]
fn files_cut_short_at_any_length_are_refused_in_words_or_harmless() {
    let mut world = World::with_channel(1_000_000, 400_000_000, ChannelType::Anchors);
    let bolt11 = world.bob.invoice(7_000_000, "something to lose");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    world.alice.stop();
    world.bob.stop();
    let (dir, alice) = (world.bob.data_dir(), world.alice.id().to_string());
    let files = files_of(&dir);
    let whole =
        start(&mut world.bob, &alice).unwrap_or_else(|e| panic!("it starts when nothing is wrong: {e}"));
    put_back(&dir, &files);
    let facts =
        |channel: &Value| ["to_us_msat", "state", "channel_id", "total_msat"].map(|f| channel[f].clone());
    let (mut refused, mut harmless) = (Vec::new(), Vec::new());
    for (path, bytes) in &files {
        let name = path.strip_prefix(&dir).expect("below it").display().to_string();
        for len in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            if len == bytes.len() {
                continue;
            }
            std::fs::write(path, &bytes[..len]).expect("cut");
            match start(&mut world.bob, &alice) {
                Ok(channel) => {
                    assert_eq!(facts(&channel), facts(&whole), "{name} cut to {len} bytes: another state");
                    harmless.push(format!("{name} {len}"));
                }
                Err(words) => {
                    let told = words.lines().any(|line| line.len() > 30 && !line.contains("panicked"));
                    assert!(told && !words.contains("bug:"), "{name} cut to {len} bytes: {words}");
                    refused.push(format!("{name} {len}"));
                }
            }
            put_back(&dir, &files);
        }
    }
    println!("refused: {refused:?}\nharmless: {harmless:?}");
    assert!(refused.iter().any(|n| n.contains("seed")) && refused.iter().any(|n| n.contains("store/db")));
    // Nothing that was tried left a mark.
    world.bob.launch();
    world.alice.launch();
    world.wait_normal();
    let bolt11 = world.bob.invoice(5_000, "as before");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    shares(&world.alice, &world.bob);
}
