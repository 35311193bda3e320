//! Being in want: what is asked for with flags, and what becomes of peers that do not answer.

use super::floods::{Pair, LINK};
use super::*;
use crate::wire::features::Feature;

const EXTENDED: [u16; 2] = [7, Feature::GossipQueriesEx.odd()];

fn queries(heard: &[Message]) -> Vec<&QueryShortChannelIds> {
    let ids = heard.iter().filter_map(|m| match m {
        Message::QueryShortChannelIds(m) => Some(m),
        _ => None,
    });
    ids.collect()
}

fn range(scids: Vec<ShortChannelId>, stamps: Option<Vec<(u32, u32)>>) -> Message {
    Message::ReplyChannelRange(ReplyChannelRange {
        chain_hash: CHAIN.chain_hash(),
        first_blocknum: Height(0),
        number_of_blocks: u32::MAX,
        sync_complete: 1,
        short_channel_ids: ShortChannelIds(scids),
        timestamps: stamps.map(UpdateTimestamps),
        checksums: None,
    })
}

fn end() -> Message {
    let chain_hash = CHAIN.chain_hash();
    Message::ReplyShortChannelIdsEnd(ReplyShortChannelIdsEnd { chain_hash, full_information: 1 })
}

/// Bob's and Carol's links begin anew, with these features.
fn world(bits: &[u16]) -> World {
    let mut world = World::new();
    for (link, peer) in [(BOB, 2), (CAROL, 3)] {
        world.give(Event::News(News::Unlinked { link }));
        world.said.clear();
        world.link_with(link, peer, bits);
    }
    world
}

#[test]
fn what_is_missing_of_a_known_channel_is_asked_for_with_flags() {
    // BOLT 7 [7.query.13, 7.query.14, 7.query.15].
    let mut world = world(&[7]);
    world.channel(500, 10, 11);
    world.channel(501, 12, 13);
    let known = [world.update(500, 10, 11, 900), world.update(500, 11, 10, 900)];
    let first = usize::from(known[1].direction() == 0);
    let named = introduction(&world.crypto, 12, NOW_S, vec![]);
    world.tell(BOB, Message::NodeAnnouncement(named));
    world.give(Event::News(News::Unlinked { link: BOB }));
    world.give(Event::News(News::Unlinked { link: CAROL }));
    world.wait(10);
    world.said.clear();
    world.link_with(BOB, 2, &EXTENDED);
    let heard = world.heard_by(BOB);
    let asked = heard.iter().find_map(|m| match m {
        Message::QueryChannelRange(m) => Some(m.query_option),
        _ => None,
    });
    assert_eq!(asked, Some(Some(QueryOption(1))), "times are asked for");
    // Of 500 the second update is newer there, of 501 there are none, one is dead, and one is new.
    let (now, long_ago) = (NOW_S as u32, 1_000);
    let scids = vec![scid(500), scid(501), scid(502), scid(503)];
    let stamps = vec![(known[first].timestamp, now - 1), (0, 0), (long_ago, long_ago), (now, 0)];
    world.tell(BOB, range(scids, Some(stamps)));
    let heard = world.heard_by(BOB);
    let [query] = queries(&heard)[..] else { panic!("{heard:?}") };
    assert_eq!(query.short_channel_ids.0, [scid(500), scid(503)]);
    assert_eq!(query.query_flags, Some(QueryFlags(vec![0b100, 0b1_1111])));
    let whole = Message::QueryShortChannelIds(query.clone()).encode().unwrap();
    assert!(whole.ends_with(&[1, 3, 0, 0b100, 0b1_1111]), "a record of an encoding and a byte for each");
    // It told little of that. In the end it is asked for nodes, each once, and for updates that did not come with their channel.
    world.channel(503, 14, 15);
    world.tell(BOB, end());
    let heard = world.heard_by(BOB);
    let [query] = queries(&heard)[..] else { panic!("{heard:?}") };
    assert_eq!(query.short_channel_ids.0, [scid(500), scid(501), scid(503)]);
    let second = if id(12).0.serialize() < id(13).0.serialize() { 0b1_0000 } else { 0b1000 };
    assert_eq!(query.query_flags, Some(QueryFlags(vec![0b1_1000, second, 0b1_1110])));
    assert!(world.gossip.is_asking());
    world.tell(BOB, end());
    assert!(!world.gossip.is_asking());
    assert_eq!(queries(&world.heard_by(BOB)), [] as [&QueryShortChannelIds; 0]);
}

#[test]
fn two_machines_that_can_tell_more_end_with_the_same_nodes_and_updates() {
    for (bits, whole) in [(&EXTENDED[..], true), (&[7][..], false)] {
        let mut pair = Pair::new(1_200);
        pair.run();
        let crypto = RealCrypto::new();
        // The first learns two names, and an update, while the other is away.
        for at in 0..2 {
            pair.give(at, vec![Event::News(News::Unlinked { link: LINK })]);
        }
        pair.give(
            0,
            vec![Event::News(News::Linked { peer: id(9), link: BOB, features: Features::of(&[7]) })],
        );
        let scid = ShortChannelId(100 << 40 | 7 << 16);
        let news = [
            Message::NodeAnnouncement(introduction(&crypto, 10, NOW_S - 90_000, vec![])),
            Message::NodeAnnouncement(introduction(&crypto, 11, NOW_S - 90_000, vec![])),
            Message::ChannelUpdate(update(&crypto, scid, 11, 10, NOW_S - 90_000)),
        ];
        for message in news {
            pair.give(0, vec![Event::Message { peer: id(9), link: BOB, message }]);
        }
        pair.give(0, vec![Event::News(News::Unlinked { link: BOB })]);
        pair.kinds.clear();
        pair.now = pair.now.plus_ms(1_000_000);
        pair.join(bits);
        pair.run();
        let [first, second] = &pair.machines;
        let same = |who: u8| first.store().node(&id(who)) == second.store().node(&id(who));
        assert_eq!([10, 11].map(same), [whole, whole]);
        let channel =
            |m: &Gossip| m.store().channel(&scid).map(|c| c.updates.clone().map(|u| u.map(|u| u.bytes)));
        assert_eq!(channel(first) == channel(second), whole);
        let asked = pair.kinds.get(&(1, 261)).copied().unwrap_or(0);
        assert_eq!(asked, if whole { 2 } else { 0 }, "a query for the update and one for the nodes");
        assert!(!first.is_asking() && !second.is_asking());
    }
}

