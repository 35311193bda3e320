//! From what we ask for to signed text (BOLT 11, the writer's requirements).
//!
//! In: a [`NewInvoice`] and our node key. Out: the invoice's text, in lower case.
//! Read next: `payment`, which keeps what was asked and waits for it.

use super::text::{join, signed_message};
use super::{amount, blinded, Currency, Description, InvoiceError, RouteHintHop};
use super::{DEFAULT_EXPIRY_S, MAX_FIELD_BYTES};
use crate::id::{PaymentHash, PaymentSecret};
use crate::onion::blind::PayPath;
use crate::units::Msat;
use crate::wire::features::{Feature, Features};
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::bech32::{ByteIterExt, Fe32};
use secp256k1::{Secp256k1, SecretKey, Signing};

/// The largest timestamp: 35 bits of seconds.
const MAX_TIMESTAMP_S: u64 = (1 << 35) - 1;

/// The field of a blinded path (bLIP 39): number 20.
pub(super) const BLINDED_PATH: Fe32 = Fe32::_5;

/// What to ask for.
#[derive(Clone, Debug)]
pub struct NewInvoice {
    /// The chain to be paid on.
    pub currency: Currency,
    /// How much; `None` leaves it to the payer. Never zero.
    pub amount: Option<Msat>,
    /// What the preimage we keep hashes to.
    pub payment_hash: PaymentHash,
    /// What the payer must hand us with the payment.
    pub payment_secret: PaymentSecret,
    /// What for: at most 639 bytes of text, or the hash of any text.
    pub description: Description,
    /// How long it holds, in seconds.
    pub expiry_s: u64,
    /// How far ahead the last HTLC must expire, in blocks.
    pub min_final_cltv_blocks: u32,
    /// Now, in seconds since the Unix epoch.
    pub timestamp_s: u64,
    /// What we offer and require; [`our_features`] is what chand can do.
    pub features: Features,
    /// Handed back to us with the payment, at most 639 bytes.
    pub payment_metadata: Option<Vec<u8>>,
    /// Ways to us over channels that are not public.
    pub route_hints: Vec<Vec<RouteHintHop>>,
    /// Blinded paths to us: then neither secret, nor route hints, nor final expiry are written.
    pub blinded_paths: Vec<PayPath>,
}

// BOLT 11 [11.feature.1].
/// What chand's invoices ask of a payer: a payment secret always; payments in parts are welcome.
pub fn our_features() -> Features {
    Features::of(&[Feature::VarOnion.even(), Feature::PaymentSecret.even(), Feature::BasicMpp.odd()])
}

/// Writes and signs an invoice.
///
/// # Errors
/// [`InvoiceError`] for an amount of zero, a field over 639 bytes, a timestamp over 35 bits, or a text over 7,089
/// characters.
pub fn make<C: Signing>(
    new: &NewInvoice,
    node_key: &SecretKey,
    secp: &Secp256k1<C>,
) -> Result<String, InvoiceError> {
    let human = amount::write(new.currency, new.amount)?;
    let data = write_data(new)?;
    // BOLT 11 [11.data.2].
    let signature = secp.sign_ecdsa_recoverable(&signed_message(&human, &data), node_key);
    let (recovery_id, compact) = signature.serialize_compact();
    let mut bytes = [0u8; 65];
    let recovery_id = u8::try_from(recovery_id.to_i32()).map_err(|_| InvoiceError::Signature)?;
    bytes.iter_mut().zip(compact.iter().chain([&recovery_id])).for_each(|(to, from)| *to = *from);
    join(&human, &data, &bytes)
}

