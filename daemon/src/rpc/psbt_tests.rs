//! PSBTs at the door: the fields that Core Lightning's clients rely on, and what is not let in.

use super::shape_tests::{call_on, context};
use super::{fake, WalletRequest};
use base64::Engine as _;
use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::hashes::Hash;
use bitcoin::script::PushBytesBuf;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{absolute, transaction, Amount, NetworkKind, OutPoint, Psbt, PubkeyHash, ScriptBuf, Sequence};
use bitcoin::{Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness};
use chand_protocol::node::command::Command;
use chand_protocol::units::{Feerate, Msat, Sat};
use serde_json::{json, Value};

fn segwit() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros())
}

/// Pays one output from inputs that hold these scripts.
fn psbt(scripts: &[ScriptBuf]) -> Psbt {
    let input = |n: usize| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([n as u8 + 1; 32]), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: (0..scripts.len()).map(input).collect(),
        output: vec![TxOut { value: Amount::from_sat(50_000), script_pubkey: segwit() }],
    };
    let mut psbt = Psbt::from_unsigned_tx(tx).unwrap();
    for (part, script) in psbt.inputs.iter_mut().zip(scripts) {
        part.witness_utxo = Some(TxOut { value: Amount::from_sat(60_000), script_pubkey: script.clone() });
    }
    psbt
}

fn text(psbt: &Psbt) -> String {
    super::call::psbt::text(psbt)
}

