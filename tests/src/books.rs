//! Do the books add up?
//!
//! In: what both nodes say of their one channel. Out: a panic that names the sum that is wrong.
//! Read next: the tests in `tests/process`.

use crate::node::Node;
use serde_json::{json, Value};

/// Reads an amount.
///
/// # Panics
/// When it is not there.
pub fn msat(of: &Value, field: &str) -> u64 {
    of[field].as_u64().unwrap_or_else(|| panic!("{field} is missing in {of}"))
}

/// What each has in the one channel between them: no millisatoshi is missing and none is too many.
/// Holds at rest and with HTLCs in flight, as each counts its own offered ones as its own.
///
/// # Panics
/// When the sum is not the capacity.
pub fn shares(one: &Node, other: &Node) -> (u64, u64) {
    let (a, b) = (one.channel(other), other.channel(one));
    let (ours, theirs, total) = (msat(&a, "to_us_msat"), msat(&b, "to_us_msat"), msat(&a, "total_msat"));
    assert_eq!(total, msat(&b, "total_msat"), "the capacity is the same for both");
    assert_eq!(ours + theirs, total, "{} has {ours}, {} has {theirs}", one.name(), other.name());
    (ours, theirs)
}

/// The terms of `balance` add up, for every channel of a node.
///
/// # Panics
/// When they do not.
pub fn balance_adds_up(node: &Node) {
    let balance = node.call("balance", json!({}));
    for channel in balance["channels"].as_array().expect("balance.channels") {
        let terms = [
            "spendable_msat",
            "our_reserve_msat",
            "commit_fee_msat",
            "anchors_msat",
            "htlcs_out_msat",
            "htlcs_in_msat",
            "their_msat",
        ];
        let sum: u64 = terms.iter().map(|term| msat(channel, term)).sum();
        assert_eq!(sum, msat(channel, "total_msat"), "{} of {}", channel, node.name());
    }
}
