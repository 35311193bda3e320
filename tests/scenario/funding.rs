//! Channels funded by hand: what is told, when it may be sent, and that no order of things loses money.

use bitcoin::{Amount, Transaction, TxOut};
use chand_protocol::channel::Phase;
use chand_protocol::node::command::{ChannelRef, Command, FundOrder, Reply};
use chand_protocol::node::effect::Input;
use chand_protocol::units::{Feerate, Msat, Sat};
use chand_tests::duet::{crypto, Duet, ALICE, BOB};

const SAT: u64 = 1_000_000;

fn order(duet: &Duet, anchors: bool) -> Command {
    Command::FundChannelStart(Box::new(FundOrder {
        peer: duet.id(BOB),
        amount: Some(Sat(SAT)),
        feerate: Some(Feerate(1_000)),
        announce: false,
        push_msat: Msat(400_000_000),
        close_to: None,
        mindepth: None,
        reserve: None,
        anchors: Some(anchors),
        scid_alias: Some(false),
        by_hand: true,
    }))
}

/// Begins, and makes the transaction with coins that the node knows nothing of.
fn started(duet: &mut Duet, anchors: bool) -> Transaction {
    let order = order(duet, anchors);
    let reply = duet.must(ALICE, order);
    let Reply::FundingStarted { script_pubkey, .. } = reply else { panic!("{reply:?}") };
    let chain = duet.chain.clone();
    let made = duet.seats[ALICE].wallet.fund(script_pubkey, SAT, Feerate(1_000), &chain, &*crypto());
    made.expect("coins").0.tx
}

fn complete(duet: &Duet, tx: &Transaction) -> Command {
    let mut unsigned = tx.clone();
    unsigned.input.iter_mut().for_each(|i| i.witness.clear());
    Command::FundChannelComplete { peer: duet.id(BOB), tx: unsigned }
}

fn cancel(duet: &Duet) -> Command {
    Command::FundChannelCancel { peer: duet.id(BOB) }
}

/// As `sendpsbt` does.
fn send(duet: &mut Duet, tx: &Transaction) -> usize {
    let reply = duet.must(ALICE, Command::SendsFunding { tx: tx.clone() });
    let Reply::SendsFunding { of } = reply else { panic!("{reply:?}") };
    duet.give(ALICE, Input::Offer { tx: tx.clone() });
    duet.run();
    of
}

fn listed(duet: &mut Duet) -> usize {
    match duet.must(ALICE, Command::ListPeerChannels { peer: None, channel: None }) {
        Reply::PeerChannels(list) => list.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_channel_funded_by_hand_is_like_any_other() {
    for anchors in [true, false] {
        for restart in [None, Some(ALICE), Some(BOB)] {
            let mut duet = Duet::new(31);
            duet.connect();
            let tx = started(&mut duet, anchors);
            let order = complete(&duet, &tx);
            let reply = duet.must(ALICE, order);
            assert!(matches!(reply, Reply::FundingSecured { .. }), "{reply:?}");
            // Nothing is sent by the node, and nobody counts it.
            duet.mine(2);
            assert_eq!(duet.channel(ALICE).phase, Phase::Confirming);
            let Reply::Balance(terms) = duet.must(ALICE, Command::Balance) else { panic!() };
            assert_eq!(terms.len(), 0);
            if let Some(seat) = restart {
                duet.restart(seat);
                duet.settle();
            }
            assert_eq!(send(&mut duet, &tx), 1);
            assert_eq!(send(&mut duet, &tx), 1, "again does no harm");
            duet.mine(1);
            assert_eq!(duet.channel(ALICE).phase, Phase::Open);
            duet.pay(ALICE, "first", 20_000_000);
            duet.judge_agreement();
            duet.close(ALICE);
        }
    }
}

#[test]
fn once_sent_the_node_sees_to_it() {
    let mut duet = Duet::new(32);
    duet.connect();
    let tx = started(&mut duet, true);
    let order = complete(&duet, &tx);
    duet.must(ALICE, order);
    // Kept, and the daemon dies before the backend has it: the node offers it after its restart.
    duet.must(ALICE, Command::SendsFunding { tx: tx.clone() });
    duet.restart(ALICE);
    duet.settle();
    duet.mine(2);
    assert_eq!(duet.channel(ALICE).phase, Phase::Open);
    // Too late to cancel, and a reorganisation loses nothing.
    let order = cancel(&duet);
    assert_eq!(duet.must_fail(ALICE, order).code, 307);
    duet.pay(ALICE, "first", 20_000_000);
    duet.judge_agreement();
}

#[test]
fn one_that_another_wallet_sends_is_seen_in_its_block() {
    let mut duet = Duet::new(33);
    duet.connect();
    let tx = started(&mut duet, true);
    let order = complete(&duet, &tx);
    duet.must(ALICE, order);
    duet.chain.submit(&tx).expect("taken");
    duet.mine(1);
    assert_eq!(duet.channel(ALICE).phase, Phase::Open);
    assert_eq!(duet.channel(ALICE).funding_tx.as_ref(), Some(&tx), "offered again after a reorganisation");
    duet.pay(ALICE, "first", 20_000_000);
    duet.judge_agreement();
}

#[test]
fn transactions_that_do_not_fund_it_are_refused_and_the_right_one_still_does() {
    let mut duet = Duet::new(34);
    duet.connect();
    let order_early = Command::FundChannelComplete { peer: duet.id(BOB), tx: tx_of_nothing() };
    assert_eq!(duet.must_fail(ALICE, order_early).code, -1, "nothing was begun");
    let order_early = cancel(&duet);
    assert_eq!(duet.must_fail(ALICE, order_early).code, 307);
    let tx = started(&mut duet, true);
    let begin = order(&duet, true);
    assert_eq!(duet.must_fail(ALICE, begin).code, -1, "one at a time");
    let changed = |change: fn(&mut Vec<TxOut>)| {
        let mut other = tx.clone();
        change(&mut other.output);
        other
    };
    for (bad, words) in [
        (changed(|o| o[1].value = Amount::from_sat(999_999)), "holds 999999 sat"),
        (changed(|o| o[1].value = Amount::from_sat(1_000_001)), "holds 1000001 sat"),
        (changed(|o| drop(o.remove(1))), "no output pays"),
        (changed(|o| o.clear()), "no output pays"),
        (changed(|o| o.push(o[1].clone())), "several outputs"),
        (changed(|o| o.push(TxOut { value: Amount::from_sat(5_000), ..o[1].clone() })), "several outputs"),
    ] {
        let order = complete(&duet, &bad);
        let error = duet.must_fail(ALICE, order);
        assert_eq!(error.code, 309);
        assert!(error.message.contains(words) && error.message.contains("Do not send"), "{error}");
    }
    // Sent before it is secured, its money would be lost.
    let error = duet.must_fail(ALICE, Command::SendsFunding { tx: tx.clone() });
    assert!(error.code == 313 && error.message.contains("not secured"), "{error}");
    let strange = duet.must(ALICE, Command::SendsFunding { tx: tx_of_nothing() });
    assert!(matches!(strange, Reply::SendsFunding { of: 0 }));
    let order = complete(&duet, &tx);
    duet.must(ALICE, order);
    let again = complete(&duet, &tx);
    assert_eq!(duet.must_fail(ALICE, again).code, -1);
    // The same money under another id.
    let mut other = tx.clone();
    other.output[0].value -= Amount::from_sat(1);
    let error = duet.must_fail(ALICE, Command::SendsFunding { tx: other });
    assert!(error.code == 313 && error.message.contains("another transaction"), "{error}");
    assert_eq!(send(&mut duet, &tx), 1);
    duet.mine(1);
    assert_eq!(duet.channel(ALICE).phase, Phase::Open);
    duet.pay(ALICE, "first", 20_000_000);
}

fn tx_of_nothing() -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: Vec::new(),
        output: Vec::new(),
    }
}

