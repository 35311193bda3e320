//! Commands that wait for the tip: no polling, every new block wakes them.
//!
//! In: what to wait for, and how long. Out: the tip as it then is. A stop ends the wait, too. Read next: `node`.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use serde_json::{json, Value};

use super::args::{hash_of, Args};
use super::error::RpcError;
use crate::regtest::node::{Node, Tip};

type Condition = Box<dyn Fn(&Tip) -> bool + Send + Sync>;

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any change of the tip.
    NewBlock,
    /// This block as the tip.
    Block,
    /// At least this height.
    Height,
}

impl Target {
    /// Waits; a timeout is no error.
    pub async fn wait(self, node: &Arc<Node>, args: &Args) -> Result<Value, RpcError> {
        let mut tips = node.tip();
        let mut stopping = node.stopping();
        let (timeout_at, reached): (usize, Condition) = match self {
            Target::NewBlock => {
                let from = match args.text_opt(1)? {
                    Some(text) => hash_of::<BlockHash>(text, "current_tip")?,
                    None => tips.borrow().hash,
                };
                (0, Box::new(move |tip| tip.hash != from))
            }
            Target::Block => {
                let wanted = args.block_hash(0)?;
                (1, Box::new(move |tip| tip.hash == wanted))
            }
            Target::Height => {
                let wanted = args.number(0)?;
                (1, Box::new(move |tip| i64::from(tip.height) >= wanted))
            }
        };
        let timeout_ms =
            u64::try_from(args.number_or(timeout_at, 0)?).map_err(|_| RpcError::misc("Negative timeout"))?;
        let arrival = async {
            tokio::select! {
                _ = tips.wait_for(|tip| reached(tip)) => {}
                _ = stopping.wait_for(|asked| *asked) => {}
            }
        };
        if timeout_ms == 0 {
            arrival.await;
        } else {
            // Late is fine: the caller sees the tip as it is.
            let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), arrival).await;
        }
        let tip = *node.tip().borrow();
        Ok(json!({"hash": tip.hash.to_string(), "height": tip.height}))
    }
}
