//! A database whose files a crash, a full disk or a hand has changed.
//!
//! In: bytes that say which file is cut, overwritten, lengthened or removed, or which of the engine's entries is changed.
//! Out: nothing, or a panic: opening ends in an error in words, or in exactly the last state that was acknowledged;
//! never in an older one or a mixture.
//! Read next: `storage/tests`.

use super::feed::Feed;
use super::hunt::saw;
use chand_protocol::store::{Change, Entry, Store};
use chand_storage::{Owner, SledStore};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

fn owner() -> Owner {
    Owner { network: "regtest".into(), node: "02aa".into() }
}

/// Files by their paths below a folder.
type Files = Vec<(String, Vec<u8>)>;

/// A small database that was closed in order: its files, and what it holds.
fn well() -> &'static (Files, Vec<Entry>) {
    static ONE: OnceLock<(Files, Vec<Entry>)> = OnceLock::new();
    ONE.get_or_init(|| {
        let temp = tempfile::tempdir().expect("a folder");
        let dir = temp.path().join("store");
        let mut store = SledStore::open(&dir, &owner()).unwrap_or_else(|e| panic!("{e}"));
        for round in 0..12_u8 {
            let changes: Vec<Change> = (0..6_u8)
                .map(|k| Change::Put { key: vec![k], value: vec![round ^ k; 40 + usize::from(round) * 400] })
                .collect();
            store.commit(&[&changes]).unwrap_or_else(|e| panic!("{e}"));
        }
        let entries = store.load().unwrap_or_else(|e| panic!("{e}"));
        drop(store);
        (files_of(temp.path()), entries)
    })
}

/// Every file below a folder but the locks, by its path.
fn files_of(root: &Path) -> Files {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_none_or(|e| e != "lock") {
                let name = entry.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
                found.push((name, fs::read(&entry).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

/// Damaged files: an error, or all that was acknowledged.
pub fn damaged(input: &[u8]) {
    let (files, entries) = well();
    let mut feed = Feed::new(input);
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path().join("store");
    fs::create_dir_all(&dir).expect("a folder");
    let mut files = files.clone();
    let count = 1 + feed.u8() % 3;
    let mut forgotten = false;
    for _ in 0..count {
        let at = usize::from(feed.u8()) % files.len();
        let gone = damage(&mut feed, &mut files[at].1);
        saw((files[at].0.clone(), gone));
        // Whoever removes or empties this file says that an older state is accepted.
        forgotten |= files[at].0 == "store.commit";
        if gone {
            files.remove(at);
        }
        if files.is_empty() {
            break;
        }
    }
    for (name, bytes) in &files {
        let path = temp.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }
    let opened = SledStore::open(&dir, &owner()).map_err(|e| e.to_string());
    match opened.and_then(|store| store.load().map_err(|e| e.to_string())) {
        Ok(found) if found == *entries => saw("whole"),
        Ok(found) => {
            // Without the log and without its number there is nothing that tells of a database that was there.
            assert!(forgotten, "{} entries of {}: an older state, or a mixture", found.len(), entries.len());
            let whole =
                found.iter().all(|(key, value)| value.iter().all(|b| *b == value[0] && key.len() == 1));
            assert!(whole && (found.is_empty() || found.len() == entries.len()), "a mixture");
            let rounds: Vec<u8> = found.iter().map(|(key, value)| value[0] ^ key[0]).collect();
            assert!(rounds.windows(2).all(|pair| pair[0] == pair[1]), "a mixture of {rounds:?}");
            saw("older, and accepted");
        }
        Err(words) => {
            assert!(words.len() > 20, "{words}");
            let kind = ["damaged", "older", "could not be", "newer", "format", "belongs", "in use"];
            let kind = kind.iter().find(|k| words.contains(**k));
            saw(kind);
            assert!(kind.is_some(), "no words for it: {words}");
            assert_ne!(kind, Some(&"in use"), "{words}");
        }
    }
}

/// Changes one file; `true` when it is to be removed.
fn damage(feed: &mut Feed<'_>, bytes: &mut Vec<u8>) -> bool {
    let len = bytes.len();
    // The end of what was written: a log is far longer than that.
    let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let part = |feed: &mut Feed<'_>, of: usize| (usize::from(feed.u16()) * (of + 1)) >> 16;
    match feed.u8() % 8 {
        0 => bytes.truncate(part(feed, len)),
        1 => bytes.truncate(part(feed, written)),
        2 => bytes.clear(),
        3 => bytes.extend_from_slice(feed.piece()),
        4 => {
            let at = part(feed, written);
            let mask = feed.u8();
            bytes.get_mut(at).into_iter().for_each(|b| *b ^= mask);
        }
        5 => {
            let (at, with, count) = (part(feed, written), feed.u8(), usize::from(feed.u16()));
            bytes.iter_mut().skip(at).take(count).for_each(|b| *b = with);
        }
        6 => {
            let at = part(feed, written);
            let piece = feed.piece().to_vec();
            bytes.iter_mut().skip(at).zip(piece).for_each(|(to, from)| *to = from);
        }
        _ => return true,
    }
    false
}

/// Entries of the engine itself that say nonsense: read back in words or as they are, never with a panic.
pub fn entries(input: &[u8]) {
    let (files, _) = well();
    let mut feed = Feed::new(input);
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path().join("store");
    for (name, bytes) in files {
        let path = temp.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }
    {
        let db = sled::open(&dir).expect("the engine opens its own files");
        let keys: Vec<Vec<u8>> = db.iter().keys().flatten().map(|key| key.to_vec()).collect();
        for _ in 0..1 + feed.u8() % 4 {
            let key = keys[usize::from(feed.u8()) % keys.len()].clone();
            let written = match feed.u8() % 4 {
                0 => db.remove(key),
                1 => db.insert(key, feed.piece()),
                2 => db.insert([&key[..], feed.piece()].concat(), feed.piece()),
                _ => {
                    let mut value = db.get(&key).ok().flatten().map(|v| v.to_vec()).unwrap_or_default();
                    let at = usize::from(feed.u16()) % value.len().max(1);
                    let mask = feed.u8();
                    value.iter_mut().skip(at).take(1).for_each(|b| *b ^= mask);
                    db.insert(key, value)
                }
            };
            written.expect("written");
        }
        db.flush().expect("flushed");
    }
    let opened = SledStore::open(&dir, &owner()).map_err(|e| e.to_string());
    match opened.and_then(|store| store.load().map_err(|e| e.to_string())) {
        Ok(found) => saw(("read", found.len())),
        Err(words) => saw(words
            .split(['(', ':'])
            .nth(1)
            .map(|w| w.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())),
    }
}

/// Each file cut, emptied, lengthened and removed.
pub fn damaged_seeds() -> Vec<Vec<u8>> {
    let files = well().0.len() as u8;
    (0..files)
        .flat_map(|file| (0..8).map(move |act| vec![0, file, act, 0x80, 0, 0x40, 0, 1, 2, 3, 4]))
        .collect()
}

/// Each entry removed and changed.
pub fn entry_seeds() -> Vec<Vec<u8>> {
    (0..12).flat_map(|entry| (0..4).map(move |act| vec![0, entry, act, 0, 2, 7, 0x33])).collect()
}
