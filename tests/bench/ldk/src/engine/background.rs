//! What runs beside LDK's engine: the chain, received HTLCs, events, and writing the manager when it changed.
//!
//! In: the parts of a running engine. Out: three threads that end when told to.
//! The manager is written after the events, as LDK's background processor does. Received HTLCs are looked for every
//! 0.2 ms in a thread of their own (LDK has no signal for them); that thread's CPU time is in the figures.
//! Read next: `engine`.

use super::parts::{ChainMonitor, Manager, PeerManager, Store};
use crate::chain::Chain;
use crate::pay::Flight;
use ldk_node::bitcoin::consensus::encode::deserialize_hex;
use ldk_node::bitcoin::{Address, Block, Network, ScriptBuf, Transaction};
use ldk_node::lightning as ln;
use ln::chain::transaction::OutPoint;
use ln::chain::{BestBlock, Listen};
use ln::events::{Event, EventsProvider};
use ln::util::persist::KVStoreSync;
use ln::util::ser::Writeable;
use ln::util::wakers::Sleeper;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{sleep, spawn as thread, JoinHandle};
use std::time::{Duration, Instant};

const CHAIN_POLL: Duration = Duration::from_millis(200);
const HTLC_POLL: Duration = Duration::from_micros(200);
const WAKE: Duration = Duration::from_millis(100);
const PEER_TICK: Duration = Duration::from_secs(10);
const MANAGER_TICK: Duration = Duration::from_secs(60);

/// What the threads work on.
#[derive(Clone)]
pub struct Running {
    pub manager: Arc<Manager>,
    pub monitor: Arc<ChainMonitor>,
    pub peers: Arc<PeerManager>,
    pub store: Arc<Store>,
    pub chain: Chain,
    pub stop: Arc<AtomicBool>,
    pub flight: Arc<Flight>,
}

/// Starts the threads.
pub fn spawn(running: Running) -> Vec<JoinHandle<()>> {
    let (one, two) = (running.clone(), running.clone());
    vec![
        thread(move || one.follow_chain()),
        thread(move || two.process_htlcs()),
        thread(move || running.handle_events()),
    ]
}

impl Running {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn follow_chain(&self) {
        let mut best = self.manager.current_best_block();
        while !self.stopped() {
            let height = self.chain.height();
            while best.height < height {
                let next = best.height + 1;
                let hash = self.chain.call("getblockhash", json!([next])).expect("a block's hash");
                let hex = self.chain.call("getblock", json!([hash, 0])).expect("a block");
                let block: Block = deserialize_hex(hex.as_str().expect("hex")).expect("a block");
                self.manager.block_connected(&block, next);
                self.monitor.block_connected(&block, next);
                best = BestBlock::new(block.block_hash(), next);
            }
            sleep(CHAIN_POLL);
        }
    }

    fn process_htlcs(&self) {
        while !self.stopped() {
            if self.manager.needs_pending_htlc_processing() {
                self.manager.process_pending_htlc_forwards();
                self.peers.process_events();
            } else {
                sleep(HTLC_POLL);
            }
        }
    }

    fn handle_events(&self) {
        let handler = |event: Event| {
            self.take(event);
            Ok(())
        };
        self.save();
        let (mut peer_tick, mut manager_tick) = (Instant::now(), Instant::now());
        while !self.stopped() {
            self.manager.process_pending_events(&handler);
            self.monitor.process_pending_events(&handler);
            self.peers.process_events();
            let changed = self.manager.get_event_or_persistence_needed_future();
            Sleeper::from_two_futures(&changed, &self.monitor.get_update_future()).wait_timeout(WAKE);
            if self.manager.get_and_clear_needs_persistence() {
                self.save();
            }
            if peer_tick.elapsed() > PEER_TICK {
                self.peers.timer_tick_occurred();
                peer_tick = Instant::now();
            }
            if manager_tick.elapsed() > MANAGER_TICK {
                self.manager.timer_tick_occurred();
                manager_tick = Instant::now();
            }
        }
        self.save();
    }

    fn save(&self) {
        KVStoreSync::write(&*self.store, "", "", "manager", self.manager.encode())
            .expect("the manager is kept");
    }

    fn take(&self, event: Event) {
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } => {
                let funding = self.fund(&output_script, channel_value_satoshis);
                self.manager
                    .unsafe_manual_funding_transaction_generated(
                        temporary_channel_id,
                        counterparty_node_id,
                        funding,
                    )
                    .expect("a funded channel");
            }
            Event::OpenChannelRequest { temporary_channel_id, counterparty_node_id, .. } => {
                self.manager
                    .accept_inbound_channel(&temporary_channel_id, &counterparty_node_id, 1, None)
                    .expect("an accepted channel");
            }
            Event::PaymentClaimable { purpose, .. } => {
                self.manager.claim_funds(purpose.preimage().expect("an invoice of ours"));
            }
            Event::PaymentClaimed { .. } => {
                self.flight.received.fetch_add(1, Ordering::SeqCst);
            }
            Event::PaymentSent { payment_hash, .. } => self.flight.on_sent(payment_hash.0),
            Event::PaymentFailed { payment_hash: Some(hash), .. } => self.flight.on_failed(hash.0),
            _ => {}
        }
    }

    /// Lets the chain's faucet pay the funding output, which on regtest needs no caution about the order.
    fn fund(&self, script: &ScriptBuf, sat: u64) -> OutPoint {
        let address = Address::from_script(script, Network::Regtest).expect("an address").to_string();
        let amount = format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
        let txid = self.chain.call("sendtoaddress", json!([address, amount])).expect("a payment");
        let hex = self.chain.call("getrawtransaction", json!([txid, false])).expect("a transaction");
        let tx: Transaction = deserialize_hex(hex.as_str().expect("hex")).expect("a transaction");
        let index = tx.output.iter().position(|o| &o.script_pubkey == script).expect("the funding output");
        OutPoint { txid: tx.compute_txid(), index: index as u16 }
    }
}
