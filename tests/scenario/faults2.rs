//! One broken rule a test: the message is right but for that one thing, it is noticed, and nothing has changed.
//!
//! Where the rule is a limit, the message just inside it is taken first. Read next: `faults`.

use chand_protocol::channel::Phase;
use chand_protocol::id::{ChannelId, LinkId};
use chand_protocol::node::command::{ChannelRef, Command, Reply, RouteLimits};
use chand_protocol::node::effect::Input;
use chand_protocol::units::{Feerate, Height, Msat, Sat};
use chand_protocol::wire::message::{OnionPacket, OpenChannel, Shutdown, UpdateAddHtlc, UpdateFee};
use chand_protocol::wire::Message;
use chand_tests::duet::play::{preimage, Open};
use chand_tests::duet::{crypto, Duet, Mangle, ALICE, BOB};
use secp256k1::SecretKey;

fn add(channel_id: ChannelId, id: u64, amount_msat: u64) -> Message {
    let onion = OnionPacket { version: 0, public_key: [2; 33], hop_payloads: [0; 1300], hmac: [0; 32] };
    Message::UpdateAddHtlc(UpdateAddHtlc {
        channel_id,
        id,
        amount_msat: Msat(amount_msat),
        payment_hash: [6; 32],
        cltv_expiry: Height(500),
        onion_routing_packet: Box::new(onion),
        path_key: None,
    })
}

fn fee(channel_id: ChannelId, feerate: u32) -> Message {
    Message::UpdateFee(UpdateFee { channel_id, feerate_per_kw: Feerate(feerate) })
}

fn balances(duet: &Duet) -> [u64; 2] {
    [ALICE, BOB].map(|seat| duet.balance_msat(seat))
}

/// Linked again, open, with the money where it was.
fn unharmed(duet: &mut Duet, before: [u64; 2]) {
    duet.settle();
    for seat in [ALICE, BOB] {
        assert!(matches!(duet.channel(seat).phase, Phase::Open), "{:?}", duet.channel(seat).phase);
        assert!(duet.channel(seat).is_usable());
    }
    assert_eq!(balances(duet), before);
    duet.judge_agreement();
    duet.judge_peace();
}

/// `good`, said by `from`, is taken; after a cut `bad` is not, and the other one says `what`.
fn inside_and_outside(duet: &mut Duet, from: usize, good: &Message, bad: &Message, what: &str) {
    let (before, links, to) = (balances(duet), duet.links(), 1 - from);
    duet.inject(from, good);
    assert_eq!((duet.links(), duet.seats[to].logged("peer fault")), (links, 0), "{good:?} is allowed");
    duet.cut(None);
    unharmed(duet, before);
    refused(duet, from, bad, what);
}

/// `bad`, said by `from`, costs the link and nothing else.
fn refused(duet: &mut Duet, from: usize, bad: &Message, what: &str) {
    let (before, links, seat) = (balances(duet), duet.links(), 1 - from);
    duet.inject(from, bad);
    unharmed(duet, before);
    assert_eq!(duet.links(), links + 1, "{bad:?} breaks the link");
    let log = &duet.seats[seat].log;
    assert_eq!(duet.seats[seat].logged("peer fault"), 1, "{log:?}");
    assert_eq!(duet.seats[seat].logged(what), 1, "{log:?}");
}

#[test]
fn an_htlc_that_takes_the_peer_one_sat_below_its_reserve() {
    for anchors in [true, false] {
        let mut duet = Duet::opened(200, Open { anchors, ..Open::default() });
        let id = duet.channel_id();
        // Bob has 400,000 sat, must keep 10,000, and pays no fee.
        let (good, bad) = (add(id, 0, 390_000_000), add(id, 0, 390_001_000));
        inside_and_outside(&mut duet, BOB, &good, &bad, "the offerer cannot pay it");
        duet.pay(BOB, "after", 390_000_000);
    }
}

