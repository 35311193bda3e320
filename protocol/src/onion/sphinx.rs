//! Packets: sealed layer in layer by the payer, one layer peeled by each hop (BOLT 4, "Packet Construction").
//!
//! In: a session key, the hops' keys and payloads; or a packet with our node key. Out: a packet; or our payload
//! and the packet for the next hop. The size never changes, so that no hop learns its place in the route.
//! Read next: `payload`.

use super::failure::{Failure, INVALID_ONION_HMAC, INVALID_ONION_KEY, INVALID_ONION_VERSION};
use super::key::{derive, hmac, hmac_matches, mix_stream, KeyType, SharedSecret};
use crate::wire::codec::{Reader, Writer};
use crate::wire::message::OnionPacket;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use secp256k1::{PublicKey, Scalar, Secp256k1, SecretKey, Signing, Verification};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes for all layers of a packet together.
pub const HOP_PAYLOADS_LEN: usize = 1300;
/// Bytes of the integrity tag of one layer.
const HMAC_LEN: usize = 32;

/// A packet that cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnionError {
    /// The route is empty.
    #[error("an onion needs at least one hop")]
    NoHops,
    /// Lengths 0 and 1 are reserved (BOLT 4, "Packet Structure").
    #[error("the payload of hop {0} is shorter than 2 bytes")]
    PayloadTooShort(usize),
    /// The payloads with their lengths and tags exceed 1,300 bytes.
    #[error("the route's payloads need {0} bytes, an onion holds 1300")]
    TooLong(usize),
    /// A derived key fell outside the curve's order: another session key will do.
    #[error("the session key does not suit this route")]
    Key,
}

/// What [`build`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltOnion {
    /// For the first hop.
    pub packet: OnionPacket,
    /// One for each hop in order, to open a failure that comes back.
    pub shared_secrets: Vec<SharedSecret>,
}

/// What [`peel`] returns.
#[derive(Clone, PartialEq, Eq)]
pub struct Peeled {
    /// Our layer: a TLV stream, its length prefix removed. Holds secrets of the payment.
    pub payload: Vec<u8>,
    /// For the next hop; `None` when we are the last.
    pub next: Option<OnionPacket>,
    /// To seal a failure of this HTLC.
    pub shared_secret: SharedSecret,
}

impl fmt::Debug for Peeled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peeled({} bytes, last: {})", self.payload.len(), self.next.is_none())
    }
}

/// Why a packet was refused, with what the peer must be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeelError {
    /// Whoever sent it cannot be reached by a sealed failure: answer `update_fail_malformed_htlc` (BOLT 2).
    #[error("the onion is malformed (failure code {failure_code:#06x})")]
    Malformed {
        /// `invalid_onion_version`, `invalid_onion_hmac` or `invalid_onion_key`.
        failure_code: u16,
        /// Of the packet as received.
        sha256_of_onion: [u8; 32],
    },
    /// The payer sealed a layer that cannot be cut out: answer `update_fail_htlc` with this failure sealed.
    #[error("the onion's layer for this node has no sound length")]
    Payload {
        /// To seal the failure with.
        shared_secret: SharedSecret,
        /// `invalid_onion_payload`.
        failure: Failure,
    },
}

/// SHA-256 of a packet as it stands on the wire, for `update_fail_malformed_htlc`.
pub fn sha256_of_onion(packet: &OnionPacket) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([packet.version]);
    hash.update(packet.public_key);
    hash.update(packet.hop_payloads);
    hash.update(packet.hmac);
    hash.finalize().into()
}

