//! The embedded chain's mempool: bitcoind's policy, so that fee bumping meets here what it meets outside.
//!
//! In: transactions, blocks that came and went. Out: accepted or refused in bitcoind's words, block contents.
//! Relations between transactions are looked up, not stored: the pool of a test network is small and nothing can
//! then disagree with itself. Read next: `accept` (the way in), `package`, `replace`, `assemble`, `reorg`.

mod accept;
mod assemble;
#[cfg(test)]
mod differential;
mod interpreter;
mod limits;
mod package;
mod reject;
mod reorg;
mod replace;
mod script_kind;
mod script_ops;
mod script_policy;
mod standard;
mod truc;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};

pub use accept::{Accepted, Candidate, FeeRule};
pub use package::{check_package, PackageError, PackageOutcome, PackageTx};
pub use reject::{Reject, RejectKind};
pub use script_kind::ScriptKind;
pub use script_ops::{encode_num, read_op, Num, Op};
pub use standard::dust_limit_sat;

use super::consensus::{ChainState, Coin};

/// The most virtual bytes the pool holds.
pub const MAX_POOL_VBYTES: u64 = 75_000_000;

/// What the pool asks beyond consensus. Rates are in satoshi per 1000 virtual bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The least a transaction pays to be relayed at all.
    pub min_relay_sat_kvb: u64,
    /// The pool's present floor, for tests of fee spikes; no effect below `min_relay_sat_kvb`.
    pub floor_sat_kvb: u64,
    /// What a replacement adds for its own size.
    pub incremental_sat_kvb: u64,
    /// The rate that defines dust.
    pub dust_relay_sat_kvb: u64,
    /// The most bytes of OP_RETURN scripts in one transaction.
    pub data_carrier_bytes: usize,
    /// Whether bare multisig outputs are relayed.
    pub permit_bare_multisig: bool,
}

impl Default for Policy {
    /// bitcoind 30's defaults.
    fn default() -> Policy {
        Policy {
            min_relay_sat_kvb: 100,
            floor_sat_kvb: 0,
            incremental_sat_kvb: 100,
            dust_relay_sat_kvb: 3_000,
            data_carrier_bytes: 100_000,
            permit_bare_multisig: true,
        }
    }
}

impl Policy {
    /// The rate below which nothing enters now.
    pub fn entry_sat_kvb(&self) -> u64 {
        self.min_relay_sat_kvb.max(self.floor_sat_kvb)
    }
}

/// What a rate (satoshi per 1000 vB) costs for a size, rounded up.
pub fn fee_at(rate_sat_kvb: u64, vsize: u64) -> u64 {
    let exact = u128::from(rate_sat_kvb) * u128::from(vsize);
    u64::try_from(exact.div_ceil(1000)).unwrap_or(u64::MAX)
}

/// One transaction in the pool.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// What it pays, in satoshi.
    pub fee_sat: u64,
    /// Its weight.
    pub weight: u64,
    /// Its virtual size, adjusted for signature operations.
    pub vsize: u64,
    /// Its signature operation cost.
    pub sigop_cost: u64,
    /// When it came, in Unix seconds.
    pub time: u64,
    /// The tip's height when it came.
    pub height: u32,
    /// Its place in the order of arrival.
    pub sequence: u64,
}

/// Count, size and fees of a set of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// Their virtual sizes together.
    pub vsize: u64,
    /// Their fees together, in satoshi.
    pub fee_sat: u64,
}

/// The pool.
#[derive(Clone, Debug, Default)]
pub struct Mempool {
    /// What it asks.
    pub policy: Policy,
    entries: BTreeMap<Txid, Entry>,
    by_wtxid: BTreeMap<Wtxid, Txid>,
    spends: BTreeMap<OutPoint, Txid>,
    vbytes: u64,
    sequence: u64,
}

impl Mempool {
    /// An empty pool.
    pub fn new(policy: Policy) -> Mempool {
        Mempool { policy, ..Mempool::default() }
    }

