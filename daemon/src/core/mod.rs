//! The single writer: tokio around a pure node.
//!
//! In: events of peers, the chain, the broadcaster and control sockets. Out: what the node releases, never before it
//! is durable. Two threads, so that the next step is computed while the last one is being synced:
//! * the **core thread** (`heart`) owns the node and the wallet; it sleeps until something arrives (`inbox`), takes all
//!   that is there, reads the clock once, makes one step, and hands the batch on;
//! * the **writer thread** (`writer`) owns the store; it keeps all batches that wait with one sync and lets out what
//!   depended on them.
//!
//! Who may wait for whom, and why no circle closes:
//! * sockets, follower, publisher and clients wait for the core thread (bounded queues: each source slows down alone);
//! * the core thread waits for nobody (only after a bug, for the writer thread to read the store again): when batches
//!   gather before a slow disk, it stops listening to peers and clients, and goes on with the chain; when very many do,
//!   it stops listening at all (`backlog`);
//! * the writer thread waits for the disk and for nothing else: a link whose queue is full is closed, the queues to the
//!   publisher and back to the wallet have no bound of their own (each entry stems from a batch, of which a bounded
//!   number is under way), and answers go to one-shot channels;
//! * the publisher waits for the chain backend and for the core thread, and nobody waits for the publisher.
//!
//! While the disk refuses, questions are answered from what it holds (`lookout`); everything else waits.
//!
//! Read next: `heart`.

mod backend;
mod backlog;
mod check;
mod clock;
mod drain;
mod heart;
mod inbox;
mod links;
mod lookout;
mod publish;
mod purse;
pub mod revoked;
#[cfg(test)]
mod tests;
mod waiting;
mod writer;

pub use backend::Daemon;
pub use drain::{words, Drained};
pub use purse::coins;

use crate::backup::again::Again;
use crate::backup::BackupFile;
use crate::chain::follow::FollowConfig;
use crate::chain::Chain;
use crate::gossip::GossipHandle;
use crate::peer::{PeerEvent, Peers};
use crate::routes::Routes;
use crate::rpc::{About, ConfigEntry};
use crate::runes::Authority;
use crate::tower::Towers;
use crate::wallet::Wallet;
use chand_protocol::node::{Dormant, Node};
use chand_protocol::store::{Entry, Store};
use heart::Heart;
use inbox::{Inbox, BROADCAST_QUEUE, ORDER_QUEUE, PEER_QUEUE};
use purse::Purse;
use std::cell::RefCell;
use std::io;
use std::sync::mpsc::channel;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use writer::{Exits, WriterError};

/// Makes a node and its wallet from what the store holds: at the start, again after a bug stopped a step, and to be asked
/// while the disk refuses.
pub type Birth = Arc<dyn Fn(Vec<Entry>) -> Result<(Dormant, Wallet), String> + Send + Sync>;

/// Why the core ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// A thread or task is gone.
    #[error("internal error: {0} ended; start chand again, nothing is lost")]
    Broken(&'static str),
    /// Bugs, one after the other.
    #[error(
        "a bug stopped the node three times within a minute; it does not start again by itself. Nothing is lost, no \
         channel was closed: please report the lines above, and start chand again or with another version"
    )]
    Panics,
    /// No fresh node could be made.
    #[error("after a bug the state could not be loaded again: {0}")]
    Reload(String),
    /// The disk, or a bug, stopped the writer thread.
    #[error("{0}")]
    Writer(String),
}

impl From<WriterError> for CoreError {
    fn from(error: WriterError) -> CoreError {
        CoreError::Writer(error.to_string())
    }
}

/// What the core is made of.
pub struct Parts<S> {
    /// The node, just restored, and its wallet.
    pub alive: (Node, Wallet),
    /// How to do that again.
    pub birth: Birth,
    /// Where they were restored from.
    pub store: S,
    /// The socket pump, reporting to `peer_events`.
    pub peers: Peers,
    /// Its events; of a queue made by [`peer_queue`].
    pub peer_events: mpsc::Receiver<PeerEvent>,
    /// The chain backend.
    pub chain: Chain,
    /// How to follow it.
    pub follow: FollowConfig,
    /// Turns true when the daemon is to stop; also set here, by the `stop` command.
    pub stop: watch::Sender<bool>,
    /// Who serves the watchtowers.
    pub towers: Towers,
    /// Who spreads what we announce, and knows what others do.
    pub gossip: GossipHandle,
    /// Who makes and checks runes.
    pub runes: Arc<Authority>,
    /// What control sockets tell of this daemon.
    pub about: About,
    /// The options, for `listconfigs`.
    pub configs: Vec<ConfigEntry>,
    /// Where tasks run.
    pub runtime: Handle,
}

