//! Two chands with one channel, as a benchmark sees them.
//!
//! In: a chain and a folder on the disk that is to be measured. Out: a [`Pair`]. All options are chand's defaults:
//! writes are durable, one process a node, driven through the control socket as a user would.
//! Read next: `drive` (how it pays), `pair`, `line` (four of them).

use super::pair::{Paid, Pair, AMOUNT_MSAT, CAPACITY_SAT};
use super::{drive, syncs};
use crate::tower::Tower;
use crate::world::{ChannelType, World};
use crate::{Chain, Node};
use serde_json::{json, Value};
use std::path::Path;
use std::time::Instant;

/// Invoice requests in flight while they are made.
const MAKING: usize = 40;
/// What the payer has on chain for fees beside the channel.
const SPARE_SAT: u64 = 1_000_000;

/// Alice pays, Bob is paid.
#[derive(Debug)]
pub struct Chands {
    world: World,
    /// Ends with the world, when there is one.
    _tower: Option<Tower>,
    invoices_made: u64,
}

impl Chands {
    /// Starts a chain and both nodes and opens the channel. `counted` puts them under a program that counts syncs, `watched`
    /// gives both the same watchtower.
    ///
    /// # Panics
    /// When they do not come up or the channel does not open.
    pub fn open(base: &Path, counted: bool, watched: bool) -> Chands {
        let dir = tempfile::Builder::new().prefix("chand-").tempdir_in(base).expect("a folder for the nodes");
        let chain = Chain::start(dir.path());
        let tower = watched.then(|| Tower::start(dir.path(), &chain));
        let extra = tower.iter().flat_map(|tower| ["--watchtower", tower.address()]).collect::<Vec<_>>();
        let node = |name: &'static str| {
            let mut node = Node::prepare(name, dir.path(), &chain.url(), &extra);
            if counted {
                let trace = syncs::trace_of(&node.data_dir().with_extension("syncs"));
                node.run_under(&trace);
            }
            node.launch();
            node
        };
        let (alice, bob) = (node("Alice"), node("Bob"));
        let world = World { alice, bob, chain, dir };
        world.mine(1);
        world.fund(&world.alice, CAPACITY_SAT + SPARE_SAT);
        world.alice.connect(&world.bob);
        let push_msat = CAPACITY_SAT * 1_000 / 2;
        world.open(&world.alice, &world.bob, CAPACITY_SAT, push_msat, ChannelType::Anchors);
        Chands { world, _tower: tower, invoices_made: 0 }
    }

    /// The files into which syncs are written when they are counted: payer, payee.
    pub fn sync_files(&self) -> [std::path::PathBuf; 2] {
        [&self.world.alice, &self.world.bob].map(|node| node.data_dir().with_extension("syncs"))
    }
}

impl Pair for Chands {
    fn process_ids(&mut self) -> [u32; 2] {
        [self.world.alice.process().id(), self.world.bob.process().id()]
    }

    fn invoices(&mut self, count: u64) -> Vec<String> {
        let first = self.invoices_made;
        self.invoices_made += count;
        make_invoices(&self.world.bob, first, count)
    }

    fn pay(&mut self, invoices: Vec<String>, in_flight: usize) -> Paid {
        drive::pay(&self.world.alice.socket(), invoices, in_flight)
    }

    fn rest(&mut self) {
        self.world.wait_quiet();
    }

    fn restart(&mut self) -> [f64; 2] {
        [&mut self.world.alice, &mut self.world.bob].map(start_again)
    }
}

/// Makes invoices that nobody has yet, the first with this number.
///
/// # Panics
/// When the node does not answer.
pub fn make_invoices(payee: &Node, first: u64, count: u64) -> Vec<String> {
    let mut client = payee.client();
    let mut made = Vec::new();
    let (mut asked, mut open) = (0, 0);
    while (made.len() as u64) < count {
        while asked < count && open < MAKING {
            let label = format!("bench {}", first + asked);
            let params =
                json!({ "amount_msat": AMOUNT_MSAT, "label": label, "description": "tea", "expiry": 36_000 });
            client.send("invoice", &params).expect("a request to the payee");
            asked += 1;
            open += 1;
        }
        let (_, answer) = client.receive().expect("an answer of the payee");
        let answer: Value = answer.unwrap_or_else(|e| panic!("invoice: {e}"));
        made.push(answer["bolt11"].as_str().expect("bolt11").to_string());
        open -= 1;
    }
    made
}

/// Ends a node in order and starts it again; milliseconds until it answers.
///
/// # Panics
/// When it does not come up.
pub fn start_again(node: &mut Node) -> f64 {
    node.stop();
    let start = Instant::now();
    node.spawn();
    // The socket is asked again and again, so that the answer is as old as it can be.
    while node.try_call("getinfo", json!({})).is_err() {
        assert!(node.process().ended().is_none(), "{} ended at its start", node.name());
        std::thread::yield_now();
    }
    start.elapsed().as_secs_f64() * 1_000.0
}
