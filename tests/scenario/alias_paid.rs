//! Payments over channels by their aliases (BOLT 2, 4, 7, 11): who may call a channel what.
//!
//! In: Alice, Bob and Carol in a line, the last channel not announced. Out: invoices and paths that name it as Bob does, forwards by
//! that name, and none by its place when its type hides it.
//! Read next: `alias`, `chand_protocol::node::alias`.

use crate::alias::hidden;
use chand_protocol::id::{ShortChannelId, Side};
use chand_protocol::invoice::{self, Invoice};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest, Reply, RouteHop, RouteLimits};
use chand_protocol::node::effect::Input;
use chand_protocol::node::GossipConfig;
use chand_protocol::units::Msat;
use chand_protocol::wire::message::ChannelReady;
use chand_protocol::wire::Message;
use chand_tests::duet::play::{request, Open};
use chand_tests::duet::Answer;
use chand_tests::town::{Town, ALICE, BOB, CAROL};
use secp256k1::Secp256k1;

const AMOUNT: u64 = 50_000_000;
const WAY: [usize; 3] = [ALICE, BOB, CAROL];

/// Alice and Bob have a public channel, Bob and Carol one that is on nobody's map.
fn line(seed: u64, last: Open) -> Town {
    let mut town = Town::new(3, seed, |_, config| config.gossip = Some(GossipConfig::default()));
    let open = Open { sat: 10_000_000, push_msat: 4_000_000_000, announce: true, ..Open::default() };
    town.open(ALICE, BOB, open);
    town.open(BOB, CAROL, Open { sat: open.sat, push_msat: open.push_msat, ..last });
    town.mine(7);
    (0..3).for_each(|_| town.wait_ms(1_000));
    let real = town.scid(BOB, CAROL);
    town.private.insert(real);
    town
}

fn alias(town: &Town, of: usize, with: usize) -> ShortChannelId {
    town.between(of, with).alias().expect("a name")
}

fn read(bolt11: &str) -> Invoice {
    invoice::parse(bolt11, &Secp256k1::new()).expect("an invoice")
}

fn pay(bolt11: &str) -> Command {
    let limits = RouteLimits::default();
    Command::Pay { bolt11: bolt11.into(), amount_msat: None, label: None, retry_for_s: 60, limits }
}

/// Alice sends along Bob, who is to go on over the channel of this name.
fn along(town: &mut Town, label: &str, second: ShortChannelId) -> Result<(), String> {
    let bill = town.bill(CAROL, label, AMOUNT);
    let mut route = town.route(&WAY, AMOUNT, 40);
    route[1].channel = Some(second);
    ended(town.pay_along(route, &bill, ALICE))
}

fn ended(answer: Option<Answer>) -> Result<(), String> {
    match answer {
        Some(Ok(Reply::Sent(sent))) if sent.status == "complete" => Ok(()),
        Some(Err(error)) => Err(error.message),
        other => panic!("{other:?}"),
    }
}

/// HTLCs that Alice ever offered.
fn offered(town: &Town) -> u64 {
    town.seats[ALICE].node.channels().map(|c| c.ledger.next_id(Side::Local)).sum()
}

#[test]
fn an_invoice_names_a_private_channel_as_the_peer_does() {
    // BOLT 2 [2.ready.6, 2.ready.9].
    for (seed, last) in [(2_460, hidden()), (2_461, Open::default())] {
        let mut town = line(seed, last);
        let bill = town.bill(CAROL, "hint", AMOUNT);
        let hints = read(&bill.bolt11).route_hints;
        let [hint] = hints.as_slice() else { panic!("{hints:?}") };
        assert_eq!((hint.len(), hint[0].node_id), (1, town.seats[BOB].id));
        assert_eq!(hint[0].short_channel_id, alias(&town, BOB, CAROL));
        assert_ne!(hint[0].short_channel_id, alias(&town, CAROL, BOB));
        assert!(matches!(town.must(ALICE, pay(&bill.bolt11)), Reply::Paid(_)));
        // Bob himself pays by it, too.
        let bill = town.bill(CAROL, "from Bob", AMOUNT);
        assert!(matches!(town.must(BOB, pay(&bill.bolt11)), Reply::Paid(_)));
        town.judge_quiet();
        // Carol changed her mind about nothing, and died: the same name.
        town.restart(CAROL);
        town.settle();
        let bill = town.bill(CAROL, "later", AMOUNT);
        assert_eq!(read(&bill.bolt11).route_hints, hints);
    }
}

