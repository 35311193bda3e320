//! A small fake of a bitcoind's JSON-RPC: a chain without proof of work, a mempool by decree, and every way to misbehave.

use base64::Engine;
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, Transaction, Txid};
use chand_protocol::chain::Network;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What a call meets.
#[derive(Clone)]
pub enum Mood {
    Good,
    /// This status with an empty body.
    Status(u16),
    /// This body with status 200.
    Body(String),
    /// An error of the backend for every method.
    Error(i64, &'static str),
    /// No answer, ever.
    Silent,
}

pub struct State {
    pub network: Network,
    pub login: String,
    pub mood: Mood,
    pub blocks: BTreeMap<BlockHash, Block>,
    pub active: Vec<BlockHash>,
    /// A block that is given out changed.
    pub corrupt: Option<BlockHash>,
    pub extra_headers: u64,
    /// Work that it claims beyond that of its blocks.
    pub extra_work: u64,
    pub can_wait: bool,
    pub feerate: Option<f64>,
    pub min_fee: f64,
    pub refuse: BTreeMap<Txid, (i64, String)>,
    pub accepted: Vec<Txid>,
    pub packages: Vec<Vec<Txid>>,
    pub answers: BTreeMap<String, Value>,
    pub calls: u64,
    pub connections: u64,
}

/// The backend and, while it runs, its server.
pub struct Fake {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    news: Arc<watch::Sender<u64>>,
    server: Option<JoinHandle<()>>,
}

impl Fake {
    pub async fn start(network: Network) -> Fake {
        let genesis = genesis_block(network.bitcoin());
        let hash = genesis.block_hash();
        let state = State {
            network,
            login: "alice:secret words".into(),
            mood: Mood::Good,
            blocks: BTreeMap::from([(hash, genesis)]),
            active: vec![hash],
            corrupt: None,
            extra_headers: 0,
            extra_work: 0,
            can_wait: true,
            feerate: None,
            min_fee: 0.00001,
            refuse: BTreeMap::new(),
            accepted: Vec::new(),
            packages: Vec::new(),
            answers: BTreeMap::new(),
            calls: 0,
            connections: 0,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let mut fake = Fake {
            address,
            state: Arc::new(Mutex::new(state)),
            news: Arc::new(watch::Sender::new(0)),
            server: None,
        };
        fake.serve(listener);
        fake
    }

    pub fn url(&self) -> String {
        format!("http://alice:secret%20words@{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn serve(&mut self, listener: TcpListener) {
        let (state, news) = (Arc::clone(&self.state), Arc::clone(&self.news));
        self.server = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().expect("not poisoned").connections += 1;
                let (state, news) = (Arc::clone(&state), Arc::clone(&news));
                let service = hyper::service::service_fn(move |request| {
                    answer(request, Arc::clone(&state), Arc::clone(&news))
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    let _ = serving.await;
                });
            }
        }));
    }

    /// Closes the port and every connection.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    pub fn restart(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("reuse");
        socket.bind(self.address).expect("the same port");
        let listener = socket.listen(64).expect("listens");
        self.serve(listener);
    }

    /// Mines on the tip; `salt` tells rival blocks apart.
    pub fn mine(&self, count: usize, salt: u8) -> Vec<BlockHash> {
        let mut state = self.state();
        let mined = (0..count).map(|_| {
            let previous = *state.active.last().expect("a genesis block");
            let height = state.active.len();
            let mut block = state.blocks[&previous].clone();
            block.header.prev_blockhash = previous;
            block.header.time += 600;
            block.txdata.truncate(1);
            block.txdata[0].input[0].script_sig =
                bitcoin::script::Builder::new().push_int(height as i64).push_slice([salt; 4]).into_script();
            block.header.merkle_root = block.compute_merkle_root().expect("a transaction");
            let hash = block.block_hash();
            state.blocks.insert(hash, block);
            state.active.push(hash);
            hash
        });
        let mined = mined.collect();
        drop(state);
        self.news.send_modify(|n| *n += 1);
        mined
    }

    /// Takes the newest blocks off the best chain, as `invalidateblock` does.
    pub fn unmine(&self, count: usize) {
        let mut state = self.state();
        let left = state.active.len() - count;
        state.active.truncate(left);
    }

    /// A reorganisation at once: `off` blocks go, `on` others come.
    pub fn reorganise(&self, off: usize, on: usize, salt: u8) -> Vec<BlockHash> {
        // Under one lock the follower could not see between; two are the harder case.
        self.unmine(off);
        self.mine(on, salt)
    }
}

type Answer = Result<Response<Full<Bytes>>, std::convert::Infallible>;

