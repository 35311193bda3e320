//! A tower's files: what clients gave it, appended and synced, found again by the first half of a txid.
//!
//! In: sealed states and entries. Out: `DIR/NETWORK/clients/CLIENT/TAG`, one file a channel, for the owner only; the states of a hint;
//! a channel's entries. What belongs to one message is one append and one `fdatasync` before that is acknowledged; what a power
//! cut left half at its end is cut off at the start, and a damaged file is put aside, with all that can still be read in a new one.
//! A finished channel is one file to remove. In memory stands of each state where it is, 28 bytes and the tree's own.
//! Read next: `file`, `keeper`.

use super::file::{
    self, append, put_aside, record, Tally, CHECK, END_BYTES, ENTRY, HEAD, LOST, ONCE_LOST, STATE,
};
use crate::config::make_private_dir;
use chand_protocol::id::{hex_array, to_hex, NodeId};
use chand_protocol::tower::message::{Lost, Quota};
use chand_protocol::tower::seal::{Entry, Sealed};
use chand_protocol::tower::{EntryId, Hint, Tag};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// States of one channel with one hint that are looked at.
const MAX_SAME_HINT: usize = 2;
/// Channels of one client.
const MAX_CHANNELS: usize = 1_000;
/// HTLCs that may come before the state that holds them: more than fit one.
const MAX_LOOSE: usize = 2_000;

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

/// What was kept of a message.
#[derive(Debug, Default)]
pub struct Kept {
    /// Hints of the states that are new.
    pub hints: Vec<Hint>,
    /// Why the others were not kept, in words for the client.
    pub full: Option<String>,
}

