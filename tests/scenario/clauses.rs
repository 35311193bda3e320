//! MUSTs that nothing else tests: a message that breaks one of them, and what the specification wants to follow.
//!
//! Read next: `faults2`, `docs/SPEC.md`.

use chand_protocol::channel::Phase;
use chand_protocol::id::Side;
use chand_protocol::node::command::{ChannelRef, Command, Reply, RouteHop};
use chand_protocol::tx::close::{build_simple_close, CloseOutputs, CloseTerms};
use chand_protocol::units::{Feerate, Msat, Sat};
use chand_protocol::wire::features::{Feature, Features};
use chand_protocol::wire::message::{ClosingComplete, Ping};
use chand_protocol::wire::Message;
use chand_tests::duet::play::{request, Open};
use chand_tests::duet::{crypto, Duet, Mangle, ALICE, BOB};
use secp256k1::ecdsa::Signature;
use secp256k1::SecretKey;

/// A duet that is about to open, with option_simple_close or without.
fn connected(seed: u64, simple: bool) -> Duet {
    let mut duet = Duet::with(seed, |_, config| config.simple_close = simple);
    duet.connect();
    duet
}

/// An opening of which one message of `from` is changed: the other side says `what`, and nothing is left of it.
fn refused(from: usize, change: fn(Message) -> Option<Message>, what: &str) {
    let mut duet = connected(400, false);
    duet.expected_errors = vec!["the peer reports an error"];
    duet.mangle = Some(Mangle { from, change, times: 1 });
    let order = duet.fund_order(ALICE, Open { push_msat: 0, ..Open::default() });
    let id = duet.tell(ALICE, order);
    duet.run();
    let answer = duet.answer(id);
    assert!(matches!(answer, Some(Err(_))), "{what}: {answer:?}");
    assert_eq!(duet.seats[1 - from].logged(what), 1, "{what}: {:?}", duet.seats[1 - from].log);
    for seat in [ALICE, BOB] {
        assert_eq!(duet.seats[seat].node.channels().count(), 0, "{what}");
        assert_eq!(duet.seats[seat].wallet.reserved(), 0, "{what}");
    }
    assert!(duet.chain.mempool.is_empty(), "{what}");
    duet.settle();
    duet.open(Open::default());
}

macro_rules! changed {
    ($($name:ident $kind:ident |$m:ident| $change:expr;)*) => {$(
        fn $name(message: Message) -> Option<Message> {
            let Message::$kind(mut $m) = message else { return None };
            $change;
            Some(Message::$kind($m))
        }
    )*};
}

changed! {
    no_type OpenChannel |m| m.channel_type = None;
    odd_type OpenChannel |m| m.channel_type = Some(Features::of(&[Feature::StaticRemotekey.even(), 51]));
    zeroconf OpenChannel |m| m.channel_type = Some(Features::of(&[12, 22, Feature::Zeroconf.even()]));
    other_chain OpenChannel |m| m.chain_hash = [1; 32];
    large_push OpenChannel |m| m.push_msat = Msat(1_000_000_001);
    no_fee OpenChannel |m| m.push_msat = Msat(999_999_000);
    long_delay OpenChannel |m| m.to_self_delay = 2_017;
    many_htlcs OpenChannel |m| m.max_accepted_htlcs = 484;
    low_feerate OpenChannel |m| m.feerate_per_kw = Feerate(252);
    high_feerate OpenChannel |m| m.feerate_per_kw = Feerate(100_001);
    low_dust OpenChannel |m| m.dust_limit_satoshis = Sat(353);
    dust_above_reserve OpenChannel |m| {
        m.channel_reserve_satoshis = Sat(999);
        m.dust_limit_satoshis = Sat(1_000)
    };
    dust_above_ours OpenChannel |m| {
        m.channel_reserve_satoshis = Sat(20_000);
        m.dust_limit_satoshis = Sat(10_001)
    };
    accept_no_type AcceptChannel |m| m.channel_type = None;
    accept_other_type AcceptChannel |m| m.channel_type = Some(Features::of(&[Feature::StaticRemotekey.even()]));
    accept_low_reserve AcceptChannel |m| m.channel_reserve_satoshis = Sat(353);
    accept_high_dust AcceptChannel |m| {
        m.channel_reserve_satoshis = Sat(20_000);
        m.dust_limit_satoshis = Sat(10_001)
    };
    created_forged FundingCreated |m| m.signature = forged();
    signed_forged FundingSigned |m| m.signature = forged();
    all_flags OpenChannel |m| m.channel_flags |= 0xfe;
    close_elsewhere ClosingSig |m| m.closee_scriptpubkey = bitcoin::ScriptBuf::new();
    no_commitment ChannelReestablish |m| m.next_commitment_number = 0;
}

fn forged() -> Signature {
    crypto().sign(&[3; 32], &SecretKey::from_slice(&[3; 32]).expect("a key"))
}

