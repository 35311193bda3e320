//! The node's coins on chain: addresses, blocks, funding and withdrawals.
//!
//! In: the seed, the records kept so far, blocks, and orders to spend. Out: signed transactions, and after every
//! call a change to keep ([`Wallet::take_change`]): the wallet writes nothing itself, its changes lie in the same
//! batch as the node's.
//! It is one `bdk_wallet` over two keychains of the seed: BIP 84 (p2wpkh, what `newaddr bech32` gives) in BDK's
//! external place, BIP 86 (p2tr) in its internal place, for `newaddr p2tr` and for our change alike. So both kinds
//! are found and spent together, and change looks like any taproot output. Which script is change follows from the
//! transaction (all inputs ours), never from the keychain.
//! BDK gets public descriptors only; the one private key is here, and is wiped when the wallet is dropped.
//! Read next: `spend` (how a transaction is built), `attach` (coins for one that cannot pay its own fee), `coins` (what
//! may be spent), `lease` and `psbt` (transactions that others make with us), `bump`, `plan`, `record` (what is kept).

mod attach;
mod bump;
mod coins;
mod lease;
mod plan;
mod psbt;
mod record;
mod spend;

pub use bump::BumpOrder;
pub use coins::{OutputStatus, WalletBalance, WalletOutput};
pub use lease::Reservation;
pub use plan::{Plan, PlannedInput, PlannedOutput};
pub use psbt::{FundedPsbt, PsbtOrder};
pub use spend::{verify_spend, Withdrawal};

use crate::seed::Seed;
use bdk_wallet::chain::{BlockId, Merge};
use bdk_wallet::descriptor::ExtendedDescriptor;
use bdk_wallet::template::{Bip84, Bip86, DescriptorTemplate};
use bdk_wallet::{ChangeSet, KeychainKind, LoadError, LoadParams, Update};
use bitcoin::bip32::{ChildNumber, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxIn, Txid};
use chand_protocol::chain::Network;
use chand_protocol::units::{Feerate, Height, Sat};
use record::Change;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// How far beyond the last address given out the wallet recognises its own.
const LOOKAHEAD: u32 = 50;
/// After how many changes [`Wallet::compact`] has something to say.
const COMPACT_AFTER: usize = 200;
/// A whole that is larger than this, in bytes, is not made: the store has a limit, and parts are as good.
const WHOLE_MAX: usize = 8 * 1024 * 1024;

/// Litecoin's number in the paths of keys (SLIP 44).
const LITECOIN: u32 = 2;

const P2WPKH: KeychainKind = KeychainKind::External;
const P2TR: KeychainKind = KeychainKind::Internal;

/// Which form of address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressKind {
    /// `bech32`: p2wpkh.
    P2wpkh,
    /// `p2tr`: taproot.
    P2tr,
}

/// Why the wallet could not do it, in words for its user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// Too few coins.
    #[error("{needed} needed (fee included), {available} can be spent{hint}")]
    Insufficient {
        /// With the fee.
        needed: Sat,
        /// Confirmed, or change of our own; not reserved.
        available: Sat,
        /// What there is besides, and what to do.
        hint: String,
    },
    /// The output would be too small to relay.
    #[error("{amount} are too few for an output: at least {least}")]
    Dust {
        /// Asked for.
        amount: Sat,
        /// The least for this script.
        least: Sat,
    },
    /// The feerate would not relay.
    #[error("{0} would not be relayed: at least {least}", least = Feerate::FLOOR)]
    FeerateTooLow(Feerate),
    /// Relay asks for more than is to be paid.
    #[error("a fee of at least {least} would be needed, and at most {most} is to be paid")]
    TooDear {
        /// By the rules of relay and replacement.
        least: Sat,
        /// By the order.
        most: Sat,
    },
    /// A coin that was named cannot be spent.
    #[error("the coin {outpoint} cannot be spent: {why}")]
    Coin {
        /// Which.
        outpoint: OutPoint,
        /// Why not.
        why: &'static str,
    },
    /// What was handed in, or asked for, cannot be done; in words.
    #[error("{0}")]
    Refused(String),
    /// A block came that does not follow the last one.
    #[error("block {got} does not fit the wallet, which stands at block {at}")]
    OutOfOrder {
        /// Its height.
        got: u32,
        /// The wallet's height.
        at: u32,
    },
    /// The chain was reorganised below the wallet's first block.
    #[error("block {0} is the first that the wallet knows: the chain cannot be followed below it")]
    TooDeep(u32),
    /// The records are another wallet's.
    #[error("the wallet's records belong to another seed or network: put the right seed back")]
    WrongSeed,
    /// The records cannot be read.
    #[error("the wallet's records cannot be read: {0}")]
    Record(String),
    /// A bug of ours or of the library's; nothing was spent.
    #[error("the wallet failed: {0}")]
    Internal(String),
}

