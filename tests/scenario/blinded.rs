//! Payments over blinded paths: Dave is paid and not named (BOLT 4, "Route Blinding"; bLIP 39).
//!
//! In: nodes in a line or a diamond, invoices with paths, some of the paths made here and made wrong. Out: who has what;
//! that all failures inside a path look alike; that a crash at any step neither loses nor pays twice.
//! Read next: `chand_protocol::node::unblind`, `chand_protocol::node::blinded`.

use chand_protocol::id::{NodeId, PaymentHash, ShortChannelId};
use chand_protocol::invoice::{self, blinded::for_paths, Currency, Invoice};
use chand_protocol::node::command::{ChannelRef, Command, InvoiceRequest, Reply, RouteLimits};
use chand_protocol::node::{view, NodeConfig};
use chand_protocol::onion::blind::{BlindedPath, Constraints, HopData, PayInfo, PayPath, Relay};
use chand_protocol::units::{Height, Msat};
use chand_tests::duet::play::{preimage, request, Open};
use chand_tests::duet::{Answer, When};
use chand_tests::town::{Town, ALICE, BOB, CAROL, DAVE};
use secp256k1::{Secp256k1, SecretKey};

const AMOUNT: u64 = 50_000_000;
/// What a payee may get beyond it: the fees of two hops in millionths are one number, rounded up (BOLT 4).
const ROUNDED: u64 = AMOUNT / 1_000_000 + 3;

/// What chand asks for unless told otherwise.
pub fn usual(_: usize, _: &mut NodeConfig) {}

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).expect("a key")
}

/// An invoice that does not name its maker.
pub fn hidden(town: &mut Town, payee: usize, label: &str, amount_msat: u64) -> view::Invoice {
    let blinded = Some(town.asked_for(payee));
    town.invoice(payee, InvoiceRequest { blinded, ..request(label, Some(amount_msat)) })
}

fn read(bolt11: &str) -> Invoice {
    invoice::parse(bolt11, &Secp256k1::new()).expect("an invoice")
}

/// The order to pay it.
pub fn pay(bolt11: &str) -> Command {
    Command::Pay {
        bolt11: bolt11.into(),
        amount_msat: None,
        label: None,
        retry_for_s: 60,
        limits: RouteLimits::default(),
    }
}

fn paid(answer: Option<Answer>) -> view::Pay {
    match answer {
        Some(Ok(Reply::Paid(pay))) => pay,
        other => panic!("{other:?}"),
    }
}

/// The code and the words of a refusal.
pub fn refused(answer: Option<Answer>) -> (i32, String) {
    match answer {
        Some(Err(error)) => (error.code, error.message),
        other => panic!("{other:?}"),
    }
}

/// Pays, and gives the answer; failures of a path leave it a moment late.
fn tries(town: &mut Town, payer: usize, order: Command) -> Option<Answer> {
    let id = town.tell(payer, order);
    town.wait_ms(5_000);
    town.answer(id)
}

/// What each hop of a path over `seats` is told, the payee last.
pub fn told(town: &Town, seats: &[usize], path_id: [u8; 32]) -> Vec<HopData> {
    let limits =
        |htlc_minimum| Constraints { max_cltv_expiry: Height(town.chain.height() + 1_000), htlc_minimum };
    let mut hops: Vec<HopData> = seats
        .windows(2)
        .map(|pair| {
            let policy = town.between(pair[0], pair[1]).policy;
            HopData {
                short_channel_id: Some(town.scid(pair[0], pair[1])),
                payment_relay: Some(Relay {
                    cltv_expiry_delta: policy.delta_blocks,
                    fee_proportional_millionths: policy.ppm,
                    fee_base_msat: policy.base_msat,
                }),
                payment_constraints: Some(limits(Msat(1))),
                ..HopData::default()
            }
        })
        .collect();
    hops.push(HopData { path_id: Some(path_id.to_vec()), ..HopData::default() });
    hops
}

/// The path that tells this.
pub fn sealed(town: &Town, seats: &[usize], hops: &[HopData], n: u8) -> PayPath {
    let nodes = seats.iter().map(|seat| town.seats[*seat].id.0);
    let hops_with_keys: Vec<_> = nodes.zip(HopData::encode_alike(hops)).collect();
    let path = BlindedPath::make(&key(n), &hops_with_keys, &Secp256k1::new()).expect("a path");
    let relays: Vec<Relay> = seats
        .windows(2)
        .map(|pair| {
            let policy = town.between(pair[0], pair[1]).policy;
            Relay {
                cltv_expiry_delta: policy.delta_blocks,
                fee_proportional_millionths: policy.ppm,
                fee_base_msat: policy.base_msat,
            }
        })
        .collect();
    PayPath::new(PayInfo::total(&relays, 21).expect("sums"), path)
}

