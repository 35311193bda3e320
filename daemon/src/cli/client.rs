//! One request, one answer, over the control socket.
//!
//! In: a method and parameters. Out: the result; or the daemon's error; or why the daemon could not be asked, with what
//! to do about it.
//! Read next: `wait`.

use super::args::Call;
use serde_json::{json, Value};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// After so long without an answer the user is told what the command waits for.
const SLOW: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const MAX_ANSWER: usize = 1 << 30;
/// The longest path of a Unix socket.
const MAX_PATH: usize = 107;

/// Why there is no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// The daemon's error object.
    Refused(Value),
    /// It could not be asked.
    Unreachable(Problem),
}

/// Why the daemon could not be asked.
#[derive(Debug)]
pub(super) enum Problem {
    /// No socket there.
    NotThere(PathBuf),
    /// A socket without a listener.
    NobodyListens(PathBuf),
    /// Another user's.
    NotAllowed(PathBuf),
    /// The path is longer than Unix allows.
    PathTooLong(PathBuf),
    /// It hung up before it answered.
    HungUp,
    /// The answer was none.
    Nonsense,
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NotThere(path) => write!(f, "no chand is running: there is no {}", path.display()),
            Problem::NobodyListens(path) => {
                write!(f, "chand is not running any more: nobody listens at {}", path.display())
            }
            Problem::NotAllowed(path) => write!(f, "{} belongs to another user", path.display()),
            Problem::PathTooLong(path) => {
                write!(
                    f,
                    "the socket's path is longer than the {MAX_PATH} bytes Unix allows: {}",
                    path.display()
                )
            }
            Problem::HungUp => f.write_str("chand hung up before it answered"),
            Problem::Nonsense => f.write_str("what answered is not chand"),
            Problem::Io(error) => write!(f, "chand could not be asked: {error}"),
        }
    }
}

/// The problem and what to do about it.
pub(super) fn advice(problem: &Problem, call: &Call) -> String {
    let what = match problem {
        Problem::NotThere(_) => match other_networks(call) {
            others if others.is_empty() => format!("Start one in another terminal: {}", start(call)),
            others => format!("One runs for {}: add --network {}", others.join(" and "), others.join(" or ")),
        },
        Problem::NobodyListens(_) => format!("Start it again: {}", start(call)),
        Problem::NotAllowed(_) => "Run chan-cli as the user who runs chand".into(),
        Problem::PathTooLong(_) => "Give chand and chan-cli a shorter --rpc-socket or --data-dir".into(),
        Problem::HungUp => {
            "It may have been stopped or killed, and may have done what you asked: look (for a payment, listpays) \
             before you ask again"
                .into()
        }
        Problem::Nonsense => "Check --rpc-socket".into(),
        Problem::Io(_) => format!("Is chand running? {}", start(call)),
    };
    format!("{problem}.\n{what}.")
}

/// The command that starts the daemon that was meant.
fn start(call: &Call) -> String {
    let mut line = "chand".to_string();
    let default = std::env::var_os("HOME").map(|home| Path::new(&home).join(".chand"));
    if default.as_deref() != Some(&call.data_dir) {
        line.push_str(&format!(" --data-dir {}", call.data_dir.display()));
    }
    if call.network != "regtest" {
        line.push_str(&format!(" --network {}", call.network));
    }
    if call.socket != call.data_dir.join(&call.network).join("rpc.sock") {
        line.push_str(&format!(" --rpc-socket {}", call.socket.display()));
    }
    line
}

/// Networks in the same data folder that somebody listens for.
fn other_networks(call: &Call) -> Vec<String> {
    let Ok(folders) = std::fs::read_dir(&call.data_dir) else { return Vec::new() };
    let mut found: Vec<String> = folders
        .flatten()
        .filter(|folder| UnixStream::connect(folder.path().join("rpc.sock")).is_ok())
        .filter_map(|folder| folder.file_name().into_string().ok())
        .filter(|name| *name != call.network)
        .collect();
    found.sort();
    found
}

