//! The thread that finds routes: searches take milliseconds, which the core thread does not have.
//!
//! In: questions and lessons of released batches; the graph as gossip makes it. Out: one answer for each question, as an
//! input for the core. Read next: `chand_protocol::route`.

use crate::gossip::GossipHandle;
use chand_protocol::node::effect::Input;
use chand_protocol::node::routes::{Lesson, RouteRequest};
use chand_protocol::route::Router;
use chand_protocol::units::Timestamp;
use std::io;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread::Builder;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

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
    /// Starts the thread; its answers come out of the other end.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(gossip: GossipHandle) -> io::Result<(Routes, UnboundedReceiver<Input>)> {
        let (jobs, jobs_in) = channel();
        let (answers, answers_in) = unbounded_channel();
        Builder::new().name("chand-routes".into()).spawn(move || run(&jobs_in, &answers, &gossip))?;
        Ok((Routes { jobs }, answers_in))
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

fn run(jobs: &Receiver<Job>, answers: &UnboundedSender<Input>, gossip: &GossipHandle) {
    let mut router = Router::default();
    for job in jobs {
        let known = gossip.read();
        let graph = known.graph();
        match job {
            Job::Find(request) => {
                let answer = router.find(graph, &request, now());
                if answers.send(answer).is_err() {
                    return;
                }
            }
            Job::Learn(lesson) => router.learn(graph, &lesson, now()),
        }
    }
}

/// What was learned fades with the clock on the wall.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
