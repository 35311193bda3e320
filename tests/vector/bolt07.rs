//! BOLT 7's published queries, and its routing example's fees.
//!
//! In: `data/bolt07-queries.json`, which names its source. Out: verdicts on `chand_protocol::wire`: what is plain reads
//! as published and is written the same; what is compressed is refused, for that is not allowed any more.
//! Read next: `chand_protocol::wire::gossip`.

use chand_protocol::channel::policy::Policy;
use chand_protocol::id::{hex_array, hex_bytes, ShortChannelId};
use chand_protocol::units::Msat;
use chand_protocol::wire::codec::Malformed;
use chand_protocol::wire::{DecodeError, Message};
use serde_json::Value;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn scids(value: &Value) -> Vec<ShortChannelId> {
    let list = value["shortChannelIds"]["array"].as_array().expect("a list");
    list.iter().map(|id| id.as_str().and_then(|id| id.parse().ok()).expect("a short channel id")).collect()
}

fn pairs(list: &Value, first: &str, second: &str) -> Option<Vec<(u32, u32)>> {
    let list = list.as_array()?;
    Some(list.iter().map(|p| (number(&p[first]) as u32, number(&p[second]) as u32)).collect())
}

/// Field by field.
fn check(message: &Message, said: &Value) {
    let hash: [u8; 32] = hex_array(said["chainHash"].as_str().expect("a hash")).expect("hex");
    match message {
        Message::QueryChannelRange(m) => {
            assert_eq!(said["type"], "QueryChannelRange");
            assert_eq!(m.chain_hash, hash);
            assert_eq!(u64::from(m.first_blocknum.0), number(&said["firstBlockNum"]));
            assert_eq!(u64::from(m.number_of_blocks), number(&said["numberOfBlocks"]));
            let option = said["tlvStream"]["records"][0].as_str().map(|text| match text {
                "WANT_TIMESTAMPS | WANT_CHECKSUMS" => 3,
                other => panic!("an option that this test does not know: {other}"),
            });
            assert_eq!(m.query_option.map(|o| o.0), option);
        }
        Message::ReplyChannelRange(m) => {
            assert_eq!(said["type"], "ReplyChannelRange");
            assert_eq!(m.chain_hash, hash);
            assert_eq!(u64::from(m.first_blocknum.0), number(&said["firstBlockNum"]));
            assert_eq!(u64::from(m.number_of_blocks), number(&said["numberOfBlocks"]));
            assert_eq!(u64::from(m.sync_complete), number(&said["complete"]));
            assert_eq!(m.short_channel_ids.0, scids(said));
            let stamps = pairs(&said["timestamps"]["timestamps"], "timestamp1", "timestamp2");
            assert_eq!(m.timestamps.as_ref().map(|t| t.0.clone()), stamps);
            let sums = pairs(&said["checksums"]["checksums"], "checksum1", "checksum2");
            assert_eq!(m.checksums.as_ref().map(|c| c.0.clone()), sums);
        }
        Message::QueryShortChannelIds(m) => {
            assert_eq!(said["type"], "QueryShortChannelIds");
            assert_eq!(m.chain_hash, hash);
            assert_eq!(m.short_channel_ids.0, scids(said));
            assert_eq!(m.query_flags, None);
        }
        other => panic!("not a query: {other:?}"),
    }
}

#[test]
fn queries_as_published() {
    // BOLT 7 [7.query.1, 7.query.4, 7.query.5].
    let vectors: Value = serde_json::from_str(include_str!("data/bolt07-queries.json")).expect("JSON");
    let (mut plain, mut compressed) = (0, 0);
    for case in vectors["cases"].as_array().expect("a list") {
        let bytes = hex_bytes(case["hex"].as_str().expect("hex")).expect("hex");
        if case["msg"].to_string().contains("COMPRESSED_ZLIB") {
            let refused = Message::decode(&bytes);
            let encoding =
                |e: &DecodeError| matches!(e, DecodeError::Malformed { fault: Malformed::Encoding(_), .. });
            assert!(refused.as_ref().is_err_and(encoding), "{refused:?}");
            compressed += 1;
        } else {
            let message = Message::decode(&bytes).unwrap_or_else(|e| panic!("{e}: {case}"));
            check(&message, &case["msg"]);
            assert_eq!(message.encode().expect("encoded"), bytes);
            plain += 1;
        }
    }
    assert_eq!((plain, compressed), (5, 5));
}

/// "Routing Example": what B and D ask for forwarding 4,999,999 msat to C, and so what A offers each.
#[test]
fn fees_of_the_routing_example() {
    let amount = Msat(4_999_999);
    for (policy, fee, offered) in
        [(Policy::new(200, 2_000, 20), 10_199, 5_010_198), (Policy::new(400, 4_000, 40), 20_399, 5_020_398)]
    {
        assert_eq!(policy.fee(amount), Some(Msat(fee)));
        assert_eq!(amount.checked_add(Msat(fee)), Some(Msat(offered)));
    }
}
