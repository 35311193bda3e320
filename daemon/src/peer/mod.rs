//! The socket pump: sealed bytes from and to peers, decoded messages from and to the node.
//!
//! In: `listen`, `dial`, `send`, `hang_up`. Out: [`PeerEvent`]s through one bounded queue. It knows nothing of channels:
//! `init`, pings, and which of two links to the same peer is kept are the pure node's to decide.
//! Limits on everything that a stranger can ask for: time, half-open connections, links, bytes that wait.
//! Read next: `link` (one connection), `open` (its handshake), `frames`, `outbox`.

pub(crate) mod frames;
mod link;
pub(crate) mod open;
mod outbox;
#[cfg(test)]
mod tests;

pub use open::{os_ephemeral, EphemeralSource};

use chand_protocol::gossip::Spoken;
use chand_protocol::id::{LinkId, NodeId};
use chand_protocol::node::effect::Outgoing;
use chand_protocol::wire::Message;
use link::Opened;
use open::OpenError;
use outbox::Outbox;
use secp256k1::{Secp256k1, SecretKey};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::net::{lookup_host, TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// What happens at the sockets. For each link: one `Up`, then its frames in order, then one `Down`.
#[derive(Debug)]
// Nearly every event is a frame: a box would cost an allocation for each message.
#[allow(clippy::large_enum_variant)]
pub enum PeerEvent {
    /// The handshake is done: the peer has proved that it holds its key.
    Up {
        /// Who.
        peer: NodeId,
        /// This connection.
        link: LinkId,
        /// They called us.
        inbound: bool,
        /// The other end of the socket.
        address: SocketAddr,
    },
    /// A message. Of those to be ignored ([`Message::Unknown`]) only a link's very first comes out, for it stands
    /// where `init` belongs; gossip goes another way ([`Peers::hear_gossip`]) and does not wake the node.
    Frame {
        /// From whom.
        peer: NodeId,
        /// Over which connection.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// A message that does not decode: nothing more is read (BOLT 1), and the link ends within a second;
    /// the node may queue a last word and hang up before.
    BadFrame {
        /// From whom.
        peer: NodeId,
        /// Over which connection.
        link: LinkId,
        /// In words.
        reason: String,
    },
    /// The connection is gone, also when we hung up.
    Down {
        /// Who.
        peer: NodeId,
        /// Which connection.
        link: LinkId,
        /// In words.
        reason: String,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Who was meant.
        peer: NodeId,
        /// Where.
        address: String,
        /// In words.
        reason: String,
    },
}

/// A gossip message: from whom, over which link.
pub type PeerGossip = (NodeId, LinkId, Message);

/// Bounds on what peers and strangers can make this node hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for the three acts of a handshake.
    pub handshake_timeout: Duration,
    /// Inbound connections in their handshake; one more, and the oldest is dropped.
    pub max_half_open: usize,
    /// Links that others opened, handshakes included.
    pub max_inbound: usize,
    /// All links, handshakes and dials included.
    pub max_links: usize,
    /// Bytes that may wait for a peer to read them.
    pub max_queued_bytes: usize,
    /// The same for all peers together: above it the link ends for which most waits.
    pub max_all_queued_bytes: usize,
    /// Time for a message to arrive whole once it has begun.
    pub frame_timeout: Duration,
    /// Time in which a peer must take at least one byte of what is written.
    pub stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handshake_timeout: Duration::from_secs(10),
            max_half_open: 64,
            // The rest is kept for the peers that we call: strangers cannot lock us in.
            max_inbound: 896,
            max_links: 1024,
            max_queued_bytes: 8 * 1024 * 1024,
            max_all_queued_bytes: 64 * 1024 * 1024,
            frame_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// The links of a node; cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

/// All that the tasks of a pump share.
struct Inner {
    node_key: NodeKey,
    node_id: NodeId,
    ephemeral: EphemeralSource,
    limits: Limits,
    events: mpsc::Sender<PeerEvent>,
    runtime: Handle,
    next_number: AtomicU64,
    total: Arc<Semaphore>,
    inbound: Arc<Semaphore>,
    registry: Mutex<Registry>,
    /// What waits to be written on all links.
    queued_bytes: Arc<AtomicUsize>,
    emptied: Notify,
    gossip: OnceLock<mpsc::Sender<PeerGossip>>,
}

#[derive(Default)]
struct Registry {
    closing: bool,
    links: BTreeMap<LinkId, Arc<Outbox>>,
    half_open: BTreeMap<u64, AbortHandle>,
    listeners: Vec<AbortHandle>,
}

/// Our identity key; erased when the last task lets go of it.
struct NodeKey(SecretKey);

impl Drop for NodeKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// Holds a link's place among the limits.
type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Peers {
    /// A pump without links that speaks as the node of `node_key` and reports to `events`; its tasks run on `runtime`.
    pub fn new(
        node_key: SecretKey,
        limits: Limits,
        ephemeral: EphemeralSource,
        events: mpsc::Sender<PeerEvent>,
        runtime: Handle,
    ) -> Peers {
        let node_id = NodeId(node_key.public_key(&Secp256k1::signing_only()));
        Peers {
            inner: Arc::new(Inner {
                node_key: NodeKey(node_key),
                node_id,
                ephemeral,
                limits,
                events,
                runtime,
                next_number: AtomicU64::new(1),
                total: Arc::new(Semaphore::new(limits.max_links)),
                inbound: Arc::new(Semaphore::new(limits.max_inbound)),
                registry: Mutex::default(),
                queued_bytes: Arc::default(),
                emptied: Notify::new(),
                gossip: OnceLock::new(),
            }),
        }
    }

    /// Accepts connections at `address` (port 0: any free one) and tells where.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let mut registry = self.inner.registry();
        if registry.closing {
            return Err(io::Error::other("this node is stopping"));
        }
        let task = self.inner.runtime.spawn(accept(Arc::clone(&self.inner), listener));
        registry.listeners.push(task.abort_handle());
        Ok(bound)
    }

    /// Calls `peer` once at `address` (`host:port`, names and `[v6]:port` too); the answer is `Up` or `DialFailed`.
    /// `limit` bounds looking up, connecting and the handshake together.
    pub fn dial(&self, peer: NodeId, address: String, limit: Duration) {
        let inner = Arc::clone(&self.inner);
        self.inner.runtime.spawn(async move {
            let outcome = match inner.permits(false) {
                _ if inner.registry().closing => Err("this node is stopping".into()),
                Some(permits) => timeout(limit, inner.call(peer, &address, limit))
                    .await
                    .unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())))
                    .map(|opened| (opened, permits)),
                None => Err("too many connections".into()),
            };
            match outcome {
                Ok((opened, permits)) => {
                    link::run(inner, opened).await;
                    drop(permits);
                }
                Err(reason) => {
                    // A closed queue means that the daemon is going down: nobody is left to tell.
                    let _ = inner.events.send(PeerEvent::DialFailed { peer, address, reason }).await;
                }
            }
        });
    }

    /// Queues one released message; a link that is gone swallows it (its `Down` is on the way).
    pub fn send(&self, outgoing: Outgoing) {
        self.send_all([outgoing]);
    }

    /// Queues many released messages, in order; those for the same link leave in one write.
    pub fn send_all(&self, outgoing: impl IntoIterator<Item = Outgoing>) {
        let mut by_link: BTreeMap<LinkId, Vec<Message>> = BTreeMap::new();
        for (_, link, message) in outgoing.into_iter().map(Outgoing::into_parts) {
            by_link.entry(link).or_default().push(message);
        }
        for (link, messages) in by_link {
            self.queue(link, &messages);
        }
    }

    /// From now on gossip goes to `gossip`, past the node; before, and without it, it is dropped.
    /// A full queue stops the reading of the link.
    pub fn hear_gossip(&self, gossip: mpsc::Sender<PeerGossip>) {
        // Said once, at the start.
        let _ = self.inner.gossip.set(gossip);
    }

    /// Queues gossip, in order; it depends on no record, and only the gossip machine makes it.
    pub fn speak(&self, spoken: impl IntoIterator<Item = Spoken>) {
        let mut by_link: BTreeMap<LinkId, Vec<Vec<u8>>> = BTreeMap::new();
        for (link, bytes) in spoken.into_iter().map(Spoken::into_parts) {
            by_link.entry(link).or_default().push(bytes.into_vec());
        }
        for (link, bytes) in by_link {
            let outbox = self.inner.registry().links.get(&link).map(Arc::clone);
            if let Some(outbox) = outbox {
                outbox.push(bytes);
            }
        }
        self.inner.make_room();
    }

    /// How many bytes wait on each link.
    pub fn queued_bytes(&self) -> BTreeMap<LinkId, usize> {
        self.inner.registry().links.iter().map(|(link, outbox)| (*link, outbox.waiting_bytes())).collect()
    }

    /// Private: what leaves must have been released by a durable batch.
    fn queue(&self, link: LinkId, messages: &[Message]) {
        let outbox = self.inner.registry().links.get(&link).map(Arc::clone);
        let Some(outbox) = outbox else { return };
        match messages.iter().map(Message::encode).collect::<Result<Vec<_>, _>>() {
            Ok(encoded) => {
                outbox.push(encoded);
                self.inner.make_room();
            }
            Err(error) => {
                tracing::error!(%error, "a message of our own cannot be sent: the link ends");
                outbox.end(format!("internal: {error}"), false);
            }
        }
    }

    /// Ends a link after what is queued was written (at most two seconds); its `Down` follows.
    /// Frames of it that wait in the event queue still come out before.
    pub fn hang_up(&self, link: LinkId, reason: &str) {
        let outbox = self.inner.registry().links.get(&link).map(Arc::clone);
        if let Some(outbox) = outbox {
            outbox.end(format!("hung up by this node: {reason}"), true);
        }
    }

    /// How many links are up.
    pub fn link_count(&self) -> usize {
        self.inner.registry().links.len()
    }

    /// Stops listening and calling, hangs up everywhere, and waits until all links have flushed.
    /// The event queue must be drained meanwhile, or dropped.
    pub async fn shut_down(&self) {
        let outboxes: Vec<Arc<Outbox>> = {
            let mut registry = self.inner.registry();
            registry.closing = true;
            registry.listeners.drain(..).for_each(|task| task.abort());
            std::mem::take(&mut registry.half_open).into_values().for_each(|task| task.abort());
            registry.links.values().map(Arc::clone).collect()
        };
        outboxes.iter().for_each(|outbox| outbox.end("this node is stopping".into(), true));
        loop {
            let emptied = self.inner.emptied.notified();
            if self.link_count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Inner {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// A place among the limits, or `None` when there is none left.
    fn permits(&self, inbound: bool) -> Option<Permits> {
        let total = Arc::clone(&self.total).try_acquire_owned().ok()?;
        let inbound = if inbound { Some(Arc::clone(&self.inbound).try_acquire_owned().ok()?) } else { None };
        Some((total, inbound))
    }

    /// Strangers who ask for much and read none of it have many links: while all that waits is too much, the one goes for
    /// which most does.
    fn make_room(&self) {
        while self.queued_bytes.load(Ordering::Relaxed) > self.limits.max_all_queued_bytes {
            let registry = self.registry();
            let heaviest = registry.links.values().max_by_key(|outbox| outbox.waiting_bytes());
            let heaviest = heaviest.filter(|outbox| outbox.waiting_bytes() > 0).map(Arc::clone);
            drop(registry);
            let Some(outbox) = heaviest else { return };
            outbox.end("the peer does not read: too many bytes wait, most of them for it".into(), false);
        }
    }

    /// False when the node is stopping.
    fn register(&self, link: LinkId, outbox: Arc<Outbox>) -> bool {
        let mut registry = self.registry();
        if !registry.closing {
            registry.links.insert(link, outbox);
        }
        !registry.closing
    }

    fn unregister(&self, link: LinkId) {
        let mut registry = self.registry();
        registry.links.remove(&link);
        if registry.links.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Looks up, connects and shakes hands; every address of a name gets its share of the time.
    async fn call(&self, peer: NodeId, address: &str, limit: Duration) -> Result<Opened, String> {
        if peer == self.node_id {
            return Err("that is this node itself".into());
        }
        let addresses: Vec<SocketAddr> =
            lookup_host(address).await.map_err(|e| format!("{address} is not an address: {e}"))?.collect();
        let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut failed = format!("{address} has no address");
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.greet(peer, address, stream).await,
                Ok(Err(error)) => failed = error.to_string(),
                Err(_) => failed = format!("{address} does not answer"),
            }
        }
        Err(failed)
    }

    async fn greet(
        &self,
        peer: NodeId,
        address: SocketAddr,
        mut stream: TcpStream,
    ) -> Result<Opened, String> {
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let calling = open::call(&mut stream, self.node_key.0, self.ephemeral, peer);
        let transport = match timeout(self.limits.handshake_timeout, calling).await {
            Ok(Ok(transport)) => transport,
            // Act one proves that we know whom we call: a node with another key closes without a word.
            Ok(Err(OpenError::Closed)) => {
                return Err(format!("{} (is {peer} the node at that address?)", OpenError::Closed))
            }
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the handshake took too long".into()),
        };
        Ok(Opened { peer, link: LinkId(self.next_number()), inbound: false, address, stream, transport })
    }

    /// Shakes hands with whoever called.
    async fn receive(&self, address: SocketAddr, mut stream: TcpStream) -> Result<Opened, String> {
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let answering = open::answer(&mut stream, self.node_key.0, self.ephemeral);
        let (peer, transport) = timeout(self.limits.handshake_timeout, answering)
            .await
            .map_err(|_| "the handshake took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        if peer == self.node_id {
            return Err("this node called itself".into());
        }
        Ok(Opened { peer, link: LinkId(self.next_number()), inbound: true, address, stream, transport })
    }

    /// Starts the handshake of an inbound connection, within the limits.
    fn admit(self: &Arc<Inner>, stream: TcpStream, address: SocketAddr) {
        let Some(permits) = self.permits(true) else {
            tracing::debug!(%address, "refused: too many connections");
            return;
        };
        let number = self.next_number();
        let inner = Arc::clone(self);
        // The lock is held while the task is started, so that it cannot leave the list before it is in it.
        let mut registry = self.registry();
        if registry.half_open.len() >= self.limits.max_half_open {
            if let Some((_, oldest)) = registry.half_open.pop_first() {
                oldest.abort();
            }
        }
        let task = self.runtime.spawn(async move {
            let outcome = inner.receive(address, stream).await;
            // Not in the list: dropped to make room while the last act arrived.
            if inner.registry().half_open.remove(&number).is_none() {
                return;
            }
            match outcome {
                Ok(opened) => link::run(inner, opened).await,
                Err(reason) => tracing::debug!(%address, reason, "an inbound connection came to nothing"),
            }
            drop(permits);
        });
        registry.half_open.insert(number, task.abort_handle());
    }
}

/// Accepts until aborted. An error here (no file descriptors, say) is waited out: it ends no link.
async fn accept(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => inner.admit(stream, address),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
