//! The channel backup: what of each channel, beside the seed, gives its money back through the peer's close.
//!
//! In: the fixed facts of channels. Out: one sealed piece of bytes that may lie anywhere, and the same read back, or in
//! words why not. It holds no balance and no commitment: an old one is no danger, it only lacks the newest channels.
//! Sealed with ChaCha20-Poly1305 under keys that follow from the seed and from what is sealed, so that no nonce can repeat.
//! ```text
//! "CHANDBAK" · version (1) · whose (8) · bytes that follow the salt (4) · salt (16) · sealed · tag (16)
//! ```
//! Read next: `channel::lost` (what a channel is made from), `node::lost` (when one is made).

use crate::channel::{Channel, Confirmed};
use crate::id::{ChannelId, NodeId, Side};
use crate::noise::{decrypt, encrypt, Key, TAG_BYTES};
use crate::record;
use crate::tx::keys::Basepoints;
use crate::tx::ChannelType;
use crate::units::{Height, Sat, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::OutPoint;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

const MAGIC: &[u8; 8] = b"CHANDBAK";
/// The form of a backup that is made today.
pub const VERSION: u8 = 1;
const WHOSE_AT: usize = MAGIC.len() + 1;
const LENGTH_AT: usize = WHOSE_AT + 8;
const SALT_AT: usize = LENGTH_AT + 4;
const SEALED_AT: usize = SALT_AT + 16;
/// Nothing larger is read: room for more channels than a node has.
pub const MAX_BYTES: usize = 16 << 20;
/// No address of a peer is longer.
const MAX_ADDRESS_BYTES: usize = 300;

/// One channel, as far as its money depends on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Its id.
    pub channel_id: ChannelId,
    /// With whom.
    pub peer: NodeId,
    /// Where the peer was reached last, `host:port`.
    pub address: Option<String>,
    /// Our keys for it are derived from this number.
    pub key_index: u64,
    /// Who opened.
    pub opener: Side,
    /// The form of its transactions.
    pub channel_type: ChannelType,
    /// `option_scid_alias` is part of its type.
    pub scid_alias: bool,
    /// The output that holds the money.
    pub funding: OutPoint,
    /// How much it holds.
    pub capacity: Sat,
    /// The funding transaction's place on chain, if it was in a block by then.
    pub confirmed: Option<Confirmed>,
    /// How many blocks the peer waits for its money when it closes, and how many we wait when we do.
    pub delays: (u16, u16),
    /// The peer's keys.
    pub remote: Basepoints,
}

impl Kept {
    /// Of a channel whose peer was last seen at `address`.
    pub fn of(channel: &Channel, address: Option<&String>) -> Kept {
        let terms = &channel.terms;
        Kept {
            channel_id: terms.channel_id,
            peer: terms.peer,
            address: address.filter(|a| a.len() <= MAX_ADDRESS_BYTES).cloned(),
            key_index: terms.key_index,
            opener: terms.opener,
            channel_type: terms.channel_type,
            scid_alias: terms.scid_alias,
            funding: terms.funding,
            capacity: terms.capacity,
            confirmed: channel.confirmed,
            delays: (terms.local.to_self_delay, terms.remote.to_self_delay),
            remote: terms.remote.basepoints.clone(),
        }
    }

    /// The block from which on the chain has to be read for it.
    pub fn first_block(&self) -> Height {
        self.confirmed.map_or(Height(0), |place| place.height)
    }
}

/// Everything in one backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Backup {
    /// Whose.
    pub node: NodeId,
    /// When it was made, by that node's clock: of two the later one is newer.
    pub made_at: Timestamp,
    /// Every channel with money in it.
    pub channels: Vec<Kept>,
}

/// Why bytes are no backup that can be used. Holds nothing of what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BackupFault {
    /// It begins otherwise.
    #[error("this is no channel backup of chand")]
    NotOne,
    /// It ends too soon.
    #[error("it is cut short: {have} bytes instead of {want}; look for a whole copy")]
    Truncated {
        /// How many there are.
        have: usize,
        /// How many there were.
        want: usize,
    },
    /// Something stands behind it.
    #[error("{more} bytes too many stand at its end: it is not as it was written")]
    TooLong {
        /// How many.
        more: usize,
    },
    /// Another seed made it, or the same seed on another network.
    #[error("it belongs to another seed, or to another network: these words do not open it")]
    Foreign,
    /// It was changed.
    #[error("it was changed since it was written, or damaged: nothing of it can be believed; look for another copy")]
    Changed,
    /// A later version made it.
    #[error("it was made by a newer chand (backup version {0}): use that one")]
    Newer(u8),
}

