//! The walk: breadth first, each state once, so that the first failure found is as near as one can be.
//!
//! In: a start and bounds. Out: what was seen, or the shortest way to a failure. Afterwards every state that was walked is
//! followed along its healing moves: from each, a quiet state must be reached (no circle, no dead end). Then the chain is played.
//! Read next: `world`.

use super::publish::Court;
use super::start::Start;
use super::table::{Table, NONE};
use super::world::{Move, Stage, World};
use super::{Bounds, Failure, Seen, Verdict};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often the progress is told.
const TELL_EVERY: usize = 1 << 20;

/// A walk under way.
struct Walk {
    stage: Stage,
    table: Table,
    /// From which state each was met first.
    parents: Vec<u32>,
    /// Where the healing move of each walked state leads; itself when it is quiet.
    heals: Vec<u32>,
    seen: Seen,
    /// What the thread had done before.
    idle: Duration,
}

/// What this thread spent on a processor (Linux tells).
fn busy() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Walks one start to its end, or to the bound.
///
/// # Errors
/// The first failure, with the shortest way to it.
pub fn walk(start: Start, bounds: Bounds, tell: &dyn Fn(&Seen)) -> Result<Seen, Failure> {
    let (name, changes_fee) = (start.name.clone(), start.changes_fee());
    let since = Instant::now();
    let failed = |verdict| Failure { start: name.clone(), verdict, moves: Vec::new() };
    let (stage, world) = Stage::new(start, bounds).map_err(failed)?;
    let idle = busy().unwrap_or_default();
    let seen = Seen { start: name.clone(), ..Seen::default() };
    let mut walk =
        Walk { stage, table: Table::default(), parents: Vec::new(), heals: Vec::new(), seen, idle };
    walk.meet(&world, NONE).map_err(failed)?;
    let ended = walk.run(bounds, since, tell).and_then(|()| walk.judge_healing());
    let ended = ended.and_then(|()| walk.publish(bounds));
    match ended {
        Ok(()) => {
            walk.count(since.elapsed());
            if walk.seen.whole && changes_fee && walk.seen.feerates < 2 {
                return Err(failed(Verdict::new("start", "in no order of things does the feerate change")));
            }
            Ok(walk.seen)
        }
        Err((at, last, verdict)) => {
            let moves = walk.way(at, last);
            Err(Failure { start: name, verdict, moves })
        }
    }
}

/// Walks to the end and gives what would be played then, for tests of the judges.
///
/// # Errors
/// What a judge said on the way.
#[cfg(test)]
pub fn met(start: Start, bounds: Bounds) -> Result<(Court, Stage), Verdict> {
    let (stage, world) = Stage::new(start, bounds)?;
    let (seen, idle) = (Seen::default(), Duration::ZERO);
    let mut walk =
        Walk { stage, table: Table::default(), parents: Vec::new(), heals: Vec::new(), seen, idle };
    walk.meet(&world, NONE)?;
    walk.run(bounds, Instant::now(), &|_| {}).map_err(|(_, _, verdict)| verdict)?;
    Ok((walk.court()?, walk.stage))
}

/// In which state, at which move out of it, and what.
type Stop = (u32, Option<Move>, Verdict);

impl Walk {
    fn meet(&mut self, world: &World, parent: u32) -> Result<u32, Verdict> {
        let packed = world.pack().ok_or_else(|| Verdict::new("bound", "too many states to be numbered"))?;
        let (number, is_new) = self.table.insert(packed);
        if is_new {
            self.parents.push(parent);
        }
        Ok(number)
    }

    fn run(&mut self, bounds: Bounds, since: Instant, tell: &dyn Fn(&Seen)) -> Result<(), Stop> {
        let mut moves = Vec::new();
        let mut level_end = 1;
        let mut at = 0;
        while at < self.table.len() {
            let nodes: usize = self.stage.graphs.iter().map(|g| g.size().0).sum();
            if self.table.len() >= bounds.max_states || nodes >= bounds.max_nodes {
                return Ok(());
            }
            if at == level_end {
                self.seen.depth += 1;
                level_end = self.table.len();
            }
            self.expand(at as u32, &mut moves)?;
            at += 1;
            if at % TELL_EVERY == 0 {
                self.count(since.elapsed());
                tell(&self.seen);
            }
        }
        self.seen.whole = true;
        Ok(())
    }

