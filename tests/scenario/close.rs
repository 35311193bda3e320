//! Closing by agreement: exact balances on chain, with HTLCs pending, over cuts, in both dialects.

use chand_protocol::channel::Phase;
use chand_protocol::node::command::{ChannelRef, Command, Reply, RouteLimits};
use chand_protocol::node::effect::{Fees, Input};
use chand_protocol::units::Feerate;
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{Cut, Duet, ALICE, BOB};

#[test]
fn either_side_closes_either_type_in_either_dialect() {
    // BOLT 2 [2.legacy.2, 2.legacy.6, 2.simple.14, 2.simple.26, 2.simple.27, 2.simple.34, 2.shutdown.9].
    for simple in [false, true] {
        for anchors in [true, false] {
            for closer in [ALICE, BOB] {
                let mut duet = Duet::with(40, |_, config| config.simple_close = simple);
                duet.connect();
                duet.open(Open { anchors, ..Open::default() });
                assert_eq!(duet.channel(ALICE).terms.simple_close, simple);
                duet.pay(ALICE, "one", 100_000_123);
                duet.close(closer);
                let reply = duet.must(BOB, Command::ListClosedChannels { peer: None });
                let Reply::ClosedChannels(list) = reply else { panic!("{reply:?}") };
                assert_eq!(list.len(), 1);
                assert_eq!(list[0].close_cause, "mutual");
                assert_eq!(list[0].final_to_us_msat.0, 500_000_123);
            }
        }
    }
}

#[test]
fn a_side_with_nothing_worth_an_output_gets_none() {
    // BOLT 2, 3 [2.simple.10, 2.simple.19, 3.close.3].
    for simple in [false, true] {
        for push_msat in [0, 200_000] {
            let mut duet = Duet::with(41, |_, config| config.simple_close = simple);
            duet.connect();
            duet.open(Open { push_msat, ..Open::default() });
            let order = duet.close_order();
            let reply = duet.must(BOB, order);
            let Reply::Closed { kind: "mutual", tx: Some(tx) } = reply else { panic!("{reply:?}") };
            assert_eq!(tx.output.len(), 1);
            duet.mine(1);
            duet.judge_peace();
            // In the newer dialect either side's transaction may be the one.
            assert!([ALICE, BOB].iter().all(|seat| duet.channel(*seat).spent_height().is_some()));
            assert!(simple || duet.chain.is_confirmed(&tx.compute_txid()));
        }
    }
}

#[test]
fn pending_htlcs_end_first_and_new_ones_are_not_taken() {
    // BOLT 2 [2.shutdown.5].
    for settle in [true, false] {
        for closer in [ALICE, BOB] {
            let mut duet = Duet::opened(42, Open::default());
            duet.pay_held(ALICE, 1, 30_000_000);
            duet.pay_held(BOB, 2, 20_000_000);
            let order = duet.close_order();
            let closing = duet.tell(closer, order);
            duet.run();
            assert!(duet.answer(closing).is_none(), "it waits for the HTLCs");
            assert!(matches!(duet.channel(ALICE).phase, Phase::Closing(_)));
            let id = duet.id(BOB);
            let late = Command::Keysend {
                destination: id,
                amount_msat: chand_protocol::units::Msat(1_000),
                label: None,
                retry_for_s: 0,
                limits: RouteLimits::default(),
            };
            assert!(matches!(duet.ask(ALICE, late), Some(Err(_))), "no new payment");
            duet.judge_agreement();
            duet.restart(BOB);
            duet.settle();
            duet.restart(ALICE);
            duet.settle();
            if settle {
                duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
                duet.must(ALICE, Command::SettleInvoice { preimage: preimage(2) });
            } else {
                duet.must(BOB, Command::CancelInvoice { payment_hash: preimage(1).hash() });
                duet.must(ALICE, Command::CancelInvoice { payment_hash: preimage(2).hash() });
            }
            assert_eq!(duet.balance_msat(ALICE), if settle { 590_000_000 } else { 600_000_000 });
            assert!(matches!(duet.channel(ALICE).phase, Phase::Closed(_)));
            duet.judge_close();
        }
    }
}

