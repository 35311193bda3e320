//! Which chain is the active one: the valid chain with the most work, of equal ones the first to arrive.
//!
//! In: blocks, and orders to invalidate or reconsider. Out: [`Submit`], what left and what joined the active chain. A
//! move to another branch happens whole or not at all. Read next: `connect`, `index`.

use super::block::{check_alone, check_in_place};
use super::connect::{Connected, Depth};
use super::header::check_header;
use super::info::Submit;
use super::reject::{BlockReject, ChainError};
use super::state::ChainState;
use super::store::Op;
use bitcoin::{Block, BlockHash};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A block found invalid while it was being connected.
struct Failure {
    hash: BlockHash,
    reject: BlockReject,
}

impl ChainState {
    /// Takes a block, as `submitblock` does; the clock is the system's.
    ///
    /// # Errors
    /// The rule it breaks; it may be remembered as invalid.
    pub fn submit(&mut self, block: Block) -> Result<Submit, BlockReject> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.submit_at(block, u32::try_from(now).unwrap_or(u32::MAX))
    }

    /// As [`ChainState::submit`], with the clock handed in, Unix seconds.
    ///
    /// # Errors
    /// The rule it breaks; it may be remembered as invalid.
    pub fn submit_at(&mut self, block: Block, now: u32) -> Result<Submit, BlockReject> {
        self.usable()?;
        let hash = block.block_hash();
        if let Some(known) = self.index.get(&hash) {
            return Err(if known.failed { BlockReject::DuplicateInvalid } else { BlockReject::Duplicate });
        }
        self.check_before_storing(&block, hash, now)?;
        let block = Arc::new(block);
        let mut ops = vec![Op::Block(Arc::clone(&block))];
        self.index.insert(hash, block).ok_or(BlockReject::PrevNotFound)?;
        let (submit, failures) = self.activate_best(Some(hash), &mut ops)?;
        self.save(&ops).inspect_err(|_| self.set_broken())?;
        match failures.into_iter().next() {
            None => Ok(submit),
            Some(failure) if failure.hash == hash => Err(failure.reject),
            Some(_) => Err(BlockReject::Inconclusive),
        }
    }

    /// All rules that need no coins. A block that breaks one in its place is remembered as invalid.
    fn check_before_storing(&mut self, block: &Block, hash: BlockHash, now: u32) -> Result<(), BlockReject> {
        check_alone(block, hash)?;
        let prev = self.index.get(&block.header.prev_blockhash).ok_or(BlockReject::PrevNotFound)?;
        if prev.failed {
            return Err(BlockReject::PrevInvalid);
        }
        check_header(&block.header, prev.median_time, now)?;
        check_in_place(block, prev.height.saturating_add(1), prev.median_time).inspect_err(|reject| {
            if !reject.is_mutation() {
                self.index.insert_refused(hash, block);
            }
        })
    }

    /// Checks a block on top of the tip by every rule and does not take it (BIP 23's proposals).
    ///
    /// # Errors
    /// The rule it breaks; `inconclusive` if it does not build on the tip.
    pub fn check_block(&self, block: &Block, now: u32) -> Result<(), BlockReject> {
        self.check_on_tip(block, now).map(drop)
    }

    fn check_on_tip(&self, block: &Block, now: u32) -> Result<Connected, BlockReject> {
        let tip = self.tip();
        if block.header.prev_blockhash != tip.hash {
            return Err(BlockReject::Inconclusive);
        }
        check_alone(block, block.block_hash())?;
        check_header(&block.header, tip.median_time, now)?;
        check_in_place(block, tip.height.saturating_add(1), tip.median_time)?;
        self.try_on_tip(block, Depth::Full)
    }

    /// Puts a new block on the tip if it is valid, without saving it; else leaves no trace.
    pub(super) fn extend_tip(&mut self, block: &Arc<Block>, now: u32) -> Result<(), BlockReject> {
        let connected = self.check_on_tip(block, now)?;
        let hash = block.block_hash();
        self.index.insert(hash, Arc::clone(block)).ok_or(BlockReject::Duplicate)?;
        self.apply_connected(hash, connected);
        Ok(())
    }

    /// Marks a block, and all that builds on it, invalid; the best of the other chains becomes active.
    ///
    /// # Errors
    /// The block is unknown, is genesis, or the mark could not be saved.
    pub fn invalidate(&mut self, hash: &BlockHash) -> Result<Submit, ChainError> {
        self.usable()?;
        if self.index.get(hash).ok_or(ChainError::UnknownBlock)?.height == 0 {
            return Err(ChainError::Genesis);
        }
        self.index.set_fault(hash);
        self.settle(Op::Invalid(*hash))
    }

    /// Takes marks of invalidity from a block, its ancestors and its descendants; a better chain becomes active.
    ///
    /// # Errors
    /// The block is unknown, or the change could not be saved.
    pub fn reconsider(&mut self, hash: &BlockHash) -> Result<Submit, ChainError> {
        self.usable()?;
        let entry = self.index.get(hash).ok_or(ChainError::UnknownBlock)?;
        // A block refused before it was stored stays refused, and the file does not know it: its parent stands in.
        let hash = if entry.block.is_some() { *hash } else { entry.header.prev_blockhash };
        self.index.clear_faults(&hash);
        self.settle(Op::Reconsider(hash))
    }

    /// Activates the best chain after marks have changed, and saves the change with all that it brought to light.
    fn settle(&mut self, op: Op) -> Result<Submit, ChainError> {
        let mut ops = vec![op];
        let (submit, _) = self.activate_best(None, &mut ops)?;
        self.save(&ops).inspect_err(|_| self.set_broken())?;
        Ok(submit)
    }

    /// Moves to the best chain. Blocks found invalid on the way are marked, in `ops` too, and the next best is tried.
    /// With `new`, a block that has just arrived, the chain was the best one before it.
    fn activate_best(
        &mut self,
        new: Option<BlockHash>,
        ops: &mut Vec<Op>,
    ) -> Result<(Submit, Vec<Failure>), ChainError> {
        let mut failures = Vec::new();
        let mut candidate = match new {
            Some(hash) => Some(hash).filter(|hash| self.has_more_work(hash)),
            None => self.better_than_tip(),
        };
        while let Some(target) = candidate {
            match self.move_to(&target)? {
                Ok(submit) => return Ok((submit, failures)),
                Err(failure) => {
                    self.index.set_fault(&failure.hash);
                    ops.push(Op::Invalid(failure.hash));
                    failures.push(failure);
                }
            }
            candidate = self.better_than_tip();
        }
        Ok((Submit::default(), failures))
    }

    fn has_more_work(&self, hash: &BlockHash) -> bool {
        let tip = self.index.get(&self.tip().hash).map(|entry| entry.chainwork);
        self.index.get(hash).map(|entry| entry.chainwork) > tip
    }

    /// The best block, if it is not the tip.
    fn better_than_tip(&self) -> Option<BlockHash> {
        self.index.best().map(|entry| entry.hash).filter(|best| *best != self.tip().hash)
    }

    /// Makes `target` the tip. If a block on the way is invalid, the chain is put back as it was.
    fn move_to(&mut self, target: &BlockHash) -> Result<Result<Submit, Failure>, ChainError> {
        let path = self.path_from_active(target);
        let lowest = path.first().unwrap_or(target);
        let entry = self.index.get(lowest).ok_or(ChainError::UnknownBlock)?;
        let fork_height = if path.is_empty() { entry.height } else { entry.height.saturating_sub(1) };
        let mut submit = Submit::default();
        while self.tip().height > fork_height {
            let Some(block) = self.disconnect_tip() else { break };
            submit.disconnected.push(block);
        }
        for hash in path {
            let seen = self.index.get(&hash).is_some_and(|entry| entry.validated);
            match self.connect_tip(&hash, if seen { Depth::Seen } else { Depth::Full }) {
                Ok(block) => submit.connected.push(block),
                Err(reject) => {
                    self.put_back(submit)?;
                    return Ok(Err(Failure { hash, reject }));
                }
            }
        }
        Ok(Ok(submit))
    }

    /// Undoes a move that did not reach its target.
    fn put_back(&mut self, submit: Submit) -> Result<(), ChainError> {
        for _ in submit.connected {
            self.disconnect_tip();
        }
        for block in submit.disconnected.iter().rev() {
            // They were connected here before; if they no longer are, memory is wrong and must not be built on.
            if self.connect_tip(&block.block_hash(), Depth::Seen).is_err() {
                self.set_broken();
                return Err(ChainError::Broken);
            }
        }
        Ok(())
    }
}
