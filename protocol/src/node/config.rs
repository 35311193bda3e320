//! What a node is told once, at its start.
//!
//! In: the daemon's options. Out: limits and wishes that every decision reads. Read next: `node`.

use crate::chain::Network;
use crate::node::announce::GossipConfig;
use bitcoin::ScriptBuf;

/// The node's settings.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Which chain.
    pub network: Network,
    /// For people.
    pub alias: String,
    /// For people.
    pub color: [u8; 3],
    /// What a forward costs, msat.
    pub fee_base_msat: u32,
    /// What a forward costs, parts per million.
    pub fee_ppm: u32,
    /// Blocks between the expiries of a forward's two HTLCs.
    pub cltv_delta_blocks: u16,
    /// Blocks an invoice asks for between payment and expiry.
    pub cltv_final_blocks: u32,
    /// The CSV delay we impose, in blocks.
    pub to_self_delay_blocks: u16,
    /// How deep a funding must be.
    pub funding_confirms: u32,
    /// In flight towards us, percent of a channel.
    pub max_in_flight_percent: u8,
    /// Announce option_simple_close.
    pub simple_close: bool,
    /// Where money goes at a close when nothing else is said: a script of the wallet.
    pub close_script: ScriptBuf,
    /// `dev-…` commands are allowed.
    pub dev: bool,
    /// The records are an old copy, or may be one: every open channel is in doubt from now on.
    pub restored: bool,
    /// Deadlines of HTLCs close no channel (`--dev-no-htlc-timeout`).
    pub no_htlc_timeout: bool,
    /// Take part in gossip; without it nobody is told of our channels, and none of others are heard of.
    pub gossip: Option<GossipConfig>,
    /// Watchtowers are configured: each commitment of a peer is noted for them.
    pub tower: bool,
    /// Give a new backup of the channels out with each that comes or goes.
    pub backup: bool,
}

use alloc::string::String;

impl NodeConfig {
    /// What most users want, with money going to `close_script` at a close.
    pub fn new(network: Network, alias: &str, close_script: ScriptBuf) -> NodeConfig {
        let on_demand = network.row().on_demand;
        NodeConfig {
            network,
            alias: alias.into(),
            color: [0x3b, 0x7d, 0xd8],
            fee_base_msat: 1_000,
            fee_ppm: 10,
            cltv_delta_blocks: 34,
            cltv_final_blocks: 18,
            to_self_delay_blocks: if on_demand { 6 } else { 144 },
            funding_confirms: if on_demand { 1 } else { 3 },
            max_in_flight_percent: 100,
            simple_close: false,
            close_script,
            dev: false,
            restored: false,
            no_htlc_timeout: false,
            gossip: None,
            tower: false,
            backup: false,
        }
    }

    /// Blocks before an HTLC's expiry in which no secret may be waiting any more: from then on a settled HTLC closes a
    /// channel whose peer does not remove it, and a held one goes back. Two thirds of what invoices ask for.
    #[must_use]
    pub fn claim_margin_blocks(&self) -> u32 {
        (self.cltv_final_blocks * 2 / 3).max(3)
    }
}
