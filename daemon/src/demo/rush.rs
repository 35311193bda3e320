//! A thousand small payments, and Bob's process killed in the middle of them.
//!
//! In: two nodes with a channel. Out: each payment paid once, whatever happened to Bob; both nodes' lists and
//! counters are compared with each other.
//! Read next: `ending`.

use super::line::CallError;
use super::money::{grouped, short};
use super::stage::{list, number, text, Line, Stage, Who};
use super::story::{channel, wait_open};
use super::tell::Teller;
use super::{wait_for, DemoError, PATIENCE, POLL};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

const PAYMENTS: u64 = 1_000;
/// Payments under way at once.
const AT_ONCE: u64 = 48;
/// Bob is killed when so many are paid.
const KILL_AT: u64 = PAYMENTS * 2 / 5;

/// Who pays the payment of a number: they take turns.
fn payer(payment: u64) -> Who {
    if payment.is_multiple_of(2) {
        Who::Alice
    } else {
        Who::Bob
    }
}

/// Each amount is its own, so that a sum shows which payments it is made of.
fn amount_msat(payment: u64) -> u64 {
    (100 + payment) * 1_000
}

fn label(payment: u64) -> String {
    format!("small {payment}")
}

/// What the payers share.
struct Board {
    next: AtomicU64,
    paid: AtomicU64,
    alice: Line,
    bob: Line,
}

/// Pays all of them.
pub async fn thousand(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Many small payments, both ways, and kill -9 for Bob in the middle").await;
    // The last HTLC is out of both snapshots a moment before it is off both lists.
    wait_quiet(stage).await?;
    let before = [channel(stage, Who::Alice).await?, channel(stage, Who::Bob).await?];
    let board = Arc::new(Board {
        next: AtomicU64::new(0),
        paid: AtomicU64::new(0),
        alice: stage.alice.line(),
        bob: stage.bob.line(),
    });
    let mut payers = JoinSet::new();
    for _ in 0..AT_ONCE {
        payers.spawn(pay_some(board.clone()));
    }
    let since = Instant::now();
    watch(&board, &mut payers, KILL_AT, since, teller).await?;
    kill_bob(stage, &board, teller).await?;
    watch(&board, &mut payers, PAYMENTS, since, teller).await?;
    while let Some(ended) = payers.join_next().await {
        ended.map_err(|e| DemoError::Odd(e.to_string()))??;
    }
    let took = since.elapsed();
    let per_second = u128::from(PAYMENTS) * 1_000 / took.as_millis().max(1);
    teller.say(&format!("{per_second} payments a second, Bob's death and return included"));
    wait_quiet(stage).await?;
    compare(stage, teller, &before).await
}

