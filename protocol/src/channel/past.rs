//! HTLCs that both sides have forgotten, as small in memory as on disk: a channel may have millions of them.
//!
//! In: an HTLC when it ends. Out: all of them again, oldest first, for who punishes a cheat, lists old snapshots, or
//! deletes them in the end. Nothing on the way of a payment reads them. They stand encoded one behind the other: about 55
//! bytes each, where the struct takes 128. Read next: `save` (their records), `crate::onchain::identify`.

use crate::channel::htlc::Span;
use crate::id::{HtlcId, PaymentHash};
use crate::record::{decode, encode};
use crate::units::{Height, Msat};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// An HTLC that both sides have forgotten, as far as an old commitment could bring it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastHtlc {
    /// Its name.
    pub id: HtlcId,
    /// How much.
    pub amount: Msat,
    /// The lock.
    pub payment_hash: PaymentHash,
    /// The deadline.
    pub cltv_expiry: Height,
    /// Which commitments held it.
    pub span: Span,
}

/// All of a channel's.
#[derive(Clone, Default)]
pub struct Past {
    /// Of each: its length in one byte, then as in its record.
    bytes: Vec<u8>,
    count: usize,
}

impl core::fmt::Debug for Past {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Past({} HTLCs, {} bytes)", self.count, self.bytes.len())
    }
}

impl Past {
    /// How many.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One more.
    pub(crate) fn push(&mut self, htlc: &PastHtlc) {
        let encoded = encode(htlc);
        // Numbers, a hash and two flags: far below 255 bytes, whatever they are.
        let Ok(length) = u8::try_from(encoded.len()) else { return };
        self.bytes.push(length);
        self.bytes.extend(encoded);
        self.count += 1;
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = PastHtlc> + '_ {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            let (one, behind) = split(rest)?;
            rest = behind;
            decode(one).ok()
        })
    }

    /// Takes up to `most` of the oldest out.
    pub(crate) fn take(&mut self, most: usize) -> Vec<PastHtlc> {
        let taken: Vec<PastHtlc> = self.iter().take(most).collect();
        let mut rest = self.bytes.as_slice();
        for _ in 0..taken.len() {
            rest = split(rest).map_or(&[], |(_, behind)| behind);
        }
        self.bytes = rest.to_vec();
        self.count -= taken.len();
        taken
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Side;

    #[test]
    fn they_come_out_in_order_and_go_in_portions() {
        let htlc = |n: u64| PastHtlc {
            id: HtlcId {
                offered_by: if n.is_multiple_of(2) { Side::Local } else { Side::Remote },
                id: n << (n % 50),
            },
            amount: Msat(u64::MAX - n),
            payment_hash: PaymentHash([n as u8; 32]),
            cltv_expiry: Height(u32::MAX - n as u32),
            span: Span {
                local_first: Some((1 << 48) - n),
                local_last: (!n.is_multiple_of(3)).then_some(1 << 48),
                remote_first: Some(u64::MAX),
                remote_last: (!n.is_multiple_of(5)).then_some(n),
            },
        };
        let mut past = Past::default();
        for n in 0..300 {
            past.push(&htlc(n));
        }
        assert_eq!(past.len(), 300);
        assert!(past.iter().eq((0..300).map(htlc)));
        assert!(past.take(120).into_iter().eq((0..120).map(htlc)));
        assert!(past.iter().eq((120..300).map(htlc)));
        past.push(&htlc(300));
        assert_eq!(past.take(1_000).len(), 181);
        assert!(past.is_empty() && past.iter().next().is_none() && past.take(1).is_empty());
    }
}
