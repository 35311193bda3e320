//! Gossip's own thread: the pure machine of `chand_protocol::gossip`, its workers, its cache.
//!
//! In: gossip messages, straight from the sockets; what the node announces, released with its batches; blocks. Out: gossip
//! messages, straight to the sockets; the graph for whoever searches routes. None of it passes the core thread or waits
//! for a durable write, and nothing waits for it but a peer that gossips faster than it can be looked at.
//! Signatures are checked on worker threads, outputs are looked up beside them (`lookup`), the cache is a plain file
//! (`cache`). Readers share the machine under a lock that is held for one step at a time.
//! Read next: `cache`, `lookup`, `chand_protocol::gossip`.

mod cache;
mod lookup;
#[cfg(test)]
mod tests;

pub use cache::Cache;

use crate::chain::Chain;
use crate::peer::{PeerGossip, Peers};
use bitcoin::OutPoint;
use chand_protocol::chain::Network;
use chand_protocol::gossip::graph::Graph;
use chand_protocol::gossip::{Action, Event, Gossip, News, Settings, Spoken, Store};
use chand_protocol::id::{LinkId, NodeId};
use chand_protocol::node::effect::Level;
use chand_protocol::sign::{Crypto, VerifyJob};
use chand_protocol::units::{Height, Timestamp};
use lookup::Lookups;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch, Semaphore};
use tokio::time::sleep;

/// Messages of peers that wait; a full queue stops the reading of sockets.
pub const PEER_QUEUE: usize = 4_096;
/// Events that one step takes.
const STEP: usize = 2_048;
/// Bytes that may wait on a link before it gets more gossip.
const LINK_BYTES: usize = 512 * 1_024;
/// The same for all links that want more; when they are many, each has less, but never less than this.
const ALL_BYTES: usize = 24 * 1_024 * 1_024;
const LEAST_BYTES: usize = 24 * 1_024;
/// How often a link without room is looked at.
const PUMP: Duration = Duration::from_millis(20);
/// The longest sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Checks that one worker gets at a time.
const CHUNK: usize = 64;
/// How long what was learned may stay in memory before the file has it.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What the thread is made of.
pub struct Parts {
    /// Which chain.
    pub network: Network,
    /// Our node.
    pub us: NodeId,
    /// What is new leaves at once.
    pub fast: bool,
    /// The file of what was learned.
    pub cache: PathBuf,
    /// The socket pump.
    pub peers: Peers,
    /// What it hears.
    pub heard: mpsc::Receiver<PeerGossip>,
    /// Where outputs are looked up.
    pub chain: Chain,
    /// Checks signatures.
    pub crypto: Arc<dyn Crypto>,
    /// Turns true when the daemon is to stop.
    pub stop: watch::Receiver<bool>,
    /// Where tasks run.
    pub runtime: Handle,
}

/// The machine, as others see it; cheap to clone.
#[derive(Clone, Debug)]
pub struct GossipHandle {
    machine: Arc<RwLock<Gossip>>,
    events: mpsc::UnboundedSender<Event>,
}

/// The machine to look at; while it is held nothing new is taken in.
pub struct Reading<'a>(RwLockReadGuard<'a, Gossip>);

impl Reading<'_> {
    /// The public channels.
    pub fn graph(&self) -> &Graph {
        self.0.graph()
    }

    /// All that is known, with the messages as they came.
    pub fn store(&self) -> &Store {
        self.0.store()
    }
}

impl GossipHandle {
    /// One that knows nothing and hears nothing, for tests.
    pub fn idle(network: Network, us: NodeId) -> GossipHandle {
        GossipHandle::knowing(network, us, Store::new())
    }

    /// One that knows just this and hears nothing, for tests.
    pub fn knowing(network: Network, us: NodeId, store: Store) -> GossipHandle {
        let machine = Gossip::new(Settings::new(network, us), store, Timestamp(0));
        let (events, _) = mpsc::unbounded_channel();
        GossipHandle { machine: Arc::new(RwLock::new(machine)), events }
    }

