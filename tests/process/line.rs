//! The seed's four as processes in a line: Alice, Bob, Carol, Dave, each with a channel to the next.
//!
//! In: whether the channels are announced. Out: the nodes, with channels that both ends can use, and what is whose.
//! Read next: `forward`, `routes`.

use chand_tests::books::shares;
use chand_tests::{wait_for, wait_until, Chain, Node, World};
use serde_json::{json, Value};

/// 0.001 BTC for each payment that goes on, a day between two expiries; news spread at once.
pub const TERMS: [&str; 6] = ["--fee-base", "100000000", "--fee-per-satoshi", "0", "--cltv-delta", "144"];
const CAPACITY_SAT: u64 = 10_000_000;
const PUSHED_MSAT: u64 = 1_000_000_000;
/// Blocks after which a channel may be announced.
const ANNOUNCED_BLOCKS: u64 = 6;

/// The four.
pub struct Line {
    /// Alice, Bob, their chain.
    pub world: World,
    /// The third.
    pub carol: Node,
    /// The last.
    pub dave: Node,
}

fn give_coin(chain: &Chain, node: &Node, sat: u64) {
    chain.send(&node.new_address(), sat);
    node.wait_height(chain.mine(1));
    wait_until("a coin in the wallet", || node.wallet_sat() >= sat);
}

/// Waits until a node can use its channel with another.
pub fn ready(node: &Node, peer: &Node) {
    wait_for(&format!("{}'s channel with {}", node.name(), peer.name()), || {
        let channels = node.channels(peer);
        let fine = |c: &Value| {
            c["state"] == "CHANNELD_NORMAL" && c["peer_connected"] == true && c["reestablished"] != false
        };
        match channels.len() == 1 && channels.iter().all(fine) {
            true => Ok(()),
            false => Err(format!("{channels:?}")),
        }
    });
}

impl Line {
    /// The newest payment that went on through a node.
    pub fn forward(node: &Node) -> Value {
        let list = node.call("listforwards", json!({}));
        let rows = list["forwards"].as_array().expect("forwards").clone();
        rows.last().expect("a forward").clone()
    }

    /// Opens everything; `announce`: until everybody knows of every channel.
    pub fn new(announce: bool) -> Line {
        let world = World::with_options(&TERMS);
        let carol = Node::start("Carol", world.dir.path(), &world.chain, &TERMS);
        let dave = Node::start("Dave", world.dir.path(), &world.chain, &TERMS);
        let line = Line { world, carol, dave };
        for pair in line.nodes().windows(2) {
            let (from, to) = (pair[0], pair[1]);
            give_coin(&line.world.chain, from, CAPACITY_SAT + 1_000_000);
            from.connect(to);
            let params = json!({ "id": to.id(), "amount": CAPACITY_SAT, "push_msat": PUSHED_MSAT, "announce": announce });
            let funded = from.call("fundchannel", params);
            let txid = funded["txid"].as_str().expect("txid").to_string();
            wait_until("the funding in the mempool", || line.world.chain.mempool().contains(&txid));
            line.mine(1);
            ready(from, to);
            ready(to, from);
        }
        if announce {
            line.mine(ANNOUNCED_BLOCKS);
            line.nodes().into_iter().for_each(Line::wait_map);
        }
        line
    }

    /// Mines, and waits until all have read it.
    pub fn mine(&self, blocks: u64) {
        let height = self.world.chain.mine(blocks);
        self.nodes().iter().for_each(|node| node.wait_height(height));
    }

    /// Waits until a node knows both directions of all three channels.
    pub fn wait_map(node: &Node) {
        wait_for(&format!("{}'s map", node.name()), || {
            let list = node.call("listchannels", json!({}));
            match list["channels"].as_array().map(Vec::len) {
                Some(6) => Ok(()),
                _ => Err(list.to_string()),
            }
        });
    }

    /// In order.
    pub fn nodes(&self) -> [&Node; 4] {
        [&self.world.alice, &self.world.bob, &self.carol, &self.dave]
    }

    /// Waits until nothing is under way.
    pub fn wait_no_htlcs(&self) {
        for node in self.nodes() {
            wait_for(&format!("no HTLC left at {}", node.name()), || {
                let htlcs = node.call("listhtlcs", json!({}));
                match htlcs["htlcs"].as_array().map(Vec::len) {
                    Some(0) => Ok(()),
                    _ => Err(htlcs.to_string()),
                }
            });
        }
    }

    /// What is each one's in the three channels.
    pub fn money(&self) -> [u64; 4] {
        let [alice, bob, carol, dave] = self.nodes();
        let [ab, bc, cd] = [shares(alice, bob), shares(bob, carol), shares(carol, dave)];
        [ab.0, ab.1 + bc.0, bc.1 + cd.0, cd.1]
    }
}
