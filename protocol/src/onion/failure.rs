//! What can go wrong at a hop, by BOLT 4's names, codes and fields.
//!
//! In: a [`Failure`] we raise, or the bytes of one that was opened. Out: the bytes, or the failure.
//! A message that is not what its code promises is kept as [`Failure::Other`]: its flags still guide the payer.
//! Read next: `returned`, which seals these bytes for the way back.

use crate::units::{Height, Msat};
use crate::wire::codec::{Malformed, Reader, Writer};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Flag: the onion could not be parsed by the node that reports it.
pub const BADONION: u16 = 0x8000;
/// Flag: will not pass by waiting.
pub const PERM: u16 = 0x4000;
/// Flag: the whole node, not one channel.
pub const NODE: u16 = 0x2000;
/// Flag: a forwarding parameter of the channel was not met.
pub const UPDATE: u16 = 0x1000;

/// Code of `invalid_onion_version`, for `update_fail_malformed_htlc`.
pub const INVALID_ONION_VERSION: u16 = BADONION | PERM | 4;
/// Code of `invalid_onion_hmac`, for `update_fail_malformed_htlc`.
pub const INVALID_ONION_HMAC: u16 = BADONION | PERM | 5;
/// Code of `invalid_onion_key`, for `update_fail_malformed_htlc`.
pub const INVALID_ONION_KEY: u16 = BADONION | PERM | 6;
/// Code of `invalid_onion_blinding`, for `update_fail_malformed_htlc`.
pub const INVALID_ONION_BLINDING: u16 = BADONION | PERM | 24;

/// The longest `channel_update` a failure of ours carries; a longer one is left out (its `len` may be 0).
const MAX_CHANNEL_UPDATE: usize = 1024;

/// A failure message (BOLT 4, "Failure Messages").
///
/// `channel_update` is the raw gossip message, often empty, and never to be applied to the graph (BOLT 4,
/// "Receiving Failure Codes"). `sha256_of_onion` is of the packet that the reporting node's peer received.
// BOLT 4 [4.fail.3].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Failure {
    TemporaryNodeFailure,
    PermanentNodeFailure,
    RequiredNodeFeatureMissing,
    InvalidOnionVersion {
        sha256_of_onion: [u8; 32],
    },
    InvalidOnionHmac {
        sha256_of_onion: [u8; 32],
    },
    InvalidOnionKey {
        sha256_of_onion: [u8; 32],
    },
    TemporaryChannelFailure {
        channel_update: Vec<u8>,
    },
    PermanentChannelFailure,
    RequiredChannelFeatureMissing,
    UnknownNextPeer,
    AmountBelowMinimum {
        htlc_msat: Msat,
        channel_update: Vec<u8>,
    },
    FeeInsufficient {
        htlc_msat: Msat,
        channel_update: Vec<u8>,
    },
    IncorrectCltvExpiry {
        cltv_expiry: Height,
        channel_update: Vec<u8>,
    },
    ExpiryTooSoon {
        channel_update: Vec<u8>,
    },
    IncorrectOrUnknownPaymentDetails {
        htlc_msat: Msat,
        height: Height,
    },
    FinalIncorrectCltvExpiry {
        cltv_expiry: Height,
    },
    FinalIncorrectHtlcAmount {
        incoming_htlc_amt: Msat,
    },
    ChannelDisabled {
        disabled_flags: u16,
        channel_update: Vec<u8>,
    },
    ExpiryTooFar,
    InvalidOnionPayload {
        kind: u64,
        offset: u16,
    },
    MppTimeout,
    InvalidOnionBlinding {
        sha256_of_onion: [u8; 32],
    },
    /// A code we do not know, or known with fields that do not parse; only ever received or passed on.
    Other {
        code: u16,
        data: Vec<u8>,
    },
}