    fn expand(&mut self, at: u32, moves: &mut Vec<Move>) -> Result<(), Stop> {
        let world = World::unpack(self.table.get(at));
        self.stage.moves(&world, moves);
        let quiet = self.stage.healing(&world).is_none();
        if quiet {
            self.seen.quiet += 1;
            self.stage.judge_quiet(&world).map_err(|v| (at, None, v))?;
            self.heals.push(at);
        }
        for (place, step) in moves.iter().enumerate() {
            let stop = |v| (at, Some(*step), v);
            let next = self.stage.make(&world, *step).map_err(stop)?;
            let number = self.meet(&next, at).map_err(stop)?;
            if place == 0 && !quiet {
                self.heals.push(number);
            }
        }
        self.seen.moves += moves.len() as u64;
        Ok(())
    }

    fn count(&mut self, took: Duration) {
        let seen = &mut self.seen;
        seen.states = self.table.len();
        let sizes = self.stage.graphs.each_ref().map(super::graph::Graph::size);
        seen.nodes = sizes.map(|s| s.0);
        seen.steps = sizes.iter().map(|s| s.1).sum();
        seen.messages = self.stage.wires.count();
        let feerates: BTreeSet<_> =
            self.stage.graphs.iter().flat_map(super::graph::Graph::feerates).collect();
        seen.feerates = feerates.len();
        seen.took = took;
        seen.busy = busy().and_then(|now| now.checked_sub(self.idle));
    }

    /// From every walked state the healing moves end in a quiet one.
    fn judge_healing(&mut self) -> Result<(), Stop> {
        const UNKNOWN: u32 = u32::MAX;
        const OPEN: u32 = u32::MAX - 1;
        let mut far = vec![UNKNOWN; self.heals.len()];
        let mut way = Vec::new();
        for from in 0..self.heals.len() as u32 {
            let mut at = from;
            // A bounded walk has states whose moves nobody looked at: they end the way, too.
            while (at as usize) < far.len() && far[at as usize] == UNKNOWN && self.heals[at as usize] != at {
                far[at as usize] = OPEN;
                way.push(at);
                at = self.heals[at as usize];
            }
            let mut distance = match far.get(at as usize) {
                Some(&OPEN) => {
                    return Err((from, None, Verdict::new("live", "healing goes round in a circle")))
                }
                Some(&UNKNOWN) => {
                    far[at as usize] = 0;
                    0
                }
                Some(known) => *known,
                None => 0,
            };
            while let Some(state) = way.pop() {
                distance += 1;
                far[state as usize] = distance;
            }
            self.seen.healing = self.seen.healing.max(far[from as usize]);
        }
        Ok(())
    }

    /// Every commitment, and every state that one may be published in.
    fn court(&self) -> Result<Court, Verdict> {
        let mut court = Court::new(&self.stage)?;
        for at in 0..self.table.len() as u32 {
            court.meet(&self.stage, at, &World::unpack(self.table.get(at)));
        }
        Ok(court)
    }

    /// From every state, either side publishes any commitment it ever had.
    fn publish(&mut self, bounds: Bounds) -> Result<(), Stop> {
        if bounds.max_plays == 0 {
            return Ok(());
        }
        let mut court = self.court().map_err(|v| (0, None, v))?;
        court.judge(&self.stage, bounds.max_plays).map_err(|(at, v)| (at, None, v))?;
        self.seen.plays = court.plays;
        Ok(())
    }

    /// The moves that lead to a state, and the last one.
    fn way(&mut self, to: u32, last: Option<Move>) -> Vec<String> {
        let mut states = vec![to];
        while let Some(parent) = states.last().map(|s| self.parents[*s as usize]).filter(|p| *p != NONE) {
            states.push(parent);
        }
        states.reverse();
        let mut told = Vec::new();
        let mut moves = Vec::new();
        for pair in states.windows(2) {
            let world = World::unpack(self.table.get(pair[0]));
            let wanted = self.table.get(pair[1]);
            self.stage.moves(&world, &mut moves);
            let found = moves.iter().find(|step| {
                let next = self.stage.make(&world, **step);
                next.ok().and_then(|w| w.pack()) == Some(wanted)
            });
            told.extend(found.map(|step| self.stage.words(&world, *step)));
        }
        if let Some(step) = last {
            told.push(self.stage.words(&World::unpack(self.table.get(to)), step));
        }
        told
    }
}
