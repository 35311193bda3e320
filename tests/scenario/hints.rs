//! Invoices of strangers: hints that name what is not there, or what is somebody else's, and what the payer believes of it.
//!
//! In: Alice, who pays an invoice that Mallory made; its hint leads from Bob over a channel that is Bob's with Dave. Out: the
//! payment fails, and what Alice knows of that channel is what it was.
//! Read next: `routes`, `chand_protocol::route`.

use bitcoin::Network;
use chand_protocol::gossip::graph::Direction;
use chand_protocol::id::{NodeId, PaymentSecret};
use chand_protocol::invoice::{make, Currency, Description, NewInvoice, RouteHintHop};
use chand_protocol::node::command::{Command, Reply, RouteLimits};
use chand_protocol::units::Msat;
use chand_protocol::wire::features::{Feature, Features};
use chand_tests::duet::crypto;
use chand_tests::duet::play::{preimage, Open};
use chand_tests::town::Town;
use secp256k1::SecretKey;

const ALICE: usize = 0;
const BOB: usize = 1;
const DAVE: usize = 2;

fn key(n: u8) -> (SecretKey, NodeId) {
    let secret = SecretKey::from_slice(&[n; 32]).expect("a key");
    (secret, NodeId(crypto().public_key(&secret)))
}

/// An invoice of a node that nobody knows.
fn forged(town: &Town, mallory: &SecretKey, hint: Vec<RouteHintHop>, msat: u64) -> String {
    let features = [Feature::VarOnion.even(), Feature::PaymentSecret.even()];
    let new = NewInvoice {
        currency: Currency::of(Network::Regtest),
        amount: Some(Msat(msat)),
        payment_hash: preimage(msat).hash(),
        payment_secret: PaymentSecret([5; 32]),
        description: Description::Text("free coffee".into()),
        expiry_s: 3_600,
        min_final_cltv_blocks: 18,
        timestamp_s: town.now.seconds(),
        features: Features::of(&features),
        payment_metadata: None,
        route_hints: vec![hint],
        blinded_paths: Vec::new(),
    };
    make(&new, mallory, crypto().secp()).expect("an invoice")
}

fn pay(bolt11: &str) -> Command {
    let limits = RouteLimits::default();
    Command::Pay { bolt11: bolt11.into(), amount_msat: None, label: None, retry_for_s: 60, limits }
}

/// Tries to pay, and waits for the end.
fn fails(town: &mut Town, bolt11: &str) -> String {
    let id = town.tell(ALICE, pay(bolt11));
    town.wait_ms(61_000);
    match town.answer(id) {
        Some(Err(error)) => error.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_strangers_invoice_teaches_nothing_of_public_channels() {
    let mut town = Town::new(3, 840, |_, config| (config.fee_base_msat, config.fee_ppm) = (1_000, 0));
    town.open(ALICE, BOB, Open { sat: 1_000_000, push_msat: 300_000_000, ..Open::default() });
    // Bob has 100,000 sat there, Dave the rest.
    town.open(BOB, DAVE, Open { sat: 1_000_000, push_msat: 880_000_000, ..Open::default() });
    let (bob, dave, scid) = (town.seats[BOB].id, town.seats[DAVE].id, town.scid(BOB, DAVE));
    let (way, size) = (Direction::between(&bob, &dave), Msat(1_000_000_000));
    // One stranger above Bob's key and one below it: the name is used in both directions.
    let mut seen = [false; 2];
    for (n, msat) in (1..=60).zip(200_000_000..) {
        let (secret, mallory) = key(n);
        let turned = Direction::between(&bob, &mallory) != way;
        if core::mem::replace(&mut seen[usize::from(turned)], true) {
            continue;
        }
        let hop = RouteHintHop {
            node_id: bob,
            short_channel_id: scid,
            fee_base_msat: 1_000,
            fee_proportional_millionths: 0,
            cltv_expiry_delta_blocks: 40,
        };
        let bolt11 = forged(&town, &secret, vec![hop], msat);
        let words = fails(&mut town, &bolt11);
        assert!(words.contains("temporary_channel_failure"), "{words}");
        assert!(town.routers[ALICE].scorer().is_empty(), "nothing to learn from strangers");
        let believed = town.routers[ALICE].scorer().believed(scid, way, size, town.now);
        assert_eq!(believed, (Msat::ZERO, size));
    }
    assert_eq!(seen, [true, true]);
    // Dave is paid over it as if nothing had been.
    let bill = town.bill(DAVE, "honest", 50_000_000);
    assert!(matches!(town.ask(ALICE, pay(&bill.bolt11)), Some(Ok(Reply::Paid(_)))));
    assert_eq!(town.routers[ALICE].scorer().len(), 1);
    town.judge_quiet();
}
