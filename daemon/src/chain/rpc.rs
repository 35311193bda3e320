//! An asynchronous JSON-RPC client for a bitcoind, over plain HTTP/1.1 with connections that are kept.
//!
//! In: a URL, how to log in, calls. Out: JSON results, or errors that tell unreachable, wrong password, the backend's
//! own answer and nonsense apart. Names and passwords are in no error and no `Debug`.
//! Read next: `chain` (the typed calls), `url`.

use super::url::{Auth, Endpoint, UrlError};
use base64::Engine;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderValue, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// The largest answer taken: a block of 4 MB is 8 MB of hex.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Calls on the wire at once; bitcoind serves four threads by default.
const MAX_CALLS: usize = 4;
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Time for one call, unless it asks for more; a busy node may take long for an old block.
const CALL_TIME: Duration = Duration::from_secs(60);
const MAX_COOKIE_BYTES: u64 = 4096;
/// bitcoind's "still starting".
const IN_WARMUP: i64 = -28;

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// Nobody answers, or not in time, or only "busy": trying again later is right.
    #[error("the chain backend at {place} cannot be reached: {reason}")]
    Unreachable {
        /// `host:port`.
        place: String,
        /// In words.
        reason: String,
    },
    /// It answers, but does not let us in.
    #[error("the chain backend at {place} refuses our user name and password")]
    WrongPassword {
        /// `host:port`.
        place: String,
    },
    /// The call reached it and it said no.
    #[error("the chain backend says: {message} ({code})")]
    Rpc {
        /// bitcoind's error code.
        code: i64,
        /// bitcoind's words.
        message: String,
    },
    /// It answers, but for another chain.
    #[error("the chain backend is on {theirs}, this node on {ours}")]
    WrongChain {
        /// Its name for its chain.
        theirs: String,
        /// Ours.
        ours: chand_protocol::chain::Network,
    },
    /// What came back is not what a bitcoind answers.
    #[error("the chain backend's answer makes no sense: {0}")]
    Nonsense(String),
}

