//! Real programs, real sockets, real files: what a person or a script sees of two nodes and their chain.
//!
//! In: the binaries of `cargo build --release --workspace`. Out: proof that money is neither lost nor made when
//! they are used, killed, fed rubbish and cut off.
//! Each module is one side of it; `chand_tests` (tests/src) is what they drive the programs with.
//! Read next: `pay` (the plain story), then `kill` (the hard one).

mod access;
mod backend;
mod blinded;
mod check;
mod cli;
mod close;
mod disk;
mod door;
mod drain;
mod fees;
mod files;
mod flood;
mod forward;
mod gossip;
mod hardware;
mod hold;
mod kill;
mod line;
mod litecoind;
mod many;
mod notify;
mod onchain;
mod pay;
mod penalty;
mod recover;
mod refuse;
mod restart;
mod routes;
mod snapshot;
mod stage;
mod stranger;
mod tools;
mod tower;
mod waits;