/// As `shape_tests` has them.
pub(super) fn shapes() -> Vec<(&'static str, Value, &'static str, &'static [&'static str])> {
    let bob = fake::node(2).to_string();
    let psbt = text(&psbt(&[segwit()]));
    let txid = "ab".repeat(32);
    let utxo = format!("{txid}:0");
    let funded: &[&str] =
        &["psbt", "feerate_per_kw", "estimated_final_weight", "excess_msat", "change_outnum", "reservations"];
    let aside: &[&str] = &["txid", "vout", "was_reserved", "reserved", "reserved_to_block"];
    let plan: &[&str] = &[
        "dry_run",
        "inputs",
        "outputs",
        "fee_msat",
        "weight",
        "feerate_per_kw",
        "change_msat",
        "wallet_before_msat",
        "wallet_after_msat",
        "spendable_after_msat",
    ];
    let withdraw = json!({"destination": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "satoshi": 5_000, "dry_run": true});
    vec![
        ("fundpsbt", json!([50_000, "normal", 200]), "", funded),
        ("fundpsbt", json!(["all", "253perkw", 200]), "/reservations/0", aside),
        (
            "fundpsbt",
            json!({"satoshi": "all", "feerate": "slow", "startweight": 1, "dry_run": true}),
            "",
            &["inputs"],
        ),
        ("utxopsbt", json!([50_000, "normal", 200, [utxo]]), "", funded),
        (
            "addpsbtoutput",
            json!({"satoshi": 5_000, "destination": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"}),
            "",
            &["psbt", "estimated_added_weight", "outnum"],
        ),
        ("reserveinputs", json!([psbt]), "/reservations/0", aside),
        ("unreserveinputs", json!([psbt]), "/reservations/0", aside),
        ("signpsbt", json!([psbt, [0]]), "", &["signed_psbt"]),
        ("sendpsbt", json!([psbt]), "", &["tx", "txid"]),
        ("sendpsbt", json!({"psbt": psbt, "dry_run": true}), "", plan),
        ("bumpfee", json!([txid, "urgent"]), "", &["tx", "txid", "psbt", "replaces"]),
        ("bumpfee", json!({"txid": txid, "dry_run": true}), "", plan),
        ("withdraw", withdraw, "", plan),
        ("fundchannel", json!({"id": bob, "amount": "all", "dry_run": true}), "", plan),
        (
            "close",
            json!({"id": "103x1x0", "dry_run": true}),
            "",
            &["dry_run", "type", "inputs", "outputs", "fee_msat"],
        ),
        (
            "fundchannel_start",
            json!([bob, 100_000]),
            "",
            &["funding_address", "scriptpubkey", "warning_usage", "channel_type", "mindepth"],
        ),
        ("fundchannel_complete", json!([bob, psbt]), "", &["channel_id", "commitments_secured"]),
        ("fundchannel_cancel", json!([bob]), "", &["cancelled"]),
    ]
}

#[tokio::test]
async fn what_is_only_planned_reaches_nobody() {
    let (backend, cx) = context();
    for (method, params, _, _) in shapes() {
        if params["dry_run"] == true {
            call_on(&cx, method, params).await.unwrap();
        }
    }
    for command in backend.seen.lock().unwrap().iter() {
        assert!(command.is_question(), "{command:?}");
    }
    for request in backend.wallet_seen.lock().unwrap().iter() {
        let asks = matches!(
            request,
            WalletRequest::Plan(_) | WalletRequest::Feerates | WalletRequest::ListCoins { .. }
        );
        assert!(asks, "{request:?}");
    }
}

#[tokio::test]
async fn orders_carry_what_was_asked() {
    let (backend, cx) = context();
    let start = json!({
        "id": fake::node(2).to_string(), "amount": 100_000, "feerate": "slow", "announce": false, "push_msat": "5sat",
        "mindepth": 2, "reserve": "20000sat", "channel_type": [12],
    });
    call_on(&cx, "fundchannel_start", start).await.unwrap();
    let Command::FundChannelStart(order) = backend.last() else { panic!() };
    assert_eq!(
        (order.amount, order.feerate, order.announce),
        (Some(Sat(100_000)), Some(Feerate(300)), false)
    );
    assert_eq!((order.push_msat, order.mindepth, order.reserve), (Msat(5_000), Some(2), Some(Sat(20_000))));
    assert_eq!((order.anchors, order.scid_alias, order.by_hand), (Some(false), Some(false), true));
    let generous = json!({"id": fake::node(2).to_string(), "amount": 100_000, "push_msat": "100001sat"});
    assert_eq!(call_on(&cx, "fundchannel_start", generous).await.unwrap_err().code, 301);

    let fund = json!({
        "satoshi": "all", "feerate": "1000perkw", "startweight": 77, "minconf": 3, "reserve": 0, "locktime": 9,
        "min_witness_weight": 110, "excess_as_change": true, "nonwrapped": true, "opening_anchor_channel": true,
    });
    call_on(&cx, "fundpsbt", fund).await.unwrap();
    let Some(WalletRequest::FundPsbt(order)) = backend.wallet_seen.lock().unwrap().last().cloned() else {
        panic!()
    };
    assert_eq!(
        (order.amount, order.feerate, order.start_weight, order.min_depth),
        (None, Feerate(1_000), 77, 3)
    );
    assert_eq!((order.reserve_blocks, order.lock_time, order.min_witness_weight), (0, Some(9), 110));
    assert!(order.excess_as_change && order.keep > Sat::ZERO && order.utxos.is_none() && !order.reserved_ok);
}

#[tokio::test]
async fn a_funding_transaction_is_taken_only_when_its_id_is_final() {
    // BOLT 2 [2.created.2].
    let (backend, cx) = context();
    let bob = fake::node(2).to_string();
    // A segwit program, bare and in p2sh: the id counts what will stand in the scriptSig.
    let program = segwit();
    let wrapped = program.to_p2sh();
    let mut mixed = psbt(&[segwit(), wrapped.clone()]);
    mixed.inputs[1].redeem_script = Some(program.clone());
    call_on(&cx, "fundchannel_complete", json!([bob, text(&mixed)])).await.unwrap();
    let Command::FundChannelComplete { tx, .. } = backend.last() else { panic!() };
    assert_eq!((tx.input[0].script_sig.len(), tx.input[1].script_sig.len()), (0, 23));
    let mut signed = psbt(std::slice::from_ref(&wrapped));
    let push = PushBytesBuf::try_from(program.to_bytes()).unwrap();
    let script_sig = bitcoin::script::Builder::new().push_slice(push).into_script();
    signed.inputs[0].final_script_sig = Some(script_sig.clone());
    call_on(&cx, "fundchannel_complete", json!([bob, text(&signed)])).await.unwrap();
    let Command::FundChannelComplete { tx, .. } = backend.last() else { panic!() };
    assert_eq!(tx.input[0].script_sig, script_sig);

    let legacy = psbt(&[segwit(), ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros())]);
    let mut silent = psbt(&[segwit()]);
    silent.inputs[0].witness_utxo = None;
    let mut twice = psbt(&[segwit(), segwit()]);
    twice.unsigned_tx.input[1] = twice.unsigned_tx.input[0].clone();
    let mut other = psbt(&[segwit()]);
    other.inputs[0].non_witness_utxo = Some(legacy.unsigned_tx.clone());
    let mut lie = psbt(std::slice::from_ref(&wrapped));
    lie.inputs[0].redeem_script = Some(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([1; 20])));
    let mut main = psbt(&[segwit()]);
    let master = Xpriv::new_master(NetworkKind::Main, &[7; 32]).unwrap();
    let key = Xpub::from_priv(&Secp256k1::new(), &master);
    main.xpub.insert(key, (Fingerprint::default(), DerivationPath::from(vec![ChildNumber::from(1)])));
    let seen = backend.seen.lock().unwrap().len();
    for (psbt, words) in [
        (legacy, "input 1 is not segwit"),
        (psbt(&[wrapped]), "is not segwit"),
        (lie, "is not segwit"),
        (silent, "is not told"),
        (twice, "a second time"),
        (other, "not the transaction"),
        (main, "another network"),
        (psbt(&[]), "no inputs"),
    ] {
        let error = call_on(&cx, "fundchannel_complete", json!([bob, text(&psbt)])).await.unwrap_err();
        assert_eq!(error.code, -32602, "{}", error.message);
        assert!(
            error.message.contains(words) && error.message.contains("Do not send"),
            "{words}: {}",
            error.message
        );
    }
    assert_eq!(backend.seen.lock().unwrap().len(), seen, "the node heard of none");
}