/// An invoice over such paths.
pub fn over(town: &Town, hash: PaymentHash, amount_msat: u64, paths: Vec<PayPath>) -> String {
    let new = for_paths(Currency::Regtest, Some(Msat(amount_msat)), hash, town.now.seconds(), paths);
    invoice::make(&new, &key(77), &Secp256k1::new()).expect("an invoice")
}

/// Dave's hidden invoice, over a path that begins further away than his neighbour.
fn from_bob(town: &mut Town, label: &str, n: u8) -> (view::Invoice, String) {
    let bill = hidden(town, DAVE, label, AMOUNT);
    let seats = [BOB, CAROL, DAVE];
    let path = sealed(town, &seats, &told(town, &seats, bill.payment_secret), n);
    let text = over(town, bill.payment_hash, AMOUNT, vec![path]);
    (bill, text)
}

fn balances(town: &Town) -> Vec<u64> {
    (0..town.seats.len()).map(|seat| town.balance_msat(seat)).collect()
}

/// Whether these bytes stand anywhere in what a node keeps.
fn keeps(town: &Town, seat: usize, id: &NodeId) -> bool {
    let name = id.0.serialize();
    let records = town.seats[seat].node.records();
    records.iter().any(|(key, value)| [key, value].iter().any(|b| b.windows(33).any(|part| part == name)))
}

#[test]
fn dave_is_paid_and_alice_never_learns_who_he_is() {
    // BOLT 4 [4.blind.1, 4.blind.10, 4.blind.14, 4.blind.20, 4.blindwrite.1, 4.blindwrite.7, 4.write.4].
    let mut town = Town::line(4, 301, usual);
    let bill = hidden(&mut town, DAVE, "hidden", AMOUNT);
    let invoice = read(&bill.bolt11);
    let dave = town.seats[DAVE].id;
    let [path] = invoice.blinded_paths.as_slice() else { panic!("{} paths", invoice.blinded_paths.len()) };
    assert_eq!((path.path.introduction, path.path.hops.len()), (town.seats[CAROL].id, 3));
    assert!(invoice.payee != dave && invoice.payment_secret.is_none() && invoice.route_hints.is_empty());
    assert!(path.path.hops.iter().all(|hop| hop.blinded_node_id != dave.0));
    let lengths: Vec<usize> = path.path.hops.iter().map(|hop| hop.encrypted_data.len()).collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");

    let before = balances(&town);
    let had = before[DAVE];
    let done = paid(town.ask(ALICE, pay(&bill.bolt11)));
    let fees: Vec<u64> =
        [BOB, CAROL].map(|seat| town.forwards(seat)[0].in_msat.0 - town.forwards(seat)[0].out_msat.0).into();
    assert_eq!((done.amount_msat.0, done.parts), (AMOUNT, 1));
    assert_eq!(done.amount_sent_msat.0, AMOUNT + fees[0] + fees[1]);
    let moved: Vec<i64> = balances(&town).iter().zip(before).map(|(a, b)| *a as i64 - b as i64).collect();
    let sum = AMOUNT as i64;
    assert_eq!(moved, [-sum - fees[0] as i64 - fees[1] as i64, fees[0] as i64, fees[1] as i64, sum]);
    assert_eq!(done.destination, Some(invoice.payee));
    assert!(
        !keeps(&town, ALICE, &dave) && !keeps(&town, BOB, &dave),
        "who does not need to know him does not"
    );
    // The same again moves nothing.
    assert_eq!(paid(town.ask(ALICE, pay(&bill.bolt11))).preimage, done.preimage);
    assert_eq!(town.balance_msat(DAVE), had + AMOUNT);
    town.judge_quiet();
}

