//! A chain of blocks just big enough for two nodes: outputs, a mempool, blocks, reorganisations.
//!
//! In: transactions that a node published. Out: whether they are taken, and blocks that hold them. Every transaction
//! is run through the reference code of Bitcoin Core and through our own rules of relay; one that fails them was
//! signed wrongly by a node of ours, so the test ends there.
//! Read next: `super` (who mines and who listens).

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use bitcoinconsensus::{verify_with_flags, Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT};
use chand_protocol::tx::standard::standard;
use chand_protocol::units::{Feerate, Height};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The height of the first block.
pub const FIRST_HEIGHT: u32 = 100;

/// One block.
#[derive(Clone, Debug)]
pub struct TinyBlock {
    /// Its name.
    pub hash: BlockHash,
    /// Its time, seconds since the Unix epoch.
    pub time_s: u32,
    /// What is in it.
    pub txs: Arc<Vec<Transaction>>,
}

/// The chain that both nodes follow.
#[derive(Clone, Debug)]
pub struct TinyChain {
    /// From [`FIRST_HEIGHT`] on.
    pub blocks: Vec<TinyBlock>,
    /// Taken, not yet in a block; in the order they came.
    pub mempool: Vec<Transaction>,
    unspent: BTreeMap<OutPoint, TxOut>,
    /// Every output there ever was.
    made: BTreeMap<OutPoint, TxOut>,
    /// In which block a transaction is.
    heights: BTreeMap<Txid, u32>,
    /// How many blocks were ever taken away.
    pub undone: u32,
    /// The miners' clock, seconds since the Unix epoch.
    pub clock_s: u32,
    /// What the mempool asks for at least, satoshis per 1,000 weight units.
    pub floor: u64,
    /// Transactions that pay much in all and little for each byte: until this height no miner takes them, and who replaces
    /// them has to pay so many satoshis more.
    pins: BTreeMap<Txid, (u32, u64)>,
    /// All that the faucet gave, in satoshis.
    minted: u64,
    salt: u64,
}

impl Default for TinyChain {
    fn default() -> Self {
        TinyChain::new()
    }
}

impl TinyChain {
    /// One empty block.
    pub fn new() -> TinyChain {
        let mut chain = TinyChain {
            blocks: Vec::new(),
            mempool: Vec::new(),
            unspent: BTreeMap::new(),
            made: BTreeMap::new(),
            heights: BTreeMap::new(),
            undone: 0,
            clock_s: 0,
            floor: 0,
            pins: BTreeMap::new(),
            minted: 0,
            salt: 0,
        };
        chain.mine();
        chain
    }