#[tokio::test]
async fn what_is_no_psbt_does_not_pass_the_door() {
    let cx = context().1;
    let good = psbt(&[segwit()]).serialize();
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut newer = good[..5].to_vec();
    newer.extend([1, 0x02, 4, 2, 0, 0, 0, 1, 0xfb, 4, 2, 0, 0, 0, 0]);
    let mut bad: Vec<(Value, &str)> = vec![
        (json!("%%%"), "base64"),
        (json!(""), "no whole PSBT"),
        (json!(encode(&newer)), "setpsbtversion"),
        (json!(7), "base64"),
        (json!(encode(&[b"psbt\xff".as_slice(), &[0xff; 64]].concat())), "no whole PSBT"),
        (json!(encode(&vec![0; 400_000])), "no whole PSBT"),
    ];
    bad.extend((0..good.len()).step_by(7).map(|n| (json!(encode(&good[..n])), "no whole PSBT")));
    for (value, words) in bad {
        for method in ["signpsbt", "sendpsbt", "reserveinputs", "unreserveinputs"] {
            let error = call_on(&cx, method, json!({ "psbt": value })).await.unwrap_err();
            assert_eq!(error.code, -32602);
            assert!(
                error.message.starts_with("psbt") && error.message.contains(words),
                "{words}: {}",
                error.message
            );
        }
    }
}

#[tokio::test]
async fn outputs_are_added_one_by_one() {
    let cx = context().1;
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let one = call_on(&cx, "addpsbtoutput", json!({"satoshi": 9_000, "destination": address})).await.unwrap();
    let two = json!({"satoshi": 8_000, "destination": address, "initialpsbt": one["psbt"]});
    let two = call_on(&cx, "addpsbtoutput", two).await.unwrap();
    assert_eq!((&one["outnum"], &two["outnum"]), (&json!(0), &json!(1)));
    let psbt = super::call::psbt::read(two["psbt"].as_str().unwrap()).unwrap();
    let sats: Vec<u64> = psbt.unsigned_tx.output.iter().map(|o| o.value.to_sat()).collect();
    assert_eq!(sats, [9_000, 8_000]);
    assert_eq!(two["estimated_added_weight"], 4 * (8 + 1 + 22));
    let dust = call_on(&cx, "addpsbtoutput", json!({"satoshi": 100, "destination": address})).await;
    assert_eq!(dust.unwrap_err().code, 302);
}
