//! Coins elsewhere: a second wallet, of which the node knows nothing, funds a channel; PSBTs go in and out.
//!
//! In: real nodes, and a key of the test's own that stands for a hardware wallet. Out: channels and payments that add up to the
//! satoshi, coins that are put aside and come back, and words for whatever would lose money.
//! Read next: `fees`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    absolute, transaction, Address, Amount, CompressedPublicKey, Network, OutPoint, Psbt, ScriptBuf,
};
use bitcoin::{Sequence, Transaction, TxIn, TxOut, Witness};
use chand_tests::{wait_for, wait_until, Node, World};
use serde_json::{json, Value};

const CAPACITY_SAT: u64 = 600_000;
const COIN_SAT: u64 = 1_000_000;

/// One key and one coin.
struct Hardware {
    key: SecretKey,
    script: ScriptBuf,
    coin: OutPoint,
}

impl Hardware {
    /// With a confirmed coin.
    fn new(world: &World, seed: u8) -> Hardware {
        let key = SecretKey::from_slice(&[seed; 32]).expect("a key");
        let public = CompressedPublicKey(key.public_key(&Secp256k1::new()));
        let address = Address::p2wpkh(&public, Network::Regtest);
        let script = address.script_pubkey();
        let txid = world.chain.send(&address.to_string(), COIN_SAT);
        world.mine(1);
        let tx = world.chain.transaction(&txid.to_string());
        let vout = tx.output.iter().position(|o| o.script_pubkey == script).expect("the coin");
        Hardware { key, script, coin: OutPoint { txid, vout: u32::try_from(vout).expect("small") } }
    }

    fn held(&self) -> TxOut {
        TxOut { value: Amount::from_sat(COIN_SAT), script_pubkey: self.script.clone() }
    }

    /// Its coin to these outputs, the rest back, less a fee.
    fn pays(&self, outputs: &[(ScriptBuf, u64)], fee_sat: u64) -> Psbt {
        let out = |sat: u64, script: &ScriptBuf| TxOut {
            value: Amount::from_sat(sat),
            script_pubkey: script.clone(),
        };
        let paid: u64 = outputs.iter().map(|(_, sat)| sat).sum();
        let mut output: Vec<TxOut> = outputs.iter().map(|(script, sat)| out(*sat, script)).collect();
        output.push(out(COIN_SAT - paid - fee_sat, &self.script));
        let tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: self.coin,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            }],
            output,
        };
        let mut psbt = Psbt::from_unsigned_tx(tx).expect("a PSBT");
        psbt.inputs[0].witness_utxo = Some(self.held());
        psbt
    }

    fn signs(&self, psbt: &Psbt) -> Psbt {
        let mut psbt = psbt.clone();
        let at =
            psbt.unsigned_tx.input.iter().position(|i| i.previous_output == self.coin).expect("its coin");
        let (secp, kind) = (Secp256k1::new(), EcdsaSighashType::All);
        let digest = SighashCache::new(&psbt.unsigned_tx)
            .p2wpkh_signature_hash(at, &self.script, Amount::from_sat(COIN_SAT), kind)
            .expect("a digest");
        let signature = secp.sign_ecdsa(&Message::from(digest), &self.key);
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: kind };
        psbt.inputs[at].partial_sigs.insert(self.key.public_key(&secp).into(), signature);
        psbt
    }
}

fn text(psbt: &Psbt) -> String {
    STANDARD.encode(psbt.serialize())
}

fn read(value: &Value) -> Psbt {
    let bytes = STANDARD.decode(value.as_str().expect("base64")).expect("base64");
    Psbt::deserialize(&bytes).expect("a PSBT")
}

fn script(value: &Value) -> ScriptBuf {
    ScriptBuf::from_hex(value.as_str().expect("hex")).expect("a script")
}

