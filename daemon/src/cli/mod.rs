//! The client `chan-cli`: one command line, one request, one answer.
//!
//! In: arguments and environment. Out: JSON (or words, with `-H`) on standard output, help and progress on standard
//! error, and an exit code: 0 done, 1 the daemon answered an error, 2 the daemon could not be asked.
//! Read next: `args` (what is asked), `client` (how), `wait` (progress), `human` (words).

mod args;
mod client;
pub mod flags;
mod human;
#[cfg(test)]
mod tests;
mod wait;

use crate::rpc::call::node::explain;
use crate::rpc::table::{find, METHODS};
use args::{Call, Wanted};
use client::{CallError, Client};
use serde_json::{json, Value};
use std::io::Write;
use std::time::Duration;

/// The daemon did it.
pub const DONE: u8 = 0;
/// The daemon answered an error.
pub const REFUSED: u8 = 1;
/// The daemon could not be asked.
pub const UNREACHABLE: u8 = 2;

/// Where a run writes, and what it may assume of it.
pub struct Terminal<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Standard output is a terminal.
    pub out_is_terminal: bool,
    /// Standard error is a terminal.
    pub err_is_terminal: bool,
    /// How long between two looks while waiting.
    pub poll: Duration,
}

impl Terminal<'_> {
    // A reader that went away (`chan-cli … | head -1`) is no reason to complain.
    fn say(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }
    fn warn(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }
}

/// Runs one command line (without the program's name) and returns the exit code.
/// `env` looks up environment variables.
pub fn run(words: &[String], env: &dyn Fn(&str) -> Option<String>, terminal: &mut Terminal<'_>) -> u8 {
    let call = match args::parse(words, env) {
        Ok(Wanted::Usage) => {
            terminal.say(&usage());
            return DONE;
        }
        Ok(Wanted::Version) => {
            terminal.say(concat!("chan-cli ", env!("CARGO_PKG_VERSION")));
            return DONE;
        }
        Ok(Wanted::Call(call)) => call,
        Err(problem) => {
            terminal.warn(&format!("chan-cli: {problem}\nTry: chan-cli --help"));
            return UNREACHABLE;
        }
    };
    let mut client = Client::new(&call.socket);
    match wait::call(&mut client, &call, terminal) {
        Ok(result) => {
            show(&call, &result, terminal);
            DONE
        }
        Err(CallError::Refused(error)) => {
            refused(&call, &error, terminal);
            REFUSED
        }
        Err(CallError::Unreachable(problem)) if call.method == "help" => {
            offline_help(&call, &problem, terminal)
        }
        Err(CallError::Unreachable(problem)) => {
            terminal.warn(&format!("chan-cli: {}", client::advice(&problem, &call)));
            UNREACHABLE
        }
    }
}

fn show(call: &Call, result: &Value, terminal: &mut Terminal<'_>) {
    let for_people = call.human || (call.method == "help" && terminal.out_is_terminal);
    if !for_people {
        terminal.say(&pretty(result));
    } else if call.method == "help" {
        terminal.say(&human::help(result));
    } else {
        terminal.say(&human::render(result));
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn refused(call: &Call, error: &Value, terminal: &mut Terminal<'_>) {
    if call.human {
        terminal.warn(&format!("chan-cli: {}", human::error(&call.method, error)));
    } else {
        terminal.say(&pretty(error));
    }
}

/// `help` needs no daemon: both programs are made of the same list.
fn offline_help(call: &Call, problem: &client::Problem, terminal: &mut Terminal<'_>) -> u8 {
    let name = match &call.params {
        Value::Array(list) => list.first().and_then(Value::as_str),
        named => named.get("command").and_then(Value::as_str),
    };
    let entry = |m: &crate::rpc::table::Method| json!({ "command": m.usage(), "category": m.category, "description": m.summary, "verbose": explain(m) });
    let list: Vec<Value> = match name {
        None => METHODS.iter().map(entry).collect(),
        Some(name) => match find(name, true) {
            Some(method) => vec![entry(method)],
            None => {
                terminal.warn(&format!("chan-cli: there is no method '{name}'. All of them: chan-cli help"));
                return REFUSED;
            }
        },
    };
    terminal.warn(&format!("(from chan-cli itself: {problem})"));
    show(call, &json!({ "help": list }), terminal);
    DONE
}

/// What `--help` prints.
pub fn usage() -> String {
    "\
chan-cli: talk to a running chand.

  chan-cli [OPTIONS] METHOD [ARGUMENTS…] [name=value…]

  --data-dir DIR      chand's data folder            [~/.chand]    CHAND_DATA_DIR
  --network NAME      regtest, bitcoin, litecoin … as chand has it  [regtest]  CHAND_NETWORK
  --rpc-socket PATH   the control socket             [DIR/NETWORK/rpc.sock]   CHAND_RPC_SOCKET
  -H                  answers for people instead of JSON
  -k                  every argument is name=value
  --wait              fundchannel: until the channel can be used; close: until the close is confirmed
  --help, --version

Exit code: 0 done, 1 chand answered an error, 2 chand could not be asked.
All methods: chan-cli help        One of them: chan-cli help METHOD

  chan-cli -H getinfo
  chan-cli --wait fundchannel ID@HOST:PORT 0.01btc
  chan-cli invoice 10sat coffee 'a cup of coffee'
  chan-cli pay lnbcrt1…"
        .into()
}
