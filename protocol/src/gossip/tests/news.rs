//! News of what is known: limits that a forger cannot use up for others, and announcements that say more than we understand.

use super::*;

#[test]
fn forged_and_old_updates_use_up_nobodys_limit() {
    let mut world = World::new();
    world.gossip.settings.refill_s = 600;
    world.channel(500, 10, 11);
    let first = world.update(500, 10, 11, 90);
    let at = usize::from(first.direction());
    let crypto = RealCrypto::new();
    for n in 0..40u64 {
        let link = LinkId(100 + n);
        world.link(link, 100 + n as u8);
        let forged = resigned(&crypto, update(&crypto, scid(500), 10, 11, NOW_S - 50 + n), 40);
        world.tell(link, Message::ChannelUpdate(forged));
        assert!(world.gossip.is_muted(link));
        let old = update(&crypto, scid(500), 10, 11, NOW_S - 91);
        world.tell(BOB, Message::ChannelUpdate(old));
    }
    assert!(!world.gossip.is_muted(BOB));
    for n in 0..9 {
        let m = world.update(500, 10, 11, 80 - n);
        assert_eq!(world.timestamp(500, at), Some(m.timestamp), "{n}");
    }
}

#[test]
fn a_direction_that_is_switched_off_is_heard_though_it_said_too_much() {
    let mut world = World::new();
    world.gossip.settings.refill_s = 600;
    world.filter(CAROL, 0);
    world.channel(500, 10, 11);
    for ago_s in (50..70).rev() {
        world.update(500, 10, 11, ago_s);
    }
    let crypto = RealCrypto::new();
    let flip = |world: &mut World, ago_s: u64, off: bool| {
        let m = update(&crypto, scid(500), 10, 11, NOW_S - ago_s);
        let flags = m.channel_flags | if off { ChannelUpdate::DISABLE } else { 0 };
        let m = resigned(&crypto, ChannelUpdate { channel_flags: flags, ..m }, 10);
        world.tell(BOB, Message::ChannelUpdate(m.clone()));
        world.timestamp(500, usize::from(m.direction())) == Some(m.timestamp)
    };
    assert!(!flip(&mut world, 40, false), "the limit is reached");
    assert!(flip(&mut world, 39, true), "off");
    world.wait(2);
    let heard = world.heard_by(CAROL);
    let last = heard.iter().rev().find_map(|m| match m {
        Message::ChannelUpdate(u) => Some(u.is_disabled()),
        _ => None,
    });
    assert_eq!(last, Some(true), "and passed on");
    assert!(flip(&mut world, 38, false), "and on again");
    assert!(!flip(&mut world, 37, true), "but not without end");
    assert!(!world.gossip.is_muted(BOB), "who passes it on cannot help it");
}

#[test]
fn what_is_signed_is_kept_and_passed_on_however_much_of_it_is_not_understood() {
    let mut world = World::new();
    world.filter(CAROL, 0);
    world.channel(500, 10, 11);
    world.update(500, 10, 11, 5);
    let crypto = RealCrypto::new();
    let name = |text: &[u8]| [&[5, text.len() as u8], text, &[0, 9]].concat();
    let base = introduction(&crypto, 10, NOW_S - 100, vec![]);
    let resigned = |m: NodeAnnouncement| {
        let digest = digest(&Message::NodeAnnouncement(m.clone()), 1);
        NodeAnnouncement { signature: crypto.sign(&digest, &secret(10)), ..m }
    };
    let odd = [
        ("features nobody knows", NodeAnnouncement { features: vec![0xff; 40], ..base.clone() }, true),
        ("an alias that is no text", NodeAnnouncement { alias: [0xff; 32], ..base.clone() }, true),
        ("another kind of address", NodeAnnouncement { addresses: vec![77, 1, 2, 3], ..base.clone() }, true),
        (
            "very many addresses",
            NodeAnnouncement { addresses: [1, 9, 9, 9, 9, 0, 9].repeat(290), ..base.clone() },
            true,
        ),
        ("more than there is now", NodeAnnouncement { tail: vec![7; 1_000], ..base.clone() }, true),
        // BOLT 7 [7.node.16].
        ("two names", NodeAnnouncement { addresses: [name(b"a"), name(b"b")].concat(), ..base }, false),
    ];
    for (n, (why, m, passed_on)) in odd.into_iter().enumerate() {
        let m = resigned(NodeAnnouncement { timestamp: NOW_S as u32 - 90 + n as u32, ..m });
        world.tell(BOB, Message::NodeAnnouncement(m.clone()));
        assert_eq!(world.gossip.store().node(&id(10)).as_ref(), Some(&m), "{why}");
        world.wait(2);
        let heard = world.heard_by(CAROL).contains(&Message::NodeAnnouncement(m));
        assert_eq!(heard, passed_on, "{why}");
        let query = QueryShortChannelIds {
            chain_hash: CHAIN.chain_hash(),
            short_channel_ids: ShortChannelIds(vec![scid(500)]),
            query_flags: None,
        };
        world.tell(CAROL, Message::QueryShortChannelIds(query));
        let told = world.heard_by(CAROL).iter().any(|m| matches!(m, Message::NodeAnnouncement(_)));
        assert_eq!(told, passed_on, "{why}");
    }
    assert!(!world.gossip.is_muted(BOB));
    // A cache knows as much.
    let mut copy = Store::new();
    for kept in world.gossip.store().records() {
        copy.restore(kept, &CHAIN.chain_hash(), NOW_S as u32);
    }
    let key = id(10).0.serialize();
    assert_eq!(copy.told(&key).map(|told| told.passed_on), Some(false));
}

