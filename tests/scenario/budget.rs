//! Budgets: what a credential may spend, over several payments, crashes and restarts, and not a millisatoshi more.

use chand_protocol::id::CommandId;
use chand_protocol::node::budget::Budget;
use chand_protocol::node::command::{Command, Reply, RouteLimits};
use chand_protocol::node::view;
use chand_protocol::units::Msat;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{Crash, Duet, When, ALICE, BOB};

const NAME: [u8; 32] = [9; 32];

fn budget(limit: u64) -> Budget {
    Budget { account: NAME, limit: Msat(limit), daily: false }
}

fn within(budgets: &[Budget], command: Command) -> Command {
    Command::Within { budgets: budgets.to_vec(), command: Box::new(command) }
}

/// Asks Alice; a question that was lost in a crash is asked again.
fn ask(duet: &mut Duet, question: &Command) -> Reply {
    let first = duet.ask(ALICE, question.clone());
    let answer = first.or_else(|| duet.ask(ALICE, question.clone()));
    match answer {
        Some(Ok(reply)) => reply,
        other => panic!("{question:?}: {other:?}"),
    }
}

/// Spent and set aside, as the node tells.
fn account(duet: &mut Duet, name: [u8; 32]) -> (u64, u64) {
    let Reply::Runes(runes) = ask(duet, &Command::ListRunes) else { panic!("not runes") };
    let found = runes.accounts.iter().find(|a| a.name == name);
    found.map_or((0, 0), |a: &view::Account| (a.spent.0, a.held.0))
}

fn order(duet: &mut Duet, label: &str, msat: u64) -> Command {
    let bolt11 = duet.invoice(BOB, request(label, Some(msat))).bolt11;
    pay(&bolt11, None)
}

fn held_order(duet: &mut Duet, number: u64, msat: u64) -> Command {
    pay(&duet.hold_invoice(BOB, number, msat).bolt11, None)
}

/// The same with a bound on fees.
fn up_to(max_fee: u64, command: Command) -> Command {
    let limits = RouteLimits { max_fee: Some(Msat(max_fee)), ..RouteLimits::default() };
    match command {
        Command::Pay { bolt11, amount_msat, label, retry_for_s, .. } => {
            Command::Pay { bolt11, amount_msat, label, retry_for_s, limits }
        }
        other => other,
    }
}

fn refused(duet: &mut Duet, id: CommandId) -> bool {
    matches!(duet.answer(id), Some(Err(error)) if error.code == 1_502)
}

#[test]
fn it_is_spent_to_the_last_millisatoshi_and_no_further() {
    let mut duet = Duet::opened(90, Open::default());
    let budget = [budget(10_000)];
    let first = order(&mut duet, "first", 6_000);
    duet.must(ALICE, within(&budget, first));
    assert_eq!(account(&mut duet, NAME), (6_000, 0));
    let above = order(&mut duet, "above", 4_001);
    let error = duet.must_not_move(ALICE, within(&budget, above.clone()));
    assert_eq!(error.code, 1_502, "{error}");
    let last = order(&mut duet, "last", 4_000);
    duet.must(ALICE, within(&budget, last.clone()));
    assert_eq!(account(&mut duet, NAME), (10_000, 0));
    let one = order(&mut duet, "one", 1);
    assert_eq!(duet.must_not_move(ALICE, within(&budget, one)).code, 1_502);
    // The same again is the same receipt, and whoever has no budget goes on.
    duet.must(ALICE, within(&budget, last));
    duet.must(ALICE, above);
    assert_eq!(account(&mut duet, NAME), (10_000, 0));
    duet.restart(ALICE);
    duet.settle();
    assert_eq!(account(&mut duet, NAME), (10_000, 0));
    assert_eq!(duet.balance_msat(BOB), 400_000_000 + 14_001);
}

#[test]
fn what_is_under_way_is_set_aside_and_given_back_when_it_fails() {
    let mut duet = Duet::opened(91, Open::default());
    let budget = [budget(10_000)];
    let held = up_to(700, held_order(&mut duet, 1, 6_000));
    let id = duet.tell(ALICE, within(&budget, held));
    duet.run();
    assert_eq!(account(&mut duet, NAME), (0, 6_700), "with the most that it may cost");
    let second = order(&mut duet, "second", 3_301);
    assert_eq!(duet.must_not_move(ALICE, within(&budget, second)).code, 1_502);
    for _ in 0..2 {
        duet.restart(ALICE);
        duet.settle();
        assert_eq!(account(&mut duet, NAME), (0, 6_700), "from the payment's own record");
    }
    duet.must(BOB, Command::CancelInvoice { payment_hash: preimage(1).hash() });
    duet.run();
    assert_eq!(account(&mut duet, NAME), (0, 0));
    assert!(!refused(&mut duet, id));
    // Fees are held to what is left.
    let all = up_to(700, held_order(&mut duet, 2, 9_999));
    duet.tell(ALICE, within(&budget, all));
    duet.run();
    assert_eq!(account(&mut duet, NAME), (0, 10_000));
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(2) });
    duet.run();
    assert_eq!(account(&mut duet, NAME), (9_999, 0));
}

