//! Fees raised after the fact, and what would be, without it being so.

use super::*;
use crate::wallet::BumpOrder;

const ALL: FundAmount = FundAmount::All { at_most: Sat::MAX_MONEY };

fn order(txid: Txid, rate: u32) -> BumpOrder {
    BumpOrder { txid, feerate: Feerate(rate), replace: true, seen: None }
}

fn fee(w: &World, tx: &Transaction) -> u64 {
    w.wallet.inner.calculate_fee(tx).unwrap().to_sat()
}

fn spends(tx: &Transaction) -> Vec<OutPoint> {
    tx.input.iter().map(|i| i.previous_output).collect()
}

#[test]
fn a_withdrawal_is_replaced_and_whom_it_pays_gets_the_same() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 100_000);
    let first = w.wallet.withdraw(channel(1), exact(50_000), RATE, None, Some(1)).unwrap();
    w.restart();
    let second = w.wallet.bump(&order(first.tx.compute_txid(), 3_000)).unwrap().tx;
    w.check(&second, Feerate(3_000));
    assert_eq!(spends(&second), spends(&first.tx));
    let paid = |tx: &Transaction| tx.output.iter().find(|o| o.script_pubkey == channel(1)).unwrap().value;
    assert_eq!(paid(&second), paid(&first.tx));
    assert!(fee(&w, &second) >= first.fee.0 + second.weight().to_wu().div_ceil(4), "as relay wants it");
    assert_eq!(w.wallet.unconfirmed(), std::slice::from_ref(&second), "only the newest is offered again");
    w.restart();
    assert_eq!(w.wallet.unconfirmed(), std::slice::from_ref(&second));
    // A step too small is made as large as relay wants it; one that is none is refused.
    let third = w.wallet.bump(&order(second.compute_txid(), 3_100)).unwrap().tx;
    assert!(fee(&w, &third) >= fee(&w, &second) + third.weight().to_wu().div_ceil(4));
    let said = w.wallet.bump(&order(third.compute_txid(), 2_000)).unwrap_err().to_string();
    assert!(said.contains("pays") && said.contains("already"), "{said}");
    // The one before may be mined all the same.
    w.mine(std::slice::from_ref(&second));
    assert!(w.wallet.unconfirmed().is_empty());
    let said = w.wallet.bump(&order(second.compute_txid(), 9_000)).unwrap_err().to_string();
    assert!(said.contains("in a block"), "{said}");
    assert!(w.wallet.bump(&order(Txid::all_zeros(), 9_000)).is_err());
    w.restart();
}

#[test]
fn without_change_further_coins_pay_and_without_coins_nobody_does() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let first = w.wallet.withdraw(channel(1), ALL, RATE, None, Some(1)).unwrap();
    let said = w.wallet.bump(&order(first.tx.compute_txid(), 3_000)).unwrap_err().to_string();
    assert!(said.contains("further confirmed coins"), "{said}");
    assert_eq!(w.wallet.unconfirmed(), std::slice::from_ref(&first.tx), "the first is still there");
    let more = w.receive(AddressKind::P2tr, 40_000);
    let second = w.wallet.bump(&order(first.tx.compute_txid(), 3_000)).unwrap().tx;
    assert!(spends(&second).contains(&more));
    w.check(&second, Feerate(3_000));
    let sum = |tx: &Transaction| tx.output.iter().find(|o| o.script_pubkey == channel(1)).unwrap().value;
    assert_eq!(sum(&second), sum(&first.tx));
    assert_eq!(second.output.len(), 2, "and change");
    w.mine(&[second]);
    w.restart();
}

#[test]
fn what_is_kept_back_pays_no_bump() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let first = w.wallet.withdraw(channel(1), ALL, RATE, None, Some(1)).unwrap();
    w.receive(AddressKind::P2tr, 26_000);
    w.wallet.keep_back(Sat(25_900));
    let said = w.wallet.bump(&order(first.tx.compute_txid(), 3_000)).unwrap_err().to_string();
    assert!(said.contains("stay in the wallet"), "{said}");
    assert_eq!(w.wallet.unconfirmed(), [first.tx]);
}

