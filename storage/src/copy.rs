//! A database read without a write to it: a copy is opened, not the original.
//!
//! sled writes when it opens, and cuts off what a crash left torn. Somebody who asks whether a database is whole wants it left as it
//! is. So its lock is taken, shared and for reading; its files are copied; the copy is opened and read like any database.
//! In: the folder, whose it is, a folder for the copy. Out: every entry, or why it cannot be had. Read next: `open`.

use crate::open::{acknowledged_path, OpenError, Owner};
use crate::sled_store::{SledStore, LOCK, ROOM};
use chand_protocol::store::{Entry, Store, StoreError};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// What a database holds.
#[derive(Debug)]
pub struct Copied {
    /// Every entry, in key order.
    pub entries: Vec<Entry>,
    /// How many commits made it.
    pub commits: u64,
    /// What its files take.
    pub bytes: u64,
}

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is none.
    #[error("there is no database in {0}")]
    NotThere(String),
    /// It could not be opened, or is not what it was.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its entries cannot be read back.
    #[error("the database cannot be read back: {0}")]
    Read(#[from] StoreError),
    /// A file could not be read, or there is no room for the copy.
    #[error("no copy of the database could be made to look at: {0}")]
    Io(#[from] io::Error),
}

impl SledStore {
    /// Reads the database in `dir` from a copy made in the folder `scratch`, which is the caller's to remove. Nothing in `dir`
    /// or beside it is written, and no chand can open it meanwhile.
    ///
    /// # Errors
    /// [`CopyError`]; a process that has it open is [`OpenError::InUse`].
    pub fn read_copy(dir: &Path, owner: &Owner, scratch: &Path) -> Result<Copied, CopyError> {
        if !dir.join("db").is_file() {
            return Err(CopyError::NotThere(dir.display().to_string()));
        }
        let _lock = lock_shared(dir)?;
        let copy = scratch.join("store");
        let bytes = copy_folder(dir, &copy)?;
        match fs::copy(acknowledged_path(dir), acknowledged_path(&copy)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let store = SledStore::open(&copy, owner)?;
        let commits = store.commits();
        Ok(Copied { entries: store.load()?, commits, bytes })
    }
}

/// The lock of whoever has the database open, as one of those who only look.
fn lock_shared(dir: &Path) -> Result<Option<File>, CopyError> {
    let file = match File::open(dir.join(LOCK)) {
        Ok(file) => file,
        // Nobody ever held it: a copy, perhaps.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.take(20).read_to_string(&mut text);
            let process = read.ok().and_then(|_| text.trim().parse().ok());
            Err(OpenError::InUse { dir: dir.display().to_string(), process }.into())
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Copies all but what only a process that has it open needs; how many bytes that were.
fn copy_folder(from: &Path, to: &Path) -> io::Result<u64> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    let mut bytes = 0u64;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        if kind.is_dir() {
            bytes = bytes.saturating_add(copy_folder(&entry.path(), &to.join(&name))?);
        } else if kind.is_file() && name != LOCK && name != ROOM {
            bytes = bytes.saturating_add(fs::copy(entry.path(), to.join(&name))?);
        }
    }
    Ok(bytes)
}
