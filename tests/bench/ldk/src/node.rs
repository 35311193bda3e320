//! What a node can be told, whichever of the two it is.
//!
//! In: a command as JSON (`c` names it). Out: its answer as JSON.
//! Read next: `pay`, `engine`, `shipped`.

use crate::chain::Chain;
use crate::pay::{pay, Flight};
use crate::{engine, shipped};
use ldk_node::lightning_invoice::Bolt11Invoice;
use serde_json::{json, Value};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// What a node is started with.
#[derive(Clone)]
pub struct Config {
    pub shipped: bool,
    pub dir: PathBuf,
    pub port: u16,
    pub seed: u8,
    pub chain: Chain,
}

/// A running node.
pub trait Node: Send + Sync {
    /// Its id in hex.
    fn id(&self) -> String;
    /// Where it wants coins for a channel beforehand, if it does.
    fn address(&self) -> Option<String>;
    /// Waits until it knows the tip.
    fn sync(&self);
    /// Opens a private channel.
    fn open(&self, id: &str, addr: &str, sat: u64, push_msat: u64) -> Result<(), String>;
    /// Usable channels.
    fn usable(&self) -> usize;
    /// The short channel id of the usable channel with a node.
    fn scid(&self, id: &str) -> Option<u64>;
    /// Every later payment goes this way: each node on it, with the channel that leads there. Only the engine can.
    fn via(&self, hops: Vec<(String, u64)>);
    /// Makes an invoice.
    fn invoice(&self, amount_msat: u64) -> String;
    /// Begins to pay one; how it ended comes to the [`Flight`].
    fn send(&self, invoice: &Bolt11Invoice) -> Result<(), String>;
    /// Ends it in order.
    fn stop(&self);
}

/// The node of this process.
pub struct Host {
    config: Config,
    node: Option<Arc<dyn Node>>,
    flight: Arc<Flight>,
}

impl Host {
    /// Nothing runs yet.
    pub fn new(config: Config) -> Host {
        Host { config, node: None, flight: Arc::new(Flight::default()) }
    }

    fn node(&self) -> &Arc<dyn Node> {
        self.node.as_ref().expect("start comes first")
    }

    /// Does what it is told.
    pub fn command(&mut self, command: &Value) -> Value {
        let number = |field: &str| command[field].as_u64().unwrap_or_else(|| panic!("{field} in {command}"));
        let text = |field: &str| command[field].as_str().unwrap_or_else(|| panic!("{field} in {command}"));
        match text("c") {
            "start" => {
                let node = match self.config.shipped {
                    true => shipped::start(&self.config, self.flight.clone()),
                    false => engine::start(&self.config, self.flight.clone()),
                };
                let id = node.id();
                self.node = Some(node);
                json!({ "id": id, "addr": format!("127.0.0.1:{}", self.config.port) })
            }
            "address" => json!(self.node().address()),
            "sync" => {
                self.node().sync();
                json!(true)
            }
            "open" => {
                json!(self.node().open(text("id"), text("addr"), number("sat"), number("push_msat")).err())
            }
            "usable" => json!(self.node().usable()),
            "scid" => json!(self.node().scid(text("id"))),
            "via" => {
                let hops = command["hops"].as_array().expect("hops").iter();
                let hop = |h: &Value| {
                    (h["id"].as_str().expect("an id").to_string(), h["scid"].as_u64().expect("a channel"))
                };
                self.node().via(hops.map(hop).collect());
                json!(true)
            }
            "invoices" => {
                let invoices: Vec<String> =
                    (0..number("n")).map(|_| self.node().invoice(number("amount_msat"))).collect();
                json!(invoices)
            }
            "pay" => {
                let texts = command["invoices"].as_array().expect("invoices");
                let texts = texts.iter().map(|t| t.as_str().expect("an invoice").to_string()).collect();
                pay(self.node(), &self.flight, texts, number("in_flight") as usize)
            }
            "received" => json!(self.flight.received.load(Ordering::SeqCst)),
            "stop" => {
                if let Some(node) = self.node.take() {
                    node.stop();
                }
                json!(true)
            }
            other => panic!("no command is called {other}"),
        }
    }
}

/// Reads an id.
pub fn public_key(hex: &str) -> ldk_node::bitcoin::secp256k1::PublicKey {
    ldk_node::bitcoin::secp256k1::PublicKey::from_str(hex).expect("a node id")
}
