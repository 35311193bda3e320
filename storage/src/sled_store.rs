//! A store on disk: sled 0.34, and a sync that reaches the drive.
//!
//! In: lists of changes. Out: `Ok` when all of them are on disk for good.
//! One commit is one batch of one tree: sled recovers it whole or not at all. `flush` hands sled's log to the
//! kernel; on Linux it ends in `sync_file_range`, which leaves the drive's cache and the file's length alone, so
//! that a `sync_data` of ours on the log file follows. Nothing else ever flushes: no thread, no timer.
//! Each commit is numbered. The last number acknowledged is also written, without waiting for the disk, into a file
//! beside the folder: at the next opening a database that holds less has lost something or is an old copy, and with
//! old channel states a node must not act.
//! Read next: `layout` (keys and parts), `files` (lock, permissions); docs/STORAGE.md tells sled's traps.

use crate::files::{self, Locked};
use crate::layout::{self, Stamp, Value};
use crate::memory::checked_size;
use crate::open::{acknowledged_path, open_engine, OpenError, Owner};
use chand_protocol::store::{Change, Entry, Store, StoreError};
use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

enum Engine {
    /// The database and a second handle on its log, for the sync.
    Open(sled::Db, File),
    /// A write was refused: the next commit opens it again and starts from what is on disk.
    Closed,
    /// No later success could be trusted; only a restart helps.
    Broken(String),
}

/// A database on disk, held by this process alone.
pub struct SledStore {
    dir: PathBuf,
    owner: Owner,
    engine: Engine,
    /// What the last commit left behind.
    last: Stamp,
    /// It may hold less than was acknowledged, until the next commit.
    may_be_older: bool,
    acknowledged: File,
    _lock: File,
}

