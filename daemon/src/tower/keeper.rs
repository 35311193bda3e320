//! What a tower knows: its archive, the chain's tip, and the breaches it is punishing.
//!
//! In: states of clients, blocks and their undoing, feerates, what the network said. Out: penalties to publish, and blocks to be
//! looked at again. What must survive is the archive and the small file `watch` (`saved`). A tower that was off for days
//! reads every block in between; one whose `watch` was damaged reads two weeks of them.
//! What cannot be read from the disk when it is needed is not passed over: its block is looked at until it can be. Nor is a channel
//! whose file could not be read at the start, or was damaged: the blocks since are looked at again when it is there (`Gap`).
//! Nothing here waits; whoever calls has the lock. Read next: `chand_protocol::tower::guard`.

use super::archive::{Archive, Hit, KeepError, Kept};
use super::file::free_name;
use super::saved::{BadSaved, Case, Gap, Saved};
use bitcoin::{Block, BlockHash, Transaction, Txid};
use chand_protocol::id::NodeId;
use chand_protocol::node::effect::Fees;
use chand_protocol::sign::Crypto;
use chand_protocol::tower::guard::{Breach, Moment};
use chand_protocol::tower::seal::{Entry, Sealed};
use chand_protocol::tower::{hint, EntryId, Hint, Tag};
use chand_protocol::units::{Height, Sat};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Blocks remembered, to find the way back in a reorganisation.
const REMEMBERED: usize = 288;
/// Blocks whose transactions are looked at again when a state comes late.
const LATE_BLOCKS: u32 = 36;
/// For so many blocks, twice the longest delay, a block is looked at again that could not be judged.
const AGAIN_BLOCKS: u32 = 4_032;
/// So many blocks after the first of what was missing of a channel came, the rest is there, too.
const GAP_BLOCKS: u32 = 6;
/// Breaches under way of one client; beyond, the smallest are let go.
const MAX_CASES: usize = 100;

/// A tower's knowledge.
pub struct Keeper {
    archive: Archive,
    path: PathBuf,
    saved: Saved,
    fees: Fees,
    crypto: Arc<dyn Crypto>,
    /// Hints of the transactions in the newest blocks: a state may come after its breach.
    recent: BTreeMap<Hint, Height>,
    /// It does not know any more where it was on the chain.
    lost: bool,
}

impl Keeper {
    /// From the files below `dir`. A damaged `watch` is put aside: breaches are in the chain, and found there again.
    ///
    /// # Errors
    /// When they cannot be read, or a later version wrote them.
    pub fn open(dir: &Path, archive: Archive, fees: Fees, crypto: Arc<dyn Crypto>) -> io::Result<Keeper> {
        let path = dir.join("watch");
        let (mut saved, lost) = match Saved::load(&path) {
            Ok(saved) => (saved, false),
            Err(BadSaved::Damaged) => {
                let aside = free_name(&path);
                fs::rename(&path, &aside)?;
                tracing::error!(
                    path = %path.display(),
                    "DAMAGED: where this watchtower stood on the chain. The blocks of two weeks are read again, and breaches \
                     found in them; the old file is {}",
                    aside.display()
                );
                (Saved::default(), true)
            }
            Err(BadSaved::Disk(error)) => return Err(error),
            Err(newer @ BadSaved::Newer(_)) => {
                return Err(io::Error::other(format!("{}: {newer}", path.display())));
            }
        };
        // A state may come after its breach, also when the tower was started in between.
        let newest = saved.place.blocks.iter().rev().take(LATE_BLOCKS as usize).map(|(height, _)| *height);
        saved.place.again.extend(newest.collect::<Vec<_>>());
        let mut keeper = Keeper { archive, path, saved, fees, crypto, recent: BTreeMap::new(), lost };
        keeper.note_gaps();
        Ok(keeper)
    }

    /// From where on each channel is not watched of which something is missing; one that is whole again is caught up with.
    fn note_gaps(&mut self) {
        let (next, unwatched) = (self.tip().plus(1), self.archive.unwatched());
        let archive = &self.archive;
        let is_back =
            |gap: &Gap| archive.has(gap.client, gap.tag) && !unwatched.contains(&(gap.client, gap.tag));
        let (back, mut gaps): (Vec<Gap>, Vec<Gap>) =
            std::mem::take(&mut self.saved.gaps).into_iter().partition(is_back);
        for (client, tag) in unwatched {
            if !gaps.iter().any(|gap| (gap.client, gap.tag) == (client, tag)) {
                gaps.push(Gap { client, tag, from: next, came: None });
            }
        }
        self.saved.gaps = gaps;
        back.iter().for_each(|gap| self.catch_up(gap.from));
    }

    /// All blocks from a height on are looked at again.
    fn catch_up(&mut self, from: Height) {
        let tip = self.tip();
        let from = from.0.max(tip.0.saturating_sub(AGAIN_BLOCKS));
        if from <= tip.0 {
            tracing::info!(from, to = tip.0, "blocks are looked at again: a channel was not watched in them");
        }
        self.saved.place.again.extend((from..=tip.0).map(Height));
    }