#[test]
fn cancelled_at_any_moment_the_next_one_opens() {
    for secured in [false, true] {
        let mut duet = Duet::new(35);
        duet.expected_errors = vec!["cancelled"];
        duet.connect();
        let tx = started(&mut duet, true);
        if secured {
            let order = complete(&duet, &tx);
            duet.must(ALICE, order);
        }
        let order = cancel(&duet);
        assert!(matches!(duet.must(ALICE, order), Reply::Done));
        let order = cancel(&duet);
        assert_eq!(duet.must_fail(ALICE, order).code, 307);
        assert_eq!(listed(&mut duet), 0);
        assert_eq!(duet.seats[BOB].node.channels().count(), usize::from(secured), "Bob has his gift in it");
        let error = duet.must_fail(ALICE, Command::SendsFunding { tx: tx.clone() });
        let words = if secured { "given up" } else { "has ended" };
        assert!(error.code == 313 && error.message.contains(words), "{error}");
        let reply = duet.must(ALICE, order_again(&duet));
        assert!(matches!(reply, Reply::FundingStarted { .. }));
    }
}

fn order_again(duet: &Duet) -> Command {
    order(duet, true)
}

#[test]
fn a_connection_that_ends_before_it_is_secured_ends_it() {
    let mut duet = Duet::new(36);
    duet.connect();
    let tx = started(&mut duet, true);
    duet.cut(None);
    duet.connect();
    let order = complete(&duet, &tx);
    let error = duet.must_fail(ALICE, order);
    assert!(error.code == -1 && error.message.contains("Do not send"), "{error}");
    let error = duet.must_fail(ALICE, Command::SendsFunding { tx });
    assert!(error.code == 313 && error.message.contains("has ended"), "{error}");
    assert!(matches!(duet.must(ALICE, order_again(&duet)), Reply::FundingStarted { .. }));
}

#[test]
fn one_that_was_given_up_and_funded_all_the_same_comes_back() {
    for close in [false, true] {
        let mut duet = Duet::new(37);
        duet.expected_errors = vec!["cancelled", "unknown channel", "closed"];
        duet.connect();
        let tx = started(&mut duet, true);
        let order = complete(&duet, &tx);
        let Reply::FundingSecured { channel_id } = duet.must(ALICE, order) else { panic!() };
        if close {
            let channel = ChannelRef::Id(channel_id);
            let order =
                Command::Close { channel, unilateral_timeout_s: 0, destination: None, feerange: None };
            let reply = duet.must(ALICE, order);
            assert!(matches!(reply, Reply::Closed { kind: "unopened", tx: None }), "{reply:?}");
        } else {
            let order = cancel(&duet);
            duet.must(ALICE, order);
        }
        duet.mine(3);
        duet.restart(ALICE);
        assert_eq!(listed(&mut duet), 0);
        // A user that does what must not be done.
        duet.chain.submit(&tx).expect("taken");
        duet.mine(1);
        assert_eq!(listed(&mut duet), 1, "now it is shown");
        duet.mine(12);
        let channel = duet.seats[ALICE].node.channels().next().expect("kept");
        assert!(
            channel.spent_height().is_some(),
            "our commitment, or Bob's, is in a block: {:?}",
            channel.phase
        );
        assert!(duet.chain.unspent(&bitcoin::OutPoint { txid: tx.compute_txid(), vout: 1 }).is_none());
    }
}
