//! Opening what should not be opened: each ends in words, and nothing is lost.

use chand_protocol::store::{Change, Store};
use chand_storage::{OpenError, Owner, SledStore, FORMAT};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn owner(network: &str, node: &str) -> Owner {
    Owner { network: network.into(), node: node.into() }
}

fn alice() -> Owner {
    owner("regtest", "02aa")
}

fn fill(dir: &Path) {
    let mut store = SledStore::open(dir, &alice()).unwrap();
    for i in 0..300u32 {
        let key = i.to_be_bytes().to_vec();
        store.commit(&[&[Change::Put { key, value: vec![i as u8; 2_000] }]]).unwrap();
    }
}

/// A database of 300 entries in a folder of its own.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    fill(&dir);
    (temp, dir)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap()) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn still_well(dir: &Path) {
    assert_eq!(SledStore::open(dir, &alice()).unwrap().load().unwrap().len(), 300);
}

#[test]
fn a_second_opening_is_refused_until_the_first_is_closed() {
    let (_temp, dir) = filled();
    let first = SledStore::open(&dir, &alice()).unwrap();
    let error = SledStore::open(&dir, &alice()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { process: Some(p), .. } if p == std::process::id()), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(first);
    still_well(&dir);
}

#[test]
fn another_network_or_another_node_is_refused() {
    let (_temp, dir) = filled();
    let error = SledStore::open(&dir, &owner("bitcoin", "02aa")).unwrap_err();
    assert!(matches!(&error, OpenError::WrongNetwork { found, .. } if found == "regtest"), "{error}");
    let error = SledStore::open(&dir, &owner("regtest", "02bb")).unwrap_err();
    assert!(matches!(&error, OpenError::WrongNode { found, .. } if found == "02aa"), "{error}");
    still_well(&dir);
}