/// The queue between the socket pump and the core.
pub fn peer_queue() -> (mpsc::Sender<PeerEvent>, mpsc::Receiver<PeerEvent>) {
    mpsc::channel(PEER_QUEUE)
}

/// A core at work.
pub struct Core {
    core: JoinHandle<Result<(), CoreError>>,
    writer: JoinHandle<Result<(), WriterError>>,
    finder: JoinHandle<()>,
    daemon: Arc<Daemon>,
    ended: watch::Receiver<bool>,
    #[cfg(test)]
    backlog: backlog::Backlog,
}

impl Core {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<S: Store + Send + 'static>(parts: Parts<S>) -> io::Result<Core> {
        let Parts {
            alive,
            birth,
            store,
            peers,
            peer_events,
            chain,
            follow,
            stop,
            towers,
            gossip,
            runes,
            about,
            configs,
            runtime,
        } = parts;
        let scores = about.lightning_dir.join("scores.cache");
        let (routes, routes_in, finder) = Routes::start(gossip.clone(), scores)?;
        let (batches, jobs) = channel();
        let (orders, orders_in) = mpsc::channel(ORDER_QUEUE);
        let (publish, publish_in) = mpsc::unbounded_channel();
        let (published, published_in) = mpsc::channel(BROADCAST_QUEUE);
        let (old_blocks, old_blocks_in) = mpsc::channel(inbox::CHAIN_QUEUE);
        let (wallet_jobs, wallet_jobs_in) = mpsc::unbounded_channel();
        // Nothing comes out of this one: `follow_chain` puts a follower's in its place.
        let (_, no_chain) = mpsc::channel(1);
        let (waiting, links) = (waiting::Waiting::default(), links::Links::default());
        let backlog = backlog::Backlog::default();

        let lookout = lookout::Lookout::new(Arc::clone(&birth));
        let exits = Exits {
            peers: peers.clone(),
            links: links.clone(),
            waiting: waiting.clone(),
            publish: publish.clone(),
            wallet: wallet_jobs,
            backlog: backlog.clone(),
            towers: towers.clone(),
            routes,
            gossip: gossip.clone(),
            lookout: lookout.clone(),
            dir: about.lightning_dir.clone(),
            backup: RefCell::new(BackupFile::of(&about.lightning_dir)),
            again: Again { chain: chain.clone(), network: follow.network, inputs: old_blocks },
        };
        let (stopping, on) = (stop.subscribe(), runtime.clone());
        let writer = Builder::new()
            .name("chand-writer".into())
            .spawn(move || writer::run(store, jobs, exits, stopping, on))?;

        runtime.spawn(publish::run(chain.clone(), publish_in, published));
        let inbox = Inbox {
            peers: peer_events,
            chain: no_chain,
            published: published_in,
            orders: orders_in,
            wallet: wallet_jobs_in,
            routes: routes_in,
            old_blocks: old_blocks_in,
            stop: stop.subscribe(),
        };
        let beside =
            backend::Beside { towers, gossip: gossip.clone(), chain: chain.clone(), runes, about, configs };
        let daemon = Arc::new(Daemon::new(orders, stop, lookout, beside));
        let (node, wallet) = alive;
        let heart = Heart {
            node,
            purse: Purse::new(wallet, purse::Rates::default()),
            birth,
            inbox,
            batches,
            backlog: backlog.clone(),
            publish,
            waiting,
            links,
            peers,
            chain,
            follow,
            follower: None,
            runtime,
            clock: clock::Clock::default(),
            panics: Vec::new(),
            gossip,
        };
        let (over, ended) = watch::channel(false);
        let core = Builder::new().name("chand-core".into()).spawn(move || {
            let end = heart.run();
            over.send_replace(true);
            end
        })?;
        Ok(Core {
            core,
            writer,
            finder,
            daemon,
            ended,
            #[cfg(test)]
            backlog,
        })
    }

    /// What control sockets talk to.
    pub fn daemon(&self) -> Arc<Daemon> {
        Arc::clone(&self.daemon)
    }

    /// Resolves when the core thread ended, of itself or because it was to stop.
    pub async fn ended(&mut self) {
        // A gone sender means that the thread panicked.
        let _ = self.ended.wait_for(|over| *over).await;
    }

    /// Waits until all that was under way is kept and the store is closed.
    ///
    /// # Errors
    /// [`CoreError`] when it did not end in order.
    pub fn join(self) -> Result<(), CoreError> {
        let core = self.core.join().unwrap_or(Err(CoreError::Broken("the core thread")));
        // When the disk or a bug ended the writer, that is why the core ended.
        let writer = self.writer.join().map_err(|_| CoreError::Broken("the writer thread"))?;
        // The writer was the last who asks it; when it cannot save what it learned, nothing of value is lost.
        let _ = self.finder.join();
        writer?;
        core
    }
}
