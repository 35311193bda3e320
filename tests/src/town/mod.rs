//! Up to ten whole nodes in one process, on `node::step` and the memory engine, with links where the test wants them.
//!
//! In: commands, blocks, cuts, crashes. Out: replies and balances; after **every** step the store holds exactly what the
//! node would need to come back. Messages travel as bytes, those of one link in order, whose turn it is by the seed.
//! What two nodes say to each other is `duet`'s matter; this is for what goes through one to the next.
//! * `orders` – commands and what they need; `links` – what leaves a node and where it goes; `disk` – what is kept of a step
//!
//! Read next: `duet::seat` (one node and its disk), `tests/scenario/forward.rs`; `region` plays seeds with it.

mod disk;
pub mod gossip;
mod links;
mod orders;

use crate::counterfeit::Counterfeit;
use crate::duet::chain::TinyChain;
use crate::duet::play::Open;
use crate::duet::seat::Seat;
use crate::duet::{crypto, Answer, When};
use crate::sim::trace::Trace;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::gossip::graph::{Direction, Graph, Policy};
use chand_protocol::id::{ChannelId, CommandId, LinkId, NodeId, ShortChannelId};
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::effect::Input;
use chand_protocol::node::{step, NodeConfig};
use chand_protocol::route::Router;
use chand_protocol::sign::Crypto;
use chand_protocol::store::Batch;
use chand_protocol::units::{Feerate, Msat, Sat, Timestamp};
use gossip::Machines;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The seed's four.
pub const ALICE: usize = 0;
/// The first on the way.
pub const BOB: usize = 1;
/// The second on the way.
pub const CAROL: usize = 2;
/// The payee.
pub const DAVE: usize = 3;
/// More steps than any scenario needs without pause.
const RUNAWAY: usize = 400_000;

/// A direction of a link.
type Way = (usize, usize);

/// The nodes, what is between them, one chain.
#[derive(Debug)]
pub struct Town {
    /// The time.
    pub now: Timestamp,
    /// The nodes.
    pub seats: Vec<Seat>,
    /// The chain.
    pub chain: TinyChain,
    /// Nobody reaches these, and they reach nobody; the chain they see.
    pub silent: BTreeSet<usize>,
    /// What leaves them for the chain reaches nobody.
    pub mute: BTreeSet<usize>,
    /// A crash of this seat at its step of this number, there.
    pub crashes: Vec<(usize, u64, When)>,
    /// What each node learned of the network.
    pub routers: Vec<Router>,
    /// How often one learned something.
    pub lessons: usize,
    /// How often one asked for a way.
    pub questions: usize,
    /// Channels that are on nobody's map.
    pub private: BTreeSet<ShortChannelId>,
    /// What everybody sees of the network, when that is not what it is now.
    pub frozen: Option<Graph>,
    /// Texts of errors that the test expects in the logs.
    pub expected_errors: Vec<&'static str>,
    /// The records are compared with the node after every so many steps of it.
    pub check_every: u64,
    /// All that left a node, as one number and, when wanted, in words.
    pub trace: Trace,
    /// How often each node died.
    pub deaths: Vec<u64>,
    /// What disks refused so far, oldest first.
    unwritten: Vec<Vec<Batch>>,
    /// Signatures are real, and scripts are run.
    signed: bool,
    wires: BTreeMap<Way, VecDeque<Vec<u8>>>,
    links: BTreeMap<Way, LinkId>,
    dials: VecDeque<(usize, NodeId)>,
    next_link: u64,
    next_command: u64,
    answers: BTreeMap<CommandId, Answer>,
    rng: u64,
    machines: Machines,
}

impl Town {
    /// `count` new nodes that know the chain and not yet each other.
    pub fn new(count: usize, seed: u64, change: impl Fn(usize, &mut NodeConfig)) -> Town {
        Town::made(count, seed, crypto(), change)
    }

    /// The same with signatures that cost nothing and that the chain does not check. The nodes have the same keys in every
    /// such town, so that curve arithmetic is done once for all of them.
    pub fn counterfeit(count: usize, seed: u64, change: impl Fn(usize, &mut NodeConfig)) -> Town {
        let mut town = Town::made(count, 0, Arc::new(Counterfeit), change);
        town.rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        town.signed = false;
        town
    }

