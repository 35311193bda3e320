//! Payments between two: by invoice, without one, refused, many at once; and what the payee is told.

use chand_protocol::chain::Network;
use chand_protocol::id::{CommandId, PaymentSecret};
use chand_protocol::invoice::{make, Currency, Description, NewInvoice};
use chand_protocol::node::command::{Command, InvoiceFilter, InvoiceRequest, Reply, RouteHop, RouteLimits};
use chand_protocol::onion::payload::{Final, Payload};
use chand_protocol::onion::sphinx::peel;
use chand_protocol::units::Msat;
use chand_protocol::wire::features::{Feature, Features};
use chand_protocol::wire::Message;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{crypto, other, Duet, ALICE, BOB};

#[test]
fn open_pay_both_ways_restart_and_close() {
    // BOLT 2, 4 [2.add.15, 2.add.17, 2.add.19, 4.mpp.6, 4.last.1, 4.last.2, 4.last.3].
    for anchors in [true, false] {
        let mut duet = Duet::opened(1, Open { anchors, ..Open::default() });
        assert_eq!(duet.balance_msat(ALICE), 600_000_000);
        duet.judge_agreement();
        duet.pay(ALICE, "one", 100_000_000);
        duet.pay(BOB, "two", 50_000_001);
        assert_eq!(duet.balance_msat(ALICE), 550_000_001);
        duet.judge_agreement();
        duet.restart(ALICE);
        duet.restart(BOB);
        duet.settle();
        duet.pay(BOB, "three", 1_000);
        duet.judge_agreement();
        assert_eq!(duet.balance_msat(BOB), 449_998_999);
        duet.close(BOB);
    }
}

#[test]
fn keysend_needs_no_invoice() {
    let mut duet = Duet::opened(2, Open::default());
    let destination = duet.id(BOB);
    let order = Command::Keysend {
        destination,
        amount_msat: Msat(7_000_001),
        label: None,
        retry_for_s: 60,
        limits: RouteLimits::default(),
    };
    let reply = duet.must(ALICE, order);
    let Reply::Paid(paid) = reply else { panic!("{reply:?}") };
    assert_eq!(paid.status, "complete");
    assert_eq!(duet.balance_msat(BOB), 407_000_001);
    assert_eq!(duet.invoice_status(BOB, paid.payment_hash).0, "paid");
    duet.judge_agreement();
}

#[test]
fn small_payments_that_nobody_asked_for_fill_no_disk() {
    let mut duet = Duet::with(23, |_, _| {});
    (duet.burst, duet.check_every) = (100, 200);
    duet.connect();
    duet.open(Open::default());
    let destination = duet.id(BOB);
    let gift = |msat| Command::Keysend {
        destination,
        amount_msat: Msat(msat),
        label: None,
        retry_for_s: 60,
        limits: RouteLimits::default(),
    };
    let before = duet.balance_msat(BOB);
    let Reply::Paid(large) = duet.must(ALICE, gift(1_000)) else { panic!("not paid") };
    let mut first = None;
    for _ in 0..21 {
        let ids: Vec<CommandId> = (0..50).map(|_| duet.tell(ALICE, gift(999))).collect();
        duet.run();
        for id in ids {
            let Some(Ok(Reply::Paid(paid))) = duet.answer(id) else { panic!("not paid") };
            first.get_or_insert(paid.payment_hash);
        }
    }
    assert_eq!(duet.balance_msat(BOB) - before, 1_000 + 21 * 50 * 999, "all of it is there");
    let listed = |duet: &mut Duet| match duet.must(BOB, Command::ListInvoices(InvoiceFilter::default())) {
        Reply::Invoices(list) => list,
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        let list = listed(&mut duet);
        assert_eq!(list.len(), 1_001, "the newest thousand, and what was worth something");
        assert!(list.iter().any(|i| i.payment_hash == large.payment_hash));
        assert!(list.iter().all(|i| Some(i.payment_hash) != first));
        duet.restart(BOB);
        duet.settle();
    }
}

#[test]
fn an_invoice_is_paid_once_and_its_second_payment_is_the_same_answer() {
    let mut duet = Duet::opened(3, Open::default());
    let invoice = duet.invoice(BOB, request("once", Some(5_000_000)));
    let first = duet.must(ALICE, pay(&invoice.bolt11, None));
    let balance = duet.balance_msat(ALICE);
    let again = duet.must(ALICE, pay(&invoice.bolt11, None));
    let (Reply::Paid(first), Reply::Paid(again)) = (first, again) else { panic!("not paid") };
    assert_eq!(first, again);
    assert_eq!(duet.balance_msat(ALICE), balance);
    assert_eq!(balance, 595_000_000);
}