#[test]
fn an_htlc_that_leaves_the_opener_no_fee_beside_its_reserve() {
    let mut duet = Duet::opened(201, Open { anchors: false, ..Open::default() });
    let id = duet.channel_id();
    // Alice has 600,000 sat and keeps 10,000; at 1,000 sat the kilo a commitment with one HTLC costs 724 + 172.
    let (good, bad) = (add(id, 0, 589_104_000), add(id, 0, 589_105_000));
    inside_and_outside(&mut duet, ALICE, &good, &bad, "the offerer cannot pay it");
}

#[test]
fn an_htlc_above_what_may_be_in_flight_with_those_before_it() {
    let mut duet = Duet::with(202, |place, config| {
        config.max_in_flight_percent = if place == BOB { 10 } else { 100 };
    });
    duet.connect();
    duet.open(Open::default());
    duet.pay_held(ALICE, 1, 60_000_000);
    let id = duet.channel_id();
    let (good, bad) = (add(id, 1, 40_000_000), add(id, 1, 40_000_001));
    inside_and_outside(&mut duet, ALICE, &good, &bad, "in flight");
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert_eq!(duet.balance_msat(BOB), 460_000_000);
}

#[test]
fn an_htlc_of_nothing() {
    // BOLT 2 [2.add.3].
    let mut duet = Duet::opened(203, Open::default());
    let id = duet.channel_id();
    inside_and_outside(&mut duet, ALICE, &add(id, 0, 1), &add(id, 0, 0), "the amount is zero");
}

#[test]
fn a_feerate_above_the_ceiling_that_the_opener_could_pay() {
    // BOLT 2 [2.fee.3].
    let mut duet = Duet::opened(204, Open::default());
    let id = duet.channel_id();
    inside_and_outside(&mut duet, ALICE, &fee(id, 100_000), &fee(id, 100_001), "update_fee 100001");
    assert_eq!(duet.channel(BOB).feerate(), Feerate(1_000));
}

#[test]
fn a_feerate_below_the_ceiling_that_the_opener_cannot_pay() {
    let mut duet =
        Duet::opened(205, Open { sat: 100_000, push_msat: 80_000_000, anchors: false, ..Open::default() });
    let id = duet.channel_id();
    // Of Alice's 20,000 sat 1,000 are her reserve; 724 weight units cost the other 19,000 at 26,244 the kilo.
    let (good, bad) = (fee(id, 26_244), fee(id, 26_245));
    inside_and_outside(&mut duet, ALICE, &good, &bad, "the opener cannot pay it");
    assert_eq!(duet.channel(BOB).feerate(), Feerate(1_000));
}

fn wrong_last_secret(message: Message) -> Option<Message> {
    let Message::ChannelReestablish(mut m) = message else { return None };
    m.your_last_per_commitment_secret[31] ^= 1;
    Some(Message::ChannelReestablish(m))
}

fn revocations_without_end(message: Message) -> Option<Message> {
    let Message::ChannelReestablish(mut m) = message else { return None };
    m.next_revocation_number = u64::MAX;
    Some(Message::ChannelReestablish(m))
}

/// The link breaks, and Alice's next `channel_reestablish` arrives changed.
fn reestablish(seed: u64, change: fn(Message) -> Option<Message>, what: &str) {
    let mut duet = Duet::opened(seed, Open::default());
    duet.pay(ALICE, "before", 10_000_000);
    let (before, links) = (balances(&duet), duet.links());
    duet.mangle = Some(Mangle { from: ALICE, change, times: 1 });
    duet.cut(None);
    unharmed(&mut duet, before);
    assert_eq!(duet.links(), links + 2, "the first try fails, the second does not");
    let log = &duet.seats[BOB].log;
    assert!(log.iter().any(|n| n.text.contains("peer fault") && n.text.contains(what)), "{log:?}");
    assert_eq!(duet.seats[BOB].logged("local fault"), 0);
    assert!(!duet.channel(BOB).doubt);
    duet.pay(ALICE, "after", 10_000_000);
}

#[test]
fn a_reestablish_with_another_last_secret() {
    reestablish(206, wrong_last_secret, "wrong last secret");
}

#[test]
fn a_reestablish_with_a_number_that_no_channel_reaches() {
    reestablish(207, revocations_without_end, "channel_reestablish");
}

