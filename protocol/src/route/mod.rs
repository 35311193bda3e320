//! Finding a way for a payment: whom it passes, what each hop gets, how likely it arrives.
//!
//! In: the graph of public channels, what was learned of them, a [`Query`]. Out: a [`Route`] (or several, the parts of
//! one payment), or which limit stood in the way and the nearest route beyond it. All of it is pure: the same
//! graph, scores and query give the same route, and nothing here sends anything.
//! * `query`: question and answer; `ends`: what of a query is not in the graph (our own channels, hints); `beside`: channels
//!   that only hints name;
//! * `search`: the search itself; `cost`: what it weighs; `taken`: what earlier parts and the user take away;
//! * `score`: what was learned; `chance`: what that says of an amount; `log`: logarithms without floats;
//! * `router`: the questions of a node; `split`: several parts; `why`: when there is no route.
//!
//! Read next: `query`, then `search`. Why it weighs as it does: docs/decisions/routing.md.

mod beside;
mod chance;
mod cost;
mod ends;
mod log;
mod marks;
mod query;
mod router;
pub mod score;
mod search;
mod split;
mod taken;
mod why;

pub use query::{Beside, BlindedHint, Exclude, FirstHop, Hint, Hop, NoRoute, Query, Relaxed, Route, Way};
pub use router::Router;
pub use score::Scorer;
pub use search::Search;

#[cfg(test)]
mod tests;
