//! What the property tests share: random cases that can be had again, and random keys.
//!
//! In: a property and how often to try it. Out: a panic that names the case, which `AGREE_CASE=N` plays alone.
//! Half of the cases are the same in every run, half are new in each. `AGREE_TIMES=N` tries so many times as many.
//! Read next: `ledger`, then `tests/commitment.rs`.

pub mod codec;
pub mod ledger;

use bitcoin::hashes::{sha256, Hash};
use bitcoin::{OutPoint, ScriptBuf, Txid};
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::tx::keys::ChannelSecrets;
use secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the cases of every run begin.
const FIXED: u64 = 0x6c64_6b21;

/// What chand signs and derives with, its tables made once.
pub fn crypto() -> &'static RealCrypto {
    static ONE: OnceLock<RealCrypto> = OnceLock::new();
    ONE.get_or_init(RealCrypto::new)
}

/// The curve.
pub fn secp() -> &'static Secp256k1<All> {
    crypto().secp()
}

/// Random numbers that a seed decides (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least `low`, below `high`.
    ///
    /// # Panics
    /// When there is no such number.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range");
        low + self.bits() % (high - low)
    }

    /// As [`Rng::range`], for counts and indices.
    ///
    /// # Panics
    /// When there is no such number.
    pub fn index(&mut self, low: usize, high: usize) -> usize {
        usize::try_from(self.range(low as u64, high as u64)).expect("came from a usize")
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.bits().is_multiple_of(of)
    }

    /// One of these.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(0, from.len())].clone()
    }

    /// A number of any size: each length in bits is as likely as the others.
    pub fn any_size(&mut self) -> u64 {
        let bits = self.range(0, 65);
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        self.bits() & mask
    }

    /// Random bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.bits() as u8)
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }

    /// A private key.
    pub fn secret(&mut self) -> SecretKey {
        loop {
            if let Ok(key) = SecretKey::from_slice(&self.array::<32>()) {
                return key;
            }
        }
    }

    /// A public key.
    pub fn key(&mut self) -> PublicKey {
        self.secret().public_key(secp())
    }

    /// A signature of something.
    pub fn signature(&mut self) -> secp256k1::ecdsa::Signature {
        secp().sign_ecdsa(&secp256k1::Message::from_digest(self.array()), &self.secret())
    }

    /// An output of some transaction; LDK has 16 bits for its index.
    pub fn outpoint(&mut self) -> OutPoint {
        let vout = if self.one_in(2) { self.range(0, 4) } else { self.range(0, 1 << 16) };
        OutPoint { txid: Txid::from_byte_array(self.array()), vout: vout as u32 }
    }

    /// All private keys of one side of a channel.
    pub fn channel_secrets(&mut self) -> ChannelSecrets {
        ChannelSecrets {
            funding: self.secret(),
            revocation: self.secret(),
            payment: self.secret(),
            delayed_payment: self.secret(),
            htlc: self.secret(),
            shachain_seed: self.array(),
        }
    }

    /// A script that `shutdown` may carry: P2WPKH, P2WSH, P2TR, or a later witness version.
    pub fn shutdown_script(&mut self) -> ScriptBuf {
        let (version, length) = match self.range(0, 4) {
            0 => (0x00, 20),
            1 => (0x00, 32),
            2 => (0x51, 32),
            _ => (0x51 + self.range(1, 16) as u8, self.range(2, 41) as u8),
        };
        let mut bytes = vec![version, length];
        bytes.extend(self.bytes(usize::from(length)));
        ScriptBuf::from_bytes(bytes)
    }
}

/// Says which case it was when the test panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was case {}: AGREE_CASE={} plays it alone", self.0, self.0);
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// Tries a property with random cases: `cases` of them, half the same as ever, half new.
///
/// # Panics
/// When the property does, having said which case it was.
pub fn property(cases: u64, mut holds: impl FnMut(&mut Rng)) {
    let mut one = |case: u64| {
        let told = Told(case);
        holds(&mut Rng::new(case));
        drop(told);
    };
    if let Some(case) = setting("AGREE_CASE") {
        return one(case);
    }
    let cases = cases * setting("AGREE_TIMES").unwrap_or(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let fresh = u64::from_be_bytes(
        sha256::Hash::hash(&now.to_be_bytes()).as_byte_array()[..8].try_into().expect("eight bytes"),
    );
    for (from, count) in [(FIXED, cases.div_ceil(2)), (fresh, cases / 2)] {
        let mut seeds = Rng::new(from);
        (0..count).for_each(|_| one(seeds.bits()));
    }
}
