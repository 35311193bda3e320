//! Closing by agreement: what each has on chain afterwards is read from the transaction's bytes.
//!
//! In: a pair with a channel in use, and who closes. Out: no channel, and coins.
//! Read next: `life`.

use crate::pair::{Opener, Pair, CAPACITY_SAT};
use chand_tests::books::msat;
use chand_tests::hash::preimage;
use chand_tests::{wait_for, wait_until};
use serde_json::{json, Value};

/// Bounds of a close's fee at the least feerate there is, in satoshi: the transaction weighs 672 and less.
const FEE_SAT: std::ops::Range<u64> = 150..3_000;

/// Closes the channel and checks both outputs.
pub fn close(pair: &mut Pair, by: Opener) {
    // Halves of a satoshi on both sides show who gets the rest: nobody.
    pair.we_pay(1_000_500);
    pair.settled("before the close");
    let before = Coins::of(pair);
    match by {
        Opener::Us => {
            let closed = pair.us.call("close", json!({ "id": pair.channel_id }));
            assert_eq!(closed["type"], "mutual", "{closed}");
        }
        Opener::Ldk => drop(pair.ldk.call(&format!("close {}", pair.channel_id))),
    }
    closed(pair, before);
}

/// LDK asks for a close while one of our HTLCs waits at it; we are killed in between; then it takes the HTLC.
pub fn close_over_an_htlc(pair: &mut Pair) {
    let secret = preimage(&format!("close {:?} {:?}", pair.opener, pair.kind), 0);
    let before = Coins::of(pair);
    drop(pair.we_pay_held(10_000_000, &secret));
    pair.ldk.call(&format!("close {}", pair.channel_id));
    let shutting = |pair: &Pair| {
        wait_for("the channel to shut down", || match pair.our_channel()["state"].clone() {
            state if state == "CHANNELD_SHUTTING_DOWN" => Ok(()),
            state => Err(state.to_string()),
        });
    };
    shutting(pair);
    pair.us.kill_and_launch();
    pair.connect();
    shutting(pair);
    assert_eq!(pair.chain.mempool(), Vec::<String>::new(), "nothing closes over an HTLC");
    pair.ldk.call(&format!("claim {secret} 10000000"));
    pair.ours_msat -= 10_000_000;
    closed(pair, before);
}

/// Confirmed coins of both, in satoshi.
struct Coins {
    ours: u64,
    ldks: u64,
}

impl Coins {
    fn of(pair: &Pair) -> Coins {
        Coins { ours: pair.us.wallet_sat(), ldks: pair.ldk_sat() }
    }
}

fn closed(pair: &Pair, before: Coins) {
    let txid = wait_for("one closing transaction", || {
        let pool = pair.chain.mempool();
        <[String; 1]>::try_from(pool).map(|[txid]| txid).map_err(|pool| format!("{pool:?}"))
    });
    let tx = pair.chain.transaction(&txid);
    assert_eq!(tx.input.len(), 1);
    assert_eq!(tx.input[0].previous_output.txid.to_string(), pair.funding_txid);
    assert_eq!(tx.output.len(), 2, "both have more than dust");
    pair.mine(1);
    // Both parts are whole satoshi below what each had; the opener pays the fee, and the rest goes with it.
    let theirs_msat = CAPACITY_SAT * 1000 - pair.ours_msat;
    let fee = CAPACITY_SAT - tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
    assert!(FEE_SAT.contains(&fee), "a fee of {fee} sat");
    let (ours, theirs) = match pair.opener {
        Opener::Us => (CAPACITY_SAT - theirs_msat / 1000 - fee, theirs_msat / 1000),
        Opener::Ldk => (pair.ours_msat / 1000, CAPACITY_SAT - pair.ours_msat / 1000 - fee),
    };
    let values: Vec<u64> = tx.output.iter().map(|o| o.value.to_sat()).collect();
    assert!(values.contains(&ours) && values.contains(&theirs), "{values:?} are not {ours} and {theirs}");
    // The coin in our wallet is the one with our part.
    let at = values.iter().position(|v| *v == ours).expect("just seen");
    wait_for("the coin in our wallet", || {
        let funds = pair.us.call("listfunds", json!({}));
        let mut coins = funds["outputs"].as_array().expect("outputs").iter();
        let coin = coins.find(|o| o["txid"] == *txid).ok_or_else(|| funds.to_string())?;
        assert_eq!(coin["output"], json!(at));
        assert_eq!(msat(coin, "amount_msat"), ours * 1000);
        Ok(())
    });
    wait_until("our coins", || pair.us.wallet_sat() == before.ours + ours);
    wait_for("LDK's coins", || match pair.ldk_sat() {
        now if now == before.ldks + theirs => Ok(()),
        now => Err(format!("{now}, not {} + {theirs}", before.ldks)),
    });
    wait_until("LDK to forget the channel", || pair.ldk_channel() == Value::Null);
    let list = pair.us.call("listclosedchannels", json!({ "id": pair.ldk.id() }));
    let mut entries = list["closedchannels"].as_array().expect("closedchannels").iter();
    let entry = entries.find(|e| e["channel_id"] == *pair.channel_id).unwrap_or_else(|| panic!("{list}"));
    assert_eq!(entry["cause"]["txids"], json!([txid]), "{entry}");
    assert_eq!(msat(entry, "final_to_us_msat"), pair.ours_msat, "{entry}");
}