#[test]
fn an_open_channel_that_must_be_refused_is_refused() {
    // BOLT 2 [2.open.16, 2.open.20, 2.open.21, 2.open.22, 2.open.23, 2.open.24, 2.open.26, 2.open.27, 2.open.28].
    // BOLT 2 [2.open.31, 2.open.32, 2.accept.4].
    for change in [no_type, odd_type, zeroconf] {
        refused(ALICE, change, "channel_type must be");
    }
    refused(ALICE, other_chain, "unknown chain");
    refused(ALICE, large_push, "push_msat is more");
    refused(ALICE, no_fee, "cannot pay the first commitment's fee");
    refused(ALICE, long_delay, "to_self_delay above");
    refused(ALICE, many_htlcs, "max_accepted_htlcs must be");
    for change in [low_feerate, high_feerate] {
        refused(ALICE, change, "feerate_per_kw must be");
    }
    for change in [low_dust, dust_above_ours] {
        refused(ALICE, change, "dust_limit_satoshis must be");
    }
    refused(ALICE, dust_above_reserve, "dust_limit_satoshis above channel_reserve_satoshis");
}

#[test]
fn an_accept_channel_that_must_be_refused_is_refused() {
    // BOLT 2 [2.accept.6, 2.accept.8, 2.accept.9].
    for change in [accept_no_type, accept_other_type] {
        refused(BOB, change, "another channel_type");
    }
    refused(BOB, accept_low_reserve, "channel_reserve_satoshis below a dust limit");
    refused(BOB, accept_high_dust, "dust_limit_satoshis must be");
}

#[test]
fn a_first_commitment_that_nobody_signed_makes_no_channel() {
    // BOLT 2 [2.created.6, 2.signed.4, 2.signed.5].
    refused(ALICE, created_forged, "bad signature on the first commitment");
    refused(BOB, signed_forged, "bad signature on the first commitment");
}

#[test]
fn flags_that_mean_nothing_are_ignored() {
    // BOLT 2 [2.open.15].
    let mut duet = connected(401, false);
    duet.mangle = Some(Mangle { from: ALICE, change: all_flags, times: 1 });
    duet.open(Open::default());
    duet.judge_agreement();
}

#[test]
fn a_ping_gets_the_pong_it_asks_for_or_none() {
    // BOLT 1 [1.ping.4, 1.ping.5].
    let mut duet = connected(402, false);
    duet.tracing = true;
    for (num_pong_bytes, answered) in
        [(0, true), (7, true), (65_531, true), (65_532, false), (u16::MAX, false)]
    {
        duet.trace.clear();
        duet.inject(BOB, &Message::Ping(Ping { num_pong_bytes, byteslen: 3 }));
        let said: Vec<Message> =
            duet.trace.iter().filter_map(|(_, bytes)| Message::decode(bytes).ok()).collect();
        let pongs = said.iter().filter(|m| matches!(m, Message::Pong(p) if p.byteslen == num_pong_bytes));
        assert_eq!((pongs.count(), said.len()), (usize::from(answered), usize::from(answered)), "{said:?}");
    }
}

#[test]
fn a_peer_that_knows_no_commitment_loses_the_channel() {
    // BOLT 2 [2.again.22].
    let mut duet = Duet::opened(403, Open::default());
    duet.pay(ALICE, "before", 10_000_000);
    duet.expected_errors = vec!["the peer reports an error", "txn-mempool-conflict", "closed by force"];
    duet.mangle = Some(Mangle { from: ALICE, change: no_commitment, times: 1 });
    duet.cut(None);
    duet.run();
    duet.wait_ms(1_000);
    let Phase::Onchain(bob) = duet.channel(BOB).phase.clone() else { panic!("Bob did not close") };
    let published = duet.chain.mempool.iter().map(bitcoin::Transaction::compute_txid);
    assert!(published.into_iter().any(|txid| txid == bob.txid), "and not with his newest commitment");
}

