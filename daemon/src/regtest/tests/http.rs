//! HTTP: who is let in, what JSON-RPC's two versions answer, what strangers cannot break.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::{client_of, options};
use super::Harness;
use crate::regtest::{run, spawn, RegtestError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_is_where_bitcoind_leaves_it_and_goes_with_the_node() {
    let harness = Harness::start_with(0).await;
    let path = harness.dir.path().join("regtest/.cookie");
    let cookie = std::fs::read_to_string(&path).unwrap();
    assert_eq!(cookie, format!("__cookie__:{}", harness.running.password()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = harness.dir.path().join("regtest/faucet.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, _) =
        harness.client.post("/", &STANDARD.encode(&cookie), r#"{"method":"getblockcount"}"#).await;
    assert_eq!(status, 200);
    harness.running.stop().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_are_refused_and_cost_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut chosen = options(dir.path(), 0);
    chosen.user = Some("alice".into());
    assert!(matches!(spawn(chosen.clone()).await, Err(RegtestError::Options(_))));
    chosen.password = Some("secret".into());
    let running = spawn(chosen).await.unwrap();
    let client = client_of(&running);
    assert!(running.cookie().is_none());
    let body = r#"{"method":"getblockcount","id":1}"#;
    let before = Instant::now();
    let (status, _) = client.post("/", &STANDARD.encode("alice:wrong"), body).await;
    assert_eq!(status, 401);
    assert!(before.elapsed() >= Duration::from_millis(250));
    let bare = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let bare = client.raw(bare.as_bytes()).await;
    assert!(bare.starts_with("HTTP/1.1 401"), "{bare}");
    assert!(bare.to_ascii_lowercase().contains("www-authenticate: basic realm=\"jsonrpc\""));
    assert_eq!(client.post("/", &STANDARD.encode("alice:secret"), body).await.0, 200);
    assert_eq!(client.post("/wallet/any", &STANDARD.encode("alice:secret"), body).await.0, 200);
    assert_eq!(client.post("/rest", &STANDARD.encode("alice:secret"), body).await.0, 404);
    assert!(client.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_json_rpc_are_spoken() {
    let harness = Harness::start_with(3).await;
    let (client, auth) = (&harness.client, &harness.client.auth);
    let ask = |body: &'static str| async move {
        let (status, text) = client.post("/", auth, body).await;
        (status, serde_json::from_str::<Value>(&text).unwrap_or(Value::Null))
    };
    let one = ask(r#"{"method":"getblockcount","params":[],"id":"a"}"#).await;
    assert_eq!(one, (200, json!({"result": 3, "error": null, "id": "a"})));
    let two = ask(r#"{"jsonrpc":"2.0","method":"getblockcount","id":5}"#).await;
    assert_eq!(two, (200, json!({"jsonrpc": "2.0", "result": 3, "id": 5})));
    let (status, missing) = ask(r#"{"method":"nonsense","id":1}"#).await;
    assert_eq!((status, missing["error"]["code"].as_i64()), (404, Some(-32601)));
    let (status, missing) = ask(r#"{"jsonrpc":"2.0","method":"nonsense","id":1}"#).await;
    assert_eq!((status, missing["error"]["code"].as_i64(), missing.get("result")), (200, Some(-32601), None));
    assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"getblockcount"}"#).await.0, 204);
    let (status, bad) = ask(r#"{"method":"getblockhash","params":[99]}"#).await;
    assert_eq!((status, bad["error"]["code"].as_i64()), (500, Some(-8)));
    assert_eq!(ask("{not json").await.1["error"]["code"], -32700);
    assert_eq!(ask("{not json").await.0, 500);
    assert_eq!(ask("7").await.1["error"]["code"], -32700);
    assert_eq!(ask(r#"{"params":[]}"#).await.0, 400);
    assert_eq!(ask(r#"{"method":7}"#).await.1["error"]["code"], -32600);
    assert_eq!(ask(r#"{"jsonrpc":"3.0","method":"x"}"#).await.1["error"]["code"], -32600);
    assert_eq!(ask(r#"{"method":"getblockhash","params":{"height":0},"id":1}"#).await.0, 200);
    assert_eq!(ask(r#"{"method":"getblockhash","params":{"depth":0}}"#).await.1["error"]["code"], -8);
    assert_eq!(ask(r#"{"method":"getblockhash","params":["x"]}"#).await.1["error"]["code"], -3);
    assert_eq!(ask(r#"{"method":"getblockhash","params":[1,2]}"#).await.1["error"]["code"], -1);
    assert_eq!(ask(r#"{"method":"getblockhash"}"#).await.1["error"]["code"], -1);
    let (status, batch) = ask(
        r#"[{"method":"getblockcount","id":1},{"jsonrpc":"2.0","method":"uptime"},{"method":"x","id":2},3]"#,
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(batch.as_array().unwrap().len(), 3);
    assert_eq!(batch[0]["result"], 3);
    assert_eq!(batch[1]["error"]["code"], -32601);
    assert_eq!(batch[2]["error"]["code"], -32600);
    assert_eq!(ask("[]").await, (200, json!([])));
    assert_eq!(ask(r#"[{"jsonrpc":"2.0","method":"uptime"}]"#).await.0, 204);
    harness.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_requests_and_huge_bodies_harm_nobody() {
    let harness = Harness::start_with(1).await;
    let client = &harness.client;
    let mut half = TcpStream::connect(client.address).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nHos").await.unwrap();
    let mut headed = TcpStream::connect(client.address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\nContent-Length: 50\r\n\r\n{{",
        client.auth
    );
    headed.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(client.call("getblockcount", json!([])).await, 1);
    drop(headed);
    assert!(client
        .raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        .await
        .starts_with("HTTP/1.1 400"));

    let declared = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\nContent-Length: 17000000\r\n\r\n",
        client.auth
    );
    let answer = client.raw(declared.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        client.auth
    );
    let answer = client.raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let deep = "[".repeat(100_000);
    assert_eq!(client.post("/", &client.auth, &deep).await.0, 500);
    assert_eq!(client.call("getblockcount", json!([])).await, 1);
    drop(half);
    harness.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alive_carries_several_requests() {
    use tokio::io::AsyncReadExt;
    let harness = Harness::start_with(1).await;
    let body = r#"{"method":"getblockcount","id":1}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\nContent-Length: {}\r\n\r\n{body}",
        harness.client.auth,
        body.len()
    );
    let mut stream = TcpStream::connect(harness.client.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("}\n") {
            let mut buffer = [0u8; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "closed");
            answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    harness.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_see_one_chain() {
    let harness = Harness::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let client = harness.client.clone();
        let address = harness.address();
        tasks.spawn(async move {
            if number % 4 == 0 {
                client.call("generatetoaddress", json!([1, address])).await;
            } else {
                client.call("sendtoaddress", json!([address, 0.01])).await;
            }
            client.call("getblockchaininfo", json!([])).await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(harness.client.call("getblockcount", json!([])).await, 120);
    harness.mine(1).await;
    assert!(harness.pool().await.is_empty());
    harness.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_clients_wake_with_the_block() {
    let harness = Harness::start_with(1).await;
    let tip = harness.client.call("getbestblockhash", json!([])).await;
    let client = harness.client.clone();
    let from = tip.clone();
    let waiting = tokio::spawn(async move { client.call("waitfornewblock", json!([0, from])).await });
    let client = harness.client.clone();
    let height = tokio::spawn(async move { client.call("waitforblockheight", json!([3])).await });
    while harness.running.node().waiting() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let hashes = harness.mine(2).await;
    let woken = waiting.await.unwrap();
    assert!(hashes.iter().any(|hash| woken["hash"] == json!(hash)), "{woken}");
    assert_eq!(height.await.unwrap(), json!({"hash": hashes[1], "height": 3}));
    let late = harness.client.call("waitfornewblock", json!([20])).await;
    assert_eq!(late["height"], 3);
    assert_eq!(harness.client.fail("waitfornewblock", json!([-1])).await.0, -1);
    let client = harness.client.clone();
    let forever = tokio::spawn(async move { client.call("waitforblockheight", json!([1000])).await });
    while harness.running.node().waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    harness.client.call("stop", json!([])).await;
    assert_eq!(forever.await.unwrap()["height"], 3);
    harness.running.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_no_block_and_no_coin() {
    let harness = Harness::start().await;
    let coins = harness.coins(1, 70_000_000).await;
    let tip = harness.client.call("getbestblockhash", json!([])).await;
    let balance = harness.client.call("getbalance", json!([])).await;
    let address = harness.client.call("getnewaddress", json!([])).await;
    let dir = harness.dir;
    let second = spawn(options(dir.path(), 110)).await;
    assert!(matches!(second, Err(RegtestError::Locked(_))));
    harness.running.stop().await.unwrap();

    let running = spawn(options(dir.path(), 110)).await.unwrap();
    let client = client_of(&running);
    assert_eq!(client.call("getbestblockhash", json!([])).await, tip);
    assert_eq!(client.call("getblockcount", json!([])).await, 111);
    assert_eq!(client.call("getbalance", json!([])).await, balance);
    assert_ne!(client.call("getnewaddress", json!([])).await, address);
    let found = client.call("gettxout", json!([coins[0].txid.to_string(), 0])).await;
    assert_eq!(found["value"], json!(0.7));
    running.stop().await.unwrap();

    // Without its counter the wallet still finds all that was paid to it.
    std::fs::remove_file(dir.path().join("regtest/faucet.next")).unwrap();
    let running = spawn(options(dir.path(), 110)).await.unwrap();
    assert_eq!(client_of(&running).call("getbalance", json!([])).await, balance);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (stop, told) = tokio::sync::watch::channel(false);
    let task = tokio::spawn(run(options(dir.path(), 0), told));
    stop.send_replace(true);
    task.await.unwrap().unwrap();
    let (stop, told) = tokio::sync::watch::channel(false);
    drop(stop);
    run(options(dir.path(), 0), told).await.unwrap();
}
