//! What a hop finds in its layer: whom to pay on, or what the payment is (BOLT 4, "Payload Format").
//!
//! In: a TLV stream from `sphinx`. Out: [`Payload`], or the type and offset that `invalid_onion_payload` reports;
//! and the reverse for the payer. Amounts and expiries are only read here: `payment` holds them against the HTLC.
//! Read next: `failure`.

use super::failure::Failure;
use super::tlv::{bigsize_len, read_stream, BadStream, Record};
use crate::id::{PaymentSecret, Preimage, ShortChannelId};
use crate::units::{Height, Msat};
use crate::wire::codec::{Reader, Writer};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

const AMT_TO_FORWARD: u64 = 2;
const OUTGOING_CLTV_VALUE: u64 = 4;
const SHORT_CHANNEL_ID: u64 = 6;
const PAYMENT_DATA: u64 = 8;
const ENCRYPTED_RECIPIENT_DATA: u64 = 10;
const CURRENT_PATH_KEY: u64 = 12;
const PAYMENT_METADATA: u64 = 16;
const TOTAL_AMOUNT_MSAT: u64 = 18;
/// Where `keysend` puts the preimage; not in the BOLTs, but what all implementations use.
const KEYSEND_PREIMAGE: u64 = 5_482_373_484;
/// Types from here on are free for anyone's use (BOLT 1).
const FIRST_CUSTOM: u64 = 65_536;

/// A hop's layer, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// We are between payer and payee.
    Forward(Forward),
    /// We are the payee.
    Final(Final),
    /// We are inside a blinded route.
    Blinded(Blinded),
}

/// For a node between payer and payee.
// BOLT 4 [4.write.7, 4.write.8].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The channel to the next hop, or another with the same peer.
    pub short_channel_id: ShortChannelId,
    /// What the next HTLC must carry.
    pub amt_to_forward: Msat,
    /// The expiry the next HTLC must have.
    pub outgoing_cltv_value: Height,
}

/// For the payee.
// BOLT 4 [4.write.9].
#[derive(Clone, PartialEq, Eq)]
pub struct Final {
    /// The least that this HTLC must carry.
    pub amt_to_forward: Msat,
    /// The least expiry that this HTLC must have.
    pub outgoing_cltv_value: Height,
    /// The invoice's secret, and what all HTLCs of the payment add up to.
    pub payment_data: Option<PaymentData>,
    /// The invoice's metadata, handed back.
    pub payment_metadata: Option<Vec<u8>>,
    /// The preimage itself, when nobody asked for the payment.
    pub keysend_preimage: Option<Preimage>,
    /// Records of types from 65,536 on (odd ones; when writing, also even ones the payee is known to understand).
    pub custom: BTreeMap<u64, Vec<u8>>,
}

/// The `payment_data` record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaymentData {
    /// From the invoice.
    pub payment_secret: PaymentSecret,
    /// What all HTLCs of the payment add up to.
    pub total_msat: Msat,
}

/// For a node inside a blinded route; what is sealed in it opens with `onion::blind`.
#[derive(Clone, PartialEq, Eq)]
pub struct Blinded {
    /// What the payee sealed for this hop.
    pub encrypted_recipient_data: Vec<u8>,
    /// The key to open it with, at the route's first blinded hop.
    pub current_path_key: Option<PublicKey>,
    /// For the payee only.
    pub amt_to_forward: Option<Msat>,
    /// For the payee only.
    pub outgoing_cltv_value: Option<Height>,
    /// For the payee only.
    pub total_amount_msat: Option<Msat>,
}

impl fmt::Debug for Final {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Final")
            .field("amt_to_forward", &self.amt_to_forward)
            .field("outgoing_cltv_value", &self.outgoing_cltv_value)
            .field("total_msat", &self.total_msat())
            .field("keysend", &self.keysend_preimage.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Blinded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blinded({} bytes)", self.encrypted_recipient_data.len())
    }
}

/// The payload cannot be understood: the failure to answer is `invalid_onion_payload` with these fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the onion's record of type {kind} at byte {offset} is missing or makes no sense")]
pub struct PayloadError {
    /// The record's type; 0 when not known.
    pub kind: u64,
    /// Where it starts in the decrypted bytes, length prefix included; 0 when missing.
    pub offset: u16,
}

