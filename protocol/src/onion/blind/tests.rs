//! Paths made and walked: what each hop finds, sums that suffice, and nothing that stops a node.

use super::*;
use crate::id::ShortChannelId;
use crate::onion::payload::Payload;
use crate::onion::sphinx::{build, peel};
use crate::units::{Height, Msat};
use crate::wire::features::Features;
use alloc::vec;
use secp256k1::All;

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).expect("a key")
}

fn relay(n: u32) -> Relay {
    Relay {
        cltv_expiry_delta: 40 + n as u16,
        fee_proportional_millionths: n * 977,
        fee_base_msat: 1_000 + n * 13,
    }
}

fn limits() -> Constraints {
    Constraints { max_cltv_expiry: Height(800_900), htlc_minimum: Msat(1) }
}

/// A path over the nodes with keys 1 to `count`, the last of them its payee.
fn path(count: u8, secp: &Secp256k1<All>) -> (BlindedPath, Vec<Relay>) {
    let relays: Vec<Relay> = (1..count).map(|n| relay(n.into())).collect();
    let mut hops: Vec<HopData> = relays
        .iter()
        .zip(1u64..)
        .map(|(relay, n)| HopData {
            short_channel_id: Some(ShortChannelId(n)),
            payment_relay: Some(*relay),
            payment_constraints: Some(limits()),
            ..HopData::default()
        })
        .collect();
    hops.push(HopData { path_id: Some(vec![7; 32]), ..HopData::default() });
    let nodes = (1..=count).map(|n| key(n).public_key(secp));
    let hops: Vec<_> = nodes.zip(HopData::encode_alike(&hops)).collect();
    (BlindedPath::make(&key(99), &hops, secp).expect("a path"), relays)
}

#[test]
fn a_payment_walks_a_path_and_enough_arrives() {
    let secp = Secp256k1::new();
    for (count, amount) in [(1u8, 5_000u64), (2, 1), (2, 999_983), (4, 100_000_007), (6, 21_000_000_000)] {
        let (path, relays) = path(count, &secp);
        let lengths: Vec<usize> = path.hops.iter().map(|hop| hop.encrypted_data.len()).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
        let info = PayInfo::total(&relays, 18).expect("sums");
        let (mut held, mut expiry) =
            (info.entering(Msat(amount)).expect("msat"), Height(800_000 + u32::from(info.cltv_expiry_delta)));
        let layers = PayPath::new(info, path).layers(Msat(amount), Height(800_000), Msat(amount));
        let mut packet = build(&key(98), &layers, &[3; 32], &secp).expect("it fits").packet;
        let mut path_key: Option<PublicKey> = None;
        for n in 1..=count {
            let own = path_key.map_or(key(n), |path_key| blinded_key(&path_key, &key(n)).expect("a key"));
            let peeled = peel(&packet, &own, &[3; 32], &secp).expect("sealed for this hop");
            let Ok(Payload::Blinded(layer)) = Payload::decode(&peeled.payload, peeled.next.is_none()) else {
                panic!("hop {n} does not find itself in a path");
            };
            assert_eq!(layer.current_path_key.is_some(), n == 1);
            let key_here = path_key.or(layer.current_path_key).expect("a path key");
            let opened = open(&layer.encrypted_recipient_data, &key_here, &key(n), &secp).expect("ours");
            match peeled.next {
                Some(next) => {
                    assert_eq!(opened.data.short_channel_id, Some(ShortChannelId(n.into())));
                    assert!(opened.data.payment_constraints.is_some_and(|c| c.allow(held, expiry)));
                    let relay = opened.data.payment_relay.expect("a relay");
                    (held, expiry) = relay.onward(held, expiry).expect("enough");
                    (packet, path_key) = (next, Some(opened.next_path_key));
                }
                None => {
                    assert_eq!((n, opened.data.path_id), (count, Some(vec![7; 32])));
                    assert_eq!(layer.amt_to_forward, Some(Msat(amount)));
                }
            }
        }
        // A millionth more at each hop: the sums of millionths are rounded up (BOLT 4).
        let most = amount + u64::from(count) * (1 + amount / 1_000_000);
        assert!((amount..=most).contains(&held.0), "{held} of {amount} over {count}");
        assert_eq!(expiry, Height(800_018), "what the payee asked for is left");
    }
}

