//! What lies in a data dir: whose it is, who may read it, and what never gets into a log.

use chand_tests::hash::preimage;
use chand_tests::wait::PATIENCE;
use chand_tests::{wait_for, ChannelType, Node, World};
use serde_json::json;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Every file and folder below a folder.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_path_buf()];
    for entry in std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(walk(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}

/// The words of the seed, wherever they lie below the data dir.
fn seed_of(node: &Node) -> (PathBuf, Vec<String>) {
    let words = |path: &PathBuf| -> Option<Vec<String>> {
        let text = std::fs::read_to_string(path).ok()?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let words: Vec<String> = lines.flat_map(str::split_whitespace).map(String::from).collect();
        let plain =
            words.iter().all(|w| (3..=8).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_lowercase()));
        (plain && [12, 15, 18, 21, 24].contains(&words.len())).then_some(words)
    };
    let regular = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file());
    let mut all = walk(&node.data_dir()).into_iter().filter(regular);
    all.find_map(|path| words(&path).map(|w| (path, w))).expect("a file with the words of a seed")
}

#[test]
fn only_the_owner_may_look() {
    let world = World::with_channel(1_000_000, 0, ChannelType::Anchors);
    let node = &world.alice;
    let mut sockets = 0;
    // The folder that --data-dir names was made by chand, and so was all below it.
    for path in walk(&node.data_dir()) {
        let meta = path.symlink_metadata().expect("metadata");
        let mode = meta.permissions().mode() & 0o777;
        if meta.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
        } else {
            assert_eq!(mode & 0o177, 0, "{} has mode {mode:o}", path.display());
        }
        sockets += usize::from(meta.file_type().is_socket());
    }
    assert_eq!(sockets, 1);
    let (seed, _) = seed_of(node);
    assert_eq!(seed.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
    let socket = node.socket().metadata().expect("metadata").permissions().mode() & 0o777;
    assert_eq!(socket, 0o600);
}

#[test]
fn no_secret_reaches_a_log() {
    let mut world = World::new();
    for node in [&mut world.alice, &mut world.bob] {
        node.stop();
        node.set_extra(&["--log-level", "trace"]);
        node.launch();
    }
    world.fund(&world.alice, 2_000_000);
    world.alice.connect(&world.bob);
    world.open(&world.alice, &world.bob, 1_000_000, 100_000_000, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let known = preimage("known beforehand", 0);
    let secret = preimage("held", 0);
    let params = json!({ "amount_msat": 9_000, "label": "known", "description": "", "preimage": known });
    let invoice = bob.call("invoice", params);
    let paid = alice.call("pay", json!({ "bolt11": invoice["bolt11"] }));
    let keysend = alice.call("keysend", json!({ "destination": bob.id(), "amount_msat": 9_000 }));
    let bolt11 = bob.hold_invoice(8_000, "held", &secret);
    let mut paying = alice.client();
    paying.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
    wait_for("the payment to be held", || {
        let invoice = bob.invoice_of("held");
        if invoice["hold"] == "accepted" {
            Ok(())
        } else {
            Err(invoice.to_string())
        }
    });
    bob.refusal("settleinvoice", json!({ "preimage": preimage("wrong", 0) }));
    bob.call("settleinvoice", json!({ "preimage": secret }));
    paying.receive().expect("an answer").1.expect("paid");
    alice.call("close", json!({ "id": bob.id() }));
    world.mine(1);

    let mut secrets = vec![known, secret, preimage("wrong", 0), "only-for-tests".to_string()];
    for answer in [&paid, &keysend] {
        secrets.push(answer["payment_preimage"].as_str().expect("payment_preimage").into());
    }
    secrets.push(invoice["payment_secret"].as_str().expect("payment_secret").into());
    for node in [alice, bob] {
        let (_, words) = seed_of(node);
        // Three words in a row: one alone may well be in a log line.
        secrets.extend(words.windows(3).map(|w| w.join(" ")));
        let ring = node.call("getlog", json!({ "level": "trace" })).to_string();
        let log = node.log();
        assert!(log.contains("DEBUG") && log.contains("closed by agreement"), "all of it is there:\n{log}");
        for secret in &secrets {
            assert!(!log.contains(secret.as_str()), "{secret} is in the log of {}", node.name());
            assert!(!ring.contains(secret.as_str()), "{secret} is in getlog of {}", node.name());
        }
    }
}

#[test]
fn a_second_chand_on_one_data_dir_is_refused() {
    let world = World::with_channel(1_000_000, 0, ChannelType::Anchors);
    let program = chand_tests::programs::find("chand");
    let mut args = world.alice.args();
    let listen = args.iter().position(|a| a == "--listen").expect("--listen");
    args[listen + 1] = format!("127.0.0.1:{}", chand_tests::ports::free());
    let log = world.dir.path().join("second.log");
    let mut second =
        chand_tests::process::Process::start("a second", &program, &args, world.dir.path(), &log);
    let status = second.wait_end(PATIENCE);
    assert!(!status.success(), "{status}");
    let words = second.output();
    assert!(words.contains("in use") || words.contains("already"), "{words}");
    // The first has noticed nothing, its socket least of all.
    let bolt11 = world.bob.invoice(5_000, "as before");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
}

/// The folder of the database: the one that sled's `conf` lies in.
fn database_of(node: &Node) -> PathBuf {
    let conf = walk(&node.data_dir()).into_iter().find(|p| p.file_name().is_some_and(|n| n == "conf"));
    conf.and_then(|p| p.parent().map(Path::to_path_buf)).expect("a database")
}

/// Writes another format number into a database, as a later version would; the one it had.
fn set_format(database: &Path, format: &[u8]) -> Vec<u8> {
    let db = sled::open(database).expect("the database");
    let name = |key: &sled::IVec| key.ends_with(b"format");
    let (key, before) = db.iter().map(|e| e.expect("an entry")).find(|(k, _)| name(k)).expect("a format");
    db.insert(key, format).expect("written");
    db.flush().expect("flushed");
    before.to_vec()
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let mut world = World::with_channel(1_000_000, 400_000_000, ChannelType::Anchors);
    world.bob.stop();
    let database = database_of(&world.bob);
    let before = set_format(&database, b"999");
    world.bob.spawn();
    let status = world.bob.process().wait_end(PATIENCE);
    assert!(!status.success(), "{status}");
    assert!(world.bob.log().contains("999"), "it says which format it found: {}", world.bob.log());
    world.bob.forget_process();

    // Nothing was harmed: with its own number it opens, and its channel pays.
    set_format(&database, &before);
    world.bob.launch();
    world.wait_normal();
    let bolt11 = world.bob.invoice(5_000, "as before");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
}

#[test]
fn a_seed_lost_beside_its_database_is_noticed() {
    let mut world = World::with_channel(1_000_000, 400_000_000, ChannelType::Anchors);
    world.bob.stop();
    let (seed, _) = seed_of(&world.bob);
    let aside = world.dir.path().join("the seed");
    std::fs::rename(&seed, &aside).expect("moved");
    world.bob.spawn();
    let status = world.bob.process().wait_end(PATIENCE);
    assert!(!status.success(), "a new seed would be another node: {status}");
    assert!(!seed.exists(), "no other seed stands in its place");
    world.bob.forget_process();
    std::fs::rename(&aside, &seed).expect("moved back");
    world.bob.launch();
    world.wait_normal();
}
