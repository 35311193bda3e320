//! Cooperative closing transactions: both forms, run by Bitcoin's own code, and the scripts `shutdown` may carry.

use super::{channel_secrets, consensus};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, PubkeyHash, ScriptBuf, ScriptHash, TxOut};
use chand_protocol::id::Side;
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::tx::close::{
    build_close, build_simple_close, close_weight, closee_choice, closer_offers, may_accept_shutdown,
    may_send_shutdown, Close, CloseError, CloseOutputs, CloseTerms,
};
use chand_protocol::tx::script;
use chand_protocol::tx::standard::standard;
use chand_protocol::units::{Feerate, Msat, Sat};

fn terms(crypto: &RealCrypto, to_local: u64) -> CloseTerms {
    let (alice, bob) = (channel_secrets(0x11), channel_secrets(0x21));
    let (ours, theirs) = (alice.basepoints(crypto.secp()), bob.basepoints(crypto.secp()));
    CloseTerms {
        funding: OutPoint { txid: "07".repeat(32).parse().expect("a txid"), vout: 0 },
        capacity: Sat(100_000),
        local_funding_pubkey: ours.funding_pubkey,
        remote_funding_pubkey: theirs.funding_pubkey,
        to_local: Msat(to_local),
        to_remote: Msat(100_000_000 - to_local),
        local_script: script::p2wpkh(&ours.payment_basepoint),
        remote_script: script::p2wsh(&ScriptBuf::from_bytes(vec![0x51])),
    }
}

fn op_return() -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x6a, 6][..], b"chand!"].concat())
}

/// Signs, runs, and compares with the expected weight.
fn check(crypto: &RealCrypto, terms: &CloseTerms, close: &Close) {
    let digest = close.sighash();
    let local = crypto.sign(&digest, &channel_secrets(0x11).funding);
    let remote = crypto.sign(&digest, &channel_secrets(0x21).funding);
    assert!(crypto.verify(&digest, &remote, &terms.remote_funding_pubkey));
    let tx = close.with_signatures(&local, &remote);
    let funding = script::funding(&terms.local_funding_pubkey, &terms.remote_funding_pubkey);
    let spent = [TxOut { value: Amount::from_sat(terms.capacity.0), script_pubkey: script::p2wsh(&funding) }];
    assert_eq!(consensus(&tx, &spent), Ok(()));
    assert_eq!(standard(&tx, &spent, Feerate(253)), Ok(()));
    let outputs: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    assert_eq!(outputs + close.fee.0, terms.capacity.0);
    let expected = close_weight(tx.output.iter().map(|output| output.script_pubkey.as_script()));
    let real = tx.weight().to_wu();
    assert!(expected >= real && expected - real <= 8, "expected {expected}, is {real}");
    for (vout, script) in [(close.local_vout, &terms.local_script), (close.remote_vout, &terms.remote_script)]
    {
        if let Some(vout) = vout {
            assert_eq!(tx.output[vout as usize].script_pubkey, *script);
        }
    }
    let swapped = close.with_signatures(&remote, &local);
    assert!(consensus(&swapped, &spent).is_err());
}

#[test]
fn legacy_close_pays_both_or_one() {
    // BOLT 3 [3.close.1, 3.close.2, 3.close.3].
    let crypto = RealCrypto::new();
    let terms = terms(&crypto, 30_000_999);
    let values =
        |close: &Close| close.tx.output.iter().map(|output| output.value.to_sat()).collect::<Vec<_>>();
    let close = build_close(&terms, Side::Local, Sat(1_000), Sat(354), None).expect("a close");
    assert_eq!(values(&close), [29_000, 69_999]);
    assert_eq!((close.local_vout, close.remote_vout, close.fee), (Some(0), Some(1), Sat(1_001)));
    assert_eq!(close.tx.input[0].sequence.0, 0xffff_ffff);
    assert_eq!(close.tx.lock_time.to_consensus_u32(), 0);
    check(&crypto, &terms, &close);

    let close = build_close(&terms, Side::Remote, Sat(45_000), Sat(354), None).expect("a close");
    assert_eq!((values(&close), close.local_vout), (vec![24_999, 30_000], Some(1)));
    check(&crypto, &terms, &close);
    let close = build_close(&terms, Side::Remote, Sat(1_000), Sat(354), Some(Side::Local)).expect("a close");
    assert_eq!((values(&close), close.local_vout), (vec![68_999], None));
    check(&crypto, &terms, &close);
    let close = build_close(&terms, Side::Local, Sat(29_700), Sat(354), None).expect("a close");
    assert_eq!((values(&close), close.local_vout), (vec![69_999], None), "300 sat are below the limit");
    let close = build_close(&terms, Side::Local, Sat(29_700), Sat(300), None).expect("a close");
    assert_eq!(values(&close), [300, 69_999], "the limit itself is enough");
    let close = build_close(&terms, Side::Local, Sat(29_700), Sat(200), None).expect("a close");
    assert!(!close.has_dust() && close.tx.output.len() == 2, "300 sat are enough for P2WPKH");
    let close = build_close(&terms, Side::Local, Sat(29_750), Sat(200), None).expect("a close");
    assert!(close.has_dust(), "250 are not");
}

