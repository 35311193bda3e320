//! Two nodes, one channel, a few operations: every order in which things can happen, walked to its end.
//!
//! In: a start (`A+B+fee`), and how many cuts and crashes may happen. Out: how many states there are and that every
//! judge was content in each; or the judge that was not, with the shortest list of moves that leads there.
//!
//! A state of the world is small: the number of Alice's state, of Bob's, of what is under way each way, which ends
//! of the link are up, how many operations were ordered and how many faults are left. The states of one node are
//! computed by `node::step`, journal and restart as in the daemon, once each; the world's are only looked up.
//! Then, for every state that was met, either side publishes any commitment it ever had: `publish`.
//! Read next: `explore::start`, `graph` (one node), `world` (the moves), `walk`, `publish`.

pub mod facts;
pub mod graph;
pub mod memo;
pub mod publish;
pub mod shore;
pub mod start;
pub mod table;
pub mod verdicts;
pub mod walk;
pub mod wire;
pub mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Duration;

/// What a judge found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Which judge; the names are stable.
    pub judge: &'static str,
    /// What it says.
    pub words: String,
}

impl Verdict {
    /// A judge and its words.
    pub fn new(judge: &'static str, words: impl Into<String>) -> Verdict {
        Verdict { judge, words: words.into() }
    }
}

/// Runs what must not panic.
fn guarded<T>(judge: &'static str, f: impl FnOnce() -> T) -> Result<T, Verdict> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        Verdict::new(judge, words)
    })
}

/// As a number of cuts or crashes: any, without end. There are finitely many states all the same.
pub const ANY: u8 = 15;

/// How far to walk.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Cuts of the link: 0 to 14, or [`ANY`].
    pub cuts: u8,
    /// Crashes, of both nodes together: the same.
    pub crashes: u8,
    /// States of the world; the walk stops there.
    pub max_states: usize,
    /// States of the two nodes together; the walk stops there, too. Each takes about 45 kB.
    pub max_nodes: usize,
    /// Plays on the chain after the walk, at most: of more, as many are taken, evenly. 0 leaves the chain out.
    pub max_plays: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { cuts: 1, crashes: 1, max_states: usize::MAX, max_nodes: 150_000, max_plays: 0 }
    }
}

/// What a walk saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The start's name.
    pub start: String,
    /// States of the world.
    pub states: usize,
    /// Moves between them.
    pub moves: u64,
    /// The most moves that a state is away from the start.
    pub depth: u32,
    /// States in which nothing was left to do but to order.
    pub quiet: u64,
    /// The most moves that healing took.
    pub healing: u32,
    /// States of Alice and of Bob.
    pub nodes: [usize; 2],
    /// Steps of `node::step` that were computed for the moves.
    pub steps: usize,
    /// Different messages.
    pub messages: usize,
    /// Different feerates of commitments that were in force.
    pub feerates: usize,
    /// What was published.
    pub plays: publish::Plays,
    /// Every state was walked.
    pub whole: bool,
    /// How long it took.
    pub took: Duration,
    /// Of that on a processor, where the system tells.
    pub busy: Option<Duration>,
}

/// A judge's no, and how to get there.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The start's name.
    pub start: String,
    /// What was found.
    pub verdict: Verdict,
    /// The shortest way there, in words.
    pub moves: Vec<String>,
}
