//! LDK in the middle of two of ours, killed and stopped again and again while payments cross it both ways.
//!
//! In: how often. Out: every payment complete for payer and payee or for neither, what left the one and what reached the other in their
//! balances to the millisatoshi, and no channel closed by anybody.
//!
//! LDK keeps channels and chain watcher in two writes and closes by force when it is killed in between (`load`). So it gets SIGKILL
//! while HTLCs of both directions wait in it and nothing changed since an orderly stop; what was decided while it was gone, and new
//! payments, meet it when it comes back. The orderly stops fall into the traffic.
//! Read next: `row`, `network`.

use crate::row::Row;
use chand_tests::books::msat;
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, Node};
use serde_json::{json, Value};

const ROUNDS: u64 = 4;
/// Payments each way of one kind in a round: with all kinds fewer than LDK takes at once, and less than it lets into a channel.
const EACH_WAY: u64 = 4;

/// Who pays whom, for what, and whether the payee holds it.
struct Payment {
    from_alice: bool,
    label: String,
    amount_msat: u64,
    hash: String,
    secret: Option<String>,
}

impl Payment {
    fn ends<'a>(&self, row: &'a Row) -> (&'a Node, &'a Node) {
        if self.from_alice {
            (&row.alice, &row.bob)
        } else {
            (&row.bob, &row.alice)
        }
    }
}

/// Begins payments both ways; nobody waits for their answers.
fn begin(row: &Row, name: &str, held: bool) -> Vec<Payment> {
    let mut all = Vec::new();
    for n in 0..EACH_WAY {
        for from_alice in [true, false] {
            let label = format!("{name}, {} {n}", if from_alice { "Alice pays" } else { "Bob pays" });
            // Each sum shows which payments it is made of.
            let amount_msat = 1_000_000 + all.len() as u64 * 10_007 + label.len() as u64;
            let secret = held.then(|| preimage(&label, 0));
            let mut payment = Payment { from_alice, label, amount_msat, hash: String::new(), secret };
            let (payer, payee) = payment.ends(row);
            let bolt11 = match &payment.secret {
                Some(secret) => payee.hold_invoice(amount_msat, &payment.label, secret),
                None => payee.invoice(amount_msat, &payment.label),
            };
            payment.hash =
                payee.invoice_of(&payment.label)["payment_hash"].as_str().expect("a hash").to_string();
            payer.client().send("pay", &json!({ "bolt11": bolt11, "retry_for": 60 })).expect("asked");
            all.push(payment);
        }
    }
    all
}

/// The payees take every second one and give the others back.
fn decide(row: &Row, payments: &[Payment]) {
    for (n, payment) in payments.iter().enumerate() {
        let (_, payee) = payment.ends(row);
        let secret = payment.secret.as_ref().expect("a held payment");
        if n / 2 % 2 == 0 {
            payee.call("settleinvoice", json!({ "preimage": secret }));
        } else {
            payee.call("cancelinvoice", json!({ "payment_hash": sha256(secret) }));
        }
    }
}

/// The payer's word on it; nothing while it was not begun.
fn word(payer: &Node, payment: &Payment) -> Value {
    payer.call("listpays", json!({ "payment_hash": payment.hash }))["pays"][0].clone()
}

fn wait_ended(row: &Row, payments: &[Payment]) {
    for payment in payments {
        let (payer, _) = payment.ends(row);
        wait_for(&format!("the end of “{}”", payment.label), || match word(payer, payment) {
            pay if pay["status"] == "complete" || pay["status"] == "failed" => Ok(()),
            pay => Err(pay.to_string()),
        });
    }
}

/// What each of ours has in its channel with LDK.
fn shares(row: &Row) -> [u64; 2] {
    [&row.alice, &row.bob].map(|node| {
        let list = node.call("listpeerchannels", json!({ "id": row.ldk.id() }));
        assert_eq!(list["channels"].as_array().map(Vec::len), Some(1), "{list}");
        msat(&list["channels"][0], "to_us_msat")
    })
}

/// Payer and payee say the same of each; what moved, of Alice's and of Bob's money.
fn moved(row: &Row, payments: &[Payment]) -> ([i64; 2], usize) {
    let (mut moved, mut arrived) = ([0; 2], 0);
    for payment in payments {
        let (payer, payee) = payment.ends(row);
        let (pay, invoice) = (word(payer, payment), payee.invoice_of(&payment.label));
        let paid = pay["status"] == "complete";
        assert_eq!(paid, invoice["status"] == "paid", "“{}”: {pay}, {invoice}", payment.label);
        if !paid {
            continue;
        }
        assert_eq!(sha256(pay["preimage"].as_str().expect("a receipt")), payment.hash);
        let received = msat(&invoice, "amount_received_msat");
        assert_eq!(received, payment.amount_msat, "“{}”", payment.label);
        let [from, to] = if payment.from_alice { [0, 1] } else { [1, 0] };
        moved[from] -= msat(&pay, "amount_sent_msat") as i64;
        moved[to] += received as i64;
        arrived += 1;
    }
    (moved, arrived)
}

#[test]
fn payments_through_ldk_end_exactly_however_often_it_dies() {
    let mut row = Row::new(19, 1);
    let before = shares(&row);
    let mut all: Vec<Payment> = Vec::new();
    for round in 0..ROUNDS {
        let held = begin(&row, &format!("held {round}"), true);
        for payment in &held {
            row.wait_held(payment.ends(&row).1, &payment.label);
        }
        // All that is under way is on LDK's disk after this; what it is killed with is there again.
        row.ldk.stop();
        row.ldk_again();
        row.ldk.kill();
        decide(&row, &held);
        row.ldk_again();
        // Secrets and failures of the dead time, and new payments, cross each other.
        let fresh = begin(&row, &format!("fresh {round}"), false);
        wait_ended(&row, &held);
        row.ldk.stop();
        row.ldk_again();
        wait_ended(&row, &fresh);
        // Nothing changed since: killed at rest, it forgets nothing.
        row.at_rest();
        row.ldk.stop();
        row.ldk_again();
        row.ldk.kill();
        row.ldk_again();
        all.extend(held);
        all.extend(fresh);
    }
    wait_ended(&row, &all);
    row.at_rest();
    let (moved, arrived) = moved(&row, &all);
    // Of the held ones half; of the others whichever did not meet a stop.
    let taken = usize::try_from(ROUNDS * EACH_WAY).expect("a count");
    assert!(arrived >= taken, "{arrived} of {}", all.len());
    let expected = [0, 1].map(|seat| before[seat] as i64 + moved[seat]);
    assert_eq!(shares(&row).map(|share| share as i64), expected, "{before:?} and {moved:?}");
    let closed: Vec<Value> =
        row.ldk.events().into_iter().filter(|event| event["event"] == "channel-closed").collect();
    assert!(closed.is_empty(), "LDK closed: {closed:?}");
    for node in [&row.alice, &row.bob] {
        let list = node.call("listpeerchannels", json!({ "id": row.ldk.id() }));
        assert_eq!(list["channels"][0]["state"], "CHANNELD_NORMAL", "{list}");
        assert_eq!(node.call("listclosedchannels", json!({}))["closedchannels"], json!([]));
    }
}
