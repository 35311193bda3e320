//! A payee who is a peer: the channel with it is the best way and not the only one, and limits hold there, too.
//!
//! In: Alice with one channel or more to Dave, and a way over Bob. Out: over what each payment went.
//! Read next: `routes`, `chand_protocol::node` (`orders`).

use chand_protocol::gossip::graph::Direction;
use chand_protocol::id::ShortChannelId;
use chand_protocol::node::command::{Command, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::view;
use chand_protocol::units::Msat;
use chand_tests::duet::play::{preimage, request, Open};
use chand_tests::duet::Answer;
use chand_tests::town::Town;

const ALICE: usize = 0;
const BOB: usize = 1;
const DAVE: usize = 2;

fn side(sat: u64, push_msat: u64) -> Open {
    Open { sat, push_msat, ..Open::default() }
}

/// Alice with channels of these sizes with Dave, all but 20,000 sat hers; and over Bob for 1,000 msat when he is there.
fn town(seed: u64, with_dave: &[u64], bob: bool) -> Town {
    let mut town = Town::new(3, seed, |_, config| (config.fee_base_msat, config.fee_ppm) = (1_000, 0));
    for sat in with_dave {
        town.open(ALICE, DAVE, side(*sat, 20_000_000));
    }
    if bob {
        town.open(ALICE, BOB, side(1_000_000, 300_000_000));
        town.open(BOB, DAVE, side(1_000_000, 300_000_000));
    }
    town
}

fn pay(bolt11: &str, limits: RouteLimits) -> Command {
    Command::Pay { bolt11: bolt11.into(), amount_msat: None, label: None, retry_for_s: 60, limits }
}

fn paid(answer: Option<Answer>) -> view::Pay {
    match answer {
        Some(Ok(Reply::Paid(pay))) => pay,
        other => panic!("{other:?}"),
    }
}

fn without(town: &Town, channels: &[ShortChannelId]) -> RouteLimits {
    let way = Direction::between(&town.seats[ALICE].id, &town.seats[DAVE].id);
    RouteLimits { not_channels: channels.iter().map(|scid| (*scid, way)).collect(), ..RouteLimits::default() }
}

/// Alice's channels with Dave, each with what is hers.
fn with_dave(town: &Town) -> Vec<(ShortChannelId, u64)> {
    let dave = town.seats[DAVE].id;
    let all = town.seats[ALICE].node.channels().filter(|c| c.terms.peer == dave);
    all.map(|c| (c.short_channel_id().expect("confirmed"), c.to_us().0)).collect()
}

#[test]
fn what_is_excluded_is_not_used_for_a_peer_either() {
    let mut town = town(850, &[300_000, 300_000], true);
    let before = with_dave(&town);
    let [(first, _), (second, _)] = before[..] else { panic!("{before:?}") };
    // One of two: the other is taken, whichever stands first.
    for (off, on) in [(first, second), (second, first)] {
        let had = with_dave(&town);
        let bill = town.bill(DAVE, &format!("not {off}"), 10_000_000);
        let limits = without(&town, &[off]);
        let done = paid(town.ask(ALICE, pay(&bill.bolt11, limits)));
        assert_eq!(done.amount_sent_msat.0, 10_000_000);
        for ((scid, now), (_, had)) in with_dave(&town).into_iter().zip(had) {
            assert_eq!(had - now, if scid == on { 10_000_000 } else { 0 }, "{scid}");
        }
    }
    // Both: around, for a fee; and when that is too dear, not at all.
    let limits = without(&town, &[first, second]);
    let bill = town.bill(DAVE, "around", 10_000_000);
    let poor = RouteLimits { max_fee: Some(Msat(999)), ..limits.clone() };
    let refused = town.must_fail(ALICE, pay(&bill.bolt11, poor));
    assert!(refused.code == 205 && refused.message.contains("the fee"), "{refused:?}");
    assert_eq!(paid(town.ask(ALICE, pay(&bill.bolt11, limits.clone()))).amount_sent_msat.0, 10_001_000);
    // More than one of them holds: what is excluded lends nothing.
    let bill = town.bill(DAVE, "much", 250_000_000);
    let done = paid(town.ask(ALICE, pay(&bill.bolt11, limits)));
    assert_eq!(done.amount_sent_msat.0, 250_001_000);
    // Dave himself.
    let bill = town.bill(DAVE, "never", 10_000_000);
    let nobody = RouteLimits { not_nodes: vec![town.seats[DAVE].id], ..RouteLimits::default() };
    let refused = town.must_fail(ALICE, pay(&bill.bolt11, nobody));
    assert!(refused.code == 205 && refused.message.contains("the payee is excluded"), "{refused:?}");
    town.judge_quiet();
}

#[test]
fn with_nothing_but_what_is_excluded_there_is_no_way() {
    let mut town = town(851, &[300_000], false);
    let scid = town.scid(ALICE, DAVE);
    let limits = without(&town, &[scid]);
    let bill = town.bill(DAVE, "none", 10_000_000);
    let refused = town.must_fail(ALICE, pay(&bill.bolt11, limits));
    assert!(refused.code == 205 && refused.message.contains("excluded"), "{refused:?}");
    paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
}

#[test]
fn the_longest_delay_holds_for_a_peer_too() {
    let mut town = town(852, &[300_000], true);
    let bill =
        town.invoice(DAVE, InvoiceRequest { cltv_blocks: Some(40), ..request("slow", Some(1_000_000)) });
    let blocks = |most| RouteLimits { max_blocks: Some(most), ..RouteLimits::default() };
    let refused = town.must_fail(ALICE, pay(&bill.bolt11, blocks(42)));
    assert_eq!(refused.code, 205);
    assert!(
        refused.message.contains("40 blocks") && refused.message.contains("the 42 allowed"),
        "{refused:?}"
    );
    paid(town.ask(ALICE, pay(&bill.bolt11, blocks(43))));
    town.judge_quiet();
}

#[test]
fn several_channels_with_the_payee_carry_it_together() {
    let mut town = town(853, &[200_000, 200_000, 200_000], false);
    let bill = town.bill(DAVE, "together", 400_000_000);
    let done = paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
    assert!(done.parts >= 3 && done.amount_sent_msat.0 == 400_000_000, "{done:?}");
    town.judge_quiet();
}

/// Dave holds what nearly fills Alice's channel with him.
fn full(seed: u64, bob: bool) -> Town {
    let mut town = town(seed, &[300_000], bob);
    let hold = Some(preimage(7).hash());
    let held = town.invoice(DAVE, InvoiceRequest { hold, ..request("held", Some(200_000_000)) });
    town.tell(ALICE, pay(&held.bolt11, RouteLimits::default()));
    town.run();
    town
}

#[test]
fn a_full_channel_with_the_payee_is_gone_around() {
    let mut town = full(854, true);
    let bill = town.bill(DAVE, "around", 150_000_000);
    assert_eq!(
        paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default()))).amount_sent_msat.0,
        150_001_000
    );
    // What is left there and the way around, together.
    let bill = town.bill(DAVE, "both", 590_000_000);
    let done = paid(town.ask(ALICE, pay(&bill.bolt11, RouteLimits::default())));
    assert!(done.parts >= 2 && done.amount_sent_msat.0 < 590_000_000 + 16_000, "{done:?}");
    town.must(DAVE, Command::SettleInvoice { preimage: preimage(7) });
    town.judge_quiet();
}

#[test]
fn a_full_channel_that_is_the_only_way_is_waited_for() {
    // Bob is there and has no channel with Dave.
    let mut town = full(855, false);
    town.open(ALICE, BOB, side(1_000_000, 300_000_000));
    let bill = town.bill(DAVE, "waits", 150_000_000);
    let waits = town.tell(ALICE, pay(&bill.bolt11, RouteLimits::default()));
    town.wait_ms(20_000);
    assert!(town.answer(waits).is_none(), "what is held may come back");
    assert_eq!(town.questions, 1);
    town.must(DAVE, Command::CancelInvoice { payment_hash: preimage(7).hash() });
    paid(town.answer(waits));
    // Without an end to what is held, it fails in time, and says why.
    let mut town = full(856, false);
    town.open(ALICE, BOB, side(1_000_000, 300_000_000));
    let bill = town.bill(DAVE, "in vain", 150_000_000);
    let waits = town.tell(ALICE, pay(&bill.bolt11, RouteLimits::default()));
    town.wait_ms(61_000);
    let Some(Err(error)) = town.answer(waits) else { panic!("no end") };
    assert!(error.code == 210 && error.message.contains("in flight"), "{error:?}");
    assert!(error.message.contains("No money moved"), "{error:?}");
}
