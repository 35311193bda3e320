//! Coins for transactions that cannot pay their own fee, and coins kept back for them.

use super::*;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::script::Builder;
use chand_protocol::id::ChannelId;
use chand_protocol::node::effect::AttachOrder;

/// What anybody may spend.
fn open() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// A witness of [`open`]: one item of one byte.
const OPEN_WEIGHT: u64 = 3;

/// Inputs of these amounts, each with an output of the same amount beside it.
fn order(amounts: &[u64], rate: u32) -> AttachOrder {
    let input = |vout: usize| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([0xcc; 32]), vout: vout as u32 },
        sequence: Sequence(1),
        script_sig: ScriptBuf::new(),
        witness: Witness::new(),
    };
    let outputs: Vec<TxOut> = amounts
        .iter()
        .map(|sat| TxOut { value: Amount::from_sat(*sat), script_pubkey: open().to_p2wsh() })
        .collect();
    AttachOrder {
        channel: ChannelId([9; 32]),
        claim: 7,
        tx: Transaction {
            version: TxVersion::TWO,
            lock_time: LockTime::from_height(500).unwrap(),
            input: (0..amounts.len()).map(input).collect(),
            output: outputs.clone(),
        },
        spent: outputs,
        witness_weight: OPEN_WEIGHT * amounts.len() as u64,
        feerate: Feerate(rate),
        lowest: Feerate(rate),
        parent: None,
        most: Sat(1_000_000),
        replaces: None,
    }
}

/// A child of our anchor: one input, no output.
fn anchor(rate: u32, parent: (u64, Sat)) -> AttachOrder {
    let mut order = order(&[330], rate);
    order.tx.output.clear();
    order.parent = Some(parent);
    order
}

/// The order's inputs signed, everything looked at; the transaction as it is published, and its fee.
fn finish(w: &World, order: &AttachOrder, mut tx: Transaction) -> (Transaction, u64) {
    let n = order.tx.input.len();
    assert_eq!((tx.version, tx.lock_time), (order.tx.version, order.tx.lock_time));
    assert_eq!(tx.input[..n], order.tx.input[..]);
    assert_eq!(tx.output[..order.tx.output.len()], order.tx.output[..]);
    assert!(tx.output.len() <= order.tx.output.len() + 1);
    for change in &tx.output[order.tx.output.len()..] {
        assert!(change.script_pubkey.is_p2tr() && w.wallet.is_mine(&change.script_pubkey));
        assert!(change.value >= change.script_pubkey.minimal_non_dust());
    }
    assert!(tx.input[n..].iter().all(|i| i.sequence.is_rbf()));
    tx.input[..n].iter_mut().for_each(|i| i.witness = Witness::from_slice(&[open().as_bytes()]));
    let graph = w.wallet.inner.tx_graph();
    let coins = tx.input[n..].iter().map(|i| graph.get_txout(i.previous_output).unwrap().clone());
    let spent: Vec<TxOut> = order.spent.iter().cloned().chain(coins).collect();
    verify_spend(&tx, &spent).unwrap();
    let sum = |outs: &[TxOut]| outs.iter().map(|o| o.value.to_sat()).sum::<u64>();
    let fee = sum(&spent) - sum(&tx.output);
    assert!(fee <= order.most.0, "{fee}");
    (tx, fee)
}

fn coins(order: &AttachOrder, tx: &Transaction) -> Vec<OutPoint> {
    tx.input[order.tx.input.len()..].iter().map(|i| i.previous_output).collect()
}

#[test]
fn coins_and_change_come_after_the_order_and_the_fee_is_exact() {
    for kinds in [
        &[AddressKind::P2wpkh][..],
        &[AddressKind::P2tr],
        &[AddressKind::P2tr, AddressKind::P2wpkh, AddressKind::P2tr],
    ] {
        let mut w = World::new();
        let each = 90_000 / kinds.len() as u64;
        for kind in kinds {
            w.receive(*kind, each);
        }
        // All coins are needed for it.
        let order = order(&[10_000, 40_000], 50_000);
        let tx = w.wallet.attach(&order).unwrap();
        assert_eq!(tx.input.len(), 2 + kinds.len());
        let (tx, fee) = finish(&w, &order, tx);
        // A signature may be two bytes shorter than the longest.
        let (least, most) = (tx.weight().to_wu(), tx.weight().to_wu() + 2 * kinds.len() as u64 + 4);
        assert!(fee >= 50 * least && fee <= 50 * most, "{fee} for {least}");
        w.restart();
        assert_eq!(w.wallet.balance().spendable(), Sat::ZERO);
    }
}

