//! Two whole nodes whose every event is decided by bytes: orders, deliveries, cuts, crashes, failing disks, blocks.
//!
//! In: a stage of a channel's life, then operations. Out: nothing, or a panic of a judge. With the hostile bit somebody
//! sits on the wire as well and puts in, changes, repeats, drops and swaps messages in any phase: each node must then
//! keep its own money whatever the other seems to say. Without it the two must agree at the end to the millisatoshi.
//! Read next: `stage`, `crate::duet`.

use super::feed::Feed;
use super::hunt::saw;
use super::stage::{set, Stage, Tried, STAGES};
use crate::duet::play::{pay, preimage, request, Open};
use crate::duet::{other, Crash, Duet, When, ALICE, BOB};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, Transaction, TxIn, TxOut, Witness};
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{Preimage, Side};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::effect::{Fees, Input};
use chand_protocol::tx::weight::is_trimmed;
use chand_protocol::units::{Feerate, Msat};
use chand_protocol::wire::Message;
use chand_storage::Fault;

/// More operations than this add nothing.
const MAX_OPERATIONS: usize = 160;
/// With more blocks than this an HTLC's deadline may close the channel, between two honest nodes too.
const PEACE_BLOCKS: u32 = 3;

/// Honest nodes, a bad world.
pub fn schedule(input: &[u8]) {
    Play::new(input, false).play();
}

/// The same with somebody on the wire.
pub fn hostile_wire(input: &[u8]) {
    Play::new(input, true).play();
}

struct Play<'a> {
    feed: Feed<'a>,
    duet: Duet,
    stage: Stage,
    hostile: bool,
    tried: Vec<Tried>,
    number: u64,
    opened: bool,
    /// Blocks so far.
    mined: u32,
    /// The channel may be closed by force without a fault of anybody.
    forced: bool,
}

