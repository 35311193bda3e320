//! Unilateral closes: whoever closes waits, the other does not, and every HTLC ends where its script says.

use bitcoin::hashes::Hash;
use bitcoin::Transaction;
use chand_protocol::channel::Phase;
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest, Reply};
use chand_protocol::node::view::ChannelBalance;
use chand_protocol::onchain::Kind as OutputKind;
use chand_protocol::record::Kind;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{other, Duet, ALICE, BOB};

/// The CSV delay of both sides here.
const DELAY: u32 = 6;

fn money(duet: &Duet, seat: usize) -> u64 {
    duet.chain.money_of(&duet.seats[seat].wallet.script)
}

pub fn alone(duet: &mut Duet) {
    duet.reachable = false;
    duet.cut(None);
    duet.run();
    let words =
        ["peer cannot", "closed by force", "dev-fail", "PENALTY", "CHEATS", "coins", "may take everything"];
    duet.expected_errors = words.to_vec();
}

pub fn force_close(duet: &mut Duet, seat: usize) -> Transaction {
    let channel = ChannelRef::Id(duet.channel_id());
    duet.must(seat, Command::DevFail { channel });
    let Phase::Onchain(onchain) = &duet.channel(seat).phase else { panic!("not closed") };
    onchain.tx.clone().expect("our own")
}

/// No transaction of ours was ever refused: nothing is tried before its time.
fn nothing_refused(duet: &Duet) {
    for seat in [ALICE, BOB] {
        let place = &duet.seats[seat];
        let refused: Vec<&str> = place
            .log
            .iter()
            .filter(|n| n.text.contains("was not taken") || n.text.contains("was refused"))
            .map(|n| n.text.as_str())
            .collect();
        assert!(refused.is_empty(), "{}: {refused:?}", place.name);
    }
}

/// Mines until both sides have nothing left on chain; gives the number of blocks.
fn resolve(duet: &mut Duet, most: u32) -> u32 {
    for blocks in 1..=most {
        duet.mine(1);
        let done = |seat| duet.channel(seat).resolved_at().is_some();
        if done(ALICE) && done(BOB) {
            return blocks;
        }
    }
    panic!(
        "not resolved after {most} blocks: {:#?} {:#?}",
        duet.channel(ALICE).watch.as_ref().map(|w| &w.outputs),
        duet.seats[ALICE].log.iter().rev().take(12).map(|n| n.text.as_str()).collect::<Vec<_>>()
    );
}

#[test]
fn who_closes_waits_and_the_other_does_not() {
    for anchors in [true, false] {
        for closer in [ALICE, BOB] {
            let mut duet = Duet::opened(700, Open { anchors, ..Open::default() });
            duet.pay(ALICE, "one", 50_000_000);
            let had = [duet.balance_msat(ALICE) / 1_000, duet.balance_msat(BOB) / 1_000];
            alone(&mut duet);
            let before = [money(&duet, ALICE), money(&duet, BOB)];
            force_close(&mut duet, closer);
            duet.mine(1);
            let born = duet.chain.height();
            // The other's output is taken by the next block.
            duet.mine(1);
            let gained = |duet: &Duet, seat: usize| money(duet, seat) as i64 - before[seat] as i64;
            assert!(gained(&duet, other(closer)) > 0, "anchors {anchors}, closer {closer}");
            assert!(gained(&duet, closer) <= 0);
            while duet.chain.height() < born + DELAY - 1 {
                duet.mine(1);
                assert!(gained(&duet, closer) <= 0, "taken before its delay");
            }
            duet.mine(1);
            for seat in [ALICE, BOB] {
                let lost = had[seat] as i64 - gained(&duet, seat);
                assert!((0..6_000).contains(&lost), "{seat} lost {lost} of {}", had[seat]);
                assert!(duet.channel(seat).resolved_at().is_some());
            }
            nothing_refused(&duet);
        }
    }
}