#[test]
fn an_anchors_child_pays_for_its_parent() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let alone = anchor(2_000, (0, Sat::ZERO));
    let carrying = anchor(2_000, (1_124, Sat(284)));
    let first = w.wallet.attach(&alone).unwrap();
    let (first, light) = finish(&w, &alone, first);
    w.wallet.unreserve(first.compute_txid());
    let tx = w.wallet.attach(&carrying).unwrap();
    assert_eq!((tx.input.len(), tx.output.len()), (2, 1));
    let (tx, fee) = finish(&w, &carrying, tx);
    assert_eq!(fee - light, 2 * 1_124 - 284);
    // Both are reckoned in whole virtual bytes, each by itself.
    w.wallet.unreserve(tx.compute_txid());
    let odd = anchor(2_000, (1_125, Sat(284)));
    let tx = w.wallet.attach(&odd).unwrap();
    assert_eq!(finish(&w, &odd, tx).1 - light, 2 * 1_128 - 284);
    // A parent that pays enough by itself leaves the child's own relay fee.
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let rich = anchor(2_000, (1_124, Sat(50_000)));
    let tx = w.wallet.attach(&rich).unwrap();
    let (tx, fee) = finish(&w, &rich, tx);
    assert!(fee >= tx.vsize() as u64 && fee <= tx.vsize() as u64 + 5, "{fee} for {}", tx.vsize());
}

#[test]
fn few_coins_are_taken_and_of_those_that_suffice_the_smallest() {
    let mut w = World::new();
    let [small, middle, large] = [5_000, 90_000, 100_000].map(|sat| w.receive(AddressKind::P2tr, sat));
    for (rate, wanted) in
        [(1_000, &[small][..]), (12_000, &[middle]), (150_000, &[large]), (170_000, &[large, middle])]
    {
        let order = order(&[50_000], rate);
        let tx = w.wallet.attach(&order).unwrap();
        assert_eq!(coins(&order, &tx), wanted, "at {rate}");
        let (tx, _) = finish(&w, &order, tx);
        w.wallet.unreserve(tx.compute_txid());
    }
    // Never more than twenty.
    let mut w = World::new();
    for _ in 0..30 {
        w.receive(AddressKind::P2tr, 2_000);
    }
    let said = w.wallet.attach(&order(&[50_000], 15_000)).unwrap_err().to_string();
    assert!(said.contains("40000 sat can be spent (in the 20 largest coins"), "{said}");
    let order = order(&[50_000], 1_000);
    let tx = w.wallet.attach(&order).unwrap();
    finish(&w, &order, tx);
}

#[test]
fn change_that_would_be_dust_goes_to_the_fee_unless_that_is_too_much() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2tr, 800);
    let mut order = order(&[50_000], 1_000);
    let tx = w.wallet.attach(&order).unwrap();
    assert_eq!((coins(&order, &tx), tx.output.len()), (vec![coin], 1));
    let (tx, fee) = finish(&w, &order, tx);
    assert_eq!(fee, 800);
    w.wallet.unreserve(tx.compute_txid());
    order.most = Sat(790);
    let said = w.wallet.attach(&order).unwrap_err().to_string();
    assert!(said.contains("800 sat can be spent"), "{said}");
    let second = w.receive(AddressKind::P2tr, 10_000);
    let tx = w.wallet.attach(&order).unwrap();
    assert_eq!(coins(&order, &tx), [second]);
    finish(&w, &order, tx);
}

#[test]
fn without_coins_it_is_refused_in_words_and_nothing_is_reserved() {
    let mut w = World::new();
    let said = w.wallet.attach(&order(&[50_000], 1_000)).unwrap_err().to_string();
    assert!(said.contains("0 sat can be spent: send coins to an address from newaddr"), "{said}");
    w.receive(AddressKind::P2wpkh, 10_000);
    let said = w.wallet.attach(&order(&[50_000], 50_000)).unwrap_err();
    assert!(
        matches!(said, WalletError::Insufficient { needed, available: Sat(10_000), .. } if needed > Sat(25_000)),
        "{said}"
    );
    let mut short = order(&[50_000], 1_000);
    short.spent.clear();
    assert!(matches!(w.wallet.attach(&short), Err(WalletError::Internal(_))));
    assert_eq!(w.wallet.balance().spendable(), Sat(10_000));
    w.restart();
}

