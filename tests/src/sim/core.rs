//! How a node runs: the core takes all that waits and makes one step; the disk keeps all batches that wait with one
//! write; what depended on them leaves. Both go on at once, as the daemon's two threads do.
//!
//! In: events for a seat, planned deaths, troubles of the disk. Out: steps, writes, releases, dead and reborn nodes.
//! Nothing leaves but through `Batch::release`. Read next: `net` (where messages go), `judge`.

use super::judge::{self, Verdict};
use super::plan::{Trouble, When};
use super::seat::{Death, Event};
use super::world::{Happening, World};
use chand_protocol::id::CommandId;
use chand_protocol::node::effect::{After, FundAmount, Input};
use chand_protocol::node::step;
use chand_protocol::store::{Batch, Durable, StoreError};
use chand_storage::Fault;
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Batches that may wait for the disk; the core then waits, too (the daemon's number).
const BATCH_QUEUE: usize = 16;
/// The daemon's waits after a write that failed.
const FIRST_RETRY_US: u64 = 100_000;
const LONGEST_RETRY_US: u64 = 5_000_000;
/// The shortest wait after a step that time alone asked for.
const SHORTEST_WAIT_US: u64 = 10_000;

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of this thread are kept as words instead of being printed.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|info| {
        LAST_PANIC.with(|words| *words.borrow_mut() = info.to_string().replace('\n', " "));
    }));
}

/// What the last panic said.
pub fn last_panic() -> String {
    LAST_PANIC.with(|words| words.borrow().clone())
}

impl World {
    /// Puts something before a core.
    pub fn give(&mut self, seat: usize, event: Event) {
        if let Some(life) = &mut self.seats[seat].life {
            life.inbox.push_back(event);
            self.wake(seat, self.now);
        }
    }

    /// The core looks at its inbox then, or when it is done with what it computes.
    pub fn wake(&mut self, seat: usize, at: u64) {
        let lives = self.seats[seat].lives;
        let Some(life) = &mut self.seats[seat].life else { return };
        let at = at.max(life.busy_until).max(self.now);
        if life.wake_at.is_none_or(|planned| at < planned) {
            life.wake_at = Some(at);
            self.heap.push(at, Happening::Wake { seat, life: lives });
        }
    }

    /// One step of a core.
    pub(super) fn on_wake(&mut self, seat: usize) -> Result<(), Verdict> {
        let now = self.now;
        let Some(life) = &mut self.seats[seat].life else { return Ok(()) };
        if life.wake_at != Some(now) {
            return Ok(());
        }
        life.wake_at = None;
        // It waits for the disk, and is woken when that took something.
        if life.queue.len() >= BATCH_QUEUE || life.reload {
            return Ok(());
        }
        let idle = life.inbox.is_empty();
        let events: Vec<Event> = life.inbox.drain(..).collect();
        let inputs: Vec<Input> = events.into_iter().filter_map(|event| self.taken(seat, event)).collect();
        let clock = self.seats[seat].clock(now);
        let prepare = self.knobs.prepare;
        let place = &mut self.seats[seat];
        place.steps += 1;
        self.counts.steps += 1;
        let step_us = 1 + place.rng.below(place_step(self.knobs.step_us[seat]));
        let Some(life) = &mut place.life else { return Ok(()) };
        let forced = judge::estate::before_blocks(&life.node, &inputs);
        let stepped = catch_unwind(AssertUnwindSafe(|| step(&mut life.node, clock, inputs)));
        let Ok(batch) = stepped else { return Err(Verdict::new("panic", last_panic())) };
        if prepare {
            life.node.prepare();
        }
        life.busy_until = now + step_us;
        if self.is_judged(seat) {
            judge::estate::forgotten(self, seat, &forced)?;
        }
        self.claim_early(seat, &batch)?;
        if let Some(death) = self.seats[seat].dies(|when| when == When::BeforeWrite) {
            drop(batch);
            return self.die(seat, death);
        }
        if !batch.is_empty() {
            self.enqueue(seat, batch);
        }
        self.plan_wake(seat, idle);
        Ok(())
    }

    /// When time alone asks for a step.
    fn plan_wake(&mut self, seat: usize, idle: bool) {
        let now = self.now;
        let place = &self.seats[seat];
        let Some(at) = place.node().and_then(|node| node.next_deadline()) else { return };
        let at = place.when_clock_shows(at).max(if idle { now + SHORTEST_WAIT_US } else { now });
        self.wake(seat, at);
    }

