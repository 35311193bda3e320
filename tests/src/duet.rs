//! Two whole nodes in one process, on `node::step` and the memory engine: no socket, no clock, no thread.
//!
//! In: commands, blocks, cuts, crashes at a named step. Out: replies, balances, and a check after **every** step that
//! the store holds exactly what the node would need to come back, and that a node made of it says the same.
//! Messages travel as bytes through two queues; the links drop what a cut catches. Time is a number.
//! Everything is decided by the seed: the same seed twice is the same run, byte for byte.
//! Read next: `seat` (one node and its disk), `chain`, `wallet`, then the tests in `tests/scenario`.

pub mod chain;
pub mod hostile;
pub mod judge;
pub mod play;
mod run;
pub mod seat;
pub mod wallet;

use crate::counterfeit::Counterfeit;
use chain::TinyChain;
use chand_protocol::id::{CommandId, LinkId, NodeId};
use chand_protocol::node::command::{Command, CommandError, Reply};
use chand_protocol::node::NodeConfig;
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::units::Timestamp;
use chand_protocol::wire::Message;
use seat::Seat;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The place of the node that calls.
pub const ALICE: usize = 0;
/// The place of the node that is called.
pub const BOB: usize = 1;

/// The other of the two.
pub const fn other(seat: usize) -> usize {
    1 - seat
}

/// Where in a step a node dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// The step was computed, nothing was written: as if it had not been.
    BeforeCommit,
    /// The records are durable, nothing left.
    BeforeRelease,
    /// All effects left.
    AfterRelease,
}

/// One planned crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// Whose.
    pub seat: usize,
    /// At its step of this number.
    pub step: u64,
    /// Where in it.
    pub when: When,
}

/// One planned cut of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// After this many messages arrived, over both directions.
    pub after: u64,
    /// What is under way from this seat still arrives, unanswered.
    pub keep: Option<usize>,
}

/// Changes a message that a seat sent.
#[derive(Clone, Copy, Debug)]
pub struct Mangle {
    /// The sender.
    pub from: usize,
    /// Whether and how; `None` leaves it as it was.
    pub change: fn(Message) -> Option<Message>,
    /// How many it changes.
    pub times: u32,
}

/// What travels.
#[derive(Debug)]
enum Wire {
    Bytes(Vec<u8>),
    /// The sender hung up.
    End(String),
}

/// What an answered command said.
pub type Answer = Result<Reply, CommandError>;

/// Two nodes, the wire between them, one chain.
#[derive(Debug)]
pub struct Duet {
    /// The time.
    pub now: Timestamp,
    /// Both nodes.
    pub seats: [Seat; 2],
    /// The chain.
    pub chain: TinyChain,
    /// Calls succeed.
    pub reachable: bool,
    /// What this seat publishes reaches nobody.
    pub mute: Option<usize>,
    /// Planned crashes; each happens once.
    pub crashes: Vec<Crash>,
    /// Planned cuts; each happens once.
    pub cuts: Vec<Cut>,
    /// How many messages one step may take in at once.
    pub burst: usize,
    /// The records are compared with the node after every so many steps (0: never).
    pub check_every: u64,
    /// Every message that left: from which seat, its bytes.
    pub trace: Vec<(usize, Vec<u8>)>,
    /// Keep that trace.
    pub tracing: bool,
    /// Messages that arrived so far.
    pub delivered: u64,
    /// Texts of errors that the test expects in the logs.
    pub expected_errors: Vec<&'static str>,
    /// Changes messages on their way, as a peer that does wrong would send them.
    pub mangle: Option<Mangle>,
    /// Somebody meddles with the bytes on the wire: complaints in the logs are no failure of the test.
    pub hostile: bool,
    signed: bool,
    wires: [VecDeque<Wire>; 2],
    dials: VecDeque<usize>,
    link: Option<LinkId>,
    next_link: u64,
    next_command: u64,
    answers: BTreeMap<CommandId, Answer>,
    rng: u64,
}

/// The tables of the curve are made once for all tests of a process.
pub fn crypto() -> Arc<dyn Crypto> {
    static ONE: std::sync::OnceLock<Arc<RealCrypto>> = std::sync::OnceLock::new();
    ONE.get_or_init(|| Arc::new(RealCrypto::new())).clone()
}

impl Duet {
    /// Two new nodes that know the chain and not yet each other.
    pub fn new(seed: u64) -> Duet {
        Duet::with(seed, |_, _| {})
    }

    /// The same, with settings of one's own.
    pub fn with(seed: u64, change: impl Fn(usize, &mut NodeConfig)) -> Duet {
        Duet::made(seed, crypto(), change)
    }

