//! The form of a tower's file: a row of records, and what is made of one that is not whole any more.
//!
//! In: the bytes of a channel's file. Out: its records; where they end, when a power cut left the last message half written;
//! or, when something in the middle is damaged, all that can still be read and which states are lost.
//! A message's records end with a mark that says where they began. It is synced before the next message is taken, so that
//! damage before the end of a later message is no torn end: what stood there was acknowledged. In the last message a torn end
//! is one that is missing or blank; a record that is there and does not fit its checksum is damage.
//! Read next: `archive`.

use chand_protocol::tower::message::Lost;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
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
/// The same as [`LOST`], at the beginning of a file that was put together again: for the next damage only.
pub(super) const ONCE_LOST: u8 = 5;
/// Kind and length before a record, the checksum behind it.
pub(super) const HEAD: usize = 3;
pub(super) const CHECK: usize = 4;
/// What the mark behind a message takes.
pub(super) const END_BYTES: usize = HEAD + 8 + CHECK;
/// A torn end is never longer than one message.
const LONGEST_TAIL: usize = 1 << 17;
/// So many zeros in a row are no part of a record: a block that was not written. (Numbers have up to eight.)
const BLANK: usize = 14;

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

/// How far a channel's states are kept, as its records tell one after the other.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tally {
    /// One above the newest state, or the first that has to be sent again.
    pub next: u64,
    /// States that damage took and that were not sent again.
    pub lost: Lost,
}

impl Tally {
    /// Takes note of the next record.
    pub fn note(&mut self, record: &Record<'_>) {
        if let Some(state) = state(record) {
            self.next = self.next.max(state.saturating_add(1));
            self.lost = self.lost.after(state);
        } else if let Some((from, to)) = lost(record) {
            // Sent again from here on.
            (self.next, self.lost) = (from, Lost { from, to });
        }
    }

    /// The first state that has to be sent again when something is damaged behind the records so far.
    fn first_unsure(&self) -> u64 {
        if self.lost.is_empty() {
            self.next
        } else {
            self.next.min(self.lost.from)
        }
    }
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
    let (mut message, mut tally, mut unsure) = (0, Tally::default(), None::<u64>);
    while content.end < bytes.len() {
        if let Some(record) = at(bytes, content.end) {
            content.end += record.length;
            tally.note(&record);
            match record.kind {
                END => message = content.end,
                _ => content.records.push(record),
            }
            continue;
        }
        let Some(next) = behind(bytes, content.end, message) else { break };
        let from = tally.first_unsure();
        unsure = Some(unsure.map_or(from, |first| first.min(from)));
        content.end = next;
    }
    match unsure {
        // A message without its mark was never acknowledged.
        None => {
            content.end = message;
            content.records.retain(|r| r.offset < message);
        }
        Some(first) => content.damage = Some(damage(&content.records, first)),
    }
    content
}