    /// What an event is for the node; `None` when it is for somebody else.
    fn taken(&mut self, seat: usize, event: Event) -> Option<Input> {
        let peer = self.seats[1 - seat].id;
        let place = &mut self.seats[seat];
        let life = place.life.as_mut()?;
        match event {
            Event::Input(input) => Some(*input),
            Event::Up { link, inbound } => {
                life.known.insert(link);
                let address = if inbound { "127.0.0.1:40000".into() } else { super::net::address(1 - seat) };
                Some(Input::Linked { peer, link, inbound, address })
            }
            Event::Frame { link, input } => life.known.contains(&link).then_some(*input),
            Event::Down { link, reason } => {
                life.known.remove(&link).then_some(Input::Unlinked { peer, link, reason })
            }
            Event::Fund { channel, to, sat, feerate } => {
                let crypto = super::seat::crypto(self.knobs.signing);
                let made = place.wallet.fund(to, sat, feerate, &self.chain, &*crypto);
                let (result, wallet) = match made {
                    Ok((funded, note)) => (Ok(funded), Some(note)),
                    Err(why) => (Err(why), None),
                };
                Some(Input::Funded { channel, result, wallet })
            }
            Event::Attach { order } => {
                let crypto = super::seat::crypto(self.knobs.signing);
                let made = place.wallet.attach(&order, &self.chain, &*crypto);
                let (result, wallet) = match made {
                    Ok((tx, note)) => (Ok(tx), Some(note)),
                    Err(why) => (Err(why), None),
                };
                let (channel, claim) = (order.channel, order.claim);
                let spare_coins = place.wallet.spare(&self.chain);
                Some(Input::Attached { channel, claim, result, spare_coins, wallet })
            }
            Event::Unreserve { txid } => {
                place.wallet.unreserve(&txid);
                None
            }
        }
    }

