//! A tower at work: a breach is found, and every output that can be taken is.
//!
//! In: a transaction of a block whose hint is known, its blob, then blocks and their undoing. Out: penalties, raised in
//! fee as the cheat's delay runs out, and the end of the case. It is the machinery of a node's own penalties (`crate::onchain`) over what a blob tells: the
//! same watch, the same claims, the same split into what can and what cannot be contested.
//! Read next: `crate::onchain::claim`.

use super::blob::Blob;
use super::presigned::Penalties;
use super::seal::{open_blob, Seed};
use super::{ChannelTerms, EntryId, Run};
use crate::channel::{Context, Out};
use crate::id::Side;
use crate::node::effect::Fees;
use crate::onchain::claim::{drop_lost, is_worth_alone, plan_sweeps, Ways};
use crate::onchain::unlock::{htlc_script, Keys, Way};
use crate::onchain::{Kind, Lock, Output, Spent, Standing, Watch, RESOLVED_DEPTH};
use crate::sign::Crypto;
use crate::tx::keys::{derive_public_key, BadKey, CommitmentKeys};
use crate::tx::script;
use crate::units::{Feerate, Height, Msat, Sat, Timestamp};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use secp256k1::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};

/// HTLCs of one commitment at most (BOLT 2: 483 of each side).
const MAX_HELD: usize = 966;
/// How long after its deadline, in blocks, an output is tried to be taken that nobody takes (four weeks); and how long a
/// commitment that left the chain is waited for.
const PATIENCE_BLOCKS: u32 = 4_032;

/// How the outputs are taken.
#[derive(Clone, Serialize, Deserialize)]
enum Means {
    /// By the state's revocation key.
    Key { key: [u8; 32], point: PublicKey, terms: Box<ChannelTerms> },
    /// By transactions signed in advance, the cheapest first; how long, in blocks, the cheat waits.
    Presigned { txs: Vec<Transaction>, delay_blocks: u16 },
}

impl Drop for Means {
    fn drop(&mut self) {
        if let Means::Key { key, .. } = self {
            zeroize::Zeroize::zeroize(key);
        }
    }
}

/// A revoked commitment in a block, and what is done about it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Breach {
    /// The commitment, its outputs, and our claims.
    pub watch: Watch,
    means: Means,
    /// Where another transaction spent the funding output, after the commitment had left the chain.
    rival: Option<Height>,
    /// Since when the commitment is in no block.
    gone: Option<Height>,
}

/// A case that is at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Why, in words.
    pub why: &'static str,
    /// What nobody took.
    pub left: Sat,
}

impl core::fmt::Debug for Breach {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Breach({})", self.watch.commitment.compute_txid())
    }
}

/// What the tower knows of the moment.
pub struct Moment<'a> {
    /// The newest block.
    pub tip: Height,
    /// Feerates.
    pub fees: Fees,
    /// Signs.
    pub crypto: &'a dyn Crypto,
}

impl Breach {
    /// Looks at a transaction whose hint is known; `None` when the blob is another's. `find` knows the entries of the channel
    /// by name.
    pub fn open(
        tx: &Transaction,
        height: Height,
        sealed: &[u8],
        find: &dyn Fn(&EntryId) -> Option<Vec<u8>>,
        crypto: &dyn Crypto,
    ) -> Option<Breach> {
        let (mode, plain) = open_blob(&tx.compute_txid(), sealed)?;
        match Blob::decode(mode, &plain).ok()? {
            Blob::Key { key, point, seed, held } => {
                let terms = seed.open_terms(find)?;
                let watch = recognise(tx, height, &key, point, &terms, &seed, &held, find, crypto).ok()?;
                let means = Means::Key { key: *key, point, terms: Box::new(terms) };
                Some(Breach { watch, means, rival: None, gone: None })
            }
            Blob::Presigned(penalties) => Some(Breach::presigned(tx, height, &penalties)),
        }
        // A client may send a blob for any transaction: what has nothing to be taken is not worth watching.
        .filter(|breach| breach.watch.outputs.iter().any(is_takeable))
    }

    fn presigned(tx: &Transaction, height: Height, penalties: &Penalties) -> Breach {
        let txid = tx.compute_txid();
        let taken = penalties.outpoint(&txid);
        let script = penalties.output_script();
        let outputs = outputs(tx, height, |outpoint, pays_to, _| {
            let ours = *outpoint == taken && *pays_to == script;
            (if ours { Kind::ToLocal } else { Kind::Unknown }, None)
        });
        let watch = new_watch(tx, None, outputs);
        let (txs, delay_blocks) = (penalties.transactions(&txid), penalties.delay_blocks);
        Breach { watch, means: Means::Presigned { txs, delay_blocks }, rival: None, gone: None }
    }