#[test]
fn a_node_that_names_itself_anew_all_the_time_is_not_followed_nor_one_from_the_future() {
    let mut world = World::new();
    world.gossip.settings.refill_s = 600;
    world.channel(500, 10, 11);
    let crypto = RealCrypto::new();
    let far = introduction(&crypto, 10, NOW_S + 100_000, vec![]);
    world.tell(BOB, Message::NodeAnnouncement(far));
    assert_eq!(world.gossip.store().node(&id(10)), None);
    let mut taken = 0;
    for n in 0..40 {
        let m = introduction(&crypto, 10, NOW_S - 60 + n, vec![]);
        world.tell(BOB, Message::NodeAnnouncement(m.clone()));
        taken += u32::from(world.gossip.store().node(&id(10)) == Some(m));
    }
    assert_eq!(taken, 10);
    assert!(!world.gossip.is_muted(BOB));
    world.wait(600);
    let m = introduction(&crypto, 10, NOW_S, vec![]);
    world.tell(BOB, Message::NodeAnnouncement(m.clone()));
    assert_eq!(world.gossip.store().node(&id(10)), Some(m));
}

#[test]
fn messages_that_are_mostly_padding_are_neither_kept_nor_passed_on() {
    // As large as the transport carries, and well signed: five for each output that somebody pays for, for as long as that lives.
    let mut world = World::new();
    world.filter(CAROL, 0);
    let crypto = RealCrypto::new();
    let padded = |features: usize, tail: usize| {
        let m = announcement(&crypto, scid(500), 10, 11);
        let mut m = ChannelAnnouncement { features: vec![0; features], tail: vec![7; tail], ..m };
        let digest = digest(&Message::ChannelAnnouncement(m.clone()), 4);
        let first = if m.node_id_1 == id(10) { [10, 11] } else { [11, 10] };
        m.node_signature_1 = crypto.sign(&digest, &secret(first[0]));
        m.node_signature_2 = crypto.sign(&digest, &secret(first[1]));
        m.bitcoin_signature_1 = crypto.sign(&digest, &secret(first[0] + 100));
        m.bitcoin_signature_2 = crypto.sign(&digest, &secret(first[1] + 100));
        m
    };
    let just = padded(24, 1_000);
    world.outputs.insert(scid(500), (just.bitcoin_key_1, just.bitcoin_key_2));
    for (features, tail) in [(0, 60_000), (60_000, 0), (24, 1_001)] {
        world.tell(BOB, Message::ChannelAnnouncement(padded(features, tail)));
        assert!(!world.knows(500), "{features} {tail}");
    }
    world.tell(BOB, Message::ChannelAnnouncement(just.clone()));
    assert!(world.knows(500), "a later version may say more");
    let base = update(&crypto, scid(500), 10, 11, NOW_S - 9);
    let direction = usize::from(base.direction());
    for (tail, taken) in [(60_000, false), (1_025, false), (1_024, true)] {
        let m = resigned(&crypto, ChannelUpdate { tail: vec![7; tail], ..base.clone() }, 10);
        world.tell(BOB, Message::ChannelUpdate(m));
        assert_eq!(world.timestamp(500, direction).is_some(), taken, "{tail}");
    }
    let base = introduction(&crypto, 10, NOW_S - 9, vec![]);
    let long = |features: usize, addresses: usize, tail: usize| NodeAnnouncement {
        features: vec![0; features],
        addresses: [1, 9, 9, 9, 9, 0, 9].repeat(addresses),
        tail: vec![7; tail],
        ..base.clone()
    };
    for (m, taken) in [
        (long(0, 0, 60_000), false),
        (long(60_000, 0, 0), false),
        (long(0, 8_000, 0), false),
        (long(0, 293, 0), false),
        (long(24, 292, 1_000), true),
    ] {
        let digest = digest(&Message::NodeAnnouncement(m.clone()), 1);
        let m = NodeAnnouncement { signature: crypto.sign(&digest, &secret(10)), ..m };
        world.tell(BOB, Message::NodeAnnouncement(m));
        assert_eq!(world.gossip.store().node(&id(10)).is_some(), taken);
    }
    world.wait(2);
    let heard = world.heard_by(CAROL);
    assert!(heard.contains(&Message::ChannelAnnouncement(just)));
    let longest = heard.iter().filter_map(|m| m.encode().ok()).map(|bytes| bytes.len()).max();
    assert!(longest.is_some_and(|bytes| bytes < 3_500), "{longest:?}");
    assert!(!world.gossip.is_muted(BOB));
}

