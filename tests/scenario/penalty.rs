//! Cheats: an old commitment is published, with any HTLCs in it, and the other side takes everything.
//!
//! The cheat is a whole node that was given its old disk back: it closes with what it believes to be newest, and claims on
//! chain like any other. Its victim's node is untouched.

use bitcoin::Transaction;
use chand_protocol::channel::Phase;
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::effect::{Fees, Input};
use chand_protocol::onchain::{Kind, Standing};
use chand_protocol::store::Entry;
use chand_protocol::units::Feerate;
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{other, Duet, ALICE, BOB};

const EXPECTED: [&str; 8] = [
    "closed by force",
    "dev-fail",
    "PENALTY",
    "CHEATS",
    "no coins",
    "may take everything",
    "txn-mempool-conflict",
    // What a cheat was paid in a state that it gave up goes to its victim.
    "cannot be taken any more",
];

fn money(duet: &Duet, seat: usize) -> u64 {
    duet.chain.money_of(&duet.seats[seat].wallet.script)
}

fn alone(duet: &mut Duet) {
    duet.reachable = false;
    duet.cut(None);
    duet.run();
    duet.expected_errors = EXPECTED.to_vec();
}

/// `seat` goes back to an old disk and closes with what it finds there; gives the old commitment.
pub fn cheat(duet: &mut Duet, seat: usize, old: Vec<Entry>, settles: Option<u64>) -> Transaction {
    alone(duet);
    duet.restore_old(seat, old);
    if let Some(number) = settles {
        duet.must(seat, Command::SettleInvoice { preimage: preimage(number) });
    }
    let channel = ChannelRef::Id(duet.channel_id());
    duet.must(seat, Command::DevFail { channel });
    let Phase::Onchain(onchain) = &duet.channel(seat).phase else { panic!("not closed") };
    onchain.tx.clone().expect("its own")
}

/// Everything of the cheat's commitment is spent by the victim, but the cheat's anchor.
fn everything_is_taken(duet: &Duet, victim: usize) {
    let watch = duet.channel(victim).watch.as_ref().expect("watched");
    assert_eq!(watch.standing, Standing::Revoked);
    for output in &watch.outputs {
        let wanted = !matches!(output.kind, Kind::AnchorOwner | Kind::AnchorOther);
        let moved_on = output.kind == Kind::Htlc
            && watch
                .outputs
                .iter()
                .any(|o| o.kind == Kind::Second && output.spent.is_some_and(|s| s.txid == o.outpoint.txid));
        let ours = output.spent.is_some_and(|s| s.ours);
        assert!(!wanted || ours || moved_on, "{output:?}");
    }
}

#[test]
fn the_cheat_ends_with_nothing() {
    for anchors in [true, false] {
        for cheat_seat in [ALICE, BOB] {
            let victim = other(cheat_seat);
            let mut duet = Duet::opened(800, Open { anchors, ..Open::default() });
            let old = duet.seats[cheat_seat].store.durable();
            duet.pay(cheat_seat, "one", 100_000_000);
            duet.settle();
            let before = [money(&duet, ALICE), money(&duet, BOB)];
            let tx = cheat(&mut duet, cheat_seat, old, None);
            let held: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
            duet.mine(1);
            let watch = duet.channel(victim).watch.clone().expect("seen");
            assert_eq!(watch.cheat(), Some(chand_protocol::id::Side::Remote));
            duet.mine(1);
            everything_is_taken(&duet, victim);
            duet.mine(10);
            let gained = money(&duet, victim) - before[victim];
            assert!(gained + 5_000 > held && gained <= held, "{gained} of {held}");
            // What it paid for a child, should it have tried one, is all that changed.
            assert!(money(&duet, cheat_seat) <= before[cheat_seat]);
        }
    }
}

/// The cheat's `shutdown` names the script of its own old balance: what pays only there is no close by agreement for that.
#[test]
fn a_shutdown_that_names_an_old_commitments_script_hides_no_cheat() {
    let mut duet = Duet::opened(805, Open { anchors: false, push_msat: 0, ..Open::default() });
    let old = duet.seats[ALICE].store.durable();
    let channel = ChannelRef::Id(duet.channel_id());
    let Reply::Tx(first) = duet.must(ALICE, Command::DevSignLastTx { channel: channel.clone() }) else {
        panic!("a transaction")
    };
    assert_eq!(first.output.len(), 1, "all is hers");
    duet.pay(ALICE, "all that can go", 900_000_000);
    // It holds the close up.
    duet.pay_held(ALICE, 1, 20_000_000);
    duet.settle();
    let destination = Some(first.output[0].script_pubkey.clone());
    let close = Command::Close { channel, unilateral_timeout_s: 0, destination, feerange: None };
    duet.tell(ALICE, close);
    duet.run();
    assert!(matches!(duet.channel(BOB).phase, Phase::Closing(_)), "Bob knows her script");
    let tx = cheat(&mut duet, ALICE, old, None);
    assert_eq!(tx.compute_txid(), first.compute_txid());
    duet.mine(1);
    let watch = duet.channel(BOB).watch.clone().expect("seen");
    assert_eq!(watch.cheat(), Some(chand_protocol::id::Side::Remote));
    duet.mine(2);
    everything_is_taken(&duet, BOB);
}