impl<'a> Play<'a> {
    fn new(input: &'a [u8], hostile: bool) -> Play<'a> {
        let mut feed = Feed::new(input);
        let choice = feed.u8();
        let stage = STAGES[usize::from(choice >> 2) % STAGES.len()];
        let set = set(stage, choice & 1 == 0);
        let mut duet = set.duet;
        let forced = stage == Stage::Forced;
        duet.hostile = hostile || forced;
        duet.check_every = 16;
        // One that has seen the close in a block tells it to one that has not.
        duet.expected_errors.push("the channel is closed");
        if choice & 2 == 0 {
            duet.run();
        }
        let opened = stage != Stage::Fresh;
        Play { feed, duet, stage, hostile, tried: set.tried, number: 100, opened, mined: 0, forced }
    }

    fn play(mut self) {
        saw((format!("{:?}", self.stage), self.hostile));
        for _ in 0..MAX_OPERATIONS {
            if self.feed.is_empty() {
                break;
            }
            self.operate();
        }
        self.duet.crashes.clear();
        (0..2).for_each(|seat| self.duet.seats[seat].store.plan([]));
        if self.hostile || self.forced {
            self.end_hostile();
        } else {
            self.end_honest();
        }
        for seat in [ALICE, BOB] {
            for channel in self.duet.seats[seat].node.channels() {
                saw((seat, channel.state_name().name(), channel.commits.local_number.min(40), channel.doubt));
            }
        }
    }

    fn operate(&mut self) {
        let byte = self.feed.u8();
        let seat = usize::from(byte & 1);
        match byte >> 1 & 31 {
            0..=5 => {
                for _ in 0..1 + self.feed.u8() % 8 {
                    self.deliver(seat);
                }
            }
            6..=8 => {
                for _ in 0..1 + self.feed.u8() % 32 {
                    self.duet.turn();
                }
            }
            9..=11 => self.pay(seat),
            12 => self.keysend(seat),
            13 => self.decide(seat),
            14 => {
                let keep = [None, Some(ALICE), Some(BOB)][self.feed.below(3)];
                self.duet.cut(keep);
            }
            15 => self.crash(seat),
            16 => {
                let fault = [Fault::FailBefore, Fault::FailSync, Fault::FailAfter][self.feed.below(3)];
                self.duet.seats[seat].store.plan([Some(fault)]);
            }
            17 => self.mine(),
            18 => self.duet.pass_ms([1, 1_000, 30_000, 70_000][self.feed.below(4)]),
            19 => self.feerate(seat),
            20 => self.order_close(seat),
            21 => self.order_open(seat),
            22 => self.fees(seat),
            23 => self.duet.hang_up(seat),
            24 => {
                self.mine();
                self.duet.turn();
                self.duet.unmine(false);
            }
            _ if self.hostile => self.meddle(seat),
            _ => {
                self.duet.turn();
            }
        }
    }

    /// The next message of a seat arrives, after all that happened to the receiver before.
    fn deliver(&mut self, from: usize) {
        self.drain(from);
        if let Some([high, low, ..]) = self.duet.next_bytes(from) {
            let to = &self.duet.seats[other(from)].node;
            let state = to
                .channels()
                .next()
                .map(|c| (c.state_name().name(), c.ledger.htlcs.len().min(4), c.commits.awaiting_revoke));
            saw((*high, *low, state));
        }
        self.duet.deliver_from(from);
        self.drain(from);
    }

    /// Lets both take in what waits at them.
    fn drain(&mut self, seat: usize) {
        for seat in [seat, other(seat)] {
            while let Some(input) = self.duet.seats[seat].inbox.pop_front() {
                self.duet.step(seat, vec![input]);
            }
        }
    }

    /// One block. Once deadlines may have passed, the play is judged like one with a close by force.
    fn mine(&mut self) {
        self.mined += 1;
        if self.mined > PEACE_BLOCKS {
            self.forced = true;
            self.duet.hostile = true;
        }
        self.duet.chain.mine();
    }

    fn amount(&mut self) -> u64 {
        let size = [1_000, 400_000, 5_000_000, 60_000_000, 700_000_000][self.feed.below(5)];
        1 + u64::from(self.feed.u16()) * size / 65_536
    }

    fn pay(&mut self, payer: usize) {
        self.number += 1;
        let (number, msat) = (self.number, self.amount());
        let held = self.feed.u8().is_multiple_of(3);
        let asked = request(&format!("{number}"), Some(msat));
        let hold = held.then(|| preimage(number).hash());
        let asked = InvoiceRequest { hold, ..asked };
        let Some(Ok(Reply::Invoice(invoice))) = self.duet.ask_alone(other(payer), Command::Invoice(asked))
        else {
            // It died before it answered.
            return;
        };
        let hold = held.then_some(number);
        self.tried.push(Tried { payer, msat, hash: invoice.payment_hash, hold });
        self.duet.ask_alone(payer, pay(&invoice.bolt11, None));
    }

    fn keysend(&mut self, payer: usize) {
        let (destination, msat) = (self.duet.id(other(payer)), self.amount());
        let order = Command::Keysend {
            destination,
            amount_msat: Msat(msat),
            label: None,
            retry_for_s: 5,
            limits: RouteLimits::default(),
        };
        self.duet.ask_alone(payer, order);
    }

    fn decide(&mut self, seat: usize) {
        let held: Vec<u64> = self.tried.iter().filter(|t| t.payer != seat).filter_map(|t| t.hold).collect();
        if held.is_empty() {
            return;
        }
        let number = held[self.feed.below(held.len())];
        let order = if self.feed.u8().is_multiple_of(2) {
            Command::SettleInvoice { preimage: preimage(number) }
        } else {
            Command::CancelInvoice { payment_hash: preimage(number).hash() }
        };
        self.duet.ask_alone(seat, order);
    }

    fn crash(&mut self, seat: usize) {
        let when = [When::BeforeCommit, When::BeforeRelease, When::AfterRelease][self.feed.below(3)];
        let step = self.duet.seats[seat].steps + 1 + u64::from(self.feed.u8() % 6);
        self.duet.crashes.push(Crash { seat, step, when });
    }

    fn any_channel(&self, seat: usize) -> Option<ChannelRef> {
        self.duet.seats[seat].node.channels().next().map(|c| ChannelRef::Id(c.id()))
    }

    fn feerate(&mut self, seat: usize) {
        let feerate = Feerate(253 + u32::from(self.feed.u16()) % 6_000);
        if let Some(channel) = self.any_channel(seat) {
            self.duet.ask_alone(seat, Command::DevFeerate { channel, feerate });
        }
    }

    fn order_close(&mut self, seat: usize) {
        if let Some(channel) = self.any_channel(seat) {
            let (unilateral_timeout_s, destination, feerange) = (0, None, None);
            let order = Command::Close { channel, unilateral_timeout_s, destination, feerange };
            self.duet.ask_alone(seat, order);
        }
    }

    /// Once: more channels than one are for other tests.
    fn order_open(&mut self, seat: usize) {
        if self.opened {
            return;
        }
        let (peer, address) = (self.duet.id(other(seat)), format!("127.0.0.1:{}", 9735 + other(seat)));
        if !self.duet.is_linked() {
            self.duet.ask_alone(seat, Command::Connect { peer, address: Some(address) });
            return self.duet.run();
        }
        self.opened = true;
        // An opener that dies before `funding_signed` forgets the channel, and says so to an accepter that has it.
        self.duet.expected_errors.push("unknown channel");
        let push_msat = u64::from(self.feed.u16()) * 10_000;
        let open = Open { anchors: self.feed.u8().is_multiple_of(2), push_msat, ..Open::default() };
        let order = self.duet.fund_order(seat, open);
        self.duet.ask_alone(seat, order);
    }

    fn fees(&mut self, seat: usize) {
        let normal = 253 + u32::from(self.feed.u16()) % 20_000;
        let fees = Fees { normal: Feerate(normal), urgent: Feerate(normal * 2), minimum: Feerate(253) };
        self.duet.give(seat, Input::Fees(fees));
        self.drain(seat);
    }

    /// What somebody on the wire does to what `from` seems to say.
    fn meddle(&mut self, from: usize) {
        match self.feed.u8() % 10 {
            0 => {
                let bytes = self.feed.piece().to_vec();
                self.duet.put_first(from, bytes);
            }
            1..=3 => {
                let (at, mask) = (usize::from(self.feed.u16()), self.feed.u8());
                self.duet.meddle(from, |bytes| {
                    let at = at % bytes.len().max(1);
                    bytes.get_mut(at).into_iter().for_each(|b| *b ^= mask);
                });
            }
            4 => {
                let (at, value) = (usize::from(self.feed.u16()), self.feed.array::<8>());
                let width = 1 + self.feed.below(8);
                self.duet.meddle(from, |bytes| {
                    let at = at % bytes.len().max(1);
                    bytes.iter_mut().skip(at).zip(value).take(width).for_each(|(to, from)| *to = from);
                });
            }
            5 => {
                let keep = usize::from(self.feed.u16());
                self.duet.meddle(from, |bytes| bytes.truncate(keep % (bytes.len() + 1)));
            }
            6 => self.duet.lose(from),
            7 => {
                if let Some(bytes) = self.duet.next_bytes(from).map(<[u8]>::to_vec) {
                    self.duet.put_first(from, bytes);
                }
            }
            8 => self.duet.swap_two(from),
            _ => self.forge(from),
        }
        self.deliver(from);
    }

    /// A message that fits the channel in its id and nothing else; or a block that spends its funding output.
    fn forge(&mut self, from: usize) {
        const KINDS: [u16; 18] = [1, 17, 18, 19, 32, 33, 34, 35, 36, 38, 39, 40, 41, 128, 130, 131, 132, 133];
        const MORE: [u16; 4] = [134, 135, 136, 16];
        let pick = self.feed.below(KINDS.len() + MORE.len() + 1);
        let victim = other(from);
        let Some(channel) = self.duet.seats[victim].node.channels().next() else {
            let bytes = [&KINDS[pick % KINDS.len()].to_be_bytes()[..], self.feed.piece()].concat();
            return self.duet.put_first(from, bytes);
        };
        let Some(kind) = KINDS.iter().chain(&MORE).nth(pick) else {
            let funding = channel.terms.funding;
            let tx = spend(&mut self.feed, funding);
            self.duet.chain.mine_foreign(vec![tx]);
            self.duet.turn();
            return;
        };
        let id = channel.id();
        let mut bytes = [&kind.to_be_bytes()[..], &id.0].concat();
        bytes.extend_from_slice(self.feed.piece());
        // Bodies of a fixed length: filled up, so that more of them decode.
        bytes.resize(bytes.len().max(if *kind == 128 { 1_452 } else { 140 }), 0);
        if Message::decode(&bytes).is_ok() {
            saw(("forged", *kind));
        }
        self.duet.put_first(from, bytes);
    }

    fn sum(&self, seat: usize, of: impl Fn(&Channel) -> u64) -> i128 {
        self.duet.seats[seat].node.channels().map(|c| i128::from(of(c))).sum()
    }

    /// How a payment stands for payer and payee: `(status, paid)`.
    fn standing(&mut self, tried: Tried) -> (Option<&'static str>, bool) {
        let order = Command::ListPays { payment_hash: Some(tried.hash), bolt11: None };
        let Some(Ok(Reply::Pays(pays))) = self.duet.ask_alone(tried.payer, order) else {
            panic!("listpays was not answered");
        };
        let (status, _) = (pays.iter().map(|p| p.status).max_by_key(|s| *s == "complete"), ());
        let filter = chand_protocol::node::command::InvoiceFilter {
            payment_hash: Some(tried.hash),
            ..chand_protocol::node::command::InvoiceFilter::default()
        };
        let order = Command::ListInvoices(filter);
        let Some(Ok(Reply::Invoices(list))) = self.duet.ask_alone(other(tried.payer), order) else {
            panic!("listinvoices was not answered");
        };
        (status, list.first().is_some_and(|i| i.status == "paid"))
    }

    /// What each pays and receives besides invoices.
    fn keysends(&mut self, payer: usize) -> (u64, u64) {
        let order = Command::ListPays { payment_hash: None, bolt11: None };
        let Some(Ok(Reply::Pays(pays))) = self.duet.ask_alone(payer, order) else { panic!("no listpays") };
        let known: Vec<_> = self.tried.iter().map(|t| t.hash).collect();
        let sends = pays.iter().filter(|p| !known.contains(&p.payment_hash));
        let (mut complete, mut pending) = (0, 0);
        for pay in sends {
            let msat = pay.amount_msat.0;
            match pay.status {
                "complete" => complete += msat,
                "pending" => pending += msat,
                _ => {}
            }
            assert!(pay.preimage.as_ref().is_none_or(|p| Preimage::hash(p) == pay.payment_hash));
        }
        (complete, pending)
    }

    /// Each holds what it began with, less what it paid or may have paid, and at most what it was paid beside.
    fn judge_bounds(&mut self) {
        for seat in [ALICE, BOB] {
            let (complete, pending) = self.keysends(seat);
            let (got, may_get) = self.keysends(other(seat));
            let mut least = -i128::from(complete) - i128::from(pending);
            let mut most = i128::from(got) + i128::from(may_get);
            for tried in self.tried.clone() {
                let (status, paid) = self.standing(tried);
                let msat = i128::from(tried.msat);
                assert!(status != Some("complete") || paid, "{}: complete, and not paid", tried.hash);
                // One that is settled while deadlines pass may lose its race on chain, and one without an output has nothing
                // there to be raced for.
                let lost = self.forced && (tried.hold.is_some() || self.has_no_output(tried.msat));
                assert!(status != Some("failed") || !paid || lost, "{}: failed, and paid", tried.hash);
                if tried.payer == seat && matches!(status, Some("complete" | "pending")) {
                    least -= msat;
                }
                if tried.payer != seat && paid {
                    most += msat;
                }
            }
            let start = self.sum(seat, |c| c.terms.initial_balance(Side::Local).0);
            let ours = self.sum(seat, |c| c.to_us().0);
            assert!(ours >= start + least, "{seat} has {ours} of {start} and may have paid {least}");
            assert!(ours <= start + most, "{seat} has {ours} of {start} and got at most {most}");
        }
    }

    /// Whether an HTLC of so much is left to miners by some commitment of the channel.
    fn has_no_output(&self, msat: u64) -> bool {
        let channels = [ALICE, BOB].map(|seat| self.duet.seats[seat].node.channels().next());
        channels.into_iter().flatten().any(|c| {
            let dust = c.terms.local.dust_limit.max(c.terms.remote.dust_limit);
            is_trimmed(c.terms.channel_type, c.feerate(), dust, false, Msat(msat))
        })
    }

    fn end_hostile(&mut self) {
        self.judge_bounds();
        // The meddler leaves; whatever is left of the channel, nobody falls and nobody is poorer for it.
        self.duet.cut(None);
        self.duet.run();
        self.duet.wait_ms(40_000);
        self.duet.mine(2);
        self.duet.wait_ms(40_000);
        self.judge_bounds();
        for seat in [ALICE, BOB] {
            self.duet.judge_records(seat);
            self.judge_newest(seat);
        }
    }

    /// The newest commitment of each can be published, whatever was said.
    fn judge_newest(&mut self, seat: usize) {
        let open =
            |c: &&Channel| matches!(c.phase, Phase::Confirming | Phase::Open | Phase::Closing(_)) && !c.doubt;
        let ids: Vec<_> = self.duet.seats[seat].node.channels().filter(open).map(Channel::id).collect();
        for id in ids {
            let order = Command::DevSignLastTx { channel: ChannelRef::Id(id) };
            let reply = self.duet.ask_alone(seat, order);
            let Some(Ok(Reply::Tx(tx))) = reply else { panic!("no newest commitment: {reply:?}") };
            self.duet.judge_commitment(seat, id, &tx);
        }
    }

    fn end_honest(&mut self) {
        let duet = &mut self.duet;
        duet.run();
        let channels = [ALICE, BOB].map(|seat| duet.seats[seat].node.channels().count());
        if channels != [1, 1] {
            // A channel that only the accepter knows is no loss: the opener never published.
            let alone = duet.seats.iter().flat_map(|seat| seat.node.channels());
            alone.for_each(|c| {
                assert_eq!(c.terms.opener, Side::Remote, "an opener is alone with its channel")
            });
            return saw(("no channel", channels));
        }
        let unknown = duet.seats.iter().map(|seat| seat.logged("unknown channel")).sum::<usize>();
        assert_eq!(unknown, 0, "both know the channel, and one said that it does not");
        duet.mine(1);
        duet.wait_ms(61_000);
        let links = |duet: &Duet| [ALICE, BOB].iter().all(|seat| duet.channel(*seat).wants_link());
        if links(duet) {
            duet.settle();
        }
        for tried in self.tried.clone() {
            let order = Command::CancelInvoice { payment_hash: tried.hash };
            self.duet.ask_alone(other(tried.payer), order);
        }
        self.duet.run();
        self.duet.wait_ms(61_000);
        self.judge_bounds();
        let ours = self.sum(ALICE, |c| c.to_us().0) + self.sum(BOB, |c| c.to_us().0);
        assert_eq!(ours, self.sum(ALICE, |c| c.terms.capacity.to_msat().0), "money made or lost");
        for tried in self.tried.clone() {
            let (status, paid) = self.standing(tried);
            assert!(status != Some("pending"), "{} is still pending", tried.hash);
            assert_eq!(status == Some("complete"), paid, "{}: the two disagree", tried.hash);
        }
        self.duet.judge_peace();
        let phases = [ALICE, BOB].map(|seat| self.duet.channel(seat).phase.clone());
        if phases.iter().all(|phase| *phase == Phase::Open) {
            self.duet.judge_agreement();
        }
        if phases.iter().any(|phase| matches!(phase, Phase::Closing(_) | Phase::Closed(_))) {
            self.duet.mine(1);
            self.duet.wait_ms(20_000);
            for seat in [ALICE, BOB] {
                let spent = self.duet.channel(seat).spent_height();
                assert!(
                    spent.is_some(),
                    "seat {seat} does not see the close: {:?}",
                    self.duet.channel(seat).phase
                );
            }
        }
        for seat in [ALICE, BOB] {
            let log = &self.duet.seats[seat].log;
            let fault = log.iter().find(|notice| notice.text.contains("peer fault"));
            assert!(fault.is_none(), "an honest peer finds a fault: {fault:?}");
        }
    }
}

/// A transaction of any shape that spends one output.
pub fn spend(feed: &mut Feed<'_>, from: bitcoin::OutPoint) -> Transaction {
    let witness: Vec<Vec<u8>> = (0..feed.u8() % 5).map(|_| feed.piece().to_vec()).collect();
    let output = |feed: &mut Feed<'_>| TxOut {
        value: Amount::from_sat(feed.u64()),
        script_pubkey: feed.piece().to_vec().into(),
    };
    Transaction {
        version: Version(feed.u8().into()),
        lock_time: LockTime::from_consensus(feed.u32()),
        input: vec![TxIn {
            previous_output: from,
            script_sig: feed.piece().to_vec().into(),
            sequence: Sequence(feed.u32()),
            witness: Witness::from_slice(&witness),
        }],
        output: (0..feed.u8() % 6).map(|_| output(feed)).collect(),
    }
}

