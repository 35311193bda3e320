//! Failures on their way back: sealed where they arise, sealed again by each hop, opened by the payer
//! (BOLT 4, "Returning Errors").
//!
//! In: the secret of an HTLC and a failure, or the `reason` of `update_fail_htlc`. Out: the `reason` to pass on,
//! or which hop failed and why. Attribution data is neither made nor read.
//! Read next: `payload`.

use super::failure::Failure;
use super::key::{hmac, hmac_matches, mix_stream, KeyType, SharedSecret};
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Failures look alike up to this many bytes of message and padding (BOLT 4, "Erring node").
pub const PADDED_LEN: usize = 256;
/// "SHOULD continue decrypting, until the loop has been repeated 27 times".
const MAX_HOPS: usize = 27;

/// Seals a failure at the node where it arises; the result is the `reason` of `update_fail_htlc`.
pub fn wrap(shared_secret: &SharedSecret, failure: &Failure) -> Vec<u8> {
    wrap_message(shared_secret, &failure.encode(), PADDED_LEN)
}

/// As [`wrap`], for a `failuremsg` in bytes, with message and padding together at least `padded_len` bytes.
pub fn wrap_message(shared_secret: &SharedSecret, failuremsg: &[u8], padded_len: usize) -> Vec<u8> {
    // Both lengths are u16; no message of ours comes near that.
    let limit = usize::from(u16::MAX);
    let failuremsg = failuremsg.get(..limit).unwrap_or(failuremsg);
    // BOLT 4 [4.return.1].
    let pad_len = padded_len.min(limit).saturating_sub(failuremsg.len());
    let mut body = Vec::with_capacity(failuremsg.len().saturating_add(pad_len).saturating_add(4));
    body.extend((failuremsg.len() as u16).to_be_bytes());
    body.extend_from_slice(failuremsg);
    body.extend((pad_len as u16).to_be_bytes());
    body.resize(body.len().saturating_add(pad_len), 0);
    let mut reason = Vec::from(hmac(&shared_secret.key(KeyType::Um), &[&body]));
    reason.append(&mut body);
    wrap_again(shared_secret, reason)
}

/// Adds our layer to a `reason` that came from the next hop.
pub fn wrap_again(shared_secret: &SharedSecret, mut reason: Vec<u8>) -> Vec<u8> {
    mix_stream(&shared_secret.key(KeyType::Ammag), &mut reason);
    reason
}

/// Opens a `reason` with the secrets of the route, first hop first: the index of the hop that failed, and its
/// failure. `None` when no hop can be told to have sent it.
///
/// Takes as long whichever hop failed, so that a hop cannot measure its place in the route.
pub fn unwrap(shared_secrets: &[SharedSecret], reason: &[u8]) -> Option<(usize, Failure)> {
    let rounds = shared_secrets.len().max(MAX_HOPS);
    let dummy = SharedSecret([0; 32]);
    let mut packet = Zeroizing::new(reason.to_vec());
    let mut found: Option<(usize, Vec<u8>)> = None;
    for index in 0..rounds {
        let real = shared_secrets.get(index);
        let secret = real.unwrap_or(&dummy);
        mix_stream(&secret.key(KeyType::Ammag), &mut packet);
        let um = secret.key(KeyType::Um);
        let (tag, body) = packet.split_first_chunk()?;
        let authentic = hmac_matches(&um, &[body], tag);
        if authentic && real.is_some() && found.is_none() {
            found = Some((index, body.to_vec()));
        }
    }
    let (index, body) = found?;
    // A hop that signs what nobody can read is blamed all the same.
    let failure = failure_in(&body).unwrap_or(Failure::Other { code: 0, data: Vec::new() });
    Some((index, failure))
}

fn failure_in(body: &[u8]) -> Option<Failure> {
    let (length, rest) = body.split_first_chunk()?;
    let failuremsg = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    Failure::decode(failuremsg)
}

#[cfg(test)]
mod tests {
    use super::super::failure::tests::samples;
    use super::*;

    fn secrets(count: u8) -> Vec<SharedSecret> {
        (1..=count).map(|n| SharedSecret([n; 32])).collect()
    }

    /// The `reason` as the payer gets it when hop `erring` raises `failure`.
    fn returned(secrets: &[SharedSecret], erring: usize, failure: &Failure) -> Vec<u8> {
        let reason = wrap(&secrets[erring], failure);
        secrets[..erring].iter().rev().fold(reason, |reason, secret| wrap_again(secret, reason))
    }

    #[test]
    fn the_payer_learns_who_failed_and_why() {
        // BOLT 4 [4.return.1].
        for hops in [1, 2, 5, 20, 27, 30] {
            let secrets = secrets(hops);
            for (erring, failure) in (0..secrets.len()).zip(samples().into_iter().cycle()) {
                let reason = returned(&secrets, erring, &failure);
                assert_eq!(reason.len(), 292);
                assert_eq!(unwrap(&secrets, &reason), Some((erring, failure)));
            }
        }
    }

    #[test]
    fn a_changed_byte_hides_the_sender_but_harms_nothing() {
        let secrets = secrets(4);
        let mut reason = returned(&secrets, 2, &Failure::MppTimeout);
        for at in 0..reason.len() {
            reason[at] ^= 1;
            assert_eq!(unwrap(&secrets, &reason), None);
            reason[at] ^= 1;
        }
        for cut in 0..reason.len() {
            assert_eq!(unwrap(&secrets, &reason[..cut]), None);
        }
        assert_eq!(unwrap(&[], &reason), None);
    }

    #[test]
    fn a_long_message_is_not_padded_and_a_senseless_one_is_blamed() {
        let secrets = secrets(2);
        let long = Failure::Other { code: 0x4123, data: [9; 400].to_vec() };
        let reason = returned(&secrets, 1, &long);
        assert_eq!(reason.len(), 32 + 2 + 402 + 2);
        assert_eq!(unwrap(&secrets, &reason), Some((1, long)));
        let empty = wrap_message(&secrets[0], &[], 0);
        assert_eq!(unwrap(&secrets, &empty), Some((0, Failure::Other { code: 0, data: Vec::new() })));
    }
}
