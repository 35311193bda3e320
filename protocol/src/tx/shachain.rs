//! Per-commitment secrets: made from a seed, and the peer's kept in 49 slots (BOLT 3, "Efficient Per-commitment Secret Storage").
//!
//! In: secrets in the order the peer reveals them. Out: any of them again, and a refusal when one does not fit the rest.
//! Commitments are numbered up from 0 here; the specification's index is 2^48 - 1 - number.
//! Read next: `keys`.

use crate::id::sha256;
use core::fmt;
use secp256k1::SecretKey;
use zeroize::{Zeroize, Zeroizing};

/// The largest commitment number, and the index of the first secret (BOLT 3).
pub const MAX_INDEX: u64 = (1 << 48) - 1;
/// How many secrets suffice to have them all.
pub const SLOTS: usize = 49;

/// The secret does not follow from the same seed as the others, or comes out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the per-commitment secret does not fit the earlier ones")]
pub struct BadSecret;

/// The specification's index of commitment `number`; `None` beyond 2^48 - 1.
pub const fn index_of(number: u64) -> Option<u64> {
    // BOLT 3 [3.secret.3].
    MAX_INDEX.checked_sub(number)
}

/// The secret at `index` of the chain that grows from `seed` (BOLT 3 `generate_from_seed`).
pub fn generate(seed: &[u8; 32], index: u64) -> [u8; 32] {
    // BOLT 3 [3.secret.4].
    derive(seed, 48, index)
}

/// Walks from a secret whose lowest `bits` index bits are zero to the one at `index` (BOLT 3 `derive_secret`).
fn derive(base: &[u8; 32], bits: u32, index: u64) -> [u8; 32] {
    let mut secret = Zeroizing::new(*base);
    for bit in (0..bits.min(48)).rev() {
        if index >> bit & 1 == 1 {
            secret[(bit / 8) as usize] ^= 1 << (bit % 8);
            *secret = sha256(&*secret);
        }
    }
    *secret
}

/// The slot of the secret at `index`: the number of its trailing zero bits (BOLT 3 `where_to_put_secret`).
const fn slot_of(index: u64) -> u32 {
    if index == 0 {
        48
    } else {
        index.trailing_zeros()
    }
}

/// Whether the secret at `index`, in `slot`, leads to the one at `wanted`.
const fn leads_to(slot: u32, index: u64, wanted: u64) -> bool {
    wanted >> slot == index >> slot
}

#[derive(Clone, PartialEq, Eq)]
struct Known {
    index: u64,
    secret: [u8; 32],
}

impl Drop for Known {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// All secrets the peer has revealed, in at most 49 of them; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretStore {
    slots: [Option<Known>; SLOTS],
}

impl Default for SecretStore {
    fn default() -> Self {
        SecretStore { slots: [const { None }; SLOTS] }
    }
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretStore({} revealed)", self.count())
    }
}

impl SecretStore {
    /// None revealed yet.
    pub fn new() -> SecretStore {
        SecretStore::default()
    }

    /// How many commitments have been given up: the number whose secret comes next.
    pub fn count(&self) -> u64 {
        let lowest = self.slots.iter().flatten().map(|known| known.index).min();
        lowest.map_or(0, |index| (MAX_INDEX - index).saturating_add(1))
    }

    /// Keeps the secret of commitment `number`, which must be the next one, or one known already and equal.
    /// Gives the slot to save.
    ///
    /// # Errors
    /// [`BadSecret`] when it comes out of turn or an earlier secret does not follow from it: the peer cheats
    /// (BOLT 2: on `revoke_and_ack`, such a secret MAY fail the channel).
    pub fn insert(&mut self, number: u64, secret: &SecretKey) -> Result<u8, BadSecret> {
        let index = index_of(number).ok_or(BadSecret)?;
        let slot = slot_of(index);
        let bytes = Zeroizing::new(secret.secret_bytes());
        if number < self.count() {
            let known = self.find(index).map(Zeroizing::new);
            return if known == Some(bytes) { Ok(slot as u8) } else { Err(BadSecret) };
        }
        if number != self.count() {
            return Err(BadSecret);
        }
        let (below, from_here) = self.slots.split_at_mut(slot as usize);
        for known in below.iter() {
            let known = known.as_ref().ok_or(BadSecret)?;
            if derive(&bytes, slot, known.index) != known.secret {
                return Err(BadSecret);
            }
        }
        let place = from_here.first_mut().ok_or(BadSecret)?;
        *place = Some(Known { index, secret: *bytes });
        Ok(slot as u8)
    }

    /// The secret of commitment `number`; `None` when it was not revealed (BOLT 3 `derive_old_secret`).
    pub fn get(&self, number: u64) -> Option<SecretKey> {
        let secret = Zeroizing::new(self.find(index_of(number)?)?);
        SecretKey::from_slice(&*secret).ok()
    }

    fn find(&self, index: u64) -> Option<[u8; 32]> {
        self.slots.iter().zip(0..).find_map(|(known, slot)| {
            let known = known.as_ref()?;
            leads_to(slot, known.index, index).then(|| derive(&known.secret, slot, index))
        })
    }

    /// What slot `slot` holds: the specification's index and the secret. For saving.
    pub fn slot(&self, slot: u8) -> Option<(u64, Zeroizing<[u8; 32]>)> {
        let known = self.slots.get(usize::from(slot))?.as_ref()?;
        Some((known.index, Zeroizing::new(known.secret)))
    }

    /// Puts back what [`SecretStore::slot`] gave. Call [`SecretStore::check`] after the last one.
    ///
    /// # Errors
    /// [`BadSecret`] when that index does not belong into that slot.
    pub fn set_slot(&mut self, slot: u8, index: u64, secret: &[u8; 32]) -> Result<(), BadSecret> {
        if index > MAX_INDEX || slot_of(index) != u32::from(slot) {
            return Err(BadSecret);
        }
        let place = self.slots.get_mut(usize::from(slot)).ok_or(BadSecret)?;
        *place = Some(Known { index, secret: *secret });
        Ok(())
    }

    /// Whether slots that were put back agree and none is missing.
    ///
    /// # Errors
    /// [`BadSecret`] when some revealed secret could not be found, or two slots contradict each other.
    pub fn check(&self) -> Result<(), BadSecret> {
        let count = self.count();
        for (slot, place) in (0u32..).zip(&self.slots) {
            // Slot b is filled first when index MAX - (2^b - 1) arrives; its newest index is the last such one.
            let newest = (1u64 << slot).checked_sub(1).and_then(|first| newest_in(slot, first, count));
            if place.as_ref().map(|known| known.index) != newest {
                return Err(BadSecret);
            }
        }
        let all = || self.slots.iter().flatten();
        for (slot, known) in (0u32..).zip(&self.slots) {
            let Some(known) = known else { continue };
            let follows = |low: &&Known| low.index > known.index && leads_to(slot, known.index, low.index);
            if all().filter(follows).any(|low| derive(&known.secret, slot, low.index) != low.secret) {
                return Err(BadSecret);
            }
        }
        Ok(())
    }
}

/// The newest index that slot `slot` holds after `count` secrets, the first at number `first`; `None` when still empty.
fn newest_in(slot: u32, first: u64, count: u64) -> Option<u64> {
    let last = count.checked_sub(1)?;
    let since = last.checked_sub(first)?;
    // Slot b is written at every second multiple of 2^b; slot 48 only at the very last index.
    let step = 1u64 << (slot + 1);
    index_of(first + since / step * step)
}
