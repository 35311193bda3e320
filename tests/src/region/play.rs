//! Doing what a plan says.
//!
//! In: a plan. Out: a town in whatever state that leads to, and a book of what was to be paid. Every act comes after some
//! steps, not after quiet: payments, faults and blocks overlap. Read next: `heal`.

use super::estate::Wealth;
use super::judge::BIG_MSAT;
use super::marks::Marks;
use super::plan::{Act, Edge, Fate, Plan, Spoil, Terms};
use crate::duet::play::{preimage, request, Open};
use crate::duet::Answer;
use crate::sim::rng::Rng;
use crate::sim::trace::Trace;
use crate::sim::Verdict;
use crate::town::Town;
use bitcoin::Transaction;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, CommandId, PaymentHash, Preimage, ShortChannelId};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::effect::Input;
use chand_protocol::node::view;
use chand_protocol::units::{Msat, Timestamp};
use chand_storage::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks before anything happens: no reorganisation reaches the channels' beginnings.
const FIRST_BLOCKS: u32 = 12;
/// The payee's expiry on explicit routes, in blocks: more than invoices ask for, fewer than any deadline needs.
const LAST_BLOCKS: u32 = 40;
/// How long whoever closes waits: a reorganisation brings six blocks at once, and more may follow before a victim has read them.
const DELAY_BLOCKS: u16 = 12;
/// A node may stand still so long and still be in time: fewer than the delay of a cheat.
const SHORT_BLOCKS: u32 = 4;
/// Steps between two looks while acts wait.
const LOOK_EVERY: u32 = 25;

/// One invoice and who is to pay it.
#[derive(Clone, Debug)]
pub struct Owed {
    /// Who was told to pay first.
    pub payer: usize,
    /// Whom.
    pub payee: usize,
    /// How much.
    pub msat: u64,
    /// The most it may cost.
    pub max_fee: Option<u64>,
    /// The invoice.
    pub invoice: view::Invoice,
    /// It does not name its maker.
    pub hidden: bool,
    /// The route that was given, if any, was wrong in this way.
    pub spoil: Option<Spoil>,
    /// Others who were told to pay it, too.
    pub others: BTreeSet<usize>,
    /// Of a hold invoice: its secret and its end.
    pub hold: Option<(Preimage, Fate)>,
}

impl Owed {
    /// Several were told to pay it: parts of all of them may make up one payment.
    pub fn is_contested(&self) -> bool {
        !self.others.is_empty()
    }
}

/// An order whose answer is awaited: of whom, in which of its lives, for what.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub(super) id: CommandId,
    pub(super) seat: usize,
    pub(super) life: u64,
}

/// A plan being played.
#[derive(Debug)]
pub struct Region {
    /// The plan.
    pub plan: Plan,
    /// The nodes.
    pub town: Town,
    /// What was seen.
    pub marks: Marks,
    /// Payments that were complete, and those that were not.
    pub paid: (u64, u64),
    /// Channels, as the plan has them.
    pub ids: Vec<ChannelId>,
    /// Who cheats or sleeps: what befalls it is its own doing.
    pub guilty: BTreeSet<usize>,
    pub(super) owed: BTreeMap<PaymentHash, Owed>,
    pub(super) order: Vec<PaymentHash>,
    pub(super) asked: Vec<Asked>,
    /// All that an end of a channel ever asked for.
    pub(super) terms: BTreeMap<(usize, ShortChannelId), Vec<Terms>>,
    pub(super) died: Vec<Vec<Timestamp>>,
    pub(super) refused: Vec<Vec<Timestamp>>,
    pub(super) struck: BTreeMap<ChannelId, Timestamp>,
    pub(super) start: Vec<Wealth>,
    copies: Vec<(usize, usize, u64, Transaction)>,
    /// The cheat's channel, and whether something went through it then.
    pub(super) crime: Option<(ChannelId, bool)>,
}

