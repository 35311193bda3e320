//! The search: from the payee back to the payer, because only there the amount is known and fees grow on the way.
//!
//! In: graph, scores, query. Out: the route that costs least, all weighed as money (`cost`), with amounts and expiries
//! to the last msat and block. It is Dijkstra's, over a workspace that is used again: a generation number
//! makes old labels void, so that a query touches only the nodes it reaches. A limit that is met on the way does not
//! end it: the search is made again with that limit's own measure in front, until a route keeps them all.
//! Read next: `cost`, `split`, `why`.

use super::beside::Edge;
use super::cost::{Aim, Prices, HOP_RISK};
use super::ends::Ends;
use super::query::{Hop, NoRoute, Query, Route};
use super::score::Scorer;
use super::taken::Taken;
use super::why;
use crate::gossip::graph::{fee, Arc, Direction, Graph, State};
use crate::units::Msat;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// An onion of 1,300 bytes has room for no more.
const MAX_HOPS: usize = 20;
/// Where the way on from a node is an edge beside the graph.
const BESIDE: u32 = 1 << 31;
/// No way on: the payee.
const END: u32 = u32::MAX;

/// What is known of the way from one node to the payee.
#[derive(Clone, Copy, Default)]
struct Label {
    /// All weighed, the amount itself included; orders the search.
    cost: u64,
    /// What must reach this node, msat.
    amount: u64,
    /// When the HTLC that reaches it expires, blocks from now.
    cltv: u32,
    /// The next node, and which of the directions into that.
    next: u32,
    arc: u32,
    /// In which search this was written, and in which it became final.
    seen: u32,
    closed: u32,
    hops: u32,
}

/// Room for searches; keep it and use it again.
#[derive(Default)]
pub struct Search {
    labels: Vec<Label>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    generation: u32,
}

/// One query with all that does not change while it is answered.
pub(super) struct Task<'a> {
    pub(super) graph: &'a Graph,
    pub(super) scorer: &'a Scorer,
    pub(super) query: &'a Query<'a>,
    pub(super) ends: &'a Ends<'a>,
    pub(super) taken: &'a Taken,
    /// Of this part.
    pub(super) amount: u64,
    /// For this part.
    pub(super) max_fee: u64,
    /// What matters most at first.
    pub(super) aim: Aim,
}

/// Which limits kept the search from going on somewhere.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Met {
    fee: bool,
    cltv: bool,
    hops: bool,
}

/// A way from one node to the next as `relax` needs it: an arc of the graph or an edge beside it.
struct Step {
    from: u32,
    to: u32,
    arc: u32,
    fee_base: u32,
    fee_millionths: u32,
    /// What `from` asks for by the measure, msat.
    asked: u64,
    blocks: u32,
    risk: u32,
    hops: u32,
}

impl Search {
    /// Without memory of anything.
    pub fn new() -> Search {
        Search::default()
    }