impl Failure {
    /// The `failure_code`, flags included.
    pub const fn code(&self) -> u16 {
        match self {
            Failure::TemporaryNodeFailure => NODE | 2,
            Failure::PermanentNodeFailure => PERM | NODE | 2,
            Failure::RequiredNodeFeatureMissing => PERM | NODE | 3,
            Failure::InvalidOnionVersion { .. } => INVALID_ONION_VERSION,
            Failure::InvalidOnionHmac { .. } => INVALID_ONION_HMAC,
            Failure::InvalidOnionKey { .. } => INVALID_ONION_KEY,
            Failure::TemporaryChannelFailure { .. } => UPDATE | 7,
            Failure::PermanentChannelFailure => PERM | 8,
            Failure::RequiredChannelFeatureMissing => PERM | 9,
            Failure::UnknownNextPeer => PERM | 10,
            Failure::AmountBelowMinimum { .. } => UPDATE | 11,
            Failure::FeeInsufficient { .. } => UPDATE | 12,
            Failure::IncorrectCltvExpiry { .. } => UPDATE | 13,
            Failure::ExpiryTooSoon { .. } => UPDATE | 14,
            Failure::IncorrectOrUnknownPaymentDetails { .. } => PERM | 15,
            Failure::FinalIncorrectCltvExpiry { .. } => 18,
            Failure::FinalIncorrectHtlcAmount { .. } => 19,
            Failure::ChannelDisabled { .. } => UPDATE | 20,
            Failure::ExpiryTooFar => 21,
            Failure::InvalidOnionPayload { .. } => PERM | 22,
            Failure::MppTimeout => 23,
            Failure::InvalidOnionBlinding { .. } => INVALID_ONION_BLINDING,
            Failure::Other { code, .. } => *code,
        }
    }

    /// BOLT 4's name in lower case; `unknown` for a code that has none.
    pub const fn name(&self) -> &'static str {
        name_of(self.code())
    }

    /// The reporting node could not read the onion.
    pub const fn is_bad_onion(&self) -> bool {
        self.code() & BADONION != 0
    }

    /// Trying the same again will not help.
    pub const fn is_permanent(&self) -> bool {
        self.code() & PERM != 0
    }

    /// All channels of the reporting node are affected.
    pub const fn is_node(&self) -> bool {
        self.code() & NODE != 0
    }

    /// The `channel_update` it carries, as it came; `None` when it has none.
    pub fn channel_update(&self) -> Option<&[u8]> {
        match self {
            Failure::TemporaryChannelFailure { channel_update }
            | Failure::AmountBelowMinimum { channel_update, .. }
            | Failure::FeeInsufficient { channel_update, .. }
            | Failure::IncorrectCltvExpiry { channel_update, .. }
            | Failure::ExpiryTooSoon { channel_update }
            | Failure::ChannelDisabled { channel_update, .. } => {
                Some(channel_update.as_slice()).filter(|bytes| !bytes.is_empty())
            }
            _ => None,
        }
    }

    /// A fee, expiry or size rule of the channel was not met.
    pub const fn is_update(&self) -> bool {
        self.code() & UPDATE != 0
    }

    /// The failure to seal for an HTLC that the next peer answered with `update_fail_malformed_htlc`;
    /// `None` when the code lacks the BADONION flag, which ends that channel (BOLT 2).
    pub fn from_malformed(failure_code: u16, sha256_of_onion: [u8; 32]) -> Option<Failure> {
        Some(match failure_code {
            INVALID_ONION_VERSION => Failure::InvalidOnionVersion { sha256_of_onion },
            INVALID_ONION_HMAC => Failure::InvalidOnionHmac { sha256_of_onion },
            INVALID_ONION_KEY => Failure::InvalidOnionKey { sha256_of_onion },
            INVALID_ONION_BLINDING => Failure::InvalidOnionBlinding { sha256_of_onion },
            code if code & BADONION != 0 => Failure::Other { code, data: sha256_of_onion.to_vec() },
            _ => return None,
        })
    }

    /// The `failuremsg`: code, then fields.
    pub fn encode(&self) -> Vec<u8> {
        // BOLT 4 [4.fail.4].
        let mut out = Writer::new();
        out.u16(self.code());
        match self {
            Failure::InvalidOnionVersion { sha256_of_onion }
            | Failure::InvalidOnionHmac { sha256_of_onion }
            | Failure::InvalidOnionKey { sha256_of_onion }
            | Failure::InvalidOnionBlinding { sha256_of_onion } => out.bytes(sha256_of_onion),
            Failure::TemporaryChannelFailure { channel_update }
            | Failure::ExpiryTooSoon { channel_update } => {
                put_update(&mut out, channel_update);
            }
            Failure::AmountBelowMinimum { htlc_msat, channel_update }
            | Failure::FeeInsufficient { htlc_msat, channel_update } => {
                out.u64(htlc_msat.0);
                put_update(&mut out, channel_update);
            }
            Failure::IncorrectCltvExpiry { cltv_expiry, channel_update } => {
                out.u32(cltv_expiry.0);
                put_update(&mut out, channel_update);
            }
            Failure::IncorrectOrUnknownPaymentDetails { htlc_msat, height } => {
                out.u64(htlc_msat.0);
                out.u32(height.0);
            }
            Failure::FinalIncorrectCltvExpiry { cltv_expiry } => out.u32(cltv_expiry.0),
            Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt } => out.u64(incoming_htlc_amt.0),
            Failure::ChannelDisabled { disabled_flags, channel_update } => {
                out.u16(*disabled_flags);
                put_update(&mut out, channel_update);
            }
            Failure::InvalidOnionPayload { kind, offset } => {
                out.bigsize(*kind);
                out.u16(*offset);
            }
            Failure::Other { data, .. } => out.bytes(data),
            Failure::TemporaryNodeFailure
            | Failure::PermanentNodeFailure
            | Failure::RequiredNodeFeatureMissing
            | Failure::PermanentChannelFailure
            | Failure::RequiredChannelFeatureMissing
            | Failure::UnknownNextPeer
            | Failure::ExpiryTooFar
            | Failure::MppTimeout => {}
        }
        // Only `Other` can be too long, and only if it was not received.
        out.finish().unwrap_or_else(|| self.code().to_be_bytes().to_vec())
    }

    /// Reads a `failuremsg`; `None` when it is too short to hold a code.
    pub fn decode(failuremsg: &[u8]) -> Option<Failure> {
        let (code, data) = failuremsg.split_first_chunk()?;
        let code = u16::from_be_bytes(*code);
        // Extra bytes after the fields are ignored: "MUST ignore any extra bytes in `failuremsg`".
        // BOLT 4 [4.receive.1].
        let known = known(code, &mut Reader::new(data)).ok().flatten();
        Some(known.unwrap_or_else(|| Failure::Other { code, data: data.to_vec() }))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#06x})", self.name(), self.code())
    }
}

