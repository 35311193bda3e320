//! The pool's refusals and what gets past them, through the RPC.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all as op;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use serde_json::{json, Value};

use super::client::{hex, id, out};
use super::Harness;

const COIN: u64 = 1_000_000;

fn anchor() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51, 2, 0x4e, 0x73])
}

fn op_return(bytes: usize) -> ScriptBuf {
    ScriptBuf::new_op_return(PushBytesBuf::try_from(vec![7; bytes]).unwrap())
}

impl Harness {
    /// `None` when the pool would take it, else the reason and its detail.
    async fn verdict(&self, tx: &Transaction) -> Option<(String, String)> {
        let answer = self.client.call("testmempoolaccept", json!([[hex(tx)]])).await;
        let answer = &answer[0];
        assert_eq!(answer["txid"], id(tx));
        if answer["allowed"] == true {
            return None;
        }
        let detail = answer["reject-details"].as_str().unwrap_or_default();
        Some((answer["reject-reason"].as_str().unwrap().to_owned(), detail.to_owned()))
    }

    /// The reason of a refusal; both ways of asking must agree.
    async fn reason(&self, tx: &Transaction) -> String {
        let (reason, _) = self.verdict(tx).await.expect("must be refused");
        let (code, message) = self.send(tx).await.expect_err("must be refused");
        if reason == "missing-inputs" {
            assert_eq!((code, message.as_str()), (-25, "bad-txns-inputs-missingorspent"));
        } else {
            assert_eq!(code, -26, "{message}");
            assert!(message.starts_with(&reason), "{message}");
        }
        reason
    }

    async fn enter(&self, tx: &Transaction) {
        assert_eq!(self.send(tx).await, Ok(json!(id(tx))));
    }

    /// Locks a coin to a P2WSH script, confirmed.
    async fn lock_to(&self, coin: OutPoint, script: &Script) -> (OutPoint, TxOut) {
        let tx = self.spend(2, &[(coin, COIN)], &[(COIN - 1_000, script.to_p2wsh())]);
        self.enter(&tx).await;
        self.mine(1).await;
        (out(&tx, 0), tx.output[0].clone())
    }