    /// Looks at it. Held for a search or a list, not longer.
    pub fn read(&self) -> Reading<'_> {
        Reading(self.machine.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the node tells, once its batch is durable.
    pub fn news(&self, news: News) {
        // A thread that is gone is the end of the daemon, or a bug that cost the gossip and nothing else.
        let _ = self.events.send(Event::News(news));
    }

    /// A block was connected that spends these outputs.
    pub fn block(&self, height: Height, spent: Vec<OutPoint>) {
        let _ = self.events.send(Event::Block { height, spent });
    }

    /// The tip left the chain.
    pub fn block_gone(&self, height: Height) {
        let _ = self.events.send(Event::BlockGone { height });
    }
}

/// Loads the cache and starts the thread.
///
/// # Errors
/// When the system gives no thread. A cache that cannot be read is begun anew.
pub fn start(parts: Parts) -> std::io::Result<(GossipHandle, JoinHandle<()>)> {
    let mut settings = Settings::new(parts.network, parts.us);
    if parts.fast {
        settings = settings.fast();
    }
    let now = now();
    let begun = Instant::now();
    let (store, cache) = Cache::open(&parts.cache, &settings.chain_hash, now.seconds());
    tracing::debug!(
        channels = store.channel_count(),
        ms = begun.elapsed().as_millis(),
        "the gossip of the last time is loaded"
    );
    let machine = Arc::new(RwLock::new(Gossip::new(settings, store, now)));
    let (events, inbox) = mpsc::unbounded_channel();
    let handle = GossipHandle { machine: Arc::clone(&machine), events: events.clone() };
    let lookups = Lookups::new(parts.chain, events.clone(), parts.runtime.clone());
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1));
    let thread = Thread {
        machine,
        cache,
        peers: parts.peers,
        heard: parts.heard,
        inbox,
        events,
        lookups,
        crypto: parts.crypto,
        workers: Arc::new(Semaphore::new(workers)),
        stop: parts.stop,
        runtime: parts.runtime,
        saved: Instant::now(),
    };
    let join = Builder::new().name("chand-gossip".into()).spawn(move || thread.run())?;
    Ok((handle, join))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

struct Thread {
    machine: Arc<RwLock<Gossip>>,
    cache: Cache,
    peers: Peers,
    heard: mpsc::Receiver<PeerGossip>,
    inbox: mpsc::UnboundedReceiver<Event>,
    events: mpsc::UnboundedSender<Event>,
    lookups: Lookups,
    crypto: Arc<dyn Crypto>,
    workers: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    runtime: Handle,
    saved: Instant,
}

fn heard((peer, link, message): PeerGossip) -> Event {
    Event::Message { peer, link, message }
}

impl Thread {
    fn run(mut self) {
        let mut hungry = false;
        while let Some(events) = self.wait(hungry) {
            let actions = self.write(|machine| machine.step(now(), events));
            self.act(actions);
            hungry = self.pump();
            self.save(false);
        }
        self.save(true);
    }

