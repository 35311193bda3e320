//! What a blob says: how to punish one revoked commitment.
//!
//! In: a revoked commitment, the channel's sealing. Out: bytes to be sealed; and, at the tower, the way back from bytes that
//! somebody chose. With the key a blob has about 100 bytes: the state's revocation key, its point, the channel's seed, and
//! the HTLCs as runs of ids (each HTLC itself was sent once, as an entry). Presigned it has about 350: see `presigned`.
//! Read next: `presigned`, `guard`.

use super::presigned::Penalties;
use super::seal::{seal_blob, Entry, Sealed, Seed};
use super::{hint, Mode, Revoked, Run, Sealing};
use crate::id::Side;
use crate::sign::Crypto;
use crate::tx::keys::BadKey;
use crate::wire::codec::{Malformed, Reader, Writer};
use alloc::vec::Vec;
use secp256k1::{PublicKey, SecretKey};
use zeroize::Zeroizing;

/// The first byte of every blob.
const VERSION: u8 = 1;
/// Runs in one blob: every HTLC that fits a commitment, none beside the next.
const MAX_RUNS: u64 = 966;

/// An opened blob.
pub enum Blob {
    /// All that is needed to take every output of the commitment.
    Key {
        /// The secret of the revocation key in that commitment's scripts.
        key: Zeroizing<[u8; 32]>,
        /// That commitment's point.
        point: PublicKey,
        /// Opens terms and HTLCs.
        seed: Seed,
        /// Which HTLCs have outputs.
        held: Vec<Run>,
    },
    /// Signed transactions.
    Presigned(Penalties),
}

impl core::fmt::Debug for Blob {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Blob(secret)")
    }
}

impl Blob {
    /// The bytes that are sealed; `None` when a length does not fit.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut w = Writer::new();
        w.u8(VERSION);
        match self {
            Blob::Key { key, point, seed, held } => {
                w.bytes(key.as_ref());
                w.bytes(&point.serialize());
                w.bytes(&seed.0);
                w.bigsize(held.len() as u64);
                for run in held {
                    w.u8(u8::from(run.offered_by == Side::Remote));
                    w.bigsize(run.first);
                    w.bigsize(run.count);
                }
            }
            Blob::Presigned(penalties) => penalties.write(&mut w),
        }
        w.finish()
    }

    /// Reads a blob of `mode`.
    ///
    /// # Errors
    /// [`Malformed`] names the field.
    pub fn decode(mode: Mode, bytes: &[u8]) -> Result<Blob, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u8("version")? != VERSION {
            return Err(Malformed::TooMany("versions"));
        }
        let blob = match mode {
            Mode::Key => {
                let key = Zeroizing::new(r.array::<32>("revocation key")?);
                let point = PublicKey::from_slice(r.take(33, "point")?);
                let point = point.map_err(|_| Malformed::BadPoint("point"))?;
                let seed = Seed(r.array("seed")?);
                let count = r.bigsize("runs")?;
                if count > MAX_RUNS {
                    return Err(Malformed::TooMany("runs"));
                }
                let mut held = Vec::new();
                for _ in 0..count {
                    let offered_by = if r.u8("run")? == 0 { Side::Local } else { Side::Remote };
                    held.push(Run { offered_by, first: r.bigsize("run")?, count: r.bigsize("run")? });
                }
                Blob::Key { key, point, seed, held }
            }
            Mode::Presigned => Blob::Presigned(Penalties::read(&mut r)?),
        };
        if r.left() > 0 {
            return Err(Malformed::TooLong("blob"));
        }
        Ok(blob)
    }
}

/// Seals a revoked state for a tower that is trusted as `mode` says. `None`: there is nothing in it to be taken.
///
/// # Errors
/// [`BadKey`] with a chance of 2^-128.
pub fn appoint(
    revoked: &Revoked,
    sealing: &Sealing,
    mode: Mode,
    crypto: &dyn Crypto,
) -> Result<Option<Sealed>, BadKey> {
    let base = SecretKey::from_slice(sealing.revocation.as_ref()).map_err(|_| BadKey)?;
    let mut secret = SecretKey::from_slice(revoked.secret.as_ref()).map_err(|_| BadKey)?;
    let mut key = crypto.revocation_secret(&base, &secret)?;
    let point = crypto.public_key(&secret);
    secret.non_secure_erase();
    let noted = &revoked.noted;
    let blob = match mode {
        Mode::Key => Some(Blob::Key {
            key: Zeroizing::new(key.secret_bytes()),
            point,
            seed: sealing.seed.clone(),
            held: noted.held.clone(),
        }),
        Mode::Presigned => Penalties::sign(noted, &sealing.terms, &point, &key, crypto)?.map(Blob::Presigned),
    };
    key.non_secure_erase();
    let plain = blob.as_ref().and_then(Blob::encode);
    Ok(plain.map(|plain| Sealed {
        number: noted.number,
        hint: hint(&noted.txid),
        blob: seal_blob(&noted.txid, mode, plain),
    }))
}

/// What the blobs of these states refer to and no earlier ones did, the channel's terms first.
pub fn entries(revoked: &[Revoked], sealing: &Sealing, with_terms: bool) -> Vec<Entry> {
    let terms = with_terms.then(|| sealing.seed.terms_entry(&sealing.terms));
    let htlcs = revoked.iter().flat_map(|r| &r.noted.fresh).map(|htlc| sealing.seed.htlc_entry(htlc));
    terms.into_iter().chain(htlcs).collect()
}