/// Keys, coins and reservations.
// BOLT 2 [2.created.2].
pub struct Wallet {
    inner: bdk_wallet::Wallet,
    key: Xpriv,
    network: Network,
    /// All that was ever staged: what a reload after a reorganisation starts from.
    total: ChangeSet,
    /// Not yet taken.
    pending: Change,
    /// What transactions spend that are not on chain yet and that others than their user rely on (fundings, and those of
    /// `attach` with the coins of their earlier versions), by transaction.
    reserved: BTreeMap<Txid, Vec<OutPoint>>,
    /// What users put aside, and until which block (`lease`).
    leases: BTreeMap<OutPoint, Height>,
    changes: usize,
    /// See [`Wallet::keep_back`].
    kept_back: Sat,
    /// What is pending is kept at once, even if it is nothing but blocks.
    urgent: bool,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet")
            .field("tip", &self.tip())
            .field("reserved", &self.reserved)
            .finish_non_exhaustive()
    }
}

impl Drop for Wallet {
    fn drop(&mut self) {
        self.key.private_key.non_secure_erase();
    }
}

impl Wallet {
    /// The wallet of `seed` with everything that `changes` tell, in the order in which they were taken. With none
    /// it is new: it stands at the genesis block until told otherwise ([`Wallet::start_at`]).
    ///
    /// # Errors
    /// [`WalletError::Record`] or [`WalletError::WrongSeed`].
    pub fn load(seed: &Seed, network: Network, changes: Vec<Vec<u8>>) -> Result<Wallet, WalletError> {
        let internal = |e: &dyn std::fmt::Display| WalletError::Internal(e.to_string());
        let key = Xpriv::new_master(network.bitcoin(), seed.bytes()).map_err(|e| internal(&e))?;
        let descriptors = descriptors(key, network)?;
        let count = changes.len();
        let record::Merged { mut total, reserved, leases } = record::merge(changes)?;
        let mut pending = Change::default();
        let inner = if total.is_empty() {
            let [wpkh, tr] = descriptors;
            let mut inner = bdk_wallet::Wallet::create(wpkh, tr)
                .network(network.bitcoin())
                .genesis_hash(network.genesis())
                .lookahead(LOOKAHEAD)
                .create_wallet_no_persist()
                .map_err(|e| internal(&e))?;
            if let Some(staged) = inner.take_staged() {
                total = staged.clone();
                pending.merge_bdk(staged);
            }
            inner
        } else {
            record::prune(&mut total);
            reload(&descriptors, network, total.clone())?
        };
        Ok(Wallet {
            inner,
            key,
            network,
            total,
            pending,
            reserved,
            leases,
            changes: count,
            kept_back: Sat::ZERO,
            urgent: false,
        })
    }

    /// Lets a new wallet begin at a block instead of at genesis: what was paid before is not looked for. Give it a
    /// block a few below the tip, as the chain cannot be followed below it.
    ///
    /// # Errors
    /// [`WalletError::OutOfOrder`] when the wallet has seen blocks already.
    pub fn start_at(&mut self, height: Height, hash: BlockHash) -> Result<(), WalletError> {
        let (at, _) = self.tip();
        let refuse = WalletError::OutOfOrder { got: height.0, at: at.0 };
        if at.0 != 0 || height.0 == 0 {
            return Err(refuse);
        }
        let tip =
            self.inner.latest_checkpoint().push(BlockId { height: height.0, hash }).map_err(|_| refuse)?;
        self.urgent = true;
        self.inner
            .apply_update(Update { chain: Some(tip), ..Update::default() })
            .map_err(|e| WalletError::Internal(e.to_string()))
    }

    /// The last block it knows: where to follow the chain from.
    pub fn tip(&self) -> (Height, BlockHash) {
        let tip = self.inner.latest_checkpoint();
        (Height(tip.height()), tip.hash())
    }

