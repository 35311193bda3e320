//! A store on disk: sled 0.34, and a sync that reaches the drive.
//!
//! In: lists of changes. Out: `Ok` when all of them are on disk for good.
//! One commit is one batch of one tree: sled recovers it whole or not at all. `flush` hands sled's log to the
//! kernel; on Linux it ends in `sync_file_range`, which leaves the drive's cache and the file's length alone, so
//! that a `sync_data` of ours on the log file follows. Nothing else ever flushes: no thread, no timer.
//! Read next: `layout` (keys and parts), `files` (lock, permissions); docs/STORAGE.md tells sled's traps.

use crate::files::{self, Locked};
use crate::layout::{self, Head};
use crate::memory::checked_size;
use chand_protocol::store::{Change, Entry, Store, StoreError};
use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The format that this version writes. A database of a higher one is not touched.
pub const FORMAT: u32 = 1;

const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// How long to wait for sled's own threads to let go of a file that was just closed.
const REOPEN_WAIT: Duration = Duration::from_secs(5);
/// Says in words that a database was set up here; when it stands beside an empty one, something was lost.
const MARKER: &str = "FORMAT";
const LOCK: &str = "lock";

/// Whose database it is; written when it is made, checked whenever it is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The network's name, e.g. `regtest`.
    pub network: String,
    /// The node's id in hex.
    pub node: String,
}

