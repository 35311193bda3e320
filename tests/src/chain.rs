//! The embedded chain, as a process of its own.
//!
//! In: bitcoind's JSON-RPC over HTTP. Out: blocks, coins and transactions.
//! Amounts of transactions are read from their bytes, never from JSON's fractions of a bitcoin.
//! Read next: `node`.

use crate::process::Process;
use crate::socket::CallError;
use crate::wait::{wait_for, PATIENCE};
use crate::{litecoin, ports, programs};
use base64::prelude::{Engine, BASE64_STANDARD};
use bitcoin::{Block, Transaction, Txid};
use serde_json::{json, Value};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const USER: &str = "harness";
pub(crate) const PASSWORD: &str = "only-for-tests";
/// From here on the faucet has coins to give; a fresh chain comes with so many blocks.
const SPENDABLE_FROM: u64 = 101;

/// A running `chand regtest`, or litecoind.
#[derive(Debug)]
pub struct Chain {
    litecoin: bool,
    dir: PathBuf,
    port: u16,
    /// Options of litecoind's beside the usual ones.
    extra: Vec<String>,
    process: Option<Process>,
}

impl Chain {
    /// Starts a fresh chain below `dir`; its faucet has coins from the start.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(dir: &Path) -> Chain {
        Chain::start_with(dir, &["-txindex=1"])
    }

    /// The same; litecoind, if it is that, with these options, too.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with(dir: &Path, extra: &[&str]) -> Chain {
        let dir = dir.join("chain");
        std::fs::create_dir_all(&dir).expect("a folder for the chain");
        let extra = extra.iter().map(|s| (*s).to_string()).collect();
        let litecoin = litecoin::is_wanted();
        let mut chain = Chain { litecoin, dir, port: ports::free(), extra, process: None };
        if chain.litecoin {
            litecoin::prepare(&chain.dir);
        }
        chain.launch();
        assert!(chain.height() >= SPENDABLE_FROM, "a fresh chain has coins to give");
        chain
    }

    /// One of litecoind's that is not started yet, with its files in `dir`.
    pub(crate) fn of_litecoind(dir: &Path) -> Chain {
        let extra = vec!["-txindex=1".into()];
        Chain { litecoin: true, dir: dir.into(), port: ports::free(), extra, process: None }
    }

    /// Whether it is litecoind's.
    pub fn is_litecoin(&self) -> bool {
        self.litecoin
    }

    /// Whether its process has ended by itself; it can be launched again then.
    ///
    /// # Panics
    /// When it was not started.
    pub fn ended(&mut self) -> bool {
        let ended = self.process.as_mut().expect("a process").ended().is_some();
        if ended {
            self.process = None;
        }
        ended
    }

    /// Ends it and starts it again with other options, if it is litecoind.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn relaunch_with(&mut self, extra: &[&str]) {
        self.kill();
        self.extra = extra.iter().map(|s| (*s).to_string()).collect();
        self.launch();
    }

    /// Starts its process (again), on the same port and files.
    ///
    /// # Panics
    /// When it runs already, or does not answer in time.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the chain runs already");
        self.process = Some(if self.litecoin {
            litecoin::launch(&self.dir, self.port, &self.extra)
        } else {
            self.start_own()
        });
        wait_for("the chain to answer", || {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                panic!("the chain ended at its start: {status}");
            }
            self.try_call("getblockcount", json!([])).map_err(|e| e.to_string())
        });
    }

    fn start_own(&self) -> Process {
        let args = [
            "regtest",
            "--listen",
            &format!("127.0.0.1:{}", self.port),
            "--data-dir",
            &self.dir.join("data").display().to_string(),
            "--user",
            USER,
            "--password",
            PASSWORD,
        ]
        .map(String::from);
        let log = self.dir.join("log");
        Process::start("the chain", &programs::find("chand"), &args, &self.dir, &log)
    }

    /// SIGKILL; litecoind, which writes its newest blocks late, is stopped in good order.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        if self.litecoin {
            self.call("stop", json!([]));
            return wait_for("litecoind to end", || {
                self.ended().then_some(()).ok_or_else(|| "it runs".to_string())
            });
        }
        self.process.take().expect("a running chain").kill_9();
    }

    /// SIGKILL, and up again: its blocks are kept, its mempool is not.
    ///
    /// # Panics
    /// As [`Chain::kill`] and [`Chain::launch`].
    pub fn forget_mempool(&mut self) {
        self.kill();
        self.launch();
        assert_eq!(self.mempool(), Vec::<String>::new());
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where nodes find it, with user and password.
    pub fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    /// The same through another port that leads there.
    pub fn url_through(&self, port: u16) -> String {
        format!("http://{USER}:{PASSWORD}@127.0.0.1:{port}")
    }

    /// The same with another password.
    pub fn url_with(&self, password: &str) -> String {
        format!("http://{USER}:{password}@127.0.0.1:{}", self.port)
    }

    /// Asks.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let body = json!({ "jsonrpc": "1.0", "id": 1, "method": method, "params": params }).to_string();
        let answer = post(self.port, &body)?;
        let mut answer: Value =
            serde_json::from_str(&answer).map_err(|e| CallError::Lost(format!("{e}: {answer}")))?;
        match answer.get("error") {
            None | Some(Value::Null) => Ok(answer["result"].take()),
            Some(error) => Err(CallError::from_json(error)),
        }
    }

    /// Asks.
    ///
    /// # Panics
    /// On any error.
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|e| panic!("the chain's {method}: {e}"))
    }

    /// Mines blocks with what the mempool holds; returns the new height.
    ///
    /// # Panics
    /// On any error.
    pub fn mine(&self, blocks: u64) -> u64 {
        let address = self.call("getnewaddress", json!([]));
        self.call("generatetoaddress", json!([blocks, address]));
        self.height()
    }

    /// Another miner's block, without anything that waits in the mempool; returns the new height.
    ///
    /// # Panics
    /// On any error.
    pub fn mine_empty(&self) -> u64 {
        let address = self.call("getnewaddress", json!([]));
        self.call("generateblock", json!([address, []]));
        self.height()
    }

    /// Sets the least that the mempool takes from now on, in satoshi for 1,000 virtual bytes; what is in it stays.
    ///
    /// # Panics
    /// On any error.
    pub fn set_floor(&self, sat_per_kvb: u64) {
        // As in `send`.
        let bitcoins = sat_per_kvb as f64 / 1e8;
        self.call("setmempoolminfee", json!([bitcoins]));
    }

    /// Its height.
    ///
    /// # Panics
    /// On any error.
    pub fn height(&self) -> u64 {
        self.call("getblockcount", json!([])).as_u64().expect("a height")
    }

    /// Sends coins of the faucet to an address, unconfirmed.
    ///
    /// # Panics
    /// On any error.
    pub fn send(&self, address: &str, sat: u64) -> Txid {
        // A double holds eight decimals exactly enough up to 90 million bitcoin.
        let bitcoins = sat as f64 / 1e8;
        let txid = self.call("sendtoaddress", json!([address, bitcoins]));
        parse(txid.as_str().expect("a txid"))
    }

    /// The ids of what waits to be mined.
    ///
    /// # Panics
    /// On any error.
    pub fn mempool(&self) -> Vec<String> {
        let list = self.call("getrawmempool", json!([]));
        list.as_array().expect("a list").iter().filter_map(|id| id.as_str().map(String::from)).collect()
    }

    /// A transaction, mined or waiting.
    ///
    /// # Panics
    /// When there is none.
    pub fn transaction(&self, txid: &str) -> Transaction {
        let hex = self.call("getrawtransaction", json!([txid, false]));
        bitcoin::consensus::encode::deserialize_hex(hex.as_str().expect("hex")).expect("a transaction")
    }

    /// A transaction, if it is mined or waiting: what waits may be replaced at any moment.
    ///
    /// # Panics
    /// When the answer is no transaction.
    pub fn find(&self, txid: &str) -> Option<Transaction> {
        let hex = self.try_call("getrawtransaction", json!([txid, false])).ok()?;
        Some(bitcoin::consensus::encode::deserialize_hex(hex.as_str().expect("hex")).expect("a transaction"))
    }

    /// The block at a height.
    ///
    /// # Panics
    /// When there is none.
    pub fn block(&self, height: u64) -> Block {
        let hash = self.call("getblockhash", json!([height]));
        if self.litecoin {
            return self.litecoins_block(&hash);
        }
        let hex = self.call("getblock", json!([hash, 0]));
        bitcoin::consensus::encode::deserialize_hex(hex.as_str().expect("hex")).expect("a block")
    }

    /// Without the transaction that ties it to its extension block, which has a form of its own.
    fn litecoins_block(&self, hash: &Value) -> Block {
        use bitcoin::consensus::encode::deserialize_hex;
        let header = self.call("getblockheader", json!([hash, false]));
        let list = self.call("getblock", json!([hash, 1]))["tx"].take();
        let ids = list.as_array().expect("a list").iter();
        let hex = ids.map(|id| self.call("getrawtransaction", json!([id, false])));
        Block {
            header: deserialize_hex(header.as_str().expect("hex")).expect("a header"),
            txdata: hex.filter_map(|hex| deserialize_hex(hex.as_str()?).ok()).collect(),
        }
    }

    /// Takes the block at `height`, and all above it, off the best chain.
    ///
    /// # Panics
    /// On any error.
    pub fn undo(&self, height: u64) {
        let hash = self.call("getblockhash", json!([height]));
        self.call("invalidateblock", json!([hash]));
        assert_eq!(self.height(), height - 1);
    }

    /// What a transaction pays in fees, in satoshi.
    ///
    /// # Panics
    /// When it or one that it spends from is not there.
    pub fn fee(&self, tx: &Transaction) -> u64 {
        let spent: u64 = tx
            .input
            .iter()
            .map(|input| {
                let from = self.transaction(&input.previous_output.txid.to_string());
                let index = usize::try_from(input.previous_output.vout).expect("an index");
                from.output[index].value.to_sat()
            })
            .sum();
        spent - tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>()
    }
}

fn parse(txid: &str) -> Txid {
    txid.parse().unwrap_or_else(|e| panic!("{txid}: {e}"))
}

/// One HTTP POST with basic authentication; the body of the answer.
fn post(port: u16, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let login = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {login}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if !body.is_empty() && !head.contains("chunked") => Ok(body.to_string()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer: {answer:?}"))),
    }
}
