//! Old commitments of ours, kept for tests that cheat (`--dev` only).
//!
//! In: commitments as they are revoked. Out: a file for each, `DIR/NETWORK/dev-revoked/CHANNEL/NUMBER`, in hex, and
//! the same read back for `dev-broadcast-revoked`. A file of their own, so that no ordinary node ever has one.
//! Read next: `writer`.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::Transaction;
use chand_protocol::id::ChannelId;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

fn file(dir: &Path, channel: &ChannelId, number: u64) -> PathBuf {
    dir.join("dev-revoked").join(channel.to_string()).join(number.to_string())
}

/// Keeps one; `dir` is `DIR/NETWORK`.
///
/// # Errors
/// When the file system refuses.
pub fn keep(dir: &Path, channel: &ChannelId, number: u64, tx: &Transaction) -> io::Result<()> {
    let path = file(dir, channel, number);
    crate::config::make_private_dir(path.parent().unwrap_or(dir))
        .map_err(|e| io::Error::other(e.to_string()))?;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(serialize_hex(tx).as_bytes())
}

/// The numbers that are kept of a channel, the lowest and the highest.
pub fn kept(dir: &Path, channel: &ChannelId) -> Option<(u64, u64)> {
    let names = fs::read_dir(file(dir, channel, 0).parent()?).ok()?.flatten().map(|entry| entry.file_name());
    let numbers: Vec<u64> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    Some((*numbers.iter().min()?, *numbers.iter().max()?))
}

/// Reads one back.
///
/// # Errors
/// `NotFound` when it was never kept; `InvalidData` when the file was changed.
pub fn read(dir: &Path, channel: &ChannelId, number: u64) -> io::Result<Transaction> {
    let text = fs::read_to_string(file(dir, channel, number))?;
    deserialize_hex(text.trim()).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{absolute, transaction};

    #[test]
    fn what_was_kept_is_read_back_by_channel_and_number() {
        let dir = tempfile::tempdir().expect("a folder");
        let tx = |lock| Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(lock),
            input: vec![bitcoin::TxIn::default()],
            output: vec![],
        };
        let channel = ChannelId([7; 32]);
        keep(dir.path(), &channel, 1, &tx(1)).expect("kept");
        keep(dir.path(), &channel, 2, &tx(2)).expect("kept");
        assert_eq!(read(dir.path(), &channel, 1).expect("there"), tx(1));
        assert_eq!(read(dir.path(), &channel, 2).expect("there"), tx(2));
        let missing = read(dir.path(), &channel, 3).expect_err("never kept");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(super::kept(dir.path(), &channel), Some((1, 2)));
        assert_eq!(super::kept(dir.path(), &ChannelId([8; 32])), None);
    }
}
