//! LDK nodes in a line, as a benchmark sees them: two with one channel, or more.
//!
//! In: the program of `tests/bench/ldk`, which of its two nodes, a chain of ours. Out: a [`Pair`].
//! Each node is a process that takes a command a line and answers a line; payments are begun within the payer's
//! process, so that no control socket stands between it and the clock.
//! Read next: `tests/bench/ldk/src/node.rs` (the commands), `pair`.

use super::pair::{Paid, Pair, AMOUNT_MSAT, CAPACITY_SAT};
use super::plan::Round;
use super::syncs;
use crate::wait::wait_within;
use crate::{ports, wait_until, Chain};
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Which of the two nodes made of LDK's crates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The crate `lightning` put together by hand for speed.
    Engine,
    /// The crate `ldk-node` with its defaults.
    Shipped,
}

impl Kind {
    /// As the program and the results call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Engine => "engine",
            Kind::Shipped => "shipped",
        }
    }

    /// The rounds of a plan that make sense for it: `ldk-node` has 50 HTLCs a channel, and a fifth of the payments take
    /// it longer than all take the others.
    pub fn fitting(self, rounds: &[Round]) -> Vec<Round> {
        match self {
            Kind::Engine => rounds.to_vec(),
            Kind::Shipped => {
                let few = rounds.iter().filter(|round| round.in_flight <= MOST_SHIPPED);
                few.map(|round| Round { payments: round.payments.div_ceil(5), ..*round }).collect()
            }
        }
    }
}

/// More in flight than this means nothing to `ldk-node`.
const MOST_SHIPPED: usize = 100;
/// What either has on chain when it wants coins: the channel, and reserves for closing.
const COINS_SAT: u64 = CAPACITY_SAT + 1_000_000;
/// LDK asks for no more before it calls a channel usable.
const CONFIRMATIONS: u64 = 6;
/// `ldk-node` looks for blocks and peers at intervals of its own.
const PATIENCE: Duration = Duration::from_secs(120);
/// From the last event to the last HTLC's end; LDK has no way to ask.
const TAIL: Duration = Duration::from_millis(300);

/// One process.
#[derive(Debug)]
struct Seat {
    line: Vec<String>,
    log: PathBuf,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Seat {
    fn spawn(line: Vec<String>, log: PathBuf) -> Seat {
        let open = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let errors = open.unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", line[0]));
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        Seat { line, log, child, to, from }
    }

    fn ask(&mut self, command: &Value) -> Value {
        let mut answer = String::new();
        let asked = writeln!(self.to, "{command}").and_then(|()| self.from.read_line(&mut answer));
        match asked.map(|_| serde_json::from_str(&answer)) {
            Ok(Ok(value)) => value,
            other => {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("{} after {}: {other:?}\n{log}", self.line.join(" "), command["c"])
            }
        }
    }

    /// Ends it in order and starts it again; milliseconds until the node runs.
    fn again(&mut self) -> f64 {
        self.ask(&json!({ "c": "stop" }));
        self.end();
        let start = Instant::now();
        let fresh = Seat::spawn(self.line.clone(), self.log.clone());
        drop(std::mem::replace(self, fresh));
        self.ask(&json!({ "c": "start" }));
        start.elapsed().as_secs_f64() * 1_000.0
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end();
    }
}

/// The first pays, the last is paid.
#[derive(Debug)]
pub struct Ldks {
    seats: Vec<Seat>,
    received: u64,
    chain: Chain,
    dir: TempDir,
}

impl Ldks {
    /// Starts a chain and both nodes and opens the channel. `counted` puts them under a program that counts syncs.
    ///
    /// # Panics
    /// When they do not come up or the channel does not open.
    pub fn open(program: &Path, kind: Kind, base: &Path, counted: bool) -> Ldks {
        Ldks::in_line(2, program, kind, base, counted)
    }

    /// The same with so many nodes, each with a channel to the next. More than two only of [`Kind::Engine`], whose payments
    /// take the way that they are told.
    ///
    /// # Panics
    /// When they do not come up or a channel does not open.
    pub fn in_line(nodes: u8, program: &Path, kind: Kind, base: &Path, counted: bool) -> Ldks {
        let dir = tempfile::Builder::new().prefix("ldk-").tempdir_in(base).expect("a folder for the nodes");
        let chain = Chain::start(dir.path());
        let url = chain.url();
        let (login, addr) = url.trim_start_matches("http://").split_once('@').expect("a login");
        let (user, password) = login.split_once(':').expect("a password");
        let seats = (1..=nodes).map(|seed| {
            let home = dir.path().join(format!("node-{seed}"));
            std::fs::create_dir_all(&home).expect("a folder for the node");
            let mut line = if counted { syncs::trace_of(&sync_file(dir.path(), seed)) } else { Vec::new() };
            let (port, seed) = (ports::free().to_string(), seed.to_string());
            let data = home.join("data").display().to_string();
            line.push(program.display().to_string());
            line.extend([kind.name(), &data, &port, &seed, addr, user, password].map(String::from));
            Seat::spawn(line, home.join("log"))
        });
        let seats = seats.collect();
        let mut pair = Ldks { seats, received: 0, chain, dir };
        pair.open_channel();
        pair
    }

