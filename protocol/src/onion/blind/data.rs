//! What one hop of a blinded path is told, and what it does with it (BOLT 4, "Inside `encrypted_recipient_data`").
//!
//! In: a TLV stream that was opened, or what to tell. Out: [`HopData`], or the stream; what goes on, from what came in.
//! Read next: `payinfo`.

use crate::id::ShortChannelId;
use crate::onion::tlv::read_stream;
use crate::units::{Height, Msat};
use crate::wire::codec::{Reader, Writer};
use crate::wire::features::Features;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use secp256k1::PublicKey;

const PADDING: u64 = 1;
const SHORT_CHANNEL_ID: u64 = 2;
const NEXT_NODE_ID: u64 = 4;
const PATH_ID: u64 = 6;
const NEXT_PATH_KEY_OVERRIDE: u64 = 8;
const PAYMENT_RELAY: u64 = 10;
const PAYMENT_CONSTRAINTS: u64 = 12;
const ALLOWED_FEATURES: u64 = 14;
const MILLION: u128 = 1_000_000;

/// The `encrypted_data_tlv` of one hop, its padding apart.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HopData {
    /// The channel to the next hop; this or `next_node_id`, but for the payee.
    pub short_channel_id: Option<ShortChannelId>,
    /// The next hop.
    pub next_node_id: Option<PublicKey>,
    /// For the payee: what the path is for.
    pub path_id: Option<Vec<u8>>,
    /// The path key for the next hop, when it is not the one that follows from ours.
    pub next_path_key_override: Option<PublicKey>,
    /// What is kept and how long, at a hop before the payee.
    pub payment_relay: Option<Relay>,
    /// Which payments may pass.
    pub payment_constraints: Option<Constraints>,
    /// Features that a payment may use; none when missing.
    pub allowed_features: Option<Features>,
}

impl fmt::Debug for HopData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HopData")
            .field("short_channel_id", &self.short_channel_id)
            .field("is_last", &self.path_id.is_some())
            .field("payment_relay", &self.payment_relay)
            .field("payment_constraints", &self.payment_constraints)
            .finish_non_exhaustive()
    }
}

/// What a hop keeps of an HTLC (`payment_relay`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relay {
    /// Blocks between the expiries of its two HTLCs.
    pub cltv_expiry_delta: u16,
    /// Of the amount that goes on, in millionths.
    pub fee_proportional_millionths: u32,
    /// For each HTLC, msat.
    pub fee_base_msat: u32,
}

impl Relay {
    /// What a hop that keeps nothing is told: one that is there to make the path look longer.
    pub const NOTHING: Relay =
        Relay { cltv_expiry_delta: 0, fee_proportional_millionths: 0, fee_base_msat: 0 };

    /// What goes on of an HTLC that came in with `amount` and `expiry`; `None` when that would be less than nothing.
    pub fn onward(&self, amount: Msat, expiry: Height) -> Option<(Msat, Height)> {
        // BOLT 4 [4.read.12].
        let ppm = u128::from(self.fee_proportional_millionths);
        let left = u128::from(amount.0.checked_sub(self.fee_base_msat.into())?);
        let onward = left.checked_mul(MILLION)?.checked_add(MILLION + ppm - 1)? / (MILLION + ppm);
        let expiry = expiry.0.checked_sub(self.cltv_expiry_delta.into())?;
        Some((Msat(u64::try_from(onward).ok()?), Height(expiry)))
    }
}

/// Which payments may pass (`payment_constraints`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Constraints {
    /// No later expiry of the HTLC that comes in.
    pub max_cltv_expiry: Height,
    /// No smaller one.
    pub htlc_minimum: Msat,
}

impl Constraints {
    /// Whether an HTLC that came in with `amount` and `expiry` may pass.
    pub fn allow(&self, amount: Msat, expiry: Height) -> bool {
        // BOLT 4 [4.read.6].
        expiry <= self.max_cltv_expiry && amount >= self.htlc_minimum
    }
}

