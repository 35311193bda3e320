//! LDK's engine at its best: the crate `lightning` put together by hand for this benchmark.
//!
//! In: a [`Config`]. Out: a running [`Node`]. Over several hops its payments take a route that it is told, without a search: that
//! favours it. What it has and `ldk-node` has not: the store is one log with group commit,
//! a channel takes 483 HTLCs, TCP_NODELAY is set, received HTLCs are processed at once (LDK's own background processor
//! waits about 50 ms, for privacy), and there is no payment, event or wallet database.
//! Read next: `background` (its loop), `store`, `node`.

mod background;
mod parts;
mod way;

use crate::node::{public_key, Config, Node};
use crate::pay::Flight;
use crate::store::LogStore;
use ldk_node::bitcoin::hashes::Hash;
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::bitcoin::{BlockHash, Network};
use ldk_node::lightning as ln;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ln::chain::{BestBlock, Watch};
use ln::ln::channelmanager::{
    Bolt11InvoiceParameters, ChainParameters, ChannelManagerReadArgs, PaymentId, RecipientOnionFields, Retry,
};
use ln::ln::peer_handler::{IgnoringMessageHandler, MessageHandler};
use ln::onion_message::messenger::DefaultMessageRouter;
use ln::routing::gossip::P2PGossipSync;
use ln::routing::router::{DefaultRouter, RouteParametersConfig};
use ln::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use ln::sign::{EntropySource, KeysManager, NodeSigner, Recipient};
use ln::types::payment::PaymentHash;
use ln::util::config::{MaxDustHTLCExposure, UserConfig};
use ln::util::persist::KVStoreSync;
use ln::util::ser::ReadableArgs;
use parts::{Broadcaster, ChainMonitor, Fees, Graph, Log, Manager, PeerManager, Persister, Store};
use serde_json::json;
use std::net::{TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// Channel updates between two writes of a whole monitor.
const UPDATES_PER_MONITOR: u64 = 100;
/// As many HTLCs as the protocol allows.
const MAX_HTLCS: u16 = 483;

struct Engine {
    manager: Arc<Manager>,
    peers: Arc<PeerManager>,
    keys: Arc<KeysManager>,
    runtime: Mutex<Option<Runtime>>,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    config: Config,
    user_config: UserConfig,
    way: Mutex<Vec<(PublicKey, u64)>>,
}

fn user_config() -> UserConfig {
    let mut config = UserConfig::default();
    config.channel_handshake_config.our_max_accepted_htlcs = MAX_HTLCS;
    config.channel_handshake_config.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
    config.channel_handshake_config.negotiate_anchors_zero_fee_htlc_tx = true;
    config.channel_handshake_config.minimum_depth = 1;
    config.manually_accept_inbound_channels = true;
    config.accept_forwards_to_priv_channels = true;
    config.channel_config.max_dust_htlc_exposure = MaxDustHTLCExposure::FixedLimitMsat(1_000_000_000);
    config
}

fn tip(config: &Config) -> BestBlock {
    let hash = config.chain.call("getbestblockhash", json!([])).expect("a tip");
    let header = config.chain.call("getblockheader", json!([hash])).expect("a header");
    let height = header["height"].as_u64().expect("a height") as u32;
    BestBlock::new(BlockHash::from_str(hash.as_str().expect("a hash")).expect("a hash"), height)
}

/// Starts it, from what its log holds.
pub fn start(config: &Config, flight: Arc<Flight>) -> Arc<dyn Node> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let (log, fees) = (Arc::new(Log), Arc::new(Fees));
    let keys = Arc::new(KeysManager::new(&[config.seed; 32], now.as_secs(), now.subsec_nanos(), true));
    let broadcaster = Arc::new(Broadcaster(config.chain.clone()));
    let store: Arc<Store> = Arc::new(LogStore::open(&config.dir));
    let persister = Arc::new(Persister::new(
        store.clone(),
        log.clone(),
        UPDATES_PER_MONITOR,
        keys.clone(),
        keys.clone(),
        broadcaster.clone(),
        fees.clone(),
    ));
    let monitors = persister.read_all_channel_monitors_with_updates().expect("monitors");
    let monitor = Arc::new(ChainMonitor::new(
        None,
        broadcaster.clone(),
        log.clone(),
        fees.clone(),
        persister,
        keys.clone(),
        keys.get_peer_storage_key(),
    ));
    let graph = Arc::new(Graph::new(Network::Regtest, log.clone()));
    let decay = ProbabilisticScoringDecayParameters::default();
    let scorer = Arc::new(RwLock::new(ProbabilisticScorer::new(decay, graph.clone(), log.clone())));
    let costs = ProbabilisticScoringFeeParameters::default();
    let router = Arc::new(DefaultRouter::new(graph.clone(), log.clone(), keys.clone(), scorer, costs));
    let messages = Arc::new(DefaultMessageRouter::new(graph.clone(), keys.clone()));
    let user_config = user_config();
    let manager: Arc<Manager> = match KVStoreSync::read(&*store, "", "", "manager") {
        Ok(bytes) => {
            let args = ChannelManagerReadArgs::new(
                keys.clone(),
                keys.clone(),
                keys.clone(),
                fees.clone(),
                monitor.clone(),
                broadcaster.clone(),
                router,
                messages,
                log.clone(),
                user_config.clone(),
                monitors.iter().map(|(_, m)| m).collect(),
            );
            Arc::new(<(BlockHash, Manager)>::read(&mut &bytes[..], args).expect("the manager").1)
        }
        Err(_) => Arc::new(Manager::new(
            fees,
            monitor.clone(),
            broadcaster,
            router,
            messages,
            log.clone(),
            keys.clone(),
            keys.clone(),
            keys.clone(),
            user_config.clone(),
            ChainParameters { network: Network::Regtest, best_block: tip(config) },
            now.as_secs() as u32,
        )),
    };
    for (_, one) in monitors {
        monitor.watch_channel(one.channel_id(), one).expect("a monitor");
    }
    let handlers = MessageHandler {
        chan_handler: manager.clone(),
        route_handler: Arc::new(P2PGossipSync::new(graph, None, log.clone())),
        onion_message_handler: IgnoringMessageHandler {},
        custom_message_handler: IgnoringMessageHandler {},
        send_only_message_handler: monitor.clone(),
    };
    let entropy = keys.get_secure_random_bytes();
    let peers = Arc::new(PeerManager::new(handlers, now.as_secs() as u32, &entropy, log, keys.clone()));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    listen(&runtime, config.port, peers.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let running = background::Running {
        manager: manager.clone(),
        monitor,
        peers: peers.clone(),
        store,
        chain: config.chain.clone(),
        stop: stop.clone(),
        flight,
    };
    Arc::new(Engine {
        manager,
        peers,
        keys,
        runtime: Mutex::new(Some(runtime)),
        stop,
        threads: Mutex::new(background::spawn(running)),
        config: config.clone(),
        user_config,
        way: Mutex::new(Vec::new()),
    })
}

fn listen(runtime: &Runtime, port: u16, peers: Arc<PeerManager>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        while let Ok((stream, _)) = listener.accept().await {
            let stream = stream.into_std().expect("a socket");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            tokio::spawn(lightning_net_tokio::setup_inbound(peers.clone(), stream));
        }
    });
}

