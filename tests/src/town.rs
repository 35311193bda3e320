//! Up to ten whole nodes in one process, on `node::step` and the memory engine, with links where the test wants them.
//!
//! In: commands, blocks, cuts, crashes. Out: replies and balances; after **every** step the store holds exactly what the
//! node would need to come back. Messages travel as bytes, those of one link in order, whose turn it is by the seed.
//! What two nodes say to each other is `duet`'s matter; this is for what goes through one to the next.
//! Read next: `duet::seat` (one node and its disk), `tests/scenario/forward.rs`.

pub mod gossip;

use crate::duet::chain::{TinyChain, FIRST_HEIGHT};
use crate::duet::judge::compare;
use crate::duet::play::{request, Open};
use crate::duet::seat::Seat;
use crate::duet::{crypto, Answer, When};
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::gossip::graph::{Direction, Graph, Policy};
use chand_protocol::gossip::Event;
use chand_protocol::id::{ChannelId, CommandId, LinkId, NodeId, ShortChannelId};
use chand_protocol::node::command::{Command, CommandError, InvoiceRequest, Reply, RouteHop};
use chand_protocol::node::effect::{After, FundAmount, Input, Level};
use chand_protocol::node::{step, view, NodeConfig};
use chand_protocol::route::Router;
use chand_protocol::store::Batch;
use chand_protocol::units::{Feerate, Height, Msat, Sat, Timestamp};
use chand_protocol::wire::Message;
use gossip::Machines;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// Channels that are on nobody's map.
    pub private: BTreeSet<ShortChannelId>,
    /// Texts of errors that the test expects in the logs.
    pub expected_errors: Vec<&'static str>,
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
        let mut chain = TinyChain::new();
        let seats: Vec<Seat> =
            (0..count).map(|p| Seat::new(p, seed, &mut chain, crypto(), &change)).collect();
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
            private: BTreeSet::new(),
            expected_errors: Vec::new(),
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

    /// A new invoice of a node.
    pub fn invoice(&mut self, seat: usize, request: InvoiceRequest) -> view::Invoice {
        let reply = self.must(seat, Command::Invoice(request));
        let Reply::Invoice(invoice) = reply else { panic!("{reply:?}") };
        invoice
    }

    /// A plain invoice.
    pub fn bill(&mut self, seat: usize, label: &str, amount_msat: u64) -> view::Invoice {
        self.invoice(seat, request(label, Some(amount_msat)))
    }

    /// The route through `seats` (the payer first) that pays everyone on it what it asks for.
    pub fn route(&self, seats: &[usize], amount_msat: u64, final_blocks: u32) -> Vec<RouteHop> {
        let (mut amount, mut delay) = (amount_msat, final_blocks);
        let mut route = Vec::new();
        for pair in seats.windows(2).rev() {
            let (from, to) = (pair[0], pair[1]);
            let channel = Some(self.scid(from, to));
            route.push(RouteHop {
                id: self.seats[to].id,
                channel,
                amount_msat: Msat(amount),
                delay_blocks: delay,
            });
            let policy = self.between(from, to).policy;
            amount += policy.fee(Msat(amount)).map_or(0, |fee| fee.0);
            delay += u32::from(policy.delta_blocks);
        }
        route.reverse();
        route
    }

    /// The order to pay an invoice along a route.
    pub fn send_pay(route: Vec<RouteHop>, invoice: &view::Invoice) -> Command {
        Command::SendPay {
            route,
            payment_hash: invoice.payment_hash,
            payment_secret: Some(invoice.payment_secret),
            amount_msat: None,
            label: None,
            bolt11: None,
        }
    }

    /// Pays along a route, and gives what came of it once all is quiet.
    pub fn pay_along(
        &mut self,
        route: Vec<RouteHop>,
        invoice: &view::Invoice,
        payer: usize,
    ) -> Option<Answer> {
        match self.ask(payer, Town::send_pay(route, invoice)) {
            Some(Ok(_)) => {}
            other => return other,
        }
        let order = Command::WaitSendPay { payment_hash: invoice.payment_hash, timeout_s: Some(1) };
        self.ask(payer, order)
    }

    /// The rows of `listforwards`.
    pub fn forwards(&mut self, seat: usize) -> Vec<view::Forward> {
        let reply = self.must(seat, Command::ListForwards);
        let Reply::Forwards(list) = reply else { panic!("{reply:?}") };
        list
    }

    /// Gives an order; the answer comes when it comes.
    pub fn tell(&mut self, seat: usize, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.seats[seat].inbox.push_back(Input::Command { id, command });
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

    /// The same for an order that must fail.
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
        let nodes = self.seats.iter().filter_map(|s| s.node.next_deadline());
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
        for seat in 0..self.seats.len() {
            if let Some(input) = self.seats[seat].inbox.pop_front() {
                self.step(seat, vec![input]);
                return true;
            }
        }
        if (0..self.seats.len()).any(|seat| self.next_block(seat))
            || self.carry()
            || self.call()
            || self.whisper()
        {
            return true;
        }
        let due = |s: &Seat| s.node.next_deadline().is_some_and(|due| due <= self.now);
        match self.seats.iter().position(due) {
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

    fn commit(&mut self, seat: usize, batch: Batch, crash: Option<When>) {
        let batches = [batch];
        let place = &mut self.seats[seat];
        let proof = place.journal.commit(&batches).unwrap_or_else(|e| panic!("{}: {e}", place.name));
        let stored: BTreeMap<_, _> = place.store.durable().into_iter().collect();
        let same = compare(&stored, place.node.records(), &place.node);
        same.unwrap_or_else(|what| panic!("{}: {what}", place.name));
        if crash == Some(When::BeforeRelease) {
            return self.restart(seat);
        }
        for batch in batches {
            let released = batch.release(&proof).unwrap_or_else(|b| panic!("not released: {b:?}"));
            released.into_iter().for_each(|after| self.let_out(seat, after));
        }
        if crash == Some(When::AfterRelease) {
            self.restart(seat);
        }
    }

    fn let_out(&mut self, seat: usize, after: After) {
        match after {
            After::Send(outgoing) => {
                let (peer, link, message) = outgoing.into_parts();
                let to = self.seat_of(peer);
                if self.links.get(&(seat, to)) == Some(&link) {
                    let bytes = message.encode().unwrap_or_else(|e| panic!("{}: {e}", message.name()));
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
                let (tx, _) = publish.into_parts();
                let result = match self.mute.contains(&seat) {
                    true => Ok(()),
                    false => self.chain.offer(&tx, true).unwrap_or_else(|broken| panic!("{broken}")),
                };
                self.seats[seat].inbox.push_back(Input::Published { txid: tx.compute_txid(), result });
            }
            After::Reply { id, result } => {
                let twice = self.answers.insert(id, result);
                assert!(twice.is_none(), "{id:?} was answered twice");
            }
            After::Notice(notice) => {
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
                let made = place.wallet.fund(script_pubkey, sat, feerate, &self.chain, &*crypto());
                let (result, wallet) =
                    made.map_or_else(|why| (Err(why), None), |(tx, note)| (Ok(tx), Some(note)));
                place.inbox.push_back(Input::Funded { channel, result, wallet });
            }
            After::Attach(order) => {
                let place = &mut self.seats[seat];
                let made = place.wallet.attach(&order, &self.chain, &*crypto());
                let (result, wallet) =
                    made.map_or_else(|why| (Err(why), None), |(tx, note)| (Ok(tx), Some(note)));
                let (channel, claim) = (order.channel, order.claim);
                let spare_coins = place.wallet.spare(&self.chain);
                place.inbox.push_back(Input::Attached { channel, claim, result, spare_coins, wallet });
            }
            After::FindRoutes(request) => {
                let (map, now) = (self.map(), self.now);
                let answer = self.routers[seat].find(&map, &request, now);
                self.seats[seat].inbox.push_back(answer);
            }
            After::Learn(lesson) => {
                let (map, now) = (self.map(), self.now);
                self.lessons += 1;
                self.routers[seat].learn(&map, &lesson, now);
            }
            After::DevRevoked { .. } | After::Tower => {}
            After::Gossip(news) => self.news(seat, *news),
            After::Unreserve { txid } => self.seats[seat].wallet.unreserve(&txid),
        }
    }

    fn seat_of(&self, id: NodeId) -> usize {
        self.seats.iter().position(|s| s.id == id).unwrap_or_else(|| panic!("nobody is {id}"))
    }

    /// One message arrives, of a wire that the seed chooses.
    fn carry(&mut self) -> bool {
        let full: Vec<Way> = self.wires.iter().filter(|(_, w)| !w.is_empty()).map(|(way, _)| *way).collect();
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
    fn call(&mut self) -> bool {
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
    fn follow(&mut self, seat: usize) {
        while self.next_block(seat) {}
        let tip_time_s = self.chain.blocks.last().map(|block| block.time_s);
        self.step(seat, vec![Input::ChainSynced { tip_time_s }]);
    }

    fn next_block(&mut self, seat: usize) -> bool {
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