    /// A block's transactions: spends, and what HTLC transactions paid to.
    pub fn on_block(&mut self, txs: &[Transaction], height: Height, crypto: &dyn Crypto) {
        let second = self.keys(crypto).map(|keys| script::p2wsh(&keys.delayed));
        let commitment = self.watch.commitment.compute_txid();
        let funding = self.watch.commitment.input.first().map(|i| i.previous_output);
        for tx in txs {
            let txid = tx.compute_txid();
            if txid != commitment && tx.input.iter().any(|i| Some(i.previous_output) == funding) {
                self.rival = Some(height);
            }
            if txid == commitment {
                self.gone = None;
                let own = self.watch.outputs.iter_mut().filter(|o| o.outpoint.txid == commitment);
                own.for_each(|o| o.born = Some(height));
            }
            for (index, input) in tx.input.iter().enumerate() {
                let Some(at) = self.watch.outputs.iter().position(|o| o.outpoint == input.previous_output)
                else {
                    continue;
                };
                let ours = self.is_ours(tx, &txid);
                self.watch.outputs[at].spent = Some(Spent { txid, height, ours });
                let lock = self.watch.outputs[at].lock.clone();
                if let (Kind::Htlc, Some(second)) = (self.watch.outputs[at].kind, &second) {
                    self.second_level(tx, txid, index, height, second, lock);
                }
            }
        }
    }

    /// BOLT 3: an HTLC transaction pays, with the index of its input, to the same script as `to_local`.
    fn second_level(
        &mut self,
        tx: &Transaction,
        txid: Txid,
        index: usize,
        height: Height,
        script: &ScriptBuf,
        lock: Option<Lock>,
    ) {
        let Some(paid) = tx.output.get(index).filter(|o| o.script_pubkey == *script) else { return };
        let Ok(vout) = u32::try_from(index) else { return };
        let outpoint = OutPoint { txid, vout };
        let (amount, born) = (Sat(paid.value.to_sat()), Some(height));
        match self.watch.outputs.iter_mut().find(|o| o.outpoint == outpoint) {
            Some(known) => known.born = born,
            None => {
                self.watch.outputs.push(Output {
                    outpoint,
                    amount,
                    kind: Kind::Second,
                    lock,
                    born,
                    spent: None,
                });
            }
        }
    }

    fn is_ours(&self, tx: &Transaction, txid: &Txid) -> bool {
        match &self.means {
            Means::Key { terms, .. } => {
                self.watch.claims.iter().any(|c| c.txids.contains(txid))
                    || tx.output.iter().all(|o| o.script_pubkey == terms.sweep)
            }
            Means::Presigned { txs, .. } => txs.iter().any(|t| t.compute_txid() == *txid),
        }
    }

    /// The block at `from` and all after it are gone.
    pub fn on_undone(&mut self, from: Height) {
        self.watch.undo(from);
        self.rival = self.rival.filter(|height| *height < from);
        if self.watch.born().is_none() && self.gone.is_none() {
            self.gone = Some(from);
        }
    }

    fn keys(&self, crypto: &dyn Crypto) -> Option<Keys> {
        let Means::Key { key, point, terms } = &self.means else { return None };
        keys(key, *point, terms, crypto).ok()
    }

    /// The penalties that belong into the next block, new ones and raised ones; words for the log.
    pub fn plan(&mut self, now: &Moment<'_>) -> (Vec<Transaction>, Vec<String>) {
        let mut out = Out::default();
        let (keys, born) = (self.keys(now.crypto), self.watch.born());
        let (Some(keys), Means::Key { key, terms, .. }) = (keys, &self.means) else {
            return (self.presigned_now(born, now.tip).into_iter().collect(), Vec::new());
        };
        let Ok(mut key) = SecretKey::from_slice(key) else { return Default::default() };
        let cx = context(now, &terms.sweep);
        let unspent = self.watch.outputs.iter().filter(|o| o.spent.is_none());
        let way = |o: &Output| Some((o.outpoint, Way::of_cheat(&keys, o, key, terms.delay_blocks)?));
        let ways: Ways = unspent.filter_map(way).collect();
        drop_lost(&mut self.watch, &mut out);
        plan_sweeps(&mut self.watch, &ways, &cx, &mut out);
        key.non_secure_erase();
        let active = self.watch.claims.iter().filter(|c| c.is_active(&self.watch));
        let txs = active.filter_map(|c| c.tx.clone()).collect();
        (txs, out.notices.into_iter().map(|(_, text)| text).collect())
    }

