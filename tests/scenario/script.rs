//! One life of a channel as a script that can be taken up after any mishap: each part asks what is done already.

use chand_protocol::channel::Phase;
use chand_protocol::id::PaymentHash;
use chand_protocol::node::command::{Command, InvoiceRequest, RouteHop};
use chand_protocol::units::Msat;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{other, Duet, ALICE, BOB};

/// How often a part is tried: mishaps are few.
const TRIES: usize = 8;

/// What the script leaves behind when nothing goes wrong: Alice's msat.
pub const ALICE_AT_THE_END: u64 = 600_000_000 - 50_000_000 + 30_000_000 - 20_000_000 + 1_000_001;

fn until(duet: &mut Duet, what: &str, mut done: impl FnMut(&mut Duet) -> bool) {
    for _ in 0..TRIES {
        if done(duet) {
            return;
        }
        duet.run();
        duet.wait_ms(1_000);
    }
    panic!("{what}: never done");
}

/// Alice opens a channel to Bob; when a mishap ended it before it was funded, another.
fn open(duet: &mut Duet, anchors: bool) {
    until(duet, "open", |duet| {
        let live = |c: &&chand_protocol::channel::Channel| !matches!(c.phase, Phase::Onchain(_));
        let found = duet.seats[ALICE].node.channels().find(live).map(|c| (c.id(), c.is_usable()));
        if let Some((id, usable)) = found {
            if usable {
                return duet.seats[BOB].node.channel(&id).is_some_and(|c| c.is_usable());
            }
            duet.mine(1);
            return false;
        }
        if !duet.is_linked() {
            let (peer, address) = (duet.id(BOB), Some("127.0.0.1:9736".to_string()));
            duet.ask(ALICE, Command::Connect { peer, address });
        }
        let order = duet.fund_order(ALICE, Open { anchors, ..Open::default() });
        duet.ask(ALICE, order);
        false
    });
}

fn listed(duet: &mut Duet, seat: usize, number: u64) -> Option<String> {
    let hash = preimage(number).hash();
    loop {
        let order = Command::ListPays { payment_hash: Some(hash), bolt11: None };
        // No answer: the node died over the question.
        if let Some(Ok(chand_protocol::node::command::Reply::Pays(list))) = duet.ask(seat, order) {
            return list.first().map(|p| p.status.to_string());
        }
    }
}

fn invoiced(duet: &mut Duet, seat: usize, hash: PaymentHash) -> Option<(String, String, Option<String>)> {
    let filter = chand_protocol::node::command::InvoiceFilter {
        payment_hash: Some(hash),
        ..chand_protocol::node::command::InvoiceFilter::default()
    };
    loop {
        let answer = duet.ask(seat, Command::ListInvoices(filter.clone()));
        if let Some(Ok(chand_protocol::node::command::Reply::Invoices(list))) = answer {
            let view = |i: &chand_protocol::node::view::Invoice| {
                (i.bolt11.clone(), i.status.to_string(), i.hold.map(Into::into))
            };
            return list.first().map(view);
        }
    }
}

/// `payer` pays invoice `number`, once.
fn paid(duet: &mut Duet, payer: usize, number: u64, msat: u64) {
    let hash = preimage(number).hash();
    until(duet, "pay", |duet| {
        let Some((bolt11, ..)) = invoiced(duet, other(payer), hash) else {
            let fixed = Some(preimage(number));
            let request = InvoiceRequest { preimage: fixed, ..request(&format!("{number}"), Some(msat)) };
            duet.ask(other(payer), Command::Invoice(request));
            return false;
        };
        match listed(duet, payer, number).as_deref() {
            Some("complete") => true,
            Some("pending") => false,
            _ => {
                duet.ask(payer, pay(&bolt11, None));
                false
            }
        }
    });
}

