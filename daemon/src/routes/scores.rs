//! What was learned of channels, in a file of its own, so that a restart need not learn it again by payments that fail.
//!
//! In: the scorer, now and then and at the end. Out: the same at the next start. A cache and no more: it is not synced, and a
//! file that is damaged, of another form or gone costs a line in the log and what was in it. Form: magic, the CRC-32 of the
//! rest (big-endian), the scorer's bytes; written beside the old one and put in its place. Read next: `super`.

use chand_protocol::route::Scorer;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const MAGIC: &[u8; 16] = b"chand scores 1\r\n";
const HEAD_BYTES: usize = MAGIC.len() + 4;
/// No file is longer: what a scorer holds at most, and some.
const MAX_BYTES: u64 = 4 * 1_024 * 1_024;

/// What the file at `path` holds; an empty scorer when it holds nothing that can be read.
pub fn load(path: &Path) -> Scorer {
    match read(path) {
        Ok(scorer) => {
            tracing::debug!(channels = scorer.len(), "what payments taught the last time is loaded");
            scorer
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Scorer::new(),
        Err(error) => {
            tracing::warn!("what payments taught the last time cannot be read ({error}): begun anew");
            Scorer::new()
        }
    }
}

fn read(path: &Path) -> io::Result<Scorer> {
    let bad = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut bytes = Vec::new();
    // One byte more than there may be shows that it is too long, whatever the file is.
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad("it is too long"));
    }
    let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(|| bad("it is too short"))?;
    let sum = head.strip_prefix(MAGIC).ok_or_else(|| bad("it is no file of scores"))?;
    if crc32fast::hash(body).to_be_bytes()[..] != *sum {
        return Err(bad("its checksum is wrong"));
    }
    Scorer::from_bytes(body).map_err(|_| bad("it is of another version"))
}

/// Puts what is known now in the file's place; it is not synced.
///
/// # Errors
/// When it cannot be written; the file of before stays.
pub fn save(path: &Path, scorer: &Scorer) -> io::Result<()> {
    let beside = path.with_extension("new");
    let body = scorer.to_bytes();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(MAGIC)?;
    file.write_all(&crc32fast::hash(&body).to_be_bytes())?;
    file.write_all(&body)?;
    drop(file);
    fs::rename(&beside, path)
}
