//! Nodes tell one another of their channels (BOLT 7): announced by both ends, changed, disabled, kept to themselves.
//!
//! In: three or four nodes in a line, each with a gossip machine beside it. Out: what each of them knows of the others, with
//! cuts, crashes, silence and forgeries. Read next: `chand_tests::town::gossip`.

use chand_protocol::chain::Network;
use chand_protocol::gossip::{Event, News};
use chand_protocol::id::{LinkId, NodeId, ShortChannelId};
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::effect::Input;
use chand_protocol::units::Msat;
use chand_protocol::wire::features::Features;
use chand_protocol::wire::gossip::{
    signed_digest, AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate,
};
use chand_protocol::wire::Message;
use chand_tests::duet::crypto;
use chand_tests::duet::play::Open;
use chand_tests::duet::When;
use chand_tests::town::gossip::gossiping;
use chand_tests::town::{Town, ALICE, BOB, CAROL};
use secp256k1::SecretKey;

/// A line whose channels ask to be announced, and are one block deep.
fn line(count: usize, seed: u64) -> Town {
    let mut town = Town::new(count, seed, gossiping);
    for left in 0..count - 1 {
        let open = Open { sat: 10_000_000, push_msat: 4_000_000_000, announce: true, ..Open::default() };
        town.open(left, left + 1, open);
    }
    town
}

/// Long enough for three broadcasts in a row.
fn spread(town: &mut Town) {
    (0..4).for_each(|_| town.wait_ms(1_000));
}

fn announced(count: usize, seed: u64) -> Town {
    let mut town = line(count, seed);
    town.mine(6);
    spread(&mut town);
    town
}

/// How many channels with both policies a seat knows.
fn whole_channels(town: &Town, seat: usize) -> usize {
    let graph = town.gossip(seat).graph();
    graph.channels().filter(|c| c.policies.iter().all(Option::is_some)).count()
}

fn timestamps(town: &Town, seat: usize) -> Vec<u32> {
    let channels = town.gossip(seat).graph().channels();
    channels.flat_map(|c| c.policies.map(|p| p.map_or(0, |p| p.timestamp))).collect()
}

#[test]
fn everybody_learns_every_channel_when_it_is_six_deep_and_not_before() {
    // BOLT 7 [7.sigs.1, 7.announce.9, 7.announce.10, 7.announce.13, 7.update.1, 7.update.11, 7.update.13].
    let mut town = line(3, 1);
    // Alice's channel is two deep, Bob's one.
    town.mine(3);
    spread(&mut town);
    assert!((0..3).all(|seat| town.gossip(seat).graph().channel_count() == 0));
    town.mine(1);
    spread(&mut town);
    assert_eq!([0, 1, 2].map(|seat| whole_channels(&town, seat)), [1, 1, 1], "the older one is six deep");
    town.mine(1);
    spread(&mut town);
    for seat in 0..3 {
        assert_eq!(whole_channels(&town, seat), 2, "seat {seat}");
        let store = town.gossip(seat).store();
        let ids: Vec<NodeId> = store.nodes().copied().collect();
        assert_eq!(ids.len(), 3);
        for other in &town.seats {
            let told = store.node(&other.id).unwrap_or_else(|| panic!("{} is unknown", other.name));
            assert!(told.alias.starts_with(other.name.as_bytes()));
        }
    }
    // What Alice sees of Bob's channel with Carol is what Bob asks for.
    let seen = town.policy_seen(ALICE, BOB, CAROL).expect("a policy");
    let real = town.between(BOB, CAROL);
    assert_eq!(
        (seen.fee_base_msat, seen.cltv_expiry_delta),
        (real.policy.base_msat, real.policy.delta_blocks)
    );
    assert_eq!(seen.htlc_minimum, real.terms.remote.htlc_minimum);
    assert!(seen.htlc_maximum <= real.terms.capacity.to_msat() && !seen.disabled);
    assert_eq!(
        town.gossip(ALICE).graph().channel(town.scid(BOB, CAROL)).and_then(|c| c.capacity),
        Some(real.terms.capacity)
    );
}

