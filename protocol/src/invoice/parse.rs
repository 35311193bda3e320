//! From text to a checked [`Invoice`] (BOLT 11, the reader's requirements).
//!
//! In: text from a person or a peer. Out: the invoice, or what is wrong with it in words. The tagged fields are cut by
//! the crate `lightning-invoice`; the amount, the signature and what must and must not be there are judged here.
//! Read next: `make`.

use super::make::BLINDED_PATH;
use super::text::{signed_message, split, Parts};
use super::{amount, blinded, Description, ExtraField, Invoice, InvoiceError, RouteHintHop};
use super::{DEFAULT_EXPIRY_S, DEFAULT_MIN_FINAL_CLTV_BLOCKS};
use crate::id::{NodeId, PaymentHash, PaymentSecret, ShortChannelId};
use crate::onion::blind::PayPath;
use crate::wire::features::{Context, Feature, Features};
use alloc::vec::Vec;
use bitcoin::bech32::{Fe32, Fe32IterExt};
use bitcoin::hashes::Hash as _;
use bitcoin::{ScriptBuf, WitnessProgram};
use lightning_invoice::{Bolt11ParseError, Fallback, RawBolt11Invoice, RawTaggedField, TaggedField};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId, Signature};
use secp256k1::{PublicKey, Secp256k1, Verification};

/// Features an invoice may require of us.
const UNDERSTOOD: [Feature; 6] = [
    Feature::VarOnion,
    Feature::PaymentSecret,
    Feature::BasicMpp,
    Feature::RouteBlinding,
    Feature::PaymentMetadata,
    Feature::Bolt11BlindedPath,
];

/// Reads an invoice and checks its signature and features. Expiry and chain are left to the caller.
///
/// # Errors
/// [`InvoiceError`], saying what is wrong.
pub fn parse<C: Verification>(text: &str, secp: &Secp256k1<C>) -> Result<Invoice, InvoiceError> {
    let parts = split(text)?;
    let (currency, amount) = amount::read(&parts.human)?;
    let (timestamp_s, fields) = read_data(&parts.data)?;
    // BOLT 11 [11.data.3].
    let (payee, signature) = verify(&parts, fields.payee, secp)?;
    check_features(&fields.features)?;
    let missing = |tag, otherwise| missing(&fields.extra, tag, otherwise);
    let payment_hash = fields.payment_hash.ok_or_else(|| missing('p', InvoiceError::NoPaymentHash))?;
    // BOLT 11 [11.read.10, 11.read.11].
    let payment_secret = match (fields.payment_secret, fields.blinded_paths.is_empty()) {
        (Some(_), false) => return Err(InvoiceError::BesidePaths("a payment secret")),
        (None, true) => return Err(missing('s', InvoiceError::NoPaymentSecret)),
        (secret, _) => secret,
    };
    if !fields.blinded_paths.is_empty() && !fields.route_hints.is_empty() {
        return Err(InvoiceError::BesidePaths("route hints"));
    }
    // BOLT 11 [11.read.3].
    let description = match (fields.text, fields.text_hash) {
        (Some(one), None) | (None, Some(one)) => one,
        (Some(_), Some(_)) => return Err(InvoiceError::Description),
        (None, None) => return Err(missing('h', InvoiceError::Description)),
    };
    Ok(Invoice {
        currency,
        amount,
        timestamp_s,
        expiry_s: fields.expiry_s.unwrap_or(DEFAULT_EXPIRY_S),
        payment_hash,
        payment_secret,
        payee: NodeId(payee),
        description,
        // BOLT 11 [11.read.12].
        min_final_cltv_blocks: fields.min_final_cltv_blocks.unwrap_or(DEFAULT_MIN_FINAL_CLTV_BLOCKS),
        route_hints: fields.route_hints,
        blinded_paths: fields.blinded_paths,
        features: fields.features,
        payment_metadata: fields.payment_metadata,
        fallbacks: fields.fallbacks,
        extra: fields.extra,
        signature,
    })
}

/// What the tagged fields said; of a kind that may be there once, the first.
#[derive(Default)]
struct Fields {
    payment_hash: Option<PaymentHash>,
    payment_secret: Option<PaymentSecret>,
    payee: Option<PublicKey>,
    text: Option<Description>,
    text_hash: Option<Description>,
    expiry_s: Option<u64>,
    min_final_cltv_blocks: Option<u32>,
    route_hints: Vec<Vec<RouteHintHop>>,
    blinded_paths: Vec<PayPath>,
    features: Features,
    payment_metadata: Option<Vec<u8>>,
    fallbacks: Vec<ScriptBuf>,
    extra: Vec<ExtraField>,
}

