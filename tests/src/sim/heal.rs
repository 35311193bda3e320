//! The start of a run, a first channel in peace; and, when the plan is done, everything mended, every HTLC ended, what is
//! left counted.
//!
//! In: a world in whatever state the acts left it. Out: verdicts of `live`, `money`, `agree`, `restart`, `safety`.
//! Time here is bounded: a node that needs longer than the bounds below is stuck. Read next: `finale` (what comes
//! after), `judge::money`.

use super::actors::What;
use super::judge::{self, money::Lists, Verdict};
use super::plan::{Opening, MS, SECOND};
use super::world::World;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, Side};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceFilter, Reply};
use chand_protocol::node::view::Invoice;

/// How long two mended nodes may take to talk again; a clock that was two hours wrong is no excuse.
pub(super) const LINK_US: u64 = 120 * SECOND;
/// How long HTLCs, openings and orders may take to end after that.
const END_US: u64 = 240 * SECOND;
/// How long one answer may take.
pub(super) const ANSWER_US: u64 = 30 * SECOND;

pub(super) fn stuck(words: impl Into<String>) -> Verdict {
    Verdict::new("live", words)
}

impl World {
    /// Both know the chain and each other, and share a channel.
    pub(super) fn set_up(&mut self) -> Result<(), Verdict> {
        self.run_until(self.now + 6 * SECOND)?;
        self.connect(self.knobs.first.seat);
        self.wait(LINK_US, World::is_settled)?.then_some(()).ok_or_else(|| stuck("no first link"))?;
        let first = self.knobs.first;
        let usual = Opening {
            sat: 1_000_000,
            push_msat: 300_000_000,
            anchors: first.anchors,
            feerate: 1_000,
            ..first
        };
        for opening in [first, usual] {
            self.open(opening);
            self.wait(ANSWER_US, |w| w.commands.is_empty())?;
            self.run_until(self.now + SECOND)?;
            if self.seats[first.seat].node().is_some_and(|n| n.channels().count() > 0) {
                break;
            }
        }
        self.mine(6);
        let open = |w: &World| w.shared().iter().any(|id| w.both(id).iter().all(|c| c.is_usable()));
        if !self.wait(LINK_US, open)? {
            return Err(stuck("the first channel does not open"));
        }
        self.prepare_end()?;
        self.let_loose()
    }

    /// Runs until `done`, at most so long; whether it came to that.
    pub(super) fn wait(&mut self, most_us: u64, done: impl Fn(&World) -> bool) -> Result<bool, Verdict> {
        let end = self.now + most_us;
        while !done(self) {
            let Some(next) = self.next_at().filter(|at| *at <= end) else {
                self.now = end;
                return Ok(done(self));
            };
            self.run_until(next)?;
        }
        Ok(true)
    }

    /// Both are linked, and every channel of either knows where it stands.
    pub(super) fn is_settled(&self) -> bool {
        self.net.is_linked()
            && (0..2).all(|seat| {
                let peer = self.seats[1 - seat].id;
                self.seats[seat].node().is_some_and(|n| n.is_settled_with(&peer))
            })
    }

    /// Channels that both know.
    pub(super) fn shared(&self) -> Vec<ChannelId> {
        let ids =
            |seat: usize| self.seats[seat].node().into_iter().flat_map(|n| n.channels()).map(Channel::id);
        let bobs: Vec<ChannelId> = ids(1).collect();
        ids(0).filter(|id| bobs.contains(id)).collect()
    }

    pub(super) fn both(&self, id: &ChannelId) -> Vec<&Channel> {
        self.seats.iter().filter_map(|s| s.node()?.channel(id)).collect()
    }

    /// Nothing is under way between the two, on their disks or in their cores.
    pub(super) fn is_quiet(&self) -> bool {
        let still = |seat: usize| {
            self.seats[seat].life.as_ref().is_some_and(|life| {
                life.inbox.is_empty()
                    && life.queue.is_empty()
                    && life.writing.is_empty()
                    && life.publishing.is_empty()
            })
        };
        self.net.is_quiet() && still(0) && still(1)
    }