#[test]
fn a_change_of_fees_reaches_all_and_times_never_go_back() {
    // BOLT 7 [7.update.4, 7.node.1].
    let mut town = announced(3, 2);
    let mut before = timestamps(&town, ALICE);
    for (round, restart) in [(1, false), (2, true), (3, false), (4, true)] {
        let channel = ChannelRef::Id(town.between(BOB, CAROL).id());
        let order = Command::SetChannel {
            channel: Some(channel),
            fee_base_msat: Some(1_000 + round),
            fee_ppm: None,
            htlc_min_msat: None,
            htlc_max_msat: Some(Msat(7_000_000)),
        };
        assert!(matches!(town.must(BOB, order), Reply::PeerChannels(_)));
        if restart {
            town.restart(BOB);
            town.settle();
        }
        spread(&mut town);
        for seat in [ALICE, BOB, CAROL] {
            let seen = town.policy_seen(seat, BOB, CAROL).expect("a policy");
            assert_eq!(
                (seen.fee_base_msat, seen.htlc_maximum),
                (1_000 + round, Msat(7_000_000)),
                "seat {seat}"
            );
        }
        let after = timestamps(&town, ALICE);
        assert!(before.iter().zip(&after).all(|(b, a)| b <= a) && before != after, "{before:?} {after:?}");
        before = after;
    }
    // Nothing changed: a restart says nothing new.
    let told = town.gossip(ALICE).store().node(&town.seats[BOB].id).map(|n| n.timestamp);
    town.restart(BOB);
    town.settle();
    spread(&mut town);
    assert_eq!(timestamps(&town, ALICE), before);
    assert_eq!(town.gossip(ALICE).store().node(&town.seats[BOB].id).map(|n| n.timestamp), told);
}

#[test]
fn a_peer_that_is_gone_for_long_is_told_to_all_and_so_is_its_return() {
    let mut town = announced(3, 3);
    let disabled = |town: &Town| town.policy_seen(ALICE, BOB, CAROL).map(|p| p.disabled);
    town.silence(CAROL);
    town.wait_ms(19 * 60_000);
    spread(&mut town);
    assert_eq!(disabled(&town), Some(false));
    town.wait_ms(60_000);
    spread(&mut town);
    assert_eq!(disabled(&town), Some(true));
    town.restart(BOB);
    spread(&mut town);
    assert_eq!(disabled(&town), Some(true), "a start brings nobody back");
    town.silent.remove(&CAROL);
    town.wait_ms(300_000);
    town.settle();
    spread(&mut town);
    assert_eq!(disabled(&town), Some(false));
}

#[test]
fn a_closed_channel_is_disabled_at_once_and_forgotten_72_blocks_after_its_end() {
    let mut town = announced(3, 4);
    let scid = town.scid(BOB, CAROL);
    let channel = ChannelRef::Id(town.between(BOB, CAROL).id());
    let order = Command::Close { channel, unilateral_timeout_s: 0, destination: None, feerange: None };
    assert!(matches!(town.must(BOB, order), Reply::Closed { .. }));
    spread(&mut town);
    let seen = town.gossip(ALICE).graph().channel(scid).expect("still there");
    assert!(seen.policies.iter().flatten().all(|p| p.disabled), "{seen:?}");
    town.mine(72);
    spread(&mut town);
    assert!(town.gossip(ALICE).graph().has_channel(scid));
    town.mine(1);
    assert!((0..3).all(|seat| !town.gossip(seat).graph().has_channel(scid)));
    assert!(town.gossip(ALICE).graph().has_channel(town.scid(ALICE, BOB)));
}

#[test]
fn a_private_channel_is_told_to_its_peer_alone() {
    // BOLT 7 [7.sigs.3, 7.update.2, 7.update.3, 7.update.5].
    let mut town = Town::new(3, 5, gossiping);
    let open = Open { sat: 10_000_000, push_msat: 4_000_000_000, announce: true, ..Open::default() };
    town.open(ALICE, BOB, open);
    town.open(BOB, CAROL, Open { announce: false, ..open });
    town.mine(10);
    spread(&mut town);
    for seat in 0..3 {
        assert_eq!(town.gossip(seat).graph().channel_count(), 1, "seat {seat}");
        assert!(!town.gossip(seat).graph().has_channel(town.scid(BOB, CAROL)));
    }
    let known = |town: &Town| town.between(CAROL, BOB).announce.peer_update().copied();
    let policy = town.between(BOB, CAROL).policy;
    let told = known(&town).expect("Carol knows what Bob asks for");
    assert_eq!(
        (told.base_msat, told.ppm, told.delta_blocks),
        (policy.base_msat, policy.ppm, policy.delta_blocks)
    );
    // It is kept, and a change is told at once.
    town.restart(CAROL);
    assert_eq!(known(&town), Some(told));
    town.settle();
    let order = Command::SetChannel {
        channel: None,
        fee_base_msat: Some(77),
        fee_ppm: None,
        htlc_min_msat: None,
        htlc_max_msat: None,
    };
    town.must(BOB, order);
    let after = known(&town).expect("told");
    assert!(after.base_msat == 77 && after.timestamp > told.timestamp);
}