#[test]
fn a_close_goes_only_where_the_peer_lets_it() {
    // BOLT 2 [2.shutdown.8].
    let p2pkh = [&[0x76, 0xa9, 20][..], &[7; 20], &[0x88, 0xac]].concat();
    let mut duet = Duet::opened(404, Open::default());
    let channel = ChannelRef::Id(duet.channel_id());
    let order = |script: Vec<u8>| Command::Close {
        channel: channel.clone(),
        unilateral_timeout_s: 0,
        destination: Some(script.into()),
        feerange: None,
    };
    let error = duet.must_not_move(ALICE, order(p2pkh.clone()));
    assert_eq!(error.code, -32602, "{error}");
    assert!(matches!(duet.channel(ALICE).phase, Phase::Open));
    let taproot = [&[0x51, 32][..], &[7; 32]].concat();
    let reply = duet.must(ALICE, order(taproot.clone()));
    let Reply::Closed { kind: "mutual", tx: Some(tx) } = reply else { panic!("{reply:?}") };
    assert!(tx.output.iter().any(|o| o.script_pubkey.as_bytes() == taproot));

    let mut duet = connected(405, false);
    let Command::FundChannel {
        peer,
        amount,
        feerate,
        announce,
        push_msat,
        mindepth,
        reserve,
        anchors,
        scid_alias,
        ..
    } = duet.fund_order(ALICE, Open::default())
    else {
        panic!("another order")
    };
    let close_to = Some(p2pkh.into());
    let order = Command::FundChannel {
        peer,
        amount,
        feerate,
        announce,
        push_msat,
        close_to,
        mindepth,
        reserve,
        anchors,
        scid_alias,
    };
    assert_eq!(duet.must_fail(ALICE, order).code, -32602);
}

#[test]
fn a_closing_sig_for_another_script_is_not_taken() {
    // BOLT 2 [2.simple.29].
    let mut duet = connected(406, true);
    duet.open(Open::default());
    duet.mangle = Some(Mangle { from: BOB, change: close_elsewhere, times: 1 });
    let order = duet.close_order();
    duet.tell(ALICE, order);
    duet.wait_ms(5_000);
    assert_eq!(duet.seats[ALICE].logged("peer fault: closing_sig"), 1, "{:?}", duet.seats[ALICE].log);
    duet.judge_close();
}

/// Alice has the greater part and signs two forms: with both outputs, and with hers alone. Bob signs the third.
#[test]
fn a_closing_sig_cannot_leave_out_the_closers_output() {
    // BOLT 2 [2.simple.31].
    let mut duet = connected(407, true);
    duet.open(Open::default());
    duet.tracing = true;
    let order = duet.close_order();
    duet.tell(ALICE, order);
    duet.run();
    let offered = duet.trace.iter().find_map(|(from, bytes)| match Message::decode(bytes) {
        Ok(Message::ClosingComplete(m)) if *from == ALICE => Some(m),
        _ => None,
    });
    let offered = offered.expect("an offer of Alice's");
    assert!(offered.closee_output_only.is_none());
    let terms = &duet.channel(ALICE).terms;
    let close = CloseTerms {
        funding: terms.funding,
        capacity: terms.capacity,
        local_funding_pubkey: terms.local.basepoints.funding_pubkey,
        remote_funding_pubkey: terms.remote.basepoints.funding_pubkey,
        to_local: Msat(600_000_000),
        to_remote: Msat(400_000_000),
        local_script: offered.closer_scriptpubkey.clone(),
        remote_script: offered.closee_scriptpubkey.clone(),
    };
    let (fee, locktime) = (offered.fee_satoshis, offered.locktime);
    let close =
        build_simple_close(&close, Side::Local, fee, locktime, CloseOutputs::CloseeOnly).expect("a close");
    let secrets = duet.seats[BOB].keys().channel_secrets(duet.channel(BOB).terms.key_index);
    let signature = crypto().sign(&close.sighash(), &secrets.funding);
    let answer = ClosingComplete {
        closer_output_only: None,
        closee_output_only: Some(signature),
        closer_and_closee_outputs: None,
        ..offered.clone()
    };
    duet.inject(BOB, &Message::ClosingSig(answer));
    assert_eq!(duet.seats[ALICE].logged("a form that was not offered"), 1, "{:?}", duet.seats[ALICE].log);
    let burnt = close.tx.compute_txid();
    let Phase::Closed(closed) = &duet.channel(ALICE).phase else { panic!("not closed") };
    assert_ne!(closed.tx.compute_txid(), burnt);
    assert!(duet.chain.mempool.iter().all(|tx| tx.compute_txid() != burnt));
    duet.judge_close();
}

#[test]
fn a_payment_by_hand_is_whole_in_its_one_htlc() {
    // BOLT 4 [4.mpp.4, 4.mpp.7].
    let mut duet = Duet::opened(408, Open::default());
    let invoice = duet.invoice(BOB, request("whole", Some(2_000_000)));
    let order = |duet: &Duet, msat: u64| Command::SendPay {
        route: vec![RouteHop { id: duet.id(BOB), channel: None, amount_msat: Msat(msat), delay_blocks: 40 }],
        payment_hash: invoice.payment_hash,
        payment_secret: Some(invoice.payment_secret),
        amount_msat: Some(Msat(2_000_000)),
        label: None,
        bolt11: None,
    };
    for msat in [1_000_000, 2_000_001] {
        let half = order(&duet, msat);
        assert_eq!(duet.must_not_move(ALICE, half).code, -32602);
    }
    let whole = order(&duet, 2_000_000);
    duet.must(ALICE, whole);
    assert_eq!(duet.balance_msat(BOB), 402_000_000);
}
