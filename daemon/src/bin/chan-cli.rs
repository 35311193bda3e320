//! `chan-cli`: the client of the control socket.
//!
//! In: the command line. Out: the answer, and the exit code that says whose fault it was.
//! Read next: `chand::cli`.

use chand::cli::{run, Terminal};
use std::io::{stderr, stdout, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut terminal = Terminal {
        out_is_terminal: stdout().is_terminal(),
        err_is_terminal: stderr().is_terminal(),
        out: &mut stdout(),
        err: &mut stderr(),
        poll: Duration::from_millis(250),
    };
    ExitCode::from(run(&words, &|name| std::env::var(name).ok(), &mut terminal))
}
