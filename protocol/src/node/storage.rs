//! What peers keep for us, and we for them (BOLT 1, `peer_storage`).
//!
//! In: a peer's blob; our own, as it comes back. Out: the newest blob of each peer with a channel, durable, sent back whenever it links,
//! ahead of `channel_reestablish`; our channel backup, sealed and always of one length, given to each peer that offers to keep it; and
//! for a node that was made from words, the channels that such a copy names (`lost`).
//! A peer's blob is bytes and no more: bounded, and written once a minute at most. Ours is believed because it is sealed; a peer can
//! withhold it or give an old one, and an old one is no danger. Read next: `lost`, `crate::backup`.

use crate::backup::Kept;
use crate::channel::{Channel, Link};
use crate::id::{ChannelId, LinkId, NodeId};
use crate::node::effect::Level;
use crate::node::peers::Peer;
use crate::node::Node;
use crate::record::{peer_blob_key, put};
use crate::store::Change;
use crate::units::{Height, Timestamp};
use crate::wire::features::Feature;
use crate::wire::message::PeerStorage;
use crate::wire::Message;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// The largest blob (BOLT 1).
pub const MAX_BLOB_BYTES: usize = 65_531;
/// A peer's blob is written this often at most.
const WRITE_EVERY_MS: u64 = 60_000;
/// So many peers' blobs are kept: 33 MB.
const MAX_HELD: usize = 500;
/// How long after the last channel with a peer is over its blob stays, in blocks (BOLT 1).
const STAYS_BLOCKS: u32 = 2_016;
/// How often it is looked for blobs to forget, in blocks.
const SWEEP_BLOCKS: u32 = 144;

/// What is kept for one peer.
#[derive(Clone, Default)]
pub(super) struct Held {
    /// As it is on disk.
    kept: Vec<u8>,
    written: Timestamp,
    /// A newer one, which waits for its minute.
    newer: Option<Vec<u8>>,
}

impl core::fmt::Debug for Held {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let newer = self.newer.as_ref().map(Vec::len);
        write!(f, "Held({} bytes, {:?}, newer {newer:?})", self.kept.len(), self.written)
    }
}

/// Both directions.
#[derive(Clone, Debug, Default)]
pub(super) struct Storage {
    held: BTreeMap<NodeId, Held>,
    /// Which of our backups a peer was given, over which link.
    given: BTreeMap<NodeId, (LinkId, u64)>,
    /// Our backup as it is given, and its number.
    ours: (u64, Vec<u8>),
    /// The number that every peer was told of that was there.
    told: u64,
}

impl Storage {
    /// As it was on disk.
    pub(super) fn restore(&mut self, peer: NodeId, blob: Vec<u8>) {
        self.held.insert(peer, Held { kept: blob, ..Held::default() });
    }

    /// What the store must hold.
    pub(super) fn records(&self) -> impl Iterator<Item = Change> + '_ {
        let kept = self.held.iter().filter(|(_, held)| !held.kept.is_empty());
        kept.map(|(peer, held)| put(peer_blob_key(peer), &held.kept))
    }
}

impl Node {
    /// `peer_storage`
    pub(super) fn on_peer_storage(&mut self, peer: NodeId, m: PeerStorage) {
        // BOLT 1 [1.storage.3].
        let open = |c: &Channel| c.terms.peer == peer && c.over_at().is_none();
        if !self.config.backup || m.blob.len() > MAX_BLOB_BYTES || !self.channels.values().any(open) {
            return;
        }
        if !self.storage.held.contains_key(&peer) && self.storage.held.len() >= MAX_HELD {
            return self.notice(Level::Warn, "no room to keep one more peer's blob: it is not kept");
        }
        let now = self.now;
        let held = self.storage.held.entry(peer).or_default();
        if held.kept == m.blob {
            held.newer = None;
            return;
        }
        // BOLT 1 [1.storage.4].
        held.newer = Some(m.blob);
        if held.kept.is_empty() || now.0 >= held.written.0.saturating_add(WRITE_EVERY_MS) {
            self.write_blob(peer);
        }
    }

    fn write_blob(&mut self, peer: NodeId) {
        let now = self.now;
        let Some(held) = self.storage.held.get_mut(&peer) else { return };
        if let Some(newer) = held.newer.take() {
            held.kept = newer;
            held.written = now;
            let change = put(peer_blob_key(&peer), &held.kept);
            self.keep(change);
        }
    }

