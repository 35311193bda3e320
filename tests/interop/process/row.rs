//! Four in a row, one of them LDK: Alice, LDK, Bob, Carol, each with a public channel to the next.
//!
//! In: how many channels LDK has with Bob. Out: nodes that know of every channel, all of chand's gossip learned by LDK and
//! LDK's by chand.
//! Read next: `network`.

use crate::ldk::Ldk;
use chand_tests::books::{balance_adds_up, msat};
use chand_tests::hash::preimage;
use chand_tests::{wait_for, wait_until, Chain, Node};
use serde_json::{json, Value};
use tempfile::TempDir;

/// What each channel holds.
pub const CAPACITY_SAT: u64 = 1_000_000;
/// Of Bob's channel with Carol: as much as several of LDK's.
const WIDE_SAT: u64 = 3 * CAPACITY_SAT;
/// Given to the side that did not open.
const PUSHED_MSAT: u64 = 300_000_000;
/// LDK waits so long before it uses a channel that others opened; then, too, it is announced.
const CONFIRMATIONS: u64 = 6;

/// The nodes end before the chain does.
#[derive(Debug)]
pub struct Row {
    /// The first of ours.
    pub alice: Node,
    /// The judge.
    pub ldk: Ldk,
    /// Its other neighbour.
    pub bob: Node,
    /// The last.
    pub carol: Node,
    /// Their chain.
    pub chain: Chain,
    _dir: TempDir,
}

impl Row {
    /// Everything open, and known to everybody. `between`: channels of LDK's with Bob.
    ///
    /// # Panics
    /// When anything does not come up.
    pub fn new(seed: u8, between: usize) -> Row {
        let dir = tempfile::Builder::new().prefix("chand-row-").tempdir().expect("a temporary folder");
        let chain = Chain::start(dir.path());
        let node = |name| Node::start(name, dir.path(), &chain, &[]);
        let (alice, bob, carol) = (node("Alice"), node("Bob"), node("Carol"));
        let ldk = Ldk::start(dir.path(), &chain, seed, &[]);
        let row = Row { alice, ldk, bob, carol, chain, _dir: dir };
        let ldks = row.ldk.call("address")["address"].as_str().expect("an address").to_string();
        for address in [row.alice.new_address(), row.bob.new_address(), ldks] {
            row.chain.send(&address, 10 * CAPACITY_SAT);
        }
        row.mine(1);
        for node in [&row.alice, &row.bob] {
            wait_until("coins of ours", || node.wallet_sat() == 10 * CAPACITY_SAT);
        }
        wait_until("coins of LDK's", || msat(&row.ldk.call("balance"), "onchain_sat") == 10 * CAPACITY_SAT);

        row.link(&row.alice);
        row.link(&row.bob);
        row.bob.connect(&row.carol);
        row.open(&row.alice, row.ldk.id(), CAPACITY_SAT);
        for _ in 0..between {
            let (id, at) = (row.bob.id(), row.bob.address());
            row.ldk.call(&format!("open {id} {at} {CAPACITY_SAT} {PUSHED_MSAT} public"));
            row.funded();
        }
        row.open(&row.bob, row.carol.id(), WIDE_SAT);
        row.mine(CONFIRMATIONS);
        row.wait_map(2 + between);
        row
    }

    fn open(&self, from: &Node, to: &str, sat: u64) {
        let params = json!({ "id": to, "amount": sat, "push_msat": PUSHED_MSAT, "announce": true });
        from.call("fundchannel", params);
        self.funded();
    }

    fn funded(&self) {
        wait_until("a funding transaction", || !self.chain.mempool().is_empty());
        self.mine(1);
    }

    /// Links one of ours with LDK, unless they are.
    ///
    /// # Panics
    /// When LDK cannot be reached.
    pub fn link(&self, node: &Node) {
        let params = json!({ "id": self.ldk.id(), "host": "127.0.0.1", "port": self.ldk.port() });
        wait_for("a link to LDK", || node.try_call("connect", params.clone()).map_err(|e| e.to_string()));
        wait_for("LDK to have our init", || {
            let peers = self.ldk.call("peers");
            match peers["connected"].as_array().expect("connected").iter().any(|id| id == node.id()) {
                true => Ok(()),
                false => Err(peers.to_string()),
            }
        });
    }