fn respond(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Ok(response)
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    news: Arc<watch::Sender<u64>>,
) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a whole request").to_bytes();
    let call: Value = serde_json::from_slice(&body).expect("a call");
    let (mood, login) = {
        let mut state = state.lock().expect("not poisoned");
        state.calls += 1;
        (state.mood.clone(), state.login.clone())
    };
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
    if head.headers.get("authorization").map(|v| v.as_bytes()) != Some(expected.as_bytes()) {
        return respond(401, "");
    }
    let outcome = match mood {
        Mood::Good if call["method"] == "waitfornewblock" => {
            wait(&state, &news, call["params"][0].as_u64().unwrap_or(0)).await
        }
        Mood::Good => state.lock().expect("not poisoned").result(&call),
        Mood::Status(status) => return respond(status, ""),
        Mood::Body(body) => return respond(200, body),
        Mood::Error(code, message) => Err((code, message.to_owned())),
        Mood::Silent => std::future::pending().await,
    };
    let (status, body) = match outcome {
        Ok(result) => (200, json!({ "result": result, "error": null, "id": call["id"] })),
        Err((code, message)) => {
            let error = json!({ "code": code, "message": message });
            (500, json!({ "result": null, "error": error, "id": call["id"] }))
        }
    };
    respond(status, body.to_string())
}

async fn wait(
    state: &Mutex<State>,
    news: &watch::Sender<u64>,
    limit_ms: u64,
) -> Result<Value, (i64, String)> {
    let mut seen = news.subscribe();
    if !state.lock().expect("not poisoned").can_wait {
        return Err((-32601, "Method not found".into()));
    }
    let _ = tokio::time::timeout(Duration::from_millis(limit_ms), seen.changed()).await;
    let state = state.lock().expect("not poisoned");
    Ok(json!({ "hash": state.best().to_string(), "height": state.active.len() - 1 }))
}

impl State {
    fn best(&self) -> BlockHash {
        *self.active.last().expect("a genesis block")
    }

    fn hash_param(&self, call: &Value) -> Result<&Block, (i64, String)> {
        let hash = call["params"][0].as_str().and_then(|text| text.parse().ok());
        hash.and_then(|hash: BlockHash| self.blocks.get(&hash)).ok_or((-5, "Block not found".into()))
    }

    fn result(&mut self, call: &Value) -> Result<Value, (i64, String)> {
        let method = call["method"].as_str().expect("a method");
        if let Some(fixed) = self.answers.get(method) {
            return Ok(fixed.clone());
        }
        match method {
            "getblockchaininfo" => Ok(json!({
                "chain": self.network.row().node_name, "blocks": self.active.len() - 1,
                "headers": self.active.len() as u64 - 1 + self.extra_headers,
                "bestblockhash": self.best().to_string(), "initialblockdownload": false, "pruned": false,
                "chainwork": format!("{:064x}", self.active.len() as u64 + self.extra_work),
            })),
            "getbestblockhash" => Ok(json!(self.best().to_string())),
            "getblockhash" => {
                let height = call["params"][0].as_u64().expect("a height");
                let hash = self.active.get(height as usize);
                hash.map(|h| json!(h.to_string())).ok_or((-8, "Block height out of range".into()))
            }
            "getblock" => {
                let mut block = self.hash_param(call)?.clone();
                if self.corrupt == Some(block.block_hash()) {
                    block.txdata[0].output[0].value += bitcoin::Amount::from_sat(1);
                }
                Ok(json!(serialize_hex(&block)))
            }
            "getblockheader" => {
                let block = self.hash_param(call)?;
                if call["params"][1] == false {
                    return Ok(json!(serialize_hex(&block.header)));
                }
                let hash = block.block_hash();
                let depth = self.active.iter().rev().position(|h| *h == hash).map_or(-1, |n| n as i64 + 1);
                Ok(
                    json!({ "hash": hash.to_string(), "confirmations": depth, "height": self.height_of(hash) }),
                )
            }
            "estimatesmartfee" => Ok(match self.feerate {
                Some(feerate) => json!({ "feerate": feerate, "blocks": call["params"][0] }),
                None => json!({ "errors": ["Insufficient data or no feerate found"], "blocks": 0 }),
            }),
            "getmempoolinfo" => Ok(json!({ "mempoolminfee": self.min_fee, "minrelaytxfee": 0.000001 })),
            "sendrawtransaction" => self.accept(&call["params"][0]).map(|txid| json!(txid.to_string())),
            "submitpackage" => self.package(&call["params"][0]),
            _ => Err((-32601, "Method not found".into())),
        }
    }

    fn height_of(&self, hash: BlockHash) -> usize {
        std::iter::successors(Some(hash), |h| self.blocks.get(h).map(|b| b.header.prev_blockhash)).count() - 2
    }

    fn accept(&mut self, hex: &Value) -> Result<Txid, (i64, String)> {
        let tx: Transaction =
            deserialize_hex(hex.as_str().expect("hex")).map_err(|_| (-22, "TX decode failed".to_owned()))?;
        let txid = tx.compute_txid();
        if let Some(refusal) = self.refuse.get(&txid) {
            return Err(refusal.clone());
        }
        if self.accepted.contains(&txid) {
            return Err((-27, "Transaction already in block chain".into()));
        }
        self.accepted.push(txid);
        Ok(txid)
    }

    /// Takes every package, whatever it refuses one by one.
    fn package(&mut self, list: &Value) -> Result<Value, (i64, String)> {
        let txs = list.as_array().expect("a list").iter();
        let txids: Vec<Txid> = txs
            .map(|hex| {
                deserialize_hex::<Transaction>(hex.as_str().expect("hex")).expect("a tx").compute_txid()
            })
            .collect();
        self.accepted.extend(&txids);
        self.packages.push(txids);
        Ok(json!({ "package_msg": "success", "tx-results": {}, "replaced-transactions": [] }))
    }
}