#[test]
fn an_invoice_without_amount_takes_what_the_payer_gives() {
    // BOLT 4 [4.mpp.3].
    let mut duet = Duet::opened(4, Open::default());
    let invoice = duet.invoice(BOB, request("any", None));
    let error = duet.must_not_move(ALICE, pay(&invoice.bolt11, None));
    assert_eq!(error.code, -32602);
    duet.must(ALICE, pay(&invoice.bolt11, Some(123_456)));
    assert_eq!(duet.balance_msat(BOB), 400_123_456);
}

/// `sendpay` of one hop to the other, with whatever is given.
fn send(duet: &Duet, payer: usize, hash: u64, secret: [u8; 32], msat: u64, delay: u32) -> Command {
    let hop =
        RouteHop { id: duet.id(other(payer)), channel: None, amount_msat: Msat(msat), delay_blocks: delay };
    Command::SendPay {
        route: vec![hop],
        payment_hash: preimage(hash).hash(),
        payment_secret: Some(secret),
        amount_msat: None,
        label: None,
        bolt11: None,
    }
}

/// Runs a `sendpay` that the payee gives back; its code and words.
fn given_back(duet: &mut Duet, order: Command, hash: u64) -> (i32, String) {
    let before = duet.balance_msat(ALICE);
    let reply = duet.must(ALICE, order);
    assert!(matches!(reply, Reply::Sent(_)));
    let wait = Command::WaitSendPay { payment_hash: preimage(hash).hash(), timeout_s: None };
    let error = duet.must_fail(ALICE, wait);
    assert_eq!(duet.balance_msat(ALICE), before);
    duet.judge_agreement();
    (error.code, error.message)
}

#[test]
fn a_payee_that_does_not_know_the_payment_gives_it_back() {
    // BOLT 2, 4 [2.expiry.5, 4.read.28, 4.mpp.8, 4.fail.10, 4.fail.11, 4.fail.12, 4.fail.13, 4.fail.14, 4.fail.15, 4.fail.16, 4.fail.17].
    let mut duet = Duet::opened(5, Open::default());
    // No such invoice.
    let order = send(&duet, ALICE, 1, [7; 32], 1_000_000, 24);
    let (code, words) = given_back(&mut duet, order, 1);
    assert_eq!(code, 203, "{words}");
    // The invoice is there; the secret, the amount, the expiry are wrong in turn; then all is right.
    let known = InvoiceRequest { preimage: Some(preimage(2)), ..request("known", Some(1_000_000)) };
    let secret = duet.invoice(BOB, known).payment_secret;
    let wrong =
        [([7; 32], 1_000_000, 24), (secret, 999_999, 24), (secret, 2_000_002, 24), (secret, 1_000_000, 5)];
    for (secret, msat, delay) in wrong {
        let order = send(&duet, ALICE, 2, secret, msat, delay);
        let (code, words) = given_back(&mut duet, order, 2);
        assert_eq!(code, 203, "{words}");
        assert_eq!(duet.invoice_status(BOB, preimage(2).hash()).0, "unpaid");
    }
    let order = send(&duet, ALICE, 2, secret, 1_000_000, 24);
    duet.must(ALICE, order);
    duet.must(ALICE, Command::WaitSendPay { payment_hash: preimage(2).hash(), timeout_s: None });
    assert_eq!(duet.balance_msat(BOB), 401_000_000);
    assert_eq!(duet.invoice_status(BOB, preimage(2).hash()).0, "paid");
}

#[test]
fn an_expired_invoice_is_refused_by_payer_and_payee() {
    let mut duet = Duet::opened(6, Open::default());
    let short = InvoiceRequest {
        expiry_s: Some(60),
        preimage: Some(preimage(3)),
        ..request("short", Some(1_000_000))
    };
    let invoice = duet.invoice(BOB, short);
    duet.wait_ms(62_000);
    assert_eq!(duet.invoice_status(BOB, invoice.payment_hash).0, "expired");
    assert_eq!(duet.must_not_move(ALICE, pay(&invoice.bolt11, None)).code, 207);
    let order = send(&duet, ALICE, 3, invoice.payment_secret, 1_000_000, 24);
    assert_eq!(given_back(&mut duet, order, 3).0, 203);
}