#[test]
fn equal_amounts_are_ordered_by_script() {
    let crypto = RealCrypto::new();
    let mut terms = terms(&crypto, 50_000_000);
    // The script of 22 bytes starts with 00 14, that of 34 with 00 20.
    for local_vout in [0, 1] {
        let close = build_close(&terms, Side::Local, Sat(0), Sat(354), None).expect("a close");
        assert_eq!((close.local_vout, close.remote_vout), (Some(local_vout), Some(1 - local_vout)));
        std::mem::swap(&mut terms.local_script, &mut terms.remote_script);
    }
}

#[test]
fn impossible_closes_are_refused() {
    // BOLT 2 [2.simple.16].
    let crypto = RealCrypto::new();
    let terms = terms(&crypto, 30_000_999);
    let legacy = |fee, omit| build_close(&terms, Side::Local, Sat(fee), Sat(354), omit).err();
    assert_eq!(legacy(30_001, None), Some(CloseError::Fee));
    assert_eq!(legacy(30_000, Some(Side::Remote)), Some(CloseError::NoOutput));
    let mut wrong = terms.clone();
    wrong.to_remote = Msat(terms.to_remote.0 + 1);
    assert_eq!(build_close(&wrong, Side::Local, Sat(0), Sat(354), None).err(), Some(CloseError::Sum));
    wrong.to_remote = Msat(u64::MAX);
    let simple = |terms: &CloseTerms, fee| {
        build_simple_close(terms, Side::Local, Sat(fee), 0, CloseOutputs::Both).err()
    };
    assert_eq!(simple(&wrong, 0), Some(CloseError::Sum));
    assert_eq!(simple(&terms, 30_001), Some(CloseError::Fee));
    assert_eq!(closer_offers(&terms, Side::Local, Sat(30_001)), Err(CloseError::Fee));
    assert_eq!(closee_choice(&terms, Side::Local, Sat(30_001), true), Err(CloseError::Fee));
}

#[test]
fn simple_close_has_three_variants() {
    // BOLT 3 [3.simple.1, 3.simple.2].
    let crypto = RealCrypto::new();
    let terms = terms(&crypto, 30_000_999);
    let build = |which| build_simple_close(&terms, Side::Local, Sat(1_000), 800_000, which).expect("a close");
    let both = build(CloseOutputs::Both);
    assert_eq!((both.local_vout, both.remote_vout, both.fee), (Some(0), Some(1), Sat(1_001)));
    assert_eq!(both.tx.input[0].sequence.0, 0xffff_fffd);
    assert_eq!(both.tx.lock_time.to_consensus_u32(), 800_000);
    let closer = build(CloseOutputs::CloserOnly);
    assert_eq!((closer.local_vout, closer.remote_vout), (Some(0), None));
    let closee = build(CloseOutputs::CloseeOnly);
    assert_eq!((closee.local_vout, closee.remote_vout), (None, Some(0)));
    for close in [&both, &closer, &closee] {
        check(&crypto, &terms, close);
    }
    let theirs =
        build_simple_close(&terms, Side::Remote, Sat(1_000), 0, CloseOutputs::CloserOnly).expect("a close");
    assert_eq!((theirs.local_vout, theirs.remote_vout), (None, Some(0)));
    assert_eq!(theirs.tx.output[0].value.to_sat(), 68_999);
}

#[test]
fn op_return_outputs_are_worth_nothing() {
    // BOLT 2, 3 [3.simple.3, 2.simple.9, 2.simple.17].
    let crypto = RealCrypto::new();
    let mut terms = terms(&crypto, 60_000_000);
    terms.local_script = op_return();
    let close = build_simple_close(&terms, Side::Local, Sat(60_000), 0, CloseOutputs::Both).expect("a close");
    assert_eq!(close.tx.output[0].value.to_sat(), 0);
    assert_eq!((close.local_vout, close.fee), (Some(0), Sat(60_000)));
    assert!(!close.has_dust());
    check(&crypto, &terms, &close);
    let offers = closer_offers(&terms, Side::Local, Sat(60_000));
    assert_eq!(offers, Ok(&[CloseOutputs::CloserOnly, CloseOutputs::Both][..]));
}

