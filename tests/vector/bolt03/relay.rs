//! The check against relay rules: each rule broken once, on a transaction that else passes.

use super::{channel_secrets, consensus};
use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::tx::script;
use chand_protocol::tx::standard::{
    bolt_dust_limit, dust_threshold, is_p2a, standard, NonStandard, WitnessFault,
};
use chand_protocol::units::{Feerate, Sat};

const RELAY: Feerate = Feerate(253);

fn script_of(bytes: &[u8]) -> ScriptBuf {
    ScriptBuf::from_bytes(bytes.to_vec())
}

/// Spends one output with `spent` as its script, unsigned.
fn unsigned(spent: ScriptBuf) -> (Transaction, Vec<TxOut>) {
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: "08".repeat(32).parse().expect("a txid"), vout: 3 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(90_000), script_pubkey: p2wsh_output() }],
    };
    (tx, vec![TxOut { value: Amount::from_sat(100_000), script_pubkey: spent }])
}

fn p2wsh_output() -> ScriptBuf {
    script_of(&[0x51]).to_p2wsh()
}

/// A P2WPKH coin spent and signed.
fn signed() -> (Transaction, Vec<TxOut>) {
    let crypto = RealCrypto::new();
    let key = channel_secrets(0x11).funding;
    let public = key.public_key(crypto.secp());
    let (mut tx, spent) = unsigned(script::p2wpkh(&public));
    let kind = EcdsaSighashType::All;
    let digest = SighashCache::new(&tx)
        .p2wpkh_signature_hash(0, &spent[0].script_pubkey, spent[0].value, kind)
        .expect("input 0");
    let signature = crypto.sign(digest.as_ref(), &key);
    tx.input[0].witness = Witness::p2wpkh(&script::witness_signature(&signature, kind), &public);
    assert_eq!(consensus(&tx, &spent), Ok(()));
    (tx, spent)
}

fn attempt(change: impl Fn(&mut Transaction, &mut Vec<TxOut>)) -> Result<(), NonStandard> {
    let (mut tx, mut spent) = signed();
    change(&mut tx, &mut spent);
    standard(&tx, &spent, RELAY)
}

fn output(script: &ScriptBuf, sat: u64) -> Result<(), NonStandard> {
    attempt(|tx, _| {
        tx.output[0].value = Amount::from_sat(330);
        tx.output.insert(0, TxOut { value: Amount::from_sat(sat), script_pubkey: script.clone() });
    })
}

#[test]
fn whole_transaction_rules() {
    assert_eq!(attempt(|_, _| ()), Ok(()));
    assert_eq!(attempt(|tx, _| tx.version = Version(0)), Err(NonStandard::Version(0)));
    assert_eq!(attempt(|tx, _| tx.version = Version(4)), Err(NonStandard::Version(4)));
    assert_eq!(attempt(|tx, _| tx.version = Version(3)), Ok(()));
    assert_eq!(attempt(|tx, _| tx.output.clear()), Err(NonStandard::TooSmall));
    assert_eq!(attempt(|tx, _| tx.input.clear()), Err(NonStandard::TooSmall));
    let tiny = |tx: &mut Transaction, _: &mut Vec<TxOut>| tx.output[0].script_pubkey = script_of(&[0x6a]);
    assert_eq!(attempt(tiny), Err(NonStandard::TooSmall));
    assert_eq!(attempt(|_, spent| spent.clear()), Err(NonStandard::SpentOutputs));
    let huge = attempt(|tx, _| tx.output = vec![tx.output[0].clone(); 3_000]);
    assert!(matches!(huge, Err(NonStandard::Weight(400_001..))), "{huge:?}");
    let fat = attempt(|tx, _| {
        tx.version = Version(3);
        tx.output = vec![tx.output[0].clone(); 300];
    });
    assert!(matches!(fat, Err(NonStandard::Weight(40_001..))), "{fat:?}");
    let twice = attempt(|tx, spent| {
        tx.input.push(tx.input[0].clone());
        spent.push(spent[0].clone());
    });
    assert_eq!(twice, Err(NonStandard::DuplicateInput(1)));
    let old = attempt(|tx, _| tx.input[0].script_sig = script_of(&[0x51]));
    assert_eq!(old, Err(NonStandard::ScriptSig(0)));
}