    /// The more of the cheat's delay is gone, the dearer the version.
    fn presigned_now(&self, born: Option<Height>, tip: Height) -> Option<Transaction> {
        let (Means::Presigned { txs, delay_blocks }, Some(born)) = (&self.means, born) else { return None };
        let wanted = |o: &&Output| o.kind == Kind::ToLocal && o.spent.is_none();
        self.watch.outputs.iter().find(wanted)?;
        let step = (u32::from(*delay_blocks) / u32::try_from(txs.len().max(1)).ok()?).max(1);
        let age = usize::try_from(tip.since(born) / step).ok()?;
        txs.get(age.min(txs.len().checked_sub(1)?)).cloned()
    }

    /// What the network said of a penalty; `false` when it is none of these.
    pub fn answered(&mut self, txid: &Txid, taken: bool) -> bool {
        self.watch.answered(txid, taken).is_some()
    }

    /// The commitment itself, when it left the chain and may come back: our penalties hang on it.
    pub fn orphan(&self) -> Option<&Transaction> {
        (self.watch.born().is_none() && self.rival.is_none()).then_some(&self.watch.commitment)
    }

    /// How long, in blocks, the cheat has to wait.
    pub fn delay_blocks(&self) -> u16 {
        match &self.means {
            Means::Key { terms, .. } => terms.delay_blocks,
            Means::Presigned { delay_blocks, .. } => *delay_blocks,
        }
    }

    /// What is still to be taken.
    pub fn at_stake(&self) -> Sat {
        let unspent = self.watch.outputs.iter().filter(|o| is_takeable(o) && o.spent.is_none());
        unspent.fold(Sat::ZERO, |sum, o| sum.saturating_add(o.amount))
    }

    /// The end of it, once that lies so deep in the chain that it stays so: everything is taken, or not worth its fee and its
    /// deadline past; or the commitment left the chain and something else spent the funding output.
    pub fn end(&self, now: &Moment<'_>) -> Option<End> {
        let is_deep = |height: Height| now.tip.since(height).saturating_add(1) >= RESOLVED_DEPTH;
        let left = self.at_stake();
        let Some(born) = self.watch.born() else {
            if self.rival.is_some_and(is_deep) {
                return Some(End { why: "another transaction took the commitment's place", left: Sat::ZERO });
            }
            let lost = self.gone.is_some_and(|since| now.tip.since(since) >= PATIENCE_BLOCKS);
            return lost.then_some(End { why: "the commitment left the chain and did not come back", left });
        };
        let mut last = born;
        for output in self.watch.outputs.iter().filter(|o| is_takeable(o)) {
            let ended = output.spent.map(|s| s.height).or_else(|| self.given_up(output, born, now))?;
            last = last.max(ended);
        }
        let why = if left == Sat::ZERO { "all of it was taken" } else { "what is left is not worth its fee" };
        is_deep(last).then_some(End { why, left })
    }

    /// When an unspent output was given up: at its deadline, when it is not worth its fee, or nobody took it for long.
    fn given_up(&self, output: &Output, born: Height, now: &Moment<'_>) -> Option<Height> {
        let deadline = output.born.unwrap_or(born).plus(u32::from(self.delay_blocks()));
        let past = now.tip >= deadline;
        let waited = now.tip.since(deadline) >= PATIENCE_BLOCKS;
        (past && (waited || !self.is_worth(output, now))).then_some(deadline)
    }

    /// Alone in a transaction it pays the least that mempools ever ask for, and something is left: what they ask for at the
    /// moment ends nothing, for the next block may be cheaper.
    fn is_worth(&self, output: &Output, now: &Moment<'_>) -> bool {
        match &self.means {
            Means::Key { key, terms, .. } => {
                let Ok(mut key) = SecretKey::from_slice(key) else { return false };
                let keys = self.keys(now.crypto);
                let way = keys.and_then(|keys| Way::of_cheat(&keys, output, key, terms.delay_blocks));
                key.non_secure_erase();
                let cheapest = Fees { minimum: Feerate::FLOOR, ..now.fees };
                let now = Moment { fees: cheapest, ..*now };
                way.is_some_and(|way| is_worth_alone(output, &way, &context(&now, &terms.sweep)))
            }
            Means::Presigned { txs, .. } => !txs.is_empty(),
        }
    }
}

