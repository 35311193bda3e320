//! Who runs: the chain and up to four nodes, each a process of its own.
//!
//! In: this program's own executable. Out: processes that can be asked, killed and started again; all of them end
//! with the tour.
//! Read next: `story`.

use super::line::{self, CallError};
use super::{wait_for, DemoError, PATIENCE};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::{Child, Command};

const USER: &str = "demo";
/// What each of them asks for a payment that goes on: 0.001 BTC, and a day between two expiries.
const TERMS: [&str; 6] = ["--fee-base", "100000000", "--fee-per-satoshi", "0", "--cltv-delta", "144"];
/// Lines of a log that are shown when the tour broke off.
const TAIL_LINES: usize = 15;

/// Where a node can be asked; cheap to hand to many payers.
#[derive(Clone, Debug)]
pub struct Line {
    /// Whose.
    pub name: &'static str,
    socket: Arc<Path>,
}

impl Line {
    /// Asks.
    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        line::node(&self.socket, method, &params).await
    }

    /// Asks; an error is the end of the tour.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, DemoError> {
        let failed = |why| DemoError::Call { who: self.name.into(), method: method.into(), why };
        self.try_call(method, params).await.map_err(failed)
    }
}

/// One node on stage.
#[derive(Debug)]
pub struct Actor {
    /// Alice, Bob, Carol or Dave.
    pub name: &'static str,
    /// Its node id, once it said so.
    pub id: String,
    /// Where it listens for peers.
    pub port: u16,
    /// Started with `--dev` from now on.
    pub dev: bool,
    home: PathBuf,
    child: Option<Child>,
}

impl Actor {
    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.data_dir().join("regtest").join("rpc.sock")
    }

    fn data_dir(&self) -> PathBuf {
        self.home.join(self.name.to_lowercase())
    }

    /// Where it can be asked.
    pub fn line(&self) -> Line {
        Line { name: self.name, socket: self.socket().into() }
    }

    /// Asks; an error is the end of the tour.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, DemoError> {
        self.line().call(method, params).await
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// SIGKILL; returns once it is gone.
    pub async fn kill_9(&mut self) -> Result<(), DemoError> {
        if let Some(mut child) = self.child.take() {
            let failed = |why| DemoError::Io { what: format!("kill {}", self.name), why };
            child.kill().await.map_err(failed)?;
        }
        Ok(())
    }
}

/// All that runs.
#[derive(Debug)]
pub struct Stage {
    home: PathBuf,
    chain: Option<Child>,
    chain_port: u16,
    password: String,
    /// The first of the two of most chapters.
    pub alice: Actor,
    /// The second.
    pub bob: Actor,
    /// Bob's neighbour; she and the next come on stage late.
    pub carol: Actor,
    /// Carol's neighbour.
    pub dave: Actor,
}

impl Stage {
    /// Nobody runs yet; all of them will keep their files in this folder.
    pub fn new(home: PathBuf) -> Stage {
        let actor =
            |name| Actor { name, id: String::new(), port: 0, dev: false, home: home.clone(), child: None };
        let [alice, bob, carol, dave] = ["Alice", "Bob", "Carol", "Dave"].map(actor);
        Stage { chain: None, chain_port: 0, password: String::new(), alice, bob, carol, dave, home }
    }

    /// Starts the chain.
    pub async fn start_chain(&mut self) -> Result<(), DemoError> {
        self.chain_port = free_port()?;
        self.password = random_hex()?;
        let args = [
            "regtest".to_string(),
            "--listen".into(),
            format!("127.0.0.1:{}", self.chain_port),
            "--data-dir".into(),
            self.home.join("chain").display().to_string(),
            "--user".into(),
            USER.into(),
            "--password".into(),
            self.password.clone(),
        ];
        self.chain = Some(spawn(&args, &self.home, "chain")?);
        let stage = &*self;
        let answers =
            || async { stage.try_chain("getblockcount", json!([])).await.map_err(|e| e.to_string()) };
        wait_for("the chain to answer", answers).await?;
        Ok(())
    }

