//! The crypto seam with real keys, spread over the cores of this machine.
//!
//! In: batches of signatures to make or check, from the node. Out: the same results as one core would give.
//! Small batches stay on the calling thread: waking another costs as much as a signature or two.
//! Read next: `chand_protocol::sign`.

use chand_protocol::sign::{Crypto, RealCrypto, SignJob, VerifyJob};
use secp256k1::ecdsa::Signature;
use secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use std::panic::resume_unwind;
use std::thread::{available_parallelism, Builder};

/// Batches below this are not spread.
const SPREAD_FROM: usize = 8;
/// Each thread gets at least so much.
const MIN_SHARE: usize = 4;
/// More threads than this bring nothing: the largest batch is 967 signatures.
const MAX_THREADS: usize = 16;

/// libsecp256k1 on all cores.
#[derive(Debug)]
pub struct ParallelCrypto {
    one: RealCrypto,
    threads: usize,
}

impl ParallelCrypto {
    /// Blinded by `entropy` against an observer of timing or power; results do not change.
    pub fn new(entropy: &[u8; 32]) -> ParallelCrypto {
        let threads = available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
        ParallelCrypto { one: RealCrypto::blinded(entropy), threads }
    }

    /// Gives each thread a share of `jobs`; the results stand in the order of the shares.
    fn spread<J: Sync, R: Send>(&self, jobs: &[J], work: impl Fn(&[J]) -> R + Sync) -> Vec<R> {
        if jobs.len() < SPREAD_FROM || self.threads < 2 {
            return vec![work(jobs)];
        }
        let share = jobs.len().div_ceil(self.threads).max(MIN_SHARE);
        let work = &work;
        std::thread::scope(|scope| {
            let mut shares = jobs.chunks(share);
            let mine = shares.next().unwrap_or_default();
            let others: Vec<_> =
                shares.map(|part| (part, Builder::new().spawn_scoped(scope, move || work(part)))).collect();
            let mut results = vec![work(mine)];
            for (part, thread) in others {
                results.push(match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    // The system gives no more threads: slower, but done.
                    Err(_) => work(part),
                });
            }
            results
        })
    }
}

impl Crypto for ParallelCrypto {
    fn sign(&self, digest: &[u8; 32], key: &SecretKey) -> Signature {
        self.one.sign(digest, key)
    }

    fn verify(&self, digest: &[u8; 32], signature: &Signature, key: &PublicKey) -> bool {
        self.one.verify(digest, signature, key)
    }

    fn sign_batch(&self, jobs: &[SignJob]) -> Vec<Signature> {
        self.spread(jobs, |part| self.one.sign_batch(part)).concat()
    }

    fn verify_batch(&self, jobs: &[VerifyJob]) -> bool {
        self.spread(jobs, |part| self.one.verify_batch(part)).into_iter().all(|good| good)
    }

    fn secp(&self) -> &Secp256k1<All> {
        self.one.secp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(count: u8) -> Vec<SignJob> {
        let job = |n: u8| SignJob {
            digest: [n; 32],
            key: SecretKey::from_slice(&[n.wrapping_add(1).max(1); 32]).expect("in range"),
        };
        (0..count).map(job).collect()
    }

    #[test]
    fn many_cores_give_what_one_gives_in_the_same_order() {
        let many = ParallelCrypto { one: RealCrypto::blinded(&[7; 32]), threads: 3 };
        let one = RealCrypto::new();
        for count in [0, 1, 7, 8, 9, 50] {
            let jobs = jobs(count);
            let signatures = many.sign_batch(&jobs);
            assert_eq!(signatures, one.sign_batch(&jobs), "{count}");
            let mut checks: Vec<VerifyJob> = jobs
                .iter()
                .zip(signatures)
                .map(|(job, signature)| VerifyJob {
                    digest: job.digest,
                    signature,
                    key: job.key.public_key(one.secp()),
                })
                .collect();
            assert!(many.verify_batch(&checks), "{count}");
            // One wrong signature anywhere is found, whichever share it falls in.
            for wrong in 0..checks.len() {
                checks[wrong].digest[0] ^= 1;
                assert!(!many.verify_batch(&checks), "{wrong} of {count}");
                checks[wrong].digest[0] ^= 1;
            }
        }
    }
}
