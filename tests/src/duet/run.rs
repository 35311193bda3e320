//! What makes two nodes run: inputs one at a time, effects let out, until nothing is left to do.
//!
//! In: inboxes, wires, deadlines. Out: steps, each committed and then released; cuts and crashes as planned.
//! Read next: `judge` (what is checked after each step).

use super::{other, Crash, Duet, When, Wire};
use chand_protocol::id::LinkId;
use chand_protocol::node::effect::{After, FundAmount, Input, Level};
use chand_protocol::node::step;
use chand_protocol::store::Batch;
use chand_protocol::units::{Feerate, Height, Timestamp};
use chand_protocol::wire::Message;

/// More steps than any scenario needs without pause.
const RUNAWAY: usize = 200_000;

impl Duet {
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
        panic!("no end: {:?}", self.seats.each_ref().map(|s| s.log.iter().rev().take(6).collect::<Vec<_>>()));
    }

    /// One thing that is to be done now; `false` when there is none.
    pub fn turn(&mut self) -> bool {
        for seat in 0..2 {
            if let Some(input) = self.seats[seat].inbox.pop_front() {
                self.step(seat, vec![input]);
                return true;
            }
        }
        if self.catch_up() || self.carry() || self.call() {
            return true;
        }
        for seat in 0..2 {
            if self.seats[seat].node.next_deadline().is_some_and(|due| due <= self.now) {
                self.step(seat, Vec::new());
                return true;
            }
        }
        false
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.seats.iter().filter_map(|s| s.node.next_deadline()).min()
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
        // Preparing may change no answer, so it is left out at times.
        if number.is_multiple_of(2) {
            place.node.prepare();
        }
        let planned = |c: &Crash| c.seat == seat && c.step == number;
        let crash = self.crashes.iter().position(planned).map(|i| self.crashes.remove(i).when);
        if crash == Some(When::BeforeCommit) {
            return self.restart(seat);
        }
        self.commit(seat, batch, crash);
    }

    fn commit(&mut self, seat: usize, batch: Batch, crash: Option<When>) {
        let batches = [batch];
        let place = &mut self.seats[seat];
        let proof = loop {
            match place.journal.commit(&batches) {
                Ok(proof) => break proof,
                // The disk said no: the same batch again; nothing has left meanwhile.
                Err(_) => assert!(place.store.counts().failures < 1_000, "the disk never comes back"),
            }
        };
        if self.check_every > 0 && self.seats[seat].steps.is_multiple_of(self.check_every) {
            self.judge_records(seat);
        }
        if crash == Some(When::BeforeRelease) {
            return self.restart(seat);
        }
        for batch in batches {
            let released = batch.release(&proof).unwrap_or_else(|b| panic!("not released: {b:?}"));
            for after in released {
                self.let_out(seat, after);
            }
        }
        if crash == Some(When::AfterRelease) {
            self.restart(seat);
        }
    }

    fn let_out(&mut self, seat: usize, after: After) {
        match after {
            After::Send(outgoing) => {
                let (_, link, message) = outgoing.into_parts();
                self.send(seat, link, &message);
            }
            After::HangUp { link, reason, .. } => {
                assert!(!reason.is_empty(), "{} hangs up without a word", self.seats[seat].name);
                if self.link == Some(link) {
                    self.wires[other(seat)].clear();
                    self.wires[seat].push_back(Wire::End(reason));
                }
            }
            After::Dial { .. } => self.dials.push_back(seat),
            After::Publish(publish) => {
                let (tx, _) = publish.into_parts();
                self.seats[seat].backup_then = self.seats[seat].backup.clone();
                let result = if self.mute == Some(seat) {
                    Ok(())
                } else {
                    self.chain.offer(&tx, self.signed).unwrap_or_else(|broken| panic!("{broken}"))
                };
                self.seats[seat].inbox.push_back(Input::Published { txid: tx.compute_txid(), result });
            }
            After::Reply { id, result } => {
                let twice = self.answers.insert(id, result);
                assert!(twice.is_none(), "{id:?} was answered twice");
            }
            After::Notice(notice) => {
                assert!(!notice.text.contains("local fault"), "{}: {}", self.seats[seat].name, notice.text);
                let expected = self.hostile || self.expected_errors.iter().any(|e| notice.text.contains(e));
                assert!(
                    notice.level < Level::Error || expected,
                    "{}: unexpected error: {}",
                    self.seats[seat].name,
                    notice.text
                );
                self.seats[seat].log.push(notice);
            }
            After::Fund { channel, script_pubkey, amount, feerate } => {
                self.fund(seat, channel, script_pubkey, amount, feerate);
            }
            After::Attach(order) => {
                let place = &mut self.seats[seat];
                let made = place.wallet.attach(&order, &self.chain, &*super::crypto());
                let (result, wallet) = match made {
                    Ok((tx, note)) => (Ok(tx), Some(note)),
                    Err(why) => (Err(why), None),
                };
                let (channel, claim) = (order.channel, order.claim);
                let spare_coins = place.wallet.spare(&self.chain);
                place.inbox.push_back(Input::Attached { channel, claim, result, spare_coins, wallet });
            }
            // Every commitment that is given up was a good one.
            After::DevRevoked { channel, tx, .. } if self.signed => {
                self.judge_commitment(seat, channel, &tx);
            }
            // Two nodes have no network.
            After::FindRoutes(request) => {
                let answer = request.none("nobody else is there");
                self.seats[seat].inbox.push_back(answer);
            }
            After::DevRevoked { .. } | After::Tower | After::Gossip(_) | After::Learn(_) => {}
            After::Backup(sealed) => self.seats[seat].backup = sealed,
            After::ReadAgain { from, to } => self.read_again(seat, from.0, to.0),
            After::Unreserve { txid } => self.seats[seat].wallet.unreserve(&txid),
        }
    }

    fn read_again(&mut self, seat: usize, from: u32, to: u32) {
        for height in from.max(super::chain::FIRST_HEIGHT)..=to {
            let txs = self.chain.block(height).map(|block| block.txs.clone()).unwrap_or_default();
            let (height, last) = (chand_protocol::units::Height(height), height == to);
            self.seats[seat].inbox.push_back(Input::OldBlock { height, txs, last });
        }
    }

    fn fund(
        &mut self,
        seat: usize,
        channel: chand_protocol::id::ChannelId,
        to: bitcoin::ScriptBuf,
        amount: FundAmount,
        feerate: Feerate,
    ) {
        let sat = match amount {
            FundAmount::Exact(sat) | FundAmount::All { at_most: sat } => sat.0,
        };
        let place = &mut self.seats[seat];
        let made = place.wallet.fund(to, sat, feerate, &self.chain, &*super::crypto());
        let (result, wallet) = match made {
            Ok((funded, note)) => (Ok(funded), Some(note)),
            Err(why) => (Err(why), None),
        };
        place.inbox.push_back(Input::Funded { channel, result, wallet });
    }

    fn send(&mut self, seat: usize, link: LinkId, message: &Message) {
        if self.link != Some(link) {
            return;
        }
        let bytes = message.encode().unwrap_or_else(|e| panic!("{} does not encode: {e}", message.name()));
        let again = Message::decode(&bytes);
        assert_eq!(again.as_ref(), Ok(message), "a message is not what its bytes say");
        if self.tracing {
            self.trace.push((seat, bytes.clone()));
        }
        self.wires[seat].push_back(Wire::Bytes(bytes));
    }

    /// Delivers what is next on one of the wires, chosen by the seed.
    fn carry(&mut self) -> bool {
        let choice = match self.wires.each_ref().map(|w| w.is_empty()) {
            [true, true] => return false,
            [false, true] => 0,
            [true, false] => 1,
            [false, false] => usize::from(self.random() >> 60 & 1 == 1),
        };
        self.deliver(choice);
        if let Some(i) = self.cuts.iter().position(|c| c.after <= self.delivered) {
            let cut = self.cuts.remove(i);
            self.cut(cut.keep);
        }
        true
    }

    /// Delivers the next of what `from` sent: up to `burst` messages in one step.
    pub(super) fn deliver(&mut self, from: usize) {
        let to = other(from);
        let (Some(link), peer) = (self.link, self.id(from)) else {
            self.wires[from].clear();
            return;
        };
        let mut inputs = Vec::new();
        let most = if self.burst > 1 { 1 + self.random() as usize % self.burst } else { 1 };
        while inputs.len() < most {
            match self.wires[from].front() {
                Some(Wire::Bytes(_)) => {}
                Some(Wire::End(_)) if inputs.is_empty() => {
                    let Some(Wire::End(reason)) = self.wires[from].pop_front() else { return };
                    self.link = None;
                    self.wires.iter_mut().for_each(|w| w.clear());
                    inputs.push(Input::Unlinked { peer, link, reason });
                    break;
                }
                _ => break,
            }
            let Some(Wire::Bytes(bytes)) = self.wires[from].pop_front() else { return };
            let message = match Message::decode(&bytes) {
                Ok(message) => message,
                Err(error) if self.hostile => {
                    self.wires[from].clear();
                    inputs.push(Input::BadMessage { peer, link, reason: error.to_string() });
                    break;
                }
                Err(error) => panic!("undecodable: {error}"),
            };
            let message = self.mangled(from, message);
            self.delivered += 1;
            inputs.push(Input::Message { peer, link, message });
        }
        self.step(to, inputs);
    }

    fn mangled(&mut self, from: usize, message: Message) -> Message {
        let Some(mangle) = self.mangle.as_mut().filter(|m| m.from == from && m.times > 0) else {
            return message;
        };
        match (mangle.change)(message.clone()) {
            Some(changed) => {
                mangle.times -= 1;
                changed
            }
            None => message,
        }
    }

    /// The link breaks: both see it. What `keep` sent still arrives first; nothing is answered.
    pub fn cut(&mut self, keep: Option<usize>) {
        let Some(link) = self.link else { return };
        if let Some(from) = keep {
            self.wires[other(from)].clear();
            let left: Vec<Wire> = self.wires[from].drain(..).collect();
            let peer = self.id(from);
            // Nothing that is sent from here on arrives.
            self.link = None;
            for wire in left {
                let Wire::Bytes(bytes) = wire else { continue };
                let message = match Message::decode(&bytes) {
                    Err(_) if self.hostile => break,
                    message => message.unwrap_or_else(|e| panic!("undecodable: {e}")),
                };
                self.step(other(from), vec![Input::Message { peer, link, message }]);
            }
        }
        self.link = None;
        for seat in 0..2 {
            self.wires[seat].clear();
            let (peer, reason) = (self.id(other(seat)), "the link was cut".to_string());
            self.seats[seat].inbox.push_back(Input::Unlinked { peer, link, reason });
        }
    }

    /// A node dies and comes back from its disk; its peer sees the link break once it has read what was sent.
    pub fn restart(&mut self, seat: usize) {
        self.seats[seat].restart();
        self.dials.retain(|d| *d != seat);
        self.wires[other(seat)].clear();
        if self.link.is_some() {
            self.wires[seat].push_back(Wire::End("connection reset".into()));
        }
        self.follow(seat);
        // A start looks at its timers at once.
        self.step(seat, Vec::new());
    }

    /// A node dies and comes back with `entries` as its whole disk: somebody put an old copy back.
    pub fn restore_old(&mut self, seat: usize, entries: Vec<chand_protocol::store::Entry>) {
        self.seats[seat].replace_disk(entries);
        self.restart(seat);
    }

    /// The answer to one dial.
    fn call(&mut self) -> bool {
        let Some(seat) = self.dials.pop_front() else { return false };
        let peer = self.id(other(seat));
        if !self.reachable || self.link.is_some() {
            let reason = "connection refused".into();
            self.seats[seat].inbox.push_back(Input::DialFailed { peer, reason });
            return true;
        }
        self.next_link += 1;
        let link = LinkId(self.next_link);
        self.link = Some(link);
        for (side, inbound) in [(seat, false), (other(seat), true)] {
            let (peer, address) = (self.id(other(side)), format!("127.0.0.1:{}", 9735 + other(side)));
            self.seats[side].inbox.push_back(Input::Linked { peer, link, inbound, address });
        }
        true
    }

    /// Feeds a node one block that it has not seen, and after the last tells it that there are no more.
    fn catch_up(&mut self) -> bool {
        (0..2).any(|seat| {
            let moved = self.next_block(seat);
            if moved && self.chain.is_tip(self.seats[seat].node.tip()) {
                self.synced(seat);
            }
            moved
        })
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

    pub(super) fn next_block(&mut self, seat: usize) -> bool {
        let Some(input) = self.chain_news(seat) else { return false };
        self.step(seat, vec![input]);
        true
    }

    /// One step with the next block, whose batch is not kept: its disk says no.
    pub fn look_at_next_block(&mut self, seat: usize) -> Option<Batch> {
        let input = self.chain_news(seat)?;
        self.now = self.now.plus_ms(1);
        Some(step(&mut self.seats[seat].node, self.now, vec![input]))
    }

    /// What a node is to hear of the chain next.
    fn chain_news(&self, seat: usize) -> Option<Input> {
        let next = match self.seats[seat].node.tip() {
            None => super::chain::FIRST_HEIGHT,
            Some((height, hash)) => {
                if self.chain.block(height.0).is_none_or(|b| b.hash != hash) {
                    return Some(Input::BlockDisconnected { height, hash, wallet: None });
                }
                height.0 + 1
            }
        };
        let block = self.chain.block(next).cloned()?;
        Some(Input::BlockConnected {
            height: Height(next),
            hash: block.hash,
            time_s: block.time_s,
            txs: block.txs,
            wallet: None,
        })
    }
}
