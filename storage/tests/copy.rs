//! A database is read from a copy, and stays byte for byte as it was.

use chand_protocol::store::{Change, Store};
use chand_storage::{CopyError, OpenError, Owner, SledStore};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

fn owner() -> Owner {
    Owner { network: "regtest".into(), node: "02".repeat(33) }
}

/// Every file with its bytes and when it was written.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let written = fs::metadata(&path).and_then(|m| m.modified()).expect("a time");
            all.insert(path.display().to_string(), (fs::read(&path).expect("bytes"), written));
        }
    }
    all
}

fn put(store: &mut SledStore, number: u8) {
    let change = Change::Put { key: vec![b'i', number], value: vec![number; 5_000] };
    store.commit(&[&[change]]).expect("kept");
}

#[test]
fn what_is_read_is_all_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let store_dir = dir.path().join("store");
    let mut store = SledStore::open(&store_dir, &owner()).expect("a database");
    (0..20).for_each(|number| put(&mut store, number));
    let wanted = store.load().expect("entries");
    drop(store);
    let before = files(dir.path());
    let scratch = tempfile::tempdir().expect("a folder");
    let copied = SledStore::read_copy(&store_dir, &owner(), scratch.path()).expect("a copy");
    assert_eq!((copied.entries, copied.commits), (wanted, 20));
    assert!(copied.bytes > 100_000, "{}", copied.bytes);
    assert!(files(dir.path()) == before, "the original was written to");
}

#[test]
fn one_that_is_in_use_or_damaged_or_not_there_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let store_dir = dir.path().join("store");
    let look = || {
        let scratch = tempfile::tempdir().expect("a folder");
        SledStore::read_copy(&store_dir, &owner(), scratch.path())
    };
    assert!(matches!(look(), Err(CopyError::NotThere(_))));
    let mut store = SledStore::open(&store_dir, &owner()).expect("a database");
    put(&mut store, 1);
    assert!(matches!(look(), Err(CopyError::Open(OpenError::InUse { .. }))));
    (2..60).for_each(|number| put(&mut store, number));
    drop(store);
    let log = store_dir.join("db");
    let mut bytes = fs::read(&log).expect("the log");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xa5);
    fs::write(&log, bytes).expect("damaged");
    let before = files(dir.path());
    let error = look().expect_err("damage");
    assert!(!matches!(error, CopyError::NotThere(_) | CopyError::Io(_)), "{error}");
    assert!(files(dir.path()) == before, "the original was written to");
}
