//! The end of a run in which channels were closed by force: blocks come until nothing is left to be taken, then it is counted.
//!
//! In: two mended nodes, or one and a cheat that goes on with its claims. Out: verdicts of `live`, `money`, `restart`.
//! Time is counted in blocks: expiries, delays and depths are all that may be waited for. Read next: `judge::estate`.

use super::actors::What;
use super::heal::stuck;
use super::judge::{self, estate, Verdict};
use super::plan::SECOND;
use super::world::World;
use chand_protocol::channel::{Channel, Phase};
use chand_protocol::id::{ChannelId, Side};
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::view::Pay;

/// More blocks than an expiry, two delays and a depth need.
const MOST_BLOCKS: u32 = 170;
/// Longer than a payer has patience.
const PATIENCE_US: u64 = 30 * SECOND;
/// So many blocks what is too small keeps a channel from being over: two weeks.
const SMALL_BLOCKS: u32 = 2_016;
/// So deep all of a channel lies when it is forgotten, and a block or two for what may be written meanwhile.
const FORGET_DEPTH: u32 = 103;
/// Blocks that come at once at the very end.
const AT_ONCE: u32 = 40;
/// Between two blocks.
const BLOCK_US: u64 = 3 * SECOND;

impl World {
    /// Channels that both know and nobody closed by force.
    pub(super) fn sound(&self) -> Vec<ChannelId> {
        let sound = |c: &&Channel| !matches!(c.phase, Phase::Onchain(_));
        self.shared().into_iter().filter(|id| self.both(id).iter().all(sound)).collect()
    }

    /// A node's channels.
    fn all_of(&self, seat: usize) -> Vec<ChannelId> {
        self.seats[seat].node().into_iter().flat_map(|n| n.channels()).map(Channel::id).collect()
    }

    /// Nothing of a seat's channels is left on chain.
    pub(super) fn is_resolved(&self, seat: usize) -> bool {
        self.seats[seat].node().is_some_and(|n| n.channels().all(estate::is_over))
    }

    /// One seat cheated: the other, alone, takes everything.
    pub(super) fn punish(&mut self, cheat: usize) -> Result<(), Verdict> {
        let victim = 1 - cheat;
        for seat in 0..2 {
            // Whatever the cheat did not close, and whatever order was lost in a crash.
            self.strike(seat, None);
        }
        self.run_until(self.now + 2 * SECOND)?;
        for _ in 0..MOST_BLOCKS {
            self.mine(1);
            self.run_until(self.now + BLOCK_US)?;
            self.note_marks();
            // One whose funding came only now.
            self.strike(victim, None);
            if self.is_resolved(victim) && self.is_closed(victim) {
                break;
            }
        }
        if !self.is_resolved(victim) || !self.is_closed(victim) {
            return Err(stuck(format!("not all is taken from a cheat: {}", self.left_on_chain(victim))));
        }
        for id in self.all_of(victim) {
            estate::judge(self, victim, id)?;
        }
        estate::conserved(self)?;
        // What still waits for a channel is given up.
        self.run_until(self.now + PATIENCE_US)?;
        if let Reply::Pays(list) =
            self.look(victim, Command::ListPays { payment_hash: None, bolt11: None })?
        {
            if let Some(p) = list.iter().find(|p| estate::is_stuck(p) && !self.hangs_in_the_air(victim, p)) {
                return Err(stuck(format!("payment {} is pending for ever", p.payment_hash)));
            }
        }
        judge::place::known(self, victim)?;
        self.forget_closed()?;
        judge::restart::kept(self, victim)?;
        let entries = self.seats[victim].store.durable();
        let node = judge::restart::born(self, victim, entries)?;
        judge::durable::knows(self, victim, &node)
    }

    /// Its HTLC is in a channel whose funding a reorganisation took away, and which the cheat, who made it, does not publish
    /// again: while it may come, nobody can say how that ends.
    fn hangs_in_the_air(&self, seat: usize, pay: &Pay) -> bool {
        let gone = |c: &&Channel| c.confirmed.is_none() && c.terms.opener == Side::Remote;
        let holds = |c: &Channel| {
            let mut ours = c.ledger.htlcs.values().filter(|h| h.id.offered_by == Side::Local);
            ours.any(|h| h.payment_hash == pay.payment_hash)
        };
        self.seats[seat].node().is_some_and(|n| n.channels().filter(gone).any(holds))
    }

    /// Every channel whose funding was seen is spent.
    fn is_closed(&self, seat: usize) -> bool {
        let closed = |c: &Channel| c.confirmed.is_none() || c.spent_height().is_some();
        self.seats[seat].node().is_some_and(|n| n.channels().all(closed))
    }

