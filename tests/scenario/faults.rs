//! A peer that does wrong: each fault has its verdict, and no money moves.

use chand_protocol::channel::Phase;
use chand_protocol::id::{ChannelId, LinkId, NodeId};
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::effect::Input;
use chand_protocol::units::{Feerate, Height, Msat};
use chand_protocol::wire::features::Features;
use chand_protocol::wire::message::{
    ErrorMessage, Init, OpenChannel, RevokeAndAck, Shutdown, UpdateFailHtlc, UpdateFee, UpdateFulfillHtlc,
};
use chand_protocol::wire::Message;
use chand_tests::duet::play::{pay, preimage, request, Open};
use chand_tests::duet::{crypto, Duet, Mangle, ALICE, BOB};
use secp256k1::ecdsa::Signature;
use secp256k1::SecretKey;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a key")
}

fn forged() -> Signature {
    crypto().sign(&[3; 32], &key(3))
}

fn wrong_signature(message: Message) -> Option<Message> {
    let Message::CommitmentSigned(mut m) = message else { return None };
    m.signature = forged();
    Some(Message::CommitmentSigned(m))
}

fn wrong_htlc_signature(message: Message) -> Option<Message> {
    let Message::CommitmentSigned(mut m) = message else { return None };
    *m.htlc_signatures.first_mut()? = forged();
    Some(Message::CommitmentSigned(m))
}

fn missing_htlc_signature(message: Message) -> Option<Message> {
    let Message::CommitmentSigned(mut m) = message else { return None };
    m.htlc_signatures.pop()?;
    Some(Message::CommitmentSigned(m))
}

fn id_out_of_order(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.id += 1;
    Some(Message::UpdateAddHtlc(m))
}

fn other_amount(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.amount_msat = Msat(m.amount_msat.0 - 1);
    Some(Message::UpdateAddHtlc(m))
}

fn too_much(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.amount_msat = Msat(599_999_999);
    Some(Message::UpdateAddHtlc(m))
}

fn expiry_is_a_time(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.cltv_expiry.0 = 500_000_000;
    Some(Message::UpdateAddHtlc(m))
}

#[test]
fn what_can_be_said_again_costs_only_the_link() {
    // BOLT 2 [2.add.5, 2.commit.9, 2.commit.10, 2.commit.11].
    let faults: [fn(Message) -> Option<Message>; 7] = [
        wrong_signature,
        wrong_htlc_signature,
        missing_htlc_signature,
        id_out_of_order,
        other_amount,
        too_much,
        expiry_is_a_time,
    ];
    for (number, change) in faults.into_iter().enumerate() {
        let mut duet = Duet::opened(90, Open::default());
        let links = duet.links();
        duet.mangle = Some(Mangle { from: ALICE, change, times: 1 });
        let invoice = duet.invoice(BOB, request("one", Some(10_000_000)));
        let id = duet.tell(ALICE, pay(&invoice.bolt11, None));
        duet.settle();
        assert_eq!(duet.links(), links + 1, "fault {number} breaks the link once");
        assert_eq!(duet.seats[BOB].logged("peer fault"), 1);
        let answer = duet.answer(id);
        assert!(matches!(answer, Some(Ok(Reply::Paid(_)))), "fault {number}: {answer:?}");
        assert_eq!(duet.balance_msat(BOB), 410_000_000);
        duet.judge_agreement();
        duet.judge_peace();
    }
}

fn bad_onion(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.onion_routing_packet.hmac[0] ^= 1;
    Some(Message::UpdateAddHtlc(m))
}

fn onion_of_another_version(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.onion_routing_packet.version = 1;
    Some(Message::UpdateAddHtlc(m))
}

fn onion_without_key(message: Message) -> Option<Message> {
    let Message::UpdateAddHtlc(mut m) = message else { return None };
    m.onion_routing_packet.public_key = [9; 33];
    Some(Message::UpdateAddHtlc(m))
}