    /// The best route for the whole amount in one part.
    ///
    /// # Errors
    /// [`NoRoute`]: which limit stood in the way.
    pub fn route(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> Result<Route, NoRoute> {
        let query = Query { max_parts: 1, ..*query };
        let found = self.whole(graph, scorer, &query, Aim::Balanced);
        found.ok_or_else(|| why::explain(self, graph, scorer, &query))
    }

    /// The same as [`Search::route`] for who will not tell anybody why there is none: that costs many searches more.
    pub fn try_route(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> Option<Route> {
        self.whole(graph, scorer, query, Aim::Balanced)
    }

    /// The route with the least fee for the whole amount in one part, however likely it fails.
    pub fn try_cheapest(&mut self, graph: &Graph, scorer: &Scorer, query: &Query) -> Option<Route> {
        self.whole(graph, scorer, query, Aim::Cheapest)
    }

    /// The whole amount in one part, one measure first.
    pub(super) fn whole(&mut self, graph: &Graph, scorer: &Scorer, query: &Query, aim: Aim) -> Option<Route> {
        let (ends, taken) = (Ends::new(graph, query), Taken::by_user(query));
        let (amount, max_fee) = (query.amount.0, query.max_fee.0);
        self.find(&Task { graph, scorer, query, ends: &ends, taken: &taken, amount, max_fee, aim })
    }

    /// One part, within all limits.
    pub(super) fn find(&mut self, task: &Task) -> Option<Route> {
        if task.query.us == task.query.payee || task.amount == 0 {
            return None;
        }
        let (found, met) = self.run(task, task.aim);
        if found.is_some() {
            return found;
        }
        // The measure of the limit alone shows whether it can be kept; then one that looks at the rest, too.
        if met.fee && task.aim != Aim::Cheapest {
            let (cheapest, still) = self.run(task, Aim::Cheapest);
            if cheapest.is_some() {
                return self.run(task, Aim::Frugal).0.or(cheapest);
            }
            if !still.cltv && !still.hops {
                return None;
            }
        }
        if met.cltv && task.aim != Aim::Earliest {
            if let (Some(earliest), _) = self.run(task, Aim::Earliest) {
                return self.run(task, Aim::Early).0.or(Some(earliest));
            }
        }
        if met.hops && task.aim != Aim::Shortest {
            return self.run(task, Aim::Shortest).0;
        }
        None
    }

    /// With one measure; and which limits it met.
    fn run(&mut self, task: &Task, aim: Aim) -> (Option<Route>, Met) {
        self.begin(task);
        let prices = Prices::new(task.amount, aim);
        let mut met = Met::default();
        let now_s = u32::try_from(task.query.now.seconds()).unwrap_or(u32::MAX);
        while let Some(Reverse((_, node))) = self.heap.pop() {
            let label = self.labels[node as usize];
            if label.closed == self.generation {
                continue;
            }
            self.labels[node as usize].closed = self.generation;
            if let Some(route) = self.arrived(task, node, &label) {
                return (Some(route), met);
            }
            let on = if prices.compound { label.cost } else { label.amount };
            if task.ends.is_in_graph(node) {
                for (place, arc) in task.graph.arcs_into(node).iter().enumerate() {
                    let Some((asked, risk)) = self.along(task, arc, &label, on, now_s) else { continue };
                    let ours = task.ends.us == Some(arc.from);
                    let step = Step {
                        from: arc.from,
                        to: node,
                        arc: place as u32,
                        fee_base: if ours { 0 } else { arc.fee_base },
                        fee_millionths: if ours { 0 } else { arc.fee_millionths },
                        asked,
                        blocks: if ours { 0 } else { u32::from(arc.cltv_delta) },
                        risk: risk + HOP_RISK,
                        hops: 1,
                    };
                    self.relax(task, &prices, &label, &step, &mut met);
                }
            }
            for (place, edge) in task.ends.edges.iter().enumerate().filter(|(_, edge)| edge.to == node) {
                if let Some(step) = beside(task, edge, &label, on, place as u32, now_s) {
                    self.relax(task, &prices, &label, &step, &mut met);
                }
            }
        }
        (None, met)
    }

    /// A new generation: no label of before counts, what is excluded is closed, the payee is where it starts.
    fn begin(&mut self, task: &Task) {
        self.heap.clear();
        if self.labels.len() < task.ends.slots() {
            self.labels.resize(task.ends.slots(), Label::default());
        }
        if self.generation == u32::MAX {
            self.labels.fill(Label::default());
            self.generation = 0;
        }
        self.generation += 1;
        // Our own channels were given: no way leads through ourselves.
        let us = task.ends.us.filter(|_| task.ends.has_own());
        // BOLT 7 [7.node.15].
        let foreign =
            task.graph.foreign().filter(|node| *node != task.ends.payee && Some(*node) != task.ends.us);
        for node in task.ends.excluded.iter().copied().chain(us).chain(foreign) {
            self.labels[node as usize].closed = self.generation;
        }
        let payee = &mut self.labels[task.ends.payee as usize];
        if payee.closed == self.generation || task.query.final_cltv_delta > task.query.max_cltv_blocks {
            return;
        }
        *payee = Label {
            cost: task.amount,
            amount: task.amount,
            cltv: task.query.final_cltv_delta,
            next: END,
            arc: END,
            seen: self.generation,
            closed: 0,
            hops: 0,
        };
        self.heap.push(Reverse((task.amount, task.ends.payee)));
    }

    /// An arc of the graph, if the amount at its end may come over it, and its fee alone does not make it dearer than
    /// what is known there.
    #[inline]
    fn along(&self, task: &Task, arc: &Arc, label: &Label, on: u64, now_s: u32) -> Option<(u64, u32)> {
        if arc.state != State::Enabled || label.amount < arc.htlc_minimum || label.amount > arc.htlc_maximum {
            return None;
        }
        let there = &self.labels[arc.from as usize];
        if there.closed == self.generation {
            return None;
        }
        if task.ends.is_outdated(arc.scid, arc.direction) {
            return None;
        }
        // The payer asks itself for no fee and no blocks.
        let ours = task.ends.us == Some(arc.from);
        let asked = if ours { 0 } else { fee(arc.fee_base, arc.fee_millionths, on)? };
        if there.seen == self.generation {
            if there.cost <= label.cost.checked_add(asked)? {
                return None;
            }
        } else if task.graph.arcs_into(arc.from).len() == 1 && !task.ends.is_gate(arc.from) {
            // Who has no other channel passes nothing on.
            return None;
        }
        let size = arc.size();
        let other = task.taken.of(arc.scid, arc.direction);
        let most = label.amount.checked_add(other).filter(|sum| *sum <= size)?;
        let amount = task.amount.saturating_add(other).min(most);
        let risk = task.scorer.risk((arc.scid, arc.direction, size), (amount, most), now_s)?;
        Some((asked, risk))
    }

    /// Goes one step back, if that is better than what is known there, and within the limits.
    #[inline]
    fn relax(&mut self, task: &Task, prices: &Prices, label: &Label, step: &Step, met: &mut Met) {
        let there = &self.labels[step.from as usize];
        if there.closed == self.generation {
            return;
        }
        let extra = prices.of(step.risk, step.blocks);
        let Some(cost) = label.cost.checked_add(step.asked).and_then(|sum| sum.checked_add(extra)) else {
            return;
        };
        if there.seen == self.generation && there.cost <= cost {
            return;
        }
        let Some(amount) = fee(step.fee_base, step.fee_millionths, label.amount)
            .and_then(|fee| label.amount.checked_add(fee))
        else {
            return;
        };
        // The payer's own step makes a hop of its own in the end.
        let cltv = label.cltv.saturating_add(step.blocks);
        let hops = label.hops + step.hops;
        let ours = task.ends.us == Some(step.from);
        let most_hops = task.query.max_hops.min(MAX_HOPS) as u32;
        let (fee_met, cltv_met, hops_met) = (
            amount - task.amount > task.max_fee,
            cltv > task.query.max_cltv_blocks,
            hops + u32::from(!ours) > most_hops,
        );
        if fee_met || cltv_met || hops_met {
            met.fee |= fee_met;
            met.cltv |= cltv_met;
            met.hops |= hops_met;
            return;
        }
        self.labels[step.from as usize] = Label {
            cost,
            amount,
            cltv,
            next: step.to,
            arc: step.arc,
            seen: self.generation,
            closed: 0,
            hops,
        };
        self.heap.push(Reverse((cost, step.from)));
    }

    /// The route, when this node is where the payer stands, or a peer whom one of our channels can give the amount.
    fn arrived(&self, task: &Task, node: u32, label: &Label) -> Option<Route> {
        let query = task.query;
        let first = if task.ends.has_own() {
            let own = task.ends.own_for(node, &query.us, label.amount, task.taken)?;
            let direction = Direction::between(&query.us, &own.peer);
            Some(Hop {
                scid: own.scid,
                direction,
                node: own.peer,
                amount: Msat(label.amount),
                delay_blocks: label.cltv,
                size: Msat::ZERO,
                beside: false,
            })
        } else if task.ends.us == Some(node) {
            None
        } else {
            return None;
        };
        Some(self.trace(task, label, first))
    }

    /// Follows the labels from the payer's end to the payee.
    fn trace(&self, task: &Task, label: &Label, first: Option<Hop>) -> Route {
        let mut hops: Vec<Hop> = first.into_iter().collect();
        let (mut here, mut hint, mut risk) = (*label, None, 0u32);
        let now_s = u32::try_from(task.query.now.seconds()).unwrap_or(u32::MAX);
        while here.next != END {
            let next = self.labels[here.next as usize];
            let (channel, size, beside) = if here.arc & BESIDE != 0 {
                let edge = &task.ends.edges[(here.arc & !BESIDE) as usize];
                hint = edge.hint.or(hint);
                (edge.channel, edge.size, edge.is_beside())
            } else {
                let arc = &task.graph.arcs_into(here.next)[here.arc as usize];
                (Some((arc.scid, arc.direction)), arc.size(), false)
            };
            if let Some((scid, direction)) = channel {
                let more = if beside {
                    0
                } else {
                    let sum = next.amount.saturating_add(task.taken.of(scid, direction));
                    task.scorer.risk((scid, direction, size), (sum, sum), now_s).unwrap_or(0)
                };
                risk = risk.saturating_add(more + HOP_RISK);
                hops.push(Hop {
                    scid,
                    direction,
                    node: task.ends.id_of(task.graph, here.next),
                    amount: Msat(next.amount),
                    delay_blocks: next.cltv,
                    size: Msat(size),
                    beside,
                });
            }
            here = next;
        }
        let sent = hops.first().map_or(task.amount, |hop| hop.amount.0);
        Route { hops, amount: Msat(task.amount), fee: Msat(sent.saturating_sub(task.amount)), hint, risk }
    }
}

/// An edge beside the graph, if the amount at its end may come over it.
fn beside(task: &Task, edge: &Edge, label: &Label, on: u64, place: u32, now_s: u32) -> Option<Step> {
    if label.amount < edge.htlc_minimum || label.amount > edge.htlc_maximum {
        return None;
    }
    let risk = match edge.channel {
        None => 0,
        Some(name) if edge.is_beside() => {
            let taken = task.taken.of_beside(name, &edge.owner);
            label.amount.checked_add(taken).filter(|sum| *sum <= edge.size)?;
            0
        }
        Some((scid, direction)) => {
            let sum = label.amount.checked_add(task.taken.of(scid, direction)).filter(|s| *s <= edge.size)?;
            task.scorer.risk((scid, direction, edge.size), (sum, sum), now_s)?
        }
    };
    Some(Step {
        from: edge.from,
        to: edge.to,
        arc: place | BESIDE,
        fee_base: edge.fee_base,
        fee_millionths: edge.fee_millionths,
        asked: fee(edge.fee_base, edge.fee_millionths, on)?,
        blocks: u32::from(edge.cltv_delta),
        risk: risk + HOP_RISK,
        hops: u32::from(edge.channel.is_some()),
    })
}