    /// Both are honest: blocks until every channel that was closed by force is over for both.
    pub(super) fn let_blocks_come(&mut self) -> Result<(), Verdict> {
        let over = |w: &World| w.is_resolved(0) && w.is_resolved(1);
        for _ in 0..MOST_BLOCKS {
            if over(self) {
                break;
            }
            self.mine(1);
            self.run_until(self.now + BLOCK_US)?;
            self.note_marks();
        }
        if !over(self) {
            let words = [0, 1].map(|seat| self.left_on_chain(seat)).join("; ");
            return Err(stuck(format!("not all is resolved on chain: {words}")));
        }
        Ok(())
    }

    /// The same, and then it is counted who has what.
    pub(super) fn resolve_all(&mut self) -> Result<(), Verdict> {
        self.let_blocks_come()?;
        for seat in 0..2 {
            for id in self.all_of(seat) {
                estate::judge(self, seat, id)?;
            }
        }
        estate::conserved(self)
    }

    /// In some runs: blocks until every channel that was closed by force is forgotten but for its cause.
    ///
    /// # Errors
    /// One is never over, or later than what is small may be waited for.
    pub(super) fn forget_closed(&mut self) -> Result<(), Verdict> {
        if !self.knobs.onchain.is_some_and(|strife| strife.long) || self.is_ruined() {
            return Ok(());
        }
        let tip = self.chain.height();
        // The peer may take back what was held, after the node was done with it: then it is over a little later.
        for _ in 0..3 {
            let last = self.last_end()?;
            while self.chain.height() < last + FORGET_DEPTH {
                self.mine((last + FORGET_DEPTH - self.chain.height()).min(AT_ONCE));
                self.run_until(self.now + BLOCK_US)?;
            }
            self.mark(if last > tip + FORGET_DEPTH {
                "forgotten, something small left"
            } else {
                "forgotten"
            });
        }
        let kept = |c: &&Channel| estate::is_forced(c) && !c.is_void() && !c.retired;
        for seat in (0..2).filter(|seat| self.is_judged(*seat)) {
            let kept = self.seats[seat].node().into_iter().flat_map(|n| n.channels()).filter(kept).count();
            if kept > 0 {
                let name = self.seats[seat].name;
                return Err(stuck(format!("{name} does not forget {kept} channels that are over")));
            }
        }
        Ok(())
    }

    /// When the last of all channels is over, as their nodes say now.
    fn last_end(&self) -> Result<u32, Verdict> {
        let tip = self.chain.height();
        let mut last = 0;
        for seat in (0..2).filter(|seat| self.is_judged(*seat)) {
            let node = self.seats[seat].node();
            for channel in node.into_iter().flat_map(|n| n.channels()).filter(|c| estate::is_forced(c)) {
                match channel.over_at().map(|h| h.0) {
                    Some(over) if over <= tip + SMALL_BLOCKS => last = last.max(over),
                    over => return Err(stuck(format!("a channel is over at {over:?}, at block {tip} now"))),
                }
            }
        }
        Ok(last)
    }

    fn left_on_chain(&self, seat: usize) -> String {
        let node = self.seats[seat].node();
        let open = node.into_iter().flat_map(|n| n.channels()).filter(|c| !estate::is_over(c));
        let each = |c: &Channel| {
            let outputs: Vec<String> = c
                .watch
                .iter()
                .flat_map(|w| &w.outputs)
                .filter(|o| o.spent.is_none())
                .map(|o| format!("{} {} since {:?}", o.kind.name(), o.amount, o.born.map(|h| h.0)))
                .collect();
            let whose = c.watch.as_ref().map(|w| (w.owner, w.standing, w.number));
            let htlcs = c.ledger.htlcs.values().map(|h| (h.id, h.cltv_expiry.0, h.removal.is_some()));
            format!("{} {whose:?} {outputs:?} HTLCs {:?}", c.state_name().name(), htlcs.collect::<Vec<_>>())
        };
        format!("{}: {}", self.seats[seat].name, open.map(each).collect::<Vec<_>>().join(", "))
    }

    /// Asks a node and waits for the answer.
    pub(super) fn look(&mut self, seat: usize, command: Command) -> Result<Reply, Verdict> {
        let shown = format!("{command:?}");
        let Some(id) = self.tell(seat, command, What::Keep) else {
            return Err(stuck(format!("{shown}: no node")));
        };
        self.wait(super::heal::ANSWER_US, |w| w.judges.kept.contains_key(&id))?;
        match self.judges.kept.remove(&id) {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(error)) => Err(Verdict::new("reply", format!("{shown}: {error}"))),
            None => Err(stuck(format!("{shown}: no answer"))),
        }
    }
}
