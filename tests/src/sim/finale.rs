//! The very end of a run: all channels closed by agreement, perhaps over lies; a chain made anew; the past built again.
//!
//! In: two mended nodes in peace. Out: verdicts of `live`, `money`, `safety`. Read next: `judge::place`, `judge::rebuild`.

use super::cheats::Lie;
use super::heal::stuck;
use super::judge::{self, Verdict};
use super::plan::SECOND;
use super::world::World;
use chand_protocol::channel::Phase;
use chand_protocol::id::ChannelId;

/// How long a close by agreement may take.
const CLOSE_US: u64 = 60 * SECOND;
/// How long lies about a close go on.
const LIES_US: u64 = 15 * SECOND;
/// The deepest that a chain is made anew; nodes remember more blocks than that.
const DEEPEST: u32 = 200;

impl World {
    /// Every channel is closed by agreement, and pays out what each had.
    pub(super) fn close_all(&mut self) -> Result<(), Verdict> {
        let open: Vec<ChannelId> = self
            .shared()
            .into_iter()
            .filter(|id| self.both(id).iter().all(|c| matches!(c.phase, Phase::Open)))
            .collect();
        for id in &open {
            let closer = self.rng.seat();
            self.close_one(closer, *id);
        }
        if self.knobs.liar.is_some_and(|_| self.rng.chance(90)) {
            self.lie_about_closes()?;
        }
        let closed = |w: &World| {
            open.iter().all(|id| w.both(id).iter().all(|c| matches!(c.phase, Phase::Closed(_))))
                && w.is_quiet()
        };
        if !self.wait(CLOSE_US, closed)? {
            return Err(stuck(format!("no agreement on a close: {}", self.what_is_left())));
        }
        self.mine(1);
        self.run_until(self.now + 5 * SECOND)?;
        open.into_iter().try_for_each(|id| self.judge_payout(id))
    }

    /// The closing transaction in the chain pays each what it had, less the fee of whoever pays it.
    fn judge_payout(&self, id: ChannelId) -> Result<(), Verdict> {
        let both = self.both(&id);
        let Some(terms) = both.first().map(|c| &c.terms) else { return Ok(()) };
        let wrong = |words: String| Err(Verdict::new("money", words));
        let all = self.chain.blocks.iter().flat_map(|b| b.txs.iter());
        let Some(tx) = all.into_iter().find(|tx| tx.input.iter().any(|i| i.previous_output == terms.funding))
        else {
            return wrong("an agreed close is not in the chain".into());
        };
        let had: Vec<u64> = both.iter().map(|c| c.to_us().0 / 1_000).collect();
        let paid = [0, 1].map(|seat| {
            let mine = tx.output.iter().filter(|o| o.script_pubkey == self.seats[seat].wallet.script);
            mine.map(|o| o.value.to_sat()).sum::<u64>()
        });
        let out: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        if paid[0] + paid[1] != out || out > terms.capacity.0 {
            return wrong(format!("a close pays {out} of {}, to the two {paid:?}", terms.capacity.0));
        }
        // Whoever does not pay the fee gets all it had, or, when that is dust, nothing.
        let whole = |seat: usize| paid[seat] == had[seat] || (paid[seat] == 0 && had[seat] < 1_000);
        if !(0..2).any(whole) || (0..2).any(|seat| paid[seat] > had[seat]) {
            return wrong(format!("a close pays {paid:?} of {had:?}"));
        }
        Ok(())
    }

    /// The liar starts again, with signatures and fees of closing transactions.
    fn lie_about_closes(&mut self) -> Result<(), Verdict> {
        self.cheat.relapse();
        for _ in 0..self.rng.between(1, 3) {
            let lie = *self.rng.pick(&[Lie::CloseWrong, Lie::CloseWrong, Lie::CloseFee, Lie::ShutdownScript]);
            let skip = self.rng.below(3);
            self.cheat.plan(lie, skip);
        }
        self.run_until(self.now + LIES_US)?;
        self.cheat.reformed = true;
        self.cut([100, 100]);
        self.relink()
    }

    /// Both know what the chain holds at the end: perhaps another one than they saw first, in which all that was of
    /// theirs has to be published again.
    pub(super) fn end_on_chain(&mut self) -> Result<(), Verdict> {
        if self.knobs.new_chain && self.knobs.liar.is_none() && !self.any_forced() {
            self.tally.met("chain made anew");
            let empty = |block: &&crate::duet::chain::TinyBlock| block.txs.is_empty();
            let below = self.chain.blocks.iter().take_while(empty).count();
            let depth = (self.chain.blocks.len() - below) as u32;
            self.reorganise(depth.min(DEEPEST), true);
        }
        // Fundings first, then what spends them.
        for _ in 0..4 {
            self.run_until(self.now + 5 * SECOND)?;
            self.mine(1);
        }
        self.run_until(self.now + 5 * SECOND)?;
        (0..2).try_for_each(|seat| judge::place::known(self, seat))
    }

    /// What was given up can be built again.
    pub(super) fn look_back(&mut self) -> Result<(), Verdict> {
        if !self.knobs.rebuild {
            return Ok(());
        }
        let all: Vec<ChannelId> = self.sound();
        all.into_iter().try_for_each(|id| judge::rebuild::all(self, id))
    }
}
