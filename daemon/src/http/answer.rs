//! HTTP requests, in the manner of Core Lightning's clnrest.
//!
//! `POST /v1/METHOD` with the parameters as JSON gives 201 and the result, or a status and `{code, message}`. `POST /` takes JSON-RPC.
//! In: a request. Out: a response. Read next: `call`.

use super::call;
use super::gate::{self, Aim, No};
use super::{ws, Door};
use crate::rpc::message::{RawParams, RpcError, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR};
use crate::runes::authority::{BLACKLISTED, NOT_AUTHORIZED, NOT_PERMITTED};
use crate::runes::Rune;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Answers a request.
pub(super) async fn answer(
    mut request: Request<Incoming>,
    door: Arc<Door>,
    place: Arc<OwnedSemaphorePermit>,
) -> Response<Full<Bytes>> {
    let aim = match gate::aim(&request, &door) {
        Ok(aim) => aim,
        Err(no) => return refuse(no),
    };
    let rune = match gate::rune(request.headers()) {
        Ok(rune) => rune,
        Err(no) => return refuse(no),
    };
    if let Some(rune) = &rune {
        if let Err(error) = admit(&door, rune).await {
            return refuse((status(&error), error));
        }
    }
    match (aim, rune) {
        (Aim::WebSocket, rune) => match ws::accept(&mut request) {
            Ok((response, upgrade)) => {
                tokio::spawn(ws::run(upgrade, door, rune, place));
                response
            }
            Err(no) => refuse(no),
        },
        (_, None) => refuse(gate::missing_rune()),
        (aim, Some(rune)) => match with_rune(request, &door, aim, &rune).await {
            Ok((status, value)) => respond(status, value),
            Err(no) => refuse(no),
        },
    }
}

/// Whether a rune is ours: all that a stranger can find out.
pub(super) async fn admit(door: &Door, rune: &Rune) -> Result<u64, RpcError> {
    let backend = &door.context.backend;
    backend.runes().admit(&**backend, rune).await
}

async fn with_rune(
    request: Request<Incoming>,
    door: &Door,
    aim: Aim,
    rune: &Rune,
) -> Result<(StatusCode, Option<Value>), No> {
    let id = rune.id().unwrap_or_default();
    let runes = door.context.backend.runes();
    let _under_way = runes.enter(id).ok_or_else(|| (StatusCode::TOO_MANY_REQUESTS, call::too_many()))?;
    let body = body(request, door).await?;
    match aim {
        Aim::Method(name) => {
            let params = params(&body)?;
            match call::call(door, rune, &name, params, None).await {
                Ok(result) => Ok((StatusCode::CREATED, Some(result))),
                Err(error) => Err((status(&error), error)),
            }
        }
        _ => match call::rpc(door, rune, &body).await {
            Some(answer) => Ok((StatusCode::OK, Some(answer))),
            None => Ok((StatusCode::NO_CONTENT, None)),
        },
    }
}

fn status(error: &RpcError) -> StatusCode {
    match error.code {
        NOT_AUTHORIZED | NOT_PERMITTED | BLACKLISTED => StatusCode::UNAUTHORIZED,
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn body(request: Request<Incoming>, door: &Door) -> Result<Bytes, No> {
    let no = |status: StatusCode, text: &str| (status, RpcError::new(INVALID_REQUEST, text));
    let json = request.headers().get(header::CONTENT_TYPE).is_none_or(|kind| {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    });
    if !json {
        return Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, "only application/json is read"));
    }
    let most = door.limits.body_bytes;
    let too_long = || no(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
    if request.body().size_hint().lower() > most as u64 {
        return Err(too_long());
    }
    match timeout(door.limits.body_time, Limited::new(request.into_body(), most).collect()).await {
        Err(_) => Err(no(StatusCode::REQUEST_TIMEOUT, "the body did not come")),
        Ok(Err(fault)) if fault.downcast_ref::<LengthLimitError>().is_some() => Err(too_long()),
        Ok(Err(_)) => Err(no(StatusCode::BAD_REQUEST, "the body broke off")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// The parameters in a body: an object, an array, or nothing.
fn params(body: &[u8]) -> Result<RawParams, No> {
    let bad = |text: &str| (StatusCode::BAD_REQUEST, RpcError::new(PARSE_ERROR, text));
    if body.trim_ascii().is_empty() {
        return Ok(RawParams::Named(Map::new()));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(RawParams::Named(map)),
        Ok(Value::Array(list)) => Ok(RawParams::List(list)),
        Ok(_) => Err(bad("the body is neither an object nor an array")),
        Err(_) => Err(bad("the body is not JSON")),
    }
}

fn respond(status: StatusCode, value: Option<Value>) -> Response<Full<Bytes>> {
    let bytes = value.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn refuse((status, error): No) -> Response<Full<Bytes>> {
    let mut response = respond(status, Some(error.to_json()));
    if !matches!(status, StatusCode::INTERNAL_SERVER_ERROR | StatusCode::NOT_FOUND) {
        // The body may not have been read to its end; what follows on this connection would not be a request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