#[test]
fn signatures_lost_in_a_cut_or_a_crash_are_sent_again() {
    // BOLT 7 [7.sigs.4, 7.sigs.5].
    for number in 0..30 {
        let mut town = line(2, 6);
        town.mine(4);
        let seat = (number % 2) as usize;
        let when = [When::BeforeCommit, When::BeforeRelease, When::AfterRelease][number as usize % 3];
        let step = town.seats[seat].steps + number / 3 + 1;
        town.crashes.push((seat, step, when));
        town.mine(1);
        town.settle();
        spread(&mut town);
        // Both announced it, whichever of them died when.
        assert_eq!([0, 1].map(|seat| whole_channels(&town, seat)), [1, 1], "{seat} {step} {when:?}");
    }
    for turns in 0..40 {
        let mut town = line(2, 7);
        town.mine(4);
        town.chain.mine();
        for _ in 0..turns {
            town.turn();
        }
        town.part(ALICE, BOB, "cut");
        town.settle();
        spread(&mut town);
        assert_eq!([0, 1].map(|seat| whole_channels(&town, seat)), [1, 1], "cut after {turns}");
    }
}

#[test]
fn halves_that_do_not_fit_are_refused() {
    let mut town = line(2, 8);
    town.mine(3);
    let bob = town.seats[BOB].id;
    let (channel_id, scid) = (town.between(ALICE, BOB).id(), town.scid(ALICE, BOB));
    let signature = crypto().sign(&[7; 32], town.seats[BOB].keys().node_secret());
    let half = |short_channel_id| AnnouncementSignatures {
        channel_id,
        short_channel_id,
        node_signature: signature,
        bitcoin_signature: signature,
    };
    let link = town.link(ALICE, BOB).expect("a link");
    let other = ShortChannelId(scid.0 + 1);
    for (short_channel_id, words) in [(other, "another funding output"), (scid, "a signature does not hold")]
    {
        let message = Message::AnnouncementSignatures(half(short_channel_id));
        town.step(ALICE, vec![Input::Message { peer: bob, link, message }]);
        assert_eq!(town.seats[ALICE].logged(words), 1, "{words}");
    }
    // The second cut the link; all comes right on the next one.
    town.mine(5);
    town.settle();
    spread(&mut town);
    assert_eq!([0, 1].map(|seat| whole_channels(&town, seat)), [1, 1]);
}

#[test]
fn one_who_comes_late_or_lost_all_learns_the_rest_from_its_peer() {
    let mut town = announced(4, 9);
    // Dave's machine begins with nothing: its cache is lost, and Carol has all of it.
    town.forget_gossip(3);
    assert_eq!(town.gossip(3).graph().channel_count(), 0);
    town.restart(3);
    town.settle();
    spread(&mut town);
    assert_eq!(whole_channels(&town, 3), 3);
    // A start with the cache asks nobody for what it knows.
    town.restart(ALICE);
    assert_eq!(whole_channels(&town, ALICE), 3);
}

#[test]
fn nodes_without_gossip_say_nothing_of_it() {
    let mut town = Town::new(2, 10, |_, _| {});
    town.open(ALICE, BOB, Open { announce: true, ..Open::default() });
    town.mine(8);
    assert!(!town.between(ALICE, BOB).terms.announce && !town.between(BOB, ALICE).announce.is_public());
}

/// The channel in the name of nodes and keys that are made up; its signatures hold.
fn forged(scid: ShortChannelId) -> Message {
    let mut keys = [31, 32].map(key);
    keys.sort_by_key(|key| crypto().public_key(key).serialize());
    let none = crypto().sign(&[7; 32], &keys[0]);
    let [one, two] = keys.map(|key| crypto().public_key(&key));
    let mut m = ChannelAnnouncement {
        node_signature_1: none,
        node_signature_2: none,
        bitcoin_signature_1: none,
        bitcoin_signature_2: none,
        features: Vec::new(),
        chain_hash: Network::Regtest.chain_hash(),
        short_channel_id: scid,
        node_id_1: NodeId(one),
        node_id_2: NodeId(two),
        bitcoin_key_1: one,
        bitcoin_key_2: two,
        tail: Vec::new(),
    };
    let bytes = Message::ChannelAnnouncement(m.clone()).encode().expect("bytes");
    let digest = signed_digest(&bytes, 4).expect("long enough");
    let [first, second] = keys.map(|key| crypto().sign(&digest, &key));
    (m.node_signature_1, m.bitcoin_signature_1) = (first, first);
    (m.node_signature_2, m.bitcoin_signature_2) = (second, second);
    Message::ChannelAnnouncement(m)
}