    /// Everything is mended, everything ends, everything is counted.
    pub(super) fn heal(&mut self) -> Result<(), Verdict> {
        self.mend()?;
        if self.knobs.liar.is_some() {
            self.judge_lies()?;
        }
        if let Some(cheat) = self.feud.cheat {
            return self.punish(cheat);
        }
        self.relink()?;
        if !self.is_ruined() {
            self.let_blocks_come()?;
        }
        self.end_htlcs()?;
        if !self.is_ruined() {
            self.resolve_all()?;
        }
        let lists = self.lists()?;
        self.judge_waiting(&lists)?;
        for id in self.shared() {
            judge::safety::could_punish(self, id)?;
        }
        if !self.is_ruined() {
            judge::money::settle_up(self, &lists)?;
            for id in self.sound() {
                judge::agree::quiet(self, id)?;
                self.judge_capacity(id)?;
            }
            self.judge_newest()?;
            self.leave_alone()?;
            if self.knobs.close {
                self.close_all()?;
            }
            self.end_on_chain()?;
            self.look_back()?;
        } else if let Some(liar) = self.knobs.liar {
            judge::money::not_robbed(self, 1 - liar, &lists)?;
        }
        self.forget_closed()?;
        for seat in 0..2 {
            judge::restart::kept(self, seat)?;
            let entries = self.seats[seat].store.durable();
            let node = judge::restart::born(self, seat, entries)?;
            judge::durable::knows(self, seat, &node)?;
        }
        self.put_back()
    }

    /// No new fault, and an end to all that last.
    fn mend(&mut self) -> Result<(), Verdict> {
        self.cheat.reformed = true;
        for seat in 0..2 {
            let place = &mut self.seats[seat];
            place.death = None;
            place.troubles.clear();
            place.slow = None;
            // Whoever keeps the machine sets its clock right.
            place.clock_off_ms = 0;
            self.knobs.lag_us[seat] = self.knobs.lag_us[seat].min(100 * MS);
            self.start(seat)?;
            self.on_back(seat);
        }
        self.end_silence();
        self.end_feud();
        if self.knobs.liar.is_some() {
            // What it left unsaid it says on the next link.
            self.cut([100, 100]);
        }
        self.run_until(self.now + 12 * SECOND)
    }

    /// A user calls where the nodes do not by themselves.
    pub(super) fn relink(&mut self) -> Result<(), Verdict> {
        for turn in 0..4 {
            if self.wait(LINK_US / 4, World::is_settled)? {
                return Ok(());
            }
            for seat in 0..2 {
                if !self.is_settled() && (turn + seat) % 2 == 0 {
                    self.connect(seat);
                }
            }
        }
        if self.is_ruined() {
            return Ok(());
        }
        let state = [0, 1].map(|s| {
            format!("{:?}", self.seats[s].node().map(|n| n.channels().map(|c| c.link).collect::<Vec<_>>()))
        });
        Err(stuck(format!("two mended nodes find no common state: {}", state.join(" and "))))
    }

    /// Every opening confirms, every payment is decided, every held one given back.
    fn end_htlcs(&mut self) -> Result<(), Verdict> {
        let end = self.now + if self.is_ruined() { END_US / 4 } else { END_US };
        let by_blocks = self.knobs.liar.is_none() && self.counts.steps.is_multiple_of(5);
        let mut turn = 0;
        while self.now < end {
            self.run_until(self.now + 5 * SECOND)?;
            if turn > 7 && self.is_ended() {
                return Ok(());
            }
            // Enough for every opening; what is to end by time alone must not be ended by blocks.
            if turn % 4 == 0 && turn <= 16 {
                self.mine(1);
            }
            if turn >= 5 && by_blocks {
                // Nobody decides: what is held goes back before it expires.
                self.mine(2);
            } else if turn >= 5 {
                let holds: Vec<usize> =
                    self.judges.book.tries.iter().filter(|(_, t)| t.hold).map(|(n, _)| *n).collect();
                for number in holds {
                    self.cancel(number);
                }
            }
            turn += 1;
        }
        if self.is_ruined() {
            return Ok(());
        }
        Err(stuck(self.what_is_left()))
    }

    fn is_ended(&self) -> bool {
        let ended = |c: &&Channel| match c.phase {
            Phase::Open => c.is_usable() && c.ledger.htlcs.is_empty() && !c.commits.awaiting_revoke,
            Phase::Closed(_) | Phase::Onchain(_) => true,
            Phase::Confirming | Phase::Closing(_) => false,
        };
        let channels = self.shared().iter().all(|id| self.both(id).iter().all(ended));
        self.is_quiet() && self.is_answered() && channels
    }