#[test]
fn the_fee_is_enough() {
    let (tx, spent) = signed();
    let needed = (253 * tx.vsize() as u64 * 4).div_ceil(1_000);
    let pay = |fee: u64| attempt(|tx, _| tx.output[0].value = Amount::from_sat(100_000 - fee));
    assert_eq!(pay(needed), Ok(()));
    let short = NonStandard::Fee { fee: Sat(needed - 1), needed: Sat(needed) };
    assert_eq!(pay(needed - 1), Err(short));
    assert_eq!(output(&spent[0].script_pubkey, 100_001), Err(NonStandard::Amounts));
    assert_eq!(output(&spent[0].script_pubkey, u64::MAX), Err(NonStandard::Amounts));
    let coins = attempt(|_, spent| spent[0].value = Amount::from_sat(2_100_000_000_000_001));
    assert_eq!(coins, Err(NonStandard::Amounts));
}

#[test]
fn dust_depends_on_the_script() {
    let p2pkh = script_of(&[&[0x76, 0xa9, 20][..], &[1; 20], &[0x88, 0xac]].concat());
    let p2sh = script_of(&[&[0xa9, 20][..], &[1; 20], &[0x87]].concat());
    let program =
        |version: u8, length: u8| script_of(&[&[version, length][..], &vec![1; length.into()]].concat());
    let p2a = script_of(&[0x51, 2, 0x4e, 0x73]);
    assert!(is_p2a(&p2a) && !is_p2a(&program(0x51, 2)));
    let table = [
        (p2pkh, 546, 546),
        (p2sh, 540, 540),
        (program(0, 20), 294, 294),
        (program(0, 32), 330, 330),
        (program(0x51, 32), 330, 354),
        (program(0x60, 40), 354, 354),
        (p2a, 240, 240),
    ];
    for (script, core, bolt) in table {
        assert_eq!((dust_threshold(&script), bolt_dust_limit(&script)), (Sat(core), Sat(bolt)));
        assert_eq!(script.minimal_non_dust().to_sat(), core, "as another's code has it");
        assert_eq!(output(&script, core - 1), Err(NonStandard::Dust(0)));
        assert_eq!(output(&script, core), Ok(()));
    }
    let data = script_of(&[&[0x6a, 20][..], &[1; 20]].concat());
    assert_eq!(output(&data, 0), Ok(()));
    assert_eq!(
        output(&script_of(&[&[0x6a, 76, 81][..], &[1; 81]].concat()), 0),
        Err(NonStandard::OutputScript(0))
    );
    assert_eq!(output(&script_of(&[0x51; 30]), 9_000), Err(NonStandard::OutputScript(0)));
    let two = attempt(|tx, _| {
        tx.output = vec![TxOut { value: Amount::ZERO, script_pubkey: data.clone() }; 2];
    });
    assert_eq!(two, Err(NonStandard::ManyOpReturns));
}

fn witness(change: impl Fn(&mut Vec<Vec<u8>>)) -> Result<(), NonStandard> {
    attempt(|tx, _| {
        let mut items = tx.input[0].witness.to_vec();
        change(&mut items);
        tx.input[0].witness = Witness::from_slice(&items);
    })
}

fn fault(fault: WitnessFault) -> Result<(), NonStandard> {
    Err(NonStandard::Witness(0, fault))
}

/// The same signature in DER with a leading zero too many, for which all lengths are right.
fn padded(signature: &[u8]) -> Vec<u8> {
    let mut padded = signature.to_vec();
    padded[1] += 1;
    padded[3] += 1;
    padded.insert(4, 0);
    padded
}