#[test]
fn a_close_is_cut_at_every_message_and_still_ends() {
    // BOLT 2 [2.again.40].
    for simple in [false, true] {
        for closer in [ALICE, BOB] {
            for after in 0..8 {
                for keep in [None, Some(ALICE), Some(BOB)] {
                    let mut duet = Duet::with(43, |_, config| config.simple_close = simple);
                    duet.connect();
                    duet.open(Open::default());
                    duet.cuts = vec![Cut { after: duet.delivered + after, keep }];
                    let order = duet.close_order();
                    let closing = duet.tell(closer, order);
                    duet.run();
                    duet.wait_ms(2_000);
                    let closed = [ALICE, BOB].map(|s| matches!(duet.channel(s).phase, Phase::Closed(_)));
                    assert!(closed[0] || closed[1], "after {after}, keep {keep:?}");
                    duet.judge_close();
                    let answer = duet.answer(closing);
                    assert!(matches!(answer, Some(Ok(Reply::Closed { kind: "mutual", .. }))), "{answer:?}");
                }
            }
        }
    }
}

#[test]
fn both_close_at_once() {
    for simple in [false, true] {
        let mut duet = Duet::with(44, |_, config| config.simple_close = simple);
        duet.connect();
        duet.open(Open::default());
        let orders = [ALICE, BOB].map(|seat| {
            let order = duet.close_order();
            duet.tell(seat, order)
        });
        duet.run();
        for id in orders {
            let answer = duet.answer(id);
            assert!(matches!(answer, Some(Ok(Reply::Closed { kind: "mutual", .. }))), "{answer:?}");
        }
        duet.judge_close();
    }
}

#[test]
fn a_channel_that_never_confirmed_closes_too() {
    let mut duet = Duet::new(45);
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.must(ALICE, order);
    let order = duet.close_order();
    let closing = duet.tell(BOB, order);
    duet.run();
    duet.mine(2);
    let answer = duet.answer(closing);
    assert!(matches!(answer, Some(Ok(Reply::Closed { kind: "mutual", .. }))), "{answer:?}");
    duet.mine(1);
    duet.judge_peace();
    assert!(duet.channel(ALICE).spent_height().is_some());
}

#[test]
fn fee_ranges_are_kept() {
    let mut duet = Duet::opened(46, Open::default());
    let order = Command::Close {
        channel: ChannelRef::Id(duet.channel_id()),
        unilateral_timeout_s: 0,
        destination: None,
        feerange: Some((Feerate(2_000), Feerate(3_000))),
    };
    duet.must(ALICE, order);
    let Phase::Closed(closed) = &duet.channel(BOB).phase else { panic!("not closed") };
    let feerate = closed.fee.0 * 1_000 / closed.tx.weight().to_wu();
    assert!((1_900..3_200).contains(&feerate), "{feerate} sat/kw");
    duet.judge_close();
}

/// A close by `closer`, within a range of Alice's user's or none, while the backend of `strict` takes nothing below
/// 1,251 sat per 1,000 weight units: the fee, and the least that relays there.
fn close_fee(closer: usize, strict: usize, simple: bool, feerange: Option<(u32, u32)>) -> (u64, u64) {
    let mut duet = Duet::with(49, |_, config| config.simple_close = simple);
    duet.connect();
    duet.open(Open::default());
    let (normal, urgent, minimum) = (Feerate(1_000), Feerate(2_000), Feerate(1_251));
    duet.give(strict, Input::Fees(Fees { normal, urgent, minimum }));
    duet.run();
    let Command::Close { channel, unilateral_timeout_s, destination, .. } = duet.close_order() else {
        panic!("another order")
    };
    let feerange = feerange.map(|(low, high)| (Feerate(low), Feerate(high)));
    duet.must(closer, Command::Close { channel, unilateral_timeout_s, destination, feerange });
    let Phase::Closed(closed) = &duet.channel(closer).phase else { panic!("not closed") };
    let (fee, weight) = (closed.fee.0, closed.tx.weight().to_wu());
    duet.judge_close();
    // As both sign before they know how long the signatures are: 73 bytes each.
    (fee, minimum.relay_fee(weight.next_multiple_of(4).max(676)).0)
}