#[test]
fn an_onion_that_cannot_be_read_goes_back_as_malformed() {
    // BOLT 2, 4 [2.add.18, 4.version.1, 4.version.2, 4.peel.1, 4.peel.2, 4.peel.5].
    for change in [bad_onion, onion_of_another_version, onion_without_key] {
        let mut duet = Duet::opened(91, Open::default());
        let invoice = duet.invoice(BOB, request("one", Some(10_000_000)));
        duet.mangle = Some(Mangle { from: ALICE, change, times: 1 });
        let links = duet.links();
        let error = duet.must_not_move(ALICE, pay(&invoice.bolt11, None));
        assert!(error.message.contains("invalid_onion"), "{error}");
        assert_eq!(duet.links(), links);
        duet.must(ALICE, pay(&invoice.bolt11, None));
        assert_eq!(duet.balance_msat(BOB), 410_000_000);
        duet.judge_agreement();
    }
}

fn wrong_preimage(message: Message) -> Option<Message> {
    let Message::UpdateFulfillHtlc(mut m) = message else { return None };
    m.payment_preimage = [1; 32];
    Some(Message::UpdateFulfillHtlc(m))
}

fn wrong_secret(message: Message) -> Option<Message> {
    let Message::RevokeAndAck(mut m) = message else { return None };
    m.per_commitment_secret = key(7);
    Some(Message::RevokeAndAck(m))
}

#[test]
fn what_breaks_the_channel_closes_it_with_our_newest_commitment() {
    // BOLT 1, 2 [1.error.5, 1.error.7, 2.remove.6, 2.revoke.4].
    for change in [wrong_preimage, wrong_secret] {
        for anchors in [true, false] {
            let mut duet = Duet::opened(92, Open { anchors, ..Open::default() });
            duet.pay(ALICE, "before", 20_000_000);
            // Alice's commitment is valid; Bob, told to fail too, comes second with his.
            duet.expected_errors =
                vec!["the peer reports an error", "txn-mempool-conflict", "closed by force"];
            duet.mangle = Some(Mangle { from: BOB, change, times: 1 });
            let invoice = duet.invoice(BOB, request("one", Some(10_000_000)));
            let id = duet.tell(ALICE, pay(&invoice.bolt11, None));
            duet.run();
            let Phase::Onchain(alice) = duet.channel(ALICE).phase.clone() else { panic!("not closed") };
            assert!(duet.chain.mempool.iter().any(|tx| tx.compute_txid() == alice.txid));
            assert!(matches!(duet.channel(BOB).phase, Phase::Onchain(_)));
            assert_eq!(duet.balance_msat(ALICE), 580_000_000, "nothing moved");
            assert!(!matches!(duet.answer(id), Some(Ok(_))), "nobody was told that it is paid");
            duet.mine(1);
            assert!(duet.chain.is_confirmed(&alice.txid));
            for seat in [ALICE, BOB] {
                duet.restart(seat);
            }
            duet.wait_ms(20_000);
            assert!(duet.channel(BOB).spent_height().is_some());
        }
    }
}

