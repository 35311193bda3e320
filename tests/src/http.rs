//! A client of `--http`, one connection a request.
//!
//! In: a port, a rune, a method. Out: status and JSON, or that the connection broke off. Read next: `node`.

use crate::wait::PATIENCE;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

/// Where it is, and which rune is shown.
#[derive(Clone, Debug)]
pub struct Http {
    port: u16,
    rune: String,
}

impl Http {
    /// At this port of this machine.
    pub fn new(port: u16, rune: &str) -> Http {
        Http { port, rune: rune.into() }
    }

    /// Asks.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn call(&self, method: &str, params: &Value) -> io::Result<(u16, Value)> {
        let body = params.to_string();
        let head = format!(
            "POST /v1/{method} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nrune: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.port,
            self.rune,
            body.len()
        );
        let answer = self.raw(&[head.as_bytes(), body.as_bytes()].concat())?;
        let text = String::from_utf8(answer).map_err(|_| io::ErrorKind::InvalidData)?;
        let status = text.get(9..12).and_then(|s| s.parse().ok()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let value = serde_json::from_str(body).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok((status, value))
    }

    /// All that comes back for these bytes until the other side hangs up.
    ///
    /// # Errors
    /// The system's.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}
