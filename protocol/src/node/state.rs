//! Counters that must never run backwards.
//!
//! In: a request for the next number. Out: it, and a record. Read next: `node`.

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
        /// The next invoice's `created_index`.
        next_invoice invoice
    );
    next!(
        /// The next paid invoice's `pay_index`.
        next_pay pay
    );
    next!(
        /// The next payment's `created_index`.
        next_payment payment
    );
    next!(
        /// The next forward's `created_index`.
        next_forward forward
    );

    /// What was earned with forwards that are forgotten.
    pub(super) const fn fees(&self) -> Msat {
        Msat(self.fees)
    }

    /// Forwards that earned so much are forgotten.
    pub(super) fn add_fees(&mut self, fees: Msat) {
        self.fees = self.fees.saturating_add(fees.0);
        self.dirty |= fees != Msat::ZERO;
    }

    /// From its record, also from one of before forwards, or their fees, were counted.
    pub(super) fn from_record(bytes: &[u8]) -> Result<Counters, BadRecord> {
        decode_grown(bytes, &0u64).or_else(|_| decode_grown(bytes, &(0u64, 0u64)))
    }

    pub(super) fn record(&self) -> Change {
        put(counters_key(), self)
    }
}
