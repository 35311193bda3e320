//! JSON-RPC 2.0 requests and answers.
//!
//! In: the bytes of one JSON value. Out: a [`Request`] or the error that answers it; and answers as text.
//! Codes are JSON-RPC's own (−32700 …) and, for what a method says, Core Lightning's.
//! Read next: `params`.

use chand_protocol::node::command::CommandError;
use serde_json::{json, Map, Value};

/// The text was no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// It was JSON, but no request.
pub const INVALID_REQUEST: i32 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The parameters are wrong.
pub const INVALID_PARAMS: i32 = -32602;
/// A bug of ours.
pub const INTERNAL_ERROR: i32 = -32603;

/// An error answer.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// JSON-RPC's or Core Lightning's code.
    pub code: i32,
    /// In words.
    pub message: String,
    /// More, for programs.
    pub data: Option<Value>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i32, message: impl Into<String>) -> RpcError {
        RpcError { code, message: message.into(), data: None }
    }

    /// Error −32602 about one parameter.
    pub fn param(name: &str, problem: impl std::fmt::Display) -> RpcError {
        RpcError::new(INVALID_PARAMS, format!("{name}: {problem}"))
    }

    /// Error −32603: the node's answer was not of the kind that belongs to the question.
    pub fn unexpected(method: &str) -> RpcError {
        RpcError::new(
            INTERNAL_ERROR,
            format!("{method}: the node's answer does not fit the question (a bug)"),
        )
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(data), Value::Object(map)) = (&self.data, &mut error) {
            map.insert("data".into(), data.clone());
        }
        error
    }
}

impl From<CommandError> for RpcError {
    fn from(error: CommandError) -> RpcError {
        let data = error.payment.as_deref().map(super::show::sendpay);
        RpcError { code: error.code, message: error.message, data }
    }
}

/// Parameters as they came.
#[derive(Clone, PartialEq, Debug)]
pub enum RawParams {
    /// By position.
    List(Vec<Value>),
    /// By name.
    Named(Map<String, Value>),
}

/// One request.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Echoed in the answer; `None`: a notification, which is not answered.
    pub id: Option<Value>,
    /// What to do.
    pub method: String,
    /// With what.
    pub params: RawParams,
    /// Core Lightning's `filter`: which fields of the result are wanted.
    pub filter: Option<Value>,
}

/// What answers a value that is no request.
#[derive(Clone, PartialEq, Debug)]
pub struct Refusal(Box<(Value, RpcError)>);

impl Refusal {
    fn new(id: Value, code: i32, text: impl Into<String>) -> Refusal {
        Refusal(Box::new((id, RpcError::new(code, text))))
    }

    /// The id it had, or null, and the error.
    pub fn into_parts(self) -> (Value, RpcError) {
        *self.0
    }
}

/// What one JSON value held.
#[derive(Clone, PartialEq, Debug)]
pub enum Incoming {
    /// A request, or the error that answers it with the id it had.
    One(Box<Result<Request, Refusal>>),
    /// A batch: answered by one array.
    Batch(Vec<Result<Request, Refusal>>),
}

/// Most requests in one batch.
pub const MAX_BATCH: usize = 100;

/// Reads one JSON value.
pub fn parse(bytes: &[u8]) -> Incoming {
    let fail = |code, text: String| Incoming::One(Box::new(Err(Refusal::new(Value::Null, code, text))));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => return fail(PARSE_ERROR, format!("the request is not UTF-8 (byte {})", e.valid_up_to())),
    };
    match serde_json::from_str::<Value>(text) {
        Err(e) => {
            fail(PARSE_ERROR, format!("the request is not JSON (line {} column {})", e.line(), e.column()))
        }
        Ok(Value::Array(list)) if list.is_empty() => fail(INVALID_REQUEST, "the batch is empty".into()),
        Ok(Value::Array(list)) if list.len() > MAX_BATCH => {
            fail(INVALID_REQUEST, format!("the batch holds more than {MAX_BATCH} requests"))
        }
        Ok(Value::Array(list)) => Incoming::Batch(list.into_iter().map(request).collect()),
        Ok(value) => Incoming::One(Box::new(request(value))),
    }
}

/// Checks that a value is a request.
fn request(value: Value) -> Result<Request, Refusal> {
    let Value::Object(mut map) = value else {
        return Err(Refusal::new(Value::Null, INVALID_REQUEST, "a request is a JSON object"));
    };
    let id = map.remove("id");
    let fail = |text: &str| Err(Refusal::new(id.clone().unwrap_or(Value::Null), INVALID_REQUEST, text));
    match map.remove("jsonrpc") {
        None => {}
        Some(Value::String(version)) if version == "2.0" => {}
        Some(_) => return fail("jsonrpc: only \"2.0\" is spoken here"),
    }
    let method = match map.remove("method") {
        Some(Value::String(method)) => method,
        Some(_) => return fail("method: must be a string"),
        None => return fail("method: missing"),
    };
    let params = match map.remove("params") {
        None | Some(Value::Null) => RawParams::Named(Map::new()),
        Some(Value::Array(list)) => RawParams::List(list),
        Some(Value::Object(named)) => RawParams::Named(named),
        Some(_) => return fail("params: must be an array or an object"),
    };
    Ok(Request { id, method, params, filter: map.remove("filter") })
}

/// The answer to the request with this id.
pub fn answer(id: Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error.to_json() }),
    }
}

/// An answer as it goes out: on one line, followed by two newlines, as Core Lightning ends its answers.
pub fn to_wire(answer: &Value) -> Vec<u8> {
    let mut text = answer.to_string().into_bytes();
    text.extend_from_slice(b"\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Incoming::One(one) => one.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(bytes: &[u8]) -> (Value, RpcError) {
        match parse(bytes) {
            Incoming::One(one) => one.unwrap_err().into_parts(),
            other => panic!("{other:?}"),
        }
    }

    fn code(bytes: &[u8]) -> i32 {
        refusal(bytes).1.code
    }

    #[test]
    fn good_requests() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"getinfo","params":{}}"#,
            r#"{"id":"x","method":"getinfo","params":[]}"#,
            r#"{"id":null,"method":"getinfo"}"#,
        ] {
            let r = good(text);
            assert_eq!(r.method, "getinfo");
            assert!(r.id.is_some());
        }
        let r = good(r#"{"method":"getinfo"}"#);
        assert_eq!(r.id, None);
    }

    #[test]
    fn bad_requests_have_their_codes() {
        assert_eq!(code(b"{\"id\":1,"), PARSE_ERROR);
        assert_eq!(code(b"{\"id\":\"\xff\"}"), PARSE_ERROR);
        assert_eq!(code(b"{\"id\":1}"), INVALID_REQUEST);
        assert_eq!(code(b"{\"id\":1,\"method\":7}"), INVALID_REQUEST);
        assert_eq!(code(b"{\"id\":1,\"method\":\"a\",\"params\":7}"), INVALID_REQUEST);
        assert_eq!(code(b"{\"id\":1,\"method\":\"a\",\"jsonrpc\":\"1.0\"}"), INVALID_REQUEST);
        assert_eq!(code(b"[]"), INVALID_REQUEST);
        let many = format!("[{}]", vec!["{}"; MAX_BATCH + 1].join(","));
        assert_eq!(code(many.as_bytes()), INVALID_REQUEST);
    }

    #[test]
    fn an_error_keeps_the_id() {
        let (id, _) = refusal(br#"{"id":{"a":[1]},"method":1}"#);
        assert_eq!(id, json!({"a":[1]}));
    }
}