/// Alice begins a channel to Bob; what its output must pay to.
fn start(world: &World) -> ScriptBuf {
    let order = json!({ "id": world.bob.id(), "amount": CAPACITY_SAT, "announce": false });
    let begun = world.alice.call("fundchannel_start", order);
    let script = script(&begun["scriptpubkey"]);
    let address = Address::from_script(&script, Network::Regtest).expect("an address");
    assert_eq!(begun["funding_address"], address.to_string());
    assert!(begun["warning_usage"].as_str().expect("words").contains("must not be sent"));
    script
}

fn reserved(node: &Node) -> u64 {
    let funds = node.call("listfunds", json!({}));
    let outputs = funds["outputs"].as_array().expect("outputs").clone();
    outputs
        .iter()
        .filter(|o| o["reserved"] == true)
        .map(|o| o["amount_msat"].as_u64().expect("msat") / 1_000)
        .sum()
}

fn in_mempool(world: &World, txid: &Value) {
    let txid = txid.as_str().expect("a txid").to_string();
    wait_until("the transaction in the mempool", || world.chain.mempool().contains(&txid));
}

#[test]
fn a_hardware_wallet_funds_a_channel_through_restarts() {
    let mut world = World::new();
    world.alice.connect(&world.bob);
    let wallet = Hardware::new(&world, 0x51);
    let funding = start(&world);
    let good = wallet.pays(&[(funding.clone(), CAPACITY_SAT)], 500);
    let id = world.bob.id().to_string();
    let complete =
        |psbt: &str| world.alice.try_call("fundchannel_complete", json!({ "id": id, "psbt": psbt }));

    // Whatever is not exactly right is refused, and the right one is taken afterwards.
    let mut silent = good.clone();
    silent.inputs[0].witness_utxo = None;
    let mut legacy = good.clone();
    legacy.inputs[0].witness_utxo.as_mut().expect("told").script_pubkey =
        ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_raw_hash(bitcoin::hashes::Hash::all_zeros()));
    let less = wallet.pays(&[(funding.clone(), CAPACITY_SAT - 1)], 500);
    let twice = wallet.pays(&[(funding.clone(), CAPACITY_SAT), (funding.clone(), 10_000)], 500);
    let elsewhere = wallet.pays(&[(wallet.script.clone(), CAPACITY_SAT)], 500);
    let whole = text(&good);
    for (psbt, code, words) in [
        (text(&silent), -32602, "not told"),
        (text(&legacy), -32602, "not segwit"),
        (text(&less), 309, "599999 sat"),
        (text(&twice), 309, "several outputs"),
        (text(&elsewhere), 309, "no output pays"),
        (whole[..whole.len() / 2].to_string(), -32602, "psbt"),
        ("x".repeat(300_000), -32602, "psbt"),
    ] {
        let error = complete(&psbt).expect_err(words);
        assert_eq!(error.code(), Some(code), "{error:?}");
        assert!(error.message().contains(words), "{words}: {error:?}");
    }
    // Sent too early its money would be lost, whichever way.
    world.fund(&world.alice, 700_000);
    let address = Address::from_script(&funding, Network::Regtest).expect("an address").to_string();
    let paid = world.alice.refusal("withdraw", json!({ "destination": address, "satoshi": CAPACITY_SAT }));
    assert!(paid.code() == Some(313) && paid.message().contains("not secured"), "{paid:?}");
    let signed = text(&wallet.signs(&good));
    let early = world.alice.refusal("sendpsbt", json!({ "psbt": signed }));
    assert!(early.code() == Some(313) && early.message().contains("not secured"), "{early:?}");
    assert_eq!(complete(&whole).expect("secured")["commitments_secured"], true);

    world.alice.kill_and_launch();
    wait_for("both to be linked again", || match world.alice.channel(&world.bob) {
        channel if channel["reestablished"] == true => Ok(()),
        channel => Err(channel.to_string()),
    });
    assert_eq!(world.chain.mempool(), Vec::<String>::new(), "the node sends nothing by itself");
    let unsigned = world.alice.refusal("sendpsbt", json!({ "psbt": whole }));
    assert!(unsigned.code() == Some(-32602) && unsigned.message().contains("not signed"), "{unsigned:?}");
    let plan = world.alice.call("sendpsbt", json!({ "psbt": signed, "dry_run": true }));
    assert_eq!((&plan["fee_msat"], &plan["inputs"][0]["ours"]), (&json!(500_000), &json!(false)));
    assert_eq!(world.chain.mempool(), Vec::<String>::new());
    let sent = world.alice.call("sendpsbt", json!({ "psbt": signed }));
    in_mempool(&world, &sent["txid"]);
    // The backend forgets it: the node sees to it. So it does after a restart.
    world.alice.kill_and_launch();
    world.mine(1);
    world.wait_normal();
    let channel = world.alice.channel(&world.bob);
    assert_eq!(channel["funding_txid"], sent["txid"]);
    let bolt11 = world.bob.invoice(50_000_000, "over it");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    let late = world.alice.refusal("fundchannel_cancel", json!({ "id": id }));
    assert_eq!(late.code(), Some(307), "{late:?}");
    assert_eq!(world.alice.wallet_sat(), 700_000, "none of it was the node's own");
}