#[test]
fn a_hidden_channel_is_no_way_on_by_its_place() {
    // BOLT 2, 4 [2.ready.6, 2.ready.7, 4.fail.7].
    let mut town = line(2_462, hidden());
    let (real, name) = (town.scid(BOB, CAROL), alias(&town, BOB, CAROL));
    for (number, (second, fine)) in
        [(name, true), (real, false), (alias(&town, CAROL, BOB), false)].into_iter().enumerate()
    {
        let got = along(&mut town, &format!("{number}"), second);
        match fine {
            true => assert_eq!(got, Ok(())),
            false => assert!(got.is_err_and(|text| text.contains("unknown_next_peer"))),
        }
        town.restart(BOB);
        town.settle();
        town.judge_quiet();
    }
    assert_eq!(town.forwards(BOB).len(), 1);
}

#[test]
fn other_channels_go_by_both_names() {
    // BOLT 2 [2.ready.6].
    for (seed, last) in [(2_463, Open { announce: true, ..Open::default() }), (2_464, Open::default())] {
        let mut town = line(seed, last);
        let names = [town.scid(BOB, CAROL), alias(&town, BOB, CAROL)];
        for (number, name) in names.into_iter().enumerate() {
            assert_eq!(along(&mut town, &format!("{number}"), name), Ok(()), "{name}");
        }
        town.judge_quiet();
    }
}

#[test]
fn a_failure_speaks_of_the_channel_as_its_payer_does() {
    // BOLT 4 [4.fail.20]: otherwise the payer would not believe it, and not pay.
    for (seed, last) in [(2_465, hidden()), (2_466, Open::default())] {
        let mut town = line(seed, last);
        let bill = town.bill(CAROL, "of before", AMOUNT);
        let order = Command::SetChannel {
            channel: Some(ChannelRef::Short(alias(&town, BOB, CAROL))),
            fee_base_msat: Some(9_000),
            fee_ppm: Some(0),
            htlc_min_msat: None,
            htlc_max_msat: None,
        };
        town.must(BOB, order);
        let before = offered(&town);
        let Reply::Paid(paid) = town.must(ALICE, pay(&bill.bolt11)) else { panic!("not paid") };
        assert_eq!((paid.amount_sent_msat.0, offered(&town) - before), (AMOUNT + 9_000, 2));
        town.judge_quiet();
    }
}

#[test]
fn a_path_to_somebody_hidden_goes_by_the_peers_name() {
    for (seed, last) in [(2_467, hidden()), (2_468, Open::default())] {
        let mut town = line(seed, last);
        let blinded = Some(town.asked_for(CAROL));
        let bill = town.invoice(CAROL, InvoiceRequest { blinded, ..request("hidden", Some(AMOUNT)) });
        assert!(matches!(town.must(ALICE, pay(&bill.bolt11)), Reply::Paid(_)));
        // A path that begins with the payer is walked by it.
        let blinded = Some(town.asked_for(CAROL));
        let bill = town.invoice(CAROL, InvoiceRequest { blinded, ..request("his own", Some(AMOUNT)) });
        assert!(matches!(town.must(BOB, pay(&bill.bolt11)), Reply::Paid(_)));
        town.judge_quiet();
    }
}

