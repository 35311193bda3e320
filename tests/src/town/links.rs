//! What leaves a node of a town: over links that break, to the chain, to its wallet and its map.
//!
//! In: what a released batch lets out. Out: messages on the wires, inputs for whoever they are for. Read next: `super`.

use super::{Town, Way};
use crate::duet::chain::FIRST_HEIGHT;
use chand_protocol::gossip::Event;
use chand_protocol::id::{LinkId, NodeId};
use chand_protocol::node::effect::{After, FundAmount, Input, Level};
use chand_protocol::units::Height;
use chand_protocol::wire::Message;
use std::collections::VecDeque;

impl Town {
    pub(super) fn let_out(&mut self, seat: usize, after: After) {
        match after {
            After::Send(outgoing) => {
                let (peer, link, message) = outgoing.into_parts();
                let to = self.seat_of(peer);
                if self.links.get(&(seat, to)) == Some(&link) {
                    let bytes = message.encode().unwrap_or_else(|e| panic!("{}: {e}", message.name()));
                    let words = || format!("{} → {}: {}", seat, to, message.name());
                    self.trace.note(self.now.0, &bytes, words);
                    self.wires.entry((seat, to)).or_default().push_back(bytes);
                }
            }
            After::HangUp { peer, link, reason } => {
                let to = self.seat_of(peer);
                if self.links.get(&(seat, to)) == Some(&link) {
                    self.part(seat, to, &reason);
                }
            }
            After::Dial { peer, .. } => self.dials.push_back((seat, peer)),
            After::Publish(publish) => {
                let (tx, why) = publish.into_parts();
                let words = || format!("{seat} publishes {} ({why})", tx.compute_txid());
                self.trace.note(self.now.0, tx.compute_txid().as_ref(), words);
                let result = match self.mute.contains(&seat) {
                    true => Ok(()),
                    false => self.chain.offer(&tx, self.signed).unwrap_or_else(|broken| panic!("{broken}")),
                };
                self.seats[seat].inbox.push_back(Input::Published { txid: tx.compute_txid(), result });
            }
            After::Reply { id, result } => {
                let words = || match &result {
                    Ok(_) => format!("{seat} answers order {}", id.0),
                    Err(error) => format!("{seat} refuses order {}: {}", id.0, error.message),
                };
                self.trace.note(self.now.0, &id.0.to_be_bytes(), words);
                let twice = self.answers.insert(id, result);
                assert!(twice.is_none(), "{id:?} was answered twice");
            }
            After::Notice(notice) => {
                let words = || format!("{seat} notes {:?}: {}", notice.level, notice.text);
                self.trace.note(self.now.0, notice.text.as_bytes(), words);
                let expected = self.expected_errors.iter().any(|e| notice.text.contains(e));
                let bad = notice.level == Level::Error && !expected;
                assert!(!bad, "{}: unexpected error: {}", self.seats[seat].name, notice.text);
                self.seats[seat].log.push(notice);
            }
            After::Fund { channel, script_pubkey, amount, feerate } => {
                let sat = match amount {
                    FundAmount::Exact(sat) | FundAmount::All { at_most: sat } => sat.0,
                };
                let place = &mut self.seats[seat];
                let crypto = place.crypto();
                let made = place.wallet.fund(script_pubkey, sat, feerate, &self.chain, &*crypto);
                let (result, wallet) =
                    made.map_or_else(|why| (Err(why), None), |(tx, note)| (Ok(tx), Some(note)));
                place.inbox.push_back(Input::Funded { channel, result, wallet });
            }
            After::Attach(order) => {
                let place = &mut self.seats[seat];
                let crypto = place.crypto();
                let made = place.wallet.attach(&order, &self.chain, &*crypto);
                let (result, wallet) =
                    made.map_or_else(|why| (Err(why), None), |(tx, note)| (Ok(tx), Some(note)));
                let (channel, claim) = (order.channel, order.claim);
                let spare_coins = place.wallet.spare(&self.chain);
                place.inbox.push_back(Input::Attached { channel, claim, result, spare_coins, wallet });
            }
            After::FindRoutes(request) => {
                let (map, now) = (self.map(), self.now);
                self.questions += 1;
                let answer = self.routers[seat].find(&map, &request, now);
                self.seats[seat].inbox.push_back(answer);
            }
            After::Learn(lesson) => {
                let (map, now) = (self.map(), self.now);
                self.lessons += 1;
                self.routers[seat].learn(&map, &lesson, now);
            }
            After::DevRevoked { .. } | After::Tower | After::Backup(_) | After::ReadAgain { .. } => {}
            After::Gossip(news) => self.news(seat, *news),
            After::Unreserve { txid } => self.seats[seat].wallet.unreserve(&txid),
        }
    }

    fn seat_of(&self, id: NodeId) -> usize {
        self.seats.iter().position(|s| s.id == id).unwrap_or_else(|| panic!("nobody is {id}"))
    }