#[test]
fn many_at_once_never_get_more_than_there_is() {
    let mut duet = Duet::opened(92, Open::default());
    let budget = [budget(50_000)];
    let orders: Vec<Command> = (0..60).map(|n| up_to(5, held_order(&mut duet, n, 1_000 + n))).collect();
    let ids: Vec<CommandId> = orders.into_iter().map(|o| duet.tell(ALICE, within(&budget, o))).collect();
    duet.run();
    let taken: Vec<u64> = (0..60).filter(|n| !refused(&mut duet, ids[*n as usize])).collect();
    let (spent, held) = account(&mut duet, NAME);
    assert_eq!((spent, held <= 50_000), (0, true), "{held}");
    assert!(taken.len() < 60 && taken.len() > 30, "{}", taken.len());
    // Half of them are taken, the others come back, with a crash of the payer in between.
    for (place, number) in taken.iter().enumerate() {
        if place == taken.len() / 2 {
            duet.restart(ALICE);
            duet.settle();
        }
        let command = match place % 2 {
            0 => Command::SettleInvoice { preimage: preimage(*number) },
            _ => Command::CancelInvoice { payment_hash: preimage(*number).hash() },
        };
        duet.must(BOB, command);
        duet.run();
    }
    let paid: u64 = taken.iter().step_by(2).map(|n| 1_000 + n).sum();
    assert_eq!(account(&mut duet, NAME), (paid, 0));
    assert_eq!(duet.balance_msat(BOB), 400_000_000 + paid);
}

#[test]
fn every_budget_counts_and_the_tightest_decides() {
    let mut duet = Duet::opened(93, Open::default());
    let childs = Budget { account: [8; 32], limit: Msat(2_000), daily: true };
    let (parent, both) = ([budget(10_000)], [budget(10_000), childs]);
    let small = order(&mut duet, "small", 1_500);
    duet.must(ALICE, within(&both, small));
    let more = order(&mut duet, "more", 501);
    assert_eq!(duet.must_not_move(ALICE, within(&both, more.clone())).code, 1_502);
    duet.must(ALICE, within(&parent, more));
    assert_eq!((account(&mut duet, NAME), account(&mut duet, [8; 32])), ((2_001, 0), (1_500, 0)));
    let rest = order(&mut duet, "rest", 8_000);
    assert_eq!(duet.must_not_move(ALICE, within(&parent, rest)).code, 1_502);
    // What no budget counts is not done.
    let close = duet.close_order();
    assert_eq!(duet.must_not_move(ALICE, within(&parent, close)).code, 1_502);
}

/// What the payments below may spend together.
const LIMIT: u64 = 12_000;

/// Paid, held and taken, held and given back, refused, and paid in its place; each as far as a crash lets it.
fn live(duet: &mut Duet, orders: &[Command]) {
    let budget = [budget(LIMIT)];
    for order in orders {
        duet.tell(ALICE, within(&budget, order.clone()));
        duet.run();
        let (spent, held) = account(duet, NAME);
        assert!(spent + held <= LIMIT, "{spent} and {held}");
    }
    // Whoever died did not hear it: said again.
    for _ in 0..2 {
        duet.tell(BOB, Command::SettleInvoice { preimage: preimage(2) });
        duet.run();
        duet.tell(BOB, Command::CancelInvoice { payment_hash: preimage(3).hash() });
        duet.run();
    }
    duet.settle();
    if let Some(last) = orders.last() {
        duet.tell(ALICE, within(&budget, last.clone()));
        duet.run();
    }
}

#[test]
fn after_a_crash_at_any_step_the_account_is_what_was_paid() {
    let begin = || {
        let mut duet = Duet::opened(94, Open::default());
        let orders = vec![
            up_to(5, order(&mut duet, "paid", 3_000)),
            up_to(5, held_order(&mut duet, 2, 4_000)),
            up_to(5, held_order(&mut duet, 3, 4_900)),
            up_to(5, order(&mut duet, "refused at first", 100)),
        ];
        (duet, orders)
    };
    let (mut quiet, orders) = begin();
    let from = quiet.seats.each_ref().map(|s| s.steps);
    live(&mut quiet, &orders);
    assert_eq!(account(&mut quiet, NAME), (7_100, 0));
    let to = quiet.seats.each_ref().map(|s| s.steps);
    for seat in [ALICE, BOB] {
        for step in from[seat] + 1..=to[seat] {
            for when in [When::BeforeCommit, When::BeforeRelease, When::AfterRelease] {
                let (mut duet, orders) = begin();
                duet.crashes = vec![Crash { seat, step, when }];
                live(&mut duet, &orders);
                let all = Command::ListPays { payment_hash: None, bolt11: None };
                let Reply::Pays(pays) = ask(&mut duet, &all) else { panic!("not payments") };
                let complete = pays.iter().filter(|p| p.status == "complete");
                let paid: u64 = complete.map(|p| p.amount_sent_msat.0).sum();
                assert_eq!(account(&mut duet, NAME), (paid, 0), "seat {seat}, step {step}, {when:?}");
                assert_eq!(duet.balance_msat(BOB), 400_000_000 + paid);
            }
        }
    }
}
