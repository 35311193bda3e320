//! Every HTLC that went on through us, for as long as it is under way, and the newest that ended.
//!
//! In: beginnings and ends. Out: records, and the rows of `listforwards`. Read next: `forward`.

use crate::id::{ChannelId, PaymentHash, ShortChannelId};
use crate::node::view;
use crate::record::{forward_key, put};
use crate::store::Change;
use crate::units::{Height, Msat, Timestamp};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Forwards that ended and are still listed; older ones are forgotten, their sums stay with the channels.
const KEPT: usize = 10_000;

/// An HTLC of a channel; which side offered it follows from where it stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    /// The channel.
    pub(super) channel: ChannelId,
    /// The HTLC's number.
    pub(super) htlc: u64,
}

/// How a forward stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Status {
    /// Under way.
    Offered,
    /// Paid, at this time.
    Settled(Timestamp),
    /// Given back, at this time.
    Failed(Timestamp),
    /// Given back to the payer, or taken back by it, and paid on all the same: seen at this time.
    Lost(Timestamp),
}

/// One HTLC in, one HTLC out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Forward {
    pub(super) incoming: Place,
    pub(super) outgoing: Place,
    pub(super) in_scid: Option<ShortChannelId>,
    pub(super) out_scid: Option<ShortChannelId>,
    pub(super) payment_hash: PaymentHash,
    pub(super) in_msat: Msat,
    pub(super) out_msat: Msat,
    pub(super) in_expiry: Height,
    pub(super) out_expiry: Height,
    pub(super) created_index: u64,
    pub(super) received: Timestamp,
    pub(super) status: Status,
    /// The number of its newest change, 0 when there was none.
    pub(super) updated_index: u64,
}

impl Forward {
    /// What it earned so far.
    pub(super) fn earned(&self) -> Msat {
        match self.status {
            Status::Settled(_) => self.in_msat.saturating_sub(self.out_msat),
            _ => Msat::ZERO,
        }
    }

    /// It has no end yet.
    pub(super) fn is_under_way(&self) -> bool {
        self.status == Status::Offered
    }

    pub(super) fn view(&self) -> view::Forward {
        let (status, resolved) = match self.status {
            Status::Offered => ("offered", None),
            Status::Settled(at) => ("settled", Some(at)),
            Status::Failed(at) | Status::Lost(at) => ("failed", Some(at)),
        };
        let lost = matches!(self.status, Status::Lost(_)).then_some(self.out_msat);
        view::Forward {
            in_channel: self.in_scid,
            in_htlc_id: self.incoming.htlc,
            in_msat: self.in_msat,
            in_expiry: self.in_expiry,
            out_channel: self.out_scid,
            out_htlc_id: self.outgoing.htlc,
            out_msat: self.out_msat,
            out_expiry: self.out_expiry,
            payment_hash: self.payment_hash,
            status,
            received: self.received,
            resolved,
            created_index: self.created_index,
            updated_index: (self.updated_index > 0).then_some(self.updated_index),
            lost,
        }
    }
}

/// What follows from the end of one.
pub(super) struct Ended {
    /// How it stands now.
    pub(super) forward: Forward,
    /// What to keep.
    pub(super) changes: Vec<Change>,
    /// Older ones that are listed no more.
    pub(super) forgotten: Vec<Forward>,
}

/// All that are known.
#[derive(Clone, Default, Debug)]
pub(super) struct Forwards {
    by_incoming: BTreeMap<Place, Forward>,
    /// Those under way.
    by_outgoing: BTreeMap<Place, Place>,
    /// Those that ended, oldest first.
    ended: BTreeMap<u64, Place>,
}

impl Forwards {
    /// Takes one in from its record.
    pub(super) fn restore(&mut self, forward: Forward) {
        if forward.status == Status::Offered {
            self.by_outgoing.insert(forward.outgoing, forward.incoming);
        } else {
            self.ended.insert(forward.created_index, forward.incoming);
        }
        self.by_incoming.insert(forward.incoming, forward);
    }

    /// One that was just offered.
    pub(super) fn begin(&mut self, forward: Forward) -> Vec<Change> {
        let change = record(&forward);
        self.restore(forward);
        [change].into()
    }