#[test]
fn cancelled_before_or_after_it_is_secured_nothing_is_left() {
    let world = World::new();
    world.alice.connect(&world.bob);
    let wallet = Hardware::new(&world, 0x52);
    let id = json!({ "id": world.bob.id() });
    start(&world);
    let answer = world.alice.call("fundchannel_cancel", id.clone());
    assert!(answer["cancelled"].as_str().expect("words").contains("do not send"));
    assert_eq!(world.alice.refusal("fundchannel_cancel", id.clone()).code(), Some(307));

    let psbt = wallet.pays(&[(start(&world), CAPACITY_SAT)], 500);
    let order = json!({ "id": world.bob.id(), "psbt": text(&psbt) });
    world.alice.call("fundchannel_complete", order);
    assert_eq!(world.alice.channels(&world.bob).len(), 1);
    world.alice.call("fundchannel_cancel", id);
    assert_eq!(world.alice.channels(&world.bob).len(), 0);
    wait_until("Bob to forget it", || world.bob.channels(&world.alice).is_empty());
    let error = world.alice.refusal("sendpsbt", json!({ "psbt": text(&wallet.signs(&psbt)) }));
    assert!(error.code() == Some(313) && error.message().contains("given up"), "{error:?}");
    // And the same coin funds the next one.
    world.alice.connect(&world.bob);
    let psbt = wallet.pays(&[(start(&world), CAPACITY_SAT)], 700);
    let order = json!({ "id": world.bob.id(), "psbt": text(&psbt) });
    world.alice.call("fundchannel_complete", order);
    let sent = world.alice.call("sendpsbt", json!({ "psbt": text(&wallet.signs(&psbt)) }));
    in_mempool(&world, &sent["txid"]);
    world.mine(1);
    world.wait_normal();
}