    /// The entry of this id.
    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    /// The id of the entry with this witness id.
    pub fn txid_of(&self, wtxid: &Wtxid) -> Option<Txid> {
        self.by_wtxid.get(wtxid).copied()
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is it empty?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The virtual sizes together.
    pub fn vbytes(&self) -> u64 {
        self.vbytes
    }

    /// Counts arrivals and departures, as `mempool_sequence` does.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Which entry spends this output.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spends.get(outpoint).copied()
    }

    /// An unconfirmed output, spent in the pool or not.
    pub fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        let vout = usize::try_from(outpoint.vout).ok()?;
        self.entries.get(&outpoint.txid)?.tx.output.get(vout)
    }

    /// The coin an input names: unconfirmed or in the chain. Whether the pool spends it is not asked.
    pub fn coin(&self, chain: &ChainState, outpoint: &OutPoint) -> Option<Coin> {
        match self.output(outpoint) {
            Some(out) => {
                let height = chain.tip().height.saturating_add(1);
                Some(Coin { out: out.clone(), height, coinbase: false })
            }
            None => chain.coin(outpoint),
        }
    }

    /// The entries a transaction spends from directly.
    pub fn parents(&self, tx: &Transaction) -> BTreeSet<Txid> {
        let spent = tx.input.iter().map(|input| input.previous_output.txid);
        spent.filter(|txid| self.entries.contains_key(txid)).collect()
    }

    /// The entries that spend from this one directly.
    pub fn children(&self, txid: &Txid) -> BTreeSet<Txid> {
        let from = OutPoint { txid: *txid, vout: 0 };
        let to = OutPoint { txid: *txid, vout: u32::MAX };
        self.spends.range(from..=to).map(|(_, spender)| *spender).collect()
    }

    /// All entries this transaction rests on, itself not among them.
    pub fn ancestors(&self, tx: &Transaction) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Txid> = self.parents(tx).into_iter().collect();
        while let Some(txid) = open.pop() {
            if found.insert(txid) {
                if let Some(entry) = self.entries.get(&txid) {
                    open.extend(self.parents(&entry.tx));
                }
            }
        }
        found
    }

    /// This entry and all that rests on it.
    pub fn descendants(&self, txid: &Txid) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open = vec![*txid];
        while let Some(txid) = open.pop() {
            if found.insert(txid) {
                open.extend(self.children(&txid));
            }
        }
        found
    }

    /// Adds up a set of entries.
    pub fn totals<'a>(&self, txids: impl IntoIterator<Item = &'a Txid>) -> Totals {
        let mut totals = Totals::default();
        for entry in txids.into_iter().filter_map(|txid| self.entries.get(txid)) {
            totals.count += 1;
            totals.vsize += entry.vsize;
            totals.fee_sat = totals.fee_sat.saturating_add(entry.fee_sat);
        }
        totals
    }

    /// Does this transaction, or one it rests on, announce that it may be replaced (BIP 125)?
    pub fn signals_replacement(&self, entry: &Entry) -> bool {
        entry.tx.is_explicitly_rbf()
            || self
                .ancestors(&entry.tx)
                .iter()
                .filter_map(|txid| self.entries.get(txid))
                .any(|ancestor| ancestor.tx.is_explicitly_rbf())
    }

    fn insert(&mut self, mut entry: Entry) {
        self.sequence += 1;
        entry.sequence = self.sequence;
        for input in &entry.tx.input {
            self.spends.insert(input.previous_output, entry.txid);
        }
        self.by_wtxid.insert(entry.wtxid, entry.txid);
        self.vbytes += entry.vsize;
        self.entries.insert(entry.txid, entry);
    }

    fn remove_one(&mut self, txid: &Txid) -> Option<Entry> {
        let entry = self.entries.remove(txid)?;
        for input in &entry.tx.input {
            if self.spends.get(&input.previous_output) == Some(txid) {
                self.spends.remove(&input.previous_output);
            }
        }
        self.by_wtxid.remove(&entry.wtxid);
        self.vbytes = self.vbytes.saturating_sub(entry.vsize);
        self.sequence += 1;
        Some(entry)
    }

    /// Removes an entry and all that rests on it.
    pub fn remove_with_descendants(&mut self, txid: &Txid) {
        for gone in self.descendants(txid) {
            self.remove_one(&gone);
        }
    }
}
