//! What a chain backend may answer, and what a client may ask of the embedded chain.
//!
//! In: bytes. Out: nothing, or a panic: an answer is understood or refused in words, in bounded time; a request is
//! answered, and never breaks off in the middle.
//! Read next: `files`.

use super::hunt::saw;
use crate::chain::{Auth, Chain, RpcError};
use crate::regtest::{rpc_answer, Node, Options};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint};
use chand_protocol::chain::Network;
use chand_protocol::units::Height;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Longer than any answer takes on the busiest machine: only ever used up by one that never comes.
const PATIENCE: Duration = Duration::from_secs(180);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Raw bytes instead of an HTTP answer, or a body under a good head.
pub fn answers(input: &[u8]) {
    let [method, form, body @ ..] = input else { return };
    let (method, form, body) = (*method, *form, body.to_vec());
    runtime().block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, form, &body).await;
            }
        });
        let chain = Chain::new(&format!("http://alice:x@{place}"), Auth::Url).expect("a URL");
        let outcome = tokio::time::timeout(PATIENCE, ask(&chain, method)).await;
        server.abort();
        match outcome.expect("an end in time") {
            Ok(name) => saw(("understood", name)),
            Err(RpcError::Nonsense(words)) => saw(("nonsense", words.chars().take(24).collect::<String>())),
            Err(error) => {
                let words = error.to_string();
                assert!(!words.is_empty() && !words.contains("alice:x"), "{words}");
                saw(std::mem::discriminant(&error));
            }
        }
    });
}

/// One answer to each request, then an end.
async fn serve(mut stream: TcpStream, form: u8, body: &[u8]) {
    let mut head = [0; 4_096];
    let _ = stream.read(&mut head).await;
    let body = match form % 4 {
        0 => body.to_vec(),
        1 => [b"{\"id\":1,\"error\":null,\"result\":".as_slice(), body, b"}"].concat(),
        2 => [b"{\"id\":1,\"result\":null,\"error\":".as_slice(), body, b"}"].concat(),
        _ => {
            let _ = stream.write_all(body).await;
            return;
        }
    };
    let status = ["200 OK", "500 Error", "401 No", "503 Busy"][usize::from(form >> 2) % 4];
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
}

async fn ask(chain: &Chain, method: u8) -> Result<&'static str, RpcError> {
    async fn named<T>(
        name: &'static str,
        call: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<&'static str, RpcError> {
        call.await.map(|_| name)
    }
    let hash = BlockHash::all_zeros();
    match method % 10 {
        0 => named("info", chain.check_network(Network::Regtest)).await,
        1 => named("best", chain.get_best_block_hash()).await,
        2 => named("hash", chain.get_block_hash(Height(7))).await,
        3 => named("block", chain.get_block(&hash)).await,
        4 => named("header", chain.get_block_header(&hash)).await,
        5 => named("fee", chain.estimate_smart_fee(6)).await,
        6 => named("pool", chain.mempool_min_fee()).await,
        7 => named("output", chain.get_tx_out(&OutPoint::null(), true)).await,
        8 => named("package", chain.submit_package(&[])).await,
        _ => named("accept", chain.test_mempool_accept(&[])).await,
    }
}

/// A request to a chain of its own.
pub fn regtest(input: &[u8]) {
    // Thousands of blocks are fine and take their time.
    let text = String::from_utf8_lossy(input);
    let digits = text.split(|c: char| !c.is_ascii_digit() && c != 'e' && c != 'E').any(|n| n.len() > 2);
    if text.contains("generate") && digits {
        return;
    }
    // In memory where there is such a folder: a chain syncs its files when it is made.
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.expect("a folder");
    let options = Options { data_dir: Some(dir.path().to_path_buf()), premine: 0, ..Options::default() };
    let node = Arc::new(Node::open(&options).unwrap_or_else(|e| panic!("{e}")));
    let runtime = runtime();
    let outcome = runtime
        .block_on(async { tokio::time::timeout(Duration::from_millis(200), rpc_answer(&node, input)).await });
    // One that waits for a block waits.
    let Ok(answer) = outcome else { return saw("waits") };
    assert!(!answer.body.contains("failed midway"), "a request broke off: {}", answer.body);
    let value: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
    assert!(answer.body.is_empty() || value.is_some(), "the answer is no JSON: {}", answer.body);
    let code = value.as_ref().and_then(|v| v["error"]["code"].as_i64());
    let words = value
        .as_ref()
        .and_then(|v| v["error"]["message"].as_str().map(|m| m.chars().take(16).collect::<String>()));
    saw((answer.status, code, words));
    assert!(node.lock().is_ok(), "the state is in doubt");
}