#[test]
fn no_more_is_paid_than_the_most_and_less_than_relays_is_refused() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let mut order = order(&[50_000], 100_000);
    order.most = Sat(9_000);
    // It is worth no more: feerates may fall.
    let said = w.wallet.attach(&order).unwrap_err();
    assert!(matches!(said, WalletError::TooDear { most: Sat(9_000), .. }), "{said}");
    // With less there is still a chance, and something left of it.
    order.lowest = Feerate(1_000);
    let tx = w.wallet.attach(&order).unwrap();
    let (tx, fee) = finish(&w, &order, tx);
    assert_eq!(fee, 4_500);
    w.wallet.unreserve(tx.compute_txid());
    // A child helps its parent with what may be paid.
    order.parent = Some((700, Sat(200)));
    let tx = w.wallet.attach(&order).unwrap();
    let (tx, fee) = finish(&w, &order, tx);
    assert_eq!(fee, 9_000);
    w.wallet.unreserve(tx.compute_txid());
    order.most = Sat(20);
    let said = w.wallet.attach(&order).unwrap_err();
    assert!(matches!(said, WalletError::TooDear { most: Sat(20), .. }), "{said}");
}

#[test]
fn a_later_version_takes_the_same_coins_and_pays_for_the_relay_of_both() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2tr, 100_000);
    let mut order = order(&[50_000], 1_000);
    let tx = w.wallet.attach(&order).unwrap();
    let (first, paid) = finish(&w, &order, tx);
    w.wallet.insert_unconfirmed(first.clone());
    w.restart();
    assert_eq!(w.wallet.balance().unconfirmed, Sat(100_000 - paid));

    // No other feerate is asked for: relay's own rules make it dearer.
    order.replaces = Some(first.clone());
    let tx = w.wallet.attach(&order).unwrap();
    let (second, paid_now) = finish(&w, &order, tx);
    assert_eq!(coins(&order, &second), [coin]);
    assert_eq!(second.output.last().unwrap().script_pubkey, first.output.last().unwrap().script_pubkey);
    let vsize = second.vsize() as u64;
    assert!(paid_now >= paid + vsize && paid_now <= paid + vsize + 3, "{paid} → {paid_now}");
    // The first one counts no longer, and the second not yet.
    w.restart();
    let balance = w.wallet.balance();
    assert_eq!((balance.reserved, balance.unconfirmed), (Sat(100_000), Sat::ZERO));
    w.wallet.insert_unconfirmed(second.clone());
    w.restart();
    let balance = w.wallet.balance();
    assert_eq!((balance.reserved, balance.unconfirmed), (Sat::ZERO, Sat(100_000 - paid_now)));

    // A much larger one after it, with an input more.
    let mut wide = super::attach::order(&[50_000, 60_000, 70_000], 20_000);
    wide.replaces = Some(second.clone());
    let tx = w.wallet.attach(&wide).unwrap();
    let (third, most) = finish(&w, &wide, tx);
    assert!(most >= 20 * third.weight().to_wu());
    w.wallet.insert_unconfirmed(third.clone());
    // It is the first that is mined after all.
    w.mine(&[first]);
    w.restart();
    let balance = w.wallet.balance();
    assert_eq!(balance, WalletBalance { confirmed: Sat(100_000 - paid), ..WalletBalance::default() });
}

#[test]
fn a_smaller_version_still_pays_more_for_each_byte() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 100_000);
    let wide = order(&[50_000, 60_000, 70_000], 2_000);
    let tx = w.wallet.attach(&wide).unwrap();
    let (first, paid) = finish(&w, &wide, tx);
    let mut narrow = order(&[50_000], 253);
    narrow.replaces = Some(first.clone());
    let tx = w.wallet.attach(&narrow).unwrap();
    let (second, paid_now) = finish(&w, &narrow, tx);
    assert!(paid_now >= paid + second.vsize() as u64);
    assert!(paid_now * first.vsize() as u64 > paid * second.vsize() as u64);
    // What would be enough for nobody.
    narrow.replaces = Some(second);
    narrow.most = Sat(paid_now + 10);
    assert!(matches!(w.wallet.attach(&narrow), Err(WalletError::TooDear { .. })));
}

