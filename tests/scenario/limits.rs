//! Limits: 483 HTLCs each way, the reserve, dust, what is in flight, feerates.

use chand_protocol::id::{CommandId, Side};
use chand_protocol::node::command::{ChannelRef, Command, Reply, RouteLimits};
use chand_protocol::units::{Feerate, Msat};
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{other, Duet, ALICE, BOB};

const MOST: u64 = 483;

#[test]
fn four_hundred_eighty_three_each_way_and_the_next_one_waits() {
    // BOLT 2 [2.add.6].
    for anchors in [true, false] {
        let mut duet = Duet::with(50, |_, _| {});
        duet.burst = 50;
        duet.check_every = 40;
        duet.connect();
        duet.open(Open { sat: 50_000_000, push_msat: 20_000_000_000, anchors, ..Open::default() });
        // One more than fits, each way.
        let invoices: Vec<(usize, String)> = (0..2 * (MOST + 1))
            .map(|number| {
                let payer = number as usize % 2;
                (payer, duet.hold_invoice(other(payer), number, 2_000_000 + number).bolt11)
            })
            .collect();
        let mut orders: Vec<CommandId> =
            invoices.iter().map(|(payer, bolt11)| duet.tell(*payer, pay(bolt11, None))).collect();
        duet.run();
        for seat in [ALICE, BOB] {
            let ledger = &duet.channel(seat).ledger;
            for side in [Side::Local, Side::Remote] {
                let count = ledger.htlcs.keys().filter(|id| id.offered_by == side).count() as u64;
                assert_eq!(count, MOST);
            }
        }
        duet.judge_agreement();
        duet.restart(ALICE);
        duet.restart(BOB);
        duet.settle();
        duet.judge_agreement();
        assert!(orders.iter().all(|id| duet.answer(*id).is_none()), "all wait");
        // The two that waited were never sent: a restart ends them, and no money moved.
        for payer in [ALICE, BOB] {
            assert!(duet.payment(payer, preimage(MOST * 2 + payer as u64).hash()).is_none());
        }
        let waits = [ALICE, BOB].map(|payer| {
            let invoice = duet.invoice(other(payer), request("waits", Some(3_000_000)));
            duet.tell(payer, pay(&invoice.bolt11, None))
        });
        duet.run();
        assert!(waits.iter().all(|id| duet.answer(*id).is_none()), "no slot is free");
        for number in 0..MOST * 2 {
            let payee = other(number as usize % 2);
            let id = duet.tell(payee, Command::SettleInvoice { preimage: preimage(number) });
            orders.push(id);
        }
        duet.run();
        for id in waits {
            let answer = duet.answer(id);
            assert!(matches!(answer, Some(Ok(Reply::Paid(_)))), "{answer:?}");
        }
        assert!(duet.channel(ALICE).ledger.htlcs.is_empty());
        // Bob's payments carry one msat more each; the two at the end cancel out.
        assert_eq!(duet.balance_msat(ALICE), 30_000_000_000 + MOST);
        duet.judge_agreement();
        duet.close(ALICE);
    }
}

#[test]
fn all_a_side_can_send_it_can_send_and_no_msat_more() {
    // BOLT 2 [2.add.1, 2.add.2].
    for anchors in [true, false] {
        for payer in [ALICE, BOB] {
            let mut duet = Duet::opened(51, Open { anchors, ..Open::default() });
            let spendable = |duet: &Duet, seat: usize| {
                duet.channel(seat).view(chand_protocol::units::Height(0)).spendable_msat.0
            };
            let most = spendable(&duet, payer);
            let order = |duet: &mut Duet, label: &str, msat: u64| {
                let bolt11 = duet.invoice(other(payer), request(label, Some(msat))).bolt11;
                Command::Pay {
                    bolt11,
                    amount_msat: None,
                    label: None,
                    retry_for_s: 0,
                    limits: RouteLimits::default(),
                }
            };
            let above = order(&mut duet, "above", most + 1);
            duet.must_not_move(payer, above);
            let exact = order(&mut duet, "exact", most);
            duet.must(payer, exact);
            duet.judge_agreement();
            let reserve = duet.channel(payer).terms.remote.reserve.to_msat().0;
            assert!(duet.balance_msat(payer) >= reserve);
            // And it comes back.
            let back = spendable(&duet, other(payer));
            assert!(back > most / 2, "{back}");
            duet.pay(other(payer), "back", back);
            duet.judge_agreement();
            duet.close(payer);
        }
    }
}

#[test]
fn dust_is_paid_and_bounded() {
    let mut duet = Duet::opened(52, Open::default());
    duet.pay(ALICE, "one msat", 1);
    duet.judge_agreement();
    assert_eq!(duet.balance_msat(BOB), 400_000_001);
    // 300-sat HTLCs have no output; at 50,000 sat of them the next one waits.
    let invoices: Vec<String> = (0..170).map(|n| duet.hold_invoice(BOB, n, 300_000).bolt11).collect();
    let orders: Vec<CommandId> = invoices.iter().map(|bolt11| duet.tell(ALICE, pay(bolt11, None))).collect();
    duet.check_every = 10;
    duet.run();
    assert_eq!(duet.channel(ALICE).ledger.htlcs.len(), 166);
    duet.judge_agreement();
    for number in 0..170 {
        let done = duet.ask(BOB, Command::SettleInvoice { preimage: preimage(number) });
        assert!(matches!(done, Some(Ok(_))), "{number}: {done:?}");
    }
    for id in orders {
        assert!(matches!(duet.answer(id), Some(Ok(_))));
    }
    assert_eq!(duet.balance_msat(BOB), 400_000_001 + 170 * 300_000);
    duet.judge_agreement();
}

