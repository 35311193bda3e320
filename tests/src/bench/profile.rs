//! Where the time goes: Linux' perf beside a round, when it is asked for.
//!
//! In: a folder and both processes. Out: one file for `perf report -i` a round and node.
//! A sampled round is slower than others: its figures are printed all the same, and are no measurement.
//! Read next: `measure`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// perf at work on one process.
#[derive(Debug)]
pub struct Sampling(Child);

impl Sampling {
    /// Begins to sample a process into `dir/NAME.perf`.
    ///
    /// # Panics
    /// When there is no perf.
    pub fn begin(dir: &Path, name: &str, process: u32) -> Sampling {
        std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let file = dir.join(format!("{name}.perf"));
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-e", "cpu-clock", "-F", "999", "--call-graph", "dwarf,24576", "-o"]);
        command.arg(file).args(["-p", &process.to_string()]).stdin(Stdio::null());
        Sampling(command.spawn().expect("perf"))
    }

    /// Ends it and waits until the file is whole.
    ///
    /// # Panics
    /// When it cannot be told to.
    pub fn end(mut self) {
        let told = Command::new("sh").arg("-c").arg(format!("kill -INT {}", self.0.id())).status();
        assert!(told.expect("a shell").success(), "SIGINT to perf");
        self.0.wait().expect("the end of perf");
    }
}