/// Alice pays a hold invoice, which Bob then takes or gives back.
fn held(duet: &mut Duet, number: u64, msat: u64, settle: bool) {
    let hash = preimage(number).hash();
    until(duet, "hold", |duet| {
        let Some((bolt11, _, hold)) = invoiced(duet, BOB, hash) else {
            let request = InvoiceRequest { hold: Some(hash), ..request(&format!("{number}"), Some(msat)) };
            duet.ask(BOB, Command::Invoice(request));
            return false;
        };
        let paid = listed(duet, ALICE, number);
        match (hold.as_deref(), paid.as_deref()) {
            (Some("settled"), Some("complete")) => settle,
            (Some("cancelled"), Some("failed")) => !settle,
            (Some("accepted"), _) if settle => {
                duet.ask(BOB, Command::SettleInvoice { preimage: preimage(number) });
                false
            }
            (Some("accepted"), _) => {
                duet.ask(BOB, Command::CancelInvoice { payment_hash: hash });
                false
            }
            (Some("open"), None | Some("failed")) => {
                duet.tell(ALICE, pay(&bolt11, None));
                duet.run();
                false
            }
            _ => false,
        }
    });
}

/// Alice sends what Bob must give back.
fn refused(duet: &mut Duet, number: u64) {
    until(duet, "fail", |duet| match listed(duet, ALICE, number).as_deref() {
        Some("failed") => true,
        Some(_) => false,
        None => {
            let hop =
                RouteHop { id: duet.id(BOB), channel: None, amount_msat: Msat(5_000_000), delay_blocks: 24 };
            let payment_hash = preimage(number).hash();
            let order = Command::SendPay {
                route: vec![hop],
                payment_hash,
                payment_secret: Some([9; 32]),
                amount_msat: None,
                label: None,
                bolt11: None,
            };
            duet.ask(ALICE, order);
            false
        }
    });
}

/// The one channel that was funded.
fn funded(duet: &Duet, seat: usize) -> Option<&chand_protocol::channel::Channel> {
    duet.seats[seat].node.channels().find(|c| !matches!(c.phase, Phase::Onchain(_)))
}

fn close(duet: &mut Duet) {
    until(duet, "close", |duet| {
        let seen = [ALICE, BOB].map(|s| funded(duet, s).and_then(|c| c.spent_height()).is_some());
        if seen == [true, true] {
            return true;
        }
        let closed = |s| funded(duet, s).is_some_and(|c| matches!(c.phase, Phase::Closed(_)));
        if closed(ALICE) || closed(BOB) {
            duet.mine(1);
        } else if let Some(id) = funded(duet, BOB).map(|c| c.id()) {
            let order = Command::Close {
                channel: chand_protocol::node::command::ChannelRef::Id(id),
                unilateral_timeout_s: 0,
                destination: None,
                feerange: None,
            };
            duet.tell(BOB, order);
            duet.run();
        }
        false
    });
}

/// Open, pay both ways, hold, fail, close; then every balance is looked at.
pub fn play(duet: &mut Duet, anchors: bool) {
    open(duet, anchors);
    paid(duet, ALICE, 1, 50_000_000);
    paid(duet, BOB, 2, 30_000_000);
    refused(duet, 3);
    held(duet, 4, 20_000_000, true);
    held(duet, 5, 10_000_000, false);
    paid(duet, BOB, 6, 1_000_001);
    close(duet);
    let (alice, bob) = (funded(duet, ALICE).expect("a channel"), funded(duet, BOB).expect("a channel"));
    assert_eq!(alice.to_us().0, ALICE_AT_THE_END);
    assert_eq!(bob.to_us().0, 1_000_000_000 - ALICE_AT_THE_END);
    let (Phase::Closed(one), Phase::Closed(two)) = (&alice.phase, &bob.phase) else { panic!("not closed") };
    assert_eq!(one.tx, two.tx);
    let scripts = [ALICE, BOB].map(|s| duet.seats[s].wallet.script.clone());
    let paid = scripts.map(|script| {
        let mine = one.tx.output.iter().filter(|o| o.script_pubkey == script);
        mine.map(|o| o.value.to_sat()).sum::<u64>()
    });
    assert_eq!(paid[1], (1_000_000_000 - ALICE_AT_THE_END) / 1_000, "Bob's on chain");
    assert_eq!(paid[0] + one.fee.0 + paid[1], 1_000_000, "Alice pays the fee and nothing is lost");
    // Fulfilled by one is fulfilled for the other, each once.
    assert_eq!(alice.stats.out_fulfilled_msat.0, 70_000_000);
    assert_eq!(bob.stats.in_fulfilled_msat.0, 70_000_000);
    assert_eq!(alice.stats.in_fulfilled_msat.0, 31_000_001);
    assert_eq!(bob.stats.out_fulfilled_msat.0, 31_000_001);
}
