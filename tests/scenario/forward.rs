//! The seed's payment and what can befall it: Alice pays Dave through Bob and Carol (BOLT 4, "Forwarding HTLCs").
//!
//! In: four nodes in a line. Out: amounts, expiries, fees and failures at each hop, with crashes, silence and closes.
//! Read next: `chand_tests::town`.

use chand_protocol::channel::Phase;
use chand_protocol::id::{Preimage, ShortChannelId};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest, Reply, RouteHop};
use chand_protocol::node::NodeConfig;
use chand_protocol::units::Msat;
use chand_tests::duet::play::{preimage, request};
use chand_tests::duet::When;
use chand_tests::town::{Town, ALICE, BOB, CAROL, DAVE};

/// 0.001 BTC for each who sends a payment on, a day between two expiries.
fn seeds_terms(_: usize, config: &mut NodeConfig) {
    config.fee_base_msat = 100_000_000;
    config.fee_ppm = 0;
    config.cltv_delta_blocks = 144;
}

/// What chand asks for unless told otherwise.
fn usual(_: usize, _: &mut NodeConfig) {}

const ALL: [usize; 4] = [ALICE, BOB, CAROL, DAVE];

fn balances(town: &Town) -> [u64; 4] {
    ALL.map(|seat| town.balance_msat(seat))
}

fn held(
    town: &mut Town,
    number: u64,
    amount_msat: u64,
) -> (Vec<RouteHop>, chand_protocol::node::view::Invoice) {
    let hold = Some(preimage(number).hash());
    let wish = InvoiceRequest { hold, ..request(&format!("held-{number}"), Some(amount_msat)) };
    let invoice = town.invoice(DAVE, wish);
    (town.route(&ALL, amount_msat, 40), invoice)
}

fn words(answer: Option<chand_tests::duet::Answer>) -> String {
    match answer {
        Some(Err(error)) => error.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn alice_pays_dave_through_bob_and_carol() {
    let mut town = Town::line(4, 1, seeds_terms);
    let before = balances(&town);
    let (route, invoice) = held(&mut town, 7, 5_000_000_000);
    let amounts: Vec<u64> = route.iter().map(|hop| hop.amount_msat.0).collect();
    // BOLT 2, 4 [2.forward.1, 2.forward.4, 4.write.7, 4.write.8].
    assert_eq!(amounts, [5_200_000_000, 5_100_000_000, 5_000_000_000]);
    town.must(ALICE, Town::send_pay(route, &invoice));
    let offered = |seat: usize, other: usize| {
        let htlc = town.between(seat, other).ledger.htlcs.values().next().expect("an HTLC").clone();
        (htlc.amount.0, htlc.cltv_expiry.0)
    };
    let hops = [offered(ALICE, BOB), offered(BOB, CAROL), offered(CAROL, DAVE)];
    assert_eq!(hops.map(|(amount, _)| amount), [5_200_000_000, 5_100_000_000, 5_000_000_000]);
    assert_eq!([hops[0].1 - hops[1].1, hops[1].1 - hops[2].1], [144, 144], "a day apart");
    assert!(town.forwards(BOB).iter().all(|f| f.status == "offered" && f.resolved.is_none()));
    town.must(DAVE, Command::SettleInvoice { preimage: preimage(7) });
    let order = Command::WaitSendPay { payment_hash: invoice.payment_hash, timeout_s: None };
    let Reply::Sent(paid) = town.must(ALICE, order) else { panic!("not paid") };
    assert_eq!(paid.preimage.as_ref().map(Preimage::hash), Some(invoice.payment_hash));
    assert_eq!((paid.amount_msat.0, paid.amount_sent_msat.0), (5_000_000_000, 5_200_000_000));
    let after = balances(&town);
    let moved: Vec<i64> = after.iter().zip(before).map(|(a, b)| *a as i64 - b as i64).collect();
    assert_eq!(moved, [-5_200_000_000, 100_000_000, 100_000_000, 5_000_000_000]);
    for (seat, amount_in) in [(BOB, 5_200_000_000), (CAROL, 5_100_000_000)] {
        let rows = town.forwards(seat);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.in_msat.0, row.out_msat.0), (amount_in, amount_in - 100_000_000));
        assert_eq!((row.status, row.payment_hash), ("settled", invoice.payment_hash));
        assert!(row.resolved.is_some_and(|at| at >= row.received));
    }
    town.judge_quiet();
}