impl Region {
    /// The town of a plan, with all channels open.
    pub fn new(plan: &Plan, lines: bool) -> Region {
        let quick = |_: usize, config: &mut chand_protocol::node::NodeConfig| {
            config.to_self_delay_blocks = DELAY_BLOCKS
        };
        let mut town = match plan.real {
            true => Town::new(plan.people, plan.seed, quick),
            false => Town::counterfeit(plan.people, plan.seed, quick),
        };
        town.check_every = 8;
        // Complaints are read at the end.
        town.expected_errors.push("");
        let ids = plan.edges.iter().map(|edge| open(&mut town, edge)).collect();
        town.mine(FIRST_BLOCKS);
        town.trace = Trace::new(lines);
        let mut region = Region {
            plan: plan.clone(),
            marks: Marks::default(),
            paid: (0, 0),
            ids,
            guilty: BTreeSet::new(),
            owed: BTreeMap::new(),
            order: Vec::new(),
            asked: Vec::new(),
            terms: BTreeMap::new(),
            died: vec![Vec::new(); plan.people],
            refused: vec![Vec::new(); plan.people],
            struck: BTreeMap::new(),
            start: Vec::new(),
            copies: Vec::new(),
            crime: None,
            town,
        };
        region.start = (0..plan.people).map(|seat| region.wealth(seat)).collect();
        for (place, edge) in plan.edges.iter().enumerate() {
            for end in 0..2 {
                region.note_terms(place, end, edge.terms[end]);
            }
        }
        region
    }