fn forged_close(message: Message) -> Option<Message> {
    let Message::ClosingSigned(mut m) = message else { return None };
    let other = SecretKey::from_slice(&[3; 32]).expect("a key");
    m.signature = crypto().sign(&[3; 32], &other);
    Some(Message::ClosingSigned(m))
}

#[test]
fn a_closing_signature_of_nobody() {
    // BOLT 2 [2.legacy.3].
    for forger in [ALICE, BOB] {
        let mut duet = Duet::opened(208, Open::default());
        let (before, deceived) = (balances(&duet), 1 - forger);
        duet.mangle = Some(Mangle { from: forger, change: forged_close, times: u32::MAX });
        let order = duet.close_order();
        duet.tell(ALICE, order);
        duet.wait_ms(5_000);
        let channel = duet.channel(deceived);
        assert!(matches!(channel.phase, Phase::Closing(_)), "{:?}", channel.phase);
        assert!(duet.seats[deceived].logged("closing_signed: bad signature") > 0);
        assert_eq!(duet.seats[deceived].logged("closing transaction"), 0);
        // Bob, whom Alice signed for, may publish; Alice speaks first and has nothing but a forgery.
        assert_eq!(duet.chain.mempool.len(), forger);
        assert_eq!(balances(&duet), before);
        duet.judge_peace();
        duet.mangle = None;
        duet.wait_ms(120_000);
        for seat in [ALICE, BOB] {
            assert!(matches!(duet.channel(seat).phase, Phase::Closed(_)), "{:?}", duet.channel(seat).phase);
        }
        duet.judge_close();
    }
}

#[test]
fn a_shutdown_said_again_with_another_script() {
    let mut duet = Duet::opened(209, Open::default());
    duet.pay_held(ALICE, 1, 10_000_000);
    let order = duet.close_order();
    let close = duet.tell(ALICE, order);
    duet.run();
    let (before, links) = (balances(&duet), duet.links());
    let scriptpubkey = duet.seats[BOB].wallet.script.clone();
    duet.inject(ALICE, &Message::Shutdown(Shutdown { channel_id: duet.channel_id(), scriptpubkey }));
    duet.settle();
    assert_eq!(duet.links(), links + 1);
    assert_eq!(duet.seats[BOB].logged("peer fault: shutdown: another script"), 1);
    assert_eq!(balances(&duet), before);
    duet.judge_agreement();
    duet.judge_peace();
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    let answer = duet.answer(close);
    assert!(matches!(answer, Some(Ok(Reply::Closed { kind: "mutual", .. }))), "{answer:?}");
    duet.judge_close();
}

/// Alice's `open_channel` names a script that is not the one she will name in `shutdown`.
fn script_named_early(message: Message) -> Option<Message> {
    let Message::OpenChannel(mut m) = message else { return None };
    m.upfront_shutdown_script = Some(bitcoin::ScriptBuf::from_bytes([&[0x00, 0x14][..], &[7; 20]].concat()));
    Some(Message::OpenChannel(m))
}

#[test]
fn a_shutdown_with_another_script_than_the_one_named_at_the_opening() {
    // BOLT 2 [2.shutdown.10].
    for closer in [ALICE, BOB] {
        let mut duet = Duet::new(210);
        duet.connect();
        duet.mangle = Some(Mangle { from: ALICE, change: script_named_early, times: 1 });
        duet.open(Open::default());
        let before = balances(&duet);
        let close = duet.close_order();
        duet.tell(closer, close);
        duet.wait_ms(5_000);
        let bob = duet.channel(BOB);
        let accepted = matches!(&bob.phase, Phase::Closing(closing) if closing.remote_sent());
        assert!(
            !accepted && !matches!(bob.phase, Phase::Closed(_)),
            "closer {closer}: {:?}",
            bob.state_name()
        );
        assert!(duet.seats[BOB].logged("peer fault: shutdown: another script") > 0);
        assert!(duet.chain.mempool.is_empty());
        assert_eq!(balances(&duet), before);
        duet.judge_peace();
    }
}

