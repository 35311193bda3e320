//! Backups of channels, and channels made from one.
//!
//! In: channels that come and go; a backup that was opened; blocks of the past. Out: a new backup with each such change, ahead of
//! anything else that the step lets out, so that it is written before a funding transaction is published; and channels
//! whose peers are asked to close (`channel::lost`). Blocks that were read before such a channel came back are read again for it
//! alone: its peer may have closed long ago.
//! Read next: `crate::backup`.

use crate::backup::{Backup, BackupKey, Kept};
use crate::channel::Channel;
use crate::id::{ChannelId, CommandId, NodeId};
use crate::keys::NodeKeys;
use crate::node::command::Reply;
use crate::node::effect::{Effect, Level};
use crate::node::peers::Peer;
use crate::node::state::Counters;
use crate::node::Node;
use crate::record::{peer_key, put, recovered_key};
use crate::sign::Crypto;
use crate::store::Change;
use crate::units::{Height, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use bitcoin::Transaction;
use serde::{Deserialize, Serialize};

/// This node was made from words, with or without a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// The first block that may hold something of its: the wallet begins there.
    pub from: Height,
    /// When, in seconds since the Unix epoch.
    pub at_s: u64,
    /// Blocks from here on are to be read again, for channels that came back later.
    pub again: Option<Height>,
}

impl Recovered {
    pub(super) fn record(&self) -> Change {
        put(recovered_key(), self)
    }
}

/// What was last said of channels in a backup.
#[derive(Clone, Debug, Default)]
pub(super) struct Backed {
    /// Those in it, with the height of their funding.
    channels: BTreeMap<ChannelId, Option<Height>>,
    /// It is not what it should be.
    pub(super) stale: bool,
}

/// The records of a new node that was made from words: nothing else is in its database. `found` are the channels of its backup.
///
/// Its next channels get keys that no earlier life of this seed can have used: their numbers begin at the time.
pub fn recovered(
    keys: &NodeKeys,
    crypto: &dyn Crypto,
    found: &[Kept],
    from: Height,
    now: Timestamp,
) -> Vec<Change> {
    let at_s = now.seconds();
    let mut changes = Vec::new();
    let highest = found.iter().map(|kept| kept.key_index).max().unwrap_or(0);
    changes.push(Counters::beginning_at(at_s.max(highest)).record());
    changes.push(Recovered { from, at_s, again: None }.record());
    let mut seen = BTreeSet::new();
    for kept in found {
        if !seen.insert(kept.channel_id) {
            continue;
        }
        if let Some(mut channel) = Channel::lost(kept, keys.channel_secrets(kept.key_index), crypto) {
            channel.save(&mut changes);
        }
        if let Some(address) = &kept.address {
            changes.push(put(peer_key(&kept.peer), address));
        }
    }
    changes
}

impl Node {
    /// Every channel that has money in it still, as a backup keeps it.
    pub fn backup(&self) -> Backup {
        let address = |peer: &NodeId| self.peers.get(peer).and_then(Peer::kept_address);
        let channels = self.channels.values().filter(|c| c.over_at().is_none());
        Backup {
            node: self.id,
            made_at: self.wall(),
            channels: channels.map(|c| Kept::of(c, address(&c.terms.peer))).collect(),
        }
    }

    /// What seals it.
    pub(super) fn backup_key(&self) -> BackupKey {
        self.keys.backup_key()
    }

    /// A new backup goes out ahead of all else when one of these channels came, was confirmed, or went.
    pub(super) fn renew_backup(&mut self, touched: &BTreeSet<ChannelId>) {
        if !self.config.backup {
            return;
        }
        for id in touched {
            let now = self.channels.get(id).filter(|c| c.over_at().is_none());
            let now = now.map(|c| c.confirmed.map(|place| place.height));
            if self.backed.channels.get(id).copied() != now {
                self.backed.stale = true;
                match now {
                    Some(height) => drop(self.backed.channels.insert(*id, height)),
                    None => drop(self.backed.channels.remove(id)),
                }
            }
        }
        if core::mem::take(&mut self.backed.stale) {
            let sealed = self.backup_key().seal(&self.backup(), 0);
            self.out.effects.insert(0, Effect::Backup(sealed));
            self.renew_given();
        }
    }

    /// A peer is to be found elsewhere now.
    pub(super) fn backup_stale_of(&mut self, peer: &NodeId) {
        let about = |c: &Channel| c.terms.peer == *peer && c.over_at().is_none();
        self.backed.stale |= self.config.backup && self.channels.values().any(about);
    }

    /// The backup of an earlier day is not known: the first step writes a new one.
    pub(super) fn first_backup(&mut self) {
        let channels = self.channels.values().filter(|c| c.over_at().is_none());
        self.backed.channels = channels.map(|c| (c.id(), c.confirmed.map(|place| place.height))).collect();
        self.backed.stale = self.config.backup;
    }