#[test]
fn who_forges_a_channel_before_it_is_announced_shuts_nobody_out() {
    for deep in [false, true] {
        let mut town = line(3, 11);
        // The forger is first: while the channel is young, and again when the chain can be asked, before its ends tell of it.
        let (link, peer) = (LinkId(1 << 40), NodeId(crypto().public_key(&key(66))));
        let scid = town.scid(BOB, CAROL);
        let news = News::Linked { peer, link, features: Features::of(&[7]) };
        let message = forged(scid);
        town.whisper_to(ALICE, [Event::News(news), Event::Message { peer, link, message: message.clone() }]);
        town.settle();
        if deep {
            (0..5).for_each(|_| town.chain.mine());
            town.whisper_to(ALICE, [Event::Message { peer, link, message }]);
        }
        town.mine(6);
        spread(&mut town);
        assert_eq!([0, 1, 2].map(|seat| whole_channels(&town, seat)), [2, 2, 2], "{deep}");
        let known = town.gossip(ALICE).graph().channel(scid).expect("the channel");
        let mut ends = [town.seats[BOB].id, town.seats[CAROL].id];
        ends.sort_by_key(|id| id.0.serialize());
        assert_eq!(known.nodes, ends);
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).expect("a key")
}

#[test]
fn nodes_whose_names_were_lost_are_asked_for_again() {
    let mut town = announced(4, 12);
    // They are older than what a filter reaches back to, behind the newest that is known.
    (0..8).for_each(|_| town.wait_ms(15 * 60_000));
    let order = Command::SetChannel {
        channel: None,
        fee_base_msat: Some(77),
        fee_ppm: None,
        htlc_min_msat: None,
        htlc_max_msat: None,
    };
    town.must(BOB, order);
    spread(&mut town);
    assert_eq!(town.policy_seen(3, BOB, CAROL).map(|p| p.fee_base_msat), Some(77));
    town.forget_names(3);
    let named = |town: &Town| {
        let store = town.gossip(3).store();
        town.seats.iter().filter(|seat| store.node(&seat.id).is_some()).count()
    };
    assert_eq!((named(&town), whole_channels(&town, 3)), (0, 3));
    town.restart(3);
    town.settle();
    spread(&mut town);
    assert_eq!(named(&town), 4, "all channels were known: only flags get at their nodes");
}

#[test]
fn one_good_signature_does_not_make_up_for_a_bad_one() {
    // BOLT 7 [7.sigs.4].
    let mut town = line(2, 13);
    town.mine(3);
    let (alice, bob) = (town.seats[ALICE].id, town.seats[BOB].id);
    let (channel_id, scid) = (town.between(ALICE, BOB).id(), town.scid(ALICE, BOB));
    let keys = [ALICE, BOB].map(|seat| town.between(seat, 1 - seat).terms.local.basepoints.funding_pubkey);
    let mut ends = [(alice, keys[0]), (bob, keys[1])];
    ends.sort_by_key(|(id, _)| id.0.serialize());
    let bad = crypto().sign(&[7; 32], &key(7));
    let whole = ChannelAnnouncement {
        node_signature_1: bad,
        node_signature_2: bad,
        bitcoin_signature_1: bad,
        bitcoin_signature_2: bad,
        features: Vec::new(),
        chain_hash: Network::Regtest.chain_hash(),
        short_channel_id: scid,
        node_id_1: ends[0].0,
        node_id_2: ends[1].0,
        bitcoin_key_1: ends[0].1,
        bitcoin_key_2: ends[1].1,
        tail: Vec::new(),
    };
    let bytes = Message::ChannelAnnouncement(whole).encode().expect("bytes");
    let digest = signed_digest(&bytes, 4).expect("long enough");
    let by_node = crypto().sign(&digest, town.seats[BOB].keys().node_secret());
    let half = AnnouncementSignatures {
        channel_id,
        short_channel_id: scid,
        node_signature: by_node,
        bitcoin_signature: bad,
    };
    let link = town.link(ALICE, BOB).expect("a link");
    let message = Message::AnnouncementSignatures(half);
    town.step(ALICE, vec![Input::Message { peer: bob, link, message }]);
    assert_eq!(town.seats[ALICE].logged("a signature does not hold"), 1);
    // It comes right on the next link.
    town.mine(5);
    town.settle();
    spread(&mut town);
    assert_eq!([0, 1].map(|seat| whole_channels(&town, seat)), [1, 1]);
}

