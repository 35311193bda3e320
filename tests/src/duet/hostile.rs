//! What somebody who sits on the wire, or decides what happens next, can do to two nodes.
//!
//! In: single deliveries, bytes put in, changed, dropped, doubled, swapped; copies of a whole world.
//! Out: the same steps and judges as elsewhere. Read next: `crate::fuzz::machine`.

use super::{other, Answer, Duet, Wire};
use chand_protocol::node::command::Command;
use chand_protocol::node::effect::Input;
use std::collections::{BTreeMap, VecDeque};

impl Duet {
    /// The same two nodes and chain once more, on disks of their own, both just started and not yet linked.
    pub fn copy(&self) -> Duet {
        let mut copy = Duet {
            now: self.now,
            seats: self.seats.each_ref().map(super::Seat::copy),
            chain: self.chain.clone(),
            reachable: true,
            mute: None,
            crashes: Vec::new(),
            cuts: Vec::new(),
            burst: 1,
            check_every: self.check_every,
            trace: Vec::new(),
            tracing: false,
            delivered: 0,
            expected_errors: Vec::new(),
            mangle: None,
            hostile: self.hostile,
            signed: self.signed,
            wires: [VecDeque::new(), VecDeque::new()],
            dials: VecDeque::new(),
            link: None,
            next_link: self.next_link,
            next_command: self.next_command,
            answers: BTreeMap::new(),
            rng: self.rng,
        };
        copy.follow(super::ALICE);
        copy.follow(super::BOB);
        copy
    }

    /// Orders one node and lets only that one take a step; its answer, when it came at once.
    pub fn ask_alone(&mut self, seat: usize, command: Command) -> Option<Answer> {
        let id = self.tell(seat, command);
        // Behind whatever waits there already.
        while let Some(input) = self.seats[seat].inbox.pop_front() {
            self.step(seat, vec![input]);
        }
        self.answer(id)
    }

    /// Delivers the next of what a seat sent, if anything is under way.
    pub fn deliver_from(&mut self, from: usize) -> bool {
        let waits = !self.wires[from].is_empty();
        if waits {
            self.deliver(from);
        }
        waits
    }

    /// How much of what a seat sent is under way.
    pub fn under_way(&self, from: usize) -> usize {
        self.wires[from].len()
    }

    /// Time passes, and nothing else.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    /// Gives a node an event of the world out of turn.
    pub fn give(&mut self, seat: usize, input: Input) {
        self.seats[seat].inbox.push_back(input);
    }

    /// Bytes that a seat never sent are the next to arrive from it.
    pub fn put_first(&mut self, from: usize, bytes: Vec<u8>) {
        if self.link.is_some() {
            self.wires[from].push_front(Wire::Bytes(bytes));
        }
    }

    /// The next message of a seat is changed.
    pub fn meddle(&mut self, from: usize, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Wire::Bytes(bytes)) = self.wires[from].front_mut() {
            change(bytes);
        }
    }

    /// The next message of a seat, to look at.
    pub fn next_bytes(&self, from: usize) -> Option<&[u8]> {
        match self.wires[from].front() {
            Some(Wire::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The next message of a seat is lost.
    pub fn lose(&mut self, from: usize) {
        if matches!(self.wires[from].front(), Some(Wire::Bytes(_))) {
            self.wires[from].pop_front();
        }
    }

    /// The next two messages of a seat change places.
    pub fn swap_two(&mut self, from: usize) {
        let two = self.wires[from].iter().take(2).filter(|w| matches!(w, Wire::Bytes(_))).count();
        if two == 2 {
            self.wires[from].swap(0, 1);
        }
    }

    /// A seat hears no more of its peer, which reads what is under way and then sees the end of it.
    pub fn hang_up(&mut self, from: usize) {
        let (Some(link), peer) = (self.link, self.id(other(from))) else { return };
        self.wires[other(from)].clear();
        self.wires[from].push_back(Wire::End("the peer hung up".into()));
        let reason = "the link broke".into();
        self.seats[from].inbox.push_back(Input::Unlinked { peer, link, reason });
    }
}
