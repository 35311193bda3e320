//! The crate ldk-node as it ships: SQLite, its own background tasks, its own limits (50 HTLCs a channel).
//!
//! In: a [`Config`]. Out: a running [`Node`].
//! Read next: `engine`, for what the same engine can do.

use crate::node::{public_key, Config, Node};
use crate::pay::Flight;
use ldk_node::bitcoin::Network;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ldk_node::logger::LogLevel;
use ldk_node::{Builder, Event};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::Notify;

struct Shipped {
    node: Arc<ldk_node::Node>,
    stop: Arc<Notify>,
    events: Mutex<Option<JoinHandle<()>>>,
}

/// Starts it.
pub fn start(config: &Config, flight: Arc<Flight>) -> Arc<dyn Node> {
    let mut builder = Builder::new();
    let (host, port) = config.chain.addr.split_once(':').expect("HOST:PORT");
    let (user, password) = (config.chain.user.clone(), config.chain.password.clone());
    builder.set_network(Network::Regtest);
    builder.set_storage_dir_path(config.dir.display().to_string());
    builder.set_entropy_seed_bytes([config.seed; 64]);
    builder.set_chain_source_bitcoind_rpc(host.into(), port.parse().expect("a port"), user, password);
    let listen = SocketAddress::from_str(&format!("127.0.0.1:{}", config.port)).expect("an address");
    builder.set_listening_addresses(vec![listen]).expect("an address");
    builder.set_filesystem_logger(None, Some(LogLevel::Warn));
    let node = Arc::new(builder.build().expect("a node"));
    node.start().expect("a start");

    let stop = Arc::new(Notify::new());
    let (on, until) = (node.clone(), stop.clone());
    let events = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        // An event is put away outside of the runtime, because ldk-node waits within one of its own for that.
        loop {
            let next = async {
                tokio::select! {
                    event = on.next_event_async() => Some(event),
                    _ = until.notified() => None,
                }
            };
            let Some(event) = runtime.block_on(next) else { return };
            take(&flight, event);
            on.event_handled().expect("an event can be put away");
        }
    });
    Arc::new(Shipped { node, stop, events: Mutex::new(Some(events)) })
}

fn take(flight: &Flight, event: Event) {
    match event {
        Event::PaymentSuccessful { payment_hash, .. } => flight.on_sent(payment_hash.0),
        Event::PaymentFailed { payment_hash: Some(hash), .. } => flight.on_failed(hash.0),
        Event::PaymentReceived { .. } => {
            flight.received.fetch_add(1, Ordering::SeqCst);
        }
        _ => {}
    }
}

impl Node for Shipped {
    fn id(&self) -> String {
        self.node.node_id().to_string()
    }

    fn address(&self) -> Option<String> {
        Some(self.node.onchain_payment().new_address().expect("an address").to_string())
    }

    fn sync(&self) {
        self.node.sync_wallets().expect("a synced wallet");
    }

    fn open(&self, id: &str, addr: &str, sat: u64, push_msat: u64) -> Result<(), String> {
        let addr = SocketAddress::from_str(addr).expect("an address");
        let opened = self.node.open_channel(public_key(id), addr, sat, Some(push_msat), None);
        opened.map(|_| ()).map_err(|e| e.to_string())
    }

    fn usable(&self) -> usize {
        self.node.list_channels().iter().filter(|c| c.is_usable).count()
    }

    fn scid(&self, id: &str) -> Option<u64> {
        let all = self.node.list_channels();
        all.iter().find(|c| c.counterparty_node_id == public_key(id))?.short_channel_id
    }

    fn via(&self, _hops: Vec<(String, u64)>) {
        panic!("ldk-node takes no route of its user's");
    }

    fn invoice(&self, amount_msat: u64) -> String {
        let words = Bolt11InvoiceDescription::Direct(Description::new("tea".into()).expect("short"));
        self.node.bolt11_payment().receive(amount_msat, &words, 36_000).expect("an invoice").to_string()
    }

    fn send(&self, invoice: &Bolt11Invoice) -> Result<(), String> {
        // Asked beforehand: an attempt without a free HTLC would be a failed payment with its own records.
        let amount = invoice.amount_milli_satoshis().unwrap_or(0);
        if !self.node.list_channels().iter().any(|c| c.next_outbound_htlc_limit_msat >= amount) {
            return Err("no free HTLC".into());
        }
        self.node.bolt11_payment().send(invoice, None).map(|_| ()).map_err(|e| e.to_string())
    }

    fn stop(&self) {
        self.stop.notify_one();
        if let Some(events) = self.events.lock().unwrap().take() {
            events.join().expect("the event thread");
        }
        self.node.stop().expect("a stop");
    }
}