/// The database as sled alone opens it; a thread of a handle that was just dropped may hold its lock for a moment yet.
fn without_us(dir: &Path) -> sled::Db {
    let since = Instant::now();
    loop {
        match sled::open(dir) {
            Ok(db) => return db,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_was() {
    let (_temp, dir) = filled();
    let set = |format: &str| {
        let db = without_us(&dir);
        db.insert(b"mformat", format.as_bytes()).unwrap();
        db.flush().unwrap();
    };
    set("2");
    let error = SledStore::open(&dir, &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: FORMAT }), "{error}");
    set("1");
    still_well(&dir);
}

#[test]
fn a_database_that_lost_its_log_is_not_taken_for_a_new_one() {
    let (_temp, dir) = filled();
    fs::write(dir.join("db"), b"").unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("snap.") {
            fs::remove_file(path).unwrap();
        }
    }
    let error = SledStore::open(&dir, &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_file_where_the_folder_should_be_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    fs::write(&path, b"not a folder").unwrap();
    let error = SledStore::open(&path, &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn an_old_copy_or_a_database_made_anew_is_refused() {
    let (temp, dir) = filled();
    let old = temp.path().join("old");
    copy(&dir, &old);
    let mut store = SledStore::open(&dir, &alice()).unwrap();
    store.commit(&[&[Change::Put { key: b"later".to_vec(), value: b"1".to_vec() }]]).unwrap();
    drop(store);
    // The folder as it was before that commit.
    fs::remove_dir_all(&dir).unwrap();
    copy(&old, &dir);
    let error = SledStore::open(&dir, &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Older { found: 300, known: 301, .. }), "{error}");
    // No folder at all.
    fs::remove_dir_all(&dir).unwrap();
    let error = SledStore::open(&dir, &alice()).unwrap_err();
    let OpenError::Older { found: 0, known: 301, ref file, .. } = error else { panic!("{error}") };
    // Whoever accepts the loss says so by removing the file that the words name.
    fs::remove_file(file).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    copy(&old, &dir);
    still_well(&dir);
    // A power cut may leave that file empty: then it says nothing.
    fs::write(file, b"").unwrap();
    still_well(&dir);
}

#[test]
fn an_old_copy_may_be_opened_by_who_says_so_and_is_told_until_something_is_kept() {
    let (temp, dir) = filled();
    let old = temp.path().join("old");
    copy(&dir, &old);
    let change = |key: &[u8]| Change::Put { key: key.to_vec(), value: b"1".to_vec() };
    let mut store = SledStore::open(&dir, &alice()).unwrap();
    for key in [b"a", b"b", b"c"] {
        store.commit(&[&[change(key)]]).unwrap();
    }
    drop(store);
    fs::remove_dir_all(&dir).unwrap();
    copy(&old, &dir);
    // To look at it is not yet to have put its channels in doubt.
    let store = SledStore::open_old_copy(&dir, &alice()).unwrap();
    assert_eq!(store.load().unwrap().len(), 300);
    drop(store);
    let error = SledStore::open(&dir, &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Older { found: 300, known: 303, .. }), "{error}");
    assert!(error.to_string().contains("--restored"), "{error}");
    let mut store = SledStore::open_old_copy(&dir, &alice()).unwrap();
    store.commit(&[&[change(b"doubt")]]).unwrap();
    drop(store);
    assert_eq!(SledStore::open(&dir, &alice()).unwrap().load().unwrap().len(), 301);
    // One that is not old opens as ever, and everything else is refused as ever.
    drop(SledStore::open_old_copy(&dir, &alice()).unwrap());
    assert!(matches!(
        SledStore::open_old_copy(&dir, &owner("bitcoin", "02aa")),
        Err(OpenError::WrongNetwork { .. })
    ));
}

/// Damage anywhere: an error in words, or every entry that was acknowledged; never a panic that gets out.
#[test]
fn damaged_files_end_in_an_error_or_in_all_entries() {
    let (temp, well) = filled();
    let number = fs::read(temp.path().join("store.commit")).unwrap();
    let db = fs::read(well.join("db")).unwrap();
    let (mut refused, mut older) = (0, 0);
    for round in 0..24usize {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        copy(&well, &dir);
        fs::write(temp.path().join("store.commit"), &number).unwrap();
        let mut bad = db.clone();
        match round % 4 {
            0 => bad.truncate(db.len() * (round + 1) / 25),
            1 => bad.iter_mut().skip(round * db.len() / 30).step_by(997).for_each(|b| *b ^= 0x55),
            2 => bad.iter_mut().skip(round * db.len() / 30).take(64).for_each(|b| *b = 0xff),
            _ => bad.iter_mut().skip(round * 20_000).take(40_000).for_each(|b| *b = 0),
        }
        fs::write(dir.join("db"), &bad).unwrap();
        if round >= 20 {
            fs::write(dir.join("conf"), b"segment_size: many\n\0\0\0\0").unwrap();
        }
        let opened = SledStore::open(&dir, &alice());
        older += usize::from(matches!(opened, Err(OpenError::Older { .. })));
        match opened.map_err(|e| e.to_string()).and_then(|store| store.load().map_err(|e| e.to_string())) {
            Ok(entries) => {
                assert_eq!(entries.len(), 300, "round {round}");
                assert!(entries.iter().all(|(key, value)| *value == vec![key[3]; 2_000]));
            }
            Err(e) => {
                assert!(e.contains("damaged") || e.contains("could not be") || e.contains("is older"), "{e}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 10, "{refused} refused");
    assert!(older >= 1, "a log that was cut off shows by its last commit");
}

#[test]
fn a_snapshot_that_sled_never_finished_is_no_damage() {
    for content in [&b""[..], &b"half of it"[..], &[7u8; 4_096][..]] {
        let (_keep, dir) = filled();
        std::fs::write(dir.join("snap.0000000000FFFFFF.generating"), content).expect("written");
        still_well(&dir);
    }
}
