//! A tower's clients: each question is answered once, and what is acknowledged is on disk.
//!
//! In: connections of strangers. Out: answers. Bounded: connections, half-open ones, silence, and by the archive what one
//! client may leave here. Read next: `keeper`.

use super::archive::KeepError;
use super::watch::{lock, Shared};
use super::wire::Wire;
use chand_protocol::id::NodeId;
use chand_protocol::tower::message::{Quota, TowerMessage, VERSION};
use chand_protocol::tower::Tag;
use secp256k1::SecretKey;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// A client that says nothing for so long is hung up on.
const SILENCE: Duration = Duration::from_secs(600);

/// What all connections share.
pub(super) struct Office {
    pub key: SecretKey,
    pub quota: Quota,
    /// Whom to serve; empty: everybody.
    pub clients: BTreeSet<NodeId>,
    pub keeper: Shared,
    /// Told when a state came after its breach.
    pub late: Arc<Notify>,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

/// Accepts until aborted.
pub(super) async fn run(listener: TcpListener, office: Arc<Office>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let office = Arc::clone(&office);
        tokio::spawn(async move {
            match Wire::answer(office.key, stream).await {
                Ok((client, mut wire)) => {
                    let end = office.serve(client, &mut wire).await;
                    tracing::debug!(%client, "gone: {}", end.err().map_or_else(String::new, |e| e.to_string()));
                }
                Err(error) => tracing::debug!(%error, "a connection came to nothing"),
            }
            drop(place);
        });
    }
}

impl Office {
    async fn serve(&self, client: NodeId, wire: &mut Wire) -> io::Result<()> {
        if !self.clients.is_empty() && !self.clients.contains(&client) {
            tracing::info!(%client, "not served: it is none of the --client");
            return Ok(());
        }
        loop {
            let question = wire.hear(SILENCE).await?;
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
            TowerMessage::Ask { tag } => tag,
            TowerMessage::Forget { tag } => {
                keeper.forget(client, tag)?;
                tag
            }
            TowerMessage::States { tag, states, entries } => {
                match keeper.keep(client, tag, &states, &entries) {
                    Ok(late) => {
                        if late {
                            self.late.notify_one();
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
    TowerMessage::Have { tag, next: archive.next(client, tag), used: archive.used(client) }
}