/// HTLCs of every kind under way: both directions, dust and not, settled by the payee or not.
#[test]
fn every_htlc_ends_where_its_script_says() {
    for anchors in [true, false] {
        for closer in [ALICE, BOB] {
            let mut duet = Duet::opened(710, Open { anchors, ..Open::default() });
            for (number, payer, msat) in [
                (1, ALICE, 30_000_000),
                (2, ALICE, 20_000_000),
                (3, BOB, 25_000_000),
                (4, BOB, 15_000_000),
                (5, ALICE, 200_000),
            ] {
                duet.pay_held(payer, number, msat);
            }
            duet.settle();
            let had = [duet.balance_msat(ALICE) / 1_000, duet.balance_msat(BOB) / 1_000];
            alone(&mut duet);
            // Settled by the payee, but the payer never hears of it.
            duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
            duet.must(ALICE, Command::SettleInvoice { preimage: preimage(3) });
            let before = [money(&duet, ALICE), money(&duet, BOB)];
            force_close(&mut duet, closer);
            resolve(&mut duet, 60);
            duet.mine(6);
            let moved = [-30_000 + 25_000i64, 30_000 - 25_000];
            for seat in [ALICE, BOB] {
                let gained = money(&duet, seat) as i64 - before[seat] as i64;
                let lost = had[seat] as i64 + moved[seat] - gained;
                assert!((0..25_000).contains(&lost), "anchors {anchors} closer {closer}: {seat} lost {lost}");
            }
            for (payer, number, wanted) in [
                (ALICE, 1, "complete"),
                (ALICE, 2, "failed"),
                (BOB, 3, "complete"),
                (BOB, 4, "failed"),
                (ALICE, 5, "failed"),
            ] {
                let paid = duet.payment(payer, preimage(number).hash()).expect("a payment");
                assert_eq!(paid.status, wanted, "anchors {anchors}, closer {closer}, payment {number}");
            }
            nothing_refused(&duet);
        }
    }
}

/// The payee is silent and the deadline passes: the payer closes, takes its money back, and says that the payment failed.
#[test]
fn a_deadline_closes_the_channel_in_time() {
    for anchors in [true, false] {
        let mut duet = Duet::opened(720, Open { anchors, ..Open::default() });
        duet.pay_held(ALICE, 1, 30_000_000);
        alone(&mut duet);
        for _ in 0..60 {
            duet.mine(1);
            if duet.payment(ALICE, preimage(1).hash()).is_some_and(|p| p.status == "failed") {
                break;
            }
        }
        assert_eq!(duet.payment(ALICE, preimage(1).hash()).expect("one").status, "failed");
        assert!(matches!(&duet.channel(ALICE).phase, Phase::Onchain(o) if o.trigger.contains("expired")));
        resolve(&mut duet, 20);
        nothing_refused(&duet);
    }
}

/// The payer is silent: the payee, who knows the secret, closes before the payer could take the money back.
#[test]
fn a_secret_is_used_before_its_deadline() {
    for anchors in [true, false] {
        let mut duet = Duet::opened(730, Open { anchors, ..Open::default() });
        let had = duet.balance_msat(BOB) / 1_000;
        duet.pay_held(ALICE, 1, 30_000_000);
        alone(&mut duet);
        let before = money(&duet, BOB);
        duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
        let mut learnt = None;
        for _ in 0..60 {
            duet.mine(1);
            let paid = duet.payment(ALICE, preimage(1).hash()).expect("one");
            if paid.status == "complete" && learnt.is_none() {
                learnt = Some(duet.chain.height());
            }
        }
        let expiry = duet.channel(BOB).ledger.htlcs.values().next().map(|h| h.cltv_expiry.0).expect("one");
        assert!(learnt.is_some_and(|at| at < expiry), "{learnt:?} of {expiry}");
        let gained = money(&duet, BOB) as i64 - before as i64;
        let lost = had as i64 + 30_000 - gained;
        assert!((0..12_000).contains(&lost), "anchors {anchors}: Bob lost {lost}");
        nothing_refused(&duet);
    }
}

/// An ordinary invoice, paid a moment before the link broke.
#[test]
fn a_settlement_that_was_never_heard_is_heard_on_chain() {
    let mut duet = Duet::opened(740, Open::default());
    let invoice = duet.invoice(BOB, InvoiceRequest { ..request("rent", Some(40_000_000)) });
    let order = duet.tell(ALICE, pay(&invoice.bolt11, None));
    // Until Bob has settled and Alice has not heard of it.
    let settled = |duet: &Duet| duet.channel(BOB).ledger.htlcs.values().any(|h| h.removal.is_some());
    while !settled(&duet) {
        assert!(duet.turn());
    }
    alone(&mut duet);
    force_close(&mut duet, BOB);
    duet.mine(3);
    assert!(matches!(duet.answer(order), Some(Ok(_))), "Alice has her receipt");
    resolve(&mut duet, 30);
}

