//! A chain, Alice and Bob, in a folder that goes away with them.
//!
//! In: how much and of which kind. Out: two real nodes with an open channel.
//! Read next: `books`, then the tests in `tests/process`.

use crate::chain::Chain;
use crate::node::Node;
use crate::wait::{wait_for, wait_until};
use serde_json::{json, Value};
use tempfile::TempDir;

/// The two kinds of channel that chand speaks (BOLT 2, `channel_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelType {
    /// static_remotekey alone.
    StaticRemoteKey,
    /// static_remotekey and anchors with zero-fee HTLC transactions.
    Anchors,
}

impl ChannelType {
    /// Its feature bits.
    pub fn bits(self) -> Vec<u32> {
        match self {
            ChannelType::StaticRemoteKey => vec![12],
            ChannelType::Anchors => vec![12, 22],
        }
    }
}

/// Two nodes and their chain. The nodes end before the chain does.
#[derive(Debug)]
pub struct World {
    /// The first node.
    pub alice: Node,
    /// The second node.
    pub bob: Node,
    /// Their chain.
    pub chain: Chain,
    /// Where everything lies.
    pub dir: TempDir,
}

impl World {
    /// Alice and Bob, without coins and strangers to each other.
    ///
    /// # Panics
    /// When anything does not come up.
    pub fn new() -> World {
        World::with_options(&[])
    }

    /// The same, both started with these options too.
    ///
    /// # Panics
    /// When anything does not come up.
    pub fn with_options(extra: &[&str]) -> World {
        let dir = tempfile::Builder::new().prefix("chand-").tempdir().expect("a temporary folder");
        let chain = Chain::start(dir.path());
        let alice = Node::start("Alice", dir.path(), &chain, extra);
        let bob = Node::start("Bob", dir.path(), &chain, extra);
        let world = World { alice, bob, chain, dir };
        world.wait_chain(world.chain.height());
        world
    }

    /// Alice has opened a channel of `capacity_sat` to Bob and given him `push_msat`; both can use it.
    ///
    /// # Panics
    /// When anything goes wrong.
    pub fn with_channel(capacity_sat: u64, push_msat: u64, kind: ChannelType) -> World {
        World::new().opened(capacity_sat, push_msat, kind)
    }

    /// This world, with such a channel.
    ///
    /// # Panics
    /// When anything goes wrong.
    #[must_use]
    pub fn opened(self, capacity_sat: u64, push_msat: u64, kind: ChannelType) -> World {
        self.fund(&self.alice, capacity_sat + 1_000_000);
        self.alice.connect(&self.bob);
        self.open(&self.alice, &self.bob, capacity_sat, push_msat, kind);
        self
    }

    /// Gives a node a confirmed coin of the faucet's.
    ///
    /// # Panics
    /// When it does not get there.
    pub fn fund(&self, node: &Node, sat: u64) {
        let before = node.wallet_sat();
        self.chain.send(&node.new_address(), sat);
        self.mine(1);
        wait_for("coins in the wallet", || match node.wallet_sat() {
            now if now == before + sat => Ok(()),
            now => Err(format!("{now} sat, before {before}")),
        });
    }

    /// Opens a channel between connected nodes and waits until both can use it; what `fundchannel` answered.
    ///
    /// # Panics
    /// When it does not open.
    pub fn open(
        &self,
        from: &Node,
        to: &Node,
        capacity_sat: u64,
        push_msat: u64,
        kind: ChannelType,
    ) -> Value {
        // Litecoin's nodes relay no anchors.
        let kind = if self.chain.is_litecoin() { ChannelType::StaticRemoteKey } else { kind };
        let params = json!({
            "id": to.id(),
            "amount": capacity_sat,
            "push_msat": push_msat,
            "announce": false,
            "channel_type": kind.bits(),
        });
        let funded = from.call("fundchannel", params);
        assert_eq!(funded["channel_type"]["bits"], json!(kind.bits()), "{funded}");
        let txid = funded["txid"].as_str().expect("txid").to_string();
        wait_until("the funding transaction in the mempool", || self.chain.mempool().contains(&txid));
        self.mine(1);
        self.wait_normal();
        funded
    }

    /// Mines blocks and waits until both nodes know them.
    ///
    /// # Panics
    /// When they do not.
    pub fn mine(&self, blocks: u64) -> u64 {
        let height = self.chain.mine(blocks);
        self.wait_chain(height);
        height
    }

    fn wait_chain(&self, height: u64) {
        self.alice.wait_height(height);
        self.bob.wait_height(height);
    }

    /// Waits until both are linked and every channel between them is in use.
    ///
    /// # Panics
    /// When that does not come.
    pub fn wait_normal(&self) {
        for (node, peer) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            wait_for(&format!("{}'s channel in use", node.name()), || {
                let channels = node.channels(peer);
                let ready = |c: &Value| c["state"] == "CHANNELD_NORMAL" && c["peer_connected"] == true;
                if !channels.is_empty() && channels.iter().all(ready) {
                    return Ok(());
                }
                Err(channels.iter().map(|c| format!("{} {} ", c["state"], c["peer_connected"])).collect())
            });
        }
    }

    /// Waits until no HTLC is left in the channel of either.
    ///
    /// # Panics
    /// When some stay.
    pub fn wait_quiet(&self) {
        for (node, peer) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            wait_for(&format!("no HTLC left at {}", node.name()), || {
                let channel = node.channel(peer);
                match channel["htlcs"].as_array().map(Vec::len) {
                    None | Some(0) => Ok(()),
                    Some(n) => Err(format!("{n} left")),
                }
            });
        }
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}
