//! What the two do with their channel, one function each.
//!
//! In: a pair with a channel in use. Out: the same; every step ends with all books compared to the millisatoshi.
//! Read next: `load`, `life`.

use crate::ldk::text_and_hash;
use crate::pair::{Opener, Pair};
use chand_tests::books::msat;
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, wait_until, ChannelType, Client};
use serde_json::{json, Value};

/// How many payments of each side are under way at once in [`many_at_once`].
const AT_ONCE: u64 = 20;
/// Outputs below this are left out of commitments (BOLT 3), with both sides' dust limits as they are.
const DUST_MSAT: u64 = 354_000;

impl Pair {
    /// We pay LDK this much; both say that it arrived.
    pub fn we_pay(&mut self, amount_msat: u64) {
        let (bolt11, hash) = self.ldk.invoice(amount_msat);
        let paid = self.us.call("pay", json!({ "bolt11": bolt11 }));
        self.paid_by_us(&paid, &hash, amount_msat);
    }

    fn paid_by_us(&mut self, paid: &Value, hash: &str, amount_msat: u64) {
        assert_eq!(paid["status"], "complete", "{paid}");
        assert_eq!(paid["payment_hash"], hash);
        assert_eq!(sha256(paid["payment_preimage"].as_str().expect("a preimage")), hash);
        assert_eq!(msat(paid, "amount_sent_msat"), amount_msat, "a direct payment costs nothing");
        let received = self.ldk.wait_payment("payment-received", hash);
        assert_eq!(msat(&received, "amount_msat"), amount_msat);
        self.ours_msat -= amount_msat;
    }

    /// LDK pays us this much; both say that it arrived.
    pub fn ldk_pays(&mut self, amount_msat: u64) {
        let label = self.label();
        let bolt11 = self.us.invoice(amount_msat, &label);
        self.ldk.pay(&bolt11).expect("LDK begins to pay");
        self.paid_by_ldk(&label, amount_msat);
    }

    /// Waits for the end of a payment to the invoice of that label.
    pub fn paid_by_ldk(&mut self, label: &str, amount_msat: u64) {
        let hash = hash_of(&self.us.invoice_of(label));
        let end = self.ldk.outcome(&hash);
        assert_eq!(end["event"], "payment-successful", "{end}");
        assert_eq!(msat(&end, "fee_msat"), 0, "a direct payment costs nothing");
        assert_eq!(sha256(end["preimage"].as_str().expect("a preimage")), hash);
        let invoice = self.us.invoice_of(label);
        assert_eq!(invoice["status"], "paid", "{invoice}");
        assert_eq!(msat(&invoice, "amount_received_msat"), amount_msat);
        self.ours_msat += amount_msat;
    }

    /// Begins to pay an invoice of LDK's that waits for its word; the connection on which the answer will come.
    pub fn we_pay_held(&mut self, amount_msat: u64, secret: &str) -> Client {
        let (bolt11, hash) = self.ldk.hold_invoice(amount_msat, secret);
        let mut client = self.us.client();
        client.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
        self.ldk.wait_payment("payment-claimable", &hash);
        client
    }

    /// LDK begins to pay a hold invoice of ours; waits until we hold it. Its label is returned.
    pub fn ldk_pays_held(&mut self, amount_msat: u64, secret: &str) -> String {
        let label = self.label();
        let bolt11 = self.us.hold_invoice(amount_msat, &label, secret);
        self.ldk.pay(&bolt11).expect("LDK begins to pay");
        self.wait_held(&label);
        label
    }

    /// Waits until we hold what pays the invoice of that label.
    pub fn wait_held(&self, label: &str) {
        wait_for("the payment to be held", || {
            let invoice = self.us.invoice_of(label);
            if invoice["hold"] == "accepted" {
                Ok(())
            } else {
                Err(invoice.to_string())
            }
        });
    }
}

fn hash_of(invoice: &Value) -> String {
    invoice["payment_hash"].as_str().expect("payment_hash").to_string()
}

/// Invoices of both sides: large ones, odd ones, dust, the smallest, and those that leave the amount open.
pub fn pay_both_ways(pair: &mut Pair) {
    for amount in [50_000_000, 1, 999, DUST_MSAT - 1, DUST_MSAT, 1_000_001] {
        pair.we_pay(amount);
        pair.ldk_pays(amount + 1_500);
    }
    let (bolt11, hash) = text_and_hash(&pair.ldk.call("invoice any"));
    let paid = pair.us.call("pay", json!({ "bolt11": bolt11, "amount_msat": 1_234_567 }));
    pair.paid_by_us(&paid, &hash, 1_234_567);
    let label = pair.label();
    let open = json!({ "amount_msat": "any", "label": label, "description": "tea" });
    let bolt11 = pair.us.call("invoice", open)["bolt11"].as_str().expect("bolt11").to_string();
    pair.ldk.call(&format!("pay {bolt11} 7654321"));
    pair.paid_by_ldk(&label, 7_654_321);
    pair.settled("paid both ways");
}