#[test]
fn what_may_be_in_flight_is_bounded_and_the_rest_waits() {
    // BOLT 2 [2.add.7].
    let mut duet = Duet::with(53, |place, config| {
        config.max_in_flight_percent = if place == BOB { 10 } else { 100 };
    });
    duet.connect();
    duet.open(Open::default());
    let first = duet.pay_held(ALICE, 1, 60_000_000);
    let second = duet.pay_held(ALICE, 2, 60_000_000);
    assert_eq!(duet.channel(ALICE).ledger.htlcs.len(), 1, "100,000 sat may be in flight");
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert!(matches!(duet.answer(first), Some(Ok(_))));
    assert_eq!(duet.channel(ALICE).ledger.htlcs.len(), 1, "now the second is");
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(2) });
    assert!(matches!(duet.answer(second), Some(Ok(_))));
    duet.judge_agreement();
}

fn set_feerate(duet: &mut Duet, seat: usize, feerate: u32) -> Option<i32> {
    let order = Command::DevFeerate { channel: ChannelRef::Id(duet.channel_id()), feerate: Feerate(feerate) };
    match duet.ask(seat, order) {
        Some(Ok(_)) => None,
        Some(Err(e)) => Some(e.code),
        None => panic!("no answer"),
    }
}

#[test]
fn the_opener_changes_the_feerate_with_htlcs_in_flight() {
    // BOLT 2 [2.fee.1].
    for anchors in [true, false] {
        let mut duet = Duet::opened(54, Open { anchors, ..Open::default() });
        duet.pay_held(ALICE, 1, 30_000_000);
        duet.pay_held(BOB, 2, 20_000_000);
        // Between both feerates these are dust in one and none in the other.
        duet.pay_held(ALICE, 3, 1_500_000);
        assert_eq!(set_feerate(&mut duet, BOB, 2_000), Some(-1), "only the opener may");
        assert_eq!(set_feerate(&mut duet, ALICE, 252), Some(-1), "below what relays");
        assert_eq!(set_feerate(&mut duet, ALICE, 4_000_000), Some(-1), "more than it has");
        for feerate in [2_000, 5_000, 253, 900] {
            assert_eq!(set_feerate(&mut duet, ALICE, feerate), None);
            for seat in [ALICE, BOB] {
                assert_eq!(duet.channel(seat).feerate(), Feerate(feerate));
            }
            duet.judge_agreement();
            let restarted = feerate as usize % 2;
            duet.restart(restarted);
            duet.settle();
            duet.judge_agreement();
        }
        for (payee, number) in [(BOB, 1), (ALICE, 2), (BOB, 3)] {
            duet.must(payee, Command::SettleInvoice { preimage: preimage(number) });
        }
        duet.judge_agreement();
        assert_eq!(duet.balance_msat(ALICE), 588_500_000);
        duet.close(BOB);
    }
}

#[test]
fn a_new_feerate_leaves_room_for_two_htlcs_that_may_cross_it() {
    let open = Open { sat: 100_000, push_msat: 80_000_000, anchors: false, ..Open::default() };
    let mut duet = Duet::opened(56, open);
    // Of Alice's 20,000 sat 1,000 are her reserve; 724 and twice 172 weight units cost the rest at 17,791 the kilo.
    assert_eq!(set_feerate(&mut duet, ALICE, 17_792), Some(-1));
    assert_eq!(set_feerate(&mut duet, ALICE, 17_791), None);
    assert_eq!(duet.channel(BOB).feerate(), Feerate(17_791));
    duet.judge_agreement();
}

#[test]
fn feerates_change_while_payments_fly_both_ways() {
    // BOLT 2 [2.again.28].
    let mut duet = Duet::opened(55, Open::default());
    duet.burst = 4;
    let mut invoices = Vec::new();
    for number in 0..60u64 {
        invoices.push([ALICE, BOB].map(|payer| {
            let label = format!("{payer} {number}");
            duet.invoice(other(payer), request(&label, Some(400_000 + number * 1_000))).bolt11
        }));
    }
    let mut orders = Vec::new();
    for (number, pair) in invoices.iter().enumerate() {
        for (payer, bolt11) in pair.iter().enumerate() {
            orders.push(duet.tell(payer, pay(bolt11, None)));
        }
        let channel = ChannelRef::Id(duet.channel_id());
        let feerate = Feerate(300 + (number as u32 * 37) % 700);
        orders.push(duet.tell(ALICE, Command::DevFeerate { channel, feerate }));
        for _ in 0..11 {
            duet.turn();
        }
        if number % 13 == 5 {
            duet.cut([None, Some(ALICE), Some(BOB)][number % 3]);
        }
    }
    duet.settle();
    duet.run();
    for id in orders {
        // A change may come at a moment without link; a payment only waits.
        let answer = duet.answer(id);
        assert!(
            matches!(answer, Some(Ok(_))) || matches!(&answer, Some(Err(e)) if e.code == -1),
            "{answer:?}"
        );
    }
    duet.judge_agreement();
    duet.judge_peace();
    assert_eq!(duet.balance_msat(ALICE), 600_000_000);
    assert_eq!(duet.channel(ALICE).feerate(), duet.channel(BOB).feerate());
    let amounts: Msat = duet.channel(ALICE).stats.out_fulfilled_msat;
    assert_eq!(amounts, duet.channel(BOB).stats.in_fulfilled_msat);
    duet.close(ALICE);
}