    /// Blobs whose minute came.
    pub(super) fn storage_timers(&mut self) {
        let now = self.now;
        let due = |h: &Held| h.newer.is_some() && now.0 >= h.written.0.saturating_add(WRITE_EVERY_MS);
        let due: Vec<NodeId> = self.storage.held.iter().filter(|(_, h)| due(h)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|peer| self.write_blob(peer));
    }

    pub(super) fn storage_deadline(&self) -> Option<Timestamp> {
        let waiting = self.storage.held.values().filter(|held| held.newer.is_some());
        waiting.map(|held| held.written.plus_ms(WRITE_EVERY_MS)).min()
    }

    /// `init` was exchanged: a peer gets back what is kept for it, ahead of all that is about channels.
    pub(super) fn return_blob(&mut self, peer: NodeId) {
        // BOLT 1 [1.storage.5, 1.storage.6]: what is said to be stored is on disk.
        let blob = self.storage.held.get(&peer).map(|held| held.kept.clone()).filter(|blob| !blob.is_empty());
        if let Some(blob) = blob {
            self.send(peer, Message::PeerStorageRetrieval(PeerStorage { blob }));
        }
    }

    /// A block: blobs of peers with whom all is over for long are forgotten.
    pub(super) fn forget_blobs(&mut self, height: Height) {
        if !height.0.is_multiple_of(SWEEP_BLOCKS) {
            return;
        }
        let wanted = |c: &Channel| c.over_at().is_none_or(|over| height.since(over) < STAYS_BLOCKS);
        let held: Vec<NodeId> = self.storage.held.keys().copied().collect();
        for peer in held {
            if !self.channels.values().any(|c| c.terms.peer == peer && wanted(c)) {
                self.storage.held.remove(&peer);
                self.keep(Change::Delete { key: peer_blob_key(&peer) });
            }
        }
    }

    /// There is a new backup: the peers are to have it.
    pub(super) fn renew_given(&mut self) {
        // BOLT 1 [1.storage.1, 1.storage.2].
        let sealed = self.backup_key().seal_within(&self.backup(), MAX_BLOB_BYTES);
        self.storage.ours = (self.storage.ours.0.saturating_add(1), sealed);
    }

    /// Gives our backup to every peer that keeps such things, once a link and once for each new one; not before the channel with it
    /// is up, so that a node that lost all never writes over what it came for.
    pub(super) fn give_ours(&mut self, touched: &BTreeSet<ChannelId>) {
        if !self.config.backup || self.storage.ours.0 == 0 {
            return;
        }
        let number = self.storage.ours.0;
        let up = |c: &&Channel| c.link == Link::Up;
        let peers: BTreeSet<NodeId> = if core::mem::replace(&mut self.storage.told, number) == number {
            let touched = touched.iter().filter_map(|id| self.channels.get(id));
            touched.filter(up).map(|c| c.terms.peer).collect()
        } else {
            self.channels.values().filter(up).map(|c| c.terms.peer).collect()
        };
        for peer in peers {
            let Some(link) = self.peers.get(&peer).and_then(Peer::open_link_id) else { continue };
            let theirs = self.peers.get(&peer).and_then(Peer::features);
            let offers = theirs.is_some_and(|f| f.supports(Feature::ProvideStorage));
            if !offers || self.storage.given.get(&peer) == Some(&(link, number)) {
                continue;
            }
            self.storage.given.insert(peer, (link, number));
            let blob = self.storage.ours.1.clone();
            self.send(peer, Message::PeerStorage(PeerStorage { blob }));
        }
    }

    /// `peer_storage_retrieval`: our own, as the peer kept it.
    pub(super) fn on_retrieval(&mut self, peer: NodeId, m: &PeerStorage) {
        let backup = match self.backup_key().open(&m.blob) {
            Ok(backup) => backup,
            Err(fault) => {
                let text =
                    format!("the copy of the channel backup that the peer gave back is refused: {fault}");
                return self.notice_about(Level::Warn, text, peer, None);
            }
        };
        let unknown = |kept: &Kept| {
            !self.channels.contains_key(&kept.channel_id) && !self.funding.contains_key(&kept.funding)
        };
        let missing: Vec<Kept> = backup.channels.into_iter().filter(unknown).collect();
        if missing.is_empty() {
            return;
        }
        if self.recovered.is_none() {
            let text = format!(
                "the peer keeps a backup of ours with {} channels that this node does not know: was an old copy of its \
                 database put back? See docs/RECOVERY.md",
                missing.len()
            );
            return self.notice_about(Level::Warn, text, peer, None);
        }
        let made = self.recover(&missing).len();
        let text =
            format!("the peer gave a copy of the channel backup back: {made} channels are restored from it");
        self.notice_about(Level::Warn, text, peer, None);
    }
}
