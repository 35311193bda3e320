//! The connection itself: an `init` that must be refused, and a peer that falls silent. Channels outlive both.
//!
//! Read next: `clauses`.

use chand_protocol::id::ChannelId;
use chand_protocol::node::effect::{Input, Level};
use chand_protocol::wire::features::{Feature, Features};
use chand_protocol::wire::message::{ErrorMessage, Init};
use chand_protocol::wire::Message;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, Mangle, ALICE, BOB};
use chand_tests::town::Town;

/// Turns after which something must have happened.
const MANY: usize = 100_000;

/// What Alice says in `init`, and some bits more.
fn with(message: Message, bits: &[u16]) -> Option<Message> {
    let Message::Init(mut init) = message else { return None };
    init.features.or(&Features::of(bits));
    Some(Message::Init(init))
}

fn unknown_even(message: Message) -> Option<Message> {
    with(message, &[100])
}

fn unknown_odd(message: Message) -> Option<Message> {
    with(message, &[101])
}

/// option_zeroconf needs option_scid_alias.
fn without_its_need(message: Message) -> Option<Message> {
    let Message::Init(mut init) = message else { return None };
    let bits = init.features.bits().filter_map(|bit| u16::try_from(bit).ok());
    let bits = bits.filter(|bit| bit & !1 != Feature::ScidAlias.even()).chain([Feature::Zeroconf.odd()]);
    init.features = Features::of(&bits.collect::<Vec<_>>());
    Some(Message::Init(init))
}

fn other_chains(message: Message) -> Option<Message> {
    let Message::Init(init) = message else { return None };
    Some(Message::Init(Init { networks: Some(vec![[1; 32], [2; 32]]), ..init }))
}

/// The link breaks, Alice's first `init` over the next one is changed; how many links it took until both were content.
fn links_until_content(duet: &mut Duet, change: fn(Message) -> Option<Message>) -> u64 {
    let before = duet.links();
    duet.mangle = Some(Mangle { from: ALICE, change, times: 1 });
    duet.cut(None);
    duet.settle();
    assert_eq!(duet.mangle.map(|m| m.times), Some(0), "no init was changed");
    duet.links() - before
}

/// Bob hangs up with these words, and the channel works over the next link.
fn refused(seed: u64, change: fn(Message) -> Option<Message>, words: &str) {
    let mut duet = Duet::opened(seed, Open::default());
    assert_eq!(links_until_content(&mut duet, change), 2, "{words}: the first link was not given up");
    assert_eq!(duet.seats[BOB].logged(words), 1, "{words}: {:?}", duet.seats[BOB].log);
    duet.pay(ALICE, "over the next link", 1_000_000);
    duet.judge_agreement();
    duet.judge_peace();
}

#[test]
fn an_init_with_an_unknown_even_bit_ends_the_connection() {
    // BOLT 1 [1.init.10].
    refused(410, unknown_even, "feature bit 100 is required and not known here");
}

#[test]
fn an_init_without_what_a_feature_needs_ends_the_connection() {
    // BOLT 1 [1.init.11].
    refused(411, without_its_need, "without option_scid_alias, which it needs");
}

#[test]
fn an_init_for_other_chains_ends_the_connection() {
    refused(412, other_chains, "no chain in common");
}

#[test]
fn an_init_with_an_unknown_odd_bit_is_welcome() {
    // BOLT 1 [1.init.9].
    let mut duet = Duet::opened(413, Open::default());
    assert_eq!(links_until_content(&mut duet, unknown_odd), 1);
    duet.pay(BOB, "over it", 1_000_000);
}

/// Runs until Alice's next `init` is under way.
fn until_init(duet: &mut Duet) {
    for _ in 0..MANY {
        if duet.next_bytes(ALICE).is_some_and(|bytes| bytes.starts_with(&[0, 16])) {
            return;
        }
        if !duet.turn() {
            duet.pass_ms(10);
        }
    }
    panic!("Alice does not greet");
}

#[test]
fn an_init_whose_records_break_the_rules_ends_the_connection() {
    // An even type that nobody knows; the record of chains a second time.
    let networks = [&[1, 32][..], &[7; 32]].concat();
    for extension in [vec![100, 0], [networks.clone(), networks].concat()] {
        let mut duet = Duet::opened(414, Open::default());
        let before = duet.links();
        duet.cut(None);
        until_init(&mut duet);
        // From here on the wire may bring what does not decode.
        duet.hostile = true;
        duet.meddle(ALICE, |bytes| {
            let features = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
            assert_eq!(bytes[2..4], [0, 0], "no global features");
            bytes.truncate(6 + features);
            bytes.extend_from_slice(&extension);
        });
        duet.settle();
        duet.hostile = false;
        assert_eq!(duet.links(), before + 2, "{extension:?}: the first link was not given up");
        duet.pay(ALICE, "over the next link", 1_000_000);
        duet.judge_agreement();
        duet.judge_peace();
    }
}

#[test]
fn a_peer_that_does_not_answer_loses_its_link_and_no_channel() {
    // BOLT 1 [1.ping.2].
    let mut duet = Duet::opened(415, Open::default());
    let before = duet.links();
    let bob = duet.id(BOB);
    let connected = |duet: &Duet| duet.seats[ALICE].node.is_settled_with(&bob);
    for _ in 0..MANY {
        if !connected(&duet) {
            break;
        }
        // All that Bob says arrives but his pongs; Alice answers his pings, so he is content.
        if duet.next_bytes(BOB).is_some_and(|bytes| bytes.starts_with(&[0, 19])) {
            duet.lose(BOB);
        } else if !duet.turn() {
            duet.pass_ms(1_000);
        }
    }
    assert!(!connected(&duet), "Alice still waits for an answer");
    duet.settle();
    assert_eq!(duet.links(), before + 1);
    duet.judge_peace();
    duet.pay(ALICE, "over the next link", 1_000_000);
    duet.judge_agreement();
}

#[test]
fn a_peer_that_complains_without_end_fills_no_log() {
    let mut town = Town::line(2, 407, |_, _| {});
    let (alice, link) = (town.seats[ALICE].id, town.link(BOB, ALICE).expect("a link"));
    let told = ErrorMessage::new(ChannelId([9; 32]), "no");
    for _ in 0..100 {
        let message = Message::Warning(told.clone());
        town.step(BOB, vec![Input::Message { peer: alice, link, message }]);
    }
    let loud = |words: &str| {
        let of_it = town.seats[BOB].log.iter().filter(|n| n.text.contains(words));
        of_it.filter(|n| n.level != Level::Debug).count()
    };
    assert_eq!(loud("the peer warns"), 20);
    assert_eq!(town.seats[BOB].logged("the peer warns"), 100, "for debugging all of it is there");
    assert!(town.link(BOB, ALICE).is_some());
}