/// BOLT 4's name of a failure code, the two it has retired included.
pub const fn name_of(code: u16) -> &'static str {
    const CODES: [(u16, &str); 24] = [
        (NODE | 2, "temporary_node_failure"),
        (PERM | NODE | 2, "permanent_node_failure"),
        (PERM | NODE | 3, "required_node_feature_missing"),
        (INVALID_ONION_VERSION, "invalid_onion_version"),
        (INVALID_ONION_HMAC, "invalid_onion_hmac"),
        (INVALID_ONION_KEY, "invalid_onion_key"),
        (UPDATE | 7, "temporary_channel_failure"),
        (PERM | 8, "permanent_channel_failure"),
        (PERM | 9, "required_channel_feature_missing"),
        (PERM | 10, "unknown_next_peer"),
        (UPDATE | 11, "amount_below_minimum"),
        (UPDATE | 12, "fee_insufficient"),
        (UPDATE | 13, "incorrect_cltv_expiry"),
        (UPDATE | 14, "expiry_too_soon"),
        (PERM | 15, "incorrect_or_unknown_payment_details"),
        (PERM | 16, "incorrect_payment_amount"),
        (17, "final_expiry_too_soon"),
        (18, "final_incorrect_cltv_expiry"),
        (19, "final_incorrect_htlc_amount"),
        (UPDATE | 20, "channel_disabled"),
        (21, "expiry_too_far"),
        (PERM | 22, "invalid_onion_payload"),
        (23, "mpp_timeout"),
        (INVALID_ONION_BLINDING, "invalid_onion_blinding"),
    ];
    let mut index = 0;
    while index < CODES.len() {
        if CODES[index].0 == code {
            return CODES[index].1;
        }
        index += 1;
    }
    "unknown"
}