/// Seals `hops` (each hop's node key and TLV payload without length prefix) into one packet.
///
/// `session_key` must be fresh and random for every packet. `associated_data` is the payment hash of the HTLC.
///
/// # Errors
/// [`OnionError`] when there is no hop, a payload is under 2 bytes, or all of it exceeds 1,300 bytes.
pub fn build<C: Signing + Verification>(
    session_key: &SecretKey,
    hops: &[(PublicKey, Vec<u8>)],
    associated_data: &[u8],
    secp: &Secp256k1<C>,
) -> Result<BuiltOnion, OnionError> {
    let layers = framed_layers(hops)?;
    let shared_secrets = agree_with_all(session_key, hops, secp)?;
    let mut payloads = Zeroizing::new([0u8; HOP_PAYLOADS_LEN]);
    let pad = derive(KeyType::Pad, &Zeroizing::new(session_key.secret_bytes()));
    mix_stream(&pad, payloads.as_mut_slice());
    let mut filler = filler(&layers, &shared_secrets);
    let mut tag = [0u8; HMAC_LEN];
    for (layer, secret) in layers.iter().zip(&shared_secrets).rev() {
        push_layer(&mut payloads, layer, &tag);
        mix_stream(&secret.key(KeyType::Rho), payloads.as_mut_slice());
        // Only the last hop's layer, the first one sealed, gets the filler; later it is shifted along.
        let tail = HOP_PAYLOADS_LEN.saturating_sub(filler.len());
        if let Some(tail) = payloads.get_mut(tail..) {
            tail.copy_from_slice(&filler);
        }
        filler.clear();
        tag = hmac(&secret.key(KeyType::Mu), &[payloads.as_slice(), associated_data]);
    }
    let public_key = PublicKey::from_secret_key(secp, session_key).serialize();
    let packet = OnionPacket { version: 0, public_key, hop_payloads: *payloads, hmac: tag };
    Ok(BuiltOnion { packet, shared_secrets })
}

/// Each payload behind its length, checked to fit.
fn framed_layers(hops: &[(PublicKey, Vec<u8>)]) -> Result<Vec<Zeroizing<Vec<u8>>>, OnionError> {
    if hops.is_empty() {
        return Err(OnionError::NoHops);
    }
    let mut total = 0usize;
    let mut layers = Vec::with_capacity(hops.len().min(HOP_PAYLOADS_LEN));
    for (index, (_, payload)) in hops.iter().enumerate() {
        if payload.len() < 2 {
            return Err(OnionError::PayloadTooShort(index));
        }
        let mut layer = Writer::new();
        layer.bigsize(payload.len() as u64);
        layer.bytes(payload);
        let layer = layer.finish().ok_or(OnionError::TooLong(payload.len()))?;
        total = total.saturating_add(layer.len()).saturating_add(HMAC_LEN);
        layers.push(Zeroizing::new(layer));
    }
    if total > HOP_PAYLOADS_LEN {
        return Err(OnionError::TooLong(total));
    }
    Ok(layers)
}

/// The secret shared with each hop; the ephemeral key is blinded from hop to hop.
fn agree_with_all<C: Signing + Verification>(
    session_key: &SecretKey,
    hops: &[(PublicKey, Vec<u8>)],
    secp: &Secp256k1<C>,
) -> Result<Vec<SharedSecret>, OnionError> {
    let mut ephemeral = *session_key;
    let mut secrets = Vec::with_capacity(hops.len());
    for (node, _) in hops {
        let secret = SharedSecret::agree(node, &ephemeral);
        let public = PublicKey::from_secret_key(secp, &ephemeral);
        let blinded = blinding(&public.serialize(), &secret)
            .and_then(|factor| ephemeral.mul_tweak(&factor).ok())
            .ok_or(OnionError::Key);
        secrets.push(secret);
        ephemeral.non_secure_erase();
        ephemeral = blinded?;
    }
    ephemeral.non_secure_erase();
    Ok(secrets)
}

/// BOLT 4, "Blinding Ephemeral Onion Keys"; `None` for a hash outside the curve's order.
pub(super) fn blinding(public_key: &[u8; 33], secret: &SharedSecret) -> Option<Scalar> {
    let mut hash = Sha256::new();
    hash.update(public_key);
    hash.update(secret.0);
    Scalar::from_be_bytes(hash.finalize().into()).ok()
}

/// The bytes that the hops' own padding will have become when the packet reaches the last one
/// (BOLT 4, "Filler Generation").
fn filler(layers: &[Zeroizing<Vec<u8>>], secrets: &[SharedSecret]) -> Vec<u8> {
    let mut filler: Vec<u8> = Vec::new();
    let before_last = layers.len().saturating_sub(1);
    for (layer, secret) in layers.iter().zip(secrets).take(before_last) {
        let known = filler.len();
        filler.resize(known.saturating_add(layer.len()).saturating_add(HMAC_LEN), 0);
        // What is known ends where this hop's 1,300 bytes end; the new zeros follow them.
        let skip = HOP_PAYLOADS_LEN.saturating_sub(known);
        let mut stream = vec![0u8; skip.saturating_add(filler.len())];
        mix_stream(&secret.key(KeyType::Rho), &mut stream);
        filler.iter_mut().zip(stream.iter().skip(skip)).for_each(|(byte, mask)| *byte ^= mask);
    }
    filler
}