    /// Whether it lost its place on the chain: two weeks of blocks have to be read again.
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// The blocks it knows, newest first.
    pub fn blocks(&self) -> Vec<(Height, BlockHash)> {
        self.saved.place.blocks.iter().rev().copied().collect()
    }

    /// Where following starts, when it never did.
    pub fn start_at(&mut self, height: Height, hash: BlockHash) {
        self.saved.place.blocks.push_back((height, hash));
        for gap in &mut self.saved.gaps {
            gap.from = gap.from.max(height.plus(1));
        }
    }

    fn tip(&self) -> Height {
        self.saved.place.blocks.back().map_or(Height(0), |(height, _)| *height)
    }

    /// What clients ask of.
    pub const fn archive(&self) -> &Archive {
        &self.archive
    }

    /// A client's states; what of them was kept, and whether a block that was read already has to be looked at again.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn keep(
        &mut self,
        client: NodeId,
        tag: Tag,
        states: &[Sealed],
        entries: &[Entry],
    ) -> Result<(Kept, bool), KeepError> {
        let kept = self.archive.keep(client, tag, states, entries)?;
        // Only what is new: to send the same once more costs no block.
        let seen: Vec<Height> = kept.hints.iter().filter_map(|hint| self.recent.get(hint)).copied().collect();
        let mut late = !seen.is_empty();
        self.saved.place.again.extend(seen);
        let tip = self.tip();
        let mut gaps = self.saved.gaps.iter_mut();
        if let Some(gap) = gaps.find(|gap| (gap.client, gap.tag) == (client, tag) && !kept.hints.is_empty()) {
            gap.came.get_or_insert(tip);
            let from = gap.from;
            late |= from <= tip;
            self.catch_up(from);
        }
        if late {
            // A restart in between must not forget it.
            self.save()?;
        }
        Ok((kept, late))
    }

    /// A client's channel is over.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&mut self, client: NodeId, tag: Tag) -> io::Result<()> {
        self.saved.gaps.retain(|gap| (gap.client, gap.tag) != (client, tag));
        self.archive.forget(client, tag)
    }

    /// The heights of blocks to be looked at again, and the tip.
    pub fn again(&self) -> (Vec<Height>, Height) {
        (self.saved.place.again.iter().copied().collect(), self.tip())
    }

    /// The next block.
    pub fn connected(&mut self, block: &Block, height: Height, hash: BlockHash) {
        self.saved.place.blocks.push_back((height, hash));
        while self.saved.place.blocks.len() > REMEMBERED {
            self.saved.place.blocks.pop_front();
        }
        self.recent.retain(|_, seen| seen.plus(LATE_BLOCKS) > height);
        let is_over = |gap: &Gap| {
            gap.came.is_some_and(|came| height.since(came) >= GAP_BLOCKS)
                || height.since(gap.from) > AGAIN_BLOCKS
        };
        self.saved.gaps.retain(|gap| !is_over(gap));
        self.find(block, height);
        self.follow(block, height);
        self.end_cases();
        self.give_up(height);
    }

    /// A block once more; whether a breach was found in it that was not known. Doing it twice changes nothing.
    pub fn look_again(&mut self, block: &Block, height: Height) -> bool {
        let found = self.find(block, height);
        if found {
            self.follow(block, height);
        }
        found
    }

    /// What became of breaches that are known.
    pub fn follow(&mut self, block: &Block, height: Height) {
        for case in &mut self.saved.cases {
            case.breach.on_block(&block.txdata, height, self.crypto.as_ref());
        }
    }

    /// A height at which the chain has no block now: it comes with its own news, should it come.
    pub fn nothing_at(&mut self, height: Height) {
        self.saved.place.again.remove(&height);
    }

    /// New breaches in a block. What cannot be read now is asked for again.
    fn find(&mut self, block: &Block, height: Height) -> bool {
        let (mut unread, mut found) = (Vec::new(), Vec::new());
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            if self.recent_from() <= height {
                self.recent.insert(hint(&txid), height);
            }
            let (hits, errors) = self.archive.hits(&hint(&txid));
            unread.extend(errors);
            for hit in hits {
                match self.judge(tx, &txid, height, &hit) {
                    Ok(Some(case)) => found.push(case),
                    Ok(None) => {}
                    Err(error) => unread.push(error.to_string()),
                }
            }
        }
        let (any, again) = (!found.is_empty(), &mut self.saved.place.again);
        let news = if unread.is_empty() {
            again.remove(&height);
            false
        } else {
            again.insert(height)
        };
        if news {
            tracing::error!(
                height = height.0,
                "what may be a breach cannot be read, and is tried until it can: {unread:?}"
            );
        }
        found.into_iter().for_each(|case| self.admit(case));
        any
    }

    fn recent_from(&self) -> Height {
        Height(self.tip().0.saturating_sub(LATE_BLOCKS))
    }

    /// Whether a transaction is the breach that a state was kept for.
    fn judge(&self, tx: &Transaction, txid: &Txid, height: Height, hit: &Hit) -> io::Result<Option<Case>> {
        let own = |c: &&Case| c.client == hit.client && c.tag == hit.tag;
        let mut own = self.saved.cases.iter().filter(own);
        if own.any(|c| c.breach.watch.commitment.compute_txid() == *txid) {
            return Ok(None);
        }
        // Only what opens is worth a look at the rest of its channel: anybody may send what fits a hint.
        let (entries, failed) = (OnceCell::new(), RefCell::new(None));
        let all = || {
            self.archive.entries(hit.channel).unwrap_or_else(|error| {
                failed.replace(Some(error));
                BTreeMap::new()
            })
        };
        let find = |id: &EntryId| entries.get_or_init(all).get(id).cloned();
        let breach = Breach::open(tx, height, &hit.blob, &find, self.crypto.as_ref());
        if let Some(error) = failed.take() {
            return Err(error);
        }
        let client = hit.client;
        if breach.is_some() {
            tracing::warn!(%client, %txid, height = height.0, "BREACH: a revoked commitment is in a block");
        } else {
            tracing::info!(%client, %txid, "a hint fits, but what was sent for it does not open");
        }
        Ok(breach.map(|breach| Case { client, tag: hit.tag, breach }))
    }

    /// A case more. A client has a bounded number of them; of more, those go at which least is at stake.
    fn admit(&mut self, case: Case) {
        self.saved.cases.push(case);
        let Some(client) = self.saved.cases.last().map(|c| c.client) else { return };
        let own = || self.saved.cases.iter().enumerate().filter(|(_, c)| c.client == client);
        if own().count() <= MAX_CASES {
            return;
        }
        if let Some((at, _)) = own().min_by_key(|(_, c)| c.breach.at_stake()) {
            let gone = self.saved.cases.remove(at);
            let (txid, left) = (gone.breach.watch.commitment.compute_txid(), gone.breach.at_stake());
            tracing::error!(
                %client, %txid, left = left.0,
                "NOT PUNISHED: {MAX_CASES} breaches of one client are under way, and at this one least is at stake"
            );
        }
    }

    /// Cases that are at their end go.
    fn end_cases(&mut self) {
        let now = Moment { tip: self.tip(), fees: self.fees, crypto: self.crypto.as_ref() };
        self.saved.cases.retain(|case| {
            let Some(end) = case.breach.end(&now) else { return true };
            let (client, txid) = (case.client, case.breach.watch.commitment.compute_txid());
            if end.left == Sat::ZERO {
                tracing::info!(%client, %txid, "a breach is done with: {}", end.why);
            } else {
                tracing::warn!(%client, %txid, left = end.left.0, "a breach is done with: {}", end.why);
            }
            false
        });
    }

    /// Blocks that could not be judged for so long that the cheat has what he took.
    fn give_up(&mut self, tip: Height) {
        let old = |height: &Height| tip.since(*height) > AGAIN_BLOCKS;
        while let Some(height) = self.saved.place.again.first().copied().filter(old) {
            self.saved.place.again.remove(&height);
            tracing::error!(
                height = height.0,
                "what may be a breach could not be read for four weeks, and is given up"
            );
        }
    }

    /// The tip is gone.
    pub fn disconnected(&mut self, height: Height) {
        self.saved.place.blocks.retain(|(h, _)| *h < height);
        self.recent.retain(|_, h| *h < height);
        self.saved.place.again.retain(|h| *h < height);
        for gap in &mut self.saved.gaps {
            gap.from = gap.from.min(height);
            gap.came = gap.came.map(|came| came.min(height));
        }
        for case in &mut self.saved.cases {
            case.breach.on_undone(height);
        }
    }

    /// Feerates.
    pub fn set_fees(&mut self, fees: Fees) {
        self.fees = fees;
    }

    /// Everything that is to be published now.
    pub fn plan(&mut self) -> Vec<Transaction> {
        let now = Moment { tip: self.tip(), fees: self.fees, crypto: self.crypto.as_ref() };
        let mut all = Vec::new();
        for case in &mut self.saved.cases {
            let (txs, words) = case.breach.plan(&now);
            all.extend(case.breach.orphan().cloned());
            all.extend(txs);
            words.iter().for_each(|words| tracing::warn!(client = %case.client, "{words}"));
        }
        all
    }

    /// What the network said of a penalty.
    pub fn answered(&mut self, txid: &Txid, taken: bool) {
        for case in &mut self.saved.cases {
            case.breach.answered(txid, taken);
        }
    }

    /// Writes the file `watch`.
    ///
    /// # Errors
    /// When the disk refuses; what is published does not depend on it.
    pub fn save(&self) -> io::Result<()> {
        self.saved.store(&self.path)
    }
}

#[cfg(test)]
mod tests;