/// Bob answers an `open_channel` with one of his own that bears the same id.
fn opened_instead(message: Message) -> Option<Message> {
    let Message::AcceptChannel(m) = message else { return None };
    Some(Message::OpenChannel(OpenChannel {
        chain_hash: chand_protocol::chain::Network::Regtest.chain_hash(),
        temporary_channel_id: m.temporary_channel_id,
        funding_satoshis: Sat(100_000),
        push_msat: Msat(0),
        dust_limit_satoshis: m.dust_limit_satoshis,
        max_htlc_value_in_flight_msat: Msat(100_000_000),
        channel_reserve_satoshis: Sat(1_000),
        htlc_minimum_msat: m.htlc_minimum_msat,
        feerate_per_kw: Feerate(1_000),
        to_self_delay: m.to_self_delay,
        max_accepted_htlcs: m.max_accepted_htlcs,
        funding_pubkey: m.funding_pubkey,
        revocation_basepoint: m.revocation_basepoint,
        payment_basepoint: m.payment_basepoint,
        delayed_payment_basepoint: m.delayed_payment_basepoint,
        htlc_basepoint: m.htlc_basepoint,
        first_per_commitment_point: m.first_per_commitment_point,
        channel_flags: 0,
        upfront_shutdown_script: None,
        channel_type: m.channel_type,
    }))
}

#[test]
fn an_open_channel_with_the_id_of_our_own_opening() {
    let mut duet = Duet::new(211);
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.expected_errors = vec!["the peer reports an error"];
    duet.mangle = Some(Mangle { from: BOB, change: opened_instead, times: 1 });
    let id = duet.tell(ALICE, order);
    duet.wait_ms(600_000);
    let answer = duet.answer(id);
    assert!(matches!(answer, Some(Err(_))), "the order gets its answer: {answer:?}");
    assert!(duet.seats[ALICE].logged("peer fault") > 0, "{:?}", duet.seats[ALICE].log);
    for seat in [ALICE, BOB] {
        assert_eq!(duet.seats[seat].node.channels().count(), 0);
        assert_eq!(duet.seats[seat].wallet.reserved(), 0);
    }
    assert!(duet.chain.mempool.is_empty());
    duet.settle();
    duet.open(Open::default());
    duet.judge_agreement();
}

#[test]
fn a_flood_of_feerates_is_kept_in_little() {
    let mut duet = Duet::opened(212, Open::default());
    let (before, peer, link, id) = (balances(&duet), duet.id(ALICE), LinkId(duet.links()), duet.channel_id());
    let said = |number: u32| Input::Message { peer, link, message: fee(id, 1_000 + number % 2) };
    duet.step(BOB, (0..3_000).map(said).collect());
    let kept = duet.channel(BOB).ledger.fees.len();
    assert!(kept <= 16, "{kept} changes of the feerate are kept");
    duet.settle();
    duet.must(ALICE, Command::DevFeerate { channel: ChannelRef::Id(id), feerate: Feerate(1_500) });
    duet.restart(BOB);
    unharmed(&mut duet, before);
    for seat in [ALICE, BOB] {
        assert_eq!(duet.channel(seat).feerate(), Feerate(1_500));
    }
    duet.pay(ALICE, "after", 10_000_000);
}

#[test]
fn a_clock_set_back_does_not_stop_time() {
    let mut duet = Duet::opened(98, Open::default());
    let true_now = duet.now;
    duet.now = true_now.plus_ms(3_600_000);
    duet.run();
    duet.reachable = false;
    duet.cut(None);
    // A call fails: the next one has a deadline by the wrong clock.
    duet.wait_ms(1_000);
    duet.now = true_now;
    let destination = duet.id(BOB);
    let order = Command::Keysend {
        destination,
        amount_msat: Msat(1_000),
        label: None,
        retry_for_s: 20,
        limits: RouteLimits::default(),
    };
    let id = duet.tell(ALICE, order);
    duet.wait_ms(30_000);
    let answer = duet.answer(id);
    assert!(matches!(&answer, Some(Err(e)) if e.message.contains("not paid in time")), "{answer:?}");
    duet.reachable = true;
    duet.settle();
    duet.pay(ALICE, "after", 5_000);
}