    /// `emergencyrecover`: of each channel what the newest backup says.
    pub(super) fn emergency_recover(&mut self, id: CommandId, sealed: &[Vec<u8>]) {
        let key = self.backup_key();
        let (mut opened, mut fault) = (Vec::new(), None);
        for bytes in sealed {
            match key.open(bytes) {
                Ok(backup) => opened.push(backup),
                Err(why) => fault = fault.or(Some(why)),
            }
        }
        if opened.is_empty() {
            let why = fault.map_or_else(|| "there is none".into(), |fault| fault.to_string());
            return self.refuse(id, -1, format!("no channel backup can be used: {why}"));
        }
        opened.sort_by_key(|backup| core::cmp::Reverse(backup.made_at));
        let found: Vec<Kept> = opened.into_iter().flat_map(|backup| backup.channels).collect();
        let made = self.recover(&found);
        self.reply(id, Ok(Reply::Stubs(made)));
    }

    /// Makes a channel of each that is not known here; their peers are called.
    pub(super) fn recover(&mut self, found: &[Kept]) -> Vec<ChannelId> {
        let mut made: Vec<ChannelId> = Vec::new();
        let mut from: Option<Height> = None;
        let crypto = self.crypto.clone();
        for kept in found {
            let known =
                self.channels.contains_key(&kept.channel_id) || self.funding.contains_key(&kept.funding);
            let secrets = self.keys.channel_secrets(kept.key_index);
            let Some(channel) = Channel::lost(kept, secrets, crypto.as_ref()).filter(|_| !known) else {
                continue;
            };
            self.counters.key_index_above(kept.key_index);
            if let Some(address) = &kept.address {
                if self.remember_peer(kept.peer, address) {
                    self.keep(put(peer_key(&kept.peer), address));
                }
            }
            self.notice_about(
                Level::Warn,
                format!("channel of {} restored from a backup: its peer is asked to close it", kept.capacity),
                kept.peer,
                Some(kept.channel_id),
            );
            from = Some(from.map_or(kept.first_block(), |low| low.min(kept.first_block())));
            self.adopt_lost(channel);
            made.push(kept.channel_id);
        }
        if let (Some(from), Some((tip, _))) = (from, self.chain.tip) {
            let mut recovered = self.recovered.unwrap_or(Recovered {
                from: Height(0),
                at_s: self.wall().seconds(),
                again: None,
            });
            let from = recovered.again.map_or(from, |low| low.min(from)).max(recovered.from);
            recovered.again = Some(from);
            self.recovered = Some(recovered);
            self.keep(recovered.record());
            self.out.effects.push(Effect::ReadAgain { from, to: tip });
        }
        if !made.is_empty() {
            self.call_all();
        }
        made
    }

    fn adopt_lost(&mut self, channel: Channel) {
        let id = channel.id();
        let linked = self.is_connected(&channel.terms.peer);
        self.funding.insert(channel.terms.funding, id);
        self.touched.insert(id);
        self.channels.insert(id, channel);
        if linked {
            if let Some(Err(fault)) = self.act(id, |c, cx, out| c.relink(cx, out)) {
                self.local_fault(id, &fault);
            }
        }
    }

    /// Blocks that were being read again when this node ended.
    pub(super) fn resume_reading(&mut self) {
        let again = self.recovered.and_then(|recovered| recovered.again);
        if let (Some(from), Some((tip, _))) = (again, self.chain.tip) {
            self.out.effects.push(Effect::ReadAgain { from, to: tip });
        }
    }

    /// A block of the past, for channels that came back after it was read first; `last`: all of them were read.
    pub(super) fn on_old_block(&mut self, height: Height, txs: &[Transaction], last: bool) {
        for (index, tx) in txs.iter().enumerate() {
            for (at, input) in tx.input.iter().enumerate() {
                let outpoint = &input.previous_output;
                let about = self.funding.get(outpoint).or_else(|| self.watched.get(outpoint));
                let lost = about.and_then(|id| self.channels.get(id)).is_some_and(Channel::is_lost);
                if lost {
                    self.look_for_spend(tx, at, outpoint, height);
                }
            }
            self.look_for_fundings(height, index, tx);
        }
        if !last {
            return;
        }
        if let Some(recovered) = &mut self.recovered {
            recovered.again = None;
            let record = recovered.record();
            self.keep(record);
        }
        self.notice(Level::Info, format!("the blocks up to {height} were read again for restored channels"));
        self.plan_claims();
    }

    /// Where a wallet that was made from words begins.
    pub fn begins_at(&self) -> Option<Height> {
        self.recovered.map(|recovered| recovered.from)
    }
}