fn put_update(out: &mut Writer, channel_update: &[u8]) {
    let fits = channel_update.len() <= MAX_CHANNEL_UPDATE;
    out.bytes16(if fits { channel_update } else { &[] });
}

/// The failure of a code we know, `None` for another code.
fn known(code: u16, fields: &mut Reader<'_>) -> Result<Option<Failure>, Malformed> {
    const TEMPORARY_NODE: u16 = NODE | 2;
    const PERMANENT_NODE: u16 = PERM | NODE | 2;
    const NODE_FEATURE: u16 = PERM | NODE | 3;
    const TEMPORARY_CHANNEL: u16 = UPDATE | 7;
    const PERMANENT_CHANNEL: u16 = PERM | 8;
    const CHANNEL_FEATURE: u16 = PERM | 9;
    const NEXT_PEER: u16 = PERM | 10;
    const BELOW_MINIMUM: u16 = UPDATE | 11;
    const FEE: u16 = UPDATE | 12;
    const CLTV: u16 = UPDATE | 13;
    const TOO_SOON: u16 = UPDATE | 14;
    const DETAILS: u16 = PERM | 15;
    const DISABLED: u16 = UPDATE | 20;
    const PAYLOAD: u16 = PERM | 22;
    Ok(Some(match code {
        TEMPORARY_NODE => Failure::TemporaryNodeFailure,
        PERMANENT_NODE => Failure::PermanentNodeFailure,
        NODE_FEATURE => Failure::RequiredNodeFeatureMissing,
        INVALID_ONION_VERSION => Failure::InvalidOnionVersion { sha256_of_onion: onion(fields)? },
        INVALID_ONION_HMAC => Failure::InvalidOnionHmac { sha256_of_onion: onion(fields)? },
        INVALID_ONION_KEY => Failure::InvalidOnionKey { sha256_of_onion: onion(fields)? },
        INVALID_ONION_BLINDING => Failure::InvalidOnionBlinding { sha256_of_onion: onion(fields)? },
        TEMPORARY_CHANNEL => Failure::TemporaryChannelFailure { channel_update: update(fields)? },
        PERMANENT_CHANNEL => Failure::PermanentChannelFailure,
        CHANNEL_FEATURE => Failure::RequiredChannelFeatureMissing,
        NEXT_PEER => Failure::UnknownNextPeer,
        BELOW_MINIMUM => {
            Failure::AmountBelowMinimum { htlc_msat: msat(fields)?, channel_update: update(fields)? }
        }
        FEE => Failure::FeeInsufficient { htlc_msat: msat(fields)?, channel_update: update(fields)? },
        CLTV => {
            Failure::IncorrectCltvExpiry { cltv_expiry: height(fields)?, channel_update: update(fields)? }
        }
        TOO_SOON => Failure::ExpiryTooSoon { channel_update: update(fields)? },
        DETAILS => {
            Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: msat(fields)?, height: height(fields)? }
        }
        18 => Failure::FinalIncorrectCltvExpiry { cltv_expiry: height(fields)? },
        19 => Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt: msat(fields)? },
        DISABLED => Failure::ChannelDisabled {
            disabled_flags: fields.u16("disabled_flags")?,
            channel_update: update(fields)?,
        },
        21 => Failure::ExpiryTooFar,
        PAYLOAD => {
            Failure::InvalidOnionPayload { kind: fields.bigsize("type")?, offset: fields.u16("offset")? }
        }
        23 => Failure::MppTimeout,
        _ => return Ok(None),
    }))
}

fn onion(fields: &mut Reader<'_>) -> Result<[u8; 32], Malformed> {
    fields.array("sha256_of_onion")
}

fn msat(fields: &mut Reader<'_>) -> Result<Msat, Malformed> {
    fields.u64("htlc_msat").map(Msat)
}

fn height(fields: &mut Reader<'_>) -> Result<Height, Malformed> {
    fields.u32("height").map(Height)
}

