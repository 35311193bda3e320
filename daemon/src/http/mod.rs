//! The control socket's methods over HTTP and WebSocket, for whoever shows a rune.
//!
//! Off unless asked for. In: TCP connections, with TLS or without. Out: answers of the same table of methods, as far as the rune allows.
//! Whoever shows no rune of ours can hold a connection for some seconds, and nothing else: no body is read, no message
//! answered. Every wait on a client has an end, every queue a bound.
//!
//! * `gate` – names of hosts, origins, paths, runes: what is looked at before a body is read
//! * `answer` – HTTP requests; `call` – one method with one rune; `ws` – WebSocket
//! * `tls` – certificates; `patient` – a stream whose reader may not dawdle
//!
//! Read next: `gate`.

mod answer;
mod call;
mod gate;
mod patient;
#[cfg(test)]
mod tests;
pub mod tls;
mod ws;

use crate::rpc::call::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use patient::Patient;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// What a client may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once, WebSockets included; further ones are closed.
    pub connections: usize,
    /// For a TLS handshake, and for the head of a request, also until the next one begins.
    pub head_time: Duration,
    /// Bytes of a head.
    pub head_bytes: usize,
    /// For a body.
    pub body_time: Duration,
    /// Bytes of a body, and of a WebSocket message.
    pub body_bytes: usize,
    /// For a client that does not read.
    pub write_time: Duration,
    /// For the first message of a WebSocket that showed no rune.
    pub rune_time: Duration,
    /// Between two signs of life that a WebSocket is asked for.
    pub ping_time: Duration,
    /// Requests at once of one WebSocket.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 128,
            head_time: Duration::from_secs(10),
            head_bytes: 16 << 10,
            body_time: Duration::from_secs(30),
            body_bytes: 1 << 20,
            write_time: Duration::from_secs(30),
            rune_time: Duration::from_secs(10),
            ping_time: Duration::from_secs(30),
            in_flight: 32,
        }
    }
}

/// How long answers under way may take at shutdown.
const FAREWELL: Duration = Duration::from_secs(1);

/// What every connection shares.
pub(crate) struct Door {
    context: Arc<Context>,
    /// Names under which we are called, beside addresses and `localhost`.
    names: Vec<String>,
    /// `http` or `https`.
    scheme: &'static str,
    limits: Limits,
    shutdown: watch::Receiver<bool>,
}

/// A listener that serves nobody yet.
pub struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    names: Vec<String>,
}

impl Bound {
    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Opens the port. Must run inside tokio.
///
/// # Errors
/// The system's.
pub async fn bind(address: SocketAddr, tls: Option<TlsAcceptor>, names: Vec<String>) -> io::Result<Bound> {
    Ok(Bound { listener: TcpListener::bind(address).await?, tls, names })
}

/// Answers clients until `shutdown` turns true.
pub async fn serve(bound: Bound, context: Arc<Context>, limits: Limits, shutdown: watch::Receiver<bool>) {
    let Bound { listener, tls, names } = bound;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let door = Arc::new(Door { context, names, scheme, limits, shutdown: shutdown.clone() });
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut stopping = shutdown;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = until_true(&mut stopping) => break,
            accepted = listener.accept() => match accepted {
                // One too many is closed without a word: a word would have to wait for it.
                Ok((stream, _)) => if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    connections.spawn(begin(stream, tls.clone(), Arc::clone(&door), place));
                },
                Err(error) => {
                    // Out of file descriptors, most likely: give others time to close theirs.
                    tracing::warn!(%error, "the port of --http could not accept a client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let farewell = async { while connections.join_next().await.is_some() {} };
    // Whoever is still waiting after that is cut off when the set is dropped.
    let _ = timeout(FAREWELL, farewell).await;
}

/// Resolves when the value is true or can change no more.
async fn until_true(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn begin(stream: TcpStream, tls: Option<TlsAcceptor>, door: Arc<Door>, place: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection(stream, door, place).await,
        Some(tls) => {
            // Who speaks something else, or nothing, is nobody of ours.
            if let Ok(Ok(stream)) = timeout(door.limits.head_time, tls.accept(stream)).await {
                connection(stream, door, place).await;
            }
        }
    }
}

async fn connection<S>(stream: S, door: Arc<Door>, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Patient::new(stream, door.limits.write_time);
    let place = Arc::new(place);
    let (limits, mut shutdown) = (door.limits, door.shutdown.clone());
    let service = service_fn(move |request| {
        let (door, place) = (Arc::clone(&door), Arc::clone(&place));
        async move { Ok::<_, Infallible>(answer::answer(request, door, place).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes)
        .max_headers(64);
    let served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // An error here is the client's: it went away or sent no HTTP.
        _ = served.as_mut() => return,
        () = until_true(&mut shutdown) => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}