#[test]
fn signatures_have_one_form() {
    assert_eq!(witness(|items| items[0].truncate(20)), fault(WitnessFault::Signature));
    assert_eq!(witness(|items| items[0].clear()), fault(WitnessFault::Signature));
    assert_eq!(witness(|items| items[0] = padded(&items[0])), fault(WitnessFault::Signature));
    for kind in [1, 2, 3, 0x81, 0x82, 0x83] {
        assert_eq!(witness(|items| *items[0].last_mut().expect("a byte") = kind), Ok(()));
    }
    for kind in [0, 4, 0x80, 0x84, 0xff] {
        let result = witness(|items| *items[0].last_mut().expect("a byte") = kind);
        assert_eq!(result, fault(WitnessFault::Signature));
    }
    // An S of 0x7fff… is above half the order, though well formed.
    let high = [&[0x30, 0x25, 0x02, 1, 1, 0x02, 0x20, 0x7f][..], &[0xff; 31], &[1]].concat();
    let mut low = high.clone();
    low[7] = 0x3f;
    assert_eq!(witness(|items| items[0] = high.clone()), fault(WitnessFault::Signature));
    assert_eq!(witness(|items| items[0] = low.clone()), Ok(()));
    // An R above the order: well formed, yet never the encoding of a signature.
    let large = [&[0x30, 0x26, 0x02, 0x21, 0][..], &[0xff; 32], &[0x02, 1, 1, 1]].concat();
    assert_eq!(witness(|items| items[0] = large.clone()), fault(WitnessFault::Signature));
}

#[test]
fn p2wpkh_and_taproot_witnesses() {
    assert_eq!(witness(|items| items.push(Vec::new())), fault(WitnessFault::Items));
    assert_eq!(witness(Vec::clear), fault(WitnessFault::Items));
    assert_eq!(witness(|items| items[1].truncate(32)), fault(WitnessFault::Key));
    let other = channel_secrets(0x21).funding.public_key(RealCrypto::new().secp()).serialize();
    assert_eq!(witness(|items| items[1] = other.to_vec()), fault(WitnessFault::Commitment));

    let spend = |script: &[u8], items: &[&[u8]]| {
        let (mut tx, spent) = unsigned(script_of(script));
        tx.input[0].witness = Witness::from_slice(items);
        standard(&tx, &spent, RELAY)
    };
    let taproot = [&[0x51, 32][..], &[7; 32]].concat();
    assert_eq!(spend(&taproot, &[&[7; 64]]), Ok(()));
    assert_eq!(spend(&taproot, &[&[7; 63]]), fault(WitnessFault::Signature));
    assert_eq!(spend(&taproot, &[]), fault(WitnessFault::Items));
    assert_eq!(spend(&taproot, &[&[7; 64], &[0x50]]), fault(WitnessFault::Annex));
    assert_eq!(spend(&taproot, &[&[7; 80], &[7; 90], &[7; 33]]), Ok(()));
    assert_eq!(spend(&taproot, &[&[7; 81], &[7; 90], &[7; 33]]), fault(WitnessFault::ItemSize));
    assert_eq!(spend(&[0x51, 2, 0x4e, 0x73], &[]), Ok(()));
    assert_eq!(spend(&[0x51, 2, 0x4e, 0x73], &[&[1]]), fault(WitnessFault::Items));
    for other in
        [&[0x51][..], &[&[0x52, 32][..], &[7; 32]].concat(), &[&[0xa9, 20][..], &[1; 20], &[0x87]].concat()]
    {
        assert_eq!(spend(other, &[]), fault(WitnessFault::SpentScript));
    }
}

fn p2wsh(script: &ScriptBuf, items: &[&[u8]]) -> Result<(), NonStandard> {
    let (mut tx, spent) = unsigned(script.to_p2wsh());
    let mut witness = Witness::from_slice(items);
    witness.push(script.as_bytes());
    tx.input[0].witness = witness;
    standard(&tx, &spent, RELAY)
}