#[test]
fn a_path_may_begin_further_away_and_at_the_payer_itself() {
    let mut town = Town::line(4, 302, usual);
    for (n, payer) in [ALICE, BOB].into_iter().enumerate() {
        let (_, text) = from_bob(&mut town, &format!("from Bob, by {payer}"), n as u8 + 1);
        let before = town.balance_msat(DAVE);
        paid(town.ask(payer, pay(&text)));
        assert!((AMOUNT..=AMOUNT + ROUNDED).contains(&(town.balance_msat(DAVE) - before)));
    }
    // The neighbour of the payee, at whom the invoice's own path begins, asks itself for no fee.
    let bill = hidden(&mut town, DAVE, "by Carol", AMOUNT);
    let before = town.balance_msat(CAROL);
    let done = paid(town.ask(CAROL, pay(&bill.bolt11)));
    assert!(done.amount_sent_msat.0 <= AMOUNT + 1, "{}", done.amount_sent_msat);
    assert!(before - town.balance_msat(CAROL) <= AMOUNT + 1);
    // Nobody pays itself.
    let own = hidden(&mut town, DAVE, "own", AMOUNT);
    assert!(refused(town.ask(DAVE, pay(&own.bolt11))).1.contains("this node itself"));
    town.judge_quiet();
}

/// Makes what a path tells wrong.
type Spoil = fn(&mut Town, &mut Vec<HopData>);

#[test]
fn whatever_goes_wrong_inside_looks_the_same_from_outside() {
    // BOLT 2, 4 [2.remove.2, 2.remove.3, 4.fail.1, 4.fail.2, 4.fail.5, 4.fail.6, 4.read.6, 4.read.8, 4.read.10, 4.read.11].
    let mut town = Town::line(4, 303, usual);
    let before = balances(&town);
    let cases: [(&str, Spoil); 14] = [
        ("Bob: no such channel", |_, h| h[0].short_channel_id = Some(ShortChannelId(1 << 40))),
        ("Bob: nowhere to go", |_, h| h[0].short_channel_id = None),
        ("Bob: two ways to go", |t, h| h[0].next_node_id = Some(t.seats[CAROL].id.0)),
        ("Bob: no relay", |_, h| h[0].payment_relay = None),
        ("Bob: too low a fee", |_, h| relay(h, 0).fee_base_msat = 0),
        ("Bob: expired", |t, h| limits(h, 0).max_cltv_expiry = Height(t.chain.height())),
        ("Carol: expired", |t, h| limits(h, 1).max_cltv_expiry = Height(t.chain.height())),
        ("Carol: too small", |_, h| limits(h, 1).htlc_minimum = Msat(2 * AMOUNT)),
        ("Carol: no such channel", |_, h| h[1].short_channel_id = Some(ShortChannelId(2 << 40))),
        ("Carol: too few blocks", |_, h| relay(h, 1).cltv_expiry_delta = 0),
        ("Carol: a feature nobody knows", |_, h| {
            h[1].allowed_features = Some(chand_protocol::wire::features::Features::of(&[113]));
        }),
        ("Carol: a path key that is not hers", |t, h| {
            h[0].next_path_key_override = Some(t.seats[ALICE].id.0)
        }),
        ("Dave: another path's id", |_, h| h[2].path_id = Some(vec![9; 32])),
        ("Dave: no id", |_, h| h[2].path_id = None),
    ];
    let mut words = Vec::new();
    for (number, (what, spoil)) in cases.into_iter().enumerate() {
        let bill = hidden(&mut town, DAVE, what, AMOUNT);
        let seats = [BOB, CAROL, DAVE];
        let mut hops = told(&town, &seats, bill.payment_secret);
        spoil(&mut town, &mut hops);
        let mut path = sealed(&town, &seats, &hops, number as u8 + 1);
        path.info.htlc_minimum = Msat(AMOUNT);
        let text = over(&town, bill.payment_hash, AMOUNT, vec![path]);
        let (code, said) = refused(tries(&mut town, ALICE, pay(&text)));
        assert_eq!(code, 204, "{what}: {said}");
        words.push((what, said));
        town.judge_quiet();
        assert_eq!(balances(&town), before, "{what}");
    }
    let (_, first) = &words[0];
    assert!(
        first.contains("invalid_onion_blinding") && first.contains(&town.seats[BOB].id.to_string()),
        "{first}"
    );
    for (what, said) in &words {
        assert_eq!(said, first, "{what}");
    }
    assert!(town.seats.iter().all(|s| s.node.channels().all(|c| c.is_usable())), "no channel suffers");
}

fn relay(hops: &mut [HopData], at: usize) -> &mut Relay {
    hops[at].payment_relay.as_mut().expect("a relay")
}

fn limits(hops: &mut [HopData], at: usize) -> &mut Constraints {
    hops[at].payment_constraints.as_mut().expect("limits")
}

