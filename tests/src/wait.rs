//! Waiting for a condition, never for a time.
//!
//! In: a question to ask again and again. Out: its answer, or a panic that says what was last seen.
//! Read next: `node`.

use std::time::{Duration, Instant};

/// How long a condition may take. Generous: it is only ever used up by a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(15);

/// Asks until there is an answer; `Err` says what was seen instead.
///
/// # Panics
/// When [`PATIENCE`] is over, with what was seen last.
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Result<T, String>) -> T {
    wait_within(PATIENCE, what, probe)
}

/// As [`wait_for`], with a deadline of one's own.
///
/// # Panics
/// When the deadline is over, with what was seen last.
pub fn wait_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let since = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if since.elapsed() > patience => {
                panic!("waited {} s for {what}; last seen: {seen}", patience.as_secs())
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Asks until the answer is yes.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || if holds() { Ok(()) } else { Err("it does not hold".into()) });
}
