//! What a tower knows: its archive, the chain's tip, and the breaches it is punishing.
//!
//! In: states of clients, blocks and their undoing, feerates, what the network said. Out: penalties to publish. What must survive
//! is the archive and one small file, `watch`, written anew after each block: the tip with some blocks before it, and the breaches
//! with all that was made of them. A tower that was off for days reads every block in between.
//! Nothing here waits; whoever calls has the lock. Read next: `chand_protocol::tower::guard`.

use super::archive::{Archive, KeepError};
use bitcoin::{Block, BlockHash, Transaction, Txid};
use chand_protocol::id::NodeId;
use chand_protocol::node::effect::Fees;
use chand_protocol::record;
use chand_protocol::sign::Crypto;
use chand_protocol::tower::guard::{Breach, Moment};
use chand_protocol::tower::seal::{Entry, Sealed};
use chand_protocol::tower::{hint, EntryId, Hint, Tag};
use chand_protocol::units::Height;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Blocks remembered, to find the way back in a reorganisation.
const REMEMBERED: usize = 288;
/// Blocks whose transactions are looked at again when a state comes late.
const LATE_BLOCKS: u32 = 36;

/// A breach and whose it is.
#[derive(Clone, Serialize, Deserialize)]
struct Case {
    client: NodeId,
    tag: Tag,
    breach: Breach,
}

/// What the file `watch` holds.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Saved {
    /// Oldest first.
    blocks: VecDeque<(Height, BlockHash)>,
    cases: Vec<Case>,
}

/// A tower's knowledge.
pub struct Keeper {
    archive: Archive,
    path: PathBuf,
    saved: Saved,
    fees: Fees,
    crypto: Arc<dyn Crypto>,
    /// Hints of the transactions in the newest blocks: a state may come after its breach.
    recent: BTreeMap<Hint, Height>,
    /// Heights of blocks to be looked at again.
    late: BTreeSet<Height>,
}

impl Keeper {
    /// From the files below `dir`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open(dir: &Path, archive: Archive, fees: Fees, crypto: Arc<dyn Crypto>) -> io::Result<Keeper> {
        let path = dir.join("watch");
        let saved = match fs::read(&path) {
            Ok(bytes) => record::decode(&bytes).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
            Err(error) => return Err(error),
        };
        let (recent, late) = (BTreeMap::new(), BTreeSet::new());
        Ok(Keeper { archive, path, saved, fees, crypto, recent, late })
    }

    /// The blocks it knows, newest first.
    pub fn blocks(&self) -> Vec<(Height, BlockHash)> {
        self.saved.blocks.iter().rev().copied().collect()
    }

    /// Where following starts, when it never did.
    pub fn start_at(&mut self, height: Height, hash: BlockHash) {
        self.saved.blocks.push_back((height, hash));
    }

    fn tip(&self) -> Height {
        self.saved.blocks.back().map_or(Height(0), |(height, _)| *height)
    }

    /// What clients ask of.
    pub const fn archive(&self) -> &Archive {
        &self.archive
    }

    /// A client's states; `true` when a block that was read already has to be looked at again.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn keep(
        &mut self,
        client: NodeId,
        tag: Tag,
        states: &[Sealed],
        entries: &[Entry],
    ) -> Result<bool, KeepError> {
        self.archive.keep(client, tag, states, entries)?;
        let seen = states.iter().filter_map(|s| self.recent.get(&s.hint)).copied();
        let before = self.late.len();
        self.late.extend(seen.collect::<Vec<_>>());
        Ok(self.late.len() > before)
    }

    /// A client's channel is over.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&mut self, client: NodeId, tag: Tag) -> io::Result<()> {
        self.archive.forget(client, tag)
    }

    /// The heights from the oldest block that has to be looked at again up to the tip; asked once.
    pub fn take_late(&mut self) -> Option<(Height, Height)> {
        let first = core::mem::take(&mut self.late).into_iter().next()?;
        Some((first, self.tip()))
    }

    /// The next block.
    pub fn connected(&mut self, block: &Block, height: Height, hash: BlockHash) {
        self.saved.blocks.push_back((height, hash));
        while self.saved.blocks.len() > REMEMBERED {
            self.saved.blocks.pop_front();
        }
        self.recent.retain(|_, seen| seen.plus(LATE_BLOCKS) > height);
        self.look(block, height);
        let tip = self.tip();
        self.saved.cases.retain(|case| !case.breach.is_over(tip));
    }

    /// Breaches in a block, and what became of those known. Doing it twice for the same block changes nothing.
    pub fn look(&mut self, block: &Block, height: Height) {
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            self.recent.insert(hint(&txid), height);
            for hit in self.archive.hits(&hint(&txid)) {
                let known = |c: &Case| c.tag == hit.tag && c.breach.watch.commitment.compute_txid() == txid;
                if self.saved.cases.iter().any(known) {
                    continue;
                }
                // Only what opens is worth a look at the rest of its channel: anybody may send what fits a hint.
                let entries = OnceCell::new();
                let all = || {
                    self.archive.entries(hit.channel).unwrap_or_else(|error| {
                        tracing::error!("entries of a channel cannot be read, and are needed now: {error}");
                        BTreeMap::new()
                    })
                };
                let find = |id: &EntryId| entries.get_or_init(all).get(id).cloned();
                match Breach::open(tx, height, &hit.blob, &find, self.crypto.as_ref()) {
                    Some(breach) => {
                        tracing::warn!(client = %hit.client, %txid, height = height.0, "BREACH: a revoked commitment is in a block");
                        self.saved.cases.push(Case { client: hit.client, tag: hit.tag, breach });
                    }
                    None => {
                        tracing::info!(client = %hit.client, %txid, "a hint fits, but what was sent for it does not open");
                    }
                }
            }
        }
        for case in &mut self.saved.cases {
            case.breach.on_block(&block.txdata, height, self.crypto.as_ref());
        }
    }

    /// The tip is gone.
    pub fn disconnected(&mut self, height: Height) {
        self.saved.blocks.retain(|(h, _)| *h < height);
        self.recent.retain(|_, h| *h < height);
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
            // A breach whose block went away: its commitment is offered again, since our penalties hang on it.
            if case.breach.watch.born().is_none() {
                all.push(case.breach.watch.commitment.clone());
            }
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
        let temp = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(&record::encode(&self.saved))?;
        file.sync_all()?;
        fs::rename(&temp, &self.path)?;
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}
