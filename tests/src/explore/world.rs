//! A state of the world and the moves out of it.
//!
//! In: a state. Out: every state that one move leads to. The moves:
//! * the next message of a wire arrives, or all that is on it arrives at once (one step, as the daemon takes it);
//! * a side orders its next operation, alone or in one step with all that arrived; a payee settles or cancels what it
//!   holds;
//! * the link breaks: one side sees it first, and what it sent may still arrive at the other, any part of it, until
//!   that side sees it too; then both link again (the second may be told of the new link before it saw the old one end);
//! * a node dies and comes back from its disk: while it rests, or with a step written of which nothing left.
//!
//! A crash before a step is written is the crash at rest before it (what had arrived is lost either way), but for an
//! order, which is lost for good; a crash after a step was released, or between two messages of it, is the crash at rest
//! after it, with the end of what was sent cut off. A node that died is back at once: its start touches nobody else.
//! Read next: `walk`.

use super::facts::{Closing, Facts, Stand};
use super::graph::{is_open, Act, Graph, StateId};
use super::memo::MemoCrypto;
use super::start::{Operation, Payee, Start};
use super::wire::{Queue, Wires, EMPTY};
use super::{Bounds, Verdict, ANY};
use crate::duet::{other, ALICE, BOB};
use chand_protocol::sign::Crypto;
use chand_protocol::units::Msat;
use std::rc::Rc;
use std::sync::Arc;

/// One fault less, where they are counted.
const fn less(budget: u8) -> u8 {
    if budget == ANY {
        ANY
    } else {
        budget - 1
    }
}

/// Both nodes, what is under way, what may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct World {
    /// The states of Alice and Bob.
    pub nodes: [StateId; 2],
    /// What each sent and the other has not got.
    pub wires: [Queue; 2],
    /// Which end of the link is up.
    pub ends: [bool; 2],
    /// How many operations each ordered.
    pub ordered: [u8; 2],
    /// Cuts that may still happen.
    pub cuts: u8,
    /// Crashes that may still happen.
    pub crashes: u8,
}

impl World {
    /// In 128 bits; `None` when a number has become too large for its place.
    pub fn pack(&self) -> Option<u128> {
        let mut packed = 0u128;
        let mut put = |value: u32, bits: u32| {
            packed = packed << bits | u128::from(value);
            value >> bits == 0
        };
        let mut fits = true;
        for number in self.nodes.into_iter().chain(self.wires) {
            fits &= put(number, 26);
        }
        for end in self.ends {
            fits &= put(u32::from(end), 1);
        }
        for count in self.ordered {
            fits &= put(u32::from(count), 4);
        }
        fits &= put(u32::from(self.cuts), 4);
        fits &= put(u32::from(self.crashes), 4);
        fits.then_some(packed)
    }

    /// What `pack` made.
    pub fn unpack(mut packed: u128) -> World {
        let mut take = |bits: u32| {
            let value = packed as u32 & ((1 << bits) - 1);
            packed >>= bits;
            value
        };
        let crashes = take(4) as u8;
        let cuts = take(4) as u8;
        let ordered = [take(4) as u8, take(4) as u8];
        let ends = [take(1) == 1, take(1) == 1];
        let wires = [take(26), take(26)];
        let nodes = [take(26), take(26)];
        let turn = |[b, a]: [u32; 2]| [a, b];
        World {
            nodes: turn(nodes),
            wires: turn(wires),
            ends: [ends[1], ends[0]],
            ordered: [ordered[1], ordered[0]],
            cuts,
            crashes,
        }
    }
}

/// One move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Something happens to one node.
    Act {
        /// Whose.
        seat: usize,
        /// What.
        act: Act,
        /// It dies with the step written and nothing sent.
        dies: bool,
    },
    /// An order is lost with its node, which dies before it is written.
    Forget {
        /// Whose.
        seat: usize,
    },
    /// A node dies at rest.
    Crash {
        /// Whose.
        seat: usize,
    },
    /// The link breaks; this side sees it first.
    Cut {
        /// Whose end.
        seat: usize,
    },
    /// The other side sees it, too.
    Notice {
        /// Whose end.
        seat: usize,
    },
    /// A new link.
    Connect,
}