#[test]
fn nobody_else_opens_a_hop_and_no_changed_byte_passes() {
    let secp = Secp256k1::new();
    let (path, _) = path(3, &secp);
    let sealed = &path.hops[0].encrypted_data;
    assert!(open(sealed, &path.path_key, &key(1), &secp).is_some());
    assert!(open(sealed, &path.path_key, &key(2), &secp).is_none());
    assert!(open(sealed, &key(5).public_key(&secp), &key(1), &secp).is_none());
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(open(&changed, &path.path_key, &key(1), &secp).is_none());
        assert!(open(&sealed[..at], &path.path_key, &key(1), &secp).is_none());
    }
    assert_eq!(BlindedPath::make(&key(1), &[], &secp), Err(PathError));
}

#[test]
fn a_payer_where_the_path_begins_takes_the_first_step_itself() {
    let secp = Secp256k1::new();
    for amount in [1u64, 999, 123_456_789] {
        let (path, relays) = path(4, &secp);
        let whole = PayPath::new(PayInfo::total(&relays, 18).expect("sums"), path);
        let (onward, rest) = whole.clone().advance(&key(1), &secp).expect("ours");
        assert_eq!(onward, payinfo::Onward::Channel(ShortChannelId(1)));
        assert_eq!((rest.outside, rest.path.hops.len(), rest.name()), (true, 3, whole.name()));
        // The hops that are left get at least what they ask for, and hardly more.
        let all = PayInfo::total(&relays[1..], 18).expect("sums");
        let needed = all.entering(Msat(amount)).expect("msat");
        let given = rest.info.entering(Msat(amount)).expect("msat");
        let most = needed.0 + 3 * (1 + amount / 1_000_000);
        assert!((needed.0..=most).contains(&given.0), "{given} for {needed}");
        assert_eq!(rest.info.cltv_expiry_delta, all.cltv_expiry_delta);
        assert!(whole.advance(&key(2), &secp).is_none(), "not ours");
    }
    let (alone, _) = path(1, &secp);
    let info = PayInfo::total(&[], 18).expect("sums");
    assert!(PayPath::new(info, alone).advance(&key(1), &secp).is_none(), "it ends here");
}

#[test]
fn what_a_hop_is_told_goes_there_and_back() {
    let secp = Secp256k1::new();
    let full = HopData {
        short_channel_id: Some(ShortChannelId(9)),
        next_node_id: None,
        path_id: Some(vec![1, 2]),
        next_path_key_override: Some(key(8).public_key(&secp)),
        payment_relay: Some(relay(2)),
        payment_constraints: Some(limits()),
        allowed_features: Some(Features::new()),
    };
    for (data, understood) in [
        (HopData::default(), true),
        (full.clone(), true),
        (HopData { next_node_id: Some(key(8).public_key(&secp)), ..full.clone() }, false),
        // BOLT 4 [4.read.8]: "even if it is odd".
        (HopData { allowed_features: Some(Features::of(&[113])), ..full.clone() }, false),
    ] {
        for padding in [None, Some(0), Some(17), Some(400)] {
            let stream = data.encode(padding);
            assert_eq!(HopData::decode(&stream).as_ref(), Some(&data));
        }
        assert_eq!(data.is_understood(), understood);
    }
    // BOLT 4 [4.blind.17].
    assert_eq!(HopData::decode(&[99, 0]), Some(HopData::default()), "odd: passed over");
    for broken in
        [&[98, 0][..], &[2, 7, 0, 0, 0, 0, 0, 0, 0], &[8, 1, 2], &[10, 3, 0, 0, 0], &[12, 1, 0], &[2]]
    {
        assert_eq!(HopData::decode(broken), None, "{broken:?}");
    }
}

#[test]
fn sums_that_do_not_fit_and_amounts_below_the_fee_are_none() {
    let dear =
        Relay { cltv_expiry_delta: u16::MAX, fee_proportional_millionths: u32::MAX, fee_base_msat: u32::MAX };
    assert!(PayInfo::total(&[dear, dear], 0).is_none());
    assert!(PayInfo::total(&[dear], 1).is_none(), "blocks");
    let info = PayInfo::total(&[dear], 0).expect("just");
    assert_eq!(info.entering(Msat(u64::MAX)), None);
    assert_eq!(dear.onward(Msat(u64::from(u32::MAX) - 1), Height(u32::MAX)), None);
    assert_eq!(dear.onward(Msat(u64::MAX), Height(9)), None);
    assert_eq!(Relay::NOTHING.onward(Msat(u64::MAX), Height(9)), Some((Msat(u64::MAX), Height(9))));
    // BOLT 4 [4.read.6].
    for (amount, expiry, allowed) in [(1, 800_900, true), (0, 800_900, false), (1, 800_901, false)] {
        assert_eq!(limits().allow(Msat(amount), Height(expiry)), allowed);
    }
}
