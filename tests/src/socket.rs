//! A client of the control socket, as simple as can be.
//!
//! In: method and parameters. Out: the answer or the error.
//! Requests are written as JSON back to back; each answer ends in two newlines, as Core Lightning's do.
//! Read next: `node`.

use crate::wait::PATIENCE;
use serde_json::{json, Value};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Why a call has no result.
#[derive(Clone, PartialEq, Debug)]
pub enum CallError {
    /// The program answered with an error.
    Refused {
        /// JSON-RPC's, Core Lightning's or bitcoind's code.
        code: i64,
        /// In words.
        message: String,
        /// What else it said.
        data: Value,
    },
    /// There was no answer: the connection is gone, or time ran out.
    Lost(String),
}

impl CallError {
    /// The code of an error that the program answered.
    pub fn code(&self) -> Option<i64> {
        match self {
            CallError::Refused { code, .. } => Some(*code),
            CallError::Lost(_) => None,
        }
    }

    /// The words of an error.
    pub fn message(&self) -> &str {
        match self {
            CallError::Refused { message, .. } | CallError::Lost(message) => message,
        }
    }

    /// Reads the `error` field of an answer.
    pub fn from_json(error: &Value) -> CallError {
        CallError::Refused {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or_default().into(),
            data: error["data"].clone(),
        }
    }
}

impl From<io::Error> for CallError {
    fn from(e: io::Error) -> CallError {
        CallError::Lost(e.to_string())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Refused { code, message, data: Value::Null } => write!(f, "{message} (code {code})"),
            CallError::Refused { code, message, data } => write!(f, "{message} (code {code}, {data})"),
            CallError::Lost(why) => write!(f, "no answer: {why}"),
        }
    }
}

/// One connection to a control socket.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    next_id: u64,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, buffer: Vec::new(), next_id: 1 })
    }

    /// Changes how long an answer may take.
    ///
    /// # Errors
    /// When the system refuses the time.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// Changes how long the other side may take to read.
    ///
    /// # Errors
    /// When the system refuses the time.
    pub fn set_write_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(patience))
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, CallError> {
        let id = self.send(method, &params)?;
        let (answered, result) = self.receive()?;
        if answered != json!(id) {
            return Err(CallError::Lost(format!("asked {id}, answered {answered}")));
        }
        result
    }

    /// Asks without waiting; returns the request's number.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, method: &str, params: &Value) -> io::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write(request.to_string().as_bytes())?;
        Ok(id)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer: the id it carries, and what it says.
    ///
    /// # Errors
    /// [`CallError::Lost`] when none comes.
    #[allow(clippy::type_complexity)]
    pub fn receive(&mut self) -> Result<(Value, Result<Value, CallError>), CallError> {
        let mut answer = self.next_answer()?;
        let id = answer["id"].take();
        Ok(match answer.get_mut("error") {
            Some(error) => (id, Err(CallError::from_json(error))),
            None => (id, Ok(answer["result"].take())),
        })
    }

    fn next_answer(&mut self) -> Result<Value, CallError> {
        let mut seen = 0;
        loop {
            let window = self.buffer.get(seen..).unwrap_or_default();
            if let Some(at) = window.windows(2).position(|pair| pair == b"\n\n") {
                let text: Vec<u8> = self.buffer.drain(..seen + at + 2).collect();
                return serde_json::from_slice(&text)
                    .map_err(|e| CallError::Lost(format!("an answer that is not JSON: {e}")));
            }
            seen = self.buffer.len().saturating_sub(1);
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk)? {
                0 => return Err(CallError::Lost("the connection was closed".into())),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}
