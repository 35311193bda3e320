//! Payments that find their way between real processes: what one node announces, another pays over.
//!
//! In: four nodes whose channels are public. Out: a route without anybody's help, its price, the words when there is none.
//! Read next: `line`; `tests/scenario/routes.rs` for what can go wrong on the way.

use crate::line::{ready, Line};
use chand_tests::books::{balance_adds_up, msat};
use serde_json::json;

#[test]
fn alice_finds_dave_and_each_on_the_way_earns_what_it_announced() {
    let mut line = Line::new(true);
    let before = line.money();
    let (alice, dave) = (&line.world.alice, &line.dave);
    let bolt11 = dave.invoice(5_000_000_000, "the seed's");
    // Four percent are more than Alice pays unasked.
    let refused = alice.refusal("pay", json!({ "bolt11": bolt11 }));
    let words = refused.to_string();
    assert!(
        refused.code() == Some(205) && words.contains("fee") && words.contains("No money moved"),
        "{words}"
    );
    let route = alice.call("getroute", json!({ "id": dave.id(), "amount_msat": 5_000_000_000_u64 }));
    let hops = route["route"].as_array().expect("hops");
    let amounts: Vec<u64> = hops.iter().map(|hop| msat(hop, "amount_msat")).collect();
    assert_eq!(amounts, [5_200_000_000, 5_100_000_000, 5_000_000_000]);
    let delays: Vec<u64> = hops.iter().filter_map(|hop| hop["delay"].as_u64()).collect();
    assert_eq!([delays[0] - delays[1], delays[1] - delays[2]], [144, 144], "a day apart");
    let paid = alice.call("pay", json!({ "bolt11": bolt11, "maxfee": 200_000_000 }));
    assert_eq!((msat(&paid, "amount_sent_msat"), paid["parts"].as_u64()), (5_200_000_000, Some(1)));
    line.wait_no_htlcs();
    let moved: Vec<i64> =
        line.money().iter().zip(before).map(|(now, then)| *now as i64 - then as i64).collect();
    assert_eq!(moved, [-5_200_000_000, 100_000_000, 100_000_000, 5_000_000_000]);

    // After a restart she knows the network before she is told of it.
    line.world.alice.kill_and_launch();
    ready(&line.world.alice, &line.world.bob);
    Line::wait_map(&line.world.alice);
    let bolt11 = line.dave.invoice(1_000_000_000, "once more");
    let paid = line.world.alice.call("pay", json!({ "bolt11": bolt11, "maxfee": 200_000_000 }));
    assert_eq!(msat(&paid, "amount_sent_msat"), 1_200_000_000);
    line.wait_no_htlcs();
    line.nodes().into_iter().for_each(balance_adds_up);
}
