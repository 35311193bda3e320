//! A path key where it does not belong, or none where it does: what a peer may send beside an onion (BOLT 2, 4).
//!
//! In: an HTLC whose onion and path key are made here, in the place of what Alice's node sent to Bob. Out: Bob takes what is sound,
//! and what came with a path key goes back with one and the same word. Read next: `blinded`.

use chand_protocol::channel::announce::PeerUpdate;
use chand_protocol::id::PaymentSecret;
use chand_protocol::invoice::{make, our_features, Currency, Description, NewInvoice};
use chand_protocol::node::command::{Command, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::view;
use chand_protocol::onion::blind::{BlindedPath, Constraints, HopData, PayInfo, PayPath};
use chand_protocol::onion::payload::Final;
use chand_protocol::onion::sphinx::build;
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::message::OnionPacket;
use chand_protocol::wire::Message;
use chand_tests::duet::play::{request, Open};
use chand_tests::duet::{crypto, Answer, Duet, Mangle, ALICE, BOB};
use secp256k1::{PublicKey, SecretKey};
use std::cell::RefCell;

const AMOUNT: u64 = 10_000_000;

/// One layer, for whom it is sealed, and the path key beside the onion.
type Sent = (PublicKey, Vec<u8>, Option<PublicKey>);

thread_local! {
    /// What goes out in the place of the next HTLC's.
    static SWAP: RefCell<Option<(OnionPacket, Option<PublicKey>)>> = const { RefCell::new(None) };
}

fn swapped(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut add) = message else { return None };
    let (onion, path_key) = SWAP.with(|swap| swap.borrow_mut().take())?;
    (*add.onion_routing_packet, add.path_key) = (onion, path_key);
    Some(Message::UpdateAddHtlc(add))
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).expect("a key")
}

/// Bob's hidden invoice, and one of the same hash that a payer can pay at once.
fn bills(duet: &mut Duet, label: &str) -> (view::Invoice, String) {
    let scid = duet.channel(BOB).short_channel_id().expect("a place on chain");
    let asked = PeerUpdate {
        timestamp: 1,
        disabled: false,
        delta_blocks: 34,
        min: Msat(1),
        max: Msat(1_000_000_000),
        base_msat: 0,
        ppm: 0,
    };
    let hidden = InvoiceRequest { blinded: Some(vec![(scid, asked)]), ..request(label, Some(AMOUNT)) };
    let bill = duet.invoice(BOB, hidden);
    let plain = NewInvoice {
        currency: Currency::Regtest,
        amount: Some(Msat(AMOUNT)),
        payment_hash: bill.payment_hash,
        payment_secret: PaymentSecret(bill.payment_secret),
        description: Description::Text(label.into()),
        expiry_s: 3_600,
        min_final_cltv_blocks: 18,
        timestamp_s: duet.now.seconds(),
        features: our_features(),
        payment_metadata: None,
        route_hints: Vec::new(),
        blinded_paths: Vec::new(),
    };
    let text = make(&plain, duet.seats[BOB].keys().node_secret(), crypto().secp()).expect("an invoice");
    (bill, text)
}

/// A path of one hop to Bob, with the invoice's id.
fn path(duet: &Duet, bill: &view::Invoice, change: impl Fn(&mut HopData)) -> PayPath {
    let mut data = HopData {
        path_id: Some(bill.payment_secret.to_vec()),
        payment_constraints: Some(Constraints { max_cltv_expiry: Height(10_000), htlc_minimum: Msat(1) }),
        ..HopData::default()
    };
    change(&mut data);
    let hops = [(duet.id(BOB).0, data.encode(Some(9)))];
    let path = BlindedPath::make(&key(5), &hops, crypto().secp()).expect("a path");
    PayPath::new(PayInfo::total(&[], 18).expect("sums"), path)
}

/// Alice pays, and this goes out instead.
fn sends(duet: &mut Duet, bill: &view::Invoice, text: &str, (node, layer, path_key): Sent) -> Answer {
    let onion = build(&key(6), &[(node, layer)], &bill.payment_hash.0, crypto().secp()).expect("it fits");
    SWAP.with(|swap| swap.replace(Some((onion.packet, path_key))));
    duet.mangle = Some(Mangle { from: ALICE, change: swapped, times: 1 });
    let order = Command::Pay {
        bolt11: text.into(),
        amount_msat: None,
        label: None,
        retry_for_s: 60,
        limits: RouteLimits::default(),
    };
    let id = duet.tell(ALICE, order);
    duet.settle();
    assert!(SWAP.with(|swap| swap.borrow().is_none()), "it was sent");
    duet.answer(id).expect("an answer")
}

/// What is sent, of Bob's path.
type Make = fn(&Duet, &view::Invoice, PayPath) -> Sent;

/// The one layer of a path.
fn layer(path: &PayPath) -> (PublicKey, Vec<u8>) {
    path.layers(Msat(AMOUNT), Height(1), Msat(AMOUNT)).remove(0)
}

fn outside(path: PayPath) -> PayPath {
    PayPath { outside: true, ..path }
}