fn read_data(data: &[Fe32]) -> Result<(u64, Fields), InvoiceError> {
    // The crate wants a human-readable part too; the true one is read and signed for elsewhere.
    let raw = RawBolt11Invoice::from_raw("lnbc", data).map_err(|e| in_words(&e))?;
    // "if a `c`, `x`, or `9` field is provided which has a non-minimal `data_length` … SHOULD treat the invoice as
    // invalid": written again, it must come out the same.
    if raw.to_raw().1 != data {
        return Err(InvoiceError::NotMinimal);
    }
    let mut fields = Fields::default();
    for field in raw.data.tagged_fields {
        match field {
            RawTaggedField::KnownSemantics(field) => fields.take(field)?,
            RawTaggedField::UnknownSemantics(raw) => fields.take_unknown(&raw)?,
        }
    }
    Ok((raw.data.timestamp.as_unix_timestamp(), fields))
}

impl Fields {
    fn take(&mut self, field: TaggedField) -> Result<(), InvoiceError> {
        match field {
            TaggedField::PaymentHash(hash) => {
                self.payment_hash.get_or_insert(PaymentHash(hash.0.to_byte_array()));
            }
            TaggedField::PaymentSecret(secret) => {
                self.payment_secret.get_or_insert_with(|| PaymentSecret(secret.0));
            }
            TaggedField::PayeePubKey(key) => {
                self.payee.get_or_insert(key.0);
            }
            TaggedField::Description(text) => {
                self.text.get_or_insert_with(|| Description::Text(text.into_inner().0));
            }
            TaggedField::DescriptionHash(hash) => {
                self.text_hash.get_or_insert(Description::Hash(hash.0.to_byte_array()));
            }
            TaggedField::ExpiryTime(time) => {
                self.expiry_s.get_or_insert(time.as_seconds());
            }
            TaggedField::MinFinalCltvExpiryDelta(delta) => {
                let blocks = u32::try_from(delta.0)
                    .map_err(|_| InvoiceError::Field("its final expiry is too far away"))?;
                self.min_final_cltv_blocks.get_or_insert(blocks);
            }
            TaggedField::Fallback(fallback) => self.fallbacks.push(script(fallback)?),
            TaggedField::PrivateRoute(route) => {
                let hops: Vec<RouteHintHop> = route.into_inner().0.iter().map(hint).collect();
                if !hops.is_empty() {
                    self.route_hints.push(hops);
                }
            }
            TaggedField::PaymentMetadata(metadata) => {
                self.payment_metadata.get_or_insert(metadata);
            }
            TaggedField::Features(features) => {
                if self.features.is_empty() {
                    let big_endian: Vec<u8> = features.le_flags().iter().rev().copied().collect();
                    self.features = Features::parse(&big_endian);
                }
            }
        }
        Ok(())
    }

    /// A field whose type or content the crate does not know.
    fn take_unknown(&mut self, raw: &[Fe32]) -> Result<(), InvoiceError> {
        let (tag, length_and_data) = raw.split_first().ok_or(InvoiceError::TooShort)?;
        if *tag == BLINDED_PATH {
            let bytes: Vec<u8> = length_and_data.iter().copied().skip(2).fes_to_bytes().collect();
            self.blinded_paths.extend(blinded::read(&bytes)?);
            return Ok(());
        }
        let tag = tag.to_char();
        // BOLT 11 [11.read.1].
        // Fallbacks of a version unknown to us end here: "MUST skip over `f` fields that use an unknown `version`". So
        // do `p`, `h`, `s` and `n` of a wrong length: the text of BOLT 11 refuses them, its published example with
        // "fields which must be ignored" has all of them and must be read. They are skipped where a sound one is found,
        // and refused (see `missing`) where they stand in its place.
        let data = length_and_data.iter().skip(2).map(|letter| letter.to_char()).collect();
        self.extra.push(ExtraField { tag, data });
        Ok(())
    }
}

