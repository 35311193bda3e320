//! HTTP around the RPC: one listener, keep-alive, basic auth, limits on everything a stranger can hold open.
//!
//! In: TCP connections on localhost. Out: answers from `rpc`. Read next: `auth`, `rpc/call.rs`.

pub mod auth;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::node::Node;
use super::rpc;
use auth::Credentials;

const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
const MAX_CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What a wrong password costs its sender.
const BAD_AUTH_DELAY: Duration = Duration::from_millis(250);
/// How long open answers may take once the node stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves until the node stops.
pub async fn serve(listener: TcpListener, node: Arc<Node>, credentials: Credentials) {
    let credentials = Arc::new(credentials);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stopping = node.stopping();
    let mut connections = JoinSet::new();
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            _ = stopping.wait_for(|asked| *asked) => break,
        };
        let Ok(slot) = slot else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|asked| *asked) => break,
        };
        while connections.try_join_next().is_some() {}
        match stream {
            Ok((stream, _)) => {
                let (node, credentials) = (node.clone(), credentials.clone());
                connections.spawn(async move {
                    connection(stream, node, credentials).await;
                    drop(slot);
                });
            }
            Err(fault) => {
                // Out of file handles, most likely: give others time to close theirs.
                tracing::warn!(%fault, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let drained =
        tokio::time::timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, node: Arc<Node>, credentials: Arc<Credentials>) {
    let _ = stream.set_nodelay(true);
    let mut stopping = node.stopping();
    let service = service_fn(move |request| {
        let (node, credentials) = (node.clone(), credentials.clone());
        async move { Ok::<_, Infallible>(handle(request, &node, &credentials).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 * 1024);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stopping.wait_for(|asked| *asked) => served.as_mut().graceful_shutdown(),
    }
    // An error here is the client's: it went away or sent no HTTP.
    let _ = served.await;
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn refuse(status: StatusCode, why: &'static str) -> Response<Full<Bytes>> {
    let mut response = respond(status, "text/plain", why);
    // The body was not read to its end; what follows on this connection would not be a request.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn handle(
    request: Request<Incoming>,
    node: &Arc<Node>,
    credentials: &Credentials,
) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "JSONRPC server handles only POST requests");
    }
    let path = request.uri().path();
    if path != "/" && !path.starts_with("/wallet/") {
        return refuse(StatusCode::NOT_FOUND, "");
    }
    let given = request.headers().get(header::AUTHORIZATION);
    if !given.is_some_and(|given| credentials.admits(given.as_bytes())) {
        if given.is_some() {
            tokio::time::sleep(BAD_AUTH_DELAY).await;
        }
        let mut response = refuse(StatusCode::UNAUTHORIZED, "");
        let realm = HeaderValue::from_static("Basic realm=\"jsonrpc\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        return response;
    }
    if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "");
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, ""),
        Ok(Err(fault)) if fault.downcast_ref::<LengthLimitError>().is_some() => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "");
        }
        Ok(Err(_)) => return refuse(StatusCode::BAD_REQUEST, ""),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let answer = rpc::answer(node, &body).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(status, "application/json", answer.body)
}
