//! Ends that come late, or otherwise than it looked: what payments and forwards say of them.
//!
//! In: closes on chain seen by old copies, lost races, deep reorganisations. Out: nothing is pending for ever, and nothing is
//! called settled that was not. Read next: `lost`, `undone`.

use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest, Reply, RouteHop};
use chand_protocol::node::view;
use chand_protocol::onchain::Kind;
use chand_protocol::units::Msat;
use chand_tests::duet::play::{preimage, request, Open};
use chand_tests::duet::{Duet, ALICE, BOB};
use chand_tests::town::{Town, CAROL};

const AMOUNT_MSAT: u64 = 50_000_000;

fn status(town: &mut Town, seat: usize, invoice: &view::Invoice) -> view::Pay {
    let list = Command::ListPays { payment_hash: Some(invoice.payment_hash), bolt11: None };
    let Reply::Pays(pays) = town.must(seat, list) else { panic!("no list") };
    pays[0].clone()
}

fn held(town: &mut Town, payer: &[usize], payee: usize, number: u64) -> view::Invoice {
    let hold = Some(preimage(number).hash());
    let invoice = town.invoice(payee, InvoiceRequest { hold, ..request("held", Some(AMOUNT_MSAT)) });
    let route = town.route(payer, AMOUNT_MSAT, 40);
    town.must(payer[0], Town::send_pay(route, &invoice));
    invoice
}

/// The channel ended by agreement after the copy was made: the payment of the copy ends, too.
#[test]
fn a_payment_of_an_old_copy_ends_when_the_channel_was_closed_by_agreement() {
    let mut duet = Duet::opened(941, Open::default());
    duet.pay_held(ALICE, 1, 30_000_000);
    let old = duet.seats[ALICE].store.durable();
    duet.must(BOB, Command::CancelInvoice { payment_hash: preimage(1).hash() });
    duet.settle();
    let order = duet.close_order();
    duet.must(ALICE, order);
    duet.mine(1);
    duet.check_every = 0;
    duet.expected_errors =
        vec!["no commitment", "later state", "reports an error", "may be old", "lost state", "refused"];
    duet.restore_old(ALICE, old);
    duet.run();
    duet.mine(300);
    let pay = duet.payment(ALICE, preimage(1).hash()).expect("listed");
    assert_ne!(
        pay.status,
        "pending",
        "300 blocks deep, HTLCs left: {:?}",
        duet.channel(ALICE).ledger.htlcs.len()
    );
}

/// The same in the middle of a line: the payer's HTLC is given back.
#[test]
fn a_forward_of_an_old_copy_ends_when_the_next_channel_was_closed_by_agreement() {
    let mut town = Town::line(3, 942, |_, _| {});
    let invoice = held(&mut town, &[0, 1, 2], CAROL, 5);
    let old = town.seats[1].store.durable();
    town.silence(0);
    town.must(CAROL, Command::CancelInvoice { payment_hash: invoice.payment_hash });
    town.run();
    let channel = ChannelRef::Id(town.between(1, CAROL).id());
    let close = Command::Close { channel, unilateral_timeout_s: 0, destination: None, feerange: None };
    town.must(1, close);
    town.mine(1);
    town.expected_errors =
        vec!["no commitment", "later state", "reports an error", "may be old", "lost state", "refused"];
    town.seats[1].store = chand_storage::MemoryStore::with_entries(old);
    town.restart(1);
    town.run();
    town.silent.clear();
    town.mine(30);
    let row = town.forwards(1)[0].clone();
    assert_ne!(row.status, "offered", "the next channel is closed 31 blocks deep");
}

/// The secret came in time, and the payer's timeout was mined first all the same: the row says that it is lost.
#[test]
fn a_forward_whose_claim_lost_the_race_is_not_called_settled() {
    let mut town = Town::line(3, 943, |_, _| {});
    held(&mut town, &[0, 1, 2], CAROL, 5);
    town.expected_errors = vec!["is closed", "taken", "lost"];
    let channel = ChannelRef::Id(town.between(0, 1).id());
    town.silence(0);
    town.must(0, Command::DevFail { channel });
    town.mine(2);
    // Bob hears the secret, and nothing of his reaches a miner.
    town.mute = [1].into();
    town.must(CAROL, Command::SettleInvoice { preimage: preimage(5) });
    for _ in 0..140 {
        town.mine(1);
    }
    let watch = town.between(1, 0).watch.as_ref().expect("watched");
    let htlc = watch.outputs.iter().find(|o| o.kind == Kind::Htlc).expect("an HTLC");
    assert_eq!(htlc.spent.map(|s| s.ours), Some(false), "Alice took it back");
    let row = town.forwards(1)[0].clone();
    let Reply::Info(info) = town.must(1, Command::GetInfo) else { panic!("no info") };
    assert_eq!((row.status, row.lost.map(|m| m.0), info.fees_collected.0), ("failed", Some(AMOUNT_MSAT), 0));
    let said = format!("{} are lost", row.in_msat);
    assert!(town.seats[1].log.iter().any(|n| n.text.contains(&said)), "{said}");
}