#[test]
fn messages_out_of_place_change_nothing() {
    // BOLT 1, 2 [1.error.8, 2.remove.5, 2.fee.3, 2.fee.4].
    let mut duet = Duet::opened(93, Open::default());
    duet.pay_held(ALICE, 1, 10_000_000);
    let id = duet.channel_id();
    let elsewhere = ChannelId([5; 32]);
    let point = key(9).public_key(crypto().secp());
    let secret =
        RevokeAndAck { channel_id: id, per_commitment_secret: key(8), next_per_commitment_point: point };
    let fulfill = |channel_id, id, number: u64| {
        Message::UpdateFulfillHtlc(UpdateFulfillHtlc { channel_id, id, payment_preimage: preimage(number).0 })
    };
    // (from, message, whether the link breaks)
    let cases: Vec<(usize, Message, bool)> = vec![
        (BOB, fulfill(elsewhere, 0, 1), false),
        (BOB, fulfill(id, 7, 1), true),
        // Alice did not receive this HTLC, she offered it.
        (ALICE, fulfill(id, 0, 1), true),
        (
            BOB,
            Message::UpdateFailHtlc(UpdateFailHtlc { channel_id: id, id: 0, reason: vec![0; 50_000] }),
            true,
        ),
        (BOB, Message::RevokeAndAck(secret), true),
        (BOB, Message::UpdateFee(UpdateFee { channel_id: id, feerate_per_kw: Feerate(1_000) }), true),
        (ALICE, Message::UpdateFee(UpdateFee { channel_id: id, feerate_per_kw: Feerate(100) }), true),
        (ALICE, Message::UpdateFee(UpdateFee { channel_id: id, feerate_per_kw: Feerate(4_000_000) }), true),
        (BOB, Message::Shutdown(Shutdown { channel_id: id, scriptpubkey: bitcoin::ScriptBuf::new() }), true),
        (BOB, Message::Warning(ErrorMessage::new(ChannelId::ALL, "only a warning")), false),
        (BOB, Message::Error(ErrorMessage::new(elsewhere, "about no channel")), false),
    ];
    duet.expected_errors = vec!["the peer reports an error"];
    for (number, (from, message, breaks)) in cases.into_iter().enumerate() {
        let links = duet.links();
        duet.inject(from, &message);
        duet.settle();
        assert_eq!(duet.links() > links, breaks, "case {number}: {message:?}");
        duet.judge_agreement();
        duet.judge_peace();
        assert_eq!(duet.balance_msat(ALICE), 600_000_000);
        assert_eq!(duet.channel(ALICE).ledger.htlcs.len(), 1);
    }
    duet.must(BOB, Command::SettleInvoice { preimage: preimage(1) });
    assert_eq!(duet.balance_msat(BOB), 410_000_000);
    duet.close(ALICE);
}

#[test]
fn what_a_peer_said_and_never_signed_is_forgotten_with_the_link() {
    // BOLT 2 [2.again.4].
    let mut duet = Duet::opened(98, Open::default());
    let channel_id = duet.channel_id();
    let fee = UpdateFee { channel_id, feerate_per_kw: Feerate(2_000) };
    duet.inject(ALICE, &Message::UpdateFee(fee));
    assert_eq!(duet.channel(BOB).ledger.fees.len(), 1);
    duet.cut(None);
    duet.settle();
    assert!(duet.channel(BOB).ledger.fees.is_empty());
    duet.pay(ALICE, "after", 1_000_000);
    assert_eq!(duet.channel(BOB).feerate(), Feerate(1_000));
    duet.judge_agreement();
    duet.close(ALICE);
}

/// Brings Carol to Bob's door: a peer that exists only as messages.
fn carol(duet: &mut Duet) -> (NodeId, LinkId) {
    let carol = NodeId(key(0x55).public_key(crypto().secp()));
    let link = LinkId(77_777);
    let linked = Input::Linked { peer: carol, link, inbound: true, address: "127.0.0.1:1".into() };
    duet.step(BOB, vec![linked]);
    let init = Message::Init(Init { features: Features::ours_init(false), networks: None });
    duet.step(BOB, vec![Input::Message { peer: carol, link, message: init }]);
    (carol, link)
}

#[test]
fn one_peer_cannot_touch_the_channel_of_another() {
    // BOLT 1 [1.error.7].
    let mut duet = Duet::opened(94, Open::default());
    let (peer, link) = carol(&mut duet);
    let id = duet.channel_id();
    let point = key(6).public_key(crypto().secp());
    let open = |chain_hash| {
        Message::OpenChannel(OpenChannel {
            chain_hash,
            temporary_channel_id: id,
            funding_satoshis: chand_protocol::units::Sat(100_000),
            push_msat: Msat(0),
            dust_limit_satoshis: chand_protocol::units::Sat(1),
            max_htlc_value_in_flight_msat: Msat(1_000),
            channel_reserve_satoshis: chand_protocol::units::Sat(1_000),
            htlc_minimum_msat: Msat(1),
            feerate_per_kw: Feerate(1_000),
            to_self_delay: 6,
            max_accepted_htlcs: 483,
            funding_pubkey: point,
            revocation_basepoint: point,
            payment_basepoint: point,
            delayed_payment_basepoint: point,
            htlc_basepoint: point,
            first_per_commitment_point: point,
            channel_flags: 0,
            upfront_shutdown_script: None,
            channel_type: Some(Features::of(&[12])),
        })
    };
    duet.expected_errors = vec!["the peer reports an error"];
    let regtest = chand_protocol::chain::Network::Regtest.chain_hash();
    let messages = [
        open([1; 32]),
        open(regtest),
        Message::Error(ErrorMessage::new(id, "close it")),
        Message::Error(ErrorMessage::new(ChannelId::ALL, "close all")),
        Message::Shutdown(Shutdown { channel_id: id, scriptpubkey: bitcoin::ScriptBuf::new() }),
        Message::UpdateFee(UpdateFee { channel_id: id, feerate_per_kw: Feerate(1) }),
    ];
    for message in messages {
        duet.step(BOB, vec![Input::Message { peer, link, message }]);
        duet.run();
        duet.judge_peace();
    }
    duet.pay(ALICE, "as before", 1_000_000);
    duet.judge_agreement();
}