/// One channel of one client.
struct Channel {
    client: NodeId,
    tag: Tag,
    path: PathBuf,
    /// Bytes that are whole and synced.
    length: u64,
    states: u64,
    tally: Tally,
    /// Entries that no state followed yet: sent again, they are known.
    loose: BTreeSet<EntryId>,
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
    /// Channels whose files are there and cannot be read, and why.
    unreadable: BTreeMap<(NodeId, Tag), String>,
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

impl Channel {
    /// Takes note of a record of its file.
    fn note(&mut self, record: &file::Record<'_>) {
        self.tally.note(record);
        match (record.kind, record.body.first_chunk::<16>()) {
            (ENTRY, Some(id)) => {
                self.loose.insert(*id);
            }
            (STATE, _) => {
                self.loose.clear();
                self.states += 1;
            }
            _ => {}
        }
    }
}

impl Archive {
    /// Reads all files below `dir`. What is wrong with one of them is logged, and the others are served.
    ///
    /// # Errors
    /// When the file system refuses the folder.
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
            unreadable: BTreeMap::new(),
        };
        for client in fs::read_dir(&dir)? {
            let client = client?;
            let Some(id) = client.file_name().to_str().and_then(|name| name.parse::<NodeId>().ok()) else {
                continue;
            };
            if let Err(error) = archive.load_client(id, &client.path()) {
                tracing::error!(client = %id, "NOTHING of this client is watched: its folder cannot be read: {error}");
            }
        }
        Ok(archive)
    }

    fn load_client(&mut self, client: NodeId, folder: &Path) -> io::Result<()> {
        for file in fs::read_dir(folder)? {
            let file = file?;
            let Some(tag) = file.file_name().to_str().and_then(|name| hex_array(name).ok()) else { continue };
            if let Err(error) = self.load(client, tag, file.path()) {
                tracing::error!(
                    %client,
                    path = %file.path().display(),
                    "NOT WATCHED: the file of a channel cannot be read: {error}. Make it readable and start the watchtower \
                     again, or move it away, and its node sends what it still has"
                );
                self.unreadable.insert((client, tag), error.to_string());
            }
        }
        Ok(())
    }

    fn load(&mut self, client: NodeId, tag: Tag, path: PathBuf) -> io::Result<()> {
        let mut bytes = fs::read(&path)?;
        if let Some(rest) = salvage(&bytes) {
            let lost = match put_aside(&path, &rest) {
                Ok(aside) => {
                    bytes = rest;
                    format!("the old file is {}", aside.display())
                }
                Err(error) => {
                    self.unreadable
                        .insert((client, tag), format!("it is damaged, and cannot be put aside: {error}"));
                    format!("nothing new is taken for it, since it cannot be put aside: {error}")
                }
            };
            tracing::error!(
                %client,
                path = %path.display(),
                "DAMAGED: the file of a channel. What can be read of it is served; the rest is not protected until its node \
                 sends it again (see listwatchtowers there); {lost}"
            );
        }
        let content = file::read(&bytes);
        if content.damage.is_none() && content.end < bytes.len() {
            cut_off(client, &path, &bytes, content.end);
        }
        let number = self.add(client, tag, path);
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        channel.length = content.end as u64;
        for record in &content.records {
            channel.note(record);
            let hint = record.body.get(8..24).and_then(|h| Hint::try_from(h).ok());
            if let Some(hint) = hint.filter(|_| record.kind == STATE) {
                self.hints.insert((hint, number, record.offset as u64));
            }
        }
        if !channel.tally.lost.is_empty() {
            let lost = in_words(channel.tally.lost);
            tracing::warn!(%client, path = %channel.path.display(), "{lost} of a channel were lost by damage");
        }
        Ok(())
    }

    fn add(&mut self, client: NodeId, tag: Tag, path: PathBuf) -> u32 {
        let number = self.next_channel;
        self.next_channel = number.saturating_add(1);
        let (loose, tally) = (BTreeSet::new(), Tally::default());
        let channel = Channel { client, tag, path, length: 0, states: 0, tally, loose };
        self.channels.insert(number, channel);
        self.by_name.insert((client, tag), number);
        number
    }

    fn channel(&self, client: NodeId, tag: Tag) -> Option<&Channel> {
        self.by_name.get(&(client, tag)).and_then(|n| self.channels.get(n))
    }

    /// One above the newest state of a channel, or the first that has to be sent again; 0 when there is none.
    pub fn next(&self, client: NodeId, tag: Tag) -> u64 {
        self.channel(client, tag).map_or(0, |c| c.tally.next)
    }

    /// States that damage took and that were not sent again.
    pub fn lost(&self, client: NodeId, tag: Tag) -> Lost {
        self.channel(client, tag).map_or(Lost::default(), |c| c.tally.lost)
    }

    /// Why nothing can be said of a channel, nor kept of it.
    pub fn trouble(&self, client: NodeId, tag: Tag) -> Option<String> {
        let why = self.unreadable.get(&(client, tag))?;
        Some(format!("the watchtower cannot read this channel's file: {why}"))
    }

    /// Channels of which something is not watched: their files cannot be read, or damage took states that were not sent again.
    pub fn unwatched(&self) -> BTreeSet<(NodeId, Tag)> {
        let lossy = self.channels.values().filter(|c| !c.tally.lost.is_empty()).map(|c| (c.client, c.tag));
        lossy.chain(self.unreadable.keys().copied()).collect()
    }

    /// Whether there is something of a channel here.
    pub fn has(&self, client: NodeId, tag: Tag) -> bool {
        self.by_name.contains_key(&(client, tag))
    }

    /// What is kept for a client.
    pub fn used(&self, client: NodeId) -> Quota {
        let own = self.of(client).filter_map(|n| self.channels.get(&n));
        own.fold(Quota::default(), |sum, c| Quota {
            bytes: sum.bytes.saturating_add(c.length),
            states: sum.states.saturating_add(c.states),
        })
    }

    /// What may still come of a client.
    fn room(&self, client: NodeId) -> Quota {
        let used = self.used(client);
        Quota {
            bytes: self.quota.bytes.saturating_sub(used.bytes),
            states: self.quota.states.saturating_sub(used.states),
        }
    }

    fn of(&self, client: NodeId) -> impl Iterator<Item = u32> + '_ {
        self.by_name.range((client, [0; 16])..=(client, [255; 16])).map(|(_, number)| *number)
    }

    /// Whether there is something of a client here.
    pub fn knows(&self, client: NodeId) -> bool {
        self.of(client).next().is_some()
    }

    /// How much there is: clients, channels, states.
    pub fn totals(&self) -> (usize, usize, usize) {
        let clients: BTreeSet<NodeId> = self.by_name.keys().map(|(client, _)| *client).collect();
        (clients.len(), self.channels.len(), self.hints.len())
    }

    /// Keeps states and entries on disk, as many as there is room for. What is here already is left out.
    ///
    /// # Errors
    /// [`KeepError`]; nothing was kept then.
    pub fn keep(
        &mut self,
        client: NodeId,
        tag: Tag,
        states: &[Sealed],
        entries: &[Entry],
    ) -> Result<Kept, KeepError> {
        if let Some(trouble) = self.trouble(client, tag) {
            return Err(KeepError::Full(trouble));
        }
        let next = self.next(client, tag);
        let fresh: Vec<&Sealed> = states.iter().filter(|s| s.number >= next).collect();
        let in_order = fresh.windows(2).all(|two| matches!(two, [a, b] if a.number < b.number));
        if !in_order || fresh.iter().any(|s| s.number == u64::MAX) {
            return Err(KeepError::Full("the states are out of order".into()));
        }
        let known = self.channel(client, tag).map(|c| &c.loose);
        let entries: Vec<&Entry> =
            entries.iter().filter(|e| known.is_none_or(|known| !known.contains(&e.id))).collect();
        // HTLCs may come before their state, when they are many; with states that are all here, they are here, too.
        if fresh.is_empty() && (entries.is_empty() || !states.is_empty()) {
            return Ok(Kept::default());
        }
        if fresh.is_empty() && known.map_or(0, BTreeSet::len) + entries.len() > MAX_LOOSE {
            return Err(KeepError::Full("too many HTLCs that no state holds".into()));
        }
        self.takes_channel(client, tag)?;
        let (bytes, taken) = self.fit(client, tag, &fresh, &entries);
        if bytes.is_empty() {
            return Err(KeepError::Full(self.what_is_left(client, next)));
        }
        let number = match self.by_name.get(&(client, tag)) {
            Some(number) => *number,
            None => self.create(client, tag)?,
        };
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(Kept::default()) };
        let from = channel.length;
        append(&channel.path, from, &bytes)?;
        channel.length += bytes.len() as u64;
        let mut kept = Kept::default();
        for record in file::read(&bytes).records {
            channel.note(&record);
            let hint = record.body.get(8..24).and_then(|h| Hint::try_from(h).ok());
            if let Some(hint) = hint.filter(|_| record.kind == STATE) {
                self.hints.insert((hint, number, from + record.offset as u64));
                kept.hints.push(hint);
            }
        }
        let next = channel.tally.next;
        kept.full = (taken < fresh.len()).then(|| self.what_is_left(client, next));
        Ok(kept)
    }

    /// The records of the entries and of as many states as there is room for, and how many these are. No bytes: there is no
    /// room for the first of them.
    fn fit(&self, client: NodeId, tag: Tag, states: &[&Sealed], entries: &[&Entry]) -> (Vec<u8>, usize) {
        let began = self.channel(client, tag).map_or(0, |c| c.length);
        let room = self.room(client);
        let fits = |length: usize| length as u64 + END_BYTES as u64 <= room.bytes;
        let (mut bytes, mut taken) = (Vec::new(), 0);
        // Entries first: a state that is there has all that it refers to.
        entries.iter().for_each(|e| record(ENTRY, &[&e.id, &e.sealed], &mut bytes));
        if !fits(bytes.len()) {
            return (Vec::new(), 0);
        }
        for state in states {
            let before = bytes.len();
            record(STATE, &[&state.number.to_be_bytes(), &state.hint, &state.blob], &mut bytes);
            if !fits(bytes.len()) || taken as u64 >= room.states {
                bytes.truncate(before);
                break;
            }
            taken += 1;
        }
        if taken == 0 && !states.is_empty() {
            return (Vec::new(), 0);
        }
        file::end(began, &mut bytes);
        (bytes, taken)
    }

    fn what_is_left(&self, client: NodeId, next: u64) -> String {
        let room = self.room(client);
        format!(
            "{} of {} bytes and {} of {} states are left for this client: of this channel nothing is kept from state {next} on",
            room.bytes, self.quota.bytes, room.states, self.quota.states
        )
    }

    fn takes_channel(&self, client: NodeId, tag: Tag) -> Result<(), KeepError> {
        let full = |what: String| Err(KeepError::Full(what));
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
            match fs::remove_file(&channel.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            channel.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        }
        self.by_name.remove(&(client, tag));
        self.channels.remove(&number);
        self.hints.retain(|(_, channel, _)| *channel != number);
        Ok(())
    }

    /// The states with this hint, and what cannot be read of them now.
    pub fn hits(&self, hint: &Hint) -> (Vec<Hit>, Vec<String>) {
        let found = self.hints.range((*hint, 0, 0)..=(*hint, u32::MAX, u64::MAX));
        // A node sends one; who sends more of the same channel only wants the tower to be busy.
        let mut last = None;
        let mut count = 0;
        let few = found.filter(|(_, number, _)| {
            count = if last == Some(*number) { count + 1 } else { 0 };
            last = Some(*number);
            count < MAX_SAME_HINT
        });
        let (mut hits, mut unread) = (Vec::new(), Vec::new());
        for channel_and_offset in few.filter_map(|(_, n, offset)| Some((*n, self.channels.get(n)?, *offset)))
        {
            let (number, channel, offset) = channel_and_offset;
            match blob_at(&channel.path, offset) {
                Ok(blob) => {
                    hits.push(Hit { client: channel.client, tag: channel.tag, channel: number, blob })
                }
                Err(error) => unread.push(format!("{}: {error}", channel.path.display())),
            }
        }
        (hits, unread)
    }

    /// All entries of a channel, by name.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn entries(&self, channel: u32) -> io::Result<BTreeMap<EntryId, Vec<u8>>> {
        let Some(channel) = self.channels.get(&channel) else { return Ok(BTreeMap::new()) };
        let bytes = fs::read(&channel.path)?;
        let content = file::read(&bytes);
        if content.damage.is_some() || (content.end as u64) < channel.length {
            tracing::error!(path = %channel.path.display(), "DAMAGED since the start: what can be read of it is used");
        }
        let entries = content.records.iter().filter(|r| r.kind == ENTRY);
        let entries = entries.filter_map(|r| r.body.split_first_chunk::<16>());
        Ok(entries.map(|(id, sealed)| (*id, sealed.to_vec())).collect())
    }
}