    /// A coin out of nowhere.
    pub fn faucet(&mut self, script_pubkey: ScriptBuf, sat: u64) -> OutPoint {
        self.salt += 1;
        self.minted += sat;
        let output = TxOut { value: Amount::from_sat(sat), script_pubkey };
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(self.salt as u32),
            input: Vec::new(),
            output: vec![output.clone()],
        };
        let place = OutPoint { txid: tx.compute_txid(), vout: 0 };
        self.made.insert(place, output.clone());
        self.unspent.insert(place, output);
        self.heights.insert(place.txid, FIRST_HEIGHT);
        place
    }

    /// The newest block's height.
    pub fn height(&self) -> u32 {
        FIRST_HEIGHT + self.blocks.len() as u32 - 1
    }

    /// A block by height.
    pub fn block(&self, height: u32) -> Option<&TinyBlock> {
        self.blocks.get(height.checked_sub(FIRST_HEIGHT)? as usize)
    }

    /// Puts the mempool into a block.
    pub fn mine(&mut self) {
        let waiting = std::mem::take(&mut self.mempool);
        let (mut ripe, mut early): (Vec<Transaction>, Vec<Transaction>) = Default::default();
        let mut taken = BTreeSet::new();
        for tx in waiting {
            // After a reorganisation some may have to wait again, and what spends them.
            let there = |place: &OutPoint| {
                self.unspent.contains_key(place) || ripe.iter().any(|p| p.compute_txid() == place.txid)
            };
            let free =
                tx.input.iter().all(|i| there(&i.previous_output) && !taken.contains(&i.previous_output));
            if free && self.is_final(&tx) && !self.is_pinned(&tx) {
                taken.extend(tx.input.iter().map(|i| i.previous_output));
                ripe.push(tx);
            } else {
                early.push(tx);
            }
        }
        self.put(ripe);
        self.mempool = early;
        self.purge();
    }

    fn put(&mut self, txs: Vec<Transaction>) {
        self.salt += 1;
        let hash: [u8; 32] = Sha256::digest(self.salt.to_be_bytes()).into();
        let height = self.height() + u32::from(!self.blocks.is_empty());
        for tx in &txs {
            self.apply(tx, height);
        }
        let (hash, time_s) = (BlockHash::from_byte_array(hash), self.clock_s);
        self.blocks.push(TinyBlock { hash, time_s, txs: Arc::new(txs) });
    }

    /// A block with just these transactions, as another miner made it; nothing is checked.
    pub fn mine_foreign(&mut self, txs: Vec<Transaction>) {
        self.put(txs);
        self.purge();
    }

    /// What waits and can no longer be mined is dropped: its coins are gone.
    fn purge(&mut self) {
        let waiting = std::mem::take(&mut self.mempool);
        for tx in waiting {
            let known = tx.input.iter().all(|i| self.output(&i.previous_output).is_some());
            if known && !self.is_confirmed(&tx.compute_txid()) {
                self.mempool.push(tx);
            }
        }
    }

    /// Whether the next block may hold it: its lock time, and the relative locks of its inputs (BIP 68).
    pub fn is_final(&self, tx: &Transaction) -> bool {
        let next = self.height() + 1;
        let waits = tx.input.iter().any(|i| i.sequence.0 != u32::MAX);
        let lock = tx.lock_time.to_consensus_u32();
        if waits && lock < 500_000_000 && lock >= next {
            return false;
        }
        tx.input.iter().all(|input| {
            let sequence = input.sequence.0;
            if tx.version.0 < 2 || sequence & 0x8000_0000 != 0 {
                return true;
            }
            let blocks = sequence & 0xffff;
            let born = self.heights.get(&input.previous_output.txid);
            born.map_or(blocks == 0, |born| born + blocks <= next)
        })
    }

    /// What a transaction pays; `None` when it spends what nobody knows.
    pub fn fee(&self, tx: &Transaction) -> Option<u64> {
        let spent: Option<Vec<&TxOut>> =
            tx.input.iter().map(|i| self.made_or_waiting(&i.previous_output)).collect();
        let spent: u64 = spent?.iter().map(|o| o.value.to_sat()).sum();
        spent.checked_sub(tx.output.iter().map(|o| o.value.to_sat()).sum())
    }

    /// Whether a node that is there has read all blocks.
    pub fn is_tip(&self, place: Option<(Height, BlockHash)>) -> bool {
        place.is_some_and(|(height, hash)| {
            height.0 == self.height() && self.block(height.0).is_some_and(|block| block.hash == hash)
        })
    }

    /// An output that some block or the faucet ever made.
    pub fn made(&self, place: &OutPoint) -> Option<&TxOut> {
        self.made.get(place)
    }

    /// All that blocks hold and all that they paid to miners is what the faucet gave.
    ///
    /// # Errors
    /// In words.
    pub fn conserved(&self) -> Result<(), String> {
        let held: u64 = self.unspent.values().map(|o| o.value.to_sat()).sum();
        let mut fees = 0;
        for tx in self.blocks.iter().flat_map(|b| b.txs.iter()) {
            fees += self.fee(tx).ok_or_else(|| format!("{} pays more than it has", tx.compute_txid()))?;
        }
        if held + fees == self.minted {
            return Ok(());
        }
        Err(format!("the chain holds {held} and paid {fees} to miners, of {}", self.minted))
    }

    fn made_or_waiting(&self, place: &OutPoint) -> Option<&TxOut> {
        self.made.get(place).or_else(|| {
            let tx = self.mempool.iter().find(|tx| tx.compute_txid() == place.txid)?;
            tx.output.get(place.vout as usize)
        })
    }

    /// Takes the newest block away; its transactions wait again, unless `forget`.
    pub fn unmine(&mut self, forget: bool) {
        let Some(gone) = self.blocks.pop() else { return };
        self.undone += 1;
        for tx in gone.txs.iter().rev() {
            let txid = tx.compute_txid();
            self.heights.remove(&txid);
            for vout in 0..tx.output.len() as u32 {
                self.unspent.remove(&OutPoint { txid, vout });
            }
            for input in &tx.input {
                if let Some(output) = self.made.get(&input.previous_output).cloned() {
                    self.unspent.insert(input.previous_output, output);
                }
            }
        }
        if !forget {
            let mut back = (*gone.txs).clone();
            back.append(&mut self.mempool);
            self.mempool = back;
        }
        // What hangs on something that is forgotten goes with it.
        self.purge();
    }

    fn apply(&mut self, tx: &Transaction, height: u32) {
        let txid = tx.compute_txid();
        self.heights.insert(txid, height);
        for input in &tx.input {
            self.unspent.remove(&input.previous_output);
        }
        for (vout, output) in tx.output.iter().enumerate() {
            let place = OutPoint { txid, vout: vout as u32 };
            self.unspent.insert(place, output.clone());
            self.made.insert(place, output.clone());
        }
    }

    /// An output that no block and no waiting transaction spends.
    pub fn unspent(&self, place: &OutPoint) -> Option<TxOut> {
        let spent = |tx: &Transaction| tx.input.iter().any(|i| i.previous_output == *place);
        if self.mempool.iter().any(spent) {
            return None;
        }
        self.output(place)
    }

    fn output(&self, place: &OutPoint) -> Option<TxOut> {
        self.unspent.get(place).cloned().or_else(|| {
            let tx = self.mempool.iter().find(|tx| tx.compute_txid() == place.txid)?;
            tx.output.get(place.vout as usize).cloned()
        })
    }

    /// The outputs that a transaction spends, if a block or a waiting transaction made them and no block spends them.
    pub fn spent_by(&self, tx: &Transaction) -> Option<Vec<TxOut>> {
        tx.input.iter().map(|i| self.output(&i.previous_output)).collect()
    }

    /// Whether a transaction is in a block.
    pub fn is_confirmed(&self, txid: &Txid) -> bool {
        self.heights.contains_key(txid)
    }

    /// In which block a transaction is.
    pub fn height_of(&self, txid: &Txid) -> Option<u32> {
        self.heights.get(txid).copied()
    }

    /// An output of a block that no block spends.
    pub fn holds(&self, place: &OutPoint) -> bool {
        self.unspent.contains_key(place)
    }

    /// No miner takes this transaction until then, and replacing it costs so many satoshis more: as if it were very large.
    pub fn pin(&mut self, txid: Txid, until: u32, sat: u64) {
        self.pins.insert(txid, (until, sat));
    }

    fn is_pinned(&self, tx: &Transaction) -> bool {
        self.pins.get(&tx.compute_txid()).is_some_and(|(until, _)| self.height() < *until)
    }

    /// What all blocks left to a script.
    pub fn money_of(&self, script: &ScriptBuf) -> u64 {
        self.unspent.values().filter(|o| o.script_pubkey == *script).map(|o| o.value.to_sat()).sum()
    }

    /// Takes a transaction into the mempool, or says why not. Known already is fine.
    ///
    /// # Errors
    /// The reason, as a backend would give it.
    ///
    /// # Panics
    /// When it breaks a rule of the network.
    pub fn submit(&mut self, tx: &Transaction) -> Result<(), String> {
        self.offer(tx, true).unwrap_or_else(|broken| panic!("{broken}"))
    }

    /// The same; the outer error is a rule of the network that it breaks. With counterfeit signatures (not `signed`) no
    /// script is run.
    ///
    /// # Errors
    /// What is wrong with it, whatever the chain holds.
    pub fn offer(&mut self, tx: &Transaction, signed: bool) -> Result<Result<(), String>, String> {
        let txid = tx.compute_txid();
        if self.is_confirmed(&txid) || self.mempool.iter().any(|t| t.compute_txid() == txid) {
            return Ok(Ok(()));
        }
        let Some(spent) = self.spent_by(tx) else { return Ok(Err("bad-txns-inputs-missingorspent".into())) };
        if signed {
            consensus(tx, &spent)?;
        }
        relayed(tx, &spent)?;
        if !self.is_final(tx) {
            return Ok(Err("non-final".into()));
        }
        let paid = self.fee(tx).unwrap_or(0) * 1_000 / tx.weight().to_wu();
        if paid < self.floor {
            return Ok(Err(format!("mempool min fee not met, {paid} < {}", self.floor)));
        }
        if let Err(reason) = self.replace(tx) {
            return Ok(Err(reason));
        }
        self.mempool.push(tx.clone());
        Ok(Ok(()))
    }
}