/// What damage took, when `first` is the first state that may have stood there. What an earlier damage had taken is
/// written twice, so that it is not forgotten with one of these.
fn damage(records: &[Record<'_>], mut first: u64) -> (u64, u64) {
    let states: BTreeSet<u64> = records.iter().filter_map(state).collect();
    let newest = states.last().map_or(0, |n| n.saturating_add(1));
    for earlier in records.iter().filter(|r| r.kind == ONCE_LOST) {
        let range = number(earlier.body, 0).zip(number(earlier.body, 8));
        let missing = range.and_then(|(from, to)| (from..to.min(newest)).find(|n| !states.contains(n)));
        first = missing.map_or(first, |missing| first.min(missing));
    }
    (first, if newest > first { newest } else { u64::MAX })
}

/// Where records go on behind damage at `offset`; `None` when it is the torn end of the message that began at `message`.
fn behind(bytes: &[u8], offset: usize, message: usize) -> Option<usize> {
    // Only one record may be damaged, and its length is right.
    let next = stated(bytes, offset).map(|length| offset + length);
    let skipped = next.filter(|next| *next == bytes.len() || at(bytes, *next).is_some());
    // Marks of later messages, each with its own beginning.
    let is_mark = |p: &usize| bytes.get(*p) == Some(&END) && stated(bytes, *p) == Some(END_BYTES);
    let marks = (offset + 1..bytes.len()).filter(is_mark);
    let mut later = marks.filter_map(|p| {
        let began = at(bytes, p).and_then(|mark| number(mark.body, 0)).and_then(|n| usize::try_from(n).ok());
        began.filter(|began| *began > message && *began < p)
    });
    let later = later.next();
    if later.is_none() && is_torn(bytes, offset, message) {
        return None;
    }
    // Else what looks like a record, before the next message.
    let is_record =
        |p: &usize| bytes.get(*p).is_some_and(|k| (STATE..=ONCE_LOST).contains(k)) && at(bytes, *p).is_some();
    let end = later.unwrap_or(bytes.len()).max(offset + 1);
    Some(skipped.or_else(|| (offset + 1..end).find(is_record)).unwrap_or(end))
}

/// Whether what cannot be read at `offset` of the last message is what a crash leaves: the end is missing, or blocks of it were
/// not written, which reads as zeros. Everything else was whole once. In doubt it is damage: that is loud, and nothing is lost by it.
fn is_torn(bytes: &[u8], offset: usize, message: usize) -> bool {
    let rest = bytes.get(offset..).unwrap_or_default();
    if rest.len() > LONGEST_TAIL {
        return false;
    }
    let record = stated(bytes, offset).and_then(|length| rest.get(..length));
    let is_blank = |bytes: &[u8]| bytes.iter().all(|b| *b == 0);
    if record.unwrap_or(rest).windows(BLANK).any(is_blank)
        || rest.last_chunk::<CHECK>().is_some_and(|c| is_blank(c))
    {
        return true;
    }
    // The message's mark is there, or was: no crash changes a byte of it.
    let mut mark = Vec::new();
    end(message as u64, &mut mark);
    let same =
        |last: &[u8; END_BYTES]| last.iter().zip(&mark).filter(|(found, wanted)| found == wanted).count();
    let marked = rest.last_chunk().is_some_and(|last| same(last) > END_BYTES - CHECK);
    !marked && record.is_none()
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
        // Whatever of the last message is missing or blank: it was never acknowledged.
        for cut in third..bytes.len() {
            let content = read(&bytes[..cut]);
            assert_eq!((states(&content), content.end, content.damage), (vec![0, 1, 2, 3], third, None));
            let mut zeros = bytes.clone();
            zeros[cut..].fill(0);
            if bytes.len() - cut < CHECK {
                // So little may be anything; then all its states are there, and those behind them are asked for.
                let content = read(&zeros);
                assert_eq!((states(&content), content.damage), ((0..6).collect(), Some((6, u64::MAX))));
                continue;
            }
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
        // A changed byte is damage, wherever it is.
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let content = read(&changed);
            let (first, behind) = content.damage.unwrap_or_else(|| panic!("damage at {at}"));
            if at < third {
                assert!(
                    first <= 4 && behind == 6 && states(&content).ends_with(&[4, 5]),
                    "{at}: {content:?}"
                );
            } else {
                assert!(first >= 4 && states(&content).starts_with(&[0, 1, 2, 3]), "{at}: {content:?}");
            }
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

    /// The file as it is put together again after damage, and what is sent for it then.
    fn again(bytes: &[u8], from: u64, to: u64, states: &[u64]) -> Vec<u8> {
        let mut new = Vec::new();
        record(ONCE_LOST, &[&from.to_be_bytes(), &to.to_be_bytes()], &mut new);
        for old in read(bytes).records {
            record(old.kind, &[old.body], &mut new);
        }
        record(LOST, &[&from.to_be_bytes(), &to.to_be_bytes()], &mut new);
        end(0, &mut new);
        for n in states {
            let began = new.len() as u64;
            record(STATE, &[&n.to_be_bytes(), &[*n as u8; 16], b"a blob"], &mut new);
            end(began, &mut new);
        }
        new
    }

    #[test]
    fn what_a_second_damage_takes_is_known_too() {
        // The state with number 1 is damaged; it and those behind it are sent again.
        let mut bytes = file();
        let second = read(&bytes).records[2];
        let inside = second.offset + second.length - CHECK - 1;
        bytes[inside] ^= 1;
        let whole = again(&bytes, 1, 6, &[1, 2]);
        assert_eq!(read(&whole).damage, None);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            let content = read(&changed);
            let (first, behind) = content.damage.unwrap_or_else(|| panic!("damage at {at}"));
            let found = states(&content);
            let known = |n: &u64| found.contains(n) || (first..behind).contains(n);
            assert!((0..6).all(|n| known(&n)), "{at}: {first} to {behind}, {found:?}");
        }
    }

    #[test]
    fn more_than_a_message_of_rubbish_at_the_end_is_damage() {
        let mut bytes = file();
        bytes.extend(vec![7; LONGEST_TAIL + 1]);
        assert_eq!(read(&bytes).damage, Some((6, u64::MAX)));
    }
}
