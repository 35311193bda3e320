//! Keys of the commitments that come next, derived ahead of need.
//!
//! In: the points of both sides. Out: the keys in a commitment's scripts, from here when they were prepared, derived on
//! the spot when not: the result is the same. A lone payment waits for them otherwise, and they are most of its
//! arithmetic. Only public keys live here. Read next: `commit`.

use crate::channel::{key_fault, Channel};
use crate::fault::LocalFault;
use crate::id::Side;
use crate::sign::Crypto;
use crate::tx::keys::CommitmentKeys;
use alloc::vec::Vec;
use secp256k1::PublicKey;

/// What was prepared; empty after a start. Never a record.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// Our points, with their numbers: the newest commitment's and the two after it.
    points: Vec<(u64, PublicKey)>,
    /// Keys of the commitment that each side gets next.
    keys: Vec<(Side, CommitmentKeys)>,
}

impl KeyRing {
    fn point(&self, number: u64) -> Option<PublicKey> {
        self.points.iter().find(|(n, _)| *n == number).map(|(_, point)| *point)
    }

    fn keys(&self, owner: Side, point: &PublicKey) -> Option<CommitmentKeys> {
        let found =
            self.keys.iter().find(|(side, keys)| *side == owner && keys.per_commitment_point == *point);
        found.map(|(_, keys)| keys.clone())
    }
}

impl Channel {
    /// Our point of commitment `number`.
    ///
    /// # Errors
    /// [`LocalFault`] beyond the last number.
    pub(crate) fn local_point(&self, number: u64, crypto: &dyn Crypto) -> Result<PublicKey, LocalFault> {
        match self.keyring.point(number) {
            Some(point) => Ok(point),
            None => self.secrets.per_commitment_point(crypto, number).map_err(key_fault),
        }
    }

    /// The keys of `owner`'s commitment at `point`.
    ///
    /// # Errors
    /// [`LocalFault`] with a chance of 2^-128.
    pub(crate) fn commitment_keys(
        &self,
        owner: Side,
        point: &PublicKey,
        crypto: &dyn Crypto,
    ) -> Result<CommitmentKeys, LocalFault> {
        if let Some(keys) = self.keyring.keys(owner, point) {
            return Ok(keys);
        }
        let (own, other) = (self.terms.party(owner), self.terms.party(owner.other()));
        crypto.commitment_keys(&own.basepoints, &other.basepoints, point).map_err(key_fault)
    }

    /// Derives what the next commitments of both sides will need. Changes no answer, only when the work is done.
    pub(crate) fn prepare_keys(&mut self, crypto: &dyn Crypto) {
        if !self.wants_link() {
            self.keyring = KeyRing::default();
            return;
        }
        let first = self.commits.local_number;
        let mut next = KeyRing::default();
        // A key that cannot be derived is a fault where it is used, not here.
        for number in first..first.saturating_add(3) {
            next.points.extend(self.local_point(number, crypto).ok().map(|point| (number, point)));
        }
        let ours = next.point(first.saturating_add(1)).map(|point| (Side::Local, point));
        let theirs = self.commits.remote_next_point.map(|point| (Side::Remote, point));
        for (owner, point) in [ours, theirs].into_iter().flatten() {
            next.keys.extend(self.commitment_keys(owner, &point, crypto).ok().map(|keys| (owner, keys)));
        }
        self.keyring = next;
    }
}
