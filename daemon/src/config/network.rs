//! The networks, and what is customary on each.
//!
//! In: a name. Out: a row of the table.
//! Read next: `options`.

use chand_protocol::chain::{Coin, Network};

/// One network.
#[derive(Debug, PartialEq, Eq)]
pub struct NetworkInfo {
    /// As `--network` and the data dir spell it.
    pub name: &'static str,
    /// Its row in the protocol's table.
    pub network: Network,
    /// Where its node's RPC listens when nobody said otherwise.
    pub rpc_port: u16,
    /// The folder that its node keeps in the home directory.
    pub node_home: &'static str,
    /// The node's folder for it, below that.
    pub node_dir: &'static str,
    /// Default of `--to-self-delay`, in blocks.
    pub to_self_delay_blocks: u16,
    /// Default of `--funding-confirms`, in blocks.
    pub funding_confirms: u32,
    /// Default and least of `--cltv-delta`, in blocks.
    pub cltv_delta_blocks: u16,
    /// Default and least of `--cltv-final`, in blocks.
    pub cltv_final_blocks: u16,
}

impl NetworkInfo {
    /// True where blocks are made at will and nothing has a value.
    pub fn is_regtest(&self) -> bool {
        self.network.is_regtest()
    }

    /// The program that keeps this chain.
    pub fn node_program(&self) -> &'static str {
        match self.network.row().coin {
            Coin::Bitcoin => "bitcoind",
            Coin::Litecoin => "litecoind",
        }
    }
}

/// Every network that chand knows; the first is the default.
pub static NETWORKS: [NetworkInfo; 8] = [
    row(Network::Regtest, 18_443, "regtest"),
    row(Network::Testnet, 18_332, "testnet3"),
    row(Network::Testnet4, 48_332, "testnet4"),
    row(Network::Signet, 38_332, "signet"),
    row(Network::Bitcoin, 8_332, ""),
    row(Network::LitecoinRegtest, 19_443, "regtest"),
    row(Network::LitecoinTestnet, 19_332, "testnet4"),
    row(Network::Litecoin, 9_332, ""),
];

/// The same hours on every coin: four blocks of Litecoin's take the time of one of Bitcoin's.
const fn row(network: Network, rpc_port: u16, node_dir: &'static str) -> NetworkInfo {
    let facts = network.row();
    let (node_home, times) = match facts.coin {
        Coin::Bitcoin => (".bitcoin", 1),
        Coin::Litecoin => (".litecoin", 4),
    };
    let (to_self_delay_blocks, funding_confirms) =
        if facts.on_demand { (6, 1) } else { (144 * times, 3 * times as u32) };
    NetworkInfo {
        name: facts.name,
        network,
        rpc_port,
        node_home,
        node_dir,
        to_self_delay_blocks,
        funding_confirms,
        cltv_delta_blocks: 34 * times,
        cltv_final_blocks: 18 * times,
    }
}

/// The row of a name.
///
/// # Errors
/// In words, with the names that there are.
pub fn find(name: &str) -> Result<&'static NetworkInfo, String> {
    NETWORKS.iter().find(|n| n.name == name).ok_or_else(|| {
        let names: Vec<&str> = NETWORKS.iter().map(|n| n.name).collect();
        let hint = match name {
            "mainnet" | "main" => " (the main network is called bitcoin)",
            _ => "",
        };
        format!("there is no network \"{name}\"{hint}: one of {}", names.join(", "))
    })
}