/// Payments without an invoice, both ways.
pub fn keysend_both_ways(pair: &mut Pair) {
    let sent = pair.us.call("keysend", json!({ "destination": pair.ldk.id(), "amount_msat": 3_000_001 }));
    let hash = hash_of(&sent);
    pair.paid_by_us(&sent, &hash, 3_000_001);
    let begun = pair.ldk.call(&format!("keysend {} 4000003", pair.us.id()));
    let hash = hash_of(&begun);
    let end = pair.ldk.outcome(&hash);
    assert_eq!(end["event"], "payment-successful", "{end}");
    let list = pair.us.call("listinvoices", json!({ "payment_hash": hash }));
    assert_eq!(list["invoices"][0]["status"], "paid", "{list}");
    assert_eq!(msat(&list["invoices"][0], "amount_received_msat"), 4_000_003);
    pair.ours_msat += 4_000_003;
    pair.settled("keysend both ways");
}

/// Twenty payments each way at the same time.
pub fn many_at_once(pair: &mut Pair) {
    let theirs: Vec<(String, String)> = (0..AT_ONCE).map(|n| pair.ldk.invoice(4_000_000 + n)).collect();
    let labels: Vec<String> = (0..AT_ONCE).map(|_| pair.label()).collect();
    let ours: Vec<String> =
        labels.iter().zip(0..).map(|(label, n)| pair.us.invoice(3_000_000 + n, label)).collect();
    let mut clients = Vec::new();
    for ((to_ldk, _), to_us) in theirs.iter().zip(&ours) {
        let mut client = pair.us.client();
        client.send("pay", &json!({ "bolt11": to_ldk })).expect("asked");
        clients.push(client);
        pair.ldk.pay(to_us).expect("LDK begins to pay");
    }
    for (n, (mut client, (_, hash))) in (0..).zip(clients.into_iter().zip(&theirs)) {
        let paid = client.receive().expect("an answer").1.expect("paid");
        pair.paid_by_us(&paid, hash, 4_000_000 + n);
    }
    for (n, label) in (0..).zip(&labels) {
        pair.paid_by_ldk(label, 3_000_000 + n);
    }
    pair.settled("many at once");
}

/// HTLCs that wait for a word: taken, and given back, both ways.
pub fn hold_both_ways(pair: &mut Pair) {
    let name = format!("{:?} {:?}", pair.opener, pair.kind);
    let before = pair.ours_msat;
    let secrets: Vec<String> = (0..4).map(|n| preimage(&name, n)).collect();
    let mut taken = pair.we_pay_held(10_000_000, &secrets[0]);
    let mut returned = pair.we_pay_held(11_000_000, &secrets[1]);
    let to_take = pair.ldk_pays_held(12_000_000, &secrets[2]);
    let to_return = pair.ldk_pays_held(13_000_000, &secrets[3]);
    let held = pair.our_channel();
    assert_eq!(held["htlcs"].as_array().map(Vec::len), Some(4), "{held}");
    assert_eq!(msat(&held, "to_us_msat"), before, "an offered HTLC is still the offerer's");

    pair.ldk.call(&format!("claim {} 10000000", secrets[0]));
    let paid = taken.receive().expect("an answer").1.expect("paid");
    assert_eq!(paid["payment_preimage"], secrets[0]);
    pair.ldk.call(&format!("fail {}", sha256(&secrets[1])));
    let refused = returned.receive().expect("an answer").1.expect_err("given back");
    assert_eq!(refused.code(), Some(203), "{refused}");
    pair.us.call("settleinvoice", json!({ "preimage": secrets[2] }));
    pair.paid_by_ldk(&to_take, 12_000_000);
    pair.us.call("cancelinvoice", json!({ "payment_hash": sha256(&secrets[3]) }));
    assert_eq!(pair.ldk.outcome(&sha256(&secrets[3]))["event"], "payment-failed");
    assert_eq!(pair.us.invoice_of(&to_return)["hold"], "cancelled");
    pair.ours_msat -= 10_000_000;
    pair.settled("held, taken and given back");
}