#[test]
fn who_does_not_answer_is_left_for_the_next_and_still_heard() {
    let mut world = world(&[7]);
    let asked = |world: &mut World, link: LinkId| {
        let kinds: Vec<u16> = world.heard_by(link).iter().map(Message::kind).collect();
        kinds.into_iter().filter(|kind| [261, 263].contains(kind)).collect::<Vec<u16>>()
    };
    world.said.clear();
    world.tell(BOB, range(vec![scid(500), scid(501)], None));
    assert_eq!(asked(&mut world, BOB), [261]);
    world.wait(19);
    assert_eq!(asked(&mut world, CAROL), []);
    world.wait(1);
    assert_eq!(asked(&mut world, CAROL), [263], "after twenty seconds of silence");
    world.tell(CAROL, range(vec![], None));
    // Bob's news count, and what is missing for them is asked of her: his query is open.
    world.channel(502, 10, 11);
    assert!(world.knows(502));
    world.said.clear();
    world.update(503, 10, 11, 5);
    let heard = core::mem::take(&mut world.said);
    let to = |link: LinkId| heard.iter().filter(|(to, m)| *to == link && m.kind() == 261).count();
    assert_eq!((to(BOB), to(CAROL)), (0, 1));
    // Late is better than never.
    world.tell(BOB, end());
    world.tell(CAROL, end());
    assert!(!world.gossip.is_muted(BOB));
    world.said.clear();
    world.update(504, 10, 11, 5);
    assert_eq!(asked(&mut world, BOB), [261]);
}

#[test]
fn who_says_everything_but_the_answer_has_a_minute() {
    let mut world = world(&[7]);
    world.tell(BOB, range(vec![scid(400)], None));
    world.said.clear();
    for n in 0..5 {
        world.wait(10);
        world.channel(500 + n, 10, 11);
    }
    let kinds = |world: &mut World| world.heard_by(CAROL).iter().map(Message::kind).collect::<Vec<_>>();
    assert!(!kinds(&mut world).contains(&263));
    world.wait(10);
    assert!(kinds(&mut world).contains(&263));
    assert!(world.knows(504));
}

#[test]
fn a_slow_chain_of_ours_is_not_the_peers_silence() {
    let mut world = world(&[7]);
    world.stuck = Some(vec![]);
    let scids: Vec<ShortChannelId> = (0..2).map(|n| scid(500 + n)).collect();
    world.tell(BOB, range(scids, None));
    let all = [world.channel(500, 10, 11), world.channel(501, 12, 13)];
    world.tell(BOB, end());
    world.said.clear();
    world.wait(400);
    world.unstick();
    assert!(all.iter().all(|m| world.gossip.store().channel(&m.short_channel_id).is_some()));
    assert!(!world.gossip.is_muted(BOB));
}

#[test]
fn who_names_what_it_does_not_have_is_not_asked_for_long() {
    let mut world = world(&[7]);
    world.tell(BOB, range((0..8_000).map(|n| scid(1_000 + n)).collect(), None));
    let mut asked = 0;
    while !queries(&world.heard_by(BOB)).is_empty() && asked < 20 {
        asked += 1;
        world.tell(BOB, end());
    }
    assert_eq!(asked, 3);
    assert!(!world.gossip.is_muted(BOB));
}

#[test]
fn silent_peers_are_not_among_the_five_that_are_asked() {
    let mut world = world(&[7]);
    for n in 0..7 {
        world.link(LinkId(10 + n), 20 + n as u8);
    }
    let mut asked = BTreeSet::new();
    for _ in 0..12 {
        world.wait(20);
        asked.extend(world.said.drain(..).filter(|(_, m)| m.kind() == 263).map(|(link, _)| link));
    }
    assert_eq!(asked.len(), 8, "Carol and all seven others, one after the other: {asked:?}");
}

#[test]
fn when_one_goes_that_was_listened_to_another_takes_its_place() {
    let mut world = world(&[7]);
    for n in 0..8 {
        world.link(LinkId(10 + n), 20 + n as u8);
    }
    let listened = |world: &mut World| {
        let filters = world.said.drain(..).filter_map(|(link, m)| match m {
            Message::GossipTimestampFilter(f) if f.timestamp_range > 0 => Some(link),
            _ => None,
        });
        filters.collect::<BTreeSet<LinkId>>()
    };
    assert_eq!(listened(&mut world).len(), 8 - 1, "the first filter was cleared with Bob's greeting");
    world.give(Event::News(News::Unlinked { link: LinkId(10) }));
    assert_eq!(listened(&mut world), BTreeSet::from([LinkId(16)]));
    // A forger's place is free as well.
    let m = announcement(&world.crypto, scid(500), 10, 11);
    let bad = ChannelAnnouncement { node_signature_1: m.bitcoin_signature_1, ..m };
    world.tell(LinkId(11), Message::ChannelAnnouncement(bad));
    assert_eq!(listened(&mut world), BTreeSet::from([LinkId(17)]));
}