/// Shows the rate until so many are paid.
async fn watch(
    board: &Board,
    payers: &mut JoinSet<Result<(), DemoError>>,
    until: u64,
    since: Instant,
    teller: &mut Teller,
) -> Result<(), DemoError> {
    loop {
        // A payer that gave up ends the tour at once.
        while let Some(ended) = payers.try_join_next() {
            ended.map_err(|e| DemoError::Odd(e.to_string()))??;
        }
        let paid = board.paid.load(Ordering::SeqCst);
        teller.rate(paid, PAYMENTS, since.elapsed());
        if paid >= until {
            return Ok(());
        }
        if since.elapsed() > PATIENCE * 2 {
            let what = format!("{until} payments");
            let seen = format!("{paid} paid");
            return Err(DemoError::Late { seconds: since.elapsed().as_secs(), what, seen });
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn kill_bob(stage: &mut Stage, board: &Board, teller: &mut Teller) -> Result<(), DemoError> {
    let pid = stage.bob.pid().unwrap_or_default();
    stage.bob.kill_9().await?;
    let paid = board.paid.load(Ordering::SeqCst);
    let flying = channel(stage, Who::Alice).await?["htlcs"].as_array().map_or(0, Vec::len);
    teller.break_rate();
    teller.say(&format!(
        "kill -9 {pid}: Bob is gone, {} paid, {flying} under way at Alice's end",
        grouped(paid)
    ));
    let since = Instant::now();
    stage.start(Who::Bob).await?;
    wait_open(stage).await?;
    let pid = stage.bob.pid().unwrap_or_default();
    teller
        .say(&format!("Bob is back as process {pid}; linked again after {} ms", since.elapsed().as_millis()));
    Ok(())
}

/// Takes one payment after the other until all are taken.
async fn pay_some(board: Arc<Board>) -> Result<(), DemoError> {
    loop {
        let payment = board.next.fetch_add(1, Ordering::SeqCst);
        if payment >= PAYMENTS {
            return Ok(());
        }
        let (from, to) = match payer(payment) {
            Who::Alice => (&board.alice, &board.bob),
            _ => (&board.bob, &board.alice),
        };
        pay_one(from, to, payment).await?;
        board.paid.fetch_add(1, Ordering::SeqCst);
    }
}

/// Makes one invoice and pays it, however often either side goes away meanwhile.
async fn pay_one(from: &Line, to: &Line, payment: u64) -> Result<(), DemoError> {
    let bolt11 = wait_for("an invoice", || invoice(to, payment)).await?;
    wait_for("a payment", || async {
        match from.try_call("pay", json!({ "bolt11": bolt11 })).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused { code, message }) => {
                settled(from, &bolt11).await.map_err(|e| format!("{message} ({code}), {e}"))
            }
            // The payer went away: when he is back, he knows what became of it.
            Err(CallError::Lost(why)) => Err(why),
        }
    })
    .await
}

/// Whether a payment that was refused or interrupted is complete all the same.
async fn settled(from: &Line, bolt11: &str) -> Result<(), String> {
    let pays = from.try_call("listpays", json!({ "bolt11": bolt11 })).await.map_err(|e| e.to_string())?;
    if pays["pays"][0]["status"] == "complete" {
        return Ok(());
    }
    Err(pays["pays"][0]["status"].to_string())
}

/// The invoice of a payment: made now, or already there when the answer got lost.
async fn invoice(to: &Line, payment: u64) -> Result<String, String> {
    let label = label(payment);
    let params = json!({ "amount_msat": amount_msat(payment), "label": label, "description": "small" });
    let made = match to.try_call("invoice", params).await {
        Ok(made) => made,
        Err(CallError::Refused { .. }) => {
            let found =
                to.try_call("listinvoices", json!({ "label": label })).await.map_err(|e| e.to_string())?;
            found["invoices"][0].clone()
        }
        Err(e) => return Err(e.to_string()),
    };
    text(&made, "bolt11").map_err(|e| e.to_string())
}

/// Waits until nothing is under way.
async fn wait_quiet(stage: &Stage) -> Result<(), DemoError> {
    for who in [Who::Alice, Who::Bob] {
        wait_for("the last HTLC to be gone", || async {
            let channel = channel(stage, who).await.map_err(|e| e.to_string())?;
            match channel["htlcs"].as_array().map_or(0, Vec::len) {
                0 => Ok(()),
                n => Err(format!("{n} left")),
            }
        })
        .await?;
    }
    Ok(())
}

/// Both sides' lists, counters and balances.
async fn compare(stage: &Stage, teller: &mut Teller, before: &[Value; 2]) -> Result<(), DemoError> {
    let after = [channel(stage, Who::Alice).await?, channel(stage, Who::Bob).await?];
    let sides = [(Who::Alice, &stage.alice, &stage.bob), (Who::Bob, &stage.bob, &stage.alice)];
    let mut moved = [0, 0];
    for (side, (who, from, to)) in sides.into_iter().enumerate() {
        let ours = (0..PAYMENTS).filter(|p| payer(*p) == who);
        let (count, sum) = ours.fold((0, 0), |(n, s), p| (n + 1, s + amount_msat(p)));
        moved[side] = sum;
        let once = paid_once(&from.line(), &to.line(), who).await?;
        let what = format!("{} paid {}: in both lists exactly once", from.name, to.name);
        teller.check(&what, once, count);
        let counted = number(&after[side], "out_payments_fulfilled")?
            - number(&before[side], "out_payments_fulfilled")?;
        teller.check(&format!("{}'s counter went up by", from.name), counted, count);
        let sent = number(&after[side], "out_fulfilled_msat")? - number(&before[side], "out_fulfilled_msat")?;
        teller.check_money(&format!("{} paid in all", from.name), sent, sum);
    }
    for (side, (_, one, _)) in sides.into_iter().enumerate() {
        let had = number(&before[side], "to_us_msat")?;
        let has = number(&after[side], "to_us_msat")?;
        teller.check_money(&format!("{} has", one.name), has, had + moved[1 - side] - moved[side]);
    }
    let (a, b) = (number(&after[0], "to_us_msat")?, number(&after[1], "to_us_msat")?);
    teller.check_money("together they have", a + b, number(&after[0], "total_msat")?);
    for (_, one, _) in sides {
        let balance = one.call("balance", json!({})).await?;
        let in_channels = number(&balance, "in_channels_msat")?;
        teller.say(&format!(
            "{}'s balance adds up term by term: {} BTC in the channel",
            one.name,
            short(in_channels)
        ));
    }
    Ok(())
}

/// How many of one side's small payments both lists show as paid exactly once.
async fn paid_once(from: &Line, to: &Line, who: Who) -> Result<u64, DemoError> {
    let pays = from.call("listpays", json!({ "status": "complete" })).await?;
    let mut complete: BTreeMap<String, u64> = BTreeMap::new();
    for pay in list(&pays, "pays")? {
        *complete.entry(text(pay, "payment_hash")?).or_default() += 1;
    }
    let invoices = to.call("listinvoices", json!({})).await?;
    let mut by_label: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for invoice in list(&invoices, "invoices")? {
        by_label.entry(text(invoice, "label")?).or_default().push(invoice);
    }
    let mut once = 0;
    for payment in (0..PAYMENTS).filter(|p| payer(*p) == who) {
        let Some([invoice]) = by_label.get(&label(payment)).map(Vec::as_slice) else { continue };
        let paid =
            invoice["status"] == "paid" && number(invoice, "amount_received_msat")? == amount_msat(payment);
        if paid && complete.get(&text(invoice, "payment_hash")?) == Some(&1) {
            once += 1;
        }
    }
    Ok(once)
}
