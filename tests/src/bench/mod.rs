//! The benchmark: payments over one channel between two processes, or through two others, measured from outside.
//!
//! In: a plan (which nodes, how many payments in flight, how often). Out: one JSON object a line; from such a file,
//! the table and the plot of docs/PERFORMANCE.md. Nothing here judges: a benchmark prints what it measured.
//! * `plan`: the options; `pair`: what a measurement asks of two nodes; `chand`, `ldk`: the two kinds of pairs, `line`: with two between;
//! * `measure`: one measurement; `machine`: the kernel's counters; `syncs`: a pass in which syncs are counted;
//! * `primitives`: what the machine can do; `ceiling`: what follows for payments;
//! * `report`, `plot`: table and drawing.
//!
//! Read next: `pair`, `measure`.

pub mod ceiling;
pub mod chand;
pub mod crowd;
pub mod drive;
pub mod gossip;
pub mod ldk;
pub mod line;
pub mod machine;
pub mod measure;
pub mod pair;
pub mod plan;
pub mod plot;
pub mod primitives;
pub mod profile;
pub mod report;
pub mod syncs;
