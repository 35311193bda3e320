//! Names of things: nodes, channels, payments, HTLCs, links, commands.
//!
//! In: bytes. Out: types that print as lower-case hex (or not at all, where they are secret).
//! An HTLC is named by (who offered it, its id), never by hash and amount: two may share both.
//! Read next: `chain`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// The text was not the hex of a value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the expected number of hex digits")]
pub struct BadHex;

/// Decodes lower- or upper-case hex into exactly `N` bytes.
///
/// # Errors
/// [`BadHex`] when the length or a digit is wrong.
pub fn hex_array<const N: usize>(text: &str) -> Result<[u8; N], BadHex> {
    let bytes = hex_bytes(text)?;
    bytes.try_into().map_err(|_| BadHex)
}

/// Decodes hex of any even length.
///
/// # Errors
/// [`BadHex`] when the length is odd or a digit is wrong.
pub fn hex_bytes(text: &str) -> Result<Vec<u8>, BadHex> {
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8).ok_or(BadHex);
    if !text.len().is_multiple_of(2) {
        return Err(BadHex);
    }
    text.as_bytes().chunks(2).map(|p| Ok(digit(p[0])? << 4 | digit(p[1])?)).collect()
}

/// Lower-case hex of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS[usize::from(n & 15)] as char;
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }
        impl FromStr for $name {
            type Err = BadHex;
            fn from_str(text: &str) -> Result<Self, BadHex> {
                Ok($name(hex_array(text)?))
            }
        }
    };
}

bytes32!(
    /// A channel's id, temporary or final (BOLT 2).
    ChannelId
);
bytes32!(
    /// SHA-256 of a payment preimage: the seed's hash of R.
    PaymentHash
);

macro_rules! secret32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        /// Never printed; wiped when dropped.
        #[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize)]
        #[zeroize(drop)]
        pub struct $name(pub [u8; 32]);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}

secret32!(
    /// The secret R whose hash locks an HTLC.
    Preimage
);
secret32!(
    /// The secret that an invoice hands its payer, so that nobody between can probe for the payee (BOLT 4).
    PaymentSecret
);

impl Preimage {
    /// The hash that this secret unlocks.
    pub fn hash(&self) -> PaymentHash {
        PaymentHash(sha256(&self.0))
    }
}

impl ChannelId {
    /// All zero: in `error` and `warning` it means every channel with that peer (BOLT 1).
    pub const ALL: ChannelId = ChannelId([0; 32]);

    /// The final id: the funding txid with its last two bytes mixed with the output index (BOLT 2).
    pub fn from_funding(outpoint: &bitcoin::OutPoint) -> ChannelId {
        // BOLT 2 [2.signed.2].
        let mut id: [u8; 32] = *AsRef::<[u8; 32]>::as_ref(&outpoint.txid);
        let vout = (outpoint.vout as u16).to_be_bytes();
        id[30] ^= vout[0];
        id[31] ^= vout[1];
        ChannelId(id)
    }
}

/// A node's public identity key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub PublicKey);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0.serialize()))
    }
}
impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for NodeId {
    type Err = BadHex;
    fn from_str(text: &str) -> Result<Self, BadHex> {
        let bytes: [u8; 33] = hex_array(text)?;
        PublicKey::from_slice(&bytes).map(NodeId).map_err(|_| BadHex)
    }
}

/// Block, transaction and output of a funding output, packed as BOLT 7 packs them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ShortChannelId(pub u64);

impl ShortChannelId {
    /// Packs the three parts, or `None` when one is too large.
    pub fn new(block: u32, tx_index: u32, vout: u32) -> Option<ShortChannelId> {
        (block < 1 << 24 && tx_index < 1 << 24 && vout < 1 << 16)
            .then(|| ShortChannelId(u64::from(block) << 40 | u64::from(tx_index) << 16 | u64::from(vout)))
    }
}
impl fmt::Display for ShortChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.0 >> 40, (self.0 >> 16) & 0xff_ffff, self.0 & 0xffff)
    }
}
impl FromStr for ShortChannelId {
    type Err = BadHex;
    fn from_str(text: &str) -> Result<Self, BadHex> {
        let mut parts = text.split('x').map(|p| p.parse::<u32>().map_err(|_| BadHex));
        let mut next = || parts.next().unwrap_or(Err(BadHex));
        let (block, tx, out) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(BadHex);
        }
        ShortChannelId::new(block, tx, out).ok_or(BadHex)
    }
}

/// One of the two ends of a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Side {
    /// This node.
    Local,
    /// Its peer.
    Remote,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Side {
        match self {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        }
    }
}

/// An HTLC's name inside one channel: who offered it, and that side's running number (BOLT 2 `id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct HtlcId {
    /// Who offered it.
    pub offered_by: Side,
    /// The running number of the side that offered it.
    pub id: u64,
}

/// One connection to a peer; a new one after each reconnection, so that a late message of an old one is told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// A question asked through a control socket, to be answered once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommandId(pub u64);
