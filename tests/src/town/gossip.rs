//! A gossip machine beside every node of a town: what nodes announce reaches the others over the same wires.
//!
//! In: news of the nodes, gossip messages, blocks. Out: gossip messages, and what each machine knows. Signatures are checked
//! for real, outputs are looked up on the town's chain. A node that dies takes its machine along; the next one begins
//! with what the old one kept, as from a cache. Read next: `tests/scenario/gossip.rs`.

use super::Town;
use crate::duet::crypto;
use bitcoin::OutPoint;
use chand_protocol::chain::Network;
use chand_protocol::gossip::graph::Policy;
use chand_protocol::gossip::{Action, Event, Gossip, Kept, News, Settings, Spoken, Store, Utxo};
use chand_protocol::id::{NodeId, ShortChannelId};
use chand_protocol::node::{GossipConfig, NodeConfig};
use chand_protocol::units::{Sat, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// The machines, by seat; empty in a town where nobody gossips.
#[derive(Debug, Default)]
pub struct Machines {
    all: BTreeMap<usize, Machine>,
}

#[derive(Debug)]
struct Machine {
    gossip: Gossip,
    inbox: VecDeque<Event>,
    kept: Vec<Kept>,
}

/// For `Town::line` and the like: a node that takes part.
pub fn gossiping(_: usize, config: &mut NodeConfig) {
    config.gossip = Some(GossipConfig::default());
}

impl Machines {
    pub(super) fn new(ids: impl Iterator<Item = Option<NodeId>>, now: Timestamp) -> Machines {
        let machine =
            |us| Machine { gossip: fresh(us, Store::new(), now), inbox: VecDeque::new(), kept: Vec::new() };
        let all = ids.enumerate().filter_map(|(seat, us)| Some((seat, machine(us?)))).collect();
        Machines { all }
    }

    pub(super) fn push(&mut self, seat: usize, event: Event) {
        if let Some(machine) = self.all.get_mut(&seat) {
            machine.inbox.push_back(event);
        }
    }

    pub(super) fn has(&self, seat: usize) -> bool {
        self.all.contains_key(&seat)
    }

    /// The first deadline of any.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.all.values().map(|m| m.gossip.next_deadline()).min()
    }

    /// The node died: its machine comes back with what a cache would have held.
    pub(super) fn restart(&mut self, seat: usize, us: NodeId, now: Timestamp) {
        let Some(machine) = self.all.get_mut(&seat) else { return };
        let mut store = Store::new();
        let hash = Network::Regtest.chain_hash();
        for kept in &machine.kept {
            let again = Kept::decode(&kept.encode()).unwrap_or_else(|e| panic!("{e}"));
            store.restore(again, &hash, now.seconds() as u32);
        }
        machine.gossip = fresh(us, store, now);
        machine.inbox.clear();
    }
}

fn fresh(us: NodeId, store: Store, now: Timestamp) -> Gossip {
    Gossip::new(Settings::new(Network::Regtest, us), store, now)
}

impl Town {
    /// What a seat's machine knows.
    ///
    /// # Panics
    /// When that seat does not gossip.
    pub fn gossip(&self, seat: usize) -> &Gossip {
        &self.machines.all.get(&seat).unwrap_or_else(|| panic!("no gossip at {seat}")).gossip
    }

    /// What `seat` believes that `from` asks for sending on to `to`.
    pub fn policy_seen(&self, seat: usize, from: usize, to: usize) -> Option<Policy> {
        let scid = self.scid(from, to);
        let (from, to) = (self.seats[from].id, self.seats[to].id);
        let direction = chand_protocol::gossip::graph::Direction::between(&from, &to);
        self.gossip(seat).graph().policy(scid, direction)
    }

    /// One machine takes what waits for it, or what time asks for; `false` when none has anything to do.
    pub(super) fn whisper(&mut self) -> bool {
        let now = self.now;
        let due = |m: &Machine| !m.inbox.is_empty() || m.gossip.next_deadline() <= now;
        let Some((seat, machine)) =
            self.machines.all.iter_mut().find(|(_, m)| due(m) || !m.gossip.hungry().is_empty())
        else {
            return false;
        };
        let seat = *seat;
        let events: Vec<Event> = machine.inbox.drain(..).collect();
        let actions = machine.gossip.step(now, events);
        let mut spoken: Vec<Spoken> = Vec::new();
        let mut lookups = Vec::new();
        for action in actions {
            match action {
                Action::Send(message) => spoken.push(message),
                Action::Verify { ticket, jobs } => {
                    let good = crypto().verify_batch(&jobs);
                    machine.inbox.push_back(Event::Verified { ticket, good });
                }
                Action::LookUp(scid) => lookups.push(scid),
                Action::Keep(kept) => machine.kept.push(kept),
                Action::Notice(..) => {}
            }
        }
        for link in machine.gossip.hungry() {
            spoken.extend(machine.gossip.pump(link, 50_000));
        }
        for scid in lookups {
            let utxo = self.look_up(scid);
            self.machines.push(seat, Event::LookedUp { scid, utxo });
        }
        for message in spoken {
            let (link, bytes) = message.into_parts();
            let to =
                self.links.iter().find(|((from, _), l)| *from == seat && **l == link).map(|((_, to), _)| *to);
            if let Some(to) = to {
                self.wires.entry((seat, to)).or_default().push_back(bytes.into_vec());
            }
        }
        true
    }

    fn look_up(&self, scid: ShortChannelId) -> Utxo {
        let (height, index, vout) = (scid.0 >> 40, (scid.0 >> 16) & 0xff_ffff, scid.0 & 0xffff);
        let block = self.chain.block(height as u32);
        let Some(txid) = block.and_then(|b| b.txs.get(index as usize)).map(|tx| tx.compute_txid()) else {
            return Utxo::Absent;
        };
        match self.chain.unspent(&OutPoint { txid, vout: vout as u32 }) {
            Some(output) => {
                Utxo::Found { txid, capacity: Sat(output.value.to_sat()), script: output.script_pubkey }
            }
            None => Utxo::Absent,
        }
    }

    /// A seat's machine loses all it knew and kept.
    pub fn forget_gossip(&mut self, seat: usize) {
        let (us, now) = (self.seats[seat].id, self.now);
        if let Some(machine) = self.machines.all.get_mut(&seat) {
            machine.kept.clear();
        }
        self.machines.restart(seat, us, now);
    }

    /// A seat's machine has lost what nodes say of themselves, and nothing else.
    pub fn forget_names(&mut self, seat: usize) {
        let (us, now) = (self.seats[seat].id, self.now);
        if let Some(machine) = self.machines.all.get_mut(&seat) {
            machine.kept.retain(|kept| !matches!(kept, Kept::Node { .. }));
        }
        self.machines.restart(seat, us, now);
    }

    /// A seat's machine hears something that nobody of the town said.
    pub fn whisper_to(&mut self, seat: usize, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.machines.push(seat, event));
    }

    pub(super) fn news(&mut self, seat: usize, news: News) {
        self.machines.push(seat, Event::News(news));
    }
}
