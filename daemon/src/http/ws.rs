//! WebSocket: JSON-RPC messages both ways, several under way at once.
//!
//! The rune is in a header, or, from a client that can set none, in a first message `{"id":1,"method":"authenticate","params":["RUNE"]}`. Each message
//! after it is checked like a request of its own. In: an upgraded connection. Out: answers. Read next: `call`.

use super::gate::{self, No};
use super::{answer, call, until_true, Door};
use crate::rpc::message::{self, Incoming, RawParams, Request as RpcRequest, RpcError};
use crate::runes::authority::NOT_AUTHORIZED;
use crate::runes::Rune;
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use bitcoin::hashes::{sha1, Hash};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout, Instant};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

/// RFC 6455, 1.3.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether one of the words of a header is this.
fn says(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// The answer to the opening handshake.
pub(super) fn accept(request: &mut Request<Body>) -> Result<(Response<Full<Bytes>>, OnUpgrade), No> {
    let headers = request.headers();
    let bad = |text: &str| (StatusCode::BAD_REQUEST, RpcError::new(message::INVALID_REQUEST, text));
    let asks = says(headers, header::CONNECTION, "upgrade") && says(headers, header::UPGRADE, "websocket");
    if !asks || request.version() != Version::HTTP_11 {
        return Err(bad("only a WebSocket may be opened here"));
    }
    if !says(headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(bad("only version 13 of WebSocket is spoken"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16));
    let key = key.ok_or_else(|| bad("a WebSocket has a key of 16 bytes"))?;
    let proof = STANDARD.encode(sha1::Hash::hash(&[key, MAGIC].concat()).to_byte_array());
    let proof = HeaderValue::from_str(&proof).map_err(|_| bad("a WebSocket has a key of 16 bytes"))?;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(header::SEC_WEBSOCKET_ACCEPT, proof);
    Ok((response, hyper::upgrade::on(request)))
}

/// Answers messages until either side ends it.
pub(super) async fn run(
    upgrade: OnUpgrade,
    door: Arc<Door>,
    rune: Option<Rune>,
    _place: Arc<OwnedSemaphorePermit>,
) {
    let Ok(upgraded) = upgrade.await else { return };
    let most = door.limits.body_bytes;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(most))
        .max_frame_size(Some(most));
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let rune = match rune {
        Some(rune) => rune,
        None => match timeout(door.limits.rune_time, first(&mut socket, &door)).await {
            Ok(Some(rune)) => rune,
            _ => return end(&mut socket, CloseCode::Policy).await,
        },
    };
    let code = serve(&mut socket, &door, Arc::new(rune)).await;
    end(&mut socket, code).await;
}

async fn end(socket: &mut Socket, code: CloseCode) {
    let frame = CloseFrame { code, reason: Default::default() };
    // To whoever is gone it is all the same.
    let _ = timeout(super::FAREWELL, socket.close(Some(frame))).await;
}

async fn tell(socket: &mut Socket, value: &Value) -> bool {
    socket.send(Message::text(value.to_string())).await.is_ok()
}

/// The rune in the first message.
async fn first(socket: &mut Socket, door: &Door) -> Option<Rune> {
    let text = loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => break text,
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return None,
        }
    };
    let (id, shown) = match message::parse(text.as_bytes()) {
        Incoming::One(request) => match *request {
            Ok(request) => (request.id.clone().unwrap_or_default(), shown(&request)),
            Err(_) => return None,
        },
        Incoming::Batch(_) => return None,
    };
    let missing = || RpcError::new(NOT_AUTHORIZED, "Not authorized: Missing rune");
    let admitted = match shown.ok_or_else(missing).and_then(|text| gate::read_rune(&text)) {
        Ok(rune) => answer::admit(door, &rune).await.map(|_| rune),
        Err(error) => Err(error),
    };
    match admitted {
        Ok(rune) => {
            let told = tell(socket, &message::answer(id, Ok(json!({ "authenticated": true })))).await;
            told.then_some(rune)
        }
        Err(error) => {
            tell(socket, &message::answer(id, Err(error))).await;
            None
        }
    }
}

fn shown(request: &RpcRequest) -> Option<String> {
    if request.method != "authenticate" {
        return None;
    }
    let value = match &request.params {
        RawParams::List(list) => list.first()?,
        RawParams::Named(map) => map.get("rune")?,
    };
    value.as_str().map(str::to_string)
}

async fn serve(socket: &mut Socket, door: &Arc<Door>, rune: Arc<Rune>) -> CloseCode {
    let runes = door.context.backend.runes();
    let id = rune.id().unwrap_or_default();
    let mut shutdown = door.shutdown.clone();
    let mut answers: JoinSet<Option<Value>> = JoinSet::new();
    let mut pings = interval(door.limits.ping_time);
    pings.reset();
    let mut heard = Instant::now();
    loop {
        let room = answers.len() < door.limits.in_flight;
        tokio::select! {
            () = until_true(&mut shutdown) => return CloseCode::Away,
            _ = pings.tick() => {
                // Nothing is heard of one that is not listened to.
                let silent = room && heard.elapsed() > door.limits.ping_time * 3;
                if silent || socket.send(Message::Ping(Bytes::new())).await.is_err() {
                    return CloseCode::Away;
                }
            }
            Some(done) = answers.join_next() => {
                if let Ok(Some(answer)) = done {
                    if !tell(socket, &answer).await {
                        return CloseCode::Away;
                    }
                }
            }
            message = socket.next(), if room => match message {
                Some(Ok(Message::Text(text))) => {
                    heard = Instant::now();
                    let Some(under_way) = runes.enter(id) else {
                        if !tell(socket, &message::answer(Value::Null, Err(call::too_many()))).await {
                            return CloseCode::Away;
                        }
                        continue;
                    };
                    let (door, rune) = (Arc::clone(door), Arc::clone(&rune));
                    answers.spawn(async move {
                        let _under_way = under_way;
                        call::rpc(&door, &rune, text.as_bytes()).await
                    });
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => heard = Instant::now(),
                Some(Ok(Message::Close(_))) | None => return CloseCode::Normal,
                Some(Ok(_)) => return CloseCode::Unsupported,
                Some(Err(_)) => return CloseCode::Protocol,
            }
        }
    }
}