/// What seals and opens backups of one seed on one network. Wiped when dropped, never printed.
#[derive(Clone, Zeroize)]
#[zeroize(drop)]
pub struct BackupKey(pub(crate) [u8; 32]);

impl core::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BackupKey(secret)")
    }
}

impl BackupKey {
    fn expand(&self, label: &[u8], what: &[u8], out: &mut [u8]) {
        if let Ok(kdf) = Hkdf::<Sha256>::from_prk(&self.0) {
            // Fails only for outputs above 8,160 bytes.
            let _ = kdf.expand_multi_info(&[label, what], out);
        }
    }

    fn whose(&self) -> [u8; 8] {
        let mut whose = [0; 8];
        self.expand(b"whose", &[], &mut whose);
        whose
    }

    /// Seals `backup`; `fill` makes all of it at least so many bytes long, so that its length tells nothing.
    pub fn seal(&self, backup: &Backup, fill: usize) -> Vec<u8> {
        let plain = record::encode(backup);
        let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        let mut body = length.to_be_bytes().to_vec();
        body.extend_from_slice(&plain);
        body.resize(body.len().max(fill.saturating_sub(SEALED_AT + TAG_BYTES)), 0);
        let mut salt = [0u8; 16];
        self.expand(b"salt", &Sha256::digest(&body), &mut salt);
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.extend_from_slice(&self.whose());
        let follows = u32::try_from(body.len() + TAG_BYTES).unwrap_or(u32::MAX);
        out.extend_from_slice(&follows.to_be_bytes());
        out.extend_from_slice(&salt);
        let mut key = Key::default();
        self.expand(b"key", &salt, key.as_mut());
        // Fails only above 256 GB.
        if let Ok(tag) = encrypt(&key, 0, &out, &mut body) {
            out.extend_from_slice(&body);
            out.extend_from_slice(&tag);
        }
        body.zeroize();
        out
    }

    /// Opens what `seal` made.
    ///
    /// # Errors
    /// [`BackupFault`], in words for whoever brought it.
    pub fn open(&self, bytes: &[u8]) -> Result<Backup, BackupFault> {
        use BackupFault::{Changed, Foreign, Newer, NotOne, TooLong, Truncated};
        let begun = bytes.get(..MAGIC.len()).unwrap_or(bytes);
        if bytes.is_empty() || !MAGIC.starts_with(begun) {
            return Err(NotOne);
        }
        let version = bytes.get(MAGIC.len()).copied().unwrap_or(VERSION);
        if version > VERSION {
            return Err(Newer(version));
        }
        if version != VERSION {
            return Err(Changed);
        }
        let short = Truncated { have: bytes.len(), want: SEALED_AT + TAG_BYTES };
        let whose = bytes.get(WHOSE_AT..LENGTH_AT).ok_or(short)?;
        let header = bytes.get(..SEALED_AT).ok_or(short)?;
        if whose != self.whose() {
            return Err(Foreign);
        }
        let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        let follows = usize::try_from(word(LENGTH_AT).ok_or(short)?).unwrap_or(usize::MAX);
        let want = SEALED_AT.saturating_add(follows);
        // A length that was changed is no reason to wait for more.
        if want > MAX_BYTES {
            return Err(Changed);
        }
        match bytes.len() {
            have if have < want => return Err(Truncated { have, want }),
            have if have > want => return Err(TooLong { more: have - want }),
            _ => {}
        }
        let at = follows.checked_sub(TAG_BYTES).ok_or(Changed)?;
        let sealed = bytes.get(SEALED_AT..).ok_or(short)?;
        let (body, tag) = sealed.split_at_checked(at).ok_or(Changed)?;
        let tag = <[u8; TAG_BYTES]>::try_from(tag).map_err(|_| Changed)?;
        let mut key = Key::default();
        self.expand(b"key", header.get(SALT_AT..).ok_or(Changed)?, key.as_mut());
        let mut body = body.to_vec();
        decrypt(&key, 0, header, &mut body, &tag).map_err(|_| Changed)?;
        let length = body.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or(Changed)?;
        let plain = usize::try_from(length).ok().and_then(|n| body.get(4..4usize.checked_add(n)?));
        match record::decode(plain.ok_or(Changed)?) {
            Ok(backup) => Ok(backup),
            Err(record::BadRecord::Newer(version)) => Err(Newer(version)),
            Err(_) => Err(Changed),
        }
    }

