//! A tower's files: what clients gave it, appended and synced, found again by the first half of a txid.
//!
//! In: sealed states and entries. Out: `DIR/NETWORK/clients/CLIENT/TAG`, one file a channel, for the owner only; the states of a hint;
//! a channel's entries. A file is a row of records, each with its length and a checksum, written with one append and one
//! `fdatasync` for each message before that is acknowledged; what a power cut left half at its end is cut off at the start.
//! A finished channel is one file to remove. In memory stands of each state where it is, 28 bytes and the tree's own.
//! Read next: `keeper`.

use crate::config::make_private_dir;
use chand_protocol::id::{hex_array, to_hex, NodeId};
use chand_protocol::tower::message::Quota;
use chand_protocol::tower::seal::{Entry, Sealed};
use chand_protocol::tower::{EntryId, Hint, Tag};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const STATE: u8 = 1;
const ENTRY: u8 = 2;
/// States of one channel with one hint that are looked at.
const MAX_SAME_HINT: usize = 2;
/// Kind and length before a record, the checksum behind it.
const HEAD: usize = 3;
const CHECK: usize = 4;
/// A half-written end is never longer than one message; more than that is damage.
const LONGEST_TAIL: u64 = 1 << 17;
/// Channels of one client.
const MAX_CHANNELS: usize = 1_000;

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A bound of this tower's, in words for the client.
    #[error("{0}")]
    Full(String),
    /// The disk.
    #[error("the watchtower's disk: {0}")]
    Disk(#[from] io::Error),
}

/// One channel of one client.
struct Channel {
    client: NodeId,
    tag: Tag,
    path: PathBuf,
    /// Bytes that are whole and synced.
    length: u64,
    states: u64,
    /// One above the newest state.
    next: u64,
}

/// All files.
pub struct Archive {
    dir: PathBuf,
    quota: Quota,
    max_clients: usize,
    channels: BTreeMap<u32, Channel>,
    next_channel: u32,
    by_name: BTreeMap<(NodeId, Tag), u32>,
    /// Where the state of a hint is: channel and offset. Anybody may have sent the same hint.
    hints: BTreeSet<(Hint, u32, u64)>,
}

/// A state whose hint was seen.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Whose.
    pub client: NodeId,
    /// Of which channel.
    pub tag: Tag,
    /// The channel's number here.
    pub channel: u32,
    /// The sealed blob.
    pub blob: Vec<u8>,
}

fn record(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let from = out.len();
    let length: usize = parts.iter().map(|p| p.len()).sum();
    out.push(kind);
    // Blobs and entries are bounded far below this by their messages.
    out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    parts.iter().for_each(|p| out.extend_from_slice(p));
    let check = Sha256::digest(out.get(from..).unwrap_or_default());
    out.extend(check.iter().take(CHECK));
}

/// The first record of `bytes`: kind, body, and how long it is altogether.
fn first(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (kind, length) = (*bytes.first()?, u16::from_be_bytes(bytes.get(1..HEAD)?.try_into().ok()?));
    let end = HEAD + usize::from(length);
    let check = bytes.get(end..end + CHECK)?;
    let whole = Sha256::digest(bytes.get(..end)?);
    (whole.get(..CHECK) == Some(check)).then_some((kind, bytes.get(HEAD..end)?, end + CHECK))
}

impl Archive {
    /// Reads all files below `dir`.
    ///
    /// # Errors
    /// When the file system refuses, or a file is damaged otherwise than by a power cut.
    pub fn open(dir: &Path, quota: Quota, max_clients: usize) -> io::Result<Archive> {
        let dir = dir.join("clients");
        make_private_dir(&dir).map_err(|e| io::Error::other(e.to_string()))?;
        let mut archive = Archive {
            dir: dir.clone(),
            quota,
            max_clients,
            channels: BTreeMap::new(),
            next_channel: 0,
            by_name: BTreeMap::new(),
            hints: BTreeSet::new(),
        };
        for client in fs::read_dir(&dir)? {
            let client = client?;
            let Some(id) = client.file_name().to_str().and_then(|name| name.parse::<NodeId>().ok()) else {
                continue;
            };
            for file in fs::read_dir(client.path())? {
                let file = file?;
                if let Some(tag) = file.file_name().to_str().and_then(|name| hex_array(name).ok()) {
                    archive.load(id, tag, file.path())?;
                }
            }
        }
        Ok(archive)
    }

