//! Two whole nodes in one process: every scenario runs on `node::step`, with real keys, scripts and records.
//!
//! Read next: `chand_tests::duet`.
mod blinded;
mod chaos;
mod claims;
mod clauses;
mod close;
mod crash;
mod dear;
mod determinism;
mod ends;
mod faults;
mod faults2;
mod forget;
mod forward;
mod golden;
mod gossip;
mod greet;
mod history;
mod hold;
mod identify;
mod late;
mod limits;
mod lost;
mod onchain;
mod open;
mod pay;
mod penalty;
mod reasons;
mod routes;
mod script;
mod split;
mod store;
mod tower;
mod unblind;
mod undone;
mod weights;
