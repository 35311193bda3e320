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

pub(crate) const LOCK: &str = "lock";
/// Empty but while a commit asks whether there is room.
pub(crate) const ROOM: &str = "room";
/// What sled writes of a commit, by measure (docs/STORAGE.md) and rounded up: so much, …
const COMMIT_BYTES: u64 = 16 * 1024;
/// … so much for each key, and each value twice.
const KEY_BYTES: u64 = 1_024;

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
    /// While commits fail: what was there before the first of them, when it could be read.
    kept: Option<Vec<Entry>>,
    acknowledged: File,
    room: File,
    /// The last commit failed.
    failing: bool,
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
        let room = files::open_private(&dir.join(ROOM)).map_err(io_error)?;
        let mut store = SledStore {
            dir: dir.to_path_buf(),
            owner: owner.clone(),
            engine: Engine::Open(db, log),
            last,
            may_be_older,
            kept: None,
            acknowledged,
            room,
            failing: false,
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

    /// How many commits it holds.
    pub(crate) const fn commits(&self) -> u64 {
        self.last.commit
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
            load_all(&db, last, &Before::new())?;
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

    /// A full disk is noticed before sled is given anything: after a write of its that was refused, sled has to be closed,
    /// and its memory cannot always be read any more. The disk may fill up in between, so `remember` tries that, too.
    /// A disk that says to have plenty is believed until a commit fails: to write as much again for each would not be free.
    fn ask_for_room(&self, last: &BTreeMap<&[u8], Option<&[u8]>>) -> Result<(), StoreError> {
        if !self.failing && files::has_ample_room(&self.room) {
            return Ok(());
        }
        let values = last.values().map(|value| KEY_BYTES + 2 * value.map_or(0, |value| value.len() as u64));
        match files::try_room(&self.room, COMMIT_BYTES + values.sum::<u64>()) {
            Err(e) if refused(&e) => Err(StoreError::Write(e.to_string())),
            // What else may be wrong shows where it matters.
            _ => Ok(()),
        }
    }

    /// Lets sled close its files; it may panic where its last write fails.
    fn close(&mut self) {
        let engine = std::mem::replace(&mut self.engine, Engine::Closed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(engine))) {
            tracing::error!(why = words(&*panic), "the database did not close well; what was kept is kept");
        }
    }

    /// Reads once more what was there before a commit that failed. sled's memory holds what was refused, and with a disk
    /// that has no room it cannot be opened again; but pages that were written before can still be read.
    fn remember(&mut self, before: &Before) {
        let Engine::Open(db, _) = &self.engine else { return };
        if self.kept.is_some() {
            return;
        }
        match load_all(db, self.last, before) {
            Ok(entries) => self.kept = Some(entries),
            Err(error) => {
                tracing::warn!(%error, "questions have to wait, too, until the database can be written")
            }
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
        let room = self.ask_for_room(&last);
        // Until one is kept.
        self.failing = true;
        room?;
        self.engine()?;
        let stamp = self.last;
        let (db, log) = self.engine()?;
        let mut before = Before::new();
        match catch_unwind(AssertUnwindSafe(|| write(db, log, &last, stamp, &mut before))) {
            Ok(Ok(stamp)) => {
                self.last = stamp;
                self.may_be_older = false;
                self.kept = None;
                self.failing = false;
                self.acknowledge();
                Ok(())
            }
            Ok(Err(failure)) => {
                self.remember(&before);
                Err(self.fail(failure))
            }
            // Whatever lock a thread of it held is held for ever: nothing more is asked of it.
            Err(panic) => Err(self.fail(Failure::Unsure(format!("the engine stopped: {}", words(&*panic))))),
        }
    }

    fn load(&self) -> Result<Vec<Entry>, StoreError> {
        let Engine::Open(db, _) = &self.engine else {
            return Err(StoreError::Read("the database was closed after a write that failed".into()));
        };
        load_all(db, self.last, &Before::new())
    }

    fn load_kept(&self) -> Result<Vec<Entry>, StoreError> {
        match (&self.kept, &self.engine) {
            (Some(entries), _) => Ok(entries.clone()),
            (None, Engine::Open(..)) => self.load(),
            (None, _) => Err(StoreError::Read("what was kept could not be read any more".into())),
        }
    }
}

/// What stood under the engine's keys before a commit touched them; `None`: nothing.
type Before = BTreeMap<Vec<u8>, Option<sled::IVec>>;

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
    before: &mut Before,
) -> Result<Stamp, Failure> {
    stamp.commit = stamp.commit.saturating_add(1);
    let mut batch = sled::Batch::default();
    for (key, value) in last {
        let head_key = layout::head_key(key);
        let mut old_parts = 0;
        let old = db.get(&head_key)?;
        if let Some(bytes) = &old {
            let old = layout::read_head(bytes).map_err(|e| Failure::Unsure(e.to_string()))?;
            stamp.toggle(key, old.commit);
            old_parts = old.parts();
        }
        before.insert(head_key.clone(), old);
        for part in 0..old_parts {
            let part = layout::part_key(key, part);
            let old = db.get(&part)?;
            before.insert(part, old);
        }
        let mut new_parts = 0;
        match value {
            Some(value) => {
                let (head, parts) = layout::split(value, stamp.commit);
                stamp.toggle(key, stamp.commit);
                batch.insert(head_key, head);
                for part in parts {
                    let part_key = layout::part_key(key, new_parts);
                    before.entry(part_key.clone()).or_insert(None);
                    batch.insert(part_key, part);
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
    db.apply_batch(batch)?;
    settle(db, before)?;
    sync(db, log)?;
    Ok(stamp)
}

/// sled splits a leaf that grew, and joins one that shrank, when somebody next looks for a key in it, and it does so by
/// writing: were the flush refused first, the leaf could not be read any more. So it is looked for now.
fn settle(db: &sled::Db, before: &Before) -> Result<(), Failure> {
    for key in before.keys().map(Vec::as_slice).chain([layout::meta_key("commit").as_slice()]) {
        db.get(key)?;
    }
    Ok(())
}

pub(crate) fn apply(db: &sled::Db, log: &File, batch: sled::Batch) -> Result<(), Failure> {
    db.apply_batch(batch)?;
    sync(db, log)
}

fn sync(db: &sled::Db, log: &File) -> Result<(), Failure> {
    db.flush()?;
    log.sync_data().map_err(|e| Failure::Unsure(format!("the disk could not sync: {e}")))
}

fn load_all(db: &sled::Db, last: Stamp, before: &Before) -> Result<Vec<Entry>, StoreError> {
    catch_unwind(AssertUnwindSafe(|| read_all(db, last, before)))
        .unwrap_or_else(|panic| Err(StoreError::Read(format!("the engine stopped: {}", words(&*panic)))))
}

/// Every record, if they are exactly those that the last commit left. What stands in `before` counts instead of what
/// the engine holds under these keys.
fn read_all(db: &sled::Db, last: Stamp, before: &Before) -> Result<Vec<Entry>, StoreError> {
    let unread = |e: sled::Error| StoreError::Read(e.to_string());
    let bad = |why: &str| StoreError::Read(why.into());
    let mut found = Stamp { commit: last.commit, digest: 0 };
    let mut out = Vec::new();
    let mut take = |head_key: &[u8], bytes: &[u8]| {
        let key =
            layout::key_of_head(head_key).ok_or_else(|| bad("an entry lies where it does not belong"))?;
        let head = layout::read_head(bytes)?;
        found.toggle(key, head.commit);
        out.push((key.to_vec(), read_value(db, key, &head, before)?));
        Ok::<(), StoreError>(())
    };
    for entry in db.scan_prefix(layout::head_prefix()) {
        let (head_key, bytes) = entry.map_err(unread)?;
        if !before.contains_key(head_key.as_ref()) {
            take(&head_key, &bytes)?;
        }
    }
    for (head_key, bytes) in before {
        if let (Some(bytes), true) = (bytes, head_key.starts_with(&layout::head_prefix())) {
            take(head_key, bytes)?;
        }
    }
    if found != last {
        return Err(bad("entries are missing or old: the disk or the file system lost something"));
    }
    if !before.is_empty() {
        out.sort();
    }
    Ok(out)
}

/// The value that belongs to a head.
fn read_value(
    db: &sled::Db,
    key: &[u8],
    head: &layout::Head<'_>,
    before: &Before,
) -> Result<Vec<u8>, StoreError> {
    let (parts, len) = match head.value {
        Value::Whole(value) => return Ok(value.to_vec()),
        Value::Split { parts, len } => (parts, len),
    };
    let mut value = Vec::with_capacity(len);
    for part in 0..parts {
        let part_key = layout::part_key(key, part);
        let bytes = match before.get(&part_key) {
            Some(known) => known.clone(),
            None => db.get(&part_key).map_err(|e| StoreError::Read(e.to_string()))?,
        };
        let bytes = bytes.ok_or_else(|| StoreError::Read("a part of an entry is missing".into()))?;
        value.extend_from_slice(layout::read_part(&bytes, head.commit)?);
    }
    if value.len() != len {
        return Err(StoreError::Read("the parts of an entry do not add up".into()));
    }
    Ok(value)
}

pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "for no known reason".into())
}