    /// Takes in the blocks that were connected after the last change was kept, oldest first: such a change is not made
    /// for a block that holds nothing of ours, so whoever follows the chain gives their hashes back at a start.
    ///
    /// # Errors
    /// [`WalletError::OutOfOrder`] when one of those that both know has another hash.
    pub fn catch_up(&mut self, blocks: &[(Height, BlockHash)]) -> Result<(), WalletError> {
        let (at, _) = self.tip();
        let mut tip = self.inner.latest_checkpoint();
        for (height, hash) in blocks {
            let refuse = WalletError::OutOfOrder { got: height.0, at: at.0 };
            if *height <= at {
                match tip.get(height.0) {
                    Some(known) if known.hash() != *hash => return Err(refuse),
                    _ => continue,
                }
            }
            tip = tip.push(BlockId { height: height.0, hash: *hash }).map_err(|_| refuse)?;
        }
        if tip.height() == at.0 {
            return Ok(());
        }
        self.inner
            .apply_update(Update { chain: Some(tip), ..Update::default() })
            .map_err(|e| WalletError::Internal(e.to_string()))
    }

    /// The first address that was given out and is not used, else a new one: for money that may come any time.
    pub fn unused_address(&mut self, kind: AddressKind) -> Address {
        self.inner.next_unused_address(keychain(kind)).address
    }

    /// A new address; never given out before.
    pub fn new_address(&mut self, kind: AddressKind) -> Address {
        self.inner.reveal_next_address(keychain(kind)).address
    }

    /// As people write it on this network.
    pub fn address_text(&self, script: &ScriptBuf) -> Option<String> {
        chand_protocol::address::write(script, self.network)
    }

    /// What an output must hold for this network's nodes to relay it.
    fn smallest(&self, script: &ScriptBuf) -> Sat {
        Sat(script.minimal_non_dust().to_sat().saturating_mul(self.network.row().dust_factor))
    }

    /// True when `script` is one of ours (given out, or soon to be).
    pub fn is_mine(&self, script: &ScriptBuf) -> bool {
        self.inner.is_mine(script.clone())
    }

    /// Takes in the block after the tip.
    ///
    /// # Errors
    /// [`WalletError::OutOfOrder`] when it does not follow the tip; then nothing changed.
    pub fn block_connected(&mut self, height: Height, block: &Block) -> Result<(), WalletError> {
        let (at, tip) = self.tip();
        if height != at.plus(1) || block.header.prev_blockhash != tip {
            return Err(WalletError::OutOfOrder { got: height.0, at: at.0 });
        }
        self.inner.apply_block(block, height.0).map_err(|e| WalletError::Internal(e.to_string()))?;
        // A reserved coin that was spent, by whichever transaction, is reserved no longer.
        if !self.reserved.is_empty() {
            let spent: Vec<OutPoint> =
                block.txdata.iter().flat_map(|tx| &tx.input).map(|i| i.previous_output).collect();
            let over: Vec<Txid> = self
                .reserved
                .iter()
                .filter(|(_, coins)| coins.iter().any(|c| spent.contains(c)))
                .map(|(txid, _)| *txid)
                .collect();
            over.into_iter().for_each(|txid| self.end_reservation(txid));
        }
        self.end_leases(block);
        self.drop_overtaken(block);
        Ok(())
    }

    /// Forgets unconfirmed transactions of ours that can never confirm, as the block spends otherwise what they spend
    /// (a peer may have taken an output of a closed channel first), and all that spends from them.
    fn drop_overtaken(&mut self, block: &Block) {
        let mut dead: Vec<Txid> = Vec::new();
        let graph = self.inner.tx_graph();
        for tx in &block.txdata {
            let rivals = tx.input.iter().flat_map(|input| graph.outspends(input.previous_output));
            let mut rivals = rivals.copied().peekable();
            if rivals.peek().is_some() {
                let txid = tx.compute_txid();
                dead.extend(rivals.filter(|rival| *rival != txid));
            }
        }
        let mut next = 0;
        while let Some(txid) = dead.get(next).copied() {
            let children = graph.tx_spends(txid).flat_map(|(_, txids)| txids).copied();
            let children: Vec<Txid> = children.filter(|child| !dead.contains(child)).collect();
            dead.extend(children);
            next += 1;
        }
        dead.into_iter().for_each(|txid| self.forget_unconfirmed(txid));
    }

