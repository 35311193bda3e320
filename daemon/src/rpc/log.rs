//! The last lines of the log, for `getlog`.
//!
//! In: `tracing` events, through [`RingLayer`]. Out: what [`Ring::read`] lists at a level, with counts of what was
//! left out. Bounded in bytes: the oldest lines go first; a very long line is cut.
//! Read next: `call::node`.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Bytes kept.
pub const MAX_BYTES: usize = 2 << 20;
/// Bytes kept of one line.
const MAX_LINE: usize = 4 << 10;
/// What an entry costs besides its text.
const OVERHEAD: usize = 64;

/// One line.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// How loud.
    pub level: Level,
    /// When, since the ring was made.
    pub after: Duration,
    /// Which part of the program.
    pub source: String,
    /// The line, with its fields.
    pub text: String,
    /// The peer it is about, in hex.
    pub peer: Option<String>,
}

/// What `getlog` lists.
#[derive(Clone, Debug)]
pub enum LogLine {
    /// So many entries were left out here.
    Skipped(u64),
    /// An entry.
    Entry(LogEntry),
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    dropped: u64,
}

/// The last lines; clones share them.
#[derive(Clone, Debug)]
pub struct Ring {
    created: SystemTime,
    kept: Arc<Mutex<Kept>>,
}

impl Default for Ring {
    fn default() -> Self {
        Ring { created: SystemTime::now(), kept: Arc::default() }
    }
}

impl Ring {
    /// When it began, since the Unix epoch.
    pub fn created_at(&self) -> Duration {
        self.created.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Bytes in use.
    pub fn bytes_used(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// The entries at least as loud as `level`, oldest first.
    pub fn read(&self, level: Level) -> Vec<LogLine> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        let mut skipped = kept.dropped;
        for entry in &kept.entries {
            if entry.level > level {
                skipped = skipped.saturating_add(1);
                continue;
            }
            if skipped > 0 {
                lines.push(LogLine::Skipped(std::mem::take(&mut skipped)));
            }
            lines.push(LogLine::Entry(entry.clone()));
        }
        if skipped > 0 {
            lines.push(LogLine::Skipped(skipped));
        }
        lines
    }

    /// Keeps a line.
    pub fn push(&self, mut entry: LogEntry) {
        if entry.text.len() > MAX_LINE {
            let mut end = MAX_LINE;
            while !entry.text.is_char_boundary(end) {
                end -= 1;
            }
            entry.text.truncate(end);
            entry.text.push_str(" …");
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += size(&entry);
        kept.entries.push_back(entry);
        while kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.entries.pop_front() else { break };
            kept.bytes = kept.bytes.saturating_sub(size(&oldest));
            kept.dropped = kept.dropped.saturating_add(1);
        }
    }
}

fn size(entry: &LogEntry) -> usize {
    OVERHEAD + entry.source.len() + entry.text.len() + entry.peer.as_ref().map_or(0, String::len)
}

/// The `tracing` layer that fills a [`Ring`].
#[derive(Clone, Debug)]
pub struct RingLayer(pub Ring);

impl<S: Subscriber> Layer<S> for RingLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let meta = event.metadata();
        self.0.push(LogEntry {
            level: *meta.level(),
            after: self.0.created.elapsed().unwrap_or_default(),
            source: meta.target().to_string(),
            text: line.message + &line.fields,
            peer: line.peer,
        });
    }
}

/// Collects an event's fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
    peer: Option<String>,
}

impl Line {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
        if field.name() == "peer" {
            self.peer = Some(value.to_string()).filter(|p| p.len() == 66);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn entry(level: Level, text: &str) -> LogEntry {
        LogEntry { level, after: Duration::ZERO, source: "s".into(), text: text.into(), peer: None }
    }

    #[test]
    fn quiet_lines_are_counted() {
        let ring = Ring::default();
        ring.push(entry(Level::DEBUG, "a"));
        ring.push(entry(Level::DEBUG, "b"));
        ring.push(entry(Level::WARN, "c"));
        ring.push(entry(Level::TRACE, "d"));
        let lines = ring.read(Level::INFO);
        assert!(matches!(
            lines.as_slice(),
            [LogLine::Skipped(2), LogLine::Entry(LogEntry { .. }), LogLine::Skipped(1)]
        ));
    }

    #[test]
    fn memory_is_bounded_and_long_lines_are_cut() {
        let ring = Ring::default();
        let long = "ä".repeat(MAX_LINE);
        for _ in 0..2_000 {
            ring.push(entry(Level::INFO, &long));
        }
        assert!(ring.bytes_used() <= MAX_BYTES);
        let lines = ring.read(Level::INFO);
        assert!(matches!(lines.first(), Some(LogLine::Skipped(n)) if *n > 1_000));
    }

    #[test]
    fn tracing_events_arrive_with_their_fields() {
        let ring = Ring::default();
        let subscriber = tracing_subscriber::registry().with(RingLayer(ring.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(peer = %"02".repeat(33), height = 7, "a peer {}", "spoke");
        });
        let lines = ring.read(Level::INFO);
        let [LogLine::Entry(line)] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.text.starts_with("a peer spoke peer=0202"));
        assert!(line.text.ends_with("height=7"));
        assert_eq!(line.peer.as_ref().map(String::len), Some(66));
    }
}
