//! Forged gossip: it shuts out nothing that is true, and costs whoever makes it up, not who passes it on.

use super::*;

const MALLORY: u8 = 66;
const FROM: LinkId = LinkId(66);

/// Well signed by nodes and keys that are made up: whoever has no chain believes it.
fn forged(world: &World, n: u64, salt: u8) -> ChannelAnnouncement {
    let mut made_up = [40 + salt, 41 + salt];
    made_up.sort_by_key(|n| id(*n).0.serialize());
    signed(&world.crypto, scid(n), made_up, [42 + salt, 43 + salt])
}

fn world() -> World {
    let mut world = World::new();
    world.give(Event::Block { height: Height(600), spent: vec![] });
    world.link(FROM, MALLORY);
    world
}

fn true_one(world: &mut World, n: u64) -> ChannelAnnouncement {
    let m = announcement(&world.crypto, scid(n), 10, 11);
    world.outputs.insert(scid(n), (m.bitcoin_key_1, m.bitcoin_key_2));
    m
}

fn nodes(world: &World, n: u64) -> Option<[NodeId; 2]> {
    world.gossip.store().channel(&scid(n)).map(|c| c.nodes)
}

#[test]
fn a_forged_announcement_never_stands_in_the_place_of_the_true_one() {
    // Deep enough, and too young when it comes; the chain quick and slow; before, after, between.
    for tip in [600, 501] {
        for slow in [false, true] {
            for order in 0..3 {
                let mut world = world();
                world.give(Event::Block { height: Height(tip), spent: vec![] });
                let m = true_one(&mut world, 500);
                let truth = || Message::ChannelAnnouncement(m.clone());
                let lies = [0, 4].map(|salt| Message::ChannelAnnouncement(forged(&world, 500, salt)));
                let [one, two] = lies;
                world.stuck = slow.then(Vec::new);
                let told = match order {
                    0 => [(FROM, one), (FROM, two), (CAROL, truth())],
                    1 => [(CAROL, truth()), (FROM, one), (FROM, two)],
                    _ => [(FROM, one), (CAROL, truth()), (FROM, two)],
                };
                for (link, message) in told {
                    world.tell(link, message);
                }
                world.unstick();
                world.give(Event::Block { height: Height(601), spent: vec![] });
                let nodes = nodes(&world, 500);
                assert_eq!(nodes, Some([m.node_id_1, m.node_id_2]), "{tip} {slow} {order}");
                assert!(!world.gossip.is_muted(CAROL));
                assert_eq!(world.gossip.waiting(), 0);
            }
        }
    }
}

#[test]
fn what_the_chain_gives_the_lie_to_is_remembered_by_what_it_says_and_ends_in_silence() {
    let mut world = world();
    let m = true_one(&mut world, 500);
    let lie = forged(&world, 500, 0);
    world.tell(FROM, Message::ChannelAnnouncement(lie.clone()));
    assert_eq!((world.looked.len(), nodes(&world, 500)), (1, None));
    world.tell(BOB, Message::ChannelAnnouncement(lie));
    assert_eq!(world.looked.len(), 1, "the same is not looked at again");
    world.tell(BOB, Message::ChannelAnnouncement(m));
    assert!(world.knows(500), "another is");
    // A few may be told in good faith; twenty in a row are not.
    for n in 0..19 {
        assert!(!world.gossip.is_muted(FROM), "{n}");
        true_one(&mut world, 510 + n);
        let lie = forged(&world, 510 + n, 0);
        world.tell(FROM, Message::ChannelAnnouncement(lie));
    }
    true_one(&mut world, 540);
    let lie = forged(&world, 540, 0);
    world.tell(FROM, Message::ChannelAnnouncement(lie));
    assert!(world.gossip.is_muted(FROM) && !world.gossip.is_muted(BOB));
}

#[test]
fn who_passes_on_what_others_told_or_what_is_spent_is_heard_on() {
    let mut world = world();
    // Spent: no output. A hundred of them, from each.
    for n in 0..100 {
        let m = announcement(&world.crypto, scid(100 + n), 10, 11);
        world.tell(BOB, Message::ChannelAnnouncement(m.clone()));
        world.tell(CAROL, Message::ChannelAnnouncement(m));
    }
    assert!(!world.gossip.is_muted(BOB) && !world.gossip.is_muted(CAROL));
    // One lie, told by both at once, a hundred times: the chain answers for all.
    for n in 0..100 {
        true_one(&mut world, 300 + n);
        let lie = Message::ChannelAnnouncement(forged(&world, 300 + n, 0));
        world.stuck = Some(vec![]);
        world.tell(BOB, lie.clone());
        world.tell(CAROL, lie);
        world.unstick();
    }
    assert!(!world.gossip.is_muted(BOB) && !world.gossip.is_muted(CAROL));
    world.channel(500, 10, 11);
    assert!(world.knows(500));
}

