//! A payment of LDK's in two parts, over two channels: more than either could carry.
//!
//! In: a channel opened by each side. Out: one invoice paid, once, by the sum of both.
//! Read next: `pair`.

use crate::pair::{Opener, Pair};
use chand_tests::books::msat;
use chand_tests::{wait_for, ChannelType};
use serde_json::json;

#[test]
fn ldk_pays_in_parts() {
    let mut pair = Pair::with_channel(Opener::Us, ChannelType::Anchors, 7);
    let (first, first_msat) = (pair.channel_id.clone(), pair.ours_msat);
    pair.opener = Opener::Ldk;
    pair.open();
    let limit = |id: &str| msat(&pair.ldk_channel_of(id), "next_htlc_limit_msat");
    let (one, other) = (limit(&first), limit(&pair.channel_id));
    let amount = one.max(other) + one.min(other) / 2;
    let label = pair.label();
    let before = pair.ours_msat + first_msat;
    let bolt11 = pair.us.invoice(amount, &label);
    pair.ldk.pay(&bolt11).expect("LDK begins to pay");
    pair.paid_by_ldk(&label, amount);
    wait_for("both channels to be quiet", || {
        let list = pair.us.call("listpeerchannels", json!({ "id": pair.ldk.id() }));
        let channels = list["channels"].as_array().expect("channels");
        assert_eq!(channels.len(), 2);
        let left: usize = channels.iter().map(|c| c["htlcs"].as_array().map_or(0, Vec::len)).sum();
        if left > 0 {
            return Err(format!("{left} HTLCs"));
        }
        let gains: Vec<u64> = channels.iter().map(|c| msat(c, "in_fulfilled_msat")).collect();
        assert_eq!(gains.iter().sum::<u64>(), amount, "the parts are the whole");
        assert!(gains.iter().all(|g| *g > 0), "each channel carried a part: {gains:?}");
        let ours: u64 = channels.iter().map(|c| msat(c, "to_us_msat")).sum();
        assert_eq!(ours, before + amount);
        Ok(())
    });
}
