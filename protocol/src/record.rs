//! Everything that is ever kept: its keys, its encoding, its version.
//!
//! In: a value that serde can take apart. Out: one version byte and bincode, with a limit when read back.
//! A key is one letter for the kind, then the names it belongs to, big-endian, so that one channel's records lie
//! together. Read next: `channel::save`, `node::restore`.

use crate::id::{ChannelId, HtlcId, NodeId, PaymentHash, Side};
use crate::store::Change;
use crate::units::Height;
use alloc::vec::Vec;
use serde::de::DeserializeOwned;
use serde::Serialize;

/// The version every record is written with today.
pub const VERSION: u8 = 1;
/// No record is larger when decoded: what the stores take, so that whatever was kept can be read back.
const MAX_BYTES: usize = 16 << 20;

/// A record's kind: the first byte of its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A peer's last known address.
    Peer = b'a',
    /// What a channel agreed on at its start.
    Terms = b'c',
    /// The funding transaction of an unconfirmed channel that we opened.
    FundingTx = b'f',
    /// The signatures on our newest commitment.
    Signatures = b'g',
    /// A pending HTLC.
    Htlc = b'h',
    /// An invoice of ours.
    Invoice = b'i',
    /// A secret the peer revealed, by shachain slot.
    Secret = b'k',
    /// Counters of the node.
    Counters = b'm',
    /// A signed snapshot.
    Snapshot = b'n',
    /// The onion of a pending HTLC.
    Onion = b'o',
    /// A forgotten HTLC: what a penalty would need to know.
    Past = b'p',
    /// A funding transaction built for a channel that does not exist yet.
    Reserved = b'r',
    /// What changes in a channel.
    State = b's',
    /// A block of the followed chain.
    Block = b't',
    /// A published commitment that is watched.
    Watch = b'v',
    /// Why a channel closed, and how its state changed.
    Annals = b'q',
    /// A change of the on-chain wallet.
    Wallet = b'w',
    /// A closed channel.
    ClosedChannel = b'x',
    /// A payment of ours.
    Payment = b'y',
    /// A channel is watched by towers, and how much of it they have.
    TowerMark = b'u',
    /// What towers are to know of one commitment of the peer's.
    TowerNote = b'e',
    /// An HTLC that went on through us.
    Forward = b'j',
    /// What the network is told of a channel.
    Announce = b'd',
    /// When we last told the network who we are.
    NodeAnnounced = b'z',
    /// What both ends of a channel call it.
    Aliases = b'l',
    /// What runes are made with, and which are refused.
    Runes = b'R',
    /// A rune that was made here.
    Rune = b'U',
    /// What was spent of a budget.
    Account = b'B',
    /// That this node was made from words.
    Recovered = b'b',
    /// What is kept for a peer.
    PeerBlob = b'K',
}

impl Kind {
    /// The kind of a key, or `None` when no version of chand wrote such a key.
    pub fn of(key: &[u8]) -> Option<Kind> {
        use Kind::*;
        let all = [
            Peer,
            Terms,
            FundingTx,
            Signatures,
            Htlc,
            Invoice,
            Secret,
            Counters,
            Snapshot,
            Onion,
            Past,
            Reserved,
            State,
            Block,
            Watch,
            Annals,
            Wallet,
            ClosedChannel,
            Payment,
            TowerMark,
            TowerNote,
            Forward,
            Announce,
            NodeAnnounced,
            Aliases,
            Runes,
            Rune,
            Account,
            Recovered,
            PeerBlob,
        ];
        let first = *key.first()?;
        all.into_iter().find(|k| *k as u8 == first)
    }
}

/// A record that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Written by a later version of chand.
    #[error("written by a newer version of chand (record version {0}): upgrade, or use the newer one")]
    Newer(u8),
    /// Not what was written.
    #[error("damaged: it cannot be decoded")]
    Damaged,
    /// A record that must be there is not, or two contradict each other.
    #[error("inconsistent: {0}")]
    Inconsistent(&'static str),
    /// A key of no known kind.
    #[error("of an unknown kind")]
    UnknownKind,
}