#[test]
fn an_old_copy_of_the_database_is_noticed_and_its_commitment_never_published() {
    // BOLT 2 [2.again.30, 2.revoke.5].
    let mut duet = Duet::opened(95, Open::default());
    duet.pay(ALICE, "one", 10_000_000);
    let old = duet.seats[ALICE].store.durable();
    for number in 0..3 {
        duet.pay(BOB, &format!("{number}"), 50_000_000);
    }
    duet.expected_errors =
        vec!["later state", "peer reports an error", "may be old", "lost state", "refused"];
    duet.check_every = 0;
    duet.restore_old(ALICE, old);
    duet.run();
    duet.wait_ms(1_000);
    assert!(duet.channel(ALICE).doubt);
    assert!(!matches!(duet.channel(ALICE).phase, Phase::Onchain(_)));
    // Bob closes with his newest, in which Alice has all that is hers.
    let Phase::Onchain(bob) = duet.channel(BOB).phase.clone() else { panic!("Bob did not close") };
    assert!(duet.chain.mempool.iter().any(|tx| tx.compute_txid() == bob.txid));
    let theirs = duet.chain.mempool.iter().find(|tx| tx.compute_txid() == bob.txid).cloned();
    let largest = theirs.map(|tx| tx.output.iter().map(|o| o.value.to_sat()).max());
    assert!(largest.flatten().is_some_and(|sat| sat > 735_000), "{largest:?}");
    // Not even when the user insists.
    let fail = Command::DevFail { channel: chand_protocol::node::command::ChannelRef::Id(duet.channel_id()) };
    let refused = duet.must_fail(ALICE, fail);
    assert!(refused.message.contains("may be old"), "{refused:?}");
    assert_eq!(duet.chain.mempool.len(), 1);
    let view = duet.channel(ALICE).view(Height(duet.chain.height()));
    assert_eq!((view.state.name(), view.spendable_msat.0), ("AWAITING_UNILATERAL", 0));
    let before = duet.chain.money_of(&duet.seats[ALICE].wallet.script);
    duet.mine(1);
    assert!(duet.channel(ALICE).spent_height().is_some());
    // Her output needs no secret of that state: it is hers a block later.
    duet.mine(1);
    let gained = duet.chain.money_of(&duet.seats[ALICE].wallet.script) - before;
    assert!(gained > 730_000, "{gained}");
    // What the list says is hers is what the chain gave, not what the old copy thought.
    let Reply::ClosedChannels(closed) = duet.must(ALICE, Command::ListClosedChannels { peer: None }) else {
        panic!("a list")
    };
    assert!(closed[0].final_to_us_msat.0 > 730_000_000, "{}", closed[0].final_to_us_msat.0);
}

