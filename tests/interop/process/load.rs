//! Payments under way while something breaks: a kill of either side, an orderly stop, a cut of the link.
//!
//! In: how often. Out: every payment complete for both or for neither, and every balance exact.
//! Nothing is timed: the blow falls when some of the payments have gone through and others have not.
//! Read next: `life`.

use crate::pair::Pair;
use chand_tests::books::msat;
use chand_tests::hash::{preimage, sha256};
use chand_tests::{wait_for, Client};
use serde_json::{json, Value};

/// Payments of each side in one round.
const PAYMENTS: u64 = 8;

/// What is under way.
struct Load {
    /// Invoices of LDK's that we pay: hash and amount.
    to_ldk: Vec<(String, u64)>,
    /// Invoices of ours that LDK pays: label, amount, and whether LDK began.
    to_us: Vec<(String, u64, bool)>,
    /// Where our answers would come.
    clients: Vec<Client>,
}

impl Pair {
    fn fulfilled(&self) -> u64 {
        let channel = self.our_channel();
        msat(&channel, "out_payments_fulfilled") + msat(&channel, "in_payments_fulfilled")
    }

    /// Begins payments both ways, and returns when so many of them have gone through.
    fn begin_load(&mut self, until: u64) -> Load {
        let before = self.fulfilled();
        let mut load = Load { to_ldk: Vec::new(), to_us: Vec::new(), clients: Vec::new() };
        for n in 0..PAYMENTS {
            let (amount, other) = (100_000 + n, 50_000 + n * 100_000);
            let (to_ldk, hash) = self.ldk.invoice(amount);
            let label = self.label();
            let to_us = self.us.invoice(other, &label);
            let mut client = self.us.client();
            client.send("pay", &json!({ "bolt11": to_ldk })).expect("asked");
            load.clients.push(client);
            load.to_ldk.push((hash, amount));
            let began = self.ldk.pay(&to_us).is_ok();
            load.to_us.push((label, other, began));
        }
        wait_for("payments to go through", || match self.fulfilled() - before {
            done if done >= until => Ok(()),
            done => Err(format!("{done} of {until}")),
        });
        load
    }

    /// Waits for the end of each payment, whatever it is, and counts what moved as we have it; LDK must have the same.
    fn end_load(&mut self, load: Load, when: &str) {
        drop(load.clients);
        wait_for(&format!("no payment under way ({when})"), || {
            let pays = self.us.call("listpays", json!({ "status": "pending" }));
            let left = self.our_channel()["htlcs"].as_array().map_or(0, Vec::len);
            match (pays["pays"].as_array().map_or(0, Vec::len), left) {
                (0, 0) => Ok(()),
                (pays, htlcs) => Err(format!("{pays} pending, {htlcs} HTLCs")),
            }
        });
        for (hash, amount) in &load.to_ldk {
            let pays = self.us.call("listpays", json!({ "payment_hash": hash }));
            // None at all, if the blow came before it was begun.
            if pays["pays"].as_array().expect("pays").iter().any(|p| p["status"] == "complete") {
                assert_eq!(msat(&self.ldk.wait_payment("payment-received", hash), "amount_msat"), *amount);
                self.ours_msat -= amount;
            } else {
                assert!(
                    !self.ldk_has("payment-received", hash),
                    "{when}: LDK has a payment that failed here"
                );
            }
        }
        for (label, amount, began) in &load.to_us {
            let invoice = self.us.invoice_of(label);
            let hash = invoice["payment_hash"].as_str().expect("payment_hash");
            if invoice["status"] == "paid" {
                assert!(began, "{when}: {label} is paid, and LDK says that it did not try");
                self.ldk.wait_payment("payment-successful", hash);
                self.ours_msat += amount;
            } else {
                assert!(!self.ldk_has("payment-successful", hash), "{when}: LDK paid what did not arrive");
            }
        }
        self.settled(when);
    }

    fn ldk_has(&self, name: &str, hash: &str) -> bool {
        self.ldk.events().iter().any(|e| e["event"] == name && e["payment_hash"] == hash)
    }

    /// How our payment of a hash stands.
    fn our_payment(&self, hash: &str) -> Value {
        self.us.call("listpays", json!({ "payment_hash": hash }))["pays"][0]["status"].clone()
    }

    fn wait_complete(&self, hash: &str) {
        wait_for("our payment to be complete", || match self.our_payment(hash) {
            status if status == "complete" => Ok(()),
            status => Err(status.to_string()),
        });
    }
}

/// kill -9 of chand: while both hold HTLCs, one of which LDK takes in its absence; then again and again under load.
pub fn kill_us(pair: &mut Pair, rounds: u64) {
    let name = format!("kill us {:?} {:?}", pair.opener, pair.kind);
    let (one, other) = (preimage(&name, 0), preimage(&name, 1));
    drop(pair.we_pay_held(10_000_000, &one));
    let label = pair.ldk_pays_held(12_000_000, &other);
    pair.us.kill();
    pair.ldk.call(&format!("claim {one} 10000000"));
    pair.us.launch();
    pair.wait_usable();
    pair.wait_complete(&sha256(&one));
    pair.us.call("settleinvoice", json!({ "preimage": other }));
    pair.paid_by_ldk(&label, 12_000_000);
    pair.ours_msat -= 10_000_000;
    pair.settled("we were killed while HTLCs were held");
    for round in 0..rounds {
        let load = pair.begin_load(2 * round);
        pair.us.kill_and_launch();
        pair.wait_usable();
        pair.end_load(load, &format!("we were killed under load, round {round}"));
    }
}

/// SIGKILL of LDK: while both hold HTLCs, one of which we take in its absence. Then orderly stops under load.
///
/// LDK keeps its channels and its watch over the chain in two writes, one after the other, and tells nobody when the
/// first is done. Killed in between it closes the channel by force, by design: no fault of ours to look for. So it is
/// killed when nothing changed since an orderly stop, after which both are on disk.
pub fn kill_ldk(pair: &mut Pair, rounds: u64) {
    let name = format!("kill LDK {:?} {:?}", pair.opener, pair.kind);
    let (one, other) = (preimage(&name, 0), preimage(&name, 1));
    drop(pair.we_pay_held(10_000_000, &one));
    let label = pair.ldk_pays_held(12_000_000, &other);
    pair.ldk.stop();
    pair.ldk.launch();
    pair.wait_usable();
    pair.ldk.kill();
    pair.us.call("settleinvoice", json!({ "preimage": other }));
    pair.ldk.launch();
    pair.wait_usable();
    pair.paid_by_ldk(&label, 12_000_000);
    pair.ldk.call(&format!("claim {one} 10000000"));
    pair.wait_complete(&sha256(&one));
    pair.ours_msat -= 10_000_000;
    pair.settled("LDK was killed while HTLCs were held");
    for round in 0..rounds {
        let load = pair.begin_load(3 * round);
        pair.ldk.stop();
        pair.ldk.launch();
        pair.wait_usable();
        pair.end_load(load, &format!("LDK was stopped under load, round {round}"));
    }
}

/// The link is cut under load, by each side in turn.
pub fn cut(pair: &mut Pair, rounds: u64) {
    for round in 0..rounds {
        let load = pair.begin_load(2 * round);
        if round % 2 == 0 {
            pair.us.call("disconnect", json!({ "id": pair.ldk.id(), "force": true }));
        } else {
            pair.ldk.call(&format!("disconnect {}", pair.us.id()));
        }
        pair.wait_usable();
        pair.end_load(load, &format!("cut under load, round {round}"));
    }
}
