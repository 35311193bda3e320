//! Who must end with what, once a commitment was published.
//!
//! In: a play that is set up. Out: the judges' word. `crime`: every output of a revoked commitment ends with the victim,
//! anchors aside, second-level outputs included, and the cheat gains nothing. `share`: of a valid one each side takes
//! exactly what its snapshot gives it: its balance, what it offered and nobody could take by the secret in time, what it
//! was offered and knows the secret of. `settle`: a payment ends the same for both, also on chain. `live`: all of it in
//! bounded time. `chain`: no transaction of ours breaks a rule, and without a rival none is refused.

use super::facts::{stands, Facts, Stand};
use super::graph::StateId;
use super::publish::{Held, Story, Twist};
use super::shore::{End, Shore};
use super::start::{Payment, Start};
use super::world::Stage;
use super::Verdict;
use crate::duet::play::preimage;
use crate::duet::{other, ALICE, BOB};
use bitcoin::OutPoint;
use chand_protocol::channel::htlc::Removal;
use chand_protocol::id::Side;
use chand_protocol::node::command::{ChannelRef, Command};
use chand_protocol::tx::commitment::OutputKind;

/// Blocks until all must be over: an HTLC's expiry, a delay, and six more.
const MOST_BLOCKS: u32 = 60;
/// What taking one output may cost at most, sat.
const MOST_FEE: u64 = 5_000;

/// Who has to have an output in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    /// This seat.
    To(usize),
    /// Nobody is there to take it.
    Left,
    /// No matter.
    Any,
}