#[test]
fn coins_of_an_earlier_version_stay_aside_until_either_is_mined() {
    let mut w = World::new();
    let small = w.receive(AddressKind::P2tr, 3_000);
    let mut order = order(&[50_000], 1_000);
    let tx = w.wallet.attach(&order).unwrap();
    let (first, _) = finish(&w, &order, tx);
    w.wallet.insert_unconfirmed(first.clone());
    let large = w.receive(AddressKind::P2tr, 100_000);
    order.feerate = Feerate(20_000);
    order.replaces = Some(first);
    let tx = w.wallet.attach(&order).unwrap();
    let (second, _) = finish(&w, &order, tx);
    assert_eq!(coins(&order, &second), [large]);
    w.restart();
    let balance = w.wallet.balance();
    assert_eq!((balance.reserved, balance.spendable()), (Sat(103_000), Sat::ZERO));
    w.mine(&[second]);
    let free: Vec<OutPoint> = w
        .wallet
        .outputs()
        .into_iter()
        .filter(|o| matches!(o.status, OutputStatus::Confirmed(_)) && !o.reserved)
        .map(|o| o.outpoint)
        .collect();
    assert!(free.contains(&small) && free.len() == 2, "{free:?}");
}

#[test]
fn what_may_be_replaced_is_spent_by_nothing_else_and_offered_by_nobody_here() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2tr, 100_000);
    let order = order(&[50_000], 1_000);
    let tx = w.wallet.attach(&order).unwrap();
    let said = w.wallet.withdraw(channel(1), exact(1_000), RATE, Some(vec![coin]), None).unwrap_err();
    assert!(said.to_string().contains("reserved for a transaction of a channel"), "{said}");
    let (tx, _) = finish(&w, &order, tx);
    w.wallet.insert_unconfirmed(tx.clone());
    assert_eq!(w.wallet.unconfirmed(), []);
    let change = OutPoint { txid: tx.compute_txid(), vout: 1 };
    for (utxos, depth) in [(None, None), (None, Some(0)), (Some(vec![change]), None)] {
        assert!(w.wallet.withdraw(channel(1), exact(1_000), RATE, utxos, depth).is_err());
    }
    assert!(w.wallet.attach(&super::attach::order(&[1_000, 2_000], 1_000)).is_ok(), "a version of its own");
    w.restart();
    w.mine(&[tx]);
    w.wallet.withdraw(channel(1), exact(1_000), RATE, Some(vec![change]), None).unwrap();
}

#[test]
fn coins_of_one_that_was_overtaken_or_given_up_are_free_again() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 100_000);
    let order = order(&[50_000, 60_000], 1_000);
    for overtaken in [true, false] {
        let tx = w.wallet.attach(&order).unwrap();
        let (tx, _) = finish(&w, &order, tx);
        w.wallet.insert_unconfirmed(tx.clone());
        w.keep();
        assert_eq!(w.wallet.balance().spendable(), Sat::ZERO);
        if overtaken {
            // The peer took one of the two.
            let theirs = pay(order.tx.input[1].previous_output, vec![(channel(2), 59_000)]);
            w.mine(&[theirs]);
        } else {
            w.wallet.unreserve(tx.compute_txid());
        }
        w.restart();
        assert_eq!(w.wallet.balance().spendable(), Sat(100_000));
    }
}

#[test]
fn change_that_no_block_holds_is_taken_last_and_never_with_a_parent() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 100_000);
    w.wallet.withdraw(channel(1), exact(20_000), RATE, None, None).unwrap();
    let change = w.wallet.unconfirmed()[0].compute_txid();
    let alone = order(&[50_000], 1_000);
    let tx = w.wallet.attach(&alone).unwrap();
    assert_eq!(coins(&alone, &tx)[0].txid, change);
    let (tx, _) = finish(&w, &alone, tx);
    // A replacement may keep it.
    let mut again = alone.clone();
    again.replaces = Some(tx);
    let tx = w.wallet.attach(&again).unwrap();
    let (tx, _) = finish(&w, &again, tx);
    w.wallet.unreserve(tx.compute_txid());
    let said = w.wallet.attach(&anchor(1_000, (1_124, Sat::ZERO))).unwrap_err();
    assert!(matches!(said, WalletError::Insufficient { available: Sat::ZERO, .. }), "{said}");
    let deep = w.receive(AddressKind::P2tr, 5_000);
    let tx = w.wallet.attach(&alone).unwrap();
    assert_eq!(coins(&alone, &tx), [deep]);
}

