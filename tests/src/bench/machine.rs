//! The kernel's counters: what processes used, what else the machine did meanwhile, and what machine it is.
//!
//! In: process ids. Out: CPU time, bytes written, memory; load. Everything is read from `/proc`, so that nodes of any
//! make are measured alike and know nothing of it.
//! Read next: `measure`.

use serde_json::{json, Value};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Clock ticks a second in `/proc` (Linux has shown 100 to users on every common machine for decades).
const TICKS: f64 = 100.0;

/// What one process has used since its start.
#[derive(Clone, Copy, Default, Debug)]
pub struct Used {
    /// CPU time of all its threads, ended ones included, in milliseconds. The kernel counts exactly and shows
    /// steps of 10 ms.
    pub cpu_ms: f64,
    /// Bytes given to the block layer: whole pages, without the file system's own journal.
    pub disk_bytes: u64,
    /// Bytes given to `write` and its kin: files, sockets and pipes.
    pub write_bytes: u64,
    /// Calls of them.
    pub writes: u64,
}

impl Used {
    /// What a running process has used. Zero for what the system does not tell.
    pub fn of(process: u32) -> Used {
        let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name in brackets may hold anything, spaces too; utime and stime are the 12th and 13th after it.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
        Used {
            cpu_ms: ticks * 1_000.0 / TICKS,
            disk_bytes: field(&io, "write_bytes:"),
            write_bytes: field(&io, "wchar:"),
            writes: field(&io, "syscw:"),
        }
    }

    /// The difference to an earlier reading.
    pub fn since(self, earlier: Used) -> Used {
        Used {
            cpu_ms: self.cpu_ms - earlier.cpu_ms,
            disk_bytes: self.disk_bytes.saturating_sub(earlier.disk_bytes),
            write_bytes: self.write_bytes.saturating_sub(earlier.write_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The most memory a process ever held, in megabytes.
pub fn peak_rss_mb(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    field(&status, "VmHWM:") as f64 / 1_024.0
}

/// CPU time of the whole machine: used by anybody (time stolen by its host included), and in all, in milliseconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Whole {
    busy_ms: f64,
    all_ms: f64,
}

impl Whole {
    /// Now.
    pub fn now() -> Whole {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; the guests' shares are within user and nice.
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
        let all: f64 = ticks.iter().sum();
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        Whole { busy_ms: (all - idle) * 1_000.0 / TICKS, all_ms: all * 1_000.0 / TICKS }
    }

    /// The share of the machine, in percent, that was used since `earlier` by others than those who used `ours_ms`.
    pub fn others_percent(self, earlier: Whole, ours_ms: f64) -> f64 {
        let all = self.all_ms - earlier.all_ms;
        if all <= 0.0 {
            return 0.0;
        }
        ((self.busy_ms - earlier.busy_ms - ours_ms) / all * 100.0).max(0.0)
    }
}

/// The load averages over 1, 5 and 15 minutes.
pub fn load() -> Vec<f64> {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).filter_map(|n| n.parse().ok()).collect()
}

/// What machine this is, when, and on which disk `dir` lies.
pub fn describe(dir: &Path) -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map(|l| l.trim_start_matches([' ', '\t', ':']));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "kind": "machine",
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model.unwrap_or("unknown"),
        "memory_gb": (field(&memory, "MemTotal:") as f64 / 1_048_576.0 * 10.0).round() / 10.0,
        "kernel": kernel.trim(),
        "chand": env!("CARGO_PKG_VERSION"),
        "commit": said("git", &["describe", "--always", "--dirty"], &[]),
        "date": said("date", &["-u", "+%Y-%m-%d %H:%M UTC"], &[]),
        "disk": said("df", &["--output=fstype,source"], &[&dir.display().to_string()]),
        "load": load(),
    })
}

/// The last line that a program prints, with single spaces; `unknown` when there is none.
fn said(program: &str, options: &[&str], arguments: &[&str]) -> String {
    let out = Command::new(program).args(options).args(arguments).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let line = text.lines().last().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        "unknown".into()
    } else {
        line
    }
}