/// Old states with HTLCs of both directions; the cheat also knows secrets and claims at once.
#[test]
fn htlcs_of_an_old_state_are_taken_too() {
    for anchors in [true, false] {
        for cheat_seat in [ALICE, BOB] {
            for silent_blocks in [0, 1, 3] {
                let victim = other(cheat_seat);
                let mut duet = Duet::opened(810, Open { anchors, ..Open::default() });
                for (number, payer, msat) in [
                    (1, ALICE, 30_000_000),
                    (2, BOB, 20_000_000),
                    (3, ALICE, 25_000_000),
                    (4, BOB, 15_000_000),
                ] {
                    duet.pay_held(payer, number, msat);
                }
                duet.settle();
                let old = duet.seats[cheat_seat].store.durable();
                // All of them end, and money moves on.
                for (number, payee) in [(1, BOB), (2, ALICE)] {
                    duet.must(payee, Command::SettleInvoice { preimage: preimage(number) });
                }
                for (number, payee) in [(3, BOB), (4, ALICE)] {
                    duet.must(payee, Command::CancelInvoice { payment_hash: preimage(number).hash() });
                }
                duet.settle();
                let before = [money(&duet, ALICE), money(&duet, BOB)];
                // The cheat settles again what it was offered: its second-level transaction gets in first.
                let tx = cheat(&mut duet, cheat_seat, old, Some(if cheat_seat == BOB { 1 } else { 2 }));
                let held: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
                // The victim's transactions do not reach the miners for a while.
                duet.mute = Some(victim);
                duet.mine(silent_blocks);
                duet.mute = None;
                duet.mine(12);
                everything_is_taken(&duet, victim);
                let outputs = &duet.channel(victim).watch.as_ref().expect("watched").outputs;
                let moved = outputs.iter().filter(|o| o.kind == Kind::Second).count();
                assert!(moved == 1 || silent_blocks < 3, "anchors {anchors}, cheat {cheat_seat}: {moved}");
                let gained = money(&duet, victim) as i64 - before[victim] as i64;
                assert!(gained + 30_000 > held as i64, "anchors {anchors}: {gained} of {held}");
                assert!(money(&duet, cheat_seat) <= before[cheat_seat], "the cheat gained");
            }
        }
    }
}

/// Any of many old states, found by its number alone.
#[test]
fn whichever_of_many_it_is() {
    for age in [0usize, 1, 7, 30] {
        let mut duet = Duet::opened(820, Open::default());
        let mut olds = Vec::new();
        for number in 0..32 {
            olds.push(duet.seats[BOB].store.durable());
            duet.pay(if number % 3 == 0 { ALICE } else { BOB }, &format!("pay-{number}"), 3_000_000);
        }
        duet.settle();
        let before = money(&duet, ALICE);
        let tx = cheat(&mut duet, BOB, olds.swap_remove(age), None);
        let held: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        duet.mine(4);
        everything_is_taken(&duet, ALICE);
        assert!(money(&duet, ALICE) - before + 5_000 > held);
    }
}

/// The victim was off while it happened, and comes back within the cheat's delay.
#[test]
fn found_only_at_the_next_start() {
    let mut duet = Duet::opened(830, Open::default());
    let old = duet.seats[BOB].store.durable();
    duet.pay(BOB, "one", 100_000_000);
    duet.settle();
    let tx = cheat(&mut duet, BOB, old, None);
    // Alice's claims never left: she was off.
    let saved = duet.seats[ALICE].store.durable();
    duet.mute = Some(ALICE);
    duet.mine(3);
    duet.mute = None;
    duet.restore_old(ALICE, saved);
    let before = money(&duet, ALICE);
    duet.mine(2);
    everything_is_taken(&duet, ALICE);
    let held: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
    assert!(money(&duet, ALICE) - before + 8_000 > held);
}

/// Bob took three HTLCs of Alice's, and publishes the state before that.
fn cheated_of_three(seed: u64) -> (Duet, Transaction) {
    let mut duet = Duet::opened(seed, Open::default());
    for number in 1..=3 {
        duet.pay_held(ALICE, number, 40_000_000);
    }
    duet.settle();
    let old = duet.seats[BOB].store.durable();
    for number in 1..=3 {
        duet.must(BOB, Command::SettleInvoice { preimage: preimage(number) });
    }
    duet.settle();
    let tx = cheat(&mut duet, BOB, old, None);
    (duet, tx)
}

