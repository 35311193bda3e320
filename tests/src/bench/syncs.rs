//! Counting syncs from outside, in a pass of its own.
//!
//! In: a file. Out: how many calls that wait for the disk a process made, by kind.
//! The node runs under strace, which writes a line for each such call and stops the process for no other
//! (`--seccomp-bpf`); times of this pass are not used. Without strace, or without the right to trace, nothing is counted
//! and the report says so.
//! Read next: `chand`, `measure`.

use serde_json::{json, Value};
use std::path::Path;
use std::process::{Command, Stdio};

/// The calls that wait for a disk.
const CALLS: [&str; 5] = ["fdatasync", "fsync", "sync_file_range", "syncfs", "msync"];

/// The program that writes the calls into `file`, and its arguments; chand and its arguments come after them.
pub fn trace_of(file: &Path) -> Vec<String> {
    let calls = format!("trace={}", CALLS.join(","));
    let file = file.display().to_string();
    // -D: the traced program keeps the process id, so that it can be stopped as always.
    ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", &calls, "-e", "signal=none", "-o", &file, "--"]
        .map(String::from)
        .to_vec()
}

/// Whether there is a strace that may trace.
pub fn available(dir: &Path) -> bool {
    let line = trace_of(&dir.join("strace-try"));
    let (program, arguments) = line.split_first().expect("a program");
    let tried = Command::new(program).args(arguments).arg("true").stdin(Stdio::null()).output();
    tried.is_ok_and(|out| out.status.success() && out.stderr.is_empty())
}

/// How often each call was made so far: a line that begins one holds its name and a bracket.
pub fn count(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    CALLS.iter().map(|call| text.lines().filter(|line| begins(line, call)).count() as u64).collect()
}

/// `1234 fdatasync(7) = 0` and `1234 fdatasync(7 <unfinished ...>`, not `1234 <... fdatasync resumed>) = 0`.
fn begins(line: &str, call: &str) -> bool {
    let after_id = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    after_id.strip_prefix(call).is_some_and(|rest| rest.starts_with('('))
}

/// Calls a payment, by name, without those that were never made.
pub fn per_payment(before: &[u64], after: &[u64], payments: u64) -> Value {
    let mut map = serde_json::Map::new();
    for (index, call) in CALLS.iter().enumerate() {
        let calls = after.get(index).zip(before.get(index)).map_or(0, |(a, b)| a - b);
        if calls > 0 {
            map.insert((*call).into(), json!((calls as f64 / payments as f64 * 1_000.0).round() / 1_000.0));
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::begins;

    #[test]
    fn a_call_is_counted_once() {
        assert!(begins("4711  fdatasync(12)  = 0", "fdatasync"));
        assert!(begins("4711  fdatasync(12 <unfinished ...>", "fdatasync"));
        assert!(!begins("4711  <... fdatasync resumed>) = 0", "fdatasync"));
        assert!(!begins("4711  sync_file_range(12, 0, 4096, 7) = 0", "sync"));
    }
}
