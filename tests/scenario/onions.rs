//! Onions that are not what their payer made: each byte changed, and one used again.
//!
//! In: two nodes and a wire that changes `update_add_htlc`. Out: the HTLC goes back with the right code, the channel goes on,
//! nothing moves. Read next: `faults` (other messages), `chand_protocol::onion`.

use chand_protocol::channel::Phase;
use chand_protocol::node::command::{Command, Reply, RouteHop, RouteLimits};
use chand_protocol::units::Msat;
use chand_protocol::wire::message::OnionPacket;
use chand_protocol::wire::Message;
use chand_tests::duet::play::{request, Open};
use chand_tests::duet::{Duet, Mangle, ALICE, BOB};
use std::cell::{Cell, RefCell};

/// Version, key, hops, HMAC.
const ONION_BYTES: usize = 1_366;

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(0) };
    static SEEN: RefCell<Option<Box<OnionPacket>>> = const { RefCell::new(None) };
}

fn one_byte(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    let place = PLACE.get();
    let onion = &mut m.onion_routing_packet;
    match place {
        0 => onion.version ^= 1,
        1..34 => onion.public_key[place - 1] ^= 1,
        34..1_334 => onion.hop_payloads[place - 34] ^= 1,
        _ => onion.hmac[place - 1_334] ^= 1,
    }
    Some(Message::UpdateAddHtlc(m))
}

fn look(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(m) = &message else { return None };
    SEEN.set(Some(m.onion_routing_packet.clone()));
    Some(message)
}

fn used_again(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.onion_routing_packet = SEEN.with_borrow(Clone::clone).expect("one was seen");
    Some(Message::UpdateAddHtlc(m))
}

fn pay(bolt11: &str) -> Command {
    let limits = RouteLimits::default();
    Command::Pay { bolt11: bolt11.into(), amount_msat: None, label: None, retry_for_s: 60, limits }
}

#[test]
fn an_onion_with_any_byte_changed_goes_back_and_the_channel_goes_on() {
    // BOLT 4 [4.version.1, 4.version.2, 4.peel.1, 4.peel.2].
    let mut duet = Duet::opened(831, Open::default());
    duet.check_every = 100;
    let invoice = duet.invoice(BOB, request("one", Some(10_000_000)));
    for place in 0..ONION_BYTES {
        PLACE.set(place);
        duet.mangle = Some(Mangle { from: ALICE, change: one_byte, times: 1 });
        let id = duet.tell(ALICE, pay(&invoice.bolt11));
        duet.run();
        let error = duet.answer(id).and_then(Result::err).expect("refused");
        let code = if place == 0 { "invalid_onion_version" } else { "invalid_onion_" };
        assert!(error.message.contains(code), "byte {place}: {error}");
    }
    assert!([ALICE, BOB].iter().all(|seat| duet.channel(*seat).phase == Phase::Open));
    assert_eq!(duet.balance_msat(BOB), 400_000_000);
    duet.must(ALICE, pay(&invoice.bolt11));
    assert_eq!(duet.balance_msat(BOB), 410_000_000);
    duet.judge_agreement();
}

/// An onion belongs to its payment hash; sent again with the same hash it is one more part, and waits for the rest like it.
#[test]
fn an_onion_used_again_pays_nobody_anything() {
    let mut duet = Duet::opened(832, Open::default());
    let invoice = duet.invoice(BOB, request("whole", Some(10_000_000)));
    let part = |duet: &Duet, groupid: u64| Command::SendPart {
        route: vec![RouteHop {
            id: duet.id(BOB),
            channel: None,
            amount_msat: Msat(4_000_000),
            delay_blocks: 40,
        }],
        payment_hash: invoice.payment_hash,
        payment_secret: Some(invoice.payment_secret),
        total_msat: Some(Msat(10_000_000)),
        partid: 1,
        groupid: Some(groupid),
        label: None,
        bolt11: None,
    };
    let wait = |groupid: u64| Command::WaitSendPart {
        payment_hash: invoice.payment_hash,
        partid: 1,
        groupid: Some(groupid),
        timeout_s: None,
    };
    for (groupid, change) in [(1, look as fn(Message) -> Option<Message>), (2, used_again)] {
        duet.mangle = Some(Mangle { from: ALICE, change, times: 1 });
        let order = part(&duet, groupid);
        assert!(matches!(duet.must(ALICE, order), Reply::Sent(_)));
        let id = duet.tell(ALICE, wait(groupid));
        duet.wait_ms(70_000);
        let error = duet.answer(id).and_then(Result::err).expect("it came back");
        // What is sealed for the first onion's payer is read with the second one's keys: only who made it can.
        let readable = if groupid == 1 { "mpp_timeout" } else { "cannot be read" };
        assert!(error.message.contains(readable), "{error}");
    }
    // Under another hash it is no onion at all.
    let other = duet.invoice(BOB, request("other", Some(10_000_000)));
    duet.mangle = Some(Mangle { from: ALICE, change: used_again, times: 1 });
    let error = duet.must_fail(ALICE, pay(&other.bolt11));
    assert!(error.message.contains("invalid_onion_hmac"), "{error}");
    assert_eq!(duet.balance_msat(BOB), 400_000_000);
    duet.must(ALICE, pay(&other.bolt11));
    assert_eq!(duet.balance_msat(BOB), 410_000_000);
    duet.judge_agreement();
}