#[test]
fn a_copy_with_another_signature_spoils_nothing_and_is_its_senders_alone() {
    for leaves in [false, true] {
        let mut world = world();
        let m = true_one(&mut world, 500);
        let bad = ChannelAnnouncement { node_signature_1: m.bitcoin_signature_1, ..m.clone() };
        world.stuck = Some(vec![]);
        // The true one too, so that the other's copy is the same message.
        world.tell(FROM, Message::ChannelAnnouncement(bad));
        world.tell(FROM, Message::ChannelAnnouncement(m.clone()));
        world.tell(CAROL, Message::ChannelAnnouncement(m));
        if leaves {
            world.give(Event::News(News::Unlinked { link: FROM }));
        }
        world.unstick();
        assert!(world.knows(500) && !world.gossip.is_muted(CAROL));
        // A new link does not make a new peer of it.
        world.give(Event::News(News::Unlinked { link: FROM }));
        world.link(LinkId(67), MALLORY);
        assert!(world.gossip.is_muted(LinkId(67)));
    }
}

#[test]
fn the_second_silence_is_longer_than_the_first() {
    let mut world = world();
    let bad = |world: &World, n: u64| {
        let m = announcement(&world.crypto, scid(n), 10, 11);
        Message::ChannelAnnouncement(ChannelAnnouncement { node_signature_1: m.bitcoin_signature_1, ..m })
    };
    for (n, minutes) in [(500, 10), (501, 20), (502, 40)] {
        let message = bad(&world, n);
        world.tell(FROM, message);
        world.wait(minutes * 60 - 1);
        assert!(world.gossip.is_muted(FROM), "{minutes}");
        world.wait(1);
        assert!(!world.gossip.is_muted(FROM), "{minutes}");
    }
    // Long ago is as good as never.
    world.wait(3 * 24 * 3_600);
    let message = bad(&world, 503);
    world.tell(FROM, message);
    world.wait(600);
    assert!(!world.gossip.is_muted(FROM));
}

#[test]
fn what_waits_for_a_channel_waits_beside_what_a_forger_says_of_it() {
    let mut world = world();
    let m = true_one(&mut world, 500);
    let crypto = RealCrypto::new();
    let told = update(&crypto, scid(500), 10, 11, NOW_S - 9);
    let name = introduction(&crypto, 10, NOW_S - 9, vec![]);
    world.stuck = Some(vec![]);
    world.tell(CAROL, Message::ChannelAnnouncement(m));
    // Newer, and signed by nobody who may.
    let lie = resigned(&crypto, ChannelUpdate { timestamp: NOW_S as u32, ..told.clone() }, 40);
    let false_name = NodeAnnouncement { signature: lie.signature, timestamp: NOW_S as u32, ..name.clone() };
    for (link, node, update) in [(CAROL, &name, &told), (FROM, &false_name, &lie)] {
        world.tell(link, Message::ChannelUpdate(update.clone()));
        world.tell(link, Message::NodeAnnouncement(node.clone()));
    }
    for n in 0..9 {
        let other = ChannelUpdate { fee_base_msat: n, ..lie.clone() };
        world.tell(FROM, Message::ChannelUpdate(other));
    }
    world.unstick();
    assert_eq!(world.timestamp(500, usize::from(told.direction())), Some(told.timestamp));
    assert_eq!(world.gossip.store().node(&id(10)), Some(name));
    assert!(world.gossip.is_muted(FROM) && !world.gossip.is_muted(CAROL));
    // Of a node none of whose channels is on its way nothing is kept.
    let stranger = introduction(&crypto, 77, NOW_S, vec![]);
    world.tell(CAROL, Message::NodeAnnouncement(stranger));
    assert_eq!(world.gossip.waiting(), 0);
}

