//! A forward whose outgoing HTLC was taken back on chain, and a reorganisation that undoes it: six blocks cost nobody
//! anything, whenever they go; what deeper ones cost is said and stays to be read.

use chand_protocol::node::command::{Command, InvoiceRequest, Reply};
use chand_protocol::node::effect::Level;
use chand_protocol::node::view;
use chand_protocol::onchain::Kind;
use chand_tests::duet::play::{preimage, request};
use chand_tests::town::{Town, ALICE, BOB, CAROL};

const AMOUNT_MSAT: u64 = 50_000_000;

/// Alice's payment to Carol waits at Bob, who has just taken the HTLC back from a silent Carol: one block deep. Carol knows
/// the secret, and nothing of hers reaches the chain.
fn taken_back(seed: u64) -> (Town, view::Invoice) {
    let mut town = Town::line(3, seed, |_, _| {});
    let hold = Some(preimage(5).hash());
    let invoice = town.invoice(CAROL, InvoiceRequest { hold, ..request("held", Some(AMOUNT_MSAT)) });
    let route = town.route(&[ALICE, BOB, CAROL], AMOUNT_MSAT, 40);
    town.must(ALICE, Town::send_pay(route, &invoice));
    town.silence(CAROL);
    town.mute.insert(CAROL);
    town.must(CAROL, Command::SettleInvoice { preimage: preimage(5) });
    for _ in 0..80 {
        town.mine(1);
        if spender(&town).is_some() {
            town.expected_errors.push("cannot be taken any more");
            return (town, invoice);
        }
    }
    panic!("never taken back");
}

/// Whether the transaction that spent the HTLC on Bob's chain is his.
fn spender(town: &Town) -> Option<bool> {
    let watch = town.between(BOB, CAROL).watch.as_ref()?;
    let htlc = watch.outputs.iter().find(|o| o.kind == Kind::Htlc)?;
    htlc.spent.map(|spent| spent.ours)
}

/// So many blocks go, for good; then Carol's transactions are seen first.
fn reorganise(town: &mut Town, blocks: u32) {
    (0..blocks).for_each(|_| town.chain.unmine(true));
    town.mute = [BOB].into();
    town.mine(2);
    town.mute.clear();
    town.mine(1);
}

fn row(town: &mut Town) -> view::Forward {
    let rows = town.forwards(BOB);
    assert_eq!(rows.len(), 1);
    rows[0].clone()
}

fn pay_status(town: &mut Town, invoice: &view::Invoice) -> &'static str {
    let list = Command::ListPays { payment_hash: Some(invoice.payment_hash), bolt11: None };
    let Reply::Pays(pays) = town.must(ALICE, list) else { panic!("no list") };
    pays[0].status
}

#[test]
fn six_blocks_undone_while_the_payer_waits() {
    let (mut town, invoice) = taken_back(30);
    town.mine(5);
    assert_eq!(row(&mut town).status, "offered", "six deep is not yet for good");
    reorganise(&mut town, 6);
    // Carol took it with the secret, which is Alice's proof.
    assert_eq!(spender(&town), Some(false));
    let row = row(&mut town);
    assert_eq!((row.status, row.lost), ("settled", None));
    assert_eq!(pay_status(&mut town, &invoice), "complete");
}

#[test]
fn six_blocks_undone_after_the_payer_got_it_back() {
    let (mut town, invoice) = taken_back(31);
    town.mine(6);
    assert_eq!((row(&mut town).status, pay_status(&mut town, &invoice)), ("failed", "failed"));
    reorganise(&mut town, 6);
    town.mine(12);
    assert_eq!(spender(&town), Some(true));
    let row = row(&mut town);
    assert_eq!((row.status, row.lost), ("failed", None));
    town.must(ALICE, Command::GetInfo);
}

#[test]
fn what_a_deeper_one_costs_is_said_and_kept() {
    let (mut town, invoice) = taken_back(32);
    town.mine(6);
    assert_eq!(pay_status(&mut town, &invoice), "failed");
    town.expected_errors.push("LOST");
    reorganise(&mut town, 7);
    assert_eq!(spender(&town), Some(false));
    let said = |town: &Town| {
        let lines = town.seats[BOB].log.iter();
        lines.filter(|n| n.level == Level::Error && n.text.contains("LOST 50000000 msat")).count()
    };
    assert_eq!(said(&town), 1, "{:?}", town.seats[BOB].log.iter().rev().take(5).collect::<Vec<_>>());
    for restarts in [false, true] {
        if restarts {
            town.restart(BOB);
        }
        let row = row(&mut town);
        assert_eq!((row.status, row.lost.map(|lost| lost.0)), ("failed", Some(AMOUNT_MSAT)));
        let Reply::ClosedChannels(closed) = town.must(BOB, Command::ListClosedChannels { peer: None }) else {
            panic!("no list")
        };
        let cause = closed[0].channel.annals.cause.clone().expect("a cause");
        assert!(cause.story.iter().any(|line| line.text.contains("LOST 50000000 msat")), "{cause:?}");
        assert_eq!(closed.len(), 1);
    }
    let Reply::Info(info) = town.must(BOB, Command::GetInfo) else { panic!("no info") };
    assert_eq!(info.fees_collected.0, 0, "nothing was earned with it");
}

#[test]
fn what_forwards_earned_is_added_up() {
    let mut town = Town::line(3, 33, |_, _| {});
    let mut sum = 0;
    for number in 1..=3 {
        let invoice = town.bill(CAROL, &format!("{number}"), number * 7_000_000);
        let route = town.route(&[ALICE, BOB, CAROL], number * 7_000_000, 40);
        sum += route[0].amount_msat.0 - number * 7_000_000;
        assert!(matches!(town.pay_along(route, &invoice, ALICE), Some(Ok(Reply::Sent(_)))));
    }
    town.restart(BOB);
    let Reply::Info(info) = town.must(BOB, Command::GetInfo) else { panic!("no info") };
    assert!(sum > 0 && info.fees_collected.0 == sum, "{sum}");
}
