//! A node's talk with its watchtowers: beside the core, never in its way.
//!
//! In: the news that a state was revoked, and the core's answers to `Command::TowerChannels` and `TowerStates`. Out: sealed states at each
//! tower, in order; `Command::TowersHave` once all have them, whereupon the core forgets its notes. Nothing is kept here: after a
//! restart the tower says how far it has each channel. Work is gathered for a moment and asked for in portions,
//! and sealed here, so that a payment never waits for a tower.
//! Read next: `chand_protocol::channel::tower`.

use super::options::TowerAddress;
use super::status::TowerStatus;
use super::wire::Wire;
use crate::rpc::Backend;
use chand_protocol::id::NodeId;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::tower::TowerChannel;
use chand_protocol::sign::RealCrypto;
use chand_protocol::tower::blob::{appoint, entries};
use chand_protocol::tower::message::{Lost, Quota, TowerMessage, MAX_ENTRIES, ROOM, VERSION};
use chand_protocol::tower::seal::Sealed;
use chand_protocol::tower::{Mode, Revoked, Sealing, Tag};
use secp256k1::{Secp256k1, SecretKey};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout, Instant};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long news is gathered before the core is asked.
const GATHER: Duration = Duration::from_millis(100);
/// A tower that hears nothing for so long is asked something.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// States asked of the core at once.
const PORTION: usize = 200;
/// HTLCs that fit one message beside their state.
const MANY: usize = 400;

struct Inner {
    list: Mutex<Vec<TowerStatus>>,
    news: watch::Sender<u64>,
}

impl std::fmt::Debug for Towers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Towers({})", self.statuses().len())
    }
}

/// All towers of a node; cheap to clone.
#[derive(Clone)]
pub struct Towers(Arc<Inner>);

impl Default for Towers {
    /// None.
    fn default() -> Towers {
        Towers(Arc::new(Inner { list: Mutex::default(), news: watch::Sender::new(0) }))
    }
}

impl Towers {
    /// Those that were named, not yet called; they know this node by `key`.
    pub fn new(addresses: &[TowerAddress], key: SecretKey) -> Towers {
        let client_id = NodeId(key.public_key(&Secp256k1::signing_only()));
        let status = |a: &TowerAddress| TowerStatus::new(a.id, &a.address, a.mode, client_id);
        let towers = Towers::default();
        *towers.statuses() = addresses.iter().map(status).collect();
        towers
    }

    /// Serves them, inside the current runtime, as long as the daemon lives.
    pub fn serve(&self, addresses: &[TowerAddress], key: SecretKey, core: Arc<dyn Backend>) {
        for (at, tower) in addresses.iter().cloned().enumerate() {
            let task = Task {
                towers: self.clone(),
                at,
                tower,
                key,
                core: Arc::clone(&core),
                crypto: RealCrypto::new(),
            };
            tokio::spawn(task.run());
        }
    }

