//! `chand check`: a stopped node's database is read and not written; damage is named with what it means for the money.

use crate::stage::hold;
use chand_protocol::record::Kind;
use chand_protocol::store::{Change, Store};
use chand_storage::{Owner, SledStore};
use chand_tests::{programs, ChannelType, Node, World};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

/// Exit status 0 or not, and all that was printed.
fn check(data_dir: &Path) -> (bool, String) {
    let output = Command::new(programs::find("chand"))
        .env_clear()
        .env("HOME", data_dir)
        .env("TMPDIR", data_dir.parent().expect("a folder above"))
        .args(["check", "--data-dir"])
        .arg(data_dir)
        .output()
        .expect("chand runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Every file below, with its bytes and when it was written.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let kind = fs::symlink_metadata(&path).expect("a file");
        if kind.is_dir() {
            all.extend(files(&path));
        } else if kind.is_file() {
            let written = kind.modified().expect("a time");
            all.insert(path.display().to_string(), (fs::read(&path).expect("bytes"), written));
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else if path.is_file() {
            fs::copy(&path, &to).expect("copied");
        }
    }
}

/// Puts garbage in the place of the first record of this kind.
fn damage(node: &Node, data_dir: &Path, kind: Kind) {
    let owner = Owner { network: "regtest".into(), node: node.id().into() };
    let mut store = SledStore::open(&data_dir.join("regtest/store"), &owner).expect("a database");
    let entries = store.load().expect("entries");
    let (key, _) = entries.into_iter().find(|(key, _)| key[0] == kind as u8).expect("such a record");
    store.commit(&[&[Change::Put { key, value: vec![1, 0xff, 0xff] }]]).expect("kept");
}

/// Nodes with a past, and something under way.
fn lived() -> World {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    for round in 0..3 {
        let bolt11 = world.bob.invoice(11_000 + round, &format!("tea {round}"));
        world.alice.call("pay", serde_json::json!({ "bolt11": bolt11 }));
    }
    hold(&world.alice, &world.bob, 10_000, "held");
    world.alice.stop();
    world.bob.kill();
    world
}

#[test]
fn a_whole_database_is_called_whole_and_stays_as_it_is() {
    let world = lived();
    for (node, wanted) in [
        (
            &world.alice,
            ["payments    4, 3 of them complete, 1 pending", "invoices    0, 0 of them paid, 0 held"],
        ),
        (
            &world.bob,
            ["payments    0, 0 of them complete, 0 pending", "invoices    4, 3 of them paid, 1 held"],
        ),
    ] {
        let before = files(&node.data_dir());
        let (whole, text) = check(&node.data_dir());
        assert!(whole, "{}:\n{text}", node.name());
        let all = ["1 open, 0 opening, 0 closing or on chain, 0 over; 1 HTLCs in them", node.id(), "adds up"];
        for words in wanted.into_iter().chain(all) {
            assert!(text.contains(words), "{}: no “{words}” in\n{text}", node.name());
        }
        assert!(files(&node.data_dir()) == before, "{}: something was written", node.name());
    }
    let left: Vec<String> = fs::read_dir(world.alice.data_dir().parent().expect("a folder"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("chand-check"))
        .collect();
    assert!(left.is_empty(), "copies are left: {left:?}");
}

#[test]
fn damage_is_named_with_what_it_means() {
    let world = lived();
    let base = world.dir.path();
    for (name, kind, words) in [
        ("invoice", Kind::Invoice, &["an invoice", "given back"][..]),
        (
            "state",
            Kind::State,
            &["the state or what must fit them of channel", "money is at stake", "must never be published"],
        ),
        ("secret", Kind::Secret, &["a secret that the peer revealed", "could not be punished"]),
        ("counters", Kind::Counters, &["the counters", "do not start with it"]),
        ("wallet", Kind::Payment, &["a payment", "ask the payee"]),
    ] {
        let node = if kind == Kind::Payment { &world.alice } else { &world.bob };
        let folder = base.join(format!("{name}/data"));
        copy(&node.data_dir(), &folder);
        damage(node, &folder, kind);
        let before = files(&folder);
        let (whole, text) = check(&folder);
        assert!(!whole, "{name}:\n{text}");
        for words in words {
            assert!(text.contains(words), "{name}: no “{words}” in\n{text}");
        }
        assert!(files(&folder) == before, "{name}: something was written");
    }
    // A hole in the file itself.
    let folder = base.join("hole/data");
    copy(&world.bob.data_dir(), &folder);
    let log = folder.join("regtest/store/db");
    let mut bytes = fs::read(&log).expect("the log");
    let middle = bytes.len() / 3;
    bytes[middle..middle + 4_096].fill(0x5a);
    fs::write(&log, bytes).expect("damaged");
    let (whole, text) = check(&folder);
    assert!(
        !whole && (text.contains("damaged") || text.contains("read back") || text.contains("older")),
        "{text}"
    );
}

#[test]
fn a_running_node_is_left_alone_and_nothing_is_made_where_nothing_is() {
    let world = World::new();
    let (whole, text) = check(&world.alice.data_dir());
    assert!(!whole && text.contains("in use by another process"), "{text}");
    world.alice.call("getinfo", serde_json::json!({}));
    let empty = world.dir.path().join("empty/data");
    fs::create_dir_all(&empty).expect("a folder");
    let (whole, text) = check(&empty);
    assert!(!whole && text.contains("seed"), "{text}");
    assert!(files(&empty).is_empty() && !empty.join("regtest").exists(), "something was made");
}
