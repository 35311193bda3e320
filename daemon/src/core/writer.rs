//! The thread that owns the store: keeps batches, then lets out what depended on them.
//!
//! In: batches in order, a bounded number of them (`backlog`). Out: all that waited in one synced write, then, in order, what each
//! batch releases: messages, transactions, answers, log lines, work for the wallet.
//! A disk that refuses is a local fault: the links end without a word, and the same batches are offered again until
//! they are kept. Nothing leaves meanwhile but what needs no record, which the core thread publishes itself; questions are
//! answered from what was kept before (`lookout`).
//! Nothing done here waits for anything but the disk, so the core thread may wait for this one (see `mod`).
//! Read next: `chand_protocol::store`.

use super::backlog::Backlog;
use super::inbox::WalletJob;
use super::links::Links;
use super::lookout::Lookout;
use super::publish::Order;
use super::revoked;
use super::waiting::Waiting;
use crate::backup::{again::Again, BackupFile};
use crate::gossip::GossipHandle;
use crate::peer::Peers;
use crate::routes::Routes;
use crate::tower::Towers;
use chand_protocol::node::effect::{After, Level, Notice, Outgoing};
use chand_protocol::store::{Batch, Change, Durable, Entry, Journal, Store, StoreError};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::timeout;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Once the daemon is to stop, how long a disk that refuses is still asked.
const LAST_TRIES: Duration = Duration::from_secs(3);
/// How long one call of a peer may take, from the name look-up to the end of the handshake.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// Work for this thread.
pub(super) enum Job {
    /// Keep it, then release it.
    Batch(Batch),
    /// After all before it: read everything back for a fresh node, which counts its batches from zero.
    Reload(mpsc::Sender<Result<Vec<Entry>, StoreError>>),
    /// After all before it: close the store and end.
    Stop,
}

/// Where what is released goes; nothing here blocks.
pub(super) struct Exits {
    pub peers: Peers,
    pub links: Links,
    pub waiting: Waiting,
    pub routes: Routes,
    pub publish: UnboundedSender<Order>,
    pub wallet: UnboundedSender<WalletJob>,
    /// Where releases are counted.
    pub backlog: Backlog,
    /// Who serves the watchtowers.
    pub towers: Towers,
    /// Who spreads what we announce.
    pub gossip: GossipHandle,
    /// Where questions are answered while the disk refuses.
    pub lookout: Lookout,
    /// `DIR/NETWORK`.
    pub dir: PathBuf,
    /// The channel backup.
    pub backup: RefCell<BackupFile>,
    /// Who reads old blocks again.
    pub again: Again,
}

/// Why this thread ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriterError {
    /// The daemon was to stop and the disk still refused.
    #[error("stopped while the database could not be written ({0}): the last changes are not kept, as after a crash")]
    NotKept(StoreError),
    /// A bug of ours that no retry heals.
    #[error("internal error: {0}")]
    Bug(StoreError),
    /// The same.
    #[error("internal error: the proof of a write does not cover it")]
    Proof,
}

/// The store, to be put under a fresh journal when the node is loaded again. One thread has it.
struct Shared<S>(Rc<RefCell<S>>);

impl<S: Store> Store for Shared<S> {
    fn commit(&mut self, lists: &[&[Change]]) -> Result<(), StoreError> {
        self.0.borrow_mut().commit(lists)
    }

    fn load(&self) -> Result<Vec<Entry>, StoreError> {
        self.0.borrow().load()
    }

    fn load_kept(&self) -> Result<Vec<Entry>, StoreError> {
        self.0.borrow().load_kept()
    }
}

/// Runs until told to stop.
///
/// # Errors
/// [`WriterError`]; the store is closed then too.
pub(super) fn run<S: Store>(
    store: S,
    jobs: mpsc::Receiver<Job>,
    exits: Exits,
    stop: watch::Receiver<bool>,
    runtime: Handle,
) -> Result<(), WriterError> {
    let store = Rc::new(RefCell::new(store));
    let journal = Journal::new(Shared(Rc::clone(&store)));
    Writer { store, journal, jobs, exits, stop, runtime, trouble: None }.run()
}

struct Writer<S: Store> {
    store: Rc<RefCell<S>>,
    journal: Journal<Shared<S>>,
    jobs: mpsc::Receiver<Job>,
    exits: Exits,
    stop: watch::Receiver<bool>,
    runtime: Handle,
    /// What the disk said last, while it refuses.
    trouble: Option<String>,
}

