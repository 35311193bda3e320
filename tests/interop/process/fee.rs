//! LDK changes the feerate of a channel that it opened: up and down.
//!
//! In: estimates of the embedded chain. Out: `update_fee`, as LDK sends it, taken and signed at.
//! LDK looks at its fees once a minute, so these tests are the long ones; most of that they wait.
//! Read next: `pair`.

use crate::close::close;
use crate::pair::{Opener, Pair};
use crate::steps::around_dust;
use chand_tests::wait::wait_within;
use chand_tests::ChannelType;
use serde_json::json;
use std::time::Duration;

/// Longer than a minute by a good deal.
const PATIENCE: Duration = Duration::from_secs(150);

fn ldk_changes_the_fee(kind: ChannelType, seed: u8) {
    let mut pair = Pair::with_channel(Opener::Ldk, kind, seed);
    // 5 satoshi a virtual byte, in coins per 1,000 of them.
    for method in ["setfeeestimate", "setmempoolminfee"] {
        pair.chain.call(method, json!([0.000_05]));
    }
    pair.ldk.call("sync");
    wait_within(PATIENCE, "LDK's update_fee", || match pair.our_channel()["feerate"]["perkw"].as_u64() {
        Some(1_250) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    pair.we_pay(7_000_001);
    pair.ldk_pays(9_000_002);
    pair.settled("at LDK's feerate");
    around_dust(&mut pair);
    // LDK reckons a close by weight and the pool by virtual bytes, which can be two satoshi more at the same rate.
    pair.chain.call("setmempoolminfee", json!([0]));
    close(&mut pair, Opener::Ldk);
}

#[test]
fn a_fee_of_ldks_with_anchors() {
    ldk_changes_the_fee(ChannelType::Anchors, 5);
}

#[test]
fn a_fee_of_ldks_with_static_remotekey() {
    ldk_changes_the_fee(ChannelType::StaticRemoteKey, 6);
}
