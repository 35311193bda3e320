//! Four in a row, one of them LDK: Alice, LDK, Bob, Carol, each with a public channel to the next; or Bob has private channels
//! with Carol and with Dave, another LDK.
//!
//! In: how many channels LDK has with its neighbours, and whether Dave is there. Out: nodes that know of every channel, all of
//! chand's gossip learned by LDK and LDK's by chand.
//! Read next: `network`.

use crate::ldk::Ldk;
use chand_tests::books::{balance_adds_up, msat};
use chand_tests::hash::preimage;
use chand_tests::{wait_for, wait_until, Chain, Node};
use serde_json::{json, Value};
use tempfile::TempDir;

/// What each channel holds. LDK has no more than a tenth of it in flight towards it.
pub const CAPACITY_SAT: u64 = 1_000_000;
/// Of Bob's channel with Carol: as much as several of LDK's.
const WIDE_SAT: u64 = 3 * CAPACITY_SAT;
/// Given to the side that did not open.
const PUSHED_MSAT: u64 = 300_000_000;
/// What everybody begins with.
const COINS_SAT: u64 = 10 * CAPACITY_SAT;
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
    /// Another LDK, with a channel to Bob.
    pub dave: Option<Ldk>,
    /// Their chain.
    pub chain: Chain,
    _dir: TempDir,
}

impl Row {
    /// Everything open, and known to everybody. `wide`: channels that LDK has with each neighbour.
    ///
    /// # Panics
    /// When anything does not come up.
    pub fn new(seed: u8, wide: usize) -> Row {
        Row::start(seed, wide, None)
    }

    /// The same with one channel each, and Dave; who pays him or Carol must be told the last hop by an invoice.
    ///
    /// # Panics
    /// When anything does not come up.
    pub fn with_private_ends(seed: u8, daves: u8) -> Row {
        Row::start(seed, 1, Some(daves))
    }

    fn start(seed: u8, wide: usize, daves: Option<u8>) -> Row {
        let dir = tempfile::Builder::new().prefix("chand-row-").tempdir().expect("a temporary folder");
        let chain = Chain::start(dir.path());
        let node = |name| Node::start(name, dir.path(), &chain, &[]);
        let (alice, bob, carol) = (node("Alice"), node("Bob"), node("Carol"));
        let ldk = |seed| Ldk::start(dir.path(), &chain, seed, &[]);
        let (ldk, dave) = (ldk(seed), daves.map(ldk));
        let row = Row { alice, ldk, bob, carol, dave, chain, _dir: dir };
        let ours = [&row.alice, &row.bob];
        for address in ours.map(Node::new_address).into_iter().chain(row.ldks().map(Ldk::new_address)) {
            row.chain.send(&address, COINS_SAT);
        }
        row.mine(1);
        for node in ours {
            wait_until("coins of ours", || node.wallet_sat() == COINS_SAT);
        }
        for ldk in row.ldks() {
            wait_until("coins of LDK's", || ldk.wallet_sat() == COINS_SAT);
        }
        row.link(&row.alice, &row.ldk);
        row.link(&row.bob, &row.ldk);
        row.bob.connect(&row.carol);
        for _ in 0..wide {
            row.open(&row.alice, row.ldk.id(), CAPACITY_SAT, true);
            let (id, at) = (row.bob.id(), row.bob.address());
            row.ldk.call(&format!("open {id} {at} {CAPACITY_SAT} {PUSHED_MSAT} public"));
            row.funded();
        }
        row.open(&row.bob, row.carol.id(), WIDE_SAT, row.dave.is_none());
        if let Some(dave) = &row.dave {
            row.link(&row.bob, dave);
            row.open(&row.bob, dave.id(), CAPACITY_SAT, false);
        }
        row.mine(CONFIRMATIONS);
        if let Some(dave) = &row.dave {
            row.ready(&row.bob, dave.id());
        }
        row.wait_map(2 * wide + usize::from(row.dave.is_none()));
        row
    }

    fn open(&self, from: &Node, to: &str, sat: u64, public: bool) {
        let params = json!({ "id": to, "amount": sat, "push_msat": PUSHED_MSAT, "announce": public });
        from.call("fundchannel", params);
        self.funded();
    }

    fn funded(&self) {
        wait_until("a funding transaction", || !self.chain.mempool().is_empty());
        self.mine(1);
    }

