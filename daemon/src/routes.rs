//! The thread that finds routes: searches take milliseconds, which the core thread does not have.
//!
//! In: questions and lessons of released batches; the graph as gossip makes it. Out: one answer for each question, as an
//! input for the core, but for those that a later one of the same payment has replaced. What was learned is kept in a file,
//! from time to time and at the end. Read next: `scores` (the file), `chand_protocol::route`.

use crate::gossip::GossipHandle;
use chand_protocol::node::effect::Input;
use chand_protocol::node::routes::{Lesson, Purpose, RouteRequest};
use chand_protocol::route::Router;
use chand_protocol::units::Timestamp;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

mod scores;
#[cfg(test)]
mod tests;

/// What was learned is saved that often when there is something new.
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// What the thread is asked.
enum Job {
    Find(Box<RouteRequest>),
    Learn(Box<Lesson>),
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Routes {
    jobs: Sender<Job>,
}

impl Routes {
    /// Starts the thread; its answers come out of the other end. It ends when nobody may ask any more, and then saves what
    /// it learned at `scores`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        gossip: GossipHandle,
        scores: PathBuf,
    ) -> io::Result<(Routes, UnboundedReceiver<Input>, JoinHandle<()>)> {
        let (jobs, jobs_in) = channel();
        let (answers, answers_in) = unbounded_channel();
        let thread = Builder::new()
            .name("chand-routes".into())
            .spawn(move || run(&jobs_in, &answers, &gossip, &scores))?;
        Ok((Routes { jobs }, answers_in, thread))
    }

    /// Asks for ways.
    pub fn find(&self, request: Box<RouteRequest>) {
        // The thread lives as long as anybody may ask.
        let _ = self.jobs.send(Job::Find(request));
    }

    /// Tells what an HTLC taught.
    pub fn learn(&self, lesson: Box<Lesson>) {
        let _ = self.jobs.send(Job::Learn(lesson));
    }
}

fn run(jobs: &Receiver<Job>, answers: &UnboundedSender<Input>, gossip: &GossipHandle, path: &Path) {
    let mut router = Router::new(scores::load(path));
    let mut waiting = VecDeque::new();
    let (mut saved, mut news) = (Instant::now(), false);
    while let Some(job) = next(jobs, &mut waiting, news) {
        match job {
            Some(Job::Find(request)) if is_replaced(&request, &waiting) => {}
            Some(Job::Find(request)) => {
                let answer = router.find(gossip.read().graph(), &request, now());
                if answers.send(answer).is_err() {
                    break;
                }
            }
            Some(Job::Learn(lesson)) => {
                router.learn(gossip.read().graph(), &lesson, now());
                news = true;
            }
            None => {}
        }
        if news && saved.elapsed() >= SAVE_EVERY {
            save(path, &router);
            (saved, news) = (Instant::now(), false);
        }
    }
    if news {
        save(path, &router);
    }
}

/// The next job, with those behind it in `waiting`; nothing when it is time to save; `None` at the end.
fn next(jobs: &Receiver<Job>, waiting: &mut VecDeque<Job>, news: bool) -> Option<Option<Job>> {
    if waiting.is_empty() {
        let limit = if news { SAVE_EVERY } else { Duration::MAX };
        match jobs.recv_timeout(limit) {
            Ok(job) => waiting.push_back(job),
            Err(RecvTimeoutError::Timeout) => return Some(None),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    waiting.extend(jobs.try_iter());
    Some(waiting.pop_front())
}

/// Whether its payment has asked again since: nobody reads this answer.
fn is_replaced(request: &RouteRequest, waiting: &VecDeque<Job>) -> bool {
    let Purpose::Payment(hash, _) = request.purpose else { return false };
    waiting.iter().any(
        |job| matches!(job, Job::Find(later) if matches!(later.purpose, Purpose::Payment(h, _) if h == hash)),
    )
}

fn save(path: &Path, router: &Router) {
    if let Err(error) = scores::save(path, router.scorer()) {
        tracing::warn!("what payments taught cannot be saved ({error}): a restart will learn it again");
    }
}

/// What was learned fades with the clock on the wall.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