impl From<PayloadError> for Failure {
    fn from(e: PayloadError) -> Failure {
        Failure::InvalidOnionPayload { kind: e.kind, offset: e.offset }
    }
}

impl PayloadError {
    /// A record that must be there is not.
    const fn missing(kind: u64) -> PayloadError {
        PayloadError { kind, offset: 0 }
    }
}

impl Payload {
    /// Reads a layer; `is_final` says whether `peel` gave no next packet.
    ///
    /// # Errors
    /// [`PayloadError`] for a broken stream, an unknown even type, a bad value or a missing record.
    pub fn decode(payload: &[u8], is_final: bool) -> Result<Payload, PayloadError> {
        let fields = Fields::read(payload)?;
        if fields.encrypted_recipient_data.is_some() {
            return fields.blinded(is_final).map(Payload::Blinded);
        }
        // Outside a blinded route "MUST return an error if … `current_path_key` is present".
        // BOLT 4 [4.read.19].
        if let Some((_, bad)) = fields.current_path_key {
            return Err(bad);
        }
        if is_final {
            fields.last().map(Payload::Final)
        } else {
            fields.forward().map(Payload::Forward)
        }
    }
}

impl Forward {
    /// The TLV stream of a hop between payer and payee.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.tlv(AMT_TO_FORWARD, |w| w.truncated(self.amt_to_forward.0));
        out.tlv(OUTGOING_CLTV_VALUE, |w| w.truncated(self.outgoing_cltv_value.0));
        out.tlv(SHORT_CHANNEL_ID, |w| w.u64(self.short_channel_id.0));
        out.finish().unwrap_or_default()
    }
}

impl Final {
    /// A payment to an invoice, `amount` of `total_msat` with this HTLC (BOLT 4, "Payload for the Last Node").
    pub fn invoice(amount: Msat, expiry: Height, payment_secret: PaymentSecret, total_msat: Msat) -> Final {
        Final {
            payment_data: Some(PaymentData { payment_secret, total_msat }),
            ..Final::bare(amount, expiry)
        }
    }

    /// A payment nobody asked for: the payee finds the preimage in its own layer.
    pub fn keysend(amount: Msat, expiry: Height, preimage: Preimage) -> Final {
        Final { keysend_preimage: Some(preimage), ..Final::bare(amount, expiry) }
    }

    fn bare(amt_to_forward: Msat, outgoing_cltv_value: Height) -> Final {
        Final {
            amt_to_forward,
            outgoing_cltv_value,
            payment_data: None,
            payment_metadata: None,
            keysend_preimage: None,
            custom: BTreeMap::new(),
        }
    }

    /// What all HTLCs of the payment add up to: "as if it were equal to `amt_to_forward` if it is not present".
    pub fn total_msat(&self) -> Msat {
        // BOLT 4 [4.read.25].
        self.payment_data.as_ref().map_or(self.amt_to_forward, |data| data.total_msat)
    }

    /// The TLV stream of the payee's layer; it holds secrets. Custom records of types that are not free are left
    /// out. Empty when it exceeds 65,535 bytes, which `sphinx::build` refuses as it refuses all above 1,265.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        // BOLT 4 [4.write.6].
        out.tlv(AMT_TO_FORWARD, |w| w.truncated(self.amt_to_forward.0));
        out.tlv(OUTGOING_CLTV_VALUE, |w| w.truncated(self.outgoing_cltv_value.0));
        // BOLT 1 [1.tlv.1, 1.tlv.2].
        if let Some(data) = &self.payment_data {
            out.tlv(PAYMENT_DATA, |w| {
                w.bytes(&data.payment_secret.0);
                w.truncated(data.total_msat.0);
            });
        }
        if let Some(metadata) = &self.payment_metadata {
            out.tlv(PAYMENT_METADATA, |w| w.bytes(metadata));
        }
        let low = self.custom.range(FIRST_CUSTOM..KEYSEND_PREIMAGE);
        low.for_each(|(kind, value)| out.tlv(*kind, |w| w.bytes(value)));
        if let Some(preimage) = &self.keysend_preimage {
            out.tlv(KEYSEND_PREIMAGE, |w| w.bytes(&preimage.0));
        }
        let high = self.custom.range(KEYSEND_PREIMAGE.saturating_add(1)..);
        high.for_each(|(kind, value)| out.tlv(*kind, |w| w.bytes(value)));
        out.finish().unwrap_or_default()
    }
}

