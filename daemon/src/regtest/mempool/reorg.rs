//! The pool follows the chain: blocks take transactions out, blocks that leave the chain bring them back.
//!
//! In: what a call changed in the chain. Out: a pool that fits the new tip. Read next: `accept`.

use std::sync::Arc;

use bitcoin::{Block, Txid};

use super::accept::FeeRule;
use super::Mempool;
use crate::regtest::consensus::{ChainState, Submit};

impl Mempool {
    /// Follows a change of the chain that has already happened.
    pub fn follow(&mut self, chain: &ChainState, change: &Submit, now: u64) {
        for block in &change.connected {
            self.remove_confirmed(block);
        }
        if change.disconnected.is_empty() {
            return;
        }
        // Oldest block first: parents come back before their children.
        for block in change.disconnected.iter().rev() {
            for tx in block.txdata.iter().skip(1) {
                let tx = Arc::new(tx.clone());
                if let Ok(candidate) = self.evaluate(chain, &tx, now, FeeRule::Elsewhere) {
                    if candidate.conflicts.is_empty() {
                        self.commit(candidate);
                    }
                }
            }
        }
        self.remove_unfit(chain);
    }

    fn remove_confirmed(&mut self, block: &Block) {
        for tx in &block.txdata {
            self.remove_one(&tx.compute_txid());
            let spenders: Vec<Txid> =
                tx.input.iter().filter_map(|input| self.spender(&input.previous_output)).collect();
            for loser in spenders {
                self.remove_with_descendants(&loser);
            }
        }
    }

    /// Removes what the new tip no longer allows: coins gone or unripe again, locks closed again.
    fn remove_unfit(&mut self, chain: &ChainState) {
        let tip = chain.tip();
        let txids: Vec<Txid> = self.entries().map(|entry| entry.txid).collect();
        for txid in txids {
            let Some(entry) = self.get(&txid) else { continue };
            let tx = entry.tx.clone();
            let coins: Option<Vec<_>> =
                tx.input.iter().map(|input| self.coin(chain, &input.previous_output)).collect();
            let fits = coins.is_some_and(|coins| {
                chain.check_tx_inputs(&tx, &coins, tip.height.saturating_add(1), tip.median_time).is_ok()
            });
            if !fits {
                self.remove_with_descendants(&txid);
            }
        }
    }
}
