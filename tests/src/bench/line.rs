//! Four chands in a line, as a benchmark sees them: what the first pays the last goes through two others.
//!
//! In: a chain and a folder on the disk that is to be measured. Out: a [`Pair`] with two processes between. All options
//! are chand's defaults, all channels public: the payer finds each payment's route by itself, as a user's `pay` does.
//! Read next: `chand` (two of them), `pair`.

use super::chand::{make_invoices, start_again};
use super::drive;
use super::pair::{Paid, Pair, CAPACITY_SAT};
use crate::wait::{wait_for, wait_until};
use crate::{Chain, Node};
use serde_json::{json, Value};
use std::path::Path;
use tempfile::TempDir;

/// What each has on chain for fees beside its channel.
const SPARE_SAT: u64 = 1_000_000;
/// Blocks after which a channel is announced.
const ANNOUNCED_BLOCKS: u64 = 6;
/// Directions of three channels.
const DIRECTIONS: usize = 6;

/// The first pays, the last is paid.
#[derive(Debug)]
pub struct Line {
    nodes: [Node; 4],
    invoices_made: u64,
    chain: Chain,
    _dir: TempDir,
}

impl Line {
    /// Starts a chain and the nodes, opens the channels, and waits until the payer knows of all of them.
    ///
    /// # Panics
    /// When they do not come up or a channel does not open.
    pub fn open(base: &Path) -> Line {
        let dir = tempfile::Builder::new().prefix("chand-").tempdir_in(base).expect("a folder for the nodes");
        let chain = Chain::start(dir.path());
        let nodes = ["Alice", "Bob", "Carol", "Dave"].map(|name| Node::start(name, dir.path(), &chain, &[]));
        let line = Line { nodes, invoices_made: 0, chain, _dir: dir };
        for pair in line.nodes.windows(2) {
            line.open_channel(&pair[0], &pair[1]);
        }
        line.mine(ANNOUNCED_BLOCKS);
        wait_for("the payer's map", || {
            let known = line.nodes[0].call("listchannels", json!({}));
            match known["channels"].as_array().map(Vec::len) {
                Some(DIRECTIONS) => Ok(()),
                other => Err(format!("{other:?} directions")),
            }
        });
        line
    }

    fn open_channel(&self, from: &Node, to: &Node) {
        let coin_sat = CAPACITY_SAT + SPARE_SAT;
        self.chain.send(&from.new_address(), coin_sat);
        self.mine(1);
        wait_until("a coin in the wallet", || from.wallet_sat() >= coin_sat);
        from.connect(to);
        let push_msat = CAPACITY_SAT * 1_000 / 2;
        let params =
            json!({ "id": to.id(), "amount": CAPACITY_SAT, "push_msat": push_msat, "announce": true });
        let funded = from.call("fundchannel", params);
        let txid = funded["txid"].as_str().expect("txid").to_string();
        wait_until("the funding in the mempool", || self.chain.mempool().contains(&txid));
        self.mine(1);
        for (node, peer) in [(from, to), (to, from)] {
            wait_for(&format!("{}'s channel with {}", node.name(), peer.name()), || {
                let channels = node.channels(peer);
                match channels.iter().all(|c| c["state"] == "CHANNELD_NORMAL") && !channels.is_empty() {
                    true => Ok(()),
                    false => Err(format!("{channels:?}")),
                }
            });
        }
    }

    fn mine(&self, blocks: u64) {
        let height = self.chain.mine(blocks);
        self.nodes.iter().for_each(|node| node.wait_height(height));
    }
}

impl Pair for Line {
    fn process_ids(&mut self) -> [u32; 2] {
        let [alice, _, _, dave] = &mut self.nodes;
        [alice.process().id(), dave.process().id()]
    }

    fn between(&mut self) -> Vec<u32> {
        let [_, bob, carol, _] = &mut self.nodes;
        [bob, carol].map(|node| node.process().id()).into()
    }

    fn invoices(&mut self, count: u64) -> Vec<String> {
        let first = self.invoices_made;
        self.invoices_made += count;
        make_invoices(&self.nodes[3], first, count)
    }

    fn pay(&mut self, invoices: Vec<String>, in_flight: usize) -> Paid {
        drive::pay(&self.nodes[0].socket(), invoices, in_flight)
    }

    fn rest(&mut self) {
        for node in &self.nodes {
            wait_for(&format!("no HTLC left at {}", node.name()), || {
                let htlcs: Value = node.call("listhtlcs", json!({}));
                match htlcs["htlcs"].as_array().map(Vec::len) {
                    Some(0) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
        }
    }

    fn restart(&mut self) -> [f64; 2] {
        let [alice, _, _, dave] = &mut self.nodes;
        [start_again(alice), start_again(dave)]
    }
}
