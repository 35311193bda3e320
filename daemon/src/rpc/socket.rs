//! Serves the control socket.
//!
//! In: a bound Unix socket. Out: requests dispatched, answers written back, until told to stop.
//! Each connection is on its own: its reader, its writer and its requests are tasks of their own, each with limits, so
//! that a client that floods, stalls, sends garbage or never reads harms nobody but itself.
//! Read next: `frame` (cutting the stream), `table` (who answers).

use super::backend::Backend;
use super::call::node::unknown_method;
use super::call::Context;
use super::filter;
use super::frame::Splitter;
use super::log::Ring;
use super::message::{self, answer, Incoming, Refusal, Request, RpcError, INVALID_REQUEST, PARSE_ERROR};
use super::params::bind as bind_params;
use super::table;
use serde_json::Value;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{mpsc, watch, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The longest path that a Unix socket may have: 108 bytes with the zero at its end.
const MAX_PATH: usize = 107;
/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// How often a connection whose client sends no more is asked whether it is still there.
const GONE_CHECK: Duration = Duration::from_secs(1);
/// How long answers under way may take at shutdown.
const FAREWELL: Duration = Duration::from_secs(1);

/// What one client may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one request.
    pub request_bytes: usize,
    /// Brackets within brackets.
    pub depth: usize,
    /// Requests being answered at once on one connection; the next ones wait unread.
    pub in_flight: usize,
    /// Connections at once; further ones are told so and closed.
    pub connections: usize,
    /// How long an answer may wait for a client that does not read.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_bytes: 4 << 20,
            depth: 64,
            in_flight: 64,
            connections: 128,
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The operating system's limit.
    #[error(
        "the path of the control socket is {length} bytes long and Unix allows {MAX_PATH}: {path} (choose a shorter \
         one with --rpc-socket, or a shorter --data-dir)"
    )]
    PathTooLong {
        /// Its length.
        length: usize,
        /// The path.
        path: PathBuf,
    },
    /// Another daemon.
    #[error("another program answers at {0}: is chand running there already?")]
    InUse(PathBuf),
    /// Not ours to remove.
    #[error("{0} is there already and is no socket: move it away, or choose another path with --rpc-socket")]
    NotASocket(PathBuf),
    /// The rest.
    #[error("the control socket {path} could not be made: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening socket. Dropped, it removes its file if that is still its own.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Bound {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            // Nothing depends on it: a file left behind is recognised as stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket, with mode 0600; folders that are missing are made with 0700. Must run inside tokio.
///
/// # Errors
/// [`BindError`], in words for the user.
pub fn bind(path: &Path) -> Result<Bound, BindError> {
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(BindError::PathTooLong { length, path: path.into() });
    }
    let io_error = |source| BindError::Io { path: path.into(), source };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error)?;
    }
    remove_stale(path)?;
    let socket = UnixSocket::new_stream().map_err(io_error)?;
    socket.bind(path).map_err(io_error)?;
    // Nobody can connect before `listen`, so the mode is right from the start.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io_error)?;
    let inode = fs::symlink_metadata(path).map_err(io_error)?.ino();
    let listener = socket.listen(128).map_err(io_error)?;
    Ok(Bound { listener, path: path.into(), inode })
}

/// Removes a socket file that nothing listens on.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io_error = |source| BindError::Io { path: path.into(), source };
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error)?,
    };
    if !meta.file_type().is_socket() {
        return Err(BindError::NotASocket(path.into()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.into())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io_error),
        Err(source) => Err(BindError::Io { path: path.into(), source }),
    }
}

/// Answers clients until `shutdown` turns true (or its sender is gone); answers ready by then are still written.
pub async fn serve(
    bound: Bound,
    backend: Arc<dyn Backend>,
    log: Ring,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) {
    let context = Arc::new(Context::new(backend, log));
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = until_true(&mut shutdown) => break,
            accepted = bound.listener.accept() => match accepted {
                Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let (context, shutdown) = (Arc::clone(&context), shutdown.clone());
                        connections.spawn(connection(stream, context, limits, shutdown, place));
                    }
                    Err(_) => refuse(&stream, limits.connections),
                },
                Err(error) => {
                    // Out of file descriptors, most likely: give others time to close theirs.
                    tracing::warn!(%error, "the control socket could not accept a client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(bound);
    let farewell = async { while connections.join_next().await.is_some() {} };
    // Whoever is still waiting after that is cut off when the set is dropped.
    let _ = timeout(FAREWELL, farewell).await;
}

/// Resolves when the value is true or can change no more.
async fn until_true(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Tells a client that there is no place, if it can be told without waiting.
fn refuse(stream: &UnixStream, places: usize) {
    let text = format!("too many clients: {places} are connected already");
    let error = RpcError::new(INVALID_REQUEST, text);
    let _ = stream.try_write(&message::to_wire(&answer(Value::Null, Err(error))));
}

/// An answer on its way out, with the place it takes among those in flight.
struct Outgoing {
    bytes: Vec<u8>,
    /// The client asked for `stop`.
    stop: bool,
    _place: Option<OwnedSemaphorePermit>,
}

async fn connection(
    stream: UnixStream,
    context: Arc<Context>,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let (reader, writer) = stream.into_split();
    let (outgoing, queue) = mpsc::channel(limits.in_flight);
    let writing = write_answers(writer, queue, Arc::clone(&context), limits.write_timeout);
    let reading = read_requests(reader, context, limits, shutdown.clone(), outgoing);
    // The reader ends when all it started is handed to the writer; the writer ends when it has written that, or
    // cannot. Whichever way, what is left is dropped: commands already given to the node go on without us.
    tokio::pin!(writing);
    let leaving = async {
        until_true(&mut shutdown).await;
        // An answer that is nearly ready has time to leave; one that is awaited for longer has not.
        tokio::time::sleep(FAREWELL / 2).await;
    };
    tokio::select! {
        () = reading => writing.await,
        () = &mut writing => {}
        () = leaving => {}
    }
}

/// Writes answers until there are no more or the client does not take them.
async fn write_answers(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
    context: Arc<Context>,
    patience: Duration,
) {
    while let Some(answer) = queue.recv().await {
        let written = timeout(patience, writer.write_all(&answer.bytes)).await;
        if answer.stop {
            // Even when the client is gone: it was asked for.
            context.backend.stop();
        }
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!("a client of the control socket does not read its answers: hung up");
                return;
            }
        }
    }
}

