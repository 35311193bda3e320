//! From every state of the walk, either side publishes any commitment it ever had; who ends with what?
//!
//! In: the states that were met. Out: that every judge was content with every play, or the one that was not.
//! A commitment is captured where it was its owner's newest, with its signatures, HTLC transactions included. Each pair of
//! a node's state and a commitment is played once, at first sight:
//! * a revoked one of the peer's: alone, and with the cheat's HTLC transactions getting in first;
//! * a valid one of the peer's, or the node's own: the other side silent, held payments settled late or not;
//! * a valid one with both nodes at work: each pair of what decides their HTLCs once.
//!
//! Some plays have a restart, or a reorganisation, in the middle.
//! Read next: `verdicts` (what must come out), `shore` (how it is played).

use super::facts::{signed_commitment, Closing, Facts, Stand};
use super::graph::{Graph, StateId};
use super::shore::{Foreign, Shore};
use super::start::Start;
use super::world::{Stage, World};
use super::Verdict;
use crate::duet::play::preimage;
use crate::duet::{other, ALICE, BOB};
use bitcoin::{Transaction, Txid, Wtxid};
use chand_protocol::node::command::{ChannelRef, Command};
use chand_protocol::sign::Crypto;
use chand_protocol::tx::commitment::OutputKind;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks in which a cheat is alone on the chain, its own commitment's included.
const START_BLOCKS: usize = 3;

/// What was played.
#[derive(Clone, Debug, Default)]
pub struct Plays {
    /// Commitments that some side had as its newest.
    pub commitments: usize,
    /// Pairs that were met.
    pub met: usize,
    /// Revoked ones, the cheat silent afterwards.
    pub crimes: usize,
    /// Revoked ones, second-level transactions of the cheat first.
    pub races: usize,
    /// Valid ones, one side silent.
    pub alone: usize,
    /// Valid ones, both at work.
    pub both: usize,
    /// With a restart in the middle.
    pub restarts: usize,
    /// With a reorganisation.
    pub reorgs: usize,
    /// Different transactions that passed the interpreter.
    pub transactions: usize,
    /// How long it took.
    pub took: Duration,
}

/// One output of a captured commitment.
#[derive(Clone, Debug)]
pub struct Held {
    /// What it is.
    pub kind: OutputKind,
    /// How much.
    pub sat: u64,
    /// Of an HTLC: the payment's place in the walk's list.
    pub payment: Option<usize>,
}

/// A captured commitment.
#[derive(Debug)]
pub struct Story {
    /// Whose.
    pub publisher: usize,
    /// With both signatures.
    pub tx: Transaction,
    /// In order.
    pub outputs: Vec<Held>,
    /// What its owner did with it, alone on the chain, block by block: the commitment and its HTLC transactions.
    pub crime: Vec<Foreign>,
}

/// One play.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Play {
    /// The peer of `seat` publishes what it revoked.
    Crime {
        /// The victim.
        seat: usize,
        /// Its state.
        state: StateId,
        /// The commitment.
        tx: Txid,
        /// The cheat's second-level transactions get in first.
        race: bool,
    },
    /// The peer of `seat` publishes a valid commitment and falls silent.
    Theirs {
        /// Who is left.
        seat: usize,
        /// Its state.
        state: StateId,
        /// The commitment.
        tx: Txid,
        /// Held payments are settled once it is mined.
        late: bool,
    },
    /// `seat` publishes its own newest, and its peer is silent.
    Own {
        /// Who.
        seat: usize,
        /// Its state.
        state: StateId,
    },
    /// `seat` publishes its own newest, and both are at work.
    Both {
        /// Who publishes.
        seat: usize,
        /// Both states.
        states: [StateId; 2],
    },
}

/// What happens in the middle of a play.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twist {
    /// Nothing.
    Plain,
    /// The judged node dies and comes back.
    Restart,
    /// Blocks leave the chain and others come.
    Reorg,
}

/// Plays and their judges.
pub struct Court {
    /// Counted.
    pub plays: Plays,
    start: Rc<Start>,
    crypto: Arc<dyn Crypto>,
    stories: HashMap<Txid, Story>,
    proven: HashSet<Wtxid>,
    seen: [HashSet<StateId>; 2],
    pairs: HashSet<(usize, Txid, u64, u64)>,
    /// In which state of the world each was met first.
    list: Vec<(u32, Play)>,
}

impl std::fmt::Debug for Court {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Court({} commitments, {} plays)", self.stories.len(), self.list.len())
    }
}