    fn load(&mut self, client: NodeId, tag: Tag, path: PathBuf) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        file.read_to_end(&mut bytes)?;
        let number = self.add(client, tag, path.clone());
        let mut rest = bytes.as_slice();
        let mut offset = 0u64;
        while let Some((kind, body, length)) = first(rest) {
            self.note(number, kind, body, offset);
            offset += length as u64;
            rest = rest.get(length..).unwrap_or_default();
        }
        if rest.len() as u64 > LONGEST_TAIL {
            let words = format!(
                "{} is damaged at byte {offset}: states behind it are lost. Move the file away, and have its node start \
                 anew with another tower",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        if !rest.is_empty() {
            tracing::info!(path = %path.display(), bytes = rest.len(), "the end of a file was half written: cut off");
            file.set_len(offset)?;
            file.sync_data()?;
        }
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.length = offset;
        }
        Ok(())
    }

    fn add(&mut self, client: NodeId, tag: Tag, path: PathBuf) -> u32 {
        let number = self.next_channel;
        self.next_channel = number.saturating_add(1);
        self.channels.insert(number, Channel { client, tag, path, length: 0, states: 0, next: 0 });
        self.by_name.insert((client, tag), number);
        number
    }

    fn note(&mut self, number: u32, kind: u8, body: &[u8], offset: u64) {
        let Some(channel) = self.channels.get_mut(&number).filter(|_| kind == STATE) else { return };
        let state = body.first_chunk::<8>().map(|n| u64::from_be_bytes(*n));
        let hint = body.get(8..24).and_then(|h| Hint::try_from(h).ok());
        if let (Some(state), Some(hint)) = (state, hint) {
            channel.states += 1;
            channel.next = channel.next.max(state.saturating_add(1));
            self.hints.insert((hint, number, offset));
        }
    }

    /// One above the newest state of a channel; 0 when there is none.
    pub fn next(&self, client: NodeId, tag: Tag) -> u64 {
        self.by_name.get(&(client, tag)).and_then(|n| self.channels.get(n)).map_or(0, |c| c.next)
    }

    /// What is kept for a client.
    pub fn used(&self, client: NodeId) -> Quota {
        let own = self.of(client).filter_map(|n| self.channels.get(&n));
        own.fold(Quota::default(), |sum, c| Quota {
            bytes: sum.bytes.saturating_add(c.length),
            states: sum.states.saturating_add(c.states),
        })
    }

