//! An invoice that does not name its maker, between real processes: Alice pays Dave and never learns who he is.
//!
//! In: four nodes whose channels are public. Out: what `decode` shows, what each earned; the same when those on the way are
//! killed while the payment is held. Read next: `line`; `tests/scenario/blinded.rs` for what can go wrong on the way.

use crate::line::{ready, Line};
use chand_tests::books::{balance_adds_up, msat};
use chand_tests::hash::{preimage, sha256};
use chand_tests::wait_for;
use serde_json::json;

const AMOUNT_MSAT: u64 = 5_000_000_000;

#[test]
fn alice_pays_an_invoice_that_names_nobody() {
    let mut line = Line::new(true);
    let before = line.money();
    let (dave, carol) = (line.dave.id().to_string(), line.carol.id().to_string());
    let params =
        json!({ "amount_msat": AMOUNT_MSAT, "label": "hidden", "description": "tea", "blinded": true });
    let bolt11 = line.dave.call("invoice", params)["bolt11"].as_str().expect("bolt11").to_string();
    let decoded = line.world.alice.call("decode", json!({ "string": bolt11 }));
    assert!(!decoded.to_string().contains(&dave), "{decoded}");
    let paths = decoded["blinded_paths"].as_array().expect("blinded_paths");
    assert_eq!((paths.len(), paths[0]["first_node_id"].as_str()), (1, Some(carol.as_str())));
    assert_eq!(paths[0]["path"].as_array().map(Vec::len), Some(3));
    assert_eq!(paths[0]["payinfo"]["fee_base_msat"], 100_000_000);
    assert!(decoded.get("payment_secret").is_none());
    let paid = line.world.alice.call("pay", json!({ "bolt11": bolt11, "maxfee": 200_000_000 }));
    assert_eq!((msat(&paid, "amount_sent_msat"), paid["parts"].as_u64()), (5_200_000_000, Some(1)));
    assert!(!paid.to_string().contains(&dave), "{paid}");
    line.wait_no_htlcs();
    let moved = |line: &Line, before: [u64; 4]| -> Vec<i64> {
        line.money().iter().zip(before).map(|(now, then)| *now as i64 - then as i64).collect()
    };
    assert_eq!(moved(&line, before), [-5_200_000_000, 100_000_000, 100_000_000, 5_000_000_000]);

    // Held, and both who sent it on are killed meanwhile: the path key of what is under way survives.
    let before = line.money();
    let secret = preimage("held", 0);
    let params = json!({
        "payment_hash": sha256(&secret), "amount_msat": 1_000_000_000_u64, "label": "held", "description": "tea", "blinded": true,
    });
    let bolt11 = line.dave.call("holdinvoice", params)["bolt11"].as_str().expect("bolt11").to_string();
    std::thread::scope(|scope| {
        let alice = &line.world.alice;
        let order = json!({ "invstring": bolt11, "maxfee": 200_000_000 });
        let waiting = scope.spawn(move || alice.call("xpay", order));
        wait_for("Dave to hold it", || match line.dave.invoice_of("held") {
            invoice if invoice["hold"] == "accepted" => Ok(()),
            invoice => Err(invoice.to_string()),
        });
        line.world.bob.kill_and_launch();
        line.carol.kill_and_launch();
        line.dave.call("settleinvoice", json!({ "preimage": secret }));
        assert_eq!(waiting.join().expect("an answer")["payment_preimage"], json!(secret));
    });
    line.wait_no_htlcs();
    assert_eq!(moved(&line, before), [-1_200_000_000, 100_000_000, 100_000_000, 1_000_000_000]);

    // What Dave does not take comes back from where the path begins, and the words say no more than that.
    for (node, peer) in [(0, 1), (1, 2), (2, 3)] {
        ready(line.nodes()[node], line.nodes()[peer]);
        ready(line.nodes()[peer], line.nodes()[node]);
    }
    let params =
        json!({ "amount_msat": 1_000_000_000_u64, "label": "gone", "description": "tea", "blinded": true });
    let bolt11 = line.dave.call("invoice", params)["bolt11"].as_str().expect("bolt11").to_string();
    line.dave.call("delinvoice", json!({ "label": "gone", "status": "unpaid" }));
    let before = line.money();
    let refused = line.world.alice.refusal("pay", json!({ "bolt11": bolt11, "maxfee": 600_000_000 }));
    let words = refused.to_string();
    assert!(words.contains("invalid_onion_blinding") && words.contains(&carol), "{words}");
    assert!(!words.contains(&dave), "{words}");
    line.wait_no_htlcs();
    assert_eq!(line.money(), before);
    line.nodes().into_iter().for_each(balance_adds_up);
}