/// A close tells why it came, what was done, and what became of each output; and only that is left in the end.
#[test]
fn a_close_explains_itself_and_leaves_little_behind() {
    let mut duet = Duet::opened(750, Open::default());
    for number in 0..10 {
        duet.pay(ALICE, &format!("{number}"), 2_000_000);
    }
    duet.pay_held(ALICE, 1, 30_000_000);
    let heavy = |duet: &Duet| {
        let kinds = [Kind::Past, Kind::Snapshot, Kind::Secret, Kind::Htlc, Kind::Onion];
        let all = duet.seats[ALICE].store.durable();
        all.iter().filter(|(key, _)| Kind::of(key).is_some_and(|k| kinds.contains(&k))).count()
    };
    assert!(heavy(&duet) > 25, "{}", heavy(&duet));
    alone(&mut duet);
    resolve(&mut duet, 80);
    duet.mine(110);
    for seat in [ALICE, BOB] {
        let channel = duet.channel(seat);
        assert!(channel.retired && channel.past().is_empty());
        let cause = channel.annals.cause.clone().expect("a cause");
        assert!(cause.story.len() >= 2, "{cause:?}");
        let last = channel.annals.changes.last().expect("a change");
        assert_eq!(last.to, chand_protocol::node::view::State::Onchain);
        let outputs = channel.view(chand_protocol::units::Height(duet.chain.height())).outputs;
        assert!(outputs.iter().any(|o| o.state() == "taken by this node"), "{outputs:?}");
    }
    let cause = duet.channel(ALICE).annals.cause.clone().expect("a cause");
    assert_eq!(cause.trigger, chand_protocol::channel::cause::Trigger::Deadline);
    assert_eq!(cause.htlc.expect("an HTLC").payment_hash, preimage(1).hash());
    assert_eq!(heavy(&duet), 1, "the newest snapshot alone");
    // A start from what is left knows it all the same.
    duet.restart(ALICE);
    assert!(duet.channel(ALICE).retired);
    assert_eq!(duet.channel(ALICE).annals.cause, Some(cause));
}

/// A held payment is settled by its user only after the payer closed: it is taken on chain, also after a restart.
#[test]
fn a_held_payment_is_settled_on_chain() {
    for anchors in [true, false] {
        for closer in [ALICE, BOB] {
            for restarted in [false, true] {
                let mut duet = Duet::opened(760, Open { anchors, ..Open::default() });
                duet.pay_held(ALICE, 1, 30_000_000);
                alone(&mut duet);
                let (had, before) = (duet.balance_msat(BOB) / 1_000, money(&duet, BOB));
                force_close(&mut duet, closer);
                duet.mine(2);
                if restarted {
                    duet.restart(BOB);
                    duet.run();
                }
                duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
                resolve(&mut duet, 60);
                assert_eq!(duet.payment(ALICE, preimage(1).hash()).expect("one").status, "complete");
                let lost = had as i64 + 30_000 - (money(&duet, BOB) as i64 - before as i64);
                assert!((0..15_000).contains(&lost), "anchors {anchors} closer {closer}: Bob lost {lost}");
            }
        }
    }
}

/// One that is not settled in time is the payer's again, and can no longer be settled.
#[test]
fn a_held_payment_that_is_not_settled_goes_back() {
    let mut duet = Duet::opened(770, Open::default());
    duet.pay_held(ALICE, 1, 30_000_000);
    alone(&mut duet);
    force_close(&mut duet, ALICE);
    resolve(&mut duet, 60);
    assert_eq!(duet.must_fail(BOB, Command::SettleInvoice { preimage: preimage(1) }).code, 906);
    duet.mine(6);
    assert_eq!(duet.payment(ALICE, preimage(1).hash()).expect("one").status, "failed");
}

