//! The faucet: one wallet of P2WPKH keys, there from the start, for tests and demos to pay themselves from.
//!
//! In: blocks as they come and go. Out: addresses, balances, and (in `faucet_spend`) payments. Its keys come from one
//! random seed in `faucet.key` (0600) by HMAC-SHA256 over a counter; the counter is kept in `faucet.next`.
//! Regtest only: these coins are worth nothing. Read next: `faucet_spend`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::{All, Secp256k1, SecretKey};
use bitcoin::{CompressedPublicKey, OutPoint, Script, ScriptBuf, Txid};
use zeroize::Zeroizing;

use super::consensus::{ChainState, Coin, Submit};
use super::mempool::Mempool;
use super::RegtestError;

/// Keys watched beyond the last one given out, in case the counter's file was lost.
const LOOKAHEAD: u32 = 200;
/// A coinbase may be spent in the block of this distance and after (consensus).
const COINBASE_MATURITY: u32 = 100;

/// A coin of the faucet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedCoin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds, in satoshi.
    pub value_sat: u64,
    /// The key it pays to.
    pub key_index: u32,
    /// Its script.
    pub script: ScriptBuf,
    /// Blocks on it, 0 when unconfirmed.
    pub confirmations: u32,
    /// A coinbase that may not be spent yet.
    pub immature: bool,
}

/// What the faucet holds, in satoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Confirmed and spendable, or change of our own.
    pub trusted_sat: u64,
    /// Unconfirmed and from others.
    pub pending_sat: u64,
    /// Coinbases that are too young.
    pub immature_sat: u64,
}

/// The faucet wallet.
pub struct Faucet {
    seed: Zeroizing<[u8; 32]>,
    counter_file: Option<PathBuf>,
    next: u32,
    derived: u32,
    scripts: BTreeMap<ScriptBuf, u32>,
    coins: BTreeMap<OutPoint, (Coin, u32)>,
    pub(super) own_txids: BTreeSet<Txid>,
    pub(super) secp: Secp256k1<All>,
}

impl fmt::Debug for Faucet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faucet")
            .field("next", &self.next)
            .field("coins", &self.coins.len())
            .finish_non_exhaustive()
    }
}

impl Faucet {
    /// Opens the wallet in a directory, or makes it, and finds its coins in the chain.
    pub fn open(dir: &Path, chain: &ChainState) -> Result<Faucet, RegtestError> {
        let seed = read_or_make_seed(&dir.join("faucet.key"))?;
        let counter_file = dir.join("faucet.next");
        let next = read_counter(&counter_file)?;
        let mut faucet = Faucet::new(seed, Some(counter_file), next)?;
        faucet.scan(chain)?;
        Ok(faucet)
    }

    fn new(
        seed: Zeroizing<[u8; 32]>,
        counter_file: Option<PathBuf>,
        next: u32,
    ) -> Result<Faucet, RegtestError> {
        let mut faucet = Faucet {
            seed,
            counter_file,
            next,
            derived: 0,
            scripts: BTreeMap::new(),
            coins: BTreeMap::new(),
            own_txids: BTreeSet::new(),
            secp: Secp256k1::new(),
        };
        faucet.derive_up_to(next.saturating_add(LOOKAHEAD))?;
        Ok(faucet)
    }

    /// The key of this number.
    pub(super) fn secret(&self, index: u32) -> Result<SecretKey, RegtestError> {
        let mut engine = HmacEngine::<sha256::Hash>::new(self.seed.as_slice());
        engine.input(b"chand regtest faucet");
        engine.input(&index.to_be_bytes());
        let digest = Zeroizing::new(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array());
        SecretKey::from_slice(digest.as_slice())
            .map_err(|_| RegtestError::Faucet("no key of this number".into()))
    }

    fn derive_up_to(&mut self, end: u32) -> Result<(), RegtestError> {
        while self.derived < end {
            let mut secret = self.secret(self.derived)?;
            let key = CompressedPublicKey(secret.public_key(&self.secp));
            secret.non_secure_erase();
            self.scripts.insert(ScriptBuf::new_p2wpkh(&key.wpubkey_hash()), self.derived);
            self.derived += 1;
        }
        Ok(())
    }

    fn scan(&mut self, chain: &ChainState) -> Result<(), RegtestError> {
        loop {
            let found: Vec<(OutPoint, Coin, u32)> = chain
                .coins()
                .filter_map(|(outpoint, coin)| {
                    let index = self.scripts.get(&coin.out.script_pubkey)?;
                    Some((*outpoint, coin.clone(), *index))
                })
                .collect();
            let used = found.iter().map(|(_, _, index)| index.saturating_add(1)).max().unwrap_or(0);
            self.coins = found.into_iter().map(|(outpoint, coin, index)| (outpoint, (coin, index))).collect();
            self.next = self.next.max(used);
            if self.next.saturating_add(LOOKAHEAD) <= self.derived {
                return Ok(());
            }
            self.derive_up_to(self.next.saturating_add(LOOKAHEAD))?;
        }
    }