/// Bob's own payment, taken back seven deep, undone, and taken by Carol with its secret: it is paid, and Bob has the proof.
#[test]
fn a_payment_of_ones_own_that_was_undone_and_taken_is_complete() {
    let mut town = Town::line(2, 944, |_, _| {});
    let invoice = held(&mut town, &[0, 1], 1, 5);
    town.silence(1);
    town.mute.insert(1);
    town.must(1, Command::SettleInvoice { preimage: preimage(5) });
    let spender = |town: &Town| {
        let watch = town.between(0, 1).watch.as_ref()?;
        watch.outputs.iter().find(|o| o.kind == Kind::Htlc)?.spent.map(|s| s.ours)
    };
    for _ in 0..80 {
        town.mine(1);
        if spender(&town).is_some() {
            break;
        }
    }
    town.expected_errors.push("cannot be taken any more");
    town.mine(6);
    assert_eq!(status(&mut town, 0, &invoice).status, "failed");
    // Its payee says how much of what it was paid it did not get, until it does.
    let lost = |town: &mut Town| {
        let Reply::Invoices(list) = town.must(1, Command::ListInvoices(Default::default())) else {
            panic!("no list")
        };
        (list[0].status, list[0].amount_received_msat.map(|got| got.0), list[0].lost.map(|lost| lost.0))
    };
    assert_eq!(lost(&mut town), ("paid", Some(AMOUNT_MSAT), Some(AMOUNT_MSAT)));
    town.restart(1);
    assert_eq!(lost(&mut town), ("paid", Some(AMOUNT_MSAT), Some(AMOUNT_MSAT)));
    let said = town.seats[1].log.iter().filter(|n| n.text.contains("cannot be taken any more")).count();
    assert_eq!(said, 1);
    town.expected_errors.push("LOST");
    (0..7).for_each(|_| town.chain.unmine(true));
    town.mute = [0].into();
    town.mine(2);
    town.mute.clear();
    town.mine(1);
    assert_eq!(spender(&town), Some(false));
    let pay = status(&mut town, 0, &invoice);
    assert_eq!(pay.status, "complete", "{:?}", pay.failure);
    assert_eq!(lost(&mut town), ("paid", Some(AMOUNT_MSAT), None));
}

/// A small HTLC with a far expiry, closed at once: its payment ends after the expiry, however long the channel is over.
#[test]
fn a_small_payment_with_a_far_expiry_ends() {
    let mut duet = Duet::opened(946, Open { anchors: true, ..Open::default() });
    let invoice = duet.hold_invoice(BOB, 1, 700_000);
    let hop = RouteHop { id: duet.id(BOB), channel: None, amount_msat: Msat(700_000), delay_blocks: 2_600 };
    let order = Command::SendPay {
        route: vec![hop],
        payment_hash: invoice.payment_hash,
        payment_secret: Some(invoice.payment_secret),
        amount_msat: None,
        label: None,
        bolt11: None,
    };
    duet.must(ALICE, order);
    let htlc = duet.channel(ALICE).ledger.htlcs.values().next().expect("an HTLC").clone();
    let expiry = htlc.cltv_expiry.0;
    duet.expected_errors = vec!["is closed", "no coins", "reports an error"];
    duet.check_every = 0;
    duet.must(ALICE, Command::DevFail { channel: ChannelRef::Id(duet.channel_id()) });
    while duet.chain.height() < expiry + 20 {
        duet.mine(1);
    }
    let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
    assert!(watch.outputs.iter().any(|o| o.kind == Kind::Htlc), "it had an output");
    let left = duet.channel(ALICE).ledger.htlcs.len();
    let pay = duet.payment(ALICE, invoice.payment_hash).expect("listed");
    assert_ne!(pay.status, "pending", "20 blocks after its expiry; HTLCs left: {left}");
}

/// The channel before closed with a state that Bob lost: he cannot take the HTLC there, and does not say that he did.
#[test]
fn a_forward_into_a_lost_state_is_not_called_settled() {
    let mut town = Town::line(3, 947, |_, _| {});
    held(&mut town, &[0, 1, 2], CAROL, 5);
    let old = town.seats[1].store.durable();
    for number in 0..3 {
        let invoice = town.bill(1, &format!("{number}"), 7_000_000);
        let route = town.route(&[0, 1], 7_000_000, 40);
        town.pay_along(route, &invoice, 0);
    }
    town.expected_errors =
        vec!["later state", "reports an error", "may be old", "lost state", "refused", "lost"];
    town.seats[1].store = chand_storage::MemoryStore::with_entries(old);
    town.restart(1);
    town.run();
    town.wait_ms(2_000);
    town.mine(2);
    let watch = town.between(1, 0).watch.as_ref().expect("watched");
    assert_eq!(watch.standing, chand_protocol::onchain::Standing::Ahead);
    town.must(CAROL, Command::SettleInvoice { preimage: preimage(5) });
    town.wait_ms(2_000);
    town.mine(3);
    let row = town.forwards(1)[0].clone();
    assert_eq!(
        (row.status, row.lost.map(|m| m.0)),
        ("failed", Some(AMOUNT_MSAT)),
        "nobody can take Alice's HTLC for Bob"
    );
}