    fn of(&self, client: NodeId) -> impl Iterator<Item = u32> + '_ {
        self.by_name.range((client, [0; 16])..=(client, [255; 16])).map(|(_, number)| *number)
    }

    /// How much there is: clients, channels, states.
    pub fn totals(&self) -> (usize, usize, usize) {
        let clients: BTreeSet<NodeId> = self.by_name.keys().map(|(client, _)| *client).collect();
        (clients.len(), self.channels.len(), self.hints.len())
    }

    /// Keeps states and entries on disk. States that are here already are left out.
    ///
    /// # Errors
    /// [`KeepError`]; nothing was kept then.
    pub fn keep(
        &mut self,
        client: NodeId,
        tag: Tag,
        states: &[Sealed],
        entries: &[Entry],
    ) -> Result<(), KeepError> {
        let mut next = self.next(client, tag);
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        // Entries first: a state that is there has all that it refers to.
        entries.iter().for_each(|e| record(ENTRY, &[&e.id, &e.sealed], &mut bytes));
        for state in states.iter().filter(|s| s.number >= next).collect::<Vec<_>>() {
            if state.number < next || state.number == u64::MAX {
                return Err(KeepError::Full("the states are out of order".into()));
            }
            next = state.number + 1;
            places.push((state.hint, state.number, bytes.len() as u64));
            record(STATE, &[&state.number.to_be_bytes(), &state.hint, &state.blob], &mut bytes);
        }
        // HTLCs may come before their state, when they are many; with states that are all here, they are here, too.
        if bytes.is_empty() || (places.is_empty() && !states.is_empty()) {
            return Ok(());
        }
        self.has_room(client, tag, bytes.len() as u64, places.len() as u64)?;
        let number = match self.by_name.get(&(client, tag)) {
            Some(number) => *number,
            None => self.create(client, tag)?,
        };
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let from = channel.length;
        append(&channel.path, from, &bytes)?;
        channel.length += bytes.len() as u64;
        channel.states += places.len() as u64;
        channel.next = next;
        self.hints.extend(places.into_iter().map(|(hint, _, at)| (hint, number, from + at)));
        Ok(())
    }

    fn has_room(&self, client: NodeId, tag: Tag, bytes: u64, states: u64) -> Result<(), KeepError> {
        let full = |what: String| Err(KeepError::Full(what));
        let used = self.used(client);
        if used.bytes.saturating_add(bytes) > self.quota.bytes {
            return full(format!("{} bytes are kept for one client, and no more", self.quota.bytes));
        }
        if used.states.saturating_add(states) > self.quota.states {
            return full(format!("{} states are kept for one client, and no more", self.quota.states));
        }
        if self.by_name.contains_key(&(client, tag)) {
            return Ok(());
        }
        let channels = self.of(client).count();
        if channels >= MAX_CHANNELS {
            return full(format!("{MAX_CHANNELS} channels are kept for one client, and no more"));
        }
        if channels == 0 && self.totals().0 >= self.max_clients {
            return full("no more clients are taken".into());
        }
        Ok(())
    }

    fn create(&mut self, client: NodeId, tag: Tag) -> io::Result<u32> {
        let folder = self.dir.join(client.to_string());
        make_private_dir(&folder).map_err(|e| io::Error::other(e.to_string()))?;
        let path = folder.join(to_hex(&tag));
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        File::open(&folder)?.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        Ok(self.add(client, tag, path))
    }

    /// Removes a channel.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn forget(&mut self, client: NodeId, tag: Tag) -> io::Result<()> {
        let Some(number) = self.by_name.get(&(client, tag)).copied() else { return Ok(()) };
        if let Some(channel) = self.channels.get(&number) {
            fs::remove_file(&channel.path)?;
            channel.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        }
        self.by_name.remove(&(client, tag));
        self.channels.remove(&number);
        self.hints.retain(|(_, channel, _)| *channel != number);
        Ok(())
    }

    /// The states with this hint.
    pub fn hits(&self, hint: &Hint) -> Vec<Hit> {
        let found = self.hints.range((*hint, 0, 0)..=(*hint, u32::MAX, u64::MAX));
        // A node sends one; who sends more of the same channel only wants the tower to be busy.
        let mut last = None;
        let mut count = 0;
        let few = found.filter(|(_, number, _)| {
            count = if last == Some(*number) { count + 1 } else { 0 };
            last = Some(*number);
            count < MAX_SAME_HINT
        });
        few.filter_map(|(_, number, offset)| self.read(*number, *offset)).collect()
    }

    fn read(&self, number: u32, offset: u64) -> Option<Hit> {
        let channel = self.channels.get(&number)?;
        let mut bytes = vec![0; HEAD];
        let read = File::open(&channel.path).and_then(|file| {
            file.read_exact_at(&mut bytes, offset)?;
            let length = u16::from_be_bytes([bytes[1], bytes[2]]);
            bytes.resize(HEAD + usize::from(length) + CHECK, 0);
            file.read_exact_at(&mut bytes, offset)
        });
        if let Err(error) = read {
            tracing::error!(path = %channel.path.display(), "a state cannot be read, and may be needed now: {error}");
            return None;
        }
        let (kind, body, _) = first(&bytes)?;
        let blob = body.get(24..).filter(|_| kind == STATE)?.to_vec();
        Some(Hit { client: channel.client, tag: channel.tag, channel: number, blob })
    }

    /// All entries of a channel, by name.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn entries(&self, channel: u32) -> io::Result<BTreeMap<EntryId, Vec<u8>>> {
        let mut entries = BTreeMap::new();
        let Some(channel) = self.channels.get(&channel) else { return Ok(entries) };
        let bytes = fs::read(&channel.path)?;
        let mut rest = bytes.as_slice();
        while let Some((kind, body, length)) = first(rest) {
            if let (ENTRY, Some((id, sealed))) = (kind, body.split_first_chunk::<16>()) {
                entries.insert(*id, sealed.to_vec());
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(entries)
    }
}