#[test]
fn many_at_once_in_both_directions() {
    let mut town = Town::line(4, 2, usual);
    let mut waiting = Vec::new();
    for number in 0..12_u64 {
        let ways: [&[usize]; 4] =
            [&ALL, &[DAVE, CAROL, BOB, ALICE], &[ALICE, BOB, CAROL], &[DAVE, CAROL, BOB]];
        let way = ways[number as usize % 4];
        let (payer, payee) = (way[0], way[way.len() - 1]);
        let invoice = town.bill(payee, &format!("{number}"), 20_000_000 + number);
        let route = town.route(way, 20_000_000 + number, 40);
        town.tell(payer, Town::send_pay(route, &invoice));
        waiting.push((payer, invoice.payment_hash));
    }
    town.run();
    for (payer, payment_hash) in waiting {
        let reply = town.must(payer, Command::WaitSendPay { payment_hash, timeout_s: Some(1) });
        assert!(matches!(reply, Reply::Sent(paid) if paid.status == "complete"));
    }
    town.judge_quiet();
}

/// Makes a route wrong.
type Spoil = fn(&mut [RouteHop]);

#[test]
fn each_hop_says_what_it_lacks_and_the_payer_knows_which() {
    let mut town = Town::line(4, 3, usual);
    let before = balances(&town);
    let fine = |town: &Town| town.route(&ALL, 50_000_000, 40);
    let cases: [(&str, &str, Spoil); 7] = [
        // BOLT 4 [4.fail.7, 4.read.22, 4.read.23, 4.read.24, 4.relayfail.4, 4.relayfail.5].
        ("hop 1 of 3", "unknown_next_peer", |r| r[1].channel = Some(ShortChannelId(1 << 40))),
        ("hop 2 of 3", "unknown_next_peer", |r| r[2].channel = Some(ShortChannelId(2 << 40))),
        ("hop 1 of 3", "fee_insufficient", |r| r[0].amount_msat = Msat(r[0].amount_msat.0 - 1)),
        ("hop 2 of 3", "fee_insufficient", |r| r[1].amount_msat = Msat(r[2].amount_msat.0)),
        ("hop 1 of 3", "incorrect_cltv_expiry", |r| r[0].delay_blocks -= 1),
        // BOLT 2 [2.remove.8]: Dave cannot read what was sealed for Alice, and Carol says so.
        ("hop 2 of 3", "invalid_onion_hmac", |r| r[2].id = r[0].id),
        ("hop 2 of 3", "incorrect_cltv_expiry", |r| r[1].delay_blocks = r[2].delay_blocks),
    ];
    for (number, (who, what, spoil)) in cases.into_iter().enumerate() {
        let invoice = town.bill(DAVE, &format!("{number}"), 50_000_000);
        let mut route = fine(&town);
        spoil(&mut route);
        let text = words(town.pay_along(route, &invoice, ALICE));
        assert!(text.contains(who) && text.contains(what), "{who}, {what}: {text}");
        town.judge_quiet();
        assert_eq!(balances(&town), before);
    }
    // The last word is the payee's.
    let invoice = town.bill(DAVE, "cheap", 60_000_000);
    let route = fine(&town);
    let text = words(town.pay_along(route, &invoice, ALICE));
    assert!(text.contains("the payee") && text.contains("incorrect_or_unknown_payment_details"), "{text}");
    assert!(ALL.iter().all(|seat| town.seats[*seat].node.channels().all(|c| c.phase == Phase::Open)));
}

#[test]
fn limits_of_setchannel_hold_and_stay() {
    let mut town = Town::line(3, 10, usual);
    let way = [ALICE, BOB, CAROL];
    let set = |town: &mut Town, min: u64, max: u64| {
        let channel = Some(ChannelRef::Id(town.between(BOB, CAROL).id()));
        let (htlc_min_msat, htlc_max_msat) = (Some(Msat(min)), Some(Msat(max)));
        let order = Command::SetChannel {
            channel,
            fee_base_msat: Some(5_000),
            fee_ppm: None,
            htlc_min_msat,
            htlc_max_msat,
        };
        town.must(BOB, order);
    };
    for (number, (min, max, what)) in
        [(50_000_001, 90_000_000, "amount_below_minimum"), (1, 49_999_999, "temporary_channel_failure")]
            .into_iter()
            .enumerate()
    {
        set(&mut town, min, max);
        town.restart(BOB);
        town.settle();
        let invoice = town.bill(CAROL, &format!("{number}"), 50_000_000);
        let route = town.route(&way, 50_000_000, 40);
        assert_eq!(route[0].amount_msat.0, 50_000_000 + 5_000 + 500, "the fee it was set to");
        let text = words(town.pay_along(route, &invoice, ALICE));
        assert!(text.contains(what) && text.contains("hop 1 of 2"), "{what}: {text}");
    }
    let channel = Some(ChannelRef::Id(town.between(BOB, CAROL).id()));
    let above = Msat(town.between(BOB, CAROL).terms.capacity.to_msat().0 + 1);
    let order = Command::SetChannel {
        channel,
        fee_base_msat: None,
        fee_ppm: None,
        htlc_min_msat: Some(above),
        htlc_max_msat: Some(above),
    };
    assert_eq!(town.must_fail(BOB, order).code, -32602, "more than the channel holds never goes on");
    set(&mut town, 50_000_000, 50_000_000);
    let invoice = town.bill(CAROL, "fits", 50_000_000);
    let route = town.route(&way, 50_000_000, 40);
    assert!(
        matches!(town.pay_along(route, &invoice, ALICE), Some(Ok(Reply::Sent(paid))) if paid.status == "complete")
    );
}