#[test]
fn young_channels_that_never_come_leave_room_for_others() {
    let mut world = world();
    let template = forged(&world, 599, 0);
    // None of them is deep enough yet; signatures are taken for good here.
    for n in 0..9_000u64 {
        let short_channel_id = ShortChannelId(599 << 40 | n << 16);
        let m = ChannelAnnouncement { short_channel_id, ..template.clone() };
        let message = Message::ChannelAnnouncement(m);
        let mut events = vec![Event::Message { peer: id(MALLORY), link: FROM, message }];
        while !events.is_empty() {
            let actions = world.gossip.step(world.now, events);
            let checks = actions.into_iter().filter_map(|action| match action {
                Action::Verify { ticket, .. } => Some(Event::Verified { ticket, good: true }),
                _ => None,
            });
            events = checks.collect();
        }
    }
    assert!(world.gossip.waiting() < 8_000, "{}", world.gossip.waiting());
    let far = forged(&world, 10_000, 0);
    let before = world.gossip.waiting();
    world.tell(BOB, Message::ChannelAnnouncement(far));
    assert_eq!(world.gossip.waiting(), before, "of a block far ahead nothing is kept");
    let m = true_one(&mut world, 500);
    world.tell(CAROL, Message::ChannelAnnouncement(m));
    let young = true_one(&mut world, 598);
    world.tell(CAROL, Message::ChannelAnnouncement(young));
    world.give(Event::Block { height: Height(604), spent: vec![] });
    assert!(world.knows(500) && world.knows(598));
    assert!(!world.gossip.is_muted(CAROL));
    assert_eq!(world.gossip.waiting(), 0);
}

#[test]
fn a_chain_that_does_not_answer_is_nobodys_fault() {
    let mut world = world();
    let mut events = vec![];
    let template = forged(&world, 1, 0);
    for n in 0..3_000u64 {
        let short_channel_id = ShortChannelId(400 << 40 | n << 16);
        let m = ChannelAnnouncement { short_channel_id, ..template.clone() };
        events.push(Event::Message { peer: id(2), link: BOB, message: Message::ChannelAnnouncement(m) });
    }
    let mut asked = 0;
    while !events.is_empty() {
        let actions = world.gossip.step(world.now, core::mem::take(&mut events));
        for action in actions {
            match action {
                Action::Verify { ticket, .. } => events.push(Event::Verified { ticket, good: true }),
                Action::LookUp(_) => asked += 1,
                _ => {}
            }
        }
    }
    assert_eq!(asked, 64, "no more at once");
    world.wait(3 * 3_600);
    assert_eq!(world.gossip.waiting(), 3_000, "they wait as long as it takes");
    assert!(!world.gossip.is_muted(BOB));
}

#[test]
fn where_no_chain_can_tell_most_are_believed_and_nobody_is_blamed() {
    let mut world = world();
    world.link(LinkId(3), 4);
    let m = true_one(&mut world, 500);
    let lie = forged(&world, 500, 0);
    world.blind = true;
    world.stuck = Some(vec![]);
    world.tell(BOB, Message::ChannelAnnouncement(lie.clone()));
    for link in [CAROL, LinkId(3)] {
        world.tell(link, Message::ChannelAnnouncement(m.clone()));
    }
    world.unstick();
    assert_eq!(nodes(&world, 500), Some([m.node_id_1, m.node_id_2]));
    for _ in 0..10 {
        world.tell(BOB, Message::ChannelAnnouncement(lie.clone()));
    }
    assert!([BOB, CAROL, LinkId(3)].iter().all(|link| !world.gossip.is_muted(*link)));
}

#[test]
fn two_names_for_one_output_that_come_together_are_both_distrusted() {
    let mut world = world();
    world.channel(499, 10, 12);
    let m = true_one(&mut world, 500);
    let mut others = [20, 21];
    others.sort_by_key(|n| id(*n).0.serialize());
    // Its own keys, other nodes.
    let second = signed(&world.crypto, scid(500), others, [110, 111]);
    world.stuck = Some(vec![]);
    world.tell(BOB, Message::ChannelAnnouncement(m));
    world.tell(CAROL, Message::ChannelAnnouncement(second));
    world.unstick();
    assert!(!world.knows(500) && !world.knows(499));
    world.channel(501, others[0], 15);
    world.channel(502, 16, 15);
    assert!(!world.knows(501) && world.knows(502));
    assert!(!world.gossip.is_muted(BOB) && !world.gossip.is_muted(CAROL), "they only passed it on");
}