impl TinyChain {
    /// Makes room for `tx` by dropping what it conflicts with, when it pays for that (full RBF).
    fn replace(&mut self, tx: &Transaction) -> Result<(), String> {
        let taken = |other: &Transaction| {
            other.input.iter().any(|i| tx.input.iter().any(|mine| mine.previous_output == i.previous_output))
        };
        let mut gone: Vec<Txid> =
            self.mempool.iter().filter(|t| taken(t)).map(Transaction::compute_txid).collect();
        if gone.is_empty() {
            return Ok(());
        }
        // Children go with their parents; they stand after them.
        for child in &self.mempool {
            if child.input.iter().any(|i| gone.contains(&i.previous_output.txid)) {
                gone.push(child.compute_txid());
            }
        }
        if tx.input.iter().any(|i| gone.contains(&i.previous_output.txid)) {
            return Err("txn-mempool-conflict: it spends what it replaces".into());
        }
        let old = self.mempool.iter().filter(|t| gone.contains(&t.compute_txid()));
        let (mut fees, mut best) = (0u64, 0u64);
        for other in old {
            let fee = self.fee(other).unwrap_or(0);
            fees += fee + self.pinned_fee(other);
            best = best.max(fee * 1_000 / other.weight().to_wu());
        }
        let fee = self.fee(tx).unwrap_or(0);
        let weight = tx.weight().to_wu();
        if fee + self.pinned_fee(tx) < fees + weight / 4 || fee * 1_000 / weight <= best {
            return Err(format!("txn-mempool-conflict: insufficient fee to replace, {fee} after {fees}"));
        }
        self.mempool.retain(|t| !gone.contains(&t.compute_txid()));
        Ok(())
    }

