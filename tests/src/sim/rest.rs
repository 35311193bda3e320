//! Two sound nodes left alone: what only shows when nobody does anything for minutes.
//!
//! In: a world in which everything was mended and counted. Out: verdicts of `live`: a sound link that ends, a dead one
//! that is kept, a node that waits for its user to call. A share of the seeds comes here, since it takes minutes of
//! their time. Read next: `heal`.

use super::heal::{stuck, LINK_US};
use super::judge::Verdict;
use super::plan::{When, SECOND};
use super::seat::Death;
use super::world::World;
use chand_protocol::channel::Channel;

/// Longer than a ping and its answer take.
const QUIET_US: u64 = 100 * SECOND;
/// How long a link may be dead before both have noticed: 30 s without a word, 20 s for an answer, and some.
const NOTICED_US: u64 = 60 * SECOND;
/// How long one node is away: several calls of its peer fail.
const AWAY_US: u64 = 8 * SECOND;

impl World {
    /// Silence on a sound link, on a dead one, and a peer that is away for a while.
    pub(super) fn leave_alone(&mut self) -> Result<(), Verdict> {
        let works = |id| self.both(id).into_iter().all(Channel::is_usable);
        let chosen = self.knobs.liar.is_none() && self.counts.steps.is_multiple_of(4);
        if !chosen || !self.is_settled() || !self.shared().iter().any(works) {
            return Ok(());
        }
        self.rest_on_sound_link()?;
        self.rest_on_dead_link()?;
        self.rest_without_peer()
    }

    fn rest_on_sound_link(&mut self) -> Result<(), Verdict> {
        let links = [0, 1].map(|seat| self.net.oldest(seat));
        self.run_until(self.now + QUIET_US)?;
        if !self.is_settled() || links != [0, 1].map(|seat| self.net.oldest(seat)) {
            return Err(stuck("a sound link ended while nothing happened"));
        }
        Ok(())
    }

    fn rest_on_dead_link(&mut self) -> Result<(), Verdict> {
        let links = [0, 1].map(|seat| self.net.oldest(seat));
        self.silence();
        self.run_until(self.now + NOTICED_US)?;
        for (seat, link) in links.into_iter().enumerate() {
            if link.is_some() && link == self.net.oldest(seat) {
                let name = self.seats[seat].name;
                let known: Vec<u64> =
                    self.seats[seat].life.iter().flat_map(|life| &life.known).map(|link| link.0).collect();
                let words = format!("{name} does not notice that link {link:?} is dead; it knows {known:?}");
                return Err(stuck(words));
            }
        }
        self.must_find_each_other("a dead link")
    }

    fn rest_without_peer(&mut self) -> Result<(), Verdict> {
        let seat = (self.counts.steps / 4 % 2) as usize;
        self.die(seat, Death { when: When::Now, after: 0, down_us: AWAY_US, silent: false })?;
        self.run_until(self.now + AWAY_US)?;
        self.must_find_each_other("a while alone")
    }

    /// No user helps.
    fn must_find_each_other(&mut self, after: &str) -> Result<(), Verdict> {
        if self.wait(LINK_US, World::is_settled)? {
            return Ok(());
        }
        Err(stuck(format!("after {after} the two do not find each other again by themselves")))
    }
}