/// The blob of the state at `offset` of a file.
fn blob_at(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a state is damaged");
    let file = File::open(path)?;
    let mut bytes = vec![0; HEAD];
    file.read_exact_at(&mut bytes, offset)?;
    let length = u16::from_be_bytes([bytes[1], bytes[2]]);
    bytes.resize(HEAD + usize::from(length) + CHECK, 0);
    file.read_exact_at(&mut bytes, offset)?;
    let record = file::at(&bytes, 0).filter(|r| r.kind == STATE).ok_or_else(damaged)?;
    record.body.get(24..).map(<[u8]>::to_vec).ok_or_else(damaged)
}

/// What a new file holds in the place of a damaged one; `None` when it is not damaged.
fn salvage(bytes: &[u8]) -> Option<Vec<u8>> {
    let content = file::read(bytes);
    let (from, to) = content.damage?;
    let lost = [&from.to_be_bytes()[..], &to.to_be_bytes()].concat();
    let mut whole = Vec::new();
    record(ONCE_LOST, &[&lost], &mut whole);
    // What was sent again stands there twice.
    let newest: BTreeMap<u64, usize> =
        content.records.iter().filter_map(|r| Some((file::state(r)?, r.offset))).collect();
    for old in &content.records {
        let is_current = file::state(old).is_none_or(|number| newest.get(&number) == Some(&old.offset));
        if is_current && !matches!(old.kind, LOST | ONCE_LOST) {
            record(old.kind, &[old.body], &mut whole);
        }
    }
    record(LOST, &[&lost], &mut whole);
    file::end(0, &mut whole);
    Some(whole)
}

