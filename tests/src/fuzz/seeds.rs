//! Inputs to begin with: the BOLTs' published examples, and what two real nodes say to each other.
//!
//! In: the vectors of `tests/vector/data`, a short life of a channel. Out: bytes. Read next: `super::hunt`.

use super::invoice::strings;
use crate::duet::play::Open;
use crate::duet::{Duet, ALICE, BOB};
use chand_protocol::id::hex_bytes;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("the vector file is JSON")
}

/// Every hex string in a vector file.
fn hex_in(text: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    strings(&json(text), &mut found);
    let bytes = found.iter().filter_map(|text| hex_bytes(text.strip_prefix("0x").unwrap_or(text)).ok());
    bytes.filter(|bytes| !bytes.is_empty() && bytes.len() < 2_000).collect()
}

/// The published messages, and one of each kind that two nodes exchange in their life.
pub fn messages() -> Vec<Vec<u8>> {
    let published = json(include_str!("../../vector/data/bolt01-messages.json"));
    let list = published["messages"].as_array().expect("messages").iter();
    let mut seeds: Vec<Vec<u8>> = list
        .filter_map(|m| {
            let kind = u16::try_from(m["type"].as_u64()?).ok()?;
            Some([&kind.to_be_bytes()[..], &hex_bytes(m["payload"].as_str()?).ok()?].concat())
        })
        .collect();
    let mut kinds = Vec::new();
    for (_, bytes) in spoken() {
        let kind = bytes.get(..2).map(<[u8]>::to_vec);
        if !kinds.contains(&kind) {
            kinds.push(kind);
            seeds.push(bytes);
        }
    }
    seeds
}

/// All that is said from the first word to a close by agreement.
fn spoken() -> Vec<(usize, Vec<u8>)> {
    let mut duet = Duet::with(5, |_, config| config.simple_close = false);
    duet.tracing = true;
    duet.check_every = 0;
    duet.connect();
    duet.open(Open::default());
    duet.pay(ALICE, "tea", 50_000_000);
    duet.pay_held(BOB, 1, 3_000_000);
    duet.cut(None);
    duet.settle();
    let hash = crate::duet::play::preimage(1).hash();
    duet.must(ALICE, chand_protocol::node::command::Command::CancelInvoice { payment_hash: hash });
    let order = duet.close_order();
    duet.tell(BOB, order);
    duet.run();
    std::mem::take(&mut duet.trace)
}

/// Streams, numbers.
pub fn tlvs() -> Vec<Vec<u8>> {
    let mut seeds = hex_in(include_str!("../../vector/data/bolt01-tlv.json"));
    seeds.extend(hex_in(include_str!("../../vector/data/bolt01-bigsize.json")));
    seeds
}

/// Feature bits, each behind the length of the first of two sets.
pub fn features() -> Vec<Vec<u8>> {
    let sets = hex_in(include_str!("../../vector/data/bolt01-features.json"));
    let ours = chand_protocol::wire::features::Features::ours_init(true);
    let pair = |set: &Vec<u8>| [&(set.len() as u16).to_be_bytes()[..], set, ours.as_bytes()].concat();
    let own = pair(&ours.as_bytes().to_vec());
    sets.iter().map(pair).chain([own]).collect()
}

/// For targets whose every input makes sense.
pub fn few() -> Vec<Vec<u8>> {
    let bytes = |n: u8| (0..24).map(|k: u8| n.wrapping_mul(37).wrapping_add(k.wrapping_mul(n))).collect();
    (0..18).map(bytes).chain((0..6).map(|n| vec![n, 1, 0, 1])).collect()
}

/// One to three real layers, each behind its length.
pub fn sealed() -> Vec<Vec<u8>> {
    let layers = super::onion::payload_seeds();
    let framed: Vec<Vec<u8>> =
        layers.iter().map(|layer| [&(layer.len() as u16).to_be_bytes()[..], layer].concat()).collect();
    (0..3_u8)
        .map(|hops| {
            [vec![hops], framed.iter().take(usize::from(hops) + 1).flatten().copied().collect()].concat()
        })
        .collect()
}

/// The published failures, as messages and on their way.
pub fn failures() -> Vec<Vec<u8>> {
    let mut seeds = hex_in(include_str!("../../vector/data/bolt04-errors.json"));
    seeds.extend(hex_in(include_str!("../../vector/data/bolt04-error-short.json")));
    seeds.sort();
    seeds.dedup();
    seeds.truncate(30);
    seeds.extend([vec![0, 0, 0], vec![1, 0, 0], vec![0x40, 0x0f, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 9]]);
    seeds
}
