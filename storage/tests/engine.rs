//! What both engines must do alike, and what sled must not do.

use chand_protocol::store::{Change, Entry, Store, StoreError};
use chand_storage::{MemoryStore, Owner, SledStore, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn alice() -> Owner {
    Owner { network: "regtest".into(), node: "02aa".into() }
}

fn open(dir: &Path) -> SledStore {
    SledStore::open(&dir.join("store"), &alice()).unwrap()
}

fn put(key: &[u8], value: &[u8]) -> Change {
    Change::Put { key: key.to_vec(), value: value.to_vec() }
}

fn delete(key: &[u8]) -> Change {
    Change::Delete { key: key.to_vec() }
}

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31).wrapping_add(salt) >> 3) as u8).collect()
}

/// A tiny generator, so that a run is the same every time.
struct Dice(u64);
impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn blob_files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("store/blobs")).unwrap().count()
}

#[test]
fn later_changes_override_earlier_ones_inside_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] = [Box::new(open(dir.path())), Box::new(MemoryStore::new())];
    for mut store in stores {
        store
            .commit(&[
                &[put(b"a", b"1"), put(b"b", b"1"), put(b"a", b"2"), put(b"d", b"1")],
                &[delete(b"b"), put(b"c", b"1"), delete(b"nothing"), delete(b"d")],
                &[put(b"b", b"3")],
            ])
            .unwrap();
        let want: Vec<Entry> = [("a", "2"), ("b", "3"), ("c", "1")].map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(store.load().unwrap(), want);
        store.commit(&[]).unwrap();
        assert_eq!(store.load().unwrap(), want);
    }
}

#[test]
fn keys_and_values_beyond_the_limits_are_refused_and_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] = [Box::new(open(dir.path())), Box::new(MemoryStore::new())];
    for mut store in stores {
        for bad in [
            put(&[7; MAX_KEY_BYTES + 1], b"v"),
            put(b"", b"v"),
            delete(&[7; MAX_KEY_BYTES + 1]),
            put(b"k", &vec![0; MAX_VALUE_BYTES + 1]),
        ] {
            assert!(matches!(store.commit(&[&[put(b"good", b"1"), bad]]), Err(StoreError::Write(_))));
            assert_eq!(store.load().unwrap(), vec![]);
        }
        store.commit(&[&[put(&[7; MAX_KEY_BYTES], b"v")]]).unwrap();
        assert_eq!(store.load().unwrap().len(), 1);
    }
}

/// Random puts and deletes of short and long values over keys that are prefixes of each other: after each commit,
/// and again after a reopening, the disk holds what a map would.
#[test]
fn it_holds_what_a_map_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(0x5eed);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut store = open(dir.path());
    for round in 0..60 {
        let mut list = Vec::new();
        for _ in 0..dice.below(12) {
            // Keys of zeros and ones of every length: "", no; "\0", "\0\0", "\0\x01" …
            let key: Vec<u8> = (0..1 + dice.below(5)).map(|_| [0, 1, 255][dice.below(3)]).collect();
            if dice.below(3) == 0 {
                list.push(delete(&key));
                model.remove(&key);
            } else {
                let len = [0, 1, 40, 3_499, 3_500, 3_501, 7_000, 7_001, 30_000][dice.below(9)];
                let value = pattern(len, round);
                list.push(put(&key, &value));
                model.insert(key, value);
            }
        }
        store.commit(&[&list]).unwrap();
        if round % 10 == 9 {
            drop(store);
            store = open(dir.path());
        }
        let want: Vec<Entry> = model.clone().into_iter().collect();
        assert!(store.load().unwrap() == want, "round {round}");
    }
    assert_eq!(blob_files(dir.path()), 0);
}

#[test]
fn no_value_ever_goes_to_a_blob_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut list: Vec<Change> =
        (0..2_000usize).map(|i| put(format!("big/{i:06}").as_bytes(), &pattern(i * 30, i))).collect();
    list.extend((0..500usize).map(|i| put(format!("mid/{i:06}").as_bytes(), &pattern(8_192, i))));
    list.extend(
        (0..500usize).map(|i| put(&[&[b'k'; 240][..], &(i as u32).to_be_bytes()].concat(), &[9; 3_500])),
    );
    store.commit(&[&list]).unwrap();
    assert_eq!(blob_files(dir.path()), 0);
    // Rewriting makes sled consolidate and move its leaves.
    for round in 0..12usize {
        let list: Vec<Change> = (0..500usize)
            .map(|i| put(format!("mid/{i:06}").as_bytes(), &pattern(2_000 + 500 * round, i)))
            .collect();
        store.commit(&[&list]).unwrap();
        assert_eq!(blob_files(dir.path()), 0);
    }
    drop(store);
    let entries = open(dir.path()).load().unwrap();
    assert_eq!(blob_files(dir.path()), 0);
    assert_eq!(entries.len(), 3_000);
    for i in [0usize, 116, 117, 118, 1_999] {
        let key = format!("big/{i:06}").into_bytes();
        let at = entries.binary_search_by(|(k, _)| k.cmp(&key)).unwrap();
        assert!(entries[at].1 == pattern(i * 30, i), "{i}");
    }
}

#[test]
fn only_the_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/store");
    let parent = dir.path().join("a");
    for _ in 0..2 {
        let mut store = open(&parent);
        store.commit(&[&[put(b"k", b"v")]]).unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        let mut seen = 0;
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap().path();
            assert_eq!(mode(&entry), if entry.is_dir() { 0o700 } else { 0o600 }, "{}", entry.display());
            seen += 1;
        }
        assert_eq!(mode(&parent.join("store.commit")), 0o600);
        assert!(seen >= 4, "db, conf, lock, FORMAT at least: {seen}");
    }
}
