//! The states of one node, and what leads from one to the next.
//!
//! In: a node's state by number, and something that happens to it ([`Act`]). Out: the number of the state after it,
//! and what left the node. `node::step` is pure, so each such step is computed once and remembered, however many
//! states of the world need it. Every step goes through a journal over a store of its own, as in the daemon.
//! Two nodes are one state when their records and [`Node::volatile`] are equal; left out are the records of the past
//! (signed snapshots; HTLCs that ended, unless the chain is played: a penalty reads them). Every link has the same number, every operation
//! the same randomness, and time stands still.
//! Read next: `facts` (what is judged of a state), `world`.

use super::facts::{self, Book, Closing, Facts};
use super::start::{Operation, Payment, Start};
use super::wire::{Queue, Wires};
use super::{guarded, table::Mix, Verdict};
use crate::duet::play::preimage;
use crate::duet::seat::Seat;
use bitcoin::Txid;
use chand_protocol::entropy::Entropy;
use chand_protocol::id::{ChannelId, CommandId, LinkId, NodeId};
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::effect::{After, Input, Level};
use chand_protocol::node::{step, Node};
use chand_protocol::record::{peer_key, put, Kind};
use chand_protocol::sign::Crypto;
use chand_protocol::store::{Change, Entry, Journal};
use chand_protocol::units::{Feerate, Timestamp};
use chand_protocol::wire::message::Init;
use chand_protocol::wire::Message;
use chand_storage::MemoryStore;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// The number of a node's state.
pub type StateId = u32;

/// The one link's number: nothing of an old link is ever delivered over a new one.
const LINK: LinkId = LinkId(1);
const ADDRESS: &str = "127.0.0.1:9735";

/// Something that happens to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// A message arrives.
    Deliver(u32),
    /// Several arrive together and are one step.
    Burst(Queue),
    /// A link comes up, and with it the peer's `init`.
    Link,
    /// The same while the node believes in the old one.
    Relink,
    /// It notices that the link is gone.
    Unlink,
    /// Its user gives the order of this place in the list.
    Do(u8),
    /// Several messages arrive, and behind them in the same step its user gives an order.
    Together(Queue, u8),
    /// Its user takes the money of this payment.
    Settle(u8),
    /// Its user gives it back.
    Cancel(u8),
}

impl Act {
    /// For the map of steps.
    fn key(self, state: StateId) -> u64 {
        let (tag, value) = match self {
            Act::Deliver(message) => (0, message),
            Act::Burst(queue) => (1, queue),
            Act::Link => (2, 0),
            Act::Relink => (3, 0),
            Act::Unlink => (4, 0),
            Act::Do(place) => (5, u32::from(place)),
            Act::Together(queue, place) => (8, queue | u32::from(place) << 26),
            Act::Settle(place) => (6, u32::from(place)),
            Act::Cancel(place) => (7, u32::from(place)),
        };
        u64::from(state) << 36 | tag << 32 | u64::from(value)
    }
}

/// Where an act leads.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The state after it.
    pub to: StateId,
    /// What left, in order.
    pub out: Queue,
}

struct State {
    node: Node,
    facts: Facts,
    /// What comes back when it dies here.
    reborn: StateId,
    /// Every commitment of the peer that was signed on the way here, oldest first.
    signed: Signed,
}

/// Commitments by number and name.
type Signed = Rc<Vec<(u64, Txid)>>;

const fn ordering(place: u8) -> CommandId {
    CommandId(place as u64)
}

const fn settling(place: u8) -> CommandId {
    CommandId(100 + place as u64)
}

const fn cancelling(place: u8) -> CommandId {
    CommandId(200 + place as u64)
}

/// Messages and transactions that left a node.
type Left = (Vec<Message>, Vec<u64>);

/// A node after a step, with its records and its name.
struct Life {
    node: Node,
    records: Vec<Entry>,
    name: u128,
}

/// One node's states.
pub struct Graph {
    /// For people.
    pub name: &'static str,
    start: Rc<Start>,
    place: usize,
    peer: NodeId,
    channel: ChannelId,
    now: Timestamp,
    init: Option<Init>,
    orders: Vec<Command>,
    payments: Vec<Payment>,
    /// It can set any feerate of these walks whenever it is linked.
    rich: bool,
    /// HTLCs that ended are part of a state's name.
    whole_past: bool,
    crypto: Arc<dyn Crypto>,
    book: Book,
    states: Vec<State>,
    ids: HashMap<u128, StateId>,
    steps: HashMap<u64, Step, Mix>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph({}, {} states)", self.name, self.states.len())
    }
}

