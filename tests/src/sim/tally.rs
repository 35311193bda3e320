//! How often each kind of lie was told and each kind of fault was met: whatever is never met is not tested.
//!
//! In: a word at each occasion. Out: sums over runs, as lines for a person. Read next: `world`.

use super::cheats::Lie;
use std::collections::BTreeMap;

/// The word before the name of a lie.
const LIE: &str = "lie ";

/// Occasions by kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Once more.
    pub fn met(&mut self, what: impl Into<String>) {
        self.add(what, 1);
    }

    /// So often more.
    pub fn add(&mut self, what: impl Into<String>, count: u64) {
        if count > 0 {
            *self.0.entry(what.into()).or_default() += count;
        }
    }

    /// A lie is told.
    pub fn told(&mut self, lie: Lie) {
        self.met(format!("{LIE}{lie:?}"));
    }

    /// Adds another run's.
    pub fn join(&mut self, other: &Tally) {
        other.0.iter().for_each(|(what, count)| self.add(what.clone(), *count));
    }

    /// Each mark and how often it was reached.
    pub fn marks(&self) -> Vec<(&'static str, u64)> {
        super::marks::ALL.iter().map(|mark| (*mark, self.0.get(*mark).copied().unwrap_or(0))).collect()
    }

    /// Two lines: lies with how often each was told, never told ones included; and everything else.
    pub fn lines(&self) -> [String; 2] {
        let of = |lie: &Lie| self.0.get(&format!("{LIE}{lie:?}")).copied().unwrap_or(0);
        let lies: Vec<String> = Lie::ALL.iter().map(|lie| format!("{lie:?} {}", of(lie))).collect();
        let rest = self.0.iter().filter(|(what, _)| !what.starts_with(LIE));
        let rest: Vec<String> = rest.map(|(what, count)| format!("{what} {count}")).collect();
        [format!("told: {}", lies.join(", ")), format!("met: {}", rest.join(", "))]
    }
}