#[test]
fn an_expired_invoice_is_not_tried_again_after_it_failed() {
    let mut duet = Duet::opened(10, Open::default());
    let short = |label| InvoiceRequest { expiry_s: Some(60), ..request(label, Some(1_000_000)) };
    let (failed, paid) = (duet.invoice(BOB, short("failed")), duet.invoice(BOB, short("paid")));
    duet.must(ALICE, pay(&paid.bolt11, None));
    duet.must(BOB, Command::DelInvoice { label: "failed".into(), status: "unpaid".into() });
    assert_eq!(duet.must_not_move(ALICE, pay(&failed.bolt11, None)).code, 203);
    duet.wait_ms(62_000);
    assert_eq!(duet.must_not_move(ALICE, pay(&failed.bolt11, None)).code, 207);
    // What was paid in time is paid, however often it is asked.
    assert!(matches!(duet.must(ALICE, pay(&paid.bolt11, None)), Reply::Paid(_)));
}

#[test]
fn what_cannot_be_paid_is_refused_at_once_and_answered() {
    let mut duet = Duet::opened(7, Open::default());
    let invoice = duet.invoice(BOB, request("too much", Some(900_000_000)));
    assert_eq!(duet.must_not_move(ALICE, pay(&invoice.bolt11, None)).code, 205);
    // Within the balance, but not beyond fees and reserve: no waiting helps when there is no time to wait.
    let invoice = duet.invoice(BOB, request("nearly", Some(589_999_000)));
    let order = Command::Pay {
        bolt11: invoice.bolt11,
        amount_msat: None,
        label: None,
        retry_for_s: 0,
        limits: RouteLimits::default(),
    };
    assert_eq!(duet.must_not_move(ALICE, order).code, 210);
    let own = duet.invoice(ALICE, request("own", Some(1_000)));
    assert_eq!(duet.must_not_move(ALICE, pay(&own.bolt11, None)).code, -32602);
    assert_eq!(duet.must_not_move(ALICE, pay("lnbcrt1nonsense", None)).code, -32602);
}

#[test]
fn while_the_peer_is_away_a_payment_waits_and_then_goes_or_ends() {
    let mut duet = Duet::opened(8, Open::default());
    let invoice = duet.invoice(BOB, request("later", Some(1_000_000)));
    let second = duet.invoice(BOB, request("never", Some(1_000_000)));
    duet.reachable = false;
    duet.cut(None);
    duet.run();
    let waits = duet.tell(ALICE, pay(&invoice.bolt11, None));
    duet.run();
    assert!(duet.answer(waits).is_none(), "it waits for the peer");
    duet.reachable = true;
    duet.settle();
    assert!(matches!(duet.answer(waits), Some(Ok(Reply::Paid(_)))));
    duet.reachable = false;
    duet.cut(None);
    duet.run();
    let ends = duet.tell(ALICE, pay(&second.bolt11, None));
    duet.wait_ms(61_000);
    let answer = duet.answer(ends);
    assert!(matches!(&answer, Some(Err(e)) if e.code == 210), "{answer:?}");
    duet.reachable = true;
    duet.settle();
    duet.judge_agreement();
    assert_eq!(duet.balance_msat(BOB), 401_000_000);
}

#[test]
fn many_at_once_share_commitments() {
    // BOLT 2 [2.add.9, 2.commit.2, 2.commit.20, 2.revoke.1, 2.revoke.2].
    const EACH: usize = 200;
    let mut duet = Duet::with(9, |_, _| {});
    duet.burst = 8;
    duet.connect();
    duet.open(Open { sat: 10_000_000, push_msat: 5_000_000_000, ..Open::default() });
    let mut invoices = Vec::new();
    for number in 0..EACH {
        for payer in [ALICE, BOB] {
            let msat = 1_000 + number as u64 * 7_919;
            let label = format!("{payer} {number}");
            invoices.push((payer, duet.invoice(other(payer), request(&label, Some(msat))).bolt11));
        }
    }
    let orders: Vec<CommandId> =
        invoices.iter().map(|(payer, bolt11)| duet.tell(*payer, pay(bolt11, None))).collect();
    let before = duet.channel(ALICE).commits.local_number;
    duet.check_every = 7;
    duet.tracing = true;
    duet.run();
    for id in orders {
        let answer = duet.answer(id);
        assert!(matches!(answer, Some(Ok(Reply::Paid(_)))), "{answer:?}");
    }
    let commitments = duet.channel(ALICE).commits.local_number - before;
    assert!(commitments < 2 * EACH as u64, "{commitments} commitments for {} payments", 2 * EACH);
    let kinds = duet.trace.iter().filter_map(|(_, bytes)| Message::decode(bytes).ok());
    let added = kinds.filter(|m| matches!(m, Message::UpdateAddHtlc(_))).count();
    assert_eq!(added, 2 * EACH, "each was offered once");
    assert_eq!(duet.balance_msat(ALICE), 5_000_000_000, "as much each way");
    duet.judge_agreement();
    duet.close(ALICE);
}