    /// Links one of ours with an LDK, unless they are.
    ///
    /// # Panics
    /// When LDK cannot be reached.
    pub fn link(&self, node: &Node, ldk: &Ldk) {
        let params = json!({ "id": ldk.id(), "host": "127.0.0.1", "port": ldk.port() });
        wait_for("a link to LDK", || node.try_call("connect", params.clone()).map_err(|e| e.to_string()));
        wait_for("LDK to have our init", || {
            let peers = ldk.call("peers");
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
        self.ldks().for_each(|ldk| ldk.wait_height(height));
    }

    /// The nodes under test.
    pub fn ours(&self) -> [&Node; 3] {
        [&self.alice, &self.bob, &self.carol]
    }

    fn ldks(&self) -> impl Iterator<Item = &Ldk> {
        [&self.ldk].into_iter().chain(&self.dave)
    }

    /// Waits until every node has both directions of so many public channels: its own, and those it only heard of.
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
        for ldk in self.ldks() {
            wait_for("LDK's map", || {
                let graph = ldk.call("graph");
                let all = graph["channels"].as_array().expect("channels");
                match all.len() == channels && all.iter().all(|c| c["directions"] == 2) {
                    true => Ok(()),
                    false => Err(graph.to_string()),
                }
            });
        }
    }

    /// Waits until everybody knows by name who has a public channel: ours learned what LDK says of itself, and LDK what ours say.
    ///
    /// # Panics
    /// When one does not.
    pub fn wait_names(&self) {
        let mut all: Vec<(&str, &str)> = vec![(self.ldk.id(), "LDK")];
        all.extend([&self.alice, &self.bob].map(|node| (node.id(), node.name())));
        if self.dave.is_none() {
            all.push((self.carol.id(), self.carol.name()));
        }
        let missing = |known: &Value| {
            let known = known.as_array().expect("nodes");
            let named = |id: &str, name: &str| known.iter().any(|n| n["nodeid"] == id && n["alias"] == name);
            let lost: Vec<_> = all.iter().filter(|(id, name)| !named(id, name)).collect();
            if lost.is_empty() {
                Ok(())
            } else {
                Err(format!("{lost:?} are missing"))
            }
        };
        for node in self.ours() {
            wait_for(&format!("{} to know all names", node.name()), || {
                missing(&node.call("listnodes", json!({}))["nodes"])
            });
        }
        for ldk in self.ldks() {
            wait_for("LDK to know all names", || missing(&ldk.call("graph")["nodes"]));
        }
    }

    /// Starts LDK after it was killed; its neighbours' channels with it are in use afterwards.
    ///
    /// # Panics
    /// When they do not come back.
    pub fn ldk_again(&mut self) {
        self.ldk.launch();
        self.linked_again();
    }

    /// Waits until LDK's neighbours can use their channels with it, linking them again when they are not linked.
    ///
    /// # Panics
    /// When they do not come back.
    pub fn linked_again(&self) {
        for node in [&self.alice, &self.bob] {
            self.link(node, &self.ldk);
            self.ready(node, self.ldk.id());
        }
    }

    /// Bob asks for other fees on his way to LDK, and waits until all have heard of it.
    ///
    /// # Panics
    /// When one does not.
    pub fn bob_asks(&self, base_msat: u64, millionths: u64) {
        let params = json!({ "id": self.ldk.id(), "feebase": base_msat, "feeppm": millionths });
        self.bob.call("setchannel", params);
        let asked =
            |c: &Value| c["base_fee_millisatoshi"] == base_msat && c["fee_per_millionth"] == millionths;
        for node in self.ours() {
            wait_for(&format!("{} to know Bob's terms", node.name()), || {
                let list = node.call("listchannels", json!({ "source": self.bob.id() }));
                match list["channels"].as_array().expect("channels").iter().any(asked) {
                    true => Ok(()),
                    false => Err(list.to_string()),
                }
            });
        }
        for ldk in self.ldks() {
            wait_for("LDK to know Bob's terms", || {
                let graph = ldk.call("graph");
                let told = |c: &Value| {
                    c["fees"].as_array().expect("fees").iter().any(|f| *f == json!([base_msat, millionths]))
                };
                match graph["channels"].as_array().expect("channels").iter().any(told) {
                    true => Ok(()),
                    false => Err(graph.to_string()),
                }
            });
        }
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
            self.no_htlc_at(node);
            balance_adds_up(node);
        }
    }

    /// Waits until a node of ours has no HTLC.
    ///
    /// # Panics
    /// When one stays.
    pub fn no_htlc_at(&self, node: &Node) {
        wait_for(&format!("no HTLC left at {}", node.name()), || {
            let htlcs = node.call("listhtlcs", json!({}));
            match htlcs["htlcs"].as_array().map(Vec::len) {
                Some(0) => Ok(()),
                _ => Err(htlcs.to_string()),
            }
        });
    }
}
