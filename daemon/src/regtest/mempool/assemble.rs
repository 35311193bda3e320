//! What goes into the next block: the best paying ancestors-and-self first, as miners choose.
//!
//! In: the pool. Out: transactions in an order a block may have them. Read next: `rpc/mining.rs`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bitcoin::{Transaction, Txid};

use super::Mempool;

/// What a block leaves for the pool's transactions; the rest is for header and coinbase.
pub const BLOCK_WEIGHT_FOR_TXS: u64 = 3_992_000;
const BLOCK_SIGOPS_FOR_TXS: u64 = 79_600;

/// A transaction with what is not yet chosen of its ancestors.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Offer {
    fee_sat: u64,
    vsize: u64,
    txid: Txid,
}

impl Ord for Offer {
    fn cmp(&self, other: &Offer) -> Ordering {
        let mine = u128::from(self.fee_sat) * u128::from(other.vsize);
        let theirs = u128::from(other.fee_sat) * u128::from(self.vsize);
        mine.cmp(&theirs).then_with(|| other.txid.cmp(&self.txid))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Offer) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Mempool {
    /// The next block's transactions, parents before children.
    pub fn assemble(&self) -> Vec<Transaction> {
        let ancestors: BTreeMap<Txid, BTreeSet<Txid>> =
            self.entries().map(|entry| (entry.txid, self.ancestors(&entry.tx))).collect();
        let mut chosen: BTreeSet<Txid> = BTreeSet::new();
        let mut ordered = Vec::new();
        let (mut weight, mut sigops) = (0u64, 0u64);
        let mut offers: BinaryHeap<Offer> =
            ancestors.iter().map(|(txid, above)| self.offer(txid, above, &chosen)).collect();
        while let Some(offer) = offers.pop() {
            let Some(above) = ancestors.get(&offer.txid) else { continue };
            if chosen.contains(&offer.txid) || offer != self.offer(&offer.txid, above, &chosen) {
                continue;
            }
            let mut package: Vec<Txid> = above.difference(&chosen).copied().collect();
            package.push(offer.txid);
            let entries = package.iter().filter_map(|txid| self.get(txid));
            let (more_weight, more_sigops) =
                entries.fold((0, 0), |(w, s), entry| (w + entry.weight, s + entry.sigop_cost));
            if weight + more_weight > BLOCK_WEIGHT_FOR_TXS || sigops + more_sigops > BLOCK_SIGOPS_FOR_TXS {
                continue;
            }
            weight += more_weight;
            sigops += more_sigops;
            // A parent always has fewer ancestors than its child.
            package.sort_by_key(|txid| ancestors.get(txid).map_or(0, BTreeSet::len));
            for txid in &package {
                chosen.insert(*txid);
                ordered.extend(self.get(txid).map(|entry| Transaction::clone(&entry.tx)));
            }
            let below: BTreeSet<Txid> = package.iter().flat_map(|txid| self.descendants(txid)).collect();
            for txid in below.difference(&chosen) {
                if let Some(above) = ancestors.get(txid) {
                    offers.push(self.offer(txid, above, &chosen));
                }
            }
        }
        ordered
    }

    fn offer(&self, txid: &Txid, ancestors: &BTreeSet<Txid>, chosen: &BTreeSet<Txid>) -> Offer {
        let totals = self.totals(ancestors.difference(chosen).chain(std::iter::once(txid)));
        Offer { fee_sat: totals.fee_sat, vsize: totals.vsize, txid: *txid }
    }
}
