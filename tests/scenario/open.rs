//! Opening: both types, gifts, refusals, a chain that takes the funding back.

use chand_protocol::channel::Phase;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::tx::ChannelType;
use chand_protocol::units::Sat;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, ALICE, BOB};

#[test]
fn both_types_with_and_without_a_gift() {
    // BOLT 2 [2.open.6, 2.created.5, 2.signed.1, 2.signed.3, 2.ready.2].
    for (anchors, push_msat) in [(true, 0), (true, 123_456_789), (false, 0), (false, 399_999_999)] {
        let mut duet = Duet::opened(20, Open { anchors, push_msat, ..Open::default() });
        let wanted = if anchors { ChannelType::Anchors } else { ChannelType::StaticRemotekey };
        for seat in [ALICE, BOB] {
            assert_eq!(duet.channel(seat).terms.channel_type, wanted);
            assert_eq!(duet.channel(seat).phase, Phase::Open);
        }
        assert_eq!(duet.balance_msat(BOB), push_msat);
        duet.judge_agreement();
        let list = duet.snapshots(BOB);
        assert_eq!((list.len(), list[0].number, list[0].our_msat.0), (1, 0, push_msat));
        duet.pay(ALICE, "first", 20_000_000);
        duet.close(ALICE);
    }
}

#[test]
fn orders_that_make_no_channel_are_refused_in_words() {
    // BOLT 2 [2.open.4, 2.open.28].
    let mut duet = Duet::new(21);
    let order = duet.fund_order(ALICE, Open::default());
    assert_eq!(duet.must_fail(ALICE, order).code, 400, "nobody is connected");
    duet.connect();
    let wrong = [
        Open { sat: 19_999, push_msat: 0, ..Open::default() },
        Open { push_msat: 1_000_000_001, ..Open::default() },
        // All given away: the opener could not pay the first commitment.
        Open { push_msat: 1_000_000_000, ..Open::default() },
    ];
    for open in wrong {
        let order = duet.fund_order(ALICE, open);
        let error = duet.must_fail(ALICE, order);
        assert_eq!(error.code, -32602, "{error}");
    }
    // More than one coin holds: the wallet says no, and Bob forgets.
    let order = duet.fund_order(ALICE, Open { sat: 300_000_000, push_msat: 0, ..Open::default() });
    duet.expected_errors = vec!["the opener has no funds"];
    let error = duet.must_fail(ALICE, order);
    assert!(error.message.contains("no money moved"), "{error}");
    // A reserve above a fifth of the channel is more than Bob takes.
    let order = duet.fund_order(ALICE, Open { reserve: Some(300_000), ..Open::default() });
    duet.expected_errors.push("channel refused");
    let error = duet.must_fail(ALICE, order);
    assert!(error.message.contains("channel refused"), "{error}");
    assert_eq!(duet.seats[ALICE].wallet.reserved(), 0);
    assert_eq!(duet.seats[ALICE].node.channels().count() + duet.seats[BOB].node.channels().count(), 0);
    // And after all that, a good one opens.
    duet.settle();
    duet.open(Open::default());
    duet.judge_agreement();
}

#[test]
fn a_cut_at_any_message_of_the_opening_loses_no_coin() {
    // BOLT 2 [2.again.1, 2.again.2].
    for after in 0..8 {
        for keep in [None, Some(ALICE), Some(BOB)] {
            let mut duet = Duet::new(22);
            duet.connect();
            duet.expected_errors = vec!["unknown channel"];
            let cut = chand_tests::duet::Cut { after: duet.delivered + after, keep };
            duet.cuts = vec![cut];
            let order = duet.fund_order(ALICE, Open::default());
            let opened = matches!(duet.ask(ALICE, order), Some(Ok(_)));
            if opened {
                duet.settle();
                duet.mine(1);
                duet.pay(ALICE, "after all", 1_000_000);
                duet.judge_agreement();
            } else {
                assert_eq!(duet.seats[ALICE].wallet.reserved(), 0, "coins are free again");
                assert_eq!(duet.seats[ALICE].node.channels().count(), 0);
            }
        }
    }
}

#[test]
fn a_deeper_wish_is_waited_for_and_a_restart_meanwhile_changes_nothing() {
    // BOLT 2 [2.ready.8, 2.open.33].
    let mut duet = Duet::with(23, |place, config| {
        config.funding_confirms = if place == BOB { 3 } else { 1 };
    });
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.must(ALICE, order);
    for restarted in [ALICE, BOB, ALICE] {
        assert_eq!(duet.channel(BOB).phase, Phase::Confirming);
        duet.restart(restarted);
        duet.settle();
        duet.mine(1);
    }
    assert_eq!(duet.channel(ALICE).phase, Phase::Open);
    assert_eq!(duet.channel(BOB).phase, Phase::Open);
    duet.pay(BOB, "back", 1_000);
    duet.judge_agreement();
}

#[test]
fn a_reorganisation_moves_the_funding_and_no_money() {
    let mut duet = Duet::new(24);
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.must(ALICE, order);
    duet.mine(1);
    let first = duet.channel(BOB).confirmed;
    duet.pay(ALICE, "before", 1_000_000);
    duet.unmine(false);
    assert_eq!(duet.channel(BOB).confirmed, None);
    duet.judge_agreement();
    duet.mine(2);
    let again = duet.channel(BOB).confirmed;
    assert!(first.is_some() && again == first, "the same place in another block");
    duet.pay(ALICE, "after", 1_000_000);
    duet.judge_agreement();
    duet.close(ALICE);
}

#[test]
fn a_funding_that_falls_out_of_the_chain_before_it_is_ready_is_published_again() {
    let mut duet = Duet::with(25, |_, config| config.funding_confirms = 2);
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.must(ALICE, order);
    duet.mine(1);
    // The transaction is lost with its block: nobody's mempool has it.
    duet.unmine(true);
    assert_eq!(duet.channel(ALICE).confirmed, None);
    duet.mine(3);
    assert_eq!(duet.channel(ALICE).phase, Phase::Open);
    assert_eq!(duet.channel(BOB).phase, Phase::Open);
    duet.pay(ALICE, "after", 1_000_000);
    duet.judge_agreement();
}

#[test]
fn two_channels_with_one_peer_carry_what_one_cannot() {
    let mut duet = Duet::opened(26, Open::default());
    let order = duet.fund_order(BOB, Open { sat: 2_000_000, push_msat: 0, ..Open::default() });
    let reply = duet.must(BOB, order);
    let Reply::Funded { .. } = reply else { panic!("{reply:?}") };
    duet.mine(1);
    let reply = duet.must(BOB, Command::ListPeerChannels { peer: None, channel: None });
    let Reply::PeerChannels(list) = reply else { panic!("{reply:?}") };
    assert_eq!(list.iter().map(|c| c.total).max(), Some(Sat(2_000_000)));
    let invoice = duet.invoice(ALICE, chand_tests::duet::play::request("large", Some(1_500_000_000)));
    duet.must(BOB, chand_tests::duet::play::pay(&invoice.bolt11, None));
    duet.restart(BOB);
    duet.settle();
    let total: u64 = duet.seats[ALICE].node.channels().map(|c| c.to_us().0).sum();
    assert_eq!(total, 600_000_000 + 1_500_000_000);
}
