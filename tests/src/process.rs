//! One program, started, watched and ended.
//!
//! In: a program and its arguments. Out: a process whose output goes to a file and which never outlives its test.
//! Read next: `node`, `chain`.

use crate::wait::wait_within;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How much of a log is shown when a test failed.
const TAIL_LINES: usize = 60;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it prints is added to `log`. `home` is its home folder, and no `CHAND_…` variable
    /// of the person who runs the tests reaches it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, program: &Path, args: &[String], home: &Path, log: &Path) -> Process {
        let open = || -> io::Result<(File, File)> {
            let out = OpenOptions::new().create(true).append(true).open(log)?;
            Ok((out.try_clone()?, out))
        };
        let (out, err) = open().unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(out).stderr(err).env("HOME", home);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("CHAND_") {
                command.env_remove(key);
            }
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        Process { name: name.into(), child, log: log.into() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// SIGKILL: it gets no chance to do anything. Returns once it is gone.
    ///
    /// # Panics
    /// When it had ended before by itself.
    pub fn kill_9(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} was to be killed but had ended by itself: {status}\n{}", self.name, self.tail());
        }
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the end of a killed child");
    }

    /// Sends a signal by its name (`TERM`, `INT`, `STOP`, `CONT`).
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.id())).status();
        assert!(sent.expect("a shell").success(), "SIG{name} to {}", self.name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait_end(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_within(patience, &what, || self.ended().ok_or_else(|| "it still runs".to_string()))
    }

    /// All it printed.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The last lines it printed.
    pub fn tail(&self) -> String {
        let all = self.output();
        let lines: Vec<&str> = all.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {}: the last lines of {}\n{}", self.name, self.log.display(), self.tail());
        }
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
