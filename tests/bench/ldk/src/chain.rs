//! The least client of bitcoind's JSON-RPC.
//!
//! In: a method and its parameters. Out: the result, or the error in words.
//! Read next: `engine`.

use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Value};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Where the chain answers.
#[derive(Clone)]
pub struct Chain {
    pub addr: String,
    pub user: String,
    pub password: String,
}

impl Chain {
    /// Asks.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        let body = json!({ "jsonrpc": "1.0", "id": 1, "method": method, "params": params }).to_string();
        let login = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.addr)?;
            let length = body.len();
            write!(
                stream,
                "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(|e| e.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
        let mut answer: Value = serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(error.to_string()),
        }
    }

    /// The height of the tip.
    pub fn height(&self) -> u32 {
        let height = self.call("getblockcount", json!([])).expect("getblockcount");
        height.as_u64().and_then(|h| u32::try_from(h).ok()).expect("a height")
    }
}