impl Engine {
    fn connect(&self, id: PublicKey, addr: &str) -> Result<(), String> {
        let stream = TcpStream::connect(addr).map_err(|e| e.to_string())?;
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let peers = self.peers.clone();
        let runtime = self.runtime.lock().unwrap();
        runtime.as_ref().expect("a running node").spawn(async move {
            lightning_net_tokio::setup_outbound(peers, id, stream).await;
        });
        let since = Instant::now();
        while self.peers.peer_by_node_id(&id).is_none() {
            if since.elapsed() > Duration::from_secs(10) {
                return Err(format!("no link to {addr}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Node for Engine {
    fn id(&self) -> String {
        self.keys.get_node_id(Recipient::Node).expect("an id").to_string()
    }

    fn address(&self) -> Option<String> {
        // The faucet pays its funding transaction.
        None
    }

    fn sync(&self) {
        let height = self.config.chain.height();
        while self.manager.current_best_block().height < height {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn open(&self, id: &str, addr: &str, sat: u64, push_msat: u64) -> Result<(), String> {
        let id = public_key(id);
        self.connect(id, addr)?;
        let opened = self.manager.create_channel(id, sat, push_msat, 1, None, Some(self.user_config.clone()));
        opened.map(|_| ()).map_err(|e| format!("{e:?}"))
    }

    fn usable(&self) -> usize {
        self.manager.list_channels().iter().filter(|c| c.is_usable).count()
    }

    fn scid(&self, id: &str) -> Option<u64> {
        let all = self.manager.list_channels();
        all.iter().find(|c| c.counterparty.node_id == public_key(id) && c.is_usable)?.short_channel_id
    }

    fn via(&self, hops: Vec<(String, u64)>) {
        *self.way.lock().unwrap() = hops.iter().map(|(id, scid)| (public_key(id), *scid)).collect();
    }

    fn invoice(&self, amount_msat: u64) -> String {
        let words = Description::new("tea".into()).expect("short");
        let parameters = Bolt11InvoiceParameters {
            amount_msats: Some(amount_msat),
            description: Bolt11InvoiceDescription::Direct(words),
            invoice_expiry_delta_secs: Some(36_000),
            ..Default::default()
        };
        self.manager.create_bolt11_invoice(parameters).expect("an invoice").to_string()
    }

    fn send(&self, invoice: &Bolt11Invoice) -> Result<(), String> {
        let amount = invoice.amount_milli_satoshis().unwrap_or(0);
        if !self.manager.list_channels().iter().any(|c| c.next_outbound_htlc_limit_msat >= amount) {
            return Err("no free HTLC".into());
        }
        let id = PaymentId(invoice.payment_hash().to_byte_array());
        let way = self.way.lock().unwrap().clone();
        if way.is_empty() {
            let limits = RouteParametersConfig::default();
            self.manager
                .pay_for_bolt11_invoice(invoice, id, None, limits, Retry::Attempts(0))
                .map_err(|e| format!("{e:?}"))?;
        } else {
            let secret = RecipientOnionFields::secret_only(*invoice.payment_secret());
            let hash = PaymentHash(invoice.payment_hash().to_byte_array());
            let route = way::route(&way, amount, invoice.min_final_cltv_expiry_delta());
            self.manager.send_payment_with_route(route, hash, secret, id).map_err(|e| format!("{e:?}"))?;
        }
        self.peers.process_events();
        Ok(())
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.peers.disconnect_all_peers();
        for thread in self.threads.lock().unwrap().drain(..) {
            thread.join().expect("a thread of the engine");
        }
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}
