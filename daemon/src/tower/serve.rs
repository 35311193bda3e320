//! A tower's clients: each question is answered once, and what is acknowledged is on disk.
//!
//! In: connections of strangers. Out: answers. Bounded: connections, half-open ones, silence, and by the archive what one
//! client may leave here. A client has one connection, the newest. Whoever comes when all places are taken gets that of the one
//! that was silent longest; those that are no client of ours go first. Read next: `keeper`.

use super::archive::KeepError;
use super::watch::{lock, Shared};
use super::wire::Wire;
use chand_protocol::id::NodeId;
use chand_protocol::tower::message::{Quota, TowerMessage, VERSION};
use chand_protocol::tower::Tag;
use secp256k1::SecretKey;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, Instant};

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// A client that says nothing for so long is hung up on; ours says something each minute.
const SILENCE: Duration = Duration::from_secs(180);

/// One connection.
struct Guest {
    /// Who it is, once the handshake is done.
    client: Option<NodeId>,
    /// Something of this client is kept here.
    known: bool,
    heard: Instant,
    task: AbortHandle,
}

/// All connections.
#[derive(Default)]
pub(super) struct Guests(Mutex<(u64, BTreeMap<u64, Guest>)>);

impl Guests {
    fn list(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Guest>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; when all places are taken, another one goes.
    fn admit(&self, spawn: impl FnOnce(u64) -> AbortHandle) {
        let mut list = self.list();
        let (next, guests) = &mut *list;
        if guests.len() >= MAX_CONNECTIONS {
            let least =
                guests.iter().min_by_key(|(_, g)| (g.known, g.client.is_some(), g.heard)).map(|(n, _)| *n);
            if let Some(guest) = least.and_then(|number| guests.remove(&number)) {
                guest.task.abort();
            }
        }
        *next += 1;
        // Should it end at once, it waits for the list to be removed from it.
        guests.insert(*next, Guest { client: None, known: false, heard: Instant::now(), task: spawn(*next) });
    }

    /// The handshake is done. An older connection of the same client is of no use to it any more.
    fn greet(&self, number: u64, client: NodeId, known: bool) {
        let (_, guests) = &mut *self.list();
        guests.retain(|other, guest| {
            let old = *other != number && guest.client == Some(client);
            if old {
                guest.task.abort();
            }
            !old
        });
        if let Some(guest) = guests.get_mut(&number) {
            (guest.client, guest.known, guest.heard) = (Some(client), known, Instant::now());
        }
    }

    fn heard(&self, number: u64, known: bool) {
        if let Some(guest) = self.list().1.get_mut(&number) {
            (guest.known, guest.heard) = (known, Instant::now());
        }
    }

    fn leave(&self, number: u64) {
        self.list().1.remove(&number);
    }
}

/// What all connections share.
pub(super) struct Office {
    pub key: SecretKey,
    pub quota: Quota,
    /// Whom to serve; empty: everybody.
    pub clients: BTreeSet<NodeId>,
    pub keeper: Shared,
    /// Told when a state came after its breach.
    pub late: Arc<Notify>,
    pub guests: Guests,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

/// Accepts until aborted.
pub(super) async fn run(listener: TcpListener, office: Arc<Office>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let guest = Arc::clone(&office);
        office.guests.admit(|number| tokio::spawn(guest.receive(number, stream)).abort_handle());
    }
}

impl Office {
    async fn receive(self: Arc<Self>, number: u64, stream: TcpStream) {
        match Wire::answer(self.key, stream).await {
            Ok((client, mut wire)) => {
                let end = self.serve(number, client, &mut wire).await;
                tracing::debug!(%client, "gone: {}", end.err().map_or_else(String::new, |e| e.to_string()));
            }
            Err(error) => tracing::debug!(%error, "a connection came to nothing"),
        }
        self.guests.leave(number);
    }

    async fn serve(&self, number: u64, client: NodeId, wire: &mut Wire) -> io::Result<()> {
        if !self.clients.is_empty() && !self.clients.contains(&client) {
            tracing::info!(%client, "not served: it is none of the --client");
            return Ok(());
        }
        let known = || !self.clients.is_empty() || lock(&self.keeper).archive().knows(client);
        self.guests.greet(number, client, known());
        loop {
            let question = wire.hear(SILENCE).await?;
            self.guests.heard(number, known());
            // The disk may take a moment, and other connections shall not wait for it.
            let answer = tokio::task::block_in_place(|| self.answer(client, question));
            wire.say(&answer?).await?;
        }
    }

