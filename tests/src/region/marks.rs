//! What was seen in a run: without these a region that finds nothing has shown nothing.
//!
//! In: names. Out: how many runs saw each. Read next: `judge`, which notes most of them.

use std::collections::BTreeMap;

/// Every mark.
pub const ALL: &[&str] = &[
    "a forward was settled after a crash of the node in the middle",
    "a secret that was learned on chain went upstream",
    "a forward failed back after the chain decided",
    "a payment in three parts or more",
    "a part failed and went elsewhere",
    "a payment over four hops or more",
    "a cheat was punished while it forwarded",
    "blocks left the chain while forwards were under way",
    "blocks left the chain with a close under forwards",
    "a disk refused in a forward",
    "a hold invoice was settled over several hops",
    "a hold invoice was given back over several hops",
    "a keysend over several hops",
    "a route that pays too little was refused",
    "an invoice was to be paid twice",
    "a payee was paid whom its payer never knew",
    "an HTLC too small for an output was forwarded",
    "a node slept through deadlines",
    "a channel was closed by force in a forward",
];

/// The marks of one run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    /// This was seen.
    pub fn see(&mut self, mark: &'static str) {
        debug_assert!(ALL.contains(&mark), "{mark}");
        self.0.insert(mark, 1);
    }

    /// Those of another run, too.
    pub fn join(&mut self, other: &Marks) {
        for (mark, count) in &other.0 {
            *self.0.entry(mark).or_default() += count;
        }
    }

    /// How many runs saw each.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        ALL.iter().map(|mark| (*mark, self.0.get(mark).copied().unwrap_or(0))).collect()
    }
}
