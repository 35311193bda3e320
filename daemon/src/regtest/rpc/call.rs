//! From the bytes of a request to the bytes of its answer: JSON-RPC 1.0 and 2.0 as bitcoind speaks them.
//!
//! In: a body. Out: [`Answer`], an HTTP status and a body. A 1.x error has an HTTP error status; 2.0 always says 200,
//! and 204 when nobody asked for an answer. Batches are answered in order. Read next: `table`.

use std::sync::Arc;

use serde_json::{json, Map, Value};

use super::args::Args;
use super::error::RpcError;
use super::json::to_text;
use super::table::{find, Run};
use crate::regtest::node::Node;

/// Most requests in one batch.
const MAX_BATCH: usize = 10_000;

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; empty for 204.
    pub body: String,
}

struct Reply {
    modern: bool,
    /// `None`: a 2.0 notification, not answered.
    id: Option<Value>,
    result: Result<Value, RpcError>,
}

impl Reply {
    fn status(&self) -> u16 {
        match &self.result {
            _ if self.modern => 200,
            Ok(_) => 200,
            Err(fault) => match fault.code {
                -32600 => 400,
                -32601 => 404,
                _ => 500,
            },
        }
    }

    fn into_value(self) -> Option<Value> {
        let mut reply = Map::new();
        if self.modern {
            reply.insert("jsonrpc".into(), json!("2.0"));
        }
        let (result, error) = match self.result {
            Ok(result) => (Some(result), None),
            Err(fault) => (None, Some(json!({"code": fault.code, "message": fault.message}))),
        };
        if result.is_some() || !self.modern {
            reply.insert("result".into(), result.unwrap_or(Value::Null));
        }
        if error.is_some() || !self.modern {
            reply.insert("error".into(), error.unwrap_or(Value::Null));
        }
        let id = if self.modern { self.id? } else { self.id.unwrap_or(Value::Null) };
        reply.insert("id".into(), id);
        Some(Value::Object(reply))
    }
}

/// Answers the body of one POST.
pub async fn answer(node: &Arc<Node>, body: &[u8]) -> Answer {
    let line = |status: u16, value: &Value| Answer { status, body: format!("{}\n", to_text(value)) };
    let refuse = |fault: RpcError| {
        let reply = Reply { modern: false, id: None, result: Err(fault) };
        let status = reply.status();
        line(status, &reply.into_value().unwrap_or(Value::Null))
    };
    match serde_json::from_slice::<Value>(body) {
        Err(_) => refuse(RpcError::parse("Parse error")),
        Ok(Value::Array(batch)) if batch.len() > MAX_BATCH => {
            refuse(RpcError::bad_request("Batch too large"))
        }
        Ok(Value::Array(batch)) => {
            let asked = !batch.is_empty();
            let mut replies = Vec::new();
            for request in batch {
                replies.extend(one(node, request).await.into_value());
            }
            if replies.is_empty() && asked {
                return Answer { status: 204, body: String::new() };
            }
            line(200, &Value::Array(replies))
        }
        Ok(request @ Value::Object(_)) => {
            let reply = one(node, request).await;
            let status = reply.status();
            match reply.into_value() {
                Some(value) => line(status, &value),
                None => Answer { status: 204, body: String::new() },
            }
        }
        Ok(_) => refuse(RpcError::parse("Top-level object parse error")),
    }
}

async fn one(node: &Arc<Node>, request: Value) -> Reply {
    let Value::Object(mut request) = request else {
        let fault = RpcError::bad_request("Invalid Request object");
        return Reply { modern: false, id: None, result: Err(fault) };
    };
    let id = request.shift_remove("id");
    let refuse = |id: Option<Value>, fault: &str| Reply {
        modern: false,
        id,
        result: Err(RpcError::bad_request(fault)),
    };
    let modern = match request.get("jsonrpc") {
        None => false,
        Some(Value::String(version)) if version == "2.0" => true,
        Some(Value::String(version)) if version == "1.0" || version == "1.1" => false,
        Some(Value::String(_)) => return refuse(id, "JSON-RPC version not supported"),
        Some(_) => return refuse(id, "jsonrpc field must be a string"),
    };
    let method = match request.shift_remove("method") {
        Some(Value::String(method)) => method,
        None => return Reply { modern, ..refuse(id, "Missing method") },
        Some(_) => return Reply { modern, ..refuse(id, "Method must be a string") },
    };
    let params = request.shift_remove("params").unwrap_or(Value::Null);
    Reply { modern, id, result: dispatch(node, &method, params).await }
}

async fn dispatch(node: &Arc<Node>, method: &str, params: Value) -> Result<Value, RpcError> {
    let command = find(method).ok_or_else(|| RpcError::no_method("Method not found"))?;
    let args = Args::new(command.name, command.args, params)?;
    match command.run {
        Run::Wait(target) => target.wait(node, &args).await,
        Run::Now(handler) => {
            let node = node.clone();
            tokio::task::spawn_blocking(move || handler(&node, &args))
                .await
                .map_err(|_| RpcError::internal("the request failed midway"))?
        }
    }
}