    fn answer(&self, client: NodeId, question: TowerMessage) -> io::Result<TowerMessage> {
        let mut keeper = lock(&self.keeper);
        let tag = match question {
            TowerMessage::Hello { .. } => {
                return Ok(TowerMessage::Welcome { version: VERSION, quota: self.quota });
            }
            TowerMessage::Ask { tag } => match keeper.archive().trouble(client, tag) {
                Some(reason) => return Ok(TowerMessage::Refused { tag, reason }),
                None => tag,
            },
            TowerMessage::Forget { tag } => {
                keeper.forget(client, tag)?;
                tag
            }
            TowerMessage::States { tag, states, entries } => {
                match keeper.keep(client, tag, &states, &entries) {
                    Ok((kept, late)) => {
                        if late {
                            self.late.notify_one();
                        }
                        if let Some(reason) = kept.full {
                            return Ok(TowerMessage::Refused { tag, reason });
                        }
                        tag
                    }
                    Err(KeepError::Full(reason)) => return Ok(TowerMessage::Refused { tag, reason }),
                    Err(KeepError::Disk(error)) => {
                        tracing::error!("what a client sent cannot be written: {error}");
                        let reason = "the watchtower's disk does not take it".into();
                        return Ok(TowerMessage::Refused { tag, reason });
                    }
                }
            }
            TowerMessage::Welcome { .. } | TowerMessage::Have { .. } | TowerMessage::Refused { .. } => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a client does not say this"));
            }
        };
        Ok(have(&keeper, client, tag))
    }
}

fn have(keeper: &super::keeper::Keeper, client: NodeId, tag: Tag) -> TowerMessage {
    let archive = keeper.archive();
    let (next, used, lost) = (archive.next(client, tag), archive.used(client), archive.lost(client, tag));
    TowerMessage::Have { tag, next, used, lost }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tower::archive::Archive;
    use crate::tower::keeper::Keeper;
    use chand_protocol::node::effect::Fees;
    use chand_protocol::sign::RealCrypto;
    use chand_protocol::tower::seal::Sealed;
    use chand_protocol::units::Feerate;
    use secp256k1::Secp256k1;

    fn key(number: u16) -> SecretKey {
        let mut bytes = [1; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        SecretKey::from_slice(&bytes).expect("a key")
    }

    async fn ask(wire: &mut Wire, question: &TowerMessage) -> io::Result<TowerMessage> {
        wire.say(question).await?;
        wire.hear(Duration::from_secs(60)).await
    }

    async fn here(wire: &mut Wire) -> bool {
        ask(wire, &TowerMessage::Hello { version: VERSION }).await.is_ok()
    }

    /// Strangers who say nothing, and strangers who say hello once: neither keeps a client out, and a client stays.
    #[tokio::test(flavor = "multi_thread")]
    async fn idle_strangers_lock_nobody_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let quota = Quota { bytes: 100_000, states: 100 };
        let archive = Archive::open(dir.path(), quota, 10).expect("opened");
        let fees = Fees { normal: Feerate(1_000), urgent: Feerate(2_000), minimum: Feerate(253) };
        let keeper = Keeper::open(dir.path(), archive, fees, Arc::new(RealCrypto::new())).expect("opened");
        let office = Arc::new(Office {
            key: key(1),
            quota,
            clients: BTreeSet::new(),
            keeper: Arc::new(Mutex::new(keeper)),
            late: Arc::new(Notify::new()),
            guests: Guests::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let tower = NodeId(key(1).public_key(&Secp256k1::new()));
        let serving = tokio::spawn(run(listener, Arc::clone(&office)));
        let call = |number: u16| Wire::call(key(number), tower, &address);

        let mut alice = call(2).await.expect("served");
        let state = Sealed { number: 0, hint: [1; 16], blob: vec![1; 40] };
        let states = TowerMessage::States { tag: [1; 16], states: vec![state], entries: vec![] };
        assert!(matches!(ask(&mut alice, &states).await, Ok(TowerMessage::Have { next: 1, .. })));
        assert!(here(&mut alice).await);

        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS + 20 {
            silent.push(TcpStream::connect(&address).await.expect("accepted"));
        }
        let mut guests = Vec::new();
        for number in 0..MAX_CONNECTIONS as u16 + 20 {
            let mut guest = call(100 + number).await.expect("served, however many are silent");
            assert!(here(&mut guest).await);
            guests.push(guest);
        }
        assert!(here(&mut alice).await, "who has states here goes last");
        assert!(here(guests.last_mut().expect("the newest")).await);
        assert!(!here(&mut guests[0]).await, "who was silent longest made room");
        // The newest connection of a client is the one that counts.
        let mut again = call(2).await.expect("served");
        assert!(here(&mut again).await);
        assert!(!here(&mut alice).await);
        assert!(office.guests.list().1.len() <= MAX_CONNECTIONS);
        serving.abort();
    }
}
