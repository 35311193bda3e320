//! One method, or one JSON-RPC message, for whoever holds a rune.
//!
//! The rune is asked before the method is looked up, with the very parameters that will be bound. One with budgets is given a daemon that
//! keeps them (`rpc::limited`). In: a rune and a request. Out: the answer. Read next: `crate::runes::authority`.

use super::Door;
use crate::rpc::call::Context;
use crate::rpc::limited::{self, Limited};
use crate::rpc::message::{self, answer, Incoming, RawParams, Refusal, Request, RpcError};
use crate::rpc::{socket, table};
use crate::runes::request::Request as Asked;
use crate::runes::Rune;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer may take to leave before a stop begins.
const ANSWER_TIME: Duration = Duration::from_millis(200);

/// Of one rune so many requests are answered already.
pub(super) fn too_many() -> RpcError {
    RpcError::new(message::INVALID_REQUEST, "too many requests of this rune at once")
}

/// Does what a method asks, if the rune allows it.
pub(super) async fn call(
    door: &Door,
    rune: &Rune,
    name: &str,
    params: RawParams,
    filter: Option<Value>,
) -> Result<Value, RpcError> {
    let context = &door.context;
    let known = table::find(name, context.about.dev);
    let asked = Asked::new(name, known, &params);
    let grant = context.backend.runes().check(&*context.backend, rune, &asked).await?;
    if grant.budgets.is_empty() {
        let stop = name == "stop";
        let result = socket::dispatch(context, name, params, filter).await;
        if stop && result.is_ok() {
            let backend = Arc::clone(&context.backend);
            tokio::spawn(async move {
                tokio::time::sleep(ANSWER_TIME).await;
                backend.stop();
            });
        }
        return result;
    }
    limited::may_call(name)?;
    let backend = Arc::new(Limited::new(Arc::clone(&context.backend), grant.budgets));
    let within = Context { backend, about: context.about.clone(), log: context.log.clone() };
    socket::dispatch(&Arc::new(within), name, params, filter).await
}

/// Answers one JSON-RPC message; `None` when it holds nothing that is answered.
pub(super) async fn rpc(door: &Door, rune: &Rune, bytes: &[u8]) -> Option<Value> {
    match message::parse(bytes) {
        Incoming::One(request) => one(door, rune, *request).await,
        Incoming::Batch(requests) => {
            let mut answers = Vec::new();
            for request in requests {
                answers.extend(one(door, rune, request).await);
            }
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
    }
}

async fn one(door: &Door, rune: &Rune, request: Result<Request, Refusal>) -> Option<Value> {
    match request {
        Err(refusal) => {
            let (id, error) = refusal.into_parts();
            Some(answer(id, Err(error)))
        }
        Ok(Request { id, method, params, filter }) => {
            let outcome = call(door, rune, &method, params, filter).await;
            id.map(|id| answer(id, outcome))
        }
    }
}
