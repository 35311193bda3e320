//! A stop that lets payments end first.
//!
//! In: how long it may take, from a control socket or with a signal; a shorter time given later holds. Out: lines in the log that say
//! what is waited for, and the order to stop: when nothing is under way, or the time is over. Whoever asked may leave meanwhile.
//! Read next: `chand_protocol::node::drain` (what is waited for), `crate::start` (what a stop is).

use super::inbox::Order;
use chand_protocol::node::command::{Command, CommandError, Reply};
use chand_protocol::node::view;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{interval_at, sleep, sleep_until, Instant};

/// How often the log says what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long who asked may take to write the answer, before the stop itself begins.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// With this left.
    Left(view::Drain),
    /// The node could not be asked.
    Unknown,
    /// Somebody asked for a stop that does not wait.
    Hurried,
}

impl Drained {
    /// In words, for the log and for who asked.
    pub fn words(self) -> String {
        match self {
            Drained::Left(left) => words(left),
            Drained::Unknown => {
                "what is under way is not known: the node is busy with its disk or the chain".into()
            }
            Drained::Hurried => "stopped without waiting longer, as somebody asked".into(),
        }
    }

    /// What is left, when that is known.
    pub const fn left(self) -> Option<view::Drain> {
        match self {
            Drained::Left(left) => Some(left),
            Drained::Unknown | Drained::Hurried => None,
        }
    }
}

/// What HTLCs are left.
pub fn words(left: view::Drain) -> String {
    let mut text = match left.under_way {
        0 => "nothing is under way".to_string(),
        n => format!("{n} HTLCs are under way"),
    };
    for (count, what) in
        [(left.held, "held by their user"), (left.absent, "waiting for peers that are away or the chain")]
    {
        if count > 0 {
            text.push_str(&format!("; {count} {what} stay as they are"));
        }
    }
    text
}

/// Resolves when the stop itself begins.
async fn hurried(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// The one drain that a daemon can have; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Drain(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    orders: mpsc::Sender<Order>,
    stop: watch::Sender<bool>,
    begun: AtomicBool,
    until: watch::Sender<Option<Instant>>,
    ended: watch::Sender<Option<Drained>>,
}

impl Drain {
    pub(super) fn new(orders: mpsc::Sender<Order>, stop: watch::Sender<bool>) -> Drain {
        let (begun, until, ended) =
            (AtomicBool::new(false), watch::Sender::new(None), watch::Sender::new(None));
        Drain(Arc::new(Shared { orders, stop, begun, until, ended }))
    }

    /// Begins it, or shortens it; resolves when it is over. Must run inside tokio.
    pub(super) async fn run(self, time: Duration) -> Drained {
        let until = Instant::now().checked_add(time);
        self.0.until.send_if_modified(|old| {
            let sooner = until.is_some() && old.is_none_or(|old| until.is_some_and(|until| until < old));
            if sooner {
                *old = until;
            }
            sooner
        });
        let mut ended = self.0.ended.subscribe();
        if !self.0.begun.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().work());
        }
        let ended = ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| *end).unwrap_or(Drained::Unknown)
    }

    async fn ask(&self, command: Command) -> Result<Reply, CommandError> {
        let (to, answer) = oneshot::channel();
        let gone = || CommandError { code: -1, message: "the core is gone".into(), payment: None };
        self.0.orders.send(Order::Node(command, to)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn work(self) {
        let mut until = self.0.until.subscribe();
        let mut stopping = self.0.stop.subscribe();
        let asked = self.ask(Command::Drain);
        tokio::pin!(asked);
        let mut ticks = interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
        tracing::info!("draining before the stop: nothing new is begun");
        let drained = loop {
            let end = *until.borrow_and_update();
            let time_over = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                answer = &mut asked => break match answer {
                    Ok(Reply::Drained(left)) => Drained::Left(left),
                    _ => Drained::Unknown,
                },
                () = time_over => break self.look().await.map_or(Drained::Unknown, Drained::Left),
                _ = until.changed() => {}
                _ = ticks.tick() => if let Some(left) = self.look().await {
                    tracing::info!("draining: {}", words(left));
                },
                // Somebody cannot wait: a second signal, or `stop` without a drain.
                () = hurried(&mut stopping) => break Drained::Hurried,
            }
        };
        tracing::info!("drained: {}", drained.words());
        self.0.ended.send_replace(Some(drained));
        sleep(ANSWER_TIME).await;
        self.0.stop.send_replace(true);
    }

    /// What is under way; `None` when the node does not say in time.
    async fn look(&self) -> Option<view::Drain> {
        let asked = tokio::time::timeout(ANSWER_TIME, self.ask(Command::GetInfo)).await;
        match asked {
            Ok(Ok(Reply::Info(info))) => info.draining,
            _ => None,
        }
    }
}