/// Everything that is looked up while walking.
#[derive(Debug)]
pub struct Stage {
    /// The states of both nodes.
    pub graphs: [Graph; 2],
    /// What is under way.
    pub wires: Wires,
    operations: [Vec<Operation>; 2],
    had: [Msat; 2],
    simple_close: bool,
}

impl Stage {
    /// Both nodes restored, not linked; gives the first state of the world.
    ///
    /// # Errors
    /// What a judge says of it.
    pub fn new(start: Start, bounds: Bounds) -> Result<(Stage, World), Verdict> {
        let operations = start.operations.clone();
        let start = Rc::new(start);
        let crypto: Arc<dyn Crypto> = Arc::new(MemoCrypto::default());
        let (mut alice, a) = Graph::new(&start, ALICE, &crypto, bounds.max_plays > 0)?;
        let (mut bob, b) = Graph::new(&start, BOB, &crypto, bounds.max_plays > 0)?;
        let (from_alice, from_bob) = (alice.greeting(a)?, bob.greeting(b)?);
        alice.greet(from_bob);
        bob.greet(from_alice);
        let had = [alice.facts(a).to_us, bob.facts(b).to_us];
        let world = World {
            nodes: [a, b],
            wires: [EMPTY; 2],
            ends: [false; 2],
            ordered: [0; 2],
            cuts: bounds.cuts,
            crashes: bounds.crashes,
        };
        let simple_close = start.name.starts_with("simple/");
        Ok((Stage { graphs: [alice, bob], wires: Wires::new(), operations, had, simple_close }, world))
    }

    fn facts(&self, world: &World, seat: usize) -> &Facts {
        self.graphs[seat].facts(world.nodes[seat])
    }

    /// The move that heals: what is under way arrives, broken links are noticed and made anew. `None` when quiet.
    pub fn healing(&self, world: &World) -> Option<Move> {
        match world.ends {
            [true, true] => {
                let seat = [ALICE, BOB].into_iter().find(|seat| world.wires[other(*seat)] != EMPTY)?;
                let (message, _) = self.wires.split(world.wires[other(seat)])?;
                Some(Move::Act { seat, act: Act::Deliver(message), dies: false })
            }
            [false, false] => Some(Move::Connect),
            [up, _] => Some(Move::Notice { seat: if up { ALICE } else { BOB } }),
        }
    }

    /// Every move out of a state; the first is the one that heals, unless it is quiet.
    pub fn moves(&self, world: &World, moves: &mut Vec<Move>) {
        moves.clear();
        moves.extend(self.healing(world));
        for seat in [ALICE, BOB] {
            self.arrivals(world, seat, moves);
            self.orders(world, seat, moves);
            if world.crashes > 0 {
                moves.push(Move::Crash { seat });
            }
        }
        match world.ends {
            [true, true] if world.cuts > 0 => moves.extend([ALICE, BOB].map(|seat| Move::Cut { seat })),
            // A new link before the old one's end was noticed.
            [true, false] | [false, true] => moves.push(Move::Connect),
            _ => {}
        }
    }

    fn acts(world: &World, seat: usize, act: Act, moves: &mut Vec<Move>) {
        let plain = Move::Act { seat, act, dies: false };
        if moves.first() != Some(&plain) {
            moves.push(plain);
        }
        if world.crashes > 0 {
            moves.push(Move::Act { seat, act, dies: true });
        }
    }

    fn arrivals(&self, world: &World, seat: usize, moves: &mut Vec<Move>) {
        let queue = world.wires[other(seat)];
        if !world.ends[seat] {
            return;
        }
        if let Some((message, rest)) = self.wires.split(queue) {
            Stage::acts(world, seat, Act::Deliver(message), moves);
            if rest != EMPTY {
                Stage::acts(world, seat, Act::Burst(queue), moves);
            }
        }
    }