/// Some short plays at every stage.
pub fn schedule_seeds() -> Vec<Vec<u8>> {
    let plays: [&[u8]; 7] = [
        &[18, 1, 0x40, 0, 3, 12, 31, 18, 4, 0xff, 0xff, 1, 19, 2, 9, 9, 1, 14, 20, 26, 1, 0],
        &[42, 42, 1, 0, 0, 12, 31, 34, 12, 31, 18, 2, 8, 8, 1, 12, 31, 28, 1, 12, 31],
        &[18, 1, 1, 1, 0, 0, 0, 1, 0, 30, 1, 2, 0, 3, 1, 3, 19, 1, 7, 7, 1, 12, 20],
        &[40, 12, 31, 18, 0, 9, 9, 1, 12, 31],
        &[26, 0, 0, 27, 1, 0, 12, 31, 40, 12, 31],
        &[38, 9, 9, 18, 3, 0x80, 0, 1, 12, 31, 45, 3, 3, 12, 31, 32, 1, 12, 9],
        &[48, 36, 2, 12, 31, 46, 36, 3, 12, 31, 28, 2, 12, 31],
    ];
    let mut seeds = Vec::new();
    for stage in 0..STAGES.len() as u8 {
        for (number, play) in (0..).zip(plays) {
            seeds.push([&[stage << 2 | number & 3], play].concat());
        }
    }
    seeds
}

/// The same with a hand on the wire.
pub fn hostile_seeds() -> Vec<Vec<u8>> {
    let mut seeds = schedule_seeds();
    for (number, place) in (0..23_u8).flat_map(|kind| [(kind, 2), (kind, kind % STAGES.len() as u8)]) {
        let start = [place << 2 | number & 1, 18, 1, 0x40, 0, 1];
        seeds.push([&start[..], &[50 | number & 1, 9, number, 0, 60], &[number; 60], &[12, 9]].concat());
        let act = number % 9;
        seeds.push(vec![place << 2, 18, 1, 0x40, 0, 1, 50, act, 0, 40, 1, 51, act, 0, 3, 0x80, 12, 9]);
    }
    seeds
}