    /// Starts a node, or starts it again after it was killed.
    pub async fn start(&mut self, who: Who) -> Result<(), DemoError> {
        let url = format!("http://{USER}:{}@127.0.0.1:{}", self.password, self.chain_port);
        let home = self.home.clone();
        let actor = self.actor(who);
        if actor.port == 0 {
            actor.port = free_port()?;
        }
        let mut args = vec![
            "--data-dir".to_string(),
            actor.data_dir().display().to_string(),
            "--network".into(),
            "regtest".into(),
            "--listen".into(),
            format!("127.0.0.1:{}", actor.port),
            "--bitcoin-rpc".into(),
            url,
            "--alias".into(),
            actor.name.into(),
        ];
        args.extend(TERMS.map(String::from));
        if actor.dev {
            args.push("--dev".into());
        }
        actor.child = Some(spawn(&args, &home, &actor.name.to_lowercase())?);
        let line = actor.line();
        let answers = || async { line.try_call("getinfo", json!({})).await.map_err(|e| e.to_string()) };
        let info = wait_for(&format!("{} to answer", actor.name), answers).await?;
        actor.id = text(&info, "id")?;
        Ok(())
    }

    /// Ends a node in good order.
    pub async fn stop(&mut self, who: Who) -> Result<(), DemoError> {
        let actor = self.actor(who);
        actor.call("stop", json!({})).await?;
        if let Some(mut child) = actor.child.take() {
            let failed = |why| DemoError::Io { what: format!("the end of {}", actor.name), why };
            child.wait().await.map_err(failed)?;
        }
        Ok(())
    }

    /// Where one of them can be asked.
    pub fn line(&self, who: Who) -> Line {
        self.node(who).line()
    }

    /// All four, in order.
    pub fn nodes(&self) -> [&Actor; 4] {
        [&self.alice, &self.bob, &self.carol, &self.dave]
    }

    /// One of them.
    pub fn node(&self, who: Who) -> &Actor {
        match who {
            Who::Alice => &self.alice,
            Who::Bob => &self.bob,
            Who::Carol => &self.carol,
            Who::Dave => &self.dave,
        }
    }

    /// One of them, to be killed.
    pub fn actor(&mut self, who: Who) -> &mut Actor {
        match who {
            Who::Alice => &mut self.alice,
            Who::Bob => &mut self.bob,
            Who::Carol => &mut self.carol,
            Who::Dave => &mut self.dave,
        }
    }

    async fn try_chain(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let login = format!("{USER}:{}", self.password);
        line::chain(self.chain_port, &login, method, &params).await
    }

    /// Asks the chain; an error is the end of the tour.
    pub async fn chain(&self, method: &str, params: Value) -> Result<Value, DemoError> {
        let failed = |why| DemoError::Call { who: "the chain".into(), method: method.into(), why };
        self.try_chain(method, params).await.map_err(failed)
    }

    /// Mines blocks and waits until the nodes that run know them; the height.
    pub async fn mine(&self, blocks: u64) -> Result<u64, DemoError> {
        let address = self.chain("getnewaddress", json!([])).await?;
        self.chain("generatetoaddress", json!([blocks, address])).await?;
        let height = self.height().await?;
        for actor in self.nodes().into_iter().filter(|a| a.child.is_some()) {
            let line = actor.line();
            let there = || async {
                let info = line.try_call("getinfo", json!({})).await.map_err(|e| e.to_string())?;
                let warned =
                    ["warning_bitcoind_sync", "warning_lightningd_sync"].iter().any(|w| !info[w].is_null());
                if info["blockheight"] == height && !warned {
                    Ok(())
                } else {
                    Err(info["blockheight"].to_string())
                }
            };
            wait_for(&format!("{} at height {height}", actor.name), there).await?;
        }
        Ok(height)
    }

    /// How many blocks there are.
    pub async fn height(&self) -> Result<u64, DemoError> {
        number(&json!({ "height": self.chain("getblockcount", json!([])).await? }), "height")
    }

    /// A transaction, mined or waiting.
    pub async fn transaction(&self, txid: &str) -> Result<bitcoin::Transaction, DemoError> {
        let hex = self.chain("getrawtransaction", json!([txid, false])).await?;
        let hex = hex.as_str().unwrap_or_default();
        bitcoin::consensus::encode::deserialize_hex(hex).map_err(|e| DemoError::Odd(format!("{txid}: {e}")))
    }

    /// The same, once the chain has it: a node answers before it has offered what it publishes.
    pub async fn published(&self, txid: &str) -> Result<bitcoin::Transaction, DemoError> {
        let there = || async { self.transaction(txid).await.map_err(|e| e.to_string()) };
        wait_for(&format!("transaction {txid} at the chain"), there).await
    }