/// Why a database was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the database in {dir} is in use by another process{}: is a chand running there already?",
        .process.map(|p| format!(" ({p})")).unwrap_or_default())]
    InUse {
        /// Where.
        dir: String,
        /// The other process, when it left its number.
        process: Option<u32>,
    },
    /// A later version of this program wrote it.
    #[error("the database has format {found}, this version knows formats up to {known}: run the version that wrote it, or a newer one")]
    Newer {
        /// Its format.
        found: u32,
        /// The highest known.
        known: u32,
    },
    /// It belongs to another network.
    #[error("the database belongs to network {found}, not {wanted}: give each network a folder of its own")]
    WrongNetwork {
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// It belongs to another node: its seed is not the one given.
    #[error("the database belongs to node {found}, but the seed is that of node {wanted}: put the right seed back")]
    WrongNode {
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// It cannot be read back.
    #[error("the database in {dir} is damaged ({reason}): nothing was changed; do not delete it, keep a copy and restore it from a disk that is well")]
    Corrupt {
        /// Where.
        dir: String,
        /// What was wrong.
        reason: String,
    },
    /// The file system refused.
    #[error("the database in {dir} could not be opened: {reason}")]
    Io {
        /// Where.
        dir: String,
        /// Its words.
        reason: String,
    },
}

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
        let io_error = |e: io::Error| OpenError::Io { dir: dir.display().to_string(), reason: e.to_string() };
        files::private_dir(dir).map_err(io_error)?;
        let lock = match files::lock(&dir.join(LOCK)).map_err(io_error)? {
            Locked::Ours(file) => file,
            Locked::Theirs(process) => {
                return Err(OpenError::InUse { dir: dir.display().to_string(), process });
            }
        };
        let (db, log) = open_engine(dir, owner)?;
        Ok(SledStore {
            dir: dir.to_path_buf(),
            owner: owner.clone(),
            engine: Engine::Open(db, log),
            _lock: lock,
        })
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
            let (db, log) =
                open_engine(&self.dir, &self.owner).map_err(|e| StoreError::Write(e.to_string()))?;
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
enum Failure {
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
        let (db, log) = self.engine()?;
        let done = catch_unwind(AssertUnwindSafe(|| write(db, log, &last)))
            .unwrap_or_else(|panic| Err(Failure::Unsure(format!("the engine stopped: {}", words(&*panic)))));
        done.map_err(|failure| self.fail(failure))
    }

    fn load(&self) -> Result<Vec<Entry>, StoreError> {
        let Engine::Open(db, _) = &self.engine else {
            return Err(StoreError::Read("the database was closed after a write that failed".into()));
        };
        catch_unwind(AssertUnwindSafe(|| read_all(db)))
            .unwrap_or_else(|panic| Err(StoreError::Read(format!("the engine stopped: {}", words(&*panic)))))
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

fn write(db: &sled::Db, log: &File, last: &BTreeMap<&[u8], Option<&[u8]>>) -> Result<(), Failure> {
    let mut batch = sled::Batch::default();
    for (key, value) in last {
        let head_key = layout::head_key(key);
        let old_parts = match db.get(&head_key)? {
            Some(head) => layout::parts_of(&head).map_err(|e| Failure::Unsure(e.to_string()))?,
            None => 0,
        };
        let mut new_parts = 0;
        match value {
            Some(value) => {
                let (head, parts) = layout::split(value);
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
    apply(db, log, batch)
}

fn apply(db: &sled::Db, log: &File, batch: sled::Batch) -> Result<(), Failure> {
    db.apply_batch(batch)?;
    db.flush()?;
    log.sync_data().map_err(|e| Failure::Unsure(format!("the disk could not sync: {e}")))
}

fn read_all(db: &sled::Db) -> Result<Vec<Entry>, StoreError> {
    let unread = |e: sled::Error| StoreError::Read(e.to_string());
    let mut out = Vec::new();
    for entry in db.scan_prefix(layout::head_prefix()) {
        let (head_key, head) = entry.map_err(unread)?;
        let key = layout::key_of_head(&head_key)
            .ok_or_else(|| StoreError::Read("an entry lies where it does not belong".into()))?;
        let value = match layout::read_head(&head)? {
            Head::Whole(value) => value.to_vec(),
            Head::Split { parts, len } => {
                let mut value = Vec::with_capacity(len);
                for part in 0..parts {
                    let bytes = db.get(layout::part_key(key, part)).map_err(unread)?;
                    let bytes =
                        bytes.ok_or_else(|| StoreError::Read("a part of an entry is missing".into()))?;
                    value.extend_from_slice(&bytes);
                }
                if value.len() != len {
                    return Err(StoreError::Read("the parts of an entry do not add up".into()));
                }
                value
            }
        };
        out.push((key.to_vec(), value));
    }
    Ok(out)
}

/// Opens sled's files, checks whose they are, or makes them. sled stops with a panic at some kinds of damage.
fn open_engine(dir: &Path, owner: &Owner) -> Result<(sled::Db, File), OpenError> {
    catch_unwind(AssertUnwindSafe(|| open_files(dir, owner)))
        .unwrap_or_else(|panic| Err(corrupt(dir, words(&*panic))))
}

fn open_files(dir: &Path, owner: &Owner) -> Result<(sled::Db, File), OpenError> {
    let io_error = |e: io::Error| OpenError::Io { dir: dir.display().to_string(), reason: e.to_string() };
    let db = open_sled(dir).map_err(|e| match e {
        sled::Error::Io(io) if io.kind() != ErrorKind::InvalidData => io_error(io),
        other => corrupt(dir, other.to_string()),
    })?;
    files::make_private(dir).map_err(io_error)?;
    let log = File::options().read(true).write(true).open(dir.join("db")).map_err(io_error)?;
    match check_owner(&db, dir, owner)? {
        Found::Ours if dir.join(MARKER).exists() => {}
        Found::Ours => mark(dir, owner).map_err(io_error)?,
        Found::Nothing => create(&db, &log, dir, owner).map_err(|e| {
            let (Failure::Refused(reason) | Failure::Unsure(reason)) = e;
            OpenError::Io { dir: dir.display().to_string(), reason }
        })?,
    }
    // sled writes a snapshot of its page table whenever it opens: its name must last, too.
    files::sync_dir(dir).map_err(io_error)?;
    Ok((db, log))
}

fn corrupt(dir: &Path, reason: String) -> OpenError {
    OpenError::Corrupt { dir: dir.display().to_string(), reason }
}

fn open_sled(dir: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(None);
    let since = Instant::now();
    loop {
        match config.open() {
            // We hold the lock of our own: what still holds sled's is a thread of a handle we just dropped.
            Err(sled::Error::Io(e)) if is_sleds_lock(&e) && since.elapsed() < REOPEN_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn is_sleds_lock(e: &io::Error) -> bool {
    e.kind() == ErrorKind::Other && e.to_string().contains("could not acquire lock")
}

enum Found {
    Nothing,
    Ours,
}

fn check_owner(db: &sled::Db, dir: &Path, owner: &Owner) -> Result<Found, OpenError> {
    let corrupt = |reason: &str| corrupt(dir, reason.into());
    let read = |name: &str| -> Result<Option<String>, OpenError> {
        let found = db.get(layout::meta_key(name)).map_err(|e| corrupt(&e.to_string()))?;
        found.map(|v| String::from_utf8(v.to_vec()).map_err(|_| corrupt("its owner is not text"))).transpose()
    };
    let Some(format) = read("format")? else {
        if dir.join(MARKER).exists() || !db.is_empty() {
            return Err(corrupt("it was set up before, and what it held is gone"));
        }
        return Ok(Found::Nothing);
    };
    let found: u32 = format.parse().map_err(|_| corrupt("its format is not a number"))?;
    if found > FORMAT {
        return Err(OpenError::Newer { found, known: FORMAT });
    }
    let network = read("network")?.ok_or_else(|| corrupt("it does not say which network it is for"))?;
    if network != owner.network {
        return Err(OpenError::WrongNetwork { found: network, wanted: owner.network.clone() });
    }
    let node = read("node")?.ok_or_else(|| corrupt("it does not say whose it is"))?;
    if node != owner.node {
        return Err(OpenError::WrongNode { found: node, wanted: owner.node.clone() });
    }
    Ok(Found::Ours)
}

fn create(db: &sled::Db, log: &File, dir: &Path, owner: &Owner) -> Result<(), Failure> {
    let unsure = |e: io::Error| Failure::Unsure(e.to_string());
    File::open(dir.join("conf")).and_then(|f| f.sync_all()).map_err(unsure)?;
    let mut batch = sled::Batch::default();
    batch.insert(layout::meta_key("format"), FORMAT.to_string().as_bytes());
    batch.insert(layout::meta_key("network"), owner.network.as_bytes());
    batch.insert(layout::meta_key("node"), owner.node.as_bytes());
    apply(db, log, batch)?;
    files::sync_dir(dir).map_err(unsure)?;
    mark(dir, owner).map_err(unsure)
}

fn mark(dir: &Path, owner: &Owner) -> io::Result<()> {
    let text = format!(
        "A chand database: format {FORMAT}, network {}, node {}.\nDo not put an old copy back: old channel states \
         lose money.\n",
        owner.network, owner.node
    );
    files::write_durably(&dir.join(MARKER), text.as_bytes())
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "for no known reason".into())
}
