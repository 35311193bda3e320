//! The chains chand knows, as a table.
//!
//! In: a network's name. Out: its genesis hash and address prefix. Another chain is another row.
//! Read next: `node`.

use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A network that channels can live on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Network {
    Bitcoin,
    Testnet,
    Testnet4,
    Signet,
    Regtest,
}

/// What is particular to a network.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name users and Core Lightning's JSON use.
    pub name: &'static str,
    /// What bitcoind's `getblockchaininfo.chain` says.
    pub bitcoind_name: &'static str,
    /// The human-readable part of its segwit addresses.
    pub hrp: &'static str,
    /// The prefix of its BOLT 11 invoices.
    pub invoice_prefix: &'static str,
    /// The peer port used when none is given.
    pub default_port: u16,
    /// Blocks are made at will: no time-based safety rules.
    pub on_demand: bool,
}

impl Network {
    /// Every network.
    pub const ALL: [Network; 5] =
        [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];

    /// Its row of the table.
    pub const fn row(self) -> Row {
        let (name, bitcoind_name, hrp, invoice_prefix, default_port, on_demand) = match self {
            Network::Bitcoin => ("bitcoin", "main", "bc", "lnbc", 9735, false),
            Network::Testnet => ("testnet", "test", "tb", "lntb", 19735, false),
            Network::Testnet4 => ("testnet4", "testnet4", "tb", "lntb", 49735, false),
            Network::Signet => ("signet", "signet", "tb", "lntbs", 39735, false),
            Network::Regtest => ("regtest", "regtest", "bcrt", "lnbcrt", 9735, true),
        };
        Row { name, bitcoind_name, hrp, invoice_prefix, default_port, on_demand }
    }

    /// The same network as the `bitcoin` crate names it.
    pub const fn bitcoin(self) -> bitcoin::Network {
        match self {
            Network::Bitcoin => bitcoin::Network::Bitcoin,
            Network::Testnet => bitcoin::Network::Testnet,
            Network::Testnet4 => bitcoin::Network::Testnet4,
            Network::Signet => bitcoin::Network::Signet,
            Network::Regtest => bitcoin::Network::Regtest,
        }
    }

    /// The genesis block's hash in internal byte order: `chain_hash` of BOLT 7 and BOLT 2.
    pub fn chain_hash(self) -> [u8; 32] {
        bitcoin::blockdata::constants::ChainHash::using_genesis_block_const(self.bitcoin()).to_bytes()
    }
}

/// The name is of no network chand knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown network: use bitcoin, testnet, testnet4, signet or regtest")]
pub struct UnknownNetwork;

impl FromStr for Network {
    type Err = UnknownNetwork;
    fn from_str(text: &str) -> Result<Network, UnknownNetwork> {
        Network::ALL.into_iter().find(|n| n.row().name == text).ok_or(UnknownNetwork)
    }
}

impl core::fmt::Display for Network {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.row().name)
    }
}