    fn orders(&self, world: &World, seat: usize, moves: &mut Vec<Move>) {
        let facts = self.facts(world, seat);
        let place = world.ordered[seat];
        let next = self.operations[seat].get(usize::from(place));
        if next.is_some_and(|operation| is_open(operation, facts)) {
            Stage::acts(world, seat, Act::Do(place), moves);
            let queue = world.wires[other(seat)];
            if world.ends[seat] && queue != EMPTY {
                Stage::acts(world, seat, Act::Together(queue, place), moves);
            }
            if world.crashes > 0 {
                moves.push(Move::Forget { seat });
            }
        }
        for (place, payment) in (0u8..).zip(self.graphs[seat].payments()) {
            let held = payment.payer != seat && facts.stands[usize::from(place)] == Stand::Held;
            if held && payment.payee == Payee::Holds {
                Stage::acts(world, seat, Act::Settle(place), moves);
                Stage::acts(world, seat, Act::Cancel(place), moves);
            }
        }
    }

    /// Where a move leads.
    ///
    /// # Errors
    /// What a judge says of the step, or of the state it leads to.
    pub fn make(&mut self, world: &World, step: Move) -> Result<World, Verdict> {
        let mut next = *world;
        match step {
            Move::Act { seat, act, dies } => self.act(&mut next, seat, act, dies)?,
            Move::Forget { seat } => {
                next.ordered[seat] += 1;
                self.die(&mut next, seat);
            }
            Move::Crash { seat } => self.die(&mut next, seat),
            Move::Cut { seat } => {
                next.cuts = less(next.cuts);
                self.lose_end(&mut next, seat)?;
            }
            Move::Notice { seat } => self.lose_end(&mut next, seat)?,
            Move::Connect => self.connect(&mut next)?,
        }
        self.judge_pair(&next)?;
        Ok(next)
    }

    fn act(&mut self, next: &mut World, seat: usize, act: Act, dies: bool) -> Result<(), Verdict> {
        match act {
            Act::Deliver(_) => {
                let queue = next.wires[other(seat)];
                next.wires[other(seat)] = self.wires.split(queue).map_or(EMPTY, |(_, rest)| rest);
            }
            Act::Burst(_) => next.wires[other(seat)] = EMPTY,
            Act::Together(..) => {
                next.wires[other(seat)] = EMPTY;
                next.ordered[seat] += 1;
            }
            Act::Do(_) => next.ordered[seat] += 1,
            _ => {}
        }
        let step = self.graphs[seat].step(next.nodes[seat], act, &mut self.wires)?;
        next.nodes[seat] = step.to;
        if dies {
            self.die(next, seat);
        } else {
            self.send(next, seat, step.out);
        }
        Ok(())
    }

    /// What leaves into a link whose other end is gone is lost.
    fn send(&mut self, next: &mut World, seat: usize, out: Queue) {
        if next.ends == [true, true] {
            next.wires[seat] = self.wires.join(next.wires[seat], out);
        }
    }

    fn die(&mut self, next: &mut World, seat: usize) {
        next.crashes = less(next.crashes);
        next.nodes[seat] = self.graphs[seat].reborn(next.nodes[seat]);
        next.ends[seat] = false;
        next.wires[other(seat)] = EMPTY;
        if !next.ends[other(seat)] {
            next.wires[seat] = EMPTY;
        }
    }

    fn lose_end(&mut self, next: &mut World, seat: usize) -> Result<(), Verdict> {
        let step = self.graphs[seat].step(next.nodes[seat], Act::Unlink, &mut self.wires)?;
        next.nodes[seat] = step.to;
        next.ends[seat] = false;
        next.wires[other(seat)] = EMPTY;
        if !next.ends[other(seat)] {
            next.wires[seat] = EMPTY;
        }
        Ok(())
    }

