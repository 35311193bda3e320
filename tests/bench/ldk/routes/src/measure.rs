//! Memory and times.
//!
//! In: the kernel's counts, durations. Times are of the processor: what other programs take of the machine is not in them.
//! Out: bytes, quantiles. Read next: `search`.

use std::time::Duration;

/// What the process has in memory now, bytes.
pub fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number of pages");
    pages * 4_096
}

/// For how long this thread has had a processor.
pub fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// In the middle, at 99 of 100, at most; ms.
pub fn quantiles(times: &mut [Duration]) -> [f64; 3] {
    times.sort_unstable();
    if times.is_empty() {
        return [0.0; 3];
    }
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    [at(0.5), at(0.99), at(1.0)]
}