/// Reads requests and starts them, until the client is gone; then waits for those under way.
async fn read_requests(
    mut reader: OwnedReadHalf,
    context: Arc<Context>,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    outgoing: mpsc::Sender<Outgoing>,
) {
    let in_flight = Arc::new(Semaphore::new(limits.in_flight));
    let mut splitter = Splitter::new(limits.request_bytes, limits.depth);
    let mut tasks = JoinSet::new();
    let mut chunk = vec![0; CHUNK];
    let problem = 'reading: loop {
        let read = tokio::select! {
            read = reader.read(&mut chunk) => read.unwrap_or(0),
            () = until_true(&mut shutdown) => break None,
        };
        if read == 0 {
            break (!splitter.is_between_values())
                .then(|| "the connection ended within a request".to_string());
        }
        splitter.push(chunk.get(..read).unwrap_or_default());
        loop {
            match splitter.next_value() {
                Ok(None) => break,
                Ok(Some(value)) => {
                    // Closed never: nobody closes this semaphore.
                    let Ok(place) = Arc::clone(&in_flight).acquire_owned().await else { return };
                    while tasks.try_join_next().is_some() {}
                    tasks.spawn(respond(Arc::clone(&context), value, outgoing.clone(), place));
                }
                Err(error) => break 'reading Some(error.to_string()),
            }
        }
    };
    if let Some(text) = problem {
        let error = RpcError::new(PARSE_ERROR, text);
        let bytes = message::to_wire(&answer(Value::Null, Err(error)));
        let _ = outgoing.send(Outgoing { bytes, stop: false, _place: None }).await;
    }
    drop(outgoing);
    drain(&mut tasks, &reader).await;
}

/// Waits for requests under way, unless the client has gone for good: a client may close its sending side and still
/// read (`nc -N`), and one that left may have left a request behind that waits for ever.
async fn drain(tasks: &mut JoinSet<()>, reader: &OwnedReadHalf) {
    loop {
        tokio::select! {
            done = tasks.join_next() => if done.is_none() { return },
            () = tokio::time::sleep(GONE_CHECK) => {
                let ready = reader.ready(Interest::WRITABLE).await;
                if ready.is_ok_and(|r| r.is_write_closed()) {
                    return;
                }
            }
        }
    }
}

/// Answers what one JSON value holds.
async fn respond(
    context: Arc<Context>,
    value: Vec<u8>,
    outgoing: mpsc::Sender<Outgoing>,
    place: OwnedSemaphorePermit,
) {
    let mut stop = false;
    let reply = match message::parse(&value) {
        Incoming::One(request) => {
            stop = is_stop(&request);
            one(&context, *request).await
        }
        Incoming::Batch(requests) => {
            let mut answers = Vec::new();
            for request in requests {
                stop |= is_stop(&request);
                answers.extend(one(&context, request).await);
            }
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
    };
    drop(value);
    let bytes = reply.map(|r| message::to_wire(&r)).unwrap_or_default();
    // Fails only when the writer is gone, and with it the client.
    if outgoing.send(Outgoing { bytes, stop, _place: Some(place) }).await.is_err() && stop {
        context.backend.stop();
    }
}

/// Whether it asks for the shutdown, in a way that is understood.
pub(crate) fn is_stop(request: &Result<Request, Refusal>) -> bool {
    let stop = request.as_ref().ok().filter(|r| r.method == "stop");
    let method = table::find("stop", false);
    stop.zip(method).is_some_and(|(r, method)| bind_params(method.params, r.params.clone()).is_ok())
}

/// The answer to one request; `None` for a notification.
async fn one(context: &Arc<Context>, request: Result<Request, Refusal>) -> Option<Value> {
    match request {
        Err(refusal) => {
            let (id, error) = refusal.into_parts();
            Some(answer(id, Err(error)))
        }
        Ok(Request { id, method, params, filter }) => {
            let outcome = dispatch(context, &method, params, filter).await;
            id.map(|id| answer(id, outcome))
        }
    }
}

/// Does what a method asks.
///
/// # Errors
/// Its own, or that there is no such method.
pub(crate) async fn dispatch(
    context: &Arc<Context>,
    name: &str,
    params: message::RawParams,
    wanted: Option<Value>,
) -> Result<Value, RpcError> {
    let method = table::find(name, context.about.dev).ok_or_else(|| unknown_method(name))?;
    let args = bind_params(method.params, params)?;
    // The trouble may begin or end meanwhile: either way the answer may be of the older state.
    let behind = context.backend.behind();
    let mut result = (method.call)(Arc::clone(context), args).await?;
    if let (true, Value::Object(fields)) = (method.is_question(), &mut result) {
        if let Some(why) = behind.or_else(|| context.backend.behind()) {
            fields.insert("warning_disk".into(), why.into());
        }
    }
    match wanted {
        None => Ok(result),
        Some(wanted) => filter::apply(result, &wanted),
    }
}
