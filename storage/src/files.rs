//! The files of a database: who may read them, who holds them, and that they are really on disk.
//!
//! In: paths. Out: locks, permissions, fsyncs.
//! Read next: `sled_store`.

use rustix::fs::fstatvfs;
use rustix::process::{getrlimit, Resource};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const LOCK_WAIT: Duration = Duration::from_millis(500);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Makes the folder (and those above it), for its owner only.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return fs::set_permissions(dir, Permissions::from_mode(0o700));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Takes all rights from group and others, in this folder and below.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
            make_private(&entry.path())?;
        } else if kind.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// Waits until the names in a folder are on disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a whole file durably: under another name first, so that it is never seen half.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Opens a file for writing in place, made for its owner only when it is not there.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The number in a file; `None` when there is no file, or no number in it (a power cut may leave it empty).
pub(crate) fn read_number(path: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a number in place, always as many digits: one small write that needs no new block.
pub(crate) fn write_number(file: &File, number: u64) -> io::Result<()> {
    file.write_all_at(format!("{number:020}\n").as_bytes(), 0)
}

/// With less than this left, and with a limit on files' sizes, it is not believed that a write will be taken.
const AMPLE_BYTES: u64 = 64 * 1024 * 1024;

/// Whether the disk of this file says that it has room for whatever one commit writes. (A quota of the user's it does not tell.)
pub(crate) fn has_ample_room(file: &File) -> bool {
    let unlimited = getrlimit(Resource::Fsize).current.is_none();
    unlimited && fstatvfs(file).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= AMPLE_BYTES)
}

/// Whether there is room for so many bytes more: they are written into `file`, and given back at once.
///
/// # Errors
/// What the file system said.
pub(crate) fn try_room(file: &File, bytes: u64) -> io::Result<()> {
    const CHUNK: &[u8] = &[0; 1 << 16];
    let mut at = 0;
    let mut outcome = Ok(());
    while at < bytes && outcome.is_ok() {
        let chunk = usize::try_from(bytes - at).ok().and_then(|rest| CHUNK.get(..rest)).unwrap_or(CHUNK);
        outcome = file.write_all_at(chunk, at);
        at += chunk.len() as u64;
    }
    outcome.and(file.set_len(0))
}

/// What asking for the lock came to.
pub(crate) enum Locked {
    /// Ours, as long as the file stays open.
    Ours(File),
    /// Another process's; its number, when it left one.
    Theirs(Option<u32>),
}

/// Takes the lock that keeps a second process out. Asks again for a moment: a process that this one is just starting
/// holds a copy of every open file until its own program runs, and one that was just killed until it is gone.
pub(crate) fn lock(path: &Path) -> io::Result<Locked> {
    let since = Instant::now();
    loop {
        match try_lock(path)? {
            Locked::Theirs(_) if since.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_POLL),
            result => return Ok(result),
        }
    }
}

fn try_lock(path: &Path) -> io::Result<Locked> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Locked::Ours(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.take(20).read_to_string(&mut text);
            Ok(Locked::Theirs(read.ok().and_then(|_| text.trim().parse().ok())))
        }
        Err(TryLockError::Error(e)) => Err(e),
    }
}
