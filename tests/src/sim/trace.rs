//! What happened, as one number and, when wanted, as lines.
//!
//! In: every message, transaction, answer, log line, crash and cut, with its time. Out: a hash that two runs of one
//! seed must share, and the lines for a person. Read next: `world`.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The trace of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: DefaultHasher,
    /// The lines, when they are kept.
    pub lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace; with `lines` it keeps the words, too.
    pub fn new(lines: bool) -> Trace {
        Trace { hash: DefaultHasher::new(), lines: lines.then(Vec::new) }
    }

    /// Takes one event up: `bytes` for the hash, words for the lines.
    pub fn note(&mut self, now_us: u64, bytes: &[u8], words: impl FnOnce() -> String) {
        (now_us, bytes).hash(&mut self.hash);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {}", now_us as f64 / 1e6, words()));
        }
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.hash.finish()
    }
}