/// Writes at `from`, where the last whole record ends: what an earlier failure left there is overwritten.
fn append(path: &Path, from: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.set_len(from)?;
    file.seek(SeekFrom::Start(from))?;
    file.write_all(bytes)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(byte: u8) -> NodeId {
        let key = secp256k1::SecretKey::from_slice(&[byte; 32]).expect("a key");
        NodeId(key.public_key(&secp256k1::Secp256k1::new()))
    }

    fn state(number: u64) -> Sealed {
        Sealed { number, hint: [number as u8; 16], blob: vec![number as u8; 40] }
    }

    fn entry(byte: u8) -> Entry {
        Entry { id: [byte; 16], sealed: vec![byte; 30] }
    }

    const LARGE: Quota = Quota { bytes: 1_000_000, states: 100 };
    const TAG: Tag = [7; 16];

    #[test]
    fn what_was_kept_is_found_again_after_a_start_and_a_half_written_end_is_cut_off() {
        let dir = tempfile::tempdir().expect("a folder");
        let (alice, bob) = (client(1), client(2));
        let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
        archive.keep(alice, TAG, &[state(4), state(5)], &[entry(1)]).expect("kept");
        archive.keep(alice, TAG, &[state(5), state(6)], &[entry(2)]).expect("kept");
        archive.keep(bob, TAG, &[state(5)], &[]).expect("kept");
        let used = archive.used(alice);
        drop(archive);

        let path = dir.path().join("clients").join(alice.to_string()).join(to_hex(&TAG));
        let whole = fs::read(&path).expect("a file");
        assert_eq!(whole.len() as u64, used.bytes);
        for cut in [0, 1, 20] {
            fs::write(&path, [whole.as_slice(), &whole[..cut]].concat()).expect("written");
            let archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
            assert_eq!(fs::read(&path).expect("a file"), whole);
            assert_eq!((archive.next(alice, TAG), archive.next(bob, TAG)), (7, 6));
            assert_eq!(archive.used(alice), Quota { states: 3, ..used });
            assert_eq!(archive.totals(), (2, 2, 4));
            // Two clients may have sent the same hint.
            let mut hits = archive.hits(&[5; 16]);
            hits.sort_by_key(|hit| hit.client);
            let mut both = [alice, bob];
            both.sort();
            assert_eq!(hits.iter().map(|h| h.client).collect::<Vec<_>>(), both);
            assert!(hits.iter().all(|h| h.blob == [5; 40]));
            assert!(archive.hits(&[9; 16]).is_empty());
            let hers = hits.iter().find(|h| h.client == alice).expect("hers");
            let entries = archive.entries(hers.channel).expect("read");
            assert_eq!(entries.keys().collect::<Vec<_>>(), [&[1; 16], &[2; 16]]);
        }
        // The end of the last message was lost: asked again, it is sent again.
        fs::write(&path, &whole[..whole.len() - 1]).expect("written");
        let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
        assert_eq!(archive.next(alice, TAG), 6);
        archive.keep(alice, TAG, &[state(6)], &[]).expect("kept");
        assert_eq!(archive.hits(&[6; 16]).len(), 1);
    }

    #[test]
    fn of_many_states_with_one_hint_few_are_looked_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
        let flood: Vec<Sealed> = (0..50).map(|number| Sealed { hint: [9; 16], ..state(number) }).collect();
        archive.keep(client(1), TAG, &flood, &[]).expect("kept");
        archive.keep(client(2), TAG, &[Sealed { hint: [9; 16], ..state(1) }], &[]).expect("kept");
        let hits = archive.hits(&[9; 16]);
        let of = |byte: u8| hits.iter().filter(|hit| hit.client == client(byte)).count();
        assert_eq!((of(1), of(2)), (MAX_SAME_HINT, 1));
    }

    #[test]
    fn damage_before_the_end_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
        let large = |number| Sealed { blob: vec![1; 20_000], ..state(number) };
        for number in 0..10 {
            archive.keep(client(1), TAG, &[large(number)], &[]).expect("kept");
        }
        let path = dir.path().join("clients").join(client(1).to_string()).join(to_hex(&TAG));
        let mut bytes = fs::read(&path).expect("a file");
        bytes[30] ^= 1;
        fs::write(&path, bytes).expect("written");
        assert!(Archive::open(dir.path(), LARGE, 10).is_err_and(|e| e.to_string().contains("damaged")));
    }

    #[test]
    fn a_client_has_its_quota_and_a_finished_channel_gives_it_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let quota = Quota { bytes: 450, states: 3 };
        let mut archive = Archive::open(dir.path(), quota, 1).expect("opened");
        archive.keep(client(1), TAG, &[state(0), state(1)], &[]).expect("kept");
        let full = |result: Result<(), KeepError>| matches!(result, Err(KeepError::Full(_)));
        assert!(full(archive.keep(client(1), TAG, &[state(2), state(3)], &[])));
        assert!(full(archive.keep(
            client(1),
            TAG,
            &[state(2)],
            &[entry(1), entry(2), entry(3), entry(4), entry(5)]
        )));
        assert!(full(archive.keep(client(2), TAG, &[state(0)], &[])), "one client more than are taken");
        assert!(full(archive.keep(client(1), TAG, &[state(3), state(2)], &[])), "out of order");
        archive.keep(client(1), [8; 16], &[state(9)], &[]).expect("the third state fits");
        assert!(full(archive.keep(client(1), [9; 16], &[state(10)], &[])));
        archive.forget(client(1), TAG).expect("gone");
        assert!(archive.hits(&[0; 16]).is_empty());
        archive.keep(client(1), [9; 16], &[state(10)], &[]).expect("room again");
        archive.forget(client(1), TAG).expect("forgetting twice is no error");
        let again = Archive::open(dir.path(), quota, 1).expect("opened");
        assert_eq!(again.totals(), (1, 2, 2));
    }
}
