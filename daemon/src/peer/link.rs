//! One link after its handshake: a task that reads, a task that writes, one end.
//!
//! In: a socket with its transport, and what the outbox holds. Out: `PeerEvent`s in order (`Up`, then frames, then one
//! `Down`) and sealed frames, all that waits in one write. A full event queue stops the reading: TCP tells the peer.
//! Read next: `outbox`, `frames`.

use super::frames::Frames;
use super::outbox::{End, Outbox};
use super::{Inner, PeerEvent};
use chand_protocol::id::{LinkId, NodeId};
use chand_protocol::noise::{Sealer, Transport};
use chand_protocol::wire::Message;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at, Instant};

/// Sealed bytes that one write takes at most; more follows in the next.
const WRITE_BYTES: usize = 256 * 1024;
/// After the end of a link: how long what is queued (an `error`, say) may take to leave.
const FLUSH_TIME: Duration = Duration::from_secs(2);
/// After a message that does not decode: how long the node has to queue a last word.
const LAST_WORD_TIME: Duration = Duration::from_secs(1);
/// After the last byte was written: how long to read on, so that the peer gets it before a reset destroys it.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// A connection whose handshake is done.
pub(super) struct Opened {
    pub peer: NodeId,
    pub link: LinkId,
    pub inbound: bool,
    pub address: SocketAddr,
    pub stream: TcpStream,
    pub transport: Transport,
}

/// Runs a link from `Up` to `Down`.
pub(super) async fn run(inner: Arc<Inner>, opened: Opened) {
    let Opened { peer, link, inbound, address, stream, transport } = opened;
    let outbox = Arc::new(Outbox::new(inner.limits.max_queued_bytes, Arc::clone(&inner.queued_bytes)));
    if !inner.register(link, Arc::clone(&outbox)) {
        return;
    }
    let (sealer, opener) = transport.split();
    let (reading, writing) = stream.into_split();
    let stall = inner.limits.stall_timeout;
    let mut writer = tokio::spawn(write(writing, sealer, Arc::clone(&outbox), stall));
    let mut reader = Reader { inner: &inner, peer, link, outbox: &outbox, socket: reading, heard: false };

    let reason = match reader.deliver(PeerEvent::Up { peer, link, inbound, address }).await {
        Ok(()) => reader.read(Frames::new(opener)).await,
        Err(stop) => stop,
    };
    if let Stop::Because(reason) = reason {
        outbox.end(reason, false);
    }
    let end = outbox.why().unwrap_or(End { reason: "ended".into(), flush: false });
    let flushed = end.flush && timeout(FLUSH_TIME, &mut writer).await.is_ok();
    writer.abort();
    inner.unregister(link);
    // A closed queue means that the daemon is going down: nobody is left to tell.
    let _ = inner.events.send(PeerEvent::Down { peer, link, reason: end.reason }).await;
    if flushed {
        reader.linger().await;
    }
}

/// Why the reading stopped.
enum Stop {
    /// Somebody ended the link through its outbox.
    Ended,
    /// The stream itself.
    Because(String),
}

struct Reader<'a> {
    inner: &'a Inner,
    peer: NodeId,
    link: LinkId,
    outbox: &'a Outbox,
    socket: OwnedReadHalf,
    /// A first message came.
    heard: bool,
}