impl HopData {
    /// The TLV stream, with so many bytes of padding when there is to be any.
    pub fn encode(&self, padding: Option<usize>) -> Vec<u8> {
        let mut out = Writer::new();
        if let Some(length) = padding {
            out.tlv(PADDING, |w| w.bytes(&vec![0; length]));
        }
        if let Some(scid) = self.short_channel_id {
            out.tlv(SHORT_CHANNEL_ID, |w| w.u64(scid.0));
        }
        if let Some(node) = &self.next_node_id {
            out.tlv(NEXT_NODE_ID, |w| w.bytes(&node.serialize()));
        }
        if let Some(id) = &self.path_id {
            out.tlv(PATH_ID, |w| w.bytes(id));
        }
        if let Some(key) = &self.next_path_key_override {
            // BOLT 4 [4.blind.8].
            out.tlv(NEXT_PATH_KEY_OVERRIDE, |w| w.bytes(&key.serialize()));
        }
        if let Some(relay) = &self.payment_relay {
            out.tlv(PAYMENT_RELAY, |w| {
                w.u16(relay.cltv_expiry_delta);
                w.u32(relay.fee_proportional_millionths);
                w.truncated(relay.fee_base_msat);
            });
        }
        if let Some(constraints) = &self.payment_constraints {
            out.tlv(PAYMENT_CONSTRAINTS, |w| {
                w.u32(constraints.max_cltv_expiry.0);
                w.truncated(constraints.htlc_minimum.0);
            });
        }
        if let Some(features) = &self.allowed_features {
            out.tlv(ALLOWED_FEATURES, |w| w.bytes(features.as_bytes()));
        }
        out.finish().unwrap_or_default()
    }

    /// The streams of all hops of a path, padded to one length, so that they tell nothing of who is where.
    pub fn encode_alike(hops: &[HopData]) -> Vec<Vec<u8>> {
        let lengths: Vec<usize> = hops.iter().map(|hop| hop.encode(None).len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let padded = |(hop, length): (&HopData, usize)| hop.encode(Some(longest.saturating_sub(length)));
        hops.iter().zip(lengths).map(padded).collect()
    }

    /// Reads a stream; `None` when it is broken, or has an even type that nobody knows.
    pub fn decode(stream: &[u8]) -> Option<HopData> {
        // BOLT 4 [4.blind.17].
        let mut data = HopData::default();
        for record in read_stream(stream).ok()? {
            data.take(record.kind, record.value)?;
        }
        Some(data)
    }

    fn take(&mut self, kind: u64, value: &[u8]) -> Option<()> {
        match kind {
            SHORT_CHANNEL_ID => {
                self.short_channel_id = Some(ShortChannelId(u64::from_be_bytes(value.try_into().ok()?)));
            }
            NEXT_NODE_ID => self.next_node_id = Some(point(value)?),
            PATH_ID => self.path_id = Some(value.to_vec()),
            NEXT_PATH_KEY_OVERRIDE => self.next_path_key_override = Some(point(value)?),
            PAYMENT_RELAY => {
                let mut fields = Reader::new(value);
                self.payment_relay = Some(Relay {
                    cltv_expiry_delta: fields.u16("cltv_expiry_delta").ok()?,
                    fee_proportional_millionths: fields.u32("fee_proportional_millionths").ok()?,
                    fee_base_msat: fields.tu32("fee_base_msat").ok()?,
                });
            }
            PAYMENT_CONSTRAINTS => {
                let mut fields = Reader::new(value);
                self.payment_constraints = Some(Constraints {
                    max_cltv_expiry: Height(fields.u32("max_cltv_expiry").ok()?),
                    htlc_minimum: Msat(fields.tu64("htlc_minimum_msat").ok()?),
                });
            }
            ALLOWED_FEATURES => self.allowed_features = Some(Features::parse(value)),
            kind if kind % 2 == 0 => return None,
            _ => {}
        }
        Some(())
    }

    /// Whether a payment may use what it uses. There is no feature yet that a path could allow.
    pub fn is_understood(&self) -> bool {
        // BOLT 4 [4.read.7, 4.read.8].
        let features = self.allowed_features.as_ref().is_none_or(Features::is_empty);
        features && !(self.short_channel_id.is_some() && self.next_node_id.is_some())
    }
}

fn point(value: &[u8]) -> Option<PublicKey> {
    let bytes: &[u8; 33] = value.try_into().ok()?;
    PublicKey::from_slice(bytes).ok()
}
