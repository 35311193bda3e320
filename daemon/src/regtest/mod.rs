//! `chand regtest`: the embedded chain, a Bitcoin regtest node in one process for localhost.
//!
//! In: bitcoind's JSON-RPC over HTTP. Out: real regtest blocks, a mempool with bitcoind's policy, a faucet wallet.
//! Three layers: `consensus` (blocks and coins), `mempool` (policy), `rpc` (what clients see), with `faucet` beside
//! them and `node` around them under one lock. Read next: `options`, `node`, `rpc/table.rs` (all commands).

pub mod consensus;
mod faucet;
mod faucet_spend;
pub mod mempool;
mod node;
mod options;
mod rpc;
mod server;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use node::Node;
pub use options::{Options, DEFAULT_PREMINE_BLOCKS, DEFAULT_RPC_PORT};
#[cfg(any(test, feature = "hostile"))]
pub(crate) use rpc::answer as rpc_answer;

use consensus::{BlockReject, ChainError};
use rpc::hex as rpc_hex;

/// Why the embedded chain does not start, or stops.
#[derive(Debug, Error)]
pub enum RegtestError {
    /// A file in the data directory.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has this data directory.
    #[error("another process uses the data directory {0}")]
    Locked(PathBuf),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Options(String),
    /// The stored chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The first blocks could not be mined.
    #[error("the first blocks could not be mined: {0}")]
    Premine(#[from] BlockReject),
    /// The faucet's key file is damaged, or no randomness was to be had.
    #[error("faucet: {0}")]
    Faucet(String),
    /// The server's task ended before its time.
    #[error("the server ended: {0}")]
    Task(String),
}

/// An embedded chain running inside this process.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    user: String,
    password: String,
    cookie: Option<PathBuf>,
    node: Arc<Node>,
    task: JoinHandle<()>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The user name to give.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password to give.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The cookie file, when no user and password were set.
    pub fn cookie(&self) -> Option<&PathBuf> {
        self.cookie.as_ref()
    }

    /// A URL that a client can use as it is: `http://user:password@address`.
    pub fn url(&self) -> String {
        format!("http://{}:{}@{}", self.user, self.password, self.address)
    }

    /// The node itself, for a caller in the same process.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Stops it and waits until it is down and the directory is free.
    pub async fn stop(self) -> Result<(), RegtestError> {
        self.node.stop();
        self.wait().await
    }

    /// Waits until somebody stops it (`stop` over RPC).
    pub async fn wait(self) -> Result<(), RegtestError> {
        let cookie = self.cookie.clone();
        let ended = self.task.await.map_err(|fault| RegtestError::Task(fault.to_string()));
        if let Some(path) = cookie {
            // bitcoind removes its cookie, too: a stale one would send clients to nobody.
            let _ = std::fs::remove_file(path);
        }
        ended
    }
}

/// Starts the embedded chain inside this process. It is ready when this returns.
pub async fn spawn(options: Options) -> Result<Running, RegtestError> {
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| RegtestError::Listen { address: options.listen, source })?;
    let address =
        listener.local_addr().map_err(|source| RegtestError::Listen { address: options.listen, source })?;
    let opening = options.clone();
    let node = tokio::task::spawn_blocking(move || Node::open(&opening))
        .await
        .map_err(|fault| RegtestError::Task(fault.to_string()))??;
    let node = Arc::new(node);
    let credentials = server::auth::Credentials::prepare(&options)?;
    let (user, password) = (credentials.user().to_owned(), credentials.password().to_owned());
    let cookie = credentials.cookie().cloned();
    let task = tokio::spawn(server::serve(listener, node.clone(), credentials));
    Ok(Running { address, user, password, cookie, node, task })
}

/// Runs the embedded chain until `shutdown` turns true (or its sender is gone), or a client says `stop`.
pub async fn run(options: Options, mut shutdown: watch::Receiver<bool>) -> Result<(), RegtestError> {
    let running = spawn(options).await?;
    match running.cookie() {
        Some(cookie) => {
            println!("chand regtest: listening on {}, cookie {}", running.address(), cookie.display());
        }
        None => println!("chand regtest: listening on {}, user {}", running.address(), running.user()),
    }
    let node = running.node().clone();
    let watcher = tokio::spawn(async move {
        // An error means that nobody can ask for a shutdown any more: stop as well.
        let _ = shutdown.wait_for(|asked| *asked).await;
        node.stop();
    });
    let ended = running.wait().await;
    watcher.abort();
    ended
}
