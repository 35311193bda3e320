//! Blocks that were read before a channel came back from a backup, read again for it.
//!
//! In: from where to where. Out: the blocks, oldest first, as inputs for the node. A backend that does not answer is asked until
//! it does; one that has thrown old blocks away (a pruned node) ends it, in words: closes before that are not found.
//! Read next: `chand_protocol::node::lost`.

use crate::chain::{follow, Chain};
use bitcoin::Block;
use chand_protocol::chain::Network;
use chand_protocol::node::effect::Input;
use chand_protocol::units::Height;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);
/// After so many in a row the user is told.
const PATIENCE: u32 = 10;

/// Where blocks come from, and where they go.
#[derive(Clone, Debug)]
pub struct Again {
    /// The backend.
    pub chain: Chain,
    /// Its network.
    pub network: Network,
    /// The node's queue.
    pub inputs: mpsc::Sender<Input>,
}

impl Again {
    /// Reads the blocks from `from` to `to`; ends early when nobody listens.
    pub async fn read(self, from: Height, to: Height) {
        read(self.chain, self.network, from, to, self.inputs).await;
    }
}

async fn read(chain: Chain, network: Network, from: Height, to: Height, inputs: mpsc::Sender<Input>) {
    tracing::info!(from = from.0, to = to.0, "blocks are read again for channels that were restored");
    for height in from.0..=to.0 {
        let mut tries = 0;
        let block = loop {
            let error = match fetch(&chain, network, Height(height)).await {
                Ok(block) => break block,
                Err(error) => error,
            };
            tries += 1;
            if tries == PATIENCE {
                tracing::error!(
                    height,
                    "an old block cannot be read ({error}): whether a restored channel was closed in it is not known. It is \
                     tried on; a pruned backend does not have it any more, then name another one"
                );
            }
            sleep(RETRY * tries.min(60)).await;
            if inputs.is_closed() {
                return;
            }
        };
        let txs = Arc::new(block.txdata.clone());
        let input = Input::OldBlock { height: Height(height), txs, last: height == to.0 };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

async fn fetch(chain: &Chain, network: Network, height: Height) -> Result<Arc<Block>, String> {
    let found = follow::fetch(chain.clone(), height, network).await.map_err(|e| e.to_string())?;
    found.map(|(_, block)| block).ok_or_else(|| format!("there is no block {}", height.0))
}
