//! LDK, as a process of its own: the program of `tests/interop/peer`.
//!
//! In: its commands, one a line. Out: their answers, and the events that came, in the order of their coming.
//! It is started, killed and started again like a node of ours; its log is shown when a test failed.
//! Read next: `pair`.

use chand_tests::books::msat;
use chand_tests::wait::{wait_for, PATIENCE};
use chand_tests::{ports, Chain};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

/// How much of LDK's log is shown when a test failed.
const TAIL_LINES: usize = 40;
/// LDK logs whole messages: so much of a line is shown.
const TAIL_WIDTH: usize = 240;
/// What a reading thread collects.
#[derive(Debug, Default)]
struct Inbox {
    replies: BTreeMap<String, Value>,
    events: Vec<Value>,
    /// There will be no more: the process ended.
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    news: Condvar,
}

#[derive(Debug)]
struct Input {
    pipe: ChildStdin,
    lines: u64,
}

#[derive(Debug)]
struct Running {
    child: Child,
    input: Mutex<Input>,
    shared: Arc<Shared>,
}

/// One LDK node.
#[derive(Debug)]
pub struct Ldk {
    dir: PathBuf,
    port: u16,
    args: Vec<String>,
    running: Option<Running>,
    /// Events of processes that ended.
    past: Vec<Value>,
    id: String,
}

fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    // target/release/deps/interop-0123abcd → target
    let target = test.ancestors().nth(3).expect("a test lies in target/PROFILE/deps");
    let program = target.join("interop/release/ldk-peer");
    assert!(program.is_file(), "{} is not there: `tests/run.sh interop-build` makes it", program.display());
    program
}

fn read_lines(out: ChildStdout, shared: &Shared) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("LDK said {line}: {e}"));
        let mut inbox = shared.inbox.lock().expect("the inbox");
        match value["tag"].as_str().map(String::from) {
            Some(tag) => drop(inbox.replies.insert(tag, value)),
            None => inbox.events.push(value),
        }
        shared.news.notify_all();
    }
    shared.inbox.lock().expect("the inbox").ended = true;
    shared.news.notify_all();
}