/// What to say when a field that must be there is not: its length is wrong, or it is missing altogether.
fn missing(extra: &[ExtraField], tag: char, otherwise: InvoiceError) -> InvoiceError {
    let malformed = extra.iter().any(|field| field.tag == tag);
    if malformed {
        InvoiceError::FieldLength(tag)
    } else {
        otherwise
    }
}

/// The payee: the key in field `n` if there is one, else the one the signature recovers to.
fn verify<C: Verification>(
    parts: &Parts,
    named: Option<PublicKey>,
    secp: &Secp256k1<C>,
) -> Result<(PublicKey, Signature), InvoiceError> {
    let bad = |_| InvoiceError::Signature;
    let (recovery_id, compact) = parts.signature.split_last().ok_or(InvoiceError::Signature)?;
    let recovery_id = RecoveryId::from_i32(i32::from(*recovery_id)).map_err(bad)?;
    let recoverable = RecoverableSignature::from_compact(compact, recovery_id).map_err(bad)?;
    let signature = recoverable.to_standard();
    let message = signed_message(&parts.human, &parts.data);
    if let Some(payee) = named {
        // BOLT 11 [11.read.7, 11.read.8].
        // Verification refuses high-S: "If the signature is not compliant with the low-S standard rule: MUST fail".
        secp.verify_ecdsa(&message, &signature, &payee).map_err(bad)?;
        return Ok((payee, signature));
    }
    // BOLT 11 [11.read.9].
    // "MUST perform ECDSA public-key recovery and accept both high-S and low-S signatures".
    let payee = secp.recover_ecdsa(&message, &recoverable).map_err(bad)?;
    Ok((payee, signature))
}

fn check_features(features: &Features) -> Result<(), InvoiceError> {
    let understood = |bit: u32| UNDERSTOOD.iter().any(|feature| u32::from(feature.even()) == bit);
    // BOLT 11 [11.read.4, 11.read.5].
    // "if the `9` field contains unknown _even_ bits that are non-zero: MUST fail the payment. SHOULD indicate the
    // unknown bit to the user."
    if let Some(bit) = features.bits().find(|bit| bit % 2 == 0 && !understood(*bit)) {
        return Err(InvoiceError::UnknownFeature(bit));
    }
    // BOLT 11 [11.feature.2].
    // "if the feature vector does not set all known, transitive feature dependencies: MUST NOT attempt the payment".
    match features.missing_dependency() {
        Some((feature, needs)) if feature.shown_in(Context::Invoice) => {
            Err(InvoiceError::MissingFeature { feature: feature.name(), needs: needs.name() })
        }
        _ => Ok(()),
    }
}

fn hint(hop: &lightning_invoice::RouteHintHop) -> RouteHintHop {
    RouteHintHop {
        node_id: NodeId(hop.src_node_id),
        short_channel_id: ShortChannelId(hop.short_channel_id),
        fee_base_msat: hop.fees.base_msat,
        fee_proportional_millionths: hop.fees.proportional_millionths,
        cltv_expiry_delta_blocks: hop.cltv_expiry_delta,
    }
}

fn script(fallback: Fallback) -> Result<ScriptBuf, InvoiceError> {
    Ok(match fallback {
        Fallback::PubKeyHash(hash) => ScriptBuf::new_p2pkh(&hash),
        Fallback::ScriptHash(hash) => ScriptBuf::new_p2sh(&hash),
        Fallback::SegWitProgram { version, program } => {
            let program = WitnessProgram::new(version, &program)
                .map_err(|_| InvoiceError::Field("its fallback address has the wrong length"))?;
            ScriptBuf::new_witness_program(&program)
        }
    })
}

fn in_words(error: &Bolt11ParseError) -> InvoiceError {
    InvoiceError::Field(match error {
        Bolt11ParseError::TooShortDataPart => return InvoiceError::TooShort,
        Bolt11ParseError::UnexpectedEndOfTaggedFields => "a field runs past its end",
        Bolt11ParseError::DescriptionDecodeError(_) => "its description is not UTF-8",
        Bolt11ParseError::MalformedSignature(_) => "a node's key in it is not a point of the curve",
        Bolt11ParseError::IntegerOverflowError => "a number in it is too large",
        Bolt11ParseError::PaddingError => "a field has bits left over",
        Bolt11ParseError::InvalidSegWitProgramLength
        | Bolt11ParseError::InvalidPubKeyHashLength
        | Bolt11ParseError::InvalidScriptHashLength => "its fallback address has the wrong length",
        _ => "a field is not what it should be",
    })
}