/// Encodes a value with its version. A type of ours always encodes; should one not, the record is empty and is
/// refused when read back.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = alloc::vec![VERSION];
    match bincode::serde::encode_to_vec(value, bincode::config::standard()) {
        Ok(body) => bytes.extend(body),
        Err(_) => bytes.clear(),
    }
    bytes
}

/// Decodes what `encode` wrote.
///
/// # Errors
/// [`BadRecord`] when the version is newer, bytes are missing or left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRecord> {
    let (version, body) = bytes.split_first().ok_or(BadRecord::Damaged)?;
    if *version > VERSION {
        return Err(BadRecord::Newer(*version));
    }
    if *version != VERSION {
        return Err(BadRecord::Damaged);
    }
    let config = bincode::config::standard().with_limit::<MAX_BYTES>();
    match bincode::serde::decode_from_slice(body, config) {
        Ok((value, used)) if used == body.len() => Ok(value),
        _ => Err(BadRecord::Damaged),
    }
}

/// Decodes a record, also one from before fields were added at its end: `tail` is what it lacks.
///
/// # Errors
/// [`BadRecord`] when neither is what was written.
pub fn decode_grown<T: DeserializeOwned, U: Serialize>(bytes: &[u8], tail: &U) -> Result<T, BadRecord> {
    decode(bytes).or_else(|why| {
        let tail = encode(tail);
        let rest = tail.get(1..).unwrap_or_default();
        decode(&[bytes, rest].concat()).map_err(|_| why)
    })
}

/// A change that keeps `value`.
pub fn put<T: Serialize>(key: Vec<u8>, value: &T) -> Change {
    Change::Put { key, value: encode(value) }
}

fn key(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = alloc::vec![kind as u8];
    parts.iter().for_each(|p| out.extend_from_slice(p));
    out
}

/// The key of a record of which a channel has one.
pub fn channel_key(kind: Kind, id: &ChannelId) -> Vec<u8> {
    key(kind, &[&id.0])
}

/// The key of a record of which a channel has many, by number.
pub fn numbered_key(kind: Kind, id: &ChannelId, number: u64) -> Vec<u8> {
    key(kind, &[&id.0, &number.to_be_bytes()])
}

/// The key of a record about one HTLC.
pub fn htlc_key(kind: Kind, channel: &ChannelId, id: HtlcId) -> Vec<u8> {
    let side = match id.offered_by {
        Side::Local => 0u8,
        Side::Remote => 1,
    };
    key(kind, &[&channel.0, &[side], &id.id.to_be_bytes()])
}

/// The key of a peer's address.
pub fn peer_key(peer: &NodeId) -> Vec<u8> {
    key(Kind::Peer, &[&peer.0.serialize()])
}

/// The key of a payment.
pub fn payment_key(hash: &PaymentHash) -> Vec<u8> {
    key(Kind::Payment, &[&hash.0])
}

/// The key of a forward, by the HTLC that came in.
pub fn forward_key(channel: &ChannelId, htlc: u64) -> Vec<u8> {
    key(Kind::Forward, &[&channel.0, &htlc.to_be_bytes()])
}

/// The key of an invoice.
pub fn invoice_key(hash: &PaymentHash) -> Vec<u8> {
    key(Kind::Invoice, &[&hash.0])
}

/// The key of a followed block.
pub fn block_key(height: Height) -> Vec<u8> {
    key(Kind::Block, &[&height.0.to_be_bytes()])
}

/// The key of the node's counters.
pub fn counters_key() -> Vec<u8> {
    key(Kind::Counters, &[])
}

/// The key of what runes are made with.
pub fn runes_key() -> Vec<u8> {
    key(Kind::Runes, &[])
}