    fn made(
        count: usize,
        seed: u64,
        crypto: Arc<dyn Crypto>,
        change: impl Fn(usize, &mut NodeConfig),
    ) -> Town {
        let mut chain = TinyChain::new();
        let seats: Vec<Seat> =
            (0..count).map(|p| Seat::new(p, seed, &mut chain, crypto.clone(), &change)).collect();
        let now = Timestamp(1_700_000_000_000);
        let takes_part = |s: &Seat| s.gossips().then_some(s.id);
        let machines = Machines::new(seats.iter().map(takes_part), now);
        let mut town = Town {
            now,
            seats,
            chain,
            silent: BTreeSet::new(),
            mute: BTreeSet::new(),
            crashes: Vec::new(),
            routers: (0..count).map(|_| Router::default()).collect(),
            lessons: 0,
            questions: 0,
            private: BTreeSet::new(),
            frozen: None,
            expected_errors: Vec::new(),
            check_every: 1,
            trace: Trace::default(),
            deaths: vec![0; count],
            unwritten: (0..count).map(|_| Vec::new()).collect(),
            signed: true,
            wires: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: VecDeque::new(),
            next_link: 0,
            next_command: 0,
            answers: BTreeMap::new(),
            rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            machines,
        };
        (0..count).for_each(|seat| town.follow(seat));
        town
    }

    /// Nodes in a line, each with a channel to the next that holds money on both sides.
    pub fn line(count: usize, seed: u64, change: impl Fn(usize, &mut NodeConfig)) -> Town {
        let mut town = Town::new(count, seed, change);
        for left in 0..count - 1 {
            town.open(left, left + 1, Open { sat: 10_000_000, push_msat: 4_000_000_000, ..Open::default() });
        }
        town
    }

    /// The next number of this seed's stream.
    pub fn random(&mut self) -> u64 {
        // xorshift64*
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        self.rng.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// `from` connects to `to`.
    pub fn connect(&mut self, from: usize, to: usize) {
        let address = Some(format!("127.0.0.1:{}", 9735 + to));
        self.must(from, Command::Connect { peer: self.seats[to].id, address });
    }

    /// `from` opens a channel to `to` and both see it confirm.
    pub fn open(&mut self, from: usize, to: usize, open: Open) -> ChannelId {
        self.connect(from, to);
        let order = Command::FundChannel {
            peer: self.seats[to].id,
            amount: Some(Sat(open.sat)),
            feerate: Some(Feerate(open.feerate)),
            announce: open.announce,
            push_msat: Msat(open.push_msat),
            close_to: None,
            mindepth: None,
            reserve: open.reserve.map(Sat),
            anchors: Some(open.anchors),
        };
        let reply = self.must(from, order);
        let Reply::Funded { channel_id, .. } = reply else { panic!("{reply:?}") };
        self.mine(1);
        for seat in [from, to] {
            assert!(self.channel_of(seat, channel_id).is_usable(), "{} cannot use it", self.seats[seat].name);
        }
        channel_id
    }

    /// A node's view of a channel.
    pub fn channel_of(&self, seat: usize, id: ChannelId) -> &Channel {
        let place = &self.seats[seat];
        place.node.channel(&id).unwrap_or_else(|| panic!("{} lacks {id}", place.name))
    }

    /// The first channel between two.
    pub fn between(&self, seat: usize, other: usize) -> &Channel {
        let peer = self.seats[other].id;
        let found = self.seats[seat].node.channels().find(|c| c.terms.peer == peer);
        found.unwrap_or_else(|| panic!("{} has no channel with {}", self.seats[seat].name, other))
    }

    /// The network as everybody sees it: all open channels with both policies.
    pub fn map(&self) -> Graph {
        if let Some(frozen) = &self.frozen {
            return frozen.clone();
        }
        let mut map = Graph::new();
        for seat in &self.seats {
            for channel in seat.node.channels().filter(|c| c.phase == Phase::Open) {
                let Some(scid) = channel.short_channel_id().filter(|scid| !self.private.contains(scid))
                else {
                    continue;
                };
                let mut ends = [seat.id, channel.terms.peer];
                ends.sort_by_key(|id| id.0.serialize());
                map.add_channel(scid, ends, Some(channel.terms.capacity));
                let asked = channel.policy;
                let policy = Policy {
                    disabled: false,
                    cltv_expiry_delta: asked.delta_blocks,
                    htlc_minimum: asked.min.max(Msat(1)),
                    htlc_maximum: asked.largest().min(channel.terms.capacity.to_msat()),
                    fee_base_msat: asked.base_msat,
                    fee_proportional_millionths: asked.ppm,
                    timestamp: 1,
                };
                map.set_policy(scid, Direction::between(&seat.id, &channel.terms.peer), policy);
            }
        }
        map
    }

    /// Its name on chain.
    pub fn scid(&self, seat: usize, other: usize) -> ShortChannelId {
        self.between(seat, other).short_channel_id().unwrap_or_else(|| panic!("not confirmed"))
    }

    /// What a node has in all its channels.
    pub fn balance_msat(&self, seat: usize) -> u64 {
        self.seats[seat].node.channels().map(|c| c.to_us().0).sum()
    }

    /// Mines `count` blocks one by one, running until quiet after each.
    pub fn mine(&mut self, count: u32) {
        for _ in 0..count {
            self.chain.mine();
            self.run();
        }
    }

    /// Lets time pass: everything that falls due happens in its turn.
    pub fn wait_ms(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        self.run();
        while let Some(due) = self.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.run();
        }
        self.now = self.now.max(until);
        self.run();
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let awake = self.seats.iter().enumerate().filter(|(seat, _)| !self.is_stuck(*seat));
        let nodes = awake.filter_map(|(_, s)| s.node.next_deadline());
        nodes.chain(self.machines.next_deadline()).min()
    }