#[test]
fn a_database_that_is_known_to_be_old_puts_every_channel_in_doubt_for_good() {
    for told in [true, false] {
        let mut duet = Duet::with(97, |seat, config| config.restored = told && seat == ALICE);
        // The judge makes her anew at each step, which would be a start with that setting.
        duet.check_every = 0;
        duet.connect();
        duet.open(Open::default());
        duet.pay(ALICE, "one", 10_000_000);
        assert!(!duet.channel(ALICE).doubt, "what is opened later is in no doubt");
        let before = duet.seats[ALICE].store.durable();
        duet.expected_errors = vec!["may be old", "lost state", "peer reports an error", "refused"];
        // Her peer is away, so that nobody can prove anything.
        duet.reachable = false;
        duet.cut(None);
        duet.check_every = 1;
        duet.restart(ALICE);
        duet.run();
        assert_eq!(duet.channel(ALICE).doubt, told);
        assert!(!told || duet.seats[ALICE].store.durable() != before, "it is not kept");
        assert_eq!(duet.seats[ALICE].logged("taken for an old copy: 1 channels"), usize::from(told));
        let channel = chand_protocol::node::command::ChannelRef::Id(duet.channel_id());
        duet.ask(ALICE, Command::DevFail { channel });
        assert_eq!(duet.chain.mempool.is_empty(), told);
        if told {
            // Bob has nothing newer, and is asked all the same.
            duet.reachable = true;
            duet.wait_ms(60_000);
            let Phase::Onchain(bob) = duet.channel(BOB).phase.clone() else { panic!("Bob did not close") };
            assert!(duet.chain.mempool.iter().any(|tx| tx.compute_txid() == bob.txid));
            let before = duet.chain.money_of(&duet.seats[ALICE].wallet.script);
            duet.mine(2);
            assert!(duet.chain.money_of(&duet.seats[ALICE].wallet.script) > before + 500_000);
        }
    }
}

#[test]
fn an_old_copy_is_noticed_even_when_the_peer_closed_by_force_meanwhile() {
    // BOLT 2 [2.again.30, 2.revoke.5].
    let mut duet = Duet::opened(97, Open::default());
    duet.pay(ALICE, "one", 10_000_000);
    let old = duet.seats[ALICE].store.durable();
    duet.pay(BOB, "two", 50_000_000);
    duet.expected_errors =
        vec!["later state", "peer reports an error", "may be old", "not built yet", "refused"];
    duet.check_every = 0;
    duet.reachable = false;
    duet.cut(None);
    duet.must(BOB, Command::DevFail { channel: ChannelRef::Id(duet.channel_id()) });
    duet.restore_old(ALICE, old);
    duet.reachable = true;
    duet.run();
    duet.wait_ms(60_000);
    // Bob's error alone would have made her publish what she revoked.
    assert!(duet.channel(ALICE).doubt);
    assert!(!matches!(duet.channel(ALICE).phase, Phase::Onchain(_)));
    let Phase::Onchain(bob) = duet.channel(BOB).phase.clone() else { panic!("Bob did not close") };
    let waiting: Vec<_> = duet.chain.mempool.iter().map(|tx| tx.compute_txid()).collect();
    assert_eq!(waiting, [bob.txid]);
}

#[test]
fn a_fault_that_comes_again_each_time_is_no_endless_loop() {
    let mut duet = Duet::opened(96, Open::default());
    duet.mangle = Some(Mangle { from: ALICE, change: wrong_signature, times: u32::MAX });
    let invoice = duet.invoice(BOB, request("one", Some(10_000_000)));
    let id = duet.tell(ALICE, pay(&invoice.bolt11, None));
    let links = duet.links();
    duet.wait_ms(60_000);
    let tries = duet.links() - links;
    assert!((3..40).contains(&tries), "{tries} links in a minute");
    duet.judge_peace();
    // Once Alice does right again, all goes on.
    duet.mangle = None;
    duet.settle();
    duet.wait_ms(20_000);
    assert!(matches!(duet.answer(id), Some(Ok(Reply::Paid(_)))));
    duet.judge_agreement();
}

#[test]
fn a_peer_that_says_nothing_is_hung_up_on() {
    let mut duet = Duet::opened(97, Open::default());
    let (_, link) = carol(&mut duet);
    let _ = link;
    duet.wait_ms(60_000);
    assert_eq!(duet.seats[BOB].logged("peer fault"), 0);
    assert!(duet.is_linked(), "Alice answered her pings");
    let reply = duet.must(BOB, Command::ListPeers { peer: None });
    let Reply::Peers(list) = reply else { panic!("{reply:?}") };
    assert_eq!(list.len(), 1, "Carol is gone");
}