fn update(fields: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    fields.bytes16("channel_update").map(<[u8]>::to_vec)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec;

    /// One of each.
    pub(crate) fn samples() -> Vec<Failure> {
        let sha256_of_onion = [7; 32];
        let channel_update = vec![1, 2, 3];
        let htlc_msat = Msat(1_000);
        let cltv_expiry = Height(800_000);
        vec![
            Failure::TemporaryNodeFailure,
            Failure::PermanentNodeFailure,
            Failure::RequiredNodeFeatureMissing,
            Failure::InvalidOnionVersion { sha256_of_onion },
            Failure::InvalidOnionHmac { sha256_of_onion },
            Failure::InvalidOnionKey { sha256_of_onion },
            Failure::TemporaryChannelFailure { channel_update: Vec::new() },
            Failure::PermanentChannelFailure,
            Failure::RequiredChannelFeatureMissing,
            Failure::UnknownNextPeer,
            Failure::AmountBelowMinimum { htlc_msat, channel_update: channel_update.clone() },
            Failure::FeeInsufficient { htlc_msat, channel_update: channel_update.clone() },
            Failure::IncorrectCltvExpiry { cltv_expiry, channel_update: channel_update.clone() },
            Failure::ExpiryTooSoon { channel_update: channel_update.clone() },
            Failure::IncorrectOrUnknownPaymentDetails { htlc_msat, height: cltv_expiry },
            Failure::FinalIncorrectCltvExpiry { cltv_expiry },
            Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt: htlc_msat },
            Failure::ChannelDisabled { disabled_flags: 0, channel_update },
            Failure::ExpiryTooFar,
            Failure::InvalidOnionPayload { kind: 5_482_373_484, offset: 9 },
            Failure::MppTimeout,
            Failure::InvalidOnionBlinding { sha256_of_onion },
        ]
    }

    #[test]
    fn every_failure_goes_there_and_back() {
        // BOLT 4 [4.fail.4, 4.receive.1].
        for failure in samples() {
            let mut bytes = failure.encode();
            assert_eq!(Failure::decode(&bytes), Some(failure.clone()));
            assert_ne!(failure.name(), "unknown");
            bytes.extend([0xff; 5]);
            assert_eq!(Failure::decode(&bytes), Some(failure), "extra bytes are ignored");
        }
    }

    #[test]
    fn fields_cut_short_leave_the_code() {
        for failure in samples() {
            let bytes = failure.encode();
            for cut in 2..bytes.len() {
                let read = Failure::decode(&bytes[..cut]);
                let expected = Failure::Other { code: failure.code(), data: bytes[2..cut].to_vec() };
                assert_eq!(read, Some(expected));
            }
        }
        assert_eq!(Failure::decode(&[0x20]), None);
    }

    #[test]
    fn flags_follow_the_code() {
        let failure = Failure::Other { code: 0x7123, data: Vec::new() };
        assert_eq!(failure.name(), "unknown");
        assert!(failure.is_permanent() && failure.is_node() && failure.is_update());
        assert!(!failure.is_bad_onion());
        assert_eq!(Failure::TemporaryNodeFailure.code(), 0x2002);
        assert_eq!(Failure::InvalidOnionPayload { kind: 0, offset: 0 }.code(), 0x4016);
    }

    #[test]
    fn a_malformed_onion_downstream_becomes_a_failure() {
        for code in [INVALID_ONION_VERSION, INVALID_ONION_HMAC, INVALID_ONION_KEY, INVALID_ONION_BLINDING] {
            let failure = Failure::from_malformed(code, [3; 32]).unwrap();
            assert_eq!(failure.code(), code);
            assert_eq!(Failure::decode(&failure.encode()), Some(failure));
        }
        let unknown = Failure::from_malformed(BADONION | 99, [3; 32]).unwrap();
        assert_eq!(unknown.encode().len(), 34);
        assert_eq!(Failure::from_malformed(PERM | 5, [3; 32]), None);
    }

    #[test]
    fn an_oversized_update_is_left_out() {
        let failure = Failure::ExpiryTooSoon { channel_update: vec![1; MAX_CHANNEL_UPDATE + 1] };
        assert_eq!(failure.encode(), [0x10, 14, 0, 0]);
    }
}