    /// What needs no record leaves before the disk is asked, as the daemon does it; nobody is told of the answer.
    fn claim_early(&mut self, seat: usize, batch: &Batch) -> Result<(), Verdict> {
        for claim in batch.claims() {
            let (tx, _) = claim.into_parts();
            if self.seats[seat].reachable {
                let _taken = self.offer(seat, &tx)?;
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, seat: usize, batch: Batch) {
        let Some(life) = &mut self.seats[seat].life else { return };
        life.queue.push_back(batch);
        if life.writing.is_empty() {
            self.begin_write(seat);
        }
    }

    /// The disk takes all that waits.
    fn begin_write(&mut self, seat: usize) {
        let (now, lives) = (self.now, self.seats[seat].lives);
        let (low, high) = self.knobs.sync_us[seat];
        let place = &mut self.seats[seat];
        let time = match place.slow {
            Some((until, slow_us)) if now < until => slow_us,
            _ => place.rng.between(low, high),
        };
        let Some(life) = &mut place.life else { return };
        life.writing = life.queue.drain(..).collect();
        let records = life.writing.iter().any(|batch| !batch.records().is_empty());
        let at = if records { now + time } else { now };
        self.heap.push(at, Happening::Written { seat, life: lives });
        self.wake(seat, now);
    }

    /// A write is done, or the disk refused it.
    pub(super) fn on_written(&mut self, seat: usize) -> Result<(), Verdict> {
        let lives = self.seats[seat].lives;
        let place = &mut self.seats[seat];
        let records = place.life.as_ref().is_some_and(|l| l.writing.iter().any(|b| !b.records().is_empty()));
        if records {
            if let Some(death) = place.dies(|when| matches!(when, When::DuringWrite { .. })) {
                return self.die_writing(seat, death);
            }
            let trouble = place.troubles.pop_front();
            if let Some(trouble) = trouble {
                self.tally.met(format!("disk {trouble:?}"));
            }
            let fault = trouble.map(fault_of);
            place.store.plan([fault]);
        }
        let Some(life) = &mut place.life else { return Ok(()) };
        match life.journal.commit(&life.writing) {
            Ok(proof) => {
                life.retry_us = 0;
                self.counts.writes += u64::from(records);
                if let Some(death) = self.seats[seat].dies(|when| when == When::AfterWrite) {
                    return self.die(seat, death);
                }
                self.release(seat, &proof)
            }
            Err(error @ StoreError::OutOfOrder { .. }) => Err(Verdict::new("durable", error.to_string())),
            Err(_) => {
                self.counts.refused += 1;
                life.retry_us = (life.retry_us * 2).clamp(FIRST_RETRY_US, LONGEST_RETRY_US);
                let at = self.now + life.retry_us;
                self.heap.push(at, Happening::Written { seat, life: lives });
                self.hang_up_all(seat, "the database cannot be written");
                Ok(())
            }
        }
    }

    /// Everything that depended on the write leaves, in order.
    fn release(&mut self, seat: usize, proof: &Durable) -> Result<(), Verdict> {
        let Some(life) = &mut self.seats[seat].life else { return Ok(()) };
        let batches = std::mem::take(&mut life.writing);
        let mut effects = Vec::new();
        for batch in batches {
            let out = batch.release(proof);
            effects.extend(out.map_err(|_| Verdict::new("durable", "a proof does not cover its batch"))?);
        }
        let mut left = None;
        if !effects.is_empty() {
            if let Some(death) = self.seats[seat].dies(|when| matches!(when, When::MidRelease(_))) {
                let When::MidRelease(count) = death.when else { return Ok(()) };
                left = Some((usize::from(count), death));
            }
        }
        for (number, after) in effects.into_iter().enumerate() {
            if let Some((_, death)) = left.filter(|(count, _)| number >= *count) {
                return self.die(seat, death);
            }
            self.let_out(seat, after)?;
        }
        self.seats[seat].releases += 1;
        if self.is_judged(seat) {
            judge::durable::released(self, seat)?;
        }
        let death = left.map(|(_, death)| death);
        if let Some(death) = death.or_else(|| self.seats[seat].dies(|when| when == When::AfterRelease)) {
            return self.die(seat, death);
        }
        let Some(life) = &mut self.seats[seat].life else { return Ok(()) };
        if !life.queue.is_empty() {
            self.begin_write(seat);
        } else if life.reload {
            return self.reload(seat);
        }
        Ok(())
    }

    fn let_out(&mut self, seat: usize, after: After) -> Result<(), Verdict> {
        match after {
            After::Send(outgoing) => {
                let (_, link, message) = outgoing.into_parts();
                if self.is_judged(seat) {
                    judge::said(self, seat, &message)?;
                }
                self.send(seat, link, message)
            }
            After::HangUp { link, reason, .. } => {
                self.trace.note(self.now, &[2, seat as u8], || format!("{seat} hangs up: {reason}"));
                self.hang_up(seat, link, &reason);
                Ok(())
            }
            After::Dial { .. } => {
                self.dial(seat);
                Ok(())
            }
            After::Publish(publish) => {
                let (tx, why) = publish.into_parts();
                if self.is_judged(seat) {
                    judge::safety::published(self, seat, &tx, why)?;
                }
                self.publish(seat, tx);
                Ok(())
            }
            After::Reply { id, result } => self.answered(seat, id, result),
            After::Notice(notice) if self.is_judged(seat) => judge::safety::noticed(self, seat, &notice),
            After::Notice(notice) => {
                self.trace.note(self.now, notice.text.as_bytes(), || {
                    format!("{seat}, the cheat, notes: {}", notice.text)
                });
                Ok(())
            }
            After::Fund { channel, script_pubkey, amount, feerate } => {
                let (FundAmount::Exact(sat) | FundAmount::All { at_most: sat }) = amount;
                self.give(seat, Event::Fund { channel, to: script_pubkey, sat: sat.0, feerate });
                Ok(())
            }
            After::DevRevoked { channel, number, tx } if self.is_judged(seat) => {
                judge::agree::given_up(self, seat, channel, number, &tx)
            }
            // Two nodes have no network.
            After::FindRoutes(request) => {
                self.give(seat, Event::Input(Box::new(request.none("nobody else is there"))));
                Ok(())
            }
            After::DevRevoked { .. }
            | After::Tower
            | After::Gossip(_)
            | After::Learn(_)
            | After::Backup(_)
            | After::ReadAgain { .. } => Ok(()),
            After::Attach(order) => {
                self.give(seat, Event::Attach { order });
                Ok(())
            }
            After::Unreserve { txid } => {
                self.give(seat, Event::Unreserve { txid });
                Ok(())
            }
        }
    }

    /// The power goes in the middle of a write.
    fn die_writing(&mut self, seat: usize, death: Death) -> Result<(), Verdict> {
        if death.when == (When::DuringWrite { kept: true }) {
            let place = &mut self.seats[seat];
            place.store.plan([None]);
            if let Some(life) = &mut place.life {
                // It said yes, and nobody was left to hear it.
                let _ = life.journal.commit(&life.writing);
            }
        }
        self.die(seat, death)
    }

    /// The program ends here and now; what was not synced is gone.
    pub(super) fn die(&mut self, seat: usize, death: Death) -> Result<(), Verdict> {
        self.trace.note(self.now, &[3, seat as u8], || format!("{seat} dies: {:?}", death.when));
        self.counts.crashes += 1;
        self.tally.met(format!("crash {}", death.when.name()));
        let all_kept =
            self.seats[seat].life.as_ref().is_some_and(|l| l.queue.is_empty() && l.writing.is_empty());
        if all_kept && death.when != When::BeforeWrite {
            judge::restart::kept(self, seat)?;
        }
        let place = &mut self.seats[seat];
        place.store.crash();
        place.store.plan([]);
        place.life = None;
        place.lives += 1;
        self.lose_commands(seat);
        self.drop_links(seat, death.silent);
        self.heap.push(self.now + death.down_us, Happening::Start { seat });
        Ok(())
    }

    /// The program starts from what its disk holds.
    pub(super) fn start(&mut self, seat: usize) -> Result<(), Verdict> {
        if self.seats[seat].life.is_some() {
            return Ok(());
        }
        let entries = self.seats[seat].store.durable();
        let node = judge::restart::born(self, seat, entries)?;
        if self.is_judged(seat) {
            judge::durable::knows(self, seat, &node)?;
        }
        self.marks.begun_at[seat] = self.chain.height();
        self.seats[seat].begin(node, self.now);
        self.wake(seat, self.now);
        self.follow_soon(seat);
        Ok(())
    }

    /// A bug: the step under way is lost with all it took in, and a fresh node is made once all before it is kept.
    pub(super) fn bug(&mut self, seat: usize) -> Result<(), Verdict> {
        let Some(life) = &mut self.seats[seat].life else { return Ok(()) };
        if life.reload {
            return Ok(());
        }
        // The core had heard of these links before the step that is lost: they end with the others.
        let heard = life.inbox.iter().filter_map(|event| match event {
            Event::Up { link, .. } => Some(*link),
            _ => None,
        });
        life.known.extend(heard.collect::<Vec<_>>());
        life.inbox.clear();
        life.reload = true;
        let idle = life.writing.is_empty() && life.queue.is_empty();
        self.trace.note(self.now, &[4, seat as u8], || format!("{seat} meets a bug"));
        self.hang_up_all(seat, "this node starts again");
        if idle {
            return self.reload(seat);
        }
        Ok(())
    }

    fn reload(&mut self, seat: usize) -> Result<(), Verdict> {
        self.counts.reloads += 1;
        self.tally.met("bug");
        self.lose_commands(seat);
        // Other randomness than before.
        self.seats[seat].lives += 1;
        let entries = self.seats[seat].store.durable();
        let node = judge::restart::born(self, seat, entries)?;
        if self.is_judged(seat) {
            judge::durable::knows(self, seat, &node)?;
        }
        let place = &mut self.seats[seat];
        let waiting = place.life.take().map(|life| life.inbox).unwrap_or_default();
        place.begin(node, self.now);
        if let Some(life) = &mut place.life {
            // What comes from links and the backend meanwhile waits in their queues; the wallet's is for the old node.
            let wanted = |e: &Event| matches!(e, Event::Up { .. } | Event::Frame { .. } | Event::Down { .. });
            life.inbox = waiting.into_iter().filter(wanted).collect();
        }
        self.wake(seat, self.now);
        self.follow_soon(seat);
        Ok(())
    }

    /// Nobody hears the answers to these any more.
    fn lose_commands(&mut self, seat: usize) {
        let lost: Vec<CommandId> =
            self.commands.iter().filter(|(_, asked)| asked.seat == seat).map(|(id, _)| *id).collect();
        for id in lost {
            self.commands.remove(&id);
        }
    }
}

/// The engine's name for a trouble.
const fn fault_of(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Before => Fault::FailBefore,
        Trouble::Sync => Fault::FailSync,
        Trouble::After => Fault::FailAfter,
    }
}

/// A bound for a random length that is never zero.
fn place_step(us: u64) -> u64 {
    us.max(1)
}
