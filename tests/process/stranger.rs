//! What a stranger can say at the port for peers once its handshake is done: garbage, too much, too little, twice, in the
//! wrong order, in words nobody knows. Each ends as the specification asks, and nobody else notices.

use chand_protocol::id::ChannelId;
use chand_protocol::wire::message::{ErrorMessage, Ping, UpdateFee};
use chand_protocol::wire::Message;
use chand_tests::books::shares;
use chand_tests::stranger::Stranger;
use chand_tests::{wait_until, ChannelType, World};
use serde_json::json;

/// The longest message that the transport carries.
const MAX: usize = 65_535;

fn world() -> World {
    World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors)
}

/// Alice and Bob pay as before, and Bob's channel is as it was.
fn as_before(world: &World, label: &str) {
    let bolt11 = world.bob.invoice(3_000, label);
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    shares(&world.alice, &world.bob);
    assert_eq!(world.alice.channel(&world.bob)["state"], "CHANNELD_NORMAL");
}

fn encoded(message: &Message) -> Vec<u8> {
    message.encode().expect("it encodes")
}

/// So many bytes of a type.
fn of_kind(kind: u16, len: usize) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vec![0xa5; len.saturating_sub(2)]].concat()
}

#[test]
fn what_may_be_ignored_is_ignored() {
    let world = world();
    let mut dave = Stranger::greet(&world.bob, 4);
    // Odd types nobody knows, as long as they get; a second init.
    for bytes in [
        of_kind(9_999, 2),
        of_kind(40_001, MAX),
        of_kind(65_535, MAX),
        encoded(&Message::Init(chand_protocol::wire::message::Init {
            features: chand_protocol::wire::features::Features::ours_init(false),
            networks: None,
        })),
    ] {
        dave.say(&bytes).expect("sent");
        assert_eq!(dave.ping(7).expect("still there"), [], "type {:?}", &bytes[..2]);
    }
    // A ping as long as can be, with the longest answer; and one that wants none.
    let most = Ping { num_pong_bytes: 65_531, byteslen: 65_529 };
    dave.say(&encoded(&Message::Ping(most))).expect("sent");
    assert_eq!(dave.hear().expect("a pong").len(), MAX);
    dave.say(&encoded(&Message::Ping(Ping { num_pong_bytes: 65_532, byteslen: 0 }))).expect("sent");
    assert_eq!(dave.ping(9).expect("still there"), []);
    as_before(&world, "after all that");
}

#[test]
fn what_must_be_understood_ends_the_connection() {
    let world = world();
    let good = encoded(&Message::UpdateFee(UpdateFee {
        channel_id: ChannelId([7; 32]),
        feerate_per_kw: chand_protocol::units::Feerate(1_000),
    }));
    let mut rubbish: Vec<Vec<u8>> = vec![
        // Even and unknown.
        of_kind(9_998, 2),
        of_kind(40_000, MAX),
        // No type.
        Vec::new(),
        vec![0],
        // A record that must be understood after all fields.
        [&good[..], &[2, 0]].concat(),
        // Records out of order.
        [&good[..], &[5, 0, 3, 0]].concat(),
        // A ping that says it is longer than it is.
        vec![0, 18, 0, 1, 0xff, 0xff],
        // A key that is no point, an onion cut short.
        of_kind(32, 400),
        of_kind(128, 1_000),
    ];
    // Cut in every field.
    rubbish.extend([2, 3, 33, 34, 37].map(|len| good[..len].to_vec()));
    for (number, bytes) in (10..).zip(&rubbish) {
        let mut dave = Stranger::greet(&world.bob, number);
        dave.say(bytes).expect("sent");
        let said = dave.until_the_end();
        let told = said.iter().any(|m| matches!(m, Message::Warning(_) | Message::Error(_)));
        assert!(told, "{} bytes {:?}: {said:?}", bytes.len(), &bytes[..bytes.len().min(8)]);
    }
    as_before(&world, "after all that");
}

