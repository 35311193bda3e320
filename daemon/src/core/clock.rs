//! The clock as the node sees it.
//!
//! In: the system's wall clock. Out: one reading for each step, which does not run back by the small steps with
//! which a clock is corrected. A large step back is believed, and said.
//! Read next: `mod` (who reads it).

use chand_protocol::units::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Steps back up to this are swallowed.
const SMALL_STEP_MS: u64 = 10_000;

/// Reads the time.
#[derive(Default)]
pub(super) struct Clock {
    last_ms: u64,
}

impl Clock {
    /// Now.
    pub fn read(&mut self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.take(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    fn take(&mut self, now_ms: u64) -> Timestamp {
        let back_ms = self.last_ms.saturating_sub(now_ms);
        if back_ms > SMALL_STEP_MS {
            tracing::warn!(seconds = back_ms / 1_000, "the system clock was set back");
            self.last_ms = now_ms;
        } else {
            self.last_ms = self.last_ms.max(now_ms);
        }
        Timestamp(self.last_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_back_are_swallowed_and_large_ones_believed() {
        let mut clock = Clock::default();
        assert_eq!(clock.take(100_000), Timestamp(100_000));
        assert_eq!(clock.take(95_000), Timestamp(100_000));
        assert_eq!(clock.take(100_001), Timestamp(100_001));
        assert_eq!(clock.take(50_000), Timestamp(50_000));
    }
}