    /// Takes what waits until nothing does. Time moves by a millisecond a step.
    ///
    /// # Panics
    /// When there is no end to it.
    pub fn run(&mut self) {
        for _ in 0..RUNAWAY {
            if !self.turn() {
                return;
            }
        }
        panic!("no end: {:?}", self.seats.iter().map(|s| s.log.last()).collect::<Vec<_>>());
    }

    /// One thing that is to be done now; `false` when there is none.
    pub fn turn(&mut self) -> bool {
        for seat in (0..self.seats.len()).filter(|seat| !self.is_stuck(*seat)).collect::<Vec<_>>() {
            if let Some(input) = self.seats[seat].inbox.pop_front() {
                self.step(seat, vec![input]);
                return true;
            }
        }
        if (0..self.seats.len()).any(|seat| self.catch_up(seat))
            || self.carry()
            || self.call()
            || self.whisper()
        {
            return true;
        }
        let due = |seat: &usize| self.seats[*seat].node.next_deadline().is_some_and(|due| due <= self.now);
        match (0..self.seats.len()).filter(|seat| !self.is_stuck(*seat)).find(due) {
            Some(seat) => {
                self.step(seat, Vec::new());
                true
            }
            None => false,
        }
    }

    /// One step of one node: computed, kept, checked, released.
    pub fn step(&mut self, seat: usize, inputs: Vec<Input>) {
        self.now = self.now.plus_ms(1);
        let now = self.now;
        self.chain.clock_s = now.seconds() as u32;
        let place = &mut self.seats[seat];
        let batch = step(&mut place.node, now, inputs);
        place.steps += 1;
        let number = place.steps;
        let planned = |c: &(usize, u64, When)| c.0 == seat && c.1 == number;
        let crash = self.crashes.iter().position(planned).map(|i| self.crashes.remove(i).2);
        if crash == Some(When::BeforeCommit) {
            return self.restart(seat);
        }
        self.commit(seat, batch, crash);
    }

    /// Waits until every node is linked again with those it has channels with.
    ///
    /// # Panics
    /// When that does not happen in two minutes of their time.
    pub fn settle(&mut self) {
        for _ in 0..120 {
            self.run();
            let whole = self
                .seats
                .iter()
                .all(|s| s.node.channels().all(|c| !c.wants_link() || s.node.is_settled_with(&c.terms.peer)));
            if whole {
                return;
            }
            self.wait_ms(1_000);
        }
        panic!("no links after two minutes");
    }

    /// In peace: nobody has more or less than all began with, and nothing is under way.
    pub fn judge_quiet(&self) {
        let mut sum = 0;
        let mut capacity = 0;
        for seat in &self.seats {
            for channel in seat.node.channels() {
                assert!(channel.ledger.htlcs.is_empty(), "{} has HTLCs left", seat.name);
                sum += channel.to_us().0;
                capacity += channel.terms.capacity.to_msat().0;
            }
        }
        assert_eq!(sum * 2, capacity, "money made or lost");
    }
}
