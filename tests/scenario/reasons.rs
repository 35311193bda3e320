//! Each change of a channel's state keeps whose doing it was, and why; and the log says a thing once.

use crate::claims::{alone, force_close};
use chand_protocol::channel::cause::{Because, By, Cause, StateChange};
use chand_protocol::node::command::Command;
use chand_protocol::node::view::State;
use chand_protocol::record::{decode, encode, Kind};
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{Duet, ALICE, BOB};
use std::collections::BTreeMap;

fn reasons(duet: &Duet, seat: usize) -> Vec<(State, By)> {
    let annals = &duet.channel(seat).annals;
    assert_eq!(annals.changes.len(), annals.reasons.len());
    annals.changes.iter().zip(&annals.reasons).map(|(change, why)| (change.to, why.by)).collect()
}

/// Bob asks for a close while an HTLC is under way, and Alice loses patience: both are told as they were.
fn impatient() -> Duet {
    let mut duet = Duet::opened(1_200, Open::default());
    duet.pay_held(ALICE, 1, 30_000_000);
    let order = duet.close_order();
    duet.tell(BOB, order);
    duet.settle();
    alone(&mut duet);
    force_close(&mut duet, ALICE);
    duet.mine(1);
    duet
}

#[test]
fn a_change_of_state_keeps_its_own_reason() {
    let mut duet = impatient();
    let alices = [
        (State::ChanneldAwaitingLockin, By::User),
        (State::ChanneldNormal, By::User),
        (State::ChanneldShuttingDown, By::Remote),
        (State::AwaitingUnilateral, By::User),
        (State::Onchain, By::Onchain),
    ];
    assert_eq!(reasons(&duet, ALICE), alices);
    let words: Vec<&str> = duet.channel(ALICE).annals.reasons.iter().map(|why| why.words.as_str()).collect();
    assert!(words[2].contains("the peer asked") && words[3].contains("dev-fail"), "{words:?}");
    let bobs = [
        (State::ChanneldAwaitingLockin, By::Remote),
        (State::ChanneldNormal, By::Remote),
        (State::ChanneldShuttingDown, By::User),
        (State::Onchain, By::Remote),
    ];
    assert_eq!(reasons(&duet, BOB), bobs);
    // A block that leaves the chain and comes again is no doing of anybody's.
    duet.unmine(false);
    duet.mine(1);
    let again = [(State::AwaitingUnilateral, By::Onchain), (State::Onchain, By::Onchain)];
    assert_eq!(reasons(&duet, ALICE)[5..], again);
    let before = duet.channel(ALICE).annals.clone();
    duet.restart(ALICE);
    assert_eq!(duet.channel(ALICE).annals, before);
}

/// Records of before say what they said; of their changes nobody is named.
#[test]
fn annals_without_reasons_still_load() {
    type Before = (Option<Cause>, Vec<StateChange>);
    let duet = impatient();
    let now = duet.channel(ALICE).annals.clone();
    let mut entries = duet.seats[ALICE].store.durable();
    let kept = entries.iter_mut().find(|(key, _)| Kind::of(key) == Some(Kind::Annals)).expect("annals");
    let (cause, changes, _): (Option<Cause>, Vec<StateChange>, Vec<Because>) =
        decode(&kept.1).expect("as it is kept");
    kept.1 = encode(&(cause, changes));
    assert!(decode::<Before>(&kept.1).is_ok());
    let node = duet.seats[ALICE].reborn(entries);
    let annals = &node.channels().next().expect("the channel").annals;
    assert_eq!((&annals.cause, &annals.changes), (&now.cause, &now.changes));
    assert!(annals.reasons.is_empty());
}

/// A claim is offered at every block, and that the backend has it is said once.
#[test]
fn what_the_backend_has_is_said_once() {
    let mut duet = Duet::opened(1_210, Open::default());
    duet.pay_held(ALICE, 1, 30_000_000);
    alone(&mut duet);
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    force_close(&mut duet, BOB);
    duet.mine(1);
    duet.mine_foreign(4);
    duet.mine(8);
    let mut said: BTreeMap<&str, u32> = BTreeMap::new();
    for seat in [ALICE, BOB] {
        for notice in duet.seats[seat].log.iter().filter(|n| n.text.contains("is with the chain backend")) {
            *said.entry(notice.text.as_str()).or_default() += 1;
        }
    }
    // The commitment is offered by one, the funding by the other; nothing by both.
    assert!(said.len() >= 4 && said.values().all(|times| *times == 1), "{said:#?}");
}