    /// The same with signatures that cost nothing and that the chain does not check: for very long lives.
    pub fn counterfeit(seed: u64, change: impl Fn(usize, &mut NodeConfig)) -> Duet {
        let mut duet = Duet::made(seed, Arc::new(Counterfeit), change);
        duet.signed = false;
        duet
    }

    fn made(seed: u64, crypto: Arc<dyn Crypto>, change: impl Fn(usize, &mut NodeConfig)) -> Duet {
        let mut chain = TinyChain::new();
        let seats = [ALICE, BOB].map(|place| Seat::new(place, seed, &mut chain, crypto.clone(), &change));
        let mut duet = Duet {
            now: Timestamp(1_700_000_000_000),
            seats,
            chain,
            reachable: true,
            mute: None,
            crashes: Vec::new(),
            cuts: Vec::new(),
            burst: 1,
            check_every: 1,
            trace: Vec::new(),
            tracing: false,
            delivered: 0,
            expected_errors: Vec::new(),
            mangle: None,
            hostile: false,
            signed: true,
            wires: [VecDeque::new(), VecDeque::new()],
            dials: VecDeque::new(),
            link: None,
            next_link: 0,
            next_command: 0,
            answers: BTreeMap::new(),
            rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        duet.follow(ALICE);
        duet.follow(BOB);
        duet
    }

    /// A node's name on the network.
    pub fn id(&self, seat: usize) -> NodeId {
        self.seats[seat].id
    }

    /// Puts a message on the wire that `from` never sent.
    pub fn inject(&mut self, from: usize, message: &Message) {
        let bytes = message.encode().unwrap_or_else(|e| panic!("{} does not encode: {e}", message.name()));
        self.wires[from].push_back(Wire::Bytes(bytes));
        self.run();
    }

    /// How many links there were so far.
    pub fn links(&self) -> u64 {
        self.next_link
    }

    /// Both are linked.
    pub fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// The next number of this seed's stream.
    pub fn random(&mut self) -> u64 {
        // xorshift64*
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        self.rng.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Gives an order; the answer comes when it comes.
    pub fn tell(&mut self, seat: usize, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.seats[seat].inbox.push_back(chand_protocol::node::effect::Input::Command { id, command });
        id
    }

    /// The answer to an order, when it has come.
    pub fn answer(&mut self, id: CommandId) -> Option<Answer> {
        self.answers.remove(&id)
    }

    /// Gives an order and runs until all is quiet; `None` when no answer came.
    pub fn ask(&mut self, seat: usize, command: Command) -> Option<Answer> {
        let id = self.tell(seat, command);
        self.run();
        self.answer(id)
    }

    /// The same for an order that must succeed.
    pub fn must(&mut self, seat: usize, command: Command) -> Reply {
        let shown = format!("{command:?}");
        match self.ask(seat, command) {
            Some(Ok(reply)) => reply,
            other => panic!("{shown}: {other:?}"),
        }
    }

    /// The same for an order that must fail; gives its code and words.
    pub fn must_fail(&mut self, seat: usize, command: Command) -> CommandError {
        let shown = format!("{command:?}");
        match self.ask(seat, command) {
            Some(Err(error)) => error,
            other => panic!("{shown}: {other:?}"),
        }
    }

    /// Mines `count` blocks one by one, running until quiet after each.
    pub fn mine(&mut self, count: u32) {
        for _ in 0..count {
            self.chain.mine();
            self.run();
        }
    }

    /// Others mine `count` blocks without anything that waits here.
    pub fn mine_foreign(&mut self, count: u32) {
        for _ in 0..count {
            self.chain.mine_foreign(Vec::new());
            self.run();
        }
    }

    /// Takes the newest block away; both nodes are told.
    pub fn unmine(&mut self, forget: bool) {
        self.chain.unmine(forget);
        self.run();
    }

    /// Lets time pass: everything that falls due happens in its turn.
    pub fn wait_ms(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        self.run();
        while let Some(due) = self.next_deadline().filter(|d| *d <= until) {
            self.now = self.now.max(due);
            self.run();
        }
        self.now = self.now.max(until);
        self.run();
    }

    /// Runs until both are linked and every channel between them is reestablished.
    ///
    /// # Panics
    /// When that does not happen in a minute of their time.
    pub fn settle(&mut self) {
        for _ in 0..60 {
            self.run();
            let (alice, bob) = (self.id(ALICE), self.id(BOB));
            let node = |seat: usize| &self.seats[seat].node;
            if self.is_linked() && node(ALICE).is_settled_with(&bob) && node(BOB).is_settled_with(&alice) {
                return;
            }
            self.wait_ms(1_000);
        }
        let last = self.seats.each_ref().map(|s| s.log.iter().rev().take(6).collect::<Vec<_>>());
        panic!("no link after a minute: {last:#?}");
    }
}
