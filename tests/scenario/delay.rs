//! When failures leave the beginning of a blinded path: later than they could, and nobody can say by how much.
//!
//! In: Alice, who pays over paths that begin at Bob and that are wrong at one hop or the next. Out: she hears of it within a
//! second or so, after another time at each try; a start of Bob meanwhile loses nothing and sends nothing on again.
//! Read next: `blinded`, `chand_protocol::node` (`delay`).

use crate::blinded::{hidden, over, pay, refused, sealed, told, usual};
use chand_protocol::id::{CommandId, ShortChannelId};
use chand_tests::town::{Town, ALICE, BOB, CAROL, DAVE};
use std::collections::BTreeSet;

const AMOUNT: u64 = 50_000_000;

/// Pays over a path that is wrong at Bob, at Carol, or at Dave, and lets everything happen that needs no time.
fn fails_at(town: &mut Town, hop: usize, n: u8) -> CommandId {
    let bill = hidden(town, DAVE, &format!("{n}"), AMOUNT);
    let seats = [BOB, CAROL, DAVE];
    let mut hops = told(town, &seats, bill.payment_secret);
    match hop {
        DAVE => hops[2].path_id = Some(vec![9; 32]),
        seat => hops[seat - BOB].short_channel_id = Some(ShortChannelId(1 << 40)),
    }
    let mut path = sealed(town, &seats, &hops, n);
    path.info.htlc_minimum = chand_protocol::units::Msat(AMOUNT);
    let text = over(town, bill.payment_hash, AMOUNT, vec![path]);
    let id = town.tell(ALICE, pay(&text));
    town.run();
    id
}

fn pending(town: &Town) -> usize {
    town.between(ALICE, BOB).ledger.htlcs.len()
}

#[test]
fn a_failure_leaves_a_path_a_moment_late_and_each_time_another() {
    let mut town = Town::line(4, 330, usual);
    let mut delays = BTreeSet::new();
    for n in 1..=12 {
        let id = fails_at(&mut town, [BOB, CAROL, DAVE][usize::from(n) % 3], n);
        assert_eq!(pending(&town), 1, "Bob knows that it failed and keeps it to himself");
        let begun = town.now;
        while pending(&town) > 0 {
            assert!(town.now.0 - begun.0 < 1_100, "it takes too long");
            town.wait_ms(10);
        }
        delays.insert((town.now.0 - begun.0) / 10);
        let (_, words) = refused(town.answer(id));
        assert!(words.contains("invalid_onion_blinding"), "{words}");
    }
    assert!(delays.len() > 6 && delays.iter().any(|d| *d > 30), "{delays:?}");
    town.judge_quiet();
}

#[test]
fn a_failure_outside_of_paths_leaves_at_once() {
    let mut town = Town::line(4, 331, usual);
    let bill = town.bill(DAVE, "other", AMOUNT);
    let mut route = town.route(&[ALICE, BOB, CAROL, DAVE], AMOUNT, 40);
    route[1].channel = Some(ShortChannelId(1 << 40));
    let (_, words) = refused(town.pay_along(route, &bill, ALICE));
    assert!(words.contains("unknown_next_peer"), "{words}");
}

#[test]
fn a_start_meanwhile_loses_no_failure_and_sends_nothing_on_again() {
    let mut town = Town::line(4, 332, usual);
    for (hop, n) in [(BOB, 1), (CAROL, 2), (DAVE, 3)] {
        let before = town.forwards(BOB).len();
        let id = fails_at(&mut town, hop, n);
        let sent_on = town.between(BOB, CAROL).ledger.next_id.0;
        town.restart(BOB);
        town.settle();
        assert_eq!(town.between(BOB, CAROL).ledger.next_id.0, sent_on, "{hop}: it went on twice");
        town.wait_ms(2_000);
        let (_, words) = refused(town.answer(id));
        assert!(words.contains("invalid_onion_blinding"), "{words}");
        let rows = town.forwards(BOB);
        assert_eq!(rows.len(), before + usize::from(hop != BOB), "{hop}");
        assert!(rows.iter().all(|row| row.status == "failed"));
        town.judge_quiet();
    }
}