fn write_data(new: &NewInvoice) -> Result<Vec<Fe32>, InvoiceError> {
    if new.timestamp_s > MAX_TIMESTAMP_S {
        return Err(InvoiceError::Timestamp);
    }
    let mut data = Vec::new();
    // BOLT 11 [11.data.1].
    data.extend(digits(new.timestamp_s, 7));
    let blinded = !new.blinded_paths.is_empty();
    // BOLT 11 [11.write.1, 11.write.2].
    if !blinded {
        field(&mut data, Fe32::S, to_fes(&new.payment_secret.0))?;
    }
    field(&mut data, Fe32::P, to_fes(&new.payment_hash.0))?;
    // BOLT 11 [11.write.4, 11.write.5].
    match &new.description {
        Description::Text(text) => field(&mut data, Fe32::D, limited("the description", text.as_bytes())?)?,
        Description::Hash(hash) => field(&mut data, Fe32::H, to_fes(hash))?,
    }
    if new.expiry_s != DEFAULT_EXPIRY_S {
        field(&mut data, Fe32::X, minimal(new.expiry_s))?;
    }
    if !blinded {
        field(&mut data, Fe32::C, minimal(new.min_final_cltv_blocks.into()))?;
    }
    // BOLT 11 [11.write.15].
    if !new.features.is_empty() {
        field(&mut data, Fe32::_9, feature_fes(&new.features))?;
    }
    if let Some(metadata) = &new.payment_metadata {
        field(&mut data, Fe32::M, limited("the payment metadata", metadata)?)?;
    }
    for path in &new.blinded_paths {
        field(&mut data, BLINDED_PATH, to_fes(&blinded::write(path)?))?;
    }
    // BOLT 11 [11.write.17].
    for route in new.route_hints.iter().filter(|route| !route.is_empty() && !blinded) {
        let bytes: Vec<u8> = route.iter().flat_map(hint_bytes).collect();
        field(&mut data, Fe32::R, limited("a route hint", &bytes)?)?;
    }
    Ok(data)
}

/// Appends one tagged field: type, length in 5-bit values, content.
fn field(data: &mut Vec<Fe32>, tag: Fe32, content: Vec<Fe32>) -> Result<(), InvoiceError> {
    data.push(tag);
    let length = content.len();
    if length >= 1024 {
        return Err(InvoiceError::TooLongToMake { what: "a field", bytes: length.saturating_mul(5) / 8 });
    }
    data.extend(digits(length as u64, 2));
    data.extend(content);
    Ok(())
}

/// The lowest `count` 5-bit values of a number, highest first.
fn digits(value: u64, count: u32) -> impl Iterator<Item = Fe32> {
    (0..count).rev().map(move |place| {
        let five_bits = value.checked_shr(place.saturating_mul(5)).unwrap_or(0) & 31;
        Fe32::try_from(five_bits as u8).unwrap_or(Fe32::Q)
    })
}

// BOLT 11 [11.write.7, 11.write.9].
/// A number in as few 5-bit values as it takes, none for zero.
fn minimal(value: u64) -> Vec<Fe32> {
    let bits = u64::BITS.saturating_sub(value.leading_zeros());
    digits(value, bits.div_ceil(5)).collect()
}

// BOLT 11 [11.write.16].
fn to_fes(bytes: &[u8]) -> Vec<Fe32> {
    bytes.iter().copied().bytes_to_fes().collect()
}

fn limited(what: &'static str, bytes: &[u8]) -> Result<Vec<Fe32>, InvoiceError> {
    if bytes.len() > MAX_FIELD_BYTES {
        return Err(InvoiceError::TooLongToMake { what, bytes: bytes.len() });
    }
    Ok(to_fes(bytes))
}

// BOLT 11 [11.write.14].
/// The bits in 5-bit values with bit 0 last, none of the leading ones zero.
fn feature_fes(features: &Features) -> Vec<Fe32> {
    let highest = features.bits().last().unwrap_or(0);
    let mut values = alloc::vec![0u8; (highest / 5) as usize + 1];
    for bit in features.bits() {
        if let Some(value) = values.iter_mut().rev().nth((bit / 5) as usize) {
            *value |= 1 << (bit % 5);
        }
    }
    values.into_iter().map(|value| Fe32::try_from(value).unwrap_or(Fe32::Q)).collect()
}

fn hint_bytes(hop: &RouteHintHop) -> Vec<u8> {
    let mut bytes = Vec::from(hop.node_id.0.serialize());
    bytes.extend(hop.short_channel_id.0.to_be_bytes());
    bytes.extend(hop.fee_base_msat.to_be_bytes());
    bytes.extend(hop.fee_proportional_millionths.to_be_bytes());
    bytes.extend(hop.cltv_expiry_delta_blocks.to_be_bytes());
    bytes
}