#[test]
fn frames_that_were_tampered_with_end_the_connection() {
    let world = world();
    let ping = encoded(&Message::Ping(Ping { num_pong_bytes: 1, byteslen: 0 }));
    type Tamper = fn(&mut Stranger, &[u8]) -> Vec<u8>;
    let ways: [(&str, Tamper); 6] = [
        ("garbage", |_, _| vec![0x5a; 3_000]),
        ("a flipped bit in the length", |dave, ping| {
            let mut frame = dave.seal(ping);
            frame[1] ^= 1;
            frame
        }),
        ("a flipped bit in the body", |dave, ping| {
            let mut frame = dave.seal(ping);
            frame[20] ^= 0x80;
            frame
        }),
        ("a frame twice", |dave, ping| {
            let frame = dave.seal(ping);
            [frame.clone(), frame].concat()
        }),
        ("two frames in the wrong order", |dave, ping| {
            let (one, two) = (dave.seal(ping), dave.seal(ping));
            [two, one].concat()
        }),
        ("a frame left out", |dave, ping| {
            dave.seal(ping);
            dave.seal(ping)
        }),
    ];
    for (number, (what, tamper)) in (60..).zip(ways) {
        let mut dave = Stranger::greet(&world.bob, number);
        let bytes = tamper(&mut dave, &ping);
        // It may hang up before all of it is written.
        let _ = dave.write(&bytes);
        let said = dave.until_the_end();
        let pongs = said.iter().filter(|m| matches!(m, Message::Pong(_))).count();
        // The first of two is sound; its answer may meet a connection that the second has ended.
        assert!(pongs <= usize::from(what == "a frame twice"), "{what}: {said:?}");
    }
    // Half a frame, then an end: nothing was said.
    let mut dave = Stranger::greet(&world.bob, 80);
    let frame = dave.seal(&of_kind(9_999, MAX));
    dave.write(&frame[..40_000]).expect("sent");
    drop(dave);
    as_before(&world, "after all that");
}

#[test]
fn messages_in_the_wrong_order_about_channels_that_are_not_theirs() {
    let world = world();
    let theirs = world.alice.channel(&world.bob)["channel_id"].as_str().expect("an id").to_string();
    let theirs: ChannelId = theirs.parse().expect("a channel id");
    // Before init nothing else may be said.
    let mut dave = Stranger::dial(&world.bob, 90);
    dave.say(&encoded(&Message::Ping(Ping { num_pong_bytes: 1, byteslen: 0 }))).expect("sent");
    let said = dave.until_the_end();
    assert!(!said.iter().any(|m| matches!(m, Message::Pong(_))), "{said:?}");
    // Every message of a channel's life, about Alice's and about nobody's, from one who has none.
    let kinds = [33, 34, 35, 36, 38, 39, 40, 41, 128, 130, 131, 132, 133, 134, 135, 136];
    for (number, kind) in (100..).zip(kinds) {
        for id in [theirs, ChannelId([0x77; 32])] {
            let mut dave = Stranger::greet(&world.bob, number);
            let bytes = [&u16::to_be_bytes(kind)[..], &id.0, &[0; 1_500]].concat();
            if dave.say(&bytes).is_ok() {
                // Told off or hung up on; either way it goes on for others.
                let _ = dave.ping(5);
            }
        }
    }
    // An error about Alice's channel, and about all, from one who has none.
    for (number, id) in [(130, theirs), (131, ChannelId::ALL)] {
        let mut dave = Stranger::greet(&world.bob, number);
        dave.say(&encoded(&Message::Error(ErrorMessage::new(id, "close it")))).expect("sent");
        let _ = dave.ping(5);
    }
    as_before(&world, "after all that");
}

#[test]
fn a_flood_takes_nothing_from_others() {
    let world = world();
    let mut floods: Vec<Stranger> = (140..144).map(|number| Stranger::greet(&world.bob, number)).collect();
    let frames = |dave: &mut Stranger, bytes: &[u8]| -> Vec<u8> {
        (0..2_000).flat_map(|_| dave.seal(bytes)).collect()
    };
    let ping = encoded(&Message::Ping(Ping { num_pong_bytes: 1_000, byteslen: 0 }));
    for (number, dave) in floods.iter_mut().enumerate() {
        let bytes = if number % 2 == 0 { ping.clone() } else { of_kind(9_999, 500) };
        let stream = frames(dave, &bytes);
        // Nobody reads the answers: the node may stop to read, or hang up.
        let _ = dave.write(&stream);
    }
    as_before(&world, "in the middle of it");
    drop(floods);
    as_before(&world, "after all that");
    wait_until("the strangers to be forgotten", || {
        let peers = world.bob.call("listpeers", json!({}));
        let count = peers["peers"].as_array().map(Vec::len);
        count == Some(1)
    });
}