#[test]
fn what_comes_from_a_link_that_nobody_ever_hears_of_is_forgotten() {
    let mut world = World::new();
    let ids = ShortChannelIds((0..8_000).map(scid).collect());
    for n in 0..200 {
        let query = QueryShortChannelIds {
            chain_hash: CHAIN.chain_hash(),
            short_channel_ids: ids.clone(),
            query_flags: None,
        };
        world.tell(LinkId(1_000 + n), Message::QueryShortChannelIds(query));
    }
    assert_eq!(world.gossip.waiting(), 200);
    world.wait(30);
    assert_eq!(world.gossip.waiting(), 200);
    world.wait(100);
    assert_eq!(world.gossip.waiting(), 0);
}

#[test]
fn a_channel_with_a_feature_that_must_be_known_is_passed_on_and_not_routed_over() {
    // BOLT 7 [7.announce.15].
    for (features, routed) in [(vec![], true), (vec![0b10], true), (vec![0b1], false), (vec![1, 0, 0], false)]
    {
        let mut world = World::new();
        world.filter(CAROL, 0);
        let (a, b) = if id(10).0.serialize() < id(11).0.serialize() { (10, 11) } else { (11, 10) };
        let mut m = ChannelAnnouncement { features, ..announcement(&world.crypto, scid(500), a, b) };
        let digest = digest(&Message::ChannelAnnouncement(m.clone()), 4);
        let by = |n: u8| world.crypto.sign(&digest, &secret(n));
        (m.node_signature_1, m.node_signature_2) = (by(a), by(b));
        (m.bitcoin_signature_1, m.bitcoin_signature_2) = (by(a + 100), by(b + 100));
        world.outputs.insert(scid(500), (m.bitcoin_key_1, m.bitcoin_key_2));
        world.tell(BOB, Message::ChannelAnnouncement(m.clone()));
        world.update(500, 10, 11, 5);
        assert!(world.knows(500));
        assert_eq!(world.gossip.graph().has_channel(scid(500)), routed, "{:?}", m.features);
        world.wait(2);
        assert!(world.heard_by(CAROL).contains(&Message::ChannelAnnouncement(m)));
    }
}

#[test]
fn an_older_word_of_a_node_changes_nothing_and_its_ends_stand_in_their_order() {
    let mut world = World::new();
    world.channel(500, 10, 11);
    let crypto = RealCrypto::new();
    let newest = introduction(&crypto, 10, NOW_S - 5, vec![]);
    world.tell(BOB, Message::NodeAnnouncement(newest.clone()));
    for ago in [5, 6, 1_000] {
        let old = introduction(&crypto, 10, NOW_S - ago, vec![1, 9, 9, 9, 9, 0, 9]);
        world.tell(CAROL, Message::NodeAnnouncement(old));
        assert_eq!(world.gossip.store().node(&id(10)).as_ref(), Some(&newest), "{ago}");
    }
    let (a, b) = if id(12).0.serialize() < id(13).0.serialize() { (13, 12) } else { (12, 13) };
    let turned = signed(&crypto, scid(501), [a, b], [a + 100, b + 100]);
    world.outputs.insert(scid(501), (turned.bitcoin_key_1, turned.bitcoin_key_2));
    world.tell(BOB, Message::ChannelAnnouncement(turned));
    assert!(!world.knows(501), "directions would mean the other end");
}

#[test]
fn a_filter_has_an_end_as_well_as_a_beginning() {
    // BOLT 7 [7.filter.2, 7.filter.3].
    for live in [false, true] {
        let mut world = World::new();
        let filter = GossipTimestampFilter {
            chain_hash: CHAIN.chain_hash(),
            first_timestamp: NOW_S as u32 - 100,
            timestamp_range: 50,
        };
        let tell_filter = |world: &mut World| {
            world.tell(CAROL, Message::GossipTimestampFilter(filter.clone()));
        };
        if live {
            tell_filter(&mut world);
        }
        for (n, ago) in [(500, 101), (501, 100), (502, 51), (503, 50), (504, 1)] {
            world.channel(n, 10, 11);
            world.update(n, 10, 11, ago);
        }
        if !live {
            tell_filter(&mut world);
        }
        world.wait(2);
        let heard = world.heard_by(CAROL);
        // What was new and is known already may come twice.
        let told: BTreeSet<u32> = heard
            .iter()
            .filter_map(|m| match m {
                Message::ChannelUpdate(m) => Some(NOW_S as u32 - m.timestamp),
                _ => None,
            })
            .collect();
        assert_eq!(told, BTreeSet::from([51, 100]), "{live}");
    }
}