#[test]
fn a_path_key_stands_either_beside_the_onion_or_inside() {
    // BOLT 2, 4 [2.add.10, 2.add.16, 4.read.2, 4.read.4].
    let mut duet = Duet::opened(350, Open::default());
    let sound: [Make; 2] = [
        |_, _, path| {
            let (node, sealed) = layer(&path);
            (node, sealed, None)
        },
        |_, _, path| {
            let key = path.path.path_key;
            let (node, sealed) = layer(&outside(path));
            (node, sealed, Some(key))
        },
    ];
    for (number, what) in sound.into_iter().enumerate() {
        let before = duet.balance_msat(BOB);
        let (bill, text) = bills(&mut duet, &format!("{number}"));
        let sent = what(&duet, &bill, path(&duet, &bill, |_| {}));
        let answer = sends(&mut duet, &bill, &text, sent);
        assert!(matches!(answer, Ok(Reply::Paid(_))), "{number}: {answer:?}");
        assert_eq!(duet.balance_msat(BOB), before + AMOUNT);
    }
    duet.judge_agreement();
}

#[test]
fn what_comes_with_a_path_key_goes_back_with_one_word() {
    // BOLT 2, 4 [2.remove.3, 4.fail.1, 4.read.1, 4.read.3, 4.read.5, 4.read.13, 4.read.14, 4.read.18].
    let mut duet = Duet::opened(351, Open::default());
    let word = "invalid_onion_blinding";
    // Sealed for Alice with another key than hers: all that she can tell is that something came.
    let sealed = "cannot be read";
    let bad: [(&str, &str, Make); 9] = [
        ("both keys", word, |_, _, path| {
            let mut both = path.layers(Msat(AMOUNT), Height(1), Msat(AMOUNT)).remove(0);
            both.0 = layer(&outside(path.clone())).0;
            (both.0, both.1, Some(path.path.path_key))
        }),
        ("no key", sealed, |duet, _, path| (duet.id(BOB).0, layer(&outside(path)).1, None)),
        ("a layer that is in no path", word, |_, bill, path| {
            let last =
                Final::invoice(Msat(AMOUNT), Height(1), PaymentSecret(bill.payment_secret), Msat(AMOUNT));
            (layer(&outside(path.clone())).0, last.encode(), Some(path.path.path_key))
        }),
        ("a layer for our own name", word, |duet, _, path| {
            (duet.id(BOB).0, layer(&outside(path.clone())).1, Some(path.path.path_key))
        }),
        ("another path key", word, |_, _, path| {
            let (node, sealed) = layer(&outside(path));
            (node, sealed, Some(key(9).public_key(crypto().secp())))
        }),
        ("changed data", word, |_, _, mut path| {
            path.path.hops[0].encrypted_data[3] ^= 1;
            let key = path.path.path_key;
            let (node, sealed) = layer(&outside(path));
            (node, sealed, Some(key))
        }),
        ("a record more", word, |_, _, path| {
            let key = path.path.path_key;
            let (node, mut sealed) = layer(&outside(path));
            sealed.extend([0xfd, 1, 1, 1, 7]);
            (node, sealed, Some(key))
        }),
        ("no total", word, |_, _, path| {
            let key = path.path.path_key;
            let (node, mut sealed) = layer(&outside(path));
            // Type, length and three bytes at its end.
            sealed.truncate(sealed.len() - 5);
            (node, sealed, Some(key))
        }),
        ("not even records", word, |_, _, path| {
            let key = path.path.path_key;
            (layer(&outside(path)).0, vec![2, 9, 1], Some(key))
        }),
    ];
    let before = duet.balance_msat(BOB);
    for (what, said, make) in bad {
        let (bill, text) = bills(&mut duet, what);
        let sent = make(&duet, &bill, path(&duet, &bill, |_| {}));
        let answer = sends(&mut duet, &bill, &text, sent);
        assert!(matches!(&answer, Err(error) if error.message.contains(said)), "{what}: {answer:?}");
        assert_eq!(duet.balance_msat(BOB), before, "{what}");
    }
    // Too late, too little, an id that is none.
    let spoils: [fn(&mut HopData); 3] = [
        |data| {
            data.payment_constraints = Some(Constraints { max_cltv_expiry: Height(9), htlc_minimum: Msat(1) })
        },
        |data| {
            data.payment_constraints =
                Some(Constraints { max_cltv_expiry: Height(10_000), htlc_minimum: Msat(AMOUNT + 1) });
        },
        |data| data.path_id = Some(vec![1; 31]),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let (bill, text) = bills(&mut duet, &format!("{number}"));
        let bad = outside(path(&duet, &bill, spoil));
        let (node, sealed) = layer(&bad);
        let answer = sends(&mut duet, &bill, &text, (node, sealed, Some(bad.path.path_key)));
        assert!(matches!(&answer, Err(error) if error.message.contains(word)), "{number}: {answer:?}");
        assert_eq!(duet.balance_msat(BOB), before);
    }
    duet.judge_agreement();
    duet.judge_peace();
}
