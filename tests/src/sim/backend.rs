//! What each node sees of the chain: blocks at its own time, a backend that goes away, a mempool.
//!
//! In: the chain, late or early. Out: blocks and their undoing, one by one and in order; the news that there are no
//! more; what became of published transactions. Read next: `core`.

use super::judge::{self, Verdict};
use super::plan::Signing;
use super::seat::{Event, EPOCH_MS};
use super::world::{Happening, World};
use bitcoin::Transaction;
use chand_protocol::node::effect::Input;
use chand_protocol::units::Height;

/// Between two blocks that are read.
const READ_US: u64 = 200;
/// From a release to the backend.
const PUBLISH_US: u64 = 300;

impl World {
    /// The follower of a seat looks for blocks, at its own pace.
    pub(super) fn follow_soon(&mut self, seat: usize) {
        self.follow_in(seat, self.knobs.lag_us[seat]);
    }

    fn follow_in(&mut self, seat: usize, us: u64) {
        let lives = self.seats[seat].lives;
        self.heap.push(self.now + us, Happening::Follow { seat, life: lives });
    }

    /// One block for a core, or the news that there is none.
    pub(super) fn on_follow(&mut self, seat: usize) {
        let place = &mut self.seats[seat];
        let reachable = place.reachable;
        let Some(life) = place.life.as_mut().filter(|_| reachable) else { return };
        let last = life.followed.last().copied();
        let gone = last.filter(|(h, hash)| self.chain.block(*h).is_none_or(|b| b.hash != *hash));
        let input = if let Some((height, hash)) = gone {
            life.followed.pop();
            Input::BlockDisconnected { height: Height(height), hash, wallet: None }
        } else {
            let next = last.map_or(crate::duet::chain::FIRST_HEIGHT, |(h, _)| h + 1);
            match self.chain.block(next) {
                Some(block) => {
                    life.followed.push((next, block.hash));
                    Input::BlockConnected {
                        height: Height(next),
                        hash: block.hash,
                        time_s: block.time_s,
                        txs: block.txs.clone(),
                        wallet: None,
                    }
                }
                None if life.told_synced => return,
                None => {
                    life.told_synced = true;
                    let tip_time_s = self.chain.blocks.last().map(|block| block.time_s);
                    return self.give(seat, Event::Input(Box::new(Input::ChainSynced { tip_time_s })));
                }
            }
        };
        life.told_synced = false;
        self.give(seat, Event::Input(Box::new(input)));
        self.follow_in(seat, READ_US);
    }

    /// One more block, of this moment.
    pub(super) fn mine_one(&mut self) {
        judge::late::look(self);
        let due = judge::late::due(self);
        self.chain.clock_s = ((EPOCH_MS + self.now / 1_000) / 1_000) as u32;
        self.chain.mine();
        self.feud.mined += 1;
        self.feud.top = self.feud.top.max(self.chain.height());
        self.calm_down();
        judge::late::mined(self, due);
    }

    /// The chain changed: both will see, each in its time.
    pub(super) fn chain_moved(&mut self) {
        for seat in 0..2 {
            self.follow_soon(seat);
        }
    }

    /// The backend of a seat goes away.
    pub(super) fn unreachable(&mut self, seat: usize, for_us: u64) {
        if self.seats[seat].reachable {
            self.seats[seat].reachable = false;
            self.give(seat, Event::Input(Box::new(Input::ChainReachable(false))));
            self.heap.push(self.now + for_us, Happening::Back { seat });
        }
    }

    /// It is back.
    pub(super) fn on_back(&mut self, seat: usize) {
        if std::mem::replace(&mut self.seats[seat].reachable, true) {
            return;
        }
        let waiting = match &mut self.seats[seat].life {
            Some(life) => {
                life.told_synced = false;
                life.publishing.len()
            }
            None => return,
        };
        self.give(seat, Event::Input(Box::new(Input::ChainReachable(true))));
        self.follow_soon(seat);
        let lives = self.seats[seat].lives;
        for _ in 0..waiting {
            self.heap.push(self.now + PUBLISH_US, Happening::Publish { seat, life: lives });
        }
    }

    /// A node gave a transaction out.
    pub(super) fn publish(&mut self, seat: usize, tx: Transaction) {
        let lives = self.seats[seat].lives;
        let Some(life) = &mut self.seats[seat].life else { return };
        life.publishing.push_back(tx);
        self.heap.push(self.now + PUBLISH_US, Happening::Publish { seat, life: lives });
    }

    /// The backend takes a transaction of a seat's or says why not. It is never too early, and never opens nothing.
    pub(super) fn offer(&mut self, seat: usize, tx: &Transaction) -> Result<Result<(), String>, Verdict> {
        let first = self.note_owner(seat, tx);
        let (place, txid) = (&self.seats[seat], tx.compute_txid());
        let signed = self.knobs.signing == Signing::Real;
        let wrong = |broken: String| {
            Verdict::new("safety", format!("a transaction of {}'s own: {broken}", place.name))
        };
        if let Some(spent) = self.chain.spent_by(tx) {
            judge::valid::signatures(tx, &spent, place.crypto()).map_err(wrong)?;
            if first && self.is_judged(seat) {
                let dear = |words| Verdict::new("fees", format!("{}: {txid}: {words}", place.name));
                judge::fees::offered(self, seat, tx, &spent).map_err(dear)?;
            }
        }
        let heard = self.is_heard(seat);
        let result = if heard { self.chain.offer(tx, signed).map_err(wrong)? } else { Ok(()) };
        // What was refused for its fee is raised at once when time is short.
        if first && heard && result.is_ok() && self.is_judged(seat) {
            let many = judge::fees::counted(self, seat, tx);
            let name = &self.seats[seat].name;
            many.map_err(|words| Verdict::new("fees", format!("{name}: {txid}: {words}")))?;
        }
        if let Some(why) = result.as_ref().err().filter(|_| first && self.is_judged(seat)) {
            let cheap = |words| Verdict::new("fees", format!("{}: {txid}: {words}", self.seats[seat].name));
            judge::fees::refused(self, seat, tx, why).map_err(cheap)?;
        }
        let place = &self.seats[seat];
        let early = result.as_ref().is_err_and(|why| why.contains("non-final"));
        let tip = place.life.as_ref().and_then(|life| life.followed.last().copied());
        // Made before a reorganisation and offered after it, a transaction may be early by no fault of its maker.
        if early
            && self.chain.undone == 0
            && tip.is_some_and(|(h, hash)| self.chain.block(h).is_some_and(|b| b.hash == hash))
        {
            let words = format!("a transaction of {}'s own: {txid} is published before its time", place.name);
            return Err(Verdict::new("safety", words));
        }
        self.trace.note(self.now, &[7, seat as u8], || format!("{seat} publishes {txid}: {result:?}"));
        Ok(result)
    }

    /// The backend looks at the next transaction of a seat.
    pub(super) fn on_publish(&mut self, seat: usize) -> Result<(), Verdict> {
        let place = &mut self.seats[seat];
        if !place.reachable {
            return Ok(());
        }
        let Some(tx) = place.life.as_mut().and_then(|life| life.publishing.pop_front()) else {
            return Ok(());
        };
        let (txid, result) = (tx.compute_txid(), self.offer(seat, &tx)?);
        self.give(seat, Event::Input(Box::new(Input::Published { txid, result })));
        Ok(())
    }
}