impl Reader<'_> {
    /// Hands an event over as soon as there is room, unless the link ends first.
    async fn deliver(&self, event: PeerEvent) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.outbox.wait_ended() => Err(Stop::Ended),
            sent = self.inner.events.send(event) => {
                sent.map_err(|_| Stop::Because("this node is stopping".into()))
            }
        }
    }

    async fn deliver_gossip(&self, message: Message) -> Result<(), Stop> {
        let Some(gossip) = self.inner.gossip.get() else {
            tokio::task::consume_budget().await;
            return Ok(());
        };
        tokio::select! {
            biased;
            () = self.outbox.wait_ended() => Err(Stop::Ended),
            // A closed queue means that nobody listens any more.
            _ = gossip.send((self.peer, self.link, message)) => Ok(()),
        }
    }

    async fn read(&mut self, mut frames: Frames) -> Stop {
        let mut begun: Option<Instant> = None;
        loop {
            if let Err(stop) = self.deliver_whole(&mut frames, &mut begun).await {
                return stop;
            }
            let deadline = frames
                .is_partial()
                .then(|| *begun.get_or_insert_with(Instant::now) + self.inner.limits.frame_timeout);
            match self.fill(&mut frames, deadline).await {
                Ok(()) => {}
                Err(stop) => return stop,
            }
        }
    }

    /// Opens, decodes and delivers every whole frame; each one restarts the clock of the next.
    async fn deliver_whole(&mut self, frames: &mut Frames, begun: &mut Option<Instant>) -> Result<(), Stop> {
        loop {
            let decoded = match frames.next_message() {
                Ok(Some(bytes)) => Message::decode(bytes),
                Ok(None) => return Ok(()),
                Err(error) => return Err(Stop::Because(error.to_string())),
            };
            *begun = None;
            let (peer, link) = (self.peer, self.link);
            match decoded {
                Ok(Message::Unknown { .. }) if std::mem::replace(&mut self.heard, true) => {
                    // Never a long stretch of work without letting others run.
                    tokio::task::consume_budget().await;
                }
                // Gossip is not the node's; what a peer asks of forwards to us alone is.
                Ok(message) if self.heard && message.is_gossip() && !is_private(&message) => {
                    self.deliver_gossip(message).await?;
                }
                Ok(message) => {
                    self.heard = true;
                    self.deliver(PeerEvent::Frame { peer, link, message }).await?;
                }
                Err(error) => {
                    let reason = error.to_string();
                    self.deliver(PeerEvent::BadFrame { peer, link, reason: reason.clone() }).await?;
                    // The node may now queue an `error` or `warning` and hang up; without it we do.
                    let _ = timeout(LAST_WORD_TIME, self.outbox.wait_ended()).await;
                    self.outbox.end(format!("the peer sent a message that does not decode: {reason}"), true);
                    return Err(Stop::Ended);
                }
            }
        }
    }

    /// One read of whatever is there.
    async fn fill(&mut self, frames: &mut Frames, deadline: Option<Instant>) -> Result<(), Stop> {
        let outbox = self.outbox;
        let room = frames.room();
        let reading = async {
            match deadline {
                None => self.socket.read_buf(room).await,
                Some(at) => timeout_at(at, self.socket.read_buf(room)).await.unwrap_or_else(|_| {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "a message took too long to arrive whole"))
                }),
            }
        };
        let read = tokio::select! {
            biased;
            () = outbox.wait_ended() => return Err(Stop::Ended),
            read = reading => read,
        };
        match read {
            Ok(0) if frames.is_partial() => {
                Err(Stop::Because("the peer closed the connection inside a message".into()))
            }
            Ok(0) => Err(Stop::Because("the peer closed the connection".into())),
            Ok(bytes) => {
                frames.appended(bytes);
                Ok(())
            }
            Err(error) => Err(Stop::Because(error.to_string())),
        }
    }

    /// Reads and forgets until the peer closes too, for a moment only: closing a socket with unread bytes
    /// resets it, and the reset could overtake the last message.
    async fn linger(&mut self) {
        let mut sink = [0u8; 4096];
        let drained = async { while matches!(self.socket.read(&mut sink).await, Ok(n) if n > 0) {} };
        let _ = timeout(LINGER_TIME, drained).await;
    }
}

/// An update for its channel's peer alone.
const fn is_private(message: &Message) -> bool {
    matches!(message, Message::ChannelUpdate(update) if update.is_private())
}

/// Seals what gathered and writes it, until the link ends.
async fn write(mut socket: OwnedWriteHalf, mut sealer: Sealer, outbox: Arc<Outbox>, stall: Duration) {
    let mut sealed = Vec::new();
    while let Some(batch) = outbox.next_batch().await {
        let mut messages = batch.into_iter().peekable();
        while messages.peek().is_some() {
            sealed.clear();
            while let Some(message) = messages.next_if(|_| sealed.len() < WRITE_BYTES) {
                if let Err(error) = sealer.seal(&message, &mut sealed) {
                    tracing::error!(%error, "a message of our own cannot be sealed: the link ends");
                    outbox.end(format!("internal: {error}"), false);
                    return;
                }
            }
            if let Err(error) = write_whole(&mut socket, &sealed, stall).await {
                outbox.end(error.to_string(), false);
                return;
            }
        }
        if sealed.capacity() > WRITE_BYTES / 4 {
            sealed = Vec::new();
        }
    }
    // The peer sees an orderly end; a socket that is broken already has nothing to shut down.
    let _ = socket.shutdown().await;
}

/// Writes all of `bytes`; a peer that takes not one byte for `stall` has lost its link.
async fn write_whole(socket: &mut OwnedWriteHalf, mut bytes: &[u8], stall: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(stall, socket.write(bytes))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the peer does not read"))??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
