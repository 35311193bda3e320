//! What is under way: messages and queues of them, each kept once and known by a number.
//!
//! In: messages as bytes. Out: numbers that are equal when the bytes are, so that a wire's content is one number in
//! a state of the world. Queue 0 is the empty one. Read next: `graph`.

use super::Verdict;
use chand_protocol::wire::Message;
use std::collections::HashMap;

/// The number of a queue of messages.
pub type Queue = u32;
/// The queue with nothing in it.
pub const EMPTY: Queue = 0;

/// Every message and every queue seen so far.
#[derive(Debug, Default)]
pub struct Wires {
    bytes: HashMap<Vec<u8>, u32>,
    messages: Vec<Message>,
    ids: HashMap<Box<[u32]>, Queue>,
    queues: Vec<Box<[u32]>>,
    /// Of each queue: its first message and the queue behind it.
    heads: Vec<(u32, Queue)>,
    joined: HashMap<(Queue, Queue), Queue, super::table::Mix>,
}

impl Wires {
    /// No message, and the empty queue.
    pub fn new() -> Wires {
        let mut wires = Wires::default();
        wires.queue(&[]);
        wires
    }

    /// The number of a message; what arrives later is what its bytes say.
    ///
    /// # Errors
    /// Judge `wire`: it does not encode, or its bytes say something else.
    pub fn message(&mut self, message: &Message) -> Result<u32, Verdict> {
        let bytes = message.encode().map_err(|e| Verdict::new("wire", format!("{}: {e}", message.name())))?;
        if let Some(id) = self.bytes.get(&bytes) {
            return Ok(*id);
        }
        match Message::decode(&bytes) {
            Ok(again) if again == *message => {
                let id = self.messages.len() as u32;
                self.messages.push(again);
                self.bytes.insert(bytes, id);
                Ok(id)
            }
            other => Err(Verdict::new("wire", format!("{} came out as {other:?}", message.name()))),
        }
    }

    /// The number of a queue.
    pub fn queue(&mut self, messages: &[u32]) -> Queue {
        if let Some(id) = self.ids.get(messages) {
            return *id;
        }
        // The shorter one first: numbers of tails exist before they are named.
        let head = messages.split_first().map(|(first, rest)| (*first, self.queue(rest)));
        let id = self.queues.len() as Queue;
        self.queues.push(messages.into());
        self.heads.push(head.unwrap_or((u32::MAX, EMPTY)));
        self.ids.insert(messages.into(), id);
        id
    }

    /// The first message of a queue and what stands behind it.
    pub fn split(&self, queue: Queue) -> Option<(u32, Queue)> {
        (queue != EMPTY).then(|| self.heads[queue as usize])
    }

    /// `more` behind `queue`.
    pub fn join(&mut self, queue: Queue, more: Queue) -> Queue {
        if more == EMPTY {
            return queue;
        }
        if queue == EMPTY {
            return more;
        }
        if let Some(id) = self.joined.get(&(queue, more)) {
            return *id;
        }
        let both: Vec<u32> = self.at(queue).iter().chain(self.at(more)).copied().collect();
        let id = self.queue(&both);
        self.joined.insert((queue, more), id);
        id
    }

    /// The messages of a queue, first one first.
    pub fn at(&self, queue: Queue) -> &[u32] {
        &self.queues[queue as usize]
    }

    /// A message by its number.
    pub fn get(&self, message: u32) -> &Message {
        &self.messages[message as usize]
    }

    /// How many different messages there were.
    pub fn count(&self) -> usize {
        self.messages.len()
    }
}