impl core::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SledStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the database in `dir`, or makes it: folder 0700, files 0600.
    ///
    /// # Errors
    /// [`OpenError`], in words for the person who started the program.
    pub fn open(dir: &Path, owner: &Owner) -> Result<SledStore, OpenError> {
        SledStore::open_as(dir, owner, false)
    }

    /// The same, also when it holds less than was acknowledged before: an old copy, whose channels are to be put in doubt.
    /// That it is old is forgotten with the next commit, so the doubt has to be in that one.
    ///
    /// # Errors
    /// [`OpenError`], but never [`OpenError::Older`].
    pub fn open_old_copy(dir: &Path, owner: &Owner) -> Result<SledStore, OpenError> {
        SledStore::open_as(dir, owner, true)
    }

    fn open_as(dir: &Path, owner: &Owner, may_be_older: bool) -> Result<SledStore, OpenError> {
        let io_error = |e: io::Error| OpenError::Io { dir: dir.display().to_string(), reason: e.to_string() };
        files::private_dir(dir).map_err(io_error)?;
        let lock = match files::lock(&dir.join(LOCK)).map_err(io_error)? {
            Locked::Ours(file) => file,
            Locked::Theirs(process) => {
                return Err(OpenError::InUse { dir: dir.display().to_string(), process });
            }
        };
        let path = acknowledged_path(dir);
        let known = if may_be_older { None } else { files::read_number(&path).map_err(io_error)? };
        let (db, log, last) = open_engine(dir, owner, known)?;
        let acknowledged = files::open_private(&path).map_err(io_error)?;
        let mut store = SledStore {
            dir: dir.to_path_buf(),
            owner: owner.clone(),
            engine: Engine::Open(db, log),
            last,
            may_be_older,
            acknowledged,
            _lock: lock,
        };
        if !may_be_older {
            store.acknowledge();
        }
        Ok(store)
    }

    /// Notes that all up to `last` was promised. Not synced: after a power cut it may say less, never more.
    fn acknowledge(&mut self) {
        if let Err(e) = files::write_number(&self.acknowledged, self.last.commit) {
            tracing::warn!(error = %e, "the number of the last commit could not be noted beside the database");
        }
    }

    /// The bytes of all files on disk, the log's dead entries included.
    ///
    /// # Errors
    /// [`StoreError::Read`] when the folder cannot be read.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        let bytes = |entry: io::Result<std::fs::DirEntry>| entry.and_then(|e| e.metadata()).map(|m| m.len());
        let read = |e: io::Error| StoreError::Read(e.to_string());
        std::fs::read_dir(&self.dir).map_err(read)?.map(bytes).sum::<io::Result<u64>>().map_err(read)
    }

    fn engine(&mut self) -> Result<(&sled::Db, &File), StoreError> {
        if matches!(self.engine, Engine::Closed) {
            let known = files::read_number(&acknowledged_path(&self.dir)).ok().flatten();
            let known = known.filter(|_| !self.may_be_older);
            let (db, log, last) =
                open_engine(&self.dir, &self.owner, known).map_err(|e| StoreError::Write(e.to_string()))?;
            load_all(&db, last)?;
            self.last = last;
            tracing::info!(dir = %self.dir.display(), "database opened again after a write that failed");
            self.engine = Engine::Open(db, log);
        }
        match &self.engine {
            Engine::Open(db, log) => Ok((db, log)),
            Engine::Broken(why) => Err(StoreError::Write(why.clone())),
            Engine::Closed => Err(StoreError::Write("the database is closed".into())),
        }
    }

    /// Lets sled close its files; it may panic where its last write fails.
    fn close(&mut self) {
        let engine = std::mem::replace(&mut self.engine, Engine::Closed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(engine))) {
            tracing::error!(why = words(&*panic), "the database did not close well; what was kept is kept");
        }
    }

    fn fail(&mut self, failure: Failure) -> StoreError {
        match failure {
            Failure::Refused(why) => {
                self.close();
                StoreError::Write(why)
            }
            Failure::Unsure(why) => {
                let why = format!("{why}; nothing is written until chand is started again");
                if let Engine::Open(db, _) = std::mem::replace(&mut self.engine, Engine::Broken(why.clone()))
                {
                    // Closing would write once more, and could wait for a thread that is gone.
                    std::mem::forget(db);
                }
                StoreError::Write(why)
            }
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a commit failed, and what may be trusted afterwards.
pub(crate) enum Failure {
    /// A write was refused (no space): what is on disk is as before, another try may work.
    Refused(String),
    /// A sync failed, or the engine fell over: the kernel may have dropped pages and call them clean, so that a
    /// later sync would report success for data that is not there.
    Unsure(String),
}

impl From<sled::Error> for Failure {
    fn from(e: sled::Error) -> Failure {
        match &e {
            sled::Error::Io(io) if refused(io) => Failure::Refused(io.to_string()),
            _ => Failure::Unsure(e.to_string()),
        }
    }
}

fn refused(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl Store for SledStore {
    fn commit(&mut self, lists: &[&[Change]]) -> Result<(), StoreError> {
        let last = last_of_each(lists)?;
        if last.is_empty() {
            return Ok(());
        }
        self.engine()?;
        let stamp = self.last;
        let (db, log) = self.engine()?;
        let done = catch_unwind(AssertUnwindSafe(|| write(db, log, &last, stamp)))
            .unwrap_or_else(|panic| Err(Failure::Unsure(format!("the engine stopped: {}", words(&*panic)))));
        match done {
            Ok(stamp) => {
                self.last = stamp;
                self.may_be_older = false;
                self.acknowledge();
                Ok(())
            }
            Err(failure) => Err(self.fail(failure)),
        }
    }

    fn load(&self) -> Result<Vec<Entry>, StoreError> {
        let Engine::Open(db, _) = &self.engine else {
            return Err(StoreError::Read("the database was closed after a write that failed".into()));
        };
        load_all(db, self.last)
    }
}

/// What each key is to hold in the end: a later list overrides an earlier one.
fn last_of_each<'a>(lists: &[&'a [Change]]) -> Result<BTreeMap<&'a [u8], Option<&'a [u8]>>, StoreError> {
    let mut last = BTreeMap::new();
    for change in lists.iter().copied().flatten() {
        checked_size(change)?;
        match change {
            Change::Put { key, value } => last.insert(key.as_slice(), Some(value.as_slice())),
            Change::Delete { key } => last.insert(key.as_slice(), None),
        };
    }
    Ok(last)
}

fn write(
    db: &sled::Db,
    log: &File,
    last: &BTreeMap<&[u8], Option<&[u8]>>,
    mut stamp: Stamp,
) -> Result<Stamp, Failure> {
    stamp.commit = stamp.commit.saturating_add(1);
    let mut batch = sled::Batch::default();
    for (key, value) in last {
        let head_key = layout::head_key(key);
        let mut old_parts = 0;
        if let Some(bytes) = db.get(&head_key)? {
            let old = layout::read_head(&bytes).map_err(|e| Failure::Unsure(e.to_string()))?;
            stamp.toggle(key, old.commit);
            old_parts = old.parts();
        }
        let mut new_parts = 0;
        match value {
            Some(value) => {
                let (head, parts) = layout::split(value, stamp.commit);
                stamp.toggle(key, stamp.commit);
                batch.insert(head_key, head);
                for part in parts {
                    batch.insert(layout::part_key(key, new_parts), part);
                    new_parts += 1;
                }
            }
            None => batch.remove(head_key),
        }
        for part in new_parts..old_parts {
            batch.remove(layout::part_key(key, part));
        }
    }
    batch.insert(layout::meta_key("commit"), stamp.to_text().as_bytes());
    apply(db, log, batch)?;
    Ok(stamp)
}

pub(crate) fn apply(db: &sled::Db, log: &File, batch: sled::Batch) -> Result<(), Failure> {
    db.apply_batch(batch)?;
    db.flush()?;
    log.sync_data().map_err(|e| Failure::Unsure(format!("the disk could not sync: {e}")))
}

fn load_all(db: &sled::Db, last: Stamp) -> Result<Vec<Entry>, StoreError> {
    catch_unwind(AssertUnwindSafe(|| read_all(db, last)))
        .unwrap_or_else(|panic| Err(StoreError::Read(format!("the engine stopped: {}", words(&*panic)))))
}

/// Every record, if they are exactly those that the last commit left.
fn read_all(db: &sled::Db, last: Stamp) -> Result<Vec<Entry>, StoreError> {
    let unread = |e: sled::Error| StoreError::Read(e.to_string());
    let bad = |why: &str| StoreError::Read(why.into());
    let mut found = Stamp { commit: last.commit, digest: 0 };
    let mut out = Vec::new();
    for entry in db.scan_prefix(layout::head_prefix()) {
        let (head_key, bytes) = entry.map_err(unread)?;
        let key =
            layout::key_of_head(&head_key).ok_or_else(|| bad("an entry lies where it does not belong"))?;
        let head = layout::read_head(&bytes)?;
        found.toggle(key, head.commit);
        let value = match head.value {
            Value::Whole(value) => value.to_vec(),
            Value::Split { parts, len } => {
                let mut value = Vec::with_capacity(len);
                for part in 0..parts {
                    let bytes = db.get(layout::part_key(key, part)).map_err(unread)?;
                    let bytes = bytes.ok_or_else(|| bad("a part of an entry is missing"))?;
                    value.extend_from_slice(layout::read_part(&bytes, head.commit)?);
                }
                if value.len() != len {
                    return Err(bad("the parts of an entry do not add up"));
                }
                value
            }
        };
        out.push((key.to_vec(), value));
    }
    if found != last {
        return Err(bad("entries are missing or old: the disk or the file system lost something"));
    }
    Ok(out)
}

pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "for no known reason".into())
}