    /// The files into which syncs are written when they are counted: payer, payee.
    pub fn sync_files(&self) -> [PathBuf; 2] {
        [1, 2].map(|seed| sync_file(self.dir.path(), seed))
    }

    fn open_channel(&mut self) {
        let nodes = self.all(&json!({ "c": "start" }));
        for address in self.all(&json!({ "c": "address" })).iter().filter_map(Value::as_str) {
            self.chain.send(address, COINS_SAT);
        }
        self.mine();
        for (from, to) in nodes.iter().skip(1).enumerate() {
            let open = json!({
                "c": "open", "id": to["id"], "addr": to["addr"], "sat": CAPACITY_SAT,
                "push_msat": CAPACITY_SAT * 1_000 / 2,
            });
            let refused = self.seats[from].ask(&open);
            assert!(refused.is_null(), "LDK opens no channel: {refused}");
            wait_until("LDK's funding transaction", || !self.chain.mempool().is_empty());
            self.mine();
        }
        let last = nodes.len() - 1;
        wait_within(PATIENCE, "LDK's channels in use", || {
            let usable = self.all(&json!({ "c": "usable" }));
            let all = usable.iter().enumerate().all(|(seat, n)| *n == 1 + u8::from(seat > 0 && seat < last));
            match all {
                true => Ok(()),
                false => Err(format!("{usable:?}")),
            }
        });
        if last > 1 {
            let scid = |(seat, to): (usize, &Value)| {
                let scid = self.seats[seat].ask(&json!({ "c": "scid", "id": to["id"] }));
                json!({ "id": to["id"], "scid": scid })
            };
            let hops: Vec<Value> = nodes.iter().skip(1).enumerate().map(scid).collect();
            self.seats[0].ask(&json!({ "c": "via", "hops": hops }));
        }
    }

    fn all(&mut self, command: &Value) -> Vec<Value> {
        self.seats.iter_mut().map(|seat| seat.ask(command)).collect()
    }

    fn payee(&mut self) -> &mut Seat {
        self.seats.last_mut().expect("a node")
    }

    fn mine(&mut self) {
        self.chain.mine(CONFIRMATIONS);
        self.all(&json!({ "c": "sync" }));
    }
}

fn sync_file(dir: &Path, seed: u8) -> PathBuf {
    dir.join(format!("syncs-{seed}"))
}

impl Pair for Ldks {
    fn process_ids(&mut self) -> [u32; 2] {
        [self.seats[0].child.id(), self.payee().child.id()]
    }

    fn between(&mut self) -> Vec<u32> {
        let last = self.seats.len() - 1;
        self.seats[1..last].iter().map(|seat| seat.child.id()).collect()
    }

    fn invoices(&mut self, count: u64) -> Vec<String> {
        let made = self.payee().ask(&json!({ "c": "invoices", "n": count, "amount_msat": AMOUNT_MSAT }));
        let made = made.as_array().expect("invoices");
        made.iter().map(|text| text.as_str().expect("an invoice").to_string()).collect()
    }

    fn pay(&mut self, invoices: Vec<String>, in_flight: usize) -> Paid {
        self.received += invoices.len() as u64;
        let paid = self.seats[0].ask(&json!({ "c": "pay", "invoices": invoices, "in_flight": in_flight }));
        let latencies = paid["latencies_us"].as_array().expect("latencies");
        Paid {
            seconds: paid["seconds"].as_f64().expect("seconds"),
            latencies_us: latencies.iter().filter_map(Value::as_u64).collect(),
            failed: paid["failed"].as_u64().expect("failed"),
            first_error: None,
        }
    }

    fn rest(&mut self) {
        let all = self.received;
        wait_within(PATIENCE, "the payee to have been paid", || {
            let received = self.payee().ask(&json!({ "c": "received" }));
            if received == all {
                Ok(())
            } else {
                Err(format!("{received} of {all}"))
            }
        });
        std::thread::sleep(TAIL);
    }

    fn restart(&mut self) -> [f64; 2] {
        [self.seats[0].again(), self.payee().again()]
    }
}