#[test]
fn expiries_too_near_and_too_far_go_back() {
    // BOLT 2 [2.forward.3].
    let mut town = Town::line(3, 4, |_, config| config.cltv_delta_blocks = 6);
    let way = [ALICE, BOB, CAROL];
    for (blocks, what) in [(0, "expiry_too_soon"), (2_050, "")] {
        let invoice = town.bill(CAROL, &format!("{blocks}"), 50_000_000);
        let mut route = town.route(&way, 50_000_000, blocks);
        if what.is_empty() {
            // More than two weeks ahead for Bob, by what he is told only.
            route[0].delay_blocks = 2_060;
            route[1].delay_blocks = 2_054;
        }
        let answer = town.pay_along(route, &invoice, ALICE);
        let text = words(answer);
        let want = if what.is_empty() { "expiry_too_far" } else { what };
        assert!(text.contains(want), "{want}: {text}");
        town.judge_quiet();
    }
}

#[test]
fn a_peer_that_is_away_is_said_at_once() {
    let mut town = Town::line(4, 5, usual);
    town.silence(CAROL);
    let route = town.route(&ALL, 50_000_000, 40);
    let invoice = town.bill(DAVE, "1", 50_000_000);
    let text = words(town.pay_along(route, &invoice, ALICE));
    assert!(text.contains("hop 1 of 3") && text.contains("temporary_channel_failure"), "{text}");
    town.silent.clear();
    town.settle();
    let route = town.route(&ALL, 50_000_000, 40);
    let answer = town.pay_along(route, &invoice, ALICE);
    assert!(matches!(answer, Some(Ok(Reply::Sent(paid))) if paid.status == "complete"));
    town.judge_quiet();
}

/// A payment with a crash of `seat` at each of its steps in turn: it ends, for everybody alike.
fn crash_at_every_step(seat: usize, when: When, settles: bool) {
    let mut steps = 1;
    loop {
        let mut town = Town::line(4, 6, usual);
        let before = balances(&town);
        let first = town.seats[seat].steps;
        let (route, invoice) = held(&mut town, 9, 50_000_000);
        town.crashes.push((seat, town.seats[seat].steps + steps, when));
        town.tell(ALICE, Town::send_pay(route, &invoice));
        town.settle();
        let order = match settles {
            true => Command::SettleInvoice { preimage: preimage(9) },
            false => Command::CancelInvoice { payment_hash: invoice.payment_hash },
        };
        let decided = town.ask(DAVE, order.clone());
        town.settle();
        if decided.is_none() {
            // It died before it answered: asked again.
            town.ask(DAVE, order);
            town.settle();
        }
        let never = !town.crashes.is_empty();
        town.crashes.clear();
        let moved = balances(&town)[DAVE] - before[DAVE];
        let list = Command::ListPays { payment_hash: Some(invoice.payment_hash), bolt11: None };
        let Reply::Pays(pays) = town.must(ALICE, list) else { panic!("no list") };
        let status = pays.first().map(|p| p.status);
        assert_eq!(moved, if status == Some("complete") { 50_000_000 } else { 0 }, "step {steps} of {seat}");
        assert_ne!(status, Some("pending"), "step {steps} of {seat}, {when:?}");
        town.judge_quiet();
        if never {
            assert!(town.seats[seat].steps > first && steps > 5, "it never got that far");
            return;
        }
        steps += 1;
    }
}

#[test]
fn whoever_dies_at_any_step_nobody_loses() {
    for when in [When::BeforeCommit, When::BeforeRelease, When::AfterRelease] {
        for settles in [true, false] {
            crash_at_every_step(BOB, when, settles);
        }
    }
    crash_at_every_step(CAROL, When::BeforeRelease, true);
    crash_at_every_step(DAVE, When::BeforeRelease, true);
    crash_at_every_step(ALICE, When::BeforeRelease, false);
}