impl Court {
    /// Captures every commitment that either side ever had as its newest.
    ///
    /// # Errors
    /// `chain`, when one of them, or what its owner did after, breaks a rule of the network.
    pub fn new(stage: &Stage) -> Result<Court, Verdict> {
        let graph = &stage.graphs[ALICE];
        let mut court = Court {
            plays: Plays::default(),
            start: graph.start().clone(),
            crypto: graph.crypto().clone(),
            stories: HashMap::new(),
            proven: HashSet::new(),
            seen: [HashSet::new(), HashSet::new()],
            pairs: HashSet::new(),
            list: Vec::new(),
        };
        for seat in [ALICE, BOB] {
            let graph = &stage.graphs[seat];
            // Of the states that have it as newest, the one that knows most secrets is the worst to meet again.
            let mut best: HashMap<Txid, (usize, StateId)> = HashMap::new();
            for state in 0..graph.size().0 as StateId {
                let facts = graph.facts(state);
                let known = facts.stands.iter().filter(|s| matches!(s, Stand::Done | Stand::Held)).count();
                let worth = if is_agreed(facts) { 0 } else { known + 1 };
                let slot = best.entry(facts.own_tx).or_insert((worth, state));
                if worth > slot.0 {
                    *slot = (worth, state);
                }
            }
            for (txid, (_, state)) in best {
                let story = court.capture(graph, seat, state)?;
                court.stories.insert(txid, story);
            }
        }
        court.plays.commitments = court.stories.len();
        Ok(court)
    }

    fn capture(&mut self, graph: &Graph, seat: usize, state: StateId) -> Result<Story, Verdict> {
        let node = graph.node(state);
        let channel = node.channel(&self.start.channel);
        let channel = channel.ok_or_else(|| Verdict::new("restart", "the channel is gone"))?;
        let (commitment, tx) = signed_commitment(channel, self.crypto.as_ref())?;
        let payments = graph.payments();
        let held = |(kind, out): (&OutputKind, &bitcoin::TxOut)| {
            let payment = match kind {
                OutputKind::Htlc(id) => commitment.htlcs.iter().find(|h| h.id == *id).and_then(|htlc| {
                    let payer = if htlc.offered { seat } else { other(seat) };
                    payments.iter().position(|p| p.hash == htlc.payment_hash && p.payer == payer)
                }),
                _ => None,
            };
            Held { kind: *kind, sat: out.value.to_sat(), payment }
        };
        let outputs = commitment.outputs.iter().zip(&tx.output).map(held).collect();
        let mut shore = Shore::new(&self.start, &self.crypto, &mut self.proven);
        shore.enter(&self.start, seat, node);
        for payment in payments.iter().filter(|p| p.payer != seat) {
            shore.order(seat, Command::SettleInvoice { preimage: preimage(payment.number) })?;
        }
        shore.order(seat, Command::DevFail { channel: ChannelRef::Id(self.start.channel) })?;
        if !shore.chain.mempool.iter().any(|t| t.compute_txid() == tx.compute_txid()) {
            // A close was agreed on: the node itself would not.
            return Ok(Story { publisher: seat, outputs, crime: vec![vec![tx.clone()]], tx });
        }
        for _ in 0..START_BLOCKS {
            shore.block(None)?;
        }
        let mut crime = shore.blocks();
        while crime.last().is_some_and(Vec::is_empty) {
            crime.pop();
        }
        Ok(Story { publisher: seat, tx, outputs, crime })
    }

    /// Lists what is to be played from a state of the world.
    pub fn meet(&mut self, stage: &Stage, at: u32, world: &World) {
        for seat in [ALICE, BOB] {
            let (graph, state) = (&stage.graphs[seat], world.nodes[seat]);
            let facts = graph.facts(state);
            if self.seen[seat].insert(state) {
                for (number, tx) in graph.signed(state) {
                    self.meet_theirs(at, seat, state, facts, (*number, *tx));
                }
                if !is_agreed(facts) {
                    self.list.push((at, Play::Own { seat, state }));
                }
            }
            let theirs = stage.graphs[other(seat)].facts(world.nodes[other(seat)]);
            let pair = (seat, facts.own_tx, facts.pending, theirs.pending);
            if !is_agreed(facts) && self.pairs.insert(pair) {
                self.list.push((at, Play::Both { seat, states: world.nodes }));
            }
        }
    }

    fn meet_theirs(&mut self, at: u32, seat: usize, state: StateId, facts: &Facts, signed: (u64, Txid)) {
        let (number, tx) = signed;
        // One that never reached the peer can never be published.
        let Some(story) = self.stories.get(&tx) else { return };
        let list = &mut self.list;
        if number < facts.remote {
            list.push((at, Play::Crime { seat, state, tx, race: false }));
            if story.crime.len() > 1 {
                list.push((at, Play::Crime { seat, state, tx, race: true }));
            }
            return;
        }
        list.push((at, Play::Theirs { seat, state, tx, late: false }));
        if facts.stands.contains(&Stand::Held) {
            list.push((at, Play::Theirs { seat, state, tx, late: true }));
        }
    }

    /// Plays what was listed, at most `most` of it.
    ///
    /// # Errors
    /// In which state of the world, and what.
    pub fn judge(&mut self, stage: &Stage, most: usize) -> Result<(), (u32, Verdict)> {
        let since = Instant::now();
        let list = std::mem::take(&mut self.list);
        self.plays.met = list.len();
        let stride = list.len().div_ceil(most.max(1)).max(1);
        for (number, (at, play)) in list.iter().step_by(stride).enumerate() {
            let twist = match number % 5 {
                1 => Twist::Restart,
                3 => Twist::Reorg,
                _ => Twist::Plain,
            };
            self.play(stage, *play, twist).map_err(|v| {
                let words = format!("{}: {}", words(stage, *play, twist), v.words);
                (*at, Verdict::new(v.judge, words))
            })?;
        }
        self.plays.transactions = self.proven.len();
        self.plays.took = since.elapsed();
        Ok(())
    }