    fn connect(&mut self, next: &mut World) -> Result<(), Verdict> {
        let was = next.ends;
        next.ends = [true, true];
        next.wires = [EMPTY; 2];
        for seat in [ALICE, BOB] {
            let act = if was[seat] { Act::Relink } else { Act::Link };
            let step = self.graphs[seat].step(next.nodes[seat], act, &mut self.wires)?;
            next.nodes[seat] = step.to;
            next.wires[seat] = self.wires.join(next.wires[seat], step.out);
        }
        Ok(())
    }

    /// What must hold of both nodes together, in every state.
    fn judge_pair(&self, world: &World) -> Result<(), Verdict> {
        let facts = [ALICE, BOB].map(|seat| self.facts(world, seat));
        for seat in [ALICE, BOB] {
            let (mine, theirs) = (facts[seat], facts[other(seat)]);
            let name = self.graphs[seat].name;
            if mine.local < theirs.remote {
                let text =
                    format!("{name}'s newest commitment {} is revoked: the peer has its secret", mine.local);
                return Err(Verdict::new("safety", text));
            }
            let signed = theirs.remote + u64::from(theirs.awaiting);
            if mine.local > signed {
                let text = format!("{name} has commitment {}, the peer signed {signed} at most", mine.local);
                return Err(Verdict::new("agree", text));
            }
            if mine.local == signed && mine.own != theirs.theirs {
                let text = format!("the two build different commitments {signed} of {name}");
                return Err(Verdict::new("agree", text));
            }
        }
        for (place, payment) in self.graphs[ALICE].payments().iter().enumerate() {
            let stands = [payment.payer, other(payment.payer)].map(|seat| facts[seat].stands[place]);
            let text = match stands {
                [Stand::Done, Stand::Done] => continue,
                [Stand::Done, _] => "is complete for the payer, not paid for the payee",
                [Stand::Over | Stand::Nothing | Stand::Waiting, Stand::Done] => {
                    "is paid for the payee, failed for the payer"
                }
                _ => continue,
            };
            return Err(Verdict::new("settle", format!("payment {} {text}", payment.word)));
        }
        Ok(())
    }

    /// What must hold once nothing is under way.
    ///
    /// # Errors
    /// `live`, `settle`, `money`.
    pub fn judge_quiet(&self, world: &World) -> Result<(), Verdict> {
        let facts = [ALICE, BOB].map(|seat| self.facts(world, seat));
        for seat in [ALICE, BOB] {
            let (mine, name) = (facts[seat], self.graphs[seat].name);
            let stuck = if !mine.up && !matches!(mine.closing, Closing::Agreed(_)) {
                "waits for channel_reestablish"
            } else if mine.awaiting {
                "waits for a revocation"
            } else if mine.news {
                "has updates that nobody signs"
            } else {
                continue;
            };
            return Err(Verdict::new("live", format!("nothing is under way, and {name} {stuck}")));
        }
        let mut held = 0;
        let mut moved = [0i128; 2];
        for (place, payment) in self.graphs[ALICE].payments().iter().enumerate() {
            let payee = other(payment.payer);
            let stands = [payment.payer, payee].map(|seat| facts[seat].stands[place]);
            match stands {
                [Stand::Pending, Stand::Held] => held += 1,
                [Stand::Done, Stand::Done] => {
                    moved[payment.payer] -= i128::from(payment.msat);
                    moved[payee] += i128::from(payment.msat);
                }
                [Stand::Nothing | Stand::Over, Stand::Nothing | Stand::Over] => {}
                // For want of money or of room for it; not otherwise.
                [Stand::Waiting, Stand::Nothing | Stand::Over]
                    if facts[payment.payer].spendable.0 < payment.msat || !facts[payment.payer].usable => {}
                _ => {
                    let text = format!("all is quiet, and payment {} is {stands:?}", payment.word);
                    return Err(Verdict::new("live", text));
                }
            }
        }
        if facts.iter().any(|f| f.htlcs != held) {
            let text =
                format!("{held} HTLCs are held, the nodes have {} and {}", facts[0].htlcs, facts[1].htlcs);
            return Err(Verdict::new("live", text));
        }
        self.judge_close(facts, held)?;
        for seat in [ALICE, BOB] {
            let wanted = i128::from(self.had[seat].0) + moved[seat];
            if i128::from(facts[seat].to_us.0) != wanted {
                let name = self.graphs[seat].name;
                let text = format!("{name} has {}, and should have {wanted} msat", facts[seat].to_us);
                return Err(Verdict::new("money", text));
            }
        }
        Ok(())
    }