#[test]
fn the_nodes_coins_and_anothers_go_into_one_transaction() {
    let mut world = World::new();
    world.fund(&world.alice, 300_000);
    let wallet = Hardware::new(&world, 0x53);
    let bobs = json!({ "destination": world.bob.new_address(), "satoshi": 1_200_000 });
    let half = json!({
        "satoshi": 250_000, "feerate": "1000perkw", "startweight": 600, "excess_as_change": true,
    });
    let funded = world.alice.call("fundpsbt", half.clone());
    assert_eq!(reserved(&world.alice), 300_000);
    let again = world.alice.refusal("fundpsbt", half);
    assert_eq!(again.code(), Some(301), "{again:?}");
    // Put aside over a kill, freed, put aside again.
    world.alice.kill_and_launch();
    assert_eq!(reserved(&world.alice), 300_000);
    let psbt = json!({ "psbt": funded["psbt"] });
    let freed = world.alice.call("unreserveinputs", psbt.clone());
    assert_eq!(freed["reservations"][0]["reserved"], false);
    assert_eq!(reserved(&world.alice), 0);
    let unsigned = world.alice.refusal("signpsbt", psbt.clone());
    assert!(unsigned.message().contains("not put aside"), "{unsigned:?}");
    world.alice.call("reserveinputs", psbt.clone());
    assert_eq!(world.alice.refusal("reserveinputs", psbt).code(), Some(-32602));

    let with_output = world.alice.call(
        "addpsbtoutput",
        json!({ "satoshi": 1_200_000, "destination": bobs["destination"], "initialpsbt": funded["psbt"] }),
    );
    let mut joint = read(&with_output["psbt"]);
    joint.unsigned_tx.input.push(TxIn {
        previous_output: wallet.coin,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    });
    joint.inputs.push(bitcoin::psbt::Input { witness_utxo: Some(wallet.held()), ..Default::default() });
    joint
        .unsigned_tx
        .output
        .push(TxOut { value: Amount::from_sat(49_000), script_pubkey: wallet.script.clone() });
    joint.outputs.push(bitcoin::psbt::Output::default());
    let signed = world.alice.call("signpsbt", json!({ "psbt": text(&joint) }));
    let both = text(&wallet.signs(&read(&signed["signed_psbt"])));
    let plan = world.alice.call("sendpsbt", json!({ "psbt": both, "dry_run": true }));
    let sent = world.alice.call("sendpsbt", json!({ "psbt": both }));
    in_mempool(&world, &sent["txid"]);
    let tx = world.chain.transaction(sent["txid"].as_str().expect("a txid"));
    let fee = world.chain.fee(&tx);
    assert_eq!(plan["fee_msat"], fee * 1_000);
    world.mine(1);
    assert_eq!((world.bob.wallet_sat(), reserved(&world.alice)), (1_200_000, 0));
    let left = world.alice.wallet_sat();
    assert_eq!(plan["wallet_after_msat"], left * 1_000);
    assert_eq!(300_000 + COIN_SAT, left + 1_200_000 + 49_000 + fee);

    // A coin that is gone meanwhile: refused in words, and what was put aside for it is free again.
    let mine = json!({ "satoshi": "all", "feerate": "1000perkw", "startweight": 600, "reserve": 0 });
    let all = world.alice.call("fundpsbt", mine);
    world.alice.call("reserveinputs", json!({ "psbt": all["psbt"], "reserve": 5 }));
    let mut bad = read(&all["psbt"]);
    let gone = bitcoin::psbt::Input { witness_utxo: Some(wallet.held()), ..Default::default() };
    bad.unsigned_tx.input.push(TxIn { previous_output: wallet.coin, ..TxIn::default() });
    bad.inputs.push(gone);
    bad.unsigned_tx
        .output
        .push(TxOut { value: Amount::from_sat(COIN_SAT), script_pubkey: wallet.script.clone() });
    bad.outputs.push(bitcoin::psbt::Output::default());
    let signed = world.alice.call("signpsbt", json!({ "psbt": text(&bad) }));
    let both = text(&wallet.signs(&read(&signed["signed_psbt"])));
    let refused = world.alice.refusal("sendpsbt", json!({ "psbt": both }));
    assert_eq!(refused.code(), Some(313), "{refused:?}");
    world.mine(5);
    assert_eq!((reserved(&world.alice), world.alice.wallet_sat()), (0, left));
}