#[test]
fn what_others_hang_on_is_carried_by_a_child() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 200_000);
    // A channel's funding: its id is in the channel's commitments.
    let funding = w.wallet.fund(channel(1), exact(100_000), RATE).unwrap().tx;
    w.wallet.insert_unconfirmed(funding.clone());
    let child = w.wallet.bump(&order(funding.compute_txid(), 4_000)).unwrap();
    assert_eq!(child.tx.input[0].previous_output.txid, funding.compute_txid());
    let weight = funding.weight().to_wu() + child.tx.weight().to_wu();
    let both = fee(&w, &funding) + fee(&w, &child.tx);
    assert!(both >= Feerate(4_000).fee(weight).0 && both < Feerate(4_100).fee(weight).0 + 20, "{both}");
    assert_eq!(w.wallet.unconfirmed(), std::slice::from_ref(&child.tx));
    // The child itself can be replaced, and does not lose its parent.
    let again = w.wallet.bump(&order(child.tx.compute_txid(), 9_000)).unwrap().tx;
    assert_eq!(spends(&again), spends(&child.tx));
    w.mine(&[funding, again]);
    w.restart();
}

#[test]
fn a_withdrawal_whose_change_was_spent_is_not_replaced() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 200_000);
    let first = w.wallet.withdraw(channel(1), exact(50_000), RATE, None, Some(1)).unwrap();
    let second = w.wallet.withdraw(channel(2), exact(50_000), RATE, None, None).unwrap();
    let said = w.wallet.bump(&order(first.tx.compute_txid(), 4_000)).unwrap_err().to_string();
    assert!(said.contains(&second.tx.compute_txid().to_string()), "{said}");
    assert!(w.wallet.bump(&order(second.tx.compute_txid(), 4_000)).is_ok());
}

#[test]
fn a_payment_that_is_stuck_on_its_way_to_us_is_carried() {
    let mut w = World::new();
    let payment = w.payment(AddressKind::P2tr, 80_000);
    let txid = payment.compute_txid();
    assert!(w.wallet.bump(&order(txid, 2_000)).is_err(), "it is not known");
    let strange = pay(OutPoint { txid, vout: 9 }, vec![(channel(3), 5_000)]);
    let not_ours = BumpOrder { seen: Some((strange.clone(), None)), ..order(strange.compute_txid(), 2_000) };
    assert!(w.wallet.bump(&not_ours).unwrap_err().to_string().contains("no output of it is ours"));
    let seen = Some((payment.clone(), Some(Sat(110))));
    let child = w.wallet.bump(&BumpOrder { seen, ..order(txid, 2_000) }).unwrap().tx;
    let weight = payment.weight().to_wu() + child.weight().to_wu();
    let paid = 80_000 - child.output[0].value.to_sat();
    assert!((paid + 110).abs_diff(Feerate(2_000).fee(weight).0) < 10, "{paid}");
    assert!(w.wallet.is_mine(&child.output[0].script_pubkey));
    w.mine(&[payment, child]);
    assert_eq!(w.wallet.balance().confirmed, Sat(80_000 - paid));
    w.restart();
}

#[test]
fn a_plan_changes_nothing_and_is_what_is_done() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    w.receive(AddressKind::P2tr, 70_000);
    let before = (w.wallet.outputs(), w.wallet.unconfirmed(), w.wallet.inner.next_derivation_index(P2TR));
    let plan = w
        .wallet
        .plan(|wallet| wallet.withdraw(channel(1), exact(120_000), RATE, None, Some(1)).map(|d| d.tx), &[])
        .unwrap();
    let after = (w.wallet.outputs(), w.wallet.unconfirmed(), w.wallet.inner.next_derivation_index(P2TR));
    assert_eq!(before, after);
    assert_eq!(w.wallet.take_change(), None, "nothing is to be kept");
    let done = w.wallet.withdraw(channel(1), exact(120_000), RATE, None, Some(1)).unwrap();
    assert_eq!((plan.fee, plan.inputs.len(), plan.outputs.len()), (done.fee, 2, 2));
    assert_eq!(plan.wallet, (Sat(170_000), Sat(50_000).saturating_sub(done.fee)));
    assert_eq!(plan.wallet.1, w.wallet.balance().spendable());
    assert_eq!(plan.spendable.1, plan.wallet.1);
    assert!(plan.inputs.iter().all(|i| i.ours) && plan.outputs.iter().filter(|o| o.ours).count() == 1);
    // The same of a bump, of which nothing stays either.
    let txid = done.tx.compute_txid();
    w.keep();
    let raised = w.wallet.plan(|wallet| wallet.bump(&order(txid, 2_000)).map(|d| d.tx), &[]).unwrap();
    assert_eq!((w.wallet.unconfirmed(), w.wallet.take_change()), (vec![done.tx], None));
    assert!(raised.fee > done.fee);
    let dear = w
        .wallet
        .plan(|wallet| wallet.withdraw(channel(1), exact(900_000), RATE, None, None).map(|d| d.tx), &[]);
    assert!(matches!(dear, Err(WalletError::Insufficient { .. })));
}