/// Cuts a torn end off, and says so. Should the disk refuse, the next message overwrites it.
fn cut_off(client: NodeId, path: &Path, bytes: &[u8], end: usize) {
    let torn = bytes.get(end..).unwrap_or_default();
    tracing::warn!(
        %client,
        path = %path.display(),
        "a crash left the end of a file half written: {} bytes are cut off, with {} states that can be read. They were \
         never acknowledged, and the node sends them again",
        torn.len(),
        states_in(torn)
    );
    let file = OpenOptions::new().write(true).open(path);
    if let Err(error) = file.and_then(|f| f.set_len(end as u64).and_then(|()| f.sync_data())) {
        tracing::error!(path = %path.display(), "the end of a file cannot be cut off: {error}");
    }
}

/// How many states a torn end still shows.
fn states_in(torn: &[u8]) -> usize {
    let (mut offset, mut states) = (0, 0);
    while let Some(record) = file::at(torn, offset) {
        states += usize::from(record.kind == STATE);
        offset += record.length;
    }
    states
}

/// For the log.
fn in_words(lost: Lost) -> String {
    match lost {
        Lost { from, to: u64::MAX } => format!("states from {from} on, if there were any,"),
        Lost { from, to } => format!("states {from} to {} ({} of them)", to - 1, to - from),
    }
}

#[cfg(test)]
mod tests;