/// Payments that must not arrive: LDK reads our onions well enough to say why, and we read its errors.
pub fn refused_both_ways(pair: &mut Pair) {
    let (bolt11, hash) = pair.ldk.invoice(5_000_000);
    let secret = pair.us.call("decode", json!({ "string": bolt11 }))["payment_secret"].clone();
    let unknown = preimage("nobody asked for it", 0);
    // Hash, secret, amount, blocks until it expires: what is wrong with each.
    let wrong = [
        (json!(unknown), json!(unknown), 5_000_000, 42, "an unknown hash"),
        (json!(hash), secret.clone(), 1_000_000, 42, "too little"),
        (json!(hash), json!(unknown), 5_000_000, 42, "a wrong secret"),
        (json!(hash), secret, 5_000_000, 3, "too soon"),
    ];
    for (hash, secret, amount, delay, what) in wrong {
        let scid = &pair.our_channel()["short_channel_id"];
        let hop = json!({ "id": pair.ldk.id(), "channel": scid, "delay": delay, "amount_msat": amount });
        let send = json!({ "route": [hop], "payment_hash": hash, "payment_secret": secret });
        pair.us.call("sendpay", send);
        let error = pair.us.refusal("waitsendpay", json!({ "payment_hash": hash }));
        assert!(error.to_string().contains("incorrect_or_unknown_payment_details"), "{what}: {error}");
    }
    // What LDK tries in vain: an invoice that we forgot.
    let label = pair.label();
    let bolt11 = pair.us.invoice(2_000_000, &label);
    let hash = hash_of(&pair.us.invoice_of(&label));
    pair.us.call("delinvoice", json!({ "label": label, "status": "unpaid" }));
    pair.ldk.pay(&bolt11).expect("LDK begins to pay");
    let end = pair.ldk.outcome(&hash);
    assert_eq!(end["event"], "payment-failed", "{end}");
    // The payee's error came through the onion: LDK knows that it was the payee's word, and gives up at once.
    assert_eq!(end["reason"], "RecipientRejected", "{end}");
    pair.settled("refused both ways");
}

/// We change the feerate of a channel that we opened; LDK signs at each, with HTLCs at all of them.
pub fn change_fees(pair: &mut Pair) {
    assert_eq!(pair.opener, Opener::Us);
    for feerate in [500, 2_000, 253, 1_000] {
        pair.us.call("dev-feerate", json!({ "id": pair.channel_id, "feerate": feerate }));
        wait_until("LDK at the new feerate", || pair.ldk_channel()["feerate_per_kw"] == feerate);
        pair.we_pay(1_000_000);
        pair.ldk_pays(1_100_000);
        pair.settled("at another feerate");
    }
}

/// Held HTLCs on both sides of every threshold at which an HTLC gets an output, both ways.
pub fn around_dust(pair: &mut Pair) {
    let perkw = msat(&pair.our_channel()["feerate"], "perkw");
    let thresholds = match pair.kind {
        ChannelType::Anchors => vec![DUST_MSAT],
        // HTLC-timeout and HTLC-success weigh 663 and 703 (BOLT 3).
        ChannelType::StaticRemoteKey => [663, 703].map(|w| DUST_MSAT + perkw * w / 1000 * 1000).to_vec(),
    };
    let name = format!("dust {:?} {:?} {perkw}", pair.opener, pair.kind);
    let mut number = 0;
    let (mut to_ldk, mut to_us) = (Vec::new(), Vec::new());
    for amount in thresholds.iter().flat_map(|t| [t - 1_000, t - 1, *t, t + 999]) {
        number += 2;
        let (secret, other) = (preimage(&name, number), preimage(&name, number + 1));
        let client = pair.we_pay_held(amount, &secret);
        let label = pair.ldk_pays_held(amount, &other);
        to_ldk.push((amount, secret, client));
        to_us.push((amount, other, label));
    }
    for (n, (amount, secret, mut client)) in to_ldk.into_iter().enumerate() {
        let take = n % 2 == 0;
        let word =
            if take { format!("claim {secret} {amount}") } else { format!("fail {}", sha256(&secret)) };
        pair.ldk.call(&word);
        assert_eq!(client.receive().expect("an answer").1.is_ok(), take);
        pair.ours_msat -= if take { amount } else { 0 };
    }
    for (n, (amount, secret, label)) in to_us.into_iter().enumerate() {
        if n % 2 == 0 {
            pair.us.call("settleinvoice", json!({ "preimage": secret }));
            pair.paid_by_ldk(&label, amount);
        } else {
            pair.us.call("cancelinvoice", json!({ "payment_hash": sha256(&secret) }));
            assert_eq!(pair.ldk.outcome(&sha256(&secret))["event"], "payment-failed");
        }
    }
    pair.settled("around dust");
}