fn must<T, E: std::fmt::Debug>(judge: &'static str, what: &str, result: Result<T, E>) -> Result<T, Verdict> {
    result.map_err(|e| Verdict::new(judge, format!("{what}: {e:?}")))
}

impl Graph {
    /// The graph of one of a start's two nodes, and its first state: just restored, not linked.
    ///
    /// # Errors
    /// What a judge says of that state.
    pub fn new(
        start: &Rc<Start>,
        place: usize,
        crypto: &Arc<dyn Crypto>,
        whole_past: bool,
    ) -> Result<(Graph, StateId), Verdict> {
        let seat = &start.duet.seats[place];
        let peer = start.duet.id(crate::duet::other(place));
        let orders = start.operations[place].iter().map(|o| start.command(o)).collect();
        let mut entries: Vec<Entry> = seat.store.durable();
        // The wallet has nothing to do here. Both know where the other is, as after calls both ways.
        let strange = |key: &[u8]| matches!(Kind::of(key), Some(Kind::Wallet | Kind::Reserved | Kind::Peer));
        entries.retain(|(key, _)| !strange(key));
        if let Change::Put { key, value } = put(peer_key(&peer), &ADDRESS) {
            entries.push((key, value));
        }
        entries.sort();
        let mut graph = Graph {
            name: seat.name,
            start: start.clone(),
            place,
            peer,
            channel: start.channel,
            now: start.duet.now,
            init: None,
            orders,
            payments: start.payments().cloned().collect(),
            rich: start.duet.balance_msat(place) > 100_000_000 && !start.closes(),
            whole_past,
            crypto: crypto.clone(),
            book: Book::new(start, place, crypto.clone()),
            states: Vec::new(),
            ids: HashMap::new(),
            steps: HashMap::default(),
        };
        let node = graph.restore(entries.clone())?;
        let life = graph.awaken(node, entries)?;
        let first = graph.intern(life, 0, &Signed::default())?;
        Ok((graph, first))
    }

    /// What the other node needs to greet this one.
    ///
    /// # Errors
    /// Judge `peace`, when the node does not greet.
    pub fn greeting(&self, state: StateId) -> Result<Init, Verdict> {
        let (_, released) = self.advance(&self.states[state as usize].node, vec![self.linked()])?;
        let found = released.into_iter().find_map(|after| match after {
            After::Send(outgoing) => match outgoing.into_parts().2 {
                Message::Init(init) => Some(init),
                _ => None,
            },
            _ => None,
        });
        found.ok_or_else(|| Verdict::new("peace", "no init"))
    }

    /// Gives the peer's `init`, which comes with every link.
    pub fn greet(&mut self, init: Init) {
        self.init = Some(init);
    }

    /// What is known of a state.
    pub fn facts(&self, state: StateId) -> &Facts {
        &self.states[state as usize].facts
    }

    /// Every commitment of the peer that was signed on the way to a state: number and name.
    pub fn signed(&self, state: StateId) -> &[(u64, Txid)] {
        &self.states[state as usize].signed
    }

    /// A node in this state.
    pub fn node(&self, state: StateId) -> Node {
        self.states[state as usize].node.fork(Entropy::new([self.place as u8 + 1; 32]))
    }

    /// Where the walk began.
    pub fn start(&self) -> &Rc<Start> {
        &self.start
    }

    /// The crypto of the walk.
    pub fn crypto(&self) -> &Arc<dyn Crypto> {
        &self.crypto
    }

    /// What comes back when the node dies in this state.
    pub fn reborn(&self, state: StateId) -> StateId {
        self.states[state as usize].reborn
    }

    /// The payments of the walk.
    pub fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// How many orders its user has.
    pub fn orders(&self) -> usize {
        self.orders.len()
    }

    /// The order at a place of its list.
    pub fn order(&self, place: u8) -> &Command {
        &self.orders[usize::from(place)]
    }

    /// The feerates that its own newest commitments had.
    pub fn feerates(&self) -> BTreeSet<Feerate> {
        self.states.iter().map(|state| state.facts.feerate).collect()
    }

    /// How many states and steps were computed.
    pub fn size(&self) -> (usize, usize) {
        (self.states.len(), self.steps.len())
    }

