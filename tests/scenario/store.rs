//! A disk that fails: nothing leaves before it is kept, and the same batch goes through later.

use bitcoin::Transaction;
use chand_protocol::id::CommandId;
use chand_protocol::node::command::Command;
use chand_protocol::node::effect::Input;
use chand_protocol::node::step;
use chand_protocol::store::{Batch, StoreError};
use chand_storage::Fault;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{Duet, ALICE, BOB};

#[test]
fn a_payment_goes_through_a_disk_that_often_says_no() {
    let mut duet = Duet::opened(80, Open::default());
    for seat in [ALICE, BOB] {
        let plan = [Fault::FailBefore, Fault::FailSync, Fault::FailAfter].into_iter().cycle();
        let plan = plan.flat_map(|fault| [Some(fault), None]);
        duet.seats[seat].store.plan(plan.take(60));
    }
    for number in 0..5 {
        duet.pay(ALICE, &format!("{number}"), 1_000_000);
    }
    assert!(duet.seats[ALICE].store.counts().failures > 10);
    assert_eq!(duet.balance_msat(BOB), 405_000_000);
    duet.judge_agreement();
}

#[test]
fn what_could_not_be_kept_is_not_released_and_a_new_node_knows_nothing_of_it() {
    let mut duet = Duet::opened(81, Open::default());
    let invoice = duet.invoice(BOB, request("lost", Some(1_000_000)));
    let now = duet.now.plus_ms(1);
    let seat = &mut duet.seats[ALICE];
    let order = Input::Command { id: CommandId(1_000_000), command: pay(&invoice.bolt11, None) };
    let batch = step(&mut seat.node, now, vec![order]);
    assert!(!batch.records().is_empty());
    let batches = [batch];
    seat.store.plan([Some(Fault::FailBefore)]);
    assert!(matches!(seat.journal.commit(&batches), Err(StoreError::Write(_))));
    // An empty commit proves nothing about the batch before it.
    let proof = seat.journal.commit(&[]).expect("nothing to do");
    let [batch] = batches;
    let batch = batch.release(&proof).expect_err("not durable, so nothing leaves");
    assert!(!batch.records().is_empty());
    duet.restart(ALICE);
    duet.settle();
    assert!(duet.payment(ALICE, invoice.payment_hash).is_none());
    assert!(duet.channel(BOB).ledger.htlcs.is_empty());
    duet.must(ALICE, pay(&invoice.bolt11, None));
    assert_eq!(duet.balance_msat(BOB), 401_000_000);
    duet.judge_agreement();
}

#[test]
fn batches_are_kept_in_order_or_not_at_all() {
    let mut duet = Duet::opened(82, Open::default());
    let now = duet.now.plus_ms(1);
    let seat = &mut duet.seats[BOB];
    let invoice = |n: u64| Input::Command {
        id: CommandId(2_000_000 + n),
        command: Command::Invoice(request(&format!("{n}"), Some(1_000))),
    };
    let first = step(&mut seat.node, now, vec![invoice(1)]);
    let second = step(&mut seat.node, now, vec![invoice(2)]);
    let swapped = [second, first];
    assert!(matches!(seat.journal.commit(&swapped), Err(StoreError::OutOfOrder { .. })));
    let [second, first] = swapped;
    let proof = seat.journal.commit(&[first]).expect("the first alone");
    let second = second.release(&proof).expect_err("the second is not durable yet");
    assert!(seat.journal.commit(&[second]).is_ok());
    duet.judge_records(BOB);
}

/// What a claim shows was kept when it left for the first time: from then on it waits for no disk, be it full.
#[test]
fn a_claim_that_left_once_leaves_again_before_anything_is_kept() {
    for anchors in [true, false] {
        for closer in [ALICE, BOB] {
            let mut duet = Duet::opened(83, Open { anchors, ..Open::default() });
            duet.pay_held(ALICE, 1, 30_000_000);
            crate::onchain::alone(&mut duet);
            crate::onchain::force_close(&mut duet, closer);
            duet.mine(2);
            duet.mute = Some(BOB);
            let settle = Command::SettleInvoice { preimage: preimage(1) };
            let id = CommandId(3_000_000);
            let now = duet.now.plus_ms(1);
            let first =
                step(&mut duet.seats[BOB].node, now, vec![Input::Command { id, command: settle.clone() }]);
            let shows = |tx: &Transaction| {
                let secret = preimage(1).0;
                tx.input.iter().any(|i| i.witness.iter().any(|item| item == secret))
            };
            let early = |batch: &Batch| batch.claims().into_iter().any(|claim| shows(&claim.into_parts().0));
            assert!(!early(&first), "a secret is kept before it is shown");
            duet.restart(BOB);
            duet.run();
            duet.must(BOB, settle);
            duet.run();
            duet.chain.mine_foreign(Vec::new());
            let batch = duet.look_at_next_block(BOB).expect("a block");
            assert!(early(&batch), "anchors {anchors} closer {closer}: it waits for a disk again");
            duet.restart(BOB);
            duet.run();
            duet.chain.mine_foreign(Vec::new());
            let batch = duet.look_at_next_block(BOB).expect("a block");
            assert!(early(&batch), "anchors {anchors} closer {closer}: it waits for a disk after a restart");
        }
    }
}