/// What Bob finds in the onion when Alice pays an invoice of his with this metadata.
fn told(seed: u64, metadata: Option<Vec<u8>>) -> Final {
    let mut duet = Duet::opened(seed, Open::default());
    let mut features = vec![Feature::VarOnion.even(), Feature::PaymentSecret.even()];
    features.extend(metadata.iter().map(|_| Feature::PaymentMetadata.even()));
    let new = NewInvoice {
        currency: Currency::of(Network::Regtest),
        amount: Some(Msat(3_000_007)),
        payment_hash: preimage(9).hash(),
        payment_secret: PaymentSecret([0x5e; 32]),
        description: Description::Text("a test".into()),
        expiry_s: 3_600,
        min_final_cltv_blocks: 18,
        timestamp_s: duet.now.seconds(),
        features: Features::of(&features),
        payment_metadata: metadata,
        route_hints: Vec::new(),
        blinded_paths: Vec::new(),
    };
    let keys = duet.seats[BOB].keys();
    let bolt11 = make(&new, keys.node_secret(), crypto().secp()).expect("an invoice");
    duet.tracing = true;
    // Bob knows no such invoice: the HTLC comes back.
    duet.must_not_move(ALICE, pay(&bolt11, None));
    let said = duet.trace.iter().filter(|(seat, _)| *seat == ALICE);
    let add = said.into_iter().find_map(|(_, bytes)| match Message::decode(bytes) {
        Ok(Message::UpdateAddHtlc(add)) => Some(add),
        _ => None,
    });
    let add = add.expect("an HTLC");
    let peeled = peel(&add.onion_routing_packet, keys.node_secret(), &add.payment_hash, crypto().secp());
    let peeled = peeled.expect("an onion for Bob");
    assert!(peeled.next.is_none());
    match Payload::decode(&peeled.payload, true) {
        Ok(Payload::Final(last)) => last,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_payee_is_told_the_secret_the_total_and_its_metadata() {
    // BOLT 4, 11 [4.write.10, 4.write.11, 4.write.12, 4.write.13, 4.write.14, 11.read.11, 11.read.13].
    for (seed, metadata) in [(20, None), (21, Some(vec![0xfa, 0, 1])), (22, Some(vec![7; 639]))] {
        let last = told(seed, metadata.clone());
        let data = last.payment_data.clone().expect("payment_data");
        assert_eq!(data.payment_secret.0, [0x5e; 32]);
        assert_eq!(data.total_msat, Msat(3_000_007));
        assert_eq!(last.amt_to_forward, Msat(3_000_007));
        assert_eq!(last.payment_metadata, metadata);
    }
}

#[test]
fn another_invoice_with_a_paid_hash_is_not_called_paid() {
    let mut duet = Duet::opened(24, Open::default());
    let own = || Some(preimage(1));
    let any = duet.invoice(BOB, InvoiceRequest { preimage: own(), ..request("any", None) });
    for _ in 0..2 {
        assert!(matches!(duet.must(ALICE, pay(&any.bolt11, Some(1_000_000))), Reply::Paid(_)));
    }
    duet.must(BOB, Command::DelInvoice { label: "any".into(), status: "paid".into() });
    let dear = duet.invoice(BOB, InvoiceRequest { preimage: own(), ..request("dear", Some(9_000_000)) });
    for order in [pay(&any.bolt11, Some(2_000_000)), pay(&dear.bolt11, None)] {
        let refused = duet.must_fail(ALICE, order);
        assert!(refused.code == 201 && refused.message.contains("1000000 msat"), "{refused:?}");
    }
    assert_eq!(duet.balance_msat(ALICE), 599_000_000);
}
