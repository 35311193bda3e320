//! A real `chand watchtower`, with its files and its port.
//!
//! In: a folder, a chain. Out: a process that a node can name with `--watchtower`, to be killed and started again.
//! Read next: `node`, then `tests/process/tower.rs`.

use crate::chain::Chain;
use crate::node::Node;
use crate::process::Process;
use crate::wait::wait_for;
use crate::{ports, programs};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

/// A watchtower.
#[derive(Debug)]
pub struct Tower {
    dir: PathBuf,
    port: u16,
    chain_url: String,
    process: Option<Process>,
    address: String,
    extra: Vec<String>,
}

impl Tower {
    /// Makes one below `dir` and starts it.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(dir: &Path, chain: &Chain) -> Tower {
        Tower::start_with(dir, chain, &[])
    }

    /// The same, with options of one's own.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with(dir: &Path, chain: &Chain, extra: &[&str]) -> Tower {
        let dir = dir.join("tower");
        std::fs::create_dir_all(&dir).expect("a folder for the tower");
        let chain_url = chain.url();
        let extra = extra.iter().map(ToString::to_string).collect();
        let (port, address) = (ports::free(), String::new());
        let mut tower = Tower { dir, port, chain_url, process: None, address, extra };
        tower.launch();
        tower
    }

    /// Starts its process (again) and waits until it says who it is.
    ///
    /// # Panics
    /// When it runs already, ends at once, or is another one than before.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the tower runs already");
        let said = self.log().len();
        let args = [
            "watchtower",
            "--data-dir",
            &self.data_dir().display().to_string(),
            "--listen",
            &format!("127.0.0.1:{}", self.port),
            "--bitcoin-rpc",
            &self.chain_url,
        ];
        let args: Vec<String> =
            args.into_iter().map(String::from).chain(self.extra.iter().cloned()).collect();
        let (program, log) = (programs::find("chand"), self.dir.join("log"));
        self.process = Some(Process::start("the tower", &program, &args, &self.dir, &log));
        let address = wait_for("the tower to say who it is", || {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                panic!("the tower ended at its start: {status}");
            }
            let log = self.log();
            let words = log.get(said..).unwrap_or_default().split_whitespace();
            let address = words.skip_while(|word| *word != "--watchtower").nth(1);
            address.map(ToString::to_string).ok_or(log)
        });
        assert!(self.address.is_empty() || self.address == address, "it came back as {address}");
        self.address = address;
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("a running tower").kill_9();
    }

    /// What a node calls it by: `ID@HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its folder of files.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The files of its clients' channels.
    ///
    /// # Panics
    /// When the folder cannot be read.
    pub fn files(&self) -> Vec<PathBuf> {
        let list = |dir: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(dir).expect("a folder");
            entries.map(|entry| entry.expect("an entry").path()).collect()
        };
        let clients = list(&self.data_dir().join("regtest").join("clients"));
        let files = clients.iter().flat_map(|client| list(client));
        files.filter(|file| file.extension().is_none()).collect()
    }

    /// All it printed since it was made.
    pub fn log(&self) -> String {
        std::fs::read(self.dir.join("log"))
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// How a node stands with its one tower.
    ///
    /// # Panics
    /// When it has not exactly one.
    pub fn status(node: &Node) -> Value {
        let list = node.call("listwatchtowers", json!({}));
        let list = list["watchtowers"].as_array().expect("watchtowers");
        assert_eq!(list.len(), 1, "{list:?}");
        list[0].clone()
    }

    /// Waits until the tower of a node has every revoked state; the status then.
    ///
    /// # Panics
    /// When it does not get them.
    pub fn wait_told(node: &Node) -> Value {
        wait_for(&format!("the tower of {} to have all states", node.name()), || {
            let status = Tower::status(node);
            if status["connected"] == true && status["states_pending"] == 0 {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }
}