/// A payee who takes one HTLC of a batch pays part of it to our own script: the others are claimed all the same.
#[test]
fn a_rival_who_pays_to_us_holds_up_nothing() {
    for anchors in [true, false] {
        for closer in [ALICE, BOB] {
            let common = bitcoin::ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([7; 20]));
            let mut duet = Duet::with(780, |_, config| config.close_script = common.clone());
            duet.connect();
            duet.open(Open { anchors, ..Open::default() });
            for number in 1..=3 {
                duet.pay_held(ALICE, number, 30_000_000);
            }
            alone(&mut duet);
            force_close(&mut duet, closer);
            duet.mine(1);
            // Bob's claim waits in a drawer until all of Alice's are on their way.
            duet.mute = Some(BOB);
            duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
            let expiry =
                duet.channel(ALICE).ledger.htlcs.values().map(|h| h.cltv_expiry.0).max().expect("three");
            while duet.chain.height() < expiry {
                duet.mine(1);
            }
            let watch = duet.channel(BOB).watch.clone().expect("watched");
            let his = watch.claims.iter().filter(|c| c.reveals).filter_map(|c| c.tx.clone()).next();
            let his = his.expect("a claim by the secret");
            duet.chain.mine_foreign(vec![his]);
            duet.run();
            duet.mute = None;
            resolve(&mut duet, 40);
            let watch = duet.channel(ALICE).watch.clone().expect("watched");
            let taken = |number: u64| {
                let hash = preimage(number).hash();
                watch.outputs.iter().any(|o| {
                    o.kind == OutputKind::Htlc
                        && o.lock.as_ref().is_some_and(|l| l.payment_hash == hash)
                        && o.spent.is_some()
                })
            };
            assert!(
                taken(1) && taken(2) && taken(3),
                "anchors {anchors}, closer {closer}: {:#?}",
                watch.outputs
            );
        }
    }
}

/// An HTLC that costs more to take back than it holds: its payer is told all the same, and the channel comes to an end.
#[test]
fn what_is_too_small_to_take_is_not_waited_for() {
    for anchors in [true, false] {
        for closer in [ALICE, BOB] {
            let mut duet = Duet::opened(790, Open { anchors, feerate: 253, ..Open::default() });
            // Just above the dust limit: an output, but none that is worth a transaction.
            duet.pay_held(ALICE, 1, if anchors { 400_000 } else { 560_000 });
            alone(&mut duet);
            force_close(&mut duet, closer);
            duet.mine(40);
            let paid = duet.payment(ALICE, preimage(1).hash()).expect("one");
            assert_eq!(paid.status, "failed", "anchors {anchors}, closer {closer}");
            let over = duet.channel(ALICE).resolved_at().expect("an end");
            assert!(over.0 < duet.chain.height() + 2_100);
        }
    }
}

/// A payment is held for longer than a finished channel is kept: its records wait for the user.
#[test]
fn a_channel_is_kept_while_a_held_payment_can_be_settled() {
    let mut duet = Duet::opened(795, Open::default());
    let asked = InvoiceRequest {
        hold: Some(preimage(1).hash()),
        cltv_blocks: Some(200),
        ..request("long", Some(30_000_000))
    };
    let invoice = duet.invoice(BOB, asked);
    duet.tell(ALICE, pay(&invoice.bolt11, None));
    duet.run();
    alone(&mut duet);
    force_close(&mut duet, ALICE);
    duet.mine(150);
    assert!(!duet.channel(BOB).retired);
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    duet.mine(3);
    assert_eq!(duet.payment(ALICE, preimage(1).hash()).expect("one").status, "complete");
    duet.mine(320);
    assert!(duet.channel(BOB).retired && duet.channel(ALICE).retired);
}

/// What `balance` says is a seat's in its channels, in satoshi.
fn in_channels(duet: &mut Duet, seat: usize) -> u64 {
    let reply = duet.must(seat, Command::Balance);
    let Reply::Balance(list) = reply else { panic!("{reply:?}") };
    let own = |c: &ChannelBalance| {
        let terms =
            [c.spendable_msat, c.our_reserve_msat, c.commit_fee_msat, c.anchors_msat, c.htlcs_out_msat];
        let sum: u64 = terms.iter().map(|term| term.0).sum();
        assert_eq!(sum + c.htlcs_in_msat.0 + c.their_msat.0, c.capacity.to_msat().0, "{c:?}");
        sum / 1_000
    };
    list.iter().map(own).sum()
}

#[test]
fn no_satoshi_is_counted_both_in_a_closed_channel_and_in_the_wallet() {
    for closer in [ALICE, BOB] {
        let mut duet = Duet::opened(1_210, Open::default());
        alone(&mut duet);
        let before = [ALICE, BOB].map(|seat| (money(&duet, seat), in_channels(&mut duet, seat)));
        force_close(&mut duet, closer);
        duet.mine(1);
        let waits = in_channels(&mut duet, closer);
        assert!(waits > 390_000 && waits <= before[closer].1, "{waits}: to_local waits for its delay");
        duet.mine(DELAY + 2);
        for seat in [ALICE, BOB] {
            assert_eq!(in_channels(&mut duet, seat), 0, "all of it is the wallet's");
            let (coins, had) = before[seat];
            let now = money(&duet, seat);
            assert!(now > coins && now <= coins + had, "{now} of {coins} and {had}");
        }
    }
}
