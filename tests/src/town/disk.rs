//! What a node of a town keeps, and when: at once, or when its disk takes writes again.
//!
//! In: batches of steps; disks that refuse. Out: what the batches let out, once they are kept; after every write the store
//! holds exactly what the node would need to come back. Read next: `super`.

use super::Town;
use crate::duet::judge::compare;
use crate::duet::When;
use chand_protocol::store::{Batch, StoreError};
use chand_storage::Fault;
use std::collections::BTreeMap;

/// Steps that a node computes while its disk refuses.
const MOST_UNWRITTEN: usize = 12;

impl Town {
    /// From now on each write of this node's ends so; with `None` its disk is as good as new, and takes what waited.
    pub fn disk(&mut self, seat: usize, fault: Option<Fault>) {
        self.seats[seat].store.always(fault);
        if fault.is_none() {
            self.write(seat, None);
        }
    }

    /// Whether a node waits for its disk and does nothing else.
    pub fn is_stuck(&self, seat: usize) -> bool {
        self.unwritten[seat].len() >= MOST_UNWRITTEN
    }

    pub(super) fn commit(&mut self, seat: usize, batch: Batch, crash: Option<When>) {
        self.unwritten[seat].push(batch);
        self.write(seat, crash);
    }

    /// Offers all that waits to the disk, and lets out what depends on it.
    fn write(&mut self, seat: usize, crash: Option<When>) {
        let batches = std::mem::take(&mut self.unwritten[seat]);
        let place = &mut self.seats[seat];
        let proof = match place.journal.commit(&batches) {
            Ok(proof) => proof,
            Err(StoreError::Write(_)) => {
                self.unwritten[seat] = batches;
                if crash.is_some() {
                    self.restart(seat);
                }
                return;
            }
            Err(error) => panic!("{}: {error}", place.name),
        };
        if place.steps.is_multiple_of(self.check_every) {
            let stored: BTreeMap<_, _> = place.store.durable().into_iter().collect();
            let same = compare(&stored, place.node.records(), &place.node);
            same.unwrap_or_else(|what| panic!("{}: {what}", place.name));
        }
        if crash == Some(When::BeforeRelease) {
            return self.restart(seat);
        }
        for batch in batches {
            let released = batch.release(&proof).unwrap_or_else(|b| panic!("not released: {b:?}"));
            released.into_iter().for_each(|after| self.let_out(seat, after));
        }
        if crash == Some(When::AfterRelease) {
            self.restart(seat);
        }
    }
}