#[test]
fn a_policy_that_changed_and_an_invoice_that_is_gone_are_not_told_either() {
    let mut town = Town::line(4, 304, usual);
    let (_, text) = from_bob(&mut town, "dearer", 1);
    let dearer = |town: &mut Town, base: u32| {
        let order = Command::SetChannel {
            channel: Some(ChannelRef::Id(town.between(CAROL, DAVE).id())),
            fee_base_msat: Some(base),
            fee_ppm: None,
            htlc_min_msat: None,
            htlc_max_msat: None,
        };
        town.must(CAROL, order);
    };
    dearer(&mut town, 2_000);
    let (code, dear) = refused(tries(&mut town, ALICE, pay(&text)));
    assert!(code == 204 && dear.contains("invalid_onion_blinding") && !dear.contains("fee"), "{dear}");
    dearer(&mut town, 1_000);
    town.must(DAVE, Command::DelInvoice { label: "dearer".into(), status: "unpaid".into() });
    let (_, gone) = refused(tries(&mut town, ALICE, pay(&text)));
    assert_eq!(gone, dear);
    // Paid twice: the second payer is told the same.
    let (_, twice) = from_bob(&mut town, "twice", 2);
    paid(town.ask(ALICE, pay(&twice)));
    let (_, again) = refused(tries(&mut town, BOB, pay(&twice)));
    assert!(again.contains("invalid_onion_blinding"), "{again}");
    town.judge_quiet();
}

#[test]
fn an_invoice_is_paid_over_its_paths_only_and_others_over_none() {
    // BOLT 4 [4.blind.21].
    let mut town = Town::line(4, 305, usual);
    let before = balances(&town);
    // Somebody who knows the secret, and guesses who it is, gets the answer of a node that knows nothing.
    let bill = hidden(&mut town, DAVE, "hidden", AMOUNT);
    let route = town.route(&[ALICE, BOB, CAROL, DAVE], AMOUNT, 40);
    let answer = town.pay_along(route, &bill, ALICE);
    assert!(refused(answer).1.contains("incorrect_or_unknown_payment_details"));
    // The secret of an ordinary invoice is no path's id.
    let plain = town.bill(DAVE, "plain", AMOUNT);
    let seats = [CAROL, DAVE];
    let path = sealed(&town, &seats, &told(&town, &seats, plain.payment_secret), 1);
    let text = over(&town, plain.payment_hash, AMOUNT, vec![path]);
    assert!(refused(tries(&mut town, ALICE, pay(&text))).1.contains("invalid_onion_blinding"));
    // Nor is the id of one hidden invoice good for another.
    let other = hidden(&mut town, DAVE, "other", AMOUNT);
    let path = sealed(&town, &seats, &told(&town, &seats, other.payment_secret), 2);
    let text = over(&town, bill.payment_hash, AMOUNT, vec![path]);
    assert!(refused(tries(&mut town, ALICE, pay(&text))).1.contains("invalid_onion_blinding"));
    assert_eq!(balances(&town), before);
    paid(town.ask(ALICE, pay(&other.bolt11)));
    town.judge_quiet();
}

/// Alice's channels with Bob and Carol, theirs with Dave; what Bob can send to Dave is the test's choice.
fn diamond(seed: u64, bob_has: u64) -> Town {
    let mut town = Town::new(4, seed, |seat, config| {
        config.fee_base_msat = if seat == CAROL { 5_000 } else { 1_000 };
        config.fee_ppm = 0;
    });
    let side = |push_msat| Open { sat: 1_000_000, push_msat, ..Open::default() };
    town.open(ALICE, BOB, side(300_000_000));
    town.open(ALICE, CAROL, side(300_000_000));
    town.open(BOB, DAVE, side(1_000_000_000 - 20_000_000 - bob_has));
    town.open(CAROL, DAVE, side(300_000_000));
    town
}

#[test]
fn what_fits_no_single_path_goes_over_several() {
    // BOLT 4 [4.write.3].
    let mut town = diamond(306, 600_000_000);
    let bill = hidden(&mut town, DAVE, "parts", 900_000_000);
    assert_eq!(read(&bill.bolt11).blinded_paths.len(), 2);
    let before = town.balance_msat(DAVE);
    let done = paid(town.ask(ALICE, pay(&bill.bolt11)));
    assert!(done.parts >= 2 && done.amount_msat.0 == 900_000_000, "{done:?}");
    assert_eq!(town.balance_msat(DAVE) - before, 900_000_000);
    let settled = [BOB, CAROL].map(|seat| town.forwards(seat).iter().any(|row| row.status == "settled"));
    assert_eq!(settled, [true, true]);
    town.judge_quiet();
}

