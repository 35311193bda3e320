//! What a tower is given, sealed: blobs under a txid, everything else under a seed that only the blobs hold.
//!
//! In: bytes that nobody shall read before a breach. Out: bytes that anybody may keep. A tower sees a txid when the
//! commitment is published; of a channel on which nobody cheats it learns how many states and HTLCs it had, and when.
//! ChaCha20-Poly1305 with nonce zero: a key seals one message only. A blob's key comes from its commitment's txid and the mode,
//! and the blob follows from these alone; an entry's key comes from the channel's seed and the entry's name, and an HTLC
//! of a signed commitment never changes. What is sealed twice is the same both times.
//! Read next: `blob`.

use super::{ChannelTerms, EntryId, Hint, HtlcNote, Mode, Tag};
use crate::id::{HtlcId, Side};
use crate::noise::{decrypt, encrypt, Key, TAG_BYTES};
use crate::record;
use alloc::vec::Vec;
use bitcoin::hashes::Hash;
use bitcoin::Txid;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// From it come the keys of all that a channel's blobs refer to. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize)]
#[zeroize(drop)]
pub struct Seed(pub [u8; 32]);

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// A sealed blob and what it is found by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The number of the state, which orders a channel's states.
    pub number: u64,
    /// The first half of the txid.
    pub hint: Hint,
    /// The blob.
    pub blob: Vec<u8>,
}

/// Something that blobs refer to, sent once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// What it says.
    pub sealed: Vec<u8>,
}

/// Expands a secret for one use. The output is far below HKDF's limit, so that this cannot fail.
fn expand(secret: &[u8; 32], label: &[u8], what: &[u8], out: &mut [u8]) {
    if let Ok(kdf) = Hkdf::<Sha256>::from_prk(secret) {
        let _ = kdf.expand_multi_info(&[label, what], out);
    }
}

fn name_of(id: HtlcId) -> [u8; 9] {
    let mut name = [0; 9];
    name[0] = u8::from(id.offered_by == Side::Remote);
    name[1..].copy_from_slice(&id.id.to_be_bytes());
    name
}

impl Seed {
    /// Of the channel whose per-commitment secrets come from `shachain_seed`; that cannot be found from it.
    pub fn of(shachain_seed: &[u8; 32]) -> Seed {
        let mut seed = Seed([0; 32]);
        expand(shachain_seed, b"chand watchtower", b"seed", &mut seed.0);
        seed
    }

    /// The channel's name for towers trusted as `mode` says: what was sent for one mode is no beginning for the other.
    pub fn tag(&self, mode: Mode) -> Tag {
        let mut tag = Tag::default();
        expand(&self.0, b"tag", mode.name().as_bytes(), &mut tag);
        tag
    }

    fn id(&self, what: &[u8]) -> EntryId {
        let mut id = EntryId::default();
        expand(&self.0, b"id", what, &mut id);
        id
    }

    fn key(&self, what: &[u8]) -> Key {
        let mut key = Key::default();
        expand(&self.0, b"key", what, key.as_mut());
        key
    }

    fn entry(&self, what: &[u8], plain: Vec<u8>) -> Entry {
        Entry { id: self.id(what), sealed: seal(&self.key(what), plain) }
    }

    /// The channel's terms.
    pub fn terms_entry(&self, terms: &ChannelTerms) -> Entry {
        self.entry(b"terms", record::encode(terms))
    }

    /// One HTLC.
    pub fn htlc_entry(&self, htlc: &HtlcNote) -> Entry {
        self.entry(&name_of(htlc.id), record::encode(htlc))
    }

    /// Opens the terms; `find` knows entries by their names.
    pub fn open_terms(&self, find: &dyn Fn(&EntryId) -> Option<Vec<u8>>) -> Option<ChannelTerms> {
        let plain = open(&self.key(b"terms"), find(&self.id(b"terms"))?)?;
        record::decode(&plain).ok()
    }

    /// Opens an HTLC.
    pub fn open_htlc(&self, id: HtlcId, find: &dyn Fn(&EntryId) -> Option<Vec<u8>>) -> Option<HtlcNote> {
        let name = name_of(id);
        let plain = open(&self.key(&name), find(&self.id(&name))?)?;
        record::decode(&plain).ok().filter(|htlc: &HtlcNote| htlc.id == id)
    }
}

