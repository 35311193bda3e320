//! LDK as the judge: an unmodified ldk-node in a process of its own talks to chand on the embedded chain.
//!
//! In: the programs of `tests/run.sh build interop-build`. Out: both sides' books, equal to the millisatoshi after
//! every step. `tests/run.sh interop` runs it; without LDK's program it fails.
//! Read next: `ldk` (the process), `pair` (the two and their channel), `life`; `row`, `network` and `blinded` (payments that
//! cross both).

mod blinded;
mod close;
mod fee;
mod ldk;
mod life;
mod load;
mod middle;
mod network;
mod pair;
mod parts;
mod row;
mod steps;
