//! The channel backup as a file, and the way back from it.
//!
//! In: sealed bytes that a batch of the node released. Out: `DIR/NETWORK/emergency.recover`, written anew in its place, synced, for the
//! owner only. It is no part of what the node remembers: that it cannot be written is said again and again, stops nothing and closes
//! no channel. Read next: `recover`, `verify`, `again`, `chand_protocol::backup`.

pub mod again;
pub mod recover;
pub mod verify;

use chand_protocol::backup::{Backup, BackupKey, Kept, MAX_BYTES};
use chand_protocol::id::ChannelId;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Its name in `DIR/NETWORK`: Core Lightning's.
pub const FILE: &str = "emergency.recover";
/// How often a file that cannot be written is tried, and said, again.
const AGAIN: Duration = Duration::from_secs(60);

/// The file of a running node.
#[derive(Debug)]
pub struct BackupFile {
    path: PathBuf,
    /// What should be in it and is not, and when it was tried last.
    waits: Option<(Vec<u8>, Instant)>,
}

impl BackupFile {
    /// In `dir`, which is `DIR/NETWORK`; nothing is written yet.
    pub fn of(dir: &Path) -> BackupFile {
        BackupFile { path: dir.join(FILE), waits: None }
    }

    /// Puts `sealed` in the file's place.
    pub fn write(&mut self, sealed: Vec<u8>) {
        match put(&self.path, &sealed) {
            Ok(()) => {
                if self.waits.take().is_some() {
                    tracing::warn!("the channel backup can be written again");
                }
            }
            Err(error) => {
                tracing::warn!(
                    "the channel backup {} cannot be written ({error}): should this database be lost now, a channel may be \
                     missing from the backup. Nothing else is affected; it is tried again",
                    self.path.display()
                );
                self.waits = Some((sealed, Instant::now()));
            }
        }
    }

    /// Tries again what could not be written, from time to time.
    pub fn retry(&mut self) {
        if self.waits.as_ref().is_some_and(|(_, at)| at.elapsed() >= AGAIN) {
            if let Some((sealed, _)) = self.waits.take() {
                self.write(sealed);
                // That it works again was not said above.
                if self.waits.is_none() {
                    tracing::warn!("the channel backup can be written again");
                }
            }
        }
    }
}

/// Writes beside it, syncs, and puts it in its place.
fn put(path: &Path, sealed: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(sealed)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// What a file holds, in bounds; `None` when there is none.
///
/// # Errors
/// When it cannot be read.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The backup in a file.
///
/// # Errors
/// In words: there is none, it cannot be read, or it is none that these words open.
pub fn open(path: &Path, key: &BackupKey) -> Result<Backup, String> {
    let at = path.display();
    let bytes = read(path).map_err(|e| format!("the backup {at} cannot be read: {e}"))?;
    let bytes = bytes.ok_or_else(|| format!("there is no backup {at}"))?;
    key.open(&bytes).map_err(|fault| format!("the backup {at} is refused: {fault}"))
}

/// Before a node writes a new backup: one in its place that this node cannot have written, or that names channels which it does
/// not know, is not overwritten but moved aside, and said.
pub fn set_aside(dir: &Path, key: &BackupKey, known: &BTreeSet<ChannelId>, now_s: u64) {
    let path = dir.join(FILE);
    let Ok(Some(bytes)) = read(&path) else { return };
    let missing = |kept: &&Kept| !known.contains(&kept.channel_id);
    let why = match key.open(&bytes) {
        Ok(backup) => match backup.channels.iter().filter(missing).count() {
            0 => return,
            count => format!("holds {count} channels that this node does not know: chan-cli emergencyrecover restores them"),
        },
        Err(fault) => format!("cannot be used: {fault}"),
    };
    let aside = dir.join(format!("{FILE}.{now_s}"));
    match fs::rename(&path, &aside) {
        Ok(()) => tracing::warn!("the channel backup of before {why}. It is kept as {}", aside.display()),
        Err(error) => {
            tracing::warn!("the channel backup of before {why}. It could not be moved aside: {error}")
        }
    }
}

/// Every backup in `dir`, the one in use and those set aside, sealed as they are.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn files_in(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(FILE)));
    paths.sort();
    paths.into_iter().filter_map(|path| read(&path).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chand_protocol::chain::Network;
    use chand_protocol::keys::NodeKeys;
    use chand_protocol::sign::{Crypto as _, RealCrypto};
    use chand_protocol::units::Timestamp;
    use std::os::unix::fs::PermissionsExt;

    fn key(seed: u8) -> BackupKey {
        NodeKeys::from_seed(&[seed; 64], Network::Regtest).backup_key()
    }

    fn empty(made_at: u64) -> Backup {
        let node = NodeKeys::from_seed(&[1; 64], Network::Regtest).node_id(RealCrypto::new().secp());
        Backup { node, made_at: Timestamp(made_at), channels: Vec::new() }
    }

    #[test]
    fn the_newest_is_in_the_file_and_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE);
        let mut file = BackupFile::of(dir.path());
        for made_at in [1, 2] {
            file.write(key(1).seal(&empty(made_at), 0));
            assert_eq!(open(&path, &key(1)), Ok(empty(made_at)));
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode, fs::read_dir(dir.path()).expect("a folder").count()), (0o600, 1));
        let said = open(&path, &key(2)).expect_err("foreign");
        assert!(said.contains("another seed"), "{said}");
    }

    #[test]
    fn one_that_cannot_be_written_waits_and_is_written_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = dir.path().join("later");
        let mut file = BackupFile::of(&place);
        file.write(key(1).seal(&empty(1), 0));
        file.retry();
        assert!(file.waits.is_some(), "too soon for another try");
        fs::create_dir(&place).expect("a folder");
        if let Some((_, at)) = &mut file.waits {
            *at = at.checked_sub(AGAIN).expect("long ago");
        }
        file.retry();
        assert!(file.waits.is_none());
        assert_eq!(open(&place.join(FILE), &key(1)), Ok(empty(1)));
    }

    #[test]
    fn what_a_new_backup_would_lose_is_moved_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        let names = || {
            let all = fs::read_dir(dir.path()).expect("a folder").flatten();
            let mut names: Vec<String> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        BackupFile::of(dir.path()).write(key(1).seal(&empty(1), 0));
        set_aside(dir.path(), &key(1), &BTreeSet::new(), 7);
        assert_eq!(names(), [FILE], "it holds nothing that would be lost");
        set_aside(dir.path(), &key(2), &BTreeSet::new(), 7);
        assert_eq!(names(), ["emergency.recover.7"], "another seed's");
        let all = files_in(dir.path()).expect("read");
        assert_eq!(all.iter().map(|sealed| key(1).open(sealed)).collect::<Vec<_>>(), [Ok(empty(1))]);
    }
}