    fn play(&mut self, stage: &Stage, play: Play, twist: Twist) -> Result<(), Verdict> {
        let Court { start, crypto, stories, proven, plays, .. } = self;
        let mut shore = Shore::new(start, crypto, proven);
        let enter = |shore: &mut Shore<'_>, seat: usize, state: StateId| {
            shore.enter(start, seat, stage.graphs[seat].node(state));
        };
        match twist {
            Twist::Plain => {}
            Twist::Restart => plays.restarts += 1,
            Twist::Reorg => plays.reorgs += 1,
        }
        match play {
            Play::Crime { seat, state, tx, race } => {
                enter(&mut shore, seat, state);
                *(if race { &mut plays.races } else { &mut plays.crimes }) += 1;
                shore.crime(start, seat, &stories[&tx], race, twist)
            }
            Play::Theirs { seat, state, tx, late } => {
                enter(&mut shore, seat, state);
                plays.alone += 1;
                shore.theirs(stage, seat, state, &stories[&tx], late, twist)
            }
            Play::Own { seat, state } => {
                enter(&mut shore, seat, state);
                plays.alone += 1;
                let story = &stories[&stage.graphs[seat].facts(state).own_tx];
                shore.own(stage, seat, state, story, twist)
            }
            Play::Both { seat, states } => {
                for seat in [ALICE, BOB] {
                    enter(&mut shore, seat, states[seat]);
                }
                plays.both += 1;
                let story = &stories[&stage.graphs[seat].facts(states[seat]).own_tx];
                shore.both(stage, states, story, twist)
            }
        }
    }
}

/// Whether nothing but the agreed transaction is left to publish.
fn is_agreed(facts: &Facts) -> bool {
    matches!(facts.closing, Closing::Agreed(_))
}

fn words(stage: &Stage, play: Play, twist: Twist) -> String {
    let name = |seat: usize| stage.graphs[seat].name;
    let what = match play {
        Play::Crime { seat, race, tx, .. } => {
            let race = if race { " and its HTLC transactions get in first" } else { "" };
            format!("{} publishes its revoked {tx}{race}", name(other(seat)))
        }
        Play::Theirs { seat, late, tx, .. } => {
            let late = if late { ", and held payments are settled then" } else { "" };
            format!("{} publishes {tx} and falls silent{late}", name(other(seat)))
        }
        Play::Own { seat, .. } => format!("{} publishes its newest, the peer is silent", name(seat)),
        Play::Both { seat, .. } => format!("{} publishes its newest, both at work", name(seat)),
    };
    match twist {
        Twist::Plain => what,
        other => format!("{what} ({other:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::walk::met;
    use crate::explore::Bounds;
    use chand_protocol::node::Node;
    use chand_protocol::record::Kind;

    /// The judges see: a node that forgot the past, or that nobody hears, loses what a cheat took.
    #[test]
    fn a_victim_that_forgot_the_past_loses() {
        let start = Start::new("A+Ax").expect("a start");
        let bounds = Bounds { cuts: 0, crashes: 0, max_plays: 1, ..Bounds::default() };
        let mut found = 0;
        let (mut court, stage) = met(start, bounds).unwrap_or_else(|failure| panic!("{failure:?}"));
        for (_, play) in court.list.clone() {
            let Play::Crime { seat, state, tx, race } = play else { continue };
            let node = stage.graphs[seat].node(state);
            let held = court.stories[&tx].outputs.iter().any(|o| matches!(o.kind, OutputKind::Htlc(_)));
            let past = node.channel(&court.start.channel).is_some_and(|c| c.past().len() == 2);
            if !held || !past {
                continue;
            }
            for (forgets, deaf) in [(false, false), (true, false), (false, true)] {
                let mut victim = stage.graphs[seat].node(state);
                if forgets {
                    victim = without_past(&court, seat, &node);
                }
                let Court { start, crypto, stories, proven, .. } = &mut court;
                let mut shore = Shore::new(start, crypto, proven);
                shore.enter(start, seat, victim);
                shore.deaf = deaf;
                let judged = shore.crime(start, seat, &stories[&tx], race, Twist::Plain);
                let wanted = if forgets || deaf { Err("crime") } else { Ok(()) };
                assert_eq!(judged.map_err(|v| v.judge), wanted, "{play:?} {forgets} {deaf}");
                found += 1;
            }
        }
        assert!(found > 10, "only {found} such plays");
    }

    fn without_past(court: &Court, seat: usize, node: &Node) -> Node {
        let mut records = node.records();
        records.retain(|(key, _)| Kind::of(key) != Some(Kind::Past));
        court.start.duet.seats[seat].reborn_with(records, court.crypto.clone())
    }
}