/// The key of the blob for a commitment. Half of the txid is known to the tower as its hint; the other 128 bits are not.
fn blob_key(txid: &Txid, mode: Mode) -> Key {
    let label: &[u8] = match mode {
        Mode::Key => b"chand watchtower blob: key",
        Mode::Presigned => b"chand watchtower blob: presigned",
    };
    let mut hash = Sha256::new();
    hash.update(txid.to_byte_array());
    hash.update(label);
    Zeroizing::new(hash.finalize().into())
}

/// Seals a blob for who will see `txid`.
pub fn seal_blob(txid: &Txid, mode: Mode, plain: Vec<u8>) -> Vec<u8> {
    seal(&blob_key(txid, mode), plain)
}

/// Opens a blob, of whichever mode; `None` for another txid, or what is no blob.
pub fn open_blob(txid: &Txid, sealed: &[u8]) -> Option<(Mode, Zeroizing<Vec<u8>>)> {
    [Mode::Key, Mode::Presigned]
        .into_iter()
        .find_map(|mode| Some((mode, open(&blob_key(txid, mode), sealed.to_vec())?)))
}

fn seal(key: &Key, plain: Vec<u8>) -> Vec<u8> {
    let mut bytes = plain;
    match encrypt(key, 0, &[], &mut bytes) {
        Ok(tag) => bytes.extend(tag),
        // Only a message of gigabytes is refused; nothing of it may leave.
        Err(_) => bytes.clear(),
    }
    bytes
}

fn open(key: &Key, mut sealed: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    let length = sealed.len().checked_sub(TAG_BYTES)?;
    let tag: [u8; TAG_BYTES] = sealed.get(length..)?.try_into().ok()?;
    sealed.truncate(length);
    decrypt(key, 0, &[], &mut sealed, &tag).ok()?;
    Some(Zeroizing::new(sealed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PaymentHash;
    use crate::units::Height;
    use alloc::collections::BTreeMap;

    fn txid(byte: u8) -> Txid {
        Txid::from_byte_array([byte; 32])
    }

    #[test]
    fn a_blob_opens_with_its_txid_and_no_other() {
        for mode in [Mode::Key, Mode::Presigned] {
            let sealed = seal_blob(&txid(1), mode, alloc::vec![7; 100]);
            assert_eq!(sealed.len(), 116);
            let (found, plain) = open_blob(&txid(1), &sealed).expect("its txid opens it");
            assert_eq!((found, plain.as_slice()), (mode, [7; 100].as_slice()));
            assert!(open_blob(&txid(2), &sealed).is_none());
            // The half that the tower knows is not enough.
            let mut half = [1; 32];
            half[16..].fill(0);
            assert!(open_blob(&Txid::from_byte_array(half), &sealed).is_none());
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(open_blob(&txid(1), &changed).is_none());
                assert!(open_blob(&txid(1), &sealed[..at]).is_none());
            }
        }
    }

    #[test]
    fn entries_open_with_their_channels_seed_and_by_their_name() {
        let note = |id| HtlcNote {
            id: HtlcId { offered_by: Side::Remote, id },
            payment_hash: PaymentHash([id as u8; 32]),
            cltv_expiry: Height(700_000),
        };
        let (seed, other) = (Seed::of(&[1; 32]), Seed::of(&[2; 32]));
        let kept: BTreeMap<EntryId, Vec<u8>> =
            (0..5).map(|id| seed.htlc_entry(&note(id))).map(|e| (e.id, e.sealed)).collect();
        let find = |id: &EntryId| kept.get(id).cloned();
        assert_eq!(kept.len(), 5);
        for id in 0..5 {
            assert_eq!(seed.open_htlc(note(id).id, &find), Some(note(id)));
            assert_eq!(other.open_htlc(note(id).id, &find), None);
            let local = HtlcId { offered_by: Side::Local, id };
            assert_eq!(seed.open_htlc(local, &find), None);
            // One entry in the place of another is noticed.
            let swapped = |_: &EntryId| Some(seed.htlc_entry(&note(id + 1)).sealed);
            assert_eq!(seed.open_htlc(note(id).id, &swapped), None);
        }
        assert_ne!(seed.tag(Mode::Key), other.tag(Mode::Key));
        assert_ne!(seed.tag(Mode::Key), seed.tag(Mode::Presigned));
        assert!(seed.0 != [1; 32] && seed.0 != other.0);
    }
}
