//! Who has what, in channels and on chain.
//!
//! In: the nodes, the chain, what payments and forwards say. Out: a verdict when somebody has less. A close costs fees and
//! what is too small for an output: for each closed channel, what its outputs, followed to the wallets, lost on the way.
//! Read next: `judge`.

use super::play::Region;
use crate::sim::Verdict;
use bitcoin::OutPoint;
use chand_protocol::channel::Phase;
use chand_protocol::node::view;
use std::collections::BTreeSet;

/// What a node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wealth {
    /// In channels that are open, msat.
    pub channels: i128,
    /// On chain, msat.
    pub wallet: i128,
}

impl Region {
    /// What a node has now.
    pub(super) fn wealth(&self, seat: usize) -> Wealth {
        let place = &self.town.seats[seat];
        let alive =
            place.node.channels().filter(|c| !matches!(c.phase, Phase::Onchain(_) | Phase::Closed(_)));
        let channels = alive.map(|c| i128::from(c.to_us().0)).sum();
        let wallet = i128::from(self.town.chain.money_of(&place.wallet.script)) * 1_000;
        Wealth { channels, wallet }
    }

    /// Nobody honest has less than what it was paid and paid.
    pub(super) fn whole(
        &self,
        pays: &[Vec<view::Pay>],
        bills: &[Vec<view::Invoice>],
        rows: &[Vec<view::Forward>],
    ) -> Result<(), Verdict> {
        self.town.chain.conserved().map_err(|words| Verdict::new("whole", words))?;
        let closed = self.closes();
        for seat in (0..self.plan.people).filter(|seat| !self.guilty.contains(seat)) {
            let earned: i128 = rows[seat].iter().map(earned).sum();
            let received = bills[seat].iter().filter_map(|bill| bill.amount_received_msat);
            let received: i128 = received.map(|amount| i128::from(amount.0)).sum();
            let complete = pays[seat].iter().filter(|pay| pay.status == "complete");
            let spent: i128 = complete.map(|pay| i128::from(pay.amount_sent_msat.0)).sum();
            let (start, end) = (self.start[seat], self.wealth(seat));
            let want = start.channels + start.wallet + earned + received - spent;
            let have = end.channels + end.wallet;
            let mine = closed.iter().filter(|close| close.ends.contains(&seat));
            let (count, cost) = mine.fold((0, 0), |(count, cost), close| (count + 1, cost + close.cost));
            let fine = if count == 0 { have == want } else { have + cost >= want };
            if !fine {
                let words = format!(
                    "node {seat} has {have} msat and should have {want} ({earned} earned, {received} received, {spent} \
                     spent); {count} channels closed at a cost of {cost}"
                );
                return Err(Verdict::new("whole", words));
            }
        }
        Ok(())
    }

    /// Channels that a block closed.
    fn closes(&self) -> Vec<Close> {
        let mut closes = Vec::new();
        for (place, edge) in self.plan.edges.iter().enumerate() {
            let channel = self.town.seats[edge.ends[0]].node.channel(&self.ids[place]);
            let Some(channel) = channel else { continue };
            if !self.town.chain.holds(&channel.terms.funding) {
                let cost = self.cost_of(channel.terms.funding, channel.terms.capacity.0);
                closes.push(Close { ends: edge.ends, cost });
            }
        }
        closes
    }

    /// What of a funding output came to no wallet, and what others paid for its way, msat.
    fn cost_of(&self, funding: OutPoint, capacity: u64) -> i128 {
        let chain = &self.town.chain;
        let ours = |script: &bitcoin::ScriptBuf| self.town.seats.iter().any(|s| s.wallet.script == *script);
        let mut followed: BTreeSet<OutPoint> = [funding].into();
        let (mut arrived, mut added) = (0u64, 0u64);
        for tx in chain.blocks.iter().flat_map(|block| block.txs.iter()) {
            if !tx.input.iter().any(|i| followed.contains(&i.previous_output)) {
                continue;
            }
            let foreign = tx.input.iter().filter(|i| !followed.contains(&i.previous_output));
            added +=
                foreign.filter_map(|i| chain.made(&i.previous_output)).map(|o| o.value.to_sat()).sum::<u64>();
            let txid = tx.compute_txid();
            for (vout, output) in tx.output.iter().enumerate() {
                if ours(&output.script_pubkey) {
                    arrived += output.value.to_sat();
                } else {
                    followed.insert(OutPoint { txid, vout: vout as u32 });
                }
            }
        }
        i128::from(capacity + added - arrived) * 1_000
    }
}

struct Close {
    ends: [usize; 2],
    cost: i128,
}

/// What a forward should have brought.
fn earned(row: &view::Forward) -> i128 {
    let paid_on = row.status == "settled" || row.lost.is_some();
    if paid_on {
        i128::from(row.in_msat.0) - i128::from(row.out_msat.0)
    } else {
        0
    }
}