    pub(super) fn what_is_left(&self) -> String {
        let mut words = Vec::new();
        for id in self.shared() {
            for (channel, name) in self.both(&id).into_iter().zip(["Alice", "Bob"]) {
                let htlcs: Vec<String> = channel
                    .ledger
                    .htlcs
                    .values()
                    .map(|h| format!("{:?} {} {}", h.id.offered_by, h.id.id, h.step.name(h.id.offered_by)))
                    .collect();
                let state = channel.state_name().name();
                words.push(format!("{name}: {state}, link {:?}, HTLCs {htlcs:?}", channel.link));
            }
        }
        let asked: Vec<String> = self.commands.values().map(|a| format!("{:?}", a.what)).collect();
        format!("not all has ended after {} s: {}; unanswered {asked:?}", END_US / SECOND, words.join("; "))
    }

    /// A channel may be dead, by a lie that allows it.
    pub(super) fn is_ruined(&self) -> bool {
        self.knobs.liar.is_some() && self.cheat.may_ruin()
    }

    fn judge_lies(&self) -> Result<(), Verdict> {
        let Some(liar) = self.knobs.liar else { return Ok(()) };
        let honest = &self.seats[1 - liar];
        for (lie, before, life) in &self.cheat.unheard {
            if *life == honest.lives && self.cheat.complaints <= *before {
                return Err(Verdict::new(
                    "safety",
                    format!("{} did not complain about {lie:?}", honest.name),
                ));
            }
        }
        let forced = |c: &Channel| {
            let ours = matches!(&c.phase, Phase::Onchain(o) if o.owner == Some(Side::Local));
            ours && !self.feud.struck.contains(&c.id())
        };
        let forced = honest.node().is_some_and(|n| n.channels().any(|c| forced(c) && c.confirmed.is_some()));
        if forced && !self.cheat.may_fail() {
            let told = &self.cheat.arrived;
            return Err(Verdict::new("safety", format!("{} closed by force over {told:?}", honest.name)));
        }
        Ok(())
    }

    /// Whenever all happens to be quiet, both sides agree on everything.
    pub(super) fn judge_quiet(&mut self) -> Result<(), Verdict> {
        if self.knobs.liar.is_some() || !self.is_settled() || !self.is_quiet() {
            return Ok(());
        }
        self.counts.quiet += 1;
        for id in self.sound() {
            judge::agree::quiet(self, id)?;
            self.judge_capacity(id)?;
        }
        Ok(())
    }

    fn judge_capacity(&self, id: ChannelId) -> Result<(), Verdict> {
        let both = self.both(&id);
        let sum: u64 = both.iter().map(|c| c.to_us().0).sum();
        let capacity = both.first().map_or(0, |c| c.terms.capacity.to_msat().0);
        if sum != capacity {
            return Err(Verdict::new("money", format!("{sum} msat in a channel of {capacity}")));
        }
        Ok(())
    }

    /// The newest commitments are those that were signed.
    fn judge_newest(&mut self) -> Result<(), Verdict> {
        for id in self.sound() {
            for seat in 0..2 {
                let number =
                    self.seats[seat].node().and_then(|n| n.channel(&id)).map(|c| c.commits.local_number);
                let reply = self.look(seat, Command::DevSignLastTx { channel: ChannelRef::Id(id) })?;
                let (Some(number), Reply::Tx(tx)) = (number, reply) else { continue };
                judge::agree::given_up(self, seat, id, number, &tx)?;
            }
        }
        Ok(())
    }

    /// Whoever still waits for an invoice waits for one that is not paid.
    fn judge_waiting(&self, lists: &Lists) -> Result<(), Verdict> {
        for asked in self.commands.values() {
            let What::Await { label } = &asked.what else { continue };
            let paid = |i: &&Invoice| i.label == *label && i.status == "paid";
            if lists.invoices[asked.seat].iter().any(|i| paid(&i)) {
                let words = format!("invoice {label} is paid, and who waits for it was not told");
                return Err(Verdict::new("reply", words));
            }
        }
        Ok(())
    }

    fn lists(&mut self) -> Result<Lists, Verdict> {
        let mut lists = Lists { pays: Default::default(), invoices: Default::default() };
        for seat in 0..2 {
            if let Reply::Pays(list) =
                self.look(seat, Command::ListPays { payment_hash: None, bolt11: None })?
            {
                lists.pays[seat] = list;
            }
            if let Reply::Invoices(list) = self.look(seat, Command::ListInvoices(InvoiceFilter::default()))? {
                lists.invoices[seat] = list;
            }
            if let Reply::Balance(list) = self.look(seat, Command::Balance)? {
                judge::money::balance(&list)?;
            }
        }
        Ok(lists)
    }
}
