//! What was learned, in a file of its own, so that a start need not learn it again.
//!
//! In: records as they happen. Out: a store at the next start. A cache and no more: it is not synced, a record that is cut or
//! damaged ends the reading there, and a file of another chain or form is begun anew; the network tells it all again.
//! Form: a head (magic, chain hash), then for each record its length and the CRC-32 of its bytes, both big-endian, and the
//! bytes. Records are appended; when most of the file is outdated it is written anew beside it and put in its place.
//! Read next: `chand_protocol::gossip::Kept`.

use chand_protocol::gossip::{Kept, Store};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"chand gossip 1\r\n";
const HEAD_BYTES: usize = MAGIC.len() + 32;
/// A length and a checksum.
const RECORD_HEAD: usize = 8;
/// No record is longer: a message and what is known beside it.
const MAX_RECORD: usize = 70_000;
/// Read at once.
const READ_BYTES: usize = 256 * 1_024;
/// What may be outdated in a file however small.
const SLACK_BYTES: u64 = 4 * 1_024 * 1_024;

/// The file.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    chain_hash: [u8; 32],
    /// None when it cannot be written: gossip goes on without.
    file: Option<BufWriter<File>>,
    dirty: bool,
    /// Its length.
    bytes: u64,
    /// Its length when nothing in it was outdated.
    whole_bytes: u64,
}

impl Cache {
    /// What the file at `path` holds, and the file to go on with. `now_s` is the time, seconds since the Unix epoch.
    pub fn open(path: &Path, chain_hash: &[u8; 32], now_s: u64) -> (Store, Cache) {
        let mut store = Store::new();
        let now_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        let good = match File::open(path) {
            Ok(file) => read(file, chain_hash, |kept| store.restore(kept, chain_hash, now_s)),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("the gossip cache cannot be read ({error}): begun anew");
                }
                None
            }
        };
        let mut cache = Cache {
            path: path.to_path_buf(),
            chain_hash: *chain_hash,
            file: None,
            dirty: false,
            bytes: 0,
            whole_bytes: 0,
        };
        let opened = match good {
            Some(good) => cache.go_on(good),
            None => cache.begin(),
        };
        if let Err(error) = opened {
            cache.give_up(&error);
        }
        (store, cache)
    }

    /// Appends from here on; what comes after is cut off.
    fn go_on(&mut self, good: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        if file.metadata()?.len() > good {
            tracing::warn!("the gossip cache is damaged at its end: cut there");
            file.set_len(good)?;
        }
        file.flush()?;
        self.file = Some(BufWriter::new(file));
        (self.bytes, self.whole_bytes) = (good, good);
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut file = BufWriter::new(create(&self.path)?);
        file.write_all(&head(&self.chain_hash))?;
        self.file = Some(file);
        self.bytes = HEAD_BYTES as u64;
        self.whole_bytes = self.bytes;
        self.dirty = true;
        Ok(())
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(
            "the gossip cache cannot be written ({error}): what is learned is gone at the next start"
        );
        self.file = None;
        self.dirty = false;
    }

    /// Adds a record.
    pub fn append(&mut self, kept: &Kept) {
        let Some(file) = &mut self.file else { return };
        let record = framed(kept);
        match file.write_all(&record) {
            Ok(()) => {
                self.dirty = true;
                self.bytes += record.len() as u64;
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Whether something is not in the file yet.
    pub const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Hands all to the operating system; nothing is synced.
    pub fn flush(&mut self) {
        self.dirty = false;
        if let Some(Err(error)) = self.file.as_mut().map(Write::flush) {
            self.give_up(&error);
        }
    }

    /// Whether most of it is outdated.
    pub const fn is_bloated(&self) -> bool {
        self.bytes > 2 * self.whole_bytes + SLACK_BYTES
    }

    /// Writes what is known now, and nothing else.
    pub fn compact(&mut self, store: &Store) {
        if let Err(error) = self.rewrite(store) {
            self.give_up(&error);
        }
    }

    fn rewrite(&mut self, store: &Store) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = BufWriter::new(create(&beside)?);
        file.write_all(&head(&self.chain_hash))?;
        let mut bytes = HEAD_BYTES as u64;
        for kept in store.records() {
            let record = framed(&kept);
            file.write_all(&record)?;
            bytes += record.len() as u64;
        }
        file.flush()?;
        fs::rename(&beside, &self.path)?;
        (self.bytes, self.whole_bytes, self.file) = (bytes, bytes, Some(file));
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn head(chain_hash: &[u8; 32]) -> Vec<u8> {
    [&MAGIC[..], chain_hash].concat()
}

fn framed(kept: &Kept) -> Vec<u8> {
    let body = kept.encode();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut record = Vec::with_capacity(RECORD_HEAD + body.len());
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    record.extend_from_slice(&body);
    record
}

/// Gives every whole record to `take`, and how many bytes they are with the head; `None` when the head is another.
fn read(file: File, chain_hash: &[u8; 32], mut take: impl FnMut(Kept)) -> Option<u64> {
    let mut file = BufReader::with_capacity(READ_BYTES, file);
    let mut start = [0; HEAD_BYTES];
    file.read_exact(&mut start).ok().filter(|()| start[..] == head(chain_hash))?;
    let (mut good, mut body) = (HEAD_BYTES, Vec::new());
    while let Some(kept) = next(&mut file, &mut body) {
        take(kept);
        good += RECORD_HEAD + body.len();
    }
    Some(good as u64)
}

/// The next record, its bytes left in `body`; `None` at the end, and where the file is damaged.
fn next(file: &mut impl Read, body: &mut Vec<u8>) -> Option<Kept> {
    let mut start = [0; RECORD_HEAD];
    file.read_exact(&mut start).ok()?;
    let (length, sum) = start.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|l| *l <= MAX_RECORD)?;
    body.resize(length, 0);
    file.read_exact(body).ok()?;
    if crc32fast::hash(body).to_be_bytes()[..] != *sum {
        return None;
    }
    Kept::decode(body).ok()
}