#[test]
fn our_own_first_channel_goes_by_either_name() {
    let mut town = Town::new(2, 2_469, |_, _| {});
    town.open(ALICE, BOB, hidden());
    let names = [town.scid(ALICE, BOB), alias(&town, ALICE, BOB)];
    let bob = town.seats[BOB].id;
    for (number, name) in names.into_iter().enumerate() {
        let bill = town.bill(BOB, &format!("{number}"), AMOUNT);
        let hop = RouteHop { id: bob, channel: Some(name), amount_msat: Msat(AMOUNT), delay_blocks: 40 };
        assert_eq!(ended(town.pay_along(vec![hop], &bill, ALICE)), Ok(()), "{name}");
    }
    let bill = town.bill(BOB, "another", AMOUNT);
    let other = Some(alias(&town, BOB, ALICE));
    let hop = RouteHop { id: bob, channel: other, amount_msat: Msat(AMOUNT), delay_blocks: 40 };
    assert!(ended(town.pay_along(vec![hop], &bill, ALICE)).is_err());
    // And by either it is left out.
    let ask = |not_channels| Command::GetRoute {
        destination: bob,
        amount_msat: Msat(AMOUNT),
        final_cltv_blocks: 40,
        limits: RouteLimits { not_channels, ..RouteLimits::default() },
    };
    let Reply::Route(route) = town.must(ALICE, ask(Vec::new())) else { panic!("no route") };
    assert_eq!(route[0].channel, Some(names[0]));
    let us = town.seats[ALICE].id;
    let direction = chand_protocol::gossip::graph::Direction::between(&us, &bob);
    for name in names {
        assert_eq!(town.must_fail(ALICE, ask(vec![(name, direction)])).code, 205, "{name}");
    }
    town.judge_quiet();
}

#[test]
fn a_channel_whose_place_is_gone_for_a_while_is_paid_by_its_name() {
    // A reorganisation takes the block of its funding; until another has it, only the aliases are names.
    let mut town = Town::new(3, 2_470, |_, config| config.gossip = Some(GossipConfig::default()));
    let open = Open { sat: 10_000_000, push_msat: 4_000_000_000, ..hidden() };
    town.open(ALICE, BOB, open);
    town.open(BOB, CAROL, open);
    let name = alias(&town, BOB, CAROL);
    let route = |town: &Town| {
        let mut route = town.route(&WAY, AMOUNT, 40);
        route[0].channel = Some(alias(town, ALICE, BOB));
        route[1].channel = Some(name);
        route
    };
    let way = route(&town);
    town.chain.unmine(false);
    town.run();
    assert_eq!(town.between(BOB, CAROL).short_channel_id(), None);
    let bill = town.bill(CAROL, "meanwhile", AMOUNT);
    assert_eq!(read(&bill.bolt11).route_hints[0][0].short_channel_id, name);
    assert_eq!(ended(town.pay_along(way, &bill, ALICE)), Ok(()));
    town.mine(1);
    assert_eq!(alias(&town, BOB, CAROL), name);
    assert!(town.between(BOB, CAROL).short_channel_id().is_some());
    town.judge_quiet();
}

#[test]
fn what_a_peer_calls_its_channel_moves_nobody_elses_payments() {
    let mut town = line(2_471, hidden());
    // Alice tells Bob that their channel is called as his with Carol is.
    let (bob, alice) = (town.seats[BOB].id, town.seats[ALICE].id);
    let (ours, theirs) = (town.between(ALICE, BOB).id(), alias(&town, BOB, CAROL));
    let secret = town.seats[ALICE].keys().channel_secrets(town.between(ALICE, BOB).terms.key_index);
    let point = secret.per_commitment_point(&*chand_tests::duet::crypto(), 1).expect("a point");
    let link = town.link(BOB, ALICE).expect("a link");
    for name in [theirs, town.scid(BOB, CAROL), alias(&town, BOB, ALICE)] {
        let ready = ChannelReady {
            channel_id: ours,
            second_per_commitment_point: point,
            short_channel_id: Some(name),
        };
        town.step(BOB, vec![Input::Message { peer: alice, link, message: Message::ChannelReady(ready) }]);
        town.run();
        assert_eq!(town.between(BOB, ALICE).peer_alias(), Some(name));
        assert_eq!(along(&mut town, &name.to_string(), theirs), Ok(()));
    }
    assert!(town.forwards(BOB).iter().all(|f| f.out_channel == Some(town.scid(BOB, CAROL))));
    assert_eq!(town.seats[BOB].id, bob);
    town.judge_quiet();
}