    /// Mines, and waits until all have read it.
    ///
    /// # Panics
    /// When they do not.
    pub fn mine(&self, blocks: u64) {
        let height = self.chain.mine(blocks);
        for node in self.ours() {
            node.wait_height(height);
        }
        self.ldk.call("sync");
        wait_for(&format!("LDK at height {height}"), || match self.ldk.call("status") {
            status if status["height"] == height => Ok(()),
            status => Err(status.to_string()),
        });
    }

    /// The nodes under test.
    pub fn ours(&self) -> [&Node; 3] {
        [&self.alice, &self.bob, &self.carol]
    }

    /// Waits until every node has both directions of so many channels: its own, and those it only heard of.
    ///
    /// # Panics
    /// When one does not learn of them.
    pub fn wait_map(&self, channels: usize) {
        for node in self.ours() {
            wait_for(&format!("{}'s map", node.name()), || {
                let list = node.call("listchannels", json!({}));
                match list["channels"].as_array().map(Vec::len) {
                    Some(n) if n == 2 * channels => Ok(()),
                    _ => Err(list.to_string()),
                }
            });
        }
        wait_for("LDK's map", || {
            let graph = self.ldk.call("graph");
            let all = graph["channels"].as_array().expect("channels");
            match all.len() == channels && all.iter().all(|c| c["directions"] == 2) {
                true => Ok(()),
                false => Err(graph.to_string()),
            }
        });
    }

    /// Waits until one of ours and its peer can use all their channels.
    ///
    /// # Panics
    /// When they cannot.
    pub fn ready(&self, node: &Node, peer: &str) {
        wait_for(&format!("{}'s channels in use", node.name()), || {
            let list = node.call("listpeerchannels", json!({ "id": peer }));
            let fine = |c: &Value| {
                c["state"] == "CHANNELD_NORMAL" && c["peer_connected"] == true && c["reestablished"] != false
            };
            match list["channels"].as_array().expect("channels").iter().all(fine) {
                true => Ok(()),
                false => Err(list.to_string()),
            }
        });
    }

    /// One of ours makes an invoice that it holds: its text and hash.
    ///
    /// # Panics
    /// On any error.
    pub fn held_invoice(&self, payee: &Node, amount_msat: u64, label: &str) -> (String, String) {
        let bolt11 = payee.hold_invoice(amount_msat, label, &preimage(label, 0));
        let hash = chand_tests::hash::sha256(&preimage(label, 0));
        (bolt11, hash)
    }

    /// Waits until the payee holds the payment.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_held(&self, payee: &Node, label: &str) {
        wait_for("the payment to be held", || match payee.invoice_of(label) {
            invoice if invoice["hold"] == "accepted" => Ok(()),
            invoice => Err(invoice.to_string()),
        });
    }

    /// The payee of a held payment shows its secret.
    ///
    /// # Panics
    /// On any error.
    pub fn settle(&self, payee: &Node, label: &str) {
        payee.call("settleinvoice", json!({ "preimage": preimage(label, 0) }));
    }

    /// Waits until what Bob sent on has all ended, and says how and for what fee.
    ///
    /// # Panics
    /// When it does not end.
    pub fn bobs_forwards(&self, count: usize) -> Vec<(String, u64)> {
        wait_for("the end of Bob's forwards", || {
            let list = self.bob.call("listforwards", json!({}));
            let rows = list["forwards"].as_array().expect("forwards");
            if rows.len() < count || rows.iter().any(|row| row["status"] == "offered") {
                return Err(list.to_string());
            }
            let row =
                |row: &Value| (row["status"].as_str().unwrap_or_default().to_string(), msat(row, "fee_msat"));
            Ok(rows.iter().map(row).collect())
        })
    }

    /// Waits until no HTLC of ours is left, and adds up all balances.
    ///
    /// # Panics
    /// When one stays, or a sum is wrong.
    pub fn at_rest(&self) {
        for node in self.ours() {
            wait_for(&format!("no HTLC left at {}", node.name()), || {
                let htlcs = node.call("listhtlcs", json!({}));
                match htlcs["htlcs"].as_array().map(Vec::len) {
                    Some(0) => Ok(()),
                    _ => Err(htlcs.to_string()),
                }
            });
            balance_adds_up(node);
        }
    }
}