    /// A script that was not given out before.
    pub fn new_script(&mut self) -> Result<ScriptBuf, RegtestError> {
        let index = self.next;
        let next = index.checked_add(1).ok_or_else(|| RegtestError::Faucet("no more keys".into()))?;
        if let Some(path) = &self.counter_file {
            write_private(path, next.to_string().as_bytes())?;
        }
        self.next = next;
        self.derive_up_to(next.saturating_add(LOOKAHEAD))?;
        let mut secret = self.secret(index)?;
        let key = CompressedPublicKey(secret.public_key(&self.secp));
        secret.non_secure_erase();
        Ok(ScriptBuf::new_p2wpkh(&key.wpubkey_hash()))
    }

    /// The number of the key this script pays to, if it is the faucet's.
    pub fn key_index(&self, script: &Script) -> Option<u32> {
        self.scripts.get(script).copied()
    }

    /// Follows a change of the chain: every output it touched is looked up again.
    pub fn follow(&mut self, chain: &ChainState, change: &Submit) {
        for block in change.disconnected.iter().chain(&change.connected) {
            for tx in &block.txdata {
                let txid = tx.compute_txid();
                let made = (0u32..).zip(&tx.output).map(|(vout, _)| OutPoint { txid, vout });
                for outpoint in made.chain(tx.input.iter().map(|input| input.previous_output)) {
                    self.look_up(chain, outpoint);
                }
                self.own_txids.remove(&txid);
            }
        }
    }

    fn look_up(&mut self, chain: &ChainState, outpoint: OutPoint) {
        let coin = chain.coin(&outpoint);
        let owned = coin.and_then(|coin| {
            let index = self.key_index(&coin.out.script_pubkey)?;
            Some((coin, index))
        });
        match owned {
            Some(owned) => self.coins.insert(outpoint, owned),
            None => self.coins.remove(&outpoint),
        };
    }

    /// Coins nobody in the pool spends: confirmed ones, then unconfirmed ones of `ours` (change) or of others.
    pub fn list(
        &self,
        chain: &ChainState,
        pool: &Mempool,
    ) -> (Vec<OwnedCoin>, Vec<OwnedCoin>, Vec<OwnedCoin>) {
        let tip = chain.tip().height;
        let mut confirmed = Vec::new();
        for (outpoint, (coin, key_index)) in &self.coins {
            if pool.spender(outpoint).is_some() {
                continue;
            }
            let confirmations = tip.saturating_sub(coin.height).saturating_add(1);
            confirmed.push(OwnedCoin {
                outpoint: *outpoint,
                value_sat: coin.out.value.to_sat(),
                key_index: *key_index,
                script: coin.out.script_pubkey.clone(),
                confirmations,
                immature: coin.coinbase && confirmations < COINBASE_MATURITY,
            });
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for entry in pool.entries() {
            for (vout, out) in (0u32..).zip(&entry.tx.output) {
                let outpoint = OutPoint { txid: entry.txid, vout };
                let Some(key_index) = self.key_index(&out.script_pubkey) else { continue };
                if pool.spender(&outpoint).is_some() {
                    continue;
                }
                let coin = OwnedCoin {
                    outpoint,
                    value_sat: out.value.to_sat(),
                    key_index,
                    script: out.script_pubkey.clone(),
                    confirmations: 0,
                    immature: false,
                };
                if self.own_txids.contains(&entry.txid) {
                    ours.push(coin);
                } else {
                    theirs.push(coin);
                }
            }
        }
        (confirmed, ours, theirs)
    }

    /// What the faucet holds.
    pub fn balance(&self, chain: &ChainState, pool: &Mempool) -> Balance {
        let sum = |coins: &[OwnedCoin], immature: bool| {
            let chosen = coins.iter().filter(|coin| coin.immature == immature);
            chosen.fold(0u64, |sum, coin| sum.saturating_add(coin.value_sat))
        };
        let (confirmed, ours, theirs) = self.list(chain, pool);
        Balance {
            trusted_sat: sum(&confirmed, false).saturating_add(sum(&ours, false)),
            pending_sat: sum(&theirs, false),
            immature_sat: sum(&confirmed, true),
        }
    }
}

/// Bytes from the operating system's generator.
pub(super) fn random_bytes<const N: usize>() -> io::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0u8; N]);
    fs::File::open("/dev/urandom")?.read_exact(bytes.as_mut_slice())?;
    Ok(bytes)
}

/// Replaces a file at once, readable by its owner alone.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), RegtestError> {
    let fault = |source| RegtestError::File { what: "write", path: path.into(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let _ = fs::remove_file(&temporary);
    let mut file =
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
    fs::rename(&temporary, path).map_err(fault)
}

fn read_or_make_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, RegtestError> {
    let fault = |source| RegtestError::File { what: "read", path: path.into(), source };
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            let seed: [u8; 32] = bytes
                .as_slice()
                .try_into()
                .map_err(|_| RegtestError::Faucet(format!("{} is not 32 bytes", path.display())))?;
            Ok(Zeroizing::new(seed))
        }
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let seed = random_bytes::<32>().map_err(|source| RegtestError::Faucet(source.to_string()))?;
            write_private(path, seed.as_slice())?;
            Ok(seed)
        }
        Err(source) => Err(fault(source)),
    }
}

fn read_counter(path: &Path) -> Result<u32, RegtestError> {
    match fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| RegtestError::Faucet(format!("{} holds no number", path.display()))),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(RegtestError::File { what: "read", path: path.into(), source }),
    }
}