impl<S: Store> Writer<S> {
    fn run(mut self) -> Result<(), WriterError> {
        // A queue without a sender: the core thread is gone, and all it queued was handled.
        while let Ok(first) = self.jobs.recv() {
            let (mut batches, mut last) = (Vec::new(), None);
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Batch(batch) => batches.push(batch),
                    other => {
                        last = Some(other);
                        break;
                    }
                }
                next = self.jobs.try_recv().ok();
            }
            if !batches.is_empty() {
                let count = batches.len();
                let proof = self.keep(&batches)?;
                self.release(batches, &proof)?;
                self.exits.backlog.leave(count);
            }
            match last {
                None | Some(Job::Batch(_)) => {}
                Some(Job::Reload(to)) => {
                    self.journal = Journal::new(Shared(Rc::clone(&self.store)));
                    let entries = self.journal.store().load();
                    if to.send(entries).is_err() {
                        return Ok(());
                    }
                }
                Some(Job::Stop) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Offers the same batches until they are on disk.
    fn keep(&mut self, batches: &[Batch]) -> Result<Durable, WriterError> {
        let mut retry = FIRST_RETRY;
        let mut stopping: Option<Instant> = None;
        loop {
            let error = match self.journal.commit(batches) {
                Ok(proof) => {
                    if self.trouble.take().is_some() {
                        // Before anything leaves: who hears of something new is not shown something old afterwards.
                        self.exits.lookout.close();
                        tracing::warn!("the database can be written again: going on");
                    }
                    return Ok(proof);
                }
                Err(error @ StoreError::OutOfOrder { .. }) => return Err(WriterError::Bug(error)),
                Err(error) => error,
            };
            self.refused(&error);
            if *self.stop.borrow() {
                let since = *stopping.get_or_insert_with(Instant::now);
                if since.elapsed() >= LAST_TRIES {
                    return Err(WriterError::NotKept(error));
                }
                std::thread::sleep(FIRST_RETRY);
                continue;
            }
            // Over when the time is, or when the daemon is to stop; a gone sender means that, too.
            let stop = &mut self.stop;
            self.runtime.block_on(async {
                let _ = timeout(retry, stop.wait_for(|stop| *stop)).await;
            });
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    /// Says so once for each reason. A peer learns nothing of it but that we hang up.
    fn refused(&mut self, error: &StoreError) {
        let reason = error.to_string();
        if self.trouble.as_ref() != Some(&reason) {
            tracing::error!(
                "{reason}. No message leaves and no command that changes something is answered until it can be; lists show \
                 what was kept last. The links to all peers are closed, no channel is. The chain is still watched, and \
                 a cheat is punished. Make room or repair the disk; it is tried again by itself"
            );
            self.exits.lookout.open(reason.clone(), self.store.borrow().load_kept());
            self.trouble = Some(reason);
        }
        self.exits.links.hang_up(&self.exits.peers, "the database cannot be written");
    }

    /// Lets out, batch by batch, what waited for the write. Messages are gathered, so that all for one link leave
    /// together; a hang-up waits for those before it.
    fn release(&self, batches: Vec<Batch>, proof: &Durable) -> Result<(), WriterError> {
        let mut messages = Vec::new();
        for batch in batches {
            for after in batch.release(proof).map_err(|_| WriterError::Proof)? {
                self.let_out(after, &mut messages);
            }
        }
        self.exits.backup.borrow_mut().retry();
        self.exits.peers.send_all(messages);
        Ok(())
    }

    fn let_out(&self, after: After, messages: &mut Vec<Outgoing>) {
        let exits = &self.exits;
        match after {
            After::Send(outgoing) => messages.push(outgoing),
            After::HangUp { link, reason, .. } => {
                exits.peers.send_all(std::mem::take(messages));
                exits.peers.hang_up(link, &reason);
            }
            After::Dial { peer, address } => exits.peers.dial(peer, address, DIAL_TIME),
            After::Reply { id, result } => exits.waiting.answer(id, result),
            After::Notice(notice) => log(&notice),
            // The other ends live as long as the daemon; when it ends, the next start does these again.
            After::Publish(publish) => drop(exits.publish.send(Order::Released(publish))),
            After::Fund { channel, script_pubkey, amount, feerate } => {
                drop(exits.wallet.send(WalletJob::Fund { channel, script_pubkey, amount, feerate }));
            }
            After::Attach(order) => drop(exits.wallet.send(WalletJob::Attach(order))),
            After::DevRevoked { channel, number, tx } => {
                if let Err(error) = revoked::keep(&exits.dir, &channel, number, &tx) {
                    tracing::warn!(%channel, number, "an old commitment could not be kept for dev-broadcast-revoked: {error}");
                }
            }
            After::Tower => exits.towers.news(),
            After::FindRoutes(request) => exits.routes.find(request),
            After::Learn(lesson) => exits.routes.learn(lesson),
            After::Gossip(news) => {
                // The gossip machine writes to links by itself: what belongs before it must be queued.
                exits.peers.send_all(std::mem::take(messages));
                exits.gossip.news(*news);
            }
            // Before what stands behind it in the batch: a funding transaction's channel is in the backup when it is published.
            After::Backup(sealed) => exits.backup.borrow_mut().write(sealed),
            After::ReadAgain { from, to } => drop(self.runtime.spawn(exits.again.clone().read(from, to))),
            After::Unreserve { txid } => drop(exits.wallet.send(WalletJob::Unreserve { txid })),
        }
    }
}

/// Writes what the node has to say to the log, with what it is about.
fn log(notice: &Notice) {
    let peer = notice.peer.map(tracing::field::display);
    let channel = notice.channel.map(tracing::field::display);
    let text = notice.text.as_str();
    match notice.level {
        Level::Debug => tracing::debug!(target: "chand::node", peer, channel, "{text}"),
        Level::Info => tracing::info!(target: "chand::node", peer, channel, "{text}"),
        Level::Warn => tracing::warn!(target: "chand::node", peer, channel, "{text}"),
        Level::Error => tracing::error!(target: "chand::node", peer, channel, "{text}"),
    }
}