    /// Spends such a coin; the stack is made from the signature of the test's key.
    fn unlock(
        &self,
        (coin, output): &(OutPoint, TxOut),
        script: &Script,
        stack: impl Fn(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> Transaction {
        let mut tx = self.spend(2, &[(*coin, 0)], &[(COIN - 3_000, self.script())]);
        let hash = SighashCache::new(&tx)
            .p2wsh_signature_hash(0, script, output.value, EcdsaSighashType::All)
            .unwrap();
        let signature = self.secp.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &self.key);
        let mut bytes = signature.serialize_der().to_vec();
        bytes.push(1);
        let mut items = stack(bytes);
        items.push(script.to_bytes());
        tx.input[0].witness = Witness::from_slice(&items);
        tx
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_transaction_alone_decides() {
    let h = Harness::start().await;
    let coin = (h.coins(1, COIN).await[0], COIN);
    let plain = |sat: u64, script: ScriptBuf| h.spend(2, &[coin], &[(sat, script)]);
    assert_eq!(h.client.fail("sendrawtransaction", json!(["00"])).await.0, -22);
    assert_eq!(h.client.fail("testmempoolaccept", json!([["zz"]])).await.0, -22);
    assert_eq!(h.reason(&h.spend(4, &[coin], &[(900_000, h.script())])).await, "version");
    assert_eq!(h.reason(&h.spend(0, &[coin], &[(900_000, h.script())])).await, "version");
    assert_eq!(h.reason(&plain(900_000, ScriptBuf::from_bytes(vec![0xac]))).await, "scriptpubkey");
    assert_eq!(h.reason(&plain(900_000, ScriptBuf::from_bytes(vec![0, 2, 1, 1]))).await, "scriptpubkey");
    assert_eq!(h.reason(&plain(0, op_return(100_001))).await, "tx-size");
    assert_eq!(h.reason(&h.spend(2, &[coin], &[])).await, "bad-txns-vout-empty");
    assert_eq!(h.reason(&plain(COIN + 1, h.script())).await, "bad-txns-in-belowout");
    assert_eq!(
        h.reason(&h.spend(2, &[coin, coin], &[(1_000_000, h.script())])).await,
        "bad-txns-inputs-duplicate"
    );
    let mut tx = plain(900_000, h.script());
    tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0x76]);
    assert_eq!(h.reason(&tx).await, "scriptsig-not-pushonly");
    tx.input[0].script_sig = ScriptBuf::from_bytes([vec![0x4d, 0x80, 0x06], vec![1; 0x680]].concat());
    assert_eq!(h.reason(&tx).await, "scriptsig-size");
    tx = h.spend(2, &[coin], &[(900_000, ScriptBuf::from_bytes(vec![0x6a]))]);
    assert_eq!(tx.base_size(), 61);
    assert_eq!(h.verdict(&tx).await.unwrap().0, "tx-size-small");
    let outputs: Vec<_> = (0..12_000).map(|_| (330, h.script())).collect();
    assert_eq!(h.reason(&h.spend(2, &[coin], &outputs)).await, "tx-size");
    let key = h.key.public_key(&h.secp).serialize();
    let multisig = |keys: u8| {
        let one = [vec![0x21], key.to_vec()].concat();
        ScriptBuf::from_bytes([vec![0x51], one.repeat(usize::from(keys)), vec![0x50 + keys, 0xae]].concat())
    };
    assert_eq!(h.verdict(&plain(900_000, multisig(3))).await, None);
    assert_eq!(h.reason(&plain(900_000, multisig(4))).await, "scriptpubkey");
    let coinbase = h.client.call("getblockhash", json!([50])).await;
    let block = h.client.call("getblock", json!([coinbase, 2])).await;
    let (code, message) = h.client.fail("sendrawtransaction", json!([block["tx"][0]["hex"]])).await;
    assert_eq!((code, message.as_str()), (-27, "Transaction outputs already in utxo set"));
    let young = OutPoint { txid: block["tx"][0]["txid"].as_str().unwrap().parse().unwrap(), vout: 0 };
    let reason = h.reason(&h.spend(2, &[(young, 5_000_000_000)], &[(4_999_990_000, h.script())])).await;
    assert_eq!(reason, "bad-txns-premature-spend-of-coinbase");
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dust_has_its_limit_for_each_kind_of_output() {
    let h = Harness::start().await;
    let coin = (h.coins(1, COIN).await[0], COIN);
    let p2wsh = Script::from_bytes(&[0x51]).to_p2wsh();
    let p2tr = ScriptBuf::from_bytes(
        [vec![0x51, 0x20], h.key.x_only_public_key(&h.secp).0.serialize().to_vec()].concat(),
    );
    let p2pkh = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::all_zeros());
    let p2sh = ScriptBuf::new_p2sh(&bitcoin::ScriptHash::all_zeros());
    for (script, limit) in [
        (h.script(), 294),
        (p2wsh, 330),
        (p2tr, 330),
        (p2pkh, 546),
        (p2sh, 540),
        (anchor(), 240),
        (op_return(5), 0),
    ] {
        let rest = COIN - 10_000;
        let enough = h.spend(2, &[coin], &[(rest, h.script()), (limit, script.clone())]);
        assert_eq!(h.verdict(&enough).await, None, "{limit}");
        if limit > 0 {
            let dusty = h.spend(2, &[coin], &[(rest, h.script()), (limit - 1, script.clone())]);
            assert_eq!(h.reason(&dusty).await, "dust", "{limit}");
            let twice = [(limit - 1, script.clone()), (limit - 1, script)];
            assert_eq!(h.reason(&h.spend(2, &[coin], &twice)).await, "dust", "{limit}");
        }
    }
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_coins_and_known_transactions() {
    let h = Harness::start().await;
    let coins = h.coins(2, COIN).await;
    let coin = (coins[0], COIN);
    let outputs = [(COIN - 1_000, h.script())];
    let locked = |lock: u32, sequence: u32| {
        let mut tx = h.spend(2, &[coin], &outputs);
        tx.lock_time = LockTime::from_consensus(lock);
        tx.input[0].sequence = Sequence(sequence);
        h.sign(&mut tx, &[coin]);
        tx
    };
    // The tip is 111; the next block is 112.
    assert_eq!(h.reason(&locked(112, 0)).await, "non-final");
    assert_eq!(h.verdict(&locked(111, 0)).await, None);
    assert_eq!(h.verdict(&locked(112, u32::MAX)).await, None);
    assert_eq!(h.reason(&locked(0, 2)).await, "non-BIP68-final");
    assert_eq!(h.verdict(&locked(0, 1)).await, None);
    h.mine(1).await;
    assert_eq!(h.verdict(&locked(0, 2)).await, None);

    let unknown = OutPoint { txid: bitcoin::Txid::all_zeros(), vout: 3 };
    assert_eq!(h.reason(&h.spend(2, &[(unknown, COIN)], &outputs)).await, "missing-inputs");
    let tx = h.spend(2, &[coin], &outputs);
    h.enter(&tx).await;
    h.enter(&tx).await;
    assert_eq!(h.verdict(&tx).await.unwrap().0, "txn-already-in-mempool");
    let mut other = tx.clone();
    other.input[0].witness.push(vec![1]);
    assert_eq!(h.verdict(&other).await.unwrap().0, "txn-same-nonwitness-data-in-mempool");
    h.mine(1).await;
    assert_eq!(h.verdict(&tx).await.unwrap().0, "txn-already-known");
    assert_eq!(h.send(&tx).await.unwrap_err().0, -27);
    let next = h.spend(2, &[(out(&tx, 0), COIN - 1_000)], &[(COIN - 2_000, h.script())]);
    h.enter(&next).await;
    h.mine(1).await;
    assert_eq!(h.reason(&tx).await, "missing-inputs");
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fees_have_a_floor_and_the_caller_a_ceiling() {
    let h = Harness::start().await;
    let coin = (h.coins(1, COIN).await[0], COIN);
    let paying = |fee: u64| h.spend(2, &[coin], &[(COIN - fee, h.script())]);
    let vsize = paying(1_000).vsize() as u64;
    let least = vsize.div_ceil(10);
    let low = paying(least - 1);
    assert_eq!(h.reason(&low).await, "min relay fee not met");
    assert_eq!(h.send(&low).await.unwrap_err().1, format!("min relay fee not met, {} < {least}", least - 1));
    assert_eq!(h.verdict(&paying(least)).await, None);
    h.client.call("setmempoolminfee", json!([0.00005])).await;
    assert_eq!(h.client.call("getmempoolinfo", json!([])).await["mempoolminfee"], json!(0.00005));
    assert_eq!(h.reason(&paying(5 * vsize - 1)).await, "mempool min fee not met");
    assert_eq!(h.verdict(&paying(5 * vsize)).await, None);
    h.client.call("setmempoolminfee", json!([0])).await;

    let rich = (h.coins(1, 10 * COIN).await[0], 10 * COIN);
    let dear = h.spend(2, &[rich], &[(8 * COIN, h.script())]);
    let (code, message) = h.send(&dear).await.unwrap_err();
    assert_eq!(code, -25);
    assert_eq!(message, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)");
    assert_eq!(h.verdict(&dear).await.unwrap().0, "max-fee-exceeded");
    assert_eq!(h.client.fail("sendrawtransaction", json!([hex(&dear), 1])).await.0, -8);
    let burning = h.spend(2, &[rich], &[(1_000, op_return(3)), (9_990_000, h.script())]);
    assert_eq!(h.send(&burning).await.unwrap_err().0, -25);
    h.client.call("sendrawtransaction", json!([hex(&burning), 0, 0.00001])).await;
    h.client.call("sendrawtransaction", json!([hex(&dear), 0])).await;
    assert_eq!(h.pool().await, [id(&dear)]);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacement_pays_for_what_it_evicts() {
    let h = Harness::start().await;
    let coins = h.coins(3, COIN).await;
    let coin = (coins[0], COIN);
    let paying = |fee: u64| h.spend(2, &[coin], &[(COIN - fee, h.script())]);
    let first = paying(1_000);
    h.enter(&first).await;
    let child = h.spend(2, &[(out(&first, 0), COIN - 1_000)], &[(COIN - 4_000, h.script())]);
    h.enter(&child).await;
    let detail = |verdict: Option<(String, String)>| verdict.unwrap().1;
    assert_eq!(h.reason(&paying(999)).await, "insufficient fee");
    assert!(detail(h.verdict(&paying(999)).await).contains("<= old feerate"));
    assert!(detail(h.verdict(&paying(3_999)).await).contains("less fees than conflicting txs"));
    assert!(detail(h.verdict(&paying(4_005)).await).contains("not enough additional fees to relay"));
    let spends_evicted = h.spend(2, &[coin, (out(&child, 0), COIN - 4_000)], &[(COIN, h.script())]);
    assert_eq!(h.reason(&spends_evicted).await, "bad-txns-spends-conflicting-tx");
    let unconfirmed = h.spend(2, &[(coins[1], COIN)], &[(COIN - 1_000, h.script())]);
    h.enter(&unconfirmed).await;
    let adds = h.spend(2, &[coin, (out(&unconfirmed, 0), COIN - 1_000)], &[(COIN, h.script())]);
    assert_eq!(h.reason(&adds).await, "replacement-adds-unconfirmed");
    // Nobody signalled: replacement is free for all.
    let better = paying(4_100);
    h.enter(&better).await;
    let mut left = [id(&better), id(&unconfirmed)];
    left.sort();
    let mut pool = h.pool().await;
    pool.sort();
    assert_eq!(pool, left);
    let entry = h.client.call("getmempoolentry", json!([id(&better)])).await;
    assert_eq!(entry["bip125-replaceable"], false);
    assert_eq!(entry["fees"]["base"], json!(0.000041));
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replacement_evicts_at_most_a_hundred() {
    let h = Harness::start().await;
    let coins = h.coins(5, COIN).await;
    for coin in &coins {
        // A parent with 20 children: 21 entries for each of five coins.
        let outputs: Vec<_> = (0..20).map(|_| (40_000, h.script())).collect();
        let parent = h.spend(2, &[(*coin, COIN)], &outputs);
        h.client.call("sendrawtransaction", json!([hex(&parent), 0])).await;
        for vout in 0..20 {
            let child = h.spend(2, &[(out(&parent, vout), 40_000)], &[(39_900, h.script())]);
            h.enter(&child).await;
        }
    }
    let all: Vec<_> = coins.iter().map(|coin| (*coin, COIN)).collect();
    let replacement = h.spend(2, &all, &[(1_000_000, h.script())]);
    let (code, message) = h.client.fail("sendrawtransaction", json!([hex(&replacement), 0])).await;
    assert_eq!(code, -26);
    assert!(message.starts_with("too many potential replacements"), "{message}");
    let four = h.spend(2, &all[..4], &[(1_000_000, h.script())]);
    h.client.call("sendrawtransaction", json!([hex(&four), 0])).await;
    assert_eq!(h.pool().await.len(), 22);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_end_at_twenty_five_but_for_the_carve_out() {
    let h = Harness::start().await;
    let coins = h.coins(2, COIN).await;
    let mut last = (coins[0], COIN);
    for _ in 0..25 {
        let tx = h.spend(2, &[last], &[(last.1 - 500, h.script())]);
        h.enter(&tx).await;
        last = (out(&tx, 0), last.1 - 500);
    }
    let more = h.spend(2, &[last], &[(last.1 - 500, h.script())]);
    assert_eq!(h.reason(&more).await, "too-long-mempool-chain");
    assert!(h.verdict(&more).await.unwrap().1.contains("too many unconfirmed ancestors [limit: 25]"));

    let root = h.spend(2, &[(coins[1], COIN)], &[(400_000, h.script()), (590_000, h.script())]);
    h.enter(&root).await;
    let mut last = (out(&root, 0), 400_000);
    for _ in 0..24 {
        let tx = h.spend(2, &[last], &[(last.1 - 500, h.script())]);
        h.enter(&tx).await;
        last = (out(&tx, 0), last.1 - 500);
    }
    // The other side filled the limit; one child of our own output still goes in, and only one.
    let ours = h.spend(2, &[(out(&root, 1), 590_000)], &[(200_000, h.script()), (380_000, h.script())]);
    h.enter(&ours).await;
    let grandchild = h.spend(2, &[(out(&ours, 0), 200_000)], &[(199_000, h.script())]);
    assert_eq!(h.reason(&grandchild).await, "too-long-mempool-chain");
    h.mine(1).await;
    assert!(h.pool().await.is_empty());
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_run_as_relays_want_them() {
    let h = Harness::start().await;
    let coins = h.coins(6, COIN).await;
    let key = h.key.public_key(&h.secp).serialize();

    let mut wrong = h.spend(2, &[(coins[0], COIN)], &[(990_000, h.script())]);
    wrong.output[0].value = Amount::from_sat(980_000);
    assert!(h.reason(&wrong).await.starts_with("mandatory-script-verify-flag-failed ("));

    let mut high = h.spend(2, &[(coins[0], COIN)], &[(990_000, h.script())]);
    let items = high.input[0].witness.to_vec();
    high.input[0].witness = Witness::from_slice(&[negate_s(&items[0]), items[1].clone()]);
    assert_eq!(
        h.reason(&high).await,
        "mempool-script-verify-flag-failed (Non-canonical signature: S value is unnecessarily high)"
    );
    // Consensus has nothing against it.
    let miner = h.address();
    h.client.call("generateblock", json!([miner, [hex(&high)]])).await;

    let minimal_if = Builder::new()
        .push_opcode(op::OP_IF)
        .push_slice(key)
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_ELSE)
        .push_opcode(op::OP_RETURN)
        .push_opcode(op::OP_ENDIF)
        .into_script();
    let coin = h.lock_to(coins[1], &minimal_if).await;
    let tx = h.unlock(&coin, &minimal_if, |signature| vec![signature, vec![2]]);
    assert_eq!(
        h.reason(&tx).await,
        "mempool-script-verify-flag-failed (OP_IF/NOTIF argument must be minimal)"
    );
    assert_eq!(h.verdict(&h.unlock(&coin, &minimal_if, |signature| vec![signature, vec![1]])).await, None);
    let tx = h.unlock(&coin, &minimal_if, |signature| vec![signature, vec![]]);
    assert_eq!(h.reason(&tx).await, "mandatory-script-verify-flag-failed (OP_RETURN was encountered)");

    // BOLT 3's anchor: after 16 blocks anyone spends it, with an empty signature and no other.
    let anchor_script = Builder::new()
        .push_slice(key)
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_IFDUP)
        .push_opcode(op::OP_NOTIF)
        .push_int(16)
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_ENDIF)
        .into_script();
    let coin = h.lock_to(coins[2], &anchor_script).await;
    assert_eq!(h.verdict(&h.unlock(&coin, &anchor_script, |signature| vec![signature])).await, None);
    let after_16 = |item: Option<Vec<u8>>| {
        let mut tx = h.unlock(&coin, &anchor_script, |signature| vec![item.clone().unwrap_or(signature)]);
        tx.input[0].sequence = Sequence(16);
        tx
    };
    assert_eq!(h.reason(&after_16(Some(vec![]))).await, "non-BIP68-final");
    h.mine(15).await;
    assert_eq!(h.verdict(&after_16(Some(vec![]))).await, None);
    assert_eq!(
        h.reason(&after_16(None)).await,
        "mempool-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG operation)"
    );

    let multisig = Builder::new()
        .push_int(1)
        .push_slice(key)
        .push_slice(key)
        .push_int(2)
        .push_opcode(op::OP_CHECKMULTISIG)
        .into_script();
    let coin = h.lock_to(coins[3], &multisig).await;
    assert_eq!(h.verdict(&h.unlock(&coin, &multisig, |signature| vec![vec![], signature])).await, None);
    assert_eq!(
        h.reason(&h.unlock(&coin, &multisig, |signature| vec![vec![1], signature])).await,
        "mandatory-script-verify-flag-failed (Dummy CHECKMULTISIG argument must be zero)"
    );

    let long_push =
        Builder::new().push_opcode(op::OP_DROP).push_opcode(op::OP_DROP).push_int(1).into_script();
    let coin = h.lock_to(coins[4], &long_push).await;
    let sized = |bytes: usize| h.unlock(&coin, &long_push, move |_| vec![vec![7], vec![7; bytes]]);
    assert_eq!(h.verdict(&sized(80)).await, None);
    assert_eq!(h.reason(&sized(81)).await, "bad-witness-nonstandard");

    let unclean = Builder::new().push_opcode(op::OP_NOP4).push_int(1).into_script();
    let coin = h.lock_to(coins[5], &unclean).await;
    assert_eq!(
        h.reason(&h.unlock(&coin, &unclean, |_| vec![])).await,
        "mempool-script-verify-flag-failed (NOPx reserved for soft-fork upgrades)"
    );
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn witness_programs_have_their_limits() {
    let h = Harness::start().await;
    let coins = h.coins(3, COIN).await;
    let mut long = vec![];
    for _ in 0..45 {
        long.extend([vec![0x4c, 79], vec![7; 79], vec![0x75]].concat());
    }
    long.push(0x51);
    let long = ScriptBuf::from_bytes(long);
    assert!(long.len() > 3_600);
    let coin = h.lock_to(coins[0], &long).await;
    assert_eq!(h.reason(&h.unlock(&coin, &long, |_| vec![])).await, "bad-witness-nonstandard");

    // A future witness version, a taproot leaf of unknown version, pay to anchor.
    let future = ScriptBuf::from_bytes([vec![0x52, 32], vec![9; 32]].concat());
    let bad_key = ScriptBuf::from_bytes([vec![0x51, 32], vec![0xff; 32]].concat());
    let tx = h.spend(2, &[(coins[1], COIN)], &[(300_000, future), (300_000, anchor()), (300_000, bad_key)]);
    h.client.call("sendrawtransaction", json!([hex(&tx), 0])).await;
    let bare = |vout: u32, witness: &[Vec<u8>]| {
        let mut spend = h.spend(2, &[(out(&tx, vout), 300_000)], &[(299_000, h.script())]);
        spend.input[0].witness = Witness::from_slice(witness);
        spend
    };
    assert_eq!(h.reason(&bare(0, &[])).await, "bad-txns-nonstandard-inputs");
    assert_eq!(h.reason(&bare(1, &[vec![1]])).await, "bad-witness-nonstandard");
    assert_eq!(h.verdict(&bare(1, &[])).await, None);
    let signature = vec![1; 64];
    assert_eq!(
        h.reason(&bare(2, std::slice::from_ref(&signature))).await,
        "mandatory-script-verify-flag-failed (Invalid Schnorr signature)"
    );
    assert_eq!(h.reason(&bare(2, &[signature, vec![0x50, 1]])).await, "bad-witness-nonstandard");
    assert_eq!(
        h.reason(&bare(2, &[vec![0; 81], vec![0x51], vec![0xc0; 33]])).await,
        "bad-witness-nonstandard"
    );
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_three_keeps_to_one_parent_and_one_child() {
    let h = Harness::start().await;
    let coins = h.coins(3, COIN).await;
    let parent = h.spend(3, &[(coins[0], COIN)], &[(400_000, h.script()), (599_000, h.script())]);
    h.enter(&parent).await;
    let child = |version: i32, vout: u32, fee: u64| {
        let value = if vout == 0 { 400_000 } else { 599_000 };
        h.spend(version, &[(out(&parent, vout), value)], &[(value - fee, h.script())])
    };
    assert_eq!(h.reason(&child(2, 0, 1_000)).await, "TRUC-violation");
    let first = child(3, 0, 1_000);
    h.enter(&first).await;
    let grandchild = h.spend(3, &[(out(&first, 0), 399_000)], &[(398_000, h.script())]);
    assert_eq!(h.reason(&grandchild).await, "TRUC-violation");
    // A sibling takes the child's place if it pays better, though they share no coin.
    assert_eq!(h.reason(&child(3, 1, 1_000)).await, "insufficient fee");
    let sibling = child(3, 1, 2_000);
    h.enter(&sibling).await;
    let mut pool = h.pool().await;
    pool.sort();
    let mut wanted = [id(&parent), id(&sibling)];
    wanted.sort();
    assert_eq!(pool, wanted);
    let wide: Vec<_> = (0..40).map(|_| (1_000, h.script())).collect();
    let big = h.spend(3, &[(out(&parent, 0), 400_000)], &wide);
    assert_eq!(h.verdict(&big).await.unwrap().0, "TRUC-violation");
    let usual = h.spend(2, &[(coins[1], COIN)], &[(990_000, h.script())]);
    h.enter(&usual).await;
    let mixed = h.spend(3, &[(out(&usual, 0), 990_000)], &[(980_000, h.script())]);
    assert_eq!(h.reason(&mixed).await, "TRUC-violation");
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_pays_for_its_parent() {
    let h = Harness::start().await;
    let coins = h.coins(4, COIN).await;
    for (number, version) in [(0, 2), (1, 3)] {
        let parent = h.spend(version, &[(coins[number], COIN)], &[(COIN - 500, h.script()), (500, anchor())]);
        assert_eq!(h.reason(&parent).await, "min relay fee not met");
        let mut child = h.spend(version, &[(out(&parent, 0), COIN - 500)], &[(COIN - 2_000, h.script())]);
        assert_eq!(h.reason(&child).await, "missing-inputs");
        let answer = h.client.call("submitpackage", json!([[hex(&parent), hex(&child)]])).await;
        assert_eq!(answer["package_msg"], "success", "{answer}");
        assert_eq!(answer["replaced-transactions"], json!([]));
        let result = &answer["tx-results"][parent.compute_wtxid().to_string()];
        assert_eq!(result["fees"]["base"], json!(0.0));
        assert_eq!(result["fees"]["effective-includes"].as_array().unwrap().len(), 2);
        // The same again is no fault.
        let answer = h.client.call("submitpackage", json!([[hex(&parent), hex(&child)]])).await;
        assert_eq!(answer["package_msg"], "success", "{answer}");
        // A better child replaces the first one without its parent.
        child = h.spend(version, &[(out(&parent, 0), COIN - 500)], &[(COIN - 4_000, h.script())]);
        h.enter(&child).await;
    }
    assert_eq!(h.pool().await.len(), 4);
    h.mine(1).await;
    assert!(h.pool().await.is_empty());

    // Together they still pay too little.
    let parent = h.spend(2, &[(coins[2], COIN)], &[(COIN, h.script())]);
    let child = h.spend(2, &[(out(&parent, 0), COIN)], &[(COIN - 15, h.script())]);
    let answer = h.client.call("submitpackage", json!([[hex(&parent), hex(&child)]])).await;
    assert_eq!(answer["package_msg"], "transaction failed", "{answer}");
    let error = answer["tx-results"][child.compute_wtxid().to_string()]["error"].as_str().unwrap();
    assert!(error.starts_with("min relay fee not met"), "{error}");
    assert!(h.pool().await.is_empty());
    // A child that pays more than its caller allows leaves nothing behind.
    let child = h.spend(2, &[(out(&parent, 0), COIN)], &[(COIN - 500_000, h.script())]);
    assert_eq!(h.client.fail("submitpackage", json!([[hex(&parent), hex(&child)], 0.01])).await.0, -25);
    assert!(h.pool().await.is_empty());

    let unrelated = h.spend(2, &[(coins[3], COIN)], &[(COIN - 1_000, h.script())]);
    for (package, word) in [
        (vec![hex(&child), hex(&parent)], "package-not-sorted"),
        (vec![hex(&unrelated), hex(&child)], "package-not-child-with-unconfirmed-parents"),
        (vec![hex(&parent), hex(&parent)], "package-contains-duplicates"),
    ] {
        let (code, message) = h.client.fail("submitpackage", json!([package])).await;
        assert_eq!((code, message), (-25, format!("package topology disallowed: {word}")));
    }
    assert_eq!(h.client.fail("submitpackage", json!([[]])).await.0, -8);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_replaces_a_package_and_dust_must_be_spent() {
    let h = Harness::start().await;
    let coins = h.coins(2, COIN).await;
    let pair = |fee: u64, mark: u64| {
        let parent = h.spend(3, &[(coins[0], COIN)], &[(COIN - mark, h.script()), (mark, h.script())]);
        let child = h.spend(3, &[(out(&parent, 0), COIN - mark)], &[(COIN - mark - fee, h.script())]);
        (parent, child)
    };
    let submit = |(parent, child): (Transaction, Transaction)| {
        let client = h.client.clone();
        async move { client.call("submitpackage", json!([[hex(&parent), hex(&child)]])).await }
    };
    let first = pair(1_000, 400);
    assert_eq!(submit(first.clone()).await["package_msg"], "success");
    let poor = submit(pair(1_010, 500)).await;
    assert!(poor["package_msg"].as_str().unwrap().starts_with("package RBF failed"), "{poor}");
    assert_eq!(h.pool().await.len(), 2);
    let second = pair(3_000, 500);
    let answer = submit(second.clone()).await;
    assert_eq!(answer["package_msg"], "success", "{answer}");
    let mut gone: Vec<Value> = vec![json!(id(&first.0)), json!(id(&first.1))];
    gone.sort_by_key(ToString::to_string);
    let mut replaced = answer["replaced-transactions"].as_array().unwrap().clone();
    replaced.sort_by_key(ToString::to_string);
    assert_eq!(replaced, gone);
    h.mine(1).await;

    // A fee-less parent may carry one dusty output if its child spends it.
    let parent = h.spend(3, &[(coins[1], COIN)], &[(COIN, h.script()), (0, anchor())]);
    let ignoring = h.spend(3, &[(out(&parent, 0), COIN)], &[(COIN - 1_000, h.script())]);
    let answer = submit((parent.clone(), ignoring.clone())).await;
    let error = answer["tx-results"][ignoring.compute_wtxid().to_string()]["error"].as_str().unwrap();
    assert!(error.starts_with("missing-ephemeral-spends"), "{error}");
    assert!(h.pool().await.is_empty());
    let mut sweeping =
        h.spend(3, &[(out(&parent, 0), COIN), (out(&parent, 1), 0)], &[(COIN - 1_000, h.script())]);
    sweeping.input[1].witness = Witness::new();
    let answer = submit((parent, sweeping)).await;
    assert_eq!(answer["package_msg"], "success", "{answer}");
    h.running.stop().await.unwrap();
}

/// The other valid signature: the group's order minus S.
fn negate_s(signature: &[u8]) -> Vec<u8> {
    use bitcoin::secp256k1::constants::CURVE_ORDER;
    let parsed = bitcoin::secp256k1::ecdsa::Signature::from_der(&signature[..signature.len() - 1]).unwrap();
    let compact = parsed.serialize_compact();
    let mut s = [0u8; 32];
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let difference = i16::from(CURVE_ORDER[at]) - i16::from(compact[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        s[at] = difference.rem_euclid(256) as u8;
    }
    let mut both = [0u8; 64];
    both[..32].copy_from_slice(&compact[..32]);
    both[32..].copy_from_slice(&s);
    let high = bitcoin::secp256k1::ecdsa::Signature::from_compact(&both).unwrap();
    let mut bytes = high.serialize_der().to_vec();
    bytes.push(1);
    bytes
}
