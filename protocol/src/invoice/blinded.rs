//! The tagged field in which an invoice carries a blinded path (bLIP 39, field `b`, whose number is 20).
//!
//! In: a path with its sums; or the bytes of a field. Out: the bytes, or the paths. An invoice with such fields names no
//! payment secret, no route hints, and no payee: it is signed with a key that is good for nothing else.
//! [`for_paths`] makes one for paths that somebody else may have made. Read next: `make`, `crate::onion::blind`.

use super::{Currency, Description, InvoiceError, NewInvoice, MAX_FIELD_BYTES};
use crate::id::{NodeId, PaymentHash, PaymentSecret};
use crate::onion::blind::{BlindedHop, BlindedPath, PayInfo, PayPath};
use crate::units::Msat;
use crate::wire::codec::{Malformed, Reader, Writer};
use crate::wire::features::{Feature, Features};
use alloc::string::String;
use alloc::vec::Vec;
use secp256k1::PublicKey;

/// What an invoice with blinded paths asks of a payer: to know the field. The bit of the payment secret, which there is
/// none of, stands for what `basic_mpp` depends on (BOLT 9).
pub fn blinded_features() -> Features {
    Features::of(&[
        Feature::VarOnion.even(),
        Feature::PaymentSecret.odd(),
        Feature::BasicMpp.odd(),
        Feature::RouteBlinding.odd(),
        Feature::Bolt11BlindedPath.even(),
    ])
}

/// What to ask for over `paths`, which end where `payment_hash` is known; sign it with [`super::make`] and any key but a
/// node's.
pub fn for_paths(
    currency: Currency,
    amount: Option<Msat>,
    payment_hash: PaymentHash,
    timestamp_s: u64,
    paths: Vec<PayPath>,
) -> NewInvoice {
    NewInvoice {
        currency,
        amount,
        payment_hash,
        // Not written beside blinded paths.
        payment_secret: PaymentSecret([0; 32]),
        description: Description::Text(String::new()),
        expiry_s: super::DEFAULT_EXPIRY_S,
        min_final_cltv_blocks: super::DEFAULT_MIN_FINAL_CLTV_BLOCKS,
        timestamp_s,
        features: blinded_features(),
        payment_metadata: None,
        route_hints: Vec::new(),
        blinded_paths: paths,
    }
}

/// The bytes of one field.
///
/// # Errors
/// [`InvoiceError::TooLongToMake`] above 639 bytes, about seven hops.
pub(super) fn write(path: &PayPath) -> Result<Vec<u8>, InvoiceError> {
    let mut out = Writer::new();
    out.u32(path.info.fee_base_msat);
    out.u32(path.info.fee_proportional_millionths);
    out.u16(path.info.cltv_expiry_delta);
    out.u64(path.info.htlc_minimum.0);
    out.u64(path.info.htlc_maximum.0);
    out.bytes16(path.info.features.as_bytes());
    out.bytes(&path.path.path_key.serialize());
    let hops = &path.path.hops;
    let too_long = |bytes| InvoiceError::TooLongToMake { what: "a blinded path", bytes };
    out.u8(u8::try_from(hops.len()).map_err(|_| too_long(hops.len()))?);
    for (index, hop) in hops.iter().enumerate() {
        // The first by its real name, so that it can be reached.
        let name = if index == 0 { &path.path.introduction.0 } else { &hop.blinded_node_id };
        out.bytes(&name.serialize());
        out.bigsize(hop.encrypted_data.len() as u64);
        out.bytes(&hop.encrypted_data);
    }
    let bytes = out.finish().unwrap_or_default();
    if bytes.is_empty() || bytes.len() > MAX_FIELD_BYTES {
        return Err(too_long(bytes.len()));
    }
    Ok(bytes)
}

/// The paths of one field, mostly one.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<PayPath>, InvoiceError> {
    let mut reader = Reader::new(bytes);
    let mut paths = Vec::new();
    while reader.left() > 0 {
        let path = read_one(&mut reader).ok().flatten();
        paths.push(path.ok_or(InvoiceError::Field("a blinded path in it cannot be read"))?);
    }
    Ok(paths)
}

fn read_one(reader: &mut Reader<'_>) -> Result<Option<PayPath>, Malformed> {
    let info = PayInfo {
        fee_base_msat: reader.u32("fee_base_msat")?,
        fee_proportional_millionths: reader.u32("fee_proportional_millionths")?,
        cltv_expiry_delta: reader.u16("cltv_expiry_delta")?,
        htlc_minimum: Msat(reader.u64("htlc_minimum_msat")?),
        htlc_maximum: Msat(reader.u64("htlc_maximum_msat")?),
        features: Features::parse(reader.bytes16("features")?),
    };
    let Ok(path_key) = PublicKey::from_slice(reader.take(33, "first_ephemeral_blinding_point")?) else {
        return Ok(None);
    };
    let mut hops = Vec::new();
    for _ in 0..reader.u8("num_hops")? {
        let Ok(blinded_node_id) = PublicKey::from_slice(reader.take(33, "blinded_node_pubkey")?) else {
            return Ok(None);
        };
        let length = usize::try_from(reader.bigsize("cipher_text_length")?).unwrap_or(usize::MAX);
        let encrypted_data = reader.take(length, "cipher_text")?.to_vec();
        hops.push(BlindedHop { blinded_node_id, encrypted_data });
    }
    let Some(introduction) = hops.first().map(|hop| NodeId(hop.blinded_node_id)) else { return Ok(None) };
    Ok(Some(PayPath::new(info, BlindedPath { introduction, path_key, hops })))
}
