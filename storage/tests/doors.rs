//! Opening what should not be opened: each ends in words, and nothing is lost.

use chand_protocol::store::{Change, Store};
use chand_storage::{OpenError, Owner, SledStore, FORMAT};
use std::fs;
use std::path::Path;

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

fn still_well(dir: &Path) {
    assert_eq!(SledStore::open(dir, &alice()).unwrap().load().unwrap().len(), 300);
}

#[test]
fn a_second_opening_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let first = SledStore::open(dir.path(), &alice()).unwrap();
    let error = SledStore::open(dir.path(), &alice()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { process: Some(p), .. } if p == std::process::id()), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(first);
    still_well(dir.path());
}

#[test]
fn another_network_or_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let error = SledStore::open(dir.path(), &owner("bitcoin", "02aa")).unwrap_err();
    assert!(matches!(&error, OpenError::WrongNetwork { found, .. } if found == "regtest"), "{error}");
    let error = SledStore::open(dir.path(), &owner("regtest", "02bb")).unwrap_err();
    assert!(matches!(&error, OpenError::WrongNode { found, .. } if found == "02aa"), "{error}");
    still_well(dir.path());
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let set = |format: &str| {
        let db = sled::open(dir.path()).unwrap();
        db.insert(b"mformat", format.as_bytes()).unwrap();
        db.flush().unwrap();
    };
    set("2");
    let error = SledStore::open(dir.path(), &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: FORMAT }), "{error}");
    set("1");
    still_well(dir.path());
}

#[test]
fn a_database_that_lost_its_log_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    fs::write(dir.path().join("db"), b"").unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("snap.") {
            fs::remove_file(path).unwrap();
        }
    }
    let error = SledStore::open(dir.path(), &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_file_where_the_folder_should_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    fs::write(&path, b"not a folder").unwrap();
    let error = SledStore::open(&path, &alice()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

/// Damage anywhere: an error in words, or all that the engine still vouches for; never a panic that gets out.
#[test]
fn damaged_files_end_in_an_error_or_in_whole_entries() {
    let well = tempfile::tempdir().unwrap();
    fill(well.path());
    let db = fs::read(well.path().join("db")).unwrap();
    let mut refused = 0;
    let mut outcomes = Vec::new();
    for round in 0..24usize {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(well.path()).unwrap().map(|e| e.unwrap()) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
            }
        }
        let mut bad = db.clone();
        match round % 4 {
            0 => bad.truncate(db.len() * (round + 1) / 25),
            1 => bad.iter_mut().skip(round * db.len() / 30).step_by(997).for_each(|b| *b ^= 0x55),
            2 => bad.iter_mut().skip(round * db.len() / 30).take(64).for_each(|b| *b = 0xff),
            _ => bad.iter_mut().skip(round * 20_000).take(40_000).for_each(|b| *b = 0),
        }
        fs::write(dir.path().join("db"), &bad).unwrap();
        if round >= 12 {
            fs::write(dir.path().join("conf"), b"segment_size: many\n\0\0\0\0").unwrap();
        }
        let result = SledStore::open(dir.path(), &alice()).map_err(|e| e.to_string());
        let result = result.and_then(|store| store.load().map_err(|e| e.to_string()));
        match result {
            Ok(entries) => {
                for (key, value) in entries {
                    assert_eq!(value, vec![key[3]; 2_000]);
                }
                outcomes.push(format!("{round}: ok"));
            }
            Err(e) => {
                assert!(e.contains("damaged") || e.contains("could not be"), "{e}");
                refused += 1;
                outcomes.push(format!("{round}: {e}"));
            }
        }
    }
    assert!(refused >= 12, "a bad settings file is always refused: {outcomes:#?}");
}
