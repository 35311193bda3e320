//! Drives payments: so many in flight until all invoices are paid.
//!
//! In: invoices. Out: how long each took. The clock of a payment runs from before its invoice is parsed to LDK's
//! «payment sent» event, all within the payer's process: no control socket is in between, which favours LDK.
//! Read next: `node`.

use crate::node::Node;
use ldk_node::bitcoin::hashes::Hash;
use ldk_node::lightning_invoice::Bolt11Invoice;
use serde_json::{json, Value};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A payment hash.
pub type HashBytes = [u8; 32];

/// Threads that begin payments.
const THREADS: usize = 4;
/// How soon a payment is begun again when the channel had no place for it.
const NO_PLACE: Duration = Duration::from_millis(2);
/// No round takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the pay loop and the node's events share.
#[derive(Default)]
pub struct Flight {
    open: Mutex<HashMap<HashBytes, (Instant, usize)>>,
    free: Mutex<usize>,
    freed: Condvar,
    latencies_us: Mutex<Vec<u64>>,
    again: Mutex<Vec<usize>>,
    sent: AtomicU64,
    /// Payments that this node was paid since its start.
    pub received: AtomicU64,
}

impl Flight {
    /// A payment of ours arrived.
    pub fn on_sent(&self, hash: HashBytes) {
        let entry = self.open.lock().unwrap().remove(&hash);
        if let Some((at, _)) = entry {
            self.latencies_us.lock().unwrap().push(at.elapsed().as_micros() as u64);
            self.sent.fetch_add(1, Ordering::SeqCst);
            self.release();
        }
    }

    /// A payment of ours did not: it is tried again.
    pub fn on_failed(&self, hash: HashBytes) {
        let entry = self.open.lock().unwrap().remove(&hash);
        if let Some((_, index)) = entry {
            self.again.lock().unwrap().push(index);
            self.release();
        }
    }

    fn release(&self) {
        *self.free.lock().unwrap() += 1;
        self.freed.notify_all();
    }

    fn done(&self, all: usize) -> bool {
        self.sent.load(Ordering::SeqCst) as usize >= all
    }

    /// A place among those in flight; `None` when all is paid.
    fn place(&self, all: usize) -> Option<()> {
        let mut free = self.free.lock().unwrap();
        while *free == 0 {
            if self.done(all) {
                return None;
            }
            free = self.freed.wait_timeout(free, Duration::from_millis(50)).unwrap().0;
        }
        *free -= 1;
        Some(())
    }
}

/// One call of [`pay`], as its threads see it.
struct Round {
    node: Arc<dyn Node>,
    flight: Arc<Flight>,
    invoices: Vec<String>,
    next: AtomicUsize,
    failed: AtomicU64,
    start: Instant,
}

impl Round {
    fn work(&self) {
        let all = self.invoices.len();
        while self.flight.place(all).is_some() {
            let retry = self.flight.again.lock().unwrap().pop();
            let index = match retry {
                Some(index) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    index
                }
                None => self.next.fetch_add(1, Ordering::SeqCst),
            };
            if index < all {
                self.begin(index);
                continue;
            }
            // Nothing is left to begin, but one under way may still fail and want to be tried again.
            *self.flight.free.lock().unwrap() += 1;
            if self.flight.done(all) || self.start.elapsed() > PATIENCE {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn begin(&self, index: usize) {
        let at = Instant::now();
        let invoice = Bolt11Invoice::from_str(&self.invoices[index]).expect("an invoice");
        self.flight.open.lock().unwrap().insert(invoice.payment_hash().to_byte_array(), (at, index));
        while let Err(error) = self.node.send(&invoice) {
            assert!(self.start.elapsed() < PATIENCE, "a payment does not begin: {error}");
            std::thread::sleep(NO_PLACE);
        }
    }
}

/// Pays all invoices with `in_flight` under way.
pub fn pay(node: &Arc<dyn Node>, flight: &Arc<Flight>, invoices: Vec<String>, in_flight: usize) -> Value {
    flight.latencies_us.lock().unwrap().clear();
    *flight.free.lock().unwrap() = in_flight;
    flight.sent.store(0, Ordering::SeqCst);
    let round = Round {
        node: node.clone(),
        flight: flight.clone(),
        invoices,
        next: AtomicUsize::new(0),
        failed: AtomicU64::new(0),
        start: Instant::now(),
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(in_flight) {
            scope.spawn(|| round.work());
        }
    });
    json!({
        "seconds": round.start.elapsed().as_secs_f64(),
        "latencies_us": *flight.latencies_us.lock().unwrap(),
        "failed": round.failed.load(Ordering::Relaxed),
    })
}