    /// Takes the tip block back (a reorganisation). Its transactions count as unconfirmed again.
    ///
    /// # Errors
    /// [`WalletError::OutOfOrder`] when it is not the tip, [`WalletError::TooDeep`] when nothing below it is known.
    pub fn block_disconnected(&mut self, height: Height, hash: BlockHash) -> Result<(), WalletError> {
        let (at, tip) = self.tip();
        if (height, hash) != (at, tip) {
            return Err(WalletError::OutOfOrder { got: height.0, at: at.0 });
        }
        let below = height.0.checked_sub(1);
        if below.is_none() || below != self.inner.latest_checkpoint().prev().map(|c| c.height()) {
            return Err(WalletError::TooDeep(height.0));
        }
        self.absorb();
        // What is kept may name this block; whoever reads it back must not find it there.
        self.urgent = true;
        let mut gone = ChangeSet::default();
        gone.local_chain.blocks.insert(height.0, None);
        self.total.merge(gone.clone());
        self.pending.merge_bdk(gone);
        self.inner = reload(&descriptors(self.key, self.network)?, self.network, self.total.clone())?;
        let block = BlockId { height: height.0, hash };
        let back: Vec<_> = self
            .total
            .tx_graph
            .anchors
            .iter()
            .filter(|(anchor, _)| anchor.block_id == block)
            .filter_map(|(_, txid)| self.inner.tx_graph().get_tx(*txid))
            .filter(|tx| !tx.is_coinbase())
            .collect();
        let now = now_s();
        self.inner.apply_unconfirmed_txs(back.into_iter().map(|tx| (tx, now)));
        Ok(())
    }

    /// A transaction that the wallet knows.
    pub fn transaction(&self, txid: &Txid) -> Option<Transaction> {
        self.inner.tx_graph().get_tx(*txid).map(|tx| (*tx).clone())
    }

    /// Takes in a transaction that was given to the network.
    pub fn insert_unconfirmed(&mut self, tx: Transaction) {
        // A sight counts only when it is later than the last eviction: a transaction may be forgotten and come back at once.
        let evicted = self.inner.tx_graph().get_last_evicted(tx.compute_txid());
        let seen = now_s().max(evicted.map_or(0, |at| at.saturating_add(1)));
        self.inner.apply_unconfirmed_txs([(tx, seen)]);
    }

    /// Forgets a transaction that the network did not take: its inputs are free, its outputs are not there.
    pub fn forget_unconfirmed(&mut self, txid: Txid) {
        // An eviction counts only when it is later than the last sight.
        let seen = self.inner.tx_graph().get_tx_node(txid).and_then(|tx| tx.last_seen).unwrap_or(0);
        self.inner.apply_evicted_txs([(txid, now_s().max(seen).saturating_add(1))]);
    }

    /// Frees the coins of a transaction that nobody relies on any more: a funding that will never be published, or one
    /// with attached coins that was given up, or a claim on a commitment that another one replaced in the chain. Unknown
    /// ones are no error.
    pub fn unreserve(&mut self, txid: Txid) {
        if self.is_replaceable(&txid) || self.is_claim(&txid) {
            self.forget_unconfirmed(txid);
        }
        self.end_reservation(txid);
    }

    /// Whether it spends what is not the wallet's own: an output of a channel.
    fn is_claim(&self, txid: &Txid) -> bool {
        let foreign = |input: &TxIn| self.inner.spk_index().txout(input.previous_output).is_none();
        self.inner.tx_graph().get_tx(*txid).is_some_and(|tx| tx.input.iter().any(foreign))
    }

    fn end_reservation(&mut self, txid: Txid) {
        if self.reserved.remove(&txid).is_some() {
            self.pending.reservations.insert(txid, None);
        }
    }

    /// From now on so much stays in the wallet for the fees of channels that close on chain: fundings leave it, and
    /// withdrawals that do not name their coins. Only `attach` takes of it. Not kept over a restart.
    pub fn keep_back(&mut self, amount: Sat) {
        self.kept_back = amount;
    }

    fn reserve(&mut self, tx: &Transaction) {
        let coins = tx.input.iter().map(|i| i.previous_output).collect();
        self.reserve_coins(tx.compute_txid(), coins);
    }

    fn reserve_coins(&mut self, txid: Txid, coins: Vec<OutPoint>) {
        self.pending.reservations.insert(txid, Some(coins.clone()));
        self.reserved.insert(txid, coins);
    }

