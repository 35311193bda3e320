//! Where the money of a published commitment went.
//!
//! In: the commitment, and the blocks since. Out: for each of its outputs the wallet in which it ended, if it did, and
//! what either node paid in fees: all of it read from the chain, and from the coins that `listfunds` shows.
//! Read next: the tests in `tests/process/onchain.rs`.

use crate::chain::Chain;
use crate::node::Node;
use crate::wait::wait_for;
use bitcoin::{OutPoint, Transaction, Txid};
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What an anchor holds, in satoshi (BOLT 3).
pub const ANCHOR_SAT: u64 = 330;

/// One output of the commitment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// Where it is.
    pub outpoint: OutPoint,
    /// How much.
    pub sat: u64,
    /// The transaction that spent it, and in which block.
    pub spent: Option<(Txid, u64)>,
    /// The node in whose wallet it ended, through however many transactions.
    pub owner: Option<&'static str>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Trail {
    /// The commitment's outputs, in order.
    pub ends: Vec<End>,
    /// What each node paid, in satoshi, for transactions after the commitment.
    pub fees: BTreeMap<&'static str, u64>,
}

/// A spend that is in a block.
struct Spend {
    tx: Transaction,
    input: usize,
    height: u64,
}

impl Trail {
    /// Follows the outputs of `commitment` through the blocks from `since` on.
    ///
    /// # Panics
    /// When the chain or a node does not answer.
    pub fn read(chain: &Chain, commitment: &Transaction, since: u64, nodes: &[&Node]) -> Trail {
        let spends = spends(chain, since);
        let coins: Vec<(&'static str, BTreeSet<OutPoint>)> =
            nodes.iter().map(|node| (node.name(), coins(node))).collect();
        let wallet_of = |outpoint: &OutPoint| {
            coins.iter().find(|(_, coins)| coins.contains(outpoint)).map(|(name, _)| *name)
        };
        let txid = commitment.compute_txid();
        let mut trail = Trail { ends: Vec::new(), fees: BTreeMap::new() };
        let mut counted = BTreeSet::new();
        for (vout, output) in (0..).zip(&commitment.output) {
            let outpoint = OutPoint { txid, vout };
            let mut end = End { outpoint, sat: output.value.to_sat(), spent: None, owner: None };
            let mut path = Vec::new();
            let mut at = outpoint;
            while let Some(spend) = spends.get(&at) {
                let next = spend.tx.compute_txid();
                end.spent.get_or_insert((next, spend.height));
                path.push(spend);
                let paid = (0..).zip(&spend.tx.output).map(|(vout, _)| OutPoint { txid: next, vout });
                // An HTLC transaction pays, with the same index, to a script; all else pays to a wallet.
                let second = OutPoint { txid: next, vout: u32::try_from(spend.input).expect("an index") };
                let held = spend.tx.output.get(spend.input).is_some_and(|o| o.script_pubkey.is_p2wsh());
                if held && wallet_of(&second).is_none() {
                    at = second;
                } else {
                    end.owner = paid.clone().find_map(|o| wallet_of(&o));
                    break;
                }
            }
            for spend in path {
                let id = spend.tx.compute_txid();
                let from = spend.tx.input.iter().map(|i| i.previous_output);
                let to = (0..).zip(&spend.tx.output).map(|(vout, _)| OutPoint { txid: id, vout });
                let payer = from.chain(to).find_map(|o| wallet_of(&o)).or(end.owner);
                if let Some(payer) = payer.filter(|_| counted.insert(id)) {
                    *trail.fees.entry(payer).or_default() += chain.fee(&spend.tx);
                }
            }
            trail.ends.push(end);
        }
        trail
    }

    /// Everything but anchors is in somebody's wallet.
    pub fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.owner.is_some() || end.sat == ANCHOR_SAT)
    }

    /// What a node got out of the commitment, before fees, in satoshi.
    pub fn owned(&self, node: &Node) -> u64 {
        self.ends.iter().filter(|end| end.owner == Some(node.name())).map(|end| end.sat).sum()
    }

    /// What a node paid in fees, in satoshi.
    pub fn fees(&self, node: &Node) -> u64 {
        self.fees.get(node.name()).copied().unwrap_or_default()
    }

    /// The output of so many satoshi.
    ///
    /// # Panics
    /// When there is not exactly one.
    pub fn of(&self, sat: u64) -> &End {
        let found: Vec<&End> = self.ends.iter().filter(|end| end.sat == sat).collect();
        assert_eq!(found.len(), 1, "one output of {sat} sat in {self:?}");
        found[0]
    }
}

/// Every coin that a wallet ever had, spent ones too.
fn coins(node: &Node) -> BTreeSet<OutPoint> {
    let funds = node.call("listfunds", json!({ "spent": true }));
    let coin = |o: &Value| OutPoint {
        txid: o["txid"].as_str().and_then(|t| t.parse().ok()).expect("a txid"),
        vout: o["output"].as_u64().and_then(|v| u32::try_from(v).ok()).expect("an output"),
    };
    funds["outputs"].as_array().expect("outputs").iter().map(coin).collect()
}

fn spends(chain: &Chain, since: u64) -> BTreeMap<OutPoint, Spend> {
    let mut spends = BTreeMap::new();
    for height in since..=chain.height() {
        for tx in chain.block(height).txdata {
            for (input, from) in tx.input.iter().enumerate() {
                spends.insert(from.previous_output, Spend { tx: tx.clone(), input, height });
            }
        }
    }
    spends
}

/// Waits until something that spends `outpoint` is in the mempool.
///
/// # Panics
/// When nothing does in time.
pub fn wait_spender(chain: &Chain, outpoint: &OutPoint) -> Transaction {
    wait_for(&format!("a spend of {outpoint} in the mempool"), || {
        let waiting: Vec<Transaction> = chain.mempool().iter().filter_map(|id| chain.find(id)).collect();
        let spends = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == *outpoint);
        waiting.iter().find(spends).cloned().ok_or_else(|| format!("{} others", waiting.len()))
    })
}
