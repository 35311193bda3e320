//! Counters that must never run backwards.
//!
//! In: a request for the next number. Out: it, and a record. Read next: `node`.

use crate::node::waits::{Event, Subsystem};
use crate::record::{counters_key, decode_grown, put, BadRecord};
use crate::store::Change;
use crate::units::Msat;
use serde::{Deserialize, Serialize};

/// The node's running numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    key_index: u64,
    wallet: u64,
    invoice: u64,
    pay: u64,
    payment: u64,
    forward: u64,
    /// Msat that forwards earned which are not listed any more.
    fees: u64,
    /// Changes and deletions of rows, as `wait` counts them; how many were made the counters above say.
    invoices_updated: u64,
    invoices_deleted: u64,
    payments_updated: u64,
    payments_deleted: u64,
    forwards_updated: u64,
    forwards_deleted: u64,
    #[serde(skip)]
    pub(super) dirty: bool,
}

macro_rules! next {
    ($(#[$doc:meta])* $name:ident $field:ident) => {
        $(#[$doc])*
        pub(super) fn $name(&mut self) -> u64 {
            // Starts at 1; a million a second would take half a million years to wrap.
            self.$field = self.$field.saturating_add(1);
            self.dirty = true;
            self.$field
        }
    };
}

impl Counters {
    next!(
        /// Keys of the next channel.
        next_key_index key_index
    );
    next!(
        /// The wallet's next change.
        next_wallet wallet
    );
    next!(
        /// The next paid invoice's `pay_index`.
        next_pay pay
    );

    /// Of a node that was made from words: its next channel's keys are those after `key_index`.
    pub(super) fn beginning_at(key_index: u64) -> Counters {
        Counters { key_index, ..Counters::default() }
    }

    /// A channel with these keys came back: none after it has them.
    pub(super) fn key_index_above(&mut self, used: u64) {
        if used > self.key_index {
            self.key_index = used;
            self.dirty = true;
        }
    }

    /// How far an index is.
    pub(super) const fn of(&self, index: (Subsystem, Event)) -> u64 {
        match index {
            (Subsystem::Invoices, Event::Created) => self.invoice,
            (Subsystem::Invoices, Event::Updated) => self.invoices_updated,
            (Subsystem::Invoices, Event::Deleted) => self.invoices_deleted,
            (Subsystem::Sendpays, Event::Created) => self.payment,
            (Subsystem::Sendpays, Event::Updated) => self.payments_updated,
            (Subsystem::Sendpays, Event::Deleted) => self.payments_deleted,
            (Subsystem::Forwards, Event::Created) => self.forward,
            (Subsystem::Forwards, Event::Updated) => self.forwards_updated,
            (Subsystem::Forwards, Event::Deleted) => self.forwards_deleted,
        }
    }

    /// The next number of an index.
    pub(super) fn next(&mut self, index: (Subsystem, Event)) -> u64 {
        let counter = match index {
            (Subsystem::Invoices, Event::Created) => &mut self.invoice,
            (Subsystem::Invoices, Event::Updated) => &mut self.invoices_updated,
            (Subsystem::Invoices, Event::Deleted) => &mut self.invoices_deleted,
            (Subsystem::Sendpays, Event::Created) => &mut self.payment,
            (Subsystem::Sendpays, Event::Updated) => &mut self.payments_updated,
            (Subsystem::Sendpays, Event::Deleted) => &mut self.payments_deleted,
            (Subsystem::Forwards, Event::Created) => &mut self.forward,
            (Subsystem::Forwards, Event::Updated) => &mut self.forwards_updated,
            (Subsystem::Forwards, Event::Deleted) => &mut self.forwards_deleted,
        };
        *counter = counter.saturating_add(1);
        self.dirty = true;
        *counter
    }

    /// What was earned with forwards that are forgotten.
    pub(super) const fn fees(&self) -> Msat {
        Msat(self.fees)
    }

    /// Forwards that earned so much are forgotten.
    pub(super) fn add_fees(&mut self, fees: Msat) {
        self.fees = self.fees.saturating_add(fees.0);
        self.dirty |= fees != Msat::ZERO;
    }

    /// From its record, also from one of before forwards, their fees, or changes of rows were counted.
    pub(super) fn from_record(bytes: &[u8]) -> Result<Counters, BadRecord> {
        let no_changes = [0u64; 6];
        decode_grown(bytes, &no_changes)
            .or_else(|_| decode_grown(bytes, &(0u64, no_changes)))
            .or_else(|_| decode_grown(bytes, &(0u64, 0u64, no_changes)))
    }

    pub(super) fn record(&self) -> Change {
        put(counters_key(), self)
    }
}