/// Good answers, and near them.
pub fn answer_seeds() -> Vec<Vec<u8>> {
    let zeros = "0".repeat(64);
    let info = format!("{{\"chain\":\"regtest\",\"blocks\":7,\"headers\":7,\"bestblockhash\":\"{zeros}\",\"initialblockdownload\":false}}");
    let genesis = bitcoin::blockdata::constants::genesis_block(Network::Regtest.bitcoin());
    let block = format!("\"{}\"", bitcoin::consensus::encode::serialize_hex(&genesis));
    let output = "{\"confirmations\":3,\"value\":0.5,\"coinbase\":true,\"scriptPubKey\":{\"hex\":\"0014\"}}";
    let bodies: [(u8, u8, &str); 14] = [
        (0, 1, &info),
        (1, 1, &format!("\"{zeros}\"")),
        (2, 1, &format!("\"{zeros}\"")),
        (3, 1, &block),
        (4, 1, &block[..162]),
        (5, 1, "{\"feerate\":0.00001,\"blocks\":6}"),
        (6, 1, "{\"mempoolminfee\":0.00001,\"minrelaytxfee\":1e-5}"),
        (7, 1, output),
        (8, 1, "{\"package_msg\":\"success\",\"tx-results\":{\"a\":{\"error\":\"x\"}}}"),
        (9, 1, "[{\"txid\":\"00\",\"allowed\":false,\"reject-reason\":\"dust\"}]"),
        (0, 6, "{\"code\":-28,\"message\":\"Loading\"}"),
        (2, 6, "{\"code\":-8,\"message\":\"out of range\"}"),
        (0, 3, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n0\r\n\r\n"),
        (0, 8, "nothing"),
    ];
    bodies.iter().map(|(method, form, body)| [&[*method, *form], body.as_bytes()].concat()).collect()
}

/// A request of every command.
pub fn regtest_seeds() -> Vec<Vec<u8>> {
    let tx = "0200000001aa00000000000000000000000000000000000000000000000000000000000000000000000000ffffffff01e803000000000000160014000102030405060708090a0b0c0d0e0f1011121300000000";
    let address = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqxtmhs7";
    let calls = [
        "getblock [\"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206\",3]".to_string(),
        "getblockheader [\"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206\",true]".into(),
        "getblockhash [0]".into(),
        "gettxout [\"aa\",0,true]".into(),
        format!("scantxoutset [\"start\",[\"addr({address})\",{{\"desc\":\"raw(51)#\",\"range\":5}}]]"),
        "waitfornewblock [1]".into(),
        "waitforblockheight [9,1]".into(),
        "invalidateblock [\"00\"]".into(),
        "getrawmempool [true,true]".into(),
        "gettxspendingprevout [[{\"txid\":\"aa\",\"vout\":0}]]".into(),
        format!("sendrawtransaction [\"{tx}\",0.1,0]"),
        format!("testmempoolaccept [[\"{tx}\"],\"0.1\"]"),
        format!("submitpackage [[\"{tx}\",\"{tx}\"]]"),
        format!("createrawtransaction [[{{\"txid\":\"{}\",\"vout\":1,\"sequence\":5}}],[{{\"{address}\":0.1}},{{\"data\":\"00\"}}],7,true]", "ab".repeat(32)),
        format!("decoderawtransaction [\"{tx}\"]"),
        "decodescript [\"5221020279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f8179852ae\"]".into(),
        format!("generatetoaddress [2,\"{address}\"]"),
        format!("generateblock [\"{address}\",[\"{tx}\"]]"),
        "submitblock [\"00\"]".into(),
        "setmocktime [1700000000]".into(),
        "setfeeestimate [0.00002]".into(),
        "setmempoolminfee [0.00002]".into(),
        format!("validateaddress [\"{address}\"]"),
        "echo [1,{\"a\":[]}]".into(),
        "help [\"echo\"]".into(),
        "createwallet {\"wallet_name\":\"a\",\"args\":[]}".into(),
        "listunspent [0,9999999]".into(),
        format!("sendtoaddress {{\"address\":\"{address}\",\"amount\":0.1,\"fee_rate\":2}}"),
    ];
    let request = |call: &String| {
        let (method, params) = call.split_once(' ').expect("two parts");
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}").into_bytes()
    };
    calls.iter().map(request).chain([b"[{\"method\":\"uptime\"},{}]".to_vec()]).collect()
}