#[test]
fn what_is_kept_back_is_left_by_all_but_attach_and_named_coins() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2tr, 50_000);
    w.receive(AddressKind::P2wpkh, 50_000);
    w.wallet.keep_back(Sat(75_000));
    let most = w.wallet.most_fundable(RATE, Sat(75_000)).unwrap();
    assert!(most > Sat(24_000) && most < Sat(25_000), "{most}");
    let said = w.wallet.fund(channel(1), exact(26_000), RATE).unwrap_err();
    assert!(said.to_string().contains("75000 sat stay in the wallet for the fees of channels"), "{said}");
    let said = w.wallet.withdraw(channel(1), exact(26_000), RATE, None, Some(1)).unwrap_err();
    // What stays is not needed for it, and not there for it.
    let WalletError::Insufficient { needed, available, .. } = said else { panic!("{said}") };
    assert!(
        available == Sat(25_000) && (Sat(26_000)..Sat(27_000)).contains(&needed),
        "{needed} of {available}"
    );
    assert_eq!(w.wallet.balance().spendable(), Sat(100_000));
    // What `all` says can be had.
    let tx = w.wallet.fund(channel(1), FundAmount::Exact(most), RATE).unwrap().tx;
    w.wallet.insert_unconfirmed(tx.clone());
    let left = w.wallet.balance().spendable();
    assert!(left >= Sat(75_000) && left < Sat(75_300), "{left}");
    let none = w.wallet.most_fundable(RATE, Sat(75_000)).unwrap_err().to_string();
    assert!(none.contains("75000 sat stay"), "{none}");
    w.mine(&[tx]);

    let mut w = World::new();
    for _ in 0..2 {
        w.receive(AddressKind::P2tr, 50_000);
    }
    w.wallet.keep_back(Sat(75_000));
    let all = FundAmount::All { at_most: Sat::MAX_MONEY };
    let done = w.wallet.withdraw(channel(1), all, RATE, None, Some(1)).unwrap();
    assert!(done.change.is_some() && w.wallet.balance().spendable() >= Sat(75_000), "{done:?}");
    w.wallet.forget_unconfirmed(done.tx.compute_txid());
    let order = order(&[50_000], 60_000);
    let tx = w.wallet.attach(&order).unwrap();
    assert!(w.wallet.balance().spendable() <= Sat(50_000));
    w.wallet.unreserve(tx.compute_txid());
    let named = w.wallet.outputs().into_iter().map(|o| o.outpoint).find(|o| *o != coin).unwrap();
    let done = w.wallet.withdraw(channel(1), all, RATE, Some(vec![named]), Some(1)).unwrap();
    assert_eq!(done.change, None);
}

#[test]
fn a_claim_on_a_commitment_that_another_replaced_frees_its_coin_and_counts_no_more() {
    let mut w = World::new();
    let coin = w.receive(AddressKind::P2wpkh, 100_000);
    let order = order(&[50_000], 1_000);
    let tx = w.wallet.attach(&order).unwrap();
    let (claim, _) = finish(&w, &order, tx);
    w.wallet.insert_unconfirmed(claim.clone());
    w.mine(std::slice::from_ref(&claim));
    w.unmine();
    // The other commitment is in the chain now, of which the wallet knows nothing.
    w.mine(&[]);
    assert!(w.wallet.balance().confirmed < Sat(100_000), "it seems spent");
    w.wallet.unreserve(claim.compute_txid());
    w.restart();
    let balance = w.wallet.balance();
    assert_eq!((balance.confirmed, balance.unconfirmed), (Sat(100_000), Sat::ZERO));
    let next = w.wallet.attach(&order).unwrap();
    assert_eq!(coins(&order, &next), [coin]);
}