#[test]
fn stuck_transactions_are_raised_and_plans_change_nothing() {
    let world = World::new();
    world.fund(&world.alice, 500_000);
    let funds = world.alice.call("listfunds", json!({}));
    let address = world.bob.new_address();
    let order = json!({ "destination": address, "satoshi": 100_000, "feerate": "1000perkw" });
    let mut planned = order.clone();
    planned["dry_run"] = json!(true);
    let plan = world.alice.call("withdraw", planned);
    assert_eq!(world.alice.call("listfunds", json!({})), funds, "only a plan");
    let paid = world.alice.call("withdraw", order);
    let first = world.chain.transaction(paid["txid"].as_str().expect("a txid"));
    assert_eq!(plan["fee_msat"], world.chain.fee(&first) * 1_000);

    // Replaced: Bob gets the same.
    let plan =
        world.alice.call("bumpfee", json!({ "txid": paid["txid"], "feerate": "4000perkw", "dry_run": true }));
    assert_eq!(plan["replaces"], paid["txid"]);
    let raised = world.alice.call("bumpfee", json!({ "txid": paid["txid"], "feerate": "4000perkw" }));
    in_mempool(&world, &raised["txid"]);
    assert_eq!(world.chain.mempool().len(), 1, "the first is gone");
    let second = world.chain.transaction(raised["txid"].as_str().expect("a txid"));
    assert_eq!(plan["fee_msat"], world.chain.fee(&second) * 1_000);
    assert!(world.chain.fee(&second) > 3 * world.chain.fee(&first));
    world.mine(1);
    assert_eq!(world.bob.wallet_sat(), 100_000);

    // A channel's funding keeps its id: a child carries it.
    world.alice.connect(&world.bob);
    let fund = json!({ "id": world.bob.id(), "amount": 200_000, "feerate": "500perkw", "announce": false });
    let mut planned = fund.clone();
    planned["dry_run"] = json!(true);
    let plan = world.alice.call("fundchannel", planned);
    assert_eq!(world.alice.channels(&world.bob).len(), 0, "Bob heard of nothing");
    let opened = world.alice.call("fundchannel", fund);
    in_mempool(&world, &opened["txid"]);
    let funding = world.chain.transaction(opened["txid"].as_str().expect("a txid"));
    assert_eq!(plan["fee_msat"], world.chain.fee(&funding) * 1_000);
    let child = world.alice.call("bumpfee", json!({ "txid": opened["txid"], "feerate": "5000perkw" }));
    assert_eq!(child["child_of"], opened["txid"]);
    in_mempool(&world, &child["txid"]);
    let carried = world.chain.transaction(child["txid"].as_str().expect("a txid"));
    let both = world.chain.fee(&funding) + world.chain.fee(&carried);
    assert!(both * 1_000 >= 5_000 * (funding.weight().to_wu() + carried.weight().to_wu()), "{both}");
    world.mine(1);
    world.wait_normal();

    // A payment on its way to Bob, whose wallet has not seen it.
    let stuck = world.chain.send(&world.bob.new_address(), 70_000).to_string();
    let unknown = world.alice.refusal("bumpfee", json!({ "txid": stuck, "feerate": "9000perkw" }));
    assert_eq!(unknown.code(), Some(-32602), "{unknown:?}");
    let child = world.bob.call("bumpfee", json!({ "txid": stuck, "feerate": "9000perkw" }));
    assert_eq!(child["child_of"], stuck);
    in_mempool(&world, &child["txid"]);
    let carried = world.chain.transaction(child["txid"].as_str().expect("a txid"));
    let fee = world.chain.fee(&carried);
    world.mine(1);
    wait_for("Bob's coins", || match world.bob.wallet_sat() {
        now if now == 100_000 + 70_000 - fee => Ok(()),
        now => Err(now.to_string()),
    });

    let channel = world.alice.channel(&world.bob);
    let plan = world.alice.call("close", json!({ "id": channel["channel_id"], "dry_run": true }));
    let whole = 200_000_000 - plan["fee_msat"].as_u64().expect("a fee");
    assert_eq!(plan["outputs"][0]["amount_msat"], whole);
    let wallet = world.alice.wallet_sat() * 1_000;
    assert_eq!(
        (&plan["wallet_before_msat"], &plan["wallet_after_msat"]),
        (&json!(wallet), &json!(wallet + whole))
    );
    assert_eq!((&plan["type"], &plan["inputs"][0]["txid"]), (&json!("mutual"), &opened["txid"]));
    assert_eq!(world.alice.channel(&world.bob)["state"], "CHANNELD_NORMAL");
}