    /// The whole plan, then the end of everything.
    ///
    /// # Errors
    /// What a judge found.
    pub fn play(&mut self) -> Result<(), Verdict> {
        for timed in self.plan.acts.clone() {
            for turn in 0..timed.turns {
                if turn % LOOK_EVERY == 0 {
                    self.look()?;
                }
                self.note_deaths();
                if !self.town.turn() {
                    break;
                }
            }
            let now = self.town.now.0;
            self.town.trace.note(now, b"act", || format!("-- {:?}", timed.act));
            self.act(timed.act);
            self.look()?;
        }
        self.heal()?;
        self.judge()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Pay { from, to, msat, hold, most } => self.pay(from, to, msat, hold, most),
            Act::Keysend { from, to, msat } => {
                let (destination, limits) = (self.town.seats[to].id, RouteLimits::default());
                let amount_msat = Msat(msat);
                let order =
                    Command::Keysend { destination, amount_msat, label: None, retry_for_s: 60, limits };
                self.tell(from, order);
            }
            Act::Along { from, walk, msat, spoil } => self.along(from, walk, msat, spoil),
            Act::Again { which, other } => self.again(which, other),
            Act::Decide { which } => {
                if let Some(hash) = self.drawn(which) {
                    self.decide(hash);
                }
            }
            Act::Crash { seat, steps, when } => {
                let step = self.town.seats[seat].steps + steps;
                self.town.crashes.push((seat, step, when));
            }
            Act::Cut { edge } => {
                let [a, b] = self.plan.edges[edge].ends;
                self.town.part(a, b, "the link was cut");
            }
            Act::Silence { seat } => self.town.silence(seat),
            Act::Hear => {
                self.town.silent.clear();
                self.town.mute.clear();
            }
            Act::Disk { seat, way } => {
                let fault = [Fault::FailBefore, Fault::FailAfter, Fault::FailSync][way as usize % 3];
                self.refused[seat].push(self.town.now);
                self.town.disk(seat, Some(fault));
            }
            Act::DisksWork => (0..self.plan.people).for_each(|seat| self.town.disk(seat, None)),
            Act::Burst { blocks } => (0..blocks).for_each(|_| self.town.chain.mine()),
            Act::Pass { blocks } => {
                for _ in 0..blocks {
                    self.town.mine(1);
                    self.note_deaths();
                    self.note_closes();
                }
                // Here a node whose disk refuses stands still: so long, that is as bad as sleep (bin sim has one that goes on claiming).
                if blocks > SHORT_BLOCKS {
                    self.guilty.extend((0..self.plan.people).filter(|seat| self.town.is_stuck(*seat)));
                }
            }
            Act::Reorg { depth, forget } => self.reorg(depth, forget),
            Act::Close { edge, end, force } => self.close(edge, end, force),
            Act::Copy { edge, end } => self.lay_aside(edge, end),
            Act::Cheat => self.cheat(),
            Act::Sleep { seat } => {
                self.guilty.insert(seat);
                self.town.silence(seat);
                self.town.mute.insert(seat);
                self.marks.see("a node slept through deadlines");
            }
            Act::Clock { ms } => {
                self.town.now = Timestamp(self.town.now.0.saturating_add_signed(ms));
            }
            Act::Wait { ms } => self.town.wait_ms(ms),
            Act::Terms { edge, end, base } => {
                let channel = Some(ChannelRef::Id(self.ids[edge]));
                let seat = self.plan.edges[edge].ends[end];
                let terms = Terms { base, ..self.plan.edges[edge].terms[end] };
                self.note_terms(edge, end, terms);
                self.at_once(seat, set_channel(channel, terms));
            }
        }
    }

    /// An order whose answer is awaited.
    fn tell(&mut self, seat: usize, order: Command) {
        let id = self.town.tell(seat, order);
        self.asked.push(Asked { id, seat, life: self.town.deaths[seat] });
    }

    /// An order that a node takes before anything else, and its answer when there is one at once.
    pub(super) fn at_once(&mut self, seat: usize, command: Command) -> Option<Answer> {
        let id = self.town.tell(seat, command);
        let inbox = &mut self.town.seats[seat].inbox;
        let input = inbox.pop_back()?;
        let Input::Command { .. } = &input else { return None };
        self.town.step(seat, vec![input]);
        self.town.answer(id)
    }

    /// An invoice, which does not name its maker when that is wanted and possible.
    fn bill(
        &mut self,
        payee: usize,
        msat: u64,
        fate: Option<Fate>,
        hidden: bool,
    ) -> Option<(view::Invoice, bool)> {
        let number = self.order.len() as u64;
        let label = format!("{number}");
        let hold = fate.map(|_| preimage(number).hash());
        let blinded = hidden.then(|| self.town.asked_for(payee));
        let wish = InvoiceRequest { hold, blinded, ..request(&label, Some(msat)) };
        match self.at_once(payee, Command::Invoice(wish)) {
            Some(Ok(Reply::Invoice(invoice))) => Some((invoice, hidden)),
            Some(Err(_)) if hidden => self.bill(payee, msat, fate, false),
            _ => None,
        }
    }

    fn owe(&mut self, owed: Owed) {
        let hash = owed.invoice.payment_hash;
        self.order.push(hash);
        self.owed.insert(hash, owed);
    }

    fn pay(&mut self, payer: usize, payee: usize, msat: u64, hold: Option<Fate>, most: Option<u64>) {
        let number = self.order.len() as u64;
        let Some((invoice, hidden)) = self.bill(payee, msat, hold, number % 3 == 2) else { return };
        let max_fee = most.map(|most| 5_000 + msat / 1_000 * most);
        let order = pay(&invoice, max_fee);
        let hold = hold.map(|fate| (preimage(number), fate));
        self.owe(Owed {
            payer,
            payee,
            msat,
            max_fee,
            invoice,
            hidden,
            spoil: None,
            others: BTreeSet::new(),
            hold,
        });
        self.tell(payer, order);
    }

    fn along(&mut self, payer: usize, walk: u64, msat: u64, spoil: Spoil) {
        let mut rng = Rng::new(walk, 9);
        let mut way = vec![payer];
        for _ in 0..rng.between(2, 5) {
            let last = way[way.len() - 1];
            let next = |edge: &Edge| {
                let at = edge.ends.iter().position(|end| *end == last)?;
                Some(edge.ends[1 - at]).filter(|other| !way.contains(other))
            };
            let choice: Vec<usize> = self.plan.edges.iter().filter_map(next).collect();
            if choice.is_empty() {
                break;
            }
            way.push(*rng.pick(&choice));
        }
        if way.len() < 2 {
            return;
        }
        let payee = way[way.len() - 1];
        let Some((invoice, hidden)) = self.bill(payee, msat, None, false) else { return };
        let mut route = self.town.route(&way, msat, LAST_BLOCKS);
        let (last, hop) = (route.len() - 1, rng.below(route.len() as u64 - 1) as usize);
        match spoil {
            Spoil::Nothing => {}
            Spoil::FeeLess => route[hop].amount_msat = Msat(route[hop].amount_msat.0.saturating_sub(1)),
            // A payee alone would have it itself.
            Spoil::FeeMore if last == 0 => {}
            Spoil::FeeMore => route[0].amount_msat = Msat(route[0].amount_msat.0 + 1),
            Spoil::DeltaLess => route[hop].delay_blocks -= 1,
            Spoil::Channel => route[last].channel = Some(ShortChannelId(1 << 40)),
            Spoil::AmountLess => route[last].amount_msat = Msat(msat / 2),
        }
        let order = Town::send_pay(route, &invoice);
        let spoil = Some(spoil);
        self.owe(Owed {
            payer,
            payee,
            msat,
            max_fee: None,
            invoice,
            hidden,
            spoil,
            others: BTreeSet::new(),
            hold: None,
        });
        self.tell(payer, order);
    }

    fn again(&mut self, which: u64, other: bool) {
        let Some(hash) = self.drawn(which) else { return };
        let people = self.plan.people;
        let Some(owed) = self.owed.get_mut(&hash) else { return };
        let mut payer = owed.payer;
        if other {
            payer = (payer + 1) % people;
            if payer == owed.payee {
                payer = (payer + 1) % people;
            }
        }
        if payer != owed.payer {
            owed.others.insert(payer);
        }
        // Of the same payer's two tries each has a limit of its own.
        owed.max_fee = None;
        let order = pay(&owed.invoice, None);
        self.marks.see("an invoice was to be paid twice");
        self.tell(payer, order);
    }

    fn drawn(&self, which: u64) -> Option<PaymentHash> {
        let place = which.checked_rem(self.order.len() as u64)?;
        self.order.get(place as usize).copied()
    }

    /// A hold invoice's end, if it has come; asked again when it has not.
    pub(super) fn decide(&mut self, hash: PaymentHash) {
        let Some(owed) = self.owed.get(&hash) else { return };
        let payee = owed.payee;
        let order = match &owed.hold {
            Some((preimage, Fate::Settle)) => Command::SettleInvoice { preimage: preimage.clone() },
            Some((_, Fate::Cancel)) => Command::CancelInvoice { payment_hash: hash },
            _ => return,
        };
        self.tell(payee, order);
    }

    fn reorg(&mut self, depth: u32, forget: bool) {
        let under_way = (0..self.plan.people).any(|seat| self.forwards_now(seat));
        let born = self.town.chain.height() - depth;
        let strikes = |c: &Channel| {
            let height = c.spent_height().map(|h| h.0);
            height.is_some_and(|h| h > born) && !c.ledger.htlcs.is_empty()
        };
        let close = self.town.seats.iter().any(|s| s.node.channels().any(strikes));
        (0..depth).for_each(|_| self.town.chain.unmine(forget));
        (0..=depth).for_each(|_| self.town.chain.mine());
        if under_way {
            self.marks.see("blocks left the chain while forwards were under way");
        }
        if under_way && close {
            self.marks.see("blocks left the chain with a close under forwards");
        }
    }

    /// Whether HTLCs are on their way through a node.
    fn forwards_now(&mut self, seat: usize) -> bool {
        let rows = match self.at_once(seat, Command::ListForwards) {
            Some(Ok(Reply::Forwards(rows))) => rows,
            _ => return false,
        };
        rows.iter().any(|row| row.status == "offered")
    }

    /// That channel, or one in which something is under way that has an output.
    fn busy(&self, edge: usize) -> usize {
        let busy = |place: &usize| {
            let seat = self.plan.edges[*place].ends[0];
            let channel = self.town.seats[seat].node.channel(&self.ids[*place]);
            channel.filter(|c| c.phase == Phase::Open).is_some_and(|c| {
                c.ledger.htlcs.values().any(|h| h.removal.is_none() && h.amount.0 >= BIG_MSAT)
            })
        };
        let all: Vec<usize> = (0..self.ids.len()).filter(busy).collect();
        edge.checked_rem(all.len()).map_or(edge, |at| all[at])
    }

    fn close(&mut self, edge: usize, end: usize, force: bool) {
        let edge = self.busy(edge);
        let channel = ChannelRef::Id(self.ids[edge]);
        let seat = self.plan.edges[edge].ends[end];
        if force && self.forwards_now(seat) {
            self.marks.see("a channel was closed by force in a forward");
        }
        let order = match force {
            true => Command::DevFail { channel },
            false => Command::Close { channel, unilateral_timeout_s: 30, destination: None, feerange: None },
        };
        let _answer = self.at_once(seat, order);
    }

    fn lay_aside(&mut self, edge: usize, end: usize) {
        let (seat, id) = (self.plan.edges[edge].ends[end], self.ids[edge]);
        let Some(number) = self.town.seats[seat].node.channel(&id).map(|c| c.commits.local_number) else {
            return;
        };
        let order = Command::DevSignLastTx { channel: ChannelRef::Id(id) };
        if let Some(Ok(Reply::Tx(tx))) = self.at_once(seat, order) {
            self.copies.push((seat, edge, number, tx));
        }
    }

    /// Publishes the first copy that is old by now, one of a channel with something under way if there is any.
    fn cheat(&mut self) {
        let copies = std::mem::take(&mut self.copies);
        let old = |(seat, edge, number, _): &&(usize, usize, u64, Transaction)| {
            let channel = self.town.seats[*seat].node.channel(&self.ids[*edge]);
            channel.is_some_and(|c| c.phase == Phase::Open && c.commits.local_number > number + 1)
        };
        let old: Vec<_> = copies.iter().filter(old).collect();
        let busy = old.iter().find(|(_, edge, ..)| self.busy(*edge) == *edge);
        let Some((seat, edge, _, tx)) = busy.or(old.first()).copied().cloned() else { return };
        let id = self.ids[edge];
        let scid = self.town.seats[seat].node.channel(&id).and_then(Channel::short_channel_id);
        let rows = match self.at_once(seat, Command::ListForwards) {
            Some(Ok(Reply::Forwards(rows))) => rows,
            _ => Vec::new(),
        };
        let through = rows
            .iter()
            .any(|row| row.status == "offered" && (row.in_channel == scid || row.out_channel == scid));
        let signed = self.plan.real;
        if self.town.chain.offer(&tx, signed).is_ok_and(|taken| taken.is_ok()) {
            self.guilty.insert(seat);
            self.crime = Some((id, through));
        }
    }

    fn note_terms(&mut self, edge: usize, end: usize, terms: Terms) {
        let seat = self.plan.edges[edge].ends[end];
        let channel = self.town.seats[seat].node.channel(&self.ids[edge]);
        if let Some(scid) = channel.and_then(Channel::short_channel_id) {
            self.terms.entry((seat, scid)).or_default().push(terms);
        }
    }

    pub(super) fn note_deaths(&mut self) {
        for seat in 0..self.plan.people {
            while (self.died[seat].len() as u64) < self.town.deaths[seat] {
                self.died[seat].push(self.town.now);
            }
        }
    }

    pub(super) fn note_closes(&mut self) {
        let now = self.town.now;
        for channel in self.town.seats.iter().flat_map(|s| s.node.channels()) {
            if matches!(channel.phase, Phase::Onchain(_)) {
                self.struck.entry(channel.id()).or_insert(now);
            }
        }
    }
}