#[test]
fn p2wsh_limits() {
    let any = script_of(&[0x51]);
    assert_eq!(p2wsh(&any, &[]), Ok(()));
    assert_eq!(p2wsh(&any, &[&[7; 80]]), Ok(()));
    assert_eq!(p2wsh(&any, &[&[7; 81]]), fault(WitnessFault::ItemSize));
    assert_eq!(p2wsh(&any, &[&[][..]; 100]), Ok(()));
    assert_eq!(p2wsh(&any, &[&[][..]; 101]), fault(WitnessFault::Items));
    assert_eq!(p2wsh(&script_of(&[0x61; 3_600]), &[]), Ok(()));
    assert_eq!(p2wsh(&script_of(&[0x61; 3_601]), &[]), fault(WitnessFault::ScriptSize));
    let (mut tx, spent) = unsigned(any.to_p2wsh());
    assert_eq!(standard(&tx, &spent, RELAY), fault(WitnessFault::Items));
    tx.input[0].witness = Witness::from_slice(&[[0x52]]);
    assert_eq!(standard(&tx, &spent, RELAY), fault(WitnessFault::Commitment));

    let branch = script_of(&[0x63, 0x51, 0x67, 0x51, 0x68]);
    assert_eq!(p2wsh(&branch, &[&[1]]), Ok(()));
    assert_eq!(p2wsh(&branch, &[&[2]]), fault(WitnessFault::If));
    assert_eq!(p2wsh(&branch, &[&[0]]), fault(WitnessFault::If));
    let (tx, _) = signed();
    let good = tx.input[0].witness.nth(0).expect("a signature");
    assert_eq!(p2wsh(&any, &[good]), Ok(()));
    assert_eq!(p2wsh(&any, &[&padded(good)]), fault(WitnessFault::Signature));
}

#[test]
fn channel_scripts_have_their_stacks() {
    let crypto = RealCrypto::new();
    let (alice, bob) =
        (channel_secrets(0x11).basepoints(crypto.secp()), channel_secrets(0x21).basepoints(crypto.secp()));
    let (tx, _) = signed();
    let good = tx.input[0].witness.nth(0).expect("a signature");
    let funding = script::funding(&alice.funding_pubkey, &bob.funding_pubkey);
    assert_eq!(p2wsh(&funding, &[&[], good, good]), Ok(()));
    assert_eq!(p2wsh(&funding, &[&[0], good, good]), fault(WitnessFault::Form), "NULLDUMMY");
    assert_eq!(p2wsh(&funding, &[&[], good, &[]]), fault(WitnessFault::Signature));
    assert_eq!(p2wsh(&funding, &[&[], good]), fault(WitnessFault::Items));

    for delay in [1, 16, 144, 2_016] {
        let to_local = script::to_local(&alice.htlc_basepoint, &bob.htlc_basepoint, delay);
        assert_eq!(p2wsh(&to_local, &[good, &[]]), Ok(()));
        assert_eq!(p2wsh(&to_local, &[good, &[1]]), Ok(()));
        assert_eq!(p2wsh(&to_local, &[good, &[1, 0]]), fault(WitnessFault::If));
        assert_eq!(p2wsh(&to_local, &[&[0], &[]]), fault(WitnessFault::Signature), "NULLFAIL");
    }
    let to_remote = script::to_remote_anchors(&bob.payment_basepoint);
    assert_eq!(p2wsh(&to_remote, &[good]), Ok(()));
    assert_eq!(p2wsh(&to_remote, &[&[]]), fault(WitnessFault::Signature));
    let anchor = script::anchor(&alice.funding_pubkey);
    assert_eq!(p2wsh(&anchor, &[good]), Ok(()));
    assert_eq!(p2wsh(&anchor, &[&[]]), Ok(()));
    assert_eq!(p2wsh(&anchor, &[&[0]]), fault(WitnessFault::Signature), "NULLFAIL");
}
