//! Where announced channels are: from a short channel id to the output it means.
//!
//! In: ids. Out: for each one answer, found, absent or not to be known, as an event of the gossip thread. A few at a time,
//! so that following the chain is not held up; a backend that is away is waited for. Blocks' lists of transactions are
//! remembered, for channels are announced in crowds. Read next: `crate::chain`.

use crate::chain::{Chain, RpcError};
use bitcoin::{OutPoint, Txid};
use chand_protocol::gossip::{Event, Utxo};
use chand_protocol::id::ShortChannelId;
use chand_protocol::units::{Height, Sat};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, Semaphore};
use tokio::time::sleep;

/// Look-ups at once; the connection has four places, and others need them, too.
const AT_ONCE: usize = 2;
/// Blocks whose transactions are remembered.
const BLOCKS: usize = 64;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// The backend will never know: it threw the block's body away. Whatever else it says may be otherwise in a moment (it starts,
/// has too much to do, changes to another branch), and "nobody can tell" would let a forged channel in.
fn is_gone(error: &RpcError) -> bool {
    // A pruning bitcoind has no code of its own for it; "not fully downloaded" is what it says of blocks still to come.
    matches!(error, RpcError::Rpc { code: -1, message } if message.contains("pruned"))
}

/// Asks a backend.
#[derive(Clone)]
pub(super) struct Lookups {
    chain: Chain,
    events: mpsc::UnboundedSender<Event>,
    runtime: Handle,
    places: Arc<Semaphore>,
    blocks: Arc<Mutex<BTreeMap<Height, Arc<Vec<Txid>>>>>,
}

impl Lookups {
    pub fn new(chain: Chain, events: mpsc::UnboundedSender<Event>, runtime: Handle) -> Lookups {
        let (places, blocks) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::default());
        Lookups { chain, events, runtime, places, blocks }
    }

    /// Looks for the output that this id means.
    pub fn ask(&self, scid: ShortChannelId) {
        let this = self.clone();
        self.runtime.spawn(async move {
            let mut retry = FIRST_RETRY;
            let utxo = loop {
                if this.events.is_closed() {
                    return;
                }
                let Ok(place) = this.places.acquire().await else { return };
                let looked = this.look(scid).await;
                // One that meets trouble again and again is not to hold the others up.
                drop(place);
                match looked {
                    Ok(utxo) => break utxo,
                    Err(error) if is_gone(&error) => {
                        tracing::debug!(%scid, "its output cannot be looked up: {error}");
                        break Utxo::Unknown;
                    }
                    Err(error) => {
                        tracing::debug!(%scid, "its output is looked up again: {error}");
                        sleep(retry).await;
                        retry = (retry * 2).min(LONGEST_RETRY);
                    }
                }
            };
            let _ = this.events.send(Event::LookedUp { scid, utxo });
        });
    }

    async fn look(&self, scid: ShortChannelId) -> Result<Utxo, RpcError> {
        let height = Height(u32::try_from(scid.0 >> 40).unwrap_or(u32::MAX));
        let index = usize::try_from((scid.0 >> 16) & 0xff_ffff).unwrap_or(usize::MAX);
        let vout = u32::try_from(scid.0 & 0xffff).unwrap_or(u32::MAX);
        let Some(txids) = self.transactions(height).await? else { return Ok(Utxo::Absent) };
        let Some(txid) = txids.get(index).copied() else { return Ok(Utxo::Absent) };
        match self.chain.get_tx_out(&OutPoint { txid, vout }, false).await? {
            Some(found) => Ok(Utxo::Found {
                txid,
                capacity: Sat(found.output.value.to_sat()),
                script: found.output.script_pubkey,
            }),
            None => {
                // The block may have been another's when it was remembered.
                self.blocks.lock().unwrap_or_else(PoisonError::into_inner).remove(&height);
                Ok(Utxo::Absent)
            }
        }
    }

    async fn transactions(&self, height: Height) -> Result<Option<Arc<Vec<Txid>>>, RpcError> {
        let known = self.blocks.lock().unwrap_or_else(PoisonError::into_inner).get(&height).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(hash) = self.chain.get_block_hash(height).await? else { return Ok(None) };
        let txids = Arc::new(self.chain.get_block_txids(&hash).await?);
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.len() >= BLOCKS {
            blocks.pop_first();
        }
        blocks.insert(height, Arc::clone(&txids));
        Ok(Some(txids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::fake::{Fake, Mood};
    use crate::chain::Auth;
    use chand_protocol::chain::Network;
    use serde_json::json;

    const ERRORS: [Mood; 4] = [
        Mood::Error(-5, "Block not found"),
        Mood::Error(-28, "Loading block index…"),
        Mood::Error(-1, "Block not available (not fully downloaded)"),
        Mood::Status(503),
    ];

    #[tokio::test]
    async fn only_a_block_that_was_pruned_is_never_to_be_known() {
        let fake = Fake::start(Network::Regtest).await;
        let chain = Chain::new(&fake.url(), Auth::Url).expect("a good URL");
        let (events, mut answers) = mpsc::unbounded_channel();
        let lookups = Lookups::new(chain, events, Handle::current());
        let scid = ShortChannelId(1);
        // More than may look at once, so that none of them keeps its place.
        for mood in ERRORS {
            fake.state().mood = mood;
            let before = fake.state().calls;
            lookups.ask(scid);
            while fake.state().calls < before + 3 {
                sleep(FIRST_RETRY).await;
            }
            assert!(answers.try_recv().is_err());
        }
        {
            let mut state = fake.state();
            state.answers.insert(
                "getblock".into(),
                json!({ "tx": [Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros())] }),
            );
            state.answers.insert("gettxout".into(), json!(null));
            state.mood = Mood::Good;
        }
        for _ in &ERRORS {
            let answer = answers.recv().await;
            assert!(
                matches!(answer, Some(Event::LookedUp { scid: of, utxo: Utxo::Absent }) if of == scid),
                "{answer:?}"
            );
        }
        fake.state().mood = Mood::Error(-1, "Block not available (pruned data)");
        lookups.ask(ShortChannelId(1 << 40));
        let answer = answers.recv().await;
        assert!(matches!(answer, Some(Event::LookedUp { utxo: Utxo::Unknown, .. })), "{answer:?}");
    }
}