    /// What `act` makes of `state`.
    ///
    /// # Errors
    /// What a judge says of the step or of the state after it.
    pub fn step(&mut self, state: StateId, act: Act, wires: &mut Wires) -> Result<Step, Verdict> {
        let key = act.key(state);
        if let Some(step) = self.steps.get(&key) {
            return Ok(*step);
        }
        let inputs = self.inputs(act, wires);
        let before = &self.states[state as usize];
        let (life, released) = self.advance(&before.node, inputs)?;
        let (had, signed) = (before.facts, before.signed.clone());
        let (messages, published) = self.judge_released(act, released)?;
        let to = self.intern(life, 0, &signed)?;
        let has = self.states[to as usize].facts;
        facts::judge_step(&had, &has)?;
        facts::judge_published(&published, has.closing)?;
        let mut out = Vec::with_capacity(messages.len());
        for message in &messages {
            self.book.judge_message(message, &has)?;
            out.push(wires.message(message)?);
        }
        let step = Step { to, out: wires.queue(&out) };
        self.steps.insert(key, step);
        Ok(step)
    }

    fn seat(&self) -> &Seat {
        &self.start.duet.seats[self.place]
    }

    fn linked(&self) -> Input {
        Input::Linked { peer: self.peer, link: LINK, inbound: true, address: ADDRESS.into() }
    }

    fn inputs(&self, act: Act, wires: &Wires) -> Vec<Input> {
        let peer = self.peer;
        let arrival = |message: Message| Input::Message { peer, link: LINK, message };
        let order = |id: CommandId, command: Command| Input::Command { id, command };
        let number = |place: u8| self.payments[usize::from(place)].number;
        match act {
            Act::Deliver(message) => vec![arrival(wires.get(message).clone())],
            Act::Burst(queue) => wires.at(queue).iter().map(|m| arrival(wires.get(*m).clone())).collect(),
            Act::Link | Act::Relink => {
                let greeting = self.init.clone().map(|init| arrival(Message::Init(init)));
                std::iter::once(self.linked()).chain(greeting).collect()
            }
            Act::Unlink => vec![Input::Unlinked { peer, link: LINK, reason: "cut".into() }],
            Act::Do(place) => vec![order(ordering(place), self.order(place).clone())],
            Act::Together(queue, place) => {
                let mut all = self.inputs(Act::Burst(queue), wires);
                all.extend(self.inputs(Act::Do(place), wires));
                all
            }
            Act::Settle(place) => {
                vec![order(settling(place), Command::SettleInvoice { preimage: preimage(number(place)) })]
            }
            Act::Cancel(place) => {
                let payment_hash = preimage(number(place)).hash();
                vec![order(cancelling(place), Command::CancelInvoice { payment_hash })]
            }
        }
    }

    /// One step as the daemon makes it: computed, kept, compared with the disk, released.
    fn advance(&self, node: &Node, inputs: Vec<Input>) -> Result<(Life, Vec<After>), Verdict> {
        // The same operation draws the same numbers, whenever it happens.
        let next = node.fork(Entropy::new([self.place as u8 + 1; 32]));
        self.finish(next, node.records(), inputs)
    }

    fn finish(
        &self,
        mut node: Node,
        disk: Vec<Entry>,
        inputs: Vec<Input>,
    ) -> Result<(Life, Vec<After>), Verdict> {
        let batch = guarded("panic", || step(&mut node, self.now, inputs))?;
        let mut journal = Journal::new(MemoryStore::with_entries(disk));
        let batches = [batch];
        let proof = must("store", "the journal", journal.commit(&batches))?;
        let life = Life::new(node, self.whole_past);
        facts::judge_store(journal.store().durable(), &life.records)?;
        let mut released = Vec::new();
        for batch in batches {
            released.extend(must("store", "not released", batch.release(&proof))?);
        }
        Ok((life, released))
    }

    /// A node from its disk, before its first step.
    fn restore(&self, entries: Vec<Entry>) -> Result<Node, Verdict> {
        guarded("restart", || self.seat().reborn_with(entries, self.crypto.clone()))
    }

    /// Its first step, as its start makes it: it hears of the chain and cannot reach its peer yet.
    fn awaken(&self, mut node: Node, entries: Vec<Entry>) -> Result<Life, Verdict> {
        let _ = node.take_wallet_changes();
        let reason = "not now".into();
        let inputs =
            vec![Input::ChainSynced { tip_time_s: None }, Input::DialFailed { peer: self.peer, reason }];
        let (life, released) = self.finish(node, entries, inputs)?;
        let (said, published) = self.judge_released(Act::Unlink, released)?;
        facts::judge_published(&published, facts::closing_of(&life.node, self.channel)?)?;
        match said.is_empty() {
            true => Ok(life),
            false => Err(Verdict::new("peace", "a node spoke before there was a link")),
        }
    }

