//! One real `chand`, with its files, its port and its socket.
//!
//! In: the methods of the control socket. Out: their answers; starts, kills and starts it again.
//! Read next: `world`.

use crate::chain::Chain;
use crate::process::Process;
use crate::socket::{CallError, Client};
use crate::wait::{wait_for, PATIENCE};
use crate::{litecoin, ports, programs};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// A node that can be called, killed and started again.
#[derive(Debug)]
pub struct Node {
    name: &'static str,
    dir: PathBuf,
    port: u16,
    chain_url: String,
    extra: Vec<String>,
    /// A program, with its arguments, that is given ours to run; empty: none.
    under: Vec<String>,
    process: Option<Process>,
    id: String,
}

impl Node {
    /// Makes a node below `dir` and starts it.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(name: &'static str, dir: &Path, chain: &Chain, extra: &[&str]) -> Node {
        let mut node = Node::prepare(name, dir, &chain.url(), extra);
        node.launch();
        node
    }

    /// Makes a node below `dir` without starting it.
    ///
    /// # Panics
    /// When its folder cannot be made.
    pub fn prepare(name: &'static str, dir: &Path, chain_url: &str, extra: &[&str]) -> Node {
        let dir = dir.join(name.to_lowercase());
        std::fs::create_dir_all(&dir).expect("a folder for the node");
        Node {
            name,
            dir,
            port: ports::free(),
            chain_url: chain_url.into(),
            extra: extra.iter().map(|s| (*s).to_string()).collect(),
            under: Vec::new(),
            process: None,
            id: String::new(),
        }
    }

    /// Starts its process (again) and waits until its socket answers.
    ///
    /// # Panics
    /// When it runs already, ends at once, or does not answer in time.
    pub fn launch(&mut self) {
        self.spawn();
        let info = wait_for("the node to answer", || {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                panic!("{} ended at its start: {status}", self.name);
            }
            self.try_call("getinfo", json!({})).map_err(|e| e.to_string())
        });
        let id = info["id"].as_str().expect("getinfo.id").to_string();
        assert!(self.id.is_empty() || self.id == id, "{} came back as another node", self.name);
        self.id = id;
    }

    /// Starts its process without waiting for anything.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = self.log_path();
        let mut line = self.under.clone();
        line.push(programs::find("chand").display().to_string());
        line.extend(self.args());
        let program = PathBuf::from(line.remove(0));
        self.process = Some(Process::start(self.name, &program, &line, &self.dir, &log));
    }

    /// The arguments it is started with.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec![
            "--data-dir".into(),
            self.data_dir().display().to_string(),
            "--listen".into(),
            self.address(),
            "--bitcoin-rpc".into(),
            self.chain_url.clone(),
            "--alias".into(),
            self.name.into(),
        ];
        if !self.extra.iter().any(|a| a == "--network") {
            if litecoin::is_wanted() {
                args.extend(litecoin::node_options(&self.extra));
            } else {
                args.extend(["--network".into(), "regtest".into()]);
            }
        }
        args.extend(self.extra.iter().cloned());
        args
    }

    /// From the next start on, runs under another program, which is given chand and its arguments as its last ones and
    /// must keep the process id.
    pub fn run_under(&mut self, program: &[String]) {
        self.under = program.to_vec();
    }

    /// Changes what it is started with next time.
    pub fn set_extra(&mut self, extra: &[&str]) {
        self.extra = extra.iter().map(|s| (*s).to_string()).collect();
    }

    /// Has a shell run `before` in its process first, from the next start on.
    pub fn set_before(&mut self, before: &str) {
        let script = format!("{before}; exec \"$0\" \"$@\"");
        self.under = vec!["/bin/sh".into(), "-c".into(), script];
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.process.take().unwrap_or_else(|| panic!("{} does not run", self.name)).kill_9();
    }

    /// An orderly end through `stop`.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn stop(&mut self) {
        self.call("stop", json!({}));
        let mut process = self.process.take().expect("a running node");
        let status = process.wait_end(PATIENCE);
        assert!(status.success(), "{} stopped with {status}", self.name);
    }

    /// SIGKILL and up again.
    ///
    /// # Panics
    /// As [`Node::kill`] and [`Node::launch`].
    pub fn kill_and_launch(&mut self) {
        self.kill();
        self.launch();
    }

    /// Its process, while it runs.
    ///
    /// # Panics
    /// When it does not.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// Lets go of a process that has ended, so that it can be launched again.
    ///
    /// # Panics
    /// When it still runs.
    pub fn forget_process(&mut self) {
        assert!(self.process().ended().is_some(), "{} still runs", self.name);
        self.process = None;
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its node id in hex.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder of files.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where it logs.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.data_dir()
            .join(if litecoin::is_wanted() { "litecoin-regtest" } else { "regtest" })
            .join("rpc.sock")
    }

    /// Where peers reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port for peers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection of one's own to its control socket.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap_or_else(|e| panic!("the socket of {}: {e}", self.name))
    }

    /// Asks, on a connection for this question alone.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        Client::connect(&self.socket())?.call(method, params)
    }

    /// Asks.
    ///
    /// # Panics
    /// On any error.
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|e| panic!("{method} of {}: {e}", self.name))
    }

    /// Asks what must be refused; the error.
    ///
    /// # Panics
    /// When it was not refused.
    pub fn refusal(&self, method: &str, params: Value) -> CallError {
        match self.try_call(method, params) {
            Err(e @ CallError::Refused { .. }) => e,
            other => panic!("{method} of {} was to be refused: {other:?}", self.name),
        }
    }

    /// Connects it to another.
    ///
    /// # Panics
    /// On any error.
    pub fn connect(&self, peer: &Node) {
        let answer = self.call("connect", json!({ "id": peer.id, "host": "127.0.0.1", "port": peer.port }));
        assert_eq!(answer["id"], peer.id, "{answer}");
    }

    /// The channels with a peer.
    ///
    /// # Panics
    /// On any error.
    pub fn channels(&self, peer: &Node) -> Vec<Value> {
        let answer = self.call("listpeerchannels", json!({ "id": peer.id }));
        answer["channels"].as_array().expect("channels").clone()
    }

    /// The one channel with a peer.
    ///
    /// # Panics
    /// When there is not exactly one.
    pub fn channel(&self, peer: &Node) -> Value {
        let mut channels = self.channels(peer);
        assert_eq!(channels.len(), 1, "{} has one channel with {}", self.name, peer.name);
        channels.remove(0)
    }

    /// Makes an invoice; the BOLT 11 text.
    ///
    /// # Panics
    /// On any error.
    pub fn invoice(&self, amount_msat: u64, label: &str) -> String {
        let answer =
            self.call("invoice", json!({ "amount_msat": amount_msat, "label": label, "description": "tea" }));
        answer["bolt11"].as_str().expect("bolt11").to_string()
    }

    /// Makes a hold invoice for the hash of `preimage`; the BOLT 11 text.
    ///
    /// # Panics
    /// On any error.
    pub fn hold_invoice(&self, amount_msat: u64, label: &str, preimage: &str) -> String {
        let params = json!({
            "payment_hash": crate::hash::sha256(preimage),
            "amount_msat": amount_msat,
            "label": label,
            "description": "held tea",
        });
        self.call("holdinvoice", params)["bolt11"].as_str().expect("bolt11").to_string()
    }

    /// The invoice of a label.
    ///
    /// # Panics
    /// When there is not exactly one.
    pub fn invoice_of(&self, label: &str) -> Value {
        let list = self.call("listinvoices", json!({ "label": label }));
        let list = list["invoices"].as_array().expect("invoices");
        assert_eq!(list.len(), 1, "invoice {label} of {}", self.name);
        list[0].clone()
    }

    /// Waits until it has processed a block height and knows that there are no more blocks to read.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_height(&self, height: u64) {
        wait_for(&format!("{} at height {height}", self.name), || {
            let info = self.call("getinfo", json!({}));
            let warned =
                !info["warning_bitcoind_sync"].is_null() || !info["warning_lightningd_sync"].is_null();
            if info["blockheight"] == height && !warned {
                Ok(())
            } else {
                Err(info.to_string())
            }
        });
    }

    /// A fresh address of its wallet.
    ///
    /// # Panics
    /// On any error.
    pub fn new_address(&self) -> String {
        let answer = self.call("newaddr", json!({}));
        let address = answer["bech32"].as_str().or(answer["p2tr"].as_str());
        address.unwrap_or_else(|| panic!("newaddr: {answer}")).to_string()
    }

    /// The confirmed coins of its wallet, in satoshi.
    ///
    /// # Panics
    /// On any error.
    pub fn wallet_sat(&self) -> u64 {
        let funds = self.call("listfunds", json!({}));
        let outputs = funds["outputs"].as_array().expect("outputs");
        let msat: u64 = outputs
            .iter()
            .filter(|o| o["status"] == "confirmed")
            .map(|o| o["amount_msat"].as_u64().expect("amount_msat"))
            .sum();
        assert_eq!(msat % 1000, 0, "coins are whole satoshi");
        msat / 1000
    }

    /// All it printed since it was made.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }
}