#[test]
fn closer_and_closee_agree_on_the_variant() {
    // BOLT 2 [2.simple.2, 2.simple.6, 2.simple.7, 2.simple.8, 2.simple.10, 2.simple.11, 2.simple.12, 2.simple.19, 2.simple.21, 2.simple.22].
    let crypto = RealCrypto::new();
    let offers = |to_local, fee| closer_offers(&terms(&crypto, to_local), Side::Local, Sat(fee));
    let whole = 100_000_000;
    assert_eq!(offers(60_000_000, 500), Ok(&[CloseOutputs::CloserOnly, CloseOutputs::Both][..]));
    assert_eq!(offers(whole - 200_000, 500), Ok(&[CloseOutputs::CloserOnly][..]), "the closee has dust");
    assert_eq!(offers(40_000_000, 500), Ok(&[CloseOutputs::Both][..]), "the lesser keeps its output");
    assert_eq!(offers(700_000, 500), Ok(&[CloseOutputs::CloseeOnly][..]), "the lesser's is dust");
    assert_eq!(offers(whole, 99_900), Ok(&[][..]), "nothing but dust");
    assert_eq!(offers(60_000_000, 59_900), Ok(&[][..]), "dust that may not be left out");

    let choice =
        |to_local, has_both| closee_choice(&terms(&crypto, to_local), Side::Remote, Sat(500), has_both);
    assert_eq!(choice(200_000, true), Ok(CloseOutputs::CloserOnly), "our own output is dust");
    assert_eq!(choice(60_000_000, true), Ok(CloseOutputs::Both));
    assert_eq!(choice(60_000_000, false), Ok(CloseOutputs::CloseeOnly));
    for to_local in (0..=whole).step_by(777_777) {
        let terms = terms(&crypto, to_local);
        let Ok(offers) = closer_offers(&terms, Side::Remote, Sat(500)) else { continue };
        let Some(_) = offers.first() else { continue };
        let both = offers.contains(&CloseOutputs::Both);
        let choice = closee_choice(&terms, Side::Remote, Sat(500), both).expect("the closer can pay");
        assert!(offers.contains(&choice), "the closee's choice is one that was signed: {to_local}");
    }
}

#[test]
fn shutdown_scripts() {
    // BOLT 2 [2.shutdown.8].
    let program = |version: u8, length: u8| {
        ScriptBuf::from_bytes([vec![version, length], vec![7; usize::from(length)]].concat())
    };
    let send = |script: &ScriptBuf| {
        [(false, false), (true, false), (false, true)]
            .map(|(any, simple)| may_send_shutdown(script, any, simple))
    };
    assert_eq!(send(&program(0, 20)), [true; 3]);
    assert_eq!(send(&program(0, 32)), [true; 3]);
    assert_eq!(send(&program(0, 21)), [false; 3]);
    for version in 0x51..=0x60 {
        assert_eq!(send(&program(version, 2)), [false, true, false]);
        assert_eq!(send(&program(version, 40)), [false, true, false]);
        assert_eq!(send(&program(version, 41)), [false; 3]);
        assert_eq!(send(&program(version, 1)), [false; 3]);
    }
    assert_eq!(send(&program(0x61, 32)), [false; 3]);
    let mut longer = program(0x51, 32).into_bytes();
    longer.push(0);
    assert_eq!(send(&ScriptBuf::from_bytes(longer)), [false; 3]);

    let data = |head: &[u8], length: usize| ScriptBuf::from_bytes([head, &vec![7; length]].concat());
    assert_eq!(send(&op_return()), [false, false, true]);
    assert_eq!(send(&data(&[0x6a, 5], 5)), [false; 3]);
    assert_eq!(send(&data(&[0x6a, 75], 75)), [false, false, true]);
    assert_eq!(send(&data(&[0x6a, 75], 74)), [false; 3]);
    assert_eq!(send(&data(&[0x6a, 76, 76], 76)), [false, false, true]);
    assert_eq!(send(&data(&[0x6a, 76, 80], 80)), [false, false, true]);
    assert_eq!(send(&data(&[0x6a, 76, 81], 81)), [false; 3]);
    assert_eq!(send(&data(&[0x6a, 76, 75], 75)), [false; 3]);
    assert_eq!(send(&data(&[0x6a], 0)), [false; 3]);
    assert_eq!(send(&ScriptBuf::new()), [false; 3]);

    let old = [
        ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array([1; 20])),
        ScriptBuf::new_p2sh(&ScriptHash::from_byte_array([1; 20])),
    ];
    for script in old {
        assert_eq!(send(&script), [false; 3], "not to be sent");
        assert!(may_accept_shutdown(&script, false, false), "but taken from an old node");
    }
    assert!(may_accept_shutdown(&program(0, 20), false, false));
    assert!(!may_accept_shutdown(&op_return(), true, false));
}
