//! The networks, and what is customary on each.
//!
//! In: a name. Out: a row of the table.
//! Read next: `options`.

use bitcoin::Network;

/// One network.
#[derive(Debug, PartialEq, Eq)]
pub struct NetworkInfo {
    /// As `--network` and the data dir spell it.
    pub name: &'static str,
    /// For addresses and keys.
    pub bitcoin: Network,
    /// Where bitcoind's RPC listens when nobody said otherwise.
    pub rpc_port: u16,
    /// bitcoind's folder for it, below its data dir.
    pub bitcoind_dir: &'static str,
    /// Default of `--to-self-delay`, in blocks.
    pub to_self_delay_blocks: u16,
    /// Default of `--funding-confirms`, in blocks.
    pub funding_confirms: u32,
}

impl NetworkInfo {
    /// True where blocks are made at will and nothing has a value.
    pub fn is_regtest(&self) -> bool {
        self.bitcoin == Network::Regtest
    }
}

/// Every network that chand knows; the first is the default.
pub static NETWORKS: [NetworkInfo; 5] = [
    row("regtest", Network::Regtest, 18_443, "regtest"),
    row("testnet", Network::Testnet, 18_332, "testnet3"),
    row("testnet4", Network::Testnet4, 48_332, "testnet4"),
    row("signet", Network::Signet, 38_332, "signet"),
    row("bitcoin", Network::Bitcoin, 8_332, ""),
];

const fn row(name: &'static str, bitcoin: Network, rpc_port: u16, bitcoind_dir: &'static str) -> NetworkInfo {
    let (to_self_delay_blocks, funding_confirms) =
        if matches!(bitcoin, Network::Regtest) { (6, 1) } else { (144, 3) };
    NetworkInfo { name, bitcoin, rpc_port, bitcoind_dir, to_self_delay_blocks, funding_confirms }
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