    /// The number of a state; a new one is judged, and so is who comes back from its disk.
    fn intern(&mut self, life: Life, deep: usize, signed: &Signed) -> Result<StateId, Verdict> {
        let Life { mut node, records, name } = life;
        facts::judge_snapshot(&node, self.channel)?;
        if let Some(id) = self.ids.get(&name) {
            return Ok(*id);
        }
        let id = self.states.len() as StateId;
        let restored = self.restore(records.clone())?;
        facts::judge_restored(&node, &restored, &records, self.channel)?;
        let cut = self.advance(&node, self.inputs(Act::Unlink, &Wires::default()))?.0;
        facts::judge_cut(&cut.node, &restored, self.channel)?;
        let facts = self.book.facts(&node)?;
        // Preparing may change no answer, so it is left out at times.
        if id % 2 == 1 {
            node.prepare();
        }
        self.ids.insert(name, id);
        let newest = (facts.remote + u64::from(facts.awaiting), facts.theirs_tx);
        let signed = match signed.contains(&newest) {
            true => signed.clone(),
            false => Rc::new(signed.iter().copied().chain([newest]).collect()),
        };
        self.states.push(State { node, facts, reborn: id, signed: signed.clone() });
        let back = self.awaken(restored, records)?;
        if back.name != name {
            if deep > 3 {
                return Err(Verdict::new("restart", "every restart makes another node"));
            }
            let reborn = self.intern(back, deep + 1, &signed)?;
            facts::judge_step(&facts, &self.states[reborn as usize].facts)?;
            self.states[id as usize].reborn = reborn;
        }
        Ok(id)
    }

    /// What may leave in peace; gives the messages.
    fn judge_released(&self, act: Act, released: Vec<After>) -> Result<Left, Verdict> {
        let (mut messages, mut published) = (Vec::new(), Vec::new());
        let mut hung_up = 0;
        for after in released {
            match after {
                After::Send(outgoing) => messages.push(outgoing.into_parts().2),
                After::Notice(n) if n.level >= Level::Error || n.text.contains("fault") => {
                    return Err(Verdict::new("peace", n.text));
                }
                After::HangUp { reason, .. } => {
                    hung_up += 1;
                    if act != Act::Relink || hung_up > 1 {
                        return Err(Verdict::new("peace", format!("hung up: {reason}")));
                    }
                }
                After::Publish(publish) => {
                    published.push(facts::name_of(&publish.into_parts().0));
                }
                After::Reply { id, result } => self.judge_reply(act, id, result)?,
                _ => {}
            }
        }
        let complaint = |m: &&Message| matches!(m, Message::Warning(_) | Message::Error(_));
        if let Some(message) = messages.iter().find(complaint) {
            return Err(Verdict::new("peace", format!("{message:?}")));
        }
        if matches!(act, Act::Link | Act::Relink) {
            // It has arrived already.
            messages.retain(|m| !matches!(m, Message::Init(_)));
        }
        Ok((messages, published))
    }

    fn judge_reply(
        &self,
        act: Act,
        id: CommandId,
        result: Result<Reply, chand_protocol::node::command::CommandError>,
    ) -> Result<(), Verdict> {
        match (act, result) {
            (Act::Settle(place), Err(error)) if id == settling(place) => {
                Err(Verdict::new("settle", format!("the money is there, and yet: {error}")))
            }
            (Act::Cancel(place), Err(error)) if id == cancelling(place) => {
                Err(Verdict::new("settle", format!("the money is there, and yet: {error}")))
            }
            (Act::Do(place) | Act::Together(_, place), Err(error))
                if self.rich
                    && id == ordering(place)
                    && matches!(self.order(place), Command::DevFeerate { .. }) =>
            {
                Err(Verdict::new("settle", format!("the feerate could be changed, and yet: {error}")))
            }
            _ => Ok(()),
        }
    }
}

impl Life {
    /// Its name is records and memory in 128 bits.
    fn new(node: Node, whole_past: bool) -> Life {
        let records = node.records();
        let mut hash = Sha256::new();
        for (key, value) in &records {
            let left_out = match Kind::of(key) {
                Some(Kind::Past) => !whole_past,
                kind => matches!(kind, Some(Kind::Snapshot | Kind::Block)),
            };
            if !left_out {
                hash.update((key.len() as u32).to_be_bytes());
                hash.update(key);
                hash.update((value.len() as u32).to_be_bytes());
                hash.update(value);
            }
        }
        hash.update(node.volatile());
        let digest: [u8; 32] = hash.finalize().into();
        let name = u128::from_be_bytes(digest[..16].try_into().unwrap_or_default());
        Life { node, records, name }
    }
}

/// Whether an operation may be ordered now.
pub fn is_open(operation: &Operation, facts: &Facts) -> bool {
    match operation {
        // A payment waits for its link by itself.
        Operation::Pay(_) => true,
        Operation::Close => !matches!(facts.closing, Closing::Agreed(_)),
        Operation::Fee(_) => facts.usable,
    }
}