    /// A state was revoked. Never waits.
    pub fn news(&self) {
        self.0.news.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// How it stands with each.
    pub fn list(&self) -> Vec<TowerStatus> {
        self.statuses().clone()
    }

    fn statuses(&self) -> MutexGuard<'_, Vec<TowerStatus>> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one tower.
struct Task {
    towers: Towers,
    at: usize,
    tower: TowerAddress,
    key: SecretKey,
    core: Arc<dyn Backend>,
    crypto: RealCrypto,
}

fn odd(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(what.to_string())
}

impl Task {
    async fn run(self) {
        let (mut retry, mut told) = (FIRST_RETRY, None);
        loop {
            let mut met = false;
            let Err(error) = self.session(&mut met).await;
            let error = error.to_string();
            self.note(|s| (s.connected, s.trouble) = (false, Some(error.clone())));
            if met {
                retry = FIRST_RETRY;
            }
            if told.as_ref() != Some(&error) || met {
                let (tower, address) = (self.tower.id, &self.tower.address);
                tracing::warn!(%tower, %address, "the watchtower does not answer ({error}); it is tried again");
                told = Some(error);
            }
            sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    fn note(&self, change: impl FnOnce(&mut TowerStatus)) {
        if let Some(status) = self.towers.statuses().get_mut(self.at) {
            change(status);
        }
    }

    /// One connection. `met` is set when the tower answered.
    async fn session(&self, met: &mut bool) -> io::Result<std::convert::Infallible> {
        let mut news = self.towers.0.news.subscribe();
        let mut wire = Wire::call(self.key, self.tower.id, &self.tower.address).await?;
        wire.say(&TowerMessage::Hello { version: VERSION }).await?;
        let TowerMessage::Welcome { version: VERSION, quota } = wire.hear(ANSWER).await? else {
            return Err(odd("it speaks another version"));
        };
        *met = true;
        self.note(|s| (s.connected, s.quota, s.trouble) = (true, quota, None));
        tracing::info!(tower = %self.tower.id, mode = self.tower.mode.name(), "the watchtower is there");
        let mut session = Session { wire, known: BTreeMap::new(), full: BTreeMap::new() };
        loop {
            news.borrow_and_update();
            self.round(&mut session).await?;
            let quiet = tokio::select! {
                ended = session.wire.ended() => return Err(ended),
                news = timeout(SIGN_OF_LIFE, news.changed()) => news.is_err(),
            };
            if quiet {
                ask(&mut session.wire, TowerMessage::Ask { tag: Tag::default() }).await?;
            }
            sleep(GATHER).await;
        }
    }

    /// Everything that there is now.
    async fn round(&self, session: &mut Session) -> io::Result<()> {
        let Reply::TowerChannels(channels) = self.command(Command::TowerChannels).await? else {
            return Err(odd("an answer of another kind"));
        };
        for channel in &channels {
            let tag = channel.tag(self.tower.mode);
            let waits = session.full.get(&tag).is_some_and(|since| since.elapsed() <= SIGN_OF_LIFE);
            if channel.over {
                session.full.remove(&tag);
                self.forget(&mut session.wire, channel).await?;
            } else if !waits && self.bring(session, channel).await? {
                session.full.remove(&tag);
                self.note(|s| drop(s.refused.remove(&channel.channel)));
            } else if !waits {
                // Another channel may have less to say, or room of its own.
                session.full.insert(tag, Instant::now());
                self.note(|s| {
                    let why = s.trouble.clone().unwrap_or_default();
                    s.refused.insert(channel.channel, why);
                });
            }
        }
        if session.full.is_empty() {
            self.note(|s| s.trouble = None);
        }
        self.settle(&channels).await
    }

    async fn command(&self, command: Command) -> io::Result<Reply> {
        self.core.command(command).await.map_err(odd)
    }

    async fn forget(&self, wire: &mut Wire, channel: &TowerChannel) -> io::Result<()> {
        if !self.towers.list().get(self.at).is_some_and(|s| s.forgotten.contains(&channel.channel)) {
            ask(wire, TowerMessage::Forget { tag: channel.tag(self.tower.mode) }).await?;
            self.note(|s| {
                s.forgotten.insert(channel.channel);
                s.next.remove(&channel.channel);
            });
        }
        Ok(())
    }

    /// Brings the tower up to the newest revoked state of a channel; `false` when it takes no more.
    async fn bring(&self, session: &mut Session, channel: &TowerChannel) -> io::Result<bool> {
        let Session { wire, known, .. } = session;
        let (id, tag) = (channel.channel, channel.tag(self.tower.mode));
        let mut next = match known.get(&tag) {
            Some(next) => *next,
            None => match self.how_far(wire, channel).await? {
                Some(next) => next,
                None => return Ok(false),
            },
        };
        let mut takes = true;
        while takes && next.max(channel.first) < channel.end {
            let from = next.max(channel.first);
            // What the tower was never told of: HTLCs of before, too.
            let whole = from != next;
            let order = Command::TowerStates { channel: id, from, most: PORTION, whole };
            let Reply::TowerStates { sealing, states } = self.command(order).await? else {
                return Err(odd("an answer of another kind"));
            };
            let Some(last) = states.last().map(|r| r.noted.number) else { break };
            self.miss(channel, next, &states);
            takes = self.send(wire, tag, &sealing, &states, next == 0 || whole).await?;
            next = if takes {
                last.saturating_add(1)
            } else {
                // What there was room for is kept.
                self.how_far(wire, channel).await?.unwrap_or(next)
            };
            self.note(|s| {
                s.next.insert(id, next);
            });
        }
        known.insert(tag, next);
        self.note(|s| {
            s.next.insert(id, next);
        });
        let status = self.towers.list();
        if status.get(self.at).and_then(|s| s.lost.get(&id)).is_some_and(|lost| !lost.is_empty()) {
            // What of it was sent again.
            self.how_far(wire, channel).await?;
        }
        Ok(takes)
    }

    /// Asks how far the tower has a channel; `None` when it has trouble with it.
    async fn how_far(&self, wire: &mut Wire, channel: &TowerChannel) -> io::Result<Option<u64>> {
        let tag = channel.tag(self.tower.mode);
        match ask(wire, TowerMessage::Ask { tag }).await? {
            Answer::Have { next, used, lost } => {
                // More than there is nobody can have.
                let next = next.min(channel.end);
                let lost = Lost { to: lost.to.min(channel.end), ..lost };
                let mut news = !lost.is_empty();
                self.note(|s| {
                    s.used = used;
                    s.next.insert(channel.channel, next);
                    news &= s.lost.insert(channel.channel, lost) != Some(lost);
                });
                if news {
                    let (Lost { from, to }, count) = (lost, lost.to - lost.from);
                    tracing::error!(
                        tower = %self.tower.id,
                        channel = %channel.channel,
                        "the watchtower lost up to {count} states, {from} to {to} (exclusive); those that are still here are sent again"
                    );
                }
                Ok(Some(next))
            }
            Answer::Refused(reason) => {
                self.refused(reason);
                Ok(None)
            }
        }
    }

    /// States between `next` and what can be sent, which this tower will never have.
    fn miss(&self, channel: &TowerChannel, next: u64, states: &[Revoked]) {
        let mut expected = next;
        for number in states.iter().map(|r| r.noted.number) {
            if number > expected {
                let gap = Lost { from: expected, to: number };
                tracing::warn!(
                    tower = %self.tower.id,
                    channel = %channel.channel,
                    "the watchtower does not protect states {} to {} (exclusive), which are not here any more",
                    gap.from,
                    gap.to
                );
                self.note(|s| {
                    let all = s.missed.entry(channel.channel).or_insert(gap);
                    *all = Lost { from: all.from.min(gap.from), to: all.to.max(gap.to) };
                });
            }
            expected = number.saturating_add(1);
        }
    }

    /// Seals states and sends them, as many a message as fit; `false` when the tower refuses.
    async fn send(
        &self,
        wire: &mut Wire,
        tag: Tag,
        sealing: &Sealing,
        states: &[Revoked],
        mut with_terms: bool,
    ) -> io::Result<bool> {
        let mut states = states.to_vec();
        for revoked in states.iter_mut().filter(|r| r.noted.fresh.len() > MANY) {
            // More than fit beside their state go before it.
            let all = match self.tower.mode {
                Mode::Key => entries(std::slice::from_ref(revoked), sealing, false),
                Mode::Presigned => Vec::new(),
            };
            for part in all.chunks(MANY) {
                let message = TowerMessage::States { tag, states: Vec::new(), entries: part.to_vec() };
                if let Answer::Refused(reason) = ask(wire, message).await? {
                    return Ok(self.refused(reason));
                }
            }
            revoked.noted.fresh.clear();
        }
        let mut rest = states.as_slice();
        while !rest.is_empty() {
            let (message, taken) = tokio::task::block_in_place(|| {
                pack(tag, sealing, rest, self.tower.mode, with_terms, &self.crypto)
            })?;
            rest = rest.get(taken..).unwrap_or_default();
            let TowerMessage::States { states, .. } = &message else { continue };
            let count = states.len() as u64;
            if count == 0 {
                continue;
            }
            with_terms = false;
            self.note(|s| s.sent += count);
            match ask(wire, message).await? {
                Answer::Have { used, .. } => self.note(|s| {
                    (s.acknowledged, s.used) = (s.acknowledged + count, used);
                }),
                Answer::Refused(reason) => return Ok(self.refused(reason)),
            }
        }
        Ok(true)
    }

    fn refused(&self, reason: String) -> bool {
        let mut news = false;
        self.note(|s| {
            news = s.trouble.as_ref() != Some(&reason);
            s.trouble = Some(reason.clone());
        });
        if news {
            tracing::error!(tower = %self.tower.id, "the watchtower keeps no more: {reason}");
        }
        false
    }

    /// Tells the core what every tower has.
    async fn settle(&self, channels: &[TowerChannel]) -> io::Result<()> {
        let statuses = self.towers.list();
        for channel in channels {
            let id = channel.channel;
            let below = if channel.over {
                statuses.iter().all(|s| s.forgotten.contains(&id)).then_some(None)
            } else {
                let least = statuses.iter().map(|s| s.next.get(&id).copied()).min().flatten();
                least.filter(|next| *next > channel.kept).map(Some)
            };
            if let Some(below) = below {
                self.command(Command::TowersHave { channel: id, below }).await?;
            }
        }
        Ok(())
    }
}

/// One connection.
struct Session {
    wire: Wire,
    /// How far the tower has each channel.
    known: BTreeMap<Tag, u64>,
    /// Of which channels it takes no more, and since when; it is asked again after a while.
    full: BTreeMap<Tag, Instant>,
}

enum Answer {
    Have { next: u64, used: Quota, lost: Lost },
    Refused(String),
}

async fn ask(wire: &mut Wire, question: TowerMessage) -> io::Result<Answer> {
    wire.say(&question).await?;
    match wire.hear(ANSWER).await? {
        TowerMessage::Have { next, used, lost, .. } => Ok(Answer::Have { next, used, lost }),
        TowerMessage::Refused { reason, .. } => {
            Ok(Answer::Refused(reason.chars().filter(|c| !c.is_control()).take(200).collect()))
        }
        _ => Err(odd("its answer is none to the question")),
    }
}

/// One message of the first states that fit, and how many those are. What has nothing to be taken is left out.
fn pack(
    tag: Tag,
    sealing: &Sealing,
    states: &[Revoked],
    mode: Mode,
    with_terms: bool,
    crypto: &RealCrypto,
) -> io::Result<(TowerMessage, usize)> {
    let (mut sealed, mut known): (Vec<Sealed>, Vec<_>) = (Vec::new(), Vec::new());
    if with_terms && mode == Mode::Key {
        known.extend(entries(&[], sealing, true));
    }
    let (mut room, mut taken) = (ROOM.saturating_sub(1_000), 0);
    for revoked in states {
        let fresh = match mode {
            Mode::Key => entries(std::slice::from_ref(revoked), sealing, false),
            // It could not use them.
            Mode::Presigned => Vec::new(),
        };
        let appointed = appoint(revoked, sealing, mode, crypto).map_err(odd)?;
        let size = fresh.iter().map(|e| e.sealed.len() + 18).sum::<usize>()
            + appointed.as_ref().map_or(0, |s| s.blob.len() + 26);
        let full = size > room || known.len() + fresh.len() > MAX_ENTRIES;
        if full && taken > 0 {
            break;
        }
        room = room.saturating_sub(size);
        known.extend(fresh);
        sealed.extend(appointed);
        taken += 1;
    }
    Ok((TowerMessage::States { tag, states: sealed, entries: known }, taken))
}