/// The key of the rune of this number.
pub fn rune_key(id: u64) -> Vec<u8> {
    key(Kind::Rune, &[&id.to_be_bytes()])
}

/// The key of a budget's account.
pub fn account_key(account: &[u8; 32]) -> Vec<u8> {
    key(Kind::Account, &[account])
}

/// The key of when we last told who we are.
pub fn node_announced_key() -> Vec<u8> {
    key(Kind::NodeAnnounced, &[])
}

/// The key of what is kept for a peer.
pub fn peer_blob_key(peer: &NodeId) -> Vec<u8> {
    key(Kind::PeerBlob, &[&peer.0.serialize()])
}

/// The key of what tells that this node was made from words.
pub fn recovered_key() -> Vec<u8> {
    key(Kind::Recovered, &[])
}

/// The key of the wallet's change `number`.
pub fn wallet_key(number: u64) -> Vec<u8> {
    key(Kind::Wallet, &[&number.to_be_bytes()])
}

/// The channel id in a key that has one.
pub fn channel_of(key: &[u8]) -> Option<ChannelId> {
    Some(ChannelId(key.get(1..33)?.try_into().ok()?))
}

/// The number at the end of a key.
pub fn number_of(key: &[u8]) -> Option<u64> {
    let from = key.len().checked_sub(8)?;
    Some(u64::from_be_bytes(key.get(from..)?.try_into().ok()?))
}

/// The HTLC's name in a key that has one.
pub fn htlc_of(key: &[u8]) -> Option<HtlcId> {
    let offered_by = match key.get(33)? {
        0 => Side::Local,
        1 => Side::Remote,
        _ => return None,
    };
    Some(HtlcId { offered_by, id: u64::from_be_bytes(key.get(34..42)?.try_into().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_newer_or_damaged_one_is_refused() {
        let value = (7u64, alloc::string::String::from("Alice"));
        let bytes = encode(&value);
        assert_eq!(decode::<(u64, alloc::string::String)>(&bytes), Ok(value));
        let mut newer = bytes.clone();
        newer[0] = VERSION + 1;
        assert_eq!(decode::<(u64, alloc::string::String)>(&newer), Err(BadRecord::Newer(VERSION + 1)));
        for cut in 0..bytes.len() {
            assert_eq!(decode::<(u64, alloc::string::String)>(&bytes[..cut]), Err(BadRecord::Damaged));
        }
        let mut long = bytes;
        long.push(0);
        assert_eq!(decode::<(u64, alloc::string::String)>(&long), Err(BadRecord::Damaged));
    }

    #[test]
    fn a_record_from_before_a_field_was_added_is_read_with_its_default() {
        let old = encode(&(7u64, 8u8));
        assert_eq!(decode_grown::<(u64, u8, u32), _>(&old, &9u32), Ok((7, 8, 9)));
        let new = encode(&(7u64, 8u8, 1u32));
        assert_eq!(decode_grown::<(u64, u8, u32), _>(&new, &9u32), Ok((7, 8, 1)));
        assert_eq!(decode_grown::<(u64, u8, u32), _>(&old[..1], &9u32), Err(BadRecord::Damaged));
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        let bytes = [VERSION, 253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(decode::<Vec<u8>>(&bytes), Err(BadRecord::Damaged));
    }

    #[test]
    fn keys_tell_what_they_are_about() {
        let channel = ChannelId([9; 32]);
        let id = HtlcId { offered_by: Side::Remote, id: 77 };
        let key = htlc_key(Kind::Htlc, &channel, id);
        assert_eq!(
            (Kind::of(&key), channel_of(&key), htlc_of(&key)),
            (Some(Kind::Htlc), Some(channel), Some(id))
        );
        assert_eq!(number_of(&numbered_key(Kind::Snapshot, &channel, 5)), Some(5));
        assert_eq!(Kind::of(b"?"), None);
    }
}