#[test]
fn a_close_pays_what_the_backend_takes() {
    // Alice opened and pays by closing_signed: her own backend, and then Bob's, wants more than she likes to give.
    for strict in [ALICE, BOB] {
        for closer in [ALICE, BOB] {
            let (fee, least) = close_fee(closer, strict, false, None);
            assert!(fee >= least && fee < 2 * least, "{fee} of {least}");
        }
    }
    // By closing_complete whoever closes pays for its own transaction.
    for closer in [ALICE, BOB] {
        let (fee, least) = close_fee(closer, closer, true, None);
        assert!(fee >= least && fee < 2 * least, "{fee} of {least}");
    }
    // A range that begins below, one that ends right there, and one that ends below: the user's word is kept.
    let (fee, least) = close_fee(ALICE, ALICE, false, Some((253, 2_000)));
    assert!(fee >= least, "{fee} of {least}");
    let (fee, least) = close_fee(ALICE, ALICE, false, Some((253, 1_251)));
    assert_eq!(fee, least);
    let (fee, least) = close_fee(ALICE, ALICE, false, Some((253, 600)));
    assert!(fee < least / 2 + 1, "{fee} of {least}");
}

#[test]
fn a_close_that_is_not_agreed_to_in_time_is_told_as_what_it_became() {
    let mut duet = Duet::opened(47, Open::default());
    duet.pay_held(ALICE, 1, 2_000_000);
    duet.run();
    let order = Command::Close {
        channel: ChannelRef::Id(duet.channel_id()),
        unilateral_timeout_s: 1,
        destination: None,
        feerange: None,
    };
    duet.expected_errors =
        vec!["txn-mempool-conflict", "the peer reports an error", "the peer closed by force"];
    let closing = duet.tell(ALICE, order);
    duet.run();
    assert!(duet.answer(closing).is_none(), "an HTLC is held: nothing can be agreed yet");
    duet.wait_ms(1_500);
    let answer = duet.answer(closing);
    let Some(Ok(Reply::Closed { kind: "unilateral", tx: Some(tx) })) = answer else { panic!("{answer:?}") };
    let Phase::Onchain(onchain) = &duet.channel(ALICE).phase else {
        panic!("{:?}", duet.channel(ALICE).phase)
    };
    assert_eq!(onchain.txid, tx.compute_txid());
}

#[test]
fn a_funding_that_the_mempool_lost_is_offered_again_under_its_close() {
    let mut duet = Duet::new(48);
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.must(ALICE, order);
    duet.expected_errors = vec!["bad-txns-inputs-missingorspent"];
    let order = duet.close_order();
    duet.tell(ALICE, order);
    duet.run();
    assert_eq!(duet.chain.mempool.len(), 2, "funding and close");
    duet.chain.mempool.clear();
    duet.mine(1);
    duet.run();
    duet.mine(1);
    duet.run();
    duet.mine(1);
    assert!(duet.channel(ALICE).confirmed.is_some(), "the funding is in a block after all");
    assert!(
        [ALICE, BOB].iter().all(|seat| duet.channel(*seat).spent_height().is_some()),
        "and the close behind it"
    );
}

#[test]
fn a_channel_ready_that_crosses_the_last_word_of_a_close_is_no_fault() {
    let mut duet = Duet::with(48, |_, config| config.simple_close = false);
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.must(ALICE, order);
    let order = duet.close_order();
    duet.ask_alone(BOB, order);
    // Bob's shutdown: Alice answers with hers and an offer, then sees the block before Bob's agreement comes.
    assert!(duet.deliver_from(BOB));
    assert!(duet.under_way(ALICE) == 2 && duet.under_way(BOB) == 0);
    duet.chain.mine();
    duet.turn();
    assert_eq!(duet.under_way(ALICE), 3, "channel_ready");
    duet.run();
    for seat in [ALICE, BOB] {
        assert!(matches!(duet.channel(seat).phase, Phase::Closed(_)));
        assert_eq!(duet.seats[seat].logged("peer fault"), 0);
    }
    duet.judge_close();
}
