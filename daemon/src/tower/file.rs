//! The form of a tower's file: a row of records, and what is made of one that is not whole any more.
//!
//! In: the bytes of a channel's file. Out: its records; where they end, when a power cut left the last message half written;
//! or, when something in the middle is damaged, all that can still be read and which states are lost.
//! A message's records end with a mark that says where they began. It is synced before the next message is taken, so that
//! damage before the end of a later message is no torn end: what stood there was acknowledged.
//! Read next: `archive`.

use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A state: its number, its hint, its blob.
pub(super) const STATE: u8 = 1;
/// Something that states refer to: its name, and what it says.
pub(super) const ENTRY: u8 = 2;
/// States that damage took: the first, and the one behind the last.
pub(super) const LOST: u8 = 3;
/// The end of a message: where it began.
const END: u8 = 4;
/// Kind and length before a record, the checksum behind it.
pub(super) const HEAD: usize = 3;
pub(super) const CHECK: usize = 4;
/// What the mark behind a message takes.
pub(super) const END_BYTES: usize = HEAD + 8 + CHECK;
/// A torn end is never longer than one message.
const LONGEST_TAIL: usize = 1 << 17;

/// A record: its kind, its body, where it stands, and how long it is altogether.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record<'a> {
    pub kind: u8,
    pub body: &'a [u8],
    pub offset: usize,
    pub length: usize,
}

/// Writes one.
pub(super) fn record(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let from = out.len();
    let length: usize = parts.iter().map(|p| p.len()).sum();
    out.push(kind);
    // Blobs and entries are bounded far below this by their messages.
    out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    parts.iter().for_each(|p| out.extend_from_slice(p));
    let check = Sha256::digest(out.get(from..).unwrap_or_default());
    out.extend(check.iter().take(CHECK));
}

/// Closes a message whose records begin at `offset` of the file.
pub(super) fn end(offset: u64, out: &mut Vec<u8>) {
    record(END, &[&offset.to_be_bytes()], out);
}

/// How long the record at `offset` says that it is.
fn stated(bytes: &[u8], offset: usize) -> Option<usize> {
    let head = bytes.get(offset..)?.first_chunk::<HEAD>()?;
    Some(HEAD + usize::from(u16::from_be_bytes([head[1], head[2]])) + CHECK)
}

/// The record at `offset`, when it is whole.
pub(super) fn at(bytes: &[u8], offset: usize) -> Option<Record<'_>> {
    let length = stated(bytes, offset)?;
    let all = bytes.get(offset..)?.get(..length)?;
    let (body, check) = all.split_at_checked(length - CHECK)?;
    let whole = Sha256::digest(body);
    let (kind, body) = (*body.first()?, body.get(HEAD..)?);
    (whole.get(..CHECK) == Some(check)).then_some(Record { kind, body, offset, length })
}

fn number(body: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*body.get(at..)?.first_chunk::<8>()?))
}

/// The state's number.
pub(super) fn state(record: &Record<'_>) -> Option<u64> {
    number(record.body, 0).filter(|_| record.kind == STATE)
}

/// What was lost.
pub(super) fn lost(record: &Record<'_>) -> Option<(u64, u64)> {
    Some((number(record.body, 0)?, number(record.body, 8)?)).filter(|_| record.kind == LOST)
}

/// A file, read.
#[derive(Debug)]
pub(super) struct Content<'a> {
    /// Every whole record but the marks.
    pub records: Vec<Record<'a>>,
    /// Where they end, without what was torn.
    pub end: usize,
    /// Damage before the end: which states may have stood there, the first and the one behind the last.
    pub damage: Option<(u64, u64)>,
}

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Content<'_> {
    let mut content = Content { records: Vec::new(), end: 0, damage: None };
    let mut message = 0;
    while content.end < bytes.len() {
        if let Some(record) = at(bytes, content.end) {
            content.end += record.length;
            match record.kind {
                END => message = content.end,
                _ => content.records.push(record),
            }
            continue;
        }
        let Some(next) = behind(bytes, content.end, message) else { break };
        let from = content.records.iter().filter_map(state).max().map_or(0, |n| n.saturating_add(1));
        let (first, _) = content.damage.unwrap_or((from, 0));
        content.damage = Some((first.min(from), u64::MAX));
        content.end = next;
    }
    if content.damage.is_none() {
        // A message without its mark was never acknowledged.
        content.end = message;
        content.records.retain(|r| r.offset < message);
    }
    if let Some((first, _)) = content.damage {
        let behind = content.records.iter().filter_map(state).filter(|n| *n >= first).max();
        content.damage = Some((first, behind.map_or(u64::MAX, |n| n.saturating_add(1))));
    }
    content
}