    /// One message arrives, of a wire that the seed chooses.
    pub(super) fn carry(&mut self) -> bool {
        let awake = self.wires.iter().filter(|(way, wire)| !wire.is_empty() && !self.is_stuck(way.1));
        let full: Vec<Way> = awake.map(|(way, _)| *way).collect();
        if full.is_empty() {
            return false;
        }
        let (from, to) = full[(self.random() >> 33) as usize % full.len()];
        let (Some(bytes), Some(link)) =
            (self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front), self.links.get(&(from, to)))
        else {
            return true;
        };
        let message = Message::decode(&bytes).unwrap_or_else(|e| panic!("undecodable: {e}"));
        let (link, peer) = (*link, self.seats[from].id);
        let private = matches!(&message, Message::ChannelUpdate(update) if update.is_private());
        if self.machines.has(to) && message.is_gossip() && !private {
            self.machines.push(to, Event::Message { peer, link, message });
            return true;
        }
        self.step(to, vec![Input::Message { peer, link, message }]);
        true
    }

    /// The answer to one dial.
    pub(super) fn call(&mut self) -> bool {
        let Some((seat, peer)) = self.dials.pop_front() else { return false };
        let to = self.seat_of(peer);
        let refused = self.silent.contains(&seat) || self.silent.contains(&to);
        if refused || self.links.contains_key(&(seat, to)) {
            let reason = "connection refused".into();
            self.seats[seat].inbox.push_back(Input::DialFailed { peer, reason });
            return true;
        }
        self.next_link += 1;
        let link = LinkId(self.next_link);
        for (side, other, inbound) in [(seat, to, false), (to, seat, true)] {
            self.links.insert((side, other), link);
            let (peer, address) = (self.seats[other].id, format!("127.0.0.1:{}", 9735 + other));
            self.seats[side].inbox.push_back(Input::Linked { peer, link, inbound, address });
        }
        true
    }

    /// The link between two breaks; what is under way is lost.
    pub fn part(&mut self, seat: usize, other: usize, reason: &str) {
        let Some(link) = self.links.remove(&(seat, other)) else { return };
        self.links.remove(&(other, seat));
        for (side, peer) in [(seat, other), (other, seat)] {
            self.wires.remove(&(side, peer));
            let (peer, reason) = (self.seats[peer].id, reason.to_string());
            self.seats[side].inbox.push_back(Input::Unlinked { peer, link, reason });
        }
    }

    /// Nobody hears of this node any more, until it is taken from `silent`.
    pub fn silence(&mut self, seat: usize) {
        self.silent.insert(seat);
        (0..self.seats.len()).for_each(|other| self.part(seat, other, "the link was cut"));
    }

    /// The link between two, while there is one.
    pub fn link(&self, seat: usize, other: usize) -> Option<LinkId> {
        self.links.get(&(seat, other)).copied()
    }

    /// A node dies and comes back from its disk.
    pub fn restart(&mut self, seat: usize) {
        self.trace.note(self.now.0, b"death", || format!("{seat} dies"));
        self.deaths[seat] += 1;
        self.unwritten[seat].clear();
        self.seats[seat].restart();
        self.machines.restart(seat, self.seats[seat].id, self.now);
        self.dials.retain(|(dialler, _)| *dialler != seat);
        for other in 0..self.seats.len() {
            if let Some(link) = self.links.remove(&(seat, other)) {
                self.links.remove(&(other, seat));
                self.wires.remove(&(seat, other));
                self.wires.remove(&(other, seat));
                let (peer, reason) = (self.seats[seat].id, "connection reset".to_string());
                self.seats[other].inbox.push_back(Input::Unlinked { peer, link, reason });
            }
        }
        self.follow(seat);
    }

    /// Feeds a node every block and tells it that there are no more.
    pub(super) fn follow(&mut self, seat: usize) {
        while self.next_block(seat) {}
        self.synced(seat);
    }

    fn synced(&mut self, seat: usize) {
        let tip_time_s = self.chain.blocks.last().map(|block| block.time_s);
        self.step(seat, vec![Input::ChainSynced { tip_time_s }]);
    }

    /// One block that it has not seen; after the last it is told that there are no more.
    pub(super) fn catch_up(&mut self, seat: usize) -> bool {
        let moved = self.next_block(seat);
        if moved && self.chain.is_tip(self.seats[seat].node.tip()) {
            self.synced(seat);
        }
        moved
    }

    fn next_block(&mut self, seat: usize) -> bool {
        if self.is_stuck(seat) {
            return false;
        }
        let next = match self.seats[seat].node.tip() {
            None => FIRST_HEIGHT,
            Some((height, hash)) if self.chain.block(height.0).is_none_or(|b| b.hash != hash) => {
                self.machines.push(seat, Event::BlockGone { height });
                self.step(seat, vec![Input::BlockDisconnected { height, hash, wallet: None }]);
                return true;
            }
            Some((height, _)) => height.0 + 1,
        };
        let Some(block) = self.chain.block(next).cloned() else { return false };
        let (hash, time_s, txs) = (block.hash, block.time_s, block.txs);
        let height = Height(next);
        let spent = txs.iter().flat_map(|tx| &tx.input).map(|input| input.previous_output).collect();
        self.machines.push(seat, Event::Block { height, spent });
        self.step(seat, vec![Input::BlockConnected { height, hash, time_s, txs, wallet: None }]);
        true
    }
}