impl Blinded {
    /// The TLV stream of a hop inside a blinded route.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        if let Some(amount) = self.amt_to_forward {
            out.tlv(AMT_TO_FORWARD, |w| w.truncated(amount.0));
        }
        if let Some(expiry) = self.outgoing_cltv_value {
            out.tlv(OUTGOING_CLTV_VALUE, |w| w.truncated(expiry.0));
        }
        out.tlv(ENCRYPTED_RECIPIENT_DATA, |w| w.bytes(&self.encrypted_recipient_data));
        if let Some(key) = &self.current_path_key {
            out.tlv(CURRENT_PATH_KEY, |w| w.bytes(&key.serialize()));
        }
        if let Some(total) = self.total_amount_msat {
            out.tlv(TOTAL_AMOUNT_MSAT, |w| w.truncated(total.0));
        }
        out.finish().unwrap_or_default()
    }
}

/// Whether a layer has a `current_path_key`, whatever else is wrong with it: then we are told to be an introduction node.
pub fn names_path_key(payload: &[u8]) -> bool {
    let mut found = false;
    // A stream that breaks off later has told this already.
    let _ = Reader::new(payload).tlvs(|kind, value| {
        found |= kind == CURRENT_PATH_KEY;
        value.rest();
        Ok(true)
    });
    found
}

/// A value with what to report should its presence be wrong.
type Found<T> = Option<(T, PayloadError)>;

/// All records of a layer, each checked by itself.
#[derive(Default)]
struct Fields {
    amt_to_forward: Found<Msat>,
    outgoing_cltv_value: Found<Height>,
    short_channel_id: Found<ShortChannelId>,
    payment_data: Found<PaymentData>,
    encrypted_recipient_data: Found<Vec<u8>>,
    current_path_key: Found<PublicKey>,
    payment_metadata: Found<Vec<u8>>,
    total_amount_msat: Found<Msat>,
    keysend_preimage: Found<Preimage>,
    custom: BTreeMap<u64, Vec<u8>>,
    /// The first odd record of a type we do not know.
    first_unknown: Option<PayloadError>,
}

impl Fields {
    fn read(payload: &[u8]) -> Result<Fields, PayloadError> {
        let prefix = bigsize_len(payload.len() as u64);
        let place = |kind, offset: usize| PayloadError {
            kind,
            offset: u16::try_from(offset.saturating_add(prefix)).unwrap_or(u16::MAX),
        };
        let records = read_stream(payload).map_err(|BadStream { kind, offset }| place(kind, offset))?;
        let mut fields = Fields::default();
        for record in &records {
            let here = place(record.kind, record.offset);
            fields.take(record, here).ok_or(here)?;
        }
        Ok(fields)
    }