/// Asks one daemon.
pub(super) struct Client {
    socket: PathBuf,
    asked: u32,
}

impl Client {
    /// For the daemon behind this socket.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.into(), asked: 0 }
    }

    /// Asks, and waits for the answer as long as it takes.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, CallError> {
        self.call_telling(method, params, &mut |_| {})
    }

    /// The same; when it takes long, `tell` gets a line that says what it waits for, once.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call_telling(
        &mut self,
        method: &str,
        params: Value,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Value, CallError> {
        self.asked = self.asked.saturating_add(1);
        let id = format!("chan-cli:{method}#{}.{}", std::process::id(), self.asked);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let slow = &mut |client: &Client| {
            client.reason(method).iter().for_each(|line| tell(line));
            true
        };
        let answer = self.exchange(&format!("{request}\n"), slow).map_err(CallError::Unreachable)?;
        let Value::Object(mut answer) = answer else { return Err(CallError::Unreachable(Problem::Nonsense)) };
        match (answer.remove("error"), answer.remove("result")) {
            (Some(error), _) if !error.is_null() => Err(CallError::Refused(error)),
            (_, Some(result)) => Ok(result),
            _ => Err(CallError::Unreachable(Problem::Nonsense)),
        }
    }

    /// What a command waits for, as far as the daemon knows.
    fn reason(&self, method: &str) -> Option<String> {
        let request =
            json!({ "jsonrpc": "2.0", "id": "chan-cli:getinfo", "method": "getinfo", "params": [] });
        let info = self.exchange(&format!("{request}\n"), &mut |_| false).ok();
        let fields = info.as_ref().and_then(|i| i.get("result")).and_then(Value::as_object);
        let mut warnings = fields.into_iter().flatten().filter(|(name, _)| name.starts_with("warning_"));
        let disk = fields.and_then(|f| f.get("warning_disk"));
        match disk.or_else(|| warnings.next().map(|(_, text)| text)).and_then(Value::as_str) {
            Some(text) => Some(format!("{method} waits: {text}")),
            // That it waits is what it is for.
            None if method.starts_with("wait") => None,
            None => Some(format!(
                "{method} is under way and not answered yet (Ctrl-C ends the waiting, not what was asked for)"
            )),
        }
    }

    /// Calls `slow` once when the answer takes long; it says whether to go on waiting.
    fn exchange(&self, request: &str, slow: &mut dyn FnMut(&Client) -> bool) -> Result<Value, Problem> {
        if self.socket.as_os_str().len() > MAX_PATH {
            return Err(Problem::PathTooLong(self.socket.clone()));
        }
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Problem::NotThere(self.socket.clone()),
            io::ErrorKind::ConnectionRefused => Problem::NobodyListens(self.socket.clone()),
            io::ErrorKind::PermissionDenied => Problem::NotAllowed(self.socket.clone()),
            _ => Problem::Io(error),
        })?;
        // A daemon that refuses a client answers and hangs up, perhaps before all is written: the answer counts.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.set_read_timeout(Some(SLOW));
        read_answer(&mut stream, &mut || slow(self))
    }
}

/// Reads up to the empty line that ends an answer; calls `slow` once when nothing comes for [`SLOW`].
fn read_answer(stream: &mut UnixStream, slow: &mut dyn FnMut() -> bool) -> Result<Value, Problem> {
    let mut text = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    while !text.ends_with(b"\n\n") {
        let read = match stream.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if !slow() {
                    return Err(Problem::HungUp);
                }
                let _ = stream.set_read_timeout(None);
                continue;
            }
            Err(error) => return Err(Problem::Io(error)),
        };
        if read == 0 {
            return Err(Problem::HungUp);
        }
        text.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if text.len() > MAX_ANSWER {
            return Err(Problem::Nonsense);
        }
    }
    serde_json::from_slice(&text).map_err(|_| Problem::Nonsense)
}
