//! What drives chand from outside: real programs, sockets, files and signals.
//!
//! In: the binaries that `cargo build --release --workspace` made. Out: running chains and nodes that a test can
//! call, kill and start again; all of them die with the test, and show their logs when it failed.
//! Nothing here looks inside chand: only what docs and help promise is used.
//! Read next: `world` (a chain, Alice and Bob), `node`, `chain`, then the tests in `tests/process`.

pub mod bench;
pub mod books;
pub mod chain;
pub mod counterfeit;
pub mod duet;
pub mod explore;
pub mod fuzz;
pub mod gate;
pub mod hash;
pub mod http;
pub mod litecoin;
pub mod map;
pub mod node;
pub mod ports;
pub mod process;
pub mod programs;
pub mod region;
pub mod sim;
pub mod socket;
pub mod spec;
pub mod stranger;
pub mod tower;
pub mod town;
pub mod trail;
pub mod wait;
pub mod world;

pub use chain::Chain;
pub use node::Node;
pub use socket::{CallError, Client};
pub use wait::{wait_for, wait_until};
pub use world::{ChannelType, World};