/// Alice has everything of that commitment, and what miners got is next to nothing.
fn little_is_paid(duet: &Duet, tx: &Transaction, before: u64) {
    everything_is_taken(duet, ALICE);
    let held: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
    let gained = money(duet, ALICE) - before;
    assert!(gained + 20_000 > held, "{gained} of {held}");
}

/// The victim comes back forty blocks late: what it could not have taken meanwhile is no reason to pay more for it now.
#[test]
fn found_late_it_is_not_burnt_as_fees() {
    let (mut duet, tx) = cheated_of_three(831);
    let saved = duet.seats[ALICE].store.durable();
    // Bob publishes this one thing, and sleeps, too.
    duet.mute = Some(ALICE);
    duet.mine(1);
    duet.check_every = 0;
    duet.mine_foreign(39);
    duet.mute = None;
    duet.restore_old(ALICE, saved);
    let before = money(&duet, ALICE);
    duet.mine(3);
    little_is_paid(&duet, &tx, before);
}

/// The victim's machine slept: it was never started anew, and forty blocks come at once.
#[test]
fn many_blocks_at_once_do_not_burn_it_either() {
    let (mut duet, tx) = cheated_of_three(832);
    let before = money(&duet, ALICE);
    duet.check_every = 0;
    duet.chain.mine();
    for _ in 0..39 {
        duet.chain.mine_foreign(Vec::new());
    }
    duet.run();
    duet.mine(3);
    little_is_paid(&duet, &tx, before);
}

/// The victim comes back when the cheat's own sweep waits in the mempool already, and pays well: it is outbid before the
/// next block, though feerates have fallen since.
#[test]
fn a_victim_back_at_the_last_moment_outbids_the_cheats_sweep() {
    let mut duet = Duet::opened(833, Open::default());
    let old = duet.seats[BOB].store.durable();
    duet.pay(BOB, "one", 100_000_000);
    duet.settle();
    let tx = cheat(&mut duet, BOB, old, None);
    let saved = duet.seats[ALICE].store.durable();
    duet.mute = Some(ALICE);
    duet.mine(1);
    duet.check_every = 0;
    let high = Feerate(20_000);
    duet.step(BOB, vec![Input::Fees(Fees { normal: high, urgent: high, minimum: Feerate::FLOOR })]);
    let swept = |duet: &Duet| {
        let spends = |t: &Transaction| t.input.iter().any(|i| i.previous_output.txid == tx.compute_txid());
        duet.chain.mempool.iter().any(spends)
    };
    for _ in 0..200 {
        if swept(&duet) {
            break;
        }
        duet.mine_foreign(1);
    }
    assert!(swept(&duet), "Bob's delay is over");
    duet.mute = None;
    duet.restore_old(ALICE, saved);
    duet.run();
    duet.mine(1);
    everything_is_taken(&duet, ALICE);
}

/// The block with the cheat, or with the penalty, leaves the chain; the end is the same.
#[test]
fn a_reorganisation_changes_nothing() {
    for depth in [1, 2, 3] {
        let mut duet = Duet::opened(840, Open::default());
        duet.pay_held(ALICE, 1, 30_000_000);
        duet.settle();
        let old = duet.seats[BOB].store.durable();
        duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
        duet.settle();
        let before = money(&duet, ALICE);
        let tx = cheat(&mut duet, BOB, old, None);
        let held: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        duet.mine(2);
        for _ in 0..depth {
            duet.unmine(false);
        }
        duet.mine(6);
        everything_is_taken(&duet, ALICE);
        assert!(money(&duet, ALICE) - before + 8_000 > held);
    }
}

/// The victim had closed by itself already, for another reason: the cheat is the cause all the same, and the rest its story.
#[test]
fn a_cheat_is_the_cause_whatever_came_before() {
    let mut duet = Duet::opened(850, Open::default());
    let old = duet.seats[BOB].store.durable();
    duet.pay(BOB, "one", 100_000_000);
    duet.settle();
    let tx = cheat(&mut duet, BOB, old, None);
    let channel = ChannelRef::Id(duet.channel_id());
    duet.ask(ALICE, Command::DevFail { channel });
    duet.chain.mempool = vec![tx];
    duet.mine(2);
    let cause = duet.channel(ALICE).annals.cause.clone().expect("a cause");
    assert_eq!(cause.trigger, chand_protocol::channel::cause::Trigger::PeerCheated);
    assert!(cause.story.first().is_some_and(|line| line.text.contains("dev-fail")), "{cause:?}");
    everything_is_taken(&duet, ALICE);
}