    fn write<R>(&self, with: impl FnOnce(&mut Gossip) -> R) -> R {
        with(&mut self.machine.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that arrived, or nothing when time alone asks; `None` at the end.
    fn wait(&mut self, hungry: bool) -> Option<Vec<Event>> {
        let due = self.machine.read().unwrap_or_else(PoisonError::into_inner).next_deadline();
        let mut limit = Duration::from_millis(due.0.saturating_sub(now().0)).min(LONGEST_WAIT);
        if hungry {
            limit = limit.min(PUMP);
        }
        if self.cache.is_dirty() {
            limit = limit.min(SAVE_EVERY);
        }
        let first = self.runtime.block_on(async {
            tokio::select! {
                biased;
                // A gone sender means to stop as well.
                _ = self.stop.wait_for(|stop| *stop) => None,
                event = self.inbox.recv() => event.map(Some),
                message = self.heard.recv() => message.map(heard).map(Some),
                () = sleep(limit) => Some(None),
            }
        })?;
        let mut events: Vec<Event> = first.into_iter().collect();
        while let Some(event) = self.inbox.try_recv().ok().filter(|_| events.len() < STEP) {
            events.push(event);
        }
        let most = events.len() + STEP;
        while events.len() < most {
            let Ok(message) = self.heard.try_recv() else { break };
            events.push(heard(message));
        }
        Some(events)
    }

    fn act(&mut self, actions: Vec<Action>) {
        let mut checks: Vec<(u64, Vec<VerifyJob>)> = Vec::new();
        let mut spoken = Vec::new();
        for action in actions {
            match action {
                Action::Send(message) => spoken.push(message),
                Action::Verify { ticket, jobs } => checks.push((ticket, jobs)),
                Action::LookUp(scid) => self.lookups.ask(scid),
                Action::Keep(kept) => self.cache.append(&kept),
                Action::Notice(level, text, peer) => log(level, &text, peer),
            }
        }
        self.peers.speak(spoken);
        while !checks.is_empty() {
            let rest = checks.split_off(checks.len().min(CHUNK));
            self.check(std::mem::replace(&mut checks, rest));
        }
    }

    /// On a worker; as many at once as there are cores to spare.
    fn check(&self, checks: Vec<(u64, Vec<VerifyJob>)>) {
        let (crypto, events) = (Arc::clone(&self.crypto), self.events.clone());
        let workers = Arc::clone(&self.workers);
        self.runtime.spawn(async move {
            let Ok(permit) = workers.acquire_owned().await else { return };
            let work = move || {
                for (ticket, jobs) in checks {
                    let good = jobs.iter().all(|job| crypto.verify(&job.digest, &job.signature, &job.key));
                    if events.send(Event::Verified { ticket, good }).is_err() {
                        break;
                    }
                }
                drop(permit);
            };
            // A panic in here would be the curve library's; the messages then wait for ever, bounded.
            let _ = tokio::task::spawn_blocking(work).await;
        });
    }

    /// Gives every link what it has room for; true when some have to wait.
    fn pump(&self) -> bool {
        let hungry = self.machine.read().unwrap_or_else(PoisonError::into_inner).hungry();
        if hungry.is_empty() {
            return false;
        }
        let waiting = self.peers.queued_bytes();
        let most = share(hungry.len());
        let room: BTreeMap<LinkId, usize> = hungry
            .into_iter()
            .map(|link| (link, most.saturating_sub(waiting.get(&link).copied().unwrap_or(0))))
            .filter(|(_, room)| *room > 0)
            .collect();
        let spoken: Vec<Spoken> = self
            .write(|machine| room.into_iter().flat_map(|(link, room)| machine.pump(link, room)).collect());
        self.peers.speak(spoken);
        !self.machine.read().unwrap_or_else(PoisonError::into_inner).hungry().is_empty()
    }

    /// Brings the file up to date, from time to time.
    fn save(&mut self, at_once: bool) {
        if !self.cache.is_dirty() || !at_once && self.saved.elapsed() < SAVE_EVERY {
            return;
        }
        self.saved = Instant::now();
        self.cache.flush();
        if self.cache.is_bloated() {
            let machine = Arc::clone(&self.machine);
            let machine = machine.read().unwrap_or_else(PoisonError::into_inner);
            self.cache.compact(machine.store());
        }
    }
}

/// Bytes that may wait on each of so many links.
fn share(links: usize) -> usize {
    (ALL_BYTES / links.max(1)).clamp(LEAST_BYTES, LINK_BYTES)
}

fn log(level: Level, text: &str, peer: Option<NodeId>) {
    let peer = peer.map(tracing::field::display);
    match level {
        Level::Debug => tracing::debug!(target: "chand::gossip", peer, "{text}"),
        Level::Info => tracing::info!(target: "chand::gossip", peer, "{text}"),
        Level::Warn => tracing::warn!(target: "chand::gossip", peer, "{text}"),
        Level::Error => tracing::error!(target: "chand::gossip", peer, "{text}"),
    }
}