    fn pinned_fee(&self, tx: &Transaction) -> u64 {
        self.pins.get(&tx.compute_txid()).map_or(0, |(_, sat)| *sat)
    }
}

/// Runs every input's script by the reference code of Bitcoin Core, and checks that the transaction would be relayed.
///
/// # Panics
/// When either refuses: a node of ours made it.
pub fn check_transaction(tx: &Transaction, spent: &[TxOut]) {
    let checked = consensus(tx, spent).and_then(|()| relayed(tx, spent));
    checked.unwrap_or_else(|broken| panic!("{broken}"));
}

/// Runs every input's script by the reference code of Bitcoin Core.
///
/// # Errors
/// Which input it refuses, and why.
pub fn consensus(tx: &Transaction, spent: &[TxOut]) -> Result<(), String> {
    let utxo = |output: &TxOut| Utxo {
        script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
        script_pubkey_len: output.script_pubkey.len() as u32,
        value: output.value.to_sat() as i64,
    };
    let utxos: Vec<Utxo> = spent.iter().map(utxo).collect();
    let raw = serialize(tx);
    for (place, output) in spent.iter().enumerate() {
        let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
        let flags = VERIFY_ALL_PRE_TAPROOT | VERIFY_TAPROOT;
        verify_with_flags(script, value, &raw, Some(&utxos), place, flags)
            .map_err(|e| format!("input {place} of {}: {e:?}", tx.compute_txid()))?;
    }
    Ok(())
}

/// Our own rules of relay, at one satoshi a virtual byte.
fn relayed(tx: &Transaction, spent: &[TxOut]) -> Result<(), String> {
    standard(tx, spent, Feerate(250)).map_err(|e| format!("{} would not be relayed: {e}", tx.compute_txid()))
}
