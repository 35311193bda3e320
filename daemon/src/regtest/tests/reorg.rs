//! The pool and the faucet follow the chain back and forth.

use bitcoin::OutPoint;
use serde_json::{json, Value};

use super::client::{hex, id, out};
use super::Harness;

const COIN: u64 = 1_000_000;

async fn balances(h: &Harness) -> Value {
    h.client.call("getbalances", json!([])).await["mine"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_return_from_blocks_that_leave() {
    let h = Harness::start().await;
    let coin = (h.coins(1, COIN).await[0], COIN);
    let before = balances(&h).await;
    let parent = h.spend(2, &[coin], &[(COIN - 1_000, h.script())]);
    let child = h.spend(2, &[(out(&parent, 0), COIN - 1_000)], &[(COIN - 2_000, h.script())]);
    h.send(&parent).await.unwrap();
    let first = h.mine(1).await;
    h.send(&child).await.unwrap();
    h.client.call("invalidateblock", json!([first[0]])).await;
    let mut pool = h.pool().await;
    pool.sort();
    let mut both = [id(&parent), id(&child)];
    both.sort();
    assert_eq!(pool, both);
    assert_eq!(balances(&h).await, before);
    assert_eq!(h.client.call("getblockcount", json!([])).await, 111);
    let tips = h.client.call("getchaintips", json!([])).await;
    assert!(tips.as_array().unwrap().iter().any(|tip| tip["status"] == "invalid"), "{tips}");

    let second = h.mine(1).await;
    assert!(h.pool().await.is_empty());
    let found = h.client.call("getrawtransaction", json!([id(&child), true])).await;
    assert_eq!(found["blockhash"], json!(second[0]));
    assert_eq!(found["confirmations"], 1);
    h.client.call("reconsiderblock", json!([first[0]])).await;
    assert_eq!(h.client.call("getblockcount", json!([])).await, 112);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reorganisation_makes_invalid_leaves_with_its_children() {
    let h = Harness::start().await;
    let coin = (h.coins(1, COIN).await[0], COIN);
    let miner = h.address();
    let one = h.spend(2, &[coin], &[(COIN - 1_000, h.script())]);
    let other = h.spend(2, &[coin], &[(COIN - 5_000, h.script())]);
    h.send(&one).await.unwrap();
    let first = h.mine(1).await;
    let child = h.spend(2, &[(out(&one, 0), COIN - 1_000)], &[(COIN - 2_000, h.script())]);
    h.send(&child).await.unwrap();
    let grandchild = h.spend(2, &[(out(&child, 0), COIN - 2_000)], &[(COIN - 3_000, h.script())]);
    h.send(&grandchild).await.unwrap();
    // A longer branch in which the coin was spent otherwise.
    h.client.call("invalidateblock", json!([first[0]])).await;
    h.client.call("generateblock", json!([miner, [hex(&other)]])).await;
    assert!(h.pool().await.is_empty());
    h.mine(1).await;
    assert_eq!(h.client.fail("getrawtransaction", json!([id(&one)])).await.0, -5);
    assert_eq!(h.client.call("getrawtransaction", json!([id(&other)])).await, json!(hex(&other)));

    // A coinbase that is ripe now and unripe again after its maturing block left.
    let ripe = h.mine(1).await;
    let hash = h.client.call("getblockhash", json!([112])).await;
    let block = h.client.call("getblock", json!([hash, 1])).await;
    let reward = OutPoint { txid: block["tx"][0].as_str().unwrap().parse().unwrap(), vout: 0 };
    h.mine(97).await;
    assert_eq!(h.client.call("getblockcount", json!([])).await, 211);
    let info = h.client.call("gettxout", json!([reward.txid.to_string(), 0])).await;
    let sat = (info["value"].as_f64().unwrap() * 1e8).round() as u64;
    let spend = h.spend(2, &[(reward, sat)], &[(sat - 10_000, h.script())]);
    h.send(&spend).await.unwrap();
    let tip = h.client.call("getbestblockhash", json!([])).await;
    h.client.call("invalidateblock", json!([tip])).await;
    assert!(h.pool().await.is_empty());
    assert_eq!(h.send(&spend).await.unwrap_err().0, -26);
    assert_eq!(ripe.len(), 1);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_take_the_best_paying_families() {
    let h = Harness::start().await;
    let coins = h.coins(3, COIN).await;
    let poor = h.spend(2, &[(coins[0], COIN)], &[(COIN - 20, h.script())]);
    let generous = h.spend(2, &[(out(&poor, 0), COIN - 20)], &[(COIN - 20_000, h.script())]);
    let usual = h.spend(2, &[(coins[1], COIN)], &[(COIN - 2_000, h.script())]);
    for tx in [&usual, &poor, &generous] {
        h.send(tx).await.unwrap();
    }
    let mined = h.mine(1).await;
    let block = h.client.call("getblock", json!([mined[0], 1])).await;
    let order: Vec<&str> =
        block["tx"].as_array().unwrap().iter().skip(1).map(|txid| txid.as_str().unwrap()).collect();
    assert_eq!(order, [id(&poor), id(&generous), id(&usual)]);

    // Exactly these and no others; invalid ones make no block.
    let left = h.spend(2, &[(coins[2], COIN)], &[(COIN - 2_000, h.script())]);
    h.send(&left).await.unwrap();
    let miner = h.address();
    h.client.call("generateblock", json!([miner, []])).await;
    assert_eq!(h.pool().await, [id(&left)]);
    let (code, message) = h.client.fail("generateblock", json!([miner, [hex(&poor)]])).await;
    assert_eq!(
        (code, message.starts_with("TestBlockValidity failed: bad-txns-inputs-missingorspent")),
        (-25, true),
        "{message}"
    );
    let (code, _) = h.client.fail("generateblock", json!([miner, [id(&poor)]])).await;
    assert_eq!(code, -5);
    let dry = h.client.call("generateblock", json!([miner, [id(&left)], false])).await;
    assert_eq!(h.pool().await.len(), 1);
    assert_eq!(h.client.call("submitblock", json!([dry["hex"]])).await, Value::Null);
    assert_eq!(h.client.call("submitblock", json!([dry["hex"]])).await, "duplicate");
    assert!(h.pool().await.is_empty());
    assert_eq!(h.client.fail("submitblock", json!(["00"])).await.0, -22);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_block_of_transactions_takes_several_blocks() {
    let h = Harness::start_with(130).await;
    let coins = h.coins(12, 90 * COIN).await;
    let outputs: Vec<_> = (0..3_100).map(|_| (10_000, h.script())).collect();
    for coin in coins {
        let tx = h.spend(2, &[(coin, 90 * COIN)], &outputs);
        assert!(tx.weight().to_wu() < 400_000);
        h.client.call("sendrawtransaction", json!([hex(&tx), 0])).await;
    }
    assert_eq!(h.mine(2).await.len(), 2);
    assert!(h.pool().await.is_empty());
    let tip = h.client.call("getbestblockhash", json!([])).await;
    assert_eq!(h.client.call("getblock", json!([tip])).await["nTx"], 3);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_faucet_pays_and_counts() {
    let h = Harness::start().await;
    assert_eq!(balances(&h).await, json!({"trusted": 550.0, "untrusted_pending": 0.0, "immature": 4950.0}));
    let (code, message) = h.client.fail("sendtoaddress", json!([h.address(), "600"])).await;
    assert_eq!((code, message.as_str()), (-6, "Insufficient funds"));
    assert_eq!(h.client.fail("sendtoaddress", json!(["nowhere", 1])).await.0, -5);
    assert_eq!(h.client.fail("sendtoaddress", json!([h.address(), 0])).await.0, -3);
    assert_eq!(h.client.fail("sendtoaddress", json!([h.address(), 0.00000001])).await.0, -6);
    assert_eq!(h.client.fail("sendtoaddress", json!([h.address(), 0.123456789])).await.0, -3);
    // Everything, with the fee taken from it: no change is left.
    let p2tr = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6";
    let all = h
        .client
        .call(
            "sendtoaddress",
            json!({"address": p2tr, "amount": 550, "subtractfeefromamount": true, "fee_rate": 3}),
        )
        .await;
    let entry = h.client.call("getmempoolentry", json!([all])).await;
    let fee = (entry["fees"]["base"].as_f64().unwrap() * 1e8).round() as u64;
    let least = 3 * entry["vsize"].as_u64().unwrap();
    assert!((least..least + 40).contains(&fee), "{fee} for {least}");
    assert_eq!(balances(&h).await["trusted"], json!(0.0));
    h.mine(1).await;
    // One more reward ripened.
    assert_eq!(balances(&h).await["trusted"], json!(50.0));
    let ours = h.client.call("getnewaddress", json!([])).await;
    h.client.call("sendtoaddress", json!([ours, 1])).await;
    let unspent = h.client.call("listunspent", json!([0])).await;
    assert_eq!(unspent.as_array().unwrap().len(), 2, "{unspent}");
    // Unconfirmed change is spent when nothing else is left.
    h.client.call("sendtoaddress", json!([p2tr, 48.5])).await;
    assert_eq!(h.pool().await.len(), 2);
    assert_eq!(h.client.call("getbalance", json!(["*", 1])).await, json!(0.0));
    h.running.stop().await.unwrap();
}