    /// Keeps one record; `None` when its value is malformed, or its type even and unknown (BOLT 1).
    fn take(&mut self, record: &Record<'_>, here: PayloadError) -> Option<()> {
        let value = record.value;
        match record.kind {
            AMT_TO_FORWARD => self.amt_to_forward = Some((Msat(tu64(value)?), here)),
            OUTGOING_CLTV_VALUE => {
                self.outgoing_cltv_value = Some((Height(Reader::new(value).tu32("height").ok()?), here))
            }
            SHORT_CHANNEL_ID => {
                // BOLT 1 [1.tlv.9].
                let id = u64::from_be_bytes(value.try_into().ok()?);
                self.short_channel_id = Some((ShortChannelId(id), here));
            }
            PAYMENT_DATA => {
                let (secret, total) = value.split_first_chunk()?;
                let payment_secret = PaymentSecret(*secret);
                let total_msat = Msat(tu64(total)?);
                self.payment_data = Some((PaymentData { payment_secret, total_msat }, here));
            }
            ENCRYPTED_RECIPIENT_DATA => self.encrypted_recipient_data = Some((value.to_vec(), here)),
            CURRENT_PATH_KEY => {
                let key: &[u8; 33] = value.try_into().ok()?;
                self.current_path_key = Some((PublicKey::from_slice(key).ok()?, here));
            }
            PAYMENT_METADATA => self.payment_metadata = Some((value.to_vec(), here)),
            TOTAL_AMOUNT_MSAT => self.total_amount_msat = Some((Msat(tu64(value)?), here)),
            KEYSEND_PREIMAGE => self.keysend_preimage = Some((Preimage(value.try_into().ok()?), here)),
            // BOLT 1 [1.tlv.11].
            kind if kind % 2 == 0 => return None,
            kind => {
                self.first_unknown.get_or_insert(here);
                if kind >= FIRST_CUSTOM {
                    self.custom.insert(kind, value.to_vec());
                }
            }
        }
        Some(())
    }

    fn forward(self) -> Result<Forward, PayloadError> {
        Ok(Forward {
            amt_to_forward: required(self.amt_to_forward, AMT_TO_FORWARD)?,
            outgoing_cltv_value: required(self.outgoing_cltv_value, OUTGOING_CLTV_VALUE)?,
            // BOLT 4 [4.read.21].
            short_channel_id: required(self.short_channel_id, SHORT_CHANNEL_ID)?,
        })
    }

    fn last(self) -> Result<Final, PayloadError> {
        Ok(Final {
            // BOLT 4 [4.read.20].
            amt_to_forward: required(self.amt_to_forward, AMT_TO_FORWARD)?,
            outgoing_cltv_value: required(self.outgoing_cltv_value, OUTGOING_CLTV_VALUE)?,
            payment_data: optional(self.payment_data),
            payment_metadata: optional(self.payment_metadata),
            keysend_preimage: optional(self.keysend_preimage),
            custom: self.custom,
        })
    }

    /// In a blinded route nothing but the listed records may be there (BOLT 4, "Payload Format", the reader).
    fn blinded(self, is_final: bool) -> Result<Blinded, PayloadError> {
        // BOLT 4 [4.read.9, 4.read.13].
        let never = [
            place_of(&self.short_channel_id),
            place_of(&self.payment_data),
            place_of(&self.payment_metadata),
            place_of(&self.keysend_preimage),
            self.first_unknown,
        ];
        let last_only = [
            place_of(&self.amt_to_forward),
            place_of(&self.outgoing_cltv_value),
            place_of(&self.total_amount_msat),
        ];
        let unexpected =
            never.into_iter().chain(last_only.into_iter().filter(|_| !is_final)).flatten().next();
        if let Some(bad) = unexpected {
            return Err(bad);
        }
        // BOLT 4 [4.read.14].
        if is_final {
            required(self.amt_to_forward, AMT_TO_FORWARD)?;
            required(self.outgoing_cltv_value, OUTGOING_CLTV_VALUE)?;
            required(self.total_amount_msat, TOTAL_AMOUNT_MSAT)?;
        }
        Ok(Blinded {
            encrypted_recipient_data: required(self.encrypted_recipient_data, ENCRYPTED_RECIPIENT_DATA)?,
            current_path_key: optional(self.current_path_key),
            amt_to_forward: optional(self.amt_to_forward),
            outgoing_cltv_value: optional(self.outgoing_cltv_value),
            total_amount_msat: optional(self.total_amount_msat),
        })
    }
}

fn tu64(value: &[u8]) -> Option<u64> {
    Reader::new(value).tu64("amount").ok()
}

fn required<T>(found: Found<T>, kind: u64) -> Result<T, PayloadError> {
    optional(found).ok_or(PayloadError::missing(kind))
}

fn optional<T>(found: Found<T>) -> Option<T> {
    found.map(|(value, _)| value)
}

fn place_of<T>(found: &Found<T>) -> Option<PayloadError> {
    found.as_ref().map(|(_, place)| *place)
}

#[cfg(test)]
mod tests;
