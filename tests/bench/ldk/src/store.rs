//! One append-only log with group commit under LDK's engine: the fastest durable store that its interface allows.
//!
//! In: LDK's keys and values. Out: the same, after a restart too. All values are held in memory; a write waits for an
//! `fdatasync` that it shares with those that came meanwhile. The log is never compacted: this is for measuring.
//! Read next: `engine`.

use ldk_node::lightning::io;
use ldk_node::lightning::util::persist::KVStoreSync;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Condvar, Mutex};

/// Before each entry: put or remove, and both lengths.
const HEAD: usize = 9;

#[derive(Default)]
struct Tail {
    waiting: Vec<u8>,
    appended: u64,
    synced: u64,
    syncing: bool,
}

/// The store.
pub struct LogStore {
    map: Mutex<HashMap<String, Vec<u8>>>,
    tail: Mutex<Tail>,
    synced: Condvar,
    file: File,
}

fn name(primary: &str, secondary: &str, key: &str) -> String {
    format!("{primary}/{secondary}/{key}")
}

/// Reads a log back; half an entry at its end was never acknowledged.
fn replay(log: &[u8]) -> HashMap<String, Vec<u8>> {
    let mut map = HashMap::new();
    let mut rest = log;
    while rest.len() >= HEAD {
        let length =
            |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes")) as usize;
        let (key_end, end) = (HEAD + length(1), HEAD + length(1) + length(5));
        if rest.len() < end {
            break;
        }
        let key = String::from_utf8(rest[HEAD..key_end].to_vec()).expect("a key");
        match rest[0] {
            1 => drop(map.insert(key, rest[key_end..end].to_vec())),
            _ => drop(map.remove(&key)),
        }
        rest = &rest[end..];
    }
    map
}

impl LogStore {
    /// Opens or makes the log in a folder.
    pub fn open(dir: &Path) -> LogStore {
        std::fs::create_dir_all(dir).expect("a folder");
        let path = dir.join("log");
        let map = std::fs::read(&path).map(|log| replay(&log)).unwrap_or_default();
        let file = OpenOptions::new().create(true).append(true).open(path).expect("the log");
        LogStore { map: Mutex::new(map), tail: Mutex::default(), synced: Condvar::new(), file }
    }

    /// Changes the map and appends to what waits; the number to wait for.
    fn put(&self, key: String, value: Option<Vec<u8>>) -> u64 {
        let mut map = self.map.lock().unwrap();
        let mut tail = self.tail.lock().unwrap();
        let bytes = value.as_deref().unwrap_or_default();
        tail.waiting.push(value.is_some().into());
        tail.waiting.extend_from_slice(&(key.len() as u32).to_le_bytes());
        tail.waiting.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        tail.waiting.extend_from_slice(key.as_bytes());
        tail.waiting.extend_from_slice(bytes);
        tail.appended += 1;
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
        tail.appended
    }

    /// Returns when that number is on disk; one of those who wait does it for all.
    fn wait(&self, number: u64) {
        let mut tail = self.tail.lock().unwrap();
        while tail.synced < number {
            if tail.syncing {
                tail = self.synced.wait(tail).unwrap();
                continue;
            }
            tail.syncing = true;
            let (bytes, upto) = (std::mem::take(&mut tail.waiting), tail.appended);
            drop(tail);
            (&self.file).write_all(&bytes).expect("the log can be written");
            self.file.sync_data().expect("the log can be synced");
            tail = self.tail.lock().unwrap();
            tail.synced = upto;
            tail.syncing = false;
            self.synced.notify_all();
        }
    }
}

impl KVStoreSync for LogStore {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, io::Error> {
        let map = self.map.lock().unwrap();
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such key");
        map.get(&name(primary, secondary, key)).cloned().ok_or_else(missing)
    }

    fn write(&self, primary: &str, secondary: &str, key: &str, value: Vec<u8>) -> Result<(), io::Error> {
        let number = self.put(name(primary, secondary, key), Some(value));
        self.wait(number);
        Ok(())
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, lazy: bool) -> Result<(), io::Error> {
        let number = self.put(name(primary, secondary, key), None);
        if !lazy {
            self.wait(number);
        }
        Ok(())
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, io::Error> {
        let prefix = name(primary, secondary, "");
        let map = self.map.lock().unwrap();
        Ok(map.keys().filter_map(|key| key.strip_prefix(&prefix).map(String::from)).collect())
    }
}
