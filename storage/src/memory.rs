//! A store in memory that can lose power.
//!
//! In: commits, and a plan of what is to go wrong. Out: what a disk would have kept.
//! A handle may be cloned: all clones are the same disk, so that a test keeps one while the node owns another.
//! [`MemoryStore::crash`] forgets what was written but not synced; [`MemoryStore::fork`] is a second disk with what
//! the first holds for good.
//! Read next: `sled_store`, which keeps the same contract on a real disk.

use crate::layout::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use chand_protocol::store::{Change, Entry, Store, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing is written; an error is reported.
    FailBefore,
    /// The same, and what was kept before cannot be read until a commit succeeds.
    FailUnreadable,
    /// All is written and synced, yet an error is reported.
    FailAfter,
    /// All is written, the sync fails and says so: a crash before the next good commit loses it.
    FailSync,
    /// All is written, and success is reported without a sync: a disk that lies. A crash loses it.
    LoseUnsynced,
    /// It works, after this long.
    Slow(Duration),
}

/// What a store was asked to do so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Commits that said yes.
    pub commits: u64,
    /// Commits that said no.
    pub failures: u64,
    /// Changes in commits that said yes.
    pub changes: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

#[derive(Default)]
struct Disk {
    written: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    unsynced: Vec<Change>,
    plan: VecDeque<Option<Fault>>,
    always: Option<Fault>,
    unreadable: bool,
    counts: Counts,
}

/// A disk in memory; clones are handles to the same disk.
#[derive(Clone, Default)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
}

impl core::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let disk = self.disk();
        f.debug_struct("MemoryStore")
            .field("entries", &disk.written.len())
            .field("counts", &disk.counts)
            .finish()
    }
}

impl MemoryStore {
    /// An empty disk.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// A disk that holds `entries` for good.
    pub fn with_entries(entries: impl IntoIterator<Item = Entry>) -> MemoryStore {
        let store = MemoryStore::new();
        {
            let mut disk = store.disk();
            disk.durable = entries.into_iter().collect();
            disk.written = disk.durable.clone();
        }
        store
    }

    /// What goes wrong with the next commits, one item each; after them, what `always` says.
    pub fn plan(&self, next: impl IntoIterator<Item = Option<Fault>>) {
        self.disk().plan = next.into_iter().collect();
    }

    /// What goes wrong with every commit that the plan does not name, until told otherwise.
    pub fn always(&self, fault: Option<Fault>) {
        self.disk().always = fault;
    }

    /// The power goes: what was not synced is gone. The plan stays.
    pub fn crash(&self) {
        let mut disk = self.disk();
        disk.written = disk.durable.clone();
        disk.unsynced.clear();
    }

    /// Every entry that would survive a crash, in key order.
    pub fn durable(&self) -> Vec<Entry> {
        self.disk().durable.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// A second disk that holds what this one would hold after a crash.
    pub fn fork(&self) -> MemoryStore {
        MemoryStore::with_entries(self.durable())
    }

    /// What it was asked so far.
    pub fn counts(&self) -> Counts {
        self.disk().counts
    }

    // A test that panicked while it held the lock left whole entries behind: go on.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn write(&mut self, lists: &[&[Change]]) {
        for change in lists.iter().copied().flatten() {
            apply(&mut self.written, change);
            self.unsynced.push(change.clone());
        }
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            apply(&mut self.durable, &change);
        }
    }

    fn commit(&mut self, lists: &[&[Change]], fault: Option<Fault>) -> Result<(), StoreError> {
        let failed = |what: &str| Err(StoreError::Write(format!("planned fault: {what}")));
        self.unreadable = fault == Some(Fault::FailUnreadable);
        if self.unreadable || fault == Some(Fault::FailBefore) {
            return failed("nothing was written");
        }
        self.write(lists);
        match fault {
            Some(Fault::FailSync) => return failed("the sync failed"),
            Some(Fault::LoseUnsynced) => return Ok(()),
            _ => self.sync(),
        }
        match fault {
            Some(Fault::FailAfter) => failed("reported only"),
            _ => Ok(()),
        }
    }
}

fn apply(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: &Change) {
    match change {
        Change::Put { key, value } => {
            map.insert(key.clone(), value.clone());
        }
        Change::Delete { key } => {
            map.remove(key);
        }
    }
}

