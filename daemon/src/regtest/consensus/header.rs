//! Headers: proof of work and the rules that need the block before.
//!
//! In: a header, facts of its predecessor, the clock. Out: nothing, or the rule broken. Read next: `block`.

use super::params::{BITS, MAX_FUTURE_SECONDS, MIN_BLOCK_VERSION};
use super::reject::BlockReject;
use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget, Target};

/// Whether `hash`, the header's own, meets the target the header claims, and the claim is possible on regtest.
pub(super) fn check_work(header: &Header, hash: BlockHash) -> Result<(), BlockReject> {
    match claimed_target(header.bits) {
        Some(target) if target.is_met_by(hash) => Ok(()),
        _ => Err(BlockReject::HighHash),
    }
}

/// The target, unless it is zero, negative, too large for 256 bits or easier than regtest allows.
fn claimed_target(bits: CompactTarget) -> Option<Target> {
    let (bytes, digits) = (bits.to_consensus() >> 24, bits.to_consensus() & 0x00ff_ffff);
    // Three bytes of digits, the highest bit a sign. Past 32 bytes of length, higher digits must be zero.
    let highest = match bytes {
        0..=32 => 0x007f_ffff,
        33 => 0x7fff,
        34 => 0x7f,
        _ => return None,
    };
    if digits > highest {
        return None;
    }
    Some(Target::from_compact(bits)).filter(|target| *target != Target::ZERO)
}

/// The rules a header follows from its predecessor, whose median time is `prev_mtp`; `now` is the clock, both in
/// Unix seconds.
pub(super) fn check_header(header: &Header, prev_mtp: u32, now: u32) -> Result<(), BlockReject> {
    if header.bits.to_consensus() != BITS {
        return Err(BlockReject::DiffBits);
    }
    if header.time <= prev_mtp {
        return Err(BlockReject::TimeTooOld);
    }
    if header.time > now.saturating_add(MAX_FUTURE_SECONDS) {
        return Err(BlockReject::TimeTooNew);
    }
    if header.version.to_consensus() < MIN_BLOCK_VERSION {
        return Err(BlockReject::Version(header.version.to_consensus() as u32));
    }
    Ok(())
}