#[test]
fn a_path_that_failed_is_left_for_another() {
    let mut town = diamond(307, 30_000_000);
    let bill = hidden(&mut town, DAVE, "around", 200_000_000);
    // Bob is cheaper, and nobody outside knows that his channel is empty: the path names no amount.
    let bob = town.seats[BOB].id;
    let paths = read(&bill.bolt11).blinded_paths;
    assert!(paths.iter().any(|path| path.path.introduction == bob));
    let done = paid(tries(&mut town, ALICE, pay(&bill.bolt11)));
    assert_eq!((done.amount_sent_msat.0, done.parts), (200_005_000, 1), "over Carol");
    assert!(town.forwards(BOB).is_empty(), "nothing went on from Bob");
    town.judge_quiet();
}

#[test]
fn a_node_without_peers_to_hide_behind_says_so() {
    let mut town = Town::line(2, 308, usual);
    // Nobody told what Alice asks for.
    let blinded = Some(Vec::new());
    let order = Command::Invoice(InvoiceRequest { blinded, ..request("alone", Some(AMOUNT)) });
    let (code, words) = refused(town.ask(BOB, order));
    assert!(code == 902 && words.contains("blinded"), "{code}: {words}");
}

/// Everybody's answer to: is it paid?
fn status_of(town: &mut Town, bill: &view::Invoice) -> &'static str {
    let list = Command::ListPays { payment_hash: Some(bill.payment_hash), bolt11: None };
    // She may die of this very question.
    let answer = town.ask(ALICE, list.clone()).or_else(|| town.ask(ALICE, list));
    let Some(Ok(Reply::Pays(pays))) = answer else { panic!("{answer:?}") };
    pays.first().map_or("none", |pay| pay.status)
}

/// One of them dies at its step of this number after the order, and comes back. Whether it got that far.
fn dies_at(seat: usize, steps_later: u64, when: When, good: bool) -> bool {
    let mut town = Town::line(4, 400 + steps_later, usual);
    let before = balances(&town);
    let hold = Some(preimage(9).hash());
    let blinded = Some(town.asked_for(DAVE));
    let bill = town.invoice(DAVE, InvoiceRequest { hold, blinded, ..request("held", Some(AMOUNT)) });
    let seats = [BOB, CAROL, DAVE];
    let id = if good { bill.payment_secret } else { [5; 32] };
    let mut path = sealed(&town, &seats, &told(&town, &seats, id), 1);
    path.info.htlc_minimum = Msat(AMOUNT);
    let text = over(&town, bill.payment_hash, AMOUNT, vec![path]);
    town.crashes.push((seat, town.seats[seat].steps + steps_later, when));
    let order = town.tell(ALICE, pay(&text));
    town.run();
    town.settle();
    // What came back may wait a moment at the path's beginning.
    town.wait_ms(2_000);
    town.settle();
    let settle = Command::SettleInvoice { preimage: preimage(9) };
    let settled = town.ask(DAVE, settle.clone());
    // He may have died of it.
    let settled = if settled.is_none() { town.ask(DAVE, settle) } else { settled };
    town.settle();
    let _ = town.answer(order);
    let status = status_of(&mut town, &bill);
    let gained = town.balance_msat(DAVE) - before[DAVE];
    match settled {
        Some(Ok(_)) => {
            assert!(good);
            assert_eq!(status, "complete", "{seat} at step {steps_later}");
            assert!((AMOUNT..=AMOUNT + ROUNDED).contains(&gained));
        }
        _ => {
            assert!(matches!(status, "none" | "failed"), "{status}: {seat} at step {steps_later}");
            assert_eq!(balances(&town), before, "{seat} at step {steps_later}");
        }
    }
    town.judge_quiet();
    town.crashes.is_empty()
}

#[test]
fn whoever_dies_at_any_step_the_payment_arrives_once_or_not_at_all() {
    for good in [true, false] {
        for (seat, least) in [(ALICE, 6), (BOB, 10), (CAROL, 10), (DAVE, 6)] {
            let mut reached = 0;
            for step in 1..60 {
                let when = [When::BeforeCommit, When::BeforeRelease, When::AfterRelease][step as usize % 3];
                if !dies_at(seat, step, when, good) {
                    break;
                }
                reached = step;
            }
            assert!(reached >= least, "{seat}: only {reached} steps");
        }
    }
}
