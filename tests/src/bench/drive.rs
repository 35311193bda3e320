//! Pays invoices through chand's control socket, with so many requests in flight.
//!
//! In: the socket, invoices, a number. Out: how long each took, from the request's write to its answer.
//! Requests are pipelined: each connection holds up to [`PER_CONNECTION`] of them, and an answer sends the next.
//! Read next: `chand`.

use super::pair::Paid;
use crate::socket::Client;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Requests in flight on one connection; chand reads no more than 64 at once.
const PER_CONNECTION: usize = 50;
/// No payment takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the connections share.
struct Work {
    invoices: Vec<String>,
    next: AtomicUsize,
}

impl Work {
    fn take(&self) -> Option<&str> {
        self.invoices.get(self.next.fetch_add(1, Ordering::Relaxed)).map(String::as_str)
    }
}

/// Pays all invoices, keeping `in_flight` under way until there are no more.
///
/// # Panics
/// When the socket does not answer.
pub fn pay(socket: &Path, invoices: Vec<String>, in_flight: usize) -> Paid {
    let windows = windows(in_flight);
    // Connected before the clock starts.
    let clients: Vec<Client> = windows
        .iter()
        .map(|_| {
            let mut client = Client::connect(socket).expect("the payer's control socket");
            client.set_patience(PATIENCE).expect("a time-out");
            client
        })
        .collect();
    let work = Work { invoices, next: AtomicUsize::new(0) };
    let total = Mutex::new(Paid::default());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for (client, window) in clients.into_iter().zip(windows) {
            let (work, total) = (&work, &total);
            scope.spawn(move || {
                let mine = converse(client, window, work);
                let mut total = total.lock().expect("nobody panicked");
                total.latencies_us.extend(mine.latencies_us);
                total.failed += mine.failed;
                total.first_error = total.first_error.take().or(mine.first_error);
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    Paid { seconds, ..total.into_inner().expect("nobody panicked") }
}

/// `in_flight` shared out evenly over as few connections as it needs.
fn windows(in_flight: usize) -> Vec<usize> {
    let connections = in_flight.div_ceil(PER_CONNECTION).max(1);
    (0..connections).map(|c| in_flight / connections + usize::from(c < in_flight % connections)).collect()
}

/// One connection's share.
fn converse(mut client: Client, window: usize, work: &Work) -> Paid {
    let mut paid = Paid::default();
    let mut asked: HashMap<u64, Instant> = HashMap::with_capacity(window);
    loop {
        while asked.len() < window {
            let Some(bolt11) = work.take() else { break };
            let at = Instant::now();
            let id = client.send("pay", &json!({ "bolt11": bolt11 })).expect("a request to the payer");
            asked.insert(id, at);
        }
        if asked.is_empty() {
            return paid;
        }
        let (id, result) = client.receive().expect("an answer of the payer");
        let at = id.as_u64().and_then(|id| asked.remove(&id)).expect("an answer to a question of ours");
        match result {
            Ok(_) => paid.latencies_us.push(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Err(error) => {
                paid.failed += 1;
                paid.first_error.get_or_insert(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn every_request_has_a_place() {
        assert_eq!(windows(1), [1]);
        assert_eq!(windows(50), [50]);
        assert_eq!(windows(51), [26, 25]);
        assert_eq!(windows(400), [50; 8]);
    }
}