    /// The same for a place that has no more than `most` bytes: of more channels than fit, those with the most money.
    pub fn seal_within(&self, backup: &Backup, most: usize) -> Vec<u8> {
        let mut backup = backup.clone();
        backup.channels.sort_by_key(|kept| core::cmp::Reverse(kept.capacity));
        loop {
            let sealed = self.seal(&backup, most);
            if sealed.len() <= most || backup.channels.is_empty() {
                return sealed;
            }
            let over = sealed.len() - most;
            // Each is above 256 bytes; what is left over is cut in the next round.
            let gone = (over / 512).max(1);
            backup.channels.truncate(backup.channels.len().saturating_sub(gone));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Network;
    use crate::keys::NodeKeys;
    use crate::sign::{Crypto as _, RealCrypto};
    use alloc::string::ToString;

    fn key(seed: u8, network: Network) -> BackupKey {
        NodeKeys::from_seed(&[seed; 64], network).backup_key()
    }

    fn kept(index: u64) -> Kept {
        let crypto = RealCrypto::new();
        let keys = NodeKeys::from_seed(&[9; 64], Network::Regtest);
        Kept {
            channel_id: ChannelId([index as u8; 32]),
            peer: keys.node_id(crypto.secp()),
            address: Some("127.0.0.1:9735".into()),
            key_index: index,
            opener: Side::Local,
            channel_type: ChannelType::Anchors,
            scid_alias: true,
            funding: OutPoint::default(),
            capacity: Sat(100_000 + index),
            confirmed: Some(Confirmed { height: Height(7), tx_index: 1 }),
            delays: (6, 144),
            remote: keys.channel_secrets(index).basepoints(crypto.secp()),
        }
    }

    fn backup(channels: u64) -> Backup {
        let node = kept(1).peer;
        Backup { node, made_at: Timestamp(1_700_000_000_000), channels: (0..channels).map(kept).collect() }
    }

    #[test]
    fn a_backup_comes_back_and_nobody_else_opens_it() {
        let (mine, whole) = (key(1, Network::Regtest), backup(3));
        let sealed = mine.seal(&whole, 0);
        assert_eq!(mine.open(&sealed), Ok(whole.clone()));
        // What is sealed twice is the same both times, and what differs shares no key.
        assert_eq!(mine.seal(&whole, 0), sealed);
        let other = mine.seal(&Backup { made_at: Timestamp(1), ..whole.clone() }, 0);
        assert_ne!(other.get(SALT_AT..SEALED_AT), sealed.get(SALT_AT..SEALED_AT));
        for foreign in [key(2, Network::Regtest), key(1, Network::Bitcoin)] {
            assert_eq!(foreign.open(&sealed), Err(BackupFault::Foreign));
        }
        assert_eq!(mine.open(&mine.seal(&whole, 9_000)), Ok(whole));
        assert_eq!(mine.seal(&backup(0), 9_000).len(), 9_000);
    }

    #[test]
    fn whatever_is_changed_is_refused_in_words() {
        let mine = key(1, Network::Regtest);
        let sealed = mine.seal(&backup(2), 0);
        for cut in 0..sealed.len() {
            let fault = mine.open(&sealed[..cut]).expect_err("cut");
            let right = matches!(fault, BackupFault::Truncated { have, .. } if have == cut);
            assert!(right || (cut == 0 && fault == BackupFault::NotOne), "{cut}: {fault}");
        }
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 0x20;
            let words = mine.open(&bent).expect_err("changed").to_string();
            assert!(!words.is_empty(), "{at}");
        }
        let long = [&sealed[..], &[0]].concat();
        assert_eq!(mine.open(&long), Err(BackupFault::TooLong { more: 1 }));
        assert_eq!(mine.open(b"# The seed of"), Err(BackupFault::NotOne));
        let mut newer = sealed;
        newer[MAGIC.len()] = 9;
        assert_eq!(mine.open(&newer), Err(BackupFault::Newer(9)));
    }

    #[test]
    fn where_there_is_little_room_the_channels_with_most_money_are_kept() {
        let mine = key(1, Network::Regtest);
        let sealed = mine.seal_within(&backup(40), 4_000);
        assert_eq!(sealed.len(), 4_000);
        let found = mine.open(&sealed).expect("opens").channels;
        let indexes: Vec<u64> = found.iter().map(|kept| kept.key_index).collect();
        let most: Vec<u64> = (0..40).rev().take(found.len()).collect();
        assert!(found.len() > 8, "{}", found.len());
        assert_eq!(indexes, most);
    }
}