/// The key of a change and the length of its value; checked, as every engine must.
pub(crate) fn checked_size(change: &Change) -> Result<usize, StoreError> {
    let (key, value_len) = match change {
        Change::Put { key, value } => (key, value.len()),
        Change::Delete { key } => (key, 0),
    };
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(StoreError::Write(format!(
            "a key of {} bytes (1 to {MAX_KEY_BYTES} are possible)",
            key.len()
        )));
    }
    if value_len > MAX_VALUE_BYTES {
        return Err(StoreError::Write(format!(
            "a value of {value_len} bytes (at most {MAX_VALUE_BYTES} are possible)"
        )));
    }
    Ok(key.len() + value_len)
}

impl Store for MemoryStore {
    fn commit(&mut self, lists: &[&[Change]]) -> Result<(), StoreError> {
        let mut bytes = 0u64;
        let mut changes = 0u64;
        for change in lists.iter().copied().flatten() {
            bytes = bytes.saturating_add(checked_size(change)? as u64);
            changes += 1;
        }
        let fault = {
            let mut disk = self.disk();
            let always = disk.always;
            disk.plan.pop_front().unwrap_or(always)
        };
        if let Some(Fault::Slow(time)) = fault {
            std::thread::sleep(time);
        }
        let mut disk = self.disk();
        let result = disk.commit(lists, fault);
        match result {
            Ok(()) => {
                disk.counts.commits += 1;
                disk.counts.changes = disk.counts.changes.saturating_add(changes);
                disk.counts.bytes = disk.counts.bytes.saturating_add(bytes);
            }
            Err(_) => disk.counts.failures += 1,
        }
        result
    }

    fn load(&self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.disk().written.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn load_kept(&self) -> Result<Vec<Entry>, StoreError> {
        if self.disk().unreadable {
            return Err(StoreError::Read("planned fault: it cannot be read".into()));
        }
        Ok(self.durable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change::Put { key: key.into(), value: value.into() }
    }

    fn keys(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|(k, _)| String::from_utf8_lossy(k).into_owned()).collect()
    }

    #[test]
    fn each_fault_keeps_and_reports_what_it_says() {
        // (fault, reported well, seen before the crash, there after it)
        let table = [
            (None, true, true, true),
            (Some(Fault::FailBefore), false, false, false),
            (Some(Fault::FailUnreadable), false, false, false),
            (Some(Fault::FailAfter), false, true, true),
            (Some(Fault::FailSync), false, true, false),
            (Some(Fault::LoseUnsynced), true, true, false),
            (Some(Fault::Slow(Duration::from_millis(1))), true, true, true),
        ];
        for (fault, reported, seen, kept) in table {
            let mut store = MemoryStore::new();
            store.plan([fault]);
            assert_eq!(store.commit(&[&[put("k", "v")]]).is_ok(), reported, "{fault:?}");
            assert_eq!(store.load().unwrap().len() == 1, seen, "{fault:?}");
            store.crash();
            assert_eq!(store.load().unwrap().len() == 1, kept, "{fault:?}");
        }
    }

    #[test]
    fn a_good_commit_also_syncs_what_was_written_before() {
        let mut store = MemoryStore::new();
        store.plan([Some(Fault::FailSync)]);
        assert!(store.commit(&[&[put("a", "1")]]).is_err());
        store.commit(&[&[put("b", "2")]]).unwrap();
        store.crash();
        assert_eq!(keys(&store.load().unwrap()), ["a", "b"]);
    }

    #[test]
    fn a_fork_is_another_disk_and_a_clone_is_the_same() {
        let mut store = MemoryStore::new();
        store.commit(&[&[put("a", "1")]]).unwrap();
        let (fork, same) = (store.fork(), store.clone());
        store.commit(&[&[put("b", "2")]]).unwrap();
        assert_eq!(keys(&fork.load().unwrap()), ["a"]);
        assert_eq!(keys(&same.load().unwrap()), ["a", "b"]);
    }

    #[test]
    fn it_counts() {
        let mut store = MemoryStore::new();
        store.always(Some(Fault::FailBefore));
        assert!(store.commit(&[&[put("a", "1")]]).is_err());
        store.always(None);
        store.commit(&[&[put("a", "12"), Change::Delete { key: b"b".to_vec() }]]).unwrap();
        assert_eq!(store.counts(), Counts { commits: 1, failures: 1, changes: 2, bytes: 4 });
    }
}