/// Where records go on behind damage at `offset`; `None` when it is the torn end of the message that began at `message`.
fn behind(bytes: &[u8], offset: usize, message: usize) -> Option<usize> {
    // Marks of later messages, each with its own beginning.
    let is_mark = |p: &usize| bytes.get(*p) == Some(&END) && stated(bytes, *p) == Some(END_BYTES);
    let marks = (offset + 1..bytes.len()).filter(is_mark);
    let mut later = marks.filter_map(|p| {
        let began = at(bytes, p).and_then(|mark| number(mark.body, 0)).and_then(|n| usize::try_from(n).ok());
        began.filter(|began| *began > message && *began < p)
    });
    let Some(began) = later.next() else {
        return (bytes.len() - offset > LONGEST_TAIL).then_some(bytes.len());
    };
    // Only one record may be damaged, and its length is right.
    let skipped = stated(bytes, offset).map(|length| offset + length);
    Some(skipped.filter(|next| at(bytes, *next).is_some()).unwrap_or(began.max(offset + 1)))
}

/// Writes at `from`, where the last whole message ends: what an earlier failure left there is overwritten.
pub(super) fn append(path: &Path, from: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.set_len(from)?;
    file.seek(SeekFrom::Start(from))?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Puts `bytes` in the place of a file that is damaged; the old one stays beside it under the name that comes back.
pub(super) fn put_aside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let aside = free_name(path);
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // At every moment there is a file of that name.
    fs::hard_link(path, &aside)?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
    Ok(aside)
}

/// A name beside `path` that nothing has: `….damaged`, `….damaged-2` and so on.
pub(super) fn free_name(path: &Path) -> PathBuf {
    let mut aside = path.with_extension("damaged");
    let mut number = 1;
    while aside.exists() {
        number += 1;
        aside = path.with_extension(format!("damaged-{number}"));
    }
    aside
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three messages of two states with an entry each.
    fn file() -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in 0..3u64 {
            let began = bytes.len() as u64;
            record(ENTRY, &[&[message as u8; 16], b"entry"], &mut bytes);
            for n in [2 * message, 2 * message + 1] {
                record(STATE, &[&n.to_be_bytes(), &[n as u8; 16], b"a blob"], &mut bytes);
            }
            end(began, &mut bytes);
        }
        bytes
    }

    fn states(content: &Content<'_>) -> Vec<u64> {
        content.records.iter().filter_map(state).collect()
    }

    #[test]
    fn a_torn_end_is_no_damage_and_damage_in_the_middle_no_torn_end() {
        let bytes = file();
        let third = bytes.len() / 3 * 2;
        let whole = read(&bytes);
        assert_eq!((states(&whole), whole.end, whole.damage), ((0..6).collect(), bytes.len(), None));
        // Whatever of the last message is missing or wrong: it may never have been acknowledged.
        for cut in third..bytes.len() {
            let content = read(&bytes[..cut]);
            assert_eq!((states(&content), content.end, content.damage), (vec![0, 1, 2, 3], third, None));
            let mut zeros = bytes.clone();
            zeros[cut..].fill(0);
            let content = read(&zeros);
            assert_eq!(
                (states(&content), content.end, content.damage),
                (vec![0, 1, 2, 3], third, None),
                "{cut}"
            );
        }
        // A page of it may have been written before the one in front.
        let mut hole = bytes.clone();
        hole[third + 5..third + 20].fill(0);
        let content = read(&hole);
        assert_eq!((states(&content), content.end, content.damage), (vec![0, 1, 2, 3], third, None));
        for at in 0..third {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let content = read(&changed);
            let (first, behind) = content.damage.unwrap_or_else(|| panic!("damage at {at}"));
            assert!(first <= 4 && behind == 6 && states(&content).ends_with(&[4, 5]), "{at}: {content:?}");
            let found = states(&content);
            assert!((0..6).all(|n| found.contains(&n) || (first..behind).contains(&n)), "{at}: {content:?}");
        }
    }

    #[test]
    fn of_one_changed_byte_in_a_body_only_that_record_is_lost() {
        let mut bytes = file();
        let second = at(&bytes, at(&bytes, 0).expect("an entry").length).expect("a state");
        let inside = second.offset + second.length - CHECK - 1;
        bytes[inside] ^= 1;
        let content = read(&bytes);
        assert_eq!((states(&content), content.damage), (vec![1, 2, 3, 4, 5], Some((0, 6))));
        assert_eq!(content.records.len(), 8);
    }

    #[test]
    fn more_than_a_message_of_rubbish_at_the_end_is_damage() {
        let mut bytes = file();
        bytes.extend(vec![7; LONGEST_TAIL + 1]);
        assert_eq!(read(&bytes).damage, Some((6, u64::MAX)));
    }
}