fn context<'a>(now: &Moment<'a>, sweep: &'a ScriptBuf) -> Context<'a> {
    Context {
        now: Timestamp(0),
        tip: now.tip,
        // It plans when all blocks are read.
        at_tip: true,
        crypto: now.crypto,
        feerate_normal: now.fees.normal,
        feerate_urgent: now.fees.urgent,
        feerate_minimum: now.fees.minimum,
        feerate_ceiling: now.fees.urgent,
        max_dust: Msat::ZERO,
        close_script: sweep,
        dev: false,
        tower: false,
        // A tower knows no network: an output of a cheat's that is dust to this one is tried, and refused by it.
        dust_factor: 1,
    }
}

const fn is_takeable(output: &Output) -> bool {
    matches!(output.kind, Kind::ToLocal | Kind::Htlc | Kind::Second)
}

fn keys(key: &[u8; 32], point: PublicKey, terms: &ChannelTerms, crypto: &dyn Crypto) -> Result<Keys, BadKey> {
    let mut secret = SecretKey::from_slice(key).map_err(|_| BadKey)?;
    let revocation = crypto.public_key(&secret);
    secret.non_secure_erase();
    let of = |basepoint| derive_public_key(crypto.secp(), basepoint, &point);
    let own = CommitmentKeys {
        per_commitment_point: point,
        revocation,
        delayed: of(&terms.delayed_basepoint)?,
        owner_htlc: of(&terms.owner_htlc_basepoint)?,
        other_htlc: of(&terms.other_htlc_basepoint)?,
        other_payment: terms.payment_basepoint,
    };
    Ok(Keys::new(terms.channel_type, own, terms.delay_blocks))
}

/// Every output of the commitment, named by its script.
#[allow(clippy::too_many_arguments)]
fn recognise(
    tx: &Transaction,
    height: Height,
    key: &[u8; 32],
    point: PublicKey,
    terms: &ChannelTerms,
    seed: &Seed,
    held: &[Run],
    find: &dyn Fn(&EntryId) -> Option<Vec<u8>>,
    crypto: &dyn Crypto,
) -> Result<Watch, BadKey> {
    let keys = keys(key, point, terms, crypto)?;
    let to_local = script::p2wsh(&keys.delayed);
    let to_remote = script::to_remote_output(terms.channel_type, &terms.payment_basepoint);
    let mut htlcs: BTreeMap<ScriptBuf, Lock> = BTreeMap::new();
    for id in held.iter().flat_map(|run| run.ids(MAX_HELD)).take(MAX_HELD) {
        let Some(note) = seed.open_htlc(id, find) else { continue };
        let (payment_hash, cltv_expiry) = (note.payment_hash, note.cltv_expiry);
        let lock = Lock { id, amount: Msat::ZERO, payment_hash, cltv_expiry, preimage: None };
        htlcs.insert(script::p2wsh(&htlc_script(&keys.scripts, Side::Remote, &lock)), lock);
    }
    let name = |_: &OutPoint, script: &ScriptBuf, amount: Sat| match htlcs.get(script) {
        Some(lock) => (Kind::Htlc, Some(Lock { amount: amount.to_msat(), ..lock.clone() })),
        None if *script == to_local => (Kind::ToLocal, None),
        None if *script == to_remote => (Kind::ToRemote, None),
        None => (Kind::Unknown, None),
    };
    Ok(new_watch(tx, Some(point), outputs(tx, height, name)))
}

fn outputs(
    tx: &Transaction,
    height: Height,
    name: impl Fn(&OutPoint, &ScriptBuf, Sat) -> (Kind, Option<Lock>),
) -> Vec<Output> {
    let txid = tx.compute_txid();
    let output = |(vout, out): (u32, &bitcoin::TxOut)| {
        let (outpoint, amount) = (OutPoint { txid, vout }, Sat(out.value.to_sat()));
        let (kind, lock) = name(&outpoint, &out.script_pubkey, amount);
        Output { outpoint, amount, kind, lock, born: Some(height), spent: None }
    };
    (0..).zip(&tx.output).map(output).collect()
}

fn new_watch(tx: &Transaction, point: Option<PublicKey>, outputs: Vec<Output>) -> Watch {
    Watch {
        commitment: tx.clone(),
        owner: Side::Remote,
        standing: Standing::Revoked,
        // A tower does not know it, and need not.
        number: 0,
        point,
        outputs,
        claims: Vec::new(),
        next_claim: 0,
    }
}