    /// What changed since the last call, to be kept; [`Wallet::load`] wants all of them back, in order. Blocks without
    /// anything of ours wait for the next change that says more ([`Wallet::catch_up`]).
    pub fn take_change(&mut self) -> Option<Vec<u8>> {
        self.absorb();
        if self.pending.is_empty() || (self.pending.is_blocks_only() && !self.urgent) {
            return None;
        }
        self.urgent = false;
        self.changes = self.changes.saturating_add(1);
        Some(record::encode(&std::mem::take(&mut self.pending), record::Kind::Part))
    }

    /// Everything as one change, when there are many: once it is kept, all earlier ones may be deleted, and what was
    /// not taken yet is in it, too.
    pub fn compact(&mut self) -> Option<Vec<u8>> {
        if self.changes < COMPACT_AFTER {
            return None;
        }
        self.absorb();
        record::prune(&mut self.total);
        let reservations = self.reserved.iter().map(|(txid, coins)| (*txid, Some(coins.clone()))).collect();
        let leases = self.leases.iter().map(|(outpoint, until)| (*outpoint, Some(until.0))).collect();
        let all = Change { bdk: Some(self.total.clone()), reservations, leases };
        let whole = record::encode(&all, record::Kind::Whole);
        self.changes = 1;
        if whole.len() > WHOLE_MAX {
            return None;
        }
        self.pending = Change::default();
        Some(whole)
    }

    /// Moves what the library staged to `total` and `pending`.
    fn absorb(&mut self) {
        if let Some(staged) = self.inner.take_staged() {
            self.total.merge(staged.clone());
            self.pending.merge_bdk(staged);
        }
    }
}

fn keychain(kind: AddressKind) -> KeychainKind {
    match kind {
        AddressKind::P2wpkh => P2WPKH,
        AddressKind::P2tr => P2TR,
    }
}

fn descriptors(key: Xpriv, network: Network) -> Result<[ExtendedDescriptor; 2], WalletError> {
    let internal = |e: bdk_wallet::descriptor::DescriptorError| WalletError::Internal(e.to_string());
    let kind = network.bitcoin().into();
    if network == Network::Litecoin {
        // BDK's templates know Bitcoin's numbers only; test networks of all coins share 1.
        return Ok([own_descriptor(key, "wpkh", 84, LITECOIN)?, own_descriptor(key, "tr", 86, LITECOIN)?]);
    }
    let (wpkh, _, _) = Bip84(key, KeychainKind::External).build(kind).map_err(internal)?;
    let (tr, _, _) = Bip86(key, KeychainKind::External).build(kind).map_err(internal)?;
    Ok([wpkh, tr])
}

/// `KIND([…/PURPOSE'/COIN'/0']XPUB/0/*)`, as the templates make it.
fn own_descriptor(
    key: Xpriv,
    kind: &str,
    purpose: u32,
    coin: u32,
) -> Result<ExtendedDescriptor, WalletError> {
    let failed = |e: &dyn std::fmt::Display| WalletError::Internal(e.to_string());
    let secp = Secp256k1::new();
    let numbers = [purpose, coin, 0].map(|index| ChildNumber::Hardened { index });
    let account = key.derive_priv(&secp, &numbers).map_err(|e| failed(&e))?;
    let (owner, public) = (key.fingerprint(&secp), Xpub::from_priv(&secp, &account));
    let text = format!("{kind}([{owner}/{purpose}'/{coin}'/0']{public}/0/*)");
    text.parse().map_err(|e: bdk_wallet::miniscript::Error| failed(&e))
}

fn reload(
    descriptors: &[ExtendedDescriptor; 2],
    network: Network,
    total: ChangeSet,
) -> Result<bdk_wallet::Wallet, WalletError> {
    let [wpkh, tr] = descriptors.clone();
    let loaded = LoadParams::new()
        .check_network(network.bitcoin())
        .descriptor(P2WPKH, Some(wpkh))
        .descriptor(P2TR, Some(tr))
        .lookahead(LOOKAHEAD)
        .load_wallet_no_persist(total);
    match loaded {
        Ok(Some(wallet)) => Ok(wallet),
        Ok(None) => Err(WalletError::Record("they are empty".into())),
        Err(LoadError::Mismatch(_)) => Err(WalletError::WrongSeed),
        Err(e) => Err(WalletError::Record(e.to_string())),
    }
}

/// Seconds since the Unix epoch: only to order sights of unconfirmed transactions.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
