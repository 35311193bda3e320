//! How a database is opened, and when it is not.
//!
//! In: a folder, and whose database is expected there. Out: sled, a second handle on its log for the sync, and the
//! last commit's stamp; or one sentence for the person who started the program.
//! Read next: `sled_store`.

use crate::files;
use crate::layout::{self, Stamp};
use crate::sled_store::{apply, words, Failure};
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
    /// It holds less than was acknowledged before: an old copy was put back, or the disk lost something.
    #[error("the database in {dir} is older than it was (it ends at commit {found}, commit {known} was there): an old \
        copy must not be used as if it were new, it holds old channel states and publishing one loses all the money in \
        its channel; put the newest copy back, or, when there is none, start once with --restored: then no commitment \
        is published and the peers are asked to close the channels (the number is in {file})")]
    Older {
        /// Where.
        dir: String,
        /// Its last commit.
        found: u64,
        /// The last commit acknowledged.
        known: u64,
        /// The file that says so.
        file: String,
    },
    /// It cannot be read back.
    #[error("the database in {dir} is damaged ({reason}): no entry was changed; keep the folder as it is, do not put an old copy back, and look at the disk")]
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

/// Opens sled's files, checks whose they are, or makes them. sled stops with a panic at some kinds of damage.
pub(crate) fn open_engine(
    dir: &Path,
    owner: &Owner,
    known: Option<u64>,
) -> Result<(sled::Db, File, Stamp), OpenError> {
    catch_unwind(AssertUnwindSafe(|| open_files(dir, owner, known)))
        .unwrap_or_else(|panic| Err(corrupt(dir, words(&*panic))))
}

/// sled writes a snapshot of its page table under a name of its own and renames it when it is whole. One that a full
/// disk or a kill cut short it would read all the same, and call the database damaged; without it, it reads its log.
fn drop_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn open_files(dir: &Path, owner: &Owner, known: Option<u64>) -> Result<(sled::Db, File, Stamp), OpenError> {
    let io_error = |e: io::Error| OpenError::Io { dir: dir.display().to_string(), reason: e.to_string() };
    drop_unfinished_snapshots(dir).map_err(io_error)?;
    let db = open_sled(dir).map_err(|e| match e {
        sled::Error::Io(io) if io.kind() != ErrorKind::InvalidData => io_error(io),
        other => corrupt(dir, other.to_string()),
    })?;
    files::make_private(dir).map_err(io_error)?;
    let log = File::options().read(true).write(true).open(dir.join("db")).map_err(io_error)?;
    let found = check_owner(&db, dir, owner)?;
    let last = found.unwrap_or_default();
    if let Some(known) = known.filter(|known| *known > last.commit) {
        let file = acknowledged_path(dir).display().to_string();
        return Err(OpenError::Older { dir: dir.display().to_string(), found: last.commit, known, file });
    }
    if found.is_none() {
        create(&db, &log, dir, owner).map_err(|e| {
            let (Failure::Refused(reason) | Failure::Unsure(reason)) = e;
            OpenError::Io { dir: dir.display().to_string(), reason }
        })?;
    } else if !dir.join(MARKER).exists() {
        mark(dir, owner).map_err(io_error)?;
    }
    // sled writes a snapshot of its page table whenever it opens: its name must last, too.
    files::sync_dir(dir).map_err(io_error)?;
    Ok((db, log, last))
}

/// `store.commit` beside the folder `store`: whoever puts an old folder back does not put this back with it.
pub(crate) fn acknowledged_path(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".commit");
    PathBuf::from(name)
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

/// The last commit's stamp, or `None` in a database that was just made.
fn check_owner(db: &sled::Db, dir: &Path, owner: &Owner) -> Result<Option<Stamp>, OpenError> {
    let corrupt = |reason: &str| corrupt(dir, reason.into());
    let read = |name: &str| -> Result<Option<String>, OpenError> {
        let found = db.get(layout::meta_key(name)).map_err(|e| corrupt(&e.to_string()))?;
        found.map(|v| String::from_utf8(v.to_vec()).map_err(|_| corrupt("its owner is not text"))).transpose()
    };
    let Some(format) = read("format")? else {
        if dir.join(MARKER).exists() || !db.is_empty() {
            return Err(corrupt("it was set up before, and what it held is gone"));
        }
        return Ok(None);
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
    let last = read("commit")?.ok_or_else(|| corrupt("its last commit has no number"))?;
    Stamp::from_text(&last).map(Some).ok_or_else(|| corrupt("its last commit has no number"))
}

fn create(db: &sled::Db, log: &File, dir: &Path, owner: &Owner) -> Result<(), Failure> {
    let unsure = |e: io::Error| Failure::Unsure(e.to_string());
    File::open(dir.join("conf")).and_then(|f| f.sync_all()).map_err(unsure)?;
    let mut batch = sled::Batch::default();
    batch.insert(layout::meta_key("commit"), Stamp::default().to_text().as_bytes());
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