    /// A close that was begun is agreed on once no HTLC is left, and both have the same transaction (with
    /// option_simple_close there may be one of each).
    fn judge_close(&self, facts: [&Facts; 2], held: u8) -> Result<(), Verdict> {
        match facts.map(|f| f.closing) {
            [Closing::Not, Closing::Not] => Ok(()),
            [Closing::Begun, Closing::Begun] if held > 0 => Ok(()),
            [Closing::Agreed(one), Closing::Agreed(other)] if one == other || self.simple_close => Ok(()),
            [Closing::Agreed(_), Closing::Agreed(_)] => {
                Err(Verdict::new("agree", "two closing transactions were agreed on"))
            }
            other => Err(Verdict::new("live", format!("all is quiet, and the close stands at {other:?}"))),
        }
    }

    /// A move in words, told before it is made.
    pub fn words(&self, world: &World, step: Move) -> String {
        let name = |seat: usize| self.graphs[seat].name;
        match step {
            Move::Act { seat, act, dies } => {
                let what = self.act_words(seat, act);
                let end = if dies { ", keeps it, and dies before anything leaves" } else { "" };
                format!("{} {what}{end}", name(seat))
            }
            Move::Forget { seat } => format!("{} is given an order and dies before it is kept", name(seat)),
            Move::Crash { seat } => format!("{} dies and comes back", name(seat)),
            Move::Cut { seat } => format!("the link breaks, {} sees it first", name(seat)),
            Move::Notice { seat } => format!("{} sees that the link is gone", name(seat)),
            Move::Connect => match world.ends {
                [false, false] => "a new link".into(),
                _ => "a new link, before both saw the end of the old one".into(),
            },
        }
    }

    fn act_words(&self, seat: usize, act: Act) -> String {
        let payment = |place: u8| &self.graphs[seat].payments()[usize::from(place)].word;
        match act {
            Act::Deliver(message) => format!("gets {}", self.wires.get(message).name()),
            Act::Burst(queue) => {
                let names: Vec<_> = self.wires.at(queue).iter().map(|m| self.wires.get(*m).name()).collect();
                format!("gets at once {}", names.join(", "))
            }
            Act::Together(queue, place) => {
                let both = [Act::Burst(queue), Act::Do(place)].map(|act| self.act_words(seat, act));
                both.join(" and in the same step ")
            }
            Act::Do(place) => match &self.operations[seat][usize::from(place)] {
                Operation::Pay(payment) => format!("is told to pay {} ({} msat)", payment.word, payment.msat),
                Operation::Close => "is told to close the channel".into(),
                Operation::Fee(feerate) => format!("is told to set the feerate to {feerate}"),
            },
            Act::Settle(place) => format!("is told to settle {}", payment(place)),
            Act::Cancel(place) => format!("is told to cancel {}", payment(place)),
            Act::Link | Act::Relink | Act::Unlink => format!("{act:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_world_comes_out_as_it_was() {
        let world = World {
            nodes: [1 << 25, 77],
            wires: [3, (1 << 26) - 1],
            ends: [true, false],
            ordered: [7, 2],
            cuts: 3,
            crashes: 15,
        };
        assert_eq!(world.pack().map(World::unpack), Some(world));
        assert_eq!(World { nodes: [1 << 26, 0], ..world }.pack(), None);
    }
}