#[test]
fn a_silent_hop_costs_nobody_anything_and_the_last_gets_back_first() {
    // BOLT 2, 5 [2.forward.2, 5.localoffer.3, 5.localoffer.8].
    let mut town = Town::line(4, 7, usual);
    let before = balances(&town);
    let (route, invoice) = held(&mut town, 3, 50_000_000);
    town.must(ALICE, Town::send_pay(route, &invoice));
    // One without an output of its own in any commitment.
    let (route, small) = held(&mut town, 13, 200_000);
    town.must(ALICE, Town::send_pay(route, &small));
    town.silence(CAROL);
    // Carol does nothing any more, not even on chain.
    town.mute.insert(CAROL);
    let order = Command::ListPays { payment_hash: Some(invoice.payment_hash), bolt11: None };
    let mut ended = Vec::new();
    for _ in 0..160 {
        town.mine(1);
        let Reply::Pays(pays) = town.must(ALICE, order.clone()) else { panic!("no list") };
        if pays[0].status == "failed" && !ended.contains(&ALICE) {
            ended.push(ALICE);
        }
        if town.forwards(BOB).iter().all(|f| f.status == "failed") && !ended.contains(&BOB) {
            ended.push(BOB);
        }
        if town.between(BOB, CAROL).phase != Phase::Open && !ended.contains(&CAROL) {
            ended.push(CAROL);
        }
    }
    // Bob closes towards Carol, has his money back on chain, then gives Alice's back, in one step.
    assert_eq!(ended.first(), Some(&CAROL));
    assert!(ended.contains(&ALICE) && ended.contains(&BOB), "{ended:?}");
    assert_eq!(town.between(ALICE, BOB).phase, Phase::Open, "the channel before lives on");
    assert_eq!(town.between(ALICE, BOB).to_us().0, before[ALICE]);
    assert!(town.between(ALICE, BOB).ledger.htlcs.is_empty());
}

#[test]
fn the_secret_comes_out_on_chain_and_everybody_upstream_is_paid() {
    // BOLT 2 [2.forward.4].
    let mut town = Town::line(4, 8, usual);
    let before = balances(&town);
    town.expected_errors.push("is closed");
    let (route, invoice) = held(&mut town, 4, 50_000_000);
    town.must(ALICE, Town::send_pay(route, &invoice));
    // Dave closes by force towards Carol, and takes the money on chain with his secret.
    let channel = ChannelRef::Id(town.between(DAVE, CAROL).id());
    town.silence(DAVE);
    town.must(DAVE, Command::DevFail { channel });
    town.mine(1);
    town.must(DAVE, Command::SettleInvoice { preimage: preimage(4) });
    town.mine(2);
    let list = Command::ListPays { payment_hash: Some(invoice.payment_hash), bolt11: None };
    let Reply::Pays(pays) = town.must(ALICE, list) else { panic!("no list") };
    assert_eq!(pays[0].status, "complete");
    let earned = [BOB, CAROL].map(|seat| {
        let rows = town.forwards(seat);
        assert_eq!(rows[0].status, "settled");
        rows[0].in_msat.0 - rows[0].out_msat.0
    });
    assert_eq!(town.between(ALICE, BOB).to_us().0, before[ALICE] - 50_000_000 - earned[0] - earned[1]);
    assert!(
        town.between(ALICE, BOB).ledger.htlcs.is_empty() && town.between(BOB, CAROL).ledger.htlcs.is_empty()
    );
}

#[test]
fn the_secret_comes_back_to_a_channel_that_was_closed_meanwhile() {
    let mut town = Town::line(3, 9, usual);
    let hold = Some(preimage(5).hash());
    let invoice = town.invoice(CAROL, InvoiceRequest { hold, ..request("held", Some(50_000_000)) });
    let route = town.route(&[ALICE, BOB, CAROL], 50_000_000, 60);
    town.must(ALICE, Town::send_pay(route, &invoice));
    // Alice closes by force: Bob has to take her HTLC on chain once he knows the secret.
    let channel = ChannelRef::Id(town.between(ALICE, BOB).id());
    let money = |town: &Town, seat: usize| town.chain.money_of(&town.seats[seat].wallet.script);
    let (before, had) = (money(&town, BOB), town.between(BOB, ALICE).to_us().0 / 1_000);
    town.silence(ALICE);
    town.must(ALICE, Command::DevFail { channel });
    town.mine(2);
    town.must(CAROL, Command::SettleInvoice { preimage: preimage(5) });
    town.mine(2);
    let list = Command::ListPays { payment_hash: Some(invoice.payment_hash), bolt11: None };
    let Reply::Pays(pays) = town.must(ALICE, list) else { panic!("no list") };
    assert_eq!(pays[0].status, "complete", "Alice reads the secret off the chain");
    assert_eq!(town.forwards(BOB)[0].status, "settled");
    town.mine(30);
    let got = money(&town, BOB) - before;
    assert!(got > had + 50_000 - 10_000, "Bob's claims pay his wallet: {got} of {had} and 50,000");
}