fn pay(invoice: &view::Invoice, max_fee: Option<u64>) -> Command {
    let limits = RouteLimits { max_fee: max_fee.map(Msat), ..RouteLimits::default() };
    Command::Pay { bolt11: invoice.bolt11.clone(), amount_msat: None, label: None, retry_for_s: 60, limits }
}

fn set_channel(channel: Option<ChannelRef>, terms: Terms) -> Command {
    Command::SetChannel {
        channel,
        fee_base_msat: Some(terms.base),
        fee_ppm: Some(terms.ppm),
        htlc_min_msat: None,
        htlc_max_msat: None,
    }
}

/// Opens a channel on the terms of both ends: blocks by the configuration of the moment, fees by order.
fn open(town: &mut Town, edge: &Edge) -> ChannelId {
    for end in 0..2 {
        let (seat, delta) = (edge.ends[end], edge.terms[end].delta);
        town.seats[seat].configure(|config| config.cltv_delta_blocks = delta);
        town.restart(seat);
    }
    let push_msat = edge.sat * 10 * edge.push;
    let wish = Open { sat: edge.sat, push_msat, anchors: edge.anchors, ..Open::default() };
    let id = town.open(edge.ends[0], edge.ends[1], wish);
    for end in 0..2 {
        town.must(edge.ends[end], set_channel(Some(ChannelRef::Id(id)), edge.terms[end]));
    }
    id
}
