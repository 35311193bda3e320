//! Clients of the two kinds of server on stage, as simple as can be.
//!
//! In: method and parameters. Out: what was answered.
//! A node is asked over its Unix socket, one question a connection; the chain over HTTP, as bitcoind is.
//! Read next: `stage`.

use super::PATIENCE;
use base64::Engine as _;
use serde_json::{json, Value};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// An error was answered.
    #[error("{message} (code {code})")]
    Refused {
        /// Its code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// Nothing was answered.
    #[error("no answer ({0})")]
    Lost(String),
}

impl CallError {
    /// The code, if one was answered.
    pub fn code(&self) -> Option<i64> {
        match self {
            CallError::Refused { code, .. } => Some(*code),
            CallError::Lost(_) => None,
        }
    }
}

impl From<std::io::Error> for CallError {
    fn from(error: std::io::Error) -> CallError {
        CallError::Lost(error.to_string())
    }
}

/// Asks a node.
pub async fn node(socket: &Path, method: &str, params: &Value) -> Result<Value, CallError> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    in_time(async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(request.as_bytes()).await?;
        let answer = read_to(&mut stream, |bytes| bytes.ends_with(b"\n\n")).await?;
        result_of(&answer)
    })
    .await
}

/// Asks the chain.
pub async fn chain(port: u16, login: &str, method: &str, params: &Value) -> Result<Value, CallError> {
    let body = json!({ "jsonrpc": "1.0", "id": 1, "method": method, "params": params }).to_string();
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {login}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    in_time(async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let answer = read_to(&mut stream, |_| false).await?;
        let split = answer.windows(4).position(|w| w == b"\r\n\r\n");
        let body = split.and_then(|at| answer.get(at + 4..)).unwrap_or_default();
        result_of(body)
    })
    .await
}

async fn in_time<T>(call: impl std::future::Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(result) => result,
        Err(_) => Err(CallError::Lost(format!("nothing for {} s", PATIENCE.as_secs()))),
    }
}

/// Reads until enough was read or the other side is done.
async fn read_to<S>(stream: &mut S, enough: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, CallError>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    while !enough(&bytes) {
        if stream.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    if bytes.is_empty() {
        return Err(CallError::Lost("the connection was closed".into()));
    }
    Ok(bytes)
}

fn result_of(answer: &[u8]) -> Result<Value, CallError> {
    let mut answer: Value = serde_json::from_slice(answer)
        .map_err(|e| CallError::Lost(format!("{e} in: {}", String::from_utf8_lossy(answer))))?;
    match answer.get("error") {
        None | Some(Value::Null) => Ok(answer["result"].take()),
        Some(error) => Err(CallError::Refused {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or_default().into(),
        }),
    }
}