#[test]
fn what_a_peer_asks_in_private_is_signed_by_it_and_never_older_than_before() {
    // BOLT 7 [7.update.21].
    let mut town = Town::new(2, 14, gossiping);
    town.open(ALICE, BOB, Open { sat: 10_000_000, announce: false, ..Open::default() });
    town.mine(3);
    town.settle();
    let known = |town: &Town| town.between(ALICE, BOB).announce.peer_update().copied();
    let before = known(&town).expect("Alice knows what Bob asks for");
    let (alice, bob) = (town.seats[ALICE].id, town.seats[BOB].id);
    let name = town.between(ALICE, BOB).name_at_peer().expect("a name");
    let scid = town.between(ALICE, BOB).short_channel_id().unwrap_or(name);
    let told = |secret: &SecretKey, timestamp: u32, direction: u8| {
        let mut m = ChannelUpdate {
            signature: crypto().sign(&[7; 32], secret),
            chain_hash: Network::Regtest.chain_hash(),
            short_channel_id: scid,
            timestamp,
            message_flags: ChannelUpdate::MUST_BE_ONE | ChannelUpdate::DONT_FORWARD,
            channel_flags: direction,
            cltv_expiry_delta: 99,
            htlc_minimum_msat: Msat(1),
            fee_base_msat: 99_999,
            fee_proportional_millionths: 9,
            htlc_maximum_msat: Msat(1_000_000),
            tail: Vec::new(),
        };
        let bytes = Message::ChannelUpdate(m.clone()).encode().expect("bytes");
        m.signature = crypto().sign(&signed_digest(&bytes, 1).expect("long enough"), secret);
        Message::ChannelUpdate(m)
    };
    let secret = *town.seats[BOB].keys().node_secret();
    let bobs = u8::from(bob.0.serialize() > alice.0.serialize());
    let newer = before.timestamp + 9;
    let give = |town: &mut Town, message| {
        let link = town.link(ALICE, BOB).expect("a link");
        town.step(ALICE, vec![Input::Message { peer: bob, link, message }]);
        town.settle();
    };
    for (why, message) in [
        ("no newer one", told(&secret, before.timestamp, bobs)),
        ("an older one", told(&secret, before.timestamp - 1, bobs)),
        ("of the other direction", told(&secret, newer, 1 - bobs)),
        ("signed by somebody else", told(&key(9), newer, bobs)),
    ] {
        give(&mut town, message);
        assert_ne!(known(&town).map(|u| u.base_msat), Some(99_999), "{why}");
    }
    assert_eq!(town.seats[ALICE].logged("channel_update: its signature does not hold"), 1);
    let newest = known(&town).map_or(newer, |u| u.timestamp + 9);
    give(&mut town, told(&secret, newest, bobs));
    assert_eq!(known(&town).map(|u| u.base_msat), Some(99_999), "and this one is");
}

#[test]
fn updates_are_told_anew_before_others_think_the_channel_is_dead() {
    let mut town = announced(3, 15);
    let before = timestamps(&town, ALICE);
    // Nobody counts the hours between.
    let pass = |town: &mut Town, hours: u64| {
        town.now = town.now.plus_ms(hours * 3_600_000);
        town.wait_ms(60_000);
        town.mine(1);
        town.settle();
        spread(town);
    };
    pass(&mut town, 6 * 24);
    assert_eq!(timestamps(&town, ALICE), before, "nothing changed");
    // A week: half of what others wait for.
    pass(&mut town, 25);
    let after = timestamps(&town, ALICE);
    assert!(before.iter().zip(&after).all(|(b, a)| a - b >= 7 * 24 * 3_600), "{before:?} {after:?}");
    (0..3).for_each(|_| pass(&mut town, 8 * 24));
    assert_eq!([0, 1, 2].map(|seat| whole_channels(&town, seat)), [2; 3], "after weeks without other news");
}