    /// The HTLC that went out ended. `None` when it is no forward's, or ended before.
    ///
    /// `number` gives that of the change.
    pub(super) fn end(
        &mut self,
        outgoing: Place,
        settled: bool,
        now: Timestamp,
        number: impl FnOnce() -> u64,
    ) -> Option<Ended> {
        let incoming = self.by_outgoing.remove(&outgoing)?;
        let forward = self.by_incoming.get_mut(&incoming)?;
        forward.status = if settled { Status::Settled(now) } else { Status::Failed(now) };
        forward.updated_index = number();
        let mut changes: Vec<Change> = [record(forward)].into();
        let forward = forward.clone();
        self.ended.insert(forward.created_index, incoming);
        let mut forgotten = Vec::new();
        while self.ended.len() > KEPT {
            let Some((_, oldest)) = self.ended.pop_first() else { break };
            forgotten.extend(self.by_incoming.remove(&oldest));
            changes.push(Change::Delete { key: forward_key(&oldest.channel, oldest.htlc) });
        }
        Some(Ended { forward, changes, forgotten })
    }

    /// The HTLC that came in of a forward that has ended.
    pub(super) fn ended(&self, outgoing: Place) -> Option<Place> {
        let forward = self.by_incoming.values().find(|f| f.outgoing == outgoing)?;
        (forward.status != Status::Offered).then_some(forward.incoming)
    }

    /// It ended well.
    pub(super) fn is_settled(&self, incoming: Place) -> bool {
        self.by_incoming.get(&incoming).is_some_and(|f| matches!(f.status, Status::Settled(_)))
    }

    /// It was paid on, and what came in is not ours: how it stands now, and what to keep.
    pub(super) fn lose(
        &mut self,
        incoming: Place,
        now: Timestamp,
        number: impl FnOnce() -> u64,
    ) -> Option<(Forward, Change)> {
        let forward = self.by_incoming.get_mut(&incoming)?;
        forward.status = Status::Lost(now);
        forward.updated_index = number();
        Some((forward.clone(), record(forward)))
    }

    /// What the listed ones earned.
    pub(super) fn earned(&self) -> Msat {
        self.by_incoming.values().map(Forward::earned).fold(Msat::ZERO, Msat::saturating_add)
    }

    /// How much came in there, if it went on.
    pub(super) fn came_in(&self, incoming: Place) -> Msat {
        self.by_incoming.get(&incoming).map_or(Msat::ZERO, |f| f.in_msat)
    }

    /// How what came in there stands, if it went on.
    pub(super) fn stands(&self, incoming: Place) -> Option<Status> {
        self.by_incoming.get(&incoming).map(|f| f.status)
    }

    /// Where what came in there went on, while it is under way.
    pub(super) fn outgoing_of(&self, incoming: Place) -> Option<Place> {
        let forward = self.by_incoming.get(&incoming)?;
        (forward.status == Status::Offered).then_some(forward.outgoing)
    }

    /// How many HTLCs under way over a channel came in over channels that `from` names, and what they add up to.
    pub(super) fn load_over(&self, channel: ChannelId, from: impl Fn(&ChannelId) -> bool) -> (usize, Msat) {
        let range = Place { channel, htlc: 0 }..=Place { channel, htlc: u64::MAX };
        let of_them = self.by_outgoing.range(range).filter(|(_, incoming)| from(&incoming.channel));
        let amounts =
            of_them.map(|(_, incoming)| self.by_incoming.get(incoming).map_or(Msat::ZERO, |f| f.out_msat));
        amounts.fold((0, Msat::ZERO), |(count, sum), amount| (count + 1, sum.saturating_add(amount)))
    }

    /// Each of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Forward> {
        self.by_incoming.values()
    }

    /// The rows of `listforwards`, oldest first.
    pub(super) fn views(&self) -> Vec<view::Forward> {
        let mut all: Vec<view::Forward> = self.by_incoming.values().map(Forward::view).collect();
        all.sort_by_key(|f| f.created_index);
        all
    }

    /// Every record of theirs.
    pub(super) fn records(&self) -> impl Iterator<Item = Change> + '_ {
        self.by_incoming.values().map(record)
    }

    /// What stands in no record.
    pub(super) fn volatile(&self, bytes: &mut Vec<u8>) {
        bytes.extend(format!("{:?}", self.by_outgoing).into_bytes());
    }
}

fn record(forward: &Forward) -> Change {
    put(forward_key(&forward.incoming.channel, forward.incoming.htlc), forward)
}