impl Ldk {
    /// Makes a node below `dir` and starts it.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(dir: &Path, chain: &Chain, seed: u8, extra: &[&str]) -> Ldk {
        let dir = dir.join(format!("ldk-{seed}"));
        std::fs::create_dir_all(&dir).expect("a folder for LDK");
        let port = ports::free();
        let url = chain.url();
        let (login, rpc) = url.trim_start_matches("http://").split_once('@').expect("user@host");
        let (user, password) = login.split_once(':').expect("user:password");
        let (listen, storage) = (format!("127.0.0.1:{port}"), dir.display().to_string());
        let seed = seed.to_string();
        let mut args: Vec<&str> = vec!["--rpc", rpc, "--user", user, "--password", password];
        args.extend(["--storage", &storage, "--listen", &listen, "--seed", &seed]);
        args.extend(extra);
        let args = args.into_iter().map(String::from).collect();
        let mut ldk = Ldk { dir, port, args, running: None, past: Vec::new(), id: String::new() };
        ldk.launch();
        ldk
    }

    /// Starts its process (again).
    ///
    /// # Panics
    /// When it runs already, or does not come up.
    pub fn launch(&mut self) {
        assert!(self.running.is_none(), "LDK runs already");
        let stderr = File::create(self.dir.join("stderr")).expect("a file for its errors");
        let mut child = Command::new(program())
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("LDK starts");
        let pipe = child.stdin.take().expect("its input");
        let stdout = child.stdout.take().expect("its output");
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        std::thread::spawn(move || read_lines(stdout, &theirs));
        self.running = Some(Running { child, input: Mutex::new(Input { pipe, lines: 0 }), shared });
        let begun = self.past.len();
        let first = wait_for("LDK to start", || {
            let events = self.events();
            events.get(begun).cloned().ok_or_else(|| "no event".to_string())
        });
        assert_eq!(first["event"], "started", "{first}");
        let id = first["node_id"].as_str().expect("node_id").to_string();
        assert!(self.id.is_empty() || self.id == id, "LDK came back as another node");
        self.id = id;
    }

    fn put_away(&mut self) -> Running {
        let past = self.events();
        self.past = past;
        self.running.take().expect("LDK runs")
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut running = self.put_away();
        assert_eq!(running.child.try_wait().expect("its state"), None, "LDK had ended by itself");
        running.child.kill().expect("SIGKILL");
        running.child.wait().expect("its end");
    }

    /// An orderly end in the middle of whatever it does: its input closes.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let Running { mut child, input, shared } = self.put_away();
        let said = shared.inbox.lock().expect("the inbox").events.len();
        drop(input);
        let status = wait_for("LDK to stop", || {
            child.try_wait().expect("its state").ok_or_else(|| "it still runs".to_string())
        });
        assert!(status.success(), "LDK stopped with {status}");
        wait_for("LDK's last words", || {
            let inbox = shared.inbox.lock().expect("the inbox");
            if !inbox.ended {
                return Err("its output is open".to_string());
            }
            self.past.extend_from_slice(&inbox.events[said..]);
            Ok(())
        });
    }

    /// Its node id in hex.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its port for peers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks.
    ///
    /// # Errors
    /// What it says against it.
    ///
    /// # Panics
    /// When it ended or does not answer.
    pub fn try_call(&self, line: &str) -> Result<Value, String> {
        let running = self.running.as_ref().expect("LDK runs");
        let tag = {
            let mut input = running.input.lock().expect("its input");
            input.lines += 1;
            let tag = input.lines.to_string();
            writeln!(input.pipe, "{tag} {line}").unwrap_or_else(|e| panic!("LDK does not listen: {e}"));
            tag
        };
        let inbox = running.shared.inbox.lock().expect("the inbox");
        let silent = |inbox: &mut Inbox| !inbox.replies.contains_key(&tag) && !inbox.ended;
        let (mut inbox, _) =
            running.shared.news.wait_timeout_while(inbox, PATIENCE, silent).expect("the inbox");
        let reply = inbox.replies.remove(&tag).unwrap_or_else(|| panic!("LDK did not answer {line}"));
        drop(inbox);
        if reply["ok"] == true {
            Ok(reply)
        } else {
            Err(reply["error"].as_str().unwrap_or_default().to_string())
        }
    }

    /// Asks.
    ///
    /// # Panics
    /// On any error.
    pub fn call(&self, line: &str) -> Value {
        self.try_call(line).unwrap_or_else(|e| panic!("LDK's {line}: {e}"))
    }

    /// All events so far, those of earlier processes first.
    pub fn events(&self) -> Vec<Value> {
        let mut all = self.past.clone();
        if let Some(running) = &self.running {
            all.extend(running.shared.inbox.lock().expect("the inbox").events.iter().cloned());
        }
        all
    }

    /// Waits for an event of that name for this payment; it may have come before.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_payment(&self, name: &str, payment_hash: &str) -> Value {
        wait_for(&format!("LDK's {name} of {payment_hash}"), || {
            let mut all = self.events();
            all.retain(|e| e["payment_hash"] == payment_hash);
            all.iter().find(|e| e["event"] == name).cloned().ok_or_else(|| format!("{all:?}"))
        })
    }

    /// How an outgoing payment ended: its event, `payment-successful` or `payment-failed`.
    ///
    /// # Panics
    /// When it does not end.
    pub fn outcome(&self, payment_hash: &str) -> Value {
        wait_for(&format!("the end of LDK's payment {payment_hash}"), || {
            let ends = ["payment-successful", "payment-failed"];
            let mut all = self.events();
            all.retain(|e| e["payment_hash"] == payment_hash);
            let end = all.iter().find(|e| ends.iter().any(|name| e["event"] == *name));
            end.cloned().ok_or_else(|| format!("{all:?}"))
        })
    }

    /// Where its coins are to be sent.
    ///
    /// # Panics
    /// On any error.
    pub fn new_address(&self) -> String {
        self.call("address")["address"].as_str().expect("an address").to_string()
    }

    /// Its coins on chain, in satoshi.
    ///
    /// # Panics
    /// On any error.
    pub fn wallet_sat(&self) -> u64 {
        msat(&self.call("balance"), "onchain_sat")
    }

    /// Waits until it has read the chain to this height.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_height(&self, height: u64) {
        self.call("sync");
        wait_for(&format!("LDK at height {height}"), || match self.call("status") {
            status if status["height"] == height => Ok(()),
            status => Err(status.to_string()),
        });
    }

    /// Begins to pay; an error when it does not even try.
    ///
    /// # Errors
    /// What it says against it.
    pub fn pay(&self, bolt11: &str) -> Result<(), String> {
        self.try_call(&format!("pay {bolt11}")).map(drop)
    }

    /// Makes an invoice: its text and hash.
    ///
    /// # Panics
    /// On any error.
    pub fn invoice(&self, amount_msat: u64) -> (String, String) {
        text_and_hash(&self.call(&format!("invoice {amount_msat}")))
    }

    /// Makes an invoice on the hash of a preimage that it is not told.
    ///
    /// # Panics
    /// On any error.
    pub fn hold_invoice(&self, amount_msat: u64, preimage: &str) -> (String, String) {
        text_and_hash(&self.call(&format!("hold-invoice {amount_msat} {preimage}")))
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.join("ldk.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The fields of an invoice made by LDK.
pub fn text_and_hash(made: &Value) -> (String, String) {
    let field = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{name} in {made}")).to_string();
    (field("bolt11"), field("payment_hash"))
}

impl Drop for Ldk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<String> = log.lines().map(|l| l.chars().take(TAIL_WIDTH).collect()).collect();
            let from = lines.len().saturating_sub(TAIL_LINES);
            eprintln!(
                "---- {}: the last lines of LDK's log\n{}",
                self.dir.display(),
                lines[from..].join("\n")
            );
        }
        if let Some(running) = &mut self.running {
            // It may have ended already; then there is nothing to kill.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