/// Shifts `payloads` right and puts a layer and the tag of the rest in front.
fn push_layer(payloads: &mut [u8; HOP_PAYLOADS_LEN], layer: &[u8], tag: &[u8; HMAC_LEN]) {
    let shift = layer.len().saturating_add(HMAC_LEN).min(HOP_PAYLOADS_LEN);
    payloads.copy_within(..HOP_PAYLOADS_LEN - shift, shift);
    payloads.iter_mut().zip(layer.iter().chain(tag)).for_each(|(to, from)| *to = *from);
}

/// Opens our layer of `packet` with our node key; `associated_data` is the payment hash of the HTLC.
///
/// Whether the same packet was seen before is for the caller to know.
///
/// # Errors
/// [`PeelError`], which says what to answer (BOLT 4, "Onion Decryption").
pub fn peel<C: Verification>(
    packet: &OnionPacket,
    node_key: &SecretKey,
    associated_data: &[u8],
    secp: &Secp256k1<C>,
) -> Result<Peeled, PeelError> {
    let malformed =
        |failure_code| PeelError::Malformed { failure_code, sha256_of_onion: sha256_of_onion(packet) };
    // BOLT 4 [4.version.1, 4.version.2, 4.peel.1].
    if packet.version != 0 {
        return Err(malformed(INVALID_ONION_VERSION));
    }
    // BOLT 4 [4.peel.2].
    let ephemeral = PublicKey::from_slice(&packet.public_key).map_err(|_| malformed(INVALID_ONION_KEY))?;
    let shared_secret = SharedSecret::agree(&ephemeral, node_key);
    let mu = shared_secret.key(KeyType::Mu);
    // "MUST use a constant time comparison of the computed HMAC and `hmac`".
    // BOLT 4 [4.peel.5].
    if !hmac_matches(&mu, &[&packet.hop_payloads, associated_data], &packet.hmac) {
        return Err(malformed(INVALID_ONION_HMAC));
    }
    let Some((payload, rest, hmac)) = open_layer(packet, &shared_secret) else {
        return Err(bad_layer(shared_secret));
    };
    if hmac == [0; HMAC_LEN] {
        return Ok(Peeled { payload, next: None, shared_secret });
    }
    let next_key = blinding(&packet.public_key, &shared_secret)
        .and_then(|factor| ephemeral.mul_tweak(secp, &factor).ok())
        .ok_or_else(|| malformed(INVALID_ONION_KEY))?;
    let next = OnionPacket { version: 0, public_key: next_key.serialize(), hop_payloads: rest, hmac };
    Ok(Peeled { payload, next: Some(next), shared_secret })
}

type Layer = (Vec<u8>, [u8; HOP_PAYLOADS_LEN], [u8; HMAC_LEN]);

/// Deobfuscates the payloads and cuts them into our payload, the rest for the next hop, and its tag.
fn open_layer(packet: &OnionPacket, secret: &SharedSecret) -> Option<Layer> {
    let mut unwrapped = Zeroizing::new([0u8; 2 * HOP_PAYLOADS_LEN]);
    unwrapped.get_mut(..HOP_PAYLOADS_LEN)?.copy_from_slice(&packet.hop_payloads);
    mix_stream(&secret.key(KeyType::Rho), unwrapped.as_mut_slice());
    let mut reader = Reader::new(unwrapped.as_slice());
    // BOLT 4 [4.peel.6, 4.peel.7].
    let length = usize::try_from(reader.bigsize("payload_length").ok()?).ok().filter(|l| *l >= 2)?;
    // BOLT 4 [4.peel.8].
    let payload = reader.take(length, "payload").ok()?.to_vec();
    // BOLT 4 [4.peel.9].
    let hmac = reader.array("next_hmac").ok()?;
    // "If `unwrapped_payloads` is smaller than `hop_payloads`: MUST abort": the layer ran over the 1,300 bytes.
    // BOLT 4 [4.peel.10].
    let rest = reader.array("hop_payloads").ok()?;
    Some((payload, rest, hmac))
}

fn bad_layer(shared_secret: SharedSecret) -> PeelError {
    let failure = Failure::InvalidOnionPayload { kind: 0, offset: 0 };
    PeelError::Payload { shared_secret, failure }
}

#[cfg(test)]
mod tests;
