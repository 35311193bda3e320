//! The parts that LDK's engine wants from its user, as small as they can be.
//!
//! In: nothing. Out: types with their parameters filled in, a fixed feerate, a broadcaster, a log of errors.
//! Read next: `engine`.

use crate::chain::Chain;
use ldk_node::bitcoin::consensus::encode::serialize_hex;
use ldk_node::bitcoin::Transaction;
use ldk_node::lightning as ln;
use ln::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use ln::chain::{chainmonitor, Filter};
use ln::ln::channelmanager::SimpleArcChannelManager;
use ln::ln::peer_handler::IgnoringMessageHandler;
use ln::routing::gossip::{NetworkGraph, P2PGossipSync};
use ln::routing::utxo::UtxoLookup;
use ln::sign::{InMemorySigner, KeysManager};
use ln::util::logger::{Level, Logger, Record};
use ln::util::persist::{KVStoreSync, MonitorUpdatingPersister};
use serde_json::json;
use std::sync::Arc;

/// The lowest feerate that is relayed, in sat per 1000 weight units.
const FLOOR: u32 = 253;
/// Above this a peer's feerate is refused.
const CEILING: u32 = 5_000;

pub struct Log;

impl Logger for Log {
    fn log(&self, record: Record) {
        if record.level >= Level::Error {
            eprintln!("{} {}", record.level, record.args);
        }
    }
}

pub struct Fees;

impl FeeEstimator for Fees {
    fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
        match target {
            ConfirmationTarget::MaximumFeeEstimate => CEILING,
            _ => FLOOR,
        }
    }
}

pub struct Broadcaster(pub Chain);

impl BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        for transaction in transactions {
            if let Err(error) = self.0.call("sendrawtransaction", json!([serialize_hex(*transaction)])) {
                eprintln!("a transaction was refused: {error}");
            }
        }
    }
}

pub type Store = dyn KVStoreSync + Send + Sync;
pub type Persister = MonitorUpdatingPersister<
    Arc<Store>,
    Arc<Log>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Broadcaster>,
    Arc<Fees>,
>;
pub type ChainMonitor = chainmonitor::ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<Broadcaster>,
    Arc<Fees>,
    Arc<Log>,
    Arc<Persister>,
    Arc<KeysManager>,
>;
pub type Manager = SimpleArcChannelManager<ChainMonitor, Broadcaster, Fees, Log>;
pub type Graph = NetworkGraph<Arc<Log>>;
pub type Gossip = P2PGossipSync<Arc<Graph>, Arc<dyn UtxoLookup + Send + Sync>, Arc<Log>>;
pub type PeerManager = ln::ln::peer_handler::PeerManager<
    lightning_net_tokio::SocketDescriptor,
    Arc<Manager>,
    Arc<Gossip>,
    IgnoringMessageHandler,
    Arc<Log>,
    IgnoringMessageHandler,
    Arc<KeysManager>,
    Arc<ChainMonitor>,
>;