    /// What a transaction pays in fees, in satoshi: all that goes in less all that comes out.
    pub async fn fee_sat(&self, tx: &bitcoin::Transaction) -> Result<u64, DemoError> {
        let mut spent = 0_u64;
        for input in &tx.input {
            let from = self.transaction(&input.previous_output.txid.to_string()).await?;
            let index = usize::try_from(input.previous_output.vout).unwrap_or(usize::MAX);
            let output =
                from.output.get(index).ok_or_else(|| DemoError::Odd("an input without output".into()))?;
            spent = spent.saturating_add(output.value.to_sat());
        }
        let paid: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        spent.checked_sub(paid).ok_or_else(|| DemoError::Odd("a transaction that makes money".into()))
    }

    /// Where everything is that runs, for people.
    pub fn addresses(&self) -> Vec<(String, String)> {
        let url = format!("http://{USER}:{}@127.0.0.1:{}", self.password, self.chain_port);
        let mut all = Vec::new();
        for actor in self.nodes().into_iter().filter(|a| a.child.is_some()) {
            all.push((actor.name.to_string(), actor.data_dir().display().to_string()));
            all.push((format!("{}'s socket", actor.name), actor.socket().display().to_string()));
        }
        all.push(("the chain".into(), url));
        all
    }

    /// The last lines that each of them printed.
    pub fn log_tails(&self) -> Vec<(&'static str, String)> {
        let tail = |name: &'static str| {
            let bytes = std::fs::read(self.home.join(format!("{name}.log"))).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(TAIL_LINES);
            (name, lines.get(from..).unwrap_or_default().join("\n"))
        };
        ["chain", "alice", "bob", "carol", "dave"].map(tail).into()
    }

    /// Ends all of them: nodes in good order, the chain last.
    pub async fn end(&mut self) {
        for actor in [&mut self.alice, &mut self.bob, &mut self.carol, &mut self.dave] {
            let Some(mut child) = actor.child.take() else { continue };
            let line = Line {
                name: actor.name,
                socket: actor.home.join(actor.name.to_lowercase()).join("regtest/rpc.sock").into(),
            };
            let asked = line.try_call("stop", json!({})).await.is_ok();
            if !asked || tokio::time::timeout(PATIENCE / 6, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
        if let Some(mut chain) = self.chain.take() {
            let _ = chain.kill().await;
        }
    }
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The first.
    Alice,
    /// The second.
    Bob,
    /// The third.
    Carol,
    /// The last.
    Dave,
}

impl Who {
    /// The other of the two of most chapters.
    pub const fn other(self) -> Who {
        match self {
            Who::Alice => Who::Bob,
            _ => Who::Alice,
        }
    }
}

/// Starts this program again with other arguments; what it prints goes to a file.
fn spawn(args: &[String], home: &Path, name: &str) -> Result<Child, DemoError> {
    let start = || -> std::io::Result<Child> {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(home.join(format!("{name}.log")))?;
        let mut command = Command::new(std::env::current_exe()?);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("CHAND_") {
                command.env_remove(key);
            }
        }
        command
            .args(args)
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for us; we end them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    };
    start().map_err(|why| DemoError::Io { what: format!("start {name}"), why })
}

fn free_port() -> Result<u16, DemoError> {
    let port = || std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr();
    Ok(port().map_err(|why| DemoError::Io { what: "a free port".into(), why })?.port())
}

/// 32 random bytes in hex.
pub fn random_hex() -> Result<String, DemoError> {
    use std::io::Read;
    let mut bytes = [0; 32];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|why| DemoError::Io { what: "random bytes".into(), why })?;
    Ok(chand_protocol::id::to_hex(&bytes))
}

/// A field that must be a string.
pub fn text(of: &Value, field: &str) -> Result<String, DemoError> {
    let missing = || DemoError::Odd(format!("{field} is missing in {of}"));
    of[field].as_str().map(String::from).ok_or_else(missing)
}

/// A field that must be a number.
pub fn number(of: &Value, field: &str) -> Result<u64, DemoError> {
    of[field].as_u64().ok_or_else(|| DemoError::Odd(format!("{field} is missing in {of}")))
}

/// A field that must be a list.
pub fn list<'a>(of: &'a Value, field: &str) -> Result<&'a Vec<Value>, DemoError> {
    of[field].as_array().ok_or_else(|| DemoError::Odd(format!("{field} is missing in {of}")))
}