impl RpcError {
    /// The backend's own error code, when it gave one.
    pub fn code(&self) -> Option<i64> {
        match self {
            RpcError::Rpc { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A client for one backend. Calls may run side by side.
pub struct RpcClient {
    endpoint: Endpoint,
    idle: Mutex<Vec<Connection>>,
    login: Mutex<Option<HeaderValue>>,
    calls: Semaphore,
    next_id: AtomicU64,
}

type Connection = SendRequest<Full<Bytes>>;

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// How one try over one connection ended badly.
enum Failed {
    /// Before any answer: a connection that was idle may just have been closed by the other side.
    Lost(String),
    Other(RpcError),
}

impl RpcClient {
    /// A client for `http://[user:password@]host:port[/path]`; nothing is contacted yet.
    ///
    /// # Errors
    /// [`UrlError`], which never repeats the URL.
    pub fn new(url: &str, auth: Auth) -> Result<RpcClient, UrlError> {
        Ok(RpcClient {
            endpoint: Endpoint::parse(url, auth)?,
            idle: Mutex::default(),
            login: Mutex::default(),
            calls: Semaphore::new(MAX_CALLS),
            next_id: AtomicU64::new(1),
        })
    }

    /// Where the backend is, `host:port`.
    pub fn place(&self) -> &str {
        &self.endpoint.place
    }

    /// Calls `method`.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.call_within(method, params, CALL_TIME).await
    }

    /// Calls `method` and waits at most `limit` for the answer.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn call_within(&self, method: &str, params: Value, limit: Duration) -> Result<Value, RpcError> {
        let answer = timeout(limit, async {
            let _turn = self.calls.acquire().await;
            self.log_in_and_call(method, params).await
        });
        answer.await.unwrap_or_else(|_| Err(self.unreachable(format!("no answer to {method} in time"))))
    }

    fn unreachable(&self, reason: impl Into<String>) -> RpcError {
        RpcError::Unreachable { place: self.endpoint.place.clone(), reason: reason.into() }
    }

    /// A cookie changes with every start of the backend: after a refusal it is read once more.
    async fn log_in_and_call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params }).to_string();
        let body = Bytes::from(body);
        let known = lock(&self.login).clone();
        let was_known = known.is_some();
        let mut login = match known {
            Some(login) => Some(login),
            None => self.read_login().await?,
        };
        let (mut status, mut answer) = self.exchange(&body, login.as_ref()).await?;
        if status == StatusCode::UNAUTHORIZED && was_known && self.endpoint.cookie().is_some() {
            login = self.read_login().await?;
            (status, answer) = self.exchange(&body, login.as_ref()).await?;
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                *lock(&self.login) = None;
                Err(RpcError::WrongPassword { place: self.endpoint.place.clone() })
            }
            StatusCode::SERVICE_UNAVAILABLE => Err(self.unreachable("it is too busy")),
            status => self.result_of(status, &answer, id),
        }
    }

    async fn read_login(&self) -> Result<Option<HeaderValue>, RpcError> {
        let credentials = match (self.endpoint.cookie(), self.endpoint.password()) {
            (Some(path), _) => Some(read_cookie(path).await.map_err(|reason| self.unreachable(reason))?),
            (None, password) => password,
        };
        let Some(credentials) = credentials else { return Ok(None) };
        let encoded =
            Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(credentials.as_bytes()));
        let mut header = HeaderValue::from_str(&Zeroizing::new(format!("Basic {}", *encoded)))
            .map_err(|_| self.unreachable("the user name or password cannot be sent"))?;
        header.set_sensitive(true);
        *lock(&self.login) = Some(header.clone());
        Ok(Some(header))
    }

    /// Sends over an idle connection, or a new one; an idle one that turns out to be closed is replaced once.
    /// (All calls made here may safely arrive twice.)
    async fn exchange(
        &self,
        body: &Bytes,
        login: Option<&HeaderValue>,
    ) -> Result<(StatusCode, Bytes), RpcError> {
        let idle = lock(&self.idle).pop();
        if let Some(connection) = idle.filter(|c| !c.is_closed()) {
            match self.try_exchange(connection, body, login).await {
                Err(Failed::Lost(_)) => {}
                Err(Failed::Other(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        let connection = self.connect().await?;
        self.try_exchange(connection, body, login).await.map_err(|failed| match failed {
            Failed::Lost(reason) => self.unreachable(reason),
            Failed::Other(error) => error,
        })
    }

    async fn connect(&self) -> Result<Connection, RpcError> {
        let stream = timeout(CONNECT_TIME, TcpStream::connect(&self.endpoint.place))
            .await
            .map_err(|_| self.unreachable("it does not answer"))?
            .map_err(|error| self.unreachable(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| self.unreachable(error.to_string()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error.to_string()))?;
        // Ends by itself when the sender is dropped or the other side closes; its error comes out of the call.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn try_exchange(
        &self,
        mut connection: Connection,
        body: &Bytes,
        login: Option<&HeaderValue>,
    ) -> Result<(StatusCode, Bytes), Failed> {
        let lost = |error: hyper::Error| Failed::Lost(error.to_string());
        let mut request = Request::post(self.endpoint.path.as_str())
            .header(HOST, self.endpoint.place.as_str())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(|error| Failed::Other(self.unreachable(error.to_string())))?;
        if let Some(login) = login {
            request.headers_mut().insert(AUTHORIZATION, login.clone());
        }
        connection.ready().await.map_err(lost)?;
        let response = connection.send_request(request).await.map_err(|error| {
            if error.is_parse() {
                Failed::Other(RpcError::Nonsense("it does not speak HTTP".into()))
            } else {
                lost(error)
            }
        })?;
        let status = response.status();
        let answer = match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Failed::Other(RpcError::Nonsense("it is too long".into())))
            }
            Err(error) => return Err(Failed::Lost(error.to_string())),
        };
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_CALLS && !connection.is_closed() {
            idle.push(connection);
        }
        Ok((status, answer))
    }

    /// Takes an answer apart. bitcoind sends its errors with status 500 or 404 and a JSON body.
    fn result_of(&self, status: StatusCode, answer: &[u8], id: u64) -> Result<Value, RpcError> {
        let nonsense = |what: &str| RpcError::Nonsense(format!("{what} (HTTP status {})", status.as_u16()));
        let mut answer: Value = serde_json::from_slice(answer).map_err(|_| nonsense("no JSON"))?;
        let object = answer.as_object_mut().ok_or_else(|| nonsense("no object"))?;
        if object.get("id").and_then(Value::as_u64) != Some(id) {
            return Err(nonsense("an answer to another question"));
        }
        match object.get("error") {
            None | Some(Value::Null) => {}
            Some(error) => {
                let code =
                    error.get("code").and_then(Value::as_i64).ok_or_else(|| nonsense("no error code"))?;
                let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(match code {
                    IN_WARMUP => self.unreachable(format!("it is starting: {message}")),
                    code => RpcError::Rpc { code, message },
                });
            }
        }
        // Moved, never copied: a block is megabytes.
        object.get_mut("result").map(Value::take).ok_or_else(|| nonsense("no result"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_cookie(path: &Path) -> Result<Zeroizing<String>, String> {
    let told = |error: std::io::Error| format!("its cookie file {} cannot be read: {error}", path.display());
    if tokio::fs::metadata(path).await.map_err(told)?.len() > MAX_COOKIE_BYTES {
        return Err(format!("{} is no cookie file", path.display()));
    }
    let text = Zeroizing::new(tokio::fs::read_to_string(path).await.map_err(told)?);
    Ok(Zeroizing::new(text.trim().to_owned()))
}
