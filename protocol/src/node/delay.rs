//! Failures that leave a moment later than they could: those of blinded paths that begin here (BOLT 4, "Route Blinding").
//!
//! In: an HTLC that is to be given back. Out: the same after a random time, where its payer would otherwise measure how far
//! inside the path it failed. Nothing of it is kept: after a start the HTLC is there still, and is judged anew; what had
//! failed further on is known by its forward's record and goes back without being sent on again.
//! Read next: `unblind`.

use crate::channel::htlc::Removal;
use crate::node::forwards::Place;
use crate::node::unblind::Back;
use crate::node::Node;
use crate::units::Timestamp;
use alloc::vec::Vec;

/// The longest such delay, in milliseconds: several times what a hop takes.
const MAX_DELAY_MS: u64 = 1_000;

/// One that waits.
#[derive(Clone, Debug)]
pub(super) struct Delayed {
    at: Timestamp,
    place: Place,
    removal: Removal,
}

impl Node {
    /// Gives an HTLC of a peer back so.
    pub(super) fn give_back(&mut self, place: Place, back: &Back, removal: Removal) {
        if back.is_entrance() {
            let ms = (self.entropy.u64() % MAX_DELAY_MS).saturating_add(1);
            self.delayed.push(Delayed { at: self.now.plus_ms(ms), place, removal });
        } else {
            self.settle(place, removal);
        }
    }

    pub(super) fn delay_deadline(&self) -> Option<Timestamp> {
        self.delayed.iter().map(|d| d.at).min()
    }

    pub(super) fn delay_timers(&mut self) {
        let now = self.now;
        let due: Vec<Delayed> = self.delayed.extract_if(.., |d| d.at <= now).collect();
        for one in due {
            self.settle(one.place, one.removal);
        }
    }
}
