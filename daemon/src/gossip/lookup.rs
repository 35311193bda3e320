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
            let Ok(_place) = this.places.acquire().await else { return };
            let mut retry = FIRST_RETRY;
            let utxo = loop {
                if this.events.is_closed() {
                    return;
                }
                match this.look(scid).await {
                    Ok(utxo) => break utxo,
                    Err(RpcError::Rpc { code, message }) => {
                        tracing::debug!(%scid, "its output cannot be looked up: {message} ({code})");
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
