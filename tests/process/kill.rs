//! The hard one: nodes are killed again and again in the middle of payments.
//!
//! Several payers are busy in both directions the whole time. Each kill comes once payments have gone through since
//! the one before, so that every one of them hits work in flight. In the end every payment has to be complete for
//! both or for neither, and every millisatoshi is where the complete ones put it.

use chand_tests::books::{balance_adds_up, msat, shares};
use chand_tests::hash::sha256;
use chand_tests::{wait_for, CallError, ChannelType, Client, World};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const KILLS: u64 = 50;
/// In each direction.
const PAYERS: u64 = 4;
/// Payments seen through between two kills.
const BETWEEN: u64 = 12;
/// How often a payer tries one invoice.
const TRIES: u32 = 5;
/// So that one who is refused at once, since somebody is dead, does not try a thousand times.
const PAUSE: Duration = Duration::from_millis(40);

/// What the payers share with the one who kills.
#[derive(Default)]
struct Board {
    stop: AtomicBool,
    /// Payments reported complete so far.
    complete: AtomicU64,
    /// Label, and the preimage that `pay` showed when it did.
    claims: Mutex<BTreeMap<String, Option<String>>>,
}

/// Pays from one node to another until told to stop, however often either goes away.
struct Payer {
    name: String,
    from: PathBuf,
    to: PathBuf,
    board: Arc<Board>,
}

/// A client that connects when it must.
struct Line {
    socket: PathBuf,
    client: Option<Client>,
}

impl Line {
    fn call(&mut self, method: &str, params: Value) -> Result<Value, CallError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.socket)?,
        };
        let answer = client.call(method, params);
        if !matches!(answer, Err(CallError::Lost(_))) {
            self.client = Some(client);
        }
        answer
    }
}

impl Payer {
    fn run(self) {
        let mut from = Line { socket: self.from.clone(), client: None };
        let mut to = Line { socket: self.to.clone(), client: None };
        let mut number = 0_u64;
        while !self.board.stop.load(Ordering::SeqCst) {
            number += 1;
            let label = format!("{} {number}", self.name);
            // Odd amounts, some of them dust: each sum shows which payments it is made of.
            let amount = 1_000 + number * 7_919 + if number.is_multiple_of(3) { 2_000_000 } else { 0 };
            self.pay(&mut from, &mut to, &label, amount);
        }
    }

