//! What the program is started with.
//!
//! In: arguments. Out: an ldk-node that runs, with LDK's own defaults in all that is not named here.
//! Read next: `command`.

use ldk_node::bitcoin::Network;
use ldk_node::config::{AnchorChannelsConfig, Config};
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::logger::LogLevel;
use ldk_node::{Builder, Node};
use std::str::FromStr;
use std::sync::Arc;

/// How to call it.
pub const USAGE: &str = "usage: ldk-peer --rpc HOST:PORT --user USER --password PASSWORD --storage DIR \
                         --listen HOST:PORT --seed BYTE [--no-anchors]";

/// Where the chain is, where to listen, where to keep things.
#[derive(Debug, Default)]
pub struct Options {
    rpc: String,
    user: String,
    password: String,
    storage: String,
    listen: String,
    seed: Option<u8>,
    no_anchors: bool,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut o = Options::default();
        while let Some(flag) = args.next() {
            if flag == "--no-anchors" {
                o.no_anchors = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
            match flag.as_str() {
                "--rpc" => o.rpc = value,
                "--user" => o.user = value,
                "--password" => o.password = value,
                "--storage" => o.storage = value,
                "--listen" => o.listen = value,
                "--seed" => o.seed = Some(value.parse().map_err(|e| format!("--seed: {e}"))?),
                _ => return Err(format!("{flag} is unknown\n{USAGE}")),
            }
        }
        Ok(o)
    }

    /// Makes the node and starts it.
    ///
    /// # Errors
    /// In words, when LDK does not start.
    pub fn start(self) -> Result<Arc<Node>, String> {
        let (host, port) = self.rpc.rsplit_once(':').ok_or("--rpc wants HOST:PORT")?;
        let port: u16 = port.parse().map_err(|e| format!("--rpc: {e}"))?;
        let seed = self.seed.ok_or(USAGE)?;
        let anchors = (!self.no_anchors).then(AnchorChannelsConfig::default);
        let mut builder =
            Builder::from_config(Config { anchor_channels_config: anchors, ..Config::default() });
        builder.set_network(Network::Regtest);
        builder.set_filesystem_logger(Some(format!("{}/ldk.log", self.storage)), Some(LogLevel::Trace));
        builder.set_storage_dir_path(self.storage);
        builder.set_chain_source_bitcoind_rpc(host.into(), port, self.user, self.password);
        builder.set_gossip_source_p2p();
        builder.set_entropy_seed_bytes([seed; 64]);
        let listen = SocketAddress::from_str(&self.listen).map_err(|e| format!("--listen: {e:?}"))?;
        builder.set_listening_addresses(vec![listen]).map_err(|e| e.to_string())?;
        // Without an alias and an address LDK refuses to open a public channel.
        builder.set_node_alias("LDK".into()).map_err(|e| e.to_string())?;
        let node = Arc::new(builder.build().map_err(|e| e.to_string())?);
        node.start().map_err(|e| e.to_string())?;
        Ok(node)
    }
}
