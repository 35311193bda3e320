//! What the commands answer.

use serde_json::{json, Value};

use super::client::{hex, id, out};
use super::Harness;

const GENESIS: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_reads_as_bitcoinds() {
    let h = Harness::start_with(2).await;
    let c = &h.client;
    assert_eq!(c.call("getblockhash", json!([0])).await, GENESIS);
    let info = c.call("getblockchaininfo", json!([])).await;
    assert_eq!(
        keys(&info),
        [
            "chain",
            "blocks",
            "headers",
            "bestblockhash",
            "bits",
            "target",
            "difficulty",
            "time",
            "mediantime",
            "verificationprogress",
            "initialblockdownload",
            "chainwork",
            "size_on_disk",
            "pruned",
            "warnings"
        ]
    );
    assert_eq!(info["chain"], "regtest");
    assert_eq!(info["blocks"], 2);
    assert_eq!(info["bits"], "207fffff");
    assert_eq!(info["target"], "7fffff0000000000000000000000000000000000000000000000000000000000");
    // As text: reading it back into a double may lose the last bit.
    let (_, text) = c.post("/", &c.auth, r#"{"method":"getblockchaininfo"}"#).await;
    assert!(text.contains(r#""difficulty":4.656542373906925e-10,"#), "{text}");
    assert_eq!(info["chainwork"], "0000000000000000000000000000000000000000000000000000000000000006");
    let header = c.call("getblockheader", json!([GENESIS])).await;
    assert_eq!(header["merkleroot"], "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b");
    assert_eq!((&header["time"], &header["nonce"]), (&json!(1_296_688_602), &json!(2)));
    assert_eq!((&header["confirmations"], &header["nTx"]), (&json!(3), &json!(1)));
    assert_eq!(header["versionHex"], "00000001");
    assert_eq!(header.get("previousblockhash"), None);
    assert_eq!(header["nextblockhash"], c.call("getblockhash", json!([1])).await);
    let raw = c.call("getblockheader", json!([GENESIS, false])).await;
    assert_eq!(raw.as_str().unwrap().len(), 160);
    let tip = c.call("getbestblockhash", json!([])).await;
    let raw = c.call("getblock", json!([tip, 0])).await;
    let block = c.call("getblock", json!([tip])).await;
    assert_eq!(raw.as_str().unwrap().len() as u64, 2 * block["size"].as_u64().unwrap());
    assert_eq!(
        block["weight"].as_u64().unwrap(),
        3 * block["strippedsize"].as_u64().unwrap() + block["size"].as_u64().unwrap()
    );
    let full = c.call("getblock", json!([tip, 2])).await;
    assert_eq!(full["tx"][0]["txid"], block["tx"][0]);
    assert_eq!(full["tx"][0]["vout"][0]["value"], json!(50.0));
    assert_eq!(full["tx"][0]["vin"][0]["coinbase"].as_str().unwrap().get(..2), Some("52"));
    assert_eq!(c.fail("getblock", json!(["00".repeat(32)])).await, (-5, "Block not found".into()));
    assert_eq!(c.fail("getblock", json!(["00"])).await.0, -8);
    assert_eq!(c.fail("getblockhash", json!([3])).await, (-8, "Block height out of range".into()));
    assert_eq!(c.fail("getblockhash", json!([-1])).await.0, -8);
    assert_eq!(c.fail("invalidateblock", json!(["11".repeat(32)])).await, (-5, "Block not found".into()));
    let tips = c.call("getchaintips", json!([])).await;
    assert_eq!(tips, json!([{"height": 2, "hash": tip, "branchlen": 0, "status": "active"}]));
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_read_as_bitcoinds() {
    let h = Harness::start().await;
    let c = &h.client;
    let coin = h.coins(1, 10_000_000).await[0];
    let tx = h.spend(2, &[(coin, 10_000_000)], &[(9_999_859, h.script())]);
    let found = c.call("decoderawtransaction", json!([hex(&tx)])).await;
    assert_eq!(
        keys(&found),
        ["txid", "hash", "version", "size", "vsize", "weight", "locktime", "vin", "vout"]
    );
    assert_eq!(keys(&found["vin"][0]), ["txid", "vout", "scriptSig", "txinwitness", "sequence"]);
    assert_eq!(keys(&found["vout"][0]["scriptPubKey"]), ["asm", "desc", "hex", "address", "type"]);
    assert_eq!(found["vout"][0]["scriptPubKey"]["type"], "witness_v0_keyhash");
    assert_eq!(found["vout"][0]["scriptPubKey"]["address"], json!(h.address()));
    assert_eq!(c.fail("decoderawtransaction", json!(["00"])).await, (-22, "TX decode failed".into()));

    let open = c.call("gettxout", json!([coin.txid.to_string(), 0])).await;
    assert_eq!(keys(&open), ["bestblock", "confirmations", "value", "scriptPubKey", "coinbase"]);
    assert_eq!((&open["confirmations"], &open["value"]), (&json!(1), &json!(0.1)));
    h.send(&tx).await.unwrap();
    assert_eq!(c.call("gettxout", json!([coin.txid.to_string(), 0])).await, Value::Null);
    assert_ne!(c.call("gettxout", json!([coin.txid.to_string(), 0, false])).await, Value::Null);
    assert_eq!(c.call("gettxout", json!([id(&tx), 0])).await["confirmations"], 0);
    assert_eq!(c.call("gettxout", json!([id(&tx), 7])).await, Value::Null);
    let spender = c.call(
        "gettxspendingprevout",
        json!([[{"txid": coin.txid.to_string(), "vout": 0}, {"txid": id(&tx), "vout": 0}]]),
    );
    let spender = spender.await;
    assert_eq!(spender[0]["spendingtxid"], json!(id(&tx)));
    assert_eq!(spender[1].get("spendingtxid"), None);

    let entry = c.call("getmempoolentry", json!([id(&tx)])).await;
    assert_eq!(
        keys(&entry),
        [
            "vsize",
            "weight",
            "time",
            "height",
            "descendantcount",
            "descendantsize",
            "ancestorcount",
            "ancestorsize",
            "wtxid",
            "fees",
            "depends",
            "spentby",
            "bip125-replaceable",
            "unbroadcast"
        ]
    );
    assert_eq!(entry["fees"]["base"], json!(0.00000141));
    assert_eq!(c.call("getrawmempool", json!([true])).await[id(&tx)], entry);
    assert_eq!(c.call("getrawmempool", json!([false, true])).await["txids"], json!([id(&tx)]));
    assert_eq!(c.call("getmempoolinfo", json!([])).await["size"], 1);
    assert_eq!(
        c.fail("getmempoolentry", json!([coin.txid.to_string()])).await,
        (-5, "Transaction not in mempool".into())
    );

    let pooled = c.call("getrawtransaction", json!([id(&tx), 2])).await;
    assert_eq!(pooled["fee"], json!(0.00000141));
    assert_eq!(pooled.get("blockhash"), None);
    let mined = h.mine(1).await;
    let deep = c.call("getrawtransaction", json!([id(&tx), 2, mined[0]])).await;
    assert_eq!((&deep["in_active_chain"], &deep["confirmations"]), (&json!(true), &json!(1)));
    assert_eq!(deep["vin"][0]["prevout"]["value"], json!(0.1));
    let block = c.call("getblock", json!([mined[0], 3])).await;
    assert_eq!(block["tx"][1]["fee"], json!(0.00000141));
    assert_eq!(block["tx"][1]["vin"][0]["prevout"]["generated"], false);
    assert_eq!(c.fail("getrawtransaction", json!([id(&tx), 0, GENESIS])).await.0, -5);
    assert_eq!(c.fail("getrawtransaction", json!(["11".repeat(32)])).await.0, -5);

    let scan = c.call("scantxoutset", json!(["start", [format!("addr({})", h.address())]])).await;
    assert_eq!(scan["total_amount"], json!(0.09999859));
    assert_eq!(scan["unspents"][0]["txid"], json!(out(&tx, 0).txid.to_string()));
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_are_written_with_eight_decimals() {
    let h = Harness::start().await;
    let auth = h.client.auth.clone();
    let ask = |body: String| {
        let (client, auth) = (h.client.clone(), auth.clone());
        async move { client.post("/", &auth, &body).await.1 }
    };
    assert!(ask(r#"{"method":"getbalance"}"#.into()).await.contains(r#""result":550.00000000"#));
    assert!(ask(r#"{"method":"getnetworkinfo"}"#.into()).await.contains(r#""relayfee":0.00000100"#));
    let body = format!(r#"{{"method":"sendtoaddress","params":["{}",0.1]}}"#, h.address());
    let reply: Value = serde_json::from_str(&ask(body).await).unwrap();
    let body = format!(r#"{{"method":"gettxout","params":[{},0]}}"#, reply["result"]);
    assert!(ask(body).await.contains(r#""value":0.10000000"#));
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_decoded() {
    let h = Harness::start_with(0).await;
    let c = &h.client;
    let p2tr = c
        .call(
            "decodescript",
            json!([format!("5120{}", "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")]),
        )
        .await;
    assert_eq!(p2tr["type"], "witness_v1_taproot");
    assert_eq!(p2tr["asm"], "1 79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
    assert!(p2tr["desc"].as_str().unwrap().starts_with("rawtr(79be667e"));
    let anchor = c.call("decodescript", json!(["51024e73"])).await;
    assert_eq!(anchor["type"], "anchor");
    assert_eq!(anchor["address"], "bcrt1pfeesnyr2tx");
    let locks = c.call("decodescript", json!(["02e803b27502e803b1"])).await;
    assert_eq!(locks["asm"], "1000 OP_CHECKSEQUENCEVERIFY OP_DROP 1000 OP_CHECKLOCKTIMEVERIFY");
    assert_eq!(locks["type"], "nonstandard");
    assert_eq!(keys(&locks["segwit"]), ["asm", "desc", "hex", "address", "type", "p2sh-segwit"]);
    let data = c.call("decodescript", json!(["6a0102"])).await;
    assert_eq!((&data["type"], &data["asm"]), (&json!("nulldata"), &json!("OP_RETURN 2")));
    assert_eq!(data.get("p2sh"), None);
    assert_eq!(c.call("decodescript", json!(["4c"])).await["asm"], "[error]");
    assert_eq!(c.fail("decodescript", json!(["zz"])).await.0, -8);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruned_blocks_are_gone_and_coins_are_not() {
    let h = Harness::start_with(10).await;
    let c = &h.client;
    let hash = |height: u32| c.call("getblockhash", json!([height]));
    let (old, young) = (hash(5).await, hash(6).await);
    let coin = c.call("getblock", json!([old])).await["tx"][0].clone();
    assert_eq!(c.call("getblockchaininfo", json!([])).await["pruned"], false);
    assert_eq!(c.fail("pruneblockchain", json!([11])).await.0, -8);
    assert_eq!(c.call("pruneblockchain", json!([5])).await, 5);
    let info = c.call("getblockchaininfo", json!([])).await;
    assert_eq!((&info["pruned"], &info["pruneheight"]), (&json!(true), &json!(6)));
    assert_eq!(c.fail("getblock", json!([old])).await, (-1, "Block not available (pruned data)".into()));
    c.call("getblock", json!([young])).await;
    c.call("getblockheader", json!([old])).await;
    assert_eq!(c.fail("getrawtransaction", json!([coin])).await.0, -5);
    assert_eq!(c.call("gettxout", json!([coin, 0])).await["coinbase"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_small_commands() {
    let h = Harness::start_with(1).await;
    let c = &h.client;
    assert_eq!(c.call("echo", json!(["a", 1, null])).await, json!(["a", 1, null]));
    assert!(c.call("uptime", json!([])).await.is_u64());
    assert_eq!(c.call("getpeerinfo", json!([])).await, json!([]));
    assert_eq!(c.call("getzmqnotifications", json!([])).await, json!([]));
    assert_eq!(c.call("getnetworkinfo", json!([])).await["version"], 300_000);
    let help = c.call("help", json!([])).await;
    assert!(help.as_str().unwrap().contains("sendrawtransaction hexstring maxfeerate"), "{help}");
    assert!(c.call("help", json!(["stop"])).await.as_str().unwrap().starts_with("stop\n"));
    let none = json!({"errors": ["Insufficient data or no feerate found"], "blocks": 6});
    assert_eq!(c.call("estimatesmartfee", json!([6])).await, none);
    c.call("setfeeestimate", json!([0.00012])).await;
    assert_eq!(
        c.call("estimatesmartfee", json!({"conf_target": 2, "estimate_mode": "economical"})).await,
        json!({"feerate": 0.00012, "blocks": 2})
    );
    c.call("setfeeestimate", json!([null])).await;
    assert_eq!(c.call("estimatesmartfee", json!([6])).await, none);
    assert_eq!(c.fail("estimatesmartfee", json!([0])).await.0, -8);
    assert_eq!(c.call("createwallet", json!(["alice"])).await["name"], "alice");
    assert_eq!(c.fail("createwallet", json!(["alice"])).await.0, -4);
    assert_eq!(c.fail("loadwallet", json!(["alice"])).await.0, -35);
    assert_eq!(c.call("loadwallet", json!(["bob"])).await["name"], "bob");
    assert_eq!(c.call("listwallets", json!([])).await, json!(["alice", "bob"]));
    let now = 2_000_000_000;
    c.call("setmocktime", json!([now])).await;
    let block = h.mine(1).await;
    assert_eq!(c.call("getblockheader", json!([block[0]])).await["time"], now);
    h.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_transactions_are_made() {
    let h = Harness::start_with(0).await;
    let c = &h.client;
    let input = json!({"txid": GENESIS, "vout": 1});
    let made = c.call("createrawtransaction", json!([[input], {h.address(): 0.1, "data": "cafe"}])).await;
    // Without inputs signed, the witness is absent and the sequence says replaceable.
    let found = c.call("decoderawtransaction", json!([made])).await;
    assert_eq!(found["vin"][0]["sequence"], 0xffff_fffd_u32);
    assert_eq!(found["vout"][0]["value"], json!(0.1));
    assert_eq!(found["vout"][1]["scriptPubKey"]["asm"], "OP_RETURN -32458");
    let made = c.call("createrawtransaction", json!([[input], [{h.address(): "0.2"}], 100, false, 3])).await;
    let found = c.call("decoderawtransaction", json!([made])).await;
    assert_eq!((&found["vin"][0]["sequence"], &found["version"]), (&json!(0xffff_fffe_u32), &json!(3)));
    assert_eq!(found["locktime"], 100);
    assert_eq!(c.fail("createrawtransaction", json!([[input], {"nowhere": 1}])).await.0, -5);
    assert_eq!(c.fail("createrawtransaction", json!([[input], {h.address(): 1.123456789}])).await.0, -3);
    assert_eq!(c.fail("createrawtransaction", json!([[{"txid": "00", "vout": 0}], {}])).await.0, -8);
    h.running.stop().await.unwrap();
}