impl Shore<'_> {
    /// The peer of `seat` publishes what it revoked.
    pub(super) fn crime(
        &mut self,
        start: &Start,
        seat: usize,
        story: &Story,
        race: bool,
        twist: Twist,
    ) -> Result<(), Verdict> {
        let before = [self.money(ALICE), self.money(BOB)];
        if race {
            self.mute(seat, true);
            for block in &story.crime {
                self.block(Some(block.clone()))?;
            }
            self.mute(seat, false);
        } else {
            self.block(Some(vec![story.tx.clone()]))?;
        }
        if twist == Twist::Restart {
            self.restart(start, seat)?;
        }
        for _ in 0..3 {
            self.block(None)?;
        }
        if twist == Twist::Reorg {
            self.reorganise(3)?;
        }
        let cheat = other(seat);
        let due = |held: &Held| match held.kind {
            OutputKind::AnchorOwner | OutputKind::AnchorOther => Due::Any,
            _ => Due::To(seat),
        };
        self.judge_ends("crime", story, &due)?;
        if self.money(cheat) > before[cheat] {
            return Err(Verdict::new("crime", "the cheat gained"));
        }
        self.judge_gain(seat, story, &due, before[seat])?;
        if !race && twist == Twist::Plain {
            self.judge_refused()?;
        }
        Ok(())
    }

    /// The peer of `seat` publishes a valid commitment and falls silent.
    pub(super) fn theirs(
        &mut self,
        stage: &Stage,
        seat: usize,
        state: StateId,
        story: &Story,
        late: bool,
        twist: Twist,
    ) -> Result<(), Verdict> {
        let graph = &stage.graphs[seat];
        let (facts, payments, start) = (graph.facts(state), graph.payments(), graph.start());
        let before = self.money(seat);
        self.block(Some(vec![story.tx.clone()]))?;
        if twist == Twist::Restart {
            self.restart(start, seat)?;
        }
        let mut knows = known(facts, payments, seat);
        for (place, payment) in payments.iter().enumerate() {
            if late && payment.payer != seat && facts.stands[place] == Stand::Held {
                self.order(seat, Command::SettleInvoice { preimage: preimage(payment.number) })?;
                knows[place] = true;
            }
        }
        self.finish(&[seat], twist)?;
        let due = |held: &Held| match (held.kind, held.payment) {
            (OutputKind::ToRemote, _) => Due::To(seat),
            (OutputKind::Htlc(_), Some(at)) if payments[at].payer == seat || knows[at] => Due::To(seat),
            (OutputKind::AnchorOwner | OutputKind::AnchorOther, _) => Due::Any,
            _ => Due::Left,
        };
        self.judge_ends("share", story, &due)?;
        self.judge_gain(seat, story, &due, before)?;
        self.judge_payments(stage, [seat, seat], late)?;
        self.judge_refused()
    }

    /// `seat` publishes its own newest, and its peer is silent.
    pub(super) fn own(
        &mut self,
        stage: &Stage,
        seat: usize,
        state: StateId,
        story: &Story,
        twist: Twist,
    ) -> Result<(), Verdict> {
        let graph = &stage.graphs[seat];
        let (facts, payments) = (graph.facts(state), graph.payments());
        let before = self.money(seat);
        self.publish(graph.start(), seat, story)?;
        if twist == Twist::Restart {
            self.restart(graph.start(), seat)?;
        }
        self.finish(&[seat], twist)?;
        let knows = known(facts, payments, seat);
        let due = |held: &Held| match (held.kind, held.payment) {
            (OutputKind::ToLocal, _) => Due::To(seat),
            (OutputKind::Htlc(_), Some(at)) if payments[at].payer == seat || knows[at] => Due::To(seat),
            (OutputKind::AnchorOwner | OutputKind::AnchorOther, _) => Due::Any,
            _ => Due::Left,
        };
        self.judge_ends("share", story, &due)?;
        self.judge_gain(seat, story, &due, before)?;
        self.judge_payments(stage, [seat, seat], false)?;
        self.judge_refused()
    }

    /// One publishes its own newest, and both are at work.
    pub(super) fn both(
        &mut self,
        stage: &Stage,
        states: [StateId; 2],
        story: &Story,
        twist: Twist,
    ) -> Result<(), Verdict> {
        let start = stage.graphs[ALICE].start();
        let payments = stage.graphs[ALICE].payments();
        let (seat, before) = (story.publisher, [self.money(ALICE), self.money(BOB)]);
        self.publish(start, seat, story)?;
        if twist == Twist::Restart {
            self.restart(start, ALICE)?;
            self.restart(start, BOB)?;
        }
        self.finish(&[ALICE, BOB], twist)?;
        let knows = [ALICE, BOB].map(|s| known(stage.graphs[s].facts(states[s]), payments, s));
        let due = |held: &Held| match (held.kind, held.payment) {
            (OutputKind::ToLocal, _) => Due::To(seat),
            (OutputKind::ToRemote, _) => Due::To(other(seat)),
            (OutputKind::Htlc(_), Some(at)) => {
                let payer = payments[at].payer;
                Due::To(if knows[other(payer)][at] { other(payer) } else { payer })
            }
            _ => Due::Any,
        };
        self.judge_ends("share", story, &due)?;
        for seat in [ALICE, BOB] {
            self.judge_gain(seat, story, &due, before[seat])?;
        }
        self.judge_payments(stage, [ALICE, BOB], false)?;
        self.judge_refused()
    }

    fn mute(&mut self, seat: usize, mute: bool) {
        if let Some(player) = &mut self.players[seat] {
            player.mute = mute;
        }
    }

    /// A node closes by force, and what it publishes is what was captured.
    fn publish(&mut self, start: &Start, seat: usize, story: &Story) -> Result<(), Verdict> {
        self.order(seat, Command::DevFail { channel: ChannelRef::Id(start.channel) })?;
        self.block(None)?;
        match self.chain.is_confirmed(&story.tx.compute_txid()) {
            true => Ok(()),
            false => Err(Verdict::new("live", "a node did not publish its newest commitment")),
        }
    }

    /// Blocks leave the chain, as many and one more come.
    fn reorganise(&mut self, depth: u32) -> Result<(), Verdict> {
        for _ in 0..depth {
            self.unblock()?;
        }
        for _ in 0..=depth {
            self.block(None)?;
        }
        Ok(())
    }

    /// Mines until all that these seats can take is taken and every payment has ended.
    fn finish(&mut self, seats: &[usize], twist: Twist) -> Result<(), Verdict> {
        for blocks in 0..MOST_BLOCKS {
            if twist == Twist::Reorg && blocks == 3 {
                self.reorganise(2)?;
            }
            let mut over = true;
            for seat in seats {
                let channel = self.channel(*seat)?;
                let ended = |removal: &Option<Removal>| {
                    matches!(removal, Some(Removal::Fulfilled(_) | Removal::OnChain))
                };
                let mut mine = channel.ledger.htlcs.values().filter(|h| h.id.offered_by == Side::Local);
                over &= channel.resolved_at().is_some() && mine.all(|h| ended(&h.removal));
            }
            if over && blocks > 3 {
                return Ok(());
            }
            self.block(None)?;
        }
        let left = seats.iter().map(|seat| {
            let channel = self.channel(*seat)?;
            let outputs = channel.watch.iter().flat_map(|w| &w.outputs);
            Ok(outputs.map(|o| format!("{} {}", o.kind.name(), o.state())).collect::<Vec<_>>())
        });
        let left: Result<Vec<_>, Verdict> = left.collect();
        Err(Verdict::new("live", format!("not over after {MOST_BLOCKS} blocks: {:?}", left?)))
    }

    fn judge_ends(
        &self,
        judge: &'static str,
        story: &Story,
        due: &dyn Fn(&Held) -> Due,
    ) -> Result<(), Verdict> {
        let txid = story.tx.compute_txid();
        for (vout, held) in (0u32..).zip(&story.outputs) {
            let end = self.end_of(OutPoint { txid, vout });
            let well = match due(held) {
                Due::To(seat) => end == End::Wallet(seat),
                Due::Left => end == End::Unspent,
                Due::Any => true,
            };
            if !well {
                let text = format!("{held:?} ends with {end:?}, not with {:?}", due(held));
                return Err(Verdict::new(judge, text));
            }
        }
        Ok(())
    }

    /// Fees aside, a seat has gained what is due to it.
    fn judge_gain(
        &self,
        seat: usize,
        story: &Story,
        due: &dyn Fn(&Held) -> Due,
        before: u64,
    ) -> Result<(), Verdict> {
        let mine = story.outputs.iter().filter(|h| due(h) == Due::To(seat));
        let (count, sum) = mine.fold((0, 0), |(count, sum), h| (count + 1, sum + h.sat));
        let has = self.money(seat);
        if has > before + sum || has + MOST_FEE * (count + 1) < before + sum {
            let text = format!("of {sum} sat in {count} outputs, {} had {before} and has {has}", seat);
            return Err(Verdict::new("share", text));
        }
        Ok(())
    }

    fn judge_refused(&self) -> Result<(), Verdict> {
        match self.refused.first() {
            None => Ok(()),
            Some(words) => Err(Verdict::new("chain", format!("without a rival: {words}"))),
        }
    }

    /// No payment of a seat's is left hanging; with both at work it ended the same for both.
    fn judge_payments(&self, stage: &Stage, seats: [usize; 2], late: bool) -> Result<(), Verdict> {
        let payments = stage.graphs[ALICE].payments();
        let mut found = [[Stand::Nothing; 8]; 2];
        for seat in seats {
            let Some(player) = &self.players[seat] else { continue };
            found[seat] = stands(&player.node, seat, payments, stage.graphs[seat].start().duet.now)?;
        }
        for (place, payment) in payments.iter().enumerate() {
            let (paid, got) = (found[payment.payer][place], found[other(payment.payer)][place]);
            // One too small for an output has no money on chain that could follow its secret.
            let both = seats[0] != seats[1] && !payment.is_dust();
            let wrong = paid == Stand::Pending
                || (both && (got == Stand::Done) != (paid == Stand::Done))
                || (late && got == Stand::Held);
            if wrong {
                let text = format!("payment {} ends as {paid:?} and {got:?}", payment.word);
                return Err(Verdict::new("settle", text));
            }
        }
        Ok(())
    }
}

/// Of which payments to `seat` it has let the secret out, or is about to.
fn known(facts: &Facts, payments: &[Payment], seat: usize) -> [bool; 8] {
    let mut known = [false; 8];
    for (place, payment) in payments.iter().enumerate() {
        known[place] = payment.payer != seat && facts.stands[place] == Stand::Done;
    }
    known
}
