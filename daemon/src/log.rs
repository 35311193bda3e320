//! Where log lines go: stderr, and the ring that `getlog` reads.
//!
//! In: a level, and `tracing` events of the whole program. Out: one line for each. A panic is a line, too.
//! Read next: `rpc::log`.

use crate::rpc::log::{Ring, RingLayer};
use std::io::IsTerminal;
use tracing_subscriber::filter::{filter_fn, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Only this program's own words: libraries are heard from `warn` on.
fn own(meta: &tracing::Metadata<'_>) -> bool {
    meta.target().starts_with("chand") || *meta.level() <= tracing::Level::WARN
}

/// Sends what is at least as loud as `level` to stderr, and to the ring that it gives back; `debug` always goes to
/// the ring. Does nothing but make a ring when logging was set up before.
pub fn start(level: tracing::Level) -> Ring {
    let ring = Ring::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(LevelFilter::from_level(level))
        .with_filter(filter_fn(own));
    let kept = RingLayer(ring.clone())
        .with_filter(LevelFilter::from_level(level.max(tracing::Level::DEBUG)))
        .with_filter(filter_fn(own));
    if tracing_subscriber::registry().with(lines).with(kept).try_init().is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let payload = panic.payload();
            let words = payload.downcast_ref::<&str>().copied();
            let words =
                words.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words");
            tracing::error!(%place, "bug: {words}");
        }));
    }
    ring
}