    fn pay(&self, from: &mut Line, to: &mut Line, label: &str, amount_msat: u64) {
        let params = json!({ "amount_msat": amount_msat, "label": label, "description": "load" });
        let Ok(invoice) = to.call("invoice", params) else {
            // Gone for the moment. The next label is a new one: whether this was made does not matter.
            std::thread::sleep(PAUSE);
            return;
        };
        self.board.claims.lock().expect("claims").insert(label.into(), None);
        let params = json!({ "bolt11": invoice["bolt11"], "retry_for": 5 });
        for _ in 0..TRIES {
            // Whatever became of a try that was cut off: trying again must never pay twice.
            if let Ok(paid) = from.call("pay", params.clone()) {
                let preimage = paid["payment_preimage"].as_str().map(String::from);
                self.board.claims.lock().expect("claims").insert(label.into(), preimage);
                self.board.complete.fetch_add(1, Ordering::SeqCst);
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn start_payers(world: &World, board: &Arc<Board>) -> Vec<JoinHandle<()>> {
    let mut handles = Vec::new();
    for number in 0..PAYERS {
        for (from, to) in [(&world.alice, &world.bob), (&world.bob, &world.alice)] {
            let payer = Payer {
                name: format!("{} {number}", from.name()),
                from: from.socket(),
                to: to.socket(),
                board: board.clone(),
            };
            handles.push(std::thread::spawn(move || payer.run()));
        }
    }
    handles
}

/// Waits until some payments went through since the last kill.
fn wait_progress(board: &Board, seen: &mut u64) {
    wait_for("payments to go through", || {
        let now = board.complete.load(Ordering::SeqCst);
        if now >= *seen + BETWEEN {
            *seen = now;
            return Ok(());
        }
        Err(format!("{now} complete, {seen} at the last kill"))
    });
}

#[test]
fn fifty_kills_under_load_lose_nothing_and_make_nothing() {
    let mut world = World::with_channel(100_000_000, 50_000_000_000, ChannelType::Anchors);
    let board = Arc::new(Board::default());
    let payers = start_payers(&world, &board);
    let mut seen = 0;
    let since = Instant::now();
    for kill in 0..KILLS {
        wait_progress(&board, &mut seen);
        match kill % 5 {
            0 | 2 => world.alice.kill_and_launch(),
            1 | 3 => world.bob.kill_and_launch(),
            _ => {
                world.alice.kill();
                world.bob.kill_and_launch();
                world.alice.launch();
            }
        }
    }
    wait_progress(&board, &mut seen);
    board.stop.store(true, Ordering::SeqCst);
    for payer in payers {
        payer.join().expect("a payer");
    }
    let took = since.elapsed();
    world.wait_normal();
    world.wait_quiet();
    let claims = board.claims.lock().expect("claims").clone();
    let complete = check_books(&world, &claims);
    println!("{KILLS} kills in {} s, {complete} of {} payments complete", took.as_secs(), claims.len());

    // It goes on as if nothing had been.
    let bolt11 = world.bob.invoice(5_000, "after all that");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
}

/// One list of both sides' payments; how many are complete.
fn check_books(world: &World, claims: &BTreeMap<String, Option<String>>) -> usize {
    let (alice, bob) = (&world.alice, &world.bob);
    let mut invoices = BTreeMap::new();
    let mut moved = [(0_u64, 0_u64); 2];
    for (side, (payer, payee)) in [(alice, bob), (bob, alice)].into_iter().enumerate() {
        let pays = payer.call("listpays", json!({}));
        let mut outcome: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for pay in pays["pays"].as_array().expect("pays") {
            outcome
                .entry(pay["payment_hash"].as_str().expect("a hash").into())
                .or_default()
                .push(pay.clone());
        }
        let list = payee.call("listinvoices", json!({}));
        for invoice in list["invoices"].as_array().expect("invoices") {
            let label = invoice["label"].as_str().expect("a label");
            let pays = outcome.remove(invoice["payment_hash"].as_str().expect("a hash")).unwrap_or_default();
            let complete = pays.iter().filter(|p| p["status"] == "complete").count();
            let pending = pays.iter().filter(|p| p["status"] == "pending").count();
            assert_eq!(pending, 0, "{label} is still pending: {pays:?}");
            let paid = usize::from(invoice["status"] == "paid");
            assert_eq!(complete, paid, "{label}: the payee says {invoice}, the payer says {pays:?}");
            if paid == 1 {
                assert_eq!(msat(invoice, "amount_received_msat"), msat(invoice, "amount_msat"), "{label}");
                moved[side].0 += 1;
                moved[side].1 += msat(invoice, "amount_msat");
            }
            assert!(invoices.insert(label.to_string(), invoice.clone()).is_none(), "{label} is there twice");
        }
        assert!(outcome.is_empty(), "payments of {} for no invoice: {outcome:?}", payer.name());
    }
    for (label, preimage) in claims {
        let invoice =
            invoices.get(label).unwrap_or_else(|| panic!("the invoice {label} was made and is lost"));
        if let Some(preimage) = preimage {
            assert_eq!(invoice["status"], "paid", "{label} was reported complete");
            assert_eq!(invoice["payment_hash"], sha256(preimage), "{label}");
        }
    }
    let (ours, theirs) = shares(alice, bob);
    assert_eq!(ours, 50_000_000_000 - moved[0].1 + moved[1].1, "Alice's part");
    assert_eq!(theirs, 50_000_000_000 + moved[0].1 - moved[1].1, "Bob's part");
    for (side, (one, other)) in [(alice, bob), (bob, alice)].into_iter().enumerate() {
        let channel = one.channel(other);
        assert_eq!(channel["state"], "CHANNELD_NORMAL");
        assert_eq!(msat(&channel, "out_payments_fulfilled"), moved[side].0, "each exactly once");
        assert_eq!(msat(&channel, "out_fulfilled_msat"), moved[side].1);
        assert_eq!(msat(&channel, "in_payments_fulfilled"), moved[1 - side].0);
        assert_eq!(msat(&channel, "in_fulfilled_msat"), moved[1 - side].1);
        balance_adds_up(one);
    }
    usize::try_from(moved[0].0 + moved[1].0).expect("a count")
}
